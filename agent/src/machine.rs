//! A number that stands for this machine, so that two programs with one identity can be told apart by where they run. EDGE.

use lull_shared::digest::Digest;

/// Where Linux keeps the machine's id, in the order in which they are tried.
const ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// The number: of the operating system's own id, or of the host's name where there is none. Never 0. It is hashed, since
/// the id itself is meant to stay on the machine.
pub fn number() -> u64 {
    let id = ID_FILES.iter().filter_map(|path| std::fs::read_to_string(path).ok()).find(|id| !id.trim().is_empty());
    of(&id.unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned()))
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
