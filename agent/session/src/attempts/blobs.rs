//! Which blobs the session has asked for, and for how many users.
//!
//! ```text
//! (none) --acquire: fetch--> fetching --fetched--> here --last release: unpin--> (none)
//! ```

use std::collections::BTreeMap;

use lull_shared::digest::{BlobRef, Digest};

/// Reference counts of pinned blobs.
#[derive(Debug, Default)]
pub(crate) struct Blobs(BTreeMap<Digest, Pin>);

#[derive(Debug)]
struct Pin {
    users: usize,
    here: bool,
}

impl Blobs {
    /// One more user. True when the blob must be fetched for it.
    pub(crate) fn acquire(&mut self, blob: BlobRef) -> bool {
        let pin = self.0.entry(blob.digest).or_insert(Pin { users: 0, here: false });
        pin.users += 1;
        pin.users == 1
    }

    /// One user fewer. True when it was the last one.
    pub(crate) fn release(&mut self, digest: Digest) -> bool {
        let Some(pin) = self.0.get_mut(&digest) else { return false };
        pin.users -= 1;
        let last = pin.users == 0;
        if last {
            self.0.remove(&digest);
        }
        last
    }

    /// A fetch came to its end. True when somebody waited for it.
    pub(crate) fn fetched(&mut self, digest: Digest, arrived: bool) -> bool {
        match self.0.get_mut(&digest) {
            Some(pin) if !pin.here => {
                pin.here = arrived;
                true
            }
            Some(_) | None => false,
        }
    }

    /// A blob that was here is not any more. True when it was, and is needed.
    pub(crate) fn lost(&mut self, digest: Digest) -> bool {
        self.0.get_mut(&digest).is_some_and(|pin| std::mem::take(&mut pin.here))
    }

    /// Whether the blob can be used.
    pub(crate) fn is_here(&self, digest: Digest) -> bool {
        self.0.get(&digest).is_some_and(|pin| pin.here)
    }

    /// Every pinned blob with its number of users.
    pub(crate) fn users(&self) -> impl Iterator<Item = (Digest, usize)> {
        self.0.iter().map(|(digest, pin)| (*digest, pin.users))
    }
}
