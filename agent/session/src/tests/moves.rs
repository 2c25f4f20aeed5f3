//! Attempts that leave with their state, and those that go on from one.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    message::{
        Assignment, Build, Payload, RecallReason, RefuseReason, ReleaseReason, SnapshotRef, ToAgent, ToCoordinator, UnkeptReason,
    },
    state::PauseReason,
};

use super::{World, attempt, movable_artifact, released, sent};
use crate::{
    guard::{Announcement, OwnerWord},
    *,
};

fn snapshot(seconds: u64) -> SnapshotRef {
    SnapshotRef { blob: BlobRef::of(&seconds.to_le_bytes()), spent_us: seconds * 1_000_000 }
}

fn offer(index: u32, resume: Option<SnapshotRef>) -> ToAgent {
    let (attempt, input) = (attempt(1, index), Payload::inline(vec![1]));
    ToAgent::Assign(vec![Assignment { attempt, input, build: Build::Migratable, resume }])
}

/// One slot that runs an attempt that can be moved.
fn running() -> World {
    let mut world = World::ready(1);
    world.event(Event::Sample(Sample::QUIET));
    world.hear(offer(0, None));
    world.fetched(movable_artifact());
    world.event(Event::Ready { slot: 0 });
    world
}

fn saved(world: &mut World, seconds: u64, suspended: bool) -> Vec<Effect> {
    world.event(Event::Saved { slot: 0, attempt: attempt(1, 0), snapshot: snapshot(seconds).blob, suspended })
}

fn says_saved(effects: &[Effect]) -> Vec<SnapshotRef> {
    let word = |message: &&ToCoordinator| match message {
        ToCoordinator::Saved { snapshot, .. } => Some(*snapshot),
        _ => None,
    };
    sent(effects).iter().filter_map(word).collect()
}

#[test]
fn the_migratable_build_has_executors_of_its_own() {
    let mut world = World::ready(1);
    assert_eq!(world.hear(offer(0, None)), [Effect::Fetch(movable_artifact())]);
    let effects = world.fetched(movable_artifact());
    assert!(matches!(&effects[..], [Effect::Start { slot: 0, build: Build::Migratable, .. }]), "{effects:?}");
    world.event(Event::Ready { slot: 0 });
    world.finish(0, attempt(1, 0), 1_000);
    world.assign(1, 1..2);
    let effects = world.fetched(super::artifact());
    assert!(matches!(&effects[..], [Effect::Kill { slot: 0 }, ..]), "another build needs another process: {effects:?}");
}

#[test]
fn what_must_leave_is_written_down_said_and_released_in_this_order() {
    let mut world = running();
    world.now = world.now + Duration::from_secs(3);
    let effects = world.event(Event::Announced(Announcement::Sleep));
    assert!(effects.contains(&Effect::Suspend { slot: 0, attempt: attempt(1, 0) }), "{effects:?}");
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Kill { .. })), "{effects:?}");
    let effects = saved(&mut world, 3, true);
    assert_eq!(says_saved(&effects), [snapshot(3)]);
    assert_eq!(effects[1], released(&[attempt(1, 0)], ReleaseReason::Evicted(PauseReason::Sleep)));
    let leaves = |message: &&ToCoordinator| matches!(message, ToCoordinator::Unkept { reason: UnkeptReason::Leaving, .. });
    assert!(sent(&effects).iter().any(leaves), "the snapshot must go before the machine sleeps: {effects:?}");
    world.event(Event::Gone { slot: 0, failed: None });
    assert!(world.session.is_idle());
    assert_eq!(world.session.kept_snapshot(attempt(1, 0).task), Some(snapshot(3).blob.digest));
}

#[test]
fn what_is_wanted_elsewhere_is_written_down_and_what_cannot_be_moved_goes_on() {
    let mut world = running();
    world.advance(Duration::from_secs(3));
    let faster = ToAgent::Recall { attempts: vec![attempt(1, 0)], reason: RecallReason::Faster };
    assert_eq!(world.hear(faster.clone()), [Effect::Suspend { slot: 0, attempt: attempt(1, 0) }]);
    assert_eq!(world.hear(faster), [], "once is enough");
    let effects = saved(&mut world, 3, true);
    assert_eq!(says_saved(&effects), [snapshot(3)]);
    assert_eq!(effects.last(), Some(&released(&[attempt(1, 0)], ReleaseReason::Recalled)));
    let mut world = World::running(1, 1);
    let drain = ToAgent::Recall { attempts: vec![attempt(1, 0)], reason: RecallReason::Drain };
    assert_eq!(world.hear(drain), [], "its build is the plain one");
}

#[test]
fn what_cannot_be_written_down_is_released_all_the_same() {
    let mut world = running();
    world.event(Event::Announced(Announcement::Sleep));
    let effects = world.event(Event::Gone { slot: 0, failed: None });
    assert!(effects.contains(&released(&[attempt(1, 0)], ReleaseReason::Evicted(PauseReason::Sleep))), "{effects:?}");
    assert!(says_saved(&effects).is_empty() && world.session.is_idle());
    let mut world = running();
    world.event(Event::Announced(Announcement::Sleep));
    let effects = world.advance(Duration::from_secs(10));
    assert!(effects.contains(&Effect::Kill { slot: 0 }), "{effects:?}");
    assert!(effects.contains(&released(&[attempt(1, 0)], ReleaseReason::Evicted(PauseReason::Sleep))), "{effects:?}");
}

#[test]
fn a_result_that_comes_instead_of_the_snapshot_counts() {
    let mut world = running();
    world.event(Event::Announced(Announcement::Sleep));
    let effects = world.finish(0, attempt(1, 0), 1_000);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Keep(_))), "{effects:?}");
    assert!(effects.contains(&Effect::Kill { slot: 0 }), "its process leaves too: {effects:?}");
}

#[test]
fn an_attempt_goes_on_from_a_snapshot_once_that_is_here() {
    let mut world = World::ready(1);
    let effects = world.hear(offer(0, Some(snapshot(90))));
    assert_eq!(effects, [Effect::Fetch(movable_artifact()), Effect::Fetch(snapshot(90).blob)]);
    world.fetched(movable_artifact());
    assert!(matches!(&world.fetched(snapshot(90).blob)[..], [Effect::Start { .. }]));
    let effects = world.event(Event::Ready { slot: 0 });
    let goes_on = |effect: &Effect| matches!(effect, Effect::Run { resume: Some(blob), .. } if *blob == snapshot(90).blob);
    assert!(effects.iter().any(goes_on), "{effects:?}");
    let effects = world.finish(0, attempt(1, 0), 1_000);
    assert!(effects.contains(&Effect::Unpin(snapshot(90).blob.digest)), "{effects:?}");
}

#[test]
fn a_snapshot_that_nobody_gives_is_refused_and_named() {
    let mut world = World::ready(1);
    world.hear(offer(0, Some(snapshot(90))));
    let digest = snapshot(90).blob.digest;
    let effects = world.event(Event::Fetched { digest, result: Err("nobody has it".into()) });
    let reason = RefuseReason::Snapshot { digest, reason: "nobody has it".into() };
    assert!(effects.contains(&Effect::Send(ToCoordinator::Refused { attempt: attempt(1, 0), reason })), "{effects:?}");
}

#[test]
fn a_plain_build_does_not_go_on_from_a_snapshot() {
    let mut world = World::ready(1);
    let (attempt, input) = (attempt(1, 0), Payload::inline(vec![1]));
    let build = Build::Plain;
    let effects = world.hear(ToAgent::Assign(vec![Assignment { attempt, input, build, resume: Some(snapshot(1)) }]));
    assert!(matches!(sent(&effects)[..], [ToCoordinator::Refused { reason: RefuseReason::Snapshot { .. }, .. }]));
}

#[test]
fn what_runs_for_long_is_written_down_now_and_then_and_only_while_it_runs() {
    let mut world = running();
    let every = Duration::from_secs(4);
    let effects = world.advance(every);
    assert!(effects.contains(&Effect::Checkpoint { slot: 0, attempt: attempt(1, 0) }), "{effects:?}");
    let effects = saved(&mut world, 4, false);
    assert_eq!(says_saved(&effects), [snapshot(4)]);
    world.event(Event::Owner(OwnerWord::Pause { until: None }));
    world.event(Event::Owner(OwnerWord::Run));
    let effects = world.advance(every);
    assert!(effects.contains(&Effect::Checkpoint { slot: 0, attempt: attempt(1, 0) }), "{effects:?}");
}

#[test]
fn snapshots_are_named_in_the_greeting_and_erased_when_nobody_needs_them() {
    let mut world = running();
    saved(&mut world, 90, false);
    let greeting = |effects: Vec<Effect>| match effects.first() {
        Some(Effect::Send(ToCoordinator::Hello(hello))) => hello.snapshots.iter().map(|kept| kept.digest).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let digest = snapshot(90).blob.digest;
    assert_eq!(greeting(world.connect()), [digest]);
    assert_eq!(world.hear(ToAgent::Discard { snapshots: vec![digest] }), [Effect::Erase(digest)]);
    assert_eq!(world.hear(ToAgent::Discard { snapshots: vec![digest] }), []);
    assert_eq!(greeting(world.connect()), []);
}

#[test]
fn a_snapshot_of_what_was_recalled_meanwhile_is_erased() {
    let mut world = running();
    world.event(Event::Announced(Announcement::Sleep));
    world.hear(ToAgent::Recall { attempts: vec![attempt(1, 0)], reason: RecallReason::Cancelled });
    let effects = saved(&mut world, 90, true);
    assert_eq!(effects, [Effect::Erase(snapshot(90).blob.digest)]);
}

#[test]
fn an_agent_that_stops_writes_down_what_runs_and_goes_when_others_have_it() {
    let mut world = running();
    world.advance(Duration::from_secs(3));
    let effects = world.event(Event::Stop { grace: Duration::from_secs(10) });
    assert_eq!(effects, [Effect::Suspend { slot: 0, attempt: attempt(1, 0) }]);
    let effects = saved(&mut world, 3, true);
    assert_eq!(says_saved(&effects), [snapshot(3)]);
    assert_eq!(effects[1], released(&[attempt(1, 0)], ReleaseReason::Stopping));
    let effects = world.event(Event::Gone { slot: 0, failed: None });
    assert!(!effects.contains(&Effect::Quit), "it is here only: {effects:?}");
    let effects = world.hear(ToAgent::Safe { snapshots: vec![snapshot(3).blob.digest] });
    assert_eq!(effects, [Effect::Send(ToCoordinator::Farewell), Effect::Quit]);
    let mut world = running();
    world.event(Event::Stop { grace: Duration::from_secs(10) });
    let effects = world.advance(Duration::from_secs(5));
    assert!(effects.contains(&Effect::Kill { slot: 0 }), "what takes too long is given up: {effects:?}");
    assert!(effects.contains(&released(&[attempt(1, 0)], ReleaseReason::Stopping)), "{effects:?}");
}

fn checkpoints(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Checkpoint { .. })).count()
}

/// One slot whose executor was given several movable attempts, of which the second is at the front.
fn piped() -> World {
    let mut world = running();
    world.finish(0, attempt(1, 0), 100);
    for index in 1..4 {
        world.hear(offer(index, None));
    }
    world
}

#[test]
fn snapshots_are_taken_of_movable_builds_alone_and_no_sooner_than_asked_for() {
    let mut world = running();
    let every = Duration::from_secs(4);
    assert_eq!(checkpoints(&world.advance(every - Duration::from_micros(1))), 0);
    assert_eq!(checkpoints(&world.advance(Duration::from_micros(1))), 1);
    assert_eq!(checkpoints(&world.advance(every - Duration::from_micros(1))), 0, "whether or not it was written");
    let mut world = World::running(1, 1);
    assert_eq!(checkpoints(&world.advance(Duration::from_secs(9))), 0, "a plain build has no state to write");
}

#[test]
fn each_slot_is_written_down_in_its_own_time() {
    let mut world = World::ready(2);
    world.hear(offer(0, None));
    world.hear(offer(1, None));
    world.fetched(movable_artifact());
    let began = world.now;
    world.event(Event::Ready { slot: 0 });
    world.advance(Duration::from_secs(1));
    world.event(Event::Ready { slot: 1 });
    assert_eq!(world.session.moving_due(), Some(began + Duration::from_secs(4)));
    let effects = world.advance(Duration::from_secs(3));
    assert!(effects.contains(&Effect::Checkpoint { slot: 0, attempt: attempt(1, 0) }), "{effects:?}");
    assert_eq!(world.session.moving_due(), Some(began + Duration::from_secs(5)));
}

#[test]
fn what_waits_behind_what_is_written_down_is_released_with_it_or_runs_on_when_only_that_one_must_go() {
    let mut world = piped();
    let effects = world.event(Event::Announced(Announcement::Sleep));
    assert!(effects.contains(&Effect::Suspend { slot: 0, attempt: attempt(1, 1) }), "{effects:?}");
    let reason = ReleaseReason::Evicted(PauseReason::Sleep);
    assert!(effects.contains(&released(&[attempt(1, 2), attempt(1, 3)], reason)), "{effects:?}");
    let mut world = piped();
    let faster = ToAgent::Recall { attempts: vec![attempt(1, 1)], reason: RecallReason::Faster };
    assert_eq!(world.hear(faster), [Effect::Suspend { slot: 0, attempt: attempt(1, 1) }]);
    let snapshot = snapshot(1).blob;
    world.event(Event::Saved { slot: 0, attempt: attempt(1, 1), snapshot, suspended: true });
    let effects = world.event(Event::Gone { slot: 0, failed: None });
    assert!(matches!(effects[..], [Effect::Start { slot: 0, .. }]), "{effects:?}");
    assert_eq!(super::runs(&world.event(Event::Ready { slot: 0 })), [(0, attempt(1, 2)), (0, attempt(1, 3))]);
}

#[test]
fn an_attempt_that_begins_anew_has_all_its_time_again_and_no_other_one_has() {
    for (index, ends_s) in [(0, 10), (1, 6)] {
        let mut world = running();
        world.advance(Duration::from_secs(4));
        world.event(Event::BeginsAnew { slot: 0, attempt: attempt(1, index), reason: "it is damaged".into() });
        let effects = world.advance(Duration::from_millis(ends_s * 1_000 - 1));
        assert!(super::keeps(&effects).is_empty(), "{index}: {effects:?}");
        assert_eq!(super::keeps(&world.advance(Duration::from_millis(1))).len(), 1, "{index}");
    }
}

#[test]
fn an_attempt_that_comes_back_goes_on_at_once_from_the_snapshot_that_is_still_here() {
    let mut world = running();
    saved(&mut world, 5, false);
    world.hear(ToAgent::Recall { attempts: vec![attempt(1, 0)], reason: RecallReason::Cancelled });
    world.event(Event::Gone { slot: 0, failed: None });
    world.hear(offer(1, Some(snapshot(5))));
    let effects = world.fetched(movable_artifact());
    assert!(matches!(&effects[..], [Effect::Start { .. }]), "it needs no copy of it: {effects:?}");
}

#[test]
fn beyond_what_may_be_kept_the_oldest_snapshot_goes_and_that_is_said() {
    let mut world = running();
    let most = lull_shared::limits::SNAPSHOTS_PER_AGENT_MAX as u64;
    for seconds in 0..most {
        let effects = saved(&mut world, seconds, false);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Erase(_))), "there is room for {seconds}: {effects:?}");
    }
    let effects = saved(&mut world, most, false);
    let oldest = lull_shared::message::KeptSnapshot { task: attempt(1, 0).task, digest: snapshot(0).blob.digest };
    let gone = Effect::Send(ToCoordinator::Unkept { snapshot: oldest, reason: UnkeptReason::Full });
    assert!(effects.contains(&Effect::Erase(oldest.digest)) && effects.contains(&gone), "{effects:?}");
    assert_eq!(world.session.snapshots.kept().len() as u64, most);
}
