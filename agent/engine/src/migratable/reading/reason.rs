//! Why a module cannot be moved while it runs, in words for its author.

use wasmparser::{Validator, WasmFeatures};

/// Why there is no migratable build of a module. It can still be run: on one machine, from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMovable {
    #[error("it is a component; build the function for wasm32-wasip1 to have it moved")]
    Component,
    #[error("the module is damaged: {reason}")]
    Invalid { reason: String },
    #[error("it uses exceptions; build it without them (-fno-exceptions, panic=abort)")]
    Exceptions,
    #[error("it uses garbage-collected types, whose values cannot be written into a snapshot")]
    Gc,
    #[error("it uses references to what is not its own (externref), which cannot be written into a snapshot")]
    ForeignReferences,
    #[error("it uses typed references to functions, which cannot be written into a snapshot")]
    FunctionReferences,
    #[error("it uses tail calls; build it without them (-mno-tail-call)")]
    TailCalls,
    #[error("it uses threads or atomics; build it without them (no -pthread)")]
    Threads,
    #[error("it has a 64-bit memory; build it for wasm32")]
    Memory64,
    #[error("it uses a proposal that cannot be moved: {reason}")]
    Proposal { reason: String },
    #[error("it imports `{import}`; only functions may be imported")]
    Import { import: String },
    #[error("it changes a table of functions while it runs (`{instruction}`), as programs that load code do")]
    Table { instruction: &'static str },
    #[error("a reference (funcref) is alive where it would be suspended, and cannot be written into a snapshot")]
    References,
    #[error("it uses the name `{name}`, which is kept for migratable builds")]
    Reserved { name: String },
    #[error("it has no function `_start` without parameters and results; build it as a command")]
    NoStart,
    #[error("it is too large or too deeply nested: {what}")]
    TooLarge { what: &'static str },
    /// A defect of ours, told apart from a module's fault.
    #[error("the build that was made of it is not valid WebAssembly, please report this: {reason}")]
    Defect { reason: String },
}

impl From<wasmparser::BinaryReaderError> for NotMovable {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Invalid { reason: error.to_string() }
    }
}

/// The proposals that a module may use to be movable.
pub(in crate::migratable) const ACCEPTED: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::RELAXED_SIMD)
    .difference(WasmFeatures::GC_TYPES);

/// What is not accepted, each tried alone, so that the validator itself says what a module uses.
const REFUSED: [(WasmFeatures, NotMovable); 7] = [
    (WasmFeatures::empty(), NotMovable::ForeignReferences),
    (WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS), NotMovable::Exceptions),
    (WasmFeatures::TAIL_CALL, NotMovable::TailCalls),
    (WasmFeatures::THREADS, NotMovable::Threads),
    (WasmFeatures::MEMORY64, NotMovable::Memory64),
    (WasmFeatures::FUNCTION_REFERENCES, NotMovable::FunctionReferences),
    (WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES), NotMovable::Gc),
];

/// Refuses a module that is not valid with the accepted proposals alone, and says which one is too many.
pub(in crate::migratable) fn validate(module: &[u8]) -> Result<(), NotMovable> {
    let valid = |features| Validator::new_with_features(features).validate_all(module).map(|_| ());
    let Err(error) = valid(ACCEPTED) else { return Ok(()) };
    for (features, reason) in REFUSED {
        if valid(ACCEPTED | features | WasmFeatures::GC_TYPES).is_ok() {
            return Err(reason);
        }
    }
    let reason = error.to_string();
    Err(if valid(WasmFeatures::all()).is_ok() { NotMovable::Proposal { reason } } else { NotMovable::Invalid { reason } })
}
