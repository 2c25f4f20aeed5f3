//! Waiting in a deterministic preview 1 guest: `poll_oneoff` without real time.
//!
//! Input is always there and output is always taken, so a poll that asks for either is answered at once; otherwise
//! the clock jumps to the earliest deadline.

use wasmtime::{Caller, Extern, Linker};

use crate::executor::inside::{guest::Guest, time::VirtualClock};

// Sizes and codes of wasi_snapshot_preview1.
const SUBSCRIPTION_BYTES: usize = 48;
const EVENT_BYTES: usize = 32;
const SUBSCRIPTIONS_MAX: usize = 4096;
const SUCCESS: i32 = 0;
const FAULT: i32 = 21;
const INVALID: i32 = 28;
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;
const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;
const ABSOLUTE: u16 = 1;

/// Puts this `poll_oneoff` in the place of the engine's, which sleeps.
pub(in crate::executor) fn add_to_linker(linker: &mut Linker<Guest>, clock: fn(&Guest) -> &VirtualClock) -> wasmtime::Result<()> {
    let poll = move |mut caller: Caller<'_, Guest>, subscriptions: u32, events: u32, count: u32, written: u32| -> i32 {
        let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return FAULT };
        let clock = clock(caller.data()).clone();
        let memory = memory.data_mut(&mut caller);
        match answer(memory, &clock, subscriptions as usize, events as usize, count as usize, written as usize) {
            Ok(()) => SUCCESS,
            Err(code) => code,
        }
    };
    linker.func_wrap("wasi_snapshot_preview1", "poll_oneoff", poll)?;
    Ok(())
}

fn answer(
    memory: &mut [u8],
    clock: &VirtualClock,
    subscriptions: usize,
    events: usize,
    count: usize,
    written: usize,
) -> Result<(), i32> {
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Err(INVALID);
    }
    let asked = range(memory, subscriptions, count * SUBSCRIPTION_BYTES)?;
    let asked =
        asked.chunks_exact(SUBSCRIPTION_BYTES).map(|bytes| Subscription::read(bytes, clock)).collect::<Result<Vec<_>, _>>()?;
    let mut ready = asked.iter().filter(|one| matches!(one.event, Event::Stream(_))).collect::<Vec<_>>();
    if ready.is_empty() {
        let deadlines = asked.iter().filter_map(|one| if let Event::Deadline(at) = one.event { Some(at) } else { None });
        let earliest = deadlines.min().ok_or(INVALID)?;
        clock.advance(earliest);
        ready.extend(asked.iter().filter(|one| one.event == Event::Deadline(earliest)));
    }
    let out = range(memory, events, ready.len() * EVENT_BYTES)?;
    for (bytes, one) in out.chunks_exact_mut(EVENT_BYTES).zip(&ready) {
        bytes.fill(0);
        bytes[..8].copy_from_slice(&one.userdata);
        if let Event::Stream(kind) = one.event {
            bytes[10] = kind;
            bytes[16..24].copy_from_slice(&1_u64.to_le_bytes());
        }
    }
    let count = ready.len() as u32;
    range(memory, written, 4)?.copy_from_slice(&count.to_le_bytes());
    Ok(())
}

struct Subscription {
    userdata: [u8; 8],
    event: Event,
}

#[derive(PartialEq)]
enum Event {
    Deadline(u64),
    Stream(u8),
}

impl Subscription {
    fn read(bytes: &[u8], clock: &VirtualClock) -> Result<Self, i32> {
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let event = match bytes[8] {
            CLOCK if matches!(short(16), REALTIME | MONOTONIC) => {
                let absolute = u16::from_le_bytes([bytes[40], bytes[41]]) & ABSOLUTE != 0;
                Event::Deadline(if absolute { long(24) } else { clock.peek().saturating_add(long(24)) })
            }
            kind @ (FD_READ | FD_WRITE) => Event::Stream(kind),
            _ => return Err(INVALID),
        };
        Ok(Self { userdata: long(0).to_le_bytes(), event })
    }
}

fn range(memory: &mut [u8], start: usize, len: usize) -> Result<&mut [u8], i32> {
    start.checked_add(len).and_then(|end| memory.get_mut(start..end)).ok_or(FAULT)
}

#[cfg(test)]
mod tests {
    use lull_shared::time::Timestamp;

    use super::*;

    fn subscription(userdata: u64, kind: u8, timeout: u64) -> Vec<u8> {
        let mut bytes = vec![0; SUBSCRIPTION_BYTES];
        bytes[..8].copy_from_slice(&userdata.to_le_bytes());
        bytes[8] = kind;
        bytes[16..20].copy_from_slice(&MONOTONIC.to_le_bytes());
        bytes[24..32].copy_from_slice(&timeout.to_le_bytes());
        bytes
    }

    fn poll(subscriptions: &[Vec<u8>], clock: &VirtualClock) -> Result<Vec<u64>, i32> {
        let mut memory = subscriptions.concat();
        let events = memory.len();
        memory.resize(events + subscriptions.len() * EVENT_BYTES + 4, 0);
        let written = memory.len() - 4;
        answer(&mut memory, clock, 0, events, subscriptions.len(), written)?;
        let count = memory[written] as usize;
        Ok((0..count).map(|i| u64::from(memory[events + i * EVENT_BYTES])).collect())
    }

    #[test]
    fn sleeping_takes_no_time_and_the_earliest_deadline_wins() {
        let clock = VirtualClock::starting(Timestamp::from_millis(1));
        assert_eq!(poll(&[subscription(7, CLOCK, 900), subscription(8, CLOCK, 500)], &clock), Ok(vec![8]));
        assert_eq!(clock.read(), 1_000_500);
    }

    #[test]
    fn a_stream_is_ready_before_any_deadline() {
        let clock = VirtualClock::starting(Timestamp::from_millis(0));
        assert_eq!(poll(&[subscription(7, CLOCK, 900), subscription(9, FD_READ, 0)], &clock), Ok(vec![9]));
        assert_eq!(clock.read(), 0);
    }

    #[test]
    fn nonsense_is_an_error_and_no_fault() {
        let clock = VirtualClock::starting(Timestamp::from_millis(0));
        assert_eq!(poll(&[], &clock), Err(INVALID));
        assert_eq!(poll(&[subscription(1, 77, 0)], &clock), Err(INVALID));
        assert_eq!(answer(&mut [0; 64], &clock, 40, 0, 1, 0), Err(FAULT));
        assert_eq!(answer(&mut [0; 64], &clock, usize::MAX, 0, 1, 0), Err(FAULT));
    }
}
