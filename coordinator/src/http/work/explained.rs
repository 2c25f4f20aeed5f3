//! Why a job is where it is, for people in one line and for programs by reason.
//!
//! Says only what is known: an agent that is in the way for several reasons counts under the one that lasts longest. What
//! holds longest is said first: what nobody waits for the end of, then what holds the job back whatever the agents do, then
//! the agents. Of those it is not said that they could start what may not start.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, extract::State};
use lull_scheduler::view::{AgentVerdict, JobExplanation, Obstacle, Outage};
use lull_shared::{
    amount::counted,
    id::{AgentId, JobId},
    state::{Intake, JobState, PauseReason, TaskCounts, TaskState, WaitReason},
    time::Timestamp,
};

use crate::{
    api::{CauseBody, HeldBody, InTheWayBody, JobExplanationBody, Reason, ending, shape},
    http::{
        Interface, Shared,
        door::{
            auth::{At, Viewer},
            error::Answer,
        },
        fleet::agents,
        work::{causes, jobs},
    },
    store::record::JobRecord,
};

/// Reasons that are told in one line; the rest is counted.
const TOLD_MAX: usize = 3;

/// `GET /jobs/{job}/explain`
pub(crate) async fn explain(State(state): Shared, _viewer: Viewer, At(job): At<JobId>) -> Answer<Json<JobExplanationBody>> {
    Ok(Json(told(&state, job).await?))
}

/// Why a job is where it is.
pub(crate) async fn told(state: &Interface, job: JobId) -> Answer<JobExplanationBody> {
    let found = state.coordinator.dispatch.query(move |scheduler, at| scheduler.explain_job(job, at)).await?;
    let left = agents::left(&*state.coordinator.store).await?;
    let record = jobs::remembered(state, job).await?;
    let causes = causes::of(state, &record).await?;
    let found = found.filter(|_| !record.state.is_ended()).map(|found| without(found, &left));
    let mut body = found.map_or_else(|| ended(&record, &causes), |found| active(&record, &found));
    body.tasks.extend(over(&record, &body.counts, causes));
    Ok(body)
}

/// Without machines that left, which are in nobody's way.
fn without(mut found: JobExplanation, left: &BTreeSet<AgentId>) -> JobExplanation {
    found.agents.retain(|verdict| !left.contains(&verdict.agent));
    found
}

/// Tasks that have ended: those that failed by cause, as many as are counted.
fn over(record: &JobRecord, counts: &TaskCounts, causes: Vec<CauseBody>) -> Vec<HeldBody> {
    let mut failed = u64::from(counts.failed);
    let mut rows = vec![row(counts.succeeded, TaskState::Succeeded, None)];
    for cause in causes {
        // The store may know of more by now.
        let tasks = cause.tasks.min(failed);
        failed -= tasks;
        let (state, reason) = (TaskState::Failed, Some(Reason::new("failed", cause.message)));
        rows.push(HeldBody { tasks, state, reason, example: Some(cause.example) });
    }
    let others = (rows.len() > 1).then(|| Reason::new("failed", "for other reasons"));
    rows.push(HeldBody { tasks: failed, ..row(0, TaskState::Failed, others) });
    let because = |state: JobState| Some(Reason::new(state.as_str(), ending::stopped(record, state)));
    rows.push(row(counts.cancelled, TaskState::Cancelled, because(JobState::Cancelled)));
    rows.push(row(counts.expired, TaskState::Expired, because(JobState::Expired)));
    rows.retain(|row| row.tasks > 0);
    rows
}

fn ended(record: &JobRecord, causes: &[CauseBody]) -> JobExplanationBody {
    JobExplanationBody {
        job: record.job,
        name: record.spec.name.clone(),
        state: record.state,
        summary: ending::of_job_with(record, causes).unwrap_or_else(|| "the job is about to end".into()),
        counts: record.counts,
        tasks: Vec::new(),
        agents: Vec::new(),
    }
}

fn active(record: &JobRecord, found: &JobExplanation) -> JobExplanationBody {
    let counts = found.view.counts;
    let ways = ways(&found.agents);
    let held_back = held_back(found);
    let startable = counts.queued + counts.moving + counts.waiting + counts.verifying > 0;
    JobExplanationBody {
        job: record.job,
        name: record.spec.name.clone(),
        state: record.state,
        summary: summary(found, &ways),
        counts,
        tasks: held(found, &ways),
        agents: if startable { ways.iter().map(|way| way.body(held_back)).collect() } else { Vec::new() },
    }
}

/// Agents that have the same kind of obstacle, or none.
struct Way<'a> {
    obstacle: Option<&'a Obstacle>,
    agents: u64,
    example: &'a str,
}

impl Way<'_> {
    fn body(&self, held_back: Option<&WaitReason>) -> InTheWayBody {
        let free = || held_back.map(|_| Reason::new("held_back", "nothing on it; the job itself may not start"));
        let reason = self.obstacle.map(shape::obstacle).or_else(free);
        InTheWayBody { agents: self.agents, reason, example: self.example.to_owned() }
    }

    fn is_revoked(&self) -> bool {
        self.obstacle.is_some_and(Obstacle::is_revoked)
    }

    /// Whether that may well last until a window opens or another job ends.
    fn lasts(&self) -> bool {
        match self.obstacle {
            None => false,
            Some(Obstacle::Paused(reason)) => match reason {
                PauseReason::Owner { .. } | PauseReason::Unseen | PauseReason::Trouble(_) | PauseReason::Hours { .. } => true,
                PauseReason::Busy { .. }
                | PauseReason::Memory { .. }
                | PauseReason::Touched
                | PauseReason::Present { .. }
                | PauseReason::Beside { .. }
                | PauseReason::Stalled { .. }
                | PauseReason::Battery { .. }
                | PauseReason::Temperature { .. }
                | PauseReason::FullScreen
                | PauseReason::Metered
                | PauseReason::Reboot
                | PauseReason::Lid
                | PauseReason::Sleep
                | PauseReason::Shutdown
                | PauseReason::Upgrade
                | PauseReason::Starting => false,
            },
            Some(
                Obstacle::Label { .. }
                | Obstacle::Quarantined { .. }
                | Obstacle::Closed(_)
                | Obstacle::Away { .. }
                | Obstacle::Asleep { .. },
            ) => true,
            Some(Obstacle::Answered | Obstacle::NoFreeSlot { .. } | Obstacle::Memory { .. } | Obstacle::Refused { .. }) => false,
        }
    }

    /// As a part of a sentence: `desk-1 is paused by its owner`, `3 agents are paused by their owners`.
    fn words(&self) -> String {
        let (one, example) = (self.agents == 1, self.example);
        let say = |single: &str, several: &str| {
            if one { format!("{example} {single}") } else { format!("{} agents {several}", self.agents) }
        };
        match self.obstacle {
            None => say("could start a task of the job now", "could start a task of the job now"),
            Some(Obstacle::Paused(reason)) => match reason {
                PauseReason::Owner { .. } => say("is paused by its owner", "are paused by their owners"),
                PauseReason::Present { .. } | PauseReason::Touched => {
                    say("is being used by its owner", "are being used by their owners")
                }
                PauseReason::Unseen => say("cannot see whether its owner is there", "cannot see whether their owners are there"),
                PauseReason::Hours { opens: Some(opens) } => {
                    let clock = "by its own clock";
                    say(
                        &format!("may not work before {opens} {clock}"),
                        &format!("may not work yet, one from {opens} on {clock}"),
                    )
                }
                PauseReason::Hours { opens: None } => say("may never work by its policy", "may never work by their policy"),
                PauseReason::Starting => say("has just started", "have just started"),
                PauseReason::Upgrade => say("is being upgraded", "are being upgraded"),
                PauseReason::Busy { .. } => say("is busy with other programs", "are busy with other programs"),
                PauseReason::Battery { .. } => say("runs on battery", "run on battery"),
                other => say(&format!("is paused: {other}"), &format!("are paused, for example {example}: {other}")),
            },
            Some(Obstacle::Away { .. }) => say("is not connected", "are not connected"),
            Some(Obstacle::Asleep { .. }) => say("sleeps", "sleep"),
            Some(Obstacle::Closed(intake)) => {
                let word = intake.as_str();
                say(&format!("is {word}"), &format!("are {word}"))
            }
            Some(Obstacle::Quarantined { .. }) => say("is quarantined", "are quarantined"),
            Some(Obstacle::Label { constraint, .. }) => {
                say(&format!("lacks {constraint}"), &format!("lack what is required, such as {constraint}"))
            }
            Some(Obstacle::Memory { .. }) => say("has too little memory free", "have too little memory free"),
            Some(Obstacle::NoFreeSlot { .. }) => say("has no free slot", "have no free slot"),
            Some(Obstacle::Refused { reason, .. }) => {
                let task = "refused a task of the job";
                say(&format!("{task} ({reason})"), &format!("{task}, for example {example}: {reason}"))
            }
            Some(other) => say(&format!("cannot: {other}"), &format!("cannot, for example {example}: {other}")),
        }
    }
}

/// How long an obstacle lasts as a rule: what only an administrator changes comes first.
fn rank(obstacle: &Obstacle) -> u8 {
    match obstacle {
        Obstacle::Closed(Intake::Revoked) => 0,
        Obstacle::Label { .. } => 1,
        Obstacle::Quarantined { .. } => 2,
        Obstacle::Closed(Intake::Cordoned | Intake::Draining | Intake::Open) => 3,
        Obstacle::Away { .. } | Obstacle::Asleep { .. } => 4,
        Obstacle::Paused(_) => 5,
        Obstacle::Memory { .. } => 6,
        Obstacle::Refused { .. } => 7,
        Obstacle::Answered => 8,
        Obstacle::NoFreeSlot { .. } => 9,
    }
}

/// The agents by the obstacle that lasts longest, most agents first, and those that are not there last.
fn ways(agents: &[AgentVerdict]) -> Vec<Way<'_>> {
    let mut ways: BTreeMap<(u8, String), Way<'_>> = BTreeMap::new();
    for verdict in agents {
        let obstacle = verdict.obstacles.iter().min_by_key(|obstacle| rank(obstacle));
        let key = obstacle.map_or((u8::MAX, String::new()), |obstacle| match obstacle {
            Obstacle::Paused(reason) => (rank(obstacle), reason.kind().to_owned()),
            other => (rank(obstacle), shape::obstacle(other).kind),
        });
        ways.entry(key).or_insert(Way { obstacle, agents: 0, example: &verdict.name }).agents += 1;
    }
    let mut ways: Vec<Way<'_>> = ways.into_values().collect();
    // Nobody can do anything about machines that are switched off before those that are there.
    ways.sort_by_key(|way| (way.obstacle.is_some_and(Obstacle::is_absence), std::cmp::Reverse(way.agents)));
    ways
}

/// What holds the whole job back, whatever the agents do.
fn held_back(found: &JobExplanation) -> Option<&WaitReason> {
    found.view.waiting.as_ref().filter(|reason| !matches!(reason, WaitReason::Backoff { .. }))
}

/// All of it in one line.
fn summary(found: &JobExplanation, ways: &[Way<'_>]) -> String {
    let counts = &found.view.counts;
    let mut parts = Vec::new();
    if let Some(stopping) = found.view.stopping {
        parts.push(format!("the job is being {stopping}"));
    }
    parts.extend(found.outage.as_ref().map(Outage::to_string));
    if found.view.unreachable > 0 {
        let verb = if found.view.unreachable == 1 { "is" } else { "are" };
        let tasks = counted(found.view.unreachable.into(), "task");
        let why = "since nothing is heard of the agents that have them; their results still count";
        parts.push(format!("{tasks} {verb} unreachable, {why}"));
    }
    if found.running > 0 {
        let (tasks, agents) = (counted(found.running.into(), "task"), counted(found.running_on.into(), "agent"));
        let verb = if found.running == 1 { "runs" } else { "run" };
        parts.push(format!("{tasks} {verb} on {agents}"));
    }
    if found.with_agents > 0 {
        let verb = if found.with_agents == 1 { "waits" } else { "wait" };
        parts.push(format!("{} {verb} on an agent for its turn", counted(found.with_agents.into(), "task")));
    }
    for paused in &found.paused {
        let verb = if paused.tasks == 1 { "is" } else { "are" };
        parts.push(format!("{} {verb} paused ({})", counted(paused.tasks.into(), "task"), paused.reason));
    }
    let held_back = held_back(found);
    if let Some(never) = never(found, ways).filter(|_| counts.queued + counts.moving > 0 || held_back.is_some()) {
        parts.push(never);
        parts.extend(held_back.map(|reason| held_back_words(reason, found.finish_by)));
    } else if let Some(reason) = held_back {
        parts.push(held_back_words(reason, found.finish_by));
        // What passes until then is in nobody's way.
        if shape::too_late(reason, found.finish_by).is_none() {
            parts.extend(in_words(ways.iter().filter(|way| way.lasts() && !way.is_revoked()).collect()));
        }
    } else if counts.queued + counts.moving > 0 {
        parts.extend(in_the_way(found, ways));
    }
    if let Some(until) = found.retries_from.filter(|_| held_back.is_none() && counts.waiting > 0) {
        let tasks = counted(counts.waiting.into(), "task");
        let verb = if counts.waiting == 1 { "failed and is" } else { "failed and are" };
        parts.push(format!("{tasks} {verb} tried again from {until} on"));
    }
    if parts.is_empty() { "the job is about to start".into() } else { parts.join("; ") }
}

fn held_back_words(reason: &WaitReason, finish_by: Option<Timestamp>) -> String {
    match (reason, shape::too_late(reason, finish_by)) {
        (WaitReason::Window { opens: Some(opens) }, Some(by)) => {
            format!("its tasks expire at {by}, and its window does not open before {opens}: nothing of it will run")
        }
        (WaitReason::Window { opens: Some(opens) }, None) => format!("the window opens at {opens}"),
        (reason, _) => reason.to_string(),
    }
}

/// Why nothing would start even if nobody held the job back and everybody who belongs to the network were there.
fn never(found: &JobExplanation, ways: &[Way<'_>]) -> Option<String> {
    if found.agents.is_empty() {
        return Some("no agent has joined yet".into());
    }
    let has = |verdict: &AgentVerdict, is: fn(&Obstacle) -> bool| verdict.obstacles.iter().any(is);
    let is_unfit = |verdict: &&AgentVerdict| has(verdict, |obstacle| matches!(obstacle, Obstacle::Label { .. }));
    let (revoked, members): (Vec<&AgentVerdict>, Vec<&AgentVerdict>) =
        found.agents.iter().partition(|verdict| has(verdict, Obstacle::is_revoked));
    if !members.iter().all(is_unfit) {
        return None;
    }
    let mut parts = in_words(ways.iter().filter(|way| !way.is_revoked()).collect());
    let would_fit: Vec<&&AgentVerdict> = revoked.iter().filter(|verdict| !is_unfit(verdict)).collect();
    parts.extend(match (&would_fit[..], members.is_empty()) {
        ([], false) => None,
        ([], true) => Some(match revoked.len() {
            1 => format!("the only agent, {}, is revoked", revoked[0].name),
            agents => format!("all {agents} agents are revoked"),
        }),
        ([only], true) if revoked.len() == 1 => Some(format!("the only agent, {}, is revoked", only.name)),
        ([only], _) => Some(format!("the only one that would fit, {}, is revoked", only.name)),
        (all, true) if all.len() == revoked.len() => Some(format!("all {} agents are revoked", all.len())),
        (all, _) => Some(format!("the only {} that would fit are revoked", all.len())),
    });
    Some(parts.join("; "))
}

/// The most frequent ones as parts of a sentence, and of the rest how many.
fn in_words(ways: Vec<&Way<'_>>) -> Vec<String> {
    let mut parts: Vec<String> = ways.iter().take(TOLD_MAX).map(|way| way.words()).collect();
    let rest: u64 = ways.iter().skip(TOLD_MAX).map(|way| way.agents).sum();
    if rest > 0 {
        parts.push(format!("{} for other reasons", counted(rest, "agent")));
    }
    parts
}

/// Why what may start does not.
fn in_the_way(found: &JobExplanation, ways: &[Way<'_>]) -> Vec<String> {
    if let Some(never) = never(found, ways) {
        return vec![never];
    }
    if let Some(tasks) = found.at_once {
        return vec![WaitReason::AtOnce { tasks }.to_string()];
    }
    match (ways.iter().find(|way| way.obstacle.is_none()), found.ahead) {
        // Not in the way: why they do not, is that others go first or that it is about to be.
        (Some(free), 0) => vec![free.words()],
        (Some(_), ahead) => {
            let verb = if ahead == 1 { "goes" } else { "go" };
            vec![format!("{} of the same submitter {verb} before this one", counted(ahead, "job"))]
        }
        (None, _) => in_words(ways.iter().filter(|way| !way.is_revoked()).collect()),
    }
}

fn row(tasks: u32, state: TaskState, reason: Option<Reason>) -> HeldBody {
    HeldBody { tasks: tasks.into(), state, reason, example: None }
}

/// Its tasks by what holds them.
fn held(found: &JobExplanation, ways: &[Way<'_>]) -> Vec<HeldBody> {
    let counts = &found.view.counts;
    let mut rows = Vec::new();
    for paused in &found.paused {
        rows.push(HeldBody {
            example: Some(paused.example),
            ..row(paused.tasks, TaskState::Paused, Some(shape::paused(&paused.reason)))
        });
    }
    let because = || Reason::new("agents", in_the_way(found, ways).join("; "));
    let unheard = "nothing is heard of their agents; their results still count";
    let on = format!("on {}", counted(found.running_on.into(), "agent"));
    // Those that have begun to run, or ended, since they were counted are told without a reason.
    let rest = counts.running.saturating_sub(found.running + found.with_agents + found.out_of_touch);
    rows.push(row(found.running, TaskState::Running, Some(Reason::new("running", on))));
    rows.push(row(found.with_agents, TaskState::Running, Some(Reason::new("with_agents", "on an agent, for its turn"))));
    rows.push(row(found.out_of_touch, TaskState::Running, Some(Reason::new("unreachable", unheard))));
    rows.push(row(rest, TaskState::Running, None));
    rows.push(row(counts.queued, TaskState::Queued, Some(because())));
    rows.push(row(counts.moving, TaskState::Moving, Some(because())));
    let waiting = found.view.waiting.as_ref().map(|reason| shape::waiting(reason, found.finish_by));
    let retry = || found.retries_from.map(|until| shape::waiting(&WaitReason::Backoff { until }, None));
    rows.push(row(counts.waiting, TaskState::Waiting, waiting.or_else(retry)));
    let compared = Reason::new("verification", "an output is compared with that of another agent");
    rows.push(row(counts.verifying, TaskState::Verifying, Some(compared)));
    rows.retain(|row| row.tasks > 0);
    rows
}

#[cfg(test)]
mod tests {
    use lull_scheduler::view::{HeldTasks, JobView, OutageKind};
    use lull_shared::id::TaskId;

    use super::*;

    fn found(counts: TaskCounts, waiting: Option<WaitReason>, obstacles: Vec<Vec<Obstacle>>) -> JobExplanation {
        let verdict = |(number, obstacles): (usize, Vec<Obstacle>)| AgentVerdict {
            agent: AgentId(number as u64),
            name: format!("desk-{number}"),
            obstacles,
        };
        JobExplanation {
            view: JobView {
                job: JobId(1),
                state: JobState::Active,
                stopping: None,
                counts,
                unreachable: 0,
                waiting,
                moved: 0,
                lost: 0,
                mean_wall_us: None,
            },
            running: 0,
            running_on: 0,
            with_agents: 0,
            out_of_touch: 0,
            at_once: None,
            finish_by: None,
            paused: Vec::new(),
            retries_from: None,
            ahead: 0,
            agents: obstacles.into_iter().enumerate().map(verdict).collect(),
            outage: None,
        }
    }

    fn record() -> JobRecord {
        JobRecord {
            job: JobId(1),
            owner: None,
            submitter: "ada".into(),
            spec: crate::store::conformance::sample::spec(1),
            version_name: "f@1".into(),
            submitted: Timestamp(0),
            ended: None,
            state: JobState::Active,
            stopping: None,
            stopped_by: None,
            counts: TaskCounts::default(),
        }
    }

    fn told(found: &JobExplanation) -> String {
        summary(found, &ways(&found.agents))
    }

    fn owner() -> Obstacle {
        Obstacle::Paused(PauseReason::Owner { until: None })
    }

    #[test]
    fn one_line_says_what_is_in_the_way_of_all() {
        let waiting = TaskCounts { waiting: 3, ..TaskCounts::default() };
        let opens = Timestamp::from_millis(22 * 3_600_000);
        let window = Some(WaitReason::Window { opens: Some(opens) });
        let three = vec![vec![owner()], vec![owner()], vec![Obstacle::NoFreeSlot { slots: 1, running: 1, waiting: 0 }, owner()]];
        let expected = format!("the window opens at {opens}; 3 agents are paused by their owners");
        assert_eq!(told(&found(waiting, window, three)), expected);
        let queued = TaskCounts { queued: 3, ..TaskCounts::default() };
        let away = vec![vec![Obstacle::Away { last_heard: None }], vec![Obstacle::Closed(Intake::Cordoned)], vec![owner()]];
        assert_eq!(
            told(&found(queued, None, away)),
            "desk-1 is cordoned; desk-2 is paused by its owner; desk-0 is not connected"
        );
        let away = || vec![Obstacle::Away { last_heard: None }];
        let most_are_away = vec![away(), away(), away(), vec![owner()], vec![Obstacle::Closed(Intake::Cordoned), owner()]];
        assert_eq!(
            told(&found(queued, None, most_are_away)),
            "desk-4 is cordoned; desk-3 is paused by its owner; 3 agents are not connected"
        );
        assert_eq!(told(&found(queued, None, Vec::new())), "no agent has joined yet");
        assert_eq!(told(&found(queued, None, vec![vec![], vec![owner()]])), "desk-0 could start a task of the job now");
        assert_eq!(
            told(&JobExplanation { ahead: 2, ..found(queued, None, vec![vec![]]) }),
            "2 jobs of the same submitter go before this one"
        );
    }

    #[test]
    fn an_outage_is_told_first_and_what_is_with_nobody_is_not_said_to_run() {
        let counts = TaskCounts { running: 2, queued: 1, ..TaskCounts::default() };
        let since = Timestamp::from_millis(1_000);
        let outage = |kind| Some(Outage { kind, since, agents: 3, copies_from: None });
        let mut found = found(counts, None, vec![vec![Obstacle::Away { last_heard: Some(since) }]]);
        found.view.unreachable = 2;
        found.outage = outage(OutageKind::CutOff);
        let expected = format!(
            "no agent has been heard since {since}, when 3 agents fell silent: this coordinator may be cut off. What they run goes \
             on and counts; 2 tasks are unreachable, since nothing is heard of the agents that have them; their results still \
             count; desk-0 is not connected"
        );
        assert_eq!(told(&found), expected);
        found.outage = outage(OutageKind::Together);
        assert!(told(&found).starts_with("3 agents fell silent at once"), "{}", told(&found));
        found.outage = outage(OutageKind::Unmet);
        assert!(told(&found).starts_with("this coordinator began to lead"), "{}", told(&found));
    }

    #[test]
    fn an_agent_that_cannot_see_its_owner_is_not_said_to_be_used() {
        let queued = TaskCounts { queued: 1, ..TaskCounts::default() };
        let unseen = found(queued, None, vec![vec![Obstacle::Paused(PauseReason::Unseen)]]);
        assert_eq!(told(&unseen), "desk-0 cannot see whether its owner is there");
    }

    #[test]
    fn what_runs_is_told_before_what_does_not() {
        let counts = TaskCounts { running: 2, queued: 1, waiting: 1, ..TaskCounts::default() };
        let busy = vec![vec![Obstacle::NoFreeSlot { slots: 2, running: 2, waiting: 0 }]];
        let until = Timestamp::from_millis(1_000);
        let found = JobExplanation { running: 2, running_on: 1, retries_from: Some(until), ..found(counts, None, busy) };
        let expected =
            format!("2 tasks run on 1 agent; desk-0 has no free slot; 1 task failed and is tried again from {until} on");
        assert_eq!(told(&found), expected);
        let states: Vec<TaskState> = held(&found, &ways(&found.agents)).iter().map(|row| row.state).collect();
        assert_eq!(states, [TaskState::Running, TaskState::Queued, TaskState::Waiting]);
    }

    #[test]
    fn one_is_told_in_the_singular_and_several_in_the_plural() {
        let until = Timestamp::from_millis(1_000);
        let counts = |waiting: u32| TaskCounts { waiting, ..TaskCounts::default() };
        let plain = || found(TaskCounts::default(), None, Vec::new());
        let view = |unreachable: u32| JobView { unreachable, ..plain().view };
        let paused = |tasks: u32| {
            let example = TaskId { job: JobId(1), index: 0 };
            vec![HeldTasks { reason: PauseReason::Touched, tasks, example }]
        };
        let touched = PauseReason::Touched;
        for (found, expected) in [
            (plain(), "the job is about to start".to_owned()),
            (JobExplanation { running: 1, running_on: 1, ..plain() }, "1 task runs on 1 agent".into()),
            (JobExplanation { running: 3, running_on: 2, ..plain() }, "3 tasks run on 2 agents".into()),
            (JobExplanation { with_agents: 1, ..plain() }, "1 task waits on an agent for its turn".into()),
            (JobExplanation { with_agents: 2, ..plain() }, "2 tasks wait on an agent for its turn".into()),
            (JobExplanation { paused: paused(1), ..plain() }, format!("1 task is paused ({touched})")),
            (JobExplanation { paused: paused(2), ..plain() }, format!("2 tasks are paused ({touched})")),
            (
                JobExplanation { retries_from: Some(until), ..found(counts(1), None, Vec::new()) },
                format!("1 task failed and is tried again from {until} on"),
            ),
            (
                JobExplanation { retries_from: Some(until), ..found(counts(2), None, Vec::new()) },
                format!("2 tasks failed and are tried again from {until} on"),
            ),
        ] {
            assert_eq!(told(&found), expected);
        }
        for (unreachable, words) in [(1, "1 task is unreachable, since"), (2, "2 tasks are unreachable, since")] {
            let told = told(&JobExplanation { view: view(unreachable), ..plain() });
            assert!(told.starts_with(words), "{told}");
        }
        let stopping = JobView { stopping: Some(JobState::Cancelled), ..plain().view };
        assert_eq!(told(&JobExplanation { view: stopping, ..plain() }), "the job is being cancelled");
    }

    #[test]
    fn agents_are_spoken_of_while_something_is_to_be_started_and_not_for_a_pause_before_a_retry() {
        let busy = || vec![vec![owner()]];
        let until = Timestamp::from_millis(1_000);
        let backoff = Some(WaitReason::Backoff { until });
        let speaks = |counts: TaskCounts, waiting: Option<WaitReason>| {
            told(&JobExplanation { retries_from: Some(until), ..found(counts, waiting, busy()) }).contains("its owner")
        };
        let none = TaskCounts::default;
        assert!(speaks(TaskCounts { queued: 1, ..none() }, None) && speaks(TaskCounts { moving: 1, ..none() }, None));
        assert!(!speaks(TaskCounts { running: 1, ..none() }, None));
        assert!(!speaks(TaskCounts { waiting: 1, ..none() }, backoff.clone()));
        let opens = Some(WaitReason::Window { opens: None });
        assert!(speaks(TaskCounts { waiting: 1, ..none() }, opens.clone()));
        let told =
            told(&JobExplanation { retries_from: Some(until), ..found(TaskCounts { waiting: 1, ..none() }, opens, busy()) });
        assert!(!told.contains("tried again"), "the window comes first: {told}");
    }

    #[test]
    fn agents_are_listed_of_a_job_of_which_something_may_start() {
        let record = record();
        let listed = |counts: TaskCounts| active(&record, &found(counts, None, vec![vec![owner()]])).agents.len();
        let none = TaskCounts::default;
        let startable = [
            TaskCounts { queued: 1, ..none() },
            TaskCounts { moving: 1, ..none() },
            TaskCounts { waiting: 1, ..none() },
            TaskCounts { verifying: 1, ..none() },
        ];
        assert_eq!(startable.map(listed), [1; 4]);
        assert_eq!([none(), TaskCounts { running: 1, paused: 1, failed: 1, ..none() }].map(listed), [0; 2]);
    }

    #[test]
    fn the_three_most_frequent_reasons_are_told_and_the_rest_is_counted() {
        let queued = TaskCounts { queued: 1, ..TaskCounts::default() };
        let full = || Obstacle::NoFreeSlot { slots: 1, running: 1, waiting: 0 };
        let memory = || Obstacle::Memory { needed_bytes: 2, free_bytes: 1 };
        let closed = || Obstacle::Closed(Intake::Draining);
        let refused = || Obstacle::Refused { reason: "no room".into(), until: Timestamp(0) };
        let all = |last: Vec<Vec<Obstacle>>| {
            let three =
                vec![vec![owner()], vec![owner()], vec![owner()], vec![full()], vec![full()], vec![memory()], vec![memory()]];
            told(&found(queued, None, [three, last].concat()))
        };
        let three = "3 agents are paused by their owners; 2 agents have too little memory free; 2 agents have no free slot";
        assert_eq!(all(Vec::new()), three);
        assert_eq!(all(vec![vec![closed()]]), format!("{three}; 1 agent for other reasons"));
        assert_eq!(all(vec![vec![closed()], vec![refused()]]), format!("{three}; 2 agents for other reasons"));
        let ahead = |ahead| told(&JobExplanation { ahead, ..found(queued, None, vec![vec![], vec![owner()]]) });
        assert_eq!(ahead(1), "1 job of the same submitter goes before this one");
        assert_eq!(ahead(2), "2 jobs of the same submitter go before this one");
    }

    #[test]
    fn an_agent_counts_under_what_lasts_longest_and_alike_ones_together() {
        let label = || Obstacle::Label { constraint: "gpu=yes".parse().expect("a constraint"), actual: None };
        let lasting = [
            Obstacle::Closed(Intake::Revoked),
            label(),
            Obstacle::Quarantined { reason: "it lied".into() },
            Obstacle::Closed(Intake::Cordoned),
            Obstacle::Away { last_heard: None },
            owner(),
            Obstacle::Memory { needed_bytes: 2, free_bytes: 1 },
            Obstacle::Refused { reason: "no room".into(), until: Timestamp(0) },
            Obstacle::Answered,
            Obstacle::NoFreeSlot { slots: 1, running: 1, waiting: 0 },
        ];
        assert!(lasting.iter().map(rank).collect::<Vec<_>>().is_sorted_by(|a, b| a < b));
        for from in 0..lasting.len() {
            let mut has = lasting[from..].to_vec();
            has.reverse();
            let verdict = AgentVerdict { agent: AgentId(1), name: "desk".into(), obstacles: has };
            let verdicts = [verdict];
            let ways = ways(&verdicts);
            assert_eq!(ways.len(), 1);
            assert_eq!(ways[0].obstacle, Some(&lasting[from]));
        }
        let touched = || Obstacle::Paused(PauseReason::Touched);
        let agents =
            found(TaskCounts::default(), None, vec![vec![touched()], vec![owner()], vec![], vec![owner()], vec![]]).agents;
        let counts: Vec<_> = ways(&agents).iter().map(|way| (way.agents, way.example)).collect();
        assert_eq!(
            counts,
            [(2, "desk-1"), (2, "desk-2"), (1, "desk-0")],
            "by the kind of pause, and the free ones last among equals"
        );
    }

    #[test]
    fn what_has_ended_says_how_and_why_and_so_do_its_tasks() {
        let by = Some("ann (t7)".to_owned());
        let counts = TaskCounts { succeeded: 1, cancelled: 3, ..TaskCounts::default() };
        let record = JobRecord { state: JobState::Cancelled, stopped_by: by, counts, ..record() };
        let body = ended(&record, &[]);
        assert!(body.summary.starts_with("the job was cancelled by ann (t7); "), "{}", body.summary);
        let rows = over(&record, &body.counts, Vec::new());
        let told: Vec<_> =
            rows.iter().map(|row| (row.tasks, row.reason.as_ref().map(|reason| reason.message.as_str()))).collect();
        assert_eq!(told, [(1, None), (3, Some("the job was cancelled by ann (t7)"))]);
    }

    #[test]
    fn tasks_are_listed_by_what_holds_them_and_only_those_that_are() {
        let counts =
            TaskCounts { queued: 1, running: 2, moving: 3, waiting: 4, verifying: 5, paused: 6, ..TaskCounts::default() };
        let rows = |found: &JobExplanation| -> Vec<_> {
            held(found, &ways(&found.agents))
                .into_iter()
                .map(|row| (row.state, row.tasks, row.reason.map(|reason| reason.kind)))
                .collect()
        };
        let all = found(counts, None, vec![vec![owner()]]);
        let agents = || Some("agents".to_owned());
        let verification = Some("verification".to_owned());
        let expected = [
            (TaskState::Running, 2, None),
            (TaskState::Queued, 1, agents()),
            (TaskState::Moving, 3, agents()),
            (TaskState::Waiting, 4, None),
            (TaskState::Verifying, 5, verification),
        ];
        assert_eq!(rows(&all), expected);
        let parts = JobExplanation { running: 1, running_on: 1, out_of_touch: 1, ..all };
        let kinds: Vec<_> = rows(&parts).into_iter().take(2).map(|row| (row.1, row.2.unwrap_or_default())).collect();
        assert_eq!(kinds, [(1, "running".to_owned()), (1, "unreachable".to_owned())]);
        assert_eq!(rows(&found(TaskCounts::default(), None, Vec::new())), []);
    }
    /// The kinds of what may be in the way, each alone and with others, and the first thing that is said.
    #[test]
    fn of_several_reasons_the_one_that_holds_longest_is_said_first_and_never_a_falsehood() {
        let at = |hour: i64| Timestamp::from_millis(hour * 3_600_000);
        let (waiting, queued) =
            (TaskCounts { waiting: 3, ..TaskCounts::default() }, TaskCounts { queued: 3, ..TaskCounts::default() });
        let window = || Some(WaitReason::Window { opens: Some(at(22)) });
        let opens = format!("the window opens at {}", at(22));
        let hours = || Obstacle::Paused(PauseReason::Hours { opens: Some(lull_shared::hours::WeekMinute::new(18 * 60)) });
        let policy = "may not work before mon 18:00 by its own clock";
        let revoked = || Obstacle::Closed(Intake::Revoked);
        let drained = || Obstacle::Closed(Intake::Draining);
        let busy = || Obstacle::NoFreeSlot { slots: 1, running: 1, waiting: 0 };
        let used = || Obstacle::Paused(PauseReason::Present { idle_s: 600 });
        let unmet = || Obstacle::Label { constraint: "gpu=yes".parse().expect("a constraint"), actual: None };
        let closed = |agents| found(waiting, window(), agents);
        let open = |agents| found(queued, None, agents);
        let late = |agents| JobExplanation { finish_by: Some(at(6)), ..closed(agents) };
        let too_late =
            format!("its tasks expire at {}, and its window does not open before {}: nothing of it will run", at(6), at(22));
        for (what, found, expected) in [
            ("window", closed(vec![vec![], vec![]]), opens.clone()),
            ("window, used", closed(vec![vec![used()], vec![]]), opens.clone()),
            ("window, busy", closed(vec![vec![busy()], vec![]]), opens.clone()),
            ("window, policy", closed(vec![vec![hours()], vec![]]), format!("{opens}; desk-0 {policy}")),
            ("window, drained", closed(vec![vec![drained()], vec![]]), format!("{opens}; desk-0 is draining")),
            ("window, revoked", closed(vec![vec![revoked()], vec![]]), opens.clone()),
            ("window, all revoked", closed(vec![vec![revoked()], vec![revoked()]]), format!("all 2 agents are revoked; {opens}")),
            ("window, unmet", closed(vec![vec![unmet()], vec![unmet(), used()]]), {
                format!("2 agents lack what is required, such as gpu=yes; {opens}")
            }),
            ("window, no agent", closed(vec![]), format!("no agent has joined yet; {opens}")),
            ("too late", late(vec![vec![], vec![drained()]]), too_late.clone()),
            ("too late, all revoked", late(vec![vec![revoked()]]), { format!("the only agent, desk-0, is revoked; {too_late}") }),
            ("in time", JobExplanation { finish_by: Some(at(23)), ..closed(vec![vec![]]) }, opens.clone()),
            ("policy", open(vec![vec![hours()]]), format!("desk-0 {policy}")),
            ("all revoked", open(vec![vec![revoked()], vec![revoked()]]), "all 2 agents are revoked".into()),
            ("revoked, busy", open(vec![vec![revoked()], vec![busy()]]), "desk-1 has no free slot".into()),
            ("drained, busy", open(vec![vec![drained()], vec![busy()]]), "desk-0 is draining; desk-1 has no free slot".into()),
            ("unmet, revoked", open(vec![vec![unmet()], vec![revoked()]]), {
                "desk-0 lacks gpu=yes; the only one that would fit, desk-1, is revoked".into()
            }),
            ("unmet, revoked too", open(vec![vec![unmet()], vec![revoked(), unmet()]]), "desk-0 lacks gpu=yes".into()),
            ("unmet, free", open(vec![vec![unmet()], vec![]]), "desk-1 could start a task of the job now".into()),
            ("full", JobExplanation { at_once: Some(1), ..open(vec![vec![]]) }, {
                "one task of the job is with an agent, and no more may be at once".into()
            }),
        ] {
            assert_eq!(told(&found), expected, "{what}");
            let body = active(&record(), &found);
            let could = body.agents.iter().any(|way| way.reason.is_none());
            assert!(!could || found.view.waiting.is_none(), "{what}: it is not said that what may not start could");
            let summed: u64 = body.tasks.iter().map(|row| row.tasks).sum();
            assert_eq!(summed, found.view.counts.total(), "{what}");
            assert_eq!(body.agents.iter().map(|way| way.agents).sum::<u64>(), found.agents.len() as u64, "{what}");
        }
    }

    #[test]
    fn every_task_is_told_of_for_one_reason() {
        let counts = TaskCounts {
            queued: 1,
            waiting: 2,
            running: 9,
            paused: 4,
            moving: 5,
            verifying: 6,
            succeeded: 7,
            failed: 8,
            cancelled: 9,
            expired: 10,
        };
        let example = TaskId { job: JobId(1), index: 0 };
        let paused = vec![HeldTasks { reason: PauseReason::Touched, tasks: 4, example }];
        let found = JobExplanation {
            running: 3,
            running_on: 2,
            with_agents: 1,
            out_of_touch: 5,
            paused,
            ..found(counts, None, vec![vec![owner()]])
        };
        let cause = |tasks| CauseBody { message: "it trapped".into(), tasks, example, log: None };
        for causes in [vec![], vec![cause(5)], vec![cause(5), cause(3)], vec![cause(5), cause(30)]] {
            let mut body = active(&record(), &found);
            body.tasks.extend(over(&record(), &body.counts, causes));
            assert_eq!(body.tasks.iter().map(|row| row.tasks).sum::<u64>(), counts.total());
            let said: Vec<_> = body.tasks.iter().filter(|row| row.reason.is_none()).map(|row| row.state).collect();
            assert!(said.iter().all(|state| state.is_ended() || *state == TaskState::Waiting), "{said:?}");
        }
    }
}
