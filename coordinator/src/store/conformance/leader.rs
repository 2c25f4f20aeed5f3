//! Terms: one coordinator writes, and whoever was overtaken is told so.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, Term},
    time::Timestamp,
};

use super::{
    super::{
        Leadership, StoreError,
        record::{AuditRecord, CoordinatorRecord, LeaderRecord, NetworkRecord, Rise, TokenRole},
    },
    LEASE, T0, World,
    sample::{self, at},
};

pub async fn a_store_has_one_leader_at_a_time(world: World) {
    let other = world.store.take_over("other", LEASE, at(5)).await.expect("an answer");
    assert_eq!(other, Leadership::Theirs { holder: "conformance".into(), until: T0 + LEASE });
    let other = world.store.take_over("other", LEASE, T0 + LEASE).await.expect("an answer");
    let Leadership::Ours { term } = other else { panic!("the lease was over: {other:?}") };
    assert!(term > world.term, "each takeover begins a new term");
    let again = world.store.take_over("other", LEASE, at(11)).await.expect("an answer");
    assert_eq!(again, Leadership::Ours { term: Term(term.0 + 1) }, "a holder that starts again need not wait for itself");
}

pub async fn whoever_was_overtaken_is_fenced_everywhere(world: World) {
    let (store, old) = (&world.store, world.term);
    store.take_over("other", LEASE, at(60)).await.expect("an answer");
    let fenced = |answer: Result<(), StoreError>| assert!(matches!(answer, Err(StoreError::Fenced)), "{answer:?}");
    fenced(store.renew(old, LEASE, at(61)).await);
    fenced(store.step_down(old).await);
    fenced(store.raise(old, &rise(99, 0)).await);
    fenced(store.note(old, &line()).await);
    fenced(store.load(old).await.map(drop));
    fenced(store.commit(old, &[]).await);
    fenced(store.commit(old, &[sample::submitted(1, 1)]).await);
    fenced(store.create_token(old, sample::token(TokenRole::Viewer, 1)).await.map(drop));
    fenced(store.revoke_token(old, 1, "x", at(61)).await.map(drop));
    fenced(store.enrol(old, sample::enrolment(1, 1, "p", "n")).await.map(drop));
    fenced(store.publish(old, sample::version("f", b"m")).await.map(drop));
    fenced(store.remove_versions(old, "f", None, "x", at(61)).await.map(drop));
    fenced(store.sweep_blobs(old, at(61)).await.map(drop));
    assert!(store.audit(10).await.expect("an answer").is_empty(), "nothing of it was written");
}

pub async fn a_lease_can_be_prolonged_and_given_up(world: World) {
    let (store, term) = (&world.store, world.term);
    store.renew(term, LEASE, at(8)).await.expect("ours to renew");
    let other = store.take_over("other", LEASE, at(12)).await.expect("an answer");
    assert_eq!(other, Leadership::Theirs { holder: "conformance".into(), until: at(8) + LEASE });
    store.step_down(term).await.expect("ours to give up");
    assert!(matches!(store.commit(term, &[]).await, Err(StoreError::Fenced)), "whoever gave up writes no more");
    let other = store.take_over("other", Duration::from_secs(1), Timestamp(at(12).0)).await.expect("an answer");
    assert!(matches!(other, Leadership::Ours { term: next } if next > term), "{other:?}");
}

pub async fn a_term_that_agents_have_seen_can_be_risen_above(world: World) {
    let (store, old) = (&world.store, world.term);
    let seen = Term(old.0 + 40);
    store.raise(old, &rise(seen.0, 7_000)).await.expect("ours to raise");
    assert!(matches!(store.commit(old, &[]).await, Err(StoreError::Fenced)), "whoever raised it begins anew");
    assert!(matches!(store.raise(old, &rise(old.0 + 90, 0)).await, Err(StoreError::Fenced)));
    let next = store.take_over("conformance", LEASE, at(1)).await.expect("an answer");
    assert_eq!(next, Leadership::Ours { term: Term(seen.0 + 1) });
    let next = Term(seen.0 + 1);
    assert_eq!(store.load(next).await.expect("it loads").last_job, 7_000, "no number is given twice");
    let lines = store.audit(10).await.expect("an answer");
    let told = (lines[0].action.as_str(), lines[0].subject.as_str(), lines[0].detail.as_str());
    let detail = "a3 had seen it, so the store is a restored one; job numbers go on above 7000";
    assert_eq!((lines.len(), told), (1, ("term.raise", format!("above term {}", seen.0).as_str(), detail)));
    store.raise(next, &rise(old.0, 6_000)).await.expect("a lower one changes nothing");
    let again = store.take_over("conformance", LEASE, at(2)).await.expect("an answer");
    assert_eq!(again, Leadership::Ours { term: Term(next.0 + 1) });
    assert_eq!(store.load(Term(next.0 + 1)).await.expect("it loads").last_job, 7_000);
}

pub async fn what_the_store_does_not_hold_is_audited_all_the_same(world: World) {
    world.store.note(world.term, &line()).await.expect("ours to note");
    assert_eq!(world.store.audit(10).await.expect("an answer"), [line()]);
}

fn rise(above: u64, last_job: u64) -> Rise {
    Rise { above: Term(above), last_job, by: AgentId(3).to_string(), at: at(7) }
}

fn line() -> AuditRecord {
    let (by, action, subject, detail) = ("ann".into(), "publication.begin".into(), "p1".into(), "f".into());
    AuditRecord { at: at(5), by, action, subject, detail }
}

pub async fn anybody_can_see_who_leads(world: World) {
    let seen = async || world.store.leader().await.expect("an answer");
    let leader = LeaderRecord { term: world.term, holder: Some("conformance".into()), until: T0 + LEASE };
    assert_eq!(seen().await, leader);
    world.store.renew(world.term, LEASE, at(8)).await.expect("ours to renew");
    assert_eq!(seen().await, LeaderRecord { until: at(8) + LEASE, ..leader });
    world.store.step_down(world.term).await.expect("ours to give up");
    assert_eq!(seen().await, LeaderRecord { term: world.term, holder: None, until: Timestamp(0) });
}

pub async fn coordinators_know_of_each_other_whoever_leads(world: World) {
    let seen = async || world.store.coordinators().await.expect("an answer");
    let (north, south) = (sample::coordinator("north", at(1)), sample::coordinator("south", at(2)));
    for record in [&south, &north] {
        world.store.check_in(record, T0).await.expect("noted, though it does not lead");
    }
    assert_eq!(seen().await, [north.clone(), south.clone()]);
    let moved =
        CoordinatorRecord { addresses: vec!["/dns4/elsewhere/tcp/1/p2p/x".into()], leads: Some(at(3)), seen: at(9), ..south };
    world.store.check_in(&moved, at(1)).await.expect("noted");
    assert_eq!(seen().await, [north, moved.clone()]);
    world.store.check_in(&moved, at(2)).await.expect("noted");
    assert_eq!(seen().await, [moved], "who was not seen for long is forgotten");
}

pub async fn a_store_is_the_network_of_whoever_came_first_until_it_is_named_anew(world: World) {
    let record = |network: &str| NetworkRecord { network: network.repeat(16), authority: "ab".repeat(36) };
    let (first, second) = (record("01"), record("02"));
    assert_eq!(world.store.network().await.expect("an answer"), None);
    assert_eq!(world.store.name_network(&first, false).await.expect("an answer"), first);
    assert_eq!(world.store.name_network(&second, false).await.expect("an answer"), first);
    assert_eq!(world.store.network().await.expect("an answer"), Some(first));
    assert_eq!(world.store.name_network(&second, true).await.expect("an answer"), second);
    assert_eq!(world.store.network().await.expect("an answer"), Some(second));
}
