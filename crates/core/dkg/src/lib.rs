//! The key ceremony: n operators make keys that nobody holds.
//!
//! A [`Ceremony`] is one operator's part as a pure state machine. Bytes are checked ([`Definition::check`]), steps are
//! taken, and what leaves is reachable only behind the transcript ([`Output::persisted`]). At the end every
//! honest operator has the same public keys and its own shares of them: the chain's key and those of the validators.
//!
//! ```text
//!  commit ──R1──▶ receipts ──R2──▶ dealing ──R3──▶ ack / complaint ──R4──▶ agreement ──R5,R6──▶ done ──R9,R10──▶
//!  a hash of      "seen before      commitments,     shares good, or        QBFT on the         q of one
//!  my dealing      I dealt", q of    possessions,     shown to be bad        qualified dealers    result
//!                  them certify      shares for each                             │
//!                                    of n, encrypted                R8 share_open: for who got bad ones late
//! ```
//!
//! # Protocol
//!
//! Joint verifiable secret sharing: every operator deals a secret of its own (Feldman, 1987), the key's secret is the
//! sum of those that are qualified (Pedersen, 1991; Gennaro, Jarecki, Krawczyk and Rabin, *Secure Distributed Key
//! Generation for Discrete-Log Based Cryptosystems*, J. Cryptology 2007). Every dealer commits before it reveals,
//! and proves possession of every constant term.
//!
//! # Rules
//!
//! | rule | when | then |
//! |---|---|---|
//! | R1 | the start | commit: sign the hashes of all parts of the own dealing |
//! | R2 | a dealer's only commit is here, the own dealing is not shown | receipt: sign that it was seen |
//! | R3 | all dealers that get shares committed, or q commits are certified and a timer | show the own dealing |
//! | R4 | a dealing is certified by q receipts (or agreed on), here and well formed | ack it, or complain: disclose what the dealer encrypted to me |
//! | R5 | n acks of the dealings of all that get shares, or own acks of f+1, and better q, and a timer | begin the agreement; a DECIDED begins it at any time |
//! | R6 | the agreement asks | propose the dealings that may be qualified, at least q, from round n on at least f+1; prepare a proposal of such |
//! | R7 | the agreement decides | these dealings count, whatever becomes known later |
//! | R8 | a qualified dealer is shown to have dealt bad shares | share_open: disclose the own good ones to all |
//! | R9 | all qualified dealings are here, and a share of each, dealt or recovered of q opened ones | add up; done: sign the hash of the public result |
//! | R10 | q dones of the own result | finished |
//! | R11 | a timer; a summary of another | say what is here; send what the other lacks, for ever, and ask for what it has beyond |
//!
//! A dealing *may be qualified* when its dealer is not disqualified, q receipts certify it, q operators acked it, and
//! this operator did. A dealer is disqualified by two different commits, by a malformed dealing, or by a complaint
//! that shows bad shares. All of these are facts that everybody who has the entries judges alike, that never
//! become false, and that spread by R11: in the end honest operators differ in nothing, and a leader's proposal is
//! valid for all. In the time of R5 operators that are not slower than the timer have complained.
//!
//! # Complaints
//!
//! A complaint opens the ciphertext (the Diffie–Hellman secret with a proof of equality, as in ETHDKG, Schindler,
//! Judmayer, Stifter and Weippl, 2019). It needs no answer: it proves the dealer's guilt, or its author's. So no
//! share of an honest dealer's is ever opened but by its receiver, a dealer may die after it dealt, and there is
//! no number of complaints that has to be bounded. Late operators read their shares from the transcript; to one that
//! finds a bad one after the agreement R8 gives its share back, at the price of a secret of a *guilty* dealer. Any
//! honest one in the sum keeps that secret.
//!
//! # What an adversary can do
//!
//! With f dealers, it knows f shares of each honest dealing: nothing, below the threshold q. It must fix its own
//! dealings before it sees an honest one that counts: a certified commit has receipts of f+1 honest operators, given
//! before these dealt; q dealings are qualified, f+1 of them honest; of n−f honest operators one at least is in both
//! sets. Should operators be cut off while others deal, fewer than q dealings may be left that count: f+1 always
//! are, since R3 waits for q certified ones, and after n rounds in vain they will do. With fewer than q dealings the
//! adversary may have chosen its own last, which makes the key one of its choosing and its secret no less unknown.
//!
//! It can keep dealings back, or lead the agreement, and so *choose among* the sums of qualified sets: a few
//! bits of bias, as Gennaro et al. describe. It cannot add a secret that it does not know, since it proves possession of
//! what it adds.
//!
//! That is enough for BLS. Whatever the set, the key is an honest secret's key plus a difference whose secret the
//! adversary has proven to possess: a signature under the sum, less that part of it, is one under the honest key,
//! and to make one of those is to forge BLS. (Gennaro et al., *Secure Applications of Pedersen's Distributed Key
//! Generation Protocol*, CT-RSA 2003, have the argument for protocols that do not ask for the key's distribution;
//! Ristenpart and Yilek, 2007, for proofs of possession; Bacho and Loss, CCS 2022, prove threshold BLS secure with key
//! generation of this kind, against adaptive adversaries.) Nothing here uses a public key as a source of chance.
//!
//! # Dealing anew
//!
//! The same machine deals keys anew ([`Definition::resharing`]) to other operators, or to the same ones. Dealers
//! are those participants that hold old shares: each shares its old share, and a dealing whose constant terms are not
//! the old public shares is malformed, which is a proof. As many are qualified as the old threshold says; receipts, acks
//! and the agreement are the new operators' and need their quorum. Keys stay; new shares do not add up with old ones. R8
//! makes public a guilty dealer's old share, one the adversary has. From when the new shares sign, and that old ones are
//! deleted, is not this crate's business.
//!
//! An old operator that *leaves* is a dealer and no receiver: its place is after those of the new operators, it signs a
//! commit and nothing else, and nothing is encrypted to it. So any q of the old operators will do, whoever they are, and
//! one that leaves can do no more harm than a dealer can. What it knows is its own polynomial, whose secret it had. It
//! follows the transcript to the public result, so that it can say for itself which keys these are. Where all that stay
//! deal, nobody waits for it.
//!
//! # Memory and work
//!
//! Of each operator at most two commits, one dealing, and one statement in each [`Place`] are kept: a number that
//! follows from n. A part is read only when its hash was committed to. Everything else is refused and costs its
//! sender ([`Refusal::kind`]). A summary is answered once in half of the time between two.
//!
//! # Persistence
//!
//! Everything that is kept is an [`Entry`] of the transcript, durable before what rests on it leaves; own statements,
//! dealings and votes are asked for in the store again. [`Ceremony::restore`] puts them back in their order. Chance
//! comes in once, as a seed that is durable before the start ([`Secrets`]). [`verify_transcript`] checks the same
//! entries offline.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod agreement;
mod blame;
mod board;
mod ceremony;
mod dealing;
mod definition;
mod error;
#[cfg(test)]
mod fixture;
pub mod limits;
mod message;
mod output;
mod result;
mod secrets;
#[cfg(test)]
mod simulation;
mod statement;
mod verify;

pub use blame::{Blame, Fault, Proof};
pub use ceremony::{Ceremony, Input, Phase, Timing};
pub use dealing::Part;
pub use definition::{Definition, OldKeys, Participant};
pub use error::{Error, Refusal, RefusalKind};
pub use message::{Checked, Entry, Message, Promise, Summary};
pub use output::{Durable, Notice, Outbound, Output, Timer, TimerChange, TranscriptStore};
pub use result::{Outcome, PublicResult, SecretShares, SharedKey};
pub use secrets::Secrets;
pub use statement::{
    Claim, CommitClaim, ComplaintClaim, DealingId, Place, STATEMENT_TAG, ShareOpenClaim, Statement,
};
pub use verify::{verify_blames, verify_transcript};
