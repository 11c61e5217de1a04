//! The turn of a node, as the node itself takes it: inputs in, one sync, effects out.

use crate::keys;
use crate::node::{CrashPoint, Kind};
use crate::oracle::Violation;
use crate::plan::Sabotage;
use crate::promises::Promises;
use crate::recording;
use crate::sights::{self, fault};
use crate::store::Stored;
use crate::trace::{hex, name};
use crate::world::{Event, World};
use aequa_mempool::RemovalReason;
use aequa_qbft::Note;
use aequa_replica::{Effect, Halt, Input, Notice, Promised};
use aequa_types::limits::EVIDENCE_PER_OPERATOR_MAX;
use aequa_types::{
    Certificate, Domain, Height, InstanceId, Message, Offence, Record, Round, TxKind, Verified,
};

/// Timers of a turn's own making that fire in the same turn.
const TIMER_PASSES_MAX: usize = 4;
/// Longest the sealing thread takes.
const COMBINE_MS: u64 = 8;
/// Block instances a replica may hold: 32 kept, the one being agreed, and those the log brought back.
const INSTANCES_MAX: usize = 64;
/// Duties open and recent.
const DUTY_INSTANCES_MAX: usize = 3 * (2 * 64 + 1 + 32) + 32 + 256;
/// Early messages per operator: four heights of 16.
const EARLY_PER_OPERATOR_MAX: usize = 64;

impl World {
    /// Takes what waits, unless the node is busy or has nothing to do.
    pub(crate) fn turn(&mut self, id: usize) {
        let node = &mut self.nodes[id];
        if node.turn.is_some() || !node.is_up() {
            return;
        }
        let inputs = std::mem::take(&mut node.inbox);
        if inputs.len() > 1 {
            self.sight(sights::BATCHED);
        }
        let mut effects = Vec::new();
        for input in inputs {
            self.step(id, input, &mut effects);
        }
        for _ in 0..TIMER_PASSES_MAX {
            let node = &mut self.nodes[id];
            node.timers.absorb(&mut effects);
            let elapsed_ms = node.clocks(self.now_ms).elapsed_ms;
            let due = node.timers.take_due(elapsed_ms);
            if due.is_empty() {
                break;
            }
            for timer in due {
                self.step(id, Input::Timer(timer), &mut effects);
            }
        }
        self.take_effects(id, effects);
    }

    fn step(&mut self, id: usize, input: Input, effects: &mut Vec<Effect>) {
        let node = &mut self.nodes[id];
        let now = node.clocks(self.now_ms);
        node.hears(&input);
        node.owes(&input);
        let Some(replica) = &mut node.replica else { return };
        let by_certificate = match &input {
            Input::Message { message: Verified::Decided(certificate), .. } => Some(certificate.instance),
            _ => None,
        };
        if let Input::Timer(timer) = &input {
            let timer = *timer;
            self.trace.note(&[self.now_ms, id as u64], || format!("{:>7} node {id}: {timer:?}", self.now_ms));
        }
        let asked = replica.is_inquiring();
        let out = replica.step(now, input);
        let begins = asked && !replica.is_inquiring();
        if begins && self.nodes[id].is_honest() {
            self.observe_start(&out);
        }
        if begins && self.nodes[id].kind == Kind::Twin {
            self.sight(sights::TWIN_RETURNED);
        }
        self.observe(id, &out, by_certificate);
        effects.extend(out);
    }

    /// Writes the records of a turn; its effects wait for the sync.
    pub(crate) fn take_effects(&mut self, id: usize, mut effects: Vec<Effect>) {
        let node = &mut self.nodes[id];
        node.timers.absorb(&mut effects);
        if matches!(node.kind, Kind::Traitor(_) | Kind::Twin) {
            // They are used to seeing their signature under what they did not say.
            effects.retain(|effect| !matches!(effect, Effect::Halt(_) | Effect::RaiseFloors(_)));
        }
        if let Some(halt) = effects.iter().find_map(|effect| match effect {
            Effect::Halt(halt) => Some(halt.clone()),
            _ => None,
        }) {
            return self.halted(id, &halt, effects);
        }
        let Some(promises) = &mut node.promises else { return };
        if let Err(error) = promises.write(&effects) {
            node.turn = Some(effects);
            return self.disk_failed(id, &error);
        }
        let (life, waits) = (node.life, Promised::of(&effects).is_urgent());
        node.turn = Some(effects);
        if waits {
            let sync_ms = self.dice.between(1, self.plan.sync_ms);
            self.after(sync_ms, Event::Synced { node: id, life });
        } else {
            self.finish_turn(id);
        }
    }

    /// A replica stops its node before anything of the turn is promised to anybody.
    fn halted(&mut self, id: usize, halt: &Halt, mut shown: Vec<Effect>) {
        shown.retain(|effect| matches!(effect, Effect::RaiseFloors(_)));
        let node = &mut self.nodes[id];
        let operator = node.operator;
        let floors = Promised::of(&shown).floors;
        let mut shown_in = floors.into_iter().map(|(domain, height)| InstanceId { domain, height });
        // What it made before a loss may have been under way while it asked.
        let forgotten = shown_in.any(|instance| {
            self.oracle.may_repeat(operator, instance)
                || (self.oracle.may_be_reminded(operator, instance) && node.is_below_floor(instance))
        });
        if !(node.restored || forgotten) || !matches!(halt, Halt::SignedElsewhere { .. }) {
            let reason = halt.to_string();
            return self.oracle.complain(Violation::Halted { operator, reason });
        }
        if let Some(Err(error)) = node.promises.as_mut().map(|promises| promises.suspect(&shown)) {
            return self.disk_failed(id, &error);
        }
        self.sight(sights::COPY_NOTICED);
        self.note(id, 0, || format!("stops: {halt}"));
        self.down(id);
    }

    /// The sync is done: sends, then stores, then looks for more work.
    pub(crate) fn finish_turn(&mut self, id: usize) {
        let Some(mut effects) = self.nodes[id].turn.take() else { return };
        let urgent = Promised::of(&effects).is_urgent();
        let doomed = if urgent { self.nodes[id].doomed.take() } else { None };
        if doomed == Some(CrashPoint::BeforeSync) {
            self.fault(fault::CRASH_TORN);
            self.nodes[id].turn = Some(effects);
            return self.down(id);
        }
        if urgent && !self.sync(id, &effects) {
            return;
        }
        recording::set_aside(&mut effects, &mut self.nodes[id].recorded);
        if doomed == Some(CrashPoint::BeforeSend) {
            self.fault(fault::CRASH_SYNCED);
            return self.down(id);
        }
        let until = |world: &mut World, cut: bool| match cut {
            true => world.dice.index(effects.len() + 1),
            false => effects.len(),
        };
        let sent = until(self, doomed == Some(CrashPoint::WhileSending));
        for effect in &effects[..sent] {
            self.send(id, effect);
        }
        if doomed == Some(CrashPoint::WhileSending) {
            self.fault(fault::CRASH_SENDING);
            return self.down(id);
        }
        if self.dice.chance(500) {
            let synced = self.nodes[id].promises.as_mut().map_or(Ok(()), Promises::sync_marks);
            if let Err(error) = synced {
                return self.disk_failed(id, &error);
            }
        }
        let stored = until(self, doomed == Some(CrashPoint::WhileStoring));
        for effect in effects.into_iter().take(stored) {
            self.settle(id, effect);
        }
        if doomed == Some(CrashPoint::WhileStoring) {
            self.fault(fault::CRASH_STORING);
            return self.down(id);
        }
        self.inspect(id);
        if self.nodes[id].inbox.is_empty() { self.set_alarm(id) } else { self.turn(id) }
    }

    /// Makes a turn's promises durable; false when the node went down over it.
    fn sync(&mut self, id: usize, effects: &[Effect]) -> bool {
        if self.is_sabotaged(Sabotage::SendBeforeSync) {
            return true;
        }
        let node = &mut self.nodes[id];
        let Some(promises) = &mut node.promises else { return false };
        if let Err(error) = promises.sync(effects) {
            node.turn = Some(effects.to_vec());
            self.disk_failed(id, &error);
            return false;
        }
        let heard = std::mem::take(&mut node.hearing);
        if node.is_honest() {
            let records = Promised::of(effects).records;
            records.into_iter().for_each(|record| self.oracle.synced(node.operator, record));
            heard.into_iter().for_each(|signed| self.oracle.hears(node.operator, signed));
        }
        true
    }

    fn set_alarm(&mut self, id: usize) {
        let node = &mut self.nodes[id];
        let Some(due_ms) = node.timers.next_due_ms() else { return };
        let at_ms = (node.born_ms + due_ms).max(self.now_ms);
        if node.wake_at.is_none_or(|wake_at| at_ms < wake_at) {
            node.wake_at = Some(at_ms);
            let life = node.life;
            self.after(at_ms - self.now_ms, Event::Wake { node: id, life });
        }
    }

    /// The part of an effect that leaves the node.
    fn send(&mut self, id: usize, effect: &Effect) {
        match effect {
            Effect::Broadcast(message) => self.emit(id, None, message.clone()),
            Effect::Send(to, message) => self.emit(id, Some(*to), message.clone()),
            Effect::Gossip(transaction) => self.gossip(id, transaction),
            Effect::Offer(transactions) => {
                transactions.iter().for_each(|transaction| self.gossip(id, transaction))
            }
            Effect::GossipEvidence(evidence) => self.gossip_evidence(id, evidence),
            Effect::Fetch { from, height } => self.fetch(id, *from, *height),
            Effect::Inquire(of) => self.inquire(id, *of),
            Effect::Combine { instance, round, digest, shares } => {
                let result = keys::combine(self.oracle.quorum(), *instance, *round, digest, shares);
                let input = Input::Combined { instance: *instance, round: *round, digest: *digest, result };
                let took_ms = self.dice.between(0, COMBINE_MS);
                let life = Some(self.nodes[id].life);
                self.after(took_ms, Event::Input { node: id, life, input: Box::new(input) });
            }
            _ => {}
        }
    }

    /// The part of an effect that stays.
    fn settle(&mut self, id: usize, effect: Effect) {
        let node = &mut self.nodes[id];
        let (operator, honest, life) = (node.operator, node.is_honest(), node.life);
        match effect {
            Effect::Commit { block, certificate, applied, live } => {
                let height = block.header().height;
                if honest {
                    self.oracle.commits(operator, &block, &certificate, &applied);
                }
                let parent = height.previous().and_then(|parent| self.nodes[id].store.block(parent));
                let parent_ms = parent.map(|parent| parent.block.header().timestamp_ms);
                if parent_ms.is_some_and(|parent_ms| block.header().timestamp_ms == parent_ms + 1) {
                    self.sight(sights::NEXT_MOMENT);
                }
                if !block.evidence().is_empty() {
                    self.sight(sights::EVIDENCE_COMMITTED);
                }
                let items = block.items().len() as u64;
                *self.sights.entry(sights::TX_INCLUDED).or_default() += items;
                let word = block.digest().0[0].into();
                self.note(id, word, || {
                    format!(
                        "commits block {height} {} of round {}{}",
                        hex(certificate.digest.as_slice()),
                        certificate.round,
                        if live { "" } else { ", fetched" }
                    )
                });
                let store = &mut self.nodes[id].store;
                store.put_block(Stored { block, certificate, applied });
                if !live {
                    store.flush();
                }
                if height.0.is_multiple_of(self.plan.flush_every) {
                    let took_ms = self.dice.between(1, 30);
                    let writes = self.nodes[id].store.writes();
                    self.after(took_ms, Event::Flushed { node: id, life, height, writes });
                }
            }
            Effect::Sealed(certificate) => {
                let instance = certificate.instance;
                node.store.put_certificate(certificate);
                if instance.domain != Domain::Block {
                    node.store.flush();
                    self.sight(sights::DUTY_SEALED);
                }
                self.note(id, instance.height.0, || format!("seals {}", name(instance)));
            }
            Effect::CommitDuty { instance, decided, watermark } => {
                node.store.put_duty(instance, decided.clone(), watermark);
                if let Some((_, certificate)) = decided.filter(|_| honest) {
                    self.oracle.ends(operator, &certificate);
                    self.sight(sights::DUTY_DECIDED);
                }
            }
            Effect::KeepEvidence(pending) => node.store.put_evidence(pending),
            Effect::RecallDuty { to, instance, recall } => {
                if let Some(message) = node.store.recall_duty(instance, recall) {
                    self.sight(sights::DUTY_RECALLED);
                    self.emit(id, Some(to), message);
                }
            }
            Effect::Reply(ticket, ..) | Effect::DutyReply(ticket, _) => {
                if !node.owed.remove(&ticket) && honest {
                    self.oracle.complain(Violation::Unanswered { operator, owed: node.owed.len() });
                }
            }
            // Only now is it durable up to where nothing is signed.
            Effect::Notify(Notice::Abstaining(_)) => {
                if let Some(Err(error)) = node.promises.as_mut().map(Promises::trust) {
                    return self.disk_failed(id, &error);
                }
                self.sight(sights::ABSTAINED);
            }
            _ => {}
        }
    }

    /// A flush that ran beside the turns has ended.
    pub(crate) fn flushed(&mut self, id: usize, height: Height, writes: usize) {
        let prune = self.dice.chance(500);
        let node = &mut self.nodes[id];
        node.store.flush_first(writes);
        let (Some(replica), Some(promises)) = (&node.replica, &mut node.promises) else { return };
        if !prune {
            return;
        }
        let floors: Vec<(Domain, Height)> = replica.signing_floors().collect();
        match promises.prune(&|subject| replica.needs(subject, height), height, &floors) {
            Ok(0) => {}
            Ok(_) => self.sight(sights::LOG_PRUNED),
            Err(error) => self.disk_failed(id, &error),
        }
    }

    /// What must hold of a node between two turns.
    fn inspect(&mut self, id: usize) {
        let node = &self.nodes[id];
        let Some(replica) = node.replica.as_ref().filter(|_| node.is_honest()) else { return };
        let (operator, next) = (node.operator, replica.chain().tip().height.next());
        let decided = node.promises.as_ref().is_some_and(|promises| promises.has_decided(next));
        if decided && !replica.is_inquiring() {
            self.oracle.complain(Violation::Unexecuted { operator, height: next });
        }
        if !node.owed.is_empty() && !replica.is_inquiring() {
            self.oracle.complain(Violation::Unanswered { operator, owed: node.owed.len() });
        }
        let held = replica.held();
        let bounds = [
            ("block instances", held.block_instances, INSTANCES_MAX),
            ("duty instances", held.duty_instances, DUTY_INSTANCES_MAX),
            ("early messages", held.early_messages, EARLY_PER_OPERATOR_MAX * self.plan.quorum.operators()),
            ("pieces of evidence", held.evidence, EVIDENCE_PER_OPERATOR_MAX * self.plan.quorum.operators()),
        ];
        for (what, found, bound) in bounds.into_iter().filter(|(_, found, bound)| found > bound) {
            self.oracle.complain(Violation::Unbounded { operator, what, found, bound });
        }
    }

    /// Counts what a campaign wants to have seen, and complains of what a step must never say.
    pub(crate) fn observe(&mut self, id: usize, effects: &[Effect], by_certificate: Option<InstanceId>) {
        if !self.nodes[id].is_honest() {
            return;
        }
        let mut timed_out: Option<Round> = None;
        let mut decided: Vec<InstanceId> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    self.observe_record(record, timed_out, &decided);
                    if let Record::Decided(Certificate { instance, .. }) = record {
                        decided.push(*instance);
                        if by_certificate == Some(*instance) {
                            self.sight(sights::DECIDED_CATCH_UP);
                        }
                    }
                }
                Effect::Broadcast(Message::ValueRequest(_)) => self.sight(sights::VALUE_ASKED),
                Effect::Send(_, Message::ValueReply(_)) => self.sight(sights::VALUE_GIVEN),
                Effect::Commit { live: false, .. } => self.sight(sights::FETCH_CATCH_UP),
                Effect::Commit { certificate, .. } if certificate.round >= Round(2) => {
                    self.sight(sights::LATE_ROUND)
                }
                Effect::Notify(Notice::Consensus(_, Note::TimedOut(round, _))) => timed_out = Some(*round),
                Effect::Notify(notice) => self.observe_notice(id, notice),
                _ => {}
            }
        }
    }

    fn observe_record(&mut self, record: &Record, timed_out: Option<Round>, decided: &[InstanceId]) {
        match record {
            Record::Round(record) => {
                match &record.change {
                    None => self.sight(sights::PROPOSAL_JUMP),
                    Some(_) if timed_out.is_none_or(|before| before.next() != record.round) => {
                        self.sight(sights::WEAK_QUORUM_JUMP)
                    }
                    Some(_) => {}
                }
                if record.change.as_ref().is_some_and(|change| change.digest().is_some()) {
                    self.sight(sights::ROUND_CHANGE_PREPARED);
                }
            }
            Record::PrePrepare(record) if !record.prepares.is_empty() => {
                self.sight(sights::PREPARED_REPROPOSED)
            }
            Record::Commit(vote) if decided.contains(&vote.instance) => {
                self.sight(sights::COMMIT_AFTER_DECISION)
            }
            _ => {}
        }
    }

    fn observe_notice(&mut self, id: usize, notice: &Notice) {
        match notice {
            Notice::Evidence(evidence) => {
                self.sight(sights::CONTRADICTION);
                self.oracle.accuses(evidence.first(), evidence.second());
                let Offence { operator, place } = evidence.offence();
                self.note(id, place.round.0, || {
                    let instance = name(place.instance);
                    format!(
                        "has evidence against {operator}: {:?} of {instance} round {}",
                        place.kind, place.round
                    )
                });
            }
            Notice::Consensus(instance, Note::SignerRefused(round)) => {
                if self.nodes[id].may_refuse(*instance, *round) {
                    return self.sight(sights::GATE_REFUSED);
                }
                let operator = self.nodes[id].operator;
                let (instance, round) = (*instance, *round);
                self.oracle.complain(Violation::SignerRefused { operator, instance, round });
            }
            Notice::Consensus(instance, Note::Refused(by, refusal)) => {
                let (instance, by, refusal) = (name(*instance), *by, *refusal);
                self.note(id, 1, || format!("refuses {instance} from {by}: {refusal}"));
            }
            Notice::Consensus(instance, Note::RoundEntered(round)) => {
                let (instance, round) = (name(*instance), *round);
                self.note(id, round.0, || format!("enters round {round} of {instance}"));
            }
            Notice::Sealed(_) => self.sight(sights::SEALED),
            Notice::ShareBlamed { operator, .. } => {
                self.sight(sights::SHARE_BLAMED);
                let accused = self.nodes.iter().find(|node| node.operator == *operator);
                if accused.is_some_and(|node| !matches!(node.kind, Kind::Traitor(_))) {
                    self.oracle.complain(Violation::FalseEvidence { operator: *operator });
                }
            }
            Notice::Removed(removals) if !removals.promoted.is_empty() => self.sight(sights::TX_PROMOTED),
            _ => {}
        }
    }

    /// Adds up what the pools of an ending life counted.
    pub(crate) fn count_pools(&mut self, id: usize) {
        let Some(replica) = &self.nodes[id].replica else { return };
        let pool = replica.mempool();
        let replaced: u64 =
            TxKind::ALL.iter().map(|kind| pool.removed_total(*kind, RemovalReason::Replaced)).sum();
        *self.sights.entry(sights::TX_REPLACED).or_default() += replaced;
    }
}
