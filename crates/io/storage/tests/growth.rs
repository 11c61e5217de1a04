//! A long life leaves a small directory: what is kept is what is still needed.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use aequa_storage::{SigningDb, SigningDbOptions, Wal, WalOptions};
use aequa_testkit::{at, digest, prepare};
use aequa_types::{ClusterId, OperatorIndex, Record};
use std::path::Path;

const CLUSTER: ClusterId = ClusterId::repeat_byte(1);
const ME: OperatorIndex = OperatorIndex(1);
const HEIGHTS: u64 = 10_000;
/// As in a node: the block store is flushed, and log and database pruned, every so many blocks.
const PRUNED_EVERY: u64 = 100;
const SEGMENT_BYTES: usize = 64 << 10;
/// Heights a segment holds, and some.
const HEIGHTS_KEPT_MAX: usize = 1000;

fn vote(height: u64) -> Record {
    Record::Prepare(prepare(at(height), 0, digest(height as u8)).by(ME.0))
}

fn open(dir: &Path) -> (Wal, Vec<Record>, SigningDb) {
    let options = WalOptions { segment_bytes: SEGMENT_BYTES, ..WalOptions::default() };
    let (wal, recovered) = Wal::open(&dir.join("wal"), CLUSTER, ME, options).unwrap();
    let options = SigningDbOptions { slots: 1024, ..SigningDbOptions::default() };
    let votes = SigningDb::open(&dir.join("signing"), CLUSTER, ME, options).unwrap();
    (wal, recovered.records, votes)
}

fn bytes_in(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(
            |entry| {
                if entry.path().is_dir() { bytes_in(&entry.path()) } else { entry.metadata().unwrap().len() }
            },
        )
        .sum()
}

#[test]
fn ten_thousand_heights_later_as_much_is_on_disk_and_to_read_as_after_a_thousand() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _, mut votes) = open(dir.path());
    let mut early = 0;
    for height in 1..=HEIGHTS {
        let record = vote(height);
        let vote = record.statement().unwrap().vote_root();
        wal.append(&record).unwrap();
        if height.is_multiple_of(10) {
            wal.sync().unwrap();
            votes.take(&[vote]).unwrap();
            votes.settle().unwrap();
        }
        if height.is_multiple_of(PRUNED_EVERY) {
            wal.prune(&|subject| subject.instance.number() > height).unwrap();
            votes.raise_watermarks(&[at(height - 32)]).unwrap();
        }
        if height == HEIGHTS / 10 {
            early = bytes_in(dir.path());
        }
    }
    drop((wal, votes));
    let late = bytes_in(dir.path());
    assert!(late <= early + 2 * SEGMENT_BYTES as u64, "{early} bytes, later {late}");
    let (_, records, votes) = open(dir.path());
    assert!(records.len() <= HEIGHTS_KEPT_MAX, "{} records to read", records.len());
    assert_eq!(records.last(), Some(&vote(HEIGHTS)));
    assert!(votes.votes().count() <= 4, "what lies at and below the watermark is gone");
}
