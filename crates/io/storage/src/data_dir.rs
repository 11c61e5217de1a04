//! The data directory of one operator of one cluster, held by one process.
//!
//! `LOCK` carries an advisory lock for the life of the process. `identity.dat` says whose promises
//! the directory holds and is written before anything else, so a directory with data and without a
//! readable identity was damaged or put together by hand, and is refused.
//!
//! Some [`notes`](crate::notes) beside it carry a fact from one start to the next. `new` is there from before the
//! identity is written until log and signing database exist: without it, an identity and no log mean that the log
//! was lost. `suspect` says that what is remembered here is not all that was signed, `newcomer` that others had this
//! place before; both stay until the members have been asked.

use crate::StorageError;
use crate::atomic::{self, Loaded};
use crate::error::owner;
use crate::files::{at, create_dir_durable, open_or_create, sync_dir};
use crate::frame::{Frame, FrameKind};
use crate::medium::SystemMedium;
use crate::notes::Notes;
use crate::signing_db;
use aequa_types::{ClusterId, OperatorIndex};
use alloy_primitives::B256;
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};
use std::fs::{self, File, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Frame of `identity.dat`. The payload is 73 bytes; the cap leaves room for later versions.
pub const IDENTITY_FRAME: FrameKind =
    FrameKind { name: "identity", magic: *b"NODE", version: 1, flags_known: 0, payload_bytes_max: 1024 };

const IDENTITY_FILE: &str = "identity.dat";
const LOCK_FILE: &str = "LOCK";
const NEW_FILE: &str = "new";
const SUSPECT_FILE: &str = "suspect";
const NEWCOMER_FILE: &str = "newcomer";
const SIGNING_DIR: &str = "signing";
/// The signing database of earlier versions, and its file.
const MARKS_DIR: &str = "marks";
const MARKS_FILE: &str = "marks.dat";
/// Directories whose content means that the node has lived here.
const LIFE_SIGNS: [&str; 7] = ["wal", SIGNING_DIR, MARKS_DIR, "chain", "slashing", "checkpoints", "journal"];

/// Whose directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// The cluster; survives resharing.
    pub cluster_id: ClusterId,
    /// The operator's place in it.
    pub operator: OperatorIndex,
    /// Hash of the cluster lock last used here; changes with resharing.
    pub lock_hash: B256,
    /// When the directory was made, in seconds since the Unix epoch.
    pub created: u64,
}

/// An open data directory. Dropping it lets the next process in.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    notes: Notes,
    identity: Identity,
    is_new: bool,
    _lock: File,
}

impl DataDir {
    /// Opens `root` for `identity`, creating it when there is nothing yet.
    ///
    /// Refuses a directory held by another process, of another cluster or operator, or with data but
    /// no identity. An existing directory keeps its own creation time and lock hash.
    pub fn open(root: &Path, identity: Identity) -> Result<Self, StorageError> {
        // What the operator names may be a link; what is in it may not.
        if !root.is_dir() {
            create_dir_durable(root)?;
        }
        let lock = hold(&root.join(LOCK_FILE))?;
        atomic::remove_strays(root)?;
        let notes = Notes::new(root, Arc::new(SystemMedium));

        let file = root.join(IDENTITY_FILE);
        let stored = match atomic::read(&file, &IDENTITY_FRAME, decode_identity)? {
            Loaded::Ok(stored) | Loaded::Fallback(stored) => stored,
            Loaded::Missing if !shows_life(root)? => {
                notes.put(NEW_FILE, "")?;
                write_identity(root, &identity)?;
                identity
            }
            Loaded::Missing | Loaded::Fail => return Err(StorageError::IdentityLost { path: file }),
        };
        if (stored.cluster_id, stored.operator) != (identity.cluster_id, identity.operator) {
            return Err(StorageError::ForeignDirectory {
                path: root.to_path_buf(),
                found: owner(stored.cluster_id, stored.operator),
                expected: owner(identity.cluster_id, identity.operator),
            });
        }
        let is_new = notes.get(NEW_FILE)?.is_some();
        Ok(Self { root: root.to_path_buf(), notes, identity: stored, is_new, _lock: lock })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `identity.dat` says. Its lock hash is another than the one given to [`DataDir::open`]
    /// when the cluster was reshared since.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether nothing can have been signed from here yet: log and signing database were never complete. If not,
    /// and one of them is missing, it was lost.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Log and signing database exist: from now on a missing one was lost.
    pub fn settle(&mut self) -> Result<(), StorageError> {
        if self.is_new {
            self.notes.remove(NEW_FILE)?;
            self.is_new = false;
        }
        Ok(())
    }

    /// Notes durably that what is remembered here is not all that was signed.
    pub fn suspect(&self, reason: &str) -> Result<(), StorageError> {
        self.notes.put(SUSPECT_FILE, reason)
    }

    /// Why the members have to be asked what was signed, if they have to be.
    pub fn suspicion(&self) -> Result<Option<String>, StorageError> {
        self.notes.get(SUSPECT_FILE)
    }

    /// Whether the operator is new in its place, and what others may have signed there is not known yet.
    pub fn is_newcomer(&self) -> Result<bool, StorageError> {
        Ok(self.notes.get(NEWCOMER_FILE)?.is_some())
    }

    /// The members were asked, and what they said is durable.
    pub fn trust(&self) -> Result<(), StorageError> {
        self.notes.remove(NEWCOMER_FILE)?;
        self.notes.remove(SUSPECT_FILE)
    }

    /// Records that the node now runs under another lock of the same cluster.
    pub fn adopt_lock(&mut self, lock_hash: B256) -> Result<(), StorageError> {
        let identity = Identity { lock_hash, ..self.identity };
        write_identity(&self.root, &identity)?;
        self.identity = identity;
        Ok(())
    }

    /// Directory of the vote log.
    pub fn wal_dir(&self) -> PathBuf {
        self.root.join("wal")
    }

    /// Directory of the recording.
    pub fn journal_dir(&self) -> PathBuf {
        journal_dir(&self.root)
    }

    /// Directory of the signing database.
    pub fn signing_dir(&self) -> PathBuf {
        self.root.join(SIGNING_DIR)
    }

    /// Whether there is a signing database, be it under the name of earlier versions.
    pub fn has_signing_db(&self) -> bool {
        let (before, now) = (self.root.join(MARKS_DIR), self.signing_dir());
        let files = [now.join(signing_db::FILE), now.join(MARKS_FILE), before.join(MARKS_FILE)];
        files.iter().any(|file| file.exists())
    }

    /// Gives the signing database of earlier versions the name it has now, once the vote log beside it could be
    /// read. A crash in between is made good by the next start.
    pub fn take_over_marks(&self) -> Result<(), StorageError> {
        let (before, now) = (self.root.join(MARKS_DIR), self.signing_dir());
        if before.is_dir() && !now.exists() {
            fs::rename(&before, &now).map_err(at("rename", &before))?;
            sync_dir(&self.root).map_err(at("sync directory", &self.root))?;
        }
        let (old, file) = (now.join(MARKS_FILE), now.join(signing_db::FILE));
        if old.exists() && !file.exists() {
            fs::rename(&old, &file).map_err(at("rename", &old))?;
            sync_dir(&now).map_err(at("sync directory", &now))?;
        }
        match [old, before.join(MARKS_FILE)].into_iter().find(|path| path.exists()) {
            Some(path) => Err(StorageError::SigningDbCorrupt { path, reason: "another one is in `signing`" }),
            None => Ok(()),
        }
    }

    /// Directory of the chain store.
    pub fn chain_dir(&self) -> PathBuf {
        chain_dir(&self.root)
    }
}

/// Notes that the operator of this directory, in which no node has run, is new in a cluster that is not.
pub fn note_newcomer(root: &Path) -> Result<(), StorageError> {
    Notes::new(root, Arc::new(SystemMedium)).put(NEWCOMER_FILE, "")
}

/// Gives the operator another place, at the end of an epoch whose last block is durable. What was signed in the old
/// place goes `aside`: no statement of it is one of the new place. Whoever holds the directory calls it, again after a
/// crash.
pub fn change_place(root: &Path, place: OperatorIndex, aside: &Path) -> Result<(), StorageError> {
    let file = root.join(IDENTITY_FILE);
    let stored = match atomic::read(&file, &IDENTITY_FRAME, decode_identity)? {
        Loaded::Ok(stored) | Loaded::Fallback(stored) => stored,
        Loaded::Missing | Loaded::Fail => return Err(StorageError::IdentityLost { path: file }),
    };
    if stored.operator == place {
        return Ok(());
    }
    let notes = Notes::new(root, Arc::new(SystemMedium));
    notes.put(NEWCOMER_FILE, "")?;
    notes.put(NEW_FILE, "")?;
    for name in ["wal", SIGNING_DIR] {
        let (from, to) = (root.join(name), aside.join(name));
        if from.exists() {
            fs::rename(&from, &to).map_err(at("rename", &from))?;
        }
    }
    sync_dir(aside).map_err(at("sync directory", aside))?;
    sync_dir(root).map_err(at("sync directory", root))?;
    write_identity(root, &Identity { operator: place, ..stored })
}

/// Holds a directory that exists, as a node does, for as long as the value lives: what makes the keys of an operator
/// and what uses them do not meet in it.
pub fn hold_dir(root: &Path) -> Result<File, StorageError> {
    hold(&root.join(LOCK_FILE))
}

/// Directory of the chain store in a data directory.
pub fn chain_dir(root: &Path) -> PathBuf {
    root.join("chain")
}

/// Directory of the recording in a data directory that is only read.
pub fn journal_dir(root: &Path) -> PathBuf {
    root.join("journal")
}

fn hold(path: &Path) -> Result<File, StorageError> {
    let mut file = open_or_create(path).map_err(at("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StorageError::InUse { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => return Err(at("lock", path)(error)),
    }
    // Under another name it is somebody else's file too.
    if file.metadata().map_err(at("read", path))?.nlink() > 1 {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is a hard link; remove it");
        return Err(at("open", path)(source));
    }
    // For whoever wonders who holds it; nobody reads it back.
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(at("write", path))?;
    Ok(file)
}

fn shows_life(root: &Path) -> Result<bool, StorageError> {
    for entry in fs::read_dir(root).map_err(at("list", root))? {
        let name = entry.map_err(at("list", root))?.file_name();
        // An unreadable identity that an earlier start moved aside.
        if name.to_string_lossy().starts_with("identity.dat.corrupt") {
            return Ok(true);
        }
    }
    for name in LIFE_SIGNS {
        let dir = root.join(name);
        match fs::read_dir(&dir) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("list", &dir)(error)),
        }
    }
    Ok(false)
}

fn write_identity(root: &Path, identity: &Identity) -> Result<(), StorageError> {
    atomic::replace(&root.join(IDENTITY_FILE), &IDENTITY_FRAME.encode(0, &identity.as_ssz_bytes())?)
}

fn decode_identity(frame: &Frame) -> Option<Identity> {
    aequa_types::decode("identity", &frame.payload, IDENTITY_FRAME.payload_bytes_max).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SigningDb, SigningDbOptions};
    use aequa_types::{Height, InstanceId};

    fn identity(operator: u8) -> Identity {
        Identity {
            cluster_id: B256::repeat_byte(1),
            operator: OperatorIndex(operator),
            lock_hash: B256::repeat_byte(2),
            created: 1_700_000_000,
        }
    }

    fn life(root: &Path) {
        fs::create_dir_all(root.join("wal")).unwrap();
        fs::write(root.join("wal/votes-1.wal"), b"x").unwrap();
    }

    #[test]
    fn a_directory_is_made_once_and_keeps_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        for _ in 0..2 {
            let made = DataDir::open(&root, identity(0)).unwrap();
            assert!(made.is_new(), "also for the next start, until both exist");
        }
        DataDir::open(&root, identity(0)).unwrap().settle().unwrap();
        let again = DataDir::open(&root, Identity { created: 5, ..identity(0) }).unwrap();
        assert!(!again.is_new());
        assert_eq!(*again.identity(), identity(0));
    }

    #[test]
    fn a_suspicion_outlives_the_process_until_the_members_were_asked() {
        let dir = tempfile::tempdir().unwrap();
        let open = || DataDir::open(dir.path(), identity(0)).unwrap();
        assert_eq!(open().suspicion().unwrap(), None);
        open().suspect("the vote log is gone").unwrap();
        open().suspect("the signing database is gone").unwrap();
        assert_eq!(open().suspicion().unwrap().as_deref(), Some("the signing database is gone"));
        open().trust().unwrap();
        assert_eq!(open().suspicion().unwrap(), None);
    }

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), identity(0)).unwrap();
        let error = DataDir::open(dir.path(), identity(0)).unwrap_err();
        assert!(matches!(error, StorageError::InUse { .. }));
        assert!(error.is_safety_refusal());
        drop(first);
        DataDir::open(dir.path(), identity(0)).unwrap();
    }

    #[test]
    fn another_operator_or_cluster_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), identity(0)).unwrap());
        let other_cluster = Identity { cluster_id: B256::repeat_byte(9), ..identity(0) };
        for other in [identity(1), other_cluster] {
            let error = DataDir::open(dir.path(), other).unwrap_err();
            assert!(error.is_safety_refusal());
            let text = error.to_string();
            assert!(text.contains("operator 0") && text.contains("--data-dir"), "{text}");
        }
    }

    #[test]
    fn a_new_lock_of_the_same_cluster_is_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let mut data = DataDir::open(dir.path(), identity(0)).unwrap();
        data.adopt_lock(B256::repeat_byte(3)).unwrap();
        drop(data);
        let data = DataDir::open(dir.path(), identity(0)).unwrap();
        assert_eq!(data.identity().lock_hash, B256::repeat_byte(3));
        assert_eq!(data.identity().created, 1_700_000_000);
    }

    #[test]
    fn the_signing_database_of_an_earlier_version_is_taken_over_under_its_new_name() {
        for crashed_in_between in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (cluster, me) = (identity(0).cluster_id, OperatorIndex(0));
            drop(DataDir::open(dir.path(), identity(0)).unwrap());
            let (before, watermark) = (dir.path().join(MARKS_DIR), InstanceId::Block(Height(7)));
            let mut db = SigningDb::open(&before, cluster, me, SigningDbOptions::default()).unwrap();
            db.raise_watermarks(&[watermark]).unwrap();
            drop(db);
            fs::rename(before.join(signing_db::FILE), before.join(MARKS_FILE)).unwrap();
            if crashed_in_between {
                fs::rename(&before, dir.path().join(SIGNING_DIR)).unwrap();
            }
            let data = DataDir::open(dir.path(), identity(0)).unwrap();
            assert!(data.has_signing_db());
            data.take_over_marks().unwrap();
            assert!(data.has_signing_db() && !before.exists());
            let db = SigningDb::open(&data.signing_dir(), cluster, me, SigningDbOptions::default()).unwrap();
            assert_eq!(db.watermarks().collect::<Vec<_>>(), [watermark]);
            // An old copy beside it is not passed over in silence.
            fs::create_dir(&before).unwrap();
            fs::write(before.join(MARKS_FILE), b"old").unwrap();
            assert!(matches!(data.take_over_marks(), Err(StorageError::SigningDbCorrupt { .. })));
        }
    }

    #[test]
    fn data_without_a_readable_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        life(dir.path());
        let error = DataDir::open(dir.path(), identity(0)).unwrap_err();
        assert!(matches!(error, StorageError::IdentityLost { .. }) && error.is_safety_refusal());

        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(IDENTITY_FILE), b"garbage").unwrap();
        for _ in 0..2 {
            assert!(matches!(DataDir::open(dir.path(), identity(0)), Err(StorageError::IdentityLost { .. })));
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_gets_no_other_file_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("victim"), b"precious").unwrap();
        std::os::unix::fs::symlink(dir.path().join("victim"), root.join(LOCK_FILE)).unwrap();
        let error = DataDir::open(&root, identity(0)).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        fs::remove_file(root.join(LOCK_FILE)).unwrap();
        fs::hard_link(dir.path().join("victim"), root.join(LOCK_FILE)).unwrap();
        let error = DataDir::open(&root, identity(0)).unwrap_err();
        assert!(error.to_string().contains("hard link"), "{error}");
        assert_eq!(fs::read(dir.path().join("victim")).unwrap(), b"precious");
        // The directory itself may be named by a link.
        fs::remove_file(root.join(LOCK_FILE)).unwrap();
        std::os::unix::fs::symlink(&root, dir.path().join("named")).unwrap();
        DataDir::open(&dir.path().join("named"), identity(0)).unwrap();
    }

    #[test]
    fn what_a_crash_left_of_a_replacement_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let stray = dir.path().join("identity.dat.tmp-1-0");
        fs::write(&stray, b"half").unwrap();
        DataDir::open(dir.path(), identity(0)).unwrap();
        assert!(!stray.exists());
    }
}
