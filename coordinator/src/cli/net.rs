//! `lull net`: who is connected how, and what may be wrong.

use clap::Subcommand;

use super::{
    Context,
    exit::{Exit, Outcome},
    output::{Cell, Look, Row, Tone},
};
use crate::api::{Finding, PeerBody, Verdict};

/// What can be seen of the mesh.
#[derive(Debug, Subcommand)]
pub enum Net {
    /// List the peers of the coordinator: who, from where, how far, and what was moved
    #[command(after_help = "EXAMPLES:\n  lull net peers")]
    Peers,
    /// Look for what is wrong with the mesh; ends with 1 if something is
    #[command(after_help = "EXAMPLES:\n  lull net doctor")]
    Doctor,
}

impl Net {
    pub async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        match self {
            Self::Peers => context.out.list(&client.peers().await?.items)?,
            Self::Doctor => {
                let findings = client.doctor().await?.items;
                context.out.list(&findings)?;
                if findings.iter().any(|finding| finding.verdict == Verdict::Bad) {
                    return Ok(Exit::Failed);
                }
            }
        }
        Ok(Exit::Succeeded)
    }
}

impl Row for PeerBody {
    const NAME: &'static str = "peers";
    const HEADINGS: &'static [&'static str] =
        &["NAME", "ROLE", "AGENT", "ADDRESS", "DIRECTION", "ROUND TRIP", "WORK", "SENT", "RECEIVED", "SOFTWARE"];

    fn id(&self) -> String {
        self.peer.clone()
    }

    fn cells(&self, _look: &Look) -> Vec<Cell> {
        let role = self.role.as_deref().map_or_else(|| Cell::toned("stranger", Tone::Odd), Cell::from);
        vec![
            Cell::or_dash(self.name.as_deref()),
            role,
            Cell::or_dash(self.agent.as_ref()),
            self.address.as_str().into(),
            self.direction.as_str().into(),
            Cell::or_dash(self.round_trip_ms.map(|ms| format!("{ms:.1} ms"))),
            if self.work_open { "open" } else { "-" }.into(),
            bytesize::ByteSize(self.blob_bytes_sent).to_string().into(),
            bytesize::ByteSize(self.blob_bytes_received).to_string().into(),
            Cell::or_dash(self.software.as_deref()),
        ]
    }
}

impl Row for Finding {
    const NAME: &'static str = "findings";
    const HEADINGS: &'static [&'static str] = &["CHECK", "VERDICT", "WHAT WAS FOUND", "WHAT TO DO"];

    fn id(&self) -> String {
        self.check.clone()
    }

    fn cells(&self, _look: &Look) -> Vec<Cell> {
        let tone = match self.verdict {
            Verdict::Good => Tone::Good,
            Verdict::Odd => Tone::Odd,
            Verdict::Bad => Tone::Bad,
        };
        vec![
            self.check.as_str().into(),
            Cell::toned(self.verdict.as_str(), tone),
            self.message.as_str().into(),
            self.hint.clone().unwrap_or_default().into(),
        ]
    }
}
