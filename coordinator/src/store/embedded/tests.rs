//! What only a file can get wrong: its rights, its age, damage, a second program, and its speed.

use std::{path::Path, sync::Arc, time::Duration};

use lull_shared::{
    digest::{BlobRef, PIECE_BYTES},
    id::Term,
    time::Timestamp,
};
use rusqlite::Connection;

use super::{
    super::{Finding, Lead, Store, StoreError, StoreResult, Takeover, Verdict, migration::Migration},
    MIGRATIONS, check, connection, migrate, open, schema,
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("lull.db")).expect("the file opens")
}

fn words(answer: StoreResult<Arc<dyn Store>>) -> String {
    match answer {
        Err(StoreError::Determinate(error)) => error.to_string(),
        Err(other) => panic!("an unusable file is a certainty, not {other:?}"),
        Ok(_) => panic!("the file should be refused"),
    }
}

/// A released step must not change: databases hold its checksum. A new step is added to these lists with its own.
#[test]
fn released_steps_are_frozen() {
    let checksums = |steps: &[Migration]| -> Vec<String> { steps.iter().map(|step| step.checksum()[..16].to_owned()).collect() };
    assert_eq!(checksums(&MIGRATIONS), ["e43952c156aaf16a", "ddcc11997b510aa6", "2f3725515b772552", "de76308d46939dbb"]);
    let sqlserver = ["55c42d6d5dbcc54c", "2175cc2789b4b402", "eb0e684416d59a92", "d6fffdf31f8bd9e7", "dce6e8ddff7ce9b7"];
    assert_eq!(checksums(&super::super::sqlserver::MIGRATIONS), sqlserver);
}

/// What is on disk when a commit returns, and that no row refers to nothing: SQLite's defaults are others.
#[test]
fn a_commit_is_synced_and_references_are_checked() {
    let folder = folder();
    let writer = connection::writer(&connection::create(folder.path()).expect("a file")).expect("it opens");
    let set =
        |pragma: &str| writer.pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0)).expect("a value");
    assert_eq!(set("synchronous"), 2.into(), "FULL: the log is synced with each commit");
    assert_eq!(set("journal_mode"), "wal".to_owned().into());
    assert_eq!(set("foreign_keys"), 1.into());
}

#[test]
fn whoever_only_reads_writes_nothing() {
    let folder = folder();
    let file = connection::create(folder.path()).expect("a file");
    connection::writer(&file).expect("it opens").execute_batch("CREATE TABLE things (number INTEGER)").expect("made");
    let reader = connection::reader(&file).expect("it opens");
    assert_eq!(reader.query_row("SELECT count(*) FROM things", [], |row| row.get::<_, i64>(0)), Ok(0));
    let refused = reader.execute("INSERT INTO things VALUES (1)", []).expect_err("it only reads");
    assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::ReadOnly));
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    std::fs::write(folder.path().join("lull.db"), b"").expect("a file with wide rights");
    let store = open(folder.path()).await.expect("the store opens");
    store.take_over("us", Duration::from_secs(1), Timestamp(0)).await.expect("an answer");
    for entry in std::fs::read_dir(folder.path()).expect("the folder is there") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("it has rights").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn a_newer_or_foreign_database_is_left_alone() {
    let folder = folder();
    drop(open(folder.path()).await.expect("the store opens"));
    database(folder.path()).execute("INSERT INTO migrations VALUES (99, 'later', 'x', 0)", []).expect("a row");
    let refused = words(open(folder.path()).await);
    assert!(refused.contains("version 99") && refused.contains("hint: start the newer program"), "{refused}");
    assert!(!check(folder.path()).is_usable());

    let other = self::folder();
    drop(open(other.path()).await.expect("the store opens"));
    database(other.path()).execute("UPDATE migrations SET checksum = 'x'", []).expect("a row");
    assert!(words(open(other.path()).await).contains("made by other steps"));
}

#[tokio::test]
async fn damage_is_named_with_what_to_do() {
    let folder = folder();
    std::fs::write(folder.path().join("lull.db"), vec![7; 8192]).expect("a file");
    let refused = words(open(folder.path()).await);
    assert!(refused.contains("hint: the file is damaged or no database"), "{refused}");
    let report = check(folder.path());
    assert!(!report.is_usable() && report.findings.iter().any(|finding| finding.hint.is_some()), "{report:?}");
}

#[tokio::test]
async fn a_lock_held_by_another_program_is_named() {
    let folder = folder();
    drop(open(folder.path()).await.expect("the store opens"));
    let other = database(folder.path());
    other.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    let store = open(folder.path()).await.expect("opening reads only");
    let answer = store.take_over("us", Duration::from_secs(1), Timestamp(0)).await;
    let Err(StoreError::Determinate(error)) = answer else { panic!("{answer:?}") };
    assert!(error.to_string().contains("hint: another program holds the database"), "{error}");
    other.execute_batch("ROLLBACK").expect("unlocked");
    assert!(store.take_over("us", Duration::from_secs(1), Timestamp(0)).await.is_ok());
}

#[tokio::test]
async fn two_processes_on_one_folder_have_one_leader() {
    let folder = folder();
    let (first, second) = (open(folder.path()).await.expect("opens"), open(folder.path()).await.expect("opens"));
    let lease = Duration::from_secs(10);
    let ours = first.take_over("first", lease, Timestamp(0)).await.expect("an answer");
    assert_eq!(ours, Takeover::Ours(Lead::new(Term(1), "first")));
    assert!(matches!(second.take_over("second", lease, Timestamp(1)).await, Ok(Takeover::Theirs { .. })));
    let later = Timestamp(0) + lease;
    assert_eq!(second.take_over("second", lease, later).await.expect("an answer"), Takeover::Ours(Lead::new(Term(2), "second")));
    assert!(matches!(first.commit(&Lead::new(Term(1), "first"), &[]).await, Err(StoreError::Fenced(_))));
}

#[tokio::test]
async fn a_check_says_what_there_is() {
    let folder = folder();
    let before = check(folder.path());
    assert!(!before.is_usable() && before.version.is_none(), "{before:?}");
    assert_eq!(migrate(folder.path()).await.expect("it is made"), MIGRATIONS.len());
    assert_eq!(migrate(folder.path()).await.expect("it is there"), 0);
    let after = check(folder.path());
    assert!(after.is_usable() && after.findings.iter().all(|finding| finding.verdict == Verdict::Good), "{after:?}");
    assert_eq!(after.version, MIGRATIONS.last().map(|step: &Migration| step.number));
}

#[tokio::test]
async fn a_machine_is_enrolled_by_looking_up_names_and_not_by_reading_all() {
    let folder = folder();
    migrate(folder.path()).await.expect("it is made");
    let database = database(folder.path());
    let sql = format!("EXPLAIN QUERY PLAN {}", super::registry::NAMES_TAKEN);
    let mut statement = database.prepare(&sql).expect("it is SQL");
    let plan = statement.query_map([r#"["desk"]"#], |row| row.get::<_, String>("detail")).expect("a plan");
    let plan: Vec<String> = plan.collect::<Result<_, _>>().expect("a plan");
    assert!(plan.iter().any(|step| step.contains("USING INDEX agents_name")), "{plan:?}");
    assert!(!plan.iter().any(|step| step.contains("SCAN agents")), "{plan:?}");
}

#[tokio::test]
async fn a_check_compares_the_objects_and_not_the_ledger_alone() {
    let folder = folder();
    migrate(folder.path()).await.expect("it is made");
    let after = |sql: &str| {
        database(folder.path()).execute_batch(sql).expect("it is understood");
        let bad = |finding: Finding| (finding.verdict != Verdict::Good).then_some((finding.verdict, finding.text));
        check(folder.path()).findings.into_iter().filter_map(bad).collect::<Vec<_>>()
    };
    assert_eq!(after(""), []);
    let found = after("PRAGMA journal_mode = DELETE;");
    assert!(matches!(&found[..], [(Verdict::Odd, text)] if text.contains("the journal is delete")), "{found:?}");
    assert_eq!(after("PRAGMA journal_mode = WAL;"), []);
    assert_eq!(after("DROP INDEX tasks_open;"), [(Verdict::Odd, "index tasks_open is missing".into())]);
    let index = "CREATE INDEX tasks_open ON tasks (job_id,\n  state, task_index, ended_us) WHERE ended_us IS NULL;";
    assert_eq!(after(index), [], "spaces and lines are no difference");
    assert_eq!(
        after("DROP VIEW audit_list; CREATE VIEW audit_list AS SELECT 1 AS one;"),
        [(Verdict::Odd, "view audit_list is another one than this program's".into())]
    );
    let found = after("ALTER TABLE policies ADD COLUMN note TEXT; CREATE TRIGGER spy AFTER DELETE ON logs BEGIN SELECT 1; END;");
    assert_eq!(found.iter().filter(|(_, text)| text == "table policies is another one than this program's").count(), 1);
    assert_eq!(found.iter().filter(|(_, text)| text == "trigger spy is none of Lull's").count(), 1, "{found:?}");
    let found = after("PRAGMA foreign_keys = OFF; INSERT INTO usage_hours VALUES (1, 99, 0);");
    assert!(
        found.iter().any(|(verdict, text)| *verdict == Verdict::Bad && text.contains("usage_hours refers to a row of jobs")),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_check_says_who_leads_what_is_missing_and_who_can_read_the_file() {
    let folder = folder();
    migrate(folder.path()).await.expect("it is made");
    let found = |verdict: Verdict, words: &str| {
        let check = check(folder.path());
        assert!(
            check.findings.iter().any(|finding| finding.verdict == verdict && finding.text.contains(words)),
            "{words}: {check:?}"
        );
    };
    let change = |sql: &str| database(folder.path()).execute_batch(sql).expect("it is understood");
    found(Verdict::Good, "there is no leader; the last term was 0");
    found(Verdict::Good, "are those of this program");
    found(Verdict::Good, "nothing damaged");
    let store = open(folder.path()).await.expect("it opens");
    assert!(matches!(store.take_over("north", Duration::from_secs(6), Timestamp(0)).await, Ok(Takeover::Ours(_))));
    drop(store);
    found(Verdict::Good, "north leads in term 1");
    change("DROP TABLE policies");
    found(Verdict::Bad, "table policies is missing");
    #[cfg(unix)]
    {
        use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

        found(Verdict::Good, "only its owner");
        for mode in [0o640, 0o604, 0o602] {
            std::fs::set_permissions(folder.path().join("lull.db"), Permissions::from_mode(mode)).expect("it is ours");
            found(Verdict::Bad, "others can read or write");
        }
    }
}

#[tokio::test]
async fn an_upload_is_kept_in_rows_of_one_size_however_it_is_written() {
    let folder = folder();
    migrate(folder.path()).await.expect("it is made");
    let store = open(folder.path()).await.expect("it opens");
    for (number, part) in [1_000, PIECE_BYTES, 3 * PIECE_BYTES + 1, 9 * PIECE_BYTES].into_iter().enumerate() {
        let bytes = vec![number as u8; 6 * PIECE_BYTES + 5];
        // The second time it is there already, and leaves nothing of its own.
        for _ in 0..2 {
            let mut blob = store.begin_blob(bytes.len() as u64).await.expect("a blob begins");
            for part in bytes.chunks(part) {
                blob.write(part).await.expect("it is taken");
            }
            assert_eq!(blob.finish().await.expect("it is kept"), BlobRef::of(&bytes));
        }
        let rows =
            "SELECT group_concat(length(bytes)) FROM (SELECT bytes FROM blob_pieces ORDER BY blob_id DESC, piece_index LIMIT 7)";
        let sizes: String = database(folder.path()).query_row(rows, [], |row| row.get(0)).expect("rows");
        assert_eq!(sizes, [[PIECE_BYTES; 6].map(|size| size.to_string()).join(","), "5".into()].join(","), "parts of {part}");
        let count = "SELECT count(*) FROM blobs WHERE digest IS NOT NULL";
        let blobs: i64 = database(folder.path()).query_row(count, [], |row| row.get(0)).expect("a row");
        let all: i64 = database(folder.path()).query_row("SELECT count(*) FROM blobs", [], |row| row.get(0)).expect("a row");
        let expected = number as i64 + 1;
        assert_eq!((blobs, all), (expected, expected));
    }
}

#[tokio::test]
async fn an_upload_that_was_swept_says_so() {
    let folder = folder();
    migrate(folder.path()).await.expect("it is made");
    let store = open(folder.path()).await.expect("it opens");
    let Ok(Takeover::Ours(lead)) = store.take_over("north", Duration::from_secs(6), Timestamp(0)).await else {
        panic!("nobody leads");
    };
    let mut blob = store.begin_blob(10).await.expect("a blob begins");
    blob.write(b"0123456789").await.expect("it is taken");
    assert_eq!(store.sweep_blobs(&lead, Timestamp(i64::MAX)).await.expect("an answer"), 1);
    assert!(matches!(blob.finish().await, Err(StoreError::Determinate(_) | StoreError::Contradiction(_))));
    assert_eq!(store.touch_blob(&BlobRef::of(b"0123456789").digest, Timestamp(1)).await.expect("an answer"), None);
}

/// Columns that name a row elsewhere and are no foreign keys, for a reason that the schema gives beside each.
const NO_KEYS: [&str; 1] = ["jobs.owner_id"];

#[test]
fn every_reference_is_a_foreign_key_or_says_why_not() {
    let mut database = Connection::open_in_memory().expect("a database");
    schema::migrate(&mut database).expect("it is made");
    let sql = "SELECT tables.name || '.' || columns.name FROM sqlite_schema AS tables
        JOIN pragma_table_info(tables.name) AS columns
        WHERE tables.type = 'table' AND substr(columns.name, -3) = '_id'
            AND NOT EXISTS (SELECT 1 FROM pragma_foreign_key_list(tables.name) AS keys WHERE keys.\"from\" = columns.name)
            AND NOT (columns.pk = 1 AND (SELECT max(own.pk) FROM pragma_table_info(tables.name) AS own) = 1)";
    let mut statement = database.prepare(sql).expect("it is understood");
    let found = statement.query_map([], |row| row.get::<_, String>(0)).expect("it is answered");
    assert_eq!(found.collect::<Result<Vec<_>, _>>().expect("names"), NO_KEYS);
}
