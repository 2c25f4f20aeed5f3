//! Who may say what: the tables, and that everybody else is refused.

use std::fmt::Write as _;

use lull_shared::{
    identity::Role,
    protocol::{Admission, Introduction},
    senders,
};

use super::support::{Member, Network, RawPeer, drained, within};
use crate::{
    NodeConfig,
    peers::admission::now,
    streams::{
        frames::{read_frame, write_frame},
        opened::{PROTOCOLS, Protocol},
        serve::may_open,
    },
};

const PEERS: [Option<Role>; 3] = [None, Some(Role::Agent), Some(Role::Coordinator)];

fn called(role: Option<Role>) -> &'static str {
    match role {
        None => "a stranger",
        Some(Role::Agent) => "an agent",
        Some(Role::Coordinator) => "a coordinator",
    }
}

/// `LULL_GOLDEN=write cargo test` writes it anew.
#[test]
fn the_table_for_people_is_what_holds() {
    let mut text = String::from(
        "# Who may open which protocol, and send which message\n\n| protocol | to a coordinator | to an agent |\n|---|---|---|\n",
    );
    for protocol in PROTOCOLS {
        let openers = |here| {
            let may: Vec<_> = PEERS.into_iter().filter(|peer| may_open(protocol, *peer, here)).map(called).collect();
            if may.is_empty() { "nobody".to_owned() } else { may.join(", ") }
        };
        writeln!(text, "| `{}` | {} | {} |", protocol.as_ref(), openers(Role::Coordinator), openers(Role::Agent)).expect("text");
    }
    text.push_str("\nAny other stream is reset unread.\n\n| carried by | message | sent by |\n|---|---|---|\n");
    for senders::Message { protocol, name, sender } in senders::all() {
        writeln!(text, "| `{protocol}` | `{name}` | {} |", sender.as_str()).expect("text");
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../src/MESSAGES.md");
    if std::env::var_os("LULL_GOLDEN").is_some_and(|what| what == "write") {
        std::fs::write(file, &text).expect("written");
    }
    assert_eq!(std::fs::read_to_string(file).expect("it is here"), text, "write it anew with LULL_GOLDEN=write");
}

/// A peer of this role, admitted by the other side.
async fn peer(network: &Network, role: Option<Role>, to: &Member) -> RawPeer {
    let config = match role {
        Some(role) => network.config(role, (role == Role::Agent).then_some(7)),
        None => network.stranger_config(libp2p::identity::Keypair::generate_ed25519()),
    };
    let certificate = config.certificate.clone();
    let peer = RawPeer::connect(NodeConfig { listen: Vec::new(), ..config }, to.address().await).await;
    let mut stream = peer.open(Protocol::Admission).await;
    let introduction = Introduction { certificate, software: "test".to_owned(), revocations: Default::default(), now: now() };
    write_frame(&mut stream, &introduction).await.expect("it is read");
    let _: Introduction = within("its introduction", read_frame(&mut stream, 1 << 20)).await.expect("it is shown");
    let verdict: Admission = within("a verdict", read_frame(&mut stream, 1 << 20)).await.expect("it is told");
    assert_eq!(matches!(verdict, Admission::Admitted { .. }), role.is_some(), "{verdict:?}");
    write_frame(&mut stream, &Admission::Admitted { revocations: None }).await.expect("it is read");
    peer
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_that_its_opener_may_not_open_is_reset_unread() {
    let network = Network::new(1);
    for here in [Role::Coordinator, Role::Agent] {
        let node = match here {
            Role::Coordinator => network.coordinator().await,
            Role::Agent => network.agent(1).await,
        };
        for role in PEERS {
            let peer = peer(&network, role, &node).await;
            for protocol in PROTOCOLS.into_iter().filter(|protocol| !may_open(*protocol, role, here)) {
                assert!(drained(peer.open(protocol).await).await.is_empty(), "{protocol:?} of {} to {here:?}", called(role));
            }
        }
    }
}
