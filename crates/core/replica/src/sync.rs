//! Noticing that others are ahead, and fetching what they have decided.

use crate::context::Context;
use crate::io::Notice;
use crate::output::Outbound;
use aequa_types::limits::{EVIDENCE_BYTES_MAX, SYNC_BLOCKS_MAX, SYNC_FRAME_BYTES_MAX};
use aequa_types::{Certificate, CheckedBlock, CheckedTransaction, Height, OperatorIndex, Quorum};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A gap of one block is normal for a moment; after this long without progress it is not.
const STALLED_MS: u64 = 1000;
/// How often the node looks whether it is behind.
pub(crate) const CATCH_UP_INTERVAL_MS: u64 = 500;

/// Operators asked for blocks at a time: f+1 of a small cluster and one more, so that one of them may be slow.
const QUESTIONS_MAX: usize = 3;
/// Bytes of fetched blocks whose turn has not come: an answer of each, and one more.
const AHEAD_BYTES_MAX: usize = (QUESTIONS_MAX + 1) * SYNC_FRAME_BYTES_MAX;
/// An answer is overdue after so many times what the quickest operator took.
const PATIENCE_FACTOR: u64 = 4;
/// Never sooner: a disk or a scheduler may pause for so long.
const PATIENCE_MS_MIN: u64 = 250;
/// Never later: four megabytes over a slow line.
const PATIENCE_MS_MAX: u64 = 4000;
/// As long as nobody has answered.
const PATIENCE_MS_FIRST: u64 = 1000;

/// A block that was fetched, and from whom.
pub(crate) type FetchedBlock = (OperatorIndex, Arc<CheckedBlock>, Certificate);

/// Who is how far, who was asked for which blocks, and what came before the blocks below it.
///
/// Several operators are asked at a time, each for another range. One that takes much longer than the
/// quickest is left behind: its range is asked of another, and it is asked again only where nobody else is
/// ahead. So a member that answers slowly, or not at all, costs one wait and not one per question.
#[derive(Debug)]
pub(crate) struct BlockSync {
    quorum: Quorum,
    /// Highest decided height each operator has shown, by its word or by voting above it.
    shown: BTreeMap<OperatorIndex, Height>,
    questions: BTreeMap<OperatorIndex, Question>,
    /// How long each operator took for its last answer, or would have if it had brought as much as it was asked for.
    took_ms: BTreeMap<OperatorIndex, u64>,
    last_asked: Option<OperatorIndex>,
    /// Fetched blocks whose turn has not come.
    ahead: BTreeMap<Height, FetchedBlock>,
    ahead_bytes: usize,
    progress_at_ms: u64,
    /// Up to this height f+1 honest members hold the blocks, as they showed when asked: they are fetched and not
    /// voted on, for what this operator said there may be forgotten by everybody.
    fetched_only: Height,
}

/// What an operator was asked for, and when.
#[derive(Debug, Clone, Copy)]
struct Question {
    from: Height,
    at_ms: u64,
}

impl Question {
    fn covers(&self, height: Height) -> bool {
        (self.from..self.end()).contains(&height)
    }

    fn end(&self) -> Height {
        Height(self.from.0.saturating_add(SYNC_BLOCKS_MAX))
    }
}

impl BlockSync {
    pub(crate) fn new(quorum: Quorum) -> Self {
        Self {
            quorum,
            shown: BTreeMap::new(),
            questions: BTreeMap::new(),
            took_ms: BTreeMap::new(),
            last_asked: None,
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            progress_at_ms: 0,
            fetched_only: Height::default(),
        }
    }

    /// An operator claims `height` to be decided. Only a reason to ask: nothing is believed
    /// without a certificate.
    pub(crate) fn shown(&mut self, operator: OperatorIndex, height: Height) {
        let shown = self.shown.entry(operator).or_default();
        *shown = (*shown).max(height);
    }

    /// The highest height that an honest operator is known to have shown: f+1 have shown it or more.
    pub(crate) fn best(&self) -> Height {
        let mut shown: Vec<Height> = self.shown.values().copied().collect();
        shown.sort_unstable_by(|a, b| b.cmp(a));
        shown.get(self.quorum.faulty_max()).copied().unwrap_or_default()
    }

    /// q operators have decided this height, so blocks below it are fetched and not voted on.
    pub(crate) fn certified(&mut self, height: Height) {
        self.fetched_only = self.fetched_only.max(height.previous().unwrap_or_default());
    }

    /// Whether the block of this height is fetched and not voted on.
    pub(crate) fn only_fetches(&self, height: Height) -> bool {
        height <= self.fetched_only
    }

    /// Asks peers that are ahead for blocks.
    pub(crate) fn fetch_if_behind(&mut self, cx: &mut Context) {
        let tip = cx.chain.tip().height;
        while let Some((from, height)) = self.next(tip, cx.now.elapsed_ms) {
            cx.out.notify(Notice::BestPeerHeight(self.best()));
            cx.out.send(Outbound::Fetch { from, height });
        }
    }

    pub(crate) fn progressed(&mut self, now_ms: u64) {
        self.progress_at_ms = now_ms;
    }

    /// For how long no block was decided.
    pub(crate) fn idle_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.progress_at_ms)
    }

    /// An operator has answered with these blocks; those above `tip` are kept until they are taken.
    pub(crate) fn answered(
        &mut self,
        by: OperatorIndex,
        blocks: Vec<(Arc<CheckedBlock>, Certificate)>,
        tip: Height,
        now_ms: u64,
    ) {
        let first = blocks.first().map(|(block, _)| block.header().height);
        let asked = self.ended(by, self.parts_of(&blocks), now_ms);
        if asked.map_or(first.is_none(), |question| first != Some(question.from)) {
            // A claim that brings no block is forgotten until it is made again.
            self.shown.remove(&by);
        }
        let window = window(tip);
        for (block, certificate) in blocks {
            let (height, bytes) = (block.header().height, bytes_of(&block));
            if window.contains(&height) && !self.ahead.contains_key(&height) {
                self.ahead.insert(height, (by, block, certificate));
                self.ahead_bytes += bytes;
            }
        }
    }

    /// An operator has not answered, or with nothing that holds: it is no quick one, however quick that was.
    pub(crate) fn failed(&mut self, by: OperatorIndex, now_ms: u64) {
        if self.ended(by, 1, now_ms).is_some() {
            self.took_ms.entry(by).and_modify(|took| *took = (*took).max(PATIENCE_MS_MAX));
        }
        self.shown.remove(&by);
    }

    /// How many such answers a whole one is: whoever is quick with a block at a time is not quick.
    fn parts_of(&self, blocks: &[(Arc<CheckedBlock>, Certificate)]) -> u64 {
        let bytes: usize = blocks.iter().map(|(block, _)| bytes_of(block)).sum();
        let last = blocks.last().map_or(Height(0), |(block, _)| block.header().height);
        // The answer is full, or there is no more to bring.
        if bytes >= SYNC_FRAME_BYTES_MAX / 2 || last >= self.best() {
            return 1;
        }
        SYNC_BLOCKS_MAX.div_ceil(blocks.len().max(1) as u64)
    }

    fn ended(&mut self, by: OperatorIndex, parts: u64, now_ms: u64) -> Option<Question> {
        let question = self.questions.remove(&by)?;
        self.took_ms.insert(by, now_ms.saturating_sub(question.at_ms).saturating_mul(parts));
        Some(question)
    }

    /// Hands out the block of this height, if it was fetched.
    pub(crate) fn take(&mut self, height: Height) -> Option<FetchedBlock> {
        let block = self.ahead.remove(&height)?;
        self.ahead_bytes = self.ahead_bytes.saturating_sub(bytes_of(&block.1));
        Some(block)
    }

    /// Whom to ask next, and for the blocks from which height on, if anybody should be.
    fn next(&mut self, tip: Height, now_ms: u64) -> Option<(OperatorIndex, Height)> {
        self.forget(tip);
        if self.shown.values().all(|shown| *shown <= tip) {
            // Whoever was slow may have had a reason that is over when it is needed again.
            self.took_ms.clear();
        }
        let from = self.uncovered(tip, now_ms)?;
        let operator = self.choose(tip, from, now_ms)?;
        self.questions.insert(operator, Question { from, at_ms: now_ms });
        self.last_asked = Some(operator);
        Some((operator, from))
    }

    /// Drops what the chain has passed, and what is too much to keep, the highest first.
    fn forget(&mut self, tip: Height) {
        // The next block would have been taken: it came by another way, and is asked for if it has to be.
        self.ahead = self.ahead.split_off(&tip.next().next());
        self.ahead_bytes = self.ahead.values().map(|(_, block, _)| bytes_of(block)).sum();
        while self.ahead_bytes > AHEAD_BYTES_MAX
            && let Some((_, (_, block, _))) = self.ahead.pop_last()
        {
            self.ahead_bytes -= bytes_of(&block);
        }
    }

    /// The lowest height above the tip that is neither here nor on its way in time. Beyond the next block only
    /// what an honest operator is known to have, and only while there is room for the answer.
    fn uncovered(&self, tip: Height, now_ms: u64) -> Option<Height> {
        let in_time = |question: &&Question| !self.is_overdue(question, now_ms);
        let (window, mut at) = (window(tip), tip.next());
        while window.contains(&at) {
            let question = self.questions.values().filter(in_time).find(|question| question.covers(at));
            match question {
                Some(question) => at = question.end(),
                None if self.ahead.contains_key(&at) => at = at.next(),
                None => break,
            }
        }
        let expected = (self.questions.len() + 1) * SYNC_FRAME_BYTES_MAX;
        let room = self.ahead_bytes + expected <= AHEAD_BYTES_MAX;
        let wanted = at == tip.next() || (window.contains(&at) && at <= self.best() && room);
        (wanted && self.questions.len() < QUESTIONS_MAX).then_some(at)
    }

    /// Round-robin among those that are ahead and idle: a peer that lies about its height must not be asked
    /// for ever. The slow only where nobody else is ahead.
    fn choose(&self, tip: Height, from: Height, now_ms: u64) -> Option<OperatorIndex> {
        let stalled = self.idle_ms(now_ms) >= STALLED_MS;
        let is_ahead = |operator: &OperatorIndex| {
            let shown = self.shown.get(operator).copied().unwrap_or_default();
            let gap = shown.0.saturating_sub(tip.0);
            shown >= from && (gap > 1 || (gap == 1 && stalled))
        };
        let ahead: Vec<OperatorIndex> = self.quorum.members().filter(is_ahead).collect();
        let quick = |operator: &&OperatorIndex| !self.is_slow(**operator, now_ms);
        let only_quick = ahead.iter().any(|operator| quick(&operator));
        let idle: Vec<OperatorIndex> = ahead
            .iter()
            .filter(|operator| !self.questions.contains_key(operator))
            .filter(|operator| !only_quick || quick(operator))
            .copied()
            .collect();
        let after_last = idle.iter().find(|operator| self.last_asked.is_none_or(|last| **operator > last));
        after_last.or(idle.first()).copied()
    }

    fn is_slow(&self, operator: OperatorIndex, now_ms: u64) -> bool {
        match self.questions.get(&operator) {
            Some(question) => self.is_overdue(question, now_ms),
            None => self.took_ms.get(&operator).is_some_and(|took| *took > self.patience_ms()),
        }
    }

    fn is_overdue(&self, question: &Question, now_ms: u64) -> bool {
        now_ms.saturating_sub(question.at_ms) > self.patience_ms()
    }

    /// A few times what the quickest took.
    fn patience_ms(&self) -> u64 {
        let quickest = self.took_ms.values().min();
        quickest.map_or(PATIENCE_MS_FIRST, |took| {
            took.saturating_mul(PATIENCE_FACTOR).clamp(PATIENCE_MS_MIN, PATIENCE_MS_MAX)
        })
    }
}

/// The heights that may be asked for while the tip is here.
fn window(tip: Height) -> RangeInclusive<Height> {
    tip.next()..=Height(tip.0.saturating_add(SYNC_BLOCKS_MAX * QUESTIONS_MAX as u64))
}

/// Size of a block in memory, about: its head and its evidence are small.
fn bytes_of(block: &CheckedBlock) -> usize {
    const HEAD_BYTES: usize = 1024;
    let evidence = block.evidence().len() * EVIDENCE_BYTES_MAX;
    HEAD_BYTES + evidence + block.items().iter().map(CheckedTransaction::bytes).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_chain::Chain;
    use aequa_types::{Block, ClusterId, Digest, InstanceId, Proof, Round};

    const TIP: Height = Height(100);
    const BEST: Height = Height(1000);

    fn op(index: u8) -> OperatorIndex {
        OperatorIndex(index)
    }

    /// Operator 0 of four, of whom all others claim to be at [`BEST`].
    fn behind() -> BlockSync {
        let mut sync = BlockSync::new(Quorum::of(4).unwrap());
        (1..4).for_each(|operator| sync.shown(op(operator), BEST));
        sync
    }

    /// Everybody who is asked now.
    fn asked(sync: &mut BlockSync, tip: Height, now_ms: u64) -> Vec<(u8, u64)> {
        std::iter::from_fn(|| sync.next(tip, now_ms)).map(|(who, from)| (who.0, from.0)).collect()
    }

    /// Blocks of these heights, whose content matters to nobody here.
    fn blocks(from: u64, count: u64) -> Vec<(Arc<CheckedBlock>, Certificate)> {
        let chain = Chain::genesis(ClusterId::ZERO, Quorum::of(4).unwrap());
        let first = chain.build_block(op(0), 1, Digest::ZERO, Vec::new(), &[]).unwrap();
        let block = |height| {
            let mut block: Block = first.block().clone();
            block.header.height = Height(height);
            let instance = InstanceId::Block(Height(height));
            let proof = Proof::Commits(Vec::new());
            let certificate = Certificate { instance, round: Round(0), digest: Digest::ZERO, proof };
            (Arc::new(CheckedBlock::attest(block, Vec::new())), certificate)
        };
        (from..from + count).map(block).collect()
    }

    /// Lets the chain take what it can.
    fn advance(sync: &mut BlockSync, mut tip: Height) -> Height {
        while sync.take(tip.next()).is_some() {
            tip = tip.next();
        }
        tip
    }

    #[test]
    fn several_operators_are_asked_at_a_time_each_for_other_blocks() {
        let mut sync = behind();
        assert_eq!(asked(&mut sync, TIP, 0), [(1, 101), (2, 165), (3, 229)]);
        // The second answer waits for the first.
        sync.answered(op(2), blocks(165, 64), TIP, 10);
        assert_eq!(advance(&mut sync, TIP), TIP);
        sync.answered(op(1), blocks(101, 64), TIP, 10);
        let tip = advance(&mut sync, TIP);
        assert_eq!(tip, Height(228));
        assert_eq!(asked(&mut sync, tip, 10), [(1, 293), (2, 357)]);
    }

    #[test]
    fn a_quick_answer_that_holds_nothing_makes_nobody_else_slow() {
        let mut sync = behind();
        assert_eq!(asked(&mut sync, TIP, 0).len(), 3);
        sync.failed(op(3), 1);
        assert!(!sync.is_slow(op(1), PATIENCE_MS_MIN + 1), "the first patience is longer");
        sync.answered(op(1), blocks(101, 64), TIP, 600);
        assert!(!sync.is_slow(op(1), 600) && sync.is_slow(op(3), 600));
    }

    #[test]
    fn a_gap_of_a_few_blocks_is_asked_of_one() {
        let mut sync = BlockSync::new(Quorum::of(4).unwrap());
        (1..4).for_each(|operator| sync.shown(op(operator), Height(103)));
        assert_eq!(asked(&mut sync, TIP, 0), [(1, 101)]);
    }

    #[test]
    fn one_that_answers_slowly_costs_one_wait_and_is_then_asked_only_where_it_is_alone() {
        let (mut sync, mut tip, mut now_ms) = (behind(), TIP, 0);
        let mut of_slow = Vec::new();
        let mut due: BTreeMap<(u64, u8), u64> = BTreeMap::new();
        while tip < BEST && now_ms < 60_000 {
            for (who, from) in asked(&mut sync, tip, now_ms) {
                let takes_ms = if who == 3 { 3000 } else { 50 };
                of_slow.extend((who == 3).then_some(from));
                due.insert((now_ms + takes_ms, who), from);
            }
            // The host asks twice a second, and after every answer.
            let next = due.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            now_ms = next.min(now_ms + CATCH_UP_INTERVAL_MS);
            if now_ms == next
                && let Some(((_, who), from)) = due.pop_first()
            {
                let count = SYNC_BLOCKS_MAX.min(BEST.0 + 1 - from);
                sync.answered(op(who), blocks(from, count), tip, now_ms);
                tip = advance(&mut sync, tip);
            }
        }
        assert_eq!(tip, BEST);
        assert_eq!(of_slow.len(), 1, "{of_slow:?}");
        assert!(now_ms < 3000, "done before the slow one has answered once: {now_ms} ms");
        let mut alone = sync;
        alone.answered(op(3), Vec::new(), tip, now_ms);
        alone.shown(op(3), Height(2000));
        assert_eq!(asked(&mut alone, tip, now_ms), [(3, 1001)]);
    }

    #[test]
    fn one_that_brings_a_block_at_a_time_makes_nobody_else_slow() {
        let mut sync = behind();
        assert_eq!(asked(&mut sync, TIP, 0), [(1, 101), (2, 165), (3, 229)]);
        sync.answered(op(3), blocks(229, 1), TIP, 10);
        sync.answered(op(1), blocks(101, 64), TIP, 400);
        sync.answered(op(2), blocks(165, 64), TIP, 400);
        assert!(![1, 2].into_iter().any(|operator| sync.is_slow(op(operator), 400)));
        let tip = advance(&mut sync, TIP);
        assert_eq!(asked(&mut sync, tip, 400).len(), 3, "the honest are asked again");
    }

    #[test]
    fn one_that_claims_a_height_and_brings_nothing_is_not_asked_until_it_claims_again() {
        let mut sync = BlockSync::new(Quorum::of(4).unwrap());
        sync.shown(op(2), BEST);
        assert_eq!(asked(&mut sync, TIP, 0), [(2, 101)], "one alone is asked for the next blocks only");
        sync.answered(op(2), blocks(500, 3), TIP, 10);
        assert_eq!(asked(&mut sync, TIP, 20), []);
        sync.shown(op(2), BEST);
        assert_eq!(asked(&mut sync, TIP, 30), [(2, 101)]);
        sync.failed(op(2), 10_000);
        assert_eq!(asked(&mut sync, TIP, 10_000), []);
    }

    #[test]
    fn what_comes_early_is_bounded_in_heights_and_bytes() {
        let mut sync = behind();
        assert_eq!(asked(&mut sync, TIP, 0).len(), QUESTIONS_MAX);
        sync.answered(op(2), blocks(102, 5000), TIP, 10);
        assert_eq!(sync.ahead.len() as u64, SYNC_BLOCKS_MAX * QUESTIONS_MAX as u64 - 1);
        let each = bytes_of(&blocks(1, 1)[0].0);
        assert_eq!(sync.ahead_bytes, sync.ahead.len() * each);
        sync.forget(Height(150));
        assert_eq!(sync.ahead_bytes, sync.ahead.len() * each);
        assert!(sync.ahead.keys().all(|height| *height > Height(151)));
    }
}
