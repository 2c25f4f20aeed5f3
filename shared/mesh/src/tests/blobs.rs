//! Blobs and deliveries.

use std::time::{Duration, Instant};

use futures::AsyncReadExt as _;
use lull_shared::{
    digest::{BlobRef, Outline, OutlineBuilder, PIECE_BYTES},
    identity::Role,
    pieces::PieceSet,
    protocol::{BlobAnswer, BlobAsk, BlobReply, BlobRequest, DeliveryReply},
};

use super::support::{Member, Network, attempt, eventually, some_bytes, within};
use crate::{
    Holders, MeshError, NodeConfig,
    handle::OwnStream,
    partial_path,
    streams::{
        frames::{read_frame, write_frame},
        opened::Protocol,
    },
};

const THREE_MEGABYTES: usize = 3 * 1024 * 1024 + 17;

/// An agent that is connected to some holders of a blob of three megabytes.
async fn holders(count: u64) -> (Member, Vec<Member>, BlobRef) {
    let network = Network::new(1);
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

/// How many pieces have come to it, the short last one of a blob among them.
fn pieces_of(member: &Member) -> u64 {
    member.handle.transferred().from_agents_bytes.div_ceil(PIECE_BYTES as u64)
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
    assert_eq!(holders[0].blobs.told_sent(), blob.size_bytes);
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
async fn a_source_that_sends_wrong_bytes_is_not_asked_again_and_the_others_give_the_rest() {
    let (agent, holders, blob) = holders(2).await;
    (0..blob.pieces()).for_each(|piece| holders[0].blobs.corrupt(blob, piece as usize));
    let sources: Vec<_> = holders.iter().map(Member::peer).collect();
    // The honest one gives nothing until the liar was found out.
    holders[1].blobs.give_only(0);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blob");
    let fetching = tokio::spawn({
        let (handle, path) = (agent.handle.clone(), path.clone());
        async move { handle.fetch(blob, sources, path).await }
    });
    eventually("the liar sent something", || holders[0].handle.transferred().served_bytes > 0).await;
    holders[1].blobs.give_more(1_000);
    let report = fetching.await.expect("no panic").expect("it is fetched");
    assert_eq!(report.received, [(holders[1].peer(), blob.size_bytes)]);
    assert!(report.tried.iter().any(|(peer, reason)| *peer == holders[0].peer() && reason.contains("piece")), "{report:?}");
    assert_eq!(BlobRef::of(&std::fs::read(&path).expect("the file is there")), blob);
}

/// An outline of other bytes in as many pieces.
fn other_outline() -> Outline {
    let mut other = some_bytes(THREE_MEGABYTES);
    other[0] ^= 1;
    outlined(&other).1
}

fn outlined(bytes: &[u8]) -> (BlobRef, Outline) {
    let mut builder = OutlineBuilder::default();
    builder.update(bytes);
    builder.finish()
}

#[tokio::test]
async fn nothing_is_taken_from_a_source_that_says_of_a_blob_what_is_not_true() {
    let (agent, holders, blob) = holders(2).await;
    let outline = outlined(&some_bytes(THREE_MEGABYTES)).1;
    holders[0].blobs.say_of(blob, (blob, other_outline()));
    holders[1].blobs.say_of(blob, (BlobRef { size_bytes: blob.size_bytes + 1, ..blob }, outline));
    for (liar, words) in holders.iter().zip(["the outline does not belong", "another blob of that name"]) {
        let fetched = agent.handle.fetch_bytes(blob, vec![liar.peer()], u64::MAX).await;
        let Err(MeshError::Unavailable { tried, .. }) = &fetched else { panic!("{fetched:?}") };
        assert!(matches!(&tried[..], [(peer, reason)] if *peer == liar.peer() && reason.contains(words)), "{tried:?}");
        assert_eq!(liar.handle.transferred().served_bytes, 0);
    }
}

#[tokio::test]
async fn what_a_holder_says_of_a_blob_is_checked_before_it_is_passed_on() {
    for longer in [false, true] {
        let (coordinator, holder, agent, blob) = out_of_reach().await;
        match longer {
            true => {
                let outline = outlined(&some_bytes(THREE_MEGABYTES)).1;
                holder.blobs.say_of(blob, (BlobRef { size_bytes: blob.size_bytes + 1, ..blob }, outline));
            }
            false => holder.blobs.say_of(blob, (blob, other_outline())),
        }
        let fetched = agent.handle.fetch_bytes(blob, vec![coordinator.peer()], u64::MAX).await;
        let Err(MeshError::Unavailable { tried, .. }) = &fetched else { panic!("{fetched:?}") };
        // The coordinator said nothing false itself.
        assert!(tried.iter().all(|(peer, reason)| *peer == coordinator.peer() && !reason.contains("outline")), "{tried:?}");
        assert_eq!(coordinator.handle.transferred().served_bytes, 0);
    }
}

#[tokio::test]
async fn wrong_bytes_of_a_holder_are_not_passed_on() {
    let (coordinator, holder, agent, blob) = out_of_reach().await;
    (0..blob.pieces()).for_each(|piece| holder.blobs.corrupt(blob, piece as usize));
    let fetched = agent.handle.fetch_bytes(blob, vec![coordinator.peer()], u64::MAX).await;
    let Err(MeshError::Unavailable { tried, .. }) = &fetched else { panic!("{fetched:?}") };
    // The coordinator would be held for the liar otherwise.
    assert!(tried.iter().all(|(peer, reason)| *peer == coordinator.peer() && !reason.contains("piece")), "{tried:?}");
    assert!(holder.handle.transferred().served_bytes > 0, "it was asked");
    assert_eq!(coordinator.handle.transferred().served_bytes, 0);
}

#[tokio::test]
async fn a_source_that_has_lost_half_of_it_is_replaced_by_the_next() {
    let (agent, holders, blob) = holders(2).await;
    holders[0].blobs.lose(blob, 8);
    let sources: Vec<_> = holders.iter().map(Member::peer).collect();
    let fetched = agent.handle.fetch_bytes(blob, sources, u64::MAX).await.expect("it is fetched");
    assert_eq!(BlobRef::of(&fetched), blob);
}

#[tokio::test]
async fn a_source_that_vanishes_in_the_middle_is_replaced_by_the_next() {
    let (agent, mut holders, blob) = holders(2).await;
    let sources: Vec<_> = holders.iter().map(Member::peer).collect();
    holders.iter().for_each(|holder| holder.blobs.give_only(3));
    let fetching = tokio::spawn({
        let (handle, sources) = (agent.handle.clone(), sources.clone());
        async move { handle.fetch_bytes(blob, sources, u64::MAX).await }
    });
    // Two of the same piece at the same moment count as one that came.
    eventually("both gave what they may", || holders.iter().all(|holder| holder.blobs.has_given_all())).await;
    drop(holders.remove(0));
    holders[0].blobs.give_more(1_000);
    let fetched = fetching.await.expect("no panic").expect("it is fetched");
    assert_eq!(BlobRef::of(&fetched), blob);
}

#[tokio::test]
async fn a_source_that_is_busy_is_asked_again() {
    let network = Network::new(1);
    let (agent, holder, third) = (network.agent(1).await, network.slow_agent(2, 64 * 1024).await, network.agent(3).await);
    let blob = holder.blobs.put(some_bytes(PIECE_BYTES));
    agent.connect_to(&holder).await;
    third.connect_to(&holder).await;
    // Both of its places are taken by transfers that take seconds.
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.push(asked(&agent, &holder, blob).await.0);
    }
    assert_eq!(asked(&third, &holder, blob).await.1, BlobAnswer::Busy);
    let fetching = third.handle.fetch_bytes(blob, vec![holder.peer()], u64::MAX);
    let (fetched, ()) = tokio::join!(fetching, async move {
        tokio::task::yield_now().await;
        drop(taken);
    });
    assert_eq!(fetched.map(|bytes| BlobRef::of(&bytes)), Ok(blob));
}

/// A stream on which one piece was asked for, with the answer.
async fn asked(from: &Member, holder: &Member, blob: BlobRef) -> (OwnStream, BlobAnswer) {
    let mut opened = from.handle.open(holder.peer(), Protocol::Blob).await.expect("there is a place");
    write_frame(&mut opened.stream, &BlobRequest { digest: blob.digest, outline: true }).await.expect("it is asked");
    let reply: BlobReply = read_frame(&mut opened.stream, 1 << 20).await.expect("it answers");
    assert!(matches!(reply, BlobReply::Found { outline: Some(_), .. }));
    let ask = BlobAsk { lacking: PieceSet::all(blob.pieces()), alone: false };
    write_frame(&mut opened.stream, &ask).await.expect("it is asked");
    let answer = read_frame(&mut opened.stream, 1 << 20).await.expect("it answers");
    (opened, answer)
}

#[tokio::test]
async fn pieces_that_there_are_not_end_the_stream() {
    let (agent, holders, blob) = holders(1).await;
    let (mut opened, _) = asked(&agent, &holders[0], blob).await;
    write_frame(&mut opened.stream, &BlobAsk { lacking: PieceSet::all(4096), alone: false }).await.expect("it is asked");
    let mut rest = Vec::new();
    // A reset ends it as well as a close.
    let _ = within("the end of the stream", opened.stream.read_to_end(&mut rest)).await;
    assert!(rest.len() <= PIECE_BYTES, "no second piece");
}

#[tokio::test]
async fn what_is_still_being_fetched_is_served_piece_by_piece() {
    let network = Network::new(1);
    let (first, second, holder) = (network.agent(1).await, network.agent(2).await, network.agent(3).await);
    let blob = holder.blobs.put(some_bytes(THREE_MEGABYTES));
    holder.blobs.give_only(4);
    first.connect_to(&holder).await;
    second.connect_to(&first).await;
    let folder = tempfile::tempdir().expect("a folder");
    let fetch = |member: &Member, source: &Member, name: &str| {
        let (handle, source, path) = (member.handle.clone(), source.peer(), folder.path().join(name));
        tokio::spawn(async move { handle.fetch(blob, vec![source], path).await })
    };
    let ahead = fetch(&first, &holder, "first");
    eventually("the first has four pieces", || pieces_of(&first) == 4).await;
    let behind = fetch(&second, &first, "second");
    eventually("the second has them too", || pieces_of(&second) == 4).await;
    holder.blobs.give_more(1_000);
    assert_eq!(ahead.await.expect("no panic").expect("it is fetched").received, [(holder.peer(), blob.size_bytes)]);
    // The first holds it in a file; what serves it from now on is its own store.
    first.blobs.put(some_bytes(THREE_MEGABYTES));
    assert_eq!(behind.await.expect("no panic").expect("it is fetched").received, [(first.peer(), blob.size_bytes)]);
}

#[tokio::test]
async fn those_who_fetch_together_give_each_other_what_the_coordinator_gave_a_few() {
    const AGENTS: u64 = 5;
    let network = Network::new(1);
    let coordinator = network.seeding_coordinator().await;
    let blob = coordinator.blobs.put(some_bytes(THREE_MEGABYTES));
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let agent = network.agent(number).await;
        agent.connect_to(&coordinator).await;
        agents.push(agent);
    }
    eventually("they said where they listen", || coordinator.handle.addresses().len() == agents.len()).await;
    coordinator.blobs.name(Holders { whole: Vec::new(), fetching: agents.iter().map(Member::peer).collect() });
    let folder = tempfile::tempdir().expect("a folder");
    let source = coordinator.peer();
    let fetches = agents.iter().map(|agent| {
        let path = folder.path().join(agent.peer().to_string());
        async move {
            let report = agent.handle.fetch(blob, vec![source], path.clone()).await;
            agent.blobs.put(std::fs::read(&path).expect("the file is there"));
            report.expect("it is fetched")
        }
    });
    futures::future::join_all(fetches).await;
    let from_agents: u64 = agents.iter().map(|agent| agent.handle.transferred().from_agents_bytes).sum();
    let served = coordinator.handle.transferred().served_bytes;
    assert!(agents.iter().all(|agent| agent.blobs.get(blob).is_some()));
    assert!(from_agents > 0 && served < AGENTS * blob.size_bytes, "{from_agents} from agents, {served} from the coordinator");
}

#[tokio::test]
async fn a_coordinator_leaves_a_blob_to_an_agent_that_holds_it() {
    let network = Network::new(1);
    let (coordinator, holder, agent) = (network.seeding_coordinator().await, network.agent(1).await, network.agent(2).await);
    let blob = coordinator.blobs.put(some_bytes(THREE_MEGABYTES));
    holder.blobs.put(some_bytes(THREE_MEGABYTES));
    holder.connect_to(&coordinator).await;
    agent.connect_to(&coordinator).await;
    eventually("they said where they listen", || coordinator.handle.addresses().len() == 2).await;
    coordinator.blobs.name(Holders { whole: vec![holder.peer()], fetching: Vec::new() });
    let folder = tempfile::tempdir().expect("a folder");
    let report = agent.handle.fetch(blob, vec![coordinator.peer()], folder.path().join("blob")).await.expect("it is fetched");
    assert!(report.received.iter().any(|(peer, _)| *peer == holder.peer()), "{report:?}");
    assert_eq!(holder.handle.transferred().served_bytes, agent.handle.transferred().from_agents_bytes);
}

#[tokio::test]
async fn a_coordinator_that_has_not_got_a_blob_sends_whoever_asks_to_those_who_have_it() {
    let network = Network::new(1);
    let (coordinator, holder, agent) = (network.seeding_coordinator().await, network.agent(1).await, network.agent(2).await);
    let blob = holder.blobs.put(some_bytes(THREE_MEGABYTES));
    holder.connect_to(&coordinator).await;
    agent.connect_to(&coordinator).await;
    eventually("they said where they listen", || coordinator.handle.addresses().len() == 2).await;
    coordinator.blobs.know_elsewhere(blob);
    coordinator.blobs.name(Holders { whole: vec![holder.peer()], fetching: Vec::new() });
    let folder = tempfile::tempdir().expect("a folder");
    let report = agent.handle.fetch(blob, vec![coordinator.peer()], folder.path().join("blob")).await.expect("it is fetched");
    assert_eq!(report.received, [(holder.peer(), blob.size_bytes)]);
}

/// An agent that has a blob and listens nowhere, another that wants it, and a coordinator that both have dialled.
async fn out_of_reach() -> (Member, Member, Member, BlobRef) {
    let network = Network::new(1);
    let (coordinator, agent) = (network.seeding_coordinator().await, network.agent(1).await);
    let holder = Member::start(NodeConfig { listen: Vec::new(), ..network.config(Role::Agent, Some(2)) }).await;
    let blob = holder.blobs.put(some_bytes(THREE_MEGABYTES));
    holder.connect_to(&coordinator).await;
    agent.connect_to(&coordinator).await;
    eventually("the agent said where it listens", || coordinator.handle.addresses().len() == 1).await;
    coordinator.blobs.know_elsewhere(blob);
    coordinator.blobs.name(Holders { whole: vec![holder.peer()], fetching: Vec::new() });
    (coordinator, holder, agent, blob)
}

/// Soon enough for a task that waits for its snapshot.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_an_agent_holds_that_listens_nowhere_goes_through_the_coordinator() {
    let (coordinator, holder, agent, blob) = out_of_reach().await;
    let began = Instant::now();
    let fetched = agent.handle.fetch_bytes(blob, vec![coordinator.peer()], u64::MAX).await.expect("it is passed on");
    assert_eq!(BlobRef::of(&fetched), blob);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(holder.handle.transferred().served_bytes, blob.size_bytes);
    assert_eq!(coordinator.handle.transferred().served_bytes, blob.size_bytes);
}

#[tokio::test]
async fn what_an_agent_holds_that_cannot_be_dialled_goes_through_the_coordinator() {
    let (coordinator, holder, agent, blob) = out_of_reach().await;
    // It takes connections and says nothing, as a firewall does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let silent = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
    coordinator.handle.exchange.note_addresses(holder.peer(), vec![silent]);
    let began = Instant::now();
    let fetched = agent.handle.fetch_bytes(blob, vec![coordinator.peer()], u64::MAX).await.expect("it is passed on");
    assert_eq!(BlobRef::of(&fetched), blob);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_blob_of_which_every_holder_is_gone_is_given_up_soon() {
    let (coordinator, holder, agent, blob) = out_of_reach().await;
    drop(holder);
    let began = Instant::now();
    let fetched = agent.handle.fetch_bytes(blob, vec![coordinator.peer()], u64::MAX).await;
    assert!(matches!(fetched, Err(MeshError::Unavailable { .. })), "{fetched:?}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_passed_on_is_checked_on_the_way() {
    let (coordinator, holder, agent, blob) = out_of_reach().await;
    holder.blobs.corrupt(blob, 1);
    let fetched = agent.handle.fetch_bytes(blob, vec![coordinator.peer()], u64::MAX).await;
    assert!(matches!(fetched, Err(MeshError::Unavailable { .. })), "{fetched:?}");
    assert!(coordinator.handle.transferred().served_bytes < blob.size_bytes, "nothing wrong was passed on");
}

#[tokio::test]
async fn sources_that_cannot_be_dialled_or_have_nothing_leave_it_to_the_coordinator() {
    let network = Network::new(1);
    let (coordinator, agent, empty) = (network.seeding_coordinator().await, network.agent(1).await, network.agent(2).await);
    let blob = coordinator.blobs.put(some_bytes(THREE_MEGABYTES));
    agent.connect_to(&coordinator).await;
    empty.connect_to(&coordinator).await;
    eventually("they said where they listen", || coordinator.handle.addresses().len() == 2).await;
    // One port that nobody listens on, one that takes connections and says nothing.
    let (refusing, silent) = (libp2p::PeerId::random(), libp2p::PeerId::random());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let exchange = &coordinator.handle.exchange;
    exchange.note_addresses(refusing, vec!["/ip4/127.0.0.1/tcp/1".parse().expect("an address")]);
    exchange.note_addresses(silent, vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address")]);
    coordinator.blobs.name(Holders { whole: vec![refusing, silent, empty.peer()], fetching: Vec::new() });
    let (began, folder) = (tokio::time::Instant::now(), tempfile::tempdir().expect("a folder"));
    let report = agent.handle.fetch(blob, vec![coordinator.peer()], folder.path().join("blob")).await.expect("it is fetched");
    assert_eq!(report.received, [(coordinator.peer(), blob.size_bytes)]);
    // What takes time is to find that out, and not each of thirteen pieces.
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let exchange = &agent.handle.exchange;
    assert!(
        exchange.is_unreachable(&refusing, began) && exchange.is_unreachable(&silent, began),
        "they are left alone for a while"
    );
}

#[tokio::test]
async fn a_fetch_that_was_broken_off_goes_on_with_what_is_right() {
    let (agent, holders, blob) = holders(2).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blob");
    holders[0].blobs.give_only(4);
    let fetching = tokio::spawn({
        let (handle, source, path) = (agent.handle.clone(), holders[0].peer(), path.clone());
        async move { handle.fetch(blob, vec![source], path).await }
    });
    eventually("four pieces are there", || pieces_of(&agent) == 4).await;
    holders[0].blobs.give_no_more();
    fetching.await.expect("no panic").expect_err("the rest is nowhere");
    let partial = partial_path(&path);
    let mut left = std::fs::read(&partial).expect("what was there stays");
    let damaged = left.iter().position(|byte| *byte != 0).expect("a piece is there");
    left[damaged] ^= 1;
    std::fs::write(&partial, left).expect("damage");
    let report = agent.handle.fetch(blob, vec![holders[1].peer()], path.clone()).await.expect("it is fetched");
    let received = report.received[0].1;
    assert_eq!(received.div_ceil(PIECE_BYTES as u64), u64::from(blob.pieces()) - 3, "one of the four was damaged");
    assert_eq!(BlobRef::of(&std::fs::read(&path).expect("the file is there")), blob);
    assert!(!partial.exists());
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
    (0..blob.pieces()).for_each(|piece| holders[0].blobs.corrupt(blob, piece as usize));
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
