//! Blobs on their way: into the cache, and large outputs to the coordinator.
//!
//! A fetch begins with the coordinator, which names agents that have the blob; the node takes what it can from them.
//! A coordinator that is away interrupts a transfer and does not fail it: what waits here waits for its return.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use libp2p::PeerId;
use lull_engine::cache::{Cache, Wanted};
use lull_mesh::{MeshError, NodeHandle};
use lull_session::{Delivery, Event};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::AttemptId,
    protocol::DeliveryReply,
    state::{Part, Trouble},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep},
};

/// Fetches at once: enough to hide the way there and back, few enough to leave the owner's network alone.
const FETCHES_MAX: usize = 4;
/// Tries while a coordinator is connected.
const TRIES_MAX: u32 = 4;
/// Nobody has a blob, and nobody can be reached who has: after this long whoever waits for it is told, and goes on without.
const NOBODY_AFTER: Duration = Duration::from_secs(5);
/// The pause after a try that failed for a reason that may pass.
const PAUSE: Duration = Duration::from_millis(500);

/// A handle on the transfers under way. What the cache is to do is done in the order in which it was asked for, and nobody
/// waits for it.
pub struct Transfers {
    /// Not bounded by itself: a session wants no more blobs than its attempts need.
    orders: mpsc::UnboundedSender<Order>,
    node: NodeHandle,
    answers: mpsc::Sender<Event>,
    coordinator: watch::Receiver<Option<PeerId>>,
}

enum Order {
    Fetch(BlobRef),
    Unpin(Digest),
    Erase(Digest),
    Probe,
}

impl Transfers {
    /// None yet. `coordinator` tells who is connected; what comes of a transfer goes to `answers`.
    pub fn start(
        cache: Cache,
        node: NodeHandle,
        answers: mpsc::Sender<Event>,
        coordinator: watch::Receiver<Option<PeerId>>,
    ) -> Self {
        let (orders, queue) = mpsc::unbounded_channel();
        let shelf = Shelf {
            cache,
            node: node.clone(),
            answers: answers.clone(),
            coordinator: coordinator.clone(),
            turns: Arc::new(Semaphore::new(FETCHES_MAX)),
            fetches: BTreeMap::new(),
        };
        tokio::spawn(shelf.serve(queue));
        Self { orders, node, answers, coordinator }
    }

    /// Brings a blob into the cache and pins it. Answered by [`Event::Fetched`].
    pub fn fetch(&self, blob: BlobRef) {
        self.order(Order::Fetch(blob));
    }

    /// Lets the cache remove a blob, and gives up its fetch if it is still on its way.
    pub fn unpin(&self, digest: Digest) {
        self.order(Order::Unpin(digest));
    }

    /// Deletes a blob that nobody needs any more.
    pub fn erase(&self, digest: Digest) {
        self.order(Order::Erase(digest));
    }

    /// Tries whether the cache's folder can be used. Answered by [`Event::Probed`].
    pub fn probe(&self) {
        self.order(Order::Probe);
    }

    fn order(&self, order: Order) {
        // Its task ends with the last handle, or with the process.
        let _ = self.orders.send(order);
    }

    /// Hands a large output to the coordinator that is connected.
    pub fn deliver(&self, attempt: AttemptId, output: BlobRef, file: PathBuf) {
        let (node, answers, coordinator) = (self.node.clone(), self.answers.clone(), *self.coordinator.borrow());
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
            let _ = answers.send(Event::Delivered { attempt, delivery }).await;
        });
    }
}

/// What carries the orders out.
struct Shelf {
    cache: Cache,
    node: NodeHandle,
    answers: mpsc::Sender<Event>,
    coordinator: watch::Receiver<Option<PeerId>>,
    turns: Arc<Semaphore>,
    fetches: BTreeMap<Digest, AbortHandle>,
}

impl Shelf {
    async fn serve(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Fetch(blob) => {
                    let digest = blob.digest;
                    match self.cache.on_disk(move |cache| cache.want(blob)).await {
                        Ok(Ok(Wanted::Here)) => self.answer(Event::Fetched { digest, result: Ok(()) }).await,
                        Ok(Ok(wanted)) => self.fetch(blob, wanted),
                        Ok(Err(full)) => self.answer(Event::Fetched { digest, result: Err(full.to_string()) }).await,
                        Err(error) => self.answer(Event::Fetched { digest, result: Err(error.to_string()) }).await,
                    }
                }
                Order::Unpin(digest) => {
                    self.give_up(&digest);
                    let _ = self.cache.on_disk(move |cache| cache.unpin(&digest)).await;
                }
                Order::Erase(digest) => {
                    self.give_up(&digest);
                    let erase = move |cache: &Cache| {
                        cache.unpin(&digest);
                        cache.forget(&digest);
                    };
                    let _ = self.cache.on_disk(erase).await;
                }
                Order::Probe => {
                    let result = self.cache.on_disk(Cache::probe).await.flatten().map_err(|error| error.to_string());
                    self.answer(Event::Probed { part: Part::Cache, result }).await;
                }
            }
        }
    }

    fn give_up(&mut self, digest: &Digest) {
        if let Some(task) = self.fetches.remove(digest) {
            task.abort();
        }
    }

    fn fetch(&mut self, blob: BlobRef, wanted: Wanted) {
        let fetch = Fetch {
            cache: self.cache.clone(),
            node: self.node.clone(),
            coordinator: self.coordinator.clone(),
            turns: Arc::clone(&self.turns),
            blob,
        };
        let answers = self.answers.clone();
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
                let _ = answers.send(Event::Trouble { trouble, ended: None }).await;
            }
            // The run loop is gone only when the process ends.
            let _ = answers.send(Event::Fetched { digest: blob.digest, result }).await;
        });
        self.fetches.insert(blob.digest, task.abort_handle());
    }

    async fn answer(&self, event: Event) {
        // The run loop is gone only when the process ends.
        let _ = self.answers.send(event).await;
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
        let blob = self.blob;
        if wanted == Wanted::Check {
            if self.cache.on_disk(move |cache| cache.check(blob)).await.unwrap_or(false) {
                return Ok(());
            }
            // It was damaged: room is made anew.
            let room = self.cache.on_disk(move |cache| cache.want(blob)).await;
            let room = room.map_err(|error| Failed::Elsewhere(error.to_string()))?;
            room.map_err(|full| Failed::Elsewhere(full.to_string()))?;
        }
        let turns = Arc::clone(&self.turns);
        let _turn = turns.acquire().await.expect("the turns are never closed");
        let fetched = self.download().await;
        let here = fetched.is_ok();
        let settle = move |cache: &Cache| if here { cache.arrived(&blob.digest) } else { cache.forget(&blob.digest) };
        let _ = self.cache.on_disk(settle).await;
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
