//! What an installer does, by hand, for any service of ours: the service with its settings, its folder, and its place in the event
//! log. Whatever the system refuses is said, and does not keep the service from working.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::windows::{ffi::OsStrExt as _, fs::OpenOptionsExt as _, io::AsRawHandle as _},
    path::{Path, PathBuf},
    ptr, thread,
    time::{Duration, Instant},
};

use lull_engine::windows::{code, done, wide};
use windows_service::{
    Error as ManagerError,
    service::{
        Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl, ServiceFailureActions,
        ServiceFailureResetPeriod, ServiceInfo, ServiceSidType, ServiceStartType, ServiceState, ServiceType,
    },
    service_manager::{ServiceManager, ServiceManagerAccess},
};
use windows_sys::Win32::{
    Foundation::{ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_EXISTS},
    Security::Authorization::SE_FILE_OBJECT,
    Storage::FileSystem::{FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, READ_CONTROL, WRITE_DAC},
    System::{
        Registry::{
            HKEY, HKEY_LOCAL_MACHINE, KEY_SET_VALUE, REG_DWORD, REG_EXPAND_SZ, REG_OPTION_NON_VOLATILE, RegCloseKey,
            RegCreateKeyExW, RegDeleteTreeW, RegSetValueExW,
        },
        Services::{ChangeServiceConfig2W, SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, SERVICE_REQUIRED_PRIVILEGES_INFOW},
    },
};

use super::{STOP_HINT, folder_access, reason};
use crate::service::{Kind, ServiceError, Standing};

/// After which times a service that failed is started again; the last one goes on. A day without a failure begins anew.
const RESTARTS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(300)];
const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// A service that stops has so long, and some more.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);
const STOP_LOOK: Duration = Duration::from_millis(100);

/// An error of the service manager, and what to do.
fn failed(what: &str, error: &ManagerError) -> ServiceError {
    let hint = match error {
        ManagerError::Winapi(system) if system.kind() == io::ErrorKind::PermissionDenied => {
            "run it in a terminal that was opened with \"Run as administrator\""
        }
        _ => "`sc query` says how services are; the event log may say more",
    };
    ServiceError(format!("{what}: {}\nhint: {hint}", reason(error)))
}

fn manager(access: ServiceManagerAccess) -> Result<ServiceManager, ServiceError> {
    ServiceManager::local_computer(None::<&OsStr>, access).map_err(|error| failed("the service manager cannot be asked", &error))
}

fn is_code(error: &ManagerError, wanted: u32) -> bool {
    matches!(error, ManagerError::Winapi(system) if system.raw_os_error() == Some(wanted.cast_signed()))
}

/// Installs the service, or mends one that is there, with this program and these arguments. It starts with the machine, or by
/// `sc start`. Gives what the system refused.
pub fn install(kind: &Kind, arguments: Vec<OsString>, data: &Path) -> Result<Vec<String>, ServiceError> {
    let program = std::env::current_exe().map_err(|error| ServiceError(format!("this program's file is not known: {error}")))?;
    let info = info(kind, program, arguments);
    let manager = manager(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE)?;
    let service = match manager.create_service(&info, ServiceAccess::ALL_ACCESS) {
        Err(error) if is_code(&error, ERROR_SERVICE_EXISTS) => {
            let service = manager.open_service(kind.name, ServiceAccess::ALL_ACCESS);
            service.and_then(|service| service.change_config(&info).map(|()| service))
        }
        made => made,
    };
    let service = service.map_err(|error| failed("the service cannot be installed", &error))?;
    let mut refused = settings(kind, &service);
    let mut note = |what: &str, result: io::Result<()>| {
        refused.extend(result.err().map(|error| format!("{what}: {error}")));
    };
    note("the data folder's access list", open_folder(kind, data));
    note("the event log's source", add_source(kind));
    Ok(refused)
}

fn info(kind: &Kind, program: PathBuf, arguments: Vec<OsString>) -> ServiceInfo {
    ServiceInfo {
        name: kind.name.into(),
        display_name: kind.shown.into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: program,
        launch_arguments: arguments,
        dependencies: Vec::new(),
        account_name: Some(format!(r"NT SERVICE\{}", kind.name).into()),
        account_password: None,
    }
}

/// What can be set only once the service is there. Gives what the system refused.
fn settings(kind: &Kind, service: &Service) -> Vec<String> {
    let actions = RESTARTS.map(|delay| ServiceAction { action_type: ServiceActionType::Restart, delay });
    let failures = ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGET_AFTER),
        reboot_msg: None,
        command: None,
        actions: Some(actions.into()),
    };
    let tried = [
        ("description", service.set_description(kind.about)),
        ("delayed start", service.set_delayed_auto_start(true)),
        ("account of its own", service.set_config_service_sid_info(ServiceSidType::Unrestricted)),
        ("time before a shutdown", service.set_preshutdown_timeout(STOP_HINT)),
        ("restart on failure", service.update_failure_actions(failures)),
        ("restart on an error it reports", service.set_failure_actions_on_non_crash_failures(true)),
    ];
    let mut refused: Vec<String> =
        tried.into_iter().filter_map(|(what, result)| Some(format!("{what}: {}", reason(&result.err()?)))).collect();
    refused.extend(require(kind, service).err().map(|error| format!("required privileges: {error}")));
    refused
}

/// Lists the privileges that the service keeps; all others are taken from it at its start.
fn require(kind: &Kind, service: &Service) -> io::Result<()> {
    let mut list: Vec<u16> = kind.privileges.iter().flat_map(wide).chain([0]).collect();
    let info = SERVICE_REQUIRED_PRIVILEGES_INFOW { pmszRequiredPrivileges: list.as_mut_ptr() };
    // SAFETY: the handle is open, and the list's texts end in a zero and the list in another one.
    done(unsafe {
        ChangeServiceConfig2W(service.raw_handle(), SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, (&raw const info).cast())
    })
}

/// Makes the folder, and gives it and all that is in it to the service's account.
fn open_folder(kind: &Kind, data: &Path) -> io::Result<()> {
    let access = folder_access(kind.name)?;
    std::fs::create_dir_all(data)?;
    give(data, &access)
}

fn give(path: &Path, access: &lull_engine::windows::Access) -> io::Result<()> {
    let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
    let opened = std::fs::File::options().access_mode(READ_CONTROL | WRITE_DAC).custom_flags(flags).open(path)?;
    access.give(opened.as_raw_handle(), SE_FILE_OBJECT)?;
    if std::fs::symlink_metadata(path)?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), access)?;
        }
    }
    Ok(())
}

fn source(kind: &Kind) -> String {
    format!(r"SYSTEM\CurrentControlSet\Services\EventLog\Application\{}", kind.source)
}

/// Windows has a file with texts for the ids up to 1000 that are nothing but what is said.
const TEXTS: &str = r"%SystemRoot%\System32\EventCreate.exe";
/// Errors, warnings and information.
const KINDS: u32 = 7;

fn add_source(kind: &Kind) -> io::Result<()> {
    let mut key: HKEY = ptr::null_mut();
    // SAFETY: the name ends in a zero, and the place is one for a key.
    code(unsafe {
        let (name, mut made) = (wide(source(kind)), 0);
        let (options, rights) = (REG_OPTION_NON_VOLATILE, KEY_SET_VALUE);
        RegCreateKeyExW(HKEY_LOCAL_MACHINE, name.as_ptr(), 0, ptr::null(), options, rights, ptr::null(), &mut key, &mut made)
    })?;
    let set = |name: &str, kind: u32, value: &[u8]| {
        // SAFETY: the key is open, the name ends in a zero, and the value is as long as is said.
        code(unsafe { RegSetValueExW(key, wide(name).as_ptr(), 0, kind, value.as_ptr(), value.len() as u32) })
    };
    let texts: Vec<u8> = OsStr::new(TEXTS).encode_wide().chain([0]).flat_map(u16::to_le_bytes).collect();
    let written =
        set("EventMessageFile", REG_EXPAND_SZ, &texts).and_then(|()| set("TypesSupported", REG_DWORD, &KINDS.to_le_bytes()));
    // SAFETY: it was opened above, and is closed once.
    unsafe { RegCloseKey(key) };
    written
}

/// Stops the service and removes it, if it is there, and its place in the event log. Its data stays.
pub fn uninstall(kind: &Kind) -> Result<(), ServiceError> {
    let manager = manager(ServiceManagerAccess::CONNECT)?;
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE;
    match manager.open_service(kind.name, access) {
        Ok(service) => {
            stop(&service)?;
            service.delete().map_err(|error| failed("the service cannot be removed", &error))?;
        }
        // An installer has removed it already.
        Err(error) if is_code(&error, ERROR_SERVICE_DOES_NOT_EXIST) => {}
        Err(error) => return Err(failed("the service cannot be opened", &error)),
    }
    // SAFETY: the name ends in a zero.
    let _ = code(unsafe { RegDeleteTreeW(HKEY_LOCAL_MACHINE, wide(source(kind)).as_ptr()) });
    Ok(())
}

/// Starts the service, unless it runs.
pub fn start(kind: &Kind) -> Result<(), ServiceError> {
    let manager = manager(ServiceManagerAccess::CONNECT)?;
    let service = manager.open_service(kind.name, ServiceAccess::START);
    let started = service.and_then(|service| service.start::<&OsStr>(&[]));
    match started {
        Err(error) if is_code(&error, ERROR_SERVICE_ALREADY_RUNNING) => Ok(()),
        other => other.map_err(|error| failed("the service cannot be started", &error)),
    }
}

fn stop(service: &Service) -> Result<(), ServiceError> {
    let state = || service.query_status().map(|status| status.current_state).unwrap_or(ServiceState::Stopped);
    if state() == ServiceState::Stopped {
        return Ok(());
    }
    service.stop().map_err(|error| failed("the service cannot be stopped", &error))?;
    let since = Instant::now();
    while state() != ServiceState::Stopped {
        if since.elapsed() > STOP_TIME_MAX {
            return Err(ServiceError("the service does not stop\nhint: end its process, then try again".into()));
        }
        thread::sleep(STOP_LOOK);
    }
    Ok(())
}

/// How the service is.
pub fn status(kind: &Kind, data: PathBuf) -> Result<Standing, ServiceError> {
    let manager = manager(ServiceManagerAccess::CONNECT)?;
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::QUERY_CONFIG;
    let service =
        manager.open_service(kind.name, access).map_err(|error| match is_code(&error, ERROR_SERVICE_DOES_NOT_EXIST) {
            true => ServiceError(format!("the service is not installed\nhint: `{} install` installs it", kind.command)),
            false => failed("the service cannot be opened", &error),
        })?;
    let status = service.query_status().map_err(|error| failed("the service cannot be asked", &error))?;
    let state = match status.current_state {
        ServiceState::Stopped => "stopped",
        ServiceState::StartPending => "starting",
        ServiceState::StopPending => "stopping",
        ServiceState::Running => "running",
        ServiceState::ContinuePending | ServiceState::PausePending | ServiceState::Paused => "paused",
    };
    let account = service.query_config().ok().and_then(|config| config.account_name);
    let account = account.map(|account| account.to_string_lossy().into_owned());
    Ok(Standing { service: kind.name.into(), state: state.into(), process: status.process_id, account, data })
}
