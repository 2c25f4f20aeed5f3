//! Both sides of each bound by which agents are heard, believed and asked.

use std::time::Duration;

use lull_shared::{
    digest::Digest,
    id::{AgentId, JobId},
    job::JobSpec,
    limits::{ATTEMPTS_PER_AGENT_MAX, LABELS_MAX, NAME_BYTES_MAX},
    message::{GoodbyeReason, KeptSnapshot, RecallReason, RefuseReason, ReleaseReason, ToCoordinator},
    resources::{Capacity, Labels},
    state::{AttemptEnd, Intake, PauseReason},
};

use crate::{
    effect::{Change, Order, Refusal, Reply},
    event::{Event, StreamId},
    fleet::agents::Held,
    limits::Limits,
    tests::support::driver::{Driver, NOON, attempt, capacity, failure, machine, spec},
    views::view::AgentView,
};

const SECOND: Duration = Duration::from_secs(1);
const MICRO: Duration = Duration::from_micros(1);

fn agent(driver: &Driver, agent: u64) -> AgentView {
    driver.scheduler.agent(AgentId(agent)).expect("an agent")
}

fn is_heard(driver: &Driver) -> bool {
    agent(driver, 1).connected.is_some()
}

/// What the scheduler has noted of an attempt that agent 1 has.
fn held(driver: &Driver, job: u64, index: u32) -> Held {
    driver.scheduler.fleet.get(AgentId(1)).expect("an agent").held[&attempt(job, index, 1)]
}

fn offer(sequence: u64, slots: u16) -> Capacity {
    Capacity { sequence, ..capacity(1, slots) }
}

#[test]
fn an_agent_is_silent_when_its_lease_is_over_and_not_a_moment_earlier() {
    let lease = Limits::default().lease;
    let mut driver = Driver::with_agents(1, 1);
    driver.pass(lease - MICRO);
    assert!(is_heard(&driver));
    driver.heartbeat(1, &[]);
    driver.pass(lease - MICRO);
    assert!(is_heard(&driver), "the last word counts, and no earlier one");
    driver.pass(MICRO);
    assert!(!is_heard(&driver));
    assert_eq!(agent(&driver, 1).silent_since, Some(driver.now - lease));
    driver.heartbeat(1, &[]);
    assert!(is_heard(&driver) && agent(&driver, 1).silent_since.is_none());
    driver.pass(lease - MICRO);
    assert!(is_heard(&driver), "a word gives it a whole lease again");
    driver.pass(MICRO);
    assert!(!is_heard(&driver));
}

#[test]
fn a_closed_stream_is_missed_from_the_agents_last_word_on() {
    let lease = Limits::default().lease;
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    let said = driver.now;
    driver.pass(SECOND);
    driver.disconnect(1);
    driver.pass(lease - SECOND - MICRO);
    assert_eq!(agent(&driver, 1).silent_since, None);
    driver.pass(MICRO);
    assert_eq!(agent(&driver, 1).silent_since, Some(said));
}

#[test]
fn a_look_that_comes_late_by_more_than_half_a_lease_says_nothing_of_the_agent() {
    let lease = Limits::default().lease;
    for (late, judged) in [(Duration::ZERO, true), (lease / 2, true), (lease / 2 + MICRO, false)] {
        let mut driver = Driver::with_agents(1, 1);
        driver.now = driver.now + lease + late;
        driver.scheduler.handle_timeout(driver.now);
        driver.pass(Duration::ZERO);
        assert_eq!(is_heard(&driver), !judged, "late by {late:?}");
        driver.pass(lease);
        assert!(!is_heard(&driver), "it has one more lease");
    }
}

#[test]
fn silence_is_excused_up_to_the_moment_and_not_beyond() {
    let lease = Limits::default().lease;
    let mut driver = Driver::with_agents(1, 1);
    driver.scheduler.excuse_silence_until(NOON + 2 * lease);
    driver.scheduler.excuse_silence_until(NOON + lease);
    driver.pass(2 * lease - MICRO);
    assert!(is_heard(&driver), "the later moment counts");
    driver.pass(MICRO);
    assert!(!is_heard(&driver));
}

#[test]
fn time_never_goes_back() {
    let mut driver = Driver::with_agents(1, 1);
    driver.pass(SECOND);
    driver.heartbeat(1, &[]);
    driver.now = NOON;
    driver.scheduler.handle_timeout(NOON);
    driver.submit(spec(1));
    let begun = driver.changes.iter().find_map(|change| match change {
        Change::AttemptStarted { at, .. } => Some(*at),
        _ => None,
    });
    assert_eq!(begun, Some(NOON + SECOND));
}

#[test]
fn lists_as_long_as_they_may_be_are_read() {
    let most: Vec<_> = (0..ATTEMPTS_PER_AGENT_MAX as u32).map(|index| attempt(9, index, 1)).collect();
    let results = most.iter().map(|attempt| failure(*attempt)).collect();
    for word in [
        ToCoordinator::Started { attempts: most.clone() },
        ToCoordinator::Released { attempts: most.clone(), reason: ReleaseReason::Stopping },
        ToCoordinator::Heartbeat { frame_read: 0, holding: most.clone() },
        ToCoordinator::Finished(results),
    ] {
        let mut driver = Driver::with_agents(1, 1);
        driver.say(1, word);
        assert_eq!((agent(&driver, 1).breaches, is_heard(&driver)), (0, true));
    }
    let mut driver = Driver::with_agents(1, 1);
    driver.connect(1, 1, &most);
    let sent_away = driver.orders.iter().any(|(_, order)| matches!(order, Order::Goodbye { reason: GoodbyeReason::Protocol(_) }));
    assert!(is_heard(&driver) && !sent_away);
    let one_more = [&most[..], &[attempt(9, 9_999, 1)]].concat();
    driver.connect(1, 1, &one_more);
    assert!(matches!(driver.orders[..], [(AgentId(1), Order::Goodbye { reason: GoodbyeReason::Protocol(_) })]));
    let results = one_more.iter().map(|attempt| failure(*attempt)).collect();
    let mut driver = Driver::with_agents(1, 1);
    driver.say(1, ToCoordinator::Finished(results));
    assert_eq!((agent(&driver, 1).breaches, is_heard(&driver)), (1, false));
}

#[test]
fn labels_as_long_as_they_may_be_are_kept_and_longer_ones_are_not() {
    let long = |bytes: usize| "x".repeat(bytes);
    let labels: Labels = [
        ("fits".into(), long(NAME_BYTES_MAX)),
        (long(NAME_BYTES_MAX), "fits".into()),
        ("too-long".into(), long(NAME_BYTES_MAX + 1)),
        (long(NAME_BYTES_MAX + 1), "too long".into()),
    ]
    .into();
    let mut driver = Driver::new();
    driver.enrol(1);
    let own = |driver: &mut Driver, stream, labels: Labels| {
        let hello = lull_shared::message::Hello {
            agent_version: "1".into(),
            machine: machine(),
            labels,
            capacity: capacity(1, 1),
            holding: Vec::new(),
            snapshots: Vec::new(),
            instance: Default::default(),
            open_cage: None,
        };
        driver.handle(Event::Connected {
            agent: AgentId(1),
            stream: StreamId(stream),
            hello: Box::new(hello),
            from: "desk".into(),
        });
        driver.changes.iter().find_map(|change| match change {
            Change::AgentConnected { labels, .. } => Some(labels.keys().map(String::len).collect::<Vec<_>>()),
            _ => None,
        })
    };
    assert_eq!(own(&mut driver, 1, labels), Some(vec![4, NAME_BYTES_MAX]));
    let many = |count: usize| (0..count).map(|number| (format!("l{number:03}"), "here".to_owned())).collect::<Labels>();
    assert_eq!(own(&mut driver, 2, many(LABELS_MAX)).map(|kept| kept.len()), Some(LABELS_MAX));
    assert_eq!(own(&mut driver, 3, many(LABELS_MAX + 1)).map(|kept| kept.len()), Some(LABELS_MAX));
    assert_eq!(own(&mut driver, 3, many(1)), None, "a stream that is not newer is none");
    assert_eq!(own(&mut driver, 2, many(1)), None);
}

#[test]
fn a_refusal_ends_when_what_was_lacking_is_there_and_not_before() {
    const NEEDED: u64 = 9 << 30;
    let memory = || RefuseReason::Memory { needed_bytes: NEEDED, free_bytes: 0 };
    let paused = |sequence| Capacity { paused: Some(PauseReason::Touched), ..offer(sequence, 1) };
    let free = |memory_free_bytes| Capacity { memory_free_bytes, ..offer(3, 1) };
    let disk = || RefuseReason::Disk { reason: "full".into() };
    let cases = [
        ("less memory than needed", memory(), vec![free(NEEDED - 1)], false),
        ("as much memory as needed", memory(), vec![free(NEEDED)], true),
        ("no more room", RefuseReason::Full, vec![offer(2, 1)], false),
        ("more room", RefuseReason::Full, vec![offer(2, 2)], true),
        ("still paused", RefuseReason::Paused, vec![paused(2)], false),
        ("resumed", RefuseReason::Paused, vec![paused(2), offer(3, 1)], true),
        ("never paused", RefuseReason::Paused, vec![offer(2, 1)], false),
        (
            "another disk is no matter of capacity",
            disk(),
            vec![paused(2), Capacity { memory_free_bytes: NEEDED, ..offer(3, 9) }],
            false,
        ),
    ];
    for (case, reason, offers, asked) in cases {
        let mut driver = Driver::with_agents(1, 1);
        driver.submit(spec(1));
        driver.say(1, ToCoordinator::Refused { attempt: attempt(1, 0, 1), reason });
        for offer in offers {
            driver.say(1, ToCoordinator::Capacity(offer));
        }
        assert_eq!(!driver.held(1).is_empty(), asked, "{case}");
        driver.pass(2 * SECOND);
        driver.heartbeat(1, &driver.held(1));
        let there = driver.scheduler.fleet.get(AgentId(1)).expect("an agent").takes_work();
        assert_eq!(!driver.held(1).is_empty(), there, "{case}: in the end it is asked again");
    }
}

#[test]
fn gossip_is_believed_if_it_is_newer_and_of_the_same_run() {
    let slots = |by: fn(Capacity) -> Event, said: Capacity| {
        let mut driver = Driver::with_agents(1, 1);
        driver.handle(by(said));
        agent(&driver, 1).capacity.expect("it said one").slots
    };
    let gossip: fn(Capacity) -> Event = |capacity| Event::Capacity { capacity };
    let stream: fn(Capacity) -> Event =
        |capacity| Event::Message { agent: AgentId(1), stream: StreamId(1), message: ToCoordinator::Capacity(capacity) };
    assert_eq!([0, 1, 2].map(|sequence| slots(gossip, offer(sequence, 3))), [1, 1, 3]);
    assert_eq!([0, 1, 2].map(|sequence| slots(stream, offer(sequence, 3))), [3, 3, 3], "what comes on the stream is in order");
    assert_eq!(slots(gossip, Capacity { run: 7, ..offer(9, 3) }), 1);
    assert_eq!(slots(stream, Capacity { run: 7, ..offer(9, 3) }), 3);
    assert_eq!(slots(stream, Capacity { agent: AgentId(2), ..offer(9, 3) }), 1, "of others it says nothing");
    let mut driver = Driver::with_agents(1, 1);
    driver.disconnect(1);
    driver.handle(gossip(offer(2, 3)));
    assert_eq!(agent(&driver, 1).capacity.map(|capacity| capacity.slots), Some(1), "of one that is away nothing is taken");
}

#[test]
fn a_report_adds_the_memory_of_what_runs_to_what_is_free_unless_it_may_have_crossed_a_start() {
    let mut large = spec(3);
    large.limits.memory_bytes = 4 << 30;
    let ran = |by_gossip: bool, free_bytes: u64, busy: u16| {
        let mut driver = Driver::with_agents(1, 3);
        driver.submit(large.clone());
        driver.started(1, &driver.held(1));
        assert_eq!(driver.held(1).len(), 2, "8 GiB");
        let report = Capacity { memory_free_bytes: free_bytes, slots_busy: busy, ..offer(2, 3) };
        if by_gossip {
            driver.handle(Event::Capacity { capacity: report });
        } else {
            driver.say(1, ToCoordinator::Capacity(report));
        }
        driver.held(1).len()
    };
    assert_eq!([(4 << 30) - 1, 4 << 30].map(|free| ran(false, free, 2)), [2, 3], "two run in what is not free");
    assert_eq!([(8 << 30) - 1, 8 << 30].map(|free| ran(false, free, 1)), [2, 3], "of both only one is busy");
    assert_eq!(ran(true, 8 << 30, 2), 2);
    let mut idle = Driver::with_agents(1, 3);
    idle.handle(Event::Capacity { capacity: Capacity { memory_free_bytes: 12 << 30, ..offer(2, 3) } });
    idle.submit(large.clone());
    assert_eq!(idle.held(1).len(), 3, "of one that has nothing gossip is believed");
    idle.say(1, ToCoordinator::Capacity(Capacity { memory_free_bytes: 0, slots_busy: 0, ..offer(3, 3) }));
    idle.succeed(1, &idle.held(1)[..1]);
    idle.submit(large);
    assert_eq!(idle.held(1).len(), 3, "what it once had stays believed on this stream");
}

#[test]
fn an_attempt_that_is_named_after_its_recall_was_read_is_kept_and_may_be_asked_for_again() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    let drain = |driver: &mut Driver| {
        driver.set_intake(1, Intake::Open);
        driver.set_intake(1, Intake::Draining)
    };
    assert_eq!(drain(&mut driver), Reply::Done { affected: 1 });
    let asked = driver.orders_sent(1);
    driver.say(1, ToCoordinator::Heartbeat { frame_read: asked - 1, holding: vec![attempt(1, 0, 1)] });
    assert!(held(&driver, 1, 0).recall.is_some());
    assert_eq!(drain(&mut driver), Reply::Done { affected: 0 }, "it is on its way");
    driver.say(1, ToCoordinator::Heartbeat { frame_read: asked, holding: vec![attempt(1, 0, 1)] });
    assert!(held(&driver, 1, 0).recall.is_none(), "it has read that and has it still");
    assert_eq!(drain(&mut driver), Reply::Done { affected: 1 });
}

#[test]
fn what_an_agent_should_have_read_of_and_does_not_name_is_over() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    let given = driver.orders_sent(1);
    driver.say(1, ToCoordinator::Heartbeat { frame_read: given - 1, holding: Vec::new() });
    assert_eq!(driver.ends(), []);
    driver.say(1, ToCoordinator::Heartbeat { frame_read: given, holding: Vec::new() });
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Recalled)]);
    let view = driver.scheduler.explain(attempt(1, 0, 1).task, driver.now).expect("open");
    assert!(view.agents[0].obstacles[0].to_string().contains("its agent never had it"), "{:?}", view.agents);
}

#[test]
fn an_attempt_that_goes_on_after_a_takeover_is_lost_with_its_machine_though_it_was_never_said_to_run() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    driver.crash();
    driver.connect(1, 1, &[]);
    driver.heartbeat(1, &[]);
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Lost)]);
}

#[test]
fn who_paused_for_a_moment_gives_back_what_waits_once() {
    let mut driver = Driver::with_agents(1, 2);
    driver.submit(spec(2));
    driver.started(1, &[attempt(1, 0, 1)]);
    for (sequence, asked) in [(2, vec![attempt(1, 1, 1)]), (3, vec![])] {
        driver.say(1, ToCoordinator::Capacity(Capacity { paused: Some(PauseReason::Touched), ..offer(sequence, 2) }));
        assert_eq!(driver.recalled(1, RecallReason::Rebalance), asked, "offer {sequence}");
        // It has read that, and has begun it meanwhile.
        driver.heartbeat(1, &[attempt(1, 0, 1), attempt(1, 1, 1)]);
    }
}

#[test]
fn the_clock_of_the_latest_word_is_the_agents_last_sign_of_life() {
    let mut driver = Driver::with_agents(1, 1);
    driver.pass(SECOND);
    driver.heartbeat(1, &[]);
    assert_eq!(agent(&driver, 1).last_heard, Some(NOON + SECOND));
    driver.pass(SECOND);
    driver.say(1, ToCoordinator::Sleeps);
    assert_eq!(agent(&driver, 1).last_heard, Some(NOON + 2 * SECOND));
}

#[test]
fn a_job_may_finish_by_any_moment_that_is_to_come() {
    let mut driver = Driver::new();
    let by = |at| JobSpec { finish_by: Some(at), ..spec(1) };
    assert_eq!(driver.try_submit("ada", by(NOON)), Reply::Refused(Refusal::FinishByPassed(NOON)));
    assert!(matches!(driver.try_submit("ada", by(NOON + MICRO)), Reply::Submitted { .. }));
    driver.pass(MICRO);
    assert_eq!(driver.ledger.state(JobId(1)), lull_shared::state::JobState::Expired);
    assert_eq!(driver.retry_by(JobId(1), Some(driver.now)), Reply::Refused(Refusal::FinishByPassed(driver.now)));
    assert_eq!(driver.retry_by(JobId(1), Some(driver.now + MICRO)), Reply::Done { affected: 1 });
}

#[test]
fn whoever_is_let_in_again_after_being_thrown_out_may_work() {
    let mut driver = Driver::with_agents(1, 1);
    let restore = |driver: &mut Driver, agent| {
        let request = crate::event::RequestId(77);
        driver.handle(Event::Restore { request, agent: AgentId(agent), by: "root".into() });
        driver.replies[0].clone()
    };
    assert_eq!(restore(&mut driver, 1), Reply::Done { affected: 0 }, "it was never thrown out");
    assert_eq!(driver.changes, []);
    assert_eq!(restore(&mut driver, 9), Reply::Refused(Refusal::NoAgent(AgentId(9))));
    driver.set_intake(1, Intake::Revoked);
    assert_eq!(restore(&mut driver, 1), Reply::Done { affected: 1 });
    let opened = Change::AgentIntake {
        agent: AgentId(1),
        intake: Intake::Open,
        before: Intake::Revoked,
        by: "root".into(),
        at: driver.now,
    };
    assert_eq!(driver.changes, [opened]);
    driver.submit(spec(1));
    driver.connect(1, 1, &[]);
    assert_eq!(driver.held(1), [attempt(1, 0, 1)]);
}

#[test]
fn whoever_is_quarantined_is_told_that_nothing_comes_whatever_its_intake_is_set_to() {
    use crate::event::QuarantineKind;
    let mut driver = Driver::with_agents(1, 1);
    driver.scheduler.distrust(AgentId(1), QuarantineKind::Output, "it lied".into());
    driver.pass(Duration::ZERO);
    driver.set_intake(1, Intake::Cordoned);
    driver.set_intake(1, Intake::Open);
    assert_eq!(driver.orders, [(AgentId(1), Order::Intake(Intake::Cordoned))]);
    driver.connect(1, 1, &[]);
    assert!(driver.orders.contains(&(AgentId(1), Order::Welcome { intake: Intake::Cordoned })));
    driver.submit(spec(1));
    assert_eq!(driver.held(1), []);
    assert_eq!(driver.trust(1), Reply::Done { affected: 1 });
    assert!(driver.orders.contains(&(AgentId(1), Order::Intake(Intake::Open))));
    assert_eq!((driver.held(1).len(), driver.trust(1)), (1, Reply::Done { affected: 0 }));
    assert_eq!(driver.trust(9), Reply::Refused(Refusal::NoAgent(AgentId(9))));
}

#[test]
fn a_snapshot_that_an_agent_keeps_of_a_task_nobody_knows_makes_its_number_foreign() {
    let mut driver = Driver::with_agents(1, 1);
    let kept = KeptSnapshot { task: attempt(1, 0, 1).task, digest: Digest::of(b"old") };
    driver.keeps.insert(AgentId(1), vec![kept]);
    driver.connect(1, 1, &[]);
    assert_eq!(driver.submit(spec(1)), JobId(2), "the first number was given before");
}
