//! The turn of a node is the production loop's; here what came of it happens, and is watched.

use crate::keys;
use crate::node::{End, Kind, Turn};
use crate::oracle::Violation;
use crate::plan::Sabotage;
use crate::ports::{Broken, Done, Surroundings, Votes};
use crate::promises::Promises;
use crate::sights;
use crate::trace::{hex, name};
use crate::world::{Event, World};
use aequa_host::{Host, HostError};
use aequa_mempool::RemovalReason;
use aequa_qbft::{Note, Phase};
use aequa_replica::{Halt, Input, Notice, Outbound, Persist, SessionEvent, StoreWrite, Tell, Timer, Work};
use aequa_signing::{Elector as _, RoundRobin};
use aequa_types::limits::EVIDENCE_PER_OPERATOR_MAX;
use aequa_types::{
    Certificate, Height, InstanceId, Message, Offence, OperatorIndex, Record, Round, TxKind, Verified,
};
use ssz::Encode;
use std::collections::BTreeSet;

/// Longest the sealing thread takes.
const COMBINE_MS: u64 = 8;
/// Block instances a replica may hold: 32 kept, the one being agreed, and those the log brought back.
const INSTANCES_MAX: usize = 64;
/// Duties open and recent.
const DUTY_INSTANCES_MAX: usize = 3 * (2 * 64 + 1 + 32) + 32 + 256;
/// Signing sessions: of every instance, of duties that were left unsealed by an earlier life, and of older blocks whose
/// turn has not come.
const SESSIONS_MAX: usize = INSTANCES_MAX + DUTY_INSTANCES_MAX + 32 + 256;
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
        for input in &inputs {
            node.hears(input);
            node.owes(input);
            if let Input::Message { message: Verified::Decided(certificate), .. } = input {
                node.told.insert(certificate.instance);
            }
        }
        if inputs.len() > 1 {
            self.sight(sights::BATCHED);
        }
        self.host_turn(id, Some(inputs));
    }

    /// One turn of the production loop, the first where there are no inputs; what came of it waits for the sync.
    pub(crate) fn host_turn(&mut self, id: usize, inputs: Option<Vec<Input>>) {
        let lies = self.is_sabotaged(Sabotage::SendBeforeSync);
        let node = &mut self.nodes[id];
        let now = node.clocks(self.now_ms);
        let (Some(host), Some(promises)) = (&mut node.host, &mut node.promises) else { return };
        let (asked, is_first, before) = (host.replica().is_rejoining(), inputs.is_none(), node.store.tip());
        let faulty = matches!(node.kind, Kind::Traitor(_) | Kind::Twin);
        let ports = Surroundings::new(now, promises, &mut node.store, &mut node.alarms, &mut node.doomed);
        let mut ports = ports.that(faulty, lies);
        let end = match inputs {
            None => host.start(&mut ports),
            Some(inputs) => host.turn(&mut ports, inputs),
        };
        let Surroundings { done, fired, misfired, must_stop, noticed, recorded, votes, .. } = ports;
        let Votes { synced, unsynced, watermarks: shown, .. } = votes;
        node.recorded.extend(recorded.iter().map(Encode::as_ssz_bytes));
        let begins = asked && !host.replica().is_rejoining();
        node.begins |= begins;
        let is_repaired = begins && std::mem::take(&mut node.is_repairing);
        let next = (node.alarms.turn_ended(), host.next_due_ms());
        let operator = node.operator;
        node.limbo = unsynced;
        let (life, twin, honest) = (node.life, node.kind == Kind::Twin, node.is_honest());
        let went_on = end.is_ok() || !done.is_empty();
        let end = end.err().map(|error| match error {
            HostError::Stop(halt) => End::Stopped(halt, shown),
            HostError::Votes(broken)
            | HostError::Members(broken)
            | HostError::Store(broken)
            | HostError::Directory(broken) => match broken {
                Broken::Ends(manner) => End::Prepared(manner),
                Broken::Disk(error) => node.prepared_failure().map_or(End::Disk(error), End::Prepared),
            },
        });
        node.turn = Some(Turn { done, end });
        if is_first {
            self.started(id, before);
        }
        for timer in fired {
            self.trace.note(&[self.now_ms, id as u64], || format!("{:>7} node {id}: {timer:?}", self.now_ms));
        }
        if begins && twin {
            self.sight(sights::TWIN_RETURNED);
        }
        if is_repaired {
            self.sight(sights::REPAIRED);
        }
        if !faulty {
            self.watch_host(operator, misfired, must_stop.filter(|_| went_on), next);
        }
        if honest {
            noticed.iter().for_each(|notice| self.observe_notice(id, notice));
        }
        if synced {
            let sync_ms = self.dice.between(1, self.plan.sync_ms);
            self.after(sync_ms, Event::Synced { node: id, life });
        } else {
            self.finish_turn(id);
        }
    }

    /// The loop around a replica has kept its rules, also that of one that came back on an old copy.
    fn watch_host(
        &mut self,
        operator: OperatorIndex,
        misfired: Vec<Timer>,
        swallowed: Option<Halt>,
        (owed, kept): (Option<u64>, Option<u64>),
    ) {
        if owed != kept {
            self.oracle.complain(Violation::TimerLost { operator, owed, kept });
        }
        for timer in misfired {
            self.oracle.complain(Violation::Misfired { operator, timer });
        }
        if let Some(halt) = swallowed {
            self.oracle.complain(Violation::WentOn { operator, reason: halt.to_string() });
        }
    }

    /// The sync is done: what the turn did happens, and then perhaps the end of the process.
    pub(crate) fn finish_turn(&mut self, id: usize) {
        let Some(Turn { done, end }) = self.nodes[id].turn.take() else { return };
        self.carry_out(id, done);
        match end {
            None => {}
            Some(End::Stopped(halt, shown)) => return self.halted(id, &halt, &shown),
            Some(End::Disk(error)) => return self.disk_failed(id, &error),
            Some(End::Prepared(manner)) => {
                self.fault(manner);
                return self.down(id);
            }
        }
        if self.dice.chance(500) {
            let synced = self.nodes[id].promises.as_mut().map_or(Ok(()), Promises::settle);
            if let Err(error) = synced {
                return self.disk_failed(id, &error);
            }
        }
        self.inspect(id);
        if self.nodes[id].inbox.is_empty() { self.set_alarm(id) } else { self.turn(id) }
    }

    /// A replica stopped its node before anything of the turn was promised to anybody.
    fn halted(&mut self, id: usize, halt: &Halt, shown: &[InstanceId]) {
        let node = &self.nodes[id];
        let operator = node.operator;
        if matches!(halt, Halt::Diverged { .. }) && node.store.is_spoiled() {
            return self.fenced(id, halt);
        }
        // What it made before a loss may have been under way while it asked.
        let forgotten = shown.iter().any(|instance| {
            self.oracle.may_repeat(operator, *instance)
                || (self.oracle.may_be_reminded(operator, *instance) && node.is_below_watermark(*instance))
        });
        if !(node.restored || forgotten) || !matches!(halt, Halt::SignedElsewhere { .. }) {
            let reason = halt.to_string();
            return self.oracle.complain(Violation::Halted { operator, reason });
        }
        self.sight(sights::COPY_NOTICED);
        self.note(id, 0, || format!("stops: {halt}"));
        self.down(id);
    }

    fn carry_out(&mut self, id: usize, done: Vec<Done>) {
        let mut timed_out = BTreeSet::new();
        for done in &done {
            if let Done::Told(Tell::Notice(Notice::Consensus(instance, Note::TimedOut(round, _)))) = done {
                timed_out.insert((*instance, *round));
            }
        }
        let node = &mut self.nodes[id];
        let (told, begins) = (std::mem::take(&mut node.told), std::mem::take(&mut node.begins));
        for done in done {
            if begins && self.nodes[id].is_honest() {
                self.observe_start(&done);
            }
            match done {
                Done::Persisted(persist) => self.persisted(id, &persist, &timed_out, &told),
                Done::Sent(outbound) => self.send(id, outbound),
                Done::Stored(write) => self.stored(id, write),
                Done::Worked(work) => self.work(id, work),
                Done::Told(tell) => self.tell(id, tell),
                Done::Trusted => self.sight(sights::ABSTAINED),
                Done::Pruned(0) => {}
                Done::Pruned(_) => self.sight(sights::LOG_PRUNED),
            }
        }
    }

    /// Votes are durable; what others said before is too.
    fn persisted(
        &mut self,
        id: usize,
        persist: &Persist,
        timed_out: &BTreeSet<(InstanceId, Round)>,
        told: &BTreeSet<InstanceId>,
    ) {
        let node = &mut self.nodes[id];
        let (operator, honest, urgent) = (node.operator, node.is_honest(), persist.is_urgent());
        let heard = if urgent { std::mem::take(&mut node.hearing) } else { Vec::new() };
        if !honest || self.is_sabotaged(Sabotage::SendBeforeSync) {
            return;
        }
        if urgent {
            persist.records.iter().for_each(|record| self.oracle.synced(operator, record));
            heard.into_iter().for_each(|signed| self.oracle.hears(operator, signed));
        }
        let mut decided: Vec<InstanceId> = Vec::new();
        for record in &persist.records {
            self.observe_record(record, timed_out, &decided);
            if let Record::Decided(Certificate { instance, .. }) = record {
                decided.push(*instance);
                if told.contains(instance) {
                    self.sight(sights::DECIDED_CATCH_UP);
                }
            }
        }
    }

    /// What a node does when it begins to take part.
    fn observe_start(&mut self, done: &Done) {
        if let Done::Stored(StoreWrite::Commit { .. }) = done {
            self.sight(sights::FINISHED_AFTER_RESTART);
        }
        let Done::Sent(Outbound::Broadcast(message)) = done else { return };
        match message {
            Message::PrePrepare(message) if message.proposal.instance.is_block() => {
                self.sight(sights::PROPOSAL_RESENT)
            }
            Message::Prepare(_) | Message::Commit(_) | Message::RoundChange(_) => {
                self.sight(sights::VOTE_RESENT)
            }
            Message::PrePrepare(_)
            | Message::Decided(_)
            | Message::ValueRequest(_)
            | Message::ValueReply(_) => {}
        }
    }

    fn set_alarm(&mut self, id: usize) {
        let node = &mut self.nodes[id];
        let Some(due_ms) = node.host.as_ref().and_then(Host::next_due_ms) else { return };
        let at_ms = (node.born_ms + due_ms).max(self.now_ms);
        if node.wake_at.is_none_or(|wake_at| at_ms < wake_at) {
            node.wake_at = Some(at_ms);
            let life = node.life;
            self.after(at_ms - self.now_ms, Event::Wake { node: id, life });
        }
    }

    fn send(&mut self, id: usize, outbound: Outbound) {
        if self.nodes[id].is_honest() {
            if let Outbound::Broadcast(Message::ValueRequest(_)) = &outbound {
                self.sight(sights::VALUE_ASKED);
            }
            if let Outbound::Send(_, Message::ValueReply(_)) = &outbound {
                self.sight(sights::VALUE_GIVEN);
            }
        }
        match outbound {
            Outbound::Broadcast(message) => self.emit(id, None, message),
            Outbound::Send(to, message) => self.emit(id, Some(to), message),
            Outbound::Spread(transaction) => self.spread(id, &transaction),
            Outbound::Offer(transactions) => {
                transactions.iter().for_each(|transaction| self.spread(id, transaction))
            }
            Outbound::GossipEvidence(evidence) => self.gossip_evidence(id, &evidence),
            Outbound::Fetch { from, height } => self.fetch(id, from, height),
            Outbound::Inquire(of) => self.inquire(id, of),
        }
    }

    fn work(&mut self, id: usize, work: Work) {
        match work {
            Work::Combine { decision, shares } => {
                let result = keys::combine(self.oracle.quorum(), decision, &shares);
                let input = Input::Combined { decision, result };
                let took_ms = self.dice.between(0, COMBINE_MS);
                let life = Some(self.nodes[id].life);
                self.after(took_ms, Event::Input { node: id, life, input: Box::new(input) });
            }
            Work::RecallDuty { to, duty, recall } => {
                if let Some(message) = self.nodes[id].store.recall_duty(duty, recall) {
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
            // Judged at the step that said it, also where the process ended before anybody heard of it.
            Tell::Notice(_) => {}
        }
    }

    /// What the store has now.
    fn stored(&mut self, id: usize, write: StoreWrite) {
        let node = &self.nodes[id];
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
                if honest && !live {
                    self.sight(sights::FETCH_CATCH_UP);
                } else if honest && certificate.round >= Round(2) {
                    self.sight(sights::LATE_ROUND);
                }
                if height.0.is_multiple_of(self.plan.flush_every) {
                    let took_ms = self.dice.between(1, 30);
                    let writes = self.nodes[id].store.writes();
                    self.after(took_ms, Event::Flushed { node: id, life, height, writes });
                }
            }
            StoreWrite::Sealed(certificate) => {
                let instance = certificate.instance;
                if !instance.is_block() {
                    self.sight(sights::DUTY_SEALED);
                }
                self.note(id, instance.number(), || format!("seals {}", name(instance)));
            }
            StoreWrite::CommitDuty { outcome, .. } => {
                if let Some(certificate) = outcome.certificate().filter(|_| honest) {
                    self.oracle.ends(operator, certificate);
                    self.sight(sights::DUTY_DECIDED);
                }
            }
            StoreWrite::KeepEvidence(_) => {}
        }
    }

    /// A flush that ran beside the turns has ended; sometimes the news of it is lost.
    pub(crate) fn flushed(&mut self, id: usize, height: Height, writes: usize) {
        let heard = self.dice.chance(500);
        let node = &mut self.nodes[id];
        node.store.flush_first(writes);
        if let Some(host) = node.host.as_mut().filter(|_| heard) {
            host.flushed(height);
        }
    }

    /// What must hold of a node between two turns.
    fn inspect(&mut self, id: usize) {
        let node = &self.nodes[id];
        let Some(replica) = node.replica().filter(|_| node.is_honest()) else { return };
        let (operator, next) = (node.operator, replica.chain().tip().height.next());
        let decided = node.promises.as_ref().is_some_and(|promises| promises.has_decided(next));
        if decided && next > node.set_aside && !replica.is_rejoining() {
            self.oracle.complain(Violation::Unexecuted { operator, height: next });
        }
        if !node.owed.is_empty() && !replica.is_rejoining() {
            self.oracle.complain(Violation::Unanswered { operator, owed: node.owed.len() });
        }
        let held = replica.held();
        let bounds = [
            ("block instances", held.block_instances, INSTANCES_MAX),
            ("duty instances", held.duty_instances, DUTY_INSTANCES_MAX),
            ("early messages", held.early_messages, EARLY_PER_OPERATOR_MAX * self.plan.quorum.operators()),
            ("signing sessions", held.sessions, SESSIONS_MAX),
            ("pieces of evidence", held.evidence, EVIDENCE_PER_OPERATOR_MAX * self.plan.quorum.operators()),
        ];
        for (what, found, bound) in bounds.into_iter().filter(|(_, found, bound)| found > bound) {
            self.oracle.complain(Violation::Unbounded { operator, what, found, bound });
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
                let Offence { operator, key } = evidence.offence();
                self.note(id, key.round.0, || {
                    let instance = name(key.instance);
                    format!(
                        "has evidence against {operator}: {:?} of {instance} round {}",
                        key.kind, key.round
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
                let (instance, by, refusal) = (name(*instance), *by, refusal.clone());
                self.note(id, 1, || format!("refuses {instance} from {by}: {refusal}"));
            }
            Notice::Consensus(instance, Note::TimedOut(Round(0), Phase::Idle))
                if instance.is_block() && !self.nodes[id].may_lead =>
            {
                let leader = RoundRobin(self.plan.quorum).leader(*instance, Round(0));
                if leader == self.nodes[id].operator {
                    self.sight(sights::ROUND_PASSED);
                }
            }
            Notice::Consensus(instance, Note::RoundEntered(round)) => {
                let (instance, round) = (name(*instance), *round);
                self.note(id, round.0, || format!("enters round {round} of {instance}"));
            }
            Notice::Sealed(_) => self.sight(sights::SEALED),
            Notice::Session(_, SessionEvent::Refused) => self.sight(sights::SESSION_WAITED),
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
            | Notice::Session(..)
            | Notice::Removed(_)
            | Notice::Proposed { .. }
            | Notice::BestPeerHeight(_)
            | Notice::Rejoining { .. }
            | Notice::Abstaining(_)
            | Notice::RootCompared(_)
            | Notice::RootDiffers { .. }
            | Notice::ClusterDiverged { .. } => {}
        }
    }

    /// Adds up what the pools of an ending life counted.
    pub(crate) fn count_pools(&mut self, id: usize) {
        let Some(replica) = self.nodes[id].replica() else { return };
        let pool = replica.mempool();
        let replaced: u64 =
            TxKind::ALL.iter().map(|kind| pool.removed_total(*kind, RemovalReason::Replaced)).sum();
        *self.sights.entry(sights::TX_REPLACED).or_default() += replaced;
    }
}
