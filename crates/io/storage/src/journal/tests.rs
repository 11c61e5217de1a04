use super::*;

const CLUSTER: ClusterId = ClusterId::repeat_byte(4);
const ME: OperatorIndex = OperatorIndex(2);
const ROOM: u64 = 1 << 20;

fn begin(dir: &Path, bytes_max: u64) -> Journal {
    Journal::begin(dir, CLUSTER, ME, bytes_max).unwrap()
}

/// Records these entries as one process.
fn record(dir: &Path, bytes_max: u64, entries: &[&[u8]]) {
    let mut journal = begin(dir, bytes_max);
    entries.iter().for_each(|entry| journal.append(entry).unwrap());
    journal.finish().unwrap();
}

/// The entries of each process.
fn recorded(dir: &Path) -> Vec<Vec<Vec<u8>>> {
    let lives = lives(dir).unwrap().into_iter();
    lives.map(|life| life.map(Result::unwrap).collect()).collect()
}

fn bytes(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn each_process_has_its_own_recording_and_the_oldest_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let dir = &dir.path().join("journal");
    assert_eq!(recorded(dir), Vec::<Vec<Vec<u8>>>::new(), "there is no folder");
    record(dir, ROOM, &[b"a", b""]);
    record(dir, ROOM, &[]);
    record(dir, ROOM, &[b"b"]);
    assert_eq!(recorded(dir), [vec![b"a".to_vec(), vec![]], vec![], vec![b"b".to_vec()]]);
    let owners = lives(dir).unwrap().iter().map(Life::owner).collect::<Vec<_>>();
    assert_eq!(owners, [(CLUSTER, ME); 3]);
}

#[test]
fn what_was_written_out_is_read_while_it_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = begin(dir.path(), ROOM);
    journal.append(b"first").unwrap();
    assert_eq!(recorded(dir.path()), [Vec::<Vec<u8>>::new()]);
    journal.write_out().unwrap();
    journal.append(b"second").unwrap();
    assert_eq!(recorded(dir.path()), [vec![b"first".to_vec()]]);
    let mut life = lives(dir.path()).unwrap().pop().unwrap();
    assert_eq!(life.next().unwrap().unwrap(), b"first");
    assert_eq!(life.again().unwrap().unwrap().count(), 1);
}

#[test]
fn cut_or_flipped_anywhere_the_entries_before_are_read() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), ROOM, &[b"one", b"two", b"three"]);
    let path = reader::path_of(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let entries = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()];
    for place in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[place] ^= 0x80;
        for damaged in [whole[..place].to_vec(), flipped] {
            fs::write(&path, &damaged).unwrap();
            // A flipped version is that of a newer program.
            let Ok(mut read) = lives(dir.path()) else { continue };
            let Some(life) = read.pop() else { continue };
            let found: Vec<Vec<u8>> = life.map(Result::unwrap).collect();
            assert!(found.len() < entries.len() && entries.starts_with(&found), "{place}: {found:?}");
        }
    }
}

#[test]
fn earlier_processes_are_dropped_for_the_present_one_and_then_its_recording_ends() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("entries-00000000000000000001.jrn"), [0; 300]).unwrap();
    let large = [7; 300];
    record(dir, 990, &[&large]);
    record(dir, 990, &[b"second"]);
    assert!(dir.join("entries-00000000000000000001.jrn").exists(), "there was room");
    let mut third = begin(dir, 990);
    third.append(&large).unwrap();
    third.write_out().unwrap();
    third.append(&large).unwrap();
    third.write_out().unwrap();
    assert!(bytes(dir) <= 990, "{} bytes", bytes(dir));
    assert!(!dir.join("entries-00000000000000000001.jrn").exists());
    assert_eq!(recorded(dir), [vec![b"second".to_vec()], vec![large.to_vec(), large.to_vec()]]);
    third.append(&large).unwrap();
    assert!(matches!(third.write_out(), Err(StorageError::TooLarge { bytes_max: 990, .. })));
    assert_eq!(recorded(dir), [vec![large.to_vec(), large.to_vec()]]);
}

#[test]
fn an_entry_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = begin(dir.path(), u64::MAX);
    let largest = vec![0; ENTRY_FRAME.payload_bytes_max];
    journal.append(&largest).unwrap();
    assert!(journal.append(&[largest.as_slice(), &[0]].concat()).is_err());
    assert_eq!(lives(dir.path()).unwrap().pop().unwrap().next().unwrap().unwrap().len(), largest.len());
}

#[test]
fn a_recording_of_a_newer_version_is_not_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), ROOM, &[b"x"]);
    let path = reader::path_of(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5] = 3;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(lives(dir.path()), Err(StorageError::NewerVersion { found: 3, known: 2, .. })));
}
