//! `lull db`: prepare and check a coordinator's database.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        network::server::StoreArgs,
        shown::output::{Cell, Deed, Look, Tone, counted, pairs, table},
    },
    store::{self, Check, StoreChoice, StoreError, Verdict},
};

/// What can be done with a database.
#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Print the statements that create the database, for somebody who may run them
    #[command(
        after_help = "EXAMPLES:\n  lull db script > lull.sql\n  lull db script --store \"Server=tcp:db,1433;Database=lull\" > lull.sql"
    )]
    Script(Choice),
    /// Create the database, or bring it up to this program's version
    #[command(after_help = "EXAMPLES:\n  lull db migrate --data /var/lib/lull")]
    Migrate(Choice),
    /// Say what is there and what is missing; exits with 1 if a server could not run on it
    #[command(after_help = "EXAMPLES:\n  lull db check --data /var/lib/lull")]
    Check(Choice),
}

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    #[command(flatten)]
    store: StoreArgs,
}

impl Choice {
    fn store(&self, context: &Context) -> Result<StoreChoice, Failure> {
        Ok(self.store.choose(&context.server.data_folder()?))
    }
}

impl Db {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::Script(choice) => {
                let script = store::script(&choice.store(context)?);
                context.out.one(&json!({ "script": script }), "script", |_| script.clone())?;
            }
            Self::Migrate(choice) => {
                let steps = store::migrate(&choice.store(context)?).await.map_err(unmigrated)?;
                let words = match steps {
                    0 => "the database was at this program's version".to_owned(),
                    steps => format!("the database is at this program's version now; {} applied", steps_were(steps)),
                };
                context.out.done(&Deed::new("migrated", "database").affecting(steps as u64), words)?;
            }
            Self::Check(choice) => {
                let check = store::check(&choice.store(context)?).await;
                context.out.one(&check, &check.store, |look| describe(&check, look))?;
                if !check.is_usable() {
                    return Err(unusable(&check));
                }
            }
        }
        Ok(Exit::Succeeded)
    }
}

fn steps_were(steps: usize) -> String {
    format!("{} {}", counted(steps as u64, "step"), if steps == 1 { "was" } else { "were" })
}

fn unmigrated(error: StoreError) -> Failure {
    Failure::from(anyhow::Error::from(error).context("the database could not be brought to this program's version"))
}

/// What to do about the first thing that is in the way.
fn unusable(check: &Check) -> Failure {
    let mut problems = check.findings.iter().filter(|finding| finding.verdict == Verdict::Bad);
    let first = problems.next().and_then(|finding| finding.hint.clone());
    let more = if problems.next().is_some() { "; the list above says what else is in the way" } else { "" };
    let hint = first.unwrap_or_else(|| "the list above says what is in the way".to_owned());
    Failure::new(Exit::Failed, "a coordinator could not work with this database as it is").hint(format!("{hint}{more}"))
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
        let tone = match finding.verdict {
            Verdict::Good => Tone::Good,
            Verdict::Odd => Tone::Odd,
            Verdict::Bad => Tone::Bad,
        };
        vec![
            Cell::toned(finding.verdict.as_str(), tone),
            finding.text.as_str().into(),
            finding.hint.clone().unwrap_or_default().into(),
        ]
    });
    text.push('\n');
    text.push_str(&table(&["VERDICT", "WHAT WAS FOUND", "WHAT TO DO"], rows.collect(), look));
    text
}
