//! Why a job is where it is, for people in one line and for programs by reason.
//!
//! Says only what is known: an agent that is in the way for several reasons counts under the one that lasts longest.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use lull_scheduler::view::{AgentVerdict, JobExplanation, Obstacle, Outage};
use lull_shared::{
    id::JobId,
    state::{Intake, JobState, PauseReason, TaskState, WaitReason},
};

use crate::{
    api::{HeldBody, InTheWayBody, JobExplanationBody, Reason, Text, shape},
    http::{
        Shared,
        door::{
            auth::{At, Viewer},
            error::Answer,
        },
        work::{causes, jobs},
    },
    store::record::JobRecord,
};

/// Reasons that are told in one line; the rest is counted.
const TOLD_MAX: usize = 3;

/// `GET /jobs/{job}/explain`
pub async fn explain(State(state): Shared, _viewer: Viewer, At(job): At<Text<JobId>>) -> Answer<Json<JobExplanationBody>> {
    let found = state.coordinator.dispatch.query(move |scheduler, at| scheduler.explain_job(job.0, at)).await?;
    let record = jobs::remembered(&state, job.0).await?;
    let failed = causes::of(&state, &record).await?.into_iter().map(|cause| HeldBody {
        tasks: cause.tasks,
        state: TaskState::Failed,
        reason: Some(Reason::new("failed", cause.message)),
        example: Some(cause.example),
    });
    let found = found.filter(|_| !record.state.is_ended());
    let mut body = found.map_or_else(|| ended(&record), |found| active(&record, &found));
    body.tasks.extend(failed);
    Ok(Json(body))
}

fn ended(record: &JobRecord) -> JobExplanationBody {
    let counts = record.counts;
    let parts = [(counts.failed, "failed"), (counts.cancelled, "were cancelled"), (counts.expired, "expired")];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let rest = if parts.is_empty() { String::new() } else { format!("; of its tasks {}", parts.join(", ")) };
    JobExplanationBody {
        job: Text(record.job),
        name: record.spec.name.clone(),
        state: record.state,
        summary: format!("the job has {}{rest}", past(record.state)),
        counts,
        tasks: Vec::new(),
        agents: Vec::new(),
    }
}

fn past(state: JobState) -> &'static str {
    match state {
        JobState::Active => "not ended",
        JobState::Cancelled => "been cancelled",
        JobState::Succeeded | JobState::Failed | JobState::Expired => state.as_str(),
    }
}

fn active(record: &JobRecord, found: &JobExplanation) -> JobExplanationBody {
    let counts = found.view.counts;
    let ways = ways(&found.agents);
    let startable = counts.queued + counts.moving + counts.waiting + counts.verifying > 0;
    JobExplanationBody {
        job: Text(record.job),
        name: record.spec.name.clone(),
        state: record.state,
        summary: summary(found, &ways),
        counts,
        tasks: held(found, &ways),
        agents: if startable { ways.iter().map(Way::body).collect() } else { Vec::new() },
    }
}

/// Agents that have the same kind of obstacle, or none.
struct Way<'a> {
    obstacle: Option<&'a Obstacle>,
    agents: u64,
    example: &'a str,
}

impl Way<'_> {
    fn body(&self) -> InTheWayBody {
        InTheWayBody { agents: self.agents, reason: self.obstacle.map(shape::obstacle), example: self.example.to_owned() }
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
                    say(&format!("may not work before {opens}"), &format!("may not work yet, one from {opens} on"))
                }
                PauseReason::Hours { opens: None } => say("may never work by its policy", "may never work by their policy"),
                PauseReason::Starting => say("has just started", "have just started"),
                PauseReason::Busy { .. } => say("is busy with other programs", "are busy with other programs"),
                PauseReason::Battery { .. } => say("runs on battery", "run on battery"),
                other => say(&format!("is paused: {other}"), &format!("are paused, for example {example}: {other}")),
            },
            Some(Obstacle::Away { .. }) => say("is not connected", "are not connected"),
            Some(Obstacle::Asleep { .. }) => say("sleeps", "sleep"),
            Some(Obstacle::Closed(Intake::Draining)) => say("is draining", "are draining"),
            Some(Obstacle::Closed(_)) => say("is cordoned", "are cordoned"),
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
        Obstacle::Label { .. } => 0,
        Obstacle::Quarantined { .. } => 1,
        Obstacle::Closed(_) => 2,
        Obstacle::Away { .. } | Obstacle::Asleep { .. } => 3,
        Obstacle::Paused(_) => 4,
        Obstacle::Memory { .. } => 5,
        Obstacle::Refused { .. } => 6,
        Obstacle::NoFreeSlot { .. } => 8,
        _ => 7,
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
    let held_back = found.view.waiting.as_ref().filter(|reason| !matches!(reason, WaitReason::Backoff { .. }));
    let to_start = counts.queued + counts.moving > 0 || held_back.is_some();
    if to_start {
        parts.extend(in_the_way(found, ways));
    }
    match held_back {
        Some(WaitReason::Window { opens: Some(opens) }) => parts.push(format!("the window opens at {opens}")),
        Some(reason) => parts.push(reason.to_string()),
        None => {}
    }
    if let Some(until) = found.retries_from.filter(|_| held_back.is_none() && counts.waiting > 0) {
        let tasks = counted(counts.waiting.into(), "task");
        let verb = if counts.waiting == 1 { "failed and is" } else { "failed and are" };
        parts.push(format!("{tasks} {verb} tried again from {until} on"));
    }
    if parts.is_empty() { "the job is about to start".into() } else { parts.join("; ") }
}

fn in_the_way(found: &JobExplanation, ways: &[Way<'_>]) -> Vec<String> {
    if found.agents.is_empty() {
        return vec!["no agent has joined yet".into()];
    }
    let (free, blocked): (Vec<&Way<'_>>, Vec<&Way<'_>>) = ways.iter().partition(|way| way.obstacle.is_none());
    let mut parts: Vec<String> = blocked.iter().take(TOLD_MAX).map(|way| way.words()).collect();
    let rest: u64 = blocked.iter().skip(TOLD_MAX).map(|way| way.agents).sum();
    if rest > 0 {
        parts.push(format!("{} for other reasons", counted(rest, "agent")));
    }
    if let Some(free) = free.first() {
        // Not in the way: why they do not, is that others go first or that it is about to be.
        parts = match found.ahead {
            0 => vec![free.words()],
            ahead => vec![format!(
                "{} of the same submitter {} before this one",
                counted(ahead, "job"),
                if ahead == 1 { "goes" } else { "go" }
            )],
        };
    }
    parts
}

/// Its tasks by what holds them.
fn held(found: &JobExplanation, ways: &[Way<'_>]) -> Vec<HeldBody> {
    let counts = &found.view.counts;
    let row = |tasks: u32, state, reason| HeldBody { tasks: tasks.into(), state, reason, example: None };
    let mut rows = Vec::new();
    for paused in &found.paused {
        rows.push(HeldBody {
            example: Some(Text(paused.example)),
            ..row(paused.tasks, TaskState::Paused, Some(shape::paused(&paused.reason)))
        });
    }
    let because = || Reason::new("agents", in_the_way(found, ways).join("; "));
    let running =
        (found.running > 0).then(|| Reason::new("running", format!("on {}", counted(found.running_on.into(), "agent"))));
    rows.push(row(counts.running, TaskState::Running, running));
    rows.push(row(counts.queued, TaskState::Queued, Some(because())));
    rows.push(row(counts.moving, TaskState::Moving, Some(because())));
    rows.push(row(counts.waiting, TaskState::Waiting, found.view.waiting.as_ref().map(shape::waiting)));
    rows.push(row(counts.verifying, TaskState::Verifying, None));
    rows.retain(|row| row.tasks > 0);
    rows
}

fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

#[cfg(test)]
mod tests {
    use lull_scheduler::view::{HeldTasks, JobView, OutageKind};
    use lull_shared::{id::AgentId, state::TaskCounts, time::Timestamp};

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
                mean_wall_us: None,
            },
            running: 0,
            running_on: 0,
            with_agents: 0,
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
        let expected = format!("3 agents are paused by their owners; the window opens at {opens}");
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
            let example = lull_shared::id::TaskId { job: JobId(1), index: 0 };
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
    fn what_has_ended_says_how_and_of_how_many_tasks() {
        let told = |state, counts| ended(&JobRecord { state, counts, ..record() }).summary;
        let counts =
            |failed, cancelled, expired| TaskCounts { succeeded: 1, failed, cancelled, expired, ..TaskCounts::default() };
        assert_eq!(told(JobState::Succeeded, counts(0, 0, 0)), "the job has succeeded");
        assert_eq!(told(JobState::Failed, counts(2, 0, 0)), "the job has failed; of its tasks 2 failed");
        assert_eq!(told(JobState::Cancelled, counts(0, 3, 0)), "the job has been cancelled; of its tasks 3 were cancelled");
        assert_eq!(told(JobState::Expired, counts(1, 0, 4)), "the job has expired; of its tasks 1 failed, 4 expired");
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
        let expected = [
            (TaskState::Running, 2, None),
            (TaskState::Queued, 1, agents()),
            (TaskState::Moving, 3, agents()),
            (TaskState::Waiting, 4, None),
            (TaskState::Verifying, 5, None),
        ];
        assert_eq!(rows(&all), expected);
        assert_eq!(rows(&JobExplanation { running: 2, running_on: 1, ..all })[0].2.as_deref(), Some("running"));
        assert_eq!(rows(&found(TaskCounts::default(), None, Vec::new())), []);
    }
}
