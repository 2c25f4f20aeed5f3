//! What an agent and its executor say to each other over the executor's standard input and output.
//!
//! ```text
//! agent --> Load, (Run | Serve)*  a Run that resumes is followed by the raw bytes of a snapshot's body, and one whose
//!                                 input is a stream by exactly so many raw bytes of it
//! agent <-- Loaded | LoadFailed, then for each Run in order: Refused?, Output*, Done
//!           between them, if it was asked for one: Saving*, Saved; after the one that suspends the executor ends
//! ```
//! Asks for snapshots come as signals, since whoever computes does not read (see [`super::inside::moving`]).
//!
//! Frames are those of [`lull_shared::codec`]. Runs may be queued in the pipe; they run one after the other. Output
//! that does not fit a message leaves in pieces while it is written, so neither side ever holds it in memory. Both
//! ends are the same program file, so the frames carry no version.

use std::{ffi::OsString, fmt};

use bytes::Bytes;
use lull_shared::{
    codes::ExitCodes,
    digest::{BlobRef, Digest},
    id::{AttemptId, JobId},
    job::{AttemptLimits, Grants},
    limits,
    message::ModuleKind,
    state::{Failure, Trouble, Usage},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{inside::moving::Unmovable, sys};
use crate::snapshot::Unfit;

/// Output of an attempt up to this size comes with `Done`; more leaves in pieces of at most this size.
pub const OUTPUT_PIECE_BYTES: usize = limits::INLINE_BYTES_MAX;

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToExecutor {
    /// Always first, once.
    Load(Box<Load>),
    /// The next runs are of this job: of the same version, within the same limits.
    Serve(World),
    Run(Run),
}

/// A module, what holds it, and the job whose tasks come first. All of it but the job stays for the life of the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The compiled artifact. Its digest is checked again on the opened file.
    pub artifact: OsString,
    pub digest: Digest,
    pub kind: ModuleKind,
    pub build: Build,
    pub limits: AttemptLimits,
    pub grants: Grants,
    /// The folder for the file behind `/scratch`. Used only if granted.
    pub scratch: Option<OsString>,
    pub priority: Priority,
    pub world: World,
}

impl Load {
    /// What is asked of the machine by every module, with none.
    pub(super) fn nothing(priority: Priority) -> Self {
        let world = World {
            job: JobId(0),
            function: String::new(),
            args: Vec::new(),
            exit_codes: Default::default(),
            env: Vec::new(),
            seed: 0,
            clock_start: Timestamp::default(),
        };
        Self {
            artifact: OsString::new(),
            digest: Digest::of(b""),
            kind: ModuleKind::Preview1,
            build: Build::Plain,
            limits: AttemptLimits::default(),
            grants: Grants::default(),
            scratch: None,
            priority,
            world,
        }
    }
}

/// Which build of a version the artifact was compiled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Build {
    /// The module as it was published.
    Plain,
    /// The build that can be suspended and go on elsewhere.
    Migratable {
        /// The digest of that build, as a module: snapshots fit no other.
        code: Digest,
    },
}

/// What the tasks of a job find alike, beside their module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    pub job: JobId,
    /// The function's name: the guest's `argv[0]`.
    pub function: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// How the function exits when it has succeeded.
    pub exit_codes: ExitCodes,
    /// With the task's index the seed of all that is random in a deterministic run.
    pub seed: u64,
    pub clock_start: Timestamp,
}

/// How the executor competes for the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Priority {
    /// Only what nobody else wants: the owner comes first.
    #[default]
    Idle,
    /// After the services of the machine, and yet with a share: for a coordinator's own work.
    Low,
    /// Like any program: for machines without an owner, and for tests.
    Normal,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub attempt: AttemptId,
    pub input: Input,
    pub resume: Option<Resume>,
}

/// Where a run goes on: the snapshot's body follows the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    pub body: BlobRef,
    /// Output that left the executors before this one; the agent has it.
    pub output_bytes: u64,
    /// What the attempts before this one used.
    pub usage: Usage,
}

/// What an executor of a migratable build can be asked for while an attempt runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// A snapshot; the attempt goes on.
    Checkpoint,
    /// A snapshot, and the end of the executor.
    Suspend,
}

/// The guest's standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    Inline(Bytes),
    /// So many raw bytes follow the frame.
    Stream {
        size_bytes: u64,
    },
}

/// What the executor says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromExecutor {
    /// The module is ready and the cage is closed.
    Loaded {
        cage: Cage,
    },
    /// The module cannot be run here; the executor ends.
    LoadFailed(LoadError),
    /// The next piece of the running attempt's output.
    Output {
        piece: Bytes,
    },
    Done(Box<Done>),
    /// The run begins anew, for this reason.
    Refused(Unfit),
    /// The next piece of a snapshot's body.
    Saving {
        piece: Bytes,
    },
    /// That was the last piece.
    Saved(Box<Saved>),
    /// The executor's own code failed; it ends.
    Fatal {
        reason: String,
    },
    /// The machine failed it, not the function; it ends.
    Trouble(Trouble),
}

/// A snapshot that has left the executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub attempt: AttemptId,
    pub ask: Ask,
    /// Output that had left before.
    pub output_bytes: u64,
    /// With what the attempts before this one used.
    pub usage: Usage,
}

/// Why a module cannot be run here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LoadError {
    #[error("the compiled module cannot be read: {reason}")]
    Unreadable { reason: String },
    #[error("the compiled module has the digest {found}, not {expected}: it was damaged or tampered with")]
    Digest { expected: Digest, found: Digest },
    #[error("the engine refuses the module: {reason}")]
    Refused { reason: String },
    /// It would refuse any: the machine has too little memory or address space for it, for example.
    #[error("the engine cannot be set up: {reason}")]
    Engine { reason: String },
    #[error(transparent)]
    Unmovable(#[from] Unmovable),
    /// Something of the machine's that the module is granted cannot be had.
    #[error("{0}")]
    Machine(Trouble),
}

/// How an attempt ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub attempt: AttemptId,
    pub outcome: Result<Output, Failure>,
    /// The first and the last half of what it wrote to standard error.
    pub log: Bytes,
    /// How many bytes between the halves were dropped.
    pub log_dropped_bytes: u64,
    pub usage: Usage,
}

/// Standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    Inline(Bytes),
    /// It left in pieces, so many bytes of them.
    Streamed {
        size_bytes: u64,
    },
}

/// What holds an executor, besides WebAssembly's own walls. The first four were tried, not only asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cage {
    /// It cannot open the machine's files.
    pub files: Layer,
    /// It cannot make a socket.
    pub network: Layer,
    /// It cannot start a program.
    pub programs: Layer,
    /// It cannot signal its agent, nor outlive it.
    pub processes: Layer,
    /// The kernel keeps what has a name from it: landlock, or an AppContainer without capabilities.
    pub container: Layer,
    /// The kernel refuses calls that it has no use for: seccomp, or mitigation policies.
    pub system_calls: Layer,
    /// Memory, file sizes and core dumps are bounded.
    pub limits: Layer,
    /// It runs only when nobody else wants the processor.
    pub priority: Layer,
}

/// One of the layers of a cage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    Holds,
    Missing { reason: String },
}

impl Layer {
    /// Holds, or why not.
    pub fn of<T, E: fmt::Display>(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Holds,
            Err(error) => Self::Missing { reason: error.to_string() },
        }
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        *self == Self::Holds
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("holds"),
            Self::Missing { reason } => write!(f, "missing: {reason}"),
        }
    }
}

impl Cage {
    /// Every layer with its name, for status and logs.
    pub fn layers(&self) -> [(&'static str, &Layer); 8] {
        [
            ("files", &self.files),
            ("network", &self.network),
            ("programs", &self.programs),
            ("processes", &self.processes),
            (sys::CONTAINER_NAME, &self.container),
            (sys::CALLS_NAME, &self.system_calls),
            ("limits", &self.limits),
            ("priority", &self.priority),
        ]
    }

    /// The layers without which it is not closed: what was tried must be denied, and both of the kernel's walls must stand.
    fn walls(&self) -> [(&'static str, &Layer); 6] {
        let [files, network, programs, processes, container, calls, ..] = self.layers();
        [files, network, programs, processes, container, calls]
    }

    /// Whether nothing outside can be reached.
    pub fn is_closed(&self) -> bool {
        self.walls().iter().all(|(_, layer)| layer.holds())
    }

    /// What it lacks, in words, if it is not closed.
    pub fn missing(&self) -> Option<String> {
        let missing = self.walls().into_iter().filter(|(_, layer)| !layer.holds());
        let missing = missing.map(|(name, layer)| format!("{name} {layer}")).collect::<Vec<_>>();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

impl fmt::Display for Cage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.layers().into_iter().filter(|(_, layer)| !layer.holds());
        let missing = missing.map(|(name, layer)| format!("{name} {layer}")).collect::<Vec<_>>();
        if missing.is_empty() { f.write_str("closed") } else { f.write_str(&missing.join("; ")) }
    }
}
