//! The network's policy: the edition that holds, signed for each agent, and what agents make of it.
//!
//! The store remembers; here is what every work stream needs at once, and soft state that agents say again whenever
//! they connect.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lull_shared::{
    constraint::Constraint,
    id::AgentId,
    identity::{Issuer, Signed, sign},
    message::PolicyReport,
    policy::{Changes, PolicyError, Sheet},
    resources::Labels,
};
use tokio::sync::watch;

use crate::{
    clock,
    store::{
        Lead, Registry, StoreError,
        record::{NewPolicy, PolicyRecord},
    },
};

/// Agents whose reports are remembered: more than a network has.
const REPORTS_MAX: usize = 100_000;
/// So often is a change made again because another was faster.
const TRIES_MAX: usize = 8;

/// A change that was not made.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("somebody else changes the policy at the same moment")]
    Contended,
}

/// A change that somebody wants.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// On which machines; on all if there is no condition.
    pub conditions: Vec<Constraint>,
    pub set: Changes,
    /// Settings that shall be what they are without being set.
    pub reset: Vec<String>,
}

/// Shared by the edges of a term.
pub struct Policies {
    issuer: Arc<Issuer>,
    current: watch::Sender<Arc<PolicyRecord>>,
    reports: Mutex<BTreeMap<AgentId, PolicyReport>>,
}

impl Policies {
    /// With what the store remembers.
    pub async fn load(store: &dyn Registry, issuer: Arc<Issuer>) -> Result<Self, StoreError> {
        let current = store.policy().await?.unwrap_or_default();
        Ok(Self { issuer, current: watch::Sender::new(Arc::new(current)), reports: Mutex::default() })
    }

    /// The edition that holds.
    pub fn current(&self) -> Arc<PolicyRecord> {
        self.current.borrow().clone()
    }

    /// Changes the policy and has all agents told; false when it was like that already.
    pub async fn set(&self, store: &dyn Registry, lead: &Lead, wish: &Wish, by: &str) -> Result<bool, SetError> {
        for _ in 0..TRIES_MAX {
            let before = store.policy().await?.unwrap_or_default();
            let book = before.book.without(&wish.conditions, &wish.reset)?.with(&wish.conditions, &wish.set)?;
            if book == before.book {
                self.current.send_replace(Arc::new(before));
                return Ok(false);
            }
            let record = PolicyRecord { version: self.above(before.version), book, set: clock::now(), set_by: by.to_owned() };
            let new = NewPolicy { follows: before.version, record: record.clone(), detail: detail(wish) };
            if store.set_policy(lead, new).await? {
                self.current.send_replace(Arc::new(record));
                return Ok(true);
            }
        }
        Err(SetError::Contended)
    }

    /// What the policy would be, as far as it is known here; nothing is kept.
    pub fn tried(&self, wish: &Wish) -> Result<PolicyRecord, SetError> {
        let before = self.current();
        let book = before.book.without(&wish.conditions, &wish.reset)?.with(&wish.conditions, &wish.set)?;
        Ok(PolicyRecord { book, ..(*before).clone() })
    }

    /// Higher than what agents know: they may have heard of versions that a restored database has not.
    fn above(&self, version: u64) -> u64 {
        let heard = self.reports().values().map(|report| report.version).max().unwrap_or(0);
        // An agent that names the last number there is leaves the others where they are.
        if heard < u64::from(u32::MAX) { version.max(heard) + 1 } else { version + 1 }
    }

    /// What an agent with these labels is to be told, now and whenever it changes.
    pub fn feed(&self, agent: AgentId, labels: Labels) -> Feed {
        Feed { issuer: self.issuer.clone(), current: self.current.subscribe(), agent, labels }
    }

    /// An agent says what holds there.
    pub fn report(&self, agent: AgentId, report: PolicyReport) {
        let mut reports = self.reports();
        if reports.len() < REPORTS_MAX || reports.contains_key(&agent) {
            reports.insert(agent, report);
        }
    }

    /// What an agent said last.
    pub fn reported(&self, agent: AgentId) -> Option<PolicyReport> {
        self.reports().get(&agent).cloned()
    }

    fn reports(&self) -> MutexGuard<'_, BTreeMap<AgentId, PolicyReport>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the audit: the change in one line.
fn detail(wish: &Wish) -> String {
    let conditions = wish.conditions.iter().map(|condition| format!("for {condition}"));
    let set = wish.set.given().into_iter().map(|(key, value)| format!("{key}={value}"));
    let reset = wish.reset.iter().map(|key| format!("{key} reset"));
    conditions.chain(set).chain(reset).collect::<Vec<_>>().join(", ")
}

/// One agent's policy.
pub struct Feed {
    issuer: Arc<Issuer>,
    current: watch::Receiver<Arc<PolicyRecord>>,
    agent: AgentId,
    labels: Labels,
}

impl Feed {
    /// What holds for it now.
    pub fn sheet(&mut self) -> Signed {
        let edition = self.current.borrow_and_update().clone();
        let policy = edition.book.policy(&self.labels);
        sign(&self.issuer.authority, &Sheet { agent: self.agent, version: edition.version, policy })
    }

    /// Returns when there is another edition; never, once the term is over.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lull_shared::{
        identity::{Authority, NetworkId, verify},
        policy::Span,
        time::Timestamp,
    };

    use super::*;
    use crate::store::{Leadership as _, Takeover, memory::Memory};

    fn wish(conditions: &[&str], pairs: &[&str]) -> Wish {
        let conditions = conditions.iter().map(|text| text.parse().expect("a constraint")).collect();
        Wish { conditions, set: Changes::from_pairs(pairs).expect("changes"), reset: Vec::new() }
    }

    async fn world() -> (Memory, Lead, Policies) {
        let store = Memory::default();
        let Ok(Takeover::Ours(lead)) = store.take_over("us", Duration::from_secs(60), Timestamp(0)).await else {
            panic!("a new store has no leader");
        };
        let authority = libp2p::identity::Keypair::generate_ed25519();
        let issuer = Issuer { network: NetworkId([1; 16]), authority, life: Duration::from_secs(60) };
        let policies = Policies::load(&store, Arc::new(issuer)).await.expect("it is empty");
        (store, lead, policies)
    }

    #[tokio::test]
    async fn a_change_reaches_every_agent_with_what_holds_for_it() {
        let (store, lead, policies) = world().await;
        let mut berlin = policies.feed(AgentId(1), Labels::from([("site".into(), "berlin".into())]));
        let mut other = policies.feed(AgentId(2), Labels::new());
        let sheet = |feed: &mut Feed| {
            verify::<Sheet>(&Authority::of(&policies.issuer.authority), &feed.sheet()).expect("the authority signed it")
        };
        assert_eq!(sheet(&mut berlin).version, 0);
        assert!(policies.set(&store, &lead, &wish(&["site=berlin"], &["idle=20m"]), "ann").await.expect("set"));
        berlin.changed().await;
        let told = sheet(&mut berlin);
        assert_eq!((told.agent, told.version, told.policy.idle), (AgentId(1), 1, Span::from_secs(1_200)));
        assert_eq!(sheet(&mut other).policy.idle, Span::from_secs(600));
        assert!(!policies.set(&store, &lead, &wish(&["site=berlin"], &["idle=20m"]), "ann").await.expect("no news"));
        let again = Policies::load(&store, policies.issuer.clone()).await.expect("remembered");
        assert_eq!(again.current(), policies.current());
    }

    #[tokio::test]
    async fn a_version_is_higher_than_what_any_agent_knows() {
        let (store, lead, policies) = world().await;
        let report = |version| PolicyReport { version, owner: Changes::default(), clock_ahead_min: 0, slots_max: 4 };
        policies.report(AgentId(1), report(41));
        policies.set(&store, &lead, &wish(&[], &["idle=20m"]), "ann").await.expect("set");
        assert_eq!(policies.current().version, 42, "the database may have been restored from a backup");
        policies.report(AgentId(2), report(u64::MAX));
        policies.set(&store, &lead, &wish(&[], &["idle=30m"]), "ann").await.expect("set");
        assert_eq!(policies.current().version, 43, "a lie moves nothing");
    }

    #[tokio::test]
    async fn nonsense_is_refused_and_changes_nothing() {
        let (store, lead, policies) = world().await;
        let refused = policies.set(&store, &lead, &wish(&[], &["cores=0"]), "ann").await.expect_err("nothing would run");
        assert!(refused.to_string().contains("cores"), "{refused}");
        assert_eq!(store.policy().await.expect("an answer"), None);
    }

    #[tokio::test]
    async fn one_report_of_each_agent_is_remembered_and_not_of_endlessly_many() {
        let (_, _, policies) = world().await;
        let report = |version| PolicyReport { version, owner: Changes::default(), clock_ahead_min: 0, slots_max: 4 };
        for agent in 0..REPORTS_MAX as u64 + 10 {
            policies.report(AgentId(agent), report(1));
        }
        let last = AgentId(REPORTS_MAX as u64 - 1);
        policies.report(last, report(2));
        assert_eq!(policies.reports().len(), REPORTS_MAX);
        assert_eq!(policies.reported(last), Some(report(2)), "what it said before is forgotten");
        assert_eq!(policies.reported(AgentId(REPORTS_MAX as u64)), None);
    }
}
