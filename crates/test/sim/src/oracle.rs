//! What must never happen. Written on its own: nothing here asks the code under test whether it was
//! right, and quorums, certificates and nonces are counted again.

mod violation;

pub use violation::Violation;

use crate::keys;
use aequa_chain::Applied;
use aequa_types::limits::EVIDENCE_PER_OPERATOR_MAX;
use aequa_types::statement::{Claim, CommitClaim};
use aequa_types::{
    Address, Certificate, CheckedBlock, ClusterId, Decision, Digest, DutyId, Evidence, Height, InstanceId,
    Kind, Message, Offence, OperatorIndex, Proof, Record, Round, Signed, Slot, TxHash, TxKind,
};
use alloy_primitives::B256;
use std::collections::{BTreeMap, BTreeSet};

/// Sendings of an honest operator for one instance: at most so many for each operator there is, and so many
/// more for every pause after which newest messages are sent again.
const SENDINGS_PER_PEER: usize = 40;
/// Slots above those of the others in which an operator without memory signs nothing.
const SLOTS_COVERED: u64 = 64;
const SENDINGS_PER_PAUSE: usize = 12;
/// Heights above its own last one in which an operator remembers what others say.
const HEIGHTS_HEARD: u64 = 2;

type Place = (InstanceId, Round, Kind);
/// What was said in one place, and by whom each of it was heard.
type Hearings = Vec<(Signed, BTreeSet<OperatorIndex>)>;

/// Sees everything, and complains once.
#[derive(Debug)]
pub(crate) struct Oracle {
    cluster: ClusterId,
    operators: usize,
    quorum: usize,
    honest: BTreeSet<OperatorIndex>,
    decided: BTreeMap<InstanceId, Digest>,
    said: BTreeMap<(OperatorIndex, Place), Signed>,
    durable: BTreeMap<(OperatorIndex, Place), Signed>,
    /// Who has heard what operators said, and synced since.
    heard: BTreeMap<(OperatorIndex, Place), Hearings>,
    /// What binds operators on old copies: what members can tell them of, and what they said since.
    reminded: BTreeMap<(OperatorIndex, Place), Signed>,
    /// What the clients of operators posted.
    posted: BTreeSet<(OperatorIndex, DutyId, Digest)>,
    /// (round, digest) an operator has durably prepared or decided: ground for a COMMIT.
    grounds: BTreeSet<(OperatorIndex, InstanceId, Round, Digest)>,
    roots: BTreeMap<Height, (B256, B256)>,
    included: BTreeSet<TxHash>,
    nonces: BTreeMap<(Address, TxKind), u64>,
    history: BTreeMap<(OperatorIndex, Height), Digest>,
    tips: BTreeMap<OperatorIndex, Height>,
    /// Slots up to which an operator that lost its memory is sure to be kept from repeating itself.
    covered: BTreeMap<OperatorIndex, Slot>,
    /// Operators whose true shares of a seal exist.
    shared: BTreeMap<Decision, BTreeSet<OperatorIndex>>,
    /// When an honest operator first sent something for an instance, and how often it has.
    sendings: BTreeMap<(OperatorIndex, InstanceId), (u64, usize)>,
    /// Evidence in the chain, with the height of its block.
    committed: BTreeMap<Offence, Height>,
    /// Evidence that must be in the chain by this height.
    demanded: BTreeMap<Offence, Height>,
    pub(crate) violation: Option<Violation>,
}

impl Oracle {
    /// `honest` are those held to their word, of `operators` in all.
    pub(crate) fn new(cluster: ClusterId, operators: usize, honest: BTreeSet<OperatorIndex>) -> Self {
        Self {
            cluster,
            operators,
            // ceil(2n/3)
            quorum: (2 * operators).div_ceil(3),
            honest,
            decided: BTreeMap::new(),
            said: BTreeMap::new(),
            durable: BTreeMap::new(),
            heard: BTreeMap::new(),
            reminded: BTreeMap::new(),
            posted: BTreeSet::new(),
            grounds: BTreeSet::new(),
            roots: BTreeMap::new(),
            included: BTreeSet::new(),
            nonces: BTreeMap::new(),
            history: BTreeMap::new(),
            tips: BTreeMap::new(),
            covered: BTreeMap::new(),
            shared: BTreeMap::new(),
            sendings: BTreeMap::new(),
            committed: BTreeMap::new(),
            demanded: BTreeMap::new(),
            violation: None,
        }
    }

    /// How many operators decide.
    pub(crate) fn quorum(&self) -> usize {
        self.quorum
    }

    /// Decisions of this operator went with its log: it comes back with what its store holds.
    pub(crate) fn falls_back(&mut self, operator: OperatorIndex, tip: Height) {
        self.tips.insert(operator, tip);
    }

    /// This operator has set its blocks aside, and comes back with the state after this one, which it has from another.
    pub(crate) fn takes_over(&mut self, operator: OperatorIndex, height: Height, digest: Digest) {
        let known = *self.history.entry((operator, height)).or_insert(digest);
        if known != digest {
            let detail = format!("was {known} in an earlier life");
            self.complain(Violation::BrokenChain { operator, height, detail });
        }
        self.falls_back(operator, height);
    }

    /// This operator's memory is gone. It is still held to every word it said about blocks, and about duties in
    /// slots that the others have come near to; `reliable` are those who will not lose what they signed.
    pub(crate) fn forgets(&mut self, operator: OperatorIndex, reliable: BTreeSet<OperatorIndex>) {
        let mut reached: BTreeMap<OperatorIndex, Slot> = BTreeMap::new();
        for (author, (instance, ..)) in self.durable.keys() {
            if let Some(duty) = instance.as_duty()
                && self.honest.contains(author)
                && reliable.contains(author)
            {
                let slot = reached.entry(*author).or_default();
                *slot = duty.slot.max(*slot);
            }
        }
        let mut slots: Vec<Slot> = reached.into_values().collect();
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(*slot));
        // q answers of the n-1 others: f-1 of the honest ones may be missing, and f+1 must name a slot.
        let faulty = (self.operators - 1) / 3;
        let reached =
            (2 * faulty).checked_sub(1).and_then(|last| slots.get(last)).copied().unwrap_or_default();
        let covered = Slot(reached.0 + SLOTS_COVERED);
        self.covered.insert(operator, covered);
        let forgotten = |(author, (instance, ..)): &(OperatorIndex, Place)| {
            *author == operator && is_beyond(*instance, covered)
        };
        self.said.retain(|place, _| !forgotten(place));
        self.reminded.retain(|place, _| !forgotten(place));
        self.durable.retain(|place, _| !forgotten(place));
    }

    /// Whether this operator may say another thing here than in the life it forgot.
    pub(crate) fn may_repeat(&self, operator: OperatorIndex, instance: InstanceId) -> bool {
        self.covered.get(&operator).is_some_and(|covered| is_beyond(instance, *covered))
    }

    /// Whether it has lost its memory, and has said something in this instance.
    pub(crate) fn may_be_reminded(&self, operator: OperatorIndex, instance: InstanceId) -> bool {
        self.covered.contains_key(&operator)
            && self.said.keys().any(|(author, (of, ..))| *author == operator && *of == instance)
    }

    /// This operator comes back on an old copy. Whichever q-1 members it asks, one of them can tell it of what
    /// enough of `reliable` have heard it say, in whichever life: to that it is held, and to what it says from now on.
    pub(crate) fn returns_on_copy(&mut self, operator: OperatorIndex, reliable: &BTreeSet<OperatorIndex>) {
        self.honest.remove(&operator);
        self.reminded.retain(|place, _| place.0 != operator);
        let enough = self.operators - self.quorum + 1;
        let by_operator = |((author, _), _): &(&(OperatorIndex, Place), _)| *author == operator;
        for (place, statements) in self.heard.iter().filter(by_operator) {
            let known = statements.iter().find(|(_, by)| by.intersection(reliable).count() >= enough);
            self.reminded.extend(known.map(|(signed, _)| (*place, signed.clone())));
        }
    }

    /// An honest operator has heard a statement, and synced since.
    pub(crate) fn hears(&mut self, operator: OperatorIndex, signed: Signed) {
        // What is far ahead of it, it cannot know to be said in a place that counts.
        let tip = self.tips.get(&operator).copied().unwrap_or_default();
        if signed.instance.height().is_some_and(|height| height.0 > tip.0 + HEIGHTS_HEARD) {
            return;
        }
        let statements = self.heard.entry((signed.author, place(&signed))).or_default();
        match statements.iter_mut().find(|(known, _)| *known == signed) {
            Some((_, by)) => drop(by.insert(operator)),
            None => statements.push((signed, BTreeSet::from([operator]))),
        }
    }

    /// An operator on an old copy sends a message.
    pub(crate) fn sends_from_copy(&mut self, operator: OperatorIndex, message: &Message) {
        let signed = match message {
            Message::PrePrepare(message) => &message.proposal,
            Message::Prepare(vote) | Message::Commit(vote) => vote,
            Message::RoundChange(message) => &message.change,
            Message::Decided(_) | Message::ValueRequest(_) | Message::ValueReply(_) => return,
        };
        let before = self.reminded.entry((operator, place(signed))).or_insert_with(|| signed.clone());
        if before != signed {
            let (instance, first, second) = (signed.instance, format!("{before:?}"), format!("{signed:?}"));
            self.complain(Violation::Contradiction { operator, instance, first, second });
        }
    }

    /// The first complaint stands.
    pub(crate) fn complain(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// Highest block any honest operator has committed.
    pub(crate) fn highest(&self) -> Height {
        self.tips.values().max().copied().unwrap_or_default()
    }

    /// Instances decided by honest operators.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &InstanceId> {
        self.decided.keys()
    }

    /// An honest operator's record is durable.
    pub(crate) fn synced(&mut self, operator: OperatorIndex, record: &Record) {
        if let Some(signed) = record.statement() {
            self.shares(signed);
            let place = (operator, place(signed));
            let first = self.durable.entry(place).or_insert_with(|| signed.clone());
            // Never sent, perhaps, but the next life could send either.
            if first != signed {
                let (instance, first, second) =
                    (signed.instance, format!("{first:?}"), format!("{signed:?}"));
                self.complain(Violation::Contradiction { operator, instance, first, second });
            }
        }
        match record {
            Record::Prepared(prepared) => {
                let place = (prepared.instance, prepared.round, Kind::Prepare);
                let distinct: BTreeSet<OperatorIndex> = prepared
                    .prepares
                    .iter()
                    .filter(|vote| self::place(vote) == place && vote.digest() == Some(prepared.digest))
                    .filter(|vote| keys::holds(vote))
                    .map(|vote| vote.author)
                    .collect();
                if distinct.len() >= self.quorum {
                    self.grounds.insert((operator, prepared.instance, prepared.round, prepared.digest));
                }
            }
            Record::Decided(certificate) => {
                let ground = (operator, certificate.instance, certificate.round, certificate.digest);
                self.grounds.insert(ground);
                self.decides(certificate);
            }
            Record::PrePrepare(_)
            | Record::Prepare(_)
            | Record::Commit(_)
            | Record::Round(_)
            | Record::Value(_)
            | Record::Heard(_) => {}
        }
    }

    /// An honest operator sends a message; newest ones are sent again after every `pause_ms`.
    pub(crate) fn sends(&mut self, operator: OperatorIndex, message: &Message, now_ms: u64, pause_ms: u64) {
        self.counts(operator, message.instance(), now_ms, pause_ms);
        match message {
            Message::PrePrepare(message) => {
                self.says(operator, &message.proposal);
                let own = message.round_changes.iter().chain(&message.prepares);
                own.filter(|signed| signed.author == operator).for_each(|signed| self.says(operator, signed));
            }
            Message::Prepare(vote) | Message::Commit(vote) => self.says(operator, vote),
            Message::RoundChange(message) => {
                self.says(operator, &message.change);
                let own = message.prepares.iter().filter(|vote| vote.author == operator);
                own.for_each(|vote| self.says(operator, vote));
            }
            Message::Decided(message) => self.decides(&message.certificate),
            Message::ValueRequest(_) | Message::ValueReply(_) => {}
        }
    }

    /// The client of an operator posts a candidate.
    pub(crate) fn posts(&mut self, operator: OperatorIndex, duty: DutyId, digest: Digest) {
        self.posted.insert((operator, duty, digest));
    }

    /// There is a COMMIT with its share of the seal: it was sent, or is durable with its operator.
    pub(crate) fn shares(&mut self, commit: &Signed) {
        if let Claim::Commit(CommitClaim { seal: Some(seal), .. }) = &commit.claim
            && let Some(decision) = commit.decision()
            && *seal == keys::share(commit.author, decision)
        {
            self.shared.entry(decision).or_default().insert(commit.author);
        }
    }

    /// An honest operator ends a duty with a decision.
    pub(crate) fn ends(&mut self, operator: OperatorIndex, certificate: &Certificate) {
        self.decides(certificate);
        if !self.proves(certificate) {
            let instance = certificate.instance;
            self.complain(Violation::BadCertificate { operator, instance });
        }
    }

    /// An honest operator sends something for an instance, for the `count`th time in `elapsed_ms`.
    fn counts(&mut self, operator: OperatorIndex, instance: InstanceId, now_ms: u64, pause_ms: u64) {
        let (first_ms, count) = self.sendings.entry((operator, instance)).or_insert((now_ms, 0));
        *count += 1;
        // Everything once per round, again in every pause, and answers to each of the others.
        let pauses = ((now_ms - *first_ms) / pause_ms.max(1) + 1) as usize;
        let bound = SENDINGS_PER_PEER * self.operators + SENDINGS_PER_PAUSE * pauses;
        if *count > bound {
            let (what, found) = ("sendings for one instance", *count);
            self.complain(Violation::Unbounded { operator, what, found, bound });
        }
    }

    /// A certificate that holds exists, whoever made it.
    pub(crate) fn decides(&mut self, certificate: &Certificate) {
        let first = *self.decided.entry(certificate.instance).or_insert(certificate.digest);
        if first != certificate.digest {
            let instance = certificate.instance;
            self.complain(Violation::Disagreement { instance, first, second: certificate.digest });
        }
    }

    /// An honest operator stores a block.
    pub(crate) fn commits(
        &mut self,
        operator: OperatorIndex,
        block: &CheckedBlock,
        certificate: &Certificate,
        applied: &Applied,
    ) {
        let height = block.header().height;
        self.decides(certificate);
        if certificate.digest != block.digest() || !self.proves(certificate) {
            self.complain(Violation::BadCertificate { operator, instance: InstanceId::Block(height) });
        }
        self.follows(operator, block);
        let roots = (applied.state_root, applied.history_root);
        match self.roots.get(&height) {
            Some(known) if *known != roots => {
                let detail = format!("state root {} is not {}", roots.0, known.0);
                self.complain(Violation::BrokenChain { operator, height, detail });
            }
            Some(_) => {}
            None => {
                self.roots.insert(height, roots);
                self.executes(operator, block);
                self.accuses_by_block(operator, block);
            }
        }
        let tip = self.tips.entry(operator).or_default();
        *tip = (*tip).max(height);
    }

    /// Whether it has heard which block this operator has at a height.
    pub(crate) fn knows(&self, operator: OperatorIndex, height: Height) -> bool {
        self.history.contains_key(&(operator, height))
    }

    /// An honest operator is up again, with this tip after its first step.
    pub(crate) fn restarts(&mut self, operator: OperatorIndex, tip: Height, digest: Digest) {
        let committed = self.tips.get(&operator).copied().unwrap_or_default();
        let before = self.history.get(&(operator, tip)).copied();
        if tip < committed || before.is_some_and(|before| before != digest) {
            self.complain(Violation::LostBlock { operator, committed, found: tip });
        }
    }

    /// An operator is accused of two statements.
    pub(crate) fn accuses(&mut self, first: &Signed, second: &Signed) {
        let sound = first.author == second.author
            && place(first) == place(second)
            && first.claim != second.claim
            && keys::holds(first)
            && keys::holds(second);
        let honest = self.honest.contains(&first.author) && !self.may_repeat(first.author, first.instance);
        if honest || !sound {
            self.complain(Violation::FalseEvidence { operator: first.author });
        }
    }

    /// What an honest operator has must be in the chain at `height`.
    pub(crate) fn demands(&mut self, evidence: &Evidence, height: Height) {
        let offence = evidence.offence();
        if !self.committed.contains_key(&offence) {
            self.demanded.insert(offence, height);
        }
    }

    /// Whether everything demanded is in the chain up to `tip`.
    pub(crate) fn is_satisfied(&self, tip: Height) -> bool {
        self.demanded.keys().all(|offence| {
            self.is_enough(offence.operator)
                || self.committed.get(offence).is_some_and(|committed| *committed <= tip)
        })
    }

    /// The chain need not remember more of an operator.
    fn is_enough(&self, accused: OperatorIndex) -> bool {
        let of_accused = self.committed.keys().filter(|offence| offence.operator == accused);
        of_accused.count() >= EVIDENCE_PER_OPERATOR_MAX
    }

    /// Evidence in a block is sound, and in the chain once; nothing demanded is late.
    fn accuses_by_block(&mut self, operator: OperatorIndex, block: &CheckedBlock) {
        let height = block.header().height;
        for evidence in block.evidence() {
            self.accuses(evidence.first(), evidence.second());
            if self.committed.insert(evidence.offence(), height).is_some() {
                let detail = "carries evidence of an offence a second time".to_owned();
                self.complain(Violation::BrokenChain { operator, height, detail });
            }
        }
        let late = self
            .demanded
            .iter()
            .filter(|(offence, by)| **by <= height && !self.committed.contains_key(offence))
            .map(|(offence, _)| offence.operator)
            .find(|accused| !self.is_enough(*accused));
        if let Some(accused) = late {
            self.complain(Violation::EvidenceIgnored { accused, height });
        }
    }

    fn says(&mut self, operator: OperatorIndex, signed: &Signed) {
        let place = (operator, place(signed));
        let first = self.said.entry(place).or_insert_with(|| signed.clone());
        if first != signed {
            let (first, second) = (format!("{first:?}"), format!("{signed:?}"));
            let instance = signed.instance;
            self.complain(Violation::Contradiction { operator, instance, first, second });
        }
        if let (Kind::Prepare | Kind::PrePrepare, Some(digest), Some(duty)) =
            (signed.kind(), signed.digest(), signed.instance.as_duty())
            && !self.posted.contains(&(operator, duty, digest))
        {
            self.complain(Violation::NotPosted { operator, instance: signed.instance, digest });
        }
        let promised = self.durable.get(&place) == Some(signed);
        let grounded = signed.kind() != Kind::Commit
            || signed.digest().is_some_and(|digest| {
                self.grounds.contains(&(operator, signed.instance, signed.round, digest))
            });
        if !promised || !grounded {
            let (instance, statement) = (signed.instance, format!("{signed:?}"));
            self.complain(Violation::NotDurable { operator, instance, statement });
        }
    }

    /// q distinct COMMITs of this very (instance, round, digest), or the seal of the group over it.
    fn proves(&self, certificate: &Certificate) -> bool {
        match &certificate.proof {
            Proof::Group(seal) => {
                let decision = certificate.decision();
                let shared = self.shared.get(&decision);
                let honest = shared.map_or(0, |shared| shared.intersection(&self.honest).count());
                // Traitors need not show theirs.
                let shares = honest + self.operators - self.honest.len();
                *seal == keys::group_seal(decision) && shares >= self.quorum
            }
            Proof::Commits(_) => {
                let commits = certificate.commits();
                let authors: BTreeSet<OperatorIndex> =
                    commits.iter().filter(|commit| keys::holds(commit)).map(|commit| commit.author).collect();
                authors.len() >= self.quorum && authors.len() == commits.len()
            }
        }
    }

    fn follows(&mut self, operator: OperatorIndex, block: &CheckedBlock) {
        let header = block.header();
        let height = header.height;
        let parent = match height.previous() {
            Some(Height(0)) | None => Some(self.cluster),
            Some(before) => self.history.get(&(operator, before)).copied(),
        };
        if parent != Some(header.parent_root) {
            let detail = "its parent is not the block before".to_owned();
            self.complain(Violation::BrokenChain { operator, height, detail });
        }
        let first = *self.history.entry((operator, height)).or_insert(block.digest());
        if first != block.digest() {
            let detail = format!("was {first} in an earlier life");
            self.complain(Violation::BrokenChain { operator, height, detail });
        }
    }

    /// Each transaction once in the whole chain, nonces without gaps.
    fn executes(&mut self, operator: OperatorIndex, block: &CheckedBlock) {
        let height = block.header().height;
        for item in block.items() {
            let next = self.nonces.entry((item.body().from(), item.body().kind())).or_default();
            let in_order = item.body().nonce() == *next;
            *next += 1;
            if !in_order || !self.included.insert(item.hash()) {
                let detail = format!("transaction {} repeated or out of order", item.hash());
                self.complain(Violation::BrokenChain { operator, height, detail });
            }
        }
    }
}

/// Blocks among decided instances.
pub(crate) fn blocks<'a>(instances: impl Iterator<Item = &'a InstanceId>) -> usize {
    instances.filter(|instance| instance.is_block()).count()
}

/// Whether this is a duty above the slots in which an operator without memory is kept from repeating itself.
fn is_beyond(instance: InstanceId, covered: Slot) -> bool {
    instance.as_duty().is_some_and(|duty| duty.slot > covered)
}

fn place(signed: &Signed) -> Place {
    (signed.instance, signed.round, signed.kind())
}

#[cfg(test)]
mod tests;
