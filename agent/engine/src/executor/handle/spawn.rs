//! Starting child processes from one thread that lives as long as the agent.
//!
//! A child asks the kernel to be killed with its parent, and the kernel takes "parent" to be the thread that started
//! it: a worker of a thread pool may end long before the agent does.

use std::{
    io,
    ops::{Deref, DerefMut},
    path::PathBuf,
    process,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use crate::executor::{OWN_MEMORY_BYTES, protocol::Load, sys};

/// A process with one thing to do. Dropping it leaves none behind.
pub(in crate::executor) struct Child {
    pub(in crate::executor) process: sys::Handle,
    pub(in crate::executor) child: sys::Child,
}

impl Child {
    /// Starts it, with [`start`].
    pub(in crate::executor) async fn start(program: Option<PathBuf>, words: &[&str], allowance: Allowance) -> io::Result<Self> {
        let child = start(program, words, None, None, allowance).await?;
        Ok(Self { process: sys::Handle::of(&child)?, child: child.claim() })
    }
}

/// What a process may have at most, where whoever starts it has to say so. Elsewhere it bounds itself, as tightly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::executor) struct Allowance {
    pub(in crate::executor) memory_bytes: u64,
    pub(in crate::executor) cpu: Option<Duration>,
}

impl Allowance {
    /// To say something about the machine.
    pub(in crate::executor) const WORD: Self = Self { memory_bytes: OWN_MEMORY_BYTES, cpu: None };

    /// To run attempts of a module.
    pub(in crate::executor) fn of(load: &Load) -> Self {
        Self { memory_bytes: load.limits.memory_bytes.saturating_add(OWN_MEMORY_BYTES), cpu: None }
    }
}

/// What the system is to start.
pub(in crate::executor) struct Start {
    /// Another program than this one, in tests.
    pub(in crate::executor) program: Option<PathBuf>,
    pub(in crate::executor) words: Vec<String>,
    /// Its standard error; nothing hears it otherwise.
    pub(in crate::executor) trail: Option<sys::PadEnd>,
    /// What its pipes hold, so that their ends need not take turns; as much as the system likes if not said.
    pub(in crate::executor) pipe_bytes: Option<usize>,
    #[cfg_attr(unix, expect(dead_code, reason = "it bounds itself"))]
    pub(in crate::executor) allowance: Allowance,
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.child.wait();
    }
}

/// A process that nobody looks after yet: whoever wanted it may be gone by the time it is there. Dropping it leaves none behind,
/// also on its way through a channel.
pub(in crate::executor) struct Unclaimed(Option<sys::Child>);

impl Unclaimed {
    /// It is somebody's now, who is to end it and to wait for it.
    pub(in crate::executor) fn claim(mut self) -> sys::Child {
        self.0.take().expect("it is there until it is claimed")
    }
}

impl Deref for Unclaimed {
    type Target = sys::Child;

    fn deref(&self) -> &sys::Child {
        self.0.as_ref().expect("it is there until it is claimed")
    }
}

impl DerefMut for Unclaimed {
    fn deref_mut(&mut self) -> &mut sys::Child {
        self.0.as_mut().expect("it is there until it is claimed")
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Order {
    start: Start,
    reply: oneshot::Sender<io::Result<Unclaimed>>,
}

/// Whether this program turns into an executor when it is started as one.
static HAS_ENTRY: AtomicBool = AtomicBool::new(false);

/// This program asks at its start whether it is to be an executor.
pub(in crate::executor) fn can_be_started_again() {
    HAS_ENTRY.store(true, Ordering::Relaxed);
}

static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();

/// Starts this program (or another one, in tests) under its executor entry: piped, with an empty environment. It
/// lets go of all else at once, and writes nothing to the trail as to a stream.
pub(in crate::executor) async fn start(
    program: Option<PathBuf>,
    words: &[&str],
    trail: Option<sys::PadEnd>,
    pipe_bytes: Option<usize>,
    allowance: Allowance,
) -> io::Result<Unclaimed> {
    // Started again it would do whatever else it is for.
    if program.is_none() && !HAS_ENTRY.load(Ordering::Relaxed) {
        return Err(io::Error::other("this program has no entry for executors"));
    }
    let agent = process::id().to_string();
    let words = [crate::executor::ENTRY].iter().chain(words).map(|word| (*word).to_owned()).chain([agent]).collect();
    let start = Start { program, words, trail, pipe_bytes, allowance };
    let (reply, answer) = oneshot::channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    spawner().send(Order { start, reply }).map_err(|_| gone(()))?;
    answer.await.map_err(|_| gone(()))?
}

fn spawner() -> &'static Sender<Order> {
    SPAWNER.get_or_init(|| {
        let (orders, incoming) = channel::<Order>();
        let work = move || {
            for Order { start, reply } in incoming {
                let _ = reply.send(sys::start(start).map(|child| Unclaimed(Some(child))));
            }
        };
        // Without the thread every order fails, since nobody holds the receiver.
        let _ = std::thread::Builder::new().name("executor-spawner".into()).spawn(work);
        orders
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_nobody_waits_for_any_more_leaves_nothing_behind() {
        let (reply, answer) = oneshot::channel();
        let start = Start {
            program: Some("/bin/cat".into()),
            words: vec!["-".into(), "-".into()],
            trail: None,
            pipe_bytes: None,
            allowance: Allowance::WORD,
        };
        spawner().send(Order { start, reply }).map_err(|_| ()).expect("the thread is there");
        // It has been started and answered with, and the answer is never taken out.
        while answer.is_empty() && !answer.is_terminated() {
            tokio::task::yield_now().await;
        }
        let own = std::fs::read_dir("/proc/self/task").expect("threads");
        let of = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        let children = own.filter_map(|thread| Some(of(thread.ok()?))).collect::<String>();
        let is_ours = |pid: &&str| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.ends_with(b"\0-\0-\0"));
        let child = children.split_whitespace().find(is_ours).expect("it runs").to_owned();
        drop(answer);
        // One that has ended and that nobody waited for would be there still.
        assert!(!std::path::Path::new("/proc").join(child).exists());
    }
}
