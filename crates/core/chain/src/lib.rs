//! What the cluster remembers: block execution and the roots that commit to it.
//!
//! Pure: no I/O, clock, randomness, threads or logging. A [`Chain`] is the state after one decided block,
//! and the only way from one to the next is [`Chain::apply`]. It reads its rows through [`StateRead`], each when it is
//! needed, and gives the [`Change`]s to be stored with the block; until they are, it remembers them itself. Everything here is a function of the cluster
//! lock and the decided blocks, so every honest node computes the same bytes.
//!
//! ```text
//!            build_block ──▶ CheckedBlock ──▶ consensus ──▶ decided
//!   Chain ◀─ check_header ◀───────┘                            │
//!     ▲                                                        │
//!     └────────────── apply ── changed rows, roots ◀───────────┘
//! ```
//!
//! # State
//!
//! Typed rows. A row that would hold its default is absent, so equal states have equal rows.
//!
//! | table | key | value |
//! |---|---|---|
//! | 1 nonces | sender (20) ‖ kind (1) | next nonce (u64) |
//! | 2 operators | operator index (1) | fees (u128) ‖ bids (u128) ‖ blocks proposed (u64) |
//! | 3 credits | fee recipient (20) | sum of bids (u128) |
//! | 4 evidence | operator (1) ‖ domain (1) ‖ height or slot (u64) ‖ round (u64) ‖ kind (1) | hash (32) ‖ committed height (u64) |
//! | 5 times | height (u64), a multiple of [`TIME_EVERY_HEIGHTS`] | timestamp in ms (u64) |
//!
//! Numbers are big-endian and of fixed width. Stored outside, a row's key is its table's number followed by
//! the key above.
//!
//! # Execution
//!
//! In item order, per item: the nonce of its (sender, type) plus one; its fee or bid added to the proposer's
//! ledger, a bid also to its fee recipient's credit. Per block: the proposer's count plus one. Sums are u128
//! and saturate; 2^54 full blocks of the largest fees would be needed to get there. Each piece of evidence
//! leaves its row, every thousandth block its timestamp; timestamps older than both limits are removed.
//! Evidence has no other effect yet.
//!
//! # Evidence
//!
//! A block carries at most 16 pieces, ordered by offence and none twice. An offence is committed once, at
//! most 64 of one operator, for ever: more says nothing new, and it bounds the table. Evidence about the
//! chain must not be older than both [`EVIDENCE_AGE_HEIGHTS_MAX`] and [`EVIDENCE_AGE_MS_MAX`]; about duties,
//! whose heights are slots, it does not age. A statement about a height not reached yet is a statement
//! too. `evidence` has the rules, ADR 6 the reasons.
//!
//! # Roots
//!
//! SHA-256 throughout; preimages of different meaning never share a first byte and a length.
//!
//! ```text
//! path         = H(table ‖ key)
//! leaf         = H(0x00 ‖ table ‖ len(key) ‖ key ‖ len(value) ‖ value)           lengths u32
//! tree(no row) = H("")          tree(one row) = its leaf
//! tree(rows)   = H(0x01 ‖ tree(rows whose next path bit is 0) ‖ tree(… is 1))
//! state_n      = H("aequa/state/v1\0" ‖ cluster id ‖ schema (u32) ‖ n (u64)
//!                  ‖ tables (u8) ‖ for each table: number (u8), rows (u64) ‖ tree)
//! history_n    = H("aequa/history/v1\0" ‖ history_{n-1} ‖ n (u64) ‖ state_n), 32 zero bytes before n = 0
//! ```
//!
//! The tables 1 to 5 are always counted, a later one when it has rows: it changes no root before. Path bits are taken from the most significant one. The shape depends on the set of rows alone, and a
//! changed row costs the hashes of its own path. Why not a positional tree: ADR 0002.
//!
//! Equal history roots at n mean equal states at every height up to n.
//!
//! # Proofs
//!
//! A [`StateProof`] shows rows of a state, or that they are not there, to whoever has its root: the way of each from
//! the top of the tree, and the other things that the root is made of. At the end of a way there is the row asked for;
//! or nothing, when no row has a path that begins so; or the only other row whose path does. The root of the state n is
//! in the header of block n+1, which a quorum has certified.
//!
//! # Invariants
//!
//! - The tree is the tree of the rows: a row is compared with its leaf before it changes, a page with the hash above
//!   it whenever it is read, and [`State::check`] compares all of them.
//! - A refused block changes nothing; a block is applied only on the tip its header names.
//! - Nonces grow by exactly one per item; [`Chain::apply`] refuses a block that would need anything else,
//!   although no such block can be decided while at most f operators are faulty.
//!
//! # What may be changed here
//!
//! A new table is a new [`Table`] variant and its row; roots of states without a row of it stay. Another encoding of
//! a row there is needs a new [`SCHEMA_VERSION`], which changes every root.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod chain;
mod error;
mod evidence;
mod execute;
mod hash;
mod page;
mod proof;
mod read;
mod row;
mod state;
mod transfer;
mod tree;

pub use chain::{Applied, Chain, FRESH_WITHIN_MS, Freshness, Tip};
pub use error::{ChainError, HeaderError, ProofError};
pub use evidence::{EVIDENCE_AGE_HEIGHTS_MAX, EVIDENCE_AGE_MS_MAX, EvidenceRefusal, TIME_EVERY_HEIGHTS};
pub use proof::{Account, StateProof};
pub use read::{Change, MemoryState, StateRead};
pub use row::{OperatorLedger, SCHEMA_VERSION, Table};
pub use state::{Committed, State, StoredRow};
pub use transfer::{Part, PartRefusal, Place, RootRefusal, Transfer};
pub use tree::RowProof;
