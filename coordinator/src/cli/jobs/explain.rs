//! `lull explain`: why a job does not move, by reason, or why one task is where it is.

use std::str::FromStr;

use clap::Args;
use lull_shared::amount::quoted;

use crate::{
    api::{HeldBody, InTheWayBody, JobExplanationBody},
    cli::{
        Context,
        exit::{Exit, Outcome},
        jobs::task,
        shown::output::{Cell, Look, Tone, counted, pairs, table},
        typed::selector::{JobName, TaskName},
    },
};

/// `lull explain`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull explain j42          its tasks and the agents, summed up by reason\n  \
    lull explain j42.7        one task, agent by agent\n  lull explain j42 -o json")]
pub(crate) struct Explain {
    /// The job, like j42 or last, or the task, like j42.7 or last.7
    #[arg(value_name = "JOB|TASK")]
    what: What,
}

/// What is to be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Job(JobName),
    Task(TaskName),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{} is neither a job nor a task\nhint: write it like j42 or j42.7, or last", quoted(text));
        match text.contains('.') {
            true => text.parse().map(Self::Task).map_err(|_| form()),
            false => text.parse().map(Self::Job).map_err(|_| form()),
        }
    }
}

impl Explain {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let job = match self.what {
            What::Task(task) => return task::explain(context, task).await,
            What::Job(job) => job,
        };
        let client = context.server.connect()?;
        let job = job.find(&client).await?;
        let explained = client.explain_job(job).await?;
        context.out.one(&explained, &job.to_string(), |look| describe(&explained, look))?;
        Ok(Exit::Succeeded)
    }
}

fn describe(explained: &JobExplanationBody, look: &Look) -> String {
    let mut text = pairs(
        vec![
            ("job", format!("{} ({})", explained.job, explained.name).into()),
            ("state", explained.state.into()),
            ("why", Cell::toned(&explained.summary, if explained.state.is_ended() { Tone::Plain } else { Tone::Odd })),
        ],
        look,
    );
    let held = |held: &HeldBody| {
        vec![
            held.tasks.to_string().into(),
            held.state.into(),
            held.reason.as_ref().map(|reason| reason.message.as_str()).unwrap_or_default().into(),
            Cell::or_dash(held.example.as_ref()),
        ]
    };
    if !explained.tasks.is_empty() {
        text.push('\n');
        text.push_str(&table(&["TASKS", "STATE", "REASON", "EXAMPLE"], explained.tasks.iter().map(held).collect(), look));
    }
    let in_the_way = |way: &InTheWayBody| {
        let why = match &way.reason {
            Some(reason) => reason.message.as_str().into(),
            None => Cell::toned("could start a task now", Tone::Good),
        };
        vec![way.agents.to_string().into(), why, way.example.as_str().into()]
    };
    if explained.agents.is_empty() && explained.counts.queued > 0 {
        text.push_str("\nhint: `lull token create` makes a token, `lull-agent join --token-file FILE` uses it\n");
    }
    if !explained.agents.is_empty() {
        let rows = explained.agents.iter().map(in_the_way).collect();
        text.push('\n');
        text.push_str(&table(&["AGENTS", "WHY NOT THERE", "EXAMPLE"], rows, look));
        let agents: u64 = explained.agents.iter().map(|way| way.agents).sum();
        text.push_str(&format!("\n{} in all; `lull explain {}.0` has each\n", counted(agents, "agent"), explained.job));
    }
    text
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        id::JobId,
        state::{JobState, TaskCounts, TaskState},
    };

    use super::*;
    use crate::{
        api::Reason,
        cli::shown::output::{Format, tests::plain},
    };

    #[test]
    fn a_job_or_a_task_is_told_by_its_form() {
        assert_eq!("j42".parse(), Ok(What::Job(JobName::Number(JobId(42)))));
        assert_eq!("last".parse(), Ok(What::Job(JobName::Last)));
        assert_eq!("j42.7".parse(), "j42.7".parse().map(What::Task));
        assert_eq!("last.7".parse(), "last.7".parse().map(What::Task));
        assert!("x42".parse::<What>().is_err() && "j42.x".parse::<What>().is_err());
    }

    #[test]
    fn a_job_is_summed_up_by_reason() {
        let reason = |message: &str| Some(Reason::new("x", message));
        let explained = JobExplanationBody {
            job: JobId(42),
            name: "stats".into(),
            state: JobState::Active,
            summary: "2 agents are paused by their owners".into(),
            counts: TaskCounts::default(),
            tasks: vec![HeldBody { tasks: 40, state: TaskState::Queued, reason: reason("no agent has room"), example: None }],
            agents: vec![InTheWayBody { agents: 2, reason: reason("its owner paused it"), example: "desk-1".into() }],
        };
        let expected = "\
job    j42 (stats)
state  active
why    2 agents are paused by their owners

TASKS  STATE   REASON             EXAMPLE
40     queued  no agent has room  -

AGENTS  WHY NOT THERE        EXAMPLE
2       its owner paused it  desk-1

2 agents in all; `lull explain j42.0` has each
";
        assert_eq!(describe(&explained, &plain(Format::Table).look), expected);
    }
}
