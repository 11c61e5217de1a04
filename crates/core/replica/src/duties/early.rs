//! What members say of duties that this operator's client has not posted yet.
//!
//! Nothing is done for such a duty, nor signed: that is the client's to begin. But clients of different operators are
//! milliseconds apart, and the leader's proposal must not be lost for that. Of each member the latest
//! statements are kept, within bounds that no other member can use up.

use aequa_types::{Digest, DutyId, OperatorIndex, Value, Verified};
use std::collections::{BTreeMap, VecDeque};

/// Statements kept of one member: a proposal and votes of some twenty duties.
const EARLY_PER_MEMBER_MAX: usize = 64;
/// Bytes kept of one member: a proposal of the largest value and its votes, or two of a little less.
const EARLY_BYTES_PER_MEMBER_MAX: usize = 128 << 10;

/// A statement on the wire has no more bytes than this.
const STATEMENT_BYTES: usize = 256;

/// Statements about duties that have not begun here.
#[derive(Debug, Default)]
pub(super) struct EarlyDuties {
    of: BTreeMap<OperatorIndex, VecDeque<Verified>>,
}

impl EarlyDuties {
    /// Keeps a statement, in place of the oldest of the same member when there is no room. Of ROUND-CHANGEs, which
    /// are said again and again, the newest of each duty is kept, and they make room first: a proposal comes once.
    pub(super) fn keep(&mut self, from: OperatorIndex, message: Verified) {
        if message.statement().is_none() {
            return;
        }
        let kept = self.of.entry(from).or_default();
        if kept.contains(&message) {
            return;
        }
        let is_change = |message: &Verified| matches!(message, Verified::RoundChange(_));
        if is_change(&message) {
            kept.retain(|known| !(is_change(known) && known.instance() == message.instance()));
        }
        kept.push_back(message);
        while kept.len() > EARLY_PER_MEMBER_MAX
            || kept.iter().map(bytes_about).sum::<usize>() > EARLY_BYTES_PER_MEMBER_MAX
        {
            let oldest = kept.iter().position(is_change).unwrap_or(0);
            kept.remove(oldest);
        }
    }

    /// Hands out what came for a duty, in the order in which each member said it.
    pub(super) fn take(&mut self, id: DutyId) -> Vec<(OperatorIndex, Verified)> {
        let mut taken = Vec::new();
        for (from, kept) in &mut self.of {
            let (of_duty, others): (Vec<Verified>, Vec<Verified>) =
                kept.drain(..).partition(|message| message.instance() == id.into());
            *kept = others.into();
            taken.extend(of_duty.into_iter().map(|message| (*from, message)));
        }
        taken
    }

    /// A value that a member proposed for this duty.
    pub(super) fn value(&self, id: DutyId, wanted: Digest) -> Option<Value> {
        self.of.values().flatten().find_map(|message| match message {
            Verified::PrePrepare { proposal, value, .. } => {
                (proposal.instance == id.into() && value.digest() == wanted).then(|| value.clone())
            }
            Verified::Prepare(_)
            | Verified::Commit(_)
            | Verified::RoundChange(_)
            | Verified::Decided(_)
            | Verified::ValueRequest(_)
            | Verified::ValueReply { .. } => None,
        })
    }

    /// How many members have spoken of this duty.
    pub(super) fn members_about(&self, id: DutyId) -> usize {
        let speaks = |kept: &&VecDeque<Verified>| kept.iter().any(|message| message.instance() == id.into());
        self.of.values().filter(speaks).count()
    }

    /// Statements kept.
    pub(super) fn len(&self) -> usize {
        self.of.values().map(VecDeque::len).sum()
    }
}

/// Size of a statement with its justification, not too small.
fn bytes_about(message: &Verified) -> usize {
    match message {
        Verified::PrePrepare { value, round_changes, prepares, .. } => {
            value.bytes().0.len() + (1 + round_changes.len() + prepares.len()) * STATEMENT_BYTES
        }
        Verified::RoundChange(message) => (1 + message.prepares.len()) * STATEMENT_BYTES,
        Verified::Prepare(_)
        | Verified::Commit(_)
        | Verified::Decided(_)
        | Verified::ValueRequest(_)
        | Verified::ValueReply { .. } => STATEMENT_BYTES,
    }
}
