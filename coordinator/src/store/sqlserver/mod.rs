//! The store on a server: SQL Server 2017 and later, for an organisation that has one.
//!
//! ```text
//! Turn -> JSON + bytes -> one batch: fence, set-based statements, settle -> Applied | Fenced | contradicted
//! ```
//! Each writing batch changes the one row of `lull.leader` first. So writers come one after the other, and whoever does not
//! lead is refused and told who does. A turn of our own that was in doubt and arrives after the store was loaded is refused
//! or found by its number. No statement leans on lock hints.

mod blobs;
mod check;
#[cfg(test)]
mod columns;
mod connection;
mod error;
mod jobs;
mod registry;
mod schema;
mod session;
mod shape;
mod statements;
#[cfg(test)]
mod tds;
#[cfg(test)]
mod tests;
mod turn;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use lull_shared::{
    digest::{Digest, Outline},
    id::{JobId, TaskId, TaskIndex, TokenId, VersionId},
    time::Timestamp,
};

pub(crate) use self::error::Fail;
#[cfg(test)]
pub(crate) use self::error::Purpose;
pub use self::error::is_full;
#[cfg(test)]
pub use self::schema::MIGRATIONS;
pub use self::schema::script;
use self::session::{Outcome, Session};
use super::{
    BlobRef, BlobWriter, Check, Finding, Lead, Loaded, Store, StoreResult, Takeover, bounds,
    lead::Kind,
    record::*,
    turn::{Broken, Turn},
};
use crate::scheduler::{
    effect::Change,
    event::{EndedTask, JobSnapshot},
};

/// Connects by an ADO connection string. Tables that are missing are made if the login may.
pub async fn open(connection_string: &str) -> StoreResult<Arc<dyn Store>> {
    let session = Session::new(connection_string)?;
    schema::ensure(&session).await?;
    let answer = session.read(statements::LOOK, &[]).await?;
    let database = jobs::first(&answer, 0, |row| row.text("database_name")).map_err(Fail::from)?.flatten();
    let name = format!("SQL Server {}/{}", session.server(), database.unwrap_or_default());
    Ok(Arc::new(SqlServer { session: Arc::new(session), name }))
}

/// Brings the database to this program's version; the login needs the right to create tables. How many steps were
/// applied.
pub async fn migrate(connection_string: &str) -> StoreResult<usize> {
    Ok(schema::migrate(&Session::new(connection_string)?).await?)
}

/// Looks at the database without changing it.
pub async fn check(connection_string: &str) -> Check {
    match Session::new(connection_string) {
        Ok(session) => check::check(&session).await,
        Err(fail) => {
            let mut check = Check::new("SQL Server".into(), super::migration::newest(&schema::MIGRATIONS));
            check.push(Finding::failed(&fail.to_string()));
            check
        }
    }
}

/// The store in one database.
struct SqlServer {
    session: Arc<Session>,
    name: String,
}

/// What the numbers that `sql/commit.sql` answers with mean.
fn contradiction(number: i64) -> Broken {
    Broken(match number {
        3 => "a task is not where the changes say it was".into(),
        4 => "an attempt that should be live is not".into(),
        5 => "a job is not there, or its tasks are not started in the order of their index".into(),
        6 => "an agent is not there".into(),
        other => format!("check {other} of the batch failed"),
    })
}

#[async_trait]
impl Store for SqlServer {
    fn describe(&self) -> String {
        self.name.clone()
    }

    async fn take_over(&self, holder: &str, lease: Duration, now: Timestamp) -> StoreResult<Takeover> {
        Ok(registry::take_over(&self.session, holder, lease, now).await?)
    }

    async fn renew(&self, lead: &Lead, length: Duration, now: Timestamp) -> StoreResult<()> {
        Ok(registry::renew(&self.session, lead, length, now).await?)
    }

    async fn step_down(&self, lead: &Lead) -> StoreResult<()> {
        Ok(registry::step_down(&self.session, lead).await?)
    }

    async fn raise(&self, lead: &Lead, rise: &Rise) -> StoreResult<()> {
        Ok(registry::raise(&self.session, lead, rise).await?)
    }

    async fn note(&self, lead: &Lead, line: &AuditRecord) -> StoreResult<()> {
        Ok(registry::note(&self.session, lead, line).await?)
    }

    async fn leader(&self) -> StoreResult<LeaderRecord> {
        Ok(registry::leader(&self.session).await?)
    }

    async fn check_in(&self, own: &CoordinatorRecord, forget: Timestamp) -> StoreResult<()> {
        Ok(registry::check_in(&self.session, &bounds::coordinator(own), forget).await?)
    }

    async fn coordinators(&self) -> StoreResult<Vec<CoordinatorRecord>> {
        Ok(registry::coordinators(&self.session).await?)
    }

    async fn network(&self) -> StoreResult<Option<NetworkRecord>> {
        Ok(registry::network(&self.session).await?)
    }

    async fn name_network(&self, network: &NetworkRecord, anew: bool) -> StoreResult<NetworkRecord> {
        Ok(registry::name_network(&self.session, network, anew).await?)
    }

    async fn load(&self, lead: &Lead) -> StoreResult<Loaded> {
        Ok(jobs::load(&self.session, lead).await?)
    }

    async fn commit(&self, lead: &Lead, changes: &[Change]) -> StoreResult<()> {
        let rows = Turn::fold(changes).map_err(Fail::Broken)?;
        let parameters = turn::parameters(&rows);
        let values = vec![parameters.json.into(), parameters.bytes.into()];
        match self.session.fenced(lead, Kind::Turn, statements::COMMIT, values).await? {
            Outcome::Done { .. } => Ok(()),
            Outcome::Changed => Err(Fail::Contended.into()),
            Outcome::Contradicted(number) => Err(Fail::Broken(contradiction(number)).into()),
        }
    }

    async fn load_for_retry(&self, job: JobId) -> StoreResult<Option<(JobSnapshot, Vec<EndedTask>)>> {
        Ok(jobs::load_for_retry(&self.session, job).await?)
    }

    async fn create_token(&self, lead: &Lead, token: NewToken) -> StoreResult<Option<TokenRecord>> {
        Ok(registry::create_token(&self.session, lead, &token).await?)
    }

    async fn tokens(&self) -> StoreResult<Vec<TokenRecord>> {
        Ok(registry::tokens(&self.session).await?)
    }

    async fn revoke_token(&self, lead: &Lead, token: u64, by: &str, at: Timestamp) -> StoreResult<bool> {
        Ok(registry::revoke_token(&self.session, lead, token, by, at).await?)
    }

    async fn authenticate(&self, fingerprint: &[u8; 32], now: Timestamp) -> StoreResult<Option<TokenRecord>> {
        Ok(registry::authenticate(&self.session, fingerprint, now).await?)
    }

    async fn enrol(&self, lead: &Lead, enrolment: Enrolment) -> StoreResult<EnrolmentOutcome> {
        Ok(registry::enrol(&self.session, lead, &enrolment).await?)
    }

    async fn agents(&self) -> StoreResult<Vec<AgentRecord>> {
        Ok(registry::agents(&self.session).await?)
    }

    async fn revocations(&self) -> StoreResult<RevocationsRecord> {
        Ok(registry::revocations(&self.session).await?)
    }

    async fn agent_by_peer(&self, peer: &[u8]) -> StoreResult<Option<AgentRecord>> {
        Ok(registry::agent_by_peer(&self.session, peer).await?)
    }

    async fn publish(&self, lead: &Lead, version: NewVersion) -> StoreResult<(VersionRecord, bool)> {
        Ok(registry::publish(&self.session, lead, &version).await?)
    }

    async fn versions(&self) -> StoreResult<Vec<VersionRecord>> {
        Ok(registry::versions(&self.session).await?)
    }

    async fn version(&self, version: VersionId) -> StoreResult<Option<VersionRecord>> {
        Ok(registry::version(&self.session, version).await?)
    }

    async fn version_named(&self, function: &str, number: Option<u32>) -> StoreResult<Option<VersionRecord>> {
        Ok(registry::version_named(&self.session, function, number).await?)
    }

    async fn remove_versions(
        &self,
        lead: &Lead,
        function: &str,
        number: Option<u32>,
        by: &str,
        at: Timestamp,
    ) -> StoreResult<u64> {
        Ok(registry::remove_versions(&self.session, lead, function, number, by, at).await?)
    }

    async fn policy(&self) -> StoreResult<Option<PolicyRecord>> {
        Ok(registry::policy(&self.session).await?)
    }

    async fn set_policy(&self, lead: &Lead, policy: NewPolicy) -> StoreResult<bool> {
        Ok(registry::set_policy(&self.session, lead, &policy).await?)
    }

    async fn audit(&self, limit: u32) -> StoreResult<Vec<AuditRecord>> {
        Ok(registry::audit(&self.session, limit).await?)
    }

    async fn jobs(&self, filter: &JobFilter) -> StoreResult<Vec<JobRecord>> {
        Ok(jobs::jobs(&self.session, filter).await?)
    }

    async fn job(&self, job: JobId) -> StoreResult<Option<JobRecord>> {
        Ok(jobs::job(&self.session, job).await?)
    }

    async fn job_by_key(&self, owner: TokenId, idempotency_key: &str) -> StoreResult<Option<JobId>> {
        Ok(jobs::job_by_key(&self.session, owner, idempotency_key).await?)
    }

    async fn tasks(&self, job: JobId, filter: &TaskFilter) -> StoreResult<Vec<TaskRecord>> {
        Ok(jobs::tasks(&self.session, job, filter).await?)
    }

    async fn task(&self, task: TaskId) -> StoreResult<Option<TaskRecord>> {
        Ok(jobs::task(&self.session, task).await?)
    }

    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
        Ok(jobs::attempts(&self.session, task).await?)
    }

    async fn moves(&self, job: JobId, limit: u32) -> StoreResult<Vec<MoveRecord>> {
        Ok(jobs::moves(&self.session, job, limit).await?)
    }

    async fn log(&self, task: TaskId, attempt: Option<u32>) -> StoreResult<Option<LogRecord>> {
        Ok(jobs::log(&self.session, task, attempt).await?)
    }

    async fn results(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<ResultRecord>> {
        Ok(jobs::results(&self.session, job, from, limit).await?)
    }

    async fn result(&self, task: TaskId) -> StoreResult<Option<ResultRecord>> {
        Ok(jobs::result(&self.session, task).await?)
    }

    async fn totals(&self) -> StoreResult<Totals> {
        Ok(jobs::totals(&self.session).await?)
    }

    async fn blob_outline(&self, digest: &Digest) -> StoreResult<Option<(BlobRef, Outline)>> {
        Ok(blobs::outline(&self.session, digest).await?)
    }

    async fn blob_piece(&self, digest: &Digest, index: u32) -> StoreResult<Option<Bytes>> {
        Ok(blobs::piece(&self.session, digest, index).await?)
    }

    async fn begin_blob(&self, size_bytes_max: u64) -> StoreResult<Box<dyn BlobWriter>> {
        Ok(Box::new(blobs::Incoming::begin(self.session.clone(), size_bytes_max).await?))
    }

    async fn sweep_blobs(&self, lead: &Lead, before: Timestamp) -> StoreResult<u64> {
        Ok(blobs::sweep(&self.session, lead, before).await?)
    }
}

/// Deletes every row but the ledger's, for tests.
#[cfg(test)]
pub async fn empty(connection_string: &str) -> StoreResult<()> {
    let session = Session::new(connection_string)?;
    session.script(tests::EMPTY, Duration::from_secs(60)).await?;
    Ok(())
}

/// The name of the database, for tests: asked for without making anything in it.
#[cfg(test)]
pub async fn database(connection_string: &str) -> StoreResult<String> {
    let answer = Session::new(connection_string)?.read(statements::LOOK, &[]).await?;
    let name = jobs::first(&answer, 0, |row| row.text("database_name")).map_err(Fail::from)?;
    Ok(name.flatten().unwrap_or_default())
}

/// How many rows a view has and how many pages were looked at for them, if the server says so; for a measurement.
#[cfg(test)]
pub async fn measure(connection_string: &str, view: &str) -> StoreResult<(usize, Option<i64>)> {
    let session = Session::new(connection_string)?;
    let read = "(SELECT requests.logical_reads FROM sys.dm_exec_requests AS requests WHERE requests.session_id = @@SPID)";
    let sql = format!("DECLARE @before bigint = {read};\nSELECT * FROM lull.{view};\nSELECT {read} - @before AS pages;");
    let answer = match session.read(&sql, &[]).await {
        Ok(answer) => answer,
        Err(_) => session.read(&format!("SELECT * FROM lull.{view}"), &[]).await?,
    };
    let pages = jobs::first(&answer, 1, |row| row.int("pages")).map_err(Fail::from)?.flatten();
    Ok((answer.first().map_or(0, Vec::len), pages))
}

/// The rows of a view as text, for tests.
#[cfg(test)]
pub async fn view(connection_string: &str, name: &str) -> StoreResult<Vec<Vec<String>>> {
    let session = Session::new(connection_string)?;
    let answer = session.read(&format!("SELECT * FROM lull.{name}"), &[]).await?;
    let text = |row: &tiberius::Row| row.cells().map(|(_, cell)| format!("{cell:?}")).collect();
    Ok(answer.first().map(|rows| rows.iter().map(text).collect()).unwrap_or_default())
}

/// The views that the steps make, for tests.
#[cfg(test)]
pub fn views() -> Vec<String> {
    schema::shape(&schema::MIGRATIONS).views().map(str::to_owned).collect()
}
