//! Jobs, agents and changes as cases need them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lull_scheduler::{
    effect::{Change, EndedAttempt, NewJob, TaskAfter},
    event::{EndedTask, OpenAttempt, OpenPlace, Retrying},
    rollout::Plan,
};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId, JobId, TaskId, TokenId, VersionId},
    identity::Signed,
    job::{Inputs, JobSpec},
    message::{Build, ModuleKind, Payload, SnapshotRef},
    release::Platform,
    resources::{Capacity, Machine},
    state::{AttemptEnd, Failure, Intake, JobState, PauseReason, TaskState, Usage},
    time::Timestamp,
};

use super::{
    super::record::{
        AgentRecord, Bound, CoordinatorRecord, Enrolment, EnrolmentOutcome, NewLabel, NewToken, NewVersion, RolloutRecord,
        SignManifest, TokenRole,
    },
    T0, World,
};

/// The instant that many seconds after the case began.
pub(crate) fn at(seconds: u64) -> Timestamp {
    T0 + Duration::from_secs(seconds)
}

/// The task with this index of this job.
pub(crate) fn task(job: u64, index: u32) -> TaskId {
    TaskId { job: JobId(job), index }
}

/// An attempt.
pub(crate) fn attempt(job: u64, index: u32, number: u32) -> AttemptId {
    AttemptId { task: task(job, index), number }
}

/// A job with this many tasks, as plain as can be.
pub(crate) fn spec(count: u32) -> JobSpec {
    JobSpec {
        args: vec!["--size".into(), "100".into()],
        env: vec![("LANG".into(), "C".into())],
        constraints: vec!["os=linux".parse().expect("a constraint")],
        window: Some("22:00-06:00 mon-fri Europe/Amsterdam".parse().expect("a window")),
        ..JobSpec::plain("resize", VersionId(1), Inputs::Range { first: 0, count })
    }
}

/// The token of whoever is called so.
pub(crate) fn owner(name: &str) -> TokenId {
    TokenId(name.bytes().fold(0, |number, byte| (number * 31 + u64::from(byte)) % 1_000_003))
}

/// A submission.
pub(crate) fn submitted_as(job: u64, submitter: &str, spec: JobSpec) -> Change {
    let version_name = "resize@1".into();
    Change::JobSubmitted(Box::new(NewJob {
        job: JobId(job),
        owner: Some(owner(submitter)),
        submitter: submitter.into(),
        spec,
        version_name,
        seed: u64::MAX - job,
        movable: None,
        at: at(job),
    }))
}

/// A submission by Anna of a plain job.
pub(crate) fn submitted(job: u64, count: u32) -> Change {
    submitted_as(job, "anna", spec(count))
}

/// Anna retries a job; `retrying`: from where, and how many failures are forgiven.
pub(crate) fn retried(job: u64, retrying: Option<(u32, u32)>, seconds: u64) -> Change {
    Change::JobRetried { job: JobId(job), by: "anna".into(), finish_by: None, retrying: way(retrying), at: at(seconds) }
}

/// A part of a retry, and where it goes on.
pub(crate) fn tasks_retried(job: u64, tasks: &[EndedTask], retrying: Option<(u32, u32)>, seconds: u64) -> Change {
    Change::TasksRetried { job: JobId(job), tasks: tasks.to_vec(), retrying: way(retrying), at: at(seconds) }
}

fn way(retrying: Option<(u32, u32)>) -> Option<Retrying> {
    retrying.map(|(from, forgiven)| Retrying { from, forgiven })
}

/// A task that ended badly.
pub(crate) fn bad_task(index: u32, attempts: u32, state: TaskState) -> EndedTask {
    EndedTask { index, attempts, state, failed_at: None }
}

/// An attempt begins.
pub(crate) fn started(attempt: AttemptId, agent: u64, seconds: u64) -> Change {
    let (agent, at) = (AgentId(agent), at(seconds));
    Change::AttemptStarted { attempt, agent, at, build: Build::Plain, resume: None, beside: false, cause: None }
}

/// A second attempt begins beside another.
pub(crate) fn started_beside(attempt: AttemptId, agent: u64, seconds: u64) -> Change {
    let (agent, at, cause) = (AgentId(agent), at(seconds), Some("the first is slow".into()));
    Change::AttemptStarted { attempt, agent, at, build: Build::Plain, resume: None, beside: true, cause }
}

/// The only live attempt of its task leaves the processor or goes on.
pub(crate) fn paused(attempt: AttemptId, reason: Option<PauseReason>, seconds: u64) -> Change {
    Change::AttemptPaused { attempt, task_paused: reason.is_some(), reason, at: at(seconds) }
}

/// The place of a task of which only this attempt is live.
pub(crate) fn with(number: u32, agent: u64, seconds: u64) -> OpenPlace {
    OpenPlace::At(vec![OpenAttempt {
        number,
        agent: AgentId(agent),
        since: at(seconds),
        resumed_us: None,
        build: Build::Plain,
        cause: None,
    }])
}

/// A snapshot, made up from the second at which it was saved.
pub(crate) fn snapshot(seconds: u64) -> SnapshotRef {
    SnapshotRef { blob: BlobRef::of(&seconds.to_le_bytes()), spent_us: seconds * 1_000_000 }
}

/// An attempt begins where another left off.
pub(crate) fn resumed(attempt: AttemptId, agent: u64, seconds: u64, from: SnapshotRef) -> Change {
    let (agent, at, resume) = (AgentId(agent), at(seconds), Some(Box::new(from)));
    Change::AttemptStarted { attempt, agent, at, build: Build::Migratable, resume, beside: false, cause: None }
}

/// A snapshot of a live attempt.
pub(crate) fn saved(attempt: AttemptId, agent: u64, seconds: u64) -> Change {
    Change::SnapshotSaved { attempt, agent: AgentId(agent), snapshot: snapshot(seconds), at: at(seconds) }
}

/// An attempt succeeds with this output.
pub(crate) fn succeeded(attempt: AttemptId, agent: u64, seconds: u64, output: &[u8]) -> Change {
    Change::AttemptEnded(Box::new(EndedAttempt {
        attempt,
        agent: AgentId(agent),
        end: AttemptEnd::Succeeded,
        reason: None,
        failure: None,
        at: at(seconds),
        after: TaskAfter::Succeeded,
        output: Some(Payload::inline(output.to_vec())),
        answer: None,
        log: Bytes::from_static(b"done\n"),
        log_dropped_bytes: 0,
        usage: Usage { wall_us: 1_500_000, cpu_us: 1_000_000, memory_peak_bytes: 65_536 },
        slot_us: 1_500_000,
    }))
}

/// An attempt that ends had a slot for so long.
pub(crate) fn with_slot(change: Change, seconds: u64) -> Change {
    let Change::AttemptEnded(mut end) = change else { panic!("{change:?} ends no attempt") };
    end.slot_us = seconds * 1_000_000;
    Change::AttemptEnded(end)
}

/// An attempt brings an output that is to be compared.
pub(crate) fn answered(attempt: AttemptId, agent: u64, seconds: u64, output: &[u8], after: TaskAfter) -> Change {
    let mut change = succeeded(attempt, agent, seconds, output);
    if let Change::AttemptEnded(end) = &mut change {
        (end.output, end.answer, end.after) = (None, Some(Digest::of(output)), after);
        end.reason = Some("it is compared".into());
    }
    change
}

/// An attempt ends otherwise.
pub(crate) fn ended(attempt: AttemptId, agent: u64, seconds: u64, end: AttemptEnd, after: TaskAfter) -> Change {
    let failed = end == AttemptEnd::Failed;
    let failure = failed.then_some(Failure::Exit { code: 3 });
    Change::AttemptEnded(Box::new(EndedAttempt {
        attempt,
        agent: AgentId(agent),
        end,
        reason: Some(failure.as_ref().map_or_else(|| format!("it was {end}"), ToString::to_string)),
        failure,
        at: at(seconds),
        after,
        output: None,
        answer: None,
        log: Bytes::new(),
        log_dropped_bytes: 0,
        usage: Usage::default(),
        slot_us: 0,
    }))
}

/// A failed attempt that is tried again at once.
pub(crate) fn again(attempt: AttemptId, agent: u64, seconds: u64, failures: u32) -> Change {
    ended(attempt, agent, seconds, AttemptEnd::Failed, TaskAfter::Again { not_before: at(seconds), failures })
}

/// A job is over.
pub(crate) fn job_ended(job: u64, state: JobState, seconds: u64) -> Change {
    Change::JobEnded { job: JobId(job), state, at: at(seconds) }
}

/// A job is stopped.
pub(crate) fn stopped(job: u64, state: JobState, seconds: u64) -> Change {
    Change::JobStopped { job: JobId(job), state, by: "ben".into(), at: at(seconds) }
}

/// A task ends without an agent.
pub(crate) fn task_ended(task: TaskId, state: TaskState, seconds: u64) -> Change {
    Change::TaskEnded { task, state, at: at(seconds) }
}

/// A machine.
pub(crate) fn machine() -> Machine {
    Machine { os: "linux".into(), arch: "x86_64".into(), cores: 8, memory_bytes: 16 << 30, engine: "w48".into() }
}

/// What that agent offers, with so many free slots.
pub(crate) fn capacity(agent: u64, slots: u16) -> Capacity {
    Capacity {
        agent: AgentId(agent),
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

/// A machine that has joined and was never connected.
pub(crate) fn agent(agent: u64, name: &str) -> AgentRecord {
    AgentRecord {
        agent: AgentId(agent),
        name: name.into(),
        token: TokenId(1),
        group: None,
        peer: Vec::new(),
        intake: Intake::Open,
        enrolled: Timestamp::default(),
        last_connected: None,
        last_disconnected: None,
        version: None,
        machine: None,
        labels: Default::default(),
        quarantine: None,
        left: None,
        removed: None,
    }
}

/// A token about to be made; the fingerprint is that byte over and over.
pub(crate) fn token(role: TokenRole, byte: u8) -> NewToken {
    NewToken {
        role,
        name: Some(format!("{} {byte}", role.as_str())),
        bound: Bound::default(),
        fingerprint: [byte; 32],
        uses_max: None,
        expires: None,
        by: "root".into(),
        at: at(0),
    }
}

/// A machine that wants in with the token made from this byte.
pub(crate) fn enrolment(token: u64, byte: u8, peer: &str, name: &str) -> Enrolment {
    Enrolment { token, fingerprint: [byte; 32], peer: peer.as_bytes().to_vec(), name: name.into(), at: at(1) }
}

/// Signs nothing: the number is the body.
#[derive(Debug)]
pub(crate) struct Numbered;

impl SignManifest for Numbered {
    fn sign(&self, number: u32) -> Signed {
        Signed { body: number.to_le_bytes().to_vec(), signature: vec![1, 2, 3] }
    }
}

/// A label that is to stand for a version.
pub(crate) fn label(function: &str, label: &str, number: u32, follows: u64, before: Option<u64>) -> NewLabel {
    let (function, label, by) = (function.into(), label.into(), "root".into());
    NewLabel { function, label, number, follows, before, back: false, by, at: at(5) }
}

/// A rollout about to begin.
pub(crate) fn rollout(number: u64, version: &str) -> RolloutRecord {
    RolloutRecord {
        number,
        platform: Platform::DebAmd64,
        version: version.into(),
        package: BlobRef::of(b"some package"),
        release: Signed { body: vec![1, 2], signature: vec![3; 64] },
        expires: at(1_000),
        plan: Plan::default(),
        standing: Default::default(),
        begun: at(2),
        begun_by: "root".into(),
    }
}

/// A version about to be published.
pub(crate) fn version(function: &str, module: &[u8]) -> NewVersion {
    NewVersion {
        function: function.into(),
        kind: ModuleKind::Preview1,
        module: BlobRef::of(module),
        canonical_nans: false,
        beyond: 0,
        sign: Arc::new(Numbered),
        interface: vec!["import wasi_snapshot_preview1 fd_write".into(), "export _start".into()],
        by: "root".into(),
        at: at(2),
    }
}

impl World {
    /// Enrols agents 1 to `agents` and publishes version 1: what jobs and attempts refer to.
    pub(crate) async fn peopled(self, agents: u64) -> Self {
        let made = self.store.create_token(&self.lead, token(TokenRole::Agent, 200)).await;
        let made = made.expect("an answer").expect("a token is made");
        for number in 1..=agents {
            let wish = enrolment(made.token, 200, &format!("peer {number}"), &format!("desk-{number}"));
            let agent = self.enrolled(wish).await;
            assert_eq!(agent.agent, AgentId(number), "agents are numbered from 1");
        }
        let published = self.store.publish(&self.lead, version("resize", b"module")).await.expect("a module is published");
        assert_eq!(published.0.version, VersionId(1));
        self
    }

    /// Enrols a machine that must be let in.
    pub(crate) async fn enrolled(&self, wish: Enrolment) -> AgentRecord {
        match self.store.enrol(&self.lead, wish).await.expect("the store answers") {
            EnrolmentOutcome::Enrolled { agent, .. } => *agent,
            refused => panic!("the machine should be let in: {refused:?}"),
        }
    }
}

/// A coordinator.
pub(crate) fn coordinator(name: &str, seen: Timestamp) -> CoordinatorRecord {
    CoordinatorRecord {
        peer: format!("12D3KooW{name}"),
        name: name.into(),
        machine: format!("{name}.example.org"),
        network: "0123456789abcdef0123456789abcdef".into(),
        http: format!("http://{name}.example.org:7411"),
        addresses: vec![format!("/dns4/{name}.example.org/tcp/7410/p2p/12D3KooW{name}")],
        leads: None,
        seen,
    }
}
