//! What a task costs the store, measured on demand:
//! `cargo test -p lull-coordinator --lib -- --ignored --nocapture what_a_task_costs`.

use std::{sync::Arc, time::Instant};

use super::{Backend, InFile, World, sample::*};

const TASKS: u32 = 100_000;
const TURN: u32 = 500;

/// Processor time of this process so far, in microseconds, of all threads, in the kernel and outside.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux says");
    let after_name = stat.rsplit(')').next().expect("the name is in brackets");
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    ticks * 10_000
}

#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_task_costs() {
    let backend: Arc<dyn Backend> = InFile::backend();
    let world = World::on(backend).await.peopled(50).await;
    world.commit(&[submitted(1, TASKS)]).await;
    let output = [b'x'; 64];
    let (cpu, wall) = (cpu_us(), Instant::now());
    let mut commits = 0;
    for first in (0..TASKS).step_by(TURN as usize) {
        let turn: Vec<_> = (first..first + TURN).map(|i| started(attempt(1, i, 1), 1 + u64::from(i) % 50, 10)).collect();
        world.commit(&turn).await;
        let turn: Vec<_> =
            (first..first + TURN).map(|i| succeeded(attempt(1, i, 1), 1 + u64::from(i) % 50, 11, &output)).collect();
        world.commit(&turn).await;
        commits += 2;
    }
    let (cpu, wall) = (cpu_us() - cpu, wall.elapsed());
    println!(
        "{TASKS} tasks, each started and ended, {commits} commits: {:.1} us of processor time and {:.1} us of time per task",
        cpu as f64 / f64::from(TASKS),
        wall.as_micros() as f64 / f64::from(TASKS)
    );
}
