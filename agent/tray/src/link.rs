//! One connection to the agent: what it tells, what it is told, and how it is found again.
//!
//! ```text
//! looking --joined--> joined --closed, broken--> looking, after a pause
//!                       | End
//!                       v
//!                     over: this program ends
//! ```

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use lull_desk::{Companion, Farewell, IpcError, News, Request, Whom, Word};
use tokio::{sync::mpsc, time::sleep};

use crate::face::{Action, View};

/// The pause before an agent that is not there is looked for again.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The shortest pause that an agent takes.
const SNOOZE_MIN: Duration = Duration::from_secs(1);
/// Words that may wait: all of them say that there is input.
pub const WORDS_MAX: usize = 16;

/// Whose state is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    Agent(Whom),
    /// Tests: of an agent that is made up, as this file has it in JSON; none without such a file.
    File(PathBuf),
}

/// How often such a file is looked at.
const FILE_LOOK: Duration = Duration::from_millis(200);

/// What comes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    View(View),
    /// Whether functions run.
    Watch {
        closely: bool,
    },
    End(Farewell),
}

impl Whose {
    /// Stays with it, and never ends by itself. `sees` is what an agent is told first, by whoever sees a desktop.
    pub async fn follow(&self, words: mpsc::Receiver<Word>, sees: impl Fn() -> Option<Word>, hear: impl Fn(Heard)) {
        match self {
            Self::Agent(whom) => follow(whom, words, sees, hear).await,
            Self::File(path) => watch(path, hear).await,
        }
    }

    /// Has the agent do what was chosen, if it is something of the agent's.
    pub async fn choose(&self, action: &Action, now: Timestamp) -> Result<(), String> {
        match (self, request(action, now)) {
            (Self::Agent(whom), Some(request)) => whom.ask(&request).await.map(drop).map_err(|error| error.to_string()),
            (Self::File(_), Some(_)) => Err("there is no agent, only a file that was made up".into()),
            (_, None) => Ok(()),
        }
    }
}

async fn watch(path: &Path, hear: impl Fn(Heard)) {
    let mut before = View::Unknown;
    loop {
        let view = match std::fs::read(path).map(|text| serde_json::from_slice(&text)) {
            Ok(Ok(status)) => View::Present(status),
            Ok(Err(error)) => View::Absent { why: error.to_string() },
            Err(_) => View::Absent { why: String::new() },
        };
        if view != before {
            before = view.clone();
            hear(Heard::View(view));
        }
        sleep(FILE_LOOK).await;
    }
}

/// Stays with the agent, and never ends by itself.
async fn follow(whom: &Whom, mut words: mpsc::Receiver<Word>, sees: impl Fn() -> Option<Word>, hear: impl Fn(Heard)) {
    let mut pause = RETRY_MIN;
    loop {
        match Companion::join(whom).await {
            Ok(companion) => {
                pause = RETRY_MIN;
                // What was told while nobody listened is in what is said first.
                while words.try_recv().is_ok() {}
                stay(companion, &mut words, &sees, &hear).await;
                hear(Heard::View(View::Absent { why: String::new() }));
            }
            Err(error) => hear(Heard::View(View::Absent { why: why(&error) })),
        }
        hear(Heard::Watch { closely: false });
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn stay(companion: Companion, words: &mut mpsc::Receiver<Word>, sees: &impl Fn() -> Option<Word>, hear: &impl Fn(Heard)) {
    let Companion { mut ears, mut mouth } = companion;
    let hearing = async {
        // An answer that is not understood is one of another version: it is left, and joined again after a pause.
        while let Ok(Some(news)) = ears.next().await {
            match news {
                News::Status(status) => hear(Heard::View(View::Present(status))),
                News::Watch { closely } => hear(Heard::Watch { closely }),
                News::End { reason } => {
                    hear(Heard::End(reason));
                    // The connection closes with the process: whoever replaces its file waits for that.
                    return std::future::pending().await;
                }
            }
        }
    };
    let saying = async {
        let mut next = sees();
        loop {
            if let Some(word) = next
                && mouth.say(&word).await.is_err()
            {
                return;
            }
            next = match words.recv().await {
                Some(word) => Some(word),
                // Nobody here sees anything; the agent speaks on.
                None => return std::future::pending().await,
            };
        }
    };
    tokio::select! {
        () = hearing => {}
        () = saying => {}
    }
}

/// Why the agent is not there, for somebody who did not start it.
fn why(error: &IpcError) -> String {
    match error {
        IpcError::NotRunning(_) => String::new(),
        other => other.to_string(),
    }
}

fn request(action: &Action, now: Timestamp) -> Option<Request> {
    match action {
        Action::Snooze(until) => {
            let length = Duration::try_from(until.duration_since(now)).unwrap_or_default().max(SNOOZE_MIN);
            Some(Request::Pause { for_ms: Some(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)) })
        }
        Action::Resume => Some(Request::Resume),
        Action::ShowGrants | Action::OpenPortal(_) | Action::About => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_asked_for_by_its_length_and_never_by_none() {
        let now: Timestamp = "2026-11-30T21:14:00Z".parse().expect("a time");
        let until = |text: &str| Action::Snooze(text.parse().expect("a time"));
        let asked = |action: &Action| request(action, now);
        assert_eq!(asked(&until("2026-11-30T22:14:00Z")), Some(Request::Pause { for_ms: Some(3_600_000) }));
        assert_eq!(asked(&until("2026-11-30T20:00:00Z")), Some(Request::Pause { for_ms: Some(1_000) }), "a menu that stood open");
        assert_eq!(asked(&Action::Resume), Some(Request::Resume));
        assert_eq!(asked(&Action::About), None);
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_looked_for_without_an_end() {
        let data = tempfile::tempdir().expect("a folder");
        let (_said, words) = mpsc::channel(WORDS_MAX);
        let (heard, mut news) = mpsc::channel(64);
        let whom = Whom::Folder(data.path().to_owned());
        let following = tokio::spawn(async move { follow(&whom, words, || None, |news| drop(heard.try_send(news))).await });
        for _ in 0..2 {
            assert_eq!(news.recv().await, Some(Heard::View(View::Absent { why: String::new() })));
            assert_eq!(news.recv().await, Some(Heard::Watch { closely: false }));
        }
        following.abort();
    }
}
