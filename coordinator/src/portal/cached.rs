//! What many ask for and one finds out: shown to all until it is too old.

use std::{
    hash::Hash,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;
use tokio::time::Instant;

use crate::http::door::error::Answer;

/// How long it is shown why a job or a task is where it is: that asks about every agent.
const EXPLAINED_FRESH: Duration = Duration::from_secs(1);
/// Jobs and tasks, each, of which that is kept: those that people look at. Of others it is asked again.
const EXPLAINED_MAX: NonZeroUsize = NonZeroUsize::new(128).expect("more than none");

/// Something that is found out at most once in a while, by one for all who ask.
pub(super) struct Cached<T>(tokio::sync::Mutex<Option<(Instant, Arc<T>)>>);

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(None))
    }
}

impl<T> Cached<T> {
    /// What is known, unless it is older than this.
    pub(super) async fn fresh(&self, within: Duration, find: impl Future<Output = Answer<T>>) -> Answer<Arc<T>> {
        let mut known = self.0.lock().await;
        if let Some((at, found)) = &*known
            && at.elapsed() < within
        {
            return Ok(found.clone());
        }
        let found = Arc::new(find.await?);
        *known = Some((Instant::now(), found.clone()));
        Ok(found)
    }
}

/// The same of each of several things, of which those that were asked for last are kept.
pub(super) struct CachedBy<K, T>(Mutex<LruCache<K, Arc<Cached<T>>>>);

impl<K: Hash + Eq, T> Default for CachedBy<K, T> {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(EXPLAINED_MAX)))
    }
}

impl<K: Hash + Eq, T> CachedBy<K, T> {
    /// What is known of it, unless that is older than a second.
    pub(super) async fn fresh(&self, of: K, find: impl Future<Output = Answer<T>>) -> Answer<Arc<T>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(of, Arc::default).clone();
        known.fresh(EXPLAINED_FRESH, find).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::http::door::error::Refused;

    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_and_nobody_waits_for_another_thing() {
        let (known, asked) = (CachedBy::<u64, u64>::default(), AtomicU64::new(0));
        let find = || async { Ok(asked.fetch_add(1, Ordering::Relaxed)) };
        let held = known.0.lock().expect("whole").get_or_insert(9, Arc::default).clone();
        let _other = held.0.lock().await;
        let all = futures::future::join_all((0..10).map(|_| known.fresh(7, find()))).await;
        assert!(all.into_iter().all(|found| *found.expect("found") == 0), "one looked for all");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let failing = known.fresh(8, async { Err(Refused::unavailable("not now")) }).await;
        assert!(failing.is_err());
        assert_eq!(*known.fresh(8, find()).await.expect("what failed is asked again"), 1);
    }
}
