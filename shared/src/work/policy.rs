//! What an administrator allows on a machine, and what its owner narrows.
//!
//! ```text
//! Policy::default() --Book.base--> --each override whose condition the agent meets--> the agent's Policy
//!                                   signed as a Sheet, by agent and version          |
//!                                                     narrowed by the owner's Changes v
//!                                                                                effective
//! ```
//! Every setting has a direction: of two values one is the narrower. An owner's word counts where it is that.
//! What is measured and how quickly it changes the verdict is the agent's guard; here is only what is allowed.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    alike,
    amount::quoted,
    constraint::Constraint,
    hours::{Hours, WeekMinute},
    id::AgentId,
    identity::Claim,
    misread,
    resources::Labels,
    state::PauseReason,
};

/// A book with more overrides is a list of machines and not a policy.
pub const OVERRIDES_MAX: usize = 256;
/// Conditions of one override.
const CONDITIONS_MAX: usize = 16;
/// Longer times in a policy are a slip of the pen.
const SPAN_S_MAX: u32 = 24 * 60 * 60;

macro_rules! policy {
    ($( $(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:expr, $narrower:expr; )+) => {
        /// What is allowed on a machine.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Policy { $( $(#[doc = $doc])+ pub $key: $kind, )+ }

        /// Some settings of a policy: those that differ from another one.
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Changes { $( $(#[doc = $doc])+ pub $key: Option<$kind>, )+ }

        impl Default for Policy {
            fn default() -> Self {
                Self { $( $key: $default, )+ }
            }
        }

        impl Policy {
            /// The same with some settings replaced, whichever way.
            #[must_use]
            pub fn with(&self, changes: &Changes) -> Self {
                Self { $( $key: changes.$key.clone().unwrap_or_else(|| self.$key.clone()), )+ }
            }

            /// The narrower of both in each setting.
            #[must_use]
            pub fn meet(&self, other: &Self) -> Self {
                Self { $( $key: ($narrower)(&self.$key, &other.$key), )+ }
            }

            /// Each setting: its key, its value, and what it means.
            pub fn settings(&self) -> Vec<Setting> {
                vec![$( Setting {
                    key: stringify!($key),
                    value: self.$key.to_string(),
                    meaning: concat!($($doc),+).trim(),
                }, )+]
            }
        }

        impl Changes {
            /// Every setting of a policy.
            pub fn all(policy: &Policy) -> Self {
                Self { $( $key: Some(policy.$key.clone()), )+ }
            }

            /// The keys and values that there are.
            pub fn given(&self) -> Vec<(&'static str, String)> {
                let all = [$( (stringify!($key), self.$key.as_ref().map(ToString::to_string)), )+];
                all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
            }

            /// These, and `newer` where it says something.
            #[must_use]
            pub fn and(&self, newer: &Self) -> Self {
                Self { $( $key: newer.$key.clone().or_else(|| self.$key.clone()), )+ }
            }

            /// The narrower of both where both say something, so that narrowing by it is narrowing by each of them.
            #[must_use]
            pub fn meet(&self, other: &Self) -> Self {
                let met = Policy::default().with(self).meet(&Policy::default().with(other));
                Self {
                    $( $key: match (&self.$key, &other.$key) {
                        (Some(_), Some(_)) => Some(met.$key.clone()),
                        (Some(one), None) | (None, Some(one)) => Some(one.clone()),
                        (None, None) => None,
                    }, )+
                }
            }

            /// Takes one more, as somebody wrote it.
            pub fn set(&mut self, key: &str, text: &str) -> Result<(), PolicyError> {
                match key {
                    $( stringify!($key) => {
                        let wrong = |reason| PolicyError::Value { key: stringify!($key), reason };
                        self.$key = Some(<$kind as Written>::read(text).map_err(wrong)?);
                    } )+
                    _ => return Err(PolicyError::Key(key.to_owned())),
                }
                Ok(())
            }

            /// These without one; none when there is no such key.
            pub fn without(&self, key: &str) -> Option<Self> {
                let mut rest = self.clone();
                match key {
                    $( stringify!($key) => rest.$key = None, )+
                    _ => return None,
                }
                Some(rest)
            }
        }
    };
}

policy! {
    /// How long the owner must have left keyboard and mouse alone before work starts; 0s does not look at them.
    idle: Span = Span(600), |a: &Span, b: &Span| *a.max(b);
    /// When work may run, by the machine's own clock.
    hours: Hours = Hours::from_str("18:00-08:00; 00:00-24:00 sat,sun").unwrap_or_else(|_| Hours::never()), Hours::intersection;
    /// What work may take of the processors while the owner is away, in percent.
    cores: Percent = Percent(90), |a: &Percent, b: &Percent| *a.min(b);
    /// What work may take of the memory while the owner is away, in percent.
    memory: Percent = Percent(50), |a: &Percent, b: &Percent| *a.min(b);
    /// Whether light work goes on beside the owner and outside the hours.
    beside_owner: bool = false, |a: &bool, b: &bool| *a && *b;
    /// What light work may take of the processors, in percent.
    beside_cores: Percent = Percent(10), |a: &Percent, b: &Percent| *a.min(b);
    /// What light work may take of the memory, in percent.
    beside_memory: Percent = Percent(10), |a: &Percent, b: &Percent| *a.min(b);
    /// Whether work runs on battery.
    on_battery: bool = false, |a: &bool, b: &bool| *a && *b;
    /// The charge that a battery must have for that, in percent.
    battery_min: Percent = Percent(50), |a: &Percent, b: &Percent| *a.max(b);
    /// Whether work runs while the network is metered.
    on_metered: bool = false, |a: &bool, b: &bool| *a && *b;
    /// Whether work runs while a program fills the screen, as a film or a presentation does.
    on_full_screen: bool = false, |a: &bool, b: &bool| *a && *b;
    /// Whether work runs although the machine wants to be restarted.
    before_reboot: bool = true, |a: &bool, b: &bool| *a && *b;
    /// Whether work runs on a machine where no sensor sees keyboard and mouse, as on one without a desktop.
    unseen: bool = false, |a: &bool, b: &bool| *a && *b;
    /// Above this temperature work pauses, in degrees Celsius.
    temperature_max: Celsius = Celsius(85), |a: &Celsius, b: &Celsius| *a.min(b);
    /// How long paused work stays in memory before the agent gives it up.
    grace: Span = Span(60), |a: &Span, b: &Span| *a.min(b);
    /// Whether a sleeping machine may be woken for work.
    wake_on_lan: bool = false, |a: &bool, b: &bool| *a && *b;
    /// Whether work may keep the machine from going to sleep.
    keep_awake: bool = false, |a: &bool, b: &bool| *a && *b;
    /// Whether the network may upgrade the agent, on machines whose administrator trusts it with that.
    upgrades: bool = true, |a: &bool, b: &bool| *a && *b;
}

/// One setting as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: &'static str,
    pub value: String,
    pub meaning: &'static str,
}

/// What the clock and the owner's presence leave to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// All that is allowed without the owner.
    Away,
    /// Light work.
    Beside,
    /// Nothing: outside the hours, which begin then, if ever.
    Closed { opens: Option<WeekMinute> },
    /// Nothing: the owner is there.
    Owner,
}

impl Policy {
    /// A policy for machines that are there for the work alone, as whoever runs the agent for themselves wants it.
    pub fn unrestricted() -> Self {
        Self {
            idle: Span(0),
            hours: Hours::always(),
            cores: Percent(100),
            memory: Percent(100),
            beside_owner: true,
            beside_cores: Percent(100),
            beside_memory: Percent(100),
            on_battery: true,
            battery_min: Percent(0),
            on_metered: true,
            on_full_screen: true,
            unseen: true,
            temperature_max: Celsius(110),
            ..Self::default()
        }
    }

    /// What is left of it after the owner's word. Never more than it was.
    #[must_use]
    pub fn narrowed_by(&self, owner: &Changes) -> Self {
        self.meet(&self.with(owner))
    }

    /// What may run at this minute of the machine's week.
    pub fn leave(&self, local: WeekMinute, owner_there: bool) -> Leave {
        let open = self.hours.contains(local);
        match (open, owner_there) {
            (true, false) => Leave::Away,
            _ if self.beside_owner => Leave::Beside,
            (false, _) => Leave::Closed { opens: self.hours.next_open(local) },
            (true, true) => Leave::Owner,
        }
    }

    /// The share of processors and of memory that goes with it, in percent.
    pub fn share(&self, leave: Leave) -> (u8, u8) {
        match leave {
            Leave::Away => (self.cores.0, self.memory.0),
            Leave::Beside => (self.cores.min(self.beside_cores).0, self.memory.min(self.beside_memory).0),
            Leave::Closed { .. } | Leave::Owner => (0, 0),
        }
    }

    /// Why nothing is left, when nothing is.
    pub fn objection(&self, leave: Leave) -> Option<PauseReason> {
        match leave {
            Leave::Closed { opens } => Some(PauseReason::Hours { opens }),
            Leave::Owner => Some(PauseReason::Present { idle_s: self.idle.0 }),
            Leave::Away | Leave::Beside => None,
        }
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), PolicyError> {
        let wrong = |key, reason: String| Err(PolicyError::Value { key, reason });
        if self.cores == Percent(0) {
            return wrong("cores", NOTHING.into());
        }
        if self.memory == Percent(0) {
            return wrong("memory", NOTHING.into());
        }
        if self.beside_owner && self.beside_cores > self.cores {
            return wrong("beside_cores", more_beside(self.beside_cores, self.cores));
        }
        if self.beside_owner && self.beside_memory > self.memory {
            return wrong("beside_memory", more_beside(self.beside_memory, self.memory));
        }
        Ok(())
    }
}

/// What is said of a share of nothing.
const NOTHING: &str = "with 0 % nothing would ever run\nhint: write 1 to 100, or hours=never if that is meant";

fn more_beside(beside: Percent, without: Percent) -> String {
    format!("{beside} % beside the owner is more than the {without} % without them\nhint: write {without} or less")
}

/// How many of an agent's slots a share of a machine's processors stands for: one at least, unless it is nothing.
pub fn slots_of(percent: u8, cores: u16, slots: u16) -> u16 {
    let base = u32::from(cores.max(slots));
    let part = base * u32::from(percent) / 100;
    let part = u16::try_from(part).unwrap_or(u16::MAX).min(slots);
    if percent == 0 { 0 } else { part.max(1) }
}

/// Not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{key}: {reason}")]
    Value { key: &'static str, reason: String },
    #[error("{0}")]
    Text(String),
    #[error("there is no setting {}\nhint: {}", quoted(.0), keys(.0))]
    Key(String),
    #[error("{} is not a setting\nhint: write KEY=VALUE, as in idle=10m", quoted(.0))]
    Pair(String),
    #[error(
        "more than {OVERRIDES_MAX} overrides are not taken\nhint: give machines a group (`lull token create --group`) and write one for \
         the group"
    )]
    Overrides,
    #[error("an override has 1 to {CONDITIONS_MAX} conditions\nhint: give the machines a label of their own, and name that")]
    Conditions,
}

/// The settings that there are, and the one that is most likely meant.
fn keys(own: &str) -> String {
    let known: Vec<&str> = Policy::default().settings().iter().map(|setting| setting.key).collect();
    alike::among(own, &known, misread::TOML.part)
}

impl Changes {
    /// That nothing runs, neither beside the owner nor without them: what holds while somebody's word cannot be read.
    pub fn no_work() -> Self {
        Self { hours: Some(Hours::never()), beside_owner: Some(false), ..Self::default() }
    }

    /// Reads TOML, one `key = value` a line.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let table: toml::Table = misread::toml(text).map_err(|wrong| PolicyError::Text(wrong.to_string()))?;
        let mut changes = Self::default();
        for (key, value) in table {
            let written = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
                toml::Value::Array(_) | toml::Value::Table(_) | toml::Value::Datetime(_) => {
                    let words = format!("{key}: a setting has one value\nhint: write it like `idle = \"10m\"` or `cores = 80`");
                    return Err(PolicyError::Text(words));
                }
            };
            changes.set(&key, &written)?;
        }
        Ok(changes)
    }

    /// Reads `key=value` pairs; texts need no quotes.
    pub fn from_pairs(pairs: &[impl AsRef<str>]) -> Result<Self, PolicyError> {
        let mut changes = Self::default();
        for pair in pairs {
            let wrong = || PolicyError::Pair(pair.as_ref().to_owned());
            let (key, value) = pair.as_ref().split_once('=').ok_or_else(wrong)?;
            changes.set(key.trim(), value.trim())?;
        }
        Ok(changes)
    }

    /// As [`Self::from_toml`] reads it.
    pub fn to_toml(&self) -> String {
        let plain = |value: &str| value.parse::<bool>().is_ok() || value.parse::<i64>().is_ok();
        let line = |(key, value): (&str, String)| {
            if plain(&value) { format!("{key} = {value}\n") } else { format!("{key} = \"{value}\"\n") }
        };
        self.given().into_iter().map(line).collect()
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The network's policy: what holds everywhere, and what differs for some machines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    /// What differs from [`Policy::default`].
    #[serde(default)]
    pub base: Changes,
    /// In this order; a later one goes over an earlier one.
    #[serde(default)]
    pub overrides: Vec<Override>,
}

/// What differs on the machines that meet all conditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    pub conditions: Vec<Constraint>,
    pub changes: Changes,
}

impl Book {
    /// The policy of a machine with these labels.
    pub fn policy(&self, labels: &Labels) -> Policy {
        let base = Policy::default().with(&self.base);
        self.overrides.iter().filter(|other| other.accepts(labels)).fold(base, |policy, other| policy.with(&other.changes))
    }

    /// The book with further changes, for all machines or for those that meet the conditions.
    pub fn with(&self, conditions: &[Constraint], changes: &Changes) -> Result<Self, PolicyError> {
        self.replaced(conditions, |before| before.and(changes))
    }

    /// The book in which these settings are what they are without being set.
    pub fn without(&self, conditions: &[Constraint], keys: &[String]) -> Result<Self, PolicyError> {
        let without = |before: &Changes, key: &String| before.without(key).ok_or_else(|| PolicyError::Key(key.clone()));
        let before = self.changes(conditions).cloned().unwrap_or_default();
        let rest = keys.iter().try_fold(before, |before, key| without(&before, key))?;
        self.replaced(conditions, |_| rest.clone())
    }

    /// What is said of the machines that meet just these conditions.
    pub fn changes(&self, conditions: &[Constraint]) -> Option<&Changes> {
        if conditions.is_empty() {
            return Some(&self.base);
        }
        self.overrides.iter().find(|other| other.conditions == conditions).map(|other| &other.changes)
    }

    fn replaced(&self, conditions: &[Constraint], change: impl Fn(&Changes) -> Changes) -> Result<Self, PolicyError> {
        let mut book = self.clone();
        if conditions.is_empty() {
            book.base = change(&book.base);
        } else if let Some(known) = book.overrides.iter_mut().find(|other| other.conditions == conditions) {
            known.changes = change(&known.changes);
        } else {
            book.overrides.push(Override { conditions: conditions.to_vec(), changes: change(&Changes::default()) });
        }
        book.overrides.retain(|other| !other.changes.is_empty());
        book.check()?;
        Ok(book)
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.overrides.len() > OVERRIDES_MAX {
            return Err(PolicyError::Overrides);
        }
        let base = Policy::default().with(&self.base);
        base.check()?;
        for other in &self.overrides {
            if other.conditions.is_empty() || other.conditions.len() > CONDITIONS_MAX {
                return Err(PolicyError::Conditions);
            }
            base.with(&other.changes).check()?;
        }
        Ok(())
    }
}

impl Override {
    /// Whether a machine with these labels meets the conditions.
    pub fn accepts(&self, labels: &Labels) -> bool {
        self.conditions.iter().all(|condition| condition.accepts(labels))
    }
}

/// What the network's authority allows on one agent; a higher version replaces a lower one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sheet {
    pub agent: AgentId,
    pub version: u64,
    pub policy: Policy,
}

impl Claim for Sheet {
    const KIND: &'static str = "lull policy 1";
}

/// A time of a policy, in whole seconds. Its encoding is its text, `10m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u32);

impl Span {
    /// So many seconds; a day at most.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(if seconds > SPAN_S_MAX { SPAN_S_MAX } else { seconds })
    }

    /// The time itself.
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0 as u64)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text)
    }
}

/// A value of a setting as people write it, on a command line and in a file.
trait Written: Sized {
    fn read(text: &str) -> Result<Self, String>;
}

impl Written for Span {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("{} is not a time of at most a day\nhint: write 90s, 10m or 1h 30m", quoted(text));
        let seconds = humantime::parse_duration(text).map_err(|_| wrong())?.as_secs();
        u32::try_from(seconds).ok().filter(|seconds| *seconds <= SPAN_S_MAX).map(Self).ok_or_else(wrong)
    }
}

impl Written for Hours {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: crate::hours::ParseHoursError| error.to_string())
    }
}

impl Written for bool {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{} is neither true nor false\nhint: write true or false", quoted(text)))
    }
}

impl Written for Percent {
    fn read(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        number.parse().ok().and_then(Self::checked).ok_or_else(|| Self::wrong(quoted(text)))
    }
}

impl Written for Celsius {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().ok().and_then(Self::checked).ok_or_else(|| Self::wrong(quoted(text)))
    }
}

/// A small number: for people and programs any, so that what is out of bounds is told so; among our own kind a byte.
fn small<'de, D: Deserializer<'de>>(decoder: D) -> Result<i64, D::Error> {
    if decoder.is_human_readable() { i64::deserialize(decoder) } else { u8::deserialize(decoder).map(i64::from) }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.duration()).fmt(f)
    }
}

/// A share, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "u8")]
pub struct Percent(u8);

impl Percent {
    /// The share in percent; more than all is all.
    pub const fn new(percent: u8) -> Self {
        Self(if percent > 100 { 100 } else { percent })
    }

    /// The share in percent.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Percent {
    fn checked(percent: i64) -> Option<Self> {
        u8::try_from(percent).ok().filter(|percent| *percent <= 100).map(Self)
    }

    fn wrong(said: impl fmt::Display) -> String {
        format!("{said} is not a share in percent\nhint: write 0 to 100")
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        let percent = small(decoder)?;
        Self::checked(percent).ok_or_else(|| de::Error::custom(Self::wrong(percent)))
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A temperature at which a machine may be worked, 40 to 110 degrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "u8")]
pub struct Celsius(u8);

impl Celsius {
    /// The degrees.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Celsius {
    fn checked(degrees: i64) -> Option<Self> {
        u8::try_from(degrees).ok().filter(|degrees| (40..=110).contains(degrees)).map(Self)
    }

    fn wrong(said: impl fmt::Display) -> String {
        format!("{said} is not a limit in degrees Celsius\nhint: write 40 to 110")
    }
}

impl TryFrom<u8> for Celsius {
    type Error = String;

    fn try_from(degrees: u8) -> Result<Self, String> {
        Self::checked(degrees.into()).ok_or_else(|| Self::wrong(degrees))
    }
}

impl<'de> Deserialize<'de> for Celsius {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        let degrees = small(decoder)?;
        Self::checked(degrees).ok_or_else(|| de::Error::custom(Self::wrong(degrees)))
    }
}

impl From<Celsius> for u8 {
    fn from(degrees: Celsius) -> Self {
        degrees.0
    }
}

impl fmt::Display for Celsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Settings by key, for programs.
pub fn table(policy: &Policy) -> BTreeMap<&'static str, String> {
    policy.settings().into_iter().map(|setting| (setting.key, setting.value)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changes() -> impl Strategy<Value = Changes> {
        let percent = || prop::option::of((0_u8..=100).prop_map(Percent));
        let span = || prop::option::of((0_u32..=SPAN_S_MAX).prop_map(Span));
        let yes = || prop::option::of(any::<bool>());
        let hours = prop::option::of(
            (0_u16..24, 1_u16..=24)
                .prop_map(|(from, to)| format!("{from:02}:00-{to:02}:00 mon-fri").parse::<Hours>().expect("hours")),
        );
        let first = (span(), hours, percent(), percent(), yes(), percent(), percent(), yes());
        let second = (percent(), yes(), yes(), yes(), yes(), prop::option::of((40_u8..=110).prop_map(Celsius)), span());
        (first, second, yes(), yes(), yes()).prop_map(|(first, second, wake_on_lan, keep_awake, upgrades)| {
            let (idle, hours, cores, memory, beside_owner, beside_cores, beside_memory, on_battery) = first;
            let (battery_min, on_metered, on_full_screen, before_reboot, unseen, temperature_max, grace) = second;
            Changes {
                idle,
                hours,
                cores,
                memory,
                beside_owner,
                beside_cores,
                beside_memory,
                on_battery,
                battery_min,
                on_metered,
                on_full_screen,
                before_reboot,
                unseen,
                temperature_max,
                grace,
                wake_on_lan,
                keep_awake,
                upgrades,
            }
        })
    }

    proptest! {
        #[test]
        fn an_owner_never_widens_what_the_administrator_allows(admin in changes(), owner in changes()) {
            let admin = Policy::default().with(&admin);
            let effective = admin.narrowed_by(&owner);
            prop_assert_eq!(effective.meet(&admin), effective.clone(), "what is narrower is so in every setting");
            prop_assert_eq!(effective.narrowed_by(&owner), effective.clone(), "saying it again changes nothing");
            for minute in (0..crate::hours::WEEK).step_by(29).map(WeekMinute::new) {
                for there in [false, true] {
                    let (cores, memory) = effective.share(effective.leave(minute, there));
                    let (cores_allowed, memory_allowed) = admin.share(admin.leave(minute, there));
                    prop_assert!(cores <= cores_allowed && memory <= memory_allowed, "{} there {}", minute, there);
                }
            }
        }

        #[test]
        fn narrowing_by_two_is_narrowing_by_each_in_any_order(admin in changes(), one in changes(), other in changes()) {
            let admin = Policy::default().with(&admin);
            let by_both = admin.narrowed_by(&one.meet(&other));
            prop_assert_eq!(admin.narrowed_by(&one).narrowed_by(&other), by_both.clone());
            prop_assert_eq!(admin.narrowed_by(&other).narrowed_by(&one), by_both);
        }

        #[test]
        fn changes_read_back_from_their_text(changes in changes()) {
            prop_assert_eq!(Changes::from_toml(&changes.to_toml()), Ok(changes.clone()));
            let pairs: Vec<String> = changes.given().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            prop_assert_eq!(Changes::from_pairs(&pairs), Ok(changes));
        }
    }

    #[test]
    fn the_default_leaves_the_day_to_the_owner_and_takes_nights_and_weekends() {
        let policy = Policy::default();
        let leave = |text: &str, there| policy.leave(text.parse().expect("a minute"), there);
        assert_eq!(leave("mon 14:00", false), Leave::Closed { opens: "mon 18:00".parse().ok() });
        assert_eq!(leave("mon 18:00", false), Leave::Away);
        assert_eq!(leave("sat 12:00", false), Leave::Away);
        assert_eq!(leave("sat 12:00", true), Leave::Owner);
        assert_eq!(policy.share(Leave::Away), (90, 50));
        let hidden = policy.with(&Changes::from_pairs(&["beside_owner=true"]).expect("changes"));
        assert_eq!(hidden.share(hidden.leave("mon 14:00".parse().expect("a minute"), true)), (10, 10));
        assert_eq!(policy.check(), Ok(()));
        assert_eq!(Policy::unrestricted().check(), Ok(()));
    }

    #[test]
    fn nonsense_is_refused_with_clear_words() {
        let pairs = |pairs: &[&str]| Changes::from_pairs(pairs).map_err(|error| error.to_string());
        let refused = |text: &str| {
            let error = pairs(&[text]).expect_err(text);
            let (key, _) = text.split_once('=').unwrap_or((text, ""));
            let last = error.lines().last().unwrap_or_default();
            assert!(error.contains(key) && last.starts_with("hint: "), "{text}: {error}");
            error
        };
        assert!(refused("idle").contains("write KEY=VALUE"));
        assert!(
            refused("idel=10m").contains("there is no setting `idel`\nhint: did you mean `idle`? the settings are idle, hours")
        );
        assert!(refused("idle=soon").contains("write 90s, 10m or 1h 30m"), "{}", refused("idle=soon"));
        assert!(refused("idle=3days").contains("at most a day"));
        assert!(refused("cores=150").contains("write 0 to 100"), "{}", refused("cores=150"));
        assert!(refused("hours=8-9").contains("HH:MM-HH:MM"));
        assert!(refused("temperature_max=5").contains("40 to 110"));
        assert_eq!(refused("on_battery=maybe"), "on_battery: `maybe` is neither true nor false\nhint: write true or false");
        assert_eq!(refused("cores=101"), "cores: `101` is not a share in percent\nhint: write 0 to 100");
        assert_eq!(pairs(&["cores=70%"]), pairs(&["cores=70"]));
        for wrong in
            ["cores=-1", "cores=", "cores=99999999999999999999", "cores=1.5", "idle=", "idle=-1s", "hours=", "unseen=1", "=1", ""]
        {
            refused(wrong);
        }
        for wrong in
            ["cores = 101", "cores = [1]", "cores", "idle = 600", "on_battery = \"maybe\"", "idel = \"1m\"", "hours = \"8\""]
        {
            let error = Changes::from_toml(wrong).expect_err(wrong).to_string();
            assert!(error.lines().last().is_some_and(|last| last.starts_with("hint: ")), "{wrong}: {error}");
        }
        let book = Book::default();
        let set = |text: &str| book.with(&[], &pairs(&[text]).expect(text)).expect_err(text).to_string();
        assert!(set("cores=0").contains("hours=never"));
        let wide = pairs(&["beside_owner=true", "beside_cores=95"]).expect("changes");
        assert!(book.with(&[], &wide).expect_err("more beside than without").to_string().contains("beside_cores"));
    }

    #[test]
    fn overrides_hold_for_the_machines_that_meet_their_conditions() {
        let berlin = ["site=berlin".parse().expect("a constraint")];
        let book = Book::default().with(&[], &Changes::from_pairs(&["idle=5m"]).expect("changes")).expect("a book");
        let book = book.with(&berlin, &Changes::from_pairs(&["cores=50"]).expect("changes")).expect("a book");
        let book = book.with(&berlin, &Changes::from_pairs(&["idle=20m"]).expect("changes")).expect("a book");
        let (here, there) = (Labels::from([("site".into(), "berlin".into())]), Labels::new());
        assert_eq!((book.policy(&here).idle, book.policy(&here).cores), (Span(1_200), Percent(50)));
        assert_eq!((book.policy(&there).idle, book.policy(&there).cores), (Span(300), Percent(90)));
        let book = book.without(&berlin, &["cores".into(), "idle".into()]).expect("a book");
        assert!(book.overrides.is_empty(), "an override that says nothing goes");
        assert_eq!(book.without(&[], &["idel".into()]).expect_err("no such key"), PolicyError::Key("idel".into()));
    }

    #[test]
    fn a_share_of_the_processors_is_one_slot_at_least() {
        assert_eq!([slots_of(90, 8, 8), slots_of(10, 8, 8), slots_of(10, 2, 2), slots_of(0, 8, 8)], [7, 1, 1, 0]);
        assert_eq!([slots_of(90, 8, 2), slots_of(100, 2, 4)], [2, 4]);
    }

    fn set(pairs: &[&str]) -> Changes {
        Changes::from_pairs(pairs).expect("changes")
    }

    #[test]
    fn what_nothing_would_run_under_or_more_beside_the_owner_than_without_is_refused() {
        let check = |pairs: &[&str]| match Policy::unrestricted().with(&set(pairs)).check() {
            Ok(()) => None,
            Err(PolicyError::Value { key, .. }) => Some(key),
            Err(other) => panic!("{other}"),
        };
        let cases: [(&[&str], Option<&str>); 10] = [
            (&["cores=1", "beside_owner=false"], None),
            (&["cores=0", "beside_owner=false"], Some("cores")),
            (&["memory=0", "beside_owner=false"], Some("memory")),
            (&["memory=1", "beside_owner=false"], None),
            (&["cores=50", "beside_cores=50"], None),
            (&["cores=50", "beside_cores=51"], Some("beside_cores")),
            (&["cores=50", "beside_cores=51", "beside_owner=false"], None),
            (&["memory=50", "beside_memory=50"], None),
            (&["memory=50", "beside_memory=51"], Some("beside_memory")),
            (&["memory=50", "beside_memory=51", "beside_owner=false"], None),
        ];
        for (pairs, refused) in cases {
            assert_eq!(check(pairs), refused, "{pairs:?}");
        }
    }

    #[test]
    fn an_unrestricted_policy_restricts_nothing() {
        let policy = Policy::unrestricted();
        let allows = [policy.beside_owner, policy.on_battery, policy.on_metered, policy.on_full_screen, policy.unseen];
        assert_eq!(allows, [true; 5]);
        assert_eq!(policy.share(policy.leave(WeekMinute::new(0), true)), (100, 100));
        assert_eq!(policy.narrowed_by(&Changes::default()), policy);
    }

    #[test]
    fn beside_the_owner_there_is_never_more_than_without_them() {
        let share = |pairs: &[&str]| Policy::unrestricted().with(&set(pairs)).share(Leave::Beside);
        assert_eq!(share(&["cores=30", "beside_cores=40", "memory=20", "beside_memory=90"]), (30, 20));
        assert_eq!(share(&["cores=40", "beside_cores=30", "memory=90", "beside_memory=20"]), (30, 20));
        let closed = Policy::default().with(&set(&["hours=never", "beside_owner=false"]));
        assert_eq!(closed.leave(WeekMinute::new(0), false), Leave::Closed { opens: None });
        assert_eq!(closed.share(Leave::Owner), (0, 0));
    }

    #[test]
    fn slots_are_a_share_of_the_larger_of_both_and_never_more_than_there_are() {
        // Of so many percent, processors and slots.
        let cases = [((1, 64, 64), 1), ((50, 8, 4), 4), ((25, 8, 4), 2), ((50, 2, 8), 4), ((100, 1, 1), 1), ((100, 64, 3), 3)];
        for ((percent, cores, slots), right) in cases {
            assert_eq!(slots_of(percent, cores, slots), right, "{percent} % of {cores} for {slots}");
        }
    }

    #[test]
    fn each_kind_of_value_is_written_so_that_it_reads_back() {
        let some = set(&["idle=10m", "cores=50", "on_battery=true", "on_metered=false", "hours=never"]);
        let text = some.to_toml();
        for line in ["idle = \"10m\"", "cores = 50", "on_battery = true", "on_metered = false", "hours = \"never\""] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        assert_eq!(Changes::from_toml(&text), Ok(some.clone()));
        assert!(!some.is_empty() && Changes::default().is_empty());
        assert_eq!(some.without("cores").and_then(|rest| rest.cores), None);
        assert_eq!(some.without("idel"), None);
    }

    fn book(conditions: &[usize]) -> Book {
        let condition = |number: usize| format!("site=s{number}").parse().expect("a constraint");
        let other = |count: &usize| Override { conditions: (0..*count).map(condition).collect(), changes: set(&["cores=50"]) };
        Book { base: Changes::default(), overrides: conditions.iter().map(other).collect() }
    }

    #[test]
    fn a_book_has_so_many_overrides_of_so_many_conditions_and_each_must_make_sense() {
        assert_eq!(book(&[1; OVERRIDES_MAX]).check(), Ok(()));
        assert_eq!(book(&[1; OVERRIDES_MAX + 1]).check(), Err(PolicyError::Overrides));
        assert_eq!(book(&[CONDITIONS_MAX]).check(), Ok(()));
        assert_eq!(
            [0, CONDITIONS_MAX + 1].map(|count| book(&[1, count]).check()),
            [Err(PolicyError::Conditions), Err(PolicyError::Conditions)]
        );
        let mut wrong = book(&[1]);
        wrong.overrides[0].changes = set(&["memory=0"]);
        assert!(matches!(wrong.check(), Err(PolicyError::Value { key: "memory", .. })), "an override");
        wrong = Book { base: set(&["cores=0"]), overrides: Vec::new() };
        assert!(matches!(wrong.check(), Err(PolicyError::Value { key: "cores", .. })), "the base");
        let raised = set(&["cores=20"]);
        let mut book = Book { base: set(&["beside_owner=true", "beside_cores=30"]), overrides: Vec::new() };
        assert_eq!(book.check(), Ok(()));
        book.overrides.push(Override { conditions: vec!["os=linux".parse().expect("a constraint")], changes: raised });
        assert!(matches!(book.check(), Err(PolicyError::Value { key: "beside_cores", .. })), "an override with the base");
    }

    #[test]
    fn an_override_is_of_the_machines_that_meet_all_of_its_conditions_and_is_changed_by_naming_just_those() {
        let conditions =
            |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a constraint")).collect::<Vec<Constraint>>();
        let (one, both) = (conditions(&["os=linux"]), conditions(&["os=linux", "site=berlin"]));
        let book = Book::default().with(&one, &set(&["cores=40"])).expect("a book");
        let book = book.with(&both, &set(&["cores=60"])).expect("a book");
        let cores = |book: &Book, labels: &[(&str, &str)]| {
            book.policy(&labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()).cores.get()
        };
        let told = |book: &Book| {
            [&[][..], &[("os", "linux")], &[("site", "berlin")], &[("os", "linux"), ("site", "berlin")]]
                .map(|labels| cores(book, labels))
        };
        assert_eq!(told(&book), [90, 40, 90, 60]);
        assert_eq!((book.changes(&one), book.changes(&conditions(&["os=macos"]))), (Some(&set(&["cores=40"])), None));
        assert_eq!(book.changes(&[]), Some(&Changes::default()));
        let other = book.with(&one, &set(&["cores=45"])).expect("a book");
        assert_eq!((told(&other), other.overrides.len()), ([90, 45, 90, 60], 2));
        let less = book.without(&one, &["cores".into()]).expect("a book");
        assert_eq!((told(&less), less.overrides.len()), ([90, 90, 90, 60], 1));
        let base = book.with(&[], &set(&["cores=80"])).expect("a book");
        assert_eq!(told(&base), [80, 40, 80, 60]);
        assert!(book.with(&[], &set(&["cores=0"])).is_err(), "a book that makes no sense is not made");
    }

    #[test]
    fn each_value_has_its_bounds() {
        let day = i64::from(SPAN_S_MAX);
        let taken = |pair: String| Changes::from_pairs(&[&pair]).is_ok();
        for (key, value, right) in [
            ("idle", format!("{day}s"), true),
            ("idle", format!("{}s", day + 1), false),
            ("cores", "100".to_owned(), true),
            ("cores", "101".to_owned(), false),
            ("cores", "-1".to_owned(), false),
            ("temperature_max", "40".to_owned(), true),
            ("temperature_max", "39".to_owned(), false),
            ("temperature_max", "110".to_owned(), true),
            ("temperature_max", "111".to_owned(), false),
        ] {
            assert_eq!(taken(format!("{key}={value}")), right, "{key}={value}");
        }
        assert_eq!((Percent::new(255), Percent::checked(100).map(Percent::get)), (Percent(100), Some(100)));
    }
}
