//! Bytes that make no sense end their own stream and nothing else.

use futures::AsyncWriteExt as _;
use libp2p::identity::Keypair;
use lull_shared::{
    codec,
    limits::{FRAME_BYTES_MAX, STREAMS_PER_CONNECTION_MAX},
    protocol::{Admission, Introduction},
};

use super::support::{Network, RawPeer, drained, within};
use crate::{
    NodeEvent,
    peers::admission::now,
    streams::{
        frames::{FrameError, frames, read_frame, write_frame},
        opened::Protocol,
    },
};

/// A frame longer than any, a frame of nonsense, an unknown format, an empty frame, a length without its frame.
fn garbage() -> [Vec<u8>; 5] {
    let too_long = (FRAME_BYTES_MAX as u32 + 1).to_le_bytes().to_vec();
    let nonsense = [&9_u32.to_le_bytes()[..], &[1, 255, 255, 255, 255, 255, 255, 255, 255]].concat();
    let format = [&2_u32.to_le_bytes()[..], &[77, 0]].concat();
    [too_long, nonsense, format, 0_u32.to_le_bytes().to_vec(), 1000_u32.to_le_bytes().to_vec()]
}

#[tokio::test]
async fn garbage_of_a_member_ends_its_stream_and_nothing_else() {
    let network = Network::new(1);
    let (mut coordinator, agent) = (network.coordinator().await, network.agent(7).await);
    let blob = coordinator.blobs.put(vec![5; 1000]);
    agent.connect_to(&coordinator).await;
    for protocol in [Protocol::Admission, Protocol::Enrolment, Protocol::Blob, Protocol::Delivery] {
        for bytes in garbage() {
            let mut stream = agent.handle.open(coordinator.peer(), protocol).await.expect("it is admitted").stream;
            // It may hang up before it has read everything.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.close().await;
            assert!(drained(stream).await.is_empty(), "{protocol:?} answered {bytes:?}");
        }
    }
    for bytes in garbage() {
        let mut stream = agent.handle.open(coordinator.peer(), Protocol::Work).await.expect("it is admitted").stream;
        stream.write_all(&bytes).await.expect("written");
        stream.close().await.expect("closed");
        let work = |event| if let NodeEvent::Work { stream, .. } = event { Some(stream) } else { None };
        let mut work = coordinator.event("a work stream", work).await;
        let frame = within("an error", work.incoming.next()).await;
        assert!(matches!(frame, Some(Err(_))), "{frame:?} of {bytes:?}");
        assert!(within("the end", work.incoming.next()).await.is_none());
    }
    let fetched = agent.handle.fetch_bytes(blob, vec![coordinator.peer()], 1000).await;
    assert_eq!(fetched.map(Vec::from), Ok(vec![5; 1000]), "the connection still works");
    assert_eq!(coordinator.handle.peers().await.len(), 1);
}

#[tokio::test]
async fn garbage_of_a_stranger_does_not_even_cost_it_its_time() {
    let network = Network::new(1);
    let coordinator = network.coordinator().await;
    let mut stranger = RawPeer::connect(network.stranger_config(Keypair::generate_ed25519()), coordinator.address().await).await;
    for protocol in [Protocol::Admission, Protocol::Enrolment] {
        for bytes in garbage() {
            let mut stream = stranger.open(protocol).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.close().await;
            assert!(drained(stream).await.is_empty(), "{protocol:?} answered {bytes:?}");
        }
    }
    assert!(!stranger.is_cut());
}

#[tokio::test]
async fn a_peer_cannot_hold_more_than_its_share_of_streams() {
    let network = Network::new(1);
    let coordinator = network.coordinator().await;
    let greedy = RawPeer::connect(network.stranger_config(Keypair::generate_ed25519()), coordinator.address().await).await;
    let mut held = Vec::new();
    for _ in 0..STREAMS_PER_CONNECTION_MAX {
        held.push(greedy.open(Protocol::Admission).await);
    }
    let mut refused = greedy.open(Protocol::Admission).await;
    // It may be refused before it is sent.
    let _ = refused.write_all(&[1]).await;
    assert!(drained(refused).await.is_empty());
    // A length of which the rest never comes keeps its place; the last one gives its place back.
    let introduction =
        Introduction { certificate: None, software: "greedy".to_owned(), revocations: Default::default(), now: now() };
    let mut last = held.pop().expect("it holds some");
    write_frame(&mut last, &introduction).await.expect("its place is its own");
    let theirs: Introduction = read_frame(&mut last, 1 << 20).await.expect("it is answered");
    assert!(theirs.certificate.is_some());
    assert_eq!(read_frame(&mut last, 1 << 20).await.ok(), Some(Admission::Stranger));
}

#[tokio::test]
async fn reading_may_be_given_up_at_any_moment_and_loses_nothing() {
    let (near, mut far) = tokio::io::duplex(7);
    let (mut reader, _writer) = frames::<Vec<u32>, ()>(tokio_util::compat::TokioAsyncReadCompatExt::compat(near));
    let sent: Vec<Vec<u32>> = (0..50).map(|n| (0..n).collect()).collect();
    let bytes: Vec<u8> = sent.iter().flat_map(codec::encode_frame).collect();
    tokio::spawn(async move {
        for part in bytes.chunks(3) {
            tokio::io::AsyncWriteExt::write_all(&mut far, part).await.expect("the reader reads");
            tokio::task::yield_now().await;
        }
    });
    let mut received = Vec::new();
    while received.len() < sent.len() {
        tokio::select! {
            biased;
            frame = reader.next() => received.push(frame.expect("open").expect("whole")),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(received, sent);
    assert!(reader.next().await.is_none());
}

#[tokio::test]
async fn nothing_follows_garbage_that_came_with_good_frames() {
    let (near, mut far) = tokio::io::duplex(1024);
    let (mut reader, _writer) = frames::<Vec<u32>, ()>(tokio_util::compat::TokioAsyncReadCompatExt::compat(near));
    let bytes = [codec::encode_frame(&vec![7_u32]), vec![0xff; 8]].concat();
    tokio::io::AsyncWriteExt::write_all(&mut far, &bytes).await.expect("the reader reads");
    assert_eq!(reader.next().await.expect("open").expect("whole"), [7]);
    assert!(matches!(reader.next().await, Some(Err(FrameError::TooLong(_)))));
    assert!(reader.next().await.is_none());
}

#[tokio::test]
async fn writing_may_be_given_up_at_any_moment_and_is_completed_by_the_next() {
    let (near, far) = tokio::io::duplex(7);
    let (_reader, mut writer) = frames::<(), Vec<u32>>(tokio_util::compat::TokioAsyncReadCompatExt::compat(near));
    let (mut reader, _) = frames::<Vec<u32>, ()>(tokio_util::compat::TokioAsyncReadCompatExt::compat(far));
    let sent: Vec<Vec<u32>> = (0..20).map(|n| (0..n).collect()).collect();
    for frame in &sent {
        tokio::select! {
            biased;
            outcome = writer.send(frame) => outcome.expect("sent"),
            () = std::future::ready(()) => {}
        }
    }
    tokio::spawn(async move {
        writer.send_many(&[]).await.expect("sent");
        writer.close().await;
    });
    for frame in &sent {
        assert_eq!(&within("a frame", reader.next()).await.expect("open").expect("whole"), frame);
    }
    assert!(within("the end", reader.next()).await.is_none());
}

#[tokio::test]
async fn our_own_frame_that_is_too_long_is_refused_and_the_stream_goes_on() {
    let (near, far) = tokio::io::duplex(64);
    let (_reader, mut writer) = frames::<(), Vec<u8>>(tokio_util::compat::TokioAsyncReadCompatExt::compat(near));
    let (mut reader, _) = frames::<Vec<u8>, ()>(tokio_util::compat::TokioAsyncReadCompatExt::compat(far));
    let refused = writer.send(&vec![0; FRAME_BYTES_MAX]).await;
    assert!(matches!(refused, Err(FrameError::TooLong(_))), "{refused:?}");
    writer.send(&vec![1, 2]).await.expect("sent");
    assert_eq!(reader.next().await.expect("open").expect("whole"), [1, 2]);
}
