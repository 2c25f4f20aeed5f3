//! The coordinator: takes in jobs, decides which agent runs which task when, and remembers everything in its store.

pub mod access;
pub mod api;
pub mod blobs;
pub mod cli;
pub mod client;
pub mod clock;
pub mod dispatch;
pub mod http;
pub mod inputs;
pub mod keys;
pub mod network;
pub mod scheduler;
pub mod server;
pub mod store;
pub mod submit;
