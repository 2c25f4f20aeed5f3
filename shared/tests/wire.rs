//! The bytes of the wire: an example of every message, fixed, and nonsense of every kind, survived.
//!
//! The files in `golden` hold, for each type, examples by name as hexadecimal bytes. When a message is meant to
//! change, so does its protocol's version; then write them anew with
//! `LULL_GOLDEN=write cargo test -p lull-shared --test wire` and look at the difference.

use std::{fmt::Debug, path::PathBuf};

use data_encoding::HEXLOWER;
use libp2p_identity::{Keypair, PeerId};
use lull_shared::{
    codec::{decode, encode, encode_frame, frame_length},
    digest::{BlobRef, Outline, OutlineBuilder, PIECE_BYTES},
    id::{AgentId, AttemptId, JobId, TaskId, Term},
    identity::{
        Authority, Certificate, Edition, Issuer, JoinToken, NetworkId, Revocations, Role, Secret, Signed, TermProof, sign,
    },
    job::{AttemptLimits, Grants},
    message::*,
    pieces::PieceSet,
    policy::{Changes, Policy, Sheet},
    protocol::*,
    release::{Platform, Release, UpgradeReport, UpgradeStep},
    resources::{Capacity, Card, Mac, Machine, Subnet},
    state::{Failure, Intake, Part, PauseReason, Trouble, Usage},
    time::Timestamp,
};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

/// Compares examples with their file, and each with what decoding makes of it.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(file: &str, examples: &[(&str, T)]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let lines: Vec<String> = examples.iter().map(|(name, value)| format!("{name} {}", HEXLOWER.encode(&encode(value)))).collect();
    if std::env::var_os("LULL_GOLDEN").is_some_and(|what| what == "write") {
        std::fs::write(&path, lines.join("\n") + "\n").expect("the file can be written");
    }
    let fixed = std::fs::read_to_string(&path).expect("the file exists");
    assert_eq!(fixed.lines().collect::<Vec<_>>(), lines, "{file} has changed");
    for (name, value) in examples {
        assert_eq!(decode::<T>(&encode(value)).as_ref(), Ok(value), "{name} reads back");
        let frame = encode_frame(value);
        let (prefix, body) = frame.split_first_chunk().expect("a frame has a length");
        assert_eq!((frame_length(*prefix), body), (Ok(body.len()), encode(value).as_slice()), "{name} as a frame");
    }
}

fn authority() -> Keypair {
    Keypair::ed25519_from_bytes([7; 32]).expect("thirty-two bytes are a key")
}

fn peer() -> PeerId {
    Keypair::ed25519_from_bytes([8; 32]).expect("thirty-two bytes are a key").public().to_peer_id()
}

fn instant() -> Timestamp {
    Timestamp::from_millis(1_795_000_000_123)
}

fn term_proof() -> Signed {
    sign(&authority(), &TermProof { network: NetworkId([3; 16]), term: Term(12) })
}

fn certificate() -> Signed {
    let issuer = Issuer { network: NetworkId([3; 16]), authority: authority(), life: lull_shared::limits::CERTIFICATE_LIFE };
    issuer.issue(&peer(), Role::Agent, Some(AgentId(300)), "desk-17", instant())
}

fn attempt(number: u32) -> AttemptId {
    AttemptId { task: TaskId { job: JobId(42), index: 70_000 }, number }
}

fn capacity() -> Capacity {
    Capacity {
        agent: AgentId(300),
        run: 0,
        sequence: 9,
        slots: 8,
        slots_busy: 3,
        waiting: 5,
        cpu_free_percent: 62,
        memory_free_bytes: 6_000_000_000,
        paused: Some(PauseReason::Owner { until: Some(instant()) }),
    }
}

fn snapshot() -> SnapshotRef {
    SnapshotRef { blob: blob(), spent_us: 90_000_000 }
}

fn blob() -> BlobRef {
    BlobRef::of(b"some bytes")
}

fn outline() -> (BlobRef, Outline) {
    let mut builder = OutlineBuilder::default();
    builder.update(&vec![5; PIECE_BYTES + 1]);
    builder.finish()
}

fn release() -> Release {
    Release {
        network: NetworkId([3; 16]),
        platform: Platform::DebAmd64,
        version: "0.2.0".into(),
        package: blob(),
        count: 300,
        expires: instant(),
    }
}

fn to_agent() -> Vec<(&'static str, ToAgentFrame)> {
    let brief = JobBrief {
        job: JobId(42),
        job_name: "nightly".into(),
        submitter: "ana".into(),
        manifest: vec![1, 2, 3],
        manifest_signature: vec![4; 64],
        args: vec!["--fast".into()],
        env: vec![("LANG".into(), "C".into())],
        limits: AttemptLimits::default(),
        exit_codes: "0,3-5".parse().expect("codes"),
        grants: Grants { clock: true, random: false, scratch: true },
        seed: u64::MAX,
        clock_start: instant(),
    };
    let welcome = Welcome {
        agent: AgentId(300),
        term: Term(12),
        term_proof: Some(term_proof()),
        heartbeat_ms: 1000,
        intake: Intake::Cordoned,
        certificate: Some(encode(&certificate())),
        policy: Some(sign(&authority(), &sheet())),
        coordinators: vec!["/dns4/lull.example/tcp/7070/p2p/x".into()],
        portal: Some("https://lull.example".into()),
    };
    let recall = |reason| ToAgent::Recall { attempts: vec![attempt(1), attempt(2)], reason };
    let goodbye = |reason| ToAgent::Goodbye { reason };
    let messages = vec![
        ("welcome", ToAgent::Welcome(welcome)),
        ("terms", ToAgent::Brief(Box::new(brief))),
        (
            "assign",
            ToAgent::Assign(vec![
                Assignment { attempt: attempt(1), input: Payload::inline(&b"input"[..]), build: Build::Plain, resume: None },
                Assignment {
                    attempt: attempt(2),
                    input: Payload::Blob(blob()),
                    build: Build::Migratable,
                    resume: Some(snapshot()),
                },
            ]),
        ),
        ("recall_rebalance", recall(RecallReason::Rebalance)),
        ("recall_drain", recall(RecallReason::Drain)),
        ("recall_window", recall(RecallReason::Window)),
        ("recall_roomier", recall(RecallReason::Roomier)),
        ("recall_faster", recall(RecallReason::Faster)),
        ("recall_cancelled", recall(RecallReason::Cancelled)),
        ("recall_stale", recall(RecallReason::Stale)),
        ("discard", ToAgent::Discard { snapshots: vec![blob().digest] }),
        ("wake", ToAgent::Wake(cards())),
        ("keep", ToAgent::Keep { task: attempt(1).task, snapshot: blob() }),
        ("safe", ToAgent::Safe { snapshots: vec![blob().digest] }),
        ("acknowledge", ToAgent::Acknowledge { attempts: vec![attempt(300)] }),
        ("forget", ToAgent::Forget { job: JobId(42) }),
        ("intake", ToAgent::Intake(Intake::Draining)),
        ("read_log", ToAgent::ReadLog { attempt: attempt(1), from: 70_000 }),
        ("goodbye_revoked", goodbye(GoodbyeReason::Revoked)),
        ("goodbye_superseded", goodbye(GoodbyeReason::Superseded)),
        ("goodbye_stopping", goodbye(GoodbyeReason::Stopping)),
        ("goodbye_cloned", goodbye(GoodbyeReason::Cloned)),
        ("goodbye_protocol", goodbye(GoodbyeReason::Protocol("no hello".into()))),
        ("coordinators", ToAgent::Coordinators(vec!["/ip4/10.0.0.2/tcp/7410".into()])),
        ("policy", ToAgent::Policy(sign(&authority(), &sheet()))),
        ("goodbye_standby", goodbye(GoodbyeReason::Standby { leader: vec!["/ip4/10.0.0.1/tcp/7410".into()] })),
        ("goodbye_too_old", goodbye(GoodbyeReason::TooOld { oldest: "0.1.0".into() })),
        ("upgrade", ToAgent::Upgrade(Some(sign(&authority(), &release())))),
        ("upgrade_no_more", ToAgent::Upgrade(None)),
    ];
    messages.into_iter().map(|(name, message)| (name, ToAgentFrame { number: 7, messages: vec![message] })).collect()
}

fn sheet() -> Sheet {
    Sheet { agent: AgentId(300), version: 5, policy: Policy::default() }
}

/// One of each reason that is not in another example.
fn pauses() -> Vec<(&'static str, ToCoordinatorFrame)> {
    let reasons = vec![
        ("paused_touched", PauseReason::Touched),
        ("paused_present", PauseReason::Present { idle_s: 600 }),
        ("paused_hours", PauseReason::Hours { opens: "mon 18:00".parse().ok() }),
        ("paused_beside", PauseReason::Beside { slots: 2 }),
        ("paused_unseen", PauseReason::Unseen),
        ("paused_stalled", PauseReason::Stalled { percent: 30 }),
        ("paused_battery", PauseReason::Battery { percent: Some(80) }),
        ("paused_temperature", PauseReason::Temperature { celsius: 90 }),
        ("paused_full_screen", PauseReason::FullScreen),
        ("paused_metered", PauseReason::Metered),
        ("paused_reboot", PauseReason::Reboot),
        ("paused_lid", PauseReason::Lid),
        ("paused_sleep", PauseReason::Sleep),
        ("paused_shutdown", PauseReason::Shutdown),
        ("paused_starting", PauseReason::Starting),
        ("paused_upgrade", PauseReason::Upgrade),
        ("paused_trouble", PauseReason::Trouble(Trouble::new(Part::Outbox, "no space left"))),
    ];
    let frame =
        |reason| ToCoordinatorFrame { messages: vec![ToCoordinator::Paused { attempt: attempt(1), reason: Some(reason) }] };
    reasons.into_iter().map(|(name, reason)| (name, frame(reason))).collect()
}

fn cards() -> Vec<Card> {
    vec![Card { mac: Mac([0, 0x1b, 0x44, 0x11, 0x3a, 0xb7]), subnet: Subnet::of([10, 0, 16, 5].into(), 20) }]
}

fn kept() -> KeptSnapshot {
    KeptSnapshot { task: attempt(1).task, digest: blob().digest }
}

fn to_coordinator() -> Vec<(&'static str, ToCoordinatorFrame)> {
    let machine = Machine {
        os: "windows".into(),
        arch: "x86_64".into(),
        cores: 16,
        memory_bytes: 16 << 30,
        engine: "wasmtime-48 x86_64".into(),
    };
    let hello = Hello {
        agent_version: "0.1.0".into(),
        machine,
        labels: [("site".to_owned(), "berlin".to_owned())].into(),
        capacity: capacity(),
        holding: vec![attempt(1)],
        snapshots: vec![kept()],
        instance: Box::new(Instance { number: u64::MAX, machine: 77, term_proof: Some(term_proof()) }),
        open_cage: Some("landlock missing".into()),
    };
    let unkept = |reason| ToCoordinator::Unkept { snapshot: kept(), reason };
    let finished = |outcome| {
        let usage = Usage { wall_us: 1_000_000, cpu_us: 900_000, memory_peak_bytes: 1 << 20 };
        ToCoordinator::Finished(vec![Finished {
            attempt: attempt(1),
            outcome,
            log: bytes::Bytes::from_static(b"log"),
            log_dropped_bytes: 12,
            usage,
        }])
    };
    let usage = Usage { wall_us: 2_000_000, cpu_us: 1_900_000, memory_peak_bytes: 1 << 21 };
    let log = bytes::Bytes::from_static(b"log");
    let remains = Remains { attempt: attempt(1), log: log.clone(), log_dropped_bytes: 3, usage };
    let piece = LogPiece { attempt: attempt(1), asked: 5, from: 7, bytes: log, total: Some(10) };
    let failed = |failure| finished(Outcome::Failed(failure));
    let released = |reason| ToCoordinator::Released { attempts: vec![attempt(1)], reason };
    let refused = |reason| ToCoordinator::Refused { attempt: attempt(1), reason };
    let reason = || "why".to_owned();
    let upgrade = |step| ToCoordinator::Upgrade(UpgradeReport { count: 300, step });
    let messages = vec![
        ("hello", ToCoordinator::Hello(Box::new(hello))),
        ("started", ToCoordinator::Started { attempts: vec![attempt(1), attempt(2)] }),
        ("paused_busy", ToCoordinator::Paused { attempt: attempt(1), reason: Some(PauseReason::Busy { cpu_percent: 90 }) }),
        ("resumed", ToCoordinator::Paused { attempt: attempt(1), reason: None }),
        ("succeeded_inline", finished(Outcome::Succeeded { output: Payload::inline(&b"output"[..]) })),
        ("succeeded_blob", finished(Outcome::Succeeded { output: Payload::Blob(blob()) })),
        ("failed_exit", failed(Failure::Exit { code: -1 })),
        ("failed_trap", failed(Failure::Trap { message: "unreachable".into(), backtrace: vec!["f".into()] })),
        ("failed_time", failed(Failure::TimeLimit { limit_ms: 1000 })),
        ("failed_memory", failed(Failure::MemoryLimit { limit_bytes: 1 << 29 })),
        ("failed_output", failed(Failure::OutputLimit { limit_bytes: 1 << 26 })),
        ("failed_scratch", failed(Failure::ScratchLimit { limit_bytes: 1 << 28 })),
        ("failed_module", failed(Failure::BadModule { reason: reason() })),
        ("failed_executor", failed(Failure::ExecutorDied { how: "signal 9".into() })),
        ("failed_given_up", failed(Failure::GivenUp { times: 16, last: reason() })),
        ("saved", ToCoordinator::Saved { attempt: attempt(1), snapshot: snapshot() }),
        ("cards", ToCoordinator::Cards(cards())),
        ("sleeps", ToCoordinator::Sleeps),
        ("keeps", ToCoordinator::Keeps(kept())),
        ("unkept_paused", unkept(UnkeptReason::Paused)),
        ("unkept_metered", unkept(UnkeptReason::Metered)),
        ("unkept_full", unkept(UnkeptReason::Full)),
        ("unkept_unavailable", unkept(UnkeptReason::Unavailable)),
        ("unkept_leaving", unkept(UnkeptReason::Leaving)),
        ("remains", ToCoordinator::Remains(Box::new(remains))),
        ("log", ToCoordinator::Log(piece)),
        ("released_recalled", released(ReleaseReason::Recalled)),
        ("released_evicted", released(ReleaseReason::Evicted(PauseReason::Memory { free_bytes: 1 << 20 }))),
        ("released_stopping", released(ReleaseReason::Stopping)),
        ("released_trouble", released(ReleaseReason::Trouble(Trouble::new(Part::Killed, "signal 9")))),
        ("refused_full", refused(RefuseReason::Full)),
        ("refused_paused", refused(RefuseReason::Paused)),
        ("refused_terms", refused(RefuseReason::UnknownTerms)),
        ("refused_snapshot", refused(RefuseReason::Snapshot { digest: blob().digest, reason: reason() })),
        ("refused_fetch", refused(RefuseReason::Fetch { digest: blob().digest, reason: reason() })),
        ("refused_untrusted", refused(RefuseReason::Untrusted { reason: reason() })),
        ("refused_memory", refused(RefuseReason::Memory { needed_bytes: 2, free_bytes: 1 })),
        ("refused_executor", refused(RefuseReason::Executor { reason: reason() })),
        ("refused_disk", refused(RefuseReason::Disk { reason: reason() })),
        ("heartbeat", ToCoordinator::Heartbeat { frame_read: 300, holding: vec![attempt(1)] }),
        ("capacity", ToCoordinator::Capacity(capacity())),
        (
            "blobs",
            ToCoordinator::Blobs(BlobReport {
                all: true,
                gained: vec![blob()],
                lost: vec![blob().digest],
                from_agents_bytes: 300,
                from_coordinators_bytes: 70_000,
                served_bytes: 1,
            }),
        ),
        (
            "policy",
            ToCoordinator::Policy(PolicyReport {
                version: 5,
                owner: Changes::from_pairs(&["idle=20m", "on_battery=false"]).expect("changes"),
                clock_ahead_min: -300,
                slots_max: 12,
            }),
        ),
        ("farewell", ToCoordinator::Farewell),
        ("leaves", ToCoordinator::Leaves),
        ("upgrade_refused", upgrade(UpgradeStep::Refused { reason: reason() })),
        ("upgrade_fetching", upgrade(UpgradeStep::Fetching)),
        ("upgrade_given", upgrade(UpgradeStep::Given)),
        ("upgrade_failed", upgrade(UpgradeStep::Failed { reason: reason() })),
    ];
    let one = |message| ToCoordinatorFrame { messages: vec![message] };
    messages.into_iter().map(|(name, message)| (name, one(message))).chain(pauses()).collect()
}

fn enrolment_replies() -> Vec<(&'static str, EnrolmentReply)> {
    let refused = EnrolmentReply::Refused;
    vec![
        (
            "enrolled",
            EnrolmentReply::Enrolled {
                agent: AgentId(300),
                name: "desk-17".into(),
                certificate: certificate(),
                coordinators: vec!["/ip4/10.0.0.1/tcp/7070/p2p/x".into()],
            },
        ),
        ("unknown_token", refused(EnrolmentRefusal::UnknownToken)),
        ("expired", refused(EnrolmentRefusal::Expired)),
        ("used_up", refused(EnrolmentRefusal::UsedUp)),
        ("revoked", refused(EnrolmentRefusal::Revoked)),
        ("name", refused(EnrolmentRefusal::Name { name: "desk 17".into(), why: "a blank".into() })),
        ("not_bound", refused(EnrolmentRefusal::NotBound("desk-17".into()))),
        ("name_revoked", refused(EnrolmentRefusal::NameRevoked("desk-17".into()))),
        ("name_taken", refused(EnrolmentRefusal::NameTaken("desk-17".into()))),
        ("too_many", refused(EnrolmentRefusal::TooMany)),
        ("unavailable", refused(EnrolmentRefusal::Unavailable)),
    ]
}

#[test]
fn the_work_stream_keeps_its_bytes() {
    golden("to_agent.hex", &to_agent());
    golden("to_coordinator.hex", &to_coordinator());
}

fn edition() -> Edition {
    Edition { term: Term(4), counter: 5, draw: 6 }
}

#[test]
fn admission_keeps_its_bytes() {
    let introduction = |certificate| Introduction {
        certificate,
        software: "lull-agent 0.1.0".to_owned(),
        revocations: edition(),
        now: instant(),
    };
    let member = introduction(Some(certificate()));
    golden("introduction.hex", &[("stranger", introduction(None)), ("member", member)]);
    let revocations = sign(&authority(), &Revocations { edition: edition(), peers: vec![peer().to_bytes()] });
    golden(
        "admission.hex",
        &[
            ("admitted", Admission::Admitted { revocations: None }),
            ("admitted_with_revocations", Admission::Admitted { revocations: Some(revocations) }),
            ("stranger", Admission::Stranger),
            ("refused", Admission::Refused { reason: "it is for another network".into() }),
            ("revoked", Admission::Revoked),
        ],
    );
}

#[test]
fn enrolment_keeps_its_bytes() {
    golden(
        "enrolment_request.hex",
        &[
            ("join", EnrolmentRequest::Join { token: 4, secret: Secret([9; 16]), name: "desk-17".into() }),
            ("renew", EnrolmentRequest::Renew { certificate: certificate() }),
        ],
    );
    golden("enrolment_reply.hex", &enrolment_replies());
}

#[test]
fn blobs_and_deliveries_keep_their_bytes() {
    let (large, outline) = outline();
    golden("blob_request.hex", &[("request", BlobRequest { digest: large.digest, outline: true })]);
    let source = BlobSource { peer: peer().to_bytes(), addresses: vec!["/ip4/10.0.0.5/tcp/7412".into()] };
    golden(
        "blob_reply.hex",
        &[
            ("found", BlobReply::Found { blob: large, outline: Some(outline), sources: vec![source] }),
            ("found_without_outline", BlobReply::Found { blob: large, outline: None, sources: Vec::new() }),
            ("missing", BlobReply::Missing),
        ],
    );
    let mut lacking = PieceSet::none(20);
    lacking.insert(9);
    golden(
        "blob_ask.hex",
        &[("ask", BlobAsk { lacking: PieceSet::all(20), alone: false }), ("alone", BlobAsk { lacking, alone: true })],
    );
    golden(
        "blob_answer.hex",
        &[("piece", BlobAnswer::Piece { index: 300 }), ("nothing", BlobAnswer::Nothing), ("busy", BlobAnswer::Busy)],
    );
    golden("delivery_request.hex", &[("request", DeliveryRequest { attempt: attempt(3), blob: blob() })]);
    golden(
        "delivery_reply.hex",
        &[
            ("send", DeliveryReply::Send),
            ("stored", DeliveryReply::Stored),
            ("refused", DeliveryReply::Refused { reason: "not live".into() }),
            ("busy", DeliveryReply::Busy),
        ],
    );
}

#[test]
fn claims_capacity_and_tokens_keep_their_bytes() {
    let body: Certificate = decode(&certificate().body).expect("a certificate");
    golden("certificate.hex", &[("agent", body)]);
    golden("signed.hex", &[("certificate", certificate())]);
    golden("revocations.hex", &[("one", Revocations { edition: edition(), peers: vec![peer().to_bytes()] })]);
    let windows = Release { platform: Platform::MsiX64, ..release() };
    golden("release.hex", &[("debian", release()), ("windows", windows)]);
    let manifest = ModuleManifest {
        function: "thumbnail".into(),
        number: 3,
        kind: ModuleKind::Component,
        module: blob(),
        canonical_nans: true,
        artifacts: vec![Artifact { engine: "wasmtime-48 x86_64".into(), blob: blob() }],
        migratable: None,
    };
    let module = ModuleManifest { kind: ModuleKind::Preview1, artifacts: Vec::new(), ..manifest.clone() };
    let build = MigratableBuild { module: blob(), artifacts: manifest.artifacts.clone(), cost_percent: Some(115) };
    let movable = ModuleManifest { migratable: Some(build), ..module.clone() };
    golden("manifest.hex", &[("component", manifest), ("module", module), ("movable", movable)]);
    let idle = Capacity { paused: None, ..capacity() };
    golden("capacity.hex", &[("paused", capacity()), ("idle", idle)]);
    let token = JoinToken {
        network: NetworkId([3; 16]),
        authority: Authority::of(&authority()),
        coordinators: vec!["/ip4/10.0.0.1/tcp/7070/p2p/x".into()],
        token: 4,
        secret: Secret([9; 16]),
    };
    golden("token.hex", &[("token", token)]);
}

/// Decodes bytes as every type that comes from elsewhere. Returning is passing.
fn decode_as_everything(bytes: &[u8]) {
    let _ = decode::<ToAgentFrame>(bytes);
    let _ = decode::<ToCoordinatorFrame>(bytes);
    let _ = decode::<Introduction>(bytes);
    let _ = decode::<Admission>(bytes);
    let _ = decode::<EnrolmentRequest>(bytes);
    let _ = decode::<EnrolmentReply>(bytes);
    let _ = decode::<BlobRequest>(bytes);
    let _ = decode::<BlobReply>(bytes);
    let _ = decode::<BlobAsk>(bytes);
    let _ = decode::<BlobAnswer>(bytes);
    let _ = decode::<DeliveryRequest>(bytes);
    let _ = decode::<DeliveryReply>(bytes);
    let _ = decode::<Signed>(bytes);
    let _ = decode::<Certificate>(bytes);
    let _ = decode::<Revocations>(bytes);
    let _ = decode::<ModuleManifest>(bytes);
    let _ = decode::<Release>(bytes);
    let _ = decode::<Capacity>(bytes);
    let _ = decode::<JoinToken>(bytes);
}

/// The encoded examples, to be damaged.
fn examples() -> Vec<Vec<u8>> {
    let agent = to_agent().into_iter().map(|(_, frame)| encode(&frame));
    let coordinator = to_coordinator().into_iter().map(|(_, frame)| encode(&frame));
    agent.chain(coordinator).chain(enrolment_replies().into_iter().map(|(_, reply)| encode(&reply))).collect()
}

fn attempts() -> impl Strategy<Value = Vec<AttemptId>> {
    let attempt = (any::<u64>(), any::<u32>(), any::<u32>())
        .prop_map(|(job, index, number)| AttemptId { task: TaskId { job: JobId(job), index }, number });
    prop::collection::vec(attempt, 0..20)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        decode_as_everything(&bytes);
        decode_as_everything(&[&[1], bytes.as_slice()].concat());
    }

    #[test]
    fn damaged_messages_never_panic(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8) {
        let examples = examples();
        let mut bytes = examples[which.index(examples.len())].clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode_as_everything(&bytes);
        decode_as_everything(&bytes[..at]);
    }

    #[test]
    fn frames_read_back(
        number: u64, attempts in attempts(), input in prop::collection::vec(any::<u8>(), 0..500), reason in ".*", log: Vec<u8>
    ) {
        let assignments = attempts.iter().map(|attempt| Assignment {
            attempt: *attempt,
            input: Payload::inline(input.clone()),
            build: Build::Plain,
            resume: None,
        });
        let messages = vec![
            ToAgent::Assign(assignments.collect()),
            ToAgent::Recall { attempts: attempts.clone(), reason: RecallReason::Stale },
            ToAgent::Goodbye { reason: GoodbyeReason::Protocol(reason.clone()) },
        ];
        let frame = ToAgentFrame { number, messages };
        prop_assert_eq!(decode(&encode(&frame)), Ok(frame));
        let finished = attempts.iter().map(|attempt| Finished {
            attempt: *attempt,
            outcome: Outcome::Failed(Failure::Trap { message: reason.clone(), backtrace: vec![reason.clone()] }),
            log: log.clone().into(),
            log_dropped_bytes: number,
            usage: Usage { wall_us: number, cpu_us: number, memory_peak_bytes: number },
        });
        let frame = ToCoordinatorFrame { messages: vec![
            ToCoordinator::Finished(finished.collect()),
            ToCoordinator::Heartbeat { frame_read: number, holding: attempts.clone() },
        ] };
        prop_assert_eq!(decode(&encode(&frame)), Ok(frame));
    }

    #[test]
    fn no_length_makes_room_for_more_than_the_bytes_there_are(announced: u64, rest: [u8; 8]) {
        // A collection's length is a number like any other: what it promises must not be reserved.
        let mut bytes = vec![1, 253];
        bytes.extend_from_slice(&announced.to_le_bytes());
        bytes.extend_from_slice(&rest);
        decode_as_everything(&bytes);
        let _ = decode::<Vec<[u64; 4]>>(&bytes);
    }
}
