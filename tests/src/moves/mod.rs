//! Programs that are moved while they run: the smallest host for migratable builds, and random programs to try them with.
//!
//! A program is run undisturbed as it is, and as a migratable build that is suspended again and again, each time going
//! on in a fresh instance that knows nothing but the snapshot. Both must end alike: with the same result or trap, and the
//! same memories and globals. Moments are counted in the engine's fuel, so that equal seeds give equal runs.

pub mod differ;
pub mod machine;
pub mod program;
pub mod unwinding;
pub mod wasi;
