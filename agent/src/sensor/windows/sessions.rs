//! Sessions of this machine that are in use. Whoever uses one that nothing here sees counts as there.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use lull_engine::windows::done;
use windows_sys::Win32::System::{
    RemoteDesktop::{
        ProcessIdToSessionId, WTS_CURRENT_SERVER_HANDLE, WTS_SESSION_INFOW, WTSActive, WTSEnumerateSessionsW, WTSFreeMemory,
        WTSGetActiveConsoleSessionId,
    },
    Threading::GetCurrentProcessId,
};

use super::{super::eyes::Eyes, trays};

const SOURCE: (&str, &str) = ("sessions", "sessions that nothing else sees");
/// The source that sees all of them, for a service.
const PRESENCE: &str = "presence";
/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Whether they are to be looked at sooner.
static LOOK_AGAIN: AtomicBool = AtomicBool::new(false);

/// They may have changed.
pub(super) fn look_again() {
    LOOK_AGAIN.store(true, Ordering::Relaxed);
}

/// What stands for no session.
const NONE: u32 = u32::MAX;

pub(super) struct Sessions {
    /// The one whose input is seen.
    own: Option<u32>,
    looked: Option<Instant>,
}

impl Sessions {
    pub(super) fn new(has_desktop: bool) -> Self {
        Self { own: has_desktop.then(own).flatten(), looked: None }
    }

    /// Looks whether somebody is there whom nothing else sees.
    pub(super) fn look(&mut self, eyes: &Eyes) {
        let again = LOOK_AGAIN.swap(false, Ordering::Relaxed);
        if !again && self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        match in_use() {
            Ok(sessions) => {
                eyes.opens(SOURCE.0, SOURCE.1);
                // What sees a session itself knows more than what only says whether somebody is about.
                let are_seen = sessions.iter().all(|session| Some(*session) == self.own || trays::see(*session));
                eyes.set_aside(PRESENCE, are_seen && !sessions.is_empty());
                if !are_seen && !eyes.sees_input(PRESENCE) {
                    eyes.touched(SOURCE.0);
                }
            }
            Err(error) => {
                eyes.set_aside(PRESENCE, false);
                eyes.closes(SOURCE.0, SOURCE.1, error.to_string());
            }
        }
    }
}

fn own() -> Option<u32> {
    let mut session = 0;
    // SAFETY: the place is one for the answer.
    done(unsafe { ProcessIdToSessionId(GetCurrentProcessId(), &mut session) }).ok().map(|()| session)
}

/// The sessions that somebody is connected to, at the screen or from afar.
fn in_use() -> io::Result<Vec<u32>> {
    let (mut list, mut count): (*mut WTS_SESSION_INFOW, _) = (std::ptr::null_mut(), 0);
    // SAFETY: both are places for the answer.
    done(unsafe { WTSEnumerateSessionsW(WTS_CURRENT_SERVER_HANDLE, 0, 1, &mut list, &mut count) })?;
    if list.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the list has so many entries, and is given back once.
    unsafe {
        let sessions = std::slice::from_raw_parts(list, count as usize);
        let active = sessions.iter().filter(|session| session.State == WTSActive).map(|session| session.SessionId).collect();
        WTSFreeMemory(list.cast());
        Ok(active)
    }
}

/// Whether somebody is connected to this session. Where the system does not list them it is the one at the screen.
pub(super) fn is_in_use(session: u32) -> io::Result<bool> {
    match in_use() {
        Ok(sessions) => Ok(sessions.contains(&session)),
        Err(error) => {
            // SAFETY: the call only asks.
            match unsafe { WTSGetActiveConsoleSessionId() } {
                NONE => Err(error),
                screen => Ok(screen == session),
            }
        }
    }
}
