//! Capacity gossip with a thousand agents in one process: what it carries, what arrives, how old it is then.
//!
//! ```sh
//! cargo bench -p lull-tests --bench gossip                       # 1,000 agents, a change each 5 s, 60 s
//! cargo bench -p lull-tests --bench gossip -- --agents 100
//! ```
//! Real nodes and real connections on loopback; each agent's connection is held by its work stream, as in life. Bytes
//! are what the kernel counted on the agents' ends while the changes were made, pings and gossip's own upkeep with
//! them.

mod report;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::Parser;
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use lull_mesh::{AgentStream, CoordinatorStream, NoBlobs, Node, NodeConfig, NodeEvent};
use lull_shared::{
    id::AgentId,
    identity::{Authority, Issuer, NetworkId, Role},
    resources::Capacity,
    time::Timestamp,
};
use lull_tests::sockets::{Carried, carried_to};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{sync::Semaphore, task::JoinSet, time};
use tokio_util::sync::CancellationToken;

use report::{Goal, Manner, Report};

/// Agents that connect at the same time: below the node's own bound on handshakes.
const CONNECTING_MAX: usize = 64;
/// After the last change, this long for it to arrive.
const TAIL: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Arguments {
    /// How many: 1,000, and 200 in short.
    #[arg(long)]
    agents: Option<u64>,
    /// Seconds for which changes are made: 60, and 15 in short.
    #[arg(long)]
    seconds: Option<u64>,
    /// Mean seconds between two changes of an agent.
    #[arg(long, default_value_t = 5.0)]
    every: f64,
    #[command(flatten)]
    manner: Manner,
}

/// When each change was published, and how old it was when the coordinator heard it.
#[derive(Default)]
struct Changes {
    published: BTreeMap<(AgentId, u64), Instant>,
    ages: Vec<Duration>,
}

fn main() {
    let arguments = Arguments::parse();
    let allowed = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: allowed.maximum, ..allowed };
    setrlimit(Resource::Nofile, raised).expect("a process may use all descriptors it is allowed");
    tokio::runtime::Runtime::new().expect("a runtime").block_on(measure(&arguments));
}

async fn measure(arguments: &Arguments) {
    let mut figures = Report::new("gossip", arguments.manner);
    let count = arguments.manner.choose(arguments.agents, 1_000, 200).max(1);
    let seconds = arguments.manner.choose(arguments.seconds, 60, 15);
    let issuer = Arc::new(Issuer {
        network: NetworkId([7; 16]),
        authority: Keypair::generate_ed25519(),
        life: Duration::from_secs(24 * 3600),
    });
    let (shutdown, changes) = (CancellationToken::new(), Arc::new(Mutex::new(Changes::default())));
    let coordinator = start(&issuer, Role::Coordinator, None, &shutdown).await;
    let address = coordinator.handle.listen_addresses().await.first().expect("it listens").clone();
    tokio::spawn(listen(coordinator, changes.clone()));
    let agents = connect_all(count, &issuer, &address, &shutdown).await;
    let port = port_of(&address);
    // Subscriptions and introductions are over when nothing has moved for a while.
    let before = settled(port).await;
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let mut publishing = JoinSet::new();
    for (id, (node, _stream)) in &agents {
        publishing.spawn(publish(*id, node.handle.clone(), arguments.every, until, changes.clone()));
    }
    publishing.join_all().await;
    let spent = began.elapsed().as_secs_f64();
    let carried = carried_to(port);
    let deadline = Instant::now() + TAIL;
    while Instant::now() < deadline && !lock(&changes).published.is_empty() {
        time::sleep(Duration::from_millis(100)).await;
    }
    report(&mut figures, count, spent, &before, &carried, &lock(&changes));
    shutdown.cancel();
    figures.end();
}

fn lock(changes: &Mutex<Changes>) -> std::sync::MutexGuard<'_, Changes> {
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn start(issuer: &Issuer, role: Role, agent: Option<AgentId>, shutdown: &CancellationToken) -> Node {
    let identity = Keypair::generate_ed25519();
    let now = Timestamp::from_millis(
        i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis()).expect("this era"),
    );
    let certificate = issuer.issue(&identity.public().to_peer_id(), role, agent, "bench", now);
    let listen = (role == Role::Coordinator).then(|| "/ip4/127.0.0.1/tcp/0".parse().expect("an address"));
    let config = NodeConfig {
        identity,
        network: issuer.network,
        authority: Authority::of(&issuer.authority),
        certificate: Some(certificate),
        listen: listen.into_iter().collect(),
        mdns: false,
        reads_capacity: role == Role::Coordinator,
        software: "lull-bench".to_owned(),
        revoked: Default::default(),
        members: Default::default(),
        uploads: Default::default(),
    };
    Node::start(config, Arc::new(NoBlobs), shutdown.clone()).await.expect("a node starts")
}

/// The coordinator: notes the age of each change it hears, and holds the work streams.
async fn listen(mut coordinator: Node, changes: Arc<Mutex<Changes>>) {
    let mut streams: Vec<CoordinatorStream> = Vec::new();
    while let Some(event) = coordinator.events.recv().await {
        match event {
            NodeEvent::Work { stream, .. } => streams.push(stream),
            NodeEvent::Capacity { capacity, .. } => {
                let mut changes = lock(&changes);
                if let Some(published) = changes.published.remove(&(capacity.agent, capacity.sequence)) {
                    changes.ages.push(published.elapsed());
                }
            }
            _ => {}
        }
    }
}

type Agents = BTreeMap<AgentId, (Node, AgentStream)>;

async fn connect_all(count: u64, issuer: &Arc<Issuer>, address: &Multiaddr, shutdown: &CancellationToken) -> Agents {
    let places = Arc::new(Semaphore::new(CONNECTING_MAX));
    let mut connecting = JoinSet::new();
    for id in (1..=count).map(AgentId) {
        let (issuer, address, shutdown, places) = (issuer.clone(), address.clone(), shutdown.clone(), places.clone());
        connecting.spawn(async move {
            let _place = places.acquire().await.expect("never closed");
            let node = start(&issuer, Role::Agent, Some(id), &shutdown).await;
            let peer = loop {
                match node.handle.connect(address.clone()).await {
                    Ok(peer) => break peer,
                    Err(_) => time::sleep(Duration::from_millis(rand::random_range(100..1_000))).await,
                }
            };
            let stream = node.handle.open_work(peer).await.expect("a work stream");
            (id, (node, stream))
        });
    }
    connecting.join_all().await.into_iter().collect()
}

fn port_of(address: &Multiaddr) -> u16 {
    let port = address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None });
    port.expect("a TCP address")
}

type Connections = BTreeMap<i32, Carried>;

async fn settled(port: u16) -> Connections {
    let mut last = carried_to(port);
    loop {
        time::sleep(Duration::from_secs(2)).await;
        let now = carried_to(port);
        let moved: u64 = now.iter().map(|(number, now)| now.sent - last.get(number).map_or(0, |last| last.sent)).sum();
        // Pings go on for ever: a tenth of the connections may have had one.
        if moved < 64 * now.len() as u64 / 10 {
            return now;
        }
        last = now;
    }
}

/// Makes changes at random moments. Two are never closer than the gap at which a node would make one of them.
async fn publish(id: AgentId, node: lull_mesh::NodeHandle, every: f64, until: Instant, changes: Arc<Mutex<Changes>>) {
    let pause = || Duration::from_secs_f64(1.1 + rand::random_range(0.0..2.0 * (every - 1.1).max(0.1)));
    // Not all at once at the start.
    time::sleep(Duration::from_secs_f64(rand::random_range(0.0..every))).await;
    for sequence in 1.. {
        if Instant::now() >= until {
            return;
        }
        let capacity = Capacity {
            agent: id,
            run: 0,
            sequence,
            slots: 8,
            slots_busy: (sequence % 8) as u16,
            waiting: 0,
            cpu_free_percent: (sequence % 100) as u8,
            memory_free_bytes: 8 << 30,
            paused: None,
        };
        lock(&changes).published.insert((id, sequence), Instant::now());
        node.publish_capacity(capacity).await;
        time::sleep(pause()).await;
    }
}

fn report(report: &mut Report, count: u64, seconds: f64, before: &Connections, after: &Connections, changes: &Changes) {
    let mut ages = changes.ages.clone();
    ages.sort_unstable();
    let made = ages.len() + changes.published.len();
    let total = |side: fn(&Carried) -> u64| {
        let grown = after.iter().map(|(number, after)| side(after) - before.get(number).map_or(0, side));
        grown.sum::<u64>() as f64 / seconds / count as f64
    };
    let at = |share: f64| ages.get(((ages.len().max(1) - 1) as f64 * share) as usize).map_or(f64::NAN, Duration::as_secs_f64);
    let (sent, received) = (total(|carried| carried.sent), total(|carried| carried.received));
    let delivered = ages.len() as f64 / made.max(1) as f64 * 100.0;
    report.say(format_args!("gossip of {count} agents in one process, {made} changes in {seconds:.0} s"));
    report.line_at_most("an agent sends", sent, "B/s", 200.0);
    report.line_at_most("an agent receives", received, "B/s", 200.0);
    let verdict = report.goal("delivered", delivered, "%", Goal::AtLeast(99.5));
    report.say(format_args!("  delivered {delivered:.2} %, target >= 99.5 %: {verdict}"));
    report.line("age at the coordinator, median", at(0.5) * 1e3, "ms");
    report.line_at_most("age there, 99th percentile", at(0.99) * 1e3, "ms", 2e3);
    report.line("age there, at most", at(1.0) * 1e3, "ms");
    report.say(format_args!("  connections counted: {}", after.len()));
}
