//! The words of the HTTP interface: what is asked and answered, shared by the server and its clients.
//!
//! Everything is JSON in snake_case. Identifiers and digests are their text (`j42`, `b3:...`), times are RFC 3339 in
//! UTC, durations name their unit (`time_limit_ms`, `expires_s`), sizes are in bytes. A reason is a stable word for
//! programs and a sentence for people. Fields are only ever added.

pub mod ending;
pub mod fleet;
pub mod function;
pub mod job;
pub mod policy;
mod profile;
pub mod publication;
mod registry;
mod session;
pub mod shape;
pub mod standing;
pub mod task;
mod text;
pub mod upgrade;

use serde::{Deserialize, Serialize};

pub use self::{
    fleet::*, function::*, job::*, policy::*, profile::*, publication::*, registry::*, session::*, task::*, text::Text,
    upgrade::*,
};

/// The version of every JSON value that the command line prints.
pub use lull_agent::cli::output::SCHEMA_VERSION;
/// In front of every path but `/health`.
pub const PREFIX: &str = "/api/v1";

/// The code of every answer of a coordinator that stands by while another leads.
pub const STANDBY: &str = "standby";

/// The header of every answer that is an error, with its [`ErrorDetail::code`]: a client that asked by `HEAD` gets no body.
pub const CODE_HEADER: &str = "lull-error";
/// The header that goes with the code [`STANDBY`]: [`ErrorDetail::leader`].
pub const LEADER_HEADER: &str = "lull-leader";

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

/// What went wrong and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A stable word: `not_found`, `denied`, `invalid`, ...
    pub code: String,
    /// A sentence in lower case.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// With the code [`STANDBY`]: the URL of the leader, if it can be reached, and behind a `#` the pin of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
}

/// A part of a list, and where the next part begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The value of `from` (or `before`) that asks for the next part; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is complete.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// Why something is as it is: a word for programs, a sentence for people. Moments in the sentence are in UTC, in the form of
/// all moments in data, so that whoever shows it can show them in the time of who reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub kind: String,
    pub message: String,
    /// The moment that it speaks of: when a window opens, a pause ends, an agent was last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<jiff::Timestamp>,
}

impl Reason {
    /// A reason that speaks of no moment.
    pub fn new(kind: &str, message: impl ToString) -> Self {
        Self { kind: kind.to_owned(), message: message.to_string(), at: None }
    }

    /// It speaks of this moment.
    pub fn at(self, at: Option<lull_shared::time::Timestamp>) -> Self {
        Self { at: at.map(|at| at.to_jiff()), ..self }
    }
}

/// How many things a request changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    pub affected: u64,
}

/// A blob by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobBody {
    pub digest: lull_shared::digest::Digest,
    pub size_bytes: u64,
}

impl From<lull_shared::digest::BlobRef> for BlobBody {
    fn from(blob: lull_shared::digest::BlobRef) -> Self {
        Self { digest: blob.digest, size_bytes: blob.size_bytes }
    }
}

impl From<BlobBody> for lull_shared::digest::BlobRef {
    fn from(blob: BlobBody) -> Self {
        Self { digest: blob.digest, size_bytes: blob.size_bytes }
    }
}

/// `GET /health`: whether this coordinator does its work. Anybody may ask, so it says nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub status: HealthStatus,
}

/// What is answered with a status of 200; one that stands by or starts answers with an error instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    Ok,
}

/// The coordinator that answers, in `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerBody {
    /// The coordinator program's version.
    pub version: String,
    /// The network's name, in hexadecimal.
    pub network: String,
    /// What remembers, for people.
    pub store: String,
    /// The term of this coordinator.
    pub term: u64,
    pub since: jiff::Timestamp,
}

/// What a coordinator does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Post {
    Leader,
    Standby,
    /// It has not said for a while that it is there.
    Away,
}

/// One line of `GET /api/v1/coordinators`: those that share the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorBody {
    pub name: String,
    pub post: Post,
    /// Of the leader.
    pub term: Option<u64>,
    pub since: Option<jiff::Timestamp>,
    pub machine: String,
    pub peer: String,
    pub http: String,
    /// The pin of its key, if it speaks HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<crate::pin::Pin>,
    pub addresses: Vec<String>,
    /// When it last said that it is there.
    pub seen: jiff::Timestamp,
    /// Of the leader, if it answers itself: what the store forgot last although it had confirmed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_loss: Option<StoreLoss>,
}

/// `GET /api/v1/status`: the network in one look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub coordinator: ServerBody,
    /// The store does not answer: all of this is what the coordinator has in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_silent: Option<StoreSilent>,
    /// What the store forgot last although it had confirmed it, since this coordinator's process began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_loss: Option<StoreLoss>,
    pub agents: AgentsSummary,
    /// What is wrong with the network, as far as silence tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<OutageBody>,
    /// Rollouts that stand still, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrades_stopped: Vec<String>,
    /// Jobs that have not ended; the list below holds the newest of them.
    pub jobs_active: u64,
    /// Tasks of all active jobs.
    pub tasks: lull_shared::state::TaskCounts,
    pub jobs: Vec<JobBody>,
    /// Absent while the store does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<crate::store::record::Totals>,
}

/// A store that forgot what it had confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreLoss {
    /// When that was noticed.
    pub at: jiff::Timestamp,
    pub message: String,
    pub hint: String,
}

/// A store that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSilent {
    /// When it answered last.
    pub since: jiff::Timestamp,
    /// For people; moments are in UTC.
    pub message: String,
}
