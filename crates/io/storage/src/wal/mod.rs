//! The vote log: every promise of the operator, durable before it is spoken.
//!
//! ```text
//! wal/votes-<first seq, 20 digits>.wal      zeroed and synced before use, rolled when full
//! ┌───────────────────────────────┬────────┬────────┬──────────────
//! │ frame QWAL v2                 │ record │ record │ zeros …
//! │ cluster id 32 ‖ operator 1 ‖  │  length u32 ‖ crc32 u32 ‖ seq ⊕ salt u64 ‖ payload
//! │ first seq u64 ‖               │  crc over salt and everything else; seq strictly +1
//! │ crc of the last record before │  payload: SSZ of aequa_types::Record, 1 byte to 4 MiB
//! │ u32 ‖ salt u64                │
//! └───────────────────────────────┴────────┴────────┴──────────────
//!                                    length: bit 31 parity ‖ 8 bits place in the batch ‖ 23 bits bytes
//! ```
//!
//! - [`Wal::append`] only collects; [`Wal::sync`] makes everything collected durable with one write
//!   and one fdatasync (one more when a segment fills up in between).
//! - After any error the log is poisoned: nothing is retried, the process must end.
//! - What one sync covers is a **batch** of at most 255 records; a turn of more takes several syncs. A
//!   length of at most 4 MiB leaves nine bits, which say how far behind the first record of its batch a
//!   record is, with a parity bit, so that no single flipped bit moves a record to another batch. The
//!   first record of a batch has them all zero. (255 is in logs of earlier versions: that far or further.)
//! - Reading stops at the first record that does not verify. If nothing behind it verifies, or only
//!   records of the **same batch** do, that was a write which never completed, so nobody was told of
//!   it: it is wiped, and `torn` says so. If a record of a later batch does verify, the one missing
//!   had been synced, something durable was lost, and opening is refused.
//! - A segment gets its name only after its head is durable; a nameless one is `spare.tmp` and is
//!   removed when the log is opened. The head chains segments, so a missing one is noticed.
//! - Whole segments are dropped from the front once nothing in them is needed ([`Wal::prune`]). What is still
//!   needed of old segments that are mostly done with is moved into one (`compact`), so that a single
//!   instance that stays open does not keep everything after it.
//!
//! # Damage in the last batch
//!
//! A power cut in the middle of one sync may let a disk keep the end of a batch and lose its
//! beginning. That must not stop the operator, and it looks exactly like rot in a last batch that had
//! been synced. Both are cut off. What tells them apart are the signing marks ([`crate::marks`]): they are
//! written only after the log is synced. Without its mark a lost statement was never sent, and the operator
//! is free; with it, the replica's signer lets nothing be signed there but the very same statement, no
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
use segment::{BATCH_RECORDS_MAX, HEAD_BYTES, Head, RecordHead, Salt, push_record};
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
/// The batch buffer keeps this much between turns, and gives back what a large value took.
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
    /// Seq of the next record appended.
    next_seq: u64,
    batch: Batch,
    /// Records written since the last sync, at most [`BATCH_RECORDS_MAX`].
    unsynced: usize,
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
                let head =
                    Head { cluster_id, operator, first_seq: 1, previous_crc: 0, salt, is_compacted: false };
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
            next_seq: found.next_seq,
            batch: Batch::default(),
            unsynced: 0,
            poisoned: false,
        };
        Ok((wal, Recovered { records: found.records, torn }))
    }

    /// Collects a record for the next [`Wal::sync`]. A record that is too large is refused, and the
    /// batch is as before.
    pub fn append(&mut self, record: &Record) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let start = self.batch.bytes.len();
        let place = (self.unsynced + self.batch.entries.len()) % BATCH_RECORDS_MAX;
        let head = RecordHead { seq: self.next_seq, place: place as u8 };
        let crc =
            push_record(&mut self.batch.bytes, self.active.salt, head, |buffer| record.ssz_append(buffer))?;
        self.batch.entries.push(Entry {
            seq: self.next_seq,
            crc,
            subject: record.subject(),
            bytes: self.batch.bytes.len() - start,
        });
        self.next_seq = self.next_seq.saturating_add(1);
        Ok(())
    }

    /// Hands what was appended to the operating system, as far as it fits into one batch: it survives the
    /// end of the process, but not that of the machine. Only [`Wal::sync`] makes it durable, and all of it.
    pub fn write(&mut self) -> Result<(), StorageError> {
        self.guarded(|wal| {
            let mut batch = std::mem::take(&mut wal.batch);
            let fitting = batch.entries.len().min(BATCH_RECORDS_MAX - wal.unsynced);
            wal.write_out(&batch, fitting)?;
            batch.forget(fitting);
            wal.batch = batch;
            Ok(())
        })
    }

    /// Makes everything appended durable; without anything appended it costs nothing.
    ///
    /// After an error nothing may be sent, and the log refuses everything.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        loop {
            self.write()?;
            self.guarded(Self::sync_active)?;
            if self.batch.entries.is_empty() {
                break;
            }
        }
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

    /// Seq the next appended record will get, from 1.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Number of segments on disk.
    pub fn segments(&self) -> usize {
        self.closed.len() + 1
    }

    /// Whether an earlier error stopped the log for ever.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Writes the first `records` of a batch.
    fn write_out(&mut self, batch: &Batch, records: usize) -> Result<(), StorageError> {
        let mut entries = &batch.entries[..records];
        let mut bytes = batch.bytes.as_slice();
        while let Some(first) = entries.first() {
            let (fitting, taken) = self.active.room_for(entries);
            if fitting == 0 {
                // What is in the full segment is durable before anything is in the next one.
                if self.unsynced > 0 {
                    self.active.sync()?;
                }
                self.roll(first)?;
                continue;
            }
            let (now, later) = bytes.split_at(taken);
            self.active.write(now, &entries[..fitting])?;
            self.unsynced += fitting;
            (entries, bytes) = (&entries[fitting..], later);
        }
        Ok(())
    }

    /// Starts the segment that begins with `next`. All records before it are durable.
    fn roll(&mut self, next: &Entry) -> Result<(), StorageError> {
        let needed = HEAD_BYTES + next.bytes;
        let file = self.take_spare(needed).map_err(at("preallocate segment in", &self.dir))?;
        let head = Head {
            cluster_id: self.cluster_id,
            operator: self.operator,
            first_seq: next.seq,
            previous_crc: self.active.last_crc,
            salt: self.active.salt,
            is_compacted: false,
        };
        let active = Active::named(&self.dir, file, head, &*self.options.medium)?;
        let full = std::mem::replace(&mut self.active, active);
        // One without records had the same first seq, and has just been replaced.
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
            .field("next_seq", &self.next_seq)
            .field("segments", &self.segments())
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

/// Records appended since the last sync, as they will lie on disk.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    seq: u64,
    crc: u32,
    subject: Subject,
    bytes: usize,
}

impl Batch {
    /// Drops the first `records`, which are written; keeps the memory, less what only a large value needed.
    fn forget(&mut self, records: usize) {
        let bytes: usize = self.entries.drain(..records).map(|entry| entry.bytes).sum();
        self.bytes.drain(..bytes);
        self.bytes.shrink_to(BUFFER_BYTES_KEPT);
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
    /// Where the next record goes.
    used: usize,
    /// CRC of the last record, here or in a segment before; 0 without any.
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
        let path = recovery::segment_path(dir, head.first_seq);
        let bytes = file.bytes().map_err(at("inspect", &spare))? as usize;
        write_all(&*file, &head.encode()?, 0).map_err(at("write", &spare))?;
        file.sync().map_err(at("sync", &spare))?;
        medium.rename(&spare, &path).map_err(at("rename to", &path))?;
        medium.sync_dir(dir).map_err(at("sync directory", dir))?;
        let segment = Segment { path, contents: Contents::default() };
        let Head { previous_crc: last_crc, salt, .. } = head;
        Ok(Self { segment, file, bytes, used: HEAD_BYTES, last_crc, salt })
    }

    /// How many of `entries` fit, and their size.
    fn room_for(&self, entries: &[Entry]) -> (usize, usize) {
        let room = self.bytes - self.used;
        let mut taken = 0;
        let fitting = entries
            .iter()
            .take_while(|entry| {
                let fits = taken + entry.bytes <= room;
                taken += if fits { entry.bytes } else { 0 };
                fits
            })
            .count();
        (fitting, taken)
    }

    fn write(&mut self, bytes: &[u8], entries: &[Entry]) -> Result<(), StorageError> {
        write_all(&*self.file, bytes, self.used as u64).map_err(at("write", &self.segment.path))?;
        self.used += bytes.len();
        for entry in entries {
            self.segment.contents.add(entry.subject, entry.bytes);
            self.last_crc = entry.crc;
        }
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
    fn add(&mut self, subject: Subject, bytes: usize) {
        *self.0.entry(subject).or_default() += bytes;
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
