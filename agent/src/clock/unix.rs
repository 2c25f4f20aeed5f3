//! A clock that stands still while the machine sleeps: the monotonic one.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// How long the machine was awake, from some moment on.
pub(super) fn awake() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
