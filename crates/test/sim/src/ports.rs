//! What a replica finds outside in a simulation: the production vote log on a simulated disk, the simulated block
//! store, and a list of all else, which is carried out when the sync of the turn has taken its time.
//!
//! A crash is an operation that fails: the process is gone with it, and what came before it has happened.

use crate::alarms::Alarms;
use crate::keys::SimKeys;
use crate::promises::Promises;
use crate::sights::fault;
use crate::store::{Store, Stored};
use aequa_host::Ports;
use aequa_host::recording::Entry;
use aequa_replica::{
    Halt, Input, Notice, Now, Outbound, Output, Persist, Replica, StoreWrite, Tell, Timer, VoteStore, Work,
};
use aequa_storage::StorageError;
use aequa_types::{InstanceId, Record, Signed, Subject};

/// Something a turn did, in the order in which it did it.
#[derive(Debug)]
pub(crate) enum Done {
    Persisted(Persist),
    Sent(Outbound),
    Stored(StoreWrite),
    Worked(Work),
    Told(Tell),
    /// Its directory is no longer suspected.
    Trusted,
    /// So many segments of the vote log are gone.
    Pruned(usize),
}

/// Why an operation failed.
#[derive(Debug)]
pub(crate) enum Broken {
    Disk(StorageError),
    /// The process ends here; the fault is counted under this name.
    Ends(&'static str),
}

impl From<StorageError> for Broken {
    fn from(error: StorageError) -> Self {
        Self::Disk(error)
    }
}

/// Vote log and signing database, as the turn finds them.
pub(crate) struct Votes<'a> {
    promises: &'a mut Promises,
    /// Operations until the process ends.
    doomed: &'a mut Option<u64>,
    /// Says that votes are durable which are not even written.
    lies: bool,
    /// Whether the turn waited for a sync.
    pub(crate) synced: bool,
    /// What was written and is not durable.
    pub(crate) unsynced: Vec<Record>,
    /// Heights that a member has shown.
    pub(crate) watermarks: Vec<InstanceId>,
}

impl Votes<'_> {
    /// Counts an operation; fails when it is the last one, in this manner.
    fn operation(&mut self, manner: &'static str) -> Result<(), Broken> {
        match self.doomed {
            Some(0) => {
                *self.doomed = None;
                Err(Broken::Ends(manner))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl VoteStore for Votes<'_> {
    type Error = Broken;

    fn persist(&mut self, promised: &Persist) -> Result<(), Broken> {
        if self.lies {
            return Ok(());
        }
        self.watermarks.clone_from(&promised.watermarks);
        self.unsynced.clone_from(&promised.records);
        self.promises.write(promised)?;
        if promised.is_urgent() {
            self.synced = true;
            self.operation(fault::CRASH_TORN)?;
            self.promises.sync(promised)?;
        }
        self.unsynced.clear();
        Ok(())
    }

    fn holds(&self, vote: &Signed) -> bool {
        self.lies || self.promises.holds(vote)
    }
}

/// Everything outside of one node during one turn.
pub(crate) struct Surroundings<'a> {
    now: Now,
    store: &'a mut Store,
    alarms: &'a mut Alarms,
    /// Whether it is an operator that is meant to be faulty, and used to seeing its signature under what it did not
    /// say.
    faulty: bool,
    pub(crate) votes: Votes<'a>,
    /// What happened, in order.
    pub(crate) done: Vec<Done>,
    /// What is in the store and in no log: it has happened when the store is flushed.
    unflushed: Vec<Done>,
    /// Timers that fired.
    pub(crate) fired: Vec<Timer>,
    /// Those among them that had no right to.
    pub(crate) misfired: Vec<Timer>,
    /// Why the replica wants the node to stop.
    pub(crate) must_stop: Option<Halt>,
    /// What the steps noticed, whatever becomes of the turn.
    pub(crate) noticed: Vec<Notice>,
    /// For the recording.
    pub(crate) recorded: Vec<Entry>,
}

impl<'a> Surroundings<'a> {
    pub(crate) fn new(
        now: Now,
        promises: &'a mut Promises,
        store: &'a mut Store,
        alarms: &'a mut Alarms,
        doomed: &'a mut Option<u64>,
    ) -> Self {
        // The turn's first operation is to ask whether its reads failed.
        store.fail_reads(*doomed == Some(0));
        let votes = Votes {
            promises,
            doomed,
            lies: false,
            synced: false,
            unsynced: Vec::new(),
            watermarks: Vec::new(),
        };
        Self {
            now,
            store,
            alarms,
            faulty: false,
            votes,
            done: Vec::new(),
            unflushed: Vec::new(),
            fired: Vec::new(),
            misfired: Vec::new(),
            must_stop: None,
            noticed: Vec::new(),
            recorded: Vec::new(),
        }
    }

    /// Of an operator that is faulty, or of one whose vote store lies.
    pub(crate) fn that(mut self, is_faulty: bool, lies: bool) -> Self {
        self.faulty = is_faulty;
        self.votes.lies = lies;
        self
    }
}

impl<'a> Ports<SimKeys> for Surroundings<'a> {
    type Error = Broken;
    type Votes = Votes<'a>;

    fn now(&self) -> Now {
        self.now
    }

    fn stepping(&mut self, input: &Input) {
        if let Input::Timer(timer) = input {
            self.fired.push(*timer);
            if !self.alarms.fires(*timer, self.now.elapsed_ms) {
                self.misfired.push(*timer);
            }
        }
    }

    fn stepped(&mut self, output: &Output) {
        self.noticed.extend(output.notices().cloned());
        output.timer_changes().iter().for_each(|change| self.alarms.change(change));
        self.must_stop = self.must_stop.take().or_else(|| output.halts().cloned());
    }

    fn check_reads(&mut self) -> Result<(), Broken> {
        self.votes.operation(fault::CRASH_READING)
    }

    fn votes(&mut self) -> &mut Votes<'a> {
        &mut self.votes
    }

    fn record(&mut self, entries: Vec<Entry>) {
        self.recorded.extend(entries);
    }

    fn persisted(&mut self, durable: &Persist) {
        self.done.push(Done::Persisted(durable.clone()));
    }

    fn send(&mut self, outbound: &Outbound) -> Result<(), Broken> {
        let is_first = !self.done.iter().any(|done| matches!(done, Done::Sent(_)));
        self.votes.operation(if is_first { fault::CRASH_SYNCED } else { fault::CRASH_SENDING })?;
        self.done.push(Done::Sent(outbound.clone()));
        Ok(())
    }

    fn store(&mut self, write: &StoreWrite) -> Result<(), Broken> {
        self.votes.operation(fault::CRASH_STORING)?;
        match write {
            StoreWrite::Commit { block, certificate, applied, .. } => {
                let (block, certificate, applied) = (block.clone(), certificate.clone(), applied.clone());
                self.store.put_block(Stored { block, certificate, applied });
            }
            StoreWrite::Sealed(certificate) => self.store.put_certificate(certificate.clone()),
            StoreWrite::CommitDuty { duty, outcome, watermark } => {
                self.store.put_duty(*duty, outcome.clone(), *watermark);
            }
            StoreWrite::KeepEvidence(pending) => self.store.put_evidence(pending.clone()),
        }
        // In order: what comes after one that waits waits too.
        let waits = needs_flush(write) || !self.unflushed.is_empty();
        let happened = if waits { &mut self.unflushed } else { &mut self.done };
        happened.push(Done::Stored(write.clone()));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Broken> {
        self.votes.operation(fault::CRASH_STORING)?;
        self.store.flush();
        self.done.append(&mut self.unflushed);
        Ok(())
    }

    fn work(&mut self, work: Work) -> Result<(), Broken> {
        self.done.push(Done::Worked(work));
        Ok(())
    }

    fn tell(&mut self, tell: Tell, _: &Replica<SimKeys>) {
        self.done.push(Done::Told(tell));
    }

    fn prune(
        &mut self,
        is_needed: &dyn Fn(Subject) -> bool,
        watermarks: Vec<InstanceId>,
    ) -> Result<(), Broken> {
        let dropped = self.votes.promises.prune(is_needed, &watermarks)?;
        self.done.push(Done::Pruned(dropped));
        Ok(())
    }

    fn suspect(&mut self, _: &Halt) -> Result<(), Broken> {
        Ok(self.votes.promises.suspect("a member has shown more")?)
    }

    fn trust(&mut self) -> Result<(), Broken> {
        self.votes.promises.trust()?;
        self.done.push(Done::Trusted);
        Ok(())
    }

    fn heeds_halts(&self) -> bool {
        !self.faulty
    }
}

/// Whether a write is promised to be durable, and in no vote log. The host has its own opinion of this.
fn needs_flush(write: &StoreWrite) -> bool {
    match write {
        StoreWrite::Commit { live, .. } => !live,
        StoreWrite::Sealed(certificate) => !certificate.instance.is_block(),
        StoreWrite::CommitDuty { .. } => true,
        StoreWrite::KeepEvidence(_) => false,
    }
}
