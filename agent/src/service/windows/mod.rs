//! Windows' service: what the service manager starts, stops and tells.
//!
//! ```text
//! install  -- service manager: account, start, failures, privileges; the data folder for its account
//! run      -- dispatcher --> serve: the agent, until it is told to stop
//!               Stop, Preshutdown, Shutdown --> stop: hands over what runs, ten seconds at most
//!               SessionChange, PowerEvent   --> the sensor looks at once
//! ```
//! An administrator finds in the event log what they must see ([`events`]), and the rest in files beside the data ([`rolling`]).

mod events;
mod install;
mod rolling;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lull_engine::windows::{Access, Account};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};
use windows_service::{
    define_windows_service,
    service::{PowerEventParam, ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType},
    service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle},
    service_dispatcher,
};

use self::events::{Event, EventLog};
pub use self::install::{install, status, uninstall};
use super::{NAME, Orders, ServiceError};
use crate::{
    cli::value,
    run_loop::{self, Fittings, ServeError},
    sensor,
};

/// How long stopping may take, as the service manager is told: the agent's own ten seconds and some more, and well below the
/// thirty that an installer waits.
const STOP_HINT: Duration = Duration::from_secs(20);
/// The exit code of an agent that failed, beside the system's own.
const FAILED: u32 = 1;

static IS_SERVICE: AtomicBool = AtomicBool::new(false);
/// What `run` was told, for the function that the service manager has called on another thread.
static ORDERS: OnceLock<Mutex<Option<Orders>>> = OnceLock::new();

/// Whether this very process is the service.
pub fn is_this_process() -> bool {
    IS_SERVICE.load(Ordering::Relaxed)
}

/// Where the service has its data, if nobody says otherwise.
pub fn data_folder() -> Option<PathBuf> {
    std::env::var_os("ProgramData").map(|folder| Path::new(&folder).join("Lull").join("agent"))
}

/// Who may use the service's folder, and all that is in it: its account, the system and administrators.
pub fn folder_access() -> std::io::Result<Access> {
    let service = Account::of_service(NAME)?;
    Access::parse(&format!("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;{service})"))
}

define_windows_service!(service_main, serve);

/// What the service manager starts. Returns when the service has stopped.
pub fn run(orders: Orders) -> Result<(), ServiceError> {
    *ORDERS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner) = Some(orders);
    service_dispatcher::start(NAME, service_main).map_err(|error| {
        ServiceError(format!(
            "the service manager did not start this: {}\nhint: `lull-agent service install`, then `sc start {NAME}`; `lull-agent \
             run` runs the agent in this window",
            reason(&error)
        ))
    })
}

/// An error of the service manager, with what the system said.
fn reason(error: &windows_service::Error) -> String {
    match error {
        windows_service::Error::Winapi(system) => system.to_string(),
        other => other.to_string(),
    }
}

/// The service's life, on the thread that the service manager has for it.
fn serve(_: Vec<OsString>) {
    let orders = ORDERS.get().and_then(|orders| orders.lock().unwrap_or_else(PoisonError::into_inner).take());
    let Some(orders) = orders else { return };
    IS_SERVICE.store(true, Ordering::Relaxed);
    let log = EventLog::open();
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    let status = std::sync::Arc::new(Mutex::new(None::<ServiceStatusHandle>));
    let handler = {
        let (stop, abort, status) = (stop.clone(), abort.clone(), std::sync::Arc::clone(&status));
        move |control| hear(control, &stop, &abort, &status)
    };
    let handle = match service_control_handler::register(NAME, handler) {
        Ok(handle) => handle,
        Err(error) => return log.write(Event::Failed, &format!("the service manager is not heard: {}", reason(&error))),
    };
    *status.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    tell(handle, ServiceState::Running, ServiceExitCode::NO_ERROR);
    write_down(&orders, log);
    // Nobody sees what a service writes to its standard error.
    std::panic::set_hook(Box::new(move |panic| log.write(Event::Failed, &panic.to_string())));
    log.write(Event::Started, &format!("the agent has started; its data is in {}", orders.data.display()));
    let code = match work(&orders, stop, abort) {
        Ok(()) => {
            log.write(Event::Stopped, "the agent has stopped");
            ServiceExitCode::NO_ERROR
        }
        Err(failed) => {
            let not_joined = matches!(failed, ServeError::Membership(crate::membership::MembershipError::NotJoined));
            log.write(if not_joined { Event::NotJoined } else { Event::Failed }, &failed.to_string());
            // A service that ends with nothing wrong is not started again.
            ServiceExitCode::ServiceSpecific(FAILED)
        }
    };
    tell(handle, ServiceState::Stopped, code);
}

fn work(orders: &Orders, stop: CancellationToken, abort: CancellationToken) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| ServeError::Data { path: orders.data.clone(), source })?;
    let result = runtime.block_on(run_loop::serve(&orders.data, &orders.config, Fittings::default(), stop, abort));
    runtime.shutdown_background();
    result
}

/// What the service manager says, on its own thread: answered at once.
fn hear(
    control: ServiceControl,
    stop: &CancellationToken,
    abort: &CancellationToken,
    status: &Mutex<Option<ServiceStatusHandle>>,
) -> ServiceControlHandlerResult {
    match control {
        ServiceControl::Stop | ServiceControl::Preshutdown | ServiceControl::Shutdown => {
            if control == ServiceControl::Preshutdown {
                EventLog::open()
                    .write(Event::HandsOver, "Windows is about to restart or to be switched off; running work is given away");
            }
            if let Some(handle) = *status.lock().unwrap_or_else(PoisonError::into_inner) {
                tell(handle, ServiceState::StopPending, ServiceExitCode::NO_ERROR);
            }
            // Whoever asks twice insists.
            if stop.is_cancelled() {
                abort.cancel();
            }
            stop.cancel();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::SessionChange(_) | ServiceControl::PowerEvent(PowerEventParam::PowerStatusChange) => {
            sensor::look_again();
            ServiceControlHandlerResult::NoError
        }
        // Sleep is told to the sensor itself.
        ServiceControl::PowerEvent(_) | ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    }
}

/// What the service manager is to know.
fn tell(handle: ServiceStatusHandle, state: ServiceState, exit_code: ServiceExitCode) {
    let accepted = ServiceControlAccept::STOP
        | ServiceControlAccept::PRESHUTDOWN
        | ServiceControlAccept::SESSION_CHANGE
        | ServiceControlAccept::POWER_EVENT;
    let status = ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: if state == ServiceState::Running { accepted } else { ServiceControlAccept::empty() },
        exit_code,
        checkpoint: u32::from(state == ServiceState::StopPending),
        wait_hint: if state == ServiceState::StopPending { STOP_HINT } else { Duration::ZERO },
        process_id: None,
    };
    if let Err(error) = handle.set_service_status(status) {
        tracing::warn!(error = reason(&error), "the service manager does not hear");
    }
}

/// Logs into files beside the data, and what wakes somebody into the event log. Without a file the agent works all the same.
fn write_down(orders: &Orders, log: EventLog) {
    let Ok(filter) = value::log_filter(&orders.log) else { return };
    let folder = orders.data.join("logs");
    match rolling::Rolling::open(&folder) {
        Ok(file) => {
            let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Mutex::new(file));
            let _ = tracing_subscriber::registry().with(filter).with(lines).with(log).try_init();
        }
        Err(error) => log.write(Event::Failed, &format!("there is no log: {}: {error}", folder.display())),
    }
}
