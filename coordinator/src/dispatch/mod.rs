//! SHELL: one loop feeds the scheduler and carries out what it decides.
//!
//! ```text
//! inputs (network, HTTP) -> [ handle* -> drain effects -> commit all records -> send, reply ] -> agents' writers
//! ```
//! While a commit is on its way the next inputs gather, so a busy coordinator commits in groups by itself. If the
//! store is in doubt about a commit the term ends: streams are closed, the scheduler is loaded anew, and agents
//! come back with what they hold.

mod catalogue;
mod company;
mod leader;
mod lease;
pub mod submission;
pub mod turn;
pub mod writer;

use std::sync::Arc;

use lull_scheduler::{
    Scheduler,
    effect::{OwnCopy, Reply},
    event::{Event, RequestId, StreamId, Submission},
};
use lull_shared::{id::AgentId, id::JobId, time::Timestamp};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, oneshot};

pub use self::{
    catalogue::{Catalogue, CatalogueError},
    company::WAIT_MAX as TURN_WAIT_MAX,
    leader::{Ended, run},
    lease::{Clocks, Lease, LeaseTimes},
    writer::AgentLink,
};
use submission::{Moment, Moments};

/// Inputs that may wait for the loop; beyond it, whoever has more waits.
const INBOX: usize = 4096;
/// Changes of jobs that a slow watcher may lag behind before it is told to look at everything again.
const WATCHED: usize = 1024;

type Query = Box<dyn FnOnce(&Scheduler, Timestamp) + Send>;
/// What a message that waits for the loop takes of what its agent may have waiting.
pub(crate) struct Place {
    /// The frame's, shared by its messages.
    _frame: Arc<OwnedSemaphorePermit>,
    /// The message's own: how much of the loop's time it takes.
    _share: OwnedSemaphorePermit,
}

impl Place {
    /// Of a message.
    pub(crate) fn new(frame: Arc<OwnedSemaphorePermit>, share: OwnedSemaphorePermit) -> Self {
        Self { _frame: frame, _share: share }
    }
}

type MakeEvent = Box<dyn FnOnce(RequestId) -> Event + Send>;

/// What the loop is asked.
pub(crate) enum Input {
    Event(Box<Event>),
    /// Words of an agent, with their place: it is free when the loop has taken them.
    Heard(Box<Event>, Place),
    Request {
        make: MakeEvent,
        reply: oneshot::Sender<Reply>,
    },
    /// What it says of other jobs was read at that moment.
    Submit {
        submission: Box<Submission>,
        moment: Moment,
        reply: oneshot::Sender<Reply>,
    },
    Retry {
        job: JobId,
        by: String,
        finish_by: Option<Timestamp>,
        reply: oneshot::Sender<Reply>,
    },
    /// An agent's stream is ready to be written to; always before its `Connected`.
    Attach {
        stream: StreamId,
        link: AgentLink,
    },
}

/// The coordinator is stopping or loading anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator is stopping or starting; try again in a moment")]
pub struct DispatchError;

/// The loop's mailbox.
#[derive(Clone)]
pub struct DispatchHandle {
    inbox: mpsc::Sender<Input>,
    queries: mpsc::Sender<Query>,
    changed: broadcast::Sender<JobId>,
    moments: Moments,
}

/// The loop's end of the mailbox.
pub struct Inbox {
    inputs: mpsc::Receiver<Input>,
    /// Beside what changes something: people look while the store refuses to remember more.
    queries: mpsc::Receiver<Query>,
    changed: broadcast::Sender<JobId>,
    moments: Moments,
}

/// A mailbox.
pub fn channel() -> (DispatchHandle, Inbox) {
    let (inbox, inputs) = mpsc::channel(INBOX);
    let (queries, queries_in) = mpsc::channel(INBOX);
    let (changed, _) = broadcast::channel(WATCHED);
    let moments = Moments::default();
    let handle = DispatchHandle { inbox, queries, changed: changed.clone(), moments: moments.clone() };
    (handle, Inbox { inputs, queries: queries_in, changed, moments })
}

impl DispatchHandle {
    /// Asks something of the scheduler on behalf of a person; the answer is durable when it comes.
    pub async fn request(&self, make: impl FnOnce(RequestId) -> Event + Send + 'static) -> Result<Reply, DispatchError> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Request { make: Box::new(make), reply }).await?;
        answer.await.map_err(|_| DispatchError)
    }

    /// The moment before what a submission needs is read from the store.
    pub fn moment(&self) -> Moment {
        self.moments.now()
    }

    /// Submits a job, of which the store said at that moment what `submission` says.
    pub async fn submit(&self, submission: Submission, moment: Moment) -> Result<Reply, DispatchError> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Submit { submission: Box::new(submission), moment, reply }).await?;
        answer.await.map_err(|_| DispatchError)
    }

    /// Queues a job's failed, cancelled and expired tasks again.
    pub async fn retry(&self, job: JobId, by: String, finish_by: Option<Timestamp>) -> Result<Reply, DispatchError> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Retry { job, by, finish_by, reply }).await?;
        answer.await.map_err(|_| DispatchError)
    }

    /// Reads something off the scheduler.
    pub async fn query<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Scheduler, Timestamp) -> T + Send + 'static,
    ) -> Result<T, DispatchError> {
        let (reply, answer) = oneshot::channel();
        let query = move |scheduler: &Scheduler, now| {
            // Whoever asked may have gone.
            let _ = reply.send(read(scheduler, now));
        };
        self.queries.send(Box::new(query)).await.map_err(|_| DispatchError)?;
        answer.await.map_err(|_| DispatchError)
    }

    /// Tells which jobs change from now on. After `Lagged`, look at everything again.
    pub fn watch(&self) -> broadcast::Receiver<JobId> {
        self.changed.subscribe()
    }

    /// Something happened in the network.
    pub(crate) async fn event(&self, event: Event) -> Result<(), DispatchError> {
        self.send(Input::Event(Box::new(event))).await
    }

    /// Something soft happened that will be said again: nobody waits with it for a loop that is busy, least of all those who
    /// come back at this moment.
    pub(crate) fn hint(&self, event: Event) {
        // Where there is no room for it, it is said again; a loop that has ended has no use for it.
        let _ = self.inbox.try_send(Input::Event(Box::new(event)));
    }

    /// An agent said something, in a frame that has this place.
    pub(crate) async fn heard(&self, event: Event, place: Place) -> Result<(), DispatchError> {
        self.send(Input::Heard(Box::new(event), place)).await
    }

    /// An agent's stream can be written to.
    pub(crate) async fn attach(&self, stream: StreamId, link: AgentLink) -> Result<(), DispatchError> {
        self.send(Input::Attach { stream, link }).await
    }

    async fn send(&self, input: Input) -> Result<(), DispatchError> {
        self.inbox.send(input).await.map_err(|_| DispatchError)
    }
}

/// What the loop works with.
pub struct Shell {
    pub store: Arc<dyn crate::store::Store>,
    pub catalogue: Arc<Catalogue>,
    pub limits: lull_scheduler::Limits,
    pub tracker: Arc<crate::fleet::tracker::Tracker>,
    /// Whether the term may be counted on without asking the store.
    pub lease: Lease,
    /// Told after an agent's revocation is durable. Not bounded by itself: each is an administrator's word, and was committed.
    pub revoked: mpsc::UnboundedSender<AgentId>,
    /// How long a turn waits for more results, while they stream in and nobody is idle for it.
    pub turn_wait: std::time::Duration,
    /// Learns of jobs that are given, and of a store that forgot some.
    pub losses: Arc<crate::loss::Losses>,
    /// Keeps those snapshots that no agent can keep a copy of. Not bounded by itself: what is kept here has a budget, and each
    /// snapshot is asked for and discarded once.
    pub own_copies: mpsc::UnboundedSender<OwnCopy>,
}
