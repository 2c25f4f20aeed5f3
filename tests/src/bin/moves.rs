//! `moves`: random programs and real functions that are moved while they run, against themselves undisturbed.

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use lull_engine::{
    executor::engine::{self, CompileOptions, Platform},
    migratable::{Stats, rewrite},
};
use lull_shared::message::ModuleKind;
use lull_tests::{
    cluster::functions,
    moves::{
        differ::{Pace, Pair},
        machine,
        program::program,
        unwinding,
        wasi::Wasi,
    },
};
use serde::Deserialize;
use wasmtime::Engine;

/// Differences after which it is not worth going on.
const DIFFERENCES_MAX: u32 = 10;

/// Moves of each loop whose unwinding is timed.
const LOOP_MOVES: usize = 100;

/// Runs programs as they are and as migratable builds that are suspended, snapshotted and resumed in fresh instances
/// again and again, and compares results, traps, memories and globals. Equal seeds give equal programs and moves.
#[derive(Parser)]
struct Arguments {
    /// How long to try random programs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// At most so many of them.
    #[arg(long, default_value_t = u64::MAX)]
    programs: u64,
    /// The first program's seed; the next follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Move the functions in tests/functions instead, 1, 20 and 200 times each.
    #[arg(long)]
    functions: bool,
    /// Take the time from the flag to the last instruction of loops of all kinds instead, as agents compile them.
    #[arg(long)]
    unwinding: bool,
    /// Compare what it takes to compile the functions in tests/functions and their builds instead.
    #[arg(long)]
    compiling: bool,
    /// Where to write a program that differs.
    #[arg(long, default_value = ".")]
    keep: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let differences = if arguments.compiling {
        time_compiling()
    } else if arguments.unwinding {
        time_loops()
    } else if arguments.functions {
        try_functions(&machine::engine())
    } else {
        try_programs(&machine::engine(), &arguments)
    };
    if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn try_programs(engine: &Engine, arguments: &Arguments) -> u32 {
    let began = Instant::now();
    let (mut programs, mut moves, mut trapped, mut differences, mut frames) = (0_u64, 0_u64, 0_u64, 0, 0);
    while programs < arguments.programs && began.elapsed() < Duration::from_secs(arguments.seconds) {
        let seed = arguments.seed + programs;
        programs += 1;
        let module = program(seed);
        let result = Pair::new(engine, &module).and_then(|pair| {
            [Pace::Always, Pace::Fuel(200), Pace::Fuel(3_000)]
                .into_iter()
                .map(|pace| pair.compare(&Wasi::default(), seed, pace).map_err(|difference| format!("{pace:?}: {difference}")))
                .collect::<Result<Vec<_>, _>>()
        });
        match result {
            Ok(agreements) => {
                moves += agreements.iter().map(|agreement| u64::from(agreement.moves)).sum::<u64>();
                trapped += u64::from(agreements.iter().any(|agreement| agreement.trapped));
                frames = agreements.iter().map(|agreement| agreement.frames_bytes_max).max().unwrap_or(0).max(frames);
            }
            Err(difference) => {
                differences += 1;
                let kept = arguments.keep.join(format!("moves-{seed}.wasm"));
                println!("seed {seed}: {difference}");
                match fs::write(&kept, &module) {
                    Ok(()) => println!("  kept in {}", kept.display()),
                    Err(error) => println!("  cannot be kept in {}: {error}", kept.display()),
                }
            }
        }
        if differences >= DIFFERENCES_MAX {
            break;
        }
    }
    println!(
        "{programs} programs from seed {}, {moves} moves, {trapped} end in a trap, frames of up to {frames} bytes, \
         {differences} differences, {:.0} s",
        arguments.seed,
        began.elapsed().as_secs_f64()
    );
    differences
}

/// Prints how long each loop takes to unwind, and says how many never see the flag.
fn time_loops() -> u32 {
    let engine = unwinding::engine();
    let mut blind = 0;
    for (name, text) in unwinding::loops() {
        let module = wat::parse_str(&text).expect("the text is valid");
        match unwinding::times(&engine, &module, LOOP_MOVES) {
            Ok(mut times) => {
                times.sort_unstable();
                let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
                println!("ok   {name}: {} moves, unwound in {median:?}, at most {most:?}", times.len());
            }
            Err(reason) => {
                blind += 1;
                println!("DIFF {name}: {reason}");
            }
        }
    }
    blind
}

/// Prints what each module and its build take to compile for this machine, in processor time.
fn time_compiling() -> u32 {
    let options = CompileOptions { kind: ModuleKind::Preview1, canonical_nans: false, platform: Platform::host() };
    let compile = |module: &[u8]| {
        let began = unwinding::processor_time();
        let bytes = engine::precompile(module, &options).expect("it compiles").len();
        (unwinding::processor_time() - began, bytes)
    };
    let mut modules: Vec<PathBuf> = fs::read_dir(functions().join("modules"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    modules.sort();
    let mut ratios = Vec::new();
    println!("{:<24} {:>9} {:>9} {:>6} {:>6}   code: module, fast, resume", "", "plain", "movable", "ratio", "size");
    for path in modules {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let module = fs::read(&path).expect("the module");
        let Ok(build) = rewrite(&module) else { continue };
        let ((plain, plain_bytes), (movable, movable_bytes)) = (compile(&module), compile(&build.module));
        let ratio = movable.as_secs_f64() / plain.as_secs_f64();
        ratios.push(ratio);
        let Stats { fast_bytes, resume_bytes, code_bytes, .. } = build.stats;
        println!(
            "{name:<24} {:>6.0} ms {:>6.0} ms {ratio:>6.2} {:>6.2}   {:.1} kB, {:.1} kB, {:.1} kB",
            plain.as_secs_f64() * 1e3,
            movable.as_secs_f64() * 1e3,
            movable_bytes as f64 / plain_bytes as f64,
            code_bytes as f64 / 1e3,
            fast_bytes as f64 / 1e3,
            resume_bytes as f64 / 1e3,
        );
    }
    ratios.sort_by(f64::total_cmp);
    if let (Some(median), Some(worst)) = (ratios.get(ratios.len() / 2), ratios.last()) {
        println!("median {median:.2}, worst {worst:.2}");
    }
    0
}

/// A case of `expected/cases.json`.
#[derive(Deserialize)]
struct Case {
    name: String,
    module: String,
    args: Vec<String>,
    #[serde(default)]
    input: Option<String>,
    #[serde(default)]
    stdin: Option<String>,
}

fn try_functions(engine: &Engine) -> u32 {
    let cases = fs::read(functions().join("expected/cases.json")).expect("the cases");
    let mut cases: Vec<Case> = serde_json::from_slice(&cases).expect("they are JSON");
    for kernel in ["integer", "matrix", "sieve", "hash", "zstd"] {
        let args = vec![kernel.into(), "2".into()];
        cases.push(Case {
            name: format!("kernels.{kernel}"),
            module: "kernels".into(),
            args,
            input: None,
            stdin: Some(String::new()),
        });
    }
    cases.retain(|case| !case.module.ends_with("-component"));
    cases.sort_by(|one, other| one.module.cmp(&other.module));
    let mut differences = 0;
    let mut compiled: Option<(String, Pair)> = None;
    for case in cases {
        if compiled.as_ref().is_none_or(|(module, _)| *module != case.module) {
            let bytes = fs::read(functions().join(format!("modules/{}.wasm", case.module))).expect("the module");
            match Pair::new(engine, &bytes) {
                Ok(pair) => compiled = Some((case.module.clone(), pair)),
                Err(reason) => {
                    println!("DIFF {}: {reason}", case.module);
                    differences += 1;
                    continue;
                }
            }
        }
        let Some((_, pair)) = &compiled else { continue };
        let input = match (&case.stdin, &case.input) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(input)) => fs::read(functions().join("inputs").join(input)).expect("the input"),
            (None, None) => Vec::new(),
        };
        let arguments = std::iter::once(case.module.clone()).chain(case.args.clone()).collect();
        let wasi = Wasi { arguments, input, ..Wasi::default() };
        for times in [1, 20, 200] {
            match pair.compare(&wasi, 5, Pace::Times(times)) {
                Ok(agreement) => println!(
                    "ok   {}: {} moves, frames of up to {} bytes",
                    case.name, agreement.moves, agreement.frames_bytes_max
                ),
                Err(difference) => {
                    println!("DIFF {}: {difference}", case.name);
                    differences += 1;
                }
            }
        }
    }
    differences
}
