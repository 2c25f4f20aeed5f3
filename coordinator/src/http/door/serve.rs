//! Connections of the interface: accepted while there are places, served, and cut when their time is over.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::Uri,
    response::{IntoResponse as _, Response},
};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use lull_mesh::source_of;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    certificate::Certificate,
    http::door::{
        body::{Kept, Offered, Timed, Untaken},
        failures::Source,
        front::{self, Front},
        guests::{Guest, Guests, Serving},
        headers,
        hosts::Hosts,
        tls::{Spoken, Tls},
    },
};

/// A client that takes nothing of its answer for this long is gone.
const WRITE_TIME_MAX: Duration = Duration::from_secs(60);
/// What one connection buffers of what it reads: a head, and a part of a body.
const BUFFER_BYTES: usize = 32 * 1024;
/// How long nobody is accepted after the system could not: it is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether answers over HTTP/2 are taken.
const TAKEN_CHECK: Duration = Duration::from_secs(5);
/// Requests at once on one connection of HTTP/2: the pages that somebody has open, each with its stream of news.
const STREAMS_MAX: u32 = 64;
/// What one request's headers may take in memory.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// What may come of one body, and of all of a connection, before it was read.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// What is kept of an answer until it was sent.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// Requests that were taken back before they were looked at, and that broke the protocol: no browser has so many.
const RESETS_MAX: usize = 32;
/// Whoever does not answer in this time after being silent for as long is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
/// What tells whether a server lives says nothing that is worth a check, and who balances load asks by any name.
const HEALTH: &str = "/health";

/// What stands behind the address of the interface.
pub struct Entrance {
    pub front: Front,
    pub hosts: Hosts,
    /// What is shown to connections by HTTPS; without one they are plain.
    pub certificate: Option<Arc<Certificate>>,
    /// The path under which people find the interface behind a proxy, without a slash at its end; empty at the root.
    pub base: String,
}

/// Answers on `listener` until `shutdown`; waits for answers that are on their way.
pub async fn serve(listener: TcpListener, entrance: Entrance, shutdown: CancellationToken) -> io::Result<()> {
    let Entrance { front, hosts, certificate, base } = entrance;
    let tls = certificate.map(Tls::new);
    let https_only = tls.as_ref().is_some_and(Tls::is_vouched_for);
    let house = Arc::new(House { front, hosts, base, https_only });
    let (guests, tasks) = (Guests::default(), TaskTracker::new());
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
        let door = Arc::new(Door {
            house: house.clone(),
            guest: Arc::new(guest),
            local: stream.local_addr().ok(),
            source: Source { ip: source_of(address.ip()), secure: tls.is_some() },
        });
        let (guests, tls, shutdown) = (guests.clone(), tls.clone(), shutdown.clone());
        tasks.spawn(async move {
            let guest = door.guest.clone();
            tokio::select! {
                () = receive(stream, tls, door, shutdown) => {}
                () = guest.overdue() => {}
            }
            drop(guest);
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

/// What is the same for all connections.
struct House {
    front: Front,
    hosts: Hosts,
    base: String,
    https_only: bool,
}

/// What answers on one connection.
struct Door {
    house: Arc<House>,
    guest: Arc<Guest>,
    local: Option<SocketAddr>,
    source: Source,
}

impl Door {
    async fn answer(&self, mut request: Request) -> Response {
        let house = &*self.house;
        request.extensions_mut().insert(self.source);
        request.extensions_mut().insert(self.guest.clone());
        if let Some(below) = below(request.uri(), &house.base) {
            *request.uri_mut() = below;
        }
        let checked = match request.uri().path() {
            HEALTH => Ok(()),
            _ => house.hosts.check(request.method(), request.uri(), request.headers(), self.local),
        };
        let mut response = match checked {
            Ok(()) => front::answer(State(house.front.clone()), request).await,
            Err(refused) => refused.into_response(),
        };
        headers::dress(&mut response, house.https_only);
        response
    }
}

/// An address without the path under which the interface is; none if it is not below it. A proxy may have taken it off.
fn below(uri: &Uri, base: &str) -> Option<Uri> {
    let rest = uri.path().strip_prefix(base).filter(|rest| !base.is_empty() && (rest.is_empty() || rest.starts_with('/')))?;
    let rest = if rest.is_empty() { "/" } else { rest };
    let whole = uri.query().map_or_else(|| rest.to_owned(), |query| format!("{rest}?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(whole.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Finds out what is spoken on a connection, and answers in it.
async fn receive(stream: TcpStream, tls: Option<Tls>, door: Arc<Door>, shutdown: CancellationToken) {
    // Without this a small answer waits for the acknowledgement of the one before it: 40 ms.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIME_MAX));
    let stream = Box::pin(stream);
    let Some(tls) = tls else { return converse(stream, door, shutdown).await };
    // A handshake has as much time as the head of a request.
    door.guest.heard();
    let Some(begun) = shutdown.run_until_cancelled(tls.begin(stream)).await else { return };
    door.guest.rest();
    match begun {
        Ok(Spoken::Http2(stream)) => converse_at_once(*stream, door, shutdown).await,
        Ok(Spoken::Http1(stream)) => converse(*stream, door, shutdown).await,
        Ok(Spoken::Nothing) => {}
        Err(error) => tracing::debug!(%error, "a connection did not become HTTPS"),
    }
}

/// One request after the other.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, door: Arc<Door>, shutdown: CancellationToken) {
    let io = TokioIo::new(Heard { stream, guest: door.guest.clone() });
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (door, serving) = (door.clone(), Serving::begin(door.guest.clone()));
        async move {
            let response = door.answer(request.map(|body| Body::new(Timed::new(body)))).await;
            Ok::<_, Infallible>(response.map(|body| Kept::new(body, serving)))
        }
    });
    let mut connection = pin!(http1::Builder::new().max_buf_size(BUFFER_BYTES).serve_connection(io, service));
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return note_end(ended),
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Many requests at once, as HTTP/2 has them. What the other side does not take of its answers is noticed here: the connection
/// itself may go on well meanwhile.
async fn converse_at_once<S: AsyncRead + AsyncWrite + Unpin>(stream: S, door: Arc<Door>, shutdown: CancellationToken) {
    let untaken = Arc::<Untaken>::default();
    let waits = untaken.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (door, serving, waits) = (door.clone(), Serving::begin(door.guest.clone()), waits.clone());
        async move {
            let response = door.answer(request.map(|body| Body::new(Timed::new(body)))).await;
            Ok::<_, Infallible>(response.map(|body| Kept::new(Body::new(Offered::new(body, waits)), serving)))
        }
    });
    let tied = Tied::default();
    let mut builder = http2::Builder::new(tied.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return note_end(ended),
            () = sleep(TAKEN_CHECK) => {
                if untaken.since().is_some_and(|since| since.elapsed() >= WRITE_TIME_MAX) {
                    return;
                }
            }
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn note_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended");
    }
}

/// Runs the requests of one connection, which end with it.
#[derive(Clone, Default)]
struct Tied(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tied {
    fn execute(&self, work: F) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(work);
    }
}

/// A stream that says when something came in.
struct Heard<S> {
    stream: S,
    guest: Arc<Guest>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.guest.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
    fn what_is_below_the_path_of_a_proxy_is_found_with_it_and_without() {
        let below = |uri: &str| below(&uri.parse().expect("an address"), "/lull").map(|uri| uri.to_string());
        assert_eq!(below("/lull/api/v1/jobs?limit=5").as_deref(), Some("/api/v1/jobs?limit=5"));
        assert_eq!(below("/lull").as_deref(), Some("/"));
        assert_eq!(below("https://host/lull/").as_deref(), Some("https://host/"));
        for other in ["/api/v1/jobs", "/lullaby", "/"] {
            assert_eq!(below(other), None, "{other}");
        }
        assert_eq!(super::below(&Uri::from_static("/x"), ""), None);
    }

    #[test]
    fn only_what_concerns_a_single_connection_lets_others_come_at_once() {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, OutOfMemory, PermissionDenied};
        let kinds = [ConnectionAborted, ConnectionRefused, ConnectionReset, OutOfMemory, PermissionDenied];
        assert_eq!(kinds.map(|kind| is_of_connection(&kind.into())), [true, true, true, false, false]);
    }
}
