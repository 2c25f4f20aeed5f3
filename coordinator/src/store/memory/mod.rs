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
use lull_scheduler::{
    effect::Change,
    event::{EndedTask, JobSnapshot},
};
use lull_shared::{
    digest::{BlobRef, Digest, Outline, OutlineBuilder, PIECE_BYTES},
    id::{JobId, TaskIndex},
    time::Timestamp,
};

use self::state::{Blob, State};
use super::{
    Attendance, BlobWriter, Blobs, Lead, Leadership, Ledger, Loaded, StoreError, StoreResult, Takeover, bounds,
    lead::{Kind, Refusal},
    record::*,
    sweep,
};
use crate::clock;

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
impl Attendance for Memory {
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
}

#[async_trait]
impl Leadership for Memory {
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
}

#[async_trait]
impl Ledger for Memory {
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

    async fn load_for_retry(&self, job: JobId) -> StoreResult<Option<JobSnapshot>> {
        self.read(|state| state.jobs.get(&job).map(|job| JobSnapshot { open: Vec::new(), ..job.snapshot() }))
    }

    async fn ended_badly(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<EndedTask>> {
        self.read(|state| state.jobs.get(&job).map_or_else(Vec::new, |job| job.ended_badly(from, limit)))
    }
}

#[async_trait]
impl Blobs for Memory {
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

    async fn touch_blob(&self, digest: &Digest, now: Timestamp) -> StoreResult<Option<BlobRef>> {
        let mut state = self.state.lock().expect("nothing panics while it holds the state");
        let Some(blob) = state.blobs.get_mut(digest) else { return Ok(None) };
        if blob.touched < sweep::fresh_since(now) {
            let Blob { bytes, outline, .. } = &**blob;
            *blob = Arc::new(Blob { bytes: bytes.clone(), outline: outline.clone(), touched: now });
        }
        Ok(Some(BlobRef { digest: *digest, size_bytes: blob.bytes.len() as u64 }))
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
