//! Events in, effects out, with an audit after each turn.

mod admission;
mod agents;
mod explained;
mod hostile;
mod results;
mod sharing;
mod simple;
mod stops;
