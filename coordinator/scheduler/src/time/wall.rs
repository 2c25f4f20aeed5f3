//! The clock on the wall, which people set: windows, `finish_by` and what is written down follow it, and nothing else.
//!
//! The scheduler's own time is steady. How far the wall is ahead of it is handed in whenever that changes, so that a clock
//! that is put back or forward moves the promises that were made by it, and no pause, lease or limit.

use lull_shared::{
    id::{AgentId, JobId},
    time::Timestamp,
};

use crate::{Scheduler, effect::TaskAfter, time::timers::Timer, views::view::Obstacle};

impl Scheduler {
    /// The clock on the wall is so far ahead of the scheduler's time, in microseconds, less than nothing when it is behind.
    pub fn set_wall_clock(&mut self, ahead_us: i64) {
        if self.wall_ahead_us == ahead_us {
            return;
        }
        self.wall_ahead_us = ahead_us;
        let wall = self.wall();
        let agents: Vec<AgentId> = self.fleet.iter().map(|(id, _)| id).collect();
        for id in agents {
            self.fleet.known(id).history.begin_anew(wall);
        }
        let active: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.stopping.is_none()).map(|(id, _)| *id).collect();
        for id in active {
            let finish_by = self.jobs.get(&id).and_then(|job| job.new.spec.finish_by).map(|at| self.when_wall(at));
            self.timers.set_or_clear(Timer::FinishBy(id), finish_by);
            self.turn_window(id);
        }
        self.end_turn();
    }

    /// What the clock on the wall shows now.
    pub(crate) fn wall(&self) -> Timestamp {
        self.on_wall(self.now)
    }

    /// What the clock on the wall shows, showed or will show at a moment of the scheduler's time, as it is set now.
    pub(crate) fn on_wall(&self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_add(self.wall_ahead_us))
    }

    /// When the clock on the wall shows this, as it is set now.
    pub(crate) fn when_wall(&self, shows: Timestamp) -> Timestamp {
        Timestamp(shows.0.saturating_sub(self.wall_ahead_us))
    }

    /// The time by which a job is ranked among those of its submitter: that of its submission, and never before that of
    /// a job submitted earlier, whose clock may have been ahead.
    pub(crate) fn ranked_at(&mut self, job: JobId, submitted: Timestamp) -> Timestamp {
        let (newest, at) = self.newest;
        if job <= newest {
            return submitted.min(at);
        }
        self.newest = (job, submitted.max(at));
        self.newest.1
    }

    /// What becomes of a task, as a store remembers it: a scheduler that takes over begins with the clock on the wall.
    pub(crate) fn as_recorded(&self, after: TaskAfter) -> TaskAfter {
        match after {
            TaskAfter::Again { not_before, failures } => TaskAfter::Again { not_before: self.on_wall(not_before), failures },
            TaskAfter::Continues { .. }
            | TaskAfter::Succeeded
            | TaskAfter::Failed
            | TaskAfter::Cancelled
            | TaskAfter::Expired => after,
        }
    }

    /// The same obstacle, its times as the clock on the wall shows them.
    pub(crate) fn obstacle_on_wall(&self, obstacle: Obstacle) -> Obstacle {
        let shown = |at: Timestamp| self.on_wall(at);
        match obstacle {
            Obstacle::Away { last_heard } => Obstacle::Away { last_heard: last_heard.map(shown) },
            Obstacle::Asleep { since, tries, tried } => Obstacle::Asleep { since: shown(since), tries, tried: tried.map(shown) },
            Obstacle::Refused { reason, until } => Obstacle::Refused { reason, until: shown(until) },
            Obstacle::Closed(_)
            | Obstacle::Quarantined { .. }
            | Obstacle::Answered
            | Obstacle::Paused(_)
            | Obstacle::NoFreeSlot { .. }
            | Obstacle::Memory { .. }
            | Obstacle::Label { .. } => obstacle,
        }
    }
}
