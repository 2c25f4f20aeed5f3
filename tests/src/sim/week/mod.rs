//! A week of an office, Monday 00:00 to Sunday 24:00: real guards under their policies, owners with habits, and work
//! enough or too little of it.
//!
//! ```text
//! habits: timeline of acts --> desk: Input, Sample, Announced --> Session
//!                               | bans: nothing runs from then until then, no process is left
//!                               v
//!                             checks at each of their beginnings, and whenever something starts to run
//! guard's verdicts --> account: offered <-- executors: ran, progress <-- ledger: useful
//! ```
//! Input reaches the session as the sensor tells it, with a delay of its own, but sparsely: the first, the one that
//! tells it from a bumped desk, and then as many as keep the guard from believing that the owner left. Measurements
//! are taken when something has changed and as often after that as the rules' patience asks for; gossip is left out,
//! since what it says comes on the streams too.

pub mod account;
mod desk;
mod habits;
pub mod work;

use std::time::Duration;

use lull_scheduler::effect::{Change, TaskAfter};
use lull_session::{
    Event,
    guard::{Announcement, Verdict},
};
use lull_shared::{
    id::{AttemptId, TaskId},
    time::Timestamp,
};

pub use self::{account::Figures, desk::Desk};
use self::{
    desk::{Ban, LOAD_SEEN, SEEN, Why, YIELD},
    habits::Act,
};
use super::{
    events::{MachineEvent, MachineId, What},
    judged::promise::{Checked, Promise, Violation, hold},
    machines::{executor::Nature, machine::Power},
    people::{plan, users::Wish},
    world::World,
};

/// What becomes of work when the owner comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum)]
pub enum Leaving {
    /// Paused for the grace, then it goes on elsewhere, if it can be moved.
    #[default]
    Move,
    /// Paused for the grace, then evicted, and it begins anew: the classic policy.
    Restart,
    /// Killed at once, and it begins anew.
    Kill,
}

/// A week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Week {
    pub leaving: Leaving,
    /// Work over what the fleet could do. Above one it is never short of work.
    pub demand: f64,
    /// Whether the scheduler makes use of what it knows of machines' hours.
    pub believes_hours: bool,
}

/// An announced sleep is waited for so long, and a shutdown.
const SLEEP_DELAY: Duration = Duration::from_secs(2);
const SHUTDOWN_DELAY: Duration = Duration::from_secs(5);
const STOP_GRACE: Duration = Duration::from_secs(3);
/// After a bumped desk work goes on within this.
const BUMP_OVER: Duration = Duration::from_secs(2);
/// Measurements after something got worse, and after something got better: when the rules' patience is over.
const WORSE: [f64; 4] = [0.0, 1.0, 2.0, 3.0];
const BETTER: [f64; 4] = [0.0, 6.0, 11.0, 32.0];
/// Results that wait on disks may come in for so long when the week is over.
const LAST_WORDS: Duration = Duration::from_secs(600);

impl World {
    /// The desks begin their week.
    pub(super) fn begin_week(&mut self) {
        for id in 0..self.machines.len() {
            self.next_act(id);
        }
    }

    fn next_act(&mut self, id: MachineId) {
        if let Some(at) = self.machines[id].desk.as_ref().and_then(|desk| desk.due()) {
            self.queue.push(at, What::Desk { machine: id });
        }
    }

    /// Something happens at a desk.
    pub(super) fn desk_acts(&mut self, id: MachineId) -> Checked {
        if self.healed {
            return Ok(());
        }
        let Some(act) = self.machines[id].desk.as_mut().and_then(|desk| desk.take()) else { return Ok(()) };
        self.next_act(id);
        let agent = self.machines[id].agent;
        self.note(|| format!("at the desk of {agent}: {act:?}"));
        match act {
            Act::Sit { until } => self.sits_down(id, until),
            Act::Bump => self.bumped(id),
            Act::Load(load) => self.changes(id, Why::Load, load, LOAD_SEEN, |desk| desk.load = load),
            Act::Battery(battery) => self.changes(id, Why::Battery, battery, SEEN, |desk| desk.battery = battery),
            Act::Hours { open } => self.changes(id, Why::Hours, !open, SEEN, |_| ()),
            Act::Sleep { until } => self.leaves(id, Announcement::Sleep, until),
            Act::Off { until } => self.leaves(id, Announcement::Shutdown, until),
            Act::Dark { until } => {
                if self.machines[id].power == Power::On {
                    self.goes_dark(id, true, until);
                }
                Ok(())
            }
        }
    }

    fn desk(&mut self, id: MachineId) -> &mut Desk {
        self.machines[id].desk.as_mut().expect("every machine of a week has a desk")
    }

    fn is_on(&self, id: MachineId) -> bool {
        self.machines[id].power == Power::On && self.machines[id].session.is_some()
    }

    fn sits_down(&mut self, id: MachineId, until: Timestamp) -> Checked {
        match self.machines[id].power {
            Power::Asleep { .. } => self.wake_up(id)?,
            Power::Off => {
                self.desk(id).dark_until = self.now;
                self.boot(id)?;
            }
            Power::On | Power::Dead => {}
        }
        self.desk(id).sits_until = until;
        if self.machines[id].slots.iter().any(|slot| slot.running().is_some()) {
            self.figures.yields += 1;
        }
        self.moves_mouse(id, until, true);
        Ok(())
    }

    fn bumped(&mut self, id: MachineId) -> Checked {
        let now = self.now;
        let there = self.desk(id).ban(Why::Input).is_some_and(|ban| ban.until > now);
        if there || !self.is_on(id) || now.since(self.desk(id).last_input) < Duration::from_secs(3_600) {
            return Ok(());
        }
        let ran = self.machines[id].session.as_ref().is_some_and(|session| session.paused().is_none());
        // Less than the guard waits for a second input.
        let until = now + Duration::from_millis(1_400);
        let ban = self.desk(id).ban_input(now + YIELD, until, false);
        self.check_at(id, ban);
        for _ in 0..self.desk(id).dice.number(1, 4) {
            let late = self.desk(id).dice.seconds(0.0, 0.4);
            self.push_machine(id, now + late, MachineEvent::Bump);
        }
        if ran && !self.desk(id).is_hindered() {
            self.push_machine(id, now + Duration::from_millis(400) + BUMP_OVER, MachineEvent::BumpOver);
        }
        // The first comes at once, or nothing need be frozen by the promised time.
        self.push_machine(id, now, MachineEvent::Bump);
        Ok(())
    }

    /// One input of somebody who works reaches the agent, and nothing runs ten milliseconds after it.
    fn moves_mouse(&mut self, id: MachineId, sits_until: Timestamp, first: bool) {
        let now = self.now;
        let desk = self.desk(id);
        let until = sits_until + desk.idle;
        let settles = sits_until.since(now) > desk.grace;
        let ban = desk.ban_input(now + YIELD, until, settles);
        // The sensor's way.
        let late = desk.dice.seconds(0.000_02, 0.002);
        self.push_machine(id, now + late, MachineEvent::Input { first });
        if first {
            self.check_at(id, ban);
        }
    }

    /// Keyboard or mouse moved.
    pub(super) fn input(&mut self, id: MachineId, first: bool) -> Checked {
        let (now, idle) = (self.now, self.desk(id).idle);
        let desk = self.desk(id);
        desk.last_input = now;
        let next = now + habits::next_input(first, idle, &mut desk.dice);
        let last = desk.sits_until;
        if now < last && !self.healed {
            self.push_machine(id, next.min(last), MachineEvent::Input { first: false });
        }
        self.tell(id, Event::Input)
    }

    /// The desk was bumped: an input that nothing follows.
    pub(super) fn bump(&mut self, id: MachineId) -> Checked {
        let now = self.now;
        self.desk(id).last_input = now;
        self.tell(id, Event::Input)
    }

    /// A bumped desk disturbed nobody for long.
    pub(super) fn bump_over(&mut self, id: MachineId) -> Checked {
        let now = self.now;
        let desk = self.desk(id);
        let there = desk.sits_until > now || desk.is_hindered();
        if there || !self.is_on(id) {
            return Ok(());
        }
        self.figures.bumps += 1;
        let machine = &self.machines[id];
        let paused = machine.session.as_ref().and_then(|session| session.paused());
        let what = || format!("{} is still paused after a bump: {paused:?}", machine.agent);
        hold(Promise::OwnerFirst, paused.is_none(), what, &[machine.agent.into()])
    }

    /// A fact that the agent measures gets worse or better.
    fn changes(&mut self, id: MachineId, why: Why, worse: bool, seen: Duration, change: impl FnOnce(&mut Desk)) -> Checked {
        let now = self.now;
        let desk = self.desk(id);
        change(desk);
        if worse {
            // Closed hours last: nothing waits for a grace.
            let grace = if why == Why::Hours { Duration::ZERO } else { desk.grace };
            let ban = desk.forbid(why, now + seen, grace);
            self.check_at(id, ban);
        } else {
            desk.allow(why);
        }
        self.measure(id, worse);
        Ok(())
    }

    /// The sensor's measurements that matter from here on.
    fn measure(&mut self, id: MachineId, worse: bool) {
        let first = self.desk(id).dice.seconds(0.0, 1.0);
        for after in if worse { WORSE } else { BETTER } {
            let at = self.now + first + Duration::from_secs_f64(after);
            self.push_machine(id, at, MachineEvent::Sample);
        }
    }

    pub(super) fn desk_sample(&mut self, id: MachineId) -> Checked {
        let now = self.now;
        let sample = self.desk(id).sample(now);
        self.tell(id, Event::Sample(sample))
    }

    /// The agent has begun to look, or to look again.
    pub(super) fn desk_starts(&mut self, id: MachineId) -> Checked {
        let now = self.now;
        let desk = self.desk(id);
        desk.allow(Why::Power);
        desk.last_input = now;
        if desk.sits_until > now {
            // The power failed under the owner's hands.
            self.push_machine(id, now + Duration::from_secs(5), MachineEvent::Input { first: true });
        }
        self.looks_again(id)
    }

    /// The machine says that it goes to sleep or off, and does.
    fn leaves(&mut self, id: MachineId, announcement: Announcement, until: Timestamp) -> Checked {
        let now = self.now;
        match self.machines[id].power {
            Power::On if self.machines[id].session.is_some() => {}
            // The power failed before: it stays off until somebody wants it.
            Power::Off => {
                let desk = self.desk(id);
                desk.dark_until = desk.dark_until.max(until);
                self.queue.push(until, What::Boot { machine: id });
                return Ok(());
            }
            Power::On | Power::Asleep { .. } | Power::Dead => return Ok(()),
        }
        let ban = self.desk(id).forbid(Why::Power, now + YIELD, Duration::ZERO);
        self.check_at(id, ban);
        let (delay, off) = match announcement {
            Announcement::Sleep => (SLEEP_DELAY, false),
            Announcement::Shutdown | Announcement::Awake => (SHUTDOWN_DELAY, true),
        };
        if off {
            self.push_machine(id, now + Duration::from_secs(1), MachineEvent::Stop);
        }
        self.push_machine(id, now + delay, MachineEvent::Leave { off, until });
        self.tell(id, Event::Announced(announcement))
    }

    /// What runs on it does not keep a machine awake.
    pub(super) fn left(&mut self, id: MachineId, off: bool, until: Timestamp) -> Checked {
        if off {
            self.goes_dark(id, false, until);
        } else {
            let time = until.since(self.now).max(Duration::from_secs(5));
            self.fall_asleep(id, time);
        }
        self.note_offer(id);
        Ok(())
    }

    pub(super) fn service_stops(&mut self, id: MachineId) -> Checked {
        self.tell(id, Event::Stop { grace: STOP_GRACE })
    }

    fn goes_dark(&mut self, id: MachineId, silently: bool, until: Timestamp) {
        self.kill(id, silently);
        self.machines[id].power = Power::Off;
        let desk = self.desk(id);
        desk.dark_until = until;
        self.queue.push(until, What::Boot { machine: id });
        self.note_offer(id);
    }

    /// It has woken up.
    pub(super) fn desk_wakes(&mut self, id: MachineId) -> Checked {
        self.desk(id).allow(Why::Power);
        self.looks_again(id)?;
        self.tell(id, Event::Announced(Announcement::Awake))
    }

    fn looks_again(&mut self, id: MachineId) -> Checked {
        let now = self.now;
        let bans = self.desk(id).look_again(now);
        bans.into_iter().for_each(|ban| self.check_at(id, ban));
        for worse in [true, false] {
            self.measure(id, worse);
        }
        self.desk_sample(id)
    }

    /// Whether a machine is not to be started yet.
    pub(super) fn is_dark(&self, id: MachineId) -> bool {
        !self.healed && self.machines[id].desk.as_ref().is_some_and(|desk| desk.dark_until > self.now)
    }

    fn check_at(&mut self, id: MachineId, ban: Ban) {
        let memory = ban.memory_from.filter(|at| *at < ban.until);
        for at in [Some(ban.from), memory].into_iter().flatten() {
            self.push_machine(id, at.max(self.now), MachineEvent::OwnerDeadline);
        }
    }

    /// Nothing runs that the owner, the policy or the machine's state forbid.
    pub(super) fn check_desk(&mut self, id: MachineId, with_memory: bool) -> Checked {
        let now = self.now;
        if self.week.is_some() {
            // Nobody sits at a desk any more, whatever was planned.
            return Ok(());
        }
        let machine = &self.machines[id];
        let Some(desk) = machine.desk.as_ref().filter(|_| machine.power == Power::On) else { return Ok(()) };
        let (agent, running) = (machine.agent, || machine.slots.iter().filter_map(|slot| slot.running()));
        if let Some((slots, why)) = desk.slots_max(now)
            && running().count() > usize::from(slots)
        {
            let attempt: AttemptId = running().next_back().expect("more than none");
            let what = format!("{agent} runs {attempt} in more than {slots} slots in spite of {why:?} {:?}", desk.ban(why));
            return Err(Violation::new(Promise::OwnerFirst, what, &[attempt.into(), agent.into()]));
        }
        if with_memory && desk.memory_is_due(now) {
            let slot = machine.slots.iter().position(|slot| !slot.is_none());
            self.figures.memory_checks += 1;
            let what = || format!("{agent} still has a process in slot {slot:?} although its grace is over");
            return hold(Promise::OwnerFirst, slot.is_none(), what, &[agent.into()]);
        }
        Ok(())
    }

    /// Counts what the guard lets run.
    pub(super) fn note_offer(&mut self, id: MachineId) {
        let now = self.now;
        let machine = &mut self.machines[id];
        let Some(desk) = machine.desk.as_mut() else { return };
        let slots = match (&machine.session, machine.power) {
            (Some(session), Power::On) => match session.verdict() {
                Verdict::Run(room) => room.slots.min(machine.config.slots),
                Verdict::Pause(_) | Verdict::Evict(_) => 0,
            },
            _ => 0,
        };
        desk.offer.turn(slots, now);
    }

    /// The week is over: what came of it is counted, machines come back for what is on their disks, the rest is
    /// cancelled.
    pub(super) fn week_ends(&mut self) -> Checked {
        let now = self.now;
        self.figures.under_way = self.under_way();
        for machine in &mut self.machines {
            let Some(desk) = machine.desk.as_mut() else { continue };
            desk.offer.turn(0, now);
            let offer = &desk.offer;
            self.figures.offered += offer.offered;
            self.figures.oracle += offer.oracle;
            self.figures.stretches += offer.stretches;
            for spent in machine.slots.iter().map(|slot| slot.spent_by(now)) {
                self.figures.ran += spent.ran;
                self.figures.progress += spent.progress;
                self.figures.starting += spent.starting;
                self.figures.writing += spent.writing;
            }
        }
        self.week = Some(self.figures.clone());
        let jobs: Vec<_> = self.ledger.jobs.iter().filter(|(_, job)| !job.state.is_ended()).map(|(id, _)| *id).collect();
        for job in jobs {
            self.queue.push(now + LAST_WORDS, What::Ask { wish: Wish::Cancel(job) });
        }
        self.heal()
    }

    /// A result counts.
    pub(super) fn note_useful(&mut self, change: &Change) {
        if let Change::AttemptEnded(ended) = change
            && ended.after == TaskAfter::Succeeded
            && self.week.is_none()
        {
            self.figures.useful += self.length_of(ended.attempt.task);
        }
    }

    /// An executor is about to end: what was done of its front may have to be done again.
    pub(super) fn note_left(&mut self, id: MachineId, slot: u16) {
        self.note_work(id, slot);
        if self.options.week.is_none() || self.healed {
            return;
        }
        if let Some((attempt, done, nature)) = self.machines[id].slots[usize::from(slot)].under_way(self.now) {
            self.left.insert(attempt.task, (done, nature));
        }
    }

    /// A task begins again with so much of it done.
    pub(super) fn note_repeated(&mut self, task: TaskId, done: Duration) {
        let Some((left, nature)) = self.left.remove(&task) else { return };
        let lost = left.saturating_sub(done);
        *match nature {
            Nature::Fixed => &mut self.figures.lost_fixed,
            Nature::Plain => &mut self.figures.lost_plain,
            Nature::Movable => &mut self.figures.lost_snapshots,
        } += lost;
    }

    pub(super) fn length_of(&self, task: TaskId) -> Duration {
        self.ledger.jobs.get(&task.job).map_or(Duration::ZERO, |job| plan::length(&self.options, task, job.each))
    }

    /// What is done of tasks that have not ended: in executors, in snapshots, on disks.
    fn under_way(&self) -> Duration {
        let mut done = std::collections::BTreeMap::new();
        for (task, digest) in self.ledger.saved() {
            if let Some(time) = self.snapshot_done(digest) {
                done.insert(task, time);
            }
        }
        for machine in &self.machines {
            let live = |attempt: &AttemptId| self.ledger.live_at(*attempt) == Some(machine.agent);
            for (attempt, time, _) in machine.slots.iter().filter_map(|slot| slot.under_way(self.now)) {
                if live(&attempt) {
                    done.insert(attempt.task, time);
                }
            }
            for attempt in machine.disk.results.keys().chain(machine.disk.pending.keys()).filter(|attempt| live(attempt)) {
                done.insert(attempt.task, self.length_of(attempt.task));
            }
        }
        done.into_values().sum()
    }
}
