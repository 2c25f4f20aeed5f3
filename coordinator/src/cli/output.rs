//! What commands print: data on standard output in the form that was asked for, all else on standard error.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Cell as TableCell, Color, ContentArrangement, Table, presets::NOTHING};
use jiff::{Timestamp, tz::TimeZone};
use lull_shared::state::{JobState, TaskState};
use serde::Serialize;
use serde_json::{Map, Value};

use super::exit::{Exit, Failure};
use crate::api::SCHEMA_VERSION;

/// Below this many columns a table is not squeezed: the terminal breaks its lines.
const WIDTH_MIN: u16 = 40;

/// The form of data on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people: aligned columns, local time.
    #[default]
    Table,
    /// One JSON value with `schema_version`, times in UTC.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// Identifiers only, one per line.
    Id,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// How a word is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Odd,
    Bad,
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text with its tone.
    pub fn toned(text: impl ToString, tone: Tone) -> Self {
        Self { text: printable(&text.to_string()), tone }
    }

    /// The text, or a dash where there is none.
    pub fn or_dash<T: ToString>(value: Option<T>) -> Self {
        value.map_or_else(|| Self::from("-"), |value| Self::toned(value, Tone::Plain))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<TaskState> for Cell {
    fn from(state: TaskState) -> Self {
        Self::toned(
            state,
            match state {
                TaskState::Succeeded => Tone::Good,
                TaskState::Failed | TaskState::Expired => Tone::Bad,
                TaskState::Paused | TaskState::Moving | TaskState::Cancelled => Tone::Odd,
                TaskState::Queued | TaskState::Waiting | TaskState::Running | TaskState::Verifying => Tone::Plain,
            },
        )
    }
}

impl From<JobState> for Cell {
    fn from(state: JobState) -> Self {
        Self::toned(
            state,
            match state {
                JobState::Active => Tone::Plain,
                JobState::Succeeded => Tone::Good,
                JobState::Failed | JobState::Expired => Tone::Bad,
                JobState::Cancelled => Tone::Odd,
            },
        )
    }
}

/// Something that can be a line of a list.
pub trait Row: Serialize {
    /// What the lines are called in JSON: `jobs`.
    const NAME: &'static str;
    const HEADINGS: &'static [&'static str];

    /// What `-o id` prints.
    fn id(&self) -> String;
    fn cells(&self, look: &Look) -> Vec<Cell>;
}

/// How things look to people.
#[derive(Debug, Clone)]
pub struct Look {
    pub zone: TimeZone,
    pub colour: bool,
    /// Columns of the terminal; without one, lines are never broken.
    pub width: Option<u16>,
}

impl Look {
    /// A moment in local time.
    pub fn time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// A moment in local time, if there is one.
    pub fn time_or_dash(&self, at: Option<Timestamp>) -> Cell {
        Cell::or_dash(at.map(|at| self.time(at)))
    }
}

/// Where a command's words go.
#[derive(Debug, Clone)]
pub struct Output {
    pub format: Format,
    pub quiet: bool,
    pub look: Look,
}

impl Output {
    /// As asked for, on the streams of this process.
    pub fn new(format: Format, colour: Colour, quiet: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        // `comfy-table` asks the terminal for its width; some say nothing sensible.
        let width = Table::new().width().filter(|width| terminal && *width >= WIDTH_MIN);
        Self { format, quiet, look: Look { zone: TimeZone::system(), colour, width } }
    }

    /// A list in the form that was asked for.
    pub fn list<R: Row>(&self, rows: &[R]) -> Result<(), Failure> {
        self.print(&self.listed(rows))
    }

    /// The text of a list.
    pub fn listed<R: Row>(&self, rows: &[R]) -> String {
        match self.format {
            Format::Table => table(R::HEADINGS, rows.iter().map(|row| row.cells(&self.look)).collect(), &self.look),
            Format::Json => whole(R::NAME, rows),
            Format::Jsonl => rows.iter().map(line).collect(),
            Format::Id => rows.iter().map(|row| row.id() + "\n").collect(),
        }
    }

    /// One thing: its JSON, its id, or for people the text that `describe` makes.
    pub fn one<T: Serialize>(&self, value: &T, id: &str, describe: impl FnOnce(&Look) -> String) -> Result<(), Failure> {
        self.print(&self.shown(value, id, describe))
    }

    /// The text of one thing.
    pub fn shown<T: Serialize>(&self, value: &T, id: &str, describe: impl FnOnce(&Look) -> String) -> String {
        match self.format {
            Format::Table => describe(&self.look),
            Format::Json => pretty(&versioned(value)) + "\n",
            Format::Jsonl => line(value),
            Format::Id => format!("{id}\n"),
        }
    }

    /// Data for standard output.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        write_out(text.as_bytes())
    }

    /// A remark for people, on standard error.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            // Nobody reads it if standard error is closed.
            let _ = writeln!(io::stderr(), "{}", printable_lines(text.as_ref()));
        }
    }
}

/// Bytes for standard output. A reader that has gone (`| head`) ends the program quietly.
pub fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(Exit::Succeeded.code().into()),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {error}"))),
    }
}

/// Aligned columns under headings, ended by a line end; an empty text for no rows.
pub fn table(headings: &[&str], rows: Vec<Vec<Cell>>, look: &Look) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(match look.width {
        Some(_) => ContentArrangement::Dynamic,
        None => ContentArrangement::Disabled,
    });
    if let Some(width) = look.width {
        table.set_width(width);
    }
    if look.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headings.iter().map(|heading| heading.to_string()));
    for row in rows {
        table.add_row(row.into_iter().map(|cell| coloured(cell, look)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    trimmed(table.lines())
}

/// Names and what belongs to them, one a line.
pub fn pairs(pairs: Vec<(&str, Cell)>, look: &Look) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let paint = |cell: Cell| if look.colour { paint(&cell.text, cell.tone) } else { cell.text };
    pairs.into_iter().map(|(name, cell)| format!("{name:width$}  {}\n", paint(cell))).collect()
}

/// How many of something, as one says it: `1 task`, `3 tasks`.
pub fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// A text without anything that a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The same for a text of several lines.
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A value with `schema_version` in front.
pub fn versioned<T: Serialize>(value: &T) -> Value {
    let mut fields = Map::from_iter([("schema_version".to_owned(), Value::from(SCHEMA_VERSION))]);
    match serde_json::to_value(value) {
        Ok(Value::Object(own)) => fields.extend(own),
        Ok(other) => drop(fields.insert("value".into(), other)),
        Err(error) => unreachable!("our own types are JSON: {error}"),
    }
    Value::Object(fields)
}

fn whole<R: Serialize>(name: &str, rows: &[R]) -> String {
    pretty(&versioned(&Map::from_iter([(name.to_owned(), Value::from_iter(rows.iter().map(json)))]))) + "\n"
}

fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| unreachable!("our own types are JSON: {error}"))
}

fn line<T: Serialize>(value: &T) -> String {
    json(value).to_string() + "\n"
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

fn coloured(cell: Cell, look: &Look) -> TableCell {
    let plain = TableCell::new(cell.text);
    match cell.tone {
        _ if !look.colour => plain,
        Tone::Plain => plain,
        Tone::Good => plain.fg(Color::Green),
        Tone::Odd => plain.fg(Color::Yellow),
        Tone::Bad => plain.fg(Color::Red),
    }
}

fn paint(text: &str, tone: Tone) -> String {
    match tone {
        Tone::Plain => text.to_owned(),
        Tone::Good => format!("\u{1b}[32m{text}\u{1b}[0m"),
        Tone::Odd => format!("\u{1b}[33m{text}\u{1b}[0m"),
        Tone::Bad => format!("\u{1b}[31m{text}\u{1b}[0m"),
    }
}

fn trimmed(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Plain, in UTC, without a terminal.
    pub fn plain(format: Format) -> Output {
        Output { format, quiet: false, look: Look { zone: TimeZone::UTC, colour: false, width: None } }
    }

    #[derive(Serialize)]
    struct Thing {
        id: u32,
        name: String,
    }

    impl Row for Thing {
        const NAME: &'static str = "things";
        const HEADINGS: &'static [&'static str] = &["ID", "NAME"];

        fn id(&self) -> String {
            format!("t{}", self.id)
        }

        fn cells(&self, _look: &Look) -> Vec<Cell> {
            vec![self.id().into(), self.name.as_str().into()]
        }
    }

    fn things() -> Vec<Thing> {
        vec![Thing { id: 1, name: "a".into() }, Thing { id: 200, name: "bad\u{1b}[2Jname".into() }]
    }

    #[test]
    fn a_table_is_aligned_and_harmless() {
        assert_eq!(plain(Format::Table).listed(&things()), "ID    NAME\nt1    a\nt200  bad\u{fffd}[2Jname\n");
        assert_eq!(plain(Format::Table).listed::<Thing>(&[]), "");
    }

    #[test]
    fn json_is_one_value_with_its_version() {
        let text = plain(Format::Json).listed(&things()[..1]);
        let value: Value = serde_json::from_str(&text).expect("one value");
        assert_eq!(value, serde_json::json!({"schema_version": 1, "things": [{"id": 1, "name": "a"}]}));
    }

    #[test]
    fn lines_and_identifiers_are_one_to_a_line() {
        assert_eq!(plain(Format::Jsonl).listed(&things()[..1]), "{\"id\":1,\"name\":\"a\"}\n");
        assert_eq!(plain(Format::Id).listed(&things()), "t1\nt200\n");
    }

    #[test]
    fn colour_marks_the_tone_and_nothing_else() {
        let look = Look { colour: true, ..plain(Format::Table).look };
        let cells = || vec![("state", Cell::toned("failed", Tone::Bad)), ("job", "j1".into())];
        assert_eq!(pairs(cells(), &look), "state  \u{1b}[31mfailed\u{1b}[0m\njob    j1\n");
        assert_eq!(pairs(cells(), &plain(Format::Table).look), "state  failed\njob    j1\n");
    }
}
