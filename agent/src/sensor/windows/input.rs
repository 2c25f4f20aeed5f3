//! The owner's input on this process's desktop, and the end of the session.

use std::{
    io, ptr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lull_session::guard::Announcement;
pub(super) use lull_windows::input::Input;
use lull_windows::input::Sight;
use windows_sys::Win32::{
    Foundation::WPARAM,
    System::StationsAndDesktops::{GetProcessWindowStation, GetUserObjectInformationW, UOI_FLAGS, USEROBJECTFLAGS},
    UI::WindowsAndMessaging::{WM_ENDSESSION, WM_QUERYENDSESSION},
};

use super::super::{eyes::Eyes, word::Delay};
use super::power::Held;

const SOURCE: (&str, &str) = ("input", "keyboard and mouse of this desktop");
/// What may be seen later than this is no help.
const SHUTDOWN_MAX: Duration = Duration::from_secs(4);
/// A flag of a window station that people see.
const VISIBLE: u32 = 1;

/// Whether this process has a desktop that people see: a service has none.
pub(super) fn has_desktop() -> bool {
    let mut flags = USEROBJECTFLAGS::default();
    // SAFETY: the structure is as large as is said; a process keeps its station.
    let asked = unsafe {
        let size = size_of::<USEROBJECTFLAGS>() as u32;
        GetUserObjectInformationW(GetProcessWindowStation(), UOI_FLAGS, (&raw mut flags).cast(), size, ptr::null_mut())
    };
    asked != 0 && flags.dwFlags & VISIBLE != 0
}

/// A service sees no desktop: says so.
pub(super) fn is_blind(eyes: &Eyes) -> Option<Input> {
    eyes.closes(SOURCE.0, SOURCE.1, "a service has no desktop");
    None
}

/// Begins to watch this desktop; where nothing is seen the source says so.
pub(super) fn watch(eyes: &Arc<Eyes>) -> Option<Input> {
    Input::watch(Arc::new(Desktop { eyes: Arc::clone(eyes), held: Mutex::default() }))
}

/// What is seen of it.
struct Desktop {
    eyes: Arc<Eyes>,
    /// While the system waits for the end of the session.
    held: Mutex<Option<Held>>,
}

impl Desktop {
    fn hold(&self, held: Option<Held>) -> Option<Held> {
        std::mem::replace(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner), held)
    }
}

impl Sight for Desktop {
    fn opens(&self, ago: Duration) {
        self.eyes.opens(SOURCE.0, SOURCE.1);
        self.eyes.rests(SOURCE.0, ago);
    }

    fn touched(&self) {
        self.eyes.touched(SOURCE.0);
    }

    fn closes(&self, why: &io::Error) {
        self.eyes.closes(SOURCE.0, SOURCE.1, why.to_string());
    }

    fn message(&self, message: u32, word: WPARAM) {
        match message {
            WM_QUERYENDSESSION => {
                let (held, lock) = Held::new();
                self.eyes.announce(Announcement::Shutdown, Some(Delay::new(lock)));
                self.hold(Some(held));
            }
            WM_ENDSESSION if word == 0 => {
                self.hold(None);
                self.eyes.announce(Announcement::Awake, None);
            }
            // The session ends when this has answered.
            WM_ENDSESSION => drop(self.hold(None).map(|held| held.wait(SHUTDOWN_MAX))),
            _ => {}
        }
    }
}
