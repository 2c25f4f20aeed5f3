//! What waiting tasks and known agents cost in memory, by an allocator that counts.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use lull_scheduler::{
    Limits, Scheduler,
    event::{AgentSnapshot, Event, JobSnapshot, OpenPlace, OpenTask, Snapshot, StreamId},
};
use lull_shared::{
    id::{AgentId, JobId, TokenId, VersionId},
    job::{Inputs, JobSpec},
    message::Hello,
    resources::{Capacity, Machine},
    state::{Intake, JobState},
    time::Timestamp,
};

/// Bytes in use at the moment.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: Timestamp = Timestamp::from_millis(1_795_435_200_000);

/// What restoring this adds to memory, and the scheduler.
fn restored(snapshot: Snapshot) -> (usize, Scheduler) {
    let before = IN_USE.load(Ordering::Relaxed);
    let tasks = snapshot.jobs.iter().map(|job| job.open.capacity() * size_of::<OpenTask>()).sum::<usize>();
    let scheduler = Scheduler::restore(snapshot, Limits::default(), 1, NOW);
    // The snapshot was in use before and is not any more.
    (IN_USE.load(Ordering::Relaxed) + tasks - before, scheduler)
}

fn job(count: u32, expanded: u32, not_before: Timestamp) -> JobSnapshot {
    let spec = JobSpec::plain("large", VersionId(1), Inputs::Range { first: 0, count });
    let waiting = |index| OpenTask {
        index,
        attempts: 1,
        failures: 1,
        lost: 0,
        place: OpenPlace::Waiting { not_before },
        saved: None,
        answers: Vec::new(),
    };
    JobSnapshot {
        job: JobId(1),
        owner: Some(TokenId(1)),
        submitter: "ada".into(),
        spec,
        version_name: "f@1".into(),
        movable: None,
        seed: 1,
        submitted: NOW,
        state: JobState::Active,
        stopping: None,
        retrying: None,
        expanded,
        succeeded: 0,
        failed: 0,
        cancelled: 0,
        expired: 0,
        open: (0..expanded).map(waiting).collect(),
    }
}

fn with_job(job: JobSnapshot) -> Snapshot {
    Snapshot { last_job: 1, jobs: vec![job], ..Snapshot::default() }
}

// One test, since the count is of the whole process.
#[test]
fn memory_stays_within_what_was_promised() {
    let (fresh, scheduler) = restored(with_job(job(10_000_000, 0, NOW)));
    assert!(fresh < 16 * 1024, "{fresh} bytes for ten million tasks that were never started");
    drop(scheduler);

    const RETURNED: u32 = 1_000_000;
    for not_before in [NOW, NOW + Duration::from_secs(3600)] {
        let (bytes, scheduler) = restored(with_job(job(RETURNED, RETURNED, not_before)));
        let each = bytes / RETURNED as usize;
        println!("{each} bytes for each task that waits to be started again");
        assert!(each <= 200, "{each} bytes for each task that waits to be started again");
        scheduler.audit().expect("a sound scheduler");
    }

    const AGENTS: u64 = 10_000;
    let agent = |id| AgentSnapshot {
        agent: AgentId(id),
        name: format!("pc-{id:05}.example.org"),
        group: None,
        intake: Intake::Open,
        quarantine: None,
    };
    let before = IN_USE.load(Ordering::Relaxed);
    let snapshot = Snapshot { agents: (1..=AGENTS).map(agent).collect(), ..Snapshot::default() };
    let mut scheduler = Scheduler::restore(snapshot, Limits::default(), 1, NOW);
    for id in 1..=AGENTS {
        scheduler.handle(
            Event::Connected { agent: AgentId(id), stream: StreamId(1), hello: Box::new(hello(id)), from: String::new() },
            NOW,
        );
        while scheduler.poll_effect().is_some() {}
    }
    let each = (IN_USE.load(Ordering::Relaxed) - before) / AGENTS as usize;
    println!("{each} bytes for each connected agent");
    assert!(each <= 4096, "{each} bytes for each connected agent");
}

fn hello(id: u64) -> Hello {
    let capacity = Capacity {
        agent: AgentId(id),
        run: 0,
        sequence: 1,
        slots: 8,
        slots_busy: 0,
        waiting: 0,
        cpu_free_percent: 100,
        memory_free_bytes: 8 << 30,
        paused: None,
    };
    let engine = "wasmtime 48 x86_64-unknown-linux-gnu, baseline".into();
    let machine = Machine { os: "linux".into(), arch: "x86_64".into(), cores: 8, memory_bytes: 16 << 30, engine };
    let labels = [("site", "amsterdam"), ("floor", "3"), ("department", "accounting"), ("disk", "ssd")];
    let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
    Hello {
        agent_version: "0.1.0".into(),
        machine,
        labels,
        capacity,
        holding: Vec::new(),
        snapshots: Vec::new(),
        instance: Default::default(),
        open_cage: None,
    }
}
