//! The bytes of a scratch folder's files: blocks of one file, given out and taken back.

use std::{collections::BTreeMap, fs::File, io, sync::Arc};

use crate::executor::sys;

/// Blocks of a scratch folder at most, so that what is known of them is a few megabytes however large it is.
const BLOCKS_MAX: u64 = 1 << 18;
/// The smallest block, as file systems have them.
const BLOCK_BYTES_MIN: u64 = 4096;

/// Why bytes cannot be kept.
#[derive(Debug)]
pub(super) enum Lacking {
    /// All that there is to have is taken.
    Full,
    /// No file can be that long.
    TooLong,
    /// The machine fails.
    Disk(io::Error),
}

/// The blocks of all files.
pub(super) struct Blocks {
    file: Arc<File>,
    block_bytes: u64,
    total: u32,
    /// How many were ever given out; all behind them are zero.
    begun: u32,
    /// Those given out and taken back, which may hold anything.
    returned: Vec<u32>,
}

/// What one file holds: which of its blocks lie where. Where it has none it is zero.
///
/// Behind its end the last block is zero, so that a longer file needs no more than a larger number.
#[derive(Default)]
pub(super) struct Content {
    size: u64,
    blocks: BTreeMap<u32, u32>,
}

impl Content {
    /// Its length in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

impl Blocks {
    /// So many bytes of an empty file, in whole blocks.
    pub(super) fn new(file: Arc<File>, limit_bytes: u64) -> Self {
        let block_bytes = limit_bytes.div_ceil(BLOCKS_MAX).next_power_of_two().max(BLOCK_BYTES_MIN);
        let total = u32::try_from((limit_bytes / block_bytes).min(BLOCKS_MAX)).unwrap_or(0);
        Self { file, block_bytes, total, begun: 0, returned: Vec::new() }
    }

    /// The longest that one file can be.
    fn size_max(&self) -> u64 {
        u64::from(self.total) * self.block_bytes
    }

    /// Reads from a file; nothing at its end.
    pub(super) fn read(&self, content: &Content, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(content.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        let mut done = 0;
        while done < wanted {
            let (block, within, piece) = self.piece(content, at + done as u64, wanted - done);
            let out = &mut into[done..done + piece];
            match block {
                None => out.fill(0),
                Some(block) => self.read_block(block, within, out)?,
            }
            done += piece;
        }
        Ok(done)
    }

    /// Writes to a file: as much of it as fits, and at least a byte.
    pub(super) fn write(&mut self, content: &mut Content, at: u64, bytes: &[u8]) -> Result<usize, Lacking> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = self.size_max().checked_sub(at).filter(|room| *room > 0).ok_or(Lacking::TooLong)?;
        let bytes = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        let fits = self.prepare(content, at, bytes.len() as u64).map_err(Lacking::Disk)?;
        if fits == 0 {
            return Err(Lacking::Full);
        }
        let bytes = &bytes[..usize::try_from(fits).unwrap_or(bytes.len()).min(bytes.len())];
        let mut done = 0;
        while done < bytes.len() {
            let (block, within, piece) = self.piece(content, at + done as u64, bytes.len() - done);
            let block = block.expect("it was just prepared");
            let place = u64::from(block) * self.block_bytes + within;
            sys::write_at(&self.file, &bytes[done..done + piece], place).map_err(Lacking::Disk)?;
            done += piece;
        }
        content.size = content.size.max(at + done as u64);
        Ok(done)
    }

    /// Makes a file shorter or longer; what is new in it is zero.
    pub(super) fn resize(&mut self, content: &mut Content, size: u64) -> Result<(), Lacking> {
        if size > self.size_max() {
            return Err(Lacking::TooLong);
        }
        if size < content.size {
            let kept = self.index(size.div_ceil(self.block_bytes) * self.block_bytes);
            let gone = content.blocks.split_off(&kept);
            self.returned.extend(gone.into_values());
            let within = size % self.block_bytes;
            if let Some(block) = content.blocks.get(&self.index(size)).filter(|_| within > 0) {
                self.clear(*block, within).map_err(Lacking::Disk)?;
            }
        }
        content.size = size;
        Ok(())
    }

    /// Takes back all that a file had.
    pub(super) fn release(&mut self, content: Content) {
        self.returned.extend(content.blocks.into_values());
    }

    /// Gives a range of a file the blocks that it lacks; how many of its bytes have one then.
    fn prepare(&mut self, content: &mut Content, at: u64, length: u64) -> io::Result<u64> {
        let end = at + length;
        for index in self.index(at)..=self.index(end - 1) {
            if content.blocks.contains_key(&index) {
                continue;
            }
            let start = u64::from(index) * self.block_bytes;
            let block = match self.returned.pop() {
                Some(block) => {
                    if start < at || start + self.block_bytes > end {
                        self.clear(block, 0)?;
                    }
                    block
                }
                None if self.begun < self.total => {
                    self.begun += 1;
                    self.begun - 1
                }
                None => return Ok(start.saturating_sub(at)),
            };
            content.blocks.insert(index, block);
        }
        Ok(length)
    }

    /// The block at a place of a file, where in it that place is, and how many bytes from there on lie together.
    fn piece(&self, content: &Content, at: u64, wanted: usize) -> (Option<u32>, u64, usize) {
        let (mut index, within) = (self.index(at), at % self.block_bytes);
        let first = content.blocks.get(&index).copied();
        let mut together = self.block_bytes - within;
        let mut last = first;
        while together < wanted as u64 {
            index += 1;
            let next = content.blocks.get(&index).copied();
            if next != last.map(|last| last + 1) {
                break;
            }
            (last, together) = (next, together + self.block_bytes);
        }
        (first, within, usize::try_from(together).map_or(wanted, |together| together.min(wanted)))
    }

    fn index(&self, at: u64) -> u32 {
        // No file is longer than all blocks.
        u32::try_from(at / self.block_bytes).unwrap_or(u32::MAX)
    }

    fn read_block(&self, block: u32, within: u64, mut out: &mut [u8]) -> io::Result<()> {
        let mut place = u64::from(block) * self.block_bytes + within;
        while !out.is_empty() {
            let read = sys::read_at(&self.file, out, place)?;
            if read == 0 {
                // Given out and not written yet: the file does not reach there.
                out.fill(0);
                break;
            }
            place += read as u64;
            out = &mut out[read..];
        }
        Ok(())
    }

    fn clear(&self, block: u32, from: u64) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let start = u64::from(block) * self.block_bytes;
        let (mut at, end) = (start + from, start + self.block_bytes);
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
            sys::write_at(&self.file, &ZEROS[..piece], at)?;
            at += piece as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn blocks(limit_bytes: u64) -> Blocks {
        Blocks::new(Arc::new(tempfile::tempfile().expect("a file")), limit_bytes)
    }

    #[test]
    fn all_files_together_hold_no_more_than_the_limit() {
        let mut blocks = blocks(10 * 4096);
        let mut files: Vec<Content> = (0..4).map(|_| Content::default()).collect();
        let mut kept = 0;
        for file in &mut files {
            loop {
                match blocks.write(file, file.size(), &[7; 3000]) {
                    Ok(written) => kept += written,
                    Err(Lacking::Full | Lacking::TooLong) => break,
                    Err(Lacking::Disk(error)) => panic!("{error}"),
                }
            }
        }
        assert_eq!(kept, 10 * 4096);
        assert_eq!(blocks.file.metadata().expect("a file").len(), 10 * 4096);
        blocks.release(files.swap_remove(0));
        let mut next = Content::default();
        assert_eq!(blocks.write(&mut next, 0, &[1; 5000]).expect("there is room again"), 5000);
    }

    #[test]
    fn a_block_that_was_anothers_shows_nothing_of_it() {
        let mut blocks = blocks(2 * 4096);
        let mut first = Content::default();
        blocks.write(&mut first, 0, &[9; 8192]).expect("it fits");
        blocks.release(first);
        let mut next = Content::default();
        blocks.write(&mut next, 100, b"x").expect("it fits");
        blocks.resize(&mut next, 8192).expect("it fits");
        let mut read = vec![1; 8192];
        assert_eq!(blocks.read(&next, 0, &mut read).expect("it reads"), 8192);
        assert_eq!(read.iter().map(|byte| usize::from(*byte)).sum::<usize>(), usize::from(b'x'));
    }

    #[test]
    fn the_largest_folder_is_known_in_as_many_blocks_as_a_small_one() {
        let blocks = blocks(lull_shared::limits::SCRATCH_BYTES_MAX);
        assert!(u64::from(blocks.total) <= BLOCKS_MAX);
        assert_eq!(blocks.size_max(), lull_shared::limits::SCRATCH_BYTES_MAX);
        assert_eq!(Blocks::new(Arc::clone(&blocks.file), 100).size_max(), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write { file: usize, at: u64, length: usize },
        Resize { file: usize, size: u64 },
        Remove { file: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        let file = 0..3_usize;
        prop_oneof![
            (file.clone(), 0..40_000_u64, 1..9000_usize).prop_map(|(file, at, length)| Step::Write { file, at, length }),
            (file.clone(), 0..40_000_u64).prop_map(|(file, size)| Step::Resize { file, size }),
            file.prop_map(|file| Step::Remove { file }),
        ]
    }

    proptest! {
        #[test]
        fn files_hold_what_was_written_to_them(steps in vec(step(), 1..60)) {
            let mut blocks = blocks(12 * 4096);
            let mut files: [(Content, Vec<u8>); 3] = Default::default();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Write { file, at, length } => {
                        let (content, model) = &mut files[file];
                        let bytes = vec![number as u8 + 1; length];
                        if let Ok(written) = blocks.write(content, at, &bytes) {
                            let end = at as usize + written;
                            model.resize(model.len().max(end), 0);
                            model[at as usize..end].copy_from_slice(&bytes[..written]);
                        }
                    }
                    Step::Resize { file, size } => {
                        let (content, model) = &mut files[file];
                        blocks.resize(content, size).expect("below the limit");
                        model.resize(size as usize, 0);
                    }
                    Step::Remove { file } => {
                        blocks.release(std::mem::take(&mut files[file].0));
                        files[file].1.clear();
                    }
                }
                for (content, model) in &files {
                    let mut read = vec![0xee; model.len() + 10];
                    let length = blocks.read(content, 0, &mut read).expect("it reads");
                    prop_assert_eq!(&read[..length], &model[..]);
                }
                let used: usize = files.iter().map(|(content, _)| content.blocks.len()).sum();
                prop_assert_eq!(used + blocks.returned.len(), blocks.begun as usize);
            }
        }
    }
}
