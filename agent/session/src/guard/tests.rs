//! Samples and input in, verdicts out.

use lull_shared::{
    hours::WeekMinute,
    policy::{Changes, Span},
};

use super::*;

const GIB: u64 = 1 << 30;
pub(super) const MEANS: Means = Means { cores: 8, slots: 8, memory_bytes: 16 * GIB, memory_bytes_max: 8 * GIB };

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000 + millis)
}

fn changes(pairs: &[&str]) -> Changes {
    Changes::from_pairs(pairs).expect("changes")
}

/// A guard and its machine, one sample a second.
struct Desk {
    guard: Guard,
    sample: Sample,
    now: i64,
    /// When there was input last; none when the sample itself says it.
    last: Option<i64>,
}

impl Desk {
    /// Nobody has been there for long.
    fn quiet(policy: Policy) -> Self {
        let guard = Guard::new(Rules::default(), policy, MEANS, at(0));
        let sample = Sample { memory_available_bytes: GIB, ..Sample::QUIET };
        let mut desk = Self { guard, sample, now: 0, last: Some(-24 * 60 * 60 * 1_000) };
        desk.guard.observe(desk.sample, at(0));
        desk
    }

    fn night() -> Self {
        Self::quiet(Policy::default())
    }

    fn touch(&mut self) -> Verdict {
        self.last = Some(self.now);
        self.guard.input(at(self.now));
        self.guard.verdict(at(self.now))
    }

    fn pass(&mut self, millis: i64) -> Verdict {
        let end = self.now + millis;
        while self.now < end {
            let next = (self.now / 1_000 + 1) * 1_000;
            self.now = next.min(end);
            if self.now == next {
                if let Some(last) = self.last {
                    self.sample.idle = Some(at(self.now).since(at(last)));
                }
                self.guard.observe(self.sample, at(self.now));
            }
            self.guard.verdict(at(self.now));
        }
        self.guard.verdict(at(self.now))
    }

    fn seconds(&mut self, seconds: i64) -> Verdict {
        self.pass(seconds * 1_000)
    }
}

fn runs(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Run(_))
}

const PRESENT: PauseReason = PauseReason::Present { idle_s: 600 };

#[test]
fn a_bumped_desk_pauses_at_once_and_resumes_within_two_seconds() {
    let mut desk = Desk::night();
    assert!(runs(&desk.pass(1)));
    assert_eq!(desk.touch(), Verdict::Pause(PauseReason::Touched));
    desk.pass(300);
    assert_eq!(desk.touch(), Verdict::Pause(PauseReason::Touched), "the mouse still slides");
    assert_eq!(desk.guard.poll_timeout(at(desk.now)), Some(at(1 + 1_500)));
    assert_eq!(desk.pass(1_199), Verdict::Pause(PauseReason::Touched));
    assert!(runs(&desk.pass(1)));
}

#[test]
fn further_input_means_that_the_owner_is_back_for_the_idle_time_of_the_policy() {
    let mut desk = Desk::night();
    desk.touch();
    desk.pass(800);
    assert_eq!(desk.touch(), Verdict::Pause(PRESENT));
    assert_eq!(desk.pass(59_000), Verdict::Pause(PRESENT));
    assert_eq!(desk.seconds(2), Verdict::Evict(PRESENT), "the grace period is over");
    assert_eq!(desk.seconds(538), Verdict::Evict(PRESENT));
    assert!(runs(&desk.seconds(1)), "ten minutes after the last input");
}

#[test]
fn without_a_grace_period_a_bump_evicts_nothing_and_an_owner_who_is_back_gets_the_memory_at_once() {
    let mut desk = Desk::quiet(Policy { grace: Span::from_secs(0), ..Policy::default() });
    assert_eq!(desk.touch(), Verdict::Pause(PauseReason::Touched), "it may be a bump");
    assert_eq!(desk.pass(1_499), Verdict::Pause(PauseReason::Touched));
    assert!(runs(&desk.pass(1)));
    desk.seconds(700);
    desk.touch();
    desk.pass(800);
    assert_eq!(desk.touch(), Verdict::Evict(PRESENT));
}

#[test]
fn a_short_idle_time_takes_nobody_for_a_bump_who_rested_for_less_than_a_minute() {
    let mut desk = Desk::quiet(Policy { idle: Span::from_secs(10), ..Policy::default() });
    let present = PauseReason::Present { idle_s: 10 };
    desk.touch();
    desk.pass(800);
    assert_eq!(desk.touch(), Verdict::Pause(present.clone()));
    assert_eq!(desk.pass(9_999), Verdict::Pause(present.clone()));
    assert!(runs(&desk.pass(1)), "ten seconds after the last input");
    desk.seconds(30);
    assert_eq!(desk.touch(), Verdict::Pause(present));
    assert!(runs(&desk.seconds(90)));
    assert_eq!(desk.touch(), Verdict::Pause(PauseReason::Touched), "after a longer rest it may be one");
}

#[test]
fn somebody_who_reads_and_moves_the_mouse_now_and_then_is_not_a_bumped_desk() {
    let mut desk = Desk::night();
    desk.touch();
    assert!(runs(&desk.seconds(120)), "the first time it may be one");
    assert_eq!(desk.touch(), Verdict::Pause(PRESENT));
    desk.seconds(300);
    assert_eq!(desk.touch(), Verdict::Evict(PRESENT));
    assert!(!runs(&desk.seconds(599)));
}

#[test]
fn an_agent_that_starts_does_not_know_that_its_owner_is_away() {
    let mut guard = Guard::new(Rules::default(), Policy::default(), MEANS, at(0));
    assert_eq!(guard.verdict(at(0)), Verdict::Pause(PauseReason::Starting));
    guard.observe(Sample { idle: None, ..Sample::QUIET }, at(1_000));
    assert_eq!(guard.verdict(at(1_000)), Verdict::Pause(PauseReason::Unseen), "nor does it say that they are there");
    guard.observe(Sample { idle: None, ..Sample::QUIET }, at(601_000));
    assert_eq!(guard.verdict(at(601_000)), Verdict::Evict(PauseReason::Unseen), "nothing has seen anybody, here or gone");
    guard.set_policy(Policy { unseen: true, ..Policy::default() });
    assert!(runs(&guard.verdict(at(601_000))));
}

#[test]
fn when_the_last_source_is_lost_nobody_counts_as_away_any_more() {
    let mut desk = Desk::night();
    assert!(runs(&desk.seconds(1)));
    (desk.last, desk.sample.idle) = (None, None);
    assert_eq!(desk.seconds(1), Verdict::Pause(PauseReason::Unseen));
}

#[test]
fn a_source_that_is_asked_tells_of_input_as_well_as_one_that_speaks() {
    let mut desk = Desk::night();
    (desk.last, desk.sample.idle) = (None, Some(Duration::from_secs(3_600)));
    assert!(runs(&desk.seconds(5)));
    desk.sample.idle = Some(Duration::from_millis(100));
    assert_eq!(desk.seconds(1), Verdict::Pause(PauseReason::Touched));
    assert_eq!(desk.seconds(1), Verdict::Pause(PRESENT), "it goes on");
}

#[test]
fn outside_the_hours_memory_is_given_back_at_once_and_the_reason_says_when_they_begin() {
    let mut desk = Desk::night();
    desk.sample.local = "fri 14:00".parse().expect("a minute");
    let opens = "fri 18:00".parse().ok();
    assert_eq!(desk.seconds(1), Verdict::Evict(PauseReason::Hours { opens }));
    desk.sample.local = "fri 18:00".parse().expect("a minute");
    assert!(runs(&desk.seconds(1)));
}

#[test]
fn while_it_is_allowed_light_work_goes_on_beside_the_owner_in_what_room_there_is() {
    let light = Policy::default().with(&changes(&["beside_owner=true", "beside_cores=50"]));
    let mut desk = Desk::quiet(light);
    assert_eq!(desk.pass(1), Verdict::Run(Room { slots: 7, memory_bytes: 8 * GIB, beside: false }));
    let beside = |slots| Verdict::Run(Room { slots, memory_bytes: 16 * GIB / 10, beside: true });
    assert_eq!(desk.touch(), beside(4));
    desk.pass(800);
    desk.touch();
    desk.sample.cpu_others_percent = 45;
    assert_eq!(desk.seconds(60), beside(4));
    (desk.guard, desk.sample.cpu_others_percent) = (desk.guard.clone(), 50);
    assert_eq!(desk.seconds(1), beside(3));
    desk.sample.cpu_others_percent = 95;
    assert_eq!(desk.seconds(1), Verdict::Pause(PauseReason::Busy { cpu_percent: 95 }));
}

#[test]
fn each_trouble_names_itself_and_the_first_in_rank_speaks() {
    let mut desk = Desk::night();
    let with = |change: &dyn Fn(&mut Sample)| {
        let mut desk = Desk { guard: desk.guard.clone(), sample: desk.sample, now: desk.now, last: desk.last };
        change(&mut desk.sample);
        desk.seconds(3).reason().cloned()
    };
    let battery = |percent| move |sample: &mut Sample| sample.power = Power::Battery { percent };
    assert_eq!(with(&battery(Some(80))), Some(PauseReason::Battery { percent: Some(80) }));
    assert_eq!(with(&battery(None)), Some(PauseReason::Battery { percent: None }));
    assert_eq!(with(&|sample| sample.full_screen = true), Some(PauseReason::FullScreen));
    assert_eq!(with(&|sample| sample.metered = true), Some(PauseReason::Metered));
    assert_eq!(with(&|sample| sample.celsius = Some(90)), Some(PauseReason::Temperature { celsius: 90 }));
    assert_eq!(with(&|sample| sample.memory_stalled_percent = 30), Some(PauseReason::Stalled { percent: 30 }));
    assert_eq!(with(&|sample| sample.reboot = true), None, "the default works on until the restart");
    assert_eq!(with(&|sample| sample.lid_closed = true), None, "a docked machine may be closed");
    let closed = |sample: &mut Sample| (sample.lid_closed, sample.power) = (true, Power::Battery { percent: Some(90) });
    assert_eq!(with(&closed), Some(PauseReason::Lid));
    desk.sample.metered = true;
    desk.sample.full_screen = true;
    assert_eq!(desk.seconds(3), Verdict::Pause(PauseReason::FullScreen));
    desk.guard.announce(Announcement::Sleep);
    assert_eq!(desk.pass(1), Verdict::Evict(PauseReason::Sleep));
    desk.guard.announce(Announcement::Awake);
    assert_eq!(desk.pass(1).reason(), Some(&PauseReason::FullScreen));
}

#[test]
fn a_loose_plug_does_not_start_and_stop_work() {
    let mut desk = Desk::night();
    for _ in 0..20 {
        desk.sample.power = Power::Battery { percent: Some(99) };
        assert!(!runs(&desk.seconds(2)));
        desk.sample.power = Power::Mains;
        assert!(!runs(&desk.seconds(5)));
    }
    assert!(runs(&desk.seconds(30)));
}

#[test]
fn a_policy_that_allows_batteries_says_how_full_they_must_be() {
    let mut desk = Desk::quiet(Policy::default().with(&changes(&["on_battery=true", "battery_min=40"])));
    desk.sample.power = Power::Battery { percent: Some(41) };
    assert!(runs(&desk.seconds(5)));
    desk.sample.power = Power::Battery { percent: Some(39) };
    assert!(!runs(&desk.seconds(1)));
    desk.sample.power = Power::Battery { percent: Some(44) };
    assert!(!runs(&desk.seconds(60)));
    desk.sample.power = Power::Battery { percent: Some(45) };
    assert!(runs(&desk.seconds(31)));
}

#[test]
fn a_short_burst_of_load_changes_nothing() {
    let mut desk = Desk::night();
    for _ in 0..3 {
        desk.sample.cpu_others_percent = 90;
        assert!(runs(&desk.seconds(2)));
        desk.sample.cpu_others_percent = 10;
        assert!(runs(&desk.seconds(1)));
    }
}

#[test]
fn lasting_load_pauses_and_only_lasting_quiet_resumes() {
    let mut desk = Desk::night();
    desk.sample.cpu_others_percent = 80;
    let busy = Verdict::Pause(PauseReason::Busy { cpu_percent: 80 });
    assert_eq!(desk.seconds(3), busy);
    desk.sample.cpu_others_percent = 40;
    assert_eq!(desk.seconds(7), busy, "between the thresholds nothing changes");
    desk.sample.cpu_others_percent = 5;
    assert_eq!(desk.seconds(5), busy);
    desk.sample.cpu_others_percent = 40;
    desk.seconds(1);
    desk.sample.cpu_others_percent = 5;
    assert_eq!(desk.seconds(5), busy, "the quiet was interrupted");
    assert!(runs(&desk.seconds(1)));
}

#[test]
fn a_rule_that_is_off_never_pauses() {
    let mut rules = Rules { cpu: None, ..Rules::default() };
    rules.memory.free_min_bytes = 0;
    let mut guard = Guard::new(rules, Policy::unrestricted(), MEANS, at(0));
    assert!(runs(&guard.verdict(at(0))), "before anything is measured");
    let worst = Sample {
        cpu_others_percent: 100,
        memory_available_bytes: 0,
        idle: Some(Duration::ZERO),
        power: Power::Battery { percent: None },
        full_screen: true,
        metered: true,
        reboot: true,
        celsius: Some(80),
        local: WeekMinute::new(0),
        ..Sample::QUIET
    };
    for second in 0..100 {
        guard.observe(worst, at(second * 1_000));
        guard.input(at(second * 1_000));
        assert!(runs(&guard.verdict(at(second * 1_000))));
    }
}

#[test]
fn short_memory_pauses_until_there_is_an_eighth_more_than_the_minimum() {
    let mut desk = Desk::night();
    desk.sample.memory_available_bytes = GIB / 4;
    assert_eq!(desk.seconds(3), Verdict::Pause(PauseReason::Memory { free_bytes: GIB / 4 }));
    desk.sample.memory_available_bytes = GIB / 2;
    assert!(!runs(&desk.seconds(17)));
    desk.sample.memory_available_bytes = GIB;
    assert!(runs(&desk.seconds(6)));
}

#[test]
fn the_owners_word_outranks_the_rules_and_ends_by_itself() {
    let mut desk = Desk::night();
    desk.sample.cpu_others_percent = 80;
    desk.seconds(3);
    let until = Some(at(60_000));
    desk.guard.obey(OwnerWord::Pause { until });
    assert_eq!(desk.guard.verdict(at(3_000)), Verdict::Pause(PauseReason::Owner { until }));
    assert_eq!(desk.guard.poll_timeout(at(3_000)), Some(at(60_000)));
    assert_eq!(desk.guard.verdict(at(60_000)).reason(), Some(&PauseReason::Busy { cpu_percent: 80 }));
    desk.guard.obey(OwnerWord::Run);
    desk.sample.cpu_others_percent = 0;
    assert!(runs(&desk.seconds(64)));
}

#[test]
fn a_pause_that_outlasts_the_grace_period_gives_the_memory_back_and_is_woken_for_it() {
    let mut desk = Desk::night();
    desk.pass(1);
    desk.guard.obey(OwnerWord::Pause { until: None });
    assert_eq!(desk.guard.verdict(at(1)), Verdict::Pause(PauseReason::Owner { until: None }));
    assert_eq!(desk.guard.poll_timeout(at(1)), Some(at(60_001)));
    assert_eq!(desk.guard.verdict(at(60_000)), Verdict::Pause(PauseReason::Owner { until: None }));
    assert_eq!(desk.guard.verdict(at(60_001)), Verdict::Evict(PauseReason::Owner { until: None }));
}

#[test]
fn a_machine_that_nothing_sees_says_so_at_once_and_not_that_its_owner_uses_it() {
    let blind = |policy: &[&str]| {
        let mut desk = Desk::quiet(Policy::default().with(&changes(policy)));
        desk.guard = Guard::new(Rules::default(), desk.guard.policy().clone(), MEANS, at(0));
        (desk.sample.idle, desk.last) = (None, None);
        desk
    };
    let mut desk = blind(&[]);
    let unseen = Verdict::Pause(PauseReason::Unseen);
    assert_eq!(desk.guard.verdict(at(0)), Verdict::Pause(PauseReason::Starting), "before the first measurement");
    assert_eq!(desk.seconds(1), unseen, "and after it");
    assert_eq!(desk.seconds(20 * 60).reason(), Some(&PauseReason::Unseen));
    assert!(matches!(desk.touch().reason(), Some(PauseReason::Touched | PauseReason::Present { .. })), "somebody was seen");
    assert!(runs(&blind(&["unseen=true"]).seconds(1)));
}

#[test]
fn the_grace_period_begins_anew_with_each_pause() {
    let mut desk = Desk::night();
    for _ in 0..3 {
        desk.guard.obey(OwnerWord::Pause { until: None });
        assert!(matches!(desk.seconds(40), Verdict::Pause(_)));
        desk.guard.obey(OwnerWord::Run);
        assert!(runs(&desk.seconds(1)));
    }
}

#[test]
fn nothing_is_due_that_is_due_by_now() {
    let mut desk = Desk::night();
    desk.guard.obey(OwnerWord::Pause { until: Some(at(50_000)) });
    desk.guard.verdict(at(0));
    // The word ends, and then the grace would.
    assert_eq!(desk.guard.poll_timeout(at(49_999)), Some(at(50_000)));
    assert_eq!(desk.guard.poll_timeout(at(50_000)), Some(at(60_000)));
    assert_eq!(desk.guard.poll_timeout(at(60_000)), None);
}

#[test]
fn input_that_is_seen_counts_also_where_nobody_need_be_seen() {
    let unseen = Policy { unseen: true, beside_owner: false, ..Policy::default() };
    let mut desk = Desk::quiet(unseen);
    assert!(runs(&desk.pass(1)));
    assert_eq!(desk.touch(), Verdict::Pause(PauseReason::Touched));
    desk.pass(800);
    assert_eq!(desk.touch(), Verdict::Pause(PRESENT));
}

#[test]
fn an_owner_who_was_seen_is_present_also_when_nothing_says_how_long_ago() {
    let mut desk = Desk::night();
    (desk.sample.idle, desk.last) = (None, None);
    desk.guard.observe(desk.sample, at(0));
    desk.guard.input(at(0));
    desk.guard.input(at(800));
    assert_eq!(desk.guard.verdict(at(800)), Verdict::Pause(PRESENT));
}

#[test]
fn nobody_is_waited_for_who_need_not_be_away() {
    let policy = Policy { idle: Span::from_secs(0), unseen: false, ..Policy::default() };
    let mut guard = Guard::new(Rules::default(), policy, MEANS, at(0));
    guard.observe(Sample { idle: None, ..Sample::QUIET }, at(0));
    assert!(runs(&guard.verdict(at(0))));
}

#[test]
fn before_the_first_measurement_only_a_policy_that_holds_at_all_hours_lets_anything_run() {
    let verdict = |hours: &str, beside_owner| {
        let hours = hours.parse().expect("hours");
        let policy = Policy { hours, unseen: true, beside_owner, ..Policy::default() };
        Guard::new(Rules::default(), policy, MEANS, at(0)).verdict(at(0))
    };
    let nights = "00:00-06:00";
    assert_eq!(verdict(nights, false), Verdict::Pause(PauseReason::Starting), "what time it is there nobody knows");
    assert!(matches!(verdict(nights, true), Verdict::Run(Room { beside: true, .. })), "light work at any time");
    assert!(matches!(verdict("always", false), Verdict::Run(Room { beside: false, .. })));
    assert!(matches!(verdict("always", true), Verdict::Run(Room { beside: false, .. })));
}
