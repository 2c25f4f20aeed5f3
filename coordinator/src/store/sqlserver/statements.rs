//! Every T-SQL text that this store sends, by name. The texts are in `sql/`, one file each, so that they can be read,
//! parsed and tried by themselves.
//!
//! A text that writes under a term stands between `fence.sql` and `settle.sql`: one batch, one transaction, one round
//! trip, whose last row says how it went.

macro_rules! statements {
    ($($name:ident = $kind:ident $file:literal;)*) => {
        $(pub const $name: &str = statements!(@$kind $file);)*
        /// All of them, for a grammar check.
        #[cfg(test)]
        pub const ALL: &[(&str, &str)] = &[$(($file, $name)),*];
    };
    (@plain $file:literal) => { include_str!(concat!("sql/", $file, ".sql")) };
    (@fenced $file:literal) => {
        concat!(include_str!("sql/fence.sql"), include_str!(concat!("sql/", $file, ".sql")), include_str!("sql/settle.sql"))
    };
}

statements! {
    SESSION = plain "session";
    LOOK = plain "look";
    LEDGER = plain "ledger";
    LEADER = plain "leader";
    TAKE_OVER = plain "take_over";
    CHECK_IN = plain "check_in";
    COORDINATORS = plain "coordinators";
    NETWORK = plain "network";
    NAME_NETWORK = plain "name_network";
    RENEW = fenced "renew";
    STEP_DOWN = fenced "step_down";
    RAISE = fenced "raise";
    NOTE = fenced "note";
    NOTHING = fenced "nothing";
    LOAD = plain "load";
    COMMIT = fenced "commit";
    RETRY = plain "retry";
    JOBS = plain "jobs";
    JOB = plain "job";
    JOB_BY_KEY = plain "job_by_key";
    TASKS = plain "tasks";
    ATTEMPTS = plain "attempts";
    MOVES = plain "moves";
    LOG = plain "log";
    RESULTS = plain "results";
    TOTALS = plain "totals";
    CREATE_TOKEN = fenced "create_token";
    TOKENS = plain "tokens";
    REVOKE_TOKEN = fenced "revoke_token";
    AUTHENTICATE = plain "authenticate";
    BEFORE_ENROLMENT = plain "before_enrolment";
    ENROL = fenced "enrol";
    AGENTS = plain "agents";
    REVOCATIONS = plain "revocations";
    AGENT_BY_PEER = plain "agent_by_peer";
    BEFORE_PUBLISHING = plain "before_publishing";
    PUBLISH = fenced "publish";
    VERSIONS = plain "versions";
    VERSION = plain "version";
    VERSION_NAMED = plain "version_named";
    REMOVE_VERSIONS = fenced "remove_versions";
    POLICY = plain "policy";
    SET_POLICY = fenced "set_policy";
    AUDIT = plain "audit";
    BLOB_BEGIN = plain "blob_begin";
    BLOB_PIECES = plain "blob_pieces";
    BLOB_FINISH = plain "blob_finish";
    BLOB_OUTLINE = plain "blob_outline";
    BLOB_PIECE = plain "blob_piece";
    UNREAD_PACK = plain "unread_pack";
    PACK_PIECE = plain "pack_piece";
    LINKS = fenced "links";
    SWEEP = fenced "sweep";
}
