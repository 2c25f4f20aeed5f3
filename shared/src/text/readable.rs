//! Values that are text where people read them, and small where only programs do.

use std::{borrow::Cow, fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Writes a value as its text into JSON and the like, and as `small` into what only programs read.
pub fn serialize<S: Serializer>(value: &impl Display, small: impl Serialize, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() { serializer.collect_str(value) } else { small.serialize(serializer) }
}

/// Reads what [`serialize`] wrote.
pub fn deserialize<'de, T, Small, D>(deserializer: D, of_small: impl FnOnce(Small) -> T) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    Small: Deserialize<'de>,
    D: Deserializer<'de>,
{
    if deserializer.is_human_readable() {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    } else {
        Small::deserialize(deserializer).map(of_small)
    }
}

/// Has a type that can be printed and parsed travel as [`serialize`] says: `readable!(Type, Small, to_small, of_small)`.
#[macro_export]
macro_rules! readable {
    ($type:ty, $small:ty, $to_small:expr, $of_small:expr) => {
        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let to_small: fn(&Self) -> $small = $to_small;
                $crate::readable::serialize(self, to_small(self), serializer)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let of_small: fn($small) -> Self = $of_small;
                $crate::readable::deserialize(deserializer, of_small)
            }
        }
    };
}
