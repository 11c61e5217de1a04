//! The production vote log, signing database and notes of one life of a node, used in the order in which the node
//! uses them: the log is written and synced, then votes are taken and messages leave, and the database is
//! synced some time before the next turn sends.

use crate::ram::RamDisk;
use aequa_replica::Persist;
use aequa_storage::{Notes, SigningDb, SigningDbOptions, StorageError, Votes, Wal, WalOptions};
use aequa_types::{ClusterId, Height, InstanceId, OperatorIndex, Record, Signed, Subject, VoteRoot};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Small segments and few slots: a run fills many.
const SEGMENT_BYTES: usize = 16 << 10;
const SLOTS: usize = 96;
/// Folder of the log.
pub(crate) const WAL: &str = "wal";
const SIGNING: &str = "signing";
const NOTES: &str = "notes";
/// The note that the members have to be asked.
const SUSPECT: &str = "suspect";

/// Vote log, signing database and notes.
pub(crate) struct Promises {
    votes: Votes,
    notes: Notes,
    /// Blocks whose decision is in the log.
    decided: BTreeSet<Height>,
}

/// What a start finds.
pub(crate) struct Found {
    pub(crate) records: Vec<Record>,
    pub(crate) votes: Vec<VoteRoot>,
    pub(crate) watermarks: Vec<InstanceId>,
    /// Whether a note says that this is not all that was signed.
    pub(crate) suspect: bool,
    /// Whether the end of the log was a write that never completed.
    pub(crate) torn: bool,
    /// Slots that were not whole.
    pub(crate) unreadable: usize,
}

impl Promises {
    /// Opens all, making what is missing; what `is_lost` is noted before there is another in its place.
    pub(crate) fn open(
        disk: &RamDisk,
        cluster: ClusterId,
        operator: OperatorIndex,
        is_lost: bool,
    ) -> Result<(Self, Found), StorageError> {
        let medium = Arc::new(disk.clone());
        let notes = Notes::new(Path::new(NOTES), medium.clone());
        if is_lost {
            notes.put(SUSPECT, "log and signing database are gone")?;
        }
        let suspect = notes.get(SUSPECT)?.is_some();
        let options = WalOptions {
            segment_bytes: SEGMENT_BYTES,
            ahead: false,
            // One source of chance is enough.
            fresh_salt: || Ok(0x5A17),
            medium: medium.clone(),
        };
        let (wal, recovered) = Wal::open(Path::new(WAL), cluster, operator, options)?;
        let options = SigningDbOptions { slots: SLOTS, ahead: false, medium };
        let db = SigningDb::open(Path::new(SIGNING), cluster, operator, options)?;
        let votes = Votes::join(wal, &recovered.records, db)?;
        let mut promises = Self { votes, notes, decided: BTreeSet::new() };
        promises.note_decisions(&recovered.records);
        let found = Found {
            votes: promises.votes.db().votes().collect(),
            watermarks: promises.votes.db().watermarks().collect(),
            suspect,
            unreadable: promises.votes.db().unreadable(),
            torn: recovered.torn,
            records: recovered.records,
        };
        Ok((promises, found))
    }

    /// Hands the records of a turn to the operating system, which takes its time to make them durable.
    pub(crate) fn write(&mut self, promised: &Persist) -> Result<(), StorageError> {
        self.votes.write(&promised.records, &promised.votes)
    }

    /// What was written becomes durable, and its votes are taken.
    pub(crate) fn sync(&mut self, promised: &Persist) -> Result<(), StorageError> {
        self.note_decisions(&promised.records);
        self.votes.sync(&promised.watermarks, &promised.votes)
    }

    /// Whether a vote is held, or lies where nothing is signed any more.
    pub(crate) fn holds(&self, vote: &Signed) -> bool {
        self.votes.db().holds(&vote.vote_root())
    }

    /// Notes that this is not all that was signed.
    pub(crate) fn suspect(&mut self, reason: &str) -> Result<(), StorageError> {
        self.notes.put(SUSPECT, reason)
    }

    /// The members were asked, and what they said is durable.
    pub(crate) fn trust(&mut self) -> Result<(), StorageError> {
        self.notes.remove(SUSPECT)
    }

    /// Makes the database durable as to earlier turns, as its thread does at some time.
    pub(crate) fn settle(&mut self) -> Result<(), StorageError> {
        self.votes.settle()
    }

    /// Whether the decision of this block is in the log.
    pub(crate) fn has_decided(&self, height: Height) -> bool {
        self.decided.contains(&height)
    }

    /// Drops what is not needed, and votes at and below `watermarks`.
    pub(crate) fn prune(
        &mut self,
        is_needed: &dyn Fn(Subject) -> bool,
        watermarks: &[InstanceId],
    ) -> Result<usize, StorageError> {
        self.votes.prune(is_needed, watermarks)
    }

    fn note_decisions<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) {
        for record in records {
            if let Record::Decided(certificate) = record {
                self.decided.extend(certificate.instance.height());
            }
        }
    }
}
