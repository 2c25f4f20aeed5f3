//! Modules before they are published.

use lull_engine::executor::inspect::{Refusal, inspect};
use lull_shared::{limits, message::ModuleKind};

use super::memory::bounded;

/// A module.
///
/// One that is accepted is what it says, wants nothing that agents do not offer and begins with no more memory than
/// an attempt may have; one that is refused is refused in words for one line of a terminal.
pub fn modules(bytes: &[u8]) {
    match bounded(bytes.len(), || inspect(bytes)) {
        Ok(found) => {
            assert_eq!(found.size_bytes, bytes.len() as u64);
            assert!(found.memory_bytes <= limits::MEMORY_BYTES_MAX);
            let (offered, entry) = match found.kind {
                ModuleKind::Preview1 => ("wasi_snapshot_preview1::", "_start"),
                ModuleKind::Component => ("wasi:", "wasi:cli/run@0.2."),
            };
            assert!(found.imports.iter().all(|import| import.starts_with(offered)), "{:?}", found.imports);
            assert!(found.exports.iter().any(|export| export.starts_with(entry)), "{:?}", found.exports);
            assert_eq!(inspect(bytes).as_ref(), Ok(&found), "it is the same the next time");
        }
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            assert!(!bytes.is_empty() || refusal == Refusal::Empty);
        }
    }
}
