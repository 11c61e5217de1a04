//! Every bound on what comes from outside, with its reason.

/// Largest transaction payload or ciphertext in bytes (64 KiB: a block holds at least sixteen).
pub const TX_PAYLOAD_BYTES_MAX: usize = 65_536;
/// Largest SSZ form of one transaction in bytes: the payload and 2 KiB for everything else.
pub const TX_BYTES_MAX: usize = 66 * 1024;
/// Largest JSON envelope of a transaction in bytes: hex doubles it, and clients may indent.
pub const TX_ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// Most transactions a client submits at a time: their signatures cost below a tenth of a second.
pub const TX_BATCH_MAX: usize = 1_000;
/// Most transactions in a block whatever the policy says; bounds decoding work.
pub const BLOCK_ITEMS_MAX: usize = 16_384;
/// Largest value of any instance in bytes: the block budget's ceiling.
pub const VALUE_BYTES_MAX: usize = 3 << 20;
/// Largest consensus frame in bytes: a value, its justification and room to spare (contract: at most 4 MiB).
pub const CONSENSUS_FRAME_BYTES_MAX: usize = 4 << 20;
/// Largest frame of one vote in bytes: votes are of nearly fixed size.
pub const VOTE_FRAME_BYTES_MAX: usize = 1024;
/// Largest transaction gossip frame in bytes.
pub const TX_FRAME_BYTES_MAX: usize = 128 * 1024;
/// Largest synchronisation reply in bytes.
pub const SYNC_FRAME_BYTES_MAX: usize = 4 << 20;
/// Largest answer about an operator in bytes: a certificate of 100 commits per domain and some statements.
pub const TESTIMONY_FRAME_BYTES_MAX: usize = 256 * 1024;
/// Most statements in a testimony: half of its frame.
pub const TESTIMONY_STATEMENTS_MAX: usize = 512;
/// Most blocks in one synchronisation reply.
pub const SYNC_BLOCKS_MAX: u64 = 64;
/// Most operators in a cluster: a justification is O(n) long.
pub const OPERATORS_MAX: usize = 100;
/// Highest height accepted anywhere; far from overflow of any sum.
pub const HEIGHT_MAX: u64 = 1 << 62;
/// How many rounds above its own a node keeps messages for.
pub const ROUND_WINDOW: u64 = 64;
/// How far above the next expected nonce a transaction may be and still be kept.
pub const NONCE_GAP_MAX: u64 = 64;
/// Largest opaque duty value in bytes (64 KiB: sixteen times a Beacon-API attestation; hundreds are kept at a time).
pub const DUTY_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Most pieces of evidence in a block: 32 signatures to check, and less than one transaction's bytes.
pub const EVIDENCE_PER_BLOCK_MAX: usize = 16;
/// Largest SSZ form of one piece of evidence in bytes: two statements, each below 256.
pub const EVIDENCE_BYTES_MAX: usize = 1024;
/// Most pieces of evidence remembered of one operator, for ever: more say nothing new.
pub const EVIDENCE_PER_OPERATOR_MAX: usize = 64;
