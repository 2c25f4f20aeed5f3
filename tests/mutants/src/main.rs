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
    let arguments = Arguments::parse();
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
    while !left.is_empty() && fates.len() < wanted {
        let batch = apart(&numbered, &left);
        left.retain(|number| !batch.contains_key(number));
        let mut alive = tree.put_in(&batch)?;
        while alive.len() > wanted - fates.len() {
            alive.pop_last();
        }
        let (programs, simulator) = tree.build()?;
        let runner = Runner { tree: &tree, programs, simulator, jobs: arguments.jobs };
        fates.extend(runner.try_all(&numbered, &alive)?);
    }
    report(&repository, &numbered, &fates, possible)
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

struct Runner<'a> {
    tree: &'a Tree,
    programs: BTreeMap<String, PathBuf>,
    simulator: PathBuf,
    jobs: usize,
}

impl Runner<'_> {
    /// What became of each fault.
    fn try_all(&self, numbered: &BTreeMap<u32, Fault>, alive: &BTreeSet<u32>) -> anyhow::Result<BTreeMap<u32, Fate>> {
        let mut times = BTreeMap::new();
        for number in alive {
            let area = areas::of(&numbered[number].file).context("every fault has an area")?;
            if let std::collections::btree_map::Entry::Vacant(entry) = times.entry(area.path) {
                let began = Instant::now();
                let fate = self.run(area, u32::MAX, Duration::from_secs(1800))?;
                ensure!(fate == Fate::Survived, "the tests of {} fail without any fault ({fate:?})", area.path);
                println!("{:<36} {:>6.1} s without a fault", area.path, began.elapsed().as_secs_f64());
                entry.insert(began.elapsed());
            }
        }
        let (queue, fates) = (Mutex::new(alive.iter().copied().collect::<VecDeque<_>>()), Mutex::new(BTreeMap::new()));
        thread::scope(|scope| {
            let work = || -> anyhow::Result<()> {
                while let Some(number) = { queue.lock().expect("no run panics").pop_front() } {
                    let fault = &numbered[&number];
                    let area = areas::of(&fault.file).context("every fault has an area")?;
                    let fate = self.run(area, number, times[area.path] * PATIENCE + Duration::from_secs(60))?;
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

    /// Runs what ought to notice a fault.
    fn run(&self, area: &Area, number: u32, patience: Duration) -> anyhow::Result<Fate> {
        let program = self.programs.get(area.package).with_context(|| format!("{} has no test program", area.package))?;
        let folder = self.tree.root.join(area.package.trim_start_matches("lull-"));
        let mut tests = Command::new(program);
        tests.args(area.tests).args(["--test-threads", "2"]).current_dir(&folder);
        let fate = watch(tests, number, patience)?;
        if fate != Fate::Survived || !area.simulated {
            return Ok(fate);
        }
        for seed in NIGHTS {
            let mut night = Command::new(&self.simulator);
            night.args([
                "--agents",
                "12",
                "--tasks",
                "240",
                "--hours",
                "2",
                "--faults",
                "harsh",
                "--audit-every",
                "20",
                "--shrink-seconds",
                "0",
            ]);
            night.args(["--seed", seed]).current_dir(&folder);
            let fate = watch(night, number, patience)?;
            if fate != Fate::Survived {
                return Ok(fate);
            }
        }
        Ok(Fate::Survived)
    }
}

/// Runs a program with a fault until it has noticed it, or has ended.
fn watch(mut command: Command, number: u32, patience: Duration) -> anyhow::Result<Fate> {
    let began = Instant::now();
    let mut child = command
        .env("LULL_FAULT", number.to_string())
        .env("RUST_BACKTRACE", "0")
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
            Ok(line) if line.ends_with("... FAILED") => return end(&mut child, Fate::Noticed),
            Ok(_) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => return end(&mut child, Fate::Hung),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Ok(if child.wait()?.success() { Fate::Survived } else { Fate::Noticed });
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
) -> anyhow::Result<ExitCode> {
    let accepted = std::fs::read_to_string(repository.join("tests/mutants/accepted.txt")).unwrap_or_default();
    let reason = |fault: &Fault| {
        let mut lines = accepted.lines().filter_map(|line| line.split_once(" | "));
        lines.find_map(|(key, reason)| (key == format!("{} {}", fault.file, fault.what)).then_some(reason))
    };
    println!();
    let mut by_area: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut open = 0;
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
                open += 1;
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
    let tried = fates.len().max(1);
    println!("{:<36} {:>8} {:>9} {:>9}", "together", sums[0], sums[1], sums[2]);
    println!("{:.1} % of {} faults were noticed; {possible} could be there", 100.0 * sums[0] as f64 / tried as f64, fates.len());
    Ok(if open == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
