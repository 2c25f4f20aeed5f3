//! What the scheduler does not carry: the briefs of active jobs, and the bytes of their inputs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use lull_engine::executor::moving;
use lull_scheduler::{
    effect::{Change, NewJob},
    event::{JobSnapshot, Movable, Snapshot},
};
use lull_shared::{
    codec,
    digest::Digest,
    id::{JobId, TaskId, VersionId},
    identity::Signed,
    job::{Grants, JobSpec},
    message::{JobBrief, ModuleManifest, Payload},
    time::Timestamp,
};

use crate::{
    inputs::{InputError, InputReader},
    store::{ForPeople, Registry, StoreError},
};

/// An active job as agents are told of it.
struct Known {
    submitter: String,
    spec: JobSpec,
    seed: u64,
    submitted: Timestamp,
}

/// Active jobs, their versions' manifests and their inputs. Follows the scheduler's changes.
pub struct Catalogue {
    store: Arc<dyn Registry>,
    pub inputs: InputReader,
    jobs: Mutex<BTreeMap<JobId, Arc<Known>>>,
    manifests: Mutex<BTreeMap<VersionId, Signed>>,
}

/// A brief or an input that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("{0} is not active any more")]
    Ended(JobId),
    #[error("the version {0} is not in the store")]
    NoVersion(VersionId),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Input(#[from] InputError),
}

impl Catalogue {
    /// An empty catalogue over a store.
    pub fn new(store: Arc<dyn ForPeople>) -> Self {
        Self { inputs: InputReader::new(store.clone()), store, jobs: Mutex::default(), manifests: Mutex::default() }
    }

    /// Begins anew with what was loaded.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut jobs = self.jobs();
        jobs.clear();
        for job in &snapshot.jobs {
            jobs.insert(job.job, Arc::new(Known::of_snapshot(job)));
        }
    }

    /// Follows a change that is about to be recorded.
    pub fn follow(&self, change: &Change) {
        match change {
            Change::JobSubmitted(job) => {
                let NewJob { submitter, spec, seed, at, .. } = &**job;
                let known = Known { submitter: submitter.clone(), spec: spec.clone(), seed: *seed, submitted: *at };
                self.jobs().insert(job.job, Arc::new(known));
            }
            Change::JobEnded { job, .. } => {
                self.jobs().remove(job);
            }
            Change::JobStopped { .. }
            | Change::JobRetried { .. }
            | Change::TasksRetried { .. }
            | Change::AttemptStarted { .. }
            | Change::AttemptPaused { .. }
            | Change::AttemptEnded(_)
            | Change::AnswersDropped { .. }
            | Change::AgentQuarantined { .. }
            | Change::AgentTrusted { .. }
            | Change::AgentBreached { .. }
            | Change::SnapshotSaved { .. }
            | Change::SnapshotChosen { .. }
            | Change::SnapshotDropped { .. }
            | Change::TaskEnded { .. }
            | Change::ResultRefused { .. }
            | Change::AgentConnected { .. }
            | Change::AgentDisconnected { .. }
            | Change::AgentHours { .. }
            | Change::AgentIntake { .. } => {}
        }
    }

    /// A job that was over is active again.
    pub fn reopen(&self, job: &JobSnapshot) {
        self.jobs().insert(job.job, Arc::new(Known::of_snapshot(job)));
    }

    /// What a job's tasks have in common.
    pub async fn brief(&self, job: JobId) -> Result<JobBrief, CatalogueError> {
        let known = self.known(job)?;
        let manifest = self.manifest(known.spec.version).await?;
        Ok(JobBrief {
            job,
            job_name: known.spec.name.clone(),
            submitter: known.submitter.clone(),
            manifest: manifest.body,
            manifest_signature: manifest.signature,
            args: known.spec.args.clone(),
            env: known.spec.env.clone(),
            limits: known.spec.limits,
            exit_codes: known.spec.exit_codes.clone(),
            grants: known.spec.grants,
            seed: seed_for_functions(known.seed),
            clock_start: known.submitted,
        })
    }

    /// What a task reads on its standard input.
    pub async fn input(&self, task: TaskId) -> Result<Payload, CatalogueError> {
        let known = self.known(task.job)?;
        Ok(self.inputs.input(&known.spec.inputs, task.index).await?)
    }

    /// Where a job's inputs come from, if they are one blob.
    pub fn pack(&self, job: JobId) -> Option<Digest> {
        self.known(job).ok()?.spec.inputs.pack().map(|pack| pack.digest)
    }

    /// What agents fetch to run a version: its module, and what it was compiled to.
    pub async fn code(&self, version: VersionId) -> Result<Vec<Digest>, CatalogueError> {
        let manifest = self.read_manifest(version).await?;
        let migratable = manifest.migratable.iter().flat_map(|build| build.artifacts.iter().map(|artifact| artifact.blob.digest));
        let artifacts = manifest.artifacts.iter().map(|artifact| artifact.blob.digest);
        Ok(artifacts.chain(migratable).chain([manifest.module.digest]).collect())
    }

    /// What it costs to run a version with these grants so that its tasks can be moved; none if they cannot.
    pub async fn movable(&self, version: VersionId, grants: Grants) -> Result<Option<Movable>, CatalogueError> {
        Ok(movable_with(&self.read_manifest(version).await?, grants))
    }

    /// Fills in what a store does not know of a job. One whose manifest cannot be read runs plain.
    pub async fn learn_movable(&self, job: &mut JobSnapshot) {
        let version = job.spec.version;
        job.movable = self.movable(version, job.spec.grants).await.unwrap_or_else(|error| {
            tracing::warn!(%version, %error, "cannot tell whether a version can be moved");
            None
        });
    }

    async fn read_manifest(&self, version: VersionId) -> Result<ModuleManifest, CatalogueError> {
        let signed = self.manifest(version).await?;
        codec::decode(&signed.body).map_err(|_| CatalogueError::NoVersion(version))
    }

    fn known(&self, job: JobId) -> Result<Arc<Known>, CatalogueError> {
        self.jobs().get(&job).cloned().ok_or(CatalogueError::Ended(job))
    }

    async fn manifest(&self, version: VersionId) -> Result<Signed, CatalogueError> {
        let cached = self.manifests.lock().unwrap_or_else(PoisonError::into_inner).get(&version).cloned();
        if let Some(manifest) = cached {
            return Ok(manifest);
        }
        let record = self.store.version(version).await?.ok_or(CatalogueError::NoVersion(version))?;
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner).insert(version, record.manifest.clone());
        Ok(record.manifest)
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, BTreeMap<JobId, Arc<Known>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it costs to run a version with these grants so that its tasks can be moved; none if they cannot.
fn movable_with(manifest: &ModuleManifest, grants: Grants) -> Option<Movable> {
    moving::movable(manifest.kind, grants).ok()?;
    manifest.migratable.as_ref().map(|build| Movable { cost_percent: build.cost_percent() })
}

/// The seed that functions see. It does not tell the job's own, by which tasks are chosen whose output is verified.
fn seed_for_functions(seed: u64) -> u64 {
    let digest = Digest::of(&[b"functions".as_slice(), &seed.to_le_bytes()].concat());
    digest.as_bytes().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

impl Known {
    fn of_snapshot(job: &JobSnapshot) -> Self {
        Self { submitter: job.submitter.clone(), spec: job.spec.clone(), seed: job.seed, submitted: job.submitted }
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        digest::BlobRef,
        message::{MigratableBuild, ModuleKind},
    };

    use super::*;

    #[test]
    fn a_version_is_movable_if_it_has_the_build_and_its_grants_leave_no_state_behind() {
        let module = BlobRef::of(b"x");
        let build = MigratableBuild { module, artifacts: Vec::new(), cost_percent: Some(130) };
        let manifest = ModuleManifest {
            function: "f".into(),
            number: 1,
            kind: ModuleKind::Preview1,
            module,
            canonical_nans: false,
            artifacts: Vec::new(),
            migratable: Some(build),
        };
        assert_eq!(movable_with(&manifest, Grants::default()), Some(Movable { cost_percent: 130 }));
        assert_eq!(movable_with(&manifest, Grants { scratch: true, ..Grants::default() }), None);
        assert_eq!(movable_with(&ModuleManifest { migratable: None, ..manifest }, Grants::default()), None);
    }
}
