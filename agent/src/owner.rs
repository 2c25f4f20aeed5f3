//! The owner's word, kept over a restart: a machine that was paused stays paused.

use std::{fs, io, path::Path};

use lull_engine::files;
use lull_session::guard::OwnerWord;
use lull_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    paused: bool,
    until: Option<Timestamp>,
}

/// Writes the owner's word into the data folder.
pub fn remember(data: &Path, word: OwnerWord) -> io::Result<()> {
    let path = data.join("owner.json");
    match word {
        OwnerWord::Run => files::remove_if_there(&path),
        OwnerWord::Pause { until } => {
            let stored = serde_json::to_vec(&Stored { paused: true, until }).map_err(io::Error::other)?;
            files::replace_private(&path, &stored)
        }
    }
}

/// What the owner said last. A file that cannot be read counts as a pause: the owner comes first.
pub fn recall(data: &Path) -> OwnerWord {
    let path = data.join("owner.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return OwnerWord::Run,
        Err(_) => Vec::new(),
    };
    match serde_json::from_slice::<Stored>(&text) {
        Ok(Stored { paused: true, until }) => OwnerWord::Pause { until },
        Ok(Stored { paused: false, .. }) => OwnerWord::Run,
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "whether the owner paused cannot be read; paused until `lull-agent resume`");
            OwnerWord::Pause { until: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_survives_a_restart_and_damage_fails_safe() {
        let data = tempfile::tempdir().expect("a folder");
        assert_eq!(recall(data.path()), OwnerWord::Run);
        let word = OwnerWord::Pause { until: Some(Timestamp::from_millis(5)) };
        remember(data.path(), word).expect("written");
        assert_eq!(recall(data.path()), word);
        fs::write(data.path().join("owner.json"), b"{").expect("damage");
        assert_eq!(recall(data.path()), OwnerWord::Pause { until: None });
        remember(data.path(), OwnerWord::Run).expect("removed");
        assert_eq!(recall(data.path()), OwnerWord::Run);
    }
}
