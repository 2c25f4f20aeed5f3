//! Simulated snapshots: what of a task is done, kept by the machine that made them or fetched them.

use std::time::Duration;

use lull_agent::session::Event;
use lull_coordinator::scheduler::{effect::Custody, event::Event as Scheduled};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AttemptId, TaskId},
};

use super::{
    coordinator::Input,
    events::{CoordinatorEvent, CoordinatorId, MachineEvent, MachineId, News},
    machine::{Machine, Power},
    options::{Kind, Mutation},
    promise::{Checked, Promise, Violation},
    world::World,
};

/// A snapshot that was taken at some time.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    task: TaskId,
    /// What is done of the task.
    done: Duration,
}

impl World {
    /// An agent has the state of what runs written down, and goes on.
    pub fn checkpoint(&mut self, id: MachineId, slot: u16, attempt: AttemptId) {
        if let Some(blob) = self.written(id, slot, attempt) {
            let event = Event::Saved { slot, attempt, snapshot: blob, suspended: false };
            self.machines[id].own.push_back(event);
        }
    }

    /// An agent wants what runs to be written down and its executor to end.
    pub fn suspend(&mut self, id: MachineId, slot: u16, attempt: AttemptId) {
        let time = self.dice.machines.seconds(0.005, 0.4);
        let now = self.now;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        executor.suspend(now);
        let tick = executor.tick();
        self.push_machine(id, now + time, MachineEvent::Executor { slot, tick, news: News::Suspended { attempt } });
    }

    /// What was suspended is written down, or could not be; its process is gone.
    pub fn suspended(&mut self, id: MachineId, slot: u16, attempt: AttemptId) -> Checked {
        let written = if self.strikes(Kind::Executor, 0.01) { None } else { self.written(id, slot, attempt) };
        self.machines[id].slots[usize::from(slot)].vanish();
        if let Some(snapshot) = written {
            self.tell(id, Event::Saved { slot, attempt, snapshot, suspended: true })?;
        }
        self.tell(id, Event::Gone { slot, failed: None })
    }

    fn written(&mut self, id: MachineId, slot: u16, attempt: AttemptId) -> Option<BlobRef> {
        let done = self.machines[id].slots[usize::from(slot)].progress(attempt, self.now)?;
        let blob = BlobRef::of(format!("{attempt} after {done:?}").as_bytes());
        self.snapshots.insert(blob.digest, Snapshot { task: attempt.task, done });
        self.machines[id].cache.insert(blob.digest);
        self.summary.snapshots += 1;
        Some(blob)
    }

    /// Whether this is the digest of a snapshot, and somebody can give it to this machine.
    pub fn holds_snapshot(&self, asker: MachineId, digest: &Digest) -> Option<bool> {
        self.snapshots.get(digest)?;
        let others = self.machines.iter().enumerate().filter(|(id, _)| *id != asker);
        let mut others = others.map(|(_, machine)| machine);
        Some(others.any(|machine| gives(machine, digest)) || self.is_in_custody(digest))
    }

    fn is_in_custody(&self, digest: &Digest) -> bool {
        let mut reigning = self.coordinators.iter().filter(|coordinator| coordinator.reign().is_some());
        reigning.any(|coordinator| coordinator.snapshots.contains_key(digest))
    }

    /// What a coordinator does with its own copies.
    pub fn custody(&mut self, id: CoordinatorId, custody: Custody) {
        match custody {
            Custody::Report => {
                let kept = self.coordinators[id].snapshots.iter();
                let blobs = kept.map(|(digest, size_bytes)| BlobRef { digest: *digest, size_bytes: *size_bytes }).collect();
                self.arrives(id, Input::Event(Box::new(Scheduled::KeptHere { blobs })));
            }
            Custody::Keep(_) if self.options.mutation == Some(Mutation::KeepNothing) => {}
            Custody::Keep(snapshot) => {
                let at = self.now + self.dice.coordinators.seconds(0.01, 0.5);
                self.push_coordinator(id, at, CoordinatorEvent::Fetched(snapshot));
            }
            Custody::Discard(digest) => drop(self.coordinators[id].snapshots.remove(&digest)),
        }
    }

    /// A snapshot gets to a coordinator, if anybody gives it.
    pub fn custody_fetched(&mut self, id: CoordinatorId, snapshot: BlobRef) {
        let digest = snapshot.digest;
        let event = match self.machines.iter().any(|machine| gives(machine, &digest)) {
            true => {
                self.coordinators[id].snapshots.insert(digest, snapshot.size_bytes);
                Scheduled::KeptHere { blobs: vec![snapshot] }
            }
            false => Scheduled::NotKeptHere { digest },
        };
        self.arrives(id, Input::Event(Box::new(event)));
    }

    /// What was done of a task before an attempt went on from a snapshot, which must be one of that task and here.
    pub fn done_before(&mut self, id: MachineId, attempt: AttemptId, resume: Option<BlobRef>) -> Result<Duration, Violation> {
        let Some(blob) = resume else { return Ok(Duration::ZERO) };
        let agent = self.machines[id].agent;
        let snapshot = self.snapshots.get(&blob.digest).filter(|_| self.machines[id].cache.contains(&blob.digest));
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

/// Whether a machine could give a blob to others now.
fn gives(machine: &Machine, digest: &Digest) -> bool {
    machine.power == Power::On && machine.link.is_some() && machine.cache.contains(digest)
}
