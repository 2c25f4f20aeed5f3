//! Values to bytes and back: bincode behind a format version, with a bound on every decode.
//!
//! This module alone knows the codec. Each value is preceded by one byte that names the format, so that another
//! codec can follow without breaking what is on disk or on the wire.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

use crate::limits::FRAME_BYTES_MAX;

/// Format 1: bincode 2, little-endian, variable-length integers.
const FORMAT: u8 = 1;
/// A frame's length in front of it: four bytes, little-endian.
pub const LENGTH_BYTES: usize = 4;

const CONFIG: Configuration<LittleEndian, Varint, Limit<FRAME_BYTES_MAX>> =
    bincode::config::standard().with_limit::<FRAME_BYTES_MAX>();

/// Bytes that are not the value they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("nothing to decode")]
    Empty,
    #[error("encoded in format {0}, which this program does not read")]
    Format(u8),
    #[error("{0} bytes are left over after the value")]
    Rest(usize),
    #[error("not a valid value: {0}")]
    Invalid(String),
}

/// Encodes a value that one of our own types holds.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bincode::serde::encode_into_std_write(value, &mut bytes, CONFIG).expect("memory takes every byte and our types encode");
    bytes
}

/// Decodes a value from exactly these bytes. At most [`FRAME_BYTES_MAX`] bytes are allocated for it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (format, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *format != FORMAT {
        return Err(DecodeError::Format(*format));
    }
    let (value, read) =
        bincode::serde::decode_from_slice(body, CONFIG).map_err(|error| DecodeError::Invalid(error.to_string()))?;
    if read == body.len() { Ok(value) } else { Err(DecodeError::Rest(body.len() - read)) }
}

/// Encodes a value as a frame: its length, then its bytes.
pub fn encode_frame<T: Serialize>(value: &T) -> Vec<u8> {
    let mut frame = vec![0; LENGTH_BYTES];
    frame.push(FORMAT);
    bincode::serde::encode_into_std_write(value, &mut frame, CONFIG).expect("memory takes every byte and our types encode");
    let length = u32::try_from(frame.len() - LENGTH_BYTES).expect("a frame is far below 4 GiB");
    frame[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    frame
}

/// The length that a frame announces, refused above [`FRAME_BYTES_MAX`] before anything is allocated for it.
pub fn frame_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, FrameTooLong> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length <= FRAME_BYTES_MAX { Ok(length) } else { Err(FrameTooLong(length)) }
}

/// A frame above [`FRAME_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes; at most {FRAME_BYTES_MAX} are taken")]
pub struct FrameTooLong(pub usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_from_exactly_their_bytes() {
        let bytes = encode(&("word".to_owned(), 7_u64));
        assert_eq!((bytes[0], decode(&bytes)), (FORMAT, Ok(("word".to_owned(), 7_u64))));
        assert_eq!(decode::<(String, u64)>(&[]), Err(DecodeError::Empty));
        assert_eq!(decode::<(String, u64)>(&[&[FORMAT + 1], &bytes[1..]].concat()), Err(DecodeError::Format(FORMAT + 1)));
        assert_eq!(decode::<(String, u64)>(&[&bytes[..], &[0, 0]].concat()), Err(DecodeError::Rest(2)));
        assert!(matches!(decode::<(String, u64)>(&bytes[..bytes.len() - 1]), Err(DecodeError::Invalid(_))));
    }

    #[test]
    fn a_frame_is_its_length_and_the_same_bytes() {
        let value = vec![3_u32; 1_000];
        let frame = encode_frame(&value);
        let (prefix, body) = frame.split_at(LENGTH_BYTES);
        assert_eq!(frame_length(prefix.try_into().expect("four bytes")), Ok(body.len()));
        assert_eq!(body, encode(&value));
    }

    #[test]
    fn a_frame_may_be_as_long_as_the_bound_and_no_longer() {
        let length = |bytes: usize| frame_length(u32::try_from(bytes).expect("it fits").to_le_bytes());
        assert_eq!([0, 1, FRAME_BYTES_MAX].map(length), [Ok(0), Ok(1), Ok(FRAME_BYTES_MAX)]);
        let above = FRAME_BYTES_MAX + 1;
        assert_eq!(length(above), Err(FrameTooLong(above)));
    }
}
