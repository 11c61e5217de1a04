//! Reading the log, whether or not a node is writing it. Nothing is changed and no lock is taken.

use super::record::AuditRecord;
use super::walk::{Link, Walk};
use super::{FILE, KEPT, closed_files, closed_name, too_large};
use crate::StorageError;
use crate::files::at;
use crate::medium::{Medium as _, SystemMedium};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Largest file that is read: many times what is written.
const FILE_READ_MAX: u64 = 64 << 20;
/// A record that is being written looks cut off for the length of a write.
const READS_MAX: usize = 3;

/// The log in a data directory.
#[derive(Debug)]
pub struct AuditReader {
    dir: PathBuf,
    /// Closed files by the numbers of their first records, oldest first.
    closed: Vec<u64>,
    kept: Vec<String>,
}

impl AuditReader {
    /// Looks at the log in `dir`; none when there is none.
    pub fn open(dir: &Path) -> Result<Option<Self>, StorageError> {
        let names = SystemMedium.list(dir).map_err(at("list", dir))?;
        let closed = closed_files(&names);
        if closed.is_empty() && !names.iter().any(|name| name == FILE) {
            return Ok(None);
        }
        let mut kept: Vec<String> = names.into_iter().filter(|name| name.starts_with(KEPT)).collect();
        kept.sort();
        Ok(Some(Self { dir: dir.to_path_buf(), closed, kept }))
    }

    /// Number of its files.
    pub fn files(&self) -> usize {
        self.closed.len() + 1
    }

    /// Damaged files that were set aside and are still there.
    pub fn set_aside(&self) -> &[String] {
        &self.kept
    }

    /// Every record, oldest first, one file in memory at a time. The first that does not hold is an error, and the last
    /// item.
    pub fn records(&self) -> impl Iterator<Item = Result<AuditRecord, StorageError>> {
        let names = self.closed.iter().map(|first| (closed_name(*first), Some(*first)));
        let mut files: VecDeque<_> = names.chain([(FILE.to_owned(), None)]).collect();
        let (mut link, mut waiting) = (None, VecDeque::new());
        std::iter::from_fn(move || {
            while waiting.is_empty() {
                let (name, first) = files.pop_front()?;
                waiting = self.read(&name, first, &mut link);
            }
            let found = waiting.pop_front()?;
            if found.is_err() {
                files.clear();
            }
            Some(found)
        })
    }

    /// The records of a file, and what is wrong with it as the last item.
    fn read(
        &self,
        name: &str,
        first: Option<u64>,
        link: &mut Option<Link>,
    ) -> VecDeque<Result<AuditRecord, StorageError>> {
        let path = self.dir.join(name);
        let is_written = first.is_none();
        let mut reads = 0;
        loop {
            reads += 1;
            let bytes = match SystemMedium.read(&path, FILE_READ_MAX) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return [Err(too_large(&path))].into(),
                // Between two files there is none for a moment.
                Err(error) if is_written && error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return [Err(at("read", &path)(error))].into(),
            };
            let mut walk = Walk::new(&bytes, *link, first);
            let mut found = VecDeque::new();
            let mut is_being_written = false;
            for item in &mut walk {
                is_being_written = is_written && item.as_ref().is_err_and(|fault| fault.is_end);
                found.push_back(item.map_err(|fault| StorageError::AuditBroken {
                    path: path.clone(),
                    number: fault.number,
                    offset: fault.offset as u64,
                    reason: fault.reason,
                }));
            }
            if !is_being_written || reads == READS_MAX {
                *link = walk.link();
                return found;
            }
        }
    }
}
