//! The elements of a JSON array, each as it is written: numbers keep their digits, objects their order.

use std::{borrow::Cow, fmt, path::Path};

use bytes::Bytes;
use lull_shared::{alike, amount::quoted, hint};
use serde::{
    Deserialize, Deserializer as _,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use super::{Item, item, named};
use crate::{cli::exit::Failure, json};

/// Characters of an element that its label begins with: more is cut anyhow.
const LABEL_CHARS: usize = 512;

/// One input for each element of a JSON array; `path` is what errors call the file. Elements are taken off the text one
/// by one: beside it there is never more than the inputs themselves.
pub fn split(text: &str, path: &Path) -> Result<Vec<Item>, Failure> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let items = reader.deserialize_seq(Elements).and_then(|items| reader.end().map(|()| items));
    items.map_err(|error| {
        let words = told(&error);
        let (message, hint) = hint::split(&words);
        let hint = hint.unwrap_or("write it like [\"first\", \"second\"]").to_owned();
        Failure::usage(format!("{}: {message}", path.display())).hint(hint)
    })
}

/// What is wrong with a list, or with an element of it.
fn told(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => match error.to_string().split(" at line ").next() {
            Some(words) if !words.starts_with("invalid type") => words.to_owned(),
            _ => "it is JSON, but not a list".to_owned(),
        },
        _ if json::is_json(error) => json::told(error),
        _ => format!("it is not JSON: {}", json::told(error)),
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<Item>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Vec<Item>, A::Error> {
        let mut items = Vec::new();
        while let Some(element) = array.next_element::<&'de RawValue>()? {
            let made = input(element).map_err(|error| de::Error::custom(format!("element {}: {}", items.len(), told(&error))))?;
            items.push(made);
        }
        Ok(items)
    }
}

fn input(element: &RawValue) -> serde_json::Result<Item> {
    let text = element.get();
    match text.as_bytes().first() {
        Some(b'"') => {
            let input: String = serde_json::from_str(text)?;
            Ok(item(&input, &input))
        }
        Some(b'{') => match serde_json::from_str::<Named>(text)? {
            Named { label: Some(label), input: Some(input) } => Ok(named(&label, content(input)?)),
            Named { .. } => Ok(item(&label_of(text), text)),
        },
        Some(_) | None => Ok(item(&label_of(text), text)),
    }
}

/// A string stands for its characters, anything else for itself.
fn content(input: &RawValue) -> serde_json::Result<Bytes> {
    if input.get().starts_with('"') {
        return serde_json::from_str::<String>(input.get()).map(Bytes::from);
    }
    Ok(Bytes::copy_from_slice(input.get().as_bytes()))
}

/// One line of what may be written over many.
fn label_of(text: &str) -> String {
    let beginning: String = text.chars().take(LABEL_CHARS).collect();
    beginning.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The fields of `{"label": "...", "input": ...}`, if they are there. With both there is no other, and neither twice: only
/// these two are read.
struct Named<'a> {
    label: Option<Cow<'a, str>>,
    input: Option<&'a RawValue>,
}

/// What is said of a field beside the two.
fn unread(name: &str) -> String {
    let meant = alike::question(name, ["label", "input"]);
    let advice = "to pass it on put it into `input`, which may be any JSON; only `label` and `input` are read beside each other";
    hint::with(&format!("nobody reads its field {}", quoted(name)), &format!("{meant}{advice}"))
}

impl<'de> Deserialize<'de> for Named<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Named<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Named<'de>, A::Error> {
                let (mut label, mut input, mut lost) = (None, None, None);
                while let Some(name) = object.next_key::<Cow<'de, str>>()? {
                    let value = object.next_value::<&'de RawValue>()?;
                    let twice = match name.as_ref() {
                        "label" => label.replace(value).is_some(),
                        "input" => input.replace(value).is_some(),
                        _ => {
                            lost.get_or_insert_with(|| unread(&name));
                            false
                        }
                    };
                    if twice {
                        lost.get_or_insert_with(|| {
                            hint::with(&format!("the field {} is there twice", quoted(&name)), "keep one of them")
                        });
                    }
                }
                // What lacks one of the two is passed on whole.
                if let Some(words) = lost.filter(|_| label.is_some() && input.is_some()) {
                    return Err(de::Error::custom(words));
                }
                // Without an input beside it a label is data like any other.
                let words = |label: &'de RawValue| {
                    let text = serde_json::from_str::<String>(label.get());
                    text.map(Cow::Owned).map_err(|_| de::Error::custom("its label is not a string"))
                };
                let label = label.filter(|_| input.is_some()).map(words).transpose()?;
                Ok(Named { label, input })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str) -> Result<Vec<Item>, Failure> {
        split(text, Path::new("list.json"))
    }

    #[test]
    fn a_json_array_may_hold_strings_values_and_named_inputs() {
        let text = r#" ["text", 7, {"k": 1}, {"label": "named", "input": "x"}, {"input": [1,  2], "label": "n2"}, null ] "#;
        assert_eq!(
            elements(text).expect("elements"),
            [
                item("text", "text"),
                item("7", "7"),
                item("{\"k\": 1}", "{\"k\": 1}"),
                item("named", "x"),
                item("n2", "[1,  2]"),
                item("null", "null"),
            ]
        );
        assert_eq!(elements("[]").expect("none"), []);
    }

    #[test]
    fn what_is_passed_on_keeps_every_byte() {
        let written =
            ["12345678901234567890123", "1.10", r#"{"b":1,"a":2,"a":3}"#, "123456789012345678.5", "1E400", r#"{"é":"é"}"#];
        let items = elements(&format!("[{}]", written.join(" ,\n"))).expect("elements");
        assert_eq!(items, written.map(|text| item(text, text)));
        let long = "[1,\n   2]";
        assert_eq!(elements(&format!("[{long}]")).expect("elements"), [item("[1, 2]", long)], "a label has one line");
    }

    #[test]
    fn a_label_without_an_input_is_data() {
        let text = r#"{"label": 7}"#;
        assert_eq!(elements(&format!("[{text}]")).expect("elements"), [item(text, text)]);
        let error = elements(r#"["a", {"label": 7, "input": "x"}]"#).expect_err("no label");
        assert!(error.message.contains("element 1") && error.message.contains("label"), "{}", error.message);
    }

    #[test]
    fn a_field_that_nobody_would_read_is_refused_by_its_name() {
        for (text, field) in [
            (r#"[1, {"label": "n", "input": 1, "priority": 5}]"#, "nobody reads its field `priority`"),
            (r#"[1, {"lable": "m", "input": 1, "label": "n"}]"#, "nobody reads its field `lable`"),
            (r#"[1, {"label": "n", "input": 1, "input": 2}]"#, "the field `input` is there twice"),
        ] {
            let failure = elements(text).expect_err(text);
            assert_eq!(failure.message, format!("list.json: element 1: {field}"));
            assert!(failure.hint.is_some(), "{text}");
        }
        let meant = elements(r#"[{"lable": "m", "input": 1, "label": "n"}]"#).expect_err("a slip").hint.expect("a hint");
        assert!(meant.starts_with("did you mean `label`? to pass it on put it into `input`"), "{meant}");
        let whole = r#"{"input": 1, "priority": 5}"#;
        assert_eq!(elements(&format!("[{whole}]")).expect("elements"), [item(whole, whole)], "without a label it is data");
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for (text, expected) in [
            ("{}", "it is JSON, but not a list"),
            ("\"a\"", "it is JSON, but not a list"),
            ("7", "it is JSON, but not a list"),
            ("", "it is not JSON: it ends within a value"),
            ("[1", "it is not JSON: it ends within a list"),
            ("[1] 2", "it is not JSON: more stands behind it"),
            ("[1,]", "it is not JSON: a comma stands before an end"),
            ("[\"\u{7}\"]", "it is not JSON: a text holds a control character"),
            ("[{\"label\": 7, \"input\": 1}]", "element 0: its label is not a string"),
        ] {
            let failure = elements(text).expect_err(text);
            assert!(failure.message.starts_with(&format!("list.json: {expected}")), "{text}: {}", failure.message);
            assert!(!failure.message.contains("invalid type") && failure.hint.is_some(), "{text}: {}", failure.message);
        }
    }
}
