//! How long a turn waits for company.
//!
//! A commit costs a round trip to the store whatever is in it. While results come in a stream, those that come a moment
//! later may as well go with it. Nobody may be idle for that: only words of agents wait, and only of agents that have
//! twice as many attempts waiting behind what they run, so that what they are told next is not what keeps them from
//! working. And only after a turn that had company itself: the result of a task that runs alone is committed at once.
//!
//! Pure: moments come from outside.

use std::time::Duration;

use tokio::time::Instant;

/// Results in one turn that are a stream.
const CROWD: usize = 16;
/// Results that are worth a round trip of their own.
pub(super) const FULL: usize = 512;
/// The longest wait: half of the work that agents have waiting behind what they run.
pub const WAIT_MAX: Duration = Duration::from_millis(50);

/// What the last turn tells about the next one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Company {
    wait: Duration,
    until: Option<Instant>,
}

impl Company {
    /// Turns wait for so long at most.
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, until: None }
    }

    /// A turn with so many results was committed.
    pub(super) fn note(&mut self, results: usize, now: Instant) {
        self.until = (results >= CROWD).then(|| now + self.wait);
    }

    /// Until when the next turn may wait.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_waits_only_behind_one_that_had_company_and_never_for_long() {
        let (mut company, now) = (Company::new(WAIT_MAX), Instant::now());
        assert_eq!(company.until(now), None);
        company.note(CROWD - 1, now);
        assert_eq!(company.until(now), None, "a task that runs alone does not wait");
        company.note(CROWD, now);
        assert_eq!(company.until(now), Some(now + WAIT_MAX));
        assert_eq!(company.until(now + WAIT_MAX), None);
    }
}
