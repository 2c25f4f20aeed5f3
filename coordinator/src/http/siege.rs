//! The interface beside strangers that hold on to what they get and people who take all that is theirs; and every route
//! tried by everybody.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::http::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{door::shares::UPLOADS_MAX, routes::ROUTES, tests::Site};
use crate::{
    api::{CreateToken, InputsBody, PublishOptions, PublishRequest, SubmitRequest},
    store::record::TokenRole,
};

/// Long enough for a loaded machine; nothing waits for it in vain but a failing test.
const DEADLINE: Duration = Duration::from_secs(60);
/// More than the interface has places.
const CROWD: usize = 1_100;

async fn dial(from: u8, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Only Linux lets every address of 127.0.0.0/8 be dialled from.
    let from = if cfg!(target_os = "linux") { from } else { 1 };
    socket.bind(SocketAddr::new(IpAddr::from([127, 0, 0, from]), 0))?;
    socket.connect(to).await
}

/// A connection on which this was sent.
pub(super) async fn sent(from: u8, to: SocketAddr, what: &[u8]) -> TcpStream {
    let mut stream = dial(from, to).await.expect("connected");
    stream.write_all(what).await.expect("sent");
    stream
}

/// Everything that is answered until the other side closes or enough is known.
async fn answer(stream: &mut TcpStream, until: &str) -> String {
    let (mut heard, mut part) = (Vec::new(), [0; 4096]);
    let listening = async {
        while !String::from_utf8_lossy(&heard).contains(until) {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => break,
                Ok(read) => heard.extend_from_slice(&part[..read]),
            }
        }
    };
    timeout(DEADLINE, listening).await.expect("an answer");
    String::from_utf8_lossy(&heard).into_owned()
}

fn head(method: &str, path: &str, token: &str, more: &str) -> String {
    format!("{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
}

#[cfg(unix)]
pub(super) fn allow_many_connections() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(16_384, |most| most.min(16_384));
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }).expect("its own hard limit");
}

#[cfg(not(unix))]
pub(super) fn allow_many_connections() {}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_says_nothing_or_half_a_request_keeps_nobody_out() {
    allow_many_connections();
    let site = Site::start().await;
    let address = site.running.http_address;
    for words in [&b""[..], b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nX-Half: "] {
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            crowd.push(sent(2, address, words).await);
        }
        let fresh = site.client_of_admin();
        timeout(DEADLINE, fresh.status()).await.expect("in time").expect("another address is served");
    }
    // Behind one address those that say nothing make room for those that do.
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(sent(1, address, b"").await);
    }
    let mut refused = 0;
    while let Err(error) = site.client_of_admin().status().await {
        refused += 1;
        assert!(refused < 4, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_go_on_is_cut() {
    let site = Site::start().await;
    let mut half = sent(1, site.running.http_address, b"GET /health HTTP/1.1\r\nHo").await;
    assert_eq!(answer(&mut half, "never").await, "", "closed, and nothing said");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_comes_slowly_holds_no_other_up() {
    let site = Site::start().await;
    let length = "Content-Type: application/json\r\nContent-Length: 1000\r\n";
    let slow = head("POST", "/functions/slow/publications", &site.admin_token, length) + "{";
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(sent(1, site.running.http_address, slow.as_bytes()).await);
    }
    timeout(DEADLINE, site.publish()).await.expect("in time");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_uploads_take_a_tokens_share_and_little_memory() {
    const SIZE: usize = 1_000_000;
    allow_many_connections();
    let site = Site::start().await;
    let tokens: Vec<String> = futures::future::join_all((0..8).map(async |number| {
        let wanted = CreateToken { name: Some(format!("sub-{number}")), ..CreateToken::of(TokenRole::Submitter) };
        site.admin.create_token(&wanted).await.expect("a token").text
    }))
    .await;
    let upload = |token: &str| head("PUT", "/blobs", token, &format!("Content-Length: {}\r\n", SIZE + 1)).into_bytes();
    let before = resident_bytes();
    let mut halves = Vec::new();
    for token in &tokens {
        let mut own = Vec::new();
        for _ in 0..=UPLOADS_MAX {
            own.push(sent(1, site.running.http_address, &upload(token)).await);
        }
        // Whichever is read last is one too many.
        let answers = own.iter_mut().map(|stream| Box::pin(answer(stream, "\r\n\r\n")));
        let (one_more, refused, _) = futures::future::select_all(answers).await;
        assert!(one_more.starts_with("HTTP/1.1 429"), "{one_more}");
        own.swap_remove(refused);
        for stream in &mut own {
            stream.write_all(&vec![7; SIZE]).await.expect("sent");
        }
        halves.append(&mut own);
    }
    site.admin.upload("another's").await.expect("others have their own share");
    if let (Some(before), Some(now)) = (before, resident_bytes()) {
        let (more, sent) = (now.saturating_sub(before), halves.len() * SIZE);
        assert!(more < sent / 2, "{more} bytes more are resident for {sent} that were sent");
    }
    drop(halves);
    let mut tries = 0;
    loop {
        let mut again =
            sent(1, site.running.http_address, &head("PUT", "/blobs", &tokens[0], "Content-Length: 1\r\n").into_bytes()).await;
        again.write_all(b"x").await.expect("sent");
        let said = answer(&mut again, "\r\n\r\n").await;
        if said.starts_with("HTTP/1.1 200") {
            break;
        }
        tries += 1;
        assert!(tries < 100, "its places were not given back: {said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.stop().await;
}

/// What of this process is in memory, where the system says it.
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<usize>().ok()? * 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_one_word_to_anybody_by_any_name_and_nothing_else_does() {
    let site = Site::start().await;
    let ask = async |what: String| answer(&mut sent(1, site.running.http_address, what.as_bytes()).await, "}").await;
    let health = ask("GET /health HTTP/1.1\r\nHost: balancer.example\r\n\r\n".into()).await;
    assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("\r\n\r\n{\"status\":\"ok\"}"), "{health}");
    let rebound = head("GET", "/status", &site.admin_token, "").replace("localhost", "evil.example");
    let rebound = ask(rebound).await;
    assert!(rebound.starts_with("HTTP/1.1 421") && rebound.contains("--http-host"), "{rebound}");
    let foreign = ask(head("POST", "/jobs/j1/cancel", &site.admin_token, "Origin: https://evil.example\r\n")).await;
    assert!(foreign.starts_with("HTTP/1.1 403") && foreign.contains("cross_site"), "{foreign}");
    site.stop().await;
}

/// A path of a route, of things that are not there unless these are named.
fn path(route: &str, job: &str, publication: &str) -> String {
    let zeros = "0".repeat(64);
    let named = [
        ("{job}", job),
        ("{index}", "0"),
        ("{publication}", publication),
        ("{name}", "nothing"),
        ("{number}", "1"),
        ("{token}", "999"),
        ("{agent}", "nobody"),
        ("{digest}", zeros.as_str()),
        ("{session}", "s00c0ffee00c0ffee"),
        ("{label}", "stable"),
    ];
    let path = named.into_iter().fold(route.to_owned(), |path, (name, value)| path.replace(name, value));
    assert!(!path.contains('{'), "a new name in a path: {path}");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_open_to_its_role_and_those_above_and_closed_to_all_others() {
    let site = Site::start().await;
    site.publish().await;
    let http = reqwest::Client::new();
    let ask = async |method: &str, path: &str, token: Option<&str>| {
        let url = format!("http://{}/api/v1{path}", site.running.http_address);
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
        let request = http.request(method, url).header("content-type", "application/json");
        let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
        request.send().await.expect("an answer").status()
    };
    let token = async |role, name: &str| {
        let uses_max = (role == TokenRole::Agent).then_some(1);
        let wanted = CreateToken { name: Some(name.into()), uses_max, ..CreateToken::of(role) };
        site.admin.create_token(&wanted).await.expect("a token").text
    };
    let roles = [TokenRole::Viewer, TokenRole::Submitter, TokenRole::Publisher, TokenRole::Admin];
    let mut callers = Vec::new();
    for role in roles {
        callers.push((role, token(role, &format!("of-{}", role.as_str())).await));
    }
    let join = token(TokenRole::Agent, "join").await;
    for route in ROUTES {
        let path = path(route.path, "j999", "p999");
        assert_eq!(ask(route.method, &path, None).await, StatusCode::UNAUTHORIZED, "{route:?} without a token");
        assert_eq!(ask(route.method, &path, Some(&join)).await, StatusCode::UNAUTHORIZED, "{route:?} with a join token");
        for (role, token) in &callers {
            let status = ask(route.method, &path, Some(token)).await;
            match *role >= route.role {
                true => assert!(!matches!(status.as_u16(), 401 | 403), "{route:?} of {role:?}: {status}"),
                false => assert_eq!(status, StatusCode::FORBIDDEN, "{route:?} of {role:?}"),
            }
        }
    }

    // What somebody began is his, and an administrator's.
    let ann = site.somebody(TokenRole::Publisher, "ann").await;
    let job =
        SubmitRequest { function: "noop".into(), inputs: InputsBody::Range { first: 0, count: 1 }, ..SubmitRequest::default() };
    let job = ann.submit(&job).await.expect("submitted").job.to_string();
    let module = ann.upload(super::tests::costly(4_000)).await.expect("stored").digest;
    let request = PublishRequest { module, options: PublishOptions::default() };
    let publication = ann.begin_publication("hers", &request).await.expect("begun").publication.to_string();
    for route in ROUTES.iter().filter(|route| route.own) {
        let path = path(route.path, &job, &publication);
        for (role, token) in callers.iter().filter(|(role, _)| *role >= route.role) {
            let status = ask(route.method, &path, Some(token)).await;
            assert_eq!(status == StatusCode::FORBIDDEN, *role != TokenRole::Admin, "{route:?} of {role:?}: {status}");
        }
    }
    site.stop().await;
}
