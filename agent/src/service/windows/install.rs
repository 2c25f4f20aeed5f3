//! What an installer does, by hand: the service with its settings, its folder, and its place in the event log. Whatever the
//! system refuses is said, and does not keep the service from working.

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
    Foundation::{ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_EXISTS},
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

use super::{STOP_HINT, events, folder_access, reason};
use crate::service::{Done, NAME, Orders, ServiceError, Standing};

const SHOWN: &str = "Lull Agent";
const ABOUT: &str = "Runs functions of this organisation's batch jobs while nobody uses this machine.";
/// All that the agent needs of the privileges that accounts of services have: to walk through folders above its own.
const PRIVILEGES: [&str; 1] = ["SeChangeNotifyPrivilege"];
/// After which times a service that failed is started again; the last one goes on. A day without a failure begins anew.
const RESTARTS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(300)];
const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// A service that stops has so long, and some more.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);
const STOP_LOOK: Duration = Duration::from_millis(100);

fn account() -> String {
    format!(r"NT SERVICE\{NAME}")
}

/// An error of the service manager, and what to do.
fn failed(what: &str, error: &ManagerError) -> ServiceError {
    let hint = match error {
        ManagerError::Winapi(system) if system.kind() == io::ErrorKind::PermissionDenied => {
            "run it in a terminal that was opened with \"Run as administrator\""
        }
        _ => "`sc query LullAgent` says how the service is; the event log may say more",
    };
    ServiceError(format!("{what}: {}\nhint: {hint}", reason(error)))
}

fn manager(access: ServiceManagerAccess) -> Result<ServiceManager, ServiceError> {
    ServiceManager::local_computer(None::<&OsStr>, access).map_err(|error| failed("the service manager cannot be asked", &error))
}

fn is_code(error: &ManagerError, wanted: u32) -> bool {
    matches!(error, ManagerError::Winapi(system) if system.raw_os_error() == Some(wanted.cast_signed()))
}

/// Installs the service, or mends one that is there. It starts with the machine, or by `sc start`.
pub fn install(orders: &Orders) -> Result<Done, ServiceError> {
    let program = std::env::current_exe().map_err(|error| ServiceError(format!("this program's file is not known: {error}")))?;
    let info = info(program, &orders.data);
    let manager = manager(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE)?;
    let service = match manager.create_service(&info, ServiceAccess::ALL_ACCESS) {
        Err(error) if is_code(&error, ERROR_SERVICE_EXISTS) => {
            let service = manager.open_service(NAME, ServiceAccess::ALL_ACCESS);
            service.and_then(|service| service.change_config(&info).map(|()| service))
        }
        made => made,
    };
    let service = service.map_err(|error| failed("the service cannot be installed", &error))?;
    let mut refused = settings(&service);
    let mut note = |what: &str, result: io::Result<()>| {
        refused.extend(result.err().map(|error| format!("{what}: {error}")));
    };
    note("the data folder's access list", open_folder(&orders.data));
    note("the event log's source", add_source());
    let data = orders.data.display();
    let words = format!(
        "installed as {NAME}, with its data in {data}\n`lull-agent --data \"{data}\" join TOKEN` joins a network, if this machine \
         has not yet; `sc start {NAME}` starts the service now"
    );
    Ok(Done { words, refused })
}

fn info(program: PathBuf, data: &Path) -> ServiceInfo {
    ServiceInfo {
        name: NAME.into(),
        display_name: SHOWN.into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: program,
        launch_arguments: ["--data".into(), data.into(), "service".into(), "run".into()].map(|word: OsString| word).into(),
        dependencies: Vec::new(),
        account_name: Some(account().into()),
        account_password: None,
    }
}

/// What can be set only once the service is there. Gives what the system refused.
fn settings(service: &Service) -> Vec<String> {
    let actions = RESTARTS.map(|delay| ServiceAction { action_type: ServiceActionType::Restart, delay });
    let failures = ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGET_AFTER),
        reboot_msg: None,
        command: None,
        actions: Some(actions.into()),
    };
    let tried = [
        ("description", service.set_description(ABOUT)),
        ("delayed start", service.set_delayed_auto_start(true)),
        ("account of its own", service.set_config_service_sid_info(ServiceSidType::Unrestricted)),
        ("time before a shutdown", service.set_preshutdown_timeout(STOP_HINT)),
        ("restart on failure", service.update_failure_actions(failures)),
        ("restart on an error it reports", service.set_failure_actions_on_non_crash_failures(true)),
    ];
    let mut refused: Vec<String> =
        tried.into_iter().filter_map(|(what, result)| Some(format!("{what}: {}", reason(&result.err()?)))).collect();
    refused.extend(require(service).err().map(|error| format!("required privileges: {error}")));
    refused
}

/// Lists the privileges that the service keeps; all others are taken from it at its start.
fn require(service: &Service) -> io::Result<()> {
    let mut list: Vec<u16> = PRIVILEGES.iter().flat_map(wide).chain([0]).collect();
    let info = SERVICE_REQUIRED_PRIVILEGES_INFOW { pmszRequiredPrivileges: list.as_mut_ptr() };
    // SAFETY: the handle is open, and the list's texts end in a zero and the list in another one.
    done(unsafe {
        ChangeServiceConfig2W(service.raw_handle(), SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, (&raw const info).cast())
    })
}

/// Makes the folder, and gives it and all that is in it to the service's account.
fn open_folder(data: &Path) -> io::Result<()> {
    let access = folder_access()?;
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

fn source() -> String {
    format!(r"SYSTEM\CurrentControlSet\Services\EventLog\Application\{}", events::SOURCE)
}

/// Windows has a file with texts for the ids up to 1000 that are nothing but what is said.
const TEXTS: &str = r"%SystemRoot%\System32\EventCreate.exe";
/// Errors, warnings and information.
const KINDS: u32 = 7;

fn add_source() -> io::Result<()> {
    let mut key: HKEY = ptr::null_mut();
    // SAFETY: the name ends in a zero, and the place is one for a key.
    code(unsafe {
        let (name, mut made) = (wide(source()), 0);
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

/// Stops the service and removes it. Its data stays.
pub fn uninstall() -> Result<Done, ServiceError> {
    let manager = manager(ServiceManagerAccess::CONNECT)?;
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE;
    let service = manager.open_service(NAME, access).map_err(|error| not_there(&error))?;
    stop(&service)?;
    service.delete().map_err(|error| failed("the service cannot be removed", &error))?;
    // SAFETY: the name ends in a zero.
    let _ = code(unsafe { RegDeleteTreeW(HKEY_LOCAL_MACHINE, wide(source()).as_ptr()) });
    let words = format!("{NAME} is removed; its data stays, and `lull-agent --data FOLDER leave` removes that too");
    Ok(Done { words, refused: Vec::new() })
}

fn not_there(error: &ManagerError) -> ServiceError {
    match is_code(error, ERROR_SERVICE_DOES_NOT_EXIST) {
        true => ServiceError("the service is not installed\nhint: `lull-agent service install` installs it".into()),
        false => failed("the service cannot be opened", error),
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
pub fn status(data: PathBuf) -> Result<Standing, ServiceError> {
    let manager = manager(ServiceManagerAccess::CONNECT)?;
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::QUERY_CONFIG;
    let service = manager.open_service(NAME, access).map_err(|error| not_there(&error))?;
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
    Ok(Standing { service: NAME.into(), state: state.into(), process: status.process_id, account, data })
}
