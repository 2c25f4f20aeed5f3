//! That there is input on this process's desktop, and when; never what it was.
//!
//! The system tells the time of the last input of the session, of keyboard and mouse alike, and not what it was. The mouse is
//! heard of at once besides, as raw input of a window that is never shown. A timer that is as fine as was asked for, also of a
//! process that shows no window, says when to look.

use std::{
    cell::RefCell,
    io,
    os::windows::io::{AsRawHandle as _, OwnedHandle},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use windows_sys::Win32::{
    Foundation::{HWND, LPARAM, LRESULT, WAIT_FAILED, WAIT_OBJECT_0, WPARAM},
    System::{
        LibraryLoader::GetModuleHandleW,
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
            MsgWaitForMultipleObjectsEx, PM_REMOVE, PeekMessageW, QS_ALLINPUT, RegisterClassW, WM_INPUT, WNDCLASSW,
            WS_OVERLAPPED,
        },
    },
};

use crate::{done, owned, wide};

/// While functions run: with what it takes to freeze them, well within the ten milliseconds that are promised.
const CLOSELY_MS: i32 = 4;
/// While none do.
const NOW_AND_THEN_MS: i32 = 1000;
/// Mice, as devices for people are numbered.
const MOUSE: (u16, u16) = (1, 2);

/// Whom it is told.
pub trait Sight: Send + Sync + 'static {
    /// It is seen from now on; the last was so long ago.
    fn opens(&self, ago: Duration);

    /// There is some.
    fn touched(&self);

    /// It is not seen any more.
    fn closes(&self, why: &io::Error);

    /// Another message of the system to the window that hears the mouse, on its thread.
    fn message(&self, _message: u32, _word: WPARAM) {}
}

/// The watching thread. Dropping it ends it.
pub struct Input {
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
    /// Begins to watch; without a thread for it nothing is seen, and that is told.
    pub fn watch(sight: Arc<dyn Sight>) -> Option<Self> {
        // SAFETY: no attributes and no name are asked for.
        let changed = owned(unsafe { CreateEventW(ptr::null(), 0, 0, ptr::null()) });
        let begun = changed.and_then(|changed| {
            let orders = Arc::new(Orders { closely: AtomicBool::new(false), ended: AtomicBool::new(false), changed });
            let (watched, obeyed) = (Arc::clone(&sight), Arc::clone(&orders));
            // What waits for input needs little.
            let thread = thread::Builder::new().name("input".into()).stack_size(256 * 1024);
            thread.spawn(move || {
                if let Err(error) = follow(&watched, &obeyed) {
                    watched.closes(&error);
                }
            })?;
            Ok(Self { orders })
        });
        begun.inspect_err(|error| sight.closes(error)).ok()
    }

    /// Whether to look as often as functions that run need it.
    pub fn look_closely(&self, closely: bool) {
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

fn follow(sight: &Arc<dyn Sight>, orders: &Orders) -> io::Result<()> {
    let mut last = last_input()?;
    let timer = timer()?;
    // SAFETY: the call only asks.
    let ago = unsafe { GetTickCount() }.wrapping_sub(last);
    // An input from the future is one from before the clock began anew, or no clock to go by.
    sight.opens(Duration::from_millis(if ago > u32::MAX / 2 { 0 } else { ago.into() }));
    // Without it the mouse is looked for, not heard.
    let _window = Window::open(sight).ok();
    let handles = [timer.as_raw_handle(), orders.changed.as_raw_handle()];
    set(&timer, NOW_AND_THEN_MS)?;
    loop {
        // SAFETY: both handles are open, and as many as is said.
        let woken = unsafe {
            MsgWaitForMultipleObjectsEx(handles.len() as u32, handles.as_ptr(), INFINITE, QS_ALLINPUT, MWMO_INPUTAVAILABLE)
        };
        if woken == WAIT_FAILED {
            return Err(io::Error::last_os_error());
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
            sight.touched();
        }
        hear_window();
    }
}

/// Has the timer wake its thread at once and then after every so many milliseconds.
fn set(timer: &OwnedHandle, every_ms: i32) -> io::Result<()> {
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

thread_local! {
    /// Whom the window of this thread tells.
    static EAR: RefCell<Option<Arc<dyn Sight>>> = const { RefCell::new(None) };
}

/// A window that is never shown: it hears of the mouse, and what the system tells every window.
struct Window(HWND);

impl Window {
    fn open(sight: &Arc<dyn Sight>) -> io::Result<Self> {
        EAR.set(Some(Arc::clone(sight)));
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
            return Err(io::Error::last_os_error());
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
    if let Some(sight) = EAR.with_borrow(Clone::clone) {
        match message {
            WM_INPUT => sight.touched(),
            other => sight.message(other, word),
        }
    }
    // SAFETY: what came is handed on as it is.
    unsafe { DefWindowProcW(window, message, word, more) }
}
