//! Machines as they come and go, and what becomes of a rollout.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const COUNT: u64 = 7;
const WITHIN: u64 = 100;
const STEADY: u64 = 10;

struct World {
    rollout: Rollout,
    now: Timestamp,
}

fn plan(waves: &str) -> Plan {
    Plan { waves: waves.parse().expect("waves"), within_s: WITHIN, steady_s: STEADY, ..Plan::default() }
}

impl World {
    /// So many machines, all of them there and behind.
    fn new(waves: &str, machines: u64) -> Self {
        let now = Timestamp::from_millis(1_000);
        let mut world = Self { rollout: Rollout::restore(COUNT, plan(waves), Standing::default(), now), now };
        (1..=machines).for_each(|number| world.seen(number, true, true));
        world.later(0);
        world
    }

    fn seen(&mut self, number: u64, connected: bool, behind: bool) {
        self.rollout.seen(AgentId(number), connected, behind, self.now);
    }

    fn later(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.rollout.advance(self.now);
        audit(&self.rollout);
    }

    fn told(&self) -> Vec<AgentId> {
        self.rollout.told().into_iter().collect()
    }

    fn says(&mut self, agent: AgentId, step: UpgradeStep) {
        self.rollout.heard(agent, UpgradeReport { count: COUNT, step }, self.now);
    }

    /// It gives the package to its installer, goes, and comes back as the new version.
    fn upgrades(&mut self, agent: AgentId) {
        self.says(agent, UpgradeStep::Given);
        self.rollout.gone(agent, self.now);
        self.rollout.seen(agent, true, false, self.now);
    }

    fn step(&self, agent: AgentId) -> Option<Step> {
        self.rollout.standing().agents.get(&agent).cloned()
    }

    fn stopped(&self) -> Option<String> {
        self.rollout.standing().stopped
    }
}

/// What holds after every step.
fn audit(rollout: &Rollout) {
    let reached: BTreeSet<AgentId> = rollout.reached().into_iter().collect();
    let fresh = |agent: &AgentId| rollout.unsaved.contains(agent) && rollout.agents[agent].step == Step::Told;
    assert!(rollout.told().iter().filter(|agent| fresh(agent)).all(|agent| reached.contains(agent)), "out of turn");
    assert!(rollout.stopped.is_none() || rollout.told().is_empty(), "nobody is told while it stands still");
    assert!(usize::from(rollout.begun) <= rollout.plan.waves.len());
}

#[test]
fn a_wave_begins_when_the_one_before_is_healthy_and_not_sooner() {
    let mut world = World::new("10%,50%,100%", 10);
    let first = world.told();
    assert_eq!(first.len(), 1);
    world.upgrades(first[0]);
    world.later(STEADY - 1);
    assert_eq!((world.told(), world.step(first[0])), (vec![], Some(Step::Back)), "it is to stay a while");
    world.later(1);
    assert_eq!(world.step(first[0]), Some(Step::Healthy));
    let second = world.told();
    assert_eq!(second.len(), 4, "half of ten are five");
    second[..3].iter().for_each(|agent| world.upgrades(*agent));
    world.later(STEADY);
    assert_eq!(world.told(), [second[3]], "one is on the way");
    world.upgrades(second[3]);
    world.later(STEADY);
    assert_eq!(world.told().len(), 5);
}

#[test]
fn who_is_in_which_wave_is_the_same_whenever_one_looks() {
    let order = |machines: std::ops::RangeInclusive<u64>| {
        let mut line: Vec<u64> = machines.collect();
        line.sort_by_key(|number| place_in_line(AgentId(*number)));
        line
    };
    let hundred = order(1..=100);
    let rest: Vec<u64> = order(1..=120).into_iter().filter(|number| *number <= 100).collect();
    assert_eq!(hundred, rest, "whoever joins later changes nobody's place before another's");
    assert_ne!(hundred, (1..=100).collect::<Vec<_>>());
}

#[test]
fn more_than_a_small_share_that_does_not_come_back_stops_it_by_itself() {
    let mut world = World::new("34%,67%,100%", 3);
    // A third of three and a bit are two.
    let first = world.told();
    world.upgrades(first[0]);
    world.says(first[1], UpgradeStep::Given);
    world.rollout.gone(first[1], world.now);
    world.later(WITHIN - 1);
    assert_eq!(world.stopped(), None, "it may still come");
    world.later(1);
    assert_eq!(world.step(first[1]), Some(Step::Failed("it did not come back in time".into())));
    assert!(world.stopped().is_some_and(|why| why.starts_with("1 of the 2 machines")), "{:?}", world.stopped());
    world.seen(first[1].0, true, true);
    world.later(10 * WITHIN);
    assert!(world.told().is_empty(), "nothing goes on by itself");
    assert!(world.rollout.resume(world.now) && !world.rollout.resume(world.now));
    world.later(0);
    assert_eq!((world.stopped(), world.told().len()), (None, 1), "what was seen is forgiven, and the last wave begins");
}

#[test]
fn a_small_share_of_many_stops_nothing() {
    let mut world = World::new("100%", 40);
    let told = world.told();
    told[1..].iter().for_each(|agent| world.upgrades(*agent));
    world.says(told[0], UpgradeStep::Failed { reason: "dpkg ended with 1".into() });
    world.later(STEADY);
    assert_eq!((world.stopped(), world.step(told[0])), (None, Some(Step::Failed("dpkg ended with 1".into()))));
    world.says(told[0], UpgradeStep::Given);
    assert!(matches!(world.step(told[0]), Some(Step::Failed(_))), "what has ended has ended");
}

#[test]
fn a_machine_that_is_switched_off_in_between_is_told_again_and_holds_up_nobody() {
    let mut world = World::new("50%,100%", 4);
    let first = world.told();
    world.rollout.gone(first[0], world.now);
    world.upgrades(first[1]);
    world.later(WITHIN * 2);
    assert_eq!((world.stopped(), world.step(first[0])), (None, Some(Step::Waiting)));
    assert_eq!(world.told().len(), 2, "the second wave goes on");
    world.seen(first[0].0, true, true);
    world.later(0);
    assert_eq!(world.step(first[0]), Some(Step::Told));
}

#[test]
fn who_says_no_is_neither_healthy_nor_a_failure() {
    let mut world = World::new("50%,100%", 2);
    let first = world.told();
    world.says(first[0], UpgradeStep::Refused { reason: "its policy says so".into() });
    world.later(0);
    assert_eq!((world.stopped(), world.told().len()), (None, 1), "the other one is next");
}

#[test]
fn a_version_that_does_not_stay_is_a_failure() {
    let mut world = World::new("100%", 2);
    let told = world.told();
    told.iter().for_each(|agent| world.upgrades(*agent));
    world.rollout.gone(told[0], world.now);
    world.later(WITHIN);
    assert_eq!(world.step(told[0]), Some(Step::Failed("it came back and went again".into())));
    assert!(world.stopped().is_some());
    let mut world = World::new("100%", 1);
    world.upgrades(AgentId(1));
    world.seen(1, true, true);
    world.later(0);
    assert_eq!(world.step(AgentId(1)), Some(Step::Failed("it came back as an older version".into())));
}

#[test]
fn words_about_another_release_or_of_whom_nobody_told_count_for_nothing() {
    let mut world = World::new("50%,100%", 2);
    let first = world.told()[0];
    let other = AgentId(3 - first.0);
    let failed = || UpgradeStep::Failed { reason: "x".into() };
    world.rollout.heard(first, UpgradeReport { count: COUNT - 1, step: failed() }, world.now);
    world.says(other, failed());
    world.later(0);
    assert_eq!((world.step(first), world.step(other)), (Some(Step::Told), None));
}

#[test]
fn the_next_leader_goes_on_where_this_one_was() {
    let mut world = World::new("50%,100%", 2);
    let first = world.told()[0];
    world.says(first, UpgradeStep::Given);
    let mut next = Rollout::restore(COUNT, plan("50%,100%"), world.rollout.standing(), world.now);
    assert_eq!(next.standing(), world.rollout.standing());
    next.advance(world.now + Duration::from_secs(WITHIN - 1));
    assert_eq!(next.told(), [first].into(), "it has all its time again");
    next.seen(first, true, false, world.now);
    assert_eq!(next.standing().agents[&first], Step::Back);
}

#[test]
fn what_changed_is_to_be_kept_until_it_is() {
    let mut world = World::new("100%", 2);
    let unsaved = world.rollout.unsaved();
    assert_eq!((unsaved.begun, unsaved.agents.len()), (1, 2));
    world.says(AgentId(1), UpgradeStep::Given);
    world.rollout.saved(&unsaved);
    assert_eq!(world.rollout.unsaved().agents, [(AgentId(1), Step::Given)].into(), "it has changed since");
}

#[test]
fn every_step_has_a_word_that_reads_back() {
    let steps =
        [Step::Waiting, Step::Told, Step::Given, Step::Back, Step::Healthy, Step::Refused("a".into()), Step::Failed("b".into())];
    for step in steps {
        assert_eq!(Step::from_word(step.as_str(), step.reason().map(str::to_owned)), Some(step));
    }
}

proptest! {
    #[test]
    fn whatever_machines_do_nobody_is_told_out_of_turn(
        deeds in prop::collection::vec((0_u8..7, 1_u64..12, 0_u64..40), 0..200), machines in 1_u64..12
    ) {
        let mut world = World::new("10%,50%,100%", machines);
        for (deed, number, seconds) in deeds {
            let agent = AgentId(number);
            match deed {
                0 => world.rollout.gone(agent, world.now),
                1 => world.seen(number, true, true),
                2 => world.seen(number, true, false),
                3 => world.says(agent, UpgradeStep::Given),
                4 => world.says(agent, UpgradeStep::Failed { reason: "x".into() }),
                5 => drop(world.rollout.resume(world.now)),
                _ => world.later(seconds),
            }
            let kept = world.rollout.unsaved();
            world.rollout.saved(&kept);
            prop_assert!(world.rollout.unsaved().agents.is_empty());
        }
    }
}
