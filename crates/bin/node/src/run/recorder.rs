//! The recording of this node, when it is asked for one. It never hurts the node: what goes wrong is
//! logged once, and recording ends.

use aequa_storage::{Journal, StorageError};
use aequa_types::recording::Entry;
use aequa_types::{ClusterId, OperatorIndex};
use std::path::Path;

/// Writes what instances take and are told into the journal of the data directory.
pub struct Recorder {
    journal: Option<Journal>,
}

impl Recorder {
    /// Records nothing.
    pub fn off() -> Self {
        Self { journal: None }
    }

    /// Records into `dir`, at most so many bytes.
    pub fn open(dir: &Path, cluster_id: ClusterId, operator: OperatorIndex, bytes_max: u64) -> Self {
        match Journal::open(dir, cluster_id, operator, bytes_max) {
            Ok(journal) => Self { journal: Some(journal) },
            Err(error) => {
                give_up(&error);
                Self::off()
            }
        }
    }

    /// Takes the entries of a turn, once its votes are durable. It is with the
    /// operating system before anything of the turn is sent, so that the end of the process loses nothing
    /// that anybody heard.
    pub fn take(&mut self, entries: &[Entry]) {
        let Some(journal) = &mut self.journal else { return };
        let written =
            entries.iter().try_for_each(|entry| journal.append(entry)).and_then(|()| journal.write_out());
        if let Err(error) = written {
            give_up(&error);
            self.journal = None;
        }
    }

    /// Makes the recording durable.
    pub fn finish(&mut self) {
        if let Some(Err(error)) = self.journal.take().map(Journal::finish) {
            give_up(&error);
        }
    }
}

fn give_up(error: &StorageError) {
    let text = format!("recording has ended, the node goes on without: {error}");
    tracing::warn!(target: "event", text, "warning");
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_storage::journal::Reader;
    use aequa_types::recording::{Connected, Moment};

    fn entries(n: u64) -> Vec<Entry> {
        let at = Moment { elapsed_ms: n, wall_ms: n };
        vec![Entry::Connected(Connected { operator: OperatorIndex(1), at })]
    }

    fn recorded(dir: &Path) -> usize {
        Reader::open(dir).unwrap().map_or(0, |reader| reader.entries().count())
    }

    #[test]
    fn a_disk_that_fails_ends_the_recording_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        let mut recorder = Recorder::open(&journal, ClusterId::ZERO, OperatorIndex(0), 1 << 20);
        recorder.take(&entries(1));
        assert_eq!(recorded(&journal), 1);
        recorder.finish();

        // A file where the directory must be.
        let blocked = dir.path().join("blocked");
        std::fs::write(&blocked, b"").unwrap();
        let mut recorder = Recorder::open(&blocked, ClusterId::ZERO, OperatorIndex(0), 1 << 20);
        recorder.take(&entries(2));
        recorder.finish();

        // Gone while the node runs.
        let mut recorder = Recorder::open(&journal, ClusterId::ZERO, OperatorIndex(0), 1 << 20);
        std::fs::remove_dir_all(&journal).unwrap();
        recorder.take(&entries(3));
        assert!(recorder.journal.is_none());
        recorder.take(&entries(4));
    }
}
