//! Leadership, tokens, agents, versions and the audit.
//!
//! What needs a decision is read, decided, and written on the condition that it is still as it was read; if it is not,
//! all of it is done again.

use std::time::Duration;

use data_encoding::HEXLOWER;
use lull_shared::{
    id::{TokenId, VersionId},
    time::Timestamp,
};
use serde_json::json;

use super::{
    super::{
        Lead, Takeover,
        bounds::{self, number},
        decide::{self, Enrolling, Names, Replaced},
        lead::{Kind, LeaderRow},
        record::*,
        rows::{self, Damaged},
        turn::Broken,
    },
    error::Fail,
    jobs::{all, first},
    session::{Outcome, Session, Value},
    statements,
};

/// So often is something decided anew because others were faster.
const TRIES_MAX: usize = 8;

// --- Leadership ---

/// Begins a new term if nobody else's lease is running.
pub async fn take_over(session: &Session, holder: &str, lease: Duration, now: Timestamp) -> Result<Takeover, Fail> {
    let values = [bounds::name(holder).into(), now.0.into(), (now + lease).0.into()];
    let answer = session.write(statements::TAKE_OVER, &values).await?;
    let found = first(&answer, 0, |row| Ok((rows::int(row, "ours")?, rows::leader_row(row)?)))?;
    let (ours, LeaderRow { leader, counts }) = found.ok_or_else(|| Damaged::new("leader", "no row"))?;
    let holder = leader.holder.unwrap_or_default();
    Ok(match ours {
        1 => Takeover::Ours(Lead::with_counts(leader.term, &holder, counts)),
        _ => Takeover::Theirs { holder, until: leader.until },
    })
}

/// Prolongs the lease.
pub async fn renew(session: &Session, lead: &Lead, length: Duration, now: Timestamp) -> Result<(), Fail> {
    settled(session, lead, statements::RENEW, vec![(now + length).0.into()]).await.map(drop)
}

/// Ends the term; nothing more can be written in it.
pub async fn step_down(session: &Session, lead: &Lead) -> Result<(), Fail> {
    settled(session, lead, statements::STEP_DOWN, Vec::new()).await.map(drop)
}

/// Ends the term; the next one is above a given term.
pub async fn raise(session: &Session, lead: &Lead, rise: &Rise) -> Result<(), Fail> {
    let mut values = vec![number(rise.above.0).into(), number(rise.last_job).into()];
    values.extend(line_values(&rise.audit()));
    settled(session, lead, statements::RAISE, values).await.map(drop)
}

/// Appends to the audit.
pub async fn note(session: &Session, lead: &Lead, line: &AuditRecord) -> Result<(), Fail> {
    settled(session, lead, statements::NOTE, line_values(line)).await.map(drop)
}

/// A line of the audit in the order of its parameters.
fn line_values(line: &AuditRecord) -> Vec<Value> {
    let AuditRecord { at, by, action, subject, detail } = line;
    vec![at.0.into(), by.clone().into(), action.clone().into(), subject.clone().into(), detail.clone().into()]
}

/// Who leads, or led last.
pub async fn leader(session: &Session) -> Result<LeaderRecord, Fail> {
    let found = first(&session.read(statements::LEADER, &[]).await?, 0, rows::leader_row)?;
    Ok(found.ok_or_else(|| Damaged::new("leader", "no row"))?.leader)
}

/// Notes that a coordinator is there.
pub async fn check_in(session: &Session, own: &CoordinatorRecord, forget: Timestamp) -> Result<(), Fail> {
    let values = [
        own.peer.as_str().into(),
        own.name.as_str().into(),
        own.machine.as_str().into(),
        own.network.as_str().into(),
        own.http.as_str().into(),
        json!(own.addresses).to_string().into(),
        own.leads.map(|at| at.0).into(),
        own.seen.0.into(),
        forget.0.into(),
    ];
    session.write(statements::CHECK_IN, &values).await.map(drop)
}

/// The network whose store this is.
pub async fn network(session: &Session) -> Result<Option<NetworkRecord>, Fail> {
    Ok(first(&session.read(statements::NETWORK, &[]).await?, 0, rows::network_record)?)
}

/// Makes the store a network's, if it has none or is to be named anew.
pub async fn name_network(session: &Session, own: &NetworkRecord, anew: bool) -> Result<NetworkRecord, Fail> {
    let values = [own.network.as_str().into(), own.authority.as_str().into(), i64::from(anew).into()];
    let found = first(&session.write(statements::NAME_NETWORK, &values).await?, 0, rows::network_record)?;
    Ok(found.ok_or_else(|| Damaged::new("network", "no row"))?)
}

/// All coordinators.
pub async fn coordinators(session: &Session) -> Result<Vec<CoordinatorRecord>, Fail> {
    Ok(all(&session.read(statements::COORDINATORS, &[]).await?, 0, rows::coordinator_record)?)
}

/// The result of a batch that others cannot have been faster than.
fn done(outcome: Result<Outcome, Fail>) -> Result<Option<Option<i64>>, Fail> {
    match outcome {
        Ok(Outcome::Done { result }) => Ok(Some(result)),
        Ok(Outcome::Changed) => Ok(None),
        Ok(Outcome::Contradicted(number)) => Err(Broken(format!("check {number} of the batch failed")).into()),
        Err(fail) => Err(fail),
    }
}

/// Sends a batch that needs no decision until it was taken or refused. Its result.
pub async fn settled(session: &Session, lead: &Lead, sql: &str, values: Vec<Value>) -> Result<Option<i64>, Fail> {
    for _ in 0..TRIES_MAX {
        if let Some(result) = done(session.fenced(lead, Kind::Other, sql, values.clone()).await)? {
            return Ok(result);
        }
    }
    Err(Fail::Contended)
}

fn made(result: Option<i64>) -> Result<i64, Fail> {
    result.ok_or_else(|| Damaged::new("result", "nothing, though a row was made").into())
}

// --- Tokens ---

/// Makes a token.
pub async fn create_token(session: &Session, lead: &Lead, token: &NewToken) -> Result<Option<TokenRecord>, Fail> {
    // The name may be the number, which is not known yet.
    let words = decide::token_words(token.role, "\0", &token.bound);
    let (before, behind) = words.split_once('\0').unwrap_or((&words, ""));
    let names = (!token.bound.names.is_empty()).then(|| json!(token.bound.names).to_string());
    let values = vec![
        token.role.as_str().into(),
        token.name.as_deref().map(bounds::name).into(),
        token.fingerprint[..].into(),
        token.uses_max.into(),
        token.at.0.into(),
        bounds::name(&token.by).into(),
        token.expires.map(|at| at.0).into(),
        names.into(),
        token.bound.group.clone().into(),
        before.into(),
        bounds::reason(behind).into(),
    ];
    let Some(made) = settled(session, lead, statements::CREATE_TOKEN, values).await? else { return Ok(None) };
    let id = TokenId(made as u64);
    Ok(Some(TokenRecord {
        token: id.0,
        role: token.role,
        name: token.name.as_deref().map_or_else(|| id.to_string(), bounds::name),
        bound: token.bound.clone(),
        uses: 0,
        uses_max: token.uses_max,
        created: token.at,
        created_by: bounds::name(&token.by),
        expires: token.expires,
        revoked: None,
    }))
}

/// All tokens.
pub async fn tokens(session: &Session) -> Result<Vec<TokenRecord>, Fail> {
    Ok(all(&session.read(statements::TOKENS, &[]).await?, 0, rows::token_record)?)
}

/// Revokes a token; `false` when there is none. Doing it again changes nothing.
pub async fn revoke_token(session: &Session, lead: &Lead, token: u64, by: &str, at: Timestamp) -> Result<bool, Fail> {
    let values = vec![number(token).into(), at.0.into(), bounds::name(by).into()];
    let found = settled(session, lead, statements::REVOKE_TOKEN, values).await?;
    Ok(found == Some(1))
}

/// The person whose token this is.
pub async fn authenticate(session: &Session, fingerprint: &[u8; 32], now: Timestamp) -> Result<Option<TokenRecord>, Fail> {
    let answer = session.read(statements::AUTHENTICATE, &[fingerprint[..].into()]).await?;
    Ok(first(&answer, 0, rows::token_record)?.filter(|token| !decide::expired(token, now)))
}

// --- Agents ---

/// Enrols a machine.
pub async fn enrol(session: &Session, lead: &Lead, enrolment: &Enrolment) -> Result<EnrolmentOutcome, Fail> {
    // A refusal is an answer of the leader.
    settled(session, lead, statements::NOTHING, Vec::new()).await?;
    for _ in 0..TRIES_MAX {
        if let Some(outcome) = try_enrolment(session, lead, enrolment).await? {
            return Ok(outcome);
        }
    }
    Err(Fail::Contended)
}

async fn try_enrolment(session: &Session, lead: &Lead, enrolment: &Enrolment) -> Result<Option<EnrolmentOutcome>, Fail> {
    let token = Value::from(number(enrolment.token));
    let wanted = decide::names_to_look_up(enrolment).into_iter().map(|name| json!({ "n": name })).collect::<Vec<_>>();
    let values = [token.clone(), enrolment.peer.clone().into(), json!(wanted).to_string().into()];
    let answer = session.read(statements::BEFORE_ENROLMENT, &values).await?;
    let found = first(&answer, 0, |row| {
        let fingerprint = rows::digest("fingerprint", &rows::bytes(row, "fingerprint")?)?;
        Ok((rows::token_record(row)?, *fingerprint.as_bytes()))
    })?;
    let known = first(&answer, 1, rows::agent_record)?;
    let names: Names = all(&answer, 2, rows::name_taken)?.into_iter().collect();
    let (name, group, replaced) = match decide::enrolment(enrolment, found.as_ref(), known, &names) {
        Enrolling::Answer(outcome) => return Ok(Some(outcome)),
        Enrolling::Make { name, group, replaced } => (name, group, replaced),
    };
    let uses = found.map_or(0, |(token, _)| token.uses);
    let by = format!("token t{}", enrolment.token);
    let words = replaced.as_ref().map(|replaced| bounds::reason(&replaced.words(&name)));
    let replaced = replaced.map(|Replaced { agent, name }| (agent, name));
    let values = vec![
        token,
        uses.into(),
        enrolment.peer.clone().into(),
        name.into(),
        enrolment.at.0.into(),
        by.into(),
        group.into(),
        replaced.as_ref().map(|(agent, _)| number(agent.0)).into(),
        replaced.as_ref().map(|(_, name)| name.clone()).into(),
        words.into(),
    ];
    if done(session.fenced(lead, Kind::Other, statements::ENROL, values).await)?.is_none() {
        return Ok(None);
    }
    let agent = agent_by_peer(session, &enrolment.peer).await?;
    let agent = agent.ok_or_else(|| Broken("an agent that was just made is not there".into()))?;
    let replaced = match replaced {
        Some((replaced, _)) => agents(session).await?.into_iter().find(|agent| agent.agent == replaced).map(Box::new),
        None => None,
    };
    Ok(Some(EnrolmentOutcome::Enrolled { agent: Box::new(agent), new: true, replaced }))
}

/// All agents.
pub async fn agents(session: &Session) -> Result<Vec<AgentRecord>, Fail> {
    Ok(all(&session.read(statements::AGENTS, &[]).await?, 0, rows::agent_record)?)
}

/// Who was thrown out, and how often that changed.
pub async fn revocations(session: &Session) -> Result<RevocationsRecord, Fail> {
    Ok(rows::revocations(all(&session.read(statements::REVOCATIONS, &[]).await?, 0, rows::revocation)?))
}

/// The agent with this peer.
pub async fn agent_by_peer(session: &Session, peer: &[u8]) -> Result<Option<AgentRecord>, Fail> {
    Ok(first(&session.read(statements::AGENT_BY_PEER, &[peer.into()]).await?, 0, rows::agent_record)?)
}

// --- Versions ---

/// Publishes a module, or finds that it is there.
pub async fn publish(session: &Session, lead: &Lead, new: &NewVersion) -> Result<(VersionRecord, bool), Fail> {
    settled(session, lead, statements::NOTHING, Vec::new()).await?;
    for _ in 0..TRIES_MAX {
        if let Some(published) = try_publishing(session, lead, new).await? {
            return Ok(published);
        }
    }
    Err(Fail::Contended)
}

async fn try_publishing(session: &Session, lead: &Lead, new: &NewVersion) -> Result<Option<(VersionRecord, bool)>, Fail> {
    let function = Value::from(bounds::name(&new.function));
    let (module, nans) = (Value::from(&new.module.digest.as_bytes()[..]), Value::from(i64::from(new.canonical_nans)));
    let values = [function.clone(), module.clone(), nans.clone(), new.beyond.into()];
    let answer = session.read(statements::BEFORE_PUBLISHING, &values).await?;
    if let Some(found) = first(&answer, 0, rows::version_record)? {
        return Ok(Some((found, false)));
    }
    let next = first(&answer, 1, |row| rows::u32_of(row, "next_number"))?.unwrap_or(1);
    let manifest = new.sign.sign(next);
    let blobs = decide::version_blobs(new, &manifest.body);
    let blobs = blobs.iter().map(|digest| json!({ "d": HEXLOWER.encode(digest.as_bytes()) })).collect::<Vec<_>>();
    let values = vec![
        function,
        next.into(),
        rows::kind_word(new.kind).into(),
        module,
        number(new.module.size_bytes).into(),
        nans,
        manifest.body.into(),
        manifest.signature.into(),
        json!(new.interface).to_string().into(),
        new.at.0.into(),
        bounds::name(&new.by).into(),
        json!(blobs).to_string().into(),
        bounds::name(&format!("{}@{next}", new.function)).into(),
        new.module.digest.to_string().into(),
    ];
    let Some(result) = done(session.fenced(lead, Kind::Other, statements::PUBLISH, values).await)? else { return Ok(None) };
    let made = version(session, VersionId(made(result)? as u64)).await?;
    Ok(Some((made.ok_or_else(|| Broken("a version that was just published is not there".into()))?, true)))
}

/// All versions that were not removed.
pub async fn versions(session: &Session) -> Result<Vec<VersionRecord>, Fail> {
    Ok(all(&session.read(statements::VERSIONS, &[]).await?, 0, rows::version_record)?)
}

/// One version, removed or not.
pub async fn version(session: &Session, version: VersionId) -> Result<Option<VersionRecord>, Fail> {
    Ok(first(&session.read(statements::VERSION, &[number(version.0).into()]).await?, 0, rows::version_record)?)
}

/// A function's version.
pub async fn version_named(session: &Session, function: &str, number: Option<u32>) -> Result<Option<VersionRecord>, Fail> {
    let answer = session.read(statements::VERSION_NAMED, &[function.into(), number.into()]).await?;
    Ok(first(&answer, 0, rows::version_record)?)
}

/// Hides versions. How many.
pub async fn remove_versions(
    session: &Session,
    lead: &Lead,
    function: &str,
    number: Option<u32>,
    by: &str,
    at: Timestamp,
) -> Result<u64, Fail> {
    let subject = number.map_or_else(|| function.to_owned(), |number| format!("{function}@{number}"));
    let values = vec![function.into(), number.into(), at.0.into(), bounds::name(by).into(), bounds::name(&subject).into()];
    let hidden = settled(session, lead, statements::REMOVE_VERSIONS, values).await?;
    Ok(hidden.unwrap_or(0) as u64)
}

// --- The policy ---

/// The newest edition.
pub async fn policy(session: &Session) -> Result<Option<PolicyRecord>, Fail> {
    Ok(first(&session.read(statements::POLICY, &[]).await?, 0, rows::policy_record)?)
}

/// Keeps an edition, if the newest is the one that it follows.
pub async fn set_policy(session: &Session, lead: &Lead, new: &NewPolicy) -> Result<bool, Fail> {
    let PolicyRecord { version, book, set, set_by } = &new.record;
    let values = vec![
        number(new.follows).into(),
        number(*version).into(),
        json!(book).to_string().into(),
        set.0.into(),
        bounds::name(set_by).into(),
        bounds::reason(&new.detail).into(),
    ];
    Ok(settled(session, lead, statements::SET_POLICY, values).await? == Some(1))
}

/// The newest lines of the audit, newest first.
pub async fn audit(session: &Session, limit: u32) -> Result<Vec<AuditRecord>, Fail> {
    Ok(all(&session.read(statements::AUDIT, &[limit.into()]).await?, 0, rows::audit_record)?)
}
