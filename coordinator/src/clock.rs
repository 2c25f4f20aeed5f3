//! EDGE: the one place where the coordinator reads the clock.

use std::sync::atomic::{AtomicI64, Ordering};

use lull_shared::time::Timestamp;

/// UTC now, never earlier than an earlier answer of this process.
pub fn now() -> Timestamp {
    static LATEST: AtomicI64 = AtomicI64::new(i64::MIN);
    let wall = jiff::Timestamp::now().as_microsecond();
    Timestamp(LATEST.fetch_max(wall, Ordering::Relaxed).max(wall))
}
