//! How attempts and agents end: what is said of results, in which order, how many at a time, and when an agent may go.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    message::{Finished, Outcome, Payload, ReleaseReason, ToAgent, ToCoordinator},
    state::Failure,
};

use super::{World, artifact, attempt, brief, done, finished, keeps, released, sent};
use crate::{
    guard::{Announcement, OwnerWord},
    *,
};

fn stop() -> Event {
    Event::Stop { grace: Duration::from_secs(30) }
}

fn output(index: u32) -> BlobRef {
    BlobRef::of(&index.to_le_bytes())
}

fn large(index: u32) -> Event {
    let outcome = Outcome::Succeeded { output: Payload::Blob(output(index)) };
    Event::Done { slot: 0, done: Box::new(Done { outcome, ..*done(attempt(1, index), 50_000) }) }
}

fn small(index: u32) -> Event {
    Event::Done { slot: 0, done: done(attempt(1, index), 50_000) }
}

fn kept(indexes: std::ops::Range<u32>) -> Event {
    Event::Kept { attempts: indexes.map(|index| attempt(1, index)).collect() }
}

fn not_kept(index: u32) -> Event {
    Event::NotKept { attempts: vec![attempt(1, index)], reason: "no space left".into() }
}

fn delivers(effects: &[Effect]) -> Vec<u32> {
    let index = |effect: &Effect| if let Effect::Deliver { attempt, .. } = effect { Some(attempt.task.index) } else { None };
    effects.iter().filter_map(index).collect()
}

fn delivered(index: u32, delivery: Delivery) -> Event {
    Event::Delivered { attempt: attempt(1, index), delivery }
}

fn recollects(effects: &[Effect]) -> Vec<usize> {
    let count = |effect: &Effect| if let Effect::Recollect(attempts) = effect { Some(attempts.len()) } else { None };
    effects.iter().filter_map(count).collect()
}

fn all(world: &mut World, events: Vec<Event>) -> Vec<Effect> {
    world.session.handle_all(events, world.now);
    world.effects()
}

fn holds(world: &World, index: u32) -> bool {
    world.session.places.contains_key(&attempt(1, index))
}

fn acknowledge(world: &mut World, index: u32) -> Vec<Effect> {
    world.hear(ToAgent::Acknowledge { attempts: vec![attempt(1, index)] })
}

#[test]
fn events_that_come_together_are_taken_in_their_order_and_what_follows_is_done() {
    let mut world = World::running(1, 2);
    let effects = all(&mut world, vec![small(0), Event::Owner(OwnerWord::Pause { until: None })]);
    assert_eq!(keeps(&effects).len(), 1, "{effects:?}");
    assert!(effects.contains(&Effect::Kill { slot: 0 }), "nothing more runs, and its memory is the owner's: {effects:?}");
}

#[test]
fn a_result_is_said_before_whatever_else_happens_in_the_same_turn() {
    let mut world = World::running(1, 2);
    let effects = all(&mut world, vec![small(0), stop()]);
    let words = sent(&effects);
    let place = |which: fn(&ToCoordinator) -> bool| words.iter().position(|word| which(word)).expect("it is said");
    let result = place(|word| matches!(word, ToCoordinator::Finished(_)));
    let release = place(|word| matches!(word, ToCoordinator::Released { .. }));
    assert!(result < release, "{words:?}");
}

#[test]
fn a_result_of_the_turn_in_which_the_stream_breaks_is_said_on_the_next_one() {
    let mut world = World::running(1, 1);
    let effects = all(&mut world, vec![small(0), Event::Disconnected]);
    assert_eq!((keeps(&effects).len(), sent(&effects)), (1, vec![]));
    let mut world = World::running(1, 1);
    world.event(small(0));
    world.event(Event::Disconnected);
    assert_eq!(sent(&all(&mut world, vec![kept(0..1)])), Vec::<&ToCoordinator>::new());
    assert_eq!(recollects(&world.connect()), [1]);
}

#[test]
fn with_nobody_there_a_result_is_kept_and_nothing_is_said_read_or_delivered() {
    let mut world = World::running(1, 2);
    world.event(Event::Disconnected);
    assert_eq!(sent(&world.event(small(0))), Vec::<&ToCoordinator>::new());
    world.event(large(1));
    assert_eq!(world.event(kept(0..2)), []);
    let effects = world.connect();
    assert_eq!((recollects(&effects), delivers(&effects)), (vec![1], vec![1]));
}

#[test]
fn a_result_comes_alone_beside_so_much_other_work_and_together_with_others_beside_more() {
    // One executor, in whose pipe all others are.
    for (others, alone) in [(16, true), (17, false)] {
        let mut world = World::running(1, 1 + others);
        let effects = world.finish(0, attempt(1, 0), 100);
        assert_eq!(finished(&effects).len(), usize::from(alone), "{others} others: {effects:?}");
    }
}

#[test]
fn a_result_whose_executor_was_killed_is_said_from_the_disk_where_its_log_was_added() {
    let mut world = World::running(1, 1);
    let effects = world.advance(Duration::from_secs(10));
    let record = keeps(&effects)[0].as_ref().clone();
    assert_eq!(record.outcome, Outcome::Failed(Failure::TimeLimit { limit_ms: 10_000 }));
    assert_eq!(finished(&effects), [], "its log is not in it yet");
    let effects = world.event(kept(0..1));
    assert_eq!((finished(&effects), recollects(&effects)), (vec![], vec![1]));
    let whole = Finished { log_dropped_bytes: 7, ..record };
    let effects = world.event(Event::Recollected { records: vec![whole.clone()], missing: vec![] });
    assert_eq!(finished(&effects), [whole]);
    assert_eq!(acknowledge(&mut world, 0), [Effect::Drop(vec![attempt(1, 0)])]);
}

#[test]
fn a_result_that_was_read_back_is_acknowledged_like_any_other() {
    let mut world = World::running(1, 1);
    world.event(Event::Disconnected);
    let record = keeps(&world.event(small(0)))[0].as_ref().clone();
    world.event(kept(0..1));
    world.connect();
    let again = Event::Recollected { records: vec![record.clone()], missing: vec![] };
    assert_eq!(finished(&world.event(again)), std::slice::from_ref(&record));
    assert_eq!(world.event(Event::Recollected { records: vec![record], missing: vec![] }), [], "once is enough");
    assert_eq!(acknowledge(&mut world, 0), [Effect::Drop(vec![attempt(1, 0)])]);
    assert!(!holds(&world, 0));
}

#[test]
fn a_result_that_is_wanted_no_more_while_it_is_read_back_is_not_said() {
    let mut world = World::restored(1, &[Kept { attempt: attempt(1, 0), output: None }]);
    assert_eq!(recollects(&world.connect()), [1]);
    world.hear(ToAgent::Recall { attempts: vec![attempt(1, 0)], reason: lull_shared::message::RecallReason::Stale });
    let Event::Done { done, .. } = small(0) else { panic!("an end") };
    let Done { attempt, outcome, log, log_dropped_bytes, usage } = *done;
    let record = Finished { attempt, outcome, log, log_dropped_bytes, usage };
    assert_eq!(world.event(Event::Recollected { records: vec![record], missing: vec![] }), []);
}

#[test]
fn what_the_disk_has_lost_is_held_no_more_and_what_is_said_cannot_get_lost() {
    let kept: Vec<Kept> = (0..2).map(|index| Kept { attempt: attempt(1, index), output: None }).collect();
    let mut world = World::restored(1, &kept);
    world.connect();
    let effects = world.event(Event::Recollected { records: vec![], missing: vec![attempt(1, 0)] });
    assert_eq!(effects, [Effect::Drop(vec![attempt(1, 0)])]);
    assert_eq!((holds(&world, 0), holds(&world, 1)), (false, true));
    let mut world = World::running(1, 1);
    world.event(small(0));
    world.event(Event::Kept { attempts: vec![attempt(1, 0)] });
    assert_eq!(world.event(Event::Recollected { records: vec![], missing: vec![attempt(1, 0)] }), []);
    assert!(holds(&world, 0), "it is on its way to the coordinator");
}

#[test]
fn results_of_an_earlier_life_are_read_back_a_bounded_number_at_a_time() {
    let all: Vec<Kept> = (0..65).map(|index| Kept { attempt: attempt(1, index), output: None }).collect();
    let mut world = World::restored(1, &all);
    assert_eq!(recollects(&world.connect()), [64]);
    let effects = world.event(Event::Recollected { records: vec![], missing: vec![attempt(1, 0)] });
    assert_eq!(recollects(&effects), [1], "the next one when there is room");
}

#[test]
fn two_large_outputs_are_on_their_way_at_a_time_and_the_next_when_one_of_them_is_there_or_failed() {
    let outputs = || (0..4).map(|index| Kept { attempt: attempt(1, index), output: Some(output(index)) }).collect::<Vec<_>>();
    for delivery in [Delivery::Stored, Delivery::Unwanted, Delivery::Failed] {
        let mut world = World::restored(1, &outputs());
        assert_eq!(delivers(&world.connect()), [0, 1], "{delivery:?}");
        let effects = world.event(delivered(1, delivery));
        assert_eq!(delivers(&effects), [2], "{delivery:?}");
        assert_eq!(holds(&world, 1), delivery != Delivery::Unwanted, "{delivery:?}");
        let gives_up = released(&[attempt(1, 1)], ReleaseReason::Recalled);
        assert_eq!(effects.contains(&gives_up), delivery == Delivery::Unwanted, "{delivery:?}: {effects:?}");
        assert_eq!(recollects(&effects).len(), usize::from(delivery == Delivery::Stored), "{delivery:?}: {effects:?}");
        assert_eq!(world.event(delivered(3, delivery)), [], "{delivery:?}: that one is not on its way");
    }
}

#[test]
fn an_output_that_did_not_get_there_is_tried_again_after_two_seconds_or_when_there_is_room() {
    let outputs: Vec<Kept> = (0..3).map(|index| Kept { attempt: attempt(1, index), output: Some(output(index)) }).collect();
    let mut world = World::restored(1, &outputs);
    world.connect();
    assert_eq!(delivers(&world.event(delivered(0, Delivery::Failed))), [2]);
    assert!(delivers(&world.advance(Duration::from_millis(1_999))).is_empty());
    assert!(delivers(&world.advance(Duration::from_millis(1))).is_empty(), "both ways are taken");
    assert_eq!(delivers(&world.event(delivered(1, Delivery::Stored))), [0]);
    let mut world = World::restored(1, &outputs[..1]);
    world.connect();
    world.event(delivered(0, Delivery::Failed));
    assert!(delivers(&world.advance(Duration::from_millis(1_999))).is_empty());
    assert_eq!(delivers(&world.advance(Duration::from_millis(1))), [0]);
}

#[test]
fn the_earlier_of_disk_and_delivery_is_what_a_result_waits_for_next() {
    let mut world = World::restored(1, &[Kept { attempt: attempt(1, 9), output: Some(output(9)) }]);
    world.connect();
    world.hear(ToAgent::Brief(Box::new(brief(1))));
    world.assign(1, 0..1);
    world.fetched(artifact());
    world.event(Event::Ready { slot: 0 });
    world.event(small(0));
    assert_eq!(world.session.outbox.due(), None);
    world.event(not_kept(0));
    let disk = world.now + Duration::from_secs(5);
    assert_eq!(world.session.outbox.due(), Some(disk));
    world.event(delivered(9, Delivery::Failed));
    assert_eq!(world.session.outbox.due(), Some(world.now + Duration::from_secs(2)));
    world.now = world.now + Duration::from_secs(4);
    world.event(Event::Sample(Sample::QUIET));
    assert_eq!(world.session.outbox.due(), Some(disk), "it is on its way again");
}

#[test]
fn a_disk_that_refused_is_left_alone_for_five_seconds() {
    let mut world = World::running(1, 1);
    world.event(small(0));
    world.event(not_kept(0));
    assert_eq!(keeps(&world.advance(Duration::from_millis(4_999))).len(), 0);
    assert_eq!(keeps(&world.advance(Duration::from_millis(1))).len(), 1);
    assert_eq!(keeps(&world.advance(Duration::from_millis(4_999))).len(), 0);
    assert_eq!(keeps(&world.advance(Duration::from_millis(1))).len(), 1, "again and again");
}

#[test]
fn an_agent_goes_when_its_last_process_is_gone() {
    let mut world = World::running(2, 2);
    world.event(Event::Ready { slot: 1 });
    assert!(!world.event(stop()).contains(&Effect::Quit));
    assert!(!world.event(Event::Gone { slot: 1, failed: None }).contains(&Effect::Quit), "the other is still there");
    assert!(world.event(Event::Gone { slot: 0, failed: None }).contains(&Effect::Quit));
}

#[test]
fn an_agent_without_a_coordinator_goes_when_its_results_are_on_the_disk() {
    let stopped = |keep: &[u32]| {
        let mut world = World::running(1, 3);
        world.event(Event::Disconnected);
        (0..2).for_each(|index| drop(world.event(small(index))));
        keep.iter().for_each(|index| drop(world.event(kept(*index..index + 1))));
        let mut effects = world.event(stop());
        effects.extend(world.event(Event::Gone { slot: 0, failed: None }));
        (world, effects.contains(&Effect::Quit))
    };
    assert!(stopped(&[0, 1]).1);
    assert!(!stopped(&[]).1);
    let (mut world, quit) = stopped(&[0]);
    assert!(!quit, "one of them is still being written");
    assert!(!world.event(not_kept(1)).contains(&Effect::Quit), "the disk refuses it");
    assert!(world.event(kept(1..2)).contains(&Effect::Quit));
}

#[test]
fn an_agent_that_is_told_twice_to_stop_takes_no_longer_for_it() {
    let mut world = World::running(1, 1);
    world.event(stop());
    world.advance(Duration::from_secs(20));
    world.event(stop());
    assert!(world.advance(Duration::from_secs(10)).contains(&Effect::Quit));
}

#[test]
fn an_agent_that_has_gone_does_and_says_nothing_more() {
    let mut world = World::ready(1);
    assert!(world.event(stop()).contains(&Effect::Quit));
    assert_eq!(world.session.poll_timeout(world.now), None);
    world.now = world.now + Duration::from_secs(120);
    for event in [Event::Input, Event::Owner(OwnerWord::Pause { until: None }), Event::Announced(Announcement::Sleep)] {
        assert_eq!(world.raw(event.clone()), [], "{event:?}");
    }
}

#[test]
fn an_agent_is_idle_when_it_holds_nothing_and_no_slot_has_a_process() {
    let mut world = World::ready(2);
    assert!(world.session.is_idle() && world.session.may_leave());
    world.assign(1, 0..1);
    assert!(!world.session.is_idle() && !world.session.may_leave(), "it waits for its code");
    world.fetched(artifact());
    world.event(Event::Ready { slot: 0 });
    world.event(small(0));
    world.event(kept(0..1));
    acknowledge(&mut world, 0);
    assert!(!world.session.is_idle() && !world.session.may_leave(), "an executor is warm, and the other slot is idle");
    world.advance(Duration::from_secs(20));
    world.event(Event::Gone { slot: 0, failed: None });
    assert!(world.session.is_idle() && world.session.may_leave());
}
