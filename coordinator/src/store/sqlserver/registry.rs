//! Tokens, agents, versions, the policy and the audit.
//!
//! What needs a decision is read, decided, and written on the condition that it is still as it was read; if it is not,
//! all of it is done again.

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use lull_scheduler::rollout::Step;
use lull_shared::{
    id::{AgentId, TokenId, VersionId},
    time::Timestamp,
};
use serde_json::json;

use super::{
    super::{
        Lead, Registry, StoreResult,
        bounds::{self, number},
        decide::{self, Enrolling, Names, Replaced},
        lead::Kind,
        record::*,
        rows::{self, Damaged},
        turn::Broken,
    },
    SqlServer,
    error::Fail,
    jobs::{all, first},
    session::{Outcome, Session, Value},
    statements,
};
use crate::version::Which;

/// So often is something decided anew because others were faster.
const TRIES_MAX: usize = 8;

/// A line of the audit in the order of its parameters.
pub(super) fn line_values(line: &AuditRecord) -> Vec<Value> {
    let AuditRecord { at, by, action, subject, detail } = line;
    vec![at.0.into(), by.clone().into(), action.clone().into(), subject.clone().into(), detail.clone().into()]
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
pub(super) async fn settled(session: &Session, lead: &Lead, sql: &str, values: Vec<Value>) -> Result<Option<i64>, Fail> {
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

impl SqlServer {
    async fn try_enrolment(&self, lead: &Lead, enrolment: &Enrolment) -> StoreResult<Option<EnrolmentOutcome>> {
        let token = Value::from(number(enrolment.token));
        let wanted = decide::names_to_look_up(enrolment).into_iter().map(|name| json!({ "n": name })).collect::<Vec<_>>();
        let values = [token.clone(), enrolment.peer.clone().into(), json!(wanted).to_string().into()];
        let answer = self.session.read(statements::BEFORE_ENROLMENT, &values).await?;
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
        if done(self.session.fenced(lead, Kind::Other, statements::ENROL, values).await)?.is_none() {
            return Ok(None);
        }
        let agent = self.agent_by_peer(&enrolment.peer).await?;
        let agent = agent.ok_or_else(|| Fail::Broken(Broken("an agent that was just made is not there".into())))?;
        let replaced = match replaced {
            Some((replaced, _)) => self.agents().await?.into_iter().find(|agent| agent.agent == replaced).map(Box::new),
            None => None,
        };
        Ok(Some(EnrolmentOutcome::Enrolled { agent: Box::new(agent), new: true, replaced }))
    }

    async fn try_publishing(&self, lead: &Lead, new: &NewVersion) -> StoreResult<Option<(VersionRecord, bool)>> {
        let function = Value::from(bounds::name(&new.function));
        let (module, nans) = (Value::from(&new.module.digest.as_bytes()[..]), Value::from(i64::from(new.canonical_nans)));
        let values = [function.clone(), module.clone(), nans.clone(), new.beyond.into()];
        let answer = self.session.read(statements::BEFORE_PUBLISHING, &values).await?;
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
        let Some(result) = done(self.session.fenced(lead, Kind::Other, statements::PUBLISH, values).await)? else {
            return Ok(None);
        };
        let made = self.version(VersionId(made(result)? as u64)).await?;
        Ok(Some((made.ok_or_else(|| Fail::Broken(Broken("a version that was just published is not there".into())))?, true)))
    }
}

#[async_trait]
impl Registry for SqlServer {
    async fn note(&self, lead: &Lead, line: &AuditRecord) -> StoreResult<()> {
        Ok(settled(&self.session, lead, statements::NOTE, line_values(line)).await.map(drop)?)
    }

    async fn create_token(&self, lead: &Lead, token: NewToken) -> StoreResult<Option<TokenRecord>> {
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
        let Some(made) = settled(&self.session, lead, statements::CREATE_TOKEN, values).await? else { return Ok(None) };
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

    async fn tokens(&self) -> StoreResult<Vec<TokenRecord>> {
        Ok(all(&self.session.read(statements::TOKENS, &[]).await?, 0, rows::token_record)?)
    }

    async fn revoke_token(&self, lead: &Lead, token: u64, by: &str, at: Timestamp) -> StoreResult<bool> {
        let values = vec![number(token).into(), at.0.into(), bounds::name(by).into()];
        let found = settled(&self.session, lead, statements::REVOKE_TOKEN, values).await?;
        Ok(found == Some(1))
    }

    async fn note_leaving(&self, lead: &Lead, agent: AgentId, at: Timestamp) -> StoreResult<bool> {
        let values = vec![number(agent.0).into(), at.0.into()];
        Ok(settled(&self.session, lead, statements::NOTE_LEAVING, values).await? == Some(1))
    }

    async fn remove_agent(&self, lead: &Lead, agent: AgentId, by: &str, at: Timestamp) -> StoreResult<bool> {
        let values = vec![number(agent.0).into(), at.0.into(), bounds::name(by).into()];
        Ok(settled(&self.session, lead, statements::REMOVE_AGENT, values).await? == Some(1))
    }

    async fn authenticate(&self, fingerprint: &[u8; 32], now: Timestamp) -> StoreResult<Option<TokenRecord>> {
        let answer = self.session.read(statements::AUTHENTICATE, &[fingerprint[..].into()]).await?;
        Ok(first(&answer, 0, rows::token_record)?.filter(|token| !decide::expired(token, now)))
    }

    async fn enrol(&self, lead: &Lead, enrolment: Enrolment) -> StoreResult<EnrolmentOutcome> {
        // A refusal is an answer of the leader.
        settled(&self.session, lead, statements::NOTHING, Vec::new()).await?;
        for _ in 0..TRIES_MAX {
            if let Some(outcome) = self.try_enrolment(lead, &enrolment).await? {
                return Ok(outcome);
            }
        }
        Err(Fail::Contended.into())
    }

    async fn agents(&self) -> StoreResult<Vec<AgentRecord>> {
        Ok(all(&self.session.read(statements::AGENTS, &[]).await?, 0, rows::agent_record)?)
    }

    async fn revocations(&self) -> StoreResult<RevocationsRecord> {
        Ok(rows::revocations(all(&self.session.read(statements::REVOCATIONS, &[]).await?, 0, rows::revocation)?))
    }

    async fn agent_by_peer(&self, peer: &[u8]) -> StoreResult<Option<AgentRecord>> {
        Ok(first(&self.session.read(statements::AGENT_BY_PEER, &[peer.into()]).await?, 0, rows::agent_record)?)
    }

    async fn publish(&self, lead: &Lead, version: NewVersion) -> StoreResult<(VersionRecord, bool)> {
        settled(&self.session, lead, statements::NOTHING, Vec::new()).await?;
        for _ in 0..TRIES_MAX {
            if let Some(published) = self.try_publishing(lead, &version).await? {
                return Ok(published);
            }
        }
        Err(Fail::Contended.into())
    }

    async fn versions(&self) -> StoreResult<Vec<VersionRecord>> {
        Ok(all(&self.session.read(statements::VERSIONS, &[]).await?, 0, rows::version_record)?)
    }

    async fn version(&self, version: VersionId) -> StoreResult<Option<VersionRecord>> {
        Ok(first(&self.session.read(statements::VERSION, &[number(version.0).into()]).await?, 0, rows::version_record)?)
    }

    async fn version_named(&self, function: &str, which: &Which) -> StoreResult<Option<VersionRecord>> {
        let (number, label, first_of_all) = decide::which(which);
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let values = [function.into(), number.into(), owned(label).into(), owned(first_of_all).into()];
        Ok(first(&self.session.read(statements::VERSION_NAMED, &values).await?, 0, rows::version_record)?)
    }

    async fn labels(&self) -> StoreResult<Vec<LabelRecord>> {
        Ok(all(&self.session.read(statements::LABELS, &[]).await?, 0, rows::label_record)?)
    }

    async fn label_moves(&self, function: &str, label: &str, limit: u32) -> StoreResult<Vec<LabelRecord>> {
        let values = [function.into(), label.into(), limit.into()];
        Ok(all(&self.session.read(statements::LABEL_MOVES, &values).await?, 0, rows::label_record)?)
    }

    async fn move_label(&self, lead: &Lead, new: NewLabel) -> StoreResult<bool> {
        let subject = format!("{}@{}", new.function, new.number);
        let values = vec![
            new.function.clone().into(),
            new.label.clone().into(),
            new.number.into(),
            number(new.follows).into(),
            new.before.map(number).into(),
            new.at.0.into(),
            bounds::name(&new.by).into(),
            new.operation().into(),
            bounds::name(&subject).into(),
        ];
        Ok(settled(&self.session, lead, statements::MOVE_LABEL, values).await? == Some(1))
    }

    async fn remove_versions(
        &self,
        lead: &Lead,
        function: &str,
        number: Option<u32>,
        by: &str,
        at: Timestamp,
    ) -> StoreResult<u64> {
        let subject = number.map_or_else(|| function.to_owned(), |number| format!("{function}@{number}"));
        let values = vec![function.into(), number.into(), at.0.into(), bounds::name(by).into(), bounds::name(&subject).into()];
        let hidden = settled(&self.session, lead, statements::REMOVE_VERSIONS, values).await?;
        Ok(hidden.unwrap_or(0) as u64)
    }

    async fn policy(&self) -> StoreResult<Option<PolicyRecord>> {
        Ok(first(&self.session.read(statements::POLICY, &[]).await?, 0, rows::policy_record)?)
    }

    async fn set_policy(&self, lead: &Lead, policy: NewPolicy) -> StoreResult<bool> {
        let PolicyRecord { version, book, set, set_by } = &policy.record;
        let values = vec![
            number(policy.follows).into(),
            number(*version).into(),
            json!(book).to_string().into(),
            set.0.into(),
            bounds::name(set_by).into(),
            bounds::reason(&policy.detail).into(),
        ];
        Ok(settled(&self.session, lead, statements::SET_POLICY, values).await? == Some(1))
    }

    async fn rollouts(&self) -> StoreResult<Vec<RolloutRecord>> {
        let answer = self.session.read(statements::ROLLOUTS, &[]).await?;
        Ok(rows::rollouts(all(&answer, 0, rows::rollout_record)?, all(&answer, 1, rows::rollout_agent)?))
    }

    async fn begin_rollout(&self, lead: &Lead, rollout: RolloutRecord) -> StoreResult<bool> {
        let (_, _, detail) = decide::rollout_begins(&rollout);
        let values = vec![
            number(rollout.number).into(),
            rollout.platform.as_str().into(),
            bounds::name(&rollout.version).into(),
            rollout.package.digest.as_bytes()[..].into(),
            number(rollout.package.size_bytes).into(),
            rollout.release.body.into(),
            rollout.release.signature.into(),
            rollout.expires.0.into(),
            json!(rollout.plan).to_string().into(),
            rollout.begun.0.into(),
            bounds::name(&rollout.begun_by).into(),
            bounds::reason(&detail).into(),
        ];
        Ok(settled(&self.session, lead, statements::BEGIN_ROLLOUT, values).await? == Some(1))
    }

    async fn mark_rollout(&self, lead: &Lead, mark: RolloutMark) -> StoreResult<()> {
        let RolloutMark { number: of, changes, at, line } = mark;
        let row = |(agent, step): (&AgentId, &Step)| json!({ "a": number(agent.0), "s": step.as_str(), "r": step.reason().map(bounds::reason) });
        let agents: Vec<_> = changes.agents.iter().map(row).collect();
        let values = vec![
            number(of).into(),
            u32::from(changes.begun).into(),
            changes.forgiven.into(),
            changes.stopped.as_deref().map(bounds::reason).into(),
            json!(agents).to_string().into(),
            at.0.into(),
            line.as_ref().map(|line| bounds::name(&line.by)).into(),
            line.as_ref().map(|line| line.action.clone()).into(),
            line.as_ref().map(|line| bounds::reason(&line.detail)).into(),
        ];
        Ok(settled(&self.session, lead, statements::MARK_ROLLOUT, values).await.map(drop)?)
    }

    async fn audit(&self, limit: u32) -> StoreResult<Vec<AuditRecord>> {
        Ok(all(&self.session.read(statements::AUDIT, &[limit.into()]).await?, 0, rows::audit_record)?)
    }
}
