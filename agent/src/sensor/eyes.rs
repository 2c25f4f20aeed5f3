//! What all sources have seen, put together.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lull_session::guard::Announcement;

use super::{
    Source,
    word::{Delay, Teller},
};

/// Sources that tell of quiet do so after this long without input.
pub(super) const QUIET: Duration = Duration::from_millis(300);
/// Whether input goes on is looked at this long after it began: later than a bump lasts, before it would be forgiven.
#[cfg(target_os = "linux")]
const LOOK_AGAIN: Duration = Duration::from_millis(1_000);
/// A line that people read in a table.
const WHY_CHARS_MAX: usize = 200;
/// Input is told of at most this often; the guard learns nothing from more.
const TELL_GAP: Duration = Duration::from_millis(20);

/// Shared by all sources.
pub(super) struct Eyes {
    teller: Teller,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sources: BTreeMap<Name, Eye>,
    told: Option<Instant>,
    full_screen: bool,
    metered: bool,
    lid_closed: bool,
}

/// What a source is called.
type Name = Cow<'static, str>;

/// One source.
struct Eye {
    about: &'static str,
    missing: Option<String>,
    /// None for one that does not see input.
    input: Option<Moved>,
    /// Others see better what it sees.
    aside: bool,
}

/// The last input that a source saw.
#[derive(Clone, Copy)]
enum Moved {
    /// It began then and goes on; the last was no longer ago than [`QUIET`].
    Since(Instant),
    /// It was then.
    Last(Instant),
}

/// What the sources see together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// None when nothing sees input.
    pub idle: Option<Duration>,
    pub full_screen: bool,
    pub metered: bool,
    pub lid_closed: bool,
}

impl Eyes {
    pub(super) fn new(teller: Teller) -> Self {
        Self { teller, state: Mutex::default() }
    }

    /// A source sees, from now on; input only if it goes on to say so.
    pub(super) fn opens(&self, name: impl Into<Name>, about: &'static str) {
        let (name, mut state) = (name.into(), self.state());
        let before = state.sources.get(&name);
        let (input, aside) = (before.and_then(|eye| eye.input), before.is_some_and(|eye| eye.aside));
        state.sources.insert(name, Eye { about, missing: None, input, aside });
    }

    /// A source does not see, and why.
    pub(super) fn closes(&self, name: impl Into<Name>, about: &'static str, why: impl Into<String>) {
        let name = name.into();
        // A service may answer with pages.
        let why: String = why.into().lines().next().unwrap_or_default().chars().take(WHY_CHARS_MAX).collect();
        let eye = Eye { about, missing: Some(why.clone()), input: None, aside: false };
        let before = self.state().sources.insert(name.clone(), eye);
        if before.is_some_and(|before| before.missing.is_none()) {
            tracing::info!(source = &*name, why, "a source of the sensor is lost");
        }
    }

    /// A source is not there any more, and nobody misses it.
    #[cfg(any(windows, test))]
    pub(super) fn forget(&self, name: &str) {
        self.state().sources.remove(name);
    }

    /// Whether what a source sees of input counts, or others see that better.
    #[cfg(any(windows, test))]
    pub(super) fn set_aside(&self, name: &str, aside: bool) {
        if let Some(eye) = self.state().sources.get_mut(name) {
            eye.aside = aside;
        }
    }

    /// There is input now, and perhaps more to come until [`Self::rests`].
    #[cfg(target_os = "linux")]
    pub(super) fn moves(self: &std::sync::Arc<Self>, name: &'static str) {
        self.see(name, Moved::Since(Instant::now()));
        self.teller.input();
        let eyes = std::sync::Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(LOOK_AGAIN).await;
            eyes.teller.look();
        });
    }

    /// Somebody is there from now on, until [`Self::rests`].
    #[cfg(windows)]
    pub(super) fn is_there(&self, name: &'static str) {
        self.see(name, Moved::Since(Instant::now()));
        self.teller.input();
    }

    /// Something may have changed that is only asked for.
    #[cfg(windows)]
    pub(super) fn look(&self) {
        self.teller.look();
    }

    /// There was input now.
    pub(super) fn touched(&self, name: &str) {
        self.see(name, Moved::Last(Instant::now()));
        let mut state = self.state();
        if state.told.is_none_or(|told| told.elapsed() >= TELL_GAP) {
            state.told = Some(Instant::now());
            drop(state);
            self.teller.input();
        }
    }

    /// The last input was so long ago.
    pub(super) fn rests(&self, name: &str, ago: Duration) {
        let now = Instant::now();
        self.see(name, Moved::Last(now.checked_sub(ago).unwrap_or(now)));
    }

    /// Whether a source sees input.
    pub(super) fn sees_input(&self, name: &str) -> bool {
        self.state().sources.get(name).is_some_and(|eye| eye.input.is_some())
    }

    /// Something fills the screen, or does not any more.
    pub(super) fn set_full_screen(&self, full_screen: bool) {
        self.state().full_screen = full_screen;
    }

    /// The network is metered, or not.
    pub(super) fn set_metered(&self, metered: bool) {
        self.state().metered = metered;
    }

    /// The lid is closed, or not.
    pub(super) fn set_lid_closed(&self, closed: bool) {
        self.state().lid_closed = closed;
    }

    /// The operating system announces something; false when the agent has ended.
    pub(super) fn announce(&self, announcement: Announcement, delay: Option<Delay>) -> bool {
        self.teller.announce(announcement, delay)
    }

    pub(super) fn seen(&self) -> Seen {
        let state = self.state();
        let ago = |moved: Moved| match moved {
            Moved::Since(since) => since.elapsed().min(QUIET),
            Moved::Last(at) => at.elapsed(),
        };
        Seen {
            idle: state.sources.values().filter(|eye| !eye.aside).filter_map(|eye| eye.input).map(ago).min(),
            full_screen: state.full_screen,
            metered: state.metered,
            lid_closed: state.lid_closed,
        }
    }

    pub(super) fn sources(&self) -> Vec<Source> {
        let source = |(name, eye): (&Name, &Eye)| Source {
            name: name.clone().into_owned(),
            about: eye.about.to_owned(),
            missing: eye.missing.clone(),
        };
        self.state().sources.iter().map(source).collect()
    }

    fn see(&self, name: &str, moved: Moved) {
        if let Some(eye) = self.state().sources.get_mut(name)
            && eye.missing.is_none()
        {
            eye.input = Some(moved);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sensor::{Word, words};

    #[test]
    fn a_source_that_others_see_better_than_does_not_count_until_they_go() {
        let (teller, _told) = words();
        let eyes = Eyes::new(teller);
        eyes.opens("presence", "somebody");
        eyes.touched("presence");
        let tray = format!("tray of session {}", 3);
        eyes.opens(tray.clone(), "input");
        eyes.rests(&tray, Duration::from_secs(3_600));
        let idle_s = || eyes.seen().idle.expect("it is seen").as_secs();
        assert_eq!(idle_s(), 0, "somebody is about");
        eyes.set_aside("presence", true);
        eyes.opens("presence", "somebody");
        assert_eq!(idle_s(), 3_600, "and not at the desk");
        assert!(eyes.sources().iter().any(|source| source.name == tray));
        eyes.forget(&tray);
        eyes.set_aside("presence", false);
        assert_eq!(idle_s(), 0);
    }

    #[tokio::test]
    async fn the_latest_input_of_any_source_counts_and_a_lost_source_does_not() {
        let (teller, told) = words();
        let eyes = Arc::new(Eyes::new(teller));
        assert_eq!(eyes.seen().idle, None, "nobody sees anything");
        eyes.opens("a", "input");
        eyes.opens("b", "input");
        assert_eq!(eyes.seen().idle, None, "nobody has said when the last input was");
        eyes.rests("a", Duration::from_secs(3_600));
        eyes.rests("b", Duration::from_secs(60));
        let idle = || eyes.seen().idle.expect("it is seen").as_secs() / 10;
        assert_eq!(idle(), 6);
        eyes.moves("a");
        assert_eq!(idle(), 0);
        assert!(matches!(told.next().await, Word::Input), "told at once");
        assert!(matches!(told.next().await, Word::Look), "and looked at again");
        eyes.closes("a", "input", "it is gone");
        assert_eq!(idle(), 6);
        eyes.rests("a", Duration::ZERO);
        assert_eq!(idle(), 6, "a late word of a lost source");
        let missing: Vec<_> = eyes.sources().into_iter().filter_map(|source| source.missing).collect();
        assert_eq!(missing, ["it is gone"]);
    }
}
