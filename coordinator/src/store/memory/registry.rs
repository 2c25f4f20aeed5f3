//! Tokens, agents, versions and blobs in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use lull_shared::{
    amount::counted,
    digest::Digest,
    id::{AgentId, Term, TokenId, VersionId},
    job::Inputs,
    message::Payload,
    resources::Labels,
    state::Intake,
    time::Timestamp,
};

use super::{
    super::{
        Lead, Registry, StoreResult, Takeover, bounds,
        decide::{self, Enrolling},
        lead::{LeaderRow, Shown},
        links::LinkReader,
        record::*,
    },
    Memory,
    state::{Agent, State, Version},
};
use crate::version::Which;

impl State {
    /// The leader's row, if this were a database.
    pub(super) fn leader_row(&self) -> LeaderRow {
        let leader = LeaderRecord { term: self.term, holder: self.holder.clone(), until: self.lease_end };
        LeaderRow { leader, counts: self.counts }
    }

    /// Counts a write, or says why it is not let through.
    pub(super) fn fence(&mut self, shown: &Shown) -> StoreResult<()> {
        let row = self.leader_row();
        match row.refusal(shown) {
            Some(refusal) => Err(refusal.into()),
            None => {
                self.counts = row.counted(shown);
                Ok(())
            }
        }
    }

    pub(super) fn take_over(&mut self, holder: &str, length: Duration, now: Timestamp) -> Takeover {
        let holder = bounds::name(holder);
        match &self.holder {
            Some(other) if *other != holder && self.lease_end > now => {
                Takeover::Theirs { holder: other.clone(), until: self.lease_end }
            }
            _ => {
                self.counts.writes += 1;
                let lead = Lead::with_counts(Term(self.term.0 + 1), &holder, self.counts);
                (self.term, self.holder, self.lease_end) = (lead.term, Some(holder), now + length);
                Takeover::Ours(lead)
            }
        }
    }

    pub(super) fn check_in(&mut self, own: CoordinatorRecord, forget: Timestamp) {
        self.coordinators.insert(own.peer.clone(), own);
        self.coordinators.retain(|_, other| other.seen >= forget);
    }

    pub(super) fn create_token(&mut self, new: NewToken) -> Option<TokenRecord> {
        let token = self.tokens.len() as u64 + 1;
        let name = new.name.as_deref().map_or_else(|| TokenId(token).to_string(), bounds::name);
        if self.tokens.iter().any(|other| other.0.revoked.is_none() && other.0.name.eq_ignore_ascii_case(&name)) {
            return None;
        }
        let record = TokenRecord {
            token,
            role: new.role,
            name,
            bound: new.bound,
            uses: 0,
            uses_max: new.uses_max,
            created: new.at,
            created_by: bounds::name(&new.by),
            expires: new.expires,
            revoked: None,
        };
        self.audit(
            new.at,
            &new.by,
            "token.create",
            format!("t{token}"),
            &decide::token_words(new.role, &record.name, &record.bound),
        );
        self.tokens.push(Arc::new((record.clone(), new.fingerprint)));
        Some(record)
    }

    pub(super) fn revoke_token(&mut self, token: u64, by: &str, at: Timestamp) -> bool {
        let Some(found) = self.tokens.iter_mut().find(|found| found.0.token == token) else { return false };
        if found.0.revoked.is_none() {
            Arc::make_mut(found).0.revoked = Some(at);
            self.audit(at, by, "token.revoke", format!("t{token}"), "");
        }
        true
    }

    pub(super) fn note_leaving(&mut self, agent: AgentId, at: Timestamp) -> bool {
        let Some(found) = self.agents.get_mut(&agent) else { return false };
        let record = &mut Arc::make_mut(found).record;
        record.left = Some(at);
        let name = record.name.clone();
        self.audit(at, &name, "agent.leave", agent.to_string(), "");
        true
    }

    pub(super) fn remove_agent(&mut self, agent: AgentId, by: &str, at: Timestamp) -> bool {
        let Some(found) = self.agents.get_mut(&agent) else { return false };
        if found.record.intake != Intake::Revoked || found.record.removed.is_some() {
            return false;
        }
        let record = &mut Arc::make_mut(found).record;
        record.removed = Some(at);
        let name = record.name.clone();
        self.audit(at, by, "agent.remove", agent.to_string(), &name);
        true
    }

    /// What every label stands for.
    pub(super) fn labels(&self) -> Vec<LabelRecord> {
        let mut newest = BTreeMap::new();
        for step in &self.label_moves {
            newest.insert((step.function.clone(), step.label.clone()), LabelRecord::clone(step));
        }
        newest.into_values().collect()
    }

    /// The number of the version that a label stands for.
    pub(super) fn labelled(&self, function: &str, label: &str) -> Option<u32> {
        let newest = self.label_moves.iter().rev().find(|step| step.function == function && step.label == label);
        newest.map(|step| step.number)
    }

    pub(super) fn move_label(&mut self, new: &NewLabel) -> bool {
        let own = self.label_moves.iter().rev().find(|step| step.function == new.function && step.label == new.label);
        let mut versions = self.versions.iter().map(|version| &version.record);
        let there = versions.any(|found| found.function == new.function && found.number == new.number && found.removed.is_none());
        if !there || own.map_or(0, |step| step.step) != new.follows {
            return false;
        }
        self.label_moves.push(Arc::new(LabelRecord {
            step: self.label_moves.len() as u64 + 1,
            function: new.function.clone(),
            label: new.label.clone(),
            number: new.number,
            before: new.before,
            moved: new.at,
            moved_by: bounds::name(&new.by),
        }));
        self.audit(new.at, &new.by, new.operation(), format!("{}@{}", new.function, new.number), &new.label);
        true
    }

    pub(super) fn set_policy(&mut self, new: &NewPolicy) -> bool {
        if self.policies.last().map_or(0, |newest| newest.version) != new.follows {
            return false;
        }
        let NewPolicy { record, detail, .. } = new;
        self.policies.push(Arc::new(PolicyRecord { set_by: bounds::name(&record.set_by), ..record.clone() }));
        self.audit(record.set, &record.set_by, "policy.set", format!("version {}", record.version), detail);
        true
    }

    pub(super) fn begin_rollout(&mut self, new: &RolloutRecord) -> bool {
        if self.rollouts.keys().next_back().is_some_and(|newest| *newest >= new.number) {
            return false;
        }
        let (action, subject, detail) = decide::rollout_begins(new);
        let begun_by = bounds::name(&new.begun_by);
        let record = RolloutRecord { standing: Default::default(), version: bounds::name(&new.version), begun_by, ..new.clone() };
        self.rollouts.insert(new.number, Arc::new(record));
        self.audit(new.begun, &new.begun_by, action, subject, &detail);
        true
    }

    pub(super) fn mark_rollout(&mut self, mark: &RolloutMark) {
        let RolloutMark { number, changes, at, line } = mark;
        if let Some(record) = self.rollouts.get_mut(number) {
            let standing = &mut Arc::make_mut(record).standing;
            (standing.begun, standing.forgiven) = (changes.begun, changes.forgiven);
            standing.stopped = changes.stopped.as_deref().map(bounds::reason);
            standing.agents.extend(changes.agents.clone());
        }
        if let Some(RolloutLine { by, action, detail }) = line {
            self.audit(*at, by, action, decide::rollout_subject(*number), detail);
        }
    }

    /// The newest of each platform.
    pub(super) fn newest_rollouts(&self) -> Vec<RolloutRecord> {
        let newer =
            |one: &RolloutRecord| self.rollouts.values().any(|two| two.platform == one.platform && two.number > one.number);
        self.rollouts.values().filter(|one| !newer(one)).map(|one| RolloutRecord::clone(one)).collect()
    }

    pub(super) fn authenticate(&self, fingerprint: &[u8; 32], now: Timestamp) -> Option<TokenRecord> {
        let found = self.tokens.iter().find(|found| found.1 == *fingerprint).map(|found| &found.0)?;
        let valid = found.role != TokenRole::Agent && found.revoked.is_none() && !decide::expired(found, now);
        valid.then(|| found.clone())
    }

    pub(super) fn enrol(&mut self, enrolment: &Enrolment) -> EnrolmentOutcome {
        let token = self.tokens.iter().position(|found| found.0.token == enrolment.token);
        let known = self.agents.values().map(|agent| &agent.record).find(|agent| agent.peer == enrolment.peer).cloned();
        let names = self.agents.values().map(|agent| &agent.record);
        let names = names.map(|agent| (agent.name.to_ascii_lowercase(), (agent.agent, agent.standing()))).collect();
        let decided = decide::enrolment(enrolment, token.map(|at| &*self.tokens[at]), known, &names);
        let (name, group, replaced) = match decided {
            Enrolling::Answer(outcome) => return outcome,
            Enrolling::Make { name, group, replaced } => (name, group, replaced),
        };
        let by = format!("token t{}", enrolment.token);
        let replaced = replaced.and_then(|replaced| {
            self.audit(enrolment.at, &by, "agent.replace", replaced.agent.to_string(), &replaced.words(&name));
            let record = &mut Arc::make_mut(self.agents.get_mut(&replaced.agent)?).record;
            record.name = replaced.name;
            Some(Box::new(record.clone()))
        });
        if let Some(at) = token {
            Arc::make_mut(&mut self.tokens[at]).0.uses += 1;
        }
        let agent = AgentId(self.agents.len() as u64 + 1);
        let record = AgentRecord {
            agent,
            name,
            token: TokenId(enrolment.token),
            group,
            peer: enrolment.peer.clone(),
            intake: Intake::Open,
            quarantine: None,
            enrolled: enrolment.at,
            last_connected: None,
            last_disconnected: None,
            version: None,
            machine: None,
            labels: Labels::new(),
            left: None,
            removed: None,
        };
        self.audit(enrolment.at, &by, "agent.enrol", agent.to_string(), &record.name);
        self.agents.insert(agent, Arc::new(Agent { record: record.clone(), hours: None, results_refused: 0 }));
        EnrolmentOutcome::Enrolled { agent: Box::new(record), new: true, replaced }
    }

    pub(super) fn publish(&mut self, new: &NewVersion) -> (VersionRecord, bool) {
        let function = bounds::name(&new.function);
        let of_function = self.versions.iter().map(|version| &version.record).filter(|found| found.function == function);
        let same = |found: &&VersionRecord| {
            let module = found.module.digest == new.module.digest && found.canonical_nans == new.canonical_nans;
            module && found.removed.is_none() && found.number > new.beyond
        };
        if let Some(found) = of_function.clone().rfind(same) {
            return (found.clone(), false);
        }
        let number = of_function.map(|found| found.number).max().unwrap_or(0) + 1;
        let manifest = new.sign.sign(number);
        let blobs = decide::version_blobs(new, &manifest.body).into_iter().collect();
        let record = VersionRecord {
            version: VersionId(self.versions.len() as u64 + 1),
            function,
            number,
            kind: new.kind,
            module: new.module,
            canonical_nans: new.canonical_nans,
            manifest,
            interface: new.interface.clone(),
            published: new.at,
            published_by: bounds::name(&new.by),
            removed: None,
        };
        let detail = new.module.digest.to_string();
        self.audit(new.at, &new.by, "function.publish", format!("{}@{number}", new.function), &detail);
        self.versions.push(Arc::new(Version { record: record.clone(), blobs }));
        (record, true)
    }

    pub(super) fn remove_versions(&mut self, function: &str, number: Option<u32>, by: &str, at: Timestamp) -> u64 {
        let mut hidden = 0;
        for version in &mut self.versions {
            let found = &version.record;
            if found.function == function && number.is_none_or(|number| number == found.number) && found.removed.is_none() {
                Arc::make_mut(version).record.removed = Some(at);
                hidden += 1;
            }
        }
        if hidden > 0 {
            let subject = number.map_or_else(|| function.to_owned(), |number| format!("{function}@{number}"));
            self.audit(at, by, "function.remove", subject, &counted(hidden, "version"));
        }
        hidden
    }

    pub(super) fn sweep(&mut self, before: Timestamp) -> u64 {
        let mut used: BTreeSet<Digest> = self.versions.iter().flat_map(|version| version.blobs.clone()).collect();
        used.extend(self.rollouts.values().map(|rollout| rollout.package.digest));
        for job in self.jobs.values() {
            if let Inputs::Pack { pack, .. } = &job.new.spec.inputs {
                used.insert(pack.digest);
                if let Some(blob) = self.blobs.get(&pack.digest) {
                    let mut reader = LinkReader::new(pack.size_bytes);
                    reader.push(&blob.bytes);
                    used.extend(reader.finish());
                }
            }
            let outputs =
                job.tasks.values().flat_map(|task| &task.attempts).filter_map(|attempt| attempt.over.as_ref()?.output.as_ref());
            used.extend(outputs.filter_map(|output| match output {
                Payload::Blob(blob) => Some(blob.digest),
                Payload::Inline(_) => None,
            }));
        }
        let unused = self.blobs.iter().filter(|(digest, blob)| blob.touched < before && !used.contains(digest));
        let unused: Vec<Digest> = unused.map(|(digest, _)| *digest).collect();
        unused.iter().for_each(|digest| drop(self.blobs.remove(digest)));
        unused.len() as u64
    }
}

#[async_trait]
impl Registry for Memory {
    async fn note(&self, lead: &Lead, line: &AuditRecord) -> StoreResult<()> {
        self.write(lead, |state| {
            state.note(line.clone());
            Ok(())
        })
    }

    async fn create_token(&self, lead: &Lead, token: NewToken) -> StoreResult<Option<TokenRecord>> {
        self.write(lead, |state| Ok(state.create_token(token)))
    }

    async fn tokens(&self) -> StoreResult<Vec<TokenRecord>> {
        self.read(|state| state.tokens.iter().map(|token| token.0.clone()).collect())
    }

    async fn revoke_token(&self, lead: &Lead, token: u64, by: &str, at: Timestamp) -> StoreResult<bool> {
        self.write(lead, |state| Ok(state.revoke_token(token, by, at)))
    }

    async fn note_leaving(&self, lead: &Lead, agent: AgentId, at: Timestamp) -> StoreResult<bool> {
        self.write(lead, |state| Ok(state.note_leaving(agent, at)))
    }

    async fn remove_agent(&self, lead: &Lead, agent: AgentId, by: &str, at: Timestamp) -> StoreResult<bool> {
        self.write(lead, |state| Ok(state.remove_agent(agent, by, at)))
    }

    async fn authenticate(&self, fingerprint: &[u8; 32], now: Timestamp) -> StoreResult<Option<TokenRecord>> {
        self.read(|state| state.authenticate(fingerprint, now))
    }

    async fn enrol(&self, lead: &Lead, enrolment: Enrolment) -> StoreResult<EnrolmentOutcome> {
        self.write(lead, |state| Ok(state.enrol(&enrolment)))
    }

    async fn agents(&self) -> StoreResult<Vec<AgentRecord>> {
        self.read(|state| state.agents.values().map(|agent| agent.record.clone()).collect())
    }

    async fn revocations(&self) -> StoreResult<RevocationsRecord> {
        self.read(|state| {
            let thrown_out = state.agents.values().map(|agent| &agent.record).filter(|agent| agent.intake == Intake::Revoked);
            RevocationsRecord { counter: state.revocations, peers: thrown_out.map(|agent| agent.peer.clone()).collect() }
        })
    }

    async fn agent_by_peer(&self, peer: &[u8]) -> StoreResult<Option<AgentRecord>> {
        self.read(|state| state.agents.values().map(|agent| &agent.record).find(|agent| agent.peer == peer).cloned())
    }

    async fn publish(&self, lead: &Lead, version: NewVersion) -> StoreResult<(VersionRecord, bool)> {
        self.write(lead, |state| Ok(state.publish(&version)))
    }

    async fn versions(&self) -> StoreResult<Vec<VersionRecord>> {
        self.read(|state| {
            let mut versions: Vec<VersionRecord> =
                state.versions.iter().map(|version| version.record.clone()).filter(|found| found.removed.is_none()).collect();
            versions.sort_by(|a, b| (&a.function, b.number).cmp(&(&b.function, a.number)));
            versions
        })
    }

    async fn version(&self, version: VersionId) -> StoreResult<Option<VersionRecord>> {
        self.read(|state| state.versions.iter().map(|found| &found.record).find(|found| found.version == version).cloned())
    }

    async fn version_named(&self, function: &str, which: &Which) -> StoreResult<Option<VersionRecord>> {
        let (number, label, first_of_all) = decide::which(which);
        let labelled = |label: Option<&str>| {
            let label = label?.to_owned();
            self.read(|state| state.labelled(function, &label)).ok()?
        };
        let (wanted, preferred) = (labelled(label), labelled(first_of_all));
        let mut versions = self.versions().await?;
        versions.retain(|found| found.function == function && number.is_none_or(|number| number == found.number));
        versions.retain(|found| label.is_none() || wanted == Some(found.number));
        let place = versions.iter().position(|found| preferred == Some(found.number)).unwrap_or(0);
        Ok(versions.into_iter().nth(place))
    }

    async fn labels(&self) -> StoreResult<Vec<LabelRecord>> {
        let versions = self.versions().await?;
        let there = |label: &LabelRecord| {
            versions.iter().any(|version| version.function == label.function && version.number == label.number)
        };
        self.read(|state| state.labels().into_iter().filter(there).collect())
    }

    async fn label_moves(&self, function: &str, label: &str, limit: u32) -> StoreResult<Vec<LabelRecord>> {
        self.read(|state| {
            let own = state.label_moves.iter().rev().filter(|step| step.function == function && step.label == label);
            own.take(limit as usize).map(|step| LabelRecord::clone(step)).collect()
        })
    }

    async fn move_label(&self, lead: &Lead, new: NewLabel) -> StoreResult<bool> {
        self.write(lead, |state| Ok(state.move_label(&new)))
    }

    async fn remove_versions(
        &self,
        lead: &Lead,
        function: &str,
        number: Option<u32>,
        by: &str,
        at: Timestamp,
    ) -> StoreResult<u64> {
        self.write(lead, |state| Ok(state.remove_versions(function, number, by, at)))
    }

    async fn policy(&self) -> StoreResult<Option<PolicyRecord>> {
        self.read(|state| state.policies.last().map(|policy| PolicyRecord::clone(policy)))
    }

    async fn set_policy(&self, lead: &Lead, policy: NewPolicy) -> StoreResult<bool> {
        self.write(lead, |state| Ok(state.set_policy(&policy)))
    }

    async fn rollouts(&self) -> StoreResult<Vec<RolloutRecord>> {
        self.read(State::newest_rollouts)
    }

    async fn begin_rollout(&self, lead: &Lead, rollout: RolloutRecord) -> StoreResult<bool> {
        self.write(lead, |state| Ok(state.begin_rollout(&rollout)))
    }

    async fn mark_rollout(&self, lead: &Lead, mark: RolloutMark) -> StoreResult<()> {
        self.write(lead, |state| {
            state.mark_rollout(&mark);
            Ok(())
        })
    }

    async fn audit(&self, limit: u32) -> StoreResult<Vec<AuditRecord>> {
        self.read(|state| state.audit.iter().rev().take(limit as usize).map(|row| (**row).clone()).collect())
    }
}
