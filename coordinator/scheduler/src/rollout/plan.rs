//! What a rollout is to do: in which waves, with how much patience, and on which machines.

use std::{fmt, str::FromStr, time::Duration};

use lull_shared::{constraint::Constraint, digest::Digest, id::AgentId, resources::Labels};
use serde::{Deserialize, Serialize};

/// More waves tell nothing more of a version.
const WAVES_MAX: usize = 16;
/// What an upgrade may take at the most: a weekend, for machines that fetch over a slow line.
const PATIENCE_S_MAX: u64 = 72 * 60 * 60;

/// Up to which share of the machines each wave goes, in percent: rising, and 100 in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Waves(Vec<u8>);

/// Not a list of waves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("waves are rising shares, at most {WAVES_MAX} and the last of them 100 %\nhint: write them like 5%,25%,100%")]
pub struct WrongWaves;

impl Default for Waves {
    fn default() -> Self {
        Self(vec![5, 25, 100])
    }
}

impl TryFrom<Vec<u8>> for Waves {
    type Error = WrongWaves;

    fn try_from(shares: Vec<u8>) -> Result<Self, WrongWaves> {
        let rises = shares.first().is_some_and(|first| *first > 0) && shares.windows(2).all(|pair| pair[0] < pair[1]);
        if rises && shares.len() <= WAVES_MAX && shares.last() == Some(&100) { Ok(Self(shares)) } else { Err(WrongWaves) }
    }
}

impl From<Waves> for Vec<u8> {
    fn from(waves: Waves) -> Self {
        waves.0
    }
}

impl FromStr for Waves {
    type Err = WrongWaves;

    fn from_str(text: &str) -> Result<Self, WrongWaves> {
        let share = |part: &str| part.trim().trim_end_matches('%').trim_end().parse().map_err(|_| WrongWaves);
        Self::try_from(text.split(',').map(share).collect::<Result<Vec<u8>, _>>()?)
    }
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<String> = self.0.iter().map(|share| format!("{share}%")).collect();
        f.write_str(&shares.join(","))
    }
}

impl Waves {
    /// How many there are.
    #[allow(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of so many machines belong to the first `begun` waves: one at least, once one has begun.
    pub fn reach(&self, begun: usize, machines: usize) -> usize {
        let share = begun.checked_sub(1).and_then(|last| self.0.get(last.min(self.0.len() - 1)));
        share.map_or(0, |share| (machines * usize::from(*share)).div_ceil(100))
    }
}

/// What somebody wants of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub waves: Waves,
    /// Which machines are meant; all if there is none.
    pub conditions: Vec<Constraint>,
    /// How long an agent has to fetch and to install, and again to come back, in seconds.
    pub within_s: u64,
    /// How long an agent that came back must stay until it counts as healthy, in seconds.
    pub steady_s: u64,
    /// The share of those that were told that may fail before the rollout stops, in percent.
    pub tolerate_percent: u8,
}

impl Default for Plan {
    fn default() -> Self {
        Self { waves: Waves::default(), conditions: Vec::new(), within_s: 30 * 60, steady_s: 5 * 60, tolerate_percent: 5 }
    }
}

impl Plan {
    /// Whether a machine is meant.
    pub fn concerns(&self, labels: &Labels) -> bool {
        self.conditions.iter().all(|condition| condition.accepts(labels))
    }

    pub(super) fn within(&self) -> Duration {
        Duration::from_secs(self.within_s.min(PATIENCE_S_MAX))
    }

    pub(super) fn steady(&self) -> Duration {
        Duration::from_secs(self.steady_s.min(PATIENCE_S_MAX))
    }
}

/// Where in the line a machine stands, of whichever rollout: by its id alone, so that it is always the same and that neighbours
/// in a list do not stand beside each other.
pub fn place_in_line(agent: AgentId) -> [u8; 32] {
    *Digest::of(&[b"lull wave ".as_slice(), &agent.0.to_le_bytes()].concat()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_written_as_people_write_them_and_rise_to_all() {
        let waves: Waves = "5%, 25 %,100%".parse().expect("waves");
        assert_eq!((waves.to_string().as_str(), &waves), ("5%,25%,100%", &Waves::default()));
        assert_eq!("100".parse::<Waves>().map(|waves| waves.len()), Ok(1));
        for text in ["", "5%", "0%,100%", "25%,5%,100%", "5%,5%,100%", "5%,101%", "-1,100", "x,100", "300%"] {
            assert_eq!(text.parse::<Waves>(), Err(WrongWaves), "{text}");
        }
        assert_eq!(
            (1..=17).map(|n| n.to_string()).chain(["100".into()]).collect::<Vec<_>>().join(",").parse::<Waves>(),
            Err(WrongWaves)
        );
    }

    #[test]
    fn a_wave_reaches_its_share_and_one_machine_at_least() {
        let waves = Waves::default();
        assert_eq!([0, 1, 2, 3, 9].map(|begun| waves.reach(begun, 200)), [0, 10, 50, 200, 200]);
        assert_eq!([1, 2, 3].map(|begun| waves.reach(begun, 3)), [1, 1, 3]);
        assert_eq!(waves.reach(1, 0), 0);
    }
}
