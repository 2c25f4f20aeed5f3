//! What somebody wrote, before it is known what is meant: values in values, in the order in which they stand.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use crate::amount::quoted;

/// The key under which the decoder of TOML gives a moment: a field that nobody can write.
const TOML_MOMENT: &str = "$__toml_private_datetime";
/// Of a text an error repeats so much.
const CHARS_TOLD: usize = 64;

/// A value, whatever its kind. Of a map with a key twice both are kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Whole(i128),
    Broken(f64),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// A step from a value to one in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl Tree {
    /// The value at a place; it is written anew by whoever tries what else could stand there.
    pub fn at_mut(&mut self, place: &[Step]) -> Option<&mut Self> {
        let Some((step, rest)) = place.split_first() else { return Some(self) };
        let inner = match (self, step) {
            (Self::Map(fields), Step::Key(key)) => {
                fields.iter_mut().rev().find(|(known, _)| known == key).map(|(_, value)| value)
            }
            (Self::List(values), Step::Index(index)) => values.get_mut(*index),
            _ => None,
        };
        inner?.at_mut(rest)
    }

    /// The value as an error repeats it; `whole` is what a map is called, and a text stands in quotes unless it is `bare`.
    pub fn told(&self, whole: &str, bare: bool) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => format!("`{value}`"),
            Self::Whole(number) => format!("`{number}`"),
            Self::Broken(number) => format!("`{number}`"),
            Self::Text(text) if bare => quoted(text),
            Self::Text(text) => format!("\"{}\"", text.chars().take(CHARS_TOLD).collect::<String>()),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => format!("{} {whole}", article(whole)),
        }
    }
}

/// `a` or `an`.
pub(super) fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// A place as people write it: `after[0].job`.
pub(super) fn path(place: &[Step]) -> String {
    let mut path = String::new();
    for step in place {
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) if path.is_empty() => path.push_str(key),
            Step::Key(key) => path.push_str(&format!(".{key}")),
        }
    }
    path
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E: Error>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Tree, E> {
                Ok(Tree::Whole(number.into()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Tree, E> {
                Ok(Tree::Whole(number.into()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Tree, E> {
                Ok(Tree::Broken(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Tree, E> {
                Ok(Tree::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Tree::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut fields: Vec<(String, Tree)> = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                match fields.pop() {
                    Some((key, moment @ Tree::Text(_))) if fields.is_empty() && key == TOML_MOMENT => Ok(moment),
                    last => {
                        fields.extend(last);
                        Ok(Tree::Map(fields))
                    }
                }
            }
        }

        decoder.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_written_is_kept() {
        let tree: Tree = toml::from_str("a = [true, 'x', 1.5]\nb = 1\nc = { d = 2027-03-01 }").expect("a tree");
        let key = |key: &str, value| (key.to_owned(), value);
        let list = vec![Tree::Bool(true), Tree::Text("x".into()), Tree::Broken(1.5)];
        let inner = Tree::Map(vec![key("d", Tree::Text("2027-03-01".into()))]);
        assert_eq!(tree, Tree::Map(vec![key("a", Tree::List(list)), key("b", Tree::Whole(1)), key("c", inner)]));
    }

    #[test]
    fn a_value_is_told_by_what_it_is() {
        let told = |tree: Tree| tree.told("object", false);
        assert_eq!([Tree::Null, Tree::Whole(-1), Tree::Broken(1e20)].map(told), ["null", "`-1`", "`100000000000000000000`"]);
        assert_eq!([Tree::Text("x".into()), Tree::List(vec![])].map(told), ["\"x\"", "a list"]);
        assert_eq!((told(Tree::Map(vec![])), Tree::Map(vec![]).told("table", false)), ("an object".into(), "a table".into()));
        assert_eq!(Tree::Text(String::new()).told("text", true), "an empty text");
    }

    #[test]
    fn a_place_is_found_by_its_steps() {
        let mut tree: Tree = toml::from_str("after = [{ job = 'j1' }]").expect("a tree");
        let place = [Step::Key("after".into()), Step::Index(0), Step::Key("job".into())];
        assert_eq!(path(&place), "after[0].job");
        assert_eq!(tree.at_mut(&place), Some(&mut Tree::Text("j1".into())));
        assert_eq!(tree.at_mut(&place[..2]).map(|tree| matches!(tree, Tree::Map(_))), Some(true));
        assert_eq!(tree.at_mut(&[Step::Index(0)]), None);
    }
}
