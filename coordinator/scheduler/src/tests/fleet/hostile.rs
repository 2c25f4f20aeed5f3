//! A peer's claim is input, never truth.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, AttemptId},
    limits,
    message::{GoodbyeReason, Hello, RefuseReason, ReleaseReason, ToCoordinator},
    resources::{Card, Labels, Mac, Subnet},
    state::{AttemptEnd, JobState, PauseReason, TaskCounts},
};

use crate::{
    effect::{Change, Order},
    event::{Event, StreamId},
    tests::support::driver::{Driver, attempt, capacity, machine, spec},
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
    let breach = |stream| Event::Breach { agent: AgentId(1), stream, what: "garbage".into(), told: Vec::new() };
    driver.handle(breach(None));
    assert_eq!((driver.held(1).len(), driver.orders.len()), (1, 0), "before its hello there is nothing to end");
    driver.handle(breach(Some(StreamId(1))));
    assert!(matches!(driver.orders[..], [(AgentId(1), Order::Goodbye { reason: GoodbyeReason::Protocol(_) })]));
    assert_eq!(driver.scheduler.agent(AgentId(1)).map(|agent| (agent.connected, agent.breaches)), Some((None, 2)));
    driver.handle(Event::Breach { agent: AgentId(77), stream: None, what: "nobody".into(), told: Vec::new() });
}

/// The agent tells the ends of these attempts in a way that breaks the protocol, on its newest stream.
fn tell_badly(driver: &mut Driver, agent: u64, stream: u64, told: &[AttemptId]) {
    let what = "an inline output of 70000 bytes".into();
    driver.handle(Event::Breach { agent: AgentId(agent), stream: Some(StreamId(stream)), what, told: told.to_vec() });
}

#[test]
fn an_attempt_whose_end_is_told_against_the_protocol_is_over_and_starts_elsewhere_at_no_retrys_cost() {
    let mut driver = Driver::with_agents(1, 2);
    let mut once = spec(2);
    once.retry.retries = 0;
    let job = driver.submit(once);
    let (bad, good) = (attempt(1, 0, 1), attempt(1, 1, 1));
    driver.started(1, &[bad, good]);
    driver.enrol_and_connect(2, 1);
    tell_badly(&mut driver, 1, 1, &[bad, attempt(7, 7, 7)]);
    let ended = driver.ended();
    assert_eq!((ended.len(), ended[0].attempt, ended[0].end), (1, bad, AttemptEnd::Evicted));
    let reason = ended[0].reason.as_deref();
    assert_eq!(reason, Some("its agent had trouble: it broke the protocol: an inline output of 70000 bytes"));
    let breached =
        Change::AgentBreached { agent: AgentId(1), what: "an inline output of 70000 bytes".into(), attempts: 1, at: driver.now };
    assert!(driver.changes.contains(&breached), "{:?}", driver.changes);
    let told: Vec<_> = driver.orders.iter().filter(|(agent, _)| agent.0 == 1).map(|(_, order)| order).collect();
    let acknowledged = Order::Acknowledge { attempts: vec![bad, attempt(7, 7, 7)] };
    assert!(
        matches!(told[..], [first, Order::Goodbye { reason: GoodbyeReason::Protocol(_) }] if *first == acknowledged),
        "an honest agent need not tell it again: {told:?}"
    );
    assert_eq!(driver.assigned(2), [attempt(1, 0, 2)]);
    assert_eq!(driver.held(1), [good], "what it did not speak of may go on with the next stream");
    driver.connect(1, 2, &[good]);
    driver.succeed(1, &[good]);
    driver.succeed(2, &[attempt(1, 0, 2)]);
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
}

#[test]
fn whoever_told_an_end_against_the_protocol_is_asked_again_after_pauses_that_grow_whatever_it_opens() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    let (mut stream, mut pauses) = (1, Vec::new());
    for number in 1..=5 {
        tell_badly(&mut driver, 1, stream, &[attempt(1, 0, number)]);
        let began = driver.now;
        driver.connect(1, 1, &[]);
        stream += 1;
        assert_eq!(driver.held(1), [], "a new stream forgives nothing");
        while driver.held(1).is_empty() {
            let due = driver.scheduler.poll_timeout().expect("it is asked again some time");
            driver.pass(due.since(driver.now).max(Duration::from_millis(1)));
            driver.say(1, ToCoordinator::Heartbeat { frame_read: 0, holding: Vec::new() });
        }
        pauses.push(driver.now.since(began).as_secs());
    }
    assert!(pauses.is_sorted() && pauses[0] < 2 && pauses[4] >= 16, "{pauses:?}");
    driver.succeed(1, &[attempt(1, 0, 6)]);
    let job = driver.submit(spec(1));
    assert_eq!(driver.counts(job).running, 1, "other jobs are not held back");
}

#[test]
fn an_agent_that_only_ever_breaks_the_protocol_loses_all_that_it_has() {
    let mut driver = Driver::with_agents(1, 2);
    driver.submit(spec(2));
    let both = [attempt(1, 0, 1), attempt(1, 1, 1)];
    driver.started(1, &both);
    let stream_of = |breaches: u64| breaches + 1;
    for breaches in 0..2 {
        tell_badly(&mut driver, 1, stream_of(breaches), &[]);
        assert_eq!(driver.held(1), both, "most breaches say nothing about the work");
        driver.connect(1, 2, &both);
    }
    tell_badly(&mut driver, 1, stream_of(2), &[]);
    assert_eq!(driver.ends(), both.map(|attempt| (attempt, AttemptEnd::Evicted)));
    assert_eq!(driver.held(1), []);
}

#[test]
fn breaches_with_results_in_between_or_long_ago_are_not_in_a_row() {
    let mut driver = Driver::with_agents(1, 2);
    driver.submit(spec(4));
    let (slow, quick) = (attempt(1, 0, 1), attempt(1, 1, 1));
    driver.started(1, &[slow, quick]);
    tell_badly(&mut driver, 1, 1, &[]);
    driver.connect(1, 2, &[slow, quick]);
    tell_badly(&mut driver, 1, 2, &[]);
    driver.connect(1, 2, &[slow, quick]);
    driver.succeed(1, &[quick]);
    tell_badly(&mut driver, 1, 3, &[]);
    assert!(driver.held(1).contains(&slow));
    driver.connect(1, 2, &[slow]);
    driver.now = driver.now + Duration::from_secs(2 * 60 * 60);
    driver.heartbeat(1, &[slow]);
    for stream in 4..=5 {
        tell_badly(&mut driver, 1, stream, &[]);
        assert!(driver.held(1).contains(&slow), "stream {stream}");
        driver.connect(1, 2, &[slow]);
    }
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

#[test]
fn what_an_agent_says_of_itself_is_cut_and_replaced_by_its_next_greeting() {
    let mut driver = Driver::new();
    driver.enrol(1);
    let long = "x".repeat(1_000);
    let mut labels: Labels = (0..1_000).map(|number| (format!("label{number:04}"), "here".to_owned())).collect();
    labels.insert("a".into(), long.clone());
    let (agent_version, machine) = (long, machine());
    let (holding, snapshots, instance, open_cage) = Default::default();
    let hello = Hello { agent_version, machine, labels, capacity: capacity(1, 1), holding, snapshots, instance, open_cage };
    driver.handle(Event::Connected { agent: AgentId(1), stream: StreamId(0), hello: Box::new(hello), from: "desk".into() });
    let said = |driver: &Driver| {
        let agent = driver.scheduler.fleet.get(AgentId(1)).expect("an agent");
        let facts = agent.facts.as_ref().expect("it said hello");
        let own = facts.labels.keys().filter(|label| label.starts_with("label")).count();
        (own, facts.labels.contains_key("a"), facts.version.len())
    };
    assert_eq!(said(&driver), (limits::LABELS_MAX, false, limits::NAME_BYTES_MAX));
    driver.connect(1, 1, &[]);
    assert_eq!(said(&driver), (0, false, 3));
    let card = |number| Card { mac: Mac([2, 0, 0, 0, 0, number]), subnet: Subnet::of([10, 0, 0, 7].into(), 24) };
    let cards = |driver: &Driver| driver.scheduler.fleet.get(AgentId(1)).expect("an agent").sleeper.cards.clone();
    driver.say(1, ToCoordinator::Cards((0..200).map(card).collect()));
    assert_eq!(cards(&driver).len(), limits::CARDS_MAX);
    driver.say(1, ToCoordinator::Cards(vec![card(201)]));
    assert_eq!(cards(&driver), [card(201)]);
}
