//! Folders that are made all at once.
//!
//! Everything is written into a draft beside the place, `.<name>.tmp-<pid>`, made durable, and moved there in
//! one step. Whoever makes a draft holds an advisory lock on it, so that one without is known to be left of a
//! run that was interrupted: the next run for the same place removes it, with the keys in it, and says so.

use crate::files;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// A folder under construction; dropping it removes it.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    target: PathBuf,
    _held: File,
}

impl Draft {
    /// Begins the folder `target`, and removes what interrupted runs have left of it; gives their paths.
    pub fn begin(target: &Path) -> Result<(Self, Vec<PathBuf>)> {
        let name = target.file_name().ok_or_else(|| Error::other("it is no folder name"))?;
        let parent = parent(target);
        std::fs::create_dir_all(parent)?;
        let beginning = format!(".{}.tmp-", name.to_string_lossy());
        let removed = remove_orphans(parent, &beginning)?;
        let path = parent.join(format!("{beginning}{}", std::process::id()));
        files::make_private_dir(&path)?;
        let held = File::open(&path)?;
        held.try_lock().map_err(Error::from)?;
        Ok((Self { path, target: target.to_path_buf(), _held: held }, removed))
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves everything into place, over a missing or empty folder; anything else is an error of the file
    /// system. Durable on return.
    pub fn publish(self) -> Result<()> {
        files::sync_dir(&self.path)?;
        std::fs::rename(&self.path, &self.target)?;
        files::sync_dir(parent(&self.target))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Published it is not there any more; what cannot be removed now goes with the next run.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn remove_orphans(parent: &Path, beginning: &str) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(beginning) || !entry.file_type()?.is_dir() {
            continue;
        }
        // Held, it belongs to somebody who runs; gone, somebody else was faster.
        if File::open(entry.path()).is_ok_and(|held| held.try_lock().is_ok()) {
            match std::fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => removed.push(entry.path()),
            }
        }
    }
    Ok(removed)
}

/// The folder `path` is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("c");
        let (draft, removed) = Draft::begin(&target).unwrap();
        assert!(removed.is_empty());
        std::fs::write(draft.path().join("one"), b"1").unwrap();
        drop(draft);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::create_dir(&target).unwrap();
        let (draft, _) = Draft::begin(&target).unwrap();
        std::fs::write(draft.path().join("one"), b"1").unwrap();
        draft.publish().unwrap();
        assert_eq!(std::fs::read(target.join("one")).unwrap(), b"1");
        let (draft, _) = Draft::begin(&target).unwrap();
        assert!(draft.publish().is_err(), "a folder with something in it stays");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_an_interrupted_run_left_is_removed_and_what_a_running_one_makes_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("c");
        let orphan = dir.path().join(".c.tmp-1");
        std::fs::create_dir_all(orphan.join("node0/keys")).unwrap();
        std::fs::write(orphan.join("node0/keys/identity.txt"), b"secret").unwrap();
        let others = [".d.tmp-1", "c.tmp-1", ".c"].map(|name| dir.path().join(name));
        others.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        let running = dir.path().join(".c.tmp-2");
        std::fs::create_dir(&running).unwrap();
        let held = File::open(&running).unwrap();
        held.try_lock().unwrap();

        let (_draft, removed) = Draft::begin(&target).unwrap();
        assert_eq!(removed, std::slice::from_ref(&orphan));
        assert!(!orphan.exists() && running.exists() && others.iter().all(|path| path.exists()));
    }
}
