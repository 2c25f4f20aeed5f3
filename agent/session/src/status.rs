//! The session as people see it: what `lull-agent status` and the tray show.

use std::collections::BTreeSet;

use lull_shared::{
    id::{AttemptId, JobId, Term},
    job::Grants,
    resources::Capacity,
    state::{Intake, PauseReason},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{Session, words::link::Link};
use crate::{
    attempts::slot::{Held, Slot},
    guard::{Sample, Verdict},
};

/// Everything about a session at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionStatus {
    pub link: LinkStatus,
    pub intake: Intake,
    pub paused: Option<PauseReason>,
    /// Whether it is light work only, beside the owner or outside the hours.
    pub beside: bool,
    pub capacity: Capacity,
    /// The last measurement: what others use of the processors, in percent, and memory available, in bytes.
    pub cpu_others_percent: Option<u8>,
    pub memory_available_bytes: Option<u64>,
    pub slots: Vec<SlotStatus>,
    /// What the functions that are here may touch.
    #[serde(default)]
    pub functions: Vec<FunctionStatus>,
    /// Attempts that wait, and those of them whose blobs are still on their way.
    pub waiting: usize,
    pub fetching: usize,
    /// Results that the coordinator has not acknowledged.
    pub outbox: usize,
    /// Why results cannot be kept, when the disk refuses.
    pub disk_trouble: Option<String>,
}

/// The stream to the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LinkStatus {
    Down,
    Greeting,
    Up { since: Timestamp, term: Term },
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SlotStatus {
    Idle,
    Starting {
        task: Option<TaskStatus>,
    },
    Warm {
        job: JobId,
        job_name: String,
    },
    Running {
        task: TaskStatus,
        /// When it began here.
        #[serde(default)]
        begun: Timestamp,
        run_ms: u64,
        piped: usize,
    },
    Paused {
        task: TaskStatus,
        #[serde(default)]
        begun: Timestamp,
        run_ms: u64,
        piped: usize,
    },
    /// It is being written down, to go on elsewhere.
    Suspending {
        task: TaskStatus,
    },
    Stopping,
}

/// What runs in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    pub attempt: AttemptId,
    pub job_name: String,
    /// Whom it is for.
    #[serde(default)]
    pub submitter: String,
    pub function: String,
}

/// A function that is here, with what it may touch in some jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionStatus {
    pub function: String,
    /// What people call those jobs.
    pub jobs: Vec<String>,
    pub grants: Grants,
    /// The most that one of its tasks may take of the memory, and of the disk where it may write.
    pub memory_bytes: u64,
    pub scratch_bytes: u64,
}

/// Jobs of one function that are named.
const NAMES_MAX: usize = 8;

impl Session {
    /// Why nothing runs here, when nothing may.
    pub fn paused(&self) -> Option<&PauseReason> {
        self.verdict.reason()
    }

    /// What the guard lets run.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The session at `now`.
    pub fn status(&self, now: Timestamp) -> SessionStatus {
        let capacity = self.capacity();
        SessionStatus {
            link: match &self.link {
                Link::Down => LinkStatus::Down,
                Link::Greeting { .. } => LinkStatus::Greeting,
                Link::Up(up) => LinkStatus::Up { since: up.since, term: up.term },
            },
            intake: self.intake,
            paused: capacity.paused.clone(),
            beside: matches!(self.verdict, Verdict::Run(room) if room.beside),
            capacity,
            cpu_others_percent: self.sample.map(|Sample { cpu_others_percent, .. }| cpu_others_percent),
            memory_available_bytes: self.sample.map(|Sample { memory_available_bytes, .. }| memory_available_bytes),
            functions: self.functions(),
            slots: self.slots.iter().map(|slot| self.slot_status(slot, now)).collect(),
            waiting: self.waiting.len(),
            fetching: self.waiting.values().filter(|held| !self.is_ready(held)).count(),
            outbox: self.outbox.len(),
            disk_trouble: self.outbox.disk_trouble().map(str::to_owned),
        }
    }

    fn slot_status(&self, slot: &Slot, now: Timestamp) -> SlotStatus {
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match slot {
            Slot::Idle => SlotStatus::Idle,
            Slot::Starting { first, .. } => SlotStatus::Starting { task: first.as_ref().map(|held| self.task_status(held)) },
            Slot::Warm { executor, .. } => SlotStatus::Warm { job: executor.duty.job, job_name: self.names(executor.duty.job).0 },
            Slot::Running { work, since } => SlotStatus::Running {
                task: self.task_status(&work.front),
                begun: work.begun,
                run_ms: millis(work.spent + now.since(*since)),
                piped: work.rest.len(),
            },
            Slot::Paused { work } => SlotStatus::Paused {
                task: self.task_status(&work.front),
                begun: work.begun,
                run_ms: millis(work.spent),
                piped: work.rest.len(),
            },
            Slot::Suspending { work, .. } => SlotStatus::Suspending { task: self.task_status(&work.front) },
            Slot::Stopping { .. } => SlotStatus::Stopping,
        }
    }

    fn task_status(&self, held: &Held) -> TaskStatus {
        let (job_name, function) = self.names(held.job());
        let plan = self.jobs.get(&held.job()).and_then(|job| job.plan.as_ref().ok());
        let submitter = plan.map_or_else(String::new, |plan| plan.brief.submitter.clone());
        TaskStatus { attempt: held.attempt, job_name, submitter, function }
    }

    /// Slots in which something runs.
    pub fn running(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Running { .. })).count()
    }

    /// The functions of which something runs or waits here.
    fn functions(&self) -> Vec<FunctionStatus> {
        let mut found: Vec<FunctionStatus> = Vec::new();
        let here: BTreeSet<JobId> = self.places.keys().map(|attempt| attempt.task.job).collect();
        let plans = here.iter().filter_map(|job| self.jobs.get(job)?.plan.as_ref().ok());
        for plan in plans {
            let (brief, function) = (&plan.brief, format!("{}@{}", plan.manifest.function, plan.manifest.number));
            let fresh = FunctionStatus {
                function,
                jobs: Vec::new(),
                grants: brief.grants,
                memory_bytes: brief.limits.memory_bytes,
                scratch_bytes: brief.limits.scratch_bytes,
            };
            let same = |known: &&mut FunctionStatus| FunctionStatus { jobs: Vec::new(), ..(**known).clone() } == fresh;
            let known = match found.iter_mut().find(same) {
                Some(known) => known,
                None => found.push_mut(fresh),
            };
            if known.jobs.len() < NAMES_MAX && !known.jobs.contains(&brief.job_name) {
                known.jobs.push(brief.job_name.clone());
            }
        }
        found
    }

    fn names(&self, job: JobId) -> (String, String) {
        let plan = self.jobs.get(&job).and_then(|job| job.plan.as_ref().ok());
        plan.map_or_else(Default::default, |plan| {
            (plan.brief.job_name.clone(), format!("{}@{}", plan.manifest.function, plan.manifest.number))
        })
    }
}
