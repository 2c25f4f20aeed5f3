//! Submission: from what somebody asks for to a job that the scheduler can take without looking again.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::{JobId, VersionId},
    job::{AttemptLimits, Dependency, Grants, Inputs, JobSpec, Priority, RetryPolicy},
    limits::LOST_AFTER_DEFAULT,
    pack::EntryContent,
    share::Share,
    state::JobState,
    window::Window,
};

use super::{
    Interface, Shared,
    auth::{Body, Submitter},
    error::{Answer, Refused},
    functions,
};
use crate::{
    api::{Grant, InputsBody, SubmitRequest, Submitted, Text},
    dispatch::CatalogueError,
    scheduler::{
        effect::Reply,
        event::{Movable, Submission},
    },
    submit,
};

/// `POST /jobs`
pub async fn submit(State(state): Shared, caller: Submitter, Body(wanted): Body<SubmitRequest>) -> Answer<Json<Submitted>> {
    let moment = state.coordinator.dispatch.moment();
    if let Some(known) = known(&state, &caller.name, &wanted).await? {
        return Ok(Json(known));
    }
    let (function, number) = called(&wanted.function)?;
    let version = functions::named(&state, function, number).await?;
    let version_name = format!("{}@{}", version.function, version.number);
    let inputs = inputs(&state, wanted.inputs).await?;
    let spec = spec(wanted, version.version, &version.function, inputs)?;
    let problems = submit::check(&spec);
    if !problems.is_empty() {
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(Refused::invalid(format!("the job cannot be taken: {}", list.join("; ")), None));
    }
    if spec.verify != Share::NONE && !version.canonical_nans {
        let name = &version.function;
        return Err(Refused::invalid(
            format!("{version_name} may write different bytes on different processors, so that its outputs cannot be compared"),
            Some(&format!("publish it with `lull func publish ... --name {name} --canonical-nans`, or leave --verify out")),
        ));
    }
    let ended = ended(&state, &spec.after).await?;
    if let Ok(code) = state.coordinator.catalogue.code(version.version).await {
        // Before the job, so that its first tasks go to those who hold its code.
        state.coordinator.dispatch.event(state.coordinator.mesh.tracker.follow(version.version, code)).await?;
    }
    let tasks = spec.inputs.count();
    let submission = Submission {
        submitter: caller.name.clone(),
        movable: movable(&state, spec.version, spec.grants).await?,
        spec,
        version_name: version_name.clone(),
        seed: rand::random(),
        ended,
    };
    match state.coordinator.dispatch.submit(submission, moment).await? {
        Reply::Submitted { job, existing } => Ok(Json(Submitted { job: Text(job), existing, function: version_name, tasks })),
        Reply::Refused(refusal) => Err(refusal.into()),
        Reply::Done { .. } => Err(Refused::unavailable("the coordinator did not understand itself")),
    }
}

/// What it costs to run the version so that its tasks can be moved.
async fn movable(state: &Interface, version: VersionId, grants: Grants) -> Answer<Option<Movable>> {
    let unreadable = |error: CatalogueError| Refused::unavailable(format!("the version's manifest cannot be read: {error}"));
    state.coordinator.catalogue.movable(version, grants).await.map_err(unreadable)
}

/// The job that the same person submitted before under the same key.
async fn known(state: &Interface, submitter: &str, wanted: &SubmitRequest) -> Answer<Option<Submitted>> {
    let Some(key) = &wanted.idempotency_key else { return Ok(None) };
    let Some(job) = state.coordinator.store.job_by_key(submitter, key).await? else { return Ok(None) };
    let record = state.coordinator.store.job(job).await?;
    Ok(record.map(|record| Submitted {
        job: Text(job),
        existing: true,
        tasks: record.spec.inputs.count(),
        function: record.version_name,
    }))
}

/// `name` or `name@3`.
fn called(text: &str) -> Answer<(&str, Option<u32>)> {
    let Some((name, number)) = text.split_once('@') else { return Ok((text, None)) };
    match number.parse() {
        Ok(number) => Ok((name, Some(number))),
        Err(_) => Err(Refused::invalid(format!("`{text}` names no version"), Some("write NAME or NAME@NUMBER"))),
    }
}

async fn inputs(state: &Interface, wanted: InputsBody) -> Answer<Inputs> {
    match wanted {
        InputsBody::Range { first, count } => {
            if first.checked_add(u64::from(count)).is_none() {
                return Err(Refused::invalid("the last number of the array is too large", None));
            }
            Ok(Inputs::Range { first, count })
        }
        InputsBody::Pack { digest, size_bytes } => {
            let pack = BlobRef { digest: digest.0, size_bytes };
            let count = check_pack(state, pack).await?;
            Ok(Inputs::Pack { pack, count })
        }
    }
}

/// Checks every row of a pack and that the store has every blob it names; the number of its inputs.
async fn check_pack(state: &Interface, pack: BlobRef) -> Answer<u32> {
    let (store, inputs) = (&state.coordinator.store, &state.coordinator.catalogue.inputs);
    const UPLOAD: Option<&str> = Some("upload it first with PUT /api/v1/blobs");
    match store.blob_outline(&pack.digest).await? {
        None => return Err(Refused::invalid("the input pack is not there", UPLOAD)),
        Some((blob, _)) if blob != pack => {
            let message = format!("the input pack has {} bytes, not {}", blob.size_bytes, pack.size_bytes);
            return Err(Refused::invalid(message, None));
        }
        Some(_) => {}
    }
    let count = inputs.count(&pack).await?;
    let mut known: BTreeMap<Digest, u64> = BTreeMap::new();
    for index in 0..count {
        let EntryContent::Blob(input) = inputs.entry(&pack, index).await?.content else { continue };
        if !known.contains_key(&input.digest)
            && let Some((blob, _)) = store.blob_outline(&input.digest).await?
        {
            known.insert(blob.digest, blob.size_bytes);
        }
        match known.get(&input.digest) {
            Some(size) if *size == input.size_bytes => {}
            Some(size) => {
                return Err(Refused::invalid(format!("input {index} has {size} bytes, not {}", input.size_bytes), None));
            }
            None => return Err(Refused::invalid(format!("input {index} is {}, which is not there", input.digest), UPLOAD)),
        }
    }
    Ok(count)
}

/// The job with all that was left out filled in.
fn spec(wanted: SubmitRequest, version: VersionId, function: &str, inputs: Inputs) -> Answer<JobSpec> {
    let (retry, limits) = (RetryPolicy::default(), AttemptLimits::default());
    let window = wanted.window.as_deref().map(str::parse::<Window>).transpose();
    Ok(JobSpec {
        name: wanted.name.unwrap_or_else(|| function.to_owned()),
        version,
        args: wanted.args,
        env: wanted.env.into_iter().collect(),
        inputs,
        priority: Priority(wanted.priority),
        retry: RetryPolicy {
            retries: wanted.retries.unwrap_or(retry.retries),
            backoff_ms: wanted.backoff_ms.unwrap_or(retry.backoff_ms),
            backoff_max_ms: wanted.backoff_max_ms.unwrap_or(retry.backoff_max_ms),
        },
        limits: AttemptLimits {
            time_ms: wanted.time_limit_ms.unwrap_or(limits.time_ms),
            memory_bytes: wanted.memory_bytes.unwrap_or(limits.memory_bytes),
            output_bytes: wanted.output_bytes.unwrap_or(limits.output_bytes),
            log_bytes: wanted.log_bytes.unwrap_or(limits.log_bytes),
            scratch_bytes: wanted.scratch_bytes.unwrap_or(limits.scratch_bytes),
        },
        grants: Grants {
            clock: wanted.grants.contains(&Grant::Clock),
            random: wanted.grants.contains(&Grant::Random),
            scratch: wanted.grants.contains(&Grant::Scratch),
        },
        constraints: wanted.require.into_iter().map(|constraint| constraint.0).collect(),
        window: window.map_err(|error| Refused::invalid(error.to_string(), None))?,
        finish_by: wanted.finish_by.map(Into::into),
        after: wanted.after.into_iter().map(Dependency::from).collect(),
        failures_max: wanted.failures_max,
        idempotency_key: wanted.idempotency_key,
        moving: wanted.moving,
        verify: wanted.verify.unwrap_or_default(),
        lost_after_ms: wanted.lost_after_ms.unwrap_or(LOST_AFTER_DEFAULT.as_millis() as u64),
    })
}

/// How those of the jobs stand that have ended; one that never existed is refused here.
async fn ended(state: &Interface, after: &[Dependency]) -> Answer<BTreeMap<JobId, JobState>> {
    let mut ended = BTreeMap::new();
    for dependency in after {
        let record = state.coordinator.store.job(dependency.job).await?;
        let record = record.ok_or_else(|| {
            Refused::not_found(format!("there is no job {} to wait for", dependency.job), "`lull job list` shows the jobs")
        })?;
        if record.state.is_ended() {
            ended.insert(record.job, record.state);
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> SubmitRequest {
        SubmitRequest { function: "stats".into(), ..SubmitRequest::default() }
    }

    fn made(wanted: SubmitRequest) -> Answer<JobSpec> {
        spec(wanted, VersionId(1), "stats", Inputs::Range { first: 0, count: 1 })
    }

    #[test]
    fn what_is_left_out_takes_its_default() {
        let spec = made(wanted()).expect("a job");
        assert_eq!((spec.name.as_str(), spec.retry, spec.limits), ("stats", RetryPolicy::default(), AttemptLimits::default()));
        assert_eq!(submit::check(&spec), Vec::new());
    }

    #[test]
    fn a_window_that_is_none_is_refused() {
        assert!(made(SubmitRequest { window: Some("nightly".into()), ..wanted() }).is_err());
        let spec = made(SubmitRequest { grants: vec![Grant::Clock], ..wanted() }).expect("a job");
        assert_eq!(spec.grants, Grants { clock: true, ..Grants::default() });
    }

    #[test]
    fn a_version_is_named_by_its_number() {
        assert_eq!(called("stats").expect("a name"), ("stats", None));
        assert_eq!(called("stats@3").expect("a version"), ("stats", Some(3)));
        assert!(called("stats@latest").is_err());
    }
}
