//! `lull-agent policy`: what the administrator allows here, and what the owner narrows.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use lull_session::Standing;
use lull_shared::policy::{Changes, PolicyError};
use serde::Serialize;

use super::{
    CliError, Output,
    control::{OTHER_ANSWER, Place, ask},
};
use crate::ipc::{Request, Response};

/// What to do with the policy; nothing shows it.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Narrows settings; what is wider than the administrator's has no effect
    #[command(after_help = "EXAMPLES:\n  lull-agent policy set idle=30m on_battery=false")]
    Set {
        /// Settings like idle=30m
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Gives settings back to the administrator, all of them if none is named
    #[command(after_help = "EXAMPLES:\n  lull-agent policy reset idle")]
    Reset {
        /// Settings like idle
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
    },
}

pub(super) async fn policy(place: Place<'_>, args: PolicyArgs, out: Output<'_>) -> Result<(), CliError> {
    let mut standing = standing(ask(place, &Request::Policy).await?)?;
    if let Some(action) = args.action {
        let owner = changed(&standing.owner, action).map_err(|error| CliError::Usage(error.to_string()))?;
        standing = self::standing(ask(place, &Request::Narrow(Box::new(owner))).await?)?;
    }
    out.one(&shape(&standing), &standing.version.to_string(), || table(&standing))
}

fn standing(response: Response) -> Result<Standing, CliError> {
    match response {
        Response::Policy(standing) => Ok(*standing),
        _ => Err(CliError::Failed(OTHER_ANSWER.into())),
    }
}

fn changed(before: &Changes, action: Action) -> Result<Changes, PolicyError> {
    match action {
        Action::Set { settings } => Ok(before.and(&Changes::from_pairs(&settings)?)),
        Action::Reset { keys } if keys.is_empty() => Ok(Changes::default()),
        Action::Reset { keys } => {
            keys.iter().try_fold(before.clone(), |rest, key| rest.without(key).ok_or_else(|| PolicyError::Key(key.clone())))
        }
    }
}

/// Columns for a setting's value: hours are longer, and what they mean stands below them.
const VALUE: usize = 12;

/// Each setting with what holds, and whose word that is.
fn table(standing: &Standing) -> String {
    let effective = standing.effective().settings();
    let owner = standing.owner.given();
    let (machine, recommended) = (standing.machine.holds().given(), standing.machine.recommended.given());
    let find = |given: &[(&'static str, String)], key: &str| {
        given.iter().find(|(other, _)| *other == key).map(|(_, value)| value.clone())
    };
    let mut table = match standing.version {
        0 => "the administrator has not said anything yet\n".to_owned(),
        version => format!("version {version} of the network's policy\n"),
    };
    for words in &standing.machine.unread {
        writeln!(table, "nothing runs until this machine's own policy can be read: {words}").expect("a string takes everything");
    }
    for (setting, admin) in effective.iter().zip(standing.admin.settings()) {
        let is_narrowed = admin.value != setting.value;
        let (machine, recommended) = (find(&machine, setting.key), find(&recommended, setting.key));
        let whose = match (find(&owner, setting.key), machine) {
            (Some(value), Some(machine)) if value != setting.value && machine == setting.value && is_narrowed => {
                format!("  (this machine's administrator; the owner's {value} would be wider or is cut)")
            }
            (_, Some(machine)) if machine == setting.value && is_narrowed => {
                format!("  (this machine's administrator; the network's allows {})", admin.value)
            }
            (Some(value), _) if value == setting.value && is_narrowed => {
                format!("  (narrowed; the administrator allows {})", admin.value)
            }
            (Some(value), _) if value != setting.value => format!("  (the owner's {value} would be wider or is cut)"),
            (None, _) if is_narrowed && recommended.is_some() => {
                format!("  (recommended by this machine's administrator; the network's allows {})", admin.value)
            }
            _ => String::new(),
        };
        let mut begin = format!("{:<16} {:<VALUE$} ", setting.key, setting.value);
        if setting.value.len() > VALUE {
            // What it means has its column whatever the value.
            writeln!(table, "{}", begin.trim_end()).expect("a string takes everything");
            begin = " ".repeat(16 + 1 + VALUE + 1);
        }
        writeln!(table, "{}", format!("{begin}{}{whose}", setting.meaning).trim_end()).expect("a string takes everything");
    }
    table
}

/// The policy for programs.
#[derive(Serialize)]
struct Shape {
    version: u64,
    effective: std::collections::BTreeMap<&'static str, String>,
    allowed: std::collections::BTreeMap<&'static str, String>,
    /// What this machine's administrator says: what holds whatever the owner says, and what holds until they say something.
    machine: std::collections::BTreeMap<&'static str, String>,
    recommended: std::collections::BTreeMap<&'static str, String>,
    /// What of that cannot be read; nothing runs then.
    unread: Vec<String>,
    owner: std::collections::BTreeMap<&'static str, String>,
}

fn shape(standing: &Standing) -> Shape {
    Shape {
        version: standing.version,
        effective: lull_shared::policy::table(&standing.effective()),
        allowed: lull_shared::policy::table(&standing.admin),
        machine: standing.machine.mandatory.given().into_iter().collect(),
        recommended: standing.machine.recommended.given().into_iter().collect(),
        unread: standing.machine.unread.clone(),
        owner: standing.owner.given().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use lull_session::MachineWord;

    use super::*;

    #[test]
    fn the_table_says_whose_word_holds() {
        let owner = Changes::from_pairs(&["idle=20m", "cores=95"]).expect("changes");
        let table = table(&Standing { version: 4, owner, ..Standing::default() });
        assert!(table.contains("version 4"), "{table}");
        let meanings: Vec<&str> = table.lines().skip(1).filter(|line| line.len() > 30 && !line.starts_with("hours ")).collect();
        for line in &meanings {
            let (before, meaning) = line.split_at(30);
            assert!(before.ends_with(' ') && !meaning.starts_with(' '), "{table}");
        }
        assert!(meanings.len() > 15 && table.contains("hours            18:00-08:00; 00:00-24:00 sat,sun\n"), "{table}");
        assert!(table.contains("(narrowed; the administrator allows 10m)"), "{table}");
        assert!(table.contains("(the owner's 95 would be wider or is cut)"), "{table}");
    }

    #[test]
    fn the_table_says_what_this_machines_administrator_holds_and_recommends() {
        let set = |pairs: &[&str]| Changes::from_pairs(pairs).expect("changes");
        let machine = MachineWord { mandatory: set(&["idle=1h"]), recommended: set(&["cores=20"]), unread: Vec::new() };
        let mut standing = Standing { version: 4, machine, owner: set(&["idle=20m"]), ..Standing::default() };
        let shown = table(&standing);
        assert!(shown.contains("(this machine's administrator; the owner's 20m would be wider or is cut)"), "{shown}");
        assert!(shown.contains("(recommended by this machine's administrator; the network's allows 90)"), "{shown}");
        standing.owner = Changes::default();
        assert!(table(&standing).contains("(this machine's administrator; the network's allows 10m)"), "{}", table(&standing));
        standing.machine.unread.push("idle: `soon`".into());
        let shown = table(&standing);
        assert!(shown.contains("nothing runs until this machine's own policy can be read: idle: `soon`"), "{shown}");
        assert!(shown.contains("hours            never"), "{shown}");
    }

    #[test]
    fn settings_are_added_and_taken_back() {
        let set = |pairs: &[&str]| Action::Set { settings: pairs.iter().map(ToString::to_string).collect() };
        let both = changed(&changed(&Changes::default(), set(&["idle=20m"])).expect("set"), set(&["cores=5"])).expect("set");
        assert_eq!(both.given(), [("idle", "20m".to_owned()), ("cores", "5".to_owned())]);
        let rest = changed(&both, Action::Reset { keys: vec!["idle".into()] }).expect("reset");
        assert_eq!(rest.given(), [("cores", "5".to_owned())]);
        assert!(changed(&rest, Action::Reset { keys: vec!["idel".into()] }).is_err());
        assert!(changed(&rest, Action::Reset { keys: Vec::new() }).expect("reset").is_empty());
    }
}
