//! What a database has: tables with their columns and constraints, indexes and views. The shape that it should have is
//! read from the text of the steps themselves, so that it is written down once.
//!
//! The reader knows the statements that steps are made of and refuses any other: a test has it read every step.

use std::collections::{BTreeMap, BTreeSet};

/// The objects of schema `lull`, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Shape {
    pub tables: BTreeMap<String, Table>,
    /// Views, and functions and procedures, with their text.
    pub modules: BTreeMap<String, Module>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Table {
    pub columns: BTreeMap<String, Column>,
    pub checks: BTreeSet<String>,
    pub foreign_keys: BTreeMap<String, ForeignKey>,
    /// Those of keys and unique constraints too.
    pub indexes: BTreeMap<String, Index>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// `nvarchar(256)`, `varbinary(max)`, `bigint`.
    pub kind: String,
    pub nullable: bool,
}

/// A reference to another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForeignKey {
    pub columns: Vec<String>,
    pub table: String,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Index {
    pub unique: bool,
    pub columns: Vec<String>,
    pub included: BTreeSet<String>,
    /// The words of its filter.
    pub filter: Option<String>,
}

/// A view or a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    pub is_view: bool,
    /// Without comments and with one space between words.
    pub text: String,
}

impl Shape {
    /// Reads batches, in order. Says which one is not understood.
    pub(super) fn of(batches: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, String> {
        let mut shape = Self::default();
        for batch in batches {
            let words = words(batch.as_ref());
            shape.apply(&words).ok_or_else(|| words.join(" "))?;
        }
        Ok(shape)
    }

    /// The names of the views.
    pub(super) fn views(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().filter(|(_, module)| module.is_view).map(|(name, _)| name.as_str())
    }

    fn apply(&mut self, words: &[String]) -> Option<()> {
        let head: Vec<String> = words.iter().take(3).map(|word| word.to_ascii_uppercase()).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        match head[..] {
            ["CREATE", "TABLE", _] => {
                let table = self.tables.entry(own(words.get(2)?)?).or_default();
                list(&words[3..])?.0.iter().try_for_each(|item| table.add(item))?;
            }
            ["ALTER", "TABLE", _] if words.get(3)? == "ADD" => {
                let table = self.tables.get_mut(&own(words.get(2)?)?)?;
                items(&words[4..]).iter().try_for_each(|item| table.add(item))?;
            }
            ["CREATE", "INDEX", _] => self.index(&words[2..], false)?,
            ["CREATE", "UNIQUE", "INDEX"] => self.index(&words[3..], true)?,
            ["CREATE", kind @ ("VIEW" | "FUNCTION" | "PROCEDURE"), _] => {
                self.modules.insert(own(words.get(2)?)?, Module { is_view: kind == "VIEW", text: words.join(" ") });
            }
            ["DROP", "VIEW" | "FUNCTION" | "PROCEDURE", _] => {
                self.modules.remove(&own(words.get(2)?)?)?;
            }
            ["DROP", "INDEX", _] if words.get(3)? == "ON" => {
                self.tables.get_mut(&own(words.get(4)?)?)?.indexes.remove(words.get(2)?)?;
            }
            // Rows.
            ["INSERT", "INTO", _] | ["UPDATE", ..] => {}
            _ => return None,
        }
        Some(())
    }

    /// `NAME ON lull.TABLE (COLUMNS) INCLUDE (COLUMNS) WHERE .. WITH (..)`.
    fn index(&mut self, words: &[String], unique: bool) -> Option<()> {
        let [name, on, table, rest @ ..] = words else { return None };
        if on != "ON" {
            return None;
        }
        let (columns, mut rest) = names(rest)?;
        let mut index = Index { unique, columns, ..Index::default() };
        if rest.first().is_some_and(|word| word == "INCLUDE") {
            let (included, after) = names(&rest[1..])?;
            (index.included, rest) = (included.into_iter().collect(), after);
        }
        if rest.first().is_some_and(|word| word == "WHERE") {
            let end = rest.iter().position(|word| word == "WITH" || word == ";").unwrap_or(rest.len());
            index.filter = Some(rest[1..end].join(" "));
        }
        self.tables.get_mut(&own(table)?)?.indexes.insert(name.clone(), index);
        Some(())
    }
}

impl Table {
    /// A column or a constraint.
    fn add(&mut self, item: &[String]) -> Option<()> {
        let words: Vec<&str> = item.iter().map(String::as_str).collect();
        match words[..] {
            ["CONSTRAINT", name, "PRIMARY", "KEY", ..] => self.key(name, &item[4..]),
            ["CONSTRAINT", name, "UNIQUE", ..] => self.key(name, &item[3..]),
            ["CONSTRAINT", name, "FOREIGN", "KEY", ..] => {
                let (columns, rest) = names(&item[4..])?;
                let [references, table, ..] = rest else { return None };
                (references == "REFERENCES").then_some(())?;
                self.foreign_keys.insert(name.to_owned(), ForeignKey { columns, table: own(table)? });
                Some(())
            }
            ["CONSTRAINT", name, "CHECK", ..] => {
                self.checks.insert(name.to_owned());
                Some(())
            }
            [name, kind, ref rest @ ..] => {
                let mut kind = kind.to_owned();
                if let ["(", size, ")", ..] = rest {
                    kind = format!("{kind}({size})");
                }
                let nullable = !rest.windows(2).any(|pair| pair == ["NOT", "NULL"]);
                for (at, _) in rest.iter().enumerate().filter(|(_, word)| **word == "CONSTRAINT") {
                    if rest.get(at + 2) == Some(&"CHECK") {
                        self.checks.insert((*rest.get(at + 1)?).to_owned());
                    }
                }
                self.columns.insert(name.to_owned(), Column { kind, nullable });
                Some(())
            }
            _ => None,
        }
    }

    fn key(&mut self, name: &str, rest: &[String]) -> Option<()> {
        let columns = names(rest)?.0;
        self.indexes.insert(name.to_owned(), Index { unique: true, columns, ..Index::default() });
        Some(())
    }
}

/// The name of an object of ours.
fn own(word: &str) -> Option<String> {
    word.strip_prefix("lull.").map(str::to_owned)
}

/// What is in the brackets that a text begins with, cut at its commas, and what follows.
fn list(words: &[String]) -> Option<(Vec<Vec<String>>, &[String])> {
    if words.first().is_none_or(|word| word != "(") {
        return None;
    }
    let mut depth = 0_u32;
    let end = words.iter().position(|word| {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    Some((items(&words[1..end]), &words[end + 1..]))
}

fn items(words: &[String]) -> Vec<Vec<String>> {
    let (mut items, mut item, mut depth) = (Vec::new(), Vec::new(), 0_i32);
    for word in words {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            ";" => continue,
            "," if depth == 0 => {
                items.push(std::mem::take(&mut item));
                continue;
            }
            _ => {}
        }
        item.push(word.clone());
    }
    items.push(item);
    items
}

fn names(words: &[String]) -> Option<(Vec<String>, &[String])> {
    let (items, rest) = list(words)?;
    Some((items.into_iter().filter_map(|item| item.into_iter().next()).collect(), rest))
}

/// The words and signs of a text, without comments.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '\'' => closing(rest),
            c if is_of_word(c) => rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (word, after) = rest.split_at(length);
        if !first.is_whitespace() && !word.starts_with("--") {
            words.push(word.to_owned());
        }
        rest = after;
    }
    words
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '@' | '.' | '#' | '$')
}

/// How long the string is that a text begins with; two quotes stand for one.
fn closing(text: &str) -> usize {
    let mut quotes = text.char_indices().skip(1).filter(|(_, c)| *c == '\'').map(|(at, _)| at).peekable();
    while let Some(at) = quotes.next() {
        if quotes.next_if(|next| *next == at + 1).is_none() {
            return at + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::{super::schema::MIGRATIONS, *};

    impl Table {
        /// Whether rows with given values in these columns are found without reading all.
        fn finds(&self, columns: &[String]) -> bool {
            let sought: BTreeSet<&String> = columns.iter().collect();
            self.indexes.values().any(|index| {
                // A filter leaves nothing out if all it wants is that the value is there.
                let whole =
                    index.filter.as_ref().is_none_or(|filter| columns.iter().any(|c| *filter == format!("{c} IS NOT NULL")));
                let leading = index.columns.iter().take(columns.len()).collect::<BTreeSet<_>>() == sought;
                let unique_within = index.unique && index.columns.iter().all(|column| sought.contains(column));
                whole && (leading || unique_within)
            })
        }
    }

    fn shape() -> Shape {
        super::super::schema::shape(&MIGRATIONS)
    }

    #[test]
    fn every_step_is_understood() {
        let shape = shape();
        let tasks = &shape.tables["tasks"];
        assert_eq!(tasks.columns["state"], Column { kind: "varchar(16)".into(), nullable: false });
        assert_eq!(tasks.columns["agent_id"], Column { kind: "bigint".into(), nullable: true });
        assert_eq!(tasks.foreign_keys["fk_tasks_job"], ForeignKey { columns: vec!["job_id".into()], table: "jobs".into() });
        assert!(tasks.checks.contains("ck_tasks_place"));
        assert_eq!(tasks.indexes["ix_tasks_open"].filter.as_deref(), Some("ended_us IS NULL"));
        assert_eq!(tasks.indexes["pk_tasks"].columns, ["job_id", "task_index"]);
        assert!(shape.views().any(|view| view == "failure_list") && !shape.views().any(|view| view == "utc"));
    }

    #[test]
    fn later_steps_change_what_was_there() {
        let changed = Shape::of([
            "CREATE TABLE lull.a (x int NOT NULL CONSTRAINT ck_x CHECK (x > 0), CONSTRAINT pk_a PRIMARY KEY (x));",
            "CREATE INDEX ix_a ON lull.a (x);",
            "DROP INDEX ix_a ON lull.a;",
            "ALTER TABLE lull.a ADD y nvarchar(max) NULL, CONSTRAINT ck_a CHECK (y IS NULL OR y = 'it''s, --');",
            "CREATE VIEW lull.b AS SELECT a.x FROM lull.a AS a;",
            "DROP VIEW lull.b;",
        ]);
        let changed = changed.expect("it is understood");
        assert_eq!(changed.tables["a"].columns["y"], Column { kind: "nvarchar(max)".into(), nullable: true });
        assert_eq!(changed.tables["a"].indexes.len(), 1);
        assert!(["ck_a", "ck_x"].iter().all(|name| changed.tables["a"].checks.contains(*name)) && changed.modules.is_empty());
        assert_eq!(Shape::of(["EXEC something;"]), Err("EXEC something ;".into()));
    }

    /// But those that each task would change, to rows that are never deleted.
    #[test]
    fn every_foreign_key_is_found_by_an_index() {
        for (name, table) in &shape().tables {
            for (key, foreign) in &table.foreign_keys {
                let spared = matches!(key.as_str(), "fk_tasks_agent" | "fk_attempts_agent");
                assert!(spared || table.finds(&foreign.columns), "{name} has no index for {key}");
            }
        }
    }

    /// The same columns as in the embedded store, for the reason that the schema gives.
    #[test]
    fn every_reference_is_a_foreign_key_or_says_why_not() {
        let mut found = Vec::new();
        for (name, table) in &shape().tables {
            for column in table.columns.keys().filter(|column| column.ends_with("_id")) {
                let is_key = table.foreign_keys.values().any(|key| key.columns.contains(column));
                let names_its_own_row =
                    table.indexes.get(&format!("pk_{name}")).is_some_and(|key| key.columns == [column.clone()]);
                if !is_key && !names_its_own_row {
                    found.push(format!("{name}.{column}"));
                }
            }
        }
        assert_eq!(found, ["jobs.owner_id"]);
    }

    /// Otherwise the server looks at the row itself before it trusts the filter.
    #[test]
    fn a_filtered_index_holds_what_it_is_filtered_by() {
        for (name, table) in &shape().tables {
            for (index_name, index) in &table.indexes {
                let words = index.filter.as_deref().map(words).unwrap_or_default();
                for column in words.iter().filter(|word| table.columns.contains_key(*word)) {
                    assert!(
                        index.columns.contains(column) || index.included.contains(column),
                        "{index_name} of {name}: {column}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_unique_is_kept_apart_from_what_is_not() {
        let table = Table {
            indexes: [
                ("a".to_owned(), Index { columns: vec!["x".into(), "y".into()], ..Index::default() }),
                ("b".to_owned(), Index { columns: vec!["z".into()], filter: Some("w IS NULL".into()), ..Index::default() }),
            ]
            .into(),
            ..Table::default()
        };
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(table.finds(&columns(&["x"])) && table.finds(&columns(&["y", "x"])));
        assert!(!table.finds(&columns(&["y"])) && !table.finds(&columns(&["z"])) && !table.finds(&columns(&["x", "y", "z"])));
    }

    /// <https://learn.microsoft.com/sql/t-sql/language-elements/reserved-keywords-transact-sql>: those of Transact-SQL and
    /// of ODBC, as far as they could be a column's name.
    #[test]
    fn no_column_is_called_by_a_reserved_word() {
        const RESERVED: &str = "ABSOLUTE ACTION ADD ALL ALTER AND ANY ARE AS ASC AT AUTHORIZATION BACKUP BEGIN BETWEEN BIT BOTH \
            BREAK BROWSE BULK BY CASE CATALOG CHAR CHECK CHECKPOINT CLOSE CLUSTERED COLUMN COMMIT CONNECT CONNECTION CONSTRAINT \
            CONTAINS CONTINUE CONVERT COUNT CREATE CROSS CURRENT CURSOR DATABASE DATE DAY DBCC DECIMAL DECLARE DEFAULT DELETE \
            DENY DESC DESCRIBE DISK DISTINCT DISTRIBUTED DOMAIN DOUBLE DROP DUMP ELSE END ERRLVL ESCAPE EXCEPT EXCEPTION EXEC \
            EXECUTE EXISTS EXIT EXTERNAL EXTRACT FALSE FETCH FILE FILLFACTOR FIRST FLOAT FOR FOREIGN FOUND FREETEXT FROM FULL \
            FUNCTION GET GLOBAL GO GOTO GRANT GROUP HAVING HOLDLOCK HOUR IDENTITY IF IMMEDIATE IN INCLUDE INDEX INDICATOR INNER \
            INPUT INSERT INT INTEGER INTERSECT INTERVAL INTO IS ISOLATION JOIN KEY KILL LANGUAGE LAST LEADING LEFT LEVEL LIKE \
            LINENO LOAD LOCAL LOWER MATCH MAX MERGE MIN MINUTE MODULE MONTH NAMES NATIONAL NATURAL NEXT NO NOCHECK NONE NOT NULL \
            NULLIF NUMERIC OF OFF OFFSETS ON ONLY OPEN OPTION OR ORDER OUTER OUTPUT OVER OVERLAPS PAD PARTIAL PERCENT PIVOT PLAN \
            POSITION PRECISION PREPARE PRESERVE PRIMARY PRINT PRIOR PRIVILEGES PROC PROCEDURE PUBLIC RAISERROR READ READTEXT REAL \
            RECONFIGURE REFERENCES RELATIVE REPLICATION RESTORE RESTRICT RETURN REVERT REVOKE RIGHT ROLLBACK ROWCOUNT ROWGUIDCOL \
            ROWS RULE SAVE SCHEMA SCROLL SECOND SECTION SELECT SESSION SET SETUSER SHUTDOWN SIZE SMALLINT SOME SPACE SQL SQLCODE \
            SQLERROR SQLSTATE STATISTICS SUBSTRING SUM TABLE TABLESAMPLE TEMPORARY TEXTSIZE THEN TIME TIMESTAMP TO TOP TRAILING \
            TRAN TRANSACTION TRANSLATE TRIGGER TRIM TRUE TRUNCATE UNION UNIQUE UNKNOWN UNPIVOT UPDATE UPPER USAGE USE USER USING \
            VALUE VALUES VARCHAR VARYING VIEW WAITFOR WHEN WHENEVER WHERE WHILE WITH WORK WRITE WRITETEXT YEAR ZONE";
        let reserved: BTreeSet<&str> = RESERVED.split_whitespace().collect();
        let shape = shape();
        let of_tables = shape.tables.values().flat_map(|table| table.columns.keys().cloned());
        // A procedure has no columns of its own.
        let named = shape.modules.values().filter(|module| !module.text.starts_with("CREATE PROCEDURE")).flat_map(|module| {
            let words = words(&module.text);
            words.windows(2).filter(|pair| pair[0] == "AS").map(|pair| pair[1].clone()).collect::<Vec<_>>()
        });
        // A cast names its type behind AS, and a view begins with it.
        const TYPES: [&str; 5] = ["int", "decimal", "datetime2", "date", "SELECT"];
        for name in of_tables.chain(named.filter(|name| !TYPES.contains(&name.as_str()) && name != "RETURN")) {
            assert!(!reserved.contains(name.to_ascii_uppercase().as_str()), "{name} is a reserved word");
        }
    }

    #[test]
    fn a_table_is_read_whole() {
        let shape = Shape::of([
            "CREATE TABLE lull.a (x int NOT NULL CONSTRAINT ck_x CHECK (x > 0) , y nvarchar(64) NULL, z varbinary(max),
                CONSTRAINT pk_a PRIMARY KEY (x, y),
                CONSTRAINT uq_a UNIQUE (z),
                CONSTRAINT ck_a CHECK (x IN (1, 2)),
                CONSTRAINT fk_a FOREIGN KEY (x, y) REFERENCES lull.b (x, y));",
            "CREATE INDEX ix_plain ON lull.a (y);",
            "CREATE UNIQUE INDEX ix_all ON lull.a (x, y) INCLUDE (z) WHERE x IS NULL WITH (DATA_COMPRESSION = PAGE);",
            "CREATE INDEX ix_open ON lull.a (x) WHERE y IS NOT NULL;",
            "CREATE VIEW lull.v AS SELECT 1 AS x;",
            "CREATE FUNCTION lull.f AS RETURN 1;",
            "CREATE PROCEDURE lull.p AS SELECT 1;",
            "DROP FUNCTION lull.f;",
            "INSERT INTO lull.a VALUES (1);",
            "UPDATE lull.a SET x = 1;",
        ]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let column = |name: &str, kind: &str, nullable| (name.to_owned(), Column { kind: kind.into(), nullable });
        let index = |unique, columns: &[&str], included: &[&str], filter: Option<&str>| Index {
            unique,
            columns: names(columns),
            included: names(included).into_iter().collect(),
            filter: filter.map(Into::into),
        };
        let key = ForeignKey { columns: names(&["x", "y"]), table: "b".into() };
        let table = Table {
            columns: [column("x", "int", false), column("y", "nvarchar(64)", true), column("z", "varbinary(max)", true)].into(),
            checks: names(&["ck_a", "ck_x"]).into_iter().collect(),
            foreign_keys: [("fk_a".to_owned(), key)].into(),
            indexes: [
                ("pk_a".to_owned(), index(true, &["x", "y"], &[], None)),
                ("uq_a".to_owned(), index(true, &["z"], &[], None)),
                ("ix_plain".to_owned(), index(false, &["y"], &[], None)),
                ("ix_all".to_owned(), index(true, &["x", "y"], &["z"], Some("x IS NULL"))),
                ("ix_open".to_owned(), index(false, &["x"], &[], Some("y IS NOT NULL"))),
            ]
            .into(),
        };
        let module = |is_view, text: &str| Module { is_view, text: text.into() };
        let modules = [
            ("v".to_owned(), module(true, "CREATE VIEW lull.v AS SELECT 1 AS x ;")),
            ("p".to_owned(), module(false, "CREATE PROCEDURE lull.p AS SELECT 1 ;")),
        ];
        assert_eq!(shape, Ok(Shape { tables: [("a".to_owned(), table)].into(), modules: modules.into() }));
    }

    #[test]
    fn what_is_not_understood_is_said_and_not_passed_over() {
        for wrong in [
            "CREATE TABLE lull.b",
            "CREATE TABLE lull.b x int",
            "CREATE TABLE dbo.b (x int)",
            "CREATE TABLE lull.b (x int",
            "ALTER TABLE lull.a DROP x",
            "ALTER TABLE lull.b ADD x int",
            "ALTER TABLE lull.a ADD CONSTRAINT fk FOREIGN KEY (x) TO lull.a (x)",
            "CREATE INDEX ix_a AT lull.a (x)",
            "CREATE INDEX ix_a ON lull.a x",
            "CREATE INDEX ix_a ON lull.b (x)",
            "DROP INDEX ix_a ON lull.a",
            "DROP INDEX ix_x OF lull.a",
            "DROP VIEW lull.v",
            "DROP TABLE lull.a",
        ] {
            let read = Shape::of(["CREATE TABLE lull.a (x int);", "CREATE INDEX ix_x ON lull.a (x);", wrong]);
            assert!(read.is_err(), "{wrong}: {read:?}");
        }
    }

    #[test]
    fn a_text_is_cut_into_words_and_signs() {
        for (text, expected) in [
            ("", &[][..]),
            ("a.b @c #d $e f_1", &["a.b", "@c", "#d", "$e", "f_1"]),
            ("a<>b;(c)", &["a", "<", ">", "b", ";", "(", "c", ")"]),
            ("a -- b\nc--d", &["a", "c"]),
            ("a - b", &["a", "-", "b"]),
            ("'it''s -- here' x", &["'it''s -- here'", "x"]),
            ("'' 'a' 'b", &["''", "'a'", "'b"]),
            ("'a'''", &["'a'''"]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }
}
