//! The stream to the coordinator: greeting, heartbeats, capacity, and what comes in.

use std::time::Duration;

use lull_shared::{
    id::{AttemptId, Term},
    identity::{TermProof, verify},
    limits::CARDS_MAX,
    message::{GoodbyeReason, Hello, Instance, ReleaseReason, ToAgent, ToAgentFrame, ToCoordinator, Welcome},
    resources::Capacity,
    state::PauseReason,
    time::Timestamp,
};

use crate::{CloseReason, Effect, Session, attempts::slot::Slot, guard::Verdict};

/// A coordinator that has not answered a greeting by then is not one to wait for.
const WELCOME_TIME_MAX: Duration = Duration::from_secs(10);
/// A coordinator of an older term is not believed for this long after a newer one was heard: one that woke up learns
/// within a renewal of its lease that it was replaced. A database that was restored from a backup may begin with older
/// terms again: its coordinator raises them when it is shown a newer one, and even if it did not, this is not for ever.
const STALE_TERM: Duration = Duration::from_secs(60);
/// What a coordinator may ask for: neither a flood nor a silence.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 100..=60_000;
/// Whoever holds nothing gives a sign of life every so many times that one is due: nothing is lost with it, and half of the
/// silence limit is left. Most often the coordinator's own sign comes before that, and is answered.
const SIGNS_WITHOUT_WORK: u32 = 2;
/// Capacity is announced at most this often while it changes, and this often while it does not.
const ANNOUNCE_GAP: Duration = Duration::from_secs(1);
const ANNOUNCE_RARELY: Duration = Duration::from_secs(60);
/// Smaller changes of free memory are not worth a message.
const MEMORY_STEP_BYTES: u64 = 256 * 1024 * 1024;
/// Nor are smaller changes of free processor time, in percent.
const CPU_STEP_PERCENT: u8 = 10;

/// The present stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Down,
    /// `Hello` was said; the answer is due then.
    Greeting {
        until: Timestamp,
    },
    Up(Up),
}

/// A stream on which the coordinator said `Welcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Up {
    pub(crate) since: Timestamp,
    pub(crate) term: Term,
    frame_read: u64,
    heartbeat: Duration,
    /// When the last sign of life was given.
    heartbeat_said: Timestamp,
}

impl Link {
    pub(crate) fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }

    pub(crate) fn is_greeting(&self) -> bool {
        matches!(self, Self::Greeting { .. })
    }
}

/// What others were last told of this agent's capacity.
#[derive(Debug)]
pub(crate) struct Announced {
    /// From 0 in each run of the program, which names itself beside it.
    sequence: u64,
    at: Timestamp,
    outline: Option<Outline>,
}

/// The part of a capacity whose change is worth a message.
#[derive(Debug, PartialEq, Eq)]
struct Outline {
    slots: u16,
    slots_busy: u16,
    waiting: u32,
    cpu_free: u8,
    memory_free: u64,
    paused: Option<PauseReason>,
}

impl Announced {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { sequence: 0, at: now, outline: None }
    }
}

impl Session {
    pub(crate) fn connected(&mut self, now: Timestamp) {
        self.disconnected();
        self.link = Link::Greeting { until: now + WELCOME_TIME_MAX };
        let hello = Hello {
            agent_version: self.config.agent_version.clone(),
            machine: self.config.machine.clone(),
            labels: self.config.labels.clone(),
            capacity: self.next_capacity(now),
            holding: self.holding(),
            snapshots: self.snapshots.kept(),
            instance: Box::new(Instance {
                number: self.run_number(),
                machine: self.config.machine_number,
                term_proof: self.term_proof.as_ref().map(|(_, signed)| signed.clone()),
            }),
            open_cage: self.open_cage.as_deref().map(Into::into),
        };
        self.effects.push_back(Effect::Send(ToCoordinator::Hello(Box::new(hello))));
    }

    pub(crate) fn disconnected(&mut self) {
        self.link = Link::Down;
        self.started.clear();
        self.finished.clear();
        self.outbox.disconnected();
        self.snapshots.parting.clear();
        self.said_sleep = false;
    }

    /// Takes a frame; one of a stream that was given up says nothing any more.
    pub(crate) fn frame(&mut self, frame: ToAgentFrame, now: Timestamp) {
        for message in frame.messages {
            match (self.link, message) {
                (Link::Down, _) => return,
                (Link::Greeting { .. }, ToAgent::Welcome(welcome)) => self.welcome(welcome, now),
                (Link::Greeting { .. }, ToAgent::Goodbye { reason }) => self.goodbye(reason),
                (Link::Greeting { .. }, _) => self.close(CloseReason::Protocol("it spoke before its welcome")),
                (Link::Up(_), message) => self.message(message, now),
            }
        }
        if let Link::Up(up) = &mut self.link {
            up.frame_read = frame.number;
            self.newest = Some((up.term, now));
            // Whoever holds nothing answers the coordinator's own sign of life, and need not wake up once more for it.
            if self.places.is_empty() && now >= up.heartbeat_said + up.heartbeat {
                self.give_sign_of_life(now);
            }
        }
    }

    fn message(&mut self, message: ToAgent, now: Timestamp) {
        match message {
            ToAgent::Welcome(_) => self.close(CloseReason::Protocol("it said its welcome twice")),
            ToAgent::Brief(brief) => self.brief(*brief),
            ToAgent::Assign(assignments) => self.assign(assignments, now),
            ToAgent::Recall { attempts, reason } => self.recall(&attempts, reason, now),
            ToAgent::Acknowledge { attempts } => self.acknowledge(&attempts),
            ToAgent::Forget { job } => self.forget(job),
            ToAgent::Discard { snapshots } => self.discard(&snapshots),
            ToAgent::Keep { task, snapshot } => self.keep_copy(task, snapshot),
            ToAgent::Safe { snapshots } => self.safe(&snapshots),
            ToAgent::Wake(mut cards) => {
                cards.truncate(CARDS_MAX);
                self.effects.push_back(Effect::Wake(cards));
            }
            ToAgent::Intake(intake) => self.intake = intake,
            ToAgent::Policy(signed) => self.take_policy(signed),
            ToAgent::Coordinators(coordinators) => self.effects.push_back(Effect::Learn(coordinators)),
            ToAgent::Upgrade(release) => self.effects.push_back(Effect::Upgrade(release)),
            ToAgent::ReadLog { attempt, from } => self.effects.push_back(Effect::ReadLog { attempt, from }),
            ToAgent::Goodbye { reason } => self.goodbye(reason),
        }
    }

    /// Says again what the coordinator may have missed: what runs, and what is paused. One that another has taken over
    /// from, and that does not know it yet, is left.
    fn welcome(&mut self, welcome: Welcome, now: Timestamp) {
        if self.newest.is_some_and(|(term, heard)| welcome.term < term && now < heard + STALE_TERM) {
            return self.close(CloseReason::Stale);
        }
        let heartbeat = Duration::from_millis(welcome.heartbeat_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end()));
        self.link = Link::Up(Up { since: now, term: welcome.term, frame_read: 0, heartbeat, heartbeat_said: now });
        self.intake = welcome.intake;
        self.note_term(&welcome);
        let policy = welcome.policy.clone();
        self.effects.push_back(Effect::Adopt(Box::new(welcome)));
        let begun =
            self.slots.iter().filter(|slot| matches!(slot, Slot::Running { .. } | Slot::Paused { .. } | Slot::Suspending { .. }));
        let held = begun.flat_map(|slot| slot.held().into_iter().map(|held| (Timestamp::default(), held.attempt)));
        self.started = held.collect();
        self.say_paused();
        match policy {
            Some(signed) => self.take_policy(signed),
            None => self.report_policy(),
        }
    }

    /// Keeps the proof of the highest term there was: a coordinator whose database was restored from a backup must begin
    /// above it.
    fn note_term(&mut self, welcome: &Welcome) {
        let Some(signed) = &welcome.term_proof else { return };
        let proves = verify::<TermProof>(&self.config.authority, signed).is_ok_and(|proof| proof.term == welcome.term);
        if proves && self.term_proof.as_ref().is_none_or(|(known, _)| *known < welcome.term) {
            self.term_proof = Some((welcome.term, signed.clone()));
        }
    }

    /// Says that the machine is about to sleep, once: then its silence is known to be no fault, and it may be woken.
    pub(crate) fn say_sleep(&mut self) {
        let sleeps = self.verdict.reason() == Some(&PauseReason::Sleep);
        if sleeps && self.link.is_up() && !self.said_sleep {
            self.say(ToCoordinator::Sleeps);
        }
        self.said_sleep = sleeps && self.link.is_up();
    }

    /// The coordinator closes the stream; a revoked agent has no business with its work any more.
    fn goodbye(&mut self, reason: GoodbyeReason) {
        if reason == GoodbyeReason::Revoked {
            self.give_up_everything(ReleaseReason::Stopping);
        }
        // This program opens no second stream while it has one: somebody else did, perhaps a copy of this very process.
        self.superseded |= reason == GoodbyeReason::Superseded;
        self.close(CloseReason::Goodbye(reason));
    }

    fn close(&mut self, reason: CloseReason) {
        self.effects.push_back(Effect::Close(reason));
        self.disconnected();
    }

    pub(crate) fn link_timeout(&mut self, now: Timestamp) {
        match self.link {
            Link::Down => {}
            Link::Greeting { until } => {
                if now >= until {
                    self.close(CloseReason::NoWelcome);
                }
            }
            Link::Up(up) => {
                if now >= self.heartbeat_due(up) {
                    self.give_sign_of_life(now);
                }
            }
        }
    }

    fn give_sign_of_life(&mut self, now: Timestamp) {
        let Link::Up(up) = &mut self.link else { return };
        up.heartbeat_said = now;
        let frame_read = up.frame_read;
        let holding = self.holding();
        self.say(ToCoordinator::Heartbeat { frame_read, holding });
    }

    fn heartbeat_due(&self, up: Up) -> Timestamp {
        let signs = if self.places.is_empty() { SIGNS_WITHOUT_WORK } else { 1 };
        up.heartbeat_said + up.heartbeat * signs
    }

    pub(crate) fn link_due(&self) -> Option<Timestamp> {
        let own = match &self.link {
            Link::Down => None,
            Link::Greeting { until } => Some(*until),
            Link::Up(up) => Some(self.heartbeat_due(*up)),
        };
        let announcement = self.announced.at + self.announce_gap();
        own.into_iter().chain([announcement]).min()
    }

    /// Tells coordinators what is free when that changed, not too often, and rarely otherwise.
    pub(crate) fn announce(&mut self, now: Timestamp) {
        if now < self.announced.at + self.announce_gap() && self.announced.outline.is_some() {
            return;
        }
        let capacity = self.next_capacity(now);
        self.say(ToCoordinator::Capacity(capacity.clone()));
        self.effects.push_back(Effect::Publish(capacity));
    }

    fn announce_gap(&self) -> Duration {
        if self.announced.outline.as_ref() == Some(&Outline::of(&self.capacity())) { ANNOUNCE_RARELY } else { ANNOUNCE_GAP }
    }

    /// The present capacity under the next sequence number, which it is about to be announced with.
    fn next_capacity(&mut self, now: Timestamp) -> Capacity {
        self.announced.sequence += 1;
        let capacity = self.capacity();
        self.announced.at = now;
        self.announced.outline = Some(Outline::of(&capacity));
        capacity
    }

    /// What is free at this moment.
    pub(crate) fn capacity(&self) -> Capacity {
        let busy = self.slots.iter().filter(|slot| !matches!(slot, Slot::Warm { .. }));
        let budget = self.memory_bytes_max().saturating_sub(self.memory_bytes_of(busy));
        let measured = self
            .sample
            .map_or(u64::MAX, |sample| sample.memory_available_bytes.saturating_sub(self.config.rules.memory.free_min_bytes));
        Capacity {
            agent: self.config.agent,
            run: self.run_number(),
            sequence: self.announced.sequence,
            slots: match &self.verdict {
                Verdict::Run(room) => room.slots,
                Verdict::Pause(_) | Verdict::Evict(_) => self.config.slots,
            },
            slots_busy: self.slots_busy(),
            waiting: u32::try_from(self.waiting.len()).unwrap_or(u32::MAX),
            cpu_free_percent: 100 - self.sample.map_or(0, |sample| sample.cpu_others_percent.min(100)),
            memory_free_bytes: budget.min(measured),
            paused: self.objects(),
        }
    }

    /// What this run of the program is told from others with the same identity by.
    fn run_number(&self) -> u64 {
        self.config.instances[usize::from(self.superseded)]
    }

    fn slots_busy(&self) -> u16 {
        let busy = self.slots.iter().filter(|slot| !matches!(slot, Slot::Idle | Slot::Warm { .. }));
        u16::try_from(busy.count()).expect("at most SLOTS_PER_AGENT_MAX slots")
    }

    fn holding(&self) -> Vec<AttemptId> {
        self.places.keys().copied().collect()
    }
}

impl Outline {
    fn of(capacity: &Capacity) -> Self {
        Self {
            slots: capacity.slots,
            slots_busy: capacity.slots_busy,
            // Doubling and halving is news, one more or less is not.
            waiting: capacity.waiting.checked_ilog2().map_or(0, |log| log + 1),
            cpu_free: capacity.cpu_free_percent / CPU_STEP_PERCENT,
            memory_free: capacity.memory_free_bytes / MEMORY_STEP_BYTES,
            paused: capacity.paused.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::id::AgentId;

    use super::*;

    fn capacity(waiting: u32, cpu_free_percent: u8, memory_free_bytes: u64) -> Capacity {
        let (agent, run, sequence, slots, slots_busy, paused) = (AgentId(1), 1, 1, 2, 0, None);
        Capacity { agent, run, sequence, slots, slots_busy, waiting, cpu_free_percent, memory_free_bytes, paused }
    }

    #[test]
    fn a_change_that_is_worth_a_message_is_told_from_one_that_is_not() {
        let step = MEMORY_STEP_BYTES;
        let pairs = [
            (capacity(0, 0, 0), capacity(1, 0, 0), true),
            (capacity(1, 0, 0), capacity(2, 0, 0), true),
            (capacity(2, 0, 0), capacity(3, 0, 0), false),
            (capacity(3, 0, 0), capacity(4, 0, 0), true),
            (capacity(0, 80, 0), capacity(0, 89, 0), false),
            (capacity(0, 89, 0), capacity(0, 90, 0), true),
            (capacity(0, 0, step), capacity(0, 0, 2 * step - 1), false),
            (capacity(0, 0, step - 1), capacity(0, 0, step), true),
            (capacity(0, 0, 0), Capacity { slots: 1, ..capacity(0, 0, 0) }, true),
            (capacity(0, 0, 0), Capacity { slots_busy: 1, ..capacity(0, 0, 0) }, true),
            (capacity(0, 0, 0), Capacity { paused: Some(PauseReason::Lid), ..capacity(0, 0, 0) }, true),
            (capacity(0, 0, 0), Capacity { sequence: 2, ..capacity(0, 0, 0) }, false),
        ];
        for (before, after, news) in pairs {
            assert_eq!(Outline::of(&before) != Outline::of(&after), news, "{before:?} and then {after:?}");
        }
    }
}
