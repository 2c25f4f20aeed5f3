//! Puts an agent together and takes it apart again.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytesize::ByteSize;
use lull_engine::{
    cache::Cache,
    executor::{
        artifact::Artifacts,
        naming::{self, NamingError},
        probe,
    },
    files,
};
use lull_mesh::{Node, NodeConfig, NodeError};
use lull_session::{Event, Session, Standing};
use lull_shared::{
    identity::Certificate,
    state::{Part, Trouble},
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinError},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Rest, RunLoop,
    audience::Audience,
    edges::{Edges, Input, Mouths},
    notes::Notes,
    processes::{Processes, Report, Workshop},
    transfers::Transfers,
};
use crate::{
    clock::Clock,
    config::{Config, OpenCage},
    ipc, machine, machine_policy,
    member::Member,
    membership::{self, Membership, MembershipError},
    network::Network,
    outbox::{self, Outbox},
    owner, policy,
    sensor::{self, Load, SensorError},
    tally::{self, Counter},
    upgrade::{self, Upgrade},
};

/// How long the network's tasks may take to end.
const NETWORK_GRACE: Duration = Duration::from_secs(1);

/// An agent that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error("another agent runs with this data folder ({})\nhint: `lull-agent status` shows it; --data names another folder", .0.display())]
    Running(PathBuf),
    #[error("{} cannot be used: {source}\nhint: make room there, or run the agent as the user whose folder it is", path.display())]
    Data { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Outbox(#[from] outbox::OpenError),
    #[error(transparent)]
    Sensor(#[from] SensorError),
    #[error("the execution engine cannot be set up: {0}")]
    Engine(#[from] NamingError),
    #[error("the network cannot be started: {0}")]
    Node(#[from] NodeError),
    #[error("the certificate in the data folder is damaged\nhint: `lull-agent leave`, then join again with a new token")]
    Certificate,
}

/// What tests replace.
#[derive(Debug, Clone, Default)]
pub struct Fittings {
    /// Another program to start executors with.
    pub program: Option<PathBuf>,
    pub sensor: sensor::Choice,
}

/// Runs the agent of a data folder until it is asked to stop: in good order by `stop`, at once by `abort`.
pub async fn serve(
    data: &Path,
    config: &Config,
    fittings: Fittings,
    stop: CancellationToken,
    abort: CancellationToken,
) -> Result<(), ServeError> {
    membership::check_folder(data)?;
    let _lock = lock(data)?;
    let Fittings { program, sensor } = fittings;
    let membership = Membership::load(data)?;
    let identity = membership::identity(data)?;
    membership::check_key(data, &identity, &membership)?;
    let member = Arc::new(Member::new(data.to_owned(), identity, membership));
    let certificate = member.certificate().ok_or(ServeError::Certificate)?;
    let (teller, told) = sensor::words();
    let (Mouths { calls, reports, answers, said }, edges) = Edges::new(told, stop);
    let engine = naming::engine_name(program.clone(), &data.join("engine.json")).await?;
    let here = machine_policy::read();
    machine_policy::log(&here);
    let machine = here.word;
    let standing = Standing { machine: machine.clone(), ..policy::recall(data, &member.get().authority, certificate.agent) };
    let session_config = session_config(config, &member, &certificate, engine.clone(), standing)?;

    let in_data = |error_path: PathBuf| move |source| ServeError::Data { path: error_path.clone(), source };
    let cache_dir = config.cache_dir.clone().unwrap_or_else(|| data.join("cache"));
    let cache = Cache::open(&cache_dir, config.cache_max.as_u64()).map_err(in_data(cache_dir.clone()))?;
    let scratch = config.scratch_dir.clone().unwrap_or_else(|| data.join("scratch"));
    files::make_private_folder(&scratch).map_err(in_data(scratch.clone()))?;
    sweep(scratch.clone());
    let snapshots = data.join("snapshots");
    // What an earlier life did not bring to its end.
    let _ = files::remove_tree(&snapshots);
    files::make_private_folder(&snapshots).map_err(in_data(snapshots.clone()))?;
    let tell = {
        let answers = answers.clone();
        // The run loop is gone only when the process ends.
        move |event: Event| drop(answers.blocking_send(event))
    };
    let _watched = AbortOnDropHandle::new(tokio::spawn(machine_policy::watch(machine, answers.clone())));
    let (outbox, kept, writer) = Outbox::open(&data.join("outbox"), config.outbox_max.as_u64(), tell)?;

    let shutdown = CancellationToken::new();
    let node = start_node(config, &member, &cache, &shutdown).await?;
    let (coordinator, connected) = watch::channel(None);
    let network = Network::new(node.handle.clone(), Arc::clone(&member), said, coordinator);
    network.follow(node.events);
    let network = tokio::spawn(network.run(shutdown.clone()));
    let company = ipc::Company::default();
    let ipc = ipc::listen(data, calls.clone(), company.clone()).map_err(in_data(data.to_owned()))?;
    let service = ipc::service::start(calls, company.clone());
    let (notes, noted) = Notes::start(data.to_owned(), Arc::clone(&member), node.handle.clone());

    let mut clock = Clock::start();
    let started = clock.read().now;
    let slots = session_config.slots;
    let mut sensor = sensor::open(&sensor, teller)?;
    let mut session = Session::new(session_config, &kept, started);
    session.handle(Event::Owner(owner::recall(data)), started);
    // Before anybody offers work: whether it can be done here.
    let found = probe::probe(program.clone()).await.map_err(|error| error.to_string());
    if let Err(reason) = &found {
        let trouble = Trouble::new(Part::Executor, reason);
        session.handle(Event::Trouble { trouble, ended: None }, started);
    }
    session.handle(Event::Sample(sensor.sample(Duration::ZERO)), started);
    let workshop = Workshop {
        cache: cache.clone(),
        outbox: outbox.clone(),
        artifacts: artifacts(data, &member, engine, program.clone()),
        scratch,
        snapshots,
        priority: config.priority,
        program,
    };
    let mut run_loop = RunLoop {
        session,
        clock,
        edges,
        line: None,
        told: Default::default(),
        tell_cards: false,
        said: Vec::new(),
        company: Audience::new(company),
        counter: Counter::new(tally::recall(data, tally::local()), config.watts_per_processor),
        processes: Processes::new(slots, workshop, reports),
        transfers: Transfers::start(cache.clone(), node.handle.clone(), answers, connected),
        cache,
        outbox,
        notes,
        node: node.handle,
        member,
        sensor,
        data: data.to_owned(),
        started,
        sampled: Instant::now(),
        rest: Rest::None,
        log_ends_told: Instant::now(),
        delay: None,
        paused: None,
        portal: None,
        upgrade: Upgrade::new(data),
        placing: None,
        quit: false,
    };
    if found.is_ok() {
        run_loop.apply(Input::Executor(Report::Tried(found)));
    }
    // A task of its own: whatever wakes the outermost future of a runtime of one thread costs two system calls more.
    let running = AbortOnDropHandle::new(tokio::spawn(async move { run_loop.run(abort).await }));
    if let Err(panic) = running.await.map_err(JoinError::try_into_panic)
        && let Ok(panic) = panic
    {
        std::panic::resume_unwind(panic);
    }
    ipc.abort();
    service.inspect(AbortHandle::abort);
    shutdown.cancel();
    let _ = timeout(NETWORK_GRACE, network).await;
    // What was given to the outbox is on disk when its thread has ended.
    let _ = tokio::task::spawn_blocking(move || writer.join()).await;
    let _ = noted.await;
    Ok(())
}

/// Removes what earlier versions left of scratch folders. Nobody waits for it, and nothing needs it gone.
fn sweep(scratch: PathBuf) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = files::empty_folder(&scratch) {
            tracing::warn!(folder = %scratch.display(), %error, "what is left in the scratch folder cannot be removed");
        }
    });
}

/// Keeps two agents from using one data folder; released with the process, however it ends.
fn lock(data: &Path) -> Result<File, ServeError> {
    let path = data.join(membership::LOCK);
    let failed = |source| ServeError::Data { path: path.clone(), source };
    files::make_private_folder(data).map_err(failed)?;
    let file = files::open_own(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServeError::Running(data.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Whether an agent runs with a data folder.
pub fn is_running(data: &Path) -> bool {
    data.is_dir() && matches!(lock(data), Err(ServeError::Running(_)))
}

fn session_config(
    config: &Config,
    member: &Member,
    certificate: &Certificate,
    engine: String,
    standing: Standing,
) -> Result<lull_session::Config, ServeError> {
    let membership = member.get();
    let machine = Load::new()?.machine(engine);
    let mut labels = membership.labels.clone();
    labels.extend(config.labels.clone());
    let slots = config.slots.unwrap_or_else(|| machine.cores.clamp(1, lull_shared::limits::SLOTS_PER_AGENT_MAX));
    Ok(lull_session::Config {
        agent: certificate.agent.unwrap_or(membership.agent),
        agent_version: upgrade::version().to_owned(),
        instances: [rand::random_range(1..=u64::MAX), rand::random_range(1..=u64::MAX)],
        machine_number: machine::number(),
        labels,
        authority: membership.authority,
        rules: config.rules(),
        standing,
        slots,
        snapshot_every: config.snapshot_every,
        warm_time: config.warm_time,
        works_in_open_cage: config.open_cage == OpenCage::Work,
        memory_bytes_max: config.memory_max.map_or(machine.memory_bytes / 2, |size: ByteSize| size.as_u64()),
        machine,
    })
}

fn artifacts(data: &Path, member: &Member, engine: String, program: Option<PathBuf>) -> Artifacts {
    let artifacts = Artifacts::new(data.join("artifacts"), member.identity.clone(), engine);
    match program {
        Some(program) => artifacts.with_program(program),
        None => artifacts,
    }
}

async fn start_node(config: &Config, member: &Member, cache: &Cache, shutdown: &CancellationToken) -> Result<Node, ServeError> {
    let membership = member.get();
    let node_config = |mdns| NodeConfig {
        identity: member.identity.clone(),
        network: membership.network,
        authority: membership.authority.clone(),
        certificate: Some(membership.certificate.clone()),
        listen: config.listen.clone(),
        mdns,
        reads_capacity: false,
        software: format!("lull-agent {}", env!("CARGO_PKG_VERSION")),
        revoked: Default::default(),
        members: Default::default(),
        uploads: config.uploads(),
    };
    match Node::start(node_config(config.mdns), Arc::new(cache.clone()), shutdown.clone()).await {
        Err(error @ NodeError::Discovery(_)) => {
            tracing::warn!(%error, "going on without; set mdns = false to stop this message");
            Ok(Node::start(node_config(false), Arc::new(cache.clone()), shutdown.clone()).await?)
        }
        other => Ok(other?),
    }
}
