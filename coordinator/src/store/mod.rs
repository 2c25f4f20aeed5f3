//! What must survive: jobs, tasks, attempts, results, functions, agents, tokens and who did what.
//!
//! Cut by its users: each takes the part that it needs, and [`Store`] is all of them. Every write shows the [`Lead`] it is made under and is refused when another
//! coordinator leads. A turn of the scheduler is one [`Ledger::commit`]: one transaction, one round trip.

mod bounds;
mod cells;
pub mod check;
#[cfg(test)]
pub(crate) mod conformance;
mod decide;
pub mod embedded;
pub mod faulty;
mod lead;
mod links;
pub mod memory;
pub mod migration;
pub mod record;
mod rows;
pub mod sqlserver;
mod sweep;
mod turn;
mod usage;

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use lull_scheduler::{
    effect::Change,
    event::{EndedTask, JobSnapshot},
};
use lull_shared::{
    digest::{BlobRef, Digest, Outline},
    id::{AgentId, JobId, TaskId, TaskIndex, TokenId, VersionId},
    state::JobState,
    time::Timestamp,
};

use self::record::*;
pub(crate) use self::turn::changes_who_is_out;
pub use self::{
    check::{Check, Finding, Verdict},
    lead::{Lead, Loaded, Lost},
};
use crate::version::Which;

/// A store that does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It certainly did not happen; trying again is safe.
    #[error("the store refused: {0}")]
    Determinate(#[source] anyhow::Error),
    /// It may have happened: the coordinator must load again and never guess.
    #[error("the store may or may not have done it: {0}")]
    Indeterminate(#[source] anyhow::Error),
    /// It certainly did not happen and never will: what is stored is not what it builds on. The coordinator must load
    /// again and decide again.
    #[error("the store holds something else than this builds on: {0}")]
    Contradiction(#[source] anyhow::Error),
    /// It certainly did not happen, because the store has forgotten what it had confirmed before. The coordinator must load
    /// again, and go on from what is still there.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It certainly did not happen: another coordinator leads, or none, as the leader's row says; this one must step down. A
    /// term below one's own shows that the store has forgotten the takeover.
    #[error("{}", lead::fenced_words(.0))]
    Fenced(LeaderRecord),
}

impl StoreError {
    /// Whether it is for want of room, on this machine's disk or on the database server's.
    pub fn is_full(&self) -> bool {
        let (Self::Determinate(cause) | Self::Indeterminate(cause)) = self else { return false };
        sqlserver::is_full(cause) || cause.chain().any(|cause| embedded::is_full(cause) || is_full_disk(cause))
    }

    /// Whether the same may succeed in a while although nobody does anything about it: a wrong password, a missing right and
    /// a damaged file do not pass.
    pub fn passes(&self) -> bool {
        let (Self::Determinate(error) | Self::Indeterminate(error)) = self else { return false };
        let on_server = error.downcast_ref::<sqlserver::Fail>().is_some_and(sqlserver::Fail::needs_somebody);
        let on_file = error.downcast_ref::<embedded::Fail>().is_some_and(embedded::Fail::needs_somebody);
        !on_server && !on_file
    }
}

fn is_full_disk(cause: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    cause.downcast_ref::<std::io::Error>().is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
}

impl From<rows::Damaged> for StoreError {
    fn from(damaged: rows::Damaged) -> Self {
        Self::Determinate(damaged.into())
    }
}

/// The answer of a store.
pub type StoreResult<T> = Result<T, StoreError>;

/// What came of taking over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Takeover {
    /// This coordinator leads until the lease ends or is renewed.
    Ours(Lead),
    /// Another does, until then at least.
    Theirs { holder: String, until: Timestamp },
}

/// Who leads and who stands by.
#[async_trait]
pub trait Attendance: Send + Sync + 'static {
    /// Who leads, or led last.
    async fn leader(&self) -> StoreResult<LeaderRecord>;
    /// Says that this coordinator is there, leader or not; forgets those not seen since `forget`.
    async fn check_in(&self, own: &CoordinatorRecord, forget: Timestamp) -> StoreResult<()>;
    /// All coordinators that said so, by peer.
    async fn coordinators(&self) -> StoreResult<Vec<CoordinatorRecord>>;
}

/// Becoming the one coordinator that writes, and ceasing to be it.
#[async_trait]
pub trait Leadership: Attendance {
    /// Becomes the one coordinator that writes, in a new term, if nobody else's lease is running.
    async fn take_over(&self, holder: &str, lease: Duration, now: Timestamp) -> StoreResult<Takeover>;
    /// Prolongs the lease.
    async fn renew(&self, lead: &Lead, length: Duration, now: Timestamp) -> StoreResult<()>;
    /// Gives the lease up so that another need not wait for its end.
    async fn step_down(&self, lead: &Lead) -> StoreResult<()>;
    /// The same, and the next term is above this one, which agents have seen and a restored database has not.
    async fn raise(&self, lead: &Lead, rise: &Rise) -> StoreResult<()>;
    /// The network whose store this is; none in a new one.
    async fn network(&self) -> StoreResult<Option<NetworkRecord>>;
    /// Makes it this network's if it has none, or whatever it has if it is to be `anew`. Whose it is then.
    async fn name_network(&self, network: &NetworkRecord, anew: bool) -> StoreResult<NetworkRecord>;
}

/// What the scheduler decides, and what it needs to go on. Only its loop has this part.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Everything a scheduler needs to go on. Changes nothing, so that it takes nothing from writes of this coordinator that
    /// are on their way meanwhile; a turn among them that arrives later is found by the next one.
    async fn load(&self, lead: &Lead) -> StoreResult<Loaded>;
    /// One turn's changes, in order, all or none, in one transaction and one round trip. Durable on return. After a doubt
    /// the store must be loaded before the next turn.
    async fn commit(&self, lead: &Lead, changes: &[Change]) -> StoreResult<()>;
    /// A job for a retry, without its open tasks: those of an active job are known to its scheduler, and one that has ended
    /// has none.
    async fn load_for_retry(&self, job: JobId) -> StoreResult<Option<JobSnapshot>>;
    /// Its started tasks that ended other than well, from one on by index, at most `limit`.
    async fn ended_badly(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<EndedTask>>;
}

/// Tokens, agents, functions and the policy: each change in a transaction of its own, with its line in the audit.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// A line of the audit about something that the store does not hold.
    async fn note(&self, lead: &Lead, line: &AuditRecord) -> StoreResult<()>;
    /// None when another valid token has the name, in whatever case it is written.
    async fn create_token(&self, lead: &Lead, token: NewToken) -> StoreResult<Option<TokenRecord>>;
    async fn tokens(&self) -> StoreResult<Vec<TokenRecord>>;
    /// `false` when there is no such token.
    async fn revoke_token(&self, lead: &Lead, token: u64, by: &str, at: Timestamp) -> StoreResult<bool>;
    /// A machine says that it leaves the network; `false` when there is none with this id.
    async fn note_leaving(&self, lead: &Lead, agent: AgentId, at: Timestamp) -> StoreResult<bool>;
    /// Takes a machine off the list for good that was thrown out; `false` when none was on it. What it ran keeps its name.
    async fn remove_agent(&self, lead: &Lead, agent: AgentId, by: &str, at: Timestamp) -> StoreResult<bool>;
    /// The valid, unexpired token with this fingerprint and a role other than `agent`: who a request comes from.
    async fn authenticate(&self, fingerprint: &[u8; 32], now: Timestamp) -> StoreResult<Option<TokenRecord>>;
    /// Spends one use of a join token and makes (or finds) the agent with this peer, in one transaction.
    /// A name that is taken gets a number behind it, if the token admits that.
    async fn enrol(&self, lead: &Lead, enrolment: Enrolment) -> StoreResult<EnrolmentOutcome>;
    async fn agents(&self) -> StoreResult<Vec<AgentRecord>>;
    /// Who was thrown out, and how often that changed, as of one moment.
    async fn revocations(&self) -> StoreResult<RevocationsRecord>;
    async fn agent_by_peer(&self, peer: &[u8]) -> StoreResult<Option<AgentRecord>>;
    /// Gives the module the next number of its function. The same module under the same name and with the same NaNs is found
    /// again (`false`: it existed), unless its number is known to be another version's (`beyond`).
    async fn publish(&self, lead: &Lead, version: NewVersion) -> StoreResult<(VersionRecord, bool)>;
    /// All versions, newest first within their function; removed ones are left out.
    async fn versions(&self) -> StoreResult<Vec<VersionRecord>>;
    async fn version(&self, version: VersionId) -> StoreResult<Option<VersionRecord>>;
    /// A function's version. Removed ones are not found.
    async fn version_named(&self, function: &str, which: &Which) -> StoreResult<Option<VersionRecord>>;
    /// What every label stands for, by function and label. Those of removed versions are left out.
    async fn labels(&self) -> StoreResult<Vec<LabelRecord>>;
    /// What a label has stood for, the newest first, at most `limit`.
    async fn label_moves(&self, function: &str, label: &str, limit: u32) -> StoreResult<Vec<LabelRecord>>;
    /// Lets a label stand for a version, if the step that it follows is the label's newest and the version was not removed;
    /// `false` otherwise.
    async fn move_label(&self, lead: &Lead, new: NewLabel) -> StoreResult<bool>;
    /// Hides a version (or all of a function) from new jobs; those that have it go on. How many were hidden.
    async fn remove_versions(
        &self,
        lead: &Lead,
        function: &str,
        number: Option<u32>,
        by: &str,
        at: Timestamp,
    ) -> StoreResult<u64>;
    /// The newest edition of the policy; none until one was set.
    async fn policy(&self) -> StoreResult<Option<PolicyRecord>>;
    /// Keeps an edition, if the newest is the one that it follows; `false` otherwise.
    async fn set_policy(&self, lead: &Lead, policy: NewPolicy) -> StoreResult<bool>;
    /// The newest rollout of each platform, with how far its agents are.
    async fn rollouts(&self) -> StoreResult<Vec<RolloutRecord>>;
    /// Begins one of which no agent was told yet; `false` unless its number is above those of all others.
    async fn begin_rollout(&self, lead: &Lead, rollout: RolloutRecord) -> StoreResult<bool>;
    /// Keeps what has changed of one.
    async fn mark_rollout(&self, lead: &Lead, mark: RolloutMark) -> StoreResult<()>;
    async fn audit(&self, limit: u32) -> StoreResult<Vec<AuditRecord>>;
}

/// Jobs as people look at them.
#[async_trait]
pub trait Reading: Send + Sync + 'static {
    /// What it is: `embedded (SQLite) in DIR` or `SQL Server HOST/DATABASE`.
    fn describe(&self) -> String;
    async fn jobs(&self, filter: &JobFilter) -> StoreResult<Vec<JobRecord>>;
    async fn job(&self, job: JobId) -> StoreResult<Option<JobRecord>>;
    /// How many jobs there are of each state, each counted up to a bound.
    async fn job_counts(&self, most: u32) -> StoreResult<BTreeMap<JobState, u64>>;
    async fn job_by_key(&self, owner: TokenId, idempotency_key: &str) -> StoreResult<Option<JobId>>;
    /// Tasks in the order of their index, those never started included.
    async fn tasks(&self, job: JobId, filter: &TaskFilter) -> StoreResult<Vec<TaskRecord>>;
    async fn task(&self, task: TaskId) -> StoreResult<Option<TaskRecord>>;
    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>>;
    /// Attempts of a job's tasks, those with the highest index first and below one, at most `limit`.
    async fn newest_attempts(&self, job: JobId, before: Option<TaskIndex>, limit: u32) -> StoreResult<Vec<AttemptRecord>>;
    /// Tasks of a job that left a machine unfinished and were started again, the newest first, at most `limit`.
    async fn moves(&self, job: JobId, limit: u32) -> StoreResult<Vec<MoveRecord>>;
    /// The newest attempt's log, or that attempt's.
    async fn log(&self, task: TaskId, attempt: Option<u32>) -> StoreResult<Option<LogRecord>>;
    /// Outputs of succeeded tasks with an index from `from` on, in order, at most `limit`.
    async fn results(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<ResultRecord>>;
    async fn result(&self, task: TaskId) -> StoreResult<Option<ResultRecord>>;
    /// How late results were refused and how attempts ended, over all time.
    async fn totals(&self) -> StoreResult<Totals>;
}

/// Modules, inputs, outputs and what else is large.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// What it is, for whoever reads it now.
    async fn blob_outline(&self, digest: &Digest) -> StoreResult<Option<(BlobRef, Outline)>>;
    async fn blob_piece(&self, digest: &Digest, index: u32) -> StoreResult<Option<Bytes>>;
    /// The blob, if it is there: no sweep deletes it for most of a day then, whether anything refers to it or not. Whoever is
    /// about to refer to a blob, or tells somebody that it need not be brought, asks by this.
    async fn touch_blob(&self, digest: &Digest, now: Timestamp) -> StoreResult<Option<BlobRef>>;
    /// Begins to take in a blob of at most this size.
    async fn begin_blob(&self, size_bytes_max: u64) -> StoreResult<Box<dyn BlobWriter>>;
    /// Deletes blobs that nothing refers to and that are older than `before`. How many.
    async fn sweep_blobs(&self, lead: &Lead, before: Timestamp) -> StoreResult<u64>;
}

/// What people's requests may use: it cannot commit, nor take over.
pub trait ForPeople: Attendance + Registry + Reading + Blobs {}

impl<T: Attendance + Registry + Reading + Blobs> ForPeople for T {}

/// What agents' streams may use: it cannot commit.
pub trait ForAgents: Leadership + Registry + Blobs {}

impl<T: Leadership + Registry + Blobs> ForAgents for T {}

/// Remembers. All methods of all parts may be called at the same time.
pub trait Store: ForPeople + ForAgents + Ledger {}

impl<T: ForPeople + ForAgents + Ledger> Store for T {}

/// Takes a blob's bytes in order. Dropped unfinished, it leaves nothing that counts.
#[async_trait]
pub trait BlobWriter: Send {
    async fn write(&mut self, bytes: &[u8]) -> StoreResult<()>;
    /// Makes the blob durable and says what it was; a blob that was there already is found again.
    async fn finish(self: Box<Self>) -> StoreResult<BlobRef>;
}

/// Which store a coordinator uses.
#[derive(Clone)]
pub enum StoreChoice {
    /// SQLite in a folder.
    Embedded(PathBuf),
    /// A database on SQL Server, by an ADO connection string.
    SqlServer(String),
    /// Nothing survives: for trials and tests.
    Memory,
}

/// Without the connection string, which may hold a password.
impl fmt::Debug for StoreChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(dir) => f.debug_tuple("Embedded").field(dir).finish(),
            Self::SqlServer(_) => f.write_str("SqlServer(..)"),
            Self::Memory => f.write_str("Memory"),
        }
    }
}

/// Opens a store, and brings it to this program's version if that is needed and allowed.
pub async fn open(choice: &StoreChoice) -> StoreResult<Arc<dyn Store>> {
    match choice {
        StoreChoice::Embedded(dir) => embedded::open(dir).await,
        StoreChoice::SqlServer(connection_string) => sqlserver::open(connection_string).await,
        StoreChoice::Memory => Ok(Arc::new(memory::Memory::default())),
    }
}

/// What `lull db script` prints: the whole of the tables, views and rights, to be run by somebody who may make them.
pub fn script(choice: &StoreChoice) -> String {
    match choice {
        StoreChoice::Embedded(_) => embedded::script(),
        StoreChoice::SqlServer(_) => sqlserver::script(),
        StoreChoice::Memory => "-- Nothing to run: this store keeps everything in memory.\n".into(),
    }
}

/// What `lull db migrate` does: brings the database to this program's version. How many steps were applied.
pub async fn migrate(choice: &StoreChoice) -> StoreResult<usize> {
    match choice {
        StoreChoice::Embedded(dir) => embedded::migrate(dir).await,
        StoreChoice::SqlServer(connection_string) => sqlserver::migrate(connection_string).await,
        StoreChoice::Memory => Ok(0),
    }
}

/// What `lull db check` says: what is there, what is missing, and what to do about it. Changes nothing.
pub async fn check(choice: &StoreChoice) -> Check {
    match choice {
        StoreChoice::Embedded(dir) => {
            let dir = dir.clone();
            let looked = tokio::task::spawn_blocking(move || embedded::check(&dir)).await;
            looked.unwrap_or_else(|_| Check::new("embedded (SQLite)".into(), 0))
        }
        StoreChoice::SqlServer(connection_string) => sqlserver::check(connection_string).await,
        StoreChoice::Memory => Check::new("memory".into(), 0),
    }
}

#[cfg(test)]
mod error_tests {
    use super::*;

    /// Room is made by somebody, and then the same is tried again: that is only right of what can still happen.
    #[test]
    fn only_what_may_be_tried_again_is_for_want_of_room() {
        let full = || anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::StorageFull)).context("it cannot be written");
        assert!(StoreError::Determinate(full()).is_full() && StoreError::Indeterminate(full()).is_full());
        assert!(!StoreError::Contradiction(full()).is_full());
        assert!(!StoreError::Determinate(anyhow::anyhow!("no such table")).is_full());
    }
}
