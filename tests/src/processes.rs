//! What running processes use, read off the operating system.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

/// Processor time of a process, of the children it has waited for, and of those that still run.
pub fn cpu_of_tree(pid: u32) -> Duration {
    let own = stat(pid).map_or(Duration::ZERO, |stat| stat.own + stat.waited_for);
    children(pid).into_iter().map(cpu_of_tree).fold(own, |sum, cpu| sum + cpu)
}

/// Processor time of a process alone.
pub fn cpu_of(pid: u32) -> Duration {
    stat(pid).map_or(Duration::ZERO, |stat| stat.own)
}

/// What is in memory of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    pub resident_bytes: u64,
    /// The part that is the process's own: not in any file.
    pub anonymous_bytes: u64,
}

/// What of one process is in memory.
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Memory { resident_bytes: bytes("VmRSS:"), anonymous_bytes: bytes("RssAnon:") }
}

/// Whether the operating system has stopped a process.
pub fn is_stopped(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// The processes that this one started and that still run.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// Stops a process as it is, in the middle of whatever it does.
pub fn freeze(pid: u32) {
    signal(pid, Signal::STOP);
}

/// Lets it go on.
pub fn thaw(pid: u32) {
    signal(pid, Signal::CONT);
}

/// Asks it to end, as a service manager does.
pub fn terminate(pid: u32) {
    signal(pid, Signal::TERM);
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process's number");
    kill_process(pid, signal).expect("a process of ours that was not waited for");
}

struct Stat {
    own: Duration,
    waited_for: Duration,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields count from behind it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    let time = |ticks: u64| Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND);
    Some(Stat { own: time(ticks(11)? + ticks(12)?), waited_for: time(ticks(13)? + ticks(14)?) })
}

/// `getconf CLK_TCK`: the unit of `/proc/PID/stat` on every Linux of today.
const TICKS_PER_SECOND: u64 = 100;
