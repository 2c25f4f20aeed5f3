//! A leader whose store takes its time: an answer held back is no other leader.
//!
//! Leases are short here, and an answer is late by half a lease or by five: 3 s and 30 s of what is usual.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use futures::FutureExt as _;
use lull_scheduler::{
    effect::Reply,
    event::{AgentSnapshot, Event},
};
use lull_shared::{
    id::{AgentId, Term},
    time::Timestamp,
};

use super::{tests::*, *};
use crate::{
    access,
    store::{
        Leadership as _, Registry as _, Takeover,
        conformance::sample,
        faulty::{Fault, Faulty},
        memory::Memory,
        record::{EnrolmentOutcome, TokenRole},
    },
};

/// What a store is asked from the moment that somebody wants to lead until it has led for a while.
const ASKED: [&str; 13] = [
    "leader",
    "take_over",
    "policy",
    "load",
    "renew",
    "commit",
    "authenticate",
    "create_token",
    "revocations",
    "check_in",
    "coordinators",
    "agents",
    "versions",
];

const LEASE: LeaseTimes = LeaseTimes { length: Duration::from_millis(600), renewal: Duration::from_millis(200) };

fn brief(data: &Path, name: &str) -> ServerConfig {
    ServerConfig { lease: LEASE, ..config(data, name) }
}

/// A store of which one method's answers are late, and how often the lease was renewed there.
fn late(store: &Memory, method: &'static str, by: Duration) -> (Arc<dyn Store>, Arc<AtomicU32>) {
    let renewals = Arc::<AtomicU32>::default();
    let counted = renewals.clone();
    let held_back = move |called: &str| {
        counted.fetch_add(u32::from(called == "renew"), Ordering::Relaxed);
        if called == method { Fault::HeldBack(by) } else { Fault::None }
    };
    (Arc::new(Faulty::new(Arc::new(store.clone()), held_back)), renewals)
}

async fn term_of(server: &RunningServer) -> Term {
    let mut phase = server.phase.clone();
    let leads = phase.wait_for(|phase| phase.leader().is_some()).await.expect("it lives");
    leads.leader().expect("it leads").coordinator.lead.term
}

/// Has it remember something. Whether it did.
async fn remembers(server: &RunningServer, store: &Memory) -> bool {
    let phase = server.phase.borrow().clone();
    let coordinator = phase.leader().expect("it leads").coordinator.clone();
    let token = sample::token(TokenRole::Agent, 7);
    let token = store.create_token(&coordinator.lead, token).await.expect("memory answers").expect("a new name").token;
    let enrolment = sample::enrolment(token, 7, "peer", "desk");
    let enrolled = store.enrol(&coordinator.lead, enrolment).await.expect("memory answers");
    let EnrolmentOutcome::Enrolled { agent, .. } = enrolled else { panic!("not enrolled") };
    let (id, name) = (agent.agent, agent.name);
    let agent = AgentSnapshot { agent: id, name, group: None, intake: Intake::Open, quarantine: None };
    coordinator.dispatch.event(Event::Enrolled { agent }).await.expect("it leads");
    let cordon = move |request| Event::SetIntake { request, agent: id, intake: Intake::Cordoned, by: "root".into() };
    let reply = coordinator.dispatch.request(cordon).await.expect("it is answered when it is durable");
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    store
        .agents()
        .await
        .expect("memory answers")
        .iter()
        .any(|agent| agent.agent == AgentId(1) && agent.intake == Intake::Cordoned)
}

/// Leads on a store of which one method's answers are late, for twenty renewals and through a commit.
async fn lead_with(method: &'static str, by: Duration) {
    let (([north, _], memory), stop) = (site().await, CancellationToken::new());
    let (store, renewals) = late(&memory, method, by);
    let server = start_on(store, brief(north.path(), "north"), stop.clone()).await;
    let server = server.unwrap_or_else(|error| panic!("{method} late by {by:?}: {error:#}"));
    assert_eq!(term_of(&server).await, Term(1), "{method} late by {by:?}");
    assert!(remembers(&server, &memory).await, "{method} late by {by:?}");
    until_true("the lease is renewed", async || renewals.load(Ordering::Relaxed) >= 20).await;
    assert_eq!(term_of(&server).await, Term(1), "{method} late by {by:?}");
    let token = north.path().join(ADMIN_TOKEN_FILE);
    until_true("its administrator has a token", async || token.exists()).await;
    let token = std::fs::read_to_string(token).expect("just seen");
    let known = memory.authenticate(&access::fingerprint(&token), clock::now()).await.expect("memory answers");
    assert!(known.is_some(), "{method} late by {by:?}");
    assert_eq!(memory.tokens().await.expect("memory answers").len(), 2, "it is made once, beside that for desks");
    stop.cancel();
    server.stopped().await.unwrap_or_else(|error| panic!("{method} late by {by:?}: {error:#}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leads_goes_on_doing_so_however_late_its_store_answers() {
    let each = ASKED.into_iter().flat_map(|method| [LEASE.length / 2, 5 * LEASE.length].map(|by| (method, by)));
    futures::future::join_all(each.map(|(method, by)| lead_with(method, by).boxed_local())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_takes_longer_than_a_lease_costs_nobody_the_term() {
    // Long enough for the stumbles of a busy machine.
    let lease = LeaseTimes { length: Duration::from_secs(4), renewal: Duration::from_millis(500) };
    let config = |data: &Path, name: &str| ServerConfig { lease, ..config(data, name) };
    let (([north, south], memory), stop) = (site().await, CancellationToken::new());
    let (slow, _) = late(&memory, "load", 3 * lease.length);
    let first = start_on(slow, config(north.path(), "north"), stop.clone()).await.expect("it starts");
    let second = start_on(Arc::new(memory.clone()), config(south.path(), "south"), stop.clone()).await.expect("it starts");
    let mut waits = second.phase.clone();
    let taken_over = async { waits.wait_for(|phase| phase.leader().is_some()).await.map(drop) };
    tokio::select! {
        _ = taken_over => panic!("the lease is renewed during the load"),
        remembered = remembers(&first, &memory) => assert!(remembered, "it has loaded"),
    }
    assert_eq!(term_of(&first).await, Term(1));
    stop.cancel();
    first.stopped().await.expect("it stops in good order");
    second.stopped().await.expect("it stops in good order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_the_store_did_not_confirm_is_no_other_process_with_this_identity() {
    let (([north, _], memory), stop) = (site().await, CancellationToken::new());
    let (lost, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (fence, doubt) = (lost.clone(), seen.clone());
    // Somebody else led for a moment, and the takeover that follows is done and not confirmed.
    let store = Faulty::new(Arc::new(memory.clone()), move |method| match method {
        "renew" if fence.load(Ordering::Relaxed) => Fault::Fenced,
        "take_over" if fence.swap(false, Ordering::Relaxed) => {
            doubt.store(true, Ordering::Relaxed);
            Fault::Unconfirmed
        }
        _ => Fault::None,
    });
    let server = start_on(Arc::new(store), brief(north.path(), "north"), stop.clone()).await.expect("it starts");
    assert_eq!(term_of(&server).await, Term(1));
    lost.store(true, Ordering::Relaxed);
    let mut phase = server.phase.clone();
    let again = |phase: &Phase| phase.leader().is_some_and(|leader| leader.coordinator.lead.term > Term(1));
    let led = async { phase.wait_for(again).await.is_ok() };
    assert!(tokio::time::timeout(PATIENCE, led).await.expect("it leads again") && seen.load(Ordering::Relaxed));
    let others = memory.take_over("others", Duration::ZERO, Timestamp(0)).await.expect("memory answers");
    assert!(matches!(others, Takeover::Theirs { .. }), "its lease runs");
    stop.cancel();
    server.stopped().await.expect("it stops in good order");
}
