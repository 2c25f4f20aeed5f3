//! A store that fails on purpose: wraps any other, and a script or a seed decides which call goes wrong, and how.
//!
//! | fault | happened? | the caller is told |
//! |---|---|---|
//! | [`Fault::Refused`] | no | `Determinate` |
//! | [`Fault::Lost`] | no | `Indeterminate` |
//! | [`Fault::Unconfirmed`] | yes | `Indeterminate` |
//! | [`Fault::Fenced`] | no | `Fenced`, where a lead is shown |
//! | [`Fault::Contradicted`] | no | `Contradiction`, where a lead is shown |
//! | [`Fault::Delayed`] | yes, later | the answer |
//! | [`Fault::HeldBack`] | yes, at once | the answer, later |
//!
//! A read that goes wrong is always `Determinate`, as the contract says.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use lull_scheduler::{
    effect::Change,
    event::{EndedTask, JobSnapshot},
};
use lull_shared::{
    digest::{BlobRef, Digest, Outline},
    id::{AgentId, JobId, TaskId, TaskIndex, Term, TokenId, VersionId},
    state::JobState,
    time::Timestamp,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Attendance, BlobWriter, Blobs, Lead, Leadership, Ledger, Loaded, Reading, Registry, Store, StoreError, StoreResult, Takeover,
    record::*,
};
use crate::version::Which;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Refused,
    Lost,
    Unconfirmed,
    Fenced,
    Contradicted,
    Delayed(Duration),
    HeldBack(Duration),
}

/// How often calls go wrong, in calls of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    pub refused: u32,
    pub lost: u32,
    pub unconfirmed: u32,
    pub delayed: u32,
    /// A delay is at most this long.
    pub delay_max: Duration,
}

/// What a call is, as far as its faults go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    /// Changes something, under a term or not.
    Write {
        fenced: bool,
    },
}

/// Names the call's fault; the call's name is the method's.
type Decider = Box<dyn FnMut(&'static str) -> Fault + Send>;

/// A store with faults.
pub struct Faulty {
    inner: Arc<dyn Store>,
    decider: Mutex<Decider>,
}

impl Faulty {
    /// `decide` is asked at each call, with the method's name.
    pub fn new(inner: Arc<dyn Store>, decide: impl FnMut(&'static str) -> Fault + Send + 'static) -> Self {
        Self { inner, decider: Mutex::new(Box::new(decide)) }
    }

    /// The next calls of this method get these faults, one after the other; all others get none.
    pub fn scripted(inner: Arc<dyn Store>, method: &'static str, faults: impl IntoIterator<Item = Fault>) -> Self {
        let mut faults: VecDeque<Fault> = faults.into_iter().collect();
        Self::new(inner, move |call| if call == method { faults.pop_front().unwrap_or(Fault::None) } else { Fault::None })
    }

    /// Calls go wrong at random, the same with each run of the same seed and calls.
    pub fn seeded(inner: Arc<dyn Store>, seed: u64, rates: Rates) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Self::new(inner, move |_| draw(&mut rng, rates))
    }

    async fn call<T>(
        &self,
        method: &'static str,
        kind: Kind,
        work: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        let fault = (self.decider.lock().unwrap_or_else(PoisonError::into_inner))(method);
        let error = || anyhow::anyhow!("a fault was put into `{method}`");
        match (fault, kind) {
            (Fault::Delayed(delay), _) => {
                tokio::time::sleep(delay).await;
                work.await
            }
            (Fault::HeldBack(delay), _) => {
                let answer = work.await;
                tokio::time::sleep(delay).await;
                answer
            }
            (Fault::None, _) | (Fault::Fenced | Fault::Contradicted, Kind::Read | Kind::Write { fenced: false }) => work.await,
            (Fault::Fenced, Kind::Write { fenced: true }) => {
                let LeaderRecord { term, until, .. } = self.inner.leader().await?;
                let holder = Some("another coordinator".to_owned());
                Err(StoreError::Fenced(LeaderRecord { term: Term(term.0 + 1), holder, until }))
            }
            (Fault::Contradicted, Kind::Write { fenced: true }) => Err(StoreError::Contradiction(error())),
            (Fault::Refused, _) | (Fault::Lost | Fault::Unconfirmed, Kind::Read) => Err(StoreError::Determinate(error())),
            (Fault::Lost, Kind::Write { .. }) => Err(StoreError::Indeterminate(error())),
            (Fault::Unconfirmed, Kind::Write { .. }) => {
                work.await?;
                Err(StoreError::Indeterminate(error()))
            }
        }
    }
}

/// The fault of the next call.
pub fn draw(rng: &mut StdRng, rates: Rates) -> Fault {
    let mut left = rng.random_range(0..1_000_u32);
    for (rate, fault) in [(rates.refused, Fault::Refused), (rates.lost, Fault::Lost), (rates.unconfirmed, Fault::Unconfirmed)] {
        match left.checked_sub(rate) {
            Some(rest) => left = rest,
            None => return fault,
        }
    }
    if left < rates.delayed { Fault::Delayed(rates.delay_max.mul_f64(rng.random())) } else { Fault::None }
}

/// Each method of a part of the store, passed on through [`Faulty::call`].
macro_rules! passed_on {
    ($part:ident: $($kind:ident async fn $method:ident(&self $(, $name:ident: $type:ty)*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $part for Faulty {
            passed_on!(#$part);
            $(async fn $method(&self $(, $name: $type)*) -> StoreResult<$answer> {
                self.call(stringify!($method), passed_on!(@$kind), self.inner.$method($($name),*)).await
            })*
        }
    };
    (#Reading) => {
        fn describe(&self) -> String {
            format!("{}, with faults", self.inner.describe())
        }
    };
    (#$other:ident) => {};
    (@read) => { Kind::Read };
    (@write) => { Kind::Write { fenced: false } };
    (@fenced) => { Kind::Write { fenced: true } };
}

passed_on! { Attendance:
    read async fn leader(&self) -> LeaderRecord;
    write async fn check_in(&self, own: &CoordinatorRecord, forget: Timestamp) -> ();
    read async fn coordinators(&self) -> Vec<CoordinatorRecord>;
}

passed_on! { Leadership:
    write async fn take_over(&self, holder: &str, lease: Duration, now: Timestamp) -> Takeover;
    fenced async fn renew(&self, lead: &Lead, lease: Duration, now: Timestamp) -> ();
    fenced async fn step_down(&self, lead: &Lead) -> ();
    fenced async fn raise(&self, lead: &Lead, rise: &Rise) -> ();
    read async fn network(&self) -> Option<NetworkRecord>;
    write async fn name_network(&self, network: &NetworkRecord, anew: bool) -> NetworkRecord;
}

passed_on! { Ledger:
    read async fn load(&self, lead: &Lead) -> Loaded;
    fenced async fn commit(&self, lead: &Lead, changes: &[Change]) -> ();
    read async fn load_for_retry(&self, job: JobId) -> Option<JobSnapshot>;
    read async fn ended_badly(&self, job: JobId, from: TaskIndex, limit: u32) -> Vec<EndedTask>;
}

passed_on! { Registry:
    fenced async fn note(&self, lead: &Lead, line: &AuditRecord) -> ();
    fenced async fn create_token(&self, lead: &Lead, token: NewToken) -> Option<TokenRecord>;
    read async fn tokens(&self) -> Vec<TokenRecord>;
    fenced async fn revoke_token(&self, lead: &Lead, token: u64, by: &str, at: Timestamp) -> bool;
    fenced async fn note_leaving(&self, lead: &Lead, agent: AgentId, at: Timestamp) -> bool;
    fenced async fn remove_agent(&self, lead: &Lead, agent: AgentId, by: &str, at: Timestamp) -> bool;
    read async fn authenticate(&self, fingerprint: &[u8; 32], now: Timestamp) -> Option<TokenRecord>;
    fenced async fn enrol(&self, lead: &Lead, enrolment: Enrolment) -> EnrolmentOutcome;
    read async fn agents(&self) -> Vec<AgentRecord>;
    read async fn revocations(&self) -> RevocationsRecord;
    read async fn agent_by_peer(&self, peer: &[u8]) -> Option<AgentRecord>;
    fenced async fn publish(&self, lead: &Lead, version: NewVersion) -> (VersionRecord, bool);
    read async fn versions(&self) -> Vec<VersionRecord>;
    read async fn version(&self, version: VersionId) -> Option<VersionRecord>;
    read async fn version_named(&self, function: &str, which: &Which) -> Option<VersionRecord>;
    read async fn labels(&self) -> Vec<LabelRecord>;
    read async fn label_moves(&self, function: &str, label: &str, limit: u32) -> Vec<LabelRecord>;
    fenced async fn move_label(&self, lead: &Lead, new: NewLabel) -> bool;
    fenced async fn remove_versions(&self, lead: &Lead, function: &str, number: Option<u32>, by: &str, at: Timestamp) -> u64;
    read async fn policy(&self) -> Option<PolicyRecord>;
    fenced async fn set_policy(&self, lead: &Lead, policy: NewPolicy) -> bool;
    read async fn rollouts(&self) -> Vec<RolloutRecord>;
    fenced async fn begin_rollout(&self, lead: &Lead, rollout: RolloutRecord) -> bool;
    fenced async fn mark_rollout(&self, lead: &Lead, mark: RolloutMark) -> ();
    read async fn audit(&self, limit: u32) -> Vec<AuditRecord>;
}

passed_on! { Reading:
    read async fn jobs(&self, filter: &JobFilter) -> Vec<JobRecord>;
    read async fn job(&self, job: JobId) -> Option<JobRecord>;
    read async fn job_counts(&self, most: u32) -> BTreeMap<JobState, u64>;
    read async fn job_by_key(&self, owner: TokenId, idempotency_key: &str) -> Option<JobId>;
    read async fn tasks(&self, job: JobId, filter: &TaskFilter) -> Vec<TaskRecord>;
    read async fn task(&self, task: TaskId) -> Option<TaskRecord>;
    read async fn attempts(&self, task: TaskId) -> Vec<AttemptRecord>;
    read async fn newest_attempts(&self, job: JobId, before: Option<TaskIndex>, limit: u32) -> Vec<AttemptRecord>;
    read async fn moves(&self, job: JobId, limit: u32) -> Vec<MoveRecord>;
    read async fn log(&self, task: TaskId, attempt: Option<u32>) -> Option<LogRecord>;
    read async fn results(&self, job: JobId, from: TaskIndex, limit: u32) -> Vec<ResultRecord>;
    read async fn result(&self, task: TaskId) -> Option<ResultRecord>;
    read async fn totals(&self) -> Totals;
}

passed_on! { Blobs:
    read async fn blob_outline(&self, digest: &Digest) -> Option<(BlobRef, Outline)>;
    read async fn blob_piece(&self, digest: &Digest, index: u32) -> Option<Bytes>;
    write async fn touch_blob(&self, digest: &Digest, now: Timestamp) -> Option<BlobRef>;
    write async fn begin_blob(&self, size_bytes_max: u64) -> Box<dyn BlobWriter>;
    fenced async fn sweep_blobs(&self, lead: &Lead, before: Timestamp) -> u64;
}

#[cfg(test)]
mod tests {
    use super::{super::memory::Memory, *};

    async fn told(fault: Fault) -> (StoreResult<Takeover>, bool) {
        let inner = Arc::new(Memory::default());
        let faulty = Faulty::scripted(inner.clone(), "take_over", [fault]);
        let answer = faulty.take_over("us", Duration::from_secs(9), Timestamp(0)).await;
        let other = inner.take_over("them", Duration::from_secs(9), Timestamp(1)).await.expect("memory answers");
        (answer, matches!(other, Takeover::Theirs { .. }))
    }

    #[tokio::test]
    async fn each_fault_tells_the_truth_or_that_it_does_not_know() {
        assert!(matches!(told(Fault::None).await, (Ok(_), true)));
        assert!(matches!(told(Fault::Refused).await, (Err(StoreError::Determinate(_)), false)));
        assert!(matches!(told(Fault::Lost).await, (Err(StoreError::Indeterminate(_)), false)));
        assert!(matches!(told(Fault::Unconfirmed).await, (Err(StoreError::Indeterminate(_)), true)));
        assert!(matches!(told(Fault::Delayed(Duration::ZERO)).await, (Ok(_), true)));
        assert!(matches!(told(Fault::HeldBack(Duration::ZERO)).await, (Ok(_), true)));
    }

    #[tokio::test]
    async fn only_calls_with_a_term_are_fenced_and_reads_are_never_in_doubt() {
        let faulty = |fault| Faulty::new(Arc::new(Memory::default()), move |_| fault);
        assert!(faulty(Fault::Fenced).take_over("us", Duration::ZERO, Timestamp(0)).await.is_ok());
        let lead = Lead::new(Term(1), "us");
        assert!(matches!(faulty(Fault::Fenced).commit(&lead, &[]).await, Err(StoreError::Fenced(_))));
        assert!(matches!(faulty(Fault::Contradicted).commit(&lead, &[]).await, Err(StoreError::Contradiction(_))));
        assert!(matches!(faulty(Fault::Lost).agents().await, Err(StoreError::Determinate(_))));
    }

    #[test]
    fn a_seed_gives_the_same_faults_again() {
        let rates = Rates { refused: 100, lost: 100, unconfirmed: 100, delayed: 100, delay_max: Duration::from_secs(1) };
        let drawn = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..500).map(|_| draw(&mut rng, rates)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        for fault in [Fault::None, Fault::Refused, Fault::Lost, Fault::Unconfirmed] {
            assert!(drawn(7).contains(&fault), "{fault:?}");
        }
    }
}
