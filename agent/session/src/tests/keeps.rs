//! Copies of other agents' snapshots, and what must be elsewhere before this one goes.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    id::TaskId,
    limits::{SNAPSHOT_BYTES_MAX, SNAPSHOTS_PER_AGENT_MAX},
    message::{Assignment, Build, KeptSnapshot, Payload, SnapshotRef, ToAgent, ToCoordinator, UnkeptReason},
};

use super::{World, attempt, movable_artifact, sent};
use crate::{
    guard::{Announcement, OwnerWord},
    *,
};

fn blob(number: u32) -> BlobRef {
    BlobRef::of(&number.to_le_bytes())
}

fn task(number: u32) -> TaskId {
    attempt(9, number).task
}

fn kept(number: u32) -> KeptSnapshot {
    KeptSnapshot { task: task(number), digest: blob(number).digest }
}

fn unkept(number: u32, reason: UnkeptReason) -> Effect {
    Effect::Send(ToCoordinator::Unkept { snapshot: kept(number), reason })
}

fn keep(world: &mut World, number: u32) -> Vec<Effect> {
    world.hear(ToAgent::Keep { task: task(number), snapshot: blob(number) })
}

/// An agent on a quiet machine that keeps this copy.
fn keeper(number: u32) -> World {
    let mut world = World::ready(1);
    world.event(Event::Sample(Sample::QUIET));
    keep(&mut world, number);
    world.fetched(blob(number));
    world
}

#[test]
fn a_copy_is_fetched_said_named_in_greetings_and_erased_when_nobody_needs_it() {
    let mut world = World::ready(1);
    assert_eq!(keep(&mut world, 1), [Effect::Fetch(blob(1))]);
    assert_eq!(keep(&mut world, 1), [], "it is on its way");
    assert_eq!(world.fetched(blob(1)), [Effect::Send(ToCoordinator::Keeps(kept(1)))]);
    assert_eq!(keep(&mut world, 1), [Effect::Send(ToCoordinator::Keeps(kept(1)))], "it is here");
    let effects = world.connect();
    let [ToCoordinator::Hello(hello), ..] = sent(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(hello.snapshots, [kept(1)]);
    assert_eq!(world.hear(ToAgent::Discard { snapshots: vec![blob(1).digest] }), [Effect::Erase(blob(1).digest)]);
}

#[test]
fn a_copy_that_nobody_gives_or_wants_any_more_leaves_nothing() {
    let mut world = World::ready(1);
    keep(&mut world, 1);
    let effects = world.event(Event::Fetched { digest: blob(1).digest, result: Err("nobody has it".into()) });
    assert_eq!(effects, [Effect::Unpin(blob(1).digest), unkept(1, UnkeptReason::Unavailable)]);
    keep(&mut world, 2);
    assert_eq!(world.hear(ToAgent::Discard { snapshots: vec![blob(2).digest] }), [Effect::Erase(blob(2).digest)]);
    assert_eq!(world.fetched(blob(2)), [], "it came all the same");
}

#[test]
fn nothing_comes_while_the_owner_needs_the_machine_and_what_is_on_its_way_is_given_up() {
    let mut world = World::ready(1);
    keep(&mut world, 1);
    let effects = world.event(Event::Owner(OwnerWord::Pause { until: None }));
    assert!(effects.contains(&Effect::Unpin(blob(1).digest)), "{effects:?}");
    assert!(effects.contains(&unkept(1, UnkeptReason::Paused)), "{effects:?}");
    assert_eq!(keep(&mut world, 2), [unkept(2, UnkeptReason::Paused)]);
}

#[test]
fn nothing_comes_over_a_network_that_costs_money_even_where_work_may() {
    let mut world = World::ready(1);
    world.event(Event::Sample(Sample { metered: true, ..Sample::QUIET }));
    assert_eq!(world.session.paused(), None, "its policy lets it work there");
    assert_eq!(keep(&mut world, 1), [unkept(1, UnkeptReason::Metered)]);
}

#[test]
fn no_more_is_kept_than_may_be_named_in_a_greeting() {
    let mut world = World::ready(1);
    for number in 0..SNAPSHOTS_PER_AGENT_MAX as u32 {
        keep(&mut world, number);
        world.fetched(blob(number));
    }
    assert_eq!(keep(&mut world, 1_000), [unkept(1_000, UnkeptReason::Full)]);
}

#[test]
fn an_agent_that_stops_waits_until_what_it_keeps_is_elsewhere() {
    let mut world = keeper(1);
    let effects = world.event(Event::Stop { grace: Duration::from_secs(10) });
    assert_eq!(effects, [unkept(1, UnkeptReason::Leaving)]);
    assert_eq!(keep(&mut world, 2), [unkept(2, UnkeptReason::Leaving)]);
    let effects = world.hear(ToAgent::Safe { snapshots: vec![blob(1).digest] });
    assert_eq!(effects, [Effect::Send(ToCoordinator::Farewell), Effect::Quit]);
    let mut world = keeper(1);
    world.event(Event::Stop { grace: Duration::from_secs(10) });
    let effects = world.advance(Duration::from_secs(10));
    assert!(effects.contains(&Effect::Quit), "it does not wait for ever: {effects:?}");
}

#[test]
fn a_machine_that_falls_asleep_waits_too_and_one_that_wakes_up_has_what_it_had() {
    let mut world = keeper(1);
    let effects = world.event(Event::Announced(Announcement::Sleep));
    assert!(effects.contains(&unkept(1, UnkeptReason::Leaving)), "{effects:?}");
    assert!(!world.session.may_leave());
    assert!(effects.contains(&Effect::Send(ToCoordinator::Sleeps)), "{effects:?}");
    world.hear(ToAgent::Safe { snapshots: vec![blob(1).digest] });
    assert!(world.session.may_leave());
    let effects = world.event(Event::Announced(Announcement::Awake));
    assert!(effects.contains(&Effect::Send(ToCoordinator::Keeps(kept(1)))), "{effects:?}");
}

#[test]
fn nobody_is_waited_for_who_cannot_be_asked() {
    let mut world = keeper(1);
    world.event(Event::Disconnected);
    world.event(Event::Announced(Announcement::Sleep));
    assert!(world.session.may_leave());
}

#[test]
fn few_copies_are_on_their_way_at_once_and_the_next_may_come_when_one_is_there() {
    let mut world = World::ready(1);
    for number in 0..8 {
        assert_eq!(keep(&mut world, number), [Effect::Fetch(blob(number))]);
    }
    assert_eq!(keep(&mut world, 8), [unkept(8, UnkeptReason::Full)]);
    world.fetched(blob(3));
    assert_eq!(keep(&mut world, 8), [Effect::Fetch(blob(8))]);
}

#[test]
fn a_copy_may_be_as_large_as_a_snapshot_and_no_larger() {
    let mut world = World::ready(1);
    for (size_bytes, taken) in [(SNAPSHOT_BYTES_MAX, true), (SNAPSHOT_BYTES_MAX + 1, false)] {
        let snapshot = BlobRef { size_bytes, ..blob(size_bytes as u32) };
        let effects = world.hear(ToAgent::Keep { task: task(1), snapshot });
        assert_eq!(effects.contains(&Effect::Fetch(snapshot)), taken, "{effects:?}");
    }
}

#[test]
fn a_snapshot_that_an_attempt_here_goes_on_from_is_kept_without_being_fetched_again() {
    let mut world = World::ready(1);
    let resume = Some(SnapshotRef { blob: blob(1), spent_us: 1 });
    let offer = Assignment { attempt: attempt(1, 0), input: Payload::inline(vec![1]), build: Build::Migratable, resume };
    world.hear(ToAgent::Assign(vec![offer]));
    world.fetched(movable_artifact());
    world.fetched(blob(1));
    assert_eq!(keep(&mut world, 1), [Effect::Send(ToCoordinator::Keeps(kept(1)))]);
    world.event(Event::Ready { slot: 0 });
    let effects = world.finish(0, attempt(1, 0), 1_000);
    assert!(!effects.contains(&Effect::Unpin(blob(1).digest)), "it is kept on: {effects:?}");
}

#[test]
fn copies_on_their_way_are_given_up_when_the_network_begins_to_cost_money() {
    let mut world = World::ready(1);
    keep(&mut world, 1);
    let effects = world.event(Event::Sample(Sample { metered: true, ..Sample::QUIET }));
    assert_eq!(effects, [Effect::Unpin(blob(1).digest), unkept(1, UnkeptReason::Metered)]);
    let mut world = World::ready(1);
    keep(&mut world, 1);
    assert_eq!(world.event(Event::Sample(Sample::QUIET)), []);
}

#[test]
fn a_machine_waits_until_each_of_its_copies_is_elsewhere() {
    let mut world = keeper(1);
    keep(&mut world, 2);
    world.fetched(blob(2));
    world.event(Event::Announced(Announcement::Sleep));
    world.hear(ToAgent::Safe { snapshots: vec![blob(2).digest] });
    assert!(!world.session.may_leave(), "the first is here only");
    world.hear(ToAgent::Safe { snapshots: vec![blob(1).digest, blob(7).digest] });
    assert!(world.session.may_leave());
    let mut world = keeper(1);
    world.event(Event::Announced(Announcement::Sleep));
    world.hear(ToAgent::Discard { snapshots: vec![blob(1).digest] });
    assert!(world.session.may_leave(), "what nobody needs need not be elsewhere");
}

#[test]
fn a_coordinator_that_takes_over_within_one_turn_is_asked_anew_for_what_must_be_elsewhere() {
    let mut world = keeper(1);
    world.event(Event::Announced(Announcement::Sleep));
    world.hear(ToAgent::Safe { snapshots: vec![blob(1).digest] });
    assert!(world.session.may_leave());
    let welcomed = Event::Frame(lull_shared::message::ToAgentFrame { number: 1, messages: vec![super::welcome()] });
    world.session.handle_all(vec![Event::Disconnected, Event::Connected, welcomed], world.now);
    assert!(world.effects().contains(&unkept(1, UnkeptReason::Leaving)));
    assert!(!world.session.may_leave(), "this one has not said that it is safe");
}
