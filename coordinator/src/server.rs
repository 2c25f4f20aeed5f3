//! Puts a coordinator together: keys, store, mesh, the loop, the HTTP interface; and takes it apart again.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use lull_shared::{
    id::Epoch,
    identity::{Authority, Issuer, NetworkId, Role},
    limits,
    mesh::{Node, NodeConfig, NodeHandle, UploadRules},
    state::Intake,
    time::Timestamp,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access,
    blobs::StoreBlobs,
    clock,
    dispatch::{self, Catalogue, DispatchHandle, Ended, Inbox, Shell},
    http, keys,
    network::Network,
    scheduler::Limits,
    store::{
        self, Reign, Store, StoreChoice, StoreError,
        record::{NewToken, TokenRole},
    },
    tracker::Tracker,
};

/// How long another coordinator waits after this one's last word before it takes over.
pub const REIGN_LEASE: Duration = Duration::from_secs(9);
/// A third of the lease: two renewals may fail.
const RENEWAL: Duration = Duration::from_secs(3);
/// Unreferenced blobs are kept for a day: an upload, or a result on its way, is not referred to yet.
const SWEEP_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long a stopping coordinator waits for its parts.
const GRACE: Duration = Duration::from_secs(5);

/// The file with the token of whoever may read the data folder.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
/// The file with the address of the HTTP interface of a running server.
pub const HTTP_ADDRESS_FILE: &str = "http.address";

/// How a coordinator is run.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Keys, the embedded store, and the files by which a local command line finds the server.
    pub data: PathBuf,
    pub store: StoreChoice,
    /// Where the mesh listens.
    pub listen: Vec<Multiaddr>,
    /// Where the HTTP interface listens.
    pub http: SocketAddr,
    /// Addresses that agents are told in addition, for machines behind another name or port.
    pub announce: Vec<Multiaddr>,
    pub mdns: bool,
    /// What the audit and other coordinators call this one.
    pub name: String,
    pub limits: Limits,
}

/// All that the HTTP interface works with.
pub struct Coordinator {
    pub store: Arc<dyn Store>,
    pub dispatch: DispatchHandle,
    pub catalogue: Arc<Catalogue>,
    pub node: NodeHandle,
    pub network: NetworkId,
    pub issuer: Arc<Issuer>,
    pub epoch: Epoch,
    pub since: Timestamp,
    pub mesh: Network,
    pub name: String,
}

/// A coordinator that runs.
pub struct RunningServer {
    pub coordinator: Arc<Coordinator>,
    pub http_address: SocketAddr,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    reign: tokio::task::JoinHandle<anyhow::Result<()>>,
    address_file: PathBuf,
}

/// Starts a coordinator; when this returns it reigns, listens and answers.
pub async fn start(config: ServerConfig, shutdown: CancellationToken) -> anyhow::Result<RunningServer> {
    keys::private_folder(&config.data)?;
    let identity = keys::key_pair(&config.data.join("identity.key"))?;
    let authority = keys::key_pair(&config.data.join("authority.key"))?;
    let network = keys::network_id(&config.data.join("network.id"))?;
    let store = store::open(&config.store).await.context("cannot open the store")?;
    let listener = TcpListener::bind(config.http)
        .await
        .with_context(|| format!("cannot listen on {} for the command line; choose another with --http", config.http))?;
    let http_address = listener.local_addr().context("cannot read the address of the HTTP interface")?;

    let peer = identity.public().to_peer_id();
    let epoch = take_over(&*store, &config.name, &peer, &shutdown).await?;
    let issuer = Arc::new(Issuer { network, authority, life: limits::CERTIFICATE_LIFE });
    // Parts end in turn: the mesh and HTTP with `shutdown`, the lease last.
    let tasks = TaskTracker::new();
    let tracker = Arc::new(Tracker::default());
    let (handle, inbox) = dispatch::channel();
    let blobs = Arc::new(StoreBlobs::new(store.clone(), handle.clone(), tracker.clone()));
    let node = start_node(&config, identity, &issuer, &*store, blobs, shutdown.clone()).await?;
    let catalogue = Arc::new(Catalogue::new(store.clone()));
    let mesh = Network {
        store: store.clone(),
        dispatch: handle.clone(),
        catalogue: catalogue.clone(),
        tracker: tracker.clone(),
        node: node.handle.clone(),
        issuer: issuer.clone(),
        epoch,
        announce: config.announce.iter().map(|address| announced(address, &peer)).collect(),
    };
    let (revoked, revocations) = mpsc::unbounded_channel();
    let shell = Shell {
        store: store.clone(),
        catalogue: catalogue.clone(),
        limits: config.limits.clone(),
        tracker: tracker.clone(),
        revoked,
    };
    let reign = tokio::spawn(reign(shell, epoch, inbox, shutdown.clone()));
    tasks.spawn(until(shutdown.clone(), keep_lease(store.clone(), epoch, shutdown.clone())));
    tasks.spawn(until(shutdown.clone(), sweep(store.clone(), epoch)));
    tasks.spawn(until(shutdown.clone(), mesh.clone().run(node.events)));
    tasks.spawn(until(shutdown.clone(), keep_revocations(mesh.clone(), revocations)));

    let coordinator = Arc::new(Coordinator {
        store,
        dispatch: handle,
        catalogue,
        node: node.handle,
        network,
        issuer,
        epoch,
        since: clock::now(),
        mesh,
        name: config.name.clone(),
    });
    ensure_admin_token(&coordinator, &config.data).await?;
    let serving = http::serve(listener, coordinator.clone(), shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the HTTP interface stopped");
        }
    });
    tasks.close();
    let address_file = config.data.join(HTTP_ADDRESS_FILE);
    keys::write_private(&address_file, format!("http://{http_address}\n").as_bytes())?;
    tracing::info!(%http_address, %peer, %network, "the coordinator is ready");
    Ok(RunningServer { coordinator, http_address, shutdown, tasks, reign, address_file })
}

impl RunningServer {
    /// Waits until the coordinator has stopped, by its shutdown token or because it cannot go on.
    pub async fn stopped(self) -> anyhow::Result<()> {
        let ended = self.reign.await.context("the coordinator's loop broke")?;
        self.shutdown.cancel();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!("some connections did not close in time");
        }
        // Gone already if somebody tidied up.
        let _ = std::fs::remove_file(&self.address_file);
        if ended.is_ok() {
            self.coordinator.store.abdicate(self.coordinator.epoch).await.context("cannot give the lease back")?;
        }
        ended
    }
}

/// Waits for its turn and becomes the one that writes.
async fn take_over(store: &dyn Store, name: &str, peer: &PeerId, shutdown: &CancellationToken) -> anyhow::Result<Epoch> {
    let holder = format!("{name} ({peer})");
    let mut told = false;
    loop {
        match store.take_over(&holder, REIGN_LEASE, clock::now()).await.context("cannot take over")? {
            Reign::Ours { epoch } => return Ok(epoch),
            Reign::Theirs { holder, until } => {
                if !told {
                    tracing::info!(holder, %until, "another coordinator reigns; standing by");
                    told = true;
                }
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = shutdown.cancelled() => bail!("stopped while standing by for {holder}"),
                }
            }
        }
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
    let revoked = agents
        .iter()
        .filter(|agent| agent.intake == Intake::Revoked)
        .filter_map(|agent| PeerId::from_bytes(&agent.peer).ok())
        .collect();
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
        uploads: UploadRules { bytes_per_second_max: None, seeds: true },
    };
    Node::start(node, blobs, shutdown).await.context("cannot join the mesh; choose another address with --listen")
}

/// The loop, loaded anew whenever the store was in doubt.
async fn reign(shell: Shell, epoch: Epoch, mut inbox: Inbox, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut failures = 0_u32;
    loop {
        match dispatch::run(&shell, epoch, &mut inbox, &shutdown).await {
            Ok(Ended::Stopped) => return Ok(()),
            Ok(Ended::Fenced) | Err(StoreError::Fenced) => bail!("another coordinator has taken over; this one stops"),
            Ok(Ended::InDoubt) => failures = 0,
            Err(error @ (StoreError::Determinate(_) | StoreError::Indeterminate(_))) => {
                failures = failures.saturating_add(1);
                let pause = Duration::from_millis(100).saturating_mul(1 << failures.min(6));
                tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "the store cannot be loaded; trying again");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shutdown.cancelled() => return Ok(()),
                }
            }
        }
    }
}

async fn keep_lease(store: Arc<dyn Store>, epoch: Epoch, shutdown: CancellationToken) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        match store.renew(epoch, REIGN_LEASE, clock::now()).await {
            Ok(()) => {}
            Err(StoreError::Fenced) => {
                tracing::error!("another coordinator has taken over; this one stops");
                return shutdown.cancel();
            }
            Err(error) => tracing::warn!(%error, "cannot renew the lease; trying again"),
        }
    }
}

async fn sweep(store: Arc<dyn Store>, epoch: Epoch) {
    loop {
        match store.sweep_blobs(epoch, clock::now() - SWEEP_AGE).await {
            Ok(0) => {}
            Ok(blobs) => tracing::info!(blobs, "deleted blobs that nothing refers to"),
            Err(error) => tracing::warn!(%error, "cannot delete unreferenced blobs"),
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

async fn keep_revocations(mesh: Network, mut revoked: mpsc::UnboundedReceiver<lull_shared::id::AgentId>) {
    mesh.spread_revocations().await;
    while let Some(agent) = revoked.recv().await {
        tracing::info!(%agent, "an agent was revoked");
        mesh.spread_revocations().await;
    }
}

async fn until(shutdown: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

fn announced(address: &Multiaddr, peer: &PeerId) -> String {
    address.clone().with_p2p(*peer).unwrap_or_else(|other| other).to_string()
}

/// Whoever can read the data folder is an administrator: the file holds a token that the store knows.
async fn ensure_admin_token(coordinator: &Coordinator, data: &Path) -> anyhow::Result<()> {
    let path = data.join(ADMIN_TOKEN_FILE);
    let now = clock::now();
    if let Ok(text) = std::fs::read_to_string(&path)
        && coordinator.store.authenticate(&access::fingerprint(&text), now).await?.is_some()
    {
        return Ok(());
    }
    let minted = access::mint(TokenRole::Admin);
    let token = NewToken {
        role: TokenRole::Admin,
        name: "admin".into(),
        fingerprint: minted.fingerprint,
        uses_max: None,
        expires: None,
        by: "the server".into(),
        at: now,
    };
    coordinator.store.create_token(coordinator.epoch, token).await.context("cannot make the first admin token")?;
    keys::write_private(&path, format!("{}\n", minted.text).as_bytes())?;
    Ok(())
}
