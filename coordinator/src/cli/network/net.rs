//! `lull net`: who is connected how, what came from where, and what may be wrong.

use clap::{Args, Subcommand};

use crate::{
    api::{AgentTraffic, BlobTraffic, Finding, PeerBody, Verdict},
    cli::{
        Context,
        exit::{Exit, Outcome},
        shown::output::{Cell, Look, Row, Tone},
    },
};

/// The agents on the mesh, or more of it.
#[derive(Debug, Args)]
#[command(
    after_help = "Bytes are counted since each agent started.\n\nEXAMPLES:\n  lull net\n  lull net -o json\n  lull net blobs"
)]
pub(crate) struct Net {
    #[command(subcommand)]
    part: Option<Part>,
}

/// What else can be seen of the mesh.
#[derive(Debug, Subcommand)]
enum Part {
    /// List the connected agents: from where, what they hold, and what came to them from where
    #[command(after_help = "EXAMPLES:\n  lull net agents")]
    Agents,
    /// List blobs: how many agents hold each, and how often the coordinator uploaded it
    #[command(after_help = "EXAMPLES:\n  lull net blobs")]
    Blobs,
    /// List the peers of the coordinator: who, from where, how far, and what was moved
    #[command(after_help = "EXAMPLES:\n  lull net peers")]
    Peers,
    /// Look for what is wrong with the mesh; exits with 1 if something is
    #[command(after_help = "EXAMPLES:\n  lull net doctor")]
    Doctor,
}

impl Net {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        match self.part.as_ref().unwrap_or(&Part::Agents) {
            Part::Agents => context.out.list(&client.agent_traffic().await?.items)?,
            Part::Blobs => context.out.list(&client.blob_traffic().await?.items)?,
            Part::Peers => context.out.list(&client.peers().await?.items)?,
            Part::Doctor => {
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

impl Row for AgentTraffic {
    const NAME: &'static str = "agents";
    const HEADINGS: &'static [&'static str] =
        &["AGENT", "NAME", "ADDRESS", "LISTENS", "BLOBS", "FROM AGENTS", "FROM COORDINATORS", "SERVED"];

    fn id(&self) -> String {
        self.agent.to_string()
    }

    fn cells(&self, _look: &Look) -> Vec<Cell> {
        vec![
            self.agent.to_string().into(),
            self.name.as_str().into(),
            Cell::or_dash(self.address.as_deref()),
            Cell::or_dash(self.listens.first()),
            self.blobs.to_string().into(),
            bytesize::ByteSize(self.from_agents_bytes).to_string().into(),
            bytesize::ByteSize(self.from_coordinators_bytes).to_string().into(),
            bytesize::ByteSize(self.served_bytes).to_string().into(),
        ]
    }
}

impl Row for BlobTraffic {
    const NAME: &'static str = "blobs";
    const HEADINGS: &'static [&'static str] = &["BLOB", "SIZE", "HOLDERS", "FETCHING", "UPLOADS", "UPLOADED"];

    fn id(&self) -> String {
        self.digest.to_string()
    }

    fn cells(&self, _look: &Look) -> Vec<Cell> {
        vec![
            self.digest.short().into(),
            bytesize::ByteSize(self.size_bytes).to_string().into(),
            self.holders.to_string().into(),
            self.fetching.to_string().into(),
            format!("{:.1}", self.uploads).into(),
            bytesize::ByteSize(self.uploaded_bytes).to_string().into(),
        ]
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

#[cfg(test)]
mod tests {
    use lull_shared::{digest::Digest, id::AgentId};

    use super::*;
    use crate::cli::shown::output::tests::{check_fits, wide_name, worst_name, worst_reason};

    const ADDRESS: &str = "/ip6/2001:db8:85a3:8d3:1319:8a2e:370:7348/udp/65535/quic-v1";

    #[test]
    fn at_every_width_agents_blobs_and_peers_of_the_mesh_are_told_apart() {
        let agent = |number, name| AgentTraffic {
            agent: AgentId(number),
            name,
            peer: "12D3KooW".into(),
            address: Some(ADDRESS.into()),
            listens: vec![ADDRESS.into()],
            blobs: 1_000_000,
            from_agents_bytes: 123_456_789_012,
            from_coordinators_bytes: 123_456_789_012,
            served_bytes: 123_456_789_012,
        };
        let agents = [agent(10_001, worst_name(1)), agent(10_002, wide_name(2))];
        check_fits(&agents, "FROM AGENTS", &["115.0", "115.0"]);
        let blob = |of: &[u8]| BlobTraffic {
            digest: Digest::of(of),
            size_bytes: 123_456_789_012,
            holders: 1_000_000,
            fetching: 1_000_000,
            uploaded_bytes: 123_456_789_012,
            uploads: 123_456.7,
        };
        check_fits(&[blob(b"a"), blob(b"b")], "HOLDERS", &["1000000", "1000000"]);
        let peer = |name: &str| PeerBody {
            peer: "12D3KooW".into(),
            role: Some("coordinator".into()),
            agent: Some(AgentId(10_001)),
            name: Some(name.into()),
            software: Some("lull-agent/1.2.345".into()),
            address: ADDRESS.into(),
            direction: "outbound".into(),
            transport: "quic".into(),
            round_trip_ms: Some(1_234.5),
            work_open: true,
            blob_bytes_sent: 123_456_789_012,
            blob_bytes_received: 123_456_789_012,
        };
        check_fits(&[peer("render-farm-00001"), peer("夜間の画像処理-2")], "ROLE", &["coordinator", "coordinator"]);
    }

    #[test]
    fn at_every_width_findings_are_told_whole() {
        let finding =
            |check: &str, verdict| Finding { check: check.into(), verdict, message: worst_reason(), hint: Some(worst_reason()) };
        check_fits(&[finding("cloned-identities", Verdict::Bad), finding("clocks", Verdict::Odd)], "VERDICT", &["bad", "odd"]);
    }
}
