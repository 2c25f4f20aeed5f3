//! What `lull db check` says about the file.

use std::path::Path;

use rusqlite::Connection;

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
        check.push(Finding::problem("there is no database yet", "`lull db migrate` or the first start of the server makes it"));
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
        Ok(missing) if missing.is_empty() => check.push(Finding::fine("the tables and views are those of this program")),
        Ok(missing) => check.push(Finding::problem(
            format!("{} steps are missing", missing.len()),
            "`lull db migrate` or the next start of the server applies them",
        )),
        Err(incompatible) => check.push(Finding::failed(&incompatible.to_string())),
    }
    let sound: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    check.push(match sound.as_str() {
        "ok" => Finding::fine("SQLite finds nothing damaged in the file"),
        damage => Finding::problem(format!("the file is damaged: {damage}"), "stop the coordinator and restore a backup"),
    });
    if let Ok(term) = leader(&database) {
        check.push(Finding::fine(term));
    }
    check.push(rights(&file));
    Ok(())
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
        Ok(0) => Finding::fine("only its owner can read the file"),
        Ok(_) => Finding::problem("others can read or write the file", "`chmod 600` it; the next start of the server does"),
        Err(error) => Finding::failed(&error.to_string()),
    }
}

#[cfg(not(unix))]
fn rights(_file: &Path) -> Finding {
    Finding::fine("the file has the rights of its folder")
}
