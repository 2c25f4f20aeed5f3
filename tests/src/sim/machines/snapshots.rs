//! Simulated snapshots: what of a task is done, kept by the machine that made them or fetched them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lull_scheduler::{effect::OwnCopy, event::Event as Scheduled};
use lull_session::Event;
use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AttemptId, TaskId},
};

use crate::sim::{
    coordinator::Input,
    events::{CoordinatorEvent, CoordinatorId, MachineEvent, MachineId, News},
    judged::promise::{Checked, Promise, Violation},
    machines::machine::Power,
    options::{Kind, Mutation},
    world::World,
};

/// All snapshots that some machine keeps.
#[derive(Debug, Default)]
pub(crate) struct Snapshots(BTreeMap<Digest, Snapshot>);

/// A snapshot that was taken at some time.
#[derive(Debug)]
struct Snapshot {
    task: TaskId,
    /// What is done of the task.
    done: Duration,
    keepers: BTreeSet<MachineId>,
}

impl Snapshots {
    /// If this is a snapshot, the machine has it from now on.
    pub(crate) fn keep(&mut self, digest: Digest, keeper: MachineId) {
        if let Some(snapshot) = self.0.get_mut(&digest) {
            snapshot.keepers.insert(keeper);
        }
    }

    fn forget(&mut self, digest: Digest, keeper: MachineId) {
        let Some(snapshot) = self.0.get_mut(&digest) else { return };
        snapshot.keepers.remove(&keeper);
        if snapshot.keepers.is_empty() {
            self.0.remove(&digest);
        }
    }
}

impl World {
    /// An agent has the state of what runs written down, and goes on.
    pub(crate) fn checkpoint(&mut self, id: MachineId, slot: u16, attempt: AttemptId) -> Checked {
        if let Some(blob) = self.written(id, slot, attempt) {
            let event = Event::Saved { slot, attempt, snapshot: blob, suspended: false };
            self.machines[id].own.push_back(event);
            let time = self.dice.machines.seconds(0.02, 0.2);
            self.hold_up(id, slot, time)?;
        }
        Ok(())
    }

    /// An agent wants what runs to be written down and its executor to end.
    pub(crate) fn suspend(&mut self, id: MachineId, slot: u16, attempt: AttemptId) {
        let time = self.dice.machines.seconds(0.005, 0.4);
        let now = self.now;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        executor.suspend(now);
        let tick = executor.tick();
        self.push_machine(id, now + time, MachineEvent::Executor { slot, tick, news: News::Suspended { attempt } });
    }

    /// What was suspended is written down, or could not be; its process is gone.
    pub(crate) fn suspended(&mut self, id: MachineId, slot: u16, attempt: AttemptId) -> Checked {
        let written = if self.strikes(Kind::Executor, 0.01) { None } else { self.written(id, slot, attempt) };
        let now = self.now;
        self.note_left(id, slot);
        self.machines[id].slots[usize::from(slot)].vanish(now);
        if let Some(snapshot) = written {
            self.tell(id, Event::Saved { slot, attempt, snapshot, suspended: true })?;
        }
        self.tell(id, Event::Gone { slot, failed: None })
    }

    fn written(&mut self, id: MachineId, slot: u16, attempt: AttemptId) -> Option<BlobRef> {
        let done = self.machines[id].slots[usize::from(slot)].progress(attempt, self.now)?;
        let blob = BlobRef::of(format!("{attempt} after {done:?}").as_bytes());
        let keepers = BTreeSet::new();
        self.snapshots.0.entry(blob.digest).or_insert(Snapshot { task: attempt.task, done, keepers });
        self.snapshots.keep(blob.digest, id);
        self.machines[id].cache.insert(blob.digest);
        self.summary.snapshots += 1;
        Some(blob)
    }

    /// A blob is not needed any more for now: code stays, snapshots make room for others.
    pub(crate) fn unpin(&mut self, id: MachineId, digest: Digest) {
        self.machines[id].fetching.remove(&digest);
        if self.snapshots.0.contains_key(&digest) {
            self.forget_snapshot(id, digest);
        }
    }

    /// A machine has a snapshot no more.
    pub(crate) fn forget_snapshot(&mut self, id: MachineId, digest: Digest) {
        self.machines[id].cache.remove(&digest);
        self.snapshots.forget(digest, id);
    }

    /// Whether a blob is a snapshot that nobody can give to this machine.
    pub(crate) fn lacks_snapshot(&self, asker: MachineId, digest: &Digest) -> bool {
        !(self.database.codes.contains(digest) || self.is_given(Some(asker), digest) || self.is_kept_here(digest))
    }

    fn is_given(&self, asker: Option<MachineId>, digest: &Digest) -> bool {
        let gives = |id: &MachineId| {
            let machine = self.machines.get(*id).filter(|_| Some(*id) != asker);
            machine.is_some_and(|machine| machine.power == Power::On && machine.link.is_some())
        };
        self.snapshots.0.get(digest).is_some_and(|snapshot| snapshot.keepers.iter().any(gives))
    }

    fn is_kept_here(&self, digest: &Digest) -> bool {
        let mut leader = self.coordinators.iter().filter(|coordinator| coordinator.leader().is_some());
        leader.any(|coordinator| coordinator.snapshots.contains_key(digest))
    }

    /// What a coordinator does with its own copies.
    pub(crate) fn own_copy(&mut self, id: CoordinatorId, own_copy: OwnCopy) {
        match own_copy {
            OwnCopy::Report => {
                let kept = self.coordinators[id].snapshots.iter();
                let blobs = kept.map(|(digest, size_bytes)| BlobRef { digest: *digest, size_bytes: *size_bytes }).collect();
                self.arrives(id, Input::Event(Box::new(Scheduled::KeptHere { blobs })));
            }
            OwnCopy::Keep(_) if self.options.mutation == Some(Mutation::KeepNothing) => {}
            OwnCopy::Keep(snapshot) => {
                let at = self.now + self.dice.coordinators.seconds(0.01, 0.5);
                self.push_coordinator(id, at, CoordinatorEvent::Fetched(snapshot));
            }
            OwnCopy::Discard(digest) => {
                self.coordinators[id].snapshots.remove(&digest);
                self.snapshots.forget(digest, as_holder(id));
            }
        }
    }

    /// A snapshot gets to a coordinator, if anybody gives it.
    pub(crate) fn own_copy_fetched(&mut self, id: CoordinatorId, snapshot: BlobRef) {
        let digest = snapshot.digest;
        let event = match self.is_given(None, &digest) {
            true => {
                self.coordinators[id].snapshots.insert(digest, snapshot.size_bytes);
                self.snapshots.keep(digest, as_holder(id));
                Scheduled::KeptHere { blobs: vec![snapshot] }
            }
            false => Scheduled::NotKeptHere { digest },
        };
        self.arrives(id, Input::Event(Box::new(event)));
    }

    /// What is done of a task by a snapshot that somebody keeps.
    pub(crate) fn snapshot_done(&self, digest: Digest) -> Option<Duration> {
        self.snapshots.0.get(&digest).map(|snapshot| snapshot.done)
    }

    /// What was done of a task before an attempt went on from a snapshot, which must be one of that task and here.
    pub(crate) fn done_before(
        &mut self,
        id: MachineId,
        attempt: AttemptId,
        resume: Option<BlobRef>,
    ) -> Result<Duration, Violation> {
        let Some(blob) = resume else { return Ok(Duration::ZERO) };
        let agent = self.machines[id].agent;
        let snapshot = self.snapshots.0.get(&blob.digest).filter(|snapshot| snapshot.keepers.contains(&id));
        match snapshot.filter(|snapshot| snapshot.task == attempt.task) {
            Some(snapshot) => {
                self.summary.resumed += 1;
                self.summary.carried += snapshot.done;
                Ok(snapshot.done)
            }
            None => {
                let what = format!("{agent} goes on with {attempt} from a snapshot that is not there or not its own");
                Err(Violation::new(Promise::Sound, what, &[attempt.into(), agent.into()]))
            }
        }
    }
}

/// A coordinator's place among the keepers of snapshots.
fn as_holder(id: CoordinatorId) -> MachineId {
    MachineId::MAX - id
}
