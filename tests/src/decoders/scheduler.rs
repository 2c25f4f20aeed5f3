//! A lying agent's words, as the scheduler takes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lull_scheduler::{
    Limits, Scheduler,
    effect::{Change, Effect, TaskAfter},
    event::{AgentSnapshot, Event, RequestId, StreamId, Submission},
};
use lull_shared::{
    codec,
    id::{AgentId, AttemptId, JobId, TaskId, TokenId, VersionId},
    job::{Inputs, JobSpec},
    message::{Finished, Hello, Outcome, Payload, ToCoordinator, ToCoordinatorFrame},
    resources::{Capacity, Machine},
    state::{AttemptEnd, Intake, Usage},
    time::Timestamp,
};

/// One frame of the agent `a2`, which has a share of the job `j1` of six tasks; `a1` has another, and gives its signs of
/// life. Time passes between the messages; a second hello is taken as that of a new stream.
///
/// After every word everything adds up and `a1` has what it had; in the end `a1` finishes the job, and each task has
/// ended once.
pub fn scheduler(bytes: &[u8]) {
    let Ok(frame) = codec::decode::<ToCoordinatorFrame>(bytes) else { return };
    let mut world = World::new();
    let honest = world.held(HONEST);
    assert!(!honest.is_empty() && !world.held(LIAR).is_empty(), "both have work");
    for message in frame.messages.into_iter().take(WORDS_MAX) {
        world.lie(message);
        let held = world.held(HONEST);
        assert!(honest.iter().all(|attempt| held.contains(attempt)), "{honest:?} became {held:?}");
    }
    world.finish(&honest);
}

const HONEST: AgentId = AgentId(1);
const LIAR: AgentId = AgentId(2);
const JOB: JobId = JobId(1);
const TASKS: u32 = 6;
/// Words of one frame that are taken: more show nothing new.
const WORDS_MAX: usize = 64;

struct World {
    scheduler: Scheduler,
    now: Timestamp,
    streams: BTreeMap<AgentId, StreamId>,
    /// How often each task has ended.
    ended: BTreeMap<TaskId, u32>,
    /// Attempts that succeeded, with their agent and output.
    results: BTreeMap<AttemptId, (AgentId, Option<Payload>)>,
}

impl World {
    fn new() -> Self {
        // Monday, 2026-11-23, 12:00 UTC.
        let now = Timestamp::from_millis(1_795_435_200_000);
        let scheduler = Scheduler::restore(Default::default(), Limits::default(), 7, now);
        let mut world = Self { scheduler, now, streams: BTreeMap::new(), ended: BTreeMap::new(), results: BTreeMap::new() };
        for agent in [HONEST, LIAR] {
            let snapshot =
                AgentSnapshot { agent, name: format!("desk-{}", agent.0), group: None, intake: Intake::Open, quarantine: None };
            world.handle(Event::Enrolled { agent: snapshot });
            world.connect(agent, hello(agent));
        }
        let submission = Submission {
            owner: TokenId(1),
            submitter: "ada".into(),
            spec: spec(),
            version_name: "echo@1".into(),
            seed: 1,
            movable: None,
            ended: BTreeMap::new(),
        };
        world.handle(Event::Submit { request: RequestId(1), submission: Box::new(submission) });
        world
    }

    fn connect(&mut self, agent: AgentId, hello: Hello) {
        let stream = StreamId(self.streams.values().map(|stream| stream.0).max().unwrap_or(0) + 1);
        self.streams.insert(agent, stream);
        self.handle(Event::Connected { agent, stream, hello: Box::new(hello), from: String::new() });
    }

    fn lie(&mut self, message: ToCoordinator) {
        match message {
            ToCoordinator::Hello(hello) => self.connect(LIAR, *hello),
            ToCoordinator::Capacity(capacity) if capacity.agent == LIAR => {
                self.handle(Event::Capacity { capacity: capacity.clone() });
                self.say(LIAR, ToCoordinator::Capacity(capacity));
            }
            message => self.say(LIAR, message),
        }
        self.now = self.now + Duration::from_millis(100);
        let holding = self.held(HONEST).into_iter().collect();
        self.say(HONEST, ToCoordinator::Heartbeat { frame_read: 0, holding });
        if self.scheduler.poll_timeout().is_some_and(|due| due <= self.now) {
            self.scheduler.handle_timeout(self.now);
            self.drain();
        }
    }

    fn say(&mut self, agent: AgentId, message: ToCoordinator) {
        self.handle(Event::Message { agent, stream: self.streams[&agent], message });
    }

    fn held(&self, agent: AgentId) -> BTreeSet<AttemptId> {
        self.scheduler.agent(agent).expect("it is enrolled").attempts.into_iter().collect()
    }

    /// The honest agent does its work, and then everybody's.
    fn finish(&mut self, own: &BTreeSet<AttemptId>) {
        self.deliver(own.iter().copied());
        for attempt in own {
            let output = Payload::inline(attempt.to_string());
            assert_eq!(self.results.get(attempt), Some(&(HONEST, Some(output))), "{attempt} counts as it was delivered");
        }
        self.handle(Event::Disconnected { agent: LIAR, stream: self.streams[&LIAR] });
        for _ in 0..1_000 {
            if self.scheduler.job(JOB, self.now).is_none() {
                let all: Vec<u32> = (0..TASKS).map(|index| self.ended[&TaskId { job: JOB, index }]).collect();
                assert_eq!(all, [1; TASKS as usize], "every task has ended once");
                return;
            }
            let held = self.held(HONEST);
            self.deliver(held.into_iter());
            self.say(HONEST, ToCoordinator::Heartbeat { frame_read: u64::MAX, holding: Vec::new() });
            self.now = self.scheduler.poll_timeout().unwrap_or(self.now).max(self.now);
            self.scheduler.handle_timeout(self.now);
            self.drain();
        }
        panic!("the job does not end: {:?}", self.scheduler.job(JOB, self.now));
    }

    fn deliver(&mut self, attempts: impl Iterator<Item = AttemptId>) {
        let results = attempts.map(|attempt| Finished {
            attempt,
            outcome: Outcome::Succeeded { output: Payload::inline(attempt.to_string()) },
            log: Default::default(),
            log_dropped_bytes: 0,
            usage: Usage::default(),
        });
        self.say(HONEST, ToCoordinator::Finished(results.collect()));
    }

    fn handle(&mut self, event: Event) {
        self.scheduler.handle(event, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.scheduler.poll_effect() {
            let Effect::Record(change) = effect else { continue };
            match change {
                Change::AttemptEnded(ended) => {
                    match ended.after {
                        TaskAfter::Again { .. } | TaskAfter::Continues { .. } => {}
                        _ => *self.ended.entry(ended.attempt.task).or_default() += 1,
                    }
                    if ended.end == AttemptEnd::Succeeded {
                        let before = self.results.insert(ended.attempt, (ended.agent, ended.output));
                        assert_eq!(before, None, "{} succeeds once", ended.attempt);
                    }
                }
                Change::TaskEnded { task, .. } => *self.ended.entry(task).or_default() += 1,
                _ => {}
            }
        }
        assert_eq!(self.scheduler.audit(), Ok(()));
    }
}

fn hello(agent: AgentId) -> Hello {
    let capacity = Capacity {
        agent,
        run: 0,
        sequence: 1,
        slots: 2,
        slots_busy: 0,
        waiting: 0,
        cpu_free_percent: 100,
        memory_free_bytes: 8 << 30,
        paused: None,
    };
    let machine = Machine { os: "linux".into(), arch: "x86_64".into(), cores: 4, memory_bytes: 16 << 30, engine: "e".into() };
    Hello {
        agent_version: "0.1.0".into(),
        machine,
        labels: Default::default(),
        capacity,
        holding: Vec::new(),
        snapshots: Vec::new(),
        instance: Default::default(),
        open_cage: None,
    }
}

fn spec() -> JobSpec {
    JobSpec::plain("echo", VersionId(1), Inputs::Range { first: 0, count: TASKS })
}
