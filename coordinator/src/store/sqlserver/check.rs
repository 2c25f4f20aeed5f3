//! What `lull db check` says about the database.

use super::{
    super::{
        check::{Check, Finding},
        migration::newest,
        rows::{self, Columns, Damaged},
    },
    error::Fail,
    jobs::first,
    schema::{self, MIGRATIONS},
    session::Session,
    statements,
};

/// OPENJSON needs this compatibility level.
const LEVEL_MIN: i64 = 130;
/// SQL Server 2017.
const VERSION_MIN: i64 = 14;

/// Looks at the database without changing it, with whatever rights the login has.
pub async fn check(session: &Session) -> Check {
    let mut check = Check::new(format!("SQL Server {}", session.server()), newest(&MIGRATIONS));
    if let Err(fail) = look(session, &mut check).await {
        check.push(Finding::failed(&fail.to_string()));
    }
    check
}

/// What the server says of itself and of us.
struct Look {
    database: String,
    server_version: String,
    level: Option<i64>,
    login: String,
    has_schema: bool,
    has_ledger: bool,
    may_create: bool,
    lacking: Vec<&'static str>,
}

fn seen(row: &dyn Columns) -> Result<Look, Damaged> {
    let is = |column: &str| Ok::<_, Damaged>(row.int(column)? == Some(1));
    let rights = [("may_select", "SELECT"), ("may_insert", "INSERT"), ("may_update", "UPDATE"), ("may_delete", "DELETE")];
    let mut lacking = Vec::new();
    for (column, right) in rights {
        if !is(column)? {
            lacking.push(right);
        }
    }
    Ok(Look {
        database: row.text("database_name")?.unwrap_or_default(),
        server_version: row.text("server_version")?.unwrap_or_default(),
        level: row.int("level")?,
        login: row.text("login_name")?.unwrap_or_default(),
        has_schema: is("has_schema")?,
        has_ledger: is("has_ledger")?,
        may_create: is("may_create_tables")?,
        lacking,
    })
}

async fn look(session: &Session, check: &mut Check) -> Result<(), Fail> {
    let answer = session.read(statements::LOOK, &[]).await?;
    let look = first(&answer, 0, seen)?.ok_or_else(|| Damaged::new("database_name", "no row"))?;
    check.store = format!("SQL Server {}/{}", session.server(), look.database);
    check.push(server(&look));
    if let Some(level) = look.level.filter(|level| *level < LEVEL_MIN) {
        check.push(Finding::problem(
            format!("the database has compatibility level {level}, and OPENJSON needs {LEVEL_MIN}"),
            format!("ALTER DATABASE [{}] SET COMPATIBILITY_LEVEL = {LEVEL_MIN}", look.database),
        ));
    }
    let script = "have a DBA run what `lull db script` prints";
    if !look.has_schema {
        let hint = if look.may_create { "`lull db migrate` or the first start of the server makes it" } else { script };
        check.push(Finding::problem("there is no schema `lull` yet", hint));
        return Ok(());
    }
    check.push(if look.lacking.is_empty() {
        Finding::fine(format!("{} may read and write the rows of schema `lull`", look.login))
    } else {
        Finding::problem(
            format!("{} lacks {} on schema `lull`", look.login, look.lacking.join(", ")),
            "make it a member of the role: ALTER ROLE lull_coordinator ADD MEMBER ...; `lull db script` makes the role",
        )
    });
    check.push(if look.may_create {
        Finding::warning(
            format!("{} may also create tables", look.login),
            "the server needs that only for upgrades; `lull db script` makes a role without it",
        )
    } else {
        Finding::fine(format!("{} may not create tables: upgrades go through `lull db script`", look.login))
    });
    if !look.has_ledger {
        check.push(Finding::problem("schema `lull` has no tables that this login can see", script));
        return Ok(());
    }
    tables(session, check).await?;
    let leader = session.read(statements::LEADER, &[]).await?;
    let leader = first(&leader, 0, |row| Ok((rows::int(row, "term")?, row.text("holder")?)))?;
    if let Some((term, holder)) = leader {
        check.push(Finding::fine(match holder {
            Some(holder) => format!("{holder} leads in term {term}"),
            None => format!("there is no leader; the last term was {term}"),
        }));
    }
    Ok(())
}

fn server(look: &Look) -> Finding {
    let major = look.server_version.split('.').next().and_then(|major| major.parse::<i64>().ok());
    let words = format!("{} is logged in to {} on SQL Server {}", look.login, look.database, look.server_version);
    match major {
        Some(major) if major < VERSION_MIN => Finding::problem(words, "SQL Server 2017 (14.0) is the oldest that will do"),
        Some(_) | None => Finding::fine(words),
    }
}

async fn tables(session: &Session, check: &mut Check) -> Result<(), Fail> {
    let applied = schema::applied(session).await?;
    check.version = applied.iter().map(|step| step.number).max();
    check.push(match schema::compatible(&applied) {
        Ok(missing) if missing.is_empty() => Finding::fine("the tables and views are those of this program"),
        Ok(missing) => Finding::problem(
            format!("{} steps are missing", missing.len()),
            "`lull db migrate` with a login that may create tables, or a DBA with `lull db script`",
        ),
        Err(incompatible) => Finding::failed(&incompatible.to_string()),
    });
    Ok(())
}
