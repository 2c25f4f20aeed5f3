//! Time: `timers` is what is due, `wall` the clock that people set, and `history` the hours at which machines are free.

pub mod history;
pub(crate) mod timers;
pub(crate) mod wall;
