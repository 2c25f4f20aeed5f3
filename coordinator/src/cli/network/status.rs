//! `lull status`: the network in one look.

use clap::Args;

use crate::{
    api::{AgentsSummary, JobBody, OutageBody, Status as StatusBody},
    cli::{
        Context,
        exit::Outcome,
        shown::output::{Look, Row, pairs, table},
    },
    store::record::Totals,
};

/// `lull status`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull status\n  lull status --watch")]
pub(crate) struct Status {
    /// Show it again whenever it changes
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let text = async || {
            let status = client.status().await?;
            Ok(context.out.shown(&status, &status.coordinator.network, |look| describe(&status, look)))
        };
        context.show(self.watch, text).await
    }
}

fn fleet(agents: &AgentsSummary) -> String {
    let silent = if agents.silent > 0 { format!(", {} silent", agents.silent) } else { String::new() };
    format!("{} of {} connected, {} paused{silent}", agents.connected, agents.enrolled, agents.paused)
}

/// What is wrong with the network, and what is done about it.
pub(crate) fn outage_lines(outage: &OutageBody, look: &Look) -> String {
    let then = match outage.copies_from {
        Some(from) => format!("hint: copies of it start elsewhere from {} on, a few at a time", look.time(from)),
        None => "hint: nothing starts until some are back; `lull net doctor` looks at this coordinator's network".to_owned(),
    };
    format!("\n{}\n{then}\n", outage.message)
}

fn describe(status: &StatusBody, look: &Look) -> String {
    let (coordinator, agents, tasks) = (&status.coordinator, &status.agents, &status.tasks);
    let open = tasks.queued + tasks.waiting;
    let ever = |words: fn(&Totals) -> String| status.totals.as_ref().map(words).unwrap_or_default();
    let mut text = pairs(
        vec![
            ("network", coordinator.network.as_str().into()),
            ("coordinator", format!("{} since {}", coordinator.version, look.time(coordinator.since)).into()),
            ("store", coordinator.store.as_str().into()),
            ("agents", fleet(agents).into()),
            ("slots", format!("{} of {} busy", agents.slots_busy, agents.slots).into()),
            ("jobs", format!("{} active{}", status.jobs_active, ever(|totals| format!(", {} ever", totals.jobs))).into()),
            (
                "tasks",
                format!(
                    "{} running, {open} to do{}",
                    tasks.running,
                    ever(|totals| format!(", {} succeeded ever", totals.tasks_succeeded))
                )
                .into(),
            ),
        ],
        look,
    );
    if let Some(silent) = &status.store_silent {
        text.push_str(&format!(
            "\n{}\nhint: look at the database server; the coordinator's log says what it answered\n",
            silent.message
        ));
    }
    if let Some(loss) = &status.store_loss {
        text.push_str(&format!("\nnoticed {}: {}\nhint: {}\n", look.time(loss.at), loss.message, loss.hint));
    }
    if let Some(outage) = &status.outage {
        text.push_str(&outage_lines(outage, look));
    }
    for stopped in &status.upgrades_stopped {
        let then = "`lull agent upgrade` says where; `lull agent upgrade --resume` goes on";
        text.push_str(&format!("\n{stopped}\nhint: {then}\n"));
    }
    if !status.jobs.is_empty() {
        text.push('\n');
        text.push_str(&table(JobBody::HEADINGS, status.jobs.iter().map(|job| job.cells(look)).collect(), look));
    }
    text
}
