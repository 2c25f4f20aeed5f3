//! Sleeping machines, and who wakes them.

use std::time::Duration;

use lull_shared::{
    id::AgentId,
    message::ToCoordinator,
    policy::Policy,
    resources::{Card, Mac, Subnet},
    state::PauseReason,
};

use crate::{
    Limits,
    effect::Order,
    event::Event,
    tests::support::driver::{Driver, capacity, spec},
    views::view::Obstacle,
};

fn card(agent: u64, subnet: u8) -> Card {
    Card { mac: Mac([2, 0, 0, 0, 0, agent as u8]), subnet: Subnet::of([10, 0, subnet, 7].into(), 24) }
}

/// A machine that was there in this subnet, may be woken in these hours, and went to sleep.
fn asleep(driver: &mut Driver, agent: u64, subnet: u8, hours: &str) {
    driver.enrol_and_connect(agent, 1);
    driver.say(agent, ToCoordinator::Cards(vec![card(agent, subnet)]));
    let hours = hours.parse().expect("hours");
    let policy = Policy { hours, wake_on_lan: true, ..Policy::unrestricted() };
    driver.handle(Event::Wakeable { agent: AgentId(agent), policy: Some(Box::new(policy)), clock_ahead_min: 0 });
    driver.say(agent, ToCoordinator::Sleeps);
    driver.disconnect(agent);
}

/// One agent that is there, with one slot, in subnet 1.
fn with_neighbour() -> Driver {
    // Nobody is taken for silent here.
    let mut driver = Driver::with(Limits {
        lease: Duration::from_secs(100_000),
        overtime_margin: Duration::from_secs(100_000),
        begin_max: Duration::from_secs(100_000),
        ..Limits::default()
    });
    driver.enrol_and_connect(1, 1);
    driver.say(1, ToCoordinator::Cards(vec![card(1, 1)]));
    driver
}

/// The cards that the last turn had this agent wake.
fn wakes(driver: &Driver, agent: u64) -> Vec<Card> {
    let orders = driver.orders.iter().filter_map(|(id, order)| match order {
        Order::Wake { cards } if id.0 == agent => Some(cards.clone()),
        _ => None,
    });
    orders.flatten().collect()
}

const ALWAYS: &str = "00:00-24:00";

#[test]
fn a_machine_is_woken_for_work_without_room_by_a_neighbour() {
    let mut driver = with_neighbour();
    asleep(&mut driver, 2, 1, ALWAYS);
    driver.submit(spec(1));
    assert!(wakes(&driver, 1).is_empty(), "there is room for it");
    driver.submit(spec(1));
    assert_eq!(wakes(&driver, 1), [card(2, 1)]);
    driver.pass(Duration::from_secs(61));
    assert!(wakes(&driver, 1).is_empty(), "it has some time to come");
    driver.connect(2, 1, &[]);
    assert_eq!(driver.held(2).len(), 1);
    assert_eq!(driver.scheduler.agent(AgentId(2)).expect("an agent").asleep, None);
}

#[test]
fn nobody_is_woken_against_policy_or_hours_or_without_a_neighbour_or_for_nothing() {
    let mut driver = with_neighbour();
    asleep(&mut driver, 2, 1, "18:00-20:00");
    asleep(&mut driver, 3, 2, ALWAYS);
    asleep(&mut driver, 4, 1, ALWAYS);
    driver.handle(Event::Wakeable { agent: AgentId(4), policy: None, clock_ahead_min: 0 });
    driver.enrol_and_connect(5, 1);
    driver.say(5, ToCoordinator::Cards(vec![card(5, 1)]));
    driver.disconnect(5);
    driver.submit(spec(9));
    assert!(wakes(&driver, 1).is_empty(), "noon, another subnet, not allowed, switched off");
    driver.pass(Duration::from_secs(5 * 3_600 + 1_800));
    assert!(wakes(&driver, 1).is_empty());
    driver.pass(Duration::from_secs(1_900));
    assert_eq!(wakes(&driver, 1), [card(2, 1)], "its hours have come");
}

#[test]
fn a_few_are_woken_at_a_time_and_one_that_does_not_come_is_tried_ever_more_rarely() {
    let mut driver = with_neighbour();
    (2..=7).for_each(|agent| asleep(&mut driver, agent, 1, ALWAYS));
    driver.submit(spec(50));
    assert_eq!(wakes(&driver, 1).len(), 4);
    driver.pass(Duration::from_secs(60));
    assert_eq!(wakes(&driver, 1).len(), 2, "the others");
    driver.pass(Duration::from_secs(420));
    assert!(wakes(&driver, 1).is_empty());
    driver.pass(Duration::from_secs(300));
    assert_eq!(wakes(&driver, 1).len(), 6);
    driver.pass(Duration::from_secs(1_000));
    assert!(wakes(&driver, 1).is_empty(), "twice as long");
}

#[test]
fn explain_says_who_sleeps_and_was_tried_to_wake() {
    let mut driver = with_neighbour();
    asleep(&mut driver, 2, 1, ALWAYS);
    let job = driver.submit(spec(2));
    let task = lull_shared::id::TaskId { job, index: 1 };
    let explained = driver.scheduler.explain(task, driver.now).expect("it is open");
    let verdict = explained.agents.iter().find(|verdict| verdict.agent == AgentId(2)).expect("a verdict");
    let [Obstacle::Asleep { tries: 1, tried: Some(_), .. }] = &verdict.obstacles[..] else { panic!("{verdict:?}") };
    assert!(verdict.obstacles[0].to_string().contains("it was tried to wake it once"), "{}", verdict.obstacles[0]);
}

#[test]
fn who_wakes_up_before_it_fell_asleep_is_awake() {
    let mut driver = with_neighbour();
    driver.say(1, ToCoordinator::Sleeps);
    assert!(driver.scheduler.agent(AgentId(1)).expect("an agent").asleep.is_some());
    let paused = Some(PauseReason::Sleep);
    driver.say(1, ToCoordinator::Capacity(lull_shared::resources::Capacity { sequence: 2, paused, ..capacity(1, 1) }));
    assert!(driver.scheduler.agent(AgentId(1)).expect("an agent").asleep.is_some());
    driver.say(1, ToCoordinator::Capacity(lull_shared::resources::Capacity { sequence: 3, ..capacity(1, 1) }));
    assert!(driver.scheduler.agent(AgentId(1)).expect("an agent").asleep.is_none());
}

#[test]
fn another_policy_lets_nobody_be_woken_who_has_not_heard_of_it() {
    let mut driver = with_neighbour();
    asleep(&mut driver, 2, 1, ALWAYS);
    driver.handle(Event::PolicyChanged);
    driver.submit(spec(9));
    assert!(wakes(&driver, 1).is_empty());
}
