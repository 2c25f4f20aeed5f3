//! `lull task`: list, show, logs, explain.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use lull_shared::{
    alike,
    amount::{quoted, size},
    bound,
    message::Build,
    state::{AttemptEnd, TaskState, Usage},
};

use crate::{
    api::{AttemptBody, ExplanationBody, LogBody, PlacementBody, ResumedBody, TaskBody, TaskDetails},
    cli::{
        Context,
        exit::{Exit, Outcome},
        jobs::logs::TaskLogs,
        shown::output::{Cell, Format, Look, Row, Tone, counted, pairs, table},
        typed::{
            amount::spoken,
            selector::{JobName, TaskName},
        },
    },
};

/// Tasks asked for at a time.
const PAGE: u32 = 1_000;

/// What can be done with tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// List a job's tasks
    List(List),
    /// Show one task with all its attempts
    #[command(after_help = "EXAMPLES:\n  lull task show j42.7")]
    Show(One),
    /// Print what a task wrote to standard error
    Logs(TaskLogs),
    /// Say why a task is where it is, and for each agent why it does not run there
    Explain(One),
}

/// `lull task list`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull task list j42 --state failed\n  lull task list j42 -o id | head")]
pub(crate) struct List {
    /// The job, like j42, or last for the one that you submitted last
    job: JobName,
    /// Only tasks in this state: queued, waiting, running, paused, succeeded, failed, cancelled, ...
    #[arg(long, value_name = "STATE", value_parser = task_state)]
    state: Option<TaskState>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = bound::SOME.numbers::<u32>())]
    limit: u32,
    /// From this index on: the next part of the list
    #[arg(long, value_name = "INDEX", default_value_t = 0, value_parser = bound::INDEX.numbers::<u32>())]
    from: u32,
    /// Show the list again whenever it changes
    #[arg(long)]
    watch: bool,
}

/// A task.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull explain j42.7")]
pub(crate) struct One {
    /// The task, like j42.7, or last.7 for one of the job that you submitted last
    task: TaskName,
}

impl Task {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::List(list) => list.run(context).await,
            Self::Show(one) => one.show(context).await,
            Self::Logs(logs) => logs.run(context).await,
            Self::Explain(one) => one.explain(context).await,
        }
    }
}

impl List {
    async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let job = self.job.find(&client).await?;
        let text = async || {
            let (mut tasks, mut from) = (Vec::new(), self.from);
            while (tasks.len() as u32) < self.limit {
                let page = client.tasks(job, self.state, from, PAGE.min(self.limit - tasks.len() as u32)).await?;
                tasks.extend(page.items);
                match page.next.and_then(|next| next.parse().ok()) {
                    Some(next) => from = next,
                    None => break,
                }
            }
            Ok(context.out.listed(&tasks))
        };
        context.show(self.watch, text).await
    }
}

impl One {
    async fn show(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let task = self.task.find(&client).await?;
        let details = client.task(task).await?;
        let log = match details.task.state {
            TaskState::Failed if context.out.format == Format::Table => client.log(task, None).await.ok(),
            _ => None,
        };
        let rests = !details.task.state.is_ended() && details.history.iter().all(|attempt| attempt.end.is_some());
        // It may have ended since.
        let explained = if rests { client.explain(task).await.ok() } else { None };
        let why = explained.as_ref().and_then(why_not);
        let text = |look: &Look| describe(&details, why.as_deref(), log.as_ref(), look);
        context.out.one(&details, &task.to_string(), text)?;
        Ok(Exit::Succeeded)
    }

    async fn explain(&self, context: &Context) -> Outcome {
        explain(context, self.task).await
    }
}

/// Says why a task is where it is.
pub(crate) async fn explain(context: &Context, task: TaskName) -> Outcome {
    let client = context.server.connect()?;
    let task = task.find(&client).await?;
    let explanation = client.explain(task).await?;
    context.out.one(&explanation, &task.to_string(), |look| told(&explanation, look))?;
    Ok(Exit::Succeeded)
}

/// The word for a running task of whose agents nothing is heard.
const IS_UNREACHABLE: &str = "unreachable";

impl Row for TaskBody {
    const NAME: &'static str = "tasks";
    const HEADINGS: &'static [&'static str] =
        &["TASK", "INPUT", "STATE", "ATTEMPTS", "AGENT", "STARTED", "TIME", "SIZE", "REASON"];

    fn id(&self) -> String {
        self.task.to_string()
    }

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let time = self.started.and_then(|started| took(started, self.ended, self.is_with_agent(), look));
        vec![
            self.task.to_string().into(),
            Cell::or_dash(self.label.as_deref()),
            match self.unreachable {
                Some(_) => Cell::toned(IS_UNREACHABLE, Tone::Odd),
                None => self.state.into(),
            },
            self.attempts.to_string().into(),
            Cell::or_dash(self.agent_name.as_deref()),
            look.time_or_dash(self.started),
            Cell::or_dash(time),
            Cell::or_dash(self.output_bytes.map(|size| bytesize::ByteSize(size).to_string())),
            match self.unreachable {
                Some(since) => unheard(since, look).into(),
                None => self.reason.clone().filter(|_| self.state != TaskState::Succeeded).unwrap_or_default().into(),
            },
        ]
    }
}

/// Why no attempt of a task is live, in one line; none if one is by now.
fn why_not(explained: &ExplanationBody) -> Option<String> {
    if let Some(reason) = &explained.waiting {
        return Some(reason.message.clone());
    }
    if explained.at.is_some() || explained.state.is_ended() {
        return None;
    }
    let agents = &explained.agents;
    if agents.iter().any(|verdict| verdict.obstacles.is_empty()) {
        return Some(match explained.ahead {
            None | Some(0) => "it is about to start".into(),
            Some(1) => "1 task goes before it".into(),
            Some(tasks) => format!("{tasks} tasks go before it"),
        });
    }
    let mut kinds: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for reason in agents.iter().filter_map(|verdict| verdict.obstacles.first()) {
        kinds.entry(&reason.kind).or_insert((0, &reason.message)).0 += 1;
    }
    let most = kinds.into_values().max_by_key(|(agents, _)| *agents);
    Some(match (most, agents.len()) {
        (None, _) => "no agent has joined yet".into(),
        (Some((_, message)), 1) => format!("the only agent: {message}"),
        (Some((some, message)), all) => format!("{some} of {all} agents: {message}"),
    })
}

fn describe(details: &TaskDetails, why: Option<&str>, log: Option<&LogBody>, look: &Look) -> String {
    let task = &details.task;
    let mut lines = vec![
        ("task", task.task.to_string().into()),
        ("input", Cell::or_dash(task.label.as_deref())),
        ("state", task.state.into()),
    ];
    if let Some(since) = task.unreachable {
        lines.push(("unreachable", Cell::toned(unheard(since, look), Tone::Odd)));
    }
    if let Some(why) = why {
        lines.push(("why", Cell::toned(why, Tone::Odd)));
    }
    if let Some(size) = task.output_bytes {
        lines.push(("output", bytesize::ByteSize(size).to_string().into()));
    }
    if let Some(at) = task.not_before {
        lines.push(("not before", look.time(at).into()));
    }
    if let Some(log) = log {
        let words = match log.text.trim().is_empty() {
            true => "empty: it wrote nothing to standard error".to_owned(),
            false => format!("`lull task logs {}` prints what it wrote to standard error", task.task),
        };
        lines.push(("log", words.into()));
    }
    let mut text = pairs(lines, look);
    if !details.history.is_empty() {
        let headings = ["ATTEMPT", "AGENT", "STARTED", "WENT ON AFTER", "TIME", "CPU", "MEMORY", "END", "REASON"];
        text.push('\n');
        text.push_str(&table(&headings, details.history.iter().map(|attempt| attempt_cells(attempt, look)).collect(), look));
    }
    for failure in details.history.iter().filter_map(|attempt| attempt.failure.as_ref()) {
        for frame in &failure.backtrace {
            text.push_str(&format!("  at {}\n", crate::cli::shown::output::printable(frame)));
        }
    }
    text
}

fn attempt_cells(attempt: &AttemptBody, look: &Look) -> Vec<Cell> {
    let (live, now) = match (&attempt.paused, attempt.unreachable) {
        (_, Some(since)) => (Cell::toned("unreachable", Tone::Odd), Some(unheard(since, look))),
        (Some(reason), None) => (Cell::toned("paused", Tone::Odd), Some(reason.message.clone())),
        (None, None) => ("live".into(), None),
    };
    let end = match attempt.end {
        Some(AttemptEnd::Succeeded) => Cell::toned(AttemptEnd::Succeeded, Tone::Good),
        Some(AttemptEnd::Failed) => Cell::toned(AttemptEnd::Failed, Tone::Bad),
        Some(end) => Cell::toned(end, Tone::Odd),
        None => live,
    };
    // One that was taken back before it began used nothing.
    let usage = attempt.usage.or(attempt.usage_so_far).filter(|usage| *usage != Usage::default());
    let so_far = if attempt.usage.is_none() { SO_FAR } else { "" };
    let cause = || attempt.cause.as_ref().map(|cause| format!("began because {cause}"));
    let reason = attempt.failure.as_ref().map(|failure| failure.message.clone()).or_else(|| attempt.reason.clone());
    let reason = reason.or_else(|| now.filter(|_| attempt.end.is_none())).or_else(cause);
    vec![
        attempt.attempt.to_string().into(),
        attempt.agent_name.as_str().into(),
        look.time(attempt.started).into(),
        Cell::or_dash(attempt.resumed.map(went_on)),
        Cell::or_dash(took(attempt.started, attempt.ended, attempt.end.is_none(), look)),
        Cell::or_dash(usage.map(|usage| spoken(Duration::from_micros(usage.cpu_us)) + so_far)),
        Cell::or_dash(usage.map(|usage| size(usage.memory_peak_bytes))),
        end,
        reason.unwrap_or_default().into(),
    ]
}

/// Of what is with an agent that is silent.
fn unheard(since: Timestamp, look: &Look) -> String {
    format!("nothing is heard of its agent since {}; its result still counts", look.time(since))
}

/// What a snapshot held, and its size.
pub(crate) fn went_on(resumed: ResumedBody) -> String {
    format!("{} ({})", spoken(Duration::from_millis(resumed.spent_ms)), bytesize::ByteSize(resumed.size_bytes))
}

fn told(explanation: &ExplanationBody, look: &Look) -> String {
    let mut lines = vec![("task", explanation.task.to_string().into()), ("state", explanation.state.into())];
    if let Some(reason) = &explanation.waiting {
        lines.push(("waits because", Cell::toned(&reason.message, Tone::Odd)));
    }
    let with = |place: &PlacementBody| {
        let paused = place.paused.as_ref().map(|reason| format!(", paused: {}", reason.message)).unwrap_or_default();
        let silent = |since| format!(", of which nothing is heard since {}: it is unreachable", look.time(since));
        let silent = place.unreachable.map(silent).unwrap_or_default();
        format!("{} since {}{paused}{silent}", place.agent_name, look.time(place.since))
    };
    if let Some(place) = &explanation.at {
        lines.push(("with", with(place).into()));
    }
    for place in &explanation.beside {
        let cause = place.cause.as_deref().unwrap_or("the first held its job up");
        lines.push(("a second copy", format!("{}, because {cause}", with(place)).into()));
    }
    if let Some(copy) = &explanation.second_copy {
        lines.push(("elsewhere", Cell::toned(&copy.message, Tone::Odd)));
    }
    if let Some(outage) = &explanation.outage {
        lines.push(("network", Cell::toned(&outage.message, Tone::Odd)));
    }
    if let Some(ahead) = explanation.ahead {
        lines.push(("ahead of it", counted(ahead, "task").into()));
    }
    if let Some(choice) = &explanation.build {
        let build = match choice.build {
            Build::Plain => "plain",
            Build::Migratable => "migratable",
        };
        lines.push(("build", format!("{build}: {}", choice.reason).into()));
    }
    if let Some(reason) = &explanation.reason {
        lines.push(("because", reason.as_str().into()));
    }
    let mut text = pairs(lines, look);
    if explanation.agents.is_empty() {
        if explanation.state.is_ended() {
            return text;
        }
        text.push_str("\nno agent is enrolled: `lull token create` makes a token, `lull-agent join --token-file FILE` uses it\n");
        return text;
    }
    let cells = |verdict: &crate::api::VerdictBody| {
        let why: Vec<&str> = verdict.obstacles.iter().map(|reason| reason.message.as_str()).collect();
        let is_there = explanation.at.iter().chain(&explanation.beside).any(|at| at.agent == verdict.agent);
        let why = match (why.is_empty(), is_there) {
            (_, true) => Cell::toned("it is there", Tone::Good),
            (true, false) if explanation.waiting.is_some() => "nothing on it; the task itself may not start".into(),
            (true, false) => Cell::toned("could start it now", Tone::Good),
            (false, false) => Cell::from(why.join("; ")),
        };
        vec![verdict.agent_name.as_str().into(), why]
    };
    text.push('\n');
    text.push_str(&table(&["AGENT", "WHY NOT THERE"], explanation.agents.iter().map(cells).collect(), look));
    text
}

/// What is added to what may still grow.
const SO_FAR: &str = " so far";

/// How long something took, or has taken so far if it is live.
fn took(started: Timestamp, ended: Option<Timestamp>, is_live: bool, look: &Look) -> Option<String> {
    let length = |until: Timestamp| until.duration_since(started).max(SignedDuration::ZERO).unsigned_abs();
    match ended {
        Some(ended) => Some(spoken(length(ended))),
        // Whole seconds: when it was looked at is not known better than that.
        None => is_live.then(|| spoken(Duration::from_secs(length((look.now)()).as_secs())) + SO_FAR),
    }
}

impl TaskBody {
    /// Whether an attempt of it is live.
    fn is_with_agent(&self) -> bool {
        matches!(self.state, TaskState::Running | TaskState::Paused)
    }
}

fn task_state(text: &str) -> Result<TaskState, String> {
    let words: Vec<&str> = TaskState::ALL.into_iter().map(TaskState::as_str).collect();
    TaskState::from_word(text).ok_or_else(|| match text {
        IS_UNREACHABLE => {
            format!(
                "a task that is shown as {text} is running\nhint: write running; the column STATE tells those that are {text}"
            )
        }
        _ => {
            let meant = alike::question(text, words.iter().copied());
            format!("{} is not a state of tasks\nhint: {meant}write {}", quoted(text), alike::or(&words))
        }
    })
}

#[cfg(test)]
mod tests {
    use lull_shared::id::AgentId;

    use super::*;
    use crate::{
        api::{ChoiceBody, Reason, VerdictBody},
        cli::shown::output::{
            Format,
            tests::{check_fits, plain, wide_name, worst_name, worst_reason},
        },
    };

    #[test]
    fn of_a_live_attempt_is_shown_what_is_known() {
        let attempt = |number: u32, live: bool| AttemptBody {
            attempt: format!("j1.7#{number}").parse().expect("an attempt"),
            agent: AgentId(3),
            agent_name: "desk".into(),
            started: "2026-11-24T21:20:00Z".parse().expect("a moment"),
            build: Build::Plain,
            resumed: None,
            cause: None,
            ended: (!live).then(|| "2026-11-24T21:21:05Z".parse().expect("a moment")),
            end: (!live).then_some(AttemptEnd::Evicted),
            reason: None,
            failure: None,
            paused: None,
            unreachable: None,
            usage: None,
            usage_so_far: None,
        };
        let used = Usage { wall_us: 1, cpu_us: 550_000_000, memory_peak_bytes: 12 << 20 };
        let (mut ended, mut known, unknown) = (attempt(1, false), attempt(2, true), attempt(3, true));
        (ended.usage, known.usage_so_far) = (Some(used), Some(used));
        let cells = |attempt: &AttemptBody| {
            let cells = attempt_cells(attempt, &plain(Format::Table).look);
            cells[4..7].iter().map(|cell| cell.text.clone()).collect::<Vec<_>>()
        };
        assert_eq!(cells(&ended), ["1m 05s", "9m 10s", "12.0 MiB"]);
        let never_began = AttemptBody { usage: Some(Usage::default()), ..attempt(1, false) };
        assert_eq!(cells(&never_began), ["1m 05s", "-", "-"]);
        assert_eq!(cells(&known), ["10m 00s so far", "9m 10s so far", "12.0 MiB"]);
        assert_eq!(cells(&unknown), ["10m 00s so far", "-", "-"]);
    }

    #[test]
    fn at_every_width_tasks_are_told_apart_and_long_reasons_go_on_below_their_rows() {
        let now = (plain(Format::Table).look.now)();
        let task = |index: u32, state| TaskBody {
            task: format!("j1042.{index}").parse().expect("a task"),
            label: Some(format!("inputs-of-the-quarter/{}", worst_name(index.into()))),
            state,
            attempts: 12,
            failures: 3,
            agent: Some(AgentId(3)),
            agent_name: Some(worst_name(index.into())),
            started: Some("2025-11-24T21:20:00Z".parse().expect("a moment")),
            unreachable: None,
            ended: None,
            reason: Some(worst_reason()),
            not_before: None,
            output_bytes: Some(123_456_789),
        };
        let tasks = [
            task(100_001, TaskState::Failed),
            task(100_002, TaskState::Verifying),
            TaskBody { unreachable: Some(now), ..task(100_003, TaskState::Running) },
            TaskBody { label: Some(wide_name(4)), ..task(100_004, TaskState::Succeeded) },
        ];
        check_fits(&tasks, "STATE", &["failed", "verifying", "unreachable", "succeeded"]);
    }

    #[test]
    fn an_explanation_names_each_agent_and_its_reasons() {
        let reason = |message: &str| Reason::new("x", message);
        let verdict = |number: u64, obstacles: Vec<Reason>| VerdictBody {
            agent: AgentId(number),
            agent_name: format!("desk-{number}"),
            obstacles,
        };
        let explanation = ExplanationBody {
            task: "j1.7".parse().expect("a task"),
            state: TaskState::Queued,
            waiting: None,
            at: None,
            beside: Vec::new(),
            second_copy: None,
            ahead: Some(3),
            build: Some(ChoiceBody { build: Build::Plain, reason: "how long its tasks take is not known yet".into() }),
            reason: None,
            outage: None,
            agents: vec![verdict(1, vec![reason("its owner paused it"), reason("it is draining")]), verdict(2, Vec::new())],
        };
        let expected = "\
task         j1.7
state        queued
ahead of it  3 tasks
build        plain: how long its tasks take is not known yet

AGENT   WHY NOT THERE
desk-1  its owner paused it; it is draining
desk-2  could start it now
";
        assert_eq!(told(&explanation, &plain(Format::Table).look), expected);
        assert_eq!(why_not(&explanation).as_deref(), Some("3 tasks go before it"));
        let alone = |obstacles| ExplanationBody { agents: obstacles, ..explanation.clone() };
        let paused = || verdict(1, vec![reason("its owner paused it")]);
        assert_eq!(why_not(&alone(vec![paused()])).as_deref(), Some("the only agent: its owner paused it"));
        assert_eq!(why_not(&alone(vec![paused(), paused()])).as_deref(), Some("2 of 2 agents: its owner paused it"));
        assert_eq!(why_not(&alone(Vec::new())).as_deref(), Some("no agent has joined yet"));
        let held = ExplanationBody { waiting: Some(reason("its window is closed")), ..explanation.clone() };
        assert_eq!(why_not(&held).as_deref(), Some("its window is closed"));
        let free = "nothing on it; the task itself may not start";
        assert!(told(&held, &plain(Format::Table).look).contains(free), "what may not start is not said to be able to");
    }
}
