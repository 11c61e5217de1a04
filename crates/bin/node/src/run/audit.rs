//! The audit log of the running node: a queue, and a thread that writes.
//!
//! Nothing waits for the disk, and nothing stops for it: what the queue has no room for, or the disk does not take, is
//! counted, and the count is recorded as soon as that can be. What is about keys, a fence or the process itself is
//! durable at once, all else within [`SYNC_WITHIN`].

use super::Ending;
use super::core::CoreError;
use crate::audit::{entries, warn};
use crate::exit::ExitError;
use aequa_host::HostError;
use aequa_qbft::Note;
use aequa_replica::{Halt, Notice};
use aequa_storage::StorageError;
use aequa_storage::audit::{AuditEntry, AuditKind, AuditLog, AuditOptions, exists};
use aequa_types::CheckedBlock;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Records that wait for the thread: many times what a turn has to tell.
const QUEUE_MAX: usize = 1024;
/// How long a record may be with the operating system only.
const SYNC_WITHIN: Duration = Duration::from_secs(1);
/// How often a log that could not be written is tried.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for its record.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Where the rooms of a node tell what is to be recorded.
#[derive(Clone)]
pub struct Audit {
    data_dir: PathBuf,
    queue: SyncSender<Told>,
    /// Records the queue had no room for.
    overflow: Arc<AtomicU64>,
}

enum Told {
    Record(AuditEntry),
    /// The last one, and whom to tell that it is durable.
    Last(AuditEntry, SyncSender<()>),
}

impl Audit {
    /// Starts the thread. The log is opened with the first record.
    pub fn start(data_dir: PathBuf) -> io::Result<Self> {
        let (queue, told) = sync_channel(QUEUE_MAX);
        let overflow = Arc::default();
        let scribe = Scribe::new(data_dir.clone(), Arc::clone(&overflow));
        std::thread::Builder::new().name("audit".into()).spawn(move || scribe.run(&told))?;
        Ok(Self { data_dir, queue, overflow })
    }

    /// Records something; waits for nothing.
    pub fn record(&self, entry: AuditEntry) {
        if self.queue.try_send(Told::Record(entry)).is_err() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that the core stopped rather than sign, if it did.
    pub fn core_ended(&self, error: &CoreError) {
        let event = match error {
            HostError::Votes(StorageError::VoteRefused { .. }) => "signing_db",
            HostError::Stop(Halt::SignedElsewhere { .. }) => "signed_elsewhere",
            HostError::Stop(Halt::Impossible(_) | Halt::Diverged { .. })
            | HostError::Votes(_)
            | HostError::Members(_)
            | HostError::Store(_)
            | HostError::Directory(_) => return,
        };
        self.record(entries::stopped_signing(event, &error.to_string()));
    }

    /// Records how the process ends, as the last thing. A start that came to nothing begins no log.
    pub fn end(&self, how: &Result<Ending, ExitError>) {
        let entry = match how {
            Ok(ending) => entries::ended(ending.reason(), 0),
            Err(_) if !exists(&self.data_dir) => return,
            Err(error) => entries::ended(&error.message, error.code),
        };
        let (tell, durable) = sync_channel(1);
        if self.queue.try_send(Told::Last(entry, tell)).is_ok() {
            // A disk that takes longer keeps nobody.
            let _ = durable.recv_timeout(END_WITHIN);
        }
    }
}

/// What the core tells, as far as somebody may ask about it later.
pub struct AuditedNotices {
    /// Where it is recorded.
    pub audit: Audit,
    /// Heights from one checkpoint to the next, above 0.
    pub checkpoint_interval: u64,
}

impl AuditedNotices {
    /// Something happened in the replica.
    pub fn notice(&self, notice: &Notice) {
        match notice {
            Notice::BlockDecided { block, .. } => self.decided(block),
            Notice::DutyEnded { duty, certificate } => {
                self.audit.record(entries::duty(*duty, certificate.as_ref()));
            }
            Notice::Evidence(evidence) => self.audit.record(entries::evidence(evidence)),
            Notice::Abstaining(watermarks) => {
                watermarks.iter().for_each(|watermark| self.audit.record(entries::abstains(*watermark)));
            }
            Notice::Consensus(instance, note) => {
                if let Note::SignerRefused(round) = note {
                    self.audit.record(entries::signer_refused(*instance, *round));
                }
            }
            Notice::Sealed(_)
            | Notice::Session(..)
            | Notice::ShareBlamed { .. }
            | Notice::Removed(_)
            | Notice::Proposed { .. }
            | Notice::BestPeerHeight(_)
            | Notice::RootCompared(_)
            | Notice::RootDiffers { .. }
            | Notice::ClusterDiverged { .. }
            | Notice::Rejoining { .. } => {}
        }
    }

    fn decided(&self, block: &CheckedBlock) {
        let before = block.header().height.previous().filter(|height| height.0 > 0);
        if let Some(height) = before.filter(|height| height.0.is_multiple_of(self.checkpoint_interval)) {
            self.audit.record(entries::checkpoint(height, block.header()));
        }
    }
}

/// The writing end.
struct Scribe {
    data_dir: PathBuf,
    log: Option<AuditLog>,
    overflow: Arc<AtomicU64>,
    /// Records that are in no file, and that no record tells of yet.
    lost: u64,
    /// When the log could not be written, until it can be again.
    failed: Option<Instant>,
    /// Since when something is not durable.
    unsynced: Option<Instant>,
}

impl Scribe {
    fn new(data_dir: PathBuf, overflow: Arc<AtomicU64>) -> Self {
        Self { data_dir, log: None, overflow, lost: 0, failed: None, unsynced: None }
    }

    fn run(mut self, told: &Receiver<Told>) {
        loop {
            let next = match self.unsynced {
                Some(since) => told.recv_timeout(SYNC_WITHIN.saturating_sub(since.elapsed())),
                None => told.recv().map_err(|RecvError| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(Told::Record(entry)) => {
                    self.take(&entry, Instant::now());
                    let is_due = self.unsynced.is_some_and(|since| since.elapsed() >= SYNC_WITHIN);
                    if is_due || is_urgent(entry.kind()) {
                        self.sync(Instant::now());
                    }
                }
                Ok(Told::Last(entry, durable)) => {
                    self.take(&entry, Instant::now());
                    self.sync(Instant::now());
                    // Who waited may have given up.
                    let _ = durable.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => self.sync(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return self.sync(Instant::now()),
            }
        }
    }

    fn take(&mut self, entry: &AuditEntry, now: Instant) {
        self.lost += self.overflow.swap(0, Ordering::Relaxed);
        if self.failed.is_some_and(|at| now.saturating_duration_since(at) < RETRY_EVERY) {
            self.lost += 1;
            return;
        }
        match self.write(entry) {
            Ok(()) => {
                self.failed = None;
                self.unsynced.get_or_insert(now);
            }
            Err(error) => {
                self.lost += 1;
                self.fail(&error, now);
            }
        }
    }

    fn write(&mut self, entry: &AuditEntry) -> Result<(), StorageError> {
        let log = match &mut self.log {
            Some(log) => log,
            None => self.log.insert(AuditLog::open(&self.data_dir, AuditOptions::default())?),
        };
        if self.lost > 0 {
            log.append(&AuditEntry::new(AuditKind::Log, "lost").with("records", self.lost))?;
            self.lost = 0;
        }
        log.append(entry)
    }

    fn sync(&mut self, now: Instant) {
        let Some(log) = self.log.as_ref().filter(|_| self.unsynced.is_some()) else { return };
        let synced = log.sync();
        self.unsynced = None;
        if let Err(error) = synced {
            // What can be read may be in memory only: opened again, it is written again.
            self.log = None;
            self.fail(&error, now);
        }
    }

    /// Warns once, until a record is written again.
    fn fail(&mut self, error: &StorageError, now: Instant) {
        if self.failed.replace(now).is_none() {
            warn(error);
        }
    }
}

/// Whether a record of this kind is made durable at once: few of them are written, and most is asked about them.
fn is_urgent(kind: AuditKind) -> bool {
    match kind {
        AuditKind::Run | AuditKind::Fence | AuditKind::Key | AuditKind::Command => true,
        AuditKind::Log | AuditKind::Decision | AuditKind::Refusal | AuditKind::Evidence => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_storage::audit::{AuditReader, AuditRecord};
    use std::fs;
    use std::path::Path;

    fn entry(n: u64) -> AuditEntry {
        AuditEntry::new(AuditKind::Decision, "checkpoint").with("height", n)
    }

    fn records(dir: &Path) -> Vec<AuditRecord> {
        AuditReader::open(dir).unwrap().unwrap().records().map(Result::unwrap).collect()
    }

    /// Event and first field of every record.
    fn said(dir: &Path) -> Vec<String> {
        let word = |record: &AuditRecord| {
            let (_, value) = record.entry.fields().next().unwrap();
            format!("{} {value}", record.entry.event())
        };
        records(dir).iter().map(word).collect()
    }

    #[test]
    fn what_was_told_before_the_end_is_in_the_log_with_the_end_as_its_last_record() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::start(dir.path().into()).unwrap();
        (0..5).for_each(|n| audit.record(entry(n)));
        audit.end(&Ok(Ending::Stopped));
        let said = said(dir.path());
        assert_eq!(said[..5], [0, 1, 2, 3, 4].map(|n| format!("checkpoint {n}")));
        assert_eq!(said[5..], ["ended 0"]);
        audit.record(entry(9));
        assert_eq!(records(dir.path()).len(), 6);
    }

    #[test]
    fn a_start_that_comes_to_nothing_begins_no_log_and_is_recorded_in_one_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let refused = Err(ExitError::refused("the directory is in use"));
        Audit::start(dir.path().into()).unwrap().end(&refused);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        crate::audit::record(dir.path(), &entry(1)).unwrap();
        Audit::start(dir.path().into()).unwrap().end(&refused);
        assert_eq!(said(dir.path()), ["checkpoint 1", "ended 4"]);
    }

    #[test]
    fn what_the_disk_does_not_take_is_counted_and_told_when_it_does_again() {
        let dir = tempfile::tempdir().unwrap();
        let overflow = Arc::new(AtomicU64::new(0));
        let mut scribe = Scribe::new(dir.path().into(), Arc::clone(&overflow));
        let now = Instant::now();
        // A folder is where the file must be.
        let blocked = dir.path().join("audit.log");
        fs::create_dir(&blocked).unwrap();
        scribe.take(&entry(1), now);
        overflow.store(5, Ordering::Relaxed);
        scribe.take(&entry(2), now);
        fs::remove_dir(&blocked).unwrap();
        scribe.take(&entry(3), now + RETRY_EVERY / 2);
        assert_eq!(scribe.lost, 8, "it is not tried all the time");
        scribe.take(&entry(4), now + RETRY_EVERY);
        scribe.take(&entry(5), now + RETRY_EVERY);
        assert_eq!(said(dir.path()), ["lost 8", "checkpoint 4", "checkpoint 5"]);
        // Gone while the node runs.
        fs::remove_file(&blocked).unwrap();
        scribe.take(&entry(6), now + RETRY_EVERY);
        assert_eq!(said(dir.path()), ["gone 3", "checkpoint 6"]);
    }

    #[test]
    fn a_full_queue_keeps_nobody_waiting_and_what_it_had_no_room_for_is_counted() {
        let (queue, told) = sync_channel(2);
        let audit = Audit { data_dir: PathBuf::new(), queue, overflow: Arc::default() };
        (0..7).for_each(|n| audit.record(entry(n)));
        assert_eq!((told.try_iter().count(), audit.overflow.load(Ordering::Relaxed)), (2, 5));
    }
}
