//! What can be read off a scheduler: `view` is what is shown, `explain` and `summed` say why a task or a job is where it is, `fleet`
//! what the fleet offers.

pub(crate) mod explain;
pub(crate) mod fleet;
pub(crate) mod summed;
pub mod view;
