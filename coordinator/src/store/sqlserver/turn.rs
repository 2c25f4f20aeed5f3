//! One turn of the scheduler as the two parameters of `sql/commit.sql`: its rows as JSON, and the bytes that they point
//! into. Bytes travel as they are, since base64 or hexadecimal inside JSON would double them twice.

use lull_shared::{
    digest::Digest,
    id::{AgentId, AttemptId, JobId, TaskId},
    message::Payload,
};
use serde::Serialize;

use super::super::{
    bounds::{self, number},
    decide,
    record::{AuditRecord, Totals},
    rows,
    turn::{
        AgentPatch, AttemptPatch, Before, HoursRow, JobPatch, LogRow, Patch, Place, ResultRow, SnapshotRow, TaskPatch, Turn, Work,
    },
};
use crate::scheduler::effect::NewJob;

/// The parameters of one commit.
pub struct Parameters {
    pub json: String,
    pub bytes: Vec<u8>,
}

/// Writes a turn's rows as parameters.
pub fn parameters(turn: &Turn) -> Parameters {
    let mut bytes = Bytes::default();
    let document = Document {
        revocations: turn.revocations,
        jobs_new: turn.jobs_new.iter().map(|new| job_new(new, &mut bytes)).collect(),
        jobs: turn.jobs.iter().map(|(job, patch)| job_patch(*job, patch)).collect(),
        tasks: turn.tasks.iter().map(|(id, patch)| task(*id, patch)).collect(),
        attempts: turn.attempts.iter().map(|(id, patch)| attempt(*id, patch)).collect(),
        results: turn.results.iter().map(|row| result(row, &mut bytes)).collect(),
        answers: turn.answers.iter().map(|(id, digest)| answer(*id, digest, &mut bytes)).collect(),
        answers_dropped: turn.answers_dropped.iter().map(|id| Dropped { j: number(id.job.0), i: id.index }).collect(),
        snapshots: turn.snapshots.iter().map(|(id, row)| snapshot(*id, row.as_ref(), &mut bytes)).collect(),
        logs: turn.logs.iter().map(|row| log(row, &mut bytes)).collect(),
        hours: turn.hours.iter().map(|(id, row)| hours(*id, row, &mut bytes)).collect(),
        agents: turn.agents.iter().map(|(id, patch)| agent(*id, patch)).collect(),
        usage: turn.usage().into_iter().map(|((h, job), us)| UsageItem { h, j: number(job.0), us }).collect(),
        work: turn.work().into_iter().map(|((hour, agent), sums)| work(hour, agent, &sums)).collect(),
        totals: totals(&turn.totals()),
        audit: (0..).zip(&turn.audit).map(|(n, row)| audit(n, row)).collect(),
    };
    Parameters { json: json(&document), bytes: bytes.all }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own types are JSON")
}

/// Bytes one after the other; places count from 1, as SUBSTRING does.
#[derive(Default)]
struct Bytes {
    all: Vec<u8>,
}

impl Bytes {
    fn put(&mut self, bytes: &[u8]) -> usize {
        let at = self.all.len() + 1;
        self.all.extend_from_slice(bytes);
        at
    }
}

#[derive(Serialize)]
struct Document<'a> {
    /// The first and always there, so that it is found without a search.
    revocations: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs_new: Vec<JobNew>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<Job<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<Task>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<Attempt<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    results: Vec<ResultItem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answers: Vec<AnswerItem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answers_dropped: Vec<Dropped>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<SnapshotItem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<Log>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hours: Vec<Hours>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agents: Vec<Agent<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    usage: Vec<UsageItem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    work: Vec<WorkItem>,
    /// At most one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    totals: Vec<TotalsItem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audit: Vec<Audit<'a>>,
}

#[derive(Serialize)]
struct UsageItem {
    h: i64,
    j: i64,
    us: i64,
}

#[derive(Serialize)]
struct WorkItem {
    h: i64,
    a: i64,
    n: u32,
    s: u32,
    f: u32,
    m: u32,
    us: i64,
    c: i64,
}

fn work(hour: i64, agent: AgentId, sums: &Work) -> WorkItem {
    WorkItem {
        h: hour,
        a: number(agent.0),
        n: sums.attempts,
        s: sums.succeeded,
        f: sums.failed,
        m: sums.moved,
        us: number(sums.slot_us),
        c: number(sums.cpu_us),
    }
}

#[derive(Serialize)]
struct TotalsItem {
    j: i64,
    s: i64,
    n: i64,
    l: i64,
    r: i64,
}

fn totals(totals: &Totals) -> Vec<TotalsItem> {
    let item = || TotalsItem {
        j: number(totals.jobs),
        s: number(totals.tasks_succeeded),
        n: number(totals.attempts),
        l: number(totals.attempts_lost),
        r: number(totals.results_refused),
    };
    (*totals != Totals::default()).then(item).into_iter().collect()
}

#[derive(Serialize)]
struct JobNew {
    j: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    o: Option<i64>,
    name: String,
    by: String,
    v: i64,
    vn: String,
    p: i8,
    at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fin: Option<i64>,
    seed: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pack: Option<usize>,
    spec: String,
    n: u32,
}

fn job_new(new: &NewJob, bytes: &mut Bytes) -> JobNew {
    let spec = &new.spec;
    JobNew {
        j: number(new.job.0),
        o: new.owner.map(|owner| number(owner.0)),
        name: bounds::name(&spec.name),
        by: bounds::name(&new.submitter),
        v: number(spec.version.0),
        vn: bounds::name(&new.version_name),
        p: spec.priority.0,
        at: new.at.0,
        fin: spec.finish_by.map(|at| at.0),
        // All 64 bits count: the sign is only how a column shows them.
        seed: new.seed as i64,
        key: new.owner.zip(spec.idempotency_key.as_deref()).map(|(owner, key)| bytes.put(&decide::key_digest(owner, key))),
        pack: spec.inputs.pack().map(|pack| bytes.put(pack.digest.as_bytes())),
        spec: json(spec),
        n: spec.inputs.count(),
    }
}

#[derive(Serialize)]
struct Job<'a> {
    j: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    r: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fb: Option<i64>,
    n: u32,
    x: u32,
    s: u32,
    f: u32,
    c: u32,
    e: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    st: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
    sc: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    ss: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sb: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sa: Option<i64>,
}

fn job_patch(job: JobId, patch: &JobPatch) -> Job<'_> {
    let (st, at) = match &patch.end {
        Patch::Set((state, at)) => (Some(state.as_str()), Some(at.0)),
        Patch::Clear => (Some("active"), None),
        Patch::Keep => (None, None),
    };
    let stop = patch.stop.value();
    Job {
        j: number(job.0),
        r: patch.retried.map(|at| at.0),
        fb: patch.finish_by.map(|at| at.0),
        n: patch.started,
        x: patch.expanded,
        s: patch.succeeded,
        f: patch.failed,
        c: patch.cancelled,
        e: patch.expired,
        st,
        at,
        sc: patch.stop.is_change().into(),
        ss: stop.map(|stop| stop.state.as_str()),
        sb: stop.map(|stop| stop.by.as_str()),
        sa: stop.map(|stop| stop.at.0),
    }
}

#[derive(Serialize)]
struct Task {
    j: i64,
    i: u32,
    new: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    nb: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nl: Option<u32>,
    ab: u8,
    st: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f: Option<u32>,
    fa: u32,
    k: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    w: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<i64>,
}

fn task(id: TaskId, patch: &TaskPatch) -> Task {
    let (new, nb, nl, ab) = match patch.before {
        Before::Absent => (1, None, None, 0),
        Before::Waiting { attempts } => (0, attempts, None, 0),
        Before::At { attempts, at_least } => (0, attempts, Some(at_least), 1),
    };
    let (k, a, w, e) = match patch.place {
        Place::At { agent: Some(agent), .. } => (0, Some(number(agent.0)), None, None),
        Place::At { agent: None, .. } => (1, None, None, None),
        Place::Waiting { not_before, .. } => (0, None, Some(not_before.0), None),
        Place::Ended { at, .. } => (0, None, None, Some(at.0)),
    };
    Task {
        j: number(id.job.0),
        i: id.index,
        new,
        nb,
        nl,
        ab,
        st: patch.place.state().as_str(),
        n: patch.attempts,
        f: patch.failures,
        fa: patch.failures_added,
        k,
        a,
        w,
        e,
    }
}

#[derive(Serialize)]
struct Attempt<'a> {
    j: i64,
    i: u32,
    n: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    o: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    w: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rb: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rs: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cs: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    su: Option<i64>,
}

fn attempt(id: AttemptId, patch: &AttemptPatch) -> Attempt<'_> {
    let (begun, over) = (patch.begun.as_ref(), patch.over.as_ref());
    let resume = begun.and_then(|begun| begun.resume.as_deref());
    let failure = over.and_then(|over| over.failure.as_ref());
    Attempt {
        j: number(id.task.job.0),
        i: id.task.index,
        n: id.number,
        a: begun.map(|begun| number(begun.agent.0)),
        s: begun.map(|begun| begun.at.0),
        p: patch.pause.value().map(json),
        e: over.map(|over| over.at.0),
        o: over.map(|over| over.end.as_str()),
        r: over.and_then(|over| over.reason.as_deref()),
        k: failure.map(|failure| failure.kind()),
        f: failure.map(json),
        w: over.map(|over| number(over.usage.wall_us)),
        c: over.map(|over| number(over.usage.cpu_us)),
        m: over.map(|over| number(over.usage.memory_peak_bytes)),
        b: begun.map(|begun| rows::build_word(begun.build)),
        rb: resume.map(|snapshot| number(snapshot.blob.size_bytes)),
        rs: resume.map(|snapshot| number(snapshot.spent_us)),
        cs: begun.and_then(|begun| begun.cause.as_deref()),
        su: over.map(|over| number(over.slot_us)),
    }
}

/// A task's snapshot; without a digest the one that is there is deleted.
#[derive(Serialize)]
struct SnapshotItem {
    j: i64,
    i: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    len: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
}

fn snapshot(task: TaskId, row: Option<&SnapshotRow>, bytes: &mut Bytes) -> SnapshotItem {
    SnapshotItem {
        j: number(task.job.0),
        i: task.index,
        d: row.map(|row| bytes.put(row.snapshot.blob.digest.as_bytes())),
        len: row.map(|row| number(row.snapshot.blob.size_bytes)),
        us: row.map(|row| number(row.snapshot.spent_us)),
        a: row.map(|row| number(row.agent.0)),
        at: row.map(|row| row.at.0),
    }
}

/// When an agent's machine was there for work.
#[derive(Serialize)]
struct Hours {
    a: i64,
    h: usize,
    t: usize,
    c: i16,
    at: i64,
}

fn hours(agent: AgentId, row: &HoursRow, bytes: &mut Bytes) -> Hours {
    let (h, t) = (bytes.put(row.hours.shares()), bytes.put(row.hours.taken()));
    Hours { a: number(agent.0), h, t, c: row.hours.clock_ahead_min, at: row.at.0 }
}

#[derive(Serialize)]
struct ResultItem {
    j: i64,
    i: u32,
    n: u32,
    len: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob: Option<usize>,
}

fn result(row: &ResultRow, bytes: &mut Bytes) -> ResultItem {
    let (at, out, blob) = match &row.output {
        Payload::Inline(output) => (Some(bytes.put(output)), Some(output.len()), None),
        Payload::Blob(blob) => (None, None, Some(bytes.put(blob.digest.as_bytes()))),
    };
    let task = row.attempt.task;
    ResultItem {
        j: number(task.job.0),
        i: task.index,
        n: row.attempt.number,
        len: number(row.output.size_bytes()),
        at,
        out,
        blob,
    }
}

#[derive(Serialize)]
struct AnswerItem {
    j: i64,
    i: u32,
    n: u32,
    d: usize,
}

fn answer(id: AttemptId, digest: &Digest, bytes: &mut Bytes) -> AnswerItem {
    AnswerItem { j: number(id.task.job.0), i: id.task.index, n: id.number, d: bytes.put(digest.as_bytes()) }
}

/// A task of which what was kept to be compared goes.
#[derive(Serialize)]
struct Dropped {
    j: i64,
    i: u32,
}

#[derive(Serialize)]
struct Log {
    j: i64,
    i: u32,
    n: u32,
    len: usize,
    at: usize,
    d: i64,
}

fn log(row: &LogRow, bytes: &mut Bytes) -> Log {
    let task = row.attempt.task;
    Log {
        j: number(task.job.0),
        i: task.index,
        n: row.attempt.number,
        len: row.log.len(),
        at: bytes.put(&row.log),
        d: number(row.dropped_bytes),
    }
}

#[derive(Serialize)]
struct Agent<'a> {
    a: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    l: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    i: Option<&'static str>,
    r: u32,
    qc: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    q: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qr: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qk: Option<&'a str>,
}

fn agent(id: AgentId, patch: &AgentPatch) -> Agent<'_> {
    let now = patch.connected.as_deref();
    Agent {
        a: number(id.0),
        c: now.map(|now| now.at.0),
        v: now.map(|now| now.version.as_str()),
        os: now.map(|now| now.machine.os.as_str()),
        arch: now.map(|now| now.machine.arch.as_str()),
        n: now.map(|now| now.machine.cores),
        m: now.map(|now| number(now.machine.memory_bytes)),
        e: now.map(|now| now.machine.engine.as_str()),
        l: now.map(|now| json(&now.labels)),
        d: patch.disconnected.map(|at| at.0),
        i: patch.intake.map(|intake| intake.as_str()),
        r: patch.results_refused,
        qc: patch.quarantine.is_change().into(),
        q: patch.quarantine.value().map(|row| row.at.0),
        qr: patch.quarantine.value().map(|row| row.reason.as_str()),
        qk: patch.quarantine.value().map(|row| row.kind.as_str()),
    }
}

#[derive(Serialize)]
struct Audit<'a> {
    n: usize,
    at: i64,
    by: &'a str,
    #[serde(rename = "do")]
    action: &'a str,
    s: &'a str,
    d: &'a str,
}

fn audit(n: usize, row: &AuditRecord) -> Audit<'_> {
    Audit { n, at: row.at.0, by: &row.by, action: &row.action, s: &row.subject, d: &row.detail }
}
