//! Snapshots of running attempts: `moving` is where tasks go on, `keeping` has another agent keep a copy, and `kept_snapshots` says
//! who keeps which.

pub(crate) mod keeping;
pub(crate) mod kept_snapshots;
pub(crate) mod moving;
