//! `lull login` and `lull logout`: a profile of one coordinator, in short.

use clap::Args;

use crate::{
    api::ServerAddress,
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        reach::profiles::{self, Profile, Profiles},
        shown::output::Deed,
    },
    client::Client,
    pin::Address,
};

/// `lull login`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  lull login https://coordinator:7411 --token-file token.txt --pin sha256//ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=\n  lull login https://coordinator:7411 --token-file -      asks for it on standard input"
)]
pub(crate) struct Login {
    /// The coordinator's address, like https://coordinator:7411
    url: String,
}

impl Login {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let token = context.server.given_token()?.ok_or_else(|| {
            Failure::usage("a token is needed").hint(
                "give it with --token-file FILE, or - for standard input, or in LULL_TOKEN: what stands on a command line others see",
            )
        })?;
        let mut address = Address::read(&self.url);
        address.pin = context.server.pin.or(address.pin);
        let client = Client::at(&address, Some(token.clone()))?;
        let status = client.status().await?;
        let (profiles, name) = (Profiles::of_account()?, profiles::name_for(client.base()));
        let asker = client.asker().await.ok();
        let Address { url, pin } = client.address();
        let (role, expires) = (asker.as_ref().map(|asker| asker.role), asker.and_then(|asker| asker.expires));
        let path = profiles.keep(&name, &Profile { servers: vec![ServerAddress { url, pin }], token, role, expires })?;
        profiles.choose(&name)?;
        let network = &status.coordinator.network;
        let words = format!("network {network} is remembered as the profile {name} in {}", path.display());
        context.out.done(&Deed::new("logged_in", network), words)?;
        Ok(Exit::Succeeded)
    }
}

/// Forgets the profile in use.
pub(crate) fn logout(context: &Context) -> Outcome {
    let profiles = Profiles::of_account()?;
    let current = profiles.current()?;
    let there = match current.as_deref() {
        Some(name) => profiles.remove(name)?,
        None => false,
    };
    let words = match &current {
        Some(name) => format!("the profile {name} is forgotten"),
        None => "no profile was in use".to_owned(),
    };
    context.out.done(&Deed::new("logged_out", "profile").affecting(there.into()), words)?;
    if let Some(other) = profiles.names()?.first() {
        context.out.note(format!("there are others: `lull profile use {other}`"));
    }
    Ok(Exit::Succeeded)
}
