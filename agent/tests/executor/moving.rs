//! Attempts that are suspended, moved to another process, and go on as if nothing had been.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lull_engine::{
    executor::{
        moving::Unmovable,
        process::{AskError, Death, Event, Finished, Input, Output, SpawnError},
        protocol::{Ask, Build, LoadError},
    },
    snapshot::{
        Part, SEAL_BYTES, Seal, Unfit,
        body::{self, Global, Host, Small},
    },
};
use lull_shared::{
    digest::{BlobRef, Digest},
    state::{Failure, Usage},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    bench::{Bed, Bench, DEADLINE, attempt, inline},
    guests, movable,
};

fn input() -> Input {
    Input::Inline(Bytes::from((0..5_000).map(|i| (i * 7) as u8).collect::<Vec<u8>>()))
}

/// An end, and the digest of what was written.
struct End {
    finished: Finished,
    output: Digest,
}

impl End {
    fn of(finished: Finished) -> Self {
        let output = match &finished.outcome {
            Ok(Output::Inline(bytes)) => Digest::of(bytes),
            Ok(Output::File { path, blob }) => {
                assert_eq!(Digest::of(&std::fs::read(path).expect("the output")), blob.digest);
                blob.digest
            }
            Err(failure) => panic!("{failure}"),
        };
        Self { finished, output }
    }
}

fn same(plain: &End, moved: Finished) {
    let moved = End::of(moved);
    assert_eq!(plain.output, moved.output);
    let log = |end: &End| (end.finished.log.clone(), end.finished.log_dropped_bytes);
    assert_eq!(log(plain), log(&moved));
    assert_eq!(plain.finished.usage.memory_peak_bytes, moved.finished.usage.memory_peak_bytes);
}

async fn undisturbed(text: &str, input: Input) -> End {
    let mut bed = Bench::new(text).start().await;
    bed.run_with(0, input);
    End::of(bed.finished().await)
}

/// Waits until the executor has had some processor time: its guest is somewhere in the middle.
async fn in_the_middle(bed: &Bed) {
    let begun = bed.executor.cpu_time().expect("it lives");
    let enough = || bed.executor.cpu_time().is_ok_and(|time| time > begun + Duration::from_millis(30));
    tokio::time::timeout(DEADLINE, async {
        while !enough() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("it runs");
}

/// Suspends a run that is in the middle; the snapshot.
async fn suspended(bench: &Bench, input: Input) -> PathBuf {
    let path = bench.folder.path().join("snapshot");
    let mut bed = bench.start().await;
    bed.run_with(0, input);
    bed.started(0).await;
    in_the_middle(&bed).await;
    bed.executor.suspend(attempt(0), path.clone()).expect("it runs");
    assert_eq!(bed.saved().await.path, path);
    path
}

#[tokio::test]
async fn moved_twenty_times_at_random_instants_it_ends_as_if_undisturbed() {
    let text = movable::mixer(300, 2_000_000, 1);
    let bench = Bench::migratable(&text);
    let mut random = StdRng::seed_from_u64(20);
    let mut snapshot: Option<PathBuf> = None;
    for moves in 0..20 {
        let mut bed = bench.start().await;
        match snapshot.take() {
            None => bed.run_with(0, input()),
            Some(path) => bed.resume(0, input(), path),
        }
        bed.started(0).await;
        tokio::time::sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        let path = bench.folder.path().join(format!("snapshot-{moves}"));
        bed.executor.suspend(attempt(0), path.clone()).expect("it runs");
        let saved = bed.saved().await;
        assert_eq!((saved.attempt, saved.ask, &saved.path), (attempt(0), Ask::Suspend, &path));
        assert_eq!(saved.blob.digest, Digest::of(&std::fs::read(&path).expect("the snapshot")));
        assert_eq!(bed.died().await, (None, Vec::new(), Death::Killed));
        snapshot = Some(path);
    }
    let mut bed = bench.start().await;
    bed.resume(0, input(), snapshot.expect("twenty of them"));
    let moved = bed.finished().await;
    let plain = undisturbed(&text, input()).await;
    let cpu_us = moved.usage.cpu_us;
    same(&plain, moved);
    assert!(cpu_us > plain.finished.usage.cpu_us / 2, "the time of all the moves is counted: {cpu_us} us");
}

#[tokio::test]
async fn long_input_and_output_go_on_where_they_were() {
    let text = movable::mixer(40, 12_000_000, 300);
    let bench = Bench::migratable(&text);
    let path = bench.folder.path().join("input");
    std::fs::write(&path, (0..300_000).map(|i| (i % 251) as u8).collect::<Vec<u8>>()).expect("a file");
    let mut snapshot: Option<PathBuf> = None;
    for moves in 0..4 {
        let mut bed = bench.start().await;
        match snapshot.take() {
            None => bed.run_with(0, Input::File(path.clone())),
            Some(snapshot) => bed.resume(0, Input::File(path.clone()), snapshot),
        }
        bed.run(9, b"of another one, which waits");
        bed.started(0).await;
        in_the_middle(&bed).await;
        let path = bench.folder.path().join(format!("snapshot-{moves}"));
        bed.executor.suspend(attempt(0), path.clone()).expect("it runs");
        bed.saved().await;
        assert_eq!(bed.died().await, (None, vec![attempt(9)], Death::Killed), "what waited is given back and not begun");
        assert!(!bench.folder.path().join("outputs").join("output-0").exists(), "its output is in the snapshot");
        snapshot = Some(path);
    }
    let mut bed = bench.start().await;
    bed.resume(0, Input::File(path.clone()), snapshot.expect("four of them"));
    bed.run(1, b"next");
    let moved = bed.finished().await;
    assert!(matches!(moved.outcome, Ok(Output::File { .. })));
    same(&undisturbed(&text, Input::File(path)).await, moved);
    bed.finished().await.outcome.expect("the next one has its own input");
}

#[tokio::test]
async fn checkpoints_leave_an_attempt_as_it_is_and_can_be_gone_on_from() {
    let text = movable::mixer(100, 2_000_000, 20);
    let bench = Bench::migratable(&text);
    let mut bed = bench.start().await;
    bed.run_with(0, input());
    bed.started(0).await;
    let mut paths = Vec::new();
    for number in 0..4 {
        in_the_middle(&bed).await;
        let path = bench.folder.path().join(format!("checkpoint-{number}"));
        bed.executor.checkpoint(attempt(0), path.clone()).expect("it runs");
        let saved = bed.saved().await;
        assert_eq!((saved.ask, &saved.path), (Ask::Checkpoint, &path));
        paths.push(path);
    }
    let went_on = bed.finished().await;
    let plain = undisturbed(&text, input()).await;
    same(&plain, went_on);
    for path in paths {
        let mut bed = bench.start().await;
        bed.resume(0, input(), path);
        same(&plain, bed.finished().await);
    }
}

/// As when writing one down takes longer than the time to the next.
#[tokio::test]
async fn an_ask_for_a_checkpoint_that_comes_while_one_is_written_down_is_answered_with_it() {
    let bench = Bench::migratable(&movable::holder(900));
    let mut bed = bench.start().await;
    bed.run(0, b"");
    bed.started(0).await;
    in_the_middle(&bed).await;
    for round in 0..3 {
        let [first, second] = [0, 1].map(|ask| bench.folder.path().join(format!("checkpoint-{round}-{ask}")));
        bed.executor.checkpoint(attempt(0), first.clone()).expect("it runs");
        let partial = first.with_extension("saving");
        tokio::time::timeout(DEADLINE, async {
            while !partial.exists() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it is being written");
        bed.executor.checkpoint(attempt(0), second.clone()).expect("it runs");
        assert_eq!(bed.saved().await.path, first);
        assert!(!second.exists());
    }
    bed.executor.suspend(attempt(0), bench.folder.path().join("snapshot")).expect("it still runs");
    bed.saved().await;
}

#[tokio::test]
async fn a_frozen_executor_is_thawed_to_be_suspended() {
    let bench = Bench::migratable(&movable::holder(1));
    let path = bench.folder.path().join("snapshot");
    let mut bed = bench.start().await;
    let start = Instant::now();
    bed.run(0, b"");
    bed.started(0).await;
    in_the_middle(&bed).await;
    bed.executor.freeze().expect("it freezes");
    let frozen = Duration::from_millis(400);
    tokio::time::sleep(frozen).await;
    bed.executor.checkpoint(attempt(0), path.with_extension("not-yet")).expect("it hears it later");
    bed.executor.suspend(attempt(0), path.clone()).expect("it runs");
    let saved = bed.saved().await;
    assert_eq!(saved.path, path);
    assert!(saved.ran + frozen <= start.elapsed(), "pauses do not count: {saved:?}");
    assert_eq!(bed.died().await, (None, Vec::new(), Death::Killed));
    assert!(!path.with_extension("not-yet").exists());

    let before = saved.ran;
    let mut bed = bench.start().await;
    bed.resume(0, Input::Inline(Bytes::new()), path.clone());
    bed.started(0).await;
    in_the_middle(&bed).await;
    bed.executor.suspend(attempt(0), path.clone()).expect("it runs");
    let saved = bed.saved().await;
    assert!(saved.ran > before && saved.usage.cpu_us > 0, "the time of both attempts counts: {saved:?}");
    let seal = lull_engine::executor::seal_of(&path).await.expect("it is whole");
    assert_eq!(Duration::from_micros(seal.ran_us), Duration::from_micros(saved.ran.as_micros() as u64));
    assert_eq!((seal.task, seal.usage), (attempt(0).task, saved.usage));
}

#[tokio::test]
async fn an_ask_that_comes_before_the_guest_began_is_heard() {
    let bench = Bench::migratable(&movable::holder(1));
    for round in 0..20 {
        let mut bed = bench.start().await;
        bed.run(0, b"");
        let path = bench.folder.path().join(format!("snapshot-{round}"));
        bed.executor.suspend(attempt(0), path).expect("it runs");
        bed.saved().await;
    }
}

#[tokio::test]
async fn killed_in_the_middle_of_a_snapshot_only_that_snapshot_is_lost() {
    let bench = Bench::migratable(&movable::holder(900));
    let kept = bench.folder.path().join("snapshot");
    let mut bed = bench.start().await;
    bed.run(0, b"");
    bed.started(0).await;
    in_the_middle(&bed).await;
    bed.executor.checkpoint(attempt(0), kept.clone()).expect("it runs");
    bed.saved().await;
    let first = std::fs::read(&kept).expect("the snapshot");
    bed.executor.checkpoint(attempt(0), kept.clone()).expect("it runs");
    let partial = kept.with_extension("saving");
    tokio::time::timeout(DEADLINE, async {
        while !partial.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is being written");
    let killed = std::process::Command::new("kill").args(["-9", &bed.executor.pid().to_string()]).status();
    assert!(killed.expect("it can be sent").success());
    match bed.saved_or_died().await {
        // It was written before the signal came.
        Some(_) => drop(bed.died().await),
        None => assert_eq!(std::fs::read(&kept).expect("the snapshot"), first, "the one before is untouched"),
    }
    assert!(!partial.exists(), "what was written of it is removed");
    let mut bed = bench.start().await;
    bed.resume(0, Input::Inline(Bytes::new()), kept.clone());
    bed.started(0).await;
    bed.executor.suspend(attempt(0), kept).expect("it runs");
    bed.saved().await;
}

#[tokio::test]
async fn the_memory_for_its_stack_is_not_the_guests() {
    let text = movable::mixer(20, 1_000, 1);
    let mut plain = Bench::new(&text);
    let mut movable = Bench::migratable(&text);
    for (pages, fails) in [(21, false), (20, true)] {
        for bench in [&mut plain, &mut movable] {
            bench.load.limits.memory_bytes = pages * 65536;
            let finished = bench.once(b"").await;
            assert_eq!(finished.outcome.is_err(), fails, "{pages} pages: {:?}", finished.outcome);
            let failure = Failure::MemoryLimit { limit_bytes: pages * 65536 };
            assert!(finished.outcome.is_ok() || finished.outcome == Err(failure));
        }
    }
}

/// A run that goes on from this file is told that it does not fit, and begins anew.
async fn refused(bench: &Bench, index: u32, snapshot: PathBuf, plain: &End) -> Unfit {
    let mut bed = bench.start().await;
    bed.resume(index, input(), snapshot);
    let unfit = loop {
        match bed.event().await {
            Event::Started { .. } => {}
            Event::Refused { attempt: refused, unfit } => {
                assert_eq!(refused, attempt(index));
                break unfit;
            }
            other => panic!("{other:?}"),
        }
    };
    let finished = bed.finished().await;
    if index == 0 {
        same(plain, finished);
    }
    unfit
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_is_refused_in_words_and_the_attempt_begins_anew() {
    let text = movable::mixer(60, 2_000_000, 30);
    let bench = Bench::migratable(&text);
    let plain = undisturbed(&text, input()).await;
    let good = std::fs::read(suspended(&bench, input()).await).expect("the snapshot");
    let file = |bytes: &[u8]| {
        let path = bench.folder.path().join("damaged");
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    assert_eq!(refused(&bench, 0, file(b"nonsense"), &plain).await, Unfit::None);
    assert_eq!(refused(&bench, 0, file(&good[..good.len() - 1]), &plain).await, Unfit::None);
    assert_eq!(refused(&bench, 0, file(&good[1..]), &plain).await, Unfit::None);
    assert_eq!(refused(&bench, 0, file(&flipped(good.len() - 1)), &plain).await, Unfit::Damaged { part: Part::Seal });
    let body = refused(&bench, 0, file(&flipped(good.len() - SEAL_BYTES - 100)), &plain).await;
    assert_eq!(body, Unfit::Damaged { part: Part::Body });
    let missing = refused(&bench, 0, "/nonexistent".into(), &plain).await;
    assert!(matches!(missing, Unfit::Unreadable { .. }), "{missing}");
    assert!(matches!(refused(&bench, 1, file(&good), &plain).await, Unfit::Task { .. }));
    let other = Bench::migratable(&movable::mixer(60, 2_000_001, 30));
    let words = refused(&other, 1, file(&good), &plain).await;
    assert!(matches!(words, Unfit::Task { .. }), "{words}");
    let words = refused(&other, 0, file(&good), &undisturbed(&movable::mixer(60, 2_000_001, 30), input()).await).await;
    assert!(matches!(words, Unfit::Code { .. }), "{words}");
}

/// Memories by number.
type Memories<'a> = &'a [(u32, &'a [u8])];

/// A snapshot of the first task that is whole and sealed, whatever it holds.
fn forged(bench: &Bench, small: &Small, memories: Memories<'_>) -> PathBuf {
    let Build::Migratable { code } = bench.load.build else { panic!("it is migratable") };
    let body = body::write(Vec::new(), small, memories).expect("a vector takes everything");
    let (output, task) = (BlobRef::of(b""), attempt(0).task);
    let seal = Seal { task, code, output, body: BlobRef::of(&body), usage: Usage::default(), ran_us: 0 };
    let path = bench.folder.path().join("forged");
    std::fs::write(&path, [body.as_slice(), &seal.encode()].concat()).expect("a file");
    path
}

#[tokio::test]
async fn a_forged_snapshot_is_refused_for_what_does_not_fit() {
    let text = movable::mixer(2, 10, 1);
    let mut bench = Bench::migratable(&text);
    bench.load.limits.memory_bytes = 4 << 20;
    let plain = undisturbed(&text, input()).await;
    let memory = vec![7; 65536];
    let host = Host { stdin_position: 0, ..Host::default() };
    let good = Small { host, globals: vec![(0, Global::I64(1)), (1, Global::F64(2))], stack: vec![0; 12] };
    let with = |change: fn(&mut Small)| {
        let mut small = good.clone();
        change(&mut small);
        small
    };
    let one: Memories<'_> = &[(0, &memory)];
    let large = vec![0; 8 << 20];
    let log = vec![0; 1 << 20];
    let forgeries: [(Small, Memories<'_>, &str); 13] = [
        (good.clone(), &[], "other memories"),
        (good.clone(), &[(1, &memory)], "other memories"),
        (good.clone(), &[(0, &memory), (1, &memory)], "other memories"),
        (good.clone(), &[(0, &[])], "smaller"),
        (good.clone(), &[(0, &large)], "4.0 MiB"),
        (with(|small| small.globals.truncate(1)), one, "other globals"),
        (with(|small| small.globals[0].0 = 7), one, "damaged"),
        (with(|small| small.globals[1].1 = Global::I32(2)), one, "type"),
        (with(|small| small.stack = vec![0; (16 << 20) - 8]), one, "stack"),
        (with(|small| small.host.descriptors = [1, 1, 0]), one, "descriptors"),
        (with(|small| small.host.descriptors = [0xff, 0, 0]), one, "descriptors"),
        (with(|small| small.host.stdin_position = 5_001), one, "5000"),
        (Small { host: Host { log_head: log, ..Host::default() }, ..good.clone() }, one, "damaged"),
    ];
    for (small, memories, word) in forgeries {
        let unfit = refused(&bench, 0, forged(&bench, &small, memories), &plain).await;
        assert!(unfit.to_string().contains(word), "{word}: {unfit}");
    }
    // Frames are the guest's own affair: nonsense in them is nonsense in its own walls.
    let mut bed = bench.start().await;
    bed.resume(0, input(), forged(&bench, &with(|small| small.stack = vec![0xff; 12]), one));
    let finished = bed.finished().await;
    assert!(matches!(finished.outcome, Err(Failure::Trap { .. }) | Ok(_)), "{finished:?}");
}

#[tokio::test]
async fn output_that_is_damaged_in_a_snapshot_is_noticed() {
    let text = movable::mixer(30, 4_000_000, 1_500);
    let bench = Bench::migratable(&text);
    let plain = undisturbed(&text, input()).await;
    let path = bench.folder.path().join("snapshot");
    let mut bed = bench.start().await;
    bed.run_with(0, input());
    bed.started(0).await;
    let output = bench.folder.path().join("outputs").join("output-0");
    tokio::time::timeout(DEADLINE, async {
        while !output.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it writes");
    bed.executor.suspend(attempt(0), path.clone()).expect("it runs");
    bed.saved().await;
    let mut bytes = std::fs::read(&path).expect("the snapshot");
    bytes[10] ^= 1;
    std::fs::write(&path, bytes).expect("a file");
    assert_eq!(refused(&bench, 0, path, &plain).await, Unfit::Damaged { part: Part::Output });
}

#[tokio::test]
async fn a_snapshot_with_more_memory_than_the_attempt_may_have_is_refused() {
    let text = movable::mixer(100, 1_000_000, 1);
    let mut bench = Bench::migratable(&text);
    let snapshot = suspended(&bench, input()).await;
    bench.load.limits.memory_bytes = 65536;
    let mut bed = bench.start().await;
    bed.resume(0, input(), snapshot);
    bed.started(0).await;
    let event = bed.event().await;
    assert!(matches!(event, Event::Refused { unfit: Unfit::Memory { .. }, .. }), "{event:?}");
    assert_eq!(bed.finished().await.outcome, Err(Failure::MemoryLimit { limit_bytes: 65536 }));
}

#[tokio::test]
async fn what_holds_on_to_the_machine_cannot_be_moved() {
    let text = movable::holder(1);
    let scratch = Bench::migratable(&text).with_scratch(1 << 20);
    let mut clock = Bench::migratable(&text);
    clock.load.grants.clock = true;
    for (bench, expected) in [(scratch, Unmovable::Scratch), (clock, Unmovable::Clock)] {
        match bench.try_start().await.err() {
            Some(SpawnError::Load(LoadError::Unmovable(why))) => assert_eq!(why, expected),
            other => panic!("{other:?}"),
        }
    }
    let bed = Bench::new(guests::SPIN).start().await;
    bed.run(0, b"");
    assert!(matches!(bed.executor.suspend(attempt(0), "never".into()), Err(AskError::Plain)));
    let bed = Bench::migratable(&text).start().await;
    bed.run(0, b"");
    assert!(matches!(bed.executor.suspend(attempt(1), "never".into()), Err(AskError::NotRunning)));
}

#[tokio::test]
async fn a_build_that_lacks_what_the_contract_asks_for_is_refused() {
    let mut bench = Bench::new(guests::NOOP);
    bench.load.build = Bench::migratable(&movable::holder(1)).load.build;
    let refused = bench.try_start().await.err().expect("it is refused");
    assert!(matches!(refused, SpawnError::Load(LoadError::Refused { .. })), "{refused}");
    assert!(refused.to_string().contains("lull_stack"), "{refused}");
}

#[tokio::test]
async fn many_attempts_run_in_one_process_as_in_plain_builds() {
    let mut bed = Bench::migratable(&movable::mixer(3, 10, 1)).start().await;
    let plain = undisturbed(&movable::mixer(3, 10, 1), Input::Inline(Bytes::new())).await;
    for _ in 0..50 {
        bed.run(0, b"");
    }
    for _ in 0..50 {
        assert_eq!(inline(&bed.finished().await), inline(&plain.finished));
    }
}
