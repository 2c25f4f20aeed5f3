//! What goes wrong, and what it costs.

pub(in crate::sim) mod faults;
pub(in crate::sim) mod outages;
