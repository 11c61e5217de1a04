//! Frames to inputs: what comes from the other operators.
//!
//! [`Inbox`] turns frames into verified inputs on the reader tasks: bounded, decoded, checked, and
//! only then handed to the core, whose queue slows the reader when it is full. It decides nothing. Votes of members
//! wait in an [`Intake`] for the others that a quorum needs.

use super::accepted::Accepted;
use super::answers;
use super::budget::{Call, timed};
use super::command::Core;
use super::context::Context;
use aequa_crypto::verify::Refusal;
use aequa_host::intake::{Agreeing, Intake, WAIT_MS};
use aequa_p2p::{GossipVerdict, Handler, Message as Frame, Topic, Verdict};
use aequa_replica::Input;
use aequa_telemetry::log::{Admit, RateLimiter};
use aequa_types::limits::{EVIDENCE_BYTES_MAX, ROUND_WINDOW, TX_FRAME_BYTES_MAX};
use aequa_types::message::{ValueReply, duty_digest};
use aequa_types::wire::{self, WireKind};
use aequa_types::{Evidence, Height, InstanceId, Message, OperatorIndex, Signed, Transaction, Verified};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Messages of blocks further above the stored height are dropped: the core keeps fewer, and blocks this far
/// ahead are fetched.
const HEIGHTS_AHEAD: u64 = 8;
/// Messages of blocks this far below are dropped: the core has forgotten their instances.
const HEIGHTS_BEHIND: u64 = 33;
/// Values above this size are checked off the reactor's own threads.
const LARGE_VALUE_BYTES: usize = 16 * 1024;

/// A message whose bytes are those of its envelope's kind.
pub fn decode_as(kind: &WireKind, body: &[u8], bytes_max: usize) -> Option<Message> {
    let message = aequa_types::decode::<Message>("message", body, bytes_max).ok()?;
    (message.kind() == kind).then_some(message)
}

/// Handles what members send.
pub struct Inbox {
    context: Arc<Context>,
    accepted: Accepted,
    refusals: RateLimiter<OperatorIndex>,
    intake: Mutex<Intake>,
    /// Something waits in the intake.
    waits: Arc<Notify>,
    started: Instant,
}

impl Inbox {
    /// An inbox for this node. `seals`: whether blocks have seals.
    pub fn new(context: Arc<Context>, seals: bool) -> Self {
        let intake = Mutex::new(Intake::new(context.quorum, seals));
        Self {
            context,
            accepted: Accepted::default(),
            refusals: RateLimiter::new(),
            intake,
            waits: Arc::default(),
            started: Instant::now(),
        }
    }

    /// Hands on what has waited too long, for as long as the inbox lives.
    pub fn watch(self: &Arc<Self>) {
        tokio::spawn(hand_on_overdue(Arc::downgrade(self), Arc::clone(&self.waits)));
    }

    async fn consensus(&self, from: OperatorIndex, frame: Frame) -> Verdict {
        let Some(kind) = WireKind::of_number(frame.kind) else { return Verdict::Unknown };
        let bytes_max = kind.body_bytes_max(self.context.quorum);
        let Some(message) = decode_as(kind, &frame.body, bytes_max) else {
            self.count("unknown", "malformed");
            return Verdict::Malformed;
        };
        let to_check = self.intake.lock().arrived(self.now_ms(), self.agreeing(), from, message);
        if to_check.is_empty() {
            self.waits.notify_one();
        }
        let mut worth = Verdict::Unknown;
        for message in to_check {
            worth = self.take(from, message, frame.body.len()).await.unwrap_or_else(|refused| refused);
        }
        worth
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn agreeing(&self) -> Agreeing {
        let (round, _) = self.context.facts.agreeing();
        Agreeing { tip: self.context.facts.tip_height(), round }
    }

    /// Checks a decoded message of `bytes` and hands it to the core, at once or with others: the one way in, whatever
    /// carried it. What it is worth, as an error when it was refused.
    pub async fn take(
        &self,
        from: OperatorIndex,
        message: Message,
        bytes: usize,
    ) -> Result<Verdict, Verdict> {
        let (message, verdict) = self.check(from, message, bytes).await?;
        let passed = self.intake.lock().passed(self.now_ms(), self.agreeing(), from, message);
        if passed.is_empty() {
            self.waits.notify_one();
        }
        let taken = self.context.inputs(passed.into_iter().map(input).collect()).await;
        taken.then_some(verdict).ok_or(Verdict::Unknown)
    }

    /// Hands on what has waited for others long enough. Whether something still waits.
    async fn hand_on_overdue(&self) -> bool {
        let overdue = self.intake.lock().overdue(self.now_ms(), self.agreeing());
        overdue.unneeded.into_iter().for_each(|kind| self.count(kind.name(), "old"));
        let mut inputs: Vec<_> = overdue.checked.into_iter().map(input).collect();
        for (from, message) in overdue.unchecked {
            // A bad one is charged to its sender like any check; its connection has no more to do with it.
            let checked = self.check(from, message, 0).await;
            inputs.extend(checked.ok().map(|(message, _)| input((from, message))));
        }
        self.context.inputs(inputs).await;
        self.intake.lock().holds_any()
    }

    /// Checks a decoded message of `bytes`: what is for the core, and what it is worth. Refused is for the first
    /// reason of the contract's order: members and leaders, then the window, then signatures (metrics, section 4).
    async fn check(
        &self,
        from: OperatorIndex,
        message: Message,
        bytes: usize,
    ) -> Result<(Verified, Verdict), Verdict> {
        let type_name = message.type_name();
        if let Some(refusal) = self.not_entitled(&message) {
            return Err(self.refuse(from, type_name, &refusal));
        }
        if let Some(late) = self.late_statement(&message) {
            self.count(type_name, "old");
            return Err(self.compare(from, late).await);
        }
        let refused = self.out_of_place(&message).or_else(|| self.over_budget(from, &message));
        if let Some((result, verdict)) = refused {
            self.count(type_name, result);
            return Err(verdict);
        }
        match self.verify(from, message, bytes) {
            Ok(Verified::ValueReply { instance, value })
                if !self.context.wanted.arrived(instance, value.digest()) =>
            {
                self.count(type_name, "old");
                Err(Verdict::Useless)
            }
            Ok(message) => {
                // Known ones are handed on too: to an instance that has decided, a repetition is a call for help.
                let (result, verdict) = match self.accepted.is_new(&message) {
                    true => ("ok", Verdict::Accept),
                    false => ("replay", Verdict::Useless),
                };
                self.count(type_name, result);
                tracing::debug!(target: "event", result, "type" = type_name, trace_id = "", from = %from, "qbft_verify");
                Ok((message, verdict))
            }
            Err(refusal) => Err(self.refuse(from, type_name, &refusal)),
        }
    }

    /// Counts and tells a refusal; what it costs the carrier.
    fn refuse(&self, from: OperatorIndex, type_name: &str, refusal: &Refusal) -> Verdict {
        self.count(type_name, refusal.result());
        if let Admit::Write { suppressed } = self.refusals.admit("qbft_verify", &from, Instant::now()) {
            let result = coarse(refusal.result());
            tracing::warn!(target: "event", result, "type" = type_name, trace_id = "", from = %from, err = %refusal, suppressed, "qbft_verify");
        }
        verdict(refusal)
    }

    /// Why the author may not say this at all, whenever it is said and however it is signed.
    fn not_entitled(&self, message: &Message) -> Option<Refusal> {
        let (said, quorum) = (message.statement()?, self.context.quorum);
        let proposes = matches!(message, Message::PrePrepare(_));
        if !quorum.contains(said.author) {
            Some(Refusal::NotMember(said.author))
        } else if proposes && said.author != self.context.elector.leader(said.instance, said.round) {
            Some(Refusal::NotLeader(said.author))
        } else {
            None
        }
    }

    /// The statement of a proposal or PREPARE of a recent block that is decided. It counts for nothing any
    /// more, but its author may have said something else before.
    fn late_statement(&self, message: &Message) -> Option<Signed> {
        let instance = message.instance();
        let tip = self.context.facts.tip_height();
        let is_recent = |height: Height| height <= tip && height.0.saturating_add(HEIGHTS_BEHIND) > tip.0;
        let late = match message {
            Message::PrePrepare(message) => &message.proposal,
            Message::Prepare(vote) => vote,
            Message::Commit(_)
            | Message::RoundChange(_)
            | Message::Decided(_)
            | Message::ValueRequest(_)
            | Message::ValueReply(_) => return None,
        };
        instance.height().is_some_and(is_recent).then(|| late.clone())
    }

    async fn compare(&self, from: OperatorIndex, late: Signed) -> Verdict {
        let (checked, busy) = timed(|| self.context.verifier.signed(&late));
        self.context.budgets.charge(from, Call::Check, 0, busy);
        match checked {
            Ok(()) => {
                self.context.input(Input::Statement(late)).await;
                Verdict::Useless
            }
            Err(refusal) => verdict(&refusal),
        }
    }

    /// What can be refused before a signature is checked or a value decoded, with the result it counts as.
    fn out_of_place(&self, message: &Message) -> Option<(&'static str, Verdict)> {
        let instance = message.instance();
        let InstanceId::Block(height) = instance else {
            return self.is_unasked(message).then_some(("old", Verdict::Useless));
        };
        let tip = self.context.facts.tip_height();
        if height.0 > tip.0.saturating_add(HEIGHTS_AHEAD) {
            return Some(("height_oob", Verdict::Useless));
        }
        if height.0.saturating_add(HEIGHTS_BEHIND) <= tip.0 {
            return Some(("old", Verdict::Useless));
        }
        match message {
            // ROUND-CHANGEs of any round are taken: they are how a node far behind learns of it.
            Message::PrePrepare(_) | Message::Prepare(_) | Message::Commit(_)
                if height == tip.next() && self.is_above_window(message) =>
            {
                Some(("round_oob", Verdict::Useless))
            }
            Message::ValueReply(_) if !self.context.wanted.of(instance) => Some(("old", Verdict::Useless)),
            Message::PrePrepare(_)
            | Message::Prepare(_)
            | Message::Commit(_)
            | Message::RoundChange(_)
            | Message::Decided(_)
            | Message::ValueRequest(_)
            | Message::ValueReply(_) => None,
        }
    }

    /// Whether a message is the value of a duty that nobody here asked for. Its bytes are hashed, not parsed.
    fn is_unasked(&self, message: &Message) -> bool {
        let Message::ValueReply(ValueReply { instance, value }) = message else { return false };
        let wanted = &self.context.wanted;
        instance.as_duty().is_some_and(|duty| {
            !(wanted.of(*instance) && wanted.contains(*instance, duty_digest(duty, &value.0)))
        })
    }

    /// What its sender has no budget left for. Whoever needs an answer asks again.
    fn over_budget(&self, from: OperatorIndex, message: &Message) -> Option<(&'static str, Verdict)> {
        let asks = matches!(message, Message::ValueRequest(_));
        (asks && !self.context.budgets.take(from, Call::Value)).then_some(("old", Verdict::Useless))
    }

    /// Checks a message at the cost of its sender.
    fn verify(&self, from: OperatorIndex, message: Message, bytes: usize) -> Result<Verified, Refusal> {
        let verifier = &self.context.verifier;
        let (checked, busy) = if bytes > LARGE_VALUE_BYTES {
            tokio::task::block_in_place(|| timed(|| verifier.message(message)))
        } else {
            timed(|| verifier.message(message))
        };
        self.context.budgets.charge(from, Call::Check, 0, busy);
        checked
    }

    /// Whether a statement of the height being agreed is of a round the core would not keep it for.
    fn is_above_window(&self, message: &Message) -> bool {
        let (agreeing, _) = self.context.facts.agreeing();
        let highest = agreeing.0.saturating_add(ROUND_WINDOW);
        message.statement().is_some_and(|said| said.round.0 > highest)
    }

    /// Counts what verification said about a message.
    pub fn count(&self, type_name: &str, result: &str) {
        let metrics = &self.context.metrics;
        metrics.qbft_verify_results_total.inc([type_name, result]);
        match result {
            "ok" => metrics.qbft_verified(type_name),
            finer => metrics.qbft_refused(coarse(finer)),
        }
    }

    /// A piece travels on when it is one of those this node keeps: one that finds no place here, or is known
    /// in another form, would find none anywhere.
    async fn evidence(&self, from: OperatorIndex, frame: Frame) -> GossipVerdict {
        if frame.kind != wire::EVIDENCE {
            return GossipVerdict::Ignore;
        }
        let decoded = aequa_types::decode::<Evidence>("evidence", &frame.body, EVIDENCE_BYTES_MAX);
        let Ok(evidence) = decoded else { return GossipVerdict::Reject };
        let Some(turn) = self.context.budgets.turn_unless_in_debt(from, Call::Gossip).await else {
            return GossipVerdict::Ignore;
        };
        let (checked, busy) = timed(|| self.context.verifier.evidence(evidence));
        turn.charge(0, busy);
        let Ok(checked) = checked else { return GossipVerdict::Reject };
        self.context.input(Input::Evidence(checked.clone())).await;
        let kept = move |replica: &Core| replica.pending_evidence().any(|pending| *pending == checked);
        match self.context.ask(kept).await {
            Some(true) => GossipVerdict::Accept,
            Some(false) | None => GossipVerdict::Ignore,
        }
    }

    /// Transactions of the sender's clients, or what it offers again. One that is remembered is not checked twice.
    async fn transactions(&self, from: OperatorIndex, frame: Frame) -> Verdict {
        if frame.kind != wire::TRANSACTIONS {
            return Verdict::Unknown;
        }
        let decoded =
            aequa_types::decode::<Vec<Transaction>>("transactions", &frame.body, TX_FRAME_BYTES_MAX);
        let Ok(transactions) = decoded else { return Verdict::Malformed };
        let verifier = &self.context.verifier;
        let check = || -> Result<Vec<_>, Refusal> {
            transactions
                .into_iter()
                .map(|transaction| Ok((verifier.transaction(transaction)?, None)))
                .collect()
        };
        let (checked, busy) = tokio::task::block_in_place(|| timed(check));
        self.context.budgets.charge(from, Call::Transactions, 0, busy);
        match checked {
            Ok(checked) => {
                let taken = self.context.input(Input::Transactions(checked)).await;
                if taken { Verdict::Accept } else { Verdict::Unknown }
            }
            Err(refusal) => verdict(&refusal),
        }
    }
}

/// Lets an inbox hand on what waits in it, for as long as it lives.
async fn hand_on_overdue(inbox: Weak<Inbox>, waits: Arc<Notify>) {
    loop {
        waits.notified().await;
        let mut holds_any = true;
        while holds_any {
            tokio::time::sleep(Duration::from_millis(WAIT_MS)).await;
            let Some(inbox) = inbox.upgrade() else { return };
            holds_any = inbox.hand_on_overdue().await;
        }
    }
}

fn input((from, message): (OperatorIndex, Verified)) -> Input {
    Input::Message { from, message }
}

/// The contract's six results of `qbft_msg_verified_total` from the finer ones.
fn coarse(result: &str) -> &'static str {
    match result {
        "not_member" | "not_leader" => "unauthorized",
        "old" => "old",
        "height_oob" | "round_oob" => "round_oob",
        "bad_sig" => "sig_invalid",
        "replay" => "replay",
        _ => "error",
    }
}

fn verdict(refusal: &Refusal) -> Verdict {
    match refusal.result() {
        "bad_sig" | "wrong_cluster" => Verdict::BadSignature,
        "bad_justification" | "not_leader" => Verdict::Unjustified,
        "old" | "replay" => Verdict::Useless,
        _ => Verdict::Malformed,
    }
}

impl Handler for Inbox {
    fn frame(&self, from: OperatorIndex, topic: Topic, frame: Frame) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            let verdict = match topic {
                Topic::Qbft => self.consensus(from, frame).await,
                Topic::Tx => self.transactions(from, frame).await,
                Topic::PrivateTx
                | Topic::BeastShare
                | Topic::Dkg
                | Topic::TssShare
                | Topic::State
                | Topic::Evidence
                | Topic::Sync
                | Topic::Peers => Verdict::Unknown,
            };
            // Its stream is left unread until its checks are paid for. A sleep of nothing would still wait for the next
            // tick of the runtime's clock, and wake its driver.
            let call = if topic == Topic::Tx { Call::Transactions } else { Call::Check };
            let debt = self.context.budgets.debt(from, call);
            if !debt.is_zero() {
                tokio::time::sleep(debt).await;
            }
            verdict
        })
    }

    fn gossip(&self, from: OperatorIndex, topic: Topic, frame: Frame) -> BoxFuture<'_, GossipVerdict> {
        Box::pin(async move {
            match topic {
                // Gossip cannot be slowed down, only left alone.
                _ if !self.context.budgets.debt(from, Call::Gossip).is_zero() => GossipVerdict::Ignore,
                Topic::Evidence => self.evidence(from, frame).await,
                Topic::Qbft
                | Topic::Tx
                | Topic::PrivateTx
                | Topic::BeastShare
                | Topic::Dkg
                | Topic::TssShare
                | Topic::State
                | Topic::Sync
                | Topic::Peers => GossipVerdict::Ignore,
            }
        })
    }

    fn request(&self, from: OperatorIndex, frame: Frame) -> BoxFuture<'_, Option<Frame>> {
        Box::pin(async move { answers::serve(&self.context, from, frame).await })
    }

    fn connected(&self, operator: OperatorIndex) {
        self.context.facts.update_peer(operator, |peer| peer.connected = true);
        let context = Arc::clone(&self.context);
        tokio::spawn(async move { context.input(Input::PeerConnected(operator)).await });
    }

    fn disconnected(&self, operator: OperatorIndex) {
        self.context.facts.update_peer(operator, |peer| {
            peer.connected = false;
            peer.clock_offset_ms = None;
        });
    }
}

#[cfg(test)]
mod tests;
