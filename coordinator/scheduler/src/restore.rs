//! Going on where another coordinator stopped.

use std::collections::BTreeSet;

use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId},
    message::Build,
    state::{AttemptEnd, Intake},
    time::Timestamp,
};

use crate::{
    Scheduler,
    effect::{Effect, OwnCopy},
    event::{JobSnapshot, OpenTask, Snapshot},
    fleet::agents::{Agent, Fleet, Held, Touch},
    jobs::{
        admission::{new_job, snapshot_tasks},
        job::Pace,
        share::Shares,
    },
    limits::Limits,
    placement::rank::micros,
    time::{
        history::History,
        timers::{Timer, Timers},
    },
};

/// What a job's open tasks tell of how long they take: at least as long as their snapshots and live attempts.
fn known_pace(job: &JobSnapshot) -> Pace {
    let mut pace = Pace::default();
    for saved in job.open.iter().filter_map(|task| task.saved.as_ref()) {
        pace.note_unfinished(saved.snapshot.spent_us);
    }
    if let Some(first) = job.open.iter().flat_map(OpenTask::live).map(|live| live.since).min() {
        pace.note_start(first);
    }
    pace
}

/// The live attempts that execute a build that can be moved.
fn movable_attempts(job: &JobSnapshot) -> BTreeSet<AttemptId> {
    let live = job.open.iter().flat_map(|task| task.live().iter().map(|open| (task.index, open)));
    let movable = live.filter(|(_, open)| open.build == Build::Migratable);
    movable.map(|(index, open)| AttemptId { task: TaskId { job: job.job, index }, number: open.number }).collect()
}

impl Scheduler {
    /// A scheduler that knows what the store knows. Live attempts wait for their agents to come back with them.
    /// `seed` spreads the pauses before retries.
    pub fn restore(snapshot: Snapshot, limits: Limits, seed: u64, now: Timestamp) -> Self {
        let mut scheduler = Self {
            shares: Shares::new(limits.clone(), now),
            limits,
            seed,
            now,
            wall_ahead_us: 0,
            last_job: snapshot.last_job,
            looks: 0,
            foreign: Default::default(),
            newest: (JobId(0), Timestamp(i64::MIN)),
            jobs: Default::default(),
            holdings: Default::default(),
            keys: Default::default(),
            dependants: Default::default(),
            demands: Default::default(),
            fleet: Fleet::default(),
            holders: Default::default(),
            kept_snapshots: Default::default(),
            seen: Default::default(),
            sleepers: Default::default(),
            wakes_next: Timestamp::default(),
            timers: Timers::default(),
            reluctant: Default::default(),
            closing: Default::default(),
            lagging: Default::default(),
            woken_agents: Default::default(),
            awaiting: Default::default(),
            unsaved_hours: Default::default(),
            hours_due: None,
            usual: Default::default(),
            excused_until: Timestamp::default(),
            silence_looked: Timestamp::default(),
            was_cut_off: false,
            healing_since: None,
            effects: Default::default(),
        };
        for agent in snapshot.agents {
            scheduler.enrolled(agent);
        }
        for (agent, hours) in snapshot.hours {
            if let Some(agent) = scheduler.fleet.get_mut(agent) {
                agent.history = History::restored(hours, now);
            }
        }
        scheduler.note_usual();
        for (owner, slot_seconds) in snapshot.usage {
            let id = scheduler.shares.intern(owner);
            let used = std::time::Duration::try_from_secs_f64(slot_seconds).unwrap_or_default();
            scheduler.shares.charge(id, micros(used));
        }
        let mut jobs = snapshot.jobs;
        // By number: a job waits for jobs submitted before it, which are there by then.
        jobs.sort_unstable_by_key(|job| job.job);
        for job in jobs {
            scheduler.restore_job(job);
        }
        scheduler.await_agents();
        scheduler.effects.push_back(Effect::OwnCopy(OwnCopy::Report));
        scheduler.go_on();
        scheduler.end_turn();
        scheduler
    }

    fn restore_job(&mut self, snapshot: JobSnapshot) {
        let (id, stopping, retrying) = (snapshot.job, snapshot.stopping, snapshot.retrying);
        self.last_job = self.last_job.max(id.0);
        let tasks = snapshot_tasks(&snapshot, self.now);
        let attempt = |index, number| AttemptId { task: TaskId { job: id, index }, number };
        let live: Vec<_> = tasks.all_live().map(|(index, live)| (live.agent, attempt(index, live.number), live.since)).collect();
        let movable = movable_attempts(&snapshot);
        let after = self.active_dependencies(&snapshot.spec);
        let submitter = self.shares.intern(snapshot.owner);
        let memory_bytes = snapshot.spec.limits.memory_bytes;
        let saved: Vec<_> = snapshot.open.iter().filter_map(|task| Some((task.index, task.saved?.snapshot))).collect();
        let pace = known_pace(&snapshot);
        self.insert_job(new_job(snapshot), tasks, after, stopping, retrying);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.pace = pace;
        }
        for (index, saved) in saved {
            self.restore_kept_snapshots(TaskId { job: id, index }, saved);
        }
        for (agent_id, attempt, since) in live {
            if self.fleet.get(agent_id).is_none() {
                self.fleet.insert(agent_id, Agent::new(agent_id.to_string(), Intake::Open));
            }
            let held = Held {
                order: 0,
                started: false,
                occupies: Some(self.now),
                waited: false,
                recall: None,
                memory_bytes,
                movable: movable.contains(&attempt),
                resumed: true,
                stalled: None,
                clock: Default::default(),
            };
            self.fleet.known(agent_id).give(attempt, held, since);
            self.shares.place(submitter, true, self.now);
        }
    }

    /// Does what a coordinator had not recorded to the end when it died: what waits of stopped jobs ends, and so does what
    /// agents have that are not believed or were thrown out.
    fn go_on(&mut self) {
        let stopping = self.jobs.iter().filter(|(_, job)| job.stopping.is_some() && job.tasks.has_waiting());
        for job in stopping.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_waiting(job);
        }
        let out = self.fleet.iter().filter_map(|(id, agent)| match agent.intake {
            _ if agent.held.is_empty() => None,
            Intake::Revoked => Some((id, AttemptEnd::Lost, "its agent was revoked")),
            _ => agent.quarantine.is_some().then_some((id, AttemptEnd::Recalled, "its agent was quarantined")),
        });
        for (id, end, reason) in out.collect::<Vec<_>>() {
            self.end_all(id, end, reason);
            self.excuse(id);
        }
    }

    fn await_agents(&mut self) {
        let (since, at) = (self.now, self.now + self.limits.reconnect_grace);
        let waited_for: Vec<AgentId> = self.fleet.iter().filter(|(_, agent)| !agent.held.is_empty()).map(|(id, _)| id).collect();
        for id in waited_for {
            self.fleet.known(id).touch = Touch::Awaited { since };
            self.timers.set(Timer::Lease(id), at);
        }
    }
}
