//! Typed transaction pools and the deterministic builder.
//!
//! Pure: no I/O, clock, randomness, threads or logging, and nothing whose iteration order depends on
//! the process. The pools are local to a node and decide only what it *offers*; what a node *accepts*
//! from another is [`check_items`], which sees nothing but the items, the parent state's nonces and the
//! policy of the lock.
//!
//! ```text
//!  Transaction ── precheck ──▶ (signature check, elsewhere) ── admit ──▶ pools ── propose ──▶ Selection
//!                                                                          ▲
//!                                              decided block ── on_decided ┘
//!  CheckedBlock of another node ── check_items ──▶ in order | ItemsError
//! ```
//!
//! # Rules
//!
//! **Sequences.** Nonces are strict, start at 0 and run per (sender, type). A sender's *expected* nonce is
//! the state's plus its contiguous transactions in the pool. Up to it a transaction is *pending* and may be
//! proposed; above it, by at most [`aequa_types::limits::NONCE_GAP_MAX`], it is a *future* and is only kept.
//!
//! **Replacement.** The same (sender, type, nonce) is replaced by a key (fee or bid) at least
//! `max(1, ceil(old / 10))` higher, never while the old one is in a proposal being agreed.
//!
//! **Effective key.** `min(own key, effective key of the sender's previous one)`: what an item is worth when
//! everything it waits for is counted. It orders the block and decides who leaves a full pool.
//!
//! **Room.** When a cap is reached:
//! - futures go before pending ones; among equals the last nonce of the sender with the lowest effective
//!   key goes first, and only for a key at least 10 % higher, otherwise the newcomer is refused;
//! - a pending newcomer displaces a future whatever their keys, since a future may never become includable
//!   and its key costs nothing; a future never displaces a pending one;
//! - nothing of the newcomer's own sequence makes room for it except a future above it. The same holds for
//!   the cap per sender: a lower nonce displaces the sender's own last future, so that a run of futures
//!   cannot lock out the one nonce that would free it;
//! - nothing that is in a proposal being agreed is evicted.
//!
//! **Removal.** Only a decided block moves nonces. [`Mempool::on_decided`] removes, in one step, what was
//! included, what became old and what expired (heights, not time), and promotes futures.
//!
//! **Order of a block.** Types in the policy's order; within a type repeatedly the head (a sender's lowest
//! nonce, which must be the state's) with the highest effective key, ties by lower hash. The result depends
//! on the set of transactions only. [`check_items`] re-runs the same rule on a block's items.
//!
//! # What may be changed here
//!
//! A new transaction type is a new line in the table of `pool`; it gets its own pool and shares the caps of
//! its space. Batches (`batch_ms`) and pairing (`use_dfba`) are policies this builder does not implement:
//! [`validate_policy`] refuses them rather than build blocks others would call wrong.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod admission;
mod builder;
mod check;
mod error;
mod limits;
mod mempool;
mod order;
mod policy;
mod pool;
mod queue;
mod removal;
mod room;

pub use admission::{Admission, InvalidReason, OverflowReason};
pub use builder::{RejectReason, Selection};
pub use check::check_items;
pub use error::{ItemsError, PolicyError};
pub use limits::{Cap, Limits};
pub use mempool::{Mempool, TxStatus};
pub use policy::validate_policy;
pub use removal::{RemovalReason, Removals, Removed};

use aequa_types::{Address, TxKind};

/// The nonces of the state that pools and checks are relative to; the host adapts its chain to this.
pub trait Nonces {
    /// The nonce the next included transaction of `sender` and `kind` must have.
    fn nonce(&self, sender: &Address, kind: TxKind) -> u64;
}
