//! How fast the owner gets the machine back, and what it costs to carry a running attempt to another one.
//!
//! ```sh
//! cargo bench -p lull-agent --bench moving
//! ```
//! *Pausing*: as many guests as twice the processors compute in tight loops, all are frozen at once, and their clocks of
//! processor time are read until they stand still: the last time one was seen to move is the last guest instruction, to
//! within the time of one reading. *Moving*: a guest that fills 64 MiB is suspended, its snapshot goes over a TCP
//! connection on the loopback interface into another file, hashed on arrival, and another process goes on from it and
//! ends. Executors run at the priority that they have beside an owner, or with `--normal` like any program.

// Only the cores deny these; see `clippy.toml`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use lull_agent::executor::{
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
    /// How often each is done.
    #[arg(long, default_value_t = 15)]
    repetitions: usize,
    /// How often all are frozen.
    #[arg(long, default_value_t = 300)]
    pauses: usize,
    /// Executors like any program, instead of behind all others.
    #[arg(long)]
    normal: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average {}", load.split(' ').next().unwrap_or_default());
    let folder = tempfile::tempdir().expect("a folder");
    let priority = if arguments.normal { Priority::Normal } else { Priority::Idle };
    pauses(&Bench::new(&guest(1, "(local.get $x)"), folder.path(), priority), arguments.pauses).await;
    asks(&Bench::new(&guest(1, "(local.get $x)"), folder.path(), priority), arguments.pauses).await;
    for (name, word) in FILLS {
        let bench = Bench::new(&guest(GUEST_BYTES / 65536, word), folder.path(), priority);
        moves(name, &bench, arguments.repetitions).await;
    }
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

/// Freezing all of them, again and again.
async fn pauses(bench: &Bench, count: usize) {
    let slots = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    let mut beds = Vec::new();
    for _ in 0..slots {
        beds.push(bench.running(&[]).await);
    }
    let clocks = beds.iter().map(|bed| Clock::of(bed.executor.pid())).collect::<Vec<_>>();
    let (mut last_moves, mut readings) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let before = clocks.iter().map(Clock::read).collect::<Vec<_>>();
        // All of them are on their way again.
        while clocks.iter().zip(&before).any(|(clock, before)| clock.read() == *before) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let start = Instant::now();
        for bed in &beds {
            bed.executor.freeze().expect("it lives");
        }
        let mut seen = clocks.iter().map(|clock| (clock.read(), start.elapsed())).collect::<Vec<_>>();
        let mut looked = 0_u32;
        while start.elapsed() < Duration::from_millis(30) {
            for (clock, seen) in clocks.iter().zip(&mut seen) {
                let now = clock.read();
                if now != seen.0 {
                    *seen = (now, start.elapsed());
                }
            }
            looked += 1;
        }
        readings.push(Duration::from_millis(30) / looked.max(1));
        last_moves.extend(seen.into_iter().map(|(_, at)| at));
        for bed in &beds {
            bed.executor.thaw().expect("it lives");
        }
    }
    println!(
        "pausing {slots} tight loops on {} processors, {count} times: last guest instruction after {}; a reading takes {:.0} us",
        slots / 2,
        Figures::of(last_moves),
        readings.iter().sum::<Duration>().as_secs_f64() * 1e6 / count as f64,
    );
}

/// A process's clock of processor time, which is exact while it runs.
struct Clock(libc::clockid_t);

impl Clock {
    fn of(pid: u32) -> Self {
        let mut clock = 0;
        // SAFETY: the clock's number is written to a valid place.
        let failed = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &mut clock) };
        assert_eq!(failed, 0, "the process lives");
        Self(clock)
    }

    fn read(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the structure is valid, and a failure leaves the zero in it.
        unsafe { libc::clock_gettime(self.0, &mut time) };
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    }
}

/// Asking a small guest for snapshots: the time of the flag, of unwinding, and of everything that does not grow with it.
async fn asks(bench: &Bench, count: usize) {
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
    println!("checkpoint of 64 KiB, from the ask to the file, {count} times: {}", Figures::of(times));
}

/// Moving a guest of 64 MiB.
async fn moves(name: &str, bench: &Bench, count: usize) {
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
        let executor = bed.executor;
        let gone = async {
            while let Some(event) = bed.events.recv().await {
                assert!(matches!(event, Event::Died { .. }), "{event:?}");
            }
            start.elapsed()
        };
        let send = async {
            let to = arrived.clone();
            let digest = tokio::task::spawn_blocking(move || send(&path, &to)).await.expect("no panic").expect("it arrives");
            assert_eq!(digest, snapshot.blob.digest);
            start.elapsed()
        };
        let (gone, sent) = tokio::join!(gone, send);
        drop(executor);
        let mut there = bench.start().await;
        there.run(bench, &[7], Some(arrived));
        let finished = loop {
            match there.events.recv().await {
                Some(Event::Started { .. }) => {}
                Some(Event::Finished(finished)) => break finished,
                other => panic!("{other:?}"),
            }
        };
        let total = start.elapsed();
        assert!(matches!(finished.outcome, Ok(Output::Inline(_))), "{finished:?}");
        snapshot_bytes = snapshot.blob.size_bytes;
        saves.push(saved);
        ends.push(gone - saved);
        sends.push(sent - saved);
        restores.push(total - sent);
        totals.push(total);
    }
    println!("moving 64 MiB of {name} ({:.1} MB as a snapshot), {count} times", snapshot_bytes as f64 / 1e6);
    println!("  ask to suspended and written   {}", Figures::of(saves));
    println!("  transfer on loopback           {}", Figures::of(sends));
    println!("  start, restore, end            {}", Figures::of(restores));
    println!("  in all                         {}", Figures::of(totals));
    println!(
        "  {:.0} MB of the executor back {} after it was written; the agent's side went from {:.1} to {:.1} MB",
        full_bytes as f64 / 1e6,
        Figures::of(ends),
        own_bytes as f64 / 1e6,
        resident_bytes() as f64 / 1e6,
    );
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
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, at most {:.2} ms", at(0.5), at(0.99), at(1.0))
    }
}
