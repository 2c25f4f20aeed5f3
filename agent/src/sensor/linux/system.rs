//! What services on the system's bus tell.
//!
//! logind: who is logged in and for how long they have rested, the lid, and what the system is about to do. A lock delays
//! sleep and shutdown until the work has been given away (a few seconds at most, logind sees to that). The rest of
//! terminals, remote ones too, is as old as their last key; a desktop says only that it rests, and some never do: they count
//! only while nothing else sees their input, and while they are in front. NetworkManager: whether the network is metered.

use std::{
    collections::HashMap,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use lull_session::guard::Announcement;
use rustbus::{
    message_builder::MarshalledMessage,
    wire::{ObjectPath, UnixFd, unmarshal::traits::Variant},
};

use super::super::{eyes::Eyes, word::Delay};
use super::{
    bus::{Bus, Failed, Object},
    devices::NAME as DEVICES,
    wayland::NAME as WAYLAND,
    x11::NAME as X11,
};

const LOGIND: (&str, &str) = ("logind", "sessions, lid, sleep and shutdown");
const NETWORK: (&str, &str) = ("NetworkManager", "metered networks");
/// How often sessions, lid and network are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// A bus or a logind that went away is looked for again after this long.
const AGAIN: Duration = Duration::from_secs(60);
/// `NM_METERED_YES` and `NM_METERED_GUESS_YES`.
const METERED: [u32; 2] = [1, 3];

const MANAGER: Object<'static> =
    Object { service: "org.freedesktop.login1", path: "/org/freedesktop/login1", interface: "org.freedesktop.login1.Manager" };
const NETWORK_MANAGER: Object<'static> = Object {
    service: "org.freedesktop.NetworkManager",
    path: "/org/freedesktop/NetworkManager",
    interface: "org.freedesktop.NetworkManager",
};
const SIGNALS: &str = "type='signal',interface='org.freedesktop.login1.Manager',path='/org/freedesktop/login1'";

/// Watches the bus on a thread that sleeps between its words.
pub(super) fn watch(eyes: Arc<Eyes>) {
    let watcher = eyes.clone();
    let watch = move || {
        loop {
            let Err(error) = follow(&watcher) else { return };
            watcher.closes(LOGIND.0, LOGIND.1, error.to_string());
            watcher.closes(NETWORK.0, NETWORK.1, error.to_string());
            watcher.set_lid_closed(false);
            watcher.set_metered(false);
            thread::sleep(AGAIN);
        }
    };
    if let Err(error) = thread::Builder::new().name("bus".into()).spawn(watch) {
        eyes.closes(LOGIND.0, LOGIND.1, error.to_string());
    }
}

/// Until the bus is gone, or the agent.
fn follow(eyes: &Eyes) -> Result<(), Failed> {
    let mut bus = Bus::connect()?;
    bus.listen(SIGNALS)?;
    look_at_sessions(eyes, &mut bus)?;
    eyes.opens(LOGIND.0, LOGIND.1);
    let mut lock = delay(&mut bus);
    let mut next = Instant::now();
    loop {
        if next <= Instant::now() {
            look_at_sessions(eyes, &mut bus)?;
            look_at_network(eyes, &mut bus);
            next = Instant::now() + LOOK;
        }
        let Some(signal) = bus.signal(next.saturating_duration_since(Instant::now()))? else { continue };
        let Some((what, begins)) = announced(&signal) else { continue };
        let (announcement, delay_of_it) = if begins { (what, lock.take()) } else { (Announcement::Awake, None) };
        if !eyes.announce(announcement, delay_of_it) {
            return Ok(());
        }
        if !begins {
            lock = delay(&mut bus);
        }
    }
}

/// What a signal announces, and whether it begins or is over.
fn announced(signal: &MarshalledMessage) -> Option<(Announcement, bool)> {
    let what = match signal.dynheader.member.as_deref() {
        Some("PrepareForSleep") => Announcement::Sleep,
        Some("PrepareForShutdown") => Announcement::Shutdown,
        _ => return None,
    };
    Some((what, signal.body.parser().get::<bool>().ok()?))
}

/// A lock of logind: what it holds up, who has it, why, and how. It is let go when this is dropped.
pub(super) fn inhibit(bus: &mut Bus, terms: [&str; 4]) -> Result<UnixFd, Failed> {
    Ok(bus.call(MANAGER, "Inhibit", &terms)?.body.parser().get::<UnixFd>()?)
}

/// Has the system wait with sleep and shutdown, for as long as what this gives is kept.
fn delay(bus: &mut Bus) -> Option<Delay> {
    match inhibit(bus, ["sleep:shutdown", "Lull", "gives running work away", "delay"]) {
        Ok(lock) => Some(Delay::new(lock)),
        Err(error) => {
            tracing::info!(%error, "sleep and shutdown cannot be delayed until the work is given away");
            None
        }
    }
}

fn look_at_network(eyes: &Eyes, bus: &mut Bus) {
    match bus.property(NETWORK_MANAGER, "Metered", |value| value.get::<u32>().ok()) {
        Ok(metered) => {
            eyes.opens(NETWORK.0, NETWORK.1);
            eyes.set_metered(METERED.contains(&metered));
        }
        Err(error) => {
            eyes.closes(NETWORK.0, NETWORK.1, error.to_string());
            eyes.set_metered(false);
        }
    }
}

/// Looks at the lid and at every session.
fn look_at_sessions(eyes: &Eyes, bus: &mut Bus) -> Result<(), Failed> {
    let sessions = bus.call(MANAGER, "ListSessions", &[])?;
    // A machine without a lid may not say anything.
    eyes.set_lid_closed(bus.property(MANAGER, "LidClosed", |value| value.get::<bool>().ok()).unwrap_or(false));
    // Input devices tell of all desktops of this machine, a display or a desktop only of its own.
    let (all, own) = (eyes.sees_input(DEVICES), eyes.sees_input(X11) || eyes.sees_input(WAYLAND));
    let own = own.then(|| std::env::var("XDG_SESSION_ID").ok()).flatten();
    let mut rest: Option<Duration> = None;
    for Listed { number, path, .. } in sessions.body.parser().get::<Vec<Listed>>()? {
        let object = Object { service: MANAGER.service, path: path.as_ref(), interface: "org.freedesktop.DBus.Properties" };
        // One that has just ended has no properties any more.
        let Ok(answer) = bus.call(object, "GetAll", &["org.freedesktop.login1.Session"]) else { continue };
        let seen = all || own.as_ref() == Some(&number);
        if let Some(idle) = Session::of(&answer)?.idle(seen, SystemTime::now()) {
            rest = Some(rest.map_or(idle, |rest| rest.min(idle)));
        }
    }
    if let Some(rest) = rest {
        eyes.rests(LOGIND.0, rest);
    }
    Ok(())
}

/// Whether this user has a session in front of a seat.
pub(super) fn at_desk(user: u32) -> Result<bool, Failed> {
    let mut bus = Bus::connect()?;
    let sessions = bus.call(MANAGER, "ListSessions", &[])?;
    for Listed { user_number, seat, path, .. } in sessions.body.parser().get::<Vec<Listed>>()? {
        if user_number != user || seat.is_empty() {
            continue;
        }
        let object = Object { service: MANAGER.service, path: path.as_ref(), interface: "org.freedesktop.DBus.Properties" };
        let Ok(answer) = bus.call(object, "GetAll", &["org.freedesktop.login1.Session"]) else { continue };
        let Session { class, active, .. } = Session::of(&answer)?;
        if class == "user" && active {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A session as it is listed.
#[derive(rustbus::Signature, rustbus::Unmarshal)]
struct Listed {
    number: String,
    user_number: u32,
    _user: String,
    seat: String,
    path: ObjectPath<String>,
}

/// What counts of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    class: String,
    kind: String,
    /// Whether it is in front, so that it can have input.
    active: bool,
    /// Since when it rests, in microseconds of the clock on the wall.
    rests_since_us: Option<u64>,
}

impl Session {
    fn of(answer: &MarshalledMessage) -> Result<Self, Failed> {
        let values: HashMap<&str, Variant<'_, '_>> = answer.body.parser().get()?;
        let text = |key: &str| values.get(key).and_then(|value| value.get::<String>().ok()).unwrap_or_default();
        let flag = |key: &str| values.get(key).and_then(|value| value.get::<bool>().ok()).unwrap_or(false);
        let (rests, active) = (flag("IdleHint"), flag("Active"));
        let since = values.get("IdleSinceHint").and_then(|value| value.get::<u64>().ok());
        Ok(Self { class: text("Class"), kind: text("Type"), active, rests_since_us: since.filter(|_| rests) })
    }

    /// How long its user has rested; none for a session that does not count.
    fn idle(&self, seen_by_others: bool, now: SystemTime) -> Option<Duration> {
        let desktop = self.kind != "tty";
        if self.class != "user" || (desktop && (seen_by_others || !self.active)) {
            return None;
        }
        let Some(since_us) = self.rests_since_us else { return Some(Duration::ZERO) };
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(now.saturating_sub(Duration::from_micros(since_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_counts_always_and_a_desktop_while_nothing_else_sees_it() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(61);
        let minute = Some(Duration::from_secs(60));
        let session = |class: &str, kind: &str, rests: bool| Session {
            class: class.into(),
            kind: kind.into(),
            active: true,
            rests_since_us: rests.then_some(1_000_000),
        };
        assert_eq!(session("user", "tty", true).idle(true, now), minute);
        assert_eq!(session("user", "tty", false).idle(true, now), Some(Duration::ZERO));
        assert_eq!(session("user", "x11", true).idle(false, now), minute);
        assert_eq!(session("user", "x11", false).idle(true, now), None);
        assert_eq!(Session { active: false, ..session("user", "x11", false) }.idle(false, now), None, "it is switched away");
        assert_eq!(session("greeter", "x11", false).idle(false, now), None, "nobody is logged in there");
    }
}
