//! What a run is held against: the promises, a second set of books, and what came of it all.

pub(in crate::sim) mod final_check;
pub(in crate::sim) mod ledger;
pub(in crate::sim) mod promise;
pub(in crate::sim) mod report;
pub(in crate::sim) mod trace;
pub(in crate::sim) mod waste;
