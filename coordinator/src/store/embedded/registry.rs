//! Tokens, agents, versions, the policy and the audit.

use async_trait::async_trait;
use lull_shared::{
    amount::counted,
    id::{AgentId, VersionId},
    time::Timestamp,
};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{
    super::{
        Lead, Registry, StoreResult,
        bounds::{self, number},
        cells::json,
        decide::{self, Enrolling, Names},
        record::*,
        rows,
        turn::{Broken, audit_row},
    },
    Embedded,
    error::Fail,
    reader::{all, first},
    turn::insert_audit,
};
use crate::version::Which;

/// Appends to the audit.
pub(super) fn note(tx: &Transaction<'_>, line: &AuditRecord) -> Result<(), Fail> {
    insert_audit(tx, line)
}

// --- Tokens ---

const TOKEN: &str = "SELECT * FROM tokens";

/// Makes a token.
pub(super) fn create_token(tx: &Transaction<'_>, token: &NewToken) -> Result<Option<TokenRecord>, Fail> {
    let id: i64 = tx.query_row("SELECT coalesce(max(token_id), 0) + 1 FROM tokens", [], |row| row.get(0))?;
    let name = token.name.as_deref().map_or_else(|| format!("t{id}"), bounds::name);
    let taken = "SELECT 1 FROM tokens WHERE lower(name) = lower(?1) AND revoked_us IS NULL";
    if tx.query_row(taken, [&name], |_| Ok(())).optional()?.is_some() {
        return Ok(None);
    }
    tx.execute(
        "INSERT INTO tokens (token_id, role, name, fingerprint, uses, uses_max, created_us, created_by, expires_us, bound_names,
             bound_group)
         VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            id,
            token.role.as_str(),
            name,
            token.fingerprint,
            token.uses_max,
            token.at.0,
            bounds::name(&token.by),
            token.expires.map(|at| at.0),
            (!token.bound.names.is_empty()).then(|| json(&token.bound.names)),
            token.bound.group,
        ],
    )?;
    let detail = decide::token_words(token.role, &name, &token.bound);
    insert_audit(tx, &audit_row(token.at, &token.by, "token.create", format!("t{id}"), &detail))?;
    let made = first(tx, &format!("{TOKEN} WHERE token_id = ?1"), [id], rows::token_record)?;
    Ok(Some(made.ok_or_else(|| Broken("a token that was just made is not there".into()))?))
}

/// Revokes a token; `false` when there is none. Doing it again changes nothing.
pub(super) fn revoke_token(tx: &Transaction<'_>, token: u64, by: &str, at: Timestamp) -> Result<bool, Fail> {
    let id = number(token);
    let known = tx.query_row("SELECT 1 FROM tokens WHERE token_id = ?1", [id], |_| Ok(())).optional()?.is_some();
    let sql = "UPDATE tokens SET revoked_us = ?2 WHERE token_id = ?1 AND revoked_us IS NULL";
    if tx.execute(sql, params![id, at.0])? == 1 {
        insert_audit(tx, &audit_row(at, by, "token.revoke", format!("t{token}"), ""))?;
    }
    Ok(known)
}

/// Notes that a machine leaves the network; `false` when there is none with this id.
pub(super) fn note_leaving(tx: &Transaction<'_>, agent: AgentId, at: Timestamp) -> Result<bool, Fail> {
    let id = number(agent.0);
    let sql = "UPDATE agents SET left_us = ?2 WHERE agent_id = ?1 RETURNING name";
    let name = tx.query_row(sql, params![id, at.0], |row| row.get::<_, String>(0)).optional()?;
    if let Some(name) = &name {
        insert_audit(tx, &audit_row(at, name, "agent.leave", agent.to_string(), ""))?;
    }
    Ok(name.is_some())
}

/// Takes a machine off the list that was thrown out; `false` when none was on it.
pub(super) fn remove_agent(tx: &Transaction<'_>, agent: AgentId, by: &str, at: Timestamp) -> Result<bool, Fail> {
    let id = number(agent.0);
    let sql =
        "UPDATE agents SET removed_us = ?2 WHERE agent_id = ?1 AND intake = 'revoked' AND removed_us IS NULL RETURNING name";
    let name = tx.query_row(sql, params![id, at.0], |row| row.get::<_, String>(0)).optional()?;
    if let Some(name) = &name {
        insert_audit(tx, &audit_row(at, by, "agent.remove", agent.to_string(), name))?;
    }
    Ok(name.is_some())
}

/// The person whose token this is.
pub(super) fn authenticate(tx: &Transaction<'_>, fingerprint: &[u8; 32], now: Timestamp) -> Result<Option<TokenRecord>, Fail> {
    let sql = format!("{TOKEN} WHERE fingerprint = ?1 AND role <> 'agent' AND revoked_us IS NULL");
    let found = first(tx, &sql, [fingerprint], rows::token_record)?;
    Ok(found.filter(|token| !decide::expired(token, now)))
}

// --- Agents ---

/// Of these names, in small letters, those that are taken, and by whom.
pub(super) const NAMES_TAKEN: &str = "SELECT * FROM agents WHERE lower(name) IN (SELECT value FROM json_each(?1))";

/// Enrols a machine.
pub(super) fn enrol(tx: &Transaction<'_>, enrolment: &Enrolment) -> Result<EnrolmentOutcome, Fail> {
    let token = number(enrolment.token);
    let found = first(tx, &format!("{TOKEN} WHERE token_id = ?1"), [token], |row| {
        let fingerprint = rows::digest("fingerprint", &rows::bytes(row, "fingerprint")?)?;
        Ok((rows::token_record(row)?, *fingerprint.as_bytes()))
    })?;
    let known = agent_by_peer(tx, &enrolment.peer)?;
    let names: Names =
        all(tx, NAMES_TAKEN, [json(&decide::names_to_look_up(enrolment))], rows::name_taken)?.into_iter().collect();
    let (name, group, replaced) = match decide::enrolment(enrolment, found.as_ref(), known, &names) {
        Enrolling::Answer(outcome) => return Ok(outcome),
        Enrolling::Make { name, group, replaced } => (name, group, replaced),
    };
    let by = format!("token t{token}");
    if let Some(replaced) = &replaced {
        tx.execute("UPDATE agents SET name = ?2 WHERE agent_id = ?1", params![number(replaced.agent.0), replaced.name])?;
        let detail = replaced.words(&name);
        insert_audit(tx, &audit_row(enrolment.at, &by, "agent.replace", replaced.agent.to_string(), &detail))?;
    }
    tx.execute("UPDATE tokens SET uses = uses + 1 WHERE token_id = ?1", [token])?;
    tx.execute(
        "INSERT INTO agents (name, peer, intake, token_id, enrolled_us, labels, results_refused, group_name)
         VALUES (?1, ?2, 'open', ?3, ?4, '{}', 0, ?5)",
        params![name, enrolment.peer, token, enrolment.at.0, group],
    )?;
    let subject = format!("a{}", tx.last_insert_rowid());
    insert_audit(tx, &audit_row(enrolment.at, &by, "agent.enrol", subject, &name))?;
    let agent = agent_by_peer(tx, &enrolment.peer)?;
    let agent = agent.ok_or_else(|| Broken("an agent that was just made is not there".into()))?;
    let replaced = match replaced {
        Some(replaced) => {
            first(tx, "SELECT * FROM agents WHERE agent_id = ?1", [number(replaced.agent.0)], rows::agent_record)?.map(Box::new)
        }
        None => None,
    };
    Ok(EnrolmentOutcome::Enrolled { agent: Box::new(agent), new: true, replaced })
}

/// Who was thrown out, and how often that changed.
pub(super) fn revocations(tx: &Transaction<'_>) -> Result<RevocationsRecord, Fail> {
    let sql = "SELECT leader.revocations, agents.peer FROM leader LEFT JOIN agents ON agents.intake = 'revoked' ORDER BY agents.agent_id";
    Ok(rows::revocations(all(tx, sql, [], rows::revocation)?))
}

/// The agent with this peer.
pub(super) fn agent_by_peer(tx: &Transaction<'_>, peer: &[u8]) -> Result<Option<AgentRecord>, Fail> {
    first(tx, "SELECT * FROM agents WHERE peer = ?1", [peer], rows::agent_record)
}

// --- Versions ---

const VERSION: &str = "SELECT versions.*, functions.name AS function_name
    FROM versions JOIN functions ON functions.function_id = versions.function_id";

/// Publishes a module, or finds that it is there.
pub(super) fn publish(tx: &Transaction<'_>, new: &NewVersion) -> Result<(VersionRecord, bool), Fail> {
    let function = bounds::name(&new.function);
    let same = format!(
        "{VERSION} WHERE functions.name = ?1 AND versions.module_digest = ?2 AND versions.canonical_nans = ?3
             AND versions.number > ?4 AND versions.removed_us IS NULL ORDER BY versions.number DESC LIMIT 1"
    );
    let module = *new.module.digest.as_bytes();
    if let Some(found) = first(tx, &same, params![function, module, new.canonical_nans, new.beyond], rows::version_record)? {
        return Ok((found, false));
    }
    tx.execute("INSERT INTO functions (name) VALUES (?1) ON CONFLICT DO NOTHING", [&function])?;
    let (function_id, next): (i64, u32) = tx.query_row(
        "SELECT functions.function_id, coalesce(max(versions.number), 0) + 1
         FROM functions LEFT JOIN versions ON versions.function_id = functions.function_id
         WHERE functions.name = ?1 GROUP BY functions.function_id",
        [&function],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let manifest = new.sign.sign(next);
    tx.execute(
        "INSERT INTO versions (function_id, number, kind, module_digest, module_bytes, canonical_nans, manifest,
             manifest_signature, interface, published_us, published_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            function_id,
            next,
            rows::kind_word(new.kind),
            module,
            number(new.module.size_bytes),
            new.canonical_nans,
            manifest.body,
            manifest.signature,
            serde_json::to_string(&new.interface).expect("lines are JSON"),
            new.at.0,
            bounds::name(&new.by)
        ],
    )?;
    let id = tx.last_insert_rowid();
    for digest in decide::version_blobs(new, &manifest.body) {
        tx.execute("INSERT INTO version_blobs (version_id, digest) VALUES (?1, ?2)", params![id, *digest.as_bytes()])?;
    }
    let detail = new.module.digest.to_string();
    insert_audit(tx, &audit_row(new.at, &new.by, "function.publish", format!("{}@{next}", new.function), &detail))?;
    let made = version(tx, VersionId(id as u64))?;
    Ok((made.ok_or_else(|| Broken("a version that was just published is not there".into()))?, true))
}

/// One version, removed or not.
pub(super) fn version(tx: &Transaction<'_>, version: VersionId) -> Result<Option<VersionRecord>, Fail> {
    first(tx, &format!("{VERSION} WHERE versions.version_id = ?1"), [number(version.0)], rows::version_record)
}

/// The version that a label of a function stands for.
fn labelled(parameter: &str) -> String {
    format!(
        "(SELECT label_moves.version_id FROM label_moves WHERE label_moves.function_id = functions.function_id
          AND label_moves.label = {parameter} ORDER BY label_moves.move_id DESC LIMIT 1)"
    )
}

/// A function's version.
pub(super) fn version_named(tx: &Transaction<'_>, function: &str, which: &Which) -> Result<Option<VersionRecord>, Fail> {
    let sql = format!(
        "{VERSION} WHERE functions.name = ?1 AND versions.number = coalesce(?2, versions.number) AND versions.removed_us IS NULL
         AND (?3 IS NULL OR versions.version_id = {})
         ORDER BY CASE WHEN versions.version_id = {} THEN 0 ELSE 1 END, versions.number DESC LIMIT 1",
        labelled("?3"),
        labelled("?4")
    );
    let (number, label, first_of_all) = decide::which(which);
    first(tx, &sql, params![function, number, label, first_of_all], rows::version_record)
}

const LABEL: &str = "SELECT label_moves.*, functions.name AS function_name, versions.number
    FROM label_moves JOIN functions ON functions.function_id = label_moves.function_id
    JOIN versions ON versions.version_id = label_moves.version_id";

/// What every label stands for.
pub(super) fn labels(tx: &Transaction<'_>) -> Result<Vec<LabelRecord>, Fail> {
    let sql = format!(
        "{LABEL} WHERE versions.removed_us IS NULL AND label_moves.move_id = (SELECT max(newest.move_id) FROM label_moves AS newest
             WHERE newest.function_id = label_moves.function_id AND newest.label = label_moves.label)
         ORDER BY functions.name, label_moves.label"
    );
    all(tx, &sql, [], rows::label_record)
}

/// What a label has stood for.
pub(super) fn label_moves(tx: &Transaction<'_>, function: &str, label: &str, limit: u32) -> Result<Vec<LabelRecord>, Fail> {
    let sql = format!("{LABEL} WHERE functions.name = ?1 AND label_moves.label = ?2 ORDER BY label_moves.move_id DESC LIMIT ?3");
    all(tx, &sql, params![function, label, limit], rows::label_record)
}

/// Lets a label stand for a version, if nothing has changed meanwhile.
pub(super) fn move_label(tx: &Transaction<'_>, new: &NewLabel) -> Result<bool, Fail> {
    let moved = tx.execute(
        "INSERT INTO label_moves (function_id, label, version_id, before_move_id, moved_us, moved_by)
         SELECT versions.function_id, ?2, versions.version_id, ?5, ?6, ?7
         FROM versions JOIN functions ON functions.function_id = versions.function_id
         WHERE functions.name = ?1 AND versions.number = ?3 AND versions.removed_us IS NULL
             AND ?4 = (SELECT coalesce(max(label_moves.move_id), 0) FROM label_moves
                 WHERE label_moves.function_id = versions.function_id AND label_moves.label = ?2)",
        params![
            new.function,
            new.label,
            new.number,
            number(new.follows),
            new.before.map(number),
            new.at.0,
            bounds::name(&new.by)
        ],
    )?;
    if moved > 0 {
        let subject = format!("{}@{}", new.function, new.number);
        insert_audit(tx, &audit_row(new.at, &new.by, new.operation(), subject, &new.label))?;
    }
    Ok(moved > 0)
}

/// Hides versions. How many.
pub(super) fn remove_versions(
    tx: &Transaction<'_>,
    function: &str,
    number: Option<u32>,
    by: &str,
    at: Timestamp,
) -> Result<u64, Fail> {
    let hidden = tx.execute(
        "UPDATE versions SET removed_us = ?3 WHERE removed_us IS NULL AND number = coalesce(?2, number)
             AND function_id = (SELECT function_id FROM functions WHERE name = ?1)",
        params![function, number, at.0],
    )?;
    if hidden > 0 {
        let subject = number.map_or_else(|| function.to_owned(), |number| format!("{function}@{number}"));
        insert_audit(tx, &audit_row(at, by, "function.remove", subject, &counted(hidden as u64, "version")))?;
    }
    Ok(hidden as u64)
}

// --- The policy ---

/// Keeps an edition, if the newest is the one that it follows.
pub(super) fn set_policy(tx: &Transaction<'_>, new: &NewPolicy) -> Result<bool, Fail> {
    let newest: i64 = tx.query_row("SELECT coalesce(max(version), 0) FROM policies", [], |row| row.get(0))?;
    if newest != number(new.follows) {
        return Ok(false);
    }
    let PolicyRecord { version, book, set, set_by } = &new.record;
    tx.execute(
        "INSERT INTO policies (version, book, set_us, set_by) VALUES (?1, ?2, ?3, ?4)",
        params![number(*version), json(book), set.0, bounds::name(set_by)],
    )?;
    insert_audit(tx, &audit_row(*set, set_by, "policy.set", format!("version {version}"), &new.detail))?;
    Ok(true)
}

// --- Rollouts ---

const NEWEST: &str = "NOT EXISTS (SELECT 1 FROM rollouts AS newer WHERE newer.platform = rollouts.platform
    AND newer.number > rollouts.number)";

/// The newest of each platform.
pub(super) fn rollouts(tx: &Transaction<'_>) -> Result<Vec<RolloutRecord>, Fail> {
    let sql = format!("SELECT * FROM rollouts WHERE {NEWEST} ORDER BY number");
    let records = all(tx, &sql, [], rows::rollout_record)?;
    let sql = format!(
        "SELECT rollout_agents.* FROM rollouts JOIN rollout_agents ON rollout_agents.number = rollouts.number
         WHERE {NEWEST} ORDER BY rollouts.number, rollout_agents.agent_id"
    );
    Ok(rows::rollouts(records, all(tx, &sql, [], rows::rollout_agent)?))
}

/// Begins one, if its number is above those of all others.
pub(super) fn begin_rollout(tx: &Transaction<'_>, new: &RolloutRecord) -> Result<bool, Fail> {
    let newest: i64 = tx.query_row("SELECT coalesce(max(number), 0) FROM rollouts", [], |row| row.get(0))?;
    if newest >= number(new.number) {
        return Ok(false);
    }
    tx.execute(
        "INSERT INTO rollouts (number, platform, version, package_digest, package_bytes, release_body, release_sign, expires_us,
             plan_text, waves_begun, forgiven, stopped, begun_us, begun_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, NULL, ?10, ?11)",
        params![
            number(new.number),
            new.platform.as_str(),
            bounds::name(&new.version),
            *new.package.digest.as_bytes(),
            number(new.package.size_bytes),
            new.release.body,
            new.release.signature,
            new.expires.0,
            json(&new.plan),
            new.begun.0,
            bounds::name(&new.begun_by),
        ],
    )?;
    let (action, subject, detail) = decide::rollout_begins(new);
    insert_audit(tx, &audit_row(new.begun, &new.begun_by, action, subject, &detail))?;
    Ok(true)
}

/// Keeps what has changed.
pub(super) fn mark_rollout(tx: &Transaction<'_>, mark: &RolloutMark) -> Result<(), Fail> {
    let (changes, of) = (&mark.changes, number(mark.number));
    let stopped = changes.stopped.as_deref().map(bounds::reason);
    tx.execute(
        "UPDATE rollouts SET waves_begun = ?2, forgiven = ?3, stopped = ?4 WHERE number = ?1",
        params![of, changes.begun, changes.forgiven, stopped],
    )?;
    let mut keep = tx.prepare_cached(
        "INSERT INTO rollout_agents (number, agent_id, step, reason, changed_us) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (number, agent_id) DO UPDATE SET step = ?3, reason = ?4, changed_us = ?5",
    )?;
    for (agent, step) in &changes.agents {
        let reason = step.reason().map(bounds::reason);
        keep.execute(params![of, number(agent.0), step.as_str(), reason, mark.at.0])?;
    }
    if let Some(RolloutLine { by, action, detail }) = &mark.line {
        insert_audit(tx, &audit_row(mark.at, by, action, decide::rollout_subject(mark.number), detail))?;
    }
    Ok(())
}

/// The newest lines of the audit, newest first.
pub(super) fn audit(tx: &Transaction<'_>, limit: u32) -> Result<Vec<AuditRecord>, Fail> {
    all(tx, "SELECT * FROM audit ORDER BY audit_id DESC LIMIT ?1", [limit], rows::audit_record)
}

#[async_trait]
impl Registry for Embedded {
    async fn note(&self, lead: &Lead, line: &AuditRecord) -> StoreResult<()> {
        let line = line.clone();
        self.fenced(lead, move |tx| note(tx, &line)).await
    }

    async fn create_token(&self, lead: &Lead, token: NewToken) -> StoreResult<Option<TokenRecord>> {
        self.fenced(lead, move |tx| create_token(tx, &token)).await
    }

    async fn tokens(&self) -> StoreResult<Vec<TokenRecord>> {
        self.read(|tx| all(tx, &format!("{TOKEN} ORDER BY token_id"), [], rows::token_record)).await
    }

    async fn revoke_token(&self, lead: &Lead, token: u64, by: &str, at: Timestamp) -> StoreResult<bool> {
        let by = by.to_owned();
        self.fenced(lead, move |tx| revoke_token(tx, token, &by, at)).await
    }

    async fn note_leaving(&self, lead: &Lead, agent: AgentId, at: Timestamp) -> StoreResult<bool> {
        self.fenced(lead, move |tx| note_leaving(tx, agent, at)).await
    }

    async fn remove_agent(&self, lead: &Lead, agent: AgentId, by: &str, at: Timestamp) -> StoreResult<bool> {
        let by = by.to_owned();
        self.fenced(lead, move |tx| remove_agent(tx, agent, &by, at)).await
    }

    async fn authenticate(&self, fingerprint: &[u8; 32], now: Timestamp) -> StoreResult<Option<TokenRecord>> {
        let fingerprint = *fingerprint;
        self.read(move |tx| authenticate(tx, &fingerprint, now)).await
    }

    async fn enrol(&self, lead: &Lead, enrolment: Enrolment) -> StoreResult<EnrolmentOutcome> {
        self.fenced(lead, move |tx| enrol(tx, &enrolment)).await
    }

    async fn agents(&self) -> StoreResult<Vec<AgentRecord>> {
        self.read(|tx| all(tx, "SELECT * FROM agents ORDER BY agent_id", [], rows::agent_record)).await
    }

    async fn revocations(&self) -> StoreResult<RevocationsRecord> {
        self.read(revocations).await
    }

    async fn agent_by_peer(&self, peer: &[u8]) -> StoreResult<Option<AgentRecord>> {
        let peer = peer.to_owned();
        self.read(move |tx| agent_by_peer(tx, &peer)).await
    }

    async fn publish(&self, lead: &Lead, version: NewVersion) -> StoreResult<(VersionRecord, bool)> {
        self.fenced(lead, move |tx| publish(tx, &version)).await
    }

    async fn versions(&self) -> StoreResult<Vec<VersionRecord>> {
        self.read(|tx| {
            let sql = format!("{VERSION} WHERE versions.removed_us IS NULL ORDER BY functions.name, versions.number DESC");
            all(tx, &sql, [], rows::version_record)
        })
        .await
    }

    async fn version(&self, version: VersionId) -> StoreResult<Option<VersionRecord>> {
        self.read(move |tx| self::version(tx, version)).await
    }

    async fn version_named(&self, function: &str, which: &Which) -> StoreResult<Option<VersionRecord>> {
        let (function, which) = (function.to_owned(), which.clone());
        self.read(move |tx| version_named(tx, &function, &which)).await
    }

    async fn labels(&self) -> StoreResult<Vec<LabelRecord>> {
        self.read(labels).await
    }

    async fn label_moves(&self, function: &str, label: &str, limit: u32) -> StoreResult<Vec<LabelRecord>> {
        let (function, label) = (function.to_owned(), label.to_owned());
        self.read(move |tx| label_moves(tx, &function, &label, limit)).await
    }

    async fn move_label(&self, lead: &Lead, new: NewLabel) -> StoreResult<bool> {
        self.fenced(lead, move |tx| move_label(tx, &new)).await
    }

    async fn remove_versions(
        &self,
        lead: &Lead,
        function: &str,
        number: Option<u32>,
        by: &str,
        at: Timestamp,
    ) -> StoreResult<u64> {
        let (function, by) = (function.to_owned(), by.to_owned());
        self.fenced(lead, move |tx| remove_versions(tx, &function, number, &by, at)).await
    }

    async fn policy(&self) -> StoreResult<Option<PolicyRecord>> {
        self.read(|tx| first(tx, "SELECT * FROM policies ORDER BY version DESC LIMIT 1", [], rows::policy_record)).await
    }

    async fn set_policy(&self, lead: &Lead, policy: NewPolicy) -> StoreResult<bool> {
        self.fenced(lead, move |tx| set_policy(tx, &policy)).await
    }

    async fn rollouts(&self) -> StoreResult<Vec<RolloutRecord>> {
        self.read(rollouts).await
    }

    async fn begin_rollout(&self, lead: &Lead, rollout: RolloutRecord) -> StoreResult<bool> {
        self.fenced(lead, move |tx| begin_rollout(tx, &rollout)).await
    }

    async fn mark_rollout(&self, lead: &Lead, mark: RolloutMark) -> StoreResult<()> {
        self.fenced(lead, move |tx| mark_rollout(tx, &mark)).await
    }

    async fn audit(&self, limit: u32) -> StoreResult<Vec<AuditRecord>> {
        self.read(move |tx| audit(tx, limit)).await
    }
}
