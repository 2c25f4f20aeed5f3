//! Which agents a job accepts: `os=linux`, `memory>=8GiB`, `site!=lobby`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::resources::Labels;

/// How a label's value is compared. Sizes and numbers compare by amount, all else only by equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    Equal,
    NotEqual,
    AtLeast,
    AtMost,
}

/// One condition on one label. An agent without the label satisfies only `!=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    pub label: String,
    pub comparison: Comparison,
    pub value: String,
}

impl Constraint {
    /// Whether an agent with these labels satisfies the condition.
    pub fn accepts(&self, labels: &Labels) -> bool {
        let Some(actual) = labels.get(&self.label) else {
            return self.comparison == Comparison::NotEqual;
        };
        let amounts = amount(actual).zip(amount(&self.value));
        match self.comparison {
            Comparison::Equal => amounts.map_or(actual == &self.value, |(a, b)| a == b),
            Comparison::NotEqual => amounts.map_or(actual != &self.value, |(a, b)| a != b),
            Comparison::AtLeast => amounts.is_some_and(|(a, b)| a >= b),
            Comparison::AtMost => amounts.is_some_and(|(a, b)| a <= b),
        }
    }
}

/// A number or a size (`8GiB`, `512MB`), in units or bytes.
fn amount(text: &str) -> Option<u64> {
    // What is beyond all counting comes out as the largest there is, which is another amount.
    text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64()).filter(|amount| *amount < u64::MAX)
}

/// The text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseConstraintError {
    #[error("`{0}` is not a constraint\nhint: write LABEL=VALUE, LABEL!=VALUE, LABEL>=NUMBER or LABEL<=NUMBER")]
    Form(String),
    #[error(
        "`{0}` compares by amount, and its value is not one\nhint: write a number or a size behind >= and <=, like memory>=8GiB"
    )]
    Amount(String),
}

impl FromStr for Constraint {
    type Err = ParseConstraintError;

    fn from_str(text: &str) -> Result<Self, ParseConstraintError> {
        let operators =
            [("!=", Comparison::NotEqual), (">=", Comparison::AtLeast), ("<=", Comparison::AtMost), ("=", Comparison::Equal)];
        let found = operators.iter().find_map(|(sign, comparison)| text.split_once(sign).map(|parts| (parts, *comparison)));
        let Some(((label, value), comparison)) = found else {
            return Err(ParseConstraintError::Form(text.to_owned()));
        };
        let (label, value) = (label.trim(), value.trim());
        if !is_name(label) || value.is_empty() || value.contains(['=', '<', '>']) {
            return Err(ParseConstraintError::Form(text.to_owned()));
        }
        if matches!(comparison, Comparison::AtLeast | Comparison::AtMost) && amount(value).is_none() {
            return Err(ParseConstraintError::Amount(text.to_owned()));
        }
        Ok(Self { label: label.to_owned(), comparison, value: value.to_owned() })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.comparison {
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::AtLeast => ">=",
            Comparison::AtMost => "<=",
        };
        write!(f, "{}{sign}{}", self.label, self.value)
    }
}

/// Whether the text can name a label, a function or an agent: letters, digits, `-`, `_` and `.`, at most
/// [`crate::limits::NAME_BYTES_MAX`], beginning with a letter or digit.
pub fn is_name(text: &str) -> bool {
    text.len() <= crate::limits::NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        [("os", "linux"), ("memory", "8589934592"), ("site", "berlin")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    fn accepts(text: &str) -> bool {
        text.parse::<Constraint>().expect("a constraint").accepts(&labels())
    }

    #[test]
    fn amounts_compare_by_size_and_names_by_equality() {
        assert!(accepts("os=linux") && !accepts("os=windows") && accepts("os!=windows"));
        assert!(accepts("memory>=8GiB") && accepts("memory>=8GB") && !accepts("memory>=9GiB") && accepts("memory<=8GiB"));
    }

    #[test]
    fn a_missing_label_satisfies_only_not_equal() {
        assert!(!accepts("gpu=yes") && accepts("gpu!=yes") && !accepts("gpu>=1") && !accepts("gpu<=1"));
    }

    #[test]
    fn nonsense_is_refused_with_the_form_that_works() {
        for text in ["linux", "=x", "os=", "a b=c", "os==linux"] {
            assert!(matches!(text.parse::<Constraint>(), Err(ParseConstraintError::Form(_))), "{text}");
        }
        for text in ["os>=linux", "memory>=99999999999999999999TiB", "cores<=99999999999999999999"] {
            assert!(matches!(text.parse::<Constraint>(), Err(ParseConstraintError::Amount(_))), "{text}");
        }
    }

    #[test]
    fn each_comparison_says_yes_and_no_by_amount_and_by_word() {
        // The condition, and what it says of a machine with less, the same and more of it.
        let cases = [
            ("cores=8", [false, true, false]),
            ("cores!=8", [true, false, true]),
            ("cores>=8", [false, true, true]),
            ("cores<=8", [true, true, false]),
        ];
        for (text, says) in cases {
            let constraint: Constraint = text.parse().expect("a constraint");
            assert_eq!(constraint.to_string(), text);
            let said = ["7", "8", "9"].map(|cores| constraint.accepts(&[("cores".to_owned(), cores.to_owned())].into()));
            assert_eq!(said, says, "{text}");
        }
        assert!(accepts("memory=8GiB") && !accepts("memory!=8GiB"), "sizes are the same however they are written");
        assert!(!accepts("site!=berlin") && accepts("site=berlin"));
        assert!(!accepts("os>=1") && !accepts("os<=1"), "a word is no amount");
    }

    #[test]
    fn what_is_not_a_constraint_is_refused_whatever_is_wrong_with_it() {
        for text in ["-x=1", "x y=1", "x=", "x=a=b", "x=a<b", "x=a>b", "x=>1", "=1", "!=1", ">=1", "x>="] {
            assert!(matches!(text.parse::<Constraint>(), Err(ParseConstraintError::Form(_))), "{text}");
        }
        for text in ["x>=many", "x<=many"] {
            assert!(matches!(text.parse::<Constraint>(), Err(ParseConstraintError::Amount(_))), "{text}");
        }
        for text in ["x=many", "x!=many", "x>=1", "x<=8GiB"] {
            assert!(text.parse::<Constraint>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_name_is_of_letters_digits_and_three_signs_up_to_its_bound() {
        let longest = "x".repeat(crate::limits::NAME_BYTES_MAX);
        for name in ["a", "7", "a-b_c.d", "A1", longest.as_str()] {
            assert!(is_name(name), "{name}");
        }
        let longer = format!("{longest}x");
        for name in ["", "-a", "_a", ".a", "a b", "a/b", "ä", "a\n", longer.as_str()] {
            assert!(!is_name(name), "{name}");
        }
    }
}
