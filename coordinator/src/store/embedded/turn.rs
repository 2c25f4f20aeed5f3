//! One turn of the scheduler, written down: each row's cells are bound to the statement of its table, in their order.

use rusqlite::{
    CachedStatement, Transaction, params_from_iter,
    types::{ToSql, ToSqlOutput, ValueRef},
};

use super::{
    super::{
        bounds::number,
        cells::{self, Cell},
        record::{AuditRecord, Totals},
        turn::{Before, Broken, Turn},
    },
    error::Fail,
};

const INSERT_JOB: &str = "INSERT INTO jobs (job_id, owner_id, name, submitter, version_id, version_name, priority, submitted_us,
        finish_by_us, seed, key_digest, pack_digest, spec, task_count, state, expanded, succeeded, failed, cancelled, expired)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 'active', 0, 0, 0, 0, 0)";

const UPDATE_JOB: &str = "UPDATE jobs SET
        finish_by_us = coalesce(?2, finish_by_us),
        expanded = expanded + ?3,
        succeeded = succeeded + ?5,
        failed = failed + ?6,
        cancelled = cancelled + ?7,
        expired = expired + ?8,
        state = coalesce(?9, state),
        ended_us = CASE WHEN ?9 IS NULL THEN ended_us ELSE ?10 END,
        stopping = CASE WHEN ?11 THEN ?12 ELSE stopping END,
        stopped_by = CASE WHEN ?11 THEN ?13 ELSE stopped_by END,
        stopped_us = CASE WHEN ?11 THEN ?14 ELSE stopped_us END,
        retry_from = CASE WHEN ?15 THEN ?16 ELSE retry_from END,
        retry_forgiven = CASE WHEN ?15 THEN ?17 ELSE retry_forgiven END
    WHERE job_id = ?1 AND (?3 = 0 OR expanded + ?3 = ?4)";

// Each numbers its values up to the last cell, so that the two take the same row.
const INSERT_TASK: &str = "INSERT INTO tasks (job_id, task_index, state, attempts, failures, agent_id, not_before_us, ended_us)
    VALUES (?1, ?2, ?8, ?9, coalesce(?10, 0) + ?11, ?13, ?14, ?15)";

const UPDATE_TASK: &str =
    "UPDATE tasks SET state = ?8, attempts = coalesce(?9, attempts), failures = coalesce(?10, failures) + ?11,
        agent_id = CASE WHEN ?12 THEN agent_id ELSE ?13 END, not_before_us = ?14, ended_us = ?15
    WHERE job_id = ?1 AND task_index = ?2 AND CASE WHEN ?7 IS NULL THEN ended_us IS NULL ELSE state = ?7 END
        AND attempts = coalesce(?4, attempts) AND attempts >= ?5 AND (agent_id IS NOT NULL) = ?6";

const INSERT_ATTEMPT: &str = "INSERT INTO attempts (job_id, task_index, number, agent_id, started_us, build, resumed_bytes,
        resumed_spent_us, cause, pause, ended_us, outcome, reason, failure_kind, failure, wall_us, cpu_us, memory_peak_bytes, slot_us)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)";

const UPDATE_ATTEMPT: &str = "UPDATE attempts SET pause = ?10, ended_us = ?11, outcome = ?12, reason = ?13, failure_kind = ?14,
        failure = ?15, wall_us = ?16, cpu_us = ?17, memory_peak_bytes = ?18, slot_us = ?19
    WHERE job_id = ?1 AND task_index = ?2 AND number = ?3 AND ended_us IS NULL";

const ADD_USAGE: &str = "INSERT INTO usage_hours (hour_number, job_id, slot_us) VALUES (?1, ?2, ?3)
    ON CONFLICT (hour_number, job_id) DO UPDATE SET slot_us = slot_us + excluded.slot_us";

const ADD_WORK: &str = "INSERT INTO work_hours (hour_number, agent_id, attempts, succeeded, failed, moved, slot_us, cpu_us)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (hour_number, agent_id) DO UPDATE SET attempts = attempts + excluded.attempts,
        succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed, moved = moved + excluded.moved,
        slot_us = slot_us + excluded.slot_us, cpu_us = cpu_us + excluded.cpu_us";

const ADD_TOTALS: &str = "UPDATE totals SET jobs = jobs + ?1, tasks_succeeded = tasks_succeeded + ?2, attempts = attempts + ?3,
    attempts_lost = attempts_lost + ?4, results_refused = results_refused + ?5";

const DROP_ANSWERS: &str = "DELETE FROM answers WHERE job_id = ?1 AND task_index = ?2";
const INSERT_ANSWER: &str = "INSERT INTO answers (job_id, task_index, number, digest) VALUES (?1, ?2, ?3, ?4)";

const INSERT_RESULT: &str = "INSERT INTO results (job_id, task_index, number, size_bytes, content, blob_digest)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const DROP_SNAPSHOT: &str = "DELETE FROM snapshots WHERE job_id = ?1 AND task_index = ?2";
const INSERT_SNAPSHOT: &str = "INSERT INTO snapshots (job_id, task_index, digest, size_bytes, spent_us, agent_id, saved_us)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const INSERT_LOG: &str = "INSERT INTO logs (job_id, task_index, number, log, dropped_bytes) VALUES (?1, ?2, ?3, ?4, ?5)";

// What is not known of an agent yet is NULL in its cells; what changes on its row only if something is, comes with a mark.
const UPDATE_AGENT: &str = "UPDATE agents SET
        last_connected_us = coalesce(?2, last_connected_us),
        version = CASE WHEN ?2 IS NULL THEN version ELSE ?3 END,
        os = CASE WHEN ?2 IS NULL THEN os ELSE ?4 END,
        arch = CASE WHEN ?2 IS NULL THEN arch ELSE ?5 END,
        cores = CASE WHEN ?2 IS NULL THEN cores ELSE ?6 END,
        memory_bytes = CASE WHEN ?2 IS NULL THEN memory_bytes ELSE ?7 END,
        engine = CASE WHEN ?2 IS NULL THEN engine ELSE ?8 END,
        labels = CASE WHEN ?2 IS NULL THEN labels ELSE ?9 END,
        last_disconnected_us = coalesce(?10, last_disconnected_us),
        intake = coalesce(?11, intake),
        results_refused = results_refused + ?12,
        quarantined_us = CASE WHEN ?13 THEN ?14 ELSE quarantined_us END,
        quarantine_reason = CASE WHEN ?13 THEN ?15 ELSE quarantine_reason END,
        quarantine_kind = CASE WHEN ?13 THEN ?16 ELSE quarantine_kind END
    WHERE agent_id = ?1";

const SET_HOURS: &str = "INSERT INTO idle_hours (agent_id, shares, taken, clock_ahead_min, saved_us) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (agent_id) DO UPDATE SET shares = excluded.shares, taken = excluded.taken,
        clock_ahead_min = excluded.clock_ahead_min, saved_us = excluded.saved_us";

// The rows' own order is that of the audit: the position is not kept.
const INSERT_AUDIT: &str = "INSERT INTO audit (at_us, by_whom, operation, subject, detail) VALUES (?2, ?3, ?4, ?5, ?6)";

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null | Self::Bytes(None) => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
        }))
    }
}

/// Writes a turn's rows.
pub(super) fn write(tx: &Transaction<'_>, turn: &Turn) -> Result<(), Fail> {
    each(tx, INSERT_JOB, turn.jobs_new.iter().map(cells::job_new))?;
    write_tasks(tx, turn)?;
    write_attempts(tx, turn)?;
    each(tx, ADD_USAGE, turn.usage().into_iter().map(|((hour, job), slot_us)| cells::usage_hours(hour, job, slot_us)))?;
    each(tx, ADD_WORK, turn.work().iter().map(|((hour, agent), work)| cells::work_hours(*hour, *agent, work)))?;
    each(tx, ADD_TOTALS, Some(turn.totals()).iter().filter(|totals| **totals != Totals::default()).map(cells::totals))?;
    each(tx, DROP_ANSWERS, turn.answers_dropped.iter().map(|task| cells::answers_dropped(*task)))?;
    each(tx, INSERT_ANSWER, turn.answers.iter().map(|(attempt, digest)| cells::answer(*attempt, *digest)))?;
    each(tx, INSERT_RESULT, turn.results.iter().map(cells::result))?;
    for (task, row) in &turn.snapshots {
        tx.prepare_cached(DROP_SNAPSHOT)?.execute([number(task.job.0), i64::from(task.index)])?;
        each(tx, INSERT_SNAPSHOT, row.iter().map(|row| cells::snapshot(*task, Some(row))))?;
    }
    each(tx, INSERT_LOG, turn.logs.iter().map(cells::log))?;
    let mut update = tx.prepare_cached(UPDATE_JOB)?;
    for (job, patch) in &turn.jobs {
        let known = || format!("there is no {job}, or its tasks are not started in the order of their index");
        one(execute(&mut update, cells::job(*job, patch))?, known)?;
    }
    let mut update = tx.prepare_cached(UPDATE_AGENT)?;
    for (agent, patch) in &turn.agents {
        one(execute(&mut update, cells::agent(*agent, patch))?, || format!("there is no agent {agent}"))?;
    }
    each(tx, SET_HOURS, turn.hours.iter().map(|(agent, row)| cells::idle_hours(*agent, row)))?;
    if turn.revocations > 0 {
        tx.execute("UPDATE leader SET revocations = revocations + ?1", [turn.revocations])?;
    }
    turn.audit.iter().try_for_each(|line| insert_audit(tx, line))
}

fn write_tasks(tx: &Transaction<'_>, turn: &Turn) -> Result<(), Fail> {
    let (mut insert, mut update) = (tx.prepare_cached(INSERT_TASK)?, tx.prepare_cached(UPDATE_TASK)?);
    for (task, patch) in &turn.tasks {
        let row = cells::task(*task, patch);
        if patch.before == Before::Absent {
            execute(&mut insert, row)?;
        } else {
            let expected = || format!("{task} is not as the change to {} expects ({:?})", patch.place.state(), patch.before);
            one(execute(&mut update, row)?, expected)?;
        }
    }
    Ok(())
}

/// In the order of their numbers: of each task at most one attempt is live with one agent, and the earlier ones end first.
fn write_attempts(tx: &Transaction<'_>, turn: &Turn) -> Result<(), Fail> {
    let (mut insert, mut update) = (tx.prepare_cached(INSERT_ATTEMPT)?, tx.prepare_cached(UPDATE_ATTEMPT)?);
    for (attempt, patch) in &turn.attempts {
        let row = cells::attempt(*attempt, patch);
        if patch.begun.is_some() {
            execute(&mut insert, row)?;
        } else {
            one(execute(&mut update, row)?, || format!("{attempt} is not live"))?;
        }
    }
    Ok(())
}

/// Appends to the audit.
pub(super) fn insert_audit(tx: &Transaction<'_>, line: &AuditRecord) -> Result<(), Fail> {
    each(tx, INSERT_AUDIT, [cells::audit(0, line)])
}

/// Executes a statement for each row; it is not even prepared for none.
fn each<'a, const N: usize>(
    tx: &Transaction<'_>,
    sql: &str,
    rows: impl IntoIterator<Item = cells::Row<'a, N>>,
) -> Result<(), Fail> {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_some() {
        let mut statement = tx.prepare_cached(sql)?;
        for row in rows {
            execute(&mut statement, row)?;
        }
    }
    Ok(())
}

fn execute<const N: usize>(statement: &mut CachedStatement<'_>, row: cells::Row<'_, N>) -> Result<usize, Fail> {
    Ok(statement.execute(params_from_iter(row))?)
}

fn one(changed: usize, what: impl FnOnce() -> String) -> Result<(), Fail> {
    if changed == 1 { Ok(()) } else { Err(Broken(what()).into()) }
}
