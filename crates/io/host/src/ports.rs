use crate::recording::Entry;
use aequa_replica::{
    Halt, Input, Now, Outbound, Output, Persist, Replica, StoreWrite, Tell, VoteStore, Work,
};
use aequa_types::{InstanceId, Subject};

/// What is outside of a replica. Every call is made from the turn, in the order of the rules of this crate.
pub trait Ports<K> {
    /// Why an operation failed: the node ends.
    type Error;
    /// Where votes are durable.
    type Votes: VoteStore<Error = Self::Error>;

    /// The clocks at this moment.
    fn now(&self) -> Now;

    /// The replica is about to take an input.
    fn stepping(&mut self, input: &Input);

    /// The replica has taken it. Only for those who watch: nothing of it is durable yet.
    fn stepped(&mut self, _: &Output) {}

    /// Whether everything the replica read of its state in this turn could be read. What came of a read that failed
    /// must not leave the turn.
    fn check_reads(&mut self) -> Result<(), Self::Error>;

    /// The vote log and the signing database.
    fn votes(&mut self) -> &mut Self::Votes;

    /// For the recording, where there is one. Nothing waits for it.
    fn record(&mut self, _: Vec<Entry>) {}

    /// Votes of this turn are durable.
    fn persisted(&mut self, durable: &Persist);

    /// To members.
    fn send(&mut self, outbound: &Outbound) -> Result<(), Self::Error>;

    /// Beside the turn.
    fn work(&mut self, work: Work) -> Result<(), Self::Error>;

    /// To the block store; durable after [`Ports::flush`].
    fn store(&mut self, write: &StoreWrite) -> Result<(), Self::Error>;

    /// Makes the block store durable.
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// To clients and observers.
    fn tell(&mut self, tell: Tell, replica: &Replica<K>);

    /// Drops what is not needed from the vote log, and votes of the signing database at and below `watermarks`.
    fn prune(
        &mut self,
        is_needed: &dyn Fn(Subject) -> bool,
        watermarks: Vec<InstanceId>,
    ) -> Result<(), Self::Error>;

    /// Notes that the directory may lack what this operator signed: the next start asks the members.
    fn suspect(&mut self, halt: &Halt) -> Result<(), Self::Error>;

    /// Notes that the members were asked: the directory may be trusted again.
    fn trust(&mut self) -> Result<(), Self::Error>;

    /// Whether the node stops when its replica says so. Operators that are meant to be faulty, in tests, do not.
    fn heeds_halts(&self) -> bool {
        true
    }
}
