//! Whatever is measured in whatever order: the owner's input counts, nothing flaps, and a narrower policy runs no more.

use lull_shared::{
    hours::{Hours, WeekMinute},
    policy::{Changes, Percent, Span},
};
use proptest::prelude::*;

use super::{
    tests::{MEANS, at},
    *,
};

/// Something that happens some milliseconds after what came before.
#[derive(Debug, Clone)]
enum Step {
    Input,
    Sample(Sample),
    Announce(Announcement),
    Nothing,
}

fn sample() -> impl Strategy<Value = Sample> {
    let power = prop_oneof![
        4 => Just(Power::Mains),
        1 => prop::option::of(0_u8..=100).prop_map(|percent| Power::Battery { percent }),
    ];
    let rarely = || prop::bool::weighted(0.1);
    let load = (0_u8..=100, prop_oneof![3 => Just(4_u64 << 30), 1 => 0_u64..(1 << 30)], 0_u8..30);
    let desk = (prop::option::of(0_u64..2_000_000), power, rarely(), rarely(), rarely(), rarely());
    (load, desk, prop::option::of(20_u8..120), 0_u16..lull_shared::hours::WEEK).prop_map(|(load, desk, celsius, minute)| {
        let (cpu_others_percent, memory_available_bytes, memory_stalled_percent) = load;
        let (idle, power, lid_closed, full_screen, metered, reboot) = desk;
        Sample {
            cpu_others_percent,
            memory_available_bytes,
            memory_stalled_percent,
            idle: idle.map(Duration::from_millis),
            power,
            lid_closed,
            full_screen,
            metered,
            reboot,
            celsius,
            local: WeekMinute::new(minute),
        }
    })
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let announcement =
        prop_oneof![3 => Just(Announcement::Awake), 1 => Just(Announcement::Sleep), 1 => Just(Announcement::Shutdown)];
    let what = prop_oneof![
        4 => Just(Step::Input),
        8 => sample().prop_map(Step::Sample),
        1 => announcement.prop_map(Step::Announce),
        4 => Just(Step::Nothing),
    ];
    let pause = prop_oneof![4 => 1_u64..2_000, 2 => 2_000_u64..70_000, 1 => 70_000_u64..1_500_000];
    (pause, what)
}

fn some_changes() -> impl Strategy<Value = Changes> {
    let yes = || prop::option::of(any::<bool>());
    let percent = || prop::option::of((1_u8..=100).prop_map(Percent::new));
    let span = || prop::option::of((0_u32..1_200).prop_map(Span::from_secs));
    let hours = prop::option::of(prop_oneof![Just(Hours::always()), Just(Policy::default().hours)]);
    let flags = (yes(), yes(), yes(), yes(), yes(), yes());
    (span(), span(), hours, percent(), percent(), flags).prop_map(|(idle, grace, hours, cores, beside_cores, flags)| {
        let (beside_owner, on_battery, on_metered, on_full_screen, before_reboot, unseen) = flags;
        Changes {
            idle,
            grace,
            hours,
            cores,
            beside_cores,
            beside_owner,
            on_battery,
            on_metered,
            on_full_screen,
            before_reboot,
            unseen,
            ..Changes::default()
        }
    })
}

fn take(guard: &mut Guard, step: &Step, now: Timestamp) {
    match step {
        Step::Input => guard.input(now),
        Step::Sample(sample) => guard.observe(*sample, now),
        Step::Announce(announcement) => guard.announce(*announcement),
        Step::Nothing => {}
    }
}

fn slots(verdict: &Verdict) -> u16 {
    match verdict {
        Verdict::Run(room) => room.slots,
        Verdict::Pause(_) | Verdict::Evict(_) => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_narrower_policy_never_runs_more(
        admin in some_changes(), owner in some_changes(), steps in prop::collection::vec(step(), 1..60)
    ) {
        let wide = Policy::unrestricted().with(&admin);
        let narrow = wide.narrowed_by(&owner);
        let mut guards = [wide, narrow].map(|policy| Guard::new(Rules::default(), policy, MEANS, at(0)));
        let mut now = at(0);
        for (pause, step) in steps {
            let then = now + Duration::from_millis(pause);
            // Between two events each is asked when it wants to be, and the other at the same moments.
            for _ in 0..8 {
                let dues = guards.iter().filter_map(|guard| guard.poll_timeout(now));
                let Some(due) = dues.min().filter(|due| *due < then) else { break };
                now = due;
                let [wide, narrow] = guards.each_mut().map(|guard| guard.verdict(now));
                prop_assert!(slots(&narrow) <= slots(&wide), "{:?} but {:?}", narrow, wide);
            }
            now = then;
            guards.iter_mut().for_each(|guard| take(guard, &step, now));
            let [wide, narrow] = guards.each_mut().map(|guard| guard.verdict(now));
            prop_assert!(slots(&narrow) <= slots(&wide), "{:?} but {:?} after {:?}", narrow, wide, step);
        }
    }

    #[test]
    fn nothing_runs_while_input_is_younger_than_the_policy_says_but_after_a_bump(
        idle_s in 1_u32..1_200, steps in prop::collection::vec(step(), 1..80)
    ) {
        let idle = Span::from_secs(idle_s);
        let policy = Policy { idle, beside_owner: false, ..Policy::unrestricted() };
        let mut guard = Guard::new(Rules::default(), policy, MEANS, at(0));
        let (mut now, mut inputs) = (at(0), Vec::new());
        for (pause, step) in steps {
            // Only what is told counts here, so that the history is known.
            let step = match step {
                Step::Sample(sample) => Step::Sample(Sample { idle: None, ..sample }),
                other => other,
            };
            now = now + Duration::from_millis(pause);
            if matches!(step, Step::Input) {
                inputs.push(now);
            }
            take(&mut guard, &step, now);
            let Some(last) = inputs.last().copied() else { continue };
            let young = now.since(last) < idle.duration();
            if young && slots(&guard.verdict(now)) > 0 {
                // The burst that the last input belongs to came after a long rest, and enough time has passed since.
                let burst: Vec<_> = inputs.iter().rev().take_while(|at| last.since(**at) <= Duration::from_millis(500)).collect();
                let first = **burst.last().expect("the last input is one");
                let before = inputs.iter().rev().nth(burst.len()).copied().unwrap_or(at(0));
                prop_assert!(first.since(before) >= idle.duration().max(Duration::from_secs(60)), "{:?}", inputs);
                prop_assert!(now.since(first) >= presence::BUMP);
            }
        }
    }

    #[test]
    fn under_noisy_input_and_load_the_verdict_changes_a_bounded_number_of_times(
        noise in prop::collection::vec((0_u8..=100, any::<bool>(), any::<bool>(), any::<bool>()), 600)
    ) {
        let policy = Policy { idle: Span::from_secs(30), on_full_screen: false, on_battery: false, beside_owner: false, ..Policy::unrestricted() };
        let mut guard = Guard::new(Rules::default(), policy, MEANS, at(0));
        guard.observe(Sample::QUIET, at(0));
        let (mut changes, mut ran) = (0, true);
        for (second, (cpu_others_percent, full_screen, battery, touch)) in (1..).zip(noise) {
            let power = if battery { Power::Battery { percent: Some(90) } } else { Power::Mains };
            guard.observe(Sample { cpu_others_percent, full_screen, power, idle: None, ..Sample::QUIET }, at(second * 1_000));
            if touch {
                guard.input(at(second * 1_000));
            }
            let runs = slots(&guard.verdict(at(second * 1_000))) > 0;
            changes += u32::from(runs != ran);
            ran = runs;
        }
        // Going on takes five seconds of calm at least, after any pause but that for a bump, of which there is one a minute.
        prop_assert!(changes <= 2 * (600 / 5 + 600 / 60), "{} changes in ten minutes", changes);
    }
}
