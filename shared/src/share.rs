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
}
