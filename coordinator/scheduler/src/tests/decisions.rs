//! Decisions with both of their sides: what is done on one side of a condition, and left on the other.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    id::{AgentId, AttemptId, JobId},
    job::{DependencyCondition, JobSpec, RetryPolicy},
    limits::{CARDS_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOTS_PER_AGENT_MAX},
    message::{Finished, GoodbyeReason, RecallReason, RefuseReason, ReleaseReason, Remains, SnapshotRef, ToCoordinator},
    policy::Policy,
    resources::{Card, Mac, Subnet},
    share::Share,
    state::{AttemptEnd, Failure, Intake, JobState, PauseReason, TaskCounts, Usage, WaitReason},
};

use crate::{
    Scheduler,
    effect::{Change, Order, Reply, TaskAfter},
    event::{Event, Movable, QuarantineKind, Snapshot, StreamId},
    limits::Limits,
    tests::support::driver::{Driver, NOON, after, attempt, failure, owner_called, spec, success},
    views::view::AgentView,
};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
const MICRO: Duration = Duration::from_micros(1);

/// A job whose failed tasks are tried again at once.
fn eager(count: u32, retries: u32) -> JobSpec {
    JobSpec { retry: RetryPolicy { retries, backoff_ms: 0, backoff_max_ms: 0 }, ..spec(count) }
}

fn verified(count: u32) -> JobSpec {
    JobSpec { verify: Share::of_hundredths(Share::WHOLE), ..spec(count) }
}

fn agent(driver: &Driver, agent: u64) -> AgentView {
    driver.scheduler.agent(AgentId(agent)).expect("an agent")
}

fn release(driver: &mut Driver, agent: u64, attempts: &[AttemptId], reason: ReleaseReason) {
    driver.say(agent, ToCoordinator::Released { attempts: attempts.to_vec(), reason });
}

fn evicted() -> ReleaseReason {
    ReleaseReason::Evicted(PauseReason::Owner { until: None })
}

// --- What starts where ---

#[test]
fn what_failed_with_the_only_agent_goes_back_there_though_a_check_before_it_must_not() {
    let mut driver = Driver::patient(1);
    driver.submit(verified(1));
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.held(1), [], "its output waits for another agent's");
    driver.submit(eager(1, 1));
    driver.fail(1, attempt(2, 0, 1));
    assert_eq!(driver.held(1), [attempt(2, 0, 2)]);
}

#[test]
fn what_failed_goes_first_where_no_other_agent_takes_work_and_last_where_one_does() {
    for (others, next) in [(0, attempt(1, 0, 2)), (1, attempt(1, 1, 2))] {
        let mut driver = Driver::patient(1);
        driver.submit(eager(3, 3));
        for other in 0..others {
            driver.enrol_and_connect(2 + other, 1);
            driver.set_intake(2 + other, Intake::Open);
            // It has something else to do.
            let held = driver.held(2 + other);
            release(&mut driver, 2 + other, &held, evicted());
        }
        driver.fail(1, attempt(1, 0, 1));
        assert_eq!(driver.held(1), [next], "{others} others");
    }
}

#[test]
fn what_was_used_long_ago_counts_for_little() {
    let mut driver = Driver::patient(0);
    let usage = vec![(Some(owner_called("ada")), 100_000.0)];
    let snapshot = Snapshot { usage, ..Snapshot::default() };
    driver.scheduler = Scheduler::restore(snapshot, Limits::default(), 7, driver.now);
    driver.now = driver.now + Duration::from_secs(10 * 24 * 3_600);
    driver.enrol_and_connect(1, 1);
    driver.submit_as("bob", spec(1));
    driver.pass(1_000 * MILLI);
    driver.succeed_after(1, &[attempt(1, 0, 1)], SECOND);
    // A hundred seconds are left of what ada had, and bob had one: he goes first.
    driver.submit_as("cleo", spec(1));
    driver.submit_as("ada", spec(1));
    driver.submit_as("bob", spec(1));
    driver.succeed_after(1, &[attempt(2, 0, 1)], MILLI);
    assert_eq!(driver.held(1), [attempt(4, 0, 1)]);
    driver.heartbeat(1, &[attempt(4, 0, 1)]);
    for _ in 0..200 {
        driver.pass(SECOND);
        driver.heartbeat(1, &[attempt(4, 0, 1)]);
    }
    driver.submit_as("bob", spec(1));
    driver.succeed_after(1, &[attempt(4, 0, 1)], 200 * SECOND);
    assert_eq!(driver.held(1), [attempt(3, 0, 1)], "now bob had more than is left of hers");
}

#[test]
fn what_waits_is_taken_back_for_a_free_slot_if_that_saves_a_recalls_round_trip() {
    let gain_min = Limits::default().rebalance_gain_min;
    for (takes, asked) in [(gain_min, 1), (gain_min - MICRO, 0)] {
        let mut driver = Driver::with_agents(1, 1);
        driver.submit(spec(6));
        for index in 0..4 {
            driver.started(1, &[attempt(1, index, 1)]);
            driver.pass(takes);
            driver.succeed_after(1, &[attempt(1, index, 1)], takes);
        }
        assert_eq!(driver.held(1).len(), 2);
        driver.enrol_and_connect(2, 1);
        assert_eq!(driver.recalled(1, RecallReason::Rebalance).len(), asked, "each takes {takes:?}");
    }
}

#[test]
fn second_copies_are_begun_some_at_a_time() {
    let mut driver = Driver::with(Limits {
        second_copies_per_look_max: 1,
        lease: 100_000 * SECOND,
        overtime_margin: 100_000 * SECOND,
        begin_max: 100_000 * SECOND,
        ..Limits::default()
    });
    driver.enrol_and_connect(1, 2);
    driver.submit(spec(5));
    for index in 0..3 {
        driver.started(1, &[attempt(1, index, 1)]);
        driver.pass(10 * SECOND);
        driver.succeed_after(1, &[attempt(1, index, 1)], 10 * SECOND);
    }
    driver.started(1, &driver.held(1));
    driver.enrol_and_connect(2, 4);
    driver.pass(600 * SECOND);
    let begun: Vec<_> =
        driver.sent.iter().filter(|(agent, _, _, order)| agent.0 == 2 && matches!(order, Order::Assign { .. })).collect();
    assert_eq!((begun.len(), driver.held(2).len()), (2, 2), "one with each look");
}

#[test]
fn words_of_one_kind_beyond_what_an_order_takes_go_in_several() {
    let mut driver = Driver::with_agents(1, 1);
    let digest = |number: usize| BlobRef::of(&number.to_le_bytes()).digest;
    let card = |number: usize| Card { mac: Mac([2, 0, 0, 0, 0, number as u8]), subnet: Subnet::of([10, 0, 0, 7].into(), 24) };
    let outgoing = &mut driver.scheduler.fleet.known(AgentId(1)).outgoing;
    outgoing.discard.extend((0..=SNAPSHOTS_PER_AGENT_MAX).map(digest));
    outgoing.safe.extend((0..2 * SNAPSHOTS_PER_AGENT_MAX).map(digest));
    outgoing.wake.extend((0..=CARDS_MAX).map(card));
    driver.handle(Event::PolicyChanged);
    let sizes: Vec<_> = driver
        .orders
        .iter()
        .map(|(_, order)| match order {
            Order::Discard { snapshots } => ("discard", snapshots.len()),
            Order::Safe { snapshots } => ("safe", snapshots.len()),
            Order::Wake { cards } => ("wake", cards.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    let most = SNAPSHOTS_PER_AGENT_MAX;
    assert_eq!(sizes, [("discard", most), ("discard", 1), ("wake", CARDS_MAX), ("wake", 1), ("safe", most), ("safe", most)]);
}

// --- Results and ends ---

#[test]
fn an_output_as_large_as_it_may_be_counts_and_a_log_as_long_as_it_may_be_is_whole() {
    let mut driver = Driver::with_agents(1, 2);
    let mut tight = eager(2, 0);
    (tight.limits.output_bytes, tight.limits.log_bytes) = (2, 4);
    driver.submit(tight);
    let with_log = |attempt, log: &'static [u8]| Finished { log: bytes::Bytes::from_static(log), ..success(attempt, SECOND) };
    driver.say(1, ToCoordinator::Finished(vec![with_log(attempt(1, 0, 1), b"1234"), with_log(attempt(1, 1, 1), b"12345")]));
    let told: Vec<_> = driver.ended().iter().map(|ended| (ended.end, ended.log.len(), ended.log_dropped_bytes)).collect();
    assert_eq!(told, [(AttemptEnd::Succeeded, 4, 0), (AttemptEnd::Succeeded, 4, 1)]);
}

#[test]
fn as_many_retries_as_the_job_says_are_made() {
    for retries in 0..3 {
        let mut driver = Driver::patient(1);
        let job = driver.submit(eager(1, retries));
        for number in 1..=retries {
            driver.fail(1, attempt(1, 0, number));
            let again = TaskAfter::Again { not_before: driver.now, failures: number };
            assert_eq!(driver.ended()[0].after, again, "{retries} retries");
        }
        driver.fail(1, attempt(1, 0, retries + 1));
        assert_eq!((driver.ended()[0].after, driver.ledger.state(job)), (TaskAfter::Failed, JobState::Failed));
    }
}

#[test]
fn what_only_a_coordinator_can_tell_is_not_believed_of_an_agent() {
    let cannot_tell = [
        Failure::NotDeterministic { runs: 3 },
        Failure::GivenUp { times: 16, last: "trouble".into() },
        Failure::MachinesLost { machines: 5 },
    ];
    for told in cannot_tell {
        let mut driver = Driver::patient(1);
        driver.submit(eager(1, 1));
        let outcome = lull_shared::message::Outcome::Failed(told.clone());
        driver.say(1, ToCoordinator::Finished(vec![Finished { outcome, ..failure(attempt(1, 0, 1)) }]));
        let ended = &driver.ended()[0];
        assert!(matches!(ended.failure, Some(Failure::BadModule { .. })), "{told:?} as {:?}", ended.failure);
        assert!(matches!(ended.after, TaskAfter::Again { failures: 1, .. }), "{told:?}: {:?}", ended.after);
    }
}

#[test]
fn a_task_counts_as_moved_when_what_had_begun_went_elsewhere() {
    let moved = |started: bool, reason: ReleaseReason| {
        let mut driver = Driver::patient(1);
        driver.submit(spec(1));
        if started {
            driver.started(1, &[attempt(1, 0, 1)]);
        }
        release(&mut driver, 1, &[attempt(1, 0, 1)], reason);
        driver.scheduler.job(JobId(1), driver.now).expect("active").moved
    };
    assert_eq!([false, true].map(|started| moved(started, ReleaseReason::Recalled)), [0, 1]);
    assert_eq!([false, true].map(|started| moved(started, evicted())), [1, 1]);
    let mut driver = Driver::patient(2);
    driver.submit(eager(1, 1));
    driver.fail(1, attempt(1, 0, 1));
    assert_eq!(driver.scheduler.job(JobId(1), driver.now).expect("active").moved, 0, "it failed, which is no move");
}

#[test]
fn a_job_that_was_stopped_too_late_ends_as_its_tasks_did() {
    for (fails, state) in [(false, JobState::Succeeded), (true, JobState::Failed)] {
        let mut driver = Driver::patient(1);
        let job = driver.submit(eager(1, 0));
        driver.cancel(job);
        match fails {
            true => driver.fail(1, attempt(1, 0, 1)),
            false => driver.succeed(1, &[attempt(1, 0, 1)]),
        }
        assert_eq!(driver.ledger.state(job), state);
    }
    let mut driver = Driver::patient(1);
    let job = driver.submit(eager(2, 0));
    driver.cancel(job);
    driver.fail(1, attempt(1, 0, 1));
    assert_eq!(driver.ledger.state(job), JobState::Cancelled, "one was never started");
}

#[test]
fn failures_stop_a_job_when_they_are_as_many_as_it_bears_and_not_before() {
    for bears in 1..=3 {
        let mut driver = Driver::patient(1);
        let job = driver.submit(JobSpec { failures_max: Some(bears), ..eager(9, 0) });
        for index in 0..bears - 1 {
            driver.fail(1, attempt(1, index, 1));
            assert_eq!(
                driver.counts(job),
                TaskCounts { failed: index + 1, running: 1, queued: 7 - index, ..TaskCounts::default() }
            );
        }
        driver.fail(1, attempt(1, bears - 1, 1));
        assert_eq!(driver.ledger.state(job), JobState::Cancelled, "{bears} failures");
    }
}

#[test]
fn a_job_named_twice_must_succeed_if_either_says_so() {
    use DependencyCondition::{Any, Ok};
    for (first, second, cancelled) in [(Any, Ok, true), (Ok, Any, true), (Any, Any, false), (Ok, Ok, true)] {
        let mut driver = Driver::patient(1);
        driver.submit(eager(1, 0));
        let twice = driver.submit(after(after(spec(1), 1, first), 1, second));
        driver.fail(1, attempt(1, 0, 1));
        assert_eq!(driver.ledger.state(twice) == JobState::Cancelled, cancelled, "{first:?} and {second:?}");
        assert_eq!(driver.held(1).is_empty(), cancelled);
    }
}

#[test]
fn an_attempt_is_charged_for_what_it_had_of_a_slot_whatever_its_end() {
    let charged = |end: &dyn Fn(&mut Driver)| {
        let mut driver = Driver::patient(1);
        driver.submit(eager(1, 1));
        driver.started(1, &[attempt(1, 0, 1)]);
        driver.pass(100 * SECOND);
        end(&mut driver);
        (driver.ended()[0].slot_us / 1_000_000, driver.ended()[0].usage.wall_us / 1_000_000)
    };
    let first = attempt(1, 0, 1);
    assert_eq!(charged(&|driver| release(driver, 1, &[first], evicted())), (100, 100));
    assert_eq!(charged(&|driver| driver.succeed_after(1, &[first], 60 * SECOND)), (60, 60), "as it says");
    assert_eq!(charged(&|driver| driver.succeed_after(1, &[first], 900 * SECOND)), (100, 100), "and no more than it had");
    assert_eq!(charged(&|driver| driver.fail(1, first)), (0, 0));
}

#[test]
fn what_an_agent_said_of_an_attempt_without_a_result_is_kept_within_bounds() {
    let mut driver = Driver::patient(1);
    let mut tight = spec(1);
    tight.limits.log_bytes = 4;
    driver.submit(tight);
    let first = attempt(1, 0, 1);
    driver.started(1, &[first]);
    driver.pass(10 * SECOND);
    let remains = |attempt, log: &'static [u8]| {
        let usage = Usage { wall_us: u64::MAX, cpu_us: 3_000_000, memory_peak_bytes: 7 };
        ToCoordinator::Remains(Box::new(Remains { attempt, log: bytes::Bytes::from_static(log), log_dropped_bytes: 1, usage }))
    };
    driver.say(1, remains(first, b"0123456789"));
    driver.say(1, remains(attempt(7, 0, 1), b"of no attempt of it"));
    assert_eq!(agent(&driver, 1).claims_refused, 1);
    release(&mut driver, 1, &[first], evicted());
    let ended = &driver.ended()[0];
    assert_eq!((&ended.log[..], ended.log_dropped_bytes), (&b"6789"[..], 7));
    assert_eq!(ended.usage, Usage { wall_us: 10_000_000, cpu_us: 3_000_000, memory_peak_bytes: 7 });
    assert!(driver.scheduler.used_so_far(first.task).is_empty());
}

// --- Agents that err ---

#[test]
fn a_breach_on_a_stream_that_is_not_the_newest_ends_what_it_told_and_no_other_stream() {
    let mut driver = Driver::with_agents(1, 2);
    driver.submit(eager(2, 0));
    let [bad, good] = [attempt(1, 0, 1), attempt(1, 1, 1)];
    driver.connect(1, 2, &[bad, good]);
    let breach =
        |stream| Event::Breach { agent: AgentId(1), stream: Some(StreamId(stream)), what: "garbage".into(), told: vec![bad] };
    driver.handle(breach(77));
    assert_eq!(driver.ends(), [(bad, AttemptEnd::Evicted)]);
    let told = (AgentId(1), StreamId(77), 1, Order::Goodbye { reason: GoodbyeReason::Protocol("garbage".into()) });
    assert!(driver.sent.contains(&told), "{:?}", driver.sent);
    assert_eq!((agent(&driver, 1).breaches, agent(&driver, 1).connected.is_some(), driver.held(1)), (1, true, vec![good]));
    driver.handle(breach(78));
    assert_eq!((driver.ends(), driver.changes.len()), (vec![], 0), "it has ended already");
}

#[test]
fn breaches_are_in_a_row_within_their_span_and_cost_all_when_they_are_too_many() {
    let limits = Limits::default();
    for (apart, lost) in [(limits.breach_span - MICRO, true), (limits.breach_span, false)] {
        let mut driver = Driver::patient(1);
        driver.submit(spec(1));
        for stream in 1..=u64::from(limits.breaches_max) {
            assert_eq!(driver.held(1).len(), 1, "breach {stream}");
            let what = "garbage".to_owned();
            driver.handle(Event::Breach { agent: AgentId(1), stream: Some(StreamId(stream)), what, told: Vec::new() });
            if stream < u64::from(limits.breaches_max) {
                driver.connect(1, 1, &[attempt(1, 0, 1)]);
                driver.pass(apart);
            }
        }
        assert_eq!(driver.held(1).is_empty(), lost, "{apart:?} apart");
    }
}

#[test]
fn several_refusals_at_once_count_once_and_the_pause_doubles_when_it_is_over() {
    let mut driver = Driver::patient(0);
    driver.enrol_and_connect(1, 2);
    driver.submit(spec(2));
    let refuse = |driver: &mut Driver| {
        for attempt in driver.held(1) {
            driver.say(1, ToCoordinator::Refused { attempt, reason: RefuseReason::Executor { reason: "none".into() } });
        }
    };
    for seconds in [1, 2, 4, 8] {
        refuse(&mut driver);
        driver.pass(seconds * SECOND - MICRO);
        assert_eq!(driver.held(1), [], "it is left alone for {seconds} seconds");
        driver.pass(MICRO);
        assert_eq!(driver.held(1).len(), 2, "after {seconds} seconds");
    }
    driver.succeed(1, &driver.held(1)[..1]);
    let refusals = |driver: &Driver| driver.scheduler.fleet.get(AgentId(1)).expect("an agent").refusals.len();
    assert_eq!(refusals(&driver), 0, "whoever brings a result of a job has nothing against it");
}

#[test]
fn a_snapshot_as_large_as_it_may_be_is_kept_and_of_two_copies_the_one_that_is_further() {
    let mut driver = Driver::patient(1);
    driver.movable = Some(Movable { cost_percent: 110 });
    driver.submit(spec(1));
    let first = attempt(1, 0, 1);
    driver.started(1, &[first]);
    driver.pass(100 * SECOND);
    let save = |driver: &mut Driver, number: u8, size_bytes: u64, seconds: u64| {
        let blob = BlobRef { size_bytes, ..BlobRef::of(&[number]) };
        let snapshot = SnapshotRef { blob, spent_us: seconds * 1_000_000 };
        driver.say(1, ToCoordinator::Saved { attempt: first, snapshot });
        driver.changes.iter().any(|change| matches!(change, Change::SnapshotSaved { .. }))
    };
    assert!(save(&mut driver, 1, SNAPSHOT_BYTES_MAX, 50));
    assert_eq!(agent(&driver, 1).claims_refused, 0);
    assert!(!save(&mut driver, 2, SNAPSHOT_BYTES_MAX + 1, 60));
    assert_eq!(agent(&driver, 1).claims_refused, 1);
    assert!(save(&mut driver, 3, 9, 40), "the newest of one agent counts, however far it is");
}

#[test]
fn programs_that_come_back_are_two_within_an_hour_and_while_both_are_remembered() {
    let met = |programs: &[u64], apart: Duration| {
        let mut driver = Driver::new();
        driver.enrol(1);
        for program in programs {
            driver.connect_as(1, 1, &[], (*program, 70));
            driver.now = driver.now + apart;
        }
        agent(&driver, 1).quarantine.map(|quarantine| quarantine.kind)
    };
    let hour = 3_600 * SECOND;
    assert_eq!(met(&[1, 2, 1, 2], hour - MICRO), Some(QuarantineKind::Cloned));
    assert_eq!(met(&[1, 2, 1, 2], hour), None);
    let round = |programs: u64| (1..=programs).chain([1, 2]).collect::<Vec<_>>();
    assert_eq!(met(&round(8), SECOND), Some(QuarantineKind::Cloned));
    assert_eq!(met(&round(9), SECOND), None, "the first of nine is forgotten");
    assert_eq!(met(&[1, 2, 2, 1, 1, 1], SECOND), None, "one of them came back once");
}

#[test]
fn a_machine_that_does_not_say_which_it_is_clears_nobody() {
    let mut driver = Driver::new();
    driver.enrol(1);
    for program in [1, 2, 1, 2] {
        driver.connect_as(1, 1, &[], (program, 0));
    }
    driver.enrol(2);
    driver.connect_as(2, 1, &[], (9, 0));
    assert!(agent(&driver, 1).quarantine.is_some());
}

// --- Sleep ---

fn card(agent: u64) -> Card {
    Card { mac: Mac([2, 0, 0, 0, 0, agent as u8]), subnet: Subnet::of([10, 0, 1, 7].into(), 24) }
}

/// Agent 1 is there and has its hands full; agent 2 sleeps beside it, and may be woken at any time.
fn with_a_sleeper(work: JobSpec) -> Driver {
    let mut driver = Driver::patient(1);
    driver.say(1, ToCoordinator::Cards(vec![card(1)]));
    driver.enrol_and_connect(2, 1);
    driver.say(2, ToCoordinator::Cards(vec![card(2)]));
    let policy = Policy { wake_on_lan: true, ..Policy::unrestricted() };
    driver.handle(Event::Wakeable { agent: AgentId(2), policy: Some(Box::new(policy)), clock_ahead_min: 0 });
    driver.say(2, ToCoordinator::Sleeps);
    driver.disconnect(2);
    driver.submit_as("bob", spec(1));
    driver.submit(work);
    driver
}

fn wakes(driver: &Driver) -> usize {
    driver.orders.iter().filter(|(agent, order)| agent.0 == 1 && matches!(order, Order::Wake { .. })).count()
}

#[test]
fn a_machine_that_does_not_come_is_tried_after_ten_minutes_and_twice_as_long_each_time_up_to_eight_hours() {
    let mut driver = with_a_sleeper(spec(1));
    assert_eq!(wakes(&driver), 1);
    let (began, mut tried) = (driver.now, Vec::new());
    while tried.len() < 8 {
        driver.pass(60 * SECOND);
        if wakes(&driver) > 0 {
            tried.push(driver.now.since(began).as_secs() / 60);
        }
    }
    let minutes = [10, 20, 40, 80, 160, 320, 480, 480];
    let sums: Vec<u64> = (1..=minutes.len()).map(|count| minutes[..count].iter().sum()).collect();
    assert_eq!(tried, sums);
    driver.connect(2, 0, &[]);
    driver.say(2, ToCoordinator::Sleeps);
    driver.disconnect(2);
    driver.pass(60 * SECOND);
    assert_eq!(wakes(&driver), 1, "it came, and is tried as if for the first time");
}

#[test]
fn only_a_machine_that_could_do_the_work_is_woken_for_it() {
    let work = |constraint: &str| JobSpec { constraints: vec![constraint.parse().expect("a constraint")], ..spec(1) };
    assert_eq!(wakes(&with_a_sleeper(work("name=pc-2"))), 1);
    assert_eq!(wakes(&with_a_sleeper(work("name=pc-3"))), 0);
    for (hinder, expected) in [
        (Box::new(|_: &mut Driver| ()) as Box<dyn Fn(&mut Driver)>, 1),
        (
            Box::new(|driver: &mut Driver| {
                driver.set_intake(2, Intake::Cordoned);
            }),
            0,
        ),
        (
            Box::new(|driver: &mut Driver| {
                driver.scheduler.distrust(AgentId(2), QuarantineKind::Output, "it lied".into());
            }),
            0,
        ),
        (Box::new(|driver: &mut Driver| driver.connect(2, 0, &[])), 0),
    ] {
        let mut driver = with_a_sleeper(work("name=pc-3"));
        hinder(&mut driver);
        driver.submit(spec(1));
        driver.pass(60 * SECOND);
        let woken = driver.scheduler.fleet.get(AgentId(2)).expect("an agent").sleeper.tries;
        assert_eq!(woken, expected);
    }
}

// --- Taking over ---

#[test]
fn a_restored_scheduler_gives_numbers_above_all_that_were_given() {
    for (last_job, next) in [(0, 4), (9, 10)] {
        let mut driver = Driver::patient(0);
        for _ in 1..=3 {
            driver.submit(spec(1));
        }
        let snapshot = Snapshot { last_job, ..driver.ledger.snapshot() };
        let scheduler = Scheduler::restore(snapshot, Limits::default(), 7, NOON);
        assert_eq!(scheduler.last_job() + 1, next);
    }
}

#[test]
fn whoever_takes_over_ends_what_agents_have_that_are_out() {
    for (out, expected) in [("revoked", Some(AttemptEnd::Lost)), ("quarantined", Some(AttemptEnd::Recalled)), ("", None)] {
        let mut driver = Driver::patient(1);
        driver.submit(spec(1));
        let mut snapshot = driver.ledger.snapshot();
        match out {
            "revoked" => snapshot.agents[0].intake = Intake::Revoked,
            "quarantined" => {
                let kind = QuarantineKind::Output;
                let quarantine = crate::event::Quarantine { kind, since: NOON, reason: "it lied".into() };
                snapshot.agents[0].quarantine = Some(quarantine);
            }
            _ => {}
        }
        let mut scheduler = Scheduler::restore(snapshot, Limits::default(), 7, NOON);
        let ends: Vec<_> = std::iter::from_fn(|| scheduler.poll_effect())
            .filter_map(|effect| match effect {
                crate::effect::Effect::Record(Change::AttemptEnded(ended)) => Some(ended.end),
                _ => None,
            })
            .collect();
        assert_eq!(ends, expected.into_iter().collect::<Vec<_>>(), "{out}");
        assert_eq!(scheduler.outage(NOON).is_some(), expected.is_none(), "{out}: nobody is waited for who is out");
    }
}

#[test]
fn agents_have_their_grace_after_a_takeover_to_the_last_moment() {
    let grace = Limits::default().reconnect_grace;
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    driver.crash();
    driver.pass(grace - MICRO);
    assert_eq!(agent(&driver, 1).silent_since, None);
    driver.pass(MICRO);
    assert_eq!(agent(&driver, 1).silent_since, Some(NOON));
}

// --- What is shown ---

#[test]
fn a_job_is_said_to_wait_for_a_retry_when_nothing_else_of_it_goes_on() {
    let pausing = RetryPolicy { retries: 1, backoff_ms: 60_000, backoff_max_ms: 60_000 };
    let waits = |count: u32, slots: u16, after: &dyn Fn(&mut Driver)| {
        let mut driver = Driver::patient(0);
        driver.enrol_and_connect(1, slots);
        let job = driver.submit(JobSpec { retry: pausing, ..spec(count) });
        driver.fail(1, attempt(1, 0, 1));
        after(&mut driver);
        matches!(driver.scheduler.job(job, driver.now).expect("active").waiting, Some(WaitReason::Backoff { .. }))
    };
    let nothing = |_: &mut Driver| ();
    assert!(waits(1, 1, &nothing));
    assert!(!waits(2, 2, &nothing), "another runs");
    let pause = |driver: &mut Driver| {
        driver.say(1, ToCoordinator::Paused { attempt: attempt(1, 1, 1), reason: Some(PauseReason::Touched) });
    };
    assert!(!waits(2, 2, &pause), "another is paused");
    let leave = |driver: &mut Driver| driver.say(1, ToCoordinator::Farewell);
    assert!(!waits(2, 2, &leave), "another is queued");
    assert!(waits(2, 2, &|driver| driver.succeed(1, &[attempt(1, 1, 1)])));
}

#[test]
fn a_name_is_unknown_while_no_agent_has_it_that_may_work() {
    let mut driver = Driver::with_agents(2, 1);
    driver.set_intake(2, Intake::Revoked);
    let unknown = driver.scheduler.unknown_names(["pc-1", "pc-2", "pc-3"].map(str::to_owned).to_vec());
    assert_eq!(unknown, ["pc-2", "pc-3"]);
    let explained = |driver: &Driver| {
        let explained = driver.scheduler.explain(attempt(1, 0, 1).task, driver.now).expect("open");
        explained.agents.iter().map(|verdict| verdict.agent.0).collect::<Vec<_>>()
    };
    driver.submit(spec(1));
    assert_eq!(explained(&driver), [1, 2], "one that was thrown out is told of as that, and last");
}

#[test]
fn a_task_says_what_holds_it_back_when_all_that_may_be_at_once_are() {
    let mut driver = Driver::patient(1);
    driver.movable = Some(Movable { cost_percent: 110 });
    driver.submit(JobSpec { at_once: Some(1), ..spec(3) });
    let waiting = |driver: &Driver, index| driver.scheduler.explain(attempt(1, index, 1).task, driver.now).expect("open").waiting;
    assert_eq!(waiting(&driver, 0), None, "it runs");
    assert_eq!(waiting(&driver, 1), Some(WaitReason::AtOnce { tasks: 1 }));
    driver.say(1, ToCoordinator::Farewell);
    assert_eq!([0, 1].map(|index| waiting(&driver, index)), [None, None], "nothing is with agents");
}

#[test]
fn tasks_are_waited_for_by_those_before_them_and_not_by_those_behind() {
    let mut driver = Driver::patient(0);
    driver.submit(JobSpec { priority: lull_shared::job::Priority(1), ..spec(2) });
    driver.submit(spec(3));
    let ahead =
        |driver: &Driver, job, index| driver.scheduler.explain(attempt(job, index, 1).task, driver.now).expect("open").ahead;
    assert_eq!(
        [(1, 0), (1, 1), (2, 0), (2, 2)].map(|(job, index)| ahead(&driver, job, index)),
        [Some(0), Some(1), Some(2), Some(4)]
    );
}

#[test]
fn whoever_retries_is_answered_by_how_much_runs_again() {
    let mut driver = Driver::patient(1);
    let job = driver.submit(JobSpec { failures_max: Some(1), ..eager(4, 0) });
    driver.succeed(1, &[attempt(1, 0, 1)]);
    driver.fail(1, attempt(1, 1, 1));
    assert_eq!(driver.retry(job), Reply::Done { affected: 3 }, "one failed, and two were never started");
    assert_eq!(driver.counts(job), TaskCounts { succeeded: 1, running: 1, queued: 2, ..TaskCounts::default() });
}
