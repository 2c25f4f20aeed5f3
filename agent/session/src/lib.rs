//! The agent's side of the protocol with its coordinator: CORE, pure.
//!
//! Owns what the agent holds and where each attempt is, what runs in which slot, what is said to the coordinator and
//! when. Does not talk, run, write or measure: that is asked for by [`Effect`]s and reported by [`Event`]s. The [`guard`]
//! says what the owner leaves free, and a [`slot`] is one place for an executor.
//!
//! ```text
//! offered --> waiting (its blobs on their way or here) --> starting --> running <--> paused
//!    |           |                                           |            |
//!    v           v  refused, recalled, the agent stops       v            v  ended
//! refused     released <-------------------------------------+   outbox: keeping -> kept -> said --> acknowledged
//! ```
//! A coordinator that is away changes nothing on the way: what runs and waits goes on, results pile up in the outbox
//! (bounded, since whatever is held counts against [`limits::ATTEMPTS_PER_AGENT_MAX`]) and are said on the next stream.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod attempts;
mod audit;
mod event;
pub mod guard;
mod remark;
mod snapshots;
mod status;
mod troubles;
mod words;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use lull_shared::{
    id::{AttemptId, JobId, Term},
    identity::Signed,
    limits,
    message::{Finished, ReleaseReason, ToCoordinator},
    state::Intake,
    time::Timestamp,
};

use self::{
    attempts::{blobs::Blobs, offers::Job},
    snapshots::moving::Snapshots,
    troubles::Troubles,
    words::{
        link::{Announced, Link},
        results::Outbox,
    },
};
pub use self::{
    attempts::{
        plan::{Code, Plan},
        slot,
    },
    event::{CloseReason, Config, Delivery, Done, Effect, Event, Kept, StartError},
    remark::{PolicyRefused, Remark},
    status::{FunctionStatus, LinkStatus, SessionStatus, SlotStatus, TaskStatus},
    words::policy::{MachineWord, Standing},
};
use crate::{
    attempts::slot::{Held, Slot, SlotId},
    guard::{Guard, Means, Sample, Verdict},
};

/// Inputs that wait inside messages, in bytes; beyond it offers are refused as full. Four thousand attempts with the
/// largest inline input would be four times as much.
const WAITING_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What runs for longer than this is said to have started, since it can be asked back, paused and watched. Of what ends before
/// the result says all: a word before it would cost a frame and a turn of the coordinator for each of many short tasks.
const WORTH_A_WORD: Duration = Duration::from_millis(10);

/// Where an attempt is: exactly one of these while it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Waiting, under this order.
    Waiting(u64),
    Slot(SlotId),
    Outbox,
}

/// Whether the agent means to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Serving,
    /// Everything was given up; results are said until then.
    Leaving {
        until: Timestamp,
    },
    Left,
}

/// An agent's protocol state.
pub struct Session {
    config: Config,
    guard: Guard,
    verdict: Verdict,
    standing: Standing,
    /// How far the machine's own clock is ahead of UTC, in minutes.
    clock_ahead_min: i16,
    sample: Option<Sample>,
    life: Life,
    link: Link,
    /// The newest term that was heard of, and when it was heard last.
    newest: Option<(Term, Timestamp)>,
    /// The highest term that a coordinator proved, to be shown to others.
    term_proof: Option<(Term, Signed)>,
    /// Whether another program used this one's identity.
    superseded: bool,
    intake: Intake,
    announced: Announced,
    jobs: BTreeMap<JobId, Job>,
    blobs: Blobs,
    waiting: BTreeMap<u64, Held>,
    waiting_bytes: u64,
    next_order: u64,
    slots: Vec<Slot>,
    snapshots: Snapshots,
    /// Whether the coordinator knows on this stream that the machine is about to sleep.
    said_sleep: bool,
    outbox: Outbox,
    troubles: Troubles,
    /// What is missing of the cage around executors, if anything is.
    open_cage: Option<String>,
    places: BTreeMap<AttemptId, Place>,
    effects: VecDeque<Effect>,
    /// What was handed to an executor and is not said to have started, the oldest first.
    started: VecDeque<(Timestamp, AttemptId)>,
    /// Said in one message each when the turn's other effects are drained.
    finished: Vec<Finished>,
    dropped: Vec<AttemptId>,
}

impl Session {
    /// A session of an agent that has just started, with the results that an earlier life of it kept.
    pub fn new(config: Config, kept: &[Kept], now: Timestamp) -> Self {
        assert!(config.slots > 0 && config.slots <= limits::SLOTS_PER_AGENT_MAX, "{} slots", config.slots);
        let standing = config.standing.clone();
        let means = Means {
            cores: config.machine.cores,
            slots: config.slots,
            memory_bytes: config.machine.memory_bytes,
            memory_bytes_max: config.memory_bytes_max,
        };
        let mut guard = Guard::new(config.rules, standing.effective(), means, now);
        let mut session = Self {
            verdict: guard.verdict(now),
            guard,
            standing,
            clock_ahead_min: 0,
            sample: None,
            life: Life::Serving,
            link: Link::Down,
            newest: None,
            term_proof: None,
            superseded: false,
            intake: Intake::Open,
            announced: Announced::new(now),
            jobs: BTreeMap::new(),
            blobs: Blobs::default(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            next_order: 0,
            slots: vec![Slot::Idle; usize::from(config.slots)],
            snapshots: Snapshots::default(),
            said_sleep: false,
            outbox: Outbox::default(),
            troubles: Troubles::default(),
            open_cage: None,
            places: BTreeMap::new(),
            effects: VecDeque::new(),
            started: VecDeque::new(),
            finished: Vec::new(),
            dropped: Vec::new(),
            config,
        };
        session.restore(kept);
        session
    }

    /// Takes an event.
    pub fn handle(&mut self, event: Event, now: Timestamp) {
        self.take(event, now);
        self.settle(now);
    }

    /// Takes events that came together. What follows from them is looked for once.
    pub fn handle_all(&mut self, events: Vec<Event>, now: Timestamp) {
        events.into_iter().for_each(|event| self.take(event, now));
        self.settle(now);
    }

    fn take(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Connected => self.connected(now),
            Event::Disconnected => self.disconnected(),
            Event::Frame(frame) => self.frame(frame, now),
            Event::Fetched { digest, result } => self.fetched(digest, result),
            Event::Ready { slot } => self.ready(slot, now),
            Event::StartFailed { slot, error } => self.start_failed(slot, error, now),
            Event::Done { slot, done } => self.done(slot, *done, now),
            Event::Saved { slot, attempt, snapshot, suspended } => self.saved(slot, attempt, snapshot, suspended, now),
            Event::BeginsAnew { slot, attempt, reason } => self.begins_anew(slot, attempt, reason, now),
            Event::Gone { slot, failed } => self.gone(slot, failed, now),
            Event::Trouble { trouble, ended } => self.trouble(trouble, ended, now),
            Event::Probed { part, result } => self.probed(part, result, now),
            Event::Caged { missing } => self.caged(missing, now),
            Event::Kept { attempts } => self.kept(&attempts),
            Event::NotKept { attempts, reason } => self.not_kept(&attempts, reason, now),
            Event::Recollected { records, missing } => self.recollected(records, &missing),
            Event::Delivered { attempt, delivery } => self.delivered(attempt, delivery, now),
            Event::Sample(sample) => {
                self.guard.observe(sample, now);
                self.note_clock(&sample, now);
                self.sample = Some(sample);
            }
            Event::Input => self.guard.input(now),
            Event::Announced(announcement) => self.guard.announce(announcement),
            Event::Owner(word) => self.guard.obey(word),
            Event::Narrowed(owner) => self.narrow(*owner),
            Event::MachineSays(word) => self.take_machine_word(*word),
            Event::Upgrading(upgrading) => self.guard.upgrade(upgrading),
            Event::Slept(by) => self.slots.iter_mut().for_each(|slot| slot.slept(by, now)),
            Event::Stop { grace } => self.stop(grace, now),
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.time_limits(now);
        self.snapshots_due(now);
        self.cool_down(now);
        self.outbox_timeout(now);
        self.troubles_timeout(now);
        self.link_timeout(now);
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let leaving = match self.life {
            Life::Serving => None,
            Life::Leaving { until } => Some(until),
            Life::Left => return None,
        };
        let due = [
            self.work_due(),
            self.started_due(),
            self.outbox.due(),
            self.troubles.due(),
            self.link_due(),
            self.guard.poll_timeout(now),
            leaving,
        ];
        due.into_iter().flatten().min()
    }

    /// The next thing to be done; none when the turn is complete.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.effects.is_empty() {
            self.flush();
        }
        self.effects.pop_front()
    }

    /// Whether nothing is held and no executor is there.
    pub fn is_idle(&self) -> bool {
        self.places.is_empty() && self.slots.iter().all(|slot| *slot == Slot::Idle)
    }

    /// Whether the agent may start something new.
    fn serves(&self) -> bool {
        self.life == Life::Serving
    }

    /// What follows from whatever just changed.
    fn settle(&mut self, now: Timestamp) {
        if self.life == Life::Left {
            return;
        }
        self.judge(now);
        self.give_up_coming();
        self.yield_warm();
        self.fill(now);
        self.say_started(now);
        self.pump(now);
        self.announce(now);
        self.part_with_kept();
        self.say_sleep();
        self.leave_when_ready(now);
    }

    /// The agent stops: writes down what can be moved, gives up the rest, and says what it can within the grace.
    fn stop(&mut self, grace: Duration, now: Timestamp) {
        if self.serves() {
            self.life = Life::Leaving { until: now + grace };
            self.evict(ReleaseReason::Stopping, now);
        }
    }

    fn leave_when_ready(&mut self, now: Timestamp) {
        let Life::Leaving { until } = self.life else { return };
        let ended = self.slots.iter().all(|slot| *slot == Slot::Idle) && self.outbox.is_settled(self.link.is_up());
        // Whoever was just greeted answers within moments, and would take what ends before that for a machine that vanished.
        let quiet = ended && self.has_parted() && !self.link.is_greeting();
        if quiet || now >= until {
            self.life = Life::Left;
            self.say(ToCoordinator::Farewell);
            self.effects.push_back(Effect::Quit);
        }
    }

    /// Says something to the coordinator, after what is batched; nothing when none is there.
    fn say(&mut self, message: ToCoordinator) {
        if self.link.is_up() {
            let started = std::mem::take(&mut self.started);
            self.tell_started(started.into_iter().map(|(_, attempt)| attempt));
            self.flush();
            self.effects.push_back(Effect::Send(message));
        }
    }

    /// Says what has run for long enough to be worth it.
    fn say_started(&mut self, now: Timestamp) {
        let mut long = Vec::new();
        while let Some((since, attempt)) = self.started.front().copied() {
            let runs = self.is_in_slot(attempt);
            if runs && now < since + WORTH_A_WORD {
                break;
            }
            self.started.pop_front();
            long.extend(runs.then_some(attempt));
        }
        self.tell_started(long.into_iter());
    }

    /// Of these, those that have not ended.
    fn tell_started(&mut self, attempts: impl Iterator<Item = AttemptId>) {
        let attempts: Vec<AttemptId> = attempts.filter(|attempt| self.is_in_slot(*attempt)).collect();
        if !attempts.is_empty() {
            self.effects.push_back(Effect::Send(ToCoordinator::Started { attempts }));
        }
    }

    fn started_due(&self) -> Option<Timestamp> {
        self.started.front().map(|(since, _)| *since + WORTH_A_WORD)
    }

    fn is_in_slot(&self, attempt: AttemptId) -> bool {
        matches!(self.places.get(&attempt), Some(Place::Slot(_)))
    }

    fn flush(&mut self) {
        self.say_fresh();
        if !self.finished.is_empty() {
            let finished = std::mem::take(&mut self.finished);
            self.effects.push_back(Effect::Send(ToCoordinator::Finished(finished)));
        }
        if !self.dropped.is_empty() {
            let attempts = std::mem::take(&mut self.dropped);
            self.effects.push_back(Effect::Drop(attempts));
        }
    }
}
