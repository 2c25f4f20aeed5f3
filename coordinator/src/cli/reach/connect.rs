//! Which coordinator a command talks to, and with which token.
//!
//! Looked for in this order: `--server` and `--token` (or LULL_SERVER and LULL_TOKEN), `--data` (or LULL_DATA), the
//! profile that was named or is in use ([`super::profiles`]), and a server that runs on this machine with this account's default data folder or
//! the system's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{ArgMatches, Args, parser::ValueSource};
use directories::ProjectDirs;
use lull_agent::cli::{mistake, secret};
use lull_engine::folder;

use crate::{
    cli::{
        exit::{Exit, Failure},
        reach::profiles::{Profile, Profiles},
        typed::amount,
    },
    client::{self, Client},
    pin::{Address, Pin},
    server::{ADMIN_TOKEN_FILE, HTTP_ADDRESS_FILE},
};

/// Where an installed server keeps its data.
const SYSTEM_DATA: Option<&str> = if cfg!(unix) { Some("/var/lib/lull") } else { None };

/// Where the coordinator is and who asks.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// The coordinator's address, like https://coordinator:7411
    #[arg(
        long,
        global = true,
        env = "LULL_SERVER",
        value_name = "URL",
        value_parser = amount::some,
        help_heading = "Global options"
    )]
    pub server: Option<String>,
    /// The pin of the coordinator's key, as `lull server run` prints it, like sha256//..; without it the system's roots say
    /// whom to trust
    #[arg(long, global = true, env = "LULL_PIN", value_name = "PIN", value_parser = amount::pin, help_heading = "Global options")]
    pub pin: Option<Pin>,
    /// The token that says who asks
    #[arg(
        long,
        global = true,
        env = "LULL_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub token: Option<String>,
    /// A file with the token; `-` is standard input. Unlike --token it does not show in the list of processes
    #[arg(long, global = true, env = "LULL_TOKEN_FILE", value_name = "FILE", help_heading = "Global options")]
    pub token_file: Option<PathBuf>,
    /// The data folder of a server on this machine; its address and its administrator's token are read from there
    #[arg(long, global = true, env = "LULL_DATA", value_name = "DIR", help_heading = "Global options")]
    pub data: Option<PathBuf>,
    /// A profile of this account, in place of the one in use: see `lull profile`
    #[arg(
        long,
        global = true,
        env = "LULL_PROFILE",
        value_name = "NAME",
        value_parser = amount::profile,
        help_heading = "Global options"
    )]
    pub profile: Option<String>,
    /// Those of these that were typed and are no secret, as they are typed: commands that are printed carry them.
    #[arg(skip)]
    pub typed: Vec<String>,
}

/// Whether a command, by its first word, takes one of these.
pub(crate) fn takes(first: &str, name: &str) -> bool {
    match first {
        "logout" | "run" => false,
        "login" => name == "--pin",
        "profile" => name != "--profile",
        "server" | "db" => name == "--data",
        _ => true,
    }
}

/// Where a coordinator was found, and what to show there.
struct Found {
    addresses: Vec<Address>,
    token: Option<String>,
}

impl ServerArgs {
    /// A client for the coordinator that is meant.
    pub fn connect(&self) -> Result<Client, Failure> {
        if let Some(client) = self.connect_named()? {
            return Ok(client);
        }
        // Whoever names a folder means no other coordinator.
        if let Some(data) = &self.data {
            let shown = data.display();
            return Err(match folder::mark_of_agent(data) {
                Some(mark) => {
                    Failure::new(Exit::Unreachable, format!("{shown} is the data folder of an agent ({mark} lies there)"))
                        .hint("name that of a coordinator, or one by --server; `lull-agent status` shows the agent")
                }
                None => Failure::new(Exit::Unreachable, format!("no coordinator runs with the data folder {shown}"))
                    .hint(format!("`lull server run --data {shown}` starts one; --server names one elsewhere")),
            });
        }
        // Only who may read the system's own folder is meant by it.
        let system = || SYSTEM_DATA.and_then(|data| local(Path::new(data)).ok().flatten());
        match local(&default_data()?)?.or_else(system) {
            Some(found) => self.client(found),
            None => Err(Failure::new(Exit::Unreachable, "no coordinator is known here").hint(
                "`lull login URL --token-file FILE` remembers one, `--data DIR` finds the one whose data folder that is, `lull server run` starts \
                 one, and `lull run` needs none",
            )),
        }
    }

    /// Lets a token that was typed count before one of the environment, and refuses two that were typed.
    pub fn settle(&mut self, typed: &ArgMatches) -> Result<(), Failure> {
        self.typed = mistake::typed_options(typed, &["server", "pin", "token_file", "data", "profile"]);
        let is_typed = |id| typed.value_source(id) == Some(ValueSource::CommandLine);
        match (is_typed("token"), is_typed("token_file")) {
            (true, true) => {
                return Err(Failure::usage("`--token` cannot stand beside `--token-file`").hint("leave one of them out"));
            }
            (true, false) => self.token_file = None,
            (false, true) => self.token = None,
            (false, false) => {}
        }
        match (is_typed("profile"), is_typed("server"), is_typed("data")) {
            (true, true, _) | (true, _, true) => {
                let other = if is_typed("server") { "--server" } else { "--data" };
                return Err(Failure::usage(format!("`--profile` cannot stand beside `{other}`")).hint("leave one of them out"));
            }
            (true, false, false) => (self.server, self.data) = (None, None),
            (false, true, _) | (false, _, true) => self.profile = None,
            (false, false, false) => {}
        }
        Ok(())
    }

    /// The token that was given, as a word or in a file.
    pub fn given_token(&self) -> Result<Option<String>, Failure> {
        match (self.token.as_ref().filter(|token| !token.trim().is_empty()), &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(file)) => secret::read(file).map(Some).map_err(|error| Failure::usage(error.to_string())),
            (None, None) => Ok(None),
        }
    }

    /// The same without looking for a server in the default data folder; `None` when none was named.
    pub fn connect_named(&self) -> Result<Option<Client>, Failure> {
        let given = self.given_token()?;
        if let Some(server) = &self.server {
            let mut address = Address::read(server);
            let remembered = match &self.data {
                Some(_) => None,
                None => self.profile()?.filter(|profile| client::url(profile.url()) == client::url(&address.url)),
            };
            let token = match (&given, &self.data) {
                (Some(token), _) => Some(token.clone()),
                (None, Some(data)) => read_line(&data.join(ADMIN_TOKEN_FILE))?,
                (None, None) => remembered.as_ref().map(|profile| profile.token.clone()),
            };
            // A folder's server is spoken to under another name, too.
            let beside = self.data.as_ref().map(|data| read_line(&data.join(HTTP_ADDRESS_FILE))).transpose()?.flatten();
            let known = remembered.and_then(|profile| profile.addresses().into_iter().next()?.pin);
            address.pin = address.pin.or(known).or(beside.and_then(|beside| Address::read(&beside).pin));
            return self.client(Found { addresses: vec![address], token }).map(Some);
        }
        let found = match &self.data {
            Some(data) => local(data)?,
            None => self.profile()?.map(|profile| Found { addresses: profile.addresses(), token: Some(profile.token) }),
        };
        let Some(found) = found else { return Ok(None) };
        let token = given.or(found.token);
        self.client(Found { token, ..found }).map(Some)
    }

    /// The profile that was named, or the one in use.
    fn profile(&self) -> Result<Option<Profile>, Failure> {
        let profiles = Profiles::of_account()?;
        let Some(name) = self.profile.clone().map_or_else(|| profiles.current(), |name| Ok(Some(name)))? else { return Ok(None) };
        let profile = profiles.named(&name)?;
        if profile.has_expired() && self.token.is_none() && self.token_file.is_none() {
            let at = profile.expires.map(|at| at.to_string()).unwrap_or_default();
            return Err(Failure::new(Exit::Denied, format!("the profile {name} expired at {at}"))
                .hint("ask an administrator for a new one, and `lull profile import FILE` it"));
        }
        Ok(Some(profile))
    }

    /// A client for what was found, with the pin that was typed if one was.
    fn client(&self, found: Found) -> Result<Client, Failure> {
        let with_pin = |address: Address| Address { pin: self.pin.or(address.pin), ..address };
        let addresses: Vec<Address> = found.addresses.into_iter().map(with_pin).collect();
        Ok(Client::at_one_of(&addresses, found.token)?)
    }

    /// The data folder of a server that is run here.
    pub fn data_folder(&self) -> Result<PathBuf, Failure> {
        self.data.clone().map_or_else(default_data, Ok)
    }
}

/// The server whose data folder this is, if one runs there.
fn local(data: &Path) -> Result<Option<Found>, Failure> {
    let Some(address) = read_line(&data.join(HTTP_ADDRESS_FILE))? else { return Ok(None) };
    let Some(token) = read_line(&data.join(ADMIN_TOKEN_FILE))? else {
        let words = format!("the server of {} stands by and has never led, so it has no administrator's token", data.display());
        return Err(Failure::new(Exit::Unreachable, words)
            .hint("run the command on the machine of the leader, or name a server and a token with --server and --token"));
    };
    Ok(Some(Found { addresses: vec![Address::read(&address)], token: Some(token) }))
}

/// Where this account keeps what can be made again; none if it has no home.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    folders().ok().map(|folders| folders.cache_dir().to_owned())
}

/// Where `lull` keeps what it compiled.
pub(crate) fn builds_folder() -> Option<PathBuf> {
    cache_folder().map(|folder| folder.join("builds"))
}

fn default_data() -> Result<PathBuf, Failure> {
    Ok(folders()?.data_local_dir().join("server"))
}

fn folders() -> Result<ProjectDirs, Failure> {
    ProjectDirs::from("", "", "lull")
        .ok_or_else(|| Failure::usage("this account has no home folder").hint("name the folder with --data DIR"))
}

fn read_line(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::unreadable(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_names_its_server_while_one_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = ServerArgs { data: Some(folder.path().to_owned()), ..ServerArgs::default() };
        assert!(args.connect_named().expect("no server").is_none());
        fs::write(folder.path().join(HTTP_ADDRESS_FILE), "http://127.0.0.1:7411\n").expect("written");
        fs::write(folder.path().join(ADMIN_TOKEN_FILE), "lull_admin_00\n").expect("written");
        let client = args.connect_named().expect("readable").expect("a server");
        assert_eq!(client.base(), "http://127.0.0.1:7411");
    }

    #[test]
    fn whoever_names_a_folder_means_no_other_coordinator() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = ServerArgs { data: Some(folder.path().to_owned()), ..ServerArgs::default() };
        let failure = args.connect().err().expect("none runs there");
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains("no coordinator runs with the data folder"), "{}", failure.message);
        fs::write(folder.path().join("membership.json"), "{}").expect("written");
        let failure = args.connect().err().expect("an agent's");
        assert!(failure.message.contains("the data folder of an agent (membership.json"), "{}", failure.message);
    }

    #[test]
    fn a_token_may_be_in_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        let args = |token: Option<&str>| ServerArgs {
            token: token.map(Into::into),
            token_file: Some(file.clone()),
            ..ServerArgs::default()
        };
        assert!(args(None).given_token().is_err(), "there is no such file");
        fs::write(&file, "lull_admin_00\n").expect("written");
        assert_eq!(args(None).given_token().ok().flatten().as_deref(), Some("lull_admin_00"));
        assert_eq!(args(Some("word")).given_token().ok().flatten().as_deref(), Some("word"));
    }

    #[test]
    fn a_token_that_is_typed_counts_before_one_of_the_environment_and_two_are_refused() {
        use clap::{CommandFactory as _, FromArgMatches as _};
        let settled = |line: &str, from_environment: bool| {
            let matches = crate::cli::Cli::command().try_get_matches_from(line.split(' ')).expect(line);
            let mut args = ServerArgs::from_arg_matches(&matches).expect(line);
            if from_environment {
                args.token.get_or_insert_with(|| "of the environment".into());
                args.token_file.get_or_insert_with(|| "/of/the/environment".into());
            }
            args.settle(&matches).map(|()| (args.token, args.token_file.is_some()))
        };
        let told = settled("lull --token a status --token-file b", false).expect_err("two").to_string();
        assert_eq!(told, "error: `--token` cannot stand beside `--token-file`\nhint: leave one of them out");
        assert_eq!(settled("lull status --token-file b", true).ok(), Some((None, true)));
        assert_eq!(settled("lull status --token a", true).ok(), Some((Some("a".into()), false)));
        assert_eq!(settled("lull status", true).ok(), Some((Some("of the environment".into()), true)));
    }

    #[test]
    fn a_named_server_comes_before_everything_else() {
        let args = ServerArgs {
            server: Some("http://far:1".into()),
            token: Some("t".into()),
            data: Some("/nowhere".into()),
            ..ServerArgs::default()
        };
        assert_eq!(args.connect_named().expect("an address").expect("a client").base(), "http://far:1");
    }
}
