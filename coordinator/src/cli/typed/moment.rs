//! Moments as people type them: `06:00`, `2027-03-01 06:00`, `in 8h`, `2027-03-01T06:00:00Z`.

use std::time::Duration;

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};
use lull_shared::{amount::quoted, bound, zone::Zone};

/// A moment that somebody named. Which instant it is depends on when it is asked, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long from now.
    In(Duration),
    At(Timestamp),
    /// What a wall clock and a calendar show.
    On(DateTime),
    /// The next time that a wall clock shows this.
    Next(Time),
}

/// `2026-11-24T06:00:00Z`, `2026-11-24 06:00`, `06:00` or `in 8h`.
pub fn moment(text: &str) -> Result<Moment, String> {
    let form = || {
        format!(
            "{} is not a moment\nhint: write it like 06:00, \"2027-03-01 06:00\", \"in 8h\" or 2027-03-01T06:00:00Z",
            quoted(text)
        )
    };
    let text = text.trim();
    if let Some(length) = text.strip_prefix("in ") {
        return bound::FINISH_IN.times()(length).map(Moment::In).map_err(|outside| outside.to_string());
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(Moment::At(moment));
    }
    if text.contains('[') {
        return text.parse::<jiff::Zoned>().map(|zoned| Moment::At(zoned.timestamp())).map_err(|_| form());
    }
    let Some((date, time)) = text.split_once([' ', 'T', 't']) else {
        if text.parse::<Date>().is_ok() && !text.contains(':') {
            return Err(format!("`{text}` is a day, not a moment\nhint: name the time as well, like \"{text} 06:00\""));
        }
        return wall_time(text).map(Moment::Next).ok_or_else(form);
    };
    let date: Date = date.parse().map_err(|_| form())?;
    Ok(Moment::On(date.to_datetime(wall_time(time.trim()).ok_or_else(form)?)))
}

/// `6:00`, `06:00` or `06:00:30`.
fn wall_time(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next().unwrap_or("00"));
    let number = |digits: &str, least: usize| {
        let plain = (least..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<i8>().ok()).flatten()
    };
    let time = Time::new(number(hour, 1)?, number(minute, 2)?, number(second, 2)?, 0).ok()?;
    parts.next().is_none().then_some(time)
}

impl Moment {
    /// The instant that is meant in this zone. A time that comes twice is meant for the first time unless that has
    /// passed; one that is skipped is as much later as the clocks went forward.
    pub fn resolve(self, now: Timestamp, zone: &Zone) -> Result<Timestamp, String> {
        let beyond =
            || "the moment lies beyond the calendar\nhint: name one of the next years, like \"2027-03-01 06:00\"".to_owned();
        match self {
            Self::In(length) => now.checked_add(length).map_err(|_| beyond()),
            Self::At(moment) => Ok(moment),
            Self::On(wall) => {
                let (first, second) = instants(zone.rules(), wall).ok_or_else(beyond)?;
                Ok(if first <= now { second } else { first })
            }
            Self::Next(time) => {
                let today = now.to_zoned(zone.rules().clone()).date();
                for day in [today, today.checked_add(1.day()).map_err(|_| beyond())?] {
                    let (first, second) = instants(zone.rules(), day.to_datetime(time)).ok_or_else(beyond)?;
                    if let Some(next) = [first, second].into_iter().find(|instant| *instant > now) {
                        return Ok(next);
                    }
                }
                Err(beyond())
            }
        }
    }
}

/// When a wall clock shows this for the first and for the last time: mostly the same.
fn instants(zone: &TimeZone, wall: DateTime) -> Option<(Timestamp, Timestamp)> {
    let shown = zone.to_ambiguous_timestamp(wall);
    Some((shown.compatible().ok()?, shown.later().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amsterdam() -> Zone {
        "Europe/Amsterdam".parse().expect("a zone")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    fn meant(text: &str, now: &str) -> Timestamp {
        moment(text).expect("a moment").resolve(at(now), &amsterdam()).expect("an instant")
    }

    #[test]
    fn a_time_of_day_is_the_next_one_here() {
        let evening = "2026-11-23T21:00:00Z";
        assert_eq!(meant("06:00", evening), at("2026-11-24T05:00:00Z"));
        assert_eq!(meant("6:00", evening), at("2026-11-24T05:00:00Z"));
        assert_eq!(meant("23:30", evening), at("2026-11-23T22:30:00Z"));
        assert_eq!(meant("in 8h", evening), at("2026-11-24T05:00:00Z"));
        assert_eq!(meant("2026-12-01T00:00:00Z", evening), at("2026-12-01T00:00:00Z"));
    }

    #[test]
    fn a_date_is_kept() {
        let evening = "2026-11-23T21:00:00Z";
        assert_eq!(meant("2027-03-01 06:00", evening), at("2027-03-01T05:00:00Z"));
        assert_eq!(meant("2027-03-01T06:00", evening), at("2027-03-01T05:00:00Z"));
        assert_eq!(meant("2027-07-01 06:00:30", evening), at("2027-07-01T04:00:30Z"));
        assert_eq!(meant("2027-03-01T06:00+05:30", evening), at("2027-03-01T00:30:00Z"));
        assert_eq!(meant("2027-03-01T06:00[America/New_York]", evening), at("2027-03-01T11:00:00Z"));
        assert_eq!(meant("2026-11-22 06:00", evening), at("2026-11-22T05:00:00Z"), "what has passed is not moved");
    }

    #[test]
    fn a_time_that_comes_twice_means_the_next_of_them() {
        // 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC, so that 02:50 comes at 00:50 and at 01:50.
        let (first, second) = (at("2026-10-25T00:50:00Z"), at("2026-10-25T01:50:00Z"));
        for text in ["02:50", "2026-10-25 02:50"] {
            assert_eq!(meant(text, "2026-10-25T00:10:00Z"), first, "{text}");
            assert_eq!(meant(text, "2026-10-25T00:50:00Z"), second, "{text}");
            assert_eq!(meant(text, "2026-10-25T01:10:00Z"), second, "{text}");
        }
        assert_eq!(meant("02:50", "2026-10-25T01:50:00Z"), at("2026-10-26T01:50:00Z"));
        // 2027-03-28: 02:00 becomes 03:00.
        assert_eq!(meant("02:30", "2027-03-28T00:30:00Z"), at("2027-03-28T01:30:00Z"));
    }

    #[test]
    fn what_is_no_moment_is_refused_with_the_form_that_works() {
        for text in
            ["tomorrow", "", "24:00", "6", "06:0", "2027-03-01 25:00", "2027-13-01 06:00", "06:00 2027-03-01", "in a while"]
        {
            assert!(moment(text).is_err(), "{text}");
        }
        let day = moment("2027-03-01").expect_err("a day");
        assert!(day.contains("2027-03-01 06:00"), "{day}");
    }
}
