//! EDGE: this coordinator's own copies of snapshots, for when no agent can keep one.
//!
//! In files and not in the store: a snapshot lives for minutes or hours, may have a gigabyte, and is worth some running time
//! and no more; a database that is backed up and replicated is the wrong place for that. So another coordinator that takes
//! over has them not, and the tasks concerned go on from what agents have.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use lull_engine::cache::{Cache, Wanted};
use lull_mesh::NodeHandle;
use lull_scheduler::{effect::OwnCopy, event::Event};
use lull_shared::digest::{BlobRef, Digest};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use crate::{dispatch::DispatchHandle, fleet::tracker::Tracker};

/// Snapshots fetched at once: they come from machines whose owners may be there.
const FETCHES_MAX: usize = 2;

/// Fetches and deletes as the scheduler says.
pub(crate) struct OwnCopies {
    cache: Cache,
    node: NodeHandle,
    tracker: Arc<Tracker>,
    dispatch: DispatchHandle,
    turns: Arc<Semaphore>,
}

impl OwnCopies {
    /// Of one term. What an earlier one left in the cache is there.
    pub(crate) fn new(cache: Cache, node: NodeHandle, tracker: Arc<Tracker>, dispatch: DispatchHandle) -> Self {
        Self { cache, node, tracker, dispatch, turns: Arc::new(Semaphore::new(FETCHES_MAX)) }
    }

    /// Until the term is over.
    pub(crate) async fn run(self, mut orders: mpsc::UnboundedReceiver<OwnCopy>) {
        let (mut fetches, mut running) = (JoinSet::new(), BTreeMap::new());
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                Some(ended) = fetches.join_next() => {
                    if let Ok(digest) = ended {
                        running.remove(&digest);
                    }
                    continue;
                }
            };
            match order {
                None => return,
                Some(OwnCopy::Report) => self.report().await,
                Some(OwnCopy::Keep(blob)) => {
                    let fetch = Fetch {
                        cache: self.cache.clone(),
                        node: self.node.clone(),
                        tracker: self.tracker.clone(),
                        dispatch: self.dispatch.clone(),
                        turns: self.turns.clone(),
                        blob,
                    };
                    running.insert(blob.digest, fetches.spawn(fetch.run()));
                }
                Some(OwnCopy::Discard(digest)) => self.discard(digest, running.remove(&digest)),
            }
        }
    }

    /// Says what is there; what nobody needs is discarded in answer.
    async fn report(&self) {
        let held = self.cache.holdings().into_iter();
        let blobs: Vec<BlobRef> = held.map(|(digest, size_bytes)| BlobRef { digest, size_bytes }).collect();
        for blob in &blobs {
            // Pinned: only the scheduler says what goes. All of it is in the cache, so that there is room for it.
            let _ = self.cache.want(*blob);
        }
        tell(&self.dispatch, Event::KeptHere { blobs }).await;
    }

    fn discard(&self, digest: Digest, fetch: Option<tokio::task::AbortHandle>) {
        if let Some(fetch) = fetch {
            fetch.abort();
        }
        self.cache.unpin(&digest);
        self.cache.forget(&digest);
    }
}

/// One snapshot on its way.
struct Fetch {
    cache: Cache,
    node: NodeHandle,
    tracker: Arc<Tracker>,
    dispatch: DispatchHandle,
    turns: Arc<Semaphore>,
    blob: BlobRef,
}

impl Fetch {
    async fn run(self) -> Digest {
        let digest = self.blob.digest;
        let event = match self.fetch().await {
            Ok(()) => Event::KeptHere { blobs: vec![self.blob] },
            Err(error) => {
                tracing::info!(%digest, error, "no copy of a snapshot is kept here");
                self.cache.unpin(&digest);
                Event::NotKeptHere { digest }
            }
        };
        tell(&self.dispatch, event).await;
        digest
    }

    async fn fetch(&self) -> Result<(), String> {
        let _turn = self.turns.acquire().await.expect("the turns are never closed");
        let wanted = self.cache.want(self.blob).map_err(|full| full.to_string())?;
        if wanted == Wanted::Here {
            return Ok(());
        }
        if wanted == Wanted::Check {
            let (cache, blob) = (self.cache.clone(), self.blob);
            if tokio::task::spawn_blocking(move || cache.check(blob)).await.unwrap_or(false) {
                return Ok(());
            }
            self.cache.want(self.blob).map_err(|full| full.to_string())?;
        }
        let holders = self.tracker.ask(self.node.local_peer(), &self.blob, rand::random(), Instant::now());
        let path = self.cache.path(&self.blob.digest);
        let fetched = self.node.fetch(self.blob, holders.whole, path).await.map_err(|error| error.to_string());
        match &fetched {
            Ok(_) => self.cache.arrived(&self.blob.digest),
            Err(_) => self.cache.forget(&self.blob.digest),
        }
        fetched.map(drop)
    }
}

async fn tell(dispatch: &DispatchHandle, event: Event) {
    // A loop that has ended has no use for it.
    let _ = dispatch.event(event).await;
}
