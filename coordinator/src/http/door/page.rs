//! How many of a list one answer has.

use std::borrow::Cow;

use lull_shared::{
    bound::{self, Bound},
    hint,
};
use serde::{Deserialize, Deserializer, de::Error as _};

/// How many of a list are asked for: at least one, and at most so many. More is refused, and not cut down in silence:
/// whoever takes a part for the whole never asks for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit<const MOST: u64>(u32);

impl<const MOST: u64> Limit<MOST> {
    /// As many as were asked for, if any were.
    pub(crate) fn or(asked: Option<Self>, default: u32) -> u32 {
        asked.map_or(default, |limit| limit.0)
    }
}

/// From a parameter, which is always a text.
impl<'de, const MOST: u64> Deserialize<'de> for Limit<MOST> {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(decoder)?;
        let bound = Bound { most: MOST, ..bound::SOME };
        bound.numbers()(&text).map(Self).map_err(|outside| {
            let words = outside.to_string();
            D::Error::custom(hint::with(hint::split(&words).0, &format!("give `limit` from 1 to {MOST}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::misread;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Asked {
        limit: Option<Limit<{ bound::JOBS_SHOWN.most }>>,
    }

    #[test]
    fn a_page_is_as_large_as_was_asked_for_or_refused_with_its_bound() {
        let asked = |limit: &str| misread::query::<Asked>(vec![("limit".into(), limit.into())]);
        let size = |limit: &str| asked(limit).map(|asked| Limit::or(asked.limit, 100));
        assert_eq!((size("1"), size("1000")), (Ok(1), Ok(1_000)));
        assert_eq!(misread::query::<Asked>(Vec::new()).map(|asked| Limit::or(asked.limit, 100)), Ok(100));
        for (limit, said) in [
            ("0", "`0` is less than 1"),
            ("1001", "`1001` is more than 1,000"),
            ("99999999999999999999999", "`99999999999999999999999` is more than 1,000"),
            ("x", "`x` is not a whole number"),
            ("", "an empty text is not a whole number"),
        ] {
            let misread = size(limit).expect_err(limit);
            assert_eq!((misread.message.as_str(), misread.hint.as_str()), (said, "give `limit` from 1 to 1000"), "{limit}");
        }
    }
}
