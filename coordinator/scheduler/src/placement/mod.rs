//! What starts where: `start` asks `feasible` whether it may, `rank` which job goes first, `select` which agent is best,
//! `holders` who has its code, and `build` which of a version's builds runs. `rebalance` moves what runs to where it is better off.

pub mod build;
pub(crate) mod feasible;
pub(crate) mod holders;
pub(crate) mod rank;
pub(crate) mod rebalance;
pub(crate) mod select;
pub(crate) mod start;
