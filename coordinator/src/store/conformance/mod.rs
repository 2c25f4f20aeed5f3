//! One suite that every store passes: what the words of [`Store`] promise, said as cases.
//!
//! A case gets an empty store, of which it is the leader. It knows nothing of the backend behind it.

mod blobs;
mod cost;
mod leader;
mod model;
mod reads;
mod registry;
mod rollouts;
pub(crate) mod sample;
mod second_copies;
mod tasks;
mod turns;
mod verification;
pub(crate) mod views;

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use lull_scheduler::effect::Change;
use lull_shared::time::Timestamp;

use super::{
    Lead, Store, StoreError, Takeover, embedded,
    faulty::{Faulty, Rates},
    memory::Memory,
    sqlserver,
};

/// Somewhere stores can be had.
#[async_trait]
pub(crate) trait Backend: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    /// An empty store.
    async fn fresh(&self) -> Arc<dyn Store>;
    /// The same store, opened anew: what a coordinator sees that starts after a crash.
    async fn reopen(&self) -> Arc<dyn Store>;
    /// Keeps a copy of the store as it is now; `false` where that cannot be done.
    async fn remember(&self) -> bool {
        false
    }
    /// The store as it was when it was remembered, opened anew. Nothing may have it open.
    async fn forgotten(&self) -> Arc<dyn Store> {
        panic!("what cannot be remembered cannot be put back")
    }
    /// The rows of a view, as text; `None` where there are no views.
    async fn view(&self, _name: &str) -> Option<Vec<Vec<String>>> {
        None
    }
}

/// What a case works with.
#[derive(Clone)]
pub(crate) struct World {
    pub backend: Arc<dyn Backend>,
    pub store: Arc<dyn Store>,
    pub lead: Lead,
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
type Case = (&'static str, fn(World) -> Running);

/// Where a case's clock begins.
pub(crate) const T0: Timestamp = Timestamp(1_790_000_000_000_000);
/// The lease of a case.
pub(crate) const LEASE: Duration = Duration::from_secs(10);

impl World {
    /// An empty store, led by us.
    pub(crate) async fn on(backend: Arc<dyn Backend>) -> Self {
        let store = backend.fresh().await;
        let lead = leader(&*store, T0).await;
        Self { backend, store, lead }
    }

    /// Commits a turn that must be taken.
    pub(crate) async fn commit(&self, changes: &[Change]) {
        self.store.commit(&self.lead, changes).await.expect("the turn is taken");
    }

    /// Commits a turn that must be refused as a whole, and for certain.
    pub(crate) async fn refused(&self, changes: &[Change]) -> String {
        match self.store.commit(&self.lead, changes).await {
            Err(StoreError::Contradiction(error)) => error.to_string(),
            other => panic!("the turn should be refused for good, and was: {other:?}"),
        }
    }

    /// The store as a coordinator sees it after a crash.
    pub(crate) async fn reopened(&self) -> Self {
        Self { store: self.backend.reopen().await, ..self.clone() }
    }
}

/// Takes over a store without a leader.
pub(crate) async fn leader(store: &dyn Store, now: Timestamp) -> Lead {
    match store.take_over("conformance", LEASE, now).await.expect("the store answers") {
        Takeover::Ours(lead) => lead,
        Takeover::Theirs { holder, .. } => panic!("{holder} leads in a store that should be ours"),
    }
}

macro_rules! cases {
    ($($module:ident::$case:ident),* $(,)?) => {
        /// Every case with its printed name.
        pub(crate) const CASES: &[Case] = &[$((concat!(stringify!($module), "::", stringify!($case)), |world| Box::pin($module::$case(world)))),*];

        mod on_memory {
            $(#[tokio::test] async fn $case() { super::run(stringify!($module), stringify!($case), super::InMemory::backend()).await; })*
        }
        mod on_embedded {
            $(#[tokio::test] async fn $case() { super::run(stringify!($module), stringify!($case), super::InFile::backend()).await; })*
        }
        mod on_faulty {
            $(#[tokio::test] async fn $case() { super::run(stringify!($module), stringify!($case), super::BehindFaults::backend()).await; })*
        }
    };
}

cases!(
    leader::a_store_has_one_leader_at_a_time,
    leader::whoever_was_overtaken_is_fenced_everywhere,
    leader::another_of_the_same_term_is_fenced,
    leader::a_load_takes_nothing_from_what_was_sent_before_it,
    leader::a_turn_in_doubt_that_arrives_after_a_load_is_found_or_refused,
    leader::a_store_that_forgot_what_it_had_confirmed_says_so_and_goes_on,
    leader::a_lease_can_be_prolonged_and_given_up,
    leader::a_term_that_agents_have_seen_can_be_risen_above,
    leader::what_the_store_does_not_hold_is_audited_all_the_same,
    leader::anybody_can_see_who_leads,
    leader::coordinators_know_of_each_other_whoever_leads,
    leader::a_store_is_the_network_of_whoever_came_first_until_it_is_named_anew,
    turns::a_job_is_remembered_as_it_was_submitted,
    turns::an_attempt_goes_from_start_to_result,
    turns::a_task_goes_on_from_its_newest_snapshot,
    turns::a_failed_attempt_is_followed_by_another,
    turns::start_and_end_in_one_turn_are_one_turn,
    turns::moves_are_listed_with_what_went_along,
    turns::the_newest_attempts_are_those_of_the_highest_tasks,
    turns::jobs_are_counted_by_state_up_to_a_bound,
    turns::a_pause_is_remembered_and_ends_with_the_attempt,
    second_copies::a_task_may_be_with_two_agents_and_counts_once,
    second_copies::the_first_result_wins_and_the_other_copy_is_over,
    second_copies::a_copy_that_ends_leaves_the_task_to_the_other,
    second_copies::a_task_is_paused_when_all_its_copies_are,
    verification::an_output_that_is_compared_is_durable_and_does_not_count,
    verification::a_task_that_ends_keeps_nothing_to_compare,
    verification::a_quarantine_is_remembered_until_it_is_lifted,
    turns::a_stopped_job_ends_tasks_that_never_started,
    turns::a_retry_queues_what_ended_badly,
    turns::a_retry_in_the_middle_of_a_turn_counts_right,
    turns::a_retry_takes_only_what_ended_as_it_says,
    turns::a_turn_is_taken_or_refused_as_a_whole,
    turns::steps_that_contradict_each_other_within_a_turn_are_refused,
    turns::a_task_is_completed_once,
    turns::a_job_with_open_tasks_cannot_end,
    turns::agents_come_and_go,
    turns::hours_of_machines_are_kept_and_the_newest_count,
    turns::a_late_result_is_counted,
    turns::a_crash_forgets_nothing,
    turns::usage_fades_and_belongs_to_its_submitter,
    turns::a_large_turn_is_one_turn,
    turns::odd_bytes_and_texts_survive,
    tasks::tasks_that_never_started_are_listed,
    tasks::filters_and_pages_cut_where_they_should,
    tasks::jobs_are_paged_and_filtered,
    tasks::logs_and_results_are_found,
    tasks::what_is_not_there_is_none,
    registry::a_policy_follows_the_one_that_was_read,
    rollouts::a_rollout_is_remembered_with_how_far_each_agent_is,
    rollouts::of_each_platform_the_newest_rollout_holds,
    registry::tokens_are_made_listed_and_revoked,
    registry::a_token_authenticates_while_it_is_valid,
    registry::a_machine_enrols_and_is_found_again,
    registry::a_join_token_ends_with_its_uses_and_its_time,
    registry::a_revoked_machine_does_not_come_back,
    registry::a_machine_that_left_is_removed_and_what_it_ran_keeps_its_name,
    registry::who_was_thrown_out_is_counted,
    registry::names_of_tokens_are_unique_while_they_are_valid,
    registry::a_bound_token_admits_those_it_is_for,
    registry::versions_are_numbered_and_found_again,
    registry::removed_versions_are_hidden_and_still_there,
    registry::a_label_stands_for_one_version_and_remembers_those_before,
    registry::every_mutation_is_audited,
    registry::an_idempotency_key_belongs_to_its_submitter,
    blobs::blobs_come_back_in_pieces_that_verify,
    blobs::a_blob_given_twice_is_one_blob,
    blobs::an_unfinished_or_oversized_blob_is_nothing,
    blobs::a_sweep_keeps_what_is_referred_to,
    blobs::a_sweep_deletes_large_blobs_in_parts_and_packs_with_their_links,
    blobs::an_upload_that_was_given_up_is_not_kept,
    blobs::a_blob_that_was_asked_for_outlives_the_next_sweep,
    blobs::no_blob_goes_of_which_it_was_just_said_that_it_is_there,
    views::every_view_can_be_read,
    views::a_task_that_is_with_no_agent_is_open_in_the_views,
    model::random_turns_leave_what_the_model_says,
    model::whoever_is_in_doubt_loads_and_knows,
);

async fn run(module: &str, case: &str, backend: Arc<dyn Backend>) {
    let name = format!("{module}::{case}");
    println!("{}: {name}", backend.name());
    let (_, case) = CASES.iter().find(|(found, _)| *found == name).expect("a case by its name");
    case(World::on(backend).await).await;
}

/// Stores in memory; a crash is survived by the handle.
#[derive(Default)]
struct InMemory {
    store: Memory,
    copy: Memory,
}

impl InMemory {
    fn backend() -> Arc<dyn Backend> {
        Arc::new(Self::default())
    }
}

#[async_trait]
impl Backend for InMemory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn fresh(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    async fn reopen(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    async fn remember(&self) -> bool {
        self.copy.go_back_to(&self.store);
        true
    }

    async fn forgotten(&self) -> Arc<dyn Store> {
        self.store.go_back_to(&self.copy);
        self.reopen().await
    }
}

/// Stores in a folder of their own.
struct InFile {
    folder: tempfile::TempDir,
}

impl InFile {
    fn backend() -> Arc<dyn Backend> {
        Arc::new(Self { folder: tempfile::tempdir().expect("a folder for the test") })
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

#[async_trait]
impl Backend for InFile {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn fresh(&self) -> Arc<dyn Store> {
        embedded::open(&self.dir()).await.expect("the store opens")
    }

    async fn reopen(&self) -> Arc<dyn Store> {
        embedded::open(&self.dir()).await.expect("the store opens again")
    }

    async fn remember(&self) -> bool {
        let copy = self.folder.path().join("copy.db");
        let database = rusqlite::Connection::open(self.dir().join("lull.db")).expect("the file opens");
        database.execute("VACUUM INTO ?1", [copy.to_str().expect("a plain path")]).expect("a copy can be made");
        true
    }

    async fn forgotten(&self) -> Arc<dyn Store> {
        for log in ["lull.db-wal", "lull.db-shm"] {
            assert!(!self.dir().join(log).exists(), "nothing has the store open");
        }
        std::fs::copy(self.folder.path().join("copy.db"), self.dir().join("lull.db")).expect("the copy takes its place");
        self.reopen().await
    }

    async fn view(&self, name: &str) -> Option<Vec<Vec<String>>> {
        let database = rusqlite::Connection::open(self.dir().join("lull.db")).expect("the file opens");
        let mut statement = database.prepare(&format!("SELECT * FROM {name}")).expect("the view is there");
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| Ok(format!("{:?}", row.get_ref(at)?))).collect();
        let rows = statement.query_map([], row).expect("the view can be read");
        Some(rows.collect::<Result<_, _>>().expect("every row can be read"))
    }
}

/// Stores in memory behind the fault injector, which delays calls and otherwise passes them on.
#[derive(Default)]
struct BehindFaults(InMemory);

impl BehindFaults {
    fn backend() -> Arc<dyn Backend> {
        Arc::new(Self::default())
    }
}

#[async_trait]
impl Backend for BehindFaults {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn fresh(&self) -> Arc<dyn Store> {
        self.reopen().await
    }

    async fn reopen(&self) -> Arc<dyn Store> {
        let rates = Rates { delayed: 20, delay_max: Duration::from_millis(2), ..Rates::default() };
        Arc::new(Faulty::seeded(self.0.reopen().await, 1, rates))
    }

    async fn remember(&self) -> bool {
        self.0.remember().await
    }

    async fn forgotten(&self) -> Arc<dyn Store> {
        self.0.forgotten().await;
        self.reopen().await
    }
}

/// The variable that holds an ADO connection string to a database whose name has `test` in it: it is emptied.
const SERVER: &str = "LULL_TEST_SQLSERVER";

/// A database on SQL Server, emptied before each case.
struct OnServer(String);

#[async_trait]
impl Backend for OnServer {
    fn name(&self) -> &'static str {
        "SQL Server"
    }

    async fn fresh(&self) -> Arc<dyn Store> {
        // Before anything is made or emptied in it.
        let name = sqlserver::database(&self.0).await.expect("the server says in which database it is");
        assert!(is_for_tests(&name), "{SERVER} names the database {name}, which has no `test` in its name");
        let store = self.reopen().await;
        sqlserver::empty(&self.0).await.expect("the database can be emptied");
        store
    }

    async fn reopen(&self) -> Arc<dyn Store> {
        sqlserver::open(&self.0).await.expect("the database opens")
    }

    async fn view(&self, name: &str) -> Option<Vec<Vec<String>>> {
        Some(sqlserver::view(&self.0, name).await.expect("the view can be read"))
    }
}

/// Its own name counts, and not that of the server it is on.
fn is_for_tests(database: &str) -> bool {
    database.to_ascii_lowercase().contains("test")
}

#[test]
fn only_a_database_that_is_called_a_test_is_emptied() {
    assert!(is_for_tests("lull_Test") && !is_for_tests("lull"));
}

/// One after the other, since there is one database; all cases run, whichever fail.
#[tokio::test]
async fn sql_server_suite() {
    let Ok(connection_string) = std::env::var(SERVER) else {
        println!("SQL Server: NOT RUN, {SERVER} is not set");
        return;
    };
    let backend: Arc<dyn Backend> = Arc::new(OnServer(connection_string));
    let mut failed = Vec::new();
    for (name, case) in CASES {
        println!("SQL Server: {name}");
        let world = World::on(backend.clone());
        if tokio::spawn(async move { case(world.await).await }).await.is_err() {
            println!("SQL Server: {name} FAILED");
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:?}", failed.len(), CASES.len());
}
