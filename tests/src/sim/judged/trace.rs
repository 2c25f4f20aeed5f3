//! What happened lately, in words, for whoever must find out why.

use std::collections::VecDeque;

use lull_shared::time::Timestamp;

use crate::sim::judged::promise::Subject;

/// Lines remembered: enough to hold the whole of a small world.
const LINES_MAX: usize = 400_000;
/// Lines shown.
const SHOWN_MAX: usize = 80;

/// The last lines, if anybody wants them.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    on: bool,
    lines: VecDeque<(Timestamp, u64, String)>,
}

impl Trace {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, lines: VecDeque::new() }
    }

    pub(crate) fn note(&mut self, at: Timestamp, event: u64, line: impl FnOnce() -> String) {
        if self.on {
            if self.lines.len() == LINES_MAX {
                self.lines.pop_front();
            }
            self.lines.push_back((at, event, line()));
        }
    }

    /// The last lines that name one of these or, beginning with an exclamation mark, concern everybody.
    pub(crate) fn about(&self, subjects: &[Subject]) -> Vec<String> {
        let names: Vec<String> = subjects.iter().map(ToString::to_string).collect();
        let wanted = |line: &str| names.is_empty() || line.starts_with('!') || names.iter().any(|name| contains(line, name));
        let lines = self.lines.iter().filter(|(_, _, line)| wanted(line));
        let mut shown: Vec<String> =
            lines.rev().take(SHOWN_MAX).map(|(at, event, line)| format!("{at} #{event} {line}")).collect();
        shown.reverse();
        shown
    }
}

/// Whether the line has the name, and not only a longer one that begins with it.
fn contains(line: &str, name: &str) -> bool {
    let whole = |(at, _): (usize, &str)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        !after.is_some_and(|c| c.is_ascii_digit()) && !before.is_some_and(|c| c.is_ascii_alphanumeric())
    };
    line.match_indices(name).any(whole)
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn a_name_is_not_found_in_a_longer_one() {
        assert!(contains("a3 has j1.2#1", "j1.2") && contains("a3 has j1.2#1", "a3"));
        assert!(!contains("a3 has j1.22#1", "j1.2") && !contains("a31", "a3"));
    }
}
