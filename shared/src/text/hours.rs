//! Hours of the week by a machine's own clock: `18:00-08:00; 00:00-24:00 sat,sun`.
//!
//! A job's [`crate::window::Window`] names a time zone and is about instants; a policy's hours hold wherever the machine
//! stands, and are about the minute of the week that its wall clock shows.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    time::Timestamp,
    window::{DAYS, parse_days, parse_time},
};

const DAY: u16 = 24 * 60;
/// Minutes of a week.
pub const WEEK: u16 = 7 * DAY;
/// A text of hours has no more bytes: every day may have a dozen spans of its own.
pub const TEXT_BYTES_MAX: usize = 2_000;

/// A minute of the week, Monday 00:00 first, below [`WEEK`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct WeekMinute(u16);

impl WeekMinute {
    /// The minute that the number stands for; numbers beyond the week begin it anew.
    pub const fn new(minute: u16) -> Self {
        Self(minute % WEEK)
    }

    /// The minute that a wall clock shows.
    pub fn of(at: &jiff::Zoned) -> Self {
        let day = at.weekday().to_monday_zero_offset().unsigned_abs();
        let (hour, minute) = (at.hour().unsigned_abs(), at.minute().unsigned_abs());
        Self::new(DAY * u16::from(day) + 60 * u16::from(hour) + u16::from(minute))
    }

    /// The minute that a clock shows at that time which is so many minutes ahead of UTC.
    pub fn at(at: Timestamp, ahead_min: i16) -> Self {
        // 1970-01-01 was a Thursday.
        let minutes = at.as_millis().div_euclid(60_000) + 3 * i64::from(DAY) + i64::from(ahead_min);
        Self::new(u16::try_from(minutes.rem_euclid(WEEK.into())).expect("a minute of the week fits"))
    }

    /// Its number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for WeekMinute {
    type Error = &'static str;

    fn try_from(minute: u16) -> Result<Self, Self::Error> {
        if minute < WEEK { Ok(Self(minute)) } else { Err("a week has 10080 minutes") }
    }
}

impl From<WeekMinute> for u16 {
    fn from(minute: WeekMinute) -> Self {
        minute.0
    }
}

impl fmt::Display for WeekMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, _) = DAYS[usize::from(self.0 / DAY)];
        write!(f, "{day} {:02}:{:02}", self.0 % DAY / 60, self.0 % 60)
    }
}

/// The text is no hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseHoursError {
    #[error("`{0}` is not a span of hours\nhint: write HH:MM-HH:MM [DAYS], several with `;` between them, or always, or never")]
    Form(String),
    #[error("`{0}` does not name days of the week\nhint: write them like mon-fri or sat,sun")]
    Days(String),
    #[error("`{0}` is not a moment of the week\nhint: write a day and a time, as in \"mon 14:00\"")]
    Moment(String),
    #[error(
        "hours of more than {TEXT_BYTES_MAX} bytes are not taken\nhint: join days that have the same hours, as in 20:00-06:00 mon-fri"
    )]
    TooLong,
}

impl FromStr for WeekMinute {
    type Err = ParseHoursError;

    fn from_str(text: &str) -> Result<Self, ParseHoursError> {
        let wrong = || ParseHoursError::Moment(text.to_owned());
        let mut words = text.split_whitespace();
        let (Some(day), Some(time), None) = (words.next(), words.next(), words.next()) else { return Err(wrong()) };
        let day = DAYS.iter().zip(0..).find(|((name, _), _)| name.eq_ignore_ascii_case(day)).ok_or_else(wrong)?.1;
        Ok(Self::new(DAY * day + minute_of_day(time).ok_or_else(wrong)?))
    }
}

fn minute_of_day(text: &str) -> Option<u16> {
    let time = parse_time(text)?;
    Some(60 * u16::from(time.hour().unsigned_abs()) + u16::from(time.minute().unsigned_abs()))
}

/// Spans of the week. Its encoding is its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    /// Disjoint, ascending, within the week: from the first minute to before the second.
    spans: Vec<(u16, u16)>,
    text: String,
}

/// Two texts that mean the same hours are equal.
impl PartialEq for Hours {
    fn eq(&self, other: &Self) -> bool {
        self.spans == other.spans
    }
}

impl Eq for Hours {}

impl Hours {
    /// The whole week.
    pub fn always() -> Self {
        Self { spans: vec![(0, WEEK)], text: "always".into() }
    }

    /// Nothing of it.
    pub fn never() -> Self {
        Self { spans: Vec::new(), text: "never".into() }
    }

    /// Whether the minute is among them.
    pub fn contains(&self, minute: WeekMinute) -> bool {
        self.spans.iter().any(|(from, to)| (*from..*to).contains(&minute.0))
    }

    /// When they next begin, `minute` itself if it is among them; none if never.
    pub fn next_open(&self, minute: WeekMinute) -> Option<WeekMinute> {
        if self.contains(minute) {
            return Some(minute);
        }
        let next = self.spans.iter().find(|(from, _)| *from > minute.0).or_else(|| self.spans.first());
        next.map(|(from, _)| WeekMinute(*from))
    }

    /// What both contain.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut spans = Vec::new();
        for (from, to) in &self.spans {
            for (other_from, other_to) in &other.spans {
                let (from, to) = (*from.max(other_from), *to.min(other_to));
                if from < to {
                    spans.push((from, to));
                }
            }
        }
        // What one of them says in fewer words need not be spelt out.
        for whole in [self, other] {
            if whole.spans == spans {
                return whole.clone();
            }
        }
        Self { text: spell(&spans), spans }
    }
}

/// Spans in words that are understood alike.
fn spell(spans: &[(u16, u16)]) -> String {
    match spans {
        [] => return "never".into(),
        [(0, WEEK)] => return "always".into(),
        _ => {}
    }
    let mut of_day: BTreeMap<(u16, u16), [bool; 7]> = BTreeMap::new();
    for (from, to) in spans {
        for day in from / DAY..=(to - 1) / DAY {
            let part = ((*from).max(day * DAY) - day * DAY, (*to).min((day + 1) * DAY) - day * DAY);
            of_day.entry(part).or_default()[usize::from(day)] = true;
        }
    }
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    let parts = of_day.into_iter().map(|((from, to), days)| {
        let named: Vec<&str> = DAYS.iter().zip(days).filter(|(_, on)| *on).map(|((name, _), _)| *name).collect();
        let behind = if named.len() == 7 { String::new() } else { format!(" {}", named.join(",")) };
        format!("{}-{}{behind}", time(from), time(to))
    });
    parts.collect::<Vec<_>>().join("; ")
}

impl FromStr for Hours {
    type Err = ParseHoursError;

    fn from_str(text: &str) -> Result<Self, ParseHoursError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ParseHoursError::TooLong);
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match text.as_str() {
            "always" => return Ok(Self::always()),
            "never" => return Ok(Self::never()),
            _ => {}
        }
        let mut open = vec![false; usize::from(WEEK)];
        for part in text.split(';') {
            let form = || ParseHoursError::Form(part.trim().to_owned());
            let mut words = part.split_whitespace();
            let (start, end) = words.next().and_then(|times| times.split_once('-')).ok_or_else(form)?;
            let (start, end) = (minute_of_day(start).ok_or_else(form)?, minute_of_day(end).ok_or_else(form)?);
            let days = match words.next() {
                Some(days) => parse_days(days).ok_or_else(|| ParseHoursError::Days(days.to_owned()))?,
                None => [true; 7],
            };
            if words.next().is_some() {
                return Err(form());
            }
            let length = if end > start { end - start } else { end + DAY - start };
            for (day, _) in (0..7).zip(days).filter(|(_, on)| *on) {
                for minute in 0..length {
                    open[usize::from((day * DAY + start + minute) % WEEK)] = true;
                }
            }
        }
        Ok(Self { spans: spans(&open), text })
    }
}

fn spans(open: &[bool]) -> Vec<(u16, u16)> {
    let mut spans: Vec<(u16, u16)> = Vec::new();
    for (minute, _) in (0_u16..).zip(open).filter(|(_, open)| **open) {
        match spans.last_mut() {
            Some((_, to)) if *to == minute => *to = minute + 1,
            _ => spans.push((minute, minute + 1)),
        }
    }
    spans
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Hours {
    type Error = ParseHoursError;

    fn try_from(text: String) -> Result<Self, ParseHoursError> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hours(text: &str) -> Hours {
        text.parse().expect("hours")
    }

    fn minute(text: &str) -> WeekMinute {
        text.parse().expect("a minute")
    }

    #[test]
    fn a_clock_that_is_ahead_shows_a_later_time() {
        let now = Timestamp::from(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!([0, -60].map(|ahead_min| WeekMinute::at(now, ahead_min).to_string()), ["thu 00:00", "wed 23:00"]);
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins_and_the_week_is_round() {
        let nights = hours("18:00-08:00 mon-fri,sun");
        assert!(nights.contains(minute("sat 07:59")) && !nights.contains(minute("sat 08:00")));
        assert!(!nights.contains(minute("sun 07:59")) && nights.contains(minute("mon 07:59")));
        assert_eq!(nights.next_open(minute("sat 12:00")), Some(minute("sun 18:00")));
        assert_eq!(hours("12:00-13:00 mon").next_open(minute("mon 13:00")), Some(minute("mon 12:00")));
        assert_eq!(Hours::never().next_open(minute("mon 13:00")), None);
    }

    #[test]
    fn nonsense_is_refused_with_the_form_that_works() {
        assert_eq!("22:00".parse::<Hours>(), Err(ParseHoursError::Form("22:00".into())));
        assert_eq!("22:00-25:00".parse::<Hours>(), Err(ParseHoursError::Form("22:00-25:00".into())));
        assert_eq!("22:00-06:00 someday".parse::<Hours>(), Err(ParseHoursError::Days("someday".into())));
        assert!("8:00".parse::<WeekMinute>().is_err() && "mon 24:61".parse::<WeekMinute>().is_err());
        assert_eq!("x".repeat(3_000).parse::<Hours>(), Err(ParseHoursError::TooLong));
    }

    #[test]
    fn a_zoned_time_is_a_minute_of_its_own_wall_clock() {
        let noon: jiff::Zoned = "2026-11-23T23:59:59+01:00[Europe/Amsterdam]".parse().expect("a time");
        assert_eq!(WeekMinute::of(&noon).to_string(), "mon 23:59");
    }

    fn some_hours() -> impl Strategy<Value = Hours> {
        let span = (0_u16..24, 0_u16..60, 0_u16..=24, 0_usize..7, 0_usize..7);
        prop::collection::vec(span, 1..5).prop_map(|spans| {
            let part = |(from, minute, to, first, last): (u16, u16, u16, usize, usize)| {
                format!("{from:02}:{minute:02}-{to:02}:00 {}-{}", DAYS[first].0, DAYS[last].0)
            };
            hours(&spans.into_iter().map(part).collect::<Vec<_>>().join("; "))
        })
    }

    proptest! {
        #[test]
        fn an_intersection_has_what_both_have_and_its_words_mean_it(a in some_hours(), b in some_hours()) {
            let both = a.intersection(&b);
            for minute in (0..WEEK).map(WeekMinute::new) {
                prop_assert_eq!(both.contains(minute), a.contains(minute) && b.contains(minute));
            }
            prop_assert_eq!(hours(&both.to_string()), both);
        }
    }

    #[test]
    fn every_minute_of_the_week_is_a_number_below_its_end() {
        assert_eq!([0, WEEK - 1, WEEK].map(|number| WeekMinute::try_from(number).is_ok()), [true, true, false]);
        assert_eq!((WeekMinute::new(WEEK), WeekMinute::new(WEEK - 1).to_string()), (WeekMinute::new(0), "sun 23:59".into()));
    }

    #[test]
    fn a_span_holds_its_first_minute_and_not_its_last() {
        let night = hours("22:00-06:00 mon; 08:00-09:00 tue");
        let holds = |text: &str| night.contains(minute(text));
        let at = ["mon 21:59", "mon 22:00", "tue 05:59", "tue 06:00", "tue 07:59", "tue 08:00", "tue 08:59", "tue 09:00"];
        assert_eq!(at.map(holds), [false, true, true, false, false, true, true, false]);
        let opens = |text: &str| night.next_open(minute(text)).map(|minute| minute.to_string());
        let at = ["mon 22:00", "mon 21:59", "tue 06:00", "tue 09:00", "sun 23:59"];
        let next = ["mon 22:00", "mon 22:00", "tue 08:00", "mon 22:00", "mon 22:00"];
        assert_eq!(at.map(opens), next.map(|text| Some(text.to_owned())));
    }

    #[test]
    fn a_span_that_ends_where_it_begins_is_a_whole_day_and_one_behind_another_is_one_with_it() {
        assert_eq!(hours("08:00-08:00 mon"), hours("08:00-24:00 mon; 00:00-08:00 tue"));
        assert_eq!(hours("00:00-00:00"), Hours::always());
        assert_eq!(hours("08:00-09:00; 09:00-10:00"), hours("08:00-10:00"));
        assert_ne!(hours("08:00-09:00; 09:01-10:00"), hours("08:00-10:00"));
        assert_ne!(hours("08:00-09:00"), hours("08:00-10:00"));
        assert!(
            hours("08:00-09:00 mon,wed").contains(minute("wed 08:30"))
                && !hours("08:00-09:00 mon,wed").contains(minute("tue 08:30"))
        );
    }

    #[test]
    fn an_intersection_is_spelt_as_whoever_says_it_in_fewer_words_and_otherwise_by_day() {
        let both = |a: &str, b: &str| hours(a).intersection(&hours(b)).to_string();
        assert_eq!(both("always", "18:00-08:00"), "18:00-08:00");
        assert_eq!(both("18:00-08:00", "always"), "18:00-08:00");
        assert_eq!(both("08:00-12:00", "12:00-14:00"), "never");
        assert_eq!(both("08:00-12:00", "10:00-14:00"), "10:00-12:00");
        assert_eq!(both("08:00-12:00 mon,wed", "10:00-14:00"), "10:00-12:00 mon,wed");
        assert_eq!(both("18:00-08:00", "20:00-10:00"), "00:00-08:00; 20:00-24:00");
        assert_eq!(both("18:00-08:00 sun", "20:00-10:00"), "00:00-08:00 mon; 20:00-24:00 sun");
    }

    #[test]
    fn hours_are_read_up_to_their_bound_and_without_words_behind_them() {
        let long = |bytes: usize| format!("{:<bytes$}", "always").parse::<Hours>();
        assert_eq!((long(TEXT_BYTES_MAX), long(TEXT_BYTES_MAX + 1)), (Ok(Hours::always()), Err(ParseHoursError::TooLong)));
        assert_eq!("08:00-09:00 mon tue".parse::<Hours>(), Err(ParseHoursError::Form("08:00-09:00 mon tue".into())));
        assert_eq!("never".parse(), Ok(Hours::never()));
    }
}
