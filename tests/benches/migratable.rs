//! What it costs that a function can be moved: each function as it is and as a migratable build, side by side.
//!
//! ```sh
//! cargo bench -p lull-tests --bench migratable
//! ```
//! Both are compiled by the same engine, configured as agents configure it, and run in turn on this thread; what is
//! compared is the thread's processor time. Beside the run cost stand what the build is larger (as WebAssembly and as
//! compiled) and how long the pass takes. A second thread raises the flag at random moments while the build runs, and the
//! time until it has unwound is taken, by the clock and in processor time of the running thread: the latter leaves out what
//! other programs on the machine take. Last the run is suspended and resumed ten times on its way, so that most of it runs in
//! resume copies.

mod report;

use std::{
    fs, mem,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use lull_engine::migratable::{
    contract::{self, State},
    rewrite,
};
use lull_tests::moves::unwinding::{own_clock, processor_time, time_of};
use lull_tests::{
    cluster::functions,
    moves::{
        machine::Flag,
        wasi::{self, Exit, Wasi},
    },
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use wasmtime::{Config, Engine, InstancePre, Linker, Module, Store, Val};

use report::{Goal, Manner, Report};

/// Targets for the run cost.
const MEDIAN_MAX: f64 = 1.2;
const WORST_MAX: f64 = 1.5;
/// Target for the time from the flag to the last guest instruction, at the 99th percentile.
const UNWOUND_MAX: Duration = Duration::from_millis(5);
/// Pauses of the second thread between two flags.
const PAUSE_US: std::ops::Range<u64> = 200..3_000;
/// How often the second thread looks whether it is time.
const NAP: Duration = Duration::from_micros(50);
/// Moves of the run that is measured in the resume copies.
const MOVES: u32 = 10;

#[derive(Parser)]
struct Arguments {
    /// How often each is run either way: 7 times, and 2 in short.
    #[arg(long)]
    repetitions: Option<usize>,
    /// Flags raised in each function: 300, and 30 in short.
    #[arg(long)]
    flags: Option<usize>,
    /// Only those whose name contains this.
    #[arg(default_value = "")]
    only: String,
    #[command(flatten)]
    manner: Manner,
}

/// How often what is done.
#[derive(Clone, Copy)]
struct Counts {
    repetitions: usize,
    flags: usize,
}

/// A function with something to do for some tens of milliseconds.
struct Case {
    name: &'static str,
    module: &'static str,
    arguments: Vec<&'static str>,
    input: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let file = |name: &str| fs::read(functions().join("inputs").join(name)).expect("the input");
    let documents: Vec<u8> = ["alice-in-wonderland", "paradise-lost-books-1-2", "the-red-headed-league"]
        .into_iter()
        .flat_map(|name| file(&format!("documents/{name}.txt")))
        .collect();
    let query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200000) \
                 SELECT count(*), sum(i*i % 7), max(substr(i, 2)) FROM n";
    let case = |name, module, arguments: &[&'static str], input: &[u8]| Case {
        name,
        module,
        arguments: arguments.to_vec(),
        input: input.to_vec(),
    };
    vec![
        case("integer", "kernels", &["integer", "30"], b""),
        case("matrix", "kernels", &["matrix", "30"], b""),
        case("sieve", "kernels", &["sieve", "40"], b""),
        case("hash (SHA-256)", "kernels", &["hash", "100"], b""),
        case("compression (zstd)", "kernels", &["zstd", "4"], b""),
        case("compression (gzip, Rust)", "compress", &["--level", "9"], &documents.repeat(2)),
        case("Monte Carlo", "monte-carlo", &["--paths", "50000"], b"7"),
        case("image (JPEG thumbnail)", "thumbnail", &["--size", "320"], &file("photos/astronaut.jpg")),
        case("text statistics", "text-stats", &[], &documents.repeat(3)),
        case("search and replace (Rust)", "redact", &[], &file("letters.txt").repeat(1_000)),
        case("SQLite", "sql-report", &[query], &file("sales.csv")),
        case("regular expressions", "workloads", &["regex", "15"], b""),
        case("interpreter", "workloads", &["interpreter", "30"], b""),
        case("JSON", "workloads", &["json", "10"], b""),
        case("sorting", "workloads", &["sort", "4"], b""),
    ]
}

fn main() {
    let arguments = Arguments::parse();
    let mut report = Report::new("migratable", arguments.manner);
    let counts = Counts {
        repetitions: arguments.manner.choose(arguments.repetitions, 7, 2).max(1),
        flags: arguments.manner.choose(arguments.flags, 300, 30).max(1),
    };
    let engine = engine();
    report.say(format_args!("migratable builds beside their modules (processor time, {} repetitions each)", counts.repetitions));
    let (mut ratios, mut delays) = (Vec::new(), Vec::<Delay>::new());
    for case in cases().iter().filter(|case| case.name.contains(&arguments.only)) {
        let measured = measure(&engine, case, counts, &mut report);
        ratios.push(measured.ratio);
        delays.extend(measured.delays);
    }
    if ratios.is_empty() {
        report.say(format_args!("  no function is called like `{}`", arguments.only));
        return report.end();
    }
    ratios.sort_by(f64::total_cmp);
    report.line_at_most("run cost, median", ratios[ratios.len() / 2], "times", MEDIAN_MAX);
    report.line_at_most("run cost, worst", ratios[ratios.len() - 1], "times", WORST_MAX);
    for (clock, of) in [("by the clock", (|delay| delay.wall) as fn(&Delay) -> Duration), ("processor time", |delay| delay.cpu)] {
        let (half, last) = percentiles(&delays, of);
        let (name, unit) = (format!("flag to unwound, {clock}"), "us");
        report.figure(format!("{name}, median"), half.as_secs_f64() * 1e6, unit);
        let most = Goal::AtMost(UNWOUND_MAX.as_secs_f64() * 1e6);
        let verdict = report.goal(format!("{name}, 99th percentile"), last.as_secs_f64() * 1e6, unit, most);
        report.say(format_args!(
            "  {name}, {} flags: p50 {half:.1?}, p99 {last:.1?}, target <= {UNWOUND_MAX:?}: {verdict}",
            delays.len()
        ));
    }
    report.end();
}

struct Measured {
    ratio: f64,
    delays: Vec<Delay>,
}

/// From the flag to the return of the entry.
#[derive(Clone, Copy)]
struct Delay {
    wall: Duration,
    cpu: Duration,
}

fn measure(engine: &Engine, case: &Case, counts: Counts, report: &mut Report) -> Measured {
    let module = fs::read(functions().join(format!("modules/{}.wasm", case.module))).expect("the module");
    let began = processor_time();
    let build = rewrite(&module).expect("it is movable");
    let pass = processor_time() - began;
    let (plain, plain_bytes) = compiled(engine, &module);
    let (movable, movable_bytes) = compiled(engine, &build.module);
    let given = [case.module].into_iter().chain(case.arguments.iter().copied()).map(str::to_owned).collect();
    let wasi = Wasi { arguments: given, input: case.input.clone(), ..Wasi::default() };
    let (mut without, mut with, mut resumed) = (Vec::new(), Vec::new(), Vec::new());
    for repetition in 0..=counts.repetitions {
        let (output, cpu) = Run::new(&plain, &wasi).finish("_start");
        let (build_output, build_cpu) = Run::new(&movable, &wasi).finish(contract::RUN);
        let (resumed_output, resumed_cpu) = Run::new(&movable, &wasi).finish_moved(cpu / (MOVES + 1));
        assert_eq!(output, build_output, "{} says the same either way", case.name);
        assert_eq!(output, resumed_output, "{} says the same after moves", case.name);
        if repetition > 0 {
            without.push(cpu);
            with.push(build_cpu);
            resumed.push(resumed_cpu);
        }
    }
    [&mut without, &mut with, &mut resumed].into_iter().for_each(|times| times.sort_unstable());
    let middle = without.len() / 2;
    let ratio = |times: &[Duration], at: usize| times[at].as_secs_f64() / without[at].as_secs_f64();
    let delays = unwind_times(&movable, &wasi, counts.flags);
    let (half, last) = percentiles(&delays, |delay| delay.cpu);
    report.say(format_args!(
        "  {:<26} {:>6.1} ms   cost {:.2} (of the quickest {:.2})   moved {MOVES} times {:.2}   unwound in p50 {half:.1?} p99 {last:.1?}   \
         wasm {} -> {} kB   compiled x{:.1}   pass {:.0} ms",
        case.name,
        without[middle].as_secs_f64() * 1e3,
        ratio(&with, middle),
        ratio(&with, 0),
        ratio(&resumed, middle),
        module.len() / 1000,
        build.module.len() / 1000,
        movable_bytes as f64 / plain_bytes as f64,
        pass.as_secs_f64() * 1e3,
    ));
    let grown = |after: usize, before: usize| after as f64 / before.max(1) as f64;
    let figures = [
        ("run cost", ratio(&with, middle), "times"),
        ("run cost, of the quickest", ratio(&with, 0), "times"),
        ("moved", ratio(&resumed, middle), "times"),
        ("unwound, 99th percentile", last.as_secs_f64() * 1e6, "us"),
        ("module", grown(build.module.len(), module.len()), "times"),
        ("compiled", grown(movable_bytes, plain_bytes), "times"),
        ("pass", pass.as_secs_f64() * 1e3, "ms"),
    ];
    for (figure, value, unit) in figures {
        report.figure(format!("{}: {figure}", case.name), value, unit);
    }
    Measured { ratio: ratio(&with, middle), delays }
}

/// Raises the flag again and again, at moments that nobody knows, and waits until the program has unwound.
fn unwind_times(module: &InstancePre<World>, wasi: &Wasi, flags: usize) -> Vec<Delay> {
    let mut delays = Vec::with_capacity(flags);
    let mut random = ChaCha8Rng::seed_from_u64(flags as u64);
    while delays.len() < flags {
        let mut run = Run::new(module, wasi);
        let mut state = State::Running;
        loop {
            let pause = Duration::from_micros(random.random_range(PAUSE_US));
            let Some(delay) = run.until_raised(state, pause) else { break };
            delays.push(delay);
            state = State::Rewinding;
        }
    }
    delays
}

#[derive(Default)]
struct World {
    wasi: Wasi,
    flag: Option<Flag>,
}

struct Run {
    store: Store<World>,
    instance: wasmtime::Instance,
}

impl Run {
    fn new(module: &InstancePre<World>, wasi: &Wasi) -> Self {
        let mut store = Store::new(module.module().engine(), World { wasi: wasi.clone(), flag: None });
        let instance = module.instantiate(&mut store).expect("an instance");
        store.data_mut().flag = Flag::of(&instance, &mut store);
        Self { store, instance }
    }

    /// Calls the entry; true if it was suspended.
    fn call(&mut self, entry: &str) -> bool {
        let entry = self.instance.get_typed_func::<(), ()>(&mut self.store, entry).expect("a command");
        if let Err(error) = entry.call(&mut self.store, ()) {
            let exit = error.downcast_ref::<Exit>().unwrap_or_else(|| panic!("it fails: {error:#}"));
            assert_eq!(exit.0, 0, "it ends well");
            return false;
        }
        let state = self.instance.get_global(&mut self.store, contract::STATE).map(|state| state.get(&mut self.store));
        state.and_then(|state| state.i32()) == Some(State::Unwinding as i32)
    }

    fn set_state(&mut self, state: State) {
        let global = self.instance.get_global(&mut self.store, contract::STATE).expect("a build");
        global.set(&mut self.store, Val::I32(state as i32)).expect("it can be set");
    }

    fn finish(mut self, entry: &str) -> (Vec<u8>, Duration) {
        let began = processor_time();
        assert!(!self.call(entry), "nobody asked");
        let cpu = processor_time() - began;
        (mem::take(&mut self.store.data_mut().wasi.output), cpu)
    }

    /// Runs to the end, suspended and resumed in place after each pause, so that it ends in resume copies.
    fn finish_moved(mut self, pause: Duration) -> (Vec<u8>, Duration) {
        let began = processor_time();
        let mut state = State::Running;
        for _ in 0..MOVES {
            if self.until_raised(state, pause).is_none() {
                let cpu = processor_time() - began;
                return (mem::take(&mut self.store.data_mut().wasi.output), cpu);
            }
            state = State::Rewinding;
        }
        self.set_state(state);
        while self.call(contract::RUN) {
            self.set_state(State::Rewinding);
        }
        let cpu = processor_time() - began;
        (mem::take(&mut self.store.data_mut().wasi.output), cpu)
    }

    /// Runs while another thread raises the flag after a pause: how long it took to unwind, unless it ended before.
    fn until_raised(&mut self, state: State, pause: Duration) -> Option<Delay> {
        let zero = Instant::now();
        let (raised_wall, raised_cpu) = (AtomicU64::new(0), AtomicU64::new(0));
        let ended = AtomicBool::new(false);
        let flag = self.store.data().flag.expect("a build");
        let clock = own_clock();
        self.set_state(state);
        let unwound = thread::scope(|scope| {
            let (raised_wall, raised_cpu, ended) = (&raised_wall, &raised_cpu, &ended);
            scope.spawn(move || {
                let flag = flag;
                while zero.elapsed() < pause && !ended.load(Ordering::SeqCst) {
                    thread::sleep(NAP);
                }
                raised_wall.store(zero.elapsed().as_nanos() as u64, Ordering::SeqCst);
                raised_cpu.store(time_of(clock).as_nanos() as u64, Ordering::SeqCst);
                flag.set(true);
            });
            let suspended = self.call(contract::RUN);
            let now = suspended.then(|| (zero.elapsed(), time_of(clock)));
            ended.store(true, Ordering::SeqCst);
            now
        });
        flag.set(false);
        unwound.map(|(wall, cpu)| Delay {
            wall: wall.saturating_sub(Duration::from_nanos(raised_wall.load(Ordering::SeqCst))),
            cpu: cpu.saturating_sub(Duration::from_nanos(raised_cpu.load(Ordering::SeqCst))),
        })
    }
}

/// An engine as agents have it, less the pool, with its compiler.
fn engine() -> Engine {
    let mut config = Config::new();
    config
        .relaxed_simd_deterministic(true)
        .wasm_branch_hinting(true)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .generate_address_map(false);
    Engine::new(&config).expect("the engine takes this configuration")
}

/// A module ready to be run, and its size.
fn compiled(engine: &Engine, module: &[u8]) -> (InstancePre<World>, usize) {
    let module = Module::new(engine, module).expect("it compiles");
    let bytes = module.serialize().expect("it can be written").len();
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker, |world: &mut World| &mut world.wasi);
    let poll = |mut caller: wasmtime::Caller<'_, World>| -> i32 {
        if let Some(flag) = caller.data_mut().flag {
            flag.set(false);
        }
        1
    };
    linker.func_wrap(contract::IMPORT_MODULE, contract::IMPORT_POLL, poll).expect("the name is free");
    (linker.instantiate_pre(&module).expect("nothing is missing"), bytes)
}

fn percentiles(delays: &[Delay], of: fn(&Delay) -> Duration) -> (Duration, Duration) {
    let mut times: Vec<Duration> = delays.iter().map(of).collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
