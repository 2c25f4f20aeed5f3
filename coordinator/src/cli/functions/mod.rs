//! Functions: how their projects are built and tried, how they are published, and what it costs to move them.

pub(in crate::cli) mod develop;
pub(in crate::cli) mod diff;
pub(in crate::cli) mod func;
pub(in crate::cli) mod local;
pub(in crate::cli) mod new;
pub(in crate::cli) mod project;
pub(in crate::cli) mod publish;
pub(in crate::cli) mod sample;
pub(in crate::cli) mod source;
pub(in crate::cli) mod watch;
