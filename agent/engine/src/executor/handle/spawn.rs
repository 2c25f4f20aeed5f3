//! Starting child processes from one thread that lives as long as the agent.
//!
//! A child asks the kernel to be killed with its parent, and the kernel takes "parent" to be the thread that started
//! it: a worker of a thread pool may end long before the agent does.

use std::{
    io,
    path::PathBuf,
    process::{self, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
};

use tokio::sync::oneshot;

use crate::executor::sys;

/// A process with one thing to do. Dropping it leaves none behind.
pub(in crate::executor) struct Child {
    pub(in crate::executor) process: sys::Handle,
    pub(in crate::executor) child: process::Child,
}

impl Child {
    /// Starts it, with [`start`].
    pub(in crate::executor) async fn start(program: Option<PathBuf>, words: &[&str]) -> io::Result<Self> {
        let child = start(program, words, Stdio::null()).await?;
        Ok(Self { process: sys::Handle::open(child.id())?, child })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.child.wait();
    }
}

struct Order {
    command: Command,
    reply: oneshot::Sender<io::Result<process::Child>>,
}

/// Whether this program turns into an executor when it is started as one.
static HAS_ENTRY: AtomicBool = AtomicBool::new(false);

/// This program asks at its start whether it is to be an executor.
pub(in crate::executor) fn can_be_started_again() {
    HAS_ENTRY.store(true, Ordering::Relaxed);
}

static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();

/// Starts this program (or another one, in tests) under its executor entry: piped, with an empty environment. It
/// makes a session of its own at once, and writes nothing to `stderr` as to a stream.
pub(in crate::executor) async fn start(program: Option<PathBuf>, words: &[&str], stderr: Stdio) -> io::Result<process::Child> {
    let program = match program {
        Some(program) => program,
        // Started again it would do whatever else it is for.
        None if !HAS_ENTRY.load(Ordering::Relaxed) => return Err(io::Error::other("this program has no entry for executors")),
        // The very file that runs, even if an upgrade has put another one in its place.
        None if cfg!(target_os = "linux") => PathBuf::from("/proc/self/exe"),
        None => std::env::current_exe()?,
    };
    let mut command = Command::new(program);
    command.arg(crate::executor::ENTRY).args(words).arg(process::id().to_string()).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::arg0(&mut command, "lull-executor");
    let (reply, answer) = oneshot::channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    spawner().send(Order { command, reply }).map_err(|_| gone(()))?;
    answer.await.map_err(|_| gone(()))?
}

fn spawner() -> &'static Sender<Order> {
    SPAWNER.get_or_init(|| {
        let (orders, incoming) = channel::<Order>();
        let work = move || {
            for mut order in incoming {
                let child = order.command.spawn();
                if let Err(Ok(mut unwanted)) = order.reply.send(child) {
                    let _ = unwanted.kill();
                    let _ = unwanted.wait();
                }
            }
        };
        // Without the thread every order fails, since nobody holds the receiver.
        let _ = std::thread::Builder::new().name("executor-spawner".into()).spawn(work);
        orders
    })
}
