//! The recording of this node, when it is asked for one. It never hurts the node: a thread of its own writes, and what
//! goes wrong is logged once and ends the recording.

use aequa_host::recording::Entry;
use aequa_storage::{Journal, StorageError};
use aequa_types::{ClusterId, OperatorIndex};
use ssz::Encode as _;
use std::fmt::Display;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Turns that wait for the disk. Some seconds of a busy node; then its recording ends, and not the node.
const TURNS_WAITING_MAX: usize = 1024;

/// Takes what a replica takes into the journal of the data directory.
#[derive(Default)]
pub struct Recorder {
    /// None when nothing is recorded, or nothing any more.
    queue: Option<SyncSender<Vec<Entry>>>,
    writer: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Records nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Records into `dir`, at most so many bytes.
    pub fn open(dir: &Path, cluster_id: ClusterId, operator: OperatorIndex, bytes_max: u64) -> Self {
        let begun = Journal::begin(dir, cluster_id, operator, bytes_max);
        let journal = match begun {
            Ok(journal) => journal,
            Err(error) => {
                give_up(error);
                return Self::off();
            }
        };
        let (queue, entries) = sync_channel(TURNS_WAITING_MAX);
        let thread = std::thread::Builder::new().name("recorder".into());
        match thread.spawn(move || write_all(journal, &entries).unwrap_or_else(give_up)) {
            Ok(writer) => Self { queue: Some(queue), writer: Some(writer) },
            Err(error) => {
                give_up(error);
                Self::off()
            }
        }
    }

    /// Takes the entries of a turn. It never waits.
    pub fn take(&mut self, entries: Vec<Entry>) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(entries) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.queue = None;
                give_up("the disk does not keep up");
            }
            // The thread has said why.
            Err(TrySendError::Disconnected(_)) => self.queue = None,
        }
    }

    /// Makes the recording durable.
    pub fn finish(&mut self) {
        self.queue = None;
        if let Some(Err(_)) = self.writer.take().map(JoinHandle::join) {
            give_up("its thread has panicked");
        }
    }
}

/// Writes until nobody has anything more to be recorded.
fn write_all(mut journal: Journal, queue: &Receiver<Vec<Entry>>) -> Result<(), StorageError> {
    while let Ok(first) = queue.recv() {
        for entry in std::iter::once(first).chain(queue.try_iter()).flatten() {
            journal.append(&entry.as_ssz_bytes())?;
        }
        journal.write_out()?;
    }
    journal.finish()
}

fn give_up(error: impl Display) {
    let text = format!("recording has ended, the node goes on without: {error}");
    tracing::warn!(target: "event", text, "warning");
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_storage::journal::lives;
    use aequa_types::Height;

    fn entries(n: u64) -> Vec<Entry> {
        vec![Entry::TurnEnded(Height(n))]
    }

    fn recorded(dir: &Path) -> Vec<usize> {
        lives(dir).unwrap().into_iter().map(Iterator::count).collect()
    }

    fn open(dir: &Path, bytes_max: u64) -> Recorder {
        Recorder::open(dir, ClusterId::ZERO, OperatorIndex(0), bytes_max)
    }

    #[test]
    fn what_is_taken_is_in_the_journal_when_it_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = open(dir.path(), 1 << 20);
        (0..100).for_each(|n| recorder.take(entries(n)));
        recorder.finish();
        assert_eq!(recorded(dir.path()), [100]);
        recorder.take(entries(1));
        assert_eq!(recorded(dir.path()), [100], "it is closed");
    }

    #[test]
    fn a_disk_that_fails_or_is_full_ends_the_recording_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        // A file where the directory must be.
        let blocked = dir.path().join("blocked");
        std::fs::write(&blocked, b"").unwrap();
        let mut recorder = open(&blocked, 1 << 20);
        recorder.take(entries(1));
        recorder.finish();

        let full = dir.path().join("full");
        let mut recorder = open(&full, 100);
        (0..100).for_each(|n| recorder.take(entries(n)));
        recorder.finish();
        assert!(recorded(&full)[0] < 100);
    }

    #[test]
    fn a_disk_that_does_not_keep_up_ends_the_recording() {
        let (queue, _never_read) = sync_channel(1);
        let mut recorder = Recorder { queue: Some(queue), writer: None };
        recorder.take(entries(1));
        assert!(recorder.queue.is_some());
        recorder.take(entries(2));
        assert!(recorder.queue.is_none());
        recorder.take(entries(3));
        recorder.finish();
    }
}
