//! What an executor's handle and its two tasks know together: the attempts that were handed over, and how it stands
//! with the process.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lull_shared::{
    id::AttemptId,
    limits,
    message::Remains,
    state::{Part, Trouble, Usage},
};
use tokio::sync::mpsc;

use crate::executor::{
    handle::{
        files::OutputFile,
        process::{AskError, Death, Event, RunError},
    },
    protocol::Ask,
    sys,
    trail::{Piece, Seen, Trail, micros},
};

/// Attempts handed over and not ended: as many as an agent may hold at all.
pub(in crate::executor) const RUNS_MAX: usize = limits::ATTEMPTS_PER_AGENT_MAX;
/// How long a process that has closed its pipe may take to end.
const END_GRACE: Duration = Duration::from_secs(1);

/// What the handle and its two tasks know together.
pub(in crate::executor) struct Shared {
    runs: Mutex<Runs>,
    events: mpsc::UnboundedSender<Event>,
    killed: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    /// Locked after `runs`, if both are.
    frozen: Mutex<Frozen>,
    process: Arc<sys::Handle>,
    trail: Trail,
}

#[derive(Default)]
struct Frozen {
    since: Option<Instant>,
    before: Duration,
}

#[derive(Default)]
struct Runs {
    /// Not ended; the first one runs.
    held: VecDeque<Held>,
    /// How many there ever were: the process counts them too.
    count: u32,
    /// The one that ran was suspended: none runs any more.
    suspended: bool,
    gone: bool,
}

struct Held {
    attempt: AttemptId,
    number: u32,
    output: PathBuf,
    /// When it came to the front, and how long the process had been frozen by then.
    since: Option<(Instant, Duration)>,
    /// Unfrozen time before it was moved here.
    ran_before: Duration,
    /// What came of its output before it was moved here.
    begun: Option<OutputFile>,
    /// It goes on from a snapshot, which its process has not refused.
    resumes: bool,
    checkpoint: Option<PathBuf>,
    suspend: Option<PathBuf>,
}

impl Shared {
    pub(in crate::executor) fn new(events: mpsc::UnboundedSender<Event>, process: Arc<sys::Handle>, trail: Trail) -> Self {
        Self {
            runs: Mutex::default(),
            events,
            killed: AtomicBool::new(false),
            trouble: Mutex::default(),
            frozen: Mutex::default(),
            process,
            trail,
        }
    }

    pub(in crate::executor) fn push(&self, attempt: AttemptId, output: PathBuf) -> Result<(), RunError> {
        let mut runs = lock(&self.runs);
        if runs.gone {
            return Err(RunError::Gone);
        }
        if runs.held.len() >= RUNS_MAX {
            return Err(RunError::Full);
        }
        runs.count = runs.count.wrapping_add(1);
        let number = runs.count;
        let (since, ran_before) = (None, Duration::ZERO);
        let (begun, resumes, checkpoint, suspend) = (None, false, None, None);
        let held = Held { attempt, number, output, since, ran_before, begun, resumes, checkpoint, suspend };
        runs.held.push_back(held);
        if runs.held.len() == 1 {
            self.start_next(&mut runs);
        }
        Ok(())
    }

    fn start_next(&self, runs: &mut Runs) {
        if let Some(next) = runs.held.front_mut() {
            next.since = Some((Instant::now(), self.frozen_time()));
            self.tell(Event::Started { attempt: next.attempt });
        }
    }

    /// How long the running attempt has run in all, here and elsewhere, not counting the time that it was frozen.
    pub(in crate::executor) fn ran(&self) -> Duration {
        let runs = lock(&self.runs);
        let Some(held) = runs.held.front() else { return Duration::ZERO };
        let here = held.since.map(|(since, frozen)| {
            let paused = self.frozen_time().saturating_sub(frozen);
            since.elapsed().saturating_sub(paused)
        });
        held.ran_before + here.unwrap_or_default()
    }

    /// How many attempts have not ended.
    pub(in crate::executor) fn held(&self) -> usize {
        lock(&self.runs).held.len()
    }

    /// The attempt that runs, and where its output goes.
    pub(in crate::executor) fn running(&self) -> Option<(AttemptId, PathBuf)> {
        let runs = lock(&self.runs);
        let front = if runs.suspended { None } else { runs.held.front() };
        front.map(|held| (held.attempt, held.output.clone()))
    }

    /// Notes where a snapshot of the running attempt is to go; its number in the process. None while it has not answered
    /// the same ask before: that answer is for both, and a second one would be out of turn.
    pub(in crate::executor) fn ask(&self, attempt: AttemptId, ask: Ask, path: PathBuf) -> Result<Option<u32>, AskError> {
        let mut runs = lock(&self.runs);
        if runs.gone {
            return Err(AskError::Gone);
        }
        let front = if runs.suspended { None } else { runs.held.front_mut() };
        let held = front.filter(|held| held.attempt == attempt).ok_or(AskError::NotRunning)?;
        let asked = match ask {
            Ask::Checkpoint => &mut held.checkpoint,
            Ask::Suspend => &mut held.suspend,
        };
        if asked.is_some() {
            return Ok(None);
        }
        *asked = Some(path);
        Ok(Some(held.number))
    }

    /// Where a snapshot of the running attempt goes; that for suspending it if both were asked for.
    pub(in crate::executor) fn asked(&self) -> Option<PathBuf> {
        let runs = lock(&self.runs);
        let held = runs.held.front()?;
        held.suspend.as_ref().or(held.checkpoint.as_ref()).cloned()
    }

    /// The ask that was answered, if it was one.
    pub(in crate::executor) fn answered(&self, ask: Ask) -> Option<PathBuf> {
        let mut runs = lock(&self.runs);
        let held = runs.held.front_mut()?;
        match ask {
            Ask::Checkpoint => held.checkpoint.take(),
            Ask::Suspend => held.suspend.take(),
        }
    }

    /// An attempt goes on after this time, and its output in this file if it has one.
    pub(in crate::executor) fn go_on(&self, attempt: AttemptId, ran_before: Duration, output: Option<OutputFile>) {
        if let Some(held) = lock(&self.runs).held.iter_mut().find(|held| held.attempt == attempt) {
            (held.ran_before, held.begun, held.resumes) = (ran_before, output, true);
        }
    }

    /// The running attempt begins anew after all; its output file from before, if it has one. None if it did not go on from
    /// anything, or has begun anew already.
    pub(in crate::executor) fn begin_anew(&self) -> Option<Option<OutputFile>> {
        let mut runs = lock(&self.runs);
        let held = runs.held.front_mut().filter(|held| held.resumes)?;
        (held.ran_before, held.resumes) = (Duration::ZERO, false);
        Some(held.begun.take())
    }

    /// The running attempt's output file from before, once.
    pub(in crate::executor) fn begun(&self) -> Option<OutputFile> {
        lock(&self.runs).held.front_mut()?.begun.take()
    }

    /// The running attempt has ended; the next one runs.
    pub(in crate::executor) fn finish(&self, last: Event) {
        let mut runs = lock(&self.runs);
        runs.held.pop_front();
        self.tell(last);
        self.start_next(&mut runs);
    }

    /// The running attempt was suspended, and the process ends with that.
    pub(in crate::executor) fn suspend(&self, last: Event) {
        self.killed.store(true, Ordering::Release);
        let mut runs = lock(&self.runs);
        runs.held.pop_front();
        runs.suspended = true;
        self.tell(last);
    }

    /// Takes the processor away.
    pub(in crate::executor) fn freeze(&self) -> io::Result<()> {
        let mut frozen = lock(&self.frozen);
        self.process.freeze()?;
        frozen.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Gives it back.
    pub(in crate::executor) fn thaw(&self) -> io::Result<()> {
        let mut frozen = lock(&self.frozen);
        self.process.thaw()?;
        let lasted = frozen.since.take().map(|since| since.elapsed());
        frozen.before += lasted.unwrap_or_default();
        Ok(())
    }

    pub(in crate::executor) fn is_frozen(&self) -> bool {
        lock(&self.frozen).since.is_some()
    }

    pub(in crate::executor) fn frozen_time(&self) -> Duration {
        let frozen = lock(&self.frozen);
        frozen.before + frozen.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Ends the process. It can only fail for one that has ended already.
    pub(in crate::executor) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        let _ = self.process.kill();
    }

    /// The agent's own trouble with the pipe, an input or the disk: the process cannot go on.
    pub(in crate::executor) fn fail(&self, part: Part, reason: impl ToString) {
        lock(&self.trouble).get_or_insert_with(|| Trouble::new(part, reason.to_string()));
        let _ = self.process.kill();
    }

    /// What the running attempt has said and used; `cpu` is the processor time that its process has had.
    pub(in crate::executor) fn remains(&self, cpu: Duration) -> Option<Remains> {
        let runs = lock(&self.runs);
        let front = if runs.suspended { None } else { runs.held.front() }?;
        let wall = front.since?.0.elapsed();
        let Seen { log, dropped_bytes, cpu_start, before, memory_bytes } = self.trail.read(front.number)?;
        let usage = Usage {
            wall_us: before.wall_us.saturating_add(micros(wall)),
            cpu_us: before.cpu_us.saturating_add(micros(cpu.saturating_sub(cpu_start))),
            memory_peak_bytes: memory_bytes,
        };
        Some(Remains { attempt: front.attempt, log: log.into(), log_dropped_bytes: dropped_bytes, usage })
    }

    /// A part of the running attempt's log.
    pub(in crate::executor) fn log(&self, attempt: AttemptId, from: u64, max: usize) -> Option<Piece> {
        let runs = lock(&self.runs);
        let front = if runs.suspended { None } else { runs.held.front() };
        self.trail.piece(front.filter(|held| held.attempt == attempt)?.number, from, max)
    }

    /// The process has ended. `broken`: what its agent has against it.
    pub(in crate::executor) fn bury(&self, broken: Option<String>, ended: Ended) {
        let remains = self.remains(ended.cpu).map(Box::new);
        let (held, suspended) = {
            let mut runs = lock(&self.runs);
            runs.gone = true;
            (std::mem::take(&mut runs.held), runs.suspended)
        };
        let mut held = held.into_iter().map(|held| held.attempt);
        let running = if suspended { None } else { held.next() };
        let death = if self.killed.load(Ordering::Acquire) {
            Death::Killed
        } else if let Some(trouble) = lock(&self.trouble).take() {
            Death::Trouble(trouble)
        } else if let Some(how) = broken {
            Death::Crashed { how }
        } else if ended.from_outside {
            Death::KilledFromOutside { how: ended.how }
        } else {
            Death::Crashed { how: ended.how }
        };
        self.tell(Event::Died { running, queued: held.collect(), death, remains });
    }

    pub(in crate::executor) fn tell(&self, event: Event) {
        // Whoever dropped the receiver does not want to know.
        let _ = self.events.send(event);
    }
}

/// How a process came to its end.
pub(in crate::executor) struct Ended {
    pub(in crate::executor) how: String,
    /// Neither a fault of its own nor an exit did it.
    pub(in crate::executor) from_outside: bool,
    /// The processor time that it had.
    pub(in crate::executor) cpu: Duration,
}

/// Keeps a child from being left behind.
pub(in crate::executor) struct Guard {
    child: Option<sys::Child>,
    process: Arc<sys::Handle>,
}

impl Guard {
    pub(in crate::executor) fn new(child: sys::Child, process: Arc<sys::Handle>) -> Self {
        Self { child: Some(child), process }
    }

    /// Waits until the process has ended, and says how it did. With its pipe closed it ends by itself in time, unless
    /// it is to blame for something.
    pub(in crate::executor) async fn end(&mut self, at_once: bool) -> Ended {
        let grace = if at_once { Duration::ZERO } else { END_GRACE };
        let ended = match tokio::time::timeout(grace, self.process.ended()).await {
            Ok(ended) => ended,
            Err(_) => {
                let _ = self.process.kill();
                self.process.ended().await
            }
        };
        // One that is not waited for yet still has its times.
        let cpu = self.process.cpu_time().unwrap_or_default();
        let status = self.child.take().map(|mut child| child.wait());
        let how = match (ended, status) {
            (Ok(()), Some(Ok(status))) => {
                return Ended { how: sys::describe(status), from_outside: sys::is_from_outside(status), cpu };
            }
            (Err(error), _) | (_, Some(Err(error))) => error.to_string(),
            (Ok(()), None) => "it had ended before".into(),
        };
        Ended { how, from_outside: false, cpu }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = self.process.kill();
            // A killed process ends at once; waiting frees its entry in the process table.
            let _ = child.wait();
        }
    }
}

pub(in crate::executor) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
