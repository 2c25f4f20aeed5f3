//! What the guard is told of the machine.

use std::time::Duration;

use lull_shared::hours::WeekMinute;

/// What was measured at one moment. What a machine cannot tell counts as calm, but for the owner's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The share of all processors that programs other than this agent use, 0 to 100.
    pub cpu_others_percent: u8,
    /// Memory that programs could still get without swapping, in bytes.
    pub memory_available_bytes: u64,
    /// The share of time in which some program waited for memory, in percent.
    pub memory_stalled_percent: u8,
    /// How long ago the owner's last input was; none when nothing sees it.
    pub idle: Option<Duration>,
    pub power: Power,
    pub lid_closed: bool,
    /// A program fills the screen.
    pub full_screen: bool,
    pub metered: bool,
    /// The operating system wants to be restarted.
    pub reboot: bool,
    /// The hottest part that tells, in degrees Celsius.
    pub celsius: Option<u8>,
    /// The time that the machine's own clock shows.
    pub local: WeekMinute,
}

impl Sample {
    /// A machine that nobody uses, on a Sunday morning at three.
    pub const QUIET: Self = Self {
        cpu_others_percent: 0,
        memory_available_bytes: 8 << 30,
        memory_stalled_percent: 0,
        idle: Some(Duration::from_secs(24 * 60 * 60)),
        power: Power::Mains,
        lid_closed: false,
        full_screen: false,
        metered: false,
        reboot: false,
        celsius: None,
        local: WeekMinute::new((6 * 24 + 3) * 60),
    };
}

/// Where the machine has its power from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Also when it does not say: a machine without a battery has nothing to say.
    Mains,
    /// With what is left of the charge, in percent, if that is known.
    Battery { percent: Option<u8> },
}

/// What the operating system announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// It is about to sleep.
    Sleep,
    /// It is about to be switched off or restarted.
    Shutdown,
    /// It has woken up, or what was announced does not come.
    Awake,
}
