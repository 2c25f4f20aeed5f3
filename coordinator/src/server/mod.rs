//! Puts a coordinator together: keys, store, mesh, the loop, the HTTP interface; and takes it apart again.
//!
//! ```text
//! start -> stand by --the lease is free or lapsed--> lead --told to stop--> give the lease back, end
//!             ^                                        |
//!             +------------- fenced: another took over-+
//! ```
//! Mesh and HTTP interface live as long as the process and answer by its [`Phase`]; what a term needs is made
//! with it and goes with it.

mod awake;
mod founding;
mod leader;
mod lease_watch;
mod reception;
mod room;
#[cfg(test)]
mod silent_store;
#[cfg(test)]
mod slow_store;
mod standby;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::BTreeSet,
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use lull_engine::cache::Cache;
use lull_mesh::{Node, NodeConfig, UploadRules};
use lull_scheduler::Limits;
use lull_shared::{
    identity::{Authority, Issuer, NetworkId, Role},
    limits,
    state::Intake,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{leader::Lasting, standby::Standby};
pub use crate::keys::{ADMIN_TOKEN_FILE, HTTP_ADDRESS_FILE};
use crate::{
    certificate::{Certificate, Origin},
    clock,
    dispatch::LeaseTimes,
    fleet::blobs::StoreBlobs,
    http, keys,
    pin::{Address, Pin},
    presence::{self, Presence},
    publishing::make::Making,
    store::{
        self, Lead, Store, StoreChoice,
        record::{AgentRecord, CoordinatorRecord},
    },
    term::phase::Phase,
};

/// How long a stopping coordinator waits for its parts.
const GRACE: Duration = Duration::from_secs(5);

/// Between two tries to tell a store what it forgot.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);
/// How long a stopping coordinator waits for the store to take its lease back.
const GIVE_BACK_MAX: Duration = Duration::from_secs(2);

/// Where a coordinator keeps snapshots of which no agent could keep a copy.
const SNAPSHOTS_FOLDER: &str = "snapshots";

/// How a coordinator is run.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Keys, the embedded store, and the files by which a local command line finds the server.
    pub data: PathBuf,
    /// What is missing of the network's keys and name is to be made anew, instead of being told as a loss.
    pub init: bool,
    pub store: StoreChoice,
    /// How long a start waits for a store that does not answer.
    pub store_wait: Duration,
    /// Where the mesh listens.
    pub listen: Vec<Multiaddr>,
    /// Where the HTTP interface listens.
    pub http: SocketAddr,
    /// Addresses that agents are told in place of those that it listens on; none: those.
    pub announce: Vec<Multiaddr>,
    pub mdns: bool,
    /// The URL of the HTTP interface that other coordinators name to people; made of its address if left out.
    pub http_announce: Option<String>,
    /// More names by which people reach the HTTP interface: those of a proxy, or in the domain's directory.
    pub http_hosts: Vec<String>,
    pub web: Web,
    /// What the audit and other coordinators call this one.
    pub name: String,
    pub limits: Limits,
    /// How modules are compiled.
    pub making: Making,
    pub lease: LeaseTimes,
}

/// How browsers and programs meet the HTTP interface.
#[derive(Debug, Clone, Default)]
pub struct Web {
    /// Whose certificate is shown; without one, a certificate of its own, and plain HTTP on loopback.
    pub certificate: Option<GivenCertificate>,
    /// The path under which a proxy has it, without a slash at its end; empty at the root.
    pub base: String,
}

/// Files with a certificate that somebody else vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A coordinator that runs.
pub struct RunningServer {
    pub http_address: SocketAddr,
    /// What is shown to connections by HTTPS; none where they are plain.
    certificate: Option<Arc<Certificate>>,
    phase: watch::Receiver<Phase>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    life: tokio::task::JoinHandle<anyhow::Result<()>>,
    address_file: PathBuf,
    _lock: File,
}

/// Starts a coordinator; when this returns it listens and answers, and leads or stands by.
pub async fn start(config: ServerConfig, shutdown: CancellationToken) -> anyhow::Result<RunningServer> {
    keys::check_folder(&config.data)?;
    keys::private_folder(&config.data)?;
    let database = match &config.store {
        StoreChoice::Embedded(folder) => Some(folder.clone()),
        StoreChoice::SqlServer(_) | StoreChoice::Memory => None,
    };
    let folders: Vec<PathBuf> = [config.data.clone()].into_iter().chain(database).collect();
    if !room::wait(&folders, &shutdown).await {
        anyhow::bail!("stopped before there was room on the disk");
    }
    let store = awake::open(|| store::open(&config.store), config.store_wait, &shutdown).await?;
    start_on(store, config, shutdown).await
}

/// The same on a store that is open.
pub async fn start_on(store: Arc<dyn Store>, config: ServerConfig, shutdown: CancellationToken) -> anyhow::Result<RunningServer> {
    // What is made once need not be carried along in the future of whoever waits for it.
    let started = shutdown.clone().run_until_cancelled_owned(Box::pin(begin(store, config, shutdown))).await;
    started.unwrap_or_else(|| Err(anyhow::anyhow!("stopped before it had started")))
}

async fn begin(store: Arc<dyn Store>, config: ServerConfig, shutdown: CancellationToken) -> anyhow::Result<RunningServer> {
    keys::private_folder(&config.data)?;
    let lock = keys::lock(&config.data)?;
    let founding::Keys { identity, authority, network } = founding::keys(&config.data, &*store, config.init).await?;
    let listener = TcpListener::bind(config.http).await.with_context(|| {
        format!("cannot listen on {} for the command line\nhint: name another address and port with --http", config.http)
    })?;
    let http_address = listener.local_addr().context("cannot read the address of the HTTP interface")?;

    let certificate = certificate(&config, http_address)?.map(Arc::new);

    let peer = identity.public().to_peer_id();
    let issuer = Arc::new(Issuer { network, authority, life: limits::CERTIFICATE_LIFE });
    let phases = Arc::new(watch::Sender::new(Phase::Starting));
    let mut phase = phases.subscribe();
    let snapshots = Cache::open(&config.data.join(SNAPSHOTS_FOLDER), config.limits.snapshots_here_bytes_max)
        .context("cannot use the folder for snapshots")?;
    let blobs = Arc::new(StoreBlobs::new(store.clone(), phases.subscribe(), snapshots.clone()));
    let node = start_node(&config, identity, &issuer, &*store, blobs, shutdown.clone()).await?;
    let own = describe(&config, &peer, network, http_address, certificate.as_deref());
    let presence = Presence::begin(store.clone(), node.handle.clone(), config.announce.clone(), own).await?;

    // Parts end in turn: the mesh and HTTP with `shutdown`, the lease last.
    let tasks = TaskTracker::new();
    tasks.spawn(until(shutdown.clone(), reception::run(phases.subscribe(), node.events)));
    tasks.spawn(until(shutdown.clone(), attend(presence.clone(), phases.subscribe())));
    let entrance = http::Entrance {
        front: http::Front::new(store.clone(), phases.subscribe()),
        hosts: hosts(&config),
        certificate: certificate.clone(),
        base: config.web.base.clone(),
    };
    let serving = http::serve(listener, entrance, shutdown.clone());
    if let Some(certificate) = &certificate {
        tasks.spawn(until(shutdown.clone(), certificate.clone().keep()));
    }
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the HTTP interface stopped");
        }
    });
    tasks.close();
    let standby = Standby { store: store.clone(), presence: presence.clone(), phases: phases.clone(), lease: config.lease };
    let lasting =
        Lasting { store, node: node.handle, network, issuer, presence, phases, snapshots, losses: Arc::default(), config };
    let address_file = lasting.config.data.join(HTTP_ADDRESS_FILE);
    let life = tokio::spawn(live(standby, lasting, shutdown.clone()));
    if phase.wait_for(|phase| !matches!(phase, Phase::Starting)).await.is_err() {
        life.await.context("the coordinator broke while it started")??;
        anyhow::bail!("stopped before it had started");
    }
    let pin = certificate.as_ref().map(|certificate| certificate.pin());
    keys::write_private(&address_file, format!("{}\n", near(http_address, pin)).as_bytes())?;
    tracing::info!(%http_address, %peer, %network, leads = phase.borrow().leader().is_some(), "the coordinator is ready");
    Ok(RunningServer { http_address, certificate, phase, shutdown, tasks, life, address_file, _lock: lock })
}

/// Goes on saying in the store that this coordinator is there, and whether it leads.
async fn attend(presence: Arc<Presence>, mut phases: watch::Receiver<Phase>) {
    loop {
        let leads = phases.borrow_and_update().leader().map(|leader| leader.coordinator.since);
        if let Err(error) = presence.check_in(leads).await {
            tracing::debug!(%error, "cannot note in the store that this coordinator is there");
        }
        tokio::select! {
            () = tokio::time::sleep(presence::EVERY) => {}
            Ok(()) = phases.changed() => {}
        }
    }
}

/// Stands by and leads, in turns, until told to stop.
async fn live(standby: Standby, lasting: Lasting, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut fenced = None;
    loop {
        let Some((lead, lease)) = standby.stand_by(fenced, &shutdown).await? else { return Ok(()) };
        fenced = Some(lead.term);
        if let Some(loss) = lasting.losses.unsettled() {
            if let Err(error) = lasting.losses.settle(&*lasting.store, &lead, &loss).await {
                tracing::warn!(%error, "the store cannot be told what it forgot; trying again");
                shutdown.run_until_cancelled(tokio::time::sleep(SETTLE_PAUSE)).await;
            }
            continue;
        }
        match lasting.leader(lead.clone(), lease, &shutdown).await? {
            leader::End::Stopped => {
                give_back(&*lasting.store, &lead).await;
                return Ok(());
            }
            leader::End::Fenced => {
                tracing::warn!(term = lead.term.0, "another coordinator has taken over; this one stands by");
            }
            leader::End::Forgotten => {
                tracing::warn!(term = lead.term.0, "the term ends; the next one goes on from what the store holds");
            }
        }
    }
}

/// Gives the lease back. A store that is gone does not keep a process from ending: its lease lapses by itself.
async fn give_back(store: &dyn Store, lead: &Lead) {
    let why = match tokio::time::timeout(GIVE_BACK_MAX, store.step_down(lead)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the store does not answer".to_owned(),
    };
    tracing::warn!(error = why, "the lease could not be given back; another coordinator takes over when it has lapsed");
}

impl RunningServer {
    /// How it is spoken to from this machine.
    pub fn address(&self) -> Address {
        near(self.http_address, self.pin())
    }

    /// Where it listens, as it is spoken to there: by the machine's name where it listens on all addresses.
    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        presence::url_of(scheme, self.http_address, &gethostname::gethostname().to_string_lossy())
    }

    /// The pin of its key; none where it speaks plain HTTP.
    pub fn pin(&self) -> Option<Pin> {
        self.certificate.as_ref().map(|certificate| certificate.pin())
    }

    /// The routes of its term; none while it stands by.
    pub fn routes(&self) -> Option<axum::Router> {
        self.phase.borrow().leader().map(|leader| leader.routes.clone())
    }

    /// The other coordinator that leads while this one stands by.
    pub fn stands_by_for(&self) -> Option<String> {
        match &*self.phase.borrow() {
            Phase::Standby(view) => {
                Some(view.leader.as_ref().map_or_else(|| "another coordinator".into(), |other| other.name.clone()))
            }
            Phase::Starting | Phase::Leading(_) => None,
        }
    }

    /// Waits until the coordinator has stopped, by its shutdown token or because it cannot go on.
    pub async fn stopped(self) -> anyhow::Result<()> {
        let ended = self.life.await.context("the coordinator's loop broke")?;
        self.shutdown.cancel();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!("some connections did not close in time");
        }
        // Gone already if somebody tidied up.
        let _ = std::fs::remove_file(&self.address_file);
        ended
    }
}

/// The names that people may reach this machine's interface by.
fn hosts(config: &ServerConfig) -> http::Hosts {
    let machine = gethostname::gethostname().to_string_lossy().into_owned();
    http::Hosts::new(&machine, config.http_announce.iter().chain(&config.http_hosts).cloned())
}

/// An address that listens, as it is reached from this machine.
fn near(listening: SocketAddr, pin: Option<Pin>) -> Address {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if pin.is_some() { "https" } else { "http" };
    Address::new(format!("{scheme}://{}", SocketAddr::new(ip, listening.port())), pin)
}

/// What is shown to connections: what was given, or its own wherever others can connect.
fn certificate(config: &ServerConfig, http: SocketAddr) -> anyhow::Result<Option<Certificate>> {
    let origin = match &config.web.certificate {
        Some(GivenCertificate { certificate, key }) => Origin::Given { certificate: certificate.clone(), key: key.clone() },
        None if http.ip().to_canonical().is_loopback() => return Ok(None),
        None => {
            let bound = Some(http.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
            let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
            let mut names: Vec<String> = hosts(config).names().map(str::to_owned).chain(local).chain(bound).collect();
            names.sort();
            names.dedup();
            Origin::Own { data: config.data.clone(), names }
        }
    };
    Ok(Some(Certificate::open(origin, clock::now())?))
}

/// Where others reach an interface, with the pin of its key. Another port than its own is a proxy's, which has a key of its own.
fn announced(config: &ServerConfig, machine: &str, http: SocketAddr, certificate: Option<&Certificate>) -> Address {
    let pin = certificate.map(Certificate::pin);
    let Some(announced) = &config.http_announce else {
        let scheme = if pin.is_some() { "https" } else { "http" };
        return Address::new(presence::url_of(scheme, http, machine), pin);
    };
    let mut address = Address::read(announced);
    if address.pin.is_none() && address.url.starts_with("https://") && address.url.ends_with(&format!(":{}", http.port())) {
        address.pin = pin;
    }
    address
}

fn describe(
    config: &ServerConfig,
    peer: &PeerId,
    network: NetworkId,
    http: SocketAddr,
    certificate: Option<&Certificate>,
) -> CoordinatorRecord {
    let machine = gethostname::gethostname().to_string_lossy().into_owned();
    CoordinatorRecord {
        peer: peer.to_string(),
        // The term calls it by its name and peer: both must fit into one column.
        name: config.name.chars().take(limits::NAME_BYTES_MAX).collect(),
        http: announced(config, &machine, http, certificate).to_string(),
        machine,
        network: network.to_string(),
        addresses: Vec::new(),
        leads: None,
        seen: clock::now(),
    }
}

async fn start_node(
    config: &ServerConfig,
    identity: Keypair,
    issuer: &Issuer,
    store: &dyn Store,
    blobs: Arc<StoreBlobs>,
    shutdown: CancellationToken,
) -> anyhow::Result<Node> {
    let peer = identity.public().to_peer_id();
    let agents = store.agents().await.context("cannot read the agents")?;
    let (revoked, members) = standings(&agents);
    let node = NodeConfig {
        certificate: Some(issuer.issue(&peer, Role::Coordinator, None, &config.name, clock::now())),
        identity,
        network: issuer.network,
        authority: Authority::of(&issuer.authority),
        listen: config.listen.clone(),
        mdns: config.mdns,
        reads_capacity: true,
        software: format!("lull/{}", env!("CARGO_PKG_VERSION")),
        revoked,
        members,
        uploads: UploadRules { bytes_per_second_max: None, seeds: true },
    };
    Node::start(node, blobs, shutdown).await.context("cannot join the mesh")
}

/// Who was thrown out, and who belongs here.
fn standings(agents: &[AgentRecord]) -> (BTreeSet<PeerId>, BTreeSet<PeerId>) {
    let peers = |revoked: bool| {
        let those = agents.iter().filter(|agent| (agent.intake == Intake::Revoked) == revoked);
        those.filter_map(|agent| PeerId::from_bytes(&agent.peer).ok()).collect()
    };
    (peers(true), peers(false))
}

async fn until(shutdown: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}
