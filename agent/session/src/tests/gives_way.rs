//! The owner, the policy and what becomes of the work: events in, effects out.

use std::time::Duration;

use libp2p_identity::Keypair;
use lull_shared::{
    id::AgentId,
    identity::{Signed, sign},
    message::{PolicyReport, ReleaseReason, ToAgent, ToCoordinator},
    policy::{Changes, Policy, Sheet, Span},
    state::PauseReason,
};

use super::{World, attempt, authority, released, sent};
use crate::{
    guard::{Announcement, OwnerWord},
    *,
};

fn narrowed(pairs: &[&str]) -> Event {
    Event::Narrowed(Box::new(Changes::from_pairs(pairs).expect("changes")))
}

/// Three slots that run, on a machine that nobody has used for a day.
fn busy(pairs: &[&str]) -> World {
    let mut world = World::running(3, 4);
    world.event(Event::Ready { slot: 1 });
    world.event(Event::Ready { slot: 2 });
    world.event(Event::Sample(Sample::QUIET));
    world.event(narrowed(pairs));
    world
}

fn paused(effects: &[Effect]) -> Vec<(AttemptId, Option<PauseReason>)> {
    let word = |message: &&ToCoordinator| match message {
        ToCoordinator::Paused { attempt, reason } => Some((*attempt, reason.clone())),
        _ => None,
    };
    sent(effects).iter().filter_map(word).collect()
}

#[test]
fn the_first_input_freezes_every_slot_before_anything_is_said() {
    let mut world = busy(&["idle=10m", "beside_owner=false"]);
    let effects = world.event(Event::Input);
    assert_eq!(effects[..3], [0, 1, 2].map(|slot| Effect::Freeze { slot }));
    assert_eq!(paused(&effects)[0], (attempt(1, 0), Some(PauseReason::Touched)));
    let effects = world.advance(Duration::from_millis(1_500));
    assert_eq!([0, 1, 2].map(|slot| effects.contains(&Effect::Thaw { slot })), [true; 3]);
    assert_eq!(paused(&effects)[2], (attempt(1, 2), None));
}

#[test]
fn after_the_grace_period_everything_is_released_and_no_process_is_left() {
    let mut world = busy(&["idle=10m", "beside_owner=false", "grace=60s"]);
    world.event(Event::Input);
    world.now = world.now + Duration::from_secs(1);
    world.event(Event::Input);
    let effects = world.advance(Duration::from_secs(58));
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Kill { .. })));
    let effects = world.advance(Duration::from_secs(1));
    assert_eq!([0, 1, 2].map(|slot| effects.contains(&Effect::Kill { slot })), [true; 3]);
    let all: Vec<AttemptId> = (0..4).map(|index| attempt(1, index)).collect();
    let reason = ReleaseReason::Evicted(PauseReason::Present { idle_s: 600 });
    assert!(effects.contains(&released(&all, reason)), "{effects:?}");
    for slot in 0..3 {
        world.event(Event::Gone { slot, failed: None });
    }
    assert!(world.session.is_idle());
}

#[test]
fn sleep_evicts_at_once_and_an_owners_word_waits_for_the_grace() {
    let mut world = busy(&["grace=60s"]);
    assert!(world.event(Event::Announced(Announcement::Sleep)).contains(&Effect::Kill { slot: 2 }));
    let mut world = busy(&["grace=60s"]);
    let effects = world.event(Event::Owner(OwnerWord::Pause { until: None }));
    assert!(!effects.contains(&Effect::Kill { slot: 2 }), "{effects:?}");
}

#[test]
fn beside_the_owner_the_last_slots_freeze_and_go_on_as_there_is_room() {
    let mut world = busy(&["idle=10m", "beside_cores=50"]);
    let effects = world.event(Event::Input);
    // Half of four processors is two.
    assert_eq!(effects[0], Effect::Freeze { slot: 2 });
    assert_eq!(paused(&effects), [(attempt(1, 2), Some(PauseReason::Beside { slots: 2 }))]);
    assert_eq!(world.session.capacity().slots, 2);
    let effects = world.finish(0, attempt(1, 0), 50_000);
    assert!(effects.contains(&Effect::Thaw { slot: 2 }), "what was begun comes before what waits: {effects:?}");
    assert_eq!(paused(&effects), [(attempt(1, 2), None)]);
    let load = |percent| Event::Sample(Sample { cpu_others_percent: percent, idle: Some(Duration::ZERO), ..Sample::QUIET });
    let effects = world.event(load(70));
    assert_eq!(effects[0], Effect::Freeze { slot: 2 });
    assert_eq!(paused(&effects), [(attempt(1, 2), Some(PauseReason::Beside { slots: 1 }))]);
}

#[test]
fn a_result_of_a_slot_that_froze_beside_the_owner_leaves_an_executor_that_takes_more() {
    let mut world = busy(&["idle=10m", "beside_cores=50"]);
    world.event(Event::Input);
    let effects = world.finish(2, attempt(1, 2), 50_000);
    assert!(effects.contains(&Effect::Thaw { slot: 2 }), "{effects:?}");
}

fn sheet(key: &Keypair, agent: u64, version: u64, idle_s: u32) -> ToAgent {
    let policy = Policy { idle: Span::from_secs(idle_s), ..Policy::unrestricted() };
    ToAgent::Policy(sign(key, &Sheet { agent: AgentId(agent), version, policy }))
}

#[test]
fn a_policy_holds_when_the_authority_signed_it_for_this_agent_and_no_newer_one_is_known() {
    let mut world = World::ready(1);
    let idle = |world: &World| world.session.standing().admin.idle;
    let kept = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::KeepPolicy(_)));
    assert!(kept(&world.hear(sheet(&authority(), 3, 5, 300))));
    assert_eq!(idle(&world), Span::from_secs(300));
    assert!(!kept(&world.hear(sheet(&authority(), 3, 4, 0))), "an older one");
    assert!(!kept(&world.hear(sheet(&authority(), 4, 6, 0))), "another agent's");
    assert!(!kept(&world.hear(sheet(&Keypair::generate_ed25519(), 3, 7, 0))), "nobody's");
    assert!(!kept(&world.hear(sheet(&authority(), 3, 5, 300))), "the same again");
    assert_eq!((idle(&world), world.session.standing().version), (Span::from_secs(300), 5));
    world.event(narrowed(&["idle=1m"]));
    assert_eq!(world.session.standing().effective().idle, Span::from_secs(300), "nobody widens it");
    assert!(kept(&world.hear(sheet(&authority(), 3, 6, 30))));
    assert_eq!(world.session.standing().effective().idle, Span::from_secs(60), "the owner's word outlasts it");
}

#[test]
fn only_what_runs_keeps_a_machine_awake_and_only_where_the_policy_says_so() {
    let mut world = World::running(1, 1);
    assert!(!world.session.keeps_awake(), "not by default");
    let policy = Policy { keep_awake: true, grace: Span::from_secs(60), ..Policy::unrestricted() };
    world.hear(ToAgent::Policy(sign(&authority(), &Sheet { agent: AgentId(3), version: 1, policy })));
    assert!(world.session.keeps_awake());
    world.event(Event::Owner(OwnerWord::Pause { until: None }));
    assert!(!world.session.keeps_awake(), "what is paused does not");
    world.event(Event::Owner(OwnerWord::Run));
    assert!(world.session.keeps_awake());
    world.finish(0, attempt(1, 0), 50_000);
    assert!(!world.session.keeps_awake(), "nor what waits for work");
}

#[test]
fn the_coordinator_hears_what_holds_here() {
    let mut world = World::ready(1);
    world.session.handle(narrowed(&["idle=20m"]), world.now);
    let owner = Changes::from_pairs(&["idle=20m"]).expect("changes");
    let report = ToCoordinator::Policy(PolicyReport { version: 0, owner, clock_ahead_min: 0, slots_max: 1 });
    let said: Vec<Effect> = std::iter::from_fn(|| world.session.poll_effect()).collect();
    assert!(said.contains(&Effect::Send(report)), "{said:?}");
}

fn freezes(effects: &[Effect]) -> Vec<SlotId> {
    effects.iter().filter_map(|effect| if let Effect::Freeze { slot } = effect { Some(*slot) } else { None }).collect()
}

fn thaws(effects: &[Effect]) -> Vec<SlotId> {
    effects.iter().filter_map(|effect| if let Effect::Thaw { slot } = effect { Some(*slot) } else { None }).collect()
}

#[test]
fn what_is_frozen_already_is_not_frozen_again_for_another_reason_which_is_said_once() {
    let mut world = World::running(1, 1);
    let first = world.event(Event::Owner(OwnerWord::Pause { until: None }));
    assert_eq!((freezes(&first), paused(&first).len()), (vec![0], 1));
    let again = world.event(Event::Sample(Sample::QUIET));
    assert_eq!((freezes(&again), paused(&again)), (vec![], vec![]), "nothing is new");
    let until = Some(world.now + Duration::from_secs(60));
    let other = world.event(Event::Owner(OwnerWord::Pause { until }));
    assert_eq!((freezes(&other), paused(&other)), (vec![], vec![(attempt(1, 0), Some(PauseReason::Owner { until }))]));
}

#[test]
fn an_executor_that_was_frozen_while_it_started_goes_on_when_the_owner_is_gone() {
    let mut world = World::ready(2);
    world.assign(1, 0..1);
    world.fetched(super::artifact());
    let effects = world.event(Event::Owner(OwnerWord::Pause { until: None }));
    assert_eq!((freezes(&effects), paused(&effects)), (vec![0], vec![]), "nothing of it runs");
    assert_eq!(thaws(&world.event(Event::Owner(OwnerWord::Run))), [0]);
    assert_eq!(super::runs(&world.event(Event::Ready { slot: 0 })), [(0, attempt(1, 0))]);
}

#[test]
fn only_what_runs_is_frozen_for_want_of_room_and_the_last_first() {
    let mut world = busy(&["idle=10m", "beside_cores=25"]);
    world.hear(ToAgent::Recall { attempts: vec![attempt(1, 3)], reason: lull_shared::message::RecallReason::Rebalance });
    world.finish(2, attempt(1, 2), 50_000);
    // One of four processors; the third executor has nothing to do.
    let effects = world.event(Event::Input);
    assert_eq!(freezes(&effects), [1]);
    assert_eq!(paused(&effects), [(attempt(1, 1), Some(PauseReason::Beside { slots: 1 }))]);
    let effects = world.finish(0, attempt(1, 0), 50_000);
    assert_eq!(thaws(&effects), [1], "it goes on where there is room again");
}

#[test]
fn everything_is_given_up_when_the_machine_sleeps_wherever_it_is() {
    let sleeps = |mut world: World| world.event(Event::Announced(Announcement::Sleep));
    let reason = || ReleaseReason::Evicted(PauseReason::Sleep);
    let effects = sleeps(World::running(2, 1));
    assert!(effects.contains(&Effect::Kill { slot: 0 }), "it runs beside an idle slot, and nothing waits: {effects:?}");
    assert!(effects.contains(&released(&[attempt(1, 0)], reason())), "{effects:?}");
    let mut waiting = World::ready(1);
    waiting.assign(1, 0..2);
    let effects = sleeps(waiting);
    assert!(effects.contains(&released(&[attempt(1, 0), attempt(1, 1)], reason())), "they wait, and nothing runs: {effects:?}");
    let mut replacing = World::running(1, 1);
    let mut other = super::brief(2);
    other.grants.random = true;
    replacing.hear(ToAgent::Brief(Box::new(other)));
    replacing.finish(0, attempt(1, 0), 50_000);
    replacing.assign(2, 0..1);
    let effects = sleeps(replacing);
    assert!(effects.contains(&released(&[attempt(2, 0)], reason())), "its slot is being cleared for it: {effects:?}");
    let effects = sleeps(World::ready(1));
    let releases = sent(&effects).iter().filter(|word| matches!(word, ToCoordinator::Released { .. })).count();
    assert_eq!(releases, 0, "nothing is here: {effects:?}");
}

#[test]
fn an_executor_that_is_ready_after_the_room_has_shrunk_waits_until_there_is_some() {
    let mut world = World::ready(2);
    world.assign(1, 0..2);
    world.fetched(super::artifact());
    world.event(Event::Sample(Sample::QUIET));
    world.event(narrowed(&["idle=10m", "beside_cores=25"]));
    world.event(Event::Input);
    let runs = super::runs;
    assert_eq!(runs(&world.event(Event::Ready { slot: 0 })), [], "the other one starts, and there is room for one");
    assert_eq!(runs(&world.event(Event::Ready { slot: 1 })).len(), 1);
    assert_eq!(world.session.capacity().slots_busy, 1);
}

#[test]
fn an_agent_that_becomes_another_version_gives_everything_away_and_takes_work_again_if_it_does_not() {
    let mut world = busy(&["idle=10m"]);
    let release = Signed { body: vec![1], signature: vec![2] };
    assert!(world.hear(ToAgent::Upgrade(Some(release.clone()))).contains(&Effect::Upgrade(Some(release))));
    let effects = world.event(Event::Upgrading(true));
    let killed = [0, 1, 2].map(|slot| {
        effects.contains(&Effect::Kill { slot })
            || effects.iter().any(|effect| matches!(effect, Effect::Suspend { slot: suspended, .. } if *suspended == slot))
    });
    assert_eq!(killed, [true; 3], "at once, and whatever the grace: {effects:?}");
    assert_eq!((world.session.objects(), world.session.may_leave()), (Some(PauseReason::Upgrade), false));
    for slot in 0..3 {
        world.event(Event::Gone { slot, failed: None });
    }
    assert!(world.session.may_leave());
    world.event(Event::Upgrading(false));
    assert_eq!(world.session.objects(), None);
}
