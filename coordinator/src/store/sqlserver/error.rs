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
            Self::Server { code, .. } => rolls_back(*code),
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
        matches!(self, Self::Broken(_) | Self::Server { code: 547 | 2601 | 2627, purpose: Purpose::Write, .. })
    }

    /// Whether the server undid the batch to let somebody else through: after a deadlock or a snapshot conflict.
    pub fn gave_way(&self) -> bool {
        matches!(self, Self::Server { code: 1205 | 3960, .. })
    }

    /// Whether there was no connection to send it on, or one that only read broke: it can simply be sent again.
    pub fn was_not_sent(&self) -> bool {
        matches!(self, Self::Connection { purpose: Purpose::Read, .. })
    }

    /// Whether somebody has to do something before it can succeed.
    pub fn needs_somebody(&self) -> bool {
        match self {
            Self::Setup { .. } | Self::Damaged(_) | Self::Incompatible(_) | Self::TooLarge(_) => true,
            // The login, its password, the database, the tables.
            Self::Server { code: 18452 | 18456 | 18470 | 18486..=18488 | 4060 | 911 | 207 | 208 | 2812, .. } => true,
            other => other.is_forbidden(),
        }
    }

    /// Whether a row is there already.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Server { code: 2601 | 2627, .. })
    }

    /// Whether a right is missing.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Server { code: 229 | 230 | 262 | 297 | 300 | 2759 | 2760 | 15247 | 15151 | 15517, .. })
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

/// Errors after which the server has certainly undone the batch, since XACT_ABORT is on. Any other number leaves open
/// what became of the commit.
fn rolls_back(code: u32) -> bool {
    matches!(
        code,
        // Syntax and names.
        102 | 156 | 170 | 201 | 207 | 208 | 2812
        // Rights.
        | 229 | 230 | 262 | 297 | 300 | 2759 | 2760 | 15247 | 15151 | 15517
        // Values: NULL, conversion, overflow, length, JSON.
        | 220 | 245 | 515 | 2628 | 8114 | 8115 | 8152 | 13608 | 13609 | 13623
        // Constraints.
        | 547 | 2601 | 2627
        // Giving way: deadlock, lock timeout, snapshot conflict.
        | 1205 | 1222 | 3960
    )
}

fn server_words(code: u32, message: &str) -> String {
    let hint = match code {
        18456 | 18452 => "the login or its password is wrong, or the server lets in only other kinds of logins",
        4060 | 911 => "the database does not exist or this login may not enter it; a DBA creates both",
        208 | 2812 => {
            "the tables of Lull are missing; `lull db check` says what is there, `lull db script` prints what a DBA runs"
        }
        229 | 230 | 262 | 297 | 300 | 2759 | 2760 | 15247 | 15151 | 15517 => {
            "the login lacks a right; `lull db script` prints what a DBA runs, `lull db check` says what is missing"
        }
        1205 | 1222 | 3960 => "somebody else held the same rows; it is tried again",
        1105 | 9002 => "the database or its log is full; the coordinator goes on by itself once there is room",
        3906 | 3908 => "the database is read-only at the moment: a secondary, or being restored",
        547 | 2601 | 2627 => "the change contradicts what is stored",
        _ => return format!("SQL Server error {code}: {message}"),
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
            assert!(server(code, Purpose::Write).leaves_connection(), "{code}");
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
    fn words_say_what_to_do_next() {
        assert!(server(18456, Purpose::Read).to_string().contains("hint: the login"));
        assert!(server(262, Purpose::Read).to_string().contains("lull db script"));
    }
}
