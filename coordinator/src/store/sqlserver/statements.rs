//! Every T-SQL text that this store sends, by name, and what reads each of its answers. The texts are in `sql/`, one file
//! each, so that they can be read, parsed and tried by themselves.
//!
//! A text that writes under a term stands between `fence.sql` and `settle.sql`: one batch, one transaction, one round
//! trip, whose last row says how it went.
//!
//! A test holds each text against the tables of the schema, and its answers against the columns that their readers ask for.

#[cfg(test)]
use super::super::{
    rows::{self, Columns, Damaged},
    sweep,
};

/// Reads a row, and says which column it lacks.
#[cfg(test)]
pub(super) type Reader = fn(&dyn Columns) -> Result<(), Damaged>;

/// A text and the readers of its answers, one for each SELECT.
#[cfg(test)]
pub(super) struct Text {
    pub name: &'static str,
    pub sql: &'static str,
    pub readers: &'static [Reader],
}

/// How a batch that writes says how it went.
#[cfg(test)]
fn outcome(row: &dyn Columns) -> Result<(), Damaged> {
    rows::int(row, "outcome").map(drop)
}

macro_rules! statements {
    ($($name:ident = $kind:ident $file:literal [$($reader:expr),*];)*) => {
        $(pub(super) const $name: &str = statements!(@$kind $file);)*
        /// All of them.
        #[cfg(test)]
        pub(super) const ALL: &[Text] = &[$(Text { name: $file, sql: $name, readers: statements!(@readers $kind [$($reader),*]) }),*];
    };
    // A transaction that something left open on the connection is none of this text's, and would keep its locks.
    (@clear) => { "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION;\n" };
    (@plain $file:literal) => { concat!(statements!(@clear), include_str!(concat!("sql/", $file, ".sql"))) };
    (@fenced $file:literal) => {
        concat!(
            statements!(@clear),
            include_str!("sql/fence.sql"),
            include_str!(concat!("sql/", $file, ".sql")),
            include_str!("sql/settle.sql")
        )
    };
    (@readers plain [$($reader:expr),*]) => { &[$(|row| $reader(row).map(|_| ())),*] };
    (@readers fenced [$($reader:expr),*]) => { &[$(|row| $reader(row).map(|_| ()),)* |row| settled(row)] };
}

/// How a batch between the fence and its settling says how it went.
#[cfg(test)]
fn settled(row: &dyn Columns) -> Result<(), Damaged> {
    row.int("result")?;
    rows::leader_row(row)?;
    outcome(row)
}

statements! {
    SESSION = plain "session" [];
    LOOK = plain "look" [super::check::seen];
    STATE = plain "state" [super::check::state];
    REPLICAS = plain "replicas" [super::check::replica];
    GEO_REPLICAS = plain "geo_replicas" [super::check::replica];
    OBJECTS = plain "objects" [
        super::check::column_row,
        super::check::index_row,
        super::check::constraint_row,
        super::check::constraint_row,
        super::check::module_row
    ];
    LEDGER = plain "ledger" [super::schema::step_applied];
    LEADER = plain "leader" [rows::leader_row];
    TAKE_OVER = plain "take_over" [|row: &dyn Columns| { rows::int(row, "ours")?; rows::leader_row(row) }, outcome];
    CHECK_IN = plain "check_in" [outcome];
    COORDINATORS = plain "coordinators" [rows::coordinator_record];
    NETWORK = plain "network" [rows::network_record];
    NAME_NETWORK = plain "name_network" [rows::network_record, outcome];
    RENEW = fenced "renew" [];
    STEP_DOWN = fenced "step_down" [];
    RAISE = fenced "raise" [];
    NOTE = fenced "note" [];
    NOTHING = fenced "nothing" [];
    LOAD = plain "load" [
        rows::leader_row,
        |row: &dyn Columns| rows::int(row, "last_job"),
        rows::job_snapshot,
        rows::open_task,
        rows::agent_snapshot,
        rows::idle_hours,
        rows::owner_hour,
        rows::answer,
        rows::leader_row
    ];
    COMMIT = plain "commit" [];
    RETRY = plain "retry" [rows::job_snapshot];
    ENDED_BADLY = plain "ended_badly" [rows::ended_task];
    JOBS = plain "jobs" [rows::job_record];
    JOB_COUNTS = plain "job_counts" [rows::job_count];
    JOB_BY_KEY = plain "job_by_key" [|row: &dyn Columns| rows::int(row, "job_id")];
    TASKS = plain "tasks" [rows::extent, rows::task_record];
    ATTEMPTS = plain "attempts" [rows::attempt_record];
    NEWEST_ATTEMPTS = plain "newest_attempts" [rows::attempt_record];
    MOVES = plain "moves" [rows::move_record];
    LOG = plain "log" [rows::log_record];
    RESULTS = plain "results" [rows::result_record];
    TOTALS = plain "totals" [rows::totals];
    CREATE_TOKEN = fenced "create_token" [];
    TOKENS = plain "tokens" [rows::token_record];
    REVOKE_TOKEN = fenced "revoke_token" [];
    NOTE_LEAVING = fenced "note_leaving" [];
    REMOVE_AGENT = fenced "remove_agent" [];
    AUTHENTICATE = plain "authenticate" [rows::token_record];
    BEFORE_ENROLMENT = plain "before_enrolment" [
        |row: &dyn Columns| { rows::bytes(row, "fingerprint")?; rows::token_record(row) },
        rows::agent_record,
        rows::name_taken
    ];
    ENROL = fenced "enrol" [];
    AGENTS = plain "agents" [rows::agent_record];
    REVOCATIONS = plain "revocations" [rows::revocation];
    AGENT_BY_PEER = plain "agent_by_peer" [rows::agent_record];
    BEFORE_PUBLISHING = plain "before_publishing" [rows::version_record, |row: &dyn Columns| rows::u32_of(row, "next_number")];
    PUBLISH = fenced "publish" [];
    VERSIONS = plain "versions" [rows::version_record];
    VERSION = plain "version" [rows::version_record];
    VERSION_NAMED = plain "version_named" [rows::version_record];
    LABELS = plain "labels" [rows::label_record];
    LABEL_MOVES = plain "label_moves" [rows::label_record];
    MOVE_LABEL = fenced "move_label" [];
    REMOVE_VERSIONS = fenced "remove_versions" [];
    POLICY = plain "policy" [rows::policy_record];
    SET_POLICY = fenced "set_policy" [];
    ROLLOUTS = plain "rollouts" [rows::rollout_record, rows::rollout_agent];
    BEGIN_ROLLOUT = fenced "begin_rollout" [];
    MARK_ROLLOUT = fenced "mark_rollout" [];
    AUDIT = plain "audit" [rows::audit_record];
    BLOB_BEGIN = plain "blob_begin" [|row: &dyn Columns| { rows::int(row, "result")?; outcome(row) }];
    BLOB_TOUCH = plain "blob_touch" [|row: &dyn Columns| { rows::int(row, "result")?; outcome(row) }];
    BLOB_PIECES = plain "blob_pieces" [outcome];
    BLOB_FINISH = plain "blob_finish" [outcome];
    BLOB_OUTLINE = plain "blob_outline" [|row: &dyn Columns| { rows::bytes(row, "outline")?; rows::int(row, "size_bytes") }];
    BLOB_PIECE = plain "blob_piece" [|row: &dyn Columns| rows::bytes(row, "bytes")];
    UNREAD_PACK = plain "unread_pack" [sweep::unread];
    PACK_PIECE = plain "pack_piece" [|row: &dyn Columns| rows::bytes(row, "bytes")];
    LINKS = fenced "links" [];
    SWEEP_RANGE = plain "sweep_range" [sweep::swept];
    SWEEP_GIVE_UP = fenced "sweep_give_up" [];
    SWEEP_DELETE = fenced "sweep_delete" [];
}
