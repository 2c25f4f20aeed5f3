//! Logs: those that were kept, and those that are written at this moment, part by part.
//!
//! `from` says where to begin and `wait_ms` how long to wait for more of a log that is still written: a reader that goes on
//! at `next` each time follows it, with one question to the agent a second at most.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId},
    message::LogPiece,
};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::{
    api::LogBody,
    fleet::logs::{Ask, ReadError},
    http::{
        Interface, Shared,
        door::{
            auth::{Asked, At, Viewer},
            error::{Answer, Refused},
        },
        work::tasks,
    },
    store::record::LogRecord,
};

/// The longest that a reader is kept waiting: less than what proxies cut off.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// How often an agent is asked for somebody who waits.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Which part of which log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    attempt: Option<u32>,
    from: Option<u64>,
    wait_ms: Option<u64>,
}

/// `GET /jobs/{job}/tasks/{index}/log`
pub(crate) async fn log(
    State(state): Shared,
    _viewer: Viewer,
    At((job, index)): At<(JobId, u32)>,
    Asked(asked): Asked<Part>,
) -> Answer<Json<LogBody>> {
    let task = TaskId { job, index };
    tasks::remembered(&state, task).await?;
    let until = Instant::now() + asked.wait_ms.map_or(Duration::ZERO, Duration::from_millis).min(WAIT_MAX);
    loop {
        let body = match live(&state, task, asked.attempt).await? {
            Some((attempt, agent)) => read(&state, agent, attempt, asked.from.unwrap_or(0)).await?,
            None => {
                if let Some(body) = kept(&state, task, &asked).await? {
                    return Ok(Json(body));
                }
                // It waits to begin, or to be tried again.
                None
            }
        };
        let over = Instant::now() >= until || state.shutdown.is_cancelled();
        match body {
            Some(body) if over || !body.text.is_empty() => return Ok(Json(body)),
            None if over => return Err(none(task, asked.attempt)),
            Some(_) | None => {}
        }
        tokio::select! {
            () = sleep(ASK_EVERY.min(until.saturating_duration_since(Instant::now()))) => {}
            () = state.shutdown.cancelled() => {}
        }
    }
}

/// Which attempt's log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Of {
    attempt: Option<u32>,
}

/// `GET /jobs/{job}/tasks/{index}/log/text`: all of it that is there, as it was written.
pub(crate) async fn text(
    State(state): Shared,
    _viewer: Viewer,
    At((job, index)): At<(JobId, u32)>,
    Asked(asked): Asked<Of>,
) -> Answer<Response> {
    let task = TaskId { job, index };
    tasks::remembered(&state, task).await?;
    let Some(body) = now(&state, task, asked.attempt).await? else { return Err(none(task, asked.attempt)) };
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((kind, body.text).into_response())
}

/// What there is of a log, from its beginning; none before anything was written.
pub(crate) async fn now(state: &Interface, task: TaskId, attempt: Option<u32>) -> Answer<Option<LogBody>> {
    let read = match live(state, task, attempt).await? {
        Some((attempt, agent)) => read(state, agent, attempt, 0).await?,
        None => None,
    };
    match read {
        Some(body) => Ok(Some(body)),
        None => kept(state, task, &Part { attempt, from: None, wait_ms: None }).await,
    }
}

fn none(task: TaskId, attempt: Option<u32>) -> Refused {
    let which = attempt.map(|number| format!(" of attempt {number}")).unwrap_or_default();
    Refused::not_found(format!("there is no log{which} of {task}"), "there is one from the moment that an attempt has begun")
}

/// The attempt that was asked for, or the newest, if it is with an agent.
async fn live(state: &Interface, task: TaskId, number: Option<u32>) -> Answer<Option<(AttemptId, AgentId)>> {
    let live = state.coordinator.dispatch.query(move |scheduler, _| scheduler.live(task)).await?;
    Ok(live.into_iter().rfind(|(attempt, _)| number.is_none_or(|number| number == attempt.number)))
}

/// What an attempt that is with an agent wrote from this byte on; none if it has not begun.
async fn read(state: &Interface, agent: AgentId, attempt: AttemptId, from: u64) -> Answer<Option<LogBody>> {
    match state.coordinator.mesh.logs.read(agent, Ask { attempt, from }).await {
        Ok(piece) => Ok(piece.total.is_some().then(|| part(piece))),
        // Its log is kept there, and comes with its result.
        Err(ReadError::Away | ReadError::Silent) => {
            Ok(Some(LogBody { attempt, text: String::new(), dropped_bytes: 0, from, next: from, live: true }))
        }
        Err(busy @ ReadError::Busy) => Err(Refused::busy(busy.to_string())),
    }
}

/// What is not a whole character yet comes with the next part.
fn part(piece: LogPiece) -> LogBody {
    let LogPiece { attempt, asked, from, bytes, .. } = piece;
    let whole = bytes.len() - cut_character(&bytes);
    LogBody {
        attempt,
        text: String::from_utf8_lossy(&bytes[..whole]).into_owned(),
        dropped_bytes: from.saturating_sub(asked),
        from,
        next: from.saturating_add(whole as u64),
        live: true,
    }
}

/// How many bytes at the end are the beginning of a character whose rest is missing.
fn cut_character(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let begins = |byte: u8| match byte {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 0,
    };
    let cut = tail.iter().rev().zip(1..).find(|(byte, _)| **byte & 0xC0 != 0x80);
    cut.filter(|(byte, length)| begins(**byte) > *length).map_or(0, |(_, length)| length)
}

/// The log of an attempt that has ended, from where it was asked for; none while nothing was kept and something may be.
async fn kept(state: &Interface, task: TaskId, asked: &Part) -> Answer<Option<LogBody>> {
    let store = &state.coordinator.store;
    let from = asked.from.unwrap_or(0);
    if let Some(record) = store.log(task, asked.attempt).await? {
        return Ok(Some(rest(record, from)));
    }
    let ended = store
        .attempts(task)
        .await?
        .into_iter()
        .rfind(|attempt| attempt.end.is_some() && asked.attempt.is_none_or(|number| number == attempt.attempt.number));
    Ok(ended.filter(|_| asked.from.is_some()).map(|attempt| LogBody {
        attempt: attempt.attempt,
        text: String::new(),
        dropped_bytes: 0,
        from,
        next: from,
        live: false,
    }))
}

/// A kept log is the first and the last half of what was written: where the gap is, the places after it count on.
fn rest(record: LogRecord, from: u64) -> LogBody {
    let LogRecord { attempt, log, dropped_bytes } = record;
    let length = log.len() as u64;
    let head = if dropped_bytes == 0 { length } else { length / 2 };
    let (start, dropped) = match from {
        _ if from <= head => (from, dropped_bytes),
        _ => (from.saturating_sub(dropped_bytes).clamp(head, length), (head + dropped_bytes).saturating_sub(from)),
    };
    let text = String::from_utf8_lossy(&log[usize::try_from(start).unwrap_or(log.len()).min(log.len())..]).into_owned();
    LogBody { attempt, text, dropped_bytes: dropped, from, next: length + dropped_bytes, live: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(log: &'static [u8], dropped_bytes: u64) -> LogRecord {
        let attempt = AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 };
        LogRecord { attempt, log: log.into(), dropped_bytes }
    }

    #[test]
    fn whoever_read_a_log_while_it_was_written_gets_the_rest_of_it_and_nothing_twice() {
        let read = |dropped, from| {
            let LogBody { text, dropped_bytes, next, .. } = rest(record(b"abcdwxyz", dropped), from);
            (text, dropped_bytes, next)
        };
        assert_eq!(read(0, 0), ("abcdwxyz".into(), 0, 8));
        assert_eq!(read(0, 6), ("yz".into(), 0, 8));
        assert_eq!(read(10, 2), ("cdwxyz".into(), 10, 18));
        assert_eq!(read(10, 9), ("wxyz".into(), 5, 18), "it had read five of those that are not kept");
        assert_eq!(read(10, 16), ("yz".into(), 0, 18));
        assert_eq!(read(10, 99), (String::new(), 0, 18));
    }

    #[test]
    fn a_character_that_is_cut_comes_whole_with_the_next_part() {
        let text = "aé€😀";
        for cut in 0..=text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            let whole = first.len() - cut_character(first);
            let joined = [&first[whole..], second].concat();
            let both = String::from_utf8_lossy(&first[..whole]).into_owned() + &String::from_utf8_lossy(&joined);
            assert_eq!(both, text, "cut at {cut}");
        }
        assert_eq!(cut_character(b"plain"), 0);
        assert_eq!(cut_character(&[0xff, 0xfe]), 0, "nonsense is not waited for");
    }

    #[test]
    fn the_gap_of_a_kept_log_begins_where_its_head_ends() {
        let read = |from| {
            let LogBody { text, dropped_bytes, next, live, .. } = rest(record(b"abcdwxyz", 10), from);
            assert!(!live && next == 18);
            (text, dropped_bytes)
        };
        let expected = [("dwxyz", 10), ("wxyz", 10), ("wxyz", 9), ("wxyz", 1), ("wxyz", 0), ("xyz", 0), ("z", 0), ("", 0)];
        assert_eq!([3, 4, 5, 13, 14, 15, 17, 18].map(read), expected.map(|(text, dropped)| (text.to_owned(), dropped)));
    }

    #[test]
    fn a_part_of_a_log_that_is_written_goes_on_after_its_last_whole_character() {
        let bytes = bytes::Bytes::from_static(&[b'a', 0xC3, 0xA9, 0xE2, 0x82]);
        let attempt = record(b"", 0).attempt;
        let body = part(LogPiece { attempt, asked: 5, from: 9, total: Some(14), bytes });
        assert_eq!((body.text.as_str(), body.dropped_bytes, body.from, body.next, body.live), ("aé", 4, 9, 12, true));
        let early = part(LogPiece { attempt, asked: 9, from: 9, total: Some(9), bytes: bytes::Bytes::new() });
        assert_eq!((early.text.as_str(), early.dropped_bytes, early.next), ("", 0, 9));
        assert_eq!([&b"\xC3"[..], b"\xE2\x82", b"\xF0\x9F\x98", b"a\xE2", b"\x82"].map(cut_character), [1, 2, 3, 1, 0]);
    }
}
