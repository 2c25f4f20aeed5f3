//! One task per work stream turns the scheduler's orders into frames: it looks up brief and inputs, so that the
//! loop never waits for them, and keeps the orders' numbers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lull_mesh::{FrameError, FrameWriter};
use lull_scheduler::{
    effect::{Given, Order},
    event::{Event, StreamId},
};
use lull_shared::{
    codec,
    digest::Digest,
    id::{AgentId, AttemptId, Term},
    identity::Signed,
    limits,
    message::{Assignment, Payload, RefuseReason, ToAgent, ToAgentFrame, ToCoordinator, Welcome},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Catalogue, CatalogueError, DispatchHandle};
use crate::fleet::{logs::Ask, policies::Feed, upgrades};

/// What may wait for an agent that reads slowly, in attempts and other things that orders name. An agent holds so many
/// attempts at most, and each is offered, with the brief of its job, recalled, acknowledged and forgotten: one that reads at
/// all, however slowly, is never further behind. One that reads nothing loses its stream by that.
const WAITING_MAX: usize = 8 * limits::ATTEMPTS_PER_AGENT_MAX;
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
    orders: mpsc::UnboundedSender<Numbered>,
    /// What waits, in things that orders name.
    waiting: Arc<AtomicUsize>,
}

/// What became of an order that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posted {
    Waits,
    /// The stream has broken; its reader says so, too.
    Gone,
    /// More waits than an agent that reads can be behind.
    Behind,
}

impl AgentLink {
    /// A link without a stream behind it.
    #[cfg(test)]
    pub(crate) fn loose() -> (Self, mpsc::UnboundedReceiver<Numbered>) {
        let (orders, queue) = mpsc::unbounded_channel();
        (Self { orders, waiting: Arc::default() }, queue)
    }

    /// Puts an order in the stream's queue.
    pub(crate) fn send(&self, number: u64, order: Order) -> Posted {
        let weight = weight(&order);
        if self.waiting.load(Ordering::Relaxed).saturating_add(weight) > WAITING_MAX {
            return Posted::Behind;
        }
        self.waiting.fetch_add(weight, Ordering::Relaxed);
        match self.orders.send(Numbered { number, order }) {
            Ok(()) => Posted::Waits,
            Err(_) => Posted::Gone,
        }
    }
}

/// How many things an order names, and itself.
fn weight(order: &Order) -> usize {
    let named = match order {
        Order::Assign { attempts } => attempts.len(),
        Order::Recall { attempts, .. } | Order::Acknowledge { attempts } => attempts.len(),
        Order::Discard { snapshots } | Order::Safe { snapshots } => snapshots.len(),
        Order::Wake { cards } => cards.len(),
        Order::Brief { .. }
        | Order::Welcome { .. }
        | Order::Forget { .. }
        | Order::Keep { .. }
        | Order::Intake(_)
        | Order::Goodbye { .. } => 0,
    };
    named + 1
}

/// What a stream's writer knows of its agent.
pub struct Peer {
    pub agent: AgentId,
    pub stream: StreamId,
    pub term: Term,
    /// The same, by the authority's word.
    pub term_proof: Signed,
    /// A fresh certificate, if the agent should have one.
    pub certificate: Option<Signed>,
    /// What is allowed on its machine.
    pub policy: Option<Signed>,
    /// Where coordinators are to be found.
    pub coordinators: Vec<String>,
    /// Where people on its machine find the network with a browser.
    pub portal: Option<String>,
    /// How often the agent shall give a sign of life.
    pub heartbeat: Duration,
}

/// What an agent is told whenever it changes, beside its orders.
pub struct News {
    /// Where coordinators are to be found.
    pub coordinators: watch::Receiver<Arc<Vec<String>>>,
    pub policy: Feed,
    /// What the agent is to become.
    pub upgrade: upgrades::Feed,
    /// What somebody wants to read of the logs there.
    pub asks: mpsc::Receiver<Ask>,
}

/// Starts to write a stream.
pub fn spawn(
    peer: Peer,
    news: News,
    catalogue: Arc<Catalogue>,
    dispatch: DispatchHandle,
    stream: FrameWriter<ToAgentFrame>,
) -> AgentLink {
    let (orders, queue) = mpsc::unbounded_channel();
    let waiting = Arc::<AtomicUsize>::default();
    let framer = Framer::new(peer, catalogue);
    let writer = Writer { framer, news, dispatch, stream, written: 0, waiting: waiting.clone() };
    tokio::spawn(writer.run(queue));
    AgentLink { orders, waiting }
}

struct Writer {
    framer: Framer,
    news: News,
    dispatch: DispatchHandle,
    stream: FrameWriter<ToAgentFrame>,
    /// The last order that was written as a whole.
    written: u64,
    waiting: Arc<AtomicUsize>,
}

impl Writer {
    async fn run(mut self, queue: mpsc::UnboundedReceiver<Numbered>) {
        match self.write(queue).await {
            Ok(()) => self.stream.close().await,
            Err(error) => tracing::debug!(agent = %self.framer.peer.agent, %error, "an agent's stream broke"),
        }
    }

    async fn write(&mut self, mut queue: mpsc::UnboundedReceiver<Numbered>) -> Result<(), FrameError> {
        let mut batch = Vec::with_capacity(ORDERS_PER_FLUSH);
        loop {
            let frame = tokio::select! {
                taken = timeout(limits::KEEP_ALIVE, queue.recv_many(&mut batch, ORDERS_PER_FLUSH)) => match taken {
                    Ok(0) => return Ok(()),
                    Ok(_) => {
                        self.carry_out(&mut batch).await?;
                        continue;
                    }
                    Err(_) => keep_alive(self.written),
                },
                // `Welcome` comes first and tells them too.
                Ok(()) = self.news.coordinators.changed(), if self.written > 0 => {
                    let known = self.news.coordinators.borrow_and_update().to_vec();
                    ToAgentFrame { number: self.written, messages: vec![ToAgent::Coordinators(known)] }
                }
                Some(Ask { attempt, from }) = self.news.asks.recv(), if self.written > 0 => {
                    ToAgentFrame { number: self.written, messages: vec![ToAgent::ReadLog { attempt, from }] }
                }
                () = self.news.policy.changed(), if self.written > 0 => {
                    let sheet = self.news.policy.sheet();
                    ToAgentFrame { number: self.written, messages: vec![ToAgent::Policy(sheet)] }
                }
                release = self.news.upgrade.next(), if self.written > 0 => {
                    ToAgentFrame { number: self.written, messages: vec![ToAgent::Upgrade(release)] }
                }
            };
            self.stream.send(&frame).await?;
        }
    }

    /// Writes orders, those that are small with one flush.
    async fn carry_out(&mut self, batch: &mut Vec<Numbered>) -> Result<(), FrameError> {
        let (mut frames, mut inline, mut done) = (Vec::with_capacity(batch.len()), 0, 0);
        for Numbered { number, order } in batch.drain(..) {
            done += weight(&order);
            let parts = self.frames(number, order).await?;
            inline += parts.iter().map(inline_bytes).sum::<usize>();
            frames.extend(parts);
            if inline > INLINE_PER_FRAME {
                self.stream.send_many(&frames).await?;
                frames.clear();
                inline = 0;
            }
            self.written = number;
        }
        self.stream.send_many(&frames).await?;
        tracing::trace!(target: "parts", "orders written");
        self.waiting.fetch_sub(done, Ordering::Relaxed);
        for event in self.framer.given_back() {
            // A loop that has ended has no use for it.
            let _ = self.dispatch.event(event).await;
        }
        Ok(())
    }

    /// An order as frames. A store that takes its time with what belongs into them is no reason for the agent to believe
    /// that nobody is here any more.
    async fn frames(&mut self, number: u64, order: Order) -> Result<Vec<ToAgentFrame>, FrameError> {
        let Self { framer, stream, .. } = self;
        let mut frames = std::pin::pin!(framer.frames(number, order));
        loop {
            match timeout(limits::KEEP_ALIVE, &mut frames).await {
                Ok(frames) => return Ok(frames),
                // Orders before this one may still wait to be written: it tells of none.
                Err(_) => stream.send(&keep_alive(self.written)).await?,
            }
        }
    }
}

/// Says nothing but that the coordinator is there.
fn keep_alive(written: u64) -> ToAgentFrame {
    ToAgentFrame { number: written, messages: Vec::new() }
}

/// The bytes of inputs that travel in a frame.
fn inline_bytes(frame: &ToAgentFrame) -> usize {
    let assignments = frame.messages.iter().filter_map(|message| match message {
        ToAgent::Assign(assignments) => Some(assignments),
        _ => None,
    });
    let inline = assignments.flatten().map(|assignment| match &assignment.input {
        Payload::Inline(bytes) => bytes.len(),
        Payload::Blob(_) => 0,
    });
    inline.sum()
}

/// Puts into an order what the scheduler does not carry: brief, inputs, the stream's own facts.
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
            Order::Brief { job } => match self.catalogue.brief(job).await {
                Ok(brief) => ToAgent::Brief(Box::new(brief)),
                Err(error) => {
                    // The assignments that follow are refused by the agent as of unknown brief, and offered again.
                    tracing::warn!(%job, %error, "cannot tell an agent the brief of a job");
                    return vec![Vec::new()];
                }
            },
            Order::Welcome { intake } => ToAgent::Welcome(Welcome {
                agent: self.peer.agent,
                term: self.peer.term,
                term_proof: Some(self.peer.term_proof.clone()),
                heartbeat_ms: self.peer.heartbeat.as_millis() as u64,
                intake,
                certificate: self.peer.certificate.as_ref().map(codec::encode),
                policy: self.peer.policy.clone(),
                coordinators: self.peer.coordinators.clone(),
                portal: self.peer.portal.clone(),
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

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use lull_mesh::{AgentStream, CoordinatorStream, work_stream_in_memory};
    use lull_scheduler::effect::{Change, NewJob};
    use lull_shared::{
        digest::BlobRef,
        id::{JobId, TaskId, VersionId},
        identity::{Issuer, NetworkId},
        job::{Inputs, JobSpec},
        message::Build,
        pack::{Content, PackBuilder},
        resources::Labels,
        state::{Intake, JobState},
        time::Timestamp,
    };

    use super::*;
    use crate::{
        fleet::{policies::Policies, upgrades::Upgrades},
        store::{Blobs as _, memory::Memory},
    };

    /// A link to an agent whose end of the stream is in hand.
    async fn link() -> (AgentLink, AgentStream) {
        let store = Arc::new(Memory::default());
        link_with(store.clone(), Arc::new(Catalogue::new(store))).await
    }

    async fn link_with(store: Arc<Memory>, catalogue: Arc<Catalogue>) -> (AgentLink, AgentStream) {
        let (CoordinatorStream { outgoing, .. }, agent_end) = work_stream_in_memory();
        let authority = Keypair::generate_ed25519();
        let issuer = Arc::new(Issuer { network: NetworkId([1; 16]), authority, life: Duration::from_secs(60) });
        let policies = Policies::load(&*store, issuer.clone()).await.expect("a store in memory answers");
        let upgrades = Upgrades::load(&*store, issuer).await.expect("a store in memory answers");
        let (dispatch, _inbox) = super::super::channel();
        let (_, addresses) = watch::channel(Arc::default());
        let peer = Peer {
            agent: AgentId(1),
            stream: StreamId(1),
            term: Term(1),
            term_proof: Signed { body: Vec::new(), signature: Vec::new() },
            certificate: None,
            policy: None,
            coordinators: Vec::new(),
            portal: None,
            heartbeat: limits::HEARTBEAT,
        };
        let feed = policies.feed(AgentId(1), Labels::new());
        let (_, asks) = mpsc::channel(1);
        let news = News { coordinators: addresses, policy: feed, upgrade: upgrades.feed(AgentId(1)), asks };
        (spawn(peer, news, catalogue, dispatch, outgoing), agent_end)
    }

    fn forget(job: u64) -> Order {
        Order::Forget { job: JobId(job) }
    }

    #[tokio::test]
    async fn an_agent_that_reads_late_finds_everything_in_its_order() {
        let (link, mut stream) = link().await;
        assert_eq!(link.send(1, Order::Welcome { intake: Intake::Open }), Posted::Waits);
        // Far more than it could be sent at once after a cut of the network, and more than the stream itself holds.
        let orders = 5 * limits::ATTEMPTS_PER_AGENT_MAX as u64;
        assert!((2..=orders).all(|number| link.send(number, forget(number)) == Posted::Waits));
        drop(link);
        let mut numbers = Vec::new();
        while let Some(frame) = stream.incoming.next().await {
            let frame = frame.expect("a frame");
            // Others only say that somebody is there.
            numbers.extend((!frame.messages.is_empty()).then_some(frame.number));
        }
        assert_eq!(numbers, (1..=orders).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn inputs_that_do_not_fit_into_one_flush_arrive_all_and_in_their_order() {
        const COUNT: u32 = 80;
        let store = Arc::new(Memory::default());
        let input = |index: u32| vec![index as u8; 60_000];
        let mut pack = PackBuilder::default();
        for index in 0..COUNT {
            pack.push("", Content::Inline(input(index).as_slice()));
        }
        let bytes = pack.finish();
        let mut blob = store.begin_blob(bytes.len() as u64).await.expect("a blob begins");
        blob.write(&bytes).await.expect("it is taken");
        let pack = blob.finish().await.expect("it is kept");
        let catalogue = Arc::new(Catalogue::new(store.clone()));
        catalogue.follow(&Change::JobSubmitted(Box::new(NewJob {
            job: JobId(1),
            owner: None,
            submitter: "ada".into(),
            spec: JobSpec::plain("nightly", VersionId(1), Inputs::Pack { pack, count: COUNT }),
            version_name: "f@1".into(),
            seed: 1,
            movable: None,
            at: Timestamp(0),
        })));
        let (link, mut stream) = link_with(store, catalogue).await;
        for index in 0..COUNT {
            let attempt = AttemptId { task: TaskId { job: JobId(1), index }, number: 1 };
            let attempts = vec![Given { attempt, build: Build::Plain, resume: None }];
            assert_eq!(link.send(u64::from(index) + 1, Order::Assign { attempts }), Posted::Waits);
        }
        drop(link);
        let mut arrived = Vec::new();
        while let Some(frame) = stream.incoming.next().await {
            let frame = frame.expect("a frame");
            for message in frame.messages {
                let ToAgent::Assign(assignments) = message else { panic!("{message:?}") };
                for Assignment { attempt, input: given, .. } in assignments {
                    assert_eq!(given, Payload::inline(input(attempt.task.index)), "{attempt}");
                    arrived.push((frame.number, attempt.task.index));
                }
            }
        }
        assert_eq!(arrived, (0..COUNT).map(|index| (u64::from(index) + 1, index)).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_waits_for_an_agent_that_reads_nothing_is_bounded() {
        let (link, _stream) = link().await;
        let behind = (1..).find(|number| link.send(*number, forget(*number)) == Posted::Behind).expect("a bound");
        assert!(behind as usize <= WAITING_MAX + 1, "{behind} orders");
    }

    #[tokio::test]
    async fn a_stream_that_broke_is_told_from_an_agent_that_does_not_keep_up() {
        let (link, stream) = link().await;
        drop(stream);
        let mut number = 0;
        let gone = loop {
            number += 1;
            match link.send(number, forget(number)) {
                Posted::Waits => tokio::task::yield_now().await,
                other => break other,
            }
        };
        assert_eq!(gone, Posted::Gone);
    }

    #[tokio::test]
    async fn an_order_weighs_as_much_as_it_names() {
        let attempt = |index| AttemptId { task: TaskId { job: JobId(1), index }, number: 1 };
        let many = || (0..WAITING_MAX as u32 - 1).map(attempt).collect::<Vec<_>>();
        let (link, _queue) = AgentLink::loose();
        assert_eq!(link.send(1, Order::Acknowledge { attempts: many() }), Posted::Waits, "all that may wait");
        assert_eq!(link.send(2, forget(1)), Posted::Behind);
        let (link, _queue) = AgentLink::loose();
        assert_eq!(link.send(1, forget(1)), Posted::Waits);
        assert_eq!(link.send(2, Order::Acknowledge { attempts: many() }), Posted::Behind, "one more than may wait");
        let given = |attempt| Given { attempt, build: Build::Plain, resume: None };
        for (order, expected) in [
            (Order::Assign { attempts: vec![given(attempt(1)), given(attempt(2))] }, 3),
            (Order::Acknowledge { attempts: vec![attempt(1)] }, 2),
            (Order::Wake { cards: Vec::new() }, 1),
            (forget(1), 1),
        ] {
            assert_eq!(weight(&order), expected, "{order:?}");
        }
    }

    #[tokio::test]
    async fn what_was_written_waits_no_more() {
        let (link, mut stream) = link().await;
        assert_eq!(link.send(1, Order::Welcome { intake: Intake::Open }), Posted::Waits);
        // More than may wait at once, a few at a time.
        let mut number = 1;
        while number < 2 * WAITING_MAX as u64 {
            for _ in 0..1_000 {
                number += 1;
                assert_eq!(link.send(number, forget(number)), Posted::Waits, "{number}");
            }
            while stream.incoming.next().await.expect("it is open").expect("a frame").number < number {}
            while link.waiting.load(Ordering::Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// A pack of so many inputs, as long as those may be that travel in frames.
    async fn kept(store: &Memory, count: usize) -> Inputs {
        let (mut pack, input) = (PackBuilder::default(), vec![7; limits::INLINE_BYTES_MAX]);
        for _ in 0..count {
            pack.push("", Content::Inline(input.as_slice()));
        }
        let bytes = pack.finish();
        let mut blob = store.begin_blob(bytes.len() as u64).await.expect("a blob begins");
        blob.write(&bytes).await.expect("it is taken");
        Inputs::Pack { pack: blob.finish().await.expect("it is kept"), count: count as u32 }
    }

    /// For a stream whose agent has attempts of the first job, with these inputs.
    fn framer(store: Arc<Memory>, pack: Inputs) -> Framer {
        let catalogue = Arc::new(Catalogue::new(store));
        catalogue.follow(&Change::JobSubmitted(Box::new(NewJob {
            job: JobId(1),
            owner: None,
            submitter: "ada".into(),
            spec: JobSpec::plain("nightly", VersionId(1), pack),
            version_name: "f@1".into(),
            seed: 1,
            movable: None,
            at: Timestamp(0),
        })));
        let peer = Peer {
            agent: AgentId(1),
            stream: StreamId(1),
            term: Term(1),
            term_proof: Signed { body: Vec::new(), signature: Vec::new() },
            certificate: None,
            policy: None,
            coordinators: Vec::new(),
            portal: None,
            heartbeat: limits::HEARTBEAT,
        };
        Framer::new(peer, catalogue)
    }

    fn assign(count: u32) -> Order {
        let attempt = |index| AttemptId { task: TaskId { job: JobId(1), index }, number: 1 };
        let given = |index| Given { attempt: attempt(index), build: Build::Plain, resume: None };
        Order::Assign { attempts: (0..count).map(given).collect() }
    }

    #[tokio::test]
    async fn an_order_in_several_frames_is_read_with_the_last_of_them() {
        let fits = INLINE_PER_FRAME / limits::INLINE_BYTES_MAX;
        let store = Arc::new(Memory::default());
        let inputs = kept(&store, fits + 2).await;
        for (count, expected) in [(1, vec![1]), (fits, vec![fits]), (fits + 2, vec![fits + 1, 1])] {
            let frames = framer(store.clone(), inputs.clone()).frames(7, assign(count as u32)).await;
            let of = |frame: &ToAgentFrame| match &frame.messages[..] {
                [ToAgent::Assign(assignments)] => assignments.len(),
                other => panic!("{other:?}"),
            };
            assert_eq!(frames.iter().map(of).collect::<Vec<_>>(), expected);
            let numbers: Vec<u64> = frames.iter().map(|frame| frame.number).collect();
            let (last, before) = numbers.split_last().expect("a frame");
            assert!(*last == 7 && before.iter().all(|number| *number == 6), "{numbers:?}");
            assert!(frames.iter().all(|frame| codec::encode(frame).len() <= limits::FRAME_BYTES_MAX));
        }
    }

    #[tokio::test]
    async fn an_attempt_whose_input_cannot_be_read_is_given_back_once_and_one_that_has_ended_is_not() {
        let missing = BlobRef { digest: Digest::of(b"a pack that is not there"), size_bytes: 1_000 };
        let mut framer = framer(Arc::new(Memory::default()), Inputs::Pack { pack: missing, count: 2 });
        let frames = framer.frames(1, assign(1)).await;
        let [ToAgentFrame { number: 1, messages }] = &frames[..] else { panic!("{frames:?}") };
        assert!(matches!(&messages[..], [ToAgent::Assign(none)] if none.is_empty()), "{messages:?}");
        let back = framer.given_back();
        let [Event::Message { agent: AgentId(1), stream: StreamId(1), message: ToCoordinator::Refused { attempt, reason } }] =
            &back[..]
        else {
            panic!("{back:?}");
        };
        assert_eq!(attempt.task.index, 0);
        assert!(matches!(reason, RefuseReason::Fetch { digest, .. } if *digest == missing.digest), "{reason:?}");
        assert!(framer.given_back().is_empty());
        framer.catalogue.follow(&Change::JobEnded { job: JobId(1), state: JobState::Cancelled, at: Timestamp(1) });
        framer.frames(2, assign(1)).await;
        assert!(framer.given_back().is_empty(), "nobody misses it");
    }
}
