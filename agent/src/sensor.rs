//! Measures the machine about once a second: what others use of its processors, and what memory is free.
//!
//! The agent and its executors do not count as others. Their processes are named, not searched for: reading every
//! process of an office machine would cost more than all the rest of an idle agent.

use lull_shared::resources::Machine;
use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::guard::Sample;

/// The machine cannot be measured.
#[derive(Debug, thiserror::Error)]
#[error("this machine's processors and memory cannot be measured: {0}")]
pub struct SensorError(String);

/// What was read the last time.
pub struct Sensor {
    system: System,
    own: Pid,
    cores: f32,
}

impl Sensor {
    /// A sensor that has taken its first reading.
    pub fn new() -> Result<Self, SensorError> {
        let mut system = System::new().map_err(|error| SensorError(error.to_string()))?;
        system.refresh_cpu_usage();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let cores = system.cpus().len().max(1) as f32;
        Ok(Self { system, own: Pid::from_u32(std::process::id()), cores })
    }

    /// What happened since the last call; call it at most every 200 ms. `executors` are the agent's own processes.
    pub fn sample(&mut self, executors: &[u32]) -> Sample {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let own: Vec<Pid> = executors.iter().map(|pid| Pid::from_u32(*pid)).chain([self.own]).collect();
        let what = ProcessRefreshKind::nothing().with_cpu().without_tasks();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&own), true, what);
        let ours: f32 = own.iter().filter_map(|pid| self.system.process(*pid)).map(sysinfo::Process::cpu_usage).sum();
        let others = self.system.global_cpu_usage() - ours / self.cores;
        Sample {
            cpu_others_percent: others.round().clamp(0.0, 100.0) as u8,
            memory_available_bytes: self.system.available_memory(),
        }
    }

    /// The machine's fixed facts.
    pub fn machine(&self, engine: String) -> Machine {
        Machine {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cores: self.cores as u16,
            memory_bytes: self.system.total_memory(),
            engine,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

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
        let mut sensor = Sensor::new().expect("this machine can be measured");
        // A process that has had no time at all yet has nothing to be compared with.
        spin(Duration::from_millis(100));
        sensor.sample(&[]);
        spin(Duration::from_millis(600));
        let sample = sensor.sample(&[]);
        let machine = sensor.system.global_cpu_usage();
        let ours = sensor.system.process(sensor.own).expect("this process").cpu_usage() / sensor.cores;
        assert!(ours > 1.0, "{ours} % although it was busy all the time");
        assert!((f32::from(sample.cpu_others_percent) - (machine - ours)).abs() <= 1.0, "{sample:?} of {machine} %");
        assert!(sample.memory_available_bytes > 0);
    }
}
