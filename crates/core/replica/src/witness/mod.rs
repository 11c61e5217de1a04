//! What operators were seen to say: contradictions are noticed, and an operator that comes back is told.
//!
//! | module | one idea |
//! |---|---|
//! | `seen` | the first statement of every place, compared with later ones |
//! | `heard` | the last statements about duties, for an operator that comes back older than it was |

mod heard;
mod seen;

use crate::blocks::latest_early;
use crate::context::Context;
use crate::instances::oldest_kept;
use aequa_types::limits::TESTIMONY_STATEMENTS_MAX;
use aequa_types::{
    CheckedEvidence, DutyId, Height, InstanceId, Kind, OperatorIndex, Record, Round, Signed, Verified,
};
use heard::HeardDuties;
use seen::{Seen, Statements};
use std::collections::BTreeMap;

/// Everything verified that reaches the replica, as far as it is remembered.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    seen: Statements,
    heard: HeardDuties,
}

impl Witness {
    /// Compares a verified statement; writes down what is new, for an operator that comes back older than it was must
    /// hear of it, also from a member that has restarted. `round` is that of its instance, if that is open.
    pub(crate) fn see(
        &mut self,
        cx: &mut Context,
        signed: &Signed,
        round: Option<Round>,
    ) -> Option<CheckedEvidence> {
        let is_mine = signed.author == cx.config.me;
        let seen = self.compare(cx, signed, round);
        let is_new = matches!(seen, Some(Seen::First { write: true }));
        let is_told = match signed.instance {
            // At the last height too: an operator may come back to it, and those that decided need nobody's vote.
            InstanceId::Block(height) => is_new && height >= cx.chain.tip().height,
            InstanceId::Duty(_) => !is_mine && self.heard.hear(signed, cx.now.elapsed_ms),
        };
        if is_told && !is_mine {
            cx.out.record(Record::Heard(signed.clone()));
        }
        evidence(seen)
    }

    /// Compares what the log holds.
    pub(crate) fn see_again(
        &mut self,
        cx: &Context,
        signed: &Signed,
        round: Option<Round>,
    ) -> Option<CheckedEvidence> {
        evidence(self.compare(cx, signed, round))
    }

    /// What an earlier life wrote down.
    pub(crate) fn restore_heard(&mut self, signed: Signed) {
        if !signed.instance.is_block() {
            self.heard.restore(signed);
        }
    }

    /// Blocks from those kept for stragglers up to those that come early, and duties in memory.
    fn compare(&mut self, cx: &Context, signed: &Signed, round: Option<Round>) -> Option<Seen> {
        let is_watched = match signed.instance {
            InstanceId::Block(height) => {
                let tip = cx.chain.tip().height;
                (oldest_kept(tip)..=latest_early(tip.next())).contains(&height)
            }
            InstanceId::Duty(_) => round.is_some(),
        };
        is_watched.then(|| self.seen.see(signed, round.unwrap_or_default(), cx.now.elapsed_ms))
    }

    /// Forgets an instance.
    pub(crate) fn forget(&mut self, instance: InstanceId) {
        self.seen.forget(instance);
    }

    /// Forgets blocks below `height`.
    pub(crate) fn forget_blocks_below(&mut self, height: Height) {
        self.seen.forget_blocks_below(height);
    }

    /// Whether anything said of this duty is kept for its author.
    pub(crate) fn heard_of(&self, duty: DutyId) -> bool {
        self.heard.holds(duty)
    }

    /// What was seen of `operator`, to be shown to it: of blocks, whose heights follow each other, the newest
    /// statement of each kind, `early` ones included; of duties what it said last, the newest first.
    pub(crate) fn newest_of<'a>(
        &'a self,
        operator: OperatorIndex,
        early: impl Iterator<Item = &'a Signed>,
    ) -> Vec<Signed> {
        let mut newest: BTreeMap<Kind, &Signed> = BTreeMap::new();
        let seen = self.seen.statements_of(operator).chain(early);
        for signed in seen.filter(|signed| signed.instance.is_block()) {
            let kept = newest.entry(signed.kind()).or_insert(signed);
            if kept.vote_key() < signed.vote_key() {
                *kept = signed;
            }
        }
        let of_duties = self.heard.statements_of(operator);
        newest.into_values().chain(of_duties).take(TESTIMONY_STATEMENTS_MAX).cloned().collect()
    }

    /// Statements kept.
    pub(crate) fn len(&self) -> usize {
        self.seen.len() + self.heard.len()
    }
}

fn evidence(seen: Option<Seen>) -> Option<CheckedEvidence> {
    match seen {
        // Only what was verified is ever shown to the witness.
        Some(Seen::Contradiction(evidence)) => Some(CheckedEvidence::attest(*evidence)),
        Some(Seen::First { .. } | Seen::Known) | None => None,
    }
}

/// The statements that a message carries and that may yet count.
pub(crate) fn statements_of(message: &Verified) -> Vec<&Signed> {
    match message {
        Verified::PrePrepare { proposal, round_changes, prepares, .. } => {
            [proposal].into_iter().chain(round_changes).chain(prepares).collect()
        }
        Verified::Prepare(vote) | Verified::Commit(vote) => vec![vote],
        Verified::RoundChange(message) => [&message.change].into_iter().chain(&message.prepares).collect(),
        Verified::Decided(_) | Verified::ValueRequest(_) | Verified::ValueReply { .. } => Vec::new(),
    }
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
