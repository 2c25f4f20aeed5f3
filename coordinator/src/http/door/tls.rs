//! The beginning of a connection: whether it is HTTPS, and the handshake. A plain request to a port of HTTPS is told so in
//! words that it can read.

use std::{io, pin::Pin, sync::Arc};

use axum::http::HeaderName;
use rustls::{ServerConfig, crypto::ring};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    api::{CODE_HEADER, ErrorBody, ErrorDetail},
    certificate::Certificate,
};

/// A connection of which nothing is known.
pub(crate) type Raw = Pin<Box<TimeoutStream<TcpStream>>>;

/// What HTTP/2 is called in a handshake.
pub(crate) const HTTP2: &[u8] = b"h2";
/// What is offered, the better first.
const OFFERED: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// The first byte of a handshake: the type of its record.
const HANDSHAKE: u8 = 0x16;
/// The head of a plain request is read this far for the name that it asks for.
const HEAD_BYTES_MAX: usize = 4 * 1024;
/// What of a plain request is still taken after it was answered, so that the answer arrives.
const REST_BYTES_MAX: usize = 64 * 1024;

/// How connections become HTTPS.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

/// What a connection turned out to be.
pub(crate) enum Spoken {
    Http2(Box<TlsStream<Raw>>),
    Http1(Box<TlsStream<Raw>>),
    /// Nothing of ours; it was told, if it could be.
    Nothing,
}

impl Tls {
    /// With this certificate.
    pub(crate) fn new(certificate: Arc<Certificate>) -> Self {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("ring has suites of TLS 1.2 and 1.3");
        let mut config = builder.with_no_client_auth().with_cert_resolver(certificate.clone());
        config.alpn_protocols = OFFERED.map(<[u8]>::to_vec).to_vec();
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate }
    }

    /// Whether browsers may be told to ask by HTTPS only: somebody vouches for the certificate.
    pub(crate) fn is_vouched_for(&self) -> bool {
        self.certificate.is_given()
    }

    /// Begins a connection.
    pub(crate) async fn begin(&self, mut stream: Raw) -> io::Result<Spoken> {
        let mut first = [0];
        if stream.as_ref().get_ref().get_ref().peek(&mut first).await? == 0 {
            return Ok(Spoken::Nothing);
        }
        match first[0] {
            HANDSHAKE => {
                let stream = Box::new(self.acceptor.accept(stream).await?);
                match stream.get_ref().1.alpn_protocol() {
                    Some(HTTP2) => Ok(Spoken::Http2(stream)),
                    Some(_) | None => Ok(Spoken::Http1(stream)),
                }
            }
            b'A'..=b'Z' => {
                tell(&mut stream).await?;
                Ok(Spoken::Nothing)
            }
            _ => Ok(Spoken::Nothing),
        }
    }
}

/// Answers a plain request: whoever typed `http://` reads what to type.
async fn tell(stream: &mut Raw) -> io::Result<()> {
    let mut head = vec![0; HEAD_BYTES_MAX];
    let mut length = 0;
    while length < head.len() && !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut head[length..]).await? {
            0 => break,
            read => length += read,
        }
    }
    stream.write_all(plain_answer(&head[..length]).as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = 0;
    while rest < REST_BYTES_MAX {
        match stream.read(&mut head).await? {
            0 => break,
            read => rest += read,
        }
    }
    Ok(())
}

fn plain_answer(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let host = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_name = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        name.eq_ignore_ascii_case("host").then(|| value.trim()).filter(|value| !value.is_empty() && is_name(value))
    });
    let hint = match host {
        Some(host) => {
            format!("write https://{host}; a token that was sent in this request was sent for everybody to read: revoke it")
        }
        None => "write https:// in front of the address".to_owned(),
    };
    let message = "this address speaks HTTPS, and the request came in plain HTTP".to_owned();
    let error = ErrorDetail { code: "https_only".into(), message, hint: Some(hint), leader: None };
    let body = serde_json::to_string(&ErrorBody { error }).expect("texts are JSON");
    let code = HeaderName::from_static(CODE_HEADER);
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{code}: https_only\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_request_is_told_the_address_that_it_meant_if_that_is_one() {
        let told = |head: &str| plain_answer(head.as_bytes());
        let good = told("GET / HTTP/1.1\r\nHost: lull.example:7411\r\n\r\n");
        assert!(good.starts_with("HTTP/1.1 400 ") && good.contains("write https://lull.example:7411;"), "{good}");
        for odd in ["GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n", ""] {
            assert!(told(odd).contains("write https:// in front"), "{odd}");
        }
    }
}
