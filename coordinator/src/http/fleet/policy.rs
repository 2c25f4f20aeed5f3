//! The policy: what is allowed on machines, and what it means for one of them.

use axum::{Json, extract::State};
use lull_scheduler::event::Event;
use lull_shared::{
    alike,
    constraint::{Comparison, Constraint},
    hours::WeekMinute,
    policy::{Leave, Policy, slots_of, table},
    resources::Labels,
    state::{GROUP_LABEL, Intake, full_labels},
};
use serde::Deserialize;

use crate::{
    api::{Doing, Hour, Moment, OutlookBody, OverrideBody, PolicyBody, PolicyPreview, SetPolicy, SettingBody, Text, shape},
    clock,
    fleet::policies::{SetError, Wish},
    http::{
        Shared,
        door::{
            auth::{Admin, Asked, At, Body, Viewer},
            error::{Answer, Refused},
        },
        fleet::agents::find,
    },
    store::record::{AgentRecord, PolicyRecord},
};

/// `GET /policy`
pub(crate) async fn show(State(state): Shared, _viewer: Viewer) -> Json<PolicyBody> {
    Json(body(&state.coordinator.policies.current()))
}

/// `PUT /policy`
pub(crate) async fn set(State(state): Shared, admin: Admin, Body(wanted): Body<SetPolicy>) -> Answer<Json<PolicyBody>> {
    let coordinator = &state.coordinator;
    let parsed: Result<Vec<Constraint>, _> = wanted.conditions.iter().map(|text| text.parse()).collect();
    let conditions = parsed.map_err(|error| Refused::field("conditions", &error.to_string()))?;
    let wish = Wish { conditions, set: wanted.set, reset: wanted.reset };
    let unmet = unmet(&wish.conditions, &coordinator.store.agents().await?);
    match coordinator.policies.set(&*coordinator.store, &coordinator.lead, &wish, &admin.who()).await {
        Ok(changed) => {
            if changed {
                // A loop that has ended has no use for it.
                let _ = coordinator.dispatch.event(Event::PolicyChanged).await;
            }
            let warnings = unmet.into_iter().collect();
            Ok(Json(PolicyBody { warnings, ..body(&coordinator.policies.current()) }))
        }
        Err(SetError::Policy(error)) => Err(Refused::invalid(error.to_string(), None)),
        Err(SetError::Store(error)) => Err(error.into()),
        Err(error @ SetError::Contended) => {
            Err(Refused::conflict(error.to_string(), "`lull policy show` shows what it is now; set it again"))
        }
    }
}

/// `POST /policy/preview`: what a change would be, without making it.
pub(crate) async fn preview(State(state): Shared, _admin: Admin, Body(wanted): Body<SetPolicy>) -> Answer<Json<PolicyPreview>> {
    let coordinator = &state.coordinator;
    let parsed: Result<Vec<Constraint>, _> = wanted.conditions.iter().map(|text| text.parse()).collect();
    let conditions = parsed.map_err(|error| Refused::field("conditions", &error.to_string()))?;
    let agents = coordinator.store.agents().await?;
    let meets = |agent: &&AgentRecord| {
        let labels = labels(agent);
        agent.intake != Intake::Revoked && conditions.iter().all(|condition| condition.accepts(&labels))
    };
    let (machines, warnings) = (agents.iter().filter(meets).count() as u64, unmet(&conditions, &agents).into_iter().collect());
    let wish = Wish { conditions, set: wanted.set, reset: wanted.reset };
    let tried = coordinator.policies.tried(&wish).map_err(|error| Refused::invalid(error.to_string(), None))?;
    let changes = differences(&body(&coordinator.policies.current()), &body(&tried));
    Ok(Json(PolicyPreview { changes, machines, warnings }))
}

/// What is other in one policy than in another, a line each.
fn differences(before: &PolicyBody, after: &PolicyBody) -> Vec<String> {
    let pairs = before.settings.iter().zip(&after.settings).filter(|(old, new)| old.value != new.value);
    let mut lines: Vec<String> = pairs.map(|(old, new)| format!("{}: {} instead of {}", new.key, new.value, old.value)).collect();
    let told = |other: &OverrideBody| {
        let settings: Vec<String> = other.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!("on machines with {}: {}", other.conditions.join(" and "), settings.join(" "))
    };
    lines.extend(after.overrides.iter().filter(|other| !before.overrides.contains(other)).map(told));
    let gone = |other: &&OverrideBody| after.overrides.iter().all(|kept| kept.conditions != other.conditions);
    let words = |other: &OverrideBody| format!("nothing differs any more on machines with {}", other.conditions.join(" and "));
    lines.extend(before.overrides.iter().filter(gone).map(words));
    lines
}

/// Which moment of the week.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct When {
    /// As in `mon 14:00`.
    at: Option<Text<WeekMinute>>,
}

/// `GET /agents/{agent}/policy`: what it may do, and when.
pub(crate) async fn outlook(
    State(state): Shared,
    _viewer: Viewer,
    At(called): At<String>,
    Asked(when): Asked<When>,
) -> Answer<Json<OutlookBody>> {
    let record = find(&state, &called).await?;
    let coordinator = &state.coordinator;
    let agent = record.agent;
    let view = coordinator.dispatch.query(move |scheduler, _| scheduler.agent(agent)).await?;
    let capacity = view.filter(|view| view.connected.is_some()).and_then(|view| view.capacity);
    let edition = coordinator.policies.current();
    let report = coordinator.policies.reported(agent);
    let owner = report.as_ref().map(|report| report.owner.clone()).unwrap_or_default();
    let policy = edition.book.policy(&labels(&record)).narrowed_by(&owner);
    let local = report.as_ref().map(|report| WeekMinute::at(clock::now(), report.clock_ahead_min));
    let asked = when.at.map(|at| at.0);
    let cores = record.machine.as_ref().map_or(1, |machine| machine.cores);
    // What it was told to have at the most; of one that was not heard yet, what an agent has if it was told nothing.
    let slots = report.as_ref().map_or(cores, |report| report.slots_max);
    Ok(Json(OutlookBody {
        agent,
        name: record.name.clone(),
        version: report.as_ref().map(|report| report.version),
        version_set: edition.version,
        narrowed: owner.given().into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        settings: table(&policy).into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        local: local.map(|local| local.to_string()),
        now: capacity.map(|capacity| Doing {
            slots: if capacity.paused.is_some() { 0 } else { capacity.slots },
            reason: capacity.paused.as_ref().map(shape::paused),
        }),
        at: asked.or(local).map(|at| Moment {
            at: at.to_string(),
            owner_away: doing(&policy, at, false, cores, slots),
            owner_there: doing(&policy, at, true, cores, slots),
        }),
        week: week(&policy),
    }))
}

fn body(record: &PolicyRecord) -> PolicyBody {
    let base = record.book.policy(&Labels::new());
    let given = record.book.base.given();
    let settings = base.settings().into_iter().map(|setting| SettingBody {
        set: given.iter().any(|(key, _)| *key == setting.key),
        key: setting.key.into(),
        value: setting.value,
        meaning: setting.meaning.into(),
    });
    let overrides = record.book.overrides.iter().map(|other| OverrideBody {
        conditions: other.conditions.iter().map(ToString::to_string).collect(),
        settings: other.changes.given().into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    });
    PolicyBody {
        version: record.version,
        set: (record.version > 0).then(|| record.set.to_jiff()),
        set_by: (record.version > 0).then(|| record.set_by.clone()),
        settings: settings.collect(),
        overrides: overrides.collect(),
        warnings: Vec::new(),
    }
}

fn labels(record: &AgentRecord) -> Labels {
    let group = record.group.as_deref();
    match &record.machine {
        Some(machine) => full_labels(&record.labels, &record.name, group, machine),
        // It has never been here: what it says of itself is not known.
        None => {
            let given = [("name".to_owned(), record.name.clone())].into_iter();
            given.chain(group.map(|group| (GROUP_LABEL.to_owned(), group.to_owned()))).collect()
        }
    }
}

/// That no machine is meant by these conditions, where machines have joined.
fn unmet(conditions: &[Constraint], agents: &[AgentRecord]) -> Option<String> {
    let members: Vec<&AgentRecord> = agents.iter().filter(|agent| agent.intake != Intake::Revoked).collect();
    let meets = |agent: &&AgentRecord| {
        let labels = labels(agent);
        conditions.iter().all(|condition| condition.accepts(&labels))
    };
    if conditions.is_empty() || members.is_empty() || members.iter().any(meets) {
        return None;
    }
    let words: Vec<String> = conditions.iter().map(ToString::to_string).collect();
    let all: Vec<Labels> = members.iter().map(|agent| labels(agent)).collect();
    let meant: String = conditions.iter().map(|condition| meant(condition, &all)).collect();
    let meant = if meant.is_empty() { meant } else { format!("; {}", meant.trim_end()) };
    Some(format!(
        "no machine that has joined meets {} at the moment, so that this changes nothing yet{meant}",
        words.join(" and ")
    ))
}

/// The label, or its value, that is most likely meant by a condition that no machine meets.
fn meant(condition: &Constraint, all: &[Labels]) -> String {
    let mut values = all.iter().filter_map(|labels| labels.get(&condition.label).map(String::as_str)).peekable();
    match condition.comparison {
        _ if values.peek().is_none() => {
            alike::question(&condition.label, all.iter().flat_map(|labels| labels.keys().map(String::as_str)))
        }
        Comparison::Equal if values.clone().all(|value| value != condition.value) => alike::question(&condition.value, values),
        Comparison::Equal | Comparison::NotEqual | Comparison::AtLeast | Comparison::AtMost => String::new(),
    }
}

fn doing(policy: &Policy, at: WeekMinute, owner_there: bool, cores: u16, slots: u16) -> Doing {
    let leave = policy.leave(at, owner_there);
    let (share, _) = policy.share(leave);
    Doing { slots: slots_of(share, cores, slots), reason: policy.objection(leave).as_ref().map(shape::paused) }
}

fn week(policy: &Policy) -> Vec<Vec<Hour>> {
    let leave = |minute: u16| policy.leave(WeekMinute::new(minute), false);
    let hour = |hour: u16| {
        let minutes = (hour * 60..(hour + 1) * 60).map(leave);
        let (mut full_min, mut light_min) = (0, 0);
        for leave in minutes {
            match leave {
                Leave::Away => full_min += 1,
                Leave::Beside => light_min += 1,
                Leave::Closed { .. } | Leave::Owner => {}
            }
        }
        Hour { full_min, light_min }
    };
    (0..7).map(|day| (day * 24..(day + 1) * 24).map(hour).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::sample;

    #[test]
    fn a_week_has_seven_days_of_hours_and_says_what_each_minute_allows() {
        let week = week(&Policy::default());
        assert_eq!((week.len(), week[0].len()), (7, 24));
        assert_eq!((week[0][14], week[0][18]), (Hour { full_min: 0, light_min: 0 }, Hour { full_min: 60, light_min: 0 }));
        assert_eq!(week[5][14].full_min, 60, "Saturday");
    }

    #[test]
    fn no_more_tasks_run_at_a_time_than_the_agent_has_slots() {
        let at: WeekMinute = "sat 02:00".parse().expect("a moment");
        let slots = |slots| doing(&Policy::unrestricted(), at, false, 16, slots).slots;
        assert_eq!([1, 3, 16, 64].map(slots), [1, 3, 16, 64.min(slots_of(100, 16, 64))]);
    }

    #[test]
    fn conditions_that_no_machine_meets_are_told() {
        let agent = |number, name: &str, intake| AgentRecord { group: Some("lab".into()), intake, ..sample::agent(number, name) };
        let agents = [agent(1, "desk-1", Intake::Open), agent(2, "desk-2", Intake::Revoked)];
        let told = |texts: &[&str]| {
            let conditions: Vec<Constraint> = texts.iter().map(|text| text.parse().expect("a condition")).collect();
            unmet(&conditions, &agents)
        };
        assert_eq!((told(&[]), told(&["name=desk-1"]), told(&["name=desk-1", "group=lab"])), (None, None, None));
        for hits_nobody in ["name=desk-9", "name=desk-2", "site=berlin"] {
            let words = told(&[hits_nobody, "group=lab"]).expect("it is said");
            assert!(words.contains(&format!("{hits_nobody} and group=lab")), "{words}");
        }
        assert!(told(&["name=DESK-1"]).expect("it is said").ends_with("; did you mean `desk-1`?"));
        assert!(told(&["group=lba"]).expect("it is said").ends_with("; did you mean `lab`?"));
        assert!(told(&["gruop=lab"]).expect("it is said").ends_with("; did you mean `group`?"));
        let nobody = unmet(&["name=desk-9".parse().expect("a condition")], &[]);
        assert_eq!(nobody, None, "rules may be made before anybody joins");
    }

    #[test]
    fn a_moment_is_told_for_an_owner_who_is_there_and_for_one_who_is_not() {
        let policy = Policy::default();
        let night = "mon 20:00".parse().expect("a minute");
        assert_eq!(doing(&policy, night, false, 8, 8), Doing { slots: 7, reason: None });
        let there = doing(&policy, night, true, 8, 8);
        assert_eq!((there.slots, there.reason.map(|reason| reason.kind)), (0, Some("present".into())));
        let day = doing(&policy, "mon 14:00".parse().expect("a minute"), false, 8, 8);
        assert!(day.reason.expect("closed").message.contains("mon 18:00"));
    }
}
