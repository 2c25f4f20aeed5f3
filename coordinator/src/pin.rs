//! Pins: which key a server must have, as curl writes it; and addresses that say it.
//!
//! A pin is the SHA-256 of a certificate's SubjectPublicKeyInfo. The certificate may be renewed, and may be for another name:
//! whoever knows the pin of the key needs nobody else's word.

use std::{fmt, str::FromStr};

use data_encoding::BASE64;
use lull_shared::amount::quoted;
use rustls::{crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256, pki_types::CertificateDer, server::ParsedCertificate};

/// In front of every pin.
const SHEBANG: &str = "sha256//";

/// The digest of a public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; 32]);

lull_shared::readable!(Pin, [u8; 32], |pin| pin.0, Self);

/// A text that is no pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not the pin of a key\nhint: write it as the server prints it at its start: sha256// and 44 characters", quoted(.0))]
pub struct NoPin(String);

impl Pin {
    /// That of a public key, as its certificates hold it.
    pub fn of_key(subject_public_key_info: &[u8]) -> Self {
        let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("it is one of TLS 1.3");
        let digest = suite.common.hash_provider.hash(subject_public_key_info);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// That of a certificate's key; none if the certificate cannot be read.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        Some(Self::of_key(&parsed.subject_public_key_info()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SHEBANG}{}", BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = NoPin;

    fn from_str(text: &str) -> Result<Self, NoPin> {
        let digest = text.trim().strip_prefix(SHEBANG).and_then(|digest| BASE64.decode(digest.as_bytes()).ok());
        digest.and_then(|digest| digest.try_into().ok()).map(Self).ok_or_else(|| NoPin(text.to_owned()))
    }
}

/// A URL, and the pin of the key that its server has, as one text: `https://north:7411#sha256//...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub url: String,
    pub pin: Option<Pin>,
}

impl Address {
    /// An address of which this is known.
    pub fn new(url: impl Into<String>, pin: Option<Pin>) -> Self {
        Self { url: url.into(), pin }
    }

    /// One that was written as a text. What stands behind the `#` and is no pin belongs to no address of ours.
    pub fn read(text: &str) -> Self {
        match text.trim().split_once('#') {
            Some((url, pin)) => Self::new(url, pin.parse().ok()),
            None => Self::new(text.trim(), None),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pin {
            Some(pin) => write!(f, "{}#{pin}", self.url),
            None => f.write_str(&self.url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_written_as_curl_takes_it() {
        // printf abc | openssl dgst -sha256 -binary | base64
        let pin = Pin::of_key(b"abc");
        assert_eq!(pin.to_string(), "sha256//ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        for wrong in ["", "sha256//", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", "sha256//ungWv48B", "sha256//!"] {
            assert_eq!(wrong.parse::<Pin>(), Err(NoPin(wrong.into())), "{wrong}");
        }
    }

    #[test]
    fn an_address_and_its_pin_are_one_text() {
        let pin = Pin::of_key(b"abc");
        for address in [Address::new("https://north:7411", Some(pin)), Address::new("http://127.0.0.1:7411", None)] {
            assert_eq!(Address::read(&format!("{address}\n")), address);
        }
        assert_eq!(Address::read("http://north:7411#else"), Address::new("http://north:7411", None));
    }
}
