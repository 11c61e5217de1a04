//! From notices to metrics, log lines and event streams. Nothing here changes what the node does.

use super::checkpoint::Stable;
use super::events::Events;
use super::facts::Facts;
use super::keys::OperatorKeys;
use super::sessions::SessionWatch;
use crate::wall_ms;
use aequa_api::backend::EventBody;
use aequa_mempool::{Admission, Mempool, RejectReason, RemovalReason};
use aequa_qbft::{Note, Phase};
use aequa_replica::{Input, Notice, Replica, RootComparison};
use aequa_telemetry::Metrics;
use aequa_telemetry::log::{Admit, RateLimiter};
use aequa_telemetry::metrics::elapsed_ms;
use aequa_types::json::EvidenceJson;
use aequa_types::{
    Certificate, CertifiedHeader, CheckedBlock, Claim, Digest, DutyId, Evidence, Height, InstanceId, Offence,
    OperatorIndex, Record, Round, TxKind,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Blocks without a group seal that are worth a warning, since seals come a block or two late; told again
/// whenever there are twice as many.
const UNSEALED_TOLD: u64 = 16;

/// Metrics, log events and event streams of one node; owned by the core.
pub struct Observatory {
    metrics: Arc<Metrics>,
    events: Events,
    facts: Arc<Facts>,
    turn: Option<Turn>,
    removed: BTreeMap<(TxKind, RemovalReason), u64>,
    round_entered: Instant,
    last_takeover: Option<Instant>,
    refusals: RateLimiter<OperatorIndex>,
    /// The last block with a group seal, where decisions are sealed.
    last_sealed: Option<Height>,
    sessions: SessionWatch,
}

/// What a turn has taken so far.
struct Turn {
    since: Instant,
    consensus: u64,
    duty: u64,
}

impl Observatory {
    /// An observatory that has seen nothing yet but what the board says the node starts from.
    pub fn new(metrics: Arc<Metrics>, events: Events, facts: Arc<Facts>, seals: bool) -> Self {
        let tip = facts.tip_height();
        if tip > Height(0) {
            metrics.swarm_blockchain_height.set([], tip.0 as f64);
        }
        if let Some(stable) = facts.stable_checkpoint() {
            metrics.checkpoint_stable_height.set([], stable.height.0 as f64);
        }
        Self {
            sessions: SessionWatch::new(Arc::clone(&metrics)),
            metrics,
            events,
            facts,
            turn: None,
            removed: BTreeMap::new(),
            round_entered: Instant::now(),
            last_takeover: None,
            refusals: RateLimiter::new(),
            last_sealed: seals.then_some(tip),
        }
    }

    /// An input is about to be taken.
    pub fn input(&mut self, input: &Input) {
        let turn = self.turn.get_or_insert_with(|| Turn { since: Instant::now(), consensus: 0, duty: 0 });
        match input {
            Input::Message { message, .. } => {
                turn.consensus += 1;
                self.metrics.consensus_events_total.inc(["consensus"]);
                received("consensus");
                let type_name = message.type_name();
                self.metrics.qbft_msg_total.inc([type_name]);
                self.metrics.qbft_state_transitions_total.inc([type_name]);
            }
            Input::Duty { .. } => {
                turn.duty += 1;
                self.metrics.consensus_events_total.inc(["duty"]);
                received("duty");
            }
            Input::Statement(_)
            | Input::Evidence(_)
            | Input::Transactions(_)
            | Input::Timer(_)
            | Input::Combined { .. }
            | Input::Fetched { .. }
            | Input::FetchFailed { .. }
            | Input::PeerHeight { .. }
            | Input::MayLead(_)
            | Input::EndEpoch(_)
            | Input::Superseded
            | Input::PeerConnected(_)
            | Input::Testimony { .. } => {}
        }
    }

    /// These records of a turn are durable.
    pub fn records_durable<'a>(&self, records: impl IntoIterator<Item = &'a Record>) {
        // What others were heard to say is written beside, and may not be durable yet.
        let own = records.into_iter().filter(|record| !matches!(record, Record::Heard(_)));
        for record in own {
            self.metrics.qbft_wal_appends_total.inc([]);
            let (name, instance, round) = record_coordinates(record);
            tracing::debug!(
                target: "event",
                op = "append",
                result = "ok",
                "type" = name,
                height = instance.number(),
                round = round.map(|round| round.0),
                "qbft_wal"
            );
            if let Record::Commit(commit) = record
                && let Claim::Commit(claim) = &commit.claim
                && claim.seal.is_some()
                && instance.is_block()
            {
                self.metrics.block_sign_total.inc(["ok"]);
                tracing::debug!(
                    target: "event",
                    op = "sign",
                    result = "ok",
                    height = instance.number(),
                    round = commit.round.0,
                    "consensus_block"
                );
            }
        }
    }

    /// A client's transaction got its answer.
    pub fn admitted(&self, admission: Admission) {
        self.metrics.mempool_in_total.inc([admission.name()]);
    }

    /// All effects of the turn are carried out.
    pub fn turn_ended(&mut self, replica: &Replica<OperatorKeys>) {
        if let Some(turn) = self.turn.take() {
            let ms = elapsed_ms(turn.since);
            (0..turn.consensus).for_each(|_| self.metrics.consensus_proc_ms.observe(["consensus"], ms));
            (0..turn.duty).for_each(|_| self.metrics.consensus_proc_ms.observe(["duty"], ms));
        }
        self.pools(replica.mempool());
        if self.last_sealed.is_some() {
            self.metrics.tss_sessions_open.set([], replica.open_sessions() as f64);
        }
    }

    /// What the block store keeps in memory.
    pub fn store_memory(&self, bytes: u64) {
        self.metrics.block_store_memory_bytes.set([], bytes as f64);
    }

    fn pools(&mut self, mempool: &Mempool) {
        let held: usize = TxKind::ALL.into_iter().map(|kind| mempool.len(kind)).sum();
        self.metrics.mempool_size.set([], held as f64);
        for kind in TxKind::ALL {
            for reason in RemovalReason::ALL {
                let total = mempool.removed_total(kind, reason);
                let known = self.removed.entry((kind, reason)).or_default();
                if total > *known {
                    self.metrics.mempool_removed_total.add([kind.name(), reason.name()], total - *known);
                    *known = total;
                }
            }
        }
    }

    /// Something happened in the replica.
    pub fn notice(&mut self, notice: Notice, replica: &Replica<OperatorKeys>) {
        match notice {
            Notice::BlockDecided { block, certificate, latency_ms, live } => {
                let behind = replica.best_peer_height().0.saturating_sub(block.header().height.0);
                self.metrics.swarm_blockchain_sync_lag_blocks.set([], behind as f64);
                self.block_decided(&block, certificate, latency_ms, live);
            }
            Notice::Sealed(certificate) => match certificate.instance {
                InstanceId::Block(height) => self.block_sealed(height),
                InstanceId::Duty(duty) => {
                    self.duty_result(duty, "signed", replica);
                    self.duty_event(duty, replica);
                }
            },
            Notice::Session(decision, event) => {
                let now = Instant::now();
                let turn_began = self.turn.as_ref().map_or(now, |turn| turn.since);
                self.sessions.happened(decision, event, turn_began, now);
            }
            Notice::DutyEnded { duty, certificate } => self.duty_ended(duty, certificate, replica),
            Notice::Evidence(evidence) => self.evidence_found(&evidence),
            Notice::Consensus(instance, note) => self.consensus(instance, note),
            Notice::ShareBlamed { operator, instance, round } => {
                if let Admit::Write { suppressed } =
                    self.refusals.admit("share_blamed", &operator, Instant::now())
                {
                    tracing::warn!(
                        target: "event",
                        operator = operator.0,
                        domain = instance.domain().name(),
                        height = instance.number(),
                        round = round.0,
                        reason = "share does not verify",
                        suppressed,
                        "share_blamed"
                    );
                }
            }
            Notice::Removed(_) => {}
            Notice::Proposed { height, round, block, rejected } => {
                self.proposed(height, round, &block, &rejected)
            }
            Notice::BestPeerHeight(best) => {
                let own = replica.chain().tip().height;
                self.metrics.swarm_blockchain_sync_lag_blocks.set([], best.0.saturating_sub(own.0) as f64);
            }
            Notice::Rejoining { answers, needed } => {
                tracing::warn!(target: "event", result = "wait", answers, needed, "signing_inquiry")
            }
            Notice::Abstaining(watermarks) => {
                for watermark in watermarks {
                    let (domain, height) = (watermark.domain().name(), watermark.number());
                    tracing::warn!(target: "event", result = "done", domain, height, "signing_inquiry");
                }
            }
            Notice::RootCompared(comparison) => {
                self.metrics.state_root_compare_total.inc([match comparison {
                    RootComparison::Agree => "agree",
                    RootComparison::Disagree => "disagree",
                    RootComparison::Unknown => "unknown",
                }])
            }
            Notice::RootDiffers { operator, height, ours, theirs } => {
                self.root_differs(operator, height, ours, theirs);
            }
            Notice::ClusterDiverged { height, roots } => cluster_diverged(height, &roots),
        }
    }

    /// A member stands for another state root than ours.
    fn root_differs(&mut self, operator: OperatorIndex, height: Height, ours: Digest, theirs: Digest) {
        let event = "DIVERGENCE_DETECTED";
        let Admit::Write { suppressed } = self.refusals.admit(event, &operator, Instant::now()) else {
            return;
        };
        let peers = self.facts.peers();
        let peer = peers.get(operator.as_usize()).map_or("", |peer| peer.peer_id.as_str());
        tracing::warn!(
            target: "event",
            event,
            peer,
            height = height.0,
            ledger = height.0,
            localRoot = format!("{ours:x}"),
            peerRoot = format!("{theirs:x}"),
            operator = operator.0,
            // Of the history no member says anything.
            historyDiffers = false,
            suppressed,
            "DIVERGENCE_DETECTED"
        );
    }

    /// The block after a checkpoint was decided.
    pub fn checkpoint_stable(&self, stable: &Stable) {
        let Stable { at, state_root, history_root, signers } = stable;
        self.metrics.checkpoint_stable_height.set([], at.height.0 as f64);
        tracing::info!(
            target: "event",
            height = at.height.0,
            block_root = %at.block_root,
            %state_root,
            %history_root,
            signers = aequa_telemetry::log::json(signers),
            "checkpoint_stable"
        );
        self.events.publish(|| EventBody::Checkpoint(*at));
    }

    fn block_decided(
        &mut self,
        block: &Arc<CheckedBlock>,
        certificate: Certificate,
        latency_ms: Option<u64>,
        live: bool,
    ) {
        let header = block.header();
        let (height, round) = (header.height, certificate.round);
        if certificate.group_seal().is_some() {
            self.block_sealed(height);
        }
        self.look_for_seals(height);
        self.metrics.chain_time_ahead_ms.set([], header.timestamp_ms as f64 - wall_ms() as f64);
        let (bids, fees) = (header.total_bids.to::<u128>(), header.total_fees.to::<u128>());
        self.metrics.swarm_blockchain_height.set([], height.0 as f64);
        self.metrics.swarm_blockchain_blocks_total.inc([if live { "live" } else { "batch" }]);
        self.metrics.block_value_bids.observe([], bids as f64);
        self.metrics.block_value_fees.observe([], fees as f64);
        if live {
            let round_seconds = self.round_entered.elapsed().as_secs_f64();
            self.metrics.swarm_consensus_round_duration_seconds.observe([], round_seconds);
        }
        self.round_entered = Instant::now();
        tracing::info!(
            target: "event",
            height = height.0,
            round = round.0,
            digest = %block.digest(),
            proposer = header.proposer.0,
            items = header.items,
            latency_ms = latency_ms.unwrap_or_default(),
            "block_decided"
        );
        tracing::info!(
            target: "event",
            height = height.0,
            round = round.0,
            bids,
            fees,
            items = header.items,
            "consensus_block_value"
        );
        self.events.block(height, || CertifiedHeader { header: header.clone(), certificate });
    }

    fn block_sealed(&mut self, height: Height) {
        if let Some(last) = self.last_sealed.as_mut() {
            *last = height.max(*last);
        }
    }

    /// Without a group seal a block is checked with the commits of q operators and no longer with the group key
    /// alone. Nothing else stops, so somebody has to say it.
    fn look_for_seals(&self, height: Height) {
        let Some(last) = self.last_sealed else { return };
        let unsealed = height.0.saturating_sub(last.0);
        self.metrics.blocks_unsealed.set([], unsealed as f64);
        if unsealed >= UNSEALED_TOLD && unsealed.is_power_of_two() {
            tracing::warn!(
                target: "event",
                height = height.0,
                unsealed,
                hint = "fewer than a quorum of operators run with --enable-tss and --enable-tss-sign, or their shares \
                        are bad (share_blamed): these blocks are not checkable with the group key",
                "seals_missing"
            );
        }
    }

    /// An operator contradicted itself, and this node sees the proof for the first time.
    fn evidence_found(&self, evidence: &Evidence) {
        let Offence { operator, key } = evidence.offence();
        self.metrics.swarm_consensus_byzantine_detected_total.inc([]);
        self.events.publish(|| EventBody::Evidence(EvidenceJson::from(evidence)));
        tracing::warn!(
            target: "event",
            kind = key.kind.name(),
            operator = operator.0,
            domain = key.instance.domain().name(),
            height = key.instance.number(),
            round = key.round.0,
            digest_a = %evidence.first().digest().unwrap_or_default(),
            digest_b = %evidence.second().digest().unwrap_or_default(),
            "evidence_found"
        );
    }

    fn duty_event(&self, duty: DutyId, replica: &Replica<OperatorKeys>) {
        let Some(state) = replica.duty(duty) else { return };
        self.events.publish(|| EventBody::Duty(super::duty_view::live(duty, state)));
    }

    /// A decided duty has its result only when the group has signed it; without seals it has none.
    fn duty_ended(
        &mut self,
        duty: DutyId,
        certificate: Option<Certificate>,
        replica: &Replica<OperatorKeys>,
    ) {
        match certificate {
            None => self.duty_result(duty, "expired", replica),
            Some(certificate) if certificate.group_seal().is_some() => {
                self.duty_result(duty, "signed", replica);
            }
            Some(_) => {}
        }
        self.duty_event(duty, replica);
    }

    fn duty_result(&self, duty: DutyId, result: &'static str, replica: &Replica<OperatorKeys>) {
        self.metrics.duty_results_total.inc([duty.kind.name(), result]);
        let state = replica.duty(duty);
        let latency_ms = state.and_then(|state| state.timeline.last()).map_or(0, |(t_ms, _)| *t_ms);
        tracing::info!(
            target: "event",
            duty = duty.kind.name(),
            slot = duty.slot.0,
            result,
            latency_ms,
            trace_id = "",
            "duty_result"
        );
    }

    fn proposed(
        &self,
        height: Height,
        round: Round,
        block: &CheckedBlock,
        rejected: &[(TxKind, RejectReason)],
    ) {
        for item in block.items() {
            self.metrics.builder_selected_total.inc([item.body().kind().name()]);
        }
        for (kind, reason) in rejected {
            self.metrics.builder_reject_total.inc([kind.name(), reason.name()]);
        }
        let header = block.header();
        tracing::debug!(
            target: "event",
            result = "ok",
            height = height.0,
            round = round.0,
            items = header.items,
            bids = header.total_bids.to::<u128>(),
            fees = header.total_fees.to::<u128>(),
            "consensus_builder"
        );
    }

    fn consensus(&mut self, instance: InstanceId, note: Note) {
        let of_chain = instance.is_block();
        if let Some((event_type, round, phase)) = transition(&note) {
            tracing::debug!(
                target: "event",
                op = "transition",
                event_type,
                height = instance.number(),
                round = round.0,
                phase,
                trace_id = "",
                "qbft_state"
            );
        }
        match note {
            Note::RoundEntered(_) => {
                self.metrics.qbft_view_changes_total.inc([]);
                if of_chain {
                    let seconds = self.round_entered.elapsed().as_secs_f64();
                    self.metrics.swarm_consensus_round_duration_seconds.observe([], seconds);
                    self.round_entered = Instant::now();
                }
            }
            Note::ProposalAccepted(round, _) if of_chain && round > Round(0) => {
                self.metrics.consensus_view_changes_total.inc([]);
                if let Some(last) = self.last_takeover.replace(Instant::now()) {
                    self.metrics.consensus_view_change_interval_ms.observe([], elapsed_ms(last));
                }
            }
            Note::ProposalAccepted(..) => {}
            Note::PrepareQuorum(_) => self.metrics.qbft_qc_built_total.inc(["prepare"]),
            Note::CommitQuorum(_) => self.metrics.qbft_qc_built_total.inc(["commit"]),
            Note::TimedOut(_, phase) => {
                self.metrics.qbft_timeouts_total.inc([phase_name(phase)]);
                if of_chain {
                    self.metrics.swarm_consensus_faults_total.inc([]);
                }
            }
            Note::Refused(from, refusal) => {
                if let Admit::Write { suppressed } = self.refusals.admit("qbft_verify", &from, Instant::now())
                {
                    tracing::warn!(
                        target: "event",
                        result = "error",
                        "type" = "",
                        trace_id = "",
                        height = instance.number(),
                        from = %from,
                        err = %refusal,
                        suppressed,
                        "qbft_verify"
                    );
                }
            }
            // The replica tells of it as evidence, once.
            Note::Conflict(_) => {}
            Note::SignerRefused(round) => {
                self.metrics.qbft_wal_guard_drops_total.inc([]);
                tracing::error!(
                    target: "event",
                    result = "drop",
                    height = instance.number(),
                    round = round.0,
                    "qbft_wal_guard"
                );
            }
        }
    }
}

/// No root has f+1 backers.
fn cluster_diverged(height: Height, roots: &[(Digest, Vec<OperatorIndex>)]) {
    let told = |(root, backers): &(Digest, Vec<OperatorIndex>)| {
        let root = format!("{root:x}");
        serde_json::json!({ "root": root, "backers": backers })
    };
    let roots: Vec<serde_json::Value> = roots.iter().map(told).collect();
    tracing::error!(
        target: "event",
        event = "CLUSTER_DIVERGED",
        height = height.0,
        roots = aequa_telemetry::log::json(&roots),
        "CLUSTER_DIVERGED"
    );
}

/// An input reached the replica.
fn received(kind: &str) {
    tracing::debug!(target: "event", kind, trace_id = "", result = "recv", latency_ms = 0.0, "consensus_recv");
}

/// The step of the instance a note tells of: what caused it, its round, the phase it led to.
fn transition(note: &Note) -> Option<(&'static str, Round, &'static str)> {
    match note {
        Note::RoundEntered(round) => Some(("view_change", *round, phase_name(Phase::Idle))),
        Note::ProposalAccepted(Round(0), _) => Some(("preprepare", Round(0), phase_name(Phase::Preprepared))),
        Note::ProposalAccepted(round, _) => Some(("new_view", *round, phase_name(Phase::Preprepared))),
        Note::PrepareQuorum(round) => Some(("prepare", *round, phase_name(Phase::Prepared))),
        Note::CommitQuorum(round) => Some(("commit", *round, phase_name(Phase::Commit))),
        Note::TimedOut(..) | Note::Refused(..) | Note::Conflict(_) | Note::SignerRefused(_) => None,
    }
}

/// Type, instance and round of a record, as far as it has them.
fn record_coordinates(record: &Record) -> (&'static str, InstanceId, Option<Round>) {
    let instance = record.instance();
    match record {
        Record::PrePrepare(own) => ("preprepare", instance, Some(own.proposal.round)),
        Record::Prepare(own) => ("prepare", instance, Some(own.round)),
        Record::Prepared(prepared) => ("prepared", instance, Some(prepared.round)),
        Record::Commit(own) => ("commit", instance, Some(own.round)),
        Record::Round(entered) => ("view_change", instance, Some(entered.round)),
        Record::Decided(certificate) => ("decided", instance, Some(certificate.round)),
        Record::Value(_) => ("value", instance, None),
        Record::Heard(signed) => ("heard", instance, Some(signed.round)),
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "idle",
        Phase::Preprepared => "preprepared",
        Phase::Prepared => "prepared",
        Phase::Commit => "commit",
    }
}
