//! What goes wrong with a server, in words, and whether it may have happened all the same.

use tiberius::error::Error;

use super::super::{StoreError, lead::Refusal, migration::Incompatible, rows::Damaged, turn::Broken};

/// What was being done when something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing can have changed.
    Read,
    /// A commit may be on its way.
    Write,
}

/// Why an operation did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Fail {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    #[error("{words}\nhint: {hint}")]
    Setup { words: String, hint: &'static str },
    /// The server said so.
    #[error("{}", server_words(*.code, .message))]
    Server { code: u32, message: String, purpose: Purpose },
    /// No answer, or half of one.
    #[error(
        "the connection to SQL Server broke: {words}\nhint: it is tried again; look whether {server} can be reached if it lasts"
    )]
    Connection { words: String, server: String, purpose: Purpose },
    #[error("SQL Server did not answer within {seconds}s\nhint: it is tried again; look for blocked sessions if it lasts")]
    Deadline { seconds: u64, purpose: Purpose },
    #[error("others changed the same rows again and again; nothing was done")]
    Contended,
    #[error("a blob of more than {}", lull_shared::amount::size(*.0))]
    TooLarge(u64),
}

impl Fail {
    /// What a client's error means while it does something.
    pub fn of(error: Error, purpose: Purpose, server: &str) -> Self {
        match error {
            Error::Server(token) => Self::Server { code: token.code(), message: token.message().to_owned(), purpose },
            Error::Tls(words) => Self::Setup {
                words: format!("the encrypted connection to {server} was refused: {words}"),
                hint: "a certificate of the server's own making needs TrustServerCertificateCA=FILE in the connection string (or \
                       TrustServerCertificate=true, which trusts any server)",
            },
            Error::Io { message, .. } => Self::Connection { words: message, server: server.to_owned(), purpose },
            other => Self::Connection { words: other.to_string(), server: server.to_owned(), purpose },
        }
    }

    /// Whether the connection can be used again afterwards.
    pub fn leaves_connection(&self) -> bool {
        match self {
            Self::Server { code, .. } => rolls_back(*code) && class(*code) != Some(Class::Text),
            Self::Connection { .. } | Self::Deadline { .. } | Self::Setup { .. } => false,
            Self::Refused(_)
            | Self::Broken(_)
            | Self::Damaged(_)
            | Self::Incompatible(_)
            | Self::Contended
            | Self::TooLarge(_) => true,
        }
    }

    /// Whether it certainly did not happen.
    pub fn is_determinate(&self) -> bool {
        match self {
            Self::Server { code, purpose, .. } => *purpose == Purpose::Read || rolls_back(*code),
            Self::Connection { purpose, .. } | Self::Deadline { purpose, .. } => *purpose == Purpose::Read,
            _ => true,
        }
    }

    /// Whether it never will happen, since the rows are not what it builds on.
    pub fn is_contradiction(&self) -> bool {
        match self {
            Self::Broken(_) => true,
            Self::Server { code, purpose, .. } => *purpose == Purpose::Write && class(*code) == Some(Class::Constraint),
            _ => false,
        }
    }

    /// Whether the server undid the batch to let somebody else through: after a deadlock or a snapshot conflict.
    pub fn gave_way(&self) -> bool {
        matches!(self, Self::Server { code, .. } if class(*code) == Some(Class::GaveWay))
    }

    /// Whether there was no connection to send it on, or one that only read broke: it can simply be sent again.
    pub fn was_not_sent(&self) -> bool {
        match self {
            Self::Connection { purpose, .. } => *purpose == Purpose::Read,
            Self::Server { code, purpose, .. } => *purpose == Purpose::Read && class(*code) == Some(Class::Away),
            _ => false,
        }
    }

    /// Whether somebody has to do something before it can succeed.
    pub fn needs_somebody(&self) -> bool {
        match self {
            Self::Setup { .. } | Self::Damaged(_) | Self::Incompatible(_) | Self::TooLarge(_) => true,
            Self::Server { code, .. } => {
                matches!(class(*code), Some(Class::Login | Class::Closed | Class::Text | Class::Right))
            }
            _ => false,
        }
    }

    /// Whether a row is there already.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Server { code: 2601 | 2627, .. })
    }

    /// Whether a right is missing.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Server { code, .. } if class(*code) == Some(Class::Right))
    }
}

/// Whether the database or its log had no room.
pub fn is_full(cause: &anyhow::Error) -> bool {
    matches!(cause.downcast_ref::<Fail>(), Some(Fail::Server { code: 1101 | 1105 | 9002, .. }))
}

impl From<Fail> for StoreError {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Refused(refusal) => refusal.into(),
            fail if fail.is_contradiction() => Self::Contradiction(fail.into()),
            fail if fail.is_determinate() => Self::Determinate(fail.into()),
            fail => Self::Indeterminate(fail.into()),
        }
    }
}

/// What an error of the server means for the batch and for the connection that it came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// The text could not be compiled, or an object or column is not there. XACT_ABORT does not hold for such errors: a
    /// transaction may have been left open, which ends with the connection.
    /// <https://learn.microsoft.com/sql/t-sql/statements/set-xact-abort-transact-sql>
    Text,
    /// The login lacks a right.
    Right,
    /// A value that does not fit its column.
    Value,
    /// A row that contradicts what is stored.
    Constraint,
    /// The server undid the batch to let others through, and wants it sent again.
    /// <https://learn.microsoft.com/sql/relational-databases/sql-server-deadlocks-guide>,
    /// <https://learn.microsoft.com/sql/relational-databases/errors-events/mssqlserver-3960-database-engine-error>
    GaveWay,
    /// A lock was not to be had in time.
    /// <https://learn.microsoft.com/sql/t-sql/statements/set-lock-timeout-transact-sql>
    Locked,
    /// The database is being moved, woken or spared, and is there again in a while. The connection is of no more use.
    /// <https://learn.microsoft.com/azure/azure-sql/database/troubleshoot-common-errors-issues>
    Away,
    /// The login is refused.
    Login,
    /// The database is not there, or not for this login. While a serverless one wakes it may be said too.
    Closed,
    /// No room.
    Full,
    /// A secondary, or being restored.
    ReadOnly,
}

/// What is known of the numbers. Any other leaves open what became of the batch and of its connection.
/// <https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors>
const CLASSES: &[(Class, &[u32])] = &[
    (Class::Text, &[102, 156, 170, 201, 207, 208, 2812]),
    (Class::Right, &[229, 230, 262, 297, 300, 2759, 2760, 15247, 15151, 15517]),
    // NULL, conversion, overflow, length, JSON.
    (Class::Value, &[220, 245, 515, 2628, 8114, 8115, 8152, 13608, 13609, 13623]),
    (Class::Constraint, &[547, 2601, 2627]),
    (Class::GaveWay, &[1205, 3960]),
    (Class::Locked, &[1222]),
    (Class::Away, &[615, 926, 4221, 10928, 10929, 40143, 40197, 40501, 40540, 40613, 42108, 42109, 49918, 49919, 49920]),
    (Class::Login, &[18452, 18456, 18470, 18486, 18487, 18488]),
    (Class::Closed, &[911, 4060]),
    (Class::Full, &[1105, 9002]),
    (Class::ReadOnly, &[3906, 3908]),
];

fn class(code: u32) -> Option<Class> {
    CLASSES.iter().find(|(_, codes)| codes.contains(&code)).map(|(class, _)| *class)
}

/// Whether the server has certainly undone the batch, since XACT_ABORT is on or the batch never began. Errors that come
/// while the connection ends are not among these: the commit may have been on its way.
fn rolls_back(code: u32) -> bool {
    match class(code) {
        Some(Class::Text | Class::Right | Class::Value | Class::Constraint | Class::GaveWay | Class::Locked) => true,
        Some(Class::Away | Class::Login | Class::Closed | Class::Full | Class::ReadOnly) | None => false,
    }
}

fn server_words(code: u32, message: &str) -> String {
    let hint = match class(code) {
        Some(Class::Login) => "the login or its password is wrong, or the server lets in only other kinds of logins",
        Some(Class::Closed) => "the database does not exist or this login may not enter it; a DBA creates both",
        Some(Class::Text) => {
            "the tables of Lull are missing or others; `lull db check` says what is there, `lull db script` prints what a DBA runs"
        }
        Some(Class::Right) => {
            "the login lacks a right; `lull db script` prints what a DBA runs, `lull db check` says what is missing"
        }
        Some(Class::GaveWay | Class::Locked) => "somebody else held the same rows; it is tried again",
        Some(Class::Away) => "the database is being moved or woken; it is tried again",
        Some(Class::Full) => "the database or its log is full; the coordinator goes on by itself once there is room",
        Some(Class::ReadOnly) => "the database is read-only at the moment: a secondary, or being restored",
        Some(Class::Constraint) => "the change contradicts what is stored",
        Some(Class::Value) | None => return format!("SQL Server error {code}: {message}"),
    };
    format!("SQL Server error {code}: {message}\nhint: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u32, purpose: Purpose) -> Fail {
        Fail::Server { code, message: "x".into(), purpose }
    }

    #[test]
    fn only_errors_that_undo_the_batch_are_certain() {
        for code in [1205, 1222, 2627, 547, 208, 229] {
            assert!(server(code, Purpose::Write).is_determinate(), "{code}");
            assert_eq!(server(code, Purpose::Write).leaves_connection(), code != 208, "{code}");
        }
        for code in [0, 596, 823, 9002, 6005, 40197, 99_999] {
            assert!(!server(code, Purpose::Write).is_determinate(), "{code}");
            assert!(server(code, Purpose::Read).is_determinate(), "{code}");
            assert!(!server(code, Purpose::Read).leaves_connection(), "{code}");
        }
        let deadline = |purpose| Fail::Deadline { seconds: 1, purpose };
        assert!(matches!(StoreError::from(deadline(Purpose::Write)), StoreError::Indeterminate(_)));
        assert!(matches!(StoreError::from(deadline(Purpose::Read)), StoreError::Determinate(_)));
    }

    #[test]
    fn what_was_refused_before_it_was_sent_costs_no_connection() {
        let words = || "x".to_owned();
        assert!(Fail::Contended.leaves_connection() && Fail::TooLarge(1).leaves_connection());
        for lost in [
            Fail::Connection { words: words(), server: words(), purpose: Purpose::Read },
            Fail::Deadline { seconds: 1, purpose: Purpose::Read },
            Fail::Setup { words: words(), hint: "x" },
        ] {
            assert!(!lost.leaves_connection(), "{lost:?}");
        }
    }

    #[test]
    fn a_database_that_is_away_is_asked_again_and_never_sent_a_write_twice() {
        for code in [40197, 40501, 40613, 49918] {
            assert!(server(code, Purpose::Read).was_not_sent(), "{code}");
            assert!(!server(code, Purpose::Write).was_not_sent(), "{code}");
            assert!(!server(code, Purpose::Write).is_determinate(), "{code}");
        }
        assert!(server(1205, Purpose::Write).gave_way() && server(3960, Purpose::Write).gave_way());
        assert!(server(2627, Purpose::Write).is_contradiction() && !server(1222, Purpose::Write).is_contradiction());
        let known: Vec<u32> = CLASSES.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        assert_eq!(known.len(), known.iter().collect::<std::collections::BTreeSet<_>>().len(), "each number is of one class");
    }

    #[test]
    fn words_say_what_to_do_next() {
        assert!(server(18456, Purpose::Read).to_string().contains("hint: the login"));
        assert!(server(262, Purpose::Read).to_string().contains("lull db script"));
    }
}
