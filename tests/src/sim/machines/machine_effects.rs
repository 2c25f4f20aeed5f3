//! What a session wants done, done by a simulated machine.

use std::{sync::Arc, time::Duration};

use lull_session::{CloseReason, Delivery, Effect, Event};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::AttemptId,
    message::{GoodbyeReason, ToCoordinator},
    resources::Capacity,
};

use crate::sim::{
    events::{Answer, MachineEvent, MachineId, What},
    judged::promise::{Checked, Promise, hold},
    machines::executor::input_of,
    options::Kind,
    people::plan,
    store::at_once,
    world::World,
};

impl World {
    pub(crate) fn carry_out(&mut self, id: MachineId, effect: Effect) -> Checked {
        match effect {
            Effect::Send(message) => return self.say(id, message),
            Effect::Close(reason) => self.close(id, &reason),
            Effect::Probe(part) => self.machines[id].own.push_back(Event::Probed { part, result: Ok(()) }),
            Effect::ReadLog { .. } => {}
            Effect::Adopt(_)
            | Effect::Learn(_)
            | Effect::KeepPolicy(_)
            | Effect::Upgrade(_)
            | Effect::Wake(_)
            | Effect::Log(_) => {}
            Effect::Publish(capacity) => self.gossip(capacity),
            Effect::Fetch(blob) => self.fetch(id, blob),
            Effect::Unpin(digest) => self.unpin(id, digest),
            Effect::Start { slot, plan, build } => return self.start_executor(id, slot, &plan, build),
            Effect::Serve { slot, plan } => return self.turn_executor(id, slot, &plan),
            Effect::Run { slot, attempt, input, resume } => return self.run_attempt(id, slot, attempt, &input, resume),
            Effect::Checkpoint { slot, attempt } => return self.checkpoint(id, slot, attempt),
            Effect::Suspend { slot, attempt } => self.suspend(id, slot, attempt),
            Effect::Erase(digest) => self.forget_snapshot(id, digest),
            Effect::Freeze { slot } => self.freeze_executor(id, slot),
            Effect::Thaw { slot } => return self.thaw_executor(id, slot),
            Effect::Kill { slot } => self.kill_executor(id, slot),
            Effect::Keep(record) => {
                let attempt = record.attempt;
                self.machines[id].disk.pending.insert(attempt, Arc::clone(&record));
                self.disk_works(id, Answer::Kept(attempt));
            }
            Effect::Recollect(attempts) => self.disk_works(id, Answer::Recollected(attempts)),
            Effect::Deliver { attempt, .. } => self.deliver(id, attempt),
            Effect::Drop(attempts) => {
                for attempt in attempts {
                    self.check_dropped(id, attempt)?;
                    let disk = &mut self.machines[id].disk;
                    disk.results.remove(&attempt);
                    disk.pending.remove(&attempt);
                }
            }
            Effect::Quit => self.quit(id),
        }
        Ok(())
    }

    fn say(&mut self, id: MachineId, message: ToCoordinator) -> Checked {
        if let ToCoordinator::Hello(hello) = &message {
            self.check_greeting(id, &hello.holding)?;
        }
        let agent = self.machines[id].agent;
        if let ToCoordinator::Finished(finished) = &message {
            for record in finished {
                let disk = &self.machines[id].disk;
                let kept = disk.results.contains_key(&record.attempt) || disk.pending.contains_key(&record.attempt);
                let what = || format!("{agent} spoke of the result of {}, which its disk neither has nor writes", record.attempt);
                hold(Promise::NothingLost, kept, what, &[record.attempt.into(), agent.into()])?;
            }
        }
        if matches!(message, ToCoordinator::Finished(_) | ToCoordinator::Released { .. }) && plan::is_tardy(&self.options, agent)
        {
            self.note(|| format!("{agent} keeps to itself that something has ended"));
            return Ok(());
        }
        self.trace_to_coordinator(agent, &message);
        self.machines[id].said.push(message);
        Ok(())
    }

    fn close(&mut self, id: MachineId, reason: &CloseReason) {
        let machine = &mut self.machines[id];
        let agent = machine.agent;
        machine.said.clear();
        let Some(link) = machine.link.take() else { return };
        self.note(|| format!("{agent} closes its stream: {reason}"));
        self.close_from_agent(link);
        let stay_away = match reason {
            CloseReason::Goodbye(GoodbyeReason::Revoked | GoodbyeReason::TooOld { .. } | GoodbyeReason::Cloned) => 60,
            CloseReason::Goodbye(GoodbyeReason::Protocol(_) | GoodbyeReason::Superseded)
            | CloseReason::Protocol(_)
            | CloseReason::NoWelcome => 5,
            CloseReason::Goodbye(GoodbyeReason::Stopping | GoodbyeReason::Standby { .. })
            | CloseReason::Silent
            | CloseReason::Stale => 0,
        };
        self.dial_after(id, Duration::from_secs(stay_away));
    }

    /// Soft state: lost, late or double, and nobody may mind.
    fn gossip(&mut self, capacity: Capacity) {
        if self.options.week.is_some() {
            return;
        }
        let bad = self.options.rate(Kind::Gossip) > 0.0;
        let dice = &mut self.dice.links;
        if bad && dice.chance(0.3) {
            return;
        }
        let copies = if bad && dice.chance(0.05) { 2 } else { 1 };
        for _ in 0..copies {
            let late = if bad && dice.chance(0.1) { dice.seconds(0.0, 90.0) } else { dice.seconds(0.0, 2.0) };
            self.queue.push(self.now + late, What::Gossip { capacity: Box::new(capacity.clone()) });
        }
    }

    fn disk_works(&mut self, id: MachineId, answer: Answer) {
        let time = self.dice.machines.seconds(0.001, 0.004);
        let disk = &mut self.machines[id].disk;
        disk.busy_until = disk.busy_until.max(self.now) + time;
        let at = disk.busy_until;
        self.push_machine(id, at, MachineEvent::Disk(answer));
    }

    fn fetch(&mut self, id: MachineId, blob: BlobRef) {
        let machine = &mut self.machines[id];
        if machine.cache.contains(&blob.digest) {
            return machine.own.push_back(Event::Fetched { digest: blob.digest, result: Ok(()) });
        }
        self.fetches += 1;
        let fetch = self.fetches;
        machine.fetching.insert(blob.digest, fetch);
        let at = self.now + self.dice.machines.seconds(0.005, 0.5);
        self.push_machine(id, at, MachineEvent::Fetched { digest: blob.digest, fetch });
    }

    pub(crate) fn fetch_ends(&mut self, id: MachineId, digest: Digest, fetch: u64) -> Checked {
        let machine = &self.machines[id];
        if machine.fetching.get(&digest) != Some(&fetch) {
            return Ok(());
        }
        if machine.link.is_none() {
            // It waits for a coordinator's return.
            let at = self.now + Duration::from_secs(1);
            self.push_machine(id, at, MachineEvent::Fetched { digest, fetch });
            return Ok(());
        }
        let failed = self.strikes(Kind::Executor, 0.003) || self.lacks_snapshot(id, &digest);
        let machine = &mut self.machines[id];
        machine.fetching.remove(&digest);
        if !failed {
            machine.cache.insert(digest);
            self.snapshots.keep(digest, id);
        }
        self.tell(id, Event::Fetched { digest, result: if failed { Err("nobody has it".into()) } else { Ok(()) } })
    }

    fn deliver(&mut self, id: MachineId, attempt: AttemptId) {
        let input = self.ledger.jobs.get(&attempt.task.job).map_or(0, |job| job.first + u64::from(attempt.task.index));
        let at = self.now + self.dice.machines.seconds(0.02, 0.5);
        self.push_machine(id, at, MachineEvent::Delivered { attempt, input });
    }

    pub(crate) fn delivery_ends(&mut self, id: MachineId, attempt: AttemptId, input: u64) -> Checked {
        let there = self.machines[id].link.is_some_and(|link| {
            let stream = &self.links[link];
            let coordinator = &self.coordinators[stream.coordinator];
            !stream.broken && coordinator.life == stream.coordinator_life && !coordinator.is_frozen(self.now)
        });
        let stored = there && at_once(self.store_blob(plan::output(input)));
        let delivery = if stored { Delivery::Stored } else { Delivery::Failed };
        self.tell(id, Event::Delivered { attempt, delivery })
    }

    async fn store_blob(&self, bytes: String) -> bool {
        let Ok(mut writer) = self.database.store.begin_blob(bytes.len() as u64).await else { return false };
        writer.write(bytes.as_bytes()).await.is_ok() && writer.finish().await.is_ok()
    }
}

/// The number that a simulated function reads.
pub(crate) fn number_of(attempt: AttemptId, input: &lull_shared::message::Payload) -> u64 {
    input_of(input).unwrap_or_else(|| unreachable!("{attempt} has a number for its input"))
}
