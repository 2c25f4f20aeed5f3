//! The coordinator: takes in jobs, decides which agent runs which task when, and remembers everything in its store.

pub mod scheduler;
pub mod store;
