//! The machine's id in files.

/// Where Linux keeps it, in the order in which they are tried.
const ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// The operating system's own id, if it has one.
pub(super) fn id() -> Option<String> {
    ID_FILES.iter().filter_map(|path| std::fs::read_to_string(path).ok()).find(|id| !id.trim().is_empty())
}
