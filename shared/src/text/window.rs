//! When a job may run: `22:00-06:00 mon-fri Europe/Amsterdam`.
//!
//! A window opens on each of its days at its start, by the wall clock of its zone, and closes at its end, on the
//! next day if the end is not later than the start. Where the clocks change:
//!
//! - A start that is skipped counts as the first instant after the gap; an end that is skipped is as much later as the
//!   clocks went forward. Of a window that would be left with nothing by that, all of it comes after the gap: no night
//!   is lost, and none is shifted further than the gap is long.
//! - A time that occurs twice counts as its first occurrence.

use std::{fmt, str::FromStr};

use jiff::{
    ToSpan as _,
    civil::{Date, DateTime, Time, Weekday},
    tz::{AmbiguousOffset, TimeZone},
};
use serde::{Deserialize, Serialize};

use crate::{time::Timestamp, zone::Zone};

pub(crate) const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A span of the day on some days of the week in one time zone. Its text and its encoding are the same words, which
/// always name the zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    start: Time,
    end: Time,
    /// On which days it opens, Monday first.
    days: [bool; 7],
    zone: Zone,
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
        let today = now.to_jiff().to_zoned(self.zone.rules().clone()).date();
        (-1..=8).filter_map(move |offset| {
            let day = today.checked_add(i64::from(offset).days()).ok()?;
            let opens_today = self.days[day.weekday().to_monday_zero_offset() as usize];
            opens_today.then(|| self.span_of(day)).flatten()
        })
    }

    fn span_of(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let last = if self.end > self.start { day } else { day.checked_add(1.day()).ok()? };
        let (start, end) = (day.to_datetime(self.start), last.to_datetime(self.end));
        let rules = self.zone.rules();
        let closes = instant(rules, end)?;
        let Some(opens) = after_gap(rules, start) else { return Some((instant(rules, start)?, closes)) };
        let left = after_gap(rules, end).is_none() && closes > opens;
        let closes = if left { closes } else { opens + start.duration_until(end).unsigned_abs() };
        Some((opens, closes))
    }
}

/// When a wall clock shows this time first; a time that is skipped is as much later as the clocks went forward.
fn instant(rules: &TimeZone, at: DateTime) -> Option<Timestamp> {
    let zoned = rules.to_ambiguous_zoned(at).compatible().ok()?;
    Some(Timestamp::from(zoned.timestamp()))
}

/// The first instant after the gap, if the wall clock never shows this time.
fn after_gap(rules: &TimeZone, at: DateTime) -> Option<Timestamp> {
    let AmbiguousOffset::Gap { after, .. } = rules.to_ambiguous_timestamp(at).offset() else { return None };
    // By the offset that comes with the gap the time lies before it, by less than its length.
    let before = after.to_timestamp(at).ok()?;
    let change = rules.following(before).next()?;
    Some(Timestamp::from(change.timestamp()))
}

/// The text is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseWindowError {
    #[error(
        "`{0}` is not a valid window\nhint: write HH:MM-HH:MM [DAYS] [ZONE], for example \"22:00-06:00 mon-fri Europe/Amsterdam\""
    )]
    Form(String),
    #[error(
        "`{0}` is neither a day nor a time zone\nhint: write days like mon-fri or sat,sun (mon, tue, wed, thu, fri, sat, sun), and behind \
         them a zone like Europe/Amsterdam or UTC"
    )]
    Word(String),
}

impl Window {
    /// The window that a text means; in this zone, if it names none.
    pub fn parse_in(text: &str, zone: &Zone) -> Result<Self, ParseWindowError> {
        let form = || ParseWindowError::Form(text.to_owned());
        let mut words = text.split_whitespace();
        let (start, end) = words.next().and_then(|times| times.split_once('-')).ok_or_else(form)?;
        let (start, end) = (parse_time(start).ok_or_else(form)?, parse_time(end).ok_or_else(form)?);
        let (mut days, mut named) = (None, None);
        for word in words {
            if let (Some(parsed), None, None) = (parse_days(word), &days, &named) {
                days = Some(parsed);
            } else if let (Ok(parsed), None) = (word.parse::<Zone>(), &named) {
                named = Some(parsed);
            } else {
                return Err(ParseWindowError::Word(word.to_owned()));
            }
        }
        let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let zone = named.unwrap_or_else(|| {
            text = format!("{text} {zone}");
            zone.clone()
        });
        Ok(Self { start, end, days: days.unwrap_or([true; 7]), zone, text })
    }
}

impl FromStr for Window {
    type Err = ParseWindowError;

    /// A text without a zone is about UTC.
    fn from_str(text: &str) -> Result<Self, ParseWindowError> {
        Self::parse_in(text, &Zone::utc())
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
    use std::time::Duration;

    use proptest::prelude::*;

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

    /// When it opens next, and when it closes then.
    fn next_span(window: &Window, now: &str) -> (String, String) {
        let opens = window.next_open(at(now)).expect("it opens");
        (opens.to_string(), window.next_change(opens).expect("it closes").to_string())
    }

    #[test]
    fn a_window_that_begins_in_the_gap_opens_right_after_it() {
        // 2027-03-28: 02:00 becomes 03:00 at 01:00 UTC.
        let spans = |text: &str| next_span(&window(text), "2027-03-28T00:30:00Z");
        let night = |from: &str, to: &str| (format!("2027-03-28T{from}Z"), format!("2027-03-28T{to}Z"));
        assert_eq!(spans("02:15-03:15 Europe/Amsterdam"), night("01:00:00", "01:15:00"));
        assert_eq!(spans("02:30-06:00 Europe/Amsterdam"), night("01:00:00", "04:00:00"));
        assert_eq!(spans("02:30-03:00 sun Europe/Amsterdam"), night("01:00:00", "01:30:00"), "all of it after the gap");
        assert_eq!(spans("02:15-02:45 sun Europe/Amsterdam"), night("01:00:00", "01:30:00"));
        assert_eq!(spans("02:00-03:00 Europe/Amsterdam"), night("01:00:00", "02:00:00"));
    }

    #[test]
    fn gaps_of_half_an_hour_at_midnight_and_of_a_day_lose_nothing_either() {
        // Lord Howe, 2026-10-04: 02:00 becomes 02:30 at 15:30 UTC of the day before.
        let (opens, closes) = next_span(&window("02:00-02:30 sun Australia/Lord_Howe"), "2026-10-03T12:00:00Z");
        assert_eq!((opens.as_str(), closes.as_str()), ("2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z"));
        // Havana, 2026-03-08: 00:00 becomes 01:00 at 05:00 UTC.
        let (opens, closes) = next_span(&window("00:00-00:30 sun America/Havana"), "2026-03-08T04:00:00Z");
        assert_eq!((opens.as_str(), closes.as_str()), ("2026-03-08T05:00:00Z", "2026-03-08T05:30:00Z"));
        // Apia had no 30 December 2011, a Friday.
        let (opens, _) = next_span(&window("22:00-23:00 fri Pacific/Apia"), "2011-12-30T00:00:00Z");
        assert_eq!(opens, "2011-12-30T10:00:00Z");
    }

    #[test]
    fn a_zone_that_is_left_out_is_that_of_whoever_asks_and_is_written_down() {
        let zone: Zone = "America/New_York".parse().expect("a zone");
        let theirs = Window::parse_in("22:00-06:00  mon-fri", &zone).expect("a window");
        assert_eq!(theirs.to_string(), "22:00-06:00 mon-fri America/New_York");
        assert_eq!(theirs, window("22:00-06:00 mon-fri America/New_York"));
        assert_eq!(
            Window::parse_in("22:00-06:00 Europe/Paris", &zone).expect("a window").to_string(),
            "22:00-06:00 Europe/Paris"
        );
        assert_eq!(window("22:00-06:00").to_string(), "22:00-06:00 UTC");
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

    /// Zones whose clocks change at other hours, by other amounts, in the other half of the year or never; and the day
    /// before such a change.
    const CHANGES: [(&str, &str); 11] = [
        ("Europe/Amsterdam", "2027-03-27"),
        ("Europe/Amsterdam", "2026-10-24"),
        ("America/New_York", "2027-03-13"),
        ("America/Santiago", "2026-09-05"),
        ("America/Santiago", "2027-04-03"),
        ("America/Havana", "2026-03-07"),
        ("America/St_Johns", "2027-03-13"),
        ("Australia/Adelaide", "2026-10-03"),
        ("Australia/Lord_Howe", "2026-10-03"),
        ("Australia/Lord_Howe", "2027-04-03"),
        ("Asia/Kolkata", "2027-03-13"),
    ];
    const MINUTE: Duration = Duration::from_secs(60);

    /// What a wall clock shows, minute by minute.
    struct Walk(Vec<(Timestamp, DateTime)>);

    impl Walk {
        fn around(zone: &Zone, day: Date) -> Self {
            let begin = instant(zone.rules(), (day - 3.days()).to_datetime(Time::midnight())).expect("an instant");
            let minutes = (0..7 * 24 * 60).map(|minute| begin + MINUTE * minute);
            Self(minutes.map(|now| (now, now.to_jiff().to_zoned(zone.rules().clone()).datetime())).collect())
        }

        /// The first minute at which the clock shows this time or a later one, and the time that was skipped by then.
        fn reaches(&self, wall: DateTime) -> (Timestamp, Option<Duration>) {
            let place = self.0.iter().position(|(_, shown)| *shown >= wall).expect("it lies in the walk");
            let (now, shown) = self.0[place];
            let gap_began = self.0[place - 1].1 + 1.minute();
            (now, (shown != wall).then(|| gap_began.duration_until(wall).unsigned_abs()))
        }

        /// One night, by nothing but what the clock shows.
        fn night(&self, window: &Window, day: Date) -> (Timestamp, Timestamp) {
            let last = if window.end > window.start { day } else { day + 1.day() };
            let (start, end) = (day.to_datetime(window.start), last.to_datetime(window.end));
            let (opens, late) = self.reaches(start);
            let (reached, skipped) = self.reaches(end);
            let closes = reached + skipped.unwrap_or_default();
            match late {
                Some(_) if skipped.is_some() || closes <= opens => (opens, opens + start.duration_until(end).unsigned_abs()),
                Some(_) | None => (opens, closes),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_walk_by_minutes_over_a_change_of_the_clocks_finds_the_same_nights(
            place in 0..CHANGES.len(), start in 0_u32..24 * 60, length in 1_u32..=24 * 60, weekly in proptest::option::of(0_usize..7)
        ) {
            let (zone, eve) = CHANGES[place];
            // Half of all changes happen at night.
            let start = if start % 2 == 0 { start / 6 } else { start };
            let time = |minutes: u32| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
            let days = weekly.map(|day| DAYS[day].0).unwrap_or_default();
            let window = window(&format!("{}-{} {days} {zone}", time(start), time(start + length)));
            let eve: Date = eve.parse().expect("a day");
            let walk = Walk::around(&window.zone, eve);
            let on = |day: &Date| window.days[day.weekday().to_monday_zero_offset() as usize];
            let nights: Vec<_> =
                (-2_i64..=2).map(|day| eve + day.days()).filter(on).map(|day| walk.night(&window, day)).collect();
            for (opens, closes) in &nights {
                prop_assert!(opens < closes, "{} loses a night at {}", &window, opens);
            }
            let open_at = |now: Timestamp| nights.iter().any(|(opens, closes)| *opens <= now && now < *closes);
            let middle = &walk.0[2 * 24 * 60..5 * 24 * 60];
            for (now, shown) in middle {
                prop_assert_eq!(window.is_open(*now), open_at(*now), "{} at {}, {}", &window, now, shown);
            }
            for (now, _) in middle.iter().step_by(97) {
                let next = middle.iter().map(|(at, _)| *at).find(|at| at >= now && open_at(*at));
                if let Some(next) = next {
                    prop_assert_eq!(window.next_open(*now), Some(next), "{} at {}", &window, now);
                }
            }
        }
    }

    #[test]
    fn a_window_holds_its_first_instant_and_not_its_last() {
        let day = window("08:00-18:00 UTC");
        let open = |text: &str| day.is_open(at(&format!("2026-11-20T{text}Z")));
        let times = ["07:59:59", "08:00:00", "17:59:59", "18:00:00"];
        assert_eq!(times.map(open), [false, true, true, false]);
        let next = |text: &str| day.next_change(at(&format!("2026-11-20T{text}Z"))).map(|at| at.to_string());
        assert_eq!(
            times.map(next),
            ["20T08:00:00Z", "20T18:00:00Z", "20T18:00:00Z", "21T08:00:00Z"].map(|at| Some(format!("2026-11-{at}")))
        );
        assert_eq!(day.next_open(at("2026-11-20T09:00:00Z")), Some(at("2026-11-20T09:00:00Z")), "it is open");
    }

    #[test]
    fn what_closes_and_opens_at_the_same_instant_does_not_change() {
        let halves = window("12:00-12:00 mon,tue UTC");
        assert_eq!(halves.next_change(at("2026-11-23T13:00:00Z")), Some(at("2026-11-25T12:00:00Z")), "both days in one");
    }

    #[test]
    fn times_of_the_day_have_two_digits_behind_the_colon_and_end_with_midnight() {
        let read = |text: &str| parse_time(text).map(|time| (time.hour(), time.minute()));
        let right = [("00:00", (0, 0)), ("8:05", (8, 5)), ("23:59", (23, 59)), ("24:00", (0, 0))];
        for (text, time) in right {
            assert_eq!(read(text), Some(time), "{text}");
        }
        for text in ["24:01", "24:59", "25:00", "8:5", "8:005", "8", ":00", "8:", "8:60", "-1:00"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn days_and_the_zone_are_named_once_and_in_this_order() {
        for text in ["08:00-09:00 UTC mon", "08:00-09:00 mon tue", "08:00-09:00 UTC UTC", "08:00-09:00 mon UTC x"] {
            assert!(matches!(text.parse::<Window>(), Err(ParseWindowError::Word(_))), "{text}");
        }
        let on = |text: &str| parse_days(text).map(|days| days.map(u8::from));
        assert_eq!(on("mon"), Some([1, 0, 0, 0, 0, 0, 0]));
        assert_eq!(on("sat-mon"), Some([1, 0, 0, 0, 0, 1, 1]));
        assert_eq!(on("tue,sun-sun"), Some([0, 1, 0, 0, 0, 0, 1]));
        assert_eq!(on("mon-sun"), Some([1; 7]));
        assert_eq!((on("mon,"), on("mo"), on("mon-")), (None, None, None));
    }
}
