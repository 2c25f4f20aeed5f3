//! `lull db`: prepare and check a coordinator's database.

use std::path::Path;

use clap::{Args, Subcommand};

use super::{
    Context,
    exit::{Exit, Failure, Outcome},
    output::{Cell, Look, Tone, pairs, table},
};
use crate::store::{
    StoreChoice, StoreError,
    check::{Check, Grade},
    embedded,
    migration::Migration,
};

/// What can be done with a database.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Print the statements that make the database, for whoever may run them
    #[command(after_help = "EXAMPLES:\n  lull db script > lull.sql")]
    Script(Choice),
    /// Make the database, or bring it to this program's version
    #[command(after_help = "EXAMPLES:\n  lull db migrate --data /var/lib/lull")]
    Migrate(Choice),
    /// Say what is there and what is missing; ends with 1 if a server could not run on it
    #[command(after_help = "EXAMPLES:\n  lull db check --data /var/lib/lull")]
    Check(Choice),
}

/// Which database.
#[derive(Debug, Args)]
pub struct Choice {}

impl Choice {
    fn store(&self, context: &Context) -> Result<StoreChoice, Failure> {
        Ok(StoreChoice::Embedded(context.server.data_folder()?))
    }
}

impl Db {
    pub async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::Script(choice) => context.out.print(&script(&choice.store(context)?))?,
            Self::Migrate(choice) => {
                let steps = migrate(&choice.store(context)?).await.map_err(unmigrated)?;
                context.out.note(match steps {
                    0 => "the database was at this program's version".to_owned(),
                    steps => format!("the database is at this program's version now; {steps} steps were applied"),
                });
            }
            Self::Check(choice) => {
                let check = check(&choice.store(context)?).await?;
                context.out.one(&check, &check.store, |look| describe(&check, look))?;
                if !check.is_usable() {
                    return Ok(Exit::Failed);
                }
            }
        }
        Ok(Exit::Succeeded)
    }
}

fn script(store: &StoreChoice) -> String {
    let steps: &[Migration] = match store {
        StoreChoice::Embedded(_) => &embedded::MIGRATIONS,
        StoreChoice::Memory => &[],
    };
    steps.iter().map(|step| format!("-- {} {}\n{}\n", step.number, step.name, step.sql.trim())).collect()
}

async fn migrate(store: &StoreChoice) -> Result<usize, StoreError> {
    match store {
        StoreChoice::Embedded(dir) => embedded::migrate(dir).await,
        StoreChoice::Memory => Ok(0),
    }
}

async fn check(store: &StoreChoice) -> Result<Check, Failure> {
    match store {
        StoreChoice::Embedded(dir) => {
            let dir = dir.clone();
            Ok(tokio::task::spawn_blocking(move || embedded::check(Path::new(&dir))).await.map_err(anyhow::Error::from)?)
        }
        StoreChoice::Memory => Ok(Check::new("memory".into(), 0)),
    }
}

fn unmigrated(error: StoreError) -> Failure {
    Failure::from(anyhow::Error::from(error).context("the database could not be brought to this program's version"))
}

fn describe(check: &Check, look: &Look) -> String {
    let version = check.version.map_or_else(|| "none".into(), |version| version.to_string());
    let mut text = pairs(
        vec![
            ("store", check.store.as_str().into()),
            ("version", format!("{version}; this program needs {}", check.version_needed).into()),
        ],
        look,
    );
    let rows = check.findings.iter().map(|finding| {
        let grade = match finding.grade {
            Grade::Fine => Cell::toned("good", Tone::Good),
            Grade::Warning => Cell::toned("odd", Tone::Odd),
            Grade::Problem => Cell::toned("bad", Tone::Bad),
        };
        vec![grade, finding.text.as_str().into(), finding.hint.clone().unwrap_or_default().into()]
    });
    text.push('\n');
    text.push_str(&table(&["VERDICT", "WHAT WAS FOUND", "WHAT TO DO"], rows.collect(), look));
    text
}
