//! A job's inputs as people name them: files, folders, lines, numbers, a JSON array, standard input.

pub mod elements;

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Args;
use lull_shared::{
    limits::{BLOB_BYTES_MAX, TASKS_PER_JOB_MAX},
    numbers::Numbers,
};
use walkdir::WalkDir;

use crate::cli::{
    exit::{Exit, Failure},
    jobs::{files::is_manifest, names::MANIFEST},
    typed::amount,
};

/// Where the inputs come from: exactly one of these.
#[derive(Debug, Clone, Args)]
#[group(id = "inputs", required = true, multiple = false)]
pub struct InputArgs {
    /// Files, folders (all files below, sorted; hidden ones are left out), or `-` for standard input: each is one task
    #[arg(value_name = "INPUT")]
    pub paths: Vec<PathBuf>,
    /// One task for each line of this file (`-`: standard input); empty lines are left out
    #[arg(long, value_name = "FILE")]
    pub each_line: Option<PathBuf>,
    /// One task for each number, as decimal text: 0-999 (both included), 0-10:2 (every second), 1,3,5, or these together
    #[arg(long, value_name = "NUMBERS", value_parser = amount::array)]
    pub array: Option<Numbers>,
    /// One task for each element of the JSON array in this file (`-`: standard input): a string is the input itself, an
    /// object {"label", "input"} names it, anything else is passed on as JSON, byte for byte
    #[arg(long, value_name = "FILE")]
    pub from_json: Option<PathBuf>,
}

/// A job's inputs, found but not yet read where they are files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inputs {
    Array(Numbers),
    Items(Vec<Item>),
}

/// One task's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What people know it by.
    pub label: String,
    pub content: Content,
}

/// Where the bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Bytes(Bytes),
    File { path: PathBuf, size_bytes: u64 },
}

impl InputArgs {
    /// Finds the inputs. Reads lists, not the files that they name.
    pub fn collect(&self) -> Result<Inputs, Failure> {
        if let Some(array) = &self.array {
            return Ok(Inputs::Array(array.clone()));
        }
        let items = if let Some(path) = &self.each_line {
            lines(&read_text(path)?)
        } else if let Some(path) = &self.from_json {
            elements::split(&read_text(path)?, path)?
        } else {
            files(&self.paths)?
        };
        if items.is_empty() {
            return Err(Failure::usage("there are no inputs").hint("name a file, a folder that is not empty, or --array 0-9"));
        }
        if items.len() > TASKS_PER_JOB_MAX as usize {
            let message = format!("{} inputs are more than the {TASKS_PER_JOB_MAX} that a job may have", items.len());
            return Err(Failure::usage(message).hint("split them over several jobs"));
        }
        Ok(Inputs::Items(items))
    }
}

fn files(paths: &[PathBuf]) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    let mut stdin_taken = false;
    for path in paths {
        if path.as_os_str() == "-" {
            if std::mem::replace(&mut stdin_taken, true) {
                return Err(Failure::usage("standard input can be read only once").hint("write `-` once"));
            }
            items.push(Item { label: "stdin".into(), content: Content::Bytes(read_stdin()?.into()) });
            continue;
        }
        let about = fs::metadata(path).map_err(|error| Failure::unreadable(path, &error))?;
        if about.is_dir() {
            items.extend(folder(path)?);
        } else {
            items.push(file(path, about.len()));
        }
    }
    Ok(items)
}

fn folder(path: &Path) -> Result<Vec<Item>, Failure> {
    let hidden = |entry: &walkdir::DirEntry| entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
    // Results that were written below it earlier are none of its inputs; those of another job may be, without their manifest.
    let results = |entry: &walkdir::DirEntry| match entry.file_type().is_dir() {
        true => entry.depth() > 0 && is_manifest(&entry.path().join(MANIFEST)),
        false => is_manifest(entry.path()),
    };
    let left_out = |entry: &walkdir::DirEntry| hidden(entry) || results(entry);
    let mut items = Vec::new();
    for entry in WalkDir::new(path).follow_links(true).sort_by_file_name().into_iter().filter_entry(|entry| !left_out(entry)) {
        let entry = entry.map_err(|error| unwalked(&error))?;
        if entry.file_type().is_file() {
            let about = entry.metadata().map_err(|error| unwalked(&error))?;
            items.push(file(entry.path(), about.len()));
        }
    }
    Ok(items)
}

fn unwalked(error: &walkdir::Error) -> Failure {
    match (error.path(), error.io_error()) {
        (Some(path), Some(error)) => Failure::unreadable(path, error),
        _ => Failure::new(Exit::Failed, format!("cannot read the folder: {error}")).hint("name its files one by one"),
    }
}

fn file(path: &Path, size_bytes: u64) -> Item {
    Item { label: path.to_string_lossy().into_owned(), content: Content::File { path: path.to_owned(), size_bytes } }
}

/// One input for each line that is not empty.
pub fn lines(text: &str) -> Vec<Item> {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| item(line, line)).collect()
}

pub(in crate::cli) fn item(label: &str, input: &str) -> Item {
    named(label, Bytes::copy_from_slice(input.as_bytes()))
}

fn named(label: &str, input: Bytes) -> Item {
    Item { label: label.trim().to_owned(), content: Content::Bytes(input) }
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = if path.as_os_str() == "-" {
        read_stdin()?
    } else {
        fs::read(path).map_err(|error| Failure::unreadable(path, &error))?
    };
    text_of(bytes).ok_or_else(|| Failure::usage(format!("{} is not UTF-8 text", path.display())).hint("save it as UTF-8"))
}

/// A file's text without its byte order mark, which says how it is written and belongs to no line. Windows writes marks
/// before UTF-8, and UTF-16 where a shell's output goes to a file.
fn text_of(bytes: Vec<u8>) -> Option<String> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        rest.is_empty().then(|| String::from_utf16(&units).ok()).flatten()
    };
    match bytes.as_slice() {
        [0xEF, 0xBB, 0xBF, text @ ..] => String::from_utf8(text.to_vec()).ok(),
        [0xFF, 0xFE, text @ ..] => utf16(text, u16::from_le_bytes),
        [0xFE, 0xFF, text @ ..] => utf16(text, u16::from_be_bytes),
        _ => String::from_utf8(bytes).ok(),
    }
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(BLOB_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(Exit::Failed, format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > BLOB_BYTES_MAX {
        let message = format!("standard input is larger than {}", bytesize::ByteSize(BLOB_BYTES_MAX));
        return Err(Failure::usage(message).hint("split it into several inputs"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: Vec<PathBuf>) -> InputArgs {
        InputArgs { paths, each_line: None, array: None, from_json: None }
    }

    fn labels(inputs: Inputs) -> Vec<String> {
        let Inputs::Items(items) = inputs else { panic!("items") };
        items.into_iter().map(|item| item.label).collect()
    }

    #[test]
    fn a_folder_is_all_its_files_in_order_without_the_hidden_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir_all(root.join("b/.git")).expect("folders");
        for name in ["z.txt", "a.txt", "b/inner.txt", ".hidden", "b/.git/config"] {
            fs::write(root.join(name), name).expect("a file");
        }
        let found = labels(of(vec![root.to_owned()]).collect().expect("inputs"));
        let expected = ["a.txt", "b/inner.txt", "z.txt"].map(|name| root.join(name).to_string_lossy().into_owned());
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_missing_or_empty_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = of(vec![folder.path().join("none")]).collect().expect_err("no such file");
        assert_eq!(missing.exit, Exit::NotFound);
        let empty = of(vec![folder.path().to_owned()]).collect().expect_err("nothing in it");
        assert_eq!((empty.exit, empty.message.as_str()), (Exit::Usage, "there are no inputs"));
    }

    #[test]
    fn each_line_is_an_input_without_its_end() {
        let items = lines("one\r\n\ntwo words\n");
        assert_eq!(items, [item("one", "one"), item("two words", "two words")]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let marked = text_of(b"\xEF\xBB\xBFhttp://a\r\nhttp://b\r\n".to_vec()).expect("text");
        assert_eq!(lines(&marked), [item("http://a", "http://a"), item("http://b", "http://b")]);
        let wide = |unit: fn(u16) -> [u8; 2], mark: &[u8]| {
            let units = "\u{e9}\n".encode_utf16().flat_map(unit);
            text_of(mark.iter().copied().chain(units).collect())
        };
        assert_eq!(wide(u16::to_le_bytes, b"\xFF\xFE").as_deref(), Some("\u{e9}\n"));
        assert_eq!(wide(u16::to_be_bytes, b"\xFE\xFF").as_deref(), Some("\u{e9}\n"));
        assert_eq!(text_of(b"a\xEF\xBB\xBF".to_vec()).as_deref(), Some("a\u{feff}"), "only the first is a mark");
        assert_eq!(text_of(b"\xFF\xFEa".to_vec()), None);
        assert_eq!(text_of(vec![0xC0]), None);
    }
}
