//! Events in, effects out, with an audit after each turn.

mod attempts;
mod bounds;
mod decisions;
mod fleet;
mod jobs;
mod placement;
mod random;
mod snapshots;
pub(crate) mod support;
mod tasks;
mod time;
mod views;
