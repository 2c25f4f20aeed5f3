//! The sensor of a Linux machine: what each source is, and how what they see becomes one sample.
//!
//! | source | sees | how |
//! |---|---|---|
//! | X11 | input of its display, what fills the screen | told, by alarms on the server's idle counter |
//! | Wayland | input of its desktop | told, by compositors with ext-idle-notify |
//! | input devices | any keyboard and mouse | told, by /dev/input, which the group `input` may read |
//! | logind | sessions of terminals and of the desktops that nothing else sees; lid, sleep, shutdown; keeps the machine awake where the policy says so | asked, and told |
//! | NetworkManager | whether the network is metered | asked |
//! | kernel | load, memory, power, heat, pending restart | asked |

mod awake;
mod bus;
mod devices;
mod sysfs;
mod system;
mod wayland;
mod x11;

use std::{sync::Arc, time::Duration};

use lull_session::guard::Sample;

use self::{awake::Awake, sysfs::Kernel};
use super::{Load, Sensor, SensorError, Source, eyes::Eyes, local, word::Teller};

/// Whether this user has a session in front of a seat of this machine, by logind's word.
pub(super) fn at_desk(user: u32) -> Result<bool, String> {
    system::at_desk(user).map_err(|error| error.to_string())
}

/// A machine with a desk.
pub(super) struct Desk {
    load: Load,
    kernel: Kernel,
    eyes: Arc<Eyes>,
    awake: Awake,
}

impl Desk {
    /// Opens every eye that there is; those that find nothing to see say so.
    pub(super) fn open(teller: Teller) -> Result<Self, SensorError> {
        let eyes = Arc::new(Eyes::new(teller));
        tokio::spawn(x11::watch(eyes.clone()));
        tokio::spawn(wayland::watch(eyes.clone()));
        tokio::spawn(devices::watch(eyes.clone()));
        system::watch(eyes.clone());
        Ok(Self { load: Load::new()?, kernel: Kernel::new(), eyes, awake: Awake::default() })
    }
}

impl Sensor for Desk {
    fn sample(&mut self, executors: Duration) -> Sample {
        let (cpu_others_percent, memory_available_bytes) = self.load.measure(executors);
        let (kernel, seen) = (self.kernel.read(), self.eyes.seen());
        Sample {
            cpu_others_percent,
            memory_available_bytes,
            memory_stalled_percent: kernel.memory_stalled_percent,
            idle: seen.idle,
            power: kernel.power,
            lid_closed: seen.lid_closed,
            full_screen: seen.full_screen,
            metered: seen.metered,
            reboot: kernel.reboot,
            celsius: kernel.celsius,
            local: local(),
        }
    }

    fn keep_awake(&mut self, wanted: bool) {
        self.awake.set(wanted);
    }

    fn sources(&self) -> Vec<Source> {
        let about = "processors, memory, power, heat".to_owned();
        let mut sources = vec![Source { name: "the kernel".into(), about, missing: None }];
        sources.extend(self.eyes.sources());
        sources
    }
}
