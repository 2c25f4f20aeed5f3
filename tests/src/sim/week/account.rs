//! Where the idle time of a week goes: what policy offered, what an oracle would have made of it, and what came of it.

use std::{fmt, time::Duration};

use lull_shared::time::Timestamp;

/// What an oracle loses at the beginning of each stretch of each slot: the word that there is room, the order, and the
/// start of a warm executor, each at its fastest.
const ORACLE_START: Duration = Duration::from_millis(10);

/// What one machine's guard has offered so far.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    slots: u16,
    since: Timestamp,
    pub offered: Duration,
    /// Of that, what an oracle would have used.
    pub oracle: Duration,
    pub stretches: u64,
    /// When each slot was offered, the first slot first.
    began: Vec<Timestamp>,
}

impl Offer {
    /// From now on the guard lets so many slots run.
    pub fn turn(&mut self, slots: u16, now: Timestamp) {
        if slots == self.slots {
            return;
        }
        self.offered += now.since(self.since) * u32::from(self.slots);
        (self.slots, self.since) = (slots, now);
        while self.began.len() > usize::from(slots) {
            let began = self.began.pop().unwrap_or(now);
            self.oracle += now.since(began).saturating_sub(ORACLE_START);
            self.stretches += 1;
        }
        self.began.resize(usize::from(slots), now);
    }
}

/// A week's figures, in time of slots.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    pub offered: Duration,
    pub oracle: Duration,
    /// Stretches of offered time, of single slots.
    pub stretches: u64,
    /// The plain running time of the tasks whose results count.
    pub useful: Duration,
    /// On a processor, by the wall, but for snapshots.
    pub ran: Duration,
    /// What that came to: less than `ran` by what migratable builds cost.
    pub progress: Duration,
    /// Executors that were being started.
    pub starting: Duration,
    /// Snapshots of what went on running.
    pub writing: Duration,
    /// What of tasks that had not ended was done at the end.
    pub under_way: Duration,
    /// Of what was done again: of versions that cannot be moved, of plain builds that were chosen, of snapshots that nobody
    /// could have when they were needed.
    pub lost_fixed: Duration,
    pub lost_plain: Duration,
    pub lost_snapshots: Duration,
    /// Bumped desks after which work went on within two seconds.
    pub bumps: u64,
    /// Times that somebody came back and found work running.
    pub yields: u64,
    /// Times that memory was looked for after the grace.
    pub memory_checks: u64,
}

impl Figures {
    /// Results over what was offered.
    pub fn useful_share(&self) -> f64 {
        self.useful.as_secs_f64() / self.offered.as_secs_f64().max(1.0)
    }

    /// Results over what an oracle would have made of it.
    pub fn of_oracle(&self) -> f64 {
        self.useful.as_secs_f64() / self.oracle.as_secs_f64().max(1.0)
    }

    /// Done, and done again.
    pub fn repeated(&self) -> Duration {
        self.progress.saturating_sub(self.useful).saturating_sub(self.under_way)
    }

    /// Offered, and nothing was there to run.
    pub fn waiting(&self) -> Duration {
        self.offered.saturating_sub(self.ran).saturating_sub(self.starting).saturating_sub(self.writing)
    }

    /// What the builds cost that can be moved.
    pub fn builds(&self) -> Duration {
        self.ran.saturating_sub(self.progress)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |time: Duration| time.as_secs_f64() / 3600.0;
        let part = |time: Duration| 100.0 * time.as_secs_f64() / self.offered.as_secs_f64().max(1.0);
        writeln!(f, "offered idle time {:>14.1} slot hours in {} stretches", hours(self.offered), self.stretches)?;
        let lines = [
            ("useful", self.useful),
            ("under way at the end", self.under_way),
            ("migratable builds", self.builds()),
            ("snapshots", self.writing),
            ("repeated work", self.repeated()),
            ("  cannot be moved", self.lost_fixed),
            ("  plain by choice", self.lost_plain),
            ("  snapshot not there", self.lost_snapshots),
            ("starting", self.starting),
            ("waiting", self.waiting()),
        ];
        for (name, time) in lines {
            writeln!(f, "  {name:<22}{:>8.1} {:>7.2} %", hours(time), part(time))?;
        }
        writeln!(f, "  {:<22}{:>8.1} {:>7.2} %", "an oracle's", hours(self.oracle), part(self.oracle))?;
        writeln!(f, "useful share of the oracle's {:.2} %", 100.0 * self.of_oracle())?;
        write!(
            f,
            "work ran when its owner came back {} times; work went on after a bumped desk {} times; memory was looked for {} times",
            self.yields, self.bumps, self.memory_checks
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn what_is_offered_is_the_time_of_each_slot() {
        let mut offer = Offer::default();
        offer.turn(2, at(10));
        offer.turn(1, at(20));
        offer.turn(0, at(30));
        assert_eq!((offer.offered, offer.stretches), (Duration::from_secs(30), 2));
        assert_eq!(offer.oracle, Duration::from_secs(30) - 2 * ORACLE_START);
    }
}
