//! The turn of a node, as the node itself takes it: inputs in, one sync, outputs out.

use crate::keys;
use crate::node::{CrashPoint, Kind};
use crate::oracle::Violation;
use crate::plan::Sabotage;
use crate::promises::{Promises, Unsynced};
use crate::recording;
use crate::sights::{self, fault};
use crate::store::Stored;
use crate::trace::{hex, name};
use crate::world::{Event, World};
use aequa_mempool::RemovalReason;
use aequa_qbft::Note;
use aequa_replica::{Durable, Halt, Input, Notice, Outbound, Output, Stopped, StoreWrite, Tell, Work};
use aequa_types::limits::EVIDENCE_PER_OPERATOR_MAX;
use aequa_types::{
    Certificate, Domain, Height, InstanceId, Message, Offence, Record, Round, TxKind, Verified,
};
use std::collections::BTreeSet;

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
        let mut output = Output::default();
        for input in inputs {
            self.step(id, input, &mut output);
        }
        for _ in 0..TIMER_PASSES_MAX {
            let node = &mut self.nodes[id];
            node.timers.change(output.take_timers());
            let elapsed_ms = node.clocks(self.now_ms).elapsed_ms;
            let due = node.timers.take_due(elapsed_ms);
            if due.is_empty() {
                break;
            }
            for timer in due {
                self.step(id, Input::Timer(timer), &mut output);
            }
        }
        self.take_output(id, output);
    }

    fn step(&mut self, id: usize, input: Input, output: &mut Output) {
        let node = &mut self.nodes[id];
        let now = node.clocks(self.now_ms);
        node.hears(&input);
        node.owes(&input);
        let Some(replica) = &mut node.replica else { return };
        if let Input::Message { message: Verified::Decided(certificate), .. } = &input {
            node.told.insert(certificate.instance);
        }
        if let Input::Timer(timer) = &input {
            let timer = *timer;
            self.trace.note(&[self.now_ms, id as u64], || format!("{:>7} node {id}: {timer:?}", self.now_ms));
        }
        let asked = replica.is_inquiring();
        let out = replica.step(now, input);
        let begins = asked && !replica.is_inquiring();
        node.begins |= begins;
        if begins && node.kind == Kind::Twin {
            self.sight(sights::TWIN_RETURNED);
        }
        output.merge(out);
    }

    /// Writes the records of a turn; the rest waits for the sync.
    pub(crate) fn take_output(&mut self, id: usize, mut output: Output) {
        let node = &mut self.nodes[id];
        node.timers.change(output.take_timers());
        let output = match output.unless_halted() {
            Ok(output) => output,
            // They are used to seeing their signature under what they did not say.
            Err(stopped) if matches!(node.kind, Kind::Traitor(_) | Kind::Twin) => stopped.ignored(),
            Err(stopped) => return self.halted(id, *stopped),
        };
        let Some(promises) = &mut node.promises else { return };
        let (life, urgent) = (node.life, output.persist().is_urgent());
        let written = promises.write(output.persist());
        node.turn = Some(output);
        if let Err(error) = written {
            return self.disk_failed(id, &error);
        }
        if urgent {
            let sync_ms = self.dice.between(1, self.plan.sync_ms);
            self.after(sync_ms, Event::Synced { node: id, life });
        } else {
            self.finish_turn(id);
        }
    }

    /// A replica stops its node before anything of the turn is promised to anybody.
    fn halted(&mut self, id: usize, Stopped { halt, floors, .. }: Stopped) {
        let node = &mut self.nodes[id];
        let operator = node.operator;
        let mut shown_in =
            floors.iter().map(|(domain, height)| InstanceId { domain: *domain, height: *height });
        // What it made before a loss may have been under way while it asked.
        let forgotten = shown_in.any(|instance| {
            self.oracle.may_repeat(operator, instance)
                || (self.oracle.may_be_reminded(operator, instance) && node.is_below_floor(instance))
        });
        if !(node.restored || forgotten) || !matches!(halt, Halt::SignedElsewhere { .. }) {
            let reason = halt.to_string();
            return self.oracle.complain(Violation::Halted { operator, reason });
        }
        if let Some(Err(error)) = node.promises.as_mut().map(|promises| promises.suspect(floors)) {
            return self.disk_failed(id, &error);
        }
        self.sight(sights::COPY_NOTICED);
        self.note(id, 0, || format!("stops: {halt}"));
        self.down(id);
    }

    /// The sync is done: sends, then stores, then looks for more work.
    pub(crate) fn finish_turn(&mut self, id: usize) {
        let Some(output) = self.nodes[id].turn.take() else { return };
        let urgent = output.persist().is_urgent();
        let doomed = if urgent { self.nodes[id].doomed.take() } else { None };
        if doomed == Some(CrashPoint::BeforeSync) {
            self.fault(fault::CRASH_TORN);
            self.nodes[id].turn = Some(output);
            return self.down(id);
        }
        let Some(mut durable) = self.sync(id, output) else { return };
        self.observe(id, &durable);
        recording::add(std::mem::take(&mut durable.recorded), &mut self.nodes[id].recorded);
        if doomed == Some(CrashPoint::BeforeSend) {
            self.fault(fault::CRASH_SYNCED);
            return self.down(id);
        }
        let until = |world: &mut World, all: usize, cut: bool| match cut {
            true => world.dice.index(all + 1),
            false => all,
        };
        let sent = until(self, durable.send.len(), doomed == Some(CrashPoint::WhileSending));
        durable.send.into_iter().take(sent).for_each(|outbound| self.send(id, outbound));
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
        let stored = until(self, durable.store.len(), doomed == Some(CrashPoint::WhileStoring));
        durable.store.into_iter().take(stored).for_each(|write| self.store(id, write));
        if doomed == Some(CrashPoint::WhileStoring) {
            self.fault(fault::CRASH_STORING);
            return self.down(id);
        }
        durable.work.into_iter().for_each(|work| self.work(id, work));
        durable.tell.into_iter().for_each(|tell| self.tell(id, tell));
        self.inspect(id);
        if self.nodes[id].inbox.is_empty() { self.set_alarm(id) } else { self.turn(id) }
    }

    /// Makes a turn's promises durable; none when the node went down over it.
    fn sync(&mut self, id: usize, output: Output) -> Option<Durable> {
        if self.is_sabotaged(Sabotage::SendBeforeSync) {
            return output.persisted(&mut Unsynced).ok();
        }
        let node = &mut self.nodes[id];
        let (urgent, records) = (output.persist().is_urgent(), output.persist().records.clone());
        let durable = match output.persisted(node.promises.as_mut()?) {
            Ok(durable) => durable,
            Err(error) => {
                node.limbo = records;
                self.disk_failed(id, &error);
                return None;
            }
        };
        if urgent {
            let heard = std::mem::take(&mut node.hearing);
            if node.is_honest() {
                let of_turn = durable.persisted.records.iter();
                of_turn.for_each(|record| self.oracle.synced(node.operator, record));
                heard.into_iter().for_each(|signed| self.oracle.hears(node.operator, signed));
            }
        }
        Some(durable)
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

    fn send(&mut self, id: usize, outbound: Outbound) {
        match outbound {
            Outbound::Broadcast(message) => self.emit(id, None, message),
            Outbound::Send(to, message) => self.emit(id, Some(to), message),
            Outbound::Gossip(transaction) => self.gossip(id, &transaction),
            Outbound::Offer(transactions) => {
                transactions.iter().for_each(|transaction| self.gossip(id, transaction))
            }
            Outbound::GossipEvidence(evidence) => self.gossip_evidence(id, &evidence),
            Outbound::Fetch { from, height } => self.fetch(id, from, height),
            Outbound::Inquire(of) => self.inquire(id, of),
        }
    }

    fn work(&mut self, id: usize, work: Work) {
        match work {
            Work::Combine { instance, round, digest, shares } => {
                let result = keys::combine(self.oracle.quorum(), instance, round, &digest, &shares);
                let input = Input::Combined { instance, round, digest, result };
                let took_ms = self.dice.between(0, COMBINE_MS);
                let life = Some(self.nodes[id].life);
                self.after(took_ms, Event::Input { node: id, life, input: Box::new(input) });
            }
            Work::RecallDuty { to, instance, recall } => {
                if let Some(message) = self.nodes[id].store.recall_duty(instance, recall) {
                    self.sight(sights::DUTY_RECALLED);
                    self.emit(id, Some(to), message);
                }
            }
        }
    }

    fn tell(&mut self, id: usize, tell: Tell) {
        match tell {
            Tell::Admission(ticket, ..) | Tell::DutyAdmission(ticket, _) => {
                let node = &mut self.nodes[id];
                let (operator, asked) = (node.operator, node.owed.remove(&ticket));
                if !asked && node.is_honest() {
                    let owed = node.owed.len();
                    self.oracle.complain(Violation::Unanswered { operator, owed });
                }
            }
            // Seen in `observe`, also where the node goes down before it could say it.
            Tell::Notice(_) => {}
        }
    }

    fn store(&mut self, id: usize, write: StoreWrite) {
        let node = &mut self.nodes[id];
        let (operator, honest, life) = (node.operator, node.is_honest(), node.life);
        match write {
            StoreWrite::Commit { block, certificate, applied, live } => {
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
            StoreWrite::Sealed(certificate) => {
                let instance = certificate.instance;
                node.store.put_certificate(certificate);
                if instance.domain != Domain::Block {
                    node.store.flush();
                    self.sight(sights::DUTY_SEALED);
                }
                self.note(id, instance.height.0, || format!("seals {}", name(instance)));
            }
            StoreWrite::CommitDuty { instance, decided, watermark } => {
                node.store.put_duty(instance, decided.clone(), watermark);
                if let Some((_, certificate)) = decided.filter(|_| honest) {
                    self.oracle.ends(operator, &certificate);
                    self.sight(sights::DUTY_DECIDED);
                }
            }
            StoreWrite::KeepEvidence(pending) => node.store.put_evidence(pending),
            // Only now is it durable up to where nothing is signed.
            StoreWrite::Trust => {
                if let Some(Err(error)) = node.promises.as_mut().map(Promises::trust) {
                    return self.disk_failed(id, &error);
                }
                self.sight(sights::ABSTAINED);
            }
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

    /// Counts what a campaign wants to have seen, and complains of what a turn must never say.
    fn observe(&mut self, id: usize, durable: &Durable) {
        let node = &mut self.nodes[id];
        let (told, begins) = (std::mem::take(&mut node.told), std::mem::take(&mut node.begins));
        if !node.is_honest() {
            return;
        }
        if begins {
            self.observe_start(durable);
        }
        let mut timed_out = BTreeSet::new();
        for tell in &durable.tell {
            if let Tell::Notice(Notice::Consensus(instance, Note::TimedOut(round, _))) = tell {
                timed_out.insert((*instance, *round));
            }
        }
        let mut decided: Vec<InstanceId> = Vec::new();
        for record in &durable.persisted.records {
            self.observe_record(record, &timed_out, &decided);
            if let Record::Decided(Certificate { instance, .. }) = record {
                decided.push(*instance);
                if told.contains(instance) {
                    self.sight(sights::DECIDED_CATCH_UP);
                }
            }
        }
        for outbound in &durable.send {
            if let Outbound::Broadcast(Message::ValueRequest(_)) = outbound {
                self.sight(sights::VALUE_ASKED);
            }
            if let Outbound::Send(_, Message::ValueReply(_)) = outbound {
                self.sight(sights::VALUE_GIVEN);
            }
        }
        for write in &durable.store {
            let StoreWrite::Commit { certificate, live, .. } = write else { continue };
            if !live {
                self.sight(sights::FETCH_CATCH_UP);
            } else if certificate.round >= Round(2) {
                self.sight(sights::LATE_ROUND);
            }
        }
        for tell in &durable.tell {
            if let Tell::Notice(notice) = tell {
                self.observe_notice(id, notice);
            }
        }
    }

    fn observe_record(
        &mut self,
        record: &Record,
        timed_out: &BTreeSet<(InstanceId, Round)>,
        decided: &[InstanceId],
    ) {
        match record {
            Record::Round(record) => {
                let before = Round(record.round.0.saturating_sub(1));
                match &record.change {
                    None => self.sight(sights::PROPOSAL_JUMP),
                    Some(_) if !timed_out.contains(&(record.instance, before)) => {
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
            Record::PrePrepare(_)
            | Record::Prepare(_)
            | Record::Prepared(_)
            | Record::Commit(_)
            | Record::Decided(_)
            | Record::Value(_)
            | Record::Heard(_) => {}
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
            Notice::BlockDecided { .. }
            | Notice::DutyEnded { .. }
            | Notice::Consensus(..)
            | Notice::Removed(_)
            | Notice::Proposed { .. }
            | Notice::BestPeerHeight(_)
            | Notice::Inquiring { .. }
            | Notice::Abstaining(_) => {}
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
