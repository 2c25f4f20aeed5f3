//! When everything has healed and every job has ended: is it all there?

use lull_coordinator::store::{Reading as _, record::ResultRecord};
use lull_shared::{
    id::{JobId, TaskId},
    message::Payload,
    state::{Intake, TaskState},
};

use crate::sim::{
    judged::{
        ledger::Place,
        promise::{Checked, Promise, Subject, Violation, hold},
    },
    machines::machine::Power,
    people::plan,
    store::at_once,
    world::World,
};

/// Results read at once.
const PAGE: u32 = 10_000;

impl World {
    /// The store holds every result once, and no agent holds anything.
    pub(crate) fn check_end(&self) -> Checked {
        for id in self.ledger.jobs.keys() {
            self.check_stored(*id)?;
        }
        for machine in self.machines.iter().filter(|machine| machine.power == Power::On) {
            let revoked = self.ledger.intakes.get(&machine.agent) == Some(&Intake::Revoked);
            let Some(session) = machine.session.as_ref().filter(|_| !revoked && !machine.is_old()) else { continue };
            let status = session.status(self.now);
            let agent = machine.agent;
            let what = || format!("{agent} still has {} results, {} waiting: {:?}", status.outbox, status.waiting, status.link);
            hold(Promise::Ends, status.outbox == 0 && status.waiting == 0, what, &[agent.into()])?;
            let left = machine.disk.results.keys().next();
            let what = || format!("{agent} keeps the result of {left:?} that it does not know of");
            hold(Promise::NothingLost, left.is_none(), what, &[agent.into()])?;
        }
        Ok(())
    }

    fn check_stored(&self, id: JobId) -> Checked {
        let store = &self.database.truth;
        let known = &self.ledger.jobs[&id];
        let lost = |what: String| Violation::new(Promise::NothingLost, what, &[id.into()]);
        let record = at_once(store.job(id)).ok().flatten().ok_or_else(|| lost(format!("{id} is not in the store")))?;
        if !known.agrees(&record.counts) || record.state != known.state {
            return Err(lost(format!("{id} in the store: {:?}, committed were {}", record.counts, known.words())));
        }
        let succeeded = |place: Place| place == Place::Ended(TaskState::Succeeded);
        let mut wanted = (0_u32..).zip(&known.tasks).filter(|(_, task)| succeeded(task.place)).map(|(index, _)| index);
        let mut from = 0;
        loop {
            let page = at_once(store.results(id, from, PAGE)).unwrap_or_default();
            for ResultRecord { task, output, .. } in &page {
                let right = Payload::inline(plan::output(known.first + u64::from(task.index))).digest();
                let right = self.ledger.lies.get(task).copied().unwrap_or(right);
                if wanted.next() != Some(task.index) || output.digest() != right {
                    return Err(Violation::new(
                        Promise::NothingLost,
                        format!("the result of {task} is wrong"),
                        &[Subject::Task(*task)],
                    ));
                }
            }
            match page.last() {
                Some(last) => from = last.task.index + 1,
                None => break,
            }
        }
        match wanted.next() {
            None => Ok(()),
            Some(index) => {
                let task = TaskId { job: id, index };
                Err(Violation::new(
                    Promise::NothingLost,
                    format!("the result of {task} is not in the store"),
                    &[Subject::Task(task)],
                ))
            }
        }
    }

    /// The first job that does not end, and what its first open task waits for.
    pub(crate) fn why_it_does_not_end(&self) -> Violation {
        let Some((id, job)) = self.ledger.jobs.iter().find(|(_, job)| !job.state.is_ended()) else {
            let missing = (0..self.planned.len()).find(|plan| !self.planned_jobs.contains_key(plan));
            return Violation::new(Promise::Ends, format!("plan {missing:?} is never submitted"), &[]);
        };
        let open = (0_u32..).zip(&job.tasks).find(|(_, task)| !matches!(task.place, Place::Ended(_)));
        let Some((index, _)) = open else {
            return Violation::new(Promise::Ends, format!("{id} has no open task and does not end"), &[(*id).into()]);
        };
        let task = TaskId { job: *id, index };
        let explained = self.leader().and_then(|leader| leader.scheduler.explain(task, self.now));
        Violation::new(Promise::Ends, format!("{task} does not end: {explained:?}"), &[Subject::Task(task)])
    }
}
