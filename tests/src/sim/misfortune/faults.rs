//! What goes wrong, when, and to whom.

use std::time::Duration;

use lull_session::Event;
use lull_shared::time::Timestamp;

use crate::sim::{
    events::{MachineId, What},
    judged::promise::Checked,
    machines::machine::Power,
    options::{Kind, Level, Misfortune},
    store::Mood,
    world::World,
};

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut,
    Stall,
    SilentCut,
    Partition,
    Kill,
    /// The agent is told to stop, and starts again.
    Restart,
    PowerCut,
    Sleep,
    Crash,
    Freeze,
    Flaky,
    Outage,
    Slow,
    StoreRecovers,
    DiskFull,
    Cancel,
    Retry,
    Administer,
    Misfortune(Misfortune),
}

/// Faults of each kind in an hour of an ordinary office; for one agent or for all together.
const RATES: [(Fault, Kind, f64, Whose); 17] = [
    (Fault::Cut, Kind::Link, 0.05, Whose::Agent),
    (Fault::Stall, Kind::Link, 0.02, Whose::Agent),
    (Fault::SilentCut, Kind::Silent, 0.02, Whose::Agent),
    (Fault::Partition, Kind::Partition, 0.3, Whose::World),
    (Fault::Kill, Kind::Kill, 0.02, Whose::Agent),
    (Fault::Restart, Kind::Kill, 0.02, Whose::Agent),
    (Fault::PowerCut, Kind::Power, 0.01, Whose::Agent),
    (Fault::Sleep, Kind::Sleep, 0.03, Whose::Agent),
    (Fault::Crash, Kind::Crash, 0.4, Whose::World),
    (Fault::Freeze, Kind::Freeze, 0.4, Whose::World),
    (Fault::Flaky, Kind::Store, 0.8, Whose::World),
    (Fault::Outage, Kind::Store, 0.2, Whose::World),
    (Fault::Slow, Kind::Store, 0.3, Whose::World),
    (Fault::DiskFull, Kind::Disk, 0.005, Whose::Agent),
    (Fault::Cancel, Kind::People, 0.3, Whose::World),
    (Fault::Retry, Kind::People, 0.6, Whose::World),
    (Fault::Administer, Kind::People, 1.5, Whose::World),
];

const HARSH_FOR_AGENTS: f64 = 5.0;

impl Fault {
    /// For the digest.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Misfortune(_) => RATES.len() as u64 + 1,
            other => RATES.iter().position(|(fault, ..)| *fault == other).unwrap_or(RATES.len()) as u64,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Agent,
    World,
}

impl World {
    /// Every kind of fault gets its first time.
    pub(crate) fn schedule_faults(&mut self) {
        RATES.iter().for_each(|(fault, ..)| self.schedule(*fault));
    }

    fn schedule(&mut self, fault: Fault) {
        let Some((_, kind, rate, whose)) = RATES.iter().find(|(other, ..)| *other == fault) else { return };
        // In a harsh world machines fail more often still, since there are few of them.
        let harsh = if self.options.faults == Level::Harsh { HARSH_FOR_AGENTS } else { 1.0 };
        let count = if *whose == Whose::Agent { self.machines.len() as f64 * harsh } else { 1.0 };
        let per_hour = rate * self.options.rate(*kind) * count;
        if per_hour > 0.0 {
            let at = self.now + self.dice.faults.wait(Duration::from_secs_f64(3600.0 / per_hour));
            self.queue.push(at, What::Fault(fault));
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) -> Checked {
        if self.healed {
            return Ok(());
        }
        self.summary.faults += 1;
        self.schedule(fault);
        let id = self.dice.faults.index(self.machines.len());
        let coordinator = self.dice.faults.index(self.coordinators.len());
        match fault {
            Fault::Cut => self.cut_agent(id, 0.01, 1.0),
            Fault::SilentCut => self.cut_agent(id, 5.0, 90.0),
            Fault::Stall => {
                let until = self.now + self.dice.faults.seconds(0.5, 90.0);
                self.stall_agent(id, until);
            }
            Fault::Partition => self.partition(),
            Fault::Kill if self.machines[id].session.is_some() => {
                self.kill(id, false);
                let at = self.now + self.dice.faults.seconds(0.5, 60.0);
                self.queue.push(at, What::Boot { machine: id });
            }
            Fault::Restart if self.machines[id].session.is_some() && self.machines[id].power == Power::On => {
                let agent = self.machines[id].agent;
                self.note(|| format!("{agent} is told to stop"));
                self.tell(id, Event::Stop { grace: Duration::from_secs(10) })?;
            }
            Fault::PowerCut if self.machines[id].session.is_some() => self.power_cut(id),
            Fault::Sleep if self.machines[id].laptop && self.machines[id].power == Power::On => {
                let time = if self.dice.faults.chance(0.3) {
                    self.dice.faults.seconds(0.5, 20.0)
                } else {
                    self.dice.faults.seconds(60.0, 7_200.0)
                };
                self.fall_asleep(id, time);
            }
            Fault::Kill | Fault::Restart | Fault::PowerCut | Fault::Sleep => {}
            Fault::Crash => {
                let silently = self.dice.faults.chance(0.3);
                let restart = self.dice.faults.seconds(0.5, 60.0);
                self.crash_coordinator(coordinator, silently, restart);
            }
            Fault::Freeze => {
                let until = self.now + self.dice.faults.seconds(1.0, 60.0);
                self.note(|| format!("! coordinator {coordinator} is frozen until {until}"));
                self.coordinators[coordinator].frozen_until = until;
            }
            Fault::Flaky => self.trouble(Mood::Flaky, 1.0, 40.0),
            Fault::Outage => self.trouble(Mood::Out, 20.0, 90.0),
            Fault::Slow => self.trouble(Mood::Slow, 10.0, 120.0),
            Fault::StoreRecovers => self.database.moods.set(Mood::Well),
            Fault::DiskFull => {
                let until = self.now + self.dice.faults.seconds(5.0, 300.0);
                let agent = self.machines[id].agent;
                self.note(|| format!("the disk of {agent} is full until {until}"));
                self.machines[id].disk.full_until = until;
            }
            Fault::Cancel => self.somebody_cancels(),
            Fault::Retry => self.somebody_retries(),
            Fault::Administer => self.somebody_keeps_the_fleet(),
            Fault::Misfortune(Misfortune::Cut(time)) => self.cut_off(time),
            Fault::Misfortune(Misfortune::Death) => self.death(),
            Fault::Misfortune(Misfortune::SlowStore(time)) => {
                self.database.moods.set(Mood::Slow);
                self.note(|| "! the store is slow".to_owned());
                self.queue.push(self.now + time, What::Fault(Fault::StoreRecovers));
            }
        }
        Ok(())
    }

    fn trouble(&mut self, mood: Mood, from: f64, to: f64) {
        self.database.moods.set(mood);
        self.note(|| format!("! the store is {mood:?}"));
        let at = self.now + self.dice.faults.seconds(from, to);
        self.queue.push(at, What::Fault(Fault::StoreRecovers));
    }

    fn cut_agent(&mut self, id: MachineId, from: f64, to: f64) {
        let Some(link) = self.machines[id].link else { return };
        let agent = self.machines[id].agent;
        let (one, other) = (self.dice.faults.seconds(from, to), self.dice.faults.seconds(from, to));
        self.note(|| format!("the stream of {agent} breaks"));
        self.cut(link, one, other);
    }

    fn stall_agent(&mut self, id: MachineId, until: Timestamp) {
        let Some(link) = self.machines[id].link else { return };
        let agent = self.machines[id].agent;
        self.note(|| format!("the stream of {agent} stalls until {until}"));
        self.links[link].stalled_until = until;
    }

    /// A floor loses its switch: streams die or stall, and nobody there can connect.
    fn partition(&mut self) {
        let size = 1 + self.dice.faults.index(1 + self.machines.len() / 4);
        let first = self.dice.faults.index(self.machines.len());
        let until = self.now + self.dice.faults.seconds(2.0, 600.0);
        self.note(|| format!("! a partition of {size} agents until {until}"));
        for offset in 0..size {
            let id = (first + offset) % self.machines.len();
            self.machines[id].unreachable_until = until;
            if self.dice.faults.chance(0.5) {
                self.cut_agent(id, 5.0, 60.0);
            } else {
                self.stall_agent(id, until);
            }
        }
    }

    /// The coordinators lose their cable: streams break, some noticed at once and some not, and nobody can connect.
    fn cut_off(&mut self, time: Duration) {
        let until = self.now + time;
        self.note(|| format!("! the coordinators are cut off until {until}"));
        for id in 0..self.machines.len() {
            self.machines[id].unreachable_until = until;
            // Both ends find that nothing is said any more, each by itself.
            self.cut_agent(id, 0.001, 4.5);
        }
    }

    /// The machine that runs the most dies, without a word.
    fn death(&mut self) {
        let running = |id: &MachineId| self.machines[*id].slots.iter().filter(|slot| slot.running().is_some()).count();
        let Some(id) = (0..self.machines.len()).max_by_key(running) else { return };
        self.note_death(id);
        self.kill(id, true);
        self.machines[id].power = Power::Dead;
        self.summary.died += 1;
        let agent = self.machines[id].agent;
        self.note(|| format!("! {agent} dies"));
    }

    /// A machine goes dark, a few for good.
    fn power_cut(&mut self, id: MachineId) {
        self.note_outage(id);
        self.kill(id, true);
        let dead = self.machines.iter().filter(|machine| machine.power == Power::Dead).count();
        if self.dice.faults.chance(0.1) && (dead + 1) * 5 <= self.machines.len() {
            self.machines[id].power = Power::Dead;
            self.summary.died += 1;
            let agent = self.machines[id].agent;
            return self.note(|| format!("{agent} is dead"));
        }
        self.machines[id].power = Power::Off;
        let at = self.now + self.dice.faults.seconds(30.0, 5_400.0);
        self.queue.push(at, What::Boot { machine: id });
    }

    /// Everything heals at once: from here on every job must come to its end.
    pub(crate) fn heal(&mut self) -> Checked {
        self.healed = true;
        self.note(|| "! everything heals".to_owned());
        self.database.moods.set(Mood::Well);
        for id in 0..self.coordinators.len() {
            self.coordinators[id].frozen_until = self.now;
            self.queue.push(self.now, What::StartCoordinator { coordinator: id });
        }
        for id in 0..self.machines.len() {
            let machine = &mut self.machines[id];
            machine.unreachable_until = Timestamp::default();
            machine.disk.full_until = Timestamp::default();
            match machine.power {
                Power::Off => self.boot(id)?,
                Power::On => {
                    // One that was killed has its start coming.
                    self.boot(id)?;
                }
                Power::Asleep { .. } => self.wake_up(id)?,
                Power::Dead => continue,
            }
            if let Some(link) = self.machines[id].link {
                self.links[link].stalled_until = self.now;
            }
            self.go_home(id)?;
        }
        self.open_the_fleet();
        self.deadline = Some(self.now + self.patience());
        Ok(())
    }

    /// How long the rest may take: windows, backoffs and hanging tasks, and the work that is left, ten times.
    fn patience(&self) -> Duration {
        let alive = self.machines.iter().filter(|machine| machine.power != Power::Dead && !machine.is_old()).count();
        let left: f64 = self
            .planned
            .iter()
            .map(|job| {
                let each: f64 = job.spec.args[0].parse().unwrap_or(0.0);
                each * 1e-6 * f64::from(job.spec.inputs.count())
            })
            .sum();
        Duration::from_secs(48 * 3600) + Duration::from_secs_f64(left * 10.0 / alive.max(1) as f64)
    }
}
