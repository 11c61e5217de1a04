//! A file that entries are appended to, and that gives them back in their order.
//!
//! ```text
//! header: magic 4 ‖ version 2 ‖ owner 32 ‖ crc32 4
//! batch:  length 4 ‖ crc32 of the length 4 ‖ crc32 of the payload 4 ‖ payload: SSZ list of entries
//! ```
//!
//! An append is one batch and one sync. The last batch may be torn: its sync did not return, so that nobody was promised
//! anything of it, and it is cut off. Damage before it was not done by a crash, and is refused.

use crate::StorageError;
use crate::files::{at, sync_dir};
use aequa_types::ClusterId;
use ssz::Encode as _;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"DKGS";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 4 + 2 + 32 + 4;
const FRAME_BYTES: usize = 12;
/// Largest log: a ceremony of a hundred operators and a thousand keys has less than half of it.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// An open log.
#[derive(Debug)]
pub struct EntryLog {
    path: PathBuf,
    file: File,
}

impl EntryLog {
    /// Opens the log of `owner` at `path`, or makes it; gives all entries there are.
    pub fn open(path: &Path, owner: ClusterId) -> Result<(Self, Vec<Vec<u8>>), StorageError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(at("open", path))?;
        let mut bytes = Vec::new();
        (&mut file).take(LOG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(at("read", path))?;
        let header = header(owner);
        // A crash may have come before the first sync.
        if bytes.len() < HEADER_BYTES && header.starts_with(&bytes) {
            file.seek(SeekFrom::Start(0)).map_err(at("seek", path))?;
            file.write_all(&header).map_err(at("write", path))?;
            file.sync_all().map_err(at("sync", path))?;
            if let Some(parent) = path.parent() {
                sync_dir(parent).map_err(at("sync directory", parent))?;
            }
            return Ok((Self { path: path.into(), file }, Vec::new()));
        }
        let corrupt = |reason| StorageError::EntryLogCorrupt { path: path.into(), reason };
        if bytes.len() as u64 > LOG_BYTES_MAX {
            return Err(corrupt("larger than any log of this kind"));
        }
        if !bytes.starts_with(&header) {
            return Err(corrupt("the log of another ceremony, or a damaged one"));
        }
        let (entries, end) = entries(&bytes).map_err(corrupt)?;
        file.set_len(end as u64).map_err(at("truncate", path))?;
        file.seek(SeekFrom::End(0)).map_err(at("seek", path))?;
        file.sync_all().map_err(at("sync", path))?;
        Ok((Self { path: path.into(), file }, entries))
    }

    /// The entries of a log, which is not changed: somebody may be appending to it.
    pub fn read(path: &Path, owner: ClusterId) -> Result<Vec<Vec<u8>>, StorageError> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(at("open", path))?;
        file.take(LOG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(at("read", path))?;
        let corrupt = |reason| StorageError::EntryLogCorrupt { path: path.into(), reason };
        if !bytes.starts_with(&header(owner)) {
            return Err(corrupt("the log of another ceremony, or a damaged one"));
        }
        Ok(entries(&bytes).map_err(corrupt)?.0)
    }

    /// Appends entries, durable before this returns. After an error nothing more may be appended: whether these
    /// are there is known to the next open.
    pub fn append(&mut self, entries: &[Vec<u8>]) -> Result<(), StorageError> {
        let payload = entries.to_vec().as_ssz_bytes();
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut batch = Vec::with_capacity(FRAME_BYTES + payload.len());
        batch.extend_from_slice(&length);
        batch.extend_from_slice(&crc32fast::hash(&length).to_be_bytes());
        batch.extend_from_slice(&crc32fast::hash(&payload).to_be_bytes());
        batch.extend_from_slice(&payload);
        self.file.write_all(&batch).map_err(at("append", &self.path))?;
        self.file.sync_data().map_err(at("sync", &self.path))
    }
}

fn header(owner: ClusterId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_be_bytes());
    header[6..38].copy_from_slice(owner.as_slice());
    let crc = crc32fast::hash(&header[..38]);
    header[38..].copy_from_slice(&crc.to_be_bytes());
    header
}

/// The entries of a whole log, and where the last whole batch ends.
fn entries(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, usize), &'static str> {
    let (mut entries, mut end) = (Vec::new(), HEADER_BYTES);
    loop {
        let rest = &bytes[end..];
        let Some(frame) = rest.first_chunk::<FRAME_BYTES>() else { return Ok((entries, end)) };
        let [l0, l1, l2, l3, a0, a1, a2, a3, b0, b1, b2, b3] = *frame;
        let (length, of_length) = ([l0, l1, l2, l3], u32::from_be_bytes([a0, a1, a2, a3]));
        if crc32fast::hash(&length) != of_length {
            // A file can be longer than what reached it, and holds zeros there.
            return match rest.iter().all(|byte| *byte == 0) {
                true => Ok((entries, end)),
                false => Err("damaged in the middle"),
            };
        }
        let length = u32::from_be_bytes(length) as usize;
        let Some(payload) = rest.get(FRAME_BYTES..FRAME_BYTES + length) else { return Ok((entries, end)) };
        let next = end + FRAME_BYTES + length;
        if crc32fast::hash(payload) != u32::from_be_bytes([b0, b1, b2, b3]) {
            return if next == bytes.len() { Ok((entries, end)) } else { Err("damaged in the middle") };
        }
        let batch: Vec<Vec<u8>> =
            ssz::Decode::from_ssz_bytes(payload).map_err(|_| "a batch of no entries")?;
        entries.extend(batch);
        end = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: ClusterId = ClusterId::repeat_byte(7);

    fn logged(path: &Path) -> Vec<Vec<u8>> {
        EntryLog::open(path, OWNER).unwrap().1
    }

    fn three_batches(path: &Path) -> Vec<usize> {
        let (mut log, found) = EntryLog::open(path, OWNER).unwrap();
        assert!(found.is_empty());
        let mut ends = vec![HEADER_BYTES];
        for batch in [&[b"a".to_vec(), b"bb".to_vec()][..], &[vec![0; 40]], &[Vec::new(), b"c".to_vec()]] {
            log.append(batch).unwrap();
            ends.push(std::fs::metadata(path).unwrap().len() as usize);
        }
        ends
    }

    #[test]
    fn what_was_appended_comes_back_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        three_batches(&path);
        assert_eq!(logged(&path), [b"a".to_vec(), b"bb".to_vec(), vec![0; 40], Vec::new(), b"c".to_vec()]);
        assert_eq!(EntryLog::read(&path, OWNER).unwrap(), logged(&path));
        let (mut log, _) = EntryLog::open(&path, OWNER).unwrap();
        log.append(&[b"d".to_vec()]).unwrap();
        assert_eq!(logged(&path).len(), 6);
    }

    #[test]
    fn a_file_cut_anywhere_has_its_whole_batches_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let ends = three_batches(&path);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            for zeros in [0, 30] {
                let mut torn = bytes[..cut].to_vec();
                // Zeros after a cut inside of a batch are part of it, or behind it.
                if ends.contains(&cut) {
                    torn.extend(vec![0; zeros]);
                }
                std::fs::write(&path, &torn).unwrap();
                let whole = ends.iter().rev().position(|end| *end <= cut).map_or(0, |back| 3 - back);
                let expected = [0, 2, 3, 5][whole];
                assert_eq!(logged(&path).len(), expected, "cut at {cut}");
                let (mut log, _) = EntryLog::open(&path, OWNER).unwrap();
                log.append(&[b"new".to_vec()]).unwrap();
                assert_eq!(logged(&path).len(), expected + 1, "cut at {cut}");
            }
        }
    }

    #[test]
    fn damage_before_the_last_batch_and_the_log_of_another_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let ends = three_batches(&path);
        let bytes = std::fs::read(&path).unwrap();
        for position in 0..ends[2] {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let opened = EntryLog::open(&path, OWNER);
            assert!(opened.is_err(), "byte {position}: {opened:?}");
            assert_eq!(std::fs::read(&path).unwrap(), damaged, "and stays as it is");
        }
        std::fs::write(&path, &bytes).unwrap();
        assert!(EntryLog::open(&path, ClusterId::repeat_byte(8)).is_err());
    }
}
