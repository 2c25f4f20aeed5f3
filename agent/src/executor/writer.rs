//! The agent's pipe to an executor: attempts and their inputs, as many in one write as are waiting.

use std::sync::Arc;

use lull_shared::codec;
use tokio::{
    fs::File,
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    process::ChildStdin,
    sync::mpsc,
};

use super::{
    process::{Input, Order, Run, Shared},
    protocol::{self, ToExecutor},
};

/// Attempts taken from the queue at once.
const BATCH: usize = 256;
/// Bytes gathered before they are written.
const GATHER_BYTES: usize = 256 << 10;

/// Writes until the handle is dropped or the process gone. A broken pipe ends it in silence: the
/// reader sees the same death and tells it.
pub(super) async fn write(mut pipe: ChildStdin, mut orders: mpsc::UnboundedReceiver<Order>, shared: Arc<Shared>) {
    let mut batch = Vec::with_capacity(BATCH);
    while orders.recv_many(&mut batch, BATCH).await > 0 {
        if let Err(error) = write_batch(&mut pipe, batch.drain(..)).await {
            if error.kind() != io::ErrorKind::BrokenPipe {
                shared.fail(&error);
            }
            return;
        }
    }
}

/// Writes one message.
pub(super) async fn send(pipe: &mut ChildStdin, message: &ToExecutor) -> io::Result<()> {
    pipe.write_all(&codec::encode_frame(message)).await
}

async fn write_batch(pipe: &mut ChildStdin, orders: impl Iterator<Item = Order>) -> io::Result<()> {
    let mut gathered = Vec::new();
    for order in orders {
        let Run { attempt, input, .. } = match order {
            Order::Run(run) => run,
            Order::Serve(world) => {
                gathered.extend(codec::encode_frame(&ToExecutor::Serve(*world)));
                continue;
            }
        };
        match input {
            Input::Inline(bytes) => {
                let input = protocol::Input::Inline(bytes);
                gathered.extend(codec::encode_frame(&ToExecutor::Run(protocol::Run { attempt, input })));
            }
            Input::File(path) => {
                let file = File::open(path).await?;
                let size_bytes = file.metadata().await?.len();
                let input = protocol::Input::Stream { size_bytes };
                gathered.extend(codec::encode_frame(&ToExecutor::Run(protocol::Run { attempt, input })));
                pipe.write_all(&std::mem::take(&mut gathered)).await?;
                if io::copy(&mut file.take(size_bytes), pipe).await? < size_bytes {
                    return Err(io::Error::other("an input file became shorter while it was read"));
                }
            }
        }
        if gathered.len() >= GATHER_BYTES {
            pipe.write_all(&std::mem::take(&mut gathered)).await?;
        }
    }
    pipe.write_all(&gathered).await
}
