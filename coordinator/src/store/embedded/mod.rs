//! The store in a file: SQLite, for a site that wants no database server.
//!
//! One thread writes, a transaction per turn, durable before it answers; a few connections read beside it. The file
//! belongs to the coordinator's account alone. It can be copied with any tool that knows SQLite while in use.

mod blobs;
mod check;
mod connection;
mod error;
mod jobs;
mod leadership;
#[cfg(test)]
pub mod plans;
mod reader;
mod registry;
mod schema;
#[cfg(test)]
mod tests;
mod turn;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Transaction;

pub(crate) use self::error::Fail;
#[cfg(test)]
use self::schema::MIGRATIONS;
pub use self::{check::check, error::is_full, schema::script};
use self::{reader::Readers, writer::Writer};
use super::{Lead, Store, StoreResult, lead::Kind};

/// Opens (or makes) the store in a folder and brings it to this program's version.
pub async fn open(dir: &Path) -> StoreResult<Arc<dyn Store>> {
    let dir = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(dir)).await.map_err(|_| Fail::Stopped)?;
    Ok(Arc::new(opened?))
}

/// Brings the database in a folder to this program's version, making it if need be. How many steps were applied.
pub async fn migrate(dir: &Path) -> StoreResult<usize> {
    let dir = dir.to_owned();
    let migrated = tokio::task::spawn_blocking(move || {
        let file = connection::create(&dir)?;
        schema::migrate(&mut connection::writer(&file)?)
    });
    Ok(migrated.await.map_err(|_| Fail::Stopped)??)
}

/// The store in one folder.
struct Embedded {
    dir: PathBuf,
    writer: Arc<Writer>,
    readers: Readers,
}

impl Embedded {
    fn open(dir: PathBuf) -> Result<Self, Fail> {
        let file = connection::create(&dir)?;
        let writer = Arc::new(Writer::start(&file)?);
        Ok(Self { dir, writer, readers: Readers::new(file) })
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> StoreResult<T> {
        Ok(self.writer.write(work).await?)
    }

    async fn fenced<T: Send + 'static>(
        &self,
        lead: &Lead,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> StoreResult<T> {
        Ok(self.writer.fenced(lead, Kind::Other, work).await?)
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> StoreResult<T> {
        Ok(self.readers.read(work).await?)
    }
}
