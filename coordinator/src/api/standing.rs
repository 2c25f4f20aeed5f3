//! How things stand, in one word for people and with the tone in which it is said: the same on the command line and in the portal.

use lull_scheduler::event::QuarantineKind;
use lull_shared::state::{AttemptEnd, Intake, JobState, TaskState};

use super::{AgentBody, JobBody, Reason};

/// How a word is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Odd,
    Bad,
}

const WAITING: &str = "waiting";
const CANCELLING: &str = "cancelling";
const EXPIRING: &str = "expiring";
const STOPPING: &str = "stopping";
/// Words for jobs that are active: they are no states that can be asked for.
pub const WORDS_OF_ACTIVE: [&str; 4] = [WAITING, CANCELLING, EXPIRING, STOPPING];

/// A job in one word; [`why_of_job`] says the rest.
pub fn of_job(job: &JobBody) -> (&'static str, Tone) {
    match (job.state, job.stopping, &job.waiting) {
        (JobState::Active, Some(JobState::Cancelled), _) => (CANCELLING, Tone::Odd),
        (JobState::Active, Some(JobState::Expired), _) => (EXPIRING, Tone::Odd),
        (JobState::Active, Some(_), _) => (STOPPING, Tone::Odd),
        (JobState::Active, None, Some(_)) => (WAITING, Tone::Odd),
        (state, _, _) => (state.as_str(), of_job_state(state)),
    }
}

/// How the state of a job is meant.
pub const fn of_job_state(state: JobState) -> Tone {
    match state {
        JobState::Active => Tone::Plain,
        JobState::Succeeded => Tone::Good,
        JobState::Failed | JobState::Expired => Tone::Bad,
        JobState::Cancelled => Tone::Odd,
    }
}

/// Why nothing of it may start, or how it ended; of one that succeeded its state says it all.
pub fn why_of_job(job: &JobBody) -> Option<String> {
    let waiting = job.waiting.as_ref().map(|reason| reason.message.clone());
    waiting.or_else(|| job.reason.clone().filter(|_| job.state != JobState::Succeeded))
}

/// How the state of a task is meant.
pub const fn of_task(state: TaskState) -> Tone {
    match state {
        TaskState::Succeeded => Tone::Good,
        TaskState::Failed | TaskState::Expired => Tone::Bad,
        TaskState::Paused | TaskState::Moving | TaskState::Cancelled => Tone::Odd,
        TaskState::Queued | TaskState::Waiting | TaskState::Running | TaskState::Verifying => Tone::Plain,
    }
}

/// How the end of an attempt is meant.
pub const fn of_end(end: AttemptEnd) -> Tone {
    match end {
        AttemptEnd::Succeeded => Tone::Good,
        AttemptEnd::Failed => Tone::Bad,
        AttemptEnd::Evicted | AttemptEnd::Recalled | AttemptEnd::Lost | AttemptEnd::Cancelled => Tone::Odd,
    }
}

/// An agent in one word; [`why_of_agent`] says the rest.
pub fn of_agent(agent: &AgentBody) -> (&'static str, Tone) {
    match (agent.intake, agent.connected, &agent.paused) {
        (_, _, _) if agent.removed.is_some() => ("removed", Tone::Odd),
        (_, None, _) if agent.left.is_some() => ("left", Tone::Odd),
        (Intake::Revoked, _, _) => ("revoked", Tone::Bad),
        (_, _, _) if agent.quarantine.as_ref().is_some_and(|q| q.kind == QuarantineKind::Cloned) => ("cloned", Tone::Bad),
        (_, _, _) if agent.quarantine.is_some() => ("quarantined", Tone::Bad),
        (_, None, _) if agent.asleep.is_some() => ("asleep", Tone::Odd),
        (_, None, _) if agent.silent_since.is_some() => ("silent", Tone::Odd),
        (_, None, _) => ("away", Tone::Odd),
        (Intake::Cordoned | Intake::Draining, Some(_), _) => (agent.intake.as_str(), Tone::Odd),
        (Intake::Open, Some(_), Some(reason)) if is_trouble(reason) => ("trouble", Tone::Bad),
        (Intake::Open, Some(_), Some(_)) => ("paused", Tone::Odd),
        (Intake::Open, Some(_), None) => ("ready", Tone::Good),
    }
}

fn is_trouble(reason: &Reason) -> bool {
    reason.kind.ends_with("_trouble")
}

/// Why it is in that state, where the word alone does not say it.
pub fn why_of_agent(agent: &AgentBody) -> Option<String> {
    match (&agent.quarantine, &agent.paused) {
        (_, _) if agent.intake == Intake::Revoked => None,
        (Some(found), _) => Some(format!("{}: {}", found.kind.words(), found.reason)),
        (None, _) if upgrade_trouble(agent).is_some() => upgrade_trouble(agent),
        (None, Some(reason)) if agent.connected.is_some() && agent.intake == Intake::Open => Some(reason.message.clone()),
        (None, _) => None,
    }
}

/// That it did not become what it should be, and why.
pub fn upgrade_trouble(agent: &AgentBody) -> Option<String> {
    let behind = agent.behind.as_ref()?;
    Some(format!("its upgrade to {} {}: {}", behind.version, behind.step.as_ref()?, behind.reason.as_ref()?))
}
