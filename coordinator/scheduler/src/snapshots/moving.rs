//! Where tasks go on: the snapshots that agents keep, and when they are of no use any more.
//!
//! ```text
//! agent: Saved --> the task's snapshot (recorded) --> resume of its next attempt, wherever that runs
//!                       |  a newer one, the task's end, a failed attempt, an agent that cannot use it
//!                       v
//!                    Discard, to all agents that keep it: at once, or when they say hello
//! ```
//! An agent's word that it keeps a snapshot is a claim: if nobody can fetch or use it, the task begins anew.

use std::time::Duration;

use lull_shared::{
    digest::Digest,
    id::{AgentId, AttemptId, TaskId},
    limits::SNAPSHOT_BYTES_MAX,
    message::{Build, SnapshotRef},
};

use crate::{
    Scheduler,
    effect::{Change, Effect},
    event::Saved,
    placement::{
        build::{self, Choice, Length, Reason},
        rank::micros,
    },
};

impl Scheduler {
    /// An agent keeps a snapshot of an attempt that it holds.
    pub(crate) fn save(&mut self, id: AgentId, attempt: AttemptId, mut snapshot: SnapshotRef) {
        let agent = self.fleet.known(id);
        if !agent.held.contains_key(&attempt) {
            self.discard_at(id, snapshot.blob.digest);
            return self.disbelieve(id, attempt);
        }
        if snapshot.blob.size_bytes > SNAPSHOT_BYTES_MAX {
            agent.misdeeds.claims += 1;
            return;
        }
        let job = self.jobs.get_mut(&attempt.task.job).expect("a held attempt's job is active");
        if job.verifies(attempt.task.index) {
            // What is compared must be the work of one agent alone.
            agent.outgoing.discard.push(snapshot.blob.digest);
            return;
        }
        let live = job.tasks.live(attempt.task.index, attempt.number).expect("a held attempt is live");
        // What it claims to have spent is believed up to the time that it had, and what was spent before.
        let spent_us_max = micros(self.now.since(live.since)).saturating_add(live.resumed_us.unwrap_or(0));
        snapshot.spent_us = snapshot.spent_us.min(spent_us_max);
        let known = job.tasks.saved(attempt.task.index);
        if known.is_some_and(|known| known.agent != id && known.snapshot.spent_us > snapshot.spent_us) {
            // The other copy is further.
            self.note_started(id, attempt);
            return self.discard_at(id, snapshot.blob.digest);
        }
        job.tasks.save(attempt.task.index, Saved { snapshot, agent: id });
        self.fleet.known(id).note_movable(attempt);
        self.note_started(id, attempt);
        let change = Change::SnapshotSaved { attempt, agent: id, snapshot, at: self.wall() };
        self.effects.push_back(Effect::Record(change));
        self.begin_kept_snapshots(attempt.task, snapshot, id);
    }

    /// The snapshot that the task goes on from, if there is one.
    pub(crate) fn saved_snapshot(&self, task: TaskId) -> Option<SnapshotRef> {
        Some(self.jobs.get(&task.job)?.tasks.saved(task.index)?.snapshot)
    }

    /// Its digest.
    pub(crate) fn saved_digest(&self, task: TaskId) -> Option<Digest> {
        self.saved_snapshot(task).map(|snapshot| snapshot.blob.digest)
    }

    /// The task's snapshot, if it has one, is of no use any more.
    pub(crate) fn drop_saved(&mut self, task: TaskId) {
        let dropped = self.jobs.get_mut(&task.job).and_then(|job| job.tasks.drop_saved(task.index));
        if dropped.is_some() {
            self.effects.push_back(Effect::Record(Change::SnapshotDropped { task }));
            self.end_kept_snapshots(task);
        }
    }

    /// An agent cannot go on from the task's snapshot: the one before serves, if there is one.
    pub(crate) fn give_up_saved(&mut self, task: TaskId) {
        if !self.fall_back(task) {
            self.drop_saved(task);
        }
    }

    /// Which build an attempt on this agent executes, and why.
    pub(crate) fn build_for(&self, task: TaskId, agent: Option<AgentId>, resumes: bool) -> Choice {
        if resumes {
            return Choice { build: Build::Migratable, reason: Reason::Resumes };
        }
        let Some(job) = self.jobs.get(&task.job) else { return Choice::default() };
        if job.new.movable.is_some() && job.verifies(task.index) {
            return Choice { build: Build::Plain, reason: Reason::Verified };
        }
        let known = || agent.is_some_and(|agent| self.knows_hours(agent));
        // Even of what may take any time something follows where it is known when the machine's owner comes.
        let length = job.pace.length(self.now).or_else(|| known().then_some(Length::Over(Duration::ZERO)));
        build::choose(job.new.spec.moving, job.new.movable, length, |time| self.risk(agent, time))
    }
}
