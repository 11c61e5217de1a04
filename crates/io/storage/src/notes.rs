//! Facts that one start leaves for the next: a small file each, whose being there is what counts.

use crate::StorageError;
use crate::files::at;
use crate::medium::{Medium, write_all};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest text; more is not written.
const TEXT_BYTES_MAX: usize = 1024;

/// The notes in one directory.
#[derive(Clone)]
pub struct Notes {
    dir: PathBuf,
    medium: Arc<dyn Medium>,
}

impl Notes {
    /// The notes in `dir`, which exists.
    pub fn new(dir: &Path, medium: Arc<dyn Medium>) -> Self {
        Self { dir: dir.to_path_buf(), medium }
    }

    /// Leaves a note, in place of the one of that name; durable on return. A crash leaves one of both.
    pub fn put(&self, name: &str, text: &str) -> Result<(), StorageError> {
        let (path, draft) = (self.dir.join(name), self.dir.join(format!("{name}.tmp-note")));
        let text = format!("{}\n", &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]);
        self.medium.remove(&draft).map_err(at("remove", &draft))?;
        let file = self.medium.create(&draft).map_err(at("create", &draft))?;
        write_all(&*file, text.as_bytes(), 0).map_err(at("write", &draft))?;
        file.sync().map_err(at("sync", &draft))?;
        self.medium.rename(&draft, &path).map_err(at("rename to", &path))?;
        self.sync_dir()
    }

    /// The text of a note that is there.
    pub fn get(&self, name: &str) -> Result<Option<String>, StorageError> {
        let path = self.dir.join(name);
        match self.medium.read(&path, 2 * TEXT_BYTES_MAX as u64) {
            Ok(Some(text)) => Ok(Some(String::from_utf8_lossy(&text).trim_end().to_owned())),
            // Not one of ours, but it is there.
            Ok(None) => Ok(Some(format!("{} is too long to be read", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("read", &path)(error)),
        }
    }

    /// Removes a note durably; that there is none is fine.
    pub fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.dir.join(name);
        self.medium.remove(&path).map_err(at("remove", &path))?;
        self.sync_dir()
    }

    fn sync_dir(&self) -> Result<(), StorageError> {
        self.medium.sync_dir(&self.dir).map_err(at("sync directory", &self.dir))
    }
}

impl std::fmt::Debug for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notes").field("dir", &self.dir).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::SystemMedium;
    use crate::medium::testing::BadDisk;
    use std::sync::atomic::Ordering::SeqCst;

    #[test]
    fn ended_at_any_call_a_note_is_the_old_or_the_new_one_and_never_gone() {
        let dir = tempfile::tempdir().unwrap();
        let sound = Notes::new(dir.path(), Arc::new(SystemMedium));
        for (calls, kind) in (1..6).flat_map(|calls| [(calls, 0), (calls, 1), (calls, 2)]) {
            sound.put("suspect", "old").unwrap();
            let disk = Arc::new(BadDisk::default());
            [&disk.names_left, &disk.writes_left, &disk.syncs_left][kind].store(calls, SeqCst);
            let put = Notes::new(dir.path(), Arc::new(disk)).put("suspect", "new");
            let found = sound.get("suspect").unwrap().unwrap();
            assert!(
                found == "new" || (put.is_err() && found == "old"),
                "call {calls} of kind {kind}: {found}"
            );
        }
        sound.remove("suspect").unwrap();
        assert_eq!(sound.get("suspect").unwrap(), None);
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_a_foreign_one_is_still_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let notes = Notes::new(dir.path(), Arc::new(SystemMedium));
        notes.put("suspect", &"ä".repeat(TEXT_BYTES_MAX)).unwrap();
        assert_eq!(notes.get("suspect").unwrap().unwrap(), "ä".repeat(TEXT_BYTES_MAX / 2));
        for foreign in [vec![b'x'; 1 << 20], vec![0xff; 10], vec![]] {
            std::fs::write(dir.path().join("suspect"), foreign).unwrap();
            assert!(notes.get("suspect").unwrap().is_some());
        }
    }
}
