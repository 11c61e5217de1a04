//! What the core thread is asked to do, and how many may wait.

use super::keys::OperatorKeys;
use aequa_mempool::Admission;
use aequa_replica::{DutyAdmission, Input, Replica};
use aequa_types::{CheckedTransaction, DutyId, Height, Value};
use tokio::sync::oneshot;

/// Commands waiting for the core; a full queue slows intake down instead of dropping votes.
pub const QUEUE_MAX: usize = 4096;
/// The state machine of a node.
pub type Core = Replica<OperatorKeys>;
/// What somebody wants to know of it.
pub type Question = Box<dyn FnOnce(&Core) + Send>;

/// What the core is asked to do.
pub enum Command {
    /// Inputs of the replica, for one turn.
    Inputs(Vec<Input>),
    /// A client's transactions; the answers are the pool's, in their order.
    Submit(Vec<CheckedTransaction>, oneshot::Sender<Vec<Admission>>),
    /// A client's duty.
    Duty(DutyId, Value, oneshot::Sender<DutyAdmission>),
    /// A question to the replica, answered when everything it has done is durable.
    Ask(Question),
    /// The store is durable up to this height.
    Flushed(Height),
    /// Finish the turn and stop.
    Stop,
}
