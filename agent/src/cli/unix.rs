//! Stopping by signals.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a program to end: SIGINT (Ctrl-C), SIGTERM (a service manager, `kill`) and SIGHUP (the terminal
/// is gone), all of them one and the same.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    pub fn listen() -> io::Result<Self> {
        let hang_up = if outlives_its_terminal() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hang_up })
    }

    /// Returns at the next of them.
    pub async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hang_up => {}
        }
    }
}

/// How often it is looked whether anybody still reads.
const READER_LOOK: Duration = Duration::from_millis(250);

/// Returns when nobody reads standard output any more, as behind `| head`: what is shown again and again may not be
/// written for long, and only writing would tell. Never, where it is no pipe and no connection.
pub async fn reader_gone() {
    while !is_gone(io::stdout().as_fd()) {
        tokio::time::sleep(READER_LOOK).await;
    }
}

/// Whether the other end of a pipe or a connection is closed.
fn is_gone(end: BorrowedFd<'_>) -> bool {
    let mut look = libc::pollfd { fd: end.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry of our own, which lives as long as the call; nothing is waited for.
    let told = unsafe { libc::poll(&raw mut look, 1, 0) };
    told > 0 && look.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

/// Whether whoever started this process said that it ignores SIGHUP, as `nohup` does. Known on Linux alone.
fn outlives_its_terminal() -> bool {
    ignores_hang_up(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is signal 1.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::{ignores_hang_up, is_gone};

    #[test]
    fn a_reader_that_has_gone_is_noticed_without_a_word() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        assert!(!is_gone(writer.as_fd()));
        drop(reader);
        assert!(is_gone(writer.as_fd()));
        let (other, end) = std::os::unix::net::UnixStream::pair().expect("a connection");
        assert!(!is_gone(end.as_fd()));
        drop(other);
        assert!(is_gone(end.as_fd()));
        assert!(!is_gone(tempfile::tempfile().expect("a file").as_fd()));
    }

    #[test]
    fn what_nohup_said_holds() {
        assert!(ignores_hang_up("Name:\tlull\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hang_up("Name:\tlull\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hang_up(""));
    }
}
