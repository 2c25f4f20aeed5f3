//! Join tokens, as people paste them.

use data_encoding::BASE64URL_NOPAD;
use lull_shared::{digest::Digest, identity::JoinToken};

use super::memory::bounded;

/// The bytes as a token's text, and as what is inside a token whose checksum is right.
pub fn token(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        read(text);
    }
    let digest = Digest::of(bytes);
    read(&format!("lull1-{}", BASE64URL_NOPAD.encode(&[&digest.as_bytes()[..4], bytes].concat())));
}

fn read(text: &str) {
    let Ok(token) = bounded(text.len(), || text.parse::<JoinToken>()) else { return };
    let again = token.to_string();
    assert_eq!(again.parse().as_ref(), Ok(&token), "it reads back");
    assert_eq!(format!("\t{again} \r\n").parse().as_ref(), Ok(&token), "also with what a mail program puts around it");
    assert!(again[..again.len() - 1].parse::<JoinToken>().is_err(), "what was cut short is noticed");
    assert!(!format!("{token:?}").contains(&format!("{:?}", token.secret.0)), "its secret is not printed");
}
