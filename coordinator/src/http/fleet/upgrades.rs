//! Rollouts: how agents become another version.

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State};
use lull_scheduler::rollout::{Plan, Step};
use lull_shared::{
    constraint::Constraint,
    limits::LABELS_MAX,
    release::{PACKAGE_BYTES_MAX, version},
};

use crate::{
    api::{Affected, BeginUpgrade, BehindBody, Page, UpgradeBody, UpgradeState, UpgradedAgent},
    clock,
    fleet::upgrades::{BeginError, Seen, Wish},
    http::{
        Shared,
        door::{
            auth::{Admin, Body, Viewer},
            error::{Answer, Refused},
        },
        work::blobs::too_large,
    },
};

/// How long agents may follow a release, unless something else is said.
const EXPIRES_DEFAULT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest that may be said: a package that old has faults that are known.
const EXPIRES_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Agents with a reason that one answer names: more tell nothing more.
const TROUBLED_MAX: usize = 100;

/// `GET /upgrades`: of each platform the one that holds.
pub(crate) async fn list(State(state): Shared, _viewer: Viewer) -> Json<Page<UpgradeBody>> {
    Json(Page::whole(state.coordinator.upgrades.all().iter().map(body).collect()))
}

/// `POST /upgrades`
pub(crate) async fn begin(State(state): Shared, admin: Admin, Body(wanted): Body<BeginUpgrade>) -> Answer<Json<UpgradeBody>> {
    let coordinator = &state.coordinator;
    let parsed: Result<Vec<Constraint>, _> = wanted.conditions.iter().map(|text| text.parse()).collect();
    let conditions = parsed.map_err(|error| Refused::field("conditions", &error.to_string()))?;
    if conditions.len() > LABELS_MAX {
        return Err(Refused::field("conditions", &format!("{LABELS_MAX} at most")));
    }
    version(&wanted.version).map_err(|error| Refused::field("version", &error.to_string()))?;
    let usual = Plan::default();
    let tolerate_percent = wanted.tolerate_percent.unwrap_or(usual.tolerate_percent);
    if tolerate_percent > 100 {
        return Err(Refused::field("tolerate_percent", "a share is 0 to 100"));
    }
    let expires = wanted.expires_s.map_or(EXPIRES_DEFAULT, Duration::from_secs);
    if expires > EXPIRES_MAX || expires.is_zero() {
        return Err(Refused::field("expires_s", &format!("1 to {} seconds", EXPIRES_MAX.as_secs())));
    }
    let Some(package) = coordinator.store.touch_blob(&wanted.package, clock::now()).await? else {
        return Err(Refused::not_found("`package`: no blob with this digest is here", "upload it first: `PUT /api/v1/blobs`"));
    };
    if package.size_bytes > PACKAGE_BYTES_MAX {
        return Err(too_large(PACKAGE_BYTES_MAX));
    }
    let plan = Plan {
        waves: wanted.waves,
        conditions,
        within_s: wanted.within_s.unwrap_or(usual.within_s),
        steady_s: wanted.steady_s.unwrap_or(usual.steady_s),
        tolerate_percent,
    };
    let (platform, version, expires) = (wanted.platform, wanted.version, clock::now() + expires);
    let wish = Wish { platform, version, package, plan, expires };
    let begun = coordinator.upgrades.begin(&*coordinator.store, &coordinator.lead, wish, &admin.who()).await;
    let record = begun.map_err(|error| match error {
        BeginError::Store(error) => error.into(),
        BeginError::Version(error) => Refused::field("version", &error.to_string()),
        BeginError::Contended => Refused::conflict(error.to_string(), "`lull agent upgrade` shows the one that holds"),
    })?;
    let seen = coordinator.upgrades.all().into_iter().find(|seen| seen.record.number == record.number);
    Ok(Json(body(&seen.unwrap_or(Seen { record, machines: 0, behind: 0 }))))
}

/// `POST /upgrades/stop`: nobody else is told, until it goes on.
pub(crate) async fn stop(State(state): Shared, admin: Admin) -> Answer<Json<Affected>> {
    let coordinator = &state.coordinator;
    let affected = coordinator.upgrades.stop(&*coordinator.store, &coordinator.lead, &admin.who()).await?;
    Ok(Json(Affected { affected }))
}

/// `POST /upgrades/resume`: those that stand still go on, and what has failed is forgiven.
pub(crate) async fn resume(State(state): Shared, admin: Admin) -> Answer<Json<Affected>> {
    let coordinator = &state.coordinator;
    let affected = coordinator.upgrades.resume(&*coordinator.store, &coordinator.lead, &admin.who()).await?;
    Ok(Json(Affected { affected }))
}

/// What an agent that is behind is to become.
pub(super) fn behind((version, step): (String, Option<Step>)) -> BehindBody {
    let reason = step.as_ref().and_then(Step::reason).map(str::to_owned);
    BehindBody { version, step: step.map(|step| step.as_str().to_owned()), reason }
}

/// Rollouts that stand still, in words.
pub(super) fn standing_still(all: &[Seen]) -> Vec<String> {
    let words = |seen: &Seen| {
        let (record, why) = (&seen.record, seen.record.standing.stopped.as_deref()?);
        (seen.behind > 0)
            .then(|| format!("the rollout of version {} ({}) has stopped: {why}", record.version, record.platform.as_str()))
    };
    all.iter().filter_map(words).collect()
}

fn body(seen: &Seen) -> UpgradeBody {
    let Seen { record, machines, behind } = seen;
    let standing = &record.standing;
    let mut steps = BTreeMap::<String, u64>::new();
    for step in standing.agents.values() {
        *steps.entry(step.as_str().to_owned()).or_default() += 1;
    }
    let troubled = standing.agents.iter().filter_map(|(agent, step)| {
        let reason = step.reason()?.to_owned();
        Some(UpgradedAgent { agent: *agent, step: step.as_str().to_owned(), reason })
    });
    let under_way = standing.agents.values().any(|step| matches!(step, Step::Given | Step::Back));
    let state = match &standing.stopped {
        Some(_) if *behind > 0 => UpgradeState::Stopped,
        _ if *behind == 0 && !under_way => UpgradeState::Done,
        Some(_) => UpgradeState::Stopped,
        None => UpgradeState::Running,
    };
    UpgradeBody {
        release: record.number,
        platform: record.platform,
        version: record.version.clone(),
        package: record.package.digest,
        package_bytes: record.package.size_bytes,
        state,
        stopped: standing.stopped.clone(),
        waves: record.plan.waves.clone(),
        waves_begun: standing.begun,
        conditions: record.plan.conditions.iter().map(ToString::to_string).collect(),
        within_s: record.plan.within_s,
        steady_s: record.plan.steady_s,
        tolerate_percent: record.plan.tolerate_percent,
        machines: *machines,
        behind: *behind,
        steps,
        troubled: troubled.take(TROUBLED_MAX).collect(),
        begun: record.begun.to_jiff(),
        begun_by: record.begun_by.clone(),
        expires: record.expires.to_jiff(),
    }
}
