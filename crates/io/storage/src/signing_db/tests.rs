use super::*;
use crate::medium::testing::BadDisk;
use aequa_types::statement::Kind;
use aequa_types::{DutyKind, Height, InstanceId, Round, Slot, VoteKey};
use alloy_primitives::B256;
use std::fs;
use std::sync::atomic::Ordering::SeqCst;

const CLUSTER: ClusterId = ClusterId::repeat_byte(0xc1);
const ME: OperatorIndex = OperatorIndex(2);
const SLOTS_HERE: usize = 64;

fn open_on(dir: &Path, medium: Arc<dyn Medium>) -> Result<SigningDb, StorageError> {
    SigningDb::open(dir, CLUSTER, ME, SigningDbOptions { slots: SLOTS_HERE, ahead: false, medium })
}

fn open(dir: &Path) -> SigningDb {
    open_on(dir, Arc::new(SystemMedium)).unwrap()
}

fn vote(height: u64, kind: Kind, digest: u8) -> VoteRoot {
    let instance = InstanceId::Block(Height(height));
    VoteRoot { key: VoteKey { instance, round: Round(height % 3), kind }, root: B256::repeat_byte(digest) }
}

/// The votes a height leaves.
fn votes_of(height: u64) -> [VoteRoot; 2] {
    [vote(height, Kind::Prepare, height as u8), vote(height, Kind::Commit, height as u8)]
}

fn put(store: &mut SigningDb, votes: &[VoteRoot]) -> Result<(), StorageError> {
    store.take(votes)?;
    store.settle()
}

fn held(store: &SigningDb) -> Vec<VoteRoot> {
    store.votes().collect()
}

#[test]
fn marks_and_watermarks_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for height in 1..=5 {
        put(&mut store, &votes_of(height)).unwrap();
    }
    store
        .raise_watermarks(&[InstanceId::Block(Height(3)), InstanceId::duty(DutyKind::Sync, Slot(9))])
        .unwrap();
    let expected: Vec<VoteRoot> = (4..=5).flat_map(votes_of).collect();
    assert_eq!(held(&store), expected);
    drop(store);
    let store = open(dir.path());
    assert_eq!(held(&store), expected);
    assert_eq!(
        store.watermarks().collect::<Vec<_>>(),
        [InstanceId::Block(Height(3)), InstanceId::duty(DutyKind::Sync, Slot(9))]
    );
}

#[test]
fn a_second_statement_for_a_place_is_refused_and_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    put(&mut store, &votes_of(1)).unwrap();
    put(&mut store, &votes_of(1)).unwrap();
    let error = put(&mut store, &[vote(1, Kind::Prepare, 0xee)]).unwrap_err();
    assert!(matches!(error, StorageError::VoteRefused { .. }) && error.is_safety_refusal(), "{error}");
    assert!(matches!(put(&mut store, &votes_of(2)), Err(StorageError::Poisoned)));
    drop(store);
    assert_eq!(held(&open(dir.path())), votes_of(1));
}

#[test]
fn a_statement_is_held_in_its_own_place_and_below_a_watermark_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let taken = vote(5, Kind::Prepare, 1);
    put(&mut store, &[taken]).unwrap();
    let holds = |store: &SigningDb, height, kind, digest| store.holds(&vote(height, kind, digest));
    assert!(holds(&store, 5, Kind::Prepare, 1));
    assert!(!holds(&store, 5, Kind::Prepare, 2), "another statement has the key");
    assert!(!holds(&store, 5, Kind::Commit, 1) && !holds(&store, 6, Kind::Prepare, 1), "nobody has it");
    drop(store);
    let mut store = open(dir.path());
    assert!(holds(&store, 5, Kind::Prepare, 1), "after a restart too");
    store.raise_watermarks(&[InstanceId::Block(Height(5))]).unwrap();
    assert!(holds(&store, 5, Kind::Prepare, 2), "nothing is signed there any more, and what was has left");
    assert!(!holds(&store, 6, Kind::Prepare, 1));
}

#[test]
fn nothing_is_marked_at_or_below_a_watermark_and_no_watermark_is_lowered() {
    for height in 4..=6 {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        store.raise_watermarks(&[InstanceId::Block(Height(5))]).unwrap();
        store.raise_watermarks(&[InstanceId::Block(Height(2))]).unwrap();
        drop(store);
        assert_eq!(put(&mut open(dir.path()), &votes_of(height)).is_ok(), height == 6);
    }
}

#[test]
fn a_full_file_is_replaced_by_what_still_matters() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(BadDisk::default());
    disk.skips_syncs.store(true, SeqCst);
    let mut store = open_on(dir.path(), Arc::new(disk)).unwrap();
    let bytes = fs::metadata(dir.path().join(FILE)).unwrap().len();
    for height in 1..=10_000 {
        put(&mut store, &votes_of(height)).unwrap();
        if height % 8 == 0 {
            store.raise_watermarks(&[InstanceId::Block(Height(height - 4))]).unwrap();
        }
    }
    drop(store);
    assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().len(), bytes, "the file does not grow");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let expected: Vec<VoteRoot> = (9_997..=10_000).flat_map(votes_of).collect();
    assert_eq!(held(&open(dir.path())), expected);
}

#[test]
fn more_live_marks_than_a_file_has_slots_make_it_larger() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let all: Vec<VoteRoot> = (1..=200).flat_map(votes_of).collect();
    put(&mut store, &all).unwrap();
    put(&mut store, &votes_of(201)).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).votes().count(), 402);
}

#[test]
fn an_unreadable_slot_costs_only_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for height in 1..=4 {
        put(&mut store, &votes_of(height)).unwrap();
    }
    drop(store);
    let file = dir.path().join(FILE);
    let bytes = fs::read(&file).unwrap();
    let all: Vec<VoteRoot> = (1..=4).flat_map(votes_of).collect();
    for at in SLOT_BYTES..9 * SLOT_BYTES {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x40;
        fs::write(&file, &flipped).unwrap();
        let mut expected = all.clone();
        expected.remove(at / SLOT_BYTES - 1);
        let mut store = open(dir.path());
        assert_eq!((held(&store), store.unreadable()), (expected, 1), "byte {at}");
        // What comes after goes behind it.
        put(&mut store, &votes_of(5)).unwrap();
        drop(store);
        assert!(held(&open(dir.path())).ends_with(&votes_of(5)));
    }
}

#[test]
fn a_file_cut_anywhere_gives_whole_marks_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    (1..=3).for_each(|height| put(&mut store, &votes_of(height)).unwrap());
    drop(store);
    let file = dir.path().join(FILE);
    let bytes = fs::read(&file).unwrap();
    let all: Vec<VoteRoot> = (1..=3).flat_map(votes_of).collect();
    for cut in SLOT_BYTES..=7 * SLOT_BYTES {
        let mut left = bytes[..cut].to_vec();
        left.resize(bytes.len(), 0);
        fs::write(&file, &left).unwrap();
        // The end of a digest may happen to be zeros already; never more than what was written.
        let found = held(&open(dir.path()));
        let whole = cut / SLOT_BYTES - 1;
        assert!(found.len() >= whole.min(6) && all.starts_with(&found), "cut at {cut}");
    }
}

#[test]
fn a_damaged_head_two_owners_and_two_statements_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    put(&mut open(dir.path()), &votes_of(1)).unwrap();
    let other =
        SigningDb::open(dir.path(), CLUSTER, OperatorIndex(3), SigningDbOptions::default()).unwrap_err();
    assert!(matches!(other, StorageError::ForeignDirectory { .. }));

    let file = dir.path().join(FILE);
    let good = fs::read(&file).unwrap();
    let mut damaged = good.clone();
    damaged[20] ^= 1;
    fs::write(&file, &damaged).unwrap();
    let error = open_on(dir.path(), Arc::new(SystemMedium)).unwrap_err();
    assert!(matches!(error, StorageError::SigningDbCorrupt { .. }) && error.is_safety_refusal());

    let mut twice = good;
    let second = Entry::Vote(vote(1, Kind::Prepare, 0xee)).encode();
    twice[3 * SLOT_BYTES..4 * SLOT_BYTES].copy_from_slice(&second);
    fs::write(&file, &twice).unwrap();
    let error = open_on(dir.path(), Arc::new(SystemMedium)).unwrap_err();
    assert!(matches!(error, StorageError::SigningDbCorrupt { .. }), "{error}");
}

#[test]
fn failing_at_any_write_or_sync_loses_nothing_acknowledged_and_ends_it() {
    for left in 1..40 {
        for fail_sync in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(BadDisk::default());
            let mut store = open_on(dir.path(), Arc::new(disk.clone())).unwrap();
            disk.fail_from(left, fail_sync);
            let mut acknowledged = 0;
            for height in 1..=60 {
                if put(&mut store, &votes_of(height)).is_err() {
                    break;
                }
                acknowledged = height;
            }
            assert!(matches!(put(&mut store, &votes_of(61)), Err(StorageError::Poisoned)));
            drop(store);
            let found = held(&open(dir.path()));
            let expected: Vec<VoteRoot> = (1..=acknowledged).flat_map(votes_of).collect();
            assert!(found.starts_with(&expected), "{left} calls: {acknowledged} acknowledged");
        }
    }
}

#[test]
fn what_the_log_holds_without_a_mark_is_marked_before_the_log_may_forget_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    put(&mut store, &votes_of(4)).unwrap();
    store.raise_watermarks(&[InstanceId::Block(Height(2))]).unwrap();
    store.complete((1..=5).flat_map(votes_of)).unwrap();
    drop(store);
    let expected: Vec<VoteRoot> = (3..=5).flat_map(votes_of).collect();
    let mut store = open(dir.path());
    assert_eq!(held(&store), expected);
    assert!(store.complete([vote(5, Kind::Commit, 0xee)].into_iter()).is_err(), "they contradict each other");
}

/// The log may be pruned right after a start, and then only the vote is left.
#[test]
fn marks_completed_at_a_start_are_durable_before_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(BadDisk::default());
    let mut store = open_on(dir.path(), Arc::new(disk.clone())).unwrap();
    let syncs = disk.syncs.load(SeqCst);
    store.complete((1..=5).flat_map(votes_of)).unwrap();
    assert_eq!(disk.syncs.load(SeqCst), syncs + 1);
    disk.fail_from(1, true);
    assert!(matches!(store.complete(votes_of(6).into_iter()), Err(StorageError::Io { op: "sync", .. })));
}
