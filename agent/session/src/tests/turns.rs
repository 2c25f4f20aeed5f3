//! Which attempt starts next and where, what takes part in it, and what becomes of it when its process does not.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    id::JobId,
    message::{Assignment, Build, JobBrief, Payload, RecallReason, RefuseReason, ReleaseReason, ToAgent},
    state::{Failure, Part, PauseReason, Trouble},
};

use super::{MIB, World, artifact, attempt, brief, brief_with, keeps, module, movable_artifact, refused, released, runs};
use crate::{
    guard::{Announcement, OwnerWord},
    *,
};

/// Longer than anything that is piped.
const LONG_US: u64 = 50_000;

fn kills(effects: &[Effect]) -> Vec<SlotId> {
    effects.iter().filter_map(|effect| if let Effect::Kill { slot } = effect { Some(*slot) } else { None }).collect()
}

fn starts(effects: &[Effect]) -> Vec<(SlotId, JobId)> {
    let start =
        |effect: &Effect| if let Effect::Start { slot, plan, .. } = effect { Some((*slot, plan.brief.job)) } else { None };
    effects.iter().filter_map(start).collect()
}

fn fetches(effects: &[Effect]) -> Vec<BlobRef> {
    effects.iter().filter_map(|effect| if let Effect::Fetch(blob) = effect { Some(*blob) } else { None }).collect()
}

fn gone(world: &mut World, slot: SlotId) -> Vec<Effect> {
    world.event(Event::Gone { slot, failed: None })
}

fn recall(world: &mut World, job: u64, index: u32, reason: RecallReason) -> Vec<Effect> {
    world.hear(ToAgent::Recall { attempts: vec![attempt(job, index)], reason })
}

/// Tells of a second job whose executors do not fit the first one's, and need so much memory.
fn misfit(world: &mut World, memory_bytes: u64) {
    let mut job = brief(2);
    (job.grants.random, job.limits.memory_bytes) = (true, memory_bytes);
    world.hear(ToAgent::Brief(Box::new(job)));
}

/// One slot whose executor is being started for the first of some attempts.
fn starting(count: u32) -> World {
    let mut world = World::ready(1);
    world.assign(1, 0..count);
    world.fetched(artifact());
    world
}

/// One slot whose executor of the first job was killed, to be replaced by one for an attempt of the second.
fn replacing() -> World {
    let mut world = World::running(1, 1);
    misfit(&mut world, 512 * MIB);
    world.finish(0, attempt(1, 0), LONG_US);
    assert_eq!(kills(&world.assign(2, 0..1)), [0]);
    world
}

fn in_trouble(world: &mut World) {
    world.event(Event::Trouble { trouble: Trouble::new(Part::Scratch, "no folder"), ended: None });
    world.advance(Duration::from_millis(1));
}

fn mended(world: &mut World) -> Vec<Effect> {
    world.event(Event::Probed { part: Part::Scratch, result: Ok(()) })
}

#[test]
fn an_executor_prefers_its_own_job_for_half_a_second_and_then_the_order_of_offers_decides() {
    let mut world = World::ready(1);
    misfit(&mut world, 512 * MIB);
    world.assign(1, 0..1);
    world.assign(2, 0..1);
    world.assign(1, 1..4);
    world.fetched(artifact());
    assert_eq!(runs(&world.event(Event::Ready { slot: 0 })), [(0, attempt(1, 0))]);
    for (index, wait_ms) in [(0, 100), (1, 399)] {
        world.advance(Duration::from_millis(wait_ms));
        assert_eq!(runs(&world.finish(0, attempt(1, index), LONG_US)), [(0, attempt(1, index + 1))], "the older offer waits");
    }
    world.advance(Duration::from_millis(1));
    assert_eq!(kills(&world.finish(0, attempt(1, 2), LONG_US)), [0], "its slice is over");
    assert_eq!(starts(&gone(&mut world, 0)), [(0, JobId(2))]);
}

#[test]
fn an_executor_does_not_prefer_what_is_not_ready_to_an_older_offer_that_is() {
    let mut world = World::running(1, 1);
    misfit(&mut world, 512 * MIB);
    world.assign(2, 0..1);
    world.offer(1, vec![(1, Payload::Blob(BlobRef::of(b"on its way")))]);
    assert_eq!(kills(&world.finish(0, attempt(1, 0), LONG_US)), [0]);
}

#[test]
fn an_executor_whose_slice_is_over_goes_on_with_its_own_job_where_that_comes_first() {
    let mut world = World::running(1, 2);
    world.advance(Duration::from_secs(3));
    let effects = world.finish(0, attempt(1, 0), LONG_US);
    assert_eq!(runs(&effects), [(0, attempt(1, 1))]);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Serve { .. } | Effect::Kill { .. })), "{effects:?}");
}

#[test]
fn pipes_of_several_executors_fill_evenly_up_to_what_they_work_off_in_time() {
    let mut world = World::running(2, 10);
    world.event(Event::Ready { slot: 1 });
    // A millisecond each: four of them are four milliseconds.
    let given = runs(&world.finish(0, attempt(1, 0), 1_000));
    assert_eq!(given.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [0, 0, 1, 0, 1, 0, 1]);
    assert_eq!(given.iter().map(|(_, attempt)| attempt.task.index).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_pipe_is_as_deep_as_its_tasks_are_short_and_no_deeper_than_anybody_allows() {
    // Tasks of so many microseconds: how many an executor has after the first of them has ended.
    for (wall_us, depth) in [(0, 256), (1, 256), (15, 256), (16, 250), (100, 40), (1_999, 2), (3_999, 2), (4_000, 1), (9_000, 1)]
    {
        let mut world = World::running(1, 300);
        assert_eq!(runs(&world.finish(0, attempt(1, 0), wall_us)).len(), depth, "{wall_us} us");
    }
}

#[test]
fn the_time_of_a_jobs_tasks_is_a_mean_in_which_the_newest_has_an_eighth() {
    let mut world = World::running(1, 4);
    for (index, wall_us, mean_us) in [(0, 8_000, 8_000), (1, 16_000, 9_000), (2, 1_000, 8_000)] {
        world.finish(0, attempt(1, index), wall_us);
        assert_eq!(world.session.jobs[&JobId(1)].wall_us, Some(mean_us), "after {index}");
    }
}

/// Two warm executors of the first job, that in the second slot for longer.
fn two_warm() -> World {
    let mut world = World::running(2, 2);
    world.event(Event::Ready { slot: 1 });
    world.finish(1, attempt(1, 1), LONG_US);
    world.advance(Duration::from_secs(1));
    world.finish(0, attempt(1, 0), LONG_US);
    world
}

#[test]
fn the_executor_that_has_been_warm_for_longest_makes_room_when_its_memory_is_enough() {
    let mut world = two_warm();
    misfit(&mut world, 3584 * MIB);
    assert_eq!(kills(&world.assign(2, 0..1)), [1]);
    assert_eq!(starts(&gone(&mut world, 1)), [(1, JobId(2))], "with the 512 MiB that it had there are 3584 MiB");
}

#[test]
fn where_the_memory_of_one_is_not_enough_the_next_one_goes_when_the_first_is_gone() {
    let mut world = two_warm();
    misfit(&mut world, 3584 * MIB + 1);
    assert_eq!(kills(&world.assign(2, 0..1)), [1]);
    let effects = gone(&mut world, 1);
    assert_eq!((kills(&effects), starts(&effects)), (vec![0], vec![]));
    assert_eq!(starts(&gone(&mut world, 0)), [(0, JobId(2))]);
}

#[test]
fn executors_are_replaced_one_at_a_time_since_memory_is_free_when_a_process_is_gone() {
    let mut world = two_warm();
    misfit(&mut world, 512 * MIB);
    assert_eq!(kills(&world.assign(2, 0..2)), [1]);
    let effects = gone(&mut world, 1);
    assert_eq!((starts(&effects), kills(&effects)), (vec![(1, JobId(2))], vec![0]));
}

#[test]
fn what_is_recalled_while_its_executor_starts_leaves_an_executor_that_takes_the_next() {
    for reason in [RecallReason::Rebalance, RecallReason::Drain, RecallReason::Cancelled] {
        let mut world = starting(1);
        assert_eq!(recall(&mut world, 1, 0, reason), [released(&[attempt(1, 0)], ReleaseReason::Recalled)], "{reason:?}");
        assert_eq!(world.event(Event::Ready { slot: 0 }), [], "{reason:?}");
        assert_eq!(runs(&world.assign(1, 1..2)), [(0, attempt(1, 1))], "{reason:?}");
    }
}

#[test]
fn what_is_recalled_while_its_slot_is_being_cleared_for_it_leaves_the_slot_idle() {
    let mut world = replacing();
    assert_eq!(recall(&mut world, 2, 0, RecallReason::Rebalance), [released(&[attempt(2, 0)], ReleaseReason::Recalled)]);
    assert_eq!(starts(&gone(&mut world, 0)), []);
    assert!(!world.session.is_idle() && world.session.slots[0] == Slot::Idle, "a result is here still");
}

#[test]
fn a_cancellation_of_what_an_executor_runs_has_the_rest_of_its_pipe_run_again() {
    let mut world = World::running(1, 4);
    world.finish(0, attempt(1, 0), 100);
    let effects = recall(&mut world, 1, 1, RecallReason::Cancelled);
    assert!(effects.contains(&Effect::Kill { slot: 0 }), "{effects:?}");
    assert!(effects.contains(&released(&[attempt(1, 1)], ReleaseReason::Recalled)), "{effects:?}");
    assert_eq!(starts(&gone(&mut world, 0)), [(0, JobId(1))]);
    assert_eq!(runs(&world.event(Event::Ready { slot: 0 })), [(0, attempt(1, 2)), (0, attempt(1, 3))]);
}

#[test]
fn only_a_recall_of_everything_takes_a_result_that_is_here() {
    let every = [
        (RecallReason::Rebalance, false),
        (RecallReason::Drain, false),
        (RecallReason::Window, false),
        (RecallReason::Roomier, false),
        (RecallReason::Faster, false),
        (RecallReason::Cancelled, true),
        (RecallReason::Stale, true),
    ];
    for (reason, goes) in every {
        let mut world = World::running(1, 1);
        world.finish(0, attempt(1, 0), LONG_US);
        let effects = recall(&mut world, 1, 0, reason);
        let gone = [Effect::Drop(vec![attempt(1, 0)]), released(&[attempt(1, 0)], ReleaseReason::Recalled)];
        assert_eq!(effects, if goes { &gone[..] } else { &[] }, "{reason:?}");
        assert_eq!(world.session.places.contains_key(&attempt(1, 0)), !goes, "{reason:?}");
    }
}

#[test]
fn a_process_that_was_killed_while_it_started_is_gone_with_the_word_that_it_did_not_start() {
    let mut world = starting(1);
    assert_eq!(kills(&world.event(Event::Announced(Announcement::Sleep))), [0]);
    world.event(Event::StartFailed { slot: 0, error: StartError::Executor("killed".into()) });
    assert!(world.session.is_idle());
    world.event(Event::Announced(Announcement::Awake));
    assert_eq!(world.session.objects(), None, "it was killed on purpose");
}

#[test]
fn a_process_that_ends_before_it_has_started_is_the_agents_trouble() {
    let mut world = starting(1);
    let effects = gone(&mut world, 0);
    assert!(matches!(&refused(&effects)[..], [(_, RefuseReason::Executor { .. })]), "{effects:?}");
    let trouble = world.session.objects();
    assert!(matches!(&trouble, Some(PauseReason::Trouble(Trouble { part: Part::Executor, .. }))), "{trouble:?}");
    assert!(world.session.is_idle());
}

#[test]
fn an_executor_that_is_ready_while_the_agent_has_a_trouble_waits_for_its_end() {
    let mut world = starting(1);
    in_trouble(&mut world);
    assert_eq!(world.event(Event::Ready { slot: 0 }), []);
    assert_eq!(runs(&mended(&mut world)), [(0, attempt(1, 0))]);
}

#[test]
fn a_slot_that_was_cleared_is_not_started_for_what_it_was_cleared_for_while_nothing_may_start() {
    let mut world = replacing();
    in_trouble(&mut world);
    assert_eq!(gone(&mut world, 0), []);
    assert_eq!(starts(&mended(&mut world)), [(0, JobId(2))]);
    let mut world = replacing();
    world.event(Event::Owner(OwnerWord::Pause { until: None }));
    assert_eq!(gone(&mut world, 0), []);
    assert_eq!(starts(&world.event(Event::Owner(OwnerWord::Run))), [(0, JobId(2))]);
}

#[test]
fn a_slot_that_was_cleared_waits_for_code_that_must_be_fetched_meanwhile() {
    let mut world = World::running(2, 1);
    misfit(&mut world, 512 * MIB);
    world.assign(2, 0..1);
    world.finish(0, attempt(1, 0), LONG_US);
    assert_eq!(kills(&world.assign(2, 1..2)), [0], "the second slot starts the first one of them");
    let error = StartError::Artifact("other flags".into());
    assert_eq!(fetches(&world.event(Event::StartFailed { slot: 1, error })), [module()]);
    assert_eq!(starts(&gone(&mut world, 0)), []);
    assert_eq!(starts(&world.fetched(module())).len(), 2);
}

#[test]
fn what_a_slot_was_cleared_for_does_not_fail_with_the_process_before_it() {
    let mut world = replacing();
    let failed = Some((attempt(2, 0), Failure::ExecutorDied { how: "signal 9".into() }));
    let effects = world.event(Event::Gone { slot: 0, failed });
    assert_eq!((keeps(&effects).len(), starts(&effects)), (0, vec![(0, JobId(2))]));
}

#[test]
fn only_what_a_process_was_at_fails_with_it() {
    for (index, failed) in [(0, vec![attempt(1, 0)]), (7, vec![])] {
        let mut world = World::running(1, 1);
        let how = Failure::ExecutorDied { how: "signal 9".into() };
        let effects = world.event(Event::Gone { slot: 0, failed: Some((attempt(1, index), how)) });
        assert_eq!(keeps(&effects).iter().map(|record| record.attempt).collect::<Vec<_>>(), failed);
        assert_eq!(starts(&effects).len(), 1 - failed.len(), "what did not fail runs again");
    }
}

#[test]
fn words_about_slots_that_are_not_there_change_nothing() {
    let (beyond, which) = (1, attempt(1, 0));
    let blob = BlobRef::of(b"snapshot");
    let words = [
        (Event::Ready { slot: beyond }, vec![]),
        (Event::StartFailed { slot: beyond, error: StartError::Executor("none".into()) }, vec![]),
        (Event::Done { slot: beyond, done: super::done(which, 1) }, vec![]),
        (Event::Gone { slot: beyond, failed: None }, vec![]),
        (Event::BeginsAnew { slot: beyond, attempt: which, reason: "damaged".into() }, vec![]),
        (Event::Saved { slot: beyond, attempt: which, snapshot: blob, suspended: true }, vec![Effect::Erase(blob.digest)]),
    ];
    for (word, effects) in words {
        let mut world = World::running(1, 2);
        assert_eq!(world.event(word.clone()), effects, "{word:?}");
        assert_eq!(world.session.places.len(), 2, "{word:?}");
    }
}

#[test]
fn code_that_was_lost_is_fetched_again_each_time_that_it_had_been_here_and_worked() {
    let missing = || Event::StartFailed { slot: 0, error: StartError::Missing("no such file".into()) };
    let mut world = starting(1);
    for index in 0..3 {
        assert_eq!(world.event(missing()), [Effect::Fetch(artifact())], "{index}");
        assert_eq!(starts(&world.fetched(artifact())), [(0, JobId(1))], "{index}");
        world.event(Event::Ready { slot: 0 });
        world.finish(0, attempt(1, index), LONG_US);
        world.event(Event::Owner(OwnerWord::Pause { until: None }));
        gone(&mut world, 0);
        world.event(Event::Owner(OwnerWord::Run));
        world.assign(1, index + 1..index + 2);
        world.fetched(artifact());
    }
    world.event(missing());
    world.fetched(artifact());
    assert_eq!(fetches(&world.event(missing())), [module()], "twice in a row: it is compiled here");
}

#[test]
fn a_movable_build_that_does_not_load_is_refused_and_says_nothing_about_the_function() {
    let mut world = World::ready(1);
    let offer = |index, build| Assignment { attempt: attempt(1, index), input: Payload::inline(vec![1]), build, resume: None };
    world.hear(ToAgent::Assign(vec![offer(0, Build::Migratable)]));
    world.fetched(movable_artifact());
    let effects = world.event(Event::StartFailed { slot: 0, error: StartError::Module("not WebAssembly".into()) });
    let reason = RefuseReason::Executor { reason: "not WebAssembly".into() };
    assert_eq!((refused(&effects), keeps(&effects).len()), (vec![(attempt(1, 0), reason)], 0));
    let effects = world.hear(ToAgent::Assign(vec![offer(1, Build::Plain)]));
    assert_eq!(effects, [Effect::Fetch(artifact())], "the plain build may run");
}

#[test]
fn only_an_executor_that_was_frozen_with_nothing_left_to_do_is_thawed_by_its_result() {
    let thaws = |effects: Vec<Effect>| effects.iter().filter(|effect| matches!(effect, Effect::Thaw { .. })).count();
    let mut world = World::running(1, 1);
    assert_eq!(thaws(world.finish(0, attempt(1, 0), LONG_US)), 0, "it runs");
    let mut world = World::running(1, 1);
    world.event(Event::Owner(OwnerWord::Pause { until: None }));
    assert_eq!(thaws(world.finish(0, attempt(1, 0), LONG_US)), 0, "its memory is the owner's");
    let mut world = World::running(2, 12);
    world.event(Event::Ready { slot: 1 });
    world.finish(0, attempt(1, 0), 1_000);
    world.event(Event::Sample(Sample::QUIET));
    let light = lull_shared::policy::Changes::from_pairs(&["idle=10m", "beside_cores=25"]).expect("changes");
    world.event(Event::Narrowed(Box::new(light)));
    assert!(world.event(Event::Input).contains(&Effect::Freeze { slot: 1 }));
    assert_eq!(thaws(world.finish(1, attempt(1, 1), 1_000)), 0, "more waits in its pipe, for which there is no room");
}

#[test]
fn an_executor_is_turned_to_another_job_only_where_code_and_cage_are_the_same() {
    let other = BlobRef::of(b"another artifact");
    let with = |change: fn(&mut JobBrief)| {
        let mut brief = brief(2);
        change(&mut brief);
        brief
    };
    let cases = [
        ("nothing", with(|_| ()), true),
        ("its time", with(|brief| brief.limits.time_ms = 1), true),
        ("its arguments", with(|brief| brief.args = vec!["other".into()]), true),
        ("its memory", with(|brief| brief.limits.memory_bytes -= 1), false),
        ("its grants", with(|brief| brief.grants.random = true), false),
        ("its code", brief_with(2, |manifest| manifest.artifacts[0].blob = other), false),
    ];
    for (what, brief, fits) in cases {
        let mut world = World::running(1, 1);
        world.finish(0, attempt(1, 0), LONG_US);
        world.hear(ToAgent::Brief(Box::new(brief)));
        let mut effects = world.assign(2, 0..1);
        effects.extend(world.fetched(other));
        let served = effects.iter().any(|effect| matches!(effect, Effect::Serve { slot: 0, .. }));
        assert_eq!((served, kills(&effects).is_empty()), (fits, fits), "{what} is another: {effects:?}");
    }
}
