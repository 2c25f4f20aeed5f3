//! From what the store remembers and the scheduler knows to what the interface says.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use lull_scheduler::{
    effect::NewJob,
    history::IdleHours,
    view::{AgentVerdict, AgentView, Explanation, JobView, Obstacle, Outage, Placement, SecondCopy, Unreachable},
};
use lull_shared::{
    hint,
    id::{AttemptId, JobId, TokenId},
    identity::Authority,
    message::{ModuleManifest, Payload},
    share::Share,
    state::{Failure, PauseReason, Usage, WaitReason},
    time::Timestamp,
};

use crate::{api::*, loss::Loss, store::record::*};

/// A wait and its word; a window that opens too late for the moment at which the tasks expire says so.
pub fn waiting(reason: &WaitReason, finish_by: Option<Timestamp>) -> Reason {
    let message = match too_late(reason, finish_by) {
        Some(finish_by) => format!("{reason}, and its tasks expire at {finish_by}, before that"),
        None => reason.to_string(),
    };
    Reason::new(wait_kind(reason), message).at(reason.at())
}

/// The word of a wait.
pub const fn wait_kind(reason: &WaitReason) -> &'static str {
    match reason {
        WaitReason::Window { .. } => "window",
        WaitReason::Dependency { .. } => "dependency",
        WaitReason::Backoff { .. } => "backoff",
        WaitReason::Verification { .. } => "verification",
        WaitReason::AtOnce { .. } => "at_once",
    }
}

/// When tasks expire for which a window opens too late, if it ever does.
pub fn too_late(reason: &WaitReason, finish_by: Option<Timestamp>) -> Option<Timestamp> {
    match reason {
        WaitReason::Window { opens } => finish_by.filter(|by| opens.is_none_or(|opens| opens >= *by)),
        WaitReason::Dependency { .. }
        | WaitReason::Backoff { .. }
        | WaitReason::Verification { .. }
        | WaitReason::AtOnce { .. } => None,
    }
}

/// A pause and its word.
pub fn paused(reason: &PauseReason) -> Reason {
    Reason::new(reason.kind(), reason).at(reason.at())
}

/// What is in the way on an agent, and its word.
pub fn obstacle(obstacle: &Obstacle) -> Reason {
    let kind = match obstacle {
        Obstacle::Away { .. } => "away",
        Obstacle::Asleep { .. } => "asleep",
        Obstacle::Closed(_) => "closed",
        Obstacle::Quarantined { .. } => "quarantined",
        Obstacle::Answered => "answered",
        Obstacle::Paused(_) => "paused",
        Obstacle::NoFreeSlot { .. } => "no_free_slot",
        Obstacle::Memory { .. } => "memory",
        Obstacle::Label { .. } => "label",
        Obstacle::Refused { .. } => "refused",
    };
    Reason::new(kind, obstacle).at(obstacle.at())
}

fn second_copy(copy: &SecondCopy) -> Reason {
    let kind = match copy {
        SecondCopy::WaitsForSlot => "no_free_slot",
        SecondCopy::Together { .. } => "together",
        SecondCopy::CutOff => "cut_off",
        SecondCopy::Enough { .. } => "enough",
    };
    Reason::new(kind, copy).at(copy.at())
}

/// What is wrong with the network.
pub fn outage(outage: &Outage) -> OutageBody {
    OutageBody {
        kind: outage.kind.as_str().into(),
        since: outage.since.to_jiff(),
        agents: outage.agents,
        copies_from: outage.copies_from.map(|at| at.to_jiff()),
        message: outage.to_string(),
    }
}

fn failure(failure: &Failure) -> FailureBody {
    let backtrace = match failure {
        Failure::Trap { backtrace, .. } => backtrace.clone(),
        _ => Vec::new(),
    };
    FailureBody { kind: failure.kind().into(), message: failure.to_string(), backtrace }
}

/// A job as remembered, with what the scheduler knows better while it is active.
pub fn job(record: &JobRecord, view: Option<&JobView>) -> JobBody {
    JobBody {
        job: record.job,
        name: record.spec.name.clone(),
        function: record.version_name.clone(),
        submitter: record.submitter.clone(),
        owner: record.owner,
        state: record.state,
        stopping: view.map_or(record.stopping, |view| view.stopping),
        stopped_by: record.stopped_by.clone(),
        reason: ending::of_job(record, view.map_or(record.stopping, |view| view.stopping)),
        tasks: u64::from(record.spec.inputs.count()),
        counts: view.map_or(record.counts, |view| view.counts),
        unreachable: view.map_or(0, |view| view.unreachable),
        waiting: view.and_then(|view| view.waiting.as_ref()).map(|reason| waiting(reason, record.spec.finish_by)),
        moved: view.map(|view| view.moved),
        lost: view.map(|view| view.lost),
        mean_wall_ms: view.and_then(|view| view.mean_wall_us).map(|mean| mean as f64 / 1_000.0),
        priority: record.spec.priority.0,
        submitted: record.submitted.to_jiff(),
        ended: record.ended.map(|at| at.to_jiff()),
    }
}

/// What the store forgot.
pub fn store_loss(loss: &Loss) -> StoreLoss {
    let (message, hint) = hint::split(&loss.message);
    StoreLoss { at: loss.at.to_jiff(), message: message.to_owned(), hint: hint.unwrap_or_default().to_owned() }
}

/// The store does not answer since then.
pub fn store_silent(since: Timestamp) -> StoreSilent {
    StoreSilent {
        since: since.to_jiff(),
        message: format!(
            "the database does not answer since {since}: agents go on with what they have, and this is what the coordinator \
             knows; nothing new starts, and no result counts, before it is back"
        ),
    }
}

/// Jobs as the scheduler alone knows them.
pub fn jobs_in_memory(jobs: &[NewJob], views: &[JobView]) -> Vec<JobBody> {
    let views: BTreeMap<JobId, &JobView> = views.iter().map(|view| (view.job, view)).collect();
    let body = |new: &NewJob| {
        let view = *views.get(&new.job)?;
        Some(JobBody {
            job: new.job,
            name: new.spec.name.clone(),
            function: new.version_name.clone(),
            submitter: new.submitter.clone(),
            owner: new.owner,
            state: view.state,
            stopping: view.stopping,
            stopped_by: None,
            reason: None,
            tasks: u64::from(new.spec.inputs.count()),
            counts: view.counts,
            unreachable: view.unreachable,
            waiting: view.waiting.as_ref().map(|reason| waiting(reason, new.spec.finish_by)),
            moved: Some(view.moved),
            lost: Some(view.lost),
            mean_wall_ms: view.mean_wall_us.map(|mean| mean as f64 / 1_000.0),
            priority: new.spec.priority.0,
            submitted: new.at.to_jiff(),
            ended: None,
        })
    };
    jobs.iter().filter_map(body).collect()
}

/// The conditions under which a job runs.
pub fn terms(record: &JobRecord) -> JobTerms {
    let spec = &record.spec;
    let grants = [(spec.grants.clock, Grant::Clock), (spec.grants.random, Grant::Random), (spec.grants.scratch, Grant::Scratch)];
    JobTerms {
        args: spec.args.clone(),
        env: spec.env.iter().cloned().collect(),
        inputs: match &spec.inputs {
            lull_shared::job::Inputs::Range { first, count } => InputsBody::Range { first: *first, count: *count },
            lull_shared::job::Inputs::Numbers(numbers) => InputsBody::Numbers(Text(numbers.clone())),
            lull_shared::job::Inputs::Pack { pack, .. } => InputsBody::Pack { digest: pack.digest, size_bytes: pack.size_bytes },
        },
        retries: spec.retry.retries,
        backoff_ms: spec.retry.backoff_ms,
        backoff_max_ms: spec.retry.backoff_max_ms,
        time_limit_ms: spec.limits.time_ms,
        memory_bytes: spec.limits.memory_bytes,
        output_bytes: spec.limits.output_bytes,
        log_bytes: spec.limits.log_bytes,
        scratch_bytes: spec.limits.scratch_bytes,
        grants: grants.into_iter().filter_map(|(given, grant)| given.then_some(grant)).collect(),
        require: spec.constraints.iter().cloned().map(Text).collect(),
        window: spec.window.as_ref().map(ToString::to_string),
        finish_by: spec.finish_by.map(|at| at.to_jiff()),
        zone: Text(spec.zone.clone()),
        after: spec.after.iter().copied().map(AfterBody::from).collect(),
        failures_max: spec.failures_max,
        at_once: spec.at_once,
        exit_codes: Text(spec.exit_codes.clone()),
        fail_fast_on: spec.fail_fast_on.iter().copied().map(Text).collect(),
        idempotency_key: spec.idempotency_key.clone(),
        verify: Some(spec.verify).filter(|share| *share != Share::NONE),
        lost_after_ms: spec.lost_after_ms,
    }
}

/// A task as remembered.
pub fn task(record: TaskRecord, label: Option<String>, unreachable: &Unreachable) -> TaskBody {
    TaskBody {
        task: record.task,
        label,
        state: record.state,
        attempts: record.attempts,
        failures: record.failures,
        agent: record.agent,
        agent_name: record.agent_name,
        started: record.started.map(|at| at.to_jiff()),
        unreachable: unreachable.tasks.get(&record.task.index).map(|at| at.to_jiff()),
        ended: record.ended.map(|at| at.to_jiff()),
        reason: record.reason,
        not_before: record.not_before.map(|at| at.to_jiff()),
        output_bytes: record.output_bytes,
    }
}

/// An attempt as remembered.
pub fn attempt(record: AttemptRecord, unreachable: &Unreachable, so_far: &BTreeMap<AttemptId, Usage>) -> AttemptBody {
    AttemptBody {
        usage_so_far: so_far.get(&record.attempt).copied().filter(|_| record.end.is_none()),
        unreachable: unreachable.attempts.get(&record.attempt).map(|at| at.to_jiff()),
        attempt: record.attempt,
        agent: record.agent,
        agent_name: record.agent_name,
        started: record.started.to_jiff(),
        build: record.build,
        resumed: record.resumed.map(resumed),
        cause: record.cause,
        ended: record.ended.map(|at| at.to_jiff()),
        end: record.end,
        reason: record.reason,
        failure: record.failure.as_ref().map(failure),
        paused: record.paused.as_ref().map(paused),
        usage: record.usage,
    }
}

/// A move.
pub fn task_move(record: MoveRecord) -> MoveBody {
    MoveBody {
        attempt: record.attempt,
        from: record.from,
        from_name: record.from_name,
        to: record.to,
        to_name: record.to_name,
        end: record.end,
        cause: record.cause,
        resumed: record.resumed.map(resumed),
        left: record.left.to_jiff(),
        pause_ms: u64::try_from(record.arrived.since(record.left).as_millis()).unwrap_or(u64::MAX),
    }
}

fn resumed(resumed: Resumed) -> ResumedBody {
    ResumedBody { size_bytes: resumed.size_bytes, spent_ms: resumed.spent_us / 1_000 }
}

/// A result; its bytes come along when they are few.
pub fn result(record: &ResultRecord, label: Option<String>) -> ResultBody {
    let (output, inline_base64) = match &record.output {
        Payload::Inline(bytes) => (
            lull_shared::digest::BlobRef { digest: record.output.digest(), size_bytes: bytes.len() as u64 },
            Some(BASE64.encode(bytes)),
        ),
        Payload::Blob(blob) => (*blob, None),
    };
    ResultBody { task: record.task, label, attempt: record.attempt, output: output.into(), inline_base64 }
}

/// Why a task is where it is.
pub fn explanation(explanation: Explanation) -> ExplanationBody {
    ExplanationBody {
        task: explanation.task,
        state: explanation.state,
        waiting: explanation.waiting.as_ref().map(|reason| waiting(reason, explanation.finish_by)),
        at: explanation.at.map(placement),
        beside: explanation.beside.into_iter().map(placement).collect(),
        second_copy: explanation.second_copy.as_ref().map(second_copy),
        ahead: explanation.ahead,
        build: Some(ChoiceBody { build: explanation.build.build, reason: explanation.build.reason.to_string() }),
        reason: None,
        outage: explanation.outage.as_ref().map(outage),
        agents: explanation.agents.into_iter().map(verdict).collect(),
    }
}

fn placement(placement: Placement) -> PlacementBody {
    PlacementBody {
        attempt: placement.attempt,
        agent: placement.agent,
        agent_name: placement.agent_name,
        since: placement.since.to_jiff(),
        paused: placement.paused.as_ref().map(paused),
        unreachable: placement.unreachable.map(|at| at.to_jiff()),
        cause: placement.cause,
    }
}

fn verdict(verdict: AgentVerdict) -> VerdictBody {
    VerdictBody { agent: verdict.agent, agent_name: verdict.name, obstacles: verdict.obstacles.iter().map(obstacle).collect() }
}

/// An agent as remembered, with what the scheduler knows of it now.
pub fn agent(record: &AgentRecord, view: Option<&AgentView>) -> AgentBody {
    let machine = view.and_then(|view| view.machine.as_ref()).or(record.machine.as_ref());
    let quarantine = view.map_or(record.quarantine.as_ref(), |view| view.quarantine.as_ref());
    let capacity = view.filter(|view| view.connected.is_some()).and_then(|view| view.capacity.as_ref());
    AgentBody {
        agent: record.agent,
        name: record.name.clone(),
        group: record.group.clone(),
        intake: view.map_or(record.intake, |view| view.intake),
        left: record.left().map(|at| at.to_jiff()),
        removed: record.removed.map(|at| at.to_jiff()),
        quarantine: quarantine.map(|found| QuarantineBody {
            kind: found.kind,
            since: found.since.to_jiff(),
            reason: found.reason.clone(),
        }),
        enrolled: record.enrolled.to_jiff(),
        connected: view.and_then(|view| view.connected).map(|at| at.to_jiff()),
        last_heard: view.and_then(|view| view.last_heard).or(record.last_disconnected).map(|at| at.to_jiff()),
        version: view.and_then(|view| view.version.clone()).or_else(|| record.version.clone()),
        behind: None,
        machine: machine.map(|machine| MachineBody {
            os: machine.os.clone(),
            arch: machine.arch.clone(),
            cores: machine.cores,
            memory_bytes: machine.memory_bytes,
            engine: machine.engine.clone(),
        }),
        labels: view.map_or_else(|| record.labels.clone(), |view| view.labels.clone()),
        capacity: capacity.map(|capacity| CapacityBody {
            slots: capacity.slots,
            slots_busy: capacity.slots_busy,
            waiting: capacity.waiting,
            cpu_free_percent: capacity.cpu_free_percent,
            memory_free_bytes: capacity.memory_free_bytes,
        }),
        paused: capacity.and_then(|capacity| capacity.paused.as_ref()).map(paused),
        open_cage: view.and_then(|view| view.open_cage.clone()),
        policy_version: None,
        narrowed: Default::default(),
        idle_hours: None,
        attempts: view.map(|view| view.attempts.clone()).unwrap_or_default(),
        silent_since: view.and_then(|view| view.silent_since).map(|at| at.to_jiff()),
        asleep: view.and_then(|view| view.asleep).map(|at| at.to_jiff()),
        snapshots: view.map_or(0, |view| view.snapshots as u64),
        claims_refused: view.map_or(0, |view| view.claims_refused),
        breaches: view.map_or(0, |view| view.breaches),
        overtimes: view.map_or(0, |view| view.overtimes),
        peer: libp2p::PeerId::from_bytes(&record.peer).map(|peer| peer.to_string()).unwrap_or_default(),
    }
}

/// The hours of a machine's week, day by day.
pub fn idle_hours(hours: &IdleHours) -> Vec<Vec<Option<f64>>> {
    let share = |hour| hours.share(hour);
    (0..7).map(|day| (0..24).map(|hour| share(day * 24 + hour)).collect()).collect()
}

/// A version; the artifacts are read off its manifest, if that is this network's.
pub fn function(record: VersionRecord, authority: &Authority) -> FunctionBody {
    let manifest = lull_shared::identity::verify::<ModuleManifest>(authority, &record.manifest);
    let (artifacts, migratable) = manifest.map(|manifest| (manifest.artifacts, manifest.migratable)).unwrap_or_default();
    FunctionBody {
        function: record.function,
        number: record.number,
        version: record.version,
        kind: record.kind,
        digest: record.module.digest,
        size_bytes: record.module.size_bytes,
        canonical_nans: record.canonical_nans,
        artifacts: artifacts
            .into_iter()
            .map(|artifact| ArtifactBody { engine: artifact.engine, blob: artifact.blob.into() })
            .collect(),
        migratable: migratable.map(|build| MigratableBody {
            size_bytes: build.module.size_bytes,
            cost_percent: build.cost_percent(),
            measured: build.cost_percent.is_some(),
        }),
        interface: record.interface,
        published: record.published.to_jiff(),
        published_by: record.published_by,
        labels: Vec::new(),
    }
}

/// What a label stands for.
pub fn label(record: LabelRecord) -> LabelBody {
    let LabelRecord { function, label, number, moved, moved_by, .. } = record;
    LabelBody { function, label, number, before: None, moved: moved.to_jiff(), moved_by }
}

/// A token without its secret.
pub fn token(record: TokenRecord) -> TokenBody {
    TokenBody {
        token: TokenId(record.token),
        role: record.role,
        name: record.name,
        names: record.bound.names,
        group: record.bound.group,
        uses: record.uses,
        uses_max: record.uses_max,
        created: record.created.to_jiff(),
        created_by: record.created_by,
        expires: record.expires.map(|at| at.to_jiff()),
        revoked: record.revoked.map(|at| at.to_jiff()),
        own: false,
    }
}

/// A line of the audit.
pub fn audit(record: AuditRecord) -> AuditBody {
    AuditBody { at: record.at.to_jiff(), by: record.by, action: record.action, subject: record.subject, detail: record.detail }
}
