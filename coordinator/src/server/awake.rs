//! A store that answers before anything is begun: a database that wakes up or fails over is waited for.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    pauses::Pauses,
    store::{Store, StoreError, StoreResult},
};

/// Pauses between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What a try has at least, however little was left to wait: a server that is there answers sooner.
const TRY_MIN: Duration = Duration::from_secs(5);

/// Opens a store, for as long as `wait` while it does not answer. What does not pass by itself ends it at once: a wrong
/// password, a database that is not there.
pub(super) async fn open(
    open: impl AsyncFnMut() -> StoreResult<Arc<dyn Store>>,
    wait: Duration,
    shutdown: &CancellationToken,
) -> anyhow::Result<Arc<dyn Store>> {
    open_within(open, wait, TRY_MIN, shutdown).await
}

async fn open_within(
    mut open: impl AsyncFnMut() -> StoreResult<Arc<dyn Store>>,
    wait: Duration,
    try_min: Duration,
    shutdown: &CancellationToken,
) -> anyhow::Result<Arc<dyn Store>> {
    let began = Instant::now();
    let mut pauses = Pauses::new(PAUSE_MIN, PAUSE_MAX);
    let mut told = false;
    loop {
        let patience = wait.saturating_sub(began.elapsed()).max(try_min);
        let opened = shutdown.run_until_cancelled(timeout(patience, open())).await;
        let error = match opened.context("stopped before the store answered")? {
            Ok(Ok(store)) => {
                if told {
                    tracing::info!(waited_s = began.elapsed().as_secs(), "the store answers");
                }
                return Ok(store);
            }
            Ok(Err(error)) => error,
            Err(_) => StoreError::Determinate(anyhow::anyhow!(
                "it has not answered for {}\nhint: look whether its server runs and can be reached from here; `--store-wait` waits \
                 longer for one that is about to start",
                humantime::format_duration(patience)
            )),
        };
        let left = wait.saturating_sub(began.elapsed());
        if !error.passes() || left.is_zero() {
            return Err(error).context("cannot open the store");
        }
        if !told {
            let wait = humantime::format_duration(wait);
            tracing::warn!(%error, "the store does not answer yet; the start waits up to {wait} for it and goes on by itself");
            told = true;
        }
        let pause = pauses.take().min(left);
        shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.context("stopped before the store answered")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        memory::Memory,
        sqlserver::{Fail, Purpose},
    };

    /// Answers these one after the other, and says how often it was asked.
    async fn opened(answers: Vec<StoreResult<()>>, wait: Duration) -> (anyhow::Result<Arc<dyn Store>>, usize) {
        let mut answers = answers.into_iter();
        let mut asked = 0;
        let never = CancellationToken::new();
        let result = open(
            async || {
                asked += 1;
                let answer = answers.next().expect("no more is asked");
                answer.map(|()| Arc::new(Memory::default()) as Arc<dyn Store>)
            },
            wait,
            &never,
        );
        let result = result.await;
        (result, asked)
    }

    fn away() -> StoreResult<()> {
        Err(StoreError::Determinate(anyhow::anyhow!("nobody listens there")))
    }

    #[tokio::test]
    async fn a_store_that_is_away_for_a_moment_is_waited_for_and_no_longer_than_was_asked() {
        let (store, asked) = opened(vec![away(), Ok(())], Duration::from_secs(3600)).await;
        assert!(store.is_ok() && asked == 2);
        let (store, asked) = opened(vec![away()], Duration::ZERO).await;
        assert_eq!(asked, 1);
        assert!(format!("{:#}", store.err().expect("it is away")).contains("nobody listens there"));
    }

    #[tokio::test]
    async fn what_does_not_pass_by_itself_ends_the_start_at_once() {
        for code in [18456, 4060, 208, 262] {
            let fail = |code| Fail::Server { code, message: "x".into(), purpose: Purpose::Read };
            let wrong = Err(StoreError::Determinate(fail(code).into()));
            let (store, asked) = opened(vec![wrong], Duration::from_secs(3600)).await;
            assert!(store.is_err() && asked == 1, "{code}");
            assert!(StoreError::Determinate(fail(40613).into()).passes(), "it wakes");
        }
    }

    #[tokio::test]
    async fn a_store_that_never_answers_is_given_up_when_no_more_is_waited_for_it() {
        let mut tries = 0;
        let silent = async || {
            tries += 1;
            std::future::pending().await
        };
        let short = Duration::from_millis(20);
        let opened = open_within(silent, short, short, &CancellationToken::new()).await;
        let error = format!("{:#}", opened.err().expect("nobody answers"));
        assert!(error.contains("it has not answered for 20ms\nhint: "), "{error}");
        assert_eq!(tries, 1);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_store_can_be_told_to_stop() {
        let stop = CancellationToken::new();
        let opening = open(async || std::future::pending().await, Duration::from_secs(3600), &stop);
        let (opened, ()) = tokio::join!(opening, async { stop.cancel() });
        assert!(opened.is_err());
    }
}
