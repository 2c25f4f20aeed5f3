//! The icon on a Linux desktop: a StatusNotifierItem with its menu, on the session's D-Bus.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Zoned;
use ksni::{Icon, MenuItem, OfflineReason, Status, ToolTip, Tray, TrayMethods as _, menu::StandardItem};
use lull_desk::Farewell;
use tokio::{
    process::Command,
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval},
};

use crate::{
    face::{self, Action, Face, Item, State, View},
    icon::{self, Bar},
    link::{Heard, WORDS_MAX, Whose},
    pages::Pages,
};

/// What may wait: people choose one thing after the other.
const WAITING_MAX: usize = 16;
/// How often it is looked whether the session is still there, and the times in the tooltip are told anew.
const LOOK: Duration = Duration::from_secs(30);

/// Shows the icon until the agent or the session ends it.
pub(crate) fn run(whose: Whose) -> Result<(), String> {
    let Some(_lock) = only_one()? else {
        eprintln!("lull-tray runs in this session already");
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("the icon cannot be shown: {error}"))?.block_on(show(whose))
}

/// One tray in a session: the lock is released with the process, however it ends. None if there is one.
fn only_one() -> Result<Option<File>, String> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(lock_name(&std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default()));
    let failed = |error: std::io::Error| format!("{} cannot be used: {error}\nhint: log in anew", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// A session is where its bus is: icons of two buses are on two desktops.
fn lock_name(bus: &str) -> String {
    let user = rustix::process::getuid().as_raw();
    let own: String = bus.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(100).collect();
    format!("lull-tray-{user}-{own}.lock")
}

async fn show(whose: Whose) -> Result<(), String> {
    let (chosen, mut choices) = mpsc::channel(WAITING_MAX);
    let news = Arc::new((Mutex::new(News::default()), Notify::new()));
    let pages = Pages::open().map_err(|error| format!("there is no room for pages: {error}"))?;
    // A desktop may show icons later, or again.
    let icon = Own { view: View::Unknown, trouble: None, chosen, shape: Vec::new(), fill: 0 };
    let handle = icon.assume_sni_available(true).spawn().await;
    let handle = handle.map_err(|error| format!("this session shows no icons: {error}\nhint: run this in a desktop session"))?;
    let (followed, told) = (whose.clone(), Arc::clone(&news));
    tokio::spawn(async move {
        // The sensor of a Linux machine sees every seat itself.
        let (_silent, words) = mpsc::channel(WORDS_MAX);
        let hear = |heard| {
            let mut news = told.0.lock().unwrap_or_else(PoisonError::into_inner);
            match heard {
                Heard::View(view) => news.view = Some(view),
                Heard::End(reason) => news.end = Some(reason),
                Heard::Watch { .. } => {}
            }
            told.1.notify_one();
        };
        followed.follow(words, || None, hear).await;
    });
    let mut clock = interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = news.1.notified() => {
                let News { view, end } = std::mem::take(&mut *news.0.lock().unwrap_or_else(PoisonError::into_inner));
                if let Some(reason) = end {
                    handle.shutdown().await;
                    eprintln!("{}", farewell(reason));
                    return Ok(());
                }
                if let Some(view) = view {
                    handle
                        .update(|icon| {
                            icon.view = view;
                            icon.settle();
                        })
                        .await;
                }
            }
            Some(action) = choices.recv() => {
                let view = handle.update(|icon| icon.view.clone()).await.unwrap_or(View::Unknown);
                let trouble = carry_out(&whose, &action, &view, &pages).await.err();
                handle
                    .update(|icon| {
                        icon.trouble = trouble;
                        icon.settle();
                    })
                    .await;
            }
            _ = clock.tick() => {
                handle.update(|_| ()).await;
            }
        }
        if handle.is_closed() {
            return Ok(());
        }
    }
}

/// What the agent said since that was looked at: of views the last counts.
#[derive(Default)]
struct News {
    view: Option<View>,
    end: Option<Farewell>,
}

fn farewell(reason: Farewell) -> &'static str {
    match reason {
        Farewell::Upgrade => "the agent is being upgraded, and its icon with it",
        Farewell::Uninstall => "the agent is being removed, and its icon with it",
    }
}

async fn carry_out(whose: &Whose, action: &Action, view: &View, pages: &Pages) -> Result<(), String> {
    let now = Zoned::now();
    let written = |page: std::io::Result<PathBuf>| page.map_err(|error| format!("the page cannot be written: {error}"));
    match action {
        Action::Snooze(_) | Action::Resume => whose.choose(action, now.timestamp()).await,
        Action::ShowGrants => open(&written(pages.grants(view, &now))?),
        Action::About => open(&written(pages.about(view, &now))?),
        Action::OpenPortal(address) => open(Path::new(address)),
    }
}

/// Has the desktop open something.
fn open(what: &Path) -> Result<(), String> {
    let started = Command::new("xdg-open").arg(what).spawn();
    started.map(drop).map_err(|error| format!("xdg-open does not start: {error}\nhint: open {} yourself", what.display()))
}

/// The item on the bus.
struct Own {
    view: View,
    trouble: Option<String>,
    chosen: mpsc::Sender<Action>,
    /// The kinds of the menu's entries, and entries behind them that nobody sees.
    shape: Vec<std::mem::Discriminant<Item>>,
    fill: usize,
}

impl Own {
    fn face(&self) -> Face {
        face::face(&self.view, self.trouble.as_deref(), &Zoned::now())
    }

    /// Sees to it that a menu of another shape has another length. One of the same length is taken for the same entries with
    /// other words, and panels do not make a separator of a line: they show an empty one.
    fn settle(&mut self) {
        let shape: Vec<_> = self.face().menu.iter().map(std::mem::discriminant).collect();
        if shape != self.shape {
            let before = self.shape.len() + self.fill;
            self.fill = usize::from(shape.len() == before);
            self.shape = shape;
        }
    }
}

impl Tray for Own {
    // A single click is what people try first.
    const MENU_ON_ACTIVATE: bool = true;

    fn id(&self) -> String {
        "lull-tray".into()
    }

    fn title(&self) -> String {
        "Lull".into()
    }

    fn status(&self) -> Status {
        match self.face().state {
            State::Attention => Status::NeedsAttention,
            State::Idle | State::Working | State::Paused | State::Snoozed | State::Offline => Status::Active,
        }
    }

    fn icon_pixmap(&self) -> Vec<Icon> {
        pixmaps(self.face().state)
    }

    fn attention_icon_pixmap(&self) -> Vec<Icon> {
        pixmaps(State::Attention)
    }

    fn tool_tip(&self) -> ToolTip {
        ToolTip { title: self.face().tooltip, ..ToolTip::default() }
    }

    fn menu(&self) -> Vec<MenuItem<Self>> {
        let unseen = || StandardItem { visible: false, ..StandardItem::default() }.into();
        self.face().menu.into_iter().map(item).chain(std::iter::repeat_with(unseen).take(self.fill)).collect()
    }

    /// The times are told anew.
    fn menu_about_to_show(&mut self) {
        self.settle();
    }

    fn watcher_offline(&self, reason: OfflineReason) -> bool {
        // A panel may start later than this, or anew, and then asks for the icon; a bus that is gone does not come back.
        !matches!(reason, OfflineReason::Error(ksni::Error::Dbus(_)))
    }
}

fn pixmaps(state: State) -> Vec<Icon> {
    let icon = |picture: icon::Picture| {
        let data = picture.pixels.as_chunks::<4>().0.iter().flat_map(|[red, green, blue, alpha]| [*alpha, *red, *green, *blue]);
        let size = picture.size.cast_signed();
        Icon { width: size, height: size, data: data.collect() }
    };
    icon::pictures(state, bar()).map(icon).collect()
}

/// How dark a panel is nobody says; GNOME's is dark whatever the theme.
fn bar() -> Bar {
    let is_gnome = |desktop: String| desktop.split(':').any(|name| name.eq_ignore_ascii_case("gnome"));
    if std::env::var("XDG_CURRENT_DESKTOP").is_ok_and(is_gnome) { Bar::Dark } else { Bar::Unknown }
}

fn item(item: Item) -> MenuItem<Own> {
    // A single low line would underline the next letter.
    let label = |text: String| text.replace('_', "__");
    match item {
        Item::Separator => MenuItem::Separator,
        Item::Line(text) => StandardItem { label: label(text), enabled: false, ..StandardItem::default() }.into(),
        Item::Choice(text, action) => StandardItem {
            label: label(text),
            activate: Box::new(move |own: &mut Own| drop(own.chosen.try_send(action.clone()))),
            ..StandardItem::default()
        }
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_two_buses_have_two_locks_and_names_are_files_of_one_folder() {
        let name = lock_name("unix:path=/run/user/1000/bus");
        assert!(!name.contains('/') && name.ends_with(".lock"), "{name}");
        assert_ne!(name, lock_name("unix:abstract=/tmp/dbus-x"));
    }

    fn own() -> Own {
        Own { view: View::Unknown, trouble: None, chosen: mpsc::channel(1).0, shape: Vec::new(), fill: 0 }
    }

    #[test]
    fn a_menu_of_another_shape_has_another_length() {
        let mut icon = own();
        icon.settle();
        let (before, again) = (icon.menu().len(), |icon: &mut Own| {
            icon.settle();
            icon.menu().len()
        });
        assert_eq!(again(&mut icon), before, "nothing has changed");
        // As if the menu of before had had as many entries of other kinds.
        icon.shape.swap(0, 1);
        assert_ne!(again(&mut icon), before);
    }

    #[test]
    fn a_panel_that_starts_later_is_waited_for() {
        let icon = own();
        assert!(icon.watcher_offline(OfflineReason::No), "it may start anew");
        assert!(icon.watcher_offline(OfflineReason::Error(ksni::Error::WontShow)), "it has not started yet");
    }

    #[test]
    fn pictures_are_sent_as_the_bus_wants_them() {
        let icons = pixmaps(State::Working);
        assert!(icons.iter().any(|icon| icon.width == 16) && icons.iter().any(|icon| icon.width == 48));
        assert!(icons.iter().all(|icon| icon.data.len() == (icon.width * icon.height * 4) as usize));
    }
}
