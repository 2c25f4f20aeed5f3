//! Windows' service: what the service manager starts, stops and tells.
//!
//! ```text
//! install  -- service manager: account, start, failures, privileges; the data folder for its account; a join token that waits;
//!             the firewall's rule
//! run      -- [`host`] --> the agent, until it is told to stop: hands over what runs, ten seconds at most
//! start_trays -- a tray in each session that has somebody
//! ```
//! An administrator finds in the event log what they must see ([`events`]), and the rest in files beside the data ([`rolling`]).
//! [`host`] and [`manager`] are for any service: the coordinator's as well.

pub mod events;
pub mod host;
pub mod manager;
mod rolling;
mod trays;

use std::{
    ffi::OsString,
    io,
    os::windows::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use libp2p::Multiaddr;
use lull_engine::{
    files,
    windows::{Access, Account},
};
use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

use self::events::{Event, EventLog};
pub use self::{host::is_this_process, trays::start_trays};
use super::{AGENT, Done, Kind, NAME, Orders, Removal, ServiceError, Setup, Standing, firewall, first_settings};
use crate::{
    cli::value,
    config::Config,
    pending::{self, Patience, Told},
    run_loop::{self, Fittings},
    sensor,
};

/// How long stopping may take, as the service manager is told: the agent's own ten seconds and some more, and well below the
/// thirty that an installer waits.
const STOP_HINT: Duration = Duration::from_secs(20);
/// The settings, below the data folder.
const SETTINGS: &str = "agent.toml";

/// Where the service has its data, if nobody says otherwise.
pub fn data_folder() -> Option<PathBuf> {
    std::env::var_os("ProgramData").map(|folder| Path::new(&folder).join("Lull").join("agent"))
}

/// Who may use a service's folder, and all that is in it: its account, the system and administrators.
pub fn folder_access(name: &str) -> io::Result<Access> {
    let service = Account::of_service(name)?;
    Access::parse(&format!("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;{service})"))
}

/// An error of the service manager, with what the system said.
fn reason(error: &windows_service::Error) -> String {
    match error {
        windows_service::Error::Winapi(system) => system.to_string(),
        other => other.to_string(),
    }
}

/// Installs the service with all that belongs to it, or mends what is there.
pub fn install(setup: &Setup) -> Result<Done, ServiceError> {
    let data = &setup.data;
    let unusable =
        |error: io::Error| ServiceError(format!("{} cannot be used: {error}\nhint: run it as administrator", data.display()));
    std::fs::create_dir_all(data).map_err(unusable)?;
    let config = match &setup.config {
        Some(config) => config.clone(),
        None => {
            let text = first_settings(setup.port);
            files::replace_private(&data.join(SETTINGS), text.as_bytes()).map_err(unusable)?;
            Config::parse(&text, Path::new(SETTINGS)).map_err(|error| ServiceError(error.to_string()))?
        }
    };
    if let Some(pending) = &setup.pending {
        pending::leave(data, pending).map_err(unusable)?;
    }
    let arguments = ["--data".into(), data.into(), "service".into(), "run".into()].map(|word: OsString| word);
    // It gives the folder to the service's account, with all that was put into it.
    let mut refused = manager::install(&AGENT, arguments.into(), data)?;
    if setup.firewall {
        refused.extend(open_doors(&AGENT, &config.listen).err().map(|error| format!("the firewall's rule: {error}")));
    }
    let shown = data.display();
    let next = match setup.pending {
        Some(_) => "it joins its network at its first start".to_owned(),
        None => format!("`lull-agent --data \"{shown}\" join TOKEN` joins a network, if this machine has not yet"),
    };
    Ok(Done {
        words: format!("installed as {NAME}, with its data in {shown}\n{next}; `sc start {NAME}` starts the service now"),
        refused,
    })
}

/// Stops the service and removes it with all that belongs to it.
pub fn uninstall(removal: &Removal) -> Result<Done, ServiceError> {
    manager::uninstall(&AGENT)?;
    close_doors(&AGENT);
    // A token that waits is of no use to anybody now.
    let _ = files::remove_if_there(&removal.data.join(pending::FILE));
    let mut refused = Vec::new();
    let words = match removal.remove_data {
        false => format!("{NAME} is removed; its data stays, and `lull-agent --data FOLDER leave` removes that too"),
        true => {
            let data = &removal.data;
            let gone = match std::fs::remove_dir_all(data) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
            refused.extend(gone.err().map(|error| format!("{}: {error}", data.display())));
            // The folder above is ours if nothing else is in it.
            let _ = data.parent().filter(|above| above.ends_with("Lull")).map(std::fs::remove_dir);
            format!("{NAME} is removed with its data")
        }
    };
    Ok(Done { words, refused })
}

/// Opens the firewall for the ports that stay, and for no other that was opened before.
pub fn open_doors(kind: &Kind, listen: &[Multiaddr]) -> io::Result<()> {
    let program = std::env::current_exe()?;
    close_doors(kind);
    firewall::doors(listen).into_iter().try_for_each(|door| netsh(&firewall::opened(kind.shown, door, &program)))
}

/// Closes what was opened. There may be nothing.
pub fn close_doors(kind: &Kind) {
    let _ = netsh(&firewall::closed(kind.shown));
}

/// Has the system's own program do it: found where the system has its programs, and nowhere else.
fn netsh(words: &[String]) -> io::Result<()> {
    let system = std::env::var_os("SystemRoot").ok_or_else(|| io::Error::other("the system's folder is not known"))?;
    let program = Path::new(&system).join("System32").join("netsh.exe");
    let said = Command::new(program).args(words).creation_flags(CREATE_NO_WINDOW).output()?;
    match said.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&said.stdout).trim().to_owned())),
    }
}

/// How the service is.
pub fn status(data: PathBuf) -> Result<Standing, ServiceError> {
    manager::status(&AGENT, data)
}

/// What the service manager starts. Returns when the service has stopped.
pub fn run(orders: Orders) -> Result<(), ServiceError> {
    let Orders { data, config, log } = orders;
    let filter = value::log_filter(&log).map_err(ServiceError)?;
    let work = {
        let data = data.clone();
        move |orders: host::Orders| work(&data, &config, orders)
    };
    host::run(host::Job { kind: &AGENT, data, filter, look: sensor::look_again, work: Box::new(work) })
}

fn work(data: &Path, config: &Config, orders: host::Orders) -> Result<(), String> {
    let host::Orders { stop, abort, log } = orders;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the agent cannot start: {error}"))?;
    let result = runtime.block_on(async {
        pending::settle(data, config, Patience::Forever, &stop, |told| write(log, told))
            .await
            .map_err(|error| error.to_string())?;
        if stop.is_cancelled() {
            return Ok(());
        }
        run_loop::serve(data, config, Fittings::default(), stop, abort).await.map_err(|error| error.to_string())
    });
    runtime.shutdown_background();
    result
}

/// What becomes of a join token that waited, for an administrator.
fn write(log: EventLog, told: Told) {
    const HINT: &str = "give a join token in the machine's policy, or join with `lull-agent join`";
    match told {
        Told::Joined => log.write(Event::Joined, "this machine has joined a network with the token that was left for it"),
        Told::Void(words) => {
            log.write(Event::TokenVoid, &format!("this machine cannot join with the token that was left for it: {words}"))
        }
        Told::NotNow(words) => {
            log.write(Event::NotJoinedYet, &format!("this machine has not joined yet, and tries again: {words}"))
        }
        Told::Nothing => log.write(Event::NotJoined, &format!("this machine has not joined a network\nhint: {HINT}")),
    }
}
