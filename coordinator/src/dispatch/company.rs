//! How long a turn waits for company.
//!
//! A commit costs a round trip to the store whatever is in it. While results come in a stream, those that come a moment
//! later may as well go with it. Nobody may be idle for that: only words of agents wait, and only of agents that have
//! another attempt waiting behind what they run, so that what they are told next is not what keeps them from working. And
//! only after a turn that had company itself: the result of a task that runs alone is committed at once.
//!
//! Pure: moments come from outside.

use std::time::Duration;

use tokio::time::Instant;

/// Results in one turn that are a stream.
const CROWD: usize = 16;
/// Results that are worth a round trip of their own.
pub const FULL: usize = 512;
/// A turn waits so many times as long as the last commit took: a fast store gets small turns, a far one large ones.
const TIMES: u32 = 8;
/// The longest wait: half of the work that agents have waiting behind what they run.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// What the last turn tells about the next one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Company {
    until: Option<Instant>,
}

impl Company {
    /// A turn with so many results was committed, which took so long.
    pub fn note(&mut self, results: usize, took: Duration, now: Instant) {
        self.until = (results >= CROWD).then(|| now + took.saturating_mul(TIMES).min(WAIT_MAX));
    }

    /// Until when the next turn may wait.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_waits_only_behind_one_that_had_company_and_never_for_long() {
        let (mut company, now, took) = (Company::default(), Instant::now(), Duration::from_millis(2));
        assert_eq!(company.until(now), None);
        company.note(CROWD - 1, took, now);
        assert_eq!(company.until(now), None, "a task that runs alone does not wait");
        company.note(CROWD, took, now);
        assert_eq!(company.until(now), Some(now + 8 * took));
        assert_eq!(company.until(now + 8 * took), None);
        company.note(FULL, Duration::from_secs(9), now);
        assert_eq!(company.until(now), Some(now + WAIT_MAX));
    }
}
