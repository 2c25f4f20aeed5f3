//! `lull profile`: make one for somebody, and keep those of this account.

use std::{io, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use lull_engine::files;
use lull_shared::bound;
use serde::Serialize;

use crate::{
    api::CreateProfile,
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        network::token,
        reach::profiles::{self, Profile as Kept, Profiles},
        shown::output::{Cell, Deed, Look, Row, Tone, pairs},
        typed::amount,
    },
    client,
    pin::Pin,
    store::record::TokenRole,
};

/// What can be done with profiles.
#[derive(Debug, Subcommand)]
pub(crate) enum Profile {
    /// Make a token and write it into one file with where it is good, for somebody to import
    Create(Create),
    /// Take in a file that an administrator gave, and use it from now on
    #[command(
        after_help = "EXAMPLES:\n  lull profile import ann.lullprofile\n  lull profile import ann.lullprofile --name office"
    )]
    Import(Import),
    /// List the profiles of this account
    #[command(after_help = "EXAMPLES:\n  lull profile list")]
    List,
    /// Use a profile from now on
    #[command(after_help = "EXAMPLES:\n  lull profile use office\n  lull --profile lab status      only for this command")]
    Use(Named),
    /// Show a profile without its token
    #[command(after_help = "EXAMPLES:\n  lull profile show\n  lull profile show office")]
    Show(Shown),
    /// Forget a profile; its token stays valid until it expires or is revoked
    #[command(after_help = "EXAMPLES:\n  lull profile remove office")]
    Remove(Named),
}

/// `lull profile create`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  \
    lull profile create --role publisher --out report.lullprofile\n  \
    lull profile create --role submitter --name ann --expires 30d --out ann.lullprofile")]
pub(crate) struct Create {
    /// What it allows: viewer, submitter, publisher or admin
    #[arg(long, value_name = "ROLE", value_parser = token::role)]
    role: TokenRole,
    /// The person or program it is for
    #[arg(long, value_name = "NAME", value_parser = amount::person)]
    name: Option<String>,
    /// How long its token is valid [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = bound::TOKEN_LIFE.times())]
    expires: Option<Duration>,
    /// The new file; readable by its owner alone. It is a secret: bring it over a safe way
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `lull profile import`
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file
    file: PathBuf,
    /// What to call it here; by the host of its coordinator if left out
    #[arg(long, value_name = "NAME", value_parser = amount::profile)]
    name: Option<String>,
    /// Put it in the place of one of the same name
    #[arg(long)]
    replace: bool,
}

/// A profile of this account.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Its name in `lull profile list`
    #[arg(value_name = "NAME", value_parser = amount::some)]
    name: String,
}

/// The same, or the one in use.
#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// Its name in `lull profile list`; the one in use if left out
    #[arg(value_name = "NAME", value_parser = amount::some)]
    name: Option<String>,
}

/// A profile as it is shown: never with its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    name: String,
    used: bool,
    servers: Vec<String>,
    pin: Option<Pin>,
    role: Option<TokenRole>,
    expires: Option<jiff::Timestamp>,
}

impl Line {
    fn of(name: &str, profile: &Kept, current: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            used: current == Some(name),
            servers: profile.servers.iter().map(|server| server.url.clone()).collect(),
            pin: profile.servers.first().and_then(|server| server.pin),
            role: profile.role,
            expires: profile.expires,
        }
    }
}

impl Profile {
    /// Whether a coordinator is needed for it.
    pub(crate) fn asks(&self) -> bool {
        matches!(self, Self::Create(_))
    }

    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::Create(create) => create.run(context).await,
            Self::Import(import) => import.run(context),
            Self::List => list(context),
            Self::Use(named) => named.choose(context),
            Self::Show(shown) => shown.run(context),
            Self::Remove(named) => named.remove(context),
        }
    }
}

impl Create {
    async fn run(&self, context: &Context) -> Outcome {
        if self.out.exists() {
            return Err(taken(&self.out));
        }
        let client = context.server.connect()?;
        // The address that was good for whoever makes it is good for others, if it does not lead to this machine itself.
        let own = Some(client.address()).filter(|address| !client::is_loopback(&address.url));
        let wanted = CreateProfile {
            role: self.role,
            name: self.name.clone(),
            expires_s: self.expires.map(|life| life.as_secs()),
            servers: own.iter().map(ToString::to_string).collect(),
        };
        let made = client.create_profile(&wanted).await?;
        let text = serde_json::to_string_pretty(&made).map_err(anyhow::Error::from)? + "\n";
        files::create_private(&self.out, text.as_bytes()).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(&self.out),
            _ => Failure::new(Exit::Failed, format!("cannot write {}: {error}", self.out.display()))
                .hint(format!("`lull token revoke {}` makes the token worthless that was made for it", made.name)),
        })?;
        let file = self.out.display();
        let words = format!("{file} lets whoever has it work as {} ({}) until {}", made.name, made.role.as_str(), made.expires);
        context.out.done(&Deed { name: Some(made.name.clone()), ..Deed::new("created", file.to_string()) }, words)?;
        context.out.note(format!("on their machine: lull profile import {file}"));
        Ok(Exit::Succeeded)
    }
}

fn taken(path: &std::path::Path) -> Failure {
    Failure::new(Exit::Failed, format!("{} is there already", path.display())).hint("name a new file: it holds a secret")
}

impl Import {
    fn run(&self, context: &Context) -> Outcome {
        let (profiles, file) = (Profiles::of_account()?, profiles::read_file(&self.file)?);
        let url = file.servers.first().map(|server| server.url.clone()).unwrap_or_default();
        let name = self.name.clone().unwrap_or_else(|| profiles::name_for(&url));
        let (kept, person) = (Kept::from(file.clone()), &file.name);
        if kept.has_expired() {
            return Err(Failure::new(Exit::Denied, format!("the profile of {person} expired at {}", file.expires))
                .hint("ask an administrator for a new one: `lull profile create` writes it"));
        }
        // One that is damaged or has expired is worth nothing.
        let there = profiles.names()?.contains(&name).then(|| profiles.named(&name).ok()).flatten();
        if there.is_some_and(|there| there != kept && !there.has_expired()) && !self.replace {
            return Err(Failure::new(Exit::Failed, format!("another profile is called {name}"))
                .hint("give this one another name with --name, or put it in that one's place with --replace"));
        }
        profiles.keep(&name, &kept)?;
        profiles.choose(&name)?;
        let words = format!("{name} is used from now on: {url}, as {person} ({}) until {}", file.role.as_str(), file.expires);
        context.out.done(&Deed::new("imported", &name), words)?;
        context.out.note(format!("{} is not needed any more: delete it", self.file.display()));
        Ok(Exit::Succeeded)
    }
}

fn list(context: &Context) -> Outcome {
    let profiles = Profiles::of_account()?;
    let current = profiles.current()?;
    let (mut lines, mut damaged) = (Vec::new(), Vec::new());
    for name in profiles.names()? {
        match profiles.named(&name) {
            Ok(profile) => lines.push(Line::of(&name, &profile, current.as_deref())),
            Err(failure) => damaged.push(failure),
        }
    }
    context.out.list(&lines)?;
    for failure in damaged {
        context.out.note(failure.to_string());
    }
    Ok(Exit::Succeeded)
}

impl Named {
    fn choose(&self, context: &Context) -> Outcome {
        let profiles = Profiles::of_account()?;
        let profile = profiles.named(&self.name)?;
        profiles.choose(&self.name)?;
        context.out.done(&Deed::new("used", &self.name), format!("{} is used from now on: {}", self.name, profile.url()))?;
        Ok(Exit::Succeeded)
    }

    fn remove(&self, context: &Context) -> Outcome {
        let profiles = Profiles::of_account()?;
        // Also one that is damaged: its name is enough.
        if !profiles.names()?.contains(&self.name) {
            profiles.named(&self.name)?;
        }
        let there = profiles.remove(&self.name)?;
        context.out.done(&Deed::new("removed", &self.name).affecting(there.into()), format!("{} is forgotten", self.name))?;
        Ok(Exit::Succeeded)
    }
}

impl Shown {
    fn run(&self, context: &Context) -> Outcome {
        let profiles = Profiles::of_account()?;
        let current = profiles.current()?;
        let Some(name) = self.name.clone().or_else(|| current.clone()) else {
            return Err(Failure::new(Exit::NotFound, "no profile is in use")
                .hint("`lull profile list` shows those of this account; `lull profile use NAME` uses one"));
        };
        let line = Line::of(&name, &profiles.named(&name)?, current.as_deref());
        context.out.one(&line, &name, |look| {
            let rows = vec![
                ("profile", name.as_str().into()),
                ("in use", if line.used { "yes" } else { "no" }.into()),
                ("coordinators", line.servers.join(", ").as_str().into()),
                ("pin", Cell::or_dash(line.pin)),
                ("role", Cell::or_dash(line.role.map(TokenRole::as_str))),
                ("expires", expiry(line.expires, look)),
            ];
            pairs(rows, look)
        })?;
        Ok(Exit::Succeeded)
    }
}

fn expiry(at: Option<jiff::Timestamp>, look: &Look) -> Cell {
    match at {
        Some(at) if at <= jiff::Timestamp::now() => Cell::toned(format!("expired {}", look.time(at)), Tone::Odd),
        at => look.time_or_dash(at),
    }
}

impl Row for Line {
    const NAME: &'static str = "profiles";
    const HEADINGS: &'static [&'static str] = &["PROFILE", "USED", "COORDINATORS", "ROLE", "EXPIRES"];

    fn id(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, look: &Look) -> Vec<Cell> {
        vec![
            self.name.as_str().into(),
            if self.used { Cell::toned("yes", Tone::Good) } else { "-".into() },
            self.servers.join(" ").as_str().into(),
            Cell::or_dash(self.role.map(TokenRole::as_str)),
            expiry(self.expires, look),
        ]
    }
}
