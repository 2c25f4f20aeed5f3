//! Exit codes that mean success: `0`, `0,3-5`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A set of exit codes, from 0 to 255. Its encoding is its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExitCodes {
    /// First and last, both included: disjoint, ascending, at least one.
    spans: Vec<(u8, u8)>,
}

/// The text does not name exit codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not name exit codes\nhint: write numbers from 0 to 255 and spans of them, with commas between them: 0,3-5")]
pub struct NoExitCodes(String);

impl ExitCodes {
    /// Whether it holds this code.
    pub fn contains(&self, code: i32) -> bool {
        u8::try_from(code).is_ok_and(|code| self.spans.iter().any(|(first, last)| (*first..=*last).contains(&code)))
    }

    /// Only 0, as everywhere.
    pub fn is_usual(&self) -> bool {
        self.spans == [(0, 0)]
    }
}

impl Default for ExitCodes {
    fn default() -> Self {
        Self { spans: vec![(0, 0)] }
    }
}

impl FromStr for ExitCodes {
    type Err = NoExitCodes;

    fn from_str(text: &str) -> Result<Self, NoExitCodes> {
        let no = || NoExitCodes(text.chars().take(64).collect());
        let number = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u8>().ok()).flatten().ok_or_else(no)
        };
        let mut named = [false; 256];
        for part in text.split(',') {
            let part = part.trim();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(no());
            }
            named[usize::from(first)..=usize::from(last)].fill(true);
        }
        let mut spans: Vec<(u8, u8)> = Vec::new();
        for code in (0..=u8::MAX).filter(|code| named[usize::from(*code)]) {
            match spans.last_mut() {
                Some((_, last)) if *last + 1 == code => *last = code,
                Some(_) | None => spans.push((code, code)),
            }
        }
        Ok(Self { spans })
    }
}

impl fmt::Display for ExitCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (first, last) in &self.spans {
            match first == last {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for ExitCodes {
    type Error = NoExitCodes;

    fn try_from(text: String) -> Result<Self, NoExitCodes> {
        text.parse()
    }
}

impl From<ExitCodes> for String {
    fn from(codes: ExitCodes) -> Self {
        codes.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> ExitCodes {
        text.parse().expect("codes")
    }

    #[test]
    fn what_is_named_is_a_set() {
        let some = codes("5,0, 3-4,255");
        assert_eq!(some.to_string(), "0,3-5,255");
        assert!([0, 3, 4, 5, 255].into_iter().all(|code| some.contains(code)));
        assert!([-1, 1, 2, 6, 254, 256, 259].into_iter().all(|code| !some.contains(code)));
        assert!(codes("0").is_usual() && codes("0-0").is_usual() && !codes("0,1").is_usual());
        assert_eq!(codes("0-255").to_string(), "0-255");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "256", "-1", "5-3", "0,", "a", "+1"] {
            assert!(text.parse::<ExitCodes>().is_err(), "{text}");
        }
    }

    #[test]
    fn neighbours_are_one_span_and_all_others_are_spans_of_their_own() {
        for (text, told) in [("1,2", "1-2"), ("1,3", "1,3"), ("7-7", "7"), ("9,8,7", "7-9"), ("0-3,2-5", "0-5"), ("1 ,2", "1-2")]
        {
            assert_eq!(codes(text).to_string(), told, "{text}");
            assert_eq!(codes(told), codes(text), "{text}");
        }
        assert!(ExitCodes::default().is_usual() && !codes("1").is_usual() && !codes("0-1").is_usual());
        for text in ["1a", "a1", "1-", "-", "1--2", "1-2-3", "4-2"] {
            assert!(text.parse::<ExitCodes>().is_err(), "{text}");
        }
    }
}
