//! Who looks on: told of what changed, rarely, and not at all while nobody does.

use std::time::Duration;

use tokio::time::Instant;

use crate::{ipc::Company, status::Status};

/// Companions are told at most so often.
const GAP: Duration = Duration::from_secs(1);

/// The companions, and what they were told.
pub(super) struct Audience {
    company: Company,
    /// What they were shown last, as far as it matters.
    shown: Option<Status>,
    looked: Option<Instant>,
    /// Whether anything may have changed since.
    stale: bool,
}

impl Audience {
    pub(super) fn new(company: Company) -> Self {
        Self { company, shown: None, looked: None, stale: false }
    }

    /// Whether functions run.
    pub(super) fn working(&self, working: bool) {
        self.company.working(working);
    }

    /// A turn in which something was handled.
    pub(super) fn something_happened(&mut self) {
        self.stale = true;
    }

    /// When it is to be looked what to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.stale && !self.company.is_empty()).then(|| self.looked.map_or_else(Instant::now, |looked| looked + GAP))
    }

    /// Whether to look now.
    pub(super) fn looks(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }

    /// Tells this, if it is news.
    pub(super) fn show(&mut self, status: Status) {
        (self.looked, self.stale) = (Some(Instant::now()), false);
        let settled = status.settled();
        if self.shown.as_ref() != Some(&settled) {
            self.shown = Some(settled);
            self.company.show(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_woken_to_tell_those_who_are_not_there() {
        let mut audience = Audience::new(Company::default());
        audience.something_happened();
        assert_eq!((audience.due(), audience.looks()), (None, false));
    }
}
