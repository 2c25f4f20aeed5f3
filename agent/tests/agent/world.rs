//! A network of one coordinator that does as the test says, and agents that are real processes.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use libp2p::{PeerId, identity::Keypair};
use lull_agent::clock;
use lull_mesh::{BlobSink, BlobStore, CoordinatorStream, Node, NodeConfig, NodeEvent, Receiving};
use lull_shared::{
    digest::{BlobRef, Digest, Outline, OutlineBuilder, PIECE_BYTES},
    id::{AgentId, AttemptId, JobId, TaskId, Term},
    identity::{self, Authority, Issuer, JoinToken, NetworkId, Role, Secret, Signed},
    job::{AttemptLimits, Grants},
    limits::KEEP_ALIVE,
    message::{
        Assignment, Build, Finished, Hello, JobBrief, ModuleKind, ModuleManifest, Payload, ToAgent, ToAgentFrame, ToCoordinator,
        Welcome,
    },
    policy::{Policy, Sheet},
    protocol::{EnrolmentRefusal, EnrolmentReply, EnrolmentRequest},
    state::Intake,
    time::Timestamp,
};
use tokio::{process::Command, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Long enough for a loaded machine; nothing waits for it in vain but a failing test.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work).await.unwrap_or_else(|_| panic!("{what} did not happen within {DEADLINE:?}"))
}

pub(crate) fn attempt(job: u64, index: u32) -> AttemptId {
    AttemptId { task: TaskId { job: JobId(job), index }, number: 1 }
}

/// The coordinator's side.
pub(crate) struct Network {
    issuer: Issuer,
    node: Node,
    address: String,
    pub blobs: Arc<Blobs>,
    secret: Secret,
    enrolled: u64,
    _shutdown: DropGuard,
}

impl Network {
    pub(crate) async fn start() -> Self {
        let authority = Keypair::generate_ed25519();
        let issuer = Issuer { network: NetworkId([9; 16]), authority, life: Duration::from_secs(3600) };
        let (identity, blobs, shutdown) = (Keypair::generate_ed25519(), Arc::new(Blobs::default()), CancellationToken::new());
        let certificate = issuer.issue(&identity.public().to_peer_id(), Role::Coordinator, None, "coordinator", clock::wall());
        let config = NodeConfig {
            identity,
            network: issuer.network,
            authority: Authority::of(&issuer.authority),
            certificate: Some(certificate),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
            mdns: false,
            reads_capacity: true,
            software: "test".into(),
            revoked: Default::default(),
            members: Default::default(),
            uploads: Default::default(),
        };
        let node = Node::start(config, blobs.clone(), shutdown.clone()).await.expect("a node");
        let address = node.handle.listen_addresses().await.first().expect("it listens").to_string();
        Self { issuer, node, address, blobs, secret: Secret::random(), enrolled: 0, _shutdown: shutdown.drop_guard() }
    }

    pub(crate) fn token(&self) -> String {
        self.token_at(self.address.clone())
    }

    /// A token whose coordinator is expected at another place.
    pub(crate) fn token_for(&self, place: &str) -> String {
        self.token_at(format!("{place}/p2p/{}", self.node.handle.local_peer()))
    }

    fn token_at(&self, address: String) -> String {
        let authority = Authority::of(&self.issuer.authority);
        let token = JoinToken {
            network: self.issuer.network,
            authority,
            coordinators: vec![address],
            token: 1,
            secret: self.secret.clone(),
        };
        token.to_string()
    }

    async fn enrolment(&mut self, answer: impl FnOnce(&mut Self, PeerId, EnrolmentRequest) -> EnrolmentReply) {
        loop {
            match self.node.events.recv().await.expect("the node runs") {
                NodeEvent::Enrolment { peer, request, reply } => {
                    let answer = answer(self, peer, request);
                    reply.send(answer).expect("somebody waits for it");
                    return;
                }
                _ => continue,
            }
        }
    }

    /// Enrols whoever asks next while `work` goes on.
    async fn enrolling<T>(&mut self, work: impl Future<Output = T>) -> T {
        let enrol = self.enrolment(|network, peer, request| {
            let EnrolmentRequest::Join { secret, name, .. } = request else { panic!("a machine that joins") };
            assert_eq!(secret, network.secret);
            network.enrolled += 1;
            let agent = AgentId(network.enrolled);
            let certificate = network.issuer.issue(&peer, Role::Agent, Some(agent), &name, clock::wall());
            EnrolmentReply::Enrolled { agent, name, certificate, coordinators: vec![network.address.clone()] }
        });
        within("an enrolment", async { tokio::join!(work, enrol).0 }).await
    }

    /// Refuses whoever asks next while `work` goes on.
    pub(crate) async fn refusing<T>(&mut self, work: impl Future<Output = T>) -> T {
        let refuse = self.enrolment(|_, _, _| EnrolmentReply::Refused(EnrolmentRefusal::UsedUp));
        within("a refusal", async { tokio::join!(work, refuse).0 }).await
    }

    /// The next work stream.
    pub(crate) async fn work(&mut self) -> Stream {
        let opened = async {
            loop {
                if let NodeEvent::Work { stream, .. } = self.node.events.recv().await.expect("the node runs") {
                    let sheet = Sheet { agent: AgentId(1), version: 1, policy: Policy::unrestricted() };
                    let policy = identity::sign(&self.issuer.authority, &sheet);
                    return Stream { stream, number: 0, said: Instant::now(), heard: Vec::new(), policy };
                }
            }
        };
        within("a work stream", opened).await
    }

    /// The next work stream, greeted.
    pub(crate) async fn welcomed(&mut self) -> Stream {
        let mut stream = self.work().await;
        stream.hello().await;
        stream.welcome().await;
        stream
    }

    /// The brief of a job that runs a module in text form, which the agent compiles itself.
    pub(crate) fn brief(&self, job: u64, module: &str, time_ms: u64) -> ToAgent {
        self.terms_of_bytes(job, &wat::parse_str(module).expect("a module"), time_ms)
    }

    pub(crate) fn terms_of_bytes(&self, job: u64, module: &[u8], time_ms: u64) -> ToAgent {
        let manifest = ModuleManifest {
            function: "function".into(),
            number: 1,
            kind: ModuleKind::Preview1,
            module: self.blobs.put(module),
            canonical_nans: false,
            artifacts: Vec::new(),
            migratable: None,
        };
        let signed = identity::sign(&self.issuer.authority, &manifest);
        ToAgent::Brief(Box::new(JobBrief {
            job: JobId(job),
            job_name: format!("job {job}"),
            submitter: "ana".into(),
            manifest: signed.body,
            manifest_signature: signed.signature,
            args: Vec::new(),
            env: Vec::new(),
            limits: AttemptLimits { time_ms, memory_bytes: 64 << 20, ..AttemptLimits::default() },
            exit_codes: lull_shared::codes::ExitCodes::default(),
            grants: Grants::default(),
            seed: 1,
            clock_start: Timestamp::default(),
        }))
    }
}

/// The coordinator's end of a work stream.
pub(crate) struct Stream {
    stream: CoordinatorStream,
    number: u64,
    said: Instant,
    heard: Vec<ToCoordinator>,
    /// Nobody's machine, which works at any time.
    policy: Signed,
}

impl Stream {
    pub(crate) async fn hello(&mut self) -> Hello {
        self.hear("a greeting", |message| if let ToCoordinator::Hello(hello) = message { Some(*hello) } else { None }).await
    }

    pub(crate) async fn welcome(&mut self) {
        let welcome = Welcome {
            agent: AgentId(1),
            term: Term(1),
            term_proof: None,
            heartbeat_ms: 200,
            intake: Intake::Open,
            certificate: None,
            policy: Some(self.policy.clone()),
            coordinators: Vec::new(),
            portal: None,
        };
        self.say(vec![ToAgent::Welcome(welcome)]).await;
    }

    pub(crate) async fn assign(&mut self, job: u64, index: u32, input: Payload) {
        self.say(vec![ToAgent::Assign(vec![Assignment {
            attempt: attempt(job, index),
            input,
            build: Build::Plain,
            resume: None,
        }])])
        .await;
    }

    pub(crate) async fn say(&mut self, messages: Vec<ToAgent>) {
        self.number += 1;
        self.said = Instant::now();
        self.stream.outgoing.send(&ToAgentFrame { number: self.number, messages }).await.expect("the agent listens");
    }

    /// The first message that suits; others before it are dropped.
    pub(crate) async fn hear<T>(&mut self, what: &str, suits: impl Fn(ToCoordinator) -> Option<T>) -> T {
        let found = async {
            loop {
                while !self.heard.is_empty() {
                    let message = self.heard.remove(0);
                    if let ToCoordinator::Refused { attempt, reason } = &message {
                        panic!("{attempt} was refused: {reason}");
                    }
                    if let Some(found) = suits(message) {
                        return found;
                    }
                }
                self.heard = self.stream.incoming.next().await.expect("the stream is open").expect("a frame").messages;
                if self.said.elapsed() > KEEP_ALIVE {
                    self.say(Vec::new()).await;
                }
            }
        };
        within(what, found).await
    }

    /// The next result, one of a message at a time.
    pub(crate) async fn result(&mut self) -> Finished {
        let mut results = self
            .hear("a result", |message| if let ToCoordinator::Finished(results) = message { Some(results) } else { None })
            .await;
        let first = results.remove(0);
        if !results.is_empty() {
            self.heard.insert(0, ToCoordinator::Finished(results));
        }
        first
    }
}

type Blob = (BlobRef, Outline, Vec<u8>);
type Delivered = Vec<(AttemptId, Vec<u8>)>;

/// What the coordinator has.
#[derive(Default)]
pub(crate) struct Blobs {
    held: Mutex<BTreeMap<Digest, Blob>>,
    delivered: Arc<Mutex<Delivered>>,
}

impl Blobs {
    pub(crate) fn put(&self, bytes: &[u8]) -> BlobRef {
        let mut builder = OutlineBuilder::default();
        builder.update(bytes);
        let (blob, outline) = builder.finish();
        self.held.lock().expect("no test panics in it").insert(blob.digest, (blob, outline, bytes.to_vec()));
        blob
    }

    pub(crate) fn delivered(&self) -> Delivered {
        self.delivered.lock().expect("no test panics in it").clone()
    }
}

#[async_trait]
impl BlobStore for Blobs {
    async fn outline(&self, digest: &Digest) -> Option<(BlobRef, Outline)> {
        let held = self.held.lock().expect("no test panics in it");
        held.get(digest).map(|(blob, outline, _)| (*blob, outline.clone()))
    }

    async fn read_piece(&self, digest: &Digest, index: u32) -> Option<Bytes> {
        let held = self.held.lock().expect("no test panics in it");
        let (_, _, bytes) = held.get(digest)?;
        bytes.chunks(PIECE_BYTES).nth(index as usize).map(Bytes::copy_from_slice)
    }

    async fn receive(&self, _: PeerId, attempt: AttemptId, _: BlobRef) -> Result<Receiving, String> {
        let delivered = Arc::clone(&self.delivered);
        Ok(Receiving::Wanted(Box::new(Sink { attempt, bytes: Vec::new(), delivered })))
    }
}

struct Sink {
    attempt: AttemptId,
    bytes: Vec<u8>,
    delivered: Arc<Mutex<Delivered>>,
}

#[async_trait]
impl BlobSink for Sink {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), String> {
        self.delivered.lock().expect("no test panics in it").push((self.attempt, self.bytes));
        Ok(())
    }
}

/// An agent's data folder, and the program that uses it.
pub(crate) struct Agent {
    folder: tempfile::TempDir,
}

/// What a command came to.
pub(crate) struct Output {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Output {
    pub(crate) fn expect_ok(self) -> Vec<u8> {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }
}

impl Agent {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) async fn join(network: &mut Network, arguments: &[&str]) -> Self {
        let (agent, token) = (Self::new(), network.token());
        let arguments = [&["join", &token], arguments].concat();
        network.enrolling(agent.cli(&arguments)).await.expect_ok();
        agent
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        std::fs::create_dir_all(self.data()).expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lull-agent"));
        command.args(arguments).arg("--data").arg(self.data()).stdin(Stdio::null()).kill_on_drop(true);
        for variable in ["LULL_LOG", "LULL_AGENT_CONFIG", "LULL_AGENT_SLOTS"] {
            command.env_remove(variable);
        }
        command
    }

    pub(crate) async fn cli(&self, arguments: &[&str]) -> Output {
        let output = within("an end", self.command(arguments).output()).await.expect("the program");
        Output { code: output.status.code(), stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }

    /// Starts the agent. The machine that tests run on is busy, and that is no reason to pause.
    pub(crate) fn run(&self, arguments: &[&str]) -> Running {
        let fixed = ["run", "--mdns", "false", "--cpu-pause-percent", "0", "--memory-free-min", "0", "--priority", "normal"];
        let child = self.command(&[&fixed, arguments].concat()).spawn().expect("the program");
        Running { child }
    }
}

/// An agent that runs; killed when dropped.
pub(crate) struct Running {
    child: tokio::process::Child,
}

impl Running {
    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.child.id().expect("it runs")).expect("a process's number");
        let pid = rustix::process::Pid::from_raw(pid).expect("not zero");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        within("an exit", self.child.wait()).await.expect("a status").code()
    }
}
