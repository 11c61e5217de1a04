//! The bare path of a decision: three hops among n processes over blocking sockets, and nothing else.
//!
//! No transactions, no state, no rounds above 0, no catching up, no proofs for later. Every message is logged
//! and synced before it is sent, as a node of ours must. What is faster than this leaves something out that
//! agreement on this machine needs; how much slower something is says what it does beside it.
//!
//! ```text
//!   leader ──value──▶ all ──PREPARE──▶ all ──COMMIT (share)──▶ all: decided; the seal is made aside
//! ```
//!
//! The seal is one signature of a quorum with a key each, not of a group key: sums cost what combining does,
//! but for the coefficients, which a node keeps.

mod disk;
mod keys;
mod links;
mod node;
mod wire;

pub use node::run;

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Why a node of the probe ended.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is signed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// Nothing.
    None,
    /// Every message.
    Ed25519,
    /// Every message, and a seal over what was decided.
    #[value(name = "ed25519+bls")]
    Sealed,
}

impl Scheme {
    /// What the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ed25519 => "ed25519",
            Self::Sealed => "ed25519+bls",
        }
    }
}

/// One node of the probe
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Its number
    #[arg(long)]
    pub me: u8,
    /// How many there are
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,
    /// Node i listens on this port + i
    #[arg(long)]
    pub port: u16,
    /// Node i is called on this port + i: where it listens, or a link to there
    #[arg(long)]
    pub dial_port: u16,
    /// Bytes of a value
    #[arg(long)]
    pub bytes: usize,
    /// What is signed
    #[arg(long, value_enum)]
    pub scheme: Scheme,
    /// Folder of the vote log
    #[arg(long)]
    pub dir: PathBuf,
    /// Length of the measurement
    #[arg(long)]
    pub seconds: u64,
}
