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
        /// Such as idle=30m
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Leaves settings to the administrator again, all if none is named
    #[command(after_help = "EXAMPLES:\n  lull-agent policy reset idle")]
    Reset {
        /// Such as idle
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
    },
}

pub(super) async fn policy(place: Place<'_>, args: PolicyArgs, out: Output) -> Result<(), CliError> {
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

/// Each setting with what holds, and whose word that is.
fn table(standing: &Standing) -> String {
    let effective = standing.effective().settings();
    let owner = standing.owner.given();
    let mut table = match standing.version {
        0 => "the administrator has not said anything yet\n".to_owned(),
        version => format!("version {version} of the network's policy\n"),
    };
    for (setting, admin) in effective.iter().zip(standing.admin.settings()) {
        let said = owner.iter().find(|(key, _)| *key == setting.key).map(|(_, value)| value);
        let whose = match said {
            Some(value) if *value == setting.value && admin.value != setting.value => {
                format!("  (narrowed; the administrator allows {})", admin.value)
            }
            Some(value) if *value != setting.value => format!("  (the owner's {value} would be wider or is cut)"),
            Some(_) | None => String::new(),
        };
        let line = format!("{:<16} {:<12} {}{whose}", setting.key, setting.value, setting.meaning);
        writeln!(table, "{}", line.trim_end()).expect("a string takes everything");
    }
    table
}

/// The policy for programs.
#[derive(Serialize)]
struct Shape {
    version: u64,
    effective: std::collections::BTreeMap<&'static str, String>,
    allowed: std::collections::BTreeMap<&'static str, String>,
    owner: std::collections::BTreeMap<&'static str, String>,
}

fn shape(standing: &Standing) -> Shape {
    Shape {
        version: standing.version,
        effective: lull_shared::policy::table(&standing.effective()),
        allowed: lull_shared::policy::table(&standing.admin),
        owner: standing.owner.given().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_whose_word_holds() {
        let owner = Changes::from_pairs(&["idle=20m", "cores=95"]).expect("changes");
        let table = table(&Standing { version: 4, owner, ..Standing::default() });
        assert!(table.contains("version 4"), "{table}");
        assert!(table.contains("(narrowed; the administrator allows 10m)"), "{table}");
        assert!(table.contains("(the owner's 95 would be wider or is cut)"), "{table}");
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
