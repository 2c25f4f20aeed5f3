//! Room on the disk before anything is begun: a coordinator that finds none says so and waits.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// What a start writes at least: keys, and the first pages of a database and its log.
const ROOM_BYTES: usize = 1024 * 1024;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// Waits until there is room in each of these folders, as far as they are there. Whatever else is wrong is for others to
/// say, with what they wanted to do. False when it was told to stop before.
pub(super) async fn wait(folders: &[PathBuf], shutdown: &CancellationToken) -> bool {
    wait_by(probe, LOOK, folders, shutdown).await
}

async fn wait_by(
    mut probe: impl FnMut(&Path) -> io::Result<()>,
    pause: Duration,
    folders: &[PathBuf],
    shutdown: &CancellationToken,
) -> bool {
    for folder in folders {
        let mut told = false;
        while probe(folder).is_err_and(|error| is_full(&error)) {
            if !told {
                let folder = folder.display();
                tracing::warn!(%folder, "the disk is full; the coordinator waits and starts by itself when there is room");
                told = true;
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return false;
            }
        }
        if told {
            tracing::info!(folder = %folder.display(), "there is room on the disk again");
        }
    }
    true
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes what is gone again when this returns.
fn probe(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![0; ROOM_BYTES])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[tokio::test]
    async fn it_waits_while_the_disk_is_full_and_not_for_anything_else() {
        let mut answers = vec![full(), full(), Ok(()), full(), Err(io::ErrorKind::PermissionDenied.into())].into_iter();
        let folders = [PathBuf::from("data"), PathBuf::from("store")];
        let mut asked = Vec::new();
        let probe = |folder: &Path| {
            asked.push(folder.to_owned());
            answers.next().expect("no more is asked")
        };
        assert!(wait_by(probe, Duration::ZERO, &folders, &CancellationToken::new()).await);
        assert_eq!(asked.iter().filter(|folder| **folder == folders[0]).count(), 3);
        assert_eq!(asked.len(), 5);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_can_be_told_to_stop() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(!wait_by(|_| full(), Duration::from_secs(3600), &["data".into()], &stop).await);
    }

    #[test]
    fn a_look_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        probe(folder.path()).expect("there is room");
        assert_eq!(folder.path().read_dir().expect("it is here").count(), 0);
    }
}
