//! Snapshots that other agents made, kept here for them; and those that must be elsewhere before this machine goes.
//!
//! ```text
//! Keep --> coming (fetched from whoever has it) --> kept, said: Keeps
//!            |  the owner comes, a metered network, it cannot be had
//!            v
//!          said: Unkept
//! this agent stops, or its machine sleeps: all that is kept --Unkept, since it leaves--> Safe or Discard: it may go
//! ```
//! Keeping is a favour to others: nothing comes while the owner needs the machine, nor over a network that costs money.

use std::collections::{BTreeMap, btree_map::Entry};

use lull_shared::{
    digest::{BlobRef, Digest},
    id::TaskId,
    limits::{SNAPSHOT_BYTES_MAX, SNAPSHOTS_PER_AGENT_MAX},
    message::{KeptSnapshot, ToCoordinator, UnkeptReason},
    state::PauseReason,
};

use crate::{Life, Session, guard::Verdict};

/// Copies on their way at once: few, since they share the way of what is to run here.
const COMING_MAX: usize = 8;

/// Copies for others that are on their way.
pub(crate) type Coming = BTreeMap<Digest, KeptSnapshot>;

impl Session {
    /// The coordinator wants a copy of a snapshot here.
    pub(crate) fn keep_copy(&mut self, task: TaskId, blob: BlobRef) {
        let (snapshot, digest) = (KeptSnapshot { task, digest: blob.digest }, blob.digest);
        if self.snapshots.coming.contains_key(&digest) {
            return;
        }
        if self.snapshots.has(digest) {
            return self.say(ToCoordinator::Keeps(snapshot));
        }
        if let Some(reason) = self.keeps_no_copy(blob) {
            return self.say(ToCoordinator::Unkept { snapshot, reason });
        }
        self.snapshots.coming.insert(digest, snapshot);
        self.acquire(blob);
        if self.blobs.is_here(digest) {
            self.copy_came(digest, true);
        }
    }

    fn keeps_no_copy(&self, blob: BlobRef) -> Option<UnkeptReason> {
        let full = self.snapshots.len() >= SNAPSHOTS_PER_AGENT_MAX
            || self.snapshots.coming.len() >= COMING_MAX
            || blob.size_bytes > SNAPSHOT_BYTES_MAX;
        match () {
            () if !self.serves() => Some(UnkeptReason::Leaving),
            () if self.verdict.reason().is_some() => Some(UnkeptReason::Paused),
            () if self.sample.is_some_and(|sample| sample.metered) => Some(UnkeptReason::Metered),
            () if full => Some(UnkeptReason::Full),
            () => None,
        }
    }

    /// A fetch came to its end that may have been for a copy.
    pub(crate) fn copy_came(&mut self, digest: Digest, arrived: bool) {
        let Some(snapshot) = self.snapshots.coming.remove(&digest) else { return };
        if arrived {
            self.snapshots.add(snapshot);
            self.say(ToCoordinator::Keeps(snapshot));
        } else {
            self.release(digest);
            self.say(ToCoordinator::Unkept { snapshot, reason: UnkeptReason::Unavailable });
        }
    }

    /// The owner comes first: what is on its way for others is given up.
    pub(crate) fn give_up_coming(&mut self) {
        let reason = match (self.serves(), self.verdict.reason()) {
            (false, _) => UnkeptReason::Leaving,
            (true, Some(_)) => UnkeptReason::Paused,
            (true, None) if self.sample.is_some_and(|sample| sample.metered) => UnkeptReason::Metered,
            (true, None) => return,
        };
        for (digest, snapshot) in std::mem::take(&mut self.snapshots.coming) {
            self.release(digest);
            self.say(ToCoordinator::Unkept { snapshot, reason });
        }
    }

    /// Whether this agent, or its machine, is about to go.
    fn leaves(&self) -> bool {
        let goes = matches!(&self.verdict, Verdict::Evict(PauseReason::Sleep | PauseReason::Shutdown | PauseReason::Upgrade));
        goes || self.life != Life::Serving
    }

    /// What is kept here must be elsewhere before this machine goes, or is here to stay after all.
    pub(crate) fn part_with_kept(&mut self) {
        if !self.link.is_up() {
            return self.snapshots.parting.clear();
        }
        if !self.leaves() {
            for digest in std::mem::take(&mut self.snapshots.parting).into_keys() {
                if let Some(snapshot) = self.snapshots.find(digest) {
                    self.say(ToCoordinator::Keeps(snapshot));
                }
            }
            return;
        }
        for snapshot in self.snapshots.kept() {
            if let Entry::Vacant(unsaid) = self.snapshots.parting.entry(snapshot.digest) {
                unsaid.insert(false);
                self.say(ToCoordinator::Unkept { snapshot, reason: UnkeptReason::Leaving });
            }
        }
    }

    /// Others keep these, or nobody needs them.
    pub(crate) fn safe(&mut self, snapshots: &[Digest]) {
        for digest in snapshots {
            if let Some(safe) = self.snapshots.parting.get_mut(digest) {
                *safe = true;
            }
        }
    }

    /// Whether a machine that goes takes nothing with it that somebody would miss: all that ran here is written down or
    /// given up, and is elsewhere, as far as that can be said to anybody.
    pub fn may_leave(&self) -> bool {
        self.is_idle() && self.has_parted()
    }

    /// Whether all that is kept here is elsewhere too.
    pub(crate) fn has_parted(&self) -> bool {
        !self.link.is_up() || self.snapshots.kept().iter().all(|kept| self.snapshots.parting.get(&kept.digest) == Some(&true))
    }
}
