//! What this session's people do, told to the agent: that there is input, and never what it was.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lull_desk::{Word, companion::WORD_GAP};
use tokio::sync::mpsc;

/// What was seen, and whom it is told.
pub(super) struct Sight {
    said: mpsc::Sender<Word>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// When the last input was, while it is seen.
    last: Option<Instant>,
    /// When that was said.
    told: Option<Instant>,
}

impl Sight {
    pub(super) fn new(said: mpsc::Sender<Word>) -> Self {
        Self { said, seen: Mutex::default() }
    }

    /// What an agent is told first.
    pub(super) fn first(&self) -> Option<Word> {
        let last = self.seen().last?;
        Some(Word::Sees { idle_ms: u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX) })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where words wait already they say that there is input, or nobody listens.
    fn say(&self, word: Word) {
        let _ = self.said.try_send(word);
    }
}

impl lull_windows::input::Sight for Sight {
    fn opens(&self, ago: Duration) {
        let now = Instant::now();
        self.seen().last = Some(now.checked_sub(ago).unwrap_or(now));
        self.say(Word::Sees { idle_ms: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX) });
    }

    fn touched(&self) {
        let now = Instant::now();
        let mut seen = self.seen();
        seen.last = Some(now);
        if seen.told.is_none_or(|told| now.duration_since(told) >= WORD_GAP) {
            seen.told = Some(now);
            drop(seen);
            self.say(Word::Input);
        }
    }

    fn closes(&self, why: &io::Error) {
        self.seen().last = None;
        self.say(Word::Blind { why: why.to_string() });
    }
}
