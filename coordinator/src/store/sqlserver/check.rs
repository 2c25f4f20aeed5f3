//! What `lull db check` says about the database: what is read with whatever rights the login has, and what is to be
//! thought of it, which needs no server.

use std::collections::BTreeMap;

use super::{
    super::{
        check::{Check, Finding},
        migration::{Applied, newest},
        record::LeaderRecord,
        rows::{self, Columns, Damaged},
    },
    connection::Answer,
    error::Fail,
    jobs::{all, first},
    schema::{self, MIGRATIONS},
    session::Session,
    shape::{Column, ForeignKey, Index, Module, Shape, words},
    statements,
};

/// OPENJSON needs this compatibility level.
const LEVEL_MIN: i64 = 130;
/// That of SQL Server 2017, the oldest version that Lull is meant for: query plans are its.
const LEVEL_WANTED: i64 = 140;
/// SQL Server 2017.
const VERSION_MIN: i64 = 14;
const SCRIPT: &str = "have a DBA run what `lull db script` prints";

/// Looks at the database without changing it.
pub(super) async fn check(session: &Session) -> Check {
    let mut check = Check::new(format!("SQL Server {}", session.server()), newest(&MIGRATIONS));
    match see(session).await {
        Ok(seen) => {
            check.store = format!("SQL Server {}/{}", session.server(), seen.look.database);
            check.version = seen.applied.iter().map(|step| step.number).max();
            judge(&seen).into_iter().for_each(|finding| check.push(finding));
        }
        Err(fail) => check.push(Finding::failed(&fail.to_string())),
    }
    check
}

/// Everything that was looked at. What needs rights that the login need not have may be missing.
struct Seen {
    look: Look,
    state: Option<State>,
    replicas: Option<Vec<Replica>>,
    applied: Vec<Applied>,
    objects: Option<Objects>,
    leader: Option<LeaderRecord>,
}

/// What the server says of itself and of us.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    database: String,
    server_version: String,
    login: String,
    has_schema: bool,
    has_ledger: bool,
    may_create: bool,
    lacking: Vec<&'static str>,
}

/// A row of `sql/look.sql`.
pub(super) fn seen(row: &dyn Columns) -> Result<Look, Damaged> {
    let is = |column: &str| Ok::<_, Damaged>(row.int(column)? == Some(1));
    let rights = [
        ("may_select", "SELECT"),
        ("may_insert", "INSERT"),
        ("may_update", "UPDATE"),
        ("may_delete", "DELETE"),
        ("may_execute", "EXECUTE"),
    ];
    let mut lacking = Vec::new();
    for (column, right) in rights {
        if !is(column)? {
            lacking.push(right);
        }
    }
    Ok(Look {
        database: row.text("database_name")?.unwrap_or_default(),
        server_version: row.text("server_version")?.unwrap_or_default(),
        login: row.text("login_name")?.unwrap_or_default(),
        has_schema: is("has_schema")?,
        has_ledger: is("has_ledger")?,
        may_create: is("may_create_tables")?,
        lacking,
    })
}

/// How the server and the database are set up.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    edition: Option<i64>,
    level: Option<i64>,
    read_committed_snapshot: bool,
    delayed_durability: Option<i64>,
    auto_close: bool,
    read_only: bool,
    is_sysadmin: bool,
    is_owner: bool,
    may_change_audit: bool,
}

/// A row of `sql/state.sql`.
pub(super) fn state(row: &dyn Columns) -> Result<State, Damaged> {
    let is = |column: &str| Ok::<_, Damaged>(row.int(column)? == Some(1));
    let (deletes, updates) = (is("may_delete_audit")?, is("may_update_audit")?);
    Ok(State {
        edition: row.int("engine_edition")?,
        level: row.int("compatibility_level")?,
        read_committed_snapshot: is("read_committed_snapshot")?,
        delayed_durability: row.int("delayed_durability")?,
        auto_close: is("auto_close")?,
        read_only: is("read_only")?,
        is_sysadmin: is("is_sysadmin")?,
        is_owner: is("is_owner")?,
        may_change_audit: deletes || updates,
    })
}

/// Another copy of the database.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    name: String,
    synchronous: bool,
}

/// A row of `sql/replicas.sql` or `sql/geo_replicas.sql`.
pub(super) fn replica(row: &dyn Columns) -> Result<Replica, Damaged> {
    Ok(Replica { name: rows::text(row, "replica_name")?, synchronous: row.int("availability_mode")? == Some(1) })
}

/// What schema `lull` holds, and what of it is switched off.
#[derive(Debug, Clone, Default)]
struct Objects {
    shape: Shape,
    /// Constraints and indexes that are there and hold for nothing, or not for all rows.
    idle: Vec<(String, String)>,
    /// Views whose text this login may not see.
    hidden: Vec<String>,
}

async fn see(session: &Session) -> Result<Seen, Fail> {
    let answer = session.read(statements::LOOK, &[]).await?;
    let look = first(&answer, 0, seen)?.ok_or_else(|| Damaged::new("database_name", "no row"))?;
    // A server that does not know all of it, or does not show it to this login, can serve all the same.
    let state = session.read(statements::STATE, &[]).await.ok().and_then(|answer| first(&answer, 0, state).ok().flatten());
    let replicas = match state.as_ref().map(|state| Edition::of(state.edition)) {
        Some(Edition::Own | Edition::Managed) => session.read(statements::REPLICAS, &[]).await.ok(),
        Some(Edition::Azure) => session.read(statements::GEO_REPLICAS, &[]).await.ok(),
        Some(Edition::Warehouse) | None => None,
    };
    let replicas = replicas.and_then(|answer| all(&answer, 0, replica).ok());
    let (mut applied, mut objects, mut leader) = (Vec::new(), None, None);
    if look.has_ledger {
        applied = schema::applied(session).await?;
        objects = session.read(statements::OBJECTS, &[]).await.ok().and_then(|answer| self::objects(&answer).ok());
        leader = first(&session.read(statements::LEADER, &[]).await?, 0, rows::leader_row)?.map(|row| row.leader);
    }
    Ok(Seen { look, state, replicas, applied, objects, leader })
}

// --- What the catalog says ---

/// A column.
pub(super) fn column_row(row: &dyn Columns) -> Result<(String, String, Column), Damaged> {
    let (kind, size) = (rows::text(row, "type_name")?, rows::int(row, "size_bytes")?);
    let kind = match (kind.as_str(), size) {
        ("nvarchar" | "varchar" | "varbinary", -1) => format!("{kind}(max)"),
        ("nvarchar", size) => format!("{kind}({})", size / 2),
        ("varchar" | "varbinary" | "binary", size) => format!("{kind}({size})"),
        _ => kind,
    };
    let nullable = rows::int(row, "is_nullable")? == 1;
    Ok((rows::text(row, "table_name")?, rows::text(row, "column_name")?, Column { kind, nullable }))
}

/// A column of an index.
pub(super) struct IndexRow {
    table: String,
    index: String,
    unique: bool,
    disabled: bool,
    filter: Option<String>,
    column: String,
    included: bool,
}

/// One column of an index.
pub(super) fn index_row(row: &dyn Columns) -> Result<IndexRow, Damaged> {
    Ok(IndexRow {
        table: rows::text(row, "table_name")?,
        index: rows::text(row, "index_name")?,
        unique: rows::int(row, "is_unique")? == 1,
        disabled: rows::int(row, "is_disabled")? == 1,
        filter: row.text("filter")?,
        column: rows::text(row, "column_name")?,
        included: rows::int(row, "is_included")? == 1,
    })
}

/// A constraint: its table, its name, and whether it holds for all rows.
pub(super) fn constraint_row(row: &dyn Columns) -> Result<(String, String, bool), Damaged> {
    let holds = rows::int(row, "is_disabled")? == 0 && rows::int(row, "is_not_trusted")? == 0;
    Ok((rows::text(row, "table_name")?, rows::text(row, "constraint_name")?, holds))
}

/// A view or a function.
pub(super) fn module_row(row: &dyn Columns) -> Result<(String, bool, Option<String>), Damaged> {
    Ok((rows::text(row, "module_name")?, rows::int(row, "is_view")? == 1, row.text("definition")?))
}

fn objects(answer: &Answer) -> Result<Objects, Damaged> {
    let columns = all(answer, 0, column_row)?;
    let indexes = all(answer, 1, index_row)?;
    let (checks, keys) = (all(answer, 2, constraint_row)?, all(answer, 3, constraint_row)?);
    Ok(gather(columns, indexes, checks, keys, all(answer, 4, module_row)?))
}

type Constraints = Vec<(String, String, bool)>;

fn gather(
    columns: Vec<(String, String, Column)>,
    indexes: Vec<IndexRow>,
    checks: Constraints,
    keys: Constraints,
    modules: Vec<(String, bool, Option<String>)>,
) -> Objects {
    let mut objects = Objects::default();
    let tables = &mut objects.shape.tables;
    for (table, name, column) in columns {
        tables.entry(table).or_default().columns.insert(name, column);
    }
    for IndexRow { table, index, unique, disabled, filter, column, included } in indexes {
        let found = tables.entry(table.clone()).or_default().indexes.entry(index.clone()).or_default();
        (found.unique, found.filter) = (unique, filter);
        if included {
            found.included.insert(column);
        } else {
            found.columns.push(column);
        }
        if disabled && objects.idle.last().is_none_or(|last| *last != (table.clone(), index.clone())) {
            objects.idle.push((table, index));
        }
    }
    let holds = |(table, name, holds): &(String, String, bool)| (!holds).then(|| (table.clone(), name.clone()));
    objects.idle.extend(checks.iter().chain(&keys).filter_map(holds));
    for (table, name, _) in checks {
        tables.entry(table).or_default().checks.insert(name);
    }
    for (table, name, _) in keys {
        let key = ForeignKey { columns: Vec::new(), table: String::new() };
        tables.entry(table).or_default().foreign_keys.insert(name, key);
    }
    for (name, is_view, definition) in modules {
        if definition.is_none() {
            objects.hidden.push(name.clone());
        }
        let text = definition.map(|text| words(&text).join(" ")).unwrap_or_default();
        objects.shape.modules.insert(name, Module { is_view, text });
    }
    objects
}

// --- What is to be thought of it ---

fn judge(seen: &Seen) -> Vec<Finding> {
    let look = &seen.look;
    let mut findings = vec![server(look, seen.state.as_ref())];
    match &seen.state {
        Some(state) => findings.extend(database(&look.database, state)),
        None => findings.push(Finding::odd(
            "how the database is set up could not be read",
            "run the check with a login that may see sys.databases",
        )),
    }
    findings.extend(replicas(seen));
    if !look.has_schema {
        let hint = if look.may_create { "`lull db migrate` or the first start of the server makes it" } else { SCRIPT };
        findings.push(Finding::bad("there is no schema `lull` yet", hint));
        return findings;
    }
    findings.extend(rights(look, seen.state.as_ref()));
    if !look.has_ledger {
        findings.push(Finding::bad("schema `lull` has no tables that this login can see", SCRIPT));
        return findings;
    }
    findings.extend(tables(seen));
    if let Some(leader) = &seen.leader {
        findings.push(Finding::good(match &leader.holder {
            Some(holder) => format!("{holder} leads in term {}", leader.term.0),
            None => format!("there is no leader; the last term was {}", leader.term.0),
        }));
    }
    findings
}

/// Kinds of servers, by EngineEdition.
/// <https://learn.microsoft.com/sql/t-sql/functions/serverproperty-transact-sql>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edition {
    /// SQL Server that somebody installed.
    Own,
    /// Azure SQL Database, or SQL database in Fabric.
    Azure,
    /// Azure SQL Managed Instance.
    Managed,
    /// Synapse: without constraints that hold.
    Warehouse,
}

impl Edition {
    fn of(number: Option<i64>) -> Self {
        match number {
            Some(5 | 12) => Self::Azure,
            Some(8) => Self::Managed,
            Some(6 | 11) => Self::Warehouse,
            _ => Self::Own,
        }
    }
}

fn server(look: &Look, state: Option<&State>) -> Finding {
    let Look { login, database, server_version, .. } = look;
    let words = |name: &str| format!("{login} is logged in to {database} on {name}");
    match Edition::of(state.and_then(|state| state.edition)) {
        // These say version 12 for ever and are newer than any that can be installed.
        Edition::Azure => Finding::good(words("Azure SQL Database")),
        Edition::Managed => Finding::good(words("Azure SQL Managed Instance")),
        Edition::Warehouse => Finding::bad(words("Azure Synapse"), "use SQL Server or Azure SQL Database: keys do not hold here"),
        Edition::Own => {
            let words = words(&format!("SQL Server {server_version}"));
            let major = server_version.split('.').next().and_then(|major| major.parse::<i64>().ok());
            match major {
                Some(major) if major < VERSION_MIN => Finding::bad(words, "SQL Server 2017 (14.0) is the oldest that will do"),
                Some(_) | None => Finding::good(words),
            }
        }
    }
}

fn database(name: &str, state: &State) -> Vec<Finding> {
    let alter = |what: &str| format!("ALTER DATABASE [{}] SET {what}", name.replace(']', "]]"));
    let mut findings = Vec::new();
    match state.level {
        Some(level) if level < LEVEL_MIN => findings.push(Finding::bad(
            format!("the database has compatibility level {level}, and OPENJSON needs {LEVEL_MIN}"),
            alter(&format!("COMPATIBILITY_LEVEL = {LEVEL_WANTED}")),
        )),
        Some(level) if level < LEVEL_WANTED => findings.push(Finding::odd(
            format!("the database has compatibility level {level}: query plans are those of an older server"),
            alter(&format!("COMPATIBILITY_LEVEL = {LEVEL_WANTED}")),
        )),
        Some(_) | None => {}
    }
    if state.read_only {
        findings.push(Finding::bad("the database is read-only", "connect to the primary, or let the restore end"));
    }
    if !state.read_committed_snapshot {
        findings.push(Finding::odd(
            "READ_COMMITTED_SNAPSHOT is off: reports and the coordinator wait for each other",
            alter("READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE"),
        ));
    }
    if state.delayed_durability == Some(2) {
        findings.push(Finding::bad(
            "DELAYED_DURABILITY is FORCED: what is confirmed to agents may be gone after a crash",
            alter("DELAYED_DURABILITY = DISABLED"),
        ));
    }
    if state.auto_close {
        findings.push(Finding::odd(
            "AUTO_CLOSE is on: the database is opened anew for each first connection",
            alter("AUTO_CLOSE OFF"),
        ));
    }
    findings
}

fn replicas(seen: &Seen) -> Option<Finding> {
    let lagging: Vec<&str> =
        seen.replicas.iter().flatten().filter(|replica| !replica.synchronous).map(|replica| replica.name.as_str()).collect();
    (!lagging.is_empty()).then(|| {
        Finding::odd(
            format!("copies of the database lag behind: {}", lagging.join(", ")),
            "after a fail-over to one of them the last commits are gone: the coordinator says so and goes on from what is \
             there; use synchronous commit where nothing may be lost",
        )
    })
}

fn rights(look: &Look, state: Option<&State>) -> Vec<Finding> {
    let login = &look.login;
    let mut findings = vec![if look.lacking.is_empty() {
        Finding::good(format!("{login} may read and write the rows of schema `lull`"))
    } else {
        Finding::bad(
            format!("{login} lacks {} in schema `lull`", look.lacking.join(", ")),
            "make it a member of the role: ALTER ROLE lull_coordinator ADD MEMBER ...; `lull db script` makes the role",
        )
    }];
    let more = match state {
        Some(State { is_sysadmin: true, .. }) => Some("administers the whole server"),
        Some(State { is_owner: true, .. }) => Some("owns the database"),
        _ if look.may_create => Some("may create tables"),
        Some(State { may_change_audit: true, .. }) => Some("may change what is in the audit"),
        _ => None,
    };
    findings.push(match more {
        Some(more) => Finding::odd(
            format!("{login} {more}, which the coordinator does not need"),
            "rights beyond rows serve upgrades alone; `lull db script` makes a role without them",
        ),
        None => Finding::good(format!("{login} has no right beyond rows: upgrades go through `lull db script`")),
    });
    findings
}

fn tables(seen: &Seen) -> Vec<Finding> {
    let missing = match schema::compatible(&seen.applied) {
        Ok(missing) if missing.is_empty() => None,
        Ok(missing) => Some(Finding::bad(
            format!("{} steps are missing", missing.len()),
            "`lull db migrate` with a login that may create tables, or a DBA with `lull db script`",
        )),
        Err(incompatible) => Some(Finding::failed(&incompatible.to_string())),
    };
    if let Some(finding) = missing {
        return vec![finding];
    }
    let Some(objects) = &seen.objects else {
        return vec![Finding::odd(
            "all steps were applied; what the tables look like could not be read",
            "run the check with a login that may see the catalog of the database",
        )];
    };
    let differences = compare(&schema::shape(&MIGRATIONS), objects);
    if differences.is_empty() {
        let hidden = if objects.hidden.is_empty() { "" } else { " (the text of the views is not shown to this login)" };
        return vec![Finding::good(format!("the tables and views are those of this program{hidden}"))];
    }
    differences
}

/// What differs from what the steps make. What is there beside it is nobody's business.
fn compare(wanted: &Shape, found: &Objects) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, table) in &wanted.tables {
        let Some(other) = found.shape.tables.get(name) else {
            findings.push(Finding::bad(
                format!("table lull.{name} is missing"),
                "restore a copy of the database, or look who removed it",
            ));
            continue;
        };
        for (column, wanted) in &table.columns {
            match other.columns.get(column) {
                Some(found) if found == wanted => {}
                Some(found) => findings.push(Finding::bad(
                    format!("lull.{name}.{column} is {} where it should be {}", kind(found), kind(wanted)),
                    format!("ALTER TABLE lull.{name} ALTER COLUMN {column} ..."),
                )),
                None => findings.push(Finding::bad(
                    format!("column lull.{name}.{column} is missing"),
                    "restore a copy of the database, or look who removed it",
                )),
            }
        }
        findings.extend(indexes(name, &table.indexes, &other.indexes));
        let constraints = table.checks.iter().chain(table.foreign_keys.keys());
        for constraint in constraints.filter(|name| !other.checks.contains(*name) && !other.foreign_keys.contains_key(*name)) {
            findings.push(Finding::odd(
                format!(
                    "constraint {constraint} of lull.{name} is missing: the database lets in what Lull relies on not to be there"
                ),
                "make it again as `lull db script` does",
            ));
        }
    }
    for (table, name) in &found.idle {
        findings.push(Finding::odd(
            format!("{name} of lull.{table} is disabled, or was not checked for the rows that are there"),
            format!("ALTER INDEX {name} ON lull.{table} REBUILD, or ALTER TABLE lull.{table} WITH CHECK CHECK CONSTRAINT {name}"),
        ));
    }
    for (name, module) in &wanted.modules {
        let known = found.shape.modules.get(name);
        let words = match known {
            None => "is missing",
            Some(other) if other.text != module.text && !found.hidden.contains(name) => "is another one than this program's",
            Some(_) => continue,
        };
        findings.push(Finding::odd(format!("lull.{name} {words}"), "make it again as `lull db script` does"));
    }
    findings
}

fn kind(column: &Column) -> String {
    format!("{}{}", column.kind, if column.nullable { " NULL" } else { " NOT NULL" })
}

fn indexes(table: &str, wanted: &BTreeMap<String, Index>, found: &BTreeMap<String, Index>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, index) in wanted {
        let words = match found.get(name) {
            None => "is missing",
            Some(other) if !alike(index, other) => "is another one than this program's",
            Some(_) => continue,
        };
        let text = format!("index {name} of lull.{table} {words}");
        let hint = "make it again as `lull db script` does";
        findings.push(if index.unique { Finding::bad(text, hint) } else { Finding::odd(text, hint) });
    }
    findings
}

/// The server writes a filter in its own way: with brackets.
fn alike(wanted: &Index, found: &Index) -> bool {
    let filter = |index: &Index| {
        let words = index.filter.as_deref().map(words).unwrap_or_default();
        words.into_iter().filter(|word| !matches!(word.as_str(), "(" | ")" | "[" | "]")).collect::<Vec<_>>()
    };
    (wanted.unique, &wanted.columns, &wanted.included) == (found.unique, &found.columns, &found.included)
        && filter(wanted) == filter(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::check::Verdict;

    fn as_it_should_be() -> Seen {
        let look = Look {
            database: "lull".into(),
            server_version: "16.0.4035.4".into(),
            login: "svc".into(),
            has_schema: true,
            has_ledger: true,
            ..Look::default()
        };
        let state = State {
            edition: Some(3),
            level: Some(160),
            read_committed_snapshot: true,
            delayed_durability: Some(0),
            ..State::default()
        };
        let applied = MIGRATIONS.iter().map(|step| Applied { number: step.number, checksum: step.checksum() }).collect();
        let objects = Objects { shape: schema::shape(&MIGRATIONS), ..Objects::default() };
        Seen { look, state: Some(state), replicas: Some(Vec::new()), applied, objects: Some(objects), leader: None }
    }

    #[test]
    fn what_the_server_lists_row_by_row_is_gathered_by_table() {
        let row = |index: &str, column: &str, included, disabled| IndexRow {
            table: "tasks".into(),
            index: index.into(),
            unique: index == "pk",
            disabled,
            filter: None,
            column: column.into(),
            included,
        };
        let rows = vec![
            row("pk", "job_id", false, false),
            row("pk", "task_index", false, false),
            row("idle", "state", false, true),
            row("idle", "ended_us", true, true),
        ];
        let constraint = |name: &str, holds| ("tasks".to_owned(), name.to_owned(), holds);
        let checks = vec![constraint("ck_state", true), constraint("ck_idle", false)];
        let keys = vec![constraint("fk_job", true), constraint("fk_idle", false)];
        let view = |name: &str, text: Option<&str>| (name.to_owned(), true, text.map(str::to_owned));
        let modules = vec![view("jobs", Some("CREATE VIEW  jobs AS SELECT 1")), view("secret", None)];
        let Objects { shape, idle, hidden } = gather(Vec::new(), rows, checks, keys, modules);
        let table = &shape.tables["tasks"];
        let index = |name: &str| &table.indexes[name];
        assert_eq!((index("pk").unique, &index("pk").columns[..]), (true, &["job_id".to_owned(), "task_index".to_owned()][..]));
        assert_eq!((index("idle").unique, &index("idle").columns[..]), (false, &["state".to_owned()][..]));
        assert_eq!((index("pk").included.len(), index("idle").included.contains("ended_us")), (0, true));
        let names = |idle: &[(String, String)]| idle.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&idle), ["idle", "ck_idle", "fk_idle"], "each once");
        assert_eq!((table.checks.len(), table.foreign_keys.len()), (2, 2));
        assert_eq!((hidden, shape.modules.len()), (vec!["secret".to_owned()], 2));
    }

    fn worst(seen: &Seen) -> Vec<(Verdict, String)> {
        let bad = |finding: Finding| (finding.verdict != Verdict::Good).then_some((finding.verdict, finding.text));
        judge(seen).into_iter().filter_map(bad).collect()
    }

    /// What is found when one thing is not as it should be.
    fn when(change: impl FnOnce(&mut Seen)) -> (Verdict, String) {
        let mut seen = as_it_should_be();
        change(&mut seen);
        let mut found = worst(&seen);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn of_state(change: impl FnOnce(&mut State)) -> (Verdict, String) {
        when(|seen| change(seen.state.as_mut().expect("it is seen")))
    }

    fn of_objects(change: impl FnOnce(&mut Objects)) -> (Verdict, String) {
        when(|seen| change(seen.objects.as_mut().expect("they are seen")))
    }

    #[test]
    fn a_database_as_it_should_be_is_fine() {
        assert_eq!(worst(&as_it_should_be()), []);
    }

    #[test]
    fn azure_is_known_by_its_edition() {
        for (edition, name) in [(5, "Azure SQL Database"), (8, "Azure SQL Managed Instance")] {
            let mut seen = as_it_should_be();
            seen.look.server_version = "12.0.2000.8".into();
            seen.state.as_mut().expect("it is seen").edition = Some(edition);
            assert_eq!(worst(&seen), []);
            assert!(judge(&seen)[0].text.contains(name));
        }
        assert_eq!(when(|seen| seen.look.server_version = "13.0.1601.5".into()).0, Verdict::Bad);
        assert_eq!(of_state(|state| state.edition = Some(6)).0, Verdict::Bad);
    }

    #[test]
    fn settings_that_cost_results_or_time_are_named() {
        let contains = |found: (Verdict, String), verdict: Verdict, words: &str| {
            assert_eq!(found.0, verdict);
            assert!(found.1.contains(words), "{found:?}");
        };
        contains(of_state(|state| state.level = Some(120)), Verdict::Bad, "level 120");
        contains(of_state(|state| state.level = Some(130)), Verdict::Odd, "level 130");
        contains(of_state(|state| state.read_committed_snapshot = false), Verdict::Odd, "READ_COMMITTED_SNAPSHOT");
        contains(of_state(|state| state.delayed_durability = Some(2)), Verdict::Bad, "DELAYED_DURABILITY");
        contains(of_state(|state| state.auto_close = true), Verdict::Odd, "AUTO_CLOSE");
        contains(of_state(|state| state.read_only = true), Verdict::Bad, "read-only");
        let replica = |synchronous| Replica { name: "east".into(), synchronous };
        contains(when(|seen| seen.replicas = Some(vec![replica(false), replica(true)])), Verdict::Odd, "lag behind: east");
        contains(when(|seen| seen.state = None), Verdict::Odd, "could not be read");
    }

    #[test]
    fn rights_that_are_missing_or_too_many_are_named() {
        assert!(when(|seen| seen.look.lacking = vec!["DELETE"]).1.contains("lacks DELETE"));
        assert!(when(|seen| seen.look.may_create = true).1.contains("may create tables"));
        assert!(of_state(|state| state.is_sysadmin = true).1.contains("administers the whole server"));
        assert!(of_state(|state| state.is_owner = true).1.contains("owns the database"));
        assert!(of_state(|state| state.may_change_audit = true).1.contains("audit"));
    }

    #[test]
    fn objects_that_differ_are_named() {
        let table = |objects: &mut Objects, name: &str| objects.shape.tables.remove(name).expect("it is there");
        assert!(of_objects(|objects| drop(table(objects, "logs"))).1.contains("table lull.logs is missing"));
        let changed = |change: fn(&mut super::super::shape::Table)| {
            of_objects(|objects| change(objects.shape.tables.get_mut("tasks").expect("it is there")))
        };
        let (verdict, words) = changed(|tasks| drop(tasks.columns.remove("state")));
        assert_eq!((verdict, words.as_str()), (Verdict::Bad, "column lull.tasks.state is missing"));
        let (verdict, words) = changed(|tasks| tasks.columns.get_mut("state").expect("it is there").kind = "varchar(8)".into());
        assert_eq!(verdict, Verdict::Bad);
        assert_eq!(words, "lull.tasks.state is varchar(8) NOT NULL where it should be varchar(16) NOT NULL");
        assert_eq!(changed(|tasks| drop(tasks.indexes.remove("ix_tasks_open"))).0, Verdict::Odd);
        assert_eq!(changed(|tasks| drop(tasks.indexes.remove("pk_tasks"))).0, Verdict::Bad);
        let (_, words) = changed(|tasks| assert!(tasks.checks.remove("ck_tasks_place")));
        assert!(words.contains("ck_tasks_place"));
        assert!(changed(|tasks| drop(tasks.foreign_keys.remove("fk_tasks_job"))).1.contains("fk_tasks_job"));
        let view = |objects: &mut Objects| objects.shape.modules.get_mut("task_list").expect("it is there").text.push_str(" x");
        assert!(of_objects(view).1.contains("lull.task_list is another one"));
        let idle = |objects: &mut Objects| objects.idle.push(("tasks".into(), "ck_tasks_place".into()));
        assert!(of_objects(idle).1.contains("disabled"));
        let mut seen = as_it_should_be();
        let objects = seen.objects.as_mut().expect("they are seen");
        view(objects);
        objects.hidden.push("task_list".into());
        assert_eq!(worst(&seen), [], "a text that is not shown cannot differ");
        assert_eq!(when(|seen| seen.objects = None).0, Verdict::Odd);
    }

    #[test]
    fn the_catalog_is_read_as_the_steps_are() {
        let column =
            |name: &str, kind: &str| ("tasks".to_owned(), name.to_owned(), Column { kind: kind.into(), nullable: false });
        let index = |column: &str, included| IndexRow {
            table: "tasks".into(),
            index: "ix_tasks_bad".into(),
            unique: false,
            disabled: true,
            filter: Some("([ended_us] IS NOT NULL AND [state]<>'succeeded')".into()),
            column: column.into(),
            included,
        };
        let indexes = vec![index("job_id", false), index("state", false), index("task_index", false), index("ended_us", true)];
        let view = ("v".to_owned(), true, Some("-- A comment.\nCREATE VIEW lull.v AS\nSELECT 1 AS x;".to_owned()));
        let objects =
            gather(vec![column("state", "varchar(16)")], indexes, vec![], vec![("a".into(), "b".into(), false)], vec![view]);
        let wanted = schema::shape(&MIGRATIONS);
        assert!(alike(&wanted.tables["tasks"].indexes["ix_tasks_bad"], &objects.shape.tables["tasks"].indexes["ix_tasks_bad"]));
        assert_eq!(objects.idle, [("tasks".to_owned(), "ix_tasks_bad".to_owned()), ("a".to_owned(), "b".to_owned())]);
        assert_eq!(objects.shape.modules["v"].text, "CREATE VIEW lull.v AS SELECT 1 AS x ;");
    }

    #[test]
    fn nothing_is_said_of_tables_that_are_not_there_yet() {
        let (verdict, words) = when(|seen| (seen.look.has_schema, seen.look.has_ledger) = (false, false));
        assert_eq!((verdict, words.as_str()), (Verdict::Bad, "there is no schema `lull` yet"));
        assert!(when(|seen| seen.applied.clear()).1.contains("steps are missing"));
    }

    /// A row with these columns; all others are null.
    #[derive(Clone, Default)]
    struct Given(BTreeMap<&'static str, (i64, &'static str)>);

    impl Given {
        fn with(mut self, column: &'static str, number: i64, text: &'static str) -> Self {
            self.0.insert(column, (number, text));
            self
        }
    }

    impl Columns for Given {
        fn int(&self, column: &str) -> Result<Option<i64>, Damaged> {
            Ok(self.0.get(column).map(|(number, _)| *number))
        }

        fn text(&self, column: &str) -> Result<Option<String>, Damaged> {
            Ok(self.0.get(column).map(|(_, text)| (*text).to_owned()).filter(|text| !text.is_empty()))
        }

        fn bytes(&self, _: &str) -> Result<Option<Vec<u8>>, Damaged> {
            Ok(None)
        }
    }

    const RIGHTS: [(&str, &str); 5] = [
        ("may_select", "SELECT"),
        ("may_insert", "INSERT"),
        ("may_update", "UPDATE"),
        ("may_delete", "DELETE"),
        ("may_execute", "EXECUTE"),
    ];

    #[test]
    fn a_right_is_there_where_the_server_says_so_and_each_is_asked_for_by_its_name() {
        let all = RIGHTS.into_iter().fold(Given::default(), |row, (column, _)| row.with(column, 1, ""));
        assert!(seen(&all).expect("a row").lacking.is_empty());
        for (column, right) in RIGHTS {
            assert_eq!(seen(&all.clone().with(column, 0, "")).expect("a row").lacking, [right]);
        }
        let none = seen(&Given::default()).expect("a row");
        assert_eq!(none.lacking, RIGHTS.map(|(_, right)| right), "what is not said is not there");
        assert!(!none.has_schema && !none.has_ledger && !none.may_create);
        let row = all.with("has_schema", 1, "").with("has_ledger", 1, "").with("may_create_tables", 1, "");
        let row = row.with("database_name", 0, "d").with("server_version", 0, "16.0").with("login_name", 0, "l");
        let look = seen(&row).expect("a row");
        assert!(look.has_schema && look.has_ledger && look.may_create);
        assert_eq!([look.database, look.server_version, look.login], ["d", "16.0", "l"]);
    }

    #[test]
    fn the_state_of_a_database_is_read_column_by_column() {
        let flags = |row: &Given| {
            let state = state(row).expect("a row");
            [
                state.read_committed_snapshot,
                state.auto_close,
                state.read_only,
                state.is_sysadmin,
                state.is_owner,
                state.may_change_audit,
            ]
        };
        assert_eq!(flags(&Given::default()), [false; 6]);
        for (column, at) in [
            ("read_committed_snapshot", 0),
            ("auto_close", 1),
            ("read_only", 2),
            ("is_sysadmin", 3),
            ("is_owner", 4),
            ("may_delete_audit", 5),
            ("may_update_audit", 5),
        ] {
            let mut expected = [false; 6];
            assert_eq!(flags(&Given::default().with(column, 0, "")), expected, "{column}");
            expected[at] = true;
            assert_eq!(flags(&Given::default().with(column, 1, "")), expected, "{column}");
        }
        let row = Given::default().with("engine_edition", 5, "").with("compatibility_level", 150, "");
        let read = state(&row.with("delayed_durability", 2, "")).expect("a row");
        assert_eq!((read.edition, read.level, read.delayed_durability), (Some(5), Some(150), Some(2)));
        for (mode, synchronous) in [(0, false), (1, true), (4, false)] {
            let row = Given::default().with("replica_name", 0, "east").with("availability_mode", mode, "");
            let replica = replica(&row).expect("a row");
            assert_eq!((replica.name.as_str(), replica.synchronous), ("east", synchronous), "{mode}");
        }
    }

    #[test]
    fn the_catalog_of_a_server_is_read_in_the_words_of_the_steps() {
        let row = Given::default().with("table_name", 0, "tasks").with("column_name", 0, "c");
        for (kind, size, expected) in [
            ("nvarchar", -1, "nvarchar(max)"),
            ("varchar", -1, "varchar(max)"),
            ("varbinary", -1, "varbinary(max)"),
            ("nvarchar", 512, "nvarchar(256)"),
            ("varchar", 16, "varchar(16)"),
            ("varbinary", 900, "varbinary(900)"),
            ("binary", 32, "binary(32)"),
            ("bigint", 8, "bigint"),
        ] {
            for (is_nullable, nullable) in [(0, false), (1, true)] {
                let row = row.clone().with("type_name", 0, kind).with("size_bytes", size, "");
                let read = column_row(&row.with("is_nullable", is_nullable, "")).expect("a row");
                let column = Column { kind: expected.into(), nullable };
                assert_eq!(read, ("tasks".to_owned(), "c".to_owned(), column));
            }
        }
        let flags = ["is_unique", "is_disabled", "is_included"];
        let plain = flags.into_iter().fold(row.with("index_name", 0, "i"), |row, flag| row.with(flag, 0, ""));
        for (at, flag) in flags.into_iter().enumerate() {
            let index = index_row(&plain.clone().with(flag, 1, "")).expect("a row");
            let mut expected = [false; 3];
            expected[at] = true;
            assert_eq!([index.unique, index.disabled, index.included], expected, "{flag}");
            assert_eq!((index.table.as_str(), index.index.as_str(), index.column.as_str()), ("tasks", "i", "c"));
            assert_eq!(index.filter, None);
        }
        let filtered = index_row(&plain.with("filter", 0, "x IS NULL")).expect("a row");
        assert_eq!(filtered.filter.as_deref(), Some("x IS NULL"));
        for (disabled, not_trusted, expected) in [(0, 0, true), (1, 0, false), (0, 1, false), (1, 1, false)] {
            let row = Given::default().with("table_name", 0, "tasks").with("constraint_name", 0, "ck");
            let row = row.with("is_disabled", disabled, "").with("is_not_trusted", not_trusted, "");
            assert_eq!(constraint_row(&row).expect("a row"), ("tasks".into(), "ck".into(), expected));
        }
        for (is_view, expected) in [(1, true), (0, false)] {
            let row = Given::default().with("module_name", 0, "jobs").with("is_view", is_view, "");
            assert_eq!(module_row(&row).expect("a row"), ("jobs".into(), expected, None));
        }
    }

    /// How bad it is at the worst; none: fine.
    fn verdict(change: impl FnOnce(&mut Seen)) -> Option<Verdict> {
        let mut seen = as_it_should_be();
        change(&mut seen);
        let found = worst(&seen);
        assert!(found.len() <= 1, "{found:?}");
        found.first().map(|(verdict, _)| *verdict)
    }

    #[test]
    fn versions_levels_and_editions_will_do_from_their_bounds_on() {
        let (fine, warning, problem) = (None, Some(Verdict::Odd), Some(Verdict::Bad));
        for (version, expected) in [("13.9.9", problem), ("14.0.1000", fine), ("17", fine), ("unknown", fine), ("", fine)] {
            assert_eq!(verdict(|seen| seen.look.server_version = version.into()), expected, "{version}");
        }
        let of_state = |change: &dyn Fn(&mut State)| verdict(|seen| change(seen.state.as_mut().expect("it is seen")));
        let levels = [(Some(129), problem), (Some(130), warning), (Some(139), warning), (Some(140), fine), (None, fine)];
        for (level, expected) in levels {
            assert_eq!(of_state(&|state| state.level = level), expected, "{level:?}");
        }
        for (delayed, expected) in [(None, fine), (Some(0), fine), (Some(1), fine), (Some(2), problem)] {
            assert_eq!(of_state(&|state| state.delayed_durability = delayed), expected, "{delayed:?}");
        }
        for (edition, expected, name) in [
            (None, fine, "SQL Server 16"),
            (Some(3), fine, "SQL Server 16"),
            (Some(5), fine, "Azure SQL Database"),
            (Some(12), fine, "Azure SQL Database"),
            (Some(8), fine, "Azure SQL Managed Instance"),
            (Some(6), problem, "Azure Synapse"),
            (Some(11), problem, "Azure Synapse"),
        ] {
            assert_eq!(of_state(&|state| state.edition = edition), expected, "{edition:?}");
            let mut seen = as_it_should_be();
            seen.state.as_mut().expect("it is seen").edition = edition;
            assert!(judge(&seen)[0].text.contains(name), "{edition:?}");
        }
        let hint = database("a]b", &State { read_committed_snapshot: true, auto_close: true, ..State::default() });
        assert!(hint[0].hint.as_deref().is_some_and(|hint| hint.contains("[a]]b]")), "{hint:?}");
    }

    #[test]
    fn what_is_fine_is_said_in_words_too() {
        let said = |change: fn(&mut Seen)| {
            let mut seen = as_it_should_be();
            change(&mut seen);
            let texts: Vec<String> = judge(&seen).into_iter().map(|finding| finding.text).collect();
            texts.join("\n")
        };
        let leader = |holder: Option<&str>| LeaderRecord {
            term: lull_shared::id::Term(7),
            holder: holder.map(Into::into),
            until: lull_shared::time::Timestamp(0),
        };
        let usual = said(|_| ());
        assert!(usual.contains("may read and write") && usual.contains("no right beyond rows"), "{usual}");
        assert!(usual.contains("are those of this program") && !usual.contains("is not shown") && !usual.contains("term"));
        assert!(said(|seen| seen.objects.as_mut().expect("they are seen").hidden.push("x".into())).contains("is not shown"));
        let mut seen = as_it_should_be();
        for (holder, expected) in [(Some("north"), "north leads in term 7"), (None, "no leader; the last term was 7")] {
            seen.leader = Some(leader(holder));
            assert!(judge(&seen).iter().any(|finding| finding.text.contains(expected)), "{expected}");
        }
        for (may_create, expected) in [(true, "lull db migrate"), (false, "lull db script")] {
            let mut seen = as_it_should_be();
            (seen.look.has_schema, seen.look.may_create) = (false, may_create);
            let hint = judge(&seen).pop().and_then(|finding| finding.hint).expect("a hint");
            assert!(hint.contains(expected), "{hint}");
        }
        assert!(said(|seen| seen.look.has_ledger = false).contains("no tables that this login can see"));
    }

    #[test]
    fn an_index_a_column_or_a_view_that_differs_in_one_thing_is_another() {
        type Change<T> = fn(&mut T);
        let changed = |change: &dyn Fn(&mut super::super::shape::Table)| {
            of_objects(|objects| change(objects.shape.tables.get_mut("tasks").expect("it is there"))).1
        };
        let changes: [Change<Index>; 4] = [
            |index| index.unique = true,
            |index| index.columns.reverse(),
            |index| index.included.clear(),
            |index| index.filter = None,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let words = changed(&|tasks| change(tasks.indexes.get_mut("ix_tasks_bad").expect("it is there")));
            assert!(words.contains("ix_tasks_bad of lull.tasks is another one"), "{number}: {words}");
        }
        let words = changed(&|tasks| tasks.columns.get_mut("agent_id").expect("it is there").nullable = false);
        assert_eq!(words, "lull.tasks.agent_id is bigint NOT NULL where it should be bigint NULL");
        assert!(changed(&|tasks| drop(tasks.indexes.remove("ix_tasks_bad"))).contains("is missing"));
        let gone = of_objects(|objects| drop(objects.shape.modules.remove("task_list")));
        assert_eq!(gone, (Verdict::Odd, "lull.task_list is missing".into()));
        let hidden_and_gone = of_objects(|objects| {
            objects.shape.modules.remove("task_list");
            objects.hidden.push("job_list".into());
        });
        assert_eq!(hidden_and_gone.1, "lull.task_list is missing");
    }
}
