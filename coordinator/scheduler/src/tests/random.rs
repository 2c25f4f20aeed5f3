//! Anything may happen in any order: nothing is lost, nothing counts twice, and once the faults end, every job does.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, JobId},
    job::{Dependency, DependencyCondition, JobSpec, Moving, Priority, RetryPolicy},
    message::{RefuseReason, ReleaseReason, ToCoordinator},
    share::Share,
    state::{Intake, PauseReason},
};
use proptest::{collection::vec, prelude::*};

use crate::{
    Limits,
    event::{Event, Movable, RequestId},
    tests::support::{
        agent::FakeAgent,
        driver::{Driver, capacity, spec},
        promised::Promised,
    },
};

const AGENTS: u64 = 3;
/// Those and the ones that come in the end.
const ALL: u64 = AGENTS + 2;

/// One thing that happens. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Submit(Wish),
    Cancel(usize),
    Retry(usize),
    Intake(u64, Intake),
    Connect(u64),
    /// The stream breaks; the coordinator notices, or the agent is back before it does.
    Break(u64, bool),
    PowerCut(u64),
    Farewell(u64),
    Read(u64),
    ReadAll(u64),
    Start(u64),
    Finish(u64, bool),
    /// The attempt that runs the longest brings another output than it should.
    Lie(u64),
    Trust(u64),
    Save(u64),
    Evict(u64),
    Refuse(u64),
    Pause(u64, bool),
    Capacity(u64, u16, bool),
    Heartbeat(u64),
    Arrive(u64),
    ArriveAll(u64),
    Repeat(u64, usize, bool),
    Pass(u64),
    /// All that an agent has said arrives, and the store takes so long with what comes of it, in which nobody is heard.
    Slow(u64, u64),
    /// The coordinator dies in the turn of a submission that is committed, or not.
    Crash(bool),
    /// It dies in the middle of what one of these brings about, with so many changes committed.
    CutShort(usize, Cause),
    /// The store says what it was asked first: a retry goes on.
    Look,
}

#[derive(Debug, Clone)]
enum Cause {
    Cancel(usize),
    Revoke(u64),
    Arrive(u64),
    Pass(u64),
    Look,
}

#[derive(Debug, Clone)]
struct Wish {
    tasks: u32,
    submitter: bool,
    priority: i8,
    retries: u32,
    failures_max: Option<u32>,
    after: Option<(usize, bool)>,
    finish_by_ms: Option<u64>,
    movable: bool,
    verify: u16,
    at_once: Option<u32>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let after = proptest::option::weighted(0.3, (any::<usize>(), any::<bool>()));
    let finish_by = proptest::option::weighted(0.1, 1..20_000_u64);
    let tasks = prop_oneof![3 => 1..6_u32, 1 => 20..60_u32];
    let who = (any::<bool>(), any::<bool>(), prop_oneof![2 => Just(0_u16), 1 => Just(5_000), 1 => Just(10_000)]);
    let at_once = proptest::option::weighted(0.2, 1..4_u32);
    (tasks, who, -1..2_i8, 0..3_u32, proptest::option::weighted(0.2, 1..3_u32), after, finish_by, at_once).prop_map(
        |(tasks, (submitter, movable, verify), priority, retries, failures_max, after, finish_by_ms, at_once)| Wish {
            tasks,
            submitter,
            priority,
            retries,
            failures_max,
            after,
            finish_by_ms,
            movable,
            verify,
            at_once,
        },
    )
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![
        4 => any::<usize>().prop_map(Cause::Cancel),
        1 => (1..=AGENTS).prop_map(Cause::Revoke),
        6 => (1..=AGENTS).prop_map(Cause::Arrive),
        4 => (1..9_000_u64).prop_map(Cause::Pass),
        4 => Just(Cause::Look),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let agent = || 1..=AGENTS;
    let intake = prop_oneof![6 => Just(Intake::Open), 2 => Just(Intake::Cordoned), 2 => Just(Intake::Draining), 1 => Just(Intake::Revoked)];
    prop_oneof![
        6 => wish().prop_map(Step::Submit),
        1 => any::<usize>().prop_map(Step::Cancel),
        2 => any::<usize>().prop_map(Step::Retry),
        1 => (agent(), intake).prop_map(|(agent, intake)| Step::Intake(agent, intake)),
        5 => agent().prop_map(Step::Connect),
        2 => (agent(), any::<bool>()).prop_map(|(agent, noticed)| Step::Break(agent, noticed)),
        1 => agent().prop_map(Step::PowerCut),
        1 => agent().prop_map(Step::Farewell),
        6 => agent().prop_map(Step::Read),
        12 => agent().prop_map(Step::ReadAll),
        12 => agent().prop_map(Step::Start),
        14 => (agent(), proptest::bool::weighted(0.8)).prop_map(|(agent, well)| Step::Finish(agent, well)),
        1 => agent().prop_map(Step::Lie),
        1 => agent().prop_map(Step::Trust),
        2 => agent().prop_map(Step::Save),
        2 => agent().prop_map(Step::Evict),
        2 => agent().prop_map(Step::Refuse),
        2 => (agent(), any::<bool>()).prop_map(|(agent, on)| Step::Pause(agent, on)),
        2 => (agent(), 0..4_u16, any::<bool>()).prop_map(|(agent, slots, paused)| Step::Capacity(agent, slots, paused)),
        8 => agent().prop_map(Step::Heartbeat),
        6 => agent().prop_map(Step::Arrive),
        14 => agent().prop_map(Step::ArriveAll),
        3 => (agent(), any::<usize>(), any::<bool>()).prop_map(|(agent, which, old)| Step::Repeat(agent, which, old)),
        8 => (1..3_000_u64).prop_map(Step::Pass),
        2 => (agent(), 500..20_000_u64).prop_map(|(agent, ms)| Step::Slow(agent, ms)),
        1 => any::<bool>().prop_map(Step::Crash),
        4 => Just(Step::Look),
        3 => (0..6_usize, cause()).prop_map(|(changes, cause)| Step::CutShort(changes, cause)),
    ]
}

struct World {
    driver: Driver,
    agents: Vec<FakeAgent>,
    sequence: u64,
}

impl World {
    fn new() -> Self {
        // Moves happen within the seconds that pass here, and what takes longer than one of them gets a second copy.
        let limits = Limits {
            move_gain_min: Duration::from_millis(200),
            stalled_after: Duration::from_millis(500),
            straggler_time_min: Duration::from_secs(1),
            straggler_after_results: 1,
            straggler_look: Duration::from_millis(300),
            // What ends or is queued again in parts does so in many here.
            effects_waiting_max: 12,
            retry_part_max: 3,
            ..Limits::default()
        };
        let mut driver = Driver::with(limits);
        driver.promised = Some(Promised::default());
        driver.looks_wait = true;
        (1..=ALL).for_each(|agent| driver.enrol(agent));
        let agents = (1..=ALL).map(|agent| FakeAgent::new(agent, agent as u16)).collect();
        let mut world = Self { driver, agents, sequence: 1 };
        (1..=AGENTS).for_each(|agent| world.step(Step::Connect(agent)));
        world
    }

    fn agent(&mut self, agent: u64) -> &mut FakeAgent {
        &mut self.agents[agent as usize - 1]
    }

    fn handle(&mut self, event: Event) {
        self.driver.handle(event);
        self.distribute();
    }

    /// Puts the last turn's orders on their way.
    fn distribute(&mut self) {
        for (agent, stream, number, order) in std::mem::take(&mut self.driver.sent) {
            self.agents[agent.0 as usize - 1].send(stream, number, order);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.driver.pass(Duration::from_millis(ms));
        self.distribute();
    }

    fn arrive(&mut self, agent: u64) -> bool {
        let event = self.agent(agent).arrive();
        let arrived = event.is_some();
        event.into_iter().for_each(|event| self.handle(event));
        arrived
    }

    fn look(&mut self) {
        self.driver.answer_look();
        self.distribute();
    }

    fn some_job(&self, which: usize) -> Option<JobId> {
        let jobs: Vec<_> = self.driver.ledger.jobs().collect();
        (!jobs.is_empty()).then(|| jobs[which % jobs.len()])
    }

    fn spec(&self, wish: &Wish) -> JobSpec {
        let dependency = wish.after.and_then(|(which, ok)| {
            let condition = if ok { DependencyCondition::Ok } else { DependencyCondition::Any };
            Some(Dependency { job: self.some_job(which)?, condition })
        });
        JobSpec {
            priority: Priority(wish.priority),
            retry: RetryPolicy { retries: wish.retries, backoff_ms: 200, backoff_max_ms: 1_000 },
            failures_max: wish.failures_max,
            at_once: wish.at_once,
            after: dependency.into_iter().collect(),
            verify: Share::of_hundredths(wish.verify),
            finish_by: wish.finish_by_ms.map(|ms| self.driver.now + Duration::from_millis(ms)),
            ..spec(wish.tasks)
        }
    }

    fn submit(&mut self, wish: &Wish) {
        let mut spec = self.spec(wish);
        spec.moving = if wish.movable { Moving::Always } else { Moving::Never };
        self.driver.movable = Some(Movable { cost_percent: 110 });
        self.driver.try_submit(if wish.submitter { "ada" } else { "bob" }, spec);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit(wish) => {
                self.submit(&wish);
                self.distribute();
            }
            Step::Cancel(which) => {
                let Some(job) = self.some_job(which) else { return };
                self.handle(Event::Cancel { request: RequestId(0), job, by: "ada".into() });
            }
            Step::Retry(which) => {
                let Some(job) = self.some_job(which) else { return };
                self.driver.retry(job);
                self.distribute();
            }
            // The first agent stays, so that the work can be done in the end.
            Step::Intake(1, Intake::Revoked) => {}
            Step::Intake(agent, intake) => {
                let agent = AgentId(agent);
                self.handle(Event::SetIntake { request: RequestId(0), agent, intake, by: "root".into() });
            }
            Step::Connect(agent) => {
                let event = self.agent(agent).connect();
                self.handle(event);
            }
            Step::Break(agent, noticed) => {
                let stream = self.agent(agent).cut().filter(|_| noticed);
                self.gone(agent, stream);
            }
            Step::PowerCut(agent) => {
                let stream = self.agent(agent).lose_power();
                self.gone(agent, stream);
            }
            Step::Farewell(agent) => {
                while self.arrive(agent) {}
                self.agent(agent).say(ToCoordinator::Farewell);
                self.arrive(agent);
                self.agent(agent).lose_power();
            }
            Step::Read(agent) => drop(self.agent(agent).read()),
            Step::ReadAll(agent) => while self.agent(agent).read() {},
            Step::Start(agent) => self.agent(agent).start(),
            Step::Finish(agent, well) => self.agent(agent).finish(well),
            Step::Lie(agent) => self.agent(agent).lie(),
            Step::Trust(agent) => {
                let agent = AgentId(agent);
                self.handle(Event::Trust { request: RequestId(0), agent, by: "root".into() });
            }
            Step::Save(agent) => self.agent(agent).save(),
            Step::Evict(agent) => {
                let Some(attempt) = self.agent(agent).next_running() else { return };
                let reason = ReleaseReason::Evicted(PauseReason::Owner { until: None });
                self.agent(agent).say(ToCoordinator::Released { attempts: vec![attempt], reason });
            }
            Step::Refuse(agent) => {
                let Some(attempt) = self.agent(agent).next_waiting() else { return };
                self.agent(agent).say(ToCoordinator::Refused { attempt, reason: RefuseReason::Full });
            }
            Step::Pause(agent, on) => {
                let Some(attempt) = self.agent(agent).first_running() else { return };
                let reason = on.then_some(PauseReason::Beside { slots: 1 });
                self.agent(agent).say(ToCoordinator::Paused { attempt, reason });
            }
            Step::Capacity(agent, slots, paused) => self.capacity(agent, slots, paused),
            Step::Heartbeat(agent) => self.agent(agent).heartbeat(),
            Step::Arrive(agent) => drop(self.arrive(agent)),
            Step::ArriveAll(agent) => while self.arrive(agent) {},
            Step::Repeat(agent, which, old) => {
                let event = self.agent(agent).repeat(which, old);
                event.into_iter().for_each(|event| self.handle(event));
            }
            Step::Pass(ms) => self.pass(ms),
            Step::Slow(agent, ms) => {
                while self.arrive(agent) {}
                self.driver.now = self.driver.now + Duration::from_millis(ms);
                self.driver.scheduler.excuse_silence(Duration::from_millis(ms), self.driver.now);
                self.pass(1);
            }
            Step::Crash(committed) => self.crash(committed),
            Step::CutShort(changes, cause) => self.cut_short(changes, cause),
            Step::Look => self.look(),
        }
    }

    fn gone(&mut self, agent: u64, stream: Option<crate::event::StreamId>) {
        let Some(stream) = stream else { return };
        self.handle(Event::Disconnected { agent: AgentId(agent), stream });
    }

    fn capacity(&mut self, agent: u64, slots: u16, paused: bool) {
        self.sequence += 1;
        self.agent(agent).slots = slots;
        let mut offer = capacity(agent, slots);
        offer.sequence = self.sequence;
        offer.paused = paused.then_some(PauseReason::Owner { until: None });
        self.agent(agent).say(ToCoordinator::Capacity(offer.clone()));
        self.handle(Event::Capacity { capacity: offer });
    }

    /// Dies after a turn was decided, before any of it was sent.
    fn crash(&mut self, committed: bool) {
        let before = (self.driver.ledger.clone(), self.driver.promised.clone());
        let wish = Wish {
            tasks: 2,
            submitter: true,
            priority: 0,
            retries: 1,
            failures_max: None,
            after: None,
            finish_by_ms: None,
            movable: true,
            verify: 0,
            at_once: None,
        };
        self.submit(&wish);
        if !committed {
            (self.driver.ledger, self.driver.promised) = before;
        }
        self.agents.iter_mut().for_each(|agent| {
            agent.cut();
        });
        self.driver.crash();
    }

    /// Dies after a part of a turn was committed.
    fn cut_short(&mut self, changes: usize, cause: Cause) {
        self.driver.dies_after = Some(changes);
        match cause {
            Cause::Cancel(which) => {
                let active: Vec<JobId> = self.driver.scheduler.jobs(self.driver.now).iter().map(|view| view.job).collect();
                if let Some(job) = which.checked_rem(active.len()).map(|which| active[which]) {
                    self.driver.handle(Event::Cancel { request: RequestId(0), job, by: "ada".into() });
                }
            }
            Cause::Revoke(agent) => {
                let (request, by) = (RequestId(0), "root".to_owned());
                self.driver.handle(Event::SetIntake { request, agent: AgentId(agent), intake: Intake::Revoked, by });
            }
            Cause::Arrive(agent) => drop(self.arrive(agent)),
            Cause::Pass(ms) => self.pass(ms),
            Cause::Look => self.look(),
        }
        self.driver.dies_after = None;
        self.distribute();
        if std::mem::take(&mut self.driver.died) {
            for agent in &mut self.agents {
                agent.cut();
            }
        }
    }

    /// No more faults: everybody is there, willing, able and trusted, and others beside those that were revoked, since it
    /// takes three to settle a difference.
    fn heal(&mut self) {
        for agent in 1..=ALL {
            let id = AgentId(agent);
            self.handle(Event::Trust { request: RequestId(0), agent: id, by: "root".into() });
            self.handle(Event::SetIntake { request: RequestId(0), agent: id, intake: Intake::Open, by: "root".into() });
            self.agent(agent).slots = 2;
            self.step(Step::Connect(agent));
        }
    }

    fn work(&mut self) {
        self.look();
        for agent in 1..=ALL {
            while self.agent(agent).read() {}
            self.agent(agent).start();
            self.agent(agent).finish(true);
            self.agent(agent).finish(true);
            self.agent(agent).heartbeat();
            while self.arrive(agent) {}
        }
        self.pass(500);
    }

    fn all_ended(&self) -> bool {
        self.driver.ledger.jobs().all(|job| self.driver.ledger.state(job).is_ended())
    }
}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    // Whoever only wants to know whether it fails says so by PROPTEST_MAX_SHRINK_ITERS.
    let max_shrink_iters = if default.max_shrink_iters == u32::MAX { 20_000 } else { default.max_shrink_iters };
    ProptestConfig { cases: 96, max_shrink_iters, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_nothing_is_lost_and_every_job_ends(steps in vec(step(), 1..250)) {
        ends_well(steps);
    }
}

/// A history, after which everything heals. One that goes wrong is printed as small as it can be made: as a list of steps it
/// is a test of its own.
fn ends_well(steps: Vec<Step>) {
    let mut world = World::new();
    steps.into_iter().for_each(|step| world.step(step));
    world.heal();
    let mut rounds = 0;
    while !world.all_ended() {
        rounds += 1;
        assert!(rounds < 600, "jobs do not end: {:?}", world.driver.scheduler.jobs(world.driver.now));
        world.work();
    }
    assert!((1..=ALL).all(|agent| world.driver.held(agent).is_empty()));
    for agent in 1..=AGENTS {
        let view = world.driver.scheduler.agent(AgentId(agent));
        if view.is_some_and(|view| view.intake == Intake::Revoked) {
            // Nobody speaks to it any more.
            continue;
        }
        // What was said of discarding is read, or said again to whoever greets.
        world.step(Step::Connect(agent));
        world.step(Step::ReadAll(agent));
        assert_eq!(world.agent(agent).keeps(), 0, "no snapshot outlives its task");
    }
}

/// A start, an end or an order that no promise allows, as a faulty scheduler would bring it about.
mod noticed {
    use super::*;
    use crate::{
        effect::{Change, EndedAttempt, Given, Order, TaskAfter},
        event::StreamId,
        tests::support::driver::attempt,
    };
    use lull_shared::{
        job::RetryPolicy,
        message::{Build, Payload},
        state::AttemptEnd,
    };

    /// A task runs at the first of two agents, another waits.
    fn told() -> (Driver, Promised) {
        let mut driver = Driver::new();
        driver.promised = Some(Promised::default());
        (1..=2).for_each(|agent| driver.enrol_and_connect(agent, 1));
        driver.set_intake(2, Intake::Cordoned);
        driver.submit(JobSpec { retry: RetryPolicy { retries: 0, ..RetryPolicy::default() }, ..spec(2) });
        driver.started(1, &[attempt(1, 0, 1)]);
        let promised = driver.promised.clone().expect("it is there from the beginning");
        (driver, promised)
    }

    fn start(index: u32, number: u32, agent: u64, beside: bool) -> Change {
        Change::AttemptStarted {
            attempt: attempt(1, index, number),
            agent: AgentId(agent),
            at: crate::tests::support::driver::NOON,
            build: Build::Plain,
            resume: None,
            beside,
            cause: beside.then(|| "it is slow".into()),
        }
    }

    fn end(end: AttemptEnd, after: TaskAfter, output: Option<&'static str>) -> Change {
        Change::AttemptEnded(Box::new(EndedAttempt {
            attempt: attempt(1, 0, 1),
            agent: AgentId(1),
            end,
            reason: None,
            failure: None,
            at: crate::tests::support::driver::NOON,
            after,
            output: output.map(Payload::inline),
            answer: None,
            log: Default::default(),
            log_dropped_bytes: 0,
            usage: Default::default(),
            slot_us: 0,
        }))
    }

    #[test]
    #[should_panic(expected = "which takes nothing new")]
    fn a_start_at_a_cordoned_agent() {
        let (driver, mut promised) = told();
        promised.records(&start(1, 1, 2, false), driver.now);
    }

    #[test]
    #[should_panic(expected = "j1.0#2 starts at a1 beside")]
    fn a_second_copy_beside_the_first_at_the_same_agent() {
        let (driver, mut promised) = told();
        promised.records(&start(0, 2, 1, true), driver.now);
    }

    #[test]
    #[should_panic(expected = "succeeds and a1 said None")]
    fn a_success_that_nobody_told() {
        let (driver, mut promised) = told();
        promised.time_passes();
        promised.records(&end(AttemptEnd::Succeeded, TaskAfter::Succeeded, Some("42")), driver.now);
    }

    #[test]
    #[should_panic(expected = "is lost after")]
    fn a_loss_for_a_moments_silence() {
        let (driver, mut promised) = told();
        promised.time_passes();
        let after = TaskAfter::Again { not_before: driver.now, failures: 0 };
        promised.records(&end(AttemptEnd::Lost, after, None), driver.now);
    }

    #[test]
    #[should_panic(expected = "is acknowledged and a1 never told its end")]
    fn an_acknowledgement_of_what_was_not_told() {
        let (_, mut promised) = told();
        let attempts = vec![attempt(1, 0, 1)];
        promised.says(AgentId(1), StreamId(1), &Order::Acknowledge { attempts });
    }

    #[test]
    #[should_panic(expected = "a2 is given j1.0#1")]
    fn an_order_for_what_another_agent_has() {
        let (_, mut promised) = told();
        let attempts = vec![Given { attempt: attempt(1, 0, 1), build: Build::Plain, resume: None }];
        promised.says(AgentId(2), StreamId(1), &Order::Assign { attempts });
    }

    #[test]
    #[should_panic(expected = "it is still live")]
    fn a_result_of_which_nothing_comes() {
        let (driver, mut promised) = told();
        let result = crate::tests::support::driver::success(attempt(1, 0, 1), Duration::from_secs(1));
        let message = ToCoordinator::Finished(vec![result]);
        promised.hears(&Event::Message { agent: AgentId(1), stream: StreamId(1), message }, driver.now);
        promised.ends();
    }

    #[test]
    #[should_panic(expected = "was cancelled and goes on")]
    fn a_cancellation_of_which_nothing_comes() {
        let (driver, mut promised) = told();
        promised.hears(&Event::Cancel { request: RequestId(1), job: JobId(1), by: "ada".into() }, driver.now);
        promised.ends();
    }

    #[test]
    fn a_history_in_which_all_goes_well_is_allowed() {
        let (mut driver, _) = told();
        driver.succeed(1, &[attempt(1, 0, 1)]);
        driver.fail(1, attempt(1, 1, 1));
        assert!(driver.ledger.state(JobId(1)).is_ended());
    }
}
