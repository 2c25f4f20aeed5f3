//! `lull portal`: where it is.

use std::{
    io::IsTerminal as _,
    process::{Command, Stdio},
};

use clap::Args;
use serde_json::json;

use crate::cli::{
    Context,
    exit::{Exit, Outcome},
    shown::output::Format,
};

/// `lull portal`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull portal\n  lull portal --print\n  lull portal -o json")]
pub(crate) struct Portal {
    /// Only print it, on a desktop too
    #[arg(long)]
    print: bool,
}

impl Portal {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let address = client.base().to_owned();
        context.out.one(&json!({ "portal": address }), &address, |_| format!("{address}\n"))?;
        let by_hand = context.out.format == Format::Table && std::io::stdout().is_terminal();
        if by_hand && !self.print && has_desktop() && !open(&address) {
            context.out.note("no browser could be started: open this address in one");
        }
        Ok(Exit::Succeeded)
    }
}

/// Whether there is a desktop to open something on.
fn has_desktop() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(windows) || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// Opens an address as the desktop opens addresses; whether that began.
fn open(address: &str) -> bool {
    // Not by a shell: an address has characters that mean something there.
    let (program, first) = if cfg!(windows) { ("rundll32", Some("url.dll,FileProtocolHandler")) } else { ("xdg-open", None) };
    let mut command = Command::new(program);
    command.args(first).arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}
