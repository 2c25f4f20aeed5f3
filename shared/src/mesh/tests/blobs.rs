//! Blobs and deliveries.

use super::support::{Member, Network, attempt, some_bytes};
use crate::{
    digest::{BlobRef, PIECE_BYTES},
    limits::BLOB_TRANSFERS_MAX,
    mesh::{
        MeshError,
        frames::{read_frame, write_frame},
        streams::Protocol,
    },
    protocol::{BlobReply, BlobRequest, DeliveryReply},
};

const THREE_MEGABYTES: usize = 3 * 1024 * 1024 + 17;

/// An agent that is connected to some holders of a blob of three megabytes.
async fn holders(count: u64) -> (Member, Vec<Member>, BlobRef) {
    holders_in(&Network::new(1), count).await
}

async fn holders_in(network: &Network, count: u64) -> (Member, Vec<Member>, BlobRef) {
    let agent = network.agent(100).await;
    let mut holders = Vec::new();
    let blob = BlobRef::of(&some_bytes(THREE_MEGABYTES));
    for number in 0..count {
        let holder = network.agent(number).await;
        holder.blobs.put(some_bytes(THREE_MEGABYTES));
        agent.connect_to(&holder).await;
        holders.push(holder);
    }
    (agent, holders, blob)
}

#[tokio::test]
async fn a_blob_is_fetched_into_a_file_with_every_piece_verified() {
    let (agent, holders, blob) = holders(1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blob");
    let report = agent.handle.fetch(blob, vec![holders[0].peer()], path.clone()).await.expect("it is fetched");
    assert_eq!(report.received, [(holders[0].peer(), blob.size_bytes)]);
    assert_eq!(BlobRef::of(&std::fs::read(&path).expect("the file is there")), blob);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1, "nothing else is left");
    assert_eq!(agent.handle.peers().await[0].blob_bytes_received, blob.size_bytes);
    assert_eq!(holders[0].handle.peers().await[0].blob_bytes_sent, blob.size_bytes);
}

#[tokio::test]
async fn small_and_empty_blobs_are_fetched_into_memory() {
    let (agent, holders, _) = holders(1).await;
    for bytes in [Vec::new(), vec![7], some_bytes(PIECE_BYTES), some_bytes(PIECE_BYTES + 1)] {
        let blob = holders[0].blobs.put(bytes.clone());
        let fetched = agent.handle.fetch_bytes(blob, vec![holders[0].peer()], 1 << 20).await;
        assert_eq!(fetched.map(Vec::from), Ok(bytes));
    }
}

#[tokio::test]
async fn a_source_that_sends_wrong_bytes_is_replaced_at_that_piece() {
    let (agent, holders, blob) = holders(2).await;
    holders[0].blobs.corrupt(blob, 5);
    let sources: Vec<_> = holders.iter().map(Member::peer).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blob");
    let report = agent.handle.fetch(blob, sources.clone(), path.clone()).await.expect("it is fetched");
    let first = 5 * PIECE_BYTES as u64;
    assert_eq!(report.received, [(sources[0], first), (sources[1], blob.size_bytes - first)]);
    assert!(report.tried[0].1.contains("piece 5"), "{:?}", report.tried);
    assert_eq!(BlobRef::of(&std::fs::read(&path).expect("the file is there")), blob);
}

#[tokio::test]
async fn a_source_that_vanishes_half_way_is_replaced_by_the_next() {
    let (agent, holders, blob) = holders(2).await;
    holders[0].blobs.lose(blob, 8);
    let sources: Vec<_> = holders.iter().map(Member::peer).collect();
    let fetched = agent.handle.fetch_bytes(blob, sources, u64::MAX).await.expect("it is fetched");
    assert_eq!(BlobRef::of(&fetched), blob);
}

#[tokio::test]
async fn a_source_that_is_busy_is_asked_again() {
    let network = Network::new(1);
    let (agent, holders, blob) = holders_in(&network, 1).await;
    let mut idle = Vec::new();
    // Transfers that nobody reads, from two connections, since one has not places enough.
    let other = network.agent(101).await;
    other.connect_to(&holders[0]).await;
    let request = BlobRequest { digest: blob.digest, first_piece: 0, pieces: blob.pieces() };
    for place in 0..BLOB_TRANSFERS_MAX {
        let from = if place % 2 == 0 { &agent.handle } else { &other.handle };
        let mut opened = from.open(holders[0].peer(), Protocol::Blob).await.expect("there is a place");
        write_frame(&mut opened.stream, &request).await.expect("it is asked");
        let reply: BlobReply = read_frame(&mut opened.stream, 1 << 20).await.expect("it answers");
        assert!(matches!(reply, BlobReply::Found { .. }));
        idle.push(opened);
    }
    let third = network.agent(102).await;
    third.connect_to(&holders[0]).await;
    let mut opened = third.handle.open(holders[0].peer(), Protocol::Blob).await.expect("there is a place");
    write_frame(&mut opened.stream, &request).await.expect("it is asked");
    assert_eq!(read_frame(&mut opened.stream, 1 << 20).await.ok(), Some(BlobReply::Busy));
    let fetching = third.handle.fetch_bytes(blob, vec![holders[0].peer()], u64::MAX);
    let (fetched, ()) = tokio::join!(fetching, async move {
        tokio::task::yield_now().await;
        drop(idle);
    });
    assert_eq!(fetched.map(|bytes| BlobRef::of(&bytes)), Ok(blob));
}

#[tokio::test]
async fn many_fetches_from_one_source_wait_for_their_places() {
    let (agent, holders, blob) = holders(1).await;
    let fetches = (0..40).map(|_| agent.handle.fetch_bytes(blob, vec![holders[0].peer()], u64::MAX));
    for fetched in futures::future::join_all(fetches).await {
        assert_eq!(fetched.map(|bytes| BlobRef::of(&bytes)), Ok(blob));
    }
}

#[tokio::test]
async fn whoever_has_nothing_right_is_named_and_nothing_is_left_behind() {
    let (agent, holders, blob) = holders(1).await;
    holders[0].blobs.corrupt(blob, 0);
    let folder = tempfile::tempdir().expect("a folder");
    let error = agent.handle.fetch(blob, vec![holders[0].peer()], folder.path().join("blob")).await.expect_err("no source");
    let MeshError::Unavailable { tried, .. } = &error else { panic!("not {error:?}") };
    assert_eq!(tried.len(), 1);
    assert!(error.to_string().contains(&holders[0].peer().to_string()), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
    let missing = agent.handle.fetch_bytes(BlobRef::of(b"nobody has it"), vec![holders[0].peer()], 100).await;
    assert!(matches!(missing, Err(MeshError::Unavailable { .. })), "{missing:?}");
    let large = agent.handle.fetch_bytes(blob, vec![holders[0].peer()], 100).await;
    assert_eq!(large, Err(MeshError::TooLarge { size_bytes: blob.size_bytes, max_bytes: 100 }));
}

#[tokio::test]
async fn a_delivery_stores_and_a_second_one_is_known() {
    let network = Network::new(1);
    let (coordinator, agent) = (network.coordinator().await, network.agent(7).await);
    agent.connect_to(&coordinator).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("output");
    std::fs::write(&path, some_bytes(THREE_MEGABYTES)).expect("written");
    let blob = BlobRef::of(&some_bytes(THREE_MEGABYTES));
    for _ in 0..2 {
        let reply = agent.handle.deliver(coordinator.peer(), attempt(1), blob, path.clone()).await;
        assert_eq!(reply, Ok(DeliveryReply::Stored));
    }
    assert_eq!(coordinator.blobs.get(blob), Some(some_bytes(THREE_MEGABYTES)));
    let sent = agent.handle.peers().await[0].blob_bytes_sent;
    assert_eq!(sent, blob.size_bytes, "the second time nothing was sent");
}

#[tokio::test]
async fn deliveries_are_refused_with_the_reason() {
    let network = Network::new(1);
    let (coordinator, agent) = (network.coordinator().await, network.agent(7).await);
    agent.connect_to(&coordinator).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("output");
    std::fs::write(&path, some_bytes(THREE_MEGABYTES)).expect("written");
    let blob = BlobRef::of(&some_bytes(THREE_MEGABYTES));
    let stale = agent.handle.deliver(coordinator.peer(), attempt(2), blob, path.clone()).await;
    assert_eq!(stale, Ok(DeliveryReply::Refused { reason: "that attempt is not live".to_owned() }));
    let full = agent.handle.deliver(coordinator.peer(), attempt(3), blob, path.clone()).await;
    assert_eq!(full, Ok(DeliveryReply::Refused { reason: "the disk is full".to_owned() }));
    let other = BlobRef { digest: BlobRef::of(b"other").digest, ..blob };
    let wrong = agent.handle.deliver(coordinator.peer(), attempt(1), other, path.clone()).await;
    assert!(matches!(wrong, Ok(DeliveryReply::Refused { .. })), "{wrong:?}");
    let longer = BlobRef { size_bytes: blob.size_bytes + 1, ..blob };
    let short = agent.handle.deliver(coordinator.peer(), attempt(1), longer, path).await;
    assert!(matches!(short, Err(MeshError::File { .. })), "{short:?}");
}
