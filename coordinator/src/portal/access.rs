//! Access: tokens and sessions, what was done with them, and by whom.

use askama::Template;
use axum::{extract::State, response::Response};
use lull_shared::{amount::counted, bound};
use serde::Deserialize;

use crate::{
    api::{AuditBody, SessionBody, TokenBody, standing::Tone},
    http::{
        Shared,
        door::{
            auth::{Admin, Asked},
            error::Answer,
        },
        fleet::{registry, sessions},
    },
    portal::{
        frame::Frame,
        words::{self, Html},
    },
};

/// Tokens and sessions on one page.
const PAGE: usize = 50;
/// Lines of the audit on one page.
const AUDIT_PAGE: usize = 100;

/// Which part of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    from: Option<usize>,
}

struct Token {
    id: String,
    /// Its number, where it is not its name.
    called: String,
    name: String,
    role: &'static str,
    state: Html,
    bound: String,
    uses: String,
    created: Html,
    by: String,
    expires: Html,
    /// What revoking it asks; nothing of one that is not valid any more.
    revoke: String,
    own: bool,
}

struct Session {
    id: String,
    name: String,
    since: Html,
    seen: Html,
    from: String,
    own: bool,
}

#[derive(Template)]
#[template(path = "access.html")]
struct Page<'a> {
    frame: &'a Frame,
    answer: String,
    tokens: Vec<Token>,
    previous: Option<String>,
    next: Option<String>,
    sessions: Vec<Session>,
    more_sessions: usize,
}

/// `GET /access`
pub(super) async fn page(
    State(state): Shared,
    admin: Admin,
    again: Admin,
    frame: Frame,
    Asked(part): Asked<Part>,
) -> Answer<Response> {
    let mut tokens = registry::tokens(State(state.clone()), admin).await?.0.items;
    let open = sessions::list(State(state), again).await?.0.items;
    tokens.sort_by_key(|token| (is_over(&frame, token), std::cmp::Reverse(token.token)));
    let valid = tokens.iter().filter(|token| !is_over(&frame, token)).count() as u64;
    let from = part.from.unwrap_or(0);
    let link = |from: usize| if from == 0 { "/access".to_owned() } else { format!("/access?from={from}") };
    frame.answer(&Page {
        answer: format!("{} and {}.", are(valid, "token", "valid"), are(open.len() as u64, "session", "open")),
        next: (tokens.len() > from.saturating_add(PAGE)).then(|| link(from + PAGE)),
        previous: (from > 0).then(|| link(from.saturating_sub(PAGE))),
        tokens: tokens.iter().skip(from).take(PAGE).map(|of| token(&frame, of)).collect(),
        more_sessions: open.len().saturating_sub(PAGE),
        sessions: open.iter().take(PAGE).map(|of| session(&frame, of)).collect(),
        frame: &frame,
    })
}

fn are(count: u64, thing: &str, how: &str) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{} {verb} {how}", counted(count, thing))
}

fn is_over(frame: &Frame, token: &TokenBody) -> bool {
    let used_up = token.uses_max.is_some_and(|most| token.uses >= most);
    token.revoked.is_some() || token.expires.is_some_and(|at| at <= frame.now) || used_up
}

fn token(frame: &Frame, of: &TokenBody) -> Token {
    let (word, tone) = match (of.revoked, of.expires) {
        (Some(_), _) => ("revoked", Tone::Odd),
        (None, Some(at)) if at <= frame.now => ("expired", Tone::Odd),
        (None, _) if is_over(frame, of) => ("used up", Tone::Odd),
        (None, _) => ("valid", Tone::Good),
    };
    let bound: Vec<String> = of.names.iter().cloned().chain(of.group.as_ref().map(|group| format!("group {group}"))).collect();
    Token {
        id: of.token.to_string(),
        called: if of.name == of.token.to_string() { String::new() } else { of.token.to_string() },
        name: frame.text(&of.name),
        role: of.role.as_str(),
        state: words::state(word, tone),
        bound: frame.text(&bound.join(" ")),
        uses: of.uses_max.map(|most| format!("{} of {most}", of.uses)).unwrap_or_default(),
        created: frame.time(&of.created),
        by: frame.text(&of.created_by),
        expires: of.expires.as_ref().map(|at| frame.time(at)).unwrap_or_default(),
        revoke: if of.revoked.is_none() && !of.own {
            format!("Revoke {} ({})? Whoever uses it is shut out at once.", of.name, of.token)
        } else {
            String::new()
        },
        own: of.own,
    }
}

fn session(frame: &Frame, of: &SessionBody) -> Session {
    Session {
        id: of.session.to_string(),
        name: frame.text(&of.name),
        since: frame.time(&of.since),
        seen: frame.time(&of.used),
        from: frame.text(&of.from),
        own: of.own,
    }
}

struct Line {
    at: Html,
    by: String,
    action: String,
    subject: String,
    detail: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Audit<'a> {
    frame: &'a Frame,
    lines: Vec<Line>,
    /// The first of these lines and the last, counted from the newest.
    shown: (usize, usize),
    previous: Option<String>,
    next: Option<String>,
    /// Whether there may be more that no page shows.
    cut: bool,
}

/// `GET /audit`
pub(super) async fn audit(State(state): Shared, _admin: Admin, frame: Frame, Asked(part): Asked<Part>) -> Answer<Response> {
    let most = usize::try_from(bound::AUDIT_SHOWN.most).unwrap_or(usize::MAX);
    let from = part.from.unwrap_or(0).min(most.saturating_sub(AUDIT_PAGE));
    let wanted = (from + AUDIT_PAGE + 1).min(most);
    let mut newest = registry::newest_lines(&state, u32::try_from(wanted).unwrap_or(u32::MAX)).await?;
    let mut lines = newest.split_off(from.min(newest.len()));
    let next = lines.len() > AUDIT_PAGE;
    lines.truncate(AUDIT_PAGE);
    let link = |from: usize| if from == 0 { "/audit".to_owned() } else { format!("/audit?from={from}") };
    let line = |line: &AuditBody| Line {
        at: frame.time(&line.at),
        by: frame.text(&line.by),
        action: frame.text(&line.action),
        subject: frame.text(&line.subject),
        detail: frame.said(&line.detail),
    };
    frame.answer(&Audit {
        shown: (from + 1, from + lines.len()),
        previous: (from > 0).then(|| link(from.saturating_sub(AUDIT_PAGE))),
        next: next.then(|| link(from + AUDIT_PAGE)),
        cut: !next && from + lines.len() >= most,
        lines: lines.iter().map(line).collect(),
        frame: &frame,
    })
}
