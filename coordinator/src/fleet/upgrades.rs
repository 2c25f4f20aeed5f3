//! Rollouts: which agents are to become which version. The store remembers, the core ([`Rollout`]) decides, and each work
//! stream is told what its agent is to become.
//!
//! ```text
//! streams: connected, heard, gone --> Rollout --advance--> unsaved --store--> told --Feed--> streams
//! ```
//! Nobody is told what the store does not know.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lull_scheduler::{
    event::StreamId,
    rollout::{Plan, Rollout, Step},
};
use lull_shared::{
    digest::BlobRef,
    id::AgentId,
    identity::{Issuer, Signed, sign},
    message::Hello,
    release::{Platform, Release, Unfit, UpgradeReport, is_older, version},
    resources::Labels,
    state::{Intake, full_labels},
    time::Timestamp,
};
use tokio::sync::{Notify, watch};

use crate::{
    clock,
    store::{
        Lead, Registry, StoreError,
        record::{AgentRecord, RolloutLine, RolloutMark, RolloutRecord},
    },
};

/// How often it is looked what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Whoever stops a rollout by itself, as the audit calls it.
const BY_ITSELF: &str = "the coordinator";

/// What somebody wants to roll out.
#[derive(Debug, Clone)]
pub struct Wish {
    pub platform: Platform,
    pub version: String,
    pub package: BlobRef,
    pub plan: Plan,
    /// From then on no agent follows it.
    pub expires: Timestamp,
}

/// A rollout that does not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    #[error(transparent)]
    Version(#[from] Unfit),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("somebody else begins a rollout at the same moment")]
    Contended,
}

/// A rollout as it stands.
#[derive(Debug, Clone)]
pub struct Seen {
    pub record: RolloutRecord,
    /// Machines that are meant.
    pub machines: u64,
    /// Those of them that have an older version.
    pub behind: u64,
}

/// Whom to tell what, by agent.
type Told = BTreeMap<AgentId, Signed>;

/// Shared by the edges of a term.
pub struct Upgrades {
    issuer: Arc<Issuer>,
    steady: clock::Steady,
    state: Mutex<State>,
    told: watch::Sender<Arc<Told>>,
    news: Notify,
    /// Held while something is being kept: nothing is kept twice.
    keeping: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    rollouts: BTreeMap<Platform, Held>,
    machines: BTreeMap<AgentId, Machine>,
}

struct Held {
    record: RolloutRecord,
    core: Rollout,
    /// What is to be said in the audit with the next change.
    line: Option<RolloutLine>,
}

/// A machine of which a package is made.
struct Machine {
    platform: Platform,
    version: String,
    labels: Labels,
    stream: Option<StreamId>,
}

impl Upgrades {
    /// With what the store remembers.
    pub async fn load(store: &dyn Registry, issuer: Arc<Issuer>) -> Result<Self, StoreError> {
        let (records, agents) = (store.rollouts().await?, store.agents().await?);
        let steady = clock::Steady::start();
        let mut state = State::default();
        state.machines.extend(agents.iter().filter_map(|record| Some((record.agent, known(record)?))));
        for record in records {
            state.take(record, steady.now());
        }
        Ok(Self {
            issuer,
            steady,
            state: Mutex::new(state),
            told: watch::Sender::default(),
            news: Notify::new(),
            keeping: tokio::sync::Mutex::default(),
        })
    }

    /// An agent's stream is open.
    pub fn connected(&self, agent: AgentId, stream: StreamId, hello: &Hello, labels: &Labels) {
        let mut state = self.state();
        let Some(platform) = Platform::of(&hello.machine) else { return drop(state.machines.remove(&agent)) };
        let (version, labels) = (hello.agent_version.clone(), labels.clone());
        state.machines.insert(agent, Machine { platform, version, labels, stream: Some(stream) });
        state.look(agent, self.steady.now());
        self.news.notify_one();
    }

    /// It has ended.
    pub fn gone(&self, agent: AgentId, stream: StreamId) {
        let mut state = self.state();
        let Some(machine) = state.machines.get_mut(&agent).filter(|machine| machine.stream == Some(stream)) else { return };
        machine.stream = None;
        state.look(agent, self.steady.now());
        self.news.notify_one();
    }

    /// An agent says how far it is.
    pub fn heard(&self, agent: AgentId, report: UpgradeReport) {
        let (mut state, now) = (self.state(), self.steady.now());
        state.rollouts.values_mut().for_each(|held| held.core.heard(agent, report.clone(), now));
        self.news.notify_one();
    }

    /// What an agent is to be told, now and whenever it changes.
    pub fn feed(&self, agent: AgentId) -> Feed {
        Feed { told: self.told.subscribe(), agent, said: None }
    }

    /// The rollouts that hold.
    pub fn all(&self) -> Vec<Seen> {
        let state = self.state();
        let seen = |held: &Held| {
            let (machines, behind) = held.core.machines();
            Seen { record: RolloutRecord { standing: held.core.standing(), ..held.record.clone() }, machines, behind }
        };
        state.rollouts.values().map(seen).collect()
    }

    /// What an agent of this version is to become, and how far it is with that; none if it is not behind.
    pub fn of(&self, agent: AgentId) -> Option<(String, Option<Step>)> {
        let state = self.state();
        let machine = state.machines.get(&agent)?;
        let held = state.rollouts.get(&machine.platform)?;
        let concerns = held.core.plan().concerns(&machine.labels);
        (concerns && behind(&machine.version, &held.record.version))
            .then(|| (held.record.version.clone(), held.core.standing().agents.get(&agent).cloned()))
    }

    /// Begins a rollout in the place of the one of its platform.
    pub async fn begin(&self, store: &dyn Registry, lead: &Lead, wish: Wish, by: &str) -> Result<RolloutRecord, BeginError> {
        version(&wish.version)?;
        let now = clock::now();
        let newest = store.rollouts().await?.iter().map(|record| record.number).max().unwrap_or(0);
        // Above what agents have followed, also where the store was restored from a backup.
        let seconds = u64::try_from(now.as_millis() / 1_000).unwrap_or(0);
        let number = newest.saturating_add(1).max(seconds);
        let Wish { platform, version, package, plan, expires } = wish;
        let release = Release { network: self.issuer.network, platform, version, package, count: number, expires };
        let record = RolloutRecord {
            number,
            platform,
            release: sign(&self.issuer.authority, &release),
            version: release.version,
            package,
            expires,
            plan,
            standing: Default::default(),
            begun: now,
            begun_by: by.to_owned(),
        };
        if !store.begin_rollout(lead, record.clone()).await? {
            return Err(BeginError::Contended);
        }
        self.state().take(record.clone(), self.steady.now());
        self.news.notify_one();
        Ok(record)
    }

    /// Stops those that go on, by somebody's word. How many, when that is durable.
    pub async fn stop(&self, store: &dyn Registry, lead: &Lead, by: &str) -> Result<u64, StoreError> {
        let words = format!("stopped by {by}");
        let line = |_: &Held| RolloutLine { by: by.to_owned(), action: "rollout.stop".into(), detail: String::new() };
        self.change(store, lead, |core, _| core.stop(words.clone()), line).await
    }

    /// Has those go on that stand still, by somebody's word. How many, when that is durable.
    pub async fn resume(&self, store: &dyn Registry, lead: &Lead, by: &str) -> Result<u64, StoreError> {
        let line = |held: &Held| {
            let detail = held.record.standing.stopped.clone().unwrap_or_default();
            RolloutLine { by: by.to_owned(), action: "rollout.resume".into(), detail }
        };
        self.change(store, lead, Rollout::resume, line).await
    }

    async fn change(
        &self,
        store: &dyn Registry,
        lead: &Lead,
        change: impl Fn(&mut Rollout, Timestamp) -> bool,
        line: impl Fn(&Held) -> RolloutLine,
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        for held in self.state().rollouts.values_mut() {
            if change(&mut held.core, self.steady.now()) {
                held.line = Some(line(held));
                changed += 1;
            }
        }
        self.keep(store, lead).await?;
        self.news.notify_one();
        Ok(changed)
    }

    /// Goes on with the rollouts until the term ends.
    pub async fn run(self: Arc<Self>, store: Arc<dyn Registry>, lead: Lead) {
        loop {
            if self.advance()
                && let Err(error) = self.keep(&*store, &lead).await
            {
                tracing::warn!(%error, "how far a rollout is cannot be kept; trying again");
            }
            let goes_on = self.state().rollouts.values().any(|held| held.record.standing.stopped.is_none());
            tokio::select! {
                () = self.news.notified() => {}
                () = tokio::time::sleep(LOOK), if goes_on => {}
            }
        }
    }

    /// What is due; whether something is to be kept.
    fn advance(&self) -> bool {
        let (now, wall) = (self.steady.now(), clock::now());
        let mut unsaved = false;
        for held in self.state().rollouts.values_mut() {
            if held.record.expires <= wall && held.core.stop("its release is good no longer: begin another rollout".into()) {
                held.line = Some(halted(&held.core));
            }
            let before = held.core.standing().stopped.is_some();
            held.core.advance(now);
            if !before && held.core.standing().stopped.is_some() {
                held.line = Some(halted(&held.core));
            }
            unsaved |= held.is_unsaved();
        }
        unsaved
    }

    /// Makes durable what has changed, and then tells it.
    async fn keep(&self, store: &dyn Registry, lead: &Lead) -> Result<(), StoreError> {
        let _alone = self.keeping.lock().await;
        let at = clock::now();
        let unsaved: Vec<RolloutMark> = {
            let state = self.state();
            let unsaved = state.rollouts.values().filter(|held| held.is_unsaved());
            let mark = |held: &Held| RolloutMark {
                number: held.record.number,
                changes: held.core.unsaved(),
                at,
                line: held.line.clone(),
            };
            unsaved.map(mark).collect()
        };
        for mark in unsaved {
            store.mark_rollout(lead, mark.clone()).await?;
            let mut state = self.state();
            if let Some(held) = state.rollouts.values_mut().find(|held| held.record.number == mark.number) {
                held.saved(mark);
            }
        }
        let told = self.state().told();
        self.told.send_if_modified(|before| {
            let news = **before != told;
            if news {
                *before = Arc::new(told);
            }
            news
        });
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn halted(core: &Rollout) -> RolloutLine {
    let detail = core.standing().stopped.unwrap_or_default();
    tracing::warn!(why = detail, "a rollout has stopped by itself");
    RolloutLine { by: BY_ITSELF.into(), action: "rollout.halt".into(), detail }
}

/// A machine as the store knows it; none if it does not belong here any more, was never here, or no package is made for it.
fn known(record: &AgentRecord) -> Option<Machine> {
    let machine = record.machine.as_ref()?;
    let belongs = record.intake != Intake::Revoked && record.left().is_none() && record.removed.is_none();
    let labels = full_labels(&record.labels, &record.name, record.group.as_deref(), machine);
    belongs.then_some(())?;
    Some(Machine { platform: Platform::of(machine)?, version: record.version.clone()?, labels, stream: None })
}

/// Whether a version comes before another. What is no version is none that could be upgraded.
fn behind(version: &str, newest: &str) -> bool {
    is_older(version, newest).unwrap_or(false)
}

impl State {
    /// Takes a rollout in the place of its platform's.
    fn take(&mut self, record: RolloutRecord, now: Timestamp) {
        let core = Rollout::restore(record.number, record.plan.clone(), record.standing.clone(), now);
        self.rollouts.insert(record.platform, Held { record, core, line: None });
        let machines: Vec<AgentId> = self.machines.keys().copied().collect();
        machines.into_iter().for_each(|agent| self.look(agent, now));
    }

    /// Has the rollout that concerns a machine know how it is.
    fn look(&mut self, agent: AgentId, now: Timestamp) {
        let Some(machine) = self.machines.get(&agent) else { return };
        for (platform, held) in &mut self.rollouts {
            if *platform == machine.platform && held.core.plan().concerns(&machine.labels) {
                held.core.seen(agent, machine.stream.is_some(), behind(&machine.version, &held.record.version), now);
            } else {
                held.core.forget(agent);
            }
        }
    }

    fn told(&self) -> Told {
        let of = |held: &Held| {
            let release = held.record.release.clone();
            held.core.told().into_iter().map(move |agent| (agent, release.clone())).collect::<Vec<_>>()
        };
        self.rollouts.values().flat_map(of).collect()
    }
}

impl Held {
    fn is_unsaved(&self) -> bool {
        let (now, kept) = (self.core.unsaved(), &self.record.standing);
        let same = (now.begun, now.forgiven) == (kept.begun, kept.forgiven) && now.stopped == kept.stopped;
        !same || !now.agents.is_empty() || self.line.is_some()
    }

    fn saved(&mut self, mark: RolloutMark) {
        self.core.saved(&mark.changes);
        let kept = &mut self.record.standing;
        (kept.begun, kept.forgiven, kept.stopped) = (mark.changes.begun, mark.changes.forgiven, mark.changes.stopped);
        if self.line == mark.line {
            self.line = None;
        }
    }
}

/// What one agent is told.
pub struct Feed {
    told: watch::Receiver<Arc<Told>>,
    agent: AgentId,
    said: Option<Signed>,
}

impl Feed {
    /// What is to be said next, when something is; never, once the term is over.
    pub async fn next(&mut self) -> Option<Signed> {
        loop {
            let now = self.told.borrow_and_update().get(&self.agent).cloned();
            if now != self.said {
                self.said.clone_from(&now);
                return now;
            }
            if self.told.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use lull_shared::{
        identity::{Authority, NetworkId, verify},
        release::UpgradeStep,
        resources::{Capacity, Machine as Facts},
    };

    use super::*;
    use crate::store::{Leadership as _, Takeover, memory::Memory};

    fn issuer() -> Arc<Issuer> {
        let authority = Keypair::generate_ed25519();
        Arc::new(Issuer { network: NetworkId([1; 16]), authority, life: Duration::from_secs(60) })
    }

    async fn lead(store: &Memory) -> Lead {
        match store.take_over("us", Duration::from_secs(60), Timestamp(0)).await {
            Ok(Takeover::Ours(lead)) => lead,
            other => panic!("a new store has no leader: {other:?}"),
        }
    }

    fn hello(version: &str, os: &str) -> Hello {
        let machine = Facts { os: os.into(), arch: "x86_64".into(), cores: 2, memory_bytes: 1, engine: "e".into() };
        let capacity = Capacity {
            agent: AgentId(1),
            run: 0,
            sequence: 1,
            slots: 1,
            slots_busy: 0,
            waiting: 0,
            cpu_free_percent: 0,
            memory_free_bytes: 0,
            paused: None,
        };
        Hello {
            agent_version: version.into(),
            machine,
            labels: Labels::new(),
            capacity,
            holding: Vec::new(),
            snapshots: Vec::new(),
            instance: Default::default(),
            open_cage: None,
        }
    }

    fn wish(steady_s: u64) -> Wish {
        let plan = Plan { waves: "50%,100%".parse().expect("waves"), steady_s, ..Plan::default() };
        let package = BlobRef::of(b"package");
        let expires = clock::now() + Duration::from_secs(600);
        Wish { platform: Platform::DebAmd64, version: "0.2.0".into(), package, plan, expires }
    }

    /// Two agents of this platform, and one of another.
    async fn world() -> (Memory, Lead, Upgrades) {
        let store = Memory::default();
        let lead = lead(&store).await;
        let upgrades = Upgrades::load(&store, issuer()).await.expect("it is empty");
        for (number, os) in [(1, "linux"), (2, "linux"), (3, "windows")] {
            upgrades.connected(AgentId(number), StreamId(number), &hello("0.1.0", os), &Labels::new());
        }
        (store, lead, upgrades)
    }

    async fn turn(upgrades: &Upgrades, store: &Memory, lead: &Lead) {
        upgrades.advance();
        upgrades.keep(store, lead).await.expect("a store in memory keeps all");
    }

    #[tokio::test]
    async fn the_first_wave_is_told_a_release_that_the_network_vouches_for() {
        let (store, lead, upgrades) = world().await;
        let record = upgrades.begin(&store, &lead, wish(60), "ann").await.expect("it begins");
        let told = || upgrades.told.borrow().clone();
        assert!(told().is_empty(), "not before it is kept who is told");
        turn(&upgrades, &store, &lead).await;
        assert_eq!(told().len(), 1);
        let (agent, signed) = told().iter().next().map(|(agent, signed)| (*agent, signed.clone())).expect("one");
        let release = verify::<Release>(&Authority::of(&upgrades.issuer.authority), &signed).expect("the authority signed it");
        assert_eq!((release.count, release.version.as_str()), (record.number, "0.2.0"));
        let mut feed = upgrades.feed(agent);
        assert_eq!(feed.next().await, Some(signed));
        assert_eq!(store.rollouts().await.expect("an answer")[0].standing.agents, [(agent, Step::Told)].into());
        assert_eq!(upgrades.stop(&store, &lead, "ann").await.expect("kept"), 1);
        assert_eq!(feed.next().await, None, "it is told that it need not");
        assert_eq!(upgrades.stop(&store, &lead, "ann").await.expect("kept"), 0);
    }

    #[tokio::test]
    async fn a_failed_installation_stops_it_in_the_store_and_the_audit_and_the_next_leader_knows() {
        let (store, lead, upgrades) = world().await;
        let record = upgrades.begin(&store, &lead, wish(60), "ann").await.expect("it begins");
        turn(&upgrades, &store, &lead).await;
        let agent = *upgrades.told.borrow().keys().next().expect("one was told");
        let failed = UpgradeStep::Failed { reason: "dpkg ended with 1".into() };
        upgrades.heard(agent, UpgradeReport { count: record.number, step: failed });
        turn(&upgrades, &store, &lead).await;
        let next = Upgrades::load(&store, upgrades.issuer.clone()).await.expect("an answer");
        let seen = next.all().remove(0).record.standing;
        assert!(seen.stopped.is_some_and(|why| why.contains("did not come back")));
        assert_eq!(seen.agents, [(agent, Step::Failed("dpkg ended with 1".into()))].into());
        let audit = store.audit(1).await.expect("an answer").remove(0);
        assert_eq!((audit.by.as_str(), audit.action.as_str()), (BY_ITSELF, "rollout.halt"));
        assert_eq!(next.resume(&store, &lead, "ann").await.expect("kept"), 1);
        assert_eq!(store.rollouts().await.expect("an answer")[0].standing.stopped, None);
        assert_eq!(store.audit(1).await.expect("an answer")[0].action, "rollout.resume");
    }

    #[tokio::test]
    async fn numbers_rise_also_above_what_a_restored_store_has_forgotten() {
        let (store, lead, upgrades) = world().await;
        let first = upgrades.begin(&store, &lead, wish(60), "ann").await.expect("it begins").number;
        let second = upgrades.begin(&store, &lead, wish(60), "ann").await.expect("it begins").number;
        let seconds = clock::now().as_millis() as u64 / 1_000;
        assert!(second > first && first + 60 > seconds && first <= seconds, "{first} {second}");
        assert_eq!(upgrades.all().len(), 1, "of one platform one holds");
        let nonsense = Wish { version: "two".into(), ..wish(1) };
        assert!(matches!(upgrades.begin(&store, &lead, nonsense, "ann").await, Err(BeginError::Version(_))));
    }

    #[tokio::test]
    async fn who_is_behind_is_known_and_only_where_it_is_meant() {
        let (store, lead, upgrades) = world().await;
        assert_eq!(upgrades.of(AgentId(1)), None, "there is nothing to become");
        upgrades.begin(&store, &lead, wish(60), "ann").await.expect("it begins");
        assert_eq!(upgrades.of(AgentId(1)).map(|(version, _)| version).as_deref(), Some("0.2.0"));
        assert_eq!(upgrades.of(AgentId(3)), None, "no package is for it");
        upgrades.connected(AgentId(1), StreamId(9), &hello("0.2.0", "linux"), &Labels::new());
        upgrades.gone(AgentId(1), StreamId(1));
        assert_eq!(upgrades.of(AgentId(1)), None, "it has it");
        assert_eq!(upgrades.all()[0].behind, 1, "an old stream's end says nothing of the new one");
    }
}
