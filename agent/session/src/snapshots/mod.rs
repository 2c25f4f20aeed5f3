//! Snapshots: `moving` writes down what runs and goes on from it, `keeping` holds those of other agents.

pub(crate) mod keeping;
pub(crate) mod moving;
