//! A part of a whole, as people write it: `5%`, `0.25%`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A share in hundredths of a percent, from nothing to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(u16);

/// A text that is not a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a share\nhint: write a percentage from 0% to 100% with two decimals at most, like 5% or 0.25%")]
pub struct NoShare(String);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything, in hundredths of a percent.
    pub const WHOLE: u16 = 10_000;

    /// So many hundredths of a percent, all of it at most.
    pub const fn of_hundredths(hundredths: u16) -> Self {
        Self(if hundredths > Self::WHOLE { Self::WHOLE } else { hundredths })
    }

    /// In hundredths of a percent.
    pub const fn hundredths(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(f, "{percent}%"),
            rest if rest % 10 == 0 => write!(f, "{percent}.{}%", rest / 10),
            rest => write!(f, "{percent}.{rest:02}%"),
        }
    }
}

impl FromStr for Share {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        let no = || NoShare(text.chars().take(32).collect());
        let number = text.trim().strip_suffix('%').ok_or_else(no)?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || part.len() > 2 || !digits(whole) || !digits(part) {
            return Err(no());
        }
        let hundredths = format!("{whole}{part:0<2}").parse::<u32>().map_err(|_| no())?;
        match u16::try_from(hundredths) {
            Ok(hundredths) if hundredths <= Self::WHOLE => Ok(Self(hundredths)),
            Ok(_) | Err(_) => Err(no()),
        }
    }
}

impl TryFrom<String> for Share {
    type Error = NoShare;

    fn try_from(text: String) -> Result<Self, NoShare> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for (text, hundredths) in [("5%", 500), ("0.25%", 25), ("100%", 10_000), ("0%", 0), ("12.5%", 1_250), ("0.05%", 5)] {
            let share: Share = text.parse().expect("a share");
            assert_eq!((share.hundredths(), share.to_string()), (hundredths, text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_percentage_is_refused() {
        for text in ["5", "", "%", "101%", "-1%", "0.125%", "1e1%", "٣%", ".5%", "100.01%", "99999%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_part_of_a_percentage_has_its_bounds() {
        let read = |text: &str| text.parse::<Share>().ok().map(Share::hundredths);
        let cases = [("100%", 10_000), ("99.99%", 9_999), ("7 %", 700), (" 1% ", 100), ("007%", 700), ("1.%", 100)];
        for (text, hundredths) in cases {
            assert_eq!(read(text), Some(hundredths), "{text}");
        }
        for text in ["0100%", "1.234%", "a%", "1.a%", "1a%", "100.01%", "655.36%", "1.2.3%", "1,5%", "%%"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(Share::of_hundredths(10_001), Share::of_hundredths(10_000));
        let told = [0, 1, 10, 11, 100, 110, 111].map(|hundredths| Share::of_hundredths(hundredths).to_string());
        assert_eq!(told, ["0%", "0.01%", "0.1%", "0.11%", "1%", "1.1%", "1.11%"]);
    }
}
