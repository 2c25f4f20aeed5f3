//! Real values in each decoder's form, for fuzzing to begin with.
//!
//! The golden files are where messages come from, so that the seeds change with the wire.

use std::{fs, path::PathBuf};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use lull_agent::{
    config::Config,
    ipc::{Request, Response},
    outbox::Outbox,
};
use lull_engine::{
    executor::protocol::{
        Ask, Build, Cage, Done, FromExecutor, Input, Layer, Load, LoadError, Output, Priority, Resume, Run, Saved, ToExecutor,
        World,
    },
    snapshot::{
        Seal, Unfit,
        body::{self, Global, Host, Small},
    },
};
use lull_session::Event;
use lull_shared::{
    codec::{decode, encode, encode_frame},
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId, JobId, TaskId},
    identity::{Revocations, Signed, sign},
    job::{AttemptLimits, Grants},
    message::*,
    pack::{Content, PackBuilder},
    protocol::BlobReply,
    resources::{Capacity, Machine},
    state::{Failure, Intake, PauseReason, Usage},
    time::Timestamp,
};

use super::{identity::authority, session::ENGINE};
use crate::cluster::functions;

/// Modules beyond this are too slow to fuzz and too large to keep.
const MODULE_BYTES_MAX: usize = 2048;

/// The seeds of a decoder, by its function's name.
///
/// # Panics
/// If there is no such decoder.
pub fn of(decoder: &str) -> Vec<Vec<u8>> {
    match decoder {
        "artifact" => artifacts(),
        "config" => configs(),
        "executor" => executors(),
        "frames" => frames(),
        "gossip" => golden("capacity").into_iter().map(|capacity| led_by(4, &capacity)).collect(),
        "http" => requests(),
        "identity" => identities(),
        "ipc" => conversations(),
        "modules" => modules(),
        "outbox" => outboxes(),
        "pack" => packs(),
        "pieces" => pieces(),
        "protocol" => protocols(),
        "scheduler" => lies(),
        "session" => orders(),
        "snapshot" => snapshots(),
        "token" => tokens(),
        "words" => words(),
        other => panic!("there is no decoder {other}"),
    }
}

/// The examples of a golden file.
fn golden(name: &str) -> Vec<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../shared/tests/golden/{name}.hex"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let bytes = |line: &str| HEXLOWER.decode(line.split_once(' ').expect("a name and its bytes").1.as_bytes());
    text.lines().map(|line| bytes(line).expect("hexadecimal digits")).collect()
}

fn led_by(first: u8, bytes: &[u8]) -> Vec<u8> {
    [&[first], bytes].concat()
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes(), body].concat()
}

fn frames() -> Vec<Vec<u8>> {
    let single = |how: u8, name: &str| golden(name).into_iter().map(move |body| led_by(how, &framed(&body)));
    let many = |how: u8, name: &str| led_by(how, &golden(name).iter().flat_map(|body| framed(body)).collect::<Vec<u8>>());
    let whole = [many(250, "to_coordinator"), many(255, "to_agent")];
    single(6, "to_coordinator").chain(single(7, "to_agent")).chain(whole).collect()
}

fn protocols() -> Vec<Vec<u8>> {
    const FILES: [&str; 10] = [
        "introduction",
        "admission",
        "enrolment_request",
        "enrolment_reply",
        "blob_request",
        "blob_reply",
        "blob_ask",
        "blob_answer",
        "delivery_request",
        "delivery_reply",
    ];
    let tagged = FILES.iter().zip(0..).map(|(file, which)| golden(file).into_iter().map(move |body| led_by(which, &body)));
    tagged.flatten().collect()
}

fn identities() -> Vec<Vec<u8>> {
    let manifests = golden("manifest").into_iter().map(|body| {
        let manifest: ModuleManifest = decode(&body).expect("a manifest");
        led_by(1, &encode(&sign(&authority(), &manifest)))
    });
    let revocations = golden("revocations").into_iter().map(|body| {
        let revocations: Revocations = decode(&body).expect("revocations");
        led_by(2, &encode(&sign(&authority(), &revocations)))
    });
    let certificates = golden("signed").into_iter().map(|signed| led_by(0, &signed));
    let bodies = [("certificate", 129), ("manifest", 130), ("revocations", 131)];
    let bodies = bodies.into_iter().flat_map(|(file, how)| golden(file).into_iter().map(move |body| led_by(how, &body)));
    certificates.chain(manifests).chain(revocations).chain(bodies).collect()
}

fn tokens() -> Vec<Vec<u8>> {
    let text = |body: &Vec<u8>| {
        let digest = Digest::of(body);
        format!("lull1-{}", BASE64URL_NOPAD.encode(&[&digest.as_bytes()[..4], body].concat())).into_bytes()
    };
    let bodies = golden("token");
    bodies.iter().map(text).chain(bodies.iter().cloned()).collect()
}

fn pieces() -> Vec<Vec<u8>> {
    let outline = Some(lull_shared::digest::OutlineBuilder::default().finish().1);
    let single = BlobReply::Found { blob: BlobRef::of(b"blob"), outline, sources: Vec::new() };
    let answers = golden("blob_reply").into_iter().chain([encode(&single)]).map(|body| led_by(0, &body));
    let blobs = [led_by(1, b""), led_by(4, b"a blob"), led_by(2, b"tile"), led_by(2 + 3 * 5, b"another"), led_by(2 + 6, b"\0")];
    answers.chain(blobs).collect()
}

fn packs() -> Vec<Vec<u8>> {
    let mut pack = PackBuilder::default();
    pack.push("first.txt", Content::Inline(b"one"));
    pack.push("big.jpg", Content::Blob(BlobRef::of(b"elsewhere")));
    pack.push("", Content::Inline(b""));
    vec![PackBuilder::default().finish(), pack.finish()]
}

fn modules() -> Vec<Vec<u8>> {
    let mut modules: Vec<Vec<u8>> = Vec::new();
    for entry in fs::read_dir(functions().join("fixtures")).expect("the fixtures") {
        let text = fs::read(entry.expect("a fixture").path()).expect("a fixture");
        let Ok(module) = wat::parse_bytes(&text) else { continue };
        modules.push(module.into_owned());
    }
    let components = [
        "(component)",
        "(component (import \"wasi:cli/environment@0.2.0\" (instance)))",
        "(component (core module (memory 1) (func (export \"f\"))) (component (core module (memory 2))))",
    ];
    modules.extend(components.iter().map(|text| wat::parse_str(text).expect("a component")));
    modules.extend([b"\x7fELF".to_vec(), b"MZ".to_vec(), b"#!/bin/sh".to_vec(), b"(module)".to_vec()]);
    modules.retain(|module| module.len() <= MODULE_BYTES_MAX);
    modules.sort();
    modules
}

fn artifacts() -> Vec<Vec<u8>> {
    let signed = Signed { body: vec![1, 2, 3], signature: vec![4; 64] };
    let records = golden("signed").into_iter().chain([encode(&signed)]).map(|record| led_by(0, &record));
    records.chain([led_by(1, b"\x7fELF a compiled module"), led_by(1, b"")]).collect()
}

fn executors() -> Vec<Vec<u8>> {
    let attempt = attempt(1, 0);
    let layer = || Layer::Holds;
    let cage = Cage {
        files: layer(),
        network: layer(),
        programs: layer(),
        processes: layer(),
        container: Layer::Missing { reason: "no kernel".into() },
        system_calls: layer(),
        limits: layer(),
        priority: layer(),
    };
    let done = |outcome| {
        let (log, usage) = (bytes::Bytes::from_static(b"log"), Usage::default());
        FromExecutor::Done(Box::new(Done { attempt, outcome, log, log_dropped_bytes: 3, usage }))
    };
    let said = [
        FromExecutor::Loaded { cage },
        FromExecutor::LoadFailed(LoadError::Refused { reason: "no".into() }),
        FromExecutor::Output { piece: bytes::Bytes::from_static(b"piece") },
        done(Ok(Output::Inline(bytes::Bytes::from_static(b"out")))),
        done(Ok(Output::Streamed { size_bytes: 5 })),
        done(Err(Failure::Trap { message: "unreachable".into(), backtrace: vec!["f".into()] })),
        FromExecutor::Fatal { reason: "broken".into() },
        FromExecutor::Refused(Unfit::Shape { what: "another module".into() }),
        FromExecutor::Saving { piece: bytes::Bytes::from_static(b"body") },
        FromExecutor::Saved(Box::new(Saved { attempt, ask: Ask::Suspend, output_bytes: 5, usage: Usage::default() })),
    ];
    let load = Load {
        artifact: "/cache/x.cwasm".into(),
        digest: Digest::of(b"x"),
        kind: ModuleKind::Preview1,
        build: Build::Migratable { code: Digest::of(b"build") },
        limits: AttemptLimits::default(),
        grants: Grants::default(),
        scratch: None,
        priority: Priority::Idle,
        world: World {
            job: JobId(1),
            function: "echo".into(),
            args: vec!["--fast".into()],
            env: vec![("A".into(), "b".into())],
            exit_codes: Default::default(),
            seed: 1,
            clock_start: Timestamp(0),
        },
    };
    let next = encode_frame(&ToExecutor::Serve(World { job: JobId(2), seed: 2, ..load.world.clone() }));
    let run = |input| encode_frame(&ToExecutor::Run(Run { attempt, input, resume: None }));
    let resume = Some(Resume { body: BlobRef::of(b"body"), output_bytes: 5, usage: Usage::default() });
    let input = Input::Inline(bytes::Bytes::from_static(b"in"));
    let resumed = [encode_frame(&ToExecutor::Run(Run { attempt, input, resume })), b"body".to_vec()].concat();
    let load = encode_frame(&ToExecutor::Load(Box::new(load)));
    let streamed = [run(Input::Stream { size_bytes: 9 }), b"raw input".to_vec()].concat();
    let inline = run(Input::Inline(bytes::Bytes::from_static(b"in")));
    let from = said.iter().map(|message| led_by(0, &encode_frame(message)));
    let all: Vec<u8> = said.iter().flat_map(encode_frame).collect();
    from.chain([led_by(0, &all), led_by(1, &[load, streamed, next, inline, resumed].concat())]).collect()
}

fn configs() -> Vec<Vec<u8>> {
    let setting = |line: &&str| line.starts_with("# ") && line.contains(" = ");
    let shown: String = Config::default_toml().lines().filter(setting).map(|line| format!("{}\n", &line[2..])).collect();
    let mut configs: Vec<Vec<u8>> = shown.lines().map(|line| line.as_bytes().to_vec()).collect();
    configs.extend([shown.into_bytes(), b"site=berlin".to_vec(), b"[labels]\nsite = \"berlin\"\n".to_vec()]);
    configs
}

fn conversations() -> Vec<Vec<u8>> {
    let requests =
        [Request::Status, Request::Pause { for_ms: Some(60_000) }, Request::Resume, Request::Leave, Request::Accompany];
    let asked = requests.iter().map(|request| led_by(0, serde_json::to_string(request).expect("our own").as_bytes()));
    let answers = [Response::Done, Response::Error { message: "stopping".into() }];
    let answered = answers.iter().map(|response| led_by(1, serde_json::to_string(response).expect("our own").as_bytes()));
    asked.chain(answered).collect()
}

fn snapshots() -> Vec<Vec<u8>> {
    let host = Host {
        stdin_position: 3,
        output: b"output".to_vec(),
        log_head: b"first".to_vec(),
        log_tail: b"last".to_vec(),
        log_dropped_bytes: 9,
        random_position: 8,
        clock_ns: 1_000,
        descriptors: [1, 0, 0],
        memory_denied: false,
    };
    let globals = vec![(0, Global::I32(-1)), (2, Global::F64(1)), (3, Global::V128(1 << 100))];
    let small = Small { host, globals, stack: vec![7; 40] };
    let mut memory = vec![0; 2 << 16];
    memory[5000] = 1;
    memory[70_000..90_000].fill(2);
    let write = |small, memories: &[(u32, &[u8])]| body::write(Vec::new(), small, memories).expect("a vector takes all");
    let bodies = [write(&Small::default(), &[]), write(&small, &[(0, &memory), (1, &[])])];
    let task = TaskId { job: JobId(1), index: 2 };
    let sealed = bodies.iter().map(|body| {
        let (output, body_blob) = (BlobRef::of(b"left before"), BlobRef::of(body));
        let seal = Seal { task, code: Digest::of(b"build"), output, body: body_blob, usage: Usage::default(), ran_us: 3 };
        led_by(0, &[b"left before", body.as_slice(), &seal.encode()].concat())
    });
    sealed.chain(bodies.iter().map(|body| led_by(1, body))).collect()
}

fn outboxes() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let (outbox, _, thread) = Outbox::open(folder.path(), 1 << 30, |_: Event| {}).expect("a new outbox");
    let empty = fs::read(folder.path().join("outbox.log")).expect("its file");
    for index in 0..3 {
        outbox.keep(finished(attempt(1, index), Payload::inline(vec![index as u8; 20])).into());
    }
    outbox.keep(finished(attempt(2, 0), Payload::Blob(BlobRef::of(b"large"))).into());
    outbox.drop_results(vec![attempt(1, 1)]);
    drop(outbox);
    thread.join().expect("it ends in order");
    let full = fs::read(folder.path().join("outbox.log")).expect("its file");
    let torn = full[..full.len() - 9].to_vec();
    vec![Vec::new(), empty, full, torn]
}

/// Frames of an agent that is `a2` and lies.
fn lies() -> Vec<Vec<u8>> {
    let (theirs, own, none) = (attempt(1, 0), attempt(1, 2), attempt(9, 9));
    let all = vec![theirs, own, none];
    let capacity = Capacity {
        agent: AgentId(2),
        run: 0,
        sequence: 7,
        slots: 9,
        slots_busy: 0,
        waiting: 0,
        cpu_free_percent: 100,
        memory_free_bytes: 8 << 30,
        paused: None,
    };
    let machine = Machine { os: "linux".into(), arch: "x86_64".into(), cores: 4, memory_bytes: 1, engine: "e".into() };
    let snapshot = SnapshotRef { blob: BlobRef::of(b"snapshot"), spent_us: u64::MAX };
    let hello = Hello {
        agent_version: "0.1.0".into(),
        machine,
        labels: Default::default(),
        capacity: capacity.clone(),
        holding: all.clone(),
        snapshots: vec![KeptSnapshot { task: own.task, digest: snapshot.blob.digest }],
        instance: Default::default(),
        open_cage: None,
    };
    let lie = |attempt| finished(attempt, Payload::inline(&b"a lie"[..]));
    let busy = Some(PauseReason::Busy { cpu_percent: 90 });
    let messages = [
        ToCoordinator::Started { attempts: all.clone() },
        ToCoordinator::Paused { attempt: own, reason: busy.clone() },
        ToCoordinator::Paused { attempt: theirs, reason: busy },
        ToCoordinator::Finished(vec![lie(theirs), lie(own), lie(own), lie(none)]),
        ToCoordinator::Finished(vec![Finished { outcome: Outcome::Failed(Failure::Exit { code: 1 }), ..lie(own) }]),
        ToCoordinator::Released { attempts: all.clone(), reason: ReleaseReason::Stopping },
        ToCoordinator::Refused { attempt: own, reason: RefuseReason::UnknownTerms },
        ToCoordinator::Saved { attempt: own, snapshot },
        ToCoordinator::Saved { attempt: theirs, snapshot },
        ToCoordinator::Heartbeat { frame_read: u64::MAX, holding: vec![theirs] },
        ToCoordinator::Heartbeat { frame_read: 0, holding: all },
        ToCoordinator::Capacity(Capacity { paused: Some(PauseReason::Owner { until: None }), ..capacity.clone() }),
        ToCoordinator::Capacity(capacity),
        ToCoordinator::Hello(Box::new(hello)),
        ToCoordinator::Leaves,
        ToCoordinator::Farewell,
    ];
    let single = messages.iter().map(|message| encode(&ToCoordinatorFrame { messages: vec![message.clone()] }));
    single.chain([encode(&ToCoordinatorFrame { messages: messages.to_vec() })]).collect()
}

/// Frames of a coordinator.
fn orders() -> Vec<Vec<u8>> {
    let blob = BlobRef::of(b"module");
    let manifest = ModuleManifest {
        function: "echo".into(),
        number: 1,
        kind: ModuleKind::Preview1,
        module: blob,
        canonical_nans: false,
        artifacts: vec![Artifact { engine: ENGINE.into(), blob: BlobRef::of(b"artifact") }],
        migratable: None,
    };
    let signed = sign(&authority(), &manifest);
    let brief = JobBrief {
        job: JobId(1),
        job_name: "nightly".into(),
        submitter: "ana".into(),
        manifest: signed.body,
        manifest_signature: signed.signature,
        args: Vec::new(),
        env: Vec::new(),
        limits: AttemptLimits::default(),
        exit_codes: "0,3-5".parse().unwrap_or_default(),
        grants: Grants::default(),
        seed: 1,
        clock_start: Timestamp(0),
    };
    let attempts = vec![attempt(1, 0), attempt(1, 1), attempt(1, 2)];
    let input = |index: u32| if index == 1 { Payload::Blob(BlobRef::of(b"input")) } else { Payload::inline(&b"in"[..]) };
    let assign = attempts
        .iter()
        .map(|attempt| Assignment {
            attempt: *attempt,
            input: input(attempt.task.index),
            build: lull_shared::message::Build::Plain,
            resume: None,
        })
        .collect();
    let messages = [
        ToAgent::Brief(Box::new(brief)),
        ToAgent::Assign(assign),
        ToAgent::Recall { attempts: attempts.clone(), reason: RecallReason::Rebalance },
        ToAgent::Recall { attempts: attempts[..1].to_vec(), reason: RecallReason::Cancelled },
        ToAgent::Acknowledge { attempts },
        ToAgent::Intake(Intake::Draining),
        ToAgent::Forget { job: JobId(1) },
        ToAgent::Goodbye { reason: GoodbyeReason::Revoked },
    ];
    let upto = |count: usize| encode(&ToAgentFrame { number: 9, messages: messages[..count].to_vec() });
    let hows = [0, 1, 2, 4, 8].into_iter().map(|how| led_by(how, &upto(messages.len())));
    let growing = (1..messages.len()).map(|count| led_by(8, &upto(count)));
    hows.chain(growing).chain(golden("to_agent").into_iter().map(|body| led_by(0, &body))).collect()
}

fn requests() -> Vec<Vec<u8>> {
    const REQUESTS: [&str; 46] = [
        "GET /health",
        "GET /api/v1/status",
        "GET /api/v1/tokens",
        "POST /api/v1/tokens\n{\"role\":\"viewer\",\"name\":\"vera\"}",
        "POST /api/v1/tokens\n{\"role\":\"agent\",\"uses_max\":3,\"expires_s\":60}",
        "DELETE /api/v1/tokens/2",
        "GET /api/v1/audit",
        "GET /api/v1/audit?limit=3&before=5",
        "GET /api/v1/functions",
        "GET /api/v1/functions/noop",
        "GET /api/v1/functions/noop?number=1",
        "DELETE /api/v1/functions/noop?number=7",
        "POST /api/v1/functions/other/publications\n{\"module\":\"b3:0000000000000000000000000000000000000000000000000000000000000000\",\"options\":{\"canonical_nans\":true,\"migratable\":\"always\",\"cost_percent\":120}}",
        "GET /api/v1/publications/p00c0ffee00c0ffee?seen=0&wait_s=1",
        "GET /api/v1/functions/noop/versions/1/module",
        "PUT /api/v1/blobs\nsome bytes",
        "GET /api/v1/blobs/b3:0000000000000000000000000000000000000000000000000000000000000000",
        "HEAD /api/v1/blobs/b3:0000000000000000000000000000000000000000000000000000000000000000",
        "GET /api/v1/jobs",
        "GET /api/v1/jobs?state=active&submitter=ada&limit=2&before=9",
        "POST /api/v1/jobs\n{\"function\":\"noop\",\"inputs\":{\"range\":{\"first\":0,\"count\":3}}}",
        "POST /api/v1/jobs\n{\"function\":\"noop@1\",\"inputs\":{\"range\":{\"first\":5,\"count\":1}},\"name\":\"n\",\"args\":[\"-v\"],\
         \"env\":{\"A\":\"b\"},\"priority\":-3,\"retries\":1,\"backoff_ms\":5,\"backoff_max_ms\":9,\"time_limit_ms\":1000,\
         \"memory_bytes\":1000000,\"output_bytes\":5,\"log_bytes\":6,\"scratch_bytes\":7,\"grants\":[\"clock\",\"scratch\"]}",
        "POST /api/v1/jobs\n{\"function\":\"noop\",\"inputs\":{\"range\":{\"first\":0,\"count\":1}},\"require\":[\"os=linux\",\"memory>=8GiB\"],\
         \"window\":\"22:00-06:00 mon-fri Europe/Amsterdam\",\"finish_by\":\"2036-11-24T06:00:00Z\",\
         \"after\":[{\"job\":\"j1\",\"condition\":\"any\"}],\"failures_max\":3,\"idempotency_key\":\"k\"}",
        "POST /api/v1/jobs\n{\"function\":\"noop\",\"inputs\":{\"numbers\":\"0-10:2,20\"},\"window\":\"22:00-06:00\",\"zone\":\"Europe/Paris\",\
         \"finish_in_ms\":86400000,\"at_once\":4,\"exit_codes\":\"0,3-5\",\"fail_fast_on\":[\"trap\",\"exit=2\"]}",
        "POST /api/v1/jobs/j2/retry\n{\"finish_by\":\"2036-11-24T06:00:00Z\"}",
        "GET /api/v1/jobs?mine=true&limit=1",
        "POST /api/v1/jobs\n{\"function\":\"noop\",\"inputs\":{\"pack\":{\"digest\":\
         \"b3:0000000000000000000000000000000000000000000000000000000000000000\",\"size_bytes\":16}}}",
        "POST /api/v1/jobs\n{\"function\":\"noop\",\"inputs\":{\"range\":{\"first\":18446744073709551615,\"count\":4294967295}}}",
        "GET /api/v1/jobs/j1",
        "GET /api/v1/jobs/j1/wait?timeout_s=0",
        "GET /api/v1/jobs/j9/wait?timeout_s=18446744073709551615",
        "GET /api/v1/jobs/j9/events",
        "POST /api/v1/jobs/j2/cancel",
        "POST /api/v1/jobs/j2/retry",
        "GET /api/v1/jobs/j1/results?from=0&limit=2",
        "GET /api/v1/jobs/j1/tasks?state=queued&from=1&limit=1",
        "GET /api/v1/jobs/j1/tasks/0",
        "GET /api/v1/jobs/j1/tasks/0/output",
        "GET /api/v1/jobs/j1/tasks/0/log?attempt=1",
        "GET /api/v1/jobs/j1/tasks/0/explain",
        "GET /api/v1/agents",
        "GET /api/v1/agents/a1",
        "POST /api/v1/agents/desk/intake\n{\"intake\":\"draining\"}",
        "GET /api/v1/net/peers",
        "GET /api/v1/net/doctor",
        "PUT /api/v1/jobs/%2e%2e/%00?a=%ff&&b",
    ];
    REQUESTS.iter().map(|request| request.as_bytes().to_vec()).collect()
}

fn words() -> Vec<Vec<u8>> {
    const WORDS: [(u8, &str); 34] = [
        (0, "os=linux"),
        (0, "memory>=8GiB"),
        (0, "site != lobby"),
        (0, "cores<=4"),
        (1, "22:00-06:00 mon-fri Europe/Amsterdam"),
        (1, "00:00-24:00"),
        (1, "01:30-02:30 sat,sun"),
        (1, "08:00-18:00 fri-mon,wed America/New_York"),
        (2, "0-999"),
        (2, "7"),
        (3, "1h30m"),
        (3, "90s"),
        (4, "256MiB"),
        (4, "2GB"),
        (5, "ok:j41"),
        (5, "any:j3"),
        (6, "KEY=VALUE=x"),
        (7, "06:00"),
        (7, "in 8h"),
        (7, "2026-11-24T06:00:00Z"),
        (7, "02:30"),
        (8, "j42"),
        (9, "j42.7"),
        (10, "j42.7#2"),
        (11, "a3"),
        (12, "v5"),
        (13, "b3:0000000000000000000000000000000000000000000000000000000000000000"),
        (14, "[\"text\", 7, {\"k\": 1}]"),
        (14, "[{\"label\": \"named\", \"input\": \"x\"}, {\"label\": \"n2\", \"input\": [1]}]"),
        (14, "{}"),
        (15, "one\r\n\ntwo words\n"),
        (10, "1.2#3"),
        (3, "584542046years"),
        (7, "in 9999years"),
    ];
    WORDS.iter().map(|(which, text)| led_by(*which, text.as_bytes())).collect()
}

fn attempt(job: u64, index: u32) -> AttemptId {
    AttemptId { task: TaskId { job: JobId(job), index }, number: 1 }
}

fn finished(attempt: AttemptId, output: Payload) -> Finished {
    let (outcome, log) = (Outcome::Succeeded { output }, bytes::Bytes::from_static(b"log"));
    Finished { attempt, outcome, log, log_dropped_bytes: 0, usage: Usage::default() }
}
