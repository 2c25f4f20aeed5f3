//! The icon itself, and the menu that it opens.

use std::{mem, ptr};

use lull_windows::wide;
use windows_sys::Win32::{
    Foundation::{HWND, LPARAM, POINT, WPARAM},
    Graphics::Gdi::{BI_RGB, BITMAPINFO, BITMAPINFOHEADER, CreateBitmap, CreateDIBSection, DIB_RGB_COLORS, DeleteObject},
    UI::{
        Shell::{
            NIF_ICON, NIF_MESSAGE, NIF_SHOWTIP, NIF_TIP, NIM_ADD, NIM_DELETE, NIM_MODIFY, NIM_SETVERSION, NIN_SELECT,
            NOTIFYICON_VERSION_4, NOTIFYICONDATAW, NOTIFYICONDATAW_0, Shell_NotifyIconW,
        },
        WindowsAndMessaging::{
            AppendMenuW, CreateIconIndirect, CreatePopupMenu, DestroyIcon, DestroyMenu, GetCursorPos, GetSystemMetrics, HICON,
            ICONINFO, MF_DISABLED, MF_SEPARATOR, MF_STRING, PostMessageW, SM_MENUDROPALIGNMENT, SetForegroundWindow,
            TPM_BOTTOMALIGN, TPM_LEFTALIGN, TPM_NONOTIFY, TPM_RETURNCMD, TPM_RIGHTALIGN, TPM_RIGHTBUTTON, TrackPopupMenu,
            WM_CONTEXTMENU, WM_LBUTTONUP, WM_NULL, WM_RBUTTONUP,
        },
    },
};

use super::desktop;
use crate::{
    face::{Action, Item, State, TOOLTIP_CHARS_MAX},
    icon::{self, Bar, Picture},
};

/// The icon's number among those of its window.
const NUMBER: u32 = 1;
/// The task bar says so when an icon was chosen without a mouse.
const NIN_KEYSELECT: u32 = NIN_SELECT | 1;

/// What is shown of the icon, so that nothing is drawn twice.
#[derive(Debug, Clone, PartialEq)]
struct Shown {
    state: State,
    bar: Bar,
    size: u32,
    tooltip: String,
}

/// The icon in the notification area.
pub(super) struct Notification {
    window: HWND,
    message: u32,
    picture: Option<Handle>,
    shown: Option<Shown>,
}

impl Notification {
    /// Nothing is shown yet. Clicks are sent to the window by this message.
    pub(super) fn new(window: HWND, message: u32) -> Self {
        Self { window, message, picture: None, shown: None }
    }

    pub(super) fn window(&self) -> HWND {
        self.window
    }

    /// Shows this. Without a task bar nothing is shown, and the next word tries again.
    pub(super) fn show(&mut self, state: State, tooltip: &str) {
        let fresh = Shown { state, bar: desktop::bar(), size: desktop::icon_size(), tooltip: tooltip.to_owned() };
        if self.shown.as_ref() == Some(&fresh) {
            return;
        }
        let Some(picture) = Handle::new(icon::picture(state, fresh.bar, fresh.size)) else { return };
        let mut data = self.data(NIF_MESSAGE | NIF_ICON | NIF_TIP | NIF_SHOWTIP);
        data.uCallbackMessage = self.message;
        data.hIcon = picture.0;
        for (place, unit) in data.szTip.iter_mut().zip(tooltip.encode_utf16().take(TOOLTIP_CHARS_MAX)) {
            *place = unit;
        }
        let was_there = self.shown.is_some();
        // SAFETY: the structure is whole, and outlives the call.
        let done = unsafe { Shell_NotifyIconW(if was_there { NIM_MODIFY } else { NIM_ADD }, &data) } != 0;
        if done && !was_there {
            data.Anonymous = NOTIFYICONDATAW_0 { uVersion: NOTIFYICON_VERSION_4 };
            // SAFETY: as above.
            let speaks = unsafe { Shell_NotifyIconW(NIM_SETVERSION, &data) } != 0;
            FORM.set(if speaks { Form::Four } else { Form::First });
        }
        (self.shown, self.picture) = if done { (Some(fresh), Some(picture)) } else { (None, None) };
    }

    /// The task bar is a fresh one, and has no icons.
    pub(super) fn is_gone(&mut self) {
        self.shown = None;
    }

    pub(super) fn remove(&mut self) {
        if self.shown.take().is_some() {
            // SAFETY: the structure is whole, and outlives the call.
            unsafe { Shell_NotifyIconW(NIM_DELETE, &self.data(0)) };
        }
    }

    fn data(&self, flags: u32) -> NOTIFYICONDATAW {
        NOTIFYICONDATAW {
            cbSize: size_of::<NOTIFYICONDATAW>() as u32,
            hWnd: self.window,
            uID: NUMBER,
            uFlags: flags,
            ..NOTIFYICONDATAW::default()
        }
    }
}

/// How the task bar tells of clicks.
#[derive(Clone, Copy)]
enum Form {
    First,
    Four,
}

thread_local! {
    static FORM: std::cell::Cell<Form> = const { std::cell::Cell::new(Form::First) };
}

/// Where somebody asked for the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Click {
    x: i32,
    y: i32,
}

/// What the icon's message means, if it asks for the menu: either button does.
pub(super) fn click(word: WPARAM, more: LPARAM) -> Option<Click> {
    match (FORM.get(), more as u32 & 0xffff) {
        // Signed numbers of 16 bits: screens may lie left of the first one.
        (Form::Four, WM_CONTEXTMENU | NIN_SELECT | NIN_KEYSELECT) => {
            Some(Click { x: i32::from(word as u16 as i16), y: i32::from((word >> 16) as u16 as i16) })
        }
        (Form::First, WM_RBUTTONUP | WM_LBUTTONUP) => {
            let mut at = POINT::default();
            // SAFETY: the place is one for the answer.
            unsafe { GetCursorPos(&mut at) };
            Some(Click { x: at.x, y: at.y })
        }
        _ => None,
    }
}

/// Opens the menu, and waits for what is chosen.
pub(super) fn choice(window: HWND, items: &[Item], at: Click) -> Option<Action> {
    let menu = Menu::new(items)?;
    // SAFETY: the window is this thread's; without being in front the menu would not close by itself, and without the empty
    // message it would not open a second time (both are the system's own advice).
    let chosen = unsafe {
        SetForegroundWindow(window);
        let side = if GetSystemMetrics(SM_MENUDROPALIGNMENT) == 0 { TPM_LEFTALIGN } else { TPM_RIGHTALIGN };
        let flags = TPM_RETURNCMD | TPM_NONOTIFY | TPM_RIGHTBUTTON | TPM_BOTTOMALIGN | side;
        let chosen = TrackPopupMenu(menu.0, flags, at.x, at.y, 0, window, ptr::null());
        PostMessageW(window, WM_NULL, 0, 0);
        chosen
    };
    let index = usize::try_from(chosen).ok()?.checked_sub(1)?;
    match items.get(index)? {
        Item::Choice(_, action) => Some(action.clone()),
        Item::Line(_) | Item::Separator => None,
    }
}

/// A menu of the system, whose entries are numbered from 1.
struct Menu(windows_sys::Win32::UI::WindowsAndMessaging::HMENU);

impl Menu {
    fn new(items: &[Item]) -> Option<Self> {
        // SAFETY: the call only makes something.
        let menu = unsafe { CreatePopupMenu() };
        if menu.is_null() {
            return None;
        }
        let menu = Self(menu);
        for (index, item) in items.iter().enumerate() {
            let (flags, text) = match item {
                Item::Separator => (MF_SEPARATOR, wide("")),
                // It is to be read: only what is grey looks as if it could not be.
                Item::Line(text) => (MF_STRING | MF_DISABLED, label(text)),
                Item::Choice(text, _) => (MF_STRING, label(text)),
            };
            // SAFETY: the menu is whole, and the text ends in a zero.
            unsafe { AppendMenuW(menu.0, flags, index + 1, text.as_ptr()) };
        }
        Some(menu)
    }
}

impl Drop for Menu {
    fn drop(&mut self) {
        // SAFETY: it is this one's own.
        unsafe { DestroyMenu(self.0) };
    }
}

/// A single ampersand would underline the next letter, and a tab would move the rest to the right.
fn label(text: &str) -> Vec<u16> {
    wide(text.replace('&', "&&").replace('\t', " "))
}

/// An icon of the system's.
struct Handle(HICON);

impl Handle {
    fn new(Picture { size, pixels }: Picture) -> Option<Self> {
        let side = size.cast_signed();
        let header = BITMAPINFOHEADER {
            biSize: size_of::<BITMAPINFOHEADER>() as u32,
            biWidth: side,
            // Rows from above.
            biHeight: -side,
            biPlanes: 1,
            biBitCount: 32,
            biCompression: BI_RGB,
            ..BITMAPINFOHEADER::default()
        };
        let info = BITMAPINFO { bmiHeader: header, ..BITMAPINFO::default() };
        let mut place = ptr::null_mut();
        // SAFETY: the structure is whole, and the place one for a pointer.
        let colour = unsafe { CreateDIBSection(ptr::null_mut(), &info, DIB_RGB_COLORS, &mut place, ptr::null_mut(), 0) };
        if colour.is_null() || place.is_null() {
            return None;
        }
        // SAFETY: the bitmap has room for so many points of four bytes.
        let points = unsafe { std::slice::from_raw_parts_mut(place.cast::<[u8; 4]>(), (size * size) as usize) };
        for (point, [red, green, blue, alpha]) in points.iter_mut().zip(pixels.as_chunks::<4>().0) {
            *point = [*blue, *green, *red, *alpha];
        }
        // One bit for each point, rows of whole words: what is wholly transparent, for task bars that know no opacity.
        let row_bytes = size.div_ceil(16) as usize * 2;
        let mut mask = vec![0_u8; row_bytes * size as usize];
        for (index, pixel) in pixels.as_chunks::<4>().0.iter().enumerate() {
            let (x, y) = (index % size as usize, index / size as usize);
            if pixel[3] == 0 {
                mask[y * row_bytes + x / 8] |= 0x80 >> (x % 8);
            }
        }
        // SAFETY: the bits are as many as is said; the icon has copies of both bitmaps, which are given back once.
        unsafe {
            let mask = CreateBitmap(side, side, 1, 1, mask.as_ptr().cast());
            let icon = CreateIconIndirect(&ICONINFO { fIcon: 1, hbmMask: mask, hbmColor: colour, ..mem::zeroed() });
            DeleteObject(mask);
            DeleteObject(colour);
            (!icon.is_null()).then_some(Self(icon))
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it is this one's own, and the task bar has a copy.
        unsafe { DestroyIcon(self.0) };
    }
}
