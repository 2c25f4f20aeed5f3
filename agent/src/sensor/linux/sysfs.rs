//! What the kernel tells in files: power, heat, waiting for memory; and whether a restart is due.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lull_session::guard::Power;

/// What changes slowly, or is slow to read (a battery answers over a slow bus), is read this often.
const SLOW: Duration = Duration::from_secs(15);

/// The files, and what was read of the slow ones.
pub(super) struct Kernel {
    root: PathBuf,
    slow: Option<(Instant, Slow)>,
}

#[derive(Clone, Copy)]
struct Slow {
    battery: Battery,
    reboot: bool,
    celsius: Option<u8>,
}

/// What the batteries say together.
#[derive(Clone, Copy)]
enum Battery {
    None,
    Charged { percent: Option<u8>, discharging: bool },
}

/// What the files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub power: Power,
    pub memory_stalled_percent: u8,
    pub celsius: Option<u8>,
    pub reboot: bool,
}

impl Kernel {
    pub(super) fn new() -> Self {
        Self { root: "/".into(), slow: None }
    }

    pub(super) fn read(&mut self) -> Reading {
        let slow = match self.slow {
            Some((at, slow)) if at.elapsed() < SLOW => slow,
            _ => {
                let slow = self.read_slowly();
                self.slow = Some((Instant::now(), slow));
                slow
            }
        };
        Reading {
            power: self.power(slow.battery),
            memory_stalled_percent: self.text("proc/pressure/memory").and_then(|text| stalled(&text)).unwrap_or(0),
            celsius: slow.celsius,
            reboot: slow.reboot,
        }
    }

    fn read_slowly(&self) -> Slow {
        let zones = children(&self.root.join("sys/class/thermal")).into_iter();
        let hot = zones.filter_map(|zone| {
            // Those that say how hot the processor or the case is; others stand for radios or are made up.
            let kind = line(&zone.join("type"))?.to_lowercase();
            let telling = ["cpu", "pkg", "acpitz", "soc", "core"].iter().any(|word| kind.contains(word));
            let millidegrees: u32 = line(&zone.join("temp"))?.parse().ok().filter(|_| telling)?;
            u8::try_from(millidegrees / 1_000).ok()
        });
        Slow { battery: self.battery(), reboot: self.root.join("run/reboot-required").exists(), celsius: hot.max() }
    }

    fn supplies(&self, kind: &str) -> Vec<PathBuf> {
        let mut supplies = children(&self.root.join("sys/class/power_supply"));
        supplies.retain(|supply| {
            // A mouse or a headset has a battery of its own.
            line(&supply.join("type")).is_some_and(|found| found == kind)
                && line(&supply.join("scope")).is_none_or(|scope| scope != "Device")
        });
        supplies
    }

    fn battery(&self) -> Battery {
        let batteries = self.supplies("Battery");
        if batteries.is_empty() {
            return Battery::None;
        }
        let percents = batteries.iter().filter_map(|battery| line(&battery.join("capacity"))?.parse::<u8>().ok());
        let discharging = batteries.iter().any(|battery| line(&battery.join("status")).is_some_and(|is| is == "Discharging"));
        Battery::Charged { percent: percents.map(|percent| percent.min(100)).min(), discharging }
    }

    /// A battery tells late that it is used; the plug tells at once.
    fn power(&self, battery: Battery) -> Power {
        let Battery::Charged { percent, discharging } = battery else { return Power::Mains };
        let online: Vec<bool> =
            self.supplies("Mains").iter().filter_map(|plug| line(&plug.join("online"))).map(|online| online == "1").collect();
        let plugged = if online.is_empty() { !discharging } else { online.contains(&true) };
        if plugged { Power::Mains } else { Power::Battery { percent } }
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn line(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// `some avg10=1.23 avg60=...`: the share of the last ten seconds in which some program waited.
fn stalled(text: &str) -> Option<u8> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    let average = some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    Some(average.parse::<f32>().ok()?.round().clamp(0.0, 100.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Kernel) {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let kernel = Kernel { root: folder.path().to_owned(), slow: None };
        (folder, kernel)
    }

    const LAPTOP: [(&str, &str); 4] = [
        ("sys/class/power_supply/AC/type", "Mains\n"),
        ("sys/class/power_supply/BAT0/type", "Battery\n"),
        ("sys/class/power_supply/BAT0/capacity", "81\n"),
        ("sys/class/power_supply/BAT0/status", "Charging\n"),
    ];

    #[test]
    fn the_plug_tells_before_the_battery_does() {
        let (folder, mut kernel) = machine(&LAPTOP);
        let plug = folder.path().join("sys/class/power_supply/AC/online");
        fs::write(&plug, "1\n").expect("written");
        assert_eq!(kernel.read().power, Power::Mains);
        fs::write(&plug, "0\n").expect("written");
        assert_eq!(kernel.read().power, Power::Battery { percent: Some(81) });
    }

    #[test]
    fn a_battery_without_a_plug_tells_itself_and_a_mouse_has_none_that_counts() {
        let discharging = ("sys/class/power_supply/BAT0/status", "Discharging");
        assert_eq!(machine(&[LAPTOP[1], LAPTOP[2], discharging]).1.read().power, Power::Battery { percent: Some(81) });
        let mouse = [
            ("sys/class/power_supply/hid/type", "Battery"),
            ("sys/class/power_supply/hid/scope", "Device"),
            ("sys/class/power_supply/hid/status", "Discharging"),
        ];
        assert_eq!(machine(&mouse).1.read().power, Power::Mains);
        assert_eq!(machine(&[]).1.read().power, Power::Mains, "a machine without a battery says nothing");
    }

    #[test]
    fn heat_memory_and_a_due_restart_are_read() {
        let (_folder, mut kernel) = machine(&[
            ("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp"),
            ("sys/class/thermal/thermal_zone0/temp", "71000"),
            ("sys/class/thermal/thermal_zone1/type", "iwlwifi_1"),
            ("sys/class/thermal/thermal_zone1/temp", "99000"),
            ("proc/pressure/memory", "some avg10=12.60 avg60=1.00 avg300=0.00 total=5\nfull avg10=1.00\n"),
            ("run/reboot-required", ""),
        ]);
        let reading = kernel.read();
        assert_eq!((reading.celsius, reading.memory_stalled_percent, reading.reboot), (Some(71), 13, true));
    }
}
