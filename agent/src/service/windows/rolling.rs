//! A log in files that take turns: `NAME.log` is written, `NAME.1.log` was before it, and so on.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use lull_engine::files;

/// A file's length at which the next one begins: some days of an office machine at level `info`.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files that are kept beside the one that is written.
const KEPT: u32 = 4;

pub(super) struct Rolling {
    folder: PathBuf,
    name: &'static str,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl Rolling {
    pub(super) fn open(folder: &Path, name: &'static str) -> io::Result<Self> {
        Self::with(folder, name, FILE_BYTES_MAX)
    }

    fn with(folder: &Path, name: &'static str, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let file = files::append_to(&named(folder, name, 0))?;
        Ok(Self { folder: folder.to_owned(), name, bytes: file.metadata()?.len(), file, bytes_max })
    }

    fn turn(&mut self) -> io::Result<()> {
        let named = |number| named(&self.folder, self.name, number);
        files::remove_if_there(&named(KEPT))?;
        for number in (0..KEPT).rev() {
            match fs::rename(named(number), named(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        (self.file, self.bytes) = (files::append_to(&named(0))?, 0);
        Ok(())
    }
}

fn named(folder: &Path, name: &str, number: u32) -> PathBuf {
    folder.join(if number == 0 { format!("{name}.log") } else { format!("{name}.{number}.log") })
}

impl Write for Rolling {
    /// One entry; it stands in one file as a whole.
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes + entry.len() as u64 > self.bytes_max {
            // Somebody may read the files: then this one grows until they are done.
            let _ = self.turn();
        }
        let written = self.file.write(entry)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_five_files_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = Rolling::with(folder.path(), "agent", 10).expect("a file");
        for number in 0..9 {
            log.write_all(format!("entry {number}\n").as_bytes()).expect("written");
        }
        let read = |number| fs::read_to_string(named(folder.path(), "agent", number)).expect("a file");
        assert_eq!((read(0).as_str(), read(KEPT).as_str()), ("entry 8\n", "entry 4\n"));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 5);
    }
}
