//! Jobs: how they come in, how their tasks stand, what each submitter may have under way, and how they end.
//!
//! ```text
//! active      all that have not ended        job, tasks   one job, and its tasks by index
//! admission   jobs in and cancelled          holding      what each submitter may have under way
//! share       whose turn it is
//! demand      what a job wants of an agent   ending       stops, ends, dependants, windows
//! retry       pauses before the next try     retrying     an ended job runs again
//! ```

pub(crate) mod active;
pub(crate) mod admission;
pub(crate) mod demand;
pub(crate) mod ending;
pub mod holding;
pub(crate) mod job;
pub(crate) mod retry;
pub(crate) mod retrying;
pub(crate) mod share;
pub(crate) mod tasks;
