//! What each view and each list reads of a full store, measured on demand, in SQLite and on the server that
//! `LULL_TEST_SQLSERVER` names:
//! `LULL_READS_TASKS=10000000 cargo test --release -p lull-coordinator --lib -- --ignored --nocapture what_views_and_lists_read`.

use std::{sync::Arc, time::Instant};

use lull_scheduler::effect::TaskAfter;
use lull_shared::state::{AttemptEnd, JobState};

use super::{
    super::{
        embedded::plans,
        record::{JobFilter, TaskFilter},
        usage,
    },
    Backend, InFile, OnServer, SERVER, T0, World,
    sample::*,
};

/// How many tasks there are.
const TASKS: &str = "LULL_READS_TASKS";
const AGENTS: u64 = 500;
/// Tasks that one turn starts and ends.
const TURN: u32 = 2_500;
/// All attempts end within these.
const HOURS: u64 = 30 * 24;

/// A store with jobs of which the last still runs: of its tasks 1,000 are with agents. Of 1,000 tasks three fail, and one in a
/// hundred is moved once.
async fn full(backend: Arc<dyn Backend>, tasks: u32) -> World {
    let world = World::on(backend).await.peopled(AGENTS).await;
    let each = tasks / 10;
    let begun = Instant::now();
    for job in 1..=10_u32 {
        let second = |index: u32| u64::from((job - 1) * each + index) * HOURS * 3600 / u64::from(tasks);
        world.commit(&[submitted(u64::from(job), each)]).await;
        for first in (0..each).step_by(TURN as usize) {
            let mut turn = Vec::new();
            for index in first..each.min(first + TURN) {
                let (agent, at) = (1 + u64::from(index) % AGENTS, second(index));
                let mut task = attempt(u64::from(job), index, 1);
                turn.push(started(task, agent, at));
                if job == 10 && index + 1_000 >= each {
                    continue;
                }
                if index % 100 == 7 {
                    let again = TaskAfter::Again { not_before: self::at(at), failures: 0 };
                    turn.push(ended(task, agent, at, AttemptEnd::Evicted, again));
                    task = attempt(u64::from(job), index, 2);
                    turn.push(started(task, 1 + (agent + 1) % AGENTS, at));
                }
                let agent = if task.number == 1 { agent } else { 1 + (agent + 1) % AGENTS };
                turn.push(match index % 1_000 {
                    11 | 22 | 33 => ended(task, agent, at, AttemptEnd::Failed, TaskAfter::Failed),
                    _ => succeeded(task, agent, at, b"out"),
                });
            }
            world.commit(&turn).await;
        }
        if job < 10 {
            world.commit(&[job_ended(u64::from(job), JobState::Failed, second(each - 1))]).await;
        }
    }
    println!("{}: {tasks} tasks in {:.0?}", world.backend.name(), begun.elapsed());
    world
}

/// A view, and what people search it by.
fn views() -> Vec<String> {
    let hour = usage::hour(T0) + (HOURS / 2) as i64;
    let (from, before) = (hour * 3_600_000_000, (hour + 1) * 3_600_000_000);
    let day = format!("hour_number >= {hour} AND hour_number < {}", hour + 24);
    vec![
        "job_progress".into(),
        "task_list WHERE job_id = 5 AND task_index < 100".into(),
        "attempt_list WHERE job_id = 5 AND task_index < 100".into(),
        format!("attempt_list WHERE ended_us >= {from} AND ended_us < {before}"),
        format!("failure_list WHERE ended_us >= {from} AND ended_us < {before}"),
        "move_list WHERE job_id = 5".into(),
        "agent_list".into(),
        format!("agent_hours WHERE hour_number = {hour}"),
        format!("agent_hours WHERE {day}"),
        format!("hourly_usage WHERE {day}"),
        "daily_usage".into(),
        "audit_list".into(),
        "version_list".into(),
        "label_list".into(),
        "coordinator_list".into(),
        "policy_list".into(),
        "quarantine_list".into(),
        "idle_hour_list".into(),
    ]
}

fn tasks() -> u32 {
    std::env::var(TASKS).ok().and_then(|number| number.parse().ok()).unwrap_or(100_000)
}

#[tokio::test]
#[ignore = "a measurement"]
async fn what_views_and_lists_read() {
    let file = Arc::new(InFile { folder: tempfile::tempdir().expect("a folder for the test") });
    let dir = file.dir();
    drop(full(file.clone(), tasks()).await);
    println!("{:>9} {:>9} {:>9} {:>9}  of", "rows", "pages", "scanned", "ms");
    let line = |reading: plans::Reading, name: &str| {
        let plans::Reading { rows, pages, scanned, time } = reading;
        println!("{rows:>9} {pages:>9} {scanned:>9} {:>9.1}  {name}", time.as_secs_f64() * 1e3);
    };
    for view in views() {
        line(plans::measure(&dir, |tx| plans::rows(tx, &format!("SELECT * FROM {view}"))), &view);
    }
    for (name, list) in plans::LISTS {
        line(plans::measure(&dir, list), name);
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn what_views_and_lists_read_on_the_server() {
    let Ok(connection_string) = std::env::var(SERVER) else {
        println!("SQL Server: NOT RUN, {SERVER} is not set");
        return;
    };
    let world = full(Arc::new(OnServer(connection_string.clone())), tasks()).await;
    println!("{:>9} {:>9} {:>9}  of", "rows", "pages", "ms");
    for view in views() {
        let begun = Instant::now();
        let (rows, pages) = super::super::sqlserver::measure(&connection_string, &view).await.expect("the view can be read");
        let pages = pages.map_or("-".to_owned(), |pages| pages.to_string());
        println!("{rows:>9} {pages:>9} {:>9.1}  {view}", begun.elapsed().as_secs_f64() * 1e3);
    }
    let begun = Instant::now();
    let jobs = world.store.jobs(&JobFilter::default()).await.expect("they are read");
    println!("{:>9} {:>9} {:>9.1}  jobs", jobs.len(), "-", begun.elapsed().as_secs_f64() * 1e3);
    for state in lull_shared::state::TaskState::ALL.into_iter().map(Some).chain([None]) {
        let (begun, filter) = (Instant::now(), TaskFilter { state, ..TaskFilter::default() });
        let tasks = world.store.tasks(jobs[0].job, &filter).await.expect("they are read");
        let name = state.map_or("any state".to_owned(), |state| state.to_string());
        println!("{:>9} {:>9} {:>9.1}  tasks, {name}", tasks.len(), "-", begun.elapsed().as_secs_f64() * 1e3);
    }
}
