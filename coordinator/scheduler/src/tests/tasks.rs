//! How every task of a job stands, held against a model that knows nothing of marks, sets and counts: a list with a word
//! about each task.

use std::time::Duration;

use lull_shared::{
    digest::{BlobRef, Digest},
    id::AgentId,
    message::SnapshotRef,
    state::{PauseReason, TaskCounts, TaskState},
    time::Timestamp,
};
use proptest::{collection::vec, prelude::*};

use crate::{
    effect::TaskAfter,
    event::{Answer, EndedTask, Retrying, Saved},
    jobs::tasks::{Place, Tasks},
};

const SIZE: u32 = 6;
const AGENTS: std::ops::RangeInclusive<u64> = 1..=3;
const SECOND: Duration = Duration::from_secs(1);

/// One thing that happens. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Start {
        agent: u64,
        alone: bool,
    },
    Beside {
        which: usize,
        agent: u64,
    },
    Want(usize),
    Unwant(usize),
    /// One of several copies ends, or the only one as this.
    Finish {
        which: usize,
        after: After,
    },
    /// The same with an output that is to be compared.
    Answer(usize),
    Pause {
        which: usize,
        paused: bool,
    },
    Pass(u64),
    StopFresh(bool),
    StopNext(bool),
    Retry(usize),
    Save(usize),
    DropSaved(usize),
    Lose(usize),
}

#[derive(Debug, Clone, Copy)]
enum After {
    Succeeded,
    Failed,
    Cancelled,
    Expired,
    /// After so many seconds, having failed or not.
    Again(u64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![
        Just(After::Succeeded),
        Just(After::Failed),
        Just(After::Cancelled),
        Just(After::Expired),
        (0..4_u64, any::<bool>()).prop_map(|(seconds, failed)| After::Again(seconds, failed)),
        (0..2_u64).prop_map(|seconds| After::Again(seconds, true)),
    ];
    prop_oneof![
        6 => (AGENTS, any::<bool>()).prop_map(|(agent, alone)| Step::Start { agent, alone }),
        2 => (any::<usize>(), AGENTS).prop_map(|(which, agent)| Step::Beside { which, agent }),
        2 => any::<usize>().prop_map(Step::Want),
        1 => any::<usize>().prop_map(Step::Unwant),
        6 => (any::<usize>(), after).prop_map(|(which, after)| Step::Finish { which, after }),
        3 => any::<usize>().prop_map(Step::Answer),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, paused)| Step::Pause { which, paused }),
        2 => (0..3_u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::StopFresh),
        1 => any::<bool>().prop_map(Step::StopNext),
        1 => (0..3_usize).prop_map(Step::Retry),
        2 => any::<usize>().prop_map(Step::Save),
        1 => any::<usize>().prop_map(Step::DropSaved),
        1 => any::<usize>().prop_map(Step::Lose),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Stands {
    Fresh,
    Waits {
        until: Timestamp,
        rests: bool,
        failed_at: Option<AgentId>,
    },
    /// In the order of their numbers.
    With(Vec<Held>),
    Ended(TaskState),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    number: u32,
    agent: AgentId,
    paused: bool,
}

#[derive(Debug, Clone)]
struct Task {
    stands: Stands,
    attempts: u32,
    failures: u32,
    lost: u32,
    answers: Vec<AgentId>,
    wanted: bool,
    spent_us: Option<u64>,
}

#[derive(Debug)]
struct World {
    tasks: Tasks,
    model: Vec<Task>,
    fresh_ended: Option<TaskState>,
    now: Timestamp,
    saves: u64,
}

impl Task {
    fn held(&self) -> &[Held] {
        match &self.stands {
            Stands::With(held) => held,
            Stands::Fresh | Stands::Waits { .. } | Stands::Ended(_) => &[],
        }
    }

    /// It came back, and may start now.
    fn is_listed(&self) -> bool {
        matches!(self.stands, Stands::Waits { rests: false, .. })
    }

    fn shuns(&self) -> Option<AgentId> {
        match self.stands {
            Stands::Waits { rests: false, failed_at, .. } if self.answers.is_empty() => failed_at,
            _ => None,
        }
    }

    /// Whether this agent could begin it once more beside others.
    fn is_wanted_of(&self, agent: AgentId) -> bool {
        self.wanted && self.held().iter().all(|held| held.agent != agent) && !self.answers.contains(&agent)
    }

    fn is_check_for(&self, agent: AgentId) -> bool {
        self.is_listed() && !self.answers.is_empty() && !self.answers.contains(&agent)
    }

    fn end(&mut self, state: TaskState) {
        (self.stands, self.wanted, self.lost, self.spent_us) = (Stands::Ended(state), false, 0, None);
        self.answers.clear();
    }
}

impl World {
    fn new() -> Self {
        let fresh =
            Task { stands: Stands::Fresh, attempts: 0, failures: 0, lost: 0, answers: Vec::new(), wanted: false, spent_us: None };
        let model = vec![fresh; SIZE as usize];
        Self { tasks: Tasks::new(SIZE), model, fresh_ended: None, now: Timestamp::from_millis(1_000), saves: 0 }
    }

    /// One of the tasks that are so.
    fn choose(&self, which: usize, is: impl Fn(&Task) -> bool) -> Option<u32> {
        let are: Vec<u32> = (0..).zip(&self.model).filter(|(_, task)| is(task)).map(|(index, _)| index).collect();
        which.checked_rem(are.len()).map(|which| are[which])
    }

    fn task(&mut self, index: u32) -> &mut Task {
        &mut self.model[index as usize]
    }

    fn open_fresh(&self) -> u32 {
        let fresh = self.model.iter().filter(|task| task.stands == Stands::Fresh).count() as u32;
        if self.fresh_ended.is_none() { fresh } else { 0 }
    }

    /// What starts next with this agent: the index, and whether beside others.
    fn next_for(&self, agent: AgentId, alone: bool) -> Option<(u32, bool)> {
        let all = || (0..).zip(&self.model);
        if let Some((index, _)) = all().find(|(_, task)| task.is_wanted_of(agent)) {
            return Some((index, true));
        }
        let checks = all().filter(|(_, task)| task.is_check_for(agent));
        let by_tried = |(index, task): &(u32, &Task)| {
            let mut tried = task.answers.clone();
            tried.sort_unstable();
            (tried, *index)
        };
        if let Some((index, _)) = checks.min_by_key(by_tried) {
            return Some((index, false));
        }
        let came_back = |fits: &dyn Fn(AgentId) -> bool| {
            let shunned = all().filter_map(|(index, task)| Some((task.shuns().filter(|by| fits(*by))?, index))).min();
            let plain = all().find(|(_, task)| task.is_listed() && task.answers.is_empty() && task.shuns().is_none());
            shunned.map(|(_, index)| index).into_iter().chain(plain.map(|(index, _)| index)).min()
        };
        let fresh = || all().find(|(_, task)| task.stands == Stands::Fresh && self.fresh_ended.is_none()).map(|(index, _)| index);
        came_back(&|by| alone || by != agent).or_else(fresh).or_else(|| came_back(&|by| by == agent)).map(|index| (index, false))
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Start { agent, alone } => {
                let agent = AgentId(agent);
                let expected = self.next_for(agent, alone);
                let begun = self.tasks.start(agent, alone, now);
                assert_eq!(begun.map(|begun| (begun.index, begun.beside)), expected);
                let Some((index, beside)) = expected else { return };
                let task = self.task(index);
                task.attempts += 1;
                let held = Held { number: task.attempts, agent, paused: false };
                match &mut task.stands {
                    Stands::With(others) => others.push(held),
                    stands => *stands = Stands::With(vec![held]),
                }
                task.wanted &= !beside;
                let (compared, spent_us) = (!task.answers.is_empty() && !beside, task.spent_us);
                assert_eq!(begun.map(|begun| begun.number), Some(held.number));
                let live = self.tasks.live(index, held.number).expect("it has just begun");
                assert_eq!((live.agent, live.since, live.resumed_us), (agent, now, spent_us));
                assert_eq!(live.cause.as_deref().is_some_and(|cause| cause.contains("compared")), compared);
            }
            Step::Beside { which, agent } => {
                let agent = AgentId(agent);
                let fits = |task: &Task| !task.held().is_empty() && task.held().iter().all(|held| held.agent != agent);
                let Some(index) = self.choose(which, fits) else { return };
                let number = self.tasks.start_beside(index, agent, "it is slow".into(), now);
                let task = self.task(index);
                task.attempts += 1;
                assert_eq!(number, Some(task.attempts));
                let held = Held { number: task.attempts, agent, paused: false };
                let Stands::With(others) = &mut task.stands else { unreachable!("it is with an agent") };
                others.push(held);
            }
            Step::Want(which) => {
                let index = (which % SIZE as usize) as u32;
                self.tasks.want(index, "nothing is heard".into());
                let task = self.task(index);
                task.wanted |= !task.held().is_empty();
            }
            Step::Unwant(which) => {
                let Some(index) = self.choose(which, |task| task.wanted) else { return };
                self.tasks.unwant(index);
                self.task(index).wanted = false;
            }
            Step::Finish { which, after } => self.finish(which, after),
            Step::Answer(which) => {
                let Some(index) = self.choose(which, |task| task.held().iter().any(|held| !task.answers.contains(&held.agent)))
                else {
                    return;
                };
                let task = &self.model[index as usize];
                let held = *task.held().iter().find(|held| !task.answers.contains(&held.agent)).expect("it was chosen by that");
                let answer = Answer { number: held.number, agent: held.agent, digest: Digest::of(b"output") };
                self.tasks.add_answer(index, answer);
                self.task(index).answers.push(held.agent);
                self.end_copy(index, held, After::Again(0, false));
            }
            Step::Pause { which, paused } => {
                let Some(index) = self.choose(which, |task| !task.held().is_empty()) else { return };
                let reason = paused.then_some(PauseReason::Touched);
                let task = self.task(index);
                let Stands::With(held) = &mut task.stands else { unreachable!("it is with an agent") };
                let at = which % held.len();
                let news = held[at].paused != paused;
                held[at].paused = paused;
                let (number, all) = (held[at].number, held.iter().all(|held| held.paused));
                assert_eq!(self.tasks.pause(index, number, reason), news.then_some(all));
            }
            Step::Pass(seconds) => {
                self.now = now + SECOND * seconds as u32;
                let now = self.now;
                self.tasks.wake(now);
                for task in &mut self.model {
                    if let Stands::Waits { until, rests, .. } = &mut task.stands {
                        *rests &= *until > now;
                    }
                }
            }
            Step::StopFresh(expired) => {
                let state = if expired { TaskState::Expired } else { TaskState::Cancelled };
                self.tasks.stop_fresh(state);
                self.fresh_ended.get_or_insert(state);
                self.model.iter_mut().for_each(|task| task.wanted = false);
            }
            Step::StopNext(expired) => {
                let state = if expired { TaskState::Expired } else { TaskState::Cancelled };
                let first = self.choose(0, |task| matches!(task.stands, Stands::Waits { .. }));
                assert_eq!(self.tasks.stop_next(state), first);
                let Some(index) = first else { return };
                assert_eq!(self.tasks.drop_answers(index), !self.model[index as usize].answers.is_empty());
                assert_eq!(self.tasks.drop_saved(index).is_some(), self.model[index as usize].spent_us.is_some());
                self.task(index).end(state);
            }
            Step::Retry(most) => self.retry(most),
            Step::Save(which) => {
                let open = |task: &Task| matches!(task.stands, Stands::With(_) | Stands::Waits { .. });
                let Some(index) = self.choose(which, open) else { return };
                self.saves += 1;
                let snapshot = SnapshotRef { blob: BlobRef::of(&self.saves.to_le_bytes()), spent_us: self.saves };
                self.tasks.save(index, Saved { snapshot, agent: AgentId(1) });
                self.task(index).spent_us = Some(snapshot.spent_us);
            }
            Step::DropSaved(which) => {
                let Some(index) = self.choose(which, |task| task.spent_us.is_some()) else { return };
                assert!(self.tasks.drop_saved(index).is_some());
                self.task(index).spent_us = None;
            }
            Step::Lose(which) => {
                let Some(index) = self.choose(which, |task| !task.held().is_empty()) else { return };
                self.tasks.note_lost(index);
                self.task(index).lost += 1;
            }
        }
    }

    fn finish(&mut self, which: usize, after: After) {
        let Some(index) = self.choose(which, |task| !task.held().is_empty()) else { return };
        let held = self.model[index as usize].held();
        let one = held[which % held.len()];
        self.end_copy(index, one, after);
    }

    fn end_copy(&mut self, index: u32, one: Held, after: After) {
        let (now, failures) = (self.now, self.model[index as usize].failures);
        let task = &mut self.model[index as usize];
        let Stands::With(held) = &mut task.stands else { unreachable!("it is with an agent") };
        held.retain(|other| other.number != one.number);
        task.wanted = false;
        let failed = matches!(after, After::Again(_, true)) || matches!(after, After::Failed);
        let failures = failures + u32::from(failed);
        if let Some(other) = held.first() {
            let after = TaskAfter::Continues { agent: other.agent, paused: held.iter().all(|held| held.paused), failures };
            task.failures = failures;
            return self.tasks.finish(index, one.number, after, now);
        }
        let (ends, recorded) = match after {
            After::Succeeded => (Some(TaskState::Succeeded), TaskAfter::Succeeded),
            After::Failed => (Some(TaskState::Failed), TaskAfter::Failed),
            After::Cancelled => (Some(TaskState::Cancelled), TaskAfter::Cancelled),
            After::Expired => (Some(TaskState::Expired), TaskAfter::Expired),
            After::Again(seconds, _) => (None, TaskAfter::Again { not_before: now + SECOND * seconds as u32, failures }),
        };
        self.tasks.finish(index, one.number, recorded, now);
        let Some(state) = ends else {
            let until = match recorded {
                TaskAfter::Again { not_before, .. } => not_before,
                _ => unreachable!("it waits"),
            };
            task.failures = failures;
            task.stands = Stands::Waits { until, rests: until > now, failed_at: failed.then_some(one.agent) };
            return;
        };
        assert_eq!(self.tasks.drop_answers(index), !task.answers.is_empty());
        assert_eq!(self.tasks.drop_saved(index).is_some(), task.spent_us.is_some());
        task.end(state);
    }

    fn retry(&mut self, most: usize) {
        let now = self.now;
        let badly =
            |task: &Task| matches!(task.stands, Stands::Ended(TaskState::Failed | TaskState::Cancelled | TaskState::Expired));
        let failed = self.model.iter().filter(|task| task.stands == Stands::Ended(TaskState::Failed)).count() as u32;
        let some = self.model.iter().any(badly);
        assert_eq!(self.tasks.reopen_fresh(), some.then_some(Retrying { from: 0, forgiven: failed }));
        self.fresh_ended = None;
        let mut ended = Vec::new();
        for (index, task) in (0..).zip(&mut self.model) {
            if ended.len() < most && badly(task) {
                let Stands::Ended(state) = task.stands else { unreachable!("it ended badly") };
                let failed_at = (state == TaskState::Failed).then_some(AgentId(2));
                ended.push(EndedTask { index, attempts: task.attempts, state, failed_at });
                (task.stands, task.failures) = (Stands::Waits { until: now, rests: false, failed_at }, 0);
            }
        }
        self.tasks.reopen(&ended, now);
    }

    fn counts(&self, held_back: bool) -> TaskCounts {
        let mut counts = TaskCounts::default();
        let queued = if held_back { TaskState::Waiting } else { TaskState::Queued };
        for task in &self.model {
            let state = match &task.stands {
                Stands::Ended(state) => *state,
                Stands::Fresh => self.fresh_ended.unwrap_or(queued),
                _ if !task.answers.is_empty() => TaskState::Verifying,
                Stands::With(held) if held.iter().all(|held| held.paused) => TaskState::Paused,
                Stands::With(_) => TaskState::Running,
                Stands::Waits { rests: true, .. } => TaskState::Waiting,
                Stands::Waits { .. } if task.spent_us.is_some() && !held_back => TaskState::Moving,
                Stands::Waits { .. } => queued,
            };
            *counts.get_mut(state) += 1;
        }
        counts
    }

    /// Everything that can be asked says what the list says.
    fn compare(&self) {
        let tasks = &self.tasks;
        assert_eq!(tasks.audit(), Ok(()));
        for held_back in [false, true] {
            assert_eq!(tasks.counts(held_back), self.counts(held_back), "held back: {held_back}");
        }
        let counts = self.counts(false);
        let is = |is: &dyn Fn(&Task) -> bool| self.model.iter().filter(|task| is(task)).count() as u32;
        let listed = is(&Task::is_listed);
        let startable = listed + self.open_fresh();
        let wanted = is(&|task| task.wanted) > 0;
        let waits = is(&|task| matches!(task.stands, Stands::Waits { .. }));
        let with_agents = is(&|task| !task.held().is_empty());
        assert_eq!((tasks.startable(), tasks.open()), (startable, waits + with_agents + self.open_fresh()));
        assert_eq!((tasks.has_some(), tasks.has_wanted()), (startable > 0 || wanted, wanted));
        assert_eq!((tasks.has_waiting(), tasks.with_agents().len() as u32), (waits > 0, with_agents));
        let checks = is(&|task| task.is_listed() && !task.answers.is_empty());
        assert_eq!(tasks.has_particular(), checks > 0 || wanted);
        assert_eq!(tasks.has_shunning(), is(&|task| task.shuns().is_some()) > 0);
        assert_eq!(tasks.failed(), is(&|task| task.stands == Stands::Ended(TaskState::Failed)));
        assert_eq!(tasks.ended_badly(), counts.failed + counts.cancelled + counts.expired);
        assert_eq!(tasks.saved_count() as u32, is(&|task| task.spent_us.is_some()));
        assert_eq!(tasks.all_live().count(), self.model.iter().map(|task| task.held().len()).sum::<usize>());
        let rests = self.model.iter().filter_map(|task| match task.stands {
            Stands::Waits { until, rests: true, .. } => Some(until),
            _ => None,
        });
        assert_eq!(tasks.next_wake(), rests.min());
        for agent in AGENTS.map(AgentId) {
            let beside = is(&|task| task.is_wanted_of(agent)) > 0;
            let check = is(&|task| task.is_check_for(agent)) > 0;
            let plain =
                is(&|task| task.is_listed() && task.answers.is_empty() && task.shuns() != Some(agent)) + self.open_fresh();
            assert_eq!(tasks.is_wanted_of(agent), beside, "{agent}");
            assert_eq!(tasks.has_for(agent), beside || check || plain > 0, "{agent}");
            assert_eq!(tasks.has_shunned(agent), is(&|task| task.shuns() == Some(agent)) > 0, "{agent}");
        }
        for (index, task) in (0..).zip(&self.model) {
            self.compare_task(index, task, startable, checks);
        }
        assert!(tasks.place(SIZE).is_none() && tasks.attempts(SIZE).is_none());
    }

    fn compare_task(&self, index: u32, task: &Task, startable: u32, checks: u32) {
        let tasks = &self.tasks;
        let (place, ended) = (tasks.place(index).expect("it is a task"), self.fresh_ended.is_some());
        let agrees = match (&task.stands, &place) {
            (Stands::Fresh, Place::Fresh) => !ended,
            (Stands::Fresh, Place::Ended) => ended,
            (Stands::Waits { rests: false, .. }, Place::Ready) | (Stands::Ended(_), Place::Ended) => true,
            (Stands::Waits { rests: true, until: known, .. }, Place::Resting { until }) => known == until,
            (Stands::With(held), Place::Live(copies)) => {
                let live =
                    copies.iter().map(|live| Held { number: live.number, agent: live.agent, paused: live.paused.is_some() });
                live.eq(held.iter().copied()) && copies.failures == task.failures
            }
            _ => false,
        };
        assert!(agrees, "task {index} stands as {:?} and is at {place:?}", task.stands);
        let is_open = !matches!(place, Place::Ended);
        assert_eq!(tasks.attempts(index), is_open.then_some(task.attempts), "task {index}");
        assert_eq!(tasks.has_ended(index), matches!(task.stands, Stands::Ended(_)), "task {index}");
        assert_eq!((tasks.is_wanted(index), tasks.lost(index)), (task.wanted, task.lost), "task {index}");
        assert_eq!(tasks.saved(index).map(|saved| saved.snapshot.spent_us), task.spent_us, "task {index}");
        assert_eq!(tasks.answers(index).iter().map(|answer| answer.agent).collect::<Vec<_>>(), task.answers, "task {index}");
        let listed_below = || {
            let below = self.model[..index as usize].iter();
            below.filter(|task| task.is_listed() && task.answers.is_empty()).count() as u32
        };
        let ahead = match &place {
            Place::Ready if !task.answers.is_empty() => 0,
            Place::Ready => checks + listed_below(),
            // All that came back, and the fresh ones before it.
            Place::Fresh => startable - (SIZE - index),
            Place::Resting { .. } => startable,
            Place::Live(_) | Place::Ended => 0,
        };
        assert_eq!(tasks.ahead_of(index), u64::from(ahead), "task {index}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tasks_stand_as_a_list_of_them_says_whatever_happens(steps in vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.compare();
        }
    }
}

/// What a store remembers of a job makes the same tasks again.
#[test]
fn remembered_tasks_stand_where_they_stood() {
    use crate::event::{OpenAttempt, OpenPlace, OpenTask};
    use lull_shared::message::Build;

    let now = Timestamp::from_millis(5_000);
    let attempt = |number, agent| OpenAttempt {
        number,
        agent: AgentId(agent),
        since: now,
        resumed_us: None,
        build: Build::Plain,
        cause: None,
    };
    let task = |index, place| OpenTask { index, attempts: 3, failures: 1, lost: 0, place, saved: None, answers: Vec::new() };
    let waiting = |seconds: i64| OpenPlace::Waiting { not_before: Timestamp(now.0 + seconds * 1_000_000) };
    let answer = Answer { number: 1, agent: AgentId(1), digest: Digest::of(b"output") };
    let open = [
        task(0, OpenPlace::At(vec![attempt(2, 1), attempt(3, 2)])),
        task(1, waiting(0)),
        task(2, waiting(1)),
        OpenTask { answers: vec![answer], lost: 2, ..task(3, waiting(-1)) },
    ];
    let ended = TaskCounts { succeeded: 1, failed: 2, cancelled: 3, expired: 4, ..TaskCounts::default() };
    let mut tasks = Tasks::restore(20, 14, ended, &open, None, now);
    assert_eq!(tasks.audit(), Ok(()));
    let counts = TaskCounts { running: 1, queued: 1 + 6, waiting: 1, verifying: 1, ..ended };
    assert_eq!((tasks.counts(false), tasks.next_wake()), (counts, Some(Timestamp(now.0 + 1_000_000))));
    assert_eq!([0, 1, 2, 3].map(|index| tasks.lost(index)), [0, 0, 0, 2]);
    assert_eq!([0, 1, 2, 3, 4, 14].map(|index| tasks.attempts(index)), [Some(3), Some(3), Some(3), Some(3), None, Some(0)]);
    let begun = [(); 3].map(|()| tasks.start(AgentId(1), false, now).map(|begun| (begun.index, begun.number)));
    assert_eq!(begun, [Some((1, 4)), Some((14, 1)), Some((15, 1))], "what it answered goes to another, what rests to nobody");
    let stopped = Tasks::restore(20, 14, ended, &open, Some(TaskState::Expired), now);
    assert_eq!(stopped.counts(false), TaskCounts { running: 1, queued: 1, waiting: 1, verifying: 1, expired: 10, ..ended });
    let beyond = Tasks::restore(3, 9, TaskCounts { succeeded: 3, ..TaskCounts::default() }, &[], None, now);
    assert_eq!((beyond.open(), beyond.counts(false).total()), (0, 3), "a mark beyond the end is the end");
}
