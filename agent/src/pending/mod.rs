//! A join token that waits for the agent's first start: whoever installs an agent on hundreds of machines leaves one, and nobody
//! types a command.
//!
//! ```text
//! DATA/join.pending (an installer's)  --+
//!                                       +-- next --> Join --> after --> Start | Again | GiveUp
//! machine policy (JoinToken)          --+     |
//!                                             +--> Start (joined already) | Nothing (not joined, nothing to join with)
//! ```
//! [`next`] and [`after`] decide and touch nothing; [`settle`] carries it out. The token of the file is deleted once it was used, or
//! once it is known that it will never do. A policy's token stays with the policy: of one that will never do a digest is kept, so that
//! it is not tried again at each start.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use lull_engine::files;
use lull_shared::{amount::quoted, digest::Digest, identity::JoinToken};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::join::{self, Unjoined},
    config::Config,
    machine_policy::{self, MachinePolicy},
    membership::{Membership, MembershipError},
};

/// The token that an installer left, below the data folder.
pub const FILE: &str = "join.pending";
/// The digest of a policy's token that will never do.
pub const REFUSED: &str = "join.refused";
/// The file holds a token and some addresses.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The pauses between tries: from a network that is not up yet at the start of a machine, to a coordinator that is away for a day.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How often it is looked whether a token has come where there was none.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// With what to join.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    pub token: String,
    /// Where the coordinator is: before the token's own addresses.
    #[serde(default)]
    pub coordinators: Vec<String>,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("coordinators", &self.coordinators).finish_non_exhaustive()
    }
}

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    File,
    Policy,
}

/// What is known before anything is done.
#[derive(Debug, Default)]
pub struct Facts {
    pub joined: bool,
    pub file: Option<Pending>,
    pub policy: Option<Pending>,
    /// Digests of tokens that will never do.
    pub refused: Option<Digest>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The machine is a member. If `forget`, what an earlier life did not come to delete goes first.
    Start {
        forget: bool,
    },
    Join(Source, Pending),
    /// There is nothing to join with.
    Nothing,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Joined,
    /// This token will never let this machine in.
    Void(String),
    /// Not now: nobody could be reached, or somebody has to do something first.
    NotNow(String),
}

/// What follows from it.
#[derive(Debug, PartialEq, Eq)]
pub enum After {
    Start,
    Again(Duration),
    GiveUp,
}

/// What is to be told to whoever looks after the machine. No word of it has the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Joined,
    /// The token will never do.
    Void(String),
    /// It is tried again.
    NotNow(String),
    /// There is nothing to join with; it is looked for again and again.
    Nothing,
}

/// What to do, by what is known. A file is somebody's word about this machine, a policy one about many: the file comes first.
pub fn next(facts: Facts) -> Next {
    let Facts { joined, file, policy, refused } = facts;
    if joined {
        return Next::Start { forget: file.is_some() };
    }
    let is_void = |pending: &Pending| refused == Some(digest(pending));
    match (file, policy) {
        (Some(file), _) => Next::Join(Source::File, file),
        (None, Some(policy)) if !is_void(&policy) => Next::Join(Source::Policy, policy),
        (None, _) => Next::Nothing,
    }
}

/// Where the token is from with which this machine joins when its agent starts and reaches the coordinator; `None` if it is a
/// member, or if nobody left one.
pub(crate) fn waiting(data: &Path) -> Result<Option<Source>, PendingError> {
    Ok(match next(facts(data, &machine_policy::read())?) {
        Next::Join(source, _) => Some(source),
        Next::Start { .. } | Next::Nothing => None,
    })
}

/// What follows from an attempt, the `tries`th of this start.
pub fn after(ended: &Ended, tries: u32) -> After {
    match ended {
        Ended::Joined => After::Start,
        Ended::Void(_) => After::GiveUp,
        Ended::NotNow(_) => {
            let doubled = PAUSE_MIN.saturating_mul(1 << tries.saturating_sub(1).min(16));
            After::Again(doubled.min(PAUSE_MAX))
        }
    }
}

/// Stands for a token where the token itself must not.
fn digest(pending: &Pending) -> Digest {
    Digest::of(pending.token.as_bytes())
}

/// Leaves a token for the agent's next start, in a file that nobody else can read.
pub fn leave(data: &Path, pending: &Pending) -> io::Result<()> {
    let text = toml::to_string(pending).map_err(io::Error::other)?;
    files::make_private_folder(data)?;
    files::replace_private(&data.join(FILE), text.as_bytes())
}

/// Why there is nothing yet to join with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is no token, and will never be one.
    #[error("{0}")]
    Token(String),
    /// A coordinator's address is wrong, which somebody may mend: the token is as good as before.
    #[error("{0}")]
    Address(String),
}

/// The token with these addresses before its own. What is not an address of a coordinator is said.
pub fn token_of(pending: &Pending) -> Result<JoinToken, Unusable> {
    let no_token = |error: lull_shared::identity::ParseTokenError| Unusable::Token(error.to_string());
    let mut token: JoinToken = pending.token.parse().map_err(no_token)?;
    let peer = token.coordinators.iter().find_map(|address| address.rsplit_once("/p2p/").map(|(_, peer)| peer.to_owned()));
    let mut addresses = Vec::new();
    for text in &pending.coordinators {
        addresses.push(address(text, peer.as_deref()).map_err(Unusable::Address)?);
    }
    addresses.append(&mut token.coordinators);
    token.coordinators = addresses;
    Ok(token)
}

/// A coordinator's address as people write it: `HOST`, `HOST:PORT`, or a multiaddress. The token says who answers there.
pub fn address(text: &str, peer: Option<&str>) -> Result<String, String> {
    /// Where a coordinator listens if nobody says otherwise.
    const PORT: u16 = 7410;
    let wrong = || format!("{} is not a coordinator's address\nhint: write HOST:PORT, as in lull.example.org:7410", quoted(text));
    let mut address: Multiaddr = if text.starts_with('/') {
        text.parse().map_err(|_| wrong())?
    } else {
        let (host, port) = match text.parse::<std::net::IpAddr>() {
            Ok(_) => (text, PORT),
            Err(_) => match text.rsplit_once(':') {
                Some((host, port)) => (host.trim_start_matches('[').trim_end_matches(']'), port.parse().map_err(|_| wrong())?),
                None => (text, PORT),
            },
        };
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_' | ':');
        if host.is_empty() || host.starts_with('-') || !host.chars().all(is_letter) {
            return Err(wrong());
        }
        let host = match host.parse::<std::net::IpAddr>() {
            Ok(address) => Multiaddr::from(address),
            Err(_) => Multiaddr::empty().with(Protocol::Dns(host.into())),
        };
        host.with(Protocol::Tcp(port))
    };
    if !address.iter().any(|part| matches!(part, Protocol::P2p(_)))
        && let Some(peer) = peer.and_then(|peer| peer.parse().ok())
    {
        address.push(Protocol::P2p(peer));
    }
    Ok(address.to_string())
}

/// Tokens that cannot be taken care of.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    #[error("{} cannot be used: {source}\nhint: remove it, and join with `lull-agent join`", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The words end with what to do.
    #[error("this machine could not join: {0}")]
    Void(String),
}

/// How long it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until the machine has joined, whatever comes: there is nobody to read an exit code.
    Forever,
    /// As long as there is a token that may do.
    WhileThereIsAToken,
}

/// Joins with a token that waits, if the machine has not joined; ends when the agent can start, or finds by itself that it
/// cannot, or when it shall stop.
pub async fn settle(
    data: &Path,
    config: &Config,
    patience: Patience,
    stop: &CancellationToken,
    mut tell: impl FnMut(Told),
) -> Result<(), PendingError> {
    let (mut tries, mut last) = (0, None);
    while !stop.is_cancelled() {
        let facts = facts(data, &machine_policy::read())?;
        let pause = match next(facts) {
            Next::Start { forget } => {
                if forget {
                    self::forget(data)?;
                }
                return Ok(());
            }
            Next::Nothing if patience == Patience::WhileThereIsAToken => return Ok(()),
            Next::Nothing => {
                say(Told::Nothing, &mut last, &mut tell);
                LOOK_EVERY
            }
            Next::Join(source, pending) => {
                tries += 1;
                let Some(ended) = stop.run_until_cancelled(attempt(data, config, &pending)).await else { return Ok(()) };
                match after(&ended, tries) {
                    After::Start => {
                        self::forget(data)?;
                        tell(Told::Joined);
                        return Ok(());
                    }
                    After::GiveUp => {
                        let Ended::Void(words) = ended else { continue };
                        match source {
                            Source::File => self::forget(data)?,
                            Source::Policy => note_void(data, &pending)?,
                        }
                        if patience == Patience::WhileThereIsAToken {
                            return Err(PendingError::Void(words));
                        }
                        say(Told::Void(words), &mut last, &mut tell);
                        tries = 0;
                        continue;
                    }
                    After::Again(pause) => {
                        if let Ended::NotNow(words) = ended {
                            say(Told::NotNow(words), &mut last, &mut tell);
                        }
                        // Hundreds of machines may have been switched on at once.
                        pause.mul_f64(rand::random_range(0.8..1.2))
                    }
                }
            }
        };
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
    }
    Ok(())
}

/// Says the same thing once.
fn say(told: Told, last: &mut Option<Told>, tell: &mut impl FnMut(Told)) {
    if last.as_ref() != Some(&told) {
        *last = Some(told.clone());
        tell(told);
    }
}

async fn attempt(data: &Path, config: &Config, pending: &Pending) -> Ended {
    let token = match token_of(pending) {
        Ok(token) => token,
        Err(Unusable::Token(words)) => return Ended::Void(words),
        Err(Unusable::Address(words)) => return Ended::NotNow(words),
    };
    match join::enrol_machine(data, config, &token, None, Default::default()).await {
        Ok(_) => Ended::Joined,
        Err(Unjoined::Void(words)) => Ended::Void(words),
        Err(Unjoined::Other(error)) => Ended::NotNow(error.to_string()),
    }
}

fn facts(data: &Path, policy: &MachinePolicy) -> Result<Facts, PendingError> {
    let file = |name: &str| data.join(name);
    let failed = |path: PathBuf| move |source| PendingError::File { path: path.clone(), source };
    // One that cannot be read is the agent's to tell.
    let joined = !matches!(Membership::load(data), Err(MembershipError::NotJoined));
    let pending = match read(&file(FILE)).map_err(failed(file(FILE)))? {
        Some(text) => {
            // The library's own words would show the token.
            let wrong = |_| io::Error::other("it is not what an installer writes, like token = \"lull1-...\"");
            Some(with_policy(toml::from_str(&text).map_err(wrong).map_err(failed(file(FILE)))?, policy))
        }
        None => None,
    };
    let refused = read(&file(REFUSED)).map_err(failed(file(REFUSED)))?.and_then(|text| text.trim().parse().ok());
    Ok(Facts { joined, file: pending, policy: policy.pending.clone(), refused })
}

/// A policy says where the coordinator is, whoever brought the token.
fn with_policy(mut pending: Pending, policy: &MachinePolicy) -> Pending {
    let given = std::mem::take(&mut pending.coordinators);
    pending.coordinators = policy.coordinators.iter().cloned().chain(given).collect();
    pending
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(about) if about.len() > FILE_BYTES_MAX => Err(io::Error::other("it is longer than what an installer writes")),
        Ok(_) => fs::read_to_string(path).map(Some),
    }
}

fn forget(data: &Path) -> Result<(), PendingError> {
    [FILE, REFUSED].into_iter().try_for_each(|name| {
        let path = data.join(name);
        files::remove_if_there(&path).map_err(|source| PendingError::File { path, source })
    })
}

fn note_void(data: &Path, pending: &Pending) -> Result<(), PendingError> {
    let path = data.join(REFUSED);
    let noted =
        files::make_private_folder(data).and_then(|()| files::replace_private(&path, digest(pending).to_hex().as_bytes()));
    noted.map_err(|source| PendingError::File { path, source })
}

#[cfg(test)]
mod tests;
