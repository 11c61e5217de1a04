use super::segment::{BATCH_EXTRA_BYTES, RECORD_HEAD_BYTES};
use super::*;
use crate::medium::testing::BadDisk;
use aequa_types::limits::VALUE_BYTES_MAX;
use aequa_types::record::ValueRecord;
use aequa_types::{
    Claim, Digest, Domain, DutyKind, Height, InstanceId, Round, Signature, Signed, Statement, ValueBytes,
};
use proptest::prelude::*;
use std::fs;
use std::sync::atomic::Ordering::SeqCst;

pub(super) const CLUSTER: ClusterId = ClusterId::repeat_byte(0xc1);
pub(super) const ME: OperatorIndex = OperatorIndex(2);

fn options(segment_bytes: usize) -> WalOptions {
    // Chance might end a batch with zeros, and then it ends before it is cut.
    WalOptions { segment_bytes, fresh_salt: || Ok(0x5a17), ..WalOptions::default() }
}

pub(super) fn open(dir: &Path, segment_bytes: usize) -> Result<(Wal, Recovered), StorageError> {
    Wal::open(dir, CLUSTER, ME, options(segment_bytes))
}

pub(super) fn vote_in(domain: Domain, height: u64) -> Record {
    Record::Prepare(Signed {
        statement: Statement {
            instance: domain.instance(height),
            round: Round(height % 3),
            author: ME,
            claim: Claim::Prepare(Digest::repeat_byte(height as u8 | 1)),
        },
        signature: Signature::repeat_byte(0x51),
    })
}

pub(super) fn vote(height: u64) -> Record {
    vote_in(Domain::Block, height)
}

pub(super) fn value(height: u64, bytes: usize) -> Record {
    let instance = InstanceId::Block(Height(height));
    Record::Value(ValueRecord { instance, value: ValueBytes(vec![0xab; bytes].into()) })
}

fn votes(heights: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    heights.map(vote).collect()
}

/// Size of a batch of one record.
fn batch_bytes(record: &Record) -> usize {
    BATCH_EXTRA_BYTES + RECORD_HEAD_BYTES + record.ssz_bytes_len()
}

/// Whether all of `part` is in `all`, in the same order.
pub(super) fn is_part_of(part: &[Record], all: &[Record]) -> bool {
    let mut rest = all.iter();
    part.iter().all(|record| rest.any(|other| other == record))
}

/// Appends and syncs records one by one.
pub(super) fn write(wal: &mut Wal, records: &[Record]) {
    for record in records {
        wal.append(record).unwrap();
        wal.sync().unwrap();
    }
}

pub(super) fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    files.sort();
    files
}

/// A directory with a log of `records` in one segment of 4 KiB, and the segment's bytes.
fn written(records: &[Record]) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, recovered) = open(dir.path(), 4096).unwrap();
    assert_eq!(recovered, Recovered { records: vec![], torn: false });
    write(&mut wal, records);
    drop(wal);
    let file = segment_path_of(dir.path(), 0);
    let bytes = fs::read(&file).unwrap();
    (dir, file, bytes)
}

fn segment_path_of(dir: &Path, n: usize) -> PathBuf {
    segment_files(dir).swap_remove(n)
}

#[test]
fn records_come_back_in_order_and_the_sequence_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    for opened in 0..4u64 {
        let (mut wal, recovered) = open(dir.path(), 4096).unwrap();
        assert_eq!(recovered, Recovered { records: votes(1..=opened * 2), torn: false });
        assert_eq!(wal.next_number(), opened * 2 + 1);
        write(&mut wal, &votes(opened * 2 + 1..=opened * 2 + 2));
    }
}

#[test]
fn what_was_synced_survives_the_process_and_what_was_only_appended_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path(), 4096).unwrap();
    write(&mut wal, &votes(1..=3));
    wal.append(&vote(4)).unwrap();
    drop(wal);
    assert_eq!(open(dir.path(), 4096).unwrap().1.records, votes(1..=3));
}

#[test]
fn reading_beside_an_open_log_gives_what_was_synced_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path(), 4096).unwrap();
    write(&mut wal, &votes(1..=2));
    wal.append(&vote(3)).unwrap();
    let file = segment_path_of(dir.path(), 0);
    let before = fs::read(&file).unwrap();
    assert_eq!(read(dir.path(), CLUSTER, ME).unwrap(), votes(1..=2));
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(read(&dir.path().join("none"), CLUSTER, ME).is_err());
}

#[test]
fn a_log_cut_at_any_byte_of_its_last_two_records_is_a_prefix_and_can_be_continued() {
    let records = votes(1..=4);
    let (dir, file, bytes) = written(&records);
    let ends: Vec<usize> =
        (0..=4).map(|n| HEAD_BYTES + records[..n].iter().map(batch_bytes).sum::<usize>()).collect();
    assert!(ends[1..].iter().all(|end| bytes[end - 1] != 0));
    for cut in ends[2]..=ends[4] {
        for keeps_length in [true, false] {
            let mut left = bytes[..cut].to_vec();
            if keeps_length {
                left.resize(bytes.len(), 0);
            }
            fs::write(&file, &left).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let (mut wal, recovered) = open(dir.path(), 4096).unwrap();
            assert_eq!(recovered.records, records[..whole], "cut at {cut}");
            assert_eq!(recovered.torn, cut != ends[whole] && bytes[ends[whole]..cut].iter().any(|b| *b != 0));
            write(&mut wal, &[vote(99)]);
            drop(wal);

            let mut expected = records[..whole].to_vec();
            expected.push(vote(99));
            assert_eq!(open(dir.path(), 4096).unwrap().1, Recovered { records: expected, torn: false });
            for other in segment_files(dir.path()).iter().filter(|other| **other != file) {
                fs::remove_file(other).unwrap();
            }
        }
    }
}

#[test]
fn a_flipped_byte_in_the_last_record_gives_a_prefix_and_before_that_a_refusal() {
    let records = votes(1..=4);
    let (dir, file, bytes) = written(&records);
    let third = HEAD_BYTES + batch_bytes(&records[0]) + batch_bytes(&records[1]);
    let fourth = third + batch_bytes(&records[2]);
    let end = fourth + batch_bytes(&records[3]);
    for at in third..end {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = bytes.clone();
            flipped[at] ^= mask;
            fs::write(&file, &flipped).unwrap();
            let opened = open(dir.path(), 4096);
            if at >= fourth {
                let recovered = opened.unwrap().1;
                assert_eq!(recovered, Recovered { records: votes(1..=3), torn: true }, "byte {at}");
            } else {
                let error = opened.unwrap_err();
                assert!(matches!(error, StorageError::WalCorrupt { .. }), "byte {at}: {error}");
                assert!(error.is_safety_refusal());
                assert_eq!(fs::read(&file).unwrap(), flipped, "a refused log is left as it is");
            }
        }
    }
}

#[test]
fn a_zeroed_record_in_the_middle_is_refused() {
    let records = votes(1..=4);
    let (dir, file, mut bytes) = written(&records);
    let second = HEAD_BYTES + batch_bytes(&records[0]);
    bytes[second..second + batch_bytes(&records[1])].fill(0);
    fs::write(&file, &bytes).unwrap();
    assert!(matches!(open(dir.path(), 4096), Err(StorageError::WalCorrupt { .. })));
}

#[test]
fn a_damaged_head_is_refused_and_a_newer_one_named() {
    let (dir, file, bytes) = written(&votes(1..=2));
    for at in (0..HEAD_BYTES).filter(|at| !(4..6).contains(at)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        assert!(matches!(open(dir.path(), 4096), Err(StorageError::WalCorrupt { .. })), "byte {at}");
    }
    let mut newer = bytes;
    newer[5] = 4;
    fs::write(&file, &newer).unwrap();
    assert!(matches!(open(dir.path(), 4096), Err(StorageError::NewerVersion { found: 4, .. })));
}

#[test]
fn intact_bytes_that_are_no_record_are_refused() {
    let (dir, file, bytes) = written(&votes(1..=1));
    let salt = Head::decode(&bytes).unwrap().0.salt;
    for length in [0, 40] {
        let mut drafts = Drafts::default();
        drafts.push(vote(1).subject(), length, 4096, |buffer| buffer.resize(buffer.len() + length, 0xee));
        let batch = drafts.0[0].finish(salt, Stamp { number: 1, unsynced: 0 }).0;
        let mut forged = [&bytes[..HEAD_BYTES], batch].concat();
        forged.resize(bytes.len(), 0);
        fs::write(&file, &forged).unwrap();
        assert!(matches!(open(dir.path(), 4096), Err(StorageError::WalCorrupt { .. })));
    }
}

#[test]
fn a_log_of_another_cluster_or_operator_is_refused() {
    let (dir, ..) = written(&votes(1..=1));
    let other_cluster = Wal::open(dir.path(), ClusterId::ZERO, ME, options(4096)).unwrap_err();
    let other_operator = Wal::open(dir.path(), CLUSTER, OperatorIndex(3), options(4096)).unwrap_err();
    for error in [other_cluster, other_operator] {
        assert!(matches!(error, StorageError::ForeignDirectory { .. }));
        assert!(error.is_safety_refusal());
    }
}

#[test]
fn segments_roll_when_full_and_are_read_as_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path(), 1024).unwrap();
    write(&mut wal, &votes(1..=40));
    assert!(wal.segments() > 5);
    assert_eq!(wal.segments(), segment_files(dir.path()).len());
    drop(wal);
    let (mut wal, recovered) = open(dir.path(), 1024).unwrap();
    assert_eq!(recovered.records, votes(1..=40));
    write(&mut wal, &votes(41..=50));
    drop(wal);
    assert_eq!(open(dir.path(), 1024).unwrap().1.records, votes(1..=50));
}

#[test]
fn one_sync_may_fill_several_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path(), 1024).unwrap();
    for record in votes(1..=40) {
        wal.append(&record).unwrap();
    }
    wal.sync().unwrap();
    assert!(wal.segments() > 5);
    drop(wal);
    assert_eq!(open(dir.path(), 1024).unwrap().1.records, votes(1..=40));
}

#[test]
fn a_record_larger_than_a_segment_gets_its_own_also_when_it_is_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let records = [value(1, 10_000), vote(1), value(2, 20_000), vote(2)];
    let (mut wal, _) = open(dir.path(), 1024).unwrap();
    write(&mut wal, &records);
    drop(wal);
    assert_eq!(open(dir.path(), 1024).unwrap().1.records, records);
}

#[test]
fn the_largest_value_is_kept_and_a_larger_record_refused_without_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path(), SEGMENT_BYTES).unwrap();
    wal.append(&value(1, VALUE_BYTES_MAX)).unwrap();
    assert!(matches!(wal.append(&value(2, RECORD_BYTES_MAX)), Err(StorageError::TooLarge { .. })));
    wal.append(&vote(1)).unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(open(dir.path(), SEGMENT_BYTES).unwrap().1.records, [value(1, VALUE_BYTES_MAX), vote(1)]);
}

#[test]
fn pruning_drops_old_segments_and_never_one_with_a_needed_height() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path(), 1024).unwrap();
    let mut all = votes(1..=20);
    all.push(vote_in(Domain::Duty(DutyKind::Attester), 1000));
    all.extend(votes(21..=40));
    write(&mut wal, &all);
    let segments = wal.segments();

    // The duty in the middle is still needed.
    let dropped =
        wal.prune(&|Subject { instance, .. }| instance.height().is_none_or(|at| at >= Height(41))).unwrap();
    assert!(dropped > 0);
    assert_eq!(wal.segments(), segments - dropped);
    drop(wal);
    let (mut wal, recovered) = open(dir.path(), 1024).unwrap();
    assert!(is_part_of(&recovered.records, &all));
    assert!(recovered.records.contains(&vote_in(Domain::Duty(DutyKind::Attester), 1000)));

    // Heights read back from disk count as well; the active segment always stays.
    wal.prune(&|_| false).unwrap();
    assert_eq!((wal.segments(), segment_files(dir.path()).len()), (1, 1));
    write(&mut wal, &votes(41..=60));
    drop(wal);
    let (wal, recovered) = open(dir.path(), 1024).unwrap();
    assert!(recovered.records.ends_with(&votes(41..=60)));
    assert_eq!(wal.next_number(), 62);
}

#[test]
fn a_log_pruned_at_every_height_does_not_grow() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path(), 4096).unwrap();
    for height in 1..=500 {
        write(&mut wal, &[vote(height)]);
        wal.prune(&|subject| subject.instance.number() >= height).unwrap();
        assert!(wal.segments() <= 2);
    }
}

#[test]
fn a_missing_or_foreign_segment_breaks_the_chain() {
    let make = |first: u64| {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = open(dir.path(), 1024).unwrap();
        write(&mut wal, &votes(first..=first + 30));
        dir
    };
    let missing = make(1);
    fs::remove_file(segment_path_of(missing.path(), 1)).unwrap();
    assert!(matches!(open(missing.path(), 1024), Err(StorageError::WalCorrupt { .. })));

    let (ours, theirs) = (make(1), make(2));
    fs::copy(segment_path_of(theirs.path(), 1), segment_path_of(ours.path(), 1)).unwrap();
    assert!(matches!(open(ours.path(), 1024), Err(StorageError::WalCorrupt { .. })));
}

#[test]
fn a_torn_segment_before_the_last_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path(), 1024).unwrap();
    write(&mut wal, &votes(1..=30));
    drop(wal);
    let file = segment_path_of(dir.path(), 1);
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert!(matches!(open(dir.path(), 1024), Err(StorageError::WalCorrupt { .. })));
}

#[test]
fn a_segment_that_never_got_its_name_is_removed() {
    let (dir, ..) = written(&votes(1..=3));
    let spare = dir.path().join(SPARE_FILE);
    fs::write(&spare, b"half a segment").unwrap();
    assert_eq!(open(dir.path(), 4096).unwrap().1.records, votes(1..=3));
    assert!(!spare.exists());
}

#[test]
fn a_file_larger_than_any_segment_is_refused_unread() {
    let (dir, file, _) = written(&votes(1..=1));
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(SEGMENT_BYTES_MAX as u64 + 1).unwrap();
    assert!(matches!(open(dir.path(), 4096), Err(StorageError::WalCorrupt { .. })));
}

fn on_bad_disk(segment_bytes: usize) -> (tempfile::TempDir, Wal, Arc<BadDisk>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(BadDisk::default());
    let options = WalOptions { segment_bytes, medium: Arc::new(disk.clone()), ..WalOptions::default() };
    let (wal, _) = Wal::open(dir.path(), CLUSTER, ME, options).unwrap();
    (dir, wal, disk)
}

#[test]
fn everything_appended_costs_one_write_and_one_sync_and_nothing_costs_none() {
    let (_dir, mut wal, disk) = on_bad_disk(1 << 20);
    let calls = || (disk.writes.load(SeqCst), disk.syncs.load(SeqCst));
    let (writes, syncs) = calls();
    for record in votes(1..=100) {
        wal.append(&record).unwrap();
    }
    assert_eq!(calls(), (writes, syncs));
    wal.sync().unwrap();
    assert_eq!(calls(), (writes + 1, syncs + 1));
    wal.sync().unwrap();
    assert_eq!(calls(), (writes + 1, syncs + 1));
}

#[test]
fn short_writes_are_completed() {
    let (dir, mut wal, disk) = on_bad_disk(4096);
    disk.short.store(7, SeqCst);
    write(&mut wal, &votes(1..=5));
    drop(wal);
    assert_eq!(open(dir.path(), 4096).unwrap().1.records, votes(1..=5));
}

#[test]
fn what_is_read_back_is_synced_before_it_is_believed() {
    let (dir, ..) = written(&votes(1..=2));
    let disk = Arc::new(BadDisk::default());
    let reopen = || {
        let options = WalOptions { medium: Arc::new(disk.clone()), ..options(4096) };
        Wal::open(dir.path(), CLUSTER, ME, options)
    };
    disk.syncs_left.store(1, SeqCst);
    assert!(matches!(reopen(), Err(StorageError::Io { op: "sync", .. })));
    disk.syncs_left.store(0, SeqCst);
    assert_eq!(reopen().unwrap().1.records, votes(1..=2));
}

/// After a failed sync the page cache may show bytes that no later sync writes out.
#[test]
fn what_is_read_back_is_written_again_before_it_is_synced() {
    let (dir, file, bytes) = written(&votes(1..=2));
    let disk = Arc::new(BadDisk::default());
    let reopen = || {
        let options = WalOptions { medium: Arc::new(disk.clone()), ..options(4096) };
        Wal::open(dir.path(), CLUSTER, ME, options)
    };
    disk.fail_from(1, false);
    assert!(matches!(reopen(), Err(StorageError::Io { op: "write", .. })));
    assert_eq!(disk.syncs.load(SeqCst), 0, "nothing is synced that was not written by this process");
    disk.writes_left.store(0, SeqCst);
    assert_eq!(reopen().unwrap().1.records, votes(1..=2));
    assert_eq!(fs::read(file).unwrap(), bytes, "the same bytes");
}

#[test]
fn a_long_turn_of_which_a_power_cut_leaves_holes_was_torn_and_is_not_corrupt() {
    for records in [200, 255, 256, 300, 600] {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = open(dir.path(), 1 << 20).unwrap();
        write(&mut wal, &[vote(1)]);
        let turn: Vec<Record> =
            (0..records).map(|slot| vote_in(Domain::Duty(DutyKind::Attester), slot)).collect();
        // Some was heard before, and is written and not synced.
        for part in turn.chunks(records as usize / 3) {
            part.iter().for_each(|record| wal.append(record).unwrap());
            wal.write().unwrap();
        }
        drop(wal);
        let file = segment_path_of(dir.path(), 0);
        let bytes = fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let mut torn = 0;
        for sector in 1..=used / 512 {
            let mut left = bytes.clone();
            left[sector * 512..(sector + 1) * 512].fill(0);
            fs::write(&file, left).unwrap();
            let recovered = open(dir.path(), 1 << 20).unwrap().1;
            assert!(turn.starts_with(&recovered.records[1..]) && recovered.records[0] == vote(1));
            torn += usize::from(recovered.torn);
        }
        assert_eq!(torn, used / 512, "{records} records");
    }
}

#[test]
fn a_long_turn_costs_one_sync_and_is_whole_or_was_never_written() {
    let (dir, mut wal, disk) = on_bad_disk(1 << 20);
    let syncs = disk.syncs.load(SeqCst);
    let turn = votes(1..=600);
    turn.iter().for_each(|record| wal.append(record).unwrap());
    wal.sync().unwrap();
    assert_eq!(disk.syncs.load(SeqCst), syncs + 1);
    // A second one is cut short by the disk.
    votes(601..=1200).iter().for_each(|record| wal.append(record).unwrap());
    disk.syncs_left.store(1, SeqCst);
    assert!(wal.sync().is_err());
    drop(wal);
    let file = segment_path_of(dir.path(), 0);
    let mut bytes = fs::read(&file).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used - 512..used].fill(0);
    fs::write(&file, bytes).unwrap();
    let recovered = open(dir.path(), 1 << 20).unwrap().1;
    assert_eq!(recovered, Recovered { records: turn, torn: true });
}

#[test]
fn a_log_of_the_layout_before_is_refused_and_left_as_it_is() {
    let (dir, file, mut bytes) = written(&votes(1..=2));
    bytes[5] = 2;
    fs::write(&file, &bytes).unwrap();
    let error = open(dir.path(), 4096).unwrap_err();
    assert!(matches!(error, StorageError::OlderLog { found: 2, .. }) && error.is_safety_refusal());
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

fn assert_poisoned(wal: &mut Wal) {
    let error = wal.sync().unwrap_err();
    assert!(matches!(&error, StorageError::Io { source, .. } if source.raw_os_error() == Some(5)), "{error}");
    assert!(wal.is_poisoned());
    for _ in 0..3 {
        assert!(matches!(wal.sync(), Err(StorageError::Poisoned)));
        assert!(matches!(wal.append(&vote(9)), Err(StorageError::Poisoned)));
        assert!(matches!(wal.prune(&|subject| subject.instance.number() >= 9), Err(StorageError::Poisoned)));
    }
}

#[test]
fn a_failed_sync_poisons_the_log_even_when_the_disk_recovers() {
    let (dir, mut wal, disk) = on_bad_disk(4096);
    write(&mut wal, &votes(1..=2));
    wal.append(&vote(3)).unwrap();
    disk.syncs_left.store(1, SeqCst);
    let syncs = disk.syncs.load(SeqCst);
    assert_poisoned(&mut wal);
    disk.syncs_left.store(0, SeqCst);
    assert!(matches!(wal.sync(), Err(StorageError::Poisoned)));
    assert_eq!(disk.syncs.load(SeqCst), syncs + 1, "a failed sync is never repeated");
    drop(wal);
    // Whether the third record reached the disk is unknown; nobody was told of it.
    let records = open(dir.path(), 4096).unwrap().1.records;
    assert!(records.starts_with(&votes(1..=2)) && records.len() <= 3);
}

#[test]
fn a_write_that_fails_half_way_poisons_the_log_and_leaves_a_torn_tail() {
    let (dir, mut wal, disk) = on_bad_disk(4096);
    write(&mut wal, &votes(1..=2));
    wal.append(&vote(3)).unwrap();
    disk.short.store(20, SeqCst);
    disk.writes_left.store(3, SeqCst);
    assert_poisoned(&mut wal);
    drop(wal);
    assert_eq!(open(dir.path(), 4096).unwrap().1, Recovered { records: votes(1..=2), torn: true });
    assert_eq!(open(dir.path(), 4096).unwrap().1, Recovered { records: votes(1..=2), torn: false });
}

#[test]
fn failing_at_any_call_while_rolling_loses_nothing_synced() {
    for left in 1..40 {
        let (dir, mut wal, disk) = on_bad_disk(1024);
        disk.writes_left.store(left, SeqCst);
        let mut synced = 0;
        for height in 1..=20 {
            wal.append(&vote(height)).unwrap();
            if wal.sync().is_err() {
                break;
            }
            synced = height;
        }
        drop(wal);
        let records = open(dir.path(), 1024).unwrap().1.records;
        assert!(records.starts_with(&votes(1..=synced)), "{left} writes: {synced} synced");
        assert!(records.len() as u64 <= synced + 1);
    }
}

#[derive(Debug, Clone)]
enum Op {
    Append(u64, usize),
    Sync,
    Reopen,
    Prune(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1u64..50, 0usize..600).prop_map(|(height, bytes)| Op::Append(height, bytes)),
        3 => Just(Op::Sync),
        1 => Just(Op::Reopen),
        1 => (1u64..50).prop_map(Op::Prune),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_log_is_what_was_synced_less_what_was_pruned(ops in proptest::collection::vec(op(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = open(dir.path(), 1024).unwrap();
        let (mut synced, mut pending) = (Vec::new(), Vec::new());
        let (mut pruned_below, mut batches) = (0, 0);
        // Nothing is checked before the log is read back.
        for op in ops.into_iter().chain([Op::Reopen]) {
            match op {
                Op::Append(height, bytes) => {
                    let record = if bytes % 2 == 0 { vote(height) } else { value(height, bytes) };
                    wal.append(&record).unwrap();
                    pending.push(record);
                }
                Op::Sync => {
                    let written = wal.next_number();
                    wal.sync().unwrap();
                    batches += wal.next_number() - written;
                    prop_assert_eq!(wal.next_number() > written, !pending.is_empty());
                    synced.append(&mut pending);
                }
                Op::Prune(height) => {
                    wal.prune(&|subject| subject.instance.number() >= height).unwrap();
                    pruned_below = pruned_below.max(height);
                }
                Op::Reopen => {
                    drop(wal);
                    pending.clear();
                    let (reopened, recovered) = open(dir.path(), 1024).unwrap();
                    wal = reopened;
                    prop_assert!(!recovered.torn);
                    prop_assert!(is_part_of(&recovered.records, &synced));
                    let kept = |record: &&Record| record.instance().number() >= pruned_below;
                    let needed: Vec<Record> = synced.iter().filter(kept).cloned().collect();
                    prop_assert!(is_part_of(&needed, &recovered.records));
                    prop_assert_eq!(wal.next_number(), batches + 1);
                }
            }
        }
    }
}
