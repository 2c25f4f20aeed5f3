//! Two coordinators in one process, on one store in memory, one of them behind the fault injector.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::{
    client::Client,
    store::{
        faulty::{Fault, Faulty},
        memory::Memory,
    },
};

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(data: &Path, name: &str) -> ServerConfig {
    ServerConfig {
        data: data.to_owned(),
        store: StoreChoice::Memory,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        http: ([127, 0, 0, 1], 0).into(),
        announce: Vec::new(),
        http_announce: None,
        mdns: false,
        name: name.into(),
        limits: Limits::default(),
        making: Making::default(),
    }
}

async fn until_true(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Folders of two coordinators of one network.
fn folders() -> [TempDir; 2] {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let [first, second] = [folders[0].path(), folders[1].path()];
    keys::key_pair(&first.join(keys::AUTHORITY_FILE)).expect("a key");
    keys::network_id(&first.join(keys::NETWORK_FILE)).expect("a name");
    let secret = first.join("secret");
    keys::export(first, &secret).expect("exported");
    keys::import(second, &secret).expect("imported");
    folders
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_loses_its_store_is_replaced_and_stands_by_when_it_is_back() {
    let ([north, south], memory, cut) = (folders(), Memory::default(), Arc::new(AtomicBool::new(false)));
    let seen = cut.clone();
    let cable =
        Faulty::new(Arc::new(memory.clone()), move |_| if seen.load(Ordering::Relaxed) { Fault::Refused } else { Fault::None });
    let stop = CancellationToken::new();
    let first = start_on(Arc::new(cable), config(north.path(), "north"), stop.clone()).await.expect("it starts");
    assert_eq!(first.stands_by_for(), None, "it is alone, and reigns");
    let second = start_on(Arc::new(memory), config(south.path(), "south"), stop.clone()).await.expect("it starts");
    assert_eq!(second.stands_by_for().as_deref(), Some("north"));

    let token = std::fs::read_to_string(north.path().join(ADMIN_TOKEN_FILE)).expect("a token");
    let client =
        |server: &RunningServer| Client::new(&format!("http://{}", server.http_address), Some(token.clone())).expect("one");
    let status = client(&second).status().await.expect("sent on to the one that reigns");
    assert_eq!(status.coordinator.epoch, 1);

    cut.store(true, Ordering::Relaxed);
    until_true("the second takes over", async || second.stands_by_for().is_none()).await;
    cut.store(false, Ordering::Relaxed);
    until_true("the first stands by", async || first.stands_by_for().as_deref() == Some("south")).await;
    assert_eq!(client(&first).status().await.expect("sent on the other way").coordinator.epoch, 2);
    stop.cancel();
    first.stopped().await.expect("it stops in good order");
    second.stopped().await.expect("it stops in good order");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stops_in_good_order_is_replaced_at_once() {
    let ([north, south], memory) = (folders(), Memory::default());
    let (stop_first, stop_second) = (CancellationToken::new(), CancellationToken::new());
    let first = start_on(Arc::new(memory.clone()), config(north.path(), "north"), stop_first.clone()).await.expect("it starts");
    let second = start_on(Arc::new(memory), config(south.path(), "south"), stop_second.clone()).await.expect("it starts");
    stop_first.cancel();
    first.stopped().await.expect("it stops in good order");
    let began = Instant::now();
    until_true("the second takes over", async || second.stands_by_for().is_none()).await;
    println!("a coordinator that stopped was replaced after {:?}", began.elapsed());
    stop_second.cancel();
    second.stopped().await.expect("it stops in good order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_network_is_left_alone() {
    let ([north, _], memory, foreign) = (folders(), Memory::default(), tempfile::tempdir().expect("a folder"));
    let stop = CancellationToken::new();
    let first = start_on(Arc::new(memory.clone()), config(north.path(), "north"), stop.clone()).await.expect("it starts");
    let refused = start_on(Arc::new(memory), config(foreign.path(), "foreign"), CancellationToken::new()).await;
    let words = refused.err().expect("it has a network of its own").to_string();
    assert!(words.contains("lull server import"), "{words}");
    stop.cancel();
    first.stopped().await.expect("it stops in good order");
}
