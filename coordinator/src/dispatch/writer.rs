//! One task per work stream turns the scheduler's orders into frames: it looks up terms and inputs, so that the
//! loop never waits for them, and keeps the orders' numbers.

use std::{sync::Arc, time::Duration};

use lull_shared::{
    codec,
    digest::Digest,
    id::{AgentId, AttemptId, Epoch},
    identity::Signed,
    limits,
    mesh::FrameWriter,
    message::{Assignment, Payload, RefuseReason, ToAgent, ToAgentFrame, ToCoordinator, Welcome},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Catalogue, CatalogueError, DispatchHandle};
use crate::{
    policies::Feed,
    scheduler::{
        effect::{Given, Order},
        event::{Event, StreamId},
    },
};

/// Orders that may wait for a slow agent; one that is further behind is cut off and comes back.
const ORDERS_WAITING_MAX: usize = 1024;
/// Inline input after which a frame is closed: half of the most a frame may have, so that the last one fits too.
const INLINE_PER_FRAME: usize = limits::FRAME_BYTES_MAX / 2;
/// Orders written with one flush.
const ORDERS_PER_FLUSH: usize = 64;

/// An order on its way, with its number on its stream.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub number: u64,
    pub order: Order,
}

/// The loop's hold on an agent's stream. Dropping it closes the stream when all is written.
#[derive(Debug)]
pub struct AgentLink {
    orders: mpsc::Sender<Numbered>,
}

impl AgentLink {
    /// Puts an order in the stream's queue; `false` when the agent does not keep up or has gone.
    pub(crate) fn send(&self, number: u64, order: Order) -> bool {
        self.orders.try_send(Numbered { number, order }).is_ok()
    }
}

/// What a stream's writer knows of its agent.
pub struct Peer {
    pub agent: AgentId,
    pub stream: StreamId,
    pub epoch: Epoch,
    /// A fresh certificate, if the agent should have one.
    pub certificate: Option<Signed>,
    /// What is allowed on its machine.
    pub policy: Option<Signed>,
    /// Where coordinators are to be found.
    pub coordinators: Vec<String>,
    /// How often the agent shall give a sign of life.
    pub heartbeat: Duration,
}

/// Starts to write a stream. The agent is told of `coordinators` and its policy again whenever they change.
pub fn spawn(
    peer: Peer,
    coordinators: watch::Receiver<Arc<Vec<String>>>,
    policy: Feed,
    catalogue: Arc<Catalogue>,
    dispatch: DispatchHandle,
    stream: FrameWriter<ToAgentFrame>,
) -> AgentLink {
    let (orders, queue) = mpsc::channel(ORDERS_WAITING_MAX);
    let writer = Writer { framer: Framer::new(peer, catalogue), coordinators, policy, dispatch, stream, written: 0 };
    tokio::spawn(writer.run(queue));
    AgentLink { orders }
}

struct Writer {
    framer: Framer,
    coordinators: watch::Receiver<Arc<Vec<String>>>,
    policy: Feed,
    dispatch: DispatchHandle,
    stream: FrameWriter<ToAgentFrame>,
    /// The last order that was written as a whole.
    written: u64,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Numbered>) {
        let mut batch = Vec::with_capacity(ORDERS_PER_FLUSH);
        loop {
            let frames = tokio::select! {
                taken = timeout(limits::KEEP_ALIVE, queue.recv_many(&mut batch, ORDERS_PER_FLUSH)) => match taken {
                    Ok(0) => break,
                    Ok(_) => self.frames(&mut batch).await,
                    Err(_) => vec![self.frame(Vec::new())],
                },
                // `Welcome` comes first and tells them too.
                Ok(()) = self.coordinators.changed(), if self.written > 0 => {
                    let known = self.coordinators.borrow_and_update().to_vec();
                    vec![self.frame(vec![ToAgent::Coordinators(known)])]
                }
                () = self.policy.changed(), if self.written > 0 => {
                    let sheet = self.policy.sheet();
                    vec![self.frame(vec![ToAgent::Policy(sheet)])]
                }
            };
            if let Err(error) = self.stream.send_many(&frames).await {
                tracing::debug!(agent = %self.framer.peer.agent, %error, "an agent's stream broke");
                return;
            }
        }
        self.stream.close().await;
    }

    /// Something that is no order.
    fn frame(&self, messages: Vec<ToAgent>) -> ToAgentFrame {
        ToAgentFrame { number: self.written, messages }
    }

    async fn frames(&mut self, batch: &mut Vec<Numbered>) -> Vec<ToAgentFrame> {
        let mut frames = Vec::with_capacity(batch.len());
        for Numbered { number, order } in batch.drain(..) {
            frames.extend(self.framer.frames(number, order).await);
            self.written = number;
        }
        for event in self.framer.given_back() {
            // A loop that has ended has no use for it.
            let _ = self.dispatch.event(event).await;
        }
        frames
    }
}

/// Puts into an order what the scheduler does not carry: terms, inputs, the stream's own facts.
pub struct Framer {
    peer: Peer,
    catalogue: Arc<Catalogue>,
    /// Attempts whose inputs could not be read, and why.
    unread: Vec<(AttemptId, String)>,
}

impl Framer {
    /// For one stream.
    pub fn new(peer: Peer, catalogue: Arc<Catalogue>) -> Self {
        Self { peer, catalogue, unread: Vec::new() }
    }

    /// An order as frames.
    pub async fn frames(&mut self, number: u64, order: Order) -> Vec<ToAgentFrame> {
        let parts = self.parts(order).await;
        // Only the last part completes the order: what the agent reports as read must be there as a whole.
        let last = parts.len().saturating_sub(1);
        let numbered = |(part, messages)| ToAgentFrame { number: if part == last { number } else { number - 1 }, messages };
        parts.into_iter().enumerate().map(numbered).collect()
    }

    /// What the scheduler must hear of attempts that never reached their agent.
    pub fn given_back(&mut self) -> Vec<Event> {
        let Peer { agent, stream, .. } = self.peer;
        let unread = std::mem::take(&mut self.unread);
        let back = unread.into_iter().map(|(attempt, reason)| {
            let digest = self.catalogue.pack(attempt.task.job).unwrap_or(Digest::of(&[]));
            let message = ToCoordinator::Refused { attempt, reason: RefuseReason::Fetch { digest, reason } };
            Event::Message { agent, stream, message }
        });
        back.collect()
    }

    /// An order as the messages of one or more frames.
    async fn parts(&mut self, order: Order) -> Vec<Vec<ToAgent>> {
        let message = match order {
            Order::Assign { attempts } => return self.assignments(attempts).await,
            Order::Terms { job } => match self.catalogue.terms(job).await {
                Ok(terms) => ToAgent::Terms(Box::new(terms)),
                Err(error) => {
                    // The assignments that follow are refused by the agent as of unknown terms, and offered again.
                    tracing::warn!(%job, %error, "cannot tell an agent the terms of a job");
                    return vec![Vec::new()];
                }
            },
            Order::Welcome { intake } => ToAgent::Welcome(Welcome {
                agent: self.peer.agent,
                epoch: self.peer.epoch,
                heartbeat_ms: self.peer.heartbeat.as_millis() as u64,
                intake,
                certificate: self.peer.certificate.as_ref().map(codec::encode),
                policy: self.peer.policy.clone(),
                coordinators: self.peer.coordinators.clone(),
            }),
            Order::Recall { attempts, reason } => ToAgent::Recall { attempts, reason },
            Order::Acknowledge { attempts } => ToAgent::Acknowledge { attempts },
            Order::Forget { job } => ToAgent::Forget { job },
            Order::Discard { snapshots } => ToAgent::Discard { snapshots },
            Order::Keep { task, snapshot } => ToAgent::Keep { task, snapshot },
            Order::Wake { cards } => ToAgent::Wake(cards),
            Order::Safe { snapshots } => ToAgent::Safe { snapshots },
            Order::Intake(intake) => ToAgent::Intake(intake),
            Order::Goodbye { reason } => ToAgent::Goodbye { reason },
        };
        vec![vec![message]]
    }

    /// Assignments with their inputs, cut so that each part fits a frame.
    async fn assignments(&mut self, attempts: Vec<Given>) -> Vec<Vec<ToAgent>> {
        let mut parts = Vec::new();
        let (mut part, mut bytes) = (Vec::with_capacity(attempts.len()), 0);
        for Given { attempt, build, resume } in attempts {
            let input = match self.catalogue.input(attempt.task).await {
                Ok(input) => input,
                Err(CatalogueError::Ended(_)) => continue,
                Err(error) => {
                    tracing::warn!(%attempt, %error, "cannot read a task's input");
                    self.unread.push((attempt, error.to_string()));
                    continue;
                }
            };
            bytes += match &input {
                Payload::Inline(inline) => inline.len(),
                Payload::Blob(_) => 0,
            };
            part.push(Assignment { attempt, input, build, resume: resume.map(|snapshot| *snapshot) });
            if bytes > INLINE_PER_FRAME {
                parts.push(vec![ToAgent::Assign(std::mem::take(&mut part))]);
                bytes = 0;
            }
        }
        parts.push(vec![ToAgent::Assign(part)]);
        parts
    }
}
