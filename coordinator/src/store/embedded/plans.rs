//! Tests only: how SQLite means to carry out each statement. None may read all of a table that grows with the work. And what
//! a statement did read, for a measurement.

use std::{
    collections::BTreeSet,
    ffi::CStr,
    path::Path,
    ptr,
    time::{Duration, Instant},
};

use lull_scheduler::effect::{Change, TaskAfter};
use lull_shared::{
    id::{AgentId, JobId, TokenId},
    state::{AttemptEnd, JobState, TaskState},
};
use rusqlite::{Connection, Transaction, TransactionBehavior, ffi};

use super::{super::turn::Turn, blobs, connection, jobs, registry, schema, turn};
use crate::store::{
    conformance::sample::*,
    record::{JobFilter, TaskFilter},
};

/// Tables that grow with the work, and by which index each may be gone through from one end: one that holds few rows.
const LARGE: [(&str, &[&str]); 12] = [
    ("jobs", &["jobs_active", "jobs_pack_unread"]),
    // The scheduler reads all that is open when it starts.
    ("tasks", &["tasks_open"]),
    ("attempts", &["attempts_live"]),
    ("results", &[]),
    ("logs", &[]),
    ("usage_hours", &[]),
    ("work_hours", &[]),
    ("audit", &[]),
    ("blobs", &[]),
    ("blob_pieces", &[]),
    ("blob_links", &[]),
    ("version_blobs", &[]),
];

/// Everything that the connection keeps prepared.
fn prepared(database: &Connection) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    // SAFETY: the handle is that of an open connection, which nobody else uses meanwhile; a statement's text lives as long
    // as the statement, and is copied.
    unsafe {
        let mut statement = ffi::sqlite3_next_stmt(database.handle(), ptr::null_mut());
        while !statement.is_null() {
            let text = ffi::sqlite3_sql(statement);
            texts.insert(CStr::from_ptr(text).to_string_lossy().into_owned());
            statement = ffi::sqlite3_next_stmt(database.handle(), statement);
        }
    }
    texts
}

/// The steps of a statement's plan.
fn plan(database: &Connection, sql: &str) -> Vec<String> {
    let mut statement = database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("it was prepared before");
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().expect("a plan") {
        steps.push(row.get("detail").expect("a step"));
    }
    steps
}

/// What a name in a statement stands for: a table, or itself.
fn table_of<'a>(sql: &'a str, name: &'a str) -> &'a str {
    let words: Vec<&str> = sql.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    let alias = words.windows(3).find(|three| three[1].eq_ignore_ascii_case("as") && three[2] == name);
    alias.map_or(name, |three| three[0])
}

/// The step that goes through a large table, if there is one.
fn scan(database: &Connection, sql: &str) -> Option<String> {
    plan(database, sql).into_iter().find(|step| {
        let Some(rest) = step.strip_prefix("SCAN ") else { return false };
        let mut words = rest.split_whitespace();
        let table = table_of(sql, words.next().unwrap_or_default());
        let Some((_, allowed)) = LARGE.iter().find(|(name, _)| *name == table) else { return false };
        !words.next_back().is_some_and(|index| rest.contains("INDEX") && allowed.contains(&index))
    })
}

/// Goes through all that is read and written while jobs run. What statistics would say of full tables is told to SQLite.
fn used() -> Connection {
    let mut database = Connection::open_in_memory().expect("a database");
    database.set_prepared_statement_cache_capacity(1_000);
    schema::migrate(&mut database).expect("it is made");
    database.pragma_update(None, "foreign_keys", true).expect("a setting");
    {
        let tx = database.transaction_with_behavior(TransactionBehavior::Immediate).expect("a transaction");
        for sql in [
            "INSERT INTO tokens (token_id, role, name, fingerprint, uses, created_us, created_by)
             VALUES (1, 'agent', 'x', zeroblob(32), 0, 0, 'root')",
            "INSERT INTO functions VALUES (1, 'resize')",
            "INSERT INTO versions (version_id, function_id, number, kind, module_digest, module_bytes, canonical_nans, manifest,
                 manifest_signature, interface, published_us, published_by)
             VALUES (1, 1, 1, 'preview1', zeroblob(32), 0, 0, x'', x'', '[]', 0, 'root')",
            "INSERT INTO agents (agent_id, name, peer, intake, token_id, enrolled_us, labels, results_refused)
             VALUES (1, 'desk-1', x'01', 'open', 1, 0, '{}', 0)",
        ] {
            tx.execute(sql, []).expect("a row");
        }
        let turns = [
            vec![submitted(1, 4), started(attempt(1, 0, 1), 1, 10), started(attempt(1, 1, 1), 1, 10)],
            vec![succeeded(attempt(1, 0, 1), 1, 11, b"out"), saved(attempt(1, 1, 1), 1, 11)],
            vec![
                ended(attempt(1, 1, 1), 1, 12, AttemptEnd::Lost, TaskAfter::Again { not_before: at(12), failures: 0 }),
                Change::SnapshotDropped { task: task(1, 1) },
                Change::ResultRefused { attempt: attempt(1, 1, 1), agent: AgentId(1), at: at(12) },
                Change::AgentDisconnected { agent: AgentId(1), at: at(12) },
            ],
            vec![stopped(1, JobState::Cancelled, 13), task_ended(task(1, 1), TaskState::Cancelled, 13)],
        ];
        for changes in turns {
            turn::write(&tx, &Turn::fold(&changes).expect("they fit together")).expect("the turn is taken");
        }
        read(&tx);
        tx.commit().expect("all is kept");
    }
    database
}

/// Every list and every single thing that people and the interface ask for.
fn read(tx: &Transaction<'_>) {
    let (job, first) = (JobId(1), task(1, 0));
    jobs::load(tx).expect("it is read");
    assert!(jobs::load_for_retry(tx, job).expect("it is read").is_some());
    assert_eq!(jobs::ended_badly(tx, job, 0, 10).expect("they are read").len(), 1);
    assert!(jobs::job(tx, job).expect("it is read").is_some());
    let filters = [
        JobFilter::default(),
        JobFilter { state: Some(JobState::Active), ..JobFilter::default() },
        JobFilter { owner: Some(TokenId(1)), ..JobFilter::default() },
        JobFilter { submitter: Some("anna".into()), ..JobFilter::default() },
        JobFilter { name: Some("resize".into()), ..JobFilter::default() },
    ];
    for filter in filters {
        jobs::jobs(tx, &filter).expect("they are read");
    }
    for state in TaskState::ALL.into_iter().map(Some).chain([None]) {
        jobs::tasks(tx, job, &TaskFilter { state, ..TaskFilter::default() }).expect("they are read");
    }
    assert!(jobs::task(tx, first).expect("it is read").is_some());
    assert!(!jobs::attempts(tx, first).expect("they are read").is_empty());
    jobs::job_by_key(tx, TokenId(1), "key").expect("it is read");
    assert_eq!(jobs::newest_attempts(tx, job, None, 1).expect("they are read").len(), 1);
    jobs::job_counts(tx, 10).expect("they are counted");
    jobs::moves(tx, job, 10).expect("they are read");
    jobs::log(tx, first, None).expect("it is read");
    assert_eq!(jobs::results(tx, job, 0, 10).expect("they are read").len(), 1);
    assert!(jobs::result(tx, first).expect("it is read").is_some());
    jobs::totals(tx).expect("they are read");
    registry::audit(tx, 10).expect("it is read");
    registry::authenticate(tx, &[0; 32], at(0)).expect("it is read");
    registry::agent_by_peer(tx, b"1").expect("it is read");
    let digest = lull_shared::digest::Digest::of(b"x");
    blobs::outline(tx, &digest).expect("it is read");
    blobs::piece(tx, &digest, 0).expect("it is read");
}

#[test]
fn no_statement_goes_through_a_table_that_grows_with_the_work() {
    let database = used();
    let statements = prepared(&database);
    assert!(statements.len() > 40, "{} statements were prepared", statements.len());
    for sql in statements.iter().map(String::as_str).chain(blobs::SWEEP) {
        if sql.starts_with("EXPLAIN") || sql.starts_with("INSERT INTO audit") {
            continue;
        }
        // The newest lines, from the end.
        if sql.contains("FROM audit ORDER BY audit_id DESC LIMIT") {
            continue;
        }
        assert_eq!(scan(&database, sql), None, "in: {sql}\n{}", plan(&database, sql).join("\n"));
    }
}

/// The same for what people ask of the views, by the columns that are there to search by.
#[test]
fn views_are_searched_by_an_index() {
    let database = used();
    for sql in [
        "SELECT * FROM agent_hours WHERE hour_number = 1",
        "SELECT * FROM hourly_usage WHERE hour_number BETWEEN 1 AND 2",
        "SELECT * FROM attempt_list WHERE ended_us >= 1 AND ended_us < 2",
        "SELECT * FROM attempt_list WHERE job_id = 1",
        "SELECT * FROM failure_list WHERE ended_us >= 1",
        "SELECT * FROM task_list WHERE job_id = 1 AND task_index = 2",
        "SELECT * FROM move_list WHERE job_id = 1",
        "SELECT * FROM job_progress WHERE job_id = 1",
        "SELECT * FROM agent_list",
        "SELECT * FROM audit_list WHERE at_us >= 1",
    ] {
        assert_eq!(scan(&database, sql), None, "in: {sql}\n{}", plan(&database, sql).join("\n"));
    }
}

/// An index by which rows are sought can still be the wrong one: a job has far more tasks than open ones.
#[test]
fn what_is_counted_often_is_counted_by_the_smallest_index() {
    let database = used();
    let agents = plan(&database, "SELECT * FROM agent_list").join("\n");
    assert!(agents.contains("attempts USING INDEX attempts_live"), "{agents}");
    let statements = prepared(&database);
    let jobs = statements.iter().find(|sql| sql.contains("open_tasks AS (")).expect("jobs are listed");
    let jobs = plan(&database, jobs).join("\n");
    assert!(jobs.contains("tasks USING COVERING INDEX tasks_open"), "{jobs}");
}

#[test]
fn a_statement_without_an_index_is_found() {
    let database = used();
    let step = scan(&database, "SELECT a.reason FROM attempts AS a WHERE a.reason = 'x'");
    assert_eq!(step.as_deref(), Some("SCAN a"));
    assert_eq!(scan(&database, "SELECT * FROM agents WHERE version = 'x'"), None, "agents do not grow with the work");
}

/// What an answer took.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub rows: usize,
    /// Pages of 4 KiB that were looked at, in memory or on the disk.
    pub pages: i64,
    /// Rows that a full scan went over.
    pub scanned: i64,
    pub time: Duration,
}

/// Measures what is read on a connection of its own.
pub fn measure(dir: &Path, work: impl FnOnce(&Transaction<'_>) -> usize) -> Reading {
    let mut database = connection::reader(&connection::file_in(dir)).expect("the file opens");
    let begun = Instant::now();
    let tx = database.transaction().expect("a transaction");
    let rows = work(&tx);
    drop(tx);
    let time = begun.elapsed();
    let pages = status(&database, ffi::SQLITE_DBSTATUS_CACHE_HIT) + status(&database, ffi::SQLITE_DBSTATUS_CACHE_MISS);
    Reading { rows, pages, scanned: scanned(&database), time }
}

fn status(database: &Connection, what: i32) -> i64 {
    let (mut now, mut highest) = (0, 0);
    // SAFETY: the handle is that of an open connection, and both places outlive the call.
    unsafe { ffi::sqlite3_db_status(database.handle(), what, &mut now, &mut highest, 0) };
    now.into()
}

fn scanned(database: &Connection) -> i64 {
    let mut sum = 0;
    // SAFETY: as in `prepared`.
    unsafe {
        let mut statement = ffi::sqlite3_next_stmt(database.handle(), ptr::null_mut());
        while !statement.is_null() {
            sum += i64::from(ffi::sqlite3_stmt_status(statement, ffi::SQLITE_STMTSTATUS_FULLSCAN_STEP, 0));
            statement = ffi::sqlite3_next_stmt(database.handle(), statement);
        }
    }
    sum
}

/// A list that people ask for: what it is called, and how many rows it has.
pub type List = (&'static str, fn(&Transaction<'_>) -> usize);

/// Lists of the interface in a store whose newest job is the last of `jobs`.
pub const LISTS: [List; 13] = [
    ("jobs, newest first", |tx| jobs::jobs(tx, &JobFilter::default()).expect("they are read").len()),
    ("jobs of a name", |tx| {
        jobs::jobs(tx, &JobFilter { name: Some("resize".into()), ..JobFilter::default() }).expect("they are read").len()
    }),
    ("one job that runs", |tx| usize::from(jobs::job(tx, newest(tx)).expect("it is read").is_some())),
    ("its tasks, any state", |tx| page(tx, None)),
    ("its tasks that failed", |tx| page(tx, Some(TaskState::Failed))),
    ("its tasks that run", |tx| page(tx, Some(TaskState::Running))),
    ("its tasks that succeeded", |tx| page(tx, Some(TaskState::Succeeded))),
    ("its results", |tx| jobs::results(tx, newest(tx), 0, 100).expect("they are read").len()),
    ("its newest attempts", |tx| jobs::newest_attempts(tx, newest(tx), None, 400).expect("they are read").len()),
    ("jobs by state", |tx| jobs::job_counts(tx, 1_000).expect("they are counted").len()),
    ("a job for a retry", |tx| usize::from(jobs::load_for_retry(tx, newest(tx)).expect("it is read").is_some())),
    ("a part of a retry", |tx| jobs::ended_badly(tx, newest(tx), 0, 2_048).expect("they are read").len()),
    ("counts over all time", |tx| usize::from(jobs::totals(tx).expect("they are read").attempts > 0)),
];

fn newest(tx: &Transaction<'_>) -> JobId {
    jobs::jobs(tx, &JobFilter { limit: 1, ..JobFilter::default() }).expect("they are read")[0].job
}

fn page(tx: &Transaction<'_>, state: Option<TaskState>) -> usize {
    jobs::tasks(tx, newest(tx), &TaskFilter { state, ..TaskFilter::default() }).expect("they are read").len()
}

/// The rows of a statement, read to the end and dropped.
pub fn rows(tx: &Transaction<'_>, sql: &str) -> usize {
    let mut statement = tx.prepare_cached(sql).expect("it is understood");
    let columns = statement.column_count();
    let mut found = statement.query([]).expect("it is answered");
    let mut count = 0;
    while let Some(row) = found.next().expect("a row") {
        for at in 0..columns {
            let _ = row.get_ref(at).expect("a column");
        }
        count += 1;
    }
    count
}
