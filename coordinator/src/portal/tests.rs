//! The portal as browsers meet it: a coordinator over the store in memory, real sockets, pages read as text.

use std::collections::BTreeSet;

use lull_shared::{id::JobId, state::JobState};
use reqwest::{Client, Response, redirect::Policy};

use crate::{
    api::{CreateToken, InputsBody, SubmitRequest},
    http::tests::Site,
    store::record::TokenRole,
};

/// Bytes of a page, before anything is compressed.
const PAGE_BYTES_MAX: usize = 60_000;
/// Elements that have no end.
const VOID: [&str; 5] = ["br", "input", "link", "meta", "hr"];
const PAGES: [&str; 14] = [
    "/",
    "/jobs",
    "/jobs?state=active",
    "/jobs?cause=queued&mine=true",
    "/jobs/j1",
    "/jobs/j1?state=queued",
    "/jobs/j1/tasks/0",
    "/agents",
    "/functions",
    "/functions/noop",
    "/policy",
    "/network",
    "/signin",
    "/nowhere",
];
const ADMIN_PAGES: [&str; 2] = ["/access", "/audit"];

/// Somebody with a browser.
struct Browser {
    http: Client,
    base: String,
    token: Option<String>,
}

impl Browser {
    fn new(site: &Site, token: Option<String>) -> Self {
        let http = Client::builder().redirect(Policy::none()).build().expect("a client");
        Self { http, base: site.admin.base().trim_end_matches('/').to_owned(), token }
    }

    async fn of(site: &Site, role: TokenRole) -> Self {
        let wanted = CreateToken { name: Some(format!("{}-one", role.as_str())), ..CreateToken::of(role) };
        Self::new(site, Some(site.admin.create_token(&wanted).await.expect("a token").text))
    }

    async fn get(&self, path: &str) -> Response {
        let mut request = self.http.get(format!("{}{path}", self.base)).header("accept", "text/html");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.trim());
        }
        request.send().await.expect("an answer")
    }

    async fn page(&self, path: &str) -> (u16, String) {
        let answer = self.get(path).await;
        let kind = answer.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_owned());
        assert_eq!(kind.as_deref(), Some("text/html; charset=utf-8"), "{path}");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("a page"))
    }
}

/// One tag: its name, and its attributes as they are written.
struct Tag<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
}

/// The tags of a page; panics where one is not closed, or closed by another's end.
fn tags<'a>(path: &str, html: &'a str) -> Vec<Tag<'a>> {
    let (mut open, mut tags, mut rest): (Vec<&str>, Vec<Tag<'a>>, &'a str) = (Vec::new(), Vec::new(), html);
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').unwrap_or_else(|| panic!("{path}: a tag has no end: {}", &rest[at..]));
        let inner = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if inner.starts_with('!') {
            continue;
        }
        if let Some(name) = inner.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{path}: within {open:?}, before {:.120}", rest);
            continue;
        }
        let closed = inner.ends_with('/');
        let inner = inner.trim_end_matches('/');
        let (name, mut given) = inner.split_once([' ', '\n']).unwrap_or((inner, ""));
        let mut attributes = Vec::new();
        while let Some((key, others)) = given.trim_start().split_once("=\"") {
            let (value, others) = others.split_once('"').unwrap_or_else(|| panic!("{path}: {inner}"));
            attributes.extend(key.split_whitespace().map(|key| (key, value)));
            given = others;
        }
        attributes.extend(given.split_whitespace().map(|key| (key, "")));
        if !closed && !VOID.contains(&name) {
            open.push(name);
        }
        tags.push(Tag { name, attributes });
    }
    assert!(open.is_empty(), "{path}: {open:?} are not closed");
    tags
}

/// What a page may not have, and the addresses that it names.
fn check<'a>(path: &str, html: &'a str) -> BTreeSet<&'a str> {
    assert!(html.len() < PAGE_BYTES_MAX, "{path} has {} bytes", html.len());
    let tags = tags(path, html);
    let mut ids = BTreeSet::new();
    let mut links = BTreeSet::new();
    for Tag { name, attributes } in &tags {
        assert_ne!(*name, "style", "{path}");
        for (key, value) in attributes {
            assert!(!key.starts_with("on") && *key != "style", "{path}: <{name} {key}>");
            assert!(!value.contains("javascript:"), "{path}: {value}");
            if *key == "id" {
                assert!(ids.insert(*value), "{path}: the id {value} is there twice");
            }
            if ["href", "src", "action"].contains(key) {
                links.insert(*value);
            }
        }
        let has = |wanted: &str| attributes.iter().any(|(key, _)| *key == wanted);
        assert!(*name != "script" || has("src"), "{path}: a script stands in the page");
        assert!(*name != "th" || has("scope"), "{path}: a heading without its scope");
    }
    links
}

async fn peopled() -> Site {
    let site = Site::start().await;
    site.publish().await;
    let inputs = InputsBody::Range { first: 0, count: 3 };
    let request = SubmitRequest { function: "noop".into(), inputs, name: Some("night".into()), ..SubmitRequest::default() };
    assert_eq!(site.admin.submit(&request).await.expect("submitted").job, JobId(1));
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_whole_for_every_role_and_all_that_it_names_is_there() {
    let site = peopled().await;
    let mut links: BTreeSet<String> = BTreeSet::new();
    for role in [TokenRole::Viewer, TokenRole::Submitter, TokenRole::Publisher, TokenRole::Admin] {
        let browser = Browser::of(&site, role).await;
        for path in PAGES.into_iter().chain(ADMIN_PAGES) {
            let (status, html) = browser.page(path).await;
            let expected = match path {
                "/nowhere" => 404,
                _ if ADMIN_PAGES.contains(&path) && role != TokenRole::Admin => 403,
                _ => 200,
            };
            assert_eq!(status, expected, "{path} as {}: {html}", role.as_str());
            links.extend(check(path, &html).into_iter().map(|link| link.replace("&amp;", "&").replace("&#38;", "&")));
            let offered = html.contains("/jobs/j1/cancel");
            assert!(!offered || role == TokenRole::Admin, "{path} offers {} what is not allowed", role.as_str());
            assert!(role == TokenRole::Admin || !html.contains("data-path=\"/api/v1/policy\""), "{path}");
        }
        if role == TokenRole::Admin {
            assert!(browser.page("/jobs/j1").await.1.contains("/jobs/j1/cancel"), "an administrator may");
            for link in links.iter().filter(|link| link.starts_with('/')) {
                let path = link.split('#').next().unwrap_or_default();
                let status = browser.get(path).await.status().as_u16();
                assert!(status < 400 || path == "/nowhere", "{link} leads to {status}");
            }
            let style = links.iter().find(|link| link.ends_with(".css")).expect("a page names its style sheet");
            let cached = browser.get(style).await.headers().get("cache-control").cloned().expect("a header");
            assert!(cached.to_str().is_ok_and(|cached| cached.contains("immutable")));
        }
    }
    assert!(links.len() > 20, "{links:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_in_the_interfaces_words() {
    let site = peopled().await;
    let browser = Browser::new(&site, Some(site.admin_token.clone()));
    for (path, words) in [
        ("/jobs/j99", "there is no job j99"),
        ("/jobs/j1/tasks/77", "there is no task j1.77"),
        ("/agents/desk-9", "there is no agent"),
        ("/functions/other", "there is no function"),
    ] {
        let (status, html) = browser.page(path).await;
        assert!(status == 404 && html.contains(words), "{path}: {status} {html}");
        check(path, &html);
    }
    for path in ["/jobs/x", "/jobs?befor=j1", "/jobs?state=odd", "/jobs/j1?state=odd", "/agents?from=x"] {
        let (status, html) = browser.page(path).await;
        assert_eq!(status, 400, "{path}");
        check(path, &html);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_signed_in_is_sent_to_do_so_and_comes_back_to_no_other_site() {
    let site = peopled().await;
    let stranger = Browser::new(&site, None);
    let answer = stranger.get("/jobs?state=failed").await;
    let to = answer.headers().get("location").and_then(|to| to.to_str().ok()).expect("a place").to_owned();
    assert_eq!((answer.status().as_u16(), to.as_str()), (303, "/signin?next=/jobs%3Fstate%3Dfailed"));
    let then = async |path: &str| {
        let (status, html) = stranger.page(path).await;
        assert_eq!(status, 200);
        check(path, &html);
        html
    };
    assert!(then(&to).await.contains("data-then=\"/jobs?state=failed\""));
    for elsewhere in ["//evil.example", "https://evil.example", "/%5Cevil.example", "javascript:alert(1)", "%00"] {
        assert!(then(&format!("/signin?next={elsewhere}")).await.contains("data-then=\"/\""), "{elsewhere}");
    }
    let part = stranger.http.get(format!("{}/jobs", stranger.base)).header("lull-part", "1").send().await.expect("an answer");
    assert_eq!(part.status().as_u16(), 401, "a script is told, and loads the page");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_stays_text() {
    let site = peopled().await;
    let hostile = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>";
    let mut request = SubmitRequest { function: "noop".into(), args: vec![hostile.into()], ..SubmitRequest::default() };
    request.env = [("KEY".to_owned(), hostile.to_owned())].into();
    request.idempotency_key = Some(hostile.into());
    let job = site.admin.submit(&request).await.expect("submitted").job;
    let browser = Browser::new(&site, Some(site.admin_token.clone()));
    for path in [format!("/jobs/{job}"), format!("/jobs?name={}", "%22%3E%3Cscript%3E"), "/jobs?submitter=%3Cb%3E".into()] {
        let (status, html) = browser.page(&path).await;
        assert_eq!(status, 200, "{path}: {html}");
        assert!(!html.contains("<script>") && !html.contains("<img") && !html.contains("<b>\""), "{path}: {html}");
        check(&path, &html);
    }
    assert!(browser.page(&format!("/jobs/{job}")).await.1.contains("alert(1)"), "it is shown as it is");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_tells_which_jobs_changed_and_a_part_of_a_page_comes_without_its_frame() {
    let site = peopled().await;
    let browser = Browser::new(&site, Some(site.admin_token.clone()));
    let mut stream = browser.get("/live").await;
    let mut told = String::new();
    let mut read_until = async |words: &str| {
        while !told.contains(words) {
            let more = stream.chunk().await.expect("the stream goes on").expect("the stream goes on");
            told.push_str(&String::from_utf8_lossy(&more));
        }
    };
    read_until("event: hello").await;
    site.admin.cancel(JobId(1)).await.expect("cancelled");
    read_until("\"j1\"").await;
    let part = browser.http.get(format!("{}/jobs/j1", browser.base)).bearer_auth(&site.admin_token).header("lull-part", "1");
    let html = part.send().await.expect("an answer").text().await.expect("a part");
    assert!(html.contains("id=\"r-answer\"") && !html.contains("<html") && html.contains("cancelled"), "{html}");
    check("a part", &html);
    assert_eq!(site.admin.job(JobId(1)).await.expect("a job").job.state, JobState::Cancelled);
    drop(stream);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_for_something_is_led_to_it() {
    let site = peopled().await;
    let browser = Browser::new(&site, Some(site.admin_token.clone()));
    for (text, to) in [("j1", "/jobs/j1"), ("j1.2", "/jobs/j1/tasks/2"), ("night", "/jobs?name=night"), ("", "/jobs")] {
        let answer = browser.get(&format!("/find?q={text}")).await;
        let location = answer.headers().get("location").and_then(|to| to.to_str().ok());
        assert_eq!((answer.status().as_u16(), location), (303, Some(to)), "{text}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_nothing_is_an_archive() {
    let site = peopled().await;
    let browser = Browser::new(&site, Some(site.admin_token.clone()));
    let answer = browser.get("/api/v1/jobs/j1/archive").await;
    assert_eq!(answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()), Some("application/zip"));
    let bytes = answer.bytes().await.expect("an archive").to_vec();
    let archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).expect("it can be read");
    assert_eq!(archive.len(), 0);
    let none = browser.get("/api/v1/jobs/j99/archive").await;
    assert_eq!(none.status().as_u16(), 404);
    site.stop().await;
}
