//! Preview 1 with a scratch folder: the engine's own world, and descriptors of the tree beside its standard ones.
//!
//! Without a scratch folder every call is the engine's. With one, all numbers of descriptors are kept here; those of the
//! standard streams lead on to the engine's.

use std::{collections::BTreeMap, sync::Arc};

use wasmtime_wasi::p1::{WasiP1Ctx, types, wasi_snapshot_preview1::WasiSnapshotPreview1};
use wiggle::{GuestMemory, GuestPtr, GuestType as _};

use super::{
    OPEN_MAX, PATH,
    tree::{FIRST_PLACE, NodeId, Opening, PATH_BYTES_MAX, Sort, Stat, Tree},
};
use crate::executor::inside::{
    stream::{Shared, lock},
    time::Clock,
};

/// Buffers of one call, as on Linux.
const BUFFERS_MAX: u32 = 1024;
/// What one call may wait for: each takes memory of the host's.
const SUBSCRIPTIONS_MAX: u32 = 4096;

type Result<T> = std::result::Result<T, types::Error>;
type Memory<'a> = GuestMemory<'a>;

/// All that a module finds of preview 1.
pub(in crate::executor) struct World {
    pub(in crate::executor) wasi: WasiP1Ctx,
    files: Option<Files>,
}

struct Files {
    tree: Shared<Tree>,
    clock: Clock,
    open: BTreeMap<u32, Open>,
}

#[derive(Debug, Clone, Copy)]
enum Open {
    /// One of the engine's, by its number there.
    Standard(u32),
    Folder {
        node: NodeId,
        preopened: bool,
    },
    File(OpenFile),
}

#[derive(Debug, Clone, Copy)]
struct OpenFile {
    node: NodeId,
    position: u64,
    read: bool,
    write: bool,
    append: bool,
    nonblocking: bool,
}

/// Whose a descriptor is.
enum Whose<'a> {
    Engine(types::Fd),
    Folder(&'a Files, NodeId, bool),
    File(&'a mut OpenFile, &'a Shared<Tree>, u64),
}

impl World {
    /// The engine's world alone.
    pub(in crate::executor) fn without_files(wasi: WasiP1Ctx) -> Self {
        Self { wasi, files: None }
    }

    /// The same, with the tree as its fourth descriptor.
    pub(in crate::executor) fn with_files(wasi: WasiP1Ctx, tree: Shared<Tree>, clock: Clock) -> Self {
        let standard = (0..3).map(|number| (number, Open::Standard(number)));
        let root = Open::Folder { node: NodeId::ROOT, preopened: true };
        let open = standard.chain([(3, root)]).collect();
        Self { wasi, files: Some(Files { tree, clock, open }) }
    }

    fn whose(&mut self, fd: types::Fd) -> Result<Whose<'_>> {
        let Some(files) = &mut self.files else { return Ok(Whose::Engine(fd)) };
        let now = files.clock.now();
        let number = u32::from(fd);
        match files.open.get(&number) {
            None => Err(types::Errno::Badf.into()),
            Some(Open::Standard(number)) => Ok(Whose::Engine((*number).into())),
            Some(Open::Folder { node, preopened }) => {
                let (node, preopened) = (*node, *preopened);
                Ok(Whose::Folder(files, node, preopened))
            }
            Some(Open::File(_)) => match files.open.get_mut(&number) {
                Some(Open::File(file)) => Ok(Whose::File(file, &files.tree, now)),
                _ => Err(types::Errno::Badf.into()),
            },
        }
    }

    /// A file; the engine's have none.
    fn file(&mut self, fd: types::Fd) -> Result<(&mut OpenFile, &Shared<Tree>, u64)> {
        match self.whose(fd)? {
            Whose::File(file, tree, now) => Ok((file, tree, now)),
            Whose::Engine(_) | Whose::Folder(..) => Err(types::Errno::Badf.into()),
        }
    }

    /// A folder that paths start from.
    fn folder(&mut self, fd: types::Fd) -> Result<(NodeId, Shared<Tree>, u64)> {
        match self.whose(fd)? {
            Whose::Folder(files, node, _) => Ok((node, Arc::clone(&files.tree), files.clock.now())),
            Whose::File(..) => Err(types::Errno::Notdir.into()),
            Whose::Engine(_) => Err(types::Errno::Badf.into()),
        }
    }

    fn stat(&mut self, fd: types::Fd) -> Result<Option<types::Filestat>> {
        let (node, tree) = match self.whose(fd)? {
            Whose::Engine(_) => return Ok(None),
            Whose::Folder(files, node, _) => (node, &files.tree),
            Whose::File(file, tree, _) => (file.node, tree),
        };
        Ok(Some(filestat(lock(tree).stat(node)?)))
    }

    fn read_at(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        iovs: types::IovecArray,
        at: Option<u64>,
    ) -> Result<types::Size> {
        let into = first_buffer(memory, iovs)?;
        let (file, tree, now) = self.file(fd)?;
        if !file.read {
            return Err(types::Errno::Badf.into());
        }
        let Some(into) = memory.as_slice_mut(into)? else { return Err(types::Errno::Inval.into()) };
        let read = lock(tree).read(file.node, at.unwrap_or(file.position), into, now)?;
        if at.is_none() {
            file.position += read as u64;
        }
        Ok(read.try_into()?)
    }

    fn write_at(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        ciovs: types::CiovecArray,
        at: Option<u64>,
    ) -> Result<types::Size> {
        let from = first_const_buffer(memory, ciovs)?;
        let (file, tree, now) = self.file(fd)?;
        if !file.write {
            return Err(types::Errno::Badf.into());
        }
        // As on Linux, where what is appended goes to the end whatever place is given.
        let place = if file.append { None } else { Some(at.unwrap_or(file.position)) };
        let (written, next) = lock(tree).write(file.node, place, &memory.as_cow(from)?, now)?;
        if at.is_none() {
            file.position = next;
        }
        Ok(written.try_into()?)
    }

    async fn close(&mut self, memory: &mut Memory<'_>, fd: types::Fd) -> Result<()> {
        let Some(files) = &mut self.files else { return self.wasi.fd_close(memory, fd).await };
        match files.open.remove(&u32::from(fd)).ok_or(types::Errno::Badf)? {
            Open::Standard(number) => self.wasi.fd_close(memory, number.into()).await,
            Open::Folder { preopened: true, .. } => Ok(()),
            Open::Folder { node, preopened: false } | Open::File(OpenFile { node, .. }) => {
                lock(&files.tree).release(node);
                Ok(())
            }
        }
    }

    /// Input is always there and output always taken, so whoever waits for a stream waits for nothing.
    fn ready_streams(&mut self, memory: &mut Memory<'_>, subs: GuestPtr<[types::Subscription]>) -> Result<Vec<types::Event>> {
        let mut ready = Vec::new();
        for sub in subs.iter() {
            let sub = memory.read(sub?)?;
            let (fd, type_) = match sub.u {
                types::SubscriptionU::Clock(_) => continue,
                types::SubscriptionU::FdRead(stream) => (stream.file_descriptor, types::Eventtype::FdRead),
                types::SubscriptionU::FdWrite(stream) => (stream.file_descriptor, types::Eventtype::FdWrite),
            };
            let error = match self.whose(fd) {
                Ok(_) => types::Errno::Success,
                Err(_) => types::Errno::Badf,
            };
            let fd_readwrite = types::EventFdReadwrite { flags: types::Eventrwflags::empty(), nbytes: 1 };
            ready.push(types::Event { userdata: sub.userdata, error, type_, fd_readwrite });
        }
        Ok(ready)
    }
}

impl WasiSnapshotPreview1 for World {
    fn set_hostcall_fuel(&mut self, fuel: usize) {
        self.wasi.set_hostcall_fuel(fuel);
    }

    fn args_get(&mut self, memory: &mut Memory<'_>, argv: GuestPtr<GuestPtr<u8>>, argv_buf: GuestPtr<u8>) -> Result<()> {
        self.wasi.args_get(memory, argv, argv_buf)
    }

    fn args_sizes_get(&mut self, memory: &mut Memory<'_>) -> Result<(types::Size, types::Size)> {
        self.wasi.args_sizes_get(memory)
    }

    fn environ_get(&mut self, memory: &mut Memory<'_>, environ: GuestPtr<GuestPtr<u8>>, buf: GuestPtr<u8>) -> Result<()> {
        self.wasi.environ_get(memory, environ, buf)
    }

    fn environ_sizes_get(&mut self, memory: &mut Memory<'_>) -> Result<(types::Size, types::Size)> {
        self.wasi.environ_sizes_get(memory)
    }

    fn clock_res_get(&mut self, memory: &mut Memory<'_>, id: types::Clockid) -> Result<types::Timestamp> {
        self.wasi.clock_res_get(memory, id)
    }

    fn clock_time_get(
        &mut self,
        memory: &mut Memory<'_>,
        id: types::Clockid,
        precision: types::Timestamp,
    ) -> Result<types::Timestamp> {
        self.wasi.clock_time_get(memory, id, precision)
    }

    async fn fd_advise(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        offset: types::Filesize,
        len: types::Filesize,
        advice: types::Advice,
    ) -> Result<()> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_advise(memory, fd, offset, len, advice).await,
            Whose::File(..) => Ok(()),
            Whose::Folder(..) => Err(types::Errno::Badf.into()),
        }
    }

    fn fd_allocate(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        offset: types::Filesize,
        len: types::Filesize,
    ) -> Result<()> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_allocate(memory, fd, offset, len),
            Whose::File(..) => Err(types::Errno::Notsup.into()),
            Whose::Folder(..) => Err(types::Errno::Badf.into()),
        }
    }

    async fn fd_close(&mut self, memory: &mut Memory<'_>, fd: types::Fd) -> Result<()> {
        self.close(memory, fd).await
    }

    async fn fd_datasync(&mut self, memory: &mut Memory<'_>, fd: types::Fd) -> Result<()> {
        self.fd_sync(memory, fd).await
    }

    async fn fd_fdstat_get(&mut self, memory: &mut Memory<'_>, fd: types::Fd) -> Result<types::Fdstat> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_fdstat_get(memory, fd).await,
            Whose::Folder(_, _, preopened) => Ok(folder_rights(preopened)),
            Whose::File(file, ..) => Ok(file_rights(file)),
        }
    }

    fn fd_fdstat_set_flags(&mut self, memory: &mut Memory<'_>, fd: types::Fd, flags: types::Fdflags) -> Result<()> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_fdstat_set_flags(memory, fd, flags),
            Whose::File(..) if flags.intersects(types::Fdflags::DSYNC | types::Fdflags::SYNC | types::Fdflags::RSYNC) => {
                Err(types::Errno::Inval.into())
            }
            Whose::File(file, ..) => {
                file.append = flags.contains(types::Fdflags::APPEND);
                file.nonblocking = flags.contains(types::Fdflags::NONBLOCK);
                Ok(())
            }
            Whose::Folder(..) => Err(types::Errno::Badf.into()),
        }
    }

    fn fd_fdstat_set_rights(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        base: types::Rights,
        inheriting: types::Rights,
    ) -> Result<()> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_fdstat_set_rights(memory, fd, base, inheriting),
            Whose::File(..) | Whose::Folder(..) => Err(types::Errno::Notsup.into()),
        }
    }

    async fn fd_filestat_get(&mut self, memory: &mut Memory<'_>, fd: types::Fd) -> Result<types::Filestat> {
        match self.stat(fd)? {
            Some(stat) => Ok(stat),
            None => match self.whose(fd)? {
                Whose::Engine(fd) => self.wasi.fd_filestat_get(memory, fd).await,
                Whose::Folder(..) | Whose::File(..) => Err(types::Errno::Badf.into()),
            },
        }
    }

    async fn fd_filestat_set_size(&mut self, _: &mut Memory<'_>, fd: types::Fd, size: types::Filesize) -> Result<()> {
        let (file, tree, now) = self.file(fd)?;
        if !file.write {
            return Err(types::Errno::Inval.into());
        }
        Ok(lock(tree).resize(file.node, size, now)?)
    }

    async fn fd_filestat_set_times(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        atim: types::Timestamp,
        mtim: types::Timestamp,
        flags: types::Fstflags,
    ) -> Result<()> {
        let (node, tree, now) = match self.whose(fd)? {
            Whose::Engine(_) => return Err(types::Errno::Badf.into()),
            Whose::Folder(files, node, _) => (node, &files.tree, files.clock.now()),
            Whose::File(file, tree, now) => (file.node, tree, now),
        };
        let (accessed, modified) = times(flags, atim, mtim, now)?;
        Ok(lock(tree).set_times(node, accessed, modified, now)?)
    }

    async fn fd_pread(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        iovs: types::IovecArray,
        offset: types::Filesize,
    ) -> Result<types::Size> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_pread(memory, fd, iovs, offset).await,
            Whose::Folder(..) => Err(types::Errno::Isdir.into()),
            Whose::File(..) => self.read_at(memory, fd, iovs, Some(offset)),
        }
    }

    fn fd_prestat_get(&mut self, memory: &mut Memory<'_>, fd: types::Fd) -> Result<types::Prestat> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_prestat_get(memory, fd),
            Whose::Folder(_, _, true) => Ok(types::Prestat::Dir(types::PrestatDir { pr_name_len: PATH.len().try_into()? })),
            Whose::Folder(_, _, false) | Whose::File(..) => Err(types::Errno::Badf.into()),
        }
    }

    fn fd_prestat_dir_name(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<u8>,
        path_max_len: types::Size,
    ) -> Result<()> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_prestat_dir_name(memory, fd, path, path_max_len),
            Whose::Folder(_, _, true) if (path_max_len as usize) < PATH.len() => Err(types::Errno::Nametoolong.into()),
            Whose::Folder(_, _, true) => Ok(memory.copy_from_slice(PATH.as_bytes(), path.as_array(PATH.len().try_into()?))?),
            Whose::Folder(_, _, false) | Whose::File(..) => Err(types::Errno::Notdir.into()),
        }
    }

    async fn fd_pwrite(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        ciovs: types::CiovecArray,
        offset: types::Filesize,
    ) -> Result<types::Size> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_pwrite(memory, fd, ciovs, offset).await,
            Whose::Folder(..) => Err(types::Errno::Badf.into()),
            Whose::File(..) => self.write_at(memory, fd, ciovs, Some(offset)),
        }
    }

    async fn fd_read(&mut self, memory: &mut Memory<'_>, fd: types::Fd, iovs: types::IovecArray) -> Result<types::Size> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_read(memory, fd, iovs).await,
            Whose::Folder(..) => Err(types::Errno::Isdir.into()),
            Whose::File(..) => self.read_at(memory, fd, iovs, None),
        }
    }

    async fn fd_readdir(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        buf: GuestPtr<u8>,
        buf_len: types::Size,
        cookie: types::Dircookie,
    ) -> Result<types::Size> {
        let (folder, tree, _) = self.folder(fd)?;
        let tree = lock(&tree);
        let mut out = Page { memory, buf, left: buf_len };
        for (place, name) in [(1, "."), (2, "..")] {
            if cookie < place && !out.put(place, folder, Sort::Folder, name)? {
                return Ok(buf_len);
            }
        }
        let mut after = cookie.max(FIRST_PLACE - 1);
        while let Some(entry) = tree.next_entry(folder, after)? {
            if !out.put(entry.place, entry.node, entry.sort, &entry.name)? {
                return Ok(buf_len);
            }
            after = entry.place;
        }
        Ok(buf_len - out.left)
    }

    async fn fd_renumber(&mut self, memory: &mut Memory<'_>, from: types::Fd, to: types::Fd) -> Result<()> {
        let Some(files) = &mut self.files else { return self.wasi.fd_renumber(memory, from, to).await };
        let (old, new) = (u32::from(from), u32::from(to));
        if !files.open.contains_key(&old) || !files.open.contains_key(&new) {
            return Err(types::Errno::Badf.into());
        }
        if old == new {
            return Ok(());
        }
        self.close(memory, to).await?;
        if let Some(files) = &mut self.files
            && let Some(open) = files.open.remove(&old)
        {
            files.open.insert(new, open);
        }
        Ok(())
    }

    async fn fd_seek(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        offset: types::Filedelta,
        whence: types::Whence,
    ) -> Result<types::Filesize> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_seek(memory, fd, offset, whence).await,
            Whose::Folder(..) => Err(types::Errno::Badf.into()),
            Whose::File(file, tree, _) => {
                let from = match whence {
                    types::Whence::Set => 0,
                    types::Whence::Cur => file.position,
                    types::Whence::End => lock(tree).stat(file.node)?.size,
                };
                file.position = from.checked_add_signed(offset).ok_or(types::Errno::Inval)?;
                Ok(file.position)
            }
        }
    }

    async fn fd_sync(&mut self, memory: &mut Memory<'_>, fd: types::Fd) -> Result<()> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_sync(memory, fd).await,
            // Nothing of it outlives the attempt.
            Whose::Folder(..) | Whose::File(..) => Ok(()),
        }
    }

    fn fd_tell(&mut self, memory: &mut Memory<'_>, fd: types::Fd) -> Result<types::Filesize> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_tell(memory, fd),
            Whose::Folder(..) => Err(types::Errno::Badf.into()),
            Whose::File(file, ..) => Ok(file.position),
        }
    }

    async fn fd_write(&mut self, memory: &mut Memory<'_>, fd: types::Fd, ciovs: types::CiovecArray) -> Result<types::Size> {
        match self.whose(fd)? {
            Whose::Engine(fd) => self.wasi.fd_write(memory, fd, ciovs).await,
            Whose::Folder(..) => Err(types::Errno::Badf.into()),
            Whose::File(..) => self.write_at(memory, fd, ciovs, None),
        }
    }

    async fn path_create_directory(&mut self, memory: &mut Memory<'_>, fd: types::Fd, path: GuestPtr<str>) -> Result<()> {
        let (folder, tree, now) = self.folder(fd)?;
        Ok(lock(&tree).make_folder(folder, &text(memory, path)?, now)?)
    }

    async fn path_filestat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        flags: types::Lookupflags,
        path: GuestPtr<str>,
    ) -> Result<types::Filestat> {
        let (folder, tree, _) = self.folder(fd)?;
        Ok(filestat(lock(&tree).stat_at(folder, &text(memory, path)?, follows(flags))?))
    }

    async fn path_filestat_set_times(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        flags: types::Lookupflags,
        path: GuestPtr<str>,
        atim: types::Timestamp,
        mtim: types::Timestamp,
        fst_flags: types::Fstflags,
    ) -> Result<()> {
        let (folder, tree, now) = self.folder(fd)?;
        let (accessed, modified) = times(fst_flags, atim, mtim, now)?;
        let mut tree = lock(&tree);
        let node = tree.existing(folder, &text(memory, path)?, follows(flags))?;
        Ok(tree.set_times(node, accessed, modified, now)?)
    }

    async fn path_link(
        &mut self,
        memory: &mut Memory<'_>,
        src_fd: types::Fd,
        src_flags: types::Lookupflags,
        src_path: GuestPtr<str>,
        target_fd: types::Fd,
        target_path: GuestPtr<str>,
    ) -> Result<()> {
        let (from, tree, now) = self.folder(src_fd)?;
        let (to, ..) = self.folder(target_fd)?;
        if follows(src_flags) {
            return Err(types::Errno::Inval.into());
        }
        Ok(lock(&tree).link(from, &text(memory, src_path)?, to, &text(memory, target_path)?, now)?)
    }

    async fn path_open(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        dirflags: types::Lookupflags,
        path: GuestPtr<str>,
        oflags: types::Oflags,
        rights: types::Rights,
        _: types::Rights,
        fdflags: types::Fdflags,
    ) -> Result<types::Fd> {
        // As the engine does: a pointer that leads nowhere comes before a descriptor that is none.
        let path = text(memory, path)?;
        let (folder, tree, now) = self.folder(fd)?;
        let Some(files) = &mut self.files else { return Err(types::Errno::Badf.into()) };
        if fdflags.intersects(types::Fdflags::DSYNC | types::Fdflags::SYNC | types::Fdflags::RSYNC) {
            return Err(types::Errno::Notsup.into());
        }
        if files.open.len() >= OPEN_MAX {
            return Err(types::Errno::Mfile.into());
        }
        let write = rights.contains(types::Rights::FD_WRITE);
        let how = Opening {
            follow: follows(dirflags),
            create: oflags.contains(types::Oflags::CREAT),
            exclusive: oflags.contains(types::Oflags::EXCL),
            truncate: oflags.contains(types::Oflags::TRUNC),
            folder: oflags.contains(types::Oflags::DIRECTORY),
            write,
        };
        let (node, sort) = lock(&tree).open(folder, &path, how, now)?;
        let open = match sort {
            Sort::Folder => Open::Folder { node, preopened: false },
            Sort::File | Sort::Link => Open::File(OpenFile {
                node,
                position: 0,
                read: rights.contains(types::Rights::FD_READ) || !write,
                write,
                append: fdflags.contains(types::Fdflags::APPEND),
                nonblocking: fdflags.contains(types::Fdflags::NONBLOCK),
            }),
        };
        // The lowest free one, as everywhere. There are few.
        let number = (0..).find(|number| !files.open.contains_key(number)).ok_or(types::Errno::Mfile)?;
        files.open.insert(number, open);
        Ok(number.into())
    }

    async fn path_readlink(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
        buf: GuestPtr<u8>,
        buf_len: types::Size,
    ) -> Result<types::Size> {
        let (folder, tree, _) = self.folder(fd)?;
        let tree = lock(&tree);
        let target = tree.read_link(folder, &text(memory, path)?)?.as_bytes();
        let target = &target[..target.len().min(buf_len as usize)];
        let length = target.len().try_into()?;
        memory.copy_from_slice(target, buf.as_array(length))?;
        Ok(length)
    }

    async fn path_remove_directory(&mut self, memory: &mut Memory<'_>, fd: types::Fd, path: GuestPtr<str>) -> Result<()> {
        let (folder, tree, now) = self.folder(fd)?;
        Ok(lock(&tree).remove_folder(folder, &text(memory, path)?, now)?)
    }

    async fn path_rename(
        &mut self,
        memory: &mut Memory<'_>,
        src_fd: types::Fd,
        src_path: GuestPtr<str>,
        dest_fd: types::Fd,
        dest_path: GuestPtr<str>,
    ) -> Result<()> {
        let (from, tree, now) = self.folder(src_fd)?;
        let (to, ..) = self.folder(dest_fd)?;
        Ok(lock(&tree).rename(from, &text(memory, src_path)?, to, &text(memory, dest_path)?, now)?)
    }

    async fn path_symlink(
        &mut self,
        memory: &mut Memory<'_>,
        src_path: GuestPtr<str>,
        fd: types::Fd,
        dest_path: GuestPtr<str>,
    ) -> Result<()> {
        let (folder, tree, now) = self.folder(fd)?;
        Ok(lock(&tree).make_link(&text(memory, src_path)?, folder, &text(memory, dest_path)?, now)?)
    }

    async fn path_unlink_file(&mut self, memory: &mut Memory<'_>, fd: types::Fd, path: GuestPtr<str>) -> Result<()> {
        let (folder, tree, now) = self.folder(fd)?;
        Ok(lock(&tree).unlink(folder, &text(memory, path)?, now)?)
    }

    async fn poll_oneoff(
        &mut self,
        memory: &mut Memory<'_>,
        subs: GuestPtr<types::Subscription>,
        events: GuestPtr<types::Event>,
        count: types::Size,
    ) -> Result<types::Size> {
        if count > SUBSCRIPTIONS_MAX {
            return Err(types::Errno::Inval.into());
        }
        if self.files.is_some() {
            let ready = self.ready_streams(memory, subs.as_array(count))?;
            if !ready.is_empty() {
                let length = ready.len().try_into()?;
                for (place, event) in events.as_array(length).iter().zip(ready) {
                    memory.write(place?, event)?;
                }
                return Ok(length);
            }
        }
        self.wasi.poll_oneoff(memory, subs, events, count).await
    }

    fn proc_exit(&mut self, memory: &mut Memory<'_>, status: types::Exitcode) -> wasmtime::Error {
        self.wasi.proc_exit(memory, status)
    }

    fn proc_raise(&mut self, memory: &mut Memory<'_>, signal: types::Signal) -> Result<()> {
        self.wasi.proc_raise(memory, signal)
    }

    fn sched_yield(&mut self, memory: &mut Memory<'_>) -> Result<()> {
        self.wasi.sched_yield(memory)
    }

    fn random_get(&mut self, memory: &mut Memory<'_>, buf: GuestPtr<u8>, len: types::Size) -> Result<()> {
        self.wasi.random_get(memory, buf, len)
    }

    fn sock_accept(&mut self, _: &mut Memory<'_>, fd: types::Fd, _: types::Fdflags) -> Result<types::Fd> {
        self.whose(fd)?;
        Err(types::Errno::Notsock.into())
    }

    fn sock_recv(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        _: types::IovecArray,
        _: types::Riflags,
    ) -> Result<(types::Size, types::Roflags)> {
        self.whose(fd)?;
        Err(types::Errno::Notsock.into())
    }

    fn sock_send(&mut self, _: &mut Memory<'_>, fd: types::Fd, _: types::CiovecArray, _: types::Siflags) -> Result<types::Size> {
        self.whose(fd)?;
        Err(types::Errno::Notsock.into())
    }

    fn sock_shutdown(&mut self, _: &mut Memory<'_>, fd: types::Fd, _: types::Sdflags) -> Result<()> {
        self.whose(fd)?;
        Err(types::Errno::Notsock.into())
    }
}

/// Where a listing goes.
struct Page<'a, 'b> {
    memory: &'a mut Memory<'b>,
    buf: GuestPtr<u8>,
    left: u32,
}

impl Page<'_, '_> {
    /// Adds an entry; false if it was cut off, which says that there are more.
    fn put(&mut self, place: u64, node: NodeId, sort: Sort, name: &str) -> Result<bool> {
        let mut entry = vec![0; types::Dirent::guest_size() as usize];
        entry[0..8].copy_from_slice(&place.to_le_bytes());
        entry[8..16].copy_from_slice(&node.number().to_le_bytes());
        entry[16..20].copy_from_slice(&u32::try_from(name.len())?.to_le_bytes());
        entry[20] = filetype(sort) as u8;
        entry.extend_from_slice(name.as_bytes());
        entry.truncate(self.left as usize);
        let length = entry.len().try_into()?;
        self.memory.copy_from_slice(&entry, self.buf.as_array(length))?;
        self.buf = self.buf.add(length)?;
        self.left -= length;
        Ok(self.left > 0)
    }
}

/// A path, without more of it than a path can have.
fn text(memory: &Memory<'_>, path: GuestPtr<str>) -> Result<String> {
    if path.len() as usize > PATH_BYTES_MAX {
        return Err(types::Errno::Nametoolong.into());
    }
    Ok(memory.as_cow_str(path)?.into_owned())
}

/// The first buffer that takes anything: whoever wants more calls again.
fn first_buffer(memory: &Memory<'_>, iovs: types::IovecArray) -> Result<GuestPtr<[u8]>> {
    if iovs.len() > BUFFERS_MAX {
        return Err(types::Errno::Inval.into());
    }
    for iov in iovs.iter() {
        let iov = memory.read(iov?)?;
        if iov.buf_len > 0 {
            return Ok(iov.buf.as_array(iov.buf_len));
        }
    }
    Ok(GuestPtr::new((0, 0)))
}

fn first_const_buffer(memory: &Memory<'_>, ciovs: types::CiovecArray) -> Result<GuestPtr<[u8]>> {
    if ciovs.len() > BUFFERS_MAX {
        return Err(types::Errno::Inval.into());
    }
    for iov in ciovs.iter() {
        let iov = memory.read(iov?)?;
        if iov.buf_len > 0 {
            return Ok(iov.buf.as_array(iov.buf_len));
        }
    }
    Ok(GuestPtr::new((0, 0)))
}

fn follows(flags: types::Lookupflags) -> bool {
    flags.contains(types::Lookupflags::SYMLINK_FOLLOW)
}

fn times(flags: types::Fstflags, atim: u64, mtim: u64, now: u64) -> Result<(Option<u64>, Option<u64>)> {
    let time =
        |given: types::Fstflags, now_given: types::Fstflags, at: u64| match (flags.contains(given), flags.contains(now_given)) {
            (true, true) => Err(types::Errno::Inval),
            (true, false) => Ok(Some(at)),
            (false, true) => Ok(Some(now)),
            (false, false) => Ok(None),
        };
    let accessed = time(types::Fstflags::ATIM, types::Fstflags::ATIM_NOW, atim)?;
    let modified = time(types::Fstflags::MTIM, types::Fstflags::MTIM_NOW, mtim)?;
    Ok((accessed, modified))
}

fn filetype(sort: Sort) -> types::Filetype {
    match sort {
        Sort::File => types::Filetype::RegularFile,
        Sort::Folder => types::Filetype::Directory,
        Sort::Link => types::Filetype::SymbolicLink,
    }
}

fn filestat(stat: Stat) -> types::Filestat {
    types::Filestat {
        dev: 1,
        ino: stat.node.number(),
        filetype: filetype(stat.sort),
        nlink: stat.links,
        size: stat.size,
        atim: stat.times.accessed,
        mtim: stat.times.modified,
        ctim: stat.times.changed,
    }
}

fn folder_rights(preopened: bool) -> types::Fdstat {
    use types::Rights;
    // What C libraries look for before they open anything.
    let base = Rights::PATH_CREATE_DIRECTORY
        | Rights::PATH_CREATE_FILE
        | Rights::PATH_LINK_SOURCE
        | Rights::PATH_LINK_TARGET
        | Rights::PATH_OPEN
        | Rights::FD_READDIR
        | Rights::PATH_READLINK
        | Rights::PATH_RENAME_SOURCE
        | Rights::PATH_RENAME_TARGET
        | Rights::PATH_SYMLINK
        | Rights::PATH_REMOVE_DIRECTORY
        | Rights::PATH_UNLINK_FILE
        | Rights::PATH_FILESTAT_GET
        | Rights::PATH_FILESTAT_SET_TIMES
        | Rights::FD_FILESTAT_GET
        | Rights::FD_FILESTAT_SET_TIMES;
    let inherited = base
        | Rights::FD_DATASYNC
        | Rights::FD_READ
        | Rights::FD_SEEK
        | Rights::FD_FDSTAT_SET_FLAGS
        | Rights::FD_SYNC
        | Rights::FD_TELL
        | Rights::FD_WRITE
        | Rights::FD_ADVISE
        | Rights::FD_ALLOCATE
        | Rights::FD_FILESTAT_SET_SIZE
        | Rights::POLL_FD_READWRITE;
    let without = !(Rights::FD_SEEK | Rights::FD_FILESTAT_SET_SIZE | Rights::PATH_FILESTAT_SET_SIZE | Rights::FD_WRITE);
    let (fs_rights_base, fs_rights_inheriting) = match preopened {
        true => (base, inherited),
        false => (Rights::all() & without, Rights::all()),
    };
    types::Fdstat {
        fs_filetype: types::Filetype::Directory,
        fs_flags: types::Fdflags::empty(),
        fs_rights_base,
        fs_rights_inheriting,
    }
}

fn file_rights(file: &OpenFile) -> types::Fdstat {
    let mut rights = types::Rights::all();
    if !file.read {
        rights &= !(types::Rights::FD_READ | types::Rights::FD_READDIR);
    }
    if !file.write {
        rights &= !types::Rights::FD_WRITE;
    }
    let mut flags = types::Fdflags::empty();
    if file.append {
        flags |= types::Fdflags::APPEND;
    }
    if file.nonblocking {
        flags |= types::Fdflags::NONBLOCK;
    }
    types::Fdstat {
        fs_filetype: types::Filetype::RegularFile,
        fs_flags: flags,
        fs_rights_base: rights,
        fs_rights_inheriting: rights,
    }
}
