//! Whatever happens to the end of the vote log: what is read is a prefix or a refusal, and together
//! with the signing database it still binds every place that was acknowledged.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use aequa_storage::{Recovered, SigningDb, SigningDbOptions, StorageError, Wal, WalOptions};
use aequa_testkit::{at, change, commit, digest, prepare};
use aequa_types::record::RoundRecord;
use aequa_types::{ClusterId, OperatorIndex, Record, VoteRoot};
use alloy_primitives::B256;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const CLUSTER: ClusterId = ClusterId::repeat_byte(0xc1);
const ME: OperatorIndex = OperatorIndex(2);
/// What this disk keeps or loses as a whole.
const PAGE: usize = 64;

/// Turns of a node, with what one sync covered in each.
struct Life {
    _dir: tempfile::TempDir,
    log: PathBuf,
    votes: PathBuf,
    batches: Vec<Vec<Record>>,
    /// The only segment: after every batch, and where each batch ends.
    images: Vec<Vec<u8>>,
    ends: Vec<usize>,
}

/// One turn: it votes for a height and leaves a round of the height before.
fn turn(height: u64) -> Vec<Record> {
    let digest = digest(height as u8);
    let change = change(at(height), 1, None).by(ME.0);
    let round = RoundRecord { instance: change.instance, round: change.round, change: Some(change) };
    vec![
        Record::Commit(commit(at(height), 0, digest).by(ME.0)),
        Record::Round(round),
        Record::Prepare(prepare(at(height), 0, digest).by(ME.0)),
    ]
}

fn votes_of(records: &[Record]) -> Vec<VoteRoot> {
    records.iter().filter_map(Record::statement).map(|signed| signed.vote_root()).collect()
}

fn open_log(dir: &Path) -> Result<(Wal, Recovered), StorageError> {
    // The end of a batch is where its zeros begin: with this salt none ends with one.
    let options = WalOptions { segment_bytes: 8192, fresh_salt: || Ok(0x5a17), ..WalOptions::default() };
    Wal::open(dir, CLUSTER, ME, options)
}

fn open_db(dir: &Path) -> SigningDb {
    SigningDb::open(dir, CLUSTER, ME, SigningDbOptions { slots: 128, ..SigningDbOptions::default() }).unwrap()
}

impl Life {
    fn of(turns: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (log, votes) = (dir.path().join("wal"), dir.path().join("signing"));
        let (mut wal, mut store) = (open_log(&log).unwrap().0, open_db(&votes));
        let mut life = Self { _dir: dir, log, votes, batches: vec![], images: vec![], ends: vec![] };
        life.images.push(fs::read(life.segment()).unwrap());
        for height in 1..=turns {
            let batch = turn(height);
            batch.iter().for_each(|record| wal.append(record).unwrap());
            wal.write().unwrap();
            store.take(&votes_of(&batch)).unwrap();
            store.settle().unwrap();
            wal.sync().unwrap();
            let image = fs::read(life.segment()).unwrap();
            life.ends.push(image.iter().rposition(|byte| *byte != 0).unwrap() + 1);
            life.images.push(image);
            life.batches.push(batch);
        }
        life
    }

    fn segment(&self) -> PathBuf {
        let mut files = fs::read_dir(&self.log).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|extension| extension == "wal")).unwrap()
    }

    fn records(&self) -> Vec<Record> {
        self.batches.concat()
    }

    /// Opens what `bytes` leave of the log: a prefix (its length comes back) or a refusal, and with the
    /// votes every acknowledged place stays bound.
    fn check(&self, bytes: &[u8], what: &str) -> Option<usize> {
        fs::write(self.segment(), bytes).unwrap();
        let recovered = match open_log(&self.log) {
            Ok((_, recovered)) => recovered.records,
            Err(error) => {
                assert!(error.is_safety_refusal(), "{what}: {error}");
                return None;
            }
        };
        let all = self.records();
        assert!(all.starts_with(&recovered), "{what}: {} records, not a prefix", recovered.len());
        let known: BTreeMap<_, _> =
            votes_of(&recovered).into_iter().map(|vote| (vote.key, vote.root)).collect();
        let votes = open_db(&self.votes);
        let marked: BTreeMap<_, _> = votes.votes().map(|vote| (vote.key, vote.root)).collect();
        for acknowledged in votes_of(&all) {
            let place = acknowledged.key;
            let bound = [known.get(&place), marked.get(&place)].into_iter().flatten();
            assert!(bound.clone().count() > 0, "{what}: {place:?} is free again");
            assert!(bound.into_iter().all(|digest| *digest == acknowledged.root), "{what}: {place:?}");
        }
        Some(recovered.len())
    }
}

#[test]
fn cut_anywhere_in_the_last_two_batches() {
    let life = Life::of(4);
    let image = life.images.last().unwrap();
    for cut in life.ends[1]..=life.ends[3] {
        let mut left = image[..cut].to_vec();
        left.resize(image.len(), 0);
        assert!(life.check(&left, &format!("cut at {cut}")).is_some(), "a cut is no corruption");
    }
}

#[test]
fn any_byte_flipped_in_the_last_two_batches() {
    let life = Life::of(4);
    let image = life.images.last().unwrap();
    for at in life.ends[1]..life.ends[3] {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = image.clone();
            flipped[at] ^= mask;
            let found = life.check(&flipped, &format!("byte {at} mask {mask:#x}"));
            match at < life.ends[2] {
                true => assert_eq!(found, None, "byte {at}: an earlier batch was synced"),
                false => assert!(found.is_some_and(|n| (9..12).contains(&n)), "byte {at}: {found:?}"),
            }
        }
    }
}

#[test]
fn any_pages_of_the_last_batch_lost_by_a_power_cut() {
    let life = Life::of(3);
    let [before, after] = life.images.last_chunk().unwrap();
    let first = life.ends[1] / PAGE;
    let pages = life.ends[2].div_ceil(PAGE) - first;
    assert!((4..12).contains(&pages), "{pages} pages");
    let mut torn = 0;
    for lost in 0u32..1 << pages {
        let mut bytes = after.clone();
        for page in (0..pages).filter(|page| lost >> page & 1 == 1) {
            let range = (first + page) * PAGE..(first + page + 1) * PAGE;
            bytes[range.clone()].copy_from_slice(&before[range]);
        }
        let found = life.check(&bytes, &format!("pages {lost:b}"));
        assert!(found.is_some_and(|n| n >= 6), "pages {lost:b} of one batch must not stop the operator");
        torn += usize::from(found < Some(9));
    }
    assert!(torn > 1);
}

#[test]
fn any_two_neighbouring_pages_zeroed_by_the_disk() {
    let life = Life::of(4);
    let image = life.images.last().unwrap();
    let (mut refused, mut cut) = (0, 0);
    for first in life.ends[0] / PAGE..life.ends[3] / PAGE {
        let mut bytes = image.clone();
        bytes[first * PAGE..(first + 2) * PAGE].fill(0);
        match life.check(&bytes, &format!("pages from {first}")) {
            None => refused += 1,
            Some(kept) => {
                assert!(kept >= 9, "pages from {first}: a synced batch with a later one was cut off");
                cut += 1;
            }
        }
    }
    assert!(refused > 0 && cut > 0);
}

#[test]
fn what_the_log_lost_is_not_marked_for_another_statement() {
    let life = Life::of(2);
    let mut bytes = life.images.last().unwrap().clone();
    bytes[life.ends[0]..].fill(0);
    assert_eq!(life.check(&bytes, "last batch gone"), Some(3));
    for record in &life.batches[1] {
        let key = record.statement().unwrap().vote_key();
        let other = VoteRoot { key, root: B256::repeat_byte(0xee) };
        assert!(matches!(open_db(&life.votes).take(&[other]), Err(StorageError::VoteRefused { .. })));
    }
}
