//! Why a job's tasks failed: its failures by cause, each with an example.

use std::collections::BTreeMap;

use lull_shared::state::TaskState;

use crate::{
    api::CauseBody,
    http::{Interface, door::error::Answer},
    store::record::{JobRecord, TaskFilter, TaskRecord},
};

/// Failed tasks that are looked at: their causes are few, and more of them only count.
const TASKS_MAX: u32 = 10_000;
/// Causes that are named; one of each further task is in its list.
const CAUSES_MAX: usize = 8;
/// Characters of a log's line.
const LINE_CHARS: usize = 200;

/// The causes of a job's failures, the most frequent first.
pub(crate) async fn of(state: &Interface, job: &JobRecord) -> Answer<Vec<CauseBody>> {
    let store = &state.coordinator.store;
    let filter = TaskFilter { state: Some(TaskState::Failed), from: 0, limit: TASKS_MAX };
    let mut causes = summed(store.tasks(job.job, &filter).await?);
    causes.truncate(CAUSES_MAX);
    for cause in &mut causes {
        let log = store.log(cause.example, None).await?;
        cause.log = log.and_then(|log| first_line(&String::from_utf8_lossy(&log.log)));
    }
    Ok(causes)
}

/// Tasks by their reason, whatever numbers are in it.
fn summed(tasks: Vec<TaskRecord>) -> Vec<CauseBody> {
    let mut causes: BTreeMap<String, CauseBody> = BTreeMap::new();
    for task in tasks {
        let message = task.reason.unwrap_or_else(|| "no reason is known".into());
        let first = || CauseBody { message: message.clone(), tasks: 0, example: task.task, log: None };
        causes.entry(kind(&message)).or_insert_with(first).tasks += 1;
    }
    let mut causes: Vec<CauseBody> = causes.into_values().collect();
    causes.sort_by_key(|cause| (std::cmp::Reverse(cause.tasks), cause.example));
    causes
}

/// A message without the numbers that differ from task to task. An exit code is a cause of its own.
fn kind(message: &str) -> String {
    if message.contains("exit") {
        return message.to_owned();
    }
    let mut kind = String::with_capacity(message.len());
    for c in message.chars() {
        if !c.is_ascii_digit() {
            kind.push(c);
        } else if !kind.ends_with('#') {
            kind.push('#');
        }
    }
    kind
}

fn first_line(log: &str) -> Option<String> {
    let line = log.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(match line.char_indices().nth(LINE_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use lull_shared::id::{JobId, TaskId};

    use super::*;

    fn failed(index: u32, reason: &str) -> TaskRecord {
        TaskRecord {
            task: TaskId { job: JobId(1), index },
            state: TaskState::Failed,
            attempts: 1,
            failures: 1,
            agent: None,
            agent_name: None,
            started: None,
            ended: None,
            reason: Some(reason.to_owned()),
            not_before: None,
            output_bytes: None,
        }
    }

    #[test]
    fn failures_are_summed_whatever_numbers_are_in_their_reasons() {
        let tasks = vec![
            failed(0, "it exited with code 3"),
            failed(1, "it needed 1024 bytes more"),
            failed(2, "it exited with code 4"),
            failed(3, "it needed 77 bytes more"),
        ];
        let causes = summed(tasks);
        let told: Vec<_> = causes.iter().map(|cause| (cause.message.as_str(), cause.tasks, cause.example.index)).collect();
        let expected = [("it needed 1024 bytes more", 2, 1), ("it exited with code 3", 1, 0), ("it exited with code 4", 1, 2)];
        assert_eq!(told, expected);
    }

    #[test]
    fn the_first_line_with_something_in_it_stands_for_a_log() {
        assert_eq!(first_line("\n  \n thread 'main' panicked\nmore").as_deref(), Some("thread 'main' panicked"));
        assert_eq!(first_line(" \n"), None);
        assert_eq!(first_line(&"é".repeat(300)).map(|line| line.chars().count()), Some(LINE_CHARS + 1));
    }

    #[test]
    fn a_cause_is_its_words_without_their_numbers_and_the_first_of_equally_many_is_named_first() {
        assert_eq!(kind("it needed 1024 of 77 bytes2"), "it needed # of # bytes#");
        assert_eq!(kind("exit code 12"), "exit code 12", "a code is a cause of its own");
        let causes = summed(vec![failed(4, "b"), failed(1, "a"), failed(3, "c"), failed(2, "c")]);
        let told: Vec<_> = causes.iter().map(|cause| (cause.message.as_str(), cause.tasks, cause.example.index)).collect();
        assert_eq!(told, [("c", 2, 3), ("a", 1, 1), ("b", 1, 4)]);
        let line = "x".repeat(LINE_CHARS);
        assert_eq!(first_line(&line), Some(line.clone()), "as long as it may be");
        assert_eq!(first_line(&format!("{line}y")), Some(format!("{line}…")));
    }
}
