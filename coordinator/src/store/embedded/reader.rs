//! Connections that read, a few at a time, each in one consistent view of the database.

use std::{path::PathBuf, sync::Mutex};

use rusqlite::{Connection, Row, Transaction, TransactionBehavior, types::ValueRef};
use tokio::sync::Semaphore;

use super::{
    super::rows::{Columns, Damaged},
    connection,
    error::Fail,
};

/// Reads at once: people and the interface; the scheduler reads only when it starts.
const READERS: usize = 4;

/// A small pool of connections.
pub(super) struct Readers {
    file: PathBuf,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// A pool on this file; connections are opened when they are needed.
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, permits: Semaphore::new(READERS), idle: Mutex::new(Vec::new()) }
    }

    /// Runs `work` on a thread for blocking work, in a transaction that sees one state of the database.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, Fail> {
        let _permit = self.permits.acquire().await.map_err(|_| Fail::Stopped)?;
        let idle = self.idle.lock().expect("no reader panics while it holds the pool").pop();
        let file = self.file.clone();
        let worked = tokio::task::spawn_blocking(move || {
            let mut connection = idle.map_or_else(|| connection::reader(&file), Ok)?;
            let tx = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let value = work(&tx)?;
            drop(tx);
            Ok::<_, Fail>((value, connection))
        });
        let (value, connection) = worked.await.map_err(|_| Fail::Stopped)??;
        self.idle.lock().expect("no reader panics while it holds the pool").push(connection);
        Ok(value)
    }
}

impl Columns for Row<'_> {
    fn int(&self, column: &str) -> Result<Option<i64>, Damaged> {
        match value(self, column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(value) => Ok(Some(value)),
            other => Err(Damaged::new(column, other.data_type().to_string())),
        }
    }

    fn text(&self, column: &str) -> Result<Option<String>, Damaged> {
        match value(self, column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Text(text) => {
                let text = std::str::from_utf8(text).map_err(|_| Damaged::new(column, "text that is not UTF-8"))?;
                Ok(Some(text.to_owned()))
            }
            other => Err(Damaged::new(column, other.data_type().to_string())),
        }
    }

    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, Damaged> {
        match value(self, column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Blob(bytes) => Ok(Some(bytes.to_vec())),
            other => Err(Damaged::new(column, other.data_type().to_string())),
        }
    }
}

fn value<'a>(row: &'a Row<'_>, column: &str) -> Result<ValueRef<'a>, Damaged> {
    row.get_ref(column).map_err(|_| Damaged::new(column, "no such column"))
}

/// All rows of a statement, each through `read`.
pub(super) fn all<T, P: rusqlite::Params>(
    tx: &Transaction<'_>,
    sql: &str,
    params: P,
    read: impl Fn(&dyn Columns) -> Result<T, Damaged>,
) -> Result<Vec<T>, Fail> {
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// The first row of a statement, if there is one.
pub(super) fn first<T, P: rusqlite::Params>(
    tx: &Transaction<'_>,
    sql: &str,
    params: P,
    read: impl Fn(&dyn Columns) -> Result<T, Damaged>,
) -> Result<Option<T>, Fail> {
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    Ok(rows.next()?.map(|row| read(row)).transpose()?)
}
