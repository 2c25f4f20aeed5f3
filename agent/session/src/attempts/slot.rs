//! One place where attempts run, and the executor process in it: CORE, pure.
//!
//! Owns the transitions of a single slot. Which attempt comes next is the session's business, processes are the
//! shell's.
//!
//! ```text
//! idle --start--> starting --ready--> warm --push--> running <--freeze/thaw--> paused
//!  ^                 |                 ^ |              |  |  suspend            |
//!  |                 |                 | |   last done  |  +-------> suspending <+ suspend
//!  |                 +--stop--+        +-+--------------+  | stop       | saved  | stop
//!  +---------gone---- stopping <---------------------------+------------+--------+
//! ```
//! A running slot has one attempt at the front; further ones of the same job may wait in the executor's pipe, so
//! that tasks of a fraction of a millisecond need no round trip each.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{collections::VecDeque, time::Duration};

use lull_shared::{
    digest::BlobRef,
    id::{AttemptId, JobId},
    message::{Build, Payload, ReleaseReason, SnapshotRef},
    time::Timestamp,
};

/// A slot's number, from 0.
pub type SlotId = u16;

/// Whose attempts an executor runs, and which build of the code it has loaded for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duty {
    pub job: JobId,
    pub build: Build,
}

/// An attempt and its input, wherever it is between its offer and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its place in the order of offers; it keeps it when it is put back.
    pub order: u64,
    pub attempt: AttemptId,
    pub input: Payload,
    pub build: Build,
    /// Where it goes on, if an earlier attempt left a snapshot.
    pub resume: Option<SnapshotRef>,
    /// Whether its input, when that is a blob, and its snapshot have been asked for and are kept in the cache for it.
    pub pinned: bool,
    pub offered: Timestamp,
}

impl Held {
    /// The job it belongs to.
    pub fn job(&self) -> JobId {
        self.attempt.task.job
    }

    /// What an executor must be for it.
    pub fn duty(&self) -> Duty {
        Duty { job: self.job(), build: self.build }
    }

    /// The blobs that only it needs.
    pub fn blobs(&self) -> impl Iterator<Item = BlobRef> {
        let input = match self.input {
            Payload::Blob(blob) => Some(blob),
            Payload::Inline(_) => None,
        };
        input.into_iter().chain(self.resume.map(|snapshot| snapshot.blob))
    }
}

/// How a slot stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// No process.
    Idle,
    /// Its executor is being started; `first` is gone when it was recalled meanwhile.
    Starting { duty: Duty, first: Option<Held>, since: Timestamp },
    /// Its executor is ready for the next attempt of its job, or of another one that fits it.
    Warm { executor: Executor, since: Timestamp },
    /// The front of its work has been on the processor since then.
    Running { work: Work, since: Timestamp },
    /// Its process is frozen.
    Paused { work: Work },
    /// Its process writes down the state of what it executes, and ends; it has until then. Why it must leave.
    Suspending { work: Work, until: Timestamp, reason: ReleaseReason },
    /// Its process was killed and is not gone yet; then it is started again for `then`.
    Stopping { duty: Duty, then: Option<Held> },
}

/// A living executor process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executor {
    /// Whose attempts it runs at present, and the build that it has loaded.
    pub duty: Duty,
    /// Since when it runs those.
    pub since: Timestamp,
}

/// What a running or frozen executor has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub executor: Executor,
    /// What it executes.
    pub front: Held,
    /// When the front began.
    pub begun: Timestamp,
    /// Unpaused running time of the front before the present stretch.
    pub spent: Duration,
    /// How much of that the newest snapshot holds, or one that was asked for.
    pub saved: Duration,
    /// What it was given beyond that and begins by itself.
    pub rest: VecDeque<Held>,
}

/// An attempt that its executor brought to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub held: Held,
    pub begun: Timestamp,
}

impl Slot {
    /// What the executor that is here is for.
    pub fn duty(&self) -> Option<Duty> {
        match self {
            Self::Idle => None,
            Self::Starting { duty, .. } | Self::Stopping { duty, .. } => Some(*duty),
            Self::Warm { executor, .. } => Some(executor.duty),
            Self::Running { work, .. } | Self::Paused { work } | Self::Suspending { work, .. } => Some(work.executor.duty),
        }
    }

    /// The job whose executor is here.
    pub fn job(&self) -> Option<JobId> {
        self.duty().map(|duty| duty.job)
    }

    /// Everything that is held here, in order.
    pub fn held(&self) -> Vec<&Held> {
        match self {
            Self::Idle | Self::Warm { .. } => Vec::new(),
            Self::Starting { first: one, .. } | Self::Stopping { then: one, .. } => one.iter().collect(),
            Self::Running { work, .. } | Self::Paused { work } | Self::Suspending { work, .. } => {
                std::iter::once(&work.front).chain(&work.rest).collect()
            }
        }
    }

    /// How many attempts its executor was given; none when it has none or does not run.
    pub fn piped(&self) -> Option<usize> {
        let Self::Running { work, .. } = self else { return None };
        Some(1 + work.rest.len())
    }

    /// Whether something is executed here, on the processor or off it.
    pub fn is_executing(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Paused { .. } | Self::Suspending { .. })
    }

    /// Whether there is a process that can be frozen.
    pub fn has_process(&self) -> bool {
        match self {
            Self::Starting { .. } | Self::Warm { .. } | Self::Running { .. } | Self::Paused { .. } => true,
            Self::Idle | Self::Suspending { .. } | Self::Stopping { .. } => false,
        }
    }

    /// Whether there is a process that can be killed.
    pub fn is_alive(&self) -> bool {
        self.has_process() || matches!(self, Self::Suspending { .. })
    }

    /// Gives an executor that is warm or running one more attempt of its job; hands it back when it is neither.
    pub fn push(&mut self, held: Held, now: Timestamp) -> Option<Held> {
        match self {
            Self::Warm { executor, .. } => {
                let spent = spent_before(&held);
                let work = Work { executor: *executor, front: held, begun: now, spent, saved: spent, rest: VecDeque::new() };
                *self = Self::Running { work, since: now };
                None
            }
            Self::Running { work, .. } => {
                work.rest.push_back(held);
                None
            }
            Self::Idle | Self::Starting { .. } | Self::Paused { .. } | Self::Suspending { .. } | Self::Stopping { .. } => {
                Some(held)
            }
        }
    }

    /// A warm executor is turned to another job.
    pub fn serve(&mut self, other: Duty, now: Timestamp) {
        if let Self::Warm { executor, .. } = self {
            *executor = Executor { duty: other, since: now };
        }
    }

    /// Its executor has started: it is warm, and what it was started for comes back.
    pub fn ready(&mut self, now: Timestamp) -> Option<Held> {
        let Self::Starting { duty, first, since } = self else { return None };
        let (executor, first) = (Executor { duty: *duty, since: *since }, first.take());
        *self = Self::Warm { executor, since: now };
        first
    }

    /// Its executor ended an attempt. None when that is not the front: a word from a process that was given up.
    pub fn finish(&mut self, attempt: AttemptId, now: Timestamp) -> Option<Ended> {
        let (Self::Running { work, .. } | Self::Paused { work } | Self::Suspending { work, .. }) = self else { return None };
        if work.front.attempt != attempt {
            return None;
        }
        let begun = std::mem::replace(&mut work.begun, now);
        let Some(next) = work.rest.pop_front() else {
            let held = work.front.clone();
            *self = Self::Warm { executor: work.executor, since: now };
            return Some(Ended { held, begun });
        };
        work.spent = spent_before(&next);
        work.saved = work.spent;
        let held = std::mem::replace(&mut work.front, next);
        if let Self::Running { since, .. } = self {
            *since = now;
        }
        Some(Ended { held, begun })
    }

    /// Its process leaves the processor; what it held is reported.
    pub fn freeze(&mut self, now: Timestamp) {
        *self = match std::mem::replace(self, Self::Idle) {
            Self::Running { mut work, since } => {
                work.spent += now.since(since);
                Self::Paused { work }
            }
            other => other,
        };
    }

    /// What it executes is to be written down and its process to end; what was not begun comes back.
    pub fn suspend(&mut self, reason: ReleaseReason, until: Timestamp, now: Timestamp) -> VecDeque<Held> {
        self.freeze(now);
        match std::mem::replace(self, Self::Idle) {
            Self::Paused { mut work } => {
                let rest = std::mem::take(&mut work.rest);
                *self = Self::Suspending { work, until, reason };
                rest
            }
            other => {
                *self = other;
                VecDeque::new()
            }
        }
    }

    /// How long the front has run without pauses, over all moves of its task; none when it is another attempt.
    pub fn spent(&self, attempt: AttemptId, now: Timestamp) -> Option<Duration> {
        match self {
            Self::Running { work, since } if work.front.attempt == attempt => Some(work.spent + now.since(*since)),
            Self::Paused { work } | Self::Suspending { work, .. } if work.front.attempt == attempt => Some(work.spent),
            _ => None,
        }
    }

    /// Whether this attempt is at the front, and can be suspended.
    pub fn can_suspend(&self, attempt: AttemptId) -> bool {
        match self {
            Self::Running { work, .. } | Self::Paused { work } => {
                work.front.attempt == attempt && work.executor.duty.build == Build::Migratable
            }
            _ => false,
        }
    }

    /// When the front should be written down next, so that a machine that is switched off costs at most `every`.
    pub fn save_due(&self, every: Duration) -> Option<Timestamp> {
        match self {
            Self::Running { work, since } if work.executor.duty.build == Build::Migratable => {
                Some(*since + (work.saved + every).saturating_sub(work.spent))
            }
            _ => None,
        }
    }

    /// The front is being written down at this moment.
    pub fn note_save(&mut self, now: Timestamp) {
        if let Self::Running { work, since } = self {
            work.saved = work.spent + now.since(*since);
        }
    }

    /// The front began anew, since its snapshot could not be used.
    pub fn begin_anew(&mut self, attempt: AttemptId, now: Timestamp) {
        let (Self::Running { work, .. } | Self::Paused { work }) = self else { return };
        if work.front.attempt != attempt {
            return;
        }
        (work.spent, work.saved) = (Duration::ZERO, Duration::ZERO);
        if let Self::Running { since, .. } = self {
            *since = now;
        }
    }

    /// Its process goes on.
    pub fn thaw(&mut self, now: Timestamp) {
        *self = match std::mem::replace(self, Self::Idle) {
            Self::Paused { work } => Self::Running { work, since: now },
            other => other,
        };
    }

    /// The machine slept for this long: that was no running time.
    pub fn slept(&mut self, by: Duration, now: Timestamp) {
        if let Self::Running { since, .. } = self {
            *since = (*since + by).min(now);
        }
    }

    /// When the front has run for `limit`, unless it is frozen first.
    pub fn deadline(&self, limit: Duration) -> Option<Timestamp> {
        let Self::Running { work, since } = self else { return None };
        Some(*since + limit.saturating_sub(work.spent))
    }

    /// Its process is killed; everything it held comes back.
    pub fn stop(&mut self) -> Vec<Held> {
        let Some(duty) = self.duty() else { return Vec::new() };
        match std::mem::replace(self, Self::Stopping { duty, then: None }) {
            Self::Idle | Self::Warm { .. } => Vec::new(),
            Self::Starting { first: one, .. } | Self::Stopping { then: one, .. } => one.into_iter().collect(),
            Self::Running { work, .. } | Self::Paused { work } | Self::Suspending { work, .. } => {
                std::iter::once(work.front).chain(work.rest).collect()
            }
        }
    }

    /// Its process is gone; everything it held comes back.
    pub fn gone(&mut self) -> Vec<Held> {
        let held = self.stop();
        *self = Self::Idle;
        held
    }
}

/// The running time that its snapshot holds.
fn spent_before(held: &Held) -> Duration {
    held.resume.map_or(Duration::ZERO, |snapshot| Duration::from_micros(snapshot.spent_us))
}

#[cfg(test)]
mod tests {
    use lull_shared::id::TaskId;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn held(index: u32) -> Held {
        let attempt = AttemptId { task: TaskId { job: JobId(1), index }, number: 1 };
        let input = Payload::inline(Vec::new());
        Held { order: u64::from(index), attempt, input, build: Build::Plain, resume: None, pinned: false, offered: at(0) }
    }

    fn running(count: u32) -> Slot {
        let mut slot = Slot::Starting { duty: held(0).duty(), first: Some(held(0)), since: at(0) };
        let first = slot.ready(at(10)).expect("it was started for one");
        assert_eq!(slot.push(first, at(10)), None);
        for index in 1..count {
            assert_eq!(slot.push(held(index), at(10)), None);
        }
        slot
    }

    #[test]
    fn only_unpaused_time_counts_towards_the_limit() {
        let mut slot = running(1);
        let limit = Duration::from_millis(100);
        assert_eq!(slot.deadline(limit), Some(at(110)));
        slot.freeze(at(40));
        assert_eq!(slot.deadline(limit), None);
        slot.thaw(at(1_000));
        assert_eq!(slot.deadline(limit), Some(at(1_070)));
        slot.slept(Duration::from_millis(500), at(1_600));
        assert_eq!(slot.deadline(limit), Some(at(1_570)));
    }

    #[test]
    fn the_next_in_the_pipe_begins_when_the_front_ends() {
        let mut slot = running(2);
        assert_eq!(slot.finish(held(1).attempt, at(20)), None, "it is not at the front");
        let ended = slot.finish(held(0).attempt, at(20)).expect("the front");
        assert_eq!((ended.held, ended.begun), (held(0), at(10)));
        assert_eq!(slot.deadline(Duration::from_millis(100)), Some(at(120)));
        slot.finish(held(1).attempt, at(30)).expect("the next");
        assert!(matches!(slot, Slot::Warm { .. }));
    }

    #[test]
    fn a_result_that_was_on_its_way_when_the_process_froze_is_taken() {
        let mut slot = running(1);
        slot.freeze(at(11));
        assert!(slot.finish(held(0).attempt, at(12)).is_some());
    }

    #[test]
    fn whatever_a_killed_process_held_comes_back_in_order() {
        let mut slot = running(3);
        assert_eq!(slot.stop().iter().map(|held| held.order).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(slot.finish(held(0).attempt, at(20)), None, "a late word of the killed process");
        assert_eq!(slot.gone(), []);
        assert_eq!(slot, Slot::Idle);
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn work(build: Build, spent_s: u64, saved_s: u64) -> Work {
        let front = Held { build, ..held(0) };
        let executor = Executor { duty: front.duty(), since: at(0) };
        Work {
            executor,
            front,
            begun: at(0),
            spent: secs(spent_s),
            saved: secs(saved_s),
            rest: VecDeque::from([held(1), held(2)]),
        }
    }

    fn suspending() -> Slot {
        Slot::Suspending { work: work(Build::Migratable, 0, 0), until: at(9_000), reason: ReleaseReason::Stopping }
    }

    /// One of each kind, with what is true of it: alive, can be frozen, executes, is piped to, and how many it holds.
    fn kinds() -> [(Slot, [bool; 4], usize); 7] {
        let duty = held(0).duty();
        let executor = Executor { duty, since: at(0) };
        [
            (Slot::Idle, [false, false, false, false], 0),
            (Slot::Starting { duty, first: Some(held(0)), since: at(0) }, [true, true, false, false], 1),
            (Slot::Warm { executor, since: at(0) }, [true, true, false, false], 0),
            (Slot::Running { work: work(Build::Plain, 0, 0), since: at(0) }, [true, true, true, true], 3),
            (Slot::Paused { work: work(Build::Plain, 0, 0) }, [true, true, true, false], 3),
            (suspending(), [true, false, true, false], 3),
            (Slot::Stopping { duty, then: Some(held(0)) }, [false, false, false, false], 1),
        ]
    }

    #[test]
    fn what_can_be_frozen_killed_and_given_more_follows_from_how_a_slot_stands() {
        for (slot, says, held) in kinds() {
            let found = [slot.is_alive(), slot.has_process(), slot.is_executing(), slot.piped().is_some()];
            assert_eq!((found, slot.held().len()), (says, held), "{slot:?}");
            assert!(slot.piped().is_none_or(|piped| piped == held), "{slot:?}");
            assert_eq!(slot.duty().is_none(), slot == Slot::Idle, "{slot:?}");
            assert_eq!(slot.job(), slot.duty().map(|duty| duty.job), "{slot:?}");
        }
    }

    #[test]
    fn only_a_warm_or_running_executor_takes_one_more_and_all_others_hand_it_back_unchanged() {
        for (slot, ..) in kinds() {
            let mut given = slot.clone();
            let back = given.push(held(7), at(50));
            match slot {
                Slot::Warm { .. } => {
                    let Slot::Running { work, since } = &given else { panic!("{given:?}") };
                    assert_eq!((&back, &work.front, work.begun, *since), (&None, &held(7), at(50), at(50)));
                }
                Slot::Running { .. } => {
                    let orders: Vec<_> = given.held().iter().map(|held| held.order).collect();
                    assert_eq!((back, orders), (None, vec![0, 1, 2, 7]), "it comes last");
                }
                other => assert_eq!((back, &given), (Some(held(7)), &other)),
            }
        }
    }

    /// What is ordered, and by the place in [`kinds`] who obeys.
    type Order = (fn(&mut Slot, Duty), &'static [usize]);

    #[test]
    fn every_order_to_a_slot_that_it_is_not_for_changes_nothing() {
        let is = |slot: &Slot| {
            let kind = kinds().iter().position(|(kind, ..)| std::mem::discriminant(kind) == std::mem::discriminant(slot));
            kind.expect("one of each kind")
        };
        let other = Duty { job: JobId(9), build: Build::Plain };
        let orders: [Order; 8] = [
            (|slot, _| slot.freeze(at(5)), &[3]),
            (|slot, _| slot.thaw(at(5)), &[4]),
            (|slot, _| drop(slot.suspend(ReleaseReason::Stopping, at(9), at(5))), &[3, 4]),
            (|slot, other| slot.serve(other, at(5)), &[2]),
            (|slot, _| drop(slot.ready(at(5))), &[1]),
            (|slot, _| slot.note_save(at(5)), &[3]),
            (|slot, _| slot.slept(Duration::from_millis(3), at(5)), &[3]),
            (|slot, _| drop(slot.finish(held(0).attempt, at(5))), &[3, 4, 5]),
        ];
        for (number, (order, obey)) in orders.into_iter().enumerate() {
            for (slot, ..) in kinds() {
                let mut after = slot.clone();
                order(&mut after, other);
                assert_eq!(after != slot, obey.contains(&is(&slot)), "order {number} to {slot:?} makes {after:?}");
            }
        }
    }

    #[test]
    fn a_warm_executor_serves_another_job_from_now_on() {
        let mut slot = running(1);
        slot.finish(held(0).attempt, at(20)).expect("the front");
        let other = Duty { job: JobId(9), build: Build::Plain };
        slot.serve(other, at(30));
        assert_eq!(slot, Slot::Warm { executor: Executor { duty: other, since: at(30) }, since: at(20) });
    }

    #[test]
    fn results_come_in_the_order_of_the_pipe_and_each_next_one_begins_with_what_its_own_snapshot_holds() {
        let resume = |spent_us| Some(SnapshotRef { blob: BlobRef::of(b"snapshot"), spent_us });
        let mut slot = running(1);
        slot.push(Held { resume: resume(2_000_000), ..held(1) }, at(10));
        slot.push(held(2), at(10));
        slot.freeze(at(1_010));
        assert_eq!(slot.spent(held(0).attempt, at(0)), Some(secs(1)));
        slot.thaw(at(2_000));
        for (index, ends, next_spent) in [(0, 3_000, 2), (1, 4_000, 0), (2, 5_000, 0)] {
            let ended = slot.finish(held(index).attempt, at(ends)).expect("the front");
            assert_eq!(ended.held.order, u64::from(index));
            if let Slot::Running { work, since } = &slot {
                let spent = secs(next_spent);
                assert_eq!((work.spent, work.saved, *since, work.begun), (spent, spent, at(ends), at(ends)), "after {index}");
            }
        }
        assert!(matches!(slot, Slot::Warm { .. }));
    }

    #[test]
    fn running_time_is_that_of_the_front_alone_and_stands_still_while_it_is_frozen() {
        let (front, behind) = (held(0).attempt, held(1).attempt);
        let mut slot = Slot::Running { work: work(Build::Migratable, 5, 0), since: at(1_000) };
        assert_eq!((slot.spent(front, at(4_000)), slot.spent(behind, at(4_000))), (Some(secs(8)), None));
        slot.freeze(at(4_000));
        assert_eq!((slot.spent(front, at(90_000)), slot.spent(behind, at(90_000))), (Some(secs(8)), None));
        slot.suspend(ReleaseReason::Stopping, at(99_000), at(90_000));
        assert_eq!((slot.spent(front, at(95_000)), slot.spent(behind, at(95_000))), (Some(secs(8)), None));
        slot.stop();
        assert_eq!(slot.spent(front, at(95_000)), None);
    }

    #[test]
    fn only_the_front_of_a_movable_build_can_be_suspended_while_it_runs_or_is_paused() {
        let (front, behind) = (held(0).attempt, held(1).attempt);
        let running = |build| Slot::Running { work: work(build, 0, 0), since: at(0) };
        let paused = |build| Slot::Paused { work: work(build, 0, 0) };
        for movable in [running(Build::Migratable), paused(Build::Migratable)] {
            assert!(movable.can_suspend(front) && !movable.can_suspend(behind), "{movable:?}");
        }
        let others = kinds().into_iter().map(|(slot, ..)| slot).chain([running(Build::Plain), paused(Build::Plain)]);
        for other in others {
            assert!(!other.can_suspend(front), "{other:?}");
        }
    }

    #[test]
    fn what_is_suspended_gives_back_what_it_had_not_begun_and_has_until_then() {
        for mut slot in [
            Slot::Running { work: work(Build::Migratable, 1, 0), since: at(1_000) },
            Slot::Paused { work: work(Build::Migratable, 3, 0) },
        ] {
            let rest = slot.suspend(ReleaseReason::Recalled, at(8_000), at(3_000));
            assert_eq!(rest.iter().map(|held| held.order).collect::<Vec<_>>(), [1, 2]);
            let Slot::Suspending { work, until, reason } = &slot else { panic!("{slot:?}") };
            assert_eq!((work.rest.len(), work.spent, *until, reason), (0, secs(3), at(8_000), &ReleaseReason::Recalled));
        }
    }

    #[test]
    fn the_next_snapshot_is_due_when_so_much_was_run_since_the_last_one() {
        let every = secs(4);
        // What was spent before this stretch and what of it is saved, the stretch's begin, and when the next is due.
        for (spent, saved, since, due) in [(0, 0, 10, 14), (3, 0, 10, 11), (3, 3, 10, 14), (9, 0, 10, 10), (9, 7, 10, 12)] {
            let slot = Slot::Running { work: work(Build::Migratable, spent, saved), since: at(since * 1_000) };
            assert_eq!(slot.save_due(every), Some(at(due * 1_000)), "{spent} s spent, {saved} s saved");
        }
        let plain = Slot::Running { work: work(Build::Plain, 0, 0), since: at(0) };
        let paused = Slot::Paused { work: work(Build::Migratable, 0, 0) };
        assert_eq!((plain.save_due(every), paused.save_due(every)), (None, None));
        let mut slot = Slot::Running { work: work(Build::Migratable, 1, 0), since: at(10_000) };
        slot.note_save(at(13_000));
        assert_eq!(slot.save_due(every), Some(at(17_000)), "4 s of running are saved, 1 s of them before this stretch");
    }

    #[test]
    fn only_the_attempt_that_begins_anew_gets_its_time_again() {
        let limit = secs(10);
        let deadline = |mut slot: Slot, attempt| {
            slot.begin_anew(attempt, at(3_000));
            slot.thaw(at(3_000));
            slot.deadline(limit)
        };
        let running = || Slot::Running { work: work(Build::Migratable, 4, 4), since: at(1_000) };
        assert_eq!(deadline(running(), held(0).attempt), Some(at(13_000)));
        assert_eq!(deadline(running(), held(1).attempt), Some(at(7_000)), "a word of another attempt that came late");
        let paused = || Slot::Paused { work: work(Build::Migratable, 4, 4) };
        assert_eq!(deadline(paused(), held(0).attempt), Some(at(13_000)));
        assert_eq!(deadline(paused(), held(1).attempt), Some(at(9_000)));
        let mut slot = running();
        slot.begin_anew(held(0).attempt, at(3_000));
        assert_eq!(slot.save_due(secs(4)), Some(at(7_000)), "nothing of it is saved");
    }

    #[test]
    fn a_machine_that_slept_for_longer_than_an_attempt_ran_has_it_begin_now() {
        let mut slot = Slot::Running { work: work(Build::Plain, 0, 0), since: at(1_000) };
        slot.slept(secs(2), at(10_000));
        assert_eq!(slot.deadline(secs(10)), Some(at(13_000)));
        slot.slept(secs(60), at(10_000));
        assert_eq!(slot.deadline(secs(10)), Some(at(20_000)), "never later than now");
    }

    #[test]
    fn time_that_was_spent_before_is_part_of_the_limit_even_when_it_is_all_of_it() {
        for (spent, due) in [(0, 11), (4, 7), (10, 1), (60, 1)] {
            let slot = Slot::Running { work: work(Build::Plain, spent, 0), since: at(1_000) };
            assert_eq!(slot.deadline(secs(10)), Some(at(due * 1_000)), "{spent} s");
        }
    }

    #[test]
    fn a_process_that_is_gone_leaves_an_idle_slot_and_whatever_it_held() {
        for (slot, _, count) in kinds() {
            let mut gone = slot.clone();
            assert_eq!((gone.gone().len(), &gone), (count, &Slot::Idle), "{slot:?}");
            let mut stopped = slot.clone();
            assert_eq!(stopped.stop().len(), count, "{slot:?}");
            let stays = slot.duty().map(|duty| Slot::Stopping { duty, then: None });
            assert_eq!(stopped, stays.unwrap_or(Slot::Idle), "{slot:?}");
        }
    }
}
