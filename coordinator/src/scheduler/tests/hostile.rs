//! A peer's claim is input, never truth.

use lull_shared::{
    id::AgentId,
    limits,
    message::{GoodbyeReason, RefuseReason, ReleaseReason, ToCoordinator},
    state::{PauseReason, TaskCounts},
};

use crate::scheduler::{
    driver::{Driver, attempt, capacity, spec},
    effect::Order,
    event::{Event, StreamId},
};

#[test]
fn words_about_another_agents_attempt_change_nothing() {
    let mut driver = Driver::with_agents(2, 1);
    let job = driver.submit(spec(1));
    let theirs = attempt(1, 0, 1);
    let words = [
        ToCoordinator::Started { attempts: vec![theirs, attempt(9, 9, 9)] },
        ToCoordinator::Paused { attempt: theirs, reason: Some(PauseReason::Owner { until: None }) },
        ToCoordinator::Released { attempts: vec![theirs], reason: ReleaseReason::Stopping },
        ToCoordinator::Refused { attempt: theirs, reason: RefuseReason::Full },
        ToCoordinator::Heartbeat { frame_read: u64::MAX, holding: vec![theirs] },
        ToCoordinator::Capacity(capacity(1, 0)),
    ];
    for word in words {
        driver.say(2, word);
        assert_eq!(driver.changes, []);
    }
    // Two started, one paused, one released, one refused.
    let misdeeds = |agent: u64| driver.scheduler.agent(AgentId(agent)).map(|view| (view.claims_refused, view.breaches));
    assert_eq!((misdeeds(1), misdeeds(2)), (Some((0, 0)), Some((5, 0))));
    assert_eq!(driver.counts(job), TaskCounts { running: 1, ..Default::default() });
    assert_eq!(driver.held(1), [theirs]);
}

#[test]
fn lists_beyond_all_reason_end_the_stream() {
    let endless = vec![attempt(1, 0, 1); limits::ATTEMPTS_PER_AGENT_MAX + 1];
    for word in [
        ToCoordinator::Started { attempts: endless.clone() },
        ToCoordinator::Released { attempts: endless.clone(), reason: ReleaseReason::Stopping },
        ToCoordinator::Heartbeat { frame_read: 0, holding: endless.clone() },
    ] {
        let mut driver = Driver::with_agents(1, 1);
        driver.submit(spec(1));
        driver.say(1, word);
        assert!(matches!(driver.orders[..], [(AgentId(1), Order::Goodbye { reason: GoodbyeReason::Protocol(_) })]));
        let agent = driver.scheduler.agent(AgentId(1)).expect("an agent");
        assert_eq!((agent.connected, driver.held(1)), (None, vec![attempt(1, 0, 1)]), "its work may go on with the next");
        assert_eq!(driver.scheduler.agent(AgentId(1)).expect("an agent").breaches, 1);
    }
}

#[test]
fn a_breach_that_the_edge_saw_ends_the_newest_stream_and_is_counted_on_any() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    let breach = |stream| Event::Breach { agent: AgentId(1), stream, what: "garbage".into() };
    driver.handle(breach(None));
    assert_eq!((driver.held(1).len(), driver.orders.len()), (1, 0), "before its hello there is nothing to end");
    driver.handle(breach(Some(StreamId(1))));
    assert!(matches!(driver.orders[..], [(AgentId(1), Order::Goodbye { reason: GoodbyeReason::Protocol(_) })]));
    assert_eq!(driver.scheduler.agent(AgentId(1)).map(|agent| (agent.connected, agent.breaches)), Some((None, 2)));
    driver.handle(Event::Breach { agent: AgentId(77), stream: None, what: "nobody".into() });
}

#[test]
fn only_the_agent_that_holds_an_attempt_may_bring_its_output_and_no_larger_one() {
    let mut driver = Driver::with_agents(2, 1);
    driver.submit(spec(1));
    let held = attempt(1, 0, 1);
    let most = spec(1).limits.output_bytes;
    let may_bring = |agent, attempt| driver.scheduler.output_bytes_max(AgentId(agent), attempt);
    assert_eq!(may_bring(1, held), Some(most));
    for (agent, attempt) in [(2, held), (1, attempt(1, 0, 2)), (1, attempt(2, 0, 1)), (77, held)] {
        assert_eq!(may_bring(agent, attempt), None, "{attempt} of a{agent}");
    }
}

#[test]
fn nothing_is_heard_on_a_stream_that_is_not_the_newest() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    for stream in [0, 2, u64::MAX] {
        let message = ToCoordinator::Released { attempts: vec![attempt(1, 0, 1)], reason: ReleaseReason::Stopping };
        driver.handle(Event::Message { agent: AgentId(1), stream: StreamId(stream), message });
        driver.handle(Event::Disconnected { agent: AgentId(1), stream: StreamId(stream) });
    }
    assert_eq!(driver.held(1), [attempt(1, 0, 1)]);
}

#[test]
fn a_stranger_is_sent_away() {
    let mut driver = Driver::new();
    driver.connect(5, 1, &[]);
    assert!(matches!(driver.orders[..], [(AgentId(5), Order::Goodbye { reason: GoodbyeReason::Protocol(_) })]));
    driver.say(5, ToCoordinator::Farewell);
    assert_eq!(driver.changes, []);
}

#[test]
fn slots_beyond_all_reason_are_not_believed() {
    let mut driver = Driver::new();
    driver.enrol_and_connect(1, u16::MAX);
    let mut small = spec(100_000);
    small.limits.memory_bytes = 1;
    driver.submit(small);
    assert_eq!(driver.held(1).len(), usize::from(limits::SLOTS_PER_AGENT_MAX));
}

#[test]
fn an_agents_endless_words_are_cut() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    let reason = RefuseReason::Executor { reason: "ä".repeat(1_000_000) };
    driver.say(1, ToCoordinator::Refused { attempt: attempt(1, 0, 1), reason });
    assert!(driver.ended()[0].reason.as_ref().is_some_and(|reason| reason.len() <= 512));
}
