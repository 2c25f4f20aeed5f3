//! Values for types: each method knows what the type asks for, so that what is wrong is known by its kind and place.

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{
    JSON, Kind, Misread,
    tree::{Step, Tree},
    wrong::{Expected, What, Wrong},
};
use crate::alike;

/// A word that nothing is called.
const NO_WORD: &str = "?";

/// A value as what is asked for, or what is wrong with it.
pub(super) fn decode<T: for<'de> Deserialize<'de>>(mut tree: Tree, kind: Kind) -> Result<T, Misread> {
    let wrong = match T::deserialize(Value { tree: &tree, kind }) {
        Ok(value) => return Ok(value),
        Err(wrong) => wrong,
    };
    let place = wrong.place();
    let Some(there) = tree.at_mut(&place) else { return Err(wrong.told(&Tree::Null, None, kind)) };
    let found = there.clone();
    // What a type wants of a text or of a word is known to itself alone: it is shown one that it cannot take.
    let (wrong, own) = match &wrong.what {
        What::Type(Expected::Text) => {
            *there = Tree::Text(NO_WORD.to_owned());
            let other = T::deserialize(Value { tree: &tree, kind }).err().filter(|other| other.place() == place);
            (wrong, other.map(|other| other.told(&found, None, kind).hint))
        }
        What::Type(Expected::Words(known)) => {
            *there = Tree::Text(known.first().copied().unwrap_or(NO_WORD).to_owned());
            let other = T::deserialize(Value { tree: &tree, kind }).err().filter(|other| other.place() == place);
            let holds_more = other.filter(|other| matches!(other.what, What::Type(Expected::Fields(_))));
            (holds_more.unwrap_or(wrong), None)
        }
        _ => (wrong, None),
    };
    let own = match &wrong.what {
        What::Type(Expected::Fields(known)) if kind == JSON => Some(shapes::<T>(&mut tree, &place, known, kind)),
        _ => own,
    };
    Err(wrong.told(&found, own.as_deref(), kind))
}

/// How an object with one of these fields is written: what is in it is asked of the type, too.
fn shapes<T: for<'de> Deserialize<'de>>(tree: &mut Tree, place: &[Step], known: &[&str], kind: Kind) -> String {
    let mut shapes = Vec::with_capacity(known.len());
    for word in known {
        if let Some(there) = tree.at_mut(place) {
            let content = Tree::Map(vec![(NO_WORD.to_owned(), Tree::Null)]);
            *there = Tree::Map(vec![((*word).to_owned(), content)]);
        }
        let refused = T::deserialize(Value { tree, kind }).err().filter(|refused| refused.place().starts_with(place));
        let content = match refused.map(|refused| refused.what) {
            Some(What::UnknownField { known, .. }) => {
                let fields: Vec<String> = known.iter().map(|field| format!("\"{field}\": ..")).collect();
                format!("{{{}}}", fields.join(", "))
            }
            Some(What::Type(Expected::Text)) => "\"..\"".to_owned(),
            _ => "..".to_owned(),
        };
        shapes.push(format!("{{\"{word}\": {content}}}"));
    }
    alike::or(&shapes)
}

/// A value at its place.
#[derive(Clone, Copy)]
struct Value<'a> {
    tree: &'a Tree,
    kind: Kind,
}

impl<'a> Value<'a> {
    fn wrong<T>(self, expected: Expected) -> Result<T, Wrong> {
        Err(Wrong::new(What::Type(expected)))
    }

    fn inner(self, tree: &'a Tree) -> Self {
        Self { tree, ..self }
    }

    /// A whole number within these.
    fn whole(self, least: i128, most: i128) -> Result<i128, Wrong> {
        let number = match self.tree {
            Tree::Whole(number) => Some(*number),
            Tree::Text(text) if self.kind.bare => text.parse().ok(),
            _ => None,
        };
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(number),
            None => self.wrong(Expected::Whole { least, most }),
        }
    }
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $number:ty;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            let number = self.whole(<$number>::MIN.into(), <$number>::MAX.into())?;
            // It was looked at whether it fits.
            visitor.$visit(number as $number)
        }
    )+};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.tree {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(value) => visitor.visit_bool(*value),
            Tree::Whole(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (Err(_), Ok(number)) => visitor.visit_u64(number),
                (Err(_), Err(_)) => visitor.visit_f64(*number as f64),
            },
            Tree::Broken(number) => visitor.visit_f64(*number),
            Tree::Text(text) => visitor.visit_borrowed_str(text),
            Tree::List(values) => visitor.visit_seq(List { of: self, values: values.iter().enumerate() }),
            Tree::Map(fields) => visitor.visit_map(Map { of: self, fields: fields.iter(), value: None }),
        }
    }

    whole_numbers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.tree {
            Tree::Whole(number) => visitor.visit_f64(*number as f64),
            Tree::Broken(number) => visitor.visit_f64(*number),
            Tree::Text(text) if self.kind.bare => match text.parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => self.wrong(Expected::Number),
            },
            _ => self.wrong(Expected::Number),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.tree {
            Tree::Bool(value) => visitor.visit_bool(*value),
            Tree::Text(text) if self.kind.bare => match text.parse() {
                Ok(value) => visitor.visit_bool(value),
                Err(_) => self.wrong(Expected::Bool),
            },
            _ => self.wrong(Expected::Bool),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.tree {
            Tree::Text(text) => visitor.visit_borrowed_str(text),
            _ => self.wrong(Expected::Text),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.tree {
            Tree::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.tree {
            Tree::List(_) => self.deserialize_any(visitor),
            _ => self.wrong(Expected::List),
        }
    }

    /// Of what has names the values in turn: that of a path.
    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Wrong> {
        match self.tree {
            Tree::List(_) => self.deserialize_any(visitor),
            Tree::Map(fields) if self.kind.bare => visitor.visit_seq(Places { of: self, fields: fields.iter() }),
            _ => self.wrong(Expected::List),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.tree {
            Tree::Map(_) => self.deserialize_any(visitor),
            _ => self.wrong(Expected::Map),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.tree {
            Tree::Text(word) => visitor.visit_enum(Choice { of: self, word, content: None, known }),
            Tree::Map(fields) => match &fields[..] {
                [(word, content)] => visitor.visit_enum(Choice { of: self, word, content: Some(content), known }),
                _ => self.wrong(Expected::Words(known)),
            },
            _ => self.wrong(Expected::Words(known)),
        }
    }

    forward_to_deserialize_any! { char bytes byte_buf unit unit_struct tuple_struct identifier ignored_any i128 u128 }
}

/// The values of a list.
struct List<'a> {
    of: Value<'a>,
    values: std::iter::Enumerate<std::slice::Iter<'a, Tree>>,
}

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        let Some((index, tree)) = self.values.next() else { return Ok(None) };
        seed.deserialize(self.of.inner(tree)).map(Some).map_err(|wrong| wrong.within(Step::Index(index)))
    }
}

/// Values with names, in turn.
struct Places<'a> {
    of: Value<'a>,
    fields: std::slice::Iter<'a, (String, Tree)>,
}

impl<'de> SeqAccess<'de> for Places<'de> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        let Some((name, tree)) = self.fields.next() else { return Ok(None) };
        seed.deserialize(self.of.inner(tree)).map(Some).map_err(|wrong| wrong.within(Step::Key(name.clone())))
    }
}

/// The fields of a map.
struct Map<'a> {
    of: Value<'a>,
    fields: std::slice::Iter<'a, (String, Tree)>,
    value: Option<&'a (String, Tree)>,
}

impl<'de> MapAccess<'de> for Map<'de> {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        self.value = self.fields.next();
        let key = |(key, _): &'de (String, Tree)| seed.deserialize(word(key));
        self.value.map(key).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        let Some((key, tree)) = self.value.take() else { return Err(Wrong::custom("a value without a key")) };
        seed.deserialize(self.of.inner(tree)).map_err(|wrong| wrong.within(Step::Key(key.clone())))
    }
}

fn word(text: &str) -> StrDeserializer<'_, Wrong> {
    text.into_deserializer()
}

/// One of several words, alone or as the key of what goes with it.
struct Choice<'a> {
    of: Value<'a>,
    word: &'a str,
    content: Option<&'a Tree>,
    known: &'static [&'static str],
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Wrong;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Wrong> {
        seed.deserialize(word(self.word)).map(|choice| (choice, self))
    }
}

impl<'de> Choice<'de> {
    /// What goes with the word, where something must.
    fn held<T>(self, read: impl FnOnce(Value<'de>) -> Result<T, Wrong>) -> Result<T, Wrong> {
        match self.content {
            Some(tree) => read(self.of.inner(tree)).map_err(|wrong| wrong.within(Step::Key(self.word.to_owned()))),
            None => self.of.wrong(Expected::Fields(self.known)),
        }
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        match self.content {
            None => Ok(()),
            Some(_) => self.of.wrong(Expected::Words(self.known)),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Wrong> {
        self.held(|value| seed.deserialize(value))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.held(|value| value.deserialize_tuple(length, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Wrong> {
        self.held(|value| value.deserialize_struct("", fields, visitor))
    }
}
