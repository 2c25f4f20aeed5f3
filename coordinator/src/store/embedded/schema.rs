//! Bringing the database to this program's version.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::{
    super::migration::{Applied, Migration, pending},
    error::Fail,
};
use crate::clock;

/// The steps, in order. A released one never changes.
pub(super) static MIGRATIONS: [Migration; 4] = [
    Migration { number: 1, name: "store", sql: include_str!("../migrations/embedded/0001_store.sql") },
    Migration { number: 2, name: "leaving", sql: include_str!("../migrations/embedded/0002_leaving.sql") },
    Migration { number: 3, name: "labels", sql: include_str!("../migrations/embedded/0003_labels.sql") },
    Migration { number: 4, name: "rollouts", sql: include_str!("../migrations/embedded/0004_rollouts.sql") },
];

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS migrations (
    number     INTEGER NOT NULL PRIMARY KEY CHECK (number >= 1),
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_us INTEGER NOT NULL
) STRICT";

/// Applies what is missing, each step in a transaction of its own. How many were applied.
pub(super) fn migrate(connection: &mut Connection) -> Result<usize, Fail> {
    apply(connection, &MIGRATIONS)
}

fn apply(connection: &mut Connection, steps: &'static [Migration]) -> Result<usize, Fail> {
    let missing = pending(steps, &applied(connection)?)?;
    for step in &missing {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(LEDGER)?;
        // Another process may have been faster.
        let done = tx.query_row("SELECT 1 FROM migrations WHERE number = ?1", [step.number], |_| Ok(())).optional()?;
        if done.is_none() {
            tx.execute_batch(step.sql)?;
            let now = clock::now().0;
            tx.execute("INSERT INTO migrations VALUES (?1, ?2, ?3, ?4)", (step.number, step.name, step.checksum(), now))?;
        }
        tx.commit()?;
    }
    Ok(missing.len())
}

/// The tables and views as a script. The server makes them by itself; this is for reading.
pub fn script() -> String {
    let steps = MIGRATIONS.iter().map(|step| format!("-- Version {}: {}\n{}", step.number, step.name, step.sql));
    steps.collect::<Vec<_>>().join("\n")
}

/// The steps that the database has seen.
pub(super) fn applied(connection: &Connection) -> Result<Vec<Applied>, Fail> {
    let ledger = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'";
    if connection.query_row(ledger, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT number, checksum FROM migrations ORDER BY number")?;
    let rows = statement.query_map([], |row| Ok(Applied { number: row.get(0)?, checksum: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released() -> Connection {
        let mut database = Connection::open_in_memory().expect("a database");
        apply(&mut database, &MIGRATIONS[..1]).expect("the first step");
        database
    }

    fn whole() -> Connection {
        let mut database = Connection::open_in_memory().expect("a database");
        apply(&mut database, &MIGRATIONS).expect("every step");
        database
    }

    /// What a database of version 0.1.0 goes through when a newer program opens it.
    #[test]
    fn a_step_is_added_to_what_was_released() {
        static STEPS: [Migration; 2] = [
            Migration { number: 1, name: "store", sql: include_str!("../migrations/embedded/0001_store.sql") },
            Migration {
                number: 2,
                name: "later",
                sql: "ALTER TABLE policies ADD COLUMN note TEXT; UPDATE policies SET note = book;",
            },
        ];
        let mut database = released();
        database.execute("INSERT INTO policies VALUES (1, '{}', 0, 'root')", []).expect("a row from before");
        assert_eq!(apply(&mut database, &STEPS).expect("the second step"), 1);
        assert_eq!(apply(&mut database, &STEPS).expect("nothing is missing"), 0);
        let note: String = database.query_row("SELECT note FROM policies", [], |row| row.get(0)).expect("the row is there");
        assert_eq!(note, "{}");
        assert_eq!(applied(&database).expect("the ledger").iter().map(|step| step.number).collect::<Vec<_>>(), [1, 2]);
        assert!(matches!(apply(&mut database, &MIGRATIONS), Err(Fail::Incompatible(_))), "an older program leaves it alone");
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        static STEPS: [Migration; 2] = [
            Migration { number: 1, name: "store", sql: include_str!("../migrations/embedded/0001_store.sql") },
            Migration { number: 2, name: "broken", sql: "CREATE TABLE half (x INTEGER); SELECT nonsense;" },
        ];
        let mut database = released();
        assert!(apply(&mut database, &STEPS).is_err());
        assert!(database.prepare("SELECT x FROM half").is_err());
        assert_eq!(applied(&database).expect("the ledger").len(), 1);
    }

    fn strings(database: &Connection, sql: &str) -> Vec<String> {
        let mut statement = database.prepare(sql).expect("it is understood");
        let rows = statement.query_map([], |row| row.get(0)).expect("it is answered");
        rows.collect::<Result<_, _>>().expect("texts")
    }

    /// But those that each task would change, to rows that are never deleted.
    #[test]
    fn every_foreign_key_is_found_by_an_index() {
        let database = whole();
        let mut keys = 0;
        for table in strings(&database, "SELECT name FROM sqlite_schema WHERE type = 'table'") {
            let indexes: Vec<(bool, Vec<String>)> = strings(&database, &format!("SELECT name FROM pragma_index_list('{table}')"))
                .into_iter()
                .map(|index| {
                    let unique = strings(
                        &database,
                        &format!("SELECT name FROM pragma_index_list('{table}') WHERE name = '{index}' AND \"unique\""),
                    );
                    let columns = strings(
                        &database,
                        &format!("SELECT coalesce(name, '') FROM pragma_index_info('{index}') ORDER BY seqno"),
                    );
                    (!unique.is_empty(), columns)
                })
                .chain([(
                    true,
                    strings(&database, &format!("SELECT name FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY pk")),
                )])
                .collect();
            for key in strings(&database, &format!("SELECT DISTINCT CAST(id AS TEXT) FROM pragma_foreign_key_list('{table}')")) {
                let sql = format!("SELECT \"from\" FROM pragma_foreign_key_list('{table}') WHERE id = {key} ORDER BY seq");
                let columns = strings(&database, &sql);
                let found = indexes.iter().any(|(unique, index)| {
                    let leading = index.len() >= columns.len() && columns.iter().all(|c| index[..columns.len()].contains(c));
                    leading || (*unique && !index.is_empty() && index.iter().all(|column| columns.contains(column)))
                });
                let spared = matches!(table.as_str(), "tasks" | "attempts") && columns == ["agent_id"];
                assert!(found || spared, "{table} has no index for {columns:?}");
                keys += 1;
            }
        }
        assert!(keys > 15, "foreign keys are found at all");
    }

    #[test]
    fn every_view_is_tried_by_the_suite_and_the_same_in_both_databases() {
        let views = strings(&whole(), "SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name");
        assert_eq!(views, super::super::super::conformance::views::VIEWS);
        assert_eq!(views, super::super::super::sqlserver::views());
    }
}
