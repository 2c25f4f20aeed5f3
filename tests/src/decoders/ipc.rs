//! The local socket between the agent and its command line or tray.

use lull_agent::ipc::{Request, Response};

use super::{choice, laws};

/// One line; the first byte says who reads it: 0 the agent, 1 the command line.
pub fn ipc(bytes: &[u8]) {
    let (reader, line) = choice(bytes);
    if reader % 2 == 0 { laws::json::<Request>(line) } else { laws::json::<Response>(line) }
}
