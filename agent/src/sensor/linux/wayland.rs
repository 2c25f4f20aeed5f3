//! The owner's desktop under Wayland: a compositor with the protocol ext-idle-notify tells when input begins and when it
//! ends, for each seat. What fills the screen it tells nobody; a player that wants to be left alone says so by an inhibitor,
//! which logind's sessions show.

use std::{collections::BTreeSet, error::Error, os::fd::AsFd as _, sync::Arc, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};
use wayland_client::{
    Connection, Dispatch, EventQueue, Proxy as _, QueueHandle,
    backend::WaylandError,
    delegate_noop,
    globals::{GlobalListContents, registry_queue_init},
    protocol::{
        wl_registry::{self, WlRegistry},
        wl_seat::WlSeat,
    },
};
use wayland_protocols::ext::idle_notify::v1::client::{
    ext_idle_notification_v1::{self, ExtIdleNotificationV1},
    ext_idle_notifier_v1::ExtIdleNotifierV1,
};

use super::super::eyes::{Eyes, QUIET};

pub(super) const NAME: &str = "Wayland";
const ABOUT: &str = "keyboard, mouse and touch of its desktop";
/// A desktop that went away is looked for again after this long: somebody may log in.
const LOOK: Duration = Duration::from_secs(30);
/// From this version on the notifier can tell of input alone, whatever a player inhibits.
const INPUT_ALONE: u32 = 2;

type Failed = Box<dyn Error + Send + Sync>;

/// Watches the desktop that the environment names.
pub(super) async fn watch(eyes: Arc<Eyes>) {
    if std::env::var_os("WAYLAND_DISPLAY").is_none_or(|display| display.is_empty()) {
        return eyes.closes(NAME, ABOUT, "no WAYLAND_DISPLAY: the agent runs outside of such a session");
    }
    loop {
        let ended = follow(&eyes, || Ok(Connection::connect_to_env()?)).await;
        eyes.closes(NAME, ABOUT, ended.err().map_or_else(|| "the desktop is gone".into(), |error| error.to_string()));
        sleep(LOOK).await;
    }
}

/// Sees what a desktop tells until it is gone.
async fn follow(eyes: &Arc<Eyes>, connect: impl FnOnce() -> Result<Connection, Failed> + Send + 'static) -> Result<(), Failed> {
    let opened = tokio::task::spawn_blocking({
        let eyes = eyes.clone();
        move || Desktop::open(connect()?, eyes)
    });
    let (connection, mut queue, mut desktop) = opened.await??;
    eyes.opens(NAME, ABOUT);
    // Somebody may be at it just now: the desktop tells of the next rest, and of what begins after it.
    eyes.rests(NAME, Duration::ZERO);
    // SAFETY: the connection keeps its one descriptor open for as long as it lives, which is longer than the registration.
    let readable = unsafe { AsyncFd::register_with_interest(connection.as_fd(), Interest::READABLE) };
    let readable = readable.map_err(std::io::Error::from)?;
    loop {
        queue.dispatch_pending(&mut desktop)?;
        queue.flush()?;
        let mut ready = readable.readable().await?;
        let Some(guard) = queue.prepare_read() else { continue };
        match guard.read() {
            Ok(_) => {}
            Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What is known of one desktop.
struct Desktop {
    eyes: Arc<Eyes>,
    notifier: ExtIdleNotifierV1,
    /// Seats at which there is input now, by the registry's numbers.
    busy: BTreeSet<u32>,
}

impl Desktop {
    fn open(connection: Connection, eyes: Arc<Eyes>) -> Result<(Connection, EventQueue<Self>, Self), Failed> {
        let (globals, queue) = registry_queue_init::<Self>(&connection)?;
        let handle = queue.handle();
        let notifier = globals.bind(&handle, 1..=INPUT_ALONE, ());
        let notifier = notifier.map_err(|_| "this desktop does not tell of input (it lacks ext-idle-notify)")?;
        let desktop = Self { eyes, notifier, busy: BTreeSet::new() };
        let seats = globals.contents().clone_list().into_iter().filter(|global| global.interface == WlSeat::interface().name);
        let seats: Vec<u32> = seats.map(|global| global.name).collect();
        if seats.is_empty() {
            return Err("this desktop has neither keyboard nor mouse".into());
        }
        seats.into_iter().for_each(|seat| desktop.attend(globals.registry(), seat, &handle));
        Ok((connection, queue, desktop))
    }

    /// Asks to be told of one seat.
    fn attend(&self, registry: &WlRegistry, number: u32, handle: &QueueHandle<Self>) {
        let seat: WlSeat = registry.bind(number, 1, handle, ());
        let quiet_ms = QUIET.as_millis() as u32;
        if self.notifier.version() >= INPUT_ALONE {
            self.notifier.get_input_idle_notification(quiet_ms, &seat, handle, number);
        } else {
            self.notifier.get_idle_notification(quiet_ms, &seat, handle, number);
        }
    }

    fn rests(&mut self, seat: u32) {
        self.busy.remove(&seat);
        if self.busy.is_empty() {
            self.eyes.rests(NAME, QUIET);
        }
    }
}

impl Dispatch<ExtIdleNotificationV1, u32> for Desktop {
    fn event(
        desktop: &mut Self,
        _: &ExtIdleNotificationV1,
        event: ext_idle_notification_v1::Event,
        seat: &u32,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            ext_idle_notification_v1::Event::Idled => desktop.rests(*seat),
            ext_idle_notification_v1::Event::Resumed => {
                desktop.busy.insert(*seat);
                desktop.eyes.moves(NAME);
            }
            _ => {}
        }
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for Desktop {
    fn event(
        desktop: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        handle: &QueueHandle<Self>,
    ) {
        match event {
            wl_registry::Event::Global { name, interface, .. } if interface == WlSeat::interface().name => {
                desktop.attend(registry, name, handle);
            }
            wl_registry::Event::GlobalRemove { name } if desktop.busy.contains(&name) => desktop.rests(name),
            _ => {}
        }
    }
}

delegate_noop!(Desktop: ExtIdleNotifierV1);
delegate_noop!(Desktop: ignore WlSeat);

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, sync::mpsc as std_mpsc, thread};

    use wayland_protocols::ext::idle_notify::v1::server as notify;
    use wayland_server::{Client, DataInit, Display, DisplayHandle, GlobalDispatch, New, protocol::wl_seat as seat};

    use super::*;
    use crate::sensor::{Told, Word, words};

    /// A desktop of two seats without anything else.
    #[derive(Default)]
    struct Mock {
        asked: Vec<notify::ext_idle_notification_v1::ExtIdleNotificationV1>,
    }

    impl GlobalDispatch<seat::WlSeat, ()> for Mock {
        fn bind(_: &mut Self, _: &DisplayHandle, _: &Client, new: New<seat::WlSeat>, _: &(), init: &mut DataInit<'_, Self>) {
            init.init(new, ());
        }
    }

    impl wayland_server::Dispatch<seat::WlSeat, ()> for Mock {
        fn request(
            _: &mut Self,
            _: &Client,
            _: &seat::WlSeat,
            _: seat::Request,
            _: &(),
            _: &DisplayHandle,
            _: &mut DataInit<'_, Self>,
        ) {
        }
    }

    impl GlobalDispatch<notify::ext_idle_notifier_v1::ExtIdleNotifierV1, ()> for Mock {
        fn bind(
            _: &mut Self,
            _: &DisplayHandle,
            _: &Client,
            new: New<notify::ext_idle_notifier_v1::ExtIdleNotifierV1>,
            _: &(),
            init: &mut DataInit<'_, Self>,
        ) {
            init.init(new, ());
        }
    }

    impl wayland_server::Dispatch<notify::ext_idle_notifier_v1::ExtIdleNotifierV1, ()> for Mock {
        fn request(
            mock: &mut Self,
            _: &Client,
            _: &notify::ext_idle_notifier_v1::ExtIdleNotifierV1,
            request: notify::ext_idle_notifier_v1::Request,
            _: &(),
            _: &DisplayHandle,
            init: &mut DataInit<'_, Self>,
        ) {
            use notify::ext_idle_notifier_v1::Request;
            if let Request::GetIdleNotification { id, timeout, .. } | Request::GetInputIdleNotification { id, timeout, .. } =
                request
            {
                assert_eq!(Duration::from_millis(timeout.into()), QUIET);
                mock.asked.push(init.init(id, ()));
            }
        }
    }

    impl wayland_server::Dispatch<notify::ext_idle_notification_v1::ExtIdleNotificationV1, ()> for Mock {
        fn request(
            _: &mut Self,
            _: &Client,
            _: &notify::ext_idle_notification_v1::ExtIdleNotificationV1,
            _: notify::ext_idle_notification_v1::Request,
            _: &(),
            _: &DisplayHandle,
            _: &mut DataInit<'_, Self>,
        ) {
        }
    }

    /// What a seat is to say.
    #[derive(Clone, Copy)]
    enum Say {
        Idled(usize),
        Resumed(usize),
    }

    /// A desktop in a thread of its own; it ends when nobody can tell it anything any more.
    fn desktop(stream: UnixStream, notifies: bool) -> std_mpsc::Sender<Say> {
        let (say, words) = std_mpsc::channel();
        thread::spawn(move || {
            let mut display = Display::<Mock>::new().expect("a display");
            let mut handle = display.handle();
            handle.create_global::<Mock, seat::WlSeat, ()>(1, ());
            handle.create_global::<Mock, seat::WlSeat, ()>(1, ());
            if notifies {
                handle.create_global::<Mock, notify::ext_idle_notifier_v1::ExtIdleNotifierV1, ()>(2, ());
            }
            handle.insert_client(stream, Arc::new(())).expect("a client");
            let mut mock = Mock::default();
            loop {
                display.dispatch_clients(&mut mock).expect("it asks for what there is");
                if mock.asked.len() == 2 {
                    match words.recv_timeout(Duration::from_millis(1)) {
                        Ok(Say::Idled(seat)) => mock.asked[seat].idled(),
                        Ok(Say::Resumed(seat)) => mock.asked[seat].resumed(),
                        Err(std_mpsc::RecvTimeoutError::Timeout) => {}
                        Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
                    }
                } else {
                    thread::yield_now();
                }
                display.flush_clients().expect("it reads");
            }
        });
        say
    }

    /// A sensor with a made-up desktop only.
    struct Watched {
        eyes: Arc<Eyes>,
        told: Told,
        desktop: std_mpsc::Sender<Say>,
        following: tokio::task::JoinHandle<Result<(), Failed>>,
    }

    impl Watched {
        fn start(notifies: bool) -> Self {
            let (teller, told) = words();
            let eyes = Arc::new(Eyes::new(teller));
            let (ours, theirs) = UnixStream::pair().expect("sockets");
            let desktop = desktop(theirs, notifies);
            let following = tokio::spawn({
                let eyes = eyes.clone();
                async move { follow(&eyes, move || Ok(Connection::from_socket(ours)?)).await }
            });
            Self { eyes, told, desktop, following }
        }

        fn say(&self, say: Say) {
            self.desktop.send(say).expect("it listens");
        }

        async fn input(&self) {
            while !matches!(self.told.next().await, Word::Input) {}
        }
    }

    #[tokio::test]
    async fn input_at_any_seat_is_told_at_once_and_rest_is_when_all_rest() {
        let watched = Watched::start(true);
        for seat in [0, 1] {
            watched.say(Say::Resumed(seat));
            watched.input().await;
        }
        let idle = |watched: &Watched| watched.eyes.seen().idle;
        assert!(idle(&watched).is_some_and(|idle| idle <= QUIET));
        watched.say(Say::Idled(0));
        watched.say(Say::Resumed(0));
        watched.input().await;
        watched.say(Say::Idled(0));
        watched.say(Say::Idled(1));
        while idle(&watched).is_none_or(|idle| idle <= QUIET) {
            tokio::task::yield_now().await;
        }
        assert!(watched.eyes.sources().iter().all(|source| source.missing.is_none()));
    }

    #[tokio::test]
    async fn a_desktop_that_tells_nothing_is_said_to() {
        let watched = Watched::start(false);
        let why = watched.following.await.expect("no panic").expect_err("it cannot be followed").to_string();
        assert!(why.contains("ext-idle-notify"), "{why}");
    }

    #[tokio::test]
    async fn a_desktop_that_goes_away_is_lost() {
        let watched = Watched::start(true);
        watched.say(Say::Resumed(0));
        watched.input().await;
        drop(watched.desktop);
        watched.following.await.expect("no panic").expect_err("it is gone");
    }
}
