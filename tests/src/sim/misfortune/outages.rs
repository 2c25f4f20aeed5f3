//! What a machine that goes dark costs: of each task that ran there at most what it did since its last snapshot, and the
//! time in which that gets to another machine.
//!
//! Held where machines go dark and nothing else goes wrong. Two that do so within minutes may have had all there was.

use std::{collections::BTreeMap, time::Duration};

use clap::ValueEnum as _;
use lull_shared::{
    id::{AttemptId, TaskId},
    time::Timestamp,
};

use crate::sim::{
    events::MachineId,
    judged::promise::{Checked, Promise, hold},
    options::{Kind, Options},
    world::World,
};

/// From the moment in which a snapshot is taken until it is in two places and everybody knows.
const TRANSFER: Duration = Duration::from_secs(5);
/// Machines that go dark within this time count as one misfortune.
const APART: Duration = Duration::from_secs(180);

/// Machines that went dark, and what ran there.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    times: Vec<Timestamp>,
    tasks: BTreeMap<TaskId, Outage>,
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    at: Timestamp,
    /// What was done of the task.
    done: Duration,
}

impl World {
    /// A machine is about to go dark.
    pub(crate) fn note_outage(&mut self, id: MachineId) {
        let at = self.now;
        self.outages.times.push(at);
        for slot in &self.machines[id].slots {
            let Some((attempt, done)) = slot.front(at) else { continue };
            let live = self.ledger.live_at(attempt) == Some(self.machines[id].agent);
            if live && self.ledger.has_snapshot(attempt.task) {
                self.outages.tasks.insert(attempt.task, Outage { at, done });
            }
        }
    }

    /// A task is executed again, of which so much is done.
    pub(crate) fn check_outage(&mut self, attempt: AttemptId, done: Duration) -> Checked {
        let Some(outage) = self.outages.tasks.remove(&attempt.task) else { return Ok(()) };
        let near = |at: &&Timestamp| **at != outage.at && **at + APART > outage.at;
        if !only_power_fails(&self.options) || self.outages.times.iter().any(|at| near(&at)) {
            return Ok(());
        }
        let lost = outage.done.saturating_sub(done);
        self.summary.outages += 1;
        self.summary.outage_cost = self.summary.outage_cost.max(lost);
        let most = crate::sim::machines::machine::SNAPSHOT_EVERY + TRANSFER;
        let what = || format!("{attempt} repeats {lost:?} since a machine went dark at {}", outage.at);
        hold(Promise::Carried, lost <= most, what, &[attempt.into()])
    }
}

fn only_power_fails(options: &Options) -> bool {
    Kind::value_variants().iter().all(|kind| *kind == Kind::Power || options.rate(*kind) == 0.0)
}
