//! Where a service manager starts and stops programs: says what does the same there.

use std::path::PathBuf;

use lull_agent::service::{Done, ServiceError, Standing, instead};
use tracing_subscriber::EnvFilter;

use super::Setup;
use crate::server::ServerConfig;

/// Where the unit has its coordinator's data.
pub fn data_folder() -> Option<PathBuf> {
    None
}

pub fn install(_: &Setup) -> Result<Done, ServiceError> {
    Err(instead(
        "installs",
        "sudo cp installer/lull-coordinator.service /etc/systemd/system/ && sudo systemctl enable --now lull-coordinator",
    ))
}

pub fn uninstall() -> Result<Done, ServiceError> {
    Err(instead(
        "uninstalls",
        "sudo systemctl disable --now lull-coordinator && sudo rm /etc/systemd/system/lull-coordinator.service",
    ))
}

pub fn status(_: PathBuf) -> Result<Standing, ServiceError> {
    Err(instead("shows", "systemctl status lull-coordinator"))
}

pub fn run(_: PathBuf, _: ServerConfig, _: EnvFilter) -> Result<(), ServiceError> {
    Err(instead("starts", "sudo systemctl start lull-coordinator"))
}
