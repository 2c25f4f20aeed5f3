//! What the machine's administrator says beside the network: by Group Policy in the registry of Windows, elsewhere in a file that
//! only root can write.
//!
//! ```text
//! Windows   HKLM\Software\Policies\Lull\Agent               JoinToken, Coordinator; one value for each setting
//!           HKLM\Software\Policies\Lull\Agent\Recommended   the same settings, as long as the owner says nothing else
//! elsewhere /etc/lull/policy.toml                           the same names in tables [mandatory] and [recommended]
//!
//! Found (names and values, as they stand there)  --of-->  MachinePolicy (checked)
//! ```
//! The values are named as the settings of a policy, in Windows' way of writing: `OnBattery` is `on_battery`. What is of the
//! system is in `sys`; what the values mean is decided here, and the same on every system.

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;

use std::{collections::BTreeMap, fmt, time::Duration};

use lull_session::{Event, MachineWord};
use lull_shared::{
    alike,
    amount::quoted,
    policy::{Changes, Policy},
};

use tokio::{sync::mpsc, time::sleep};

use crate::pending::Pending;

/// Where Group Policy writes, below `HKEY_LOCAL_MACHINE`.
pub const KEY: &str = r"Software\Policies\Lull\Agent";
/// The part of it that the owner may change.
pub const RECOMMENDED_KEY: &str = r"Software\Policies\Lull\Agent\Recommended";
/// Where it stands on systems without a registry.
pub const FILE: &str = "/etc/lull/policy.toml";

/// With what a machine joins that has not yet.
pub const JOIN_TOKEN: &str = "JoinToken";
/// Where the coordinator is, if not where the token says.
pub const COORDINATOR: &str = "Coordinator";
/// Values that are no settings of a policy.
pub const NAMES: [&str; 2] = [JOIN_TOKEN, COORDINATOR];

/// The longest value that is read: a join token with many addresses has less than a tenth of it.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// How often it is looked whether it says something else. Group Policy itself is fetched every 90 minutes.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A value as it stands there.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(u64),
    /// Of a kind that no value has.
    Other,
}

/// What a value says can be secret.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

/// Names and values.
pub type Values = BTreeMap<String, Value>;

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    pub mandatory: Values,
    pub recommended: Values,
    /// Why something that is there could not be read.
    pub unread: Vec<String>,
}

/// What the machine's administrator says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachinePolicy {
    /// With what to join, if something is given.
    pub pending: Option<Pending>,
    /// Where the coordinator is, also for a token that came another way.
    pub coordinators: Vec<String>,
    /// What may run.
    pub word: MachineWord,
    /// Names that mean nothing to this version: a newer template may have them.
    pub unknown: Vec<String>,
}

/// Reads it. What cannot be read is in the answer.
pub fn read() -> MachinePolicy {
    MachinePolicy::of(&sys::found())
}

/// Says to the session what the administrator says, whenever that is not what is `known`. Ends with whoever listens.
pub(crate) async fn watch(mut known: MachineWord, answers: mpsc::Sender<Event>) {
    loop {
        sleep(LOOK_EVERY).await;
        // A disk may take its time.
        let Ok(policy) = tokio::task::spawn_blocking(read).await else { return };
        if policy.word == known {
            continue;
        }
        log(&policy);
        known = policy.word;
        if answers.send(Event::MachineSays(Box::new(known.clone()))).await.is_err() {
            return;
        }
    }
}

/// Writes down what of it is odd.
pub(crate) fn log(policy: &MachinePolicy) {
    for words in &policy.word.unread {
        tracing::error!(words, "nothing runs here until the machine's policy can be read");
    }
    for words in &policy.unknown {
        tracing::warn!(words, "a value of the machine's policy means nothing to this version");
    }
}

/// The name of a setting's value: `OnBattery` for `on_battery`.
pub fn value_name(key: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    key.split('_').map(capital).collect()
}

impl MachinePolicy {
    /// What the values mean.
    pub fn of(found: &Found) -> Self {
        let mut policy = Self::default();
        policy.word.unread.clone_from(&found.unread);
        policy.word.mandatory = policy.settings(&found.mandatory, &NAMES);
        policy.word.recommended = policy.settings(&found.recommended, &[]);
        let text = |name| found.mandatory.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        if let Some(Value::Text(addresses)) = text(COORDINATOR) {
            policy.coordinators = addresses.split([',', ' ']).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        }
        if let Some(Value::Text(token)) = text(JOIN_TOKEN)
            && !token.trim().is_empty()
        {
            policy.pending = Some(Pending { token: token.trim().to_owned(), coordinators: policy.coordinators.clone() });
        }
        policy
    }

    /// The settings among the values; the rest is noted.
    fn settings(&mut self, values: &Values, others: &[&str]) -> Changes {
        let keys: Vec<&str> = Policy::default().settings().into_iter().map(|setting| setting.key).collect();
        let names: Vec<String> = keys.iter().map(|key| value_name(key)).collect();
        let mut changes = Changes::default();
        for (name, value) in values {
            if others.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                continue;
            }
            let Some(at) = names.iter().position(|known| known.eq_ignore_ascii_case(name)) else {
                let known: Vec<&str> = names.iter().map(String::as_str).collect();
                self.unknown.push(format!("{}: {}", quoted(name), alike::among(name, &known, "setting")));
                continue;
            };
            let is_switch = matches!(written(keys[at]).as_str(), "true" | "false");
            let text = match value {
                Value::Text(text) => text.trim().to_owned(),
                Value::Number(0) if is_switch => "false".to_owned(),
                Value::Number(1) if is_switch => "true".to_owned(),
                Value::Number(number) => number.to_string(),
                Value::Other => {
                    self.word.unread.push(format!("{name}: it is neither a text nor a number"));
                    continue;
                }
            };
            if let Err(wrong) = changes.set(keys[at], &text) {
                self.word.unread.push(lull_shared::hint::in_one_line(&wrong.to_string()));
            }
        }
        changes
    }
}

/// A setting's value where nobody says anything, as text.
fn written(key: &str) -> String {
    Policy::default().settings().into_iter().find(|setting| setting.key == key).map(|setting| setting.value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    fn values(pairs: &[(&str, Value)]) -> Values {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn values_are_named_as_windows_names_them_and_mean_what_the_settings_mean() {
        let found = Found {
            mandatory: values(&[
                ("Idle", text("30m")),
                ("ONBATTERY", Value::Number(0)),
                ("Cores", Value::Number(40)),
                ("JoinToken", text(" lull1-x \n")),
                ("Coordinator", text("a.example.org:7410, /ip4/10.0.0.1/tcp/7410")),
            ]),
            recommended: values(&[("BesideOwner", Value::Number(1)), ("Hours", text("20:00-06:00"))]),
            unread: Vec::new(),
        };
        let policy = MachinePolicy::of(&found);
        assert_eq!(policy.word.mandatory, Changes::from_pairs(&["idle=30m", "on_battery=false", "cores=40"]).expect("changes"));
        let recommended = Changes::from_pairs(&["beside_owner=true", "hours=20:00-06:00"]).expect("changes");
        assert_eq!((policy.word.recommended, policy.word.unread), (recommended, Vec::<String>::new()));
        let coordinators = ["a.example.org:7410".to_owned(), "/ip4/10.0.0.1/tcp/7410".to_owned()];
        assert_eq!(
            (&policy.pending, &policy.coordinators[..]),
            (&Some(Pending { token: "lull1-x".into(), coordinators: coordinators.to_vec() }), &coordinators[..],)
        );
        assert!(policy.unknown.is_empty());
    }

    #[test]
    fn what_cannot_be_read_stops_all_work_and_what_is_not_known_is_only_told() {
        let found = |pairs: &[(&str, Value)]| Found { mandatory: values(pairs), ..Found::default() };
        for (wrong, words) in [
            (("Idle", text("soon")), "idle: `soon`"),
            (("Cores", Value::Number(900)), "cores: `900`"),
            (("OnBattery", Value::Number(2)), "on_battery: `2`"),
            (("Hours", Value::Other), "Hours: it is neither"),
        ] {
            let word = MachinePolicy::of(&found(&[wrong])).word;
            assert!(word.unread.len() == 1 && word.unread[0].contains(words), "{word:?}");
            assert_eq!(word.holds().hours, Some(lull_shared::hours::Hours::never()));
        }
        let policy = MachinePolicy::of(&found(&[("OnBatery", Value::Number(1))]));
        assert!(policy.word.unread.is_empty() && policy.unknown[0].contains("OnBattery"), "{policy:?}");
        // A setting is nothing that is joined with, and what is joined with is nothing to recommend.
        let policy = MachinePolicy::of(&Found { recommended: values(&[("JoinToken", text("x"))]), ..Found::default() });
        assert_eq!((policy.pending, policy.unknown.len()), (None, 1));
    }

    #[test]
    fn a_secret_is_in_no_words_about_what_was_found() {
        let found = Found { mandatory: values(&[(JOIN_TOKEN, text("lull1-secret"))]), ..Found::default() };
        let policy = MachinePolicy::of(&found);
        assert!(policy.pending.is_some() && !format!("{found:?} {policy:?}").contains("secret"));
    }
}
