//! What the agent's own troubles mean: no function fails of them, nothing new is begun, and they pass.

use std::time::Duration;

use lull_shared::{
    message::{ReleaseReason, ToCoordinator},
    state::{Part, PauseReason, Trouble},
};

use super::{
    tests::{World, artifact, attempt, refused, released, sent},
    *,
};

fn killed() -> Trouble {
    Trouble::new(Part::Killed, "killed")
}

fn probes(effects: &[Effect]) -> Vec<Part> {
    effects.iter().filter_map(|effect| if let Effect::Probe(part) = effect { Some(*part) } else { None }).collect()
}

fn paused(world: &World) -> Option<Part> {
    match world.session.status(world.now).paused {
        Some(PauseReason::Trouble(trouble)) => Some(trouble.part),
        _ => None,
    }
}

#[test]
fn an_attempt_whose_executor_somebody_killed_is_given_back_and_what_waited_behind_it_stays() {
    let mut world = World::running(1, 2);
    let effects = world.event(Event::Trouble { trouble: killed(), ended: Some((0, attempt(1, 0))) });
    assert!(effects.contains(&released(&[attempt(1, 0)], ReleaseReason::Trouble(killed()))), "{effects:?}");
    assert_eq!(world.event(Event::Gone { slot: 0, failed: None }), [], "nothing new is begun");
    assert_eq!(paused(&world), Some(Part::Killed));
    assert_eq!(probes(&world.advance(Duration::from_secs(29))), [], "whoever kills means it");
    assert_eq!(probes(&world.advance(Duration::from_secs(2))), [Part::Killed]);
    let effects = world.event(Event::Probed { part: Part::Killed, result: Ok(()) });
    assert!(matches!(effects[..], [Effect::Start { slot: 0, .. }]), "{effects:?}");
    assert_eq!(paused(&world), None);
}

#[test]
fn a_part_that_does_not_work_is_tried_until_it_does_and_offers_are_refused_until_then() {
    let mut world = World::ready(1);
    let trouble = Trouble::new(Part::Cache, "no space left");
    world.event(Event::Trouble { trouble, ended: None });
    assert_eq!(refused(&world.assign(1, 0..1)), [(attempt(1, 0), lull_shared::message::RefuseReason::Paused)]);
    assert_eq!(probes(&world.advance(Duration::from_millis(1))), [Part::Cache], "at once, since it may be over");
    let mut tries = 0;
    for _ in 0..10 {
        world.event(Event::Probed { part: Part::Cache, result: Err("no space left".into()) });
        tries += probes(&world.advance(Duration::from_secs(30))).len();
    }
    assert_eq!(tries, 10, "it never waits longer than half a minute");
    world.event(Event::Probed { part: Part::Cache, result: Ok(()) });
    assert_eq!(world.assign(1, 1..2), [Effect::Fetch(artifact())]);
}

#[test]
fn a_part_that_goes_on_not_working_is_asked_after_pauses_that_grow() {
    let mut world = World::ready(1);
    world.event(Event::Trouble { trouble: Trouble::new(Part::Executor, "no process"), ended: None });
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let from = world.now;
        while probes(&world.advance(Duration::from_millis(100))).is_empty() {}
        pauses.push(world.now.since(from).as_secs());
        world.event(Event::Probed { part: Part::Executor, result: Err("still none".into()) });
    }
    assert!(pauses[..2] == [0, 1] && pauses.windows(2).skip(1).all(|pair| pair[1] == 2 * pair[0]), "{pauses:?}");
}

#[test]
fn what_fails_again_as_soon_as_it_was_found_to_work_is_left_alone_for_longer_and_longer() {
    let mut world = World::ready(1);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        world.event(Event::Trouble { trouble: Trouble::new(Part::Executor, "no process"), ended: None });
        let from = world.now;
        while probes(&world.advance(Duration::from_millis(100))).is_empty() {}
        pauses.push(world.now.since(from).as_secs());
        world.event(Event::Probed { part: Part::Executor, result: Ok(()) });
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16]);
}

#[test]
fn an_open_cage_takes_no_work_unless_it_was_told_to() {
    let mut world = World::ready(1);
    let effects = world.event(Event::Caged { missing: Some("landlock missing".into()) });
    assert_eq!((paused(&world), sent(&effects).len()), (Some(Part::Cage), 0));
    let effects = world.connect();
    let [ToCoordinator::Hello(hello), ..] = sent(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(hello.open_cage.as_deref(), Some("landlock missing"));
    world.advance(Duration::from_millis(1));
    world.event(Event::Caged { missing: None });
    assert_eq!(paused(&world), None, "it was closed after all");

    let config = Config { works_in_open_cage: true, ..super::tests::config(1) };
    let mut session = Session::new(config, &[], world.now);
    session.handle(Event::Caged { missing: Some("landlock missing".into()) }, world.now);
    assert_eq!(session.objects(), None);
}

#[test]
fn code_that_is_gone_from_the_cache_is_fetched_once_more_before_it_is_given_up() {
    let mut world = World::ready(1);
    world.assign(1, 0..1);
    world.fetched(artifact());
    let missing = || StartError::Missing("no such file".into());
    assert_eq!(world.event(Event::StartFailed { slot: 0, error: missing() }), [Effect::Fetch(artifact())]);
    let effects = world.fetched(artifact());
    assert!(matches!(effects[..], [Effect::Start { .. }]), "{effects:?}");
    world.event(Event::StartFailed { slot: 0, error: missing() });
    assert_eq!(paused(&world), Some(Part::Cache));
}
