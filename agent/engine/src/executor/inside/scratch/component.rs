//! The files of a component: `wasi:filesystem` over the tree.
//!
//! Handles are the engine's types by name and this module's by content: what is behind a number in the table is decided
//! by whoever put it there, and everything that is put there and taken out again is so here.

use bytes::Bytes;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, InputStream, OutputStream, Pollable, StreamError, StreamResult,
    bindings::{
        clocks::wall_clock::Datetime,
        filesystem::{
            preopens,
            types::{
                self, Descriptor, DescriptorFlags, DirectoryEntryStream, ErrorCode, HostDescriptor, HostDirectoryEntryStream,
                NewTimestamp, OpenFlags, PathFlags,
            },
        },
    },
};

use super::{
    PATH,
    tree::{NodeId, Opening, Sort, Stat, Tree},
};
use crate::executor::inside::{
    stream::{Shared, lock},
    time::Clock,
};

/// What one call reads or writes at most.
const PIECE_BYTES: usize = 64 << 10;
const NANOSECONDS: u64 = 1_000_000_000;

/// Says how [`View`]s are made.
pub(in crate::executor) struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = View<'a>;
}

/// The files of a component, for one call.
pub(in crate::executor) struct View<'a> {
    pub(in crate::executor) table: &'a mut ResourceTable,
    /// None if it has no scratch folder.
    pub(in crate::executor) files: Option<Files>,
}

/// A scratch folder and what it reads its times from.
#[derive(Clone)]
pub(in crate::executor) struct Files {
    pub(in crate::executor) tree: Shared<Tree>,
    pub(in crate::executor) clock: Clock,
}

/// A node for as long as somebody has it.
struct Held {
    files: Files,
    node: NodeId,
}

impl Held {
    /// Of a node that was opened and that nobody else lets go of.
    fn opened(files: Files, node: NodeId) -> Self {
        Self { files, node }
    }

    fn again(&self) -> FsResult<Self> {
        lock(&self.files.tree).hold(self.node)?;
        Ok(Self { files: self.files.clone(), node: self.node })
    }

    fn read(&self, at: u64, length: usize) -> Result<Bytes, ErrorCode> {
        let mut bytes = vec![0; length.min(PIECE_BYTES)];
        let read = lock(&self.files.tree).read(self.node, at, &mut bytes, self.files.clock.now())?;
        bytes.truncate(read);
        Ok(bytes.into())
    }

    /// Writes all of it; where the next byte goes.
    fn write(&self, mut at: Option<u64>, mut bytes: &[u8]) -> Result<Option<u64>, ErrorCode> {
        while !bytes.is_empty() {
            let (written, next) = lock(&self.files.tree).write(self.node, at, bytes, self.files.clock.now())?;
            at = at.map(|_| next);
            bytes = &bytes[written..];
        }
        Ok(at)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.files.tree).release(self.node);
    }
}

/// A descriptor as the table has it.
struct Open {
    held: Held,
    sort: Sort,
    flags: DescriptorFlags,
}

/// A folder that is being listed.
struct Listing {
    held: Held,
    after: u64,
}

impl View<'_> {
    fn open(&self, fd: &Resource<Descriptor>) -> FsResult<&Open> {
        Ok(self.table.get(&Resource::<Open>::new_borrow(fd.rep()))?)
    }

    fn push(&mut self, open: Open) -> FsResult<Resource<Descriptor>> {
        Ok(Resource::new_own(self.table.push(open)?.rep()))
    }

    fn folder(&self, fd: &Resource<Descriptor>) -> FsResult<(Files, NodeId)> {
        let open = self.open(fd)?;
        match open.sort {
            Sort::Folder => Ok((open.held.files.clone(), open.held.node)),
            Sort::File | Sort::Link => Err(ErrorCode::NotDirectory.into()),
        }
    }

    /// A file that may be used so.
    fn file(&self, fd: &Resource<Descriptor>, needed: DescriptorFlags, refusal: ErrorCode) -> FsResult<&Open> {
        let open = self.open(fd)?;
        match open.sort {
            Sort::File if open.flags.contains(needed) => Ok(open),
            Sort::File => Err(refusal.into()),
            Sort::Folder | Sort::Link => Err(ErrorCode::IsDirectory.into()),
        }
    }
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let Some(files) = self.files.clone() else { return Ok(Vec::new()) };
        lock(&files.tree).hold(NodeId::ROOT)?;
        let held = Held::opened(files, NodeId::ROOT);
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        let root = self.table.push(Open { held, sort: Sort::Folder, flags })?;
        Ok(vec![(Resource::new_own(root.rep()), PATH.to_owned())])
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<ErrorCode>().copied())
    }
}

impl HostDescriptor for View<'_> {
    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: u64) -> FsResult<Resource<DynInputStream>> {
        let held = self.file(&fd, DescriptorFlags::READ, ErrorCode::BadDescriptor)?.held.again()?;
        let stream: DynInputStream = Box::new(Reading { held, at: offset });
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        let held = self.file(&fd, DescriptorFlags::WRITE, ErrorCode::NotPermitted)?.held.again()?;
        let stream: DynOutputStream = Box::new(Writing { held, at: Some(offset) });
        Ok(self.table.push(stream)?)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let held = self.file(&fd, DescriptorFlags::WRITE, ErrorCode::NotPermitted)?.held.again()?;
        let stream: DynOutputStream = Box::new(Writing { held, at: None });
        Ok(self.table.push(stream)?)
    }

    async fn advise(&mut self, fd: Resource<Descriptor>, _: u64, _: u64, _: types::Advice) -> FsResult<()> {
        self.file(&fd, DescriptorFlags::empty(), ErrorCode::BadDescriptor).map(drop)
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        // Nothing of it outlives the attempt.
        self.open(&fd).map(drop)
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.open(&fd).map(drop)
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        Ok(self.open(&fd)?.flags)
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorType> {
        Ok(descriptor_type(self.open(&fd)?.sort))
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: u64) -> FsResult<()> {
        let Held { files, node } = &self.file(&fd, DescriptorFlags::WRITE, ErrorCode::NotPermitted)?.held;
        Ok(lock(&files.tree).resize(*node, size, files.clock.now())?)
    }

    async fn set_times(&mut self, fd: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> {
        let Held { files, node } = &self.open(&fd)?.held;
        let now = files.clock.now();
        Ok(lock(&files.tree).set_times(*node, time(accessed, now)?, time(modified, now)?, now)?)
    }

    async fn read(&mut self, fd: Resource<Descriptor>, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        let open = self.file(&fd, DescriptorFlags::READ, ErrorCode::BadDescriptor)?;
        let bytes = open.held.read(offset, usize::try_from(length).unwrap_or(usize::MAX))?;
        let ended = bytes.is_empty();
        Ok((bytes.into(), ended))
    }

    async fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let Held { files, node } = &self.file(&fd, DescriptorFlags::WRITE, ErrorCode::NotPermitted)?.held;
        let (written, _) = lock(&files.tree).write(*node, Some(offset), &bytes, files.clock.now())?;
        Ok(written as u64)
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        self.folder(&fd)?;
        let listing = Listing { held: self.open(&fd)?.held.again()?, after: 0 };
        Ok(Resource::new_own(self.table.push(listing)?.rep()))
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let (files, node) = self.folder(&fd)?;
        Ok(lock(&files.tree).make_folder(node, &path, files.clock.now())?)
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorStat> {
        let Held { files, node } = &self.open(&fd)?.held;
        Ok(descriptor_stat(lock(&files.tree).stat(*node)?))
    }

    async fn stat_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<types::DescriptorStat> {
        let (files, node) = self.folder(&fd)?;
        Ok(descriptor_stat(lock(&files.tree).stat_at(node, &path, follows(flags))?))
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let (files, folder) = self.folder(&fd)?;
        let now = files.clock.now();
        let mut tree = lock(&files.tree);
        let node = tree.existing(folder, &path, follows(flags))?;
        Ok(tree.set_times(node, time(accessed, now)?, time(modified, now)?, now)?)
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let (files, from) = self.folder(&fd)?;
        let (_, to) = self.folder(&new_fd)?;
        if follows(flags) {
            return Err(ErrorCode::Invalid.into());
        }
        Ok(lock(&files.tree).link(from, &path, to, &new_path, files.clock.now())?)
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let (files, folder) = self.folder(&fd)?;
        let synchronous =
            DescriptorFlags::FILE_INTEGRITY_SYNC | DescriptorFlags::DATA_INTEGRITY_SYNC | DescriptorFlags::REQUESTED_WRITE_SYNC;
        if flags.intersects(synchronous) {
            return Err(ErrorCode::Unsupported.into());
        }
        let write = flags.contains(DescriptorFlags::WRITE);
        let how = Opening {
            follow: follows(path_flags),
            create: open_flags.contains(OpenFlags::CREATE),
            exclusive: open_flags.contains(OpenFlags::EXCLUSIVE),
            truncate: open_flags.contains(OpenFlags::TRUNCATE),
            folder: open_flags.contains(OpenFlags::DIRECTORY),
            write,
        };
        let (node, sort) = lock(&files.tree).open(folder, &path, how, files.clock.now())?;
        let held = Held::opened(files, node);
        let flags = match sort {
            Sort::Folder => DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
            Sort::File | Sort::Link if write => flags & (DescriptorFlags::READ | DescriptorFlags::WRITE),
            Sort::File | Sort::Link => DescriptorFlags::READ,
        };
        self.push(Open { held, sort, flags })
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        let (files, folder) = self.folder(&fd)?;
        Ok(lock(&files.tree).read_link(folder, &path)?.to_owned())
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let (files, folder) = self.folder(&fd)?;
        Ok(lock(&files.tree).remove_folder(folder, &path, files.clock.now())?)
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let (files, from) = self.folder(&fd)?;
        let (_, to) = self.folder(&new_fd)?;
        Ok(lock(&files.tree).rename(from, &path, to, &new_path, files.clock.now())?)
    }

    async fn symlink_at(&mut self, fd: Resource<Descriptor>, target: String, path: String) -> FsResult<()> {
        let (files, folder) = self.folder(&fd)?;
        Ok(lock(&files.tree).make_link(&target, folder, &path, files.clock.now())?)
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let (files, folder) = self.folder(&fd)?;
        Ok(lock(&files.tree).unlink(folder, &path, files.clock.now())?)
    }

    async fn is_same_object(&mut self, one: Resource<Descriptor>, other: Resource<Descriptor>) -> wasmtime::Result<bool> {
        let node = |fd: &Resource<Descriptor>| self.table.get(&Resource::<Open>::new_borrow(fd.rep())).map(|open| open.held.node);
        Ok(node(&one)? == node(&other)?)
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<types::MetadataHashValue> {
        Ok(hash(self.open(&fd)?.held.node))
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        let (files, folder) = self.folder(&fd)?;
        let node = lock(&files.tree).existing(folder, &path, follows(flags))?;
        Ok(hash(node))
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Open>::new_own(fd.rep()))?;
        Ok(())
    }
}

impl HostDirectoryEntryStream for View<'_> {
    async fn read_directory_entry(&mut self, stream: Resource<DirectoryEntryStream>) -> FsResult<Option<types::DirectoryEntry>> {
        let listing = self.table.get_mut(&Resource::<Listing>::new_borrow(stream.rep()))?;
        let entry = lock(&listing.held.files.tree).next_entry(listing.held.node, listing.after)?;
        Ok(entry.map(|entry| {
            listing.after = entry.place;
            types::DirectoryEntry { type_: descriptor_type(entry.sort), name: entry.name.to_string() }
        }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Listing>::new_own(stream.rep()))?;
        Ok(())
    }
}

/// A file that is read as a stream.
struct Reading {
    held: Held,
    at: u64,
}

#[async_trait::async_trait]
impl Pollable for Reading {
    async fn ready(&mut self) {}
}

impl InputStream for Reading {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.held.read(self.at, size).map_err(failed)?;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        self.at += bytes.len() as u64;
        Ok(bytes)
    }
}

/// A file that is written as a stream, at its end if it has no place.
struct Writing {
    held: Held,
    at: Option<u64>,
}

#[async_trait::async_trait]
impl Pollable for Writing {
    async fn ready(&mut self) {}
}

impl OutputStream for Writing {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.at = self.held.write(self.at, &bytes).map_err(failed)?;
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PIECE_BYTES)
    }
}

fn failed(code: ErrorCode) -> StreamError {
    StreamError::LastOperationFailed(code.into())
}

fn follows(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

fn time(wanted: NewTimestamp, now: u64) -> Result<Option<u64>, ErrorCode> {
    match wanted {
        NewTimestamp::NoChange => Ok(None),
        NewTimestamp::Now => Ok(Some(now)),
        NewTimestamp::Timestamp(Datetime { seconds, nanoseconds }) => {
            let time = seconds.checked_mul(NANOSECONDS).and_then(|time| time.checked_add(nanoseconds.into()));
            time.map(Some).ok_or(ErrorCode::Overflow)
        }
    }
}

fn descriptor_type(sort: Sort) -> types::DescriptorType {
    match sort {
        Sort::File => types::DescriptorType::RegularFile,
        Sort::Folder => types::DescriptorType::Directory,
        Sort::Link => types::DescriptorType::SymbolicLink,
    }
}

fn descriptor_stat(stat: Stat) -> types::DescriptorStat {
    let datetime = |time: u64| {
        // A remainder fits.
        Some(Datetime { seconds: time / NANOSECONDS, nanoseconds: (time % NANOSECONDS) as u32 })
    };
    types::DescriptorStat {
        type_: descriptor_type(stat.sort),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: datetime(stat.times.accessed),
        data_modification_timestamp: datetime(stat.times.modified),
        status_change_timestamp: datetime(stat.times.changed),
    }
}

/// Numbers are never given out again, so a node's own tells it from every other.
fn hash(node: NodeId) -> types::MetadataHashValue {
    types::MetadataHashValue { lower: node.number(), upper: !node.number() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn files() -> Files {
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let tree = Tree::new(super::super::blocks::Blocks::new(file, 1 << 20));
        Files { tree: Arc::new(std::sync::Mutex::new(tree)), clock: Clock::Real }
    }

    #[tokio::test]
    async fn handles_that_are_dropped_let_go_of_what_they_held() {
        let (files, mut table) = (files(), ResourceTable::new());
        let mut view = View { table: &mut table, files: Some(files.clone()) };
        let (root, _) = preopens::Host::get_directories(&mut view).expect("it has one").swap_remove(0);
        let again = |fd: &Resource<Descriptor>| Resource::new_borrow(fd.rep());
        let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
        let file = view.open_at(again(&root), PathFlags::empty(), "f".into(), OpenFlags::CREATE, flags).await.expect("it opens");
        let out = view.append_via_stream(again(&file)).expect("it is writable");
        view.table.get_mut(&out).expect("it is there").write(Bytes::from_static(b"text")).expect("it fits");
        view.unlink_file_at(again(&root), "f".into()).await.expect("it is there");
        HostDescriptor::drop(&mut view, file).expect("it is there");
        assert_eq!(lock(&files.tree).stat_at(NodeId::ROOT, "f", true).err(), Some(ErrorCode::NoEntry));
        view.table.get_mut(&out).expect("it is there").write(Bytes::from(vec![0; 1 << 19])).expect("its stream still has it");
        view.table.delete(out).expect("it is there");
        let all = view.open_at(again(&root), PathFlags::empty(), "g".into(), OpenFlags::CREATE, flags).await.expect("it opens");
        let written = view.write(again(&all), vec![1; 1 << 20], 0).await.expect("all of it is free again");
        assert_eq!(written, 1 << 20);
    }
}
