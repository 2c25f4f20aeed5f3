//! EDGE: what agents claim, held against its bounds before the scheduler hears it.

use lull_shared::{
    id::{AgentId, AttemptId},
    limits,
    message::{Finished, GoodbyeReason, Hello, Outcome, Payload, ToCoordinator},
    name::check_name,
    resources::Capacity,
};
use semver::Version;

use crate::{
    clock,
    store::{Blobs, StoreError, StoreResult},
};

/// Agents before this version speak otherwise. Raised when support for a version of the work protocol ends.
pub const AGENT_OLDEST: Version = Version::new(0, 1, 0);

/// Whether a greeting may be answered; if not, how the stream ends.
pub fn check_hello(agent: AgentId, hello: &Hello) -> Result<(), GoodbyeReason> {
    let wrong = |what: String| Err(GoodbyeReason::Protocol(what));
    if hello.holding.len() > limits::ATTEMPTS_PER_AGENT_MAX {
        return wrong(format!("{} attempts held", hello.holding.len()));
    }
    if hello.labels.len() > limits::LABELS_MAX {
        return wrong(format!("{} labels", hello.labels.len()));
    }
    for (key, value) in &hello.labels {
        if check_name(key).is_err() || value.len() > limits::NAME_BYTES_MAX {
            return wrong(format!("the label `{}`", key.chars().take(limits::NAME_BYTES_MAX).collect::<String>()));
        }
    }
    let machine = &hello.machine;
    let words = [&machine.os, &machine.arch, &machine.engine, &hello.agent_version];
    if words.iter().any(|word| word.len() > 2 * limits::NAME_BYTES_MAX) {
        return wrong("a machine described at too great a length".into());
    }
    match Version::parse(&hello.agent_version) {
        Ok(version) if version < AGENT_OLDEST => return Err(GoodbyeReason::TooOld { oldest: AGENT_OLDEST.to_string() }),
        Ok(_) => {}
        Err(error) => return wrong(format!("a version that is none: {error}")),
    }
    check_capacity(agent, &hello.capacity).map_err(GoodbyeReason::Protocol)
}

/// Why a message goes no further.
#[derive(Debug)]
pub enum Wrong {
    /// It breaks the protocol; the attempts are those whose ends it tells in that way.
    Breach { what: String, told: Vec<AttemptId> },
    /// The store was asked about it and did not answer.
    Unknown(StoreError),
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self::Breach { what, told: Vec::new() }
    }
}

/// A message within its bounds; a large output must have been delivered before it is spoken of.
pub async fn check(store: &dyn Blobs, agent: AgentId, message: ToCoordinator) -> Result<ToCoordinator, Wrong> {
    let wrong = |what: String| Err(Wrong::from(what));
    match &message {
        ToCoordinator::Hello(_) => return wrong("a second `Hello`".into()),
        ToCoordinator::Finished(finished) => check_results(store, finished).await?,
        ToCoordinator::Saved { snapshot, .. } if snapshot.blob.size_bytes > limits::SNAPSHOT_BYTES_MAX => {
            return wrong(format!("a snapshot of {} bytes", snapshot.blob.size_bytes));
        }
        ToCoordinator::Heartbeat { holding, .. } if holding.len() > limits::ATTEMPTS_PER_AGENT_MAX => {
            return wrong(format!("{} attempts held", holding.len()));
        }
        ToCoordinator::Remains(remains) if remains.log.len() as u64 > limits::LOG_BYTES_MAX => {
            return wrong(format!("a log of {} bytes", remains.log.len()));
        }
        ToCoordinator::Log(piece) if piece.bytes.len() > limits::LOG_PIECE_BYTES => {
            return wrong(format!("{} bytes of a log", piece.bytes.len()));
        }
        ToCoordinator::Cards(cards) if cards.len() > limits::CARDS_MAX => return wrong(format!("{} network cards", cards.len())),
        ToCoordinator::Capacity(capacity) => check_capacity(agent, capacity)?,
        ToCoordinator::Started { .. }
        | ToCoordinator::Paused { .. }
        | ToCoordinator::Released { .. }
        | ToCoordinator::Remains(_)
        | ToCoordinator::Log(_)
        | ToCoordinator::Refused { .. }
        | ToCoordinator::Heartbeat { .. }
        | ToCoordinator::Saved { .. }
        | ToCoordinator::Cards(_)
        | ToCoordinator::Sleeps
        | ToCoordinator::Keeps(_)
        | ToCoordinator::Unkept { .. }
        | ToCoordinator::Blobs(_)
        | ToCoordinator::Policy(_)
        | ToCoordinator::Leaves
        | ToCoordinator::Upgrade(_)
        | ToCoordinator::Farewell => {}
    }
    Ok(message)
}

/// What is wrong with the first result that is not as it should be, and all that are not.
async fn check_results(store: &dyn Blobs, results: &[Finished]) -> Result<(), Wrong> {
    let mut found: Option<(String, Vec<AttemptId>)> = None;
    for one in results {
        let Some(what) = wrong_with(store, one).await.map_err(Wrong::Unknown)? else { continue };
        found.get_or_insert((what, Vec::new())).1.push(one.attempt);
    }
    found.map_or(Ok(()), |(what, told)| Err(Wrong::Breach { what, told }))
}

async fn wrong_with(store: &dyn Blobs, one: &Finished) -> StoreResult<Option<String>> {
    if one.log.len() as u64 > limits::LOG_BYTES_MAX {
        return Ok(Some(format!("a log of {} bytes", one.log.len())));
    }
    match &one.outcome {
        Outcome::Succeeded { output: Payload::Inline(bytes) } if bytes.len() > limits::INLINE_BYTES_MAX => {
            Ok(Some(format!("an inline output of {} bytes", bytes.len())))
        }
        Outcome::Succeeded { output: Payload::Blob(blob) } => {
            // It is to be there still when the result is recorded.
            let delivered = store.touch_blob(&blob.digest, clock::now()).await? == Some(*blob);
            Ok((!delivered).then(|| format!("the output {} was not delivered before", blob.digest)))
        }
        Outcome::Failed(failure) if failure.text_bytes() > limits::FAILURE_BYTES_MAX => {
            Ok(Some(format!("a failure told in {} bytes", failure.text_bytes())))
        }
        Outcome::Succeeded { .. } | Outcome::Failed(_) => Ok(None),
    }
}

fn check_capacity(agent: AgentId, capacity: &Capacity) -> Result<(), String> {
    if capacity.agent != agent {
        return Err(format!("the capacity of {}", capacity.agent));
    }
    if capacity.slots > limits::SLOTS_PER_AGENT_MAX {
        return Err(format!("{} slots", capacity.slots));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lull_shared::{
        digest::BlobRef,
        id::{JobId, TaskId},
        message::{LogPiece, Remains, SnapshotRef},
        resources::{Card, Labels, Mac, Machine, Subnet},
        state::Failure,
    };

    use super::*;
    use crate::store::{
        faulty::{Fault, Faulty},
        memory::Memory,
    };

    fn hello(version: &str) -> Hello {
        let machine =
            Machine { os: "linux".into(), arch: "x86_64".into(), cores: 4, memory_bytes: 8 << 30, engine: "engine".into() };
        let capacity = Capacity {
            agent: AgentId(3),
            run: 0,
            sequence: 1,
            slots: 4,
            slots_busy: 0,
            waiting: 0,
            cpu_free_percent: 100,
            memory_free_bytes: 4 << 30,
            paused: None,
        };
        Hello {
            agent_version: version.into(),
            machine,
            labels: Labels::new(),
            capacity,
            holding: Vec::new(),
            snapshots: Vec::new(),
            instance: Default::default(),
            open_cage: None,
        }
    }

    #[test]
    fn an_agent_that_is_too_old_is_told_from_which_version_on_it_is_understood() {
        assert_eq!(check_hello(AgentId(3), &hello(env!("CARGO_PKG_VERSION"))), Ok(()));
        let too_old = check_hello(AgentId(3), &hello("0.0.9"));
        assert_eq!(too_old, Err(GoodbyeReason::TooOld { oldest: AGENT_OLDEST.to_string() }));
        assert!(matches!(check_hello(AgentId(3), &hello("yesterday's")), Err(GoodbyeReason::Protocol(_))));
    }

    #[tokio::test]
    async fn of_several_results_those_are_named_that_break_the_protocol() {
        let attempt = |index| AttemptId { task: TaskId { job: JobId(1), index }, number: 1 };
        let result = |index, output| Finished {
            attempt: attempt(index),
            outcome: Outcome::Succeeded { output },
            log: Default::default(),
            log_dropped_bytes: 0,
            usage: Default::default(),
        };
        let large = Payload::inline(vec![0; limits::INLINE_BYTES_MAX + 1]);
        let undelivered = Payload::Blob(BlobRef::of(b"never delivered"));
        let results = vec![result(0, Payload::inline("fine")), result(1, large), result(2, undelivered)];
        let store = Memory::default();
        let wrong = check(&store, AgentId(3), ToCoordinator::Finished(results)).await;
        let Err(Wrong::Breach { what, told }) = wrong else { panic!("{wrong:?}") };
        assert_eq!((what.as_str(), told), ("an inline output of 65537 bytes", vec![attempt(1), attempt(2)]));
    }

    #[tokio::test]
    async fn a_large_output_counts_only_as_what_was_delivered() {
        let store = Memory::default();
        let mut writer = store.begin_blob(9).await.expect("a blob begins");
        writer.write(b"delivered").await.expect("it is taken");
        let blob = writer.finish().await.expect("it is kept");
        let attempt = AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 };
        let said = async |blob| {
            let outcome = Outcome::Succeeded { output: Payload::Blob(blob) };
            let one = Finished { attempt, outcome, log: Default::default(), log_dropped_bytes: 0, usage: Default::default() };
            check(&store, AgentId(3), ToCoordinator::Finished(vec![one])).await
        };
        assert!(said(blob).await.is_ok());
        let longer = BlobRef { size_bytes: blob.size_bytes + 1, ..blob };
        assert!(matches!(said(longer).await, Err(Wrong::Breach { told, .. }) if told == [attempt]));
    }

    #[tokio::test]
    async fn words_of_an_agent_are_as_long_as_their_bounds_and_no_longer() {
        let (store, attempt) = (Memory::default(), AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 });
        let finished = |outcome, log: usize| {
            let (log, usage) = (vec![0; log].into(), Default::default());
            ToCoordinator::Finished(vec![Finished { attempt, outcome, log, log_dropped_bytes: 0, usage }])
        };
        let inline = |bytes: usize| Outcome::Succeeded { output: Payload::inline(vec![0; bytes]) };
        let failed = |bytes: usize| Outcome::Failed(Failure::ExecutorDied { how: "x".repeat(bytes) });
        let remains = |log: usize| {
            let (log, usage) = (vec![0; log].into(), Default::default());
            ToCoordinator::Remains(Box::new(Remains { attempt, log, log_dropped_bytes: 0, usage }))
        };
        let piece =
            |bytes: usize| ToCoordinator::Log(LogPiece { attempt, asked: 0, from: 0, bytes: vec![0; bytes].into(), total: None });
        let saved = |size_bytes| {
            let blob = BlobRef { size_bytes, ..BlobRef::of(b"snapshot") };
            ToCoordinator::Saved { attempt, snapshot: SnapshotRef { blob, spent_us: 0 } }
        };
        let slots = |slots| ToCoordinator::Capacity(Capacity { slots, ..hello("1.0.0").capacity });
        let (log, inlined) = (limits::LOG_BYTES_MAX as usize, limits::INLINE_BYTES_MAX);
        let (told, part) = (limits::FAILURE_BYTES_MAX, limits::LOG_PIECE_BYTES);
        let words = [
            (finished(inline(0), log), finished(inline(0), log + 1)),
            (finished(inline(inlined), 0), finished(inline(inlined + 1), 0)),
            (finished(failed(told), 0), finished(failed(told + 1), 0)),
            (remains(log), remains(log + 1)),
            (piece(part), piece(part + 1)),
            (saved(limits::SNAPSHOT_BYTES_MAX), saved(limits::SNAPSHOT_BYTES_MAX + 1)),
            (slots(limits::SLOTS_PER_AGENT_MAX), slots(limits::SLOTS_PER_AGENT_MAX + 1)),
        ];
        for (longest, too_long) in words {
            let fits = check(&store, AgentId(3), longest).await;
            assert!(fits.is_ok(), "{fits:?}");
            assert!(matches!(check(&store, AgentId(3), too_long).await, Err(Wrong::Breach { .. })));
        }
        let another = ToCoordinator::Capacity(Capacity { agent: AgentId(4), ..hello("1.0.0").capacity });
        assert!(matches!(check(&store, AgentId(3), another).await, Err(Wrong::Breach { .. })));
        let again = ToCoordinator::Hello(Box::new(hello("1.0.0")));
        assert!(matches!(check(&store, AgentId(3), again).await, Err(Wrong::Breach { .. })));
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_no_breach_of_the_agent() {
        let output = Payload::Blob(BlobRef::of(b"large"));
        let attempt = AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 };
        let outcome = Outcome::Succeeded { output };
        let result = Finished { attempt, outcome, log: Default::default(), log_dropped_bytes: 0, usage: Default::default() };
        let store = Faulty::new(Arc::new(Memory::default()), |_| Fault::Refused);
        let wrong = check(&store, AgentId(3), ToCoordinator::Finished(vec![result])).await;
        assert!(matches!(wrong, Err(Wrong::Unknown(_))), "{wrong:?}");
    }

    #[test]
    fn an_agent_speaks_for_itself_only() {
        assert!(matches!(check_hello(AgentId(4), &hello("1.0.0")), Err(GoodbyeReason::Protocol(_))));
    }

    #[tokio::test]
    async fn lists_and_words_beyond_all_reason_go_no_further() {
        let endless = |count| vec![AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 }; count];
        let said = |change: fn(&mut Hello)| {
            let mut hello = hello("1.0.0");
            change(&mut hello);
            check_hello(AgentId(3), &hello)
        };
        let labels = |count: usize| (0..count).map(|n| (format!("label{n}"), "here".to_owned())).collect::<Labels>();
        let most =
            Hello { holding: endless(limits::ATTEMPTS_PER_AGENT_MAX), labels: labels(limits::LABELS_MAX), ..hello("1.0.0") };
        assert_eq!(check_hello(AgentId(3), &most), Ok(()));
        let held = Hello { holding: endless(limits::ATTEMPTS_PER_AGENT_MAX + 1), ..hello("1.0.0") };
        let labelled = Hello { labels: labels(limits::LABELS_MAX + 1), ..hello("1.0.0") };
        let refused = [
            check_hello(AgentId(3), &held),
            check_hello(AgentId(3), &labelled),
            said(|hello| drop(hello.labels.insert("site".into(), "x".repeat(limits::NAME_BYTES_MAX + 1)))),
            said(|hello| hello.machine.os = "x".repeat(2 * limits::NAME_BYTES_MAX + 1)),
            said(|hello| hello.capacity.slots = limits::SLOTS_PER_AGENT_MAX + 1),
        ];
        assert!(refused.iter().all(|said| matches!(said, Err(GoodbyeReason::Protocol(_)))), "{refused:?}");
        let store = Memory::default();
        let card = Card { mac: Mac([2, 0, 0, 0, 0, 1]), subnet: Subnet::of([10, 0, 0, 7].into(), 24) };
        for (count, fits) in [(limits::CARDS_MAX, true), (limits::CARDS_MAX + 1, false)] {
            let said = check(&store, AgentId(3), ToCoordinator::Cards(vec![card; count])).await;
            assert_eq!(said.is_ok(), fits, "{said:?}");
        }
        for (count, fits) in [(limits::ATTEMPTS_PER_AGENT_MAX, true), (limits::ATTEMPTS_PER_AGENT_MAX + 1, false)] {
            let said = check(&store, AgentId(3), ToCoordinator::Heartbeat { frame_read: 0, holding: endless(count) }).await;
            assert_eq!(said.is_ok(), fits);
        }
    }

    #[test]
    fn a_machine_says_who_it_is_in_words_as_long_as_their_bounds_and_no_longer() {
        type Change = fn(&mut Hello, usize);
        let words: [(Change, usize); 5] = [
            (|hello, length| hello.machine.os = "x".repeat(length), 2 * limits::NAME_BYTES_MAX),
            (|hello, length| hello.machine.arch = "x".repeat(length), 2 * limits::NAME_BYTES_MAX),
            (|hello, length| hello.machine.engine = "x".repeat(length), 2 * limits::NAME_BYTES_MAX),
            (|hello, length| hello.agent_version = format!("1.0.0-{}", "x".repeat(length - 6)), 2 * limits::NAME_BYTES_MAX),
            (|hello, length| drop(hello.labels.insert("site".into(), "x".repeat(length))), limits::NAME_BYTES_MAX),
        ];
        for (number, (change, longest)) in words.into_iter().enumerate() {
            let said = |length| {
                let mut hello = hello("1.0.0");
                change(&mut hello, length);
                check_hello(AgentId(3), &hello)
            };
            assert_eq!(said(longest), Ok(()), "word {number}");
            assert!(matches!(said(longest + 1), Err(GoodbyeReason::Protocol(_))), "word {number}");
        }
        let mut wrong = hello("1.0.0");
        wrong.labels.insert("no name".into(), "here".into());
        assert!(matches!(check_hello(AgentId(3), &wrong), Err(GoodbyeReason::Protocol(_))), "a label that is called so");
        assert_eq!(check_hello(AgentId(3), &hello(&AGENT_OLDEST.to_string())), Ok(()), "the oldest that is understood");
    }
}
