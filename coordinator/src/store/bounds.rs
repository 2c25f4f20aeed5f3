//! What every backend keeps at most of a text or a number that somebody else chose.
//!
//! All backends cut in the same way before they store, so that the same changes read back the same everywhere. Texts
//! are counted in UTF-16 units, as SQL Server's columns do, and hold no NUL, which some servers cannot keep in text.

use lull_shared::{
    limits::LABELS_MAX,
    resources::{Labels, Machine},
    state::{Failure, Usage},
};

use super::record::CoordinatorRecord;

/// Names of people, jobs, functions, machines: twice what is let in anywhere, since indexes hold them.
pub(super) const NAME_UNITS_MAX: usize = 256;
/// Reasons, details and messages: half a page is enough for a person, the log has the rest.
pub(super) const REASON_UNITS_MAX: usize = 2_000;
/// Addresses of one coordinator: a machine with several networks, each by name and number, over TCP and QUIC.
const ADDRESSES_MAX: usize = 32;
/// Lines kept of a backtrace, and how long each may be.
const BACKTRACE_LINES_MAX: usize = 64;
const BACKTRACE_UNITS_MAX: usize = 400;

/// The text without NULs, cut at a character so that it has at most `units_max` UTF-16 units.
pub(super) fn text(text: &str, units_max: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(units_max * 3));
    let mut units = 0;
    for char in text.chars() {
        units += char.len_utf16();
        if units > units_max {
            break;
        }
        kept.push(if char == '\0' { char::REPLACEMENT_CHARACTER } else { char });
    }
    kept
}

/// A name as it is kept.
pub(super) fn name(name: &str) -> String {
    text(name, NAME_UNITS_MAX)
}

/// A coordinator as it is kept.
pub(super) fn coordinator(own: &CoordinatorRecord) -> CoordinatorRecord {
    let mut kept = own.clone();
    kept.name = name(&own.name);
    kept.machine = name(&own.machine);
    kept.http = reason(&own.http);
    kept.addresses.truncate(ADDRESSES_MAX);
    kept
}

/// A reason as it is kept.
pub(super) fn reason(reason: &str) -> String {
    text(reason, REASON_UNITS_MAX)
}

/// A number as signed columns hold it.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A failure as it is kept.
pub(super) fn failure(failure: &Failure) -> Failure {
    match failure {
        Failure::Trap { message, backtrace } => Failure::Trap {
            message: reason(message),
            backtrace: backtrace.iter().take(BACKTRACE_LINES_MAX).map(|line| text(line, BACKTRACE_UNITS_MAX)).collect(),
        },
        Failure::BadModule { reason: why } => Failure::BadModule { reason: reason(why) },
        Failure::ExecutorDied { how } => Failure::ExecutorDied { how: reason(how) },
        Failure::GivenUp { times, last } => Failure::GivenUp { times: *times, last: reason(last) },
        Failure::Exit { .. }
        | Failure::TimeLimit { .. }
        | Failure::MemoryLimit { .. }
        | Failure::OutputLimit { .. }
        | Failure::ScratchLimit { .. }
        | Failure::NotDeterministic { .. }
        | Failure::MachinesLost { .. } => failure.clone(),
    }
}

/// A usage as it is kept.
pub(super) fn usage(usage: Usage) -> Usage {
    let kept = |value: u64| value.min(i64::MAX as u64);
    Usage { wall_us: kept(usage.wall_us), cpu_us: kept(usage.cpu_us), memory_peak_bytes: kept(usage.memory_peak_bytes) }
}

/// A machine as it is kept.
pub(super) fn machine(machine: &Machine) -> Machine {
    Machine {
        os: text(&machine.os, 64),
        arch: text(&machine.arch, 64),
        cores: machine.cores,
        memory_bytes: machine.memory_bytes.min(i64::MAX as u64),
        engine: name(&machine.engine),
    }
}

/// Labels as they are kept.
pub(super) fn labels(labels: &Labels) -> Labels {
    labels.iter().take(LABELS_MAX).map(|(label, value)| (name(label), name(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_never_inside_a_pair() {
        assert_eq!(text("ab🦀cd", 3), "ab");
        assert_eq!(text("ab🦀cd", 4), "ab🦀");
        assert_eq!(text("a\0b", 10), "a\u{fffd}b");
    }

    #[test]
    fn a_peer_cannot_make_a_failure_large() {
        let trap = Failure::Trap { message: "x".repeat(1_000_000), backtrace: vec!["y".repeat(10_000); 10_000] };
        let kept = serde_json::to_string(&failure(&trap)).expect("a failure is JSON");
        assert!(kept.len() < 64 * 1024, "{}", kept.len());
    }
}
