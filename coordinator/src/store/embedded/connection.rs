//! Opening the database file: its rights, its settings, and what is wrong with it if it cannot be opened.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::error::Fail;

/// The database in a data folder.
pub fn file_in(dir: &Path) -> PathBuf {
    dir.join("lull.db")
}

/// How long a connection waits for a lock that another process holds. Our own writer is one thread and never waits.
const BUSY_TIME_MAX: Duration = Duration::from_secs(5);
/// Pages (of 4 KiB) after which the log is copied back into the database: 16 MiB, so that a page that is written
/// by many turns is copied once.
const CHECKPOINT_PAGES: u32 = 4_000;
/// Statements kept prepared: more than there are.
const STATEMENTS: usize = 128;

/// Makes the folder and the file, readable by their owner alone, before SQLite sees them.
pub fn create(dir: &Path) -> Result<PathBuf, Fail> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| Fail::File { path, source }
    };
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    let file = file_in(dir);
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&file).map_err(failed(&file))?;
    // SQLite gives its log files the rights of the database; an older file may have had wider ones.
    #[cfg(unix)]
    {
        let rights = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, rights).map_err(failed(&file))?;
    }
    Ok(file)
}

/// The connection that writes.
pub fn writer(file: &Path) -> Result<Connection, Fail> {
    let connection = open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.pragma_update(None, "cache_size", -32_000)?;
    Ok(connection)
}

/// A connection that only reads.
pub fn reader(file: &Path) -> Result<Connection, Fail> {
    let connection = open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -8_000)?;
    Ok(connection)
}

fn open(file: &Path, access: OpenFlags) -> Result<Connection, Fail> {
    let connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIME_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}
