//! How fast the owner gets the machine back, and what it costs to carry a running attempt to another one.
//!
//! ```sh
//! cargo bench -p lull-agent --bench moving
//! ```
//! *Pausing*: twice as many guests as processors read the clock in tight loops, each on its own; all are frozen, and
//! thawed a while later. Every guest notes the last time that it read before each gap: that is its last instruction, told
//! by itself, and compared with the clock at the call that froze the first of them. *Moving*: a guest that fills 64 MiB is suspended, its snapshot goes over a TCP
//! connection on the loopback interface into another file, hashed on arrival, and another process goes on from it and
//! ends. Executors run at the priority that they have beside an owner, or with `--normal` like any program.

#[path = "../../tests/benches/report.rs"]
mod report;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use lull_engine::executor::{
    engine::{self, CompileOptions, Platform},
    process::{Event, Executor, Input, Output, Run, Snapshot, Spec},
    protocol::{Build, Load, Priority, World},
};
use lull_shared::{
    digest::Digest,
    id::{AttemptId, JobId, TaskId},
    job::{AttemptLimits, Grants},
    message::ModuleKind,
    time::Timestamp,
};
use tokio::sync::mpsc::UnboundedReceiver;

use report::{Manner, Report};

const MEBIBYTE: usize = 1 << 20;
const GUEST_BYTES: usize = 64 * MEBIBYTE;

/// What the 64 MiB hold: a name, and the word at `$at`.
const FILLS: [(&str, &str); 3] = [
    ("noise", "(local.get $x)"),
    ("numbers below 1000", "(i32.rem_u (local.get $x) (i32.const 1000))"),
    ("records that repeat", "(i32.mul (i32.and (i32.shr_u (local.get $at) (i32.const 4)) (i32.const 511)) (i32.const 7919))"),
];

#[derive(Parser)]
struct Arguments {
    /// How often each is done: 15 times, and 3 in short.
    #[arg(long)]
    repetitions: Option<usize>,
    /// How often all are frozen: 300 times, and 60 in short.
    #[arg(long)]
    pauses: Option<u32>,
    /// Executors like any program, instead of behind all others.
    #[arg(long)]
    normal: bool,
    #[command(flatten)]
    manner: Manner,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let mut report = Report::new("moving", arguments.manner);
    let repetitions = arguments.manner.choose(arguments.repetitions, 15, 3).max(1);
    let count = arguments.manner.choose(arguments.pauses, 300, 60).max(1);
    let folder = tempfile::tempdir().expect("a folder");
    let priority = if arguments.normal { Priority::Normal } else { Priority::Idle };
    pauses(folder.path(), priority, count, &mut report).await;
    asks(&Bench::new(&guest(1, "(local.get $x)"), folder.path(), priority), count, &mut report).await;
    for (name, word) in FILLS {
        let bench = Bench::new(&guest(GUEST_BYTES / 65536, word), folder.path(), priority);
        moves(name, &bench, repetitions, &mut report).await;
    }
    report.end();
}

/// A migratable build made by hand: fills its memory, polls in a tight loop, and ends with one word of output when it
/// has been moved and its input is a 7; otherwise it goes on for ever.
fn guest(pages: usize, word: &str) -> String {
    format!(
        r#"(module
  (import "lull_migratable" "poll" (func $poll (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory $memory (export "memory") {pages})
  (memory $stack (export "lull_stack") 1 1)
  (export "lull_memory_0" (memory $memory))
  (global $state (export "lull_state") (mut i32) (i32.const 0))
  (global $sp (export "lull_sp") (mut i32) (i32.const 16))
  (func $go (export "lull_run") (local $at i32) (local $x i32)
    (if (i32.eq (global.get $state) (i32.const 2))
      (then
        (global.set $state (i32.const 0))
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 1))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 7))
          (then (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (return))))
      (else
        (local.set $x (i32.const 12345))
        (local.set $at (i32.const 64))
        (loop $fill
          (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
          (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
          (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
          (i32.store (local.get $at) {word})
          (local.set $at (i32.add (local.get $at) (i32.const 4)))
          (br_if $fill (i32.lt_u (local.get $at) (i32.const {bytes}))))))
    (loop $wait
      (if (i32.load $stack (i32.const 0))
        (then (if (call $poll) (then (global.set $state (i32.const 1)) (return)))))
      (br $wait))))"#,
        bytes = pages * 65536
    )
}

struct Bench {
    folder: PathBuf,
    load: Load,
}

struct Bed {
    executor: Executor,
    events: UnboundedReceiver<Event>,
}

impl Bench {
    fn new(text: &str, folder: &Path, priority: Priority) -> Self {
        let module = wat::parse_str(text).expect("valid text");
        let options = CompileOptions { kind: ModuleKind::Preview1, canonical_nans: false, platform: Platform::host() };
        let artifact = engine::precompile(&module, &options).expect("it compiles");
        let path = folder.join(Digest::of(&artifact).to_hex());
        fs::write(&path, &artifact).expect("a file");
        let load = Load {
            artifact: path.into(),
            digest: Digest::of(&artifact),
            kind: ModuleKind::Preview1,
            build: Build::Migratable { code: Digest::of(&module) },
            limits: AttemptLimits::default(),
            grants: Grants::default(),
            scratch: None,
            priority,
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
        Self { folder: folder.to_owned(), load }
    }

    async fn start(&self) -> Bed {
        let program = Some(env!("CARGO_BIN_EXE_lull-agent").into());
        let (executor, events) = Executor::spawn(Spec { program, load: self.load.clone() }).await.expect("it starts");
        Bed { executor, events }
    }

    /// A guest that has filled its memory and is in its tight loop.
    async fn running(&self, input: &[u8]) -> Bed {
        let mut bed = self.start().await;
        bed.run(self, input, None);
        // Filling writes every page once; after that the memory stays as it is and the time goes on.
        let idle = bed.executor.cpu_time().expect("it lives");
        let (mut resident, mut time) = (0, idle);
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = (bed.executor.resident_bytes().expect("it lives"), bed.executor.cpu_time().expect("it lives"));
            if now.0 == resident && now.1 > time && now.1 > idle + Duration::from_millis(50) {
                break;
            }
            (resident, time) = now;
        }
        while let Ok(event) = bed.events.try_recv() {
            assert!(matches!(event, Event::Started { .. }), "{event:?}");
        }
        bed
    }
}

impl Bed {
    fn run(&self, bench: &Bench, input: &[u8], resume: Option<PathBuf>) {
        let input = Input::Inline(Bytes::copy_from_slice(input));
        let output = bench.folder.join("output");
        self.executor.run(Run { attempt: attempt(), input, output, resume }).expect("it takes it");
    }

    /// What it wrote when it ended.
    async fn output(&mut self) -> Vec<u8> {
        loop {
            match self.events.recv().await {
                Some(Event::Started { .. }) => {}
                Some(Event::Finished(finished)) => match finished.outcome {
                    Ok(Output::Inline(bytes)) => return bytes.to_vec(),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }

    async fn saved(&mut self) -> Snapshot {
        match self.events.recv().await {
            Some(Event::Saved(snapshot)) => *snapshot,
            other => panic!("{other:?}"),
        }
    }
}

fn attempt() -> AttemptId {
    AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 }
}

/// Notes when it had no processor, by the machine's clock.
const WATCHER: &str = include_str!("../../tests/functions/fixtures/watcher.wat");

/// How long they run, and how long they are frozen, each time.
const RUNNING: Duration = Duration::from_millis(30);
const FROZEN: Duration = Duration::from_millis(50);

/// Freezing all of them, again and again.
async fn pauses(folder: &Path, priority: Priority, count: u32, report: &mut Report) {
    let mut bench = Bench::new(WATCHER, folder, priority);
    (bench.load.build, bench.load.grants.clock) = (Build::Plain, true);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let end_ns = now_ns() + ((RUNNING + FROZEN) * count + Duration::from_secs(2)).as_nanos() as u64;
    let mut beds = Vec::new();
    for _ in 0..2 * processors {
        let bed = bench.start().await;
        bed.run(&bench, &end_ns.to_le_bytes(), None);
        beds.push(bed);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut pauses = Vec::new();
    while now_ns() + (FROZEN + RUNNING).as_nanos() as u64 * 2 < end_ns {
        tokio::time::sleep(RUNNING).await;
        let start = now_ns();
        for bed in &beds {
            bed.executor.freeze().expect("it lives");
        }
        tokio::time::sleep(FROZEN).await;
        pauses.push((start, now_ns()));
        for bed in &beds {
            bed.executor.thaw().expect("it lives");
        }
    }
    let (mut lasts, mut waiting) = (Vec::new(), 0);
    for bed in &mut beds {
        let gaps = bed.output().await;
        let gaps = gaps.chunks_exact(16).map(|gap| {
            let time = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| gap[at + i]));
            (time(0), time(8))
        });
        let gaps = gaps.collect::<Vec<_>>();
        for (start, thawed) in &pauses {
            // A guest that had no processor when it was frozen may get none for long after.
            let gap = gaps.iter().find(|(last, next)| last < thawed && next >= thawed).expect("it did not run while frozen");
            waiting += u32::from(gap.0 < *start);
            lasts.push(Duration::from_nanos(gap.0.saturating_sub(*start)));
        }
    }
    let all = Figures::of(lasts.clone());
    report.say(format_args!(
        "pausing {} tight loops on {processors} processors, {} times: last guest instruction {all} after the call; {:.0} % had \
         no processor just then",
        beds.len(),
        pauses.len(),
        f64::from(waiting) * 100.0 / lasts.len() as f64,
    ));
    all.note("last instruction", report);
    lasts.retain(|last| !last.is_zero());
    report.say(format_args!("  of those that had one: {}", Figures::of(lasts)));
}

fn now_ns() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64)
}

/// Asking a small guest for snapshots: the time of the flag, of unwinding, and of everything that does not grow with it.
async fn asks(bench: &Bench, count: u32, report: &mut Report) {
    let mut bed = bench.running(&[]).await;
    let mut times = Vec::new();
    let path = bench.folder.join("small");
    for _ in 0..count {
        let start = Instant::now();
        bed.executor.checkpoint(attempt(), path.clone()).expect("it runs");
        let snapshot = bed.saved().await;
        times.push(start.elapsed());
        assert!(snapshot.blob.size_bytes < 70_000);
    }
    let times = Figures::of(times);
    report.say(format_args!("checkpoint of 64 KiB, from the ask to the file, {count} times: {times}"));
    times.note("checkpoint of 64 KiB", report);
}

/// Moving a guest of 64 MiB.
async fn moves(name: &str, bench: &Bench, count: usize, report: &mut Report) {
    let (mut saves, mut sends, mut restores, mut totals, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut snapshot_bytes, mut full_bytes, own_bytes) = (0, 0, resident_bytes());
    for _ in 0..count {
        let mut bed = bench.running(&[7]).await;
        full_bytes = bed.executor.resident_bytes().expect("it lives");
        let (path, arrived) = (bench.folder.join("snapshot"), bench.folder.join("arrived"));
        let start = Instant::now();
        bed.executor.suspend(attempt(), path.clone()).expect("it runs");
        let snapshot = bed.saved().await;
        let saved = start.elapsed();
        let gone = async {
            let event = bed.events.recv().await;
            assert!(matches!(event, Some(Event::Died { .. })), "{event:?}");
            start.elapsed()
        };
        let send = async {
            let to = arrived.clone();
            let digest = tokio::task::spawn_blocking(move || send(&path, &to)).await.expect("no panic").expect("it arrives");
            assert_eq!(digest, snapshot.blob.digest);
            start.elapsed()
        };
        let (gone, sent) = tokio::join!(gone, send);
        let mut there = bench.start().await;
        there.run(bench, &[7], Some(arrived));
        assert_eq!(there.output().await, [7]);
        let total = start.elapsed();
        snapshot_bytes = snapshot.blob.size_bytes;
        saves.push(saved);
        ends.push(gone - saved);
        sends.push(sent - saved);
        restores.push(total - sent);
        totals.push(total);
    }
    let megabytes = snapshot_bytes as f64 / 1e6;
    report.say(format_args!("moving 64 MiB of {name} ({megabytes:.1} MB as a snapshot), {count} times"));
    report.figure(format!("{name}: snapshot"), megabytes, "MB");
    let parts = [
        ("ask to suspended and written", saves),
        ("transfer on loopback", sends),
        ("start, restore, end", restores),
        ("in all", totals),
        ("memory back after it was written", ends),
    ];
    for (part, times) in parts {
        let times = Figures::of(times);
        report.say(format_args!("  {part:<34} {times}"));
        times.note(&format!("{name}: {part}"), report);
    }
    report.say(format_args!(
        "  {:.0} MB of the executor come back; the agent's side went from {:.1} to {:.1} MB",
        full_bytes as f64 / 1e6,
        own_bytes as f64 / 1e6,
        resident_bytes() as f64 / 1e6,
    ));
}

/// Sends a file over the loopback interface into another one; what arrived.
fn send(from: &Path, to: &Path) -> io::Result<Digest> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let from = from.to_owned();
    let sender = std::thread::spawn(move || -> io::Result<()> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        io::copy(&mut fs::File::open(from)?, &mut socket)?;
        socket.flush()
    });
    let (mut socket, _) = listener.accept()?;
    let (mut file, mut outline) = (fs::File::create(to)?, lull_shared::digest::OutlineBuilder::default());
    let mut piece = vec![0; 256 << 10];
    loop {
        let read = socket.read(&mut piece)?;
        if read == 0 {
            break;
        }
        outline.update(&piece[..read]);
        file.write_all(&piece[..read])?;
    }
    sender.join().expect("no panic")?;
    Ok(outline.finish().0.digest)
}

fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").expect("a process");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * rustix::param::page_size() as u64
}

/// Sorted times.
struct Figures(Vec<Duration>);

impl Figures {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn at(&self, share: f64) -> f64 {
        self.0
            .get((self.0.len().saturating_sub(1) as f64 * share).round() as usize)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    fn note(&self, name: &str, report: &mut Report) {
        for (figure, share) in [("median", 0.5), ("99th percentile", 0.99), ("at most", 1.0)] {
            report.figure(format!("{name}, {figure}"), self.at(share), "ms");
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, at most {:.2} ms", self.at(0.5), self.at(0.99), self.at(1.0))
    }
}
