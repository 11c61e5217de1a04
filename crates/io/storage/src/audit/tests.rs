use super::*;
use crate::medium::testing::BadDisk;
use std::fs;
use std::sync::atomic::Ordering::SeqCst;

fn entry(n: u64) -> AuditEntry {
    AuditEntry::new(AuditKind::Decision, "checkpoint").with("height", n)
}

/// Files of a few records, so that many are closed.
fn small(files_max: usize, medium: Arc<dyn Medium>) -> AuditOptions {
    AuditOptions { file_bytes_max: 500, files_max, medium }
}

fn open(dir: &Path) -> AuditLog {
    AuditLog::open(dir, AuditOptions::default()).unwrap()
}

fn append(dir: &Path, heights: std::ops::Range<u64>) {
    let mut log = open(dir);
    heights.for_each(|height| log.append(&entry(height)).unwrap());
}

fn read(dir: &Path) -> Vec<Result<AuditRecord, StorageError>> {
    AuditReader::open(dir).unwrap().map_or_else(Vec::new, |reader| reader.records().collect())
}

/// The records of a log that holds.
fn records(dir: &Path) -> Vec<AuditRecord> {
    read(dir).into_iter().map(Result::unwrap).collect()
}

/// What records say: the value of their first field, or what happened to the log.
fn said(records: &[AuditRecord]) -> Vec<String> {
    let word = |record: &AuditRecord| match record.entry.kind() {
        AuditKind::Log => record.entry.event().into_owned(),
        _ => record.entry.fields().next().unwrap().1.into_owned(),
    };
    records.iter().map(word).collect()
}

fn heights(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|height| height.to_string()).collect()
}

fn field(record: &AuditRecord, name: &str) -> String {
    record.entry.fields().find(|(known, _)| known == name).unwrap().1.into_owned()
}

/// The number of the record that does not hold.
fn broken_at(dir: &Path) -> u64 {
    match read(dir).pop() {
        Some(Err(StorageError::AuditBroken { number, .. })) => number,
        other => panic!("{other:?}"),
    }
}

/// Where each record of the written file ends.
fn ends(dir: &Path) -> Vec<usize> {
    let bytes = fs::read(dir.join(FILE)).unwrap();
    let mut walk = Walk::new(&bytes, None, None);
    let mut ends = Vec::new();
    while walk.next().is_some() {
        ends.push(walk.end());
    }
    ends
}

#[test]
fn records_name_each_other_over_files_and_processes() {
    let dir = tempfile::tempdir().unwrap();
    assert!(AuditReader::open(dir.path()).unwrap().is_none());
    for life in 0..5 {
        let mut log = AuditLog::open(dir.path(), small(100, Arc::new(SystemMedium))).unwrap();
        (life * 7..(life + 1) * 7).for_each(|height| log.append(&entry(height)).unwrap());
        log.sync().unwrap();
    }
    let records = records(dir.path());
    assert_eq!(said(&records), heights(0..35));
    let mut previous = B256::ZERO;
    for (number, record) in (1..).zip(&records) {
        assert_eq!((record.number, record.previous), (number, previous));
        previous = record.hash();
    }
    assert!(AuditReader::open(dir.path()).unwrap().unwrap().files() > 3);
}

#[test]
fn the_oldest_files_go_and_the_others_still_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(dir.path(), small(3, Arc::new(SystemMedium))).unwrap();
    for height in 0..100 {
        log.append(&entry(height)).unwrap();
        assert!(AuditReader::open(dir.path()).unwrap().unwrap().files() <= 4);
    }
    let records = records(dir.path());
    let first = records[0].number;
    assert!(first > 50 && records.len() > 10, "{first} and {} more", records.len());
    assert_eq!(said(&records), heights(first - 1..100));
}

#[test]
fn every_flipped_byte_is_found_at_its_record() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), 0..5);
    let (bytes, ends) = (fs::read(dir.path().join(FILE)).unwrap(), ends(dir.path()));
    for position in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        fs::write(dir.path().join(FILE), &flipped).unwrap();
        let number = ends.iter().position(|end| position < *end).unwrap() as u64 + 1;
        assert_eq!(broken_at(dir.path()), number, "byte {position}");
        assert_eq!(read(dir.path()).len() as u64, number, "what comes before holds");
    }
}

#[test]
fn every_flipped_byte_of_a_closed_file_is_found_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(dir.path(), small(9, Arc::new(SystemMedium))).unwrap();
    (0..12).for_each(|height| log.append(&entry(height)).unwrap());
    let path = dir.path().join(closed_name(1));
    let bytes = fs::read(&path).unwrap();
    for position in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[position] ^= 0x40;
        fs::write(&path, &flipped).unwrap();
        broken_at(dir.path());
    }
    fs::remove_file(&path).unwrap();
    assert!(records(dir.path())[0].number > 1, "the oldest may be gone");
    fs::write(&path, &bytes).unwrap();
    let closed = closed_files(&SystemMedium.list(dir.path()).unwrap());
    fs::remove_file(dir.path().join(closed_name(closed[1]))).unwrap();
    assert_eq!(broken_at(dir.path()), closed[1], "one in the middle may not");
}

/// Who can write to the directory can make every checksum fit.
#[test]
fn a_record_that_was_rewritten_is_found_at_the_next_and_the_last_one_by_its_head() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), 0..4);
    let records = records(dir.path());
    for forged in 0..4 {
        let mut bytes = Vec::new();
        for (place, record) in records.iter().enumerate() {
            let mut record = record.clone();
            if place == forged {
                record.entry = entry(99);
            }
            bytes.extend(RECORD_FRAME.encode(0, &record.as_ssz_bytes()).unwrap());
        }
        fs::write(dir.path().join(FILE), &bytes).unwrap();
        match forged {
            3 => assert_ne!(self::records(dir.path())[3].hash(), records[3].hash()),
            _ => assert_eq!(broken_at(dir.path()), forged as u64 + 2),
        }
    }
}

#[test]
fn a_file_cut_anywhere_goes_on_behind_its_whole_records_and_says_so() {
    let whole = tempfile::tempdir().unwrap();
    append(whole.path(), 0..3);
    let (bytes, ends) = (fs::read(whole.path().join(FILE)).unwrap(), ends(whole.path()));
    for cut in 0..bytes.len() {
        for zeros in [0, 40] {
            let dir = tempfile::tempdir().unwrap();
            let mut torn = bytes[..cut].to_vec();
            // A file can be longer than what reached it.
            torn.extend(vec![0; zeros]);
            fs::write(dir.path().join(FILE), &torn).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let is_torn = zeros > 0 || (cut > 0 && !ends.contains(&cut));
            if is_torn {
                assert_eq!(broken_at(dir.path()), whole as u64 + 1, "cut at {cut}");
            }
            append(dir.path(), 7..8);
            let mut expected = heights(0..whole as u64);
            expected.extend(is_torn.then(|| "cut".to_owned()));
            expected.push("7".into());
            assert_eq!(said(&records(dir.path())), expected, "cut at {cut}, {zeros} zeros");
        }
    }
}

#[test]
fn damage_before_the_end_is_kept_and_the_chain_goes_on_from_the_last_record_that_holds() {
    let whole = tempfile::tempdir().unwrap();
    append(whole.path(), 0..4);
    let (bytes, ends) = (fs::read(whole.path().join(FILE)).unwrap(), ends(whole.path()));
    let sound = records(whole.path());
    for position in 0..ends[2] {
        let dir = tempfile::tempdir().unwrap();
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        fs::write(dir.path().join(FILE), &damaged).unwrap();
        let place = ends.iter().position(|end| position < *end).unwrap();
        let in_frame = position - if place == 0 { 0 } else { ends[place - 1] };
        // The upper byte of the version: what looks like the record of a newer program.
        if in_frame == 4 {
            let refused = AuditLog::open(dir.path(), AuditOptions::default()).err();
            assert!(matches!(refused, Some(StorageError::NewerVersion { .. })), "byte {position}");
            assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), damaged, "and left alone");
            continue;
        }
        append(dir.path(), 7..8);
        let records = records(dir.path());
        let mut expected = heights(0..place as u64);
        expected.extend(["damaged".to_owned(), "7".to_owned()]);
        assert_eq!(said(&records), expected, "byte {position}");
        let note = &records[place];
        assert_eq!(note.previous, if place == 0 { B256::ZERO } else { sound[place - 1].hash() });
        assert_eq!(field(note, "record"), (place + 1).to_string());
        let kept = AuditReader::open(dir.path()).unwrap().unwrap().set_aside().to_vec();
        assert_eq!(kept, [field(note, "kept")]);
        assert_eq!(fs::read(dir.path().join(&kept[0])).unwrap(), damaged, "as it was found");
    }
}

#[test]
fn a_few_damaged_files_are_kept_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    for life in 0..KEPT_MAX as u64 + 3 {
        append(dir.path(), life..life + 3);
        let path = dir.path().join(FILE);
        let (mut bytes, ends) = (fs::read(&path).unwrap(), ends(dir.path()));
        // In the last record but one, so that the log grows.
        bytes[ends[ends.len() - 3] + 20] ^= 1;
        fs::write(&path, &bytes).unwrap();
    }
    append(dir.path(), 0..1);
    assert_eq!(AuditReader::open(dir.path()).unwrap().unwrap().set_aside().len(), KEPT_MAX);
    let records = records(dir.path());
    let notes = records.iter().filter(|record| record.entry.kind() == AuditKind::Log);
    assert_eq!(notes.count(), KEPT_MAX + 3, "each is recorded");
}

#[test]
fn a_damaged_end_of_a_closed_file_is_recorded_in_the_next() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), 0..3);
    let mut bytes = fs::read(dir.path().join(FILE)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(dir.path().join(closed_name(1)), &bytes).unwrap();
    fs::remove_file(dir.path().join(FILE)).unwrap();
    append(dir.path(), 7..9);
    let written = fs::read(dir.path().join(FILE)).unwrap();
    let found: Vec<AuditRecord> = Walk::new(&written, None, None).map(Result::unwrap).collect();
    assert_eq!(said(&found), ["damaged", "7", "8"]);
    assert_eq!((found[0].number, field(&found[0], "file")), (3, closed_name(1)));
    assert_eq!(broken_at(dir.path()), 3, "and the file stays as it is");
}

#[test]
fn two_writers_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let writer = || AuditLog::open(dir.path(), small(100, Arc::new(SystemMedium))).unwrap();
    let mut writers = [writer(), writer()];
    for height in 0..60u64 {
        // Now one, now the other, and each long enough for the other to be files behind.
        writers[usize::from(height % 20 >= 10)].append(&entry(height)).unwrap();
        writers[usize::from(height % 20 < 10)].sync().unwrap();
    }
    assert_eq!(said(&records(dir.path())), heights(0..60));
}

#[test]
fn threads_that_write_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let writers: Vec<_> = (0..3u64)
        .map(|of| (of, AuditLog::open(dir.path(), small(100, Arc::new(SystemMedium))).unwrap()))
        .collect();
    std::thread::scope(|scope| {
        for (of, mut log) in writers {
            scope.spawn(move || (0..20).for_each(|n| log.append(&entry(100 * of + n)).unwrap()));
        }
    });
    let mut found = said(&records(dir.path()));
    found.sort();
    let mut expected: Vec<String> = (0..3).flat_map(|of| heights(100 * of..100 * of + 20)).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_log_that_was_shortened_under_its_writer_says_how_many_records_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    (0..5).for_each(|height| log.append(&entry(height)).unwrap());
    let head = records(dir.path())[4].hash();
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    fs::write(dir.path().join(FILE), &bytes[..ends(dir.path())[1]]).unwrap();
    log.append(&entry(7)).unwrap();
    let records = records(dir.path());
    assert_eq!(said(&records), ["0", "1", "gone", "7"]);
    assert_eq!((field(&records[2], "records"), field(&records[2], "head")), ("3".into(), head.to_string()));
}

#[test]
fn a_disk_that_fails_at_any_call_leaves_a_log_that_holds_and_has_what_was_promised() {
    let mut failures = 0;
    for (calls, kind, short) in
        (1..40).flat_map(|calls| (0..3).flat_map(move |kind| [(calls, kind, 0), (calls, kind, 9)]))
    {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(BadDisk::default());
        disk.short.store(short, SeqCst);
        let counter = [&disk.names_left, &disk.writes_left, &disk.syncs_left][kind];
        counter.store(calls, SeqCst);
        let options = small(100, Arc::new(Arc::clone(&disk)));
        let mut promised = Vec::new();
        let mut log = None;
        for height in 0..12 {
            if log.is_none() {
                log = AuditLog::open(dir.path(), options.clone()).ok();
            }
            let Some(log) = &mut log else { continue };
            match log.append(&entry(height)).and_then(|()| log.sync()) {
                Ok(()) => promised.push(height.to_string()),
                Err(_) => failures += 1,
            }
        }
        // The disk is sound again.
        counter.store(0, SeqCst);
        let mut log = AuditLog::open(dir.path(), options).unwrap();
        log.append(&entry(99)).unwrap();
        let found = said(&records(dir.path()));
        let has = |height: &String| found.contains(height);
        assert!(
            promised.iter().all(has) && has(&"99".into()),
            "{calls} of {kind}: {promised:?} of {found:?}"
        );
    }
    assert!(failures > 100, "it has failed: {failures}");
}

#[test]
fn a_full_disk_costs_the_records_of_that_time_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(BadDisk::default());
    let options = AuditOptions { medium: Arc::new(Arc::clone(&disk)), ..AuditOptions::default() };
    let mut log = AuditLog::open(dir.path(), options).unwrap();
    log.append(&entry(0)).unwrap();
    disk.short.store(30, SeqCst);
    disk.fail_from(3, false);
    for height in 1..4 {
        assert!(log.append(&entry(height)).is_err());
    }
    disk.writes_left.store(0, SeqCst);
    log.append(&entry(4)).unwrap();
    assert_eq!(said(&records(dir.path())), ["0", "cut", "4"], "what was written in part is cut off");
}
