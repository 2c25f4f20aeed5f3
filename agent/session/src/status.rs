//! The session as people see it: what `lull-agent status` and the tray show.

use lull_shared::{
    id::{AttemptId, JobId, Term},
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
        run_ms: u64,
        piped: usize,
    },
    Paused {
        task: TaskStatus,
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
    pub function: String,
}

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
                run_ms: millis(work.spent + now.since(*since)),
                piped: work.rest.len(),
            },
            Slot::Paused { work } => {
                SlotStatus::Paused { task: self.task_status(&work.front), run_ms: millis(work.spent), piped: work.rest.len() }
            }
            Slot::Suspending { work, .. } => SlotStatus::Suspending { task: self.task_status(&work.front) },
            Slot::Stopping { .. } => SlotStatus::Stopping,
        }
    }

    fn task_status(&self, held: &Held) -> TaskStatus {
        let (job_name, function) = self.names(held.job());
        TaskStatus { attempt: held.attempt, job_name, function }
    }

    fn names(&self, job: JobId) -> (String, String) {
        let plan = self.jobs.get(&job).and_then(|job| job.plan.as_ref().ok());
        plan.map_or_else(Default::default, |plan| {
            (plan.brief.job_name.clone(), format!("{}@{}", plan.manifest.function, plan.manifest.number))
        })
    }
}
