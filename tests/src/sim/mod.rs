//! A world on a seed: the scheduler, the agents' sessions and a store as they are, everything around them simulated.
//!
//! ```text
//!   users, owners, faults --+         one queue, ordered by (time, number); one seed
//!                           v
//!   machines: Session <-- links (late, cut, silent) --> coordinators: Scheduler, Turn, Framer --> Faulty(Memory)
//!                           |                                                |
//!                           +---------> ledger, checks: the promises <-------+
//! ```
//! Time is virtual: a night of ten thousand machines takes minutes. The same seed gives the same run, to the last
//! event; `digest` says so. Whatever breaks a promise ends the run with a [`Violation`], and [`shrink`] looks for a
//! smaller world that breaks it too.

mod coordinator;
mod dice;
mod events;
mod judged;
mod machines;
mod misfortune;
pub mod options;
mod people;
pub mod shrink;
mod store;
pub mod week;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::world::World;
pub use self::{
    judged::{
        promise::{Promise, Violation},
        report::Summary,
    },
    options::{Kind, Level, Misfortune, Mutation, Options},
};

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub summary: Summary,
    /// Where the idle time went, if this was a week.
    pub week: Option<week::Figures>,
    /// Equal for equal options, to the last event.
    pub digest: u64,
    pub violation: Option<Violation>,
    /// The last events that concern what was violated, if the run was traced.
    pub trace: Vec<String>,
}

/// Runs a world to its end, or to the first promise that breaks.
pub fn run(options: &Options) -> Outcome {
    let mut world = World::new(options.clone());
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match ran {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => Some(Violation::of_panic(&panic)),
    };
    let trace = violation.as_ref().map(|violation| world.trace.about(&violation.about)).unwrap_or_default();
    Outcome { summary: world.summary(), week: world.week.clone(), digest: world.digest(), violation, trace }
}
