//! The names of a scratch folder, and what is behind them.
//!
//! A node lives while it has a name or somebody has it open. Folders know their parents, so that no operation recurses:
//! how deep they nest makes no difference.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use super::{
    OPEN_MAX,
    blocks::{Blocks, Content, Lacking},
};

/// What names, links and nodes may take of the executor's memory: a hundred thousand files and folders.
const NAMES_BYTES_MAX: usize = 64 << 20;
/// What a node and its entry take beside the name.
const NODE_BYTES: usize = 512;
/// What file systems take as a name.
const NAME_BYTES_MAX: usize = 255;
/// What systems take as a path.
pub(super) const PATH_BYTES_MAX: usize = 4096;
/// Links that one path may lead through, as on Linux.
const LINKS_FOLLOWED_MAX: usize = 40;
/// Places of the first entries of a folder: those before are `.` and `..`.
pub(super) const FIRST_PLACE: u64 = 3;

/// A file, a folder or a link, by its number. Numbers are never given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(u64);

impl NodeId {
    /// The scratch folder itself.
    pub(super) const ROOT: Self = Self(1);

    /// Its number.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

/// Everything in a scratch folder.
pub(in crate::executor) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    last_node: u64,
    last_place: u64,
    names_bytes: usize,
    open: usize,
    blocks: Blocks,
    denied: bool,
    trouble: Option<String>,
}

struct Node {
    links: u64,
    open: usize,
    times: Times,
    kind: Kind,
}

enum Kind {
    File(Content),
    Folder { parent: NodeId, entries: BTreeMap<Arc<str>, Entry>, places: BTreeMap<u64, Arc<str>> },
    Link(String),
}

#[derive(Clone, Copy)]
struct Entry {
    node: NodeId,
    /// Where it comes when the folder is listed: entries that come and go move no other.
    place: u64,
}

/// In nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) accessed: u64,
    pub(super) modified: u64,
    pub(super) changed: u64,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    File,
    Folder,
    Link,
}

/// What is told of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) node: NodeId,
    pub(super) sort: Sort,
    pub(super) links: u64,
    pub(super) size: u64,
    pub(super) times: Times,
}

/// An entry as a listing has it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) place: u64,
    pub(super) name: Arc<str>,
    pub(super) node: NodeId,
    pub(super) sort: Sort,
}

/// How something is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Opening {
    pub(super) follow: bool,
    pub(super) create: bool,
    pub(super) exclusive: bool,
    pub(super) truncate: bool,
    pub(super) folder: bool,
    pub(super) write: bool,
}

/// Where a path leads.
struct Found {
    folder: NodeId,
    /// The last name; none for a path that ends in `.` or `..`, which leads to the folder itself.
    name: Option<Arc<str>>,
    node: Option<NodeId>,
    /// The path ends in a slash.
    only_folder: bool,
}

type Result<T> = std::result::Result<T, ErrorCode>;

impl Tree {
    /// An empty folder.
    pub(super) fn new(blocks: Blocks) -> Self {
        let times = Times { accessed: 0, modified: 0, changed: 0 };
        let kind = Kind::Folder { parent: NodeId::ROOT, entries: BTreeMap::new(), places: BTreeMap::new() };
        let root = Node { links: 1, open: 0, times, kind };
        Self {
            nodes: BTreeMap::from([(NodeId::ROOT, root)]),
            last_node: NodeId::ROOT.0,
            last_place: FIRST_PLACE - 1,
            names_bytes: 0,
            open: 0,
            blocks,
            denied: false,
            trouble: None,
        }
    }

    /// Whether the guest was refused for want of room.
    pub(in crate::executor) fn denied(&self) -> bool {
        self.denied
    }

    /// What the machine failed it in.
    pub(in crate::executor) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Takes a hold of a node, so that it stays while it is in use.
    pub(super) fn hold(&mut self, node: NodeId) -> Result<()> {
        if self.open >= OPEN_MAX {
            // Components know no word for too many open files.
            return Err(ErrorCode::InsufficientMemory);
        }
        self.node_mut(node)?.open += 1;
        self.open += 1;
        Ok(())
    }

    /// Lets go of it.
    pub(super) fn release(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.open = node.open.saturating_sub(1);
        self.open = self.open.saturating_sub(1);
        self.bury_unused(id);
    }

    /// Opens or makes what a path leads to, and takes a hold of it.
    pub(super) fn open(&mut self, base: NodeId, path: &str, how: Opening, now: u64) -> Result<(NodeId, Sort)> {
        if how.folder && (how.create || how.exclusive || how.truncate) {
            return Err(ErrorCode::Invalid);
        }
        let found = self.resolve(base, path, how.follow && !(how.create && how.exclusive))?;
        let id = match (found.node, &found.name) {
            (Some(_), _) if how.create && how.exclusive => return Err(ErrorCode::Exist),
            (Some(id), _) => id,
            (None, _) if !how.create => return Err(ErrorCode::NoEntry),
            (None, _) if found.only_folder => return Err(ErrorCode::IsDirectory),
            (None, Some(name)) if self.open < OPEN_MAX => {
                self.make(found.folder, Arc::clone(name), Kind::File(Content::default()), now)?
            }
            (None, _) => return Err(ErrorCode::InsufficientMemory),
        };
        let sort = self.sort(id)?;
        match sort {
            Sort::Link => return Err(ErrorCode::Loop),
            Sort::File if how.folder || found.only_folder => return Err(ErrorCode::NotDirectory),
            Sort::Folder if how.write || how.create || how.truncate => return Err(ErrorCode::IsDirectory),
            Sort::File | Sort::Folder => {}
        }
        self.hold(id)?;
        if how.truncate
            && let Err(error) = self.resize(id, 0, now)
        {
            self.release(id);
            return Err(error);
        }
        Ok((id, sort))
    }

    /// Reads from a file; nothing at its end.
    pub(super) fn read(&mut self, id: NodeId, at: u64, into: &mut [u8], now: u64) -> Result<usize> {
        let Self { nodes, blocks, trouble, .. } = self;
        let node = nodes.get_mut(&id).ok_or(ErrorCode::BadDescriptor)?;
        let Kind::File(content) = &node.kind else { return Err(ErrorCode::IsDirectory) };
        let read = blocks.read(content, at, into).map_err(|error| {
            *trouble = Some(error.to_string());
            ErrorCode::Io
        })?;
        node.times.accessed = now;
        Ok(read)
    }

    /// Writes to a file, at its end if no place is given: as much of it as fits, and at least a byte. Where the next byte
    /// goes.
    pub(super) fn write(&mut self, id: NodeId, at: Option<u64>, bytes: &[u8], now: u64) -> Result<(usize, u64)> {
        let node = self.nodes.get_mut(&id).ok_or(ErrorCode::BadDescriptor)?;
        let Kind::File(content) = &mut node.kind else { return Err(ErrorCode::IsDirectory) };
        let at = at.unwrap_or(content.size());
        let written = self.blocks.write(content, at, bytes);
        (node.times.modified, node.times.changed) = (now, now);
        let written = written.map_err(|lacking| self.lacks(lacking))?;
        Ok((written, at + written as u64))
    }

    /// Makes a file shorter, or longer by zeros.
    pub(super) fn resize(&mut self, id: NodeId, size: u64, now: u64) -> Result<()> {
        let node = self.nodes.get_mut(&id).ok_or(ErrorCode::BadDescriptor)?;
        let Kind::File(content) = &mut node.kind else { return Err(ErrorCode::IsDirectory) };
        let resized = self.blocks.resize(content, size);
        (node.times.modified, node.times.changed) = (now, now);
        resized.map_err(|lacking| self.lacks(lacking))
    }

    /// What a node is.
    pub(super) fn sort(&self, id: NodeId) -> Result<Sort> {
        Ok(self.node(id)?.sort())
    }

    /// What there is to tell of a node.
    pub(super) fn stat(&self, id: NodeId) -> Result<Stat> {
        let node = self.node(id)?;
        let size = match &node.kind {
            Kind::File(content) => content.size(),
            Kind::Link(target) => target.len() as u64,
            Kind::Folder { .. } => 0,
        };
        Ok(Stat { node: id, sort: node.sort(), links: node.links, size, times: node.times })
    }

    /// The same of what a path leads to.
    pub(super) fn stat_at(&self, base: NodeId, path: &str, follow: bool) -> Result<Stat> {
        self.stat(self.existing(base, path, follow)?)
    }

    /// Sets when it was read and written, where given.
    pub(super) fn set_times(&mut self, id: NodeId, accessed: Option<u64>, modified: Option<u64>, now: u64) -> Result<()> {
        let times = &mut self.node_mut(id)?.times;
        times.accessed = accessed.unwrap_or(times.accessed);
        times.modified = modified.unwrap_or(times.modified);
        times.changed = now;
        Ok(())
    }

    /// The node that a path leads to.
    pub(super) fn existing(&self, base: NodeId, path: &str, follow: bool) -> Result<NodeId> {
        let found = self.resolve(base, path, follow)?;
        let id = found.node.ok_or(ErrorCode::NoEntry)?;
        if found.only_folder && self.sort(id)? != Sort::Folder {
            return Err(ErrorCode::NotDirectory);
        }
        Ok(id)
    }

    /// The entry of a folder that comes after this place.
    pub(super) fn next_entry(&self, folder: NodeId, after: u64) -> Result<Option<Listed>> {
        let Kind::Folder { entries, places, .. } = &self.node(folder)?.kind else { return Err(ErrorCode::NotDirectory) };
        let Some((place, name)) = places.range((Bound::Excluded(after), Bound::Unbounded)).next() else { return Ok(None) };
        let entry = entries.get(name).ok_or(ErrorCode::NoEntry)?;
        Ok(Some(Listed { place: *place, name: Arc::clone(name), node: entry.node, sort: self.sort(entry.node)? }))
    }

    /// Makes a folder.
    pub(super) fn make_folder(&mut self, base: NodeId, path: &str, now: u64) -> Result<()> {
        let found = self.resolve(base, path, false)?;
        let (None, Some(name)) = (found.node, found.name) else { return Err(ErrorCode::Exist) };
        let kind = Kind::Folder { parent: found.folder, entries: BTreeMap::new(), places: BTreeMap::new() };
        self.make(found.folder, name, kind, now).map(drop)
    }

    /// Makes a link. It may lead nowhere, but never out of the scratch folder.
    pub(super) fn make_link(&mut self, target: &str, base: NodeId, path: &str, now: u64) -> Result<()> {
        if target.starts_with('/') {
            return Err(ErrorCode::NotPermitted);
        }
        if target.is_empty() {
            return Err(ErrorCode::NoEntry);
        }
        if target.len() > PATH_BYTES_MAX {
            return Err(ErrorCode::NameTooLong);
        }
        let found = self.resolve(base, path, false)?;
        let (None, Some(name)) = (found.node, found.name) else { return Err(ErrorCode::Exist) };
        if found.only_folder {
            return Err(ErrorCode::NoEntry);
        }
        self.make(found.folder, name, Kind::Link(target.to_owned()), now).map(drop)
    }

    /// Where a link leads.
    pub(super) fn read_link(&self, base: NodeId, path: &str) -> Result<&str> {
        match &self.node(self.existing(base, path, false)?)?.kind {
            Kind::Link(target) => Ok(target),
            Kind::File(_) | Kind::Folder { .. } => Err(ErrorCode::Invalid),
        }
    }

    /// Gives a file or a link one more name.
    pub(super) fn link(&mut self, from: NodeId, path: &str, base: NodeId, to: &str, now: u64) -> Result<()> {
        let id = self.existing(from, path, false)?;
        if self.sort(id)? == Sort::Folder {
            return Err(ErrorCode::NotPermitted);
        }
        let found = self.resolve(base, to, false)?;
        let (None, Some(name)) = (found.node, found.name) else { return Err(ErrorCode::Exist) };
        if found.only_folder {
            return Err(ErrorCode::NoEntry);
        }
        self.charge(NODE_BYTES + name.len())?;
        self.enter(found.folder, name, id, now)?;
        let node = self.node_mut(id)?;
        node.links += 1;
        node.times.changed = now;
        Ok(())
    }

    /// Takes a file's or a link's name away.
    pub(super) fn unlink(&mut self, base: NodeId, path: &str, now: u64) -> Result<()> {
        let found = self.resolve(base, path, false)?;
        let (Some(id), Some(name)) = (found.node, &found.name) else {
            return Err(if found.node.is_some() { ErrorCode::IsDirectory } else { ErrorCode::NoEntry });
        };
        match self.sort(id)? {
            Sort::Folder => return Err(ErrorCode::IsDirectory),
            Sort::File | Sort::Link if found.only_folder => return Err(ErrorCode::NotDirectory),
            Sort::File | Sort::Link => {}
        }
        self.leave(found.folder, name, now)
    }

    /// Removes an empty folder.
    pub(super) fn remove_folder(&mut self, base: NodeId, path: &str, now: u64) -> Result<()> {
        let found = self.resolve(base, path, false)?;
        let Some(id) = found.node else { return Err(ErrorCode::NoEntry) };
        if self.sort(id)? != Sort::Folder {
            return Err(ErrorCode::NotDirectory);
        }
        let Some(name) = &found.name else { return Err(ErrorCode::Invalid) };
        if !self.is_empty(id)? {
            return Err(ErrorCode::NotEmpty);
        }
        self.leave(found.folder, name, now)
    }

    /// Gives something another name, in the place of what had it.
    pub(super) fn rename(&mut self, from: NodeId, path: &str, base: NodeId, to: &str, now: u64) -> Result<()> {
        let old = self.resolve(from, path, false)?;
        let new = self.resolve(base, to, false)?;
        let Some(id) = old.node else { return Err(ErrorCode::NoEntry) };
        let (Some(old_name), Some(new_name)) = (old.name, new.name) else { return Err(ErrorCode::Busy) };
        let is_folder = self.sort(id)? == Sort::Folder;
        if (old.only_folder || new.only_folder) && !is_folder {
            return Err(ErrorCode::NotDirectory);
        }
        if is_folder && self.is_within(new.folder, id)? {
            return Err(ErrorCode::Invalid);
        }
        if let Some(replaced) = new.node {
            if replaced == id {
                return Ok(());
            }
            match (is_folder, self.sort(replaced)?) {
                (true, Sort::Folder) if !self.is_empty(replaced)? => return Err(ErrorCode::NotEmpty),
                (true, Sort::Folder) => {}
                (true, Sort::File | Sort::Link) => return Err(ErrorCode::NotDirectory),
                (false, Sort::Folder) => return Err(ErrorCode::IsDirectory),
                (false, Sort::File | Sort::Link) => {}
            }
        }
        self.charge(NODE_BYTES + new_name.len())?;
        if new.node.is_some() {
            self.leave(new.folder, &new_name, now)?;
        }
        // Before the old name goes: a node without a name would be gone.
        self.enter(new.folder, new_name, id, now)?;
        self.node_mut(id)?.links += 1;
        self.leave(old.folder, &old_name, now)?;
        if let Kind::Folder { parent, .. } = &mut self.node_mut(id)?.kind {
            *parent = new.folder;
        }
        Ok(())
    }

    /// Walks a path from a folder, and never out of it.
    fn resolve(&self, base: NodeId, path: &str, follow: bool) -> Result<Found> {
        if path.is_empty() {
            return Err(ErrorCode::NoEntry);
        }
        if path.starts_with('/') {
            return Err(ErrorCode::NotPermitted);
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(ErrorCode::NameTooLong);
        }
        let mut names: VecDeque<Arc<str>> = parts(path).collect();
        let mut only_folder = path.ends_with('/');
        let mut trail = vec![base];
        let mut followed = 0;
        loop {
            let folder = *trail.last().unwrap_or(&base);
            let Some(name) = names.pop_front() else {
                return Ok(Found { folder, name: None, node: Some(folder), only_folder });
            };
            let Kind::Folder { entries, .. } = &self.node(folder)?.kind else { return Err(ErrorCode::NotDirectory) };
            match &*name {
                "." => continue,
                ".." => {
                    trail.pop();
                    if trail.is_empty() {
                        return Err(ErrorCode::NotPermitted);
                    }
                    continue;
                }
                long if long.len() > NAME_BYTES_MAX => return Err(ErrorCode::NameTooLong),
                odd if odd.contains('\0') => return Err(ErrorCode::Invalid),
                _ => {}
            }
            let last = names.is_empty();
            let Some(entry) = entries.get(&name) else {
                // What is missing before the end cannot be made either.
                return match last {
                    true => Ok(Found { folder, name: Some(name), node: None, only_folder }),
                    false => Err(ErrorCode::NoEntry),
                };
            };
            match &self.node(entry.node)?.kind {
                Kind::Link(target) if !last || follow || only_folder => {
                    followed += 1;
                    if followed > LINKS_FOLLOWED_MAX {
                        return Err(ErrorCode::Loop);
                    }
                    only_folder |= last && target.ends_with('/');
                    for part in parts(target).rev() {
                        names.push_front(part);
                    }
                }
                Kind::Link(_) | Kind::File(_) | Kind::Folder { .. } if last => {
                    return Ok(Found { folder, name: Some(name), node: Some(entry.node), only_folder });
                }
                Kind::Folder { .. } => trail.push(entry.node),
                Kind::File(_) | Kind::Link(_) => return Err(ErrorCode::NotDirectory),
            }
        }
    }

    fn make(&mut self, folder: NodeId, name: Arc<str>, kind: Kind, now: u64) -> Result<NodeId> {
        let target = if let Kind::Link(target) = &kind { target.len() } else { 0 };
        self.charge(NODE_BYTES + name.len() + target)?;
        let id = NodeId(self.last_node + 1);
        self.enter(folder, name, id, now)?;
        self.last_node = id.0;
        let times = Times { accessed: now, modified: now, changed: now };
        self.nodes.insert(id, Node { links: 1, open: 0, times, kind });
        Ok(id)
    }

    /// Adds an entry that was paid for.
    fn enter(&mut self, folder: NodeId, name: Arc<str>, node: NodeId, now: u64) -> Result<()> {
        let place = self.last_place + 1;
        let into = self.node_mut(folder)?;
        let (exists, times) = (into.links > 0, &mut into.times);
        let Kind::Folder { entries, places, .. } = &mut into.kind else { return Err(ErrorCode::NotDirectory) };
        if !exists {
            // Its own name was taken away while it was open.
            self.names_bytes = self.names_bytes.saturating_sub(NODE_BYTES + name.len());
            return Err(ErrorCode::NoEntry);
        }
        (times.modified, times.changed) = (now, now);
        places.insert(place, Arc::clone(&name));
        entries.insert(name, Entry { node, place });
        self.last_place = place;
        Ok(())
    }

    /// Removes an entry, and what nobody has any more with it.
    fn leave(&mut self, folder: NodeId, name: &str, now: u64) -> Result<()> {
        let from = self.node_mut(folder)?;
        let Kind::Folder { entries, places, .. } = &mut from.kind else { return Err(ErrorCode::NotDirectory) };
        let Some(entry) = entries.remove(name) else { return Err(ErrorCode::NoEntry) };
        places.remove(&entry.place);
        (from.times.modified, from.times.changed) = (now, now);
        self.names_bytes = self.names_bytes.saturating_sub(NODE_BYTES + name.len());
        let node = self.node_mut(entry.node)?;
        node.links = node.links.saturating_sub(1);
        node.times.changed = now;
        self.bury_unused(entry.node);
        Ok(())
    }

    fn bury_unused(&mut self, id: NodeId) {
        if self.nodes.get(&id).is_none_or(|node| node.links > 0 || node.open > 0) {
            return;
        }
        match self.nodes.remove(&id).map(|node| node.kind) {
            Some(Kind::File(content)) => self.blocks.release(content),
            Some(Kind::Link(target)) => self.names_bytes = self.names_bytes.saturating_sub(target.len()),
            Some(Kind::Folder { .. }) | None => {}
        }
    }

    /// Whether a folder is another one or lies in it.
    fn is_within(&self, mut inner: NodeId, outer: NodeId) -> Result<bool> {
        loop {
            if inner == outer {
                return Ok(true);
            }
            if inner == NodeId::ROOT {
                return Ok(false);
            }
            match self.nodes.get(&inner).map(|node| &node.kind) {
                Some(Kind::Folder { parent, .. }) => inner = *parent,
                // The one above has been removed since, so it is nobody's any more.
                Some(Kind::File(_) | Kind::Link(_)) | None => return Ok(false),
            }
        }
    }

    fn is_empty(&self, id: NodeId) -> Result<bool> {
        match &self.node(id)?.kind {
            Kind::Folder { entries, .. } => Ok(entries.is_empty()),
            Kind::File(_) | Kind::Link(_) => Err(ErrorCode::NotDirectory),
        }
    }

    fn charge(&mut self, bytes: usize) -> Result<()> {
        if self.names_bytes + bytes > NAMES_BYTES_MAX {
            self.denied = true;
            return Err(ErrorCode::InsufficientSpace);
        }
        self.names_bytes += bytes;
        Ok(())
    }

    fn lacks(&mut self, lacking: Lacking) -> ErrorCode {
        match lacking {
            Lacking::Full => {
                self.denied = true;
                ErrorCode::InsufficientSpace
            }
            Lacking::TooLong => {
                self.denied = true;
                ErrorCode::FileTooLarge
            }
            Lacking::Disk(error) => {
                let full = error.kind() == std::io::ErrorKind::StorageFull;
                self.trouble = Some(if full { format!("its disk is full: {error}") } else { error.to_string() });
                if full { ErrorCode::InsufficientSpace } else { ErrorCode::Io }
            }
        }
    }

    fn node(&self, id: NodeId) -> Result<&Node> {
        self.nodes.get(&id).ok_or(ErrorCode::BadDescriptor)
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or(ErrorCode::BadDescriptor)
    }
}

impl Node {
    fn sort(&self) -> Sort {
        match self.kind {
            Kind::File(_) => Sort::File,
            Kind::Folder { .. } => Sort::Folder,
            Kind::Link(_) => Sort::Link,
        }
    }
}

fn parts(path: &str) -> impl DoubleEndedIterator<Item = Arc<str>> {
    path.split('/').filter(|part| !part.is_empty()).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: NodeId = NodeId::ROOT;
    const WRITE: Opening = Opening { follow: true, create: true, exclusive: false, truncate: false, folder: false, write: true };
    const LOOK: Opening = Opening { follow: true, create: false, exclusive: false, truncate: false, folder: false, write: false };

    fn tree(limit_bytes: u64) -> Tree {
        Tree::new(Blocks::new(Arc::new(tempfile::tempfile().expect("a file")), limit_bytes))
    }

    fn put(tree: &mut Tree, path: &str, bytes: &[u8]) {
        let (file, _) = tree.open(ROOT, path, WRITE, 1).expect("it opens");
        tree.write(file, None, bytes, 1).expect("it fits");
        tree.release(file);
    }

    fn get(tree: &mut Tree, path: &str) -> Result<Vec<u8>> {
        let (file, _) = tree.open(ROOT, path, LOOK, 1)?;
        let mut bytes = vec![0; 100];
        let read = tree.read(file, 0, &mut bytes, 1)?;
        tree.release(file);
        bytes.truncate(read);
        Ok(bytes)
    }

    fn names(tree: &Tree, folder: NodeId) -> Vec<String> {
        let mut place = 0;
        std::iter::from_fn(|| {
            let next = tree.next_entry(folder, place).expect("a folder")?;
            place = next.place;
            Some(next.name.to_string())
        })
        .collect()
    }

    #[test]
    fn what_was_removed_and_is_still_open_counts_until_it_is_closed() {
        let mut tree = tree(16 * 4096);
        let mut held = Vec::new();
        loop {
            let (file, _) = tree.open(ROOT, "file", WRITE, 1).expect("it opens");
            held.push(file);
            tree.unlink(ROOT, "file", 1).expect("it is there");
            match tree.write(file, Some(0), &[1; 4096], 1) {
                Ok(_) => {}
                Err(ErrorCode::InsufficientSpace) => break,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(held.len(), 17);
        assert!(tree.denied());
        tree.release(held.swap_remove(0));
        put(&mut tree, "next", &[2; 4096]);
        held.into_iter().for_each(|file| tree.release(file));
        assert_eq!(tree.nodes.len(), 2, "the root and the last file");
    }

    #[test]
    fn folders_nest_as_deep_as_one_likes_and_go_with_the_tree() {
        let mut tree = tree(1 << 20);
        let mut at = ROOT;
        for _ in 0..50_000 {
            tree.make_folder(at, "d", 1).expect("there is room");
            let (next, sort) = tree.open(at, "d", LOOK, 1).expect("it opens");
            assert_eq!(sort, Sort::Folder);
            tree.release(at);
            at = next;
        }
        let (file, _) = tree.open(at, "file", WRITE, 1).expect("it opens");
        assert_eq!(tree.write(file, None, &[1; 1 << 20], 1).expect("it fits").0, 1 << 20);
        assert_eq!(tree.write(file, None, b"x", 1), Err(ErrorCode::FileTooLarge));
        assert_eq!(tree.rename(ROOT, "d", at, "loop", 1), Err(ErrorCode::Invalid));
    }

    #[test]
    fn names_and_empty_files_are_not_free() {
        let mut tree = tree(1 << 30);
        let refused = (0..).find_map(|number| {
            let made = tree.make_folder(ROOT, &format!("{number:0>200}"), 1);
            made.err().map(|error| (number, error))
        });
        let (number, error) = refused.expect("it ends");
        assert_eq!(error, ErrorCode::InsufficientSpace);
        assert!(tree.denied() && (90_000..NAMES_BYTES_MAX / NODE_BYTES).contains(&number), "{number}");
        tree.remove_folder(ROOT, &format!("{:0>200}", 0), 1).expect("it is empty");
        tree.make_folder(ROOT, "again", 1).expect("there is room again");
    }

    #[test]
    fn no_more_is_open_at_once_than_may_be() {
        let mut tree = tree(1 << 20);
        put(&mut tree, "file", b"x");
        let held: Vec<_> = (0..OPEN_MAX).map(|_| tree.open(ROOT, "file", LOOK, 1).expect("it opens").0).collect();
        assert_eq!(tree.open(ROOT, "file", LOOK, 1).err(), Some(ErrorCode::InsufficientMemory));
        assert_eq!(tree.open(ROOT, "other", WRITE, 1).err(), Some(ErrorCode::InsufficientMemory));
        assert_eq!(names(&tree, ROOT), ["file"], "what cannot be opened is not made");
        held.into_iter().for_each(|node| tree.release(node));
        assert_eq!(get(&mut tree, "file"), Ok(b"x".to_vec()));
    }

    #[test]
    fn no_path_leads_out() {
        let mut tree = tree(1 << 20);
        tree.make_folder(ROOT, "a", 1).expect("made");
        tree.make_folder(ROOT, "a/b", 1).expect("made");
        put(&mut tree, "secret", b"s");
        let (inner, _) = tree.open(ROOT, "a/b", LOOK, 1).expect("it opens");
        for path in ["/", "/etc/passwd", "..", "../a", "x/../..", "./../.."] {
            let refused = tree.stat_at(inner, path, true).err();
            assert!(matches!(refused, Some(ErrorCode::NotPermitted | ErrorCode::NoEntry)), "{path}: {refused:?}");
        }
        tree.make_link("../../secret", ROOT, "a/b/out", 1).expect("made");
        assert_eq!(tree.stat_at(inner, "out", true).err(), Some(ErrorCode::NotPermitted), "below its own folder");
        assert_eq!(get(&mut tree, "a/b/out"), Ok(b"s".to_vec()), "from above it leads where it says");
        assert_eq!(tree.make_link("/etc", ROOT, "etc", 1), Err(ErrorCode::NotPermitted));
        assert_eq!(get(&mut tree, "a/b/../../secret"), Ok(b"s".to_vec()));
    }

    #[test]
    fn links_in_a_circle_end() {
        let mut tree = tree(1 << 20);
        tree.make_link("b", ROOT, "a", 1).expect("made");
        tree.make_link("a", ROOT, "b", 1).expect("made");
        assert_eq!(tree.stat_at(ROOT, "a", true).err(), Some(ErrorCode::Loop));
        assert_eq!(tree.stat_at(ROOT, "a", false).expect("the link itself").sort, Sort::Link);
        assert_eq!(tree.read_link(ROOT, "a"), Ok("b"));
        assert_eq!(tree.open(ROOT, "a", Opening { follow: false, ..LOOK }, 1).err(), Some(ErrorCode::Loop));
    }

    #[test]
    fn a_file_has_as_many_lives_as_names() {
        let mut tree = tree(1 << 20);
        put(&mut tree, "one", b"1");
        tree.link(ROOT, "one", ROOT, "two", 2).expect("linked");
        assert_eq!(tree.stat_at(ROOT, "two", true).expect("there").links, 2);
        tree.unlink(ROOT, "one", 3).expect("there");
        assert_eq!(get(&mut tree, "one"), Err(ErrorCode::NoEntry));
        assert_eq!(get(&mut tree, "two"), Ok(b"1".to_vec()));
        assert_eq!(tree.link(ROOT, "two", ROOT, "two", 4), Err(ErrorCode::Exist));
    }

    #[test]
    fn renaming_replaces_what_may_be_replaced() {
        let mut tree = tree(1 << 20);
        put(&mut tree, "a", b"a");
        put(&mut tree, "b", b"b");
        tree.make_folder(ROOT, "d", 1).expect("made");
        tree.make_folder(ROOT, "full", 1).expect("made");
        put(&mut tree, "full/x", b"x");
        let cases = [
            ("a", "d", Err(ErrorCode::IsDirectory)),
            ("d", "a", Err(ErrorCode::NotDirectory)),
            ("d", "full", Err(ErrorCode::NotEmpty)),
            ("full", "full/y", Err(ErrorCode::Invalid)),
            ("none", "y", Err(ErrorCode::NoEntry)),
            ("a", "y/", Err(ErrorCode::NotDirectory)),
            ("a", "a", Ok(())),
            ("a", "b", Ok(())),
            ("full", "d", Ok(())),
            ("d", "e/", Ok(())),
        ];
        for (from, to, expected) in cases {
            assert_eq!(tree.rename(ROOT, from, ROOT, to, 2), expected, "{from} {to}");
        }
        assert_eq!((get(&mut tree, "b"), get(&mut tree, "e/x")), (Ok(b"a".to_vec()), Ok(b"x".to_vec())));
        assert_eq!(names(&tree, ROOT), ["b", "e"]);
        assert_eq!(tree.nodes.len(), 4);
    }

    #[test]
    fn a_folder_that_is_emptied_while_it_is_listed_is_listed_whole() {
        let mut tree = tree(1 << 20);
        for number in 0..100 {
            put(&mut tree, &format!("f{number}"), b"x");
        }
        let (mut place, mut seen) = (0, 0);
        while let Some(entry) = tree.next_entry(ROOT, place).expect("a folder") {
            (place, seen) = (entry.place, seen + 1);
            tree.unlink(ROOT, &entry.name, 1).expect("it is there");
        }
        assert_eq!((seen, tree.names_bytes, tree.nodes.len()), (100, 0, 1));
    }

    #[test]
    fn nothing_is_made_in_a_folder_that_was_removed() {
        let mut tree = tree(1 << 20);
        tree.make_folder(ROOT, "d", 1).expect("made");
        let (folder, _) = tree.open(ROOT, "d", LOOK, 1).expect("it opens");
        tree.remove_folder(ROOT, "d", 1).expect("it is empty");
        assert_eq!(tree.make_folder(folder, "x", 1), Err(ErrorCode::NoEntry));
        assert_eq!(tree.open(folder, "x", WRITE, 1).err(), Some(ErrorCode::NoEntry));
        tree.release(folder);
        assert_eq!((tree.nodes.len(), tree.names_bytes, tree.open), (1, 0, 0));
    }

    #[test]
    fn odd_paths_are_refused() {
        let mut tree = tree(1 << 20);
        put(&mut tree, "f", b"x");
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let longer = "x/".repeat(PATH_BYTES_MAX);
        let cases = [
            ("", ErrorCode::NoEntry),
            ("f/", ErrorCode::NotDirectory),
            ("f/x", ErrorCode::NotDirectory),
            ("none/x", ErrorCode::NoEntry),
            ("a\0b", ErrorCode::Invalid),
            (&*long, ErrorCode::NameTooLong),
            (&*longer, ErrorCode::NameTooLong),
        ];
        for (path, expected) in cases {
            assert_eq!(tree.stat_at(ROOT, path, true).err(), Some(expected), "{path}");
        }
        assert_eq!(tree.open(ROOT, "new/", WRITE, 1).err(), Some(ErrorCode::IsDirectory));
        assert_eq!(tree.make_folder(ROOT, ".", 1), Err(ErrorCode::Exist));
        assert_eq!(tree.remove_folder(ROOT, ".", 1), Err(ErrorCode::Invalid));
        tree.make_folder(ROOT, "new/", 1).expect("as mkdir does");
    }
}
