//! What the machine's processors and memory do, and this process's own share.

use std::time::Duration;

use sysinfo::{MemoryRefreshKind, System};

/// The machine's counters, as they were at the last look.
pub(super) struct Counters(System);

impl Counters {
    /// The first look; or why it cannot be measured.
    pub(super) fn new() -> Result<Self, String> {
        let mut counters = Self(System::new().map_err(|error| error.to_string())?);
        counters.refresh();
        Ok(counters)
    }

    /// Looks again.
    pub(super) fn refresh(&mut self) {
        self.0.refresh_cpu_usage();
        self.0.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    }

    pub(super) fn cores(&self) -> usize {
        self.0.cpus().len().max(1)
    }

    /// The share of all processors that was used between the last two looks.
    pub(super) fn cpu_percent(&self) -> f32 {
        self.0.global_cpu_usage()
    }

    /// What programs could still get without swapping.
    pub(super) fn memory_available_bytes(&self) -> u64 {
        self.0.available_memory()
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.0.total_memory()
    }
}

/// Processor time of this process and of its children that have ended, since it started.
pub(super) fn cpu_time() -> Duration {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN].into_iter().map(usage).sum()
}

fn usage(who: libc::c_int) -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole `rusage`, which the kernel fills, and of which zero bytes are valid already.
    let usage = unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn time(time: libc::timeval) -> Duration {
    let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec);
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
