//! Trays that stay on the line: what they are told, and what is done with what they tell.
//!
//! ```text
//! run loop --status, working--> Company --News--> a companion each, at the pace at which it reads
//! Dismiss ----------------------^                 |--Word--> the sensor, if the agent does not see that desktop itself
//! ```

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lull_desk::{Farewell, News, Request, Response, Status, Word, client::write, companion::WORD_BYTES_MAX};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{Call, Guest, ask_run_loop};

/// Companions at once: a terminal server has as many sessions, and each is a connection.
const COMPANIONS_MAX: usize = 64;
/// Of one user, or one session: some have several desktops.
const COMPANIONS_OF_ONE_MAX: usize = 4;
/// A companion that reads nothing for this long is cut off.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// The pause after each word of a companion: whoever writes without end is read at this pace.
const WORD_PAUSE: Duration = Duration::from_millis(5);
/// How long companions may take to end; an installer waits for it.
const DISMISSAL_MAX: Duration = Duration::from_secs(10);
/// How long no companion may come after that: as long as files are replaced. A service that is started anew forgets it.
const DISMISSAL_HOLDS: Duration = Duration::from_secs(120);

/// What a companion's words are given to.
pub(super) type Hear = Box<dyn FnMut(Word) + Send>;

/// All companions; each holder has the same.
#[derive(Clone, Default)]
pub struct Company(Arc<Shared>);

#[derive(Default)]
struct Shared {
    told: watch::Sender<Told>,
    /// Companions of each user or session.
    seats: Mutex<BTreeMap<u32, usize>>,
}

/// What every companion is to know.
#[derive(Clone, Default)]
struct Told {
    status: Option<Arc<Status>>,
    working: bool,
    dismissed: Option<(Farewell, Instant)>,
}

impl Told {
    fn farewell(&self) -> Option<Farewell> {
        self.dismissed.filter(|(_, since)| since.elapsed() < DISMISSAL_HOLDS).map(|(reason, _)| reason)
    }
}

impl Company {
    /// Whether there is no companion.
    pub fn is_empty(&self) -> bool {
        self.0.told.receiver_count() == 0
    }

    /// Whether functions run: told at once.
    pub fn working(&self, working: bool) {
        self.0.told.send_if_modified(|told| std::mem::replace(&mut told.working, working) != working);
    }

    /// What companions show from now on.
    pub fn show(&self, status: Status) {
        self.0.told.send_modify(|told| told.status = Some(Arc::new(status)));
    }

    /// Has all companions end.
    pub(super) async fn dismiss(&self, reason: Farewell) -> Response {
        self.0.told.send_modify(|told| told.dismissed = Some((reason, Instant::now())));
        match timeout(DISMISSAL_MAX, self.0.told.closed()).await {
            Ok(()) => Response::Done,
            Err(_) => {
                let left = self.0.told.receiver_count();
                Response::Error { message: format!("{left} trays did not end\nhint: end the processes named lull-tray") }
            }
        }
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_seat(&self, of: u32) -> Option<Seat> {
        let mut seats = self.seats();
        let (all, own) = (seats.values().sum::<usize>(), seats.get(&of).copied().unwrap_or(0));
        if all >= COMPANIONS_MAX || own >= COMPANIONS_OF_ONE_MAX {
            return None;
        }
        seats.insert(of, own + 1);
        Some(Seat { company: self.clone(), of })
    }

    /// Stays with a companion until it goes, or is not allowed to look any more.
    pub(super) async fn accompany(
        &self,
        reader: impl AsyncBufRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        calls: mpsc::Sender<Call>,
        guest: &Guest,
    ) -> io::Result<()> {
        let Some(_seat) = self.take_seat(guest.of) else {
            let message = "there are enough companions already\nhint: end one of the trays of this user".into();
            return write(&mut writer, &Response::Error { message }).await;
        };
        let hear = match (guest.hear)() {
            Ok(hear) => hear,
            Err(message) => return write(&mut writer, &Response::Denied { message }).await,
        };
        write(&mut writer, &Response::Done).await?;
        tokio::select! {
            ended = listen(reader, hear) => ended,
            ended = self.tell(writer, calls, guest) => ended,
        }
    }

    async fn tell(&self, mut writer: impl AsyncWrite + Unpin, calls: mpsc::Sender<Call>, guest: &Guest) -> io::Result<()> {
        let mut told = self.0.told.subscribe();
        // What was told before the answer to come is older than that.
        let mut shown = told.borrow().status.clone();
        let mut working = None;
        if let Response::Status(status) = ask_run_loop(Request::Status, &calls).await {
            say(&mut writer, &News::Status(status)).await?;
        }
        loop {
            let now = told.borrow_and_update().clone();
            if let Some(reason) = now.farewell() {
                say(&mut writer, &News::End { reason }).await?;
                // It is gone when its end is closed, not when it was told.
                return std::future::pending().await;
            }
            if working != Some(now.working) {
                working = Some(now.working);
                say(&mut writer, &News::Watch { closely: now.working }).await?;
            }
            if let Some(status) = &now.status
                && shown.as_ref().is_none_or(|shown| !Arc::ptr_eq(shown, status))
            {
                // Whoever has left the desk looks no more.
                if (guest.may)(&Request::Accompany).await.is_err() {
                    return Ok(());
                }
                shown = Some(Arc::clone(status));
                say(&mut writer, &News::Status(Box::new(Status::clone(status)))).await?;
            }
            if told.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn say(writer: &mut (impl AsyncWrite + Unpin), news: &News) -> io::Result<()> {
    timeout(WRITE_TIME_MAX, write(writer, news)).await?
}

async fn listen(mut reader: impl AsyncBufRead + Unpin, mut hear: Hear) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut reader).take(WORD_BYTES_MAX).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        hear(serde_json::from_slice(&line).map_err(io::Error::other)?);
        sleep(WORD_PAUSE).await;
    }
}

/// A companion's place.
struct Seat {
    company: Company,
    of: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.company.seats();
        if let Some(own) = seats.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                seats.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lull_desk::{Companion, IpcError, Whom};
    use tokio::io::AsyncWriteExt as _;

    use super::{super::tests::answering, *};
    use crate::ipc::listen;

    #[tokio::test]
    async fn a_companion_is_told_what_changes_and_then_to_end() {
        let data = tempfile::tempdir().expect("a folder");
        let company = Company::default();
        let _listener = listen(data.path(), answering(Response::Done), company.clone()).expect("a socket");
        let whom = Whom::Folder(data.path().to_owned());
        assert!(company.is_empty());
        let Companion { mut ears, mouth } = Companion::join(&whom).await.expect("it joins");
        assert_eq!(ears.next().await.expect("news"), Some(News::Watch { closely: false }));
        assert!(!company.is_empty());
        company.working(true);
        company.working(true);
        assert_eq!(ears.next().await.expect("news"), Some(News::Watch { closely: true }));
        let asked = whom.clone();
        let dismissal = tokio::spawn(async move { asked.ask(&Request::Dismiss { reason: Farewell::Upgrade }).await });
        assert_eq!(ears.next().await.expect("news"), Some(News::End { reason: Farewell::Upgrade }));
        assert!(!dismissal.is_finished(), "it has not ended yet");
        drop((ears, mouth));
        assert_eq!(dismissal.await.expect("no panic").expect("an answer"), Response::Done);
        let Companion { mut ears, .. } = Companion::join(&whom).await.expect("it joins");
        let news = ears.next().await.expect("news");
        assert_eq!(news, Some(News::End { reason: Farewell::Upgrade }), "whoever comes while files are replaced goes at once");
    }

    #[tokio::test]
    async fn one_user_has_a_few_companions_and_a_hostile_one_is_cut_off() {
        let data = tempfile::tempdir().expect("a folder");
        let company = Company::default();
        let _listener = listen(data.path(), answering(Response::Done), company.clone()).expect("a socket");
        let whom = Whom::Folder(data.path().to_owned());
        let mut companions = Vec::new();
        for _ in 0..COMPANIONS_OF_ONE_MAX {
            companions.push(Companion::join(&whom).await.expect("it joins"));
        }
        let refused = Companion::join(&whom).await.err().expect("there are enough");
        assert!(matches!(refused, IpcError::Refused(_)), "{refused}");
        assert_eq!(whom.ask(&Request::Resume).await.expect("others are answered all the same"), Response::Done);
        companions.pop();
        let mut stream = loop {
            let mut stream = whom.connect().await.expect("a connection");
            stream.write_all(b"{\"request\":\"accompany\"}\n").await.expect("written");
            let mut first = [0; 24];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first).await.expect("an answer");
            if first.starts_with(b"{\"response\":\"done\"}") {
                break stream;
            }
        };
        stream.write_all(&[b'x'; 5_000]).await.expect("written");
        let mut rest = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
    }
}
