//! The interface over HTTPS, and beside strangers that misuse what HTTPS and HTTP/2 let them do.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::http::Version;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    door::{headers, tls},
    tests::Site,
};
use crate::{
    api::CreateProfile,
    client::{Client, ClientError},
    pin::{Address, Pin},
    store::record::TokenRole,
    trust,
};

/// Long enough for a loaded machine; nothing waits for it in vain but a failing test.
const DEADLINE: Duration = Duration::from_secs(60);
/// More than the interface has places.
const CROWD: usize = 1_100;

fn near(site: &Site) -> SocketAddr {
    SocketAddr::new([127, 0, 0, 1].into(), site.running.http_address.port())
}

/// A connection by HTTPS that speaks this.
async fn sealed(site: &Site, protocol: &[u8]) -> TlsStream<TcpStream> {
    let mut config = trust::pinned(site.running.pin().expect("HTTPS"));
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(near(site)).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
}

/// Everything that comes until the other side closes.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut heard = Vec::new();
    // How it was closed does not matter.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut heard)).await.expect("it is closed");
    heard
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// Of `HEADERS`: no body follows, and no more headers.
const END: u8 = 0x1 | 0x4;

/// `GET /health` of localhost, as HPACK.
fn health() -> Vec<u8> {
    [&[0x82, 0x87, 0x44, 7][..], b"/health", &[0x41, 9], b"localhost"].concat()
}

/// The frames that came, by kind, with what is in them.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, more @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((payload, next)) = more.split_at_checked(length) else { break };
        all.push((*kind, payload.to_vec()));
        bytes = next;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_pin_speaks_https_and_nobody_else_is_believed() {
    let site = Site::sealed().await;
    let token = Some(site.admin_token.clone());
    let pin = site.running.pin().expect("HTTPS");
    site.admin.status().await.expect("its own pin");
    let url = format!("https://localhost:{}", near(&site).port());
    let other = Pin::of_key(b"another");
    let refused = Client::at(&Address::new(&url, Some(other)), token.clone()).expect("a client").status().await;
    let Err(ClientError::WrongPin { wanted, found, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((wanted, found), (other, pin));
    let unpinned = match Client::at(&Address::new(&url, None), token.clone()) {
        Ok(client) => client.status().await.expect_err("nobody vouches for it"),
        Err(error) => error,
    };
    assert!(matches!(unpinned, ClientError::Untrusted { .. }), "{unpinned:?}");
    let plain = Client::new(&format!("http://localhost:{}", near(&site).port()), token).expect("a client").status().await;
    let Err(ClientError::Refused { status: 400, detail }) = plain else { panic!("{plain:?}") };
    assert!(detail.code == "https_only" && detail.hint.is_some_and(|hint| hint.contains(&url)), "{}", detail.message);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_all_that_its_owner_needs_and_the_first_coordinator_that_answers_is_asked() {
    let site = Site::sealed().await;
    let wanted = |role| CreateProfile { role, name: Some("ann".into()), expires_s: None, servers: Vec::new() };
    let made = site.admin.create_profile(&wanted(TokenRole::Submitter)).await.expect("a profile");
    let [server] = &made.servers[..] else { panic!("{made:?}") };
    let port = near(&site).port();
    assert!(server.pin == site.running.pin() && server.url.ends_with(&format!(":{port}")), "{server:?}");
    let days = made.expires.duration_since(jiff::Timestamp::now()).as_hours() / 24;
    assert!((29..=30).contains(&days), "{days}");
    let gone = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let dead = Address::new(format!("https://{}", gone.local_addr().expect("an address")), server.pin);
    drop(gone);
    let ann = Client::at_one_of(&[dead, site.running.address()], Some(made.token.clone())).expect("a client");
    for _ in 0..2 {
        assert_eq!(ann.asker().await.expect("the second answers").name, "ann");
    }
    let refused = async |wanted: CreateProfile| match site.admin.create_profile(&wanted).await {
        Err(ClientError::Refused { status, .. }) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(wanted(TokenRole::Viewer)).await, 409, "her name is taken");
    assert_eq!(refused(wanted(TokenRole::Agent)).await, 400);
    let nowhere = CreateProfile { servers: vec!["ftp://north".into()], name: None, ..wanted(TokenRole::Viewer) };
    assert_eq!(refused(nowhere).await, 400);
    site.stop().await;
    let site = Site::start().await;
    let alone = site.admin.create_profile(&wanted(TokenRole::Viewer)).await;
    let Err(ClientError::Refused { status: 409, detail }) = alone else { panic!("{alone:?}") };
    assert!(detail.hint.is_some_and(|hint| hint.contains("--http 0.0.0.0:7411")), "nobody else reaches it");
    assert_eq!(site.admin.tokens().await.expect("a list").items.len(), 1, "and no token was made");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_are_spoken_and_every_answer_tells_browsers_what_it_is() {
    let site = Site::sealed().await;
    let pin = site.running.pin().expect("HTTPS");
    let url = format!("{}/health", site.admin.base());
    for (protocol, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let mut config = trust::pinned(pin);
        config.alpn_protocols = vec![protocol.into()];
        let client = reqwest::Client::builder().tls_backend_preconfigured(config).build().expect("a client");
        let answer = client.get(&url).send().await.expect("an answer");
        assert_eq!(answer.version(), version);
        assert_eq!(answer.headers()["content-security-policy"], headers::POLICY);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert!(!answer.headers().contains_key("strict-transport-security"), "nobody vouches for it");
        let missing = client.get(format!("{}/api/v1/nothing", site.admin.base())).send().await.expect("an answer");
        assert_eq!(
            (missing.status().as_u16(), &missing.headers()["x-content-type-options"]),
            (404, &"nosniff".parse().expect("one"))
        );
    }
    let (answers, _) = futures::future::join(
        futures::future::join_all((0..100).map(|_| site.admin.status())),
        site.admin.upload(vec![7; 3_000_000]),
    )
    .await;
    assert!(answers.iter().all(Result::is_ok), "more at once than one connection has streams");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_go_on_is_cut_and_a_crowd_of_them_keeps_nobody_out() {
    let site = Site::sealed().await;
    super::siege::allow_many_connections();
    let mut half = TcpStream::connect(near(&site)).await.expect("connected");
    half.write_all(&[0x16, 3, 1]).await.expect("sent");
    assert!(rest(&mut half).await.is_empty());
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(super::siege::sent(2, near(&site), &[0x16, 3, 1, 0]).await);
    }
    let fresh = Client::at(&site.running.address(), Some(site.admin_token.clone())).expect("a client");
    timeout(DEADLINE, fresh.status()).await.expect("in time").expect("another address is served");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handshake_gets_no_answer_or_a_word_on_https() {
    let site = Site::sealed().await;
    for (words, answered) in [("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", true), ("\u{1}\u{2}\u{3}", false)] {
        let mut stream = TcpStream::connect(near(&site)).await.expect("connected");
        stream.write_all(words.as_bytes()).await.expect("sent");
        let said = String::from_utf8(rest(&mut stream).await).expect("text");
        assert_eq!(said.starts_with("HTTP/1.1 400 ") && said.contains("https://localhost"), answered, "{said}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_http_2_is_told_its_bounds_and_cut_when_it_floods() {
    let site = Site::sealed().await;
    let open = async || {
        let mut stream = sealed(&site, tls::HTTP2).await;
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.expect("sent");
        stream
    };
    // Streams that are taken back at once.
    let mut flood = open().await;
    for stream in 0..2_000 {
        let id = 1 + 2 * stream;
        let both = [frame(HEADERS, END, id, &health()), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat();
        if flood.write_all(&both).await.is_err() {
            break;
        }
    }
    let heard = frames(&rest(&mut flood).await);
    let settings = heard.iter().find(|(kind, payload)| *kind == SETTINGS && !payload.is_empty()).expect("its settings");
    let said = |id: u16| {
        let pairs = settings.1.chunks_exact(6).filter(|pair| pair[..2] == id.to_be_bytes());
        pairs.map(|pair| u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]])).next()
    };
    assert_eq!((said(3), said(6)), (Some(64), Some(16 * 1024)), "streams at once, and the size of headers");
    assert!(heard.iter().any(|(kind, _)| *kind == GOAWAY), "it is told why");

    // Headers without an end.
    let mut endless = open().await;
    endless.write_all(&frame(HEADERS, 0, 1, &health())).await.expect("sent");
    for _ in 0..10_000 {
        if endless.write_all(&frame(CONTINUATION, 0, 1, &[0x40, 1, b'a', 1, b'b'].repeat(2_000))).await.is_err() {
            break;
        }
    }
    assert!(frames(&rest(&mut endless).await).iter().any(|(kind, _)| *kind == GOAWAY));

    // A connection on which nothing is asked.
    let mut idle = open().await;
    assert!(!rest(&mut idle).await.is_empty());
    site.admin.status().await.expect("others are served");
    site.stop().await;
}
