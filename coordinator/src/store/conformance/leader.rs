//! Terms: one coordinator writes, and whoever was overtaken is told so.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, Term},
    state::JobState,
    time::Timestamp,
};

use super::{
    super::{
        Lead, Lost, Store, StoreError, StoreResult, Takeover,
        record::{
            AuditRecord, CoordinatorRecord, LeaderRecord, NetworkRecord, NewPolicy, PolicyRecord, Rise, RolloutMark, TokenRole,
        },
    },
    LEASE, T0, World,
    sample::{self, at},
};

pub(super) async fn a_store_has_one_leader_at_a_time(world: World) {
    let other = world.store.take_over("other", LEASE, at(5)).await.expect("an answer");
    assert_eq!(other, Takeover::Theirs { holder: "conformance".into(), until: T0 + LEASE });
    let other = world.store.take_over("other", LEASE, T0 + LEASE).await.expect("an answer");
    let Takeover::Ours(lead) = other else { panic!("the lease was over: {other:?}") };
    assert!(lead.term > world.lead.term, "each takeover begins a new term");
    let again = world.store.take_over("other", LEASE, at(11)).await.expect("an answer");
    let next = Lead::new(Term(lead.term.0 + 1), "other");
    assert_eq!(again, Takeover::Ours(next), "a holder that starts again need not wait for itself");
}

/// Every call that only the leader may make, except for its turns.
async fn everything(store: &dyn Store, lead: &Lead) -> Vec<StoreResult<()>> {
    let policy = NewPolicy { follows: 0, record: PolicyRecord { version: 1, ..PolicyRecord::default() }, detail: String::new() };
    vec![
        store.renew(lead, LEASE, at(61)).await,
        store.note(lead, &line()).await,
        store.create_token(lead, sample::token(TokenRole::Viewer, 1)).await.map(drop),
        store.revoke_token(lead, 1, "x", at(61)).await.map(drop),
        store.enrol(lead, sample::enrolment(1, 1, "p", "n")).await.map(drop),
        store.publish(lead, sample::version("f", b"m")).await.map(drop),
        store.remove_versions(lead, "f", None, "x", at(61)).await.map(drop),
        store.set_policy(lead, policy).await.map(drop),
        store.begin_rollout(lead, sample::rollout(1, "0.2.0")).await.map(drop),
        store.mark_rollout(lead, RolloutMark { number: 1, changes: Default::default(), at: at(61), line: None }).await,
        store.sweep_blobs(lead, at(61)).await.map(drop),
    ]
}

pub(super) async fn whoever_was_overtaken_is_fenced_everywhere(world: World) {
    let (store, old) = (&world.store, &world.lead);
    store.take_over("other", LEASE, at(60)).await.expect("an answer");
    let leader = LeaderRecord { term: Term(old.term.0 + 1), holder: Some("other".into()), until: at(60) + LEASE };
    let fenced = |answer: StoreResult<()>| match answer {
        Err(StoreError::Fenced(found)) => assert_eq!(found, leader, "it is told who leads"),
        other => panic!("{other:?}"),
    };
    everything(&**store, old).await.into_iter().for_each(fenced);
    fenced(store.step_down(old).await);
    fenced(store.raise(old, &rise(99, 0)).await);
    fenced(store.load(old).await.map(drop));
    fenced(store.commit(old, &[]).await);
    fenced(store.commit(old, &[sample::submitted(1, 1)]).await);
    assert!(store.audit(10).await.expect("an answer").is_empty(), "nothing of it was written");
}

pub(super) async fn another_of_the_same_term_is_fenced(world: World) {
    let lead = Lead::new(world.lead.term, "somebody else");
    for answer in everything(&*world.store, &lead).await {
        assert!(matches!(answer, Err(StoreError::Fenced(LeaderRecord { term, .. })) if term == lead.term), "{answer:?}");
    }
    assert!(matches!(world.store.load(&lead).await, Err(StoreError::Fenced(_))));
    assert!(matches!(world.store.commit(&lead, &[]).await, Err(StoreError::Fenced(_))));
    world.commit(&[]).await;
}

pub(super) async fn a_load_takes_nothing_from_what_was_sent_before_it(world: World) {
    let sent = world.lead.apart();
    for _ in 0..3 {
        world.commit(&[]).await;
        world.store.load(&world.lead).await.expect("it loads");
    }
    for answer in everything(&*world.store, &sent).await {
        answer.expect("a write that arrives late is the leader's all the same");
    }
    world.commit(&[]).await;
}

pub(super) async fn a_turn_in_doubt_that_arrives_after_a_load_is_found_or_refused(world: World) {
    let world = world.peopled(0).await;
    let sent = world.lead.apart();
    world.store.load(&world.lead).await.expect("it loads");
    world.store.commit(&sent, &[sample::submitted(1, 1)]).await.expect("it arrives before the next turn");
    world.refused(&[sample::submitted(1, 2)]).await;
    let jobs = world.store.load(&world.lead).await.expect("it loads").snapshot.jobs;
    assert_eq!(jobs.iter().map(|job| job.spec.inputs.count()).collect::<Vec<_>>(), [1]);

    let sent = world.lead.apart();
    world.store.load(&world.lead).await.expect("it loads");
    world.commit(&[sample::submitted(2, 0)]).await;
    let late = world.store.commit(&sent, &[sample::submitted(3, 1)]).await;
    assert!(matches!(late, Err(StoreError::Contradiction(_))), "it arrives after the next turn: {late:?}");
    world.commit(&[sample::job_ended(2, JobState::Succeeded, 9)]).await;
    assert_eq!(world.store.load(&world.lead).await.expect("it loads").snapshot.last_job, 2);
}

pub(super) async fn a_store_that_forgot_what_it_had_confirmed_says_so_and_goes_on(world: World) {
    let world = world.peopled(0).await;
    world.commit(&[sample::submitted(1, 1)]).await;
    if !world.backend.remember().await {
        return println!("{}: cannot be put back from here", world.backend.name());
    }
    world.commit(&[sample::submitted(2, 1)]).await;
    world.store.renew(&world.lead, LEASE, at(3)).await.expect("ours to renew");
    let World { backend, store, lead } = world;
    drop(store);
    let store = backend.forgotten().await;
    let lost = |answer: StoreResult<()>| match answer {
        Err(StoreError::Lost(Lost { known, found })) => assert_eq!(known - found, 2),
        other => panic!("{other:?}"),
    };
    lost(store.commit(&lead, &[sample::submitted(3, 1)]).await);
    everything(&*store, &lead).await.into_iter().for_each(lost);
    let loaded = store.load(&lead).await.expect("it loads what there is");
    assert_eq!((loaded.snapshot.last_job, loaded.lost.is_some()), (1, true));
    assert_eq!(store.load(&lead).await.expect("it loads").lost, None, "it is said once");
    store.commit(&lead, &[sample::submitted(2, 1)]).await.expect("it goes on from there");
}

pub(super) async fn a_lease_can_be_prolonged_and_given_up(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    store.renew(lead, LEASE, at(8)).await.expect("ours to renew");
    let other = store.take_over("other", LEASE, at(12)).await.expect("an answer");
    assert_eq!(other, Takeover::Theirs { holder: "conformance".into(), until: at(8) + LEASE });
    store.step_down(lead).await.expect("ours to give up");
    let answer = store.commit(lead, &[]).await;
    let Err(StoreError::Fenced(LeaderRecord { holder: None, .. })) = answer else { panic!("nobody leads: {answer:?}") };
    let other = store.take_over("other", Duration::from_secs(1), Timestamp(at(12).0)).await.expect("an answer");
    assert!(matches!(&other, Takeover::Ours(next) if next.term > lead.term), "{other:?}");
}

pub(super) async fn a_term_that_agents_have_seen_can_be_risen_above(world: World) {
    let (store, old) = (&world.store, &world.lead);
    let seen = Term(old.term.0 + 40);
    store.raise(old, &rise(seen.0, 7_000)).await.expect("ours to raise");
    assert!(matches!(store.commit(old, &[]).await, Err(StoreError::Fenced(_))), "whoever raised it begins anew");
    assert!(matches!(store.raise(old, &rise(old.term.0 + 90, 0)).await, Err(StoreError::Fenced(_))));
    let next = super::leader(&**store, at(1)).await;
    assert_eq!(next, Lead::new(Term(seen.0 + 1), "conformance"));
    assert_eq!(store.load(&next).await.expect("it loads").snapshot.last_job, 7_000, "no number is given twice");
    let lines = store.audit(10).await.expect("an answer");
    let told = (lines[0].action.as_str(), lines[0].subject.as_str(), lines[0].detail.as_str());
    let detail = "a3 had seen it, so the store is a restored one; job numbers go on above 7000";
    assert_eq!((lines.len(), told), (1, ("term.raise", format!("above term {}", seen.0).as_str(), detail)));
    store.raise(&next, &rise(old.term.0, 6_000)).await.expect("a lower one changes nothing");
    let again = super::leader(&**store, at(2)).await;
    assert_eq!(again, Lead::new(Term(next.term.0 + 1), "conformance"));
    assert_eq!(store.load(&again).await.expect("it loads").snapshot.last_job, 7_000);
}

pub(super) async fn what_the_store_does_not_hold_is_audited_all_the_same(world: World) {
    world.store.note(&world.lead, &line()).await.expect("ours to note");
    assert_eq!(world.store.audit(10).await.expect("an answer"), [line()]);
}

fn rise(above: u64, last_job: u64) -> Rise {
    Rise { above: Term(above), last_job, by: AgentId(3).to_string(), at: at(7) }
}

fn line() -> AuditRecord {
    let (by, action, subject, detail) = ("ann".into(), "publication.begin".into(), "p1".into(), "f".into());
    AuditRecord { at: at(5), by, action, subject, detail }
}

pub(super) async fn anybody_can_see_who_leads(world: World) {
    let seen = async || world.store.leader().await.expect("an answer");
    let leader = LeaderRecord { term: world.lead.term, holder: Some("conformance".into()), until: T0 + LEASE };
    assert_eq!(seen().await, leader);
    world.store.renew(&world.lead, LEASE, at(8)).await.expect("ours to renew");
    assert_eq!(seen().await, LeaderRecord { until: at(8) + LEASE, ..leader });
    world.store.step_down(&world.lead).await.expect("ours to give up");
    assert_eq!(seen().await, LeaderRecord { term: world.lead.term, holder: None, until: Timestamp(0) });
}

pub(super) async fn coordinators_know_of_each_other_whoever_leads(world: World) {
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

pub(super) async fn a_store_is_the_network_of_whoever_came_first_until_it_is_named_anew(world: World) {
    let record = |network: &str| NetworkRecord { network: network.repeat(16), authority: "ab".repeat(36) };
    let (first, second) = (record("01"), record("02"));
    assert_eq!(world.store.network().await.expect("an answer"), None);
    assert_eq!(world.store.name_network(&first, false).await.expect("an answer"), first);
    assert_eq!(world.store.name_network(&second, false).await.expect("an answer"), first);
    assert_eq!(world.store.network().await.expect("an answer"), Some(first));
    assert_eq!(world.store.name_network(&second, true).await.expect("an answer"), second);
    assert_eq!(world.store.network().await.expect("an answer"), Some(second));
}
