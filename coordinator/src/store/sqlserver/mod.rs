//! The store on a server: SQL Server 2017 and later, for an organisation that has one.
//!
//! ```text
//! Turn -> JSON + bytes -> one batch: fence, set-based statements, settle -> Applied | Fenced | contradicted
//! ```
//! Each writing batch changes the one row of `lull.leader` first. So writers come one after the other, and whoever does not
//! lead is refused and told who does. A turn of our own that was in doubt and arrives after the store was loaded is refused
//! or found by its number. No statement leans on lock hints.

mod blobs;
mod check;
#[cfg(test)]
mod columns;
mod connection;
mod error;
mod jobs;
mod leadership;
mod registry;
mod schema;
mod session;
mod shape;
mod statements;
#[cfg(test)]
mod tds;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::Arc;

pub(crate) use self::error::Fail;
#[cfg(test)]
pub(crate) use self::error::Purpose;
pub use self::error::is_full;
#[cfg(test)]
pub(crate) use self::schema::MIGRATIONS;
pub use self::schema::script;
use self::session::Session;
use super::{Check, Finding, Store, StoreResult};

/// Connects by an ADO connection string. Tables that are missing are made if the login may.
pub async fn open(connection_string: &str) -> StoreResult<Arc<dyn Store>> {
    let session = Session::new(connection_string)?;
    schema::ensure(&session).await?;
    let answer = session.read(statements::LOOK, &[]).await?;
    let database = jobs::first(&answer, 0, |row| row.text("database_name")).map_err(Fail::from)?.flatten();
    let name = format!("SQL Server {}/{}", session.server(), database.unwrap_or_default());
    Ok(Arc::new(SqlServer { session: Arc::new(session), name }))
}

/// Brings the database to this program's version; the login needs the right to create tables. How many steps were
/// applied.
pub async fn migrate(connection_string: &str) -> StoreResult<usize> {
    Ok(schema::migrate(&Session::new(connection_string)?).await?)
}

/// Looks at the database without changing it.
pub async fn check(connection_string: &str) -> Check {
    match Session::new(connection_string) {
        Ok(session) => check::check(&session).await,
        Err(fail) => {
            let mut check = Check::new("SQL Server".into(), super::migration::newest(&schema::MIGRATIONS));
            check.push(Finding::failed(&fail.to_string()));
            check
        }
    }
}

/// The store in one database.
struct SqlServer {
    session: Arc<Session>,
    name: String,
}

/// Deletes every row but the ledger's, for tests.
#[cfg(test)]
pub async fn empty(connection_string: &str) -> StoreResult<()> {
    let session = Session::new(connection_string)?;
    session.script(tests::EMPTY, std::time::Duration::from_secs(60)).await?;
    Ok(())
}

/// The name of the database, for tests: asked for without making anything in it.
#[cfg(test)]
pub async fn database(connection_string: &str) -> StoreResult<String> {
    let answer = Session::new(connection_string)?.read(statements::LOOK, &[]).await?;
    let name = jobs::first(&answer, 0, |row| row.text("database_name")).map_err(Fail::from)?;
    Ok(name.flatten().unwrap_or_default())
}

/// How many rows a view has and how many pages were looked at for them, if the server says so; for a measurement.
#[cfg(test)]
pub async fn measure(connection_string: &str, view: &str) -> StoreResult<(usize, Option<i64>)> {
    let session = Session::new(connection_string)?;
    let read = "(SELECT requests.logical_reads FROM sys.dm_exec_requests AS requests WHERE requests.session_id = @@SPID)";
    let sql = format!("DECLARE @before bigint = {read};\nSELECT * FROM lull.{view};\nSELECT {read} - @before AS pages;");
    let answer = match session.read(&sql, &[]).await {
        Ok(answer) => answer,
        Err(_) => session.read(&format!("SELECT * FROM lull.{view}"), &[]).await?,
    };
    let pages = jobs::first(&answer, 1, |row| row.int("pages")).map_err(Fail::from)?.flatten();
    Ok((answer.first().map_or(0, Vec::len), pages))
}

/// The rows of a view as text, for tests.
#[cfg(test)]
pub async fn view(connection_string: &str, name: &str) -> StoreResult<Vec<Vec<String>>> {
    let session = Session::new(connection_string)?;
    let answer = session.read(&format!("SELECT * FROM lull.{name}"), &[]).await?;
    let text = |row: &tiberius::Row| row.cells().map(|(_, cell)| format!("{cell:?}")).collect();
    Ok(answer.first().map(|rows| rows.iter().map(text).collect()).unwrap_or_default())
}

/// The views that the steps make, for tests.
#[cfg(test)]
pub fn views() -> Vec<String> {
    schema::shape(&schema::MIGRATIONS).views().map(str::to_owned).collect()
}
