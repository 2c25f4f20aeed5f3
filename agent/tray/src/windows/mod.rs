//! The icon in Windows' notification area, and what this session's people do, for a service that sees no desktop.
//!
//! ```text
//! main thread   a window that is never shown: hears the icon, the task bar, the session and the other two; owns the menu
//! agent thread  the connection to the agent
//! input thread  that there is input, for the agent; begins with the connection
//! ```

mod desktop;
mod notification;
mod sight;

use std::{
    cell::RefCell,
    io,
    os::windows::io::OwnedHandle,
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use jiff::Zoned;
use lull_desk::Farewell;
use lull_windows::{input::Input, owned, wide};
use tokio::sync::mpsc;
use windows_sys::Win32::{
    Foundation::{ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, GetLastError, HWND, LPARAM, LRESULT, WPARAM},
    System::{LibraryLoader::GetModuleHandleW, Threading::CreateMutexW},
    UI::{
        HiDpi::{DPI_AWARENESS_CONTEXT_PER_MONITOR_AWARE_V2, SetProcessDpiAwarenessContext},
        WindowsAndMessaging::{
            CreateWindowExW, DefWindowProcW, DestroyWindow, DispatchMessageW, GetMessageW, MSG, PostMessageW, PostQuitMessage,
            RegisterClassW, RegisterWindowMessageW, SetTimer, WM_APP, WM_CLOSE, WM_DESTROY, WM_DISPLAYCHANGE, WM_DPICHANGED,
            WM_ENDSESSION, WM_QUERYENDSESSION, WM_SETTINGCHANGE, WM_THEMECHANGED, WM_TIMER, WNDCLASSW, WS_OVERLAPPED,
        },
    },
};

use self::{
    notification::{Click, Notification},
    sight::Sight,
};
use crate::{
    face::{self, Action, View},
    link::{Heard, WORDS_MAX, Whose},
    pages::Pages,
};

/// One tray in a session: names that begin so are the session's own.
const ONLY: &str = r"Local\LullTray";
/// The window's class; a person never sees it.
const CLASS: &str = "LullTray";
/// The agent said something, or a choice was carried out.
const WM_NEWS: u32 = WM_APP + 1;
/// The icon was clicked.
const WM_ICON: u32 = WM_APP + 2;
/// How often the times in the tooltip are told anew, and an icon that could not be shown is shown again.
const LOOK_MS: u32 = 30_000;
/// What the agent is to do may wait so long: people choose one thing after the other.
const CHOSEN_MAX: usize = 16;

/// Shows the icon until the agent or the session ends it.
pub(crate) fn run(whose: Whose) -> Result<(), String> {
    let Some(_only) = only_one().map_err(|error| format!("it cannot be told whether another tray runs: {error}"))? else {
        eprintln!("lull-tray runs in this session already");
        return Ok(());
    };
    // SAFETY: it concerns this process only. Where it fails, pictures are scaled by the system.
    unsafe { SetProcessDpiAwarenessContext(DPI_AWARENESS_CONTEXT_PER_MONITOR_AWARE_V2) };
    // Without that the service does not take this program's word for what it sees.
    let _ = desktop::let_service_look();
    let shared = Arc::new(Shared::default());
    let (chosen, choices) = mpsc::channel(CHOSEN_MAX);
    let window = open_window().map_err(|error| format!("the icon has no window: {error}"))?;
    let pages = Pages::open().map_err(|error| format!("there is no room for pages: {error}"))?;
    let icon = Notification::new(window, WM_ICON);
    OWN.set(Some(Own { icon, shared: Arc::clone(&shared), chosen, pages, taskbar: taskbar_created() }));
    let told = Window(window);
    let agent = thread::Builder::new().name("agent".into()).stack_size(1024 * 1024);
    agent.spawn(move || accompany(&whose, &shared, choices, told)).map_err(|error| format!("no thread starts: {error}"))?;
    redraw();
    // SAFETY: the window is this thread's.
    unsafe { SetTimer(window, 1, LOOK_MS, None) };
    hear_messages();
    OWN.set(None);
    Ok(())
}

/// None if another one runs in this session.
fn only_one() -> io::Result<Option<OwnedHandle>> {
    // SAFETY: no attributes are asked for, and the name ends in a zero.
    let made = owned(unsafe { CreateMutexW(ptr::null(), 0, wide(ONLY).as_ptr()) });
    // SAFETY: the call only asks.
    let was_there = unsafe { GetLastError() } == ERROR_ALREADY_EXISTS;
    match made {
        Ok(_) if was_there => Ok(None),
        // That of another user in this session.
        Err(error) if error.raw_os_error() == Some(ERROR_ACCESS_DENIED.cast_signed()) => Ok(None),
        made => made.map(Some),
    }
}

/// What the threads share.
#[derive(Default)]
struct Shared(Mutex<Known>);

struct Known {
    view: View,
    trouble: Option<String>,
    end: Option<Farewell>,
}

impl Default for Known {
    fn default() -> Self {
        Self { view: View::Unknown, trouble: None, end: None }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The window, for other threads: they only post to it.
#[derive(Clone, Copy)]
struct Window(HWND);

// SAFETY: messages may be posted from any thread, also to a window that is gone.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    fn tell(self) {
        // SAFETY: as above.
        unsafe { PostMessageW(self.0, WM_NEWS, 0, 0) };
    }
}

/// Stays with the agent, and has it do what is chosen.
fn accompany(whose: &Whose, shared: &Arc<Shared>, choices: mpsc::Receiver<Action>, window: Window) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let (said, words) = mpsc::channel(WORDS_MAX);
    let sight = Arc::new(Sight::new(said));
    let input = Input::watch(Arc::clone(&sight) as Arc<dyn lull_windows::input::Sight>);
    let hear = |heard| {
        match heard {
            Heard::Watch { closely } => return input.iter().for_each(|input| input.look_closely(closely)),
            Heard::View(view) => shared.known().view = view,
            Heard::End(reason) => shared.known().end = Some(reason),
        }
        window.tell();
    };
    runtime.block_on(async {
        tokio::select! {
            () = whose.follow(words, || sight.first(), hear) => {}
            () = choose(whose, shared, choices, window) => {}
        }
    });
}

async fn choose(whose: &Whose, shared: &Shared, mut choices: mpsc::Receiver<Action>, window: Window) {
    while let Some(action) = choices.recv().await {
        let outcome = whose.choose(&action, jiff::Timestamp::now()).await;
        shared.known().trouble = outcome.err();
        window.tell();
    }
}

/// What the main thread has.
struct Own {
    icon: Notification,
    shared: Arc<Shared>,
    chosen: mpsc::Sender<Action>,
    pages: Pages,
    /// The message by which a fresh task bar says that it has no icons yet.
    taskbar: u32,
}

thread_local! {
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
}

fn taskbar_created() -> u32 {
    // SAFETY: the name ends in a zero.
    unsafe { RegisterWindowMessageW(wide("TaskbarCreated").as_ptr()) }
}

/// A window of the desktop: one for messages only is not told of the task bar, nor of the session's end.
fn open_window() -> io::Result<HWND> {
    let name = wide(CLASS);
    // SAFETY: without a name it is the program itself.
    let instance = unsafe { GetModuleHandleW(ptr::null()) };
    let class = WNDCLASSW { lpfnWndProc: Some(hear), hInstance: instance, lpszClassName: name.as_ptr(), ..WNDCLASSW::default() };
    // SAFETY: the structure is whole and its texts end in a zero; the window is this thread's.
    let window = unsafe {
        RegisterClassW(&class);
        let (name, nothing) = (name.as_ptr(), ptr::null_mut());
        CreateWindowExW(0, name, name, WS_OVERLAPPED, 0, 0, 0, 0, nothing, nothing, instance, ptr::null())
    };
    if window.is_null() { Err(io::Error::last_os_error()) } else { Ok(window) }
}

fn hear_messages() {
    let mut message = MSG::default();
    // SAFETY: the place is one for a message; whatever is taken is handed on as it is. Zero is the end, less an error.
    while unsafe { GetMessageW(&mut message, ptr::null_mut(), 0, 0) } > 0 {
        // SAFETY: as above.
        unsafe { DispatchMessageW(&message) };
    }
}

unsafe extern "system" fn hear(window: HWND, message: u32, word: WPARAM, more: LPARAM) -> LRESULT {
    match message {
        WM_NEWS => {
            let ends = OWN.with_borrow(|own| own.as_ref().is_some_and(|own| own.shared.known().end.is_some()));
            if ends {
                close(window);
            } else {
                redraw();
            }
            return 0;
        }
        WM_ICON => {
            if let Some(click) = notification::click(word, more) {
                open_menu(click);
            }
            return 0;
        }
        WM_TIMER => redraw(),
        // Another size, another colour of the task bar.
        WM_DPICHANGED | WM_DISPLAYCHANGE | WM_SETTINGCHANGE | WM_THEMECHANGED => redraw(),
        // This keeps nobody from logging off.
        WM_QUERYENDSESSION => return 1,
        WM_ENDSESSION if word != 0 => close(window),
        WM_CLOSE => {
            close(window);
            return 0;
        }
        // SAFETY: it concerns this thread.
        WM_DESTROY => unsafe { PostQuitMessage(0) },
        other => {
            let is_fresh = OWN.with_borrow_mut(|own| {
                own.as_mut().filter(|own| own.taskbar == other && other != 0).map(|own| own.icon.is_gone()).is_some()
            });
            if is_fresh {
                redraw();
            }
        }
    }
    // SAFETY: what came is handed on as it is.
    unsafe { DefWindowProcW(window, message, word, more) }
}

fn close(window: HWND) {
    OWN.with_borrow_mut(|own| own.iter_mut().for_each(|own| own.icon.remove()));
    // SAFETY: the window is this thread's.
    unsafe { DestroyWindow(window) };
}

/// Shows what is known now.
fn redraw() {
    OWN.with_borrow_mut(|own| {
        let Some(own) = own else { return };
        let face = {
            let known = own.shared.known();
            face::face(&known.view, known.trouble.as_deref(), &Zoned::now())
        };
        own.icon.show(face.state, &face.tooltip);
    });
}

fn open_menu(click: Click) {
    let shown = OWN.with_borrow(|own| {
        let own = own.as_ref()?;
        let known = own.shared.known();
        Some((own.icon.window(), face::face(&known.view, known.trouble.as_deref(), &Zoned::now()).menu))
    });
    // While the menu is open this thread hears messages: nothing of it may be borrowed.
    let Some((window, menu)) = shown else { return };
    let Some(action) = notification::choice(window, &menu, click) else { return };
    OWN.with_borrow(|own| own.iter().for_each(|own| own.carry_out(&action)));
    redraw();
}

impl Own {
    fn carry_out(&self, action: &Action) {
        let now = Zoned::now();
        let view = self.shared.known().view.clone();
        let done = match action {
            // It is said when it is done.
            Action::Snooze(_) | Action::Resume => return drop(self.chosen.try_send(action.clone())),
            Action::ShowGrants => self.pages.grants(&view, &now).and_then(|page| desktop::open(page.as_os_str())),
            Action::About => self.pages.about(&view, &now).and_then(|page| desktop::open(page.as_os_str())),
            Action::OpenPortal(address) => desktop::open(address.as_ref()),
        };
        self.shared.known().trouble = done.err().map(|error| error.to_string());
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
