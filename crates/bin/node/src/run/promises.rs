//! What the operator promised, in two independent places: the vote log and the signing database.
//!
//! ```text
//! gate: check ─▶ log: write ─▶ sync ─▶ marks: take, write ─┬─▶ messages leave
//!                                                          └─▶ sync, on a thread of its own, before the
//!                                                              next turn sends
//! ```
//!
//! The marks are the second gate, and asked before the log takes a record: it never holds what was refused.
//! The log alone is what a turn waits for. A mark is written only when its record is durable, so a mark
//! without a record means that the log lost what it had, and never that a turn was cut short: a node that
//! loses power is free to vote as if the turn had not been, for nobody heard of it.

use aequa_replica::{Persist, VoteStore};
use aequa_storage::{Gate, SigningDb, StorageError, Wal};
use aequa_types::{InstanceId, Mark, Signed, Subject};
use std::sync::mpsc;

enum Job {
    /// Raises floors durably and takes places, which is waited for; then syncs.
    Keep(Vec<InstanceId>, Vec<Mark>),
    /// Raises floors that hold already, so that marks below them can go.
    Prune(Vec<InstanceId>),
}

type Outcome = Result<(), StorageError>;

/// Vote log and signing database of the running node.
pub struct Promises {
    wal: Wal,
    gate: Gate,
    jobs: mpsc::Sender<Job>,
    taken: mpsc::Receiver<Outcome>,
    synced: mpsc::Receiver<Outcome>,
    /// Whether the thread still syncs the marks of an earlier turn.
    syncing: bool,
}

impl Promises {
    /// Takes over both, and starts the thread of the marks.
    pub fn start(wal: Wal, mut marks: SigningDb) -> std::io::Result<Self> {
        // One `Keep` at a time, and floors once per flush of the block store: neither queue grows.
        let gate = marks.gate();
        let (jobs, inbox) = mpsc::channel();
        let (tell_taken, taken) = mpsc::channel();
        let (tell_synced, synced) = mpsc::channel();
        std::thread::Builder::new().name("marks".into()).spawn(move || {
            while let Ok(job) = inbox.recv() {
                match job {
                    Job::Keep(floors, places) => {
                        let kept = marks.raise_floors(&floors).and_then(|()| marks.write(&places));
                        if tell_taken.send(kept).is_err() || tell_synced.send(marks.sync()).is_err() {
                            return;
                        }
                    }
                    // A failure poisons the store, so the next marks say so.
                    Job::Prune(floors) => drop(marks.raise_floors(&floors)),
                }
            }
        })?;
        Ok(Self { wal, gate, jobs, taken, synced, syncing: false })
    }

    /// Waits until the marks of earlier turns are durable.
    fn await_marks(&mut self) -> Result<(), StorageError> {
        if std::mem::take(&mut self.syncing) {
            self.synced.recv().map_err(|_| thread_died())??;
        }
        Ok(())
    }

    /// Drops segments of the log of which durable blocks and duty results have replaced all that is not
    /// needed, and, some time soon, the marks at and below `floors`.
    pub fn prune(
        &mut self,
        is_needed: &dyn Fn(Subject) -> bool,
        floors: Vec<InstanceId>,
    ) -> Result<(), StorageError> {
        // One segment is always kept, so that usually there is nothing to wait for.
        if self.wal.segments() > 1 {
            // The log may forget only what the marks have durably.
            self.await_marks()?;
            self.wal.prune(is_needed)?;
        }
        // Without its thread the next turn ends the node.
        let _ = self.jobs.send(Job::Prune(floors));
        Ok(())
    }
}

impl VoteStore for Promises {
    type Error = StorageError;

    /// The records first, then the places of what they hold. After an error nothing may be sent, ever.
    fn persist(&mut self, promised: &Persist) -> Result<(), StorageError> {
        let Persist { records, floors, marks } = promised;
        self.gate.check(marks)?;
        for record in records {
            self.wal.append(record)?;
        }
        if !promised.is_urgent() {
            return self.wal.write();
        }
        self.wal.sync()?;
        self.await_marks()?;
        if floors.is_empty() && marks.is_empty() {
            return Ok(());
        }
        self.jobs.send(Job::Keep(floors.clone(), marks.clone())).map_err(|_| thread_died())?;
        self.syncing = true;
        self.taken.recv().map_err(|_| thread_died())?
    }

    fn holds(&self, vote: &Signed) -> bool {
        self.gate.holds(&vote.mark())
    }
}

/// The thread of the signing database ended, which it does only after a failure.
fn thread_died() -> StorageError {
    StorageError::Poisoned
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_storage::medium::{Medium, MediumFile, SystemMedium};
    use aequa_storage::{SigningDbOptions, WalOptions};
    use aequa_types::{
        Claim, ClusterId, Digest, Height, OperatorIndex, Record, Round, Signature, Signed, Statement,
    };
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    const CLUSTER: ClusterId = ClusterId::repeat_byte(1);
    const ME: OperatorIndex = OperatorIndex(0);

    /// A disk whose syncs fail with EIO while it is broken.
    #[derive(Clone, Default)]
    struct Disk(Arc<AtomicBool>);

    struct DiskFile(Disk, Box<dyn MediumFile>);

    impl Medium for Disk {
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            SystemMedium.create_dir(dir)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            SystemMedium.list(dir)
        }
        fn create(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
            Ok(Box::new(DiskFile(self.clone(), SystemMedium.create(path)?)))
        }
        fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
            SystemMedium.read(path, bytes_max)
        }
        fn open(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
            Ok(Box::new(DiskFile(self.clone(), SystemMedium.open(path)?)))
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            SystemMedium.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            SystemMedium.remove(path)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            SystemMedium.sync_dir(dir)
        }
    }

    impl MediumFile for DiskFile {
        fn bytes(&self) -> io::Result<u64> {
            self.1.bytes()
        }
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            self.1.write_at(bytes, offset)
        }
        fn sync(&self) -> io::Result<()> {
            if self.0.0.load(SeqCst) { Err(io::Error::from_raw_os_error(5)) } else { self.1.sync() }
        }
    }

    fn prepare(height: u64, digest: u8) -> Persist {
        let instance = InstanceId::Block(Height(height));
        let claim = Claim::Prepare(Digest::repeat_byte(digest));
        let statement = Statement { instance, round: Round(0), author: ME, claim };
        let signed = Signed { statement, signature: Signature::ZERO };
        Persist { marks: vec![signed.mark()], records: vec![Record::Prepare(signed)], floors: Vec::new() }
    }

    struct Fixture {
        dir: tempfile::TempDir,
        wal_disk: Disk,
        marks_disk: Disk,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { dir, wal_disk: Disk::default(), marks_disk: Disk::default() }
        }

        fn open(&self) -> (Promises, Vec<Record>, Vec<Mark>) {
            let medium = Arc::new(self.wal_disk.clone());
            let options = WalOptions { segment_bytes: 4096, medium, ..WalOptions::default() };
            let (wal, recovered) = Wal::open(&self.dir.path().join("wal"), CLUSTER, ME, options).unwrap();
            let options = SigningDbOptions { slots: 64, medium: Arc::new(self.marks_disk.clone()) };
            let marks = SigningDb::open(&self.dir.path().join("marks"), CLUSTER, ME, options).unwrap();
            let known = marks.marks().collect();
            (Promises::start(wal, marks).unwrap(), recovered.records, known)
        }
    }

    #[test]
    fn what_was_kept_is_in_the_log_and_in_the_marks() {
        let fixture = Fixture::new();
        let (first, second) = (prepare(1, 1), prepare(2, 2));
        let both = Persist {
            records: [first.records, second.records].concat(),
            marks: [first.marks, second.marks].concat(),
            floors: Vec::new(),
        };
        fixture.open().0.persist(&both).unwrap();
        let (_, records, marks) = fixture.open();
        let of_log: Vec<Mark> = records.iter().map(|record| record.statement().unwrap().mark()).collect();
        assert_eq!(of_log.len(), 2);
        assert_eq!(marks, of_log);
    }

    /// A sync follows with the next promise; until then a process that ends must not take it along.
    #[test]
    fn what_was_heard_is_with_the_system_at_the_end_of_its_turn() {
        let fixture = Fixture::new();
        let Some(Record::Prepare(vote)) = prepare(1, 1).records.pop() else { panic!() };
        let (mut promises, ..) = fixture.open();
        let heard = Persist { records: vec![Record::Heard(vote.clone())], ..Persist::default() };
        promises.persist(&heard).unwrap();
        drop(promises);
        assert_eq!(fixture.open().1, [Record::Heard(vote)]);
    }

    #[test]
    fn a_failed_sync_of_either_ends_it_for_good() {
        for log_fails in [true, false] {
            let fixture = Fixture::new();
            let (mut promises, ..) = fixture.open();
            promises.persist(&prepare(1, 1)).unwrap();
            let disk = if log_fails { &fixture.wal_disk } else { &fixture.marks_disk };
            disk.0.store(true, SeqCst);
            // The statement is in the log before its mark is synced, so the turn after may be the first to know.
            let this = promises.persist(&prepare(2, 2));
            assert!(this.is_err() || (!log_fails && promises.persist(&prepare(3, 3)).is_err()));
            disk.0.store(false, SeqCst);
            assert!(promises.persist(&prepare(4, 4)).is_err(), "a disk that failed is not believed again");
        }
    }

    #[test]
    fn a_log_that_fails_leaves_no_mark() {
        let fixture = Fixture::new();
        let (mut promises, ..) = fixture.open();
        promises.persist(&prepare(1, 1)).unwrap();
        fixture.wal_disk.0.store(true, SeqCst);
        assert!(promises.persist(&prepare(2, 2)).is_err());
        drop(promises);
        fixture.wal_disk.0.store(false, SeqCst);
        let (.., marks) = fixture.open();
        assert_eq!(marks.len(), 1, "only what the log has durably");
    }

    #[test]
    fn a_failure_to_raise_floors_ends_the_next_turn() {
        let fixture = Fixture::new();
        let (mut promises, ..) = fixture.open();
        fixture.marks_disk.0.store(true, SeqCst);
        promises.prune(&|_| true, vec![InstanceId::Block(Height(5))]).unwrap();
        assert!(promises.persist(&prepare(9, 1)).is_err());
    }

    #[test]
    fn a_vote_is_held_from_its_turn_on_and_no_other_one() {
        let fixture = Fixture::new();
        let (mut promises, ..) = fixture.open();
        let vote = |height, digest| {
            let Some(Record::Prepare(vote)) = prepare(height, digest).records.pop() else { panic!() };
            vote
        };
        assert!(!promises.holds(&vote(1, 1)));
        promises.persist(&prepare(1, 1)).unwrap();
        assert!(promises.holds(&vote(1, 1)));
        assert!(!promises.holds(&vote(1, 2)) && !promises.holds(&vote(2, 1)));
    }

    #[test]
    fn the_second_gate_stops_a_contradiction_that_the_first_let_pass() {
        let fixture = Fixture::new();
        let (mut promises, ..) = fixture.open();
        promises.persist(&prepare(1, 1)).unwrap();
        let error = promises.persist(&prepare(1, 2)).unwrap_err();
        assert!(matches!(error, StorageError::VoteRefused { .. }), "{error}");
        drop(promises);
        let (_, records, marks) = fixture.open();
        assert_eq!(records.len(), 1, "the log never held it");
        assert_eq!(marks, [records[0].statement().unwrap().mark()]);
    }
}
