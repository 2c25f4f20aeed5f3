//! What the files of a job's outputs are called: like their inputs, and never alike.
//!
//! A label is a path, a line or any other text that somebody wrote. Of it remain the name and the folders below the one
//! that all inputs share; nothing in it leads out of the folder of the results, and no file system takes it amiss. Whose
//! name is taken by another task, on any file system, gets its task's number in front.

use std::collections::BTreeSet;

use lull_shared::shown::is_unseen;

/// The file beside the outputs that says which is whose.
pub(crate) const MANIFEST: &str = "manifest.jsonl";
/// Bytes of one name: with a suffix and a number far below every file system's limit of 255.
const NAME_BYTES: usize = 120;
/// Bytes of a path below the folder: Windows takes 260 for all of it. What is longer loses its folders.
const PATH_BYTES: usize = 160;
/// Names that Windows keeps for devices, whatever follows the dot.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Where each of these tasks' outputs go, by index: a path below the folder, its parts between slashes.
pub(crate) fn paths(labels: &[Option<String>], suffix: &str) -> Vec<String> {
    let parts: Vec<Vec<&str>> = labels.iter().map(|label| parts(label.as_deref().unwrap_or_default())).collect();
    let shared = shared(&parts);
    let mut taken = Taken::default();
    taken.insert(MANIFEST);
    // First all that may keep their own, so that no made-up name takes one away.
    let mut paths: Vec<Option<String>> = Vec::with_capacity(parts.len());
    for (index, parts) in parts.iter().enumerate() {
        let own = path(parts.get(shared..).unwrap_or_default(), index, suffix);
        paths.push(Some(own).filter(|own| taken.insert(own)));
    }
    let numbered = |(index, path): (usize, Option<String>)| {
        path.unwrap_or_else(|| {
            let last = parts[index].last().copied().unwrap_or_default();
            let mut others = others(index, &self::path(&[last], index, suffix));
            others.find(|other| taken.insert(other)).expect("there is always another number")
        })
    };
    paths.into_iter().enumerate().map(numbered).collect()
}

/// What tells these labels apart: each without the folders that all of them are in.
pub(crate) fn apart(labels: &[Option<String>]) -> Vec<Option<String>> {
    let parts: Vec<Vec<&str>> = labels.iter().map(|label| parts(label.as_deref().unwrap_or_default())).collect();
    let shared = shared(&parts);
    if shared == 0 {
        return labels.to_vec();
    }
    let below =
        |(label, parts): (&Option<String>, &Vec<&str>)| label.as_ref().map(|_| parts[shared.min(parts.len())..].join("/"));
    labels.iter().zip(&parts).map(below).collect()
}

/// Other names for a task's file whose own is taken, without an end.
pub(crate) fn others(index: usize, path: &str) -> impl Iterator<Item = String> + use<> {
    let last = path.rsplit('/').next().unwrap_or_default().to_owned();
    (1_u32..).map(move |number| match number {
        1 => format!("{index}-{last}"),
        number => format!("{index}-{number}-{last}"),
    })
}

/// The parts of a path, without those that lead anywhere else.
fn parts(label: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in label.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => parts.clear(),
            part => parts.push(part),
        }
    }
    parts
}

/// How many folders all of them are in.
fn shared(all: &[Vec<&str>]) -> usize {
    let mut named = all.iter().filter(|parts| !parts.is_empty());
    let Some(first) = named.next() else { return 0 };
    named.fold(first.len() - 1, |shared, parts| {
        let alike = first.iter().zip(&parts[..parts.len() - 1]).take_while(|(one, other)| one == other).count();
        shared.min(alike)
    })
}

fn path(parts: &[&str], index: usize, suffix: &str) -> String {
    let task = format!("task-{index}");
    let Some((last, folders)) = parts.split_last() else { return task + suffix };
    let name = safe(last);
    let name = if name.trim_matches('_').is_empty() { task } else { name } + suffix;
    let mut path: String = folders.iter().flat_map(|folder| [safe(folder), "/".into()]).collect();
    if path.len() + name.len() > PATH_BYTES {
        path.clear();
    }
    path + &name
}

/// A name without anything that a file system or a shell would take amiss.
fn safe(name: &str) -> String {
    let odd = |c: char| is_unseen(c) || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '/' | '\\');
    let clean: String = name.chars().map(|c| if odd(c) { '_' } else { c }).collect();
    let clean = shortened(clean.trim_matches([' ', '\u{a0}']).trim_end_matches(['.', ' ']));
    // Neither hidden nor an option of whatever is given `*`.
    let clean = match clean.strip_prefix(['.', '-', '~']) {
        Some(rest) => format!("_{rest}"),
        None => clean,
    };
    let stem = clean.split('.').next().unwrap_or_default().trim_end().to_lowercase();
    let port = |port: &str| matches!(port.chars().collect::<Vec<_>>()[..], ['1'..='9' | '¹' | '²' | '³']);
    let is_port = ["com", "lpt"].iter().any(|kind| stem.strip_prefix(kind).is_some_and(port));
    if clean.is_empty() || is_port || DEVICES.contains(&stem.as_str()) { format!("_{clean}") } else { clean }
}

/// At most [`NAME_BYTES`] of a name, with its ending if that is one.
fn shortened(name: &str) -> String {
    if name.len() <= NAME_BYTES {
        return name.to_owned();
    }
    let ending = name.rfind('.').map(|dot| &name[dot..]).filter(|ending| ending.len() <= 16).unwrap_or_default();
    let mut end = NAME_BYTES - ending.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].trim_end_matches(['.', ' ']).to_owned() + ending
}

/// Names as the least discerning file system tells them apart: it knows no case, and no file can be a folder too.
#[derive(Default)]
struct Taken {
    files: BTreeSet<String>,
    folders: BTreeSet<String>,
}

impl Taken {
    /// Whether the path was free; it is taken from now on.
    fn insert(&mut self, path: &str) -> bool {
        let key = path.to_lowercase();
        let folders: Vec<&str> = key.match_indices('/').map(|(end, _)| &key[..end]).collect();
        let in_the_way = self.folders.contains(&key) || folders.iter().any(|folder| self.files.contains(*folder));
        if in_the_way || self.files.contains(&key) {
            return false;
        }
        self.folders.extend(folders.into_iter().map(str::to_owned));
        self.files.insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[&str]) -> Vec<String> {
        let labels: Vec<Option<String>> = labels.iter().map(|label| Some((*label).to_owned())).collect();
        paths(&labels, "")
    }

    #[test]
    fn a_file_keeps_its_inputs_name_and_its_folder_below_what_all_share() {
        assert_eq!(of(&["in/2-a.txt", "in/a.txt", "in/sub/a.txt"]), ["2-a.txt", "a.txt", "sub/a.txt"]);
        assert_eq!(of(&["/home/ann/one/a.txt", "/home/ann/two/a.txt"]), ["one/a.txt", "two/a.txt"]);
        assert_eq!(of(&["in/sub/a b.png"]), ["a b.png"]);
        assert_eq!(of(&[r"C:\in\a.txt", r"D:\in\a.txt"]), ["C_/in/a.txt", "D_/in/a.txt"]);
        assert_eq!(paths(&[None, Some("x".into())], ".json"), ["task-0.json", "x.json"]);
    }

    #[test]
    fn labels_are_told_apart_by_what_they_do_not_share() {
        let labels = |labels: &[&str]| labels.iter().map(|label| Some((*label).to_owned())).collect::<Vec<_>>();
        assert_eq!(apart(&labels(&["/a/b/x.txt", "/a/b/c/y.txt"])), labels(&["x.txt", "c/y.txt"]));
        assert_eq!(apart(&labels(&["one / two", "three"])), labels(&["one / two", "three"]));
        assert_eq!(apart(&[None, Some("a/b".into())]), [None, Some("b".into())]);
    }

    #[test]
    fn no_two_are_alike_whatever_they_are_called() {
        assert_eq!(of(&["a.txt", "A.txt", "1-A.txt", "a.txt"]), ["a.txt", "1-2-A.txt", "1-A.txt", "3-a.txt"]);
        assert_eq!(of(&["x", "X/y", "x/z"]), ["x", "1-y", "2-z"], "no file is a folder too");
        assert_eq!(of(&["x/y", "X"]), ["x/y", "1-X"]);
        assert_eq!(of(&["manifest.jsonl", "MANIFEST.JSONL"]), ["0-manifest.jsonl", "1-MANIFEST.JSONL"]);
        assert_eq!(of(&["a:b", "a?b", "a_b"]), ["a_b", "1-a_b", "2-a_b"]);
        assert_eq!(of(&["", " ", ".."]), ["task-0", "task-1", "task-2"]);
        let long = ["x".repeat(500) + ".txt", "x".repeat(501) + ".txt"];
        let paths = of(&[&long[0], &long[1]]);
        assert!(paths[0] != paths[1] && paths.iter().all(|path| path.len() < NAME_BYTES + 20 && path.ends_with(".txt")));
    }

    #[test]
    fn nothing_leads_out_and_nothing_is_taken_amiss() {
        assert_eq!(of(&["../../etc/passwd"]), ["passwd"]);
        assert_eq!(of(&["/etc/passwd", "a/../../b"]), ["etc/passwd", "b"]);
        assert_eq!(
            of(&["con.txt", "COM7", "lpt¹.x", "com10", "Nul .txt", "aux"]).join(" "),
            "_con.txt _COM7 _lpt¹.x com10 _Nul .txt _aux"
        );
        assert_eq!(of(&["-rf", ".hidden", "end. .", "a\u{202e}b\n", "~"]), ["_rf", "_hidden", "end", "a_b_", "task-4"]);
        for label in ["a/./b", "//a", "a//b/", "\\\\server\\share\\x", "..\\..\\x", "\0", "a/\u{7}/b"] {
            let [path] = &of(&[label])[..] else { panic!("one") };
            let parts: Vec<&str> = path.split('/').collect();
            assert!(parts.iter().all(|part| !matches!(*part, "" | "." | "..")) && !path.contains('\\'), "{label:?}: {path}");
        }
        let deep = "d/".repeat(300) + "x";
        assert_eq!(of(&[&deep, "y"]), ["x", "y"]);
    }
}
