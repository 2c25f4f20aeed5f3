//! Figures: what a task costs, how long one takes, how quickly results are listed, what an idle agent uses.
//!
//! ```sh
//! cargo bench -p lull-tests --bench figures                      # all
//! cargo bench -p lull-tests --bench figures -- cost --tasks 20000
//! cargo bench -p lull-tests --bench figures -- latency --parts  # and where it goes
//! ```
//! Real processes on loopback: a coordinator on the embedded store with `synchronous=FULL`, two agents with a slot
//! each, the shipped command line and its HTTP interface. Beside the cost of a task stand the floor of its store, the
//! same number of starts and ends committed to SQLite in batches by one thread, and two other queues where they are
//! installed (`apt install beanstalkd gearman-job-server`).

mod peers;
mod report;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use lull_agent::{
    config::Config,
    membership::{self, Membership},
};
use lull_engine::cache::Cache;
use lull_mesh::{Node, NodeConfig};
use lull_tests::{
    cluster::{Cluster, Programs, functions, module, text, wait_until},
    processes,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use report::{Manner, Report};

/// An agent has come to rest after this: executors have gone, and it looks at the machine every five seconds.
const SETTLED: Duration = Duration::from_secs(20);
const SETTLED_SHORT: Duration = Duration::from_secs(12);
/// What a task may cost, in microseconds of processor time of all processes, and how long one may take, in milliseconds.
const COST_MAX: f64 = 25.0;
const LATENCY_MEDIAN_MAX: f64 = 1.0;
const LATENCY_LAST_MAX: f64 = 15.0;
const PROGRAMS: Programs = Programs { lull: env!("CARGO_BIN_EXE_lull-e2e"), agent: env!("CARGO_BIN_EXE_lull-agent-e2e") };

#[derive(Parser)]
struct Arguments {
    /// Which figures; all if none is named.
    figures: Vec<Figure>,
    /// No-op tasks for the cost of a task: 100,000, and 10,000 in short.
    #[arg(long)]
    tasks: Option<u32>,
    /// Samples for the latency of one task: 300, and 100 in short.
    #[arg(long)]
    samples: Option<usize>,
    /// Where the latency of one task goes, by what the programs log at each step.
    #[arg(long)]
    parts: bool,
    /// Seconds to watch an idle agent: 120, and 15 in short.
    #[arg(long)]
    idle_seconds: Option<u64>,
    #[command(flatten)]
    manner: Manner,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Figure {
    Cost,
    Latency,
    Listing,
    Idle,
    Submit,
}

fn main() {
    let arguments = Arguments::parse();
    let manner = arguments.manner;
    let mut report = Report::new("figures", manner);
    let wanted = |figure| arguments.figures.is_empty() || arguments.figures.contains(&figure);
    let tasks = manner.choose(arguments.tasks, 100_000, 10_000).max(1);
    if wanted(Figure::Latency) {
        latency(manner.choose(arguments.samples, 300, 100).max(1), arguments.parts, &mut report);
    }
    if wanted(Figure::Cost) {
        cost(tasks, &mut report);
    }
    if wanted(Figure::Submit) {
        submit(&mut report);
    }
    if wanted(Figure::Listing) {
        listing(tasks, &mut report);
    }
    if wanted(Figure::Idle) {
        let seconds = manner.choose(arguments.idle_seconds, 120, 15).max(1);
        idle(Duration::from_secs(seconds), manner.choose(None, SETTLED, SETTLED_SHORT), &mut report);
    }
    report.end();
}

fn cluster_with_noop() -> Cluster {
    cluster_with_noop_logging("info")
}

fn cluster_with_noop_logging(log: &'static str) -> Cluster {
    let mut cluster = Cluster::start_logging(PROGRAMS, log);
    cluster.add_agent("north", 1, &[]);
    cluster.add_agent("south", 1, &[]);
    let form = fs::read_to_string(functions().join("fixtures/noop.wat")).expect("a fixture");
    let noop = module(cluster.path("").as_path(), "noop", &form);
    cluster.lull(&["func", "publish", text(&noop)]);
    // Warm: every agent has fetched and compiled it.
    run(&cluster, 200);
    cluster
}

fn run(cluster: &Cluster, tasks: u32) {
    let job = cluster.lull(&["submit", "noop", "--array", &format!("0-{}", tasks - 1), "-o", "id"]).out;
    cluster.lull(&["wait", job.trim(), "--timeout", "1h"]);
}

/// Processor time of all processes for one no-op task, a fresh instance each, each result durable.
fn cost(tasks: u32, report: &mut Report) {
    let cluster = cluster_with_noop();
    let pids = cluster.pids();
    let before: Vec<Duration> = pids.iter().map(|(_, pid)| processes::cpu_of_tree(*pid)).collect();
    let began = Instant::now();
    run(&cluster, tasks);
    let wall = began.elapsed();
    let per_task = |cpu: Duration| cpu.as_secs_f64() * 1e6 / f64::from(tasks);
    let mut all = Duration::ZERO;
    let each = "us a task";
    report.say(format_args!(
        "cost of a task ({tasks} no-op tasks, two agents with one slot each, synchronous=FULL), in processor time, the command \
         line's own not counted"
    ));
    for ((name, pid), before) in pids.iter().zip(before) {
        let cpu = processes::cpu_of_tree(*pid).saturating_sub(before);
        all += cpu;
        report.line(&format!("cost: {name}"), per_task(cpu), each);
    }
    report.line_at_most("cost: together", per_task(all), each, COST_MAX);
    report.line("cost: throughput", f64::from(tasks) / wall.as_secs_f64(), "tasks/s");
    let (cpu, wall) = store_floor(tasks);
    // SQLite alone: insert and update in batches of 100, synchronous=FULL.
    report.line("cost: store floor", per_task(cpu), each);
    report.line("cost: store floor, throughput", f64::from(tasks) / wall.as_secs_f64(), "tasks/s");
    let folder = tempfile::tempdir().expect("a folder");
    // Each of its writes is synchronised: at the full number it would take minutes.
    let fewer = (tasks / 20).max(100);
    peer("beanstalkd, log with fsync, executes nothing", fewer, peers::beanstalkd(folder.path(), fewer), report);
    peer("Gearman, in memory, executes nothing", tasks, peers::gearman(tasks), report);
}

fn peer(name: &str, tasks: u32, price: Option<peers::Price>, report: &mut Report) {
    let Some(peers::Price { cpu, wall }) = price else {
        return report.say(format_args!("  NOT MEASURED: {name} (not installed)"));
    };
    let (cpu, rate) = (cpu.as_secs_f64() * 1e6 / f64::from(tasks), f64::from(tasks) / wall.as_secs_f64());
    report.say(format_args!("  {name}: {cpu:.1} us a task, {rate:.0} tasks/s ({tasks} tasks)"));
    report.figure(format!("cost: {name}"), cpu, "us a task");
    report.figure(format!("cost: {name}, throughput"), rate, "tasks/s");
}

/// The least that any durable queue on SQLite pays: a row inserted, then updated, in batches.
fn store_floor(tasks: u32) -> (Duration, Duration) {
    let folder = tempfile::tempdir().expect("a folder");
    let database = rusqlite::Connection::open(folder.path().join("floor.db")).expect("a database");
    database
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t(a INTEGER PRIMARY KEY, s INTEGER, r BLOB);",
        )
        .expect("a table");
    let before = processes::cpu_of_tree(std::process::id());
    let began = Instant::now();
    for batch in (0..tasks).step_by(100) {
        let last = (batch + 100).min(tasks);
        database.execute_batch("BEGIN").expect("begun");
        let mut insert = database.prepare_cached("INSERT INTO t VALUES(?1, 0, NULL)").expect("prepared");
        for task in batch..last {
            insert.execute([task]).expect("inserted");
        }
        database.execute_batch("COMMIT; BEGIN").expect("committed");
        let mut update = database.prepare_cached("UPDATE t SET s = 1, r = x'00' WHERE a = ?1").expect("prepared");
        for task in batch..last {
            update.execute([task]).expect("updated");
        }
        database.execute_batch("COMMIT").expect("committed");
    }
    (processes::cpu_of_tree(std::process::id()).saturating_sub(before), began.elapsed())
}

/// When a task was asked for, taken in and known to have succeeded, in microseconds since the epoch.
struct Sample {
    began: u64,
    submitted: u64,
    ended: u64,
}

/// From the request that submits one warm no-op to the answer that its result is durable, over one connection.
fn latency(samples: usize, parts: bool, report: &mut Report) {
    let cluster = cluster_with_noop_logging(if parts { "info,parts=trace" } else { "info" });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let taken = runtime.block_on(async {
        // The client wants one even for plain HTTP; one that is there already is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (client, url, token) = (reqwest::Client::new(), cluster.url(), cluster.admin_token());
        let json = async |request: reqwest::RequestBuilder| -> Value {
            request.bearer_auth(&token).send().await.expect("sent").json().await.expect("JSON")
        };
        let mut taken = Vec::with_capacity(samples);
        for _ in 0..samples {
            let began = now_us();
            let body = json!({ "function": "noop", "inputs": { "range": { "first": 0, "count": 1 } } });
            let submitted = json(client.post(format!("{url}/api/v1/jobs")).json(&body)).await;
            let job = submitted["job"].as_str().unwrap_or_else(|| panic!("no job in {submitted}"));
            let submitted = now_us();
            let waited = json(client.get(format!("{url}/api/v1/jobs/{job}/wait?timeout_s=60"))).await;
            assert_eq!(waited["state"], "succeeded", "{waited}");
            taken.push(Sample { began, submitted, ended: now_us() });
        }
        taken
    });
    let percentile = |mut times: Vec<u64>, share: f64| {
        times.sort_unstable();
        times[((times.len() - 1) as f64 * share) as usize] as f64 / 1e3
    };
    let all = || taken.iter().map(|sample| sample.ended - sample.began).collect::<Vec<_>>();
    report.say(format_args!("latency of one warm no-op, submit to durable result over HTTP ({samples} samples)"));
    report.line("latency: least", percentile(all(), 0.0), "ms");
    report.line_at_most("latency: median", percentile(all(), 0.5), "ms", LATENCY_MEDIAN_MAX);
    report.line("latency: 90th percentile", percentile(all(), 0.9), "ms");
    report.line_at_most("latency: 99th percentile", percentile(all(), 0.99), "ms", LATENCY_LAST_MAX);
    report.line("latency: most", percentile(all(), 1.0), "ms");
    // The submission and the result are each on the disk before anybody is told: no answer can come sooner than that.
    report.line("latency: the disk's part of it, two writes", 2.0 * percentile(disk_floor(), 0.5), "ms");
    if !parts {
        return;
    }
    let logs = ["server", "north", "south"].map(|name| (name, steps(&fs::read_to_string(cluster.log_of(name)).expect("a log"))));
    let mut reached: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for sample in &taken {
        reached.entry("client: submission answered".into()).or_default().push(sample.submitted - sample.began);
        reached.entry("client: result known".into()).or_default().push(sample.ended - sample.began);
        for (name, steps) in &logs {
            let side = if *name == "server" { "coordinator" } else { "agent" };
            let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
            for (at, step) in steps.iter().filter(|(at, _)| (sample.began..sample.ended).contains(at)) {
                let count = seen.entry(step).or_default();
                *count += 1;
                let again = if *count > 1 { format!(" ({count})") } else { String::new() };
                reached.entry(format!("{side}: {step}{again}")).or_default().push(at - sample.began);
            }
        }
    }
    // What happens in fewer than half of the samples is not on the way of a task.
    reached.retain(|_, times| times.len() * 2 > taken.len());
    let mut medians: Vec<(f64, String)> = reached.into_iter().map(|(step, times)| (percentile(times, 0.5), step)).collect();
    medians.sort_by(|a, b| a.0.total_cmp(&b.0));
    report.say("  its parts, by the median time of each step and since the step before it:");
    let mut before = 0.0;
    for (at, step) in medians {
        report.say(format_args!("    {at:>7.3} ms {:>+8.3}   {step}", at - before));
        report.figure(format!("latency: {step}"), at, "ms");
        before = at;
    }
}

/// How long this disk takes to keep what a small commit appends to a log, in microseconds.
fn disk_floor() -> Vec<u64> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = fs::File::create(folder.path().join("floor.log")).expect("a file");
    let kept = |_| {
        log.write_all(&[1; 16 << 10]).expect("written");
        let began = Instant::now();
        log.sync_data().expect("kept");
        began.elapsed().as_micros() as u64
    };
    (0..100).map(kept).collect()
}

/// The steps that a program has logged, in microseconds since the epoch.
fn steps(log: &str) -> Vec<(u64, String)> {
    let step = |line: &str| {
        let (head, step) = line.split_once(" parts: ")?;
        let at: jiff::Timestamp = head.split_whitespace().next()?.parse().ok()?;
        Some((u64::try_from(at.as_microsecond()).ok()?, step.trim().to_owned()))
    };
    log.lines().filter_map(step).collect()
}

fn now_us() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_micros() as u64)
}

/// How long the command line takes to show a job's results, beside the time that its tasks took.
fn listing(tasks: u32, report: &mut Report) {
    let cluster = cluster_with_noop();
    let began = Instant::now();
    let job = cluster.lull(&["submit", "noop", "--array", &format!("0-{}", tasks - 1), "-o", "id"]).out;
    cluster.lull(&["wait", job.trim(), "--timeout", "1h"]);
    let ran = began.elapsed();
    report.say(format_args!("listing a job of {tasks} tasks, which took {:.2} s", ran.as_secs_f64()));
    for format in ["table", "id", "jsonl", "json"] {
        let began = Instant::now();
        cluster.lull(&["job", "results", job.trim(), "-o", format]);
        let share = began.elapsed().as_secs_f64() / ran.as_secs_f64();
        report.line_at_most(&format!("listing: -o {format}"), share, "of that time", 1.0);
    }
}

/// An agent that is connected to a coordinator and to another agent, and has nothing to do any more.
fn idle(watch: Duration, settled: Duration, report: &mut Report) {
    let mut cluster = cluster_with_noop();
    // It listens from its next start on, and runs what makes a machine that has worked before.
    cluster.kill_agent("north");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().expect("an address").port());
    drop(listener);
    fs::write(cluster.path("north").join("agent.toml"), format!("listen = [\"{address}\"]\n")).expect("written");
    cluster.start_agent("north");
    run(&cluster, 2_000);
    let pid = cluster.agent_pid("north");
    let peer = cluster.agent_says("north", &["status", "-o", "json"]).json()["peer"].as_str().expect("a peer").to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let shutdown = CancellationToken::new();
    let _other = runtime.block_on(connect(&cluster, &format!("{address}/p2p/{peer}"), shutdown.clone()));
    wait_until("executors have gone", || processes::children(pid).is_empty(), || format!("{:?}", processes::children(pid)));
    // These are the measurement itself, not a wait for something: it comes to rest, then it is watched.
    std::thread::sleep(settled);
    let before = processes::cpu_of_tree(pid);
    std::thread::sleep(watch);
    let cpu = processes::cpu_of_tree(pid).saturating_sub(before);
    let memory = processes::memory(pid);
    report
        .say(format_args!("idle agent, connected to a coordinator and an agent, sensors on, watched for {} s", watch.as_secs()));
    report.line_at_most("idle: resident", memory.resident_bytes as f64 / 1e6, "MB", 16.0);
    report.line("idle: its own", memory.anonymous_bytes as f64 / 1e6, "MB");
    let shared = (memory.resident_bytes - memory.anonymous_bytes) as f64 / 1e6;
    report.line("idle: files, shared with others", shared, "MB");
    report.line_at_most("idle: processor time", cpu.as_secs_f64() * 1e3 * 60.0 / watch.as_secs_f64(), "ms a minute", 15.0);
    shutdown.cancel();
}

/// A third member in this process, connected to an address.
async fn connect(cluster: &Cluster, address: &str, shutdown: CancellationToken) -> Node {
    let data = cluster.path("other");
    cluster.agent_says("other", &["join", &cluster.join_token(1), "--name", "other"]).ok();
    let membership = Membership::load(&data).expect("it has joined");
    let config = NodeConfig {
        identity: membership::identity(&data).expect("an identity"),
        network: membership.network,
        authority: membership.authority,
        certificate: Some(membership.certificate),
        listen: Vec::new(),
        mdns: false,
        reads_capacity: false,
        software: "figures".into(),
        revoked: Default::default(),
        members: Default::default(),
        uploads: Config::default().uploads(),
    };
    let cache = Cache::open(&data.join("cache"), 1 << 20).expect("a folder");
    let node = Node::start(config, Arc::new(cache), shutdown).await.expect("it starts");
    node.handle.connect(address.parse().expect("an address")).await.expect("connected");
    node
}

/// A million-element array: how long until the command line says its number, and what the coordinator's memory grows by.
fn submit(report: &mut Report) {
    const TASKS: u32 = 1_000_000;
    let cluster = Cluster::start(PROGRAMS);
    let form = fs::read_to_string(functions().join("fixtures/noop.wat")).expect("a fixture");
    let noop = module(cluster.path("").as_path(), "noop", &form);
    cluster.lull(&["func", "publish", text(&noop)]);
    let server = cluster.pids()[0].1;
    let before = processes::memory(server).resident_bytes;
    let began = Instant::now();
    cluster.lull(&["submit", "noop", "--array", &format!("0-{}", TASKS - 1), "-o", "id"]);
    let took = began.elapsed();
    let grown = processes::memory(server).resident_bytes.saturating_sub(before);
    report.say(format_args!("submitting an array of {TASKS} tasks"));
    report.line("submit: until the command ends", took.as_secs_f64() * 1e3, "ms");
    report.line("submit: memory", grown as f64 / f64::from(TASKS), "bytes a task");
}
