//! Amounts as people type them: `10m`, `256MiB`, `in 8h`, `06:00`, `ok:j41`, `KEY=VALUE`, `0-999`.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _, civil::Time, tz::TimeZone};
use lull_shared::{id::JobId, job::DependencyCondition};

use crate::api::{AfterBody, Text};

/// A length of time: `90s`, `10m`, `1h 30m`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("`{text}` is no length of time: write it like 90s, 10m, 1h30m or 7d"))
}

/// A size in bytes: `256MiB`, `2GB`, `65536`.
pub fn size(text: &str) -> Result<u64, String> {
    let parsed = text.parse::<bytesize::ByteSize>();
    parsed.map(|size| size.as_u64()).map_err(|_| format!("`{text}` is no size: write it like 256MiB or 2GB"))
}

/// `ok:JOB` or `any:JOB`; a job alone means `ok`.
pub fn after(text: &str) -> Result<AfterBody, String> {
    let (condition, job) = match text.split_once(':') {
        Some(("ok", job)) => (DependencyCondition::Ok, job),
        Some(("any", job)) => (DependencyCondition::Any, job),
        Some(_) => return Err(format!("`{text}` is no condition: write ok:JOB or any:JOB")),
        None => (DependencyCondition::Ok, text),
    };
    let job = job.parse::<JobId>().map_err(|error| error.to_string())?;
    Ok(AfterBody { job: Text(job), condition })
}

/// `KEY=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no variable: write KEY=VALUE")),
    }
}

/// The numbers of an array, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array {
    pub first: u64,
    pub count: u32,
}

/// `0-999`; a single number is an array of one.
pub fn array(text: &str) -> Result<Array, String> {
    let form = || format!("`{text}` is no array: write FIRST-LAST, for example 0-999");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u64, u64) = (first.parse().map_err(|_| form())?, last.parse().map_err(|_| form())?);
    if last < first {
        return Err(format!("`{text}` ends before it begins: write FIRST-LAST, for example 0-999"));
    }
    let count = (last - first).checked_add(1).and_then(|count| u32::try_from(count).ok());
    Ok(Array { first, count: count.ok_or_else(|| format!("`{text}` has more tasks than a job may have"))? })
}

/// A moment: `2026-11-24T06:00:00Z`, `06:00` (the next time it is that late here) or `in 8h`.
pub fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let form = || format!("`{text}` is no moment: write it like 06:00, \"in 8h\" or 2026-11-24T06:00:00Z");
    if let Some(length) = text.strip_prefix("in ") {
        return now.checked_add(duration(length.trim())?).map_err(|_| form());
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let time: Time = text.parse().map_err(|_| form())?;
    let today = now.to_zoned(zone.clone()).date();
    let at = |date: jiff::civil::Date| {
        zone.to_ambiguous_zoned(date.to_datetime(time)).compatible().map(|zoned| zoned.timestamp()).map_err(|_| form())
    };
    let moment = at(today)?;
    if moment > now { Ok(moment) } else { at(today.checked_add(1.day()).map_err(|_| form())?) }
}

/// A length of time for people: the two largest units.
pub fn spoken(length: Duration) -> String {
    let seconds = length.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 => format!("{}ms", length.as_millis()),
        (0, 0, 0) if seconds < 10 && length.subsec_millis() > 0 => format!("{:.1}s", length.as_secs_f64()),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes:02}m"),
        (_, _, _) => format!("{days}d {hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amsterdam() -> TimeZone {
        TimeZone::get("Europe/Amsterdam").expect("a zone")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    #[test]
    fn a_time_of_day_is_the_next_one_here() {
        let evening = at("2026-11-23T21:00:00Z");
        assert_eq!(moment("06:00", evening, &amsterdam()), Ok(at("2026-11-24T05:00:00Z")));
        assert_eq!(moment("23:30", evening, &amsterdam()), Ok(at("2026-11-23T22:30:00Z")));
        assert_eq!(moment("in 8h", evening, &amsterdam()), Ok(at("2026-11-24T05:00:00Z")));
        assert_eq!(moment("2026-12-01T00:00:00Z", evening, &amsterdam()), Ok(at("2026-12-01T00:00:00Z")));
        assert!(moment("tomorrow", evening, &amsterdam()).is_err());
    }

    #[test]
    fn an_array_includes_both_ends() {
        assert_eq!(array("0-999"), Ok(Array { first: 0, count: 1_000 }));
        assert_eq!(array("7"), Ok(Array { first: 7, count: 1 }));
        for text in ["", "a-b", "9-3", "-5", "0-99999999999"] {
            assert!(array(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_dependency_alone_must_succeed() {
        assert_eq!(after("j3").map(|after| after.condition), Ok(DependencyCondition::Ok));
        assert_eq!(after("any:j3").map(|after| after.condition), Ok(DependencyCondition::Any));
        assert!(after("maybe:j3").is_err() && after("ok:x").is_err());
    }

    #[test]
    fn lengths_are_spoken_in_two_units() {
        let spoken = |seconds: f64| spoken(Duration::from_secs_f64(seconds));
        assert_eq!(spoken(0.25), "250ms");
        assert_eq!(spoken(2.25), "2.2s");
        assert_eq!(spoken(1.0), "1s");
        assert_eq!(spoken(59.0), "59s");
        assert_eq!(spoken(61.0), "1m 01s");
        assert_eq!(spoken(3_720.0), "1h 02m");
        assert_eq!(spoken(90_000.0), "1d 01h");
    }

    #[test]
    fn variables_and_sizes_are_refused_with_the_form_that_works() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("A").is_err() && variable("=b").is_err());
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert!(size("much").is_err());
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
    }
}
