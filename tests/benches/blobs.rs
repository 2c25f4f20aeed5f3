//! How often a coordinator uploads one blob that a fleet wants at once, and how long it takes until all have it.
//!
//! ```sh
//! cargo bench -p lull-tests --bench blobs
//! cargo bench -p lull-tests --bench blobs -- --agents 50 --megabytes 50 --uplink 4
//! ```
//! Nodes in one process on loopback, each with its own cache and an uplink limited alike, the coordinator's too; its
//! tracker is the real one. Beside the measured numbers stand what a star would take, where the coordinator alone uploads
//! to everybody, and the ideal: nothing can be faster than one copy through the coordinator's uplink.

mod report;

use std::{
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use clap::Parser;
use libp2p::{PeerId, identity::Keypair};
use lull_coordinator::fleet::tracker::Tracker;
use lull_engine::cache::Cache;
use lull_mesh::{BlobStore, Holders, Node, NodeConfig, NodeHandle, Receiving, UploadRules};
use lull_scheduler::event::StreamId;
use lull_shared::{
    digest::{BlobRef, Digest, Outline, OutlineBuilder, PIECE_BYTES},
    id::{AgentId, AttemptId},
    identity::{Authority, Issuer, NetworkId, Role},
    limits,
    message::BlobReport,
    time::Timestamp,
};
use tokio_util::sync::CancellationToken;

use report::{Manner, Report};

#[derive(Parser)]
struct Arguments {
    /// Agents that want the blob at once: 20, and 8 in short.
    #[arg(long)]
    agents: Option<u64>,
    /// Its size, in millions of bytes: 20, and 5 in short.
    #[arg(long)]
    megabytes: Option<usize>,
    /// What each node may upload, in millions of bytes a second.
    #[arg(long, default_value_t = 1.0)]
    uplink: f64,
    #[command(flatten)]
    manner: Manner,
}

fn main() {
    let arguments = Arguments::parse();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(run(&arguments));
}

async fn run(arguments: &Arguments) {
    let mut figures = Report::new("blobs", arguments.manner);
    let count = arguments.manner.choose(arguments.agents, 20, 8).max(1);
    let megabytes = arguments.manner.choose(arguments.megabytes, 20, 5).max(1);
    let rate = NonZeroU64::new((arguments.uplink * 1e6) as u64).filter(|rate| rate.get() >= limits::UPLOAD_RATE_MIN);
    let rate = rate.expect("an uplink of at least 0.033");
    let network = Issuer { network: NetworkId([1; 16]), authority: Keypair::generate_ed25519(), life: Duration::from_secs(3600) };
    let shutdown = CancellationToken::new();
    let _stop = shutdown.clone().drop_guard();
    let tracker = Arc::new(Tracker::default());
    let seed = Arc::new(Seed::new((0..megabytes * 1_000_000).map(|at| (at / 7 + at % 251) as u8).collect(), tracker.clone()));
    let blob = seed.blob;
    let coordinator = node(&network, None, rate, seed, &shutdown).await;
    let address = coordinator.listen_addresses().await.first().expect("it listens").clone();
    let folder = tempfile::tempdir().expect("a folder");
    let mut agents = Vec::new();
    for number in 1..=count {
        let cache = Cache::open(&folder.path().join(number.to_string()), u64::MAX).expect("a cache");
        let agent = node(&network, Some(AgentId(number)), rate, Arc::new(cache.clone()), &shutdown).await;
        agent.connect(address.clone()).await.expect("it is admitted");
        tracker.connected(AgentId(number), agent.local_peer(), StreamId(number));
        agents.push((number, agent, cache));
    }
    while coordinator.addresses().len() < agents.len() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let began = Instant::now();
    let fetches = agents.iter().map(|(number, agent, cache)| {
        let (coordinator, tracker) = (coordinator.local_peer(), tracker.clone());
        async move {
            cache.want(blob).expect("room");
            agent.fetch(blob, vec![coordinator], cache.path(&blob.digest)).await.expect("it is fetched");
            cache.arrived(&blob.digest);
            let report = BlobReport { gained: vec![blob], ..BlobReport::default() };
            tracker.report(AgentId(*number), StreamId(*number), report).expect("nothing wrong");
            began.elapsed()
        }
    });
    let mut took = futures::future::join_all(fetches).await;
    took.sort_unstable();
    let uplink = arguments.uplink;
    figures.say(format_args!(
        "one blob of {megabytes} MB ({} pieces), {count} agents at once, {uplink} MB/s up each",
        blob.pieces()
    ));
    report(&mut figures, blob, rate, &coordinator, &agents, &took);
    figures.end();
}

fn report(
    report: &mut Report,
    blob: BlobRef,
    rate: NonZeroU64,
    coordinator: &NodeHandle,
    agents: &[(u64, NodeHandle, Cache)],
    took: &[Duration],
) {
    let (copies, size) = (|bytes: u64| bytes as f64 / blob.size_bytes as f64, blob.size_bytes as f64);
    let ideal = size / rate.get() as f64;
    let all = took.last().expect("there are agents").as_secs_f64();
    let median = took[took.len() / 2].as_secs_f64();
    let count = agents.len();
    let from_agents: u64 = agents.iter().map(|(_, agent, _)| agent.transferred().from_agents_bytes).sum();
    let most = agents.iter().map(|(_, agent, _)| agent.transferred().served_bytes).max().unwrap_or_default();
    let uploaded = copies(coordinator.transferred().served_bytes);
    report.say(format_args!("  uploaded by the coordinator  {uploaded:6.2} copies   (a star: {count} copies)"));
    let (fetched, served) = (copies(from_agents), copies(most));
    report.say(format_args!("  fetched from other agents    {fetched:6.2} copies   (most by one agent: {served:.2} served)"));
    report.say(format_args!("  until the median has it      {median:6.1} s"));
    let times = all / ideal;
    report.say(format_args!(
        "  until all have it            {all:6.1} s        (ideal {ideal:.1} s, so {times:.1} times that; a star: {:.0} s)",
        ideal * count as f64
    ));
    let figures = [
        ("uploaded by the coordinator", uploaded, "copies"),
        ("fetched from other agents", fetched, "copies"),
        ("most served by one agent", served, "copies"),
        ("until the median has it", median, "s"),
        ("until all have it", all, "s"),
        ("until all have it, over the ideal", times, "times"),
    ];
    for (name, value, unit) in figures {
        report.figure(name, value, unit);
    }
}

async fn node(
    network: &Issuer,
    agent: Option<AgentId>,
    rate: NonZeroU64,
    blobs: Arc<dyn BlobStore>,
    shutdown: &CancellationToken,
) -> NodeHandle {
    let identity = Keypair::generate_ed25519();
    let role = if agent.is_some() { Role::Agent } else { Role::Coordinator };
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let config = NodeConfig {
        certificate: Some(network.issue(&identity.public().to_peer_id(), role, agent, "a machine", now)),
        identity,
        network: network.network,
        authority: Authority::of(&network.authority),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        mdns: false,
        reads_capacity: agent.is_none(),
        software: "lull-bench".into(),
        revoked: Default::default(),
        members: Default::default(),
        uploads: UploadRules { bytes_per_second_max: Some(rate), seeds: agent.is_none() },
    };
    let Node { handle, mut events } = Node::start(config, blobs, shutdown.clone()).await.expect("a node");
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    handle
}

/// What the coordinator has.
struct Seed {
    blob: BlobRef,
    outline: Outline,
    bytes: Bytes,
    tracker: Arc<Tracker>,
}

impl Seed {
    fn new(bytes: Vec<u8>, tracker: Arc<Tracker>) -> Self {
        let mut builder = OutlineBuilder::default();
        builder.update(&bytes);
        let (blob, outline) = builder.finish();
        Self { blob, outline, bytes: bytes.into(), tracker }
    }
}

#[async_trait]
impl BlobStore for Seed {
    async fn outline(&self, digest: &Digest) -> Option<(BlobRef, Outline)> {
        (*digest == self.blob.digest).then(|| (self.blob, self.outline.clone()))
    }

    async fn read_piece(&self, _: &Digest, index: u32) -> Option<Bytes> {
        let start = index as usize * PIECE_BYTES;
        (start < self.bytes.len()).then(|| self.bytes.slice(start..(start + PIECE_BYTES).min(self.bytes.len())))
    }

    async fn holders(&self, asker: PeerId, blob: &BlobRef) -> Holders {
        self.tracker.ask(asker, blob, rand::random(), Instant::now())
    }

    async fn receive(&self, _: PeerId, _: AttemptId, _: BlobRef) -> Result<Receiving, String> {
        Err("nothing is delivered here".into())
    }
}
