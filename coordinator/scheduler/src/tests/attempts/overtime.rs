//! Time limits are held here, too, and honest agents have nothing to fear from it.

use std::time::Duration;

use lull_shared::{
    id::AgentId,
    job::JobSpec,
    message::ToCoordinator,
    state::{AttemptEnd, PauseReason},
};

use crate::{
    effect::Change,
    event::{Event, QuarantineKind},
    limits::Limits,
    tests::support::driver::{Driver, attempt, capacity, spec, success},
};

/// As rare as an agent may be heard, in this world: days of it are looked at.
const BEAT: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Ten minutes for each task.
fn brief(count: u32) -> JobSpec {
    let mut spec = spec(count);
    spec.limits.time_ms = 600_000;
    spec
}

/// Signs of life for so long, with all that the agent holds. How attempts ended meanwhile.
fn live_on(driver: &mut Driver, agents: &[u64], time: Duration) -> Vec<(u64, AttemptEnd, String)> {
    let until = driver.now + time;
    let mut ended = Vec::new();
    let mut note = |changes: &[Change]| {
        ended.extend(changes.iter().filter_map(|change| match change {
            Change::AttemptEnded(ended) => Some((ended.agent.0, ended.end, ended.reason.clone().unwrap_or_default())),
            _ => None,
        }));
    };
    while driver.now < until {
        for agent in agents {
            let holding = driver.held(*agent);
            driver.heartbeat(*agent, &holding);
            note(&driver.changes);
        }
        driver.pass(BEAT.min(until.since(driver.now)));
        note(&driver.changes);
    }
    ended
}

/// One agent with one slot.
fn alone() -> Driver {
    let mut driver = Driver::with(Limits { lease: 2 * BEAT, ..Limits::default() });
    driver.enrol_and_connect(1, 1);
    driver
}

fn start(driver: &mut Driver, agent: u64) {
    let attempts = driver.held(agent);
    driver.say(agent, ToCoordinator::Started { attempts });
}

fn overtimes(driver: &Driver, agent: u64) -> u64 {
    driver.scheduler.agent(AgentId(agent)).expect("an agent").overtimes
}

#[test]
fn an_agent_that_says_started_and_goes_on_saying_so_loses_the_attempt_and_the_task_starts_elsewhere() {
    let mut driver = alone();
    driver.submit(brief(1));
    start(&mut driver, 1);
    assert_eq!(live_on(&mut driver, &[1], 11 * MINUTE), [], "a margin is left for slow clocks");
    driver.enrol_and_connect(2, 1);
    let ended = live_on(&mut driver, &[1, 2], 3 * MINUTE);
    let reason = "its agent kept it beyond its time limit".to_owned();
    assert_eq!(ended, [(1, AttemptEnd::Recalled, reason)]);
    assert_eq!(driver.held(2), [attempt(1, 0, 2)], "and no retry is spent");
    assert_eq!((overtimes(&driver, 1), overtimes(&driver, 2)), (1, 0));
    driver.succeed_after(2, &[attempt(1, 0, 2)], MINUTE);
    assert_eq!(driver.ends(), [(attempt(1, 0, 2), AttemptEnd::Succeeded)]);
}

#[test]
fn whoever_does_so_three_times_gets_no_work_until_an_administrator_trusts_it() {
    let mut driver = alone();
    driver.submit(brief(20));
    let mut seen = Vec::new();
    for _ in 0..5 {
        start(&mut driver, 1);
        seen.extend(live_on(&mut driver, &[1], 15 * MINUTE));
    }
    assert_eq!((seen.len(), driver.held(1)), (3, Vec::new()), "{seen:?}");
    let quarantine = driver.scheduler.agent(AgentId(1)).and_then(|agent| agent.quarantine).expect("it is shown");
    assert_eq!(quarantine.kind, QuarantineKind::Overtime);
    assert!(quarantine.reason.contains("too long"), "{}", quarantine.reason);
    driver.trust(1);
    assert_eq!((driver.held(1).len(), overtimes(&driver, 1)), (1, 0));
}

#[test]
fn a_pause_of_the_owner_is_not_counted_and_one_of_more_than_a_day_is_nobodys_fault() {
    let mut driver = alone();
    driver.submit(brief(1));
    let paused = |reason| ToCoordinator::Paused { attempt: attempt(1, 0, 1), reason };
    start(&mut driver, 1);
    for _ in 0..3 {
        assert_eq!(live_on(&mut driver, &[1], 3 * MINUTE), []);
        driver.say(1, paused(Some(PauseReason::Owner { until: None })));
        assert_eq!(live_on(&mut driver, &[1], 7 * HOUR), []);
        driver.say(1, paused(None));
    }
    driver.say(1, paused(Some(PauseReason::Owner { until: None })));
    let ended = live_on(&mut driver, &[1], 4 * HOUR);
    assert_eq!((ended.len(), ended[0].1, overtimes(&driver, 1)), (1, AttemptEnd::Recalled, 0), "{ended:?}");
}

#[test]
fn time_out_of_touch_is_not_counted() {
    let mut driver = alone();
    driver.submit(brief(1));
    start(&mut driver, 1);
    live_on(&mut driver, &[1], 9 * MINUTE);
    driver.pass(5 * HOUR);
    driver.connect(1, 1, &[attempt(1, 0, 1)]);
    start(&mut driver, 1);
    assert_eq!(live_on(&mut driver, &[1], MINUTE), []);
    assert_eq!(live_on(&mut driver, &[1], 3 * MINUTE).len(), 1);
}

#[test]
fn a_coordinator_that_takes_over_begins_to_count_anew() {
    let mut driver = alone();
    driver.submit(brief(1));
    start(&mut driver, 1);
    live_on(&mut driver, &[1], 11 * MINUTE);
    driver.crash();
    driver.connect(1, 1, &[attempt(1, 0, 1)]);
    start(&mut driver, 1);
    assert_eq!(live_on(&mut driver, &[1], 11 * MINUTE), []);
    assert_eq!(live_on(&mut driver, &[1], 3 * MINUTE).len(), 1);
}

#[test]
fn a_coordinator_that_did_not_listen_listens_first() {
    let mut driver = alone();
    driver.submit(brief(1));
    start(&mut driver, 1);
    live_on(&mut driver, &[1], 11 * MINUTE);
    // A disk was full: nothing was read, and nobody was asked the time.
    driver.now = driver.now + HOUR;
    driver.pass(Duration::ZERO);
    assert_eq!(driver.held(1).len(), 1);
    driver.succeed_after(1, &[attempt(1, 0, 1)], 10 * MINUTE);
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Succeeded)]);
    assert_eq!(overtimes(&driver, 1), 0);
}

#[test]
fn a_large_output_on_a_slow_line_is_waited_for() {
    let mut driver = alone();
    driver.submit(brief(1));
    start(&mut driver, 1);
    live_on(&mut driver, &[1], 9 * MINUTE);
    driver.handle(Event::Brings { agent: AgentId(1), attempt: attempt(1, 0, 1), size_bytes: 128 << 20 });
    assert_eq!(live_on(&mut driver, &[1], HOUR), []);
    assert_eq!(live_on(&mut driver, &[1], HOUR).len(), 1, "and not for ever");
}

#[test]
fn what_stands_behind_others_in_a_pipe_has_its_whole_time_when_they_are_done() {
    let mut driver = alone();
    driver.submit(brief(12));
    // Tasks of no time: several are given out at once, and begun at once.
    for _ in 0..6 {
        start(&mut driver, 1);
        let first = driver.held(1)[0];
        driver.succeed_after(1, &[first], Duration::from_micros(10));
    }
    start(&mut driver, 1);
    let piped = driver.held(1);
    assert!(piped.len() > 1, "{piped:?}");
    assert_eq!(live_on(&mut driver, &[1], 10 * MINUTE), []);
    driver.succeed_after(1, &[piped[0]], 10 * MINUTE);
    assert_eq!(live_on(&mut driver, &[1], 10 * MINUTE), []);
    assert_eq!(overtimes(&driver, 1), 0);
    assert_ne!(live_on(&mut driver, &[1], 5 * MINUTE), [], "and no longer");
}

#[test]
fn an_agent_that_never_begins_what_it_was_given_loses_it() {
    let mut driver = alone();
    driver.submit(brief(1));
    assert_eq!(live_on(&mut driver, &[1], 59 * MINUTE), []);
    let ended = live_on(&mut driver, &[1], 3 * MINUTE);
    assert_eq!((ended.len(), overtimes(&driver, 1)), (1, 1), "{ended:?}");
    // One whose owner is there does not begin, and does right.
    let mut driver = alone();
    driver.submit(brief(1));
    let owner = Some(PauseReason::Owner { until: None });
    for sequence in 2..7 {
        driver.say(
            1,
            ToCoordinator::Capacity(lull_shared::resources::Capacity { sequence, paused: owner.clone(), ..capacity(1, 1) }),
        );
        live_on(&mut driver, &[1], HOUR);
    }
    assert_eq!(overtimes(&driver, 1), 0);
}

#[test]
fn nobody_can_have_computed_for_longer_than_it_ran() {
    let mut driver = alone();
    driver.submit(brief(1));
    start(&mut driver, 1);
    live_on(&mut driver, &[1], MINUTE);
    let mut claim = success(attempt(1, 0, 1), 100 * HOUR);
    claim.usage.cpu_us = u64::MAX;
    driver.say(1, ToCoordinator::Finished(vec![claim]));
    let usage = driver.changes.iter().find_map(|change| match change {
        Change::AttemptEnded(ended) => Some(ended.usage),
        _ => None,
    });
    let usage = usage.expect("it ended");
    let most = 61 * 1_000_000;
    assert!(usage.wall_us <= most && usage.cpu_us <= most, "{usage:?}");
}
