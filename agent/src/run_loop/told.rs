//! What the coordinator knows of this agent's blobs: what changed is told, in full on each new stream.

use std::collections::BTreeMap;

use lull_engine::cache::Cache;
use lull_mesh::Transferred;
use lull_shared::{
    digest::{BlobRef, Digest},
    limits::HOLDINGS_MAX,
    message::BlobReport,
};

/// What was told on the present stream.
#[derive(Default)]
pub(super) struct Told {
    /// None before the first report.
    cache: Option<u64>,
    held: BTreeMap<Digest, u64>,
    moved: Transferred,
}

impl Told {
    /// What is news, if anything is.
    pub(super) fn report(&mut self, cache: &Cache, moved: Transferred) -> Option<BlobReport> {
        let (changes, all) = (cache.changes(), self.cache.is_none());
        if self.cache == Some(changes) && self.moved == moved {
            return None;
        }
        let (gained, lost) = if self.cache == Some(changes) { Default::default() } else { self.compare(cache.holdings()) };
        (self.cache, self.moved) = (Some(changes), moved);
        let Transferred { from_agents_bytes, from_coordinators_bytes, served_bytes } = moved;
        Some(BlobReport { all, gained, lost, from_agents_bytes, from_coordinators_bytes, served_bytes })
    }

    /// What was gained and lost. What was told stays told, so that a full list does not change with every use.
    fn compare(&mut self, holdings: BTreeMap<Digest, u64>) -> (Vec<BlobRef>, Vec<Digest>) {
        let lost: Vec<Digest> = self.held.keys().filter(|digest| !holdings.contains_key(digest)).copied().collect();
        lost.iter().for_each(|digest| {
            self.held.remove(digest);
        });
        let room = HOLDINGS_MAX.saturating_sub(self.held.len());
        let fresh = holdings.into_iter().filter(|(digest, _)| !self.held.contains_key(digest)).take(room);
        let gained: Vec<BlobRef> = fresh.map(|(digest, size_bytes)| BlobRef { digest, size_bytes }).collect();
        self.held.extend(gained.iter().map(|blob| (blob.digest, blob.size_bytes)));
        (gained, lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holdings(numbers: std::ops::Range<u32>) -> BTreeMap<Digest, u64> {
        numbers.map(|number| (Digest::of(&number.to_le_bytes()), 5)).collect()
    }

    #[test]
    fn all_is_told_once_and_then_what_changed() {
        let mut told = Told::default();
        let (gained, lost) = told.compare(holdings(0..3));
        assert_eq!((gained.len(), lost.len()), (3, 0));
        let (gained, lost) = told.compare(holdings(1..5));
        assert_eq!((gained.len(), lost), (2, vec![Digest::of(&0_u32.to_le_bytes())]));
        assert_eq!(told.compare(holdings(1..5)), (Vec::new(), Vec::new()));
    }

    #[test]
    fn no_more_is_told_than_a_coordinator_takes() {
        let mut told = Told::default();
        let many = HOLDINGS_MAX as u32 + 10;
        assert_eq!(told.compare(holdings(0..many)).0.len(), HOLDINGS_MAX);
        assert_eq!(told.compare(holdings(0..many)), (Vec::new(), Vec::new()));
        let left = told.held.len();
        let (gained, lost) = told.compare(holdings(20..many));
        assert!(left - lost.len() + gained.len() <= HOLDINGS_MAX && gained.len() <= lost.len());
    }

    #[test]
    fn nothing_is_said_while_nothing_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path(), 100).expect("it opens");
        let mut told = Told::default();
        let first = told.report(&cache, Transferred::default()).expect("the first report");
        assert!(first.all && first.gained.is_empty());
        assert_eq!(told.report(&cache, Transferred::default()), None);
        let moved = Transferred { served_bytes: 7, ..Transferred::default() };
        let second = told.report(&cache, moved).expect("bytes were moved");
        assert_eq!((second.all, second.served_bytes), (false, 7));
    }
}
