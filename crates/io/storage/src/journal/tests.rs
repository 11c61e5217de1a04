use super::*;
use aequa_types::record::ValueRecord;
use aequa_types::recording::{Connected, Moment, Numbered};
use aequa_types::{Height, InstanceId, ValueBytes};
use std::fs;

const CLUSTER: ClusterId = ClusterId::repeat_byte(4);
const ME: OperatorIndex = OperatorIndex(2);

fn entry(n: u64) -> Entry {
    Entry::Connected(Connected { operator: ME, at: Moment { elapsed_ms: n, wall_ms: n } })
}

fn value(bytes: usize) -> Entry {
    let instance = InstanceId::Block(Height(1));
    Entry::Value(ValueRecord { instance, value: ValueBytes(vec![7; bytes].into()) })
}

fn open(dir: &Path, bytes_max: u64) -> Journal {
    Journal::open(dir, CLUSTER, ME, bytes_max).unwrap()
}

/// Records entries `from..to`, one turn each.
fn record(dir: &Path, bytes_max: u64, from: u64, to: u64) {
    let mut journal = open(dir, bytes_max);
    for n in from..to {
        journal.append(&entry(n)).unwrap();
        journal.write_out().unwrap();
    }
}

fn read(dir: &Path) -> Vec<Numbered> {
    let Some(reader) = Reader::open(dir).unwrap() else { return Vec::new() };
    assert_eq!(reader.owner(), (CLUSTER, ME));
    reader.entries().map(Result::unwrap).collect()
}

fn numbered(from: u64, to: u64) -> Vec<Numbered> {
    (from..to).map(|n| Numbered { number: n, entry: Some(entry(n)) }).collect()
}

fn bytes_on_disk(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn newest(dir: &Path) -> PathBuf {
    reader::segment_path(dir, *reader::segments(dir).unwrap().last().unwrap())
}

#[test]
fn what_was_recorded_is_read_in_order_across_segments_and_processes() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(&dir.path().join("none")), []);
    record(dir.path(), 1 << 20, 1, 40);
    record(dir.path(), 8 * 512, 40, 60);
    assert!(reader::segments(dir.path()).unwrap().len() > 2);
    assert_eq!(read(dir.path()), numbered(1, 60));
}

#[test]
fn nothing_of_an_unfinished_turn_is_written_and_finishing_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1 << 20);
    journal.append(&entry(1)).unwrap();
    journal.append(&entry(2)).unwrap();
    assert_eq!(read(dir.path()), []);
    journal.finish().unwrap();
    assert_eq!(read(dir.path()), numbered(1, 3));
}

#[test]
fn a_recording_never_outgrows_its_bound_and_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let bytes_max = 8 * 512;
    let mut journal = open(dir.path(), bytes_max);
    for n in 1..1000 {
        journal.append(&entry(n)).unwrap();
        journal.write_out().unwrap();
        assert!(bytes_on_disk(dir.path()) <= bytes_max, "entry {n}");
    }
    let kept = read(dir.path());
    assert_eq!(kept.last().unwrap().number, 999);
    assert_eq!(kept, numbered(kept[0].number, 1000));
    assert!(bytes_on_disk(dir.path()) > bytes_max / 2, "more is dropped than must be");
    // A smaller bound holds from the next start on.
    drop(journal);
    record(dir.path(), bytes_max / 2, 1000, 1001);
    assert!(bytes_on_disk(dir.path()) <= bytes_max / 2);
    assert_eq!(read(dir.path()).last().unwrap().number, 1000);
}

#[test]
fn a_value_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 64 << 10);
    let entries = [entry(1), value(40 << 10), entry(2)];
    for entry in &entries {
        journal.append(entry).unwrap();
    }
    journal.write_out().unwrap();
    let read: Vec<Entry> = read(dir.path()).into_iter().map(|numbered| numbered.entry.unwrap()).collect();
    assert_eq!(read, entries);
    assert!(bytes_on_disk(dir.path()) <= 64 << 10);
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1 << 30);
    journal.append(&entry(1)).unwrap();
    assert!(matches!(journal.append(&value(ENTRY_BYTES_MAX)), Err(StorageError::TooLarge { .. })));
    journal.finish().unwrap();
    assert_eq!(read(dir.path()), numbered(1, 2));
}

#[test]
fn a_recording_cut_at_any_byte_is_a_prefix_and_what_comes_later_is_read() {
    let whole = tempfile::tempdir().unwrap();
    record(whole.path(), 1 << 20, 1, 4);
    let bytes = fs::read(newest(whole.path())).unwrap();
    let entry_bytes = (bytes.len() - HEAD_BYTES as usize) / 3;
    for cut in 0..bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("entries-00000000000000000001.jrn"), &bytes[..cut]).unwrap();
        let kept = (cut.saturating_sub(HEAD_BYTES as usize) / entry_bytes) as u64;
        record(dir.path(), 1 << 20, 70, 71);
        let mut expected = numbered(1, kept + 1);
        let torn = kept > 0 && !(cut - HEAD_BYTES as usize).is_multiple_of(entry_bytes);
        expected.extend(torn.then_some(Numbered { number: kept + 1, entry: None }));
        expected.push(Numbered { number: kept + 1, entry: Some(entry(70)) });
        assert_eq!(read(dir.path()), expected, "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_is_a_hole_and_the_next_segment_is_still_read() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 1 << 20, 1, 4);
    let damaged = newest(dir.path());
    record(dir.path(), 1 << 20, 4, 6);
    let mut bytes = fs::read(&damaged).unwrap();
    let second = HEAD_BYTES as usize + (bytes.len() - HEAD_BYTES as usize) / 3;
    bytes[second + HEADER_BYTES] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let mut expected = numbered(1, 2);
    expected.push(Numbered { number: 2, entry: None });
    expected.extend(numbered(4, 6));
    assert_eq!(read(dir.path()), expected);
}

#[test]
fn a_missing_segment_is_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 1 << 20, 1, 3);
    record(dir.path(), 1 << 20, 3, 5);
    let middle = newest(dir.path());
    record(dir.path(), 1 << 20, 5, 6);
    let reader = Reader::open(dir.path()).unwrap().unwrap();
    fs::remove_file(&middle).unwrap();
    let hole = |number| Numbered { number, entry: None };
    let expected = [numbered(1, 3), vec![hole(3)], numbered(5, 6)].concat();
    assert_eq!(reader.entries().map(Result::unwrap).collect::<Vec<_>>(), expected, "dropped while reading");
    let expected = [numbered(1, 3), vec![hole(5)], numbered(5, 6)].concat();
    assert_eq!(read(dir.path()), expected, "dropped before");
}

#[test]
fn the_recording_of_another_operator_or_of_a_newer_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 1 << 20, 1, 3);
    let other = Journal::open(dir.path(), CLUSTER, OperatorIndex(0), 1 << 20).unwrap_err();
    assert!(matches!(other, StorageError::ForeignDirectory { .. }));
    let mut bytes = fs::read(newest(dir.path())).unwrap();
    bytes[5] = 2;
    fs::write(newest(dir.path()), bytes).unwrap();
    assert!(matches!(Reader::open(dir.path()), Err(StorageError::NewerVersion { found: 2, .. })));
    assert!(matches!(
        Journal::open(dir.path(), CLUSTER, ME, 1 << 20),
        Err(StorageError::NewerVersion { .. })
    ));
}
