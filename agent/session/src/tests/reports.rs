//! What is said of the machine itself: what is free, that it lives, that it sleeps, what is allowed here; and what is heard
//! beside work.

use std::time::Duration;

use lull_shared::{
    hours::WeekMinute,
    id::{AgentId, Term},
    identity::sign,
    limits::CARDS_MAX,
    message::{GoodbyeReason, PolicyReport, ToAgent, ToAgentFrame, ToCoordinator, Welcome},
    policy::{Changes, Percent, Policy, Sheet},
    resources::{Capacity, Card, Mac, Subnet},
    state::{Intake, PauseReason},
};

use super::{MIB, World, artifact, attempt, authority, config, sent, welcome};
use crate::{
    guard::{Announcement, OwnerWord},
    *,
};

fn published(effects: &[Effect]) -> Vec<Capacity> {
    let published = |effect: &Effect| if let Effect::Publish(capacity) = effect { Some(capacity.clone()) } else { None };
    effects.iter().filter_map(published).collect()
}

fn reports(effects: &[Effect]) -> Vec<PolicyReport> {
    let report = |message: &&ToCoordinator| if let ToCoordinator::Policy(report) = message { Some(report.clone()) } else { None };
    sent(effects).iter().filter_map(report).collect()
}

fn says_sleep(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| **effect == Effect::Send(ToCoordinator::Sleeps)).count()
}

fn beats(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Send(ToCoordinator::Heartbeat { .. }))).count()
}

fn started(effects: &[Effect]) -> Vec<AttemptId> {
    let started = |message: &&ToCoordinator| match message {
        ToCoordinator::Started { attempts } => attempts.clone(),
        _ => Vec::new(),
    };
    sent(effects).iter().flat_map(started).collect()
}

/// Everything that happens until so much later, reports included.
fn pass(world: &mut World, time: Duration) -> Vec<Effect> {
    let until = world.now + time;
    let mut effects = Vec::new();
    while let Some(due) = world.session.poll_timeout(world.now).filter(|due| *due <= until) {
        world.now = world.now.max(due);
        world.session.handle_timeout(world.now);
        effects.extend(std::iter::from_fn(|| world.session.poll_effect()));
    }
    world.now = until;
    effects
}

fn welcome_with(change: impl FnOnce(&mut Welcome)) -> ToAgent {
    let ToAgent::Welcome(mut welcome) = welcome() else { panic!("no welcome") };
    change(&mut welcome);
    ToAgent::Welcome(welcome)
}

#[test]
fn capacity_that_stays_the_same_is_announced_rarely_and_under_a_new_number_each_time() {
    let mut world = World::new(1);
    let first = published(&world.raw(Event::Sample(Sample::QUIET)));
    assert_eq!(first.len(), 1, "an agent that starts is heard of at once");
    assert_eq!(published(&world.raw(Event::Sample(Sample::QUIET))), []);
    assert_eq!(published(&pass(&mut world, Duration::from_millis(59_999))), []);
    let second = published(&pass(&mut world, Duration::from_millis(1)));
    assert_eq!(second, [Capacity { sequence: first[0].sequence + 1, ..first[0].clone() }]);
}

#[test]
fn a_change_is_announced_to_the_coordinator_and_by_gossip_alike_a_second_after_the_last_one() {
    let mut world = World::ready(1);
    pass(&mut world, Duration::from_millis(1_000));
    let loaded = Sample { cpu_others_percent: 40, ..Sample::QUIET };
    let effects = world.raw(Event::Sample(loaded));
    let said = published(&effects);
    assert_eq!(said.iter().map(|capacity| capacity.cpu_free_percent).collect::<Vec<_>>(), [60]);
    assert!(sent(&effects).contains(&&ToCoordinator::Capacity(said[0].clone())), "{effects:?}");
    assert_eq!(published(&world.raw(Event::Sample(Sample::QUIET))), [], "not at once again");
    assert_eq!(published(&pass(&mut world, Duration::from_millis(999))), []);
    let later = published(&pass(&mut world, Duration::from_millis(1)));
    assert_eq!(later.iter().map(|capacity| capacity.cpu_free_percent).collect::<Vec<_>>(), [100]);
}

#[test]
fn what_is_free_is_what_others_leave_and_no_more_than_the_agent_may_take() {
    let free = |cpu_others_percent, memory_available_bytes| {
        let mut world = World::new(1);
        world.event(Event::Sample(Sample { cpu_others_percent, memory_available_bytes, ..Sample::QUIET }));
        let capacity = world.session.capacity();
        (capacity.cpu_free_percent, capacity.memory_free_bytes / MIB)
    };
    assert_eq!(free(0, 8192 * MIB), (100, 4096));
    assert_eq!(free(30, 1536 * MIB), (70, 1024), "512 MiB stay free");
    assert_eq!(free(100, 512 * MIB), (0, 0));
    assert_eq!(free(130, 0), (0, 0), "whatever a sensor says");
    let mut world = World::running(2, 2);
    world.event(Event::Sample(Sample::QUIET));
    assert_eq!(world.session.capacity().memory_free_bytes / MIB, 4096 - 2 * 512, "one runs, one starts");
    world.event(Event::Owner(OwnerWord::Pause { until: None }));
    let paused = world.session.capacity();
    assert_eq!((paused.slots, paused.slots_busy), (2, 2));
    assert_eq!(paused.paused, Some(PauseReason::Owner { until: None }));
}

#[test]
fn the_second_program_with_an_identity_names_another_run() {
    let mut world = World::ready(1);
    assert_eq!(world.session.capacity().run, 11);
    world.hear(ToAgent::Goodbye { reason: GoodbyeReason::Stopping });
    assert_eq!(world.session.capacity().run, 11, "every coordinator stops one day");
    world.connect();
    world.hear(ToAgent::Goodbye { reason: GoodbyeReason::Superseded });
    assert_eq!(world.session.capacity().run, 12);
}

#[test]
fn a_coordinator_that_says_goodbye_takes_nothing_from_an_agent_that_is_not_revoked() {
    for reason in [GoodbyeReason::Stopping, GoodbyeReason::Superseded] {
        let mut world = World::running(1, 2);
        let effects = world.hear(ToAgent::Goodbye { reason: reason.clone() });
        assert_eq!(effects, [Effect::Close(CloseReason::Goodbye(reason.clone()))]);
        assert_eq!(world.session.places.len(), 2, "{reason:?}");
    }
}

#[test]
fn the_welcome_is_kept_and_what_it_says_of_the_intake_holds_until_it_changes() {
    let mut world = World::new(1);
    world.event(Event::Connected);
    let said = welcome_with(|welcome| welcome.intake = Intake::Cordoned);
    let effects = world.hear(said.clone());
    let ToAgent::Welcome(welcome) = said else { panic!("no welcome") };
    assert!(effects.contains(&Effect::Adopt(Box::new(welcome))), "{effects:?}");
    assert_eq!(world.session.status(world.now).intake, Intake::Cordoned);
    world.hear(ToAgent::Intake(Intake::Open));
    assert_eq!(world.session.status(world.now).intake, Intake::Open);
}

#[test]
fn what_is_paused_is_said_again_to_each_coordinator_that_comes() {
    let mut world = World::running(1, 1);
    world.event(Event::Owner(OwnerWord::Pause { until: None }));
    world.event(Event::Disconnected);
    let effects = world.connect();
    let reason = Some(PauseReason::Owner { until: None });
    let paused = ToCoordinator::Paused { attempt: attempt(1, 0), reason };
    assert!(sent(&effects).contains(&&paused), "{effects:?}");
}

#[test]
fn a_coordinator_of_an_older_term_is_believed_a_minute_after_the_newer_one_was_heard() {
    let of_term = |term| welcome_with(|welcome| welcome.term = Term(term));
    for (term, later_ms, stale) in [(8, 0, false), (7, 0, false), (6, 0, true), (6, 59_999, true), (6, 60_000, false)] {
        let mut world = World::new(1);
        world.event(Event::Connected);
        world.hear(of_term(7));
        world.event(Event::Disconnected);
        world.now = world.now + Duration::from_millis(later_ms);
        world.event(Event::Connected);
        let effects = world.hear(of_term(term));
        assert_eq!(effects.contains(&Effect::Close(CloseReason::Stale)), stale, "term {term} after {later_ms} ms");
    }
}

#[test]
fn a_sign_of_life_is_answered_from_the_moment_that_one_is_due() {
    for (after_ms, answers) in [(999, 0), (1_000, 1)] {
        let mut world = World::ready(1);
        world.now = world.now + Duration::from_millis(after_ms);
        let sign = Event::Frame(ToAgentFrame { number: 2, messages: Vec::new() });
        assert_eq!(beats(&world.event(sign)), answers, "after {after_ms} ms");
    }
}

#[test]
fn that_the_machine_sleeps_is_said_once_to_each_coordinator() {
    let mut world = World::ready(1);
    assert_eq!(says_sleep(&world.event(Event::Announced(Announcement::Sleep))), 1);
    assert_eq!(says_sleep(&world.event(Event::Sample(Sample::QUIET))), 0, "it is known");
    world.event(Event::Disconnected);
    assert_eq!(says_sleep(&world.connect()), 1, "this one does not know it");
    assert_eq!(says_sleep(&world.event(Event::Announced(Announcement::Awake))), 0);
    assert_eq!(says_sleep(&world.event(Event::Announced(Announcement::Sleep))), 1, "another night");
    let mut world = World::new(1);
    assert_eq!(says_sleep(&world.event(Event::Announced(Announcement::Sleep))), 0, "nobody is there");
    assert_eq!(says_sleep(&world.connect()), 1);
}

#[test]
fn each_attempt_is_said_to_have_started_when_it_has_run_for_long_enough_and_to_nobody_who_is_not_there() {
    let two = || {
        let mut world = World::ready(2);
        world.assign(1, 0..2);
        world.fetched(artifact());
        world.event(Event::Ready { slot: 0 });
        world.now = world.now + Duration::from_millis(6);
        world.event(Event::Ready { slot: 1 });
        world
    };
    let mut world = two();
    assert_eq!(started(&world.advance(Duration::from_micros(3_999))), []);
    assert_eq!(started(&world.advance(Duration::from_micros(1))), [attempt(1, 0)]);
    assert_eq!(started(&world.advance(Duration::from_micros(5_999))), []);
    assert_eq!(started(&world.advance(Duration::from_micros(1))), [attempt(1, 1)]);
    let mut world = two();
    world.event(Event::Disconnected);
    assert_eq!(sent(&pass(&mut world, Duration::from_secs(1))), Vec::<&ToCoordinator>::new());
}

#[test]
fn no_more_machines_are_woken_than_one_word_may_name() {
    let card = |number: u8| Card { mac: Mac([number; 6]), subnet: Subnet::of([10, 0, 0, number].into(), 24) };
    let cards = |count: usize| (0..count as u8).map(card).collect::<Vec<_>>();
    let mut world = World::ready(1);
    for (asked, woken) in [(1, 1), (CARDS_MAX, CARDS_MAX), (CARDS_MAX + 1, CARDS_MAX)] {
        assert_eq!(world.hear(ToAgent::Wake(cards(asked))), [Effect::Wake(cards(woken))], "{asked}");
    }
}

#[test]
fn a_log_is_read_for_whoever_asks_for_it() {
    let mut world = World::running(1, 1);
    let effects = world.hear(ToAgent::ReadLog { attempt: attempt(1, 0), from: 17 });
    assert_eq!(effects, [Effect::ReadLog { attempt: attempt(1, 0), from: 17 }]);
}

#[test]
fn that_a_machines_own_clock_is_ahead_of_utc_is_told_when_it_changes() {
    let mut world = World::ready(1);
    let shows = |world: &World, ahead_min| Event::Sample(Sample { local: WeekMinute::at(world.now, ahead_min), ..Sample::QUIET });
    let told = |world: &mut World, ahead_min| {
        let sample = shows(world, ahead_min);
        reports(&world.raw(sample)).into_iter().map(|report| report.clock_ahead_min).collect::<Vec<_>>()
    };
    assert!(told(&mut world, 0).is_empty());
    assert_eq!(told(&mut world, 120), [120]);
    assert!(told(&mut world, 120).is_empty());
    assert_eq!(told(&mut world, -300), [-300]);
    world.event(Event::Disconnected);
    world.session.handle(Event::Connected, world.now);
    let effects = world.raw(Event::Frame(ToAgentFrame { number: 1, messages: vec![welcome()] }));
    assert_eq!(reports(&effects).iter().map(|report| report.clock_ahead_min).collect::<Vec<_>>(), [-300], "and to the next one");
}

#[test]
fn each_policy_that_is_heard_is_answered_with_what_holds_and_one_that_makes_no_sense_does_not_hold() {
    let sheet = |version, policy| ToAgent::Policy(sign(&authority(), &Sheet { agent: AgentId(3), version, policy }));
    let mut world = World::ready(1);
    let versions = |world: &mut World, message| {
        world.frame += 1;
        let frame = ToAgentFrame { number: world.frame, messages: vec![message] };
        reports(&world.raw(Event::Frame(frame))).iter().map(|report| report.version).collect::<Vec<_>>()
    };
    let policy = || Policy { cores: Percent::new(50), beside_owner: false, ..Policy::unrestricted() };
    assert_eq!(versions(&mut world, sheet(4, policy())), [4]);
    assert_eq!(versions(&mut world, sheet(4, policy())), [4], "the coordinator asks since it did not hear it");
    assert!(versions(&mut world, sheet(3, policy())).is_empty(), "an older one");
    let nonsense = Policy { cores: Percent::new(0), ..policy() };
    assert!(versions(&mut world, sheet(9, nonsense)).is_empty());
    assert_eq!(world.session.standing().version, 4);
    assert_eq!(versions(&mut world, sheet(4, Policy::unrestricted())), [4], "another one of the same number");
    assert_eq!(world.session.standing().admin, Policy::unrestricted());
}

#[test]
fn a_policy_holds_from_the_moment_that_it_is_heard() {
    let slots = |world: &World| world.session.capacity().slots;
    let mut world = World::ready(4);
    assert_eq!(slots(&world), 4);
    let policy = Policy { cores: Percent::new(50), beside_owner: false, ..Policy::unrestricted() };
    world.hear(ToAgent::Policy(sign(&authority(), &Sheet { agent: AgentId(3), version: 1, policy })));
    assert_eq!(slots(&world), 2);
    let narrower = Changes::from_pairs(&["cores=25"]).expect("changes");
    let effects = world.raw(Event::Narrowed(Box::new(narrower.clone())));
    assert_eq!(slots(&world), 1);
    assert_eq!(reports(&effects), [PolicyReport { version: 1, owner: narrower, clock_ahead_min: 0, slots_max: 4 }]);
    world.event(Event::Narrowed(Box::default()));
    assert_eq!(slots(&world), 2);
}

#[test]
fn a_machine_stays_awake_while_any_slot_runs_something() {
    let mut config = config(2);
    config.standing.admin.keep_awake = true;
    let mut world = World::ready(2);
    let mut session = Session::new(config, &[], world.now);
    assert!(!session.keeps_awake(), "nothing runs");
    std::mem::swap(&mut world.session, &mut session);
    world.connect();
    world.hear(ToAgent::Brief(Box::new(super::brief(1))));
    world.assign(1, 0..1);
    world.fetched(artifact());
    assert!(!world.session.keeps_awake(), "it starts");
    world.event(Event::Ready { slot: 0 });
    assert!(world.session.keeps_awake(), "one of two slots runs");
}

#[test]
fn a_coordinator_that_takes_over_within_one_turn_is_told_what_the_one_before_it_knew() {
    let mut world = World::ready(1);
    world.event(Event::Announced(Announcement::Sleep));
    let welcomed = Event::Frame(ToAgentFrame { number: 1, messages: vec![welcome()] });
    world.session.handle_all(vec![Event::Disconnected, Event::Connected, welcomed], world.now);
    assert_eq!(says_sleep(&world.effects()), 1);
}
