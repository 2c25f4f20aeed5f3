//! `lull audit`: who did what.

use clap::Args;
use lull_shared::bound;

use crate::{
    api::AuditBody,
    cli::{
        Context,
        exit::{Exit, Outcome},
        shown::output::{Cell, Look, Row},
    },
};

/// `lull audit`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull audit\n  lull audit --limit 1000 -o jsonl")]
pub(crate) struct Audit {
    /// At most this many lines, newest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = bound::AUDIT_SHOWN.numbers::<u32>())]
    limit: u32,
}

impl Audit {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        context.out.list(&context.server.connect()?.audit(self.limit).await?.items)?;
        Ok(Exit::Succeeded)
    }
}

impl Row for AuditBody {
    const NAME: &'static str = "audit";
    const HEADINGS: &'static [&'static str] = &["TIME", "BY", "ACTION", "SUBJECT", "DETAIL"];

    fn id(&self) -> String {
        self.subject.clone()
    }

    fn cells(&self, look: &Look) -> Vec<Cell> {
        vec![
            look.time(self.at).into(),
            self.by.as_str().into(),
            self.action.as_str().into(),
            self.subject.as_str().into(),
            self.detail.as_str().into(),
        ]
    }
}
