//! One turn of the scheduler, written down.

use std::collections::BTreeMap;

use lull_shared::{
    id::{AttemptId, JobId, TaskId},
    message::Payload,
};
use rusqlite::{Transaction, params};
use serde::Serialize;

use super::{
    super::{
        bounds::{self, number},
        decide,
        record::{AuditRecord, Totals},
        rows,
        turn::{
            AgentPatch, AttemptPatch, Before, Broken, HoursRow, JobPatch, LogRow, Patch, Place, ResultRow, SnapshotRow,
            TaskPatch, Turn,
        },
    },
    error::Fail,
};
use crate::scheduler::effect::NewJob;

/// Writes a turn's rows.
pub fn write(tx: &Transaction<'_>, turn: &Turn) -> Result<(), Fail> {
    for job in &turn.jobs_new {
        insert_job(tx, job)?;
    }
    for (job, patch) in &turn.jobs {
        if let Some(at) = patch.retried {
            tx.prepare_cached(
                "UPDATE tasks SET state = 'queued', failures = 0, not_before_us = ?2, ended_us = NULL
                 WHERE job_id = ?1 AND state IN ('failed', 'cancelled', 'expired')",
            )?
            .execute(params![number(job.0), at.0])?;
        }
    }
    write_tasks(tx, &turn.tasks)?;
    write_attempts(tx, &turn.attempts)?;
    add_sums(tx, turn)?;
    write_answers(tx, turn)?;
    write_results(tx, &turn.results)?;
    write_snapshots(tx, &turn.snapshots)?;
    write_logs(tx, &turn.logs)?;
    for (job, patch) in &turn.jobs {
        update_job(tx, *job, patch)?;
    }
    for (agent, patch) in &turn.agents {
        update_agent(tx, number(agent.0), patch)?;
    }
    for (agent, row) in &turn.hours {
        write_hours(tx, number(agent.0), row)?;
    }
    if turn.revocations > 0 {
        tx.execute("UPDATE leader SET revocations = revocations + ?1", [turn.revocations])?;
    }
    for row in &turn.audit {
        insert_audit(tx, row)?;
    }
    Ok(())
}

/// One of our own types as it is kept.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own types are JSON")
}

fn one(changed: usize, what: impl FnOnce() -> String) -> Result<(), Fail> {
    if changed == 1 { Ok(()) } else { Err(Broken(what()).into()) }
}

fn insert_job(tx: &Transaction<'_>, new: &NewJob) -> Result<(), Fail> {
    let spec = &new.spec;
    let pack = spec.inputs.pack().map(|pack| *pack.digest.as_bytes());
    let key = new.owner.zip(spec.idempotency_key.as_deref()).map(|(owner, key)| decide::key_digest(owner, key));
    tx.prepare_cached(
        "INSERT INTO jobs (job_id, name, submitter, version_id, version_name, priority, state, submitted_us, finish_by_us, seed,
             key_digest, pack_digest, spec, task_count, expanded, succeeded, failed, cancelled, expired, owner_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'active', ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, 0, 0, 0, 0, ?14)",
    )?
    .execute(params![
        number(new.job.0),
        bounds::name(&spec.name),
        bounds::name(&new.submitter),
        number(spec.version.0),
        bounds::name(&new.version_name),
        spec.priority.0,
        new.at.0,
        spec.finish_by.map(|at| at.0),
        // All 64 bits count: the sign is only how a column shows them.
        new.seed as i64,
        key,
        pack,
        json(spec),
        spec.inputs.count(),
        new.owner.map(|owner| number(owner.0)),
    ])?;
    Ok(())
}

fn write_tasks(tx: &Transaction<'_>, tasks: &BTreeMap<TaskId, TaskPatch>) -> Result<(), Fail> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO tasks (job_id, task_index, state, attempts, failures, agent_id, not_before_us, ended_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut update = tx.prepare_cached(
        "UPDATE tasks SET state = ?3, attempts = coalesce(?4, attempts), failures = coalesce(?5, failures) + ?6,
             agent_id = CASE WHEN ?7 THEN agent_id ELSE ?8 END, not_before_us = ?9, ended_us = ?10
         WHERE job_id = ?1 AND task_index = ?2 AND ended_us IS NULL
             AND attempts = coalesce(?11, attempts) AND attempts >= ?13 AND (agent_id IS NOT NULL) = ?12",
    )?;
    for (task, patch) in tasks {
        let (agent, keeps_agent, not_before, ended) = match patch.place {
            Place::At { agent, .. } => (agent.map(|agent| number(agent.0)), agent.is_none(), None, None),
            Place::Waiting { not_before, .. } => (None, false, Some(not_before.0), None),
            Place::Ended { at, .. } => (None, false, None, Some(at.0)),
        };
        let (job, index, state) = (number(task.job.0), task.index, patch.place.state().as_str());
        let (attempts_before, at_agent, at_least) = match patch.before {
            Before::Absent => {
                let failures = patch.failures.unwrap_or(0) + patch.failures_added;
                insert.execute(params![job, index, state, patch.attempts, failures, agent, not_before, ended])?;
                continue;
            }
            Before::Waiting { attempts } => (attempts, false, 0),
            Before::At { attempts, at_least } => (attempts, true, at_least),
        };
        let changed = update.execute(params![
            job,
            index,
            state,
            patch.attempts,
            patch.failures,
            patch.failures_added,
            keeps_agent,
            agent,
            not_before,
            ended,
            attempts_before,
            at_agent,
            at_least
        ])?;
        one(changed, || format!("{task} is not as the change to {} expects ({:?})", patch.place.state(), patch.before))?;
    }
    Ok(())
}

/// Adds what the turn comes to, to what all turns came to.
fn add_sums(tx: &Transaction<'_>, turn: &Turn) -> Result<(), Fail> {
    for ((hour, job), slot_us) in turn.usage() {
        tx.prepare_cached(
            "INSERT INTO usage_hours (hour_number, job_id, slot_us) VALUES (?1, ?2, ?3)
             ON CONFLICT (hour_number, job_id) DO UPDATE SET slot_us = slot_us + excluded.slot_us",
        )?
        .execute(params![hour, number(job.0), slot_us])?;
    }
    for ((hour, agent), work) in turn.work() {
        tx.prepare_cached(
            "INSERT INTO work_hours (hour_number, agent_id, attempts, succeeded, failed, moved, slot_us, cpu_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (hour_number, agent_id) DO UPDATE SET attempts = attempts + excluded.attempts,
                 succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed, moved = moved + excluded.moved,
                 slot_us = slot_us + excluded.slot_us, cpu_us = cpu_us + excluded.cpu_us",
        )?
        .execute(params![
            hour,
            number(agent.0),
            work.attempts,
            work.succeeded,
            work.failed,
            work.moved,
            number(work.slot_us),
            number(work.cpu_us)
        ])?;
    }
    let totals = turn.totals();
    if totals != Totals::default() {
        tx.prepare_cached(
            "UPDATE totals SET jobs = jobs + ?1, tasks_succeeded = tasks_succeeded + ?2, attempts = attempts + ?3,
                 attempts_lost = attempts_lost + ?4, results_refused = results_refused + ?5",
        )?
        .execute(params![
            number(totals.jobs),
            number(totals.tasks_succeeded),
            number(totals.attempts),
            number(totals.attempts_lost),
            number(totals.results_refused)
        ])?;
    }
    Ok(())
}

fn write_attempts(tx: &Transaction<'_>, attempts: &BTreeMap<AttemptId, AttemptPatch>) -> Result<(), Fail> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO attempts (job_id, task_index, number, agent_id, started_us, pause, build, resumed_bytes, resumed_spent_us,
             cause)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let mut pause = tx.prepare_cached(
        "UPDATE attempts SET pause = ?4 WHERE job_id = ?1 AND task_index = ?2 AND number = ?3 AND ended_us IS NULL",
    )?;
    let mut end = tx.prepare_cached(
        "UPDATE attempts SET ended_us = ?4, outcome = ?5, reason = ?6, failure_kind = ?7, failure = ?8, wall_us = ?9,
             cpu_us = ?10, memory_peak_bytes = ?11, slot_us = ?12, pause = NULL
         WHERE job_id = ?1 AND task_index = ?2 AND number = ?3 AND ended_us IS NULL",
    )?;
    for (attempt, patch) in attempts {
        let (job, index, attempt_number) = (number(attempt.task.job.0), attempt.task.index, attempt.number);
        let paused = patch.pause.value().map(json);
        if let Some(begun) = &patch.begun {
            let resume = begun.resume.as_deref();
            insert.execute(params![
                job,
                index,
                attempt_number,
                number(begun.agent.0),
                begun.at.0,
                paused,
                rows::build_word(begun.build),
                resume.map(|snapshot| number(snapshot.blob.size_bytes)),
                resume.map(|snapshot| number(snapshot.spent_us)),
                begun.cause,
            ])?;
        } else if patch.over.is_none() {
            one(pause.execute(params![job, index, attempt_number, paused])?, || format!("{attempt} is not live"))?;
        }
        let Some(over) = &patch.over else { continue };
        let (failure_kind, failure) = (over.failure.as_ref().map(|failure| failure.kind()), over.failure.as_ref().map(json));
        let changed = end.execute(params![
            job,
            index,
            attempt_number,
            over.at.0,
            over.end.as_str(),
            over.reason,
            failure_kind,
            failure,
            number(over.usage.wall_us),
            number(over.usage.cpu_us),
            number(over.usage.memory_peak_bytes),
            number(over.slot_us),
        ])?;
        one(changed, || format!("{attempt} is not live"))?;
    }
    Ok(())
}

fn write_answers(tx: &Transaction<'_>, turn: &Turn) -> Result<(), Fail> {
    let mut delete = tx.prepare_cached("DELETE FROM answers WHERE job_id = ?1 AND task_index = ?2")?;
    for task in &turn.answers_dropped {
        delete.execute(params![number(task.job.0), task.index])?;
    }
    let mut insert = tx.prepare_cached("INSERT INTO answers (job_id, task_index, number, digest) VALUES (?1, ?2, ?3, ?4)")?;
    for (attempt, digest) in &turn.answers {
        insert.execute(params![number(attempt.task.job.0), attempt.task.index, attempt.number, *digest.as_bytes()])?;
    }
    Ok(())
}

fn write_results(tx: &Transaction<'_>, results: &[ResultRow]) -> Result<(), Fail> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO results (job_id, task_index, number, size_bytes, content, blob_digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for result in results {
        let task = result.attempt.task;
        let (output, digest) = match &result.output {
            Payload::Inline(bytes) => (Some(bytes.as_ref()), None),
            Payload::Blob(blob) => (None, Some(*blob.digest.as_bytes())),
        };
        let size = number(result.output.size_bytes());
        insert.execute(params![number(task.job.0), task.index, result.attempt.number, size, output, digest])?;
    }
    Ok(())
}

fn write_snapshots(tx: &Transaction<'_>, snapshots: &BTreeMap<TaskId, Option<SnapshotRow>>) -> Result<(), Fail> {
    let mut upsert = tx.prepare_cached(
        "INSERT INTO snapshots (job_id, task_index, digest, size_bytes, spent_us, agent_id, saved_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (job_id, task_index) DO UPDATE SET digest = excluded.digest, size_bytes = excluded.size_bytes,
             spent_us = excluded.spent_us, agent_id = excluded.agent_id, saved_us = excluded.saved_us",
    )?;
    let mut delete = tx.prepare_cached("DELETE FROM snapshots WHERE job_id = ?1 AND task_index = ?2")?;
    for (task, row) in snapshots {
        let job = number(task.job.0);
        let Some(SnapshotRow { snapshot, agent, at }) = row else {
            delete.execute(params![job, task.index])?;
            continue;
        };
        let (digest, size) = (*snapshot.blob.digest.as_bytes(), number(snapshot.blob.size_bytes));
        upsert.execute(params![job, task.index, digest, size, number(snapshot.spent_us), number(agent.0), at.0])?;
    }
    Ok(())
}

fn write_hours(tx: &Transaction<'_>, agent: i64, row: &HoursRow) -> Result<(), Fail> {
    tx.prepare_cached(
        "INSERT INTO idle_hours (agent_id, shares, taken, clock_ahead_min, saved_us) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (agent_id) DO UPDATE SET shares = excluded.shares, taken = excluded.taken,
             clock_ahead_min = excluded.clock_ahead_min, saved_us = excluded.saved_us",
    )?
    .execute(params![agent, row.hours.shares(), row.hours.taken(), row.hours.clock_ahead_min, row.at.0])?;
    Ok(())
}

fn write_logs(tx: &Transaction<'_>, logs: &[LogRow]) -> Result<(), Fail> {
    let mut insert =
        tx.prepare_cached("INSERT INTO logs (job_id, task_index, number, log, dropped_bytes) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for row in logs {
        let (task, dropped) = (row.attempt.task, number(row.dropped_bytes));
        insert.execute(params![number(task.job.0), task.index, row.attempt.number, row.log.as_ref(), dropped])?;
    }
    Ok(())
}

fn update_job(tx: &Transaction<'_>, job: JobId, patch: &JobPatch) -> Result<(), Fail> {
    let (state, ended) = match &patch.end {
        Patch::Set((state, at)) => (Some(state.as_str()), Some(at.0)),
        Patch::Clear => (Some("active"), None),
        Patch::Keep => (None, None),
    };
    let stop = patch.stop.value();
    let changed = tx
        .prepare_cached(
            "UPDATE jobs SET
                 expanded = expanded + ?2,
                 succeeded = succeeded + ?4,
                 failed = CASE WHEN ?8 THEN 0 ELSE failed END + ?5,
                 cancelled = CASE WHEN ?8 THEN 0 ELSE cancelled END + ?6,
                 expired = CASE WHEN ?8 THEN 0 ELSE expired END + ?7,
                 finish_by_us = coalesce(?15, finish_by_us),
                 state = coalesce(?9, state),
                 ended_us = CASE WHEN ?9 IS NULL THEN ended_us ELSE ?10 END,
                 stopping = CASE WHEN ?11 THEN ?12 ELSE stopping END,
                 stopped_by = CASE WHEN ?11 THEN ?13 ELSE stopped_by END,
                 stopped_us = CASE WHEN ?11 THEN ?14 ELSE stopped_us END
             WHERE job_id = ?1 AND (?2 = 0 OR expanded + ?2 = ?3)",
        )?
        .execute(params![
            number(job.0),
            patch.started,
            patch.expanded,
            patch.succeeded,
            patch.failed,
            patch.cancelled,
            patch.expired,
            patch.retried.is_some(),
            state,
            ended,
            patch.stop.is_change(),
            stop.map(|stop| stop.state.as_str()),
            stop.map(|stop| stop.by.as_str()),
            stop.map(|stop| stop.at.0),
            patch.finish_by.map(|at| at.0),
        ])?;
    one(changed, || format!("there is no {job}, or its tasks are not started in the order of their index"))
}

fn update_agent(tx: &Transaction<'_>, agent: i64, patch: &AgentPatch) -> Result<(), Fail> {
    let known = || format!("there is no agent a{agent}");
    if let Some(now) = &patch.connected {
        let changed = tx
            .prepare_cached(
                "UPDATE agents SET last_connected_us = ?2, version = ?3, os = ?4, arch = ?5, cores = ?6, memory_bytes = ?7,
                     engine = ?8, labels = ?9 WHERE agent_id = ?1",
            )?
            .execute(params![
                agent,
                now.at.0,
                now.version,
                now.machine.os,
                now.machine.arch,
                now.machine.cores,
                number(now.machine.memory_bytes),
                now.machine.engine,
                json(&now.labels),
            ])?;
        one(changed, known)?;
    }
    let changed = tx
        .prepare_cached(
            "UPDATE agents SET last_disconnected_us = coalesce(?2, last_disconnected_us), intake = coalesce(?3, intake),
                 results_refused = results_refused + ?4,
                 quarantined_us = CASE WHEN ?5 THEN ?6 ELSE quarantined_us END,
                 quarantine_reason = CASE WHEN ?5 THEN ?7 ELSE quarantine_reason END,
                 quarantine_kind = CASE WHEN ?5 THEN ?8 ELSE quarantine_kind END WHERE agent_id = ?1",
        )?
        .execute(params![
            agent,
            patch.disconnected.map(|at| at.0),
            patch.intake.map(|intake| intake.as_str()),
            patch.results_refused,
            patch.quarantine.is_change(),
            patch.quarantine.value().map(|row| row.at.0),
            patch.quarantine.value().map(|row| row.reason.as_str()),
            patch.quarantine.value().map(|row| row.kind.as_str()),
        ])?;
    one(changed, known)
}

/// Appends to the audit.
pub fn insert_audit(tx: &Transaction<'_>, row: &AuditRecord) -> Result<(), Fail> {
    tx.prepare_cached("INSERT INTO audit (at_us, by_whom, operation, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![row.at.0, row.by, row.action, row.subject, row.detail])?;
    Ok(())
}
