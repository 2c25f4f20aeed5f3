//! Where tasks go on: the snapshots that agents keep, and when they are of no use any more.
//!
//! ```text
//! agent: Saved --> the task's snapshot (recorded) --> resume of its next attempt, wherever that runs
//!                       |  a newer one, the task's end, a failed attempt, an agent that cannot use it
//!                       v
//!                    Discard, to the agent that keeps it: at once, or when it says hello
//! ```
//! An agent's word that it keeps a snapshot is a claim: if nobody can fetch or use it, the task begins anew.

use std::time::Duration;

use lull_shared::{
    digest::Digest,
    id::{AgentId, AttemptId, JobId, TaskId},
    limits::SNAPSHOT_BYTES_MAX,
    message::{Build, KeptSnapshot, SnapshotRef},
};

use super::{
    Scheduler,
    build::{self, Choice, Reason},
    effect::{Change, Effect},
    event::Saved,
    rank::micros,
};

impl Scheduler {
    /// An agent keeps a snapshot of an attempt that it holds.
    pub(super) fn save(&mut self, id: AgentId, attempt: AttemptId, mut snapshot: SnapshotRef) {
        let agent = self.fleet.known(id);
        if !agent.held.contains_key(&attempt) {
            agent.outgoing.discard.push(snapshot.blob.digest);
            self.speak(id);
            return self.disbelieve(id, attempt);
        }
        if snapshot.blob.size_bytes > SNAPSHOT_BYTES_MAX {
            agent.misdeeds.claims += 1;
            return;
        }
        let job = self.jobs.get_mut(&attempt.task.job).expect("a held attempt's job is active");
        let live = job.tasks.live(attempt.task.index, attempt.number).expect("a held attempt is live");
        // What it claims to have spent is believed up to the time that it had, and what was spent before.
        let spent_us_max = micros(self.now.since(live.since)).saturating_add(live.resumed_us.unwrap_or(0));
        snapshot.spent_us = snapshot.spent_us.min(spent_us_max);
        let known = job.tasks.saved(attempt.task.index);
        if known.is_some_and(|known| known.agent != id && known.snapshot.spent_us > snapshot.spent_us) {
            // The other copy is further.
            self.note_started(id, attempt);
            self.fleet.known(id).outgoing.discard.push(snapshot.blob.digest);
            return self.speak(id);
        }
        let old = job.tasks.save(attempt.task.index, Saved { snapshot, agent: id });
        self.fleet.known(id).note_movable(attempt);
        self.note_started(id, attempt);
        self.fleet.reindex(id);
        let change = Change::SnapshotSaved { attempt, agent: id, snapshot, at: self.now };
        self.effects.push_back(Effect::Record(change));
        if let Some(old) = old.filter(|old| old.snapshot.blob.digest != snapshot.blob.digest || old.agent != id) {
            self.discard(old);
        }
    }

    /// The snapshot that the task goes on from, if there is one.
    pub(super) fn saved_digest(&self, task: TaskId) -> Option<Digest> {
        Some(self.jobs.get(&task.job)?.tasks.saved(task.index)?.snapshot.blob.digest)
    }

    /// The task's snapshot, if it has one, is of no use any more.
    pub(super) fn drop_saved(&mut self, task: TaskId) {
        let Some(saved) = self.jobs.get_mut(&task.job).and_then(|job| job.tasks.drop_saved(task.index)) else { return };
        self.effects.push_back(Effect::Record(Change::SnapshotDropped { task }));
        self.discard(saved);
    }

    /// Lets an agent that came back delete what nobody needs any more.
    pub(super) fn discard_stale(&mut self, id: AgentId, kept: Vec<KeptSnapshot>) {
        let current = |kept: &KeptSnapshot| self.saved_digest(kept.task) == Some(kept.digest);
        let stale: Vec<Digest> = kept.iter().filter(|kept| !current(kept)).map(|kept| kept.digest).collect();
        self.fleet.known(id).outgoing.discard.extend(stale);
        self.speak(id);
    }

    /// Which build an attempt on this agent executes, and why.
    pub(super) fn build_for(&self, job: JobId, _agent: Option<AgentId>, resumes: bool) -> Choice {
        if resumes {
            return Choice { build: Build::Migratable, reason: Reason::Resumes };
        }
        let Some(job) = self.jobs.get(&job) else { return Choice::default() };
        let expected = job.pace.expected_us().map(Duration::from_micros);
        build::choose(job.new.spec.moving, job.new.movable, expected, self.limits.undisturbed)
    }

    fn discard(&mut self, saved: Saved) {
        let Some(agent) = self.fleet.get_mut(saved.agent) else { return };
        if agent.stream().is_some() {
            agent.outgoing.discard.push(saved.snapshot.blob.digest);
            self.speak(saved.agent);
        }
    }
}
