//! How fast the owner gets the machine back, from the moving mouse to the last instruction of the last function.
//!
//! ```sh
//! cargo bench -p lull-tests --bench owner          # needs xvfb and xdotool
//! ```
//! A real agent on a virtual display, all of its slots in tight loops that read the clock, two for each processor. The
//! mouse is moved by the X test extension; the clock is read before that is asked for. Every guest notes the last time
//! that it read before each gap: its last instruction, told by itself. A few times the mouse has rested for a minute
//! before: then it was a bumped desk, and how long it takes until everything runs again is printed too.

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

const PROGRAMS: Programs = Programs { lull: env!("CARGO_BIN_EXE_lull-e2e"), agent: env!("CARGO_BIN_EXE_lull-agent-e2e") };
/// How long everything runs between two movements.
const RUNNING: Duration = Duration::from_secs(1);
/// After this rest a single movement is a bump: the guard's minute and some.
const REST: Duration = Duration::from_secs(62);
/// How long somebody who moved the mouse sooner is taken to be there: the policy's five seconds and some.
const PRESENT: Duration = Duration::from_millis(5_500);

#[derive(Parser)]
struct Arguments {
    /// How often the mouse moves.
    #[arg(long, default_value_t = 40)]
    pauses: u32,
    /// How often it does so after a minute's rest.
    #[arg(long, default_value_t = 3)]
    bumps: u32,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average {}", load.split(' ').next().unwrap_or_default());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let slots = 2 * processors;
    let mut mouse = Mouse::start();

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
    let rests =
        std::iter::repeat_n(RUNNING, arguments.pauses as usize).chain(std::iter::repeat_n(REST, arguments.bumps as usize));
    let length = rests.clone().map(|rest| rest + PRESENT).sum::<Duration>() + Duration::from_secs(20);
    let end_ns = now_ns() + length.as_nanos() as u64;
    let inputs: Vec<_> = (0..slots).map(|slot| cluster.path(&format!("end-{slot}"))).collect();
    inputs.iter().for_each(|path| fs::write(path, end_ns.to_le_bytes()).expect("written"));
    let submit = ["submit", "watcher", "--grant", "clock", "--time-limit", "10h", "-o", "id"];
    let submit: Vec<&str> = submit.into_iter().chain(inputs.iter().map(text)).collect();
    let job = cluster.lull(&submit).out.trim().to_owned();
    let frozen = || {
        let executors = processes::children(cluster.agent_pid("desk"));
        executors.iter().filter(|pid| processes::is_stopped(**pid)).count()
    };
    let all_run = || processes::children(cluster.agent_pid("desk")).len() == slots && frozen() == 0;
    wait_until("every slot is busy", all_run, || status().out);

    let (mut moved, mut resumed) = (Vec::new(), Vec::new());
    for rest in rests.filter(|rest| now_ns() + (*rest + PRESENT).as_nanos() as u64 <= end_ns) {
        std::thread::sleep(rest);
        let start = now_ns();
        mouse.nudge();
        moved.push(start);
        wait_until("every slot is frozen", || frozen() == slots, || status().out);
        wait_until("every slot runs again", all_run, || status().out);
        if rest == REST {
            resumed.push(Duration::from_nanos(now_ns() - start));
        }
    }
    cluster.wait_for_job(&job, "the guests end", |job| job["state"] != "active");
    report(&gaps(&cluster, &job), &moved, processors);
    if !resumed.is_empty() {
        println!("a bump after a minute's rest: everything runs again after {}   target <= 2 s", Figures::of(resumed));
    }
}

/// A guest's pauses: the last time that it read before each, and the first one after it.
type Gaps = Vec<(u64, u64)>;

fn gaps(cluster: &Cluster, job: &str) -> Vec<Gaps> {
    let folder = cluster.path("out");
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

fn report(guests: &[Gaps], moved: &[u64], processors: usize) {
    let (mut lasts, mut waiting) = (Vec::new(), 0);
    let mut worst = Vec::new();
    for start in moved {
        // All are frozen half a second after the mouse moved; who was not has a gap elsewhere and is found out here.
        let within = start + 500_000_000;
        let of_one = guests.iter().map(|gaps| {
            let gap = gaps.iter().find(|(last, next)| *last < within && *next >= within).expect("it is frozen by then");
            waiting += u32::from(gap.0 < *start);
            Duration::from_nanos(gap.0.saturating_sub(*start))
        });
        let of_one: Vec<_> = of_one.collect();
        worst.extend(of_one.iter().max());
        lasts.extend(of_one);
    }
    println!(
        "{} tight loops on {processors} processors, the mouse moved {} times; {:.0} % had no processor just then",
        guests.len(),
        moved.len(),
        f64::from(waiting) * 100.0 / lasts.len() as f64
    );
    println!("  last instruction of each:        {}", Figures::of(lasts));
    println!("  last instruction of any of them: {}   target p50 <= 2 ms, p99 <= 10 ms", Figures::of(worst));
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
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, at most {:.2} ms", at(0.5), at(0.99), at(1.0))
    }
}
