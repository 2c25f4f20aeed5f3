//! What a decoder says of a text that somebody wrote, in words for people: which key, what is wrong, and what to write.
//!
//! Decoders speak of their own types (`invalid type: string "x", expected u32`). Here that becomes `retries: "x" is not a whole
//! number`, with a hint, for JSON that came over HTTP as for a file of settings.

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_path_to_error::Segment;

use crate::amount::grouped;

/// What is decoded, and what its parts are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// One part: `field`.
    pub part: &'static str,
    /// Parts in one: `object`.
    pub whole: &'static str,
}

/// The body of a request.
pub const JSON: Kind = Kind { part: "field", whole: "object" };
/// A file of settings.
pub const TOML: Kind = Kind { part: "setting", whole: "table" };
/// What stands behind the question mark of an address.
pub const QUERY: Kind = Kind { part: "parameter", whole: "text" };

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

/// Decodes, and says where it failed; `words` are those of the decoder's error without a place.
pub fn decode<'de, D, T>(decoder: D, kind: Kind, words: impl FnOnce(&D::Error) -> String) -> Result<T, Misread>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    serde_path_to_error::deserialize(decoder).map_err(|error| {
        let mut key = String::new();
        for segment in error.path().iter() {
            match segment {
                Segment::Seq { index } => key.push_str(&format!("[{index}]")),
                Segment::Unknown => {}
                Segment::Map { key: own } | Segment::Enum { variant: own } if key.is_empty() => key.push_str(own),
                Segment::Map { key: own } | Segment::Enum { variant: own } => key.push_str(&format!(".{own}")),
            }
        }
        reworded(&key, &words(error.inner()), kind)
    })
}

/// The text of a file of settings, decoded.
pub fn toml<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Misread> {
    let decoder = toml::Deserializer::parse(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        Misread {
            key: String::new(),
            message: format!("{place}{}", error.message().replace('\n', "; ")),
            hint: "write one `key = value` a line, with texts in quotes".to_owned(),
        }
    })?;
    decode(decoder, TOML, |error| error.message().to_owned())
}

/// What a decoder says of the value at a place.
pub fn reworded(key: &str, words: &str, kind: Kind) -> Misread {
    let words = words.trim_end();
    let misread = |key: &str, message: String, hint: String| Misread { key: key.to_owned(), message, hint };
    // What the value's own type says has its hint, or is about one thing only.
    if let Some((message, hint)) = words.split_once("\nhint: ") {
        return misread(key, message.to_owned(), hint.to_owned());
    }
    let Kind { part, .. } = kind;
    if let Some((own, known)) = between(words, "unknown field `", "`") {
        let parent = parent(key, own);
        let place = if parent.is_empty() { String::new() } else { format!(" in `{parent}`") };
        return misread("", format!("there is no {part} `{own}`{place}"), choice(own, known, part));
    }
    if let Some((own, known)) = between(words, "unknown variant `", "`") {
        let message = format!("`{own}` is not one of the words that are understood");
        return misread(key, message, choice(own, known, "word"));
    }
    if let Some((own, _)) = between(words, "missing field `", "`") {
        let place = if key.is_empty() { String::new() } else { format!(" in `{key}`") };
        return misread("", format!("the {part} `{own}` is missing{place}"), format!("give `{own}`"));
    }
    if let Some((own, _)) = between(words, "duplicate field `", "`") {
        return misread("", format!("the {part} `{own}` is there twice"), format!("give `{own}` once"));
    }
    for start in ["invalid type: ", "invalid value: ", "invalid length "] {
        let Some((found, expected)) = words.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected ")) else {
            continue;
        };
        let (expected, hint) = meant(expected, kind);
        return misread(key, format!("{} is not {expected}", value(found, kind)), hint);
    }
    // Those of numbers in a text.
    let number = ["digit", "number too", "integer"].iter().any(|word| words.contains(word));
    match number {
        true => misread(key, "this is not a number that can be meant".into(), "write a whole number, like 10".into()),
        false if words.contains("`true` or `false`") => {
            misread(key, "this is neither true nor false".into(), "write true or false".into())
        }
        false => misread(key, words.replace('\n', "; "), format!("correct this {part}, or leave it out")),
    }
}

/// What stands between two marks, and what follows.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(before)?.split_once(after)
}

/// The place in which the part is that a decoder named.
fn parent<'a>(key: &'a str, own: &str) -> &'a str {
    match key.strip_suffix(own) {
        Some(parent) => parent.strip_suffix('.').unwrap_or(parent),
        None => key,
    }
}

/// The words that are known, and the one that is most likely meant.
fn choice(own: &str, known: &str, part: &str) -> String {
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    if known.is_empty() { format!("leave `{own}` out") } else { among(own, &known, part) }
}

/// The words that are known, and the one that is most likely meant: one that is spelt almost so, or begins so.
pub fn among(own: &str, known: &[&str], part: &str) -> String {
    let alike = known.iter().map(|known| (distance(own, known), known)).min();
    let begins = |known: &str| own.len() > 2 && known.starts_with(own);
    let meant = alike.filter(|(distance, known)| *distance <= 1 + known.len() / 4 || begins(known));
    let meant = meant.map(|(_, known)| format!("did you mean `{known}`? ")).unwrap_or_default();
    format!("{meant}the {part}s are {}", known.join(", "))
}

/// How many letters must be changed, added or left out to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().take(64).enumerate() {
        let mut corner = std::mem::replace(&mut row[0], line + 1);
        for (column, known) in other.iter().enumerate() {
            let changed = corner + usize::from(letter != *known);
            corner = row[column + 1];
            row[column + 1] = changed.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// A value as the decoder names it: ``string "x"``, ``integer `5` ``, `map`.
fn value(found: &str, kind: Kind) -> String {
    let found = found.trim();
    if let Some((_, text)) = found.split_once(" \"") {
        let text: String = text.trim_end_matches('"').chars().take(64).collect();
        return format!("\"{text}\"");
    }
    if let Some((_, number)) = found.split_once(" `") {
        return format!("`{}`", number.trim_end_matches('`'));
    }
    match found {
        "map" => format!("{} {}", article(kind.whole), kind.whole),
        "sequence" => "a list".into(),
        "null" | "unit value" | "Option value" => "null".into(),
        other if other.starts_with(|c: char| c.is_ascii_digit()) => format!("a list of {other}"),
        other => format!("{} {other}", article(other)),
    }
}

/// What the decoder expected, and how to write it.
fn meant(expected: &str, kind: Kind) -> (String, String) {
    let Kind { whole, part } = kind;
    let number = |least: i128, most: i128| {
        let told = |number: i128| match u64::try_from(number.unsigned_abs()) {
            Ok(magnitude) => format!("{}{}", if number < 0 { "-" } else { "" }, grouped(magnitude)),
            Err(_) => number.to_string(),
        };
        let hint = format!("write a whole number from {} to {}", told(least), told(most));
        (format!("a whole number from {} to {}", told(least), told(most)), hint)
    };
    let of = |what: &str| (what.to_owned(), format!("write {what}"));
    match expected {
        "u8" => number(0, u8::MAX.into()),
        "u16" => number(0, u16::MAX.into()),
        "u32" => number(0, u32::MAX.into()),
        "u64" | "usize" => number(0, u64::MAX.into()),
        "i8" => number(i8::MIN.into(), i8::MAX.into()),
        "i16" => number(i16::MIN.into(), i16::MAX.into()),
        "i32" => number(i32::MIN.into(), i32::MAX.into()),
        "i64" => number(i64::MIN.into(), i64::MAX.into()),
        "f32" | "f64" => of("a number"),
        "a boolean" => ("true or false".to_owned(), "write true or false, without quotes".to_owned()),
        "a string" | "string" | "a borrowed string" | "a string or borrowed string" | "path string" => {
            ("a text".to_owned(), "write it in quotes".to_owned())
        }
        "a sequence" => ("a list".to_owned(), "write it in brackets, with commas between its parts".to_owned()),
        "a map" => (format!("{} {whole}", article(whole)), format!("write {} {whole} with its {part}s", article(whole))),
        "string or map" => {
            (format!("a word or {} {whole}", article(whole)), format!("write {} {whole} with one {part}", article(whole)))
        }
        other if other.starts_with("struct ") || other.starts_with("internally tagged") => {
            (format!("{} {whole}", article(whole)), format!("write {} {whole} with its {part}s", article(whole)))
        }
        other if other.starts_with("enum ") || other.starts_with("variant ") => of("one of the words that are understood"),
        other if other.starts_with("a ") || other.starts_with("an ") => of(other),
        other => (other.to_owned(), format!("write {other}")),
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::zone::Zone;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only decoded")]
    struct Asked {
        function: String,
        #[serde(default)]
        retries: Option<u32>,
        #[serde(default)]
        priority: i8,
        #[serde(default)]
        after: Vec<After>,
        #[serde(default)]
        zone: Option<Zone>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        #[serde(default)]
        on: bool,
        #[serde(default)]
        form: Form,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only decoded")]
    struct After {
        job: String,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Form {
        #[default]
        Plain,
        Range {
            #[expect(dead_code, reason = "only decoded")]
            count: u32,
        },
    }

    /// What is said of one wrong text.
    fn said(text: &str) -> String {
        toml::<Asked>(text).expect_err(text).to_string()
    }

    #[test]
    fn the_key_is_named_and_what_it_takes() {
        let cases = [
            (
                "retries = 'many'",
                "retries: \"many\" is not a whole number from 0 to 4,294,967,295\nhint: write a whole number from 0",
            ),
            ("retries = -1", "retries: `-1` is not a whole number from 0"),
            ("priority = 300", "priority: `300` is not a whole number from -128 to 127\nhint: write a whole number"),
            ("function = 5", "function: `5` is not a text\nhint: write it in quotes"),
            (
                "prioritty = 1",
                "there is no setting `prioritty`\nhint: did you mean `priority`? the settings are function, retries",
            ),
            ("after = [{ job = 'j1' }, { jop = 'j1' }]", "there is no setting `jop` in `after[1]`\nhint: did you mean `job`?"),
            ("after = [{}]", "the setting `job` is missing in `after[0]`\nhint: give `job`"),
            ("after = 'j1'", "after: \"j1\" is not a list\nhint: write it in brackets"),
            ("zone = 'Mars/Base'", "zone: `Mars/Base` is not the name of a time zone\nhint: write one like"),
            ("labels = { site = 1 }", "labels.site: `1` is not a text"),
            ("labels = []", "labels: a list is not a table\nhint: write a table with its settings"),
            ("on = 'yes'", "on: \"yes\" is not true or false\nhint: write true or false, without quotes"),
            ("form = 'plan'", "form: `plan` is not one of the words that are understood\nhint: did you mean `plain`?"),
            ("form = { range = { count = 'x' } }", "form.range.count: \"x\" is not a whole number"),
        ];
        for (text, expected) in cases {
            let text = if text.starts_with("function") { text.to_owned() } else { format!("function = 'f'\n{text}") };
            assert!(said(&text).contains(expected), "{text}: {}", said(&text));
        }
        assert_eq!(said("retries = 1"), "the setting `function` is missing\nhint: give `function`");
    }

    #[test]
    fn nothing_is_said_without_a_hint_and_none_names_a_type_of_ours() {
        for text in [
            "function = {}",
            "function = 'f'\nform = 5",
            "function = 'f'\nform = {}",
            "function = 'f'\nform = []",
            "x",
            "[function]",
        ] {
            let said = said(text);
            assert!(said.lines().last().is_some_and(|line| line.starts_with("hint: ")), "{text}: {said}");
            for ours in ["Asked", "After", "Form", "struct", "enum", "u32"] {
                assert!(!said.contains(ours), "{text}: {said}");
            }
        }
    }

    #[test]
    fn words_of_other_decoders_are_understood_too() {
        let told = |words: &str| reworded("inputs", words, JSON).to_string();
        assert_eq!(
            told("invalid type: null, expected u64").lines().next(),
            Some("inputs: null is not a whole number from 0 to 18,446,744,073,709,551,615")
        );
        assert_eq!(told("invalid type: map, expected a string"), "inputs: an object is not a text\nhint: write it in quotes");
        assert_eq!(
            told("invalid digit found in string"),
            "inputs: this is not a number that can be meant\nhint: write a whole number, like 10"
        );
        assert_eq!(told("duplicate field `name`"), "the field `name` is there twice\nhint: give `name` once");
        assert_eq!(told("something else"), "inputs: something else\nhint: correct this field, or leave it out");
    }

    #[test]
    fn a_file_of_settings_is_told_by_its_line_where_it_is_none() {
        let said = |text: &str| toml::<Asked>(text).expect_err(text).to_string();
        assert!(said("function = \"f\"\nretries 5").starts_with("line 2: "), "{}", said("function = \"f\"\nretries 5"));
        assert!(said("function = \"f\"\nretries 5").contains("\nhint: write one `key = value` a line"));
        assert_eq!(
            said("function = \"f\"\nretries = -1").lines().next(),
            Some("retries: `-1` is not a whole number from 0 to 4,294,967,295")
        );
        assert!(said("retires = 5\nfunction = \"f\"").contains("there is no setting `retires`\nhint: did you mean `retries`?"));
    }
}
