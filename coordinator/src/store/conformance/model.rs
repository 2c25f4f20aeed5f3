//! Random turns, applied to a store and to the model in memory: everything that can be read must be the same.

use std::{sync::Arc, time::Duration};

use lull_scheduler::{
    effect::{Change, TaskAfter},
    event::{EndedTask, JobSnapshot, OpenAttempt, OpenPlace, Retrying},
};
use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId},
    state::{AttemptEnd, Intake, JobState, PauseReason, TaskCounts, TaskState},
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use rand::{SeedableRng as _, rngs::StdRng};

use super::{
    super::{
        Store, StoreError,
        faulty::{Fault, Faulty, Rates, draw},
        record::*,
    },
    InMemory, World,
    sample::*,
};

/// One step: what to do, to which job or task, and how.
type Step = (u8, u8, u8);

pub(super) async fn random_turns_leave_what_the_model_says(world: World) {
    let world = world.peopled(3).await;
    let random: [u8; 32] = rand::random();
    for seed in [[42; 32], random] {
        println!("{}: seed {}", world.backend.name(), data_encoding::HEXLOWER.encode(&seed));
        let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let steps = proptest::collection::vec(any::<Step>(), 200..400);
        // Stores of all kinds are slow to make, so one long history takes the place of many short ones.
        let steps = steps.new_tree(&mut runner).expect("steps can be drawn").current();
        history(&world, &world.store, &steps).await;
    }
}

/// The same behind faults: a turn that may or may not be stored is found out about by loading.
pub(super) async fn whoever_is_in_doubt_loads_and_knows(world: World) {
    let world = world.peopled(3).await;
    let seed: u64 = rand::random();
    println!("{}: seed {seed}", world.backend.name());
    let mut drawn = StdRng::seed_from_u64(seed);
    let steps: Vec<Step> = (0..300).map(|_| (drawn.random(), drawn.random(), drawn.random())).collect();
    let rates = Rates { refused: 100, lost: 100, unconfirmed: 100, ..Rates::default() };
    let mut faults = StdRng::seed_from_u64(seed);
    let faulty = Faulty::new(world.store.clone(), move |method| match method {
        "commit" => draw(&mut faults, rates),
        _ => Fault::None,
    });
    let store: Arc<dyn Store> = Arc::new(faulty);
    history(&world, &store, &steps).await;
}

/// Commits a turn until it is stored for certain. Only loading tells after a doubt: the store is as the model was
/// before the turn, or as it is after it.
async fn commit(world: &World, store: &Arc<dyn Store>, turn: &[Change]) {
    let loaded = async || {
        let snapshot = world.store.load(&world.lead).await.expect("the store loads").snapshot;
        (snapshot.last_job, snapshot.jobs.into_iter().map(brief).collect::<Vec<_>>(), snapshot.agents)
    };
    let before = loaded().await;
    loop {
        match store.commit(&world.lead, turn).await {
            Ok(()) => return,
            Err(StoreError::Determinate(_)) => assert_eq!(loaded().await, before, "it certainly did not happen"),
            Err(StoreError::Indeterminate(_)) if loaded().await != before => return,
            Err(StoreError::Indeterminate(_)) => {}
            Err(error @ (StoreError::Contradiction(_) | StoreError::Lost(_) | StoreError::Fenced(_))) => panic!("{error}"),
        }
    }
}

/// Plays the steps in turns of random length on the store and on the model, and compares them now and then.
async fn history(world: &World, store: &Arc<dyn Store>, steps: &[Step]) {
    let model = World::on(InMemory::backend()).await.peopled(3).await;
    let first = world.store.load(&world.lead).await.expect("the store loads").snapshot.last_job + 1;
    for number in 1..first {
        model.commit(&[submitted(number, 0), job_ended(number, JobState::Succeeded, number)]).await;
    }
    for agent in 1..=3 {
        let open = Change::AgentIntake {
            agent: AgentId(agent),
            intake: Intake::Open,
            before: Intake::Open,
            by: "root".into(),
            at: at(1),
        };
        world.commit(std::slice::from_ref(&open)).await;
        model.commit(&[open]).await;
    }
    let mut play = Play { model: &model, turn: Vec::new(), second: 1_000 };
    for (number, step) in steps.iter().enumerate() {
        play.step(*step).await;
        if step.2 % 3 == 0 {
            let turn = std::mem::take(&mut play.turn);
            commit(world, store, &turn).await;
        }
        if number % 100 == 99 {
            let turn = std::mem::take(&mut play.turn);
            commit(world, store, &turn).await;
            compare(world, &model, first).await;
        }
    }
    let rest = play.turn;
    commit(world, store, &rest).await;
    compare(world, &model, first).await;
    compare(&world.reopened().await, &model, first).await;
}

/// Draws changes that are possible now. The model is always one step ahead, so that it says what is possible.
struct Play<'a> {
    model: &'a World,
    turn: Vec<Change>,
    second: u64,
}

impl Play<'_> {
    async fn step(&mut self, (what, which, how): Step) {
        self.second += u64::from(how % 7) * 100;
        let now = self.second;
        let snapshot = self.model.store.load(&self.model.lead).await.expect("the model loads").snapshot;
        if what < 30 || snapshot.jobs.is_empty() {
            let who = ["anna", "ben", "carl"][usize::from(which) % 3];
            return self.take(submitted_as(snapshot.last_job + 1, who, spec(1 + u32::from(how) % 6))).await;
        }
        let job = &snapshot.jobs[usize::from(which) % snapshot.jobs.len()];
        let agent = 1 + u64::from(how) % 3;
        match what {
            30..110 if let Some(retrying) = job.retrying => self.retry_part(job.job, retrying, u32::from(how) % 3 + 1).await,
            30..110 if job.expanded < job.spec.inputs.count() && job.stopping.is_none() => {
                self.take(started(attempt(job.job.0, job.expanded, 1), agent, now)).await;
            }
            30..215 if !job.open.is_empty() => {
                let open = job.open[usize::from(how) % job.open.len()].clone();
                let tried = attempt(job.job.0, open.index, open.attempts);
                match open.place {
                    OpenPlace::Waiting { .. } if job.stopping.is_some() => {
                        self.take(task_ended(tried.task, TaskState::Cancelled, now)).await;
                    }
                    OpenPlace::Waiting { .. } => {
                        self.take(started(attempt(job.job.0, open.index, open.attempts + 1), agent, now)).await;
                    }
                    OpenPlace::At(live) => {
                        let next = attempt(job.job.0, open.index, open.attempts + 1);
                        let free = live.iter().all(|live| live.agent != AgentId(agent));
                        if which % 4 == 0 && free && live.len() < 3 && job.stopping.is_none() {
                            self.take(started_beside(next, agent, now)).await;
                        } else {
                            self.end(tried.task, &live, open.failures, (which, how), job.stopping.is_some()).await;
                        }
                    }
                }
                self.settle(job.job).await;
            }
            215..225 if job.stopping.is_none() => {
                let state = if how % 2 == 0 { JobState::Cancelled } else { JobState::Expired };
                self.take(stopped(job.job.0, state, now)).await;
                self.settle(job.job).await;
            }
            225..235 => {
                let id = 1 + u64::from(which) % snapshot.last_job;
                let found = self.model.store.load_for_retry(JobId(id)).await.expect("the model answers");
                let Some(found) = found else { return };
                let bad = !self.bad(JobId(id), 0, 1).await.is_empty();
                if found.stopping.is_some() || bad {
                    self.take(retried(id, bad.then_some((0, found.failed)), now)).await;
                }
            }
            235..240 => {
                let intake = [Intake::Open, Intake::Cordoned, Intake::Draining][usize::from(how) % 3];
                self.take(Change::AgentIntake {
                    agent: AgentId(agent),
                    intake,
                    before: Intake::Open,
                    by: "root".into(),
                    at: at(now),
                })
                .await;
            }
            240..248 => {
                let labels = [("n".to_owned(), how.to_string())].into();
                let (agent, version) = (AgentId(agent), how.to_string());
                self.take(Change::AgentConnected { agent, version, machine: machine(), labels, at: at(now) }).await;
            }
            248..252 => self.take(Change::AgentDisconnected { agent: AgentId(agent), at: at(now) }).await,
            252.. => {
                let attempt = attempt(u64::from(which), 0, 1);
                self.take(Change::ResultRefused { attempt, agent: AgentId(agent), at: at(now) }).await;
            }
            _ => {}
        }
    }

    /// Something happens to one of a task's live attempts; if it ends the task, the others end before.
    async fn end(&mut self, task: TaskId, live: &[OpenAttempt], failures: u32, (which, how): (u8, u8), stopping: bool) {
        let now = self.second;
        let chosen = &live[usize::from(which) % live.len()];
        let (tried, agent) = (AttemptId { task, number: chosen.number }, chosen.agent.0);
        let attempts = self.model.store.attempts(task).await.expect("the model answers");
        let others: Vec<_> = attempts.iter().filter(|other| other.end.is_none() && other.attempt != tried).collect();
        let others_paused = others.iter().all(|other| other.paused.is_some());
        let pause = |reason: Option<PauseReason>| {
            let task_paused = reason.is_some() && others_paused;
            Change::AttemptPaused { attempt: tried, reason, task_paused, at: at(now) }
        };
        let wait = |failures| match others.first() {
            Some(other) => TaskAfter::Continues { agent: other.agent, paused: others_paused, failures },
            None => TaskAfter::Again { not_before: at(now) + Duration::from_secs(u64::from(how % 2)), failures },
        };
        let change = match how % 9 {
            0 => pause(Some(PauseReason::Memory { free_bytes: u64::from(how) })),
            1 => pause(None),
            2 | 3 => succeeded(tried, agent, now, &[how; 3]),
            4 if stopping => ended(tried, agent, now, AttemptEnd::Cancelled, TaskAfter::Cancelled),
            5 => ended(tried, agent, now, AttemptEnd::Failed, TaskAfter::Failed),
            6 if stopping => ended(tried, agent, now, AttemptEnd::Lost, TaskAfter::Expired),
            7 => ended(tried, agent, now, AttemptEnd::Failed, wait(failures + 1)),
            8 => ended(tried, agent, now, AttemptEnd::Lost, wait(failures)),
            _ => ended(tried, agent, now, AttemptEnd::Evicted, wait(failures)),
        };
        let goes_on = match &change {
            Change::AttemptEnded(end) => matches!(end.after, TaskAfter::Continues { .. }),
            _ => true,
        };
        for other in others.into_iter().filter(|_| !goes_on) {
            let paused = chosen_is_paused(&attempts, tried);
            let after = TaskAfter::Continues { agent: chosen.agent, paused, failures };
            self.take(ended(other.attempt, other.agent.0, now, AttemptEnd::Cancelled, after)).await;
        }
        self.take(change).await;
    }

    async fn bad(&self, job: JobId, from: u32, limit: u32) -> Vec<EndedTask> {
        self.model.store.ended_badly(job, from, limit).await.expect("the model answers")
    }

    /// A retry goes on with so many tasks at the most.
    async fn retry_part(&mut self, job: JobId, retrying: Retrying, limit: u32) {
        let bad = self.bad(job, retrying.from, limit).await;
        let failed = bad.iter().filter(|task| task.state == TaskState::Failed).count() as u32;
        let next = bad.last().filter(|_| bad.len() == limit as usize).map(|last| last.index + 1);
        let next = next.map(|from| (from, retrying.forgiven.saturating_sub(failed)));
        self.take(tasks_retried(job.0, &bad, next, self.second)).await;
        self.settle(job).await;
    }

    /// Ends a job when nothing of it is open.
    async fn settle(&mut self, job: JobId) {
        let snapshot = self.model.store.load(&self.model.lead).await.expect("the model loads").snapshot;
        let Some(found) = snapshot.jobs.into_iter().find(|found| found.job == job) else { return };
        let rest = found.retrying.is_some() || found.expanded < found.spec.inputs.count() && found.stopping.is_none();
        if found.open.is_empty() && !rest {
            let state = found.stopping.unwrap_or(if found.failed > 0 { JobState::Failed } else { JobState::Succeeded });
            self.take(job_ended(job.0, state, self.second)).await;
        }
    }

    async fn take(&mut self, change: Change) {
        self.model.commit(std::slice::from_ref(&change)).await;
        self.turn.push(change);
    }
}

fn chosen_is_paused(attempts: &[AttemptRecord], chosen: AttemptId) -> bool {
    attempts.iter().any(|attempt| attempt.attempt == chosen && attempt.paused.is_some())
}

/// Everything that can be read, for jobs from `first` on.
async fn compare(world: &World, model: &World, first: u64) {
    let (left, right) = (&world.store, &model.store);
    let (here, there) =
        (left.load(&world.lead).await.expect("loads").snapshot, right.load(&model.lead).await.expect("loads").snapshot);
    assert_eq!((here.last_job, &here.agents), (there.last_job, &there.agents));
    let jobs = |jobs: Vec<JobSnapshot>| jobs.into_iter().filter(|job| job.job.0 >= first).map(brief).collect::<Vec<_>>();
    assert_eq!(jobs(here.jobs), jobs(there.jobs));
    let all = JobFilter { limit: 10_000, ..JobFilter::default() };
    let recent = |jobs: Vec<JobRecord>| jobs.into_iter().filter(|job| job.job.0 >= first).collect::<Vec<_>>();
    let jobs = recent(left.jobs(&all).await.expect("an answer"));
    assert_eq!(jobs, recent(right.jobs(&all).await.expect("an answer")));
    for job in &jobs {
        compare_job(left, right, job).await;
    }
}

/// A job without its specification, which other cases compare.
fn brief(job: JobSnapshot) -> String {
    let ended = (job.succeeded, job.failed, job.cancelled, job.expired);
    let JobSnapshot { job, submitter, seed, submitted, state, stopping, retrying, expanded, open, .. } = job;
    format!("{job} {submitter} {seed} {submitted} {state} {stopping:?} {retrying:?} {expanded} {ended:?} {open:?}")
}

async fn compare_job(left: &Arc<dyn Store>, right: &Arc<dyn Store>, job: &JobRecord) {
    let tasks = left.tasks(job.job, &TaskFilter::default()).await.expect("an answer");
    assert_eq!(tasks, right.tasks(job.job, &TaskFilter::default()).await.expect("an answer"));
    let mut counted = TaskCounts::default();
    for task in &tasks {
        *counted.get_mut(task.state) += 1;
    }
    assert_eq!(counted, job.counts, "the counters are what a recount says");
    assert_eq!(counted.total(), u64::from(job.spec.inputs.count()), "no task is lost");
    for state in TaskState::ALL {
        let filter = TaskFilter { state: Some(state), from: 1, limit: 2 };
        assert_eq!(
            left.tasks(job.job, &filter).await.expect("an answer"),
            right.tasks(job.job, &filter).await.expect("an answer")
        );
    }
    let results = left.results(job.job, 0, 100).await.expect("an answer");
    assert_eq!(results, right.results(job.job, 0, 100).await.expect("an answer"));
    let moves = left.moves(job.job, 5).await.expect("an answer");
    assert_eq!(moves, right.moves(job.job, 5).await.expect("an answer"));
    for task in tasks {
        assert_eq!(left.attempts(task.task).await.expect("an answer"), right.attempts(task.task).await.expect("an answer"));
        assert_eq!(left.log(task.task, None).await.expect("an answer"), right.log(task.task, None).await.expect("an answer"));
        assert_eq!(left.task(task.task).await.expect("an answer"), Some(task));
    }
    assert_eq!(
        left.load_for_retry(job.job).await.expect("an answer").map(brief),
        right.load_for_retry(job.job).await.expect("an answer").map(brief)
    );
    for (from, limit) in [(0, 100), (1, 2)] {
        let bad = left.ended_badly(job.job, from, limit).await.expect("an answer");
        assert_eq!(bad, right.ended_badly(job.job, from, limit).await.expect("an answer"));
    }
}
