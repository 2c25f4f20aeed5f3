//! One turn of the scheduler as the parameters of `lull.take_turn`: a JSON array of rows for each table that it changes, and
//! the bytes that they point into. Bytes travel as they are, since base64 or hexadecimal inside JSON would double them twice.

use std::fmt::Write as _;

use super::{
    super::{
        cells::{self, Cell, Row},
        record::Totals,
        turn::Turn,
    },
    session::Value,
};

/// The parameters of one commit, in the order of `sql/commit.sql`, from `@P2` on.
pub(super) fn parameters(turn: &Turn) -> Vec<Value> {
    let mut bytes = Vec::new();
    let (usage, work, totals) = (turn.usage(), turn.work(), turn.totals());
    let tables: [Value; 15] = [
        rows(&mut bytes, turn.jobs_new.iter().map(cells::job_new)),
        rows(&mut bytes, turn.jobs.iter().map(|(job, patch)| cells::job(*job, patch))),
        rows(&mut bytes, turn.tasks.iter().map(|(task, patch)| cells::task(*task, patch))),
        rows(&mut bytes, turn.attempts.iter().map(|(attempt, patch)| cells::attempt(*attempt, patch))),
        rows(&mut bytes, turn.results.iter().map(cells::result)),
        rows(&mut bytes, turn.answers_dropped.iter().map(|task| cells::answers_dropped(*task))),
        rows(&mut bytes, turn.answers.iter().map(|(attempt, digest)| cells::answer(*attempt, *digest))),
        rows(&mut bytes, turn.snapshots.iter().map(|(task, row)| cells::snapshot(*task, row.as_ref()))),
        rows(&mut bytes, turn.logs.iter().map(cells::log)),
        rows(&mut bytes, turn.hours.iter().map(|(agent, row)| cells::idle_hours(*agent, row))),
        rows(&mut bytes, usage.iter().map(|((hour, job), slot_us)| cells::usage_hours(*hour, *job, *slot_us))),
        rows(&mut bytes, work.iter().map(|((hour, agent), work)| cells::work_hours(*hour, *agent, work))),
        rows(&mut bytes, (totals != Totals::default()).then(|| cells::totals(&totals)).into_iter()),
        rows(&mut bytes, turn.agents.iter().map(|(agent, patch)| cells::agent(*agent, patch))),
        rows(&mut bytes, (0..).zip(&turn.audit).map(|(position, line)| cells::audit(position, line))),
    ];
    [bytes.into(), turn.revocations.into()].into_iter().chain(tables).collect()
}

/// The rows of one table as JSON; NULL if there are none.
fn rows<'a, const N: usize>(bytes: &mut Vec<u8>, rows: impl Iterator<Item = Row<'a, N>>) -> Value {
    let mut json = String::new();
    for row in rows {
        json.push_str(if json.is_empty() { "[[" } else { ",[" });
        for (number, cell) in row.iter().enumerate() {
            if number > 0 {
                json.push(',');
            }
            push(&mut json, bytes, cell);
        }
        json.push(']');
    }
    if json.is_empty() {
        return Value::Text(None);
    }
    json.push(']');
    json.into()
}

fn push(json: &mut String, bytes: &mut Vec<u8>, cell: &Cell<'_>) {
    // Writing to a text cannot fail.
    let _ = match cell {
        Cell::Null => write!(json, "null"),
        Cell::Int(value) => write!(json, "{value}"),
        Cell::Text(text) => write!(json, "{}", serde_json::Value::from(text.as_ref())),
        Cell::Bytes(None) => write!(json, "null,null"),
        Cell::Bytes(Some(own)) => {
            // Places count from 1, as SUBSTRING does.
            let at = bytes.len() + 1;
            bytes.extend_from_slice(own);
            write!(json, "{at},{}", own.len())
        }
    };
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::cells::TABLES, statements},
        *,
    };
    use crate::store::conformance::sample;

    const PROCEDURE: &str = include_str!("../migrations/sqlserver/0002_turn.sql");

    /// What follows `OPENJSON(@table) WITH (`, up to its end.
    fn columns_read(table: &str) -> Vec<String> {
        let head = format!("OPENJSON(@{table}) WITH (");
        let reads: Vec<&str> = PROCEDURE.split(&head).skip(1).collect();
        let [read] = reads[..] else { panic!("{table} is read {} times", reads.len()) };
        let end = read.find(") AS item").expect("it has an end");
        read[..end].split("',").map(|column| column.trim().trim_end_matches('\'').to_owned()).collect()
    }

    #[test]
    fn the_procedure_reads_each_table_once_with_the_columns_that_are_sent() {
        for table in TABLES {
            let mut place = 0;
            let mut sent = Vec::new();
            for (column, is_bytes) in table.columns {
                let names =
                    if *is_bytes { vec![format!("{column}_at"), format!("{column}_bytes")] } else { vec![(*column).to_owned()] };
                for name in names {
                    sent.push((name, format!("$[{place}]")));
                    place += 1;
                }
            }
            let read = columns_read(table.name)
                .iter()
                .map(|column| {
                    let (name, rest) = column.split_once(' ').expect("a name and a type");
                    (name.to_owned(), rest.rsplit_once('\'').expect("a path").1.to_owned())
                })
                .collect::<Vec<_>>();
            assert_eq!(read, sent, "{}", table.name);
            assert!(statements::COMMIT.contains(&format!("@{} = @P", table.name)), "{}", table.name);
        }
    }

    #[test]
    fn the_procedure_fences_and_settles_as_every_other_write() {
        let fence = include_str!("sql/fence.sql").split_once('\n').expect("its first line takes the parameter").1;
        for part in [fence, include_str!("sql/settle.sql")] {
            assert!(PROCEDURE.contains(part), "{part}");
        }
    }

    #[test]
    fn bytes_are_pointed_at_and_texts_are_json() {
        let ended = sample::succeeded(sample::attempt(1, 0, 1), 1, 11, b"out");
        let turn = Turn::fold(&[sample::started(sample::attempt(1, 0, 1), 1, 10), ended]).expect("it folds");
        let values = parameters(&turn);
        let text = |number: usize| match &values[number] {
            Value::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        assert!(matches!(&values[0], Value::Bytes(bytes) if bytes == b"outdone\n"), "{values:?}");
        assert_eq!(text(6).as_deref(), Some("[[1,0,1,3,1,3,null,null]]"), "results");
        assert_eq!(text(10).as_deref(), Some("[[1,0,1,4,5,0]]"), "logs");
        assert_eq!(text(2), None, "no new jobs");
        let rows: Vec<Vec<serde_json::Value>> = serde_json::from_str(&text(5).expect("attempts")).expect("JSON");
        assert_eq!((rows.len(), rows[0].len(), &rows[0][11]), (1, 19, &"succeeded".into()));
    }
}
