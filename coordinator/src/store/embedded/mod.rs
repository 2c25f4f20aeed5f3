//! The store in a file: SQLite, for a site that wants no database server.
//!
//! One thread writes, a transaction per turn, durable before it answers; a few connections read beside it. The file
//! belongs to the coordinator's account alone. It can be copied with any tool that knows SQLite while in use.

mod blobs;
mod check;
mod connection;
mod error;
mod jobs;
mod leadership;
#[cfg(test)]
pub mod plans;
mod reader;
mod registry;
mod schema;
#[cfg(test)]
mod tests;
mod turn;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use lull_shared::{
    digest::{Digest, Outline},
    id::{JobId, TaskId, TaskIndex, TokenId, VersionId},
    time::Timestamp,
};
use rusqlite::Transaction;

pub(crate) use self::error::Fail;
#[cfg(test)]
use self::schema::MIGRATIONS;
pub use self::{check::check, error::is_full, schema::script};
use self::{reader::Readers, writer::Writer};
use super::{
    BlobRef, BlobWriter, Lead, Loaded, Store, StoreResult, Takeover, bounds,
    lead::{Kind, Refusal},
    record::*,
    turn::Turn,
};
use crate::scheduler::{
    effect::Change,
    event::{EndedTask, JobSnapshot},
};

/// Opens (or makes) the store in a folder and brings it to this program's version.
pub async fn open(dir: &Path) -> StoreResult<Arc<dyn Store>> {
    let dir = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(dir)).await.map_err(|_| Fail::Stopped)?;
    Ok(Arc::new(opened?))
}

/// Brings the database in a folder to this program's version, making it if need be. How many steps were applied.
pub async fn migrate(dir: &Path) -> StoreResult<usize> {
    let dir = dir.to_owned();
    let migrated = tokio::task::spawn_blocking(move || {
        let file = connection::create(&dir)?;
        schema::migrate(&mut connection::writer(&file)?)
    });
    Ok(migrated.await.map_err(|_| Fail::Stopped)??)
}

/// The store in one folder.
struct Embedded {
    dir: PathBuf,
    writer: Arc<Writer>,
    readers: Readers,
}

impl Embedded {
    fn open(dir: PathBuf) -> Result<Self, Fail> {
        let file = connection::create(&dir)?;
        let writer = Arc::new(Writer::start(&file)?);
        Ok(Self { dir, writer, readers: Readers::new(file) })
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> StoreResult<T> {
        Ok(self.writer.write(work).await?)
    }

    async fn fenced<T: Send + 'static>(
        &self,
        lead: &Lead,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> StoreResult<T> {
        Ok(self.writer.fenced(lead, Kind::Other, work).await?)
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> StoreResult<T> {
        Ok(self.readers.read(work).await?)
    }
}

#[async_trait]
impl Store for Embedded {
    fn describe(&self) -> String {
        format!("embedded (SQLite) in {}", self.dir.display())
    }

    async fn take_over(&self, holder: &str, lease: Duration, now: Timestamp) -> StoreResult<Takeover> {
        let holder = holder.to_owned();
        self.write(move |tx| leadership::take_over(tx, &holder, lease, now)).await
    }

    async fn renew(&self, lead: &Lead, length: Duration, now: Timestamp) -> StoreResult<()> {
        self.fenced(lead, move |tx| leadership::renew(tx, length, now)).await
    }

    async fn step_down(&self, lead: &Lead) -> StoreResult<()> {
        self.fenced(lead, leadership::step_down).await
    }

    async fn raise(&self, lead: &Lead, rise: &Rise) -> StoreResult<()> {
        let rise = rise.clone();
        self.fenced(lead, move |tx| leadership::raise(tx, &rise)).await
    }

    async fn note(&self, lead: &Lead, line: &AuditRecord) -> StoreResult<()> {
        let line = line.clone();
        self.fenced(lead, move |tx| registry::note(tx, &line)).await
    }

    async fn leader(&self) -> StoreResult<LeaderRecord> {
        self.read(leadership::leader).await
    }

    async fn check_in(&self, own: &CoordinatorRecord, forget: Timestamp) -> StoreResult<()> {
        let own = bounds::coordinator(own);
        self.write(move |tx| leadership::check_in(tx, &own, forget)).await
    }

    async fn coordinators(&self) -> StoreResult<Vec<CoordinatorRecord>> {
        self.read(leadership::coordinators).await
    }

    async fn network(&self) -> StoreResult<Option<NetworkRecord>> {
        self.read(leadership::network).await
    }

    async fn name_network(&self, network: &NetworkRecord, anew: bool) -> StoreResult<NetworkRecord> {
        let network = network.clone();
        self.write(move |tx| leadership::name_network(tx, &network, anew)).await
    }

    async fn load(&self, lead: &Lead) -> StoreResult<Loaded> {
        let own = lead.clone();
        // After every turn that was handed in, also one that nobody waits for any more.
        let loaded = self.write(move |tx| {
            let row = leadership::leader_row(tx)?;
            if !row.is_led_by(own.term, &own.holder) {
                return Err(Refusal::Fenced(row.leader).into());
            }
            Ok((jobs::load(tx)?, row.counts))
        });
        let (snapshot, counts) = loaded.await?;
        Ok(Loaded { snapshot, lost: lead.loaded(counts) })
    }

    async fn commit(&self, lead: &Lead, changes: &[Change]) -> StoreResult<()> {
        let rows = Turn::fold(changes).map_err(Fail::Broken)?;
        Ok(self.writer.fenced(lead, Kind::Turn, move |tx| turn::write(tx, &rows)).await?)
    }

    async fn load_for_retry(&self, job: JobId) -> StoreResult<Option<(JobSnapshot, Vec<EndedTask>)>> {
        self.read(move |tx| jobs::load_for_retry(tx, job)).await
    }

    async fn create_token(&self, lead: &Lead, token: NewToken) -> StoreResult<Option<TokenRecord>> {
        self.fenced(lead, move |tx| registry::create_token(tx, &token)).await
    }

    async fn tokens(&self) -> StoreResult<Vec<TokenRecord>> {
        self.read(registry::tokens).await
    }

    async fn revoke_token(&self, lead: &Lead, token: u64, by: &str, at: Timestamp) -> StoreResult<bool> {
        let by = by.to_owned();
        self.fenced(lead, move |tx| registry::revoke_token(tx, token, &by, at)).await
    }

    async fn authenticate(&self, fingerprint: &[u8; 32], now: Timestamp) -> StoreResult<Option<TokenRecord>> {
        let fingerprint = *fingerprint;
        self.read(move |tx| registry::authenticate(tx, &fingerprint, now)).await
    }

    async fn enrol(&self, lead: &Lead, enrolment: Enrolment) -> StoreResult<EnrolmentOutcome> {
        self.fenced(lead, move |tx| registry::enrol(tx, &enrolment)).await
    }

    async fn agents(&self) -> StoreResult<Vec<AgentRecord>> {
        self.read(registry::agents).await
    }

    async fn revocations(&self) -> StoreResult<RevocationsRecord> {
        self.read(registry::revocations).await
    }

    async fn agent_by_peer(&self, peer: &[u8]) -> StoreResult<Option<AgentRecord>> {
        let peer = peer.to_owned();
        self.read(move |tx| registry::agent_by_peer(tx, &peer)).await
    }

    async fn publish(&self, lead: &Lead, version: NewVersion) -> StoreResult<(VersionRecord, bool)> {
        self.fenced(lead, move |tx| registry::publish(tx, &version)).await
    }

    async fn versions(&self) -> StoreResult<Vec<VersionRecord>> {
        self.read(registry::versions).await
    }

    async fn version(&self, version: VersionId) -> StoreResult<Option<VersionRecord>> {
        self.read(move |tx| registry::version(tx, version)).await
    }

    async fn version_named(&self, function: &str, number: Option<u32>) -> StoreResult<Option<VersionRecord>> {
        let function = function.to_owned();
        self.read(move |tx| registry::version_named(tx, &function, number)).await
    }

    async fn remove_versions(
        &self,
        lead: &Lead,
        function: &str,
        number: Option<u32>,
        by: &str,
        at: Timestamp,
    ) -> StoreResult<u64> {
        let (function, by) = (function.to_owned(), by.to_owned());
        self.fenced(lead, move |tx| registry::remove_versions(tx, &function, number, &by, at)).await
    }

    async fn policy(&self) -> StoreResult<Option<PolicyRecord>> {
        self.read(registry::policy).await
    }

    async fn set_policy(&self, lead: &Lead, policy: NewPolicy) -> StoreResult<bool> {
        self.fenced(lead, move |tx| registry::set_policy(tx, &policy)).await
    }

    async fn audit(&self, limit: u32) -> StoreResult<Vec<AuditRecord>> {
        self.read(move |tx| registry::audit(tx, limit)).await
    }

    async fn jobs(&self, filter: &JobFilter) -> StoreResult<Vec<JobRecord>> {
        let filter = filter.clone();
        self.read(move |tx| jobs::jobs(tx, &filter)).await
    }

    async fn job(&self, job: JobId) -> StoreResult<Option<JobRecord>> {
        self.read(move |tx| jobs::job(tx, job)).await
    }

    async fn job_by_key(&self, owner: TokenId, idempotency_key: &str) -> StoreResult<Option<JobId>> {
        let key = idempotency_key.to_owned();
        self.read(move |tx| jobs::job_by_key(tx, owner, &key)).await
    }

    async fn tasks(&self, job: JobId, filter: &TaskFilter) -> StoreResult<Vec<TaskRecord>> {
        let filter = filter.clone();
        self.read(move |tx| jobs::tasks(tx, job, &filter)).await
    }

    async fn task(&self, task: TaskId) -> StoreResult<Option<TaskRecord>> {
        self.read(move |tx| jobs::task(tx, task)).await
    }

    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
        self.read(move |tx| jobs::attempts(tx, task)).await
    }

    async fn moves(&self, job: JobId, limit: u32) -> StoreResult<Vec<MoveRecord>> {
        self.read(move |tx| jobs::moves(tx, job, limit)).await
    }

    async fn log(&self, task: TaskId, attempt: Option<u32>) -> StoreResult<Option<LogRecord>> {
        self.read(move |tx| jobs::log(tx, task, attempt)).await
    }

    async fn results(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<ResultRecord>> {
        self.read(move |tx| jobs::results(tx, job, from, limit)).await
    }

    async fn result(&self, task: TaskId) -> StoreResult<Option<ResultRecord>> {
        self.read(move |tx| jobs::result(tx, task)).await
    }

    async fn totals(&self) -> StoreResult<Totals> {
        self.read(jobs::totals).await
    }

    async fn blob_outline(&self, digest: &Digest) -> StoreResult<Option<(BlobRef, Outline)>> {
        let digest = *digest;
        self.read(move |tx| blobs::outline(tx, &digest)).await
    }

    async fn blob_piece(&self, digest: &Digest, index: u32) -> StoreResult<Option<Bytes>> {
        let digest = *digest;
        self.read(move |tx| blobs::piece(tx, &digest, index)).await
    }

    async fn begin_blob(&self, size_bytes_max: u64) -> StoreResult<Box<dyn BlobWriter>> {
        Ok(Box::new(blobs::Incoming::begin(self.writer.clone(), size_bytes_max).await?))
    }

    async fn sweep_blobs(&self, lead: &Lead, before: Timestamp) -> StoreResult<u64> {
        Ok(blobs::sweep(&self.writer, &self.readers, lead, before).await?)
    }
}
