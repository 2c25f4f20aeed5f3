//! How a job is run here: its brief, and which bytes of its module an executor loads.

use lull_shared::{
    amount::sizes,
    digest::BlobRef,
    identity::{self, Authority, Signed},
    job::AttemptLimits,
    limits,
    message::{Artifact, Build, JobBrief, MigratableBuild, ModuleManifest},
};

/// A job's brief with the module that it names, whose signature was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub brief: JobBrief,
    pub manifest: ModuleManifest,
    code: Code,
    /// Of the build that can be moved, if the module has one.
    migratable: Option<Code>,
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
    pub fn new(brief: JobBrief, authority: &Authority, engine: &str) -> Result<Self, String> {
        let signed = Signed { body: brief.manifest.clone(), signature: brief.manifest_signature.clone() };
        let manifest: ModuleManifest = identity::verify(authority, &signed).map_err(|error| error.to_string())?;
        if manifest.module.size_bytes > limits::MODULE_BYTES_MAX {
            let (found, most) = sizes(manifest.module.size_bytes, limits::MODULE_BYTES_MAX);
            return Err(format!("the module has {found}; at most {most} are taken"));
        }
        Ok(Self::of(brief, manifest, engine))
    }

    fn of(brief: JobBrief, manifest: ModuleManifest, engine: &str) -> Self {
        let plain = code(manifest.module, &manifest.artifacts, engine);
        let movable = manifest.migratable.as_ref().filter(|build| build.module.size_bytes <= limits::BLOB_BYTES_MAX);
        let migratable = movable.map(|build| code(build.module, &build.artifacts, engine));
        Self { brief, manifest, code: plain, migratable }
    }

    /// The plan of another job that runs the very same version: its signature was checked.
    pub fn shared_with(&self, brief: &JobBrief, engine: &str) -> Option<Self> {
        let same = self.brief.manifest == brief.manifest && self.brief.manifest_signature == brief.manifest_signature;
        same.then(|| Self::of(brief.clone(), self.manifest.clone(), engine))
    }

    /// What an executor loads for a build; none if the module has no such build.
    pub fn code(&self, build: Build) -> Option<Code> {
        match build {
            Build::Plain => Some(self.code),
            Build::Migratable => self.migratable,
        }
    }

    /// The manifest as if a build were the module itself.
    pub fn manifest_of(&self, build: Build) -> Option<ModuleManifest> {
        let plain = ModuleManifest { migratable: None, ..self.manifest.clone() };
        match build {
            Build::Plain => Some(plain),
            Build::Migratable => {
                let MigratableBuild { module, artifacts, .. } = self.manifest.migratable.clone()?;
                Some(ModuleManifest { module, artifacts, ..plain })
            }
        }
    }

    /// Whether an executor that was started for `other` can take this job's tasks: the same code in the same cage. How
    /// long a task may take is watched from outside.
    pub fn fits(&self, build: Build, other: &Self, other_build: Build) -> bool {
        let cage = |plan: &Self| (AttemptLimits { time_ms: 0, ..plan.brief.limits }, plan.brief.grants, plan.manifest.kind);
        build == other_build && self.code(build) == other.code(build) && cage(self) == cage(other)
    }

    /// The same without a build's artifact, when there was one.
    pub fn without_artifact(&self, build: Build) -> Option<Self> {
        match (build, self.code(build)?) {
            (_, Code::Module(_)) => None,
            (Build::Plain, Code::Artifact(_)) => Some(Self { code: Code::Module(self.manifest.module), ..self.clone() }),
            (Build::Migratable, Code::Artifact(_)) => {
                let module = self.manifest.migratable.as_ref()?.module;
                Some(Self { migratable: Some(Code::Module(module)), ..self.clone() })
            }
        }
    }
}

fn code(module: BlobRef, artifacts: &[Artifact], engine: &str) -> Code {
    let fits = |artifact: &&Artifact| artifact.engine == engine && artifact.blob.size_bytes <= limits::BLOB_BYTES_MAX;
    artifacts.iter().find(fits).map_or(Code::Module(module), |artifact| Code::Artifact(artifact.blob))
}
