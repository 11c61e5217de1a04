//! Blocks: beginning a height, messages of members, blocks that were fetched.

use super::Replica;
use crate::instances::{INSTANCES_KEPT, oldest_kept};
use crate::sync::FetchedBlock;
use aequa_qbft::{Event, Phase};
use aequa_signing::Keys;
use aequa_types::record::ValueRecord;
use aequa_types::statement::{Claim, CommitClaim};
use aequa_types::{
    Certificate, CheckedBlock, Height, InstanceId, Message, OperatorIndex, Record, Round, Statement, Value,
    Verified,
};
use std::sync::Arc;

impl<K: Keys> Replica<K> {
    /// Executes what is decided already, opens the instance of the next height and hands it what
    /// came early.
    pub(super) fn begin_height(&mut self) {
        self.finish_decided();
        if self.has_epoch_ended() {
            return;
        }
        let height = self.height();
        if self.sync.only_fetches(height) {
            return self.fetch_if_behind();
        }
        let id = InstanceId::Block(height);
        self.blocks.begin(&self.cx, self.instances.contains(id));
        self.instances.open(id);
        self.drive(id, Event::Start);
        for (from, message) in self.blocks.take_early(height) {
            // Also after they have decided it: later COMMITs may hold the share a seal still needs.
            match self.height() == height {
                true => self.hand_over_current(id, from, message),
                false => self.hand_over(id, from, message),
            }
        }
    }

    /// Ends the epoch after this height, unless something above it is decided or may be with what was signed: what
    /// others rely on is that no COMMIT above it is made. What has begun there is forgotten.
    pub(super) fn end_epoch_after(&mut self, last: Height) {
        let tip = self.cx.chain.tip().height;
        if tip > last || self.signer.guard().has_committed_above(last) {
            return;
        }
        let had_ended = self.has_epoch_ended();
        self.signer.guard_mut().end_after(last);
        if self.has_epoch_ended() {
            let next = InstanceId::Block(tip.next());
            self.cx.out.cancel_timers(next);
            self.instances.forget(next);
        } else if had_ended && !self.is_rejoining() {
            self.begin_height();
        }
    }

    /// Signs nothing any more, and goes no further.
    pub(super) fn end_superseded(&mut self) {
        let tip = self.cx.chain.tip().height;
        let last = self.last_height().map_or(tip, |last| last.min(tip));
        self.signer.guard_mut().supersede();
        self.signer.guard_mut().end_after(last);
    }

    /// A message of the height being agreed, with what was held back before it.
    fn hand_over_current(&mut self, id: InstanceId, from: OperatorIndex, message: Verified) {
        self.roots.hear(&mut self.cx, &message);
        let Some(message) = self.blocks.stir(&mut self.cx, from, message) else { return };
        for (from, message) in self.blocks.take_held_back() {
            self.hand_over(id, from, message);
        }
        self.hand_over(id, from, message);
    }

    /// Blocks decided before a restart but not yet executed: the store had lost them, or their parent.
    pub(super) fn finish_decided(&mut self) {
        while let Some((value, certificate)) = self.instances.decision(InstanceId::Block(self.height())) {
            let Some(block) = value.as_block().cloned() else { return };
            if !self.execute(block, &certificate, true) {
                return;
            }
        }
    }

    /// Executes a decided block and moves the tip; false when that cannot be.
    fn execute(&mut self, block: Arc<CheckedBlock>, certificate: &Certificate, live: bool) -> bool {
        let height = block.header().height;
        let is_executed = self.blocks.execute(&mut self.cx, block, certificate, live);
        if is_executed {
            self.height_ended(height, certificate);
        }
        is_executed
    }

    /// A block was executed: it is to be sealed, and what lies too far below it to be asked about is forgotten.
    pub(super) fn height_ended(&mut self, height: Height, certificate: &Certificate) {
        self.sync.progressed(self.cx.now.elapsed_ms);
        self.open_seal(certificate);
        let oldest = oldest_kept(height);
        self.forget_seals_below(oldest);
        self.instances.forget_blocks_below(oldest);
        self.witness.forget_blocks_below(oldest);
        if let Some(watermark) = oldest.previous() {
            self.signer.guard_mut().raise_watermark(InstanceId::Block(watermark));
        }
    }

    /// A member's message about a block.
    pub(super) fn deliver_block(&mut self, height: Height, from: OperatorIndex, message: Verified) {
        self.watch_message(&message);
        let current = self.height();
        if self.last_height().is_some_and(|last| height > last) {
            return;
        }
        if height > current {
            if let Some(decided) = height.previous() {
                self.sync.shown(from, decided);
            }
            self.blocks.keep_early(&self.cx, height, from, message);
            return self.fetch_if_behind();
        }
        if height == current {
            if self.sync.only_fetches(height) {
                return self.fetch_if_behind();
            }
            return self.hand_over_current(InstanceId::Block(height), from, message);
        }
        self.hand_over(InstanceId::Block(height), from, message);
    }

    /// The block interval is over. A later round has asked for a block of its own.
    pub(super) fn propose_block(&mut self, height: Height) {
        let id = InstanceId::Block(height);
        let is_open = self.instances.get(id).is_some_and(|instance| {
            let idle = instance.round() == Round(0) && instance.phase() == Phase::Idle;
            idle && instance.decided().is_none()
        });
        if !is_open || height != self.height() {
            return;
        }
        let proposal = self.blocks.interval_over(&mut self.cx, self.seals.pending());
        self.carry_out(id, Round(0), proposal);
    }

    /// Certified blocks from a peer: the chain moves without this operator's vote. Each gets our share before the next
    /// one is executed, for the guard closes what lies 32 heights below.
    pub(super) fn on_fetched(&mut self, from: OperatorIndex, blocks: Vec<(Arc<CheckedBlock>, Certificate)>) {
        let before = self.cx.chain.tip().height;
        self.sync.answered(from, blocks, before, self.cx.now.elapsed_ms);
        while let Some(fetched) = self.next_fetched() {
            if !self.execute_fetched(&fetched) {
                return;
            }
            let (_, block, certificate) = fetched;
            self.add_share(block, &certificate);
        }
        if self.cx.chain.tip().height > before {
            self.begin_height();
        }
        self.fetch_if_behind();
    }

    /// The fetched block that comes next, where it is one of this epoch or of one before.
    pub(super) fn next_fetched(&mut self) -> Option<FetchedBlock> {
        if self.has_epoch_ended() { None } else { self.sync.take(self.height()) }
    }

    /// Asks members that are ahead for blocks. When the epoch has ended they are so in the next one.
    pub(super) fn fetch_if_behind(&mut self) {
        if !self.has_epoch_ended() {
            self.sync.fetch_if_behind(&mut self.cx);
        }
    }

    /// Executes a fetched block in place of whatever was under way at its height; false when that cannot be.
    pub(super) fn execute_fetched(&mut self, (_, block, certificate): &FetchedBlock) -> bool {
        let next = InstanceId::Block(block.header().height);
        certificate.commits().iter().for_each(|commit| self.see(commit));
        self.cx.out.cancel_timers(next);
        self.instances.forget(next);
        self.execute(block.clone(), certificate, false)
    }

    /// R9 for a fetched block: its certificate decides it. This operator's share may be the one the others
    /// still need for their seal, also when the giver had the seal and kept it to itself. Only for heights
    /// whose shares are still collected. The log takes the decision first, as for one made here.
    pub(super) fn add_share(&mut self, block: Arc<CheckedBlock>, certificate: &Certificate) {
        let asked_for = certificate.instance.number().saturating_add(INSTANCES_KEPT) > self.sync.best().0;
        if !self.cx.config.seals || !asked_for {
            return;
        }
        let (instance, round) = (certificate.instance, certificate.round);
        let claim = Claim::Commit(CommitClaim { digest: certificate.digest, seal: None });
        let statement = Statement { instance, round, author: self.cx.config.me, claim };
        let Ok(vote) = self.signer.sign(statement) else { return };
        let value = Value::block(block).bytes().clone();
        self.cx.out.record(Record::Value(ValueRecord { instance, value }));
        self.cx.out.record(Record::Decided(certificate.clone()));
        self.cx.out.record(Record::Commit(vote.clone()));
        self.cx.out.broadcast(Message::Commit(vote.clone()));
        self.add_to_seal(&vote);
    }
}
