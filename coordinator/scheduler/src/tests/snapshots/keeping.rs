//! Second copies of snapshots.

use std::time::Duration;

use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId},
    limits::SNAPSHOTS_PER_AGENT_MAX,
    message::{GoodbyeReason, KeptSnapshot, RefuseReason, SnapshotRef, ToCoordinator, UnkeptReason},
    resources::Capacity,
    state::{Intake, PauseReason},
};

use crate::{
    effect::{Order, OwnCopy},
    event::Event,
    tests::{
        snapshots::moving::{discarded, evict, given, movable_driver, one_running, save, snapshot},
        support::driver::{Driver, attempt, capacity, spec},
    },
};

fn kept(number: u8) -> KeptSnapshot {
    KeptSnapshot { task: attempt(1, 0, 1).task, digest: digest(number) }
}

fn digest(number: u8) -> Digest {
    snapshot(number, 0).blob.digest
}

fn blob(number: u8) -> BlobRef {
    snapshot(number, 0).blob
}

/// Which agents the last turn asked to keep a copy.
fn asked(driver: &Driver) -> Vec<(u64, Digest)> {
    let orders = driver.orders.iter().filter_map(|(id, order)| match order {
        Order::Keep { snapshot, .. } => Some((id.0, snapshot.digest)),
        _ => None,
    });
    orders.collect()
}

/// What the last turn told an agent that it need not wait for.
fn safe(driver: &Driver, agent: u64) -> Vec<Digest> {
    let orders = driver.orders.iter().filter_map(|(id, order)| match order {
        Order::Safe { snapshots } if id.0 == agent => Some(snapshots.clone()),
        _ => None,
    });
    orders.flatten().collect()
}

fn keeps(driver: &mut Driver, agent: u64, number: u8) {
    driver.say(agent, ToCoordinator::Keeps(kept(number)));
}

fn unkept(driver: &mut Driver, agent: u64, number: u8, reason: UnkeptReason) {
    driver.say(agent, ToCoordinator::Unkept { snapshot: kept(number), reason });
}

fn pause(driver: &mut Driver, agent: u64) {
    let paused = Some(PauseReason::Owner { until: None });
    driver.say(agent, ToCoordinator::Capacity(Capacity { sequence: 9, paused, ..capacity(agent, 1) }));
}

/// A job of one task that agent 1 has run for so long.
fn one_running_for(driver: &mut Driver, time: Duration) -> AttemptId {
    driver.submit(spec(1));
    driver.started(1, &[attempt(1, 0, 1)]);
    driver.pass(time);
    attempt(1, 0, 1)
}

/// A task that agent 1 runs and of which it saved the first snapshot; the last turn is that.
fn saved(agents: u64) -> (Driver, AttemptId) {
    let mut driver = movable_driver(agents);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 50));
    (driver, first)
}

#[test]
fn a_snapshot_is_copied_to_another_agent_and_the_task_survives_its_maker() {
    let (mut driver, _) = saved(2);
    assert_eq!(asked(&driver), [(2, digest(1))]);
    keeps(&mut driver, 2, 1);
    assert_eq!((asked(&driver).len(), driver.own_copies.len()), (0, 0), "two places are enough");
    driver.say(1, ToCoordinator::Farewell);
    assert_eq!(given(&driver, 2)[0].resume.as_deref(), Some(&snapshot(1, 50)));
}

#[test]
fn a_task_goes_on_from_the_snapshot_before_while_only_its_dead_maker_has_the_newest() {
    let (mut driver, first) = saved(2);
    keeps(&mut driver, 2, 1);
    driver.pass(Duration::from_secs(300));
    save(&mut driver, 1, first, snapshot(2, 350));
    assert!(discarded(&driver, 1).is_empty() && discarded(&driver, 2).is_empty(), "it is in one place only");
    driver.say(1, ToCoordinator::Farewell);
    assert_eq!(given(&driver, 2)[0].resume.as_deref(), Some(&snapshot(1, 50)));
    driver.crash();
    driver.connect(2, 1, &[attempt(1, 0, 2)]);
    driver.say(2, ToCoordinator::Farewell);
    driver.connect(2, 1, &[]);
    assert_eq!(given(&driver, 2)[0].resume.as_deref(), Some(&snapshot(1, 50)), "the store knows it too");
}

#[test]
fn the_snapshot_before_is_discarded_everywhere_once_the_newer_one_is_in_two_places() {
    let (mut driver, first) = saved(2);
    keeps(&mut driver, 2, 1);
    save(&mut driver, 1, first, snapshot(2, 60));
    assert_eq!(asked(&driver), [(2, digest(2))]);
    keeps(&mut driver, 2, 2);
    assert_eq!((discarded(&driver, 1), discarded(&driver, 2)), (vec![digest(1)], vec![digest(1)]));
    driver.succeed(1, &[first]);
    assert_eq!((discarded(&driver, 1), discarded(&driver, 2)), (vec![digest(2)], vec![digest(2)]));
}

#[test]
fn both_snapshots_of_a_task_are_discarded_when_it_ends_before_the_newer_one_was_copied() {
    let (mut driver, first) = saved(2);
    keeps(&mut driver, 2, 1);
    save(&mut driver, 1, first, snapshot(2, 60));
    driver.succeed(1, &[first]);
    let mut at_maker = discarded(&driver, 1);
    at_maker.sort();
    let mut both = vec![digest(1), digest(2)];
    both.sort();
    assert_eq!(at_maker, both);
    assert!(discarded(&driver, 2).contains(&digest(1)), "what it was asked to keep goes too");
}

#[test]
fn an_agent_that_cannot_use_the_newest_snapshot_lets_the_task_go_on_from_the_one_before() {
    let (mut driver, first) = saved(3);
    let keeper = asked(&driver)[0].0;
    keeps(&mut driver, keeper, 1);
    save(&mut driver, 1, first, snapshot(2, 60));
    evict(&mut driver, 1, first);
    let (agent, again) = [2, 3].into_iter().find_map(|id| Some((id, given(&driver, id).first()?.clone()))).expect("it goes on");
    assert_eq!(again.resume.as_deref(), Some(&snapshot(2, 60)));
    let reason = RefuseReason::Snapshot { digest: digest(2), reason: "its bytes are wrong".into() };
    driver.say(agent, ToCoordinator::Refused { attempt: again.attempt, reason });
    let resumed = [1, 2, 3].into_iter().find_map(|id| given(&driver, id).first().cloned()).expect("it goes on at once");
    assert_eq!(resumed.resume.as_deref(), Some(&snapshot(1, 50)));
}

#[test]
fn whoever_declines_is_not_asked_again_at_once_and_the_coordinator_is_the_last_resort() {
    let (mut driver, _) = saved(3);
    let (first, _) = asked(&driver)[0];
    unkept(&mut driver, first, 1, UnkeptReason::Metered);
    let (second, _) = asked(&driver)[0];
    assert_eq!(first + second, 5, "two and three, in some order");
    unkept(&mut driver, second, 1, UnkeptReason::Full);
    assert_eq!((asked(&driver), driver.own_copies.clone()), (vec![], vec![OwnCopy::Keep(blob(1))]));
    driver.handle(Event::KeptHere { blobs: vec![blob(1)] });
    driver.pass(Duration::from_secs(3_600));
    assert!(asked(&driver).is_empty(), "two places are enough");
}

#[test]
fn an_agent_whose_owner_is_there_is_asked_for_nothing() {
    let mut driver = movable_driver(2);
    let first = one_running(&mut driver);
    pause(&mut driver, 2);
    save(&mut driver, 1, first, snapshot(1, 50));
    assert_eq!((asked(&driver), driver.own_copies.clone()), (vec![], vec![OwnCopy::Keep(blob(1))]));
}

#[test]
fn what_the_coordinator_keeps_itself_goes_with_its_task_and_stays_within_its_budget() {
    let mut driver = movable_driver(1);
    let first = one_running(&mut driver);
    let large = SnapshotRef { blob: BlobRef { size_bytes: 1 << 30, ..blob(9) }, spent_us: 0 };
    save(&mut driver, 1, first, large);
    assert_eq!(driver.own_copies, [OwnCopy::Keep(large.blob)]);
    driver.handle(Event::KeptHere { blobs: vec![large.blob] });
    driver.succeed(1, &[first]);
    assert_eq!(driver.own_copies, [OwnCopy::Discard(large.blob.digest)]);
    let mut limited = movable_driver_with_budget(99);
    let first = one_running(&mut limited);
    save(&mut limited, 1, first, SnapshotRef { blob: BlobRef { size_bytes: 100, ..blob(1) }, spent_us: 0 });
    assert_eq!(limited.own_copies, []);
}

fn movable_driver_with_budget(snapshots_here_bytes_max: u64) -> Driver {
    let limits = crate::Limits {
        lease: Duration::from_secs(100_000),
        overtime_margin: Duration::from_secs(100_000),
        begin_max: Duration::from_secs(100_000),
        snapshots_here_bytes_max,
        ..crate::Limits::default()
    };
    let mut driver = Driver::with(limits);
    driver.enrol_and_connect(1, 1);
    driver.movable = Some(crate::event::Movable { cost_percent: 110 });
    driver
}

#[test]
fn what_a_coordinator_kept_in_an_earlier_life_is_kept_or_discarded_as_it_is_needed() {
    let (mut driver, _) = saved(1);
    driver.crash();
    assert_eq!(driver.own_copies, [OwnCopy::Report]);
    driver.handle(Event::KeptHere { blobs: vec![blob(1), blob(7)] });
    assert_eq!(driver.own_copies, [OwnCopy::Discard(digest(7))]);
    driver.enrol_and_connect(2, 1);
    driver.pass(Duration::from_secs(61));
    assert_eq!(asked(&driver), [(2, digest(1))], "it is in one place");
}

#[test]
fn who_leaves_may_go_at_once_if_others_have_what_it_keeps() {
    let (mut driver, _) = saved(2);
    keeps(&mut driver, 2, 1);
    unkept(&mut driver, 1, 1, UnkeptReason::Leaving);
    assert_eq!(safe(&driver, 1), [digest(1)]);
    unkept(&mut driver, 1, 8, UnkeptReason::Leaving);
    assert_eq!(safe(&driver, 1), [digest(8)], "nobody needs that one");
}

#[test]
fn who_leaves_with_the_only_copy_may_go_when_another_has_it() {
    let (mut driver, _) = saved(3);
    let (first, _) = asked(&driver)[0];
    unkept(&mut driver, 1, 1, UnkeptReason::Leaving);
    assert!(safe(&driver, 1).is_empty());
    unkept(&mut driver, first, 1, UnkeptReason::Unavailable);
    let (second, _) = asked(&driver)[0];
    keeps(&mut driver, second, 1);
    assert_eq!(safe(&driver, 1), [digest(1)]);
}

#[test]
fn a_keeper_that_is_away_for_long_is_replaced_and_one_that_is_back_soon_is_not() {
    let (mut driver, _) = saved(3);
    let (first, _) = asked(&driver)[0];
    keeps(&mut driver, first, 1);
    driver.disconnect(first);
    driver.pass(Duration::from_secs(20));
    assert!(asked(&driver).is_empty());
    driver.keeps.insert(AgentId(first), vec![kept(1)]);
    driver.connect(first, 1, &[]);
    driver.pass(Duration::from_secs(20));
    assert!(asked(&driver).is_empty());
    driver.disconnect(first);
    driver.pass(Duration::from_secs(31));
    assert_eq!(asked(&driver), [(5 - first, digest(1))]);
}

#[test]
fn an_agent_that_lost_its_copies_is_not_counted_on() {
    let (mut driver, _) = saved(2);
    keeps(&mut driver, 2, 1);
    driver.connect(2, 1, &[]);
    assert_eq!(asked(&driver), [(2, digest(1))]);
}

#[test]
fn a_keeper_that_never_answers_is_given_up() {
    let (mut driver, _) = saved(3);
    let (first, _) = asked(&driver)[0];
    driver.pass(Duration::from_secs(601));
    assert_eq!(asked(&driver), [(5 - first, digest(1))]);
}

#[test]
fn a_copy_that_nobody_asked_for_any_more_is_deleted() {
    let (mut driver, first) = saved(2);
    driver.succeed(1, &[first]);
    assert_eq!(discarded(&driver, 2), [digest(1)], "it may be on its way");
    keeps(&mut driver, 2, 1);
    assert_eq!(discarded(&driver, 2), [digest(1)]);
}

#[test]
fn agents_that_take_no_work_keep_no_copies() {
    let mut driver = movable_driver(2);
    driver.set_intake(2, Intake::Draining);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 50));
    assert!(asked(&driver).is_empty());
}

#[test]
fn whoever_knows_a_snapshots_digest_takes_nothing_from_the_task_that_goes_on_from_it() {
    let (mut driver, _) = saved(3);
    keeps(&mut driver, 2, 1);
    driver.submit(spec(1));
    let other = attempt(2, 0, 1);
    let liar = [2, 3].into_iter().find(|agent| !given(&driver, *agent).is_empty()).expect("one of them takes it");
    driver.started(liar, &[other]);
    save(&mut driver, liar, other, snapshot(1, 50));
    driver.succeed(liar, &[other]);
    assert_eq!((discarded(&driver, 1), discarded(&driver, 2)), (Vec::new(), Vec::new()), "the other task needs them");
    keeps(&mut driver, 2, 1);
    assert_eq!(discarded(&driver, 2), [], "it is still known whose it is");
    driver.say(1, ToCoordinator::Farewell);
    let next = [2, 3].into_iter().flat_map(|agent| given(&driver, agent)).next().expect("it goes on");
    assert_eq!(next.resume.as_deref(), Some(&snapshot(1, 50)));
}

#[test]
fn an_agent_names_no_more_snapshots_than_it_may_have_and_those_of_no_task_are_not_remembered() {
    let mut driver = Driver::with_agents(1, 1);
    let unknown = |number: usize| KeptSnapshot { task: attempt(7, 0, 1).task, digest: Digest::of(&number.to_le_bytes()) };
    driver.keeps.insert(AgentId(1), (0..=SNAPSHOTS_PER_AGENT_MAX).map(unknown).collect());
    driver.connect(1, 1, &[]);
    assert!(matches!(driver.orders[..], [(AgentId(1), Order::Goodbye { reason: GoodbyeReason::Protocol(_) })]));
    driver.keeps.insert(AgentId(1), (0..SNAPSHOTS_PER_AGENT_MAX).map(unknown).collect());
    driver.connect(1, 1, &[]);
    assert_eq!(discarded(&driver, 1).len(), SNAPSHOTS_PER_AGENT_MAX);
    assert_eq!(driver.scheduler.kept_snapshots.load(AgentId(1)), 0);
}

#[test]
fn what_is_known_of_an_agents_snapshots_goes_with_their_task() {
    let (mut driver, first) = saved(2);
    keeps(&mut driver, 2, 1);
    let load = |driver: &Driver, agent| driver.scheduler.kept_snapshots.load(AgentId(agent));
    assert_eq!((load(&driver, 1), load(&driver, 2)), (1, 1));
    driver.succeed(1, &[first]);
    assert_eq!((load(&driver, 1), load(&driver, 2)), (0, 0));
}

#[test]
fn a_task_goes_on_from_its_newest_snapshot_while_nobody_is_there_who_has_the_one_before() {
    let (mut driver, first) = saved(3);
    let (keeper, _) = asked(&driver)[0];
    keeps(&mut driver, keeper, 1);
    save(&mut driver, 1, first, snapshot(2, 60));
    driver.disconnect(keeper);
    driver.say(1, ToCoordinator::Farewell);
    let resumed = given(&driver, 5 - keeper)[0].resume.clone();
    assert_eq!(resumed.as_deref(), Some(&snapshot(2, 60)), "neither can be had, and this one is further");
}

#[test]
fn whoever_was_asked_and_goes_away_before_it_has_the_copy_is_replaced_at_once() {
    let (mut driver, _) = saved(3);
    let (first, _) = asked(&driver)[0];
    driver.disconnect(first);
    assert_eq!(asked(&driver), [(5 - first, digest(1))]);
}

#[test]
fn a_keeper_that_falls_silent_is_replaced_after_a_while() {
    let mut driver = Driver::with_agents(3, 1);
    driver.movable = Some(crate::event::Movable { cost_percent: 110 });
    let first = one_running_for(&mut driver, Duration::from_secs(1));
    save(&mut driver, 1, first, snapshot(1, 0));
    let (keeper, _) = asked(&driver)[0];
    keeps(&mut driver, keeper, 1);
    let mut replaced = None;
    for second in 1..=60 {
        driver.pass(Duration::from_secs(1));
        if let Some((other, _)) = asked(&driver).first() {
            replaced.get_or_insert((second, *other));
        }
        for agent in (1..=3).filter(|agent| *agent != keeper) {
            driver.heartbeat(agent, &driver.held(agent));
            assert_eq!(asked(&driver), []);
        }
    }
    assert_eq!(replaced, Some((34, 5 - keeper)), "its lease, and half a minute");
}

#[test]
fn a_no_of_somebody_who_was_not_asked_is_no_answer() {
    let (mut driver, _) = saved(3);
    let (first, _) = asked(&driver)[0];
    unkept(&mut driver, 5 - first, 1, UnkeptReason::Full);
    assert_eq!(asked(&driver), [], "the first has still to answer");
    unkept(&mut driver, first, 1, UnkeptReason::Full);
    assert_eq!(asked(&driver), [(5 - first, digest(1))], "who was not asked has not declined");
}

#[test]
fn a_keeper_is_given_up_when_its_time_is_over_and_not_before() {
    let (mut driver, _) = saved(3);
    let (first, _) = asked(&driver)[0];
    driver.pass(Duration::from_secs(600) - Duration::from_micros(1));
    assert_eq!(asked(&driver), []);
    driver.pass(Duration::from_micros(1));
    assert_eq!(asked(&driver), [(5 - first, digest(1))]);
    driver.pass(Duration::from_secs(600));
    assert_eq!((asked(&driver), driver.own_copies.clone()), (vec![], vec![OwnCopy::Keep(blob(1))]), "both had their time");
}

#[test]
fn a_coordinator_that_could_not_fetch_a_copy_looks_again_for_all_after_a_minute() {
    let mut driver = movable_driver(1);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 50));
    assert_eq!(driver.own_copies, [OwnCopy::Keep(blob(1))]);
    driver.handle(Event::NotKeptHere { digest: digest(7) });
    assert_eq!(driver.own_copies, [], "that is another one");
    driver.handle(Event::NotKeptHere { digest: digest(1) });
    assert_eq!(driver.own_copies, [], "it is not tried again at once");
    driver.pass(Duration::from_secs(60) - Duration::from_micros(1));
    assert_eq!(driver.own_copies, []);
    driver.pass(Duration::from_micros(1));
    assert_eq!(driver.own_copies, [OwnCopy::Keep(blob(1))]);
}

/// One agent that runs so many tasks and leaves a snapshot of each, each of so many bytes; others, which take no work but
/// keep copies, and what the coordinator may keep.
fn many_saved(tasks: u32, size_bytes: u64, keepers: u64, budget: u64, answers: bool) -> (Vec<u64>, usize) {
    let mut driver = movable_driver_with_budget(budget);
    driver.connect(1, tasks as u16, &[]);
    (2..2 + keepers).for_each(|agent| driver.enrol_and_connect(agent, 0));
    let mut small = spec(tasks);
    small.limits.memory_bytes = 1 << 20;
    driver.submit(small);
    let (mut keeping, mut here) = (Vec::new(), 0);
    for index in 0..tasks {
        driver.started(1, &[attempt(1, index, 1)]);
        let blob = BlobRef { size_bytes, ..BlobRef::of(&index.to_le_bytes()) };
        save(&mut driver, 1, attempt(1, index, 1), SnapshotRef { blob, spent_us: 0 });
        keeping.extend(asked(&driver).into_iter().map(|(agent, _)| agent));
        if driver.own_copies == [OwnCopy::Keep(blob)] {
            here += 1;
            if answers {
                driver.handle(Event::KeptHere { blobs: vec![blob] });
            }
        }
    }
    (keeping, here)
}

#[test]
fn what_the_coordinator_keeps_or_was_asked_to_keep_fits_its_budget_to_the_last_byte() {
    for answers in [false, true] {
        assert_eq!(many_saved(3, 60, 0, 120, answers), (vec![], 2), "answers: {answers}");
        assert_eq!(many_saved(3, 60, 0, 119, answers), (vec![], 1), "answers: {answers}");
    }
}

#[test]
fn an_agent_keeps_no_more_for_others_than_half_of_what_it_may_have() {
    let most = SNAPSHOTS_PER_AGENT_MAX / 2;
    let (keeping, here) = many_saved(most as u32 + 1, 60, 1, 1_000, false);
    assert_eq!((keeping.len(), here), (most, 1));
}

#[test]
fn copies_go_to_those_that_keep_the_fewest() {
    let (keeping, here) = many_saved(12, 60, 4, 0, false);
    let counts = [2, 3, 4, 5].map(|agent| keeping.iter().filter(|other| **other == agent).count());
    assert_eq!((counts, here), ([3; 4], 0));
}

#[test]
fn what_is_kept_here_counts_as_a_place_and_is_given_up_with_the_snapshot_before() {
    let mut driver = movable_driver(1);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 50));
    driver.handle(Event::KeptHere { blobs: vec![blob(1)] });
    assert_eq!((driver.own_copies.len(), asked(&driver)), (0, vec![]));
    save(&mut driver, 1, first, snapshot(2, 60));
    assert_eq!(driver.own_copies, [OwnCopy::Keep(blob(2))], "the one before stays while the newer is in one place");
    driver.handle(Event::KeptHere { blobs: vec![blob(2)] });
    assert_eq!((driver.own_copies.clone(), discarded(&driver, 1)), (vec![OwnCopy::Discard(digest(1))], vec![digest(1)]));
    unkept(&mut driver, 1, 2, UnkeptReason::Leaving);
    assert_eq!(safe(&driver, 1), [digest(2)], "this coordinator has it");
}

#[test]
fn a_keeper_that_is_asked_for_a_newer_snapshot_gives_up_the_fetch_of_the_older() {
    let (mut driver, first) = saved(2);
    assert_eq!(asked(&driver), [(2, digest(1))]);
    save(&mut driver, 1, first, snapshot(2, 60));
    assert_eq!((discarded(&driver, 1), discarded(&driver, 2)), (vec![digest(1)], vec![digest(1)]), "in one place only");
    assert_eq!(asked(&driver), [(2, digest(2))]);
}
