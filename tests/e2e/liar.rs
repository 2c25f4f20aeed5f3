//! An agent that was let in and lies: it gains nothing, costs little, and is seen to do it.
//!
//! The liar is a node of the real mesh in this process, with a certificate of its own, against a coordinator and an
//! honest agent that are processes.

use std::{collections::BTreeMap, fs, future::Future, path::PathBuf, sync::Arc};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use lull_mesh::{AgentStream, NoBlobs, Node, NodeConfig};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId, JobId, TaskId},
    identity::JoinToken,
    limits::{ATTEMPTS_PER_AGENT_MAX, DELIVERIES_PER_ATTEMPT_MAX, FRAME_BYTES_MAX, INLINE_BYTES_MAX, SLOTS_PER_AGENT_MAX},
    message::*,
    protocol::{DeliveryReply, EnrolmentReply, EnrolmentRequest},
    resources::{Capacity, Labels, Machine},
    state::{PauseReason, Usage},
};
use lull_tests::{
    cluster::{Cluster, PATIENCE, functions, module, text},
    processes::memory,
};
use serde_json::Value;
use tokio::{runtime::Runtime, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::PROGRAMS;

/// Tasks of the job that is lied about, and how long each computes.
const TASKS: u32 = 8;
const ROUNDS: u32 = 60;

#[test]
fn a_liar_cannot_touch_what_others_hold_nor_say_anything_twice() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 2, &[]);
    publish(&cluster, "busy");
    let truth = outputs(&cluster, &submit_busy(&cluster));
    let mut liar = Liar::join(&cluster, &[]);
    liar.greet(Vec::new());
    let job = submit_busy(&cluster);
    let own = liar.assigned(2);
    let id: JobId = job.parse().expect("a job");
    let others: Vec<AttemptId> = (0..TASKS).map(|index| attempt(id, index, 1)).filter(|other| !own.contains(other)).collect();

    liar.say(ToCoordinator::Started { attempts: others.clone() });
    for other in &others {
        liar.say(ToCoordinator::Paused { attempt: *other, reason: Some(PauseReason::Owner { until: None }) });
        liar.say(ToCoordinator::Refused { attempt: *other, reason: RefuseReason::Full });
    }
    liar.say(ToCoordinator::Finished(others.iter().map(|other| succeeded(*other, b"a lie")).collect()));
    liar.say(ToCoordinator::Released { attempts: others.clone(), reason: ReleaseReason::Stopping });
    let everything = own.iter().chain(&others).copied().collect();
    liar.say(ToCoordinator::Heartbeat { frame_read: 1, holding: everything });

    // One of its own attempts it finishes as it should, and then again with other bytes, also on a stream that is old.
    let first = own[0];
    let right = truth[&first.task.index].clone();
    liar.say(ToCoordinator::Finished(vec![succeeded(first, right.as_bytes())]));
    liar.acknowledged(first);
    liar.say(ToCoordinator::Finished(vec![succeeded(first, b"another truth")]));
    liar.say(ToCoordinator::Heartbeat { frame_read: u64::MAX, holding: own[1..].to_vec() });
    liar.say(ToCoordinator::Finished(vec![succeeded(first, b"a third truth")]));
    let mut old = liar.stream.take().expect("it is open");
    liar.greet(own[1..].to_vec());
    let replay = ToCoordinatorFrame { messages: vec![ToCoordinator::Finished(vec![succeeded(first, b"from the past")])] };
    liar.wait(async {
        // The coordinator may have closed it already.
        let _ = old.outgoing.send(&replay).await;
        while let Some(Ok(frame)) = old.incoming.next().await {
            let superseded = ToAgent::Goodbye { reason: GoodbyeReason::Superseded };
            if frame.messages.contains(&superseded) {
                break;
            }
        }
    });
    // In the name of another agent it says something once.
    liar.say(ToCoordinator::Capacity(capacity(AgentId(1), SLOTS_PER_AGENT_MAX)));
    let goodbye = liar.goodbye();
    assert!(matches!(&goodbye, Some(GoodbyeReason::Protocol(what)) if what.contains("a1")), "{goodbye:?}");

    assert_eq!(outputs(&cluster, &job), truth, "every result once, with the right bytes");
    let seen = cluster.lull(&["agent", "show", "liar", "-o", "json"]).json();
    assert!(seen["claims_refused"].as_u64() >= Some(5 * others.len() as u64), "{seen}");
    assert_eq!(seen["breaches"], 1, "{seen}");
    let seen = cluster.lull(&["agent", "show", "liar"]).out;
    assert!(seen.contains("words about attempts that it did not hold") && seen.contains("breaches of the protocol"), "{seen}");
    let desk = cluster.lull(&["agent", "show", "desk", "-o", "json"]).json();
    assert_eq!((&desk["breaches"], &desk["capacity"]["slots"]), (&0.into(), &2.into()), "{desk}");
    no_panic(&cluster);
}

#[test]
fn garbage_and_floods_cost_the_liar_its_stream_and_the_coordinator_little() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 2, &[]);
    publish(&cluster, "busy");
    let truth = outputs(&cluster, &submit_busy(&cluster));
    let mut liar = Liar::join(&cluster, &[]);
    let coordinator = cluster.pids()[0].1;
    let before = memory(coordinator).resident_bytes;

    let hello = |liar: &Liar, change: &dyn Fn(&mut Hello)| {
        let mut hello = liar.hello(Vec::new());
        change(&mut hello);
        lull_shared::codec::encode_frame(&ToCoordinatorFrame { messages: vec![ToCoordinator::Hello(Box::new(hello))] })
    };
    let none = AttemptId { task: TaskId { job: JobId(9), index: 9 }, number: 9 };
    let too_many = vec![none; ATTEMPTS_PER_AGENT_MAX + 1];
    let first_words: Vec<Vec<u8>> = vec![
        (FRAME_BYTES_MAX as u32 + 1).to_le_bytes().to_vec(),
        u32::MAX.to_le_bytes().to_vec(),
        [&9_u32.to_le_bytes()[..], &[1, 255, 255, 255, 255, 255, 255, 255, 255]].concat(),
        0_u32.to_le_bytes().to_vec(),
        lull_shared::codec::encode_frame(&ToCoordinatorFrame { messages: vec![ToCoordinator::Farewell] }),
        lull_shared::codec::encode_frame(&ToCoordinatorFrame { messages: Vec::new() }),
        hello(&liar, &|hello| hello.capacity.agent = AgentId(1)),
        hello(&liar, &|hello| hello.capacity.slots = SLOTS_PER_AGENT_MAX + 1),
        hello(&liar, &|hello| hello.holding = too_many.clone()),
        hello(&liar, &|hello| hello.labels = (0..100).map(|label| (format!("l{label}"), "x".to_owned())).collect()),
        hello(&liar, &|hello| hello.machine.os = "x".repeat(100_000)),
    ];
    let after_hello = [
        ToCoordinator::Hello(Box::new(liar.hello(Vec::new()))),
        ToCoordinator::Heartbeat { frame_read: 0, holding: too_many.clone() },
        ToCoordinator::Started { attempts: too_many.clone() },
        ToCoordinator::Finished(vec![succeeded(none, &vec![0; INLINE_BYTES_MAX + 1])]),
        ToCoordinator::Finished(vec![Finished {
            outcome: Outcome::Succeeded { output: Payload::Blob(BlobRef::of(b"never delivered")) },
            ..succeeded(none, b"")
        }]),
        ToCoordinator::Finished(vec![Finished { log: vec![0; 1 << 20].into(), ..succeeded(none, b"") }]),
    ];
    let breaches = (first_words.len() + after_hello.len() + 1) as u64;
    for words in first_words {
        liar.open();
        liar.raw(&words);
        liar.ends();
    }
    for word in after_hello {
        liar.greet(Vec::new());
        liar.say(word);
        liar.ends();
    }
    liar.greet(Vec::new());
    liar.raw(&[0xff; 64]);
    liar.ends();
    lull_tests::cluster::wait_until(
        "every breach is counted",
        || cluster.lull(&["agent", "show", "liar", "-o", "json"]).json()["breaches"] == breaches,
        || cluster.lull(&["agent", "show", "liar", "-o", "json"]).out,
    );

    // Frames as large as they may be, and as many words as a stream takes before it is cut.
    liar.greet(Vec::new());
    let large: Vec<Finished> = (0..60).map(|_| succeeded(none, &vec![7; INLINE_BYTES_MAX])).collect();
    let frames = [
        ToCoordinatorFrame { messages: vec![ToCoordinator::Finished(large)] },
        ToCoordinatorFrame { messages: vec![ToCoordinator::Capacity(capacity(liar.agent, 2)); 4_000] },
        ToCoordinatorFrame { messages: vec![ToCoordinator::Heartbeat { frame_read: 0, holding: vec![none; 4_000] }; 50] },
    ];
    for round in 0..60 {
        if !liar.try_send(&frames[round % frames.len()]) {
            liar.greet(Vec::new());
        }
    }
    assert_eq!(outputs(&cluster, &submit_busy(&cluster)), truth, "the honest agent's work goes on");
    let grown = memory(coordinator).resident_bytes.saturating_sub(before);
    println!("the coordinator grew by {} KiB", grown >> 10);
    assert!(grown < 512 << 20, "the coordinator grew by {grown} bytes");
    no_panic(&cluster);
}

#[test]
fn a_liar_can_bring_only_outputs_of_its_own_attempts_and_a_revoked_one_nothing() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    publish(&cluster, "echo");
    let mut liar = Liar::join(&cluster, &[("bait", "yes")]);
    liar.greet(Vec::new());
    let bait = ["submit", "echo", "--array", "0-0", "--require", "bait=yes", "--output-limit", "1MiB", "-o", "id"];
    let job = cluster.lull(&bait).out.trim().to_owned();
    let own = liar.assigned(1)[0];
    let folder = cluster.path("");
    let output = |name: &str, size: usize| {
        let bytes: Vec<u8> = name.bytes().cycle().take(size).collect();
        let path = folder.join(name);
        fs::write(&path, &bytes).expect("written");
        (BlobRef::of(&bytes), path)
    };
    let (right, path) = output("right", 200_000);
    let (large, large_path) = output("large", (1 << 20) + 1);
    let another = AttemptId { number: own.number + 1, ..own };
    let theirs = attempt(JobId(9), 0, 1);
    let (other, other_path) = output("other", 200_000);
    let wrong = BlobRef { digest: Digest::of(b"something else"), ..other };
    for (attempt, blob, path, why) in [
        (theirs, right, &path, "not with this machine"),
        (another, right, &path, "not with this machine"),
        (own, large, &large_path, "at most 1048576"),
        (own, wrong, &other_path, "the bytes are"),
    ] {
        let reply = liar.deliver(attempt, blob, path.clone());
        assert!(matches!(&reply, DeliveryReply::Refused { reason } if reason.contains(why)), "{reply:?}, not {why}");
    }
    // The one with the wrong digest was taken in and counts.
    for number in 1..DELIVERIES_PER_ATTEMPT_MAX {
        let (blob, path) = output(&format!("output-{number}"), 100_000);
        assert_eq!(liar.deliver(own, blob, path), DeliveryReply::Stored);
    }
    let reply = liar.deliver(own, right, path.clone());
    assert!(matches!(&reply, DeliveryReply::Refused { reason } if reason.contains("brought before")), "{reply:?}");
    let missing = BlobRef::of(b"nobody has this");
    let coordinator = liar.coordinator;
    let fetched = liar.wait(liar.node.handle.fetch_bytes(missing, vec![coordinator], 100));
    assert!(fetched.is_err(), "{fetched:?}");

    // Of an output that was not taken in it says that it was.
    let unheard = Finished { outcome: Outcome::Succeeded { output: Payload::Blob(right) }, ..succeeded(own, b"") };
    liar.say(ToCoordinator::Finished(vec![unheard]));
    assert!(matches!(liar.goodbye(), Some(GoodbyeReason::Protocol(_))));
    liar.greet(Vec::new());
    // That was the end of the attempt, by no fault of the function; it is asked again after a pause.
    let shown = cluster.lull(&["task", "show", &format!("{job}.0"), "-o", "json"]).json();
    let first = &shown["history"][0];
    assert_eq!((&shown["failures"], &first["end"]), (&0.into(), &"evicted".into()), "{shown}");
    assert!(first["reason"].to_string().contains("it broke the protocol: the output"), "{shown}");
    liar.say(ToCoordinator::Heartbeat { frame_read: 0, holding: Vec::new() });
    let again = liar.assigned(1)[0];
    assert_eq!((again.task, again.number), (own.task, own.number + 1));
    assert_eq!(liar.deliver(again, right, path.clone()), DeliveryReply::Stored);
    let delivered = Finished { outcome: Outcome::Succeeded { output: Payload::Blob(right) }, ..succeeded(again, b"") };
    liar.say(ToCoordinator::Finished(vec![delivered]));
    let done = cluster.wait_for_job(&job, "it has ended", |job| job["state"] != "active");
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&"succeeded".into(), &1.into()), "{done}");
    let results = results(&cluster, &job);
    assert_eq!(results[0]["digest"], right.digest.to_string(), "{results:?}");
    let late = liar.deliver(again, large, large_path);
    assert!(matches!(late, DeliveryReply::Refused { .. }), "{late:?}");

    cluster.lull(&["agent", "revoke", "liar"]);
    liar.ends();
    let address = liar.address.clone();
    let back =
        liar.wait(async { (liar.node.handle.connect(address).await.is_ok(), liar.node.handle.open_work(coordinator).await) });
    assert!(back.1.is_err(), "a revoked agent opened a stream; it connected: {}", back.0);
    no_panic(&cluster);
}

#[test]
fn a_wrong_output_of_a_verified_task_is_settled_by_two_honest_agents_and_its_author_is_quarantined() {
    let mut cluster = Cluster::start(PROGRAMS);
    publish(&cluster, "busy");
    let array = ["submit", "busy", "--array", "60-60", "-o", "id"];
    let refused = cluster.try_lull(&[&array[..], &["--verify", "100%"]].concat());
    assert!(refused.code != 0 && refused.err.contains("--canonical-nans"), "{}", refused.err);
    let granted = cluster.try_lull(&[&array[..], &["--verify", "5%", "--grant", "clock"]].concat());
    assert!(granted.code != 0 && granted.err.contains("--grant clock"), "{}", granted.err);
    cluster.lull(&["func", "publish", text(&cluster.path("busy.wasm")), "--canonical-nans"]);

    let mut liar = Liar::join(&cluster, &[]);
    liar.greet(Vec::new());
    let job = cluster.lull(&[&array[..], &["--verify", "100%"]].concat()).out.trim().to_owned();
    let own = liar.assigned(1)[0];
    liar.say(ToCoordinator::Finished(vec![succeeded(own, b"a lie")]));
    liar.acknowledged(own);
    cluster.kill_server();
    cluster.start_server();
    let shown = cluster.job(&job);
    assert_eq!((&shown["counts"]["verifying"], &shown["terms"]["verify"]), (&1.into(), &"100%".into()), "{shown}");
    let explained = cluster.lull(&["explain", &format!("{job}.0")]).out;
    assert!(explained.contains("counts once another agent has brought the same"), "{explained}");

    cluster.add_agent("desk", 1, &[]);
    cluster.add_agent("left", 1, &[]);
    cluster.wait_for_job(&job, "it is settled", |job| job["state"] == "succeeded");
    let plain = cluster.lull(&array).out.trim().to_owned();
    cluster.wait_for_job(&plain, "it ends", |job| job["state"] == "succeeded");
    assert_eq!(results(&cluster, &job)[0]["output"], results(&cluster, &plain)[0]["output"], "the truth");
    let shown = cluster.lull(&["task", "show", &format!("{job}.0"), "-o", "json"]).json();
    assert_eq!((&shown["state"], shown["history"].as_array().map(Vec::len)), (&"succeeded".into(), Some(3)), "{shown}");

    let seen = cluster.lull(&["agent", "show", "liar"]).out;
    assert!(seen.contains("quarantined") && seen.contains("differs from what two other agents brought"), "{seen}");
    assert!(cluster.lull(&["agent", "list"]).out.contains("quarantined"));
    let honest = cluster.lull(&["agent", "show", "desk", "-o", "json"]).json();
    assert!(honest["quarantine"].is_null(), "{honest}");
    cluster.lull(&["agent", "trust", "liar"]);
    let again = cluster.lull(&["agent", "show", "liar", "-o", "json"]).json();
    assert!(again["quarantine"].is_null(), "{again}");
    let audit = cluster.lull(&["audit"]).out;
    assert!(audit.contains("agent.quarantine") && audit.contains("agent.trust"), "{audit}");
    no_panic(&cluster);
}

/// An agent under our control.
struct Liar {
    runtime: Runtime,
    node: Node,
    agent: AgentId,
    labels: Labels,
    coordinator: PeerId,
    address: Multiaddr,
    stream: Option<AgentStream>,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Liar {
    /// Enrols with a real token.
    fn join(cluster: &Cluster, labels: &[(&str, &str)]) -> Self {
        let token: JoinToken = cluster.join_token(1).parse().expect("a token");
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
            software: "liar".into(),
            revoked: Default::default(),
            members: Default::default(),
            uploads: Default::default(),
        };
        let runtime = Runtime::new().expect("a runtime");
        let shutdown = CancellationToken::new();
        let request = EnrolmentRequest::Join { token: token.token, secret: token.secret, name: "liar".into() };
        let (node, agent, coordinator) = runtime.block_on(async {
            let node = Node::start(config, Arc::new(NoBlobs), shutdown.clone()).await.expect("a node");
            let reply = node.handle.enrol(address.clone(), request).await.expect("an answer");
            let EnrolmentReply::Enrolled { agent, certificate, .. } = reply else { panic!("{reply:?}") };
            node.handle.set_certificate(certificate).await;
            let coordinator = node.handle.connect(address.clone()).await.expect("it is admitted");
            (node, agent, coordinator)
        });
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { runtime, node, agent, labels, coordinator, address, stream: None, _shutdown: shutdown.drop_guard() }
    }

    /// What takes longer than everything may take never happens.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(PATIENCE, future).await }).expect("in time")
    }

    fn hello(&self, holding: Vec<AttemptId>) -> Hello {
        let machine =
            Machine { os: "linux".into(), arch: "x86_64".into(), cores: 4, memory_bytes: 16 << 30, engine: "none".into() };
        let (labels, capacity) = (self.labels.clone(), capacity(self.agent, 2));
        Hello {
            agent_version: "0.1.0".into(),
            machine,
            labels,
            capacity,
            holding,
            snapshots: Vec::new(),
            instance: Default::default(),
            open_cage: None,
        }
    }

    /// Opens a stream and says nothing.
    fn open(&mut self) {
        self.stream = Some(self.wait(self.node.handle.open_work(self.coordinator)).expect("it is admitted"));
    }

    /// Opens a stream, says hello and is welcomed.
    fn greet(&mut self, holding: Vec<AttemptId>) {
        self.open();
        let hello = self.hello(holding);
        self.say(ToCoordinator::Hello(Box::new(hello)));
        self.hear("a welcome", |message| matches!(message, ToAgent::Welcome(_)).then_some(()));
    }

    fn say(&mut self, message: ToCoordinator) {
        assert!(self.try_send(&ToCoordinatorFrame { messages: vec![message] }), "the stream takes it");
    }

    fn try_send(&mut self, frame: &ToCoordinatorFrame) -> bool {
        let stream = self.stream.as_mut().expect("it is open");
        let sent = self.runtime.block_on(async { timeout(PATIENCE, stream.outgoing.send(frame)).await });
        sent.expect("in time").is_ok()
    }

    fn raw(&mut self, bytes: &[u8]) {
        let stream = self.stream.as_mut().expect("it is open");
        let sent = self.runtime.block_on(async { timeout(PATIENCE, stream.outgoing.send_raw(bytes)).await });
        // It may be cut off before it has said all.
        let _ = sent.expect("in time");
    }

    /// The next word that is meant, with all before it passed over; none at the end of the stream.
    fn next<T>(&mut self, wanted: impl Fn(ToAgent) -> Option<T>) -> Option<T> {
        let stream = self.stream.as_mut().expect("it is open");
        let heard = async {
            while let Some(Ok(frame)) = stream.incoming.next().await {
                if let Some(found) = frame.messages.into_iter().find_map(&wanted) {
                    return Some(found);
                }
            }
            None
        };
        self.runtime.block_on(async { timeout(PATIENCE, heard).await }).expect("in time")
    }

    fn hear<T>(&mut self, what: &str, wanted: impl Fn(ToAgent) -> Option<T>) -> T {
        self.next(wanted).unwrap_or_else(|| panic!("the stream ended before {what}"))
    }

    /// Attempts that it is given, at least so many. It lives on meanwhile.
    fn assigned(&mut self, count: usize) -> Vec<AttemptId> {
        let mut own = Vec::new();
        while own.len() < count {
            own.extend(self.hear("work", |message| match message {
                ToAgent::Assign(assignments) => Some(assignments.into_iter().map(|assignment| assignment.attempt)),
                _ => None,
            }));
        }
        own
    }

    fn acknowledged(&mut self, attempt: AttemptId) {
        self.hear("an acknowledgement", |message| match message {
            ToAgent::Acknowledge { attempts } if attempts.contains(&attempt) => Some(()),
            _ => None,
        });
    }

    /// Why the coordinator closes the stream.
    fn goodbye(&mut self) -> Option<GoodbyeReason> {
        self.next(|message| if let ToAgent::Goodbye { reason } = message { Some(reason) } else { None })
    }

    /// The coordinator ends the stream.
    fn ends(&mut self) {
        assert_eq!(self.next(|_| None::<()>), None);
    }

    fn deliver(&self, attempt: AttemptId, blob: BlobRef, file: PathBuf) -> DeliveryReply {
        self.wait(self.node.handle.deliver(self.coordinator, attempt, blob, file)).expect("an answer")
    }
}

fn capacity(agent: AgentId, slots: u16) -> Capacity {
    Capacity {
        agent,
        run: 0,
        sequence: 1,
        slots,
        slots_busy: 0,
        waiting: 0,
        cpu_free_percent: 100,
        memory_free_bytes: 8 << 30,
        paused: None,
    }
}

fn attempt(job: JobId, index: u32, number: u32) -> AttemptId {
    AttemptId { task: TaskId { job, index }, number }
}

fn succeeded(attempt: AttemptId, output: &[u8]) -> Finished {
    let outcome = Outcome::Succeeded { output: Payload::inline(output.to_vec()) };
    Finished { attempt, outcome, log: Default::default(), log_dropped_bytes: 0, usage: Usage::default() }
}

fn publish(cluster: &Cluster, fixture: &str) {
    let text_form = fs::read_to_string(functions().join(format!("fixtures/{fixture}.wat"))).expect("a fixture");
    let path = module(&cluster.path(""), fixture, &text_form);
    cluster.lull(&["func", "publish", text(&path)]);
}

/// A job whose tasks take some milliseconds each and have different outputs.
fn submit_busy(cluster: &Cluster) -> String {
    let array = format!("{ROUNDS}-{}", ROUNDS + TASKS - 1);
    cluster.lull(&["submit", "busy", "--array", &array, "-o", "id"]).out.trim().to_owned()
}

/// What each task of a job came to, when all have succeeded; each of them once.
fn outputs(cluster: &Cluster, job: &str) -> BTreeMap<u32, String> {
    cluster.lull(&["wait", job, "--timeout", "90s"]);
    assert_eq!(cluster.job(job)["counts"]["succeeded"], TASKS);
    let listed = results(cluster, job);
    let output = |result: &Value| {
        let task: TaskId = result["task"].as_str().expect("a task").parse().expect("a task");
        (task.index, result["output"].as_str().expect("a small result").to_owned())
    };
    let outputs: BTreeMap<u32, String> = listed.iter().map(output).collect();
    assert_eq!((listed.len(), outputs.len()), (TASKS as usize, TASKS as usize), "each result once");
    outputs
}

fn results(cluster: &Cluster, job: &str) -> Vec<Value> {
    let results = cluster.lull(&["job", "results", job, "-o", "json"]).json();
    results["results"].as_array().expect("results").clone()
}

fn no_panic(cluster: &Cluster) {
    for log in ["server.log", "desk.log"] {
        let words = fs::read_to_string(cluster.path(log)).unwrap_or_default();
        assert!(!words.contains("panicked"), "{log}: {words}");
    }
}
