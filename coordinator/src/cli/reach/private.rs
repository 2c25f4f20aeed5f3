//! A private mesh on this machine: a coordinator in this process and agents in processes of their own, which join
//! by the real enrolment over loopback. Taken down when it is stopped; the agents also go when this process dies,
//! because they end when their standard input does.
//!
//! Its folder says that it is one, so that a later command finds the work in it and can go on, and so that nobody takes
//! the data of an organisation's coordinator for it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use libp2p::Multiaddr;
use lull_agent::cli::JOIN_TOKEN_VARIABLE;
use lull_engine::files;
use lull_scheduler::Limits;
use lull_shared::policy::{Changes, Policy};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::{
    process::{Child, ChildStdin, Command},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    agent_process::ENTRY,
    api::{CreateToken, SetPolicy},
    cli::{
        exit::{Exit, Failure},
        reach::connect,
    },
    client::Client,
    keys,
    publishing::make::Making,
    server::{self, ADMIN_TOKEN_FILE, HTTP_ADDRESS_FILE, RunningServer, ServerConfig},
    store::{StoreChoice, record::TokenRole},
};

/// How long agents may take to hand back what they have and end.
const GRACE: Duration = Duration::from_secs(5);
/// Its agents fetch from each other, and nobody else reaches them.
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";
/// Whoever starts a mesh here wants it to use this machine: other programs neither pause nor starve it.
const QUIET: [&str; 6] = ["--mdns", "false", "--cpu-pause-percent", "0", "--priority", "normal"];
/// How long the coordinator may take until it leads, and how often it is looked.
const LEAD_TIME_MAX: Duration = Duration::from_secs(10);
const LEAD_CHECK: Duration = Duration::from_millis(50);
/// How often it is tried to delete a folder to which agents may still write: they end with this process.
const DELETIONS_MAX: u32 = 5;
/// Lines of an agent's log that are shown when it ends by itself.
const LOG_LINES: usize = 12;

/// The file that makes a data folder a private mesh's, with its [`Size`].
const MARK_FILE: &str = "private.json";

/// How large a private mesh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub agents: u16,
    /// Of each agent; together as many as there are processors if not given.
    pub slots: Option<u16>,
}

/// How a private mesh is made.
pub(crate) struct MeshConfig {
    pub size: Size,
    /// Where its data is kept; a temporary folder if not given.
    pub data: Option<PathBuf>,
}

/// What becomes of a mesh's folder when it is taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    /// If it is a temporary one.
    Deleted,
}

/// What a data folder is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// No coordinator has ever used it.
    Fresh,
    /// A coordinator runs with it.
    InUse,
    /// A private mesh's that does not run.
    Private(Size),
    /// A coordinator's that does not run.
    Coordinators,
}

impl Data {
    /// What this folder is.
    pub(crate) fn of(folder: &Path) -> Self {
        if !folder.join(keys::NETWORK_FILE).exists() {
            return Self::Fresh;
        }
        // Whoever may not lock it cannot know; the one that runs answers, or nobody does.
        if keys::lock(folder).is_err() {
            return Self::InUse;
        }
        let mark = std::fs::read(folder.join(MARK_FILE)).ok();
        match mark.and_then(|mark| serde_json::from_slice(&mark).ok()) {
            Some(size) => Self::Private(size),
            None => Self::Coordinators,
        }
    }
}

/// A private mesh that runs.
pub(crate) struct Mesh {
    client: Client,
    running: RunningServer,
    shutdown: CancellationToken,
    folder: Folder,
    /// Agents stop when this is cancelled.
    leave: CancellationToken,
    agents: JoinSet<()>,
    /// Words of the agents that ended although nobody asked them to.
    ended: tokio::sync::Mutex<mpsc::Receiver<Failure>>,
}

enum Folder {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

impl Mesh {
    /// Starts the coordinator and lets the agents join; they go on joining while the caller works.
    pub(crate) async fn start(config: MeshConfig) -> Result<Self, Failure> {
        let folder = folder(&config)?;
        keys::check_folder(folder.path()).map_err(anyhow::Error::from)?;
        keys::private_folder(folder.path()).map_err(anyhow::Error::from)?;
        // Whoever only looks leaves it as large as it was.
        if config.size.agents > 0 {
            let mark = serde_json::to_vec(&config.size).map_err(anyhow::Error::from)?;
            keys::write_private(&folder.path().join(MARK_FILE), &mark).context("cannot mark the folder as a private mesh's")?;
        }
        // One that was killed leaves the address at which nobody answers any more.
        let _ = std::fs::remove_file(folder.path().join(HTTP_ADDRESS_FILE));
        let Size { agents: count, slots } = config.size;
        let shutdown = CancellationToken::new();
        let running = server::start(coordinator(folder.path()), shutdown.clone()).await?;
        let token =
            std::fs::read_to_string(folder.path().join(ADMIN_TOKEN_FILE)).context("cannot read the administrator's token")?;
        let client = Client::at(&running.address(), Some(token))?;
        // Whoever starts a mesh here wants it to work now.
        let policy = SetPolicy { set: Changes::all(&Policy::unrestricted()), ..SetPolicy::default() };
        let asked = Instant::now();
        while let Err(error) = client.set_policy(&policy).await {
            let failure = Failure::from(error);
            // Its first try at the lead may come too early; nobody else is here to lead.
            if failure.exit != Exit::Unreachable || asked.elapsed() > LEAD_TIME_MAX {
                return Err(failure);
            }
            sleep(LEAD_CHECK).await;
        }
        let join = match count {
            0 => String::new(),
            count => {
                let uses_max = Some(count.into());
                let wanted = CreateToken { uses_max, ..CreateToken::of(TokenRole::Agent) };
                client.create_token(&wanted).await?.text
            }
        };
        let slots = slots.unwrap_or_else(|| slots_of_each(count));
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let (leave, mut agents) = (CancellationToken::new(), JoinSet::new());
        let (tell, ended) = mpsc::channel(usize::from(count.max(1)));
        for number in 1..=count {
            let agent = Agent {
                program: program.clone(),
                name: format!("here-{number}"),
                data: folder.path().join("agents").join(number.to_string()),
                join: join.clone(),
                slots,
            };
            let (leave, tell) = (leave.clone(), tell.clone());
            agents.spawn(async move {
                if let Err(failure) = agent.live(leave).await {
                    // Nobody listens any more when the mesh is being stopped.
                    let _ = tell.send(failure).await;
                }
            });
        }
        Ok(Self { client, running, shutdown, folder, leave, agents, ended: tokio::sync::Mutex::new(ended) })
    }

    /// A client of its coordinator, as administrator.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns once no agent is left; `lost` hears of each that could not join or ended by itself.
    pub(crate) async fn abandoned(&self, lost: impl Fn(Failure)) -> Failure {
        let mut ended = self.ended.lock().await;
        while let Some(failure) = ended.recv().await {
            lost(failure);
        }
        Failure::new(Exit::Failed, "no agent is left to run the rest")
    }

    /// Takes the mesh down: agents first, then the coordinator. Where its data is, if it is kept.
    pub(crate) async fn stop(mut self, fate: Fate) -> Option<PathBuf> {
        match (&self.folder, fate) {
            (Folder::Temporary(folder), Fate::Deleted) => *temporary() = Some(Temporary::Doomed(folder.path().to_owned())),
            (Folder::Temporary(_) | Folder::Kept(_), Fate::Kept | Fate::Deleted) => spare(),
        }
        self.leave.cancel();
        while self.agents.join_next().await.is_some() {}
        self.shutdown.cancel();
        if let Err(error) = self.running.stopped().await {
            tracing::warn!(error = format!("{error:#}"), "the coordinator did not stop cleanly");
        }
        match (self.folder, fate) {
            (Folder::Kept(path), _) => Some(path),
            (Folder::Temporary(folder), Fate::Kept) => Some(folder.keep()),
            (Folder::Temporary(folder), Fate::Deleted) => {
                drop(folder);
                *temporary() = None;
                None
            }
        }
    }
}

fn folder(config: &MeshConfig) -> Result<Folder, Failure> {
    if let Some(data) = &config.data {
        return Ok(Folder::Kept(data.clone()));
    }
    let folder = tempfile::Builder::new().prefix("lull-").tempdir().context("cannot make a temporary folder")?;
    *temporary() = Some(Temporary::Doomed(folder.path().to_owned()));
    Ok(Folder::Temporary(folder))
}

/// A temporary folder, as a process leaves it that ends at once.
enum Temporary {
    /// It goes with the process.
    Doomed(PathBuf),
    /// What is in it may be worth keeping.
    Spared(PathBuf),
}

/// The temporary folder of this process, if it has one.
static TEMPORARY: Mutex<Option<Temporary>> = Mutex::new(None);

fn temporary() -> MutexGuard<'static, Option<Temporary>> {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is in the temporary folder may be worth keeping from now on.
pub(crate) fn spare() {
    let mut temporary = temporary();
    *temporary = temporary.take().map(|(Temporary::Doomed(path) | Temporary::Spared(path))| Temporary::Spared(path));
}

/// The agents of this process that may still write to its folder, by the numbers of their processes.
static AGENTS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn agents() -> MutexGuard<'static, BTreeSet<u32>> {
    AGENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An agent that goes on writing would make the folder again.
#[cfg(unix)]
fn kill_agents() {
    use rustix::process::{Pid, Signal, kill_process};
    for pid in agents().iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        // One that has just ended needs no end.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// They hold their folder's files open, and end with this process.
#[cfg(not(unix))]
fn kill_agents() {}

/// Deletes the temporary folder, for a process that ends at once and takes nothing down in turn; where it is, if it stays. What
/// still writes to it may make it necessary to try again.
pub(crate) fn end_at_once() -> Option<PathBuf> {
    match temporary().take()? {
        Temporary::Spared(path) => Some(path),
        Temporary::Doomed(path) => {
            kill_agents();
            (0..DELETIONS_MAX).any(|_| std::fs::remove_dir_all(&path).is_ok() || !path.exists());
            None
        }
    }
}

/// On loopback, on ports that are free.
fn coordinator(data: &Path) -> ServerConfig {
    let loopback: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    ServerConfig {
        data: data.to_owned(),
        init: false,
        store: StoreChoice::Embedded(data.to_owned()),
        listen: vec![loopback],
        http: ([127, 0, 0, 1], 0).into(),
        announce: Vec::new(),
        http_announce: None,
        http_hosts: Vec::new(),
        web: Default::default(),
        mdns: false,
        name: "here".into(),
        limits: Limits::default(),
        making: Making { kept: connect::builds_folder(), ..Making::default() },
        lease: Default::default(),
        store_wait: Default::default(),
    }
}

/// Agents times slots is the number of processors, and each agent has one at least.
fn slots_of_each(agents: u16) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores.div_ceil(usize::from(agents.max(1)))).unwrap_or(u16::MAX).max(1)
}

/// One agent process.
struct Agent {
    program: PathBuf,
    name: String,
    data: PathBuf,
    join: String,
    slots: u16,
}

impl Agent {
    /// Joins, runs until told to leave, and ends. An end before that is a failure.
    async fn live(self, leave: CancellationToken) -> Result<(), Failure> {
        let mut joining = self.start(&["join", "--name", &self.name], Some(&self.join))?;
        tokio::select! {
            ended = joining.process.wait() => {
                if !ended.is_ok_and(|status| status.success()) {
                    return Err(self.failure("could not join"));
                }
            }
            () = leave.cancelled() => return joining.stop().await,
        }
        drop(joining);
        let slots = self.slots.to_string();
        let mut running = self.start(&[&["run", "--slots", &slots, "--listen", LISTEN], QUIET.as_slice()].concat(), None)?;
        tokio::select! {
            _ = running.process.wait() => Err(self.failure("ended by itself")),
            () = leave.cancelled() => running.stop().await,
        }
    }

    fn start(&self, arguments: &[&str], token: Option<&str>) -> Result<Leashed, Failure> {
        std::fs::create_dir_all(&self.data).context("cannot make an agent's folder")?;
        let log = files::append_to(&self.log()).context("cannot write an agent's log")?;
        let mut command = Command::new(&self.program);
        // Ctrl-C is for this process, which then takes its agents down in turn.
        #[cfg(unix)]
        command.process_group(0);
        let mut process = command
            .arg(ENTRY)
            .env_remove("LULL_AGENT_CONFIG")
            .env_remove(JOIN_TOKEN_VARIABLE)
            // Not as an argument, which everybody on this machine could read.
            .envs(token.map(|token| (JOIN_TOKEN_VARIABLE, token)))
            .args(["--data".as_ref(), self.data.as_os_str()])
            .args(arguments)
            // Its end is the agent's sign that this process is gone.
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("cannot write an agent's log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start an agent process")?;
        // Taken, since waiting for a process closes its standard input.
        let leash = process.stdin.take();
        let pid = process.id();
        agents().extend(pid);
        Ok(Leashed { process, leash, pid })
    }

    fn log(&self) -> PathBuf {
        self.data.join("log")
    }

    fn failure(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        Failure::new(Exit::Failed, format!("the agent {} {what}; its last words:\n{last}", self.name))
    }
}

/// A process that ends when its leash is dropped.
struct Leashed {
    process: Child,
    leash: Option<ChildStdin>,
    pid: Option<u32>,
}

impl Drop for Leashed {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            agents().remove(&pid);
        }
    }
}

impl Leashed {
    /// Asks the agent to end, and kills it if it does not.
    async fn stop(mut self) -> Result<(), Failure> {
        drop(self.leash.take());
        if timeout(GRACE, self.process.wait()).await.is_err() {
            self.process.kill().await.context("cannot end an agent process")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processors_are_used_and_every_agent_has_a_slot() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert!(usize::from(slots_of_each(1)) == cores);
        assert_eq!(slots_of_each(64).max(1), slots_of_each(64));
        assert!(usize::from(slots_of_each(2)) * 2 >= cores);
    }

    #[test]
    fn a_folder_is_what_was_made_in_it() {
        let root = tempfile::tempdir().expect("a folder");
        let data = root.path();
        assert_eq!(Data::of(&data.join("none")), Data::Fresh);
        assert_eq!(Data::of(data), Data::Fresh);
        keys::write_private(&data.join(keys::NETWORK_FILE), b"00").expect("written");
        assert_eq!(Data::of(data), Data::Coordinators);
        let size = Size { agents: 3, slots: None };
        std::fs::write(data.join(MARK_FILE), serde_json::to_vec(&size).expect("JSON")).expect("written");
        assert_eq!(Data::of(data), Data::Private(size));
        let _lock = keys::lock(data).expect("free");
        assert_eq!(Data::of(data), Data::InUse);
    }
}
