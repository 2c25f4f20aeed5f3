//! The forms of what commands print: the same for `lull-agent` and, which takes them from here, for `lull`.
//!
//! For programs every command has one value: an object with `schema_version` in front. People get a text, and remarks
//! on standard error.

use std::io::{self, Write as _};

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
pub(super) struct Output(pub Format);

impl Output {
    /// One thing: its value or its id for programs, the text that `describe` makes for people.
    pub fn one<T: Serialize>(self, value: &T, id: &str, describe: impl FnOnce() -> String) -> Result<(), CliError> {
        print(&for_programs(self.0, value, id).unwrap_or_else(describe))
    }

    /// Something was done: its value or its id for programs, and the words for people on standard error.
    pub fn done<T: Serialize>(self, value: &T, id: &str, words: &str) -> Result<(), CliError> {
        // Nobody reads it if standard error is closed.
        let _ = writeln!(io::stderr(), "{words}");
        self.one(value, id, String::new)
    }
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
}
