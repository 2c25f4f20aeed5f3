//! Opening the database file: its rights, its settings, and what is wrong with it if it cannot be opened.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use lull_engine::files;
use rusqlite::{Connection, OpenFlags};

use super::error::Fail;

/// The database in a data folder.
pub(super) fn file_in(dir: &Path) -> PathBuf {
    dir.join("lull.db")
}

/// How long a connection waits for a lock that another process holds. Our own writer is one thread and never waits.
const BUSY_TIME_MAX: Duration = Duration::from_secs(5);
/// Pages (of 4 KiB) after which the log is copied back into the database: 16 MiB, so that a page that is written
/// by many turns is copied once.
const CHECKPOINT_PAGES: u32 = 4_000;
/// Statements kept prepared: more than there are.
const STATEMENTS: usize = 128;

/// What SQLite keeps beside the database while it is in use.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Makes the folder and the file, readable by their owner alone, before SQLite sees them. Nothing is made or opened through a
/// link: whoever can put one into the folder would choose what is written over.
pub(super) fn create(dir: &Path) -> Result<PathBuf, Fail> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| Fail::File { path, source }
    };
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    let file = file_in(dir);
    for behind in [""].into_iter().chain(BESIDE) {
        let mut path = file.clone().into_os_string();
        path.push(behind);
        if let Ok(to) = std::fs::read_link(&path) {
            return Err(failed(path.as_ref())(is_a_link(&to)));
        }
    }
    let opened = files::open_own(&file).map_err(failed(&file))?;
    // SQLite gives its log files the rights of the database; an older file may have had wider ones.
    #[cfg(unix)]
    {
        let rights = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        opened.set_permissions(rights).map_err(failed(&file))?;
    }
    drop(opened);
    Ok(file)
}

fn is_a_link(to: &Path) -> std::io::Error {
    std::io::Error::other(format!(
        "it is a link to {}, and the database is opened through none\nhint: name the folder that it is in, with --store \
         sqlite:FOLDER, or put the file itself here",
        to.display()
    ))
}

/// The connection that writes.
pub(super) fn writer(file: &Path) -> Result<Connection, Fail> {
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
pub(super) fn reader(file: &Path) -> Result<Connection, Fail> {
    let connection = open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -8_000)?;
    Ok(connection)
}

fn open(file: &Path, access: OpenFlags) -> Result<Connection, Fail> {
    // The folder may be behind a link; to SQLite a link anywhere in a path is one.
    let folder = file.parent().map(Path::canonicalize).transpose();
    let folder = folder.map_err(|source| Fail::File { path: file.display().to_string(), source })?;
    let file = folder.unwrap_or_default().join(file.file_name().unwrap_or_default());
    let connection =
        Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW)?;
    connection.busy_timeout(BUSY_TIME_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_database_is_not_made_through_a_link() {
        let (folder, elsewhere) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let dir = folder.path().join("data");
        std::fs::create_dir(&dir).expect("made");
        for (name, to) in [("lull.db", "new.db"), ("lull.db-wal", "new.db-wal"), ("lull.db-shm", "shm"), ("lull.db-journal", "j")]
        {
            let to = elsewhere.path().join(to);
            symlink(&to, dir.join(name)).expect("a link");
            let words = create(&dir).expect_err("it is a link").to_string();
            assert!(words.contains("is a link to") && words.contains(name) && words.contains("\nhint: "), "{words}");
            assert!(!to.exists(), "nothing was made there");
            std::fs::remove_file(dir.join(name)).expect("ours");
        }
        let file = create(&dir).expect("made");
        writer(&file).expect("opened");
        // Put there after the look.
        std::fs::rename(&file, elsewhere.path().join("moved.db")).expect("moved");
        symlink(elsewhere.path().join("moved.db"), &file).expect("a link");
        assert!(writer(&file).is_err() && reader(&file).is_err());
    }

    #[test]
    fn the_folder_of_a_database_may_be_a_link() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("disk")).expect("made");
        symlink(folder.path().join("disk"), folder.path().join("data")).expect("a link");
        let file = create(&folder.path().join("data")).expect("made");
        writer(&file).expect("opened");
        assert!(folder.path().join("disk/lull.db").exists());
    }
}
