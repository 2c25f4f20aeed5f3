//! What an answer says when it is no: a status, a stable word, a sentence and a hint. Never an inner detail.

use std::{borrow::Cow, error::Error};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use lull_scheduler::effect::Refusal;
use lull_shared::{hint, misread::Misread, time::Timestamp};

use crate::{
    api::{CODE_HEADER, ErrorBody, ErrorDetail, LEADER_HEADER, STANDBY},
    http::door::body::BodyError,
    inputs::InputError,
    store::StoreError,
};

/// A request that is not granted.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    /// Where the request would be granted.
    leader: Option<String>,
}

/// The answer of every handler.
pub(crate) type Answer<T> = Result<T, Refused>;

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), hint: None, leader: None }
    }

    fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same refusal with other advice.
    pub fn instead(self, hint: &'static str) -> Self {
        self.hint(hint)
    }

    /// Something that does not exist.
    pub fn not_found(message: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message).hint(hint)
    }

    /// A request that can never be granted as it is. Without a hint, one that stands in the message counts.
    pub fn invalid(message: impl Into<Cow<'static, str>>, hint: Option<&str>) -> Self {
        let message = message.into();
        let (words, within) = hint::split(&message);
        let refused = Self::new(StatusCode::BAD_REQUEST, "invalid", words.to_owned());
        match hint.or(within) {
            Some(hint) => refused.hint(hint.to_owned()),
            None => refused,
        }
    }

    /// The same of one field; the words have their hint.
    pub fn field(field: &str, words: &str) -> Self {
        Self::invalid(format!("`{field}`: {words}"), None)
    }

    /// Something that was not understood, by its place.
    pub fn misread(Misread { key, message, hint }: Misread) -> Self {
        let place = if key.is_empty() { String::new() } else { format!("`{key}`: ") };
        Self::invalid(format!("{place}{message}"), Some(&hint))
    }

    /// A body that does not say that it is JSON.
    pub fn not_json() -> Self {
        Self::invalid(
            "the body must be JSON, and its header does not say so",
            Some("send it with `content-type: application/json`"),
        )
    }

    /// A path that is there, asked in another way than it is meant.
    pub fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid", "this path does not take this method")
            .hint("the header `allow` of this answer names those that it takes")
    }

    /// More bytes than are taken.
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).hint("send less at once")
    }

    /// No token, or one that is not valid. The same words for every reason.
    pub fn unknown_caller() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "a valid token is needed").hint(
            "ask an administrator for one made by `lull token create --role submitter`, then `lull login URL --token-file FILE`",
        )
    }

    /// A cookie whose session is not there any more.
    pub fn session_over() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "the session has ended").hint("sign in again with your token")
    }

    /// Whether it is one of these two.
    pub fn is_unknown_caller(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// Whether it is too much at the moment.
    pub fn is_busy(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// Whether something is not there at the moment.
    pub fn is_unavailable(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// A valid token whose role does not suffice.
    pub fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "denied", message).hint("ask an administrator for a token with that role")
    }

    /// The way things stand forbids it.
    pub fn conflict(message: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message).hint(hint)
    }

    /// Too much of it at the moment.
    pub fn busy(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", message).hint("try again in a moment")
    }

    /// A body that lets us wait.
    pub fn too_slow(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message).hint("send it again")
    }

    /// A body that did not come to its end.
    pub fn cut_short(error: axum::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(slow @ BodyError::TooSlow) = error.downcast_ref() {
                return Self::too_slow(slow.to_string());
            }
            cause = error.source();
        }
        Self::invalid("the body ended early", Some("send it again"))
    }

    /// A request that came here by a name that is not this server's.
    pub fn misdirected(message: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", message).hint(hint)
    }

    /// A request that a browser makes for a page of another site.
    pub fn cross_site() -> Self {
        Self::new(StatusCode::FORBIDDEN, "cross_site", "a page of another site may not change anything here")
            .hint("use the command line, or a program that sends neither Origin nor Sec-Fetch-Site")
    }

    /// A request with a session's cookie of which it is not known whether a page of ours made it.
    pub fn without_origin() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "a request that changes something in a session must say where it comes from",
        )
        .hint("browsers send Sec-Fetch-Site or Origin by themselves; a program sends its token instead of the cookie")
    }

    /// There is no room for it on the coordinator's disk.
    pub fn disk_full() -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", "the coordinator's disk or its database is full").hint(
            "ask an administrator to make room in its data folder or its database; what is under way goes on by itself then",
        )
    }

    /// The coordinator cannot do its work at the moment.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).hint("try again in a moment")
    }

    /// The store does not answer since then. What it was asked is done when it is back, or never.
    pub fn store_silent(since: Timestamp, changes: bool) -> Self {
        let message = format!("the database does not answer since {since}; the coordinator goes on when it is back");
        let hint = match changes {
            true => "`lull status` shows what it knows meanwhile; what you asked may still be done: look before you ask again",
            false => "`lull status` shows what the coordinator knows meanwhile; look at the database server",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_silent", message).hint(hint)
    }

    /// Another coordinator leads, at this URL if it can be reached.
    pub fn standby(message: impl Into<Cow<'static, str>>, leader: Option<String>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { leader, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, STANDBY, message).hint(hint) }
    }
}

impl Refused {
    /// Its status, and its words.
    pub fn into_parts(self) -> (u16, ErrorDetail) {
        let hint = self.hint.unwrap_or(Cow::Borrowed(last_hint(self.status)));
        let detail = ErrorDetail {
            code: self.code.to_owned(),
            message: self.message.into_owned(),
            hint: Some(hint.into_owned()),
            leader: self.leader,
        };
        (self.status.as_u16(), detail)
    }
}

/// What to do when nothing better is known.
const fn last_hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 405 | 413 => "correct the request; the command line's `--help` names what each takes",
        401 | 403 => "ask an administrator for a token with that role",
        404 => "look at the name or the number again",
        409 => "look how it stands, and ask again if it is still wanted",
        _ => "try again in a moment",
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code, leader) = (self.status, self.code, self.leader.clone());
        let mut response = (status, Json(ErrorBody { error: self.into_parts().1 })).into_response();
        // A `HEAD` is answered without the body.
        response.headers_mut().insert(CODE_HEADER, HeaderValue::from_static(code));
        if let Some(leader) = leader.and_then(|leader| HeaderValue::from_str(&leader).ok()) {
            response.headers_mut().insert(LEADER_HEADER, leader);
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "a request failed at the store");
        if error.is_full() {
            return Self::disk_full();
        }
        match error {
            StoreError::Fenced(_) => Self::unavailable("another coordinator has taken over; this one stands by"),
            StoreError::Contradiction(_) | StoreError::Lost(_) => {
                Self::unavailable("the store holds something else than was expected")
                    .hint("the coordinator loads it again; look whether it was done before you ask again")
            }
            StoreError::Determinate(_) if error.passes() => Self::unavailable("the store did not answer")
                .hint("try again in a moment; the coordinator's log says what the database answered"),
            StoreError::Determinate(_) => Self::unavailable("the store cannot do this")
                .hint("ask an administrator: `lull db check` says what is missing in the database"),
            StoreError::Indeterminate(_) => {
                Self::unavailable("the store did not confirm; look whether it was done before you ask again")
            }
        }
    }
}

impl From<crate::dispatch::DispatchError> for Refused {
    fn from(error: crate::dispatch::DispatchError) -> Self {
        tracing::warn!(%error, "a request found no scheduler");
        Self::unavailable("the coordinator is starting, stopping or has lost its store")
    }
}

impl From<InputError> for Refused {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Store(error) => error.into(),
            InputError::Missing(_) => Self::not_found("the job's inputs are not there any more", "submit the job again"),
            InputError::Pack(error) => Self::invalid(error.to_string(), Some("make the pack anew, and upload it again")),
            InputError::Index(index) => {
                Self::not_found(format!("there is no input {index}"), "`lull task list JOB` shows a job's tasks")
            }
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::NoJob(_) => Self::not_found(message, "`lull job list` shows the jobs"),
            Refusal::NoAgent(_) => Self::not_found(message, "`lull agent list` shows the agents"),
            Refusal::TooManyJobs { .. } => Self::busy(message).hint("wait for some jobs to end, then submit again"),
            Refusal::ShareSpent { .. } => Self::busy(message).hint(
                "wait for some of your jobs to end, or cancel some; an administrator can allow more: \
                 `lull server run --jobs-each`, `--tasks-each`, `--input-bytes-each`, `--argument-bytes-each`",
            ),
            Refusal::FinishByPassed(_) => Self::invalid(message, Some("give a time in the future")),
            Refusal::Overdue(_) => Self::conflict(message, "give it a new moment: `lull job retry JOB --finish-by \"in 8h\"`"),
            Refusal::KeyTaken { job } => Self::conflict(
                message,
                format!(
                    "take another key, or look at {job}: a key belongs to its job for as long as the coordinator remembers the job"
                ),
            ),
            Refusal::Changed(_) => Self::busy(message),
            Refusal::Ended { job, .. } => Self::conflict(
                message,
                format!("`lull job show {job}` says how it ended; `lull job retry {job}` runs again what did not succeed"),
            ),
            Refusal::RetriedAlready(job) => Self::conflict(
                message,
                format!(
                    "the retry is under way: `lull wait {job}` waits for its end, `lull job show {job}` says how its tasks stand"
                ),
            ),
            Refusal::NothingToRetry(job) => Self::conflict(message, format!("`lull job show {job}` says how its tasks stand")),
            Refusal::Revoked(agent) => Self::conflict(message, format!("`lull agent restore {agent}` lets it in again")),
            Refusal::DependencyFailed { job, .. } => Self::conflict(
                message,
                format!(
                    "`lull job retry {job}` runs again what did not succeed; `--after any:{job}` waits for its end, however it ends"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        id::{AgentId, JobId},
        state::JobState,
    };

    use super::*;

    #[test]
    fn only_who_must_sign_in_is_told_how() {
        let how = |refused: Refused| refused.into_response().headers().get(header::WWW_AUTHENTICATE).cloned();
        let answers = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN]
            .map(|status| how(Refused { status, ..Refused::from(StoreError::Determinate(anyhow::anyhow!("x"))) }));
        assert_eq!(answers, [Some(HeaderValue::from_static("Bearer")), None]);
    }

    #[test]
    fn a_store_that_fails_says_nothing_of_its_inside() {
        let inner = anyhow::anyhow!("disk I/O error in /var/lib/secret.db");
        let refused = Refused::from(StoreError::Determinate(inner));
        assert_eq!((refused.status, refused.message.as_ref()), (StatusCode::SERVICE_UNAVAILABLE, "the store did not answer"));
    }

    #[test]
    fn a_store_without_room_says_so_and_not_to_try_again() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        for error in
            [StoreError::Determinate(full.into()), StoreError::Indeterminate(anyhow::Error::new(sqlite_full()).context("x"))]
        {
            let refused = Refused::from(error);
            assert_eq!((refused.status, refused.code), (StatusCode::INSUFFICIENT_STORAGE, "disk_full"));
        }
    }

    fn sqlite_full() -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None)
    }

    #[test]
    fn refusals_of_the_scheduler_keep_their_words_and_say_what_to_do() {
        let refused = Refused::from(Refusal::NoJob(JobId(9)));
        assert_eq!((refused.status, refused.message.as_ref()), (StatusCode::NOT_FOUND, "there is no job j9"));

        let (job, state, agent) = (JobId(9), JobState::Failed, AgentId(4));
        for (refusal, hint) in [
            (Refusal::Ended { job, state }, "`lull job retry j9`"),
            (Refusal::NothingToRetry(job), "`lull job show j9`"),
            (Refusal::RetriedAlready(job), "`lull wait j9`"),
            (Refusal::DependencyFailed { job, state }, "`--after any:j9`"),
            (Refusal::Revoked(agent), "`lull agent restore a4`"),
        ] {
            let refused = Refused::from(refusal);
            assert_eq!(refused.status, StatusCode::CONFLICT);
            assert!(refused.hint.as_deref().is_some_and(|said| said.contains(hint)), "{refused:?}");
        }
    }
}
