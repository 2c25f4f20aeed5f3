//! What this machine did for others, kept over a restart: written now and then, so that a crash costs a minute of it.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use jiff::civil::DateTime;
use lull_desk::share::{Gain, Share, Tally};
use lull_engine::files;

/// The file in the data folder.
pub(crate) const FILE: &str = "tally.json";
/// At most so often it is written while something runs.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// A machine that was asleep or busy between two looks ran nothing for longer than this.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// What was counted, and what of it is written.
pub(crate) struct Counter {
    tally: Tally,
    watts_per_processor: u32,
    tasks: u64,
    looked: Instant,
    written: Instant,
    changed: bool,
}

impl Counter {
    /// Goes on from what was counted before.
    pub(crate) fn new(tally: Tally, watts_per_processor: u32) -> Self {
        let now = Instant::now();
        Self { tally, watts_per_processor, tasks: 0, looked: now, written: now, changed: false }
    }

    /// So many tasks came to their end.
    pub(crate) fn ended(&mut self, tasks: usize) {
        self.tasks = self.tasks.saturating_add(tasks as u64);
    }

    /// So many tasks run now, and functions have had so much of the processors since the last look.
    pub(crate) fn look(&mut self, running: usize, cpu: Duration, local: DateTime) {
        let passed = self.looked.elapsed().min(LOOK_MAX);
        self.looked = Instant::now();
        let gain = Gain {
            tasks: std::mem::take(&mut self.tasks),
            run: passed.saturating_mul(u32::try_from(running).unwrap_or(u32::MAX)),
            cpu,
        };
        self.tally.add(gain, local);
        self.changed |= !gain.is_none();
    }

    /// What is to be written now, if something is.
    pub(crate) fn due(&mut self) -> Option<Tally> {
        if self.written.elapsed() < WRITE_EVERY { None } else { self.unwritten() }
    }

    /// What is not written yet, if something is not.
    pub(crate) fn unwritten(&mut self) -> Option<Tally> {
        self.written = Instant::now();
        std::mem::take(&mut self.changed).then_some(self.tally)
    }

    /// What people are shown.
    pub(crate) fn share(&mut self, local: DateTime) -> Share {
        self.tally.turn(local);
        Share { tally: self.tally, watts_per_processor: self.watts_per_processor }
    }
}

/// What time it is on the machine's clock.
pub(crate) fn local() -> DateTime {
    jiff::Zoned::now().datetime()
}

/// What was counted in earlier lives. A file that cannot be read begins anew.
pub(crate) fn recall(data: &Path, local: DateTime) -> Tally {
    let path = data.join(FILE);
    let read = fs::read(&path).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
    read.unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            let path = path.display();
            tracing::warn!(%path, %error, "what this machine did for others cannot be read; it is counted from now on");
        }
        Tally::new(local)
    })
}

/// Writes it down.
pub(crate) fn remember(data: &Path, tally: &Tally) -> io::Result<()> {
    files::replace_private(&data.join(FILE), &serde_json::to_vec(tally).map_err(io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn night() -> DateTime {
        DateTime::constant(2026, 11, 30, 23, 0, 0, 0)
    }

    #[test]
    fn what_was_counted_survives_a_restart_and_damage_begins_anew() {
        let data = tempfile::tempdir().expect("a folder");
        let mut counter = Counter::new(recall(data.path(), night()), 8);
        assert_eq!(counter.unwritten(), None, "nothing has run");
        counter.ended(3);
        counter.look(0, Duration::from_secs(5), night());
        assert_eq!(counter.due(), None, "not every second");
        remember(data.path(), &counter.unwritten().expect("something ran")).expect("written");
        assert_eq!(counter.unwritten(), None, "it is written");
        let again = recall(data.path(), night());
        assert_eq!((again.tonight.tasks, again.month.cpu_ms), (3, 5_000));
        fs::write(data.path().join(FILE), b"{\"tonight\"").expect("damage");
        assert_eq!(recall(data.path(), night()), Tally::new(night()));
    }

    #[test]
    fn a_look_after_a_long_sleep_counts_no_sleep() {
        let mut counter = Counter::new(Tally::new(night()), 8);
        counter.looked = Instant::now().checked_sub(Duration::from_secs(3_600)).unwrap_or(counter.looked);
        counter.look(2, Duration::ZERO, night());
        let run_ms = counter.share(night()).tally.tonight.run_ms;
        assert!(run_ms <= 4_000, "{run_ms}");
    }
}
