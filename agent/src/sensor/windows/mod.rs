//! The sensor of a Windows machine: what each source is, and how what they see becomes one sample.
//!
//! | source | sees | how |
//! |---|---|---|
//! | input | keyboard and mouse of its own desktop, never which key | asked for the time of the last input, every 4 ms while functions run and every second otherwise; told of the mouse (raw input) |
//! | tray of session N | keyboard and mouse of that session, for a service, which has no desktop | told by the tray, which looks as this does |
//! | presence | whether anybody uses the machine, for a service, while a session in use has no tray | told, by the power notification |
//! | sessions | sessions that are in use and that nothing else sees | asked |
//! | power | lid, sleep, shutdown | told |
//! | system | load, memory, power, battery saver, what fills the screen, metered networks, pending restart | asked |
//!
//! No call of the system that tells of keys is used: no hook, no raw input of keyboards, no state of keys.

mod input;
mod power;
mod sessions;
mod system;
mod trays;

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use lull_session::guard::Sample;

pub(super) use self::system::{Counters, cpu_time};
pub use self::trays::Tray;
use self::{input::Input, sessions::Sessions, system::Awake};
use super::{Load, Sensor, SensorError, Source, eyes::Eyes, local, word::Teller};

/// Whether a session is in use, or why that is not known.
pub(super) fn is_in_use(session: u32) -> Result<bool, String> {
    sessions::is_in_use(session).map_err(|error| error.to_string())
}

/// The eyes of this process, for whoever is told of a change elsewhere.
static EYES: Mutex<Weak<Eyes>> = Mutex::new(Weak::new());

/// What is made of what a tray tells of its session; none before there is a sensor.
pub(super) fn tray_of(session: u32) -> Option<Tray> {
    let eyes = EYES.lock().unwrap_or_else(PoisonError::into_inner).upgrade()?;
    Some(Tray::new(eyes, session))
}

/// Looks at once, and at sessions too.
pub(super) fn look_again() {
    let eyes = EYES.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
    if let Some(eyes) = eyes {
        sessions::look_again();
        eyes.look();
    }
}

/// A machine with a desk.
pub(super) struct Desk {
    load: Load,
    eyes: Arc<Eyes>,
    input: Option<Input>,
    sessions: Sessions,
    system: system::Looks,
    awake: Awake,
}

impl Desk {
    /// Opens every eye that there is; those that find nothing to see say so.
    pub(super) fn open(teller: Teller) -> Result<Self, SensorError> {
        let eyes = Arc::new(Eyes::new(teller));
        *EYES.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&eyes);
        let has_desktop = input::has_desktop();
        let input = if has_desktop { input::watch(&eyes) } else { input::is_blind(&eyes) };
        power::watch(&eyes, !has_desktop);
        let sessions = Sessions::new(has_desktop);
        Ok(Self { load: Load::new()?, eyes, input, sessions, system: system::Looks::new(has_desktop), awake: Awake::default() })
    }
}

impl Sensor for Desk {
    fn sample(&mut self, executors: Duration) -> Sample {
        let (cpu_others_percent, memory_available_bytes) = self.load.measure(executors);
        self.sessions.look(&self.eyes);
        self.eyes.set_full_screen(self.system.full_screen());
        self.eyes.set_metered(self.system.metered());
        let seen = self.eyes.seen();
        Sample {
            cpu_others_percent,
            memory_available_bytes,
            memory_stalled_percent: 0,
            idle: seen.idle,
            power: system::power(),
            lid_closed: seen.lid_closed,
            full_screen: seen.full_screen,
            metered: seen.metered,
            reboot: self.system.reboot(),
            celsius: None,
            local: local(),
        }
    }

    fn keep_awake(&mut self, wanted: bool) {
        self.awake.set(wanted);
    }

    fn look_closely(&mut self, working: bool) {
        if let Some(input) = &self.input {
            input.look_closely(working);
        }
    }

    fn sources(&self) -> Vec<Source> {
        let about = "processors, memory, power, networks".to_owned();
        let mut sources = vec![Source { name: "the system".into(), about, missing: None }];
        sources.extend(self.eyes.sources());
        sources
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_call_that_tells_of_keys_is_taken_from_the_system() {
        let program = std::fs::read(std::env::current_exe().expect("a program")).expect("it can be read");
        lull_windows::keys::assert_none_is_taken(&program);
    }
}
