//! Every family there is: name, type, help, label keys and their values. The one place to add one.
//!
//! `closed(...)` lists all values, `open(...)` the known ones. Handles take label values in the order
//! of declaration: `metrics.api_requests_total.inc(["/health", "200"])`. `later` says what will feed a
//! family that nothing feeds yet: the contract has it declared from the beginning.

use super::exposition::Rendered;
use super::family::{Counter, Gauge, Histogram, Info, Kind, Label, Summary};

macro_rules! registry {
    ($( $kind:ident $name:ident { $( $key:ident: $openness:ident( $($value:literal),* ) ),* } $help:literal $( later $feeder:literal )?; )*) => {
        /// Handles of all families. Independent of each other, so several nodes can share a process.
        #[derive(Debug)]
        pub struct Metrics {
            $(
                #[doc = concat!($help, ".")]
                #[doc = registry!(@doc $($key)*)]
                pub $name: registry!(@type $kind, $($key)*),
            )*
        }

        impl Metrics {
            fn empty() -> Self {
                $( #[allow(non_upper_case_globals)] static $name: Info = Info {
                    name: stringify!($name),
                    kind: registry!(@kind $kind),
                    help: $help,
                    labels: &[$( Label {
                        key: registry!(@key $key),
                        values: &[$($value),*],
                        open: registry!(@open $openness),
                    } ),*],
                    either: registry!(@either $kind),
                    later: registry!(@later $($feeder)?),
                }; )*
                Self { $( $name: <registry!(@type $kind, $($key)*)>::new(&$name), )* }
            }

            /// All families in the order of the registry file.
            pub(super) fn families(&self) -> Vec<&dyn Rendered> {
                vec![$( &self.$name ),*]
            }
        }
    };
    (@doc) => { "No labels." };
    (@doc $($key:ident)+) => { concat!("Labels:" $(, " `", registry!(@key $key), "`")+, ".") };
    (@key kind_) => { "kind" };
    (@key type_) => { "type" };
    (@key $key:ident) => { stringify!($key) };
    (@open open) => { true };
    (@open closed) => { false };
    (@later) => { None };
    (@later $feeder:literal) => { Some($feeder) };
    (@either either) => { true };
    (@either $other:ident) => { false };
    (@kind counter) => { Kind::Counter };
    (@kind either) => { Kind::Counter };
    (@kind gauge) => { Kind::Gauge };
    (@kind summary) => { Kind::Summary };
    (@kind histogram) => { Kind::Histogram };
    (@type counter, $($key:ident)*) => { Counter::<{ registry!(@count $($key)*) }> };
    (@type either, $($key:ident)*) => { Counter::<{ registry!(@count $($key)*) }> };
    (@type gauge, $($key:ident)*) => { Gauge::<{ registry!(@count $($key)*) }> };
    (@type summary, $($key:ident)*) => { Summary::<{ registry!(@count $($key)*) }> };
    (@type histogram, $($key:ident)*) => { Histogram::<{ registry!(@count $($key)*) }> };
    (@count) => { 0 };
    (@count $head:ident $($tail:ident)*) => { 1 + registry!(@count $($tail)*) };
}

impl Metrics {
    /// A registry in which nothing happened yet but that the process is up.
    pub fn new() -> Self {
        let metrics = Self::empty();
        metrics.dvt_up.set([], 1.0);
        metrics
    }

    /// Counts a message that passed verification: `qbft_msg_verified_total{type="…"}`.
    pub fn qbft_verified(&self, message_type: &str) {
        self.qbft_msg_verified_total.inc([message_type, ""]);
    }

    /// Counts a refused message by the first check it failed: `qbft_msg_verified_total{result="…"}`.
    pub fn qbft_refused(&self, result: &str) {
        self.qbft_msg_verified_total.inc(["", result]);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

registry! {
    // Table 1: families of the original.
    gauge dvt_up {} "1 while the process serves";
    counter api_requests_total { route: open("/health", "/v1/duty", "/v1/tx/plain", "proxy", "/metrics"), code: open() } "requests answered";
    summary api_latency_ms { route: open("/health", "/v1/duty", "/v1/tx/plain", "proxy", "/metrics") } "time from request head to response head";
    summary service_op_ms { service: open("api", "monitoring", "p2p", "tss"), op: closed("start", "stop") } "duration of a service's start or stop";
    counter consensus_events_total { kind: closed("duty", "consensus") } "inputs taken by the replica";
    summary consensus_proc_ms { kind: closed("duty", "consensus") } "from taking the input to having carried out its effects";
    counter consensus_broadcast_total { type_: open("prepare", "commit"), result: closed("ok", "error") } "own consensus messages handed to the transport";
    either qbft_msg_verified_total { type_: open("preprepare", "new_view", "prepare", "commit", "view_change", "decided"), result: closed("error", "unauthorized", "old", "round_oob", "sig_invalid", "replay") } "outcome of message verification: type when it passed, result when it was refused";
    counter qbft_msg_total { type_: open("preprepare", "new_view", "prepare", "commit", "view_change", "decided") } "verified messages handed to an instance";
    counter qbft_state_transitions_total { type_: open("preprepare", "new_view", "prepare", "commit", "view_change", "decided") } "messages an instance processed without error";
    counter qbft_qc_built_total { kind: closed("prepare", "commit") } "quorum reached, first time per instance and round";
    counter qbft_view_changes_total {} "an instance of any domain entered a higher round";
    counter qbft_timeouts_total { phase: closed("idle", "preprepared", "prepared", "commit") } "round timer fired, by the phase it found";
    counter qbft_wal_appends_total {} "own vote records made durable";
    counter qbft_wal_recover_total { result: open("ok", "torn", "corrupt") } "vote log read at start";
    counter qbft_wal_guard_drops_total {} "votes withheld because the log or the signing mark forbids them";
    summary state_persist_ms {} "one durable write of the last state";
    counter state_persist_errors_total {} "a durable write of the last state failed";
    counter state_recovery_total { result: closed("ok", "fallback", "fail") } "last state read at start";
    counter state_sync_verified_total { result: closed("disabled", "ok", "fail") } "group-signature checks of headers received by sync";
    counter block_sign_total { result: closed("ok", "error") } "own seal share made for a block";
    summary block_value_bids {} "sum of the bids of a decided block";
    summary block_value_fees {} "sum of the fees of a decided block";
    counter builder_policy_total { result: closed("default", "custom") } "policy applied at start";
    counter builder_selected_total { type_: closed("plaintext_v1", "auction_bid_v1", "private_v1") } "items put in an own proposal";
    counter builder_reject_total { type_: closed("plaintext_v1", "auction_bid_v1", "private_v1"), reason: open("late", "below_min_bid", "below_min_fee", "dfba_no_match", "over_budget") } "items not taken by an own proposal";
    counter mempool_in_total { result: closed("ok", "old", "future", "dup", "invalid", "overflow") } "admission of plaintext and auction transactions";
    gauge mempool_size {} "transactions held, pending and future";
    counter private_pool_in_total { result: open("ok", "invalid", "overflow", "dup", "old", "future") } "admission of private transactions" later "private transactions";
    gauge private_pool_size {} "private transactions held" later "private transactions";
    counter beast_decrypt_total { result: closed("ok", "early", "invalid", "not_ready", "cipher_error", "empty", "decode_error", "error") } "opening of private transactions, once per decided block" later "private transactions";
    counter beast_dkg_total { result: closed("ok", "skip", "config_error", "init_error", "start_error", "decrypt_enable_error", "epoch_bump", "bad_sig", "complaint", "dealer_disqualified") } "events of the ceremony for keys of private transactions" later "private transactions";
    counter dfba_solve_total { result: closed("ok", "fallback") } "auction runs" later "pairing selection";
    summary dfba_solve_ms {} "time of one auction run" later "pairing selection";
    counter dfba_accepted_total { flow: closed("solver", "user") } "matched items" later "pairing selection";
    counter dfba_rejected_total { flow: closed("solver", "user"), reason: open("no_pair") } "unmatched items" later "pairing selection";
    gauge dfba_clearing_price {} "last cleared price of the main market" later "pairing selection";
    counter p2p_config_checks_total { result: closed("ok", "error") } "P2P configuration checked at start";
    counter p2p_dkg_cluster_checks_total { result: closed("ok", "error") } "cluster lock checked at start";
    counter p2p_conn_attempts_total { result: closed("allowed", "denied", "limited", "dkg_denied", "rate_limited", "scored_out") } "connection attempts by final verdict";
    counter p2p_conn_open_total {} "connections opened";
    counter p2p_conn_close_total {} "connections closed";
    gauge p2p_conns_open {} "connections open now";
    counter p2p_peers_added_total {} "peers added to the peer table";
    counter p2p_peers_removed_total {} "peers removed from the peer table";
    counter p2p_peers_joined_total {} "join events reported to hooks";
    counter p2p_peers_left_total {} "leave events reported to hooks";
    counter p2p_messages_total { kind: closed("broadcast") } "logical broadcasts, one per message whatever the fan-out";
    summary p2p_broadcast_ms { kind: closed("broadcast") } "time to hand one broadcast to all peers' queues";
    counter p2p_msgs_total { topic: open(), direction: closed("rx", "tx"), result: closed("ok", "error", "decode_error") } "messages per topic, one per peer and direction";
    counter p2p_bytes_total { topic: open(), direction: closed("rx", "tx") } "bytes of those messages, frame included";
    counter tss_rate_limited_total { kind: closed("tss_session") } "signing sessions refused by the limiter; they wait for a place";
    gauge tss_sessions_open {} "signing sessions open now";
    counter tss_sessions_total { result: open("ok", "timeout", "failed") } "signing sessions and key ceremonies ended";
    summary tss_round_ms { round: closed("init", "gather", "combine") } "duration of a phase of a signing session";
    counter tss_msgs_total { type_: closed("propose", "commit", "reveal", "ack", "complaint") } "ceremony messages received";
    summary tss_persist_ms {} "durable write of key or ceremony state";
    counter tss_persist_errors_total {} "a durable write of key or ceremony state failed";
    counter tss_recovery_total { result: closed("ok", "fallback", "fail") } "key or ceremony state read";
    counter tss_e2e_requests_total { code: open() } "requests on the e2e signing port of test builds";
    summary tss_e2e_latency_ms {} "duration of requests on the e2e signing port of test builds";

    // Table 2: families of Swarm.
    gauge swarm_blockchain_height {} "height of the last block decided and executed here";
    counter swarm_blockchain_blocks_total { mode: closed("live", "batch") } "blocks executed and stored; batch is by sync";
    gauge swarm_blockchain_sync_lag_blocks {} "highest certified height a peer has shown minus own height";
    histogram swarm_consensus_round_duration_seconds {} "block domain: from entering a round to deciding in it or leaving it";
    counter swarm_consensus_byzantine_detected_total {} "distinct, fully verified evidence items first seen here";
    counter swarm_consensus_slashing_total {} "slashings executed by committed blocks" later "stake";
    counter swarm_consensus_slashed_stake_total {} "stake units removed by slashings" later "stake";
    counter swarm_consensus_faults_total {} "block-domain round timers that fired while there was work to agree on";
    counter consensus_view_changes_total {} "block domain: another leader's proposal was accepted in a round above 0";
    histogram consensus_view_change_interval_ms {} "time between two such takeovers";
    counter swarm_resilience_retry_attempts_total {} "calls after the first one of an operation" later "calls to beacon nodes";
    counter swarm_resilience_retry_success_total {} "operations that succeeded after at least one retry" later "calls to beacon nodes";
    counter swarm_resilience_retry_fail_total {} "operations given up: attempts, deadline or budget spent" later "calls to beacon nodes";
    counter swarm_resilience_circuit_open_total {} "breaker transitions to open" later "calls to beacon nodes";
    counter swarm_resilience_circuit_closed_total {} "breaker transitions from half-open to closed" later "calls to beacon nodes";
    gauge swarm_sync_progress_ratio {} "0 to 1, of the running sync";
    gauge swarm_sync_speed_bps {} "blocks per second of the running sync" later "issue 12: checkpoints";
    counter swarm_sync_errors_total { reason: closed("bad_chunk", "bad_cert", "timeout", "no_peer") } "failed steps of a sync";

    // First new families.
    counter qbft_verify_results_total { type_: open("preprepare", "new_view", "prepare", "commit", "view_change", "decided"), result: closed("ok", "too_large", "malformed", "wrong_cluster", "not_member", "not_leader", "old", "height_oob", "round_oob", "bad_sig", "bad_justification", "replay") } "outcome of message verification by type and finer reason";
    counter p2p_gate_decisions_total { gate: closed("allowlist", "rate", "score", "lock", "resource"), result: closed("allowed", "denied") } "decisions of each connection gate";
    counter mempool_removed_total { type_: closed("plaintext_v1", "auction_bid_v1", "private_v1"), reason: closed("included", "replaced", "evicted", "expired", "stale") } "transactions that left a pool";
    gauge resilience_breaker_state { target: open() } "0 closed, 1 half-open, 2 open" later "calls to beacon nodes";
    gauge checkpoint_stable_height {} "height of the last stable checkpoint";
    counter state_root_compare_total { result: closed("agree", "disagree", "unknown") } "comparisons of own state root with that of a member's proposal";
    gauge node_fenced {} "1 while the node is fenced";
    counter reconciliation_total { result: closed("complete", "failed", "requires_replay") } "repairs of a diverged node";
    counter slashing_protection_refusals_total { duty: open("attester", "proposer", "sync"), reason: closed("double", "surround", "low_watermark", "db_error") } "duties refused by slashing protection" later "issue 13: signing core";
    counter duty_results_total { duty: open("attester", "proposer", "sync"), result: closed("signed", "refused", "expired", "undecided") } "how duties ended";
    gauge readiness { reason: open("starting", "replaying", "syncing", "insufficient_peers", "fenced", "storage_error", "clock", "beacon_down", "beacon_syncing", "beacon_no_peers", "engine", "stopping") } "1 while the reason for not being ready holds";
    counter api_turned_away_total { service: open("api", "monitoring"), reason: closed("connections", "client", "evicted", "slow", "streams", "proxied", "tunnels", "blocks", "bodies", "batches") } "connections and requests turned away or cut off by a limit";
    counter mempool_offered_again_total {} "transactions offered to the members again because no block held them";
    gauge clock_offset_ms { operator: open() } "a member's clock minus this node's, by its last status";
    gauge chain_time_ahead_ms {} "timestamp of the last block minus this node's clock when it was decided";
    gauge block_store_memory_bytes {} "bytes the block store keeps in memory: its cache and what is in no table yet, both bounded";
    gauge blocks_unsealed {} "decided blocks since the last one with a group seal, where seals are on";
    counter block_store_conflicts_total {} "another block arrived for a stored height" later "issue 12: checkpoints";
}
