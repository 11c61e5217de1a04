//! Reading a log back: all of it, or a refusal.

use super::segment::{Head, RECORD_BYTES_MAX, RECORD_HEAD_BYTES, RawBatch, SEGMENT_FRAME, Salt, Tail, walk};
use super::{Active, Contents, SEGMENT_BYTES_MAX, Segment};
use crate::StorageError;
use crate::error::owner;
use crate::files::at;
use crate::frame::FrameFault;
use crate::medium::{Medium, write_again};
use aequa_types::{ClusterId, OperatorIndex, Record};
use ssz::Encode as _;
use std::path::{Path, PathBuf};

const SEGMENT_VERSION: u16 = SEGMENT_FRAME.version;

/// Everything read, and what is needed to go on.
pub(super) struct Found {
    /// Oldest first.
    pub segments: Vec<FoundSegment>,
    pub records: Vec<Record>,
    pub next_number: u64,
    /// Segments that a compacted one has replaced, and that a crash kept from being removed.
    pub replaced: Vec<PathBuf>,
}

impl Found {
    /// Forgets what was read, because what follows replaces it.
    fn restart(&mut self, first_number: u64) {
        self.replaced.extend(self.segments.drain(..).map(|found| found.segment.path));
        self.records.clear();
        self.next_number = first_number;
    }
}

/// A segment that was read.
pub(super) struct FoundSegment {
    pub segment: Segment,
    bytes: usize,
    used: usize,
    newest: usize,
    torn_until: Option<usize>,
    last_crc: u32,
    salt: Salt,
    is_compacted: bool,
}

/// Path of the segment whose first batch is `first_number`; names sort like numbers.
pub(super) fn segment_path(dir: &Path, first_number: u64) -> PathBuf {
    dir.join(format!("votes-{first_number:020}.wal"))
}

/// Reads every segment in `dir` without changing anything.
pub(super) fn read_all(
    dir: &Path,
    medium: &dyn Medium,
    cluster_id: ClusterId,
    operator: OperatorIndex,
) -> Result<Found, StorageError> {
    let names = segment_numbers(dir, medium)?;
    let (segments, records, replaced) = (Vec::with_capacity(names.len()), Vec::new(), Vec::new());
    let mut found = Found { segments, records, next_number: 1, replaced };
    for (n, first_number) in names.iter().enumerate() {
        let path = segment_path(dir, *first_number);
        if *first_number < found.next_number && found.segments.first().is_some_and(|first| first.is_compacted)
        {
            found.replaced.push(path);
            continue;
        }
        let bytes = read_segment(&path, medium)?;
        let head = read_head(&path, &bytes, cluster_id, operator)?;
        if head.is_compacted {
            found.restart(head.first_number);
        }
        check_chain(&path, &head, *first_number, &found)?;
        let is_last = n + 1 == names.len();
        read_records(&mut found, path, &bytes, head, is_last)?;
    }
    Ok(found)
}

/// Opens the last segment for writing, wiping what never completed. Gives whether there was such.
pub(super) fn reopen(found: FoundSegment, medium: &dyn Medium) -> Result<(Active, bool), StorageError> {
    let path = &found.segment.path;
    let file = medium.open(path).map_err(at("open", path))?;
    let mut content = read_segment(path, medium)?;
    content.truncate(found.torn_until.unwrap_or(found.used));
    content[found.used..].fill(0);
    // What was synced before this was written is left in peace.
    write_again(medium, path, &*file, &content[found.newest..], found.newest)?;
    let torn = found.torn_until.is_some();
    let FoundSegment { segment, bytes, used, last_crc, salt, .. } = found;
    Ok((Active { segment, file, bytes, used, last_crc, salt }, torn))
}

fn segment_numbers(dir: &Path, medium: &dyn Medium) -> Result<Vec<u64>, StorageError> {
    let mut numbers = Vec::new();
    for name in medium.list(dir).map_err(at("list", dir))? {
        let Some(digits) = name.strip_prefix("votes-").and_then(|rest| rest.strip_suffix(".wal")) else {
            continue;
        };
        match digits.parse() {
            Ok(number) if digits.len() == 20 => numbers.push(number),
            _ => return Err(corrupt(&dir.join(&name), 0, "not the name of a segment")),
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn read_segment(path: &Path, medium: &dyn Medium) -> Result<Vec<u8>, StorageError> {
    let content = medium.read(path, SEGMENT_BYTES_MAX as u64).map_err(at("read", path))?;
    content.ok_or_else(|| corrupt(path, 0, "larger than any segment"))
}

fn read_head(
    path: &Path,
    bytes: &[u8],
    cluster_id: ClusterId,
    operator: OperatorIndex,
) -> Result<Head, StorageError> {
    let head = match Head::decode(bytes) {
        Ok((head, SEGMENT_VERSION)) => head,
        Ok((_, found)) => return Err(StorageError::OlderLog { path: path.to_path_buf(), found }),
        // The head was durable before the segment got its name.
        Err(FrameFault::Unreadable(reason)) => return Err(corrupt(path, 0, reason)),
        Err(FrameFault::NewerVersion { found, known }) => {
            return Err(StorageError::NewerVersion { path: path.to_path_buf(), found, known });
        }
    };
    if (head.cluster_id, head.operator) != (cluster_id, operator) {
        return Err(StorageError::ForeignDirectory {
            path: path.to_path_buf(),
            found: owner(head.cluster_id, head.operator),
            expected: owner(cluster_id, operator),
        });
    }
    Ok(head)
}

fn check_chain(path: &Path, head: &Head, named: u64, found: &Found) -> Result<(), StorageError> {
    if head.first_number != named {
        return Err(corrupt(path, 0, "name and head give different first batches"));
    }
    // What came before the oldest segment was pruned and cannot be checked.
    let Some(previous) = found.segments.last() else { return Ok(()) };
    if head.first_number != found.next_number {
        return Err(corrupt(path, 0, "batches are missing before this segment"));
    }
    if head.previous_crc != previous.last_crc || head.salt != previous.salt {
        return Err(corrupt(path, 0, "does not continue the segment before"));
    }
    Ok(())
}

fn read_records(
    found: &mut Found,
    path: PathBuf,
    bytes: &[u8],
    head: Head,
    is_last: bool,
) -> Result<(), StorageError> {
    let walked = walk(bytes, head.salt, head.first_number);
    let torn_until = match walked.tail {
        Tail::Clean => None,
        Tail::Torn { until } if is_last => Some(until),
        Tail::Torn { .. } => {
            return Err(corrupt(&path, walked.end, "damaged, and a later segment exists"));
        }
        Tail::Corrupt => return Err(corrupt(&path, walked.end, "damaged, and a later batch is intact")),
    };
    let mut contents = Contents::default();
    for batch in &walked.batches {
        for (record, bytes) in decode(&path, bytes, batch)? {
            contents.add_all(&[(record.subject(), bytes.len() + RECORD_HEAD_BYTES)]);
            found.records.push(record);
        }
    }
    found.next_number = head.first_number.saturating_add(walked.batches.len() as u64);
    found.segments.push(FoundSegment {
        segment: Segment { path, contents },
        bytes: bytes.len(),
        used: walked.end,
        newest: walked.newest,
        torn_until,
        salt: head.salt,
        is_compacted: head.is_compacted,
        last_crc: walked.batches.last().map_or(head.previous_crc, |batch| batch.crc),
    });
    Ok(())
}

/// The records of a batch, each with its bytes.
pub(super) fn decode<'a>(
    path: &Path,
    segment: &'a [u8],
    batch: &RawBatch,
) -> Result<Vec<(Record, &'a [u8])>, StorageError> {
    let refused = || corrupt(path, batch.range.start, "intact bytes that are no record");
    let records = batch.records(segment).ok_or_else(refused)?;
    let decoded = records.into_iter().map(|range| {
        let bytes = &segment[range];
        let record: Record =
            aequa_types::decode("vote log record", bytes, RECORD_BYTES_MAX).map_err(|_| refused())?;
        // What is read is what was written, and not something like it.
        if record.as_ssz_bytes() == bytes { Ok((record, bytes)) } else { Err(refused()) }
    });
    decoded.collect()
}

pub(super) fn corrupt(path: &Path, offset: usize, reason: &'static str) -> StorageError {
    StorageError::WalCorrupt { path: path.to_path_buf(), offset: offset as u64, reason }
}
