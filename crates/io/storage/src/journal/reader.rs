//! Reading a recording, whether or not a node is writing it.

use super::{ENTRY_FRAME, HEAD_BYTES, HEAD_FRAME, Head, SEGMENT_BYTES_MAX};
use crate::StorageError;
use crate::files::{at, open_to_read};
use crate::frame::FrameFault;
use aequa_types::recording::{ENTRY_BYTES_MAX, Entry, Numbered};
use aequa_types::{ClusterId, OperatorIndex};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Most bytes read of a segment: one of full size, or one made for a single entry.
const SEGMENT_READ_MAX: u64 = SEGMENT_BYTES_MAX + (ENTRY_BYTES_MAX as u64);

/// A recording to be read from its beginning.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    firsts: Vec<u64>,
    head: Head,
}

impl Reader {
    /// Looks at the recording in `dir`; none when there is none.
    pub fn open(dir: &Path) -> Result<Option<Self>, StorageError> {
        let firsts = match segments(dir) {
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        for newest in firsts.iter().rev() {
            if let Some(ReadSegment { head, .. }) = read_segment(&segment_path(dir, *newest))? {
                return Ok(Some(Self { dir: dir.to_path_buf(), firsts, head }));
            }
        }
        Ok(None)
    }

    /// Whose recording it is.
    pub fn owner(&self) -> (ClusterId, OperatorIndex) {
        (self.head.cluster_id, self.head.operator)
    }

    /// Every entry, oldest first, one segment in memory at a time. What cannot be read is a hole.
    pub fn entries(self) -> impl Iterator<Item = Result<Numbered, StorageError>> {
        let mut expected = None;
        self.firsts.clone().into_iter().flat_map(move |first| {
            let hole = expected.is_some_and(|expected| expected != first);
            let (found, next) = match self.segment(first) {
                Ok(found) => found,
                Err(error) => return vec![Err(error)],
            };
            expected = next;
            let before = hole.then_some(Numbered { number: first, entry: None });
            before.into_iter().chain(found).map(Ok).collect()
        })
    }

    /// The entries of a segment, and the number that follows them when all of it was read.
    fn segment(&self, first: u64) -> Result<(Vec<Numbered>, Option<u64>), StorageError> {
        let hole = |number| Numbered { number, entry: None };
        let Some(segment) = read_segment(&segment_path(&self.dir, first))? else {
            return Ok((vec![hole(first)], None));
        };
        let mut number = first;
        let mut found = Vec::new();
        for entry in segment.entries() {
            let Ok(entry) = entry else {
                found.push(hole(number));
                return Ok((found, None));
            };
            found.push(Numbered { number, entry: Some(entry) });
            number = number.saturating_add(1);
        }
        Ok((found, Some(number)))
    }
}

/// A segment in memory.
pub(super) struct ReadSegment {
    pub(super) head: Head,
    bytes: Vec<u8>,
}

impl ReadSegment {
    /// How many entries can be read before its end, or before the first that cannot.
    pub(super) fn entries_whole(&self) -> u64 {
        self.entries().take_while(Result::is_ok).count() as u64
    }

    pub(super) fn bytes_total(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Its entries; an error is the last item.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<Entry, FrameFault>> + '_ {
        let mut rest = self.bytes.get(HEAD_BYTES as usize..).unwrap_or_default();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let entry = ENTRY_FRAME.split(rest).and_then(|(frame, after)| {
                rest = after;
                aequa_types::decode("recorded entry", &frame.payload, ENTRY_BYTES_MAX)
                    .map_err(|_| FrameFault::Unreadable("intact bytes that are no entry"))
            });
            if entry.is_err() {
                rest = &[];
            }
            Some(entry)
        })
    }
}

pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("entries-{first:020}.jrn"))
}

/// Numbers of the first entries of all segments, in order. Other files are not looked at.
pub(super) fn segments(dir: &Path) -> Result<Vec<u64>, StorageError> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        let name = entry.map_err(at("list", dir))?.file_name();
        let name = name.to_string_lossy();
        let digits = name.strip_prefix("entries-").and_then(|rest| rest.strip_suffix(".jrn"));
        firsts
            .extend(digits.filter(|digits| digits.len() == 20).and_then(|digits| digits.parse::<u64>().ok()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Reads a segment; none when there is nothing to be read of it: its head was never written, or the
/// node dropped it since the directory was listed.
pub(super) fn read_segment(path: &Path) -> Result<Option<ReadSegment>, StorageError> {
    let mut bytes = Vec::new();
    let read = open_to_read(path).and_then(|file| file.take(SEGMENT_READ_MAX).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(at("read", path))?,
    };
    let head = match HEAD_FRAME.split(&bytes) {
        Ok((frame, _)) => aequa_types::decode("recording", &frame.payload, HEAD_FRAME.payload_bytes_max).ok(),
        Err(FrameFault::Unreadable(_)) => None,
        Err(FrameFault::NewerVersion { found, known }) => {
            return Err(StorageError::NewerVersion { path: path.to_path_buf(), found, known });
        }
    };
    Ok(head.map(|head| ReadSegment { head, bytes }))
}
