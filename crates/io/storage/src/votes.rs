//! What this operator signs, in two independent places and in the one order that is safe.
//!
//! ```text
//! database: check ─▶ log: write ─▶ sync ─▶ database: take ─┬─▶ messages leave
//!                                                          └─▶ sync, before the next turn sends
//! ```
//!
//! 1. The signing database is the second gate, and asked before the log takes a record: the log never holds what
//!    was refused.
//! 2. The log alone is what a turn waits for. A vote is taken only when its record is durable, so one without
//!    a record means that the log lost what it had, and never that a turn was cut short: a node that
//!    loses power is free to vote as if the turn had not been, for nobody heard of it.
//! 3. The log forgets only what the database has durably.

use crate::{SigningDb, StorageError, Wal};
use aequa_types::{InstanceId, Record, Subject, VoteRoot};

/// The vote log and the signing database of one operator.
#[derive(Debug)]
pub struct Votes {
    wal: Wal,
    db: SigningDb,
}

impl Votes {
    /// Joins both. Votes among `records`, which the log gave back, that a crash kept from the database are taken,
    /// durably; it is an error when the two say different things of one key.
    pub fn join(wal: Wal, records: &[Record], mut db: SigningDb) -> Result<Self, StorageError> {
        let statements = records.iter().filter_map(Record::statement);
        match db.complete(statements.map(|signed| signed.vote_root())) {
            Ok(()) => Ok(Self { wal, db }),
            Err(StorageError::VoteRefused { key, .. }) => Err(StorageError::Contradiction { key }),
            Err(error) => Err(error),
        }
    }

    /// What is known of what was signed, apart from the log.
    pub fn db(&self) -> &SigningDb {
        &self.db
    }

    /// Hands the records of a turn to the operating system; only [`Votes::sync`] makes them durable.
    pub fn write(&mut self, records: &[Record], votes: &[VoteRoot]) -> Result<(), StorageError> {
        self.db.check(votes)?;
        records.iter().try_for_each(|record| self.wal.append(record))?;
        self.wal.write()
    }

    /// Makes everything written durable, raises watermarks durably, and takes the votes that were written. After an
    /// error nothing may be sent, ever.
    pub fn sync(&mut self, watermarks: &[InstanceId], votes: &[VoteRoot]) -> Result<(), StorageError> {
        self.wal.sync()?;
        self.db.settle()?;
        self.db.raise_watermarks(watermarks)?;
        self.db.take(votes)
    }

    /// Waits until the database has all that was taken.
    pub fn settle(&mut self) -> Result<(), StorageError> {
        self.db.settle()
    }

    /// Drops segments of the log in which nothing is needed, and votes at and below `watermarks`, where nothing is
    /// signed any more anyway. Gives how many segments are gone.
    pub fn prune(
        &mut self,
        is_needed: &dyn Fn(Subject) -> bool,
        watermarks: &[InstanceId],
    ) -> Result<usize, StorageError> {
        // One segment is always kept, so that usually there is nothing to wait for.
        let dropped = match self.wal.segments() {
            1 => 0,
            _ => {
                self.db.settle()?;
                self.wal.prune(is_needed)?
            }
        };
        self.db.prune(watermarks)?;
        Ok(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::testing::BadDisk;
    use crate::{SigningDbOptions, WalOptions};
    use aequa_types::{Claim, ClusterId, Digest, Height, OperatorIndex, Round, Signature, Signed, Statement};
    use std::sync::Arc;
    use std::sync::atomic::Ordering::SeqCst;

    const CLUSTER: ClusterId = ClusterId::repeat_byte(1);
    const ME: OperatorIndex = OperatorIndex(0);

    fn prepare(height: u64, digest: u8) -> Signed {
        let instance = InstanceId::Block(Height(height));
        let claim = Claim::Prepare(Digest::repeat_byte(digest));
        let statement = Statement { instance, round: Round(0), author: ME, claim };
        Signed { statement, signature: Signature::ZERO }
    }

    fn put(votes: &mut Votes, signed: &[Signed]) -> Result<(), StorageError> {
        let roots: Vec<VoteRoot> = signed.iter().map(|signed| signed.vote_root()).collect();
        let records: Vec<Record> = signed.iter().cloned().map(Record::Prepare).collect();
        votes.write(&records, &roots)?;
        votes.sync(&[], &roots)
    }

    struct Disks {
        dir: tempfile::TempDir,
        of_log: Arc<BadDisk>,
        of_db: Arc<BadDisk>,
    }

    impl Disks {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { dir, of_log: Arc::new(BadDisk::default()), of_db: Arc::new(BadDisk::default()) }
        }

        fn open(&self) -> (Votes, Vec<Record>, Vec<VoteRoot>) {
            let medium = Arc::new(self.of_log.clone());
            let options = WalOptions { segment_bytes: 4096, medium, ..WalOptions::default() };
            let (wal, recovered) = Wal::open(&self.dir.path().join("wal"), CLUSTER, ME, options).unwrap();
            let medium = Arc::new(self.of_db.clone());
            let options = SigningDbOptions { slots: 64, medium, ..SigningDbOptions::default() };
            let db = SigningDb::open(&self.dir.path().join("signing"), CLUSTER, ME, options).unwrap();
            let known = db.votes().collect();
            (Votes::join(wal, &recovered.records, db).unwrap(), recovered.records, known)
        }
    }

    #[test]
    fn what_was_kept_is_in_the_log_and_in_the_database() {
        let disks = Disks::new();
        put(&mut disks.open().0, &[prepare(1, 1), prepare(2, 2)]).unwrap();
        let (_, records, votes) = disks.open();
        let of_log: Vec<VoteRoot> =
            records.iter().map(|record| record.statement().unwrap().vote_root()).collect();
        assert_eq!(of_log.len(), 2);
        assert_eq!(votes, of_log);
    }

    /// A sync follows with the next vote; until then a process that ends must not take it along.
    #[test]
    fn what_was_heard_is_with_the_system_at_the_end_of_its_turn() {
        let disks = Disks::new();
        let (mut votes, ..) = disks.open();
        votes.write(&[Record::Heard(prepare(1, 1))], &[]).unwrap();
        drop(votes);
        assert_eq!(disks.open().1, [Record::Heard(prepare(1, 1))]);
    }

    #[test]
    fn a_failed_sync_of_either_ends_it_for_good() {
        for log_fails in [true, false] {
            let disks = Disks::new();
            let (mut votes, ..) = disks.open();
            put(&mut votes, &[prepare(1, 1)]).unwrap();
            votes.settle().unwrap();
            let disk = if log_fails { &disks.of_log } else { &disks.of_db };
            disk.fail_from(1, true);
            // The vote is in the log before the database is synced, so the turn after may be the first to know.
            let this = put(&mut votes, &[prepare(2, 2)]);
            assert!(this.is_err() || (!log_fails && put(&mut votes, &[prepare(3, 3)]).is_err()));
            disk.syncs_left.store(0, SeqCst);
            assert!(put(&mut votes, &[prepare(4, 4)]).is_err(), "a disk that failed is not believed again");
        }
    }

    #[test]
    fn a_log_that_fails_takes_no_place() {
        let disks = Disks::new();
        let (mut votes, ..) = disks.open();
        put(&mut votes, &[prepare(1, 1)]).unwrap();
        disks.of_log.fail_from(1, true);
        assert!(put(&mut votes, &[prepare(2, 2)]).is_err());
        drop(votes);
        disks.of_log.syncs_left.store(0, SeqCst);
        let (.., votes) = disks.open();
        assert_eq!(votes, [prepare(1, 1).vote_root()], "only what the log has durably");
    }

    #[test]
    fn a_failure_to_raise_watermarks_ends_the_next_turn() {
        let disks = Disks::new();
        let (mut votes, ..) = disks.open();
        disks.of_db.fail_from(1, true);
        votes.prune(&|_| true, &[InstanceId::Block(Height(5))]).unwrap();
        assert!(put(&mut votes, &[prepare(9, 1)]).is_err());
    }

    #[test]
    fn a_vote_is_held_from_its_turn_on_and_no_other_one() {
        let disks = Disks::new();
        let (mut votes, ..) = disks.open();
        let holds = |votes: &Votes, height, digest| votes.db().holds(&prepare(height, digest).vote_root());
        assert!(!holds(&votes, 1, 1));
        put(&mut votes, &[prepare(1, 1)]).unwrap();
        assert!(holds(&votes, 1, 1));
        assert!(!holds(&votes, 1, 2) && !holds(&votes, 2, 1));
    }

    #[test]
    fn the_second_gate_stops_a_contradiction_that_the_first_let_pass() {
        let disks = Disks::new();
        let (mut votes, ..) = disks.open();
        put(&mut votes, &[prepare(1, 1)]).unwrap();
        let error = put(&mut votes, &[prepare(1, 2)]).unwrap_err();
        assert!(matches!(error, StorageError::VoteRefused { .. }), "{error}");
        drop(votes);
        let (_, records, votes) = disks.open();
        assert_eq!(records.len(), 1, "the log never held it");
        assert_eq!(votes, [records[0].statement().unwrap().vote_root()]);
    }

    #[test]
    fn the_log_forgets_nothing_that_the_database_has_not_durably() {
        let disks = Disks::new();
        let (mut votes, ..) = disks.open();
        for height in 1..=60 {
            put(&mut votes, &[prepare(height, 1)]).unwrap();
        }
        disks.of_db.fail_from(1, true);
        // The last votes are being synced, or are now.
        put(&mut votes, &[prepare(61, 1)]).unwrap_or_default();
        assert!(votes.prune(&|_| false, &[]).is_err());
        drop(votes);
        disks.of_db.syncs_left.store(0, SeqCst);
        assert_eq!(disks.open().1.first(), Some(&Record::Prepare(prepare(1, 1))));
    }
}
