//! Evidence on its way into a block: noticed here or gossiped by a member, until it is committed.
//!
//! Everything pending may be carried by the next block: what the chain has come to refuse is dropped with
//! every block. So pending evidence is work, for which a leader proposes even without empty blocks.

use crate::io::Notice;
use crate::output::{Outbound, StoreWrite};
use crate::replica::{Replica, oldest_kept};
use crate::signer::Keys;
use crate::sync::latest_early;
use crate::witness::seen::Seen;
use aequa_chain::Chain;
use aequa_types::limits::{EVIDENCE_PER_BLOCK_MAX, EVIDENCE_PER_OPERATOR_MAX};
use aequa_types::{
    CheckedBlock, CheckedEvidence, Height, InstanceId, Offence, OperatorIndex, Record, Round, Signed,
    Verified,
};
use std::collections::BTreeMap;

/// Pending evidence, per accused operator: none takes the room of another's.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    kept: BTreeMap<OperatorIndex, BTreeMap<Offence, CheckedEvidence>>,
    /// Whether it differs from what the host was given to store.
    changed: bool,
}

impl Pending {
    /// Takes a piece that the next block may carry; true when it was not known.
    fn admit(&mut self, chain: &Chain, evidence: CheckedEvidence) -> bool {
        let offence = evidence.offence();
        if chain.check_evidence(&evidence).is_err() {
            return false;
        }
        let against = self.kept.entry(offence.operator).or_default();
        if against.contains_key(&offence) || against.len() >= room(chain, offence.operator) {
            return false;
        }
        against.insert(offence, evidence);
        self.changed = true;
        true
    }

    /// What the next block should carry: one piece of each accused in turn, then in the order of offences.
    pub(crate) fn choose(&self) -> Vec<CheckedEvidence> {
        let mut of_each: Vec<_> = self.kept.values().map(BTreeMap::values).collect();
        let mut chosen = Vec::new();
        while chosen.len() < EVIDENCE_PER_BLOCK_MAX {
            let before = chosen.len();
            let room = EVIDENCE_PER_BLOCK_MAX - before;
            chosen.extend(of_each.iter_mut().filter_map(Iterator::next).take(room).cloned());
            if chosen.len() == before {
                break;
            }
        }
        chosen.sort_by_key(|evidence| evidence.offence());
        chosen
    }

    /// Drops what the next block may not carry any more.
    fn sift(&mut self, chain: &Chain) {
        let before = self.len();
        for (operator, against) in &mut self.kept {
            against.retain(|_, evidence| chain.check_evidence(evidence).is_ok());
            while against.len() > room(chain, *operator) {
                against.pop_last();
            }
        }
        self.kept.retain(|_, against| !against.is_empty());
        self.changed |= self.len() < before;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.values().map(BTreeMap::len).sum()
    }

    /// Everything pending, in the order of offences.
    pub(crate) fn all(&self) -> impl Iterator<Item = &CheckedEvidence> {
        self.kept.values().flat_map(BTreeMap::values)
    }
}

/// How much more of one operator the chain will remember.
fn room(chain: &Chain, operator: OperatorIndex) -> usize {
    EVIDENCE_PER_OPERATOR_MAX.saturating_sub(chain.state().evidence_against(operator).count())
}

/// What the log holds of what operators said.
pub(crate) fn statements_in(records: &[Record]) -> Vec<Signed> {
    let mut said = Vec::new();
    for record in records {
        said.extend(record.statement().cloned());
        match record {
            Record::PrePrepare(record) => {
                said.extend(record.round_changes.iter().chain(&record.prepares).cloned());
            }
            Record::Prepared(record) => said.extend(record.prepares.iter().cloned()),
            Record::Decided(certificate) => said.extend(certificate.commits()),
            Record::Heard(signed) => said.push(signed.clone()),
            Record::Prepare(_) | Record::Commit(_) | Record::Round(_) | Record::Value(_) => {}
        }
    }
    said
}

impl<K: Keys> Replica<K> {
    /// Compares every statement of a message with what its author said before.
    pub(crate) fn witness_message(&mut self, message: &Verified) {
        match message {
            Verified::PrePrepare { proposal, round_changes, prepares, .. } => {
                self.watch([proposal].into_iter().chain(round_changes).chain(prepares))
            }
            Verified::Prepare(vote) | Verified::Commit(vote) => self.watch([vote]),
            Verified::RoundChange(message) => {
                self.watch([&message.change].into_iter().chain(&message.prepares))
            }
            // Its height is decided by this: whatever we said there, nothing is at stake any more.
            Verified::Decided(certificate) => self.witness(&certificate.commits()),
            Verified::ValueRequest(_) | Verified::ValueReply { .. } => {}
        }
    }

    /// Compares verified statements, and stops the node at one of its own that it does not know.
    pub(crate) fn watch<'a>(&mut self, statements: impl IntoIterator<Item = &'a Signed>) {
        for signed in statements {
            if !self.stop_if_foreign(signed) {
                self.witness([signed]);
            }
        }
    }

    /// Compares verified statements; writes down what is new, for an operator that comes back older than it was must
    /// hear of it, also from a member that has restarted.
    pub(crate) fn witness<'a>(&mut self, statements: impl IntoIterator<Item = &'a Signed>) {
        for signed in statements {
            let (is_new, is_mine) = (self.see(signed), signed.author == self.config.me);
            let is_told = match signed.instance {
                // At the last height too: an operator may come back to it, and those that decided need nobody's vote.
                InstanceId::Block(height) => is_new && height >= self.chain.tip().height,
                InstanceId::Duty(_) => !is_mine && self.heard.hear(signed, self.now.elapsed_ms),
            };
            if is_told && !is_mine {
                self.out.record(Record::Heard(signed.clone()));
            }
        }
    }

    /// Compares what the log holds.
    pub(crate) fn witness_again(&mut self, statements: &[Signed]) {
        for signed in statements {
            self.see(signed);
        }
    }

    /// Compares a verified statement; true when it is the first of its place and to be written down.
    fn see(&mut self, signed: &Signed) -> bool {
        if !self.is_witnessed(signed.instance) {
            return false;
        }
        let current = self.instances.get(&signed.instance).map_or(Round(0), |instance| instance.round());
        match self.witness.see(signed, current, self.now.elapsed_ms) {
            Seen::First { write } => write,
            Seen::Known => false,
            Seen::Contradiction(evidence) => {
                // Only what was verified is ever shown to the witness.
                self.take_evidence(CheckedEvidence::attest(*evidence));
                false
            }
        }
    }

    /// Blocks from those kept for stragglers up to those that come early, and duties in memory.
    fn is_witnessed(&self, id: InstanceId) -> bool {
        match id {
            InstanceId::Block(height) => {
                let tip = self.chain.tip().height;
                (oldest_kept(tip)..=latest_early(tip.next())).contains(&height)
            }
            InstanceId::Duty(_) => self.instances.contains_key(&id),
        }
    }

    /// Evidence noticed here or gossiped by a member: what is new is spread, told, and proposed.
    pub(crate) fn take_evidence(&mut self, evidence: CheckedEvidence) {
        // One of two contradicting statements of ours is not from here.
        if [evidence.first(), evidence.second()].into_iter().any(|signed| self.stop_if_foreign(signed)) {
            return;
        }
        if self.pending.admit(&self.chain, evidence.clone()) {
            self.out.send(Outbound::GossipEvidence(evidence.clone()));
            self.out.notify(Notice::Evidence(evidence));
            self.wake();
        }
    }

    /// What an earlier life stored, in case the gossip of it was lost with that life.
    pub(crate) fn restore_evidence(&mut self, pending: Vec<CheckedEvidence>) {
        let stored = pending.len();
        for evidence in pending {
            self.pending.admit(&self.chain, evidence);
        }
        self.pending.changed = self.pending.len() != stored;
    }

    /// Spreads everything pending again.
    pub(crate) fn gossip_evidence(&mut self) {
        for evidence in self.pending.all().cloned() {
            self.out.send(Outbound::GossipEvidence(evidence));
        }
    }

    /// A block was executed.
    pub(crate) fn evidence_committed(&mut self, block: &CheckedBlock, height: Height) {
        self.witness.forget_blocks_below(oldest_kept(height));
        if !self.pending.is_empty() || !block.evidence().is_empty() {
            self.pending.sift(&self.chain);
        }
    }

    /// Gives the host what is pending when that has changed, once per step.
    pub(crate) fn keep_evidence(&mut self) {
        if std::mem::take(&mut self.pending.changed) {
            self.out.store(StoreWrite::KeepEvidence(self.pending.all().cloned().collect()));
        }
    }
}
