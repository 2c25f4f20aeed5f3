//! Whom a client of the HTTP interface believes to be the coordinator: whoever has the key that was pinned, or whom the
//! system's roots vouch for.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, InvalidMessage, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::pin::Pin;

/// What every connection of ours is made with: the process's provider, if nobody has chosen one before.
pub(crate) fn provide() {
    // One that is there already is the same.
    let _ = ring::default_provider().install_default();
}

/// A client's side of TLS that believes only in this key.
pub(crate) fn pinned(pin: Pin) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Pinned { pin, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("ring has suites of TLS 1.2 and 1.3");
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// The same of one that believes in nobody: that of whoever speaks plain HTTP.
pub(crate) fn nobody() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    let builder = builder.expect("ring has suites of TLS 1.2 and 1.3");
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

/// Why there is no connection, if that is for want of trust or of HTTPS.
pub(crate) fn doubt<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> Option<Doubt> {
    loop {
        if let Some(found) = error.downcast_ref::<Error>() {
            return match found {
                Error::Other(other) => other.0.downcast_ref::<WrongPin>().map(|wrong| Doubt::Pin(*wrong)),
                Error::InvalidCertificate(_) => Some(Doubt::Certificate),
                Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Doubt::Plain),
                _ => None,
            };
        }
        // What an error of the system carries is not among its sources.
        error = match error.downcast_ref::<io::Error>() {
            Some(system) => system.get_ref()?,
            None => error.source()?,
        };
    }
}

/// Why somebody is not believed to be the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// He has another key.
    Pin(WrongPin),
    /// No root of the system vouches for him.
    Certificate,
    /// He speaks plain HTTP.
    Plain,
}

/// Whose key is the one that was pinned is the server, whatever his certificate says of names and times.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

/// The server has another key than the one that was pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its key is {found}, and {wanted} was expected")]
pub(crate) struct WrongPin {
    pub wanted: Pin,
    pub found: Pin,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Pin::of_certificate(end_entity).ok_or_else(|| Error::General("its certificate cannot be read".into()))?;
        if found == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let wrong = WrongPin { wanted: self.pin, found };
        Err(Error::Other(rustls::OtherError(Arc::new(wrong))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_is_found_in_whatever_carries_it() {
        let wrong = WrongPin { wanted: Pin::of_key(b"a"), found: Pin::of_key(b"b") };
        let other = || Error::Other(rustls::OtherError(Arc::new(wrong)));
        assert_eq!(doubt(&io::Error::other(io::Error::other(other()))), Some(Doubt::Pin(wrong)));
        let plain = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(doubt(&io::Error::other(plain)), Some(Doubt::Plain));
        assert_eq!(doubt(&Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)), Some(Doubt::Certificate));
        assert_eq!(doubt(&io::Error::other("else")), None);
    }
}
