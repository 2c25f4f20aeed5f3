//! Agents: what each is and has, what it says, and what is said to it.
//!
//! ```text
//! agents, roster   every agent, by number and by room     connection, words   what they say
//! outgoing         orders, gathered for each turn         speed               how fast each machine is
//! waking           machines that sleep
//! twins, breaches, foreign, burden                        agents that are not as they should be
//! ```

pub(crate) mod agents;
pub(crate) mod breaches;
pub(crate) mod burden;
pub(crate) mod connection;
pub mod foreign;
pub(crate) mod outgoing;
pub(crate) mod roster;
pub(crate) mod speed;
pub(crate) mod twins;
pub(crate) mod waking;
pub(crate) mod words;
