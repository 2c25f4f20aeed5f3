//! Tests only: the texts against the tables that the steps make, and their answers against the columns that readers ask for.
//!
//! A reader is run on a row that notes what it is asked for. What it takes for damage in one column is tried again with
//! another value there, and then once with each column empty, so that what it asks for only then is noted too.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use lull_shared::{
    codec,
    digest::OutlineBuilder,
    state::{Failure, PauseReason},
};

use super::{
    schema::{self, MIGRATIONS},
    shape::{Shape, words},
    statements::{ALL, Reader, Text},
};
use crate::store::{
    conformance::sample,
    record::PolicyRecord,
    rows::{Columns, Damaged},
};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Text,
    Bytes,
}

/// A row that holds whatever is asked for.
#[derive(Default)]
struct Recorder {
    asked: RefCell<BTreeMap<String, Kind>>,
    /// Which of the values each column has; the first if it is not here.
    values: BTreeMap<String, usize>,
    empty: BTreeSet<String>,
}

fn texts() -> Vec<String> {
    let json = |text: Result<String, serde_json::Error>| text.expect("our own types are JSON");
    let mut texts: Vec<String> =
        ["active", "succeeded", "queued", "open", "plain", "preview1", "output", "admin", "[]", "{}", "deb_amd64", "told"]
            .map(str::to_owned)
            .into();
    texts.push(json(serde_json::to_string(&sample::spec(2))));
    texts.push(json(serde_json::to_string(&PolicyRecord::default().book)));
    texts.push(json(serde_json::to_string(&lull_scheduler::rollout::Plan::default())));
    texts.push(json(serde_json::to_string(&Failure::Exit { code: 3 })));
    texts.push(json(serde_json::to_string(&PauseReason::Touched)));
    texts
}

fn some_bytes() -> Vec<Vec<u8>> {
    vec![vec![0; 32], vec![0; 168], codec::encode(&OutlineBuilder::default().finish().1)]
}

impl Recorder {
    fn note(&self, column: &str, kind: Kind) -> bool {
        let before = self.asked.borrow_mut().insert(column.to_owned(), kind);
        assert!(before.is_none_or(|before| before == kind), "{column} is read as {before:?} and as {kind:?}");
        !self.empty.contains(column)
    }

    fn value<T>(&self, column: &str, mut values: Vec<T>) -> T {
        let at = self.values.get(column).copied().unwrap_or(0);
        assert!(at < values.len(), "the reader takes no value for {column}");
        values.swap_remove(at)
    }
}

impl Columns for Recorder {
    fn int(&self, column: &str) -> Result<Option<i64>, Damaged> {
        Ok(self.note(column, Kind::Int).then(|| self.value(column, vec![1])))
    }

    fn text(&self, column: &str) -> Result<Option<String>, Damaged> {
        Ok(self.note(column, Kind::Text).then(|| self.value(column, texts())))
    }

    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, Damaged> {
        Ok(self.note(column, Kind::Bytes).then(|| self.value(column, some_bytes())))
    }
}

/// What a reader asks for when these columns are empty.
fn asked_without(reader: Reader, empty: &BTreeSet<String>) -> BTreeMap<String, Kind> {
    let mut row = Recorder { empty: empty.clone(), ..Recorder::default() };
    while let Err(damaged) = reader(&row) {
        let columns: Vec<&str> = damaged.column().split(" or ").collect();
        if columns.iter().any(|column| empty.contains(*column)) {
            break;
        }
        for column in columns {
            *row.values.entry(column.to_owned()).or_default() += 1;
        }
    }
    row.asked.into_inner()
}

/// All that a reader may ask for.
fn asked(reader: Reader) -> BTreeMap<String, Kind> {
    let mut asked = asked_without(reader, &BTreeSet::new());
    for column in asked.keys().cloned().collect::<Vec<_>>() {
        asked.extend(asked_without(reader, &[column].into()));
    }
    asked
}

/// The statements of a text.
fn statements(text: &str) -> Vec<Vec<String>> {
    let (mut statements, mut statement, mut depth) = (Vec::new(), Vec::new(), 0_i32);
    for word in words(text) {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            ";" if depth == 0 => {
                statements.push(std::mem::take(&mut statement));
                continue;
            }
            "ELSE" | "END" if depth == 0 && statement.is_empty() => continue,
            "BEGIN" if depth == 0 => {
                statements.push(std::mem::take(&mut statement));
                continue;
            }
            // What a condition stands before.
            "INSERT" | "UPDATE" | "DELETE" | "SELECT" | "SET"
                if depth == 0 && statement.first().is_some_and(|word| word == "IF") =>
            {
                statements.push(std::mem::take(&mut statement));
            }
            _ => {}
        }
        statement.push(word);
    }
    statements.push(statement);
    statements
}

/// The columns of each answer: their name, and what they are of if that is a plain column.
fn answers(text: &str) -> Vec<BTreeMap<String, Option<String>>> {
    let selects = |statement: &Vec<String>| {
        statement.first().is_some_and(|word| word == "SELECT")
            && !(statement.len() > 2 && statement[1].starts_with('@') && statement[2] == "=")
    };
    statements(text).into_iter().filter(selects).map(|statement| columns(&statement)).collect()
}

fn columns(select: &[String]) -> BTreeMap<String, Option<String>> {
    let (mut columns, mut item, mut depth) = (BTreeMap::new(), Vec::new(), 0_i32);
    let top = if select[1] == "TOP" { select.iter().position(|word| word == ")").expect("TOP (n)") } else { 0 };
    let end = [",".to_owned()];
    for word in select[top + 1..].iter().chain(&end) {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            "FROM" | "," if depth == 0 => {
                let last: &String = item.last().expect("a column");
                let name = last.rsplit('.').next().expect("a last part").to_owned();
                let plain = item.len() == 1 || (item.len() == 3 && item[1] == "AS");
                columns.insert(name, plain.then(|| item[0].clone()));
                item.clear();
                if word == "FROM" {
                    return columns;
                }
                continue;
            }
            _ => {}
        }
        item.push(word.clone());
    }
    columns
}

/// The tables that each alias of a text stands for.
fn aliases(words: &[String]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut aliases: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for three in words.windows(3) {
        if let (Some(table), "AS") = (three[0].strip_prefix("lull."), three[1].as_str()) {
            aliases.entry(&three[2]).or_default().insert(table);
        }
    }
    aliases
}

fn kind_of(sql: &str) -> Kind {
    match sql.split('(').next() {
        Some("bigint" | "int" | "smallint" | "bit") => Kind::Int,
        Some("varchar" | "nvarchar") => Kind::Text,
        Some("binary" | "varbinary") => Kind::Bytes,
        other => panic!("{other:?} is read by nobody"),
    }
}

fn own() -> impl Iterator<Item = &'static Text> {
    // What it asks of the server's own tables cannot be looked up here.
    ALL.iter().filter(|text| !text.sql.contains("sys."))
}

#[test]
fn every_answer_has_the_columns_that_its_reader_asks_for() {
    let shape = schema::shape(&MIGRATIONS);
    let mut checked = 0;
    for text in ALL {
        let (answers, words) = (answers(text.sql), words(text.sql));
        assert_eq!(answers.len(), text.readers.len(), "{}: a reader for each SELECT, none for others", text.name);
        for (number, (answer, reader)) in answers.iter().zip(text.readers).enumerate() {
            for (column, kind) in asked(*reader) {
                let Some(plain) = answer.get(&column) else {
                    panic!("{}: SELECT {number} has no column {column}, which its reader asks for", text.name);
                };
                checked += 1;
                let of = plain.as_ref().and_then(|plain| plain.split_once('.'));
                let Some((alias, name)) = of else { continue };
                for table in aliases(&words).get(alias).into_iter().flatten().filter_map(|table| shape.tables.get(*table)) {
                    let found = table.columns.get(name).map(|column| kind_of(&column.kind));
                    assert_eq!(found, Some(kind), "{}: {alias}.{name}", text.name);
                }
            }
        }
    }
    assert!(checked > 200, "readers ask for {checked} columns");
}

/// `alias.column`, and the columns that an INSERT or an UPDATE names.
fn check_columns(name: &str, text: &str, shape: &Shape) {
    let words = words(text);
    let has = |table: &str, column: &str| {
        let columns = &shape.tables.get(table).unwrap_or_else(|| panic!("{name}: there is no table {table}")).columns;
        columns.contains_key(column)
    };
    let mut aliases = aliases(&words);
    // A name that stands for rows of the text's own as well cannot be told apart here.
    let own = words.windows(3).filter(|three| three[0].starts_with('@') && three[1] == "AS").map(|three| three[2].as_str());
    own.for_each(|alias| drop(aliases.remove(alias)));
    for word in &words {
        if let Some((alias, column)) = word.split_once('.')
            && let Some(tables) = aliases.get(alias)
        {
            assert!(tables.iter().any(|table| has(table, column)), "{name}: {word}, of {tables:?}");
        }
    }
    for (at, _) in words.windows(2).enumerate().filter(|(_, pair)| pair[0] == "INTO" && pair[1].starts_with("lull.")) {
        let table = &words[at + 1]["lull.".len()..];
        let list = words[at + 2..].iter().skip(1).take_while(|word| *word != ")").filter(|word| *word != ",");
        for column in list {
            assert!(has(table, column), "{name}: {column} of {table}");
        }
    }
    for statement in statements(text).iter().filter(|statement| statement.first().is_some_and(|word| word == "UPDATE")) {
        let target = statement[1].as_str();
        let plain = target.strip_prefix("lull.").map(|table| BTreeSet::from([table]));
        let Some(tables) = plain.or_else(|| aliases.get(target).cloned()) else { continue };
        for at in 2..statement.len() - 1 {
            // A column that is set: behind SET or a comma, outside of brackets, before a sign of equality.
            let set =
                matches!(statement[at - 1].as_str(), "SET" | ",") && statement[at + 1] == "=" && !statement[at].starts_with('@');
            if set {
                let column = &statement[at];
                assert!(tables.iter().any(|table| has(table, column)), "{name}: {column} of {tables:?}");
            }
        }
    }
}

#[test]
fn every_text_names_columns_that_are_there() {
    let shape = schema::shape(&MIGRATIONS);
    for text in own() {
        check_columns(text.name, text.sql, &shape);
    }
    for (name, module) in shape.modules.iter().filter(|(_, module)| module.is_view) {
        check_columns(name, &module.text, &shape);
    }
}

#[test]
fn what_is_missing_is_found() {
    let text = "SELECT TOP (@P1) jobs.job_id, COUNT(DISTINCT a.x) AS many, CASE WHEN 1 = 1 THEN jobs.name END AS name
        FROM lull.jobs AS jobs; SELECT @x = leader.term FROM lull.leader AS leader; IF @x = 1 BEGIN SELECT 0 AS outcome; END;";
    let names = |columns: &BTreeMap<String, Option<String>>| columns.keys().cloned().collect::<Vec<_>>();
    assert_eq!(answers(text).iter().map(names).collect::<Vec<_>>(), [vec!["job_id", "many", "name"], vec!["outcome"]]);
    let reader: Reader = |row| match row.int("a")? {
        Some(_) => Ok(()),
        None => row.text("b").map(drop),
    };
    assert_eq!(asked(reader), [("a".to_owned(), Kind::Int), ("b".to_owned(), Kind::Text)].into());
    for wrong in ["SELECT jobs.colour FROM lull.jobs AS jobs;", "INSERT INTO lull.audit (at_us, action) SELECT 1, 2;"] {
        let shape = schema::shape(&MIGRATIONS);
        assert!(std::panic::catch_unwind(|| check_columns("wrong", wrong, &shape)).is_err(), "{wrong}");
    }
}

#[test]
fn every_text_begins_without_a_transaction_of_others() {
    for text in ALL {
        assert!(text.sql.starts_with("IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION;\n"), "{}", text.name);
    }
}
