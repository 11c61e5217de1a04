//! Parameters all operators share. They live in the cluster lock; flags set them when a cluster is
//! made, and must equal them afterwards.

use super::keys::{self, Key};
use super::sources::Settings;
use crate::config::RunConfig;
use crate::exit::ExitError;
use aequa_types::{BuilderPolicy, ConsensusParams, LeaderPolicy, Quorum};

/// Shared parameters as far as somebody gave them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedParams {
    /// Leader policy.
    pub leader: Option<LeaderPolicy>,
    /// t(0).
    pub round_timeout_ms: Option<u64>,
    /// Ceiling of the round timeout.
    pub round_timeout_cap_ms: Option<u64>,
    /// Least time between blocks.
    pub block_interval_ms: Option<u64>,
    /// Whether blocks without items are decided.
    pub empty_blocks: Option<bool>,
    /// Heights between checkpoints.
    pub checkpoint_interval: Option<u64>,
    /// Items per block, the default resolved.
    pub builder_max_n: Option<u64>,
    /// Items per type; 0 = max-n.
    pub builder_window: Option<u64>,
    /// Smallest bid.
    pub builder_min_bid: Option<u64>,
    /// Smallest fee.
    pub builder_min_fee: Option<u64>,
    /// Byte budget.
    pub builder_max_bytes: Option<u64>,
}

impl SharedParams {
    /// Reads what was given.
    pub fn from_settings(settings: &Settings) -> Self {
        let number = |key: Key| settings.is_given(key).then(|| settings.unsigned(key));
        Self {
            leader: settings.is_given(keys::LEADER).then_some(LeaderPolicy::RoundRobin),
            round_timeout_ms: number(keys::ROUND_TIMEOUT_MS),
            round_timeout_cap_ms: number(keys::ROUND_TIMEOUT_CAP_MS),
            block_interval_ms: number(keys::BLOCK_INTERVAL_MS),
            empty_blocks: settings.is_given(keys::EMPTY_BLOCKS).then(|| settings.switch(keys::EMPTY_BLOCKS)),
            checkpoint_interval: number(keys::CHECKPOINT_INTERVAL),
            builder_max_n: number(keys::BUILDER_MAX_N)
                .map(|n| if n == 0 { BuilderPolicy::default().max_n } else { n }),
            builder_window: number(keys::BUILDER_WINDOW),
            builder_min_bid: number(keys::BUILDER_MIN_BID),
            builder_min_fee: number(keys::BUILDER_MIN_FEE),
            builder_max_bytes: number(keys::BUILDER_MAX_BYTES),
        }
    }

    /// Parameters of a new cluster: what was given over the defaults.
    pub fn over_defaults(&self) -> Result<ConsensusParams, ExitError> {
        let default = ConsensusParams::default();
        let params = ConsensusParams {
            leader: self.leader.unwrap_or(default.leader),
            checkpoint_interval: self.checkpoint_interval.unwrap_or(default.checkpoint_interval),
            round_timeout_ms: self.round_timeout_ms.unwrap_or(default.round_timeout_ms),
            round_timeout_cap_ms: self.round_timeout_cap_ms.unwrap_or(default.round_timeout_cap_ms),
            block_interval_ms: self.block_interval_ms.unwrap_or(default.block_interval_ms),
            empty_blocks: self.empty_blocks.unwrap_or(default.empty_blocks),
            builder: BuilderPolicy {
                max_n: self.builder_max_n.unwrap_or(default.builder.max_n),
                window: self.builder_window.unwrap_or(default.builder.window),
                min_bid: self.builder_min_bid.unwrap_or(default.builder.min_bid),
                min_fee: self.builder_min_fee.unwrap_or(default.builder.min_fee),
                max_bytes: self.builder_max_bytes.unwrap_or(default.builder.max_bytes),
                ..default.builder
            },
        };
        if params.round_timeout_cap_ms < params.round_timeout_ms {
            return Err(ExitError::usage(format!(
                "--round-timeout-cap-ms {} is below --round-timeout-ms {}",
                params.round_timeout_cap_ms, params.round_timeout_ms
            )));
        }
        Ok(params)
    }
}

/// Refuses a node whose settings contradict the lock, with both values.
pub fn check_against_lock(config: &RunConfig, lock: &ConsensusParams) -> Result<(), ExitError> {
    check_shared(&config.shared, lock)
}

/// Refuses a threshold that f liars could reach, or that all other members together could not.
pub fn check_threshold(config: &RunConfig, quorum: Quorum) -> Result<(), ExitError> {
    let Some(members) = config.divergence_threshold else { return Ok(()) };
    let (least, most) = (quorum.weak_quorum(), quorum.operators() - 1);
    match (least..=most).contains(&members) {
        true => Ok(()),
        false => Err(ExitError::usage(format!(
            "--{} is {members}, in a cluster of {} it must be between {least} (f+1) and {most} (n-1)",
            keys::STATE_THRESHOLD.name,
            quorum.operators(),
        ))
        .hint("remove the setting: the default is f+1, and not below 2")),
    }
}

/// The same for parameters that belong to no node yet.
pub fn check_shared(given: &SharedParams, lock: &ConsensusParams) -> Result<(), ExitError> {
    let builder = &lock.builder;
    let window = given.builder_window.map(|window| match window {
        0 => given.builder_max_n.unwrap_or(builder.max_n),
        window => window,
    });
    if given.leader.is_some_and(|leader| leader != lock.leader) {
        return Err(differs(keys::LEADER, "another policy", "round_robin"));
    }
    if let Some(empty) = given.empty_blocks.filter(|empty| *empty != lock.empty_blocks) {
        return Err(differs(keys::EMPTY_BLOCKS, empty, lock.empty_blocks));
    }
    let numbers = [
        (keys::ROUND_TIMEOUT_MS, given.round_timeout_ms, lock.round_timeout_ms),
        (keys::ROUND_TIMEOUT_CAP_MS, given.round_timeout_cap_ms, lock.round_timeout_cap_ms),
        (keys::BLOCK_INTERVAL_MS, given.block_interval_ms, lock.block_interval_ms),
        (keys::CHECKPOINT_INTERVAL, given.checkpoint_interval, lock.checkpoint_interval),
        (keys::BUILDER_MAX_N, given.builder_max_n, builder.max_n),
        (keys::BUILDER_WINDOW, window, builder.window_or_max()),
        (keys::BUILDER_MIN_BID, given.builder_min_bid, builder.min_bid),
        (keys::BUILDER_MIN_FEE, given.builder_min_fee, builder.min_fee),
        (keys::BUILDER_MAX_BYTES, given.builder_max_bytes, builder.max_bytes),
    ];
    for (key, given, locked) in numbers {
        if let Some(given) = given.filter(|given| *given != locked) {
            return Err(differs(key, given, locked));
        }
    }
    Ok(())
}

fn differs(key: Key, given: impl std::fmt::Display, locked: impl std::fmt::Display) -> ExitError {
    ExitError::usage(format!("--{} is {given}, but the cluster lock says {locked}", key.name))
        .hint("all operators share this parameter: remove the setting, or make a new cluster with it")
}
