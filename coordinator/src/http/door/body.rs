//! Bodies of requests as they come: at some rate at least, and never for ever.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a body may let us wait before its rate counts: a slow line's hiccup.
const GRACE: Duration = Duration::from_secs(10);
/// The least rate, in bytes a second: a modem's.
const RATE_MIN: u64 = 4 * 1024;
/// However fast it comes: the largest blob over the slowest office line.
const TIME_MAX: Duration = Duration::from_secs(4 * 60 * 60);

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body comes too slowly; at least {} kB a second are wanted", RATE_MIN / 1024)]
    TooSlow,
    #[error(transparent)]
    Broken(hyper::Error),
}

/// A body that is cut when its sender is too slow. The time in which nobody wants more of it does not count.
pub(crate) struct Timed {
    inner: Incoming,
    pace: Pace,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// How fast a body came so far.
struct Pace {
    began: Instant,
    waited: Duration,
    waits_since: Option<Instant>,
    bytes: u64,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { began: now, waited: Duration::ZERO, waits_since: None, bytes: 0 }
    }

    fn came(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes as u64;
        if let Some(since) = self.waits_since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// Waits for more, until then at the latest.
    fn waits(&mut self, now: Instant) -> Instant {
        let since = *self.waits_since.get_or_insert(now);
        let allowed = GRACE + Duration::from_secs(self.bytes / RATE_MIN);
        (since + allowed.saturating_sub(self.waited)).min(self.began + TIME_MAX)
    }
}

impl Timed {
    /// A body that has just begun.
    pub(crate) fn new(inner: Incoming) -> Self {
        Self { inner, pace: Pace::new(Instant::now()), alarm: None }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
            self.pace.came(bytes, Instant::now());
            self.alarm = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        let until = self.pace.waits(Instant::now());
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::TooSlow)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Parts of answers that were offered and not taken since.
#[derive(Default)]
pub(crate) struct Untaken(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    offered: BTreeMap<u64, Instant>,
}

impl Untaken {
    /// Since when the one that waits for longest has been waiting.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.table().offered.values().min().copied()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that notes when a part of it was handed on, until the next one is asked for: only then there was room for it.
pub(crate) struct Offered {
    body: axum::body::Body,
    id: u64,
    untaken: Arc<Untaken>,
}

impl Offered {
    /// One more among these.
    pub(crate) fn new(body: axum::body::Body, untaken: Arc<Untaken>) -> Self {
        let id = {
            let mut table = untaken.table();
            table.next += 1;
            table.next
        };
        Self { body, id, untaken }
    }
}

impl Body for Offered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut table = self.untaken.table();
        match &polled {
            Poll::Ready(Some(Ok(_))) => table.offered.insert(self.id, Instant::now()),
            Poll::Ready(_) | Poll::Pending => table.offered.remove(&self.id),
        };
        drop(table);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.untaken.table().offered.remove(&self.id);
    }
}

/// A body with something that is dropped when it has ended or is given up.
pub(crate) struct Kept<T> {
    body: axum::body::Body,
    _until_then: T,
}

impl<T> Kept<T> {
    /// Keeps it as long as the body.
    pub(crate) fn new(body: axum::body::Body, until_then: T) -> Self {
        Self { body, _until_then: until_then }
    }
}

impl<T: Unpin> Body for Kept<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_part_that_nobody_takes_is_noticed_and_an_answer_that_waits_for_news_is_not() {
        let untaken = Arc::<Untaken>::default();
        let parts = futures::stream::iter([Ok::<_, std::io::Error>("a"), Ok("b")]).chain(futures::stream::pending());
        let mut body = Offered::new(axum::body::Body::from_stream(parts), untaken.clone());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut poll = || Pin::new(&mut body).poll_frame(&mut context).is_ready();
        assert_eq!(untaken.since(), None);
        assert!(poll() && untaken.since().is_some(), "nobody has asked for more");
        assert!(poll() && untaken.since().is_some());
        assert!(!poll() && untaken.since().is_none(), "there is room for more, and there is no more");
        let mut other = Offered::new(axum::body::Body::from("c"), untaken.clone());
        assert!(Pin::new(&mut other).poll_frame(&mut Context::from_waker(std::task::Waker::noop())).is_ready());
        assert!(untaken.since().is_some());
        drop(other);
        assert_eq!(untaken.since(), None, "it was given up");
    }

    #[test]
    fn a_body_has_its_grace_and_then_the_time_that_its_bytes_earned() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.waits(start), start + GRACE);
        pace.came(10 * RATE_MIN as usize, start + GRACE / 2);
        let now = start + GRACE / 2;
        assert_eq!(pace.waits(now), now + GRACE / 2 + Duration::from_secs(10));
    }

    #[test]
    fn the_time_in_which_nobody_wants_more_is_not_its_senders() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.came(1, start);
        let later = start + 10 * GRACE;
        assert_eq!(pace.waits(later), later + GRACE);
    }

    #[test]
    fn no_body_lasts_for_ever_however_steadily_it_comes() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.came(usize::MAX / 2, start);
        assert_eq!(pace.waits(start), start + TIME_MAX);
    }
}
