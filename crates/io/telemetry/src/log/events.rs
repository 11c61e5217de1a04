//! Every event there is, with its field keys. The one place to add one. `later` says what will cause an event that
//! nothing causes yet: the contract has it declared from the beginning. `trace_id` is empty where no request is known to
//! have caused the event; consensus and gossip do not carry it through yet.

use serde_json::Value;

/// Declaration of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventInfo {
    /// `msg`.
    pub name: &'static str,
    /// Its field keys beside ts, level and msg; those ending in `?` only when they apply.
    pub fields: &'static [&'static str],
    /// What will cause it, when nothing does yet.
    pub later: Option<&'static str>,
}

/// Keys any event may carry beside its own: an error, and the mark of the rate limiter.
const COMMON: [&str; 2] = ["err", "suppressed"];

/// Whether a parsed JSON line is a declared event with declared fields; the text says what is wrong.
pub fn check(line: &Value) -> Result<(), String> {
    let object = line.as_object().ok_or("a line must be an object")?;
    let name = object.get("msg").and_then(Value::as_str).ok_or("msg must be a string")?;
    let info =
        EVENTS.iter().find(|info| info.name == name).ok_or_else(|| format!("undeclared event {name}"))?;
    for key in ["ts", "level"] {
        object.get(key).and_then(Value::as_str).ok_or_else(|| format!("{name}: {key} must be a string"))?;
    }
    let declared = |key: &str| info.fields.iter().any(|field| field.trim_end_matches('?') == key);
    for key in object.keys().filter(|key| !matches!(key.as_str(), "ts" | "level" | "msg")) {
        // Fields of a library's own line are its business.
        if !declared(key) && !COMMON.contains(&key.as_str()) && name != "log" {
            return Err(format!("{name}: undeclared field {key}"));
        }
    }
    match info.fields.iter().find(|field| !field.ends_with('?') && !object.contains_key(**field)) {
        Some(missing) => Err(format!("{name}: field {missing} is missing")),
        None => Ok(()),
    }
}

macro_rules! events {
    ($($name:ident: $fields:literal $( ; later $feeder:literal )?)*) => {
        /// All events, in the order of the contract.
        pub const EVENTS: &[EventInfo] = &[$( EventInfo {
            name: stringify!($name),
            fields: &split::<{ count($fields) }>($fields),
            later: events!(@later $($feeder)?),
        } ),*];
    };
    (@later) => { None };
    (@later $feeder:literal) => { Some($feeder) };
}

/// Number of words in `text`.
const fn count(text: &str) -> usize {
    let (bytes, mut words, mut at) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        if bytes[at] != b' ' && (at == 0 || bytes[at - 1] == b' ') {
            words += 1;
        }
        at += 1;
    }
    words
}

/// The words of `text`, separated by single spaces.
const fn split<const N: usize>(text: &'static str) -> [&'static str; N] {
    let mut words = [""; N];
    let (mut rest, mut word) = (text, 0);
    while word < N {
        let (bytes, mut end) = (rest.as_bytes(), 0);
        while end < bytes.len() && bytes[end] != b' ' {
            end += 1;
        }
        let (head, tail) = rest.split_at(end);
        words[word] = head;
        rest = if tail.is_empty() { tail } else { tail.split_at(1).1 };
        word += 1;
    }
    words
}

events! {
    // Events of the original.
    api_request: "route code latency_ms result trace_id bytes? err?"
    service_op: "service op result latency_ms err?"
    consensus_recv: "kind trace_id result latency_ms"
    consensus_state: "op result height? round? latency_ms? err? trace_id"
    consensus_broadcast: "result type height round trace_id err?"
    consensus_builder: "result height round items? bids? fees? err?"
    consensus_builder_policy: "result order max_n use_dfba policy_hash"
    consensus_block_value: "height round bids fees items"
    consensus_block: "op result height round err?"
    consensus_state_sync: "result"; later "issue 12: checkpoints"
    fee_sink: "result code? err? height attempt"; later "fee sink"
    qbft_verify: "result reason? id? type trace_id height? min? max? round? window? from?"
    qbft_state: "op event_type height round phase trace_id note? reason? from? expect? got?"
    qbft_wal: "op result type? height? round?"
    qbft_wal_guard: "result height? round? last_h? last_r?"
    signing_inquiry: "result reason? answers? needed? domain? height?"
    epoch: "result epoch? last_height? first_height? operators? operator?"
    qbft_attack: "result type height round id trace_id latency_ms"
    tss_attack: "code latency_ms trace_id"
    tss_session: "event? op? phase? result? latency_ms? err? trace_id domain? height? round?"
    tss_storage: "op result latency_ms? err? trace_id"
    beast_config: "result reason? err?"; later "private transactions"
    beast_dkg: "result reason? epoch? dealer? index? threshold? group_pubkey_b64? err?"; later "private transactions"
    p2p_addr: "self_id addr"
    p2p_start: "result err?"
    p2p_config: "result err"
    p2p_dkg_cluster: "result err?"
    p2p_dkg_gate: "peer_id result"
    p2p_peer: "event peer_id latency_ms result trace_id"
    p2p_broadcast: "peers latency_ms trace_id"
    // State-root events.
    DIVERGENCE_DETECTED: "event peer height ledger localRoot peerRoot operator historyDiffers"
    SELF_FENCED: "event reason height ledger localRoot peerRoot backers"
    CLUSTER_DIVERGED: "event height roots"
    RECONCILIATION_START: "event peer? height ledger localRoot peerRoot attempt"
    RECONCILIATION_FIRST_DIVERGING_LEDGER: "event height ledger firstDivergingLedger queries table? key?"; later "issue 12: fence"
    RECONCILIATION_COMPLETE: "event height ledger root replayedFrom duration_ms"
    RECONCILIATION_FAILED: "event height step err attempt"
    RECONCILIATION_REQUIRES_REPLAY: "event height firstDivergingLedger action"
    UNFENCED: "event by reason height root"
    FENCE_RESTORED: "event since reason height"
    // First new events.
    listen: "service addr"
    fatal: "err hint"
    config: "config source"
    block_decided: "height round digest proposer items latency_ms"
    checkpoint_stable: "height block_root state_root history_root signers"
    evidence_found: "kind operator domain height round digest_a digest_b"
    slashed: "operator reason amount? height until?"; later "stake"
    jailed: "operator reason amount? height until?"; later "stake"
    released: "operator reason amount? height until?"; later "stake"
    duty_result: "duty slot result reason? latency_ms trace_id"
    slashing_refused: "duty slot? source? target? pubkey reason"; later "issue 13: signing core"
    share_blamed: "operator domain height round reason"
    breaker: "target from to failure_rate samples"; later "calls to beacon nodes"
    peer_score: "peer_id score reason"; later "scores that are told"
    readiness: "ready reasons"
    clock_offset: "peer_id offset_ms"
    snapshot: "op result height? chunks? rows? of? eta_s? operator? err?"
    seals_missing: "height unsealed hint"
    // Of this implementation: what an operator should know at start, a library's line, and lines
    // the output had no room for, or that said the same too often.
    api_turned_away: "service reason client"
    warning: "text"
    log: "target text"
    log_dropped: "count warnings?"
    log_repeated: "event count"
}
