//! `fence`: the node does not trust its state, and says so to itself across restarts.
//!
//! The marker is durable before anything is done about it, and removed when the state has been had again from the
//! cluster. What was signed is not touched by it: the vote log and the signing database stay.

use crate::StorageError;
use crate::atomic;
use crate::data_dir::chain_dir;
use crate::files::{at, sync_dir};
use crate::frame::{Frame, FrameKind};
use aequa_types::Height;
use alloy_primitives::B256;
use ssz::{Decode as _, Encode as _};
use ssz_derive::{Decode, Encode};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// File name in the data directory.
pub const FILE_NAME: &str = "fence";
/// Frame of the file.
pub const FENCE_FRAME: FrameKind =
    FrameKind { name: "fence", magic: *b"FNCE", version: 1, flags_known: 0, payload_bytes_max: 4096 };
/// The reason is cut to this many bytes.
const REASON_BYTES_MAX: usize = 1024;

/// Why a node does not trust its state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FenceMark {
    /// The height at which it was noticed.
    pub height: Height,
    /// The state root that is right there, where it is known; zero otherwise.
    pub root: B256,
    /// Operators who stand for that root.
    pub backers: Vec<u8>,
    /// What is wrong, in words.
    pub reason: Vec<u8>,
    /// Seconds since 1970.
    pub since: u64,
    /// How often the state was had again within a day, this time included.
    pub attempts: u64,
    /// When the first of these attempts was, in seconds since 1970.
    pub first_attempt: u64,
    /// Whether the store that is not trusted is out of the way.
    pub is_set_aside: bool,
}

impl FenceMark {
    /// What is wrong, in words, for a file: control characters and what is too much are left out.
    pub fn reason_of(text: &str) -> Vec<u8> {
        let mut reason: String = text.chars().filter(|letter| !letter.is_control()).collect();
        while reason.len() > REASON_BYTES_MAX {
            reason.pop();
        }
        reason.into_bytes()
    }

    /// What is wrong, in words.
    pub fn reason(&self) -> String {
        String::from_utf8_lossy(&self.reason).into_owned()
    }

    /// Sets the fence in data directory `dir`; durable on return.
    pub fn set(&self, dir: &Path) -> Result<(), StorageError> {
        atomic::replace(&path(dir), &FENCE_FRAME.encode(0, &self.as_ssz_bytes())?)
    }

    /// The fence, if there is one. One that cannot be read is one all the same.
    pub fn load(dir: &Path) -> Result<Option<Self>, StorageError> {
        if !path(dir).exists() {
            return Ok(None);
        }
        let read = |frame: &Frame| Self::from_ssz_bytes(&frame.payload).ok();
        Ok(Some(atomic::read(&path(dir), &FENCE_FRAME, read)?.value().unwrap_or_else(|| Self {
            height: Height(0),
            root: B256::ZERO,
            backers: Vec::new(),
            reason: Self::reason_of("the marker is unreadable"),
            since: 0,
            attempts: 1,
            first_attempt: 0,
            is_set_aside: false,
        })))
    }

    /// Removes the fence; durable on return. What it said can be looked up: so often within a day is not by chance.
    pub fn remove(dir: &Path) -> Result<(), StorageError> {
        let (set, backup) = (path(dir), dir.join(format!("{FILE_NAME}.bak")));
        match fs::remove_file(&backup) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("remove", &backup)(error));
            }
            _ => {}
        }
        match fs::rename(&set, last(dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("rename", &set)(error)),
            _ => {}
        }
        sync_dir(dir).map_err(at("sync directory", dir))
    }

    /// Keeps the block store that is not trusted for whoever wants to know what happened to it, out of the way of the next
    /// one; a store that was kept before goes.
    pub fn set_store_aside(dir: &Path) -> Result<(), StorageError> {
        let chain = chain_dir(dir);
        if !chain.exists() {
            return Ok(());
        }
        let kept = kept_store(dir);
        Self::drop_kept_store(dir)?;
        fs::rename(&chain, &kept).map_err(at("rename", &chain))?;
        sync_dir(dir).map_err(at("sync directory", dir))
    }

    /// Removes the store that was set aside, if there is one.
    pub fn drop_kept_store(dir: &Path) -> Result<(), StorageError> {
        let kept = kept_store(dir);
        match fs::remove_dir_all(&kept) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", &kept)(error)),
            _ => Ok(()),
        }
    }

    /// The fence that was removed last.
    pub fn last(dir: &Path) -> Result<Option<Self>, StorageError> {
        let read = |frame: &Frame| Self::from_ssz_bytes(&frame.payload).ok();
        Ok(atomic::read(&last(dir), &FENCE_FRAME, read)?.value())
    }
}

/// Where the block store is kept that was set aside.
pub fn kept_store(dir: &Path) -> PathBuf {
    chain_dir(dir).with_extension("damaged")
}

fn last(dir: &Path) -> PathBuf {
    dir.join(format!("{FILE_NAME}.last"))
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(reason: &str) -> FenceMark {
        FenceMark {
            height: Height(7),
            root: B256::repeat_byte(3),
            backers: vec![0, 2, 3],
            reason: FenceMark::reason_of(reason),
            since: 1_800_000_000,
            attempts: 2,
            first_attempt: 1_799_999_000,
            is_set_aside: true,
        }
    }

    #[test]
    fn l2_a_fence_stands_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(FenceMark::load(dir.path()).unwrap(), None);
        for reason in ["rows differ", "again"] {
            mark(reason).set(dir.path()).unwrap();
            assert_eq!(FenceMark::load(dir.path()).unwrap(), Some(mark(reason)));
        }
        FenceMark::remove(dir.path()).unwrap();
        assert_eq!(FenceMark::load(dir.path()).unwrap(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no backup to fall back to");
        assert_eq!(FenceMark::last(dir.path()).unwrap(), Some(mark("again")));
        FenceMark::remove(dir.path()).unwrap();
    }

    #[test]
    fn a_store_that_is_set_aside_is_kept_until_the_next_one_is() {
        let dir = tempfile::tempdir().unwrap();
        for content in ["first", "second"] {
            fs::create_dir(chain_dir(dir.path())).unwrap();
            fs::write(chain_dir(dir.path()).join("table"), content).unwrap();
            for _ in 0..2 {
                FenceMark::set_store_aside(dir.path()).unwrap();
                assert!(!chain_dir(dir.path()).exists());
                assert_eq!(fs::read_to_string(kept_store(dir.path()).join("table")).unwrap(), content);
            }
        }
        FenceMark::drop_kept_store(dir.path()).unwrap();
        FenceMark::drop_kept_store(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_fence_that_cannot_be_read_is_a_fence() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path()), b"garbage").unwrap();
        assert_eq!(FenceMark::load(dir.path()).unwrap().unwrap().reason(), "the marker is unreadable");
    }

    #[test]
    fn a_reason_of_any_length_and_with_line_breaks_fits() {
        let dir = tempfile::tempdir().unwrap();
        let long = mark(&"ä\n".repeat(5000));
        long.set(dir.path()).unwrap();
        let loaded = FenceMark::load(dir.path()).unwrap().unwrap();
        assert!(loaded.reason().len() <= REASON_BYTES_MAX && loaded.reason().starts_with("ää"));
    }
}
