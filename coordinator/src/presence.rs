//! SHELL: says in the store that this coordinator is there, and knows of the others that share it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use libp2p::{Multiaddr, multiaddr::Protocol};
use lull_mesh::NodeHandle;
use lull_shared::{
    limits,
    portal::{is_loopback, is_portal},
    time::Timestamp,
};
use tokio::sync::watch;

use crate::{
    clock,
    store::{Attendance, StoreResult, record::CoordinatorRecord},
};

/// How often it says so.
pub const EVERY: Duration = Duration::from_secs(3);
/// One that was not seen for this long is not counted on any more: a repair may take a weekend.
const FORGET: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Another coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    pub name: String,
    pub machine: String,
    /// Its HTTP interface with the pin of its key ([`crate::pin::Address`]), if it can be reached from this machine.
    pub url: Option<String>,
    /// Where agents reach it.
    pub addresses: Vec<String>,
}

/// Keeps this coordinator's row, and the list of all.
pub struct Presence {
    store: Arc<dyn Attendance>,
    node: NodeHandle,
    announce: Vec<Multiaddr>,
    /// Everything about this one but its addresses and the time.
    own: CoordinatorRecord,
    others: Mutex<Vec<CoordinatorRecord>>,
    addresses: watch::Sender<Arc<Vec<String>>>,
}

impl Presence {
    /// Says it for the first time; fails on a store of another network.
    pub async fn begin(
        store: Arc<dyn Attendance>,
        node: NodeHandle,
        announce: Vec<Multiaddr>,
        own: CoordinatorRecord,
    ) -> anyhow::Result<Arc<Self>> {
        let known = store.coordinators().await.context("cannot read who else uses the store")?;
        if let Some(other) = known.iter().find(|other| other.network != own.network) {
            bail!(
                "this store belongs to the network {} ({} on {}), and this data folder to {}\nhint: `lull server export` there and \
                 `lull server import` here, with an empty data folder, make this a coordinator of that network",
                other.network,
                other.name,
                other.machine,
                own.network
            );
        }
        let addresses = watch::Sender::new(Arc::default());
        let presence = Arc::new(Self { store, node, announce, own, others: Mutex::default(), addresses });
        presence.check_in(None).await.context("cannot note in the store that this coordinator is there")?;
        Ok(presence)
    }

    /// What the store calls this coordinator when it leads.
    pub fn holder(&self) -> String {
        self.own.holder()
    }

    /// The other one that the store calls so.
    pub fn elsewhere(&self, holder: &str) -> Option<Elsewhere> {
        let others = self.others();
        others.iter().find(|other| other.holder() == holder).map(|other| seen_from(&self.own, other))
    }

    /// Where agents find coordinators: this one first, then those that were seen last.
    pub fn addresses(&self) -> Arc<Vec<String>> {
        self.addresses.borrow().clone()
    }

    /// The same, and whenever it changes.
    pub fn watch_addresses(&self) -> watch::Receiver<Arc<Vec<String>>> {
        self.addresses.subscribe()
    }

    /// Where people at a machine that connects from there look at the network with a browser, if they can reach it.
    pub fn portal(&self, from: &Multiaddr) -> Option<String> {
        portal_from(&self.own.http, from)
    }

    /// Says that it is there, and since when it leads if it does; and looks who else is.
    pub async fn check_in(&self, leads: Option<Timestamp>) -> StoreResult<()> {
        let now = clock::now();
        let own = CoordinatorRecord { addresses: self.own_addresses().await, leads, seen: now, ..self.own.clone() };
        let checked_in = async {
            self.store.check_in(&own, now - FORGET).await?;
            self.store.coordinators().await
        };
        let (result, others) = match checked_in.await {
            Ok(mut all) => {
                all.retain(|other| other.peer != own.peer && other.network == own.network);
                (Ok(()), all)
            }
            Err(error) => (Err(error), self.others().clone()),
        };
        let addresses = all_addresses(&own, &others);
        *self.others() = others;
        self.addresses.send_if_modified(|known| learn(known, addresses));
        result
    }

    async fn own_addresses(&self) -> Vec<String> {
        let peer = self.node.local_peer();
        let told = if self.announce.is_empty() { self.node.listen_addresses().await } else { self.announce.clone() };
        told.into_iter().map(|address| address.with_p2p(peer).unwrap_or_else(|other| other).to_string()).collect()
    }

    fn others(&self) -> MutexGuard<'_, Vec<CoordinatorRecord>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes these in place of what was known. Whether they are others: only then agents are told.
fn learn(known: &mut Arc<Vec<String>>, addresses: Vec<String>) -> bool {
    let news = **known != addresses;
    if news {
        *known = Arc::new(addresses);
    }
    news
}

fn all_addresses(own: &CoordinatorRecord, others: &[CoordinatorRecord]) -> Vec<String> {
    let mut others: Vec<&CoordinatorRecord> = others.iter().collect();
    // By the day: the order must not change with every look.
    others.sort_by_key(|other| (std::cmp::Reverse(other.seen.as_millis() / (24 * 60 * 60 * 1000)), other.peer.clone()));
    let mut addresses: Vec<String> = Vec::new();
    for address in own.addresses.iter().chain(others.into_iter().flat_map(|other| &other.addresses)) {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    addresses.truncate(limits::COORDINATOR_ADDRESSES_MAX);
    addresses
}

/// The URL under which others reach an interface that listens here.
pub fn url_of(scheme: &str, listening: SocketAddr, machine: &str) -> String {
    match listening.ip().is_unspecified() {
        true => format!("{scheme}://{machine}:{}", listening.port()),
        false => format!("{scheme}://{listening}"),
    }
}

/// An interface on loopback is for whoever comes from there.
fn portal_from(url: &str, from: &Multiaddr) -> Option<String> {
    // Without the pin of its key: that is for programs.
    let url = url.split('#').next().unwrap_or_default();
    let here = from.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    });
    (is_portal(url) && (here || !is_loopback(url))).then(|| url.to_owned())
}

/// Another one as it can be found from here: an interface on loopback only from its own machine.
fn seen_from(own: &CoordinatorRecord, other: &CoordinatorRecord) -> Elsewhere {
    let here = other.machine == own.machine;
    Elsewhere {
        name: other.name.clone(),
        machine: other.machine.clone(),
        url: (here || !is_loopback(&other.http)).then(|| other.http.clone()),
        addresses: other.addresses.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(peer: &str, addresses: &[&str]) -> CoordinatorRecord {
        CoordinatorRecord {
            peer: peer.into(),
            name: "n".into(),
            machine: "m".into(),
            network: "0".into(),
            http: "http://m:1".into(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            leads: None,
            seen: Timestamp(0),
        }
    }

    #[test]
    fn an_agent_is_told_of_all_coordinators_the_one_that_tells_first() {
        let (own, others) = (record("b", &["/b/1", "/b/2"]), [record("c", &["/c"]), record("a", &["/a", "/b/1"])]);
        assert_eq!(all_addresses(&own, &others), ["/b/1", "/b/2", "/a", "/c"]);
    }

    #[test]
    fn agents_are_told_of_addresses_only_when_they_are_others() {
        let mut known = Arc::new(vec!["/a".to_owned()]);
        let before = Arc::clone(&known);
        assert!(!learn(&mut known, vec!["/a".into()]) && Arc::ptr_eq(&known, &before));
        assert!(learn(&mut known, vec!["/b".into(), "/a".into()]));
        assert_eq!(*known, ["/b", "/a"]);
    }

    #[test]
    fn an_interface_on_loopback_is_named_on_its_own_machine_only() {
        let at = |machine: &str, http: &str| CoordinatorRecord { machine: machine.into(), http: http.into(), ..record("b", &[]) };
        let own = record("a", &[]);
        let url = |other| seen_from(&own, &other).url;
        assert_eq!(url(at("m", "http://127.0.0.1:1")).as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(url(at("other", "http://127.0.0.1:1")), None);
        assert_eq!(url(at("other", "http://10.0.0.7:1")).as_deref(), Some("http://10.0.0.7:1"));
    }

    #[test]
    fn an_interface_on_every_address_is_found_under_the_name_of_its_machine() {
        assert_eq!(url_of("https", ([0, 0, 0, 0], 7411).into(), "north"), "https://north:7411");
        assert_eq!(url_of("https", ([10, 0, 0, 7], 7411).into(), "north"), "https://10.0.0.7:7411");
    }

    #[test]
    fn an_agent_is_told_of_a_portal_that_its_machine_reaches() {
        let told = |url: &str, from: &str| portal_from(url, &from.parse().expect("an address"));
        let (near, far) = ("/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.9/tcp/1");
        assert_eq!(told("http://127.0.0.1:7411", near).as_deref(), Some("http://127.0.0.1:7411"));
        assert_eq!(told("http://127.0.0.1:7411", far), None);
        assert_eq!(told("http://north:7411", far).as_deref(), Some("http://north:7411"));
        assert_eq!(told("http://[::1]:7411", "/ip6/::1/udp/1/quic-v1").as_deref(), Some("http://[::1]:7411"));
        assert_eq!(told("http://north:7411/ what", far), None, "what an administrator announced is no address");
    }

    #[test]
    fn those_that_were_seen_last_are_named_first_and_only_so_many() {
        let day = 24 * 60 * 60 * 1_000;
        let seen = |peer: &str, at: i64| CoordinatorRecord {
            seen: Timestamp::from_millis(at),
            ..record(peer, &[&format!("/{peer}/1"), &format!("/{peer}/2")])
        };
        // On one day the order does not change with every look.
        let others = [seen("c", 2 * day), seen("d", 3 * day - 1), seen("a", 2 * day - 1), seen("b", 2 * day + 1)];
        let named = all_addresses(&record("own", &["/own"]), &others);
        let expected = ["/own", "/b/1", "/b/2", "/c/1", "/c/2", "/d/1", "/d/2", "/a/1", "/a/2"];
        assert_eq!(named, expected[..limits::COORDINATOR_ADDRESSES_MAX.min(expected.len())]);
        let many: Vec<String> = (0..=limits::COORDINATOR_ADDRESSES_MAX).map(|number| format!("/{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(all_addresses(&record("own", &many), &[]), many[..limits::COORDINATOR_ADDRESSES_MAX]);
    }
}
