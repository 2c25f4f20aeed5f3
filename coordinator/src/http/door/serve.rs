//! Connections of the interface: accepted while there are places, served, and cut when their time is over.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use lull_mesh::source_of;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::http::door::{
    body::{Kept, Timed},
    failures::Source,
    front::{self, Front},
    guests::{Guest, Guests, Serving},
    hosts::Hosts,
};

/// A client that takes nothing of its answer for this long is gone.
const WRITE_TIME_MAX: Duration = Duration::from_secs(60);
/// What one connection buffers of what it reads: a head, and a part of a body.
const BUFFER_BYTES: usize = 32 * 1024;
/// How long nobody is accepted after the system could not: it is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What tells whether a server lives says nothing that is worth a check, and who balances load asks by any name.
const HEALTH: &str = "/health";

/// Answers on `listener` until `shutdown`; waits for answers that are on their way.
pub async fn serve(listener: TcpListener, front: Front, hosts: Hosts, shutdown: CancellationToken) -> io::Result<()> {
    let (guests, hosts, tasks) = (Guests::default(), Arc::new(hosts), TaskTracker::new());
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "nobody can connect to the HTTP interface at the moment");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(guest) = guests.enter(address.ip()) else {
            tracing::debug!(%address, "a connection was not taken: there are too many");
            continue;
        };
        let guest = Arc::new(guest);
        let door = Door {
            front: front.clone(),
            guest: guest.clone(),
            hosts: hosts.clone(),
            local: stream.local_addr().ok(),
            source: Source { ip: source_of(address.ip()), secure: false },
        };
        let (guests, shutdown) = (guests.clone(), shutdown.clone());
        tasks.spawn(async move {
            converse(stream, guest, door, shutdown).await;
            if guests.has_calmed() {
                // The allocator keeps what it got for a crowd. Nothing depends on it.
                drop(tokio::task::spawn_blocking(give_memory_back));
            }
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
    Ok(())
}

#[cfg(unix)]
fn give_memory_back() {
    lull_engine::memory::give_back();
}

#[cfg(not(unix))]
fn give_memory_back() {}

/// Whether only the connection that was being accepted is lost.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What answers on one connection.
struct Door {
    front: Front,
    guest: Arc<Guest>,
    hosts: Arc<Hosts>,
    local: Option<SocketAddr>,
    source: Source,
}

impl Door {
    async fn answer(&self, mut request: Request) -> Response {
        request.extensions_mut().insert(self.source);
        request.extensions_mut().insert(self.guest.clone());
        let checked = match request.uri().path() {
            HEALTH => Ok(()),
            _ => self.hosts.check(request.method(), request.uri(), request.headers(), self.local),
        };
        match checked {
            Ok(()) => front::answer(State(self.front.clone()), request).await,
            Err(refused) => refused.into_response(),
        }
    }
}

async fn converse(stream: TcpStream, guest: Arc<Guest>, door: Door, shutdown: CancellationToken) {
    // Without this a small answer waits for the acknowledgement of the one before it: 40 ms.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIME_MAX));
    let io = TokioIo::new(Heard { stream: Box::pin(stream), guest: guest.clone() });
    let door = Arc::new(door);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (door, serving) = (door.clone(), Serving::begin(door.guest.clone()));
        async move {
            let response = door.answer(request.map(|body| Body::new(Timed::new(body)))).await;
            Ok::<_, Infallible>(response.map(|body| Kept::new(body, serving)))
        }
    });
    let mut connection = pin!(http1::Builder::new().max_buf_size(BUFFER_BYTES).serve_connection(io, service));
    let mut overdue = pin!(guest.overdue());
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%error, "a connection ended");
                }
                return;
            }
            () = overdue.as_mut() => return,
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A stream that says when something came in.
struct Heard {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    guest: Arc<Guest>,
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.stream.as_mut().poll_read(cx, buf);
        if buf.filled().len() > before {
            self.guest.heard();
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use crate::http::door::guests::Phase;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Both ends of a connection.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn a_request_begins_with_its_first_byte_and_not_with_the_end_of_a_connection() {
        let guests = Guests::default();
        let guest = || Arc::new(guests.enter([127, 0, 0, 1].into()).expect("room"));
        let heard = |stream, guest: &Arc<Guest>| Heard { stream: Box::pin(TimeoutStream::new(stream)), guest: guest.clone() };
        let (mut near, far) = connection().await;
        let talks = guest();
        assert_eq!(talks.phase(), Some(Phase::Idle));
        near.write_all(b"G").await.expect("sent");
        let mut byte = [0];
        heard(far, &talks).read_exact(&mut byte).await.expect("it came");
        assert_eq!((byte, talks.phase()), (*b"G", Some(Phase::Head)));
        let (near, far) = connection().await;
        drop(near);
        let leaves = guest();
        assert_eq!(heard(far, &leaves).read(&mut byte).await.expect("it ended"), 0);
        assert_eq!(leaves.phase(), Some(Phase::Idle));
        drop(Serving::begin(talks.clone()));
        assert_eq!(talks.phase(), Some(Phase::Idle), "it is idle again when its answer was given");
    }

    #[test]
    fn only_what_concerns_a_single_connection_lets_others_come_at_once() {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, OutOfMemory, PermissionDenied};
        let kinds = [ConnectionAborted, ConnectionRefused, ConnectionReset, OutOfMemory, PermissionDenied];
        assert_eq!(kinds.map(|kind| is_of_connection(&kind.into())), [true, true, true, false, false]);
    }
}
