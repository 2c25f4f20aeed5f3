//! The policy that holds here: the administrator's, as it came signed, narrowed by the owner.

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

/// What the administrator allows and what the owner narrows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The version of what the administrator allows; 0 before any came.
    pub version: u64,
    pub admin: Policy,
    pub owner: Changes,
}

impl Default for Standing {
    /// What holds until a coordinator says otherwise.
    fn default() -> Self {
        Self { version: 0, admin: Policy::default(), owner: Changes::default() }
    }
}

impl Standing {
    /// What follows from both.
    pub fn effective(&self) -> Policy {
        self.admin.narrowed_by(&self.owner)
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

    /// Tells the coordinator what holds here.
    pub(crate) fn report_policy(&mut self) {
        let Standing { version, owner, .. } = self.standing.clone();
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
    use super::*;

    #[test]
    fn a_wall_clock_tells_how_far_it_is_ahead_of_utc() {
        let now = Timestamp::from(jiff::Timestamp::UNIX_EPOCH);
        let ahead = |text: &str| clock_ahead_min(&Sample { local: text.parse().expect("a minute"), ..Sample::QUIET }, now);
        assert_eq!([ahead("thu 00:00"), ahead("thu 01:00"), ahead("wed 19:00"), ahead("thu 05:45")], [0, 60, -300, 345]);
        assert_eq!([ahead("thu 01:01"), ahead("wed 23:59")], [60, 0], "the two clocks need not tick together");
        assert_eq!([ahead("sun 11:53"), ahead("sun 11:54")], [5_040, -5_040], "half a week is as far as it goes");
    }
}
