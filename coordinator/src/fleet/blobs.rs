//! EDGE: the store's blobs and this coordinator's copies of snapshots, as the mesh serves and receives them, and who else
//! has them.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use libp2p::PeerId;
use lru::LruCache;
use lull_engine::cache::Cache;
use lull_mesh::{BlobSink, BlobStore, Holders, Receiving};
use lull_scheduler::event::Event;
use lull_shared::{
    amount::sizes,
    digest::{BlobRef, Digest, Outline},
    id::AttemptId,
    limits,
};
use tokio::sync::watch;

use crate::{
    clock,
    fleet::tracker::Tracker,
    store::{BlobWriter, ForPeople},
    term::phase::Phase,
};

/// Attempts whose deliveries are remembered: more than are on their way at any time.
const COUNTED_MAX: NonZeroUsize = NonZeroUsize::new(16 * 1024).expect("more than none");

/// Serves a store's blobs to the mesh, and takes in the outputs of attempts from the agents that hold them.
pub(crate) struct StoreBlobs {
    store: Arc<dyn ForPeople>,
    phases: watch::Receiver<Phase>,
    /// Snapshots that no agent could keep a copy of.
    snapshots: Cache,
    /// Outputs that were taken in, by attempt.
    delivered: Arc<Mutex<LruCache<AttemptId, u32>>>,
}

impl StoreBlobs {
    /// Over this store; who holds what is known to the leader.
    pub(crate) fn new(store: Arc<dyn ForPeople>, phases: watch::Receiver<Phase>, snapshots: Cache) -> Self {
        Self { store, phases, snapshots, delivered: Arc::new(Mutex::new(LruCache::new(COUNTED_MAX))) }
    }

    /// Who else has a blob; nothing is known while another coordinator leads.
    fn tracker(&self) -> Option<Arc<Tracker>> {
        self.phases.borrow().leader().map(|leader| leader.coordinator.mesh.tracker.clone())
    }

    /// How large an output this peer may bring for an attempt; none while that cannot be known.
    async fn allowance(&self, peer: PeerId, attempt: AttemptId) -> Result<Option<u64>, String> {
        let agent = match self.store.agent_by_peer(&peer.to_bytes()).await {
            Ok(agent) => agent.ok_or("this machine is not enrolled here")?.agent,
            Err(error) => {
                tracing::warn!(%error, "cannot look up who brings an output");
                return Ok(None);
            }
        };
        let leader = self.phases.borrow().leader().cloned();
        let Some(leader) = leader else { return Ok(None) };
        let asked = leader.coordinator.dispatch.query(move |scheduler, _| scheduler.output_bytes_max(agent, attempt)).await;
        let Ok(allowed) = asked else { return Ok(None) };
        let allowed = allowed.ok_or_else(|| format!("{attempt} is not with this machine any more"))?;
        let delivered = lock(&self.delivered).get(&attempt).copied().unwrap_or(0);
        if delivered >= limits::DELIVERIES_PER_ATTEMPT_MAX {
            return Err(format!("{delivered} outputs of {attempt} were brought before"));
        }
        Ok(Some(allowed.min(limits::OUTPUT_BYTES_MAX)))
    }
}

impl StoreBlobs {
    /// Lets the scheduler know that an attempt is not late: its output is on its way.
    async fn expect(&self, peer: PeerId, attempt: AttemptId, size_bytes: u64) {
        let Ok(Some(record)) = self.store.agent_by_peer(&peer.to_bytes()).await else { return };
        let leader = self.phases.borrow().leader().cloned();
        if let Some(leader) = leader {
            // A loop that has ended has no use for it.
            let _ = leader.coordinator.dispatch.event(Event::Brings { agent: record.agent, attempt, size_bytes }).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl BlobStore for StoreBlobs {
    async fn outline(&self, digest: &Digest) -> Option<(BlobRef, Outline)> {
        if let Some(snapshot) = self.snapshots.outline(digest).await {
            return Some(snapshot);
        }
        self.store.blob_outline(digest).await.unwrap_or_else(|error| {
            tracing::warn!(%digest, %error, "cannot read a blob");
            None
        })
    }

    async fn read_piece(&self, digest: &Digest, index: u32) -> Option<Bytes> {
        if let Some(piece) = self.snapshots.read_piece(digest, index).await {
            return Some(piece);
        }
        self.store.blob_piece(digest, index).await.unwrap_or_else(|error| {
            tracing::warn!(%digest, index, %error, "cannot read a blob");
            None
        })
    }

    async fn holders(&self, asker: PeerId, blob: &BlobRef) -> Holders {
        let tracker = self.tracker();
        tracker.map(|tracker| tracker.ask(asker, blob, rand::random(), Instant::now())).unwrap_or_default()
    }

    fn elsewhere(&self, digest: &Digest) -> Option<BlobRef> {
        self.tracker()?.held(digest)
    }

    fn sent(&self, _: PeerId, blob: &BlobRef, bytes: u64) {
        if let Some(tracker) = self.tracker() {
            tracker.sent(blob, bytes);
        }
    }

    async fn receive(&self, peer: PeerId, attempt: AttemptId, blob: BlobRef) -> Result<Receiving, String> {
        let Some(allowed) = self.allowance(peer, attempt).await.inspect_err(|reason| {
            tracing::warn!(%peer, %attempt, reason, "an output was refused");
        })?
        else {
            return Ok(Receiving::Later);
        };
        if blob.size_bytes > allowed {
            let (found, most) = sizes(blob.size_bytes, allowed);
            return Err(format!("an output of {found}; at most {most} are taken"));
        }
        if self.store.touch_blob(&blob.digest, clock::now()).await.map_err(|error| error.to_string())?.is_some() {
            return Ok(Receiving::Stored);
        }
        tracing::debug!(%peer, %attempt, digest = %blob.digest, bytes = blob.size_bytes, "an output arrives");
        self.expect(peer, attempt, blob.size_bytes).await;
        let writer = self.store.begin_blob(blob.size_bytes).await.map_err(|error| error.to_string())?;
        let delivered = self.delivered.clone();
        Ok(Receiving::Wanted(Box::new(StoreSink { writer, blob, attempt, delivered })))
    }
}

struct StoreSink {
    writer: Box<dyn BlobWriter>,
    blob: BlobRef,
    attempt: AttemptId,
    delivered: Arc<Mutex<LruCache<AttemptId, u32>>>,
}

#[async_trait]
impl BlobSink for StoreSink {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.writer.write(bytes).await.map_err(|error| error.to_string())
    }

    async fn finish(self: Box<Self>) -> Result<(), String> {
        *lock(&self.delivered).get_or_insert_mut(self.attempt, || 0) += 1;
        let stored = self.writer.finish().await.map_err(|error| error.to_string())?;
        if stored == self.blob { Ok(()) } else { Err(format!("the bytes are {} and not {}", stored.digest, self.blob.digest)) }
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::id::{JobId, TaskId};

    use super::*;
    use crate::store::{Blobs as _, memory::Memory};

    #[tokio::test]
    async fn deliveries_are_counted_for_the_newest_attempts_only() {
        let (store, delivered) = (Memory::default(), Arc::new(Mutex::new(LruCache::new(COUNTED_MAX))));
        let attempt = |number| AttemptId { task: TaskId { job: JobId(1), index: 0 }, number };
        let last = COUNTED_MAX.get() as u32 + 10;
        for number in (1..=last).chain([last]) {
            let writer = store.begin_blob(0).await.expect("room");
            let sink = StoreSink { writer, blob: BlobRef::of(b""), attempt: attempt(number), delivered: delivered.clone() };
            Box::new(sink).finish().await.expect("it is whole");
        }
        let delivered = lock(&delivered);
        assert_eq!(delivered.len(), COUNTED_MAX.get());
        let counted = [10, 11, last].map(|number| delivered.peek(&attempt(number)).copied());
        assert_eq!(counted, [None, Some(1), Some(2)]);
    }
}
