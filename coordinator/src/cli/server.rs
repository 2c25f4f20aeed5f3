//! `lull server`: a coordinator in the foreground, as a service manager runs it.

use std::{net::SocketAddr, path::Path};

use clap::{Args, Subcommand};
use libp2p::Multiaddr;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    exit::{Exit, Outcome},
};
use crate::{
    scheduler::Limits,
    server::{self, ServerConfig},
    store::StoreChoice,
};

/// What can be done with a coordinator.
#[derive(Debug, Subcommand)]
pub enum Server {
    /// Run a coordinator until it is told to stop
    Run(Run),
}

/// Where a coordinator remembers.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// An SQL Server database instead of one in the data folder, as an ADO connection string
    #[arg(long, value_name = "ADO", env = "LULL_STORE", hide_env_values = true)]
    store: Option<String>,
}

impl StoreArgs {
    /// The store that is meant, for a server with this data folder.
    pub fn choose(&self, data: &Path) -> StoreChoice {
        self.store.clone().map_or_else(|| StoreChoice::Embedded(data.to_owned()), StoreChoice::SqlServer)
    }
}

/// `lull server run`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  \
    lull server run\n  \
    lull server run --data /var/lib/lull --listen /ip4/0.0.0.0/tcp/7410 --http 0.0.0.0:7411\n  \
    lull server run --store \"Server=tcp:db,1433;Database=lull;User Id=lull;Password=...\"")]
pub struct Run {
    #[command(flatten)]
    store: StoreArgs,
    /// Where agents connect; may be repeated
    #[arg(long, value_name = "MULTIADDR", default_values = ["/ip4/0.0.0.0/tcp/7410", "/ip4/0.0.0.0/udp/7410/quic-v1"])]
    listen: Vec<Multiaddr>,
    /// Where the command line and scripts connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7411")]
    http: SocketAddr,
    /// A further address that agents are told, for a machine behind another name or port; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    announce: Vec<Multiaddr>,
    /// Find and be found by agents on the same subnet
    #[arg(long)]
    mdns: bool,
    /// What the audit calls this coordinator; the machine's name if left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl Server {
    pub async fn run(&self, context: &Context) -> Outcome {
        let Self::Run(run) = self;
        let data = context.server.data_folder()?;
        let config = ServerConfig {
            data: data.clone(),
            store: run.store.choose(&data),
            listen: run.listen.clone(),
            http: run.http,
            announce: run.announce.clone(),
            mdns: run.mdns,
            name: run.name.clone().unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned()),
            limits: Limits::default(),
        };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let interrupted = context.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = interrupted.interrupted() => {}
                () = terminated() => {}
            }
            stop.cancel();
        });
        let running = server::start(config, shutdown).await?;
        context.out.note(format!("the coordinator answers at http://{}", running.http_address));
        context.out.note(format!("on this machine: lull --data {} token create", data.display()));
        running.stopped().await?;
        Ok(Exit::Succeeded)
    }
}

/// Returns when a service manager asks the process to end.
async fn terminated() {
    #[cfg(unix)]
    if let Ok(mut signal) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        signal.recv().await;
        return;
    }
    std::future::pending().await
}
