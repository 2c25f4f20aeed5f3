//! The network: its agents, its coordinators, its policy and its database.

pub(in crate::cli) mod agent;
pub(in crate::cli) mod audit;
pub(in crate::cli) mod db;
pub(in crate::cli) mod heat;
pub(in crate::cli) mod net;
pub(in crate::cli) mod policy;
pub(in crate::cli) mod portal;
pub(in crate::cli) mod server;
pub(in crate::cli) mod service;
pub(in crate::cli) mod status;
pub(in crate::cli) mod token;
pub(in crate::cli) mod upgrade;
