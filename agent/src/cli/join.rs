//! `lull-agent join`: from a token to a membership.

use std::{path::Path, time::Duration};

use libp2p::{Multiaddr, identity::Keypair};
use lull_mesh::{MeshError, NoBlobs, Node, NodeConfig, NodeHandle, apart};
use lull_shared::{
    identity::{Certificate, JoinToken},
    limits,
    name::check_name,
    protocol::{EnrolmentRefusal, EnrolmentReply, EnrolmentRequest},
    resources::Labels,
};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{CliError, Output};
use crate::{
    clock,
    config::{Config, check_labels},
    membership::{self, Membership, MembershipError},
};

/// How long the network is asked whether a member still is one: whoever joins again by habit does not wait for one that cannot
/// be reached.
const STANDING_TIME_MAX: Duration = Duration::from_secs(10);
/// A clock that is further off is worth a word: certificates live for thirty days.
const CLOCK_WRONG_US: u64 = 5 * 60 * 1_000_000;

pub(super) async fn join(
    data: &Path,
    config: &Config,
    token: &str,
    name: Option<String>,
    labels: Vec<(String, String)>,
    out: Output<'_>,
) -> Result<(), CliError> {
    let token: JoinToken =
        token.parse().map_err(|error: lull_shared::identity::ParseTokenError| CliError::Usage(error.to_string()))?;
    let enrolled = enrol_machine(data, config, &token, name, labels.into_iter().collect()).await?;
    let Enrolled { member, was_member, renamed, clock_ahead_us } = enrolled;
    if let Some(ahead_us) = clock_ahead_us {
        eprintln!(
            "warning: this machine's clock is {} the coordinator's\nhint: set the one that is wrong",
            apart(ahead_us.saturating_neg())
        );
    }
    let words = match was_member {
        true => format!("this machine is in that network already, as {} ({})", member.agent, member.name),
        false => format!("joined as {} ({}){renamed}; start with `lull-agent run`", member.agent, member.name),
    };
    said(&member, &words, out)
}

/// A machine that is a member now.
pub(crate) struct Enrolled {
    pub(crate) member: Membership,
    /// Whether it was one before.
    pub(crate) was_member: bool,
    /// Why it has another name than the one it wanted; empty if it has that.
    renamed: String,
    /// How far the coordinator's clock is ahead, where one of both must be wrong.
    clock_ahead_us: Option<i64>,
}

/// A machine that did not become a member.
pub(crate) enum Unjoined {
    /// The coordinator says that this token will never let this machine in.
    Void(String),
    Other(CliError),
}

impl From<CliError> for Unjoined {
    fn from(error: CliError) -> Self {
        Self::Other(error)
    }
}

impl From<MembershipError> for Unjoined {
    fn from(error: MembershipError) -> Self {
        Self::Other(error.into())
    }
}

impl From<Unjoined> for CliError {
    fn from(unjoined: Unjoined) -> Self {
        match unjoined {
            Unjoined::Void(words) => Self::Denied(words),
            Unjoined::Other(error) => error,
        }
    }
}

/// Makes this machine a member of the token's network, or finds that it is.
pub(crate) async fn enrol_machine(
    data: &Path,
    config: &Config,
    token: &JoinToken,
    name: Option<String>,
    labels: Labels,
) -> Result<Enrolled, Unjoined> {
    check_labels(&labels).map_err(CliError::Usage)?;
    let name = name.or_else(|| config.name.clone()).unwrap_or_else(host_name);
    if let Err(why) = check_name(&name) {
        return Err(CliError::Usage(why.told(&name, "an agent's name")).into());
    }
    membership::check_folder(data)?;
    match Membership::load(data) {
        Ok(mut member) if member.network == token.network => {
            // The token says where the coordinators are today; they may have moved.
            let before = std::mem::take(&mut member.coordinators);
            member.coordinators = distinct(token.coordinators.iter().cloned().chain(before));
            member.save(data)?;
            let standing = timeout(STANDING_TIME_MAX, standing(data, token, &member)).await.unwrap_or(Ok(Standing::Unknown))?;
            let note = |revoked| membership::note_revoked(data, revoked).map_err(|error| CliError::Failed(error.to_string()));
            match standing {
                Standing::Member => note(false)?,
                Standing::ThrownOut => note(true)?,
                // It may have been told before.
                Standing::Unknown => {}
            }
            if membership::is_revoked(data) {
                return Err(CliError::Denied(EnrolmentRefusal::Revoked.to_string()).into());
            }
            return Ok(Enrolled { member, was_member: true, renamed: String::new(), clock_ahead_us: None });
        }
        Ok(member) => {
            let words =
                format!("this machine is in another network as {}\nhint: leave it first with `lull-agent leave`", member.agent);
            return Err(CliError::Failed(words).into());
        }
        Err(MembershipError::NotJoined) => {}
        Err(error) => return Err(error.into()),
    }
    let identity = membership::identity(data)?;
    let stop = CancellationToken::new();
    let node = start_node(token, &identity, stop.clone()).await?;
    let enrolled = enrol(&node.handle, token, &identity, &name).await;
    let peers = node.handle.peers().await;
    stop.cancel();
    let member = Membership { labels, ..enrolled? };
    member.save(data)?;
    // Whoever is let in has been restored, if it was revoked; a mark that stays keeps an identity that may go.
    let _ = membership::note_revoked(data, false);
    let wrong = peers.iter().filter_map(|peer| peer.clock_ahead_us).find(|ahead_us| ahead_us.unsigned_abs() > CLOCK_WRONG_US);
    let renamed = renamed(&member.name, &name);
    Ok(Enrolled { member, was_member: false, renamed, clock_ahead_us: wrong })
}

/// Why a machine has another name than the one it wanted; nothing if it has that.
fn renamed(given: &str, wanted: &str) -> String {
    if given == wanted {
        return String::new();
    }
    let is_told_apart = given.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'));
    match is_told_apart {
        true => format!(", since another machine of the network is called {wanted}"),
        false => format!(" and not as {wanted}: it had joined under that name before"),
    }
}

/// How the network sees a machine that is a member already.
enum Standing {
    Member,
    ThrownOut,
    /// Nobody could be asked, or would say.
    Unknown,
}

/// Asks the coordinators in turn, as a member whose certificate is to be renewed.
async fn standing(data: &Path, token: &JoinToken, member: &Membership) -> Result<Standing, CliError> {
    let identity = membership::identity(data)?;
    membership::check_key(data, &identity, member)?;
    let stop = CancellationToken::new();
    let node = start_node(token, &identity, stop.clone()).await?;
    let _stop = stop.drop_guard();
    for address in member.coordinators.iter().filter_map(|address| address.parse::<Multiaddr>().ok()) {
        let request = EnrolmentRequest::Renew { certificate: member.certificate.clone() };
        match node.handle.enrol(address, request).await {
            Ok(EnrolmentReply::Enrolled { .. }) => return Ok(Standing::Member),
            Ok(EnrolmentReply::Refused(EnrolmentRefusal::Revoked)) | Err(MeshError::ThrownOut { .. }) => {
                return Ok(Standing::ThrownOut);
            }
            Ok(EnrolmentReply::Refused(_)) | Err(_) => {}
        }
    }
    Ok(Standing::Unknown)
}

fn said(member: &Membership, words: &str, out: Output<'_>) -> Result<(), CliError> {
    let Membership { agent, name, network, .. } = member;
    let value = json!({ "agent": agent.to_string(), "name": name, "network": network.to_string() });
    out.done(&value, &agent.to_string(), words)
}

/// Each address once, in this order, and only the first ones.
fn distinct(addresses: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for address in addresses {
        if !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept.truncate(limits::COORDINATOR_ADDRESSES_MAX);
    kept
}

async fn start_node(token: &JoinToken, identity: &Keypair, stop: CancellationToken) -> Result<Node, CliError> {
    let config = NodeConfig {
        identity: identity.clone(),
        network: token.network,
        authority: token.authority.clone(),
        certificate: None,
        listen: Vec::new(),
        mdns: false,
        reads_capacity: false,
        software: format!("lull-agent {}", env!("CARGO_PKG_VERSION")),
        revoked: Default::default(),
        members: Default::default(),
        uploads: Default::default(),
    };
    let failed = |error: String| CliError::Failed(format!("the network cannot be started: {error}"));
    Node::start(config, std::sync::Arc::new(NoBlobs), stop).await.map_err(|error| failed(error.to_string()))
}

/// Asks the token's coordinators in turn.
async fn enrol(node: &NodeHandle, token: &JoinToken, identity: &Keypair, name: &str) -> Result<Membership, Unjoined> {
    let mut last =
        CliError::Unreachable("the token names no coordinator\nhint: ask for a new one made by `lull token create`".into());
    for address in &token.coordinators {
        let Ok(parsed) = address.parse::<Multiaddr>() else { continue };
        let request = EnrolmentRequest::Join { token: token.token, secret: token.secret.clone(), name: name.to_owned() };
        match node.enrol(parsed, request).await {
            Ok(reply @ EnrolmentReply::Enrolled { .. }) => return Ok(member(token, identity, address, reply)?),
            Ok(EnrolmentReply::Refused(refusal)) => match refusal {
                EnrolmentRefusal::Unavailable | EnrolmentRefusal::TooMany => last = CliError::Unreachable(refusal.to_string()),
                EnrolmentRefusal::Name { .. } => return Err(CliError::Usage(refusal.to_string()).into()),
                EnrolmentRefusal::UnknownToken
                | EnrolmentRefusal::Expired
                | EnrolmentRefusal::UsedUp
                | EnrolmentRefusal::NotBound(_)
                | EnrolmentRefusal::NameTaken(_) => return Err(Unjoined::Void(refusal.to_string())),
                // It is the machine that is not let in, and an administrator can change that.
                EnrolmentRefusal::NameRevoked(_) | EnrolmentRefusal::Revoked => {
                    return Err(CliError::Denied(refusal.to_string()).into());
                }
            },
            Err(error) => last = failed(error),
        }
    }
    Err(last.into())
}

fn failed(error: MeshError) -> CliError {
    match error {
        MeshError::Untrusted { .. }
        | MeshError::NoCertificate { .. }
        | MeshError::Refused { .. }
        | MeshError::Revoked { .. }
        | MeshError::ThrownOut { .. }
        | MeshError::NoCoordinator { .. } => CliError::Denied(error.to_string()),
        MeshError::ClocksDiffer { .. } => {
            CliError::Failed(format!("{error}\nhint: set the clock of the machine that is wrong, then join again"))
        }
        MeshError::Expired { .. } => CliError::Failed(error.to_string()),
        other => CliError::Unreachable(other.to_string()),
    }
}

/// Believes an enrolment as far as the token's authority signed it.
fn member(token: &JoinToken, identity: &Keypair, address: &str, reply: EnrolmentReply) -> Result<Membership, CliError> {
    let EnrolmentReply::Enrolled { agent, name, certificate, coordinators } = reply else {
        return Err(CliError::Failed("the coordinator enrolled nobody\nhint: look whether it is of the same version".into()));
    };
    let peer = identity.public().to_peer_id();
    let checked = Certificate::verify(&certificate, &token.authority, token.network, &peer, clock::wall());
    let checked = checked.map_err(|error| {
        CliError::Failed(format!("the certificate that came is not valid: {error}\nhint: check this machine's clock"))
    })?;
    // What worked comes first, then what the coordinator says, then the rest of the token.
    let addresses = distinct([address.to_owned()].into_iter().chain(coordinators).chain(token.coordinators.iter().cloned()));
    Ok(Membership {
        network: token.network,
        authority: token.authority.clone(),
        agent: checked.agent.unwrap_or(agent),
        name,
        certificate,
        coordinators: addresses,
        labels: Labels::new(),
    })
}

/// Goes before a host's name that cannot be an agent's.
const HOST_PREFIX: &str = "host-";

/// The host's name with what cannot be in an agent's name left out.
fn host_name() -> String {
    name_of(gethostname::gethostname().to_string_lossy().into_owned())
}

fn name_of(host: String) -> String {
    let mut name: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    name = name.trim_start_matches(['-', '_', '.']).to_owned();
    name.truncate(limits::NAME_BYTES_MAX);
    match check_name(&name) {
        Ok(()) => name,
        // A machine may be called like an id; nobody on the network may be.
        Err(_) if name.is_empty() => "machine".into(),
        Err(_) => {
            name.truncate(limits::NAME_BYTES_MAX - HOST_PREFIX.len());
            format!("{HOST_PREFIX}{name}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_gets_another_name_is_told_why() {
        assert_eq!(renamed("desk-17", "desk-17"), "");
        assert_eq!(renamed("desk-17-2", "desk-17"), ", since another machine of the network is called desk-17");
        assert_eq!(renamed("desk-4", "desk-17"), " and not as desk-17: it had joined under that name before");
    }

    #[test]
    fn the_host_name_is_always_a_name() {
        assert_eq!(check_name(&host_name()), Ok(()));
    }

    #[test]
    fn a_host_that_is_called_like_an_id_gets_a_word_before_it() {
        let named = |host: &str| name_of(host.to_owned());
        assert_eq!((named("desk-1"), named("a1"), named("7")), ("desk-1".into(), "host-a1".into(), "host-7".into()));
        assert_eq!((named("--"), named("ALL")), ("machine".into(), "host-ALL".into()));
    }
}
