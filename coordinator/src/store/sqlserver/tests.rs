//! What can be told without SQL Server: the texts, and how errors and broken connections are taken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lull_shared::{
    digest::{BlobRef, PIECE_BYTES},
    id::Term,
    time::Timestamp,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
};

use super::{
    SqlServer,
    error::Fail,
    schema,
    session::{Outcome, Session, Times},
    statements, tds,
};
use crate::store::{
    Blobs as _, Lead, Leadership as _, Ledger as _, Lost, StoreError, StoreResult,
    conformance::sample,
    lead::{Kind, Refusal},
    record::LeaderRecord,
};

/// Every row but the ledger's goes, in the order that foreign keys want.
pub(super) const EMPTY: &str = "SET XACT_ABORT ON;
BEGIN TRANSACTION;
DELETE FROM lull.blob_links; DELETE FROM lull.blob_pieces; DELETE FROM lull.blobs; DELETE FROM lull.audit;
DELETE FROM lull.usage_hours; DELETE FROM lull.work_hours; DELETE FROM lull.idle_hours; DELETE FROM lull.snapshots;
DELETE FROM lull.logs; DELETE FROM lull.results; DELETE FROM lull.answers; DELETE FROM lull.attempts;
DELETE FROM lull.tasks; DELETE FROM lull.jobs; DELETE FROM lull.rollout_agents; DELETE FROM lull.rollouts;
DELETE FROM lull.agents; DELETE FROM lull.tokens;
DELETE FROM lull.label_moves; DELETE FROM lull.version_blobs; DELETE FROM lull.versions; DELETE FROM lull.functions;
DELETE FROM lull.coordinators; DELETE FROM lull.policies; DELETE FROM lull.network;
UPDATE lull.totals SET jobs = 0, tasks_succeeded = 0, attempts = 0, attempts_lost = 0, results_refused = 0;
UPDATE lull.leader SET term = 0, holder = NULL, lease_end_us = 0, writes = 0, turns = 0, revocations = 0, last_job = 0;
COMMIT TRANSACTION;";

// --- The texts ---

/// Run by `tests/tsql/check`, which then parses what it finds there.
#[test]
#[ignore = "writes files for tests/tsql/check"]
fn every_text_is_dumped_for_the_grammar_check() {
    let folder = std::env::var_os("LULL_TSQL_DUMP").expect("LULL_TSQL_DUMP names a folder");
    let write = |name: String, text: &str| {
        let file = std::path::Path::new(&folder).join(format!("{name}.sql"));
        std::fs::write(file, text).expect("the folder can be written");
    };
    for text in statements::ALL {
        write(format!("statement-{}", text.name), text.sql);
    }
    for migration in &schema::MIGRATIONS {
        for (number, piece) in schema::batches(migration.sql).iter().enumerate() {
            write(format!("migration-{:04}-{number:03}", migration.number), piece);
        }
    }
    for (number, piece) in
        schema::batches(&schema::script()).iter().enumerate().filter(|(_, piece)| !piece.contains(schema::STOP))
    {
        write(format!("script-{number:03}"), piece);
    }
    write("setup".into(), schema::LEDGER);
    write("empty".into(), EMPTY);
}

#[test]
fn only_documented_and_widely_known_t_sql_is_used() {
    let texts = statements::ALL.iter().map(|text| text.sql).chain(schema::MIGRATIONS.iter().map(|step| step.sql));
    for text in texts {
        let code: String = text.lines().map(|line| line.split("--").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
        let words: Vec<&str> = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '@').collect();
        for avoided in ["MERGE", "WAITFOR", "READPAST", "UPDLOCK", "HOLDLOCK", "NOLOCK", "XLOCK", "OUTPUT"] {
            assert!(!words.contains(&avoided), "{avoided} in: {text}");
        }
        assert!(!words.windows(2).any(|pair| pair == ["OR", "ALTER"]), "CREATE OR ALTER in: {text}");
    }
}

#[test]
fn every_table_is_emptied_before_a_case_and_those_of_others_first() {
    let shape = schema::shape(&schema::MIGRATIONS);
    let place = |table: &str| EMPTY.find(&format!("DELETE FROM lull.{table};"));
    for (name, table) in &shape.tables {
        if name == "migrations" {
            continue;
        }
        assert!(place(name).is_some() || EMPTY.contains(&format!("UPDATE lull.{name} SET")), "{name} is not emptied");
        for key in table.foreign_keys.values() {
            assert!(key.table == *name || place(name) < place(&key.table), "{name} refers to {}", key.table);
        }
    }
}

// --- A server that does as it is told ---

/// What the server does with one request.
#[derive(Debug, Clone, Copy)]
enum Reaction {
    /// The last row of a batch that writes: how it went, and the leader's row.
    Outcome(i64),
    /// The leader's row, which does not let the batch through.
    Refused {
        term: u64,
        holder: &'static str,
        writes: i64,
        turns: i64,
    },
    /// All that a scheduler needs: nothing, of this leader.
    Loaded {
        turns: (i64, i64),
    },
    Error(u32),
    /// One row, or none.
    Row(tds::Row<'static>),
    /// An answer that is complete and says nothing.
    Nothing,
    /// The first bytes of an answer, then the end of the connection.
    Half,
    Close,
    Silence,
}

/// Speaks enough TDS for a login, then reacts to each request as the script says.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    heard: Heard,
    asked: Arc<Notify>,
    script: mpsc::UnboundedSender<Reaction>,
}

/// What was asked, and after how long it is answered.
#[derive(Clone, Default)]
struct Heard {
    requests: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    answered_after: Duration,
}

impl Server {
    /// `refused` connections are closed before they are greeted.
    async fn start(refused: usize, script: &[Reaction]) -> Self {
        Self::start_slow(refused, script, Duration::ZERO).await
    }

    async fn start_slow(refused: usize, script: &[Reaction], answered_after: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (sender, reactions) = mpsc::unbounded_channel();
        for reaction in script {
            sender.send(*reaction).expect("the server is there");
        }
        let server = Self {
            port,
            connections: Arc::default(),
            heard: Heard { answered_after, ..Heard::default() },
            asked: Arc::default(),
            script: sender,
        };
        let (connections, heard, asked) = (server.connections.clone(), server.heard.clone(), server.asked.clone());
        let reactions = Arc::new(tokio::sync::Mutex::new(reactions));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if connections.fetch_add(1, Ordering::SeqCst) >= refused {
                    tokio::spawn(serve(socket, reactions.clone(), heard.clone(), asked.clone()));
                }
            }
        });
        server
    }

    fn session(&self) -> Session {
        let string =
            format!("Server=tcp:127.0.0.1,{};Database=lull_test;User Id=sa;Password=x;Encrypt=DANGER_PLAINTEXT", self.port);
        let times = Times { read: Duration::from_secs(20), write: Duration::from_secs(20) };
        Session::with_times(&string, times).expect("the string is understood")
    }

    fn store(&self) -> SqlServer {
        SqlServer { session: Arc::new(self.session()), name: String::new() }
    }

    fn counts(&self) -> (usize, usize) {
        (self.connections.load(Ordering::SeqCst), self.heard.requests.load(Ordering::SeqCst))
    }
}

/// One whole message: its kind and its bytes.
async fn message(socket: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut body = Vec::new();
    loop {
        let mut header = [0; 8];
        socket.read_exact(&mut header).await?;
        let mut part = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - header.len()];
        socket.read_exact(&mut part).await?;
        body.extend_from_slice(&part);
        if header[1] & 1 == 1 {
            return Ok((header[0], body));
        }
    }
}

async fn serve(
    mut socket: TcpStream,
    script: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Reaction>>>,
    heard: Heard,
    asked: Arc<Notify>,
) -> std::io::Result<()> {
    const PRELOGIN: u8 = 0x12;
    const LOGIN: u8 = 0x10;
    const RPC: u8 = 0x03;
    loop {
        let (kind, body) = message(&mut socket).await?;
        let answer = match kind {
            PRELOGIN => tds::prelogin(),
            LOGIN => tds::login(),
            RPC => {
                heard.requests.fetch_add(1, Ordering::SeqCst);
                heard.bytes.fetch_add(body.len(), Ordering::SeqCst);
                if !heard.answered_after.is_zero() {
                    tokio::time::sleep(heard.answered_after).await;
                }
                asked.notify_one();
                let reaction = script.lock().await.recv().await.unwrap_or(Reaction::Silence);
                match answer(reaction) {
                    Some(answer) => answer,
                    None if matches!(reaction, Reaction::Silence) => std::future::pending().await,
                    None => return Ok(()),
                }
            }
            _ => tds::done(),
        };
        socket.write_all(&answer).await?;
        if answer.len() < 8 {
            return Ok(());
        }
    }
}

fn answer(reaction: Reaction) -> Option<Vec<u8>> {
    match reaction {
        Reaction::Outcome(outcome) => Some(tds::row(&last_row(outcome, 1, "us", 1, 0))),
        Reaction::Refused { term, holder, writes, turns } => Some(tds::row(&last_row(1, term, holder, writes, turns))),
        Reaction::Loaded { turns: (before, after) } => {
            let (before, after) = (leader_row(before), leader_row(after));
            let last_job = [("last_job", int(0))];
            Some(tds::rows(&[&before, &last_job, &[], &[], &[], &[], &[], &[], &after]))
        }
        Reaction::Error(number) => Some(tds::error(number, "told to")),
        Reaction::Row(columns) => Some(tds::rows(&[columns])),
        Reaction::Nothing => Some(tds::done()),
        Reaction::Half => Some(vec![4, 1, 0, 200]),
        Reaction::Close | Reaction::Silence => None,
    }
}

fn int(value: i64) -> tds::Value<'static> {
    tds::Value::Int(Some(value))
}

fn leader_row(turns: i64) -> [(&'static str, tds::Value<'static>); 5] {
    let [_, _, term, holder, lease_end, writes, turns] = last_row(0, 1, "us", 1, turns);
    [term, holder, lease_end, writes, turns]
}

fn last_row(outcome: i64, term: u64, holder: &'static str, writes: i64, turns: i64) -> [(&'static str, tds::Value<'static>); 7] {
    let holder = tds::Value::Text(Some(holder));
    let (term, turns) = (("term", int(term as i64)), ("turns", int(turns)));
    [
        ("outcome", int(outcome)),
        ("result", int(7)),
        term,
        ("holder", holder),
        ("lease_end_us", int(0)),
        ("writes", int(writes)),
        turns,
    ]
}

fn us() -> Lead {
    Lead::new(Term(1), "us")
}

async fn fenced(session: &Session) -> Result<Outcome, Fail> {
    session.fenced(&us(), Kind::Other, statements::NOTHING, Vec::new()).await
}

fn in_doubt(answer: Result<Outcome, Fail>) -> bool {
    matches!(answer.map_err(StoreError::from), Err(StoreError::Indeterminate(_)))
}

fn certain(answer: Result<Outcome, Fail>) -> bool {
    matches!(answer.map_err(StoreError::from), Err(StoreError::Determinate(_)))
}

#[tokio::test]
async fn the_last_row_says_how_it_went() {
    let overtaken = Reaction::Refused { term: 2, holder: "them", writes: 9, turns: 0 };
    let script = [Reaction::Outcome(0), overtaken, Reaction::Outcome(2), Reaction::Outcome(3)];
    let server = Server::start(0, &script).await;
    let session = server.session();
    assert!(matches!(fenced(&session).await, Ok(Outcome::Done { result: Some(7) })));
    let answer = fenced(&session).await;
    let Err(Fail::Refused(Refusal::Fenced(LeaderRecord { term: Term(2), holder: Some(holder), .. }))) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(holder, "them");
    assert!(matches!(fenced(&session).await, Ok(Outcome::Changed)));
    assert!(matches!(fenced(&session).await, Ok(Outcome::Contradicted(3))));
    assert_eq!(server.counts(), (1, 4), "one connection, one round trip each");
}

#[tokio::test]
async fn a_turn_is_one_round_trip_however_large_it_is() {
    let server = Server::start(0, &[Reaction::Outcome(0); 4]).await;
    let (store, lead) = (server.store(), us());
    for first in [0, 500] {
        let tasks = first..first + 500;
        let starts: Vec<_> = tasks.clone().map(|index| sample::started(sample::attempt(1, index, 1), 1, 10)).collect();
        store.commit(&lead, &starts).await.expect("the turn is taken");
        let ends: Vec<_> = tasks.map(|index| sample::succeeded(sample::attempt(1, index, 1), 1, 11, &[0; 64])).collect();
        store.commit(&lead, &ends).await.expect("the turn is taken");
    }
    assert_eq!(server.counts(), (1, 4), "1,000 completions in turns of 500: two requests for their starts, two for their ends");
}

/// `cargo test -p lull-coordinator --lib -- --ignored --nocapture what_a_turn_costs_over_a_round_trip_of_1_ms`.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_turn_costs_over_a_round_trip_of_1_ms() {
    const TURNS: u32 = 40;
    for size in [1, 10, 100, 500] {
        let script = [Reaction::Outcome(0); 2 * TURNS as usize];
        let server = Server::start_slow(0, &script, Duration::from_millis(1)).await;
        let (store, lead) = (server.store(), us());
        let began = std::time::Instant::now();
        for first in (0..TURNS * size).step_by(size as usize) {
            let tasks = first..first + size;
            let starts: Vec<_> = tasks.clone().map(|index| sample::started(sample::attempt(1, index, 1), 1, 10)).collect();
            store.commit(&lead, &starts).await.expect("the turn is taken");
            let ends: Vec<_> = tasks.map(|index| sample::succeeded(sample::attempt(1, index, 1), 1, 11, &[0; 64])).collect();
            store.commit(&lead, &ends).await.expect("the turn is taken");
        }
        let (completions, requests) = (f64::from(TURNS * size), server.counts().1 as f64);
        println!(
            "turns of {size}: {:.0} completions/s, {:.1} round trips and {:.0} kB sent for 1,000 completions",
            completions / began.elapsed().as_secs_f64(),
            requests * 1_000.0 / completions,
            server.heard.bytes.load(Ordering::SeqCst) as f64 / completions
        );
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_held_back_while_the_store_is_loaded_is_the_leaders() {
    let server = Server::start(0, &[]).await;
    let (store, lead) = (Arc::new(server.store()), us());
    let renewed = tokio::spawn({
        let (store, lead) = (store.clone(), lead.clone());
        async move { store.renew(&lead, Duration::from_secs(6), Timestamp(0)).await }
    });
    server.asked.notified().await;
    // The first is held back; whoever comes next is answered first.
    let loading = tokio::spawn(async move { store.load(&lead).await });
    server.asked.notified().await;
    server.script.send(Reaction::Outcome(0)).expect("the server is there");
    server.script.send(Reaction::Loaded { turns: (0, 0) }).expect("the server is there");
    renewed.await.expect("no panic").expect("it is renewed");
    let loaded = loading.await.expect("no panic").expect("it loads");
    assert_eq!((loaded.snapshot.jobs.len(), loaded.lost), (0, None));
}

#[tokio::test]
async fn a_store_is_loaded_again_if_a_turn_in_doubt_arrives_meanwhile() {
    let script = [Reaction::Loaded { turns: (0, 1) }, Reaction::Loaded { turns: (1, 1) }];
    let server = Server::start(0, &script).await;
    server.store().load(&us()).await.expect("it loads");
    assert_eq!(server.counts().1, 2);
    let stranger = Server::start(0, &script).await.store().load(&Lead::new(Term(2), "us")).await;
    assert!(matches!(stranger, Err(StoreError::Fenced(LeaderRecord { term: Term(1), .. }))), "{stranger:?}");
}

#[tokio::test]
async fn a_server_that_forgot_what_it_confirmed_is_found_out() {
    let forgot = Reaction::Refused { term: 1, holder: "us", writes: 0, turns: 0 };
    let server = Server::start(0, &[Reaction::Outcome(0), forgot]).await;
    let (store, lead) = (server.store(), us());
    store.renew(&lead, Duration::from_secs(6), Timestamp(0)).await.expect("it is renewed");
    let answer = store.commit(&lead, &[]).await;
    assert!(matches!(answer, Err(StoreError::Lost(Lost { known: 1, found: 0 }))), "{answer:?}");
}

#[tokio::test]
async fn a_turn_that_contradicts_what_is_stored_is_not_sent_again() {
    let server = Server::start(0, &[Reaction::Outcome(4), Reaction::Error(2627), Reaction::Outcome(0)]).await;
    let (store, lead) = (server.store(), us());
    for _ in 0..2 {
        let answer = store.commit(&lead, &[]).await;
        assert!(matches!(answer, Err(StoreError::Contradiction(_))), "{answer:?}");
    }
    assert_eq!(server.counts(), (1, 2));
}

#[tokio::test]
async fn a_connection_on_which_a_text_did_not_compile_is_not_used_again() {
    let server = Server::start(0, &[Reaction::Error(207), Reaction::Outcome(0)]).await;
    let session = server.session();
    assert!(certain(fenced(&session).await), "nothing was committed");
    assert!(matches!(fenced(&session).await, Ok(Outcome::Done { .. })));
    assert_eq!(server.counts(), (2, 2), "a transaction may have been left open on the first");
}

#[tokio::test]
async fn a_database_that_is_being_moved_is_asked_again() {
    let server = Server::start(0, &[Reaction::Error(40613), Reaction::Error(40197), Reaction::Outcome(4)]).await;
    assert!(server.session().read(statements::TOTALS, &[]).await.is_ok());
    assert_eq!(server.counts(), (3, 3));
}

#[tokio::test]
async fn a_deadlock_is_repeated_and_a_constraint_is_not() {
    let server =
        Server::start(0, &[Reaction::Error(1205), Reaction::Error(1205), Reaction::Outcome(0), Reaction::Error(2627)]).await;
    let session = server.session();
    assert!(matches!(fenced(&session).await, Ok(Outcome::Done { .. })));
    assert_eq!(server.counts(), (1, 3));
    assert!(matches!(fenced(&session).await.map_err(StoreError::from), Err(StoreError::Contradiction(_))));
    assert_eq!(server.counts(), (1, 4), "the connection is good for the next");
}

#[tokio::test]
async fn deadlocks_without_end_are_given_up() {
    let server = Server::start(0, &[Reaction::Error(1205); 20]).await;
    assert!(certain(fenced(&server.session()).await));
    assert!(server.counts().1 < 10, "{:?}", server.counts());
}

#[tokio::test]
async fn after_an_unknown_error_nothing_is_certain_and_the_connection_goes() {
    let server = Server::start(0, &[Reaction::Error(823), Reaction::Outcome(0)]).await;
    let session = server.session();
    assert!(in_doubt(fenced(&session).await));
    assert!(matches!(fenced(&session).await, Ok(Outcome::Done { .. })));
    assert_eq!(server.counts(), (2, 2), "a write in doubt is never sent twice");
}

#[tokio::test]
async fn a_write_whose_answer_breaks_off_is_in_doubt() {
    for reaction in [Reaction::Close, Reaction::Half, Reaction::Nothing] {
        let server = Server::start(0, &[reaction]).await;
        assert!(in_doubt(fenced(&server.session()).await), "{reaction:?}");
        assert_eq!(server.counts().1, 1, "{reaction:?}");
    }
}

#[tokio::test]
async fn a_read_whose_answer_breaks_off_is_asked_again() {
    let server = Server::start(0, &[Reaction::Half, Reaction::Close, Reaction::Outcome(4)]).await;
    let answer = server.session().read(statements::TOTALS, &[]).await.expect("the third answer is whole");
    assert_eq!(super::session::outcome(&answer).expect("it has an outcome"), Some((4, Some(7))));
    assert_eq!(server.counts(), (3, 3));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let server = Server::start(0, &[Reaction::Silence, Reaction::Silence]).await;
    let string = format!("Server=tcp:127.0.0.1,{};User Id=sa;Password=x;Encrypt=DANGER_PLAINTEXT", server.port);
    let times = Times { read: Duration::from_millis(300), write: Duration::from_millis(300) };
    let session = Session::with_times(&string, times).expect("the string is understood");
    assert!(in_doubt(fenced(&session).await), "a commit may be on its way");
    assert!(matches!(session.read(statements::TOTALS, &[]).await, Err(Fail::Deadline { .. })));
    assert_eq!(server.counts().0, 2, "a silent connection is not used again");
}

#[tokio::test]
async fn a_call_that_is_cancelled_takes_its_connection_with_it() {
    let server = Server::start(0, &[]).await;
    let session = server.session();
    tokio::select! {
        answer = fenced(&session) => panic!("nobody answered, and yet: {answer:?}"),
        () = server.asked.notified() => {}
    }
    server.script.send(Reaction::Outcome(0)).expect("the server is there");
    server.script.send(Reaction::Outcome(2)).expect("the server is there");
    assert!(matches!(fenced(&session).await, Ok(Outcome::Changed | Outcome::Done { .. })));
    assert_eq!(server.counts().0, 2, "half a conversation is not gone on with");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let server = Server::start(3, &[Reaction::Outcome(0)]).await;
    assert!(matches!(fenced(&server.session()).await, Ok(Outcome::Done { .. })));
    assert_eq!(server.counts(), (4, 1), "nothing was sent before there was a connection");
}

#[tokio::test]
async fn a_server_that_is_not_there_leaves_no_doubt() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = nobody.local_addr().expect("it is bound").port();
    drop(nobody);
    let string = format!("Server=tcp:127.0.0.1,{port};User Id=sa;Password=x;Encrypt=DANGER_PLAINTEXT");
    let times = Times { read: Duration::from_millis(200), write: Duration::from_millis(200) };
    let session = Session::with_times(&string, times).expect("the string is understood");
    let answer = fenced(&session).await;
    assert!(certain(answer), "without a connection nothing can have happened");
}

#[test]
fn a_connection_string_that_cannot_work_is_explained() {
    for string in ["nonsense", "Server=host\\SQLEXPRESS;User Id=x;Password=y"] {
        let words = Session::new(string).err().expect("it cannot work").to_string();
        assert!(words.contains("hint: write Server=tcp:HOST,1433"), "{words}");
        assert!(!words.contains("Password=y"));
    }
}

#[tokio::test]
async fn a_string_that_cannot_work_is_found_by_a_check() {
    let check = super::check("nonsense").await;
    assert!(!check.is_usable() && check.findings.len() == 1, "{check:?}");
}

// --- Blobs ---

/// The upload of so many bytes, with the server's reactions to each request of it.
async fn uploaded(bytes: usize, script: &[Reaction]) -> (StoreResult<BlobRef>, usize) {
    let server = Server::start(0, script).await;
    let store = server.store();
    let sent = async {
        let mut blob = store.begin_blob(1 << 30).await?;
        for part in vec![7; bytes].chunks(300_000) {
            blob.write(part).await?;
        }
        blob.finish().await
    };
    (sent.await, server.counts().1)
}

#[tokio::test]
async fn a_blob_goes_in_batches_of_pieces_however_it_is_written() {
    const BATCH: usize = 16 * PIECE_BYTES;
    for (bytes, batches) in [(0, 1), (1, 1), (BATCH - 1, 1), (BATCH, 1), (BATCH + 1, 2), (2 * BATCH, 2)] {
        let (blob, requests) = uploaded(bytes, &[Reaction::Outcome(0); 4][..batches + 2]).await;
        assert_eq!(blob.expect("it is kept"), BlobRef::of(&vec![7; bytes]));
        assert_eq!(requests, batches + 2, "its row, {batches} batches, its name: {bytes} bytes");
    }
}

#[tokio::test]
async fn an_upload_that_was_swept_or_of_which_nothing_is_said_has_not_succeeded() {
    const DUPLICATE: Reaction = Reaction::Error(2601);
    const DONE: Reaction = Reaction::Outcome(0);
    let swept = uploaded(1, &[DONE, Reaction::Outcome(1)]).await.0;
    assert!(matches!(&swept, Err(StoreError::Determinate(error)) if error.to_string().contains("swept")), "{swept:?}");
    assert!(matches!(uploaded(1, &[DONE, Reaction::Nothing]).await.0, Err(StoreError::Indeterminate(_))));
    let (found, requests) = uploaded(1, &[DONE, DONE, DUPLICATE, DONE]).await;
    assert_eq!((found.expect("it is found"), requests), (BlobRef::of(&[7]), 4), "another gave the same bytes");
    let (twice, requests) = uploaded(1, &[DONE, DONE, DUPLICATE, DUPLICATE]).await;
    assert!(twice.is_err() && requests == 4);
    let (refused, requests) = uploaded(1, &[DONE, DONE, Reaction::Error(547)]).await;
    assert!(refused.is_err() && requests == 3, "nothing else is asked for twice");
}

#[tokio::test]
async fn an_upload_ends_at_its_largest_size() {
    let server = Server::start(0, &[Reaction::Outcome(0); 3]).await;
    let store = server.store();
    let mut blob = store.begin_blob(10).await.expect("begun");
    blob.write(&[7; 10]).await.expect("as much as there may be");
    assert!(blob.write(&[7]).await.is_err());
    assert_eq!(server.counts().1, 1, "none of it was sent");
}

#[tokio::test]
async fn a_sweep_deletes_what_nothing_needs_and_goes_on_to_the_end() {
    const DONE: Reaction = Reaction::Outcome(0);
    const NONE: Reaction = Reaction::Row(&[]);
    const PACK: Reaction = Reaction::Row(&[("blob_id", one(3)), ("size_bytes", one(9)), ("links_read", one(1))]);
    const UNUSED: Reaction = Reaction::Row(&[("blob_id", one(5)), ("pieces", one(2)), ("unused", one(1))]);
    const USED: Reaction = Reaction::Row(&[("blob_id", one(5)), ("pieces", one(2)), ("unused", one(0))]);
    const fn one(value: i64) -> tds::Value<'static> {
        tds::Value::Int(Some(value))
    }
    let swept = async |script: &[Reaction]| {
        let server = Server::start(0, script).await;
        let deleted = server.store().sweep_blobs(&us(), Timestamp(0)).await.expect("an answer");
        (deleted, server.counts().1)
    };
    // Who leads, packs, a range, what becomes of it, the next range.
    assert_eq!(swept(&[DONE, NONE, NONE]).await, (0, 3));
    assert_eq!(swept(&[DONE, NONE, USED, NONE]).await, (0, 4));
    assert_eq!(swept(&[DONE, NONE, UNUSED, DONE, DONE, NONE]).await, (7, 6), "so many as the server says");
    assert_eq!(swept(&[DONE, PACK, DONE, NONE, NONE]).await, (0, 5), "its links are there, and noted as read");
}
