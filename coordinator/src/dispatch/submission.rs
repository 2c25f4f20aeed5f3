//! What the store must say about a job on its way in, and whether that is still so when the loop comes to it.
//!
//! A submission is looked up at the edge, which may then take its time: a large pack is read through. If a job has
//! ended meanwhile, it is neither among the scheduler's active ones nor among those that were found ended, and what it
//! has an idempotency key for would be submitted twice. The loop then looks again, with all that happened committed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lull_scheduler::{
    effect::{Look, Refusal, Reply},
    event::{EndedTask, Event, Retry, Submission},
};
use lull_shared::{
    id::{JobId, TaskIndex},
    job::Dependency,
    state::JobState,
    time::Timestamp,
};

use crate::store::{Store, StoreResult};

/// A moment between two jobs' ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(u64);

/// Counts the ends of jobs, and the times that the scheduler was loaded anew.
#[derive(Debug, Clone, Default)]
pub struct Moments(Arc<AtomicU64>);

impl Moments {
    /// What is read from the store after this is so until another moment.
    pub fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }

    /// A job has ended, or may have.
    pub fn pass(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a job may have ended since.
    pub fn have_passed(&self, moment: Moment) -> bool {
        self.now() != moment
    }
}

/// Brings a submission up to date. The answer, if a job was submitted before under the same key.
pub async fn look_up(store: &dyn Store, submission: &mut Submission) -> StoreResult<Option<Reply>> {
    if let Some(key) = &submission.spec.idempotency_key
        && let Some(job) = store.job_by_key(submission.owner, key).await?
        && let Some(record) = store.job(job).await?
    {
        return Ok(Some(match record.spec.request == submission.spec.request {
            true => Reply::Submitted { job, existing: true },
            false => Reply::Refused(Refusal::KeyTaken { job }),
        }));
    }
    submission.ended.append(&mut ended(store, &submission.spec.after).await?);
    Ok(None)
}

/// What is needed to let a job's badly ended tasks run again, with the first `part` of those tasks; none if there is no such
/// job.
pub async fn look_up_retry(
    store: &dyn Store,
    job: JobId,
    by: String,
    finish_by: Option<Timestamp>,
    part: u32,
) -> StoreResult<Option<Retry>> {
    let Some(job) = store.load_for_retry(job).await? else { return Ok(None) };
    let ended = ended(store, &job.spec.after).await?;
    let (tasks, next) = ended_badly(store, job.job, 0, part).await?;
    Ok(Some(Retry { by, finish_by, job, tasks, next, ended }))
}

/// What a scheduler asked for: a part of a job's started tasks that ended badly.
pub async fn look_at(store: &dyn Store, look: Look) -> StoreResult<Event> {
    let Look { number, job, from, limit } = look;
    let (tasks, next) = ended_badly(store, job, from, limit).await?;
    Ok(Event::EndedBadly { look: number, job, tasks, next })
}

/// A part of a job's started tasks that ended badly, and where more of them may be.
async fn ended_badly(
    store: &dyn Store,
    job: JobId,
    from: TaskIndex,
    limit: u32,
) -> StoreResult<(Vec<EndedTask>, Option<TaskIndex>)> {
    let tasks = store.ended_badly(job, from, limit).await?;
    let next = tasks.last().filter(|_| tasks.len() >= limit as usize).map(|last| last.index.saturating_add(1));
    Ok((tasks, next))
}

/// How those of the jobs stand that have ended.
async fn ended(store: &dyn Store, after: &[Dependency]) -> StoreResult<BTreeMap<JobId, JobState>> {
    let mut ended = BTreeMap::new();
    for dependency in after {
        if let Some(record) = store.job(dependency.job).await?
            && record.state.is_ended()
        {
            ended.insert(record.job, record.state);
        }
    }
    Ok(ended)
}
