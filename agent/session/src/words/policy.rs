//! The policy that holds here: the network administrator's, as it came signed, narrowed by the machine's administrator and then by
//! the owner.

use lull_shared::{
    hours::WeekMinute,
    identity::{Signed, verify},
    message::{PolicyReport, ToCoordinator},
    policy::{Changes, Policy, Sheet},
    time::Timestamp,
};

use serde::{Deserialize, Serialize};

use crate::{Effect, PolicyRefused, Remark, Session, guard::Sample};

/// Minutes of a week, and of half of one.
const WEEK_MIN: i64 = lull_shared::hours::WEEK as i64;

/// What the machine's own administrator says beside the network, by Group Policy or a file that only they can write.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineWord {
    /// Holds whatever the owner says.
    pub mandatory: Changes,
    /// Holds where the owner says nothing else.
    pub recommended: Changes,
    /// What was said and cannot be read, in words. Nothing runs while it can not: it may have been what forbids that.
    pub unread: Vec<String>,
}

/// Who has a say in what may run here. Each of them only narrows what is left by those above.
///
/// | | whose word | comes by | |
/// |---|---|---|---|
/// | 1 | the network's administrator | the coordinator, signed | `admin` |
/// | 2 | the machine's administrator | Group Policy, or `/etc/lull/policy.toml` | `machine.mandatory` |
/// | 3 | the owner, and where they say nothing what the machine's administrator recommends | `lull-agent policy set` | `owner` over `machine.recommended` |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The version of what the administrator allows; 0 before any came.
    pub version: u64,
    pub admin: Policy,
    #[serde(default)]
    pub machine: MachineWord,
    pub owner: Changes,
}

impl Default for Standing {
    /// What holds until a coordinator says otherwise.
    fn default() -> Self {
        Self { version: 0, admin: Policy::default(), machine: MachineWord::default(), owner: Changes::default() }
    }
}

impl MachineWord {
    /// What the owner cannot change. Nothing may run while a part of it cannot be read.
    pub fn holds(&self) -> Changes {
        match self.unread.is_empty() {
            true => self.mandatory.clone(),
            false => self.mandatory.meet(&Changes::no_work()),
        }
    }
}

impl Standing {
    /// What follows from all.
    pub fn effective(&self) -> Policy {
        self.admin.narrowed_by(&self.narrowed_here())
    }

    /// What is narrowed on this machine, by whomever.
    pub fn narrowed_here(&self) -> Changes {
        self.machine.holds().meet(&self.machine.recommended.and(&self.owner))
    }

    /// What this machine's administrator has set and its owner cannot change, for people; none where they have set nothing
    /// that the network's policy does not say already.
    pub fn set_by_machine(&self) -> Option<String> {
        if let Some(words) = self.machine.unread.first() {
            return Some(format!("nothing runs until this machine's own policy can be read: {words}"));
        }
        let (said, allowed) = (self.machine.mandatory.given(), self.admin.settings());
        let holds = self.effective().settings().into_iter().zip(allowed).filter(|(setting, allowed)| {
            setting.value != allowed.value && said.iter().any(|(key, value)| *key == setting.key && *value == setting.value)
        });
        let holds: Vec<String> = holds.map(|(setting, _)| format!("{}={}", setting.key, setting.value)).collect();
        (!holds.is_empty()).then(|| format!("this machine's administrator has set {}", holds.join(", ")))
    }
}

impl Session {
    /// What the administrator allows and what the owner narrows.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The coordinator says what is allowed: believed when the authority signed it for this agent, and not if it is older
    /// than what is known.
    pub(crate) fn take_policy(&mut self, signed: Signed) {
        let sheet = match verify::<Sheet>(&self.config.authority, &signed) {
            Ok(sheet) if sheet.agent == self.config.agent && sheet.policy.check().is_ok() => sheet,
            Ok(_) => return self.refuse_policy(PolicyRefused::Unfit),
            Err(error) => return self.refuse_policy(PolicyRefused::Claim(error)),
        };
        if sheet.version < self.standing.version {
            return self.refuse_policy(PolicyRefused::Old(sheet.version));
        }
        if (sheet.version, &sheet.policy) != (self.standing.version, &self.standing.admin) {
            (self.standing.version, self.standing.admin) = (sheet.version, sheet.policy);
            self.effects.push_back(Effect::KeepPolicy(signed));
            self.guard.set_policy(self.standing.effective());
        }
        self.report_policy();
    }

    fn refuse_policy(&mut self, why: PolicyRefused) {
        self.effects.push_back(Effect::Log(Remark::PolicyRefused(why)));
    }

    /// The owner narrows what the administrator allows, in place of what they said before.
    pub(crate) fn narrow(&mut self, owner: Changes) {
        self.standing.owner = owner;
        self.guard.set_policy(self.standing.effective());
        self.report_policy();
    }

    /// The machine's administrator says something else than before.
    pub(crate) fn take_machine_word(&mut self, word: MachineWord) {
        if word != self.standing.machine {
            self.standing.machine = word;
            self.guard.set_policy(self.standing.effective());
            self.report_policy();
        }
    }

    /// Tells the coordinator what holds here.
    pub(crate) fn report_policy(&mut self) {
        let (version, owner) = (self.standing.version, self.standing.narrowed_here());
        let (clock_ahead_min, slots_max) = (self.clock_ahead_min, self.config.slots);
        self.say(ToCoordinator::Policy(PolicyReport { version, owner, clock_ahead_min, slots_max }));
    }

    /// Notes how far the machine's own clock is ahead of UTC; tells the coordinator when that changes.
    pub(crate) fn note_clock(&mut self, sample: &Sample, now: Timestamp) {
        let ahead = clock_ahead_min(sample, now);
        if ahead != self.clock_ahead_min {
            self.clock_ahead_min = ahead;
            self.report_policy();
        }
    }
}

/// How far a machine's own clock is ahead of UTC, in minutes, to the quarter of an hour.
fn clock_ahead_min(sample: &Sample, now: Timestamp) -> i16 {
    let utc = WeekMinute::at(now, 0);
    let ahead = (i64::from(sample.local.get()) - i64::from(utc.get()) + 7).rem_euclid(WEEK_MIN);
    let ahead = if ahead > WEEK_MIN / 2 { ahead - WEEK_MIN } else { ahead };
    i16::try_from(ahead.div_euclid(15) * 15).expect("half a week of minutes fits")
}

#[cfg(test)]
mod tests {
    use lull_shared::hours::Hours;
    use proptest::prelude::*;

    use super::*;

    /// Some settings of each direction: longer, shorter, fewer hours, less of a share, and no instead of yes.
    fn changes() -> impl Strategy<Value = Changes> {
        let hours = prop_oneof![Just("20:00-06:00"), Just("12:00-24:00"), Just("never"), Just("always")];
        let some = (
            prop::option::of(0_u32..7_200),
            prop::option::of(hours),
            prop::option::of(1_u8..=100),
            prop::option::of(any::<bool>()),
            prop::option::of(0_u32..600),
        );
        some.prop_map(|(idle_s, hours, cores, on_battery, grace_s)| {
            let pairs = [
                idle_s.map(|idle_s| format!("idle={idle_s}s")),
                hours.map(|hours| format!("hours={hours}")),
                cores.map(|cores| format!("cores={cores}")),
                on_battery.map(|on_battery| format!("on_battery={on_battery}")),
                grace_s.map(|grace_s| format!("grace={grace_s}s")),
            ];
            Changes::from_pairs(&pairs.into_iter().flatten().collect::<Vec<_>>()).expect("changes")
        })
    }

    #[test]
    fn what_a_machines_administrator_sets_is_told_where_it_holds() {
        let set = |pairs: &[&str]| Changes::from_pairs(pairs).expect("changes");
        let mut standing = Standing { admin: Policy::default().narrowed_by(&set(&["idle=20m"])), ..Standing::default() };
        assert_eq!(standing.set_by_machine(), None);
        standing.machine.mandatory = set(&["idle=20m", "grace=0s"]);
        standing.owner = set(&["cores=10"]);
        assert_eq!(standing.set_by_machine().as_deref(), Some("this machine's administrator has set grace=0s"));
        standing.machine.unread = vec!["idle: soon is not a duration".into()];
        standing.admin = Policy::unrestricted();
        let held = standing.effective();
        assert_eq!((held.hours, held.beside_owner), (Hours::never(), false), "nothing runs, also not beside the owner");
        let told = standing.set_by_machine().expect("it is told");
        assert!(told.ends_with("until this machine's own policy can be read: idle: soon is not a duration"), "{told}");
    }

    proptest! {
        #[test]
        fn whoever_has_a_say_narrows_what_those_above_leave_and_never_widens_it(
            admin in changes(), mandatory in changes(), recommended in changes(), owner in changes(),
        ) {
            let admin = Policy::unrestricted().with(&admin);
            let machine = MachineWord { mandatory: mandatory.clone(), recommended: recommended.clone(), unread: Vec::new() };
            let standing = Standing { version: 1, admin: admin.clone(), machine, owner: owner.clone() };
            let effective = standing.effective();
            let narrower = |than: &Policy| effective.meet(than) == effective;
            prop_assert!(narrower(&admin), "the network's administrator");
            prop_assert!(narrower(&admin.narrowed_by(&mandatory)), "the machine's administrator");
            prop_assert!(narrower(&admin.narrowed_by(&owner)), "the owner");
            let step_by_step = admin.narrowed_by(&mandatory).narrowed_by(&recommended.and(&owner));
            prop_assert_eq!(&effective, &step_by_step, "in this order");
            let unread = MachineWord { unread: vec!["Idle: `soon`".into()], ..standing.machine.clone() };
            let stopped = Standing { machine: unread, ..standing }.effective();
            let held = (stopped.hours, stopped.beside_owner);
            prop_assert_eq!(held, (Hours::never(), false), "what cannot be read may have forbidden it");
        }
    }

    #[test]
    fn what_is_recommended_holds_until_the_owner_says_something_else() {
        let set = |pairs: &[&str]| Changes::from_pairs(pairs).expect("changes");
        let machine = MachineWord { recommended: set(&["idle=1h"]), mandatory: set(&["cores=50"]), unread: Vec::new() };
        let mut standing = Standing { machine, ..Standing::default() };
        assert_eq!((standing.effective().idle.to_string(), standing.effective().cores.get()), ("1h".into(), 50));
        standing.owner = set(&["idle=20m", "cores=80"]);
        assert_eq!((standing.effective().idle.to_string(), standing.effective().cores.get()), ("20m".into(), 50));
        standing.owner = set(&["idle=1s"]);
        assert_eq!(standing.effective().idle, Policy::default().idle, "nobody widens what the network allows");
    }

    #[test]
    fn a_wall_clock_tells_how_far_it_is_ahead_of_utc() {
        let now = Timestamp::from(jiff::Timestamp::UNIX_EPOCH);
        let ahead = |text: &str| clock_ahead_min(&Sample { local: text.parse().expect("a minute"), ..Sample::QUIET }, now);
        assert_eq!([ahead("thu 00:00"), ahead("thu 01:00"), ahead("wed 19:00"), ahead("thu 05:45")], [0, 60, -300, 345]);
        assert_eq!([ahead("thu 01:01"), ahead("wed 23:59")], [60, 0], "the two clocks need not tick together");
        assert_eq!([ahead("sun 11:53"), ahead("sun 11:54")], [5_040, -5_040], "half a week is as far as it goes");
    }
}
