//! The outbox's file, as a crash left it.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Arc, mpsc},
};

use lull_agent::outbox::Outbox;
use lull_session::Event;
use lull_shared::{
    id::{AttemptId, JobId, TaskId},
    message::{Finished, Outcome, Payload},
    state::Usage,
};

use tempfile::TempDir;

use super::memory::bounded;

/// The bytes of `outbox.log`.
///
/// It opens, unless it is no outbox at all. Every result that it says it has can be read; what it has is the same
/// when it is opened again, and a result that is added then is there too.
pub fn outbox(bytes: &[u8]) {
    let folder = folder();
    let folder = folder.path();
    fs::write(folder.join("outbox.log"), bytes).expect("room in the temporary folder");
    let Some(first) = life(folder, bytes, None) else {
        assert!(bytes.len() >= MAGIC.len() && !bytes.starts_with(MAGIC), "an outbox always opens");
        return;
    };
    let new = AttemptId { task: TaskId { job: JobId(u64::MAX), index: 7 }, number: 1 };
    assert_eq!(life(folder, bytes, Some(new)).as_ref(), Some(&first), "opened again it is the same");
    let both: BTreeSet<_> = first.into_iter().chain([new]).collect();
    assert_eq!(life(folder, bytes, None), Some(both), "and it goes on");
}

const MAGIC: &[u8] = b"LULLOUT1";

/// Opens the outbox, reads all that it has, adds a result; what it had at its beginning.
fn life(folder: &Path, bytes: &[u8], add: Option<AttemptId>) -> Option<BTreeSet<AttemptId>> {
    let (tell, told) = mpsc::channel();
    // What it adds itself is on disk by the time that it is opened again.
    let most = bytes.len() + 4096;
    let opened = bounded(most, || Outbox::open(folder, 1 << 30, move |event| tell.send(event).expect("somebody listens")));
    let (outbox, kept, thread) = opened.ok()?;
    let kept: BTreeSet<AttemptId> = kept.into_iter().map(|kept| kept.attempt).collect();
    outbox.recollect(kept.iter().copied().collect());
    if let Some(attempt) = add {
        let outcome = Outcome::Succeeded { output: Payload::inline(&b"output"[..]) };
        let (log, usage) = (Default::default(), Usage::default());
        outbox.keep(Arc::new(Finished { attempt, outcome, log, log_dropped_bytes: 0, usage }));
    }
    drop(outbox);
    thread.join().expect("it ends in order");
    for event in told {
        match event {
            Event::Recollected { records, missing } => {
                assert_eq!(missing, [], "what it says it has can be read");
                assert!(records.iter().all(|record| kept.contains(&record.attempt)));
            }
            Event::Kept { attempts } => assert_eq!(Some(attempts), add.map(|attempt| vec![attempt])),
            other => panic!("{other:?}"),
        }
    }
    Some(kept)
}

/// A folder of this call's own, in memory where there is such a thing: the outbox syncs a lot.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("lull-outbox-").tempdir_in(parent).expect("a temporary folder")
}
