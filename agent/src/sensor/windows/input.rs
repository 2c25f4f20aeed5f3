//! The owner's input on this process's desktop: that there was some, and when.
//!
//! The system tells the time of the last input of the session, of keyboard and mouse alike, and not what it was. The mouse is
//! heard of at once besides, as raw input of a window that is never shown. A timer that is as fine as was asked for, also of a
//! process that shows no window, says when to look.

use std::{
    cell::RefCell,
    os::windows::io::{AsRawHandle as _, OwnedHandle},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use lull_engine::windows::{done, owned, wide};
use lull_session::guard::Announcement;
use windows_sys::Win32::{
    Foundation::{HWND, LPARAM, LRESULT, WAIT_FAILED, WAIT_OBJECT_0, WPARAM},
    System::{
        LibraryLoader::GetModuleHandleW,
        StationsAndDesktops::{GetProcessWindowStation, GetUserObjectInformationW, UOI_FLAGS, USEROBJECTFLAGS},
        SystemInformation::GetTickCount,
        Threading::{
            CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, CreateEventW, CreateWaitableTimerExW, INFINITE, SetEvent, SetWaitableTimer,
            TIMER_ALL_ACCESS,
        },
    },
    UI::{
        Input::{
            KeyboardAndMouse::{GetLastInputInfo, LASTINPUTINFO},
            RAWINPUTDEVICE, RIDEV_INPUTSINK, RegisterRawInputDevices,
        },
        WindowsAndMessaging::{
            CreateWindowExW, DefWindowProcW, DestroyWindow, DispatchMessageW, MSG, MWMO_INPUTAVAILABLE,
            MsgWaitForMultipleObjectsEx, PM_REMOVE, PeekMessageW, QS_ALLINPUT, RegisterClassW, WM_ENDSESSION, WM_INPUT,
            WM_QUERYENDSESSION, WNDCLASSW, WS_OVERLAPPED,
        },
    },
};

use super::super::{eyes::Eyes, word::Delay};
use super::power::Held;

const SOURCE: (&str, &str) = ("input", "keyboard and mouse of this desktop");
/// While functions run: with what it takes to freeze them, well within the ten milliseconds that are promised.
const CLOSELY_MS: i32 = 4;
/// While none do.
const NOW_AND_THEN_MS: i32 = 1000;
/// What may be seen later than this is no help.
const SHUTDOWN_MAX: Duration = Duration::from_secs(4);
/// A flag of a window station that people see.
const VISIBLE: u32 = 1;
/// Mice, as devices for people are numbered.
const MOUSE: (u16, u16) = (1, 2);

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

/// The watching thread. Dropping it ends it.
pub(super) struct Input {
    orders: Arc<Orders>,
}

struct Orders {
    closely: AtomicBool,
    ended: AtomicBool,
    changed: OwnedHandle,
}

impl Orders {
    fn tell(&self) {
        // SAFETY: the handle is open.
        unsafe { SetEvent(self.changed.as_raw_handle()) };
    }
}

impl Input {
    /// Begins to watch; without a thread for it nothing is seen, and the source says so.
    pub(super) fn watch(eyes: &Arc<Eyes>) -> Option<Self> {
        // SAFETY: no attributes and no name are asked for.
        let changed = owned(unsafe { CreateEventW(ptr::null(), 0, 0, ptr::null()) });
        let begun = changed.and_then(|changed| {
            let orders = Arc::new(Orders { closely: AtomicBool::new(false), ended: AtomicBool::new(false), changed });
            let (watched, obeyed) = (Arc::clone(eyes), Arc::clone(&orders));
            thread::Builder::new().name("input".into()).spawn(move || {
                if let Err(error) = follow(&watched, &obeyed) {
                    watched.closes(SOURCE.0, SOURCE.1, error.to_string());
                }
            })?;
            Ok(Self { orders })
        });
        begun.inspect_err(|error| eyes.closes(SOURCE.0, SOURCE.1, error.to_string())).ok()
    }

    /// Whether to look as often as functions that run need it.
    pub(super) fn look_closely(&mut self, closely: bool) {
        if self.orders.closely.swap(closely, Ordering::Relaxed) != closely {
            self.orders.tell();
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.orders.ended.store(true, Ordering::Relaxed);
        self.orders.tell();
    }
}

/// When the last input was, on the system's clock of milliseconds, which begins anew now and then.
fn last_input() -> std::io::Result<u32> {
    let mut info = LASTINPUTINFO { cbSize: size_of::<LASTINPUTINFO>() as u32, dwTime: 0 };
    // SAFETY: the structure says how large it is.
    done(unsafe { GetLastInputInfo(&mut info) })?;
    Ok(info.dwTime)
}

/// A timer that is as fine as can be had.
fn timer() -> std::io::Result<OwnedHandle> {
    let make = |flags| {
        // SAFETY: no attributes and no name are asked for.
        owned(unsafe { CreateWaitableTimerExW(ptr::null(), ptr::null(), flags, TIMER_ALL_ACCESS) })
    };
    make(CREATE_WAITABLE_TIMER_HIGH_RESOLUTION).or_else(|_| make(0))
}

fn follow(eyes: &Arc<Eyes>, orders: &Orders) -> std::io::Result<()> {
    let mut last = last_input()?;
    let timer = timer()?;
    eyes.opens(SOURCE.0, SOURCE.1);
    // SAFETY: the call only asks.
    let ago = unsafe { GetTickCount() }.wrapping_sub(last);
    // An input from the future is one from before the clock began anew, or no clock to go by.
    eyes.rests(SOURCE.0, Duration::from_millis(if ago > u32::MAX / 2 { 0 } else { ago.into() }));
    let _window = Window::open(eyes).inspect_err(|error| tracing::info!(%error, "the mouse is looked for, not heard")).ok();
    let handles = [timer.as_raw_handle(), orders.changed.as_raw_handle()];
    set(&timer, NOW_AND_THEN_MS)?;
    loop {
        // SAFETY: both handles are open, and as many as is said.
        let woken = unsafe {
            MsgWaitForMultipleObjectsEx(handles.len() as u32, handles.as_ptr(), INFINITE, QS_ALLINPUT, MWMO_INPUTAVAILABLE)
        };
        if woken == WAIT_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        if woken == WAIT_OBJECT_0 + 1 {
            if orders.ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            set(&timer, if orders.closely.load(Ordering::Relaxed) { CLOSELY_MS } else { NOW_AND_THEN_MS })?;
        }
        // It may go backwards, when a session is another's for a while: any change is input.
        let now = last_input()?;
        if now != last {
            last = now;
            eyes.touched(SOURCE.0);
        }
        hear_window();
    }
}

/// Has the timer wake its thread at once and then after every so many milliseconds.
fn set(timer: &OwnedHandle, every_ms: i32) -> std::io::Result<()> {
    let at_once = 0;
    // SAFETY: the handle is open, and no function is to be called.
    done(unsafe { SetWaitableTimer(timer.as_raw_handle(), &at_once, every_ms, None, ptr::null(), 0) })
}

fn hear_window() {
    let mut message = MSG::default();
    // SAFETY: the place is one for a message; whatever is taken is handed on as it is.
    while unsafe { PeekMessageW(&mut message, ptr::null_mut(), 0, 0, PM_REMOVE) } != 0 {
        // SAFETY: as above.
        unsafe { DispatchMessageW(&message) };
    }
}

/// What the window of this thread tells.
struct Ear {
    eyes: Arc<Eyes>,
    held: Option<Held>,
}

thread_local! {
    static EAR: RefCell<Option<Ear>> = const { RefCell::new(None) };
}

/// A window that is never shown: it hears of the mouse, and of the session's end.
struct Window(HWND);

impl Window {
    fn open(eyes: &Arc<Eyes>) -> std::io::Result<Self> {
        EAR.set(Some(Ear { eyes: Arc::clone(eyes), held: None }));
        let name = wide("LullAgentEar");
        // SAFETY: without a name it is the program itself.
        let instance = unsafe { GetModuleHandleW(ptr::null()) };
        let class =
            WNDCLASSW { lpfnWndProc: Some(hear), hInstance: instance, lpszClassName: name.as_ptr(), ..WNDCLASSW::default() };
        // SAFETY: the structure is whole and its texts end in a zero; a class that is there already stays.
        unsafe { RegisterClassW(&class) };
        // SAFETY: as above; the window is this thread's.
        let window = unsafe {
            let (name, nothing) = (name.as_ptr(), ptr::null_mut());
            CreateWindowExW(0, name, name, WS_OVERLAPPED, 0, 0, 0, 0, nothing, nothing, instance, ptr::null())
        };
        if window.is_null() {
            return Err(std::io::Error::last_os_error());
        }
        let window = Self(window);
        let mouse = RAWINPUTDEVICE { usUsagePage: MOUSE.0, usUsage: MOUSE.1, dwFlags: RIDEV_INPUTSINK, hwndTarget: window.0 };
        // SAFETY: one whole structure is given.
        done(unsafe { RegisterRawInputDevices(&mouse, 1, size_of::<RAWINPUTDEVICE>() as u32) })?;
        Ok(window)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the window is this thread's.
        unsafe { DestroyWindow(self.0) };
    }
}

unsafe extern "system" fn hear(window: HWND, message: u32, word: WPARAM, more: LPARAM) -> LRESULT {
    EAR.with_borrow_mut(|ear| {
        let Some(ear) = ear else { return };
        match message {
            WM_INPUT => ear.eyes.touched(SOURCE.0),
            WM_QUERYENDSESSION => {
                let (held, lock) = Held::new();
                ear.eyes.announce(Announcement::Shutdown, Some(Delay::new(lock)));
                ear.held = Some(held);
            }
            WM_ENDSESSION if word == 0 => {
                ear.held = None;
                ear.eyes.announce(Announcement::Awake, None);
            }
            // The session ends when this has answered.
            WM_ENDSESSION => drop(ear.held.take().map(|held| held.wait(SHUTDOWN_MAX))),
            _ => {}
        }
    });
    // SAFETY: what came is handed on as it is.
    unsafe { DefWindowProcW(window, message, word, more) }
}
