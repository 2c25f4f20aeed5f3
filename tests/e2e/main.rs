//! End to end: real processes, real sockets, real stores, real modules.
//!
//! Few tests, each a story. What can be shown on the cores alone is shown there.

mod blobs;
mod busy;
#[cfg(target_os = "linux")]
mod desk;
mod disks;
mod faults;
mod handover;
mod javascript;
mod json;
mod kept_snapshots;
mod liar;
mod logs;
mod moves;
mod owner;
mod policy;
mod private_mesh;
mod projects;
mod publishing;
mod refusals;
mod restored;
mod silence;
mod stragglers;
mod troubles;
mod upgrades;
mod walk;

use lull_tests::cluster::Programs;

/// The programs under test.
const PROGRAMS: Programs = Programs { lull: env!("CARGO_BIN_EXE_lull-e2e"), agent: env!("CARGO_BIN_EXE_lull-agent-e2e") };
