//! SHELL: publications, from a module in the store to a version; one at a time, and outliving whoever asked for them.
//!
//! ```text
//! begin -> waiting --its turn--> working: read, check, compile, try, store --> published | failed
//!             |                     |
//!             +------ cancel -------+--> cancelled           all three are forgotten after a while
//! ```
//! Strangers' bytes are looked at in caged processes only ([`lull_engine::executor::compile`]); this process copies them.
//! Publications live in memory: after a restart nobody knows them, and publishing again finds what was done.

pub mod javascript;
pub mod kept;
pub mod make;
pub mod queue;
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lull_engine::executor::{compile::Source, engine::Platform};
use lull_shared::{
    digest::BlobRef,
    id::TokenId,
    identity::{Authority, Issuer, Signed, sign},
    message::{Artifact, MigratableBuild, ModuleManifest},
    time::Timestamp,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::versions::NOT_MOVABLE;
use self::{
    make::{Compiled, Made, MakeError, Making, Part, Phase, Recipe, Workshop},
    queue::{Full, Queue},
    versions::{Parts, Published},
};
pub use crate::api::PublicationId;
use crate::{
    api::{PublishOptions, PublishedBody, shape},
    clock,
    store::{
        ForPeople, Lead, StoreError,
        record::{NewVersion, SignManifest, VersionRecord},
    },
};

/// How long it is remembered what became of a publication.
pub const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// Ended publications that are remembered; the oldest are forgotten first. What a module imports and exports is part of
/// each, a quarter of a megabyte at worst.
const REMEMBERED_MAX: usize = 256;
/// The folder that work is done in, inside the data folder.
const FOLDER: &str = "publishing";

/// What somebody wants published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub function: String,
    /// In the store.
    pub module: BlobRef,
    pub options: PublishOptions,
}

/// How a publication stands.
#[derive(Debug, Clone)]
pub enum State {
    Waiting,
    Working(Phase),
    Published(Arc<PublishedBody>),
    Failed(Arc<PublishError>),
    Cancelled,
}

impl State {
    /// Whether nothing changes any more.
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Waiting | Self::Working(_) => false,
            Self::Published(_) | Self::Failed(_) | Self::Cancelled => true,
        }
    }
}

/// Nothing is published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the module is not in the store any more")]
    Gone,
    #[error("the folder that modules are worked on in cannot be used: {0}")]
    Folder(#[from] std::io::Error),
}

/// A publication as it stands.
#[derive(Debug, Clone)]
pub struct Seen {
    pub id: PublicationId,
    pub wanted: Wanted,
    /// Whose it is, and what the audit calls that one.
    pub owner: TokenId,
    pub by: String,
    pub begun: Timestamp,
    pub state: State,
    /// Rises with every change.
    pub revision: u64,
    /// While it waits.
    pub ahead: Option<u32>,
}

/// All publications of a term.
pub struct Publications {
    store: Arc<dyn ForPeople>,
    issuer: Arc<Issuer>,
    lead: Lead,
    workshop: Workshop,
    folder: PathBuf,
    known: Mutex<Known>,
    begun: Notify,
}

#[derive(Default)]
struct Known {
    queue: Queue,
    entries: BTreeMap<PublicationId, Entry>,
    /// Since when they have ended, oldest first.
    ended: VecDeque<(Instant, PublicationId)>,
}

struct Entry {
    wanted: Wanted,
    owner: TokenId,
    by: String,
    begun: Timestamp,
    state: watch::Sender<(u64, State)>,
    stop: CancellationToken,
}

impl Publications {
    /// Publishes into this store for this term, working in the data folder. What an earlier one left there goes.
    pub fn new(store: Arc<dyn ForPeople>, issuer: Arc<Issuer>, lead: Lead, data: &Path, making: &Making) -> Self {
        let folder = data.join(FOLDER);
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %folder.display(), "what was left of publications cannot be removed");
        }
        let (workshop, known, begun) = (Workshop::new(making), Mutex::default(), Notify::new());
        Self { store, issuer, lead, workshop, folder, known, begun }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a publication, or joins the one that is under way for the same; whether it did that.
    pub fn begin(&self, owner: TokenId, caller: &str, wanted: Wanted) -> Result<(PublicationId, bool), Full> {
        let mut known = self.known();
        known.forget(Instant::now());
        let under_way = |entry: &Entry| entry.wanted == wanted && !entry.state.borrow().1.is_ended();
        if let Some((id, _)) = known.entries.iter().find(|(_, entry)| under_way(entry)) {
            return Ok((*id, true));
        }
        let id = PublicationId(rand::random());
        known.queue.push(caller, id)?;
        let state = watch::Sender::new((0, State::Waiting));
        let entry = Entry { wanted, owner, by: caller.to_owned(), begun: clock::now(), state, stop: CancellationToken::new() };
        known.entries.insert(id, entry);
        self.begun.notify_one();
        Ok((id, false))
    }

    /// How a publication stands; none if it is not known (any more).
    pub fn look(&self, id: PublicationId) -> Option<Seen> {
        let mut known = self.known();
        known.forget(Instant::now());
        let ahead = known.queue.ahead(id);
        let entry = known.entries.get(&id)?;
        let (revision, state) = entry.state.borrow().clone();
        let (wanted, owner, by, begun) = (entry.wanted.clone(), entry.owner, entry.by.clone(), entry.begun);
        Some(Seen { id, wanted, owner, by, begun, state, revision, ahead })
    }

    /// All that are known, newest first.
    pub fn all(&self) -> Vec<Seen> {
        let ids: Vec<PublicationId> = self.known().entries.keys().copied().collect();
        let mut all: Vec<Seen> = ids.into_iter().filter_map(|id| self.look(id)).collect();
        all.sort_by_key(|seen| std::cmp::Reverse(seen.begun));
        all
    }

    /// Returns once a publication is not at this revision any more.
    pub async fn changed(&self, id: PublicationId, seen: u64) {
        let Some(mut state) = self.known().entries.get(&id).map(|entry| entry.state.subscribe()) else { return };
        // An error means that it was forgotten: a change too.
        let _ = state.wait_for(|(revision, _)| *revision != seen).await;
    }

    /// Stops a publication that has not ended. Whether it had not.
    pub fn cancel(&self, id: PublicationId) -> bool {
        let mut known = self.known();
        let Some(entry) = known.entries.get(&id).filter(|entry| !entry.state.borrow().1.is_ended()) else { return false };
        entry.stop.cancel();
        known.queue.remove(id);
        known.end(id, State::Cancelled);
        true
    }

    /// Works on one after the other, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let next = self.known().take();
            let Some((id, wanted, by, stop)) = next else {
                self.begun.notified().await;
                continue;
            };
            let ended = tokio::select! {
                published = self.publish(id, &wanted, &by) => match published {
                    Ok(published) => State::Published(Arc::new(published)),
                    Err(error) => {
                        tracing::info!(publication = %id, function = wanted.function, %error, "nothing was published");
                        State::Failed(Arc::new(error))
                    }
                },
                () = stop.cancelled() => State::Cancelled,
            };
            self.known().end(id, ended);
        }
    }

    fn tell(&self, id: PublicationId, phase: Phase) {
        if let Some(entry) = self.known().entries.get(&id) {
            entry.change(State::Working(phase));
        }
    }

    async fn publish(&self, id: PublicationId, wanted: &Wanted, by: &str) -> Result<PublishedBody, PublishError> {
        let Wanted { function, module, options } = wanted;
        let authority = Authority::of(&self.issuer.authority);
        let known = Published::of_module(self.store.versions().await?, *module, options.canonical_nans, &authority);
        let own: Vec<&Published> = known.iter().filter(|version| version.record.function == *function).collect();
        let answer = |version: VersionRecord, existing: bool, not_movable: Option<String>| {
            let other = own.iter().find(|other| other.record.number != version.number);
            let same_module_as = other.map(|other| format!("{function}@{}", other.record.number));
            PublishedBody { function: shape::function(version, &authority), existing, same_module_as, not_movable }
        };
        let platforms = self.platforms().await?;
        let engines = Workshop::engines(platforms.clone()).await;
        if let Some(version) = own.iter().find(|version| version.suits(options) && version.is_complete(&engines)) {
            return Ok(answer(version.record.clone(), true, None));
        }
        let mut parts = match known.iter().find_map(|version| version.parts(options, &engines)) {
            Some(parts) => parts,
            None => self.make(id, wanted, platforms).await?,
        };
        // The same as before, found out anew why.
        if parts.migratable.is_none()
            && let Some(version) =
                own.iter().find(|version| version.manifest.migratable.is_none() && version.is_complete(&engines))
        {
            return Ok(answer(version.record.clone(), true, parts.not_movable));
        }
        // An engine that was upgraded since: agents that were not go on with what they had.
        if let Some(older) = own.iter().find(|version| version.suits(options)) {
            parts.keep_older(older);
        }
        let not_movable = parts.not_movable.clone();
        let beyond = own.iter().map(|version| version.record.number).max().unwrap_or(0);
        // It may have waited long for its turn, and is referred to only now.
        if self.store.touch_blob(&wanted.module.digest, clock::now()).await?.is_none() {
            return Err(PublishError::Gone);
        }
        let (version, new) = self.store.publish(&self.lead, self.version(wanted, parts, beyond, by)).await?;
        Ok(answer(version, !new, not_movable))
    }

    /// This machine's platform and those of all agents.
    async fn platforms(&self) -> Result<BTreeSet<Platform>, StoreError> {
        let agents = self.store.agents().await?;
        let engines = agents.iter().filter_map(|agent| agent.machine.as_ref()).map(|machine| machine.engine.as_str());
        Ok(engines.filter_map(Platform::of_engine).chain([Platform::host()]).collect())
    }

    /// Makes everything of a module, in a folder that goes with it, and stores it.
    async fn make(&self, id: PublicationId, wanted: &Wanted, platforms: BTreeSet<Platform>) -> Result<Parts, PublishError> {
        let tell = |phase| self.tell(id, phase);
        tell(Phase::Reading);
        crate::keys::private_folder(&self.folder).map_err(std::io::Error::other)?;
        let folder = tempfile::tempdir_in(&self.folder)?;
        let source = Source { path: folder.path().join("module"), digest: wanted.module.digest };
        self.fetch(wanted.module, &source.path).await?;
        let (canonical_nans, moving) = (wanted.options.canonical_nans, wanted.options.migratable);
        let recipe = Recipe { canonical_nans, moving, platforms };
        let made = self.workshop.make(&source, &recipe, folder.path(), tell).await?;
        tell(Phase::Storing);
        // Once more, since one that nothing refers to is swept some day.
        self.keep(&Part { path: source.path, blob: wanted.module }).await?;
        self.keep_all(made, wanted.options.cost_percent).await
    }

    /// Copies a blob from the store into a file.
    async fn fetch(&self, blob: BlobRef, path: &Path) -> Result<(), PublishError> {
        let mut file = tokio::fs::File::create(path).await?;
        for index in 0..blob.pieces() {
            let piece = self.store.blob_piece(&blob.digest, index).await?.ok_or(PublishError::Gone)?;
            file.write_all(&piece).await?;
        }
        Ok(file.flush().await?)
    }

    async fn keep_all(&self, made: Made, cost_percent: Option<u32>) -> Result<Parts, PublishError> {
        let plain = self.keep_compiled(&made.plain).await?;
        let migratable = match &made.movable {
            Some(build) => Some(MigratableBuild {
                module: self.keep(&build.module).await?,
                artifacts: self.keep_compiled(&build.compiled).await?,
                cost_percent,
            }),
            None => None,
        };
        Ok(Parts { kind: made.kind, plain, migratable, not_movable: made.not_movable, interface: made.interface })
    }

    async fn keep_compiled(&self, compiled: &[Compiled]) -> Result<Vec<Artifact>, PublishError> {
        let mut artifacts = Vec::new();
        for Compiled { engine, part } in compiled {
            artifacts.push(Artifact { engine: engine.clone(), blob: self.keep(part).await? });
        }
        Ok(artifacts)
    }

    /// Copies a file into the store.
    async fn keep(&self, part: &Part) -> Result<BlobRef, PublishError> {
        let mut writer = self.store.begin_blob(part.blob.size_bytes).await?;
        let (mut file, mut piece) = (tokio::fs::File::open(&part.path).await?, vec![0; 256 << 10]);
        loop {
            match file.read(&mut piece).await? {
                0 => break,
                read => writer.write(&piece[..read]).await?,
            }
        }
        let blob = writer.finish().await?;
        if blob == part.blob { Ok(blob) } else { Err(std::io::Error::other("a file in it was changed").into()) }
    }

    fn version(&self, wanted: &Wanted, parts: Parts, beyond: u32, by: &str) -> NewVersion {
        let Wanted { function, module, options } = wanted.clone();
        let canonical_nans = options.canonical_nans;
        let hindrance = parts.not_movable.map(|reason| format!("{NOT_MOVABLE}{reason}"));
        let manifest = ModuleManifest {
            function: function.clone(),
            number: 0,
            kind: parts.kind,
            module,
            canonical_nans,
            artifacts: parts.plain,
            migratable: parts.migratable,
        };
        NewVersion {
            function,
            kind: parts.kind,
            module,
            canonical_nans,
            beyond,
            sign: Arc::new(Signer { issuer: self.issuer.clone(), manifest }),
            interface: hindrance.into_iter().chain(parts.interface).collect(),
            by: by.to_owned(),
            at: clock::now(),
        }
    }
}

impl Known {
    /// The next one to work on.
    fn take(&mut self) -> Option<(PublicationId, Wanted, String, CancellationToken)> {
        loop {
            let id = self.queue.take()?;
            if let Some(entry) = self.entries.get(&id) {
                entry.change(State::Working(Phase::Reading));
                return Some((id, entry.wanted.clone(), entry.by.clone(), entry.stop.clone()));
            }
        }
    }

    fn end(&mut self, id: PublicationId, state: State) {
        let Some(entry) = self.entries.get(&id) else { return };
        // One that was cancelled has ended already.
        if !entry.state.borrow().1.is_ended() {
            entry.change(state);
            self.ended.push_back((Instant::now(), id));
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((since, id)) = self.ended.front() {
            if now.duration_since(*since) < REMEMBERED && self.ended.len() <= REMEMBERED_MAX {
                break;
            }
            self.entries.remove(id);
            self.ended.pop_front();
        }
    }
}

impl Entry {
    fn change(&self, state: State) {
        self.state.send_modify(|now| *now = (now.0 + 1, state));
    }
}

/// Signs a manifest with the network authority's key.
struct Signer {
    issuer: Arc<Issuer>,
    manifest: ModuleManifest,
}

impl SignManifest for Signer {
    fn sign(&self, number: u32) -> Signed {
        sign(&self.issuer.authority, &ModuleManifest { number, ..self.manifest.clone() })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::digest::Digest;

    use super::*;

    #[test]
    fn what_has_ended_is_forgotten_after_a_while_and_never_is_too_much_remembered() {
        let mut known = Known::default();
        let add = |known: &mut Known, number: u64| {
            let id = PublicationId(number);
            let module = BlobRef { digest: Digest::of(b"m"), size_bytes: 1 };
            let wanted = Wanted { function: "f".into(), module, options: PublishOptions::default() };
            let state = watch::Sender::new((0, State::Waiting));
            let entry = Entry {
                wanted,
                owner: TokenId(1),
                by: "ann".into(),
                begun: Timestamp::from_millis(0),
                state,
                stop: CancellationToken::new(),
            };
            known.entries.insert(id, entry);
            id
        };
        let waits = add(&mut known, 0);
        let ended = add(&mut known, 1);
        known.end(ended, State::Cancelled);
        known.end(ended, State::Waiting);
        assert!(known.entries[&ended].state.borrow().1.is_ended(), "an end is final");
        let now = Instant::now();
        known.forget(now);
        assert!(known.entries.contains_key(&ended), "it is remembered for a while");
        known.forget(now + REMEMBERED);
        assert!(!known.entries.contains_key(&ended) && known.entries.contains_key(&waits));
        for number in 10..10 + 2 * REMEMBERED_MAX as u64 {
            let id = add(&mut known, number);
            known.end(id, State::Cancelled);
        }
        known.forget(now);
        assert_eq!(known.entries.len(), REMEMBERED_MAX + 1, "the newest, and what has not ended");
    }
}
