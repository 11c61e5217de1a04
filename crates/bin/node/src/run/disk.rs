//! A disk that is full, read-only or silent: the node signs nothing, says so, and begins again when that is over.

use super::core::CoreError;
use aequa_host::HostError;
use aequa_replica::Halt;
use rustix::fs::statvfs;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the disk is tried.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// Room a start needs: the next segment of the vote log, and some for the block store.
const ROOM_BYTES: u64 = 64 << 20;
/// File descriptors a start needs, about.
const DESCRIPTORS: usize = 64;
/// Written to see whether the disk takes it.
const PROBE_BYTES: usize = 1 << 16;
/// Directories in which a sync that failed may have left what is in memory only.
const SYNCED: [&str; 2] = ["wal", "signing"];

/// Whether a core ended for something that may pass.
pub fn may_pass(error: &CoreError) -> bool {
    match error {
        HostError::Votes(error) | HostError::Store(error) | HostError::Directory(error) => error.may_pass(),
        HostError::Members(_) => false,
        HostError::Stop(Halt::Impossible(_) | Halt::SignedElsewhere { .. } | Halt::Diverged { .. }) => false,
    }
}

/// Ends when the directory can be written again, and what was written before is durable.
pub async fn usable(data_dir: PathBuf) {
    loop {
        tokio::time::sleep(TRY_EVERY).await;
        let dir = data_dir.clone();
        let tried = tokio::task::spawn_blocking(move || probe(&dir).and_then(|()| write_again(&dir))).await;
        match tried {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::debug!(%error, "the disk is not usable yet"),
            Err(error) => tracing::debug!(%error, "the disk could not be tried"),
        }
    }
}

fn probe(dir: &Path) -> io::Result<()> {
    let space = statvfs(dir)?;
    if space.f_bavail.saturating_mul(space.f_frsize) < ROOM_BYTES {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let _descriptors: Vec<File> = (0..DESCRIPTORS).map(|_| File::open(dir)).collect::<Result<_, _>>()?;
    let path = dir.join("probe.tmp");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[0x5a; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// Writes the same bytes once more, and syncs them. After a sync that failed, what can be read may be in memory only, and
/// a further sync would have nothing to do: what the next start reads has to be on the disk.
fn write_again(dir: &Path) -> io::Result<()> {
    for part in SYNCED {
        let Ok(files) = fs::read_dir(dir.join(part)) else { continue };
        for file in files {
            let path = file?.path();
            if !path.is_file() {
                continue;
            }
            let bytes = fs::read(&path)?;
            let mut file = OpenOptions::new().write(true).open(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usable_disk_is_usable_and_its_files_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("wal")).unwrap();
        fs::write(dir.path().join("wal/segment"), [7; 100_000]).unwrap();
        probe(dir.path()).unwrap();
        write_again(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("wal/segment")).unwrap(), [7; 100_000]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the probe is gone");
        assert!(probe(&dir.path().join("nowhere")).is_err());
    }
}
