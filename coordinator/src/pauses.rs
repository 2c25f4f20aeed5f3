//! Pauses between tries of what is tried until it works.

use std::{fmt::Display, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Pauses without an end, which grow from the first to the second and are never quite alike.
pub(crate) struct Pauses {
    growing: ExponentialBackoff,
    max: Duration,
}

impl Pauses {
    /// The first is about `min`; none is much longer than `max`.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        let growing = ExponentialBuilder::default().with_min_delay(min).with_max_delay(max).with_jitter().without_max_times();
        Self { growing: growing.build(), max }
    }

    /// The next one.
    pub(crate) fn take(&mut self) -> Duration {
        self.growing.next().unwrap_or(self.max)
    }

    /// Tries until it works, and says in the log each time what does not: `the policy cannot be read`.
    pub(crate) async fn insist<T, E: Display, F: Future<Output = Result<T, E>>>(
        mut self,
        wrong: &str,
        mut attempt: impl FnMut() -> F,
    ) -> T {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => {
                    let pause = self.take();
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "{wrong}; trying again");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}
