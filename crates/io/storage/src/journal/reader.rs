//! Reading a recording, whether or not a node is writing it.

use super::{ENTRY_FRAME, HEAD_FRAME, Head};
use crate::StorageError;
use crate::files::{at, open_to_read};
use crate::frame::FrameFault;
use aequa_types::{ClusterId, OperatorIndex};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

const EXTENSION: &str = "jrn";

/// The recordings of all processes in `dir`, the oldest first; none where there is no such folder. One of which not
/// even the head is there, or that was dropped meanwhile, is left out.
pub fn lives(dir: &Path) -> Result<Vec<Life>, StorageError> {
    let numbers = match numbers(dir) {
        Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let mut lives = Vec::new();
    for number in numbers {
        lives.extend(Life::open(path_of(dir, number))?);
    }
    Ok(lives)
}

/// The recording of a process, to be read from its beginning.
#[derive(Debug)]
pub struct Life {
    path: PathBuf,
    head: Head,
    source: BufReader<File>,
    ended: bool,
}

impl Life {
    fn open(path: PathBuf) -> Result<Option<Self>, StorageError> {
        let file = match open_to_read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(at("open", &path))?,
        };
        let mut source = BufReader::new(file);
        let frame = match HEAD_FRAME.next(&mut source).map_err(at("read", &path))? {
            Some(Ok(frame)) => frame,
            None | Some(Err(FrameFault::Unreadable(_))) => return Ok(None),
            Some(Err(FrameFault::NewerVersion { found, known })) => {
                return Err(StorageError::NewerVersion { path, found, known });
            }
        };
        let head = aequa_types::decode("recording", &frame.payload, HEAD_FRAME.payload_bytes_max);
        Ok(head.ok().map(|head| Self { path, head, source, ended: false }))
    }

    /// Whose recording it is.
    pub fn owner(&self) -> (ClusterId, OperatorIndex) {
        (self.head.cluster_id, self.head.operator)
    }

    /// The same once more, from its beginning; none when it was dropped meanwhile.
    pub fn again(&self) -> Result<Option<Self>, StorageError> {
        Self::open(self.path.clone())
    }
}

/// Entries up to the first that is not whole.
impl Iterator for Life {
    type Item = Result<Vec<u8>, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match ENTRY_FRAME.next(&mut self.source) {
            Ok(Some(Ok(frame))) => Some(Ok(frame.payload)),
            Ok(None | Some(Err(_))) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(at("read", &self.path)(error)))
            }
        }
    }
}

pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("life-{number:020}.{EXTENSION}"))
}

/// The number of the newest process that recorded.
pub(super) fn newest(dir: &Path) -> Result<Option<u64>, StorageError> {
    Ok(numbers(dir)?.pop())
}

/// Everything in the folder that takes its room, the oldest first; what versions before this recorded comes before.
pub(super) fn recordings(dir: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        paths.push(entry.map_err(at("list", dir))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    paths.sort_unstable();
    Ok(paths)
}

fn numbers(dir: &Path) -> Result<Vec<u64>, StorageError> {
    let number = |path: PathBuf| {
        let digits = path.file_stem()?.to_str()?.strip_prefix("life-")?.to_owned();
        digits.parse().ok().filter(|_| digits.len() == 20)
    };
    Ok(recordings(dir)?.into_iter().filter_map(number).collect())
}
