//! The way from the command line and the tray to the running agent: a local socket of the data folder that only the
//! agent's user may use, one JSON request and one JSON response per line. A service has a second one, see [`service`]. The
//! words and the asking end are `lull-desk`'s.

mod company;
#[cfg(any(windows, test))]
mod peer;

use std::{io, path::Path, pin::Pin, sync::Arc, time::Duration};

pub use lull_desk::{IpcError, Request, Response, ask};
use lull_desk::{client::write, words::REQUEST_BYTES_MAX};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

pub use self::company::Company;
use self::company::Hear;

#[cfg(unix)]
pub mod service;
#[cfg(windows)]
#[path = "windows/service.rs"]
pub mod service;
#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod sys;

/// Whoever says nothing for this long is cut off.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Conversations at once; those who stay have places of their own, see [`company`].
const CONVERSATIONS_MAX: usize = 8;

/// A request that came, and where its answer goes.
pub struct Call {
    pub request: Request,
    pub reply: oneshot::Sender<Response>,
}

/// Listens in the data folder and hands requests to the run loop until the listener is dropped with its task.
pub fn listen(data: &Path, calls: mpsc::Sender<Call>, company: Company) -> io::Result<tokio::task::AbortHandle> {
    Ok(tokio::spawn(accept(sys::listen(data)?, calls, company)).abort_handle())
}

async fn accept(mut listener: sys::Listener, calls: mpsc::Sender<Call>, company: Company) {
    let places = Arc::new(Semaphore::new(CONVERSATIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match sys::accept(&mut listener).await {
            Ok(stream) => {
                let (calls, company) = (calls.clone(), company.clone());
                tokio::spawn(async move {
                    let (reader, writer) = tokio::io::split(stream);
                    if let Err(error) = converse(reader, writer, place, calls, &company, &anybody()).await {
                        tracing::debug!(%error, "a local conversation ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a local connection was not accepted");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Whether a caller may ask for something, and if not, why.
type May = Arc<dyn Fn(&Request) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Who speaks, and what they may.
struct Guest {
    may: May,
    /// The user, or the session.
    of: u32,
    /// What is done with what a companion tells, or why it may be none.
    hear: Box<dyn Fn() -> Result<Hear, String> + Send + Sync>,
}

/// An agent sees its own user's desk itself.
fn sees_itself() -> Result<Hear, String> {
    Ok(Box::new(|_| {}))
}

/// Whoever can open the socket in the data folder owns it.
fn anybody() -> Guest {
    Guest { may: Arc::new(|_| Box::pin(std::future::ready(Ok(())))), of: 0, hear: Box::new(sees_itself) }
}

/// Answers requests, each if its caller may, until the other end is closed.
async fn converse(
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    place: OwnedSemaphorePermit,
    calls: mpsc::Sender<Call>,
    company: &Company,
    guest: &Guest,
) -> io::Result<()> {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        let read = timeout(REQUEST_TIME_MAX, (&mut reader).take(REQUEST_BYTES_MAX).read_line(&mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let response = match serde_json::from_str(&line) {
            Ok(request) => match ((guest.may)(&request).await, request) {
                (Err(message), _) => Response::Denied { message },
                (Ok(()), Request::Accompany) => {
                    drop(place);
                    return company.accompany(reader, writer, calls, guest).await;
                }
                (Ok(()), Request::Dismiss { reason }) => company.dismiss(reason).await,
                (Ok(()), request) => ask_run_loop(request, &calls).await,
            },
            Err(error) => Response::Error { message: format!("not a request: {error}") },
        };
        write(&mut writer, &response).await?;
    }
}

async fn ask_run_loop(request: Request, calls: &mpsc::Sender<Call>) -> Response {
    let (reply, answer) = oneshot::channel();
    let stopping = || Response::Error { message: "the agent is stopping".into() };
    match calls.send(Call { request, reply }).await {
        Ok(()) => answer.await.unwrap_or_else(|_| stopping()),
        Err(_) => stopping(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A run loop that answers each request with one response.
    pub(crate) fn answering(response: Response) -> mpsc::Sender<Call> {
        let (calls, mut queue) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(Call { reply, .. }) = queue.recv().await {
                reply.send(response.clone()).expect("somebody waits for the answer");
            }
        });
        calls
    }

    #[tokio::test]
    async fn a_request_reaches_the_agent_and_its_answer_comes_back() {
        let data = tempfile::tempdir().expect("a folder");
        let _listener = listen(data.path(), answering(Response::Done), Company::default()).expect("a socket");
        let pause = Request::Pause { for_ms: Some(5) };
        assert_eq!(ask(data.path(), &pause).await.expect("an answer"), Response::Done);
    }

    #[tokio::test]
    async fn what_is_no_request_is_told_so() {
        let data = tempfile::tempdir().expect("a folder");
        let _listener = listen(data.path(), answering(Response::Done), Company::default()).expect("a socket");
        let mut stream = lull_desk::sys::connect(data.path()).await.expect("a connection");
        stream.write_all(b"{\"request\":\"dance\"}\n").await.expect("written");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.expect("an answer");
        assert!(line.contains("not a request"), "{line}");
    }

    #[tokio::test]
    async fn without_an_agent_it_says_how_to_start_one() {
        let data = tempfile::tempdir().expect("a folder");
        let error = ask(data.path(), &Request::Status).await.expect_err("nobody listens").to_string();
        assert!(error.contains("lull-agent run"), "{error}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_its_user_may_use_the_socket_and_a_dead_one_is_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().expect("a folder");
        let dead = std::os::unix::net::UnixListener::bind(data.path().join("agent.sock")).expect("a socket");
        drop(dead);
        let _listener = listen(data.path(), answering(Response::Done), Company::default()).expect("the dead socket gives way");
        let mode = std::fs::metadata(data.path().join("agent.sock")).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
