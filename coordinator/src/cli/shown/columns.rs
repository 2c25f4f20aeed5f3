//! What a table does where the terminal is too narrow for it: what is wanted least is left out, a long sentence goes on below
//! its row, a very long name is broken over lines, and nothing is ever cut. Other forms of the same data have everything.

use lull_shared::shown::columns as length;

/// Blanks between two columns.
pub(crate) const GAP: u16 = 2;
/// A sentence that would have less room than this beside the other columns goes on below its row.
const PROSE_MIN: usize = 40;
/// A longer name is broken over lines before anything is left out for it: most names of machines are shorter.
const NAME_MIN: usize = 24;
/// However narrow the terminal is, the pieces of a name are not shorter than that.
const PIECE_MIN: usize = 12;
/// What goes on below a row is set in from it.
const INDENT: usize = 4;

/// Sentences that say more of what their row says, in its last column: below the row where they do not fit into it whole.
const REASONS: [&str; 2] = ["REASON", "DETAIL"];

/// Sentences that are the substance of their table: broken at blanks where there is room for that.
const PROSE: [&str; 7] = ["OUTPUT", "WHY NOT THERE", "WHAT WAS FOUND", "WHAT TO DO", "CAUSE", "LOG", "LABELS"];

/// Names of any length.
const NAMES: [&str; 12] =
    ["NAME", "AGENT", "FUNCTION", "INPUT", "SUBJECT", "ADDRESS", "LISTENS", "BY", "FROM", "TO", "FOR", "EXAMPLE"];

/// What is left out first, in this order; the first column, which tells the rows apart, never is.
const SPARED: [&str; 45] = [
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
    "CANCELLED",
    "STARTED",
    "SUBMITTED",
    "LAST HEARD",
    "TIME",
    "SLOTS",
    "RUNNING",
    "FUNCTION",
    "FAILED",
    "FETCHING",
    "BLOBS",
    "UPLOADED",
    "SERVED",
    "RECEIVED",
    "SENT",
    "ADDRESS",
    "FROM COORDINATORS",
    "FOR",
    "SEEN",
    "SINCE",
    "EXPIRES",
    "USES",
    "AGENT",
];

/// A row as it is shown: the lines of each column that is kept, and what goes on below it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub cells: Vec<Vec<String>>,
    pub below: Vec<String>,
}

/// Which columns are shown, and the rows in them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arranged {
    pub columns: Vec<usize>,
    pub rows: Vec<Shown>,
}

/// How a column is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// Numbers, states, times: never broken.
    Whole,
    Name,
    Prose,
    Reason,
}

fn nature(heading: &str) -> Nature {
    match heading {
        _ if REASONS.contains(&heading) => Nature::Reason,
        _ if PROSE.contains(&heading) => Nature::Prose,
        _ if NAMES.contains(&heading) => Nature::Name,
        _ => Nature::Whole,
    }
}

/// Arranges the texts of rows in so many columns of a terminal.
pub(crate) fn arranged(headings: &[&str], rows: &[Vec<&str>], width: u16) -> Arranged {
    let width = usize::from(width);
    let natures: Vec<Nature> = headings.iter().map(|heading| nature(heading)).collect();
    let natural: Vec<usize> = (0..headings.len()).map(|column| widest(headings, rows, column)).collect();
    let is_sentence = |column: usize| matches!(natures[column], Nature::Prose | Nature::Reason);
    // A column of sentences that has none says nothing.
    let mut kept: Vec<usize> =
        (0..headings.len()).filter(|column| !is_sentence(*column) || rows.iter().any(|row| !row[*column].is_empty())).collect();
    if taken(&kept, |column| natural[column]) <= width {
        let cells = |row: &Vec<&str>| kept.iter().map(|column| vec![row[*column].to_owned()]).collect();
        let rows = rows.iter().map(|row| Shown { cells: cells(row), below: Vec::new() }).collect();
        return Arranged { columns: kept, rows };
    }
    let least = |column: usize| match natures[column] {
        Nature::Name => natural[column].min(NAME_MIN.max(headings[column].len())),
        Nature::Whole => natural[column],
        Nature::Prose | Nature::Reason => 0,
    };
    let plain = |kept: &[usize]| kept.iter().copied().filter(|column| !is_sentence(*column)).collect::<Vec<_>>();
    for spared in SPARED {
        if taken(&plain(&kept), least) <= width {
            break;
        }
        kept.retain(|column| *column == 0 || headings[*column] != spared);
    }
    let mut widths = natural.clone();
    share(&plain(&kept), &natures, &mut widths, width);
    let room = width.saturating_sub(taken(&plain(&kept), |column| widths[column]));
    let sentences: Vec<usize> = kept.iter().copied().filter(|column| natures[*column] == Nature::Prose).collect();
    let each = (room / sentences.len().max(1)).saturating_sub(usize::from(GAP));
    let fits = |column: usize| {
        let word = rows.iter().flat_map(|row| row[column].split(' ')).map(length).max().unwrap_or(0);
        each >= natural[column].min(PROSE_MIN) && word <= each
    };
    let all_fit = sentences.iter().all(|column| fits(*column));
    let mut room_for_reason = room.saturating_sub(usize::from(GAP));
    if all_fit {
        for column in &sentences {
            widths[*column] = natural[*column].min(each);
            room_for_reason = room_for_reason.saturating_sub(widths[*column] + usize::from(GAP));
        }
    }
    let beside = |row: &Vec<&str>, column: usize| match natures[column] {
        Nature::Whole | Nature::Name => true,
        Nature::Prose => all_fit,
        Nature::Reason => length(row[column]) <= room_for_reason && headings[column].len() <= room_for_reason,
    };
    let columns: Vec<usize> = kept
        .iter()
        .copied()
        .filter(|column| rows.iter().any(|row| !row[*column].is_empty() && beside(row, *column)) || !is_sentence(*column))
        .collect();
    let lines = |row: &Vec<&str>, column: usize| match natures[column] {
        _ if !beside(row, column) => vec![String::new()],
        Nature::Name => chopped(row[column], widths[column]),
        Nature::Prose => broken(row[column], widths[column]),
        Nature::Whole | Nature::Reason => vec![row[column].to_owned()],
    };
    let first = kept.iter().copied().find(|column| is_sentence(*column));
    let below = |row: &Vec<&str>| {
        let told = kept.iter().copied().filter(|column| !beside(row, *column) && !row[*column].is_empty());
        told.flat_map(|column| {
            // Of several sentences those behind the first are told apart by their headings.
            let text = match Some(column) == first {
                true => row[column].to_owned(),
                false => format!("{}: {}", headings[column].to_lowercase(), row[column]),
            };
            let lines = broken(&text, width.saturating_sub(INDENT));
            lines.into_iter().map(|line| " ".repeat(INDENT) + &line).collect::<Vec<_>>()
        })
        .collect()
    };
    let rows = rows
        .iter()
        .map(|row| Shown { cells: columns.iter().map(|column| lines(row, *column)).collect(), below: below(row) })
        .collect();
    Arranged { columns, rows }
}

/// Gives columns of names what the others leave, alike to those that want more than that.
fn share(columns: &[usize], natures: &[Nature], widths: &mut [usize], width: usize) {
    let mut names: Vec<usize> = columns.iter().copied().filter(|column| natures[*column] == Nature::Name).collect();
    names.sort_by_key(|column| widths[*column]);
    let gaps = usize::from(GAP) * columns.len().saturating_sub(1);
    let whole: usize = columns.iter().filter(|column| natures[**column] != Nature::Name).map(|column| widths[*column]).sum();
    let mut left = width.saturating_sub(gaps + whole);
    for (number, column) in names.iter().enumerate() {
        widths[*column] = widths[*column].min((left / (names.len() - number)).max(PIECE_MIN));
        left = left.saturating_sub(widths[*column]);
    }
}

fn widest(headings: &[&str], rows: &[Vec<&str>], column: usize) -> usize {
    rows.iter().map(|row| length(row[column])).max().unwrap_or(0).max(headings[column].len())
}

fn taken(columns: &[usize], width: impl Fn(usize) -> usize) -> usize {
    let gaps = usize::from(GAP) * columns.len().saturating_sub(1);
    columns.iter().map(|column| width(*column)).sum::<usize>() + gaps
}

/// A name in lines of at most so many columns, behind one of its own signs where there is one near the end.
fn chopped(name: &str, width: usize) -> Vec<String> {
    let mut rest = name;
    let mut lines = Vec::new();
    while length(rest) > width {
        let (mut end, mut sign) = (0, None);
        for (at, c) in rest.char_indices() {
            let next = at + c.len_utf8();
            let taken = length(&rest[..next]);
            if taken > width && end > 0 {
                break;
            }
            end = next;
            if matches!(c, '-' | '.' | '_' | '/' | '@' | ' ') && taken > width - width / 3 {
                sign = Some(end);
            }
        }
        let (line, tail) = rest.split_at(sign.unwrap_or(end));
        lines.push(line.to_owned());
        rest = tail;
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest.to_owned());
    }
    lines
}

/// A text broken at blanks into lines of at most so many columns; a longer word has a line of its own.
pub(crate) fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("one line at least");
        let with = length(line) + 1 + length(word);
        if line.is_empty() {
            line.push_str(word);
        } else if with <= width {
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

    fn shown(headings: &[&str], rows: &[Vec<&str>], width: u16) -> Vec<String> {
        let kept = arranged(headings, rows, width).columns;
        kept.into_iter().map(|column| headings[column].to_owned()).collect()
    }

    #[test]
    fn what_is_wanted_least_is_left_out_until_the_rest_fits() {
        let headings = ["AGENT", "NAME", "STATE", "SLOTS", "OS", "VERSION"];
        let name = "n".repeat(40);
        let row = vec!["a1", &name, "quarantined", "10/16", "windows x86", "1.2.345"];
        let at = |width| shown(&headings, std::slice::from_ref(&row), width);
        assert_eq!(at(200), headings);
        assert_eq!(at(73), headings, "a name is broken before anything is left out");
        assert_eq!(at(72), headings[..5]);
        assert_eq!(at(63), headings[..4]);
        assert_eq!(at(50), headings[..3]);
        assert_eq!(at(10), headings[..3], "what matters stays, however narrow it is");
    }

    #[test]
    fn a_reason_stays_in_its_row_where_it_fits_and_goes_on_below_it_elsewhere() {
        let headings = ["AGENT", "STATE", "REASON"];
        let (short, long) = ("its lid is closed", "one two three four five six seven eight nine");
        let rows = [vec!["a1", "paused", short], vec!["a2", "paused", long], vec!["a3", "ready", ""]];
        let arranged = arranged(&headings, &rows, 36);
        assert_eq!(arranged.columns, [0, 1, 2]);
        assert_eq!(arranged.rows[0].cells[2], [short]);
        assert!(arranged.rows[0].below.is_empty() && arranged.rows[2].below.is_empty());
        assert_eq!(arranged.rows[1].cells[2], [""]);
        assert_eq!(arranged.rows[1].below, ["    one two three four five six", "    seven eight nine"]);
    }

    #[test]
    fn sentences_without_room_beside_the_rest_go_below_and_are_told_apart() {
        let headings = ["CHECK", "WHAT WAS FOUND", "WHAT TO DO"];
        let rows = [vec!["clock", "it is a good deal ahead of that of the coordinator", "set it"]];
        let arranged = arranged(&headings, &rows, 60);
        assert_eq!(arranged.columns, [0]);
        let below = ["    it is a good deal ahead of that of the coordinator", "    what to do: set it"];
        assert_eq!(arranged.rows[0].below, below);
    }

    #[test]
    fn a_name_is_broken_behind_its_signs_and_keeps_every_letter() {
        assert_eq!(chopped("render-farm-berlin-0042", 14), ["render-farm-", "berlin-0042"]);
        assert_eq!(chopped("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(chopped("abc", 3), ["abc"]);
        assert_eq!(chopped("", 3), [""]);
        assert_eq!(chopped("夜間バッチ", 5), ["夜間", "バッ", "チ"], "two columns each");
        assert_eq!(chopped("夜間", 1), ["夜", "間"], "one at least");
        assert_eq!(chopped("ae\u{301}b", 2), ["ae\u{301}", "b"], "a mark stays with its letter");
    }

    #[test]
    fn a_text_is_broken_at_blanks() {
        assert_eq!(broken("one two three", 8), ["one two", "three"]);
        assert_eq!(broken("unbreakable yes", 4), ["unbreakable", "yes"]);
        assert_eq!(broken("", 4), [""]);
    }
}
