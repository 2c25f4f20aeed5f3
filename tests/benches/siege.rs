//! How long a job of a thousand tasks takes beside somebody who wants to hold it up.
//!
//! ```sh
//! cargo bench -p lull-tests --bench siege
//! ```
//! A coordinator and two agents, all processes; the besiegers are in this one, on the same machine, so that the processor
//! time that they take themselves is in the figures too. A stranger holds as many connections of the mesh and of the HTTP
//! interface as he gets and asks without a valid token; a member sends frames as fast as they are read; somebody who may
//! submit has 64 uploads under way that come a few bytes at a time.

mod report;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use lull_mesh::{NoBlobs, Node, NodeConfig};
use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId},
    identity::JoinToken,
    limits::ATTEMPTS_PER_AGENT_MAX,
    message::{Hello, ToCoordinator, ToCoordinatorFrame},
    protocol::{EnrolmentReply, EnrolmentRequest},
    resources::{Capacity, Machine},
};
use lull_tests::cluster::{Cluster, Programs, functions, module, text};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use report::{Manner, Report};

const PROGRAMS: Programs = Programs { lull: env!("CARGO_BIN_EXE_lull-e2e"), agent: env!("CARGO_BIN_EXE_lull-agent-e2e") };
const TASKS: u32 = 1_000;
/// How much longer than alone, at most.
const TIMES_MAX: f64 = 2.0;
/// Connections that a stranger wants of the mesh, and of the interface.
const MESH_CONNECTIONS: usize = 640;
const HTTP_CONNECTIONS: usize = 1_200;
/// Loops that ask without a valid token.
const ASKING: usize = 8;
const UPLOADS: usize = 64;
/// What a connection that was cut waits before it comes again: a besieger has little processor time for each, too.
const AGAIN: Duration = Duration::from_millis(50);

#[derive(Parser)]
struct Arguments {
    /// How often each is measured; the median counts: 5 times, and once in short.
    #[arg(long)]
    runs: Option<usize>,
    #[command(flatten)]
    manner: Manner,
}

fn main() {
    let arguments = Arguments::parse();
    let mut report = Report::new("siege", arguments.manner);
    let runs = arguments.manner.choose(arguments.runs, 5, 1);
    raise_descriptors();
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("north", 2, &[]);
    cluster.add_agent("south", 2, &[]);
    let form = fs::read_to_string(functions().join("fixtures/noop.wat")).expect("a fixture");
    let noop = module(cluster.path("").as_path(), "noop", &form);
    cluster.lull(&["func", "publish", text(&noop)]);
    run(&cluster);
    let alone = median(&cluster, runs);
    report.line("alone", alone, "s");
    for (name, siege) in
        [("a stranger's flood", stranger as fn(&Cluster) -> Siege), ("a member's flood", member), ("64 slow uploads", uploads)]
    {
        let siege = siege(&cluster);
        std::thread::sleep(Duration::from_secs(2));
        let beside = median(&cluster, runs);
        drop(siege);
        report.line(&format!("beside {name}"), beside, "s");
        report.line_at_most(&format!("times alone: {name}"), beside / alone, "", TIMES_MAX);
    }
    report.end();
}

fn run(cluster: &Cluster) -> Duration {
    let began = Instant::now();
    let job = cluster.lull(&["submit", "noop", "--array", &format!("0-{}", TASKS - 1), "-o", "id"]).out;
    cluster.lull(&["wait", job.trim(), "--timeout", "1h"]);
    began.elapsed()
}

fn median(cluster: &Cluster, runs: usize) -> f64 {
    let mut times: Vec<f64> = (0..runs.max(1)).map(|_| run(cluster).as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// What goes on until it is dropped.
struct Siege {
    runtime: Option<Runtime>,
}

impl Siege {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        Self { runtime: Some(runtime) }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().expect("it goes on").spawn(work);
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn stranger(cluster: &Cluster) -> Siege {
    let siege = Siege::new();
    let mesh = format!("127.0.0.1:{}", cluster.mesh_port("server"));
    let http = cluster.url().trim_start_matches("http://").to_owned();
    for number in 0..MESH_CONNECTIONS {
        let words: &[u8] = if number % 2 == 0 { b"" } else { b"\x13/multistream/1.0.0\n\x07/noise\n" };
        siege.spawn(hold(mesh.clone(), words));
    }
    for number in 0..HTTP_CONNECTIONS {
        let words: &[u8] = if number % 2 == 0 { b"" } else { b"GET / HTTP/1.1\r\nHost: loc" };
        siege.spawn(hold(http.clone(), words));
    }
    for _ in 0..ASKING {
        let address = http.clone();
        siege.spawn(async move {
            let request = format!(
                "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer lull_admin_{}\r\n\r\n",
                "0".repeat(32)
            );
            let mut answer = [0; 4096];
            loop {
                let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
                while stream.write_all(request.as_bytes()).await.is_ok() {
                    match stream.read(&mut answer).await {
                        Ok(read) if read > 0 => {}
                        _ => break,
                    }
                }
            }
        });
    }
    siege
}

/// Connects, says this, and waits until it is cut; again and again.
async fn hold(address: String, words: &'static [u8]) {
    let mut heard = [0; 1024];
    loop {
        if let Ok(mut stream) = TcpStream::connect(&address).await
            && stream.write_all(words).await.is_ok()
        {
            while stream.read(&mut heard).await.is_ok_and(|read| read > 0) {}
        }
        sleep(AGAIN).await;
    }
}

fn uploads(cluster: &Cluster) -> Siege {
    let siege = Siege::new();
    let http = cluster.url().trim_start_matches("http://").to_owned();
    let token = cluster.lull(&["token", "create", "--role", "submitter", "--name", "slow", "-o", "json"]).json();
    let token = token["text"].as_str().expect("a token").to_owned();
    for _ in 0..UPLOADS {
        let (address, token) = (http.clone(), token.clone());
        siege.spawn(async move {
            let head = format!(
                "PUT /api/v1/blobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 100000000\r\n\r\n"
            );
            loop {
                let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    sleep(Duration::from_millis(100)).await;
                    sent = stream.write_all(&[7; 1_000]).await;
                }
            }
        });
    }
    siege
}

fn member(cluster: &Cluster) -> Siege {
    let siege = Siege::new();
    let token: JoinToken = cluster.join_token(1).parse().expect("a token");
    siege.spawn(async move {
        let (node, agent, coordinator, _shutdown) = join(token).await;
        loop {
            let Ok(mut stream) = node.handle.open_work(coordinator).await else {
                sleep(AGAIN).await;
                continue;
            };
            let hello = ToCoordinatorFrame { messages: vec![ToCoordinator::Hello(Box::new(hello(agent)))] };
            if stream.outgoing.send(&hello).await.is_err() {
                continue;
            }
            // Of a job that nobody knows.
            let attempts: Vec<AttemptId> = (0..ATTEMPTS_PER_AGENT_MAX as u32)
                .map(|index| AttemptId { task: TaskId { job: JobId(u64::MAX), index }, number: 1 })
                .collect();
            let started = ToCoordinator::Started { attempts: attempts.clone() };
            let heartbeat = ToCoordinator::Heartbeat { frame_read: 0, holding: attempts };
            let frame = ToCoordinatorFrame { messages: vec![started, heartbeat] };
            while let Ok(Ok(())) = timeout(Duration::from_secs(30), stream.outgoing.send(&frame)).await {}
        }
    });
    siege
}

async fn join(token: JoinToken) -> (Node, AgentId, PeerId, tokio_util::sync::DropGuard) {
    let local = |address: &&String| address.contains("/127.0.0.1/tcp/");
    let address: Multiaddr = token.coordinators.iter().find(local).expect("it listens here").parse().expect("an address");
    let config = NodeConfig {
        identity: Keypair::generate_ed25519(),
        network: token.network,
        authority: token.authority,
        certificate: None,
        listen: Vec::new(),
        mdns: false,
        reads_capacity: false,
        software: "siege".into(),
        revoked: Default::default(),
        members: Default::default(),
        uploads: Default::default(),
    };
    let shutdown = CancellationToken::new();
    let request = EnrolmentRequest::Join { token: token.token, secret: token.secret, name: "siege".into() };
    let node = Node::start(config, Arc::new(NoBlobs), shutdown.clone()).await.expect("a node");
    let reply = node.handle.enrol(address.clone(), request).await.expect("an answer");
    let EnrolmentReply::Enrolled { agent, certificate, .. } = reply else { panic!("{reply:?}") };
    node.handle.set_certificate(certificate).await;
    let coordinator = node.handle.connect(address).await.expect("it is admitted");
    (node, agent, coordinator, shutdown.drop_guard())
}

fn hello(agent: AgentId) -> Hello {
    let machine = Machine { os: "linux".into(), arch: "x86_64".into(), cores: 4, memory_bytes: 16 << 30, engine: "none".into() };
    let capacity = Capacity {
        agent,
        run: 0,
        sequence: 1,
        slots: 0,
        slots_busy: 0,
        waiting: 0,
        cpu_free_percent: 100,
        memory_free_bytes: 0,
        paused: None,
    };
    Hello {
        agent_version: "0.1.0".into(),
        machine,
        labels: Default::default(),
        capacity,
        holding: Vec::new(),
        snapshots: Vec::new(),
        instance: Default::default(),
        open_cage: None,
    }
}

/// Both ends of the connections are on this machine.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("its own hard limit");
}
