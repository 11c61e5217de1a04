//! Folders that are gone when nobody needs them any more.

use crate::error::BenchError;
use std::path::{Path, PathBuf};

/// A folder of its own; removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it in `parent`.
    pub fn new(parent: &Path) -> Result<Self, BenchError> {
        let dir = parent.join(format!("aequa-bench-{}", std::process::id()));
        let made = std::fs::create_dir_all(parent).and_then(|()| std::fs::create_dir(&dir));
        made.map_err(BenchError::system(format!("cannot make {}", dir.display())))?;
        Ok(Self(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(parent.path()).unwrap();
        std::fs::write(scratch.path().join("file"), b"x").unwrap();
        assert!(Scratch::new(parent.path()).is_err(), "it is another's");
        drop(scratch);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
