//! Two programs with one identity, and machines that only look so.

use std::time::Duration;

use lull_shared::{
    id::AgentId,
    message::GoodbyeReason,
    state::{AttemptEnd, Intake},
};

use crate::{
    effect::{Change, Order},
    event::{AgentSnapshot, Event, QuarantineKind},
    tests::support::driver::{Driver, attempt, spec},
};

const SECOND: Duration = Duration::from_secs(1);

/// An agent with these programs one after the other, some seconds apart.
fn met(programs: &[(u64, u64)], apart: Duration) -> Driver {
    let mut driver = Driver::new();
    driver.enrol(1);
    for program in programs {
        driver.connect_as(1, 1, &[], *program);
        driver.now = driver.now + apart;
    }
    driver
}

fn kind(driver: &Driver, agent: u64) -> Option<QuarantineKind> {
    driver.scheduler.agent(AgentId(agent)).expect("known").quarantine.map(|quarantine| quarantine.kind)
}

#[test]
fn two_programs_that_take_turns_are_found_and_named() {
    let mut driver = met(&[(1, 70), (2, 80), (1, 70)], SECOND);
    assert_eq!(kind(&driver, 1), None, "one of them came back once");
    driver.connect_as(1, 1, &[], (2, 80));
    assert_eq!(kind(&driver, 1), Some(QuarantineKind::Cloned));
    let reason = driver.scheduler.agent(AgentId(1)).expect("known").quarantine.expect("it is").reason;
    assert!(reason.contains("desk 1") && reason.contains("desk 2"), "{reason}");
    let goodbyes = driver.orders.iter().filter(|(_, order)| *order == Order::Goodbye { reason: GoodbyeReason::Cloned });
    assert_eq!(goodbyes.count(), 2, "both are told");
    assert!(driver.changes.iter().any(|change| matches!(change, Change::AgentQuarantined { agent: AgentId(1), .. })));
}

#[test]
fn neither_gets_work_and_what_was_there_goes_elsewhere() {
    let mut driver = met(&[(1, 7), (2, 7), (1, 7)], SECOND);
    driver.submit(spec(1));
    assert_eq!(driver.assigned(1), [attempt(1, 0, 1)]);
    driver.connect_as(1, 1, &[], (2, 7));
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Recalled)]);
    driver.connect_as(1, 1, &[], (1, 7));
    assert_eq!(driver.orders, [(AgentId(1), Order::Goodbye { reason: GoodbyeReason::Cloned })]);
    assert_eq!(driver.scheduler.agent(AgentId(1)).expect("known").connected, None);
    driver.enrol_and_connect(2, 1);
    assert_eq!(driver.assigned(2), [attempt(1, 0, 2)]);
    driver.crash();
    driver.connect_as(1, 1, &[], (1, 7));
    assert_eq!(kind(&driver, 1), Some(QuarantineKind::Cloned), "a takeover forgets nothing");
}

#[test]
fn a_network_that_is_cut_again_and_again_is_one_machine() {
    let driver = met(&[(1, 7); 20], SECOND);
    assert_eq!(kind(&driver, 1), None);
}

#[test]
fn a_program_that_is_restarted_again_and_again_is_one_machine() {
    let programs: Vec<_> = (1..=40).map(|number| (number, 7)).collect();
    assert_eq!(kind(&met(&programs, SECOND), 1), None);
}

#[test]
fn a_machine_that_is_put_back_to_one_moment_again_and_again_is_one_machine() {
    let driver = met(&[(1, 7), (2, 7), (1, 7), (3, 7), (1, 7), (4, 7), (1, 7)], SECOND);
    assert_eq!(kind(&driver, 1), None);
}

#[test]
fn returns_that_are_far_apart_prove_nothing() {
    let driver = met(&[(1, 7), (2, 7), (1, 7), (2, 7)], Duration::from_secs(3_700));
    assert_eq!(kind(&driver, 1), None);
}

#[test]
fn programs_that_do_not_say_who_they_are_are_let_be() {
    assert_eq!(kind(&met(&[(0, 0); 20], SECOND), 1), None);
}

#[test]
fn whoever_enrols_anew_clears_the_other_and_a_stranger_does_not() {
    let mut driver = met(&[(1, 70), (2, 80), (1, 70), (2, 80)], SECOND);
    driver.enrol(2);
    driver.connect_as(2, 1, &[], (3, 99));
    assert_eq!(kind(&driver, 1), Some(QuarantineKind::Cloned), "another machine joined");
    driver.enrol(3);
    driver.connect_as(3, 1, &[], (4, 80));
    assert_eq!(kind(&driver, 1), None, "the copy has an identity of its own now");
    let by = "the enrolment of a3".to_owned();
    assert!(driver.changes.contains(&Change::AgentTrusted { agent: AgentId(1), by, at: driver.now }));
    driver.connect_as(1, 1, &[], (1, 70));
    assert!(driver.orders.contains(&(AgentId(1), Order::Welcome { intake: Intake::Open })));
}

#[test]
fn a_member_that_has_its_certificate_renewed_clears_nobody() {
    let mut driver = Driver::new();
    driver.enrol(2);
    driver.connect_as(2, 1, &[], (9, 70));
    driver.enrol(1);
    for program in [(1, 70), (2, 80), (1, 70), (2, 80)] {
        driver.connect_as(1, 1, &[], program);
    }
    let agent = AgentSnapshot { agent: AgentId(2), name: "pc-2".into(), group: None, intake: Intake::Open, quarantine: None };
    driver.handle(Event::Enrolled { agent });
    driver.connect_as(2, 1, &[], (10, 70));
    assert_eq!(kind(&driver, 1), Some(QuarantineKind::Cloned));
}

#[test]
fn an_administrator_may_trust_it_and_it_is_found_again_if_nothing_changed() {
    let programs = [(1, 7), (2, 7), (1, 7), (2, 7)];
    let mut driver = met(&programs, SECOND);
    driver.trust(1);
    assert_eq!(kind(&driver, 1), None);
    for program in &programs[..3] {
        driver.connect_as(1, 1, &[], *program);
    }
    assert_eq!(kind(&driver, 1), None);
    driver.connect_as(1, 1, &[], programs[3]);
    assert_eq!(kind(&driver, 1), Some(QuarantineKind::Cloned));
}

#[test]
fn however_many_programs_come_few_are_remembered_and_none_when_it_is_trusted() {
    let mut driver = met(&[], SECOND);
    for pair in 0..100 {
        for number in [1, 2, 1, 2] {
            driver.connect_as(1, 1, &[], (2 * pair + number, 7));
            driver.now = driver.now + SECOND;
        }
    }
    let remembered = |driver: &Driver| driver.scheduler.fleet.get(AgentId(1)).expect("known").twins.remembered();
    let (seen, returns) = remembered(&driver);
    assert!(seen <= 8 && returns <= 2, "{seen} seen, {returns} that came back");
    assert_eq!(kind(&driver, 1), Some(QuarantineKind::Cloned));
    driver.trust(1);
    assert_eq!(remembered(&driver), (0, 0));
}
