//! Takes personal data out of a text: e-mail addresses, telephone numbers, payment cards, IBANs, IP addresses and
//! US social security numbers become tokens such as `[EMAIL-1]`, the same value always the same token.
//! Owns the command line and the substitution; what counts as personal data is in `find`.

mod find;

use find::{Kind, find_at};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::ExitCode;

const USAGE: &str = "\
usage: redact [--only KIND[,KIND...]] [--mask] [--report] < text > clean text
  Replaces personal data in a text on standard input by tokens.
  --only KIND  email, phone, card, iban, ip, ssn (all)
  --mask       the same token for every value: [EMAIL]
  --report     write counts as JSON instead of the text
";

const INPUT_BYTES_MAX: usize = 512 << 20;

struct Options {
    kinds: Vec<Kind>,
    mask: bool,
    report: bool,
}

enum Failure {
    Usage(String),
    Input(String),
}

fn main() -> ExitCode {
    let failure = match run() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    match failure {
        Failure::Usage(reason) => {
            eprint!("redact: {reason}\n{USAGE}");
            ExitCode::from(2)
        }
        Failure::Input(reason) => {
            eprintln!("redact: {reason}");
            ExitCode::from(1)
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let output_failed = |error| Failure::Input(format!("standard output cannot be written: {error}"));
    let Some(options) = parse_options(std::env::args().skip(1))? else {
        return stdout.write_all(USAGE.as_bytes()).map_err(output_failed);
    };
    let text = read_input()?;
    let redacted = redact(&text, &options);
    if options.report {
        stdout.write_all(redacted.report().as_bytes()).map_err(output_failed)?;
    } else {
        stdout.write_all(&redacted.text).map_err(output_failed)?;
        eprint!("redact: {}", redacted.report());
    }
    stdout.flush().map_err(output_failed)
}

/// None when the user asks for help.
fn parse_options(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, Failure> {
    let mut options = Options { kinds: Kind::ALL.to_vec(), mask: false, report: false };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" => return Ok(None),
            "--mask" => options.mask = true,
            "--report" => options.report = true,
            "--only" => {
                let names = args.next().ok_or_else(|| Failure::Usage("--only wants a value".into()))?;
                options.kinds = names.split(',').map(parse_kind).collect::<Result<_, _>>()?;
            }
            other => return Err(Failure::Usage(format!("\"{other}\" is not an option"))),
        }
    }
    Ok(Some(options))
}

fn parse_kind(name: &str) -> Result<Kind, Failure> {
    let known = Kind::ALL.iter().find(|kind| kind.name() == name);
    known.copied().ok_or_else(|| Failure::Usage(format!("\"{name}\" is not a kind of personal data")))
}

/// Bytes, not a string: a text in another encoding passes through, since everything sought is ASCII.
fn read_input() -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let limit = INPUT_BYTES_MAX as u64 + 1;
    let read = std::io::stdin().lock().take(limit).read_to_end(&mut text);
    read.map_err(|error| Failure::Input(format!("standard input cannot be read: {error}")))?;
    if text.len() > INPUT_BYTES_MAX {
        return Err(Failure::Input(format!("the input is longer than {INPUT_BYTES_MAX} bytes")));
    }
    if let Some(at) = text.iter().position(|byte| *byte == 0) {
        return Err(Failure::Input(format!("the input has a zero byte at offset {at}: it is not a text")));
    }
    Ok(text)
}

struct Redacted {
    text: Vec<u8>,
    bytes_in: usize,
    found: BTreeMap<Kind, Found>,
}

#[derive(Default)]
struct Found {
    occurrences: usize,
    /// Normalised value to its number, counted from 1 in order of appearance.
    numbers: BTreeMap<Vec<u8>, usize>,
}

fn redact(text: &[u8], options: &Options) -> Redacted {
    let mut found: BTreeMap<Kind, Found> = options.kinds.iter().map(|kind| (*kind, Found::default())).collect();
    let mut clean = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let Some(finding) = find_at(text, at, &options.kinds) else {
            clean.push(text[at]);
            at += 1;
            continue;
        };
        let entry = found.entry(finding.kind).or_default();
        entry.occurrences += 1;
        let next = entry.numbers.len() + 1;
        let number = *entry.numbers.entry(finding.value).or_insert(next);
        let label = finding.kind.name().to_ascii_uppercase();
        let token = if options.mask { format!("[{label}]") } else { format!("[{label}-{number}]") };
        clean.extend_from_slice(token.as_bytes());
        at += finding.len;
    }
    Redacted { text: clean, bytes_in: text.len(), found }
}

impl Redacted {
    fn report(&self) -> String {
        let mut json = format!("{{\"bytes_in\": {}, \"bytes_out\": {}", self.bytes_in, self.text.len());
        for (kind, found) in &self.found {
            let name = kind.name();
            json += &format!(", \"{name}\": {}, \"{name}_distinct\": {}", found.occurrences, found.numbers.len());
        }
        json + "}\n"
    }
}
