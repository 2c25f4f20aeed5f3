//! What the system tells of power: the lid, sleep, and for a service whether anybody is there.

use std::{
    ffi::c_void,
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use lull_engine::windows::code;
use lull_session::guard::Announcement;
use windows_sys::Win32::{
    System::{
        Power::{
            DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS, POWERBROADCAST_SETTING, PowerRegisterSuspendResumeNotification,
            PowerSettingRegisterNotification,
        },
        SystemServices::{GUID_GLOBAL_USER_PRESENCE, GUID_LIDSWITCH_STATE_CHANGE},
    },
    UI::WindowsAndMessaging::{
        DEVICE_NOTIFY_CALLBACK, PBT_APMRESUMEAUTOMATIC, PBT_APMRESUMESUSPEND, PBT_APMSUSPEND, PBT_POWERSETTINGCHANGE,
    },
};
use windows_sys::core::GUID;

use super::super::{eyes::Eyes, word::Delay};

const POWER: (&str, &str) = ("power", "lid and sleep");
const PRESENCE: (&str, &str) = ("presence", "whether anybody uses this machine");
/// As long as Windows waits for a program before it sleeps.
const SLEEP_MAX: Duration = Duration::from_secs(2);
/// `PowerUserPresent`.
const PRESENT: u32 = 0;

/// What the system waits for; it goes on when its [`Lock`] is dropped.
pub(super) struct Held(Arc<(Mutex<bool>, Condvar)>);

/// Dropping it lets the system go on.
pub(super) struct Lock(Arc<(Mutex<bool>, Condvar)>);

impl Held {
    pub(super) fn new() -> (Self, Lock) {
        let shared = Arc::<(Mutex<bool>, Condvar)>::default();
        (Self(Arc::clone(&shared)), Lock(shared))
    }

    /// Waits until the lock is dropped, or for so long.
    pub(super) fn wait(self, max: Duration) {
        let (gone, told) = &*self.0;
        let gone = gone.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = told.wait_timeout_while(gone, max, |gone| !*gone);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
}

/// Has the system tell, for as long as this process lives.
pub(super) fn watch(eyes: &Arc<Eyes>, looks_for_people: bool) {
    // The system calls until the process ends, from threads of its own.
    let context: &'static Arc<Eyes> = Box::leak(Box::new(Arc::clone(eyes)));
    eyes.opens(POWER.0, POWER.1);
    let told = told_of(&GUID_LIDSWITCH_STATE_CHANGE, lid, context).and_then(|()| told_of_sleep(context));
    if let Err(error) = told {
        eyes.closes(POWER.0, POWER.1, error.to_string());
    }
    if looks_for_people {
        eyes.opens(PRESENCE.0, PRESENCE.1);
        if let Err(error) = told_of(&GUID_GLOBAL_USER_PRESENCE, presence, context) {
            eyes.closes(PRESENCE.0, PRESENCE.1, error.to_string());
        }
    }
}

type Callback = unsafe extern "system" fn(*const c_void, u32, *const c_void) -> u32;

fn parameters(callback: Callback, context: &'static Arc<Eyes>) -> &'static mut DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS {
    let context: *const Arc<Eyes> = context;
    let parameters = DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS { Callback: Some(callback), Context: context.cast_mut().cast() };
    Box::leak(Box::new(parameters))
}

fn told_of(setting: &GUID, callback: Callback, context: &'static Arc<Eyes>) -> io::Result<()> {
    let recipient: *mut DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS = parameters(callback, context);
    let mut registration = std::ptr::null_mut();
    // SAFETY: the recipient and its context live as long as the process.
    code(unsafe { PowerSettingRegisterNotification(setting, DEVICE_NOTIFY_CALLBACK, recipient.cast(), &mut registration) })
}

fn told_of_sleep(context: &'static Arc<Eyes>) -> io::Result<()> {
    let recipient: *mut DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS = parameters(sleep, context);
    let mut registration = std::ptr::null_mut();
    // SAFETY: as above.
    code(unsafe { PowerRegisterSuspendResumeNotification(DEVICE_NOTIFY_CALLBACK, recipient.cast(), &mut registration) })
}

/// # Safety
/// The context is the one that was registered.
unsafe fn eyes(context: *const c_void) -> &'static Arc<Eyes> {
    // SAFETY: the caller's promise; it was leaked.
    unsafe { &*context.cast::<Arc<Eyes>>() }
}

/// # Safety
/// The setting is what the system hands to a callback of this kind, or nothing.
unsafe fn word(kind: u32, setting: *const c_void) -> Option<u32> {
    if kind != PBT_POWERSETTINGCHANGE || setting.is_null() {
        return None;
    }
    let setting = setting.cast::<POWERBROADCAST_SETTING>();
    // SAFETY: the caller's promise: it says how long its data are, which may lie anywhere.
    unsafe {
        let long_enough = (*setting).DataLength as usize >= size_of::<u32>();
        long_enough.then(|| (&raw const (*setting).Data).cast::<u32>().read_unaligned())
    }
}

unsafe extern "system" fn lid(context: *const c_void, kind: u32, setting: *const c_void) -> u32 {
    // SAFETY: the system calls with what was registered.
    if let (eyes, Some(open)) = unsafe { (eyes(context), word(kind, setting)) } {
        eyes.set_lid_closed(open == 0);
    }
    0
}

unsafe extern "system" fn presence(context: *const c_void, kind: u32, setting: *const c_void) -> u32 {
    // SAFETY: as above.
    match unsafe { (eyes(context), word(kind, setting)) } {
        (eyes, Some(PRESENT)) => eyes.is_there(PRESENCE.0),
        // Whoever was there until now.
        (eyes, Some(_)) => eyes.rests(PRESENCE.0, Duration::ZERO),
        (_, None) => {}
    }
    0
}

unsafe extern "system" fn sleep(context: *const c_void, kind: u32, _: *const c_void) -> u32 {
    // SAFETY: as above.
    let eyes = unsafe { eyes(context) };
    match kind {
        PBT_APMSUSPEND => {
            let (held, lock) = Held::new();
            if eyes.announce(Announcement::Sleep, Some(Delay::new(lock))) {
                held.wait(SLEEP_MAX);
            }
        }
        PBT_APMRESUMEAUTOMATIC | PBT_APMRESUMESUSPEND => drop(eyes.announce(Announcement::Awake, None)),
        _ => {}
    }
    0
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_system_waits_until_the_work_is_given_away_and_no_longer() {
        let (held, lock) = Held::new();
        let began = Instant::now();
        std::thread::spawn(move || drop(lock));
        held.wait(Duration::from_secs(60));
        assert!(began.elapsed() < Duration::from_secs(50));
        let (held, _lock) = Held::new();
        held.wait(Duration::from_millis(1));
    }
}
