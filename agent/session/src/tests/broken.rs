//! What the agent's own troubles mean: no function fails of them, nothing new is begun, and they pass.

use std::time::Duration;

use lull_shared::{
    message::{ReleaseReason, ToCoordinator},
    state::{Part, PauseReason, Trouble},
};

use super::{World, artifact, attempt, brief, refused, released, runs, sent};
use crate::*;

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
fn a_trouble_its_end_and_a_snapshot_that_cannot_be_used_are_remarked() {
    let mut world = World::ready(1);
    let trouble = Trouble::new(Part::Cache, "no space left");
    world.event(Event::Trouble { trouble: trouble.clone(), ended: None });
    world.advance(Duration::from_millis(1));
    world.event(Event::Probed { part: Part::Cache, result: Ok(()) });
    let (attempt, reason) = (attempt(1, 0), "it is damaged".to_owned());
    world.event(Event::BeginsAnew { slot: 0, attempt, reason: reason.clone() });
    let expected = [Remark::Trouble(trouble), Remark::Works(Part::Cache), Remark::BeginsAnew { attempt, reason }];
    assert_eq!(world.remarks, expected);
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

    let config = Config { works_in_open_cage: true, ..super::config(1) };
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

#[test]
fn the_newest_reason_is_what_is_said_of_a_trouble_wherever_it_comes_from() {
    let reason = |world: &World| match world.session.objects() {
        Some(PauseReason::Trouble(trouble)) => trouble.reason,
        other => panic!("{other:?}"),
    };
    let mut world = World::ready(1);
    for why in ["no space left", "no folder"] {
        world.event(Event::Trouble { trouble: Trouble::new(Part::Cache, why), ended: None });
        assert_eq!(reason(&world), why);
    }
    world.advance(Duration::from_millis(1));
    world.event(Event::Probed { part: Part::Cache, result: Err("no permission".into()) });
    assert_eq!(reason(&world), "no permission");
}

#[test]
fn only_what_was_asked_can_be_answered() {
    let mut world = World::ready(1);
    world.event(Event::Trouble { trouble: killed(), ended: None });
    world.event(Event::Probed { part: Part::Killed, result: Ok(()) });
    assert_eq!(paused(&world), Some(Part::Killed), "nobody asked yet");
    world.event(Event::Probed { part: Part::Cache, result: Err("broken".into()) });
    assert_eq!(world.session.troubles.due(), Some(world.now + Duration::from_secs(30)), "nor about that part");
}

#[test]
fn of_several_troubles_each_is_asked_about_in_its_own_time() {
    let mut world = World::ready(1);
    world.event(Event::Trouble { trouble: killed(), ended: None });
    world.event(Event::Trouble { trouble: Trouble::new(Part::Cache, "no space left"), ended: None });
    assert_eq!(world.session.troubles.due(), Some(world.now));
    assert_eq!(probes(&world.advance(Duration::from_millis(1))), [Part::Cache]);
    world.event(Event::Probed { part: Part::Cache, result: Ok(()) });
    assert_eq!(paused(&world), Some(Part::Killed), "one of them is left");
    assert_eq!(probes(&world.advance(Duration::from_secs(30))), [Part::Killed]);
}

/// The pauses before a part is asked about, each time that it fails right after it was found to work.
fn relapses(part: Part, count: usize, rest: Duration) -> Vec<u64> {
    let mut world = World::ready(1);
    let pauses = (0..count).map(|_| {
        world.event(Event::Trouble { trouble: Trouble::new(part, "broken"), ended: None });
        let from = world.now;
        while probes(&world.advance(Duration::from_millis(500))).is_empty() {}
        let pause = world.now.since(from).as_secs();
        world.event(Event::Probed { part, result: Ok(()) });
        world.advance(rest);
        pause
    });
    pauses.collect()
}

#[test]
fn what_fails_again_and_again_is_left_alone_for_longer_until_it_has_worked_for_ten_minutes() {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    assert_eq!(
        relapses(Part::Executor, 6, Duration::ZERO),
        [0, 1, 2, 4, 8, 16],
        "it fails again as soon as it was found to work"
    );
    assert_eq!(relapses(Part::Executor, 4, minutes(9)), [0, 1, 2, 4]);
    assert_eq!(relapses(Part::Executor, 4, minutes(11)), [0, 0, 0, 0]);
    assert_eq!(relapses(Part::Killed, 7, Duration::ZERO), [30, 30, 60, 120, 240, 480, 600], "ten minutes at most");
}

#[test]
fn an_open_cage_is_tried_ever_more_rarely_and_the_last_word_about_it_counts() {
    let open = || Event::Caged { missing: Some("landlock missing".into()) };
    let mut world = World::ready(1);
    world.event(open());
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let from = world.now;
        while probes(&world.advance(Duration::from_secs(1))).is_empty() {}
        pauses.push(world.now.since(from).as_secs() / 60);
        world.event(open());
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60], "minutes");
    assert_eq!(paused(&world), Some(Part::Cage));
    while probes(&world.advance(Duration::from_secs(60))).is_empty() {}
    world.event(Event::Caged { missing: None });
    assert_eq!(paused(&world), None);
}

#[test]
fn an_attempt_is_given_back_for_a_trouble_only_where_it_was_what_ran() {
    let trouble = |index| Event::Trouble { trouble: killed(), ended: Some((0, attempt(1, index))) };
    let released_by = |world: &mut World, index| {
        let effects = world.event(trouble(index));
        effects.contains(&released(&[attempt(1, index)], ReleaseReason::Trouble(killed())))
    };
    let piped = || {
        let mut world = World::running(1, 4);
        world.finish(0, attempt(1, 0), 100);
        world
    };
    let mut world = piped();
    assert!(released_by(&mut world, 1), "it was at the front");
    world.event(Event::Gone { slot: 0, failed: None });
    world.advance(Duration::from_secs(30));
    world.event(Event::Probed { part: Part::Killed, result: Ok(()) });
    assert_eq!(runs(&world.event(Event::Ready { slot: 0 })), [(0, attempt(1, 2)), (0, attempt(1, 3))], "the rest runs again");
    for other in [2, 3, 9] {
        assert!(!released_by(&mut piped(), other), "{other} was not at the front");
    }
    let mut world = World::ready(1);
    world.assign(1, 0..1);
    world.fetched(artifact());
    assert!(!released_by(&mut world, 0), "its executor is only being started");
}

#[test]
fn code_that_two_jobs_share_and_both_miss_is_fetched_once() {
    let mut world = World::ready(2);
    let mut other = brief(2);
    other.grants.random = true;
    world.hear(lull_shared::message::ToAgent::Brief(Box::new(other)));
    world.assign(1, 0..1);
    world.assign(2, 0..1);
    world.fetched(artifact());
    let missing = |slot| Event::StartFailed { slot, error: StartError::Missing("no such file".into()) };
    assert_eq!(world.event(missing(0)), [Effect::Fetch(artifact())]);
    assert_eq!(world.event(missing(1)), [], "it is on its way");
    assert_eq!(paused(&world), None);
    assert_eq!(world.fetched(artifact()).len(), 2, "both start");
}
