//! Results on disk until the coordinator has them.
//!
//! Owns the outbox's folder: one log of small results, and a file for each output that is too large for a message. A
//! thread of its own writes: all results that arrive while it syncs share the next sync. It does not know what was
//! said to whom; see `session`.
//!
//! ```text
//! FOLDER/outbox.log              results, see `log`
//! FOLDER/outputs/j42-7-2         the output of j42.7#2, written there by whoever reads it from the executor
//! ```

mod log;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use lull_engine::files;
use lull_session::{Event, Kept};
use lull_shared::{id::AttemptId, limits, message::Finished, state::Part};

use self::log::Log;

/// Results that share one write. Bounds what is encoded at once.
const BATCH_MAX: usize = 512;

/// The outbox cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the outbox {path} cannot be opened: {source}")]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// A handle on the outbox's thread. The thread ends when all handles are gone and what was asked for is done.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// Not bounded by itself: nobody holds more results than [`limits::ATTEMPTS_PER_AGENT_MAX`].
    commands: mpsc::Sender<Command>,
    outputs: Arc<Path>,
}

enum Command {
    Keep(Arc<Finished>),
    Recollect(Vec<AttemptId>),
    Drop(Vec<AttemptId>),
    Probe,
}

impl Outbox {
    /// Opens the outbox in a folder. `tell` is called on its thread with each answer; `bytes_max` bounds what it
    /// keeps on disk. Also returns what an earlier life kept, and the thread.
    pub fn open(
        folder: &Path,
        bytes_max: u64,
        tell: impl Fn(Event) + Send + 'static,
    ) -> Result<(Self, Vec<Kept>, thread::JoinHandle<()>), OpenError> {
        let failed = |source| OpenError { path: folder.to_owned(), source };
        let outputs: Arc<Path> = folder.join("outputs").into();
        let writer = Writer::open(folder, Arc::clone(&outputs), bytes_max).map_err(failed)?;
        let kept = writer.log.live().map(|(attempt, output)| Kept { attempt, output }).collect();
        let (commands, queue) = mpsc::channel();
        let thread = thread::Builder::new().name("outbox".into()).spawn(move || writer.run(&queue, tell)).map_err(failed)?;
        Ok((Self { commands, outputs }, kept, thread))
    }

    /// Makes a result durable. Answered by [`Event::Kept`] or [`Event::NotKept`].
    pub fn keep(&self, record: Arc<Finished>) {
        self.send(Command::Keep(record));
    }

    /// Reads results. Answered by [`Event::Recollected`].
    pub fn recollect(&self, attempts: Vec<AttemptId>) {
        self.send(Command::Recollect(attempts));
    }

    /// Forgets results, and outputs of attempts that came to none.
    pub fn drop_results(&self, attempts: Vec<AttemptId>) {
        self.send(Command::Drop(attempts));
    }

    /// Tries whether results can be kept. Answered by [`Event::Probed`].
    pub fn probe(&self) {
        self.send(Command::Probe);
    }

    /// Where an attempt's large output belongs.
    pub fn output_path(&self, attempt: AttemptId) -> PathBuf {
        self.outputs.join(file_name(attempt))
    }

    fn send(&self, command: Command) {
        // The thread only ends with its process or by a panic, which ends the process too.
        let _ = self.commands.send(command);
    }
}

struct Writer {
    log: Log,
    outputs: Arc<Path>,
    output_bytes: u64,
    bytes_max: u64,
}

impl Writer {
    fn open(folder: &Path, outputs: Arc<Path>, bytes_max: u64) -> io::Result<Self> {
        files::make_private_folder(folder)?;
        files::make_private_folder(&outputs)?;
        let log = Log::open(folder.join("outbox.log"))?;
        let mut writer = Self { log, outputs, output_bytes: 0, bytes_max };
        writer.tidy()?;
        Ok(writer)
    }

    /// Removes outputs without a result, and results whose output is not whole.
    fn tidy(&mut self) -> io::Result<()> {
        let mut whole = BTreeSet::new();
        let mut broken = Vec::new();
        for (attempt, output) in self.log.live() {
            let Some(blob) = output else { continue };
            let size = fs::metadata(self.outputs.join(file_name(attempt))).map(|file| file.len());
            if size.is_ok_and(|size| size == blob.size_bytes) {
                self.output_bytes += blob.size_bytes;
                whole.insert(file_name(attempt));
            } else {
                broken.push(attempt);
            }
        }
        for entry in fs::read_dir(&self.outputs)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| whole.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        if broken.is_empty() { Ok(()) } else { self.log.append([].iter(), broken) }
    }

    fn run(mut self, queue: &mpsc::Receiver<Command>, tell: impl Fn(Event)) {
        while let Ok(first) = queue.recv() {
            let rest = queue.try_iter().take(BATCH_MAX - 1);
            let batch: Vec<Command> = std::iter::once(first).chain(rest).collect();
            self.carry_out(batch, &tell);
            if self.log.wants_rewrite()
                && let Err(error) = self.log.rewrite()
            {
                tracing::warn!(%error, "the outbox cannot be made smaller");
            }
        }
    }

    fn carry_out(&mut self, batch: Vec<Command>, tell: &impl Fn(Event)) {
        let (mut keep, mut recollect, mut dropped, mut probe) = (Vec::new(), Vec::new(), Vec::new(), false);
        for command in batch {
            match command {
                Command::Keep(record) => keep.push(record),
                Command::Recollect(attempts) => recollect.extend(attempts),
                Command::Drop(attempts) => dropped.extend(attempts),
                Command::Probe => probe = true,
            }
        }
        // A result may be dropped in the batch that it came with, never kept after it was dropped.
        let gone: BTreeSet<AttemptId> = dropped.iter().copied().collect();
        keep.retain(|record| !gone.contains(&record.attempt));
        if !keep.is_empty() {
            self.keep(keep, tell);
        }
        if !dropped.is_empty() {
            self.drop_results(dropped);
        }
        recollect.retain(|attempt| !gone.contains(attempt));
        if !recollect.is_empty() {
            self.recollect(recollect, tell);
        }
        if probe {
            let result = self.restore().and_then(|()| files::try_folder(&self.outputs)).map_err(|error| error.to_string());
            tell(Event::Probed { part: Part::Outbox, result });
        }
    }

    /// What is written to a file that somebody removed is lost with the process: it gets its name again.
    fn restore(&mut self) -> io::Result<()> {
        files::make_private_folder(&self.outputs)?;
        if !self.log.is_in_place() {
            tracing::warn!("the outbox was removed; what it held is written anew");
            self.log.rewrite()?;
        }
        Ok(())
    }

    fn keep(&mut self, mut keep: Vec<Arc<Finished>>, tell: &impl Fn(Event)) {
        let is_lost = |record: &Arc<Finished>| {
            log::large_output(record).is_some() && !self.outputs.join(file_name(record.attempt)).is_file()
        };
        let missing: Vec<AttemptId> = keep.extract_if(.., |record| is_lost(record)).map(|record| record.attempt).collect();
        if !missing.is_empty() {
            tracing::error!(?missing, "the outputs of results are gone; their tasks will run again");
            tell(Event::Recollected { records: Vec::new(), missing });
        }
        if keep.is_empty() {
            return;
        }
        let attempts: Vec<AttemptId> = keep.iter().map(|record| record.attempt).collect();
        match self.try_keep(&keep) {
            Ok(()) => tell(Event::Kept { attempts }),
            Err(error) => {
                tracing::warn!(%error, results = attempts.len(), "results cannot be kept on disk; nothing new is begun until they can");
                tell(Event::NotKept { attempts, reason: error.to_string() });
            }
        }
    }

    fn try_keep(&mut self, keep: &[Arc<Finished>]) -> io::Result<()> {
        self.restore()?;
        let outputs: u64 = keep.iter().filter_map(|record| log::large_output(record)).map(|blob| blob.size_bytes).sum();
        if self.log.live_bytes() + self.output_bytes + outputs > self.bytes_max {
            return Err(io::Error::other(format!(
                "the outbox has reached its limit of {}",
                lull_shared::amount::size(self.bytes_max)
            )));
        }
        for record in keep.iter().filter(|record| log::large_output(record).is_some()) {
            files::sync_file(&self.outputs.join(file_name(record.attempt)))?;
        }
        if outputs > 0 {
            files::sync_folder_of(&self.outputs.join("any"))?;
        }
        self.log.append(keep.iter().map(Arc::as_ref), Vec::new())?;
        if let Err(error) = self.log.sync() {
            let attempts: Vec<AttemptId> = keep.iter().map(|record| record.attempt).collect();
            self.log.forget(&attempts);
            return Err(error);
        }
        self.output_bytes += outputs;
        Ok(())
    }

    /// Not synced: a result that comes back after a power cut is said again, and acknowledged again.
    fn drop_results(&mut self, attempts: Vec<AttemptId>) {
        for attempt in &attempts {
            match self.log.output(*attempt) {
                Some(Some(blob)) => self.output_bytes -= blob.size_bytes,
                // Its output is in the log: of most results there is no file to look for.
                Some(None) => continue,
                None => {}
            }
            if let Err(error) = files::remove_if_there(&self.outputs.join(file_name(*attempt))) {
                tracing::warn!(%error, %attempt, "an output cannot be removed");
            }
        }
        if let Err(error) = self.log.append([].iter(), attempts.clone()) {
            tracing::debug!(%error, "removals are not on disk; they will be said again");
            self.log.forget(&attempts);
        }
    }

    fn recollect(&self, attempts: Vec<AttemptId>, tell: &impl Fn(Event)) {
        let (mut records, mut missing) = (Vec::new(), Vec::new());
        for attempt in attempts {
            match self.log.read(attempt) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => missing.push(attempt),
                Err(error) => {
                    tracing::error!(%error, %attempt, "a kept result cannot be read back; its task will run again");
                    missing.push(attempt);
                }
            }
        }
        tell(Event::Recollected { records, missing });
    }
}

/// A name without the signs that file systems mind.
fn file_name(attempt: AttemptId) -> String {
    format!("j{}-{}-{}", attempt.task.job.0, attempt.task.index, attempt.number)
}

// An outbox of the most attempts with the largest records still fits its log's offsets and a batch its memory.
const _: () = assert!(limits::ATTEMPTS_PER_AGENT_MAX * limits::FRAME_BYTES_MAX < usize::MAX / 2);

#[cfg(test)]
mod tests {
    use lull_shared::{
        digest::BlobRef,
        message::{Outcome, Payload},
    };

    use super::{log::tests::record, *};

    struct Box {
        folder: tempfile::TempDir,
        bytes_max: u64,
    }

    impl Box {
        fn new(bytes_max: u64) -> Self {
            Self { folder: tempfile::tempdir().expect("a folder"), bytes_max }
        }

        /// Opens it, does something, and returns everything it said until it was done.
        fn with(&self, work: impl FnOnce(&Outbox)) -> (Vec<Kept>, Vec<Event>) {
            let (events, said) = mpsc::channel();
            let tell = move |event| events.send(event).expect("the test listens");
            let (outbox, kept, thread) = Outbox::open(self.folder.path(), self.bytes_max, tell).expect("it opens");
            work(&outbox);
            drop(outbox);
            thread.join().expect("it ends");
            (kept, said.iter().collect())
        }
    }

    fn kept(events: &[Event]) -> usize {
        events.iter().map(|event| if let Event::Kept { attempts } = event { attempts.len() } else { 0 }).sum()
    }

    fn large(index: u32, bytes: &[u8]) -> Finished {
        Finished { outcome: Outcome::Succeeded { output: Payload::Blob(BlobRef::of(bytes)) }, ..record(index, 0) }
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_look_into_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let above = tempfile::tempdir().expect("a folder");
        let folder = above.path().join("results");
        let (outbox, _, thread) = Outbox::open(&folder, 1 << 20, |_| ()).expect("it opens");
        drop(outbox);
        thread.join().expect("it ends");
        let folders = [folder.clone(), folder.join("outputs")];
        for folder in folders {
            let mode = fs::metadata(&folder).expect("it was made").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", folder.display());
        }
    }

    #[test]
    fn results_survive_until_they_are_dropped() {
        let outbox = Box::new(1 << 30);
        let (_, events) = outbox.with(|outbox| (0..100).for_each(|index| outbox.keep(Arc::new(record(index, 100)))));
        assert_eq!(kept(&events), 100);
        let (found, events) = outbox.with(|outbox| {
            outbox.drop_results((0..99).map(|index| record(index, 0).attempt).collect());
            outbox.recollect(vec![record(99, 0).attempt, record(500, 0).attempt]);
        });
        assert_eq!(found.len(), 100);
        let [Event::Recollected { records, missing }] = &events[..] else { panic!("{events:?}") };
        assert_eq!((&records[..], &missing[..]), (&[record(99, 100)][..], &[record(500, 0).attempt][..]));
        assert_eq!(outbox.with(|_| ()).0.len(), 1);
    }

    #[test]
    fn what_is_dropped_with_the_batch_that_it_came_in_is_not_written() {
        let (events, said) = mpsc::channel();
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::open(folder.path(), folder.path().join("outputs").into(), 1 << 30).expect("it opens");
        let results = [record(0, 100), record(1, 100)].map(Arc::new);
        let gone = results[0].attempt;
        let batch = results.map(Command::Keep).into_iter().chain([Command::Drop(vec![gone])]).collect();
        writer.carry_out(batch, &|event| events.send(event).expect("the test listens"));
        assert_eq!(kept(&said.try_iter().collect::<Vec<_>>()), 1);
        assert_eq!(writer.log.live().count(), 1);
    }

    #[test]
    fn a_result_is_said_to_be_kept_when_its_output_and_then_the_log_are_on_disk() {
        files::deeds::watch();
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::open(folder.path(), folder.path().join("outputs").into(), 1 << 30).expect("it opens");
        assert_eq!(files::deeds::take(folder.path()), ["synced outbox.log", "named outbox.log"]);
        let tell = |event| {
            assert!(matches!(event, Event::Kept { .. }), "{event:?}");
            files::deeds::note("said", &folder.path().join("kept"));
        };
        let result = large(1, b"large");
        fs::write(folder.path().join("outputs").join(file_name(result.attempt)), b"large").expect("a place for it");
        writer.carry_out(vec![Command::Keep(Arc::new(result)), Command::Keep(Arc::new(record(2, 10)))], &tell);
        assert_eq!(
            files::deeds::take(folder.path()),
            ["synced outputs/j1-1-1", "named outputs/any", "written outbox.log", "synced outbox.log", "said kept"]
        );
    }

    #[test]
    fn a_log_that_is_written_anew_is_on_disk_before_it_takes_the_old_ones_place() {
        files::deeds::watch();
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::open(folder.path(), folder.path().join("outputs").into(), 1 << 30).expect("it opens");
        writer.carry_out(vec![Command::Keep(Arc::new(record(1, 10)))], &|_| ());
        files::deeds::take(folder.path());
        writer.log.rewrite().expect("there is room");
        assert_eq!(files::deeds::take(folder.path()), ["synced outbox.new", "renamed outbox.log", "named outbox.log"]);
        assert!(writer.log.is_in_place() && writer.log.live().count() == 1);
    }

    #[test]
    fn a_large_output_lives_as_long_as_its_result() {
        let outbox = Box::new(1 << 30);
        let output = |index| outbox.folder.path().join("outputs").join(file_name(record(index, 0).attempt));
        outbox.with(|outbox| {
            for index in 0..2 {
                fs::write(outbox.output_path(record(index, 0).attempt), b"large").expect("a place for it");
                outbox.keep(Arc::new(large(index, b"large")));
            }
        });
        fs::write(output(7), b"of an attempt that never ended").expect("a place for it");
        fs::write(output(1), b"cut").expect("damage");
        let (kept, _) = outbox.with(|outbox| outbox.drop_results(vec![record(0, 0).attempt]));
        assert_eq!(kept.len(), 1, "what has lost its output is no result");
        assert_eq!((output(0).exists(), output(1).exists(), output(7).exists()), (false, false, false));
    }

    #[test]
    fn a_full_outbox_says_so_and_takes_results_again_when_there_is_room() {
        let outbox = Box::new(300);
        let (_, events) = outbox.with(|outbox| {
            outbox.keep(Arc::new(record(0, 200)));
            outbox.recollect(vec![record(0, 0).attempt]);
        });
        assert_eq!(kept(&events), 1);
        let (_, events) = outbox.with(|outbox| {
            fs::write(outbox.output_path(record(1, 0).attempt), [0; 400]).expect("a place for it");
            outbox.keep(Arc::new(large(1, &[0; 400])));
        });
        assert!(matches!(&events[..], [Event::NotKept { .. }]), "{events:?}");
    }

    #[test]
    fn an_outbox_that_was_removed_is_made_again_and_keeps_what_it_held() {
        let outbox = Box::new(1 << 30);
        let (_, events) = outbox.with(|handle| {
            handle.keep(Arc::new(record(1, 10)));
            handle.recollect(vec![record(1, 0).attempt]);
            while !outbox.folder.path().join("outbox.log").metadata().is_ok_and(|file| file.len() > 20) {
                thread::yield_now();
            }
            fs::remove_dir_all(outbox.folder.path()).expect("it is there");
            handle.keep(Arc::new(record(2, 10)));
            handle.probe();
        });
        assert_eq!(kept(&events), 2);
        assert!(matches!(&events[..], [.., Event::Probed { part: Part::Outbox, result: Ok(()) }]), "{events:?}");
        assert_eq!(outbox.with(|_| ()).0.len(), 2, "both are there after a restart");
    }

    #[test]
    fn an_outbox_that_cannot_be_made_says_why_and_takes_results_when_it_can() {
        let outbox = Box::new(1 << 30);
        let (_, events) = outbox.with(|handle| {
            fs::remove_dir_all(outbox.folder.path()).expect("it is there");
            fs::write(outbox.folder.path(), b"a file in its place").expect("a file");
            handle.probe();
            handle.keep(Arc::new(record(1, 10)));
        });
        let failed = |event: &Event| matches!(event, Event::Probed { result: Err(_), .. } | Event::NotKept { .. });
        assert!(events.len() == 2 && events.iter().all(failed), "{events:?}");
        fs::remove_file(outbox.folder.path()).expect("it is there");
        let (_, events) = outbox.with(|handle| handle.keep(Arc::new(record(1, 10))));
        assert_eq!(kept(&events), 1);
    }

    #[test]
    fn a_result_whose_output_is_gone_is_lost_alone() {
        let outbox = Box::new(1 << 30);
        let (_, events) = outbox.with(|outbox| {
            outbox.keep(Arc::new(large(1, b"never written")));
            outbox.keep(Arc::new(record(2, 10)));
        });
        let missing = |event: &Event| matches!(event, Event::Recollected { missing, .. } if missing.len() == 1);
        assert!(events.iter().any(missing) && kept(&events) == 1, "{events:?}");
    }

    /// A writer with the folder of its own, and what it says about some commands.
    fn writer(bytes_max: u64) -> (tempfile::TempDir, Writer) {
        let folder = tempfile::tempdir().expect("a folder");
        let writer = Writer::open(folder.path(), folder.path().join("outputs").into(), bytes_max).expect("it opens");
        (folder, writer)
    }

    fn says(writer: &mut Writer, batch: Vec<Command>) -> Vec<Event> {
        let (events, said) = mpsc::channel();
        writer.carry_out(batch, &|event| events.send(event).expect("the test listens"));
        said.try_iter().collect()
    }

    fn keep(record: Finished) -> Command {
        Command::Keep(Arc::new(record))
    }

    /// Keeps a result whose output has so many bytes.
    fn keep_large(writer: &mut Writer, index: u32, size: usize) -> bool {
        let bytes = vec![index as u8; size];
        fs::write(writer.outputs.join(file_name(record(index, 0).attempt)), &bytes).expect("a place for it");
        kept(&says(writer, vec![keep(large(index, &bytes))])) == 1
    }

    #[test]
    fn outputs_fill_the_outbox_to_its_bound_and_what_is_dropped_makes_room() {
        let (folder, mut one) = writer(1_000);
        assert!(keep_large(&mut one, 0, 1_000), "as much as there may be");
        assert_eq!(one.output_bytes, 1_000);
        assert!(!keep_large(&mut one, 1, 1), "not a byte more");
        says(&mut one, vec![Command::Drop(vec![record(0, 0).attempt, record(1, 0).attempt])]);
        assert_eq!(one.output_bytes, 0);
        assert!(keep_large(&mut one, 2, 1_000));
        drop(one);
        let mut one = Writer::open(folder.path(), folder.path().join("outputs").into(), 1_000).expect("it opens");
        assert_eq!(one.output_bytes, 1_000, "what an earlier life kept counts");
        assert!(!keep_large(&mut one, 3, 1));
        let (_folder, mut above) = writer(1_000);
        assert!(!keep_large(&mut above, 0, 1_001));
        assert_eq!(above.output_bytes, 0);
    }

    #[test]
    fn a_result_that_could_not_be_made_durable_is_not_there_and_may_be_tried_again() {
        let (folder, mut writer) = writer(1 << 30);
        files::deeds::refuse("synced", &folder.path().join("outbox.log"));
        let events = says(&mut writer, vec![keep(record(1, 10))]);
        assert!(matches!(&events[..], [Event::NotKept { attempts, .. }] if *attempts == [record(1, 0).attempt]), "{events:?}");
        assert_eq!(writer.log.live().count(), 0);
        assert_eq!(kept(&says(&mut writer, vec![keep(record(1, 10))])), 1);
        assert_eq!(writer.log.live().count(), 1);
        let path = folder.path().join("outputs").join(file_name(record(2, 0).attempt));
        files::deeds::refuse("synced", &path);
        assert!(!keep_large(&mut writer, 2, 100), "nor is one whose output is not on disk");
        assert_eq!((writer.log.live().count(), writer.output_bytes), (1, 0));
        assert!(keep_large(&mut writer, 2, 100));
    }

    #[test]
    fn what_is_dropped_while_the_disk_refuses_is_held_no_more() {
        let (folder, mut writer) = writer(1 << 30);
        says(&mut writer, vec![keep(record(1, 10))]);
        files::deeds::refuse("written", &folder.path().join("outbox.log"));
        assert!(says(&mut writer, vec![Command::Drop(vec![record(1, 0).attempt])]).is_empty());
        assert_eq!(writer.log.live().count(), 0);
    }

    #[test]
    fn small_results_need_one_sync_and_no_look_at_the_outputs() {
        let (folder, mut writer) = writer(1 << 30);
        files::deeds::take(folder.path());
        says(&mut writer, vec![keep(record(1, 10)), keep(record(2, 10))]);
        assert_eq!(files::deeds::take(folder.path()), ["written outbox.log", "synced outbox.log"]);
        says(&mut writer, vec![Command::Drop(vec![record(1, 0).attempt])]);
        assert_eq!(files::deeds::take(folder.path()), ["written outbox.log"], "a removal need not be durable");
    }

    #[test]
    fn each_command_is_answered_with_what_it_asks_for_and_nothing_else() {
        let attempt = |index| record(index, 0).attempt;
        let (_folder, mut writer) = writer(1 << 30);
        let kept = says(&mut writer, vec![keep(record(1, 10))]);
        assert!(matches!(&kept[..], [Event::Kept { attempts }] if *attempts == [attempt(1)]), "{kept:?}");
        let lost = says(&mut writer, vec![keep(large(2, b"never written"))]);
        let lost_alone = |events: &[Event]| matches!(events, [Event::Recollected { records, missing }] if records.is_empty() && *missing == [attempt(2)]);
        assert!(lost_alone(&lost), "{lost:?}");
        let gone = says(&mut writer, vec![Command::Recollect(vec![attempt(1)]), Command::Drop(vec![attempt(1)])]);
        assert!(gone.is_empty(), "nobody waits for what was dropped: {gone:?}");
        let probed = says(&mut writer, vec![Command::Probe]);
        assert!(matches!(&probed[..], [Event::Probed { part: Part::Outbox, result: Ok(()) }]), "{probed:?}");
    }
}
