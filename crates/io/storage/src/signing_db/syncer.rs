//! A thread that syncs a file while its owner goes on.

use crate::medium::MediumFile;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The thread; it ends with this.
pub(super) struct Syncer {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// Where one file at a time is left for the thread, and its outcome for the owner.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Asked(Arc<dyn MediumFile>),
    Syncing,
    Done(io::Result<()>),
    Closed,
}

impl Syncer {
    /// Without a thread whoever waits for a sync does it.
    pub fn start() -> Option<Self> {
        let desk = Arc::<Desk>::default();
        let of_thread = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("signing-db".into()).spawn(move || of_thread.work());
        Some(Self { desk, thread: Some(thread.ok()?) })
    }

    /// Whether a sync that covers all that was written has begun: not while an earlier one is waited for.
    pub fn begin(&self, file: &Arc<dyn MediumFile>) -> bool {
        let mut state = self.desk.state.lock();
        let begins = matches!(*state, State::Idle);
        if begins {
            *state = State::Asked(Arc::clone(file));
            self.desk.changed.notify_one();
        }
        begins
    }

    /// Waits until what was begun is done.
    pub fn wait(&self) -> io::Result<()> {
        let mut state = self.desk.state.lock();
        loop {
            match std::mem::take(&mut *state) {
                State::Idle => return Ok(()),
                State::Done(outcome) => return outcome,
                under_way @ (State::Asked(_) | State::Syncing | State::Closed) => *state = under_way,
            }
            self.desk.changed.wait(&mut state);
        }
    }
}

impl Desk {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            match std::mem::take(&mut *state) {
                State::Closed => return,
                State::Asked(file) => {
                    *state = State::Syncing;
                    drop(state);
                    let outcome = file.sync();
                    state = self.state.lock();
                    if matches!(*state, State::Syncing) {
                        *state = State::Done(outcome);
                        self.changed.notify_one();
                    }
                    continue;
                }
                other @ (State::Idle | State::Syncing | State::Done(_)) => *state = other,
            }
            self.changed.wait(&mut state);
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        *self.desk.state.lock() = State::Closed;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // Nothing of ours may touch the file once its owner is gone.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::{Medium as _, SystemMedium};

    #[test]
    fn one_sync_is_under_way_until_its_outcome_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file: Arc<dyn MediumFile> = Arc::from(SystemMedium.create(&dir.path().join("file")).unwrap());
        let syncer = Syncer::start().unwrap();
        assert!(syncer.wait().is_ok(), "nothing was begun");
        for _ in 0..100 {
            assert!(syncer.begin(&file));
            assert!(!syncer.begin(&file));
            assert!(syncer.wait().is_ok());
        }
        assert!(syncer.begin(&file));
        drop(syncer);
        assert_eq!(Arc::strong_count(&file), 1, "the thread has let go of it");
    }
}
