//! The signing database: which statement was made where, kept apart from the vote log.
//!
//! ```text
//! marks/marks.dat     zeroed and synced before use, replaced as a whole when full
//! ┌───────────────────────┬───────────┬───────────┬──────────────
//! │ frame MARK v1         │ slot 64 B │ slot 64 B │ zeros …
//! │ cluster id ‖ operator │ crc32 u32 ‖ kind u8 ‖ domain u8 ‖ 0 0 ‖ height or slot u64 ‖ round u64 ‖ digest 32 ‖ zeros
//! └───────────────────────┴───────────┴───────────┴──────────────
//! ```
//!
//! The second gate before a signature leaves the node: it knows nothing of records, values or
//! consensus, and shares no format and no reading code with the log. It refuses by itself a second
//! statement for one place and anything at or below a floor; that refusal ends the process. [`Gate::check`]
//! asks it before the log takes a record, so that the log never holds what was refused.
//!
//! - The file is a **set**: the order of slots means nothing, each slot is whole or nothing, and an
//!   unreadable one costs only what it said. What the log and the marks know is added up.
//! - [`SigningDb::write`] takes places before anything is sent; they are durable after
//!   [`SigningDb::sync`], for which nobody waits: the log has the statements. A mark is written only when its
//!   record is durable, so one without a record means that the log lost what it once had.
//! - [`SigningDb::raise_floors`] is durable on return. After an error nothing is accepted any more, as in
//!   the log.
//! - Floors replace the marks at and below them, so the file does not grow with the chain.

mod gate;
mod slot;
#[cfg(test)]
mod tests;

use crate::StorageError;
use crate::data_dir::owner;
use crate::files::at;
use crate::frame::FrameFault;
use crate::medium::{Medium, MediumFile, SystemMedium, write_again, write_all};
use aequa_types::{ClusterId, InstanceId, Mark, OperatorIndex};
pub use gate::Gate;
use slot::{Entry, SLOT_BYTES, Slot};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Slots of a new file, if twice what is live is not more: ten thousand blocks, 2 MiB.
pub const SLOTS: usize = 32_768;
/// Largest file that is read; checked before memory is taken.
const FILE_BYTES_MAX: u64 = 256 << 20;
const FILE: &str = "marks.dat";
/// The next file under construction; never read.
const SPARE_FILE: &str = "marks.tmp";

/// How marks are laid out and reach the disk.
#[derive(Clone)]
pub struct SigningDbOptions {
    /// Slots of a new file.
    pub slots: usize,
    /// The calls that write and sync.
    pub medium: Arc<dyn Medium>,
}

impl Default for SigningDbOptions {
    fn default() -> Self {
        Self { slots: SLOTS, medium: Arc::new(SystemMedium) }
    }
}

/// The open signing database of one operator.
pub struct SigningDb {
    dir: PathBuf,
    cluster_id: ClusterId,
    operator: OperatorIndex,
    options: SigningDbOptions,
    file: Box<dyn MediumFile>,
    /// Slots of the file, and how many were written.
    slots: usize,
    used: usize,
    /// Whether something was written since the last sync.
    unsynced: bool,
    /// Slots that were not whole when the file was opened.
    unreadable: usize,
    gate: Gate,
    poisoned: bool,
}

impl SigningDb {
    /// Opens the marks in `dir`, creating them when there are none, and reads them all.
    pub fn open(
        dir: &Path,
        cluster_id: ClusterId,
        operator: OperatorIndex,
        options: SigningDbOptions,
    ) -> Result<Self, StorageError> {
        let medium = Arc::clone(&options.medium);
        medium.create_dir(dir).map_err(at("create directory", dir))?;
        medium.remove(&dir.join(SPARE_FILE)).map_err(at("remove", dir))?;
        let path = dir.join(FILE);
        let gate = Gate::default();
        if !exists(dir, &*medium)? {
            let slots = options.slots.max(1);
            let file = replace(dir, cluster_id, operator, &[], slots, &*medium)?;
            let (used, unsynced, unreadable, poisoned) = (0, false, 0, false);
            let dir = dir.to_path_buf();
            return Ok(Self {
                dir,
                cluster_id,
                operator,
                options,
                file,
                slots,
                used,
                unsynced,
                unreadable,
                gate,
                poisoned,
            });
        }
        let bytes = medium.read(&path, FILE_BYTES_MAX).map_err(at("read", &path))?;
        let bytes = bytes.ok_or_else(|| corrupt(&path, "larger than any file of marks"))?;
        check_owner(&path, &bytes, cluster_id, operator)?;
        let file = medium.open(&path).map_err(at("open", &path))?;
        write_again(&*medium, &path, &*file, &bytes, 0)?;
        let mut store = Self {
            dir: dir.to_path_buf(),
            cluster_id,
            operator,
            options,
            file,
            slots: bytes.len() / SLOT_BYTES - 1,
            used: 0,
            unsynced: false,
            unreadable: 0,
            gate,
            poisoned: false,
        };
        store.read_slots(&path, &bytes[SLOT_BYTES..])?;
        Ok(store)
    }

    /// What is taken and what is below a floor, to be asked by whoever writes elsewhere first.
    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Every mark above the floors, in order.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.gate.marks().into_iter()
    }

    /// The floors: nothing is signed at or below them.
    pub fn floors(&self) -> impl Iterator<Item = InstanceId> {
        self.gate.floors().into_iter()
    }

    /// Slots that were not whole when the file was opened: what they said is lost here.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Takes the places of these marks, whose records are durable, and hands the marks to the operating
    /// system. A place that is taken by another statement, or below the floor, is refused, and then nothing
    /// is accepted any more.
    pub fn write(&mut self, marks: &[Mark]) -> Result<(), StorageError> {
        self.guarded(|store| {
            let mut entries = Vec::with_capacity(marks.len());
            for mark in marks {
                if store.gate.take(mark)? {
                    entries.push(Entry::Mark(*mark));
                }
            }
            store.write_out(&entries)
        })
    }

    /// Adds, durably, the marks of what the log holds above the floors: a crash may have come between a
    /// record and its mark, and the log is pruned one day.
    pub fn complete(&mut self, of_log: impl Iterator<Item = Mark>) -> Result<(), StorageError> {
        let above: Vec<Mark> = of_log.filter(|mark| self.gate.is_above_floor(mark)).collect();
        self.write(&above)?;
        self.sync()
    }

    /// Makes everything written durable; without anything written it costs nothing.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.guarded(Self::sync_written)
    }

    /// Raises floors durably, and forgets the marks at and below them. None is ever lowered.
    pub fn raise_floors(&mut self, floors: &[InstanceId]) -> Result<(), StorageError> {
        self.guarded(|store| {
            let mut entries = Vec::new();
            for floor in floors {
                if store.gate.raise(*floor) {
                    entries.push(Entry::Floor(*floor));
                }
            }
            store.write_out(&entries)?;
            store.sync_written()
        })
    }

    fn guarded(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let changed = change(self);
        self.poisoned = changed.is_err();
        changed
    }

    fn write_out(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.used + entries.len() > self.slots {
            return self.start_over();
        }
        let bytes: Vec<u8> = entries.iter().flat_map(Entry::encode).collect();
        let offset = ((1 + self.used) * SLOT_BYTES) as u64;
        let path = self.dir.join(FILE);
        write_all(&*self.file, &bytes, offset).map_err(at("write", &path))?;
        self.used += entries.len();
        self.unsynced = true;
        Ok(())
    }

    fn sync_written(&mut self) -> Result<(), StorageError> {
        if self.unsynced {
            self.file.sync().map_err(at("sync", &self.dir.join(FILE)))?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Replaces the file by one that holds only what still matters.
    fn start_over(&mut self) -> Result<(), StorageError> {
        let floors = self.floors().map(Entry::Floor);
        let entries: Vec<Entry> = floors.chain(self.marks().map(Entry::Mark)).collect();
        let slots = self.options.slots.max(2 * entries.len());
        let medium = Arc::clone(&self.options.medium);
        self.file = replace(&self.dir, self.cluster_id, self.operator, &entries, slots, &*medium)?;
        (self.slots, self.used, self.unsynced) = (slots, entries.len(), false);
        Ok(())
    }

    fn read_slots(&mut self, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
        let mut floors = Vec::new();
        for (n, slot) in slots.iter().enumerate() {
            match Slot::read(slot) {
                Slot::Free => continue,
                Slot::Unreadable => self.unreadable += 1,
                Slot::Taken(Entry::Floor(floor)) => floors.push(floor),
                Slot::Taken(Entry::Mark(mark)) => {
                    self.gate.take(&mark).map_err(|_| corrupt(path, "two statements for one place"))?;
                }
            }
            self.used = n + 1;
        }
        // Marks stand below a floor that was raised after them.
        for floor in floors {
            self.gate.raise(floor);
        }
        Ok(())
    }
}

impl std::fmt::Debug for SigningDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningDb")
            .field("dir", &self.dir)
            .field("gate", &self.gate)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

/// Puts a file with these entries in place of the one there is: the old or the new one survives a
/// crash, and both hold everything that was durable.
fn replace(
    dir: &Path,
    cluster_id: ClusterId,
    operator: OperatorIndex,
    entries: &[Entry],
    slots: usize,
    medium: &dyn Medium,
) -> Result<Box<dyn MediumFile>, StorageError> {
    let mut bytes = slot::encode_head(cluster_id, operator)?;
    bytes.extend(entries.iter().flat_map(Entry::encode));
    // Zeros are written and not only reserved: a later sync has no block to allocate.
    bytes.resize((1 + slots) * SLOT_BYTES, 0);
    let (spare, path) = (dir.join(SPARE_FILE), dir.join(FILE));
    medium.remove(&spare).map_err(at("remove", &spare))?;
    let file = medium.create(&spare).map_err(at("create", &spare))?;
    write_all(&*file, &bytes, 0).map_err(at("write", &spare))?;
    file.sync().map_err(at("sync", &spare))?;
    medium.rename(&spare, &path).map_err(at("rename to", &path))?;
    medium.sync_dir(dir).map_err(at("sync directory", dir))?;
    Ok(file)
}

/// Whether there is a file; that a directory cannot be listed is an error, not an answer.
fn exists(dir: &Path, medium: &dyn Medium) -> Result<bool, StorageError> {
    Ok(medium.list(dir).map_err(at("list", dir))?.iter().any(|name| name == FILE))
}

fn check_owner(
    path: &Path,
    bytes: &[u8],
    cluster_id: ClusterId,
    operator: OperatorIndex,
) -> Result<(), StorageError> {
    match slot::decode_head(bytes) {
        Ok(found) if found == (cluster_id, operator) => Ok(()),
        Ok((found_cluster, found_operator)) => Err(StorageError::ForeignDirectory {
            path: path.to_path_buf(),
            found: owner(found_cluster, found_operator),
            expected: owner(cluster_id, operator),
        }),
        // The head was durable before the file got its name.
        Err(FrameFault::Unreadable(reason)) => Err(corrupt(path, reason)),
        Err(FrameFault::NewerVersion { found, known }) => {
            Err(StorageError::NewerVersion { path: path.to_path_buf(), found, known })
        }
    }
}

fn corrupt(path: &Path, reason: &'static str) -> StorageError {
    StorageError::SigningDbCorrupt { path: path.to_path_buf(), reason }
}
