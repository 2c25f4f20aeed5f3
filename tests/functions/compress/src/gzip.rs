//! The gzip frame (RFC 1952) around a deflate stream: header, data, CRC-32 and length.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::{DecompressError, TINFLStatus, decompress_to_vec_with_limit};
use std::fmt;

const HEADER_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;

const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;

#[derive(Debug, PartialEq, Eq)]
pub enum UnpackError {
    NotGzip,
    Truncated,
    TooLong { bytes_max: usize },
    Damaged,
    Checksum,
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnpackError::NotGzip => write!(f, "the input is not gzip data"),
            UnpackError::Truncated => write!(f, "the gzip data end too early"),
            UnpackError::TooLong { bytes_max } => write!(f, "the data unpack to more than {bytes_max} bytes"),
            UnpackError::Damaged => write!(f, "the gzip data are damaged"),
            UnpackError::Checksum => write!(f, "the unpacked data do not match their checksum"),
        }
    }
}

/// `level` is 1 to 9.
pub fn pack(input: &[u8], level: u8) -> Vec<u8> {
    // No flags, no time, unknown system: nothing that differs between two runs.
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    packed.extend(compress_to_vec(input, level));
    packed.extend(crc32(input).to_le_bytes());
    packed.extend((input.len() as u32).to_le_bytes());
    packed
}

/// One gzip member. What follows it is an error, as is a wrong checksum or length.
pub fn unpack(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, UnpackError> {
    if packed.len() < 3 || packed[..3] != [0x1f, 0x8b, 8] {
        return Err(UnpackError::NotGzip);
    }
    let data = &packed[header_len(packed).ok_or(UnpackError::Truncated)?..];
    let (stream, trailer) = data.split_last_chunk::<TRAILER_BYTES>().ok_or(UnpackError::Truncated)?;
    let output = decompress_to_vec_with_limit(stream, bytes_max).map_err(|DecompressError { status, .. }| match status {
        TINFLStatus::HasMoreOutput => UnpackError::TooLong { bytes_max },
        TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => UnpackError::Truncated,
        _ => UnpackError::Damaged,
    })?;
    let [crc @ .., _, _, _, _] = trailer;
    let [_, _, _, _, len @ ..] = trailer;
    if *crc != crc32(&output).to_le_bytes() || *len != (output.len() as u32).to_le_bytes() {
        return Err(UnpackError::Checksum);
    }
    Ok(output)
}

/// Where the deflate stream starts, None if the header does not end.
fn header_len(packed: &[u8]) -> Option<usize> {
    let flags = *packed.get(3)?;
    let mut at = HEADER_BYTES;
    if flags & EXTRA != 0 {
        at += 2 + usize::from(u16::from_le_bytes(packed.get(at..at + 2)?.try_into().ok()?));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            at += packed.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & HEADER_CRC != 0 {
        at += 2;
    }
    (at <= packed.len()).then_some(at)
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    #[test]
    fn unpacking_gives_back_what_was_packed_at_every_level() {
        let input: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        for level in 1..=9 {
            assert_eq!(unpack(&pack(&input, level), LIMIT), Ok(input.clone()));
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let packed = pack(b"the quick brown fox jumps over the lazy dog", 6);
        for at in HEADER_BYTES..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 1;
            assert!(unpack(&damaged, LIMIT).is_err(), "bit flipped in byte {at}");
        }
    }

    #[test]
    fn data_that_end_too_early_are_refused() {
        let packed = pack(b"the quick brown fox", 6);
        for len in 0..packed.len() {
            assert!(unpack(&packed[..len], LIMIT).is_err(), "cut to {len} bytes");
        }
    }

    #[test]
    fn data_that_unpack_to_too_much_are_refused() {
        assert_eq!(unpack(&pack(&[0; 5000], 6), 4999), Err(UnpackError::TooLong { bytes_max: 4999 }));
    }
}
