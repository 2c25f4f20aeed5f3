//! Functions and their published versions.

use lull_shared::{digest::Digest, id::VersionId, job::Moving, message::ModuleKind};
use serde::{Deserialize, Serialize};

use super::BlobBody;

/// One published version of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionBody {
    pub function: String,
    /// The version's number within its function.
    pub number: u32,
    pub version: VersionId,
    pub kind: ModuleKind,
    pub digest: Digest,
    pub size_bytes: u64,
    pub canonical_nans: bool,
    /// The platforms that it was compiled for ahead.
    pub artifacts: Vec<ArtifactBody>,
    /// The build that can be moved while it runs, if there is one; if one was to be made, `interface` says why there is none.
    #[serde(default)]
    pub migratable: Option<MigratableBody>,
    /// Its imports and exports, one a line.
    pub interface: Vec<String>,
    pub published: jiff::Timestamp,
    pub published_by: String,
    /// What it is called beside its number: `stable` is the one that the function's name alone stands for.
    #[serde(default)]
    pub labels: Vec<String>,
}

impl FunctionBody {
    /// The version as people call it.
    pub fn called(&self) -> String {
        format!("{}@{}", self.function, self.number)
    }
}

/// `POST /functions/{name}/labels/{label}`: the version that the label is to stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRequest {
    pub number: u32,
}

/// What a label stands for, from when on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelBody {
    pub function: String,
    pub label: String,
    /// The version's number within its function.
    pub number: u32,
    /// What it stood for before, if that was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u32>,
    pub moved: jiff::Timestamp,
    pub moved_by: String,
}

/// A build that can be moved while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigratableBody {
    pub size_bytes: u64,
    /// Its time in percent of the plain build's: measured, or what it is taken to be.
    pub cost_percent: u32,
    pub measured: bool,
}

/// A module compiled ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactBody {
    pub engine: String,
    pub blob: BlobBody,
}

/// What a publication can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishOptions {
    #[serde(default)]
    pub canonical_nans: bool,
    /// Whether a build is made that can be moved while it runs: where that can be done; or else it is not published; or not.
    #[serde(default)]
    pub migratable: Moving,
    /// What that build costs on a sample input, in percent of the plain build's time, if that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_percent: Option<u32>,
}

/// What came of a publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedBody {
    #[serde(flatten)]
    pub function: FunctionBody,
    /// This version was there before, and it is what the options ask for.
    pub existing: bool,
    /// Another version of the function is the same module, published with other options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_module_as: Option<String>,
    /// Why no build could be made that can be moved, if that was tried now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_movable: Option<String>,
}
