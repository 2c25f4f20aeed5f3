//! Who is there: how peers are found and dialled, who gets in, who is a member, and what all of them are told.
//!
//! ```text
//! discovery, dial --> door --> gate --> admission --> members --> gossip
//!                                       enrolment       idle: connections that have served their purpose
//! ```

pub(crate) mod admission;
pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod discovery;
pub(crate) mod door;
pub(crate) mod enrolment;
pub(crate) mod gate;
pub(crate) mod gossip;
pub(crate) mod idle;
pub(crate) mod members;
