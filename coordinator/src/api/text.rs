//! A value that travels as its text.

use std::{fmt, ops::Deref, str::FromStr};

use lull_shared::{amount::quoted, hint};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A value that is written as people write it, like `os=linux`, though it is kept in parts elsewhere. Identifiers and digests
/// need no such help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<T>(pub T);

impl<T> Deref for Text<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T> Deserialize<'de> for Text<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A moment that a program asks for, if there is one; what is wrong with it is told as with all texts here.
pub(super) fn moment<'de, D: Deserializer<'de>>(decoder: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    let text = Option::<std::borrow::Cow<'de, str>>::deserialize(decoder)?;
    let wrong = |text: &str| {
        let hint = "write a date, a time and how far its clock is from UTC, like 2027-03-01T06:00:00Z";
        D::Error::custom(hint::with(&format!("{} is not a moment", quoted(text)), hint))
    };
    text.map(|text| text.parse().map_err(|_| wrong(&text))).transpose()
}

#[cfg(test)]
mod tests {
    use lull_shared::zone::Zone;

    use super::*;

    #[test]
    fn values_travel_as_people_write_them() {
        let zone = Text("Europe/Amsterdam".parse::<Zone>().expect("a zone"));
        assert_eq!(serde_json::to_string(&zone).expect("it encodes"), "\"Europe/Amsterdam\"");
        assert_eq!(serde_json::from_str::<Text<Zone>>("\"Europe/Amsterdam\"").expect("it decodes"), zone);
    }

    #[test]
    fn nonsense_is_refused_with_the_form_that_works() {
        let error = serde_json::from_str::<Text<Zone>>("\"Amsterdam\"").expect_err("no zone");
        assert!(error.to_string().contains("hint: "), "{error}");
    }
}
