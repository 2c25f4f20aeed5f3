//! A coordinator's words, as the agent's session takes them.

use lull_session::{Config, Effect, Event, Session, Standing, StartError, guard::Rules};
use lull_shared::{
    codec,
    digest::BlobRef,
    id::{AgentId, Term},
    identity::Authority,
    limits,
    message::{ToAgent, ToAgentFrame, ToCoordinator, Welcome},
    policy::Policy,
    resources::{Labels, Machine},
    state::Intake,
    time::Timestamp,
};

use super::{choice, identity::authority};

/// One frame of a coordinator that has said its welcome. The first byte's bits say what fails on the agent's side: 1
/// fetching, 2 starting executors, 4 the disk; and with 8 the agent runs out of time after each message.
///
/// After every message everything adds up, and the agent never holds more than it may.
pub fn session(bytes: &[u8]) {
    let (how, body) = choice(bytes);
    let Ok(frame) = codec::decode::<ToAgentFrame>(body) else { return };
    let mut world = World { session: Session::new(config(), &[], START), now: START, how };
    world.handle(Event::Connected);
    world.handle(Event::Frame(ToAgentFrame { number: 1, messages: vec![welcome()] }));
    for message in frame.messages.into_iter().take(MESSAGES_MAX) {
        world.handle(Event::Frame(ToAgentFrame { number: frame.number, messages: vec![message] }));
        if how & 8 != 0 {
            world.wait();
        }
    }
    for _ in 0..8 {
        world.wait();
    }
    world.handle(Event::Disconnected);
}

const START: Timestamp = Timestamp::from_millis(1_795_435_200_000);
/// Messages of one frame that are taken: more show nothing new.
const MESSAGES_MAX: usize = 64;
/// What the agent does for one event before it counts as never coming to rest.
const EFFECTS_MAX: usize = 100_000;
/// The engine that the seeds' briefs have an artifact for.
pub(super) const ENGINE: &str = "engine-1";

struct World {
    session: Session,
    now: Timestamp,
    how: u8,
}

impl World {
    fn handle(&mut self, event: Event) {
        self.session.handle(event, self.now);
        for _ in 0..EFFECTS_MAX {
            self.session.audit();
            let Some(effect) = self.session.poll_effect() else { return };
            if let Some(answer) = self.carry_out(effect) {
                self.session.handle(answer, self.now);
            }
        }
        panic!("it does not come to rest");
    }

    fn wait(&mut self) {
        if let Some(due) = self.session.poll_timeout(self.now) {
            self.now = due.max(self.now);
            self.session.handle_timeout(self.now);
            self.handle(Event::Slept(std::time::Duration::ZERO));
        }
    }

    fn carry_out(&self, effect: Effect) -> Option<Event> {
        let fails = |bit: u8| self.how & bit != 0;
        match effect {
            Effect::Send(ToCoordinator::Heartbeat { holding, .. }) => {
                assert!(holding.len() <= limits::ATTEMPTS_PER_AGENT_MAX, "it holds {}", holding.len());
                None
            }
            Effect::Fetch(blob) => {
                let result = if fails(1) { Err("nobody has it".into()) } else { Ok(()) };
                Some(Event::Fetched { digest: blob.digest, result })
            }
            Effect::Start { slot, .. } if fails(2) => {
                Some(Event::StartFailed { slot, error: StartError::Executor("no process".into()) })
            }
            Effect::Start { slot, .. } => Some(Event::Ready { slot }),
            Effect::Suspend { slot, attempt } if fails(8) => {
                Some(Event::Saved { slot, attempt, snapshot: BlobRef::of(b"snapshot"), suspended: true })
            }
            Effect::Kill { slot } | Effect::Suspend { slot, .. } => Some(Event::Gone { slot, failed: None }),
            Effect::Checkpoint { slot, attempt } => {
                Some(Event::Saved { slot, attempt, snapshot: BlobRef::of(b"snapshot"), suspended: false })
            }
            Effect::Probe(part) => Some(Event::Probed { part, result: Ok(()) }),
            Effect::Keep(record) if fails(4) => {
                Some(Event::NotKept { attempts: vec![record.attempt], reason: "the disk is full".into() })
            }
            Effect::Keep(record) => Some(Event::Kept { attempts: vec![record.attempt] }),
            Effect::Recollect(attempts) => Some(Event::Recollected { records: Vec::new(), missing: attempts }),
            Effect::Send(_)
            | Effect::Close(_)
            | Effect::Erase(_)
            | Effect::ReadLog { .. }
            | Effect::Wake(_)
            | Effect::Log(_)
            | Effect::Adopt(_)
            | Effect::Learn(_)
            | Effect::Upgrade(_)
            | Effect::KeepPolicy(_)
            | Effect::Publish(_)
            | Effect::Unpin(_)
            | Effect::Serve { .. }
            | Effect::Run { .. }
            | Effect::Freeze { .. }
            | Effect::Thaw { .. }
            | Effect::Deliver { .. }
            | Effect::Drop(_)
            | Effect::Quit => None,
        }
    }
}

fn config() -> Config {
    Config {
        agent: AgentId(300),
        agent_version: "0.1.0".into(),
        instances: [11, 12],
        machine_number: 13,
        machine: Machine { os: "linux".into(), arch: "x86_64".into(), cores: 4, memory_bytes: 8 << 30, engine: ENGINE.into() },
        labels: Labels::new(),
        authority: Authority::of(&authority()),
        rules: Rules::default(),
        standing: Standing { admin: Policy::unrestricted(), ..Standing::default() },
        slots: 2,
        memory_bytes_max: 4 << 30,
        snapshot_every: std::time::Duration::from_secs(300),
        warm_time: std::time::Duration::from_secs(20),
        works_in_open_cage: false,
    }
}

fn welcome() -> ToAgent {
    ToAgent::Welcome(Welcome {
        agent: AgentId(300),
        term: Term(1),
        term_proof: None,
        heartbeat_ms: 1_000,
        intake: Intake::Open,
        certificate: None,
        policy: None,
        coordinators: Vec::new(),
        portal: None,
    })
}
