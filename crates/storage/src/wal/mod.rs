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
//! - What one sync covers is a **batch**. A length of at most 4 MiB leaves nine bits, which say how
//!   far behind the first record of its batch a record is (255: that far or further), with a parity
//!   bit, so that no single flipped bit moves a record to another batch. The first record of a batch
//!   has them all zero.
//! - Reading stops at the first record that does not verify. If nothing behind it verifies, or only
//!   records of the **same batch** do, that was a write which never completed, so nobody was told of
//!   it: it is wiped, and `torn` says so. If a record of a later batch does verify, the one missing
//!   had been synced, something durable was lost, and opening is refused.
//! - A segment gets its name only after its head is durable; a nameless one is `spare.tmp` and is
//!   removed when the log is opened. The head chains segments, so a missing one is noticed.
//! - Whole segments are dropped once nothing in them is needed ([`Wal::prune_below`]).
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

mod recovery;
mod segment;
#[cfg(test)]
mod tests;

pub use crate::medium::{Medium, MediumFile, SystemMedium};
pub use segment::RECORD_BYTES_MAX;

use crate::StorageError;
use crate::files::at;
use crate::medium::write_all;
use aequa_types::{ClusterId, Domain, Height, InstanceId, OperatorIndex, Record};
use segment::{HEAD_BYTES, Head, RecordHead, Salt, push_record};
use ssz::Encode as _;
use std::collections::VecDeque;
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
    /// How many records come before the next one in what the next sync covers.
    batch_place: u8,
    /// Whether something was written to the active segment since its last sync.
    unsynced: bool,
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
        medium.remove(&dir.join(SPARE_FILE)).map_err(at("remove", dir))?;
        let mut found = recovery::read_all(dir, medium, cluster_id, operator)?;
        let (active, torn) = match found.segments.pop() {
            Some(last) => recovery::reopen(last, medium)?,
            None => {
                let salt = Salt((options.fresh_salt)().map_err(at("make the salt of", dir))?);
                let head = Head { cluster_id, operator, first_seq: 1, previous_crc: 0, salt };
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
            batch_place: 0,
            unsynced: false,
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
        let head = RecordHead { seq: self.next_seq, place: self.batch_place };
        let crc =
            push_record(&mut self.batch.bytes, self.active.salt, head, |buffer| record.ssz_append(buffer))?;
        self.batch_place = self.batch_place.saturating_add(1);
        self.batch.entries.push(Entry {
            seq: self.next_seq,
            crc,
            instance: record.instance(),
            bytes: self.batch.bytes.len() - start,
        });
        self.next_seq = self.next_seq.saturating_add(1);
        Ok(())
    }

    /// Hands everything appended to the operating system: it survives the end of the process, but
    /// not that of the machine. Only [`Wal::sync`] makes it durable.
    pub fn write(&mut self) -> Result<(), StorageError> {
        self.guarded(|wal| {
            if wal.batch.entries.is_empty() {
                return Ok(());
            }
            let batch = std::mem::take(&mut wal.batch);
            wal.write_out(&batch)?;
            wal.batch = batch.emptied();
            Ok(())
        })
    }

    /// Makes everything appended durable; without anything appended it costs nothing.
    ///
    /// After an error nothing may be sent, and the log refuses everything.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.write()?;
        self.guarded(Self::sync_active)?;
        self.prepare_spare();
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), StorageError> {
        if self.unsynced {
            self.active.sync()?;
            self.unsynced = false;
            self.batch_place = 0;
        }
        Ok(())
    }

    fn guarded(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let done = work(self);
        self.poisoned = done.is_err();
        done
    }

    /// Drops the oldest segments in which every record is below `height_of` its domain. Call it
    /// only when what replaces them, a checkpoint or a stored block, is durable. Gives the number
    /// of segments dropped.
    pub fn prune_below(&mut self, height_of: &dyn Fn(Domain) -> Height) -> Result<usize, StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let mut dropped = 0;
        while let Some(oldest) = self.closed.front()
            && oldest.heights.all_below(height_of)
        {
            self.options.medium.remove(&oldest.path).map_err(at("remove", &oldest.path))?;
            // One by one: were a later removal durable before an earlier one, the log had a hole.
            self.options.medium.sync_dir(&self.dir).map_err(at("sync directory", &self.dir))?;
            self.closed.pop_front();
            dropped += 1;
        }
        Ok(dropped)
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

    fn write_out(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut entries = batch.entries.as_slice();
        let mut bytes = batch.bytes.as_slice();
        while let Some(first) = entries.first() {
            let (fitting, taken) = self.active.room_for(entries);
            if fitting == 0 {
                // What is in the full segment is durable before anything is in the next one.
                if self.unsynced {
                    self.active.sync()?;
                }
                self.roll(first)?;
                continue;
            }
            let (now, later) = bytes.split_at(taken);
            self.active.write(now, &entries[..fitting])?;
            self.unsynced = true;
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
    instance: InstanceId,
    bytes: usize,
}

impl Batch {
    /// The same memory for the next batch, less what only a large value needed.
    fn emptied(mut self) -> Self {
        self.bytes.clear();
        self.entries.clear();
        self.bytes.shrink_to(BUFFER_BYTES_KEPT);
        self
    }
}

/// A segment's place and what is in it.
struct Segment {
    path: PathBuf,
    heights: MaxHeights,
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
        let segment = Segment { path, heights: MaxHeights::default() };
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
            self.segment.heights.raise(entry.instance);
            self.last_crc = entry.crc;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.file.sync().map_err(at("sync", &self.segment.path))
    }
}

/// Highest height per domain.
#[derive(Default)]
struct MaxHeights([Option<Height>; Domain::ALL.len()]);

impl MaxHeights {
    fn raise(&mut self, instance: InstanceId) {
        let slot = &mut self.0[usize::from(instance.domain.number())];
        *slot = (*slot).max(Some(instance.height));
    }

    fn all_below(&self, height_of: &dyn Fn(Domain) -> Height) -> bool {
        Domain::ALL
            .into_iter()
            .zip(self.0)
            .all(|(domain, highest)| highest.is_none_or(|highest| highest < height_of(domain)))
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
