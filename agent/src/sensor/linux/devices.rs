//! Keyboards and mice by themselves, whoever is logged in: /dev/input.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use evdev::{Device, EventType, KeyCode, RelativeAxisCode};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::sleep,
};

use super::super::eyes::Eyes;

pub(super) const NAME: &str = "input devices";
const ABOUT: &str = "keyboard and mouse";
const FOLDER: &str = "/dev/input";
/// How often it is looked for devices that were plugged in.
const LOOK: Duration = Duration::from_secs(5);
/// Input is read at most this often: a mouse moves a thousand times a second, and once is enough.
const READ_GAP: Duration = Duration::from_millis(50);

/// Watches all devices, also those that come later.
pub(super) async fn watch(eyes: Arc<Eyes>) {
    let mut watched: BTreeSet<PathBuf> = BTreeSet::new();
    // Not bounded by itself: each device that is watched is gone once.
    let (gone, mut left) = mpsc::unbounded_channel::<PathBuf>();
    eyes.closes(NAME, ABOUT, "not looked for yet");
    loop {
        while let Ok(path) = left.try_recv() {
            watched.remove(&path);
        }
        let found = find(Path::new(FOLDER), &watched);
        let mut why = found.trouble;
        for (path, device) in found.devices {
            // SAFETY: the device keeps its one descriptor open for as long as it lives, and moves into the registration.
            match unsafe { AsyncFd::register_with_interest(device, Interest::READABLE) } {
                Ok(device) => {
                    if watched.is_empty() {
                        eyes.opens(NAME, ABOUT);
                        eyes.rests(NAME, Duration::ZERO);
                    }
                    watched.insert(path.clone());
                    let (eyes, gone) = (eyes.clone(), gone.clone());
                    tokio::spawn(async move {
                        let ended = follow(device, &eyes).await;
                        tracing::debug!(path = %path.display(), ended = ?ended.err(), "an input device is gone");
                        // The watch ends only with the process.
                        let _ = gone.send(path);
                    });
                }
                Err(error) => why = io::Error::from(error).to_string(),
            }
        }
        if watched.is_empty() {
            eyes.closes(NAME, ABOUT, why);
        }
        sleep(LOOK).await;
    }
}

/// Devices that are not watched yet, and why there are not more.
struct Found {
    devices: Vec<(PathBuf, Device)>,
    trouble: String,
}

fn find(folder: &Path, watched: &BTreeSet<PathBuf>) -> Found {
    let mut found = Found { devices: Vec::new(), trouble: "no keyboard or mouse".into() };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Found { trouble: format!("{}: {error}", folder.display()), ..found },
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if watched.contains(&path) || !entry.file_name().to_string_lossy().starts_with("event") {
            continue;
        }
        match Device::open(&path) {
            Ok(device) if is_someones(&device) => match device.set_nonblocking(true) {
                Ok(()) => found.devices.push((path, device)),
                Err(error) => found.trouble = error.to_string(),
            },
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                found.trouble = "the agent's user may not read them; put it into the group `input`".into();
            }
            Err(error) => found.trouble = error.to_string(),
        }
    }
    found
}

/// Whether a hand moves it: a lid, a power button or a sensor of movement does not count.
fn is_someones(device: &Device) -> bool {
    let keys = device.supported_keys();
    let has = |key: KeyCode| keys.is_some_and(|keys| keys.contains(key));
    let mouse = device.supported_relative_axes().is_some_and(|axes| axes.contains(RelativeAxisCode::REL_X));
    has(KeyCode::KEY_A) || has(KeyCode::BTN_LEFT) || has(KeyCode::BTN_TOUCH) || mouse
}

async fn follow(mut device: AsyncFd<Device>, eyes: &Eyes) -> io::Result<()> {
    loop {
        let mut ready = device.readable_mut().await?;
        let read = ready.try_io(|device| {
            let events = device.get_mut().fetch_events()?;
            let by_hand = [EventType::KEY, EventType::RELATIVE, EventType::ABSOLUTE];
            Ok(events.filter(|event| by_hand.contains(&event.event_type())).count())
        });
        match read {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(_)) => eyes.touched(NAME),
            Ok(Err(error)) => return Err(error),
        }
        sleep(READ_GAP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_device_is_not_watched_and_it_is_said_why() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("event0"), "text").expect("written");
        std::fs::write(folder.path().join("mice"), "").expect("written");
        let found = find(folder.path(), &BTreeSet::new());
        assert!(found.devices.is_empty() && !found.trouble.is_empty());
        let nowhere = find(Path::new("/nowhere"), &BTreeSet::new()).trouble;
        assert!(nowhere.contains("/nowhere"), "{nowhere}");
    }
}
