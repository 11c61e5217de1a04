//! The brain of a node as one pure state machine.
//!
//! A [`Replica`] holds the chain, the transaction pools and every open consensus instance. It does
//! no I/O and reads no clock: [`Replica::step`] takes an [`Input`] and returns an [`Output`]: what must
//! be durable, and behind that what leaves the node.
//!
//! ```text
//!   peer messages ─┐                        ┌─▶ persist, timers
//!   transactions ──┤   step(now, input)     │      persisted(votes)
//!   duties ────────┼──▶   Replica   ────────┤   ┌─▶ send    to members
//!   timers ────────┤  chain · pools · qbft  └───┼─▶ work    beside the turn
//!   seals, sync ───┘                            ├─▶ store   to the block store
//!                                               └─▶ tell    to clients and observers
//! ```
//!
//! # What may be touched where
//!
//! | module | one idea |
//! |---|---|
//! | [`replica`](Replica) | routing: which component takes which input, and what its events mean to the others |
//! | [`output`](Output) | what a step asks for, grouped by when it may be done |
//! | `context` | what every component gets: time, cluster, chain, and the output; no keys |
//! | `agreement` | what blocks and duties do differently: propose, validate, wait, decide |
//! | `instances` | every open consensus instance, and how one takes an event |
//! | `blocks` | the height being agreed; transactions and evidence on their way into a block |
//! | `duties` | which duties are open and closed; how they move; which slots a client may open |
//! | `sync` | noticing that others are ahead, and fetching what they have decided |
//! | `witness` | what operators were seen to say: noticing contradictions |
//! | `roots` | what the other members say the state is: noticing that this node, or another, has another one |
//! | `rejoin` | asking the members what was signed: at every start, and when this operator's memory is lost |
//!
//! A component's fields are its own. It gets the context and says in what it returns what concerns the others; only
//! `replica` knows them all. It has the keys, and lends them to an instance that takes an event.
//!
//! # Rules
//!
//! * Nothing leaves before the votes it depends on are durable: those of [`output`](Output).
//! * The same inputs give the same output: no hash-map iteration, no randomness, no float.
//! * Only verified messages and checked transactions are taken; types see to it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod agreement;
mod blocks;
mod context;
mod duties;
mod instances;
mod io;
mod output;
mod rejoin;
mod replica;
mod roots;
mod sync;
mod witness;

pub use aequa_signing::{
    Elector, Guard, Keys, Permit, RoundRobin, SessionEnd, SessionEvent, Shares, Signer, SigningHistory,
    elector,
};
pub use duties::{DUTIES_FAR_MAX, DUTY_SLOTS_AHEAD, DUTY_SLOTS_NEAR, DutyState, DutyStatus};
pub use io::{Config, DutyAdmission, Halt, Input, Notice, Now, Recovery, RootComparison, Ticket, Timer};
pub use output::{
    Durable, Outbound, Output, Persist, Stopped, StoreWrite, Tell, TimerChange, VoteStore, Work,
};
pub use rejoin::{BLOCKS_ABSTAINED, SLOTS_ABSTAINED};
pub use replica::{Held, Replica};
