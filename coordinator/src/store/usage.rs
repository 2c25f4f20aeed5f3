//! What each submitter used lately: slot-seconds that fade with their age.

use std::{collections::BTreeMap, time::Duration};

use lull_shared::{id::TokenId, time::Timestamp};

/// After a day what was used counts half: a heavy night is forgiven in about a week.
const HALF_LIFE_HOURS: f64 = 24.0;
/// Older hours would count for less than one part in a hundred.
pub(super) const HOURS_MAX: i64 = 7 * 24;

/// The hour since 1970 in which an instant lies.
pub(super) fn hour(at: Timestamp) -> i64 {
    at.0.div_euclid(Duration::from_secs(3600).as_micros() as i64)
}

/// Slot-seconds by owner, from `(owner, hour, slot-microseconds)` in this order. Ages count from the newest
/// hour there is, so that the result depends on nothing but what is stored.
pub(super) fn faded(rows: &[(Option<TokenId>, i64, i64)]) -> Vec<(Option<TokenId>, f64)> {
    let newest = rows.iter().map(|(_, hour, _)| *hour).max().unwrap_or(0);
    let mut sums: BTreeMap<Option<TokenId>, f64> = BTreeMap::new();
    for (owner, hour, slot_us) in rows {
        let weight = 0.5_f64.powf((newest - hour) as f64 / HALF_LIFE_HOURS);
        *sums.entry(*owner).or_default() += *slot_us as f64 / 1e6 * weight;
    }
    sums.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yesterdays_work_counts_half() {
        let (anna, ben) = (Some(TokenId(1)), Some(TokenId(2)));
        let rows = [(anna, 76, 3_600_000_000), (anna, 100, 60_000_000), (ben, 100, 1)];
        assert_eq!(faded(&rows), [(anna, 1_860.0), (ben, 0.000_001)]);
        assert_eq!(hour(Timestamp(-1)), -1);
    }
}
