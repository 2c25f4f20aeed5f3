//! SHELL: one term, from its beginning to its end.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{StreamExt as _, stream::FuturesUnordered};
use lull_engine::cache::Cache;
use lull_mesh::NodeHandle;
use lull_shared::{
    id::AgentId,
    identity::{Issuer, NetworkId},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ADMIN_TOKEN_FILE, GRACE, ServerConfig, until};
use crate::{
    access::{self, Callers},
    clock,
    dispatch::{self, Catalogue, Clocks, Ended, Inbox, Lease, Shell},
    fleet::{network::Network, own_copies::OwnCopies, policies::Policies, tracker::Tracker, upgrades::Upgrades},
    http, keys,
    loss::Losses,
    pauses::Pauses,
    presence::Presence,
    publishing::Publications,
    store::{
        Blobs, Lead, Leadership, Registry, Store, StoreError,
        record::{AuditRecord, Bound, NewToken, TokenRecord, TokenRole},
    },
    term::{
        Coordinator,
        phase::{LeaderView, Leading, Phase},
    },
};

/// Unreferenced blobs are kept for a day: an upload, or a result on its way, is not referred to yet.
const SWEEP_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// After a sweep that the store did not do.
const SWEEP_AGAIN: Duration = Duration::from_secs(60);

/// Renewals under way at once: a store that takes half a minute for its answers still has its lease renewed.
const RENEWALS_MAX: usize = 15;
/// How long a term that begins waits for its administrator's token before agents and people are let in.
const TOKEN_PATIENCE: Duration = Duration::from_secs(2);
/// A loop that went on for this long may be loaded again at once.
const CALM: Duration = Duration::from_secs(10);
/// Pauses between tries of what a term cannot do without.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why a term came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to stop.
    Stopped,
    /// Another coordinator leads.
    Fenced,
    /// The store has forgotten what it had confirmed.
    Forgotten,
}

/// What outlives a term.
pub(super) struct Lasting {
    pub store: Arc<dyn Store>,
    pub node: NodeHandle,
    pub network: NetworkId,
    pub issuer: Arc<Issuer>,
    pub presence: Arc<Presence>,
    pub phases: Arc<watch::Sender<Phase>>,
    /// Its own copies of snapshots.
    pub snapshots: Cache,
    pub losses: Arc<Losses>,
    pub config: ServerConfig,
}

impl Lasting {
    /// Leads in this term until told to stop or fenced. Agents' streams and people's requests end with it.
    pub(super) async fn leader(&self, lead: Lead, lease: Lease, shutdown: &CancellationToken) -> anyhow::Result<End> {
        let over = shutdown.child_token();
        let tasks = TaskTracker::new();
        self.losses.leads(lead.term);
        // From the first moment on: to read the policy and to load may take longer than a lease lasts.
        tasks.spawn(until(
            over.clone(),
            keep_lease(self.store.clone(), lead.clone(), lease.clone(), self.losses.clone(), over.clone()),
        ));
        let (handle, inbox) = dispatch::channel();
        let catalogue = Arc::new(Catalogue::new(self.store.clone()));
        let tracker = Arc::new(Tracker::default());
        let Some((policies, upgrades)) = self.remembered(&over).await else {
            return Ok(match self.losses.unsettled() {
                _ if shutdown.is_cancelled() => End::Stopped,
                Some(_) => End::Forgotten,
                None => End::Fenced,
            });
        };
        let mesh = Network {
            store: self.store.clone(),
            dispatch: handle.clone(),
            catalogue: catalogue.clone(),
            tracker: tracker.clone(),
            policies: policies.clone(),
            upgrades: upgrades.clone(),
            logs: Default::default(),
            node: self.node.clone(),
            issuer: self.issuer.clone(),
            lead: lead.clone(),
            draw: rand::random(),
            presence: self.presence.clone(),
            over: over.clone(),
        };
        let (revoked, revocations) = mpsc::unbounded_channel();
        let (own_copies, orders) = mpsc::unbounded_channel();
        let shell = Shell {
            store: self.store.clone(),
            catalogue: catalogue.clone(),
            limits: self.config.limits.clone(),
            tracker: tracker.clone(),
            lease: lease.clone(),
            turn_wait: dispatch::TURN_WAIT_MAX,
            losses: self.losses.clone(),
            revoked,
            own_copies,
        };
        let keeper = OwnCopies::new(self.snapshots.clone(), self.node.clone(), tracker, handle.clone());
        let rule = tokio::spawn(rule(shell, lead.clone(), inbox, over.clone()));
        tasks.spawn(until(over.clone(), sweep(self.store.clone(), lead.clone())));
        tasks.spawn(until(over.clone(), keep_revocations(mesh.clone(), revocations)));
        tasks.spawn(until(over.clone(), keeper.run(orders)));
        tasks.spawn(until(over.clone(), upgrades.clone().run(self.store.clone(), lead.clone())));
        let (data, making) = (&self.config.data, &self.config.making);
        let publications = Arc::new(Publications::new(self.store.clone(), self.issuer.clone(), lead.clone(), data, making));
        tasks.spawn(until(over.clone(), publications.clone().run()));
        let callers = Arc::<Callers>::default();
        let coordinator = Arc::new(Coordinator {
            store: self.store.clone(),
            dispatch: handle,
            catalogue,
            policies,
            upgrades,
            node: self.node.clone(),
            network: self.network,
            issuer: self.issuer.clone(),
            lead: lead.clone(),
            since: clock::now(),
            mesh,
            presence: self.presence.clone(),
            lease,
            callers: callers.clone(),
            loss: self.losses.last(),
            publications,
            name: self.config.name.clone(),
        });
        let (made, token_made) = oneshot::channel();
        let (store, name, data) = (self.store.clone(), self.config.name.clone(), self.config.data.clone());
        let by = made_by(&name, &self.node.local_peer());
        tasks.spawn(until(over.clone(), async move {
            note_beginning(&*store, &lead, &name).await;
            ensure_admin_token(&*store, &lead, &data, &by, &callers).await;
            // Nobody waits for it any more if it took long.
            let _ = made.send(());
        }));
        tasks.close();
        // A store that takes its time does not keep the agents waiting; the token comes when it can.
        let _ = tokio::time::timeout(TOKEN_PATIENCE, token_made).await;
        let routes = http::router(coordinator.clone(), self.config.data.clone(), over.clone(), &self.config.web.base);
        self.phases.send_replace(Phase::Leading(Leading { coordinator, routes }));
        let ended = rule.await.context("the coordinator's loop broke");
        over.cancel();
        self.phases.send_replace(Phase::Standby(Arc::new(LeaderView { leader: None, in_doubt: true })));
        if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
            tracing::warn!("some parts of the term did not end in time");
        }
        Ok(match ended? {
            _ if self.losses.unsettled().is_some() => End::Forgotten,
            Ended::Fenced | Ended::Forgotten => End::Fenced,
            Ended::Stopped | Ended::InDoubt if shutdown.is_cancelled() => End::Stopped,
            Ended::Stopped | Ended::InDoubt => End::Fenced,
        })
    }

    /// The policy and the rollouts, of which no agent may be told wrongly: nobody is led before the store has said them. None
    /// when the term is over.
    async fn remembered(&self, over: &CancellationToken) -> Option<(Arc<Policies>, Arc<Upgrades>)> {
        let read = || Policies::load(&*self.store, self.issuer.clone());
        let policies = over.run_until_cancelled(pauses().insist("the policy cannot be read", read)).await?;
        let read = || Upgrades::load(&*self.store, self.issuer.clone());
        let upgrades = over.run_until_cancelled(pauses().insist("the rollouts cannot be read", read)).await?;
        Some((Arc::new(policies), Arc::new(upgrades)))
    }
}

/// Between tries of what a term cannot do without.
fn pauses() -> Pauses {
    Pauses::new(PAUSE_MIN, PAUSE_MAX)
}

/// The loop, loaded anew whenever the store was in doubt.
async fn rule(shell: Shell, lead: Lead, mut inbox: Inbox, over: CancellationToken) -> Ended {
    let mut pauses = pauses();
    loop {
        let began = Instant::now();
        match dispatch::run(&shell, &lead, &mut inbox, &over).await {
            Ok(ended @ (Ended::Stopped | Ended::Fenced | Ended::Forgotten)) => return ended,
            Err(error) if shell.losses.judge(&error, &lead) => return Ended::Forgotten,
            Err(StoreError::Fenced(_)) => return Ended::Fenced,
            Ok(Ended::InDoubt) => {}
            Err(error) => tracing::warn!(%error, "the store cannot be loaded; trying again"),
        }
        if began.elapsed() > CALM {
            pauses = self::pauses();
        }
        // What is decided again may be refused again.
        let pause = tokio::time::sleep(pauses.take());
        if over.run_until_cancelled(pause).await.is_none() {
            return Ended::Stopped;
        }
    }
}

/// Renews the lease; ends the term when another coordinator has it. A renewal whose answer is late does not hold up the
/// next one: the store may have done it, and others watch the lease and not its answers.
async fn keep_lease(store: Arc<dyn Leadership>, lead: Lead, lease: Lease, losses: Arc<Losses>, over: CancellationToken) {
    let times = lease.times();
    let mut under_way = FuturesUnordered::new();
    let mut due = lease.asked().steady + times.renewal;
    loop {
        tokio::select! {
            biased;
            Some((asked, renewed)) = under_way.next() => match renewed {
                Ok(()) => {
                    lease.renewed(asked);
                    lease.answered();
                }
                Err(error) if losses.judge(&error, &lead) => return over.cancel(),
                Err(StoreError::Fenced(_)) => return over.cancel(),
                Err(error) => tracing::warn!(%error, "cannot renew the lease; trying again"),
            },
            () = tokio::time::sleep_until(due), if under_way.len() < RENEWALS_MAX => {
                let (store, lead, asked) = (store.clone(), lead.clone(), Clocks::now());
                under_way.push(async move { (asked, store.renew(&lead, times.length, asked.wall).await) });
                due = Instant::now() + times.renewal;
            }
        }
    }
}

async fn sweep(store: Arc<dyn Blobs>, lead: Lead) {
    // The clock on the wall may have been set while nobody looked: what was on its way then has this long to arrive.
    let (mut clock, mut from) = (clock::Steady::start(), Instant::now() + SWEEP_EVERY);
    loop {
        // Ages are told by the clock on the wall: after a jump of it everything looks old, what arrives at this moment too.
        if clock.step().is_some_and(|step| step.by_us > 0) {
            from = Instant::now() + SWEEP_AGE;
        }
        if Instant::now() < from {
            tokio::time::sleep(SWEEP_EVERY).await;
            continue;
        }
        match store.sweep_blobs(&lead, clock::now() - SWEEP_AGE).await {
            Ok(0) => {}
            Ok(blobs) => tracing::info!(blobs, "deleted blobs that nothing refers to"),
            Err(error) => {
                tracing::warn!(%error, "cannot delete unreferenced blobs; trying again");
                tokio::time::sleep(SWEEP_AGAIN).await;
                continue;
            }
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

async fn keep_revocations(mesh: Network, mut revoked: mpsc::UnboundedReceiver<AgentId>) {
    mesh.spread_revocations().await;
    while let Some(agent) = revoked.recv().await {
        tracing::info!(%agent, "an agent was thrown out or let in again");
        mesh.spread_revocations().await;
    }
}

/// The audit says who leads from now on.
async fn note_beginning(store: &dyn Registry, lead: &Lead, name: &str) {
    let detail = format!("{name} leads ({})", lead.holder);
    let line = AuditRecord::new(clock::now(), name, "term.begin", format!("term {}", lead.term.0), &detail);
    let note = || async {
        match store.note(lead, &line).await {
            // In doubt it is rather left out than said twice.
            Err(StoreError::Indeterminate(_)) => Ok(()),
            noted => noted,
        }
    };
    pauses().insist("the audit does not take the beginning of a term", note).await;
}

/// Whoever can read the data folder is an administrator: the file holds a token that the store knows. Tried until that is
/// so.
async fn ensure_admin_token(store: &dyn Registry, lead: &Lead, data: &Path, by: &str, callers: &Callers) {
    let (path, minted) = (data.join(ADMIN_TOKEN_FILE), access::mint(TokenRole::Admin));
    let make_sure = || admin_token(store, lead, &path, by, &minted);
    let (fingerprint, token) = pauses().insist("cannot make sure of the administrator's token", make_sure).await;
    callers.remember(fingerprint, token);
}

async fn admin_token(
    store: &dyn Registry,
    lead: &Lead,
    path: &Path,
    by: &str,
    minted: &access::Minted,
) -> anyhow::Result<([u8; 32], TokenRecord)> {
    let now = clock::now();
    if let Some(text) = keys::read(path)?
        && let Ok(text) = String::from_utf8(text)
    {
        let fingerprint = access::fingerprint(&text);
        if let Some(token) = store.authenticate(&fingerprint, now).await? {
            return Ok((fingerprint, token));
        }
    }
    // An earlier try may have made it without the store's having said so.
    let mut made = store.authenticate(&minted.fingerprint, now).await?;
    if made.is_none() {
        // Whoever finds the file that was lost would be an administrator: what was in it is worth nothing any more.
        let lost = |token: &TokenRecord| {
            token.role == TokenRole::Admin && token.revoked.is_none() && is_same_maker(&token.created_by, by)
        };
        for token in store.tokens().await?.into_iter().filter(lost) {
            tracing::warn!(
                token = token.token,
                "the file with the administrator's token was lost or is another's; the token is revoked"
            );
            store.revoke_token(lead, token.token, by, now).await?;
        }
    }
    let token = |name| NewToken {
        role: TokenRole::Admin,
        name,
        bound: Bound::default(),
        fingerprint: minted.fingerprint,
        uses_max: None,
        expires: None,
        by: by.to_owned(),
        at: now,
    };
    // Another coordinator of this store may have one that is called so.
    for name in [Some("admin".to_owned()), None] {
        if made.is_none() {
            made = store.create_token(lead, token(name)).await?;
        }
    }
    keys::write_private(path, format!("{}\n", minted.text).as_bytes())?;
    Ok((minted.fingerprint, made.context("the store gives no name to a token without one")?))
}

/// What the audit calls the coordinator that made itself a token: its name, and enough of its peer id to tell it from others.
fn made_by(name: &str, peer: &libp2p::PeerId) -> String {
    let (name, peer) = (name.chars().take(MAKER_NAME_CHARS).collect::<String>(), peer.to_string());
    format!("the server {name} ({})", &peer[peer.len().saturating_sub(MAKER_DIGITS)..])
}

/// So much of its name that the rest still fits into the column.
const MAKER_NAME_CHARS: usize = 64;
/// Digits of a peer id that no two coordinators of a network share.
const MAKER_DIGITS: usize = 12;

/// Whether one coordinator made both, whatever it was called then.
fn is_same_maker(one: &str, other: &str) -> bool {
    let digits = |by: &str| by.strip_prefix("the server ")?.rsplit_once('(').map(|(_, digits)| digits.to_owned());
    digits(one).is_some_and(|one| Some(one) == digits(other))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use lull_shared::time::Timestamp;

    use super::*;
    use crate::{
        dispatch::LeaseTimes,
        store::{
            Takeover,
            faulty::{Fault, Faulty},
            memory::Memory,
        },
    };

    #[test]
    fn a_coordinator_knows_its_own_token_whatever_it_is_called() {
        let (one, other) = (libp2p::PeerId::random(), libp2p::PeerId::random());
        assert!(is_same_maker(&made_by("north", &one), &made_by("south (old)", &one)));
        assert!(!is_same_maker(&made_by("north", &one), &made_by("north", &other)));
        assert!(!is_same_maker("root", "root") && !is_same_maker("the server", "the server"));
    }

    /// The tokens of a store that are valid, by number and name.
    async fn valid(store: &Memory) -> Vec<(u64, String)> {
        let tokens = store.tokens().await.expect("memory answers").into_iter();
        tokens.filter(|token| token.revoked.is_none()).map(|token| (token.token, token.name)).collect()
    }

    #[tokio::test]
    async fn the_file_of_an_administrator_is_made_once_and_again_where_it_was_lost() {
        let (folder, store) = (tempfile::tempdir().expect("a folder"), Memory::default());
        let Ok(Takeover::Ours(lead)) = store.take_over("us", Duration::from_secs(6), Timestamp(0)).await else {
            panic!("a new store has no leader");
        };
        let path = folder.path().join(ADMIN_TOKEN_FILE);
        let (north, south) = (made_by("north", &libp2p::PeerId::random()), made_by("south", &libp2p::PeerId::random()));
        let made = async |by: &str| {
            let minted = access::mint(TokenRole::Admin);
            let (fingerprint, token) = admin_token(&store, &lead, &path, by, &minted).await.expect("a token");
            let text = std::fs::read_to_string(&path).expect("it is written");
            assert_eq!(access::fingerprint(&text), fingerprint);
            (token.token, token.name)
        };
        let first = made(&north).await;
        assert_eq!(first, (1, "admin".to_owned()));
        assert_eq!(made(&north).await, first, "it is still good");
        std::fs::remove_file(&path).expect("it is there");
        let second = made(&north).await;
        assert_eq!((second.clone(), valid(&store).await), ((2, "admin".into()), vec![second]), "what was lost is worth nothing");
        // Another coordinator of the store has a file of its own.
        std::fs::write(&path, "of another network").expect("it is written");
        let third = made(&south).await;
        assert_eq!(third.0, 3);
        assert_ne!(third.1, "admin", "that name is taken");
        assert_eq!(valid(&store).await.len(), 2);
        // What is not an administrator's, and what is revoked already, is left as it is.
        let viewer = NewToken {
            role: TokenRole::Viewer,
            name: Some("ann".into()),
            bound: Bound::default(),
            fingerprint: [7; 32],
            uses_max: None,
            expires: None,
            by: north.clone(),
            at: Timestamp(1),
        };
        store.create_token(&lead, viewer).await.expect("memory answers").expect("a new name");
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(made(&north).await.0, 5);
        let numbers: Vec<u64> = valid(&store).await.into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [3, 4, 5]);
    }

    #[tokio::test]
    async fn a_token_whose_making_was_not_confirmed_is_not_made_twice() {
        let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
        let Ok(Takeover::Ours(lead)) = memory.take_over("us", Duration::from_secs(6), Timestamp(0)).await else {
            panic!("a new store has no leader");
        };
        let mut first = true;
        let unconfirmed = move |method: &str| match method {
            "create_token" if std::mem::take(&mut first) => Fault::Unconfirmed,
            _ => Fault::None,
        };
        let store = Faulty::new(memory.clone(), unconfirmed);
        let (path, minted) = (folder.path().join(ADMIN_TOKEN_FILE), access::mint(TokenRole::Admin));
        assert!(admin_token(&store, &lead, &path, "the server", &minted).await.is_err());
        let (_, token) = admin_token(&store, &lead, &path, "the server", &minted).await.expect("it is there");
        assert_eq!((token.token, valid(&memory).await), (1, vec![(1, "admin".to_owned())]));
    }

    #[tokio::test]
    async fn a_lease_is_renewed_until_the_store_says_that_it_is_anothers_or_forgets_it() {
        let times = LeaseTimes { length: Duration::from_secs(60), renewal: Duration::from_millis(10) };
        for (fault, forgets, [ends, is_loss]) in [
            (Fault::Fenced, false, [true, false]),
            (Fault::None, true, [true, true]),
            (Fault::Lost, false, [false, false]),
            (Fault::Refused, false, [false, false]),
        ] {
            let memory = Arc::new(Memory::default());
            let before = memory.copy();
            let Ok(Takeover::Ours(lead)) = memory.take_over("us", times.length, Timestamp(0)).await else {
                panic!("a new store has no leader");
            };
            let asked = Arc::<AtomicU32>::default();
            let (counted, forgetful) = (asked.clone(), memory.clone());
            let store = Arc::new(Faulty::new(memory, move |_| match counted.fetch_add(1, Ordering::Relaxed) {
                3 => {
                    if forgets {
                        forgetful.go_back_to(&before);
                    }
                    fault
                }
                _ => Fault::None,
            }));
            let (lease, over, losses) = (Lease::begin(times), CancellationToken::new(), Arc::<Losses>::default());
            let begun = lease.asked();
            let kept = keep_lease(store, lead, lease.clone(), losses.clone(), over.clone());
            let enough = async {
                while asked.load(Ordering::Relaxed) < 6 {
                    tokio::time::sleep(times.renewal).await;
                }
            };
            tokio::select! {
                () = kept => {}
                () = enough => {}
            }
            assert_eq!(over.is_cancelled(), ends, "{fault:?}");
            assert_eq!(losses.unsettled().is_some(), is_loss, "{fault:?}");
            assert!(lease.asked().steady > begun.steady, "{fault:?}");
        }
    }
}
