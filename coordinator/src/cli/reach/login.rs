//! `lull login` and `lull logout`: which coordinator this account talks to.

use clap::Args;

use crate::{
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        reach::connect::{self, Profile},
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
        let path = connect::save(&Profile { server: client.base().to_owned(), pin: address.pin, token })?;
        let network = &status.coordinator.network;
        let words = format!("network {network} is remembered in {}", path.display());
        context.out.done(&Deed::new("logged_in", network), words)?;
        Ok(Exit::Succeeded)
    }
}

/// Forgets the coordinator.
pub(crate) fn logout(context: &Context) -> Outcome {
    let there = connect::forget()?;
    let words = if there { "the profile is forgotten" } else { "there was no profile" };
    context.out.done(&Deed::new("logged_out", "profile").affecting(there.into()), words)?;
    Ok(Exit::Succeeded)
}
