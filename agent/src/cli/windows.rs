//! Stopping by what a console is told.

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown,
};

/// A pipe that nobody reads is noticed here when it is written to.
pub async fn reader_gone() {
    std::future::pending().await
}

/// What asks a program to end: Ctrl-C, Ctrl-Break, and the end of its window, its session and the machine, all of them one
/// and the same.
pub struct Signals {
    interrupt: CtrlC,
    broken: CtrlBreak,
    closed: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
}

impl Signals {
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            broken: ctrl_break()?,
            closed: ctrl_close()?,
            logoff: ctrl_logoff()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Returns at the next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.broken.recv() => {}
            _ = self.closed.recv() => {}
            _ = self.logoff.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}
