//! Brings a job's inputs to the coordinator: small ones in one pack, large ones as blobs beside it, each only once.

use std::{
    collections::BTreeMap,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lull_shared::{
    digest::{BlobRef, OutlineBuilder},
    limits::{BLOB_BYTES_MAX, INLINE_BYTES_MAX},
    pack::{self, PackBuilder},
};
use reqwest::Body;
use tokio_util::io::ReaderStream;

use crate::{
    api::{InputsBody, Text},
    cli::{
        exit::{Exit, Failure},
        typed::input::{Content, Inputs, Item},
    },
    client::Client,
};

/// Inputs that are read or sent at the same time.
const TOGETHER: usize = 4;

/// What a submission says of these inputs; everything it names is with the coordinator on return.
pub(crate) async fn upload(client: &Client, inputs: Inputs) -> Result<InputsBody, Failure> {
    let items = match inputs {
        Inputs::Array(numbers) => {
            return Ok(match numbers.as_range() {
                Some((first, count)) => InputsBody::Range { first, count },
                None => InputsBody::Numbers(Text(numbers)),
            });
        }
        Inputs::Items(items) => items,
    };
    let (labels, contents): (Vec<String>, Vec<Content>) =
        items.into_iter().map(|Item { label, content }| (label, content)).unzip();
    let prepared: Vec<Prepared> =
        futures::stream::iter(contents.into_iter().map(prepare)).buffered(TOGETHER).try_collect().await?;
    // A blob that several inputs share is sent once.
    let large: BTreeMap<_, &Prepared> =
        prepared.iter().filter_map(|prepared| prepared.blob().map(|blob| (blob.digest, prepared))).collect();
    futures::stream::iter(large.into_values().map(Ok))
        .try_for_each_concurrent(TOGETHER, |prepared| send(client, prepared))
        .await?;
    let mut pack = PackBuilder::default();
    for (label, prepared) in labels.iter().zip(&prepared) {
        match prepared {
            Prepared::Inline(bytes) => pack.push(label, pack::Content::Inline(bytes)),
            Prepared::Bytes { blob, .. } | Prepared::File { blob, .. } => pack.push(label, pack::Content::Blob(*blob)),
        }
    }
    let bytes = Bytes::from(pack.finish());
    let blob = BlobRef::of(&bytes);
    if blob.size_bytes > BLOB_BYTES_MAX {
        return Err(Failure::usage("the inputs are too many for one job").hint("split them over several jobs"));
    }
    send(client, &Prepared::Bytes { blob, bytes }).await?;
    Ok(InputsBody::Pack { digest: blob.digest, size_bytes: blob.size_bytes })
}

/// An input of which is known how it travels.
enum Prepared {
    Inline(Bytes),
    Bytes { blob: BlobRef, bytes: Bytes },
    File { blob: BlobRef, file: std::fs::File, label: String },
}

impl Prepared {
    fn blob(&self) -> Option<BlobRef> {
        match self {
            Self::Inline(_) => None,
            Self::Bytes { blob, .. } | Self::File { blob, .. } => Some(*blob),
        }
    }
}

async fn prepare(content: Content) -> Result<Prepared, Failure> {
    match content {
        Content::Bytes(bytes) if bytes.len() <= INLINE_BYTES_MAX => Ok(Prepared::Inline(bytes)),
        Content::Bytes(bytes) => Ok(Prepared::Bytes { blob: BlobRef::of(&bytes), bytes }),
        Content::File { path, size_bytes } if size_bytes > BLOB_BYTES_MAX => {
            let message = format!("{} is larger than {}", path.display(), bytesize::ByteSize(BLOB_BYTES_MAX));
            Err(Failure::usage(message).hint("split it into several inputs"))
        }
        Content::File { path, size_bytes } => {
            let read = move || read_file(&path, size_bytes);
            tokio::task::spawn_blocking(read).await.map_err(anyhow::Error::from)?
        }
    }
}

/// Small files are read, large ones are hashed and read again when they are sent.
fn read_file(path: &Path, size_bytes: u64) -> Result<Prepared, Failure> {
    let failed = |error: std::io::Error| Failure::unreadable(path, &error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    if size_bytes <= INLINE_BYTES_MAX as u64 {
        let mut bytes = Vec::with_capacity(size_bytes as usize);
        file.by_ref().take(INLINE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > INLINE_BYTES_MAX {
            return Err(changed(&path.display().to_string()));
        }
        return Ok(Prepared::Inline(bytes.into()));
    }
    let mut builder = OutlineBuilder::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            read => builder.update(&buffer[..read]),
        }
    }
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(Prepared::File { blob: builder.finish().0, file, label: path.display().to_string() })
}

async fn send(client: &Client, prepared: &Prepared) -> Result<(), Failure> {
    let Some(blob) = prepared.blob() else { return Ok(()) };
    if client.has_blob(&blob.digest).await? {
        return Ok(());
    }
    let (body, label) = match prepared {
        Prepared::Inline(_) => return Ok(()),
        Prepared::Bytes { bytes, .. } => (Body::from(bytes.clone()), "the inputs"),
        Prepared::File { file, label, .. } => {
            let file = file.try_clone().map_err(anyhow::Error::from)?;
            (Body::wrap_stream(ReaderStream::new(tokio::fs::File::from_std(file))), label.as_str())
        }
    };
    let stored = client.upload(body).await?;
    if BlobRef::from(stored) == blob { Ok(()) } else { Err(changed(label)) }
}

fn changed(label: &str) -> Failure {
    Failure::new(Exit::Failed, format!("{label} changed while it was read")).hint("submit again once nobody writes to it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_files_travel_inside_and_large_ones_beside() {
        let folder = tempfile::tempdir().expect("a folder");
        let (small, large) = (folder.path().join("small"), folder.path().join("large"));
        let bytes = vec![7; INLINE_BYTES_MAX + 1];
        std::fs::write(&small, b"few").expect("written");
        std::fs::write(&large, &bytes).expect("written");
        let small = prepare(Content::File { path: small, size_bytes: 3 }).await.expect("read");
        assert!(matches!(small, Prepared::Inline(bytes) if bytes == b"few".as_slice()));
        let large = prepare(Content::File { path: large, size_bytes: bytes.len() as u64 }).await.expect("hashed");
        assert_eq!(large.blob(), Some(BlobRef::of(&bytes)));
    }

    #[tokio::test]
    async fn a_file_that_grew_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        std::fs::write(&path, vec![0; INLINE_BYTES_MAX + 1]).expect("written");
        let failure = prepare(Content::File { path, size_bytes: 3 }).await.err().expect("it changed");
        assert!(failure.message.ends_with("changed while it was read"), "{}", failure.message);
    }
}
