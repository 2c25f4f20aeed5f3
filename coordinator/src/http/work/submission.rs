//! Submission: from what somebody asks for to a job that the scheduler can take without looking again.

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State};
use lull_scheduler::{
    effect::{Refusal, Reply},
    event::{Movable, Submission},
};
use lull_shared::{
    alike, bound,
    constraint::Comparison,
    digest::{BlobRef, Digest},
    id::{JobId, TokenId, VersionId},
    job::{AttemptLimits, Dependency, Grants, Inputs, JobSpec, Priority, RetryPolicy},
    limits::LOST_AFTER_DEFAULT,
    pack::EntryContent,
    share::Share,
    state::JobState,
    time::Timestamp,
    window::Window,
};

use crate::{
    api::{Grant, InputsBody, SubmitRequest, Submitted, Text},
    clock,
    dispatch::CatalogueError,
    http::{
        Interface, Shared,
        door::{
            auth::{Body, Submitter},
            error::{Answer, Refused},
        },
        work::functions,
    },
    submit,
    version::{Named, NoVersion},
};

/// `POST /jobs`
pub(crate) async fn submit(
    State(state): Shared,
    caller: Submitter,
    Body(wanted): Body<SubmitRequest>,
) -> Answer<Json<Submitted>> {
    tracing::trace!(target: "parts", "submission heard");
    let moment = state.coordinator.dispatch.moment();
    let asked = wanted.idempotency_key.is_some().then(|| digest(&wanted));
    if let Some(known) = known(&state, caller.token, &wanted, asked).await? {
        return Ok(Json(known));
    }
    let Named { function, which } = called(&wanted.function)?;
    let version = functions::named(&state, &function, &which).await?;
    let version_name = format!("{}@{}", version.function, version.number);
    let inputs = inputs(&state, wanted.inputs.clone()).await?;
    let now = clock::now();
    let mut spec = spec(wanted, version.version, &version.function, inputs, now)?;
    spec.request = asked;
    let problems = submit::check(&spec);
    if !problems.is_empty() {
        let (messages, hints): (Vec<String>, Vec<String>) = problems.iter().map(submit::Problem::in_words).unzip();
        return Err(Refused::invalid(format!("the job cannot be taken: {}", messages.join("; ")), Some(&hints.join("; "))));
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
    let mut answer = submitted(&spec, version_name.clone(), now);
    answer.warnings.extend(unknown_machines(&state, &spec).await?);
    let submission = Submission {
        owner: caller.token,
        submitter: caller.name.clone(),
        movable: movable(&state, spec.version, spec.grants).await?,
        spec,
        version_name: version_name.clone(),
        seed: rand::random(),
        ended,
    };
    tracing::trace!(target: "parts", "submission looked up");
    match state.coordinator.dispatch.submit(submission, moment).await? {
        Reply::Submitted { job, existing } => Ok(Json(Submitted { job, existing, ..answer })),
        Reply::Refused(refusal) => Err(refusal.into()),
        Reply::Done { .. } => Err(Refused::unavailable("the coordinator did not understand itself")),
    }
}

/// That machines are asked for by names that none has.
async fn unknown_machines(state: &Interface, spec: &JobSpec) -> Answer<Option<String>> {
    let named = spec.constraints.iter().filter(|wanted| wanted.label == "name" && wanted.comparison == Comparison::Equal);
    let names: Vec<String> = named.map(|wanted| wanted.value.clone()).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let unknown = state.coordinator.dispatch.query(move |scheduler, _| scheduler.unknown_names(names)).await?;
    if unknown.is_empty() {
        return Ok(None);
    }
    let agents = state.coordinator.store.agents().await?;
    let meant: String =
        unknown.iter().map(|name| alike::question(name, agents.iter().map(|agent| agent.name.as_str()))).collect();
    let words = format!("no machine that has joined is called {}: no task starts before one does", unknown.join(" or "));
    Ok(Some(if meant.is_empty() { words } else { format!("{words}; {}", meant.trim_end()) }))
}

/// What it costs to run the version so that its tasks can be moved.
async fn movable(state: &Interface, version: VersionId, grants: Grants) -> Answer<Option<Movable>> {
    let unreadable = |error: CatalogueError| Refused::unavailable(format!("the version's manifest cannot be read: {error}"));
    state.coordinator.catalogue.movable(version, grants).await.map_err(unreadable)
}

/// The job that the same person submitted before under the same key, as long as it is remembered. Another request under
/// that key is refused: whoever asks would take the results of the one for those of the other.
async fn known(state: &Interface, owner: TokenId, wanted: &SubmitRequest, asked: Option<Digest>) -> Answer<Option<Submitted>> {
    let Some(key) = &wanted.idempotency_key else { return Ok(None) };
    let Some(job) = state.coordinator.store.job_by_key(owner, key).await? else { return Ok(None) };
    let Some(record) = state.coordinator.store.job(job).await? else { return Ok(None) };
    if record.spec.request != asked {
        return Err(Refusal::KeyTaken { job }.into());
    }
    let now = clock::now();
    let answer = submitted(&record.spec, record.version_name, now);
    let warnings = if record.state.is_ended() { Vec::new() } else { answer.warnings };
    Ok(Some(Submitted { job, existing: true, warnings, ..answer }))
}

/// What is asked for, whatever words were left out or spelt otherwise. The version that a name stands for today, and what
/// a relative time comes to, are no part of it: whoever asks again after a lost answer asks for the same.
fn digest(wanted: &SubmitRequest) -> Digest {
    let (retry, limits) = (RetryPolicy::default(), AttemptLimits::default());
    let zone = wanted.zone.clone().unwrap_or_default().0;
    let window = wanted.window.as_ref().map(|text| match Window::parse_in(text, &zone) {
        Ok(window) => window.to_string(),
        Err(_) => text.clone(),
    });
    let mut grants = wanted.grants.clone();
    grants.sort_unstable();
    grants.dedup();
    let whole = SubmitRequest {
        priority: wanted.priority,
        retries: wanted.retries.or(Some(retry.retries)),
        backoff_ms: wanted.backoff_ms.or(Some(retry.backoff_ms)),
        backoff_max_ms: wanted.backoff_max_ms.or(Some(retry.backoff_max_ms)),
        time_limit_ms: wanted.time_limit_ms.or(Some(limits.time_ms)),
        memory_bytes: wanted.memory_bytes.or(Some(limits.memory_bytes)),
        output_bytes: wanted.output_bytes.or(Some(limits.output_bytes)),
        log_bytes: wanted.log_bytes.or(Some(limits.log_bytes)),
        scratch_bytes: wanted.scratch_bytes.or(Some(limits.scratch_bytes)),
        exit_codes: wanted.exit_codes.clone().or_else(|| Some(Text::default())),
        verify: wanted.verify.filter(|share| *share != Share::NONE),
        // Where nothing is understood by it, it says only who asks.
        zone: None,
        grants,
        window,
        ..wanted.clone()
    };
    Digest::of(&serde_json::to_vec(&whole).expect("a request is JSON"))
}

/// The answer to a submission, but for the job's number.
fn submitted(spec: &JobSpec, function: String, now: Timestamp) -> Submitted {
    let opens = spec.window.as_ref().filter(|window| !window.is_open(now)).map(|window| window.next_open(now));
    Submitted {
        job: JobId(0),
        existing: false,
        function,
        tasks: spec.inputs.count(),
        zone: Text(spec.zone.clone()),
        window: spec.window.as_ref().map(ToString::to_string),
        opens: opens.flatten().map(|opens| opens.to_jiff()),
        finish_by: spec.finish_by.map(|at| at.to_jiff()),
        warnings: too_late(spec, now).into_iter().collect(),
    }
}

/// That the job must have ended before its window opens, if that is so.
pub(crate) fn too_late(spec: &JobSpec, now: Timestamp) -> Option<String> {
    let (window, finish_by) = (spec.window.as_ref()?, spec.finish_by?);
    let spoken = |at: Timestamp| at.to_jiff().to_zoned(spec.zone.rules().clone()).strftime("%a %Y-%m-%d %H:%M").to_string();
    let opens = match window.next_open(now) {
        Some(opens) if opens < finish_by => return None,
        Some(opens) => format!("opens at {}", spoken(opens)),
        None => "never opens".to_owned(),
    };
    Some(format!(
        "its tasks expire at {} ({}), and before that its window {window} does not open: it {opens}",
        spoken(finish_by),
        spec.zone
    ))
}

/// `name`, `name@3` or `name@stable`.
fn called(text: &str) -> Answer<Named> {
    text.parse().map_err(|wrong: NoVersion| Refused::field("function", &wrong.to_string()))
}

async fn inputs(state: &Interface, wanted: InputsBody) -> Answer<Inputs> {
    match wanted {
        InputsBody::Range { first, count } => {
            if first.checked_add(u64::from(count)).is_none() {
                return Err(Refused::invalid("`inputs.range`: the last number is too large", Some("number the tasks from 0")));
            }
            Ok(Inputs::Range { first, count })
        }
        InputsBody::Numbers(numbers) => Ok(Inputs::Numbers(numbers.0)),
        InputsBody::Pack { digest, size_bytes } => {
            let pack = BlobRef { digest, size_bytes };
            let count = check_pack(state, pack).await?;
            Ok(Inputs::Pack { pack, count })
        }
    }
}

/// Checks every row of a pack and that the store has every blob it names, and keeps them; the number of its inputs.
async fn check_pack(state: &Interface, pack: BlobRef) -> Answer<u32> {
    let (store, inputs) = (&state.coordinator.store, &state.coordinator.catalogue.inputs);
    const UPLOAD: Option<&str> = Some("upload it first with PUT /api/v1/blobs");
    const SIZES: Option<&str> = Some("give the size of the bytes that were uploaded");
    match store.touch_blob(&pack.digest, clock::now()).await? {
        None => return Err(Refused::invalid("`inputs.pack`: the input pack is not there", UPLOAD)),
        Some(blob) if blob != pack => {
            let message = format!("`inputs.pack`: the input pack has {} bytes, not {}", blob.size_bytes, pack.size_bytes);
            return Err(Refused::invalid(message, SIZES));
        }
        Some(_) => {}
    }
    let count = inputs.count(&pack).await?;
    let mut known: BTreeMap<Digest, u64> = BTreeMap::new();
    for index in 0..count {
        let EntryContent::Blob(input) = inputs.entry(&pack, index).await?.content else { continue };
        if !known.contains_key(&input.digest)
            && let Some(blob) = store.touch_blob(&input.digest, clock::now()).await?
        {
            known.insert(blob.digest, blob.size_bytes);
        }
        match known.get(&input.digest) {
            Some(size) if *size == input.size_bytes => {}
            Some(size) => {
                return Err(Refused::invalid(format!("input {index} has {size} bytes, not {}", input.size_bytes), SIZES));
            }
            None => return Err(Refused::invalid(format!("input {index} is {}, which is not there", input.digest), UPLOAD)),
        }
    }
    Ok(count)
}

/// The job with all that was left out filled in.
fn spec(wanted: SubmitRequest, version: VersionId, function: &str, inputs: Inputs, now: Timestamp) -> Answer<JobSpec> {
    let (retry, limits) = (RetryPolicy::default(), AttemptLimits::default());
    let zone = wanted.zone.unwrap_or_default().0;
    let window = wanted.window.as_deref().map(|text| Window::parse_in(text, &zone)).transpose();
    let finish_by = match (wanted.finish_by, wanted.finish_in_ms) {
        (Some(_), Some(_)) => {
            return Err(Refused::invalid(
                "`finish_by` and `finish_in_ms`: a job cannot have to finish both at a moment and after a time",
                Some("give one of them"),
            ));
        }
        (at, None) => at.map(Into::into),
        (None, Some(length)) => {
            let within = bound::FINISH_IN.check(length);
            Some(now + Duration::from_millis(within.map_err(|outside| Refused::field("finish_in_ms", &outside.to_string()))?))
        }
    };
    // Whoever said one of the two pauses did not mean the other to forbid it.
    let (backoff_ms, backoff_max_ms) = match (wanted.backoff_ms, wanted.backoff_max_ms) {
        (None, most) => {
            let most = most.unwrap_or(retry.backoff_max_ms);
            (retry.backoff_ms.min(most), most)
        }
        (Some(first), most) => (first, most.unwrap_or(retry.backoff_max_ms.max(first))),
    };
    Ok(JobSpec {
        name: wanted.name.unwrap_or_else(|| function.to_owned()),
        version,
        args: wanted.args,
        env: wanted.env.into_iter().collect(),
        inputs,
        priority: Priority(wanted.priority),
        retry: RetryPolicy { retries: wanted.retries.unwrap_or(retry.retries), backoff_ms, backoff_max_ms },
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
        window: window.map_err(|error| Refused::field("window", &error.to_string()))?,
        finish_by,
        zone,
        after: wanted.after.into_iter().map(Dependency::from).collect(),
        failures_max: wanted.failures_max,
        at_once: wanted.at_once,
        exit_codes: wanted.exit_codes.unwrap_or_default().0,
        fail_fast_on: wanted.fail_fast_on.into_iter().map(|class| class.0).collect(),
        idempotency_key: wanted.idempotency_key,
        request: None,
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
    use crate::version::Which;

    fn wanted() -> SubmitRequest {
        SubmitRequest { function: "stats".into(), ..SubmitRequest::default() }
    }

    fn made(wanted: SubmitRequest) -> Answer<JobSpec> {
        spec(wanted, VersionId(1), "stats", Inputs::Range { first: 0, count: 1 }, NOON)
    }

    /// A Monday, 13:00 in Amsterdam.
    const NOON: Timestamp = Timestamp(1_796_040_000_000_000);

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().expect("an instant")
    }

    #[test]
    fn what_is_left_out_takes_its_default() {
        let spec = made(wanted()).expect("a job");
        assert_eq!((spec.name.as_str(), spec.retry, spec.limits), ("stats", RetryPolicy::default(), AttemptLimits::default()));
        assert_eq!(submit::check(&spec), Vec::new());
    }

    #[test]
    fn a_window_that_is_none_is_refused() {
        let refused = made(SubmitRequest { window: Some("nightly".into()), ..wanted() }).expect_err("no window").into_parts().1;
        assert!(
            refused.message.starts_with("`window`: `nightly` is not a valid window") && refused.hint.is_some(),
            "{refused:?}"
        );
        let spec = made(SubmitRequest { grants: vec![Grant::Clock], ..wanted() }).expect("a job");
        assert_eq!(spec.grants, Grants { clock: true, ..Grants::default() });
    }

    #[test]
    fn a_window_without_a_zone_is_in_that_of_whoever_submits() {
        let wanted = SubmitRequest {
            window: Some("22:00-06:00".into()),
            zone: Some(Text("Europe/Amsterdam".parse().expect("a zone"))),
            finish_in_ms: Some(60_000),
            ..wanted()
        };
        let answer = submitted(&made(wanted.clone()).expect("a job"), "stats@1".into(), NOON);
        assert_eq!(answer.window.as_deref(), Some("22:00-06:00 Europe/Amsterdam"));
        assert_eq!(answer.opens, Some(at("2026-11-30T21:00:00Z")));
        assert_eq!(answer.finish_by, Some(at("2026-11-30T12:01:00Z")));
        assert!(made(SubmitRequest { finish_by: Some(at("2027-03-01T05:00:00Z")), ..wanted }).is_err(), "both");
    }

    #[test]
    fn a_job_that_must_finish_before_its_window_opens_is_warned_of() {
        let warnings = |finish_by: &str| {
            let wanted = SubmitRequest {
                window: Some("22:00-06:00".into()),
                zone: Some(Text("Europe/Amsterdam".parse().expect("a zone"))),
                finish_by: Some(at(finish_by)),
                ..wanted()
            };
            submitted(&made(wanted).expect("a job"), "stats@1".into(), NOON).warnings
        };
        let [warning] = &warnings("2026-11-30T20:30:00Z")[..] else { panic!("one warning") };
        assert!(warning.contains("Mon 2026-11-30 21:30 (Europe/Amsterdam)") && warning.contains("22:00"), "{warning}");
        assert_eq!(warnings("2026-11-30T21:00:00Z").len(), 1, "no time is left at the moment that it opens");
        assert_eq!(warnings("2026-11-30T21:00:01Z"), Vec::<String>::new());
    }

    #[test]
    fn a_request_is_the_same_in_other_words_and_another_with_any_other_wish() {
        let key = |wanted: SubmitRequest| digest(&SubmitRequest { idempotency_key: Some("k".into()), ..wanted });
        let first = key(wanted());
        let spelt_out = SubmitRequest {
            retries: Some(2),
            memory_bytes: Some(AttemptLimits::default().memory_bytes),
            exit_codes: Some(Text("0".parse().expect("codes"))),
            zone: Some(Text("Europe/Amsterdam".parse().expect("a zone"))),
            ..wanted()
        };
        assert_eq!(key(spelt_out), first);
        let others = [
            SubmitRequest { function: "other".into(), ..wanted() },
            SubmitRequest { inputs: InputsBody::Range { first: 0, count: 100 }, ..wanted() },
            SubmitRequest { args: vec!["-v".into()], ..wanted() },
            SubmitRequest { retries: Some(3), ..wanted() },
            SubmitRequest { finish_in_ms: Some(1), ..wanted() },
            SubmitRequest { at_once: Some(1), ..wanted() },
            SubmitRequest { exit_codes: Some(Text("0,3".parse().expect("codes"))), ..wanted() },
            SubmitRequest { window: Some("22:00-06:00".into()), ..wanted() },
        ];
        for other in others {
            assert_ne!(key(other.clone()), first, "{other:?}");
        }
        let nightly = |zone: &str| {
            let zone = Some(Text(zone.parse().expect("a zone")));
            key(SubmitRequest { window: Some("22:00-06:00".into()), zone, ..wanted() })
        };
        assert_ne!(nightly("Europe/Amsterdam"), nightly("America/New_York"), "another night");
    }

    #[test]
    fn one_pause_before_a_retry_goes_without_the_other() {
        let pauses = |backoff_ms, backoff_max_ms| {
            let retry = made(SubmitRequest { backoff_ms, backoff_max_ms, ..wanted() }).expect("a job").retry;
            (retry.backoff_ms, retry.backoff_max_ms)
        };
        assert_eq!((pauses(None, None), pauses(Some(600_000), None)), ((1_000, 300_000), (600_000, 600_000)));
        assert_eq!((pauses(None, Some(10)), pauses(Some(5), Some(9))), ((10, 10), (5, 9)));
        let far = made(SubmitRequest { finish_in_ms: Some(u64::MAX), ..wanted() }).expect_err("too far").into_parts().1;
        assert!(far.message.starts_with("`finish_in_ms`: ") && far.hint.is_some(), "{far:?}");
    }

    #[test]
    fn a_version_is_named_by_its_number() {
        assert_eq!(called("stats").expect("a name").which, Which::Usual);
        assert_eq!(called("stats@3").expect("a version").which, Which::Number(3));
        let (status, detail) = called("stats@a b").expect_err("no version").into_parts();
        assert!(status == 400 && detail.message.starts_with("`function`: "), "{detail:?}");
    }
}
