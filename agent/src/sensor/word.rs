//! What the sensor tells at once.
//!
//! Nothing waits for a place here and nothing is lost: input is input however often it is told, and of what the operating
//! system announces the last counts. The run loop looks here before anywhere else.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use lull_session::guard::Announcement;
use tokio::sync::Notify;

/// What a sensor says.
pub enum Word {
    /// Keyboard or mouse moves.
    Input,
    /// The operating system announces something, and waits for a while if there is a delay.
    Announced(Announcement, Option<Delay>),
    /// Something about the machine may have changed: measure it now.
    Look,
}

/// As long as it is there, the operating system waits, for a few seconds at most. Dropping it lets it go on.
pub struct Delay {
    _lock: Box<dyn Any + Send>,
}

impl Delay {
    /// Held by this lock.
    pub fn new(lock: impl Any + Send) -> Self {
        Self { _lock: Box::new(lock) }
    }

    /// What is held after an announcement that came with `fresh`: what the system waited for `before` is still to be done,
    /// unless it is over.
    pub fn after(announcement: Announcement, fresh: Option<Self>, before: Option<Self>) -> Option<Self> {
        fresh.or(before.filter(|_| announcement != Announcement::Awake))
    }
}

/// The end that sources speak into.
#[derive(Clone)]
pub struct Teller(Weak<Shared>);

/// The end that the run loop listens at.
pub struct Told(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    told: Notify,
}

#[derive(Default)]
struct Waiting {
    input: bool,
    announced: Option<(Announcement, Option<Delay>)>,
    look: bool,
}

/// Two ends, with nothing said yet.
pub fn words() -> (Teller, Told) {
    let shared = Arc::<Shared>::default();
    (Teller(Arc::downgrade(&shared)), Told(shared))
}

impl Teller {
    /// Keyboard or mouse moves.
    pub fn input(&self) {
        self.tell(|waiting| waiting.input = true);
    }

    /// Something about the machine may have changed.
    pub fn look(&self) {
        self.tell(|waiting| waiting.look = true);
    }

    /// The operating system announces something. False when the agent has ended.
    pub fn announce(&self, announcement: Announcement, delay: Option<Delay>) -> bool {
        self.tell(|waiting| {
            let before = waiting.announced.take().and_then(|(_, delay)| delay);
            waiting.announced = Some((announcement, Delay::after(announcement, delay, before)));
        })
    }

    fn tell(&self, say: impl FnOnce(&mut Waiting)) -> bool {
        let Some(shared) = self.0.upgrade() else { return false };
        say(&mut shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        shared.told.notify_one();
        true
    }
}

impl Told {
    /// Waits for the next word. Nothing is lost when the wait is given up.
    pub async fn next(&self) -> Word {
        loop {
            if let Some(word) = self.take() {
                return word;
            }
            self.0.told.notified().await;
        }
    }

    /// The next word, if one was said: input first.
    pub fn take(&self) -> Option<Word> {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut waiting.input) {
            return Some(Word::Input);
        }
        if let Some((announcement, delay)) = waiting.announced.take() {
            return Some(Word::Announced(announcement, delay));
        }
        std::mem::take(&mut waiting.look).then_some(Word::Look)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Says when it was let go.
    struct Lock(Arc<AtomicBool>);

    impl Drop for Lock {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn input_comes_first_however_much_else_was_told_and_is_never_lost() {
        let (teller, told) = words();
        for _ in 0..100_000 {
            teller.look();
            teller.announce(Announcement::Sleep, None);
        }
        teller.input();
        teller.input();
        assert!(matches!(told.next().await, Word::Input));
        assert!(matches!(told.next().await, Word::Announced(Announcement::Sleep, None)));
        assert!(matches!(told.next().await, Word::Look));
        assert!(told.take().is_none(), "said often, heard once");
    }

    #[tokio::test]
    async fn whoever_waits_already_hears_it() {
        let (teller, told) = words();
        let heard = tokio::spawn(async move { matches!(told.next().await, Word::Input) });
        tokio::task::yield_now().await;
        teller.input();
        assert!(heard.await.expect("no panic"));
    }

    #[test]
    fn the_system_waits_until_its_last_announcement_is_dealt_with_or_is_over() {
        let (teller, told) = words();
        let gone = Arc::<AtomicBool>::default();
        teller.announce(Announcement::Sleep, Some(Delay::new(Lock(gone.clone()))));
        teller.announce(Announcement::Shutdown, None);
        let Some(Word::Announced(Announcement::Shutdown, Some(delay))) = told.take() else { panic!("it waits for both") };
        assert!(!gone.load(Ordering::Relaxed));
        drop(delay);

        let gone = Arc::<AtomicBool>::default();
        teller.announce(Announcement::Sleep, Some(Delay::new(Lock(gone.clone()))));
        teller.announce(Announcement::Awake, None);
        assert!(gone.load(Ordering::Relaxed), "it is awake again");
    }

    #[test]
    fn a_source_learns_that_the_agent_has_ended() {
        let (teller, told) = words();
        assert!(teller.announce(Announcement::Awake, None));
        drop(told);
        assert!(!teller.announce(Announcement::Awake, None));
    }
}
