//! What an agent and a tray tell each other while both live, each line a JSON value.
//!
//! ```text
//! tray  -- Accompany ------------------------> agent     the last request of a connection
//!       <- Done, Status -----------------------           at once
//!       <- Status, when it changed, at most once a second
//!       <- Watch { closely } ------------------           whether functions run
//!       -- Sees { idle_ms }, Input, Blind ---->           where the tray sees a desktop that the agent does not
//!       <- End { reason } ---------------------           the tray ends
//! ```
//! A connection that closes without `End` is an agent that stopped: the tray stays, and looks for the next one.

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::io::{BufReader, ReadHalf, WriteHalf};

use crate::{
    client::{self, Whom},
    status::Status,
    sys,
    words::{IpcError, Request},
};

/// A tray's line; the longest is far below it.
pub const WORD_BYTES_MAX: u64 = 1024;
/// A tray says at most so often that there is input: the guard learns nothing from more.
pub const WORD_GAP: Duration = Duration::from_millis(20);

/// What an agent tells its companions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub enum News {
    Status(Box<Status>),
    /// Whether functions run: the owner's input is looked for more often then.
    Watch {
        closely: bool,
    },
    /// There is to be no companion for now.
    End {
        reason: Farewell,
    },
}

/// Why companions are to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Farewell {
    Upgrade,
    Uninstall,
}

/// What a companion tells of the people at its desk: that there is input, never what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case", deny_unknown_fields)]
pub enum Word {
    /// From now on it sees input; the last was so long ago.
    Sees {
        idle_ms: u64,
    },
    Input,
    /// It sees no input, or no more, and why.
    Blind {
        why: String,
    },
}

/// One end of such a connection: the tray's.
pub struct Companion {
    pub ears: Ears,
    pub mouth: Mouth,
}

/// Hears news.
pub struct Ears(BufReader<ReadHalf<sys::Stream>>);

/// Says words.
pub struct Mouth(WriteHalf<sys::Stream>);

impl Companion {
    /// Joins an agent.
    pub async fn join(whom: &Whom) -> Result<Self, IpcError> {
        let (reader, mut writer) = tokio::io::split(whom.connect().await?);
        let mut reader = BufReader::new(reader);
        client::exchange(&mut reader, &mut writer, &Request::Accompany).await?;
        Ok(Self { ears: Ears(reader), mouth: Mouth(writer) })
    }
}

impl Ears {
    /// The next news; none when the agent has stopped.
    pub async fn next(&mut self) -> Result<Option<News>, IpcError> {
        client::read(&mut self.0).await
    }
}

impl Mouth {
    /// Says something.
    pub async fn say(&mut self, word: &Word) -> io::Result<()> {
        client::write(&mut self.0, word).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_told_is_one_short_line_of_json() {
        let line = |word: &Word| serde_json::to_string(word).expect("JSON");
        assert_eq!(line(&Word::Input), r#"{"word":"input"}"#);
        assert_eq!(line(&Word::Sees { idle_ms: 5 }), r#"{"word":"sees","idle_ms":5}"#);
        let end = serde_json::to_string(&News::End { reason: Farewell::Upgrade }).expect("JSON");
        assert_eq!(end, r#"{"news":"end","reason":"upgrade"}"#);
    }

    proptest! {
        #[test]
        fn nothing_that_a_companion_writes_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,100}") {
            let _ = serde_json::from_slice::<Word>(&bytes);
            let _ = serde_json::from_str::<News>(&text);
        }
    }
}
