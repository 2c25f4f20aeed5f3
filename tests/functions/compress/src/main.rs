//! Packs standard input as gzip, or unpacks it again. The result depends on the input and the level alone: the
//! frame carries no time and no name, so two runs can be compared byte by byte.

mod gzip;

use std::io::{Read, Write};
use std::process::ExitCode;

const USAGE: &str = "\
usage: compress [--level N] < data > data.gz
       compress --unpack < data.gz > data
  Packs standard input as gzip, or unpacks and checks it.
  --level N  1 (fast) to 9 (small) (6)
  --unpack   the other way round
";

const INPUT_BYTES_MAX: usize = 512 << 20;
/// A gzip of some kilobytes can unpack to gigabytes.
const OUTPUT_BYTES_MAX: usize = 1 << 30;

enum Action {
    Pack { level: u8 },
    Unpack,
    Help,
}

enum Failure {
    Usage(String),
    Input(String),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(reason)) => {
            eprint!("compress: {reason}\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Failure::Input(reason)) => {
            eprintln!("compress: {reason}");
            ExitCode::from(1)
        }
    }
}

fn run() -> Result<(), Failure> {
    let output = match parse_action(std::env::args().skip(1))? {
        Action::Help => USAGE.as_bytes().to_vec(),
        Action::Pack { level } => {
            let input = read_input()?;
            let packed = gzip::pack(&input, level);
            eprintln!("compress: {} bytes to {} bytes", input.len(), packed.len());
            packed
        }
        Action::Unpack => {
            let input = read_input()?;
            gzip::unpack(&input, OUTPUT_BYTES_MAX).map_err(|error| Failure::Input(error.to_string()))?
        }
    };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&output).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::Input(format!("standard output cannot be written: {error}")))
}

fn parse_action(mut args: impl Iterator<Item = String>) -> Result<Action, Failure> {
    let mut action = Action::Pack { level: 6 };
    while let Some(arg) = args.next() {
        action = match arg.as_str() {
            "--help" => return Ok(Action::Help),
            "--unpack" => Action::Unpack,
            "--level" => {
                let value = args.next().ok_or_else(|| Failure::Usage("--level wants a value".into()))?;
                let level = value.parse().ok().filter(|level| (1..=9).contains(level));
                let reason = || Failure::Usage(format!("--level wants a number from 1 to 9, not \"{value}\""));
                Action::Pack { level: level.ok_or_else(reason)? }
            }
            other => return Err(Failure::Usage(format!("\"{other}\" is not an option"))),
        };
    }
    Ok(action)
}

fn read_input() -> Result<Vec<u8>, Failure> {
    let mut input = Vec::new();
    let limit = INPUT_BYTES_MAX as u64 + 1;
    let read = std::io::stdin().lock().take(limit).read_to_end(&mut input);
    read.map_err(|error| Failure::Input(format!("standard input cannot be read: {error}")))?;
    if input.len() > INPUT_BYTES_MAX {
        return Err(Failure::Input(format!("the input is longer than {INPUT_BYTES_MAX} bytes")));
    }
    Ok(input)
}
