//! A process that the service manager has started, for any service of ours: what is heard of it and told to it.
//!
//! ```text
//! run --> dispatcher --> serve: the work, until it is told to stop
//!           Stop, Preshutdown, Shutdown --> stop; a second time: abort
//!           SessionChange, PowerEvent   --> look
//! ```

use std::{
    ffi::OsString,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};
use windows_service::{
    define_windows_service,
    service::{PowerEventParam, ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType},
    service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle},
    service_dispatcher,
};

use super::{
    STOP_HINT,
    events::{Event, EventLog},
    reason, rolling,
};
use crate::service::{Kind, LOGS, ServiceError};

/// The exit code of a service that failed, beside the system's own.
const FAILED: u32 = 1;

/// What a service does.
pub struct Job {
    pub kind: &'static Kind,
    /// Where its log is, in a folder of its own.
    pub data: PathBuf,
    pub filter: EnvFilter,
    /// Called when sessions or the power have changed.
    pub look: fn(),
    /// Returns when it was told to stop, or says in words why it cannot go on.
    pub work: Box<dyn FnOnce(Orders) -> Result<(), String> + Send>,
}

/// What the service manager wants of it.
pub struct Orders {
    pub stop: CancellationToken,
    /// It was asked a second time.
    pub abort: CancellationToken,
    pub log: EventLog,
}

static IS_SERVICE: AtomicBool = AtomicBool::new(false);
/// What `run` was given, for the function that the service manager has called on another thread.
static JOB: OnceLock<Mutex<Option<Job>>> = OnceLock::new();

/// Whether this very process is a service.
pub fn is_this_process() -> bool {
    IS_SERVICE.load(Ordering::Relaxed)
}

define_windows_service!(service_main, serve);

/// What the service manager starts. Returns when the service has stopped.
pub fn run(job: Job) -> Result<(), ServiceError> {
    let kind = job.kind;
    *JOB.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
    service_dispatcher::start(kind.name, service_main).map_err(|error| {
        let Kind { name, command, .. } = kind;
        ServiceError(format!(
            "the service manager did not start this: {}\nhint: `{command} install`, then `sc start {name}`",
            reason(&error)
        ))
    })
}

/// The service's life, on the thread that the service manager has for it.
fn serve(_: Vec<OsString>) {
    let job = JOB.get().and_then(|job| job.lock().unwrap_or_else(PoisonError::into_inner).take());
    let Some(Job { kind, data, filter, look, work }) = job else { return };
    IS_SERVICE.store(true, Ordering::Relaxed);
    let log = EventLog::open(kind.source);
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    let status = Arc::new(Mutex::new(None::<ServiceStatusHandle>));
    let handler = {
        let (stop, abort, status) = (stop.clone(), abort.clone(), Arc::clone(&status));
        move |control| hear(control, log, look, &stop, &abort, &status)
    };
    let handle = match service_control_handler::register(kind.name, handler) {
        Ok(handle) => handle,
        Err(error) => return log.write(Event::Failed, &format!("the service manager is not heard: {}", reason(&error))),
    };
    *status.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    tell(handle, ServiceState::Running, ServiceExitCode::NO_ERROR);
    write_down(kind, &data, filter, log);
    // Nobody sees what a service writes to its standard error.
    std::panic::set_hook(Box::new(move |panic| log.write(Event::Failed, &panic.to_string())));
    log.write(Event::Started, &format!("{} has started; its data is in {}", kind.shown, data.display()));
    let code = match work(Orders { stop, abort, log }) {
        Ok(()) => {
            log.write(Event::Stopped, &format!("{} has stopped", kind.shown));
            ServiceExitCode::NO_ERROR
        }
        Err(words) => {
            log.write(Event::Failed, &words);
            tracing::warn!(%words, "the service cannot go on");
            // A service that ends with nothing wrong is not started again.
            ServiceExitCode::ServiceSpecific(FAILED)
        }
    };
    tell(handle, ServiceState::Stopped, code);
}

/// What the service manager says, on its own thread: answered at once.
fn hear(
    control: ServiceControl,
    log: EventLog,
    look: fn(),
    stop: &CancellationToken,
    abort: &CancellationToken,
    status: &Mutex<Option<ServiceStatusHandle>>,
) -> ServiceControlHandlerResult {
    match control {
        ServiceControl::Stop | ServiceControl::Preshutdown | ServiceControl::Shutdown => {
            if control == ServiceControl::Preshutdown {
                log.write(Event::HandsOver, "Windows is about to restart or to be switched off; running work is given away");
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
            look();
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

/// Logs into files beside the data, and what wakes somebody into the event log. Without a file the service works all the same.
fn write_down(kind: &Kind, data: &std::path::Path, filter: EnvFilter, log: EventLog) {
    let folder = data.join(LOGS);
    match rolling::Rolling::open(&folder, kind.log) {
        Ok(file) => {
            let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Mutex::new(file));
            let _ = tracing_subscriber::registry().with(filter).with(lines).with(log).try_init();
        }
        Err(error) => log.write(Event::Failed, &format!("there is no log: {}: {error}", folder.display())),
    }
}
