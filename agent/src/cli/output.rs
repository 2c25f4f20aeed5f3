//! The forms of what commands print: the same for `lull-agent` and, which takes them from here, for `lull`.
//!
//! For programs every command has one value: an object with `schema_version` in front. People get a text, and remarks
//! on standard error.

use std::io::{self, Write as _};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use lull_shared::{
    shown::{self, columns},
    zone::Zone,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::CliError;

/// The version of every JSON value that a command prints. It rises when a field changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

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

/// A moment for people, as short as it can be told: the time within a day, the day of this year, or all of it.
pub fn short(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    const DAY: SignedDuration = SignedDuration::from_hours(24);
    let is_near = at.duration_since(now).abs() < DAY;
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let form = match (is_near, at.year() == now.year()) {
        (true, _) => "%H:%M:%S",
        (false, true) => "%b %-d %H:%M",
        (false, false) => "%Y-%m-%d %H:%M",
    };
    at.strftime(form).to_string()
}

/// By which clock a page tells its moments.
pub fn times_in(now: Timestamp, zone: &TimeZone) -> String {
    format!("times in {}", zone_name(now, zone))
}

/// What people call a time zone; one without a name is told by how far it is ahead.
fn zone_name(now: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(now);
    match Zone::named(zone.clone()) {
        Some(named) => named.to_string(),
        None if offset.is_zero() => "UTC".into(),
        None => now.to_zoned(zone.clone()).strftime("UTC%:z").to_string(),
    }
}

/// A text for people with its moments, which are told in UTC where they are data, made short and local; and whether it has
/// any. Whatever it stands on names the zone, as [`times_in`] does.
pub fn localised(text: &str, now: Timestamp, zone: &TimeZone) -> (String, bool) {
    retold(text, |at, _| short(at, now, zone))
}

/// The same for a sentence that stands alone: it names the zone behind the first of its moments.
pub fn sentence(text: &str, now: Timestamp, zone: &TimeZone) -> String {
    let told = |at, is_first| match is_first {
        true => format!("{} {}", short(at, now, zone), zone_name(now, zone)),
        false => short(at, now, zone),
    };
    retold(text, told).0
}

/// A text with its moments told anew, of which it is said whether it is the first; and whether it has any.
fn retold(text: &str, tell: impl Fn(Timestamp, bool) -> String) -> (String, bool) {
    // `2026-11-24T06:00:00Z`, the form of every moment in data.
    const SHORTEST: usize = 20;
    let mut local = String::with_capacity(text.len());
    let (mut rest, mut some) = (text, false);
    while let Some(sign) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(sign);
        let length = from.find(|c: char| !c.is_ascii_digit() && !"-T:.Z".contains(c)).unwrap_or(from.len());
        let word = from[..length].trim_end_matches(['.', ':', '-']);
        let moment = (word.len() >= SHORTEST).then(|| word.parse::<Timestamp>().ok()).flatten();
        local.push_str(before);
        match moment {
            Some(at) => {
                local.push_str(&tell(at, !some));
                some = true;
            }
            None => local.push_str(word),
        }
        rest = &from[word.len()..];
    }
    (local + rest, some)
}

/// A text without anything that a terminal would obey, or that nobody would see.
pub fn printable(text: &str) -> String {
    shown::escaped(text).into_owned()
}

/// The same for a text of several lines.
pub fn printable_lines(text: &str) -> String {
    shown::escaped_lines(text).into_owned()
}

/// A text in which the commands of this program carry the options that it was given itself, so that each works as it is
/// printed; `takes` says whether a command, by its first word, takes an option, by its name.
pub fn with_options(text: &str, program: &str, options: &[String], takes: impl Fn(&str, &str) -> bool) -> String {
    if options.is_empty() || !text.contains('`') {
        return text.to_owned();
    }
    let mut whole = String::with_capacity(text.len());
    for (number, part) in text.split('`').enumerate() {
        whole.push_str(if number > 0 { "`" } else { "" });
        let command = part.strip_prefix(program).filter(|_| number % 2 == 1);
        // One that begins with an option has what it needs.
        let command = command.filter(|rest| rest.starts_with(' ') && !rest.starts_with(" --") && !rest.ends_with("--help"));
        let Some(rest) = command else {
            whole.push_str(part);
            continue;
        };
        whole.push_str(program);
        let first = rest.split_whitespace().next().unwrap_or_default();
        for option in options {
            let name = option.split(' ').next().unwrap_or_default();
            if takes(first, name) && !rest.split([' ', '=']).any(|word| word == name) {
                whole.extend([" ", option.as_str()]);
            }
        }
        whole.push_str(rest);
    }
    whole
}

/// An option with its value as it is typed.
pub fn typed(name: &str, value: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_./:\\=@%+-,".contains(c);
    match value.chars().all(plain) && !value.is_empty() {
        true => format!("{name} {value}"),
        false if cfg!(windows) => format!("{name} \"{value}\""),
        false => format!("{name} '{}'", value.replace('\'', "'\\''")),
    }
}

/// One thing for programs; `None`: people are to read it.
pub fn for_programs<T: Serialize>(format: Format, value: &T, id: &str) -> Option<String> {
    match format {
        Format::Table => None,
        Format::Json => Some(format!("{:#}\n", versioned(value))),
        Format::Jsonl => Some(format!("{}\n", serde_json::to_value(value).unwrap_or_default())),
        Format::Id => Some(format!("{id}\n")),
    }
}

/// What a command of `lull-agent` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output<'a> {
    pub(super) format: Format,
    /// The options that were typed for the whole program, which the commands that it names carry on.
    pub(super) options: &'a [String],
}

impl Output<'_> {
    /// One thing: its value or its id for programs, the text that `describe` makes for people.
    pub(super) fn one<T: Serialize>(self, value: &T, id: &str, describe: impl FnOnce() -> String) -> Result<(), CliError> {
        let local = || {
            let (now, zone) = (Timestamp::now(), TimeZone::system());
            let text = match localised(&describe(), now, &zone) {
                (text, true) => format!("{text}\n{}\n", times_in(now, &zone)),
                (text, false) => text,
            };
            match terminal_size::terminal_size_of(io::stdout()) {
                Some((width, _)) => text.lines().flat_map(|line| folded(line, width.0.into())).map(|line| line + "\n").collect(),
                None => text,
            }
        };
        print(&for_programs(self.format, value, id).unwrap_or_else(local))
    }

    /// Something was done: its value or its id for programs, and the words for people on standard error.
    pub(super) fn done<T: Serialize>(self, value: &T, id: &str, words: &str) -> Result<(), CliError> {
        // Nobody reads it if standard error is closed.
        let _ = writeln!(io::stderr(), "{}", self.told(words));
        self.one(value, id, String::new)
    }

    /// Words for people: times as they read them, and commands with what was typed.
    pub(super) fn told(self, words: &str) -> String {
        let words = sentence(words, Timestamp::now(), &TimeZone::system());
        with_options(&words, "lull-agent", self.options, |_, _| true)
    }
}

/// A line that is longer than its terminal, broken at blanks; the rest stands where its last column begins.
fn folded(line: &str, width: usize) -> Vec<String> {
    let gap = |at: &usize| matches!(line.as_bytes()[at - 2..=*at], [b' ', b' ', other] if other != b' ');
    let indent = (2..line.len()).rfind(|at| *at <= width / 2 && gap(at)).unwrap_or(0);
    let (first, rest) = line.split_at(indent);
    let mut lines = vec![first.to_owned()];
    for word in rest.split(' ') {
        let last = lines.last_mut().expect("one at least");
        let begun = last.len() > indent;
        if begun && columns(last) + 1 + columns(word) > width {
            lines.push(" ".repeat(indent) + word);
        } else {
            last.push_str(if begun { " " } else { "" });
            last.push_str(word);
        }
    }
    lines
}

fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // A reader that has gone (`| head`) has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CliError::Failed(format!("standard output cannot be written: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_but_the_table_is_a_value_for_programs() {
        let value = json!({ "agent": "a3" });
        let text = |format| for_programs(format, &value, "a3");
        assert_eq!(text(Format::Table), None);
        let whole: Value = serde_json::from_str(&text(Format::Json).expect("a value")).expect("JSON");
        assert_eq!(whole, json!({ "schema_version": 1, "agent": "a3" }));
        assert_eq!(text(Format::Jsonl).as_deref(), Some("{\"agent\":\"a3\"}\n"));
        assert_eq!(text(Format::Id).as_deref(), Some("a3\n"));
    }

    #[test]
    fn moments_are_short_and_local_wherever_they_are_said() {
        let zone = TimeZone::get("Europe/Amsterdam").expect("a zone");
        let moment = |text: &str| text.parse::<Timestamp>().expect("a moment");
        let now = moment("2026-11-24T21:30:00Z");
        let time = |text: &str| short(moment(text), now, &zone);
        assert_eq!(time("2026-11-24T21:30:05Z"), "22:30:05");
        assert_eq!(time("2026-11-24T05:00:00Z"), "06:00:00", "always to the second");
        assert_eq!(time("2026-11-24T23:30:05Z"), "00:30:05", "within a day, whatever the date");
        assert_eq!(time("2026-11-23T21:30:01Z"), "22:30:01");
        assert_eq!(time("2026-11-23T21:30:00Z"), "Nov 23 22:30", "a day ago");
        assert_eq!(time("2026-11-25T21:30:00Z"), "Nov 25 22:30", "in a day");
        assert_eq!(time("2025-11-24T05:00:00Z"), "2025-11-24 06:00");
        let said = "its window opens at 2026-11-25T21:40:00Z; 3 of 10.5 at 2026-11-24T20:00:00.123Z, in j42.7-x";
        let told = "its window opens at Nov 25 22:40; 3 of 10.5 at 21:00:00, in j42.7-x";
        assert_eq!(localised(said, now, &zone), (told.to_owned(), true));
        let alone = "its window opens at Nov 25 22:40 Europe/Amsterdam; 3 of 10.5 at 21:00:00, in j42.7-x";
        assert_eq!(sentence(said, now, &zone), alone);
        for text in ["", "7", "2026-11-24", "é 2026-99-99T99:99:99Z.", "1.2.3:"] {
            assert_eq!(localised(text, now, &zone), (text.to_owned(), false));
        }
    }

    #[test]
    fn a_zone_without_a_name_is_told_by_how_far_it_is_ahead() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(times_in(now, &TimeZone::fixed(jiff::tz::offset(5))), "times in UTC+05:00");
        assert_eq!(times_in(now, &TimeZone::unknown()), "times in UTC");
        assert_eq!(times_in(now, &TimeZone::UTC), "times in UTC");
        assert_eq!(times_in(now, &TimeZone::get("Etc/UTC").expect("a zone")), "times in UTC");
    }

    #[test]
    fn commands_carry_the_options_that_were_given() {
        let options = [typed("--data", "/srv/my mesh"), typed("--server", "http://x:1")];
        let takes = |first: &str, name: &str| first != "login" && (first != "server" || name == "--data");
        let told = |text: &str| with_options(text, "lull", &options, takes);
        for (text, expected) in [
            ("`lull job list` shows it", "`lull --data '/srv/my mesh' --server http://x:1 job list` shows it"),
            ("`lull server run` and `lull login URL`", "`lull --data '/srv/my mesh' server run` and `lull login URL`"),
            ("`lull job list --data /y`", "`lull --server http://x:1 job list --data /y`"),
            (
                "`lull --help`, `lull-agent run`, lull job list, `--data`",
                "`lull --help`, `lull-agent run`, lull job list, `--data`",
            ),
            ("`x` is not; `lull` is", "`x` is not; `lull` is"),
        ] {
            assert_eq!(told(text), expected);
            assert_eq!(told(&told(text)), expected, "once is enough");
        }
        assert_eq!(with_options("`lull job list`", "lull", &[], takes), "`lull job list`");
    }

    #[test]
    fn a_line_that_is_too_long_goes_on_below_its_last_column() {
        let line = "state        paused: nothing on it sees whether its owner is there";
        let expected = ["state        paused: nothing on it", "             sees whether its owner", "             is there"];
        assert_eq!(folded(line, 36), expected);
        assert_eq!(folded("short", 36), ["short"]);
        assert_eq!(folded("", 36), [""]);
        assert_eq!(
            folded("idle   10m  after so long without input", 30),
            ["idle   10m  after so long", "            without input"]
        );
    }
}
