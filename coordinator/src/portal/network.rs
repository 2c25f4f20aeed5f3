//! The network: coordinators, what is wrong, who is connected, and how bytes travel.

use askama::Template;
use axum::{extract::State, response::Response};
use lull_shared::amount::{counted, size};

use crate::{
    api::{Post, Verdict, standing::Tone},
    http::{
        Shared,
        door::{auth::Viewer, error::Answer},
        fleet::{coordinators, network},
    },
    portal::{
        frame::Frame,
        words::{self, Html},
    },
};

/// Peers and blobs that are listed; `lull net peers` has them all.
const SHOWN: usize = 50;

struct Finding {
    state: Html,
    check: String,
    message: String,
    hint: String,
}

struct Coordinator {
    name: String,
    state: Html,
    since: Html,
    machine: String,
    http: String,
    seen: Html,
}

struct Peer {
    name: String,
    role: String,
    address: String,
    by: String,
    trip: String,
    bytes: String,
}

#[derive(Template)]
#[template(path = "network.html")]
struct Page<'a> {
    frame: &'a Frame,
    answer: String,
    findings: Vec<Finding>,
    coordinators: Vec<Coordinator>,
    peers: Vec<Peer>,
    more: usize,
    network: String,
    store: String,
}

/// `GET /network`
pub(super) async fn page(State(state): Shared, viewer: Viewer, again: Viewer, frame: Frame) -> Answer<Response> {
    let findings = network::doctor(State(state.clone()), viewer).await?.0.items;
    let coordinators = coordinators::list(&*state.coordinator.store).await?.0.items;
    let peers = network::peers(State(state.clone()), again).await?.0.items;
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() as u64;
    let odd = findings.iter().filter(|finding| finding.verdict == Verdict::Odd).count() as u64;
    let finding = |of: &crate::api::Finding| Finding {
        state: match of.verdict {
            Verdict::Good => words::state("good", Tone::Good),
            Verdict::Odd => words::state("odd", Tone::Odd),
            Verdict::Bad => words::state("bad", Tone::Bad),
        },
        check: of.check.clone(),
        message: frame.said(&of.message),
        hint: of.hint.as_deref().map(|hint| frame.said(hint)).unwrap_or_default(),
    };
    let coordinator = |of: &crate::api::CoordinatorBody| Coordinator {
        name: frame.text(&of.name),
        state: match of.post {
            Post::Leader => words::state("leads", Tone::Good),
            Post::Standby => words::state("stands by", Tone::Plain),
            Post::Away => words::state("away", Tone::Odd),
        },
        since: of.since.as_ref().map(|at| frame.time(at)).unwrap_or_default(),
        machine: frame.text(&of.machine),
        http: frame.text(&of.http),
        seen: frame.time(&of.seen),
    };
    let all = peers.len();
    let peer = |of: crate::api::PeerBody| Peer {
        name: frame.text(&of.name.unwrap_or(of.peer)),
        role: of.role.unwrap_or_else(|| "stranger".into()),
        address: frame.text(&of.address),
        by: format!("{}, {}", of.transport, of.direction),
        trip: of.round_trip_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default(),
        bytes: format!("{} out, {} in", size(of.blob_bytes_sent), size(of.blob_bytes_received)),
    };
    frame.answer(&Page {
        answer: match (bad, odd) {
            (0, 0) => format!("All is well; {} connected.", counted(all as u64, "peer") + if all == 1 { " is" } else { " are" }),
            (0, odd) => format!("{} odd.", counted(odd, "thing") + if odd == 1 { " is" } else { " are" }),
            (bad, _) => format!("{} wrong.", counted(bad, "thing") + if bad == 1 { " is" } else { " are" }),
        },
        findings: findings.iter().map(finding).collect(),
        coordinators: coordinators.iter().map(coordinator).collect(),
        peers: peers.into_iter().take(SHOWN).map(peer).collect(),
        more: all.saturating_sub(SHOWN),
        network: state.coordinator.network.to_string(),
        store: frame.text(&state.coordinator.store.describe()),
        frame: &frame,
    })
}
