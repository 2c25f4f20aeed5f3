//! What others use of the processors, and what memory is free.
//!
//! The agent and its executors do not count as others. Their processor time is added up, ended ones included, and not
//! read process by process: executors come and go between two measurements.

use std::time::{Duration, Instant};

use lull_shared::resources::Machine;

use super::{SensorError, sys};

/// What was read the last time.
pub struct Load {
    counters: sys::Counters,
    ours: Duration,
    at: Instant,
}

impl Load {
    /// The first reading.
    pub fn new() -> Result<Self, SensorError> {
        let counters = sys::Counters::new().map_err(SensorError::Load)?;
        Ok(Self { counters, ours: sys::cpu_time(), at: Instant::now() })
    }

    /// What happened since the last call; call it at most every 200 ms. `executors` is the processor time that the
    /// living executors have had. The share that others use, in percent, and the bytes of memory that are available.
    pub fn measure(&mut self, executors: Duration) -> (u8, u64) {
        self.counters.refresh();
        let (ours, at) = (sys::cpu_time() + executors, Instant::now());
        // An executor that has just died is in neither sum for a moment: then there is less than before.
        let share = own_percent(ours.saturating_sub(self.ours), at - self.at, self.counters.cores());
        (self.ours, self.at) = (ours, at);
        let others = (self.counters.cpu_percent() - share).round().clamp(0.0, 100.0) as u8;
        (others, self.counters.memory_available_bytes())
    }

    /// The machine's fixed facts.
    pub fn machine(&self, engine: String) -> Machine {
        Machine {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cores: u16::try_from(self.counters.cores()).unwrap_or(u16::MAX),
            memory_bytes: self.counters.memory_bytes(),
            engine,
        }
    }
}

/// The share that `cpu` of processor time is of `wall` on so many cores, in percent.
fn own_percent(cpu: Duration, wall: Duration, cores: usize) -> f32 {
    if wall.is_zero() { 0.0 } else { 100.0 * cpu.as_secs_f32() / (wall.as_secs_f32() * cores as f32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Burns the processor in this process for a while.
    fn spin(time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn the_agents_own_work_is_not_that_of_others() {
        let mut load = Load::new().expect("this machine can be measured");
        let (began, before) = (Instant::now(), sys::cpu_time());
        spin(Duration::from_millis(600));
        let (others, available) = load.measure(Duration::ZERO);
        let ours = own_percent(sys::cpu_time() - before, began.elapsed(), load.counters.cores());
        let machine = load.counters.cpu_percent();
        assert!(ours > 1.0, "{ours} % although it was busy all the time");
        assert!((f32::from(others) - (machine - ours).max(0.0)).abs() <= 2.0, "{others} % of {machine} %, {ours} % ours");
        assert!(available > 0);
    }

    #[test]
    fn executors_count_as_the_agents_own_also_when_they_have_ended() {
        let mut load = Load::new().expect("this machine can be measured");
        spin(Duration::from_millis(250));
        let busy = Duration::from_secs(3600);
        assert_eq!(load.measure(busy).0, 0, "an hour of executors explains all of it");
        spin(Duration::from_millis(250));
        let (after, _) = load.measure(Duration::ZERO);
        assert!(after <= 100, "less than before is no reason to panic: {after}");
    }
}
