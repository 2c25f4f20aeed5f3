//! How fast the owner gets the machine back, from the moving mouse to the last instruction of the last function.
//!
//! ```sh
//! cargo bench -p lull-tests --bench owner          # needs xvfb and xdotool
//! ```
//! A real agent on a virtual display, all of its slots in tight loops that read the clock, two for each processor. The
//! mouse is moved by the X test extension; the clock is read before that is asked for. Every guest notes the last time
//! that it read before each gap: its last instruction, told by itself. A few times the mouse has rested for a minute
//! before: then it was a bumped desk, and how long it takes until everything runs again is printed too.
//!
//! The guests tell when they end, so the mouse is moved in rounds, each with a job of its own: the first is short, so
//! that the first figures come within a minute, and each prints what holds so far.

mod report;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, UNIX_EPOCH},
};

use clap::Parser;
use lull_tests::{
    cluster::{Cluster, Programs, functions, module, text, wait_until},
    processes,
};

use report::{Goal, Manner, Report};

const PROGRAMS: Programs = Programs { lull: env!("CARGO_BIN_EXE_lull-e2e"), agent: env!("CARGO_BIN_EXE_lull-agent-e2e") };
/// How long everything runs between two movements.
const RUNNING: Duration = Duration::from_secs(1);
/// After this rest a single movement is a bump: the guard's minute and some.
const REST: Duration = Duration::from_secs(62);
/// How long somebody who moved the mouse sooner is taken to be there: the policy's five seconds and some.
const PRESENT: Duration = Duration::from_millis(5_500);

/// Movements of the first round, and of each later one.
const FIRST: usize = 3;
const LATER: usize = 10;
/// What one movement may take longer than planned before the guests end, and what their beginning may.
const LATE: Duration = Duration::from_millis(500);
const BEGINNING: Duration = Duration::from_secs(3);

#[derive(Parser)]
struct Arguments {
    /// How often the mouse moves: 40 times, and 3 in short.
    #[arg(long)]
    pauses: Option<usize>,
    /// How often it does so after a minute's rest: 3 times, and never in short.
    #[arg(long)]
    bumps: Option<usize>,
    #[command(flatten)]
    manner: Manner,
}

fn main() {
    let arguments = Arguments::parse();
    let mut report = Report::new("owner", arguments.manner);
    let pauses = vec![RUNNING; arguments.manner.choose(arguments.pauses, 40, FIRST)];
    let bumps = vec![REST; arguments.manner.choose(arguments.bumps, 3, 0)];
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut desk = Desk::start(2 * processors);
    let (first, later) = pauses.split_at(FIRST.min(pauses.len()));
    let rounds = [first].into_iter().chain(later.chunks(LATER)).chain([&bumps[..]]).filter(|rests| !rests.is_empty());
    let (mut tally, mut resumed) = (Tally::default(), Vec::new());
    for rests in rounds {
        resumed.extend(desk.round(rests, &mut tally));
        tally.say(desk.slots, processors, &report);
    }
    if !resumed.is_empty() {
        let figures = Figures::of(resumed);
        let verdict = report.goal("runs again after a bump, at most", figures.at(1.0), "ms", Goal::AtMost(2e3));
        report
            .say(format_args!("a bump after a minute's rest: everything runs again after {figures}   target <= 2 s: {verdict}"));
    }
    tally.note(&mut report);
    report.end();
}

/// A machine whose mouse moves, with an agent whose every slot is busy.
struct Desk {
    cluster: Cluster,
    mouse: Mouse,
    slots: usize,
    rounds: usize,
}

impl Desk {
    fn start(slots: usize) -> Self {
        let mouse = Mouse::start();
        let mut cluster = Cluster::start(PROGRAMS);
        cluster.enrol_agent("desk", slots as u16, &[]);
        cluster.launch_agent_on("desk", "machine", &[("DISPLAY", &mouse.display)]);
        let status = || cluster.agent_says("desk", &["status"]);
        wait_until("it answers", || status().code == 0, || status().err);
        cluster.agent_says("desk", &["policy", "set", "idle=5s", "beside_owner=false", "unseen=false", "grace=1h"]).ok();
        let words = "keyboard, mouse and full screen of its display, by X11";
        wait_until("it sees the mouse", || status().out.contains(words), || status().out);
        let text_form = fs::read_to_string(functions().join("fixtures/watcher.wat")).expect("a fixture");
        let watcher = module(cluster.path("").as_path(), "watcher", &text_form);
        cluster.lull(&["func", "publish", text(&watcher)]);
        Self { cluster, mouse, slots, rounds: 0 }
    }

    /// Moves the mouse after each of these rests; how long it took after each bump until everything ran again.
    fn round(&mut self, rests: &[Duration], tally: &mut Tally) -> Vec<Duration> {
        self.rounds += 1;
        let (cluster, slots) = (&self.cluster, self.slots);
        let length = rests.iter().map(|rest| *rest + PRESENT + LATE).sum::<Duration>() + BEGINNING;
        let end_ns = now_ns() + length.as_nanos() as u64;
        let inputs: Vec<_> = (0..slots).map(|slot| cluster.path(&format!("end-{}-{slot}", self.rounds))).collect();
        inputs.iter().for_each(|path| fs::write(path, end_ns.to_le_bytes()).expect("written"));
        let submit = ["submit", "watcher", "--grant", "clock", "--time-limit", "10h", "-o", "id"];
        let submit: Vec<&str> = submit.into_iter().chain(inputs.iter().map(text)).collect();
        let job = cluster.lull(&submit).out.trim().to_owned();
        let status = || cluster.agent_says("desk", &["status"]).out;
        let frozen = || {
            let executors = processes::children(cluster.agent_pid("desk"));
            executors.iter().filter(|pid| processes::is_stopped(**pid)).count()
        };
        let all_run = || processes::children(cluster.agent_pid("desk")).len() == slots && frozen() == 0;
        wait_until("every slot is busy", all_run, status);
        let (mut moved, mut resumed) = (Vec::new(), Vec::new());
        for rest in rests.iter().filter(|rest| now_ns() + (**rest + PRESENT).as_nanos() as u64 <= end_ns) {
            std::thread::sleep(*rest);
            let start = now_ns();
            self.mouse.nudge();
            moved.push(start);
            wait_until("every slot is frozen", || frozen() == slots, status);
            wait_until("every slot runs again", all_run, status);
            if *rest == REST {
                resumed.push(Duration::from_nanos(now_ns() - start));
            }
        }
        cluster.wait_for_job(&job, "the guests end", |job| job["state"] != "active");
        tally.add(&gaps(cluster, &job), &moved);
        resumed
    }
}

/// A guest's pauses: the last time that it read before each, and the first one after it.
type Gaps = Vec<(u64, u64)>;

fn gaps(cluster: &Cluster, job: &str) -> Vec<Gaps> {
    let folder = cluster.path(&format!("out-{job}"));
    cluster.lull(&["job", "results", job, "--out", text(&folder)]);
    let files = fs::read_dir(&folder).expect("results").map(|entry| entry.expect("an entry").path());
    let read = |path| {
        let bytes: Vec<u8> = fs::read(path).expect("a result");
        let pairs = bytes.chunks_exact(16).map(|gap| {
            let time = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| gap[at + i]));
            (time(0), time(8))
        });
        pairs.collect()
    };
    files.map(read).collect()
}

/// What the guests told.
#[derive(Default)]
struct Tally {
    moved: usize,
    /// The last instruction of each, and of the last of them, after each movement.
    lasts: Vec<Duration>,
    worst: Vec<Duration>,
    /// Those that had no processor just then.
    waiting: usize,
}

impl Tally {
    fn add(&mut self, guests: &[Gaps], moved: &[u64]) {
        self.moved += moved.len();
        for start in moved {
            // All are frozen half a second after the mouse moved; who was not has a gap elsewhere and is found out here.
            let within = start + 500_000_000;
            let of_one = guests.iter().map(|gaps| {
                let gap = gaps.iter().find(|(last, next)| *last < within && *next >= within).expect("it is frozen by then");
                self.waiting += usize::from(gap.0 < *start);
                Duration::from_nanos(gap.0.saturating_sub(*start))
            });
            let of_one: Vec<_> = of_one.collect();
            self.worst.extend(of_one.iter().max());
            self.lasts.extend(of_one);
        }
    }

    fn say(&self, slots: usize, processors: usize, report: &Report) {
        report.say(format_args!(
            "{slots} tight loops on {processors} processors, the mouse moved {} times; {:.0} % had no processor just then",
            self.moved,
            self.waiting as f64 * 100.0 / self.lasts.len().max(1) as f64
        ));
        report.say(format_args!("  last instruction of each:        {}", Figures::of(self.lasts.clone())));
        let worst = Figures::of(self.worst.clone());
        report.say(format_args!("  last instruction of any of them: {worst}   target p50 <= 2 ms, p99 <= 10 ms"));
    }

    fn note(self, report: &mut Report) {
        let (lasts, worst) = (Figures::of(self.lasts), Figures::of(self.worst));
        report.figure("last instruction of each, median", lasts.at(0.5), "ms");
        report.figure("last instruction of each, 99th percentile", lasts.at(0.99), "ms");
        report.goal("last instruction of any, median", worst.at(0.5), "ms", Goal::AtMost(2.0));
        report.goal("last instruction of any, 99th percentile", worst.at(0.99), "ms", Goal::AtMost(10.0));
    }
}

/// A display without a screen, and a hand on its mouse.
struct Mouse {
    display: String,
    hand: Child,
    answers: BufReader<std::process::ChildStdout>,
    server: Child,
    at: u32,
}

impl Mouse {
    fn start() -> Self {
        let arguments = ["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"];
        let piped = |command: &mut Command| {
            let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
            spawned.expect("xvfb and xdotool are installed: apt install xvfb xdotool")
        };
        let mut server = piped(Command::new("Xvfb").args(arguments));
        let mut number = String::new();
        BufReader::new(server.stdout.take().expect("piped")).read_line(&mut number).expect("its number");
        let display = format!(":{}", number.trim());
        let mut hand = piped(Command::new("xdotool").arg("-").env("DISPLAY", &display));
        let answers = BufReader::new(hand.stdout.take().expect("piped"));
        Self { display, hand, answers, server, at: 10 }
    }

    /// Moves the mouse a little.
    fn nudge(&mut self) {
        self.at = if self.at > 400 { 10 } else { self.at + 7 };
        let hand = self.hand.stdin.as_mut().expect("piped");
        writeln!(hand, "mousemove {0} {0} getmouselocation", self.at).and_then(|()| hand.flush()).expect("it takes orders");
        let mut there = String::new();
        self.answers.read_line(&mut there).expect("it moved");
    }
}

impl Drop for Mouse {
    fn drop(&mut self) {
        for child in [&mut self.hand, &mut self.server] {
            // They may have ended by themselves.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn now_ns() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64)
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
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, at most {:.2} ms", self.at(0.5), self.at(0.99), self.at(1.0))
    }
}
