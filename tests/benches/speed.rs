//! Whether functions run at full speed: the same module as a task of the mesh and in a bare engine in this process.
//!
//! ```sh
//! cargo bench -p lull-tests --bench speed
//! ```
//! The bare engine is wasmtime as it comes, for this very processor, with nothing that interrupts a guest. Both sides are
//! measured in processor time of what runs the guest (its thread here, its executor process there), one after the
//! other and again, so that whatever else the machine does meets both. Beside the medians stands the quotient of the
//! quickest runs, which other programs disturb least.

mod report;

use std::{fs, time::Duration};

use clap::Parser;
use lull_tests::cluster::{Cluster, Programs, functions, text};
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::{
    WasiCtxBuilder,
    p1::{self, WasiP1Ctx},
    p2::pipe::MemoryOutputPipe,
};

use report::{Goal, Manner, Report};

const PROGRAMS: Programs = Programs { lull: env!("CARGO_BIN_EXE_lull-e2e"), agent: env!("CARGO_BIN_EXE_lull-agent-e2e") };
/// Each with rounds for about a third of a second.
const KERNELS: [(&str, u32); 5] = [("integer", 60), ("matrix", 60), ("sieve", 80), ("hash", 250), ("zstd", 10)];
/// What the mesh may cost: three in a hundred.
const RATIO_MAX: f64 = 1.03;
/// More than a checksum has.
const OUTPUT_BYTES: usize = 1024;

#[derive(Parser)]
struct Arguments {
    /// How often each is run in either place: 9 times, and 3 in short.
    #[arg(long)]
    repetitions: Option<usize>,
    #[command(flatten)]
    manner: Manner,
}

fn main() {
    let arguments = Arguments::parse();
    let mut report = Report::new("speed", arguments.manner);
    let repetitions = arguments.manner.choose(arguments.repetitions, 9, 3).max(1);
    let module = functions().join("modules/kernels.wasm");
    let bare = Bare::new(&fs::read(&module).expect("the module"));
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    cluster.lull(&["func", "publish", text(&module)]);
    report.say(format_args!("kernels through the mesh and in a bare engine (processor time, {repetitions} repetitions each)"));
    for (kernel, rounds) in KERNELS {
        let rounds = rounds.to_string();
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for repetition in 0..=repetitions {
            let (output, cpu) = bare.run(kernel, &rounds);
            let (task_output, task_cpu) = task(&cluster, kernel, &rounds);
            assert_eq!(output, task_output, "{kernel} says the same in both places");
            // The first time warms caches.
            if repetition > 0 {
                here.push(cpu);
                there.push(task_cpu);
            }
        }
        here.sort_unstable();
        there.sort_unstable();
        let ratio = |at: usize| there[at].as_secs_f64() / here[at].as_secs_f64();
        let median = ratio(here.len() / 2);
        let verdict = report.goal(format!("{kernel}: mesh over bare"), median, "times", Goal::AtMost(RATIO_MAX));
        report.figure(format!("{kernel}: mesh over bare, of the quickest"), ratio(0), "times");
        report.say(format_args!(
            "  {kernel:<8} mesh {:>6.1} ms   bare {:>6.1} ms   ratio {median:.3}   of the quickest {:.3}   target <= {RATIO_MAX}: {verdict}",
            millis(there[there.len() / 2]),
            millis(here[here.len() / 2]),
            ratio(0),
        ));
    }
    report.end();
}

/// A job of one task: its output and the processor time that its executor reported.
fn task(cluster: &Cluster, kernel: &str, rounds: &str) -> (String, Duration) {
    let job = cluster.lull(&["submit", "kernels", "--array", "0-0", "-o", "id", "--", kernel, rounds]).out;
    cluster.lull(&["wait", job.trim(), "--timeout", "10m"]);
    let task = format!("{}.0", job.trim());
    let shown = cluster.lull(&["task", "show", &task, "-o", "json"]).json();
    let cpu_us = shown["history"][0]["usage"]["cpu_us"].as_u64().unwrap_or_else(|| panic!("no processor time in {shown}"));
    let result = cluster.lull(&["job", "results", job.trim(), "-o", "jsonl"]).json();
    let output = result["output"].as_str().unwrap_or_else(|| panic!("no output in {result}"));
    (output.to_owned(), Duration::from_micros(cpu_us))
}

/// An engine without any of ours around it.
struct Bare {
    engine: Engine,
    module: Module,
}

impl Bare {
    fn new(module: &[u8]) -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, module).expect("it compiles");
        Self { engine, module }
    }

    fn run(&self, kernel: &str, rounds: &str) -> (String, Duration) {
        let began = thread_cpu_time();
        let output = MemoryOutputPipe::new(OUTPUT_BYTES);
        let wasi = WasiCtxBuilder::new().args(&["kernels", kernel, rounds]).stdout(output.clone()).build_p1();
        let mut linker: Linker<WasiP1Ctx> = Linker::new(&self.engine);
        p1::add_to_linker_sync(&mut linker, |wasi| wasi).expect("linked");
        let mut store = Store::new(&self.engine, wasi);
        let instance = linker.instantiate(&mut store, &self.module).expect("an instance");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("a command");
        start.call(&mut store, ()).expect("it ends well");
        drop(store);
        let text = String::from_utf8(output.contents().to_vec()).expect("text");
        (text, thread_cpu_time() - began)
    }
}

fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid, and a failure leaves the zero in it.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
