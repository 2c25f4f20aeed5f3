//! Blobs on their way: into the cache, and large outputs to the coordinator.
//!
//! A fetch begins with the coordinator, which names agents that have the blob; the node takes what it can from them.
//! A coordinator that is away interrupts a transfer and does not fail it: what waits here waits for its return.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use libp2p::PeerId;
use lull_shared::{
    digest::{BlobRef, Digest},
    id::AttemptId,
    mesh::{MeshError, NodeHandle},
    protocol::DeliveryReply,
    state::{Part, Trouble},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::Input;
use crate::{
    cache::{Cache, Wanted},
    session::{Delivery, Event},
};

/// Fetches at once: enough to hide the way there and back, few enough to leave the owner's network alone.
const FETCHES_MAX: usize = 4;
/// Tries while a coordinator is connected.
const TRIES_MAX: u32 = 4;
/// Nobody has a blob, and nobody can be reached who has: after this long whoever waits for it is told, and goes on without.
const NOBODY_AFTER: Duration = Duration::from_secs(5);
/// The pause after a try that failed for a reason that may pass.
const PAUSE: Duration = Duration::from_millis(500);

/// Transfers under way.
pub struct Transfers {
    cache: Cache,
    node: NodeHandle,
    inputs: mpsc::Sender<Input>,
    coordinator: watch::Receiver<Option<PeerId>>,
    turns: Arc<Semaphore>,
    fetches: BTreeMap<Digest, AbortHandle>,
}

impl Transfers {
    /// None yet. `coordinator` tells who is connected.
    pub fn new(
        cache: Cache,
        node: NodeHandle,
        inputs: mpsc::Sender<Input>,
        coordinator: watch::Receiver<Option<PeerId>>,
    ) -> Self {
        Self { cache, node, inputs, coordinator, turns: Arc::new(Semaphore::new(FETCHES_MAX)), fetches: BTreeMap::new() }
    }

    /// Brings a blob into the cache and pins it. What is there is there at once.
    pub fn fetch(&mut self, blob: BlobRef) -> Option<Event> {
        let digest = blob.digest;
        let wanted = match self.cache.want(blob) {
            Ok(Wanted::Here) => return Some(Event::Fetched { digest, result: Ok(()) }),
            Ok(wanted) => wanted,
            Err(full) => return Some(Event::Fetched { digest, result: Err(full.to_string()) }),
        };
        let fetch = Fetch {
            cache: self.cache.clone(),
            node: self.node.clone(),
            coordinator: self.coordinator.clone(),
            turns: Arc::clone(&self.turns),
            blob,
        };
        let inputs = self.inputs.clone();
        let task = tokio::spawn(async move {
            let result = fetch.run(wanted).await.map_err(|failed| match failed {
                Failed::Elsewhere(reason) => (reason, None),
                Failed::Here(reason) => (reason.clone(), Some(Trouble::new(Part::Cache, reason))),
            });
            let (result, trouble) = match result {
                Ok(()) => (Ok(()), None),
                Err((reason, trouble)) => (Err(reason), trouble),
            };
            if let Some(trouble) = trouble {
                let _ = inputs.send(Input::Event(Event::Trouble { trouble, ended: None })).await;
            }
            // The run loop is gone only when the process ends.
            let _ = inputs.send(Input::Event(Event::Fetched { digest, result })).await;
        });
        self.fetches.insert(digest, task.abort_handle());
        None
    }

    /// Tries whether the cache's folder can be used; the answer comes by the inputs.
    pub fn probe(&self) {
        let (cache, inputs) = (self.cache.clone(), self.inputs.clone());
        tokio::task::spawn_blocking(move || {
            let result = cache.probe().map_err(|error| error.to_string());
            // The run loop is gone only when the process ends.
            let _ = inputs.blocking_send(Input::Event(Event::Probed { part: Part::Cache, result }));
        });
    }

    /// Lets the cache remove a blob, and gives up its fetch if it is still on its way.
    pub fn unpin(&mut self, digest: &Digest) {
        if let Some(task) = self.fetches.remove(digest) {
            task.abort();
        }
        self.cache.unpin(digest);
    }

    /// Deletes a blob that nobody needs any more.
    pub fn erase(&mut self, digest: &Digest) {
        self.unpin(digest);
        self.cache.forget(digest);
    }

    /// Hands a large output to the coordinator that is connected.
    pub fn deliver(&self, attempt: AttemptId, output: BlobRef, file: PathBuf) {
        let (node, inputs, coordinator) = (self.node.clone(), self.inputs.clone(), *self.coordinator.borrow());
        tokio::spawn(async move {
            let delivery = match coordinator {
                Some(coordinator) => match node.deliver(coordinator, attempt, output, file).await {
                    Ok(DeliveryReply::Stored) => Delivery::Stored,
                    Ok(DeliveryReply::Refused { reason }) => {
                        tracing::warn!(%attempt, reason, "the coordinator does not want an output");
                        Delivery::Unwanted
                    }
                    Ok(DeliveryReply::Busy | DeliveryReply::Send) => Delivery::Failed,
                    Err(error) => {
                        tracing::debug!(%attempt, %error, "an output was not delivered; trying again");
                        Delivery::Failed
                    }
                },
                None => Delivery::Failed,
            };
            let _ = inputs.send(Input::Event(Event::Delivered { attempt, delivery })).await;
        });
    }
}

/// One blob on its way into the cache.
struct Fetch {
    cache: Cache,
    node: NodeHandle,
    coordinator: watch::Receiver<Option<PeerId>>,
    turns: Arc<Semaphore>,
    blob: BlobRef,
}

/// Why a blob did not come.
enum Failed {
    Elsewhere(String),
    /// This machine's disk did not take it.
    Here(String),
}

impl Fetch {
    async fn run(mut self, wanted: Wanted) -> Result<(), Failed> {
        if wanted == Wanted::Check {
            let (cache, blob) = (self.cache.clone(), self.blob);
            if tokio::task::spawn_blocking(move || cache.check(blob)).await.unwrap_or(false) {
                return Ok(());
            }
            // It was damaged: room is made anew.
            self.cache.want(self.blob).map_err(|full| Failed::Elsewhere(full.to_string()))?;
        }
        let turns = Arc::clone(&self.turns);
        let _turn = turns.acquire().await.expect("the turns are never closed");
        let fetched = self.download().await;
        match &fetched {
            Ok(()) => self.cache.arrived(&self.blob.digest),
            Err(_) => self.cache.forget(&self.blob.digest),
        }
        fetched
    }

    async fn download(&mut self) -> Result<(), Failed> {
        let path = self.cache.path(&self.blob.digest);
        let (mut tries, mut tried) = (0, Duration::ZERO);
        loop {
            let connected = self.coordinator.wait_for(Option::is_some).await.map(|peer| *peer);
            let Ok(Some(source)) = connected else { return Err(Failed::Elsewhere("the agent stops".into())) };
            let began = Instant::now();
            let error = match self.node.fetch(self.blob, vec![source], path.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            tries += 1;
            if let MeshError::File { .. } = error {
                return Err(Failed::Here(error.to_string()));
            }
            tried += began.elapsed();
            let nobody = matches!(error, MeshError::Unavailable { .. }) && tried >= NOBODY_AFTER;
            if tries >= TRIES_MAX || nobody || !may_pass(&error) {
                return Err(Failed::Elsewhere(error.to_string()));
            }
            tracing::debug!(digest = %self.blob.digest, %error, "a fetch was interrupted");
            sleep(PAUSE * tries).await;
        }
    }
}

/// Whether it makes sense to ask again.
fn may_pass(error: &MeshError) -> bool {
    match error {
        MeshError::NotConnected { .. }
        | MeshError::Lost { .. }
        | MeshError::Silent { .. }
        | MeshError::Busy { .. }
        | MeshError::Unreachable { .. }
        | MeshError::Protocol { .. }
        | MeshError::Unavailable { .. } => true,
        MeshError::Stopped
        | MeshError::Address { .. }
        | MeshError::Untrusted { .. }
        | MeshError::Expired { .. }
        | MeshError::ClocksDiffer { .. }
        | MeshError::NoCertificate { .. }
        | MeshError::Refused { .. }
        | MeshError::Stranger { .. }
        | MeshError::Revoked { .. }
        | MeshError::ThrownOut { .. }
        | MeshError::NoCoordinator { .. }
        | MeshError::TooLarge { .. }
        | MeshError::File { .. } => false,
    }
}
