//! Whatever happens, in whatever order: no panic, every attempt in one place, nothing said that is not at least on its way
//! to the disk.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use lull_shared::{
    digest::BlobRef,
    hours::Hours,
    id::{AttemptId, JobId},
    message::{
        Assignment, Build, Finished, GoodbyeReason, Outcome, Payload, RecallReason, SnapshotRef, ToAgent, ToAgentFrame,
        ToCoordinator,
    },
    policy::{Changes, Percent, Span},
    state::{Failure, Intake, Part, Trouble},
    time::Timestamp,
};
use proptest::prelude::*;

use crate::{
    guard::{Announcement, OwnerWord, Sample},
    *,
};

/// What fails in here.
const PARTS: [Part; 3] = [Part::Cache, Part::Executor, Part::Killed];

/// Something that happens; what it refers to may or may not exist.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Connect,
    Disconnect,
    Hear(Say),
    Fetched { blob: u8, ok: bool },
    Ready(u16),
    StartFailed(u16, u8),
    Trouble(u16, u8),
    Probed(u8, bool),
    Done { slot: u16, pick: u8, large: bool, wall_us: u64 },
    Saved { slot: u16, suspended: bool, blob: u8 },
    BeginsAnew(u16),
    Gone(u16),
    AnswerKeep { ok: bool },
    AnswerRecollect { lose: bool },
    Deliver(Delivery),
    Load(u8),
    Owner(OwnerWord),
    Input,
    Narrow { idle_s: u32, beside_cores: u8, hours: bool },
    Announce(Announcement),
    Slept(u64),
    Stop,
}

#[derive(Debug, Clone)]
enum Say {
    Welcome,
    Brief(u64),
    Assign { job: u64, first: u32, count: u32, blob: Option<u8> },
    Recall { job: u64, first: u32, count: u32, reason: RecallReason },
    Acknowledge { job: u64, first: u32, count: u32 },
    Forget(u64),
    Discard(u8),
    Keep(u8),
    Safe(u8),
    Intake,
    Goodbye(GoodbyeReason),
}

fn blob(number: u8) -> BlobRef {
    match number {
        0 => artifact(),
        1 => module(),
        2 => movable_artifact(),
        number => BlobRef::of(&[number]),
    }
}

fn say() -> impl Strategy<Value = Say> {
    let (job, first, count) = (1_u64..4, 0_u32..40, 1_u32..12);
    let reason = prop_oneof![
        Just(RecallReason::Rebalance),
        Just(RecallReason::Drain),
        Just(RecallReason::Faster),
        Just(RecallReason::Cancelled),
        Just(RecallReason::Stale)
    ];
    let goodbye = prop_oneof![Just(GoodbyeReason::Stopping), Just(GoodbyeReason::Revoked)];
    prop_oneof![
        3 => Just(Say::Welcome),
        4 => job.clone().prop_map(Say::Brief),
        8 => (job.clone(), first.clone(), count.clone(), proptest::option::weighted(0.3, 0_u8..5))
            .prop_map(|(job, first, count, blob)| Say::Assign { job, first, count, blob }),
        3 => (job.clone(), first.clone(), count.clone(), reason)
            .prop_map(|(job, first, count, reason)| Say::Recall { job, first, count, reason }),
        3 => (job.clone(), first, count).prop_map(|(job, first, count)| Say::Acknowledge { job, first, count }),
        1 => job.prop_map(Say::Forget),
        1 => (2_u8..8).prop_map(Say::Discard),
        3 => (2_u8..8).prop_map(Say::Keep),
        1 => (2_u8..8).prop_map(Say::Safe),
        1 => Just(Say::Intake),
        1 => goodbye.prop_map(Say::Goodbye),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0_u16..4;
    let word = prop_oneof![
        Just(OwnerWord::Run),
        Just(OwnerWord::Pause { until: None }),
        Just(OwnerWord::Pause { until: Some(Timestamp::from_millis(1_500_000)) }),
    ];
    prop_oneof![
        4 => (0_u64..40_000).prop_map(Step::Pass),
        2 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        20 => say().prop_map(Step::Hear),
        8 => (0_u8..8, proptest::bool::weighted(0.8)).prop_map(|(blob, ok)| Step::Fetched { blob, ok }),
        12 => slot.clone().prop_map(Step::Ready),
        1 => (slot.clone(), 0_u8..4).prop_map(|(slot, kind)| Step::StartFailed(slot, kind)),
        1 => (slot.clone(), 0_u8..3).prop_map(|(slot, part)| Step::Trouble(slot, part)),
        2 => (0_u8..3, any::<bool>()).prop_map(|(part, ok)| Step::Probed(part, ok)),
        16 => (slot.clone(), any::<u8>(), proptest::bool::weighted(0.2), 1_u64..4_000)
            .prop_map(|(slot, pick, large, wall_us)| Step::Done { slot, pick, large, wall_us }),
        8 => (slot.clone(), any::<bool>(), 2_u8..8).prop_map(|(slot, suspended, blob)| Step::Saved { slot, suspended, blob }),
        1 => slot.clone().prop_map(Step::BeginsAnew),
        6 => slot.prop_map(Step::Gone),
        8 => proptest::bool::weighted(0.8).prop_map(|ok| Step::AnswerKeep { ok }),
        4 => proptest::bool::weighted(0.1).prop_map(|lose| Step::AnswerRecollect { lose }),
        3 => prop_oneof![Just(Delivery::Stored), Just(Delivery::Unwanted), Just(Delivery::Failed)].prop_map(Step::Deliver),
        2 => (0_u8..=100).prop_map(Step::Load),
        2 => word.prop_map(Step::Owner),
        2 => Just(Step::Input),
        2 => (0_u32..90, 0_u8..=100, proptest::bool::weighted(0.2))
            .prop_map(|(idle_s, beside_cores, hours)| Step::Narrow { idle_s, beside_cores, hours }),
        1 => prop_oneof![3 => Just(Announcement::Awake), 1 => Just(Announcement::Sleep)].prop_map(Step::Announce),
        1 => (0_u64..100_000).prop_map(Step::Slept),
        1 => prop_oneof![20 => Just(Step::Pass(1)), 1 => Just(Step::Stop)],
    ]
}

/// A disk and a network that remember what they were asked.
#[derive(Default)]
struct Edges {
    asked: BTreeSet<AttemptId>,
    durable: std::collections::BTreeMap<AttemptId, Finished>,
    records: std::collections::BTreeMap<AttemptId, Finished>,
    recollect: Vec<AttemptId>,
    deliver: Vec<AttemptId>,
    delivered: BTreeSet<AttemptId>,
    open: bool,
}

impl Edges {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Keep(record) => {
                self.asked.insert(record.attempt);
                self.records.insert(record.attempt, Finished::clone(&record));
            }
            Effect::Send(message) => {
                assert!(self.open, "{message:?} was said to nobody");
                if let ToCoordinator::Finished(finished) = message {
                    for record in finished {
                        let kept = self.asked.contains(&record.attempt) || self.durable.contains_key(&record.attempt);
                        assert!(kept, "{} was said before it was to be kept", record.attempt);
                        if let Outcome::Succeeded { output: Payload::Blob(_) } = record.outcome {
                            assert!(self.delivered.contains(&record.attempt), "{} was said before its output", record.attempt);
                        }
                    }
                }
            }
            Effect::Close(_) => self.open = false,
            Effect::Recollect(attempts) => self.recollect.extend(attempts),
            Effect::Deliver { attempt, .. } => self.deliver.push(attempt),
            Effect::Drop(attempts) => attempts.iter().for_each(|attempt| {
                self.durable.remove(attempt);
                self.asked.remove(attempt);
            }),
            Effect::Adopt(_)
            | Effect::Learn(_)
            | Effect::Upgrade(_)
            | Effect::KeepPolicy(_)
            | Effect::Publish(_)
            | Effect::Fetch(_)
            | Effect::Unpin(_)
            | Effect::Start { .. }
            | Effect::Serve { .. }
            | Effect::Run { .. }
            | Effect::Freeze { .. }
            | Effect::Thaw { .. }
            | Effect::Kill { .. }
            | Effect::Checkpoint { .. }
            | Effect::Suspend { .. }
            | Effect::Erase(_)
            | Effect::Wake(_)
            | Effect::Log(_)
            | Effect::Probe(_)
            | Effect::ReadLog { .. }
            | Effect::Quit => {}
        }
    }

    fn event(&mut self, step: Step, session: &Session, frame: &mut u64) -> Option<Event> {
        Some(match step {
            Step::Pass(_) => return None,
            Step::Connect => {
                self.open = true;
                Event::Connected
            }
            Step::Disconnect => {
                self.open = false;
                Event::Disconnected
            }
            Step::Hear(say) => {
                *frame += 1;
                Event::Frame(ToAgentFrame { number: *frame, messages: vec![message(say)] })
            }
            Step::Fetched { blob: number, ok } => {
                Event::Fetched { digest: blob(number).digest, result: if ok { Ok(()) } else { Err("nobody has it".into()) } }
            }
            Step::Ready(slot) => Event::Ready { slot },
            Step::StartFailed(slot, kind) => {
                let errors = [StartError::Artifact, StartError::Module, StartError::Executor, StartError::Missing];
                let error = errors[usize::from(kind)]("broken".into());
                Event::StartFailed { slot, error }
            }
            Step::Trouble(slot, part) => {
                let front = session.slots.get(usize::from(slot)).and_then(|slot| Some(slot.held().first()?.attempt));
                let trouble = Trouble::new(PARTS[usize::from(part)], "broken");
                Event::Trouble { trouble, ended: front.map(|attempt| (slot, attempt)) }
            }
            Step::Probed(part, ok) => {
                let result = if ok { Ok(()) } else { Err("broken".into()) };
                Event::Probed { part: PARTS[usize::from(part)], result }
            }
            Step::Done { slot, pick, large, wall_us } => {
                let held = session.slots.get(usize::from(slot)).map(|slot| slot.held())?;
                let held = held.get(usize::from(pick) % (held.len() + 1))?;
                let mut done = done(held.attempt, wall_us);
                if large {
                    done.outcome = Outcome::Succeeded { output: Payload::Blob(blob(9)) };
                }
                Event::Done { slot, done }
            }
            Step::Saved { slot, suspended, blob: number } => {
                let held = session.slots.get(usize::from(slot)).map(|slot| slot.held())?;
                // Late news of an attempt that is here no more, now and then.
                let attempt = held.first().map_or(attempt(1, 39), |front| front.attempt);
                Event::Saved { slot, attempt, snapshot: blob(number), suspended }
            }
            Step::BeginsAnew(slot) => {
                let attempt = session.slots.get(usize::from(slot)).and_then(|slot| Some(slot.held().first()?.attempt))?;
                Event::BeginsAnew { slot, attempt, reason: "it is damaged".into() }
            }
            Step::Gone(slot) => {
                let front = session.slots.get(usize::from(slot)).and_then(|slot| Some(slot.held().first()?.attempt));
                let failed = front.map(|attempt| (attempt, Failure::ExecutorDied { how: "signal 9".into() }));
                Event::Gone { slot, failed: failed.filter(|_| slot != 1) }
            }
            Step::AnswerKeep { ok } => {
                let attempts: Vec<AttemptId> = std::mem::take(&mut self.asked).into_iter().collect();
                if !ok {
                    return Some(Event::NotKept { attempts, reason: "no space".into() });
                }
                self.durable.extend(attempts.iter().map(|attempt| (*attempt, self.records[attempt].clone())));
                Event::Kept { attempts }
            }
            Step::AnswerRecollect { lose } => {
                let attempts = std::mem::take(&mut self.recollect);
                if lose {
                    return Some(Event::Recollected { records: Vec::new(), missing: attempts });
                }
                let records = attempts.iter().filter_map(|attempt| self.durable.get(attempt).cloned()).collect();
                Event::Recollected { records, missing: Vec::new() }
            }
            Step::Deliver(delivery) => {
                let attempt = self.deliver.pop()?;
                if delivery == Delivery::Stored {
                    self.delivered.insert(attempt);
                }
                Event::Delivered { attempt, delivery }
            }
            Step::Load(percent) => {
                Event::Sample(Sample { cpu_others_percent: percent, memory_available_bytes: 1 << 33, ..Sample::QUIET })
            }
            Step::Owner(word) => Event::Owner(word),
            Step::Input => Event::Input,
            Step::Narrow { idle_s, beside_cores, hours } => Event::Narrowed(Box::new(Changes {
                idle: Some(Span::from_secs(idle_s)),
                beside_owner: Some(beside_cores > 20),
                beside_cores: Some(Percent::new(beside_cores)),
                hours: hours.then(Hours::never),
                ..Changes::default()
            })),
            Step::Announce(announcement) => Event::Announced(announcement),
            Step::Slept(millis) => Event::Slept(Duration::from_millis(millis)),
            Step::Stop => Event::Stop { grace: Duration::from_secs(3) },
        })
    }
}

fn message(say: Say) -> ToAgent {
    let attempts = |job, first: u32, count| (first..first + count).map(move |index| attempt(job, index));
    match say {
        Say::Welcome => welcome(),
        Say::Brief(job) => {
            let mut brief = brief(job);
            // Executors of the third job and of the others do not fit each other.
            brief.grants.random = job == 3;
            ToAgent::Brief(Box::new(brief))
        }
        Say::Assign { job, first, count, blob: number } => {
            let input = number.map_or_else(|| Payload::inline(vec![7; 10]), |number| Payload::Blob(blob(number)));
            ToAgent::Assign(
                attempts(job, first, count)
                    .map(|attempt| {
                        // The second job's can be moved, and every other one of them was.
                        let build = if job == 2 { Build::Migratable } else { Build::Plain };
                        let resume =
                            (job == 2 && attempt.task.index % 2 == 0).then(|| SnapshotRef { blob: blob(4), spent_us: 1_000_000 });
                        Assignment { attempt, input: input.clone(), build, resume }
                    })
                    .collect(),
            )
        }
        Say::Discard(number) => ToAgent::Discard { snapshots: vec![blob(number).digest] },
        Say::Keep(number) => ToAgent::Keep { task: attempt(2, u32::from(number)).task, snapshot: blob(number) },
        Say::Safe(number) => ToAgent::Safe { snapshots: vec![blob(number).digest] },
        Say::Recall { job, first, count, reason } => ToAgent::Recall { attempts: attempts(job, first, count).collect(), reason },
        Say::Acknowledge { job, first, count } => ToAgent::Acknowledge { attempts: attempts(job, first, count).collect() },
        Say::Forget(job) => ToAgent::Forget { job: JobId(job) },
        Say::Intake => ToAgent::Intake(Intake::Draining),
        Say::Goodbye(reason) => ToAgent::Goodbye { reason },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_keeps_every_attempt_in_one_place(steps in proptest::collection::vec(step(), 1..250)) {
        let mut now = Timestamp::from_millis(1_000_000);
        let mut config = config(3);
        config.standing.admin.grace = Span::from_secs(20);
        let mut session = Session::new(config, &[], now);
        let (mut edges, mut frame) = (Edges { open: true, ..Edges::default() }, 0);
        for event in [Event::Connected, Event::Frame(ToAgentFrame { number: 1, messages: vec![welcome()] })] {
            session.handle(event, now);
        }
        std::iter::from_fn(|| session.poll_effect()).for_each(|effect| edges.carry_out(effect));
        for step in steps {
            if let Step::Pass(millis) = step {
                now = now + Duration::from_millis(millis);
            }
            if let Some(event) = edges.event(step, &session, &mut frame) {
                session.handle(event, now);
            }
            for turn in 0.. {
                session.audit();
                while let Some(effect) = session.poll_effect() {
                    edges.carry_out(effect);
                }
                if session.poll_timeout(now).is_none_or(|due| due > now) {
                    break;
                }
                assert!(turn < 10, "a timeout that does not go away");
                session.handle_timeout(now);
            }
        }
    }
}
