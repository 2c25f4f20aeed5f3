//! Functions and their published versions.

use lull_shared::{digest::Digest, id::VersionId, message::ModuleKind};
use serde::{Deserialize, Serialize};

use super::{BlobBody, Text};

/// One published version of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionBody {
    pub function: String,
    /// The version's number within its function.
    pub number: u32,
    pub version: Text<VersionId>,
    pub kind: ModuleKind,
    pub digest: Text<Digest>,
    pub size_bytes: u64,
    pub canonical_nans: bool,
    /// The platforms that it was compiled for ahead.
    pub artifacts: Vec<ArtifactBody>,
    /// Its imports and exports, one a line.
    pub interface: Vec<String>,
    pub published: jiff::Timestamp,
    pub published_by: String,
}

impl FunctionBody {
    /// The version as people call it.
    pub fn called(&self) -> String {
        format!("{}@{}", self.function, self.number)
    }
}

/// A module compiled ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactBody {
    pub engine: String,
    pub blob: BlobBody,
}

/// `PUT /functions/{name}/versions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedBody {
    #[serde(flatten)]
    pub function: FunctionBody,
    /// The same module was published under this name before; this is that version.
    pub existing: bool,
}
