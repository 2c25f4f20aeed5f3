//! When a job may run: `22:00-06:00 mon-fri Europe/Amsterdam`.
//!
//! A window opens on each of its days at its start, by the wall clock of its zone, and closes at its end, on the
//! next day if the end is not later than the start. A wall time that a change of summer time skips counts as the
//! first instant after the gap; one that occurs twice counts as its first occurrence.

use std::{fmt, str::FromStr};

use jiff::{
    ToSpan as _,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

pub(crate) const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A span of the day on some days of the week in one time zone. Its text and its encoding are the same words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    start: Time,
    end: Time,
    /// On which days it opens, Monday first.
    days: [bool; 7],
    zone: TimeZone,
    text: String,
}

impl Eq for Window {}

impl Window {
    /// Whether the window is open at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.spans_around(now).any(|(opens, closes)| opens <= now && now < closes)
    }

    /// The next instant after `now` at which the window opens or closes; `None` when it is always open.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let open = self.is_open(now);
        self.spans_around(now)
            .flat_map(|(opens, closes)| [opens, closes])
            .filter(|at| *at > now && self.is_open(*at) != open)
            .min()
    }

    /// When the window next opens, `now` itself if it is open.
    pub fn next_open(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_open(now) { Some(now) } else { self.next_change(now) }
    }

    /// The spans that open from yesterday to eight days ahead: all that can contain `now` or change next.
    fn spans_around(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        let today = now.to_jiff().to_zoned(self.zone.clone()).date();
        (-1..=8).filter_map(move |offset| {
            let day = today.checked_add(i64::from(offset).days()).ok()?;
            let opens_today = self.days[day.weekday().to_monday_zero_offset() as usize];
            opens_today.then(|| self.span_of(day)).flatten()
        })
    }

    fn span_of(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let last = if self.end > self.start { day } else { day.checked_add(1.day()).ok()? };
        let instant = |date: Date, time: Time| {
            let zoned = self.zone.to_ambiguous_zoned(date.to_datetime(time)).compatible().ok()?;
            Some(Timestamp::from(zoned.timestamp()))
        };
        Some((instant(day, self.start)?, instant(last, self.end)?))
    }
}

/// The text is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseWindowError {
    #[error("`{0}` is no window: write HH:MM-HH:MM [DAYS] [ZONE], for example \"22:00-06:00 mon-fri Europe/Amsterdam\"")]
    Form(String),
    #[error(
        "`{0}` is neither a day (mon, tue, wed, thu, fri, sat, sun, mon-fri, sat,sun) nor a time zone (Europe/Amsterdam, UTC)"
    )]
    Word(String),
}

impl FromStr for Window {
    type Err = ParseWindowError;

    fn from_str(text: &str) -> Result<Self, ParseWindowError> {
        let form = || ParseWindowError::Form(text.to_owned());
        let mut words = text.split_whitespace();
        let (start, end) = words.next().and_then(|times| times.split_once('-')).ok_or_else(form)?;
        let (start, end) = (parse_time(start).ok_or_else(form)?, parse_time(end).ok_or_else(form)?);
        let (mut days, mut zone) = (None, None);
        for word in words {
            if let (Some(parsed), None, None) = (parse_days(word), &days, &zone) {
                days = Some(parsed);
            } else if let (Ok(parsed), None) = (TimeZone::get(word), &zone) {
                zone = Some(parsed);
            } else {
                return Err(ParseWindowError::Word(word.to_owned()));
            }
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Self { start, end, days: days.unwrap_or([true; 7]), zone: zone.unwrap_or(TimeZone::UTC), text })
    }
}

pub(crate) fn parse_time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let time = Time::new(if hour == "24" { 0 } else { hour.parse().ok()? }, minute.parse().ok()?, 0, 0).ok()?;
    (minute.len() == 2 && (hour != "24" || minute == "00")).then_some(time)
}

pub(crate) fn parse_days(text: &str) -> Option<[bool; 7]> {
    let number = |name: &str| DAYS.iter().position(|(day, _)| name.eq_ignore_ascii_case(day));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        let span = (last + 7 - first) % 7;
        for day in 0..=span {
            days[(first + day) % 7] = true;
        }
    }
    Some(days)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Window {
    type Error = ParseWindowError;

    fn try_from(text: String) -> Result<Self, ParseWindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from(text.parse::<jiff::Timestamp>().expect("an instant"))
    }

    fn window(text: &str) -> Window {
        text.parse().expect("a window")
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let nights = window("22:00-06:00 mon-fri Europe/Amsterdam");
        // Friday 2026-11-20, 23:00 in Amsterdam; Saturday 05:59; Saturday 23:00; Monday 05:00.
        assert!(nights.is_open(at("2026-11-20T22:00:00Z")));
        assert!(nights.is_open(at("2026-11-21T04:59:59Z")));
        assert!(!nights.is_open(at("2026-11-21T05:00:00Z")));
        assert!(!nights.is_open(at("2026-11-21T22:00:00Z")));
        assert!(!nights.is_open(at("2026-11-23T04:00:00Z")));
        assert_eq!(nights.next_open(at("2026-11-21T12:00:00Z")), Some(at("2026-11-23T21:00:00Z")));
    }

    #[test]
    fn changes_of_summer_time_neither_lose_nor_double_a_night() {
        let nights = window("01:30-02:30 Europe/Amsterdam");
        // 2026-03-29: 02:00 to 03:00 does not exist, so the span ends at 03:30 summer time.
        assert_eq!(nights.next_change(at("2026-03-29T00:30:00Z")), Some(at("2026-03-29T01:30:00Z")));
        // 2026-10-25: 02:30 occurs twice; the first ends it.
        assert_eq!(nights.next_change(at("2026-10-24T23:45:00Z")), Some(at("2026-10-25T00:30:00Z")));
    }

    #[test]
    fn a_whole_day_every_day_never_changes() {
        let always = window("00:00-24:00");
        assert!(always.is_open(at("2026-01-01T00:00:00Z")));
        assert_eq!(always.next_change(at("2026-01-01T12:00:00Z")), None);
    }

    #[test]
    fn days_wrap_around_the_week_and_lists_add_up() {
        let ends = window("08:00-18:00 fri-mon,wed UTC");
        assert!(ends.is_open(at("2026-11-22T09:00:00Z")), "Sunday");
        assert!(ends.is_open(at("2026-11-25T09:00:00Z")), "Wednesday");
        assert!(!ends.is_open(at("2026-11-24T09:00:00Z")), "Tuesday");
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!("22:00".parse::<Window>(), Err(ParseWindowError::Form("22:00".into())));
        assert_eq!("22:00-06:00 Mars/Base".parse::<Window>(), Err(ParseWindowError::Word("Mars/Base".into())));
        assert_eq!("22:00-25:00".parse::<Window>(), Err(ParseWindowError::Form("22:00-25:00".into())));
    }
}
