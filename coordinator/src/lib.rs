//! The coordinator: takes in jobs, decides which agent runs which task when, and remembers everything in its store.

pub mod access;
pub mod blobs;
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
