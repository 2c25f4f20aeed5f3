//! Bringing the database to this program's version.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::{
    super::migration::{Applied, Migration, pending},
    error::Fail,
};
use crate::clock;

/// The steps, in order. A released one never changes.
pub static MIGRATIONS: [Migration; 14] = [
    Migration { number: 1, name: "store", sql: include_str!("../migrations/embedded/0001_store.sql") },
    Migration { number: 2, name: "coordinators", sql: include_str!("../migrations/embedded/0002_coordinators.sql") },
    Migration { number: 3, name: "policies", sql: include_str!("../migrations/embedded/0003_policies.sql") },
    Migration { number: 4, name: "snapshots", sql: include_str!("../migrations/embedded/0004_snapshots.sql") },
    Migration { number: 5, name: "moves", sql: include_str!("../migrations/embedded/0005_moves.sql") },
    Migration { number: 6, name: "rivals", sql: include_str!("../migrations/embedded/0006_rivals.sql") },
    Migration { number: 7, name: "verification", sql: include_str!("../migrations/embedded/0007_verification.sql") },
    Migration { number: 8, name: "idle hours", sql: include_str!("../migrations/embedded/0008_idle_hours.sql") },
    Migration { number: 9, name: "departures", sql: include_str!("../migrations/embedded/0009_departures.sql") },
    Migration { number: 10, name: "cloned", sql: include_str!("../migrations/embedded/0010_cloned.sql") },
    Migration { number: 11, name: "slot_time", sql: include_str!("../migrations/embedded/0011_slot_time.sql") },
    Migration { number: 12, name: "network", sql: include_str!("../migrations/embedded/0012_network.sql") },
    Migration { number: 13, name: "owners", sql: include_str!("../migrations/embedded/0013_owners.sql") },
    Migration { number: 14, name: "last_job", sql: include_str!("../migrations/embedded/0014_last_job.sql") },
];

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS migrations (
    number     INTEGER NOT NULL PRIMARY KEY CHECK (number >= 1),
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_us INTEGER NOT NULL
) STRICT";

/// Applies what is missing, each step in a transaction of its own. How many were applied.
pub fn migrate(connection: &mut Connection) -> Result<usize, Fail> {
    let missing = pending(&MIGRATIONS, &applied(connection)?)?;
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
pub fn applied(connection: &Connection) -> Result<Vec<Applied>, Fail> {
    let ledger = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'";
    if connection.query_row(ledger, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT number, checksum FROM migrations ORDER BY number")?;
    let rows = statement.query_map([], |row| Ok(Applied { number: row.get(0)?, checksum: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
