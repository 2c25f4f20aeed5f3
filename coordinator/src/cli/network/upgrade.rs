//! `lull agent upgrade`: brings agents to another version over the mesh, in waves.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use lull_scheduler::rollout::Waves;
use lull_shared::hint;

use crate::{
    api::{BeginUpgrade, UpgradeBody, UpgradeState},
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        shown::output::{Cell, Deed, Look, Row, Tone, counted, pairs},
        typed::amount,
    },
    packages,
};

/// `lull agent upgrade`
#[derive(Debug, Args)]
#[command(
    after_help = "The machines stand in a line by their ids. A wave reaches up to its share of that line, and the next one begins when \
    nobody is on the way and somebody is healthy: back as the new version, and still connected after --steady. When more than \
    --tolerate of those that were told have failed, the rollout stops by itself.\n\n\
    Machines take upgrades from the network once their administrator allows it (`lull-agent upgrade trust`); others refuse.\n\n\
    EXAMPLES:\n  \
    lull agent upgrade --to lull-agent_0.2.0_amd64.deb\n  \
    lull agent upgrade --to lull-agent-0.2.0-x64.msi --wave 1%,10%,100% --agents site=berlin\n  \
    lull agent upgrade                                  how far it is\n  \
    lull agent upgrade --stop\n  \
    lull agent upgrade --resume                         goes on; what has failed until now is forgiven"
)]
pub(crate) struct Upgrade {
    /// The package: lull-agent_VERSION_amd64.deb or lull-agent-VERSION-x64.msi
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stop", "resume"])]
    to: Option<PathBuf>,
    /// Up to which share of the machines each wave goes
    #[arg(long = "wave", value_name = "SHARES", default_value_t, requires = "to")]
    waves: Waves,
    /// Only machines with this label, like site=berlin or name=desk-17; may be repeated, all must hold
    #[arg(long = "agents", value_name = "CONSTRAINT", value_parser = amount::condition, requires = "to")]
    conditions: Vec<String>,
    /// How long an agent has to install it, and again to come back
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = humantime::parse_duration, requires = "to")]
    within: Duration,
    /// How long it must stay connected then to count as healthy
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration, requires = "to")]
    steady: Duration,
    /// The share of those that were told that may fail, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100), requires = "to")]
    tolerate: u8,
    /// How long agents may follow it
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration, requires = "to")]
    expires: Duration,
    /// Tell no other agent, until --resume
    #[arg(long, conflicts_with = "resume")]
    stop: bool,
    /// Go on with what stands still
    #[arg(long)]
    resume: bool,
}

impl Upgrade {
    /// Whether it changes nothing.
    pub(crate) fn only_shows(&self) -> bool {
        self.to.is_none() && !self.stop && !self.resume
    }

    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        if let Some(file) = &self.to {
            return self.begin(context, file.clone()).await;
        }
        let client = context.server.connect()?;
        let (done, affected) = match (self.stop, self.resume) {
            (true, _) => ("stopped", client.stop_upgrades().await?.affected),
            (_, true) => ("resumed", client.resume_upgrades().await?.affected),
            (false, false) => {
                let listed = client.upgrades().await?.items;
                if listed.is_empty() {
                    context.out.note("no rollout was ever begun here\nhint: `lull agent upgrade --to FILE` begins one");
                }
                for words in listed.iter().map(describe).filter(|words| !words.is_empty()) {
                    context.out.note(words);
                }
                return context.show(false, async || Ok(context.out.listed(&listed))).await;
            }
        };
        let words = match (affected, done) {
            (0, "stopped") => "no rollout goes on that could be stopped".to_owned(),
            (0, _) => "no rollout stands still".to_owned(),
            (count, "stopped") => format!("{} stopped: no other agent is told", counted(count, "rollout")),
            (count, _) => format!("{} goes on", counted(count, "rollout")),
        };
        context.out.done(&Deed::new(done, "upgrade").affecting(affected), words)?;
        Ok(Exit::Succeeded)
    }

    async fn begin(&self, context: &Context, file: PathBuf) -> Outcome {
        let shown = file.display().to_string();
        let wrong = |error: packages::PackageError| {
            let (words, then) = (error.to_string(), format!("cannot use {shown}"));
            let (what, advice) = hint::split(&words);
            let failure = Failure::new(Exit::Usage, format!("{then}: {what}"));
            match advice {
                Some(advice) => failure.hint(advice.to_owned()),
                None => failure.hint("build it with installer/linux/build or installer/windows/build"),
            }
        };
        let looked = tokio::task::spawn_blocking(move || {
            let package = packages::look(&file)?;
            Ok((package, std::fs::read(&file)?))
        });
        let looked = looked.await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        let (package, bytes) = looked.map_err(wrong)?;
        let client = context.server.connect()?;
        let blob = client.upload(bytes).await?;
        let wanted = BeginUpgrade {
            package: blob.digest,
            platform: package.platform,
            version: package.version,
            waves: self.waves.clone(),
            conditions: self.conditions.clone(),
            within_s: Some(self.within.as_secs()),
            steady_s: Some(self.steady.as_secs()),
            tolerate_percent: Some(self.tolerate),
            expires_s: Some(self.expires.as_secs()),
        };
        let begun = client.begin_upgrade(&wanted).await?;
        context.out.one(&begun, &begun.release.to_string(), |look| card(&begun, look))?;
        if begun.behind == 0 {
            let whom = if self.conditions.is_empty() { "no machine of its kind" } else { "no machine that is meant" };
            context.out.note(format!("warning: {whom} has an older version; machines that join later are told"));
        }
        Ok(Exit::Succeeded)
    }
}

impl Row for UpgradeBody {
    const NAME: &'static str = "upgrades";
    const HEADINGS: &'static [&'static str] =
        &["RELEASE", "PLATFORM", "VERSION", "STATE", "WAVE", "MACHINES", "BEHIND", "UNDER WAY", "HEALTHY", "REFUSED", "FAILED"];

    fn id(&self) -> String {
        self.release.to_string()
    }

    fn cells(&self, _look: &Look) -> Vec<Cell> {
        let at = |step: &str| self.steps.get(step).copied().unwrap_or(0);
        vec![
            self.release.to_string().into(),
            self.platform.as_str().into(),
            self.version.as_str().into(),
            state(self),
            format!("{} of {}", self.waves_begun, self.waves.len()).into(),
            self.machines.to_string().into(),
            self.behind.to_string().into(),
            (at("told") + at("given") + at("back")).to_string().into(),
            at("healthy").to_string().into(),
            at("refused").to_string().into(),
            at("failed").to_string().into(),
        ]
    }
}

fn state(rollout: &UpgradeBody) -> Cell {
    match rollout.state {
        UpgradeState::Running => Cell::toned("running", Tone::Good),
        UpgradeState::Stopped => Cell::toned("stopped", Tone::Bad),
        UpgradeState::Done => Cell::toned("done", Tone::Good),
    }
}

/// Why it stands still, and what agents said.
fn describe(rollout: &UpgradeBody) -> String {
    let mut lines = Vec::new();
    if let (UpgradeState::Stopped, Some(why)) = (rollout.state, &rollout.stopped) {
        lines.push(format!("{} has stopped: {why}", rollout.version));
    }
    lines.extend(rollout.troubled.iter().map(|troubled| format!("{} {}: {}", troubled.agent, troubled.step, troubled.reason)));
    lines.join("\n")
}

fn card(rollout: &UpgradeBody, look: &Look) -> String {
    let for_whom = if rollout.conditions.is_empty() { "all".to_owned() } else { rollout.conditions.join(" and ") };
    pairs(
        vec![
            ("release", rollout.release.to_string().into()),
            ("version", format!("{} ({})", rollout.version, rollout.platform.as_str()).into()),
            ("package", format!("{}, {}", rollout.package, bytesize::ByteSize(rollout.package_bytes)).into()),
            ("machines", format!("{} of {} are behind", rollout.behind, counted(rollout.machines, "machine")).into()),
            ("for", for_whom.into()),
            ("waves", rollout.waves.to_string().into()),
            ("good until", look.time(rollout.expires).into()),
        ],
        look,
    )
}
