//! The way from the command line and the tray to the running agent: a local socket of the data folder that only the
//! agent's user may use, one JSON request and one JSON response per line. A service has a second one, see [`service`].

use std::{io, path::Path, pin::Pin, sync::Arc, time::Duration};

use lull_session::Standing;
use lull_shared::policy::Changes;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use crate::status::Status;

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

/// A request's line; the longest is far below it.
const REQUEST_BYTES_MAX: u64 = 4 * 1024;
/// Whoever says nothing for this long is cut off.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Conversations at once.
const CONVERSATIONS_MAX: usize = 8;

/// What the agent is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    Status,
    /// Leave the machine to its owner, for so long or until `Resume`.
    Pause {
        for_ms: Option<u64>,
    },
    Resume,
    /// Which policy holds.
    Policy,
    /// Narrow the policy so, in place of how it was narrowed before.
    Narrow(Box<Changes>),
    /// Stop, in good order.
    Leave,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    Status(Box<Status>),
    Policy(Box<Standing>),
    Done,
    Error {
        message: String,
    },
    /// Whoever asks may not do this.
    Denied {
        message: String,
    },
}

/// The agent was not asked, or its answer was not understood.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    #[error(
        "no agent is running with this data folder ({0})\nhint: start it with `lull-agent run`, or name its folder with --data"
    )]
    NotRunning(String),
    #[error("the agent's socket cannot be used: {0}\nhint: run this as the user that the agent runs as")]
    Denied(io::Error),
    #[error("the agent did not answer in time\nhint: its log may say why")]
    Silent,
    #[error("the agent did not answer: {0}\nhint: its log may say why; `lull-agent status` says whether it runs")]
    Broken(io::Error),
    #[error(
        "the agent's answer is not understood ({0})\nhint: look whether it is of another version; starting it anew makes both alike"
    )]
    Garbage(serde_json::Error),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Forbidden(String),
}

/// A request that came, and where its answer goes.
pub struct Call {
    pub request: Request,
    pub reply: oneshot::Sender<Response>,
}

/// Listens in the data folder and hands requests to the run loop until the listener is dropped with its task.
pub fn listen(data: &Path, calls: mpsc::Sender<Call>) -> io::Result<tokio::task::AbortHandle> {
    Ok(tokio::spawn(accept(sys::listen(data)?, calls)).abort_handle())
}

async fn accept(mut listener: sys::Listener, calls: mpsc::Sender<Call>) {
    let places = Arc::new(Semaphore::new(CONVERSATIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match sys::accept(&mut listener).await {
            Ok(stream) => {
                let calls = calls.clone();
                tokio::spawn(async move {
                    let _place = place;
                    let (reader, writer) = tokio::io::split(stream);
                    if let Err(error) = converse(reader, writer, calls, &anybody()).await {
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

/// What a caller of a service may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    Desk,
    Administrator,
}

/// What a request takes.
fn right(request: &Request) -> Right {
    match request {
        Request::Status | Request::Policy | Request::Pause { .. } | Request::Resume => Right::Desk,
        Request::Narrow(_) | Request::Leave => Right::Administrator,
    }
}

/// Whether a caller may ask for something, and if not, why.
type May = Arc<dyn Fn(&Request) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Whoever can open the socket in the data folder owns it.
fn anybody() -> May {
    Arc::new(|_| Box::pin(std::future::ready(Ok(()))))
}

/// Answers requests, each if its caller may, until the other end is closed.
async fn converse(
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    calls: mpsc::Sender<Call>,
    may: &May,
) -> io::Result<()> {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        let read = timeout(REQUEST_TIME_MAX, (&mut reader).take(REQUEST_BYTES_MAX).read_line(&mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let response = match serde_json::from_str(&line) {
            Ok(request) => match may(&request).await {
                Ok(()) => ask_run_loop(request, &calls).await,
                Err(message) => Response::Denied { message },
            },
            Err(error) => Response::Error { message: format!("not a request: {error}") },
        };
        let mut line = serde_json::to_string(&response).map_err(io::Error::other)?;
        line.push('\n');
        writer.write_all(line.as_bytes()).await?;
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

/// Asks the agent that runs with a data folder.
pub async fn ask(data: &Path, request: &Request) -> Result<Response, IpcError> {
    let stream = sys::connect(data).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => IpcError::NotRunning(data.display().to_string()),
        io::ErrorKind::InvalidInput => IpcError::Broken(error),
        _ => IpcError::Denied(error),
    })?;
    let (reader, writer) = tokio::io::split(stream);
    speak(reader, writer, request).await
}

/// Says a request and reads the answer.
async fn speak(
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    request: &Request,
) -> Result<Response, IpcError> {
    let conversation = async {
        let mut reader = BufReader::new(reader);
        let mut line = serde_json::to_string(request).map_err(IpcError::Garbage)?;
        line.push('\n');
        writer.write_all(line.as_bytes()).await.map_err(IpcError::Broken)?;
        line.clear();
        reader.read_line(&mut line).await.map_err(IpcError::Broken)?;
        serde_json::from_str(&line).map_err(IpcError::Garbage)
    };
    match timeout(REQUEST_TIME_MAX, conversation).await.map_err(|_| IpcError::Silent)?? {
        Response::Error { message } => Err(IpcError::Refused(message)),
        Response::Denied { message } => Err(IpcError::Forbidden(message)),
        response => Ok(response),
    }
}

#[cfg(test)]
pub(crate) mod tests {
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
        let _listener = listen(data.path(), answering(Response::Done)).expect("a socket");
        let pause = Request::Pause { for_ms: Some(5) };
        assert_eq!(ask(data.path(), &pause).await.expect("an answer"), Response::Done);
    }

    #[tokio::test]
    async fn what_is_no_request_is_told_so() {
        let data = tempfile::tempdir().expect("a folder");
        let _listener = listen(data.path(), answering(Response::Done)).expect("a socket");
        let mut stream = sys::connect(data.path()).await.expect("a connection");
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
        let _listener = listen(data.path(), answering(Response::Done)).expect("the dead socket gives way");
        let mode = std::fs::metadata(data.path().join("agent.sock")).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
