//! How a job is run here: its terms, and which bytes of its module an executor loads.

use lull_shared::{
    digest::BlobRef,
    identity::{self, Authority, Signed},
    job::AttemptLimits,
    limits,
    message::{ModuleManifest, Terms},
};

/// A job's terms with the module they name, whose signature was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub terms: Terms,
    pub manifest: ModuleManifest,
    pub code: Code,
}

/// What an executor loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The module compiled for this agent's engine.
    Artifact(BlobRef),
    /// The module itself, to be compiled here.
    Module(BlobRef),
}

impl Code {
    /// The blob to fetch.
    pub fn blob(&self) -> BlobRef {
        match self {
            Self::Artifact(blob) | Self::Module(blob) => *blob,
        }
    }
}

impl Plan {
    /// Checks the manifest's signature and picks what `engine` can load. The error says why it is not trusted.
    pub fn new(terms: Terms, authority: &Authority, engine: &str) -> Result<Self, String> {
        let signed = Signed { body: terms.manifest.clone(), signature: terms.manifest_signature.clone() };
        let manifest: ModuleManifest = identity::verify(authority, &signed).map_err(|error| error.to_string())?;
        if manifest.module.size_bytes > limits::MODULE_BYTES_MAX {
            return Err(format!(
                "the module has {} bytes; at most {} are taken",
                manifest.module.size_bytes,
                limits::MODULE_BYTES_MAX
            ));
        }
        let artifact = manifest
            .artifacts
            .iter()
            .find(|artifact| artifact.engine == engine && artifact.blob.size_bytes <= limits::BLOB_BYTES_MAX);
        let code = artifact.map_or(Code::Module(manifest.module), |artifact| Code::Artifact(artifact.blob));
        Ok(Self { terms, manifest, code })
    }

    /// Whether an executor that was started for `other` can take this job's tasks: the same code in the same cage. How
    /// long a task may take is watched from outside.
    pub fn fits(&self, other: &Self) -> bool {
        let cage = |plan: &Self| (AttemptLimits { time_ms: 0, ..plan.terms.limits }, plan.terms.grants, plan.manifest.kind);
        self.code == other.code && cage(self) == cage(other)
    }

    /// The same without the artifact, when there was one.
    pub fn without_artifact(&self) -> Option<Self> {
        match self.code {
            Code::Artifact(_) => Some(Self { code: Code::Module(self.manifest.module), ..self.clone() }),
            Code::Module(_) => None,
        }
    }
}
