//! What holds of every encoding.

use std::fmt::Debug;

use lull_shared::codec::{self, DecodeError};
use serde::{Serialize, de::DeserializeOwned};

use super::memory::bounded;

/// Decodes in bounded memory; what was understood reads back as it is, and its own encoding is not much longer: only texts have
/// shorter spellings than their own, as `90m` is `1h 30m`, and no message is made of them alone.
pub(super) fn decode<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Result<T, DecodeError> {
    let value: T = bounded(bytes.len(), || codec::decode(bytes))?;
    let again = codec::encode(&value);
    assert!(again.len() <= 2 * bytes.len(), "{} bytes became {}: {value:?}", bytes.len(), again.len());
    assert_eq!(codec::decode::<T>(&again).as_ref(), Ok(&value), "it reads back");
    Ok(value)
}

/// JSON that was understood reads back as it is.
pub(super) fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(value) = bounded(bytes.len(), || serde_json::from_slice::<T>(bytes)) else { return };
    let again = serde_json::to_vec(&value).expect("our own types are JSON");
    assert_eq!(serde_json::from_slice::<T>(&again).ok().as_ref(), Some(&value), "it reads back");
}
