//! Writes the signing marks on a thread of their own, while the core syncs the vote log: a turn
//! waits for the slower of the two.

use aequa_storage::{MarkStore, StorageError};
use aequa_types::{Domain, Height, Mark};
use std::sync::mpsc;

enum Job {
    Put(Vec<Mark>),
    Raise(Vec<(Domain, Height)>),
}

/// Hands marks to the thread.
pub struct MarkWriter {
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<Result<(), StorageError>>,
    waited_for: bool,
}

impl MarkWriter {
    /// Starts the thread.
    pub fn start(mut store: MarkStore) -> std::io::Result<Self> {
        // One `Put` at a time, and floors once per flush of the block store: neither queue grows.
        let (jobs, inbox) = mpsc::channel();
        let (tell, done) = mpsc::channel();
        std::thread::Builder::new().name("marks".into()).spawn(move || {
            while let Ok(job) = inbox.recv() {
                let told = match job {
                    Job::Put(marks) => tell.send(store.put(&marks)),
                    // A failure poisons the store, so the next marks say so.
                    Job::Raise(floors) => store.raise_floors(&floors).or(Ok(())),
                };
                if told.is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs, done, waited_for: false })
    }

    /// Begins to make marks durable; nothing may be sent before [`MarkWriter::finish`].
    pub fn begin(&mut self, marks: Vec<Mark>) -> anyhow::Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        self.waited_for = true;
        self.jobs.send(Job::Put(marks)).map_err(|_| anyhow::anyhow!("the thread of the signing marks died"))
    }

    /// Waits until what was begun is durable.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        if !std::mem::take(&mut self.waited_for) {
            return Ok(());
        }
        Ok(self.done.recv().map_err(|_| anyhow::anyhow!("the thread of the signing marks died"))??)
    }

    /// Raises the floors below which marks are dropped, some time soon.
    pub fn raise(&self, floors: Vec<(Domain, Height)>) {
        // Without its thread the next turn ends the node.
        let _ = self.jobs.send(Job::Raise(floors));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_storage::MarkOptions;
    use aequa_storage::wal::{Medium, MediumFile, SystemMedium};
    use aequa_types::{ClusterId, InstanceId, OperatorIndex, Place};
    use alloy_primitives::B256;
    use std::fs::File;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    #[derive(Default)]
    struct Disk {
        is_broken: AtomicBool,
    }

    impl Medium for Disk {
        fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
            SystemMedium.write_at(file, bytes, offset)
        }
        fn sync(&self, file: &File) -> io::Result<()> {
            match self.is_broken.load(SeqCst) {
                true => Err(io::Error::from_raw_os_error(5)),
                false => SystemMedium.sync(file),
            }
        }
    }

    fn mark(height: u64) -> Mark {
        let place = Place::first_of(InstanceId::block(Height(height)));
        Mark { place, digest: B256::repeat_byte(height as u8) }
    }

    fn writer(dir: &std::path::Path) -> (MarkWriter, Arc<Disk>) {
        let disk = Arc::new(Disk::default());
        let options = MarkOptions { medium: disk.clone(), ..MarkOptions::default() };
        let store = MarkStore::open(dir, ClusterId::ZERO, OperatorIndex(0), options).unwrap();
        (MarkWriter::start(store).unwrap(), disk)
    }

    #[test]
    fn finish_tells_of_a_failed_sync_and_of_every_one_after() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, disk) = writer(dir.path());
        writer.finish().unwrap();
        writer.begin(vec![mark(1)]).unwrap();
        writer.finish().unwrap();
        disk.is_broken.store(true, SeqCst);
        writer.begin(vec![mark(2)]).unwrap();
        assert!(writer.finish().is_err());
        disk.is_broken.store(false, SeqCst);
        writer.begin(vec![mark(3)]).unwrap();
        assert!(writer.finish().is_err(), "a store that failed is not believed again");
    }

    #[test]
    fn a_failure_to_raise_floors_ends_the_next_turn() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, disk) = writer(dir.path());
        disk.is_broken.store(true, SeqCst);
        writer.raise(vec![(Domain::Block, Height(5))]);
        writer.begin(vec![mark(9)]).unwrap();
        assert!(writer.finish().is_err());
    }
}
