//! Puts plausible faults into the code and sees whether the tests notice.
//!
//! ```sh
//! cargo run --release --manifest-path tests/mutants/Cargo.toml -- --sample 100 --seed 7
//! cargo run --release --manifest-path tests/mutants/Cargo.toml -- --changed origin/main
//! ```
//! Many faults are built in at once, each behind a question that an environment variable answers, so that a fault costs the
//! time of its tests and no build. A fault is noticed when a test of its area fails, hangs or crashes; if none does and the
//! simulator drives the area, a few short nights are simulated with it. What survives is listed with its place, and
//! with the reason from `accepted.txt` if it cannot matter.

mod areas;
mod find;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use areas::Area;
use find::{Fault, module_paths};
use tree::Tree;

/// Nights that are simulated for a fault that no test noticed.
const NIGHTS: [&str; 3] = ["1", "2", "3"];
/// What happens in each of them.
const NIGHT: [&str; 12] =
    ["--agents", "12", "--tasks", "240", "--hours", "2", "--faults", "harsh", "--audit-every", "20", "--shrink-seconds", "0"];
/// A night takes seconds.
const NIGHT_PATIENCE: Duration = Duration::from_secs(300);
/// Tests that are asked before all others: those that noticed the most.
const KILLERS_MAX: usize = 40;
/// A run may take so many times as long as without a fault, and a minute.
const PATIENCE: u32 = 5;

/// Puts plausible faults into the code, one at a time, and says which of them the tests do not notice.
#[derive(Parser)]
struct Arguments {
    /// So many faults, drawn from all that could be there.
    #[arg(long, conflicts_with = "changed")]
    sample: Option<usize>,
    /// What is drawn follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Faults in the lines that differ from this commit.
    #[arg(long, value_name = "COMMIT")]
    changed: Option<String>,
    /// Only in files whose path begins so.
    #[arg(long, value_name = "PATH")]
    only: Vec<String>,
    /// List the faults and try none.
    #[arg(long)]
    list: bool,
    /// Runs at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Fails if less than this share of the faults that matter was noticed, in percent.
    #[arg(long, default_value_t = 100.0)]
    least: f64,
    /// Do not simulate nights for what no test noticed.
    #[arg(long)]
    no_nights: bool,
    /// Where the copy of the repository and its build are kept.
    #[arg(long, default_value = "target/mutants", value_name = "DIR")]
    place: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Noticed,
    /// It did not end in time.
    Hung,
    Survived,
}

fn main() -> anyhow::Result<ExitCode> {
    let (arguments, began) = (Arguments::parse(), Instant::now());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let mut faults = all(&repository, &arguments.only)?;
    let possible = faults.len();
    if let Some(commit) = &arguments.changed {
        let lines = changed(&repository, commit)?;
        faults.retain(|fault| lines.get(&fault.file).is_some_and(|lines| lines.contains(&fault.line)));
    }
    if let Some(sample) = arguments.sample {
        faults.shuffle(&mut ChaCha8Rng::seed_from_u64(arguments.seed));
        // Some do not compile.
        faults.truncate(sample + sample / 2);
    }
    if arguments.list {
        faults.iter().for_each(|fault| println!("{}:{}  {}", fault.file, fault.line, fault.what));
        return Ok(ExitCode::SUCCESS);
    }
    let tree = Tree::copy(&repository, &repository.join(&arguments.place))?;
    let numbered: BTreeMap<u32, Fault> = (0..).zip(faults).collect();
    let mut left: BTreeSet<u32> = numbered.keys().copied().collect();
    let (mut fates, wanted) = (BTreeMap::new(), arguments.sample.unwrap_or(usize::MAX));
    let killers = Killers::default();
    while !left.is_empty() && fates.len() < wanted {
        let batch = apart(&numbered, &left);
        left.retain(|number| !batch.contains_key(number));
        let mut alive = tree.put_in(&batch)?;
        while alive.len() > wanted - fates.len() {
            alive.pop_last();
        }
        let runner = Runner { tree: &tree, programs: tree.build_tests()?, jobs: arguments.jobs, killers: &killers };
        println!("tests built after {}", minutes(began));
        let mut tried = runner.try_all(&numbered, &alive)?;
        let area = |number: &u32| areas::of(&numbered[number].file);
        let unseen =
            tried.iter().filter(|(number, fate)| **fate == Fate::Survived && area(number).is_some_and(|area| area.simulated));
        let unseen: BTreeSet<u32> = unseen.map(|(number, _)| *number).collect();
        println!("tests run after {}; {} faults are left for the simulator", minutes(began), unseen.len());
        if !unseen.is_empty() && !arguments.no_nights {
            let simulator = tree.build_simulator()?;
            tried.extend(runner.simulate_all(&simulator, &numbered, &unseen)?);
        }
        fates.extend(tried);
    }
    let code = report(&repository, &numbered, &fates, possible, arguments.least)?;
    println!("it took {}", minutes(began));
    Ok(code)
}

fn minutes(began: Instant) -> String {
    let seconds = began.elapsed().as_secs();
    format!("{}:{:02} min", seconds / 60, seconds % 60)
}

/// Every fault that could be there.
fn all(repository: &Path, only: &[String]) -> anyhow::Result<Vec<Fault>> {
    let (mut faults, mut tests) = (Vec::new(), Vec::new());
    for file in tree::files(repository)? {
        if !file.ends_with(".rs") || areas::of(&file).is_none() {
            continue;
        }
        let (found, modules) = find::faults(&file, &std::fs::read_to_string(repository.join(&file))?)?;
        faults.extend(found);
        tests.extend(modules.iter().flat_map(|module| module_paths(&file, module)));
    }
    faults.retain(|fault| {
        let of_tests = tests.iter().any(|path| fault.file.starts_with(path.as_str()));
        !of_tests && (only.is_empty() || only.iter().any(|path| fault.file.starts_with(path.as_str())))
    });
    Ok(faults)
}

/// The lines of each file that differ from a commit.
fn changed(repository: &Path, commit: &str) -> anyhow::Result<BTreeMap<String, BTreeSet<usize>>> {
    let output = Command::new("git").args(["diff", "-U0", commit, "--", "*.rs"]).current_dir(repository).output()?;
    ensure!(output.status.success(), "git does not know {commit}");
    let (mut lines, mut file) = (BTreeMap::<String, BTreeSet<usize>>::new(), String::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(name) = line.strip_prefix("+++ b/") {
            file = name.to_owned();
        } else if let Some((_, new)) = line.strip_prefix("@@ ").and_then(|hunk| hunk.split_once('+')) {
            let span = new.split(' ').next().unwrap_or_default();
            let (from, count) = span.split_once(',').unwrap_or((span, "1"));
            let (from, count): (usize, usize) = (from.parse()?, count.parse()?);
            lines.entry(file.clone()).or_default().extend(from..from + count);
        }
    }
    Ok(lines)
}

/// As many of the faults that are left as lie apart from each other.
fn apart<'a>(numbered: &'a BTreeMap<u32, Fault>, left: &BTreeSet<u32>) -> BTreeMap<u32, &'a Fault> {
    let mut taken: BTreeMap<&str, Vec<std::ops::Range<usize>>> = BTreeMap::new();
    let mut batch = BTreeMap::new();
    for number in left {
        let fault = &numbered[number];
        let own = taken.entry(&fault.file).or_default();
        if own.iter().all(|range| range.end <= fault.range.start || fault.range.end <= range.start) {
            own.push(fault.range.clone());
            batch.insert(*number, fault);
        }
    }
    batch
}

/// Tests that have noticed a fault, by area, with how many each: those that notice much are asked first.
type Killers = Mutex<BTreeMap<&'static str, BTreeMap<String, u32>>>;

struct Runner<'a> {
    tree: &'a Tree,
    programs: BTreeMap<String, PathBuf>,
    jobs: usize,
    killers: &'a Killers,
}

impl Runner<'_> {
    /// What the tests make of each fault.
    fn try_all(&self, numbered: &BTreeMap<u32, Fault>, alive: &BTreeSet<u32>) -> anyhow::Result<BTreeMap<u32, Fate>> {
        let mut times = BTreeMap::new();
        for number in alive {
            let area = areas::of(&numbered[number].file).context("every fault has an area")?;
            if let std::collections::btree_map::Entry::Vacant(entry) = times.entry(area.path) {
                let began = Instant::now();
                let fate = self.all_tests(area, u32::MAX, Duration::from_secs(1800))?;
                ensure!(fate == Fate::Survived, "the tests of {} fail without any fault ({fate:?})", area.path);
                println!("{:<36} {:>6.1} s without a fault", area.path, began.elapsed().as_secs_f64());
                entry.insert(began.elapsed());
            }
        }
        self.each(numbered, alive, |area, number| {
            let patience = times[area.path] * PATIENCE + Duration::from_secs(60);
            match self.killers_first(area, number, patience)? {
                Fate::Survived => self.all_tests(area, number, patience),
                fate => Ok(fate),
            }
        })
    }

    /// What the simulator makes of each fault.
    fn simulate_all(
        &self,
        simulator: &Path,
        numbered: &BTreeMap<u32, Fault>,
        faults: &BTreeSet<u32>,
    ) -> anyhow::Result<BTreeMap<u32, Fate>> {
        self.each(numbered, faults, |_, number| {
            for seed in NIGHTS {
                let mut night = Command::new(simulator);
                night.args(NIGHT).args(["--seed", seed]).current_dir(&self.tree.root);
                let fate = watch(night, number, NIGHT_PATIENCE)?.0;
                if fate != Fate::Survived {
                    return Ok(fate);
                }
            }
            Ok(Fate::Survived)
        })
    }

    /// Tries faults, a few at a time.
    fn each(
        &self,
        numbered: &BTreeMap<u32, Fault>,
        faults: &BTreeSet<u32>,
        attempt: impl Fn(&'static Area, u32) -> anyhow::Result<Fate> + Sync,
    ) -> anyhow::Result<BTreeMap<u32, Fate>> {
        let (queue, fates) = (Mutex::new(faults.iter().copied().collect::<VecDeque<_>>()), Mutex::new(BTreeMap::new()));
        thread::scope(|scope| {
            let work = || -> anyhow::Result<()> {
                while let Some(number) = { queue.lock().expect("no run panics").pop_front() } {
                    let fault = &numbered[&number];
                    let fate = attempt(areas::of(&fault.file).context("every fault has an area")?, number)?;
                    let word = match fate {
                        Fate::Noticed => "noticed",
                        Fate::Hung => "hung",
                        Fate::Survived => "SURVIVED",
                    };
                    println!("{word:<9} {}:{}  {}", fault.file, fault.line, fault.what);
                    fates.lock().expect("no run panics").insert(number, fate);
                }
                Ok(())
            };
            let workers: Vec<_> = (0..self.jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("no run panics"))
        })?;
        Ok(fates.into_inner().expect("no run panics"))
    }

    /// The tests of the area that have noticed faults before.
    fn killers_first(&self, area: &'static Area, number: u32, patience: Duration) -> anyhow::Result<Fate> {
        let mut known: Vec<(u32, String)> = {
            let killers = self.killers.lock().expect("no run panics");
            killers.get(area.path).into_iter().flatten().map(|(name, count)| (*count, name.clone())).collect()
        };
        known.sort_unstable_by(|a, b| b.cmp(a));
        known.truncate(KILLERS_MAX);
        if known.is_empty() {
            return Ok(Fate::Survived);
        }
        let mut tests = self.tests(area)?;
        tests.arg("--exact").args(known.iter().map(|(_, name)| name));
        self.watch_tests(tests, area, number, patience)
    }

    fn all_tests(&self, area: &'static Area, number: u32, patience: Duration) -> anyhow::Result<Fate> {
        for part in area.tests {
            let mut tests = self.tests(area)?;
            match part.strip_prefix('!') {
                Some(others) => tests.args(["--skip", others]),
                None => tests.arg(part),
            };
            let fate = self.watch_tests(tests, area, number, patience)?;
            if fate != Fate::Survived {
                return Ok(fate);
            }
        }
        Ok(Fate::Survived)
    }

    fn tests(&self, area: &Area) -> anyhow::Result<Command> {
        let program = self.programs.get(area.package).with_context(|| format!("{} has no test program", area.package))?;
        let folder = self.tree.root.join(area.member());
        let mut tests = Command::new(program);
        tests.args(["--test-threads", "2"]).current_dir(&folder);
        Ok(tests)
    }

    fn watch_tests(&self, tests: Command, area: &'static Area, number: u32, patience: Duration) -> anyhow::Result<Fate> {
        let (fate, killer) = watch(tests, number, patience)?;
        if let Some(killer) = killer.filter(|_| number != u32::MAX) {
            let mut killers = self.killers.lock().expect("no run panics");
            *killers.entry(area.path).or_default().entry(killer).or_default() += 1;
        }
        Ok(fate)
    }
}

/// Runs a program with a fault until it has noticed it, or has ended. And the test that noticed it, if one did.
fn watch(mut command: Command, number: u32, patience: Duration) -> anyhow::Result<(Fate, Option<String>)> {
    let began = Instant::now();
    let mut child = command
        .env("LULL_FAULT", number.to_string())
        .env("RUST_BACKTRACE", "0")
        // A random test says that it fails, and does not look for the smallest way to fail.
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .env("PROPTEST_RNG_SEED", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let output = BufReader::new(child.stdout.take().context("it has a standard output")?);
    let (lines, said) = mpsc::channel();
    thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    loop {
        match said.recv_timeout(patience.saturating_sub(began.elapsed())) {
            Ok(line) => {
                if let Some(test) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
                    return Ok((end(&mut child, Fate::Noticed)?, Some(test.trim_end_matches(" - should panic").to_owned())));
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => return Ok((end(&mut child, Fate::Hung)?, None)),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Ok((if child.wait()?.success() { Fate::Survived } else { Fate::Noticed }, None));
            }
        }
    }
}

fn end(child: &mut Child, fate: Fate) -> anyhow::Result<Fate> {
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    Ok(fate)
}

fn report(
    repository: &Path,
    numbered: &BTreeMap<u32, Fault>,
    fates: &BTreeMap<u32, Fate>,
    possible: usize,
    least_percent: f64,
) -> anyhow::Result<ExitCode> {
    let accepted = std::fs::read_to_string(repository.join("tests/mutants/accepted.txt")).unwrap_or_default();
    let reason = |fault: &Fault| {
        let mut lines = accepted.lines().filter_map(|line| line.split_once(" | "));
        lines.find_map(|(key, reason)| (key == format!("{} {}", fault.file, fault.what)).then_some(reason))
    };
    println!();
    let mut by_area: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for (number, fate) in fates {
        let fault = &numbered[number];
        let counts = by_area.entry(areas::of(&fault.file).map_or("", |area| area.path)).or_default();
        match (fate, reason(fault)) {
            (Fate::Noticed | Fate::Hung, _) => counts[0] += 1,
            (Fate::Survived, Some(reason)) => {
                counts[1] += 1;
                println!("accepted  {}:{}  {}\n          {reason}", fault.file, fault.line, fault.what);
            }
            (Fate::Survived, None) => {
                counts[2] += 1;
                println!("SURVIVED  {}:{}  {}", fault.file, fault.line, fault.what);
            }
        }
    }
    println!("\n{:<36} {:>8} {:>9} {:>9}", "area", "noticed", "accepted", "survived");
    let mut sums = [0; 3];
    for (area, counts) in by_area {
        println!("{area:<36} {:>8} {:>9} {:>9}", counts[0], counts[1], counts[2]);
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    println!("{:<36} {:>8} {:>9} {:>9}", "together", sums[0], sums[1], sums[2]);
    let percent = 100.0 * sums[0] as f64 / (sums[0] + sums[2]).max(1) as f64;
    println!("{percent:.1} % of {} faults that matter were noticed; {possible} could be there", sums[0] + sums[2]);
    Ok(if percent >= least_percent { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
