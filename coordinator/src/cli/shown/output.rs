//! What commands print: data on standard output in the form that was asked for, all else on standard error.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use comfy_table::{Cell as TableCell, Color, ContentArrangement, Table, presets::NOTHING};
use jiff::{Timestamp, tz::TimeZone};
pub(crate) use lull_agent::cli::output::{Format, printable, printable_lines, sentence, versioned, with_options};
use lull_agent::cli::output::{for_programs, localised, short, times_in};
pub(crate) use lull_shared::amount::counted;
use lull_shared::state::{JobState, TaskState};
use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) use crate::api::standing::Tone;
use crate::{
    api::standing,
    cli::{
        exit::{Exit, Failure},
        reach::connect::takes,
        shown::columns::{self, Arranged},
    },
};

/// Below this many columns a table is not squeezed: the terminal breaks its lines.
const WIDTH_MIN: u16 = 40;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    pub(in crate::cli) text: String,
    tone: Tone,
}

impl Cell {
    /// A text with its tone.
    pub fn toned(text: impl ToString, tone: Tone) -> Self {
        Self { text: printable(&text.to_string()), tone }
    }

    /// Its moments in local time.
    fn local(self, look: &Look) -> Self {
        Self { text: look.localised(&self.text), tone: self.tone }
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
        Self::toned(state, standing::of_task(state))
    }
}

impl From<JobState> for Cell {
    fn from(state: JobState) -> Self {
        Self::toned(state, standing::of_job_state(state))
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
    /// What is today is told by it.
    pub now: fn() -> Timestamp,
    /// A moment was told: whoever reads it is told as well by which clock.
    pub told: Arc<AtomicBool>,
    /// Options that commands carry which are printed.
    pub options: Arc<[String]>,
}

impl Look {
    /// A moment in local time, as short as it can be told. The page that it stands on names the zone.
    pub fn time(&self, at: Timestamp) -> String {
        self.told.store(true, Ordering::Relaxed);
        short(at, (self.now)(), &self.zone)
    }

    /// A text of the coordinator's, its moments in local time. The page that it stands on names the zone.
    fn localised(&self, text: &str) -> String {
        let (local, moments) = localised(text, (self.now)(), &self.zone);
        if moments {
            self.told.store(true, Ordering::Relaxed);
        }
        self.workable(&local)
    }

    /// A sentence of the coordinator's that stands alone: its moments in local time, with the name of the zone.
    pub fn sentence(&self, text: &str) -> String {
        self.workable(&sentence(text, (self.now)(), &self.zone))
    }

    /// Commands in it work as they are printed.
    fn workable(&self, text: &str) -> String {
        with_options(text, "lull", &self.options, takes)
    }

    /// A page with the name of the zone below it, if it tells moments.
    fn page(&self, make: impl FnOnce() -> String) -> String {
        self.told.store(false, Ordering::Relaxed);
        let page = make();
        let page = self.localised(&page);
        match self.told.swap(false, Ordering::Relaxed) {
            true => format!("{page}\n{}\n", times_in((self.now)(), &self.zone)),
            false => page,
        }
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
    pub fn new(format: Format, colour: Colour, quiet: bool, options: &[String]) -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        // `comfy-table` asks the terminal for its width; some say nothing sensible.
        let width = Table::new().width().filter(|width| terminal && *width >= WIDTH_MIN);
        let (zone, now, told) = (TimeZone::system(), Timestamp::now as fn() -> Timestamp, Arc::default());
        Self { format, quiet, look: Look { zone, colour, width, now, told, options: options.into() } }
    }

    /// A list in the form that was asked for.
    pub fn list<R: Row>(&self, rows: &[R]) -> Result<(), Failure> {
        self.print(&self.listed(rows))
    }

    /// The text of a list.
    pub fn listed<R: Row>(&self, rows: &[R]) -> String {
        match self.format {
            Format::Table => {
                let cells = || rows.iter().map(|row| row.cells(&self.look)).collect();
                self.look.page(|| table(R::HEADINGS, cells(), &self.look))
            }
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
        for_programs(self.format, value, id).unwrap_or_else(|| self.look.page(|| describe(&self.look)))
    }

    /// Something was done: its value or its id for programs, the words for people on standard error.
    pub fn done(&self, deed: &Deed, words: impl AsRef<str>) -> Result<(), Failure> {
        self.note(words);
        self.one(deed, &deed.subject, |_| String::new())
    }

    /// Refuses every format of a command whose standard output is a function's own.
    pub fn check_plain(&self) -> Result<(), Failure> {
        if self.format == Format::Table {
            return Ok(());
        }
        Err(Failure::usage("standard output is the function's own here: no other format can be had of it")
            .hint("leave `--output` out; the exit code says how it ended"))
    }

    /// That the form suits something that is shown again and again.
    pub fn check_repeatable(&self) -> Result<(), Failure> {
        if self.format != Format::Json {
            return Ok(());
        }
        Err(Failure::usage("--watch shows one value after the other, and -o json is one value")
            .hint("use -o jsonl, which has one object a line"))
    }

    /// Data for standard output.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        write_out(text.as_bytes())
    }

    /// A remark for people, on standard error.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            // Nobody reads it if standard error is closed.
            let _ = writeln!(io::stderr(), "{}", printable_lines(&self.look.sentence(text.as_ref())));
        }
    }
}

/// Bytes for standard output. A reader that has gone (`| head`) ends the program quietly.
pub(crate) fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(Exit::Succeeded.code().into()),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {error}"))),
    }
}

/// What a command has done that has nothing to show.
#[derive(Debug, Clone, Serialize)]
pub struct Deed {
    /// A stable word: `cancelled`, `cordoned`, ...
    pub done: &'static str,
    /// What it was done to, by its id or its name.
    pub subject: String,
    /// How many things this concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affected: Option<u64>,
    /// What it was done to, by its name, where the subject is an id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Peers that have heard of it, and others that have not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unheard: Option<u64>,
}

impl Deed {
    /// This was done to that.
    pub fn new(done: &'static str, subject: impl ToString) -> Self {
        Self { done, subject: subject.to_string(), affected: None, name: None, heard: None, unheard: None }
    }

    /// And concerned so many things.
    pub fn affecting(self, affected: u64) -> Self {
        Self { affected: Some(affected), ..self }
    }
}

/// Aligned columns under headings, ended by a line end; an empty text for no rows.
pub(crate) fn table(headings: &[&str], rows: Vec<Vec<Cell>>, look: &Look) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> = rows.into_iter().map(|row| row.into_iter().map(|cell| cell.local(look)).collect()).collect();
    let Some(width) = look.width else {
        let rows = rows.iter().map(|row| row.iter().map(|cell| coloured(&cell.text, cell.tone, look)).collect());
        return trimmed(aligned(headings.iter().copied(), rows, look).lines());
    };
    let texts: Vec<Vec<&str>> = rows.iter().map(|row| row.iter().map(|cell| cell.text.as_str()).collect()).collect();
    let Arranged { columns, rows: shown } = columns::arranged(headings, &texts, width);
    let cells = shown.iter().zip(&rows).map(|(shown, row)| {
        let cells = shown.cells.iter().zip(&columns);
        cells.map(|(lines, column)| coloured(&lines.join("\n"), row[*column].tone, look)).collect()
    });
    let table = aligned(columns.iter().map(|column| headings[*column]), cells, look);
    let mut lines = table.lines();
    let mut all: Vec<String> = lines.by_ref().take(1).collect();
    for row in &shown {
        let height = row.cells.iter().map(Vec::len).max().unwrap_or(0);
        all.extend(lines.by_ref().take(height));
        all.extend(row.below.iter().cloned());
    }
    trimmed(all.into_iter())
}

/// The table as wide as it is.
fn aligned<'a>(headings: impl Iterator<Item = &'a str>, rows: impl Iterator<Item = Vec<TableCell>>, look: &Look) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if look.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headings.map(ToOwned::to_owned));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, columns::GAP));
    }
    table
}

/// Names and what belongs to them, one a line; a longer text goes on below itself.
pub(crate) fn pairs(pairs: Vec<(&str, Cell)>, look: &Look) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let room = look.width.map_or(usize::MAX, |columns| usize::from(columns).saturating_sub(width + 2).max(20));
    let mut text = String::new();
    for (name, cell) in pairs {
        let cell = cell.local(look);
        for (number, line) in columns::broken(&cell.text, room).iter().enumerate() {
            let name = if number == 0 { name } else { "" };
            let line = if look.colour { paint(line, cell.tone) } else { line.clone() };
            text.push_str(format!("{name:width$}  {line}").trim_end());
            text.push('\n');
        }
    }
    text
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

fn coloured(text: &str, tone: Tone, look: &Look) -> TableCell {
    let plain = TableCell::new(text);
    match tone {
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
pub(crate) mod tests {
    use lull_shared::shown::columns;

    use super::*;

    /// Plain, in UTC, without a terminal.
    pub(crate) fn plain(format: Format) -> Output {
        let now = || "2026-11-24T21:30:00Z".parse().expect("a moment");
        let (told, options) = (Arc::default(), Arc::default());
        Output { format, quiet: false, look: Look { zone: TimeZone::UTC, colour: false, width: None, now, told, options } }
    }

    /// The longest name that a machine can have, told apart from others by its end alone.
    pub(crate) fn worst_name(number: u64) -> String {
        format!("{:-<63}", format!("render-farm-berlin-office-3rd-floor-left-wing-workstation-{number:0>5}"))
    }

    /// The same in characters that take two columns each.
    pub(crate) fn wide_name(number: u64) -> String {
        format!("{}🦀-{number}", "夜間の画像処理".repeat(5))
    }

    /// Two hundred characters and more in words.
    pub(crate) fn worst_reason() -> String {
        let words = "its scratch folder cannot be used: /var/lib/lull-agent/scratch says that no space is left on the device ";
        words.repeat(2).trim_end().to_owned()
    }

    /// That a list of the worst that can be is whole and in its place at every width.
    pub(crate) fn check_fits<R: Row>(rows: &[R], state: &str, states: &[&str]) {
        for width in [60, 80, 100, 200] {
            let out = Output { look: Look { width: Some(width), ..plain(Format::Table).look }, ..plain(Format::Table) };
            let text = out.listed(rows);
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines.iter().all(|line| columns(line) <= width.into()), "at {width}:\n{text}");
            let at = lines[0].find(state).unwrap_or_else(|| panic!("no {state} at {width}:\n{text}"));
            let first: Vec<usize> = rows
                .iter()
                .map(|row| {
                    let id = row.cells(&out.look)[0].text.clone();
                    let is_its = |line: &&str| line.split(' ').next() == Some(id.as_str());
                    lines.iter().position(is_its).unwrap_or_else(|| panic!("no {id} at {width}:\n{text}"))
                })
                .collect();
            for (number, (row, begin)) in rows.iter().zip(&first).enumerate() {
                let word: String = from_column(lines[*begin], at).chars().take_while(|c| *c != ' ').collect();
                assert_eq!(word, states[number], "at {width}:\n{text}");
                let end = first.get(number + 1).copied().unwrap_or(lines.len());
                // What a name or a reason says stands in the lines of its row, whatever stands beside it.
                let block = lines[*begin..end].join(" ");
                for (cell, heading) in row.cells(&out.look).iter().zip(R::HEADINGS) {
                    let is_sentence = cell.text.contains(' ') && cell.text.len() > 60;
                    let is_told = match is_sentence {
                        true => cell.text.split(' ').all(|word| block.contains(word)),
                        false => !lines[0].contains(heading) || pieces(&cell.text, &lines[*begin..end]),
                    };
                    assert!(is_told, "`{}` is not whole at {width}:\n{text}", cell.text);
                }
            }
        }
    }

    /// What of a line stands from this column of the terminal on.
    fn from_column(line: &str, column: usize) -> &str {
        let at = line.char_indices().map(|(at, _)| at).find(|at| columns(&line[..*at]) >= column);
        at.map_or("", |at| &line[at..])
    }

    /// Whether a name stands in these lines, broken into pieces below each other, each of some length.
    fn pieces(name: &str, lines: &[&str]) -> bool {
        let mut rest = name;
        for line in lines {
            let mut ends = (1..=rest.len()).rev().filter(|end| rest.is_char_boundary(*end));
            let most = ends.find(|end| line.contains(&rest[..*end])).unwrap_or(0);
            if most == 0 {
                break;
            }
            rest = &rest[most..];
        }
        rest.is_empty()
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
        assert_eq!(plain(Format::Table).listed(&things()), "ID    NAME\nt1    a\nt200  bad\\u{1b}[2Jname\n");
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

    fn amsterdam() -> Look {
        Look { zone: TimeZone::get("Europe/Amsterdam").expect("a zone"), ..plain(Format::Table).look }
    }

    #[test]
    fn a_table_tells_moments_in_local_time_and_its_page_says_whose() {
        let look = amsterdam();
        let told = || table(&["REASON"], vec![vec!["it opens at 2026-11-24T22:00:00Z".into()]], &look);
        assert_eq!(told(), "REASON\nit opens at 23:00:00\n");
        assert_eq!(look.page(told), "REASON\nit opens at 23:00:00\n\ntimes in Europe/Amsterdam\n");
        assert_eq!(look.time("2026-11-24T21:30:05Z".parse().expect("a moment")), "22:30:05");
        assert_eq!(look.page(|| "nothing of the kind\n".into()), "nothing of the kind\n");
        assert_eq!(
            look.page(|| format!("{}\n", look.time("2026-11-24T21:30:05Z".parse().expect("a moment")))),
            "22:30:05\n\ntimes in Europe/Amsterdam\n"
        );
        assert_eq!(look.page(|| "as data 2026-11-24T22:00:00Z\n".into()), "as data 23:00:00\n\ntimes in Europe/Amsterdam\n");
    }

    #[test]
    fn a_sentence_that_stands_alone_names_the_zone_once() {
        let look = amsterdam();
        let said = "it opens at 2026-11-24T22:00:00Z and closes at 2026-11-25T05:00:00Z";
        assert_eq!(look.sentence(said), "it opens at 23:00:00 Europe/Amsterdam and closes at 06:00:00");
        assert_eq!(look.page(|| "nothing\n".into()), "nothing\n", "it is no matter of the page's");
    }

    #[test]
    fn commands_on_a_page_carry_the_options_that_were_given() {
        let look = Look { options: ["--data /x".to_owned()].into(), ..plain(Format::Table).look };
        let cells = || vec![vec!["look at `lull job list`".into()]];
        assert_eq!(look.page(|| table(&["REASON"], cells(), &look)), "REASON\nlook at `lull --data /x job list`\n");
        assert_eq!(look.sentence("`lull server run` starts one"), "`lull --data /x server run` starts one");
        assert_eq!(look.sentence("`lull run` needs none"), "`lull run` needs none");
    }

    #[test]
    fn programs_get_moments_in_utc_whatever_the_zone() {
        let out = Output { format: Format::Json, look: amsterdam(), quiet: false };
        let text = out.shown(&serde_json::json!({ "at": "2026-11-24T22:00:00Z" }), "x", |_| unreachable!("for people"));
        assert!(text.contains("2026-11-24T22:00:00Z") && !text.contains("Amsterdam"), "{text}");
    }

    #[test]
    fn a_state_is_never_broken_and_a_long_text_goes_on_below_itself() {
        let look = Look { width: Some(40), ..plain(Format::Table).look };
        let row = |state: &str| vec!["j1".into(), "a-name".into(), state.into(), "a reason of some length in words".into()];
        let text = table(&["JOB", "NAME", "STATE", "REASON"], vec![row("waiting"), row("succeeded")], &look);
        let expected = "\
JOB  NAME    STATE
j1   a-name  waiting
    a reason of some length in words
j1   a-name  succeeded
    a reason of some length in words
";
        assert_eq!(text, expected);
        let told = pairs(vec![("state", "running".into()), ("why", "one two three four five six seven eight".into())], &look);
        assert_eq!(told, "state  running\nwhy    one two three four five six seven\n       eight\n");
    }

    #[test]
    fn what_was_done_is_one_value_too() {
        let deed = Deed::new("cancelled", "j42").affecting(3);
        let text = plain(Format::Json).shown(&deed, "j42", |_| String::new());
        let value: Value = serde_json::from_str(&text).expect("one value");
        assert_eq!(value, serde_json::json!({"schema_version": 1, "done": "cancelled", "subject": "j42", "affected": 3}));
        assert!(plain(Format::Json).check_repeatable().is_err() && plain(Format::Jsonl).check_repeatable().is_ok());
    }
}
