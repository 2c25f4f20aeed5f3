//! The one thread that writes: a transaction for each request, in the order in which they come.

use std::{
    path::Path,
    sync::mpsc::{self, Receiver, Sender},
    thread::JoinHandle,
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::{
    super::{Lead, lead::Kind},
    connection,
    error::{Fail, rolled_back},
    leadership::fence,
    schema,
};

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the thread. It ends with the handle, after the work that was handed to it.
pub(super) struct Writer {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Opens the file, brings it to this program's version and starts the thread.
    pub(super) fn start(file: &Path) -> Result<Self, Fail> {
        let mut connection = connection::writer(file)?;
        schema::migrate(&mut connection)?;
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("lull-store".into())
            .spawn(move || serve(connection, receiver))
            .map_err(|source| Fail::File { path: "a thread for the store".into(), source })?;
        Ok(Self { work: Some(sender), thread: Some(thread) })
    }

    /// Runs `work` in a transaction that is durable when this returns. It runs to its end even if nobody waits.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, Fail> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let _ = answer.send(transact(connection, work));
        });
        self.work.as_ref().and_then(|sender| sender.send(work).ok()).ok_or(Fail::Stopped)?;
        answered.await.map_err(|_| Fail::Died)?
    }
}

impl Writer {
    /// The same for who leads.
    pub(super) async fn fenced<T: Send + 'static>(
        &self,
        lead: &Lead,
        kind: Kind,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, Fail> {
        let shown = lead.shown(kind);
        let (counts, value) = self.write(move |tx| Ok((fence(tx, &shown)?, work(tx)?))).await?;
        lead.confirmed(counts);
        Ok(value)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.work.take());
        // The last handle may be dropped by the work itself, on the thread that would be waited for.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

fn serve(mut connection: Connection, work: Receiver<Work>) {
    while let Ok(work) = work.recv() {
        work(&mut connection);
    }
    // A tidy file for whoever copies the folder; the log is replayed at the next start otherwise.
    if let Err(error) = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
        tracing::debug!(%error, "the store's log was not folded into its file");
    }
}

fn transact<T>(connection: &mut Connection, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fail>) -> Result<T, Fail> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = work(&tx)?;
    match tx.commit() {
        Ok(()) => Ok(value),
        Err(error) if rolled_back(&error) => Err(Fail::Sqlite(error)),
        Err(error) => Err(Fail::Commit(error)),
    }
}
