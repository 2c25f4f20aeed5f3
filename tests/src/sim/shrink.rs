//! Looks for a smaller world that breaks the same promise.

use std::time::{Duration, Instant};

use clap::ValueEnum as _;

use super::{Kind, Options, Outcome, run};

/// The smallest failing run that was found within the time, traced; none if the run does not fail.
pub fn shrink(options: &Options, within: Duration) -> Option<(Options, Outcome)> {
    let until = Instant::now() + within;
    let first = run(options);
    let promise = first.violation.as_ref()?.promise;
    let mut best = options.clone();
    let still_fails = |candidate: &Options| {
        Instant::now() < until && run(candidate).violation.is_some_and(|violation| violation.promise == promise)
    };
    while let Some(smaller) = candidates(&best).into_iter().find(still_fails) {
        best = smaller;
    }
    let outcome = run(&Options { trace: true, ..best.clone() });
    Some((best, outcome))
}

/// Smaller worlds, those that would help most first.
fn candidates(options: &Options) -> Vec<Options> {
    let mut smaller = Vec::new();
    for parts in [8, 2] {
        if options.tasks / parts > 0 {
            smaller.push(Options { tasks: options.tasks / parts, ..options.clone() });
        }
        if options.agents / parts > 0 {
            smaller.push(Options { agents: options.agents / parts, ..options.clone() });
        }
    }
    if options.hours > 1 {
        smaller.push(Options { hours: options.hours / 2, ..options.clone() });
    }
    for kind in Kind::value_variants() {
        if !options.no.contains(kind) {
            let mut without = options.clone();
            without.no.insert(*kind);
            smaller.push(without);
        }
    }
    smaller
}
