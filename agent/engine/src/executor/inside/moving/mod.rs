//! Running migratable builds: suspending an attempt into a snapshot, and going on from one.
//!
//! ```text
//! agent: suspend | checkpoint --signal--> asks: raises the flag in the guest's memory
//!   the guest polls, unwinds its stack into its own memory, and returns
//!     save: body of the snapshot --pieces--> agent       then the executor ends, or rewinds the guest in place
//! agent: run with a snapshot's body ----pipe----> restore: a fresh instance is filled, the guest rewinds, and goes on
//! ```
//! What a build must export ([`crate::migratable::contract`]) is looked up once ([`shape`]). The guest's world is the
//! one of plain builds, by the very same code: all of it that has a state is ours already (input, output, log, clock,
//! randomness), but for the table of descriptors, which [`descriptors`] follows. The bytes of snapshots are
//! [`crate::snapshot`]'s.

use lull_shared::{job::Grants, message::ModuleKind};
use serde::{Deserialize, Serialize};

pub(in crate::executor) mod asks;
mod descriptors;
mod live;
mod restore;
mod run;
mod save;
mod shape;

pub(in crate::executor) use self::{
    descriptors::Change,
    restore::Arriving,
    run::{Attempt, Ended, Meter, Movable},
};

/// Why attempts of a job cannot be moved, whatever their build: they run plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Unmovable {
    #[error("components cannot be moved")]
    Component,
    #[error("an attempt with a scratch folder cannot be moved: its open files stay where they are")]
    Scratch,
    #[error("an attempt that sees the machine's clock cannot be moved: another machine's shows another time")]
    Clock,
}

/// Whether attempts with these grants can be moved. Real randomness has no state and does not hinder it.
pub fn movable(kind: ModuleKind, grants: Grants) -> Result<(), Unmovable> {
    match (kind, grants) {
        (ModuleKind::Component, _) => Err(Unmovable::Component),
        (ModuleKind::Preview1, Grants { scratch: true, .. }) => Err(Unmovable::Scratch),
        (ModuleKind::Preview1, Grants { clock: true, .. }) => Err(Unmovable::Clock),
        (ModuleKind::Preview1, Grants { scratch: false, clock: false, random: _ }) => Ok(()),
    }
}
