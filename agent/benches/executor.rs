//! What a task that does nothing costs: processor time of the executor and of the agent beside it, and latency.
//!
//! `cargo bench -p lull-agent --bench executor`

#[path = "../../tests/benches/report.rs"]
mod report;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use lull_engine::executor::{
    engine::{self, CompileOptions, Platform},
    process::{Event, Executor, Input, Run, Spec},
    protocol::{Build, Load, Priority, World},
};
use lull_shared::{
    digest::Digest,
    id::{AttemptId, JobId, TaskId},
    job::{AttemptLimits, Grants},
    message::ModuleKind,
    time::Timestamp,
};

use report::{Manner, Report};

const PIPELINED: u32 = 1_000;

#[derive(Parser)]
struct Arguments {
    /// Tasks of each guest: 20,000, and 3,000 in short.
    #[arg(long)]
    tasks: Option<u32>,
    #[command(flatten)]
    manner: Manner,
}

const GUESTS: [(&str, &str); 3] = [
    ("nothing", r#"(module (memory (export "memory") 1) (func (export "_start")))"#),
    (
        "17 pages, 3 touched",
        r#"(module (memory (export "memory") 17)
        (data (i32.const 1048576) "data")
        (func (export "_start")
          (i32.store (i32.const 1048000) (i32.const 1)) (i32.store (i32.const 1048576) (i32.const 1))
          (i32.store (i32.const 1052672) (i32.const 1))))"#,
    ),
    (
        "copies 32 bytes",
        r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
          (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 32))
          (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
    ),
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::parse();
    let mut report = Report::new("executor", arguments.manner);
    let tasks = arguments.manner.choose(arguments.tasks, 20_000, 3_000).max(PIPELINED);
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in GUESTS {
        measure(name, text, folder.path(), tasks, &mut report).await;
    }
    report.end();
}

async fn measure(name: &str, text: &str, folder: &Path, tasks: u32, report: &mut Report) {
    let module = wat::parse_str(text).expect("valid text");
    let options = CompileOptions { kind: ModuleKind::Preview1, canonical_nans: false, platform: Platform::host() };
    let artifact = engine::precompile(&module, &options).expect("it compiles");
    let path = folder.join(Digest::of(&artifact).to_hex());
    std::fs::write(&path, &artifact).expect("a file");
    let load = Load {
        artifact: path.into(),
        digest: Digest::of(&artifact),
        kind: ModuleKind::Preview1,
        build: Build::Plain,
        limits: AttemptLimits::default(),
        grants: Grants::default(),
        scratch: None,
        priority: Priority::Normal,
        world: World {
            job: JobId(1),
            function: "bench".into(),
            args: Vec::new(),
            env: Vec::new(),
            exit_codes: lull_shared::codes::ExitCodes::default(),
            seed: 1,
            clock_start: Timestamp::from_millis(0),
        },
    };
    let program = Some(env!("CARGO_BIN_EXE_lull-agent").into());
    let start = Instant::now();
    let (executor, mut events) = Executor::spawn(Spec { program, load }).await.expect("it starts");
    let ready = start.elapsed();
    let run = |index| {
        let attempt = AttemptId { task: TaskId { job: JobId(1), index }, number: 1 };
        let run =
            Run { attempt, input: Input::Inline(Bytes::from_static(&[7; 32])), output: folder.join("output"), resume: None };
        executor.run(run).expect("it takes it");
    };
    let mut latencies = Vec::new();
    for index in 0..500 {
        let start = Instant::now();
        run(index);
        while !matches!(events.recv().await, Some(Event::Finished(_))) {}
        latencies.push(start.elapsed());
    }
    latencies.sort_unstable();
    let (start, executor_start, agent_start) = (Instant::now(), executor.cpu_time().expect("it lives"), own_cpu());
    (0..PIPELINED).for_each(run);
    let (mut sent, mut ended, mut guest_us) = (PIPELINED, 0, 0);
    while ended < tasks {
        match events.recv().await {
            Some(Event::Started { .. }) => {}
            Some(Event::Finished(finished)) => {
                finished.outcome.expect("it succeeds");
                guest_us += finished.usage.cpu_us;
                ended += 1;
                if sent < tasks {
                    run(sent);
                    sent += 1;
                }
            }
            died => panic!("{died:?}"),
        }
    }
    let per_task = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(tasks);
    let executor_us = per_task(executor.cpu_time().expect("it lives") - executor_start);
    let (guest_us, agent_us) = (guest_us as f64 / f64::from(tasks), per_task(own_cpu() - agent_start));
    let rate = f64::from(tasks) / start.elapsed().as_secs_f64();
    let (half, last) = (latencies[250].as_micros(), latencies[495].as_micros());
    let (ready_ms, megabytes) = (ready.as_secs_f64() * 1e3, executor.resident_bytes().expect("it lives") as f64 / 1e6);
    report.say(format_args!(
        "{name:20} executor {executor_us:5.1} us CPU a task (guest and instance {guest_us:4.1}), agent {agent_us:5.1} us, \
         {rate:6.0} tasks/s; alone p50 {half} us p99 {last} us; ready after {ready_ms:.1} ms, {megabytes:.1} MB",
    ));
    let figures = [
        ("executor", executor_us, "us a task"),
        ("guest and instance", guest_us, "us a task"),
        ("agent", agent_us, "us a task"),
        ("throughput", rate, "tasks/s"),
        ("alone, median", half as f64, "us"),
        ("alone, 99th percentile", last as f64, "us"),
        ("ready", ready_ms, "ms"),
        ("resident", megabytes, "MB"),
    ];
    for (figure, value, unit) in figures {
        report.figure(format!("{name}: {figure}"), value, unit);
    }
}

fn own_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("a process");
    let fields = text.rsplit(')').next().expect("fields").split(' ').collect::<Vec<_>>();
    let ticks: u64 = fields[12].parse::<u64>().expect("a number") + fields[13].parse::<u64>().expect("a number");
    Duration::from_millis(ticks * 10)
}
