//! Events in, effects out, with an audit after each turn.

mod admission;
mod agent;
mod agents;
mod explained;
mod foreign;
mod hostile;
mod hours;
mod indexes;
mod keeping;
mod moving;
mod overtime;
mod parts;
mod random;
mod rebalance;
mod results;
mod rivals;
mod sharing;
mod silence;
mod simple;
mod stops;
mod tasks;
mod twins;
mod verification;
mod waking;
mod wall;
mod wishes;
