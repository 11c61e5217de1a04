//! Every bound of a ceremony, with its reason.

/// Most validators whose keys come of one ceremony: four operators deal them within seconds, and the transcript
/// stays below 2 MB.
pub const VALIDATORS_MAX: usize = 1_000;
/// Largest frame of the topic in bytes (contract: p2p, section 6).
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Largest part of a dealing in bytes: a frame, less 4 KiB for envelope and offsets.
pub const PART_BYTES_MAX: usize = FRAME_BYTES_MAX - 4096;
/// Most keys in one part (contract: p2p, section 6).
pub const PART_KEYS_MAX: usize = 256;
/// Most bytes of one answer to a summary: what a stream buffers. The rest is asked for again.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Commits kept of one operator: two are a proof that it equivocates, and more say nothing new.
pub const COMMITS_KEPT: usize = 2;
/// Highest round a vote may name. Rounds double in length: nobody gets there.
pub const ROUND_MAX: u64 = 1 << 32;
/// How often the length of a round is doubled at most.
pub const ROUND_DOUBLINGS_MAX: u64 = 6;
/// False complaints and openings that one operator may bring: each costs the check of many shares, and honest
/// operators pass on none.
pub const FALSE_OPENINGS_MAX: u32 = 8;
