//! Whom a client of the HTTP interface believes to be the coordinator.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// What every connection of ours is made with: the process's provider, if nobody has chosen one before.
pub(crate) fn provide() {
    // One that is there already is the same.
    let _ = ring::default_provider().install_default();
}

/// A client's side of TLS that believes in nobody: that of one who speaks plain HTTP.
pub(crate) fn nobody() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    let builder = builder.expect("ring has suites of TLS 1.2 and 1.3");
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}
