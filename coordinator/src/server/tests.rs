//! Two coordinators in one process, on one store in memory, one of them behind the fault injector.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use lull_mesh::{AgentStream, NoBlobs, NodeConfig};
use lull_scheduler::event::QuarantineKind;
use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId, Term, TokenId},
    identity::{Edition, Revocations, TermProof, sign},
    message::{
        Artifact, Finished, GoodbyeReason, Hello, Instance, ModuleKind, ModuleManifest, Outcome, Payload, RecallReason, ToAgent,
        ToCoordinator, ToCoordinatorFrame,
    },
};
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::{
    api::{
        Asker, CreateProfile, CreateToken, InputsBody, PublicationBody, PublishOptions, PublishRequest, RetryRequest, SetPolicy,
        SignIn, Spread, SubmitRequest,
    },
    client::Client,
    store::{
        Leadership as _, Registry as _,
        conformance::sample,
        faulty::{Fault, Faulty},
        memory::Memory,
        record::{Enrolment, EnrolmentOutcome, NewVersion, Rise, SignManifest, TokenRole},
    },
};

/// Long enough for a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A coordinator on this folder, over a store in memory.
pub(crate) fn config(data: &Path, name: &str) -> ServerConfig {
    ServerConfig {
        data: data.to_owned(),
        init: false,
        store: StoreChoice::Memory,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        http: ([127, 0, 0, 1], 0).into(),
        announce: Vec::new(),
        http_announce: None,
        http_hosts: Vec::new(),
        web: Default::default(),
        mdns: false,
        name: name.into(),
        limits: Limits::default(),
        making: Making::default(),
        lease: Default::default(),
        store_wait: Default::default(),
    }
}

pub(super) async fn until_true(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Folders of two coordinators of one network, and its store.
pub(super) async fn site() -> ([TempDir; 2], Memory) {
    let (folders, store) = ([(); 2].map(|()| tempfile::tempdir().expect("a folder")), Memory::default());
    let [first, second] = [folders[0].path(), folders[1].path()];
    founding::keys(first, &store, false).await.expect("a new network");
    let secret = first.join("secret");
    keys::export(first, &secret).expect("exported");
    keys::import(second, &secret).expect("imported");
    (folders, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_loses_its_store_is_replaced_and_stands_by_when_it_is_back() {
    let (([north, south], memory), cut) = (site().await, Arc::new(AtomicBool::new(false)));
    let seen = cut.clone();
    let cable =
        Faulty::new(Arc::new(memory.clone()), move |_| if seen.load(Ordering::Relaxed) { Fault::Refused } else { Fault::None });
    let stop = CancellationToken::new();
    let first = start_on(Arc::new(cable), config(north.path(), "north"), stop.clone()).await.expect("it starts");
    assert_eq!(first.stands_by_for(), None, "it is alone, and leads");
    let second = start_on(Arc::new(memory), config(south.path(), "south"), stop.clone()).await.expect("it starts");
    assert_eq!(second.stands_by_for().as_deref(), Some("north"));

    let token = std::fs::read_to_string(north.path().join(ADMIN_TOKEN_FILE)).expect("a token");
    let client =
        |server: &RunningServer| Client::new(&format!("http://{}", server.http_address), Some(token.clone())).expect("one");
    let status = client(&second).status().await.expect("sent on to the leader");
    assert_eq!(status.coordinator.term, 1);

    assert!(second.phase.borrow().sends_on(), "agents are sent on while somebody leads");
    let mut phases = second.phase.clone();
    cut.store(true, Ordering::Relaxed);
    let missed = |phase: &Phase| matches!(phase, Phase::Standby(view) if view.leader.is_some() && view.in_doubt);
    let next = phases.wait_for(|phase| phase.leader().is_some() || missed(phase)).await.expect("it lives").clone();
    assert!(missed(&next), "agents are kept waiting once a renewal is missed");
    until_true("the second takes over", async || second.stands_by_for().is_none()).await;
    cut.store(false, Ordering::Relaxed);
    until_true("the first stands by", async || first.stands_by_for().as_deref() == Some("south")).await;
    assert_eq!(client(&first).status().await.expect("sent on the other way").coordinator.term, 2);
    stop.cancel();
    first.stopped().await.expect("it stops in good order");
    second.stopped().await.expect("it stops in good order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_sends_on_what_has_no_answer_body_and_what_can_be_sent_once_only() {
    let (([north, south], memory), stop) = (site().await, CancellationToken::new());
    let first = start_on(Arc::new(memory.clone()), config(north.path(), "north"), stop.clone()).await.expect("it starts");
    let second = start_on(Arc::new(memory), config(south.path(), "south"), stop.clone()).await.expect("it starts");
    assert_eq!(second.stands_by_for().as_deref(), Some("north"));
    let token = std::fs::read_to_string(north.path().join(ADMIN_TOKEN_FILE)).expect("a token");
    // Each begins without knowing who leads.
    let client = || Client::new(&format!("http://{}", second.http_address), Some(token.clone())).expect("a client");
    let bytes = vec![7; 100_000];
    let digest = lull_shared::digest::Digest::of(&bytes);
    assert!(!client().has_blob(&digest).await.expect("`HEAD` is sent on"));
    let parts = bytes.chunks(10_000).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect::<Vec<_>>();
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(parts));
    assert_eq!(client().upload(stream).await.expect("a stream is sent on").digest, digest);
    assert!(client().has_blob(&digest).await.expect("`HEAD` is sent on"));
    stop.cancel();
    first.stopped().await.expect("it stops in good order");
    second.stopped().await.expect("it stops in good order");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stops_in_good_order_is_replaced_at_once() {
    let ([north, south], memory) = site().await;
    let (stop_first, stop_second) = (CancellationToken::new(), CancellationToken::new());
    let first = start_on(Arc::new(memory.clone()), config(north.path(), "north"), stop_first.clone()).await.expect("it starts");
    let second = start_on(Arc::new(memory), config(south.path(), "south"), stop_second.clone()).await.expect("it starts");
    stop_first.cancel();
    first.stopped().await.expect("it stops in good order");
    let began = Instant::now();
    until_true("the second takes over", async || second.stands_by_for().is_none()).await;
    println!("a coordinator that stopped was replaced after {:?}", began.elapsed());
    stop_second.cancel();
    second.stopped().await.expect("it stops in good order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_token_of_an_administrator_is_worth_nothing_and_those_of_others_stay() {
    let ([north, south], memory) = site().await;
    let file = |folder: &TempDir| folder.path().join(ADMIN_TOKEN_FILE);
    let lead = async |folder: &TempDir, name: &str| {
        let stop = CancellationToken::new();
        let server = start_on(Arc::new(memory.clone()), config(folder.path(), name), stop.clone()).await.expect("it starts");
        stop.cancel();
        server.stopped().await.expect("it stops in good order");
        std::fs::read_to_string(file(folder)).expect("a token")
    };
    let valid = async |text: &str| {
        memory.authenticate(&crate::access::fingerprint(text), clock::now()).await.expect("an answer").map(|token| token.token)
    };
    let (first, other) = (lead(&north, "north").await, lead(&south, "south").await);
    assert_eq!((valid(&first).await, valid(&other).await), (Some(1), Some(2)));
    assert_eq!(lead(&north, "north").await, first, "a token that is there is kept");
    std::fs::remove_file(file(&north)).expect("lost");
    let second = lead(&north, "another name").await;
    assert_eq!((valid(&first).await, valid(&second).await, valid(&other).await), (None, Some(3), Some(2)));
    let tokens = memory.tokens().await.expect("an answer");
    assert_eq!(tokens[2].name, "admin", "there is one of that name");
    let audit = memory.audit(100).await.expect("an answer");
    assert!(audit.iter().any(|line| line.action == "token.revoke" && line.subject == "t1"), "{audit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_network_is_left_alone() {
    let (([north, _], memory), foreign) = (site().await, tempfile::tempdir().expect("a folder"));
    let stop = CancellationToken::new();
    let first = start_on(Arc::new(memory.clone()), config(north.path(), "north"), stop.clone()).await.expect("it starts");
    for own in [false, true] {
        if own {
            founding::keys(foreign.path(), &Memory::default(), false).await.expect("a network of its own");
        }
        let refused = start_on(Arc::new(memory.clone()), config(foreign.path(), "foreign"), CancellationToken::new()).await;
        let words = refused.err().expect("it is of another network").to_string();
        assert!(words.contains("lull server import"), "{words}");
    }
    stop.cancel();
    first.stopped().await.expect("it stops in good order");
}

/// One coordinator on a store in memory, and what is needed to play its agents.
struct Site {
    folder: TempDir,
    store: Memory,
    server: RunningServer,
    stop: CancellationToken,
}

impl Site {
    async fn start() -> Self {
        let (([folder, _], store), stop) = (site().await, CancellationToken::new());
        let server = start_on(Arc::new(store.clone()), config(folder.path(), "north"), stop.clone()).await.expect("it starts");
        Self { folder, store, server, stop }
    }

    fn coordinator(&self) -> Arc<crate::term::Coordinator> {
        self.server.phase.borrow().leader().expect("it leads").coordinator.clone()
    }

    fn admin_token(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(ADMIN_TOKEN_FILE)).expect("a token")
    }

    /// An administrator.
    fn client(&self) -> Client {
        let token = self.admin_token();
        Client::new(&format!("http://{}", self.server.http_address), Some(token)).expect("a client")
    }

    fn issuer(&self) -> Issuer {
        let authority = keys::key_pair(&self.folder.path().join(keys::AUTHORITY_FILE)).expect("a key");
        let network = keys::network_id(&self.folder.path().join(keys::NETWORK_FILE)).expect("readable").expect("a name");
        Issuer { network, authority, life: limits::CERTIFICATE_LIFE }
    }

    /// Machines that have joined, each with its node.
    async fn agents(&self, count: u64) -> Vec<Desk> {
        let (coordinator, issuer) = (self.coordinator(), self.issuer());
        let token = sample::token(TokenRole::Agent, 7);
        let token = self.store.create_token(&coordinator.lead, token).await.expect("an answer").expect("a token").token;
        let mut desks = Vec::new();
        for number in 0..count {
            let identity = Keypair::generate_ed25519();
            let peer = identity.public().to_peer_id();
            let enrolment = Enrolment {
                token,
                fingerprint: [7; 32],
                peer: peer.to_bytes(),
                name: format!("desk-{number}"),
                at: clock::now(),
            };
            let enrolled = self.store.enrol(&coordinator.lead, enrolment).await.expect("an answer");
            let EnrolmentOutcome::Enrolled { agent, .. } = enrolled else { panic!("not enrolled") };
            let snapshot = lull_scheduler::event::AgentSnapshot {
                agent: agent.agent,
                name: agent.name.clone(),
                group: None,
                intake: Intake::Open,
                quarantine: None,
            };
            coordinator.dispatch.event(lull_scheduler::event::Event::Enrolled { agent: snapshot }).await.expect("it leads");
            let certificate = issuer.issue(&peer, Role::Agent, Some(agent.agent), &agent.name, clock::now());
            desks.push(Desk::start(&issuer, identity, certificate, agent.agent).await);
        }
        desks
    }

    async fn address(&self) -> Multiaddr {
        self.coordinator().node.listen_addresses().await.first().expect("it listens").clone()
    }

    async fn end(self) {
        self.stop.cancel();
        self.server.stopped().await.expect("it stops in good order");
    }
}

/// A machine as the coordinator meets it.
struct Desk {
    agent: AgentId,
    node: Node,
    stop: CancellationToken,
}

impl Desk {
    async fn start(issuer: &Issuer, identity: Keypair, certificate: lull_shared::identity::Signed, agent: AgentId) -> Self {
        let config = NodeConfig {
            identity,
            network: issuer.network,
            authority: Authority::of(&issuer.authority),
            certificate: Some(certificate),
            listen: Vec::new(),
            mdns: false,
            reads_capacity: false,
            software: "a desk".into(),
            revoked: Default::default(),
            members: Default::default(),
            uploads: Default::default(),
        };
        let stop = CancellationToken::new();
        let node = Node::start(config, Arc::new(NoBlobs), stop.clone()).await.expect("a node");
        Self { agent, node, stop }
    }

    fn peer(&self) -> String {
        self.node.handle.local_peer().to_string()
    }

    /// Opens a work stream and says hello.
    async fn greet(&self, to: &Multiaddr, holding: Vec<AttemptId>, instance: Instance) -> AgentStream {
        let deadline = Instant::now() + PATIENCE;
        let mut stream = loop {
            let connected = match self.node.handle.connect(to.clone()).await {
                Ok(coordinator) => self.node.handle.open_work(coordinator).await,
                Err(error) => Err(error),
            };
            match connected {
                Ok(stream) => break stream,
                // A crowd is let in a part at a time.
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let hello = Hello {
            agent_version: env!("CARGO_PKG_VERSION").into(),
            machine: sample::machine(),
            labels: Default::default(),
            capacity: sample::capacity(self.agent.0, 2),
            holding,
            snapshots: Vec::new(),
            instance: Box::new(instance),
            open_cage: None,
        };
        let frame = ToCoordinatorFrame { messages: vec![ToCoordinator::Hello(Box::new(hello))] };
        stream.outgoing.send(&frame).await.expect("it is said");
        stream
    }
}

/// Publishes a function that does nothing, and submits a job of so many tasks of it.
async fn submitted(client: &Client, count: u32) -> JobId {
    let module = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").expect("a module");
    let module = client.upload(module).await.expect("taken").digest;
    let options = PublishOptions { migratable: lull_shared::job::Moving::Never, ..PublishOptions::default() };
    let begun = client.begin_publication("f", &PublishRequest { module, options }).await.expect("begun");
    until_true("it is published", async || {
        client.publication(begun.publication).await.is_ok_and(|publication| publication.state.is_ended())
    })
    .await;
    client.submit(&tasks(count)).await.expect("submitted").job
}

/// A job of so many tasks of that function.
fn tasks(count: u32) -> SubmitRequest {
    SubmitRequest { function: "f".into(), inputs: InputsBody::Range { first: 0, count }, ..Default::default() }
}

/// The next word that is no sign of life, or the end.
async fn word(stream: &mut AgentStream) -> Option<ToAgent> {
    loop {
        let frame = tokio::time::timeout(PATIENCE, stream.incoming.next()).await.expect("it answers in time")?;
        if let Some(message) = frame.ok()?.messages.into_iter().next() {
            return Some(message);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_agents_that_come_back_at_once_and_read_slowly_are_all_served() {
    const DESKS: u64 = 60;
    const HELD: u32 = 2_000;
    let site = Site::start().await;
    let (desks, address) = (site.agents(DESKS).await, site.address().await);
    // They come with a great deal that nobody knows of, so each is told a great deal.
    let held = |job: u64| {
        let attempt = move |index| AttemptId { task: TaskId { job: JobId(job), index }, number: 1 };
        (0..HELD).map(attempt).collect::<Vec<_>>()
    };
    for round in 0..2 {
        let streams =
            futures::future::join_all(desks.iter().map(|desk| desk.greet(&address, held(round + 1), Instance::default())));
        let mut streams = streams.await;
        // All are there, and nobody has read a word yet.
        let coordinator = site.coordinator();
        let connected = async || {
            let agents = coordinator.dispatch.query(|scheduler, _| scheduler.agents()).await.expect("it leads");
            agents.iter().filter(|agent| agent.connected.is_some()).count() as u64
        };
        until_true("all are connected", async || connected().await == DESKS).await;
        for stream in &mut streams {
            assert!(matches!(word(stream).await, Some(ToAgent::Welcome(_))), "round {round}");
            let Some(ToAgent::Recall { attempts, reason: RecallReason::Stale }) = word(stream).await else {
                panic!("it is not told what does not count any more")
            };
            assert_eq!(attempts.len(), HELD as usize);
        }
        // The streams are dropped all at once, as a cut of the network does it.
        drop(streams);
    }
    desks.iter().for_each(|desk| desk.stop.cancel());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_whose_store_is_older_than_what_agents_have_seen_goes_on_above_it() {
    let site = Site::start().await;
    let (desks, issuer) = (site.agents(1).await, site.issuer());
    let prove = |term, authority: &Keypair| {
        let term_proof = Some(sign(authority, &TermProof { network: issuer.network, term: Term(term) }));
        Instance { number: 1, machine: 1, term_proof }
    };
    let address = site.address().await;
    let own = site.coordinator().lead.term;
    let mut stream = desks[0].greet(&address, Vec::new(), prove(own.0 + 40, &Keypair::generate_ed25519())).await;
    let Some(ToAgent::Welcome(welcome)) = word(&mut stream).await else { panic!("a stranger's word counts for nothing") };
    assert_eq!(welcome.term, own);
    let held = vec![AttemptId { task: TaskId { job: JobId(4_321), index: 0 }, number: 1 }];
    let mut stream = desks[0].greet(&address, held, prove(own.0 + 40, &issuer.authority)).await;
    let first = word(&mut stream).await;
    assert!(matches!(first, None | Some(ToAgent::Goodbye { reason: GoodbyeReason::Standby { .. } })), "{first:?}");
    until_true("it leads again", async || {
        site.server.phase.borrow().leader().is_some_and(|leader| leader.coordinator.lead.term == Term(own.0 + 41))
    })
    .await;
    let mut stream = desks[0].greet(&address, Vec::new(), prove(own.0 + 40, &issuer.authority)).await;
    let Some(ToAgent::Welcome(welcome)) = word(&mut stream).await else { panic!("it is welcome in the new term") };
    assert_eq!(welcome.term, Term(own.0 + 41));
    let coordinator = site.coordinator();
    let last = coordinator.dispatch.query(|scheduler, _| scheduler.last_job()).await.expect("it leads");
    assert_eq!(last, 6_000, "numbers go on above those that the agent has, with a gap");
    let audit = site.store.audit(9).await.expect("an answer");
    assert!(audit.iter().any(|line| line.action == "term.raise" && line.detail.contains("6000")), "{audit:?}");
    assert!(audit.iter().any(|line| line.action == "term.begin" && line.by == "north"), "{audit:?}");
    desks[0].stop.cancel();
    site.end().await;
}

/// Routes by which nothing changes that anybody could see, and why.
const UNSEEN: [&str; 2] = [
    // It changes nothing.
    "post /policy/preview",
    // A blob that nothing refers to is swept; what refers to one is audited.
    "put /blobs",
];

/// The routes of the interface that may change something, as `method path`.
fn changing_routes() -> Vec<String> {
    let changing = crate::http::routes::ROUTES.iter().filter(|route| route.method != "get");
    let mut found: Vec<String> = changing.map(|route| format!("{} {}", route.method, route.path)).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_that_changes_something_leaves_a_line_in_the_audit() {
    let site = Site::start().await;
    let desks = site.agents(1).await;
    let client = site.client();
    let audited = std::cell::RefCell::new(Vec::new());
    let told = async |route: &str, action: &str, by_now: Result<(), crate::client::ClientError>| {
        by_now.unwrap_or_else(|error| panic!("{route}: {error}"));
        let lines = site.store.audit(2).await.expect("an answer");
        assert!(lines.iter().any(|line| line.action == action && line.by == "admin (t1)"), "{route}: {action} in {lines:?}");
        audited.borrow_mut().push(route.to_owned());
    };
    let wanted = CreateToken { name: Some("vera".into()), ..CreateToken::of(TokenRole::Viewer) };
    let token = client.create_token(&wanted).await;
    let number = token.as_ref().map_or(TokenId(0), |made| made.token.token);
    told("post /tokens", "token.create", token.map(drop)).await;
    told("delete /tokens/{token}", "token.revoke", client.revoke_token(number, false).await.map(drop)).await;
    let wanted = CreateProfile {
        role: TokenRole::Viewer,
        name: Some("ann".into()),
        expires_s: None,
        servers: vec!["https://north:7411".into()],
    };
    told("post /profiles", "token.create", client.create_profile(&wanted).await.map(drop)).await;

    let module = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").expect("a module");
    let module = client.upload(module).await.expect("taken").digest;
    let publish = |options| PublishRequest { module, options };
    let never = PublishOptions { migratable: lull_shared::job::Moving::Never, ..PublishOptions::default() };
    let published = async |mut publication: PublicationBody| {
        while !publication.state.is_ended() {
            let wait = Duration::from_secs(10);
            let next = client.publication_after(publication.publication, publication.revision, wait).await;
            publication = next.expect("an answer");
        }
    };
    let publication = client.begin_publication("f", &publish(never)).await.expect("begun");
    told("post /functions/{name}/publications", "publication.begin", Ok(())).await;
    published(publication).await;
    let other = PublishOptions { canonical_nans: true, ..never };
    published(client.begin_publication("f", &publish(other)).await.expect("begun")).await;
    client.promote("f", "stable", 1).await.expect("it is there");
    let promoted = client.promote("f", "stable", 2).await;
    told("post /functions/{name}/labels/{label}", "function.promote", promoted.map(drop)).await;
    let rolled_back = client.roll_back("f", "stable").await;
    told("post /functions/{name}/labels/{label}/rollback", "function.rollback", rolled_back.map(drop)).await;
    let second = client.begin_publication("g", &publish(PublishOptions::default())).await.expect("begun");
    let cancelled = client.cancel_publication(second.publication).await.expect("an answer");
    assert_eq!(cancelled.affected, 1, "it had only just begun");
    told("delete /publications/{publication}", "publication.cancel", Ok(())).await;

    let job = client.submit(&tasks(1)).await;
    let number = job.as_ref().map_or(JobId(0), |job| job.job);
    told("post /jobs", "job.submit", job.map(drop)).await;
    told("post /jobs/{job}/cancel", "job.cancel", client.cancel(number).await.map(drop)).await;
    told("post /jobs/{job}/retry", "job.retry", client.retry(number, &RetryRequest::default()).await.map(drop)).await;
    told("delete /functions/{name}", "function.remove", client.remove_function("f", None).await.map(drop)).await;

    let intake = client.set_intake("desk-0", lull_shared::state::Intake::Cordoned).await;
    told("post /agents/{agent}/intake", "agent.cordon", intake.map(drop)).await;
    let address = site.address().await;
    for number in [1, 2, 1, 2] {
        let instance = Instance { number, machine: 5 << 32, term_proof: None };
        let mut stream = desks[0].greet(&address, Vec::new(), instance).await;
        word(&mut stream).await;
    }
    told("post /agents/{agent}/trust", "agent.trust", client.trust("desk-0").await.map(drop)).await;
    let set = lull_shared::policy::Changes::from_pairs(&["idle=6m"]).expect("changes");
    let policy = client.set_policy(&SetPolicy { conditions: Vec::new(), set, reset: Vec::new() }).await;
    told("put /policy", "policy.set", policy.map(drop)).await;
    let package = client.upload(b"a package".to_vec()).await.expect("taken").digest;
    let wanted = serde_json::json!({ "package": package, "platform": "deb_amd64", "version": "9.9.9" });
    let wanted = serde_json::from_value(wanted).expect("a rollout");
    told("post /upgrades", "rollout.begin", client.begin_upgrade(&wanted).await.map(drop)).await;
    told("post /upgrades/stop", "rollout.stop", client.stop_upgrades().await.map(drop)).await;
    told("post /upgrades/resume", "rollout.resume", client.resume_upgrades().await.map(drop)).await;
    client.set_intake("desk-0", lull_shared::state::Intake::Revoked).await.expect("thrown out");
    told("post /agents/{agent}/restore", "agent.restore", client.restore("desk-0").await.map(drop)).await;
    let refused = client.remove_agent("desk-0").await.expect_err("it belongs to the network").to_string();
    assert!(refused.contains("belongs to the network"), "{refused}");
    client.set_intake("desk-0", lull_shared::state::Intake::Revoked).await.expect("thrown out");
    told("delete /agents/{agent}", "agent.remove", client.remove_agent("desk-0").await.map(drop)).await;
    assert_eq!(client.agents().await.expect("an answer").items, [], "it is off the list");

    // Somebody with a browser, which shows its cookie alone.
    let http = reqwest::Client::new();
    let url = |path: &str| format!("{}/api/v1{path}", client.base());
    let sign_in = async || {
        let wanted = SignIn { token: site.admin_token() };
        let answer = http.post(url("/session")).json(&wanted).send().await.expect("an answer");
        let cookie = answer.headers()["set-cookie"].to_str().expect("text").split(';').next().unwrap_or_default().to_owned();
        (cookie, answer.json::<Asker>().await.expect("who asks").session.expect("a session"))
    };
    let done = async |request: reqwest::RequestBuilder| {
        let answer = request.header("sec-fetch-site", "same-origin").send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
    };
    let (_, session) = sign_in().await;
    let (cookie, _) = sign_in().await;
    done(http.delete(url(&format!("/sessions/{session}"))).header("cookie", &cookie)).await;
    told("delete /sessions/{session}", "session.end", Ok(())).await;
    sign_in().await;
    done(http.delete(url("/session")).header("cookie", &cookie)).await;
    told("delete /session", "session.end", Ok(())).await;

    let mut known: Vec<String> = audited.into_inner().into_iter().chain(UNSEEN.map(str::to_owned)).collect();
    known.sort();
    assert_eq!(changing_routes(), known, "a route that changes something must be audited, and be tried here");
    desks[0].stop.cancel();
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_breaks_the_protocol_costs_the_agent_its_attempt_and_the_task_nothing() {
    let site = Site::start().await;
    let (desks, address, client) = (site.agents(1).await, site.address().await, site.client());
    let job = submitted(&client, 1).await;
    let mut stream = desks[0].greet(&address, Vec::new(), Instance::default()).await;
    let given = loop {
        if let Some(ToAgent::Assign(given)) = word(&mut stream).await {
            break given[0].attempt;
        }
    };
    let outcome = Outcome::Succeeded { output: Payload::inline(vec![0; limits::INLINE_BYTES_MAX + 1]) };
    let result = Finished { attempt: given, outcome, log: Default::default(), log_dropped_bytes: 0, usage: Default::default() };
    let frame = ToCoordinatorFrame { messages: vec![ToCoordinator::Finished(vec![result])] };
    stream.outgoing.send(&frame).await.expect("it is said");
    let acknowledged = loop {
        match word(&mut stream).await {
            Some(ToAgent::Acknowledge { attempts }) => break attempts,
            Some(_) => {}
            None => panic!("it is not told that it need not say that again"),
        }
    };
    assert_eq!(acknowledged, [given]);
    let task = TaskId { job, index: 0 };
    until_true("the attempt is over", async || {
        let details = client.task(task).await.expect("an answer");
        details.history.first().is_some_and(|attempt| attempt.end == Some(lull_shared::state::AttemptEnd::Evicted))
    })
    .await;
    let details = client.task(task).await.expect("an answer");
    assert_eq!(details.task.failures, 0, "{details:?}");
    let reason = details.history[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("it broke the protocol: an inline output of 65537 bytes"), "{reason}");
    let audit = site.store.audit(1).await.expect("an answer");
    assert!(audit[0].action == "agent.breach" && audit[0].detail.starts_with("1 attempt was taken"), "{audit:?}");
    desks[0].stop.cancel();
    site.end().await;
}

/// A version as a coordinator made it that had another engine.
#[derive(Debug)]
struct Older(Keypair, ModuleManifest);

impl SignManifest for Older {
    fn sign(&self, number: u32) -> lull_shared::identity::Signed {
        sign(&self.0, &ModuleManifest { number, ..self.1.clone() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_was_published_before_the_engine_was_upgraded_is_compiled_anew() {
    let (site, function) = (Site::start().await, "f".to_owned());
    let (client, lead) = (site.client(), site.coordinator().lead.clone());
    let module = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").expect("a module");
    let blob = lull_shared::digest::BlobRef::of(&module);
    let digest = client.upload(module).await.expect("taken").digest;
    let (kind, artifacts) = (ModuleKind::Preview1, vec![Artifact { engine: "an older engine".into(), blob }]);
    let manifest = ModuleManifest {
        function: function.clone(),
        number: 0,
        kind,
        module: blob,
        canonical_nans: false,
        artifacts,
        migratable: None,
    };
    let older = NewVersion {
        function,
        kind,
        module: blob,
        canonical_nans: false,
        beyond: 0,
        sign: Arc::new(Older(site.issuer().authority, manifest)),
        interface: Vec::new(),
        by: "ann".into(),
        at: clock::now(),
    };
    site.store.publish(&lead, older).await.expect("published");
    let options = PublishOptions { migratable: lull_shared::job::Moving::Never, ..PublishOptions::default() };
    let publish = async || {
        let wanted = PublishRequest { module: digest, options };
        let begun = client.begin_publication("f", &wanted).await.expect("begun").publication;
        until_true("it ends", async || client.publication(begun).await.is_ok_and(|now| now.state.is_ended())).await;
        let ended = client.publication(begun).await.expect("an answer");
        let published = ended.published.unwrap_or_else(|| panic!("{:?}", ended.error));
        (published.function.called(), published.function.artifacts, published.existing)
    };
    let (called, artifacts, existing) = publish().await;
    assert_eq!((called.as_str(), existing, artifacts.len()), ("f@2", false, 2), "{artifacts:?}");
    assert_eq!(artifacts[1].engine, "an older engine", "agents that are still to be upgraded go on with it");
    assert_eq!(publish().await, (called, artifacts, true), "nothing is missing any more");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_with_one_identity_are_both_told_and_shown() {
    let site = Site::start().await;
    let (desks, address) = (site.agents(1).await, site.address().await);
    let instance = |number| Instance { number, machine: 5 << 32, term_proof: None };
    let mut last = None;
    for number in [1, 2, 1, 2] {
        let mut stream = desks[0].greet(&address, Vec::new(), instance(number)).await;
        last = word(&mut stream).await;
    }
    assert_eq!(last, Some(ToAgent::Goodbye { reason: GoodbyeReason::Cloned }));
    let client = site.client();
    let agents = client.agents().await.expect("an answer").items;
    assert_eq!(agents[0].quarantine.as_ref().expect("it is found").kind, QuarantineKind::Cloned);
    let findings = client.doctor().await.expect("an answer").items;
    assert!(findings.iter().any(|finding| finding.check == "agent desk-0" && finding.message.contains("/ip4/127.0.0.1")));
    let audit = site.store.audit(1).await.expect("an answer");
    assert!(
        audit[0].action == "agent.quarantine" && audit[0].detail.contains("two programs take turns with its identity"),
        "{audit:?}"
    );
    desks[0].stop.cancel();
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_leaves_is_listed_so_at_once_and_until_it_is_removed() {
    let site = Site::start().await;
    let (desks, address) = (site.agents(1).await, site.address().await);
    let mut stream = desks[0].greet(&address, Vec::new(), Instance::default()).await;
    assert!(matches!(word(&mut stream).await, Some(ToAgent::Welcome(_))));
    let messages = vec![ToCoordinator::Leaves, ToCoordinator::Leaves, ToCoordinator::Farewell];
    stream.outgoing.send(&ToCoordinatorFrame { messages }).await.expect("it is said");
    let client = site.client();
    let is_gone = async || {
        let agent = client.agent("desk-0").await.expect("an answer");
        agent.left.is_some() && agent.connected.is_none()
    };
    until_true("it is noted", is_gone).await;
    let gone = client.agent("desk-0").await.expect("an answer");
    assert_eq!((gone.silent_since, gone.removed), (None, None), "it took its leave");
    let deed = client.remove_agent("desk-0").await.expect("it is removed");
    assert_eq!((deed.agent, deed.affected), (desks[0].agent, 1));
    assert_eq!(client.agents().await.expect("an answer").items, []);
    assert!(client.agent("desk-0").await.is_err(), "nobody is called so any more");
    let removed = client.agent(&desks[0].agent.to_string()).await.expect("it is still known by its id");
    assert_eq!((removed.name.as_str(), removed.removed.is_some()), ("desk-0", true));
    let lines = site.store.audit(10).await.expect("an answer");
    let told =
        lines.iter().rev().map(|line| (line.action.as_str(), line.by.as_str())).filter(|(what, _)| what.starts_with("agent."));
    let told: Vec<_> = told.skip_while(|(what, _)| *what != "agent.leave").collect();
    assert_eq!(told, [("agent.leave", "desk-0"), ("agent.revoke", "admin (t1)"), ("agent.remove", "admin (t1)")], "once each");
    desks[0].stop.cancel();
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_holds_whatever_clocks_show_and_says_who_has_heard() {
    let site = Site::start().await;
    let (desks, address) = (site.agents(3).await, site.address().await);
    let mut streams = Vec::new();
    for desk in &desks {
        let mut stream = desk.greet(&address, Vec::new(), Instance::default()).await;
        assert!(matches!(word(&mut stream).await, Some(ToAgent::Welcome(_))));
        streams.push(stream);
    }
    let client = site.client();
    let deed = client.set_intake("desk-0", Intake::Revoked).await.expect("it is revoked");
    assert_eq!((deed.agent, deed.name.as_str()), (desks[0].agent, "desk-0"));
    // The two desks that stay.
    assert_eq!((deed.spread, deed.unchanged), (Some(Spread { heard: 2, unheard: 0 }), false));
    let lines = site.store.audit(1_000).await.expect("an answer").len();
    let deed_again = client.set_intake("desk-0", Intake::Revoked).await.expect("it is revoked already");
    assert_eq!((deed_again.unchanged, deed_again.spread), (true, Some(Spread { heard: 2, unheard: 0 })));
    assert_eq!(site.store.audit(1_000).await.expect("an answer").len(), lines, "nothing is written again");
    assert_eq!(site.store.revocations().await.expect("an answer").counter, 1);
    assert_eq!(deed.token, Some(TokenId(2)), "the roll-out token admits more");
    let cut = async || site.coordinator().node.peers().await.iter().all(|peer| peer.peer != desks[0].peer());
    until_true("it is cut", cut).await;
    assert!(desks[0].node.handle.connect(address.clone()).await.is_err());
    let counted = site.store.revocations().await.expect("an answer");
    assert_eq!((counted.counter, counted.peers.len()), (1, 1), "its order is a count in the store");
    let again = client.set_intake("desk-0", Intake::Open).await;
    assert!(again.is_err(), "only a restoration lets it in again");
    let deed = client.restore("desk-0").await.expect("it is restored");
    assert_eq!((deed.affected, deed.spread.map(|spread| spread.heard)), (1, Some(2)));
    let mut stream = desks[0].greet(&address, Vec::new(), Instance::default()).await;
    assert!(matches!(word(&mut stream).await, Some(ToAgent::Welcome(_))));
    let audit: Vec<_> = site.store.audit(9).await.expect("an answer").into_iter().map(|line| line.action).collect();
    assert!(audit.contains(&"agent.revoke".to_owned()) && audit.contains(&"agent.restore".to_owned()), "{audit:?}");
    desks.iter().for_each(|desk| desk.stop.cancel());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_thrown_out_in_a_time_that_the_store_has_forgotten_stays_out() {
    let site = Site::start().await;
    let (desks, issuer) = (site.agents(2).await, site.issuer());
    let own = site.coordinator().lead.term;
    // A list of a term of this number, and of a later one, by another life of this network.
    for (term, counter) in [(own.0, 0), (own.0 + 40, 7)] {
        // It may step down for a moment as soon as the list is there.
        let address = site.address().await;
        let edition = Edition { term: Term(term), counter, draw: u64::MAX };
        let list = Revocations { edition, peers: vec![desks[0].node.handle.local_peer().to_bytes()] };
        desks[1].node.handle.publish_revocations(sign(&issuer.authority, &list)).await;
        let _stream = desks[1].greet(&address, Vec::new(), Instance::default()).await;
        until_true("it goes on above that", async || {
            site.server.phase.borrow().leader().is_some_and(|leader| leader.coordinator.lead.term > Term(term))
        })
        .await;
        until_true("it is out", async || {
            let agents = site.store.agents().await.expect("an answer");
            agents[0].intake == Intake::Revoked && agents[1].intake == Intake::Open
        })
        .await;
    }
    // And it can be restored: this store's list is the newest now.
    site.client().restore("desk-0").await.expect("it is restored");
    until_true("it may come back", async || desks[0].node.handle.connect(site.address().await).await.is_ok()).await;
    desks.iter().for_each(|desk| desk.stop.cancel());
    site.end().await;
}

/// Does what it is given until the job has ended, and comes back when its stream ends. `holding` is what it has not told yet.
async fn work_off(site: &Site, desk: &Desk, job: JobId, mut holding: Vec<AttemptId>) {
    let (client, address) = (site.client(), site.address().await);
    let ended = async || client.job(job).await.is_ok_and(|details| details.job.state.is_ended());
    let deadline = Instant::now() + PATIENCE;
    while !ended().await {
        assert!(Instant::now() < deadline, "the job does not end: {:?}", client.job(job).await);
        let mut stream = desk.greet(&address, holding.clone(), Instance::default()).await;
        let heartbeat = ToCoordinator::Heartbeat { frame_read: 0, holding: holding.clone() };
        let mut say = vec![heartbeat, ToCoordinator::Finished(holding.iter().map(|attempt| done(*attempt)).collect())];
        loop {
            if !say.is_empty() && stream.outgoing.send(&ToCoordinatorFrame { messages: std::mem::take(&mut say) }).await.is_err()
            {
                break;
            }
            let frame = tokio::time::timeout(Duration::from_millis(200), stream.incoming.next()).await;
            let messages = match frame {
                Err(_) if ended().await => return,
                Err(_) => continue,
                Ok(Some(Ok(frame))) => frame.messages,
                Ok(_) => break,
            };
            for message in messages {
                match message {
                    ToAgent::Assign(given) => {
                        holding.extend(given.iter().map(|given| given.attempt));
                        say.push(ToCoordinator::Finished(given.iter().map(|given| done(given.attempt)).collect()));
                    }
                    ToAgent::Acknowledge { attempts } => holding.retain(|attempt| !attempts.contains(attempt)),
                    _ => {}
                }
            }
        }
    }
}

fn done(attempt: AttemptId) -> Finished {
    let outcome = Outcome::Succeeded { output: Payload::inline(attempt.task.index.to_string().into_bytes()) };
    Finished { attempt, outcome, log: Default::default(), log_dropped_bytes: 0, usage: Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_put_back_under_a_leader_loses_no_task_and_counts_none_twice() {
    let site = Site::start().await;
    let (desks, address, client) = (site.agents(1).await, site.address().await, site.client());
    let job = submitted(&client, 6).await;
    let mut stream = desks[0].greet(&address, Vec::new(), Instance::default()).await;
    let mut given = Vec::new();
    while given.len() < 2 {
        if let Some(ToAgent::Assign(attempts)) = word(&mut stream).await {
            given.extend(attempts.into_iter().map(|given| given.attempt));
        }
    }
    let (backup, term) = (site.store.copy(), site.coordinator().lead.term);
    // One result is acknowledged and then forgotten; a job that was submitted since is forgotten too.
    let frame = ToCoordinatorFrame { messages: vec![ToCoordinator::Finished(vec![done(given[0])])] };
    stream.outgoing.send(&frame).await.expect("it is said");
    loop {
        match word(&mut stream).await {
            Some(ToAgent::Acknowledge { attempts }) if attempts == [given[0]] => break,
            Some(_) => {}
            None => panic!("its result is not taken"),
        }
    }
    let forgotten = client.submit(&tasks(6)).await.expect("submitted").job.0;
    site.store.go_back_to(&backup);

    work_off(&site, &desks[0], job, given[1..].to_vec()).await;
    let details = client.job(job).await.expect("an answer").job;
    assert_eq!((details.state, details.counts.succeeded), (lull_shared::state::JobState::Succeeded, 6), "{details:?}");
    let results = client.results(job, 0, 100).await.expect("an answer").items;
    assert_eq!(results.len(), 6, "each once");
    assert!(site.coordinator().lead.term > term);
    let status = client.status().await.expect("an answer");
    let loss = status.store_loss.expect("it is said");
    assert!(loss.message.contains("has forgotten") && !loss.hint.is_empty(), "{loss:?}");
    let leader = client.coordinators().await.expect("an answer").items.into_iter().find(|one| one.store_loss.is_some());
    assert_eq!(leader.expect("`lull server status` says so").post, crate::api::Post::Leader);
    let audit = site.store.audit(50).await.expect("an answer");
    assert!(audit.iter().any(|line| line.action == "store.loss"), "{audit:?}");
    let next = client.submit(&tasks(6)).await.expect("submitted").job.0;
    assert!(next > forgotten, "the number of a forgotten job is not given again");
    desks[0].stop.cancel();
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_whose_store_was_put_back_leads_above_every_term_that_it_led_in() {
    let site = Site::start().await;
    let (backup, first) = (site.store.copy(), site.coordinator().lead.clone());
    let rise = Rise { above: Term(7), last_job: 0, by: "another".into(), at: clock::now() };
    site.store.raise(&first, &rise).await.expect("memory answers");
    let term = || site.server.phase.borrow().leader().map_or(Term(0), |leader| leader.coordinator.lead.term);
    until_true("it leads again", async || term() > Term(7)).await;
    let led = term();
    site.store.go_back_to(&backup);
    until_true("it leads in another term", async || ![Term(0), led].contains(&term())).await;
    assert!(term() > led, "{:?} after {led:?}", term());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_contradicts_the_store_is_decided_again_and_not_repeated() {
    let (([north, _], memory), stop) = (site().await, CancellationToken::new());
    let contradicts = Arc::new(AtomicBool::new(false));
    let now = contradicts.clone();
    let store = Faulty::new(Arc::new(memory.clone()), move |method| match method {
        "commit" if now.swap(false, Ordering::Relaxed) => Fault::Contradicted,
        _ => Fault::None,
    });
    let server = start_on(Arc::new(store), config(north.path(), "north"), stop.clone()).await.expect("it starts");
    let coordinator = server.phase.borrow().leader().expect("it leads").coordinator.clone();
    let cancel = |request| lull_scheduler::event::Event::Cancel { request, job: JobId(1), by: "ann".into() };
    contradicts.store(true, Ordering::Relaxed);
    let agent = lull_scheduler::event::AgentSnapshot {
        agent: AgentId(1),
        name: "desk".into(),
        group: None,
        intake: Intake::Open,
        quarantine: None,
    };
    // Somebody wants a change; what comes of it is not known to whoever asked, and the term goes on.
    coordinator.dispatch.event(lull_scheduler::event::Event::Enrolled { agent }).await.expect("it leads");
    let cordon = |request| lull_scheduler::event::Event::SetIntake {
        request,
        agent: AgentId(1),
        intake: Intake::Cordoned,
        by: "root".into(),
    };
    assert!(coordinator.dispatch.request(cordon).await.is_err(), "it is not repeated");
    let answer = coordinator.dispatch.request(cancel).await.expect("it is loaded again");
    assert!(matches!(answer, lull_scheduler::effect::Reply::Refused(_)), "{answer:?}");
    assert_eq!(server.phase.borrow().leader().expect("it leads").coordinator.lead.term, Term(1));
    stop.cancel();
    server.stopped().await.expect("it stops in good order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_revoked_is_not_remembered_for_when_the_store_does_not_answer() {
    let site = Site::start().await;
    let made = site.client().create_token(&CreateToken::of(TokenRole::Viewer)).await.expect("a token");
    let viewer = Client::new(&format!("http://{}", site.server.http_address), Some(made.text.clone())).expect("a client");
    viewer.status().await.expect("it may look");
    let fingerprint = crate::access::fingerprint(&made.text);
    let remembered = || site.coordinator().callers.recall(&fingerprint, crate::clock::now()).is_some();
    assert!(remembered());
    site.client().revoke_token(made.token.token, false).await.expect("revoked");
    assert!(!remembered());
    site.end().await;
}

#[test]
fn whoever_was_thrown_out_before_the_start_is_known_as_such_and_all_others_as_members() {
    let [ann, bob] = [PeerId::random(), PeerId::random()];
    let agent = |number, peer: PeerId, intake| AgentRecord { peer: peer.to_bytes(), intake, ..sample::agent(number, "desk") };
    let damaged = AgentRecord { peer: vec![1], ..sample::agent(3, "damaged") };
    let agents = [agent(1, ann, Intake::Revoked), agent(2, bob, Intake::Cordoned), damaged];
    assert_eq!(standings(&agents), ([ann].into(), [bob].into()));
}
