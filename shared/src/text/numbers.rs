//! Numbers as people list them: `0-999`, `0-10:2`, `1,3,5`, and any of these together.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{amount::grouped, limits::TASKS_PER_JOB_MAX};

/// Parts of one list: it is kept with its job in memory. Longer lists are inputs of their own.
pub const PARTS_MAX: usize = 1_000;

/// A list of numbers, in the order in which they were written, none of them twice: each is one task, and two that cannot be
/// told apart are a slip of the pen. Its encoding is its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Numbers {
    /// At least one.
    parts: Vec<Part>,
}

/// `count` numbers from `first` on, each `step` after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    first: u64,
    step: u64,
    /// At least one; the last number fits.
    count: u32,
}

/// The text does not list numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNumbersError {
    #[error(
        "`{0}` is not a list of numbers\nhint: write FIRST-LAST, FIRST-LAST:STEP or single numbers, with commas between them: 0-999, 0-10:2, 1,3,5"
    )]
    Form(String),
    #[error("`{0}` ends before it begins\nhint: write FIRST-LAST, for example 0-999")]
    Backwards(String),
    #[error("the step of `{0}` is 0\nhint: write FIRST-LAST:STEP, for example 0-10:2")]
    Step(String),
    #[error(
        "`{text}` is {tasks} tasks, and a job has at most {max}\nhint: split it over several jobs, the first with 0-{last}",
        tasks = grouped(*tasks), max = grouped(TASKS_PER_JOB_MAX.into()), last = TASKS_PER_JOB_MAX - 1
    )]
    TooMany { text: String, tasks: u64 },
    #[error(
        "the list names {0} twice\nhint: write each number once, since each is one task; `--each-line FILE` takes lines that are alike"
    )]
    Twice(u64),
    #[error("the list has {0} parts and {PARTS_MAX} are allowed\nhint: put the numbers into a file and use --each-line")]
    TooLong(usize),
}

impl Part {
    fn last(self) -> u64 {
        self.first + self.step * u64::from(self.count - 1)
    }

    /// The first number that both have.
    fn shared(self, other: Self) -> Option<u64> {
        let (from, to) = (self.first.max(other.first), self.last().min(other.last()));
        if from > to {
            return None;
        }
        let [first, step, other_first, other_step] = [self.first, self.step, other.first, other.step].map(i128::from);
        let (common, inverse) = bezout(step, other_step);
        if (other_first - first) % common != 0 {
            return None;
        }
        // Numbers of both lie `apart` from each other, and the first of them `turns` steps from this one's first.
        let turn = other_step / common;
        let [way, inverse, turn] =
            [((other_first - first) / common).rem_euclid(turn), inverse.rem_euclid(turn), turn].map(i128::unsigned_abs);
        let (step, turns) = (step.unsigned_abs(), way * inverse % turn);
        let (met, apart) = ((step * turns).checked_add(self.first.into())?, step * turn);
        let missing = u128::from(from).saturating_sub(met).div_ceil(apart);
        let met = met.checked_add(missing.checked_mul(apart)?)?;
        u64::try_from(met).ok().filter(|met| *met <= to)
    }
}

/// The greatest common divisor of two numbers, and how often the first goes into it, but for multiples of the second.
fn bezout(one: i128, other: i128) -> (i128, i128) {
    let (mut before, mut rest) = ((one, 1), (other, 0));
    while rest.0 != 0 {
        let times = before.0 / rest.0;
        (before, rest) = (rest, (before.0 - times * rest.0, before.1 - times * rest.1));
    }
    before
}

impl Numbers {
    /// How many they are.
    pub fn count(&self) -> u32 {
        self.parts.iter().map(|part| part.count).sum()
    }

    /// The number at this place.
    pub fn get(&self, index: u32) -> Option<u64> {
        let mut left = index;
        for part in &self.parts {
            if left < part.count {
                return Some(part.first + part.step * u64::from(left));
            }
            left -= part.count;
        }
        None
    }

    /// The first number and how many they are, if each is one more than the one before.
    pub fn as_range(&self) -> Option<(u64, u32)> {
        match self.parts[..] {
            [Part { first, step, count }] if step == 1 || count == 1 => Some((first, count)),
            _ => None,
        }
    }
}

impl FromStr for Part {
    type Err = ParseNumbersError;

    fn from_str(text: &str) -> Result<Self, ParseNumbersError> {
        let quoted = || text.chars().take(64).collect::<String>();
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().ok()).flatten().ok_or_else(|| ParseNumbersError::Form(quoted()))
        };
        let (span, step) = match text.split_once(':') {
            Some((span, step)) if span.contains('-') => (span, number(step)?),
            Some(_) => return Err(ParseNumbersError::Form(quoted())),
            None => (text, 1),
        };
        let (first, last) = span.split_once('-').unwrap_or((span, span));
        let (first, last) = (number(first)?, number(last)?);
        if step == 0 {
            return Err(ParseNumbersError::Step(quoted()));
        }
        let length = last.checked_sub(first).ok_or_else(|| ParseNumbersError::Backwards(quoted()))?;
        let tasks = (length / step).saturating_add(1);
        let count = u32::try_from(tasks).ok().filter(|count| *count <= TASKS_PER_JOB_MAX);
        let count = count.ok_or_else(|| ParseNumbersError::TooMany { text: quoted(), tasks })?;
        // Of one number a step says nothing, and it is not printed.
        Ok(Self { first, step: if count == 1 { 1 } else { step }, count })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { first, count: 1, .. } => write!(f, "{first}"),
            Self { first, step: 1, .. } => write!(f, "{first}-{}", self.last()),
            Self { first, step, .. } => write!(f, "{first}-{}:{step}", self.last()),
        }
    }
}

impl FromStr for Numbers {
    type Err = ParseNumbersError;

    fn from_str(text: &str) -> Result<Self, ParseNumbersError> {
        let named = text.split(',').count();
        if named > PARTS_MAX {
            return Err(ParseNumbersError::TooLong(named));
        }
        let parts = text.split(',').map(|part| part.trim().parse()).collect::<Result<Vec<Part>, _>>()?;
        let tasks: u64 = parts.iter().map(|part| u64::from(part.count)).sum();
        if tasks > TASKS_PER_JOB_MAX.into() {
            return Err(ParseNumbersError::TooMany { text: text.chars().take(64).collect(), tasks });
        }
        match twice(&parts) {
            Some(number) => Err(ParseNumbersError::Twice(number)),
            None => Ok(Self { parts }),
        }
    }
}

/// A number that is in two of the parts.
fn twice(parts: &[Part]) -> Option<u64> {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable_by_key(|part| part.first);
    // Behind one that begins beyond its end nothing meets a part.
    let after = |place: usize, part: &Part| {
        let end = part.last();
        sorted[place + 1..].iter().take_while(move |other| other.first <= end)
    };
    let mut met = sorted.iter().enumerate().flat_map(|(place, part)| after(place, part).map(|other| part.shared(*other)));
    met.find_map(|met| met)
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for part in &self.parts {
            write!(f, "{separator}{part}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for Numbers {
    type Error = ParseNumbersError;

    fn try_from(text: String) -> Result<Self, ParseNumbersError> {
        text.parse()
    }
}

impl From<Numbers> for String {
    fn from(numbers: Numbers) -> Self {
        numbers.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<u64> {
        let numbers: Numbers = text.parse().expect("numbers");
        assert_eq!(numbers.to_string().parse(), Ok(numbers.clone()), "{text}");
        assert_eq!(numbers.get(numbers.count()), None);
        (0..numbers.count()).map(|index| numbers.get(index).expect("a number")).collect()
    }

    #[test]
    fn spans_steps_and_single_numbers_may_stand_together() {
        assert_eq!(all("0-3"), [0, 1, 2, 3]);
        assert_eq!(all("0-10:2"), [0, 2, 4, 6, 8, 10]);
        assert_eq!(all("0-9:4"), [0, 4, 8], "the last is the last that is reached");
        assert_eq!((all("2-2:30"), all("2-5:30")), (vec![2], vec![2]), "one number, whatever the step");
        assert_eq!("2-5:30".parse::<Numbers>(), "2".parse());
        assert_eq!(all("1,3,5"), [1, 3, 5]);
        assert_eq!(all("7, 0-4:2,5"), [7, 0, 2, 4, 5]);
        assert_eq!(all("18446744073709551615"), [u64::MAX]);
        assert_eq!(all("0-18446744073709551615:9223372036854775807"), [0, u64::MAX / 2, u64::MAX - 1]);
    }

    #[test]
    fn a_number_that_is_named_twice_is_refused_by_its_name() {
        let twice = |text: &str| match text.parse::<Numbers>() {
            Err(ParseNumbersError::Twice(number)) => Some(number),
            other => other.map(|_| None).expect(text),
        };
        for (text, number) in [
            ("1,1", 1),
            ("3,1,2,1", 1),
            ("0-10,5", 5),
            ("5,0-10", 5),
            ("0-10:2,3-9:3", 6),
            ("3-9:3,0-10:2", 6),
            ("0-9,9-20", 9),
            ("1-100:7,1-100:11", 1),
            ("2-100:7,1-100:11", 23),
            ("18446744073709551615,18446744073709551615", u64::MAX),
            ("0-18446744073709551615:9223372036854775807,9223372036854775807", u64::MAX / 2),
        ] {
            assert_eq!(twice(text), Some(number), "{text}");
        }
        for text in ["0-10:2,1-9:2", "0-4,5-9", "0-9:3,1-9:3,2-9:3", "1,2,3", "0-100:10,5-95:10", "0-20:6,3-21:6"] {
            assert_eq!(twice(text), None, "{text}");
        }
        assert!("1,1".parse::<Numbers>().expect_err("twice").to_string().starts_with("the list names 1 twice\nhint: "));
    }

    proptest::proptest! {
        #[test]
        fn two_parts_share_just_what_their_numbers_do(first: [u8; 3], other: [u8; 3]) {
            let part = |[first, step, count]: [u8; 3]| {
                Part { first: first.into(), step: u64::from(step % 16) + 1, count: u32::from(count % 32) + 1 }
            };
            let (one, other) = (part(first), part(other));
            let all = |part: Part| (0..u64::from(part.count)).map(move |at| part.first + part.step * at);
            let met = all(one).find(|number| all(other).any(|other| other == *number));
            proptest::prop_assert_eq!(one.shared(other), met);
        }
    }

    #[test]
    fn what_is_one_range_is_known_as_one() {
        let range = |text: &str| text.parse::<Numbers>().expect("numbers").as_range();
        assert_eq!(range("5-9"), Some((5, 5)));
        assert_eq!(range("7"), Some((7, 1)));
        assert_eq!((range("0-10:2"), range("1,2")), (None, None));
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        for text in ["", "a", "1,", "1-", "-5", "+5", "1-2-3", "5:2", "1;2"] {
            assert!(matches!(text.parse::<Numbers>(), Err(ParseNumbersError::Form(_))), "{text}");
        }
        assert_eq!("9-3".parse::<Numbers>(), Err(ParseNumbersError::Backwards("9-3".into())));
        assert_eq!("0-9:0".parse::<Numbers>(), Err(ParseNumbersError::Step("0-9:0".into())));
        for (text, tasks) in [
            ("0-10000000", 10_000_001),
            ("0-4294967295", 1 << 32),
            ("0-18446744073709551615", u64::MAX),
            ("0-9999999,10000000", 10_000_001),
        ] {
            assert_eq!(text.parse::<Numbers>(), Err(ParseNumbersError::TooMany { text: text.into(), tasks }));
        }
        let words = "0-100000000".parse::<Numbers>().expect_err("too many").to_string();
        assert_eq!(
            words,
            "`0-100000000` is 100,000,001 tasks, and a job has at most 10,000,000\n\
             hint: split it over several jobs, the first with 0-9999999"
        );
        assert_eq!("0-9999999".parse::<Numbers>().map(|numbers| numbers.count()), Ok(TASKS_PER_JOB_MAX));
        let long = (0..=PARTS_MAX).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(long.parse::<Numbers>(), Err(ParseNumbersError::TooLong(PARTS_MAX + 1)));
    }

    #[test]
    fn a_list_has_as_many_parts_and_numbers_as_a_job_may_have_and_no_more() {
        let parts: Vec<String> = (0..PARTS_MAX).map(|number| (2 * number).to_string()).collect();
        let longest: Numbers = parts.join(",").parse().expect("just as long as allowed");
        assert_eq!(longest.count() as usize, PARTS_MAX);
        let all: Numbers = "0-9999999".parse().expect("as many as a job may have");
        assert_eq!((all.count(), all.get(TASKS_PER_JOB_MAX - 1)), (TASKS_PER_JOB_MAX, Some(u64::from(TASKS_PER_JOB_MAX) - 1)));
        assert_eq!(all.to_string(), "0-9999999");
        for text in ["1a", "1-2a", "1-4:2a", ":2", "1-4:", "a-4", "1-4:2:2"] {
            assert!(matches!(text.parse::<Numbers>(), Err(ParseNumbersError::Form(_))), "{text}");
        }
    }

    #[test]
    fn the_text_of_a_list_is_its_shortest() {
        for (text, told) in [("1,2", "1,2"), ("3-3", "3"), ("0-10:3", "0-9:3"), ("0-4:1", "0-4"), (" 1 , 2-4 ", "1,2-4")] {
            assert_eq!(text.parse::<Numbers>().expect("numbers").to_string(), told, "{text}");
        }
    }
}
