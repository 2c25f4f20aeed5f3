//! What the owner and the machine do: measured about once a second, told at once where it cannot wait.
//!
//! ```text
//! asked: load, power, screen, network, ...  --Sensor::sample--> run loop --Sample--> guard
//! told:  keyboard and mouse, sleep, shutdown -----Word, as it happens----^
//! ```
//! A source that is not there is said to be missing ([`Sensor::sources`]); what it would have seen counts as calm, except
//! for the owner's input: where nothing sees that, the guard does not take the owner for away.

#[cfg(any(all(target_os = "linux", feature = "desk"), windows))]
mod eyes;
#[cfg(all(target_os = "linux", feature = "desk"))]
mod linux;
mod load;
mod script;
#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod sys;
mod word;

use std::{io, path::PathBuf, str::FromStr, time::Duration};

use lull_session::guard::Sample;
use lull_shared::hours::WeekMinute;

use self::word::Teller;
pub use self::{
    load::Load,
    word::{Delay, Told, Word, words},
};
pub use lull_desk::Source;

/// The machine cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    #[error("this machine's processors and memory cannot be measured: {0}")]
    Load(String),
    #[error("the script {path} cannot be used: {source}")]
    Script { path: PathBuf, source: io::Error },
}

/// Sees what the owner and the machine do.
pub trait Sensor: Send {
    /// What there is to see now; asked at most every 200 ms. `executors` is the processor time that the living executors
    /// have had.
    fn sample(&mut self, executors: Duration) -> Sample;

    /// Whether the machine shall not go to sleep by itself from now on. A sensor that cannot see to that does nothing.
    fn keep_awake(&mut self, _wanted: bool) {}

    /// Whether functions run from now on: the owner's input is looked for more often then, where it has to be looked for.
    fn look_closely(&mut self, _working: bool) {}

    /// What sees what, and what is missing.
    fn sources(&self) -> Vec<Source>;
}

/// Which sensor an agent has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    #[default]
    Machine,
    /// Tests: what a file or a socket says, see [`script::Line`].
    Script(PathBuf),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("script", path)) if !path.is_empty() => Ok(Self::Script(path.into())),
            _ if text == "machine" => Ok(Self::Machine),
            _ => Err(format!("`{text}` is not a sensor\nhint: write machine or script:PATH")),
        }
    }
}

/// Begins to see; what cannot wait is told.
pub fn open(choice: &Choice, teller: Teller) -> Result<Box<dyn Sensor>, SensorError> {
    match choice {
        #[cfg(all(target_os = "linux", feature = "desk"))]
        Choice::Machine => Ok(Box::new(linux::Desk::open(teller)?)),
        #[cfg(windows)]
        Choice::Machine => Ok(Box::new(sys::Desk::open(teller)?)),
        #[cfg(not(any(all(target_os = "linux", feature = "desk"), windows)))]
        Choice::Machine => Ok(Box::new(Bare { load: Load::new()? })),
        Choice::Script(path) => Ok(Box::new(script::Script::open(path, teller)?)),
    }
}

/// Whether this user has a session in front of a seat of this machine, or why that is not known. Asks logind, which may
/// take seconds.
#[cfg(unix)]
pub fn at_desk(user: u32) -> Result<bool, String> {
    #[cfg(all(target_os = "linux", feature = "desk"))]
    return linux::at_desk(user);
    #[cfg(not(all(target_os = "linux", feature = "desk")))]
    Err(format!("nothing here tells where user {user} is"))
}

/// Whether somebody is connected to this session of the machine, or why that is not known.
#[cfg(windows)]
pub fn is_in_use(session: u32) -> Result<bool, String> {
    sys::is_in_use(session)
}

#[cfg(windows)]
pub use self::sys::Tray;

/// What is made of what the tray of a session tells; none before there is a sensor.
#[cfg(windows)]
pub fn tray_of(session: u32) -> Option<Tray> {
    sys::tray_of(session)
}

/// Has the sensor of this process look at once: sessions or power may have changed.
#[cfg(windows)]
pub fn look_again() {
    sys::look_again();
}

/// The time of the week that the machine's clock shows.
fn local() -> WeekMinute {
    WeekMinute::of(&jiff::Zoned::now())
}

/// A machine of which only the load is known: one whose desk nothing here can see, or a build without the feature `desk`.
#[cfg(not(any(all(target_os = "linux", feature = "desk"), windows)))]
struct Bare {
    load: Load,
}

#[cfg(not(any(all(target_os = "linux", feature = "desk"), windows)))]
impl Sensor for Bare {
    fn sample(&mut self, executors: Duration) -> Sample {
        let (cpu_others_percent, memory_available_bytes) = self.load.measure(executors);
        Sample { cpu_others_percent, memory_available_bytes, idle: None, local: local(), ..Sample::QUIET }
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source { name: "processes".into(), about: "processors and memory".into(), missing: None }]
    }
}
