//! How many tasks fit beside other programs: fewer at once when those need more, more only after a while.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use lull_shared::time::Timestamp;

/// Processor share that stays free for what the owner does next, in percent.
const RESERVE_PERCENT: u32 = 10;
/// There must be room for one more for so long until one more is let in.
const GROW_AFTER: Duration = Duration::from_secs(10);

/// What the processors have room for, in tasks of one processor each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elastic {
    cores: u16,
    room: u16,
    /// Since when there has been more.
    more_since: Option<Timestamp>,
    cpu_percent: u8,
}

impl Elastic {
    pub(super) fn new(cores: u16) -> Self {
        Self { cores, room: cores, more_since: None, cpu_percent: 0 }
    }

    /// Others use this share of the processors.
    pub(super) fn observe(&mut self, cpu_percent: u8, now: Timestamp) {
        self.cpu_percent = cpu_percent;
        let free = 100_u32.saturating_sub(u32::from(cpu_percent)).saturating_sub(RESERVE_PERCENT);
        // Rounded to the nearest: on two processors a third of one in use leaves one.
        let room = (u32::from(self.cores) * free + 50) / 100;
        let room = u16::try_from(room).unwrap_or(u16::MAX).min(self.cores);
        if room <= self.room {
            (self.room, self.more_since) = (room, None);
            return;
        }
        let since = *self.more_since.get_or_insert(now);
        if now.since(since) >= GROW_AFTER {
            (self.room, self.more_since) = (self.room + 1, Some(now));
        }
    }

    /// The tasks that fit.
    pub(super) fn room(&self) -> u16 {
        self.room
    }

    /// What others used when it was last measured, in percent.
    pub(super) fn cpu_percent(&self) -> u8 {
        self.cpu_percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn room_shrinks_at_once_and_grows_one_by_one() {
        let mut elastic = Elastic::new(8);
        elastic.observe(65, at(0));
        assert_eq!(elastic.room(), 2);
        for second in 1..=10 {
            elastic.observe(0, at(second));
        }
        assert_eq!(elastic.room(), 2);
        elastic.observe(0, at(11));
        assert_eq!(elastic.room(), 3);
        (12..=21).for_each(|second| elastic.observe(0, at(second)));
        assert_eq!(elastic.room(), 4);
        elastic.observe(100, at(22));
        assert_eq!(elastic.room(), 0);
    }

    #[test]
    fn a_tenth_of_the_processors_is_the_owners_and_the_rest_is_rounded_to_whole_tasks() {
        for (cores, used, room) in
            [(2, 10, 2), (2, 33, 1), (2, 65, 1), (2, 66, 0), (8, 0, 7), (8, 89, 0), (8, 100, 0), (8, 255, 0), (1, 40, 1)]
        {
            let mut elastic = Elastic::new(cores);
            elastic.observe(used, at(0));
            assert_eq!((elastic.room(), elastic.cpu_percent()), (room, used), "{used} % of {cores}");
        }
    }

    #[test]
    fn nothing_grows_without_ten_seconds_of_more_room_in_a_row() {
        let mut elastic = Elastic::new(8);
        (0..60).for_each(|second| elastic.observe(65, at(second)));
        assert_eq!(elastic.room(), 2, "there is no more");
        (60..70).for_each(|second| elastic.observe(0, at(second)));
        elastic.observe(65, at(70));
        (71..81).for_each(|second| elastic.observe(0, at(second)));
        assert_eq!(elastic.room(), 2, "it was interrupted");
        elastic.observe(0, at(81));
        assert_eq!(elastic.room(), 3);
    }
}
