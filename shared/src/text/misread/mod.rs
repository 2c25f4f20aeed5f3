//! What is wrong with a text that somebody wrote, in words for people: which key, what is wrong, and what to write.
//!
//! ```text
//! a body, a file, a query, a path --> Tree --> Value, asked by a type --> the type's value
//!                                                     |
//!                                                     v
//!                                      Wrong, by kind and place --> Misread, in words
//! ```
//! Decoders of formats say whether a text is one of the format. What a type makes of the values is decoded here, since every
//! method of [`decode`] knows what it was asked for: nothing is read out of a decoder's English.

mod decode;
mod tree;
mod wrong;

use std::fmt;

use serde::Deserialize;

use self::tree::Step;
pub use self::tree::Tree;
use crate::amount::quoted;

/// What is decoded, and what its parts are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// One part: `field`.
    pub part: &'static str,
    /// Parts in one: `object`.
    pub whole: &'static str,
    /// Every value is a text without quotes, a number too.
    pub bare: bool,
}

/// The body of a request.
pub const JSON: Kind = Kind { part: "field", whole: "object", bare: false };
/// A file of settings.
pub const TOML: Kind = Kind { part: "setting", whole: "table", bare: false };
/// What stands behind the question mark of an address.
pub const QUERY: Kind = Kind { part: "parameter", whole: "text", bare: true };
/// What stands in the path of an address.
pub const PATH: Kind = Kind { part: "part of the path", whole: "text", bare: true };

impl Kind {
    fn told(self, found: &Tree) -> String {
        found.told(self.whole, self.bare)
    }
}

/// A text that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Misread {
    /// Where it is wrong, like `after[0].job`; empty if that is not in one place.
    pub key: String,
    pub message: String,
    pub hint: String,
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\nhint: {}", self.message, self.hint)
    }
}

/// The values of a text in the format of this kind, as what is asked for.
pub fn decode<T: for<'de> Deserialize<'de>>(tree: Tree, kind: Kind) -> Result<T, Misread> {
    decode::decode(tree, kind)
}

/// The text of a file of settings, decoded.
pub fn toml<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Misread> {
    let tree: Tree = toml::from_str(text).map_err(|error| not_toml(text, &error))?;
    decode(tree, TOML)
}

/// What is wrong with the form of a file of settings, by its line.
fn not_toml(text: &str, error: &toml::de::Error) -> Misread {
    let start = error.span().map(|span| span.start.min(text.len()));
    let line = start.map(|start| text[..start].matches('\n').count());
    let place = line.map(|line| format!("line {}: ", line + 1)).unwrap_or_default();
    let written = line.and_then(|line| text.lines().nth(line)).unwrap_or_default().trim();
    let told = |message: String, hint: String| Misread { key: String::new(), message: format!("{place}{message}"), hint };
    let (key, value) = written.split_once('=').map_or((written, None), |(key, value)| (key.trim(), Some(value.trim())));
    let bare_word =
        |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_/.:".contains(&byte));
    match value {
        _ if error.message().contains("duplicate key") => {
            told(format!("{} is there twice", quoted(key)), "keep one of the lines, and remove the other".to_owned())
        }
        Some("") => told(
            format!("{} has no value", quoted(key)),
            "write one behind the `=`, or remove the line: every setting has a default".to_owned(),
        ),
        Some(value) if bare_word(value) => told(
            format!("the value of {}, {}, is not in quotes", quoted(key), quoted(value)),
            format!("write {key} = \"{value}\"; only numbers, true and false stand without quotes"),
        ),
        _ => told(
            format!("{} cannot be read as a setting", quoted(written)),
            "write one `key = value` a line, with texts in quotes".to_owned(),
        ),
    }
}

/// What stands behind the question mark of an address, decoded.
pub fn query<T: for<'de> Deserialize<'de>>(pairs: Vec<(String, String)>) -> Result<T, Misread> {
    decode(named(pairs), QUERY)
}

/// The values in the path of an address by their names, decoded: one alone as itself, several in turn.
pub fn path<T: for<'de> Deserialize<'de>>(mut pairs: Vec<(String, String)>) -> Result<T, Misread> {
    match pairs.pop() {
        Some((name, value)) if pairs.is_empty() => {
            let decoded = decode(Tree::Text(value), PATH);
            decoded.map_err(|misread| Misread { key: tree::path(&[Step::Key(name)]), ..misread })
        }
        last => {
            pairs.extend(last);
            decode(named(pairs), PATH)
        }
    }
}

fn named(pairs: Vec<(String, String)>) -> Tree {
    Tree::Map(pairs.into_iter().map(|(name, value)| (name, Tree::Text(value))).collect())
}

#[cfg(test)]
mod tests;
