//! Bringing the database to this program's version, by ourselves or by a script that a DBA runs.

use std::{fmt::Write as _, time::Duration};

use super::{
    super::migration::{Applied, Incompatible, Migration, pending},
    error::Fail,
    jobs::all,
    session::Session,
    statements,
};
use crate::store::rows;

/// The steps, in order. A released one never changes.
pub static MIGRATIONS: [Migration; 14] = [
    Migration { number: 1, name: "store", sql: include_str!("../migrations/sqlserver/0001_store.sql") },
    Migration { number: 2, name: "coordinators", sql: include_str!("../migrations/sqlserver/0002_coordinators.sql") },
    Migration { number: 3, name: "policies", sql: include_str!("../migrations/sqlserver/0003_policies.sql") },
    Migration { number: 4, name: "snapshots", sql: include_str!("../migrations/sqlserver/0004_snapshots.sql") },
    Migration { number: 5, name: "moves", sql: include_str!("../migrations/sqlserver/0005_moves.sql") },
    Migration { number: 6, name: "rivals", sql: include_str!("../migrations/sqlserver/0006_rivals.sql") },
    Migration { number: 7, name: "verification", sql: include_str!("../migrations/sqlserver/0007_verification.sql") },
    Migration { number: 8, name: "idle hours", sql: include_str!("../migrations/sqlserver/0008_idle_hours.sql") },
    Migration { number: 9, name: "departures", sql: include_str!("../migrations/sqlserver/0009_departures.sql") },
    Migration { number: 10, name: "cloned", sql: include_str!("../migrations/sqlserver/0010_cloned.sql") },
    Migration { number: 11, name: "slot_time", sql: include_str!("../migrations/sqlserver/0011_slot_time.sql") },
    Migration { number: 12, name: "network", sql: include_str!("../migrations/sqlserver/0012_network.sql") },
    Migration { number: 13, name: "owners", sql: include_str!("../migrations/sqlserver/0013_owners.sql") },
    Migration { number: 14, name: "last_job", sql: include_str!("../migrations/sqlserver/0014_last_job.sql") },
];

/// Building indexes on tables that are full takes long; new ones take a second.
const MIGRATION_TIME_MAX: Duration = Duration::from_secs(600);

/// The schema and the ledger of steps: what the steps themselves need.
pub const LEDGER: &str = "SET XACT_ABORT ON;
IF SCHEMA_ID(N'lull') IS NULL
    EXEC (N'CREATE SCHEMA lull');
IF OBJECT_ID(N'lull.migrations') IS NULL
    CREATE TABLE lull.migrations (
        number     int NOT NULL,
        name       nvarchar(256) NOT NULL,
        checksum   varchar(64) NOT NULL,
        applied_at datetime2(6) NOT NULL CONSTRAINT df_migrations_applied_at DEFAULT SYSUTCDATETIME(),
        CONSTRAINT pk_migrations PRIMARY KEY (number)
    );
";

/// The right to read and write rows, and no other: what the coordinator's login needs.
const ROLE: &str = "IF DATABASE_PRINCIPAL_ID(N'lull_coordinator') IS NULL
    EXEC (N'CREATE ROLE lull_coordinator');
GRANT SELECT, INSERT, UPDATE, DELETE ON SCHEMA::lull TO lull_coordinator;
";

/// The batches that a line GO separates.
pub fn batches(sql: &str) -> Vec<String> {
    let (mut batches, mut batch) = (Vec::new(), String::new());
    for line in sql.lines() {
        if line.trim().eq_ignore_ascii_case("GO") {
            batches.push(std::mem::take(&mut batch));
        } else {
            batch.push_str(line);
            batch.push('\n');
        }
    }
    batches.push(batch);
    batches.retain(|batch| !batch.trim().is_empty());
    batches
}

/// One step as one batch that can be run again: all of it or nothing, and nothing if it was applied before.
fn step(migration: &Migration) -> String {
    let mut text = format!(
        "-- Version {}: {}\nSET XACT_ABORT ON;\nBEGIN TRANSACTION;\nIF NOT EXISTS (SELECT 1 FROM lull.migrations WHERE number = {})\nBEGIN\n",
        migration.number, migration.name, migration.number
    );
    for piece in batches(migration.sql) {
        // A view or a function must be the first of its batch, so each piece is one.
        let _ = writeln!(text, "    EXEC (N'{}');", piece.trim_end().replace('\'', "''"));
    }
    let _ = writeln!(
        text,
        "    INSERT INTO lull.migrations (number, name, checksum) VALUES ({}, N'{}', '{}');\nEND;\nCOMMIT TRANSACTION;",
        migration.number,
        migration.name,
        migration.checksum()
    );
    text
}

/// Everything that a DBA runs in the database, as often as they like: tables, views, and a role with just the rights that
/// the coordinator needs.
pub fn script() -> String {
    let mut text = String::from(
        "-- Lull: the tables, views and rights of its coordinator. Run it in the database meant for it, with a login that may\n\
         -- create schemas, tables and roles (db_owner, say). It can be run again, and does only what is missing.\n\
         SET QUOTED_IDENTIFIER ON;\nSET ANSI_NULLS ON;\nGO\n",
    );
    let _ = writeln!(text, "{LEDGER}GO");
    for migration in &MIGRATIONS {
        let _ = writeln!(text, "{}GO", step(migration));
    }
    let _ = write!(
        text,
        "{ROLE}GO\n-- The coordinator's login needs no other right. Add it like this:\n\
         --   CREATE USER lull FOR LOGIN lull;\n--   ALTER ROLE lull_coordinator ADD MEMBER lull;\n"
    );
    text
}

/// The steps that the database has seen.
pub async fn applied(session: &Session) -> Result<Vec<Applied>, Fail> {
    let looked = session.read(statements::LOOK, &[]).await?;
    if super::jobs::first(&looked, 0, |row| rows::int(row, "has_ledger"))? != Some(1) {
        return Ok(Vec::new());
    }
    let answer = session.read(statements::LEDGER, &[]).await?;
    let step =
        |row: &dyn rows::Columns| Ok(Applied { number: rows::u32_of(row, "number")?, checksum: rows::text(row, "checksum")? });
    Ok(all(&answer, 0, step)?)
}

/// Applies what is missing. How many steps were.
pub async fn migrate(session: &Session) -> Result<usize, Fail> {
    let missing = pending(&MIGRATIONS, &applied(session).await?)?;
    if missing.is_empty() {
        return Ok(0);
    }
    session.script(LEDGER, MIGRATION_TIME_MAX).await?;
    for migration in &missing {
        match session.script(&step(migration), MIGRATION_TIME_MAX).await {
            Ok(_) => {}
            // Another coordinator does the same: what counts is what is there afterwards.
            Err(fail) if !fail.is_forbidden() && is_applied(session, migration).await? => {}
            Err(fail) => return Err(fail),
        }
    }
    Ok(missing.len())
}

async fn is_applied(session: &Session, migration: &Migration) -> Result<bool, Fail> {
    Ok(applied(session).await?.iter().any(|step| step.number == migration.number))
}

/// Makes sure that the tables are those of this program, by making them if that is allowed.
pub async fn ensure(session: &Session) -> Result<(), Fail> {
    match migrate(session).await {
        Ok(0) => Ok(()),
        Ok(steps) => {
            tracing::info!(steps, "the database was brought to this program's version");
            Ok(())
        }
        Err(fail) if fail.is_forbidden() => Err(Fail::Setup {
            words: format!("the database lacks tables of Lull, and this login may not make them ({fail})"),
            hint: "have a DBA run what `lull db script` prints, then start again",
        }),
        Err(fail) => Err(fail),
    }
}

/// Why the database is not to be touched, if so.
pub fn compatible(applied: &[Applied]) -> Result<Vec<&'static Migration>, Incompatible> {
    pending(&MIGRATIONS, applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_holds_every_step_and_no_right_beyond_rows() {
        let script = script();
        for migration in &MIGRATIONS {
            assert!(script.contains(&migration.checksum()));
            assert!(batches(migration.sql).iter().all(|piece| script.contains(&piece.trim_end().replace('\'', "''"))));
        }
        let granted: Vec<&str> = script.lines().filter(|line| line.contains("GRANT")).collect();
        assert_eq!(granted, ["GRANT SELECT, INSERT, UPDATE, DELETE ON SCHEMA::lull TO lull_coordinator;"]);
    }

    #[test]
    fn a_line_go_separates_batches() {
        assert_eq!(batches("a\nGO\nb GO\n go \n\nGO\n"), ["a\n", "b GO\n"]);
    }
}
