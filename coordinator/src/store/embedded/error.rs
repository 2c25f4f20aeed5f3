//! What goes wrong with SQLite, in words, and whether it may have happened all the same.

use rusqlite::ErrorCode;

use super::super::{StoreError, lead::Refusal, migration::Incompatible, rows::Damaged, turn::Broken};

/// Why an operation on the file did not succeed.
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
    #[error("{}", words(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// The commit itself failed in a way that leaves open whether it is on the disk.
    #[error("the database could not confirm a commit: {}", words(.0))]
    Commit(#[source] rusqlite::Error),
    #[error("cannot use {path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("the store's writer has stopped\nhint: look for an earlier error in the log and start the coordinator again")]
    Stopped,
    #[error("the store's writer died over this\nhint: look for an earlier error in the log and start the coordinator again")]
    Died,
    #[error("a blob of more than {}", lull_shared::amount::size(*.0))]
    TooLarge(u64),
}

impl From<Fail> for StoreError {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Refused(refusal) => refusal.into(),
            Fail::Commit(_) | Fail::Died => Self::Indeterminate(fail.into()),
            Fail::Broken(_) => Self::Contradiction(fail.into()),
            Fail::Sqlite(ref error) if contradicts(error) => Self::Contradiction(fail.into()),
            Fail::Damaged(_)
            | Fail::Incompatible(_)
            | Fail::Sqlite(_)
            | Fail::File { .. }
            | Fail::Stopped
            | Fail::TooLarge(_) => Self::Determinate(fail.into()),
        }
    }
}

/// Whether a key or a check was in the way: what is stored is not what the change builds on.
fn contradicts(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

impl Fail {
    /// Whether somebody has to do something before it can succeed.
    pub fn needs_somebody(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Incompatible(_) | Self::File { .. } | Self::TooLarge(_) => true,
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::ReadOnly
                        | ErrorCode::PermissionDenied
                        | ErrorCode::CannotOpen
                )
            ),
            _ => false,
        }
    }
}

/// Whether there was no room in the file or for it.
pub fn is_full(cause: &(dyn std::error::Error + 'static)) -> bool {
    let error = cause.downcast_ref::<rusqlite::Error>();
    error.is_some_and(|error| error.sqlite_error_code() == Some(ErrorCode::DiskFull))
}

/// Whether a failed commit certainly left nothing behind.
pub fn rolled_back(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull | ErrorCode::ConstraintViolation)
    )
}

fn words(error: &rusqlite::Error) -> String {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds the database; stop a second coordinator or a tool that has lull.db open"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged or no database; stop the coordinator, keep a copy of the folder, and restore a backup \
             (`sqlite3 lull.db .recover` may save what is left)"
        }
        Some(ErrorCode::DiskFull) => "the disk is full; free some space, the coordinator goes on by itself",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "the coordinator's account needs to read and write the data folder and the files in it"
        }
        Some(ErrorCode::SystemIoFailure) => "the disk refused; look into the system's log, the disk may be failing",
        _ => return format!("SQLite: {error}"),
    };
    format!("SQLite: {error}\nhint: {hint}")
}
