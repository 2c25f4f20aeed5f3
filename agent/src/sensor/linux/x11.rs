//! The owner's display under X11: alarms on the server's counter of idle time tell when input begins and when it ends; what
//! the window manager says of the active window tells whether it fills the screen.

use std::{error::Error, os::fd::AsFd as _, sync::Arc, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{MissedTickBehavior, interval, sleep},
};
use x11rb::{
    connection::Connection as _,
    protocol::{
        Event,
        sync::{ConnectionExt as _, CreateAlarmAux, Int64, TESTTYPE, VALUETYPE},
        xproto::{Atom, AtomEnum, ConnectionExt as _, Window},
    },
    rust_connection::RustConnection,
};

use super::super::eyes::{Eyes, QUIET};

pub(super) const NAME: &str = "X11";
const ABOUT: &str = "keyboard, mouse and full screen of its display";
/// A display that went away is looked for again after this long: somebody may log in.
const LOOK: Duration = Duration::from_secs(30);
/// How often it is looked whether something fills the screen.
const SCREEN: Duration = Duration::from_secs(2);

type Failed = Box<dyn Error + Send + Sync>;

/// Watches the display that the environment names.
pub(super) async fn watch(eyes: Arc<Eyes>) {
    if std::env::var_os("DISPLAY").is_none_or(|display| display.is_empty()) {
        return eyes.closes(NAME, ABOUT, "no DISPLAY: the agent runs outside of such a session");
    }
    loop {
        let ended = follow(&eyes).await;
        eyes.set_full_screen(false);
        eyes.closes(NAME, ABOUT, ended.err().map_or_else(|| "the display is gone".into(), |error| error.to_string()));
        sleep(LOOK).await;
    }
}

async fn follow(eyes: &Arc<Eyes>) -> Result<(), Failed> {
    let (display, screen) = x11rb::connect(None)?;
    let root = display.setup().roots.get(screen).ok_or("the display has no screen")?.root;
    let counter = idle_counter(&display)?;
    let (begins, ends) =
        (alarm(&display, counter, TESTTYPE::NEGATIVE_TRANSITION)?, alarm(&display, counter, TESTTYPE::POSITIVE_TRANSITION)?);
    let names = Names::new(&display)?;
    eyes.opens(NAME, ABOUT);
    eyes.rests(NAME, millis(display.sync_query_counter(counter)?.reply()?.counter_value));
    // SAFETY: the connection keeps its one descriptor open for as long as it lives, which is longer than the registration.
    let readable = unsafe { AsyncFd::register_with_interest(display.stream().as_fd(), Interest::READABLE) };
    let readable = readable.map_err(std::io::Error::from)?;
    let mut looks = interval(SCREEN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while let Some(event) = display.poll_for_event()? {
            if let Event::SyncAlarmNotify(notice) = event {
                if notice.alarm == begins {
                    eyes.moves(NAME);
                } else if notice.alarm == ends {
                    eyes.rests(NAME, millis(notice.counter_value));
                }
            }
        }
        tokio::select! {
            ready = readable.readable() => ready?.clear_ready(),
            _ = looks.tick() => eyes.set_full_screen(names.is_filled(&display, root)?),
        }
    }
}

/// The counter that every server keeps of the time since the last input, in milliseconds.
fn idle_counter(display: &RustConnection) -> Result<u32, Failed> {
    display.sync_initialize(3, 1)?.reply()?;
    let counters = display.sync_list_system_counters()?.reply()?.counters;
    let idle = counters.into_iter().find(|counter| counter.name == b"IDLETIME");
    Ok(idle.ok_or("the display does not count idle time")?.counter)
}

/// An alarm for whenever the counter passes [`QUIET`] in one direction.
fn alarm(display: &RustConnection, counter: u32, test: TESTTYPE) -> Result<u32, Failed> {
    let alarm = display.generate_id()?;
    let quiet = Int64 { hi: 0, lo: u32::try_from(QUIET.as_millis())? };
    let terms = CreateAlarmAux::new()
        .counter(counter)
        .value_type(VALUETYPE::ABSOLUTE)
        .value(quiet)
        .test_type(test)
        .delta(Int64 { hi: 0, lo: 0 })
        .events(1);
    display.sync_create_alarm(alarm, &terms)?.check()?;
    Ok(alarm)
}

fn millis(value: Int64) -> Duration {
    Duration::from_millis(u64::from(value.hi.unsigned_abs()) << 32 | u64::from(value.lo))
}

/// What window managers call it.
struct Names {
    active: Atom,
    state: Atom,
    full_screen: Atom,
}

impl Names {
    fn new(display: &RustConnection) -> Result<Self, Failed> {
        let name = |text: &str| -> Result<Atom, Failed> { Ok(display.intern_atom(false, text.as_bytes())?.reply()?.atom) };
        let (active, state) = (name("_NET_ACTIVE_WINDOW")?, name("_NET_WM_STATE")?);
        Ok(Self { active, state, full_screen: name("_NET_WM_STATE_FULLSCREEN")? })
    }

    /// Whether the active window fills the screen. One that has just gone away does not.
    fn is_filled(&self, display: &RustConnection, root: Window) -> Result<bool, Failed> {
        let active = display.get_property(false, root, self.active, AtomEnum::WINDOW, 0, 1)?.reply()?;
        let Some(window) = active.value32().and_then(|mut windows| windows.next()).filter(|window| *window != 0) else {
            return Ok(false);
        };
        let Ok(state) = display.get_property(false, window, self.state, AtomEnum::ATOM, 0, 64)?.reply() else {
            return Ok(false);
        };
        Ok(state.value32().is_some_and(|mut states| states.any(|state| state == self.full_screen)))
    }
}
