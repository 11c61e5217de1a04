//! The vote log: every promise of the operator, durable before it is spoken.
//!
//! ```text
//! wal/votes-<number of its first batch, 20 digits>.wal      zeroed and synced before use, rolled when full
//! ┌───────────────────────────────┬───────┬───────┬──────────────
//! │ frame QWAL v3                 │ batch │ batch │ zeros …
//! │ cluster id 32 ‖ operator 1 ‖  │  crc32 u32 ‖ length u32 ‖ records ‖ stamp; crc over salt and all behind it
//! │ first number u64 ‖            │  record: length u32 ‖ SSZ of aequa_types::Record, up to 4 MiB
//! │ crc of the last batch before  │  stamp: number ⊕ salt u64 ‖ unsynced u32 ‖ crc32 u32, over salt and these;
//! │ u32 ‖ salt u64                │         number strictly +1
//! └───────────────────────────────┴───────┴───────┴──────────────
//! ```
//!
//! 1. **A batch is whole or was never written.** [`Wal::append`] only collects; [`Wal::write`] hands what was
//!    collected to the system as one batch (as several if it is more than one may hold), and [`Wal::sync`] makes
//!    all of it durable with one fdatasync (one more when a segment fills up in between).
//! 2. **A batch says how many right before it had not been synced** when it was written: those that one sync
//!    covers, and what was heard since the last one.
//! 3. Reading stops at the first batch that does not verify. If a stamp behind it verifies and says that the
//!    missing one had been synced, something durable was lost: opening is refused, and nothing is changed. Otherwise
//!    that was a write which never completed, so nobody was told of it: it is wiped, and `torn` says so. The salt
//!    keeps stamps that somebody put into a value from being believed.
//! 4. After any error the log is poisoned: nothing is retried, the process must end.
//! 5. A segment gets its name only after its head is durable; a nameless one is `spare.tmp` and is
//!    removed when the log is opened. The head chains segments, so a missing one is noticed.
//! 6. Whole segments are dropped from the front once nothing in them is needed ([`Wal::prune`]). What is still
//!    needed of old segments that are mostly done with is moved into one (`compact`), so that a single
//!    instance that stays open does not keep everything after it.
//!
//! # Damage in the last batch
//!
//! A power cut in the middle of one sync may let a disk keep the end of what it covers and lose the
//! beginning. That must not stop the operator, and it looks exactly like rot in what was synced last.
//! Both are cut off. What tells them apart is the signing database ([`crate::signing_db`]): it is
//! written only after the log is synced. A lost statement that it lacks was never sent, and the operator
//! is free; of one that it has the replica's signer lets nothing be signed but the very same, no
//! ROUND-CHANGE that hides a COMMIT, and no COMMIT below a ROUND-CHANGE. Lost decisions, prepared
//! certificates and values promise nothing by themselves: peers have them.

mod compact;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;

pub use crate::medium::{Medium, MediumFile, SystemMedium};
pub use segment::RECORD_BYTES_MAX;

use crate::StorageError;
use crate::files::at;
use crate::medium::write_all;
use aequa_types::{ClusterId, OperatorIndex, Record, Subject};
use segment::{BATCH_BYTES_MAX, Draft, Drafts, HEAD_BYTES, Head, Salt, Stamp};
use ssz::Encode as _;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Size of a segment in bytes: a few hundred thousand votes, or five full values.
pub const SEGMENT_BYTES: usize = 16 << 20;
/// Largest segment file that is read; checked before memory is taken.
pub const SEGMENT_BYTES_MAX: usize = 256 << 20;
/// The buffer of a batch keeps this much between turns, and gives back what a large value took.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// A segment under construction; never read.
const SPARE_FILE: &str = "spare.tmp";

/// How a log is laid out and reaches the disk.
#[derive(Clone)]
pub struct WalOptions {
    /// Size of new segments; a record larger than that gets a segment of its own size.
    pub segment_bytes: usize,
    /// Whether the next segment is made beforehand, on a thread of its own. Without, the sync that
    /// needs it makes it.
    pub ahead: bool,
    /// Makes the salt of a new log: at random, unless runs must be repeatable.
    pub fresh_salt: fn() -> io::Result<u64>,
    /// The disk.
    pub medium: Arc<dyn Medium>,
}

impl Default for WalOptions {
    fn default() -> Self {
        let fresh_salt = || getrandom::u64().map_err(|error| io::Error::other(error.to_string()));
        Self { segment_bytes: SEGMENT_BYTES, ahead: true, fresh_salt, medium: Arc::new(SystemMedium) }
    }
}

/// What was in the log when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Every record kept, in the order of appending.
    pub records: Vec<Record>,
    /// Whether an incomplete write was wiped from the end.
    pub torn: bool,
}

/// Reads the log in `dir` without changing anything, also while a node writes it.
pub fn read(dir: &Path, cluster_id: ClusterId, operator: OperatorIndex) -> Result<Vec<Record>, StorageError> {
    recovery::read_all(dir, &SystemMedium, cluster_id, operator).map(|found| found.records)
}

/// The open vote log of one operator. Dropping it loses what was not synced, like a crash.
pub struct Wal {
    dir: PathBuf,
    cluster_id: ClusterId,
    operator: OperatorIndex,
    options: WalOptions,
    /// Segments before the active one, oldest first.
    closed: VecDeque<Segment>,
    active: Active,
    /// The next segment, being zeroed on a thread of its own.
    spare: Option<JoinHandle<io::Result<Box<dyn MediumFile>>>>,
    /// Number of the next batch written.
    next_number: u64,
    /// What was appended since the last write, in order.
    drafts: Drafts,
    /// Batches written since the last sync.
    unsynced: u32,
    poisoned: bool,
}

impl Wal {
    /// Opens the log in `dir`, creating it when there is none, and reads all of it.
    ///
    /// Refuses a log of another cluster or operator, and one with damage anywhere but at its end.
    /// What is read is synced first: a record written but not synced by a process that was killed
    /// may already have been believed.
    pub fn open(
        dir: &Path,
        cluster_id: ClusterId,
        operator: OperatorIndex,
        options: WalOptions,
    ) -> Result<(Self, Recovered), StorageError> {
        let segment_bytes = options.segment_bytes.clamp(HEAD_BYTES, SEGMENT_BYTES_MAX);
        let options = WalOptions { segment_bytes, ..options };
        let medium = &*options.medium;
        medium.create_dir(dir).map_err(at("create directory", dir))?;
        for unnamed in [SPARE_FILE, compact::FILE] {
            medium.remove(&dir.join(unnamed)).map_err(at("remove", dir))?;
        }
        let mut found = recovery::read_all(dir, medium, cluster_id, operator)?;
        compact::remove(&found.replaced, dir, medium)?;
        let (active, torn) = match found.segments.pop() {
            Some(last) => recovery::reopen(last, medium)?,
            None => {
                let salt = Salt((options.fresh_salt)().map_err(at("make the salt of", dir))?);
                let (first_number, previous_crc, is_compacted) = (1, 0, false);
                let head = Head { cluster_id, operator, first_number, previous_crc, salt, is_compacted };
                let spare =
                    zeroed(dir, options.segment_bytes, medium).map_err(at("preallocate segment in", dir))?;
                (Active::named(dir, spare, head, medium)?, false)
            }
        };
        let wal = Self {
            dir: dir.to_path_buf(),
            cluster_id,
            operator,
            options,
            closed: found.segments.into_iter().map(|found| found.segment).collect(),
            active,
            spare: None,
            next_number: found.next_number,
            drafts: Drafts::default(),
            unsynced: 0,
            poisoned: false,
        };
        Ok((wal, Recovered { records: found.records, torn }))
    }

    /// Collects a record for the next [`Wal::sync`]. A record that is too large is refused, and what was
    /// collected is as before.
    pub fn append(&mut self, record: &Record) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let (what, bytes, bytes_max) = ("vote log record", record.ssz_bytes_len(), RECORD_BYTES_MAX);
        if bytes > bytes_max {
            return Err(StorageError::TooLarge { what, bytes, bytes_max });
        }
        // A batch fits into a segment, unless it is one record that does not.
        let batch_bytes_max = BATCH_BYTES_MAX.min(self.options.segment_bytes - HEAD_BYTES);
        let write = |buffer: &mut Vec<u8>| record.ssz_append(buffer);
        self.drafts.push(record.subject(), bytes, batch_bytes_max, write);
        Ok(())
    }

    /// Hands what was appended to the operating system: it survives the end of the process, but not that of
    /// the machine. Only [`Wal::sync`] makes it durable.
    pub fn write(&mut self) -> Result<(), StorageError> {
        self.guarded(|wal| {
            let Drafts(mut drafts) = std::mem::take(&mut wal.drafts);
            for draft in drafts.iter_mut().filter(|draft| !draft.records.is_empty()) {
                wal.write_batch(draft)?;
                draft.clear(BUFFER_BYTES_KEPT);
            }
            drafts.truncate(1);
            wal.drafts = Drafts(drafts);
            Ok(())
        })
    }

    /// Makes everything appended durable; without anything appended or written it costs nothing.
    ///
    /// After an error nothing may be sent, and the log refuses everything.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.write()?;
        self.guarded(Self::sync_active)?;
        self.prepare_spare();
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), StorageError> {
        if self.unsynced > 0 {
            self.active.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let done = work(self);
        self.poisoned = done.is_err();
        done
    }

    /// Drops the oldest segments in which no record is needed, and makes one of many in which few are.
    /// Call it only when what replaces the others, a checkpoint or a stored result, is durable. Gives the
    /// number of segments dropped.
    pub fn prune(&mut self, is_needed: &dyn Fn(Subject) -> bool) -> Result<usize, StorageError> {
        self.guarded(|wal| {
            let before = wal.closed.len();
            while let Some(oldest) = wal.closed.front()
                && !oldest.contents.any(is_needed)
            {
                compact::remove([&oldest.path], &wal.dir, &*wal.options.medium)?;
                wal.closed.pop_front();
            }
            wal.compact(is_needed)?;
            Ok(before - wal.closed.len())
        })
    }

    /// Number of the next batch, from 1.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Number of segments on disk.
    pub fn segments(&self) -> usize {
        self.closed.len() + 1
    }

    /// Whether an earlier error stopped the log for ever.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    fn write_batch(&mut self, draft: &mut Draft) -> Result<(), StorageError> {
        if self.active.bytes - self.active.used < draft.bytes() {
            // What is in the full segment is durable before anything is in the next one.
            self.sync_active()?;
            self.roll(draft.bytes())?;
        }
        let stamp = Stamp { number: self.next_number, unsynced: self.unsynced };
        self.active.write(draft, stamp)?;
        self.next_number = self.next_number.saturating_add(1);
        self.unsynced = self.unsynced.saturating_add(1);
        Ok(())
    }

    /// Starts a segment with room for a batch of `needed` bytes. All batches before it are durable.
    fn roll(&mut self, needed: usize) -> Result<(), StorageError> {
        let file = self.take_spare(HEAD_BYTES + needed).map_err(at("preallocate segment in", &self.dir))?;
        let head = Head {
            cluster_id: self.cluster_id,
            operator: self.operator,
            first_number: self.next_number,
            previous_crc: self.active.last_crc,
            salt: self.active.salt,
            is_compacted: false,
        };
        let active = Active::named(&self.dir, file, head, &*self.options.medium)?;
        let full = std::mem::replace(&mut self.active, active);
        // One without batches had the same first number, and has just been replaced.
        if full.used > HEAD_BYTES {
            self.closed.push_back(full.segment);
        }
        Ok(())
    }

    fn take_spare(&mut self, needed: usize) -> io::Result<Box<dyn MediumFile>> {
        if let Some(thread) = self.spare.take()
            // A spare that failed was never relied on; making it again shows whether the disk is well.
            && let Ok(Ok(spare)) = thread.join()
            && spare.bytes()? >= needed as u64
        {
            return Ok(spare);
        }
        zeroed(&self.dir, self.options.segment_bytes.max(needed), &*self.options.medium)
    }

    /// Zeroing 16 MiB takes longer than a turn may: it begins when half of the segment is left.
    fn prepare_spare(&mut self) {
        if !self.options.ahead || self.spare.is_some() || self.active.used < self.active.bytes / 2 {
            return;
        }
        let (dir, options) = (self.dir.clone(), self.options.clone());
        let thread = std::thread::Builder::new().name("wal-spare".into());
        // Without a thread the segment is made when it is needed.
        self.spare = thread.spawn(move || zeroed(&dir, options.segment_bytes, &*options.medium)).ok();
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        if let Some(thread) = self.spare.take() {
            // Nothing of ours may write into the directory once the log is closed.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal")
            .field("dir", &self.dir)
            .field("next_number", &self.next_number)
            .field("segments", &self.segments())
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

/// A segment's place and what is in it.
struct Segment {
    path: PathBuf,
    contents: Contents,
}

/// The segment being written.
struct Active {
    segment: Segment,
    file: Box<dyn MediumFile>,
    /// Size of the file.
    bytes: usize,
    /// Where the next batch goes.
    used: usize,
    /// CRC of the last batch, here or in a segment before; 0 without any.
    last_crc: u32,
    /// Of all segments of the log.
    salt: Salt,
}

impl Active {
    /// Turns the spare file into the segment `head` describes.
    fn named(
        dir: &Path,
        file: Box<dyn MediumFile>,
        head: Head,
        medium: &dyn Medium,
    ) -> Result<Self, StorageError> {
        let spare = dir.join(SPARE_FILE);
        let path = recovery::segment_path(dir, head.first_number);
        let bytes = file.bytes().map_err(at("inspect", &spare))? as usize;
        write_all(&*file, &head.encode()?, 0).map_err(at("write", &spare))?;
        file.sync().map_err(at("sync", &spare))?;
        medium.rename(&spare, &path).map_err(at("rename to", &path))?;
        medium.sync_dir(dir).map_err(at("sync directory", dir))?;
        let segment = Segment { path, contents: Contents::default() };
        let Head { previous_crc: last_crc, salt, .. } = head;
        Ok(Self { segment, file, bytes, used: HEAD_BYTES, last_crc, salt })
    }

    fn write(&mut self, draft: &mut Draft, stamp: Stamp) -> Result<(), StorageError> {
        let (bytes, crc) = draft.finish(self.salt, stamp);
        write_all(&*self.file, bytes, self.used as u64).map_err(at("write", &self.segment.path))?;
        self.used += bytes.len();
        self.last_crc = crc;
        self.segment.contents.add_all(&draft.records);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.file.sync().map_err(at("sync", &self.segment.path))
    }
}

/// Bytes of records by what they are about.
#[derive(Default)]
struct Contents(BTreeMap<Subject, usize>);

impl Contents {
    fn add_all(&mut self, records: &[(Subject, usize)]) {
        for (subject, bytes) in records {
            *self.0.entry(*subject).or_default() += bytes;
        }
    }

    fn any(&self, is_needed: &dyn Fn(Subject) -> bool) -> bool {
        self.0.keys().any(|subject| is_needed(*subject))
    }

    fn bytes(&self, is_counted: &dyn Fn(Subject) -> bool) -> usize {
        self.0.iter().filter(|(subject, _)| is_counted(**subject)).map(|(_, bytes)| bytes).sum()
    }
}

/// Makes the spare file: `bytes` zeros, written and not only reserved, so that a later fdatasync
/// has no block to allocate and no length to change.
fn zeroed(dir: &Path, bytes: usize, medium: &dyn Medium) -> io::Result<Box<dyn MediumFile>> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let path = dir.join(SPARE_FILE);
    medium.remove(&path)?;
    let file = medium.create(&path)?;
    let mut offset = 0;
    while offset < bytes {
        let chunk = ZEROS.len().min(bytes - offset);
        write_all(&*file, &ZEROS[..chunk], offset as u64)?;
        offset += chunk;
    }
    file.sync()?;
    Ok(file)
}
