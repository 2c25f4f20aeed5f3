//! A clock that stands still while the machine sleeps. Windows' monotonic clock goes on then, so what it slept is left out.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use windows_sys::Win32::System::{SystemInformation::GetTickCount64, WindowsProgramming::QueryUnbiasedInterruptTime};

/// Both clocks that tell what was slept go on in steps: what they differ by in one is no sleep.
const STEP: Duration = Duration::from_secs(1);

/// How long the machine was awake, from some moment on.
pub(super) fn awake() -> Duration {
    static START: LazyLock<(Instant, Duration)> = LazyLock::new(|| (Instant::now(), asleep()));
    static SLEPT: Mutex<Duration> = Mutex::new(Duration::ZERO);
    let (start, before) = *START;
    let fresh = asleep().saturating_sub(before);
    let mut slept = SLEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if fresh > *slept + STEP {
        *slept = fresh;
    }
    start.elapsed().saturating_sub(*slept)
}

/// How long the machine has slept since it was started.
fn asleep() -> Duration {
    let mut awake = 0;
    // SAFETY: the first only asks, and the second has a valid place; it leaves the zero there if it fails.
    let (all, told) = unsafe { (Duration::from_millis(GetTickCount64()), QueryUnbiasedInterruptTime(&mut awake)) };
    if told == 0 { Duration::ZERO } else { all.saturating_sub(Duration::from_nanos(awake.saturating_mul(100))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_awake_has_a_clock_that_goes_on() {
        let (before, began) = (awake(), Instant::now());
        while began.elapsed() < Duration::from_millis(50) {
            std::thread::yield_now();
        }
        let passed = awake().saturating_sub(before);
        assert!(passed >= Duration::from_millis(50) && passed < Duration::from_secs(30), "{passed:?}");
    }
}
