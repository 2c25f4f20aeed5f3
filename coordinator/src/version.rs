//! Which version of a function is meant: `stats`, `stats@3`, `stats@stable`, `stats@latest`.

use std::{fmt, str::FromStr};

use lull_shared::{
    amount::quoted,
    constraint::is_name,
    name::{NameError, check_name},
};

/// The label that a function's name alone stands for, if a version has it.
pub const STABLE: &str = "stable";
/// The word for the newest version.
const LATEST: &str = "latest";

/// One of a function's versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Which {
    /// The one that is called stable, or else the newest.
    #[default]
    Usual,
    Newest,
    Number(u32),
    /// The one that has this label.
    Label(String),
}

/// A function, and one of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub function: String,
    pub which: Which,
}

/// A text that names no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} does not name a version\nhint: write NAME, NAME@NUMBER, NAME@LABEL or NAME@latest, like stats, stats@2 or stats@stable", quoted(.0))]
pub struct NoVersion(String);

impl FromStr for Which {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        if text == LATEST {
            return Ok(Self::Newest);
        }
        if let Some(number) = text.parse().ok().filter(|_| text.bytes().all(|digit| digit.is_ascii_digit())) {
            return Ok(Self::Number(number));
        }
        check_label(text).map(|()| Self::Label(text.to_owned())).map_err(|_| NoVersion(text.to_owned()))
    }
}

impl FromStr for Named {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let wrong = || NoVersion(text.to_owned());
        let (function, which) = match text.split_once('@') {
            None => (text, Which::Usual),
            Some((function, which)) => (function, which.parse().map_err(|_| wrong())?),
        };
        if is_name(function) { Ok(Self { function: function.to_owned(), which }) } else { Err(wrong()) }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => Ok(()),
            Self::Newest => write!(f, "@{LATEST}"),
            Self::Number(number) => write!(f, "@{number}"),
            Self::Label(label) => write!(f, "@{label}"),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.function, self.which)
    }
}

/// Whether a version can be labelled so.
pub fn check_label(text: &str) -> Result<(), NameError> {
    check_name(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_by_its_number_its_label_or_not_at_all() {
        let named = |text: &str| text.parse::<Named>().map(|named| (named.function, named.which));
        assert_eq!(named("stats"), Ok(("stats".into(), Which::Usual)));
        assert_eq!(named("stats@3"), Ok(("stats".into(), Which::Number(3))));
        assert_eq!(named("stats@stable"), Ok(("stats".into(), Which::Label("stable".into()))));
        assert_eq!(named("stats@latest"), Ok(("stats".into(), Which::Newest)));
        for wrong in ["stats@", "@3", "stats@a b", "stats@+3", "stats@v3", "a b", "stats@3@4"] {
            assert_eq!(named(wrong), Err(NoVersion(wrong.into())), "{wrong}");
        }
        for text in ["stats", "stats@3", "stats@stable", "stats@latest"] {
            assert_eq!(text.parse::<Named>().map(|named| named.to_string()), Ok(text.into()));
        }
    }
}
