//! The icon that the people at a machine see: what its agent does, for whom, and the word that stops it.
//!
//! ```text
//! face     what the icon shows and its menu says: a pure function of the agent's status
//! icon     the pictures, drawn when this was built
//! link     one connection to the agent, found again whenever it is lost
//! pages    what does not fit into a menu
//! linux    StatusNotifierItem, on D-Bus
//! windows  the notification area; and that there is input in this session, for a service that sees no desktop
//! ```
//! It decides nothing and keeps nothing: an agent works the same without it, but for the sessions of a Windows machine that
//! only a tray sees.

pub mod face;
pub mod icon;
pub mod link;
pub mod pages;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod sys;
#[cfg(not(any(target_os = "linux", windows)))]
#[path = "elsewhere.rs"]
mod sys;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use lull_desk::Whom;

use self::link::Whose;

const HELP: &str = "Shows what this machine's Lull agent does, and lets its owner pause it

Usage: lull-tray [--data DIR]

Options:
      --data DIR  The data folder of the agent [default: this user's agent, or else the service of this machine]
                  [env: LULL_AGENT_DATA]
  -h, --help      Print help
  -V, --version   Print version
";

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    Run(Whose),
    Say(String),
}

/// The program.
pub fn main() -> ExitCode {
    match typed(std::env::args_os().skip(1), std::env::var_os("LULL_AGENT_DATA"), lull_desk::data_folder()) {
        Ok(Typed::Say(words)) => {
            print!("{words}");
            ExitCode::SUCCESS
        }
        Ok(Typed::Run(whom)) => match sys::run(whom) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn typed(
    arguments: impl Iterator<Item = OsString>,
    variable: Option<OsString>,
    by_default: Option<PathBuf>,
) -> Result<Typed, String> {
    let mut shown = None;
    let mut data = variable.filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("-h" | "--help") => return Ok(Typed::Say(HELP.into())),
            Some("-V" | "--version") => return Ok(Typed::Say(format!("lull-tray {}\n", env!("CARGO_PKG_VERSION")))),
            // For tests: what this file says is shown, and no agent is asked.
            Some("--show") => shown = Some(arguments.next().ok_or("`--show` has no file behind it\nhint: write --show FILE")?),
            Some("--data") => {
                data = Some(arguments.next().ok_or("`--data` has no folder behind it\nhint: write --data DIR")?.into());
            }
            _ => {
                let words = argument.to_string_lossy();
                return Err(format!("`{words}` is not an option\nhint: `lull-tray --help` lists them"));
            }
        }
    }
    if let Some(file) = shown {
        return Ok(Typed::Run(Whose::File(file.into())));
    }
    match (data, by_default) {
        (Some(data), _) => Ok(Typed::Run(Whose::Agent(Whom::Folder(data)))),
        (None, Some(data)) => Ok(Typed::Run(Whose::Agent(Whom::FolderOrService(data)))),
        (None, None) => Err("this user has no home folder\nhint: name the agent's data folder with --data".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed_as(arguments: &[&str], variable: Option<&str>) -> Result<Typed, String> {
        typed(arguments.iter().map(Into::into), variable.map(Into::into), Some("home".into()))
    }

    #[test]
    fn without_a_word_it_finds_the_users_agent_or_the_service() {
        let agent = |whom| Ok(Typed::Run(Whose::Agent(whom)));
        assert_eq!(typed_as(&[], None), agent(Whom::FolderOrService("home".into())));
        assert_eq!(typed_as(&[], Some("there")), agent(Whom::Folder("there".into())));
        assert_eq!(typed_as(&["--data", "here"], Some("there")), agent(Whom::Folder("here".into())));
    }

    #[test]
    fn what_is_no_option_is_told_so_with_a_hint() {
        for arguments in [&["--dat"][..], &["--data"], &["x"]] {
            let error = typed_as(arguments, None).expect_err("it is wrong");
            assert!(error.contains("\nhint: "), "{error}");
        }
        assert!(matches!(typed_as(&["--help"], None), Ok(Typed::Say(words)) if words.contains("--data")));
    }
}
