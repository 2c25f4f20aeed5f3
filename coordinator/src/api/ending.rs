//! How and why jobs and tasks ended, in words for people.

use lull_scheduler::effect::StoppedBy;
use lull_shared::{
    amount::counted,
    job::JobSpec,
    state::{JobState, TaskState},
};

use super::CauseBody;
use crate::store::record::{JobRecord, TaskRecord};

/// How a job ended, or why it is `stopping`; nothing of one that goes on.
pub fn of_job(record: &JobRecord, stopping: Option<JobState>) -> Option<String> {
    let (counts, all) = (record.counts, record.spec.inputs.count());
    let state = match record.state {
        JobState::Active => stopping?,
        ended => ended,
    };
    let so_far = match (counts.succeeded, counts.failed) {
        (0, 0) => String::new(),
        (succeeded, 0) => format!("; {} succeeded before", share(succeeded, all)),
        (0, failed) => format!("; {} failed", share(failed, all)),
        (succeeded, failed) => format!("; {} succeeded before, and {failed} failed", share(succeeded, all)),
    };
    Some(match state {
        JobState::Active => return None,
        JobState::Succeeded if all == 1 => "its task succeeded".into(),
        JobState::Succeeded => format!("all its {all} tasks succeeded"),
        JobState::Failed => format!("{} failed", share(counts.failed, all)),
        JobState::Cancelled | JobState::Expired => format!("{}{so_far}", stopped(record, state)),
    })
}

/// The same with the cause that most of its failures have.
pub fn of_job_with(record: &JobRecord, causes: &[CauseBody]) -> Option<String> {
    let words = of_job(record, record.stopping)?;
    let [first, others @ ..] = causes else { return Some(words) };
    let most = match (others.is_empty(), first.tasks) {
        (true, _) => String::new(),
        (false, tasks) => format!("{tasks} of them: "),
    };
    Some(match record.state {
        JobState::Failed => format!("{words}; {most}{} (such as {})", first.message, first.example),
        _ => words,
    })
}

/// How and why a task ended; nothing of one that is open.
pub fn of_task(task: &TaskRecord, job: &JobRecord) -> Option<String> {
    let attempts = match task.attempts {
        0 | 1 => String::new(),
        attempts => format!(" after {attempts} attempts"),
    };
    match task.state {
        TaskState::Queued
        | TaskState::Waiting
        | TaskState::Running
        | TaskState::Paused
        | TaskState::Moving
        | TaskState::Verifying => None,
        TaskState::Succeeded => {
            let place = task.agent_name.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
            Some(format!("it succeeded{place}{attempts}"))
        }
        TaskState::Failed => {
            let why = task.reason.as_deref().unwrap_or("no reason is known");
            Some(format!("it failed{attempts}: {why}"))
        }
        TaskState::Cancelled => Some(stopped(job, JobState::Cancelled)),
        TaskState::Expired => Some(stopped(job, JobState::Expired)),
    }
}

/// Why a task that has ended did not succeed, for a list that has its state beside it.
pub fn reason(task: &TaskRecord, job: &JobRecord) -> Option<String> {
    match task.state {
        TaskState::Cancelled | TaskState::Expired => of_task(task, job),
        TaskState::Queued
        | TaskState::Waiting
        | TaskState::Running
        | TaskState::Paused
        | TaskState::Moving
        | TaskState::Verifying
        | TaskState::Succeeded
        | TaskState::Failed => task.reason.clone(),
    }
}

/// Who or what stopped a job.
pub fn stopped(record: &JobRecord, state: JobState) -> String {
    match record.stopped_by.as_deref().map(StoppedBy::read) {
        Some(StoppedBy::Caller(who)) => format!("the job was cancelled by {who}"),
        Some(StoppedBy::FinishBy) => overdue(&record.spec),
        Some(StoppedBy::FailuresMax) => match record.spec.failures_max {
            Some(most) => format!("the job was stopped after {}, as it was submitted", counted(most.into(), "failed task")),
            None => "the job was stopped after too many failed tasks".into(),
        },
        Some(StoppedBy::Dependency { job, state }) => {
            format!("the job was stopped because {job}, which it needs to succeed, {}", state.told())
        }
        // A retry cleared who it was.
        None => match state {
            JobState::Expired => overdue(&record.spec),
            _ => "the job was cancelled".into(),
        },
    }
}

fn overdue(spec: &JobSpec) -> String {
    match spec.finish_by {
        Some(at) => format!("the job was to finish by {at}, which passed"),
        None => "the time passed by which the job was to finish".into(),
    }
}

fn share(some: u32, all: u32) -> String {
    match (some, all) {
        (_, 1) => "its task".into(),
        (some, all) if some == all => format!("all its {all} tasks"),
        (some, all) => format!("{some} of its {all} tasks"),
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        id::{JobId, TaskId},
        job::Inputs,
        state::TaskCounts,
        time::Timestamp,
    };

    use super::*;
    use crate::store::conformance::sample;

    fn job(state: JobState, by: Option<&str>, counts: TaskCounts) -> JobRecord {
        let count = TaskState::ALL.into_iter().map(|state| counts.get(state)).sum();
        let mut spec = sample::spec(count);
        spec.inputs = Inputs::Range { first: 0, count };
        spec.finish_by = Some(Timestamp(1_795_564_800_000_000));
        spec.failures_max = Some(3);
        JobRecord {
            job: JobId(42),
            owner: None,
            submitter: "ann".into(),
            spec,
            version_name: "stats@1".into(),
            submitted: Timestamp(0),
            ended: Some(Timestamp(1)),
            state,
            stopping: None,
            stopped_by: by.map(ToOwned::to_owned),
            counts,
        }
    }

    fn task(state: TaskState, attempts: u32, reason: Option<&str>) -> TaskRecord {
        TaskRecord {
            task: TaskId { job: JobId(42), index: 7 },
            state,
            attempts,
            failures: 0,
            agent: None,
            agent_name: Some("desk-1".into()),
            started: None,
            ended: None,
            reason: reason.map(ToOwned::to_owned),
            not_before: None,
            output_bytes: None,
        }
    }

    #[test]
    fn a_job_that_ended_says_how_and_why() {
        let counts =
            |succeeded, failed, cancelled, expired| TaskCounts { succeeded, failed, cancelled, expired, ..Default::default() };
        let told = |state, by, counts| of_job(&job(state, by, counts), None).unwrap_or_default();
        use JobState::{Active, Cancelled, Expired, Failed, Succeeded};
        for (state, by, counts, words) in [
            (Active, None, counts(1, 0, 0, 0), ""),
            (Succeeded, None, counts(1, 0, 0, 0), "its task succeeded"),
            (Succeeded, None, counts(10, 0, 0, 0), "all its 10 tasks succeeded"),
            (Failed, None, counts(7, 3, 0, 0), "3 of its 10 tasks failed"),
            (Failed, None, counts(0, 1, 0, 0), "its task failed"),
            (Cancelled, Some("ann (t7)"), counts(0, 0, 4, 0), "the job was cancelled by ann (t7)"),
            (
                Cancelled,
                Some("ann (t7)"),
                counts(2, 0, 2, 0),
                "the job was cancelled by ann (t7); 2 of its 4 tasks succeeded before",
            ),
            (
                Cancelled,
                Some("failures_max"),
                counts(0, 3, 9, 0),
                "the job was stopped after 3 failed tasks, as it was submitted; 3 of its 12 tasks failed",
            ),
            (
                Cancelled,
                Some("dependency j7, which ended as failed"),
                counts(0, 0, 4, 0),
                "the job was stopped because j7, which it needs to succeed, failed",
            ),
            (
                Cancelled,
                Some("dependency j7, which ended as cancelled"),
                counts(0, 0, 4, 0),
                "the job was stopped because j7, which it needs to succeed, was cancelled",
            ),
            (Expired, Some("finish_by"), counts(0, 0, 0, 4), "the job was to finish by 2026-11-24T24:00:00Z, which passed"),
        ] {
            let words = words.replace("2026-11-24T24:00:00Z", &Timestamp(1_795_564_800_000_000).to_string());
            assert_eq!(told(state, by, counts), words);
        }
        let stopping = job(Active, Some("ben"), counts(0, 0, 1, 0));
        assert_eq!(of_job(&stopping, Some(Cancelled)).as_deref(), Some("the job was cancelled by ben"));
    }

    #[test]
    fn a_job_that_failed_names_the_cause_that_most_of_its_failures_have() {
        let counts = TaskCounts { succeeded: 7, failed: 3, ..Default::default() };
        let cause = |message: &str, tasks| CauseBody {
            message: message.into(),
            tasks,
            example: TaskId { job: JobId(42), index: 2 },
            log: None,
        };
        let told = |causes: &[CauseBody]| of_job_with(&job(JobState::Failed, None, counts), causes).unwrap_or_default();
        assert_eq!(told(&[]), "3 of its 10 tasks failed");
        assert_eq!(told(&[cause("exit code 3", 3)]), "3 of its 10 tasks failed; exit code 3 (such as j42.2)");
        let two = [cause("exit code 3", 2), cause("a trap", 1)];
        assert_eq!(told(&two), "3 of its 10 tasks failed; 2 of them: exit code 3 (such as j42.2)");
    }

    #[test]
    fn a_task_that_ended_says_how_and_why() {
        let cancelled = job(JobState::Cancelled, Some("ann (t7)"), TaskCounts { cancelled: 4, ..Default::default() });
        let told = |task: TaskRecord| (of_task(&task, &cancelled), reason(&task, &cancelled));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(told(task(TaskState::Running, 1, Some("x"))), (None, some("x")));
        assert_eq!(told(task(TaskState::Succeeded, 1, None)), (some("it succeeded on desk-1"), None));
        assert_eq!(told(task(TaskState::Succeeded, 3, None)), (some("it succeeded on desk-1 after 3 attempts"), None));
        assert_eq!(
            told(task(TaskState::Failed, 2, Some("exit code 3"))),
            (some("it failed after 2 attempts: exit code 3"), some("exit code 3"))
        );
        let by = some("the job was cancelled by ann (t7)");
        assert_eq!(told(task(TaskState::Cancelled, 1, Some("its owner came back"))), (by.clone(), by));
    }
}
