//! Each bound of what is taken, from both sides; whose blobs are waited for; and how long a job is known.

use std::time::Duration;

use bytes::Bytes;
use lull_shared::{
    digest::{BlobRef, Digest},
    id::JobId,
    limits::{BLOB_BYTES_MAX, MODULE_BYTES_MAX, SNAPSHOT_BYTES_MAX},
    message::{Assignment, Build, JobBrief, Payload, RecallReason, RefuseReason, SnapshotRef, ToAgent, ToAgentFrame},
    state::Failure,
};

use super::{MIB, World, artifact, attempt, brief, brief_with, keeps, movable_artifact, refused, runs};
use crate::*;

fn sized(size_bytes: u64) -> BlobRef {
    BlobRef { digest: Digest::of(&size_bytes.to_le_bytes()), size_bytes }
}

fn blob(name: &str) -> BlobRef {
    BlobRef::of(name.as_bytes())
}

fn inline() -> Payload {
    Payload::inline(vec![1])
}

fn snapshot(blob: BlobRef) -> Option<SnapshotRef> {
    Some(SnapshotRef { blob, spent_us: 1 })
}

fn starts(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Start { .. })).count()
}

fn not_fetched(blob: BlobRef) -> Event {
    Event::Fetched { digest: blob.digest, result: Err("nobody has it".into()) }
}

fn known(world: &World, job: u64) -> bool {
    world.session.jobs.contains_key(&JobId(job))
}

#[test]
fn an_offer_is_taken_at_each_bound_and_refused_just_above_it() {
    let (plain, movable) = (Build::Plain, Build::Migratable);
    let all = 4096 * MIB;
    let large = |size_bytes| Payload::Blob(sized(size_bytes));
    let cases = [
        ("input", plain, large(BLOB_BYTES_MAX), None, MIB, true),
        ("input", plain, large(BLOB_BYTES_MAX + 1), None, MIB, false),
        ("snapshot", movable, inline(), snapshot(sized(SNAPSHOT_BYTES_MAX)), MIB, true),
        ("snapshot", movable, inline(), snapshot(sized(SNAPSHOT_BYTES_MAX + 1)), MIB, false),
        ("snapshot of a plain build", plain, inline(), snapshot(sized(1)), MIB, false),
        ("memory", plain, inline(), None, all, true),
        ("memory", plain, inline(), None, all + 1, false),
    ];
    for (what, build, input, resume, memory_bytes, taken) in cases {
        let mut world = World::ready(1);
        let mut job = brief(2);
        job.limits.memory_bytes = memory_bytes;
        world.hear(ToAgent::Brief(Box::new(job)));
        let effects = world.hear(ToAgent::Assign(vec![Assignment { attempt: attempt(2, 0), input, build, resume }]));
        let refusals = refused(&effects);
        assert_eq!(refusals.is_empty(), taken, "{what}, {build:?}: {refusals:?}");
        let right = match refusals.first() {
            None => taken,
            Some((_, RefuseReason::Fetch { .. })) => what == "input",
            Some((_, RefuseReason::Snapshot { .. })) => what.starts_with("snapshot"),
            Some((_, reason)) => *reason == RefuseReason::Memory { needed_bytes: memory_bytes, free_bytes: all },
        };
        assert!(right, "{what}: {refusals:?}");
    }
}

#[test]
fn an_executor_may_take_all_the_memory_that_there_is() {
    let mut world = World::ready(2);
    let mut job = brief(2);
    job.limits.memory_bytes = 4096 * MIB;
    world.hear(ToAgent::Brief(Box::new(job)));
    world.assign(2, 0..2);
    assert_eq!(starts(&world.fetched(artifact())), 1, "and there is nothing left for another");
}

#[test]
fn inputs_in_messages_may_take_so_much_memory_together_and_what_leaves_makes_room() {
    let mut world = World::ready(1);
    let quarter = Payload::Inline(Bytes::from(vec![0; WAITING_BYTES_MAX as usize / 4]));
    let offers = (0..4).map(|index| (index, quarter.clone())).collect();
    assert_eq!(refused(&world.offer(1, offers)), []);
    let full = |index| vec![(attempt(1, index), RefuseReason::Full)];
    assert_eq!(refused(&world.offer(1, vec![(4, inline())])), full(4));
    assert_eq!(refused(&world.offer(1, vec![(5, Payload::Blob(blob("input")))])), [], "that is not in the message");
    world.hear(ToAgent::Recall { attempts: vec![attempt(1, 2)], reason: RecallReason::Rebalance });
    assert_eq!(refused(&world.offer(1, vec![(6, inline())])), []);
    assert_eq!(refused(&world.offer(1, vec![(7, quarter)])), full(7));
}

#[test]
fn a_movable_build_that_the_module_does_not_have_is_refused() {
    let mut world = World::ready(1);
    world.hear(ToAgent::Brief(Box::new(brief_with(2, |manifest| manifest.migratable = None))));
    let offer = |job| Assignment { attempt: attempt(job, 0), input: inline(), build: Build::Migratable, resume: None };
    let effects = world.hear(ToAgent::Assign(vec![offer(1), offer(2)]));
    assert!(matches!(&refused(&effects)[..], [(other, RefuseReason::Executor { .. })] if *other == attempt(2, 0)), "{effects:?}");
}

#[test]
fn a_module_is_trusted_up_to_its_bound_and_code_that_is_too_large_or_anothers_is_not_loaded() {
    let loads = |brief: JobBrief, build| {
        let mut world = World::ready(1);
        world.hear(ToAgent::Brief(Box::new(brief)));
        let job = world.session.jobs.get(&JobId(2)).expect("it was just told");
        job.code(build).map(|blob| {
            (blob.size_bytes, matches!(job.plan.as_ref().ok().and_then(|plan| plan.code(build)), Some(Code::Artifact(_))))
        })
    };
    let module = |size_bytes| brief_with(2, |manifest| (manifest.module, manifest.artifacts) = (sized(size_bytes), Vec::new()));
    assert_eq!(loads(module(MODULE_BYTES_MAX), Build::Plain), Some((MODULE_BYTES_MAX, false)));
    assert_eq!(loads(module(MODULE_BYTES_MAX + 1), Build::Plain), None);
    let artifact = |size_bytes| brief_with(2, |manifest| manifest.artifacts[0].blob = sized(size_bytes));
    assert_eq!(loads(artifact(BLOB_BYTES_MAX), Build::Plain), Some((BLOB_BYTES_MAX, true)));
    let own = super::module().size_bytes;
    assert_eq!(loads(artifact(BLOB_BYTES_MAX + 1), Build::Plain), Some((own, false)), "it compiles the module itself");
    let foreign = brief_with(2, |manifest| manifest.artifacts[0].engine = "engine-2".into());
    assert_eq!(loads(foreign, Build::Plain), Some((own, false)));
    let movable = |size_bytes| {
        brief_with(2, |manifest| {
            let build = manifest.migratable.as_mut().expect("there is one");
            (build.module, build.artifacts) = (sized(size_bytes), Vec::new());
        })
    };
    assert_eq!(loads(movable(BLOB_BYTES_MAX), Build::Migratable), Some((BLOB_BYTES_MAX, false)));
    assert_eq!(loads(movable(BLOB_BYTES_MAX + 1), Build::Migratable), None);
}

#[test]
fn terms_of_a_version_that_is_known_are_trusted_for_its_signature_alone() {
    let mut world = World::ready(1);
    let mut forged = brief(2);
    forged.manifest_signature[0] ^= 1;
    let mut other = brief_with(3, |manifest| manifest.number = 2);
    other.manifest_signature = brief(1).manifest_signature;
    for (brief, trusted) in
        [(brief(4), true), (forged, false), (other, false), (brief_with(5, |manifest| manifest.number = 3), true)]
    {
        let job = brief.job;
        world.hear(ToAgent::Brief(Box::new(brief)));
        assert_eq!(world.session.jobs[&job].plan.is_ok(), trusted, "{job:?}");
    }
}

#[test]
fn beyond_the_jobs_that_are_remembered_one_without_attempts_goes_and_none_that_has_some() {
    let mut world = World::ready(1);
    world.assign(1, 0..1);
    let one = brief(2);
    let tell = |world: &mut World, jobs: std::ops::RangeInclusive<u64>| {
        let messages = jobs.map(|job| ToAgent::Brief(Box::new(JobBrief { job: JobId(job), ..one.clone() }))).collect();
        world.event(Event::Frame(ToAgentFrame { number: 9, messages }));
    };
    tell(&mut world, 2..=1_024);
    assert_eq!((world.session.jobs.len(), known(&world, 2)), (1_024, true));
    tell(&mut world, 1_025..=1_025);
    assert_eq!((world.session.jobs.len(), known(&world, 1), known(&world, 2), known(&world, 1_025)), (1_024, true, false, true));
    tell(&mut world, 4..=4);
    assert_eq!((world.session.jobs.len(), known(&world, 3)), (1_024, true), "one that is known needs no room");
    world.now = world.now + Duration::from_secs(1);
    let offers =
        (3..=1_025).map(|job| Assignment { attempt: attempt(job, 0), input: inline(), build: Build::Plain, resume: None });
    world.hear(ToAgent::Assign(offers.collect()));
    tell(&mut world, 2_000..=2_000);
    assert_eq!(refused(&world.assign(2_000, 0..1)), [(attempt(2_000, 0), RefuseReason::UnknownTerms)]);
    assert_eq!(world.session.jobs.len(), 1_024);
}

#[test]
fn terms_that_are_said_again_replace_those_of_a_job_with_nothing_here_and_lose_nothing_otherwise() {
    let mut world = World::ready(1);
    let args = |world: &World| world.session.jobs[&JobId(1)].plan.clone().map(|plan| plan.brief.args.clone());
    let other = || ToAgent::Brief(Box::new(JobBrief { args: vec!["other".into()], ..brief(1) }));
    world.hear(other());
    assert_eq!(args(&world), Ok(vec!["other".to_owned()]));
    world.session.jobs.get_mut(&JobId(1)).expect("known").wall_us = Some(7);
    world.hear(other());
    assert_eq!(world.session.jobs[&JobId(1)].wall_us, Some(7), "what was learned of the same brief stays");
    world.assign(1, 0..1);
    world.hear(ToAgent::Brief(Box::new(brief(1))));
    assert_eq!(args(&world), Ok(vec!["other".to_owned()]), "what is here runs as it was offered");
    assert_eq!(world.session.jobs[&JobId(1)].wall_us, Some(7));
}

/// What is said of a job with an attempt that runs, and whether the job is known when all of it has ended.
type Case = (&'static str, fn(&mut World), bool);

#[test]
fn a_job_is_known_until_it_is_forgotten_and_nothing_of_it_is_left_here() {
    let forget: fn(&mut World) = |world| drop(world.hear(ToAgent::Forget { job: JobId(1) }));
    let mut world = World::ready(1);
    forget(&mut world);
    assert!(!known(&world, 1), "nothing of it is here");
    let cases: [Case; 3] = [
        ("nothing", |_| (), true),
        ("forgotten", forget, false),
        (
            "offered again",
            |world| {
                world.hear(ToAgent::Forget { job: JobId(1) });
                world.hear(ToAgent::Brief(Box::new(brief(1))));
            },
            true,
        ),
    ];
    for (what, say, stays) in cases {
        let mut world = World::ready(1);
        world.hear(ToAgent::Brief(Box::new(brief(1))));
        world.assign(1, 0..1);
        world.fetched(artifact());
        world.event(Event::Ready { slot: 0 });
        say(&mut world);
        assert!(known(&world, 1), "{what}: it runs");
        world.finish(0, attempt(1, 0), 50_000);
        assert!(known(&world, 1), "{what}: its executor is here");
        world.advance(Duration::from_secs(20));
        world.event(Event::Gone { slot: 0, failed: None });
        assert_eq!(known(&world, 1), stays, "{what}");
    }
}

#[test]
fn only_whoever_asked_for_the_input_that_does_not_come_is_refused() {
    let mut world = World::ready(1);
    let input = |name| Payload::Blob(blob(name));
    // Inputs of the first two are asked for, since one slot works ahead so far.
    world.offer(1, vec![(0, input("a")), (1, input("b")), (2, input("a"))]);
    let effects = world.event(not_fetched(blob("a")));
    let reason = RefuseReason::Fetch { digest: blob("a").digest, reason: "nobody has it".into() };
    assert_eq!(refused(&effects), [(attempt(1, 0), reason)]);
    assert!(effects.contains(&Effect::Fetch(blob("a"))), "the next one asks for it anew: {effects:?}");
}

#[test]
fn only_whoever_goes_on_from_the_snapshot_that_does_not_come_is_refused() {
    let mut world = World::ready(1);
    let offer = |index, name| Assignment {
        attempt: attempt(1, index),
        input: inline(),
        build: Build::Migratable,
        resume: snapshot(blob(name)),
    };
    world.hear(ToAgent::Assign(vec![offer(0, "a"), offer(1, "b"), offer(2, "a")]));
    let effects = world.event(not_fetched(blob("a")));
    let reason = RefuseReason::Snapshot { digest: blob("a").digest, reason: "nobody has it".into() };
    assert_eq!(refused(&effects), [(attempt(1, 0), reason)]);
    assert!(effects.contains(&Effect::Fetch(blob("a"))), "the next one asks for it anew: {effects:?}");
}

#[test]
fn an_attempt_starts_when_its_code_its_input_and_its_snapshot_are_here_in_whatever_order() {
    let needs = [movable_artifact(), blob("input"), blob("snapshot")];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut world = World::ready(1);
        let (input, resume) = (Payload::Blob(needs[1]), snapshot(needs[2]));
        world.hear(ToAgent::Assign(vec![Assignment { attempt: attempt(1, 0), input, build: Build::Migratable, resume }]));
        let started = order.map(|need| starts(&world.fetched(needs[need])));
        assert_eq!(started, [0, 0, 1], "{order:?}");
    }
}

#[test]
fn an_input_that_is_here_for_another_is_asked_for_before_an_attempt_starts_with_it() {
    let mut world = World::ready(2);
    let names = ["a", "b", "c", "d", "e", "a"];
    world.offer(1, (0..).zip(names.map(|name| Payload::Blob(blob(name)))).collect());
    world.fetched(artifact());
    // The other slot has work only if the last attempt took what is pinned for the first alone.
    assert_eq!(starts(&world.fetched(blob("a"))), 1);
    assert_eq!(runs(&world.event(Event::Ready { slot: 0 })), [(0, attempt(1, 0))]);
    assert_eq!(world.session.capacity().slots_busy, 1);
}

#[test]
fn late_news_of_a_blob_that_is_here_or_that_nobody_asked_for_changes_nothing() {
    let mut world = World::running(1, 2);
    for blob in [artifact(), blob("a")] {
        assert_eq!(world.event(not_fetched(blob)), [], "{blob:?}");
        assert_eq!(world.fetched(blob), [], "{blob:?}");
    }
    assert_eq!(runs(&world.finish(0, attempt(1, 0), 50_000)), [(0, attempt(1, 1))]);
}

#[test]
fn a_module_that_nothing_can_run_fails_the_attempts_of_its_own_job_alone() {
    let mut world = World::ready(1);
    world.hear(ToAgent::Brief(Box::new(brief(2))));
    world.assign(1, 0..2);
    world.assign(2, 0..1);
    world.fetched(artifact());
    let effects = world.event(Event::StartFailed { slot: 0, error: StartError::Module("not WebAssembly".into()) });
    let failed: Vec<_> = keeps(&effects).iter().map(|record| (record.attempt, record.outcome.clone())).collect();
    let bad = || lull_shared::message::Outcome::Failed(Failure::BadModule { reason: "not WebAssembly".into() });
    assert_eq!(failed, [(attempt(1, 0), bad()), (attempt(1, 1), bad())]);
    assert_eq!(starts(&effects), 1, "the other job's turn: {effects:?}");
}
