//! `lull server`: a coordinator in the foreground, as a service manager runs it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use libp2p::Multiaddr;
use lull_agent::cli::value;
use lull_scheduler::{Limits, holding};
use lull_shared::{bound, hint};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{CoordinatorBody, Post},
    cli::{
        Context,
        exit::{Exit, Outcome},
        network::service::Service,
        shown::output::{Cell, Deed, Look, Row, Tone},
        typed::amount,
    },
    keys,
    publishing::make::Making,
    server::{self, GivenCertificate, ServerConfig, Web},
    store::StoreChoice,
};

/// What can be done with a coordinator.
#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Run a coordinator until it is told to stop
    Run(Box<Run>),
    /// Show the coordinators that share the store: which leads, since when, and which stand by
    #[command(after_help = "EXAMPLES:\n  lull server status\n  lull server status -o json")]
    Status,
    /// Write the network's secret into a file, for a second coordinator
    #[command(after_help = SECOND)]
    Export(Secret),
    /// Make an empty data folder the folder of another coordinator of a network
    #[command(after_help = SECOND)]
    Import(Secret),
    /// The coordinator as a service of Windows: install, uninstall, status, run
    #[command(subcommand, after_help = "EXAMPLES:\n  lull server service install\n  lull server service status")]
    Service(Service),
}

/// How two coordinators are set up.
const SECOND: &str = "EXAMPLES:\n  \
    lull --data /var/lib/lull server export network.secret      on the first coordinator's machine\n  \
    lull --data /var/lib/lull server import network.secret      on the second's, with the file brought there\n  \
    lull --data /var/lib/lull server run --store \"Server=tcp:db,1433;Database=lull;...\"      on both\n\n\
Whoever has the file can sign for the network: bring it over a safe way and delete it on both machines afterwards.";

/// A file with the network's secret.
#[derive(Debug, Args)]
pub(crate) struct Secret {
    /// The file; readable by its owner alone
    file: PathBuf,
}

/// Where a coordinator remembers.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// An SQL Server database instead of one in the data folder, as an ADO connection string; or `sqlite:DIR` for an
    /// embedded one in another folder
    #[arg(long, value_name = "STORE", env = "LULL_STORE", hide_env_values = true, value_parser = amount::store)]
    store: Option<String>,
}

impl StoreArgs {
    /// The store that is meant, for a server with this data folder.
    pub(crate) fn choose(&self, data: &Path) -> StoreChoice {
        match &self.store {
            None => StoreChoice::Embedded(data.to_owned()),
            Some(text) => match text.strip_prefix("sqlite:") {
                Some(dir) => StoreChoice::Embedded(dir.into()),
                None => StoreChoice::SqlServer(text.clone()),
            },
        }
    }
}

/// Agents, the places of strangers, and the interface.
#[cfg(unix)]
const DESCRIPTORS: u64 = 32_768;

/// `lull server run`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  \
    lull server run\n  \
    lull server run --data /var/lib/lull --listen /ip4/0.0.0.0/tcp/7410 --http 0.0.0.0:7411\n  \
    lull server run --http 0.0.0.0:7411 --tls-cert lull.pem --tls-key lull.key      a certificate that browsers know\n  \
    lull server run --store \"Server=tcp:db,1433;Database=lull;User Id=lull;Password=...\"")]
pub(crate) struct Run {
    #[command(flatten)]
    store: StoreArgs,
    /// How long to wait at the start for a database that does not answer yet, because it wakes up or fails over
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = bound::PATIENCE.times())]
    store_wait: Duration,
    /// Create the missing parts of the network again: its key, its name in the store. For one start, after a loss that no
    /// backup can repair; all machines must join again. The first start in an empty data folder does not need it
    #[arg(long)]
    init: bool,
    /// Where agents connect; may be repeated
    #[arg(long, value_name = "MULTIADDR", default_values = ["/ip4/0.0.0.0/tcp/7410", "/ip4/0.0.0.0/udp/7410/quic-v1"], value_parser = value::listen_address)]
    listen: Vec<Multiaddr>,
    /// Where browsers, the command line and scripts connect: by HTTPS, and on loopback by plain HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7411", value_parser = value::socket)]
    http: SocketAddr,
    /// A certificate for HTTPS, in PEM, with those that vouch for it behind it; without it the server makes one of its own.
    /// It is read again when the file changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The path under which a proxy shows the HTTP interface to programs, like /lull; the portal needs a host of its own
    #[arg(long, value_name = "PATH", value_parser = amount::base)]
    http_base: Option<String>,
    /// An address that agents are told instead of those it listens on, for a machine behind another name or port; may be
    /// repeated
    #[arg(long, value_name = "MULTIADDR", value_parser = value::address)]
    announce: Vec<Multiaddr>,
    /// The URL of the HTTP interface that other coordinators name to people; made of --http and the machine's name if
    /// left out. The pin of a proxy's key may stand behind it: https://lull.example#sha256//...
    #[arg(long, value_name = "URL", value_parser = amount::url)]
    http_announce: Option<String>,
    /// Another name by which people reach the HTTP interface, like that of a proxy; may be repeated. Requests for any
    /// name but these, this machine's, localhost and the address that they arrive at are refused
    #[arg(long, value_name = "NAME", value_parser = amount::some)]
    http_host: Vec<String>,
    /// Find agents on the same subnet, and be found by them
    #[arg(long)]
    mdns: bool,
    /// What the audit calls this coordinator; the machine's name if left out
    #[arg(long, value_name = "NAME", value_parser = amount::some)]
    name: Option<String>,
    /// The memory that compiling one published module may take, in a process of its own
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = bound::COMPILE_MEMORY.numbers::<u64>())]
    compile_memory: u64,
    /// The time that each step of it may take
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = bound::COMPILE_TIME.times())]
    compile_time: Duration,
    /// How many jobs one submitter may have under way
    #[arg(long, value_name = "COUNT", default_value_t = holding::JOBS_MAX, value_parser = bound::SHARE.numbers::<u64>())]
    jobs_each: u64,
    /// How many tasks the jobs may have that one submitter has under way
    #[arg(long, value_name = "COUNT", default_value_t = holding::TASKS_MAX, value_parser = bound::SHARE.numbers::<u64>())]
    tasks_each: u64,
    /// How large the inputs of all jobs may be that one submitter has under way
    #[arg(long, value_name = "SIZE", default_value = "256GiB", value_parser = bound::SHARE_BYTES.numbers::<u64>())]
    input_bytes_each: u64,
    /// How large the arguments and variables of these jobs may be
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = bound::SHARE_BYTES.numbers::<u64>())]
    argument_bytes_each: u64,
}

impl Server {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::Run(run) => run.run(context).await,
            Self::Status => {
                let coordinators = context.server.connect()?.coordinators().await?.items;
                context.out.list(&coordinators)?;
                for (coordinator, pin) in coordinators.iter().filter_map(|coordinator| Some((coordinator, coordinator.pin?))) {
                    context.out.note(format!("the key of {} has the pin {pin}", coordinator.name));
                }
                for loss in coordinators.iter().filter_map(|coordinator| coordinator.store_loss.as_ref()) {
                    context.out.note(format!("noticed at {}: {}\nhint: {}", loss.at, loss.message, loss.hint));
                }
                Ok(Exit::Succeeded)
            }
            Self::Export(secret) => {
                let network = keys::export(&context.server.data_folder()?, &secret.file).map_err(anyhow::Error::from)?;
                let file = secret.file.display();
                let words = format!("the secret of network {network} is in {file}; delete it once it was imported");
                context.out.done(&Deed::new("exported", network), words)?;
                Ok(Exit::Succeeded)
            }
            Self::Import(secret) => {
                let data = context.server.data_folder()?;
                let network = keys::import(&data, &secret.file).map_err(anyhow::Error::from)?;
                let words = format!("{} is a coordinator's of network {network} now; delete the file", data.display());
                context.out.done(&Deed::new("imported", network), words)?;
                context.out.note("start it with `lull server run` and the same --store as the first");
                Ok(Exit::Succeeded)
            }
            Self::Service(service) => service.carry_out(context).await,
        }
    }

    /// Whether this is what a service manager starts, whose words nobody would see on standard error.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Service(Service::Run(_)))
    }
}

/// Each connection takes one, and the system gives a thousand where nobody asked for more.
#[cfg(unix)]
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        tracing::warn!(%error, "this program cannot have as many connections as it should");
    }
}

#[cfg(not(unix))]
fn raise_descriptors() {}

fn given((certificate, key): (PathBuf, PathBuf)) -> GivenCertificate {
    GivenCertificate { certificate, key }
}

impl Run {
    fn allowance(&self) -> holding::Allowance {
        holding::Allowance {
            jobs: self.jobs_each,
            tasks: self.tasks_each,
            input_bytes: self.input_bytes_each,
            argument_bytes: self.argument_bytes_each,
        }
    }

    /// What is meant, for a server with this data folder.
    pub(crate) fn config(&self, data: &Path) -> ServerConfig {
        let run = self;
        ServerConfig {
            data: data.to_owned(),
            init: run.init,
            store: run.store.choose(data),
            listen: run.listen.clone(),
            http: run.http,
            announce: run.announce.clone(),
            http_announce: run.http_announce.clone(),
            http_hosts: run.http_host.clone(),
            web: Web {
                certificate: run.tls_cert.clone().zip(run.tls_key.clone()).map(given),
                base: run.http_base.clone().unwrap_or_default(),
            },
            mdns: run.mdns,
            name: run.name.clone().unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned()),
            limits: Limits { allowance: self.allowance(), ..Limits::default() },
            making: Making { memory_bytes: run.compile_memory, time: run.compile_time, kept: None },
            lease: Default::default(),
            store_wait: run.store_wait,
        }
    }

    async fn run(&self, context: &Context) -> Outcome {
        let data = context.server.data_folder()?;
        let config = self.config(&data);
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let interrupted = context.clone();
        tokio::spawn(async move {
            interrupted.interrupted().await;
            stop.cancel();
        });
        raise_descriptors();
        let running = match server::start(config, shutdown.clone()).await {
            Ok(running) => running,
            // Whoever stops it before it has begun gets what he wants.
            Err(error) if shutdown.is_cancelled() => {
                context.out.note(hint::with(&format!("{error:#}; nothing was begun"), "`lull server run` begins again"));
                return Ok(Exit::Succeeded);
            }
            Err(error) => return Err(error.into()),
        };
        let (http, pin) = (running.url(), running.pin());
        context.out.note(format!("the coordinator and its portal answer at {http}"));
        if let Some(pin) = pin {
            context.out.note(format!("its key has the pin {pin}: for --pin, and for curl --pinnedpubkey"));
        }
        let value = json!({ "http": http, "pin": pin, "data": data, "stands_by_for": running.stands_by_for() });
        context.out.one(&value, &http, |_| String::new())?;
        if let Some(other) = running.stands_by_for() {
            context.out.note(format!("{other} leads; this one stands by and takes over when it has to"));
        }
        context.out.note(format!("on this machine: lull --data {} token create", data.display()));
        running.stopped().await?;
        Ok(Exit::Succeeded)
    }
}

impl Row for CoordinatorBody {
    const NAME: &'static str = "coordinators";
    const HEADINGS: &'static [&'static str] = &["NAME", "POST", "TERM", "SINCE", "SEEN", "MACHINE", "HTTP", "PEER"];

    fn id(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, look: &Look) -> Vec<Cell> {
        vec![
            self.name.as_str().into(),
            match self.post {
                Post::Leader => Cell::toned("leads", Tone::Good),
                Post::Standby => "stands by".into(),
                Post::Away => Cell::toned("away", Tone::Odd),
            },
            Cell::or_dash(self.term),
            look.time_or_dash(self.since),
            look.time(self.seen).into(),
            self.machine.as_str().into(),
            self.http.as_str().into(),
            self.peer.as_str().into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_folder_of_its_own_another_or_a_server() {
        let choose = |store: Option<&str>| format!("{:?}", StoreArgs { store: store.map(Into::into) }.choose(Path::new("/data")));
        assert_eq!(choose(None), "Embedded(\"/data\")");
        assert_eq!(choose(Some("sqlite:/srv/lull")), "Embedded(\"/srv/lull\")");
        assert_eq!(choose(Some("Server=tcp:db;Password=x")), "SqlServer(..)");
    }
}
