//! Routing of inputs, the turn, recovery.

use crate::DutyState;
use crate::blocks::evidence::Pending;
use crate::blocks::offers::Offers;
use crate::blocks::{self, Pacing};
use crate::duties::early::EarlyDuties;
use crate::duties::states::Duties;
use crate::inquiry::Inquiry;
use crate::io::{Config, Input, Notice, Now, Recovery, Timer};
use crate::output::{Outbound, Output, StoreWrite, Work};
use crate::recording::Recorder;
use crate::sealing::{Ready, Sealing};
use crate::signer::{Keys, Signer};
use crate::sync::{CATCH_UP_INTERVAL_MS, CatchUp, Early};
use crate::witness::heard::HeardDuties;
use crate::witness::seen::Witness;
use aequa_chain::Chain;
use aequa_mempool::Mempool;
use aequa_qbft::{Event, Host, Instance, Justified, Note, Restored, Validity};
use aequa_types::{
    Certificate, CheckedEvidence, Digest, DutyId, Height, InstanceId, OperatorIndex, Quorum, Record, Round,
    Seal, Signed, Statement, Subject, Value, Verified,
};
use std::collections::BTreeMap;

/// Decided block instances kept to answer stragglers and to collect late seal shares.
pub(crate) const INSTANCES_KEPT: u64 = 32;

/// Bytes of duty messages sent to an operator that connects: a quarter of its queue. The rest follows with
/// the regular re-sending.
const RESENT_DUTY_BYTES_MAX: usize = 4 << 20;

/// The one leader of a round: `(height + domain + round) mod n`. Proposer, verifier, status and
/// logs all ask here.
pub fn leader(quorum: Quorum, instance: InstanceId, round: Round) -> OperatorIndex {
    let turn = u128::from(instance.number()) + u128::from(instance.domain().number()) + u128::from(round.0);
    // The remainder is below n, and n fits into a u8.
    OperatorIndex((turn % quorum.operators() as u128) as u8)
}

/// What a replica keeps in memory beside chain and pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Block instances: the one being agreed, and decided ones for stragglers.
    pub block_instances: usize,
    /// Duty instances, open and recent.
    pub duty_instances: usize,
    /// Messages of heights and duties that have not begun here.
    pub early_messages: usize,
    /// Statements that later ones are compared with.
    pub statements: usize,
    /// Evidence that is not committed yet.
    pub evidence: usize,
}

/// One operator's state machine. See the crate documentation.
pub struct Replica<K> {
    pub(crate) config: Config,
    pub(crate) signer: Signer<K>,
    pub(crate) chain: Chain,
    pub(crate) mempool: Mempool,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) early: Early,
    pub(crate) sealing: Sealing,
    pub(crate) catchup: CatchUp,
    pub(crate) duties: Duties,
    pub(crate) early_duties: EarlyDuties,
    /// Under way until enough members have said what they saw this operator sign.
    pub(crate) inquiry: Option<Inquiry>,
    /// Up to this height f+1 honest members hold the blocks, as they showed when asked: they are fetched and not
    /// voted on, for what this operator said there may be forgotten by everybody.
    pub(crate) fetched_only: Height,
    pub(crate) pacing: Pacing,
    pub(crate) offers: Offers,
    pub(crate) witness: Witness,
    pub(crate) heard: HeardDuties,
    pub(crate) pending: Pending,
    pub(crate) now: Now,
    pub(crate) out: Output,
    /// None when nothing is recorded.
    recorder: Option<Recorder>,
}

impl<K: Keys> Replica<K> {
    /// A replica that continues from `chain`, bound by everything `recovery` remembers.
    pub fn new(config: Config, keys: K, chain: Chain, mempool: Mempool, recovery: Recovery) -> Self {
        let mut replica = Self {
            signer: Signer::new(keys, config.seals),
            instances: BTreeMap::new(),
            early: Early::default(),
            sealing: Sealing::new(config.quorum.quorum()),
            catchup: CatchUp::new(config.quorum),
            duties: Duties::new(config.me, config.quorum),
            early_duties: EarlyDuties::default(),
            inquiry: Inquiry::begin(recovery.memory, config.quorum),
            fetched_only: Height::default(),
            pacing: Pacing::default(),
            offers: Offers::default(),
            witness: Witness::default(),
            heard: HeardDuties::default(),
            pending: Pending::default(),
            now: Now { elapsed_ms: 0, wall_ms: 0 },
            out: Output::default(),
            recorder: config.record.then(Recorder::default),
            config,
            chain,
            mempool,
        };
        replica.recover(recovery);
        replica
    }

    fn recover(&mut self, recovery: Recovery) {
        let mut restored: BTreeMap<InstanceId, Restored> = BTreeMap::new();
        let mut heard = Vec::new();
        recovery.closed_duties.iter().for_each(|instance| self.duties.closed_before(*instance));
        recovery.newest_duties.iter().for_each(|instance| self.duties.decided_before(*instance));
        for DutyId { kind, slot } in &recovery.duty_watermarks {
            self.duties.raise_watermark(*kind, *slot);
        }
        self.restore_evidence(recovery.evidence);
        for record in recovery.records {
            if let Record::Heard(signed) = record {
                // It binds nobody here, so it neither opens an instance nor says where the own log begins.
                heard.push(signed);
                continue;
            }
            if let Some(signed) = record.statement() {
                self.signer.remember(signed);
            }
            restored.entry(record.instance()).or_default().records.push(record);
        }
        for (instance, value) in recovery.values {
            restored.entry(instance).or_default().values.push(value);
        }
        recovery.marks.into_iter().for_each(|mark| self.signer.remember_mark(mark));
        recovery.closed_duties.into_iter().for_each(|duty| self.signer.close(duty));
        let tip = self.chain.tip().height;
        // Instances up to the tip are over; their marks may be pruned.
        self.signer.raise_floor(InstanceId::Block(below_log(&restored).max(tip)));
        recovery.floors.into_iter().for_each(|floor| self.signer.raise_floor(floor));
        for (id, restored) in restored {
            let over = match id {
                InstanceId::Block(height) => height <= tip,
                InstanceId::Duty(duty) => self.duties.is_closed(duty),
            };
            if !over {
                if let InstanceId::Duty(duty) = id {
                    // Of a duty that is open the log has one value: what the client posted.
                    self.duties.restore(duty, restored.values.first().cloned());
                }
                if let Some(recorder) = &mut self.recorder {
                    recorder.restored(id, &restored.records);
                }
                let said = crate::blocks::evidence::statements_in(&restored.records);
                let instance = Instance::restore(id, self.config.me, self.config.quorum, restored);
                self.instances.insert(id, instance);
                self.witness_again(&said);
            }
        }
        self.witness_again(&heard);
        let of_duties = heard.into_iter().filter(|signed| !signed.instance.is_block());
        of_duties.for_each(|signed| self.heard.restore(signed));
        recovery.duty_watermarks.into_iter().for_each(|mark| self.signer.raise_floor(mark.into()));
        for certificate in recovery.unsealed {
            self.open_seal(&certificate);
        }
    }

    /// The first step: finishes what was decided before the restart, and begins the next height.
    pub fn start(&mut self, now: Now) -> Output {
        self.now = now;
        self.record(Recorder::started);
        self.catchup.progressed(now.elapsed_ms);
        self.begin();
        self.ask_members();
        self.set_timer(Timer::CatchUp, CATCH_UP_INTERVAL_MS);
        self.gossip_evidence();
        self.take_output()
    }

    /// Begins to take part, unless the members have to be asked first.
    pub(crate) fn begin(&mut self) {
        self.begin_height();
        if self.is_inquiring() {
            return;
        }
        let duties: Vec<DutyId> = self.instances.keys().filter_map(|id| id.as_duty()).collect();
        for duty in duties {
            match self.instances.get(&duty.into()).and_then(decision) {
                Some((value, certificate)) => self.duty_decided(duty, value, certificate),
                None => self.drive(duty.into(), Event::Start),
            }
        }
    }

    /// Takes one input; returns what is to be done.
    pub fn step(&mut self, now: Now, input: Input) -> Output {
        self.now = now;
        if self.is_inquiring() {
            self.step_inquiring(input)
        } else {
            self.take(input)
        }
        self.take_output()
    }

    pub(crate) fn take(&mut self, input: Input) {
        match input {
            Input::Message { from, message } => self.deliver(from, message),
            Input::Statement(signed) => self.watch([&signed]),
            Input::Evidence(evidence) => self.take_evidence(evidence),
            Input::Transactions(transactions) => self.admit(transactions),
            Input::Duty { duty, value, ticket } => self.post_duty(duty, value, ticket),
            Input::Timer(timer) => self.on_timer(timer),
            Input::Combined { instance, round, digest, result } => {
                self.on_combined(instance, round, digest, result)
            }
            Input::Fetched { from, blocks } => self.on_fetched(from, blocks),
            Input::FetchFailed { from } => {
                self.catchup.failed(from, self.now.elapsed_ms);
                self.fetch_if_behind();
            }
            Input::PeerHeight { from, height } => {
                self.catchup.shown(from, height);
                self.fetch_if_behind();
            }
            Input::PeerConnected(operator) => {
                self.resend_to(operator);
                self.offers.connected(self.now.elapsed_ms);
                self.gossip_evidence();
                self.out.send(Outbound::Inquire(operator));
            }
            Input::Testimony { testimony, .. } => self.compare(&testimony),
        }
    }

    fn take_output(&mut self) -> Output {
        self.keep_evidence();
        self.out.mark(self.signer.take_fresh());
        std::mem::take(&mut self.out)
    }

    /// At and below these, each in its domain, this operator signs nothing any more.
    pub fn signing_floors(&self) -> impl Iterator<Item = InstanceId> {
        self.signer.floors()
    }

    /// The chain, for readers.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The pools, for readers.
    pub fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// Evidence that is not committed yet, in the order of offences.
    pub fn pending_evidence(&self) -> impl Iterator<Item = &CheckedEvidence> {
        self.pending.all()
    }

    /// The round of the height being agreed, and its leader.
    pub fn round_and_leader(&self) -> (Round, OperatorIndex) {
        let id = InstanceId::Block(self.chain.tip().height.next());
        let round = self.instances.get(&id).map(Instance::round).unwrap_or_default();
        (round, leader(self.config.quorum, id, round))
    }

    /// The highest decided height any peer has shown.
    pub fn best_peer_height(&self) -> Height {
        self.catchup.best()
    }

    /// What is known of a duty in this life.
    pub fn duty(&self, duty: DutyId) -> Option<&DutyState> {
        self.duties.state(duty)
    }

    /// Duties known in this life, open and recent, in no particular order.
    pub fn duties(&self) -> impl Iterator<Item = (DutyId, &DutyState)> {
        self.duties.all()
    }

    /// Whether the vote log must keep these records when blocks up to `stored` are durable.
    pub fn needs(&self, Subject { instance, heard }: Subject, stored: Height) -> bool {
        match instance {
            // What was heard in the last height is still to be told to an operator that comes back older.
            InstanceId::Block(height) => height >= stored,
            // Closed duties are durable in the store before their instance is forgotten.
            InstanceId::Duty(duty) => self.duties.is_open(duty) || (heard && self.heard.holds(duty)),
        }
    }

    /// How much is kept in memory; all of it is bounded.
    pub fn held(&self) -> Held {
        let block_instances = self.instances.keys().filter(|id| id.is_block()).count();
        Held {
            block_instances,
            duty_instances: self.instances.len() - block_instances,
            early_messages: self.early.len() + self.early_duties.len(),
            statements: self.witness.len() + self.heard.len(),
            evidence: self.pending.len(),
        }
    }

    fn deliver(&mut self, from: OperatorIndex, message: Verified) {
        if message.statement().is_some_and(|signed| self.stop_if_unknown(signed)) {
            return;
        }
        match message.instance() {
            InstanceId::Block(height) => self.deliver_block(height, from, message),
            InstanceId::Duty(duty) => self.deliver_duty(duty, from, message),
        }
    }

    /// Gives a message to its instance, and the share of a COMMIT to the seal.
    pub(crate) fn hand_over(&mut self, id: InstanceId, from: OperatorIndex, message: Verified) {
        let commit = if let Verified::Commit(vote) = &message { Some(vote.clone()) } else { None };
        self.drive(id, Event::Message { carrier: from, message });
        if let Some(ready) = commit.and_then(|vote| self.sealing.add(&vote)) {
            self.combine(id, ready);
        }
    }

    /// Begins an instance that is not there yet.
    pub(crate) fn open_instance(&mut self, id: InstanceId) {
        if !self.instances.contains_key(&id) {
            self.instances.insert(id, Instance::new(id, self.config.me, self.config.quorum));
            self.record(|recorder, now, out| recorder.opened(id, 0, now, out));
        }
    }

    /// Adds to the recording, if there is one.
    pub(crate) fn record(&mut self, add: impl FnOnce(&mut Recorder, Now, &mut Output)) {
        if let Some(recorder) = &mut self.recorder {
            add(recorder, self.now, &mut self.out);
        }
    }

    /// Lets one instance take an event, and carries its effects on.
    pub(crate) fn drive(&mut self, id: InstanceId, event: Event) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let mut host = View {
            quorum: self.config.quorum,
            params: &self.config.params,
            chain: &self.chain,
            candidate: id.as_duty().and_then(|duty| self.duties.candidate(duty)).map(Value::digest),
            signer: &mut self.signer,
            id,
            wall_ms: self.now.wall_ms,
        };
        let effects = match &mut self.recorder {
            Some(recorder) => recorder.step(instance, host, event, self.now, &mut self.out),
            None => instance.step(&mut host, event),
        };
        for effect in effects {
            self.carry_on(id, effect);
        }
    }

    fn carry_on(&mut self, id: InstanceId, effect: aequa_qbft::Effect) {
        match effect {
            aequa_qbft::Effect::Persist(record) => self.out.record(record),
            aequa_qbft::Effect::Broadcast(message) => {
                self.out.broadcast(message);
                self.put_off_resending(id);
            }
            aequa_qbft::Effect::Send(to, message) => self.out.send(Outbound::Send(to, message)),
            aequa_qbft::Effect::SetTimer(round) => self.set_round_timer(id, round),
            aequa_qbft::Effect::KeepSending(round) => self.set_resend_timer(id, round),
            aequa_qbft::Effect::NeedInput(round) => self.need_input(id, round),
            aequa_qbft::Effect::NeedValue(digest) => self.fetch_value(id, digest),
            aequa_qbft::Effect::Decided { value, certificate } => self.on_decided(id, value, certificate),
            aequa_qbft::Effect::Note(note) => self.on_note(id, note),
        }
    }

    /// What was sent just now need not be sent again before a third of a timeout has passed. A round has few
    /// messages of one's own, so this cannot go on for ever.
    pub(crate) fn put_off_resending(&mut self, id: InstanceId) {
        let open = self.instances.get(&id).filter(|instance| instance.decided().is_none());
        if let Some(round) = open.map(Instance::round) {
            self.set_resend_timer(id, round);
        }
    }

    fn need_input(&mut self, id: InstanceId, round: Round) {
        match id {
            InstanceId::Block(height) => self.need_block(height, round),
            InstanceId::Duty(duty) => self.need_duty_value(duty, round),
        }
    }

    fn on_decided(&mut self, id: InstanceId, value: Value, certificate: Certificate) {
        self.out.cancel_timers(id);
        match id {
            InstanceId::Block(_) => self.block_decided(value, certificate),
            InstanceId::Duty(duty) => self.duty_decided(duty, value, certificate),
        }
    }

    fn on_note(&mut self, id: InstanceId, note: Note) {
        let now_ms = self.now.elapsed_ms;
        match (id, &note) {
            (InstanceId::Block(_), Note::ProposalAccepted(_, digest)) => self.proposal_accepted(id, digest),
            (InstanceId::Duty(duty), Note::ProposalAccepted(..)) => {
                self.duties.passed(duty, "proposed", now_ms)
            }
            (InstanceId::Duty(duty), Note::PrepareQuorum(_)) => self.duties.passed(duty, "prepared", now_ms),
            (_, _) => {}
        }
        self.out.notify(Notice::Consensus(id, note));
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Round { instance, round } => self.drive(instance, Event::Timeout(round)),
            Timer::Resend(id) => self.resend(id),
            Timer::Propose(height) => self.propose_block(height),
            Timer::CatchUp => {
                self.expire_duties();
                self.offer_again();
                self.fetch_if_behind();
                self.set_timer(Timer::CatchUp, CATCH_UP_INTERVAL_MS);
            }
        }
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, after_ms: u64) {
        self.out.set_timer(timer, self.now.elapsed_ms.saturating_add(after_ms));
    }

    pub(crate) fn set_round_timer(&mut self, id: InstanceId, round: Round) {
        if id.is_block() && self.pacing.idle {
            return;
        }
        self.set_timer(Timer::Round { instance: id, round }, self.round_timeout_ms(id, round));
    }

    fn set_resend_timer(&mut self, id: InstanceId, round: Round) {
        self.set_timer(Timer::Resend(id), self.round_timeout_ms(id, round) / 3);
    }

    /// t(r) = base · 2^r, capped, plus the block interval in round 0 of a block.
    fn round_timeout_ms(&self, id: InstanceId, round: Round) -> u64 {
        let params = &self.config.params;
        let pause_ms = match (id, round) {
            (InstanceId::Block(_), Round(0)) => params.block_interval_ms,
            (InstanceId::Block(_) | InstanceId::Duty(_), _) => 0,
        };
        timeout_ms(params, round).saturating_add(pause_ms)
    }

    fn resend(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get(&id) else { return };
        if instance.decided().is_some() {
            return;
        }
        let (round, newest) = (instance.round(), instance.newest());
        if !newest.is_empty() {
            self.record(|recorder, now, out| recorder.resent(id, now, out));
        }
        newest.into_iter().for_each(|message| self.out.broadcast(message));
        self.set_resend_timer(id, round);
    }

    fn resend_to(&mut self, operator: OperatorIndex) {
        self.record(|recorder, now, out| recorder.connected(operator, now, out));
        self.instances.values_mut().for_each(|instance| instance.forget_answers(operator));
        let mut duty_bytes_left = RESENT_DUTY_BYTES_MAX;
        // Blocks come first in the order of instances, and are few.
        for (id, instance) in &self.instances {
            for message in instance.newest() {
                if !id.is_block() {
                    let bytes = message.body_bytes();
                    if bytes > duty_bytes_left {
                        continue;
                    }
                    duty_bytes_left -= bytes;
                }
                self.out.send(Outbound::Send(operator, message));
            }
        }
    }

    pub(crate) fn open_seal(&mut self, certificate: &Certificate) {
        if !self.config.seals || certificate.group_seal().is_some() {
            return;
        }
        let mut commits = certificate.commits();
        if let Some(instance) = self.instances.get(&certificate.instance) {
            commits.extend(instance.commits(certificate.round, certificate.digest).cloned());
        }
        let ready =
            self.sealing.open(certificate.instance, certificate.round, certificate.digest, commits.iter());
        if let Some(ready) = ready {
            self.combine(certificate.instance, ready);
        }
    }

    pub(crate) fn combine(&mut self, instance: InstanceId, ready: Ready) {
        let Ready { round, digest, shares } = ready;
        self.out.work(Work::Combine { instance, round, digest, shares });
    }

    fn on_combined(
        &mut self,
        instance: InstanceId,
        round: Round,
        digest: Digest,
        result: Result<Seal, Vec<OperatorIndex>>,
    ) {
        match result {
            Ok(seal) => {
                self.sealing.close(instance);
                let proof = aequa_types::Proof::Group(seal);
                let certificate = Certificate { instance, round, digest, proof };
                if let Some(open) = self.instances.get_mut(&instance) {
                    open.upgrade(certificate.clone());
                    self.record(|recorder, now, out| recorder.upgraded(&certificate, now, out));
                }
                if let InstanceId::Duty(duty) = instance {
                    self.duties.sealed(duty, &certificate, self.now.elapsed_ms);
                }
                self.out.store(StoreWrite::Sealed(certificate.clone()));
                self.out.notify(Notice::Sealed(certificate));
            }
            Err(blamed) => {
                for operator in &blamed {
                    let notice = Notice::ShareBlamed { operator: *operator, instance, round };
                    self.out.notify(notice);
                }
                if let Some(ready) = self.sealing.blame(instance, &blamed) {
                    self.combine(instance, ready);
                }
            }
        }
        self.seal_backlog_changed();
    }

    /// Forgets what lies too far below `height` to be asked about.
    pub(crate) fn forget_instances_below(&mut self, height: Height) {
        let oldest = oldest_kept(height);
        self.sealing.forget_below(oldest);
        self.instances.extract_if(..InstanceId::Block(oldest), |_, _| true).for_each(drop);
        if let Some(floor) = oldest.previous() {
            self.signer.raise_floor(InstanceId::Block(floor));
        }
    }
}

/// The oldest decided block kept in memory when the tip is at `height`.
pub(crate) fn oldest_kept(height: Height) -> Height {
    Height(height.0.saturating_sub(INSTANCES_KEPT))
}

/// base · 2^r, capped: how long a round waits for its messages.
pub(crate) fn timeout_ms(params: &aequa_types::ConsensusParams, round: Round) -> u64 {
    let doubled = u32::try_from(round.0)
        .ok()
        .and_then(|shift| 1u64.checked_shl(shift))
        .and_then(|factor| params.round_timeout_ms.checked_mul(factor));
    doubled.map_or(params.round_timeout_cap_ms, |doubled| doubled.min(params.round_timeout_cap_ms))
}

/// The height below the first block the log knows: what was signed there is pruned, so nothing may be
/// signed there again, whatever became of the chain since.
fn below_log(restored: &BTreeMap<InstanceId, Restored>) -> Height {
    restored.keys().find_map(|id| id.height()).and_then(Height::previous).unwrap_or_default()
}

/// The decision of an instance restored from the log, when its value is there too.
pub(crate) fn decision(instance: &Instance) -> Option<(Value, Certificate)> {
    let certificate = instance.decided()?;
    Some((instance.value(&certificate.digest)?.clone(), certificate.clone()))
}

/// What an instance may ask of the replica around it.
struct View<'a, K> {
    quorum: Quorum,
    params: &'a aequa_types::ConsensusParams,
    chain: &'a Chain,
    /// What this operator's client posted for this duty.
    candidate: Option<Digest>,
    signer: &'a mut Signer<K>,
    id: InstanceId,
    wall_ms: u64,
}

impl<K: Keys> Host for View<'_, K> {
    fn leader(&self, round: Round) -> OperatorIndex {
        leader(self.quorum, self.id, round)
    }

    fn validate(&mut self, round: Round, value: &Value, justified: Justified) -> Validity {
        match (self.id, value, justified) {
            (InstanceId::Block(_), Value::Block(_), Justified::Prepared) => Validity::Valid,
            (InstanceId::Block(_), Value::Block(value), Justified::Fresh) => {
                let proposer = self.leader(round);
                match blocks::check_fresh(
                    self.chain,
                    self.params,
                    round,
                    value.block(),
                    proposer,
                    self.wall_ms,
                ) {
                    Ok(()) => Validity::Valid,
                    Err(reason) => Validity::Invalid(reason),
                }
            }
            // Opaque duties need the consent of this operator's own client, whoever has prepared them.
            (InstanceId::Duty(_), Value::Duty(_), _) => match self.candidate {
                None => Validity::Unknown,
                Some(posted) if posted == value.digest() => Validity::Valid,
                Some(_) => Validity::Invalid("the own client has posted another payload".into()),
            },
            (InstanceId::Block(_), Value::Duty(_), _) | (InstanceId::Duty(_), Value::Block(_), _) => {
                Validity::Invalid("a value of another kind".into())
            }
        }
    }

    fn sign(&mut self, statement: Statement) -> Option<Signed> {
        self.signer.sign(statement)
    }
}
