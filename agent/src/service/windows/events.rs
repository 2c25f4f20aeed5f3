//! What an administrator must see, in the event log of Windows: sources `Lull Agent` and `Lull Coordinator` in `Application`.
//!
//! | id | kind | |
//! |---|---|---|
//! | 100 | information | the service has started |
//! | 101 | information | it has stopped, as it was told to |
//! | 102 | error | it cannot run, and why |
//! | 103 | error | this machine has not joined a network, and has nothing to join with |
//! | 104 | information | Windows is about to end; running work is given away |
//! | 105 | information | this machine has joined a network with the token that was left for it |
//! | 106 | error | that token will never do: it is deleted; a policy's is not tried again |
//! | 107 | warning | this machine could not join yet, and tries again |
//! | 200 | error | what the log has as an error while the service runs |

use std::{fmt::Write as _, ptr};

use lull_engine::windows::wide;
use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, layer::Context};
use windows_sys::Win32::{
    Foundation::HANDLE,
    System::EventLog::{
        EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE, RegisterEventSourceW, ReportEventW,
    },
};

/// The longest text that the log takes, with room to spare.
const WORDS_MAX: usize = 30_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Started = 100,
    Stopped = 101,
    Failed = 102,
    NotJoined = 103,
    HandsOver = 104,
    Joined = 105,
    TokenVoid = 106,
    NotJoinedYet = 107,
    Error = 200,
}

impl Event {
    fn kind(self) -> u16 {
        match self {
            Self::Started | Self::Stopped | Self::HandsOver | Self::Joined => EVENTLOG_INFORMATION_TYPE,
            Self::NotJoinedYet => EVENTLOG_WARNING_TYPE,
            Self::Failed | Self::NotJoined | Self::TokenVoid | Self::Error => EVENTLOG_ERROR_TYPE,
        }
    }
}

/// The log. Where there is none nothing is written.
#[derive(Clone, Copy)]
pub struct EventLog(HANDLE);

// SAFETY: any thread may write through the handle, which stays open as long as the process.
unsafe impl Send for EventLog {}
// SAFETY: as above.
unsafe impl Sync for EventLog {}

impl EventLog {
    /// For words of this source.
    pub fn open(source: &str) -> Self {
        // SAFETY: the name ends in a zero; no other machine is meant.
        Self(unsafe { RegisterEventSourceW(ptr::null(), wide(source).as_ptr()) })
    }

    /// Writes down that this has happened.
    pub fn write(self, event: Event, words: &str) {
        if self.0.is_null() {
            return;
        }
        let words: String = words.chars().take(WORDS_MAX).collect();
        let words = wide(words);
        let texts = [words.as_ptr()];
        // SAFETY: the handle is open, and one text is given, which ends in a zero.
        unsafe { ReportEventW(self.0, event.kind(), 0, event as u32, ptr::null_mut(), 1, 0, texts.as_ptr(), ptr::null()) };
    }
}

impl<S: tracing::Subscriber> Layer<S> for EventLog {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::ERROR {
            let mut words = Words::default();
            event.record(&mut words);
            self.write(Event::Error, &(words.message + &words.fields));
        }
    }
}

/// An entry of the log in words: what it says, then its fields.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, "\n{name}: {value:?}"),
        };
    }
}
