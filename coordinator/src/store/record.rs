//! What is read from a store, and what is written besides the scheduler's changes.

use bytes::Bytes;
use lull_scheduler::{
    event::Quarantine,
    rollout::{self, Plan, Unsaved},
};
use lull_shared::{
    digest::BlobRef,
    id::{AgentId, AttemptId, JobId, TaskId, Term, TokenId, VersionId},
    identity::Signed,
    job::JobSpec,
    message::{Build, ModuleKind, Payload},
    policy::Book,
    release::Platform,
    resources::{Labels, Machine},
    state::{AttemptEnd, Failure, Intake, JobState, PauseReason, TaskCounts, TaskState, Usage},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// The row by which one coordinator at a time writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderRecord {
    pub term: Term,
    /// [`CoordinatorRecord::holder`] of the leader; none after a term was given up.
    pub holder: Option<String>,
    /// Until then, by the holder's clock, unless it is renewed.
    pub until: Timestamp,
}

/// Who was thrown out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevocationsRecord {
    /// How often somebody was thrown out or let in again.
    pub counter: u64,
    /// Their peer ids as bytes.
    pub peers: Vec<Vec<u8>>,
}

/// A coordinator that shares this store, leader or standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorRecord {
    /// Its peer id as text.
    pub peer: String,
    pub name: String,
    /// The name of its machine.
    pub machine: String,
    /// The network's id in hexadecimal: all coordinators of a store are of one network.
    pub network: String,
    /// The URL of its HTTP interface; one on loopback is for its own machine alone.
    pub http: String,
    /// Where agents reach it: multiaddresses, each ending in its peer id.
    pub addresses: Vec<String>,
    /// Since when it leads, as it believes; [`LeaderRecord::holder`] says whether it does.
    pub leads: Option<Timestamp>,
    /// When it last said so.
    pub seen: Timestamp,
}

impl CoordinatorRecord {
    /// What the leader row calls it.
    pub fn holder(&self) -> String {
        format!("{} ({})", self.name, self.peer)
    }
}

/// The network that a store belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRecord {
    /// Its id in hexadecimal.
    pub network: String,
    /// The public half of the key that signs for it, in hexadecimal.
    pub authority: String,
}

/// What the bearer of a token may do. Each role may all that those before it may, except that `agent` stands apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum TokenRole {
    /// Enrol a machine, nothing else.
    Agent,
    Viewer,
    Submitter,
    Publisher,
    Admin,
}

impl TokenRole {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The role with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}

/// A token about to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub role: TokenRole,
    /// The person or program it is for, or a remark on an agent's token; none: it is called by its number.
    pub name: Option<String>,
    pub bound: Bound,
    pub fingerprint: [u8; 32],
    pub uses_max: Option<u32>,
    pub expires: Option<Timestamp>,
    pub by: String,
    pub at: Timestamp,
}

/// Whom a join token admits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bound {
    /// Names of machines, and patterns of them in which `*` stands for anything; none: everybody is admitted.
    pub names: Vec<String>,
    /// The group of whoever joins with it: the label `group`, which no machine can give itself.
    pub group: Option<String>,
}

impl Bound {
    /// Whether a machine of this name may join, whatever the case of its letters.
    pub fn admits(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.names.is_empty() || self.names.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &name))
    }

    /// Whether exactly this name is admitted, and not by a pattern.
    pub fn names(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// Whether a name is of this pattern, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

/// Somebody for people: the name and the id, or the id alone of who has no name.
pub fn who(owner: Option<TokenId>, name: &str) -> String {
    match owner {
        Some(owner) if owner.to_string() != name => format!("{name} ({owner})"),
        Some(_) | None => name.to_owned(),
    }
}

/// A token; its secret is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub token: u64,
    pub role: TokenRole,
    pub name: String,
    pub bound: Bound,
    pub uses: u32,
    pub uses_max: Option<u32>,
    pub created: Timestamp,
    pub created_by: String,
    pub expires: Option<Timestamp>,
    pub revoked: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether machines may still join with it.
    pub fn admits_machines(&self, now: Timestamp) -> bool {
        let used_up = self.uses_max.is_some_and(|max| self.uses >= max);
        let over = self.revoked.is_some() || self.expires.is_some_and(|at| at <= now);
        self.role == TokenRole::Agent && !used_up && !over
    }
}

/// A machine that wants to belong.
#[derive(Debug, Clone)]
pub struct Enrolment {
    pub token: u64,
    pub fingerprint: [u8; 32],
    pub peer: Vec<u8>,
    pub name: String,
    pub at: Timestamp,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolmentOutcome {
    /// `new` is false when the peer was enrolled before; no use is spent then. `replaced`: whose place it took, with the name
    /// that this one has now.
    Enrolled {
        agent: Box<AgentRecord>,
        new: bool,
        replaced: Option<Box<AgentRecord>>,
    },
    UnknownToken,
    Expired,
    UsedUp,
    Revoked,
    /// The token admits machines of other names.
    NotBound,
    /// The machine that had this name was revoked.
    NameRevoked,
    /// The token admits one machine of this name, which has joined.
    NameTaken,
}

/// An enrolled machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    pub agent: AgentId,
    pub name: String,
    /// The token that it joined with.
    pub token: TokenId,
    /// What the token that it joined with says.
    pub group: Option<String>,
    pub peer: Vec<u8>,
    pub intake: Intake,
    pub enrolled: Timestamp,
    pub last_connected: Option<Timestamp>,
    pub last_disconnected: Option<Timestamp>,
    pub version: Option<String>,
    pub machine: Option<Machine>,
    pub labels: Labels,
    /// Why nothing of it is believed.
    pub quarantine: Option<Quarantine>,
    /// When it said last that it leaves the network.
    pub left: Option<Timestamp>,
    /// When it was taken off the list, for good. What it ran keeps its name.
    pub removed: Option<Timestamp>,
}

impl AgentRecord {
    /// When it left the network, if it has not come back.
    pub fn left(&self) -> Option<Timestamp> {
        self.left.filter(|left| self.last_connected.is_none_or(|connected| connected < *left))
    }

    /// What its name means to whoever wants it.
    pub fn standing(&self) -> Standing {
        match (self.removed, self.left(), self.intake) {
            (Some(_), Some(_), _) => Standing::Gone,
            (_, _, Intake::Revoked) => Standing::Revoked,
            (_, _, Intake::Open | Intake::Cordoned | Intake::Draining) => Standing::Member,
        }
    }
}

/// How the machine stands that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Member,
    /// It was thrown out: its name is kept from others.
    Revoked,
    /// It left, and was taken off the list: its name is free.
    Gone,
}

/// A version about to be published.
#[derive(Debug, Clone)]
pub struct NewVersion {
    pub function: String,
    pub kind: ModuleKind,
    pub module: BlobRef,
    pub canonical_nans: bool,
    /// Versions of the same module up to this number are known to be others; 0: there is none.
    pub beyond: u32,
    /// Signs the manifest once the number is known. Called at most once per transaction try.
    pub sign: std::sync::Arc<dyn SignManifest>,
    /// What `func show` prints of its imports and exports, one a line.
    pub interface: Vec<String>,
    pub by: String,
    pub at: Timestamp,
}

/// Makes the signed manifest of a version once its number is known.
pub trait SignManifest: Send + Sync + std::fmt::Debug {
    fn sign(&self, number: u32) -> Signed;
}

/// A published module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    pub version: VersionId,
    pub function: String,
    pub number: u32,
    pub kind: ModuleKind,
    pub module: BlobRef,
    pub canonical_nans: bool,
    /// A signed [`lull_shared::message::ModuleManifest`].
    pub manifest: Signed,
    pub interface: Vec<String>,
    pub published: Timestamp,
    pub published_by: String,
    pub removed: Option<Timestamp>,
}

/// That a label stood for a version from some moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRecord {
    /// Rises with every move of any label.
    pub step: u64,
    pub function: String,
    pub label: String,
    /// The version's number.
    pub number: u32,
    /// The step that a rollback goes back to.
    pub before: Option<u64>,
    pub moved: Timestamp,
    pub moved_by: String,
}

/// A label that is about to stand for another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLabel {
    pub function: String,
    pub label: String,
    pub number: u32,
    /// The step that must be the label's newest; 0 for none.
    pub follows: u64,
    pub before: Option<u64>,
    /// Whether it goes back.
    pub back: bool,
    pub by: String,
    pub at: Timestamp,
}

impl NewLabel {
    /// What the audit calls it.
    pub fn operation(&self) -> &'static str {
        if self.back { "function.rollback" } else { "function.promote" }
    }
}

/// An edition of the network's policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyRecord {
    /// From 1; 0 stands for the defaults, which no store holds.
    pub version: u64,
    pub book: Book,
    pub set: Timestamp,
    pub set_by: String,
}

/// An edition that is about to be kept.
#[derive(Debug, Clone)]
pub struct NewPolicy {
    /// The version that must be the newest before.
    pub follows: u64,
    pub record: PolicyRecord,
    /// For the audit.
    pub detail: String,
}

/// How the agents of a platform become another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// The count of its release.
    pub number: u64,
    pub platform: Platform,
    pub version: String,
    pub package: BlobRef,
    /// A signed [`lull_shared::release::Release`].
    pub release: Signed,
    pub expires: Timestamp,
    pub plan: Plan,
    pub standing: rollout::Standing,
    pub begun: Timestamp,
    pub begun_by: String,
}

/// What has changed of a rollout.
#[derive(Debug, Clone)]
pub struct RolloutMark {
    pub number: u64,
    pub changes: Unsaved,
    pub at: Timestamp,
    /// Who did what to it and why, for the audit, if that is worth a line.
    pub line: Option<RolloutLine>,
}

/// A line of the audit about a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutLine {
    pub by: String,
    /// `rollout.stop`, `rollout.resume`.
    pub action: String,
    pub detail: String,
}

/// Agents have seen a later term than the store, which shows that it was restored from a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rise {
    /// The term above which the next one is to be.
    pub above: Term,
    /// The number up to which jobs count as given.
    pub last_job: u64,
    /// Who proved it: an agent, or a list of revocations.
    pub by: String,
    pub at: Timestamp,
}

impl Rise {
    /// Its line of the audit.
    pub(super) fn audit(&self) -> AuditRecord {
        let Self { above, last_job, by, at } = self;
        let detail = format!("{by} had seen it, so the store is a restored one; job numbers go on above {last_job}");
        AuditRecord::new(*at, "the leader", "term.raise", format!("above term {}", above.0), &detail)
    }
}

impl AuditRecord {
    /// A line within its bounds.
    pub fn new(at: Timestamp, by: &str, action: &str, subject: String, detail: &str) -> Self {
        super::turn::audit_row(at, by, action, subject, detail)
    }
}

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    pub at: Timestamp,
    pub by: String,
    /// `token.create`, `job.cancel`, `agent.revoke`, ...
    pub action: String,
    pub subject: String,
    pub detail: String,
}

/// Which jobs to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub state: Option<JobState>,
    pub owner: Option<TokenId>,
    pub submitter: Option<String>,
    pub name: Option<String>,
    /// Only jobs with a number below this: the next page.
    pub before: Option<JobId>,
    /// 0 means 100.
    pub limit: u32,
}

/// No page is longer: a page is held in memory.
const PAGE_MAX: u32 = 10_000;

impl JobFilter {
    /// The length of a page.
    pub fn limit_or_default(&self) -> u32 {
        if self.limit == 0 { 100 } else { self.limit.min(PAGE_MAX) }
    }
}

/// A job as remembered. Counts of an active job are those of the last commit: `running` includes paused ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    pub job: JobId,
    /// The token that submitted it; none: the store does not know any more.
    pub owner: Option<TokenId>,
    /// What that token was called.
    pub submitter: String,
    pub spec: JobSpec,
    pub version_name: String,
    pub submitted: Timestamp,
    pub ended: Option<Timestamp>,
    pub state: JobState,
    pub stopping: Option<JobState>,
    pub stopped_by: Option<String>,
    pub counts: TaskCounts,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    pub state: Option<TaskState>,
    pub from: u32,
    /// 0 means 1,000.
    pub limit: u32,
}

impl TaskFilter {
    /// The length of a page.
    pub fn limit_or_default(&self) -> u32 {
        if self.limit == 0 { 1_000 } else { self.limit.min(PAGE_MAX) }
    }
}

/// A task as remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    pub task: TaskId,
    pub state: TaskState,
    pub attempts: u32,
    pub failures: u32,
    /// Of the newest attempt, or of the one that succeeded.
    pub agent: Option<AgentId>,
    pub agent_name: Option<String>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// Why the newest ended attempt did not succeed, in words; none once one has.
    pub reason: Option<String>,
    pub not_before: Option<Timestamp>,
    pub output_bytes: Option<u64>,
}

/// An attempt as remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    pub attempt: AttemptId,
    pub agent: AgentId,
    pub agent_name: String,
    pub started: Timestamp,
    pub build: Build,
    /// What it went on from, if an earlier attempt left a snapshot.
    pub resumed: Option<Resumed>,
    /// Why it was started although nothing had gone wrong, in words.
    pub cause: Option<String>,
    pub ended: Option<Timestamp>,
    /// None while it is live.
    pub end: Option<AttemptEnd>,
    pub reason: Option<String>,
    pub failure: Option<Failure>,
    pub paused: Option<PauseReason>,
    pub usage: Option<Usage>,
}

/// A task that left one machine unfinished and was started on another, or on the same one again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRecord {
    /// The attempt that took over.
    pub attempt: AttemptId,
    pub from: AgentId,
    pub from_name: String,
    pub to: AgentId,
    pub to_name: String,
    /// How the attempt before ended, and why, in words.
    pub end: AttemptEnd,
    pub cause: Option<String>,
    /// The snapshot that went along; none: the task began anew.
    pub resumed: Option<Resumed>,
    pub left: Timestamp,
    pub arrived: Timestamp,
}

/// The snapshot that an attempt went on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    pub size_bytes: u64,
    /// The function's running time until then, in microseconds.
    pub spent_us: u64,
}

/// The log of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    pub attempt: AttemptId,
    pub log: Bytes,
    pub dropped_bytes: u64,
}

/// The output of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultRecord {
    pub task: TaskId,
    pub attempt: u32,
    pub output: Payload,
}

/// Counts over all time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    pub jobs: u64,
    pub tasks_succeeded: u64,
    pub attempts: u64,
    pub attempts_lost: u64,
    pub results_refused: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by trying everything that a `*` may stand for.
    fn matches_slowly(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], name) => name.is_empty(),
            ([b'*', rest @ ..], name) => (0..=name.len()).any(|from| matches_slowly(rest, &name[from..])),
            ([first, rest @ ..], [other, others @ ..]) => first == other && matches_slowly(rest, others),
            ([_, ..], []) => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn a_star_stands_for_anything(pattern in "[ab*]{0,6}", name in "[ab]{0,7}") {
            let (quick, slow) = (matches(&pattern, &name), matches_slowly(pattern.as_bytes(), name.as_bytes()));
            proptest::prop_assert_eq!(quick, slow);
        }
    }

    #[test]
    fn whoever_is_named_or_of_a_pattern_is_admitted_whatever_the_case() {
        let bound = |names: &[&str]| Bound { names: names.iter().map(ToString::to_string).collect(), group: None };
        let admits = |names: &[&str], name: &str| (bound(names).admits(name), bound(names).names(name));
        assert_eq!(admits(&[], "desk-1"), (true, false), "everybody, and nobody in particular");
        assert_eq!(admits(&["lab-*", "DESK-1"], "desk-1"), (true, true));
        assert_eq!(admits(&["lab-*", "desk-1"], "LAB-7"), (true, false));
        assert_eq!(admits(&["lab-*", "desk-1"], "desk-2"), (false, false));
    }

    #[test]
    fn a_token_admits_machines_until_its_last_use_and_the_moment_of_its_end() {
        let token = TokenRecord {
            token: 1,
            role: TokenRole::Agent,
            name: "t1".into(),
            bound: Bound::default(),
            uses: 2,
            uses_max: Some(3),
            created: Timestamp(0),
            created_by: "root".into(),
            expires: Some(Timestamp(10)),
            revoked: None,
        };
        let admits = |token: TokenRecord, now| token.admits_machines(Timestamp(now));
        let plain = || token.clone();
        assert_eq!([9, 10, 11].map(|now| admits(plain(), now)), [true, false, false]);
        assert_eq!([2, 3, 4].map(|uses| admits(TokenRecord { uses, ..plain() }, 9)), [true, false, false]);
        assert!(admits(TokenRecord { uses: 99, uses_max: None, expires: None, ..plain() }, 99));
        assert!(!admits(TokenRecord { revoked: Some(Timestamp(1)), ..plain() }, 9));
        assert!(!admits(TokenRecord { role: TokenRole::Admin, ..plain() }, 9));
        assert!(
            [(9, false), (10, true)].into_iter().all(|(now, over)| super::super::decide::expired(&token, Timestamp(now)) == over)
        );
    }

    #[test]
    fn people_are_told_by_name_and_number() {
        let owner = Some(TokenId(7));
        assert_eq!([who(owner, "ann"), who(owner, "t7"), who(None, "ann")], ["ann (t7)", "t7", "ann"]);
    }
}
