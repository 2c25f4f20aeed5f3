//! What trays tell of their sessions, to a service that sees none.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lull_desk::Word;

use super::super::eyes::Eyes;

const ABOUT: &str = "keyboard and mouse of that session";

/// How many trays see each session.
static SEEN: Mutex<BTreeMap<u32, usize>> = Mutex::new(BTreeMap::new());

fn seen() -> MutexGuard<'static, BTreeMap<u32, usize>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a tray sees this session.
pub(super) fn see(session: u32) -> bool {
    seen().contains_key(&session)
}

/// One tray. Dropping it is its end.
pub struct Tray {
    eyes: Arc<Eyes>,
    session: u32,
    name: String,
    sees: bool,
}

impl Tray {
    pub(super) fn new(eyes: Arc<Eyes>, session: u32) -> Self {
        Self { eyes, session, name: format!("tray of session {session}"), sees: false }
    }

    /// Takes its word.
    pub fn tell(&mut self, word: Word) {
        match word {
            Word::Sees { idle_ms } => {
                if !std::mem::replace(&mut self.sees, true) {
                    *seen().entry(self.session).or_default() += 1;
                }
                self.eyes.opens(self.name.clone(), ABOUT);
                self.eyes.rests(&self.name, Duration::from_millis(idle_ms));
                super::look_again();
            }
            Word::Input => self.eyes.touched(&self.name),
            Word::Blind { why } => {
                if self.leave() {
                    self.eyes.closes(self.name.clone(), ABOUT, why);
                }
                super::look_again();
            }
        }
    }

    /// Sees no more; true if no other tray sees that session.
    fn leave(&mut self) -> bool {
        let mut seen = seen();
        if std::mem::take(&mut self.sees)
            && let Some(trays) = seen.get_mut(&self.session)
        {
            *trays -= 1;
            if *trays == 0 {
                seen.remove(&self.session);
            }
        }
        !seen.contains_key(&self.session)
    }
}

impl Drop for Tray {
    fn drop(&mut self) {
        if self.leave() {
            self.eyes.forget(&self.name);
        }
        // Others see for it from now on.
        super::look_again();
    }
}
