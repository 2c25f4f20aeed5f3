//! What `lull db check` says about the file.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, OptionalExtension as _};

use super::{
    super::{
        check::{Check, Finding},
        migration::{newest, pending},
    },
    connection,
    error::Fail,
    schema,
};

/// Looks at the store in a folder without changing it.
pub fn check(dir: &Path) -> Check {
    let mut check = Check::new(format!("embedded (SQLite) in {}", dir.display()), newest(&schema::MIGRATIONS));
    if !connection::file_in(dir).exists() {
        check.push(Finding::bad("there is no database yet", "`lull db migrate` or the first start of the server makes it"));
        return check;
    }
    if let Err(fail) = look(dir, &mut check) {
        check.push(Finding::failed(&fail.to_string()));
    }
    check
}

fn look(dir: &Path, check: &mut Check) -> Result<(), Fail> {
    let file = connection::file_in(dir);
    let database = connection::reader(&file)?;
    let applied = schema::applied(&database)?;
    check.version = applied.iter().map(|step| step.number).max();
    match pending(&schema::MIGRATIONS, &applied) {
        Ok(missing) if missing.is_empty() => {
            let differences = compare(&objects(&wanted()?)?, &objects(&database)?);
            if differences.is_empty() {
                check.push(Finding::good("the tables and views are those of this program"));
            }
            differences.into_iter().for_each(|finding| check.push(finding));
        }
        Ok(missing) => check.push(Finding::bad(
            format!("{} steps are missing", missing.len()),
            "`lull db migrate` or the next start of the server applies them",
        )),
        Err(incompatible) => check.push(Finding::failed(&incompatible.to_string())),
    }
    let sound: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    check.push(match sound.as_str() {
        "ok" => Finding::good("SQLite finds nothing damaged in the file"),
        damage => Finding::bad(format!("the file is damaged: {damage}"), "stop the coordinator and restore a backup"),
    });
    let orphan =
        "SELECT \"table\" || ' refers to a row of ' || parent || ' that is not there' FROM pragma_foreign_key_check LIMIT 1";
    if let Some(words) = database.query_row(orphan, [], |row| row.get::<_, String>(0)).optional()? {
        check.push(Finding::bad(format!("rows do not fit together: {words}"), "stop the coordinator and restore a backup"));
    }
    let journal: String = database.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if !journal.eq_ignore_ascii_case("wal") {
        check.push(Finding::odd(
            format!("the journal is {journal} and not WAL: readers and the writer wait for each other"),
            "the next start of the server sets it; on a network file system it cannot be had, so keep the file on a local disk",
        ));
    }
    if let Ok(term) = leader(&database) {
        check.push(Finding::good(term));
    }
    check.push(rights(&file));
    Ok(())
}

/// A database as the steps make it.
fn wanted() -> Result<Connection, Fail> {
    let mut database = Connection::open_in_memory()?;
    schema::migrate(&mut database)?;
    Ok(database)
}

/// Tables, indexes and views by kind and name, with the words of their text.
type Objects = BTreeMap<(String, String), String>;

fn objects(database: &Connection) -> Result<Objects, Fail> {
    let mut statement = database.prepare("SELECT type, name, coalesce(sql, '') FROM sqlite_schema")?;
    let object = |row: &rusqlite::Row<'_>| {
        let text: String = row.get(2)?;
        Ok(((row.get(0)?, row.get(1)?), text.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    Ok(statement.query_map([], object)?.collect::<Result<_, _>>()?)
}

/// What differs from what the steps make. What is there beside it is nobody's business, unless it acts by itself.
fn compare(wanted: &Objects, found: &Objects) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ((kind, name), text) in wanted {
        let words = match found.get(&(kind.clone(), name.clone())) {
            Some(other) if other == text => continue,
            Some(_) => "is another one than this program's",
            None => "is missing",
        };
        let text = format!("{kind} {name} {words}");
        let hint = "restore a copy from before it was changed, or make it again as `lull db script` prints it";
        findings.push(if kind == "table" { Finding::bad(text, hint) } else { Finding::odd(text, hint) });
    }
    for (kind, name) in found.keys().filter(|(kind, _)| kind == "trigger") {
        findings.push(Finding::odd(format!("{kind} {name} is none of Lull's"), "drop it: it runs inside each turn"));
    }
    findings
}

fn leader(database: &Connection) -> Result<String, rusqlite::Error> {
    database.query_row("SELECT term, holder FROM leader", [], |row| {
        let (term, holder): (i64, Option<String>) = (row.get(0)?, row.get(1)?);
        Ok(match holder {
            Some(holder) => format!("{holder} leads in term {term}"),
            None => format!("there is no leader; the last term was {term}"),
        })
    })
}

#[cfg(unix)]
fn rights(file: &Path) -> Finding {
    let mode = std::fs::metadata(file).map(|found| std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o077);
    match mode {
        Ok(0) => Finding::good("only its owner can read the file"),
        Ok(_) => Finding::bad("others can read or write the file", "`chmod 600` it; the next start of the server does"),
        Err(error) => Finding::failed(&error.to_string()),
    }
}

#[cfg(not(unix))]
fn rights(_file: &Path) -> Finding {
    Finding::good("the file has the rights of its folder")
}
