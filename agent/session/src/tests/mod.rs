//! Events in, effects out, an audit after every step.

mod bounds;
mod broken;
mod ends;
mod gives_way;
mod keeps;
mod moves;
mod properties;
mod reports;
mod turns;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use libp2p_identity::Keypair;
use lull_shared::{
    digest::BlobRef,
    id::{AgentId, AttemptId, JobId, TaskId, Term},
    identity::{self, Authority, NetworkId, TermProof},
    job::{AttemptLimits, Grants},
    message::{
        Artifact, Assignment, Build, Finished, GoodbyeReason, JobBrief, MigratableBuild, ModuleKind, ModuleManifest, Outcome,
        Payload, RecallReason, RefuseReason, ReleaseReason, ToAgent, ToAgentFrame, ToCoordinator, Welcome,
    },
    policy::{Policy, Span},
    resources::{Labels, Machine},
    state::{Failure, Intake, PauseReason, Usage},
    time::Timestamp,
};

use super::*;
use crate::guard::{OwnerWord, Rules};

pub(super) const ENGINE: &str = "engine-1";
pub(super) const MIB: u64 = 1024 * 1024;

pub(super) fn authority() -> libp2p_identity::Keypair {
    libp2p_identity::Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a secret key")
}

pub(super) fn config(slots: u16) -> Config {
    Config {
        agent: AgentId(3),
        agent_version: "0.1.0".into(),
        instances: [11, 12],
        machine_number: 13,
        machine: Machine { os: "linux".into(), arch: "x86_64".into(), cores: 4, memory_bytes: 8192 * MIB, engine: ENGINE.into() },
        labels: Labels::new(),
        authority: Authority::of(&authority()),
        rules: Rules::default(),
        // A pause that nobody evicts: what becomes of those is tested in `gives_way`.
        standing: Standing {
            admin: Policy { grace: Span::from_secs(24 * 60 * 60), ..Policy::unrestricted() },
            ..Standing::default()
        },
        slots,
        memory_bytes_max: 4096 * MIB,
        snapshot_every: Duration::from_secs(4),
        warm_time: Duration::from_secs(20),
        works_in_open_cage: false,
    }
}

pub(super) fn module() -> BlobRef {
    BlobRef::of(b"module")
}

pub(super) fn artifact() -> BlobRef {
    BlobRef::of(b"artifact")
}

pub(super) fn movable_artifact() -> BlobRef {
    BlobRef::of(b"movable artifact")
}

pub(super) fn brief(job: u64) -> JobBrief {
    brief_with(job, |_| ())
}

/// A brief whose module is a little different.
pub(super) fn brief_with(job: u64, change: impl FnOnce(&mut ModuleManifest)) -> JobBrief {
    let mut manifest = ModuleManifest {
        function: "echo".into(),
        number: 1,
        kind: ModuleKind::Preview1,
        module: module(),
        canonical_nans: false,
        artifacts: vec![Artifact { engine: ENGINE.into(), blob: artifact() }],
        migratable: Some(MigratableBuild {
            module: BlobRef::of(b"movable module"),
            artifacts: vec![Artifact { engine: ENGINE.into(), blob: movable_artifact() }],
            cost_percent: Some(110),
        }),
    };
    change(&mut manifest);
    let signed = identity::sign(&authority(), &manifest);
    JobBrief {
        job: JobId(job),
        job_name: format!("job {job}"),
        submitter: "ana".into(),
        manifest: signed.body,
        manifest_signature: signed.signature,
        args: Vec::new(),
        env: Vec::new(),
        limits: AttemptLimits { time_ms: 10_000, memory_bytes: 512 * MIB, ..AttemptLimits::default() },
        exit_codes: lull_shared::codes::ExitCodes::default(),
        grants: Grants::default(),
        seed: 1,
        clock_start: Timestamp::default(),
    }
}

pub(super) fn attempt(job: u64, index: u32) -> AttemptId {
    AttemptId { task: TaskId { job: JobId(job), index }, number: 1 }
}

pub(super) fn welcome() -> ToAgent {
    ToAgent::Welcome(Welcome {
        agent: AgentId(3),
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

pub(super) fn done(attempt: AttemptId, wall_us: u64) -> Box<Done> {
    let output = Payload::Inline(Bytes::from_static(b"out"));
    let usage = Usage { wall_us, ..Usage::default() };
    Box::new(Done { attempt, outcome: Outcome::Succeeded { output }, log: Bytes::new(), log_dropped_bytes: 0, usage })
}

pub(super) struct World {
    pub(super) session: Session,
    pub(super) now: Timestamp,
    /// What it remarked. Nothing else follows from that, so it is not among the effects.
    pub(super) remarks: Vec<Remark>,
    pub(super) frame: u64,
}

impl World {
    pub(super) fn new(slots: u16) -> Self {
        Self::restored(slots, &[])
    }

    pub(super) fn restored(slots: u16, kept: &[Kept]) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        Self { session: Session::new(config(slots), kept, now), now, remarks: Vec::new(), frame: 0 }
    }

    /// Connected, welcomed, knowing job 1 and having its artifact.
    pub(super) fn ready(slots: u16) -> Self {
        let mut world = Self::new(slots);
        world.connect();
        world.hear(ToAgent::Brief(Box::new(brief(1))));
        world
    }

    pub(super) fn connect(&mut self) -> Vec<Effect> {
        let mut effects = self.event(Event::Connected);
        self.frame = 0;
        effects.extend(self.hear(welcome()));
        effects
    }

    pub(super) fn event(&mut self, event: Event) -> Vec<Effect> {
        self.session.handle(event, self.now);
        self.effects()
    }

    pub(super) fn hear(&mut self, message: ToAgent) -> Vec<Effect> {
        self.frame += 1;
        self.event(Event::Frame(ToAgentFrame { number: self.frame, messages: vec![message] }))
    }

    pub(super) fn effects(&mut self) -> Vec<Effect> {
        self.session.audit();
        let mut effects = Vec::new();
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Log(remark) => self.remarks.push(remark),
                effect if is_report(&effect) => {}
                effect => effects.push(effect),
            }
        }
        effects
    }

    pub(super) fn advance(&mut self, time: Duration) -> Vec<Effect> {
        let until = self.now + time;
        let mut effects = Vec::new();
        while let Some(due) = self.session.poll_timeout(self.now).filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            effects.extend(self.effects());
        }
        self.now = until;
        effects
    }

    pub(super) fn assign(&mut self, job: u64, indexes: std::ops::Range<u32>) -> Vec<Effect> {
        let offers = indexes.map(|index| Assignment {
            build: Build::Plain,
            resume: None,
            attempt: attempt(job, index),
            input: Payload::inline(vec![1]),
        });
        self.hear(ToAgent::Assign(offers.collect()))
    }

    /// Offers attempts of a job, each with its own input, for the plain build.
    pub(super) fn offer(&mut self, job: u64, inputs: Vec<(u32, Payload)>) -> Vec<Effect> {
        let offer = |(index, input)| Assignment { build: Build::Plain, resume: None, attempt: attempt(job, index), input };
        self.hear(ToAgent::Assign(inputs.into_iter().map(offer).collect()))
    }

    /// All that an event brings about, what is reported of the machine included.
    pub(super) fn raw(&mut self, event: Event) -> Vec<Effect> {
        self.session.handle(event, self.now);
        self.session.audit();
        std::iter::from_fn(|| self.session.poll_effect()).collect()
    }

    pub(super) fn fetched(&mut self, blob: BlobRef) -> Vec<Effect> {
        self.event(Event::Fetched { digest: blob.digest, result: Ok(()) })
    }

    /// Job 1 with its first attempt running in slot 0, which was said.
    pub(super) fn running(slots: u16, count: u32) -> Self {
        let mut world = Self::ready(slots);
        world.assign(1, 0..count);
        world.fetched(artifact());
        world.event(Event::Ready { slot: 0 });
        world.advance(super::WORTH_A_WORD);
        world
    }

    pub(super) fn finish(&mut self, slot: SlotId, attempt: AttemptId, wall_us: u64) -> Vec<Effect> {
        self.event(Event::Done { slot, done: done(attempt, wall_us) })
    }
}

fn is_report(effect: &Effect) -> bool {
    matches!(effect, Effect::Publish(_) | Effect::Send(ToCoordinator::Capacity(_) | ToCoordinator::Policy(_)))
}

pub(super) fn sent(effects: &[Effect]) -> Vec<&ToCoordinator> {
    effects.iter().filter_map(|effect| if let Effect::Send(message) = effect { Some(message) } else { None }).collect()
}

pub(super) fn runs(effects: &[Effect]) -> Vec<(SlotId, AttemptId)> {
    let run = |effect: &Effect| if let Effect::Run { slot, attempt, .. } = effect { Some((*slot, *attempt)) } else { None };
    effects.iter().filter_map(run).collect()
}

pub(super) fn refused(effects: &[Effect]) -> Vec<(AttemptId, RefuseReason)> {
    let refused = |message: &ToCoordinator| match message {
        ToCoordinator::Refused { attempt, reason } => Some((*attempt, reason.clone())),
        _ => None,
    };
    sent(effects).into_iter().filter_map(refused).collect()
}

pub(super) fn finished(effects: &[Effect]) -> Vec<Finished> {
    let finished = |message: &ToCoordinator| if let ToCoordinator::Finished(all) = message { all.clone() } else { Vec::new() };
    sent(effects).into_iter().flat_map(finished).collect()
}

pub(super) fn keeps(effects: &[Effect]) -> Vec<Arc<Finished>> {
    effects.iter().filter_map(|effect| if let Effect::Keep(record) = effect { Some(Arc::clone(record)) } else { None }).collect()
}

pub(super) fn released(attempts: &[AttemptId], reason: ReleaseReason) -> Effect {
    Effect::Send(ToCoordinator::Released { attempts: attempts.to_vec(), reason })
}

#[test]
fn a_task_goes_from_offer_to_acknowledged_result() {
    let mut world = World::ready(1);
    assert_eq!(world.assign(1, 0..1), [Effect::Fetch(artifact())]);
    let effects = world.fetched(artifact());
    let [Effect::Start { slot: 0, plan, build: Build::Plain }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((plan.code(Build::Plain), plan.brief.job), (Some(Code::Artifact(artifact())), JobId(1)));
    assert_eq!(runs(&world.event(Event::Ready { slot: 0 })), [(0, attempt(1, 0))]);
    let started = Effect::Send(ToCoordinator::Started { attempts: vec![attempt(1, 0)] });
    assert_eq!(world.advance(super::WORTH_A_WORD), [started]);
    let effects = world.finish(0, attempt(1, 0), 5_000);
    assert_eq!((keeps(&effects).len(), finished(&effects).len()), (1, 1), "both at once: {effects:?}");
    assert_eq!(finished(&world.event(Event::Kept { attempts: vec![attempt(1, 0)] })), [], "said once");
    assert_eq!(world.hear(ToAgent::Acknowledge { attempts: vec![attempt(1, 0)] }), [Effect::Drop(vec![attempt(1, 0)])]);
    assert!(world.session.places.is_empty());
}

#[test]
fn what_ends_at_once_is_not_said_to_have_started() {
    let started = |effects: &[Effect]| -> Vec<AttemptId> {
        let started = |message: &ToCoordinator| match message {
            ToCoordinator::Started { attempts } => attempts.clone(),
            _ => Vec::new(),
        };
        sent(effects).into_iter().flat_map(started).collect()
    };
    let mut world = World::running(1, 100);
    world.finish(0, attempt(1, 0), 100);
    for index in 1..20 {
        assert_eq!(started(&world.advance(Duration::from_micros(100))), []);
        assert_eq!(started(&world.finish(0, attempt(1, index), 100)), []);
    }
    let said = started(&world.advance(Duration::from_millis(9)));
    assert!(said.first() == Some(&attempt(1, 20)) && said.len() < 44, "{said:?}");
    // Whatever else is said of an attempt comes after that.
    let effects = world.event(Event::Owner(OwnerWord::Pause { until: None }));
    let [ToCoordinator::Started { attempts }, ToCoordinator::Paused { attempt: paused, .. }, ..] = sent(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert!(*paused == attempt(1, 20) && !attempts.contains(paused), "{effects:?}");
}

#[test]
fn the_greeting_names_everything_held_and_the_welcome_repeats_what_runs() {
    let kept = [Kept { attempt: attempt(9, 9), output: None }];
    let mut world = World::restored(1, &kept);
    world.connect();
    world.hear(ToAgent::Brief(Box::new(brief(1))));
    world.assign(1, 0..2);
    world.fetched(artifact());
    world.event(Event::Ready { slot: 0 });
    world.event(Event::Disconnected);
    let effects = world.event(Event::Connected);
    let [ToCoordinator::Hello(hello)] = sent(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(hello.holding, [attempt(1, 0), attempt(1, 1), attempt(9, 9)]);
    let effects = world.hear(welcome());
    assert!(effects.contains(&Effect::Send(ToCoordinator::Started { attempts: vec![attempt(1, 0)] })));
    assert!(effects.contains(&Effect::Recollect(vec![attempt(9, 9)])));
}

#[test]
fn results_of_an_absent_coordinators_time_are_said_on_the_next_stream() {
    let mut world = World::running(1, 2);
    world.event(Event::Disconnected);
    let effects = world.finish(0, attempt(1, 0), 5_000);
    let record = keeps(&effects)[0].as_ref().clone();
    assert_eq!(runs(&effects), [(0, attempt(1, 1))], "work goes on");
    assert_eq!(sent(&world.event(Event::Kept { attempts: vec![attempt(1, 0)] })), Vec::<&ToCoordinator>::new());
    assert!(world.connect().contains(&Effect::Recollect(vec![attempt(1, 0)])));
    let effects = world.event(Event::Recollected { records: vec![record.clone()], missing: vec![] });
    assert_eq!(finished(&effects), [record]);
    assert!(world.connect().contains(&Effect::Recollect(vec![attempt(1, 0)])), "unacknowledged, so said again");
}

#[test]
fn a_result_that_was_said_before_it_was_kept_is_said_again_on_the_next_stream() {
    let mut world = World::running(1, 1);
    let effects = world.finish(0, attempt(1, 0), 5_000);
    assert_eq!((keeps(&effects).len(), finished(&effects).len()), (1, 1));
    world.event(Event::Disconnected);
    world.connect();
    assert_eq!(finished(&world.event(Event::Kept { attempts: vec![attempt(1, 0)] })).len(), 1);
}

#[test]
fn a_result_that_is_acknowledged_before_it_is_kept_is_dropped_once() {
    let mut world = World::running(1, 1);
    world.finish(0, attempt(1, 0), 5_000);
    let acknowledged = world.hear(ToAgent::Acknowledge { attempts: vec![attempt(1, 0)] });
    assert!(acknowledged.contains(&Effect::Drop(vec![attempt(1, 0)])), "{acknowledged:?}");
    assert_eq!(finished(&world.event(Event::Kept { attempts: vec![attempt(1, 0)] })), []);
    assert!(world.session.places.is_empty());
}

#[test]
fn many_results_at_once_are_said_together_when_they_are_kept() {
    let mut world = World::running(1, 12);
    world.finish(0, attempt(1, 0), 100);
    let mut said = 0;
    for index in 1..12 {
        said += finished(&world.finish(0, attempt(1, index), 100)).len();
    }
    assert_eq!(said, 3, "with the first one four are under way");
    let attempts = (0..12).map(|index| attempt(1, index)).collect();
    assert_eq!(finished(&world.event(Event::Kept { attempts })).len(), 8);
}

#[test]
fn results_are_said_together_as_long_as_more_work_waits() {
    // All of them are with the executor, which does not make them come alone.
    let mut world = World::running(1, 40);
    let said: usize = (0..12).map(|index| finished(&world.finish(0, attempt(1, index), 100)).len()).sum();
    assert_eq!(said, 0, "the next ones are on their way already");
    let attempts = (0..12).map(|index| attempt(1, index)).collect();
    assert_eq!(finished(&world.event(Event::Kept { attempts })).len(), 12);
}

#[test]
fn attempts_of_one_job_start_in_the_order_of_their_offers() {
    let mut world = World::running(2, 6);
    let mut order = vec![attempt(1, 0)];
    order.extend(runs(&world.event(Event::Ready { slot: 1 })).into_iter().map(|(_, attempt)| attempt));
    for index in 0..4 {
        order.extend(runs(&world.finish(index as SlotId % 2, attempt(1, index), 50_000)).into_iter().map(|(_, attempt)| attempt));
    }
    assert_eq!(order, (0..6).map(|index| attempt(1, index)).collect::<Vec<_>>());
}

#[test]
fn tiny_tasks_are_piped_and_longer_ones_are_not() {
    let mut world = World::running(1, 60);
    assert_eq!(runs(&world.finish(0, attempt(1, 0), 100)).len(), 40, "4 ms of work at 100 us each");
    assert_eq!(runs(&world.finish(0, attempt(1, 1), 100)).len(), 1, "the pipe is kept full");
    let mut world = World::running(1, 40);
    assert_eq!(runs(&world.finish(0, attempt(1, 0), 4_000)).len(), 1);
}

#[test]
fn what_was_piped_counts_as_started_and_survives_the_death_of_its_executor() {
    let mut world = World::running(1, 4);
    world.finish(0, attempt(1, 0), 100);
    let rebalance = ToAgent::Recall { attempts: vec![attempt(1, 2)], reason: RecallReason::Rebalance };
    assert_eq!(world.hear(rebalance), []);
    let effects =
        world.event(Event::Gone { slot: 0, failed: Some((attempt(1, 1), Failure::ExecutorDied { how: "signal 11".into() })) });
    let records = keeps(&effects);
    assert_eq!(records[0].attempt, attempt(1, 1));
    assert_eq!(records[0].outcome, Outcome::Failed(Failure::ExecutorDied { how: "signal 11".into() }));
    assert!(matches!(&effects[1], Effect::Start { slot: 0, .. }), "the rest goes on in a new process: {effects:?}");
}

#[test]
fn a_recall_takes_what_has_not_started_and_a_cancellation_takes_all() {
    let mut world = World::running(1, 3);
    let rebalance =
        ToAgent::Recall { attempts: vec![attempt(1, 0), attempt(1, 2), attempt(1, 7)], reason: RecallReason::Rebalance };
    assert_eq!(world.hear(rebalance), [released(&[attempt(1, 2)], ReleaseReason::Recalled)]);
    let cancel = ToAgent::Recall { attempts: vec![attempt(1, 0), attempt(1, 1)], reason: RecallReason::Cancelled };
    let effects = world.hear(cancel);
    assert!(effects.contains(&Effect::Kill { slot: 0 }));
    assert!(effects.contains(&released(&[attempt(1, 0), attempt(1, 1)], ReleaseReason::Recalled)));
    assert_eq!(world.finish(0, attempt(1, 0), 10), [], "a late result of a killed process is no result");
    assert!(world.session.places.is_empty());
}

#[test]
fn the_owners_pause_freezes_at_once_and_stops_the_clock() {
    let mut world = World::running(2, 3);
    world.event(Event::Ready { slot: 1 });
    let word = OwnerWord::Pause { until: Some(world.now + Duration::from_secs(3600)) };
    let effects = world.event(Event::Owner(word));
    assert_eq!(effects[..2], [Effect::Freeze { slot: 0 }, Effect::Freeze { slot: 1 }]);
    let paused = sent(&effects).into_iter().filter(|message| matches!(message, ToCoordinator::Paused { reason: Some(_), .. }));
    assert_eq!(paused.count(), 2);
    let effects = world.assign(1, 5..6);
    assert_eq!(refused(&effects), [(attempt(1, 5), RefuseReason::Paused)]);
    let effects = world.advance(Duration::from_secs(3600));
    assert!(keeps(&effects).is_empty(), "an hour of pause spends no time limit");
    assert!(effects.contains(&Effect::Thaw { slot: 0 }) && effects.contains(&Effect::Thaw { slot: 1 }));
    let effects = world.advance(Duration::from_secs(11));
    assert_eq!(keeps(&effects)[0].outcome, Outcome::Failed(Failure::TimeLimit { limit_ms: 10_000 }));
}

#[test]
fn a_job_that_runs_too_long_is_killed_and_the_next_one_starts() {
    let mut world = World::running(1, 2);
    let effects = world.advance(Duration::from_secs(10));
    assert!(effects.contains(&Effect::Kill { slot: 0 }));
    let record = &keeps(&effects)[0];
    assert_eq!((record.attempt, record.usage.wall_us), (attempt(1, 0), 10_000_000));
    let effects = world.event(Event::Gone { slot: 0, failed: None });
    assert!(matches!(effects[..], [Effect::Start { slot: 0, .. }]), "{effects:?}");
}

#[test]
fn sleep_of_the_machine_is_no_running_time() {
    let mut world = World::running(1, 1);
    world.now = world.now + Duration::from_secs(3600);
    world.event(Event::Slept(Duration::from_secs(3600)));
    assert!(keeps(&world.advance(Duration::from_secs(9))).is_empty());
    assert_eq!(keeps(&world.advance(Duration::from_secs(1))).len(), 1);
}

#[test]
fn load_by_others_pauses_and_quiet_resumes() {
    let mut world = World::running(1, 1);
    let mut effects = Vec::new();
    let mut sample = |world: &mut World, percent, seconds: u64| {
        for _ in 0..seconds {
            world.now = world.now + Duration::from_secs(1);
            let sample = Sample { cpu_others_percent: percent, memory_available_bytes: 4096 * MIB, ..Sample::QUIET };
            effects.extend(world.event(Event::Sample(sample)));
        }
        std::mem::take(&mut effects)
    };
    assert!(sample(&mut world, 90, 3).contains(&Effect::Freeze { slot: 0 }));
    assert_eq!(world.session.capacity().paused, Some(PauseReason::Busy { cpu_percent: 90 }));
    assert!(sample(&mut world, 3, 7).contains(&Effect::Thaw { slot: 0 }));
}

#[test]
fn offers_that_cannot_be_taken_are_refused_with_the_reason() {
    let mut world = World::ready(1);
    assert_eq!(refused(&world.assign(2, 0..1)), [(attempt(2, 0), RefuseReason::UnknownTerms)]);
    let mut forged = brief(3);
    forged.manifest_signature[0] ^= 1;
    world.hear(ToAgent::Brief(Box::new(forged)));
    assert!(matches!(&refused(&world.assign(3, 0..1))[..], [(_, RefuseReason::Untrusted { .. })]));
    let mut greedy = brief(4);
    greedy.limits.memory_bytes = 4097 * MIB;
    world.hear(ToAgent::Brief(Box::new(greedy)));
    assert!(matches!(&refused(&world.assign(4, 0..1))[..], [(_, RefuseReason::Memory { .. })]));
    let all = limits::ATTEMPTS_PER_AGENT_MAX as u32;
    assert_eq!(
        refused(&world.assign(1, 0..all + 2)),
        [(attempt(1, all), RefuseReason::Full), (attempt(1, all + 1), RefuseReason::Full)]
    );
    assert_eq!(world.assign(1, 0..5), [], "what is held already is not taken twice");
}

#[test]
fn a_fetch_that_fails_refuses_whoever_waits_for_it() {
    let mut world = World::ready(1);
    world.assign(1, 0..2);
    let failed = |blob: BlobRef| Event::Fetched { digest: blob.digest, result: Err("nobody has it".into()) };
    let effects = world.event(failed(artifact()));
    assert_eq!(effects, [Effect::Fetch(module()), Effect::Unpin(artifact().digest)], "without artifact it compiles itself");
    let effects = world.event(failed(module()));
    assert!(matches!(&refused(&effects)[..], [(_, RefuseReason::Fetch { .. }), (_, RefuseReason::Fetch { .. })]), "{effects:?}");
    assert!(world.session.places.is_empty());
}

#[test]
fn large_inputs_are_fetched_ahead_of_the_slots_only() {
    let mut world = World::ready(1);
    let input = |index: u32| BlobRef { digest: lull_shared::digest::Digest::of(&index.to_le_bytes()), size_bytes: 1 << 20 };
    let offers = (0..10).map(|index| Assignment {
        build: Build::Plain,
        resume: None,
        attempt: attempt(1, index),
        input: Payload::Blob(input(index)),
    });
    let effects = world.hear(ToAgent::Assign(offers.collect()));
    assert_eq!(effects, [Effect::Fetch(artifact()), Effect::Fetch(input(0)), Effect::Fetch(input(1))]);
    world.fetched(artifact());
    let effects = world.fetched(input(1));
    assert!(matches!(&effects[..], [Effect::Start { .. }]), "whatever is ready starts: {effects:?}");
    let effects = world.event(Event::Ready { slot: 0 });
    assert_eq!(runs(&effects), [(0, attempt(1, 1))]);
}

#[test]
fn an_executor_stays_warm_for_its_job_and_is_replaced_for_one_that_does_not_fit_it() {
    let mut world = World::running(1, 1);
    let mut other = brief(2);
    other.grants.random = true;
    world.hear(ToAgent::Brief(Box::new(other)));
    world.finish(0, attempt(1, 0), 50_000);
    assert_eq!(runs(&world.assign(1, 1..2)), [(0, attempt(1, 1))], "warm: no start");
    world.finish(0, attempt(1, 1), 50_000);
    assert_eq!(world.assign(2, 0..1), [Effect::Kill { slot: 0 }], "both jobs run the same artifact, which is here");
    let effects = world.event(Event::Gone { slot: 0, failed: None });
    assert!(matches!(&effects[..], [Effect::Start { plan, .. }] if plan.brief.job == JobId(2)), "{effects:?}");
}

#[test]
fn an_executor_outlives_its_job_for_the_next_one_that_fits_it() {
    let mut world = World::running(2, 1);
    world.finish(0, attempt(1, 0), 50_000);
    assert_eq!(world.hear(ToAgent::Forget { job: JobId(1) }), [], "it is kept, and its code with it");
    let mut next = brief(2);
    next.limits.time_ms += 1;
    next.args = vec!["other".into()];
    world.hear(ToAgent::Brief(Box::new(next)));
    let effects = world.assign(2, 0..1);
    let [Effect::Serve { slot: 0, plan }, Effect::Run { slot: 0, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((plan.brief.job, &plan.brief.args[..]), (JobId(2), &["other".to_owned()][..]));
    assert!(!world.session.jobs.contains_key(&JobId(1)), "nothing is left of the one before");
    let overdue = world.advance(Duration::from_millis(10_001));
    assert!(overdue.contains(&Effect::Kill { slot: 0 }), "the time limit is the new job's: {overdue:?}");
}

#[test]
fn a_warm_executor_with_nothing_to_do_gives_its_memory_back() {
    let idle = || {
        let mut world = World::running(1, 1);
        world.finish(0, attempt(1, 0), 50_000);
        world
    };
    assert!(idle().advance(Duration::from_secs(19)).iter().all(|effect| *effect != Effect::Kill { slot: 0 }));
    assert!(idle().advance(Duration::from_secs(21)).contains(&Effect::Kill { slot: 0 }));
    let mut world = idle();
    let paused = world.event(Event::Owner(OwnerWord::Pause { until: None }));
    assert!(paused.contains(&Effect::Kill { slot: 0 }), "the owner's at once: {paused:?}");
}

#[test]
fn an_executor_that_ends_its_task_while_the_owner_is_back_is_not_kept() {
    let mut world = World::running(1, 1);
    world.event(Event::Owner(OwnerWord::Pause { until: None }));
    assert!(world.finish(0, attempt(1, 0), 50_000).contains(&Effect::Kill { slot: 0 }));
    let mut world = World::ready(1);
    world.assign(1, 0..1);
    world.fetched(artifact());
    world.event(Event::Owner(OwnerWord::Pause { until: None }));
    assert!(world.event(Event::Ready { slot: 0 }).contains(&Effect::Kill { slot: 0 }), "nor one that has just started");
}

#[test]
fn the_memory_of_a_warm_executor_is_offered_since_it_is_given_up_for_whoever_needs_it() {
    let mut world = World::running(1, 1);
    let busy = world.session.capacity().memory_free_bytes;
    world.finish(0, attempt(1, 0), 50_000);
    assert_eq!(world.session.capacity().memory_free_bytes, busy + 512 * MIB);
}

#[test]
fn executors_start_only_while_their_memory_fits() {
    let mut world = World::ready(8);
    let mut large = brief(2);
    large.limits.memory_bytes = 1536 * MIB;
    world.hear(ToAgent::Brief(Box::new(large)));
    world.assign(2, 0..4);
    let effects = world.fetched(artifact());
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Start { .. })).count(), 2);
}

#[test]
fn an_executor_that_cannot_start_refuses_its_attempt() {
    let mut world = World::ready(1);
    world.assign(1, 0..1);
    world.fetched(artifact());
    let error = StartError::Executor("no more processes".into());
    let effects = world.event(Event::StartFailed { slot: 0, error });
    assert!(matches!(&refused(&effects)[..], [(_, RefuseReason::Executor { .. })]), "{effects:?}");
}

#[test]
fn an_artifact_that_does_not_load_gives_way_to_the_module_itself() {
    let mut world = World::ready(1);
    world.assign(1, 0..1);
    world.fetched(artifact());
    let effects = world.event(Event::StartFailed { slot: 0, error: StartError::Artifact("other flags".into()) });
    assert_eq!(effects, [Effect::Fetch(module()), Effect::Unpin(artifact().digest)]);
    let effects = world.fetched(module());
    assert!(
        matches!(&effects[..], [Effect::Start { plan, .. }] if plan.code(Build::Plain) == Some(Code::Module(module()))),
        "{effects:?}"
    );
    let effects = world.event(Event::StartFailed { slot: 0, error: StartError::Module("not WebAssembly".into()) });
    assert!(matches!(&keeps(&effects)[0].outcome, Outcome::Failed(Failure::BadModule { .. })));
    let effects = world.assign(1, 1..2);
    assert!(matches!(&keeps(&effects)[0].outcome, Outcome::Failed(Failure::BadModule { .. })), "it is not tried again");
}

#[test]
fn a_full_disk_refuses_new_work_and_loses_nothing() {
    let mut world = World::running(1, 2);
    world.finish(0, attempt(1, 0), 5_000);
    world.event(Event::NotKept { attempts: vec![attempt(1, 0)], reason: "no space left".into() });
    assert!(matches!(&refused(&world.assign(1, 7..8))[..], [(_, RefuseReason::Disk { .. })]));
    world.event(Event::Disconnected);
    world.finish(0, attempt(1, 1), 5_000);
    world.connect();
    let effects = world.advance(Duration::from_secs(5));
    assert_eq!(keeps(&effects).len(), 1, "it is tried again");
    let effects = world.event(Event::Kept { attempts: vec![attempt(1, 0), attempt(1, 1)] });
    assert_eq!(finished(&effects).len(), 2);
    assert!(refused(&world.assign(1, 8..9)).is_empty());
}

#[test]
fn a_disk_that_refused_what_the_coordinator_has_by_now_is_trusted_again() {
    let mut world = World::running(1, 1);
    world.finish(0, attempt(1, 0), 5_000);
    world.event(Event::NotKept { attempts: vec![attempt(1, 0)], reason: "no space left".into() });
    world.hear(ToAgent::Acknowledge { attempts: vec![attempt(1, 0)] });
    assert!(refused(&world.assign(1, 7..8)).is_empty());
}

#[test]
fn a_large_output_is_delivered_before_it_is_said() {
    let mut world = World::running(1, 1);
    let output = BlobRef::of(b"large");
    let large = Done { outcome: Outcome::Succeeded { output: Payload::Blob(output) }, ..*done(attempt(1, 0), 9_000) };
    let effects = world.event(Event::Done { slot: 0, done: Box::new(large) });
    let record = keeps(&effects)[0].as_ref().clone();
    assert_eq!(world.event(Event::Kept { attempts: vec![attempt(1, 0)] }), [Effect::Deliver { attempt: attempt(1, 0), output }]);
    let failed = Event::Delivered { attempt: attempt(1, 0), delivery: Delivery::Failed };
    assert_eq!(world.event(failed), []);
    assert!(world.advance(Duration::from_secs(2)).contains(&Effect::Deliver { attempt: attempt(1, 0), output }));
    let effects = world.event(Event::Delivered { attempt: attempt(1, 0), delivery: Delivery::Stored });
    assert_eq!(effects, [Effect::Recollect(vec![attempt(1, 0)])]);
    assert_eq!(finished(&world.event(Event::Recollected { records: vec![record.clone()], missing: vec![] })), [record]);
}

#[test]
fn heartbeats_name_the_last_frame_read_and_everything_held() {
    let mut world = World::running(1, 2);
    let effects = world.advance(Duration::from_secs(1));
    let expected = ToCoordinator::Heartbeat { frame_read: world.frame, holding: vec![attempt(1, 0), attempt(1, 1)] };
    assert_eq!(sent(&effects), [&expected]);
}

#[test]
fn a_coordinator_that_breaks_the_protocol_is_left() {
    let mut world = World::new(1);
    world.event(Event::Connected);
    assert_eq!(world.assign(1, 0..1), [Effect::Close(CloseReason::Protocol("it spoke before its welcome"))]);
    let mut world = World::new(1);
    world.event(Event::Connected);
    assert_eq!(world.advance(Duration::from_secs(10)), [Effect::Close(CloseReason::NoWelcome)]);
}

#[test]
fn a_welcome_that_is_said_twice_ends_the_stream_and_nothing_else() {
    let mut world = World::running(1, 2);
    assert_eq!(world.hear(welcome()), [Effect::Close(CloseReason::Protocol("it said its welcome twice"))]);
    assert_eq!(world.hear(ToAgent::Recall { attempts: vec![attempt(1, 0)], reason: RecallReason::Cancelled }), []);
    assert_eq!(world.session.places.len(), 2, "what runs and waits goes on");
}

#[test]
fn what_was_never_said_cannot_be_acknowledged() {
    let all: Vec<_> = (0..4).map(|index| attempt(1, index)).collect();
    let acknowledge = |world: &mut World| {
        let effects = world.hear(ToAgent::Acknowledge { attempts: all.clone() });
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Drop(_))), "{effects:?}");
    };
    let mut world = World::running(1, 4);
    acknowledge(&mut world);
    assert_eq!(world.session.places.len(), 4, "one runs, three wait");
    // With no coordinator there, results are kept and not said.
    world.event(Event::Disconnected);
    let record = keeps(&world.finish(0, attempt(1, 0), 5_000))[0].as_ref().clone();
    let output = BlobRef::of(b"large");
    let large = Done { outcome: Outcome::Succeeded { output: Payload::Blob(output) }, ..*done(attempt(1, 1), 9_000) };
    world.event(Event::Done { slot: 0, done: Box::new(large) });
    world.connect();
    acknowledge(&mut world);
    let effects = world.event(Event::Kept { attempts: vec![attempt(1, 0), attempt(1, 1)] });
    assert_eq!(finished(&effects), [record], "it was on its way to the disk");
    assert!(effects.contains(&Effect::Deliver { attempt: attempt(1, 1), output }), "{effects:?}");
    world.hear(ToAgent::Acknowledge { attempts: vec![attempt(1, 1)] });
    assert!(world.session.places.contains_key(&attempt(1, 1)), "its output is not there yet");
    world.event(Event::Delivered { attempt: attempt(1, 1), delivery: Delivery::Stored });
    world.hear(ToAgent::Acknowledge { attempts: vec![attempt(1, 1)] });
    assert!(world.session.places.contains_key(&attempt(1, 1)), "it is being read back");
    assert!(world.hear(ToAgent::Acknowledge { attempts: vec![attempt(1, 0)] }).contains(&Effect::Drop(vec![attempt(1, 0)])));
}

#[test]
fn a_heartbeat_is_neither_a_flood_nor_a_silence_whatever_was_asked_for() {
    for (asked_ms, most_ms) in [(0, 100), (1, 100), (u64::MAX, 60_000), (250, 250)] {
        let mut world = World::restored(1, &[Kept { attempt: attempt(9, 9), output: None }]);
        world.event(Event::Connected);
        let ToAgent::Welcome(welcome) = welcome() else { panic!("no welcome") };
        world.hear(ToAgent::Welcome(Welcome { heartbeat_ms: asked_ms, ..welcome }));
        let beats = |effects: Vec<Effect>| {
            effects.iter().filter(|effect| matches!(effect, Effect::Send(ToCoordinator::Heartbeat { .. }))).count()
        };
        assert_eq!(beats(world.advance(Duration::from_millis(most_ms - 1))), 0, "{asked_ms} ms");
        assert_eq!(beats(world.advance(Duration::from_millis(1))), 1, "{asked_ms} ms");
        assert_eq!(beats(world.advance(Duration::from_millis(10 * most_ms))), 10, "{asked_ms} ms");
    }
}

#[test]
fn whoever_holds_nothing_answers_the_coordinators_sign_of_life_and_gives_its_own_half_as_often() {
    let beats = |effects: Vec<Effect>| {
        effects.iter().filter(|effect| matches!(effect, Effect::Send(ToCoordinator::Heartbeat { .. }))).count()
    };
    let mut world = World::ready(1);
    assert_eq!(beats(world.advance(Duration::from_millis(1_999))), 0);
    assert_eq!(beats(world.advance(Duration::from_millis(1))), 1);
    let sign = |world: &mut World| world.event(Event::Frame(ToAgentFrame { number: 1, messages: Vec::new() }));
    assert_eq!(beats(sign(&mut world)), 0, "one was given just now");
    assert_eq!(beats(world.advance(Duration::from_millis(1_500))), 0);
    assert_eq!(beats(sign(&mut world)), 1);
    assert_eq!(beats(world.advance(Duration::from_millis(1_000))), 0);
    let held = world.assign(1, 0..1);
    assert_eq!(beats(held) + beats(world.advance(Duration::ZERO)), 1, "with work in hand it is due");
    assert_eq!(beats(world.advance(Duration::from_millis(1_000))), 1);
}

#[test]
fn limits_of_time_beyond_all_reason_end_an_attempt_at_once_or_never_and_break_nothing() {
    for (time_ms, ends) in [(0, true), (u64::MAX, false)] {
        let mut world = World::ready(1);
        let mut odd = brief(2);
        odd.limits.time_ms = time_ms;
        world.hear(ToAgent::Brief(Box::new(odd)));
        world.assign(2, 0..1);
        world.fetched(artifact());
        let mut effects = world.event(Event::Ready { slot: 0 });
        effects.extend(world.advance(Duration::from_secs(3_600)));
        let ended: Vec<_> = keeps(&effects).iter().map(|record| record.outcome.clone()).collect();
        let limit = Outcome::Failed(Failure::TimeLimit { limit_ms: time_ms });
        assert_eq!(ended, if ends { vec![limit] } else { vec![] }, "{time_ms} ms");
    }
}

#[test]
fn orders_about_what_is_not_here_change_nothing() {
    let mut world = World::running(1, 2);
    let (stranger, digest) = (attempt(7, 7), BlobRef::of(b"nobody's").digest);
    let every =
        [RecallReason::Cancelled, RecallReason::Stale, RecallReason::Drain, RecallReason::Rebalance, RecallReason::Faster];
    let recalls = every.map(|reason| ToAgent::Recall { attempts: vec![stranger], reason });
    let others = [
        ToAgent::Acknowledge { attempts: vec![stranger, attempt(1, 0)] },
        ToAgent::Forget { job: JobId(7) },
        ToAgent::Discard { snapshots: vec![digest] },
        ToAgent::Safe { snapshots: vec![digest] },
    ];
    for order in recalls.into_iter().chain(others) {
        assert_eq!(world.hear(order.clone()), [], "{order:?}");
        assert_eq!(world.session.places.len(), 2, "{order:?}");
    }
}

#[test]
fn a_coordinator_that_was_replaced_is_not_believed_for_a_while() {
    let of_term = |term| match welcome() {
        ToAgent::Welcome(welcome) => ToAgent::Welcome(Welcome { term: Term(term), ..welcome }),
        other => panic!("no welcome: {other:?}"),
    };
    let mut world = World::new(1);
    world.event(Event::Connected);
    world.hear(of_term(7));
    world.event(Event::Disconnected);
    world.event(Event::Connected);
    assert_eq!(world.hear(of_term(6)), [Effect::Close(CloseReason::Stale)]);
    assert!(world.assign(1, 0..1).is_empty(), "nothing that it says counts");
    world.event(Event::Disconnected);
    world.now = world.now + Duration::from_secs(61);
    world.event(Event::Connected);
    let effects = world.hear(of_term(6));
    assert!(!effects.contains(&Effect::Close(CloseReason::Stale)), "a database may have been restored from a backup");
}

#[test]
fn the_highest_term_that_was_proved_is_shown_to_the_next_coordinator() {
    let proved = |term: u64, key: &Keypair| {
        let proof = identity::sign(key, &TermProof { network: NetworkId([9; 16]), term: Term(term) });
        match welcome() {
            ToAgent::Welcome(welcome) => ToAgent::Welcome(Welcome { term: Term(term), term_proof: Some(proof), ..welcome }),
            other => panic!("no welcome: {other:?}"),
        }
    };
    let shown = |world: &mut World| {
        world.event(Event::Disconnected);
        let effects = world.event(Event::Connected);
        let hello = effects.iter().find_map(|effect| match effect {
            Effect::Send(ToCoordinator::Hello(hello)) => Some(hello.instance.clone()),
            _ => None,
        });
        let signed = hello.expect("a greeting").term_proof?;
        Some(identity::verify::<TermProof>(&Authority::of(&authority()), &signed).expect("signed").term)
    };
    let mut world = World::new(1);
    assert_eq!(shown(&mut world), None);
    world.hear(proved(7, &Keypair::generate_ed25519()));
    assert_eq!(shown(&mut world), None, "anybody can say that");
    world.hear(proved(7, &authority()));
    assert_eq!(shown(&mut world), Some(Term(7)));
    world.now = world.now + Duration::from_secs(61);
    world.hear(proved(3, &authority()));
    assert_eq!(shown(&mut world), Some(Term(7)), "also when a lower one was believed in the end");
}

#[test]
fn a_program_that_lost_its_stream_to_another_draws_a_second_number_once() {
    let number = |world: &mut World| {
        let effects = world.event(Event::Connected);
        let hello = effects.iter().find_map(|effect| match effect {
            Effect::Send(ToCoordinator::Hello(hello)) => Some(hello.instance.number),
            _ => None,
        });
        hello.expect("a greeting")
    };
    let mut world = World::new(1);
    assert_eq!(number(&mut world), 11);
    world.event(Event::Disconnected);
    assert_eq!(number(&mut world), 11, "the network was cut, and nothing else happened");
    for _ in 0..3 {
        world.hear(welcome());
        world.hear(ToAgent::Goodbye { reason: GoodbyeReason::Superseded });
        assert_eq!(number(&mut world), 12);
    }
}

#[test]
fn coordinators_that_come_and_go_are_learned_while_connected() {
    let mut world = World::running(1, 1);
    let addresses = vec!["/ip4/10.0.0.2/tcp/7410".to_owned()];
    assert_eq!(world.hear(ToAgent::Coordinators(addresses.clone())), [Effect::Learn(addresses)]);
}

#[test]
fn a_revoked_agent_gives_up_its_work() {
    let mut world = World::running(1, 2);
    let effects = world.hear(ToAgent::Goodbye { reason: GoodbyeReason::Revoked });
    assert!(
        effects.contains(&Effect::Kill { slot: 0 })
            && effects.contains(&Effect::Close(CloseReason::Goodbye(GoodbyeReason::Revoked)))
    );
    assert!(world.session.places.is_empty());
}

#[test]
fn a_stopping_agent_releases_everything_and_says_farewell_when_its_results_are_safe() {
    let mut world = World::running(1, 3);
    world.finish(0, attempt(1, 0), 5_000);
    let effects = world.event(Event::Stop { grace: Duration::from_secs(3) });
    assert!(effects.contains(&released(&[attempt(1, 1), attempt(1, 2)], ReleaseReason::Stopping)));
    assert_eq!(world.assign(1, 5..6), [released(&[attempt(1, 5)], ReleaseReason::Stopping)]);
    world.event(Event::Gone { slot: 0, failed: None });
    world.event(Event::Kept { attempts: vec![attempt(1, 0)] });
    let effects = world.hear(ToAgent::Acknowledge { attempts: vec![attempt(1, 0)] });
    let farewell = Effect::Send(ToCoordinator::Farewell);
    assert_eq!(effects, [Effect::Drop(vec![attempt(1, 0)]), farewell, Effect::Quit]);
    let mut world = World::running(1, 1);
    world.event(Event::Stop { grace: Duration::from_secs(3) });
    assert!(world.advance(Duration::from_secs(3)).contains(&Effect::Quit), "the grace is the end of patience");
}

#[test]
fn an_agent_that_stops_while_it_is_greeted_says_farewell_when_it_is_welcome() {
    let stopping = || {
        let mut world = World::new(1);
        world.event(Event::Connected);
        assert!(!world.event(Event::Stop { grace: Duration::from_secs(30) }).contains(&Effect::Quit), "the answer is on its way");
        world
    };
    let mut world = stopping();
    world.frame = 0;
    let effects = world.hear(welcome());
    assert!(effects.ends_with(&[Effect::Send(ToCoordinator::Farewell), Effect::Quit]), "{effects:?}");
    assert!(stopping().event(Event::Disconnected).contains(&Effect::Quit), "it went away");
    let effects = stopping().advance(Duration::from_secs(10));
    assert!(effects.contains(&Effect::Close(CloseReason::NoWelcome)), "nobody answers: {effects:?}");
    let effects = stopping().advance(Duration::from_secs(30));
    assert!(effects.contains(&Effect::Quit), "the grace is the end of patience: {effects:?}");
}

#[test]
fn capacity_is_announced_on_change_but_not_every_time() {
    let mut world = World::ready(4);
    world.assign(1, 0..4);
    world.session.handle(Event::Fetched { digest: artifact().digest, result: Ok(()) }, world.now);
    let announced = std::iter::from_fn(|| world.session.poll_effect()).filter(|effect| matches!(effect, Effect::Publish(_)));
    assert_eq!(announced.count(), 0, "the greeting carried it a moment ago");
    world.now = world.now + Duration::from_secs(1);
    world.session.handle_timeout(world.now);
    let busy = std::iter::from_fn(|| world.session.poll_effect()).find_map(|effect| match effect {
        Effect::Publish(capacity) => Some(capacity.slots_busy),
        _ => None,
    });
    assert_eq!(busy, Some(4));
}
