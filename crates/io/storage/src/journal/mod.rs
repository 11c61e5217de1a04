//! The recording of a node: what its instances took and were told, to be run again later.
//!
//! ```text
//! journal/entries-<number of the first entry, 20 digits>.jrn
//! ┌──────────────────────────────┬──────────────┬──────────────┬──
//! │ frame QJRN v1                │ frame QJEN   │ frame QJEN   │ …
//! │ cluster id 32 ‖ operator 1 ‖ │ one entry: SSZ of aequa_types::recording::Entry
//! │ number of the first entry 8  │
//! └──────────────────────────────┴──────────────┴──────────────┴──
//! ```
//!
//! A diagnostic, not a safety record, and so the opposite of the vote log in every respect:
//!
//! - Nothing waits for the disk. What was written survives the end of the process, not that of the
//!   machine; [`Journal::finish`] syncs once.
//! - It is bounded: the oldest segment goes when there is no room ([`Journal::open`]).
//! - A process never continues a segment of an earlier one, so a torn end stays where it is, and
//!   reading goes on behind it.
//! - Reading takes no lock and changes nothing, also while a node writes: frames that are not whole
//!   yet, and segments dropped meanwhile, are holes.

mod reader;
#[cfg(test)]
mod tests;

use reader::ReadSegment;
pub use reader::Reader;

use crate::StorageError;
use crate::error::owner as name_of;
use crate::files::{at, create_dir_durable, create_exclusive, remove_if_present};
use crate::frame::{FrameKind, HEADER_BYTES};
use aequa_types::recording::{ENTRY_BYTES_MAX, Entry};
use aequa_types::{ClusterId, OperatorIndex};
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A recording is dropped in this many steps: so much of it is lost at a time, at most.
const SEGMENTS: u64 = 8;
/// Largest segment: it is read in one piece.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
/// The buffer keeps this much between turns, and gives back what a large value took.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

const HEAD_FRAME: FrameKind =
    FrameKind { name: "recording", magic: *b"QJRN", version: 1, flags_known: 0, payload_bytes_max: 256 };
const ENTRY_FRAME: FrameKind = FrameKind {
    name: "recorded entry",
    magic: *b"QJEN",
    version: 1,
    flags_known: 0,
    payload_bytes_max: ENTRY_BYTES_MAX,
};
const HEAD_BYTES: u64 = (HEADER_BYTES + 32 + 1 + 8) as u64;

/// Whose recording it is, and where in it a segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Head {
    cluster_id: ClusterId,
    operator: OperatorIndex,
    first: u64,
}

/// The recording of one operator, open for writing.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    cluster_id: ClusterId,
    operator: OperatorIndex,
    bytes_max: u64,
    /// Segments that are not written any more, oldest first.
    closed: VecDeque<Segment>,
    active: Option<(File, Segment)>,
    /// Number of the next entry appended.
    next: u64,
    buffer: Vec<u8>,
    /// Entries in the buffer.
    buffered: u64,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: u64,
}

impl Journal {
    /// Continues the recording in `dir`, or begins one. It never takes more than `bytes_max` bytes,
    /// unless a single entry is larger than that.
    pub fn open(
        dir: &Path,
        cluster_id: ClusterId,
        operator: OperatorIndex,
        bytes_max: u64,
    ) -> Result<Self, StorageError> {
        create_dir_durable(dir)?;
        let mut journal = Self {
            dir: dir.to_path_buf(),
            cluster_id,
            operator,
            bytes_max,
            closed: VecDeque::new(),
            active: None,
            next: 1,
            buffer: Vec::new(),
            buffered: 0,
        };
        let mut firsts = reader::segments(dir)?;
        let newest = firsts.pop();
        for first in firsts {
            let path = reader::segment_path(dir, first);
            let bytes = std::fs::metadata(&path).map_err(at("inspect", &path))?.len();
            journal.closed.push_back(Segment { path, bytes });
        }
        if let Some(first) = newest {
            journal.adopt(first)?;
        }
        Ok(journal)
    }

    /// Goes on behind the newest segment of an earlier process.
    fn adopt(&mut self, first: u64) -> Result<(), StorageError> {
        let path = reader::segment_path(&self.dir, first);
        self.next = first;
        let segment = reader::read_segment(&path)?;
        let entries = segment.as_ref().map_or(0, ReadSegment::entries_whole);
        let Some(segment) = segment.filter(|_| entries > 0) else {
            // Begun and nothing more: its name is the one the next segment needs.
            return remove_if_present(&path).map_err(at("remove", &path));
        };
        let owner = (self.cluster_id, self.operator);
        if (segment.head.cluster_id, segment.head.operator) != owner {
            return Err(StorageError::ForeignDirectory {
                path,
                found: name_of(segment.head.cluster_id, segment.head.operator),
                expected: name_of(owner.0, owner.1),
            });
        }
        self.next = first.saturating_add(entries);
        self.closed.push_back(Segment { path, bytes: segment.bytes_total() });
        Ok(())
    }

    /// Collects an entry for the next [`Journal::write_out`].
    pub fn append(&mut self, entry: &Entry) -> Result<(), StorageError> {
        let frame = ENTRY_FRAME.encode(0, &entry.as_ssz_bytes())?;
        if (self.buffer.len() + frame.len()) as u64 > self.segment_bytes() {
            self.write_out()?;
        }
        self.buffer.extend_from_slice(&frame);
        self.buffered += 1;
        Ok(())
    }

    /// Hands everything collected to the operating system.
    pub fn write_out(&mut self) -> Result<(), StorageError> {
        if self.buffered == 0 {
            return Ok(());
        }
        let bytes = self.buffer.len() as u64;
        let room = self.segment_bytes();
        if self.active.as_ref().is_none_or(|(_, segment)| segment.bytes + bytes > room) {
            self.roll(bytes)?;
        }
        self.make_room(bytes)?;
        if let Some((file, segment)) = &mut self.active {
            file.write_all(&self.buffer).map_err(at("write", &segment.path))?;
            segment.bytes += bytes;
        }
        self.next = self.next.saturating_add(self.buffered);
        self.buffered = 0;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Writes what is collected and makes the recording durable.
    pub fn finish(mut self) -> Result<(), StorageError> {
        self.write_out()?;
        match &self.active {
            Some((file, segment)) => file.sync_all().map_err(at("sync", &segment.path)),
            None => Ok(()),
        }
    }

    fn segment_bytes(&self) -> u64 {
        (self.bytes_max / SEGMENTS).min(SEGMENT_BYTES_MAX)
    }

    /// Begins a segment that is to take `bytes`.
    fn roll(&mut self, bytes: u64) -> Result<(), StorageError> {
        if let Some((_, full)) = self.active.take() {
            self.closed.push_back(full);
        }
        self.make_room(HEAD_BYTES + bytes)?;
        let path = reader::segment_path(&self.dir, self.next);
        let head = Head { cluster_id: self.cluster_id, operator: self.operator, first: self.next };
        let mut file = create_exclusive(&path).map_err(at("create", &path))?;
        file.write_all(&HEAD_FRAME.encode(0, &head.as_ssz_bytes())?).map_err(at("write", &path))?;
        self.active = Some((file, Segment { path, bytes: HEAD_BYTES }));
        Ok(())
    }

    /// Drops the oldest segments until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) -> Result<(), StorageError> {
        let active = self.active.as_ref().map_or(0, |(_, segment)| segment.bytes);
        let closed: u64 = self.closed.iter().map(|segment| segment.bytes).sum();
        let mut total = closed + active + bytes;
        while total > self.bytes_max
            && let Some(oldest) = self.closed.pop_front()
        {
            remove_if_present(&oldest.path).map_err(at("remove", &oldest.path))?;
            total -= oldest.bytes;
        }
        Ok(())
    }
}
