//! The people at the machines: office hours, lunch, weekends, a bumped desk; and the promise made to them.

use std::time::Duration;

use lull_session::{
    Event,
    guard::{OwnerWord, Sample},
};
use lull_shared::time::Timestamp;

use crate::sim::{
    dice::Dice,
    events::{MachineEvent, MachineId, What},
    judged::promise::{Checked, Promise, Violation},
    machines::machine::Power,
    options::Options,
    world::World,
};

/// The machine is measured this often; after a change for as long as the guard may take to make up its mind.
const SAMPLE: Duration = Duration::from_secs(1);
const SAMPLES: u8 = 10;
/// What the guard may take: the next measurement, its two seconds of patience, and one more measurement.
const REACTION: Duration = Duration::from_millis(4_010);
const DAY: i64 = 24 * 3600 * 1_000_000;

/// One owner.
#[derive(Debug)]
pub(crate) struct Owner {
    dice: Dice,
    /// A machine in a lab has none, and in a steady world nobody has.
    here: bool,
    /// When people come, have lunch and go, in microseconds of the day.
    comes: i64,
    goes: i64,
    pub busy: Busy,
    samples_left: u8,
    sampling: bool,
    /// From then on nothing may run.
    pub quiet_from: Option<Timestamp>,
}

/// What the owner's programs do to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    No,
    Processor,
    Memory,
}

impl Owner {
    pub(crate) fn new(options: &Options, laptop: bool, lab: bool, number: u64) -> Self {
        let mut dice = Dice::new(options.seed, 1_000 + number);
        let hour = |hours: f64| (hours * 3600e6) as i64;
        let comes = hour(7.5 + 2.0 * dice.seconds(0.0, 1.0).as_secs_f64());
        let stays = hour(7.0 + if laptop { 4.0 } else { 2.5 } * dice.seconds(0.0, 1.0).as_secs_f64());
        Self {
            dice,
            here: !lab && !options.steady,
            comes,
            goes: comes + stays,
            busy: Busy::No,
            samples_left: 0,
            sampling: false,
            quiet_from: None,
        }
    }

    /// Whether the owner is in the office at that time.
    fn in_office(&self, now: Timestamp) -> bool {
        let (day, time) = (now.0.div_euclid(DAY), now.0.rem_euclid(DAY));
        // 1970-01-01 was a Thursday.
        let weekday = (day + 3).rem_euclid(7);
        let lunch = (self.comes + self.goes) / 2;
        let eats = time >= lunch && time < lunch + 45 * 60 * 1_000_000;
        self.here && weekday < 5 && time >= self.comes && time < self.goes && !eats
    }

    /// What the owner does next, and for how long.
    fn turn(&mut self, now: Timestamp) -> Duration {
        if !self.in_office(now) {
            self.busy = Busy::No;
            // Somebody bumps the desk, or a backup runs for a second.
            if self.here && self.dice.chance(0.05) {
                self.busy = Busy::Processor;
                return self.dice.seconds(0.3, 1.8);
            }
            return self.dice.seconds(600.0, 2_400.0);
        }
        if self.busy != Busy::No {
            self.busy = Busy::No;
            return self.dice.seconds(60.0, 1_200.0);
        }
        self.busy = if self.dice.chance(0.15) { Busy::Memory } else { Busy::Processor };
        self.dice.seconds(1.0, 900.0)
    }

    fn measured(&mut self) -> Sample {
        let (cpu_others_percent, memory_available_bytes) = match self.busy {
            Busy::No => (self.dice.number(0, 20), 6 << 30),
            Busy::Processor => (self.dice.number(60, 100), 5 << 30),
            Busy::Memory => (self.dice.number(5, 20), 200 << 20),
        };
        Sample { cpu_others_percent: cpu_others_percent as u8, memory_available_bytes, ..Sample::QUIET }
    }
}

impl World {
    /// An owner begins or stops to use the machine.
    pub(crate) fn owner_turns(&mut self, id: MachineId) -> Checked {
        if self.healed {
            return Ok(());
        }
        let now = self.now;
        let machine = &mut self.machines[id];
        let before = machine.owner.busy;
        let lasts = machine.owner.turn(now);
        let (agent, busy) = (machine.agent, machine.owner.busy);
        self.queue.push(now + lasts, What::OwnerTurns { machine: id });
        if busy != before {
            self.note(|| format!("the owner of {agent}: busy {busy:?}"));
            self.watch_owner(id);
        }
        let word = match self.machines[id].owner.dice.number(0, 60) {
            0 => OwnerWord::Pause { until: Some(now + Duration::from_secs(300)) },
            1..4 => OwnerWord::Run,
            _ => return Ok(()),
        };
        if self.machines[id].power != Power::On || !self.machines[id].owner.here {
            return Ok(());
        }
        self.tell(id, Event::Owner(word))?;
        let running = self.machines[id].slots.iter().find_map(|slot| slot.running());
        match (word, running) {
            (OwnerWord::Pause { .. }, Some(attempt)) => {
                let what = format!("{agent} runs {attempt} although its owner said pause");
                Err(Violation::new(Promise::OwnerFirst, what, &[attempt.into(), agent.into()]))
            }
            _ => Ok(()),
        }
    }

    /// The agent has begun to look, or to look again: its patience begins anew.
    pub(crate) fn restart_owner_watch(&mut self, id: MachineId) {
        self.machines[id].owner.sampling = false;
        self.watch_owner(id);
    }

    fn watch_owner(&mut self, id: MachineId) {
        let now = self.now;
        let owner = &mut self.machines[id].owner;
        owner.quiet_from = (owner.busy != Busy::No).then(|| now + REACTION);
        owner.samples_left = SAMPLES;
        let first = (!std::mem::replace(&mut owner.sampling, true)).then(|| now + owner.dice.between(Duration::ZERO, SAMPLE));
        let deadline = owner.quiet_from;
        if let Some(at) = first {
            self.push_machine(id, at, MachineEvent::Sample);
        }
        if let Some(at) = deadline {
            self.push_machine(id, at, MachineEvent::OwnerDeadline);
        }
    }

    pub(crate) fn sample(&mut self, id: MachineId) -> Checked {
        if self.machines[id].desk.is_some() {
            return self.desk_sample(id);
        }
        let owner = &mut self.machines[id].owner;
        let sample = owner.measured();
        owner.samples_left = owner.samples_left.saturating_sub(1);
        owner.sampling = owner.samples_left > 0;
        if owner.sampling {
            self.push_machine(id, self.now + SAMPLE, MachineEvent::Sample);
        }
        self.tell(id, Event::Sample(sample))
    }

    /// Nothing runs any more once the guard had its time.
    pub(crate) fn check_owner(&mut self, id: MachineId) -> Checked {
        if self.machines[id].desk.is_some() {
            return self.check_desk(id, false);
        }
        let machine = &self.machines[id];
        let late = machine.owner.quiet_from.is_some_and(|from| from <= self.now);
        if !late || machine.power != Power::On {
            return Ok(());
        }
        match machine.slots.iter().find_map(|slot| slot.running()) {
            None => Ok(()),
            Some(attempt) => {
                let agent = machine.agent;
                let what = format!("{agent} runs {attempt} although its owner has been busy for {REACTION:?}");
                Err(Violation::new(Promise::OwnerFirst, what, &[attempt.into(), agent.into()]))
            }
        }
    }

    /// Everybody goes home.
    pub(crate) fn go_home(&mut self, id: MachineId) -> Checked {
        let was = std::mem::replace(&mut self.machines[id].owner.busy, Busy::No);
        if was != Busy::No {
            self.watch_owner(id);
        }
        self.tell(id, Event::Owner(OwnerWord::Run))
    }
}
