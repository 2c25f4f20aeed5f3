//! The agent's pipe to an executor: attempts and their inputs, as many in one write as are waiting.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lull_shared::{codec, id::AttemptId, state::Part};
use tokio::{
    fs::File,
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    process::ChildStdin,
    sync::mpsc,
};

use crate::executor::{
    handle::{
        files::{self, Opened},
        process::{Event, Input, Order},
        runs::Shared,
    },
    protocol::{self, Load, Resume, ToExecutor},
};

/// Attempts taken from the queue at once.
const BATCH: usize = 256;
/// What is copied from a file at once.
const COPY_BYTES: usize = 256 << 10;
/// Bytes gathered before they are written.
const GATHER_BYTES: usize = 256 << 10;

/// Writes until the handle is dropped or the process gone. A broken pipe ends it in silence: the
/// reader sees the same death and tells it.
pub(in crate::executor) async fn write(
    mut pipe: ChildStdin,
    mut orders: mpsc::UnboundedReceiver<Order>,
    load: Load,
    shared: Arc<Shared>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while orders.recv_many(&mut batch, BATCH).await > 0 {
        if let Err(error) = write_batch(&mut pipe, batch.drain(..), &load, &shared).await {
            if error.kind() != io::ErrorKind::BrokenPipe {
                shared.fail(Part::Cache, format!("an input cannot be read: {error}"));
            }
            return;
        }
    }
}

/// Writes one message.
pub(in crate::executor) async fn send(pipe: &mut ChildStdin, message: &ToExecutor) -> io::Result<()> {
    pipe.write_all(&codec::encode_frame(message)).await
}

async fn write_batch(pipe: &mut ChildStdin, orders: impl Iterator<Item = Order>, load: &Load, shared: &Shared) -> io::Result<()> {
    let mut gathered = Vec::new();
    for order in orders {
        let run = match order {
            Order::Run(run) => run,
            Order::Serve(world) => {
                gathered.extend(codec::encode_frame(&ToExecutor::Serve(*world)));
                continue;
            }
        };
        let body = match run.resume {
            Some(snapshot) => open(&snapshot, run.attempt, run.output, load, shared).await,
            None => None,
        };
        let (resume, body) = body.unzip();
        let (input, file) = match run.input {
            Input::Inline(bytes) => (protocol::Input::Inline(bytes), None),
            Input::File(path) => {
                let file = File::open(path).await?;
                let size_bytes = file.metadata().await?.len();
                (protocol::Input::Stream { size_bytes }, Some((file, size_bytes)))
            }
        };
        gathered.extend(codec::encode_frame(&ToExecutor::Run(protocol::Run { attempt: run.attempt, input, resume })));
        let body = resume.zip(body).map(|(resume, body)| (body, resume.body.size_bytes));
        for (file, size_bytes) in body.into_iter().chain(file) {
            pipe.write_all(&std::mem::take(&mut gathered)).await?;
            let mut file = io::BufReader::with_capacity(COPY_BYTES, file.take(size_bytes));
            if io::copy_buf(&mut file, pipe).await? < size_bytes {
                return Err(io::Error::other("an input file became shorter while it was read"));
            }
        }
        if gathered.len() >= GATHER_BYTES {
            pipe.write_all(&std::mem::take(&mut gathered)).await?;
        }
    }
    pipe.write_all(&gathered).await
}

/// Opens the snapshot that an attempt goes on from; none if it does not fit, which is told.
async fn open(snapshot: &Path, attempt: AttemptId, output: PathBuf, load: &Load, shared: &Shared) -> Option<(Resume, File)> {
    match files::open(snapshot, attempt, load, output).await {
        Ok(Opened { seal, file, output }) => {
            let resume = Resume { body: seal.body, output_bytes: seal.output.size_bytes, usage: seal.usage };
            shared.go_on(attempt, Duration::from_micros(seal.ran_us), output);
            Some((resume, file))
        }
        Err(unfit) => {
            shared.tell(Event::Refused { attempt, unfit });
            None
        }
    }
}
