use crate::error::HostError;
use crate::ports::Ports;
use crate::recording::{Entry, InputEntry, ReadState, Recording, Start};
use crate::timers::Timers;
use aequa_replica::{Halt, Input, Keys, Now, Output, Persist, Replica, Stopped, StoreWrite, VoteStore as _};
use aequa_types::Height;
use std::sync::Arc;

/// Timers of a turn's own making that fire in the same turn, so that a decision and the next
/// proposal share one sync.
const TIMER_PASSES_MAX: usize = 4;

/// A replica and its timers.
pub struct Host<K> {
    replica: Replica<K>,
    timers: Timers,
    /// How far the store said to be durable since the last turn.
    flushed: Option<Height>,
    /// None when nothing is recorded.
    recording: Option<Recording>,
}

impl<K: Keys> Host<K> {
    /// Takes over a replica that has not started.
    pub fn new(replica: Replica<K>) -> Self {
        Self { replica, timers: Timers::default(), flushed: None, recording: None }
    }

    /// Gives all that the replica takes to [`Ports::record`]. It was made with `start`, on a chain that reads `state`.
    #[must_use]
    pub fn recorded(mut self, start: Start, state: Arc<ReadState>) -> Self {
        self.recording = Some(Recording::begin(start, state));
        self
    }

    /// The replica, for readers: everything it has done is durable between turns.
    pub fn replica(&self) -> &Replica<K> {
        &self.replica
    }

    /// When the next timer fires, on the clock of [`Now::elapsed_ms`](aequa_replica::Now::elapsed_ms).
    pub fn next_due_ms(&self) -> Option<u64> {
        self.timers.next_due_ms()
    }

    /// The store is durable up to this height: the log may forget, at the end of the next turn.
    pub fn flushed(&mut self, height: Height) {
        self.flushed = Some(height);
    }

    /// The first turn.
    pub fn start<P: Ports<K>>(&mut self, ports: &mut P) -> Result<(), HostError<P::Error>> {
        let now = ports.now();
        let first = self.replica.start(now);
        self.record(now, Some(InputEntry::STARTED), &first);
        ports.stepped(&first);
        self.finish(ports, first)
    }

    /// Takes inputs, and the timers that are due.
    pub fn turn<P: Ports<K>>(
        &mut self,
        ports: &mut P,
        inputs: impl IntoIterator<Item = Input>,
    ) -> Result<(), HostError<P::Error>> {
        let mut output = Output::default();
        for input in inputs {
            self.step(ports, input, &mut output);
        }
        self.finish(ports, output)
    }

    fn step<P: Ports<K>>(&mut self, ports: &mut P, input: Input, output: &mut Output) {
        let now = ports.now();
        ports.stepping(&input);
        let entry = self.recording.is_some().then(|| InputEntry::of(&input));
        let step = self.replica.step(now, input);
        self.record(now, entry, &step);
        ports.stepped(&step);
        output.merge(step);
    }

    fn record(&mut self, now: Now, input: Option<InputEntry>, step: &Output) {
        if let (Some(recording), Some(input)) = (&mut self.recording, input) {
            recording.step(now, input, step);
        }
    }

    /// Changes the timers as asked, and lets the replica take those that are due.
    fn fire_due<P: Ports<K>>(&mut self, ports: &mut P, output: &mut Output) {
        self.timers.change(output.take_timers());
        for _ in 0..TIMER_PASSES_MAX {
            let due = self.timers.take_due(ports.now().elapsed_ms);
            if due.is_empty() {
                break;
            }
            for timer in due {
                self.step(ports, Input::Timer(timer), output);
            }
            self.timers.change(output.take_timers());
        }
    }

    /// One sync, and everything is carried out.
    fn finish<P: Ports<K>>(&mut self, ports: &mut P, mut output: Output) -> Result<(), HostError<P::Error>> {
        self.fire_due(ports, &mut output);
        ports.check_reads().map_err(HostError::Store)?;
        if let Some(recording) = &mut self.recording {
            ports.record(recording.take());
        }
        let output = match output.unless_halted() {
            Ok(output) => output,
            Err(stopped) if !ports.heeds_halts() => stopped.ignored(),
            Err(stopped) => return stop(ports, *stopped),
        };
        let durable = output.persisted(ports.votes()).map_err(HostError::Votes)?;
        ports.persisted(&durable.persisted);
        for outbound in &durable.send {
            ports.send(outbound).map_err(HostError::Members)?;
        }
        for work in durable.work {
            ports.work(work).map_err(HostError::Members)?;
        }
        self.store(ports, &durable.store)?;
        if durable.trusted {
            ports.trust().map_err(HostError::Directory)?;
        }
        durable.tell.into_iter().for_each(|tell| ports.tell(tell, &self.replica));
        if self.recording.is_some() {
            ports.record(vec![Entry::TurnEnded(self.replica.chain().tip().height)]);
        }
        self.prune(ports)
    }

    /// Fetched blocks are not in the vote log, and results of duties close them: they are made durable together,
    /// before anybody hears of them.
    fn store<P: Ports<K>>(
        &mut self,
        ports: &mut P,
        writes: &[StoreWrite],
    ) -> Result<(), HostError<P::Error>> {
        let mut flush = false;
        for write in writes {
            ports.store(write).map_err(HostError::Store)?;
            flush |= is_flushed(write);
        }
        if flush {
            ports.flush().map_err(HostError::Store)?;
            // Blocks too; where only duties are decided, nothing else would let the log forget.
            self.flushed = Some(self.replica.chain().tip().height);
        }
        Ok(())
    }

    /// Only now is what the turn closed in the store, so that its records may go.
    fn prune<P: Ports<K>>(&mut self, ports: &mut P) -> Result<(), HostError<P::Error>> {
        let Some(height) = self.flushed.take() else { return Ok(()) };
        let replica = &self.replica;
        let watermarks = replica.signing_watermarks().collect();
        ports.prune(&|subject| replica.needs(subject, height), watermarks).map_err(HostError::Votes)
    }
}

/// Whether a write has to be durable before anybody hears of it.
fn is_flushed(write: &StoreWrite) -> bool {
    match write {
        StoreWrite::Commit { live, .. } => !live,
        StoreWrite::Sealed(certificate) => !certificate.instance.is_block(),
        StoreWrite::CommitDuty { .. } => true,
        StoreWrite::KeepEvidence(_) => false,
    }
}

/// Ends the node before anything of this turn is promised to anybody. The next start has to find out what was signed,
/// and abstains at least from what was shown.
fn stop<K, P: Ports<K>>(ports: &mut P, stopped: Stopped) -> Result<(), HostError<P::Error>> {
    let Stopped { halt, watermarks, .. } = stopped;
    if let Halt::SignedElsewhere { .. } = halt {
        ports.suspect(&halt).map_err(HostError::Directory)?;
        let watermarks = Persist { watermarks, ..Persist::default() };
        ports.votes().persist(&watermarks).map_err(HostError::Votes)?;
    }
    Err(HostError::Stop(halt))
}
