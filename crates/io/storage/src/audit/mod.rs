//! The audit log: what a node did that somebody may ask about later, in records that name each other by their hashes.
//!
//! ```text
//! audit-<number of the first record, 20 digits>.log    closed files, oldest first
//! audit.log                                            the one that is written
//! audit.log.damaged-<n>                                copies of it as it was found damaged
//! audit.lock                                           whose turn it is to write
//!
//! file:   one frame AUDT after the other, each with one record
//! record: SSZ of number 8 ‖ wall_ms 8 ‖ previous 32 ‖ entry: kind 1 ‖ event ‖ fields of name and value
//! hash:   SHA-256("aequa/audit/v1" ‖ 0x00 ‖ record); `previous` is that of the record before, zero in the first
//! ```
//!
//! The hash of the last record, the head, stands for all of the log: whoever has written it down elsewhere finds out
//! later whether anything before it was changed, moved or left out. Without that, whoever can write to the directory
//! can also write another log.
//!
//! It is evidence and no safety record, so nothing that a node signs waits for it or depends on it.
//!
//! # Rules
//!
//! 1. Records are appended, by one writer at a time: whoever holds `audit.lock`, for the length of a write. A command
//!    may write beside a node, and each goes on behind what the other has written.
//! 2. [`AuditLog::append`] hands a record to the operating system, [`AuditLog::sync`] makes it durable.
//! 3. A write that was cut short leaves an end in which nothing can be read. It is cut off, and a record says so.
//! 4. Anything else that does not hold is damage. The file as it was is kept, a few times; what comes before the damage
//!    stays, and the chain goes on behind it with a record of what was found.
//! 5. Files are closed at a size, and the oldest goes when there are too many: the chain goes on over files, and is
//!    checked from the oldest that is there.
//! 6. What a newer program has written is left alone.
//!
//! [`EntryLog`](crate::entry_log::EntryLog) syncs every batch, is read as a whole and refuses damage: right for what a
//! ceremony rests upon, wrong here.

mod reader;
mod record;
#[cfg(test)]
mod tests;
mod walk;

pub use reader::AuditReader;
pub use record::{AuditEntry, AuditKind, AuditRecord};

use crate::StorageError;
use crate::files::{at, open_or_create};
use crate::medium::{Medium, SystemMedium, write_again, write_all};
use alloy_primitives::B256;
use record::RECORD_FRAME;
use ssz::Encode as _;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use walk::{Fault, Link, Walk};

/// Name of the file that is written.
const FILE: &str = "audit.log";
const LOCK_FILE: &str = "audit.lock";
/// How copies of damaged files begin.
const KEPT: &str = "audit.log.damaged-";
/// A file that is to take the place of another; strays of this name go at a start.
const DRAFT: &str = "audit.log.tmp-draft";
/// How long another one's turn is waited for: it writes a few megabytes at most.
const TURN_WITHIN: Duration = Duration::from_secs(3);
const TURN_POLL: Duration = Duration::from_millis(5);
/// Damaged files that are kept: the first ones, which show how it began.
const KEPT_MAX: usize = 4;

/// How large a log may become.
#[derive(Clone)]
pub struct AuditOptions {
    /// Bytes at which a file is closed: read as a whole at every opening, so not many.
    pub file_bytes_max: u64,
    /// Closed files that are kept.
    pub files_max: usize,
    /// The disk.
    pub medium: Arc<dyn Medium>,
}

impl Default for AuditOptions {
    /// A quarter of a GiB: months of a node that decides ten blocks a second.
    fn default() -> Self {
        Self { file_bytes_max: 4 << 20, files_max: 64, medium: Arc::new(SystemMedium) }
    }
}

/// The audit log of a data directory, open for writing.
pub struct AuditLog {
    dir: PathBuf,
    options: AuditOptions,
    tail: Tail,
}

/// Where the next record goes.
#[derive(Debug, Clone, Copy)]
struct Tail {
    link: Link,
    /// Number of the first record of the file.
    first: u64,
    /// Bytes of the file.
    bytes: u64,
}

/// Whether there is an audit log in a data directory.
pub fn exists(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

impl AuditLog {
    /// Opens the log in `dir`, which exists, or begins one.
    pub fn open(dir: &Path, options: AuditOptions) -> Result<Self, StorageError> {
        let tail = Tail { link: Link::BEGIN, first: 1, bytes: 0 };
        let mut log = Self { dir: dir.to_path_buf(), options, tail };
        let _turn = log.turn()?;
        let bytes = log.load()?;
        if !bytes.is_empty() {
            let (path, medium) = (log.path(), &*log.options.medium);
            let file = medium.open(&path).map_err(at("open", &path))?;
            write_again(medium, &path, &*file, &bytes, 0)?;
        }
        Ok(log)
    }

    /// Appends a record. It outlives the process from now on, and a power cut after [`AuditLog::sync`]. After an error the
    /// record is not in the log, and the next one may be tried.
    pub fn append(&mut self, entry: &AuditEntry) -> Result<(), StorageError> {
        let _turn = self.turn()?;
        if !self.is_as_left()? {
            self.catch_up()?;
        }
        self.push(entry)
    }

    /// Makes everything that was appended durable.
    pub fn sync(&self) -> Result<(), StorageError> {
        let path = self.path();
        let file = self.options.medium.open(&path).map_err(at("open", &path))?;
        file.sync().map_err(at("sync", &path))
    }

    /// Waits for the turn to write; it ends with the value. Not for ever: another process may have been stopped in its.
    fn turn(&self) -> Result<File, StorageError> {
        let path = self.dir.join(LOCK_FILE);
        let file = open_or_create(&path).map_err(at("open", &path))?;
        let until = Instant::now() + TURN_WITHIN;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(TURN_POLL),
                Err(error) => return Err(at("lock", &path)(error.into())),
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Whether the file is the one that was written last, and ends where that write did.
    fn is_as_left(&self) -> Result<bool, StorageError> {
        let path = self.path();
        match self.options.medium.open(&path).and_then(|file| file.bytes()) {
            Ok(bytes) if bytes != self.tail.bytes => Ok(false),
            Ok(_) => Ok(!self.list()?.contains(&closed_name(self.tail.first))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at("open", &path)(error)),
        }
    }

    /// Goes on behind what somebody else has written, or behind an own write that was cut short.
    fn catch_up(&mut self) -> Result<(), StorageError> {
        let known = self.tail.link;
        self.load()?;
        if self.tail.link.next < known.next {
            let gone = AuditEntry::new(AuditKind::Log, "gone")
                .with("records", known.next - self.tail.link.next)
                .with("head", known.head);
            self.push(&gone)?;
        }
        Ok(())
    }

    /// Reads the file that is written, and mends it where it does not hold. Gives its bytes, unless they are durable
    /// already.
    fn load(&mut self) -> Result<Vec<u8>, StorageError> {
        let bytes = match self.read(FILE) {
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let path = self.path();
                self.options.medium.create(&path).map_err(at("create", &path))?;
                self.sync_dir()?;
                Vec::new()
            }
            read => read?,
        };
        let (mut first, mut fault, mut notes) = (None, None, Vec::new());
        let mut walk = Walk::new(&bytes, None, None);
        for found in &mut walk {
            match found {
                Ok(record) => first = first.or(Some(record.number)),
                Err(found) => fault = Some(found),
            }
        }
        let (link, end) = (walk.link(), walk.end());
        let link = match link {
            Some(link) => link,
            None => self.end_of_closed(&mut notes)?,
        };
        // What does not hold is not counted: the next append would look at it again.
        self.tail = Tail { link, first: first.unwrap_or(link.next), bytes: end as u64 };
        if let Some(fault) = fault {
            let event = if fault.is_end { "cut" } else { "damaged" };
            let note = self.note(event, &fault, FILE)?.with("bytes", bytes.len() - end);
            notes.push(if fault.is_end { note } else { note.with("kept", self.keep(&bytes)?) });
        }
        if notes.is_empty() {
            return Ok(bytes);
        }
        self.mend(&bytes[..end], &notes)?;
        Ok(Vec::new())
    }

    /// What the newest closed file ends with.
    fn end_of_closed(&self, notes: &mut Vec<AuditEntry>) -> Result<Link, StorageError> {
        let Some(first) = closed_files(&self.list()?).pop() else { return Ok(Link::BEGIN) };
        let name = closed_name(first);
        let bytes = self.read(&name)?;
        let mut walk = Walk::new(&bytes, None, Some(first));
        if let Some(fault) = walk.find_map(Result::err) {
            notes.push(self.note("damaged", &fault, &name)?);
        }
        // Of nothing that can be read the name is left; the number of its first record is taken.
        Ok(walk.link().unwrap_or(Link { next: first.saturating_add(1), head: B256::ZERO }))
    }

    /// What is recorded of a fault.
    fn note(&self, event: &'static str, fault: &Fault, name: &str) -> Result<AuditEntry, StorageError> {
        if let Some(found) = fault.newer {
            let path = self.dir.join(name);
            return Err(StorageError::NewerVersion { path, found, known: RECORD_FRAME.version });
        }
        let note = AuditEntry::new(AuditKind::Log, event).with("file", name).with("record", fault.number);
        Ok(note.with("offset", fault.offset).with("reason", fault.reason))
    }

    /// Keeps a copy of a damaged file; gives its name, or says why there is none.
    fn keep(&self, bytes: &[u8]) -> Result<String, StorageError> {
        let names = self.list()?;
        let mut free = (1..=KEPT_MAX).map(|number| format!("{KEPT}{number}"));
        let Some(name) = free.find(|name| !names.contains(name)) else {
            return Ok(format!("no copy: {KEPT_MAX} are there"));
        };
        self.put(&name, bytes)?;
        Ok(name)
    }

    /// Puts what holds in place of the file, with records of what was found.
    fn mend(&mut self, holds: &[u8], notes: &[AuditEntry]) -> Result<(), StorageError> {
        let (mut bytes, mut link) = (holds.to_vec(), self.tail.link);
        for note in notes {
            let (frame, next) = encode(link, note)?;
            bytes.extend_from_slice(&frame);
            link = next;
        }
        self.put(FILE, &bytes)?;
        self.tail = Tail { link, bytes: bytes.len() as u64, ..self.tail };
        Ok(())
    }

    fn push(&mut self, entry: &AuditEntry) -> Result<(), StorageError> {
        let (frame, link) = encode(self.tail.link, entry)?;
        let bytes = frame.len() as u64;
        if self.tail.bytes > 0 && self.tail.bytes + bytes > self.options.file_bytes_max {
            self.close()?;
        }
        let path = self.path();
        let file = self.options.medium.open(&path).map_err(at("open", &path))?;
        write_all(&*file, &frame, self.tail.bytes).map_err(at("write", &path))?;
        self.tail = Tail { link, bytes: self.tail.bytes + bytes, ..self.tail };
        Ok(())
    }

    /// Closes the file and begins the next one; the oldest go where there are too many.
    fn close(&mut self) -> Result<(), StorageError> {
        self.sync()?;
        let (path, closed) = (self.path(), self.dir.join(closed_name(self.tail.first)));
        let medium = &self.options.medium;
        medium.rename(&path, &closed).map_err(at("rename to", &closed))?;
        medium.create(&path).map_err(at("create", &path))?;
        self.sync_dir()?;
        self.tail = Tail { first: self.tail.link.next, bytes: 0, ..self.tail };
        let closed = closed_files(&self.list()?);
        for first in &closed[..closed.len().saturating_sub(self.options.files_max)] {
            let path = self.dir.join(closed_name(*first));
            self.options.medium.remove(&path).map_err(at("remove", &path))?;
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, StorageError> {
        let path = self.dir.join(name);
        let read = self.options.medium.read(&path, 2 * self.options.file_bytes_max);
        read.map_err(at("read", &path))?.ok_or_else(|| too_large(&path))
    }

    /// Puts a file in place of one that may be there; durable on return.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let (path, draft) = (self.dir.join(name), self.dir.join(DRAFT));
        let medium = &self.options.medium;
        medium.remove(&draft).map_err(at("remove", &draft))?;
        let file = medium.create(&draft).map_err(at("create", &draft))?;
        write_all(&*file, bytes, 0).map_err(at("write", &draft))?;
        file.sync().map_err(at("sync", &draft))?;
        medium.rename(&draft, &path).map_err(at("rename to", &path))?;
        self.sync_dir()
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        self.options.medium.list(&self.dir).map_err(at("list", &self.dir))
    }

    fn sync_dir(&self) -> Result<(), StorageError> {
        self.options.medium.sync_dir(&self.dir).map_err(at("sync directory", &self.dir))
    }
}

/// The frame of a record that follows from `link`, and what the next one follows from.
fn encode(link: Link, entry: &AuditEntry) -> Result<(Vec<u8>, Link), StorageError> {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let wall_ms = u64::try_from(wall).unwrap_or(u64::MAX);
    let record = AuditRecord { number: link.next, wall_ms, previous: link.head, entry: entry.clone() };
    Ok((RECORD_FRAME.encode(0, &record.as_ssz_bytes())?, record.link()))
}

fn closed_name(first: u64) -> String {
    format!("audit-{first:020}.log")
}

/// Numbers of the first records of closed files, in order.
fn closed_files(names: &[String]) -> Vec<u64> {
    let first = |name: &String| name.strip_prefix("audit-")?.strip_suffix(".log")?.parse().ok();
    let mut firsts: Vec<u64> = names.iter().filter_map(first).collect();
    firsts.retain(|first| names.contains(&closed_name(*first)));
    firsts.sort_unstable();
    firsts
}

fn too_large(path: &Path) -> StorageError {
    let reason = "larger than any file of an audit log; move it away";
    StorageError::EntryLogCorrupt { path: path.to_path_buf(), reason }
}
