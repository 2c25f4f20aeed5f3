//! What a migratable build and its host agree on, version 1.
//!
//! | kind | name | meaning |
//! |---|---|---|
//! | import | `lull_migratable` . `poll` | called when the flag was found up and all frames are spilled: 1 to be suspended, 0 to go on after all; the host lowers the flag before it returns |
//! | memory | `lull_stack` | bytes 0..4 are the flag, 4..16 reserved, frames follow from 16 on |
//! | global | `lull_state` | see [`State`] |
//! | global | `lull_sp` | the end of the used part of `lull_stack`; 16 before the program runs and when it has ended |
//! | function | `lull_run` | runs the start function and `_start`; called again to rewind |
//! | function | `lull_restored` | only with passive data: drops again what was dropped; called after globals were restored |
//! | memories | `lull_memory_N` | each memory of the module |
//! | globals | `lull_global_N` | each mutable global of the module, then the pass' own |
//! | section | `lull.migratable` | [`VERSION`], then the BLAKE3 digest of the module that the build was made of |

/// The contract's version, first byte of the section.
pub const VERSION: u8 = 1;
/// The custom section that marks a migratable build.
pub const SECTION: &str = "lull.migratable";
/// What a module must not use in names of its own.
pub const PREFIX: &str = "lull_";
/// The module that the poll is imported from.
pub const IMPORT_MODULE: &str = "lull_migratable";
/// The poll's name, `() -> i32`.
pub const IMPORT_POLL: &str = "poll";
/// The memory that frames are spilled to.
pub const STACK: &str = "lull_stack";
/// Where the first frame begins.
pub const STACK_BASE: u32 = 16;
/// What the spilled frames may take, in pages of 64 KiB: twice what an engine's own stack has, since a value that a
/// compiler keeps once for several locals is spilled for each.
pub const STACK_PAGES_MAX: u64 = 2048;
/// The global with the [`State`].
pub const STATE: &str = "lull_state";
/// The global with the end of the frames.
pub const STACK_POINTER: &str = "lull_sp";
/// The function that the host calls in place of `_start`.
pub const RUN: &str = "lull_run";
/// The function that the host calls once after a restore, if it is there.
pub const RESTORED: &str = "lull_restored";
/// Begins the names of the module's memories.
pub const MEMORY_PREFIX: &str = "lull_memory_";
/// Begins the names of the globals that a snapshot keeps.
pub const GLOBAL_PREFIX: &str = "lull_global_";

/// What `lull_state` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum State {
    Running = 0,
    Unwinding = 1,
    Rewinding = 2,
}
