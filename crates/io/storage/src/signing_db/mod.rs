//! The signing database: which statement was made where, kept apart from the vote log.
//!
//! ```text
//! signing/votes.dat   zeroed and synced before use, replaced as a whole when full
//! ┌───────────────────────┬───────────┬───────────┬──────────────
//! │ frame MARK v1         │ slot 64 B │ slot 64 B │ zeros …
//! │ cluster id ‖ operator │ crc32 u32 ‖ kind u8 ‖ domain u8 ‖ 0 0 ‖ height or slot u64 ‖ round u64 ‖ digest 32 ‖ zeros
//! └───────────────────────┴───────────┴───────────┴──────────────
//! ```
//!
//! The second gate before a signature leaves the node: it knows nothing of records, values or
//! consensus, and shares no format and no reading code with the log. It refuses by itself a second
//! statement for one key and anything at or below a watermark; that refusal ends the process.
//!
//! 1. The file is a **set**: the order of slots means nothing, each slot is whole or nothing, and an
//!    unreadable one costs only what it said. What the log and the database know is added up.
//! 2. What is asked ([`SigningDb::check`], [`SigningDb::holds`]) is answered from memory and never waits for the disk.
//! 3. [`SigningDb::take`] takes votes and hands them to the system before anything is sent. They are durable
//!    after [`SigningDb::settle`], for which only the next turn waits, since the log has the statements: a
//!    thread of its own syncs meanwhile.
//! 4. [`SigningDb::raise_watermarks`] is durable on return. Watermarks replace the votes at and below them, so the
//!    file does not grow with the chain.
//! 5. After an error nothing is accepted any more, as in the log.

mod slot;
mod syncer;
#[cfg(test)]
mod tests;

use crate::StorageError;
use crate::error::owner;
use crate::files::at;
use crate::frame::FrameFault;
use crate::medium::{Medium, MediumFile, SystemMedium, write_again, write_all};
use aequa_types::{ClusterId, Domain, InstanceId, OperatorIndex, VoteKey, VoteRoot};
use alloy_primitives::B256;
use slot::{Entry, SLOT_BYTES, Slot};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use syncer::Syncer;

/// Slots of a new file, if twice what is live is not more: ten thousand blocks, 2 MiB.
pub const SLOTS: usize = 32_768;
/// Largest file that is read; checked before memory is taken.
const FILE_BYTES_MAX: u64 = 256 << 20;
pub(crate) const FILE: &str = "votes.dat";
/// The next file under construction; never read.
const SPARE_FILE: &str = "votes.tmp";

/// How the database is laid out and reaches the disk.
#[derive(Clone)]
pub struct SigningDbOptions {
    /// Slots of a new file.
    pub slots: usize,
    /// Whether a thread of its own syncs what is taken. Without, [`SigningDb::settle`] does.
    pub ahead: bool,
    /// The calls that write and sync.
    pub medium: Arc<dyn Medium>,
}

impl Default for SigningDbOptions {
    fn default() -> Self {
        Self { slots: SLOTS, ahead: true, medium: Arc::new(SystemMedium) }
    }
}

/// The open signing database of one operator.
pub struct SigningDb {
    dir: PathBuf,
    cluster_id: ClusterId,
    operator: OperatorIndex,
    options: SigningDbOptions,
    known: Known,
    file: Arc<dyn MediumFile>,
    /// Slots of the file, and how many were written.
    slots: usize,
    used: usize,
    /// Whether something was written that no sync covers.
    unsynced: bool,
    syncer: Option<Syncer>,
    /// Slots that were not whole when the file was opened.
    unreadable: usize,
    poisoned: bool,
}

impl SigningDb {
    /// Opens the database in `dir`, creating it when there is none, and reads it all.
    pub fn open(
        dir: &Path,
        cluster_id: ClusterId,
        operator: OperatorIndex,
        options: SigningDbOptions,
    ) -> Result<Self, StorageError> {
        let medium = Arc::clone(&options.medium);
        medium.create_dir(dir).map_err(at("create directory", dir))?;
        medium.remove(&dir.join(SPARE_FILE)).map_err(at("remove", dir))?;
        let path = dir.join(FILE);
        let slots = options.slots.max(1);
        let (file, bytes) = match exists(dir, &*medium)? {
            false => {
                let file = replace(dir, cluster_id, operator, &[], slots, &*medium)?;
                (file, vec![0; (1 + slots) * SLOT_BYTES])
            }
            true => {
                let bytes = medium.read(&path, FILE_BYTES_MAX).map_err(at("read", &path))?;
                let bytes = bytes.ok_or_else(|| corrupt(&path, "larger than any signing database"))?;
                check_owner(&path, &bytes, cluster_id, operator)?;
                let file = medium.open(&path).map_err(at("open", &path))?;
                write_again(&*medium, &path, &*file, &bytes, 0)?;
                (Arc::from(file), bytes)
            }
        };
        let mut db = Self {
            dir: dir.to_path_buf(),
            cluster_id,
            operator,
            known: Known::default(),
            file,
            slots: bytes.len() / SLOT_BYTES - 1,
            used: 0,
            unsynced: false,
            syncer: options.ahead.then(Syncer::start).flatten(),
            options,
            unreadable: 0,
            poisoned: false,
        };
        db.read_slots(&path, &bytes[SLOT_BYTES..])?;
        Ok(db)
    }

    /// Refuses what could not be taken: a key of another statement, among these votes too, or one that is
    /// not above its watermark. Takes nothing.
    pub fn check(&self, votes: &[VoteRoot]) -> Result<(), StorageError> {
        let mut asked = BTreeMap::new();
        for vote in votes {
            self.known.may_take(vote)?;
            if *asked.entry(vote.key).or_insert(vote.root) != vote.root {
                return Err(taken(vote));
            }
        }
        Ok(())
    }

    /// Whether this very vote is in it, or lies where nothing is signed any more.
    pub fn holds(&self, vote: &VoteRoot) -> bool {
        !self.known.is_above_watermark(vote) || self.known.votes.get(&vote.key) == Some(&vote.root)
    }

    /// Every vote above the watermarks, in order.
    pub fn votes(&self) -> impl Iterator<Item = VoteRoot> {
        self.known.votes.iter().map(|(key, root)| VoteRoot { key: *key, root: *root })
    }

    /// The watermarks: nothing is signed at or below them.
    pub fn watermarks(&self) -> impl Iterator<Item = InstanceId> {
        self.known.watermarks.values().copied()
    }

    /// Slots that were not whole when the file was opened: what they said is lost here.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Takes these votes, whose records are durable, and begins to sync them. A key that is
    /// taken by another statement, or below the watermark, is refused, and then nothing is accepted any more.
    pub fn take(&mut self, votes: &[VoteRoot]) -> Result<(), StorageError> {
        self.guarded(|db| {
            let mut entries = Vec::with_capacity(votes.len());
            for vote in votes {
                if db.known.take(vote)? {
                    entries.push(Entry::Vote(*vote));
                }
            }
            db.write_out(&entries)?;
            db.begin_sync();
            Ok(())
        })
    }

    /// Adds, durably, the votes of what the log holds above the watermarks: a crash may have come between a
    /// record and its vote, and the log is pruned one day.
    pub fn complete(&mut self, of_log: impl Iterator<Item = VoteRoot>) -> Result<(), StorageError> {
        let above: Vec<VoteRoot> = of_log.filter(|vote| self.known.is_above_watermark(vote)).collect();
        self.take(&above)?;
        self.settle()
    }

    /// Waits until everything taken is durable; with nothing taken it costs nothing.
    pub fn settle(&mut self) -> Result<(), StorageError> {
        self.guarded(Self::sync_written)
    }

    /// Raises watermarks durably, and forgets the votes at and below them. None is ever lowered.
    pub fn raise_watermarks(&mut self, watermarks: &[InstanceId]) -> Result<(), StorageError> {
        self.guarded(|db| {
            db.write_watermarks(watermarks)?;
            db.sync_written()
        })
    }

    /// Raises watermarks where nothing is signed any more anyway, so that the votes below can go; durable some time soon.
    pub fn prune(&mut self, watermarks: &[InstanceId]) -> Result<(), StorageError> {
        self.guarded(|db| {
            db.write_watermarks(watermarks)?;
            db.begin_sync();
            Ok(())
        })
    }

    fn guarded(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let changed = change(self);
        self.poisoned = changed.is_err();
        changed
    }

    fn write_watermarks(&mut self, watermarks: &[InstanceId]) -> Result<(), StorageError> {
        let raised = watermarks.iter().filter(|watermark| self.known.raise(**watermark));
        let entries: Vec<Entry> = raised.map(|watermark| Entry::Watermark(*watermark)).collect();
        self.write_out(&entries)
    }

    fn write_out(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.used + entries.len() > self.slots {
            return self.start_over();
        }
        let bytes: Vec<u8> = entries.iter().flat_map(Entry::encode).collect();
        let offset = ((1 + self.used) * SLOT_BYTES) as u64;
        write_all(&*self.file, &bytes, offset).map_err(at("write", &self.dir.join(FILE)))?;
        self.used += entries.len();
        self.unsynced = true;
        Ok(())
    }

    fn begin_sync(&mut self) {
        if self.unsynced
            && let Some(syncer) = &self.syncer
        {
            self.unsynced = !syncer.begin(&self.file);
        }
    }

    fn sync_written(&mut self) -> Result<(), StorageError> {
        let path = self.dir.join(FILE);
        if let Some(syncer) = &self.syncer {
            syncer.wait().map_err(at("sync", &path))?;
        }
        if self.unsynced {
            self.file.sync().map_err(at("sync", &path))?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Replaces the file by one that holds only what still matters.
    fn start_over(&mut self) -> Result<(), StorageError> {
        self.sync_written()?;
        let watermarks = self.watermarks().map(Entry::Watermark);
        let entries: Vec<Entry> = watermarks.chain(self.votes().map(Entry::Vote)).collect();
        let slots = self.options.slots.max(2 * entries.len());
        let medium = Arc::clone(&self.options.medium);
        self.file = replace(&self.dir, self.cluster_id, self.operator, &entries, slots, &*medium)?;
        (self.slots, self.used) = (slots, entries.len());
        Ok(())
    }

    fn read_slots(&mut self, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
        let mut watermarks = Vec::new();
        for (n, slot) in slots.iter().enumerate() {
            match Slot::read(slot) {
                Slot::Free => continue,
                Slot::Unreadable => self.unreadable += 1,
                Slot::Taken(Entry::Watermark(watermark)) => watermarks.push(watermark),
                Slot::Taken(Entry::Vote(vote)) => {
                    self.known.take(&vote).map_err(|_| corrupt(path, "two statements for one key"))?;
                }
            }
            self.used = n + 1;
        }
        // Votes stand below a watermark that was raised after them.
        for watermark in watermarks {
            self.known.raise(watermark);
        }
        Ok(())
    }
}

impl std::fmt::Debug for SigningDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningDb")
            .field("dir", &self.dir)
            .field("known", &self.known)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

/// What the file says, in memory.
#[derive(Debug, Default)]
struct Known {
    votes: BTreeMap<VoteKey, B256>,
    /// The highest instance of each domain at and below which nothing is signed.
    watermarks: BTreeMap<Domain, InstanceId>,
}

impl Known {
    fn is_above_watermark(&self, vote: &VoteRoot) -> bool {
        let instance = vote.key.instance;
        self.watermarks.get(&instance.domain()).is_none_or(|watermark| instance > *watermark)
    }

    fn may_take(&self, vote: &VoteRoot) -> Result<(), StorageError> {
        if !self.is_above_watermark(vote) {
            let reason = "it is not above what may have been signed before";
            return Err(StorageError::VoteRefused { key: vote.key, reason });
        }
        match self.votes.get(&vote.key) {
            Some(before) if *before != vote.root => Err(taken(vote)),
            _ => Ok(()),
        }
    }

    /// Takes a vote; false when it is in it already.
    fn take(&mut self, vote: &VoteRoot) -> Result<bool, StorageError> {
        self.may_take(vote)?;
        Ok(self.votes.insert(vote.key, vote.root).is_none())
    }

    /// Raises a watermark and forgets the votes at and below it; false when it is as high already.
    fn raise(&mut self, watermark: InstanceId) -> bool {
        let domain = watermark.domain();
        if self.watermarks.get(&domain) >= Some(&watermark) {
            return false;
        }
        self.watermarks.insert(domain, watermark);
        let first = VoteKey::first_of(domain.instance(0));
        let above = VoteKey::first_of(watermark.next());
        self.votes.extract_if(first..above, |_, _| true).for_each(drop);
        true
    }
}

fn taken(vote: &VoteRoot) -> StorageError {
    StorageError::VoteRefused { key: vote.key, reason: "another statement was made there" }
}

/// Puts a file with these entries in place of the one there is: the old or the new one survives a
/// crash, and both hold everything that was durable.
fn replace(
    dir: &Path,
    cluster_id: ClusterId,
    operator: OperatorIndex,
    entries: &[Entry],
    slots: usize,
    medium: &dyn Medium,
) -> Result<Arc<dyn MediumFile>, StorageError> {
    let mut bytes = slot::encode_head(cluster_id, operator)?;
    bytes.extend(entries.iter().flat_map(Entry::encode));
    // Zeros are written and not only reserved: a later sync has no block to allocate.
    bytes.resize((1 + slots) * SLOT_BYTES, 0);
    let (spare, path) = (dir.join(SPARE_FILE), dir.join(FILE));
    medium.remove(&spare).map_err(at("remove", &spare))?;
    let file = medium.create(&spare).map_err(at("create", &spare))?;
    write_all(&*file, &bytes, 0).map_err(at("write", &spare))?;
    file.sync().map_err(at("sync", &spare))?;
    medium.rename(&spare, &path).map_err(at("rename to", &path))?;
    medium.sync_dir(dir).map_err(at("sync directory", dir))?;
    Ok(Arc::from(file))
}

/// Whether there is a file; that a directory cannot be listed is an error, not an answer.
fn exists(dir: &Path, medium: &dyn Medium) -> Result<bool, StorageError> {
    Ok(medium.list(dir).map_err(at("list", dir))?.iter().any(|name| name == FILE))
}

fn check_owner(
    path: &Path,
    bytes: &[u8],
    cluster_id: ClusterId,
    operator: OperatorIndex,
) -> Result<(), StorageError> {
    match slot::decode_head(bytes) {
        Ok(found) if found == (cluster_id, operator) => Ok(()),
        Ok((found_cluster, found_operator)) => Err(StorageError::ForeignDirectory {
            path: path.to_path_buf(),
            found: owner(found_cluster, found_operator),
            expected: owner(cluster_id, operator),
        }),
        // The head was durable before the file got its name.
        Err(FrameFault::Unreadable(reason)) => Err(corrupt(path, reason)),
        Err(FrameFault::NewerVersion { found, known }) => {
            Err(StorageError::NewerVersion { path: path.to_path_buf(), found, known })
        }
    }
}

fn corrupt(path: &Path, reason: &'static str) -> StorageError {
    StorageError::SigningDbCorrupt { path: path.to_path_buf(), reason }
}
