//! What people type: amounts, inputs, moments, jobs and tasks.

pub mod amount;
pub mod input;
pub mod moment;
pub mod selector;
