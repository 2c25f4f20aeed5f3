//! The scratch folder: a tree of files in the executor's own memory, whose bytes lie in one file without a name.
//!
//! ```text
//! guest -- preview 1 (preview1) --+
//!                                 +--> tree: names, links, who has what open --> blocks: bytes, in one nameless file
//! guest -- component (component) -+
//! ```
//! Nothing that a guest names is a path of the machine. So the cage opens nothing, and what a guest may have is counted
//! where it is given out: a file that was removed and is still open counts until it is closed, however deep a file lies
//! it is a node like any other, and names are no longer than the machine's file system takes. The kernel holds the same
//! bound once more, as the size that the one file may have.
//!
//! The file is removed when it is made, so that it is gone with the process, however that ends.

use std::{fs::File, io, sync::Arc};

use lull_shared::state::{Part, Trouble};

use crate::executor::{
    inside::stream::{Shared, lock},
    protocol::Load,
    sys,
};

mod blocks;
pub(in crate::executor) mod component;
pub(in crate::executor) mod preview1;
mod tree;

pub(in crate::executor) use self::tree::Tree;

/// Where the guest finds it.
pub(in crate::executor) const PATH: &str = "/scratch";

/// What files and folders may be open at once: a database has dozens, and each costs memory outside of the guest's.
const OPEN_MAX: usize = 1024;

/// The file that holds the bytes of every attempt's scratch, one after the other.
pub(in crate::executor) struct Backing {
    file: Arc<File>,
    limit_bytes: u64,
}

impl Backing {
    /// Makes the file, if the job has a scratch folder. To be called before the cage is closed.
    pub(in crate::executor) fn make(load: &Load) -> Result<Option<Self>, Trouble> {
        let Some(folder) = load.scratch.as_deref().filter(|_| load.grants.scratch) else { return Ok(None) };
        let file = sys::scratch_file(folder);
        let file = file.map_err(|error| Trouble::new(Part::Scratch, format!("{error}: {}", folder.display())))?;
        Ok(Some(Self { file: Arc::new(file), limit_bytes: load.limits.scratch_bytes }))
    }

    /// An empty tree for the next attempt.
    pub(in crate::executor) fn tree(&self) -> io::Result<Tree> {
        self.empty()?;
        Ok(Tree::new(blocks::Blocks::new(Arc::clone(&self.file), self.limit_bytes)))
    }

    /// Gives the disk its space back.
    pub(in crate::executor) fn empty(&self) -> io::Result<()> {
        self.file.set_len(0)
    }
}

/// What an attempt met in its scratch folder.
#[derive(Default)]
pub(in crate::executor) struct Verdict {
    /// It was refused for want of room.
    pub(in crate::executor) denied: bool,
    /// The machine failed it.
    pub(in crate::executor) trouble: Option<String>,
}

impl Verdict {
    /// Of this tree.
    pub(in crate::executor) fn of(tree: Option<&Shared<Tree>>) -> Self {
        let Some(tree) = tree.map(lock) else { return Self::default() };
        Self { denied: tree.denied(), trouble: tree.trouble().map(str::to_owned) }
    }
}
