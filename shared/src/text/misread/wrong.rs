//! What is wrong with a value, by kind: what decoders of types say of it, and the words that are made of that.

use std::fmt;

use serde::de;

use super::{
    Kind, Misread,
    tree::{Step, Tree, article, path},
};
use crate::{
    alike,
    amount::{grouped, quoted},
    hint,
};

/// Numbers from here on are bounded by what a program can count, and not by what is meant.
const FAR: i128 = u32::MAX as i128;

/// How decoders begin when they name a type of the program.
const OURS: [&str; 6] = ["struct ", "enum ", "tuple ", "unit ", "internally ", "adjacently "];

/// What a type takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    Whole {
        least: i128,
        most: i128,
    },
    Number,
    Bool,
    Text,
    List,
    Map,
    /// One of these words.
    Words(&'static [&'static str]),
    /// One of these words as the key of the only field.
    Fields(&'static [&'static str]),
    /// In the type's own words.
    Other(String),
}

/// What a decoder says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Type(Expected),
    UnknownField {
        own: String,
        known: &'static [&'static str],
    },
    UnknownWord {
        own: String,
        known: &'static [&'static str],
    },
    Missing(&'static str),
    Twice(&'static str),
    /// In the type's own words, mostly with a hint.
    Said(String),
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wrong {
    /// The innermost first: it is found on the way back.
    steps: Vec<Step>,
    pub what: What,
}

impl Wrong {
    pub(super) fn new(what: What) -> Self {
        Self { steps: Vec::new(), what }
    }

    /// It is in this part of a value.
    pub(super) fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The way from the whole to the place.
    pub(super) fn place(&self) -> Vec<Step> {
        self.steps.iter().rev().cloned().collect()
    }

    /// The same in words, about this value at the place; `own` is what the type says of a text that it does not understand.
    pub(super) fn told(self, found: &Tree, own: Option<&str>, kind: Kind) -> Misread {
        let key = path(&self.place());
        let Kind { part, .. } = kind;
        let inside = if key.is_empty() { String::new() } else { format!(" in `{key}`") };
        let whole = |message, hint| Misread { key: String::new(), message, hint };
        match self.what {
            What::Type(expected) => {
                let (message, hint) = expected.told(found, own, kind);
                Misread { key, message, hint }
            }
            What::UnknownField { own, known } => {
                let hint = match known {
                    [] => format!("leave {} out: no {part} is taken here", quoted(&own)),
                    _ => alike::among(&own, known, part),
                };
                whole(format!("there is no {part} {}{inside}", quoted(&own)), hint)
            }
            What::UnknownWord { own, known } => {
                let expected = if matches!(found, Tree::Map(_)) { Expected::Fields(known) } else { Expected::Words(known) };
                let (_, hint) = expected.told(found, None, kind);
                let what = if matches!(found, Tree::Map(_)) { part } else { "value" };
                let hint = format!("{}{hint}", alike::question(&own, known.iter().copied()));
                Misread { key, message: format!("{} is not one of its {what}s", quoted(&own)), hint }
            }
            What::Missing(own) => whole(format!("the {part} `{own}` is missing{inside}"), format!("give `{own}`")),
            What::Twice(own) => whole(format!("the {part} `{own}` is there twice{inside}"), format!("give `{own}` once")),
            What::Said(words) => match hint::split(&words) {
                (message, Some(hint)) => Misread { key, message: message.to_owned(), hint: hint.to_owned() },
                (message, None) => {
                    let message = format!("{} cannot be used: {}", kind.told(found), message.trim_end().replace('\n', "; "));
                    Misread { key, message, hint: format!("correct this {part}, or leave it out") }
                }
            },
        }
    }
}

impl Expected {
    /// What is said of another value, and how to write a right one.
    fn told(&self, found: &Tree, own: Option<&str>, kind: Kind) -> (String, String) {
        let value = kind.told(found);
        let is_text = matches!(found, Tree::Text(_));
        let unquoted = if is_text && !kind.bare { ", without quotes" } else { "" };
        let written = |words: &[&str]| -> Vec<String> {
            words.iter().map(|word| if kind.bare { (*word).to_owned() } else { format!("\"{word}\"") }).collect()
        };
        match self {
            Self::Whole { least, most } => {
                let span = if *most < FAR {
                    format!("from {} to {}", spoken(*least), spoken(*most))
                } else {
                    format!("from {} on", spoken(*least))
                };
                match number(found, kind.bare) {
                    Some(number) if number < *least as f64 => {
                        (format!("{value} is less than {}", spoken(*least)), format!("write a whole number {span}"))
                    }
                    Some(number) if number > *most as f64 => (
                        format!("{value} is more than {}", spoken(*most)),
                        format!("write a whole number from {} to {}", spoken(*least), spoken(*most)),
                    ),
                    Some(_) | None => {
                        (format!("{value} is not a whole number"), format!("write a whole number {span}{unquoted}"))
                    }
                }
            }
            Self::Number => (format!("{value} is not a number"), format!("write a number{unquoted}")),
            Self::Bool => (format!("{value} is neither true nor false"), format!("write true or false{unquoted}")),
            Self::Text => match own {
                Some(own) => (format!("{value} is not a text"), format!("write a text in quotes; {own}")),
                None => (format!("{value} is not a text"), "write a text in quotes".to_owned()),
            },
            Self::List => (format!("{value} is not a list"), "write it in brackets, with commas between its parts".to_owned()),
            Self::Map => {
                let Kind { whole, part, .. } = kind;
                let article = article(whole);
                (format!("{value} is not {article} {whole}"), format!("write {article} {whole} with its {part}s"))
            }
            Self::Words(known) => (format!("{value} is not one of its values"), format!("write {}", alike::or(&written(known)))),
            Self::Fields(known) => {
                let Kind { whole, part, .. } = kind;
                let what = format!("{} {whole} with one {part}", article(whole));
                let message = match found {
                    Tree::Map(fields) if fields.is_empty() => format!("the {whole} is empty"),
                    Tree::Map(fields) => format!("the {whole} has {} {part}s, and one is meant", fields.len()),
                    _ => format!("{value} is not {what}"),
                };
                let hint = match own {
                    Some(shapes) => format!("write one of {shapes}"),
                    None => format!("write {what}: {}", alike::or(known)),
                };
                (message, hint)
            }
            // Names of our own types say nothing to others.
            Self::Other(words) if OURS.iter().any(|ours| words.starts_with(ours)) => Self::Map.told(found, own, kind),
            Self::Other(words) => (format!("{value} is not {words}"), format!("write {words}")),
        }
    }
}

/// The number that a value is; where everything is written bare, also that of a text.
fn number(found: &Tree, bare: bool) -> Option<f64> {
    match found {
        Tree::Whole(number) => Some(*number as f64),
        Tree::Broken(number) if number.fract() == 0.0 => Some(*number),
        Tree::Text(text) if bare => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse().ok()).flatten()
        }
        _ => None,
    }
}

fn spoken(number: i128) -> String {
    let magnitude = u64::try_from(number.unsigned_abs()).unwrap_or(u64::MAX);
    format!("{}{}", if number < 0 { "-" } else { "" }, grouped(magnitude))
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(words: T) -> Self {
        Self::new(What::Said(words.to_string()))
    }

    fn invalid_type(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Type(Expected::Other(expected.to_string())))
    }

    fn invalid_value(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Type(Expected::Other(expected.to_string())))
    }

    fn invalid_length(_found: usize, expected: &dyn de::Expected) -> Self {
        Self::new(What::Type(Expected::Other(expected.to_string())))
    }

    fn unknown_variant(own: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownWord { own: own.to_owned(), known })
    }

    fn unknown_field(own: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownField { own: own.to_owned(), known })
    }

    fn missing_field(own: &'static str) -> Self {
        Self::new(What::Missing(own))
    }

    fn duplicate_field(own: &'static str) -> Self {
        Self::new(What::Twice(own))
    }
}
