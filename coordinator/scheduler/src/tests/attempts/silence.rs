//! Silence is doubt, not death.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    id::{AgentId, AttemptId, JobId},
    job::{JobSpec, Priority},
    message::{RecallReason, ReleaseReason, Remains, SnapshotRef, ToCoordinator},
    share::Share,
    state::{AttemptEnd, Failure, Intake, JobState, PauseReason, TaskCounts, Usage},
    time::Timestamp,
};

use crate::{
    effect::{Change, TaskAfter},
    event::{Event, Movable, RequestId},
    tests::support::driver::{Driver, attempt, spec},
    views::view::{OutageKind, SecondCopy},
};

const SECOND: Duration = Duration::from_secs(1);

/// Lets time pass in which these agents speak, as honest ones do, and no other does.
fn pass(driver: &mut Driver, seconds: u64, heard: &[u64]) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..seconds * 2 {
        driver.pass(SECOND / 2);
        changes.append(&mut driver.changes);
        for agent in heard {
            driver.heartbeat(*agent, &driver.held(*agent));
            changes.append(&mut driver.changes);
        }
    }
    changes
}

fn ends(changes: &[Change]) -> Vec<(AttemptId, AttemptEnd)> {
    let ended = changes.iter().filter_map(|change| match change {
        Change::AttemptEnded(ended) => Some((ended.attempt, ended.end)),
        _ => None,
    });
    ended.collect()
}

fn silent_since(driver: &Driver, agent: u64) -> Option<Timestamp> {
    driver.scheduler.agent(AgentId(agent)).expect("an agent").silent_since
}

fn second_copy(driver: &Driver, attempt: AttemptId) -> Option<SecondCopy> {
    driver.scheduler.explain(attempt.task, driver.now).expect("an open task").second_copy
}

/// A job of one task, which agent 1 has started; others have a free slot.
fn with_one_running(agents: u64) -> (Driver, AttemptId) {
    let mut driver = Driver::new();
    driver.enrol_and_connect(1, 1);
    driver.submit(spec(1));
    driver.started(1, &[attempt(1, 0, 1)]);
    (2..=agents).for_each(|agent| driver.enrol_and_connect(agent, 1));
    (driver, attempt(1, 0, 1))
}

/// So many agents, each with a task that it has started, and one more that idles.
fn with_all_running(agents: u64) -> Driver {
    let mut driver = Driver::with_agents(agents, 1);
    driver.submit(spec(agents as u32));
    for agent in 1..=agents {
        driver.started(agent, &driver.held(agent));
    }
    driver
}

#[test]
fn a_silent_agent_keeps_its_attempt_and_another_begins_the_task_within_five_seconds() {
    for closed in [false, true] {
        let (mut driver, first) = with_one_running(2);
        let said = driver.now;
        if closed {
            driver.disconnect(1);
        }
        pass(&mut driver, 3, &[2]);
        assert_eq!((driver.held(2), silent_since(&driver, 1)), (vec![], None), "it may be back in a moment");
        let changes = pass(&mut driver, 2, &[2]);
        assert_eq!((ends(&changes), driver.held(1), driver.held(2)), (vec![], vec![first], vec![attempt(1, 0, 2)]));
        assert_eq!(silent_since(&driver, 1), Some(said));
        let begun = changes.iter().find_map(|change| match change {
            Change::AttemptStarted { at, beside: true, cause, .. } => Some((at.since(said), cause.clone())),
            _ => None,
        });
        let (after, cause) = begun.expect("a second copy");
        assert!(after <= 5 * SECOND, "{after:?}");
        assert_eq!(cause.as_deref(), Some("nothing is heard of pc-1 since 2026-11-23T12:00:00Z"));
    }
}

#[test]
fn an_unreachable_attempt_is_shown_as_such_and_counts_as_running() {
    let (mut driver, first) = with_one_running(1);
    let said = driver.now;
    driver.enrol_and_connect(2, 0);
    pass(&mut driver, 5, &[2]);
    let explained = driver.scheduler.explain(first.task, driver.now).expect("open");
    assert_eq!(explained.at.and_then(|at| at.unreachable), Some(said));
    assert_eq!(explained.second_copy, Some(SecondCopy::WaitsForSlot));
    let view = driver.scheduler.job(JobId(1), driver.now).expect("active");
    assert_eq!((view.counts, view.unreachable), (TaskCounts { running: 1, ..TaskCounts::default() }, 1));
}

#[test]
fn all_jobs_at_once_are_looked_at_as_each_alone_is() {
    let mut driver = Driver::with_agents(6, 2);
    for tasks in [1, 4, 2, 3] {
        driver.submit(spec(tasks));
    }
    for agent in 1..=6 {
        driver.started(agent, &driver.held(agent));
    }
    pass(&mut driver, 8, &[5, 6]);
    let all = driver.scheduler.jobs(driver.now);
    let each: Vec<_> = all.iter().filter_map(|view| driver.scheduler.job(view.job, driver.now)).collect();
    assert_eq!(all, each);
    let unreachable: Vec<u32> = all.iter().map(|view| view.unreachable).collect();
    let silent: usize = (1..=4).map(|agent| driver.held(agent).len()).sum();
    assert_eq!(unreachable.iter().sum::<u32>() as usize, silent, "{unreachable:?}");
    assert!(unreachable.iter().filter(|count| **count > 0).count() > 1, "{unreachable:?}");
}

#[test]
fn a_job_is_explained_with_the_outage_and_what_nobody_hears_of_is_not_said_to_run() {
    let mut driver = with_all_running(4);
    pass(&mut driver, 8, &[4]);
    let told = driver.scheduler.explain_job(JobId(1), driver.now).expect("an active job");
    assert_eq!((told.view.unreachable, told.running, told.running_on), (3, 1, 1));
    assert_eq!(told.outage.map(|outage| (outage.kind, outage.agents)), Some((OutageKind::Together, 3)));
    let task = driver.scheduler.explain(attempt(1, 0, 1).task, driver.now).expect("an open task");
    assert_eq!(task.outage, told.outage);
}

#[test]
fn what_live_attempts_used_is_known_as_their_agents_said_it_last() {
    let (mut driver, first) = with_one_running(1);
    let used = |cpu_us| Usage { wall_us: 2 * cpu_us, cpu_us, memory_peak_bytes: 7 };
    for cpu_us in [5, 9] {
        let remains = Remains { attempt: first, log: Default::default(), log_dropped_bytes: 0, usage: used(cpu_us) };
        driver.say(1, ToCoordinator::Remains(Box::new(remains)));
    }
    assert_eq!(driver.scheduler.used_so_far(first.task), [(first, used(9))].into());
    assert!(driver.scheduler.used_so_far(attempt(1, 1, 1).task).is_empty());
    driver.succeed(1, &[first]);
    assert!(driver.scheduler.used_so_far(first.task).is_empty());
}

#[test]
fn the_first_result_counts_whether_the_silent_agent_or_the_second_copy_brings_it() {
    let (mut driver, first) = with_one_running(2);
    pass(&mut driver, 5, &[2]);
    let second = attempt(1, 0, 2);
    let mut other = Driver::new();
    std::mem::swap(&mut driver, &mut other);
    // The silent one, right after its greeting.
    other.connect(1, 1, &[]);
    other.succeed(1, &[first]);
    assert_eq!(other.ends(), [(second, AttemptEnd::Cancelled), (first, AttemptEnd::Succeeded)]);
    assert_eq!((other.recalled(2, RecallReason::Stale), other.ledger.results_refused), (vec![second], 0));
    assert_eq!(other.ledger.state(JobId(1)), JobState::Succeeded);
    // The second copy.
    let (mut driver, first) = with_one_running(2);
    pass(&mut driver, 5, &[2]);
    driver.succeed(2, &[second]);
    assert_eq!(driver.ends(), [(first, AttemptEnd::Cancelled), (second, AttemptEnd::Succeeded)]);
    driver.connect(1, 1, &[first]);
    assert_eq!(driver.recalled(1, RecallReason::Stale), [first]);
    driver.succeed(1, &[first]);
    assert_eq!((driver.ledger.results_refused, driver.ledger.counts(JobId(1)).succeeded), (1, 1));
    assert_eq!(driver.scheduler.agent(AgentId(1)).expect("known").claims_refused, 0, "it could not know");
}

#[test]
fn when_the_silent_agent_is_back_the_attempt_that_is_further_goes_on_alone() {
    for anew in [true, false] {
        let (mut driver, first) = with_one_running(2);
        pass(&mut driver, 5, &[2]);
        let second = attempt(1, 0, 2);
        driver.started(2, &[second]);
        if anew {
            driver.connect(1, 1, &[first]);
        } else {
            driver.heartbeat(1, &[first]);
        }
        assert_eq!(driver.ends(), [(second, AttemptEnd::Recalled)]);
        assert_eq!((driver.recalled(2, RecallReason::Stale), driver.held(1)), (vec![second], vec![first]));
        assert_eq!(driver.ended()[0].reason.as_deref(), Some("its task is further at pc-1, which is in touch again"));
        assert_eq!(silent_since(&driver, 1), None);
        driver.succeed(1, &[first]);
        assert_eq!(driver.ledger.state(JobId(1)), JobState::Succeeded);
    }
}

#[test]
fn an_attempt_that_came_back_paused_goes_on_beside_its_copy() {
    let (mut driver, first) = with_one_running(2);
    driver.say(1, ToCoordinator::Paused { attempt: first, reason: Some(PauseReason::Owner { until: None }) });
    pass(&mut driver, 5, &[2]);
    driver.started(2, &[attempt(1, 0, 2)]);
    driver.heartbeat(1, &[first]);
    assert_eq!((driver.ends(), driver.held(1).len(), driver.held(2).len()), (vec![], 1, 1));
}

#[test]
fn an_agent_that_is_back_before_a_copy_found_room_just_goes_on() {
    let (mut driver, first) = with_one_running(1);
    driver.enrol_and_connect(2, 1);
    driver.submit_as("bob", spec(1));
    pass(&mut driver, 5, &[2]);
    assert_eq!(second_copy(&driver, first), Some(SecondCopy::WaitsForSlot));
    driver.heartbeat(1, &[first]);
    driver.succeed(2, &driver.held(2));
    assert_eq!((driver.held(1), driver.held(2)), (vec![first], vec![]));
}

#[test]
fn what_the_agent_does_not_have_any_more_when_it_is_back_is_lost_and_costs_no_retry() {
    let (mut driver, first) = with_one_running(1);
    pass(&mut driver, 5, &[]);
    driver.connect(1, 1, &[]);
    assert_eq!(driver.ends(), [], "its result may be on its way");
    driver.heartbeat(1, &[]);
    assert_eq!(driver.ends(), [(first, AttemptEnd::Lost)]);
    pass(&mut driver, 2, &[1]);
    assert_eq!(driver.held(1), [attempt(1, 0, 2)]);
}

#[test]
fn the_second_copy_goes_at_its_jobs_rank_before_work_that_comes_later() {
    let (mut driver, _) = with_one_running(1);
    driver.enrol_and_connect(2, 1);
    driver.submit_as("ada", spec(3));
    pass(&mut driver, 5, &[2]);
    let begun = driver.held(2);
    driver.succeed(2, &begun);
    assert_eq!(driver.assigned(2), [attempt(1, 0, 2)], "the older job of the same person goes first");
}

#[test]
fn a_copy_goes_on_from_the_newest_snapshot_that_somebody_has_who_is_there() {
    let kept = |elsewhere: bool| {
        let mut driver = Driver::new();
        driver.movable = Some(Movable { cost_percent: 110 });
        driver.enrol_and_connect(1, 1);
        driver.submit(JobSpec { moving: lull_shared::job::Moving::Always, ..spec(1) });
        driver.started(1, &[attempt(1, 0, 1)]);
        driver.enrol_and_connect(2, 1);
        driver.enrol_and_connect(3, 0);
        pass(&mut driver, 40, &[1, 2, 3]);
        let snapshot = SnapshotRef { blob: BlobRef::of(b"s"), spent_us: 35_000_000 };
        driver.say(1, ToCoordinator::Saved { attempt: attempt(1, 0, 1), snapshot });
        if elsewhere {
            let kept = lull_shared::message::KeptSnapshot { task: attempt(1, 0, 1).task, digest: snapshot.blob.digest };
            driver.say(3, ToCoordinator::Keeps(kept));
        }
        let changes = pass(&mut driver, 5, &[2, 3]);
        let resumed = changes.iter().find_map(|change| match change {
            Change::AttemptStarted { beside: true, resume, .. } => Some(resume.as_deref().copied()),
            _ => None,
        });
        (resumed.expect("a second copy"), snapshot)
    };
    let (resumed, snapshot) = kept(true);
    assert_eq!(resumed, Some(snapshot));
    let (resumed, _) = kept(false);
    assert_eq!(resumed, None, "only the silent machine has it: the copy begins anew");
}

#[test]
fn a_copy_whose_own_agent_falls_silent_is_followed_by_one_more_and_then_by_none() {
    let (mut driver, first) = with_one_running(12);
    let others: Vec<u64> = (2..=12).collect();
    pass(&mut driver, 45, &others);
    let has = |driver: &Driver| (1..=12).filter(|agent| !driver.held(*agent).is_empty()).collect::<Vec<_>>();
    let mut silent = vec![1];
    for copies in 2..=3 {
        let next = *has(&driver).iter().find(|agent| !silent.contains(agent)).expect("a copy");
        assert_eq!(has(&driver).len(), copies);
        silent.push(next);
        let heard: Vec<u64> = others.iter().copied().filter(|agent| !silent.contains(agent)).collect();
        pass(&mut driver, 45, &heard);
    }
    assert_eq!(has(&driver).len(), 3, "it takes no further machine");
    assert_eq!(second_copy(&driver, first), Some(SecondCopy::Enough { copies: 3 }));
    driver.heartbeat(silent[1], &driver.held(silent[1]));
    assert_eq!(second_copy(&driver, first), None);
}

#[test]
fn stopped_jobs_do_not_wait_for_agents_out_of_touch() {
    // Silent before the job is cancelled, and after.
    let (mut driver, first) = with_one_running(1);
    pass(&mut driver, 5, &[]);
    driver.cancel(JobId(1));
    assert_eq!(driver.ends(), [(first, AttemptEnd::Cancelled)]);
    assert_eq!(driver.ledger.state(JobId(1)), JobState::Cancelled);
    driver.connect(1, 1, &[first]);
    assert_eq!(driver.recalled(1, RecallReason::Stale), [first]);
    let (mut driver, first) = with_one_running(1);
    driver.cancel(JobId(1));
    let changes = pass(&mut driver, 5, &[]);
    assert_eq!(ends(&changes), [(first, AttemptEnd::Cancelled)]);
    assert_eq!(driver.ledger.state(JobId(1)), JobState::Cancelled);
}

#[test]
fn an_agent_out_of_touch_that_is_revoked_has_lost_what_it_had() {
    let (mut driver, first) = with_one_running(1);
    pass(&mut driver, 5, &[]);
    driver.set_intake(1, Intake::Revoked);
    assert_eq!((driver.ends(), silent_since(&driver, 1)), (vec![(first, AttemptEnd::Lost)], None));
}

#[test]
fn what_nobody_hears_of_for_as_long_as_the_job_says_is_lost() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(JobSpec { lost_after_ms: 600_000, ..spec(1) });
    driver.started(1, &[attempt(1, 0, 1)]);
    driver.pass(599 * SECOND);
    assert_eq!(driver.held(1), [attempt(1, 0, 1)]);
    driver.pass(2 * SECOND);
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Lost)]);
    assert_eq!(driver.ended()[0].reason.as_deref(), Some("nothing was heard of its agent for 10m"));
    assert_eq!(driver.counts(JobId(1)).queued, 1);
    driver.connect(1, 1, &[attempt(1, 0, 1)]);
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.ledger.results_refused, 1, "now it is too late");
}

#[test]
fn what_runs_out_of_touch_is_not_held_against_its_submitter() {
    let mut driver = Driver::new();
    driver.enrol_and_connect(1, 1);
    driver.submit_as("ada", JobSpec { constraints: vec!["name=pc-1".parse().expect("a constraint")], ..spec(1) });
    driver.started(1, &[attempt(1, 0, 1)]);
    driver.enrol_and_connect(2, 1);
    driver.submit_as("bob", spec(1));
    driver.started(2, &[attempt(2, 0, 1)]);
    pass(&mut driver, 3_600, &[2]);
    driver.submit_as("bob", spec(1));
    driver.submit_as("ada", spec(1));
    driver.succeed(2, &[attempt(2, 0, 1)]);
    assert_eq!(driver.assigned(2), [attempt(4, 0, 1)], "bob had an hour, and ada nobody knows what");
}

#[test]
fn agents_that_fall_silent_together_keep_their_work_and_no_copies_start_in_bulk() {
    let mut driver = with_all_running(9);
    driver.enrol_and_connect(10, 9);
    let said = driver.now;
    let changes = pass(&mut driver, 45, &[10]);
    assert!(
        !changes.iter().any(|change| matches!(change, Change::AttemptStarted { .. } | Change::AttemptEnded(_))),
        "{changes:?}"
    );
    let outage = driver.scheduler.outage(driver.now).expect("most are gone");
    assert_eq!((outage.kind, outage.agents, outage.since), (OutageKind::Together, 9, said));
    assert!(matches!(second_copy(&driver, attempt(1, 0, 1)), Some(SecondCopy::Together { .. })));
    for agent in 1..=9 {
        driver.connect(agent, 1, &driver.held(agent));
        assert_eq!(driver.ends(), []);
        let heard: Vec<u64> = (1..=agent).chain([10]).collect();
        pass(&mut driver, 1, &heard);
    }
    assert_eq!((driver.held(10), driver.scheduler.outage(driver.now)), (vec![], None), "those that come last are waited for");
}

#[test]
fn after_a_while_copies_start_a_few_at_a_time_the_most_urgent_first() {
    let mut driver = Driver::with_agents(9, 1);
    driver.submit(spec(8));
    driver.submit(JobSpec { priority: Priority(5), ..spec(1) });
    (1..=9).for_each(|agent| driver.started(agent, &driver.held(agent)));
    driver.enrol_and_connect(10, 9);
    pass(&mut driver, 63, &[10]);
    assert_eq!(driver.held(10), []);
    pass(&mut driver, 2, &[10]);
    let first = driver.held(10);
    assert!(first.len() <= 2 && first.contains(&attempt(2, 0, 2)), "{first:?}");
    pass(&mut driver, 20, &[10]);
    assert_eq!(driver.held(10).len(), 9, "in the end they all have one");
}

#[test]
fn a_coordinator_that_hears_nobody_is_cut_off_and_gives_everybody_time_to_come_back() {
    let mut driver = with_all_running(4);
    let said = driver.now;
    driver.pass(600 * SECOND);
    let outage = driver.scheduler.outage(driver.now).expect("nobody is heard");
    assert_eq!((outage.kind, outage.agents, outage.since), (OutageKind::CutOff, 4, said));
    assert_eq!(second_copy(&driver, attempt(1, 0, 1)), Some(SecondCopy::CutOff));
    // The first to come back has room for more.
    driver.connect(1, 4, &driver.held(1));
    pass(&mut driver, 10, &[1]);
    driver.connect(2, 1, &driver.held(2));
    let changes = pass(&mut driver, 15, &[1, 2]);
    assert_eq!((ends(&changes), driver.held(1).len()), (vec![], 1));
    driver.connect(3, 1, &driver.held(3));
    driver.connect(4, 1, &driver.held(4));
    pass(&mut driver, 60, &[1, 2, 3, 4]);
    assert_eq!((driver.held(1).len(), driver.scheduler.outage(driver.now)), (1, None));
}

#[test]
fn one_of_two_that_dies_is_a_dead_machine_and_both_are_a_network() {
    let mut driver = with_all_running(2);
    driver.enrol_and_connect(2, 2);
    driver.connect(2, 2, &driver.held(2));
    pass(&mut driver, 5, &[2]);
    assert_eq!(driver.held(2).len(), 2, "the other has its task now");
    let mut driver = with_all_running(2);
    driver.connect(2, 2, &driver.held(2));
    pass(&mut driver, 30, &[]);
    driver.connect(2, 2, &driver.held(2));
    pass(&mut driver, 15, &[2]);
    assert_eq!(driver.held(2).len(), 1, "the other has a moment to follow");
    pass(&mut driver, 60, &[2]);
    assert_eq!(driver.held(2).len(), 2);
}

#[test]
fn a_machine_that_said_that_it_sleeps_is_no_outage() {
    let mut driver = with_all_running(3);
    driver.enrol_and_connect(4, 3);
    (1..=3).for_each(|agent| driver.say(agent, ToCoordinator::Sleeps));
    pass(&mut driver, 5, &[4]);
    assert_eq!((driver.held(4).len(), driver.scheduler.outage(driver.now)), (3, None), "their tasks begin elsewhere at once");
}

#[test]
fn a_new_leader_waits_for_the_agents_to_come() {
    let mut driver = Driver::with_agents(2, 1);
    driver.submit(spec(2));
    (1..=2).for_each(|agent| driver.started(agent, &driver.held(agent)));
    driver.crash();
    assert_eq!(driver.scheduler.outage(driver.now).map(|outage| (outage.kind, outage.agents)), Some((OutageKind::Unmet, 2)));
    driver.pass(10 * SECOND);
    driver.connect(1, 2, &[attempt(1, 0, 1)]);
    assert_eq!(driver.recalled(1, RecallReason::Stale), []);
    let changes = pass(&mut driver, 9, &[1]);
    assert_eq!((ends(&changes), driver.held(1)), (vec![], vec![attempt(1, 0, 1)]));
    let changes = pass(&mut driver, 5, &[1]);
    assert_eq!(ends(&changes), [], "nothing is lost for it");
    assert_eq!(driver.held(1), [attempt(1, 0, 1), attempt(1, 1, 2)], "the other has not come");
    driver.connect(2, 1, &[]);
    driver.succeed(2, &[attempt(1, 1, 1)]);
    assert_eq!(driver.ends().last(), Some(&(attempt(1, 1, 1), AttemptEnd::Succeeded)));
}

#[test]
fn both_outputs_of_a_task_that_is_verified_are_waited_for() {
    let mut driver = Driver::new();
    driver.enrol_and_connect(1, 1);
    driver.submit(JobSpec { verify: Share::of_hundredths(Share::WHOLE), ..spec(1) });
    driver.started(1, &[attempt(1, 0, 1)]);
    (2..=3).for_each(|agent| driver.enrol_and_connect(agent, 1));
    pass(&mut driver, 5, &[2, 3]);
    let second = driver.held(2).first().copied().expect("a copy");
    driver.started(2, &[second]);
    driver.heartbeat(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.ends(), [], "they are compared");
    driver.succeed(1, &[attempt(1, 0, 1)]);
    driver.succeed(2, &[second]);
    assert_eq!(driver.ledger.state(JobId(1)), JobState::Succeeded);
}

#[test]
fn a_task_that_loses_machine_after_machine_fails_and_says_so() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(1));
    for number in 1..=5 {
        assert_eq!(driver.held(1), [attempt(1, 0, number)]);
        driver.started(1, &[attempt(1, 0, number)]);
        if number == 3 {
            driver.crash();
        }
        driver.connect(1, 1, &[]);
        driver.heartbeat(1, &[]);
        let (ended, after) = (driver.ends(), driver.ended()[0].after);
        assert_eq!((ended, after == TaskAfter::Failed), (vec![(attempt(1, 0, number), AttemptEnd::Lost)], number == 5));
        if number == 5 {
            assert_eq!(driver.ended()[0].failure, Some(Failure::MachinesLost { machines: 5 }));
        }
        driver.pass(60 * SECOND);
        driver.heartbeat(1, &driver.held(1));
        driver.pass(3 * SECOND);
    }
    assert_eq!((driver.ledger.state(job), driver.ledger.counts(job).failed), (JobState::Failed, 1));
    driver.retry(job);
    driver.pass(SECOND);
    driver.heartbeat(1, &driver.held(1));
    driver.connect(1, 1, &[]);
    driver.started(1, &[attempt(1, 0, 6)]);
    driver.heartbeat(1, &[]);
    assert_eq!(driver.counts(job).queued, 1, "a retry begins to count anew");
}

#[test]
fn a_copy_that_comes_to_nothing_is_followed_by_another_while_the_first_is_out_of_touch() {
    let (mut driver, _) = with_one_running(3);
    pass(&mut driver, 5, &[2, 3]);
    let copy = [driver.held(2), driver.held(3)].concat()[0];
    let with = if driver.held(2).is_empty() { 3 } else { 2 };
    let reason = ReleaseReason::Evicted(PauseReason::Owner { until: None });
    driver.say(with, ToCoordinator::Released { attempts: vec![copy], reason });
    pass(&mut driver, 1, &[2, 3]);
    assert_eq!([driver.held(2), driver.held(3)].concat(), [attempt(1, 0, 3)]);
}

/// Agents with more attempts together than a transaction takes, all of them gone.
fn a_fleet_gone() -> (Driver, JobId) {
    const SLOTS: u16 = 250;
    let mut driver = Driver::with_agents(FLEET / u64::from(SLOTS), SLOTS);
    let mut small = spec(FLEET as u32);
    small.limits.memory_bytes = 1 << 20;
    small.lost_after_ms = 60_000;
    let job = driver.submit(small);
    for agent in 1..=FLEET / u64::from(SLOTS) {
        let held = driver.held(agent);
        assert_eq!(held.len(), usize::from(SLOTS));
        driver.started(agent, &held);
        driver.disconnect(agent);
    }
    driver.most_changes = 0;
    (driver, job)
}

const FLEET: u64 = 4_500;
/// What a turn may have, and what one attempt's end may bring about on top.
const TURN: usize = 4_096 + 16;

#[test]
fn what_a_whole_fleet_had_is_given_up_a_part_at_a_time() {
    let (mut driver, job) = a_fleet_gone();
    driver.pass(70 * SECOND);
    assert_eq!(ends(&driver.changes).len() as u64, FLEET);
    assert_eq!(u64::from(driver.counts(job).queued), FLEET);
    assert!(driver.most_changes <= TURN, "{} changes in one turn", driver.most_changes);
}

#[test]
fn a_job_that_is_stopped_while_a_whole_fleet_is_gone_ends_a_part_at_a_time() {
    let (mut driver, job) = a_fleet_gone();
    driver.pass(30 * SECOND);
    driver.most_changes = 0;
    driver.cancel(job);
    driver.pass(SECOND);
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
    assert!(driver.most_changes <= TURN, "{} changes in one turn", driver.most_changes);
}

#[test]
fn a_job_whose_stop_was_recorded_in_part_ends_with_the_next_coordinator() {
    for recorded in [1, 2_000] {
        let (mut driver, job) = a_fleet_gone();
        driver.pass(30 * SECOND);
        driver.dies_after = Some(recorded);
        driver.handle(Event::Cancel { request: RequestId(0), job, by: "ada".into() });
        assert!(driver.died, "after {recorded}");
        driver.pass(30 * SECOND);
        assert_eq!(driver.ledger.state(job), JobState::Cancelled, "after {recorded} changes");
    }
}
