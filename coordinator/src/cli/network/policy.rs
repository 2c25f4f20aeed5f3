//! `lull policy`: show, set, test.

use std::{fmt::Write as _, path::PathBuf};

use clap::{Args, Subcommand};
use lull_shared::policy::{Changes, Policy as Allowed};

use crate::{
    api::{Doing, Hour, OutlookBody, PolicyBody, SetPolicy},
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        shown::{
            columns::broken,
            output::{Look, counted, pairs},
        },
        typed::amount,
    },
};

/// What a setting means is not squeezed below this.
const MEANING_MIN: usize = 20;

/// What can be done with the policy.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show what is allowed on machines, and which of them have settings of their own
    #[command(after_help = "EXAMPLES:\n  lull policy show\n  lull policy show -o json")]
    Show,
    /// Change what is allowed, on all machines or on some
    Set(Set),
    /// Say what an agent would do, now or at any hour of the week, and why
    Test(Test),
}

/// `lull policy set`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  \
    lull policy set idle=15m cores=80\n  \
    lull policy set 'hours=20:00-06:00; 00:00-24:00 sat,sun'\n  \
    lull policy set --for site=berlin --for os=linux beside_owner=true beside_cores=10\n  \
    lull policy set --for name=render-3 --unrestricted      a machine without an owner\n  \
    lull policy set --file policy.toml\n  \
    lull policy set --for site=berlin --reset beside_owner")]
pub(crate) struct Set {
    /// Settings like idle=15m; `lull policy show` lists them all
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Only for machines with this label, like site=berlin or name=desk-17; may be repeated, all must hold
    #[arg(long = "for", value_name = "CONSTRAINT", value_parser = amount::condition)]
    conditions: Vec<String>,
    /// A TOML file with settings, one `key = value` on each line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Allow work at any time, for machines without an owner
    #[arg(long)]
    unrestricted: bool,
    /// Set this back to its default, or with --for to what all machines have; may be repeated
    #[arg(long, value_name = "KEY", value_parser = amount::setting)]
    reset: Vec<String>,
}

/// `lull policy test`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull policy test desk-17\n  lull policy test desk-17 --at \"mon 14:00\"\n  \
    lull policy test desk-17 --week")]
pub(crate) struct Test {
    /// The machine's name or its id, like desk-17 or a3
    #[arg(value_parser = amount::some)]
    agent: String,
    /// A moment of the week by the machine's own clock, such as "mon 14:00"
    #[arg(long, value_name = "MOMENT", value_parser = amount::week_moment)]
    at: Option<String>,
    /// Show every hour of the week
    #[arg(long)]
    week: bool,
}

impl Policy {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        match self {
            Self::Show => {
                let policy = client.policy().await?;
                context.out.one(&policy, &policy.version.to_string(), |look| describe(&policy, look))?;
            }
            Self::Set(set) => {
                let before = client.policy().await?.version;
                let policy = client.set_policy(&set.wish()?).await?;
                context.out.one(&policy, &policy.version.to_string(), |look| describe(&policy, look))?;
                for warning in &policy.warnings {
                    context.out.note(format!("warning: {warning}"));
                }
                context.out.note(if policy.version == before {
                    "it was like that already".to_owned()
                } else {
                    format!("version {} holds from now on; agents that are away learn of it when they come back", policy.version)
                });
            }
            Self::Test(test) => {
                let outlook = client.outlook(&test.agent, test.at.as_deref()).await?;
                context.out.one(&outlook, &outlook.agent.to_string(), |look| test.describe(&outlook, look))?;
            }
        }
        Ok(Exit::Succeeded)
    }
}

impl Set {
    fn wish(&self) -> Result<SetPolicy, Failure> {
        let mut set = if self.unrestricted { Changes::all(&Allowed::unrestricted()) } else { Changes::default() };
        let usage = |error: lull_shared::policy::PolicyError| Failure::usage(error.to_string());
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::unreadable(path, &error))?;
            set = set.and(&Changes::from_toml(&text).map_err(usage)?);
        }
        set = set.and(&Changes::from_pairs(&self.settings).map_err(usage)?);
        if set.is_empty() && self.reset.is_empty() {
            return Err(Failure::usage("nothing is to be set").hint("write KEY=VALUE; `lull policy show` lists the settings"));
        }
        Ok(SetPolicy { conditions: self.conditions.clone(), set, reset: self.reset.clone() })
    }
}

/// Columns for a setting's value: hours are longer, and what they mean stands below them.
const VALUE: usize = 10;

fn describe(policy: &PolicyBody, look: &Look) -> String {
    let mut text = match (policy.set, &policy.set_by) {
        (Some(at), Some(by)) => format!("version {}, set {} by {by}\n\n", policy.version, look.time(at)),
        _ => "nobody has set anything: these are the defaults\n\n".to_owned(),
    };
    for setting in &policy.settings {
        let mark = if setting.set { '*' } else { ' ' };
        let mut begin = format!("{mark} {:<16} {:<VALUE$} ", setting.key, setting.value);
        // What a setting means goes on below itself, so that the keys stay in a column of their own.
        let indent = 2 + 16 + 1 + VALUE + 1;
        if setting.value.len() > VALUE {
            writeln!(text, "{}", begin.trim_end()).expect("a string takes all");
            begin = " ".repeat(indent);
        }
        let room = look.width.map_or(usize::MAX, |width| usize::from(width).saturating_sub(indent).max(MEANING_MIN));
        for (number, line) in broken(&setting.meaning, room).iter().enumerate() {
            let before = if number == 0 { begin.clone() } else { " ".repeat(indent) };
            writeln!(text, "{before}{line}").expect("a string takes all");
        }
    }
    for other in &policy.overrides {
        writeln!(text, "\nwhere {}", other.conditions.join(" and ")).expect("a string takes all");
        for (key, value) in &other.settings {
            writeln!(text, "* {key:<16} {value}").expect("a string takes all");
        }
    }
    text
}

impl Test {
    fn describe(&self, outlook: &OutlookBody, look: &Look) -> String {
        let mut lines = vec![("agent", format!("{} ({})", outlook.agent, outlook.name))];
        lines.push((
            "policy",
            match outlook.version {
                Some(version) if version == outlook.version_set => format!("version {version}"),
                Some(version) => format!("version {version} holds there; version {} is on its way", outlook.version_set),
                None => format!("it has not said yet what holds there; this is version {}", outlook.version_set),
            },
        ));
        if !outlook.narrowed.is_empty() {
            let narrowed: Vec<String> = outlook.narrowed.iter().map(|(key, value)| format!("{key}={value}")).collect();
            lines.push(("its owner says", narrowed.join(" ")));
        }
        lines.push(("its clock", outlook.local.clone().unwrap_or_else(|| "not known".into())));
        lines.push(("now", outlook.now.as_ref().map_or_else(|| "it is away".into(), words)));
        if let Some(moment) = &outlook.at {
            lines.push(("at", moment.at.clone()));
            lines.push(("  owner away", words(&moment.owner_away)));
            lines.push(("  owner there", words(&moment.owner_there)));
        }
        let mut text = pairs(lines.into_iter().map(|(name, value)| (name, value.into())).collect(), look);
        if self.week {
            text += &week(&outlook.week);
        }
        text
    }
}

fn words(doing: &Doing) -> String {
    match &doing.reason {
        Some(reason) => format!("nothing runs: {}", reason.message),
        None => format!("up to {} at a time", counted(doing.slots.into(), "task")),
    }
}

/// Seven lines of twenty-four signs.
fn week(week: &[Vec<Hour>]) -> String {
    let mut text = "\n     0     3     6     9     12    15    18    21\n".to_owned();
    for (day, hours) in ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].iter().zip(week) {
        let signs: Vec<&str> = hours.iter().map(sign).collect();
        writeln!(text, "{day}  {}", signs.join(" ")).expect("a string takes all");
    }
    text + "\n#  all that the policy gives, while the owner is away    +  a part of the hour\no  light work    .  nothing\n"
}

fn sign(hour: &Hour) -> &'static str {
    match (hour.full_min, hour.light_min) {
        (60, _) => "#",
        (1.., _) => "+",
        (0, 1..) => "o",
        (0, 0) => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_a_table_of_hours() {
        let hour = |full_min, light_min| Hour { full_min, light_min };
        let mut days = vec![vec![hour(60, 0); 24]; 7];
        (days[1][0], days[1][1], days[1][2]) = (hour(30, 30), hour(0, 60), hour(0, 0));
        let text = week(&days);
        assert!(text.contains("\ntue  + o . # #"), "{text}");
        assert_eq!(text.matches('#').count(), 7 * 24 - 3 + 1);
    }

    #[test]
    fn pairs_go_over_the_file_and_the_file_over_the_preset() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        std::fs::write(&path, "idle = \"5m\"\ncores = 70\n").expect("written");
        let set = Set {
            settings: vec!["cores=60".into()],
            conditions: Vec::new(),
            file: Some(path),
            unrestricted: true,
            reset: Vec::new(),
        };
        let policy = Allowed::default().with(&set.wish().expect("a wish").set);
        assert_eq!((policy.idle.to_string(), policy.cores.get(), policy.unseen), ("5m".into(), 60, true));
    }
}
