//! Attempts: how they end, and what makes one more than one.
//!
//! ```text
//! attempt    ends, and what becomes of the task      remains    logs and usage of those without a result
//! copies     live attempts of one task               stragglers a second copy of one that is slow
//! silence    agents that are out of touch            overtime   agents that do not hold a time limit
//! verify     outputs that are compared               troubled   machines that fail by themselves
//! ```

pub(crate) mod attempt;
pub(crate) mod copies;
pub(crate) mod overtime;
pub(crate) mod remains;
pub(crate) mod silence;
pub(crate) mod stragglers;
pub(crate) mod troubled;
pub(crate) mod verify;
