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
    #[error("cannot use {path}: {source}\nhint: name a folder of your own with --data or --store sqlite:DIR")]
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
pub(super) fn rolled_back(error: &rusqlite::Error) -> bool {
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

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn sqlite(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    fn file() -> Fail {
        Fail::File { path: "lull.db".into(), source: std::io::Error::other("gone") }
    }

    /// What each code of SQLite means: whether a commit was undone by it, whether it contradicts what was said, whether somebody
    /// has to do something, and whether it is for want of room.
    #[test]
    fn every_code_means_what_follows_from_it() {
        for (code, undone, contradiction, somebody, full) in [
            (ffi::SQLITE_BUSY, true, false, false, false),
            (ffi::SQLITE_LOCKED, true, false, false, false),
            (ffi::SQLITE_FULL, true, false, false, true),
            (ffi::SQLITE_CONSTRAINT, true, true, false, false),
            (ffi::SQLITE_IOERR, false, false, false, false),
            (ffi::SQLITE_CORRUPT, false, false, true, false),
            (ffi::SQLITE_NOTADB, false, false, true, false),
            (ffi::SQLITE_READONLY, false, false, true, false),
            (ffi::SQLITE_PERM, false, false, true, false),
            (ffi::SQLITE_CANTOPEN, false, false, true, false),
        ] {
            let error = sqlite(code);
            assert_eq!((rolled_back(&error), is_full(&error)), (undone, full), "{error}");
            assert_eq!(Fail::Sqlite(sqlite(code)).needs_somebody(), somebody, "{error}");
            let told = StoreError::from(Fail::Sqlite(error));
            assert_eq!(matches!(told, StoreError::Contradiction(_)), contradiction, "{told:?}");
            assert_eq!(matches!(told, StoreError::Determinate(_)), !contradiction, "{told:?}");
        }
        let odd = std::io::Error::other("no room");
        assert!(!is_full(&odd));
    }

    #[test]
    fn only_a_commit_that_was_not_confirmed_is_in_doubt() {
        let in_doubt = |fail: Fail| matches!(StoreError::from(fail), StoreError::Indeterminate(_));
        assert!(in_doubt(Fail::Commit(sqlite(ffi::SQLITE_IOERR))) && in_doubt(Fail::Died));
        for fail in [Fail::Stopped, Fail::TooLarge(1), file(), Fail::Sqlite(sqlite(ffi::SQLITE_IOERR))] {
            assert!(!in_doubt(fail));
        }
        assert!(file().needs_somebody() && Fail::TooLarge(1).needs_somebody());
        assert!(!Fail::Stopped.needs_somebody() && !Fail::Died.needs_somebody());
    }
}
