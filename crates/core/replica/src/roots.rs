//! What the other members say the state is. Every proposal states, under the signature of its leader, the root after the
//! block that it builds upon. Leaders change with the rounds: where nothing is decided all speak in turn, about the same
//! height.
//!
//! # Rules
//!
//! 1. Heard is who leads its round, with a block of its own upon our tip. A block that was prepared before says what the
//!    root of its first proposer is. Who is silent, behind or on another block is unknown, and counts neither for us nor
//!    against us.
//! 2. Of each member one root counts, that of its highest round: what it said before it was repaired counts no more,
//!    whoever shows it again. The next height begins anew.
//! 3. A member's first other root at a height is told.
//! 4. As many others as the threshold with the same other root: one of them is honest, so this node is wrong, and halts,
//!    naming all of them.
//! 5. No root can have f+1 backers any more, whatever those say that were not heard: that is told once at a height. It
//!    halts nobody, for nobody knows who is right.

use crate::context::Context;
use crate::io::{Halt, Notice, RootComparison};
use aequa_types::{Digest, Height, InstanceId, OperatorIndex, Quorum, Round, Verified};
use std::collections::{BTreeMap, BTreeSet};

/// The least default threshold: where f is 0, one other member may as well be the one that is wrong.
const THRESHOLD_MIN: usize = 2;

/// The roots of the other members, after the block at one height.
#[derive(Debug)]
pub(crate) struct Roots {
    threshold: usize,
    height: Height,
    heard: BTreeMap<OperatorIndex, Announced>,
    /// Members of whose other root was told.
    told: BTreeSet<OperatorIndex>,
    /// That no root has f+1 backers was told.
    is_split: bool,
}

/// What a member said last.
#[derive(Debug, Clone, Copy)]
struct Announced {
    round: Round,
    /// None where its block is not upon our tip.
    root: Option<Digest>,
}

impl Roots {
    pub(crate) fn new(quorum: Quorum) -> Self {
        Self::begun(quorum.weak_quorum().max(THRESHOLD_MIN), Height::default())
    }

    /// Nothing is heard yet; so many others at one other root halt this node.
    fn begun(threshold: usize, height: Height) -> Self {
        Self { threshold, height, heard: BTreeMap::new(), told: BTreeSet::new(), is_split: false }
    }

    pub(crate) fn set_threshold(&mut self, members: usize) {
        self.threshold = members;
    }

    /// Takes a message of the height being agreed on, whatever becomes of it there.
    pub(crate) fn hear(&mut self, cx: &mut Context, message: &Verified) {
        let Some((member, announced)) = announced(cx, message) else { return };
        let (height, ours) = (cx.chain.tip().height, cx.chain.tip().state_root);
        if self.height != height {
            *self = Self::begun(self.threshold, height);
        }
        if self.heard.get(&member).is_some_and(|before| announced.round <= before.round) {
            return;
        }
        self.heard.insert(member, announced);
        cx.out.notify(Notice::RootCompared(match announced.root {
            None => RootComparison::Unknown,
            Some(theirs) if theirs == ours => RootComparison::Agree,
            Some(_) => RootComparison::Disagree,
        }));
        if let Some(theirs) = announced.root.filter(|theirs| *theirs != ours) {
            if self.told.insert(member) {
                cx.out.notify(Notice::RootDiffers { operator: member, height, ours, theirs });
            }
            self.doubt(cx, theirs);
        }
        self.tell_split(cx, ours);
    }

    /// Rule 4.
    fn doubt(&self, cx: &mut Context, root: Digest) {
        let with_it = self.heard.iter().filter(|(_, announced)| announced.root == Some(root));
        let backers: Vec<OperatorIndex> = with_it.map(|(member, _)| *member).collect();
        if backers.len() >= self.threshold {
            let (k, n) = (backers.len(), cx.config.quorum.operators());
            let reason = format!("{k}/{n} members sign root {root:x}");
            cx.out.halt(Halt::Diverged { height: self.height, root, reason, backers });
        }
    }

    /// Rule 5.
    fn tell_split(&mut self, cx: &mut Context, ours: Digest) {
        let mut roots = BTreeMap::from([(ours, vec![cx.config.me])]);
        for (member, announced) in &self.heard {
            let backers = announced.root.map(|root| roots.entry(root).or_default());
            backers.into_iter().for_each(|backers| backers.push(*member));
        }
        let most = roots.values().map(Vec::len).max().unwrap_or_default();
        let heard: usize = roots.values().map(Vec::len).sum();
        let unknown = cx.config.quorum.operators().saturating_sub(heard);
        if most + unknown < cx.config.quorum.weak_quorum() && !self.is_split {
            self.is_split = true;
            let roots = roots.into_iter().collect();
            cx.out.notify(Notice::ClusterDiverged { height: self.height, roots });
        }
    }
}

/// Rule 1: whose state a message speaks of, and what it says.
fn announced(cx: &Context, message: &Verified) -> Option<(OperatorIndex, Announced)> {
    let Verified::PrePrepare { proposal, value, .. } = message else { return None };
    let (tip, header) = (cx.chain.tip(), value.as_block()?.header());
    let (member, round) = (proposal.author, proposal.round);
    let id = InstanceId::Block(tip.height.next());
    let speaks_for_itself = header.proposer == member && member != cx.config.me;
    if !speaks_for_itself || proposal.instance != id || cx.elector.leader(id, round) != member {
        return None;
    }
    let is_upon_ours = header.height == tip.height.next() && header.parent_root == tip.digest;
    Some((member, Announced { round, root: is_upon_ours.then_some(header.state_root) }))
}
