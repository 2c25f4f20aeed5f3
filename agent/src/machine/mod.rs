//! A number that stands for this machine, so that two programs with one identity can be told apart by where they run. EDGE.

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;

use lull_shared::digest::Digest;

/// The number: of the operating system's own id, or of the host's name where there is none. Never 0. It is hashed, since
/// the id itself is meant to stay on the machine.
pub(crate) fn number() -> u64 {
    of(&sys::id().unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned()))
}

fn of(id: &str) -> u64 {
    let digest = Digest::of(format!("lull machine {}", id.trim()).as_bytes());
    digest.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_keeps_its_number_and_others_have_others() {
        assert_eq!(number(), number());
        assert_eq!(of("0123\n"), of("0123"));
        assert_ne!(of("0123"), of("0124"));
    }
}
