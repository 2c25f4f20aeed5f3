//! What people write: conditions, windows, arrays, amounts, moments, identifiers, lists of inputs.

use std::{fmt::Display, path::Path, str::FromStr};

use lull_coordinator::cli::{amount, input, moment, selector};
use lull_shared::{
    bound,
    constraint::Constraint,
    digest::Digest,
    id::{AgentId, AttemptId, JobId, TaskId, VersionId},
    numbers::Numbers,
    resources::Labels,
    time::Timestamp,
    window::Window,
    zone::Zone,
};

use super::{choice, memory::bounded};

/// A text; the first byte says what it is meant as.
///
/// What is understood is printed in words that are understood alike; a window's next change is later than now and
/// does change it.
pub fn words(bytes: &[u8]) {
    let (which, rest) = choice(bytes);
    let Ok(text) = std::str::from_utf8(rest) else { return };
    bounded(text.len(), || match which % 16 {
        0 => constraint(text),
        1 => window(text),
        2 => array(text),
        3 => drop(bound::TIME_LIMIT.read(text)),
        4 => drop(bound::MEMORY.read(text)),
        5 => drop(text.parse::<selector::AfterName>()),
        6 => {
            let variable = amount::variable(text);
            assert!(variable.is_err() || variable.is_ok_and(|(key, value)| format!("{key}={value}") == text));
        }
        7 => moment(text),
        8 => reads_back::<JobId>(text),
        9 => reads_back::<TaskId>(text),
        10 => reads_back::<AttemptId>(text),
        11 => reads_back::<AgentId>(text),
        12 => reads_back::<VersionId>(text),
        13 => reads_back::<Digest>(text),
        14 => drop(input::elements::split(text, Path::new("list.json"))),
        _ => assert!(input::lines(text).len() <= text.len()),
    });
}

fn reads_back<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let printed = value.to_string();
    assert!(printed.parse::<T>().is_ok_and(|again| again == value), "`{text}` became `{printed}`");
}

fn constraint(text: &str) {
    reads_back::<Constraint>(text);
    let Ok(constraint) = text.parse::<Constraint>() else { return };
    let labels = |value: &str| Labels::from([(constraint.label.clone(), value.to_owned())]);
    let same = constraint.accepts(&labels(&constraint.value));
    let Constraint { comparison, .. } = &constraint;
    assert_eq!(same, *comparison != lull_shared::constraint::Comparison::NotEqual, "{constraint} of its own value");
    let _ = constraint.accepts(&labels("8GiB"));
}

fn window(text: &str) {
    reads_back::<Window>(text);
    let Ok(window) = text.parse::<Window>() else { return };
    for now in [i64::MIN, 0, 1_774_746_000_000_000, 1_795_435_200_000_000, i64::MAX].map(Timestamp) {
        let Some(change) = window.next_change(now) else { continue };
        assert!(change > now, "{window} changes at {change}, seen at {now}");
        assert_ne!(window.is_open(change), window.is_open(now), "{window} does not change at {change}");
        assert!(window.next_open(now).is_none_or(|open| open >= now && window.is_open(open)));
    }
}

fn array(text: &str) {
    reads_back::<Numbers>(text);
    let Ok(array) = amount::array(text) else { return };
    assert!(array.count() > 0);
    assert!(array.get(0).is_some() && array.get(array.count() - 1).is_some() && array.get(array.count()).is_none());
}

fn moment(text: &str) {
    let zone: Zone = "Europe/Amsterdam".parse().unwrap_or_default();
    let Ok(moment) = moment::moment(text) else { return };
    for now in [0, 1_774_746_000, 1_795_435_200] {
        let now = jiff::Timestamp::from_second(now).expect("within the calendar");
        let _ = moment.resolve(now, &zone);
    }
}
