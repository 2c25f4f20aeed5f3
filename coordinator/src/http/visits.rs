//! Sessions as browsers have them: a cookie in place of a token, on every route, and gone when its time or its token is.

use axum::http::StatusCode;
use reqwest::{Client, Method, RequestBuilder, header};

use super::{
    door::sessions::EACH_MAX,
    tests::{Site, client_with},
};
use crate::{
    api::{Affected, Asker, CreateToken, CreatedToken, PREFIX, Page, SessionBody, SignIn},
    store::record::TokenRole,
};

/// A browser that knows this interface.
struct Browser {
    http: Client,
    base: String,
    cookie: Option<String>,
}

impl Browser {
    fn at(site: &Site) -> Self {
        Self { http: Client::new(), base: site.admin.base().to_owned(), cookie: None }
    }

    /// What its pages ask for.
    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{PREFIX}{path}", self.base)).header("sec-fetch-site", "same-origin");
        match &self.cookie {
            Some(cookie) => request.header(header::COOKIE, cookie),
            None => request,
        }
    }

    async fn status(&self, method: Method, path: &str) -> u16 {
        self.ask(method, path).send().await.expect("an answer").status().as_u16()
    }

    async fn sign_in(&mut self, token: &str) -> (u16, Option<String>) {
        let wanted = SignIn { token: token.to_owned() };
        let answer = self.ask(Method::POST, "/session").json(&wanted).send().await.expect("an answer");
        let set = answer.headers().get(header::SET_COOKIE).map(|set| set.to_str().expect("text").to_owned());
        self.cookie = set.as_deref().map(|set| set.split(';').next().unwrap_or_default().to_owned()).or(self.cookie.take());
        (answer.status().as_u16(), set)
    }

    async fn who(&self) -> Asker {
        self.ask(Method::GET, "/session").send().await.expect("an answer").json().await.expect("who asks")
    }
}

async fn token(site: &Site, role: TokenRole, name: &str) -> CreatedToken {
    let wanted = CreateToken { name: Some(name.into()), expires_s: Some(3_600), ..CreateToken::of(role) };
    site.admin.create_token(&wanted).await.expect("a token")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_stands_for_its_token_on_every_route_until_signed_out() {
    let site = Site::start().await;
    let ann = token(&site, TokenRole::Submitter, "ann").await;
    let mut browser = Browser::at(&site);
    assert_eq!(browser.status(Method::GET, "/status").await, 401);
    let (status, set) = browser.sign_in(&ann.text).await;
    let set = set.expect("a cookie");
    assert!(status == 200 && set.contains("; HttpOnly; SameSite=Lax") && !set.contains(&ann.text), "{set}");
    let who = browser.who().await;
    assert_eq!((who.token, who.name.as_str(), who.role), (ann.token.token, "ann", TokenRole::Submitter));
    assert!(who.expires == ann.token.expires && who.session.is_some());
    assert_eq!(browser.status(Method::GET, "/status").await, 200);
    assert_eq!(browser.status(Method::POST, "/jobs/j9/cancel").await, 404, "she may, and there is none");
    assert_eq!(browser.status(Method::GET, "/tokens").await, 403);
    let kept = browser.cookie.clone();
    let out = browser.ask(Method::DELETE, "/session").send().await.expect("an answer");
    assert!(out.headers()[header::SET_COOKIE].to_str().expect("text").contains("Max-Age=0"));
    assert_eq!(out.json::<Affected>().await.expect("an answer").affected, 1);
    browser.cookie = kept;
    assert_eq!(browser.status(Method::GET, "/status").await, 401, "the cookie alone opens nothing any more");
    let actions: Vec<String> = site.admin.audit(10).await.expect("lines").items.into_iter().map(|line| line.action).collect();
    assert_eq!(actions[..2], ["session.end", "session.begin"]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_does_nothing_with_somebodys_cookie() {
    let site = Site::start().await;
    let mut browser = Browser::at(&site);
    browser.sign_in(&site.admin_token).await;
    let ask = async |headers: &[(&'static str, &str)]| {
        let cookie = browser.cookie.clone().expect("signed in");
        let url = format!("{}{PREFIX}/jobs/j9/cancel", browser.base);
        let request = headers
            .iter()
            .fold(browser.http.post(url).header(header::COOKIE, cookie), |request, (name, value)| request.header(*name, *value));
        request.send().await.expect("an answer").status()
    };
    assert_eq!(ask(&[("sec-fetch-site", "cross-site")]).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(&[("origin", "https://evil.example")]).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(&[]).await, StatusCode::FORBIDDEN, "it says nothing");
    assert_eq!(ask(&[("origin", &browser.base.clone())]).await, StatusCode::NOT_FOUND, "its own page");
    assert_eq!(ask(&[("authorization", &format!("Bearer {}", site.admin_token))]).await, StatusCode::NOT_FOUND, "a program");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_and_by_an_administrator() {
    let site = Site::start().await;
    let ann = token(&site, TokenRole::Viewer, "ann").await;
    let (mut first, mut second) = (Browser::at(&site), Browser::at(&site));
    first.sign_in(&ann.text).await;
    second.sign_in(&ann.text).await;
    let mut boss = Browser::at(&site);
    boss.sign_in(&site.admin_token).await;
    let list = async |browser: &Browser| {
        let answer = browser.ask(Method::GET, "/sessions").send().await.expect("an answer");
        answer.json::<Page<SessionBody>>().await.expect("a list").items
    };
    let sessions = list(&boss).await;
    let names: Vec<(&str, bool)> = sessions.iter().map(|session| (session.name.as_str(), session.own)).collect();
    assert_eq!((sessions.len(), names[0].1, names[1]), (3, true, ("ann", false)), "{names:?}");
    assert!(sessions.iter().all(|session| session.from == "127.0.0.1"));
    let id = first.who().await.session.expect("a session");
    assert_eq!(boss.status(Method::DELETE, &format!("/sessions/{id}")).await, 200);
    assert_eq!(boss.status(Method::DELETE, &format!("/sessions/{id}")).await, 404);
    assert_eq!((first.status(Method::GET, "/status").await, second.status(Method::GET, "/status").await), (401, 200));
    site.admin.revoke_token(ann.token.token, false).await.expect("revoked");
    assert_eq!(second.status(Method::GET, "/status").await, 401);
    assert_eq!(list(&boss).await.len(), 1, "it is not listed either");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_valid_gets_no_cookie_and_one_line_of_the_audit() {
    let site = Site::start().await;
    let join = CreateToken { uses_max: Some(1), ..CreateToken::of(TokenRole::Agent) };
    let join = site.admin.create_token(&join).await.expect("a token").text;
    let mut browser = Browser::at(&site);
    for wrong in ["", "lull_admin_00", &join] {
        assert_eq!(browser.sign_in(wrong).await, (401, None));
    }
    let lines = site.admin.audit(100).await.expect("lines").items;
    let refused: Vec<_> = lines.iter().filter(|line| line.action == "session.refuse").collect();
    assert_eq!((refused.len(), refused[0].by.as_str(), refused[0].detail.as_str()), (1, "nobody", "from 127.0.0.1"));
    let mut status = 401;
    for _ in 0..200 {
        status = browser.sign_in("lull_admin_00").await.0;
        if status != 401 {
            break;
        }
    }
    assert_eq!(status, 429, "whoever guesses is not asked for any more");
    let send = async |what: &'static str| {
        let request = browser.ask(Method::POST, "/session").header(header::CONTENT_TYPE, "application/json").body(what);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!([send("").await, send("{}").await, send(r#"{"token":5}"#).await], [400; 3]);
    let large = browser.ask(Method::POST, "/session").json(&SignIn { token: "x".repeat(10_000) });
    assert_eq!(large.send().await.expect("an answer").status(), StatusCode::PAYLOAD_TOO_LARGE);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_signs_in_again_has_one_session_and_a_program_has_none() {
    let site = Site::start().await;
    let mut browser = Browser::at(&site);
    for _ in 0..EACH_MAX + 2 {
        browser.sign_in(&site.admin_token).await;
    }
    let answer = browser.ask(Method::GET, "/sessions").send().await.expect("an answer");
    assert_eq!(answer.json::<Page<SessionBody>>().await.expect("a list").items.len(), 1);
    let program = client_with(&site, &site.admin_token);
    let who = program.asker().await.expect("who asks");
    assert!(who.session.is_none() && who.role == TokenRole::Admin && who.expires.is_none());
    site.stop().await;
}
