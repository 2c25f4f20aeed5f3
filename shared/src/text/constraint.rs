//! Which agents a job accepts: `os=linux`, `memory=8GiB+`, `site!=lobby`.
//!
//! At least and at most are written with a sign behind the amount, since a shell takes `>` and `<` for itself: an unquoted
//! `memory>=8GiB` is the word `memory` and a file called `=8GiB`. In quotes that form is understood, too.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{amount::quoted, resources::Labels};

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

/// What machines say of themselves in numbers: a word can never be what they say.
const AMOUNTS: [&str; 2] = ["cores", "memory"];

/// A number or a size (`8GiB`, `512MB`), in units or bytes.
fn amount(text: &str) -> Option<u64> {
    // What is beyond all counting comes out as the largest there is, which is another amount.
    text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64()).filter(|amount| *amount < u64::MAX)
}

/// The text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseConstraintError {
    #[error(
        "{} is not a constraint\nhint: write LABEL=VALUE or LABEL!=VALUE, LABEL=NUMBER+ for at least and LABEL=NUMBER- for at most, \
         like os=linux or memory=8GiB+{}",
        quoted(.0),
        taken_by_a_shell(.0)
    )]
    Form(String),
    #[error("{} compares by amount, and its value is not one\nhint: write a number or a size, like memory=8GiB+", quoted(.0))]
    Amount(String),
}

/// What is left of a constraint whose sign a shell took for itself.
fn taken_by_a_shell(text: &str) -> &'static str {
    let left = text.trim();
    if left.is_empty() || is_name(left) { "; an unquoted > or < is the shell's, and + and - are not" } else { "" }
}

/// The amount before a sign that says which way it is meant.
fn signed(value: &str) -> Option<(Comparison, &str)> {
    let (comparison, rest) = match (value.strip_suffix('+'), value.strip_suffix('-')) {
        (Some(rest), _) => (Comparison::AtLeast, rest),
        (None, Some(rest)) => (Comparison::AtMost, rest),
        (None, None) => return None,
    };
    let rest = rest.trim_end();
    amount(rest).map(|_| (comparison, rest))
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
        let bare = value.strip_suffix(['+', '-']).unwrap_or(value);
        if AMOUNTS.contains(&label) && amount(bare.trim_end()).is_none() {
            return Err(ParseConstraintError::Amount(text.to_owned()));
        }
        let (comparison, value) = match comparison {
            Comparison::Equal => signed(value).unwrap_or((comparison, value)),
            Comparison::NotEqual | Comparison::AtLeast | Comparison::AtMost => (comparison, value),
        };
        Ok(Self { label: label.to_owned(), comparison, value: value.to_owned() })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, behind) = match self.comparison {
            Comparison::Equal => ("=", ""),
            Comparison::NotEqual => ("!=", ""),
            Comparison::AtLeast => ("=", "+"),
            Comparison::AtMost => ("=", "-"),
        };
        write!(f, "{}{sign}{}{behind}", self.label, self.value)
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
    fn what_machines_say_in_numbers_is_compared_with_numbers_only() {
        for value in ["8GB++", "8QB+", "abc+", "two", "++", "-5+", "8GiB+-", "1.5x+"] {
            for condition in [format!("memory={value}"), format!("cores={value}"), format!("memory!={value}")] {
                let refused = condition.parse::<Constraint>();
                assert_eq!(refused, Err(ParseConstraintError::Amount(condition.clone())), "{condition}");
            }
        }
        let word: Constraint = "lang=c++".parse().expect("of other labels a sign is a letter");
        assert_eq!((word.comparison, word.value.as_str()), (Comparison::Equal, "c++"));
    }

    #[test]
    fn each_comparison_says_yes_and_no_by_amount_and_by_word() {
        // The condition, and what it says of a machine with less, the same and more of it.
        let cases = [
            ("cores=8", "cores=8", [false, true, false]),
            ("cores!=8", "cores!=8", [true, false, true]),
            ("cores=8+", "cores=8+", [false, true, true]),
            ("cores=8-", "cores=8-", [true, true, false]),
            ("cores>=8", "cores=8+", [false, true, true]),
            ("cores<=8", "cores=8-", [true, true, false]),
        ];
        for (text, told, says) in cases {
            let constraint: Constraint = text.parse().expect("a constraint");
            assert_eq!(constraint.to_string(), told);
            assert_eq!(told.parse(), Ok(constraint.clone()), "what is told can be written");
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
    fn a_sign_behind_an_amount_says_which_way_it_is_meant_and_behind_a_word_nothing() {
        assert!(accepts("memory=8GiB+") && accepts("memory=4GiB +") && !accepts("memory=9GiB+") && accepts("memory=8GiB-"));
        for (text, comparison, value) in [
            ("memory=8GiB+", Comparison::AtLeast, "8GiB"),
            ("cores=4 -", Comparison::AtMost, "4"),
            ("grade=A+", Comparison::Equal, "A+"),
            ("site=berlin-", Comparison::Equal, "berlin-"),
            ("cores!=4+", Comparison::NotEqual, "4+"),
        ] {
            let expected =
                Constraint { label: text.split(['=', '!']).next().unwrap_or_default().into(), comparison, value: value.into() };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_a_shell_leaves_of_a_constraint_is_told_with_the_form_that_needs_no_quotes() {
        let said = |text: &str| text.parse::<Constraint>().expect_err(text).to_string();
        for left in ["memory", "", "  "] {
            assert!(said(left).contains("like os=linux or memory=8GiB+; an unquoted > or < is the shell's"), "{}", said(left));
        }
        assert!(said("").starts_with("an empty text is not a constraint\nhint: write LABEL=VALUE"), "{}", said(""));
        assert!(!said("a b=c").contains("shell"), "{}", said("a b=c"));
        assert!(said("memory>=big").ends_with("like memory=8GiB+"), "{}", said("memory>=big"));
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
