//! How the agent is found and spoken to.

use std::{io, path::PathBuf, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    time::timeout,
};

use crate::{
    sys,
    words::{ANSWER_BYTES_MAX, IpcError, Request, Response},
};

/// An agent that says nothing for this long is not waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// The same where it answers only when others have done something: it gives up sooner itself.
const DISMISSAL_TIME_MAX: Duration = Duration::from_secs(20);

/// Which agent is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// The one of a data folder.
    Folder(PathBuf),
    /// The one of a data folder if it runs, else the service of this machine.
    FolderOrService(PathBuf),
}

impl Whom {
    /// Opens the way to it.
    pub async fn connect(&self) -> Result<sys::Stream, IpcError> {
        let (Self::Folder(data) | Self::FolderOrService(data)) = self;
        let opened = sys::connect(data).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => IpcError::NotRunning(data.display().to_string()),
            io::ErrorKind::InvalidInput => IpcError::Broken(error),
            _ => IpcError::Denied(error),
        });
        match (opened, self) {
            (Err(IpcError::NotRunning(_)), Self::FolderOrService(_)) if sys::is_there() => connect_here().await,
            (opened, _) => opened,
        }
    }

    /// Asks it.
    pub async fn ask(&self, request: &Request) -> Result<Response, IpcError> {
        converse(self.connect().await?, request).await
    }
}

async fn connect_here() -> Result<sys::Stream, IpcError> {
    sys::connect_here().await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => IpcError::NotRunning(sys::HERE.into()),
        _ => IpcError::Denied(error),
    })
}

/// Asks the agent that runs with a data folder.
pub async fn ask(data: &std::path::Path, request: &Request) -> Result<Response, IpcError> {
    Whom::Folder(data.to_owned()).ask(request).await
}

/// Asks the service of this machine.
pub async fn ask_here(request: &Request) -> Result<Response, IpcError> {
    converse(connect_here().await?, request).await
}

async fn converse(stream: sys::Stream, request: &Request) -> Result<Response, IpcError> {
    let (reader, writer) = tokio::io::split(stream);
    speak(reader, writer, request).await
}

/// Says a request and reads the answer.
pub async fn speak(
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    request: &Request,
) -> Result<Response, IpcError> {
    exchange(&mut BufReader::new(reader), &mut writer, request).await
}

/// The same, for whoever goes on to read.
pub(crate) async fn exchange(
    reader: &mut (impl AsyncBufRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    request: &Request,
) -> Result<Response, IpcError> {
    let conversation = async {
        write(writer, request).await.map_err(IpcError::Broken)?;
        read(reader).await?.ok_or_else(|| IpcError::Broken(io::ErrorKind::UnexpectedEof.into()))
    };
    let patience = if matches!(request, Request::Dismiss { .. }) { DISMISSAL_TIME_MAX } else { ANSWER_TIME_MAX };
    match timeout(patience, conversation).await.map_err(|_| IpcError::Silent)?? {
        Response::Error { message } => Err(IpcError::Refused(message)),
        Response::Denied { message } => Err(IpcError::Forbidden(message)),
        response => Ok(response),
    }
}

/// Writes a value as a line.
pub async fn write<T: Serialize>(writer: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// Reads a line that is a value; none when the other end is closed.
pub(crate) async fn read<T: DeserializeOwned>(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<T>, IpcError> {
    let mut line = Vec::new();
    reader.take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line).await.map_err(IpcError::Broken)?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(IpcError::Garbage)
}
