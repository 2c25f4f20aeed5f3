//! One operation on the server: a text, its parameters, a deadline, and what is done when it fails.

use std::time::Duration;

use deadpool::managed::Pool;
use tiberius::{ColumnData, IntoSql, Query, Row};
use tokio::time::Instant;

use super::{
    super::{
        Lead,
        bounds::number,
        lead::{Kind, Shown},
        rows::{self, Columns, Damaged},
    },
    connection::{self, Answer, Lease, Manager},
    error::{Fail, Purpose},
};
use crate::pauses::Pauses;

/// How long one operation may take in all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub read: Duration,
    pub write: Duration,
}

/// A write: longer than any lock is waited for, shorter than a lease, since whoever cannot write for longer has lost the
/// term. A read: what a scheduler that starts may need.
const TIMES: Times = Times { read: Duration::from_secs(30), write: Duration::from_secs(9) };
/// A batch that gave way in a deadlock is sent again so often.
const REPEATS_MAX: usize = 4;
/// Pauses between two sendings.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A parameter; `@P1` is the first.
#[derive(Debug, Clone)]
pub enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

impl<'a> IntoSql<'a> for &'a Value {
    fn into_sql(self) -> ColumnData<'a> {
        match self {
            Value::Int(value) => ColumnData::I64(*value),
            Value::Text(value) => ColumnData::String(value.as_deref().map(Into::into)),
            Value::Bytes(value) => ColumnData::Binary(Some(value.as_slice().into())),
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<Option<u32>> for Value {
    fn from(value: Option<u32>) -> Self {
        Self::Int(value.map(i64::from))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

/// How a batch that writes went, by its last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done {
        result: Option<i64>,
    },
    /// Not as it was when it was read.
    Changed,
    /// The rows are not what the changes say; the number tells which.
    Contradicted(i64),
}

/// The server, seen from here.
pub(super) struct Session {
    pool: Pool<Manager>,
    times: Times,
}

impl Session {
    /// From an ADO connection string. Nothing is connected yet.
    pub(super) fn new(connection_string: &str) -> Result<Self, Fail> {
        Self::with_times(connection_string, TIMES)
    }

    /// The same with other times.
    pub(super) fn with_times(connection_string: &str, times: Times) -> Result<Self, Fail> {
        Ok(Self { pool: connection::pool(Manager::new(connection_string)?), times })
    }

    /// `host:port`.
    pub(super) fn server(&self) -> &str {
        &self.pool.manager().server
    }

    /// Sends a batch that changes nothing. Broken connections are replaced until its time is over.
    pub(super) async fn read(&self, sql: &str, values: &[Value]) -> Result<Answer, Fail> {
        self.send(sql, values, Purpose::Read, self.times.read).await
    }

    /// Sends a batch that writes and ends in a row with its outcome. It is sent again only if it certainly did not
    /// happen: no connection could be made, or the server said that it undid it to let others through.
    pub(super) async fn write(&self, sql: &str, values: &[Value]) -> Result<Answer, Fail> {
        self.send(sql, values, Purpose::Write, self.times.write).await
    }

    async fn send(&self, sql: &str, values: &[Value], purpose: Purpose, time: Duration) -> Result<Answer, Fail> {
        let until = Instant::now() + time;
        let (mut pauses, mut repeats) = (Pauses::new(PAUSE_MIN, PAUSE_MAX), 0);
        loop {
            let fail = match self.once(sql, values, purpose, until, time).await {
                Ok(answer) => return Ok(answer),
                Err(fail) => fail,
            };
            repeats += usize::from(fail.gave_way());
            let again = (fail.gave_way() && repeats <= REPEATS_MAX) || fail.was_not_sent();
            let pause = pauses.take();
            if !again || Instant::now() + pause >= until {
                return Err(fail);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a batch between the fence and its settling, under a lead. `values` begin with `@P2`.
    pub(super) async fn fenced(&self, lead: &Lead, kind: Kind, sql: &str, values: Vec<Value>) -> Result<Outcome, Fail> {
        let shown = lead.shown(kind);
        let mut all = vec![shown_value(&shown)];
        all.extend(values);
        let answer = self.write(sql, &all).await?;
        // A batch that ended early without an error: what it did is not known.
        let Some((outcome, result)) = outcome(&answer)? else {
            return Err(Fail::Connection {
                words: "an answer without its end".into(),
                server: self.server().to_owned(),
                purpose: Purpose::Write,
            });
        };
        let row = || last_row(&answer).map_or_else(|| Err(Damaged::new("leader", "no row")), |row| rows::leader_row(row));
        match outcome {
            0 => {
                lead.confirmed(row()?.counts);
                Ok(Outcome::Done { result })
            }
            1 => match row()?.refusal(&shown) {
                Some(refusal) => Err(refusal.into()),
                // It was read after it had refused: another write came between the two, and the next try knows better.
                None => Ok(Outcome::Changed),
            },
            2 => Ok(Outcome::Changed),
            number => Ok(Outcome::Contradicted(number)),
        }
    }

    /// One try, on one connection.
    async fn once(&self, sql: &str, values: &[Value], purpose: Purpose, until: Instant, time: Duration) -> Result<Answer, Fail> {
        let late = |purpose| Fail::Deadline { seconds: time.as_secs(), purpose };
        // Nothing was sent before there is a connection, so nothing can have happened.
        let mut lease = tokio::time::timeout_at(until, Lease::take(&self.pool)).await.map_err(|_| late(Purpose::Read))??;
        let answer = Box::pin(async {
            let mut query = Query::new(sql);
            for value in values {
                query.bind(value);
            }
            query.query(lease.connection()).await?.into_results().await
        });
        let answered = match tokio::time::timeout_at(until, answer).await {
            Ok(answered) => answered.map_err(|error| Fail::of(error, purpose, self.server())),
            Err(_) => Err(late(purpose)),
        };
        match &answered {
            Err(fail) if !fail.leaves_connection() => {
                drop(lease);
                // Whatever broke this one has probably broken those that are idle.
                self.pool.retain(|_, _| false);
            }
            Ok(_) | Err(_) => lease.give_back(),
        }
        answered
    }

    /// Sends a text without parameters and with a deadline of its own: setting up tables.
    pub(super) async fn script(&self, sql: &str, time: Duration) -> Result<Answer, Fail> {
        let until = Instant::now() + time;
        let late = |_| Fail::Deadline { seconds: time.as_secs(), purpose: Purpose::Read };
        let mut lease = tokio::time::timeout_at(until, Lease::take(&self.pool)).await.map_err(late)??;
        let fail = |error| Fail::of(error, Purpose::Read, self.server());
        let answer =
            Box::pin(async { lease.connection().simple_query(sql).await.map_err(fail)?.into_results().await.map_err(fail) });
        let answered = tokio::time::timeout_at(until, answer).await.map_err(late)?;
        if answered.is_ok() {
            lease.give_back();
        }
        answered
    }
}

/// The last row's `outcome`, and its `result` if it has one.
pub(super) fn outcome(answer: &Answer) -> Result<Option<(i64, Option<i64>)>, Damaged> {
    let Some(row) = last_row(answer) else { return Ok(None) };
    let has = |name: &str| row.columns().iter().any(|column| column.name() == name);
    if !has("outcome") {
        return Ok(None);
    }
    let result = if has("result") { row.int("result")? } else { None };
    Ok(Some((rows::int(row, "outcome")?, result)))
}

fn last_row(answer: &Answer) -> Option<&Row> {
    answer.last().and_then(|rows| rows.last())
}

/// What a write shows, as `sql/fence.sql` reads it.
fn shown_value(shown: &Shown) -> Value {
    let Shown { term, holder, writes, turns } = shown;
    let (term, writes, turns) = (number(term.0), number(*writes), turns.map(number));
    serde_json::json!({ "term": term, "holder": &**holder, "writes": writes, "turns": turns }).to_string().into()
}

impl Columns for Row {
    fn int(&self, column: &str) -> Result<Option<i64>, Damaged> {
        Ok(match data(self, column)? {
            ColumnData::I64(value) => *value,
            ColumnData::I32(value) => value.map(i64::from),
            ColumnData::I16(value) => value.map(i64::from),
            ColumnData::U8(value) => value.map(i64::from),
            ColumnData::Bit(value) => value.map(i64::from),
            other => return Err(Damaged::new(column, format!("no integer ({other:?})"))),
        })
    }

    fn text(&self, column: &str) -> Result<Option<String>, Damaged> {
        match data(self, column)? {
            ColumnData::String(value) => Ok(value.as_deref().map(str::to_owned)),
            _ => Err(Damaged::new(column, "no text")),
        }
    }

    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, Damaged> {
        match data(self, column)? {
            ColumnData::Binary(value) => Ok(value.as_deref().map(<[u8]>::to_vec)),
            _ => Err(Damaged::new(column, "no bytes")),
        }
    }
}

fn data<'a>(row: &'a Row, column: &str) -> Result<&'a ColumnData<'static>, Damaged> {
    row.get_column_data(column).map_err(|error| Damaged::new(column, error.to_string()))
}
