//! Values that people set within bounds: how they are read, what is said of those outside, and the bounds themselves.
//!
//! A bound is stated once, with its reason, and asked wherever such a value comes in: on a command line, in a file of
//! settings, over HTTP. What is said is what the person wrote, and the bound as people write it.

use std::time::Duration;

use bytesize::ByteSize;

use crate::{
    amount::{exact, grouped, quoted},
    limits,
};

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `3`
    Number,
    /// `256MiB`
    Bytes,
    /// `10m`, in milliseconds.
    Time,
}

/// Between what and what a value may lie, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub unit: Unit,
    pub least: u64,
    pub most: u64,
    /// A value that people would write.
    pub example: &'static str,
    /// Why there is a bound, after `since`; empty where it needs no word.
    pub why: &'static str,
}

/// No machine and no disk of an office has more.
const BYTES_MAX: u64 = 1 << 50;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The time that one attempt may run.
pub const TIME_LIMIT: Bound = Bound::time(Duration::from_millis(1), limits::ATTEMPT_TIME_MAX, "10m", "");
/// The memory of one attempt: a page of WebAssembly at least.
pub const MEMORY: Bound = Bound::bytes(64 * 1024, limits::MEMORY_BYTES_MAX, "512MiB", "WebAssembly addresses no more");
/// The output of one attempt.
pub const OUTPUT: Bound = Bound::bytes(1, limits::OUTPUT_BYTES_MAX, "64MiB", "");
/// The log that is kept of one attempt.
pub const LOG: Bound = Bound::bytes(1, limits::LOG_BYTES_MAX, "64KiB", "the coordinator keeps the log of every attempt");
/// The scratch folder of one attempt.
pub const SCRATCH: Bound = Bound::bytes(1, limits::SCRATCH_BYTES_MAX, "256MiB", "");
/// Attempts after the first failed one.
pub const RETRIES: Bound = Bound::number(0, limits::RETRIES_MAX as u64, "3", "");
/// The pause before a retry: a task that may wait for longer is another job's.
pub const BACKOFF: Bound = Bound::time(Duration::ZERO, limits::BACKOFF_MAX, "10s", "");
/// How long nothing may be heard of an agent before what it has counts as lost.
pub const LOST_AFTER: Bound =
    Bound::time(limits::LOST_AFTER_MIN, limits::LOST_AFTER_MAX, "24h", "a network is often gone for some seconds");
/// How many of something, one at least.
pub const SOME: Bound = Bound::number(1, u32::MAX as u64, "10", "");
/// A task's place in its job.
pub const INDEX: Bound = Bound::number(0, limits::TASKS_PER_JOB_MAX as u64 - 1, "7", "a job has at most 10,000,000 tasks");
/// Until when something must have ended, from now on.
pub const FINISH_IN: Bound = Bound::time(Duration::from_millis(1), DAY.saturating_mul(3_650), "8h", "");
/// How long a command waits.
pub const PATIENCE: Bound = Bound::time(Duration::ZERO, DAY.saturating_mul(365), "30m", "");
/// How long an owner's pause may last: until it is forgotten.
pub const PAUSE: Bound =
    Bound::time(Duration::from_secs(1), DAY.saturating_mul(365), "2h", "a pause without a time lasts until `lull-agent resume`");
/// How long a token lives.
pub const TOKEN_LIFE: Bound = Bound::time(Duration::from_secs(1), DAY.saturating_mul(3_650), "30d", "");
/// Tasks that an agent runs at once.
pub const SLOTS: Bound = Bound::number(1, limits::SLOTS_PER_AGENT_MAX as u64, "4", "");
/// The memory of all tasks of an agent: with less not even a small one has room.
pub const AGENT_MEMORY: Bound = Bound::bytes(16 << 20, BYTES_MAX, "4GiB", "");
/// The disk of an agent's cache: with less most modules have no room.
pub const CACHE: Bound = Bound::bytes(16 << 20, BYTES_MAX, "4GiB", "modules and inputs must have room in it");
/// The disk of results that the coordinator does not have yet.
pub const OUTBOX: Bound = Bound::bytes(1 << 20, BYTES_MAX, "4GiB", "results must have room in it");
/// Memory that is to stay free.
pub const MEMORY_FREE: Bound = Bound::bytes(0, BYTES_MAX, "512MiB", "");
/// What is sent to peers in a second, where that is limited.
pub const UPLOAD: Bound =
    Bound::bytes(limits::UPLOAD_RATE_MIN, BYTES_MAX, "2MiB", "0 sets no limit, and with less no piece arrives in time");
/// What a processor takes when it works, in watts: 0 is one that nobody pays for.
pub const WATTS: Bound = Bound::number(0, 1_000, "8", "");
/// A share of the processors.
pub const PERCENT: Bound = Bound::number(0, 100, "50", "");
/// How long the processors must be busy, or free again.
pub const SETTLES: Bound = Bound::time(Duration::ZERO, DAY, "5s", "");
/// How often the state of functions that can be moved is written down: writing it takes time itself.
pub const SNAPSHOT_EVERY: Bound = Bound::time(Duration::from_millis(100), DAY.saturating_mul(30), "5m", "");
/// How long a process is kept for the next task.
pub const WARM: Bound = Bound::time(Duration::ZERO, DAY, "20s", "");
/// The memory of compiling one module: the compiler itself takes some.
pub const COMPILE_MEMORY: Bound = Bound::bytes(64 << 20, BYTES_MAX, "2GiB", "");
/// The time of each step of compiling one module.
pub const COMPILE_TIME: Bound = Bound::time(Duration::from_secs(1), DAY, "10m", "");
/// The size of what one submitter may have under way.
pub const SHARE_BYTES: Bound = Bound::bytes(1, BYTES_MAX, "64MiB", "");
/// The number of what one submitter may have under way.
pub const SHARE: Bound = Bound::number(1, 1 << 40, "1000", "");
/// Processes of agents on one machine.
pub const AGENTS: Bound = Bound::number(1, 64, "4", "each is a process on this machine");
/// How many of a list are shown at once.
pub const JOBS_SHOWN: Bound = Bound::number(1, 1_000, "50", "`--before JOB` shows those before");
pub const LOGS_SHOWN: Bound = Bound::number(1, 1_000, "100", "`--from INDEX` shows those after");
pub const AUDIT_SHOWN: Bound = Bound::number(1, 10_000, "100", "");
/// How many of a list one answer has.
pub const TASKS_PAGE: Bound = Bound::number(1, 10_000, "1000", "`from` asks for those after");
/// Each carries up to 64 KiB.
pub const RESULTS_PAGE: Bound = Bound::number(1, 256, "100", "`from` asks for those after");

/// A value that does not lie within its bound, or is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Outside {
    #[error("{} is not {}\nhint: write {}", quoted(.0), .1.kind(), .1.span())]
    Form(String, Bound),
    #[error("{} is less than {}\nhint: write {}", quoted(.0), .1.told(.1.least), .1.span())]
    Little(String, Bound),
    #[error("{} is more than {}\nhint: write {}", quoted(.0), .1.told(.1.most), .1.span())]
    Much(String, Bound),
}

impl Bound {
    const fn number(least: u64, most: u64, example: &'static str, why: &'static str) -> Self {
        Self { unit: Unit::Number, least, most, example, why }
    }

    const fn bytes(least: u64, most: u64, example: &'static str, why: &'static str) -> Self {
        Self { unit: Unit::Bytes, least, most, example, why }
    }

    const fn time(least: Duration, most: Duration, example: &'static str, why: &'static str) -> Self {
        Self { unit: Unit::Time, least: least.as_millis() as u64, most: most.as_millis() as u64, example, why }
    }

    /// The value that a text means: a number, bytes, milliseconds.
    pub fn read(self, text: &str) -> Result<u64, Outside> {
        let form = || Outside::Form(text.to_owned(), self);
        let value = match self.unit {
            Unit::Number => number(text.trim()).ok_or_else(form)?,
            Unit::Bytes => bytes(text.trim()).ok_or_else(form)?,
            Unit::Time => millis(text.trim()).ok_or_else(form)?,
        };
        match u64::try_from(value) {
            Ok(value) if value >= self.least && value <= self.most => Ok(value),
            _ if value < i128::from(self.least) => Err(Outside::Little(text.to_owned(), self)),
            _ => Err(Outside::Much(text.to_owned(), self)),
        }
    }

    /// Refuses a value outside.
    pub fn check(self, value: u64) -> Result<u64, Outside> {
        match value {
            little if little < self.least => Err(Outside::Little(self.told_near(little), self)),
            much if much > self.most => Err(Outside::Much(self.told_near(much), self)),
            within => Ok(within),
        }
    }

    /// A reader of numbers for a command line, or of sizes in bytes.
    pub fn numbers<T: TryFrom<u64> + 'static>(self) -> impl Fn(&str) -> Result<T, Outside> + Clone + Send + Sync + 'static {
        move |text| T::try_from(self.read(text)?).map_err(|_| Outside::Much(text.to_owned(), self))
    }

    /// A reader of sizes for a command line.
    pub fn sizes(self) -> impl Fn(&str) -> Result<ByteSize, Outside> + Clone + Send + Sync + 'static {
        move |text| self.read(text).map(ByteSize)
    }

    /// A reader of lengths of time for a command line.
    pub fn times(self) -> impl Fn(&str) -> Result<Duration, Outside> + Clone + Send + Sync + 'static {
        move |text| self.read(text).map(Duration::from_millis)
    }

    /// A value as people write it.
    pub fn told(self, value: u64) -> String {
        match self.unit {
            Unit::Number => grouped(value),
            Unit::Bytes => size(value),
            Unit::Time => exact(Duration::from_millis(value)),
        }
    }

    /// The same of a value outside, which must not read like the bound that it misses.
    fn told_near(self, value: u64) -> String {
        let told = self.told(value);
        let alike = [self.least, self.most].iter().any(|bound| *bound != value && self.told(*bound) == told);
        if alike { format!("{} bytes", grouped(value)) } else { told }
    }

    fn kind(self) -> &'static str {
        match self.unit {
            Unit::Number => "a whole number",
            Unit::Bytes => "a size",
            Unit::Time => "a length of time",
        }
    }

    /// What may be written, as a part of a hint.
    pub fn span(self) -> String {
        let (kind, least, most) = (self.kind(), self.told(self.least), self.told(self.most));
        let why = if self.why.is_empty() { String::new() } else { format!("; {}", self.why) };
        let far = match self.unit {
            Unit::Number => self.most >= u64::from(u32::MAX),
            Unit::Bytes => self.most >= BYTES_MAX,
            Unit::Time => false,
        };
        let span = if far { format!("from {least} on") } else { format!("from {least} to {most}") };
        format!("{kind} {span}, like {}{why}", self.example)
    }
}

/// A whole number, or one too small or too large to count.
fn number(text: &str) -> Option<i128> {
    use std::num::IntErrorKind;
    match text.parse::<i128>() {
        Ok(number) => Some(number),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow => Some(i128::MAX),
            IntErrorKind::NegOverflow => Some(i128::MIN),
            _ => None,
        },
    }
}

/// A size; one beyond all counting is more than any bound.
fn bytes(text: &str) -> Option<i128> {
    match text.strip_prefix('-') {
        Some(rest) => bytes(rest).map(|bytes| -bytes),
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => number(text),
        // What it cannot hold comes out as the largest there is.
        None => text.parse::<ByteSize>().ok().map(|size| i128::from(size.as_u64())),
    }
}

/// A length of time; one beyond all counting is more than any bound.
fn millis(text: &str) -> Option<i128> {
    if let Some(rest) = text.strip_prefix('-') {
        return millis(rest).map(|millis| -millis);
    }
    match humantime::parse_duration(text) {
        // What is shorter than a millisecond is not nothing.
        Ok(length) => Some(length.as_nanos().div_ceil(1_000_000) as i128),
        Err(humantime::DurationError::NumberOverflow) => Some(i128::MAX),
        Err(_) => None,
    }
}

/// `512 KiB`, `1.5 GiB`: whole numbers without a decimal.
fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string().replace(".0 ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bound: Bound, text: &str) -> String {
        bound.read(text).expect_err(text).to_string()
    }

    #[test]
    fn what_lies_within_is_read() {
        assert_eq!(RETRIES.read("3"), Ok(3));
        assert_eq!(MEMORY.read("512MiB"), Ok(512 << 20));
        assert_eq!(MEMORY.read(" 4 GiB "), Ok(4 << 30));
        assert_eq!(TIME_LIMIT.read("1h 30m"), Ok(5_400_000));
        assert_eq!(TIME_LIMIT.read("1us"), Ok(1), "it is not nothing");
        assert_eq!(SETTLES.read("0"), Ok(0));
        assert_eq!(SOME.numbers::<u32>()("7"), Ok(7));
    }

    #[test]
    fn what_is_outside_is_told_as_it_was_written_with_the_bound_as_people_write_it() {
        assert_eq!(refused(TIME_LIMIT, "0"), "`0` is less than 1ms\nhint: write a length of time from 1ms to 30d, like 10m");
        assert_eq!(
            refused(MEMORY, "5GiB"),
            "`5GiB` is more than 4 GiB\nhint: write a size from 64 KiB to 4 GiB, like 512MiB; WebAssembly addresses no more"
        );
        assert_eq!(refused(SOME, "0"), "`0` is less than 1\nhint: write a whole number from 1 on, like 10");
        assert_eq!(refused(RETRIES, "x"), "`x` is not a whole number\nhint: write a whole number from 0 to 1,000, like 3");
        assert!(refused(RETRIES, "").starts_with("an empty text is not a whole number\nhint: "));
    }

    #[test]
    fn what_is_beyond_all_counting_is_too_much_and_never_another_value() {
        for (bound, text) in [
            (RETRIES, "99999999999999999999999999999999999999999999"),
            (MEMORY, "99999999999999999999 TiB"),
            (MEMORY, "18446744073709551616"),
            (TIME_LIMIT, "99999999999999999h"),
            (TIME_LIMIT, "99999999999999999999999s"),
            (SOME, "4294967296"),
        ] {
            assert!(refused(bound, text).contains(" is more than "), "{text}: {}", refused(bound, text));
        }
        for (bound, text) in [(RETRIES, "-1"), (MEMORY, "-1MiB"), (TIME_LIMIT, "-1s"), (TIME_LIMIT, "0ns")] {
            assert!(refused(bound, text).contains(" is less than "), "{text}: {}", refused(bound, text));
        }
        for (bound, text) in [(RETRIES, "1.5"), (RETRIES, "1e3"), (MEMORY, "much"), (MEMORY, "1 parsec"), (TIME_LIMIT, "600")] {
            assert!(refused(bound, text).contains(" is not "), "{text}: {}", refused(bound, text));
        }
    }

    #[test]
    fn a_value_that_misses_its_bound_by_little_does_not_read_like_it() {
        let told = |value: u64| MEMORY.check(value).expect_err("outside").to_string();
        assert!(told((4 << 30) + 1).starts_with("`4,294,967,297 bytes` is more than 4 GiB"), "{}", told((4 << 30) + 1));
        assert!(told(8 << 30).starts_with("`8 GiB` is more than 4 GiB"));
        assert_eq!(MEMORY.check(4 << 30), Ok(4 << 30));
    }

    #[test]
    fn every_example_lies_within_its_bound() {
        for bound in [
            TIME_LIMIT,
            MEMORY,
            OUTPUT,
            LOG,
            SCRATCH,
            RETRIES,
            BACKOFF,
            LOST_AFTER,
            SOME,
            INDEX,
            FINISH_IN,
            PATIENCE,
            PAUSE,
            TOKEN_LIFE,
            SLOTS,
            AGENT_MEMORY,
            CACHE,
            OUTBOX,
            MEMORY_FREE,
            UPLOAD,
            PERCENT,
            SETTLES,
            SNAPSHOT_EVERY,
            WARM,
            COMPILE_MEMORY,
            COMPILE_TIME,
            SHARE_BYTES,
            SHARE,
            AGENTS,
            JOBS_SHOWN,
            LOGS_SHOWN,
            AUDIT_SHOWN,
            TASKS_PAGE,
            RESULTS_PAGE,
        ] {
            assert!(bound.read(bound.example).is_ok(), "{bound:?}");
        }
    }
}
