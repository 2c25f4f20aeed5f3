//! One machine of an office week: what its owner does next, and what must therefore not happen on it.

use std::time::Duration;

use lull_session::guard::{Power, Sample};
use lull_shared::{
    policy::{Span, slots_of},
    time::Timestamp,
};

use super::{
    super::dice::Dice,
    Leaving, Week,
    account::Offer,
    habits::{Act, Habits},
};

/// From the owner's input to the last guest instruction.
pub(super) const YIELD: Duration = Duration::from_millis(10);
/// What is measured once a second is seen by then.
pub(super) const SEEN: Duration = Duration::from_millis(1_050);
/// Other programs' load is seen with two seconds of patience and a measurement at each end.
pub(super) const LOAD_SEEN: Duration = Duration::from_millis(4_050);
/// After the grace the memory is back by then.
pub(super) const MEMORY: Duration = Duration::from_secs(1);

/// Somebody who comes back is told from a bumped desk by the second input, whatever the grace: that has come by then.
/// What was frozen at the first one stays until it is known that nobody bumped the desk.
pub(super) const TOLD: Duration = Duration::from_millis(1_310);

/// Why something may not run, each with its own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Input,
    Hours,
    Battery,
    Load,
    Power,
}

const REASONS: usize = 5;

/// No more than so many slots run from then until then.
#[derive(Debug, Clone, Copy)]
pub struct Ban {
    pub from: Timestamp,
    pub until: Timestamp,
    /// From then on no process is left either.
    pub memory_from: Option<Timestamp>,
    slots: u16,
}

/// A machine's week.
#[derive(Debug)]
pub struct Desk {
    pub habits: Habits,
    pub dice: Dice,
    acts: Vec<(Timestamp, Act)>,
    next: usize,
    pub idle: Duration,
    pub grace: Duration,
    /// What may run beside the owner.
    beside_slots: u16,
    pub sits_until: Timestamp,
    /// The last input, or the start of the machine.
    pub last_input: Timestamp,
    pub load: bool,
    pub battery: bool,
    /// No start of the machine before then.
    pub dark_until: Timestamp,
    bans: [Option<Ban>; REASONS],
    pub offer: Offer,
}

impl Desk {
    pub fn new(
        seed: u64,
        number: u64,
        laptop: bool,
        (cores, slots): (u16, u16),
        week: Week,
        monday: Timestamp,
        days: i64,
    ) -> Self {
        let mut dice = Dice::new(seed, 5_000_000 + number);
        let mut habits = Habits::new(laptop, &mut dice);
        if week.leaving == Leaving::Kill {
            habits.policy.grace = Span::from_secs(0);
        }
        let acts = habits.timeline(monday, days, &mut dice);
        let policy = habits.effective();
        let beside = policy.beside_owner.then(|| slots_of(policy.beside_cores.get(), cores, slots));
        Self {
            dice,
            acts,
            next: 0,
            idle: policy.idle.duration(),
            grace: policy.grace.duration(),
            beside_slots: beside.unwrap_or(0),
            sits_until: monday,
            last_input: monday,
            load: false,
            battery: false,
            dark_until: monday,
            bans: [None; REASONS],
            offer: Offer::default(),
            habits,
        }
    }

    /// When something happens next.
    pub fn due(&self) -> Option<Timestamp> {
        self.acts.get(self.next).map(|(at, _)| *at)
    }

    /// What happens now.
    pub fn take(&mut self) -> Option<Act> {
        let (_, act) = self.acts.get(self.next)?;
        self.next += 1;
        Some(*act)
    }

    /// What the sensor measures.
    pub fn sample(&mut self, now: Timestamp) -> Sample {
        let cpu = if self.load { self.dice.number(60, 100) } else { self.dice.number(0, 12) };
        Sample {
            cpu_others_percent: cpu as u8,
            idle: Some(now.since(self.last_input)),
            power: if self.battery { Power::Battery { percent: Some(70) } } else { Power::Mains },
            local: self.habits.local(now),
            ..Sample::QUIET
        }
    }

    /// The owner is there for so long from `from`; `settles`: long enough for the grace to pass.
    pub fn ban_input(&mut self, from: Timestamp, until: Timestamp, settles: bool) -> Ban {
        let known = self.ban(Why::Input).filter(|ban| ban.until > from);
        let memory = settles && self.beside_slots == 0;
        let memory_from = known.and_then(|ban| ban.memory_from).or(memory.then(|| from + self.grace.max(TOLD) + MEMORY));
        let from = known.map_or(from, |ban| ban.from);
        let until = known.map_or(until, |ban| ban.until.max(until));
        self.set(Why::Input, Ban { from, until, memory_from, slots: self.beside_slots })
    }

    /// Something else than the owner is in the way from `from` on.
    pub fn forbid(&mut self, why: Why, from: Timestamp, memory_after: Duration) -> Ban {
        let slots = if why == Why::Hours { self.beside_slots } else { 0 };
        let memory_from = (slots == 0).then(|| from + memory_after + MEMORY);
        self.set(why, Ban { from, until: Timestamp(i64::MAX), memory_from, slots })
    }

    /// The agent looks again, after the machine slept or was off: what it measures it has to see anew.
    pub fn look_again(&mut self, now: Timestamp) -> Vec<Ban> {
        let measured = [(Why::Hours, SEEN), (Why::Battery, SEEN), (Why::Load, LOAD_SEEN)];
        let mut bans = Vec::new();
        for (why, seen) in measured {
            let grace = if why == Why::Hours { Duration::ZERO } else { self.grace };
            if self.ban(why).is_some_and(|ban| ban.from < now + seen) {
                bans.push(self.forbid(why, now + seen, grace));
            }
        }
        bans
    }

    pub fn allow(&mut self, why: Why) {
        self.bans[why as usize] = None;
    }

    pub fn ban(&self, why: Why) -> Option<Ban> {
        self.bans[why as usize]
    }

    fn set(&mut self, why: Why, ban: Ban) -> Ban {
        self.bans[why as usize] = Some(ban);
        ban
    }

    /// How many slots may run at most, and why not more.
    pub fn slots_max(&self, now: Timestamp) -> Option<(u16, Why)> {
        let whys = [Why::Input, Why::Hours, Why::Battery, Why::Load, Why::Power];
        let holds =
            |(ban, why): (&Option<Ban>, Why)| ban.filter(|ban| ban.from <= now && now < ban.until).map(|ban| (ban.slots, why));
        self.bans.iter().zip(whys).filter_map(holds).min_by_key(|(slots, _)| *slots)
    }

    /// Whether anything but the owner's input is or comes in the way of work, as far as that can be seen by now.
    pub fn is_hindered(&self) -> bool {
        self.bans[1..].iter().any(Option::is_some) || self.load || self.battery
    }

    /// Whether no process may be left by now.
    pub fn memory_is_due(&self, now: Timestamp) -> bool {
        let due = |ban: &Ban| now < ban.until && ban.memory_from.is_some_and(|from| from <= now);
        self.bans.iter().flatten().any(due)
    }
}
