//! CORE: which task runs where and when. Pure: events and the time go in, effects come out.
//!
//! ```text
//!            handle(event, now), handle_timeout(now)
//!                           |
//!   people: jobs (admission) -> jobs: tasks, gate ---> jobs (ending) -> Record(JobEnded)
//!                           | listed when startable     ^
//!   agents: fleet (connection, words) -> attempts end --+
//!                           | agents with room
//!            placement: feasible, rank, select -> Record(AttemptStarted)
//!                           |
//!                  fleet (outgoing) -> Send(Order), numbered on each stream
//! ```
//! Beside these wings, `snapshots` knows which agent keeps what of a running attempt, `time` what is due and when machines
//! are free, and `views` what can be read off. [`event`], [`effect`] and [`limits`] are what goes in and out.
//!
//! A turn is one call of `handle` or `handle_timeout`. Its effects are drained by [`Scheduler::poll_effect`]; the shell
//! commits the records in one transaction before it sends or answers anything.
//!
//! Time never goes back in here: an earlier `now` than the last counts as the last. It is a steady time, by which pauses,
//! leases and limits pass; what is promised or written down by the clock on the wall follows `time::wall`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod attempts;
mod audit;
pub mod effect;
pub mod event;
mod fleet;
mod jobs;
pub mod limits;
mod placement;
mod restore;
pub mod rollout;
mod snapshots;
#[cfg(test)]
mod tests;
mod time;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use lull_shared::{
    id::{AgentId, JobId},
    state::JobState,
    time::Timestamp,
};

pub use self::{
    attempts::verify::is_chosen,
    fleet::foreign,
    jobs::holding,
    limits::Limits,
    placement::build,
    time::history,
    views::{fleet::FleetView, view},
};
use self::{
    effect::{Effect, StoppedBy},
    event::Event,
    fleet::agents::Fleet,
    jobs::{
        active::Jobs,
        demand::Demands,
        holding::Holdings,
        share::{Shares, SubmitterId},
    },
    placement::holders::Holders,
    snapshots::kept_snapshots::KeptSnapshots,
    time::timers::{Timer, Timers},
};

/// A commit that took this long made the coordinator deaf; silence of agents in the meantime proves nothing.
const STALL: Duration = Duration::from_millis(500);

/// Decides. One per coordinator; all of its state can be had again from the store's snapshot.
#[derive(Debug, Clone)]
pub struct Scheduler {
    limits: Limits,
    seed: u64,
    now: Timestamp,
    /// How far the clock on the wall is ahead of `now`, in microseconds.
    wall_ahead_us: i64,
    last_job: u64,
    /// How often the store was asked for something.
    looks: u64,
    /// Numbers of jobs that agents know and the store does not.
    foreign: foreign::Foreign,
    /// The newest job that was submitted, and the time by which it and all before it are ranked.
    newest: (JobId, Timestamp),
    jobs: Jobs,
    /// Active jobs by submitter and idempotency key.
    keys: BTreeMap<(SubmitterId, String), JobId>,
    /// Active jobs that wait for an active job.
    dependants: BTreeMap<JobId, BTreeSet<JobId>>,
    demands: Demands,
    shares: Shares,
    holdings: Holdings,
    fleet: Fleet,
    holders: Holders,
    kept_snapshots: KeptSnapshots,
    /// What live attempts would leave.
    seen: attempts::remains::Seen,
    /// Agents whose machines sleep.
    sleepers: BTreeSet<AgentId>,
    /// When machines may be woken again.
    wakes_next: Timestamp,
    timers: Timers,
    /// Jobs with tasks to start that should rather not go back to where they failed. Some may have none any more.
    reluctant: BTreeSet<JobId>,
    /// Jobs of which no task may be open any more. Empty between turns.
    closing: BTreeSet<JobId>,
    /// Jobs of which tasks may take much longer than others. Empty between turns.
    lagging: BTreeSet<JobId>,
    /// Agents that may have new room. Empty between turns.
    woken_agents: BTreeSet<AgentId>,
    /// Agents for which something was taken back, first to be looked at. Empty between turns.
    awaiting: BTreeSet<AgentId>,
    /// Agents whose hours are not written down as they are known.
    unsaved_hours: BTreeSet<AgentId>,
    /// When the hours of all agents are counted next.
    hours_due: Option<Timestamp>,
    usual: history::Usual,
    /// Until then nobody is taken for silent or gone.
    excused_until: Timestamp,
    /// When it was last looked at what is with agents out of touch.
    silence_looked: Timestamp,
    /// No agent at all was heard when that was last looked at.
    was_cut_off: bool,
    /// When the last agent came back that had fallen silent together with others.
    healing_since: Option<Timestamp>,
    effects: VecDeque<Effect>,
}

impl Scheduler {
    /// One thing happened.
    pub fn handle(&mut self, event: Event, now: Timestamp) {
        self.now = self.now.max(now);
        match event {
            Event::Submit { request, submission } => {
                let reply = self.submit(*submission);
                self.reply(request, reply);
            }
            Event::Cancel { request, job, by } => {
                let reply = self.cancel(job, &by);
                self.reply(request, reply);
            }
            Event::Retry { request, retry } => {
                let reply = self.retry(*retry);
                self.reply(request, reply);
            }
            Event::EndedBadly { look, job, tasks, next } => self.ended_badly(look, job, tasks, next),
            Event::Brings { agent, attempt, size_bytes } => self.brings(agent, attempt, size_bytes),
            Event::SetIntake { request, agent, intake, by } => {
                let reply = self.set_intake(agent, intake, by);
                self.reply(request, reply);
            }
            Event::Restore { request, agent, by } => {
                let reply = self.restore_agent(agent, by);
                self.reply(request, reply);
            }
            Event::Trust { request, agent, by } => {
                let reply = self.trust(agent, by);
                self.reply(request, reply);
            }
            Event::Enrolled { agent } => self.enrolled_now(agent),
            Event::Connected { agent, stream, hello, from } => self.connected(agent, stream, *hello, from),
            Event::Disconnected { agent, stream } => self.disconnected(agent, stream),
            Event::Message { agent, stream, message } => self.message(agent, stream, message),
            Event::Breach { agent, stream, what, told } => self.breached(agent, stream, what, &told),
            Event::Capacity { capacity } => self.capacity(capacity.agent, capacity, true),
            Event::Holders { version, gained, lost } => self.holders.update(version, gained, &lost),
            Event::Wakeable { agent, policy, clock_ahead_min } => self.note_wakeable(agent, policy, clock_ahead_min),
            Event::PolicyChanged => self.doubt_wakeable(),
            Event::KeptHere { blobs } => self.kept_here(blobs),
            Event::NotKeptHere { digest } => self.not_kept_here(digest),
        }
        self.end_turn();
    }

    /// Time passed: whatever is due happens.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while !self.is_full()
            && let Some((due, timer)) = self.timers.pop_due(self.now)
        {
            match timer {
                Timer::Lease(_) if self.now < self.excused_until => self.timers.set(timer, self.excused_until),
                Timer::Lease(agent) => self.check_lease(agent, due),
                Timer::Silence => self.look_at_silence(),
                Timer::Overtime(agent) => self.check_time(agent, due),
                Timer::Refusal(agent) => self.end_refusal(agent),
                Timer::Hours => self.save_hours(),
                Timer::Backoff(job) => self.end_backoff(job),
                Timer::Window(job) => self.turn_window(job),
                Timer::Stalled => self.find_room(),
                Timer::Straggler(job) => drop(self.lagging.insert(job)),
                // The end of the turn looks.
                Timer::Waking => {}
                Timer::Keepers => self.look_for_keepers(),
                Timer::FinishBy(job) => self.stop(job, JobState::Expired, &StoppedBy::FinishBy),
                Timer::Stopping(job) => self.end_waiting(job),
            }
        }
        self.end_turn();
    }

    /// A commit took so long, in which nobody listened to the agents: after a long one their silence proves nothing for a
    /// lease. All else goes its way.
    pub fn excuse_silence(&mut self, took: Duration, now: Timestamp) {
        if took > STALL {
            self.excuse_silence_until(now + self.limits.lease);
        }
    }

    fn excuse_silence_until(&mut self, until: Timestamp) {
        self.excused_until = self.excused_until.max(until);
    }

    /// When [`Self::handle_timeout`] should be called, at the latest.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// The next thing to do. All records of a turn come before they may be acted upon: commit first, then send. Whatever
    /// needs a record comes after it, so a turn may also be carried out in parts; see [`effect::Change::continues`].
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What [`Self::poll_effect`] would take.
    pub fn next_effect(&self) -> Option<&Effect> {
        self.effects.front()
    }

    /// Whether so much waits to be carried out that it should be before anything more is handled.
    pub fn is_full(&self) -> bool {
        self.effects.len() >= self.limits.effects_waiting_max
    }

    fn end_turn(&mut self) {
        self.close_jobs();
        self.place();
        self.seek_keepers();
        self.wake_sleepers();
        self.flush();
        self.relist_placed();
    }

    fn end_backoff(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.tasks.wake(self.now);
        let next = job.tasks.next_wake();
        self.timers.set_or_clear(Timer::Backoff(id), next);
    }
}
