//! A disk in memory under the production vote log and signing database.
//!
//! What was written can be read at once. It is durable after the sync of its file, and a name after the
//! sync of its directory. Until then a power cut keeps any sectors of it and loses the others, and keeps
//! any number of the changes of names, in order. The end of the process alone loses nothing: the cache of
//! the operating system outlives it. A sync that fails leaves bytes that can be read, pass for written,
//! and are on no disk.

use aequa_byzantine::Dice;
use aequa_storage::medium::{Medium, MediumFile};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What happens when the calls that are left have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The process or the machine ends: no call after this one does anything. Of the bytes a write was
    /// given, the first ones arrive, as many as this number makes it.
    Ends { torn: u64 },
    /// The call fails with an input/output error, and the disk goes on.
    Fails,
}

/// The disk of one node.
#[derive(Debug, Clone, Default)]
pub(crate) struct RamDisk(Arc<Mutex<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    files: BTreeMap<u64, Content>,
    files_made: u64,
    /// Names as a process sees them, and as they are on the platter.
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names that no sync has covered, oldest first.
    renamed: Vec<Change>,
    /// Changing calls that still succeed, and what comes after them.
    fuse: Option<(u64, Failure)>,
    ended: bool,
}

/// A name given, or taken away; a renaming is both at once.
#[derive(Debug, Clone)]
struct Change {
    removed: Option<PathBuf>,
    added: Option<(PathBuf, u64)>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    durable_bytes: usize,
    /// What is on the platter in sectors written since the last sync.
    unsynced: BTreeMap<usize, Sector>,
    /// The same for sectors whose sync failed: further syncs do not write them.
    phantom: BTreeMap<usize, Sector>,
}

type Sector = [u8; SECTOR_BYTES];

impl RamDisk {
    /// Lets `calls` changing calls succeed, and then this happen.
    pub(crate) fn arm(&self, calls: u64, failure: Failure) {
        self.0.lock().fuse = Some((calls, failure));
    }

    /// Takes back what [`RamDisk::arm`] prepared, if it has not happened.
    pub(crate) fn disarm(&self) {
        self.0.lock().fuse = None;
    }

    /// Whether a failure is prepared that has not happened yet.
    pub(crate) fn is_armed(&self) -> bool {
        self.0.lock().fuse.is_some()
    }

    /// Whether a prepared end has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.lock().ended
    }

    /// The process is gone, the machine runs on.
    pub(crate) fn kill(&self) {
        let mut state = self.0.lock();
        (state.fuse, state.ended) = (None, false);
    }

    /// The machine loses power; gives how many sectors and changes of names went.
    pub(crate) fn cut(&self, dice: &mut Dice) -> usize {
        let mut state = self.0.lock();
        (state.fuse, state.ended) = (None, false);
        let kept = dice.between(0, state.renamed.len() as u64) as usize;
        let lost = state.renamed.len() - kept;
        let renamed = std::mem::take(&mut state.renamed);
        renamed.iter().take(kept).for_each(|change| change.apply(&mut state.durable_names));
        state.names = state.durable_names.clone();
        let State { files, names, .. } = &mut *state;
        files.retain(|file, _| names.values().any(|named| named == file));
        let kept_per_mille = dice.pick(&[0, 200, 500, 800, 1000]);
        lost + files.values_mut().map(|content| content.cut(dice, kept_per_mille)).sum::<usize>()
    }

    /// The end of the newest file of `dir` turns to zeros, up to this many bytes of what was written; its
    /// first sector stays. What rots was on the platter long before, and so was everything else.
    pub(crate) fn rot(&self, dir: &Path, bytes: usize) {
        let mut state = self.0.lock();
        state.settle();
        let newest = state.names.iter().rev().find(|(path, _)| path.parent() == Some(dir));
        let Some(file) = newest.map(|(_, file)| *file) else { return };
        let Ok(content) = state.content(file) else { return };
        let last = content.bytes.iter().rposition(|byte| *byte != 0).filter(|last| *last >= SECTOR_BYTES);
        if let Some(last) = last {
            content.bytes[last.saturating_sub(bytes).max(SECTOR_BYTES)..=last].fill(0);
        }
    }

    /// Everything is gone: a new disk.
    pub(crate) fn wipe(&self) {
        *self.0.lock() = State::default();
    }

    /// A copy of what can be read now.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }
}

impl State {
    /// Counts one changing call; says how many of `bytes` it may write, or fails.
    fn call(&mut self, bytes: usize) -> io::Result<usize> {
        if self.ended {
            return Err(gone());
        }
        match &mut self.fuse {
            None => Ok(bytes),
            Some((0, Failure::Fails)) => {
                self.fuse = None;
                Err(io::Error::from_raw_os_error(5))
            }
            Some((0, Failure::Ends { torn })) => {
                let torn = *torn as usize % (bytes + 1);
                (self.fuse, self.ended) = (None, true);
                if torn == 0 { Err(gone()) } else { Ok(torn) }
            }
            Some((calls, _)) => {
                *calls -= 1;
                Ok(bytes)
            }
        }
    }

    fn change(&mut self, removed: Option<PathBuf>, added: Option<(PathBuf, u64)>) {
        let change = Change { removed, added };
        change.apply(&mut self.names);
        self.renamed.push(change);
    }

    /// Everything written reaches the platter.
    fn settle(&mut self) {
        self.files.values_mut().for_each(|content| {
            content.sync();
            content.phantom.clear();
        });
        self.renamed.clear();
        self.durable_names.clone_from(&self.names);
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn content(&mut self, file: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn gone() -> io::Error {
    io::Error::other("the simulated process has ended")
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(path) = &self.removed {
            names.remove(path);
        }
        if let Some((path, file)) = &self.added {
            names.insert(path.clone(), *file);
        }
    }
}

impl Content {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        for sector in offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            let before = self.phantom.remove(&sector).unwrap_or_else(|| self.sector(sector));
            self.unsynced.entry(sector).or_insert(before);
        }
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    fn sector(&self, number: usize) -> Sector {
        let mut sector = [0; SECTOR_BYTES];
        let start = (number * SECTOR_BYTES).min(self.bytes.len());
        let end = (start + SECTOR_BYTES).min(self.bytes.len());
        sector[..end - start].copy_from_slice(&self.bytes[start..end]);
        sector
    }

    fn restore(&mut self, number: usize, sector: &Sector) {
        let start = (number * SECTOR_BYTES).min(self.bytes.len());
        let end = (start + SECTOR_BYTES).min(self.bytes.len());
        self.bytes[start..end].copy_from_slice(&sector[..end - start]);
    }

    fn sync(&mut self) {
        self.unsynced.clear();
        self.durable_bytes = self.bytes.len();
    }

    /// A sync that fails: what it was to write is taken for written.
    fn fail_sync(&mut self) {
        self.phantom.append(&mut self.unsynced);
    }

    fn cut(&mut self, dice: &mut Dice, kept_per_mille: u64) -> usize {
        let mut lost = 0;
        for (number, sector) in std::mem::take(&mut self.unsynced) {
            if !dice.chance(kept_per_mille) {
                self.restore(number, &sector);
                lost += 1;
            }
        }
        for (number, sector) in std::mem::take(&mut self.phantom) {
            self.restore(number, &sector);
            lost += 1;
        }
        let grown = self.bytes.len().saturating_sub(self.durable_bytes) as u64;
        self.bytes.truncate(self.durable_bytes + dice.between(0, grown) as usize);
        self.durable_bytes = self.bytes.len();
        lost
    }
}

impl Medium for RamDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.0.lock().call(0).map(drop)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        let files = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(files
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
        let mut state = self.0.lock();
        state.call(0)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files_made += 1;
        let file = state.files_made;
        state.files.insert(file, Content::default());
        state.change(None, Some((path.to_path_buf(), file)));
        Ok(Box::new(RamFile { disk: self.clone(), file }))
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let mut state = self.0.lock();
        let file = state.find(path)?;
        let content = state.content(file)?;
        Ok((content.bytes.len() as u64 <= bytes_max).then(|| content.bytes.clone()))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
        let file = self.0.lock().find(path)?;
        Ok(Box::new(RamFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(0)?;
        let file = state.find(from)?;
        state.change(Some(from.to_path_buf()), Some((to.to_path_buf(), file)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(0)?;
        if state.names.contains_key(path) {
            state.change(Some(path.to_path_buf()), None);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(0)?;
        let State { renamed, durable_names, .. } = &mut *state;
        let of_dir = |change: &mut Change| {
            let path = change.added.as_ref().map(|(path, _)| path).or(change.removed.as_ref());
            path.is_some_and(|path| path.parent() == Some(dir))
        };
        renamed.extract_if(.., of_dir).for_each(|change| change.apply(durable_names));
        Ok(())
    }
}

struct RamFile {
    disk: RamDisk,
    file: u64,
}

impl MediumFile for RamFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().content(self.file)?.bytes.len() as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.0.lock();
        let written = state.call(bytes.len())?;
        state.content(self.file)?.write(&bytes[..written], offset as usize);
        if state.ended { Err(gone()) } else { Ok(written) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        match state.call(0) {
            Ok(_) => state.content(self.file)?.sync(),
            Err(error) => {
                if !state.ended {
                    state.content(self.file)?.fail_sync();
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(disk: &RamDisk, bytes: &[u8]) -> Box<dyn MediumFile> {
        let file = disk.create(Path::new("d/f")).unwrap();
        file.write_at(bytes, 0).unwrap();
        file
    }

    fn read(disk: &RamDisk) -> Option<Vec<u8>> {
        disk.read(Path::new("d/f"), u64::MAX).ok().flatten()
    }

    #[test]
    fn what_was_synced_survives_a_power_cut_and_what_was_not_may_go() {
        let cut = |synced: bool, named: bool, seed| {
            let disk = RamDisk::default();
            let file = written(&disk, &[7; 2000]);
            if synced {
                file.sync().unwrap();
            }
            if named {
                disk.sync_dir(Path::new("d")).unwrap();
            }
            disk.cut(&mut Dice::new(seed));
            read(&disk)
        };
        assert!((0..50).all(|seed| cut(true, true, seed) == Some(vec![7; 2000])));
        assert!((0..50).any(|seed| cut(true, false, seed).is_none()), "its name was not durable");
        let torn =
            |seed| cut(false, true, seed).is_some_and(|bytes| bytes.contains(&0) && bytes.contains(&7));
        assert!((0..50).any(torn), "some sectors without others");
    }

    #[test]
    fn the_end_of_the_process_alone_loses_nothing() {
        let disk = RamDisk::default();
        written(&disk, &[7; 2000]);
        disk.kill();
        assert_eq!(read(&disk), Some(vec![7; 2000]));
    }

    #[test]
    fn after_a_failed_sync_bytes_are_read_that_the_next_power_cut_takes_unless_written_again() {
        for again in [false, true] {
            let disk = RamDisk::default();
            let file = written(&disk, &[0; 512]);
            file.sync().unwrap();
            disk.sync_dir(Path::new("d")).unwrap();
            file.write_at(&[7; 512], 0).unwrap();
            disk.arm(0, Failure::Fails);
            assert!(file.sync().is_err());
            if again {
                file.write_at(&[7; 512], 0).unwrap();
            }
            file.sync().unwrap();
            assert_eq!(read(&disk), Some(vec![7; 512]));
            disk.cut(&mut Dice::new(1));
            assert_eq!(read(&disk), Some(vec![if again { 7 } else { 0 }; 512]));
        }
    }

    #[test]
    fn what_a_log_loses_by_rot_comes_back_from_no_power_cut_and_the_rest_stays() {
        let disk = RamDisk::default();
        let mut dice = Dice::new(3);
        let log = disk.create(Path::new("wal/1")).unwrap();
        log.write_at(&[1; 2 * SECTOR_BYTES], 0).unwrap();
        let mark = disk.create(Path::new("marks/1")).unwrap();
        mark.write_at(&[2; 8], 0).unwrap();
        disk.rot(Path::new("wal"), 100);
        disk.cut(&mut dice);
        let bytes = disk.read(Path::new("wal/1"), 1 << 20).unwrap().unwrap();
        let (kept, rotten) = bytes.split_at(2 * SECTOR_BYTES - 101);
        assert!(kept.iter().all(|byte| *byte == 1) && rotten.iter().all(|byte| *byte == 0));
        assert_eq!(disk.read(Path::new("marks/1"), 1 << 20).unwrap().unwrap(), [2; 8]);
    }

    #[test]
    fn an_armed_end_tears_the_write_it_falls_on_and_nothing_works_after_it() {
        let disk = RamDisk::default();
        let file = written(&disk, &[1; 100]);
        disk.arm(1, Failure::Ends { torn: 10 });
        file.sync().unwrap();
        assert!(file.write_at(&[2; 100], 0).is_err());
        assert!(file.sync().is_err() && disk.sync_dir(Path::new("d")).is_err());
        disk.kill();
        assert_eq!(read(&disk).unwrap()[..], [[2; 10].as_slice(), &[1; 90]].concat());
        file.sync().unwrap();
    }
}
