//! The store in memory: what every other store is compared with, and what the simulator runs on.
//!
//! It applies each change as its words say, to plain values, with nothing derived and nothing clever. A turn is tried
//! on a copy that takes the original's place when all of it went well.

mod read;
mod registry;
mod state;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use lull_shared::{
    digest::{BlobRef, Digest, Outline, OutlineBuilder, PIECE_BYTES},
    id::{JobId, TaskId, TaskIndex, TokenId, VersionId},
    state::Intake,
    time::Timestamp,
};

use self::state::{Blob, State};
use super::{
    BlobWriter, Lead, Loaded, Store, StoreError, StoreResult, Takeover, bounds,
    lead::{Kind, Refusal},
    record::*,
};
use crate::{
    clock,
    scheduler::{
        effect::Change,
        event::{EndedTask, JobSnapshot},
    },
};

/// A store that forgets when the last handle is dropped. A clone is another handle on the same.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

impl Memory {
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> StoreResult<T> {
        Ok(look(&self.state.lock().expect("nothing panics while it holds the state")))
    }

    /// Changes a copy under this lead and keeps it.
    fn write<T>(&self, lead: &Lead, change: impl FnOnce(&mut State) -> StoreResult<T>) -> StoreResult<T> {
        self.fenced(lead, Kind::Other, change)
    }

    fn fenced<T>(&self, lead: &Lead, kind: Kind, change: impl FnOnce(&mut State) -> StoreResult<T>) -> StoreResult<T> {
        let mut state = self.state.lock().expect("nothing panics while it holds the state");
        let mut copy = state.clone();
        copy.fence(&lead.shown(kind))?;
        let value = change(&mut copy)?;
        lead.confirmed(copy.counts);
        *state = copy;
        Ok(value)
    }

    /// A store of its own that holds what this one holds now: a backup, or a replica.
    pub fn copy(&self) -> Self {
        let state = self.state.lock().expect("nothing panics while it holds the state").clone();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Holds from now on what the other holds, and has forgotten all else: the backup is restored, the replica takes over.
    pub fn go_back_to(&self, copy: &Self) {
        let state = copy.state.lock().expect("nothing panics while it holds the state").clone();
        *self.state.lock().expect("nothing panics while it holds the state") = state;
    }
}

#[async_trait]
impl Store for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    async fn take_over(&self, holder: &str, lease: Duration, now: Timestamp) -> StoreResult<Takeover> {
        let mut state = self.state.lock().expect("nothing panics while it holds the state");
        Ok(state.take_over(holder, lease, now))
    }

    async fn renew(&self, lead: &Lead, length: Duration, now: Timestamp) -> StoreResult<()> {
        self.write(lead, |state| {
            state.lease_end = now + length;
            Ok(())
        })
    }

    async fn step_down(&self, lead: &Lead) -> StoreResult<()> {
        self.write(lead, |state| {
            (state.holder, state.lease_end) = (None, Timestamp(0));
            Ok(())
        })
    }

    async fn raise(&self, lead: &Lead, rise: &Rise) -> StoreResult<()> {
        self.write(lead, |state| {
            (state.holder, state.lease_end, state.term) = (None, Timestamp(0), state.term.max(rise.above));
            state.last_job = state.last_job.max(rise.last_job);
            state.note(rise.audit());
            Ok(())
        })
    }

    async fn note(&self, lead: &Lead, line: &AuditRecord) -> StoreResult<()> {
        self.write(lead, |state| {
            state.note(line.clone());
            Ok(())
        })
    }

    async fn leader(&self) -> StoreResult<LeaderRecord> {
        self.read(|state| state.leader_row().leader)
    }

    async fn check_in(&self, own: &CoordinatorRecord, forget: Timestamp) -> StoreResult<()> {
        let mut state = self.state.lock().expect("nothing panics while it holds the state");
        state.check_in(bounds::coordinator(own), forget);
        Ok(())
    }

    async fn coordinators(&self) -> StoreResult<Vec<CoordinatorRecord>> {
        self.read(|state| state.coordinators.values().cloned().collect())
    }

    async fn network(&self) -> StoreResult<Option<NetworkRecord>> {
        self.read(|state| state.network.clone())
    }

    async fn name_network(&self, network: &NetworkRecord, anew: bool) -> StoreResult<NetworkRecord> {
        let mut state = self.state.lock().expect("nothing panics while it holds the state");
        if anew {
            state.network = None;
        }
        Ok(state.network.get_or_insert_with(|| network.clone()).clone())
    }

    async fn load(&self, lead: &Lead) -> StoreResult<Loaded> {
        self.read(|state| {
            let row = state.leader_row();
            if !row.is_led_by(lead.term, &lead.holder) {
                return Err(Refusal::Fenced(row.leader).into());
            }
            Ok(Loaded { snapshot: state.snapshot(), lost: lead.loaded(row.counts) })
        })?
    }

    async fn commit(&self, lead: &Lead, changes: &[Change]) -> StoreResult<()> {
        self.fenced(lead, Kind::Turn, |state| state.apply_all(changes).map_err(|broken| StoreError::Contradiction(broken.into())))
    }

    async fn load_for_retry(&self, job: JobId) -> StoreResult<Option<(JobSnapshot, Vec<EndedTask>)>> {
        self.read(|state| state.jobs.get(&job).map(|job| (job.snapshot(), job.ended_badly())))
    }

    async fn create_token(&self, lead: &Lead, token: NewToken) -> StoreResult<Option<TokenRecord>> {
        self.write(lead, |state| Ok(state.create_token(token)))
    }

    async fn tokens(&self) -> StoreResult<Vec<TokenRecord>> {
        self.read(|state| state.tokens.iter().map(|token| token.0.clone()).collect())
    }

    async fn revoke_token(&self, lead: &Lead, token: u64, by: &str, at: Timestamp) -> StoreResult<bool> {
        self.write(lead, |state| Ok(state.revoke_token(token, by, at)))
    }

    async fn authenticate(&self, fingerprint: &[u8; 32], now: Timestamp) -> StoreResult<Option<TokenRecord>> {
        self.read(|state| state.authenticate(fingerprint, now))
    }

    async fn enrol(&self, lead: &Lead, enrolment: Enrolment) -> StoreResult<EnrolmentOutcome> {
        self.write(lead, |state| Ok(state.enrol(&enrolment)))
    }

    async fn agents(&self) -> StoreResult<Vec<AgentRecord>> {
        self.read(|state| state.agents.values().map(|agent| agent.record.clone()).collect())
    }

    async fn revocations(&self) -> StoreResult<RevocationsRecord> {
        self.read(|state| {
            let thrown_out = state.agents.values().map(|agent| &agent.record).filter(|agent| agent.intake == Intake::Revoked);
            RevocationsRecord { counter: state.revocations, peers: thrown_out.map(|agent| agent.peer.clone()).collect() }
        })
    }

    async fn agent_by_peer(&self, peer: &[u8]) -> StoreResult<Option<AgentRecord>> {
        self.read(|state| state.agents.values().map(|agent| &agent.record).find(|agent| agent.peer == peer).cloned())
    }

    async fn publish(&self, lead: &Lead, version: NewVersion) -> StoreResult<(VersionRecord, bool)> {
        self.write(lead, |state| Ok(state.publish(&version)))
    }

    async fn versions(&self) -> StoreResult<Vec<VersionRecord>> {
        self.read(|state| {
            let mut versions: Vec<VersionRecord> =
                state.versions.iter().map(|version| version.record.clone()).filter(|found| found.removed.is_none()).collect();
            versions.sort_by(|a, b| (&a.function, b.number).cmp(&(&b.function, a.number)));
            versions
        })
    }

    async fn version(&self, version: VersionId) -> StoreResult<Option<VersionRecord>> {
        self.read(|state| state.versions.iter().map(|found| &found.record).find(|found| found.version == version).cloned())
    }

    async fn version_named(&self, function: &str, number: Option<u32>) -> StoreResult<Option<VersionRecord>> {
        let versions = self.versions().await?;
        Ok(versions.into_iter().find(|found| found.function == function && number.is_none_or(|n| n == found.number)))
    }

    async fn remove_versions(
        &self,
        lead: &Lead,
        function: &str,
        number: Option<u32>,
        by: &str,
        at: Timestamp,
    ) -> StoreResult<u64> {
        self.write(lead, |state| Ok(state.remove_versions(function, number, by, at)))
    }

    async fn policy(&self) -> StoreResult<Option<PolicyRecord>> {
        self.read(|state| state.policies.last().map(|policy| PolicyRecord::clone(policy)))
    }

    async fn set_policy(&self, lead: &Lead, policy: NewPolicy) -> StoreResult<bool> {
        self.write(lead, |state| Ok(state.set_policy(&policy)))
    }

    async fn audit(&self, limit: u32) -> StoreResult<Vec<AuditRecord>> {
        self.read(|state| state.audit.iter().rev().take(limit as usize).map(|row| (**row).clone()).collect())
    }

    async fn jobs(&self, filter: &JobFilter) -> StoreResult<Vec<JobRecord>> {
        self.read(|state| state.jobs(filter))
    }

    async fn job(&self, job: JobId) -> StoreResult<Option<JobRecord>> {
        self.read(|state| state.jobs.get(&job).map(|job| job.record()))
    }

    async fn job_by_key(&self, owner: TokenId, idempotency_key: &str) -> StoreResult<Option<JobId>> {
        self.read(|state| state.jobs.values().find(|job| job.has_key(Some(owner), idempotency_key)).map(|job| job.new.job))
    }

    async fn tasks(&self, job: JobId, filter: &TaskFilter) -> StoreResult<Vec<TaskRecord>> {
        self.read(|state| state.tasks(job, filter))
    }

    async fn task(&self, task: TaskId) -> StoreResult<Option<TaskRecord>> {
        self.read(|state| state.task_of(task))
    }

    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
        self.read(|state| state.attempts(task))
    }

    async fn moves(&self, job: JobId, limit: u32) -> StoreResult<Vec<MoveRecord>> {
        self.read(|state| state.moves(job, limit))
    }

    async fn log(&self, task: TaskId, attempt: Option<u32>) -> StoreResult<Option<LogRecord>> {
        self.read(|state| state.log(task, attempt))
    }

    async fn results(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<ResultRecord>> {
        self.read(|state| state.results(job, from, limit))
    }

    async fn result(&self, task: TaskId) -> StoreResult<Option<ResultRecord>> {
        self.read(|state| state.result(task))
    }

    async fn totals(&self) -> StoreResult<Totals> {
        self.read(State::totals)
    }

    async fn blob_outline(&self, digest: &Digest) -> StoreResult<Option<(BlobRef, Outline)>> {
        self.read(|state| {
            let blob = state.blobs.get(digest)?;
            Some((BlobRef { digest: *digest, size_bytes: blob.bytes.len() as u64 }, blob.outline.clone()))
        })
    }

    async fn blob_piece(&self, digest: &Digest, index: u32) -> StoreResult<Option<Bytes>> {
        self.read(|state| {
            let bytes = &state.blobs.get(digest)?.bytes;
            let start = index as usize * PIECE_BYTES;
            let exists = start < bytes.len() || index == 0;
            exists.then(|| bytes.slice(start..bytes.len().min(start + PIECE_BYTES)))
        })
    }

    async fn begin_blob(&self, size_bytes_max: u64) -> StoreResult<Box<dyn BlobWriter>> {
        Ok(Box::new(Incoming { store: self.clone(), size_bytes_max, bytes: Vec::new() }))
    }

    async fn sweep_blobs(&self, lead: &Lead, before: Timestamp) -> StoreResult<u64> {
        self.write(lead, |state| Ok(state.sweep(before)))
    }
}

/// A blob on its way in.
struct Incoming {
    store: Memory,
    size_bytes_max: u64,
    bytes: Vec<u8>,
}

#[async_trait]
impl BlobWriter for Incoming {
    async fn write(&mut self, bytes: &[u8]) -> StoreResult<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() as u64 > self.size_bytes_max {
            return Err(StoreError::Determinate(anyhow::anyhow!(
                "a blob of more than {}",
                lull_shared::amount::size(self.size_bytes_max)
            )));
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> StoreResult<BlobRef> {
        let mut outline = OutlineBuilder::default();
        outline.update(&self.bytes);
        let (blob, outline) = outline.finish();
        let touched = clock::now();
        let mut state = self.store.state.lock().expect("nothing panics while it holds the state");
        state.blobs.insert(blob.digest, Arc::new(Blob { bytes: self.bytes.into(), outline, touched }));
        Ok(blob)
    }
}
