//! Where a service manager starts and stops programs: says what does the same there.

use std::path::PathBuf;

use super::{Done, Orders, Removal, ServiceError, Setup, Standing};

/// Where the unit has its agent's data.
pub fn data_folder() -> Option<PathBuf> {
    None
}

/// What the system's own manager does in place of a command of ours.
pub fn instead(what: &str, command: &str) -> ServiceError {
    ServiceError(format!("Linux {what} services with systemd\nhint: `{command}`"))
}

pub fn install(_: &Setup) -> Result<Done, ServiceError> {
    Err(instead(
        "installs",
        "sudo cp installer/lull-agent.service /etc/systemd/system/ && sudo systemctl enable --now lull-agent",
    ))
}

pub fn uninstall(_: &Removal) -> Result<Done, ServiceError> {
    Err(instead("uninstalls", "sudo systemctl disable --now lull-agent && sudo rm /etc/systemd/system/lull-agent.service"))
}

pub fn status(_: PathBuf) -> Result<Standing, ServiceError> {
    Err(instead("shows", "systemctl status lull-agent"))
}

pub fn run(_: Orders) -> Result<(), ServiceError> {
    Err(instead("starts", "sudo systemctl start lull-agent"))
}

pub fn start_trays() -> Result<Done, ServiceError> {
    Err(ServiceError("on Linux a session starts its tray itself\nhint: `lull-tray` starts one in this session".to_owned()))
}
