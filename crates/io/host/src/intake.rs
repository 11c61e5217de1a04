//! Votes on their way in: together when they can make a quorum, unchecked when they no longer can.
//!
//! A vote that completes no quorum changes nothing in a replica, but costs it a turn; and a check of a signature
//! costs about as much as all else that a vote costs. So what members say is taken in like this:
//!
//! ```text
//!            not checked yet                                 checked
//!   arrives ───────┬──────────── check ───────────────┬───────────────────▶ replica
//!                  │ its step has q − 1 votes of      │ fewer than q − 1 votes of
//!                  │ others for the same value        │ others for the same value
//!                  ▼                                  ▼
//!              set aside                           waiting
//!                  │ overdue, height not decided      │ overdue, or the (q − 1)th is here
//!                  └─────▶ check ─▶ replica           └────────▶ replica
//! ```
//!
//! # Rules
//!
//! 1. For a replica this is a network that is slower by twice [`WAIT_MS`] at most: what a quorum may need is never lost, and
//!    nothing is counted that was not checked. With the own vote, q − 1 of others are a quorum; where the own vote is
//!    missing, one more is needed, and comes when it is overdue.
//! 2. Only votes of the height and round being agreed on wait, and only those that their author brings itself. All else
//!    goes straight through.
//! 3. What is set aside in a height that is decided is not checked any more. A second vote of its author in the same
//!    step brings it back: it may be a contradiction, or a call for help.
//! 4. COMMITs are set aside only where blocks have no seals: where they have, a share may be bad, and another one
//!    has to stand in for it.
//! 5. Memory is bounded by steps and members, and holds one vote of each.

use aequa_types::{Digest, Height, Kind, Message, OperatorIndex, Quorum, Round, Signed, Verified};
use std::collections::{BTreeMap, VecDeque};

/// How long a vote waits for others at most, in milliseconds.
pub const WAIT_MS: u64 = 10;
/// Heights below the last decided one whose votes are remembered.
const HEIGHTS_BEHIND: u64 = 8;
/// Steps that votes wait in: two of each height, and some rounds. In more, nothing waits.
const STEPS_MAX: usize = 64;

/// Votes of members that are not the replica's yet.
#[derive(Debug)]
pub struct Intake {
    /// Votes of others that make a quorum with the own one: q − 1.
    needed: usize,
    seals: bool,
    tip: Height,
    steps: BTreeMap<StepKey, Step>,
    /// What waits or is set aside, the oldest first.
    due: VecDeque<(u64, StepKey, OperatorIndex)>,
}

/// What is agreed on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreeing {
    /// The last decided height; the one above it is agreed on.
    pub tip: Height,
    /// The round it is in.
    pub round: Round,
}

/// What has waited long enough.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Overdue {
    /// For the replica.
    pub checked: Vec<(OperatorIndex, Verified)>,
    /// To be checked, and then for the replica.
    pub unchecked: Vec<(OperatorIndex, Message)>,
    /// Votes that nobody needs any more, by kind: their height is decided.
    pub unneeded: Vec<Kind>,
}

type StepKey = (Height, Round, Kind);

#[derive(Debug, Default)]
struct Step {
    /// Votes that were checked.
    votes: BTreeMap<OperatorIndex, Digest>,
    /// Those of them that wait.
    waiting: BTreeMap<OperatorIndex, Verified>,
    /// Votes that were not checked.
    aside: BTreeMap<OperatorIndex, Message>,
}

impl Step {
    fn count(&self, digest: Digest) -> usize {
        self.votes.values().filter(|voted| **voted == digest).count()
    }

    fn has_voted(&self, author: OperatorIndex) -> bool {
        self.votes.contains_key(&author) || self.aside.contains_key(&author)
    }
}

impl Intake {
    /// Nothing waits. `seals`: whether blocks have seals.
    pub fn new(quorum: Quorum, seals: bool) -> Self {
        let needed = quorum.quorum() - 1;
        Self { needed, seals, tip: Height(0), steps: BTreeMap::new(), due: VecDeque::new() }
    }

    /// What is to be checked now that `from` has brought `message`, in this order: nothing when it is set aside.
    pub fn arrived(
        &mut self,
        now_ms: u64,
        agreeing: Agreeing,
        from: OperatorIndex,
        message: Message,
    ) -> Vec<Message> {
        self.forget_below(agreeing.tip);
        let vote = match &message {
            Message::Prepare(vote) | Message::Commit(vote) => place(from, vote),
            Message::PrePrepare(_)
            | Message::RoundChange(_)
            | Message::Decided(_)
            | Message::ValueRequest(_)
            | Message::ValueReply(_) => None,
        };
        let Some((key, digest)) = vote else { return vec![message] };
        let Some(step) = self.steps.get_mut(&key) else { return vec![message] };
        if step.has_voted(from) {
            return step.aside.remove(&from).into_iter().chain([message]).collect();
        }
        let may_be_unneeded = key.2 == Kind::Prepare || !self.seals;
        if !may_be_unneeded || step.count(digest) < self.needed {
            return vec![message];
        }
        step.aside.insert(from, message);
        self.due.push_back((now_ms + WAIT_MS, key, from));
        Vec::new()
    }

    /// What is for the replica now that `message`, which `from` brought, was checked, in this order.
    pub fn passed(
        &mut self,
        now_ms: u64,
        agreeing: Agreeing,
        from: OperatorIndex,
        message: Verified,
    ) -> Vec<(OperatorIndex, Verified)> {
        let vote = match &message {
            Verified::Prepare(vote) | Verified::Commit(vote) => place(from, vote),
            Verified::PrePrepare { .. }
            | Verified::RoundChange(_)
            | Verified::Decided(_)
            | Verified::ValueRequest(_)
            | Verified::ValueReply { .. } => None,
        };
        let Some((key, digest)) = vote else { return vec![(from, message)] };
        let is_agreed_on = (key.0, key.1) == (agreeing.tip.next(), agreeing.round);
        if !self.steps.contains_key(&key) && (!is_agreed_on || self.steps.len() >= STEPS_MAX) {
            return vec![(from, message)];
        }
        let step = self.steps.entry(key).or_default();
        if step.votes.contains_key(&from) {
            let first = step.waiting.remove(&from).map(|first| (from, first));
            return first.into_iter().chain([(from, message)]).collect();
        }
        step.votes.insert(from, digest);
        step.waiting.insert(from, message);
        if step.count(digest) == self.needed {
            return std::mem::take(&mut step.waiting).into_iter().collect();
        }
        self.due.push_back((now_ms + WAIT_MS, key, from));
        Vec::new()
    }

    /// What has waited for [`WAIT_MS`].
    pub fn overdue(&mut self, now_ms: u64, agreeing: Agreeing) -> Overdue {
        let mut overdue = Overdue::default();
        while let Some((_, key, author)) = self.due.pop_front_if(|(due_ms, ..)| *due_ms <= now_ms) {
            let Some(step) = self.steps.get_mut(&key) else { continue };
            overdue.checked.extend(step.waiting.remove(&author).map(|message| (author, message)));
            if key.0 > agreeing.tip {
                overdue.unchecked.extend(step.aside.remove(&author).map(|message| (author, message)));
            } else if step.aside.contains_key(&author) {
                overdue.unneeded.push(key.2);
            }
        }
        overdue
    }

    /// Whether there is or will be something overdue.
    pub fn holds_any(&self) -> bool {
        !self.due.is_empty()
    }

    fn forget_below(&mut self, tip: Height) {
        if tip != self.tip {
            self.tip = tip;
            let oldest = Height(tip.0.saturating_sub(HEIGHTS_BEHIND));
            self.steps = self.steps.split_off(&(oldest, Round(0), Kind::PrePrepare));
        }
    }
}

/// The step of a vote about a block that its author brings itself, and the value it is for.
fn place(from: OperatorIndex, vote: &Signed) -> Option<(StepKey, Digest)> {
    let height = vote.instance.height().filter(|_| vote.author == from)?;
    Some(((height, vote.round, vote.kind()), vote.digest()?))
}

#[cfg(test)]
mod tests;
