//! Bytes in and out, a piece at a time: no blob is ever held in memory whole.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use lull_shared::{
    digest::{BlobRef, Digest},
    limits::BLOB_BYTES_MAX,
};

use crate::{
    api::BlobBody,
    clock,
    http::{
        Shared,
        door::{
            auth::{At, Submitter, Viewer},
            error::{Answer, Refused},
            headers,
            shares::Kind,
        },
    },
    store::Blobs,
};

/// `PUT /blobs`
pub(crate) async fn upload(State(state): Shared, caller: Submitter, headers: HeaderMap, body: Body) -> Answer<Json<BlobBody>> {
    check_length(&headers, BLOB_BYTES_MAX)?;
    let _place = state.shares.take(caller.token.0, Kind::Uploads, 1)?;
    let mut spooled = state.shares.take(caller.token.0, Kind::SpooledBytes, 0)?;
    let (mut spool, mut size) = (state.spools.begin(), 0);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(Refused::cut_short)?;
        size += part.len() as u64;
        if size > BLOB_BYTES_MAX {
            return Err(too_large(BLOB_BYTES_MAX));
        }
        spooled.more(part.len() as u64)?;
        spool.write(&part).await?;
    }
    Ok(Json(spool.pour(&*state.coordinator.store).await?.finish().await?.into()))
}

/// `GET /blobs/{digest}`. Whoever only asks whether it is there, by `HEAD`, need not bring it: it stays.
pub(crate) async fn download(State(state): Shared, _viewer: Viewer, method: Method, At(digest): At<Digest>) -> Answer<Response> {
    let store = &state.coordinator.store;
    let found = match method {
        Method::HEAD => store.touch_blob(&digest, clock::now()).await?,
        _ => store.blob_outline(&digest).await?.map(|(blob, _)| blob),
    };
    let Some(blob) = found else {
        return Err(Refused::not_found("there is no blob with this digest", "it may have been swept; upload it again"));
    };
    Ok(stream(state.coordinator.store.clone(), blob))
}

/// An answer whose body is a blob, read as fast as it is taken.
pub(crate) fn stream(store: Arc<dyn Blobs>, blob: BlobRef) -> Response {
    let digest = blob.digest;
    let pieces = if blob.size_bytes == 0 { 0 } else { blob.pieces() };
    let parts = futures::stream::iter(0..pieces).then(move |index| {
        let store = store.clone();
        async move {
            match store.blob_piece(&digest, index).await {
                Ok(Some(piece)) => Ok(piece),
                // The connection breaks off, and the length in the header says that something is missing.
                Ok(None) => Err(std::io::Error::other("a piece is missing")),
                Err(error) => {
                    tracing::warn!(%error, %digest, index, "a piece could not be read");
                    Err(std::io::Error::other("a piece could not be read"))
                }
            }
        }
    });
    answer(Body::from_stream(parts), blob)
}

/// An answer whose body is these bytes.
pub(crate) fn inline(bytes: Bytes) -> Response {
    let blob = BlobRef::of(&bytes);
    answer(Body::from(bytes), blob)
}

fn answer(body: Body, blob: BlobRef) -> Response {
    let mut response = body.into_response();
    let said = response.headers_mut();
    said.insert(header::CONTENT_LENGTH, HeaderValue::from(blob.size_bytes));
    let tag = format!("\"{}\"", blob.digest);
    said.insert(header::ETAG, HeaderValue::try_from(tag).expect("a digest is plain text"));
    // What a function wrote is never to be taken for a page of ours by a browser.
    headers::download(&mut response);
    response
}

/// Refuses a body that announces too much, before it is read.
pub(crate) fn check_length(headers: &HeaderMap, max: u64) -> Answer<()> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > max) { Err(too_large(max)) } else { Ok(()) }
}

/// The refusal of a body that is too large.
pub(crate) fn too_large(max: u64) -> Refused {
    Refused::too_large(format!("the body is too large; at most {} are taken", bytesize::ByteSize(max)))
}
