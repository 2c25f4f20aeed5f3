//! The program on an office machine: it offers what its owner leaves free and runs functions there.

pub mod executor;
