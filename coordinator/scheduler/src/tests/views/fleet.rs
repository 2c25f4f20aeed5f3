//! What the fleet offers, and what it is expected to offer.

use std::collections::BTreeSet;

use lull_shared::{
    id::AgentId,
    message::ToCoordinator,
    resources::Capacity,
    state::{Intake, PauseReason},
};

use crate::tests::support::driver::{Driver, NOON, capacity, spec};

#[test]
fn only_agents_that_take_work_now_offer_their_slots() {
    let mut driver = Driver::with_agents(5, 2);
    driver.submit(spec(1));
    driver.set_intake(2, Intake::Cordoned);
    driver.set_intake(3, Intake::Revoked);
    driver.disconnect(4);
    let paused = Capacity { paused: Some(PauseReason::Touched), sequence: 9, ..capacity(5, 2) };
    driver.say(5, ToCoordinator::Capacity(paused));
    let view = driver.scheduler.fleet(&BTreeSet::new(), 3);
    assert_eq!((view.enrolled, view.connected, view.paused), (4, 3, 1), "a revoked one is none of them: {view:?}");
    assert_eq!((view.offering, view.slots), (1, 2));
    let without = driver.scheduler.fleet(&BTreeSet::from([AgentId(1)]), 3);
    assert_eq!((without.enrolled, without.offering), (3, 0), "nor is one that left");
}

#[test]
fn of_machines_that_were_never_watched_an_offices_hours_are_expected() {
    let mut driver = Driver::with_agents(10, 2);
    let expected = driver.scheduler.slots_expected(NOON, 12, &BTreeSet::new());
    assert_eq!((expected.len(), expected[0], expected[11]), (12, 4, 20), "at noon people work, and at night they do not");
    driver.set_intake(1, Intake::Draining);
    assert_eq!(driver.scheduler.slots_expected(NOON, 12, &BTreeSet::new())[11], 18);
}
