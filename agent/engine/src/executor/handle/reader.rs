//! The agent's pipe from an executor: results and outputs, checked before they are believed.
//!
//! Results of very short tasks are left in the pipe for a moment while the executor has more to do, and taken together.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BytesMut};
use lull_shared::{
    codec, limits,
    state::{Failure, Part, Trouble},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::ChildStdout,
    time::sleep,
};

use crate::executor::{
    handle::{
        files::{OutputFile, Saving},
        process::{Event, Finished, Output},
        runs::{Ended, Guard, Shared},
    },
    protocol::{self, Ask, Build, Done, FromExecutor, Load, Saved},
    sys,
};

/// What one read takes at most.
const BUFFER_BYTES: usize = 64 << 10;
/// How long words of an executor with enough to do are left in its pipe: a timer's least. Waking for each costs several times
/// what the shortest tasks do.
const REST: Duration = Duration::from_millis(1);
/// Tasks that take longer are told at once: their results are few.
const SHORT: Duration = Duration::from_micros(200);
/// The work that an executor must have before it for that: a timer fires up to twice as late as it was set.
const ENOUGH: Duration = Duration::from_millis(2);

/// Frames out of a pipe.
pub struct Frames<R = ChildStdout> {
    pipe: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Reads from this pipe.
    pub fn new(pipe: R) -> Self {
        Self { pipe, buffer: BytesMut::with_capacity(BUFFER_BYTES) }
    }

    /// Whether a read is needed for the next frame.
    fn is_drained(&self) -> bool {
        let length = self.buffer.first_chunk().map(|prefix| codec::frame_length(*prefix));
        !matches!(length, Some(Ok(length)) if self.buffer.len() >= codec::LENGTH_BYTES + length)
    }

    /// The next frame; none at the end of the pipe.
    pub async fn next(&mut self) -> Result<Option<FromExecutor>, Broken> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<{ codec::LENGTH_BYTES }>() {
                let length = codec::frame_length(*prefix)?;
                if self.buffer.len() >= codec::LENGTH_BYTES + length {
                    self.buffer.advance(codec::LENGTH_BYTES);
                    return Ok(Some(codec::decode(&self.buffer.split_to(length))?));
                }
            }
            self.buffer.reserve(BUFFER_BYTES);
            if self.pipe.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

impl Frames {
    /// Leaves alone what comes for a moment. The runtime does not watch the pipe meanwhile: it would be woken by each word.
    async fn rest(self) -> io::Result<Self> {
        let pipe = sys::leave_alone(self.pipe)?;
        sleep(REST).await;
        Ok(Self { pipe: sys::watch(pipe)?, buffer: self.buffer })
    }
}

/// How quickly an executor's attempts end.
struct Pace {
    looked: Instant,
    ended: u32,
    /// Whether the executor had something to do at the last look.
    was_busy: bool,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { looked: now, ended: 0, was_busy: false }
    }

    /// Whether so many attempts before the executor keep it busy while nobody listens.
    fn leaves_time(&mut self, held: usize, now: Instant) -> bool {
        let each = now.duration_since(self.looked) / self.ended.max(1);
        let short = self.was_busy && self.ended > 0 && each < SHORT;
        *self = Self { looked: now, ended: 0, was_busy: held > 0 };
        short && each.saturating_mul(u32::try_from(held).unwrap_or(u32::MAX)) >= ENOUGH
    }
}

/// What an executor must not say, or the agent's own trouble with it.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("its pipe failed: {0}")]
    Io(#[from] io::Error),
    #[error("it sent a frame that is too long: {0}")]
    Length(#[from] codec::FrameTooLong),
    #[error("it sent a damaged frame: {0}")]
    Frame(#[from] codec::DecodeError),
    #[error("it spoke out of turn")]
    Turn,
    #[error("it sent more than it may")]
    Excess,
    #[error("its output cannot be kept at {0}: {1}")]
    Disk(PathBuf, io::Error),
    #[error("it failed: {0}")]
    Fatal(String),
    #[error(transparent)]
    Trouble(Trouble),
}

impl Broken {
    /// What the executor and its function are not to blame for.
    fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Io(error) => Some(Trouble::new(Part::Executor, format!("its pipe failed: {error}"))),
            Self::Disk(..) => Some(Trouble::new(Part::Outbox, self.to_string())),
            Self::Trouble(trouble) => Some(trouble.clone()),
            Self::Length(_) | Self::Frame(_) | Self::Turn | Self::Excess | Self::Fatal(_) => None,
        }
    }
}

/// Reads until the process is gone, then tells its death.
pub(in crate::executor) async fn read(mut frames: Frames, load: Load, mut guard: Guard, shared: Arc<Shared>) {
    let mut hearing = Hearing { load, shared, output: None, saving: None };
    let mut pace = Pace::new(Instant::now());
    let broken = loop {
        let message = match frames.next().await {
            Ok(Some(message)) => message,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        pace.ended += u32::from(matches!(message, FromExecutor::Done(_)));
        if let Err(error) = hearing.take(message).await {
            break Some(error);
        }
        if frames.is_drained() && pace.leaves_time(hearing.shared.held(), Instant::now()) {
            frames = match frames.rest().await {
                Ok(frames) => frames,
                Err(error) => break Some(error.into()),
            };
        }
    };
    let ended = guard.end(broken.is_some()).await;
    if let Some(Trouble { part, reason }) = broken.as_ref().and_then(Broken::trouble) {
        hearing.shared.fail(part, reason);
    }
    hearing.bury(broken.map(|broken| broken.to_string()), ended).await;
}

/// What is made of an executor's words.
struct Hearing {
    load: Load,
    shared: Arc<Shared>,
    output: Option<OutputFile>,
    saving: Option<io::Result<Saving>>,
}

impl Hearing {
    async fn take(&mut self, message: FromExecutor) -> Result<(), Broken> {
        let (attempt, path) = self.shared.running().ok_or(Broken::Turn)?;
        if let Some(begun) = self.shared.begun() {
            self.output = Some(begun);
        }
        match message {
            FromExecutor::Output { piece } => {
                let file = match &mut self.output {
                    Some(file) => file,
                    None => self.output.insert(OutputFile::create(path).await?),
                };
                file.append(&piece, self.load.limits.output_bytes).await
            }
            FromExecutor::Refused(unfit) => {
                let begun = self.shared.begin_anew().ok_or(Broken::Turn)?;
                for output in [self.output.take(), begun].into_iter().flatten() {
                    output.remove().await;
                }
                self.shared.tell(Event::Refused { attempt, unfit: unfit.bounded() });
                Ok(())
            }
            FromExecutor::Saving { piece } => self.save(&piece).await,
            FromExecutor::Saved(saved) if saved.attempt == attempt => self.saved(*saved).await,
            FromExecutor::Done(done) if done.attempt == attempt && self.saving.is_none() => {
                let finished = finish(*done, &self.load, self.output.take()).await?;
                self.shared.finish(Event::Finished(Box::new(finished)));
                Ok(())
            }
            FromExecutor::Fatal { reason } => Err(Broken::Fatal(reason)),
            FromExecutor::Trouble(Trouble { part, reason }) => Err(Broken::Trouble(Trouble::new(part, reason))),
            FromExecutor::Saved(_) | FromExecutor::Done(_) | FromExecutor::Loaded { .. } | FromExecutor::LoadFailed(_) => {
                Err(Broken::Turn)
            }
        }
    }

    /// A snapshot that cannot be kept is no reason to end an attempt: what comes of it is dropped.
    async fn save(&mut self, piece: &[u8]) -> Result<(), Broken> {
        let saving = match &mut self.saving {
            Some(saving) => saving,
            None => {
                let path = self.shared.asked().ok_or(Broken::Turn)?;
                self.saving.insert(Saving::begin(&path, self.output.as_mut(), &self.load).await)
            }
        };
        if let Ok(open) = saving
            && let Err(error) = open.append(piece).await
            && let Ok(failed) = std::mem::replace(saving, Err(error))
        {
            failed.remove().await;
        }
        Ok(())
    }

    async fn saved(&mut self, saved: Saved) -> Result<(), Broken> {
        let (attempt, ask) = (saved.attempt, saved.ask);
        let Build::Migratable { code } = self.load.build else { return Err(Broken::Turn) };
        let path = self.shared.answered(ask).ok_or(Broken::Turn)?;
        let saving = self.saving.take().ok_or(Broken::Turn)?;
        let sealed = match saving {
            Ok(saving) => saving.seal(path, &saved, self.shared.ran(), code).await,
            Err(error) => Err(error),
        };
        match (sealed, ask) {
            (Ok(snapshot), Ask::Checkpoint) => self.shared.tell(Event::Saved(Box::new(snapshot))),
            (Ok(snapshot), Ask::Suspend) => {
                if let Some(output) = self.output.take() {
                    output.remove().await;
                }
                self.shared.suspend(Event::Saved(Box::new(snapshot)));
            }
            (Err(error), _) => self.shared.tell(Event::NotSaved { attempt, ask, reason: error.to_string() }),
        }
        if ask == Ask::Suspend {
            // Whatever became of it, it does not go on here.
            self.shared.kill();
        }
        Ok(())
    }

    /// The process is gone: what is left of an attempt goes too.
    async fn bury(self, broken: Option<String>, ended: Ended) {
        let Self { load: _, shared, output, saving } = self;
        if let Some(output) = output {
            output.remove().await;
        }
        if let Some(Ok(saving)) = saving {
            saving.remove().await;
        }
        shared.bury(broken, ended);
    }
}

async fn finish(done: Done, load: &Load, file: Option<OutputFile>) -> Result<Finished, Broken> {
    if done.log.len() as u64 > load.limits.log_bytes {
        return Err(Broken::Excess);
    }
    let outcome = match (done.outcome, file) {
        (Ok(protocol::Output::Inline(bytes)), None) if bytes.len() <= limits::INLINE_BYTES_MAX => Ok(Output::Inline(bytes)),
        (Ok(protocol::Output::Inline(_)), _) => return Err(Broken::Excess),
        (Ok(protocol::Output::Streamed { size_bytes }), Some(file)) => {
            let (path, blob) = file.close().await?;
            if blob.size_bytes != size_bytes {
                return Err(Broken::Excess);
            }
            Ok(Output::File { path, blob })
        }
        (Ok(protocol::Output::Streamed { .. }), None) => return Err(Broken::Turn),
        (Err(failure), file) => {
            if let Some(file) = file {
                file.remove().await;
            }
            Err(bounded(failure)?)
        }
    };
    let (log, log_dropped_bytes, usage) = (done.log, done.log_dropped_bytes, done.usage);
    Ok(Finished { attempt: done.attempt, outcome, log, log_dropped_bytes, usage })
}

/// A failure's words end up in the coordinator's store.
fn bounded(failure: Failure) -> Result<Failure, Broken> {
    if failure.text_bytes() <= limits::FAILURE_BYTES_MAX { Ok(failure) } else { Err(Broken::Excess) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lull_shared::{
        id::{AttemptId, JobId, TaskId},
        job::AttemptLimits,
        state::Usage,
    };

    use super::*;
    use crate::executor::protocol::Priority;

    const ATTEMPT: AttemptId = AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 };

    fn load() -> Load {
        let limits = AttemptLimits { log_bytes: 10, output_bytes: 100, ..AttemptLimits::default() };
        Load { limits, ..Load::nothing(Priority::Normal) }
    }

    fn done(outcome: Result<protocol::Output, Failure>) -> Done {
        Done { attempt: ATTEMPT, outcome, log: Bytes::new(), log_dropped_bytes: 0, usage: Usage::default() }
    }

    fn inline(bytes: usize) -> Result<protocol::Output, Failure> {
        Ok(protocol::Output::Inline(vec![1; bytes].into()))
    }

    async fn ended(done: Done, file: Option<OutputFile>) -> Result<Finished, String> {
        finish(done, &load(), file).await.map_err(|broken| broken.to_string())
    }

    const EXCESS: &str = "it sent more than it may";

    #[tokio::test]
    async fn an_executor_may_not_say_more_at_the_end_than_its_limits_and_a_message_allow() {
        let log = |bytes: usize| Done { log: vec![1; bytes].into(), ..done(inline(0)) };
        assert!(ended(log(10), None).await.is_ok());
        assert_eq!(ended(log(11), None).await.expect_err("too long"), EXCESS);
        assert!(ended(done(inline(limits::INLINE_BYTES_MAX)), None).await.is_ok());
        assert_eq!(ended(done(inline(limits::INLINE_BYTES_MAX + 1)), None).await.expect_err("too long"), EXCESS);
        let failure = |bytes: usize| done(Err(Failure::ExecutorDied { how: "x".repeat(bytes) }));
        assert!(ended(failure(limits::FAILURE_BYTES_MAX), None).await.is_ok());
        assert_eq!(ended(failure(limits::FAILURE_BYTES_MAX + 1), None).await.expect_err("too long"), EXCESS);
    }

    #[tokio::test]
    async fn an_output_in_pieces_is_held_to_its_limit_and_to_what_its_executor_says_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("output");
        let streamed = |size_bytes| done(Ok(protocol::Output::Streamed { size_bytes }));
        let begun = async || OutputFile::create(path.clone()).await.expect("a file");
        let mut file = begun().await;
        file.append(&[1; 60], 100).await.expect("room");
        assert!(matches!(file.append(&[1; 41], 100).await, Err(Broken::Excess)));
        file.append(&[1; 40], 100).await.expect("just as much as it may");
        let finished = ended(streamed(100), Some(file)).await.expect("whole");
        assert!(matches!(finished.outcome, Ok(Output::File { blob, .. }) if blob.size_bytes == 100), "{finished:?}");
        assert_eq!(ended(streamed(1), Some(begun().await)).await.expect_err("none came"), EXCESS);
        assert_eq!(ended(done(inline(1)), Some(begun().await)).await.expect_err("both"), EXCESS);
        assert_eq!(ended(streamed(0), None).await.expect_err("no piece came"), "it spoke out of turn");
        let failed = done(Err(Failure::Exit { code: 1 }));
        assert!(ended(failed, Some(begun().await)).await.is_ok() && !path.exists(), "what had come of it is gone");
    }

    #[tokio::test]
    async fn a_snapshot_is_no_larger_than_its_attempts_limits_allow_and_of_the_output_that_came() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("snapshot");
        let mut load = load();
        load.limits.memory_bytes = 1 << 16;
        let most = crate::snapshot::body::bytes_max(&load.limits);
        let begun = async || Saving::begin(&path, None, &load).await.expect("a file");
        let mut saving = begun().await;
        let piece = vec![0; usize::try_from(most).expect("it fits into memory")];
        saving.append(&piece).await.expect("as much as it may");
        assert!(saving.append(&[0]).await.is_err(), "one byte more");
        let saved = |output_bytes| Saved { attempt: ATTEMPT, ask: Ask::Checkpoint, output_bytes, usage: Usage::default() };
        let code = lull_shared::digest::Digest::of(b"code");
        let sealed = begun().await.seal(path.clone(), &saved(1), Default::default(), code).await;
        assert!(sealed.is_err() && !path.exists(), "{sealed:?}");
        assert!(begun().await.seal(path.clone(), &saved(0), Default::default(), code).await.is_ok() && path.exists());
    }

    #[test]
    fn only_an_executor_with_many_short_tasks_before_it_is_left_alone() {
        let (mut now, mut pace) = (Instant::now(), Pace::new(Instant::now()));
        let mut look = |ended: u32, took_us: u64, held: usize| {
            now += Duration::from_micros(took_us);
            pace.ended = ended;
            pace.leaves_time(held, now)
        };
        assert!(!look(1, 1_000_000, 400), "how long it took is not known while it had nothing to do");
        assert!(look(1, 10, 200));
        assert!(look(100, 1_000, 200));
        assert!(!look(100, 1_000, 199), "it would have nothing to do before the rest is over");
        assert!(!look(1, 250, 400), "few results need no company");
        assert!(!look(0, 10, 400), "nothing has ended");
        assert!(!look(1, 10, 0));
        assert!(!look(1, 10, 400), "and it had nothing to do meanwhile");
    }
}
