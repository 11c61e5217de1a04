//! Live tests: real `dvt-node` processes on loopback, real keys, real disks.
//!
//! | module | what is shown |
//! |---|---|
//! | [`adversary`] | a traitor with an operator's key plays every attack there is |
//! | [`agreement`] | operators order transactions and certify blocks that anybody can check |
//! | [`audit`] | what a node has recorded of itself |
//! | [`backups`] | a backup that is older than the epoch of its cluster |
//! | [`ceremony`] | keys that nobody holds, made by processes that are killed or away |
//! | [`imports`] | validators of an Obol cluster come into the lock of a ceremony |
//! | [`crashes`] | kill -9 of one, of two, of all |
//! | [`kills`] | kill -9 at random moments, and what every disk says after it |
//! | `lies` | operators that lie in a ceremony, in builds with the test endpoints only |
//! | [`lost`] | data directories without what was signed, or with an old copy of it |
//! | [`memory`] | what strangers can make a node hold |
//! | [`transactions`] | many transactions, good and bad, and what becomes of each |
//! | [`refusals`] | starts that must not happen |
//! | [`bad_input`] | what the API gets that it should not |
//! | [`clients`] | what clients may take of a node, and what they may not |
//! | [`devnet`] | one command, a whole cluster, and a clean end |
//! | [`duties`] | opaque duties agreed and signed |
//! | [`proofs`] | accounts proven by the lock, and the state of a stopped node compared |
//! | [`replay`] | recorded heights run again |
//! | `release` | what a node built as it is released does not contain |
//! | `e2e` | the test endpoints, in builds with the feature of that name only |
//! | [`reshare`] | other operators for a cluster that runs |
//! | [`single`] | the cluster of one a node makes for itself |
//! | [`logs`] | stopping, log lines, and what never appears in them |
//! | [`metrics`] | every family that exists has moved |
//! | [`readiness`] | a cluster that does not get on says so |
//! | [`starts`] | the first moments of a process: what it is given, told, and left |
//! | [`strangers`] | whoever is not in the lock gets no stream, and garbage stops nothing |
//!
//! Every test has its own folder and its own ports, waits for conditions with a deadline, and prints the
//! last log lines of its nodes when it fails.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]
#![allow(clippy::print_stderr, reason = "the last log lines of a failed test go there")]

mod adversary;
mod agreement;
mod audit;
mod backups;
mod bad_input;
mod ceremony;
mod clients;
mod crashes;
mod devnet;
mod disks;
mod duties;
#[cfg(feature = "e2e")]
mod e2e;
mod fences;
mod harness;
mod imports;
mod joining;
mod kills;
#[cfg(feature = "e2e")]
mod lies;
mod logs;
mod lost;
mod memory;
mod metrics;
mod proofs;
mod readiness;
mod refusals;
#[cfg(not(feature = "e2e"))]
mod release;
mod replay;
mod reshare;
mod single;
mod starts;
mod strangers;
mod transactions;
