//! What a table does where the terminal is too narrow for it: prose and names are broken over lines, states, numbers and
//! times never are, and what is wanted least is left out. Other forms of the same data have everything.

use comfy_table::{ColumnConstraint, Table};

/// Blanks between two columns.
pub const GAP: u16 = 2;
/// A sentence is not squeezed below this.
const PROSE_MIN: u16 = 16;
/// A longer name is broken before anything is left out.
const NAME_MIN: u16 = 24;

/// Sentences, which are broken at blanks.
const PROSE: [&str; 12] = [
    "REASON",
    "OUTPUT",
    "WHY NOT THERE",
    "WHY",
    "WHAT WAS FOUND",
    "WHAT TO DO",
    "CAUSE",
    "DETAIL",
    "LOG",
    "CHECK",
    "LABELS",
    "NAME",
];

/// Names of any length, which are broken where they are very long.
const NAMES: [&str; 8] = ["FUNCTION", "INPUT", "SUBJECT", "ADDRESS", "BY", "FROM", "TO", "AGENT"];

/// What is left out first, in this order.
const SPARED: [&str; 24] = [
    "PEER",
    "SOFTWARE",
    "LISTENS",
    "VERSION",
    "OS",
    "DIGEST",
    "KIND",
    "MACHINE",
    "CREATED",
    "CPU FREE",
    "MEMORY FREE",
    "ROUND TRIP",
    "WORK",
    "DIRECTION",
    "UPLOADS",
    "ATTEMPTS",
    "WENT ON AFTER",
    "MEMORY",
    "CPU",
    "HTTP",
    "BY",
    "SIZE",
    "STARTED",
    "SUBMITTED",
];

/// Which of these columns fit into the width, each with the widest of its cells; in their order.
pub fn chosen(headings: &[&str], widths: &[u16], width: u16) -> Vec<usize> {
    let least = |column: usize| match headings[column] {
        prose if PROSE.contains(&prose) => widths[column].min(PROSE_MIN),
        name if NAMES.contains(&name) => widths[column].min(NAME_MIN),
        _ => widths[column],
    };
    let mut kept: Vec<usize> = (0..headings.len()).collect();
    for spared in SPARED {
        let needed: u16 = kept.iter().map(|column| least(*column).saturating_add(GAP)).fold(0, u16::saturating_add);
        if needed.saturating_sub(GAP) <= width {
            break;
        }
        kept.retain(|column| headings[*column] != spared);
    }
    kept
}

/// Keeps every column of a table whole that must not be broken.
pub fn hold(table: &mut Table, headings: &[&str]) {
    for (heading, column) in headings.iter().zip(table.column_iter_mut()) {
        column.set_padding((0, GAP));
        if !PROSE.contains(heading) && !NAMES.contains(heading) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
}

/// A text broken at blanks into lines of at most so many characters; a longer word has a line of its own.
pub fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("one line at least");
        let length = line.chars().count() + 1 + word.chars().count();
        if line.is_empty() {
            line.push_str(word);
        } else if length <= width {
            line.extend([" ", word]);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_least_is_left_out_until_the_rest_fits() {
        let headings = ["AGENT", "NAME", "STATE", "SLOTS", "OS", "VERSION"];
        let widths = [5, 30, 16, 5, 12, 7];
        assert_eq!(chosen(&headings, &widths, 200), [0, 1, 2, 3, 4, 5]);
        assert_eq!(chosen(&headings, &widths, 71), [0, 1, 2, 3, 4, 5], "a name is broken before anything is left out");
        assert_eq!(chosen(&headings, &widths, 70), [0, 1, 2, 3, 4]);
        assert_eq!(chosen(&headings, &widths, 50), [0, 1, 2, 3]);
        assert_eq!(chosen(&headings, &widths, 10), [0, 1, 2, 3], "what matters stays, however narrow it is");
    }

    #[test]
    fn a_text_is_broken_at_blanks() {
        assert_eq!(broken("one two three", 8), ["one two", "three"]);
        assert_eq!(broken("unbreakable yes", 4), ["unbreakable", "yes"]);
        assert_eq!(broken("", 4), [""]);
    }
}
