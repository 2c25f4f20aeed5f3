//! Logs that are read while they are written: a question to the agent for each part, and nothing while nobody asks.
//!
//! ```text
//! reader --read--> asked (bounded for each agent) --ReadLog--> agent --Log--> every reader of that part
//! ```
//! Beside the scheduler: neither question nor answer decides or is remembered.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lull_scheduler::event::StreamId;
use lull_shared::{
    id::{AgentId, AttemptId},
    message::LogPiece,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Readers that wait for one agent: it may be slow, and its answers are its stream's and everybody's.
const READERS_PER_AGENT_MAX: usize = 16;
/// How long an agent may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// A question on its way to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub attempt: AttemptId,
    pub from: u64,
}

/// A part of a log was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("its agent is not connected")]
    Away,
    #[error("its agent does not answer")]
    Silent,
    #[error("too many people read logs of its agent")]
    Busy,
}

/// Who waits for which part of which log.
#[derive(Debug, Default)]
pub struct Logs(Mutex<BTreeMap<AgentId, Line>>);

#[derive(Debug)]
struct Line {
    stream: StreamId,
    asks: mpsc::Sender<Ask>,
    readers: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    ask: Ask,
    reply: oneshot::Sender<LogPiece>,
}

impl Logs {
    /// An agent's stream can be asked; what is asked comes by the receiver.
    pub fn connected(&self, agent: AgentId, stream: StreamId) -> mpsc::Receiver<Ask> {
        let (asks, queue) = mpsc::channel(READERS_PER_AGENT_MAX);
        self.lock().insert(agent, Line { stream, asks, readers: Vec::new() });
        queue
    }

    /// A stream closed; whoever waits for it waits in vain.
    pub fn gone(&self, agent: AgentId, stream: StreamId) {
        let mut lines = self.lock();
        if lines.get(&agent).is_some_and(|line| line.stream == stream) {
            lines.remove(&agent);
        }
    }

    /// An agent answered; an answer that nobody waits for is dropped.
    pub fn heard(&self, agent: AgentId, piece: &LogPiece) {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(&agent) else { return };
        let ask = Ask { attempt: piece.attempt, from: piece.asked };
        for Reader { reply, .. } in line.readers.extract_if(.., |reader| reader.ask == ask) {
            // Whoever asked may have gone.
            let _ = reply.send(piece.clone());
        }
    }

    /// What an attempt that runs wrote to its log from this byte on.
    pub async fn read(&self, agent: AgentId, ask: Ask) -> Result<LogPiece, ReadError> {
        let answer = self.ask(agent, ask)?;
        match timeout(ANSWER_TIME_MAX, answer).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(_)) => Err(ReadError::Away),
            Err(_) => Err(ReadError::Silent),
        }
    }

    fn ask(&self, agent: AgentId, ask: Ask) -> Result<oneshot::Receiver<LogPiece>, ReadError> {
        let mut lines = self.lock();
        let line = lines.get_mut(&agent).ok_or(ReadError::Away)?;
        line.readers.retain(|reader| !reader.reply.is_closed());
        if line.readers.len() >= READERS_PER_AGENT_MAX {
            return Err(ReadError::Busy);
        }
        // One question is enough for all that want the same.
        if line.readers.iter().all(|reader| reader.ask != ask) {
            line.asks.try_send(ask).map_err(|_| ReadError::Busy)?;
        }
        let (reply, answer) = oneshot::channel();
        line.readers.push(Reader { ask, reply });
        Ok(answer)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentId, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::id::{JobId, TaskId};

    use super::*;

    fn ask(from: u64) -> Ask {
        Ask { attempt: AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 }, from }
    }

    fn piece(from: u64) -> LogPiece {
        LogPiece { attempt: ask(0).attempt, asked: from, from, bytes: "words".into(), total: Some(from + 5) }
    }

    #[tokio::test]
    async fn all_who_want_the_same_part_share_one_question() {
        let logs = Logs::default();
        let mut asked = logs.connected(AgentId(1), StreamId(1));
        let readers = [logs.ask(AgentId(1), ask(0)), logs.ask(AgentId(1), ask(0)), logs.ask(AgentId(1), ask(7))];
        assert_eq!((asked.try_recv(), asked.try_recv()), (Ok(ask(0)), Ok(ask(7))));
        assert!(asked.try_recv().is_err());
        logs.heard(AgentId(2), &piece(0));
        logs.heard(AgentId(1), &piece(0));
        let [first, second, mut third] = readers.map(|reader| reader.expect("it was asked"));
        assert_eq!((first.await, second.await), (Ok(piece(0)), Ok(piece(0))));
        assert!(third.try_recv().is_err(), "another part");
    }

    #[tokio::test]
    async fn who_reads_from_one_agent_is_bounded_and_a_reader_who_left_makes_room() {
        let logs = Logs::default();
        assert!(matches!(logs.ask(AgentId(1), ask(0)), Err(ReadError::Away)));
        let _asked = logs.connected(AgentId(1), StreamId(1));
        let read = |from| logs.ask(AgentId(1), ask(from));
        let mut readers: Vec<_> = (0..READERS_PER_AGENT_MAX as u64).map(|_| read(0).expect("room")).collect();
        assert!(matches!(read(0), Err(ReadError::Busy)));
        readers.pop();
        let last = read(0).expect("room again");
        logs.gone(AgentId(1), StreamId(2));
        logs.gone(AgentId(1), StreamId(1));
        assert!(last.await.is_err(), "its agent is gone");
    }
}
