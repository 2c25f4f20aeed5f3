//! Bringing the database to this program's version, by ourselves or by a script that a DBA runs.

use std::{fmt::Write as _, time::Duration};

use super::{
    super::migration::{Applied, Incompatible, Migration, pending},
    error::Fail,
    jobs::all,
    session::Session,
    shape::Shape,
    statements,
};
use crate::store::rows::{self, Columns, Damaged};

/// The steps, in order. A released one never changes.
pub(crate) static MIGRATIONS: [Migration; 5] = [
    Migration { number: 1, name: "store", sql: include_str!("../migrations/sqlserver/0001_store.sql") },
    Migration { number: 2, name: "turn", sql: include_str!("../migrations/sqlserver/0002_turn.sql") },
    Migration { number: 3, name: "leaving", sql: include_str!("../migrations/sqlserver/0003_leaving.sql") },
    Migration { number: 4, name: "labels", sql: include_str!("../migrations/sqlserver/0004_labels.sql") },
    Migration { number: 5, name: "rollouts", sql: include_str!("../migrations/sqlserver/0005_rollouts.sql") },
];

/// Building indexes on tables that are full takes long; new ones take a second.
const MIGRATION_TIME_MAX: Duration = Duration::from_secs(600);

/// What sqlcmd is told.
pub(super) const STOP: &str = ":on error exit";

/// The schema and the ledger of steps: what the steps themselves need.
pub(super) const LEDGER: &str = "SET XACT_ABORT ON;
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

/// The right to read and write rows, and no other: what the coordinator's login needs. What was written to the audit stays.
const COORDINATOR: &str = "IF DATABASE_PRINCIPAL_ID(N'lull_coordinator') IS NULL
    EXEC (N'CREATE ROLE lull_coordinator');
GRANT SELECT, INSERT, UPDATE, DELETE ON SCHEMA::lull TO lull_coordinator;
GRANT EXECUTE ON OBJECT::lull.take_turn TO lull_coordinator;
DENY UPDATE, DELETE ON OBJECT::lull.audit TO lull_coordinator;
";

/// The right to read the views, for people and their reports.
fn reader(shape: &Shape) -> String {
    let mut text = String::from("IF DATABASE_PRINCIPAL_ID(N'lull_reader') IS NULL\n    EXEC (N'CREATE ROLE lull_reader');\n");
    for view in shape.views() {
        let _ = writeln!(text, "GRANT SELECT ON OBJECT::lull.{view} TO lull_reader;");
    }
    text
}

/// The batches that a line GO separates.
pub(super) fn batches(sql: &str) -> Vec<String> {
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

/// What the steps make.
pub(super) fn shape(steps: &[Migration]) -> Shape {
    let ledger = LEDGER.find("CREATE TABLE").map(|at| LEDGER[at..].to_owned());
    Shape::of(ledger.into_iter().chain(steps.iter().flat_map(|step| batches(step.sql)))).expect("a test reads every step")
}

/// Refuses to go on without a step.
fn demand(step: &Migration) -> String {
    format!(
        "    IF NOT EXISTS (SELECT 1 FROM lull.migrations WHERE number = {} AND checksum = '{}')\n        \
         THROW 50000, N'Lull: version {} of the tables is missing, or was made by other steps; nothing was changed', 1;\n",
        step.number,
        step.checksum(),
        step.number
    )
}

/// One step as one batch that can be run again: all of it or nothing, and nothing if it was applied before.
///
/// XACT_ABORT does not hold for errors of compilation: after one in an EXEC the batch would go on to say that the step was
/// done. TRY catches it, since it happens one level below.
/// <https://learn.microsoft.com/sql/t-sql/statements/set-xact-abort-transact-sql>,
/// <https://learn.microsoft.com/sql/t-sql/language-elements/try-catch-transact-sql#errors-unaffected-by-a-trycatch-construct>
fn step(before: Option<&Migration>, migration: &Migration) -> String {
    let number = migration.number;
    let mut text = format!("-- Version {number}: {}\nSET XACT_ABORT ON;\nBEGIN TRY\n    BEGIN TRANSACTION;\n", migration.name);
    if let Some(before) = before {
        text.push_str(&demand(before));
    }
    let _ = writeln!(text, "    IF NOT EXISTS (SELECT 1 FROM lull.migrations WHERE number = {number})\n    BEGIN");
    for piece in batches(migration.sql) {
        // A view or a function must be the first of its batch, so each piece is one.
        let _ = writeln!(text, "    EXEC (N'{}');", piece.trim_end().replace('\'', "''"));
    }
    let _ = writeln!(
        text,
        "    INSERT INTO lull.migrations (number, name, checksum) VALUES ({number}, N'{}', '{}');\n    END;\n    \
         COMMIT TRANSACTION;\nEND TRY\nBEGIN CATCH\n    IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION;\n    THROW;\nEND CATCH;",
        migration.name,
        migration.checksum()
    );
    text
}

/// Each step with the one before it.
fn in_order(steps: &[Migration]) -> impl Iterator<Item = (Option<&Migration>, &Migration)> {
    std::iter::once(None).chain(steps.iter().map(Some)).zip(steps)
}

/// Everything that a DBA runs in the database, as often as they like: tables, views, and roles with just the rights that
/// the coordinator and readers need.
pub fn script() -> String {
    script_of(&MIGRATIONS)
}

fn script_of(steps: &[Migration]) -> String {
    let mut text = format!(
        "-- Lull: the tables, views and rights of its coordinator. Run it in the database meant for it, with a login that may\n\
         -- create schemas, tables and roles (db_owner, say). It can be run again, and does only what is missing.\n\
         -- The next line makes sqlcmd stop at the first error. A tool that does not know it complains of it and goes on;\n\
         -- each step looks for the one before it, so that none is done out of turn.\n\
         {STOP}\nGO\nSET QUOTED_IDENTIFIER ON;\nSET ANSI_NULLS ON;\nGO\n"
    );
    let _ = writeln!(text, "{LEDGER}GO");
    for (before, migration) in in_order(steps) {
        let _ = writeln!(text, "{}GO", step(before, migration));
    }
    let all = steps.last().map(demand).unwrap_or_default();
    let _ = write!(
        text,
        "{all}{COORDINATOR}{}GO\n-- The coordinator's login needs no other right, and people who look need the other role. Add them like this:\n\
         --   CREATE USER lull FOR LOGIN lull;\n--   ALTER ROLE lull_coordinator ADD MEMBER lull;\n\
         --   ALTER ROLE lull_reader ADD MEMBER [DOMAIN\\reports];\n",
        reader(&shape(steps))
    );
    text
}

/// A row of the ledger.
pub(super) fn step_applied(row: &dyn Columns) -> Result<Applied, Damaged> {
    Ok(Applied { number: rows::u32_of(row, "number")?, checksum: rows::text(row, "checksum")? })
}

/// The steps that the database has seen.
pub(super) async fn applied(session: &Session) -> Result<Vec<Applied>, Fail> {
    let looked = session.read(statements::LOOK, &[]).await?;
    if super::jobs::first(&looked, 0, |row| rows::int(row, "has_ledger"))? != Some(1) {
        return Ok(Vec::new());
    }
    let answer = session.read(statements::LEDGER, &[]).await?;
    Ok(all(&answer, 0, step_applied)?)
}

/// Applies what is missing. How many steps were.
pub(super) async fn migrate(session: &Session) -> Result<usize, Fail> {
    let missing = pending(&MIGRATIONS, &applied(session).await?)?;
    if missing.is_empty() {
        return Ok(0);
    }
    session.script(LEDGER, MIGRATION_TIME_MAX).await?;
    for (before, migration) in in_order(&MIGRATIONS).filter(|(_, step)| missing.iter().any(|other| other.number == step.number)) {
        match session.script(&step(before, migration), MIGRATION_TIME_MAX).await {
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
pub(super) async fn ensure(session: &Session) -> Result<(), Fail> {
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
pub(super) fn compatible(applied: &[Applied]) -> Result<Vec<&'static Migration>, Incompatible> {
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
        let rights = |role: &str| -> Vec<&str> {
            let line = |line: &&str| (line.starts_with("GRANT") || line.starts_with("DENY")) && line.contains(role);
            script.lines().filter(line).collect()
        };
        assert_eq!(
            rights("lull_coordinator"),
            [
                "GRANT SELECT, INSERT, UPDATE, DELETE ON SCHEMA::lull TO lull_coordinator;",
                "GRANT EXECUTE ON OBJECT::lull.take_turn TO lull_coordinator;",
                "DENY UPDATE, DELETE ON OBJECT::lull.audit TO lull_coordinator;"
            ]
        );
        let views: Vec<String> = shape(&MIGRATIONS).views().map(str::to_owned).collect();
        let reads = views.iter().map(|view| format!("GRANT SELECT ON OBJECT::lull.{view} TO lull_reader;"));
        assert_eq!(rights("lull_reader"), reads.collect::<Vec<_>>());
    }

    #[test]
    fn a_step_demands_the_one_before_it_and_is_recorded_only_when_it_is_done() {
        static STEPS: [Migration; 3] = [
            Migration { number: 1, name: "one", sql: "CREATE TABLE lull.a (x int NOT NULL);" },
            Migration {
                number: 2,
                name: "two",
                sql: "ALTER TABLE lull.a ADD y int NULL;\nGO\nCREATE VIEW lull.b AS SELECT 1 AS z;",
            },
            Migration { number: 3, name: "three", sql: "DROP VIEW lull.b;" },
        ];
        let script = script_of(&STEPS);
        assert!(script.contains(":on error exit\nGO\n"));
        let batches = batches(&script);
        let demands = |batch: &str| batch.find("THROW 50000");
        let of = |step: &Migration| {
            batches.iter().find(|batch| batch.contains(&format!("-- Version {}:", step.number))).expect("a batch")
        };
        assert_eq!(demands(of(&STEPS[0])), None);
        for (before, migration) in in_order(&STEPS).skip(1) {
            let (batch, before) = (of(migration), before.expect("it is not the first"));
            let demand = demands(batch).expect("it demands its predecessor");
            assert!(batch[..demand].contains(&format!("number = {} AND checksum = '{}'", before.number, before.checksum())));
            assert!(demand < batch.find("EXEC").expect("it does something"), "before anything is done");
        }
        for migration in &STEPS {
            let batch = of(migration);
            let places = [
                "BEGIN TRY",
                "BEGIN TRANSACTION",
                "EXEC",
                "INSERT INTO lull.migrations",
                "COMMIT TRANSACTION",
                "END TRY",
                "ROLLBACK TRANSACTION",
                "THROW;",
            ]
            .map(|words| batch.rfind(words).expect(words));
            assert!(places.is_sorted(), "{batch}");
        }
        let roles = batches.iter().find(|batch| batch.contains("CREATE ROLE lull_reader")).expect("the roles");
        assert!(roles.contains(&STEPS[2].checksum()), "rights are given when all is there");
    }

    #[test]
    fn a_line_go_separates_batches() {
        assert_eq!(batches("a\nGO\nb GO\n go \n\nGO\n"), ["a\n", "b GO\n"]);
    }
}
