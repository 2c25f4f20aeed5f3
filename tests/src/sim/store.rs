//! The store: in memory, behind the fault injector, whose mood the world sets.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use futures::FutureExt as _;
use libp2p::identity::Keypair;
use lull_coordinator::store::{
    Store,
    faulty::{Fault, Faulty, Rates, draw},
    memory::Memory,
    record::{Enrolment, EnrolmentOutcome, NewToken, NewVersion, SignManifest, TokenRole},
};
use lull_shared::{
    digest::{BlobRef, Digest},
    identity::{Signed, sign},
    message::{Artifact, MigratableBuild, ModuleKind, ModuleManifest},
    time::Timestamp,
};
use rand::{SeedableRng as _, rngs::StdRng};

/// Engines that modules are compiled for; agents of a further one compile themselves.
pub(super) const ENGINES: [&str; 3] = ["engine 48 linux", "engine 48 windows", "engine 47 linux"];
/// Of these the first have artifacts.
const COMPILED: usize = 2;
pub(super) const VERSIONS: u32 = 3;
/// The first of them have a build that can be moved.
pub(super) const MOVABLE: u32 = 2;

/// What a version's migratable build takes of the plain one's time, in percent.
pub(super) fn cost_percent(version: u64) -> u32 {
    if version.is_multiple_of(2) { 118 } else { 108 }
}

/// Memory never waits.
pub(super) fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("a store in memory answers at once")
}

/// How the store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Some calls go wrong, in one way or the other.
    Flaky,
    /// Every call is refused.
    Out,
    /// Commits are done, after seconds.
    Slow,
}

/// The injector's state, shared with it.
#[derive(Debug, Clone)]
pub(super) struct Moods(Arc<Mutex<(Mood, Fault, StdRng)>>);

impl Moods {
    pub(super) fn set(&self, mood: Mood) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = mood;
    }

    /// Whether commits take seconds.
    pub(super) fn is_slow(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 == Mood::Slow
    }

    /// What became of the last call.
    pub(super) fn last(&self) -> Fault {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn next(&self) -> Fault {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mood, last, rng) = &mut *state;
        let rates = Rates { refused: 200, lost: 60, unconfirmed: 60, ..Rates::default() };
        *last = match mood {
            Mood::Well | Mood::Slow => Fault::None,
            Mood::Flaky => draw(rng, rates),
            Mood::Out => Fault::Refused,
        };
        *last
    }
}

/// A database of a network: its functions are published, its machines enrolled.
pub(super) struct Database {
    pub store: Arc<dyn Store>,
    /// The same without faults, for whoever checks.
    pub truth: Arc<Memory>,
    pub moods: Moods,
    pub authority: Keypair,
    /// All that is not a snapshot.
    pub codes: BTreeSet<Digest>,
}

impl Database {
    pub(super) fn new(seed: u64, agents: u32, now: Timestamp) -> Self {
        let truth = Arc::new(Memory::default());
        let moods = Moods(Arc::new(Mutex::new((Mood::Well, Fault::None, StdRng::seed_from_u64(seed)))));
        let injected = moods.clone();
        let store: Arc<dyn Store> = Arc::new(Faulty::new(truth.clone(), move |_| injected.next()));
        let authority = Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a secret key");
        let codes = (1..=VERSIONS).flat_map(|version| {
            let plain = ENGINES.iter().map(move |engine| artifact(version, engine));
            let movable = ENGINES.iter().map(move |engine| movable_artifact(version, engine));
            plain.chain(movable).chain([module(version), movable_module(version)])
        });
        let codes = codes.map(|code| code.digest).collect();
        let database = Self { store, truth, moods, authority, codes };
        at_once(database.set_up(agents, now));
        database
    }

    async fn set_up(&self, agents: u32, now: Timestamp) {
        use lull_coordinator::store::{Leadership as _, Registry as _, Takeover};
        let store = &self.truth;
        let leader = store.take_over("set-up", std::time::Duration::from_secs(1), now).await;
        let Ok(Takeover::Ours(lead)) = leader else { unreachable!("nobody else is there") };
        for number in 1..=VERSIONS {
            let new = NewVersion {
                function: format!("function-{number}"),
                kind: ModuleKind::Preview1,
                module: module(number),
                canonical_nans: false,
                beyond: 0,
                sign: Arc::new(Signer { authority: self.authority.clone(), version: number }),
                interface: Vec::new(),
                by: "ada".into(),
                at: now,
            };
            store.publish(&lead, new).await.expect("memory publishes");
        }
        let token = NewToken {
            role: TokenRole::Agent,
            name: Some("machines".into()),
            bound: Default::default(),
            fingerprint: [1; 32],
            uses_max: None,
            expires: None,
            by: "ada".into(),
            at: now,
        };
        let token = store.create_token(&lead, token).await.expect("memory makes tokens").expect("the name is free").token;
        for number in 1..=agents {
            let (peer, name) = (number.to_le_bytes().to_vec(), format!("pc-{number}"));
            let enrolment = Enrolment { token, fingerprint: [1; 32], peer, name, at: now };
            let enrolled = store.enrol(&lead, enrolment).await.expect("memory enrols");
            assert!(
                matches!(enrolled, EnrolmentOutcome::Enrolled { agent, new: true, .. } if agent.agent.0 == u64::from(number))
            );
        }
        store.step_down(&lead).await.expect("memory lets go");
    }
}

/// The module of a version.
pub(super) fn module(version: u32) -> BlobRef {
    BlobRef::of(format!("module {version}").as_bytes())
}

/// A version compiled for an engine.
pub(super) fn artifact(version: u32, engine: &str) -> BlobRef {
    BlobRef::of(format!("module {version} for {engine}").as_bytes())
}

/// The migratable build of a version.
pub(super) fn movable_module(version: u32) -> BlobRef {
    BlobRef::of(format!("movable {version}").as_bytes())
}

/// The same compiled for an engine.
pub(super) fn movable_artifact(version: u32, engine: &str) -> BlobRef {
    BlobRef::of(format!("movable {version} for {engine}").as_bytes())
}

#[derive(Debug)]
struct Signer {
    authority: Keypair,
    version: u32,
}

impl SignManifest for Signer {
    fn sign(&self, number: u32) -> Signed {
        let artifact = |engine: &&str| Artifact { engine: (*engine).to_owned(), blob: artifact(self.version, engine) };
        let movable_artifact =
            |engine: &&str| Artifact { engine: (*engine).to_owned(), blob: movable_artifact(self.version, engine) };
        let manifest = ModuleManifest {
            function: format!("function-{}", self.version),
            number,
            kind: ModuleKind::Preview1,
            module: module(self.version),
            canonical_nans: false,
            artifacts: ENGINES[..COMPILED].iter().map(artifact).collect(),
            migratable: (self.version <= MOVABLE).then(|| MigratableBuild {
                module: movable_module(self.version),
                artifacts: ENGINES[..COMPILED].iter().map(movable_artifact).collect(),
                cost_percent: Some(cost_percent(u64::from(self.version))),
            }),
        };
        sign(&self.authority, &manifest)
    }
}
