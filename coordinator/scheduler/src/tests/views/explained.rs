//! Why a task is where it is.

use lull_shared::{
    id::{AgentId, JobId, TaskId},
    job::JobSpec,
    message::{RefuseReason, ToCoordinator},
    state::{Intake, PauseReason, TaskState, WaitReason},
};

use crate::{
    event::Event,
    tests::support::driver::{Driver, NOON, after, attempt, capacity, spec},
    views::view::{Explanation, Obstacle},
};

fn explain(driver: &Driver, job: u64, index: u32) -> Option<Explanation> {
    driver.scheduler.explain(TaskId { job: JobId(job), index }, driver.now)
}

fn obstacles(driver: &Driver, job: u64, index: u32) -> Vec<String> {
    let explanation = explain(driver, job, index).expect("an open task");
    let all = explanation
        .agents
        .into_iter()
        .flat_map(|verdict| verdict.obstacles.into_iter().map(move |obstacle| format!("{}: {obstacle}", verdict.name)));
    all.collect()
}

#[test]
fn a_running_task_is_where_it_is() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    let explanation = explain(&driver, 1, 0).expect("an open task");
    let at = explanation.at.expect("a place");
    assert_eq!((explanation.state, explanation.ahead), (TaskState::Running, None));
    assert_eq!((at.attempt, at.agent, at.agent_name.as_str()), (attempt(1, 0, 1), AgentId(1), "pc-1"));
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(explain(&driver, 1, 0), None, "it has ended");
    assert_eq!(explain(&driver, 1, 9), None, "there is no such task");
}

#[test]
fn a_task_of_which_all_copies_are_off_the_processor_is_paused() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    driver.started(1, &[attempt(1, 0, 1)]);
    for (reason, state) in [(Some(PauseReason::Touched), TaskState::Paused), (None, TaskState::Running)] {
        driver.say(1, ToCoordinator::Paused { attempt: attempt(1, 0, 1), reason });
        assert_eq!(explain(&driver, 1, 0).map(|explained| explained.state), Some(state));
    }
}

#[test]
fn a_queued_task_knows_how_many_go_before_it() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit_as("ada", spec(5));
    driver.submit_as("ada", spec(5));
    driver.submit_as("bob", spec(7));
    assert_eq!(explain(&driver, 1, 4).expect("open").ahead, Some(7 + 3), "bob has nothing yet");
    assert_eq!(explain(&driver, 2, 0).expect("open").ahead, Some(7 + 4));
    assert_eq!(explain(&driver, 3, 2).expect("open").ahead, Some(2));
    assert_eq!(obstacles(&driver, 2, 0), ["pc-1: its one slot is taken (0 running, 1 waiting there)"]);
}

#[test]
fn every_agent_says_all_that_is_in_the_way() {
    let mut driver = Driver::with_agents(3, 1);
    driver.enrol(4);
    driver.enrol_and_connect(5, 1);
    driver.set_intake(2, Intake::Draining);
    driver.set_intake(5, Intake::Revoked);
    let mut paused = capacity(3, 1);
    (paused.sequence, paused.paused) = (2, Some(PauseReason::Owner { until: None }));
    driver.handle(Event::Capacity { capacity: paused });
    let mut picky = spec(1);
    picky.constraints = vec!["gpu=yes".parse().expect("a constraint"), "os=windows".parse().expect("a constraint")];
    picky.limits.memory_bytes = 9 << 30;
    driver.submit(picky);
    let lacks = |name: &str| {
        [
            format!("{name}: 9.0 GiB of memory are needed and 8.0 GiB are free"),
            format!("{name}: the job wants gpu=yes and it has no such label"),
            format!("{name}: the job wants os=windows and it has linux"),
        ]
    };
    let mut expected = Vec::from(lacks("pc-1"));
    expected.push("pc-2: it is draining".into());
    expected.extend(lacks("pc-2"));
    expected.push("pc-3: its owner paused it".into());
    expected.extend(lacks("pc-3"));
    expected.push("pc-4: it is not connected".into());
    expected.push("pc-5: it is revoked".into());
    expected.extend(lacks("pc-5"));
    assert_eq!(obstacles(&driver, 1, 0), expected);
}

#[test]
fn a_refusal_is_repeated_with_its_reason() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    driver.say(1, ToCoordinator::Refused { attempt: attempt(1, 0, 1), reason: RefuseReason::Paused });
    let explanation = explain(&driver, 1, 0).expect("open");
    let until = NOON + std::time::Duration::from_secs(1);
    assert_eq!(explanation.agents[0].obstacles, [Obstacle::Refused { reason: "it is paused".into(), until }]);
}

#[test]
fn waiting_has_its_reason() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    driver.submit(after(spec(1), 1, lull_shared::job::DependencyCondition::Any));
    driver.fail(1, attempt(1, 0, 1));
    let explanation = explain(&driver, 1, 0).expect("open");
    assert!(matches!(explanation.waiting, Some(WaitReason::Backoff { until }) if until > NOON));
    assert_eq!(explanation.state, TaskState::Waiting);
    assert_eq!(explain(&driver, 2, 0).expect("open").waiting, Some(WaitReason::Dependency { jobs: vec![JobId(1)] }));
    assert!(matches!(driver.scheduler.job(JobId(1), driver.now).expect("active").waiting, Some(WaitReason::Backoff { .. })));
}

#[test]
fn agents_that_are_there_are_told_before_those_that_are_not() {
    let mut driver = Driver::new();
    driver.enrol(1);
    driver.enrol_and_connect(2, 1);
    driver.enrol(3);
    driver.enrol_and_connect(4, 1);
    driver.set_intake(2, Intake::Cordoned);
    driver.set_intake(4, Intake::Cordoned);
    driver.submit(spec(1));
    let told: Vec<u64> = explain(&driver, 1, 0).expect("open").agents.iter().map(|verdict| verdict.agent.0).collect();
    assert_eq!(told, [2, 4, 1, 3]);
}

#[test]
fn the_tasks_of_a_job_are_each_told_for_one_reason_and_none_twice() {
    let mut driver = Driver::with_agents(2, 2);
    driver.submit(spec(7));
    let live: Vec<_> = (0..7).filter(|index| explain(&driver, 1, *index).is_some_and(|one| one.at.is_some())).collect();
    assert_eq!(live.len(), 4, "two on each: {live:?}");
    let (first, second) = (attempt(1, live[0], 1), attempt(1, live[1], 1));
    let agent_of = |driver: &Driver, index| explain(driver, 1, index).and_then(|one| one.at).expect("with an agent").agent.0;
    let (at_first, at_second) = (agent_of(&driver, first.task.index), agent_of(&driver, second.task.index));
    driver.started(at_first, &[first]);
    driver.started(at_second, &[second]);
    driver.say(at_second, ToCoordinator::Paused { attempt: second, reason: Some(PauseReason::Touched) });
    let told = driver.scheduler.explain_job(JobId(1), driver.now).expect("active");
    let paused: u32 = told.paused.iter().map(|held| held.tasks).sum();
    assert_eq!((told.running, told.running_on, told.with_agents, told.out_of_touch, paused), (1, 1, 2, 0, 1));
    let counts = told.view.counts;
    assert_eq!(counts.running, told.running + told.with_agents + told.out_of_touch);
    assert_eq!((counts.paused, counts.queued), (paused, 3));
    assert_eq!((told.at_once, told.finish_by), (None, None));
}

#[test]
fn that_a_job_is_full_is_told() {
    let mut driver = Driver::with_agents(2, 2);
    driver.submit(JobSpec { at_once: Some(1), ..spec(3) });
    let told = driver.scheduler.explain_job(JobId(1), driver.now).expect("active");
    assert_eq!((told.with_agents, told.at_once), (1, Some(1)));
}
