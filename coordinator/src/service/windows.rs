//! Windows' service manager starts, stops and is told.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use lull_agent::service::{self, Done, ServiceError, Standing, host, manager};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::{COORDINATOR, Setup};
use crate::server::{self, ServerConfig};

/// Where the service has its data, if nobody says otherwise.
pub fn data_folder() -> Option<PathBuf> {
    std::env::var_os("ProgramData").map(|folder| Path::new(&folder).join("Lull").join("coordinator"))
}

/// Installs the service with all that belongs to it, or mends what is there.
pub fn install(setup: &Setup) -> Result<Done, ServiceError> {
    let head = ["--data".into(), setup.data.clone().into_os_string(), "server".into(), "service".into(), "run".into()];
    let arguments: Vec<OsString> = head.into_iter().chain(setup.options.iter().map(Into::into)).collect();
    let mut refused = manager::install(&COORDINATOR, arguments, &setup.data)?;
    refused.extend(service::open_doors(&COORDINATOR, &setup.listen).err().map(|error| format!("the firewall's rule: {error}")));
    if setup.start {
        manager::start(&COORDINATOR)?;
    }
    let (name, data) = (COORDINATOR.name, setup.data.display());
    let next = if setup.start { "it runs".to_owned() } else { format!("`sc start {name}` starts it now") };
    Ok(Done { words: format!("installed as {name}, with its data in {data}; {next}"), refused })
}

/// Stops the service and removes it. Its data stays: it is the whole network's.
pub fn uninstall() -> Result<Done, ServiceError> {
    manager::uninstall(&COORDINATOR)?;
    service::close_doors(&COORDINATOR);
    Ok(Done { words: format!("{} is removed; its data stays", COORDINATOR.name), refused: Vec::new() })
}

/// How the service is.
pub fn status(data: PathBuf) -> Result<Standing, ServiceError> {
    manager::status(&COORDINATOR, data)
}

/// What the service manager starts. Returns when the service has stopped.
pub fn run(data: PathBuf, config: ServerConfig, filter: EnvFilter) -> Result<(), ServiceError> {
    let work = move |orders: host::Orders| work(config, orders.stop, orders.abort);
    host::run(host::Job { kind: &COORDINATOR, data, filter, look: || {}, work: Box::new(work) })
}

fn work(config: ServerConfig, stop: CancellationToken, abort: CancellationToken) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("the coordinator cannot start: {error}"))?;
    let ended = runtime.block_on(abort.run_until_cancelled(async {
        match server::start(config, stop.clone()).await {
            Ok(running) => running.stopped().await.map_err(|error| format!("{error:#}")),
            // Whoever stops it before it has begun gets what they want.
            Err(_) if stop.is_cancelled() => Ok(()),
            Err(error) => Err(format!("{error:#}")),
        }
    }));
    runtime.shutdown_background();
    ended.unwrap_or(Ok(()))
}
