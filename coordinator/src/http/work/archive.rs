//! All outputs of a job as one archive, made while it is sent: nothing of it is kept, and little of it is in memory.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    sync::{Arc, LazyLock},
};

use axum::{
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use lull_shared::{bound, id::JobId, message::Payload};
use serde::Deserialize;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit, mpsc},
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::{
    cli::names,
    http::{
        Interface, Shared,
        door::{
            auth::{Asked, At, Viewer},
            error::{Answer, Refused},
            page::Limit,
        },
        work::{jobs, tasks},
    },
    store::record::ResultRecord,
};

/// Archives that are made at once: each has a thread, and a few pieces in memory.
const AT_ONCE_MAX: usize = 4;
/// Pieces that wait to be taken by whoever downloads.
const PIECES_WAITING: usize = 4;
/// Outputs in one archive; `from` asks for those after.
pub(crate) const ENTRIES_MAX: u32 = bound::TASKS_PAGE.most as u32;
/// What is collected before it is sent.
const PIECE_BYTES: usize = 64 * 1024;
/// Outputs that are looked up at once.
const PART: u32 = 200;

static PLACES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(AT_ONCE_MAX));

/// Which outputs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    from: Option<u32>,
    limit: Option<Limit<{ bound::TASKS_PAGE.most }>>,
}

/// `GET /jobs/{job}/archive`: the outputs of succeeded tasks from an index on, as a ZIP archive.
pub(crate) async fn archive(
    State(state): Shared,
    _viewer: Viewer,
    At(job): At<JobId>,
    Asked(asked): Asked<Part>,
) -> Answer<Response> {
    let record = jobs::remembered(&state, job).await?;
    let place = PLACES.try_acquire().map_err(|_| Refused::busy(format!("{AT_ONCE_MAX} archives are being made already")))?;
    let (from, limit) = (asked.from.unwrap_or(0), Limit::or(asked.limit, ENTRIES_MAX));
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES_WAITING);
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || {
        let making = Making { state, record, handle, _place: place };
        if let Err(error) = making.write(from, limit, Out { sender: sender.clone(), held: Vec::new() }) {
            tracing::debug!(%error, "an archive was not finished");
            // The connection breaks off, so that nobody takes it for whole.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let parts = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let name = format!("attachment; filename=\"{job}.zip\"");
    let kind = [(header::CONTENT_TYPE, "application/zip".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((kind, Body::from_stream(parts)).into_response())
}

/// An archive that is being made, on a thread of its own.
struct Making {
    state: Arc<Interface>,
    record: crate::store::record::JobRecord,
    handle: Handle,
    _place: SemaphorePermit<'static>,
}

impl Making {
    fn write(&self, from: u32, limit: u32, out: Out) -> io::Result<()> {
        let mut zip = ZipWriter::new_stream(out);
        let (mut from, mut left, mut taken) = (from, limit, BTreeSet::new());
        while left > 0 {
            let part = left.min(PART);
            let store = &self.state.coordinator.store;
            let results = self.handle.block_on(store.results(self.record.job, from, part)).map_err(io::Error::other)?;
            for result in &results {
                let name = self.name(result, &mut taken)?;
                self.entry(&mut zip, &name, result)?;
            }
            left -= part;
            match results.last().filter(|_| results.len() as u32 == part).and_then(|last| last.task.index.checked_add(1)) {
                Some(next) => from = next,
                None => break,
            }
        }
        zip.finish().map_err(io::Error::other)?.into_inner().finish()
    }

    /// Named like its input, and never like another.
    fn name(&self, result: &ResultRecord, taken: &mut BTreeSet<String>) -> io::Result<String> {
        let index = result.task.index;
        let label = self
            .handle
            .block_on(tasks::label(&self.state, &self.record, index))
            .map_err(|_| io::Error::other("an input cannot be read"))?;
        let own = names::paths(&[label], "").pop().unwrap_or_default();
        let last = own.rsplit('/').next().unwrap_or_default();
        let own = if last.is_empty() || last == "task-0" { format!("task-{index}") } else { last.to_owned() };
        let free = taken.insert(own.to_lowercase());
        Ok(if free { own } else { format!("{index}-{own}") })
    }

    fn entry(&self, zip: &mut ZipWriter<zip::write::StreamWriter<Out>>, name: &str, result: &ResultRecord) -> io::Result<()> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).large_file(true);
        zip.start_file(name, options).map_err(io::Error::other)?;
        match &result.output {
            Payload::Inline(bytes) => zip.write_all(bytes),
            Payload::Blob(blob) => {
                let pieces = if blob.size_bytes == 0 { 0 } else { blob.pieces() };
                for index in 0..pieces {
                    let store = &self.state.coordinator.store;
                    let piece = self.handle.block_on(store.blob_piece(&blob.digest, index)).map_err(io::Error::other)?;
                    zip.write_all(&piece.ok_or_else(|| io::Error::other("a piece is missing"))?)?;
                }
                Ok(())
            }
        }
    }
}

/// Where the archive goes: to whoever downloads it, as fast as it is taken.
struct Out {
    sender: mpsc::Sender<io::Result<Bytes>>,
    held: Vec<u8>,
}

impl Out {
    fn send(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.held));
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes it any more"))
    }

    fn finish(mut self) -> io::Result<()> {
        if self.held.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
