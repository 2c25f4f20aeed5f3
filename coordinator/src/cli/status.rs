//! `lull status`: the network in one look.

use clap::Args;

use super::{
    Context,
    exit::Outcome,
    output::{Look, Row, pairs, table},
};
use crate::api::{JobBody, Status as StatusBody};

/// `lull status`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull status\n  lull status --watch")]
pub struct Status {
    /// Show it again whenever it changes
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let text = async || {
            let status = client.status().await?;
            Ok(context.out.shown(&status, &status.coordinator.network, |look| describe(&status, look)))
        };
        context.show(self.watch, text).await
    }
}

fn describe(status: &StatusBody, look: &Look) -> String {
    let (coordinator, agents, tasks) = (&status.coordinator, &status.agents, &status.tasks);
    let open = tasks.queued + tasks.waiting;
    let mut text = pairs(
        vec![
            ("network", coordinator.network.as_str().into()),
            ("coordinator", format!("{} since {}", coordinator.version, look.time(coordinator.since)).into()),
            ("store", coordinator.store.as_str().into()),
            ("agents", format!("{} of {} connected, {} paused", agents.connected, agents.enrolled, agents.paused).into()),
            ("slots", format!("{} of {} busy", agents.slots_busy, agents.slots).into()),
            ("jobs", format!("{} active, {} ever", status.jobs_active, status.totals.jobs).into()),
            (
                "tasks",
                format!("{} running, {open} to do, {} succeeded ever", tasks.running, status.totals.tasks_succeeded).into(),
            ),
        ],
        look,
    );
    if !status.jobs.is_empty() {
        text.push('\n');
        text.push_str(&table(JobBody::HEADINGS, status.jobs.iter().map(|job| job.cells(look)).collect(), look));
    }
    text
}
