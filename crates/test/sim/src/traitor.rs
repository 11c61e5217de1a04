//! Operators that lie. A traitor runs the real replica and alters what leaves it, signing with its
//! own key whatever it likes; it cannot sign for others.

use crate::dice::Dice;
use crate::keys;
use crate::sights::{Counts, fault};
use aequa_types::statement::{Claim, CommitClaim, RoundChangeClaim};
use aequa_types::{
    Block, Decision, Digest, Domain, InstanceId, Message, OperatorIndex, PrePrepare, Prepared, Round,
    RoundChange, Seal, Signed, Statement, Value, ValueBytes,
};
use ssz::{Decode as _, Encode as _};
use std::collections::{BTreeMap, BTreeSet};

/// Old messages kept for replay.
const ARCHIVE_MAX: usize = 64;
/// Proposals kept of one instance.
const PROPOSALS_KEPT: usize = 4;
/// Instances whose proposed digests are remembered for double votes.
const INSTANCES_REMEMBERED: usize = 16;

/// How many rounds in advance a hoarder changes.
const ROUNDS_AHEAD: u64 = 2;

/// What a traitor does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// Proposes two blocks, one to each half.
    pub(crate) equivocate: bool,
    /// Shows each half of the nodes what belongs to one of its two blocks.
    pub(crate) divide: bool,
    /// Votes for every digest it knows.
    pub(crate) double_vote: bool,
    /// Commits without waiting for prepares.
    pub(crate) premature: bool,
    /// Hides or invents what it saw prepared.
    pub(crate) lie: bool,
    /// Spoils its seal shares.
    pub(crate) bad_seal: bool,
    /// Takes votes and values but gives none: only first proposals and round changes leave it.
    pub(crate) hoard: bool,
    /// Sends old messages of anybody again.
    pub(crate) replay: bool,
    /// Claims heights it has not.
    pub(crate) false_height: bool,
    /// Proposes where it does not lead, or what its justification does not allow.
    pub(crate) usurp: bool,
    /// Forgets what it signed whenever it restarts.
    pub(crate) amnesia: bool,
    /// Messages in a thousand of which it also sends an altered form, signed again.
    pub(crate) mutate: u64,
    /// Messages in a thousand it does not send, receiver by receiver.
    pub(crate) withhold: u64,
}

impl Traits {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        Self {
            equivocate: dice.chance(400),
            divide: false,
            double_vote: dice.chance(400),
            premature: dice.chance(250),
            lie: dice.chance(300),
            bad_seal: dice.chance(400),
            hoard: dice.chance(200),
            replay: dice.chance(250),
            false_height: dice.chance(250),
            usurp: dice.chance(250),
            amnesia: dice.chance(200),
            mutate: dice.pick(&[0, 0, 100, 400]),
            withhold: dice.pick(&[0, 0, 300, 700, 1000]),
        }
    }

    /// What it takes to fork a cluster that has too many of these.
    pub(crate) fn forking() -> Self {
        Self { equivocate: true, divide: true, double_vote: true, ..Self::default() }
    }
}

/// The nodes that a divider shows this digest: those with even or those with odd numbers.
fn half(digest: Digest) -> usize {
    usize::from(digest[0] % 2)
}

/// What traitors know of each other and of the past; they work together.
#[derive(Default)]
pub(crate) struct Conspiracy {
    digests: BTreeMap<InstanceId, BTreeSet<Digest>>,
    /// The newest proposals of an instance, to be used again where they do not belong.
    proposals: BTreeMap<InstanceId, Vec<PrePrepare>>,
    archive: Vec<Message>,
}

impl Conspiracy {
    /// Any message of anybody.
    pub(crate) fn overhear(&mut self, dice: &mut Dice, message: &Message) {
        if let Message::PrePrepare(message) = message
            && let Some(digest) = message.proposal.digest()
        {
            self.learn(message.proposal.instance, digest);
            let kept = self.proposals.entry(message.proposal.instance).or_default();
            if kept.len() < PROPOSALS_KEPT && kept.iter().all(|old| old.proposal != message.proposal) {
                kept.push(message.clone());
            }
            while self.proposals.len() > INSTANCES_REMEMBERED {
                self.proposals.pop_first();
            }
        }
        if self.archive.len() < ARCHIVE_MAX {
            self.archive.push(message.clone());
        } else if dice.chance(100) {
            let place = dice.index(ARCHIVE_MAX);
            self.archive[place] = message.clone();
        }
    }

    fn learn(&mut self, instance: InstanceId, digest: Digest) {
        self.digests.entry(instance).or_default().insert(digest);
        while self.digests.len() > INSTANCES_REMEMBERED {
            self.digests.pop_first();
        }
    }

    fn others(&self, instance: InstanceId, than: Digest) -> Vec<Digest> {
        let known = self.digests.get(&instance);
        known.into_iter().flatten().copied().filter(|digest| *digest != than).collect()
    }
}

/// One treacherous sending in progress.
pub(crate) struct Treason<'a> {
    pub(crate) operator: OperatorIndex,
    pub(crate) traits: Traits,
    pub(crate) conspiracy: &'a mut Conspiracy,
    pub(crate) dice: &'a mut Dice,
    pub(crate) faults: &'a mut Counts,
}

/// A message and the nodes that get it.
pub(crate) type Sending = (Vec<usize>, Message);

impl Treason<'_> {
    /// What a traitor sends instead of `message` to these nodes.
    pub(crate) fn alter(&mut self, message: Message, receivers: &[usize]) -> Vec<Sending> {
        let mutant = if self.dice.chance(self.traits.mutate) { self.mutant(&message) } else { None };
        let mut sendings = match message {
            Message::PrePrepare(proposal) => self.propose(proposal, receivers),
            Message::Prepare(vote) => self.prepare(vote, receivers),
            Message::Commit(vote) => self.commit(vote, receivers),
            Message::RoundChange(change) => self.change(change, receivers),
            Message::Decided(_) | Message::ValueReply(_) | Message::ValueRequest(_) if self.traits.hoard => {
                Vec::new()
            }
            other @ (Message::Decided(_) | Message::ValueRequest(_) | Message::ValueReply(_)) => {
                vec![(receivers.to_vec(), other)]
            }
        };
        if let Some(mutant) = mutant {
            self.count(fault::MUTANT);
            sendings.push((receivers.to_vec(), mutant));
        }
        if self.traits.replay && self.dice.chance(200) && !self.conspiracy.archive.is_empty() {
            let old = self.dice.index(self.conspiracy.archive.len());
            self.count(fault::REPLAY);
            sendings.push((receivers.to_vec(), self.conspiracy.archive[old].clone()));
        }
        if self.traits.divide {
            for (to, message) in &mut sendings {
                let half = match message {
                    Message::PrePrepare(message) => message.proposal.digest(),
                    Message::Prepare(vote) | Message::Commit(vote) => vote.digest(),
                    Message::RoundChange(_)
                    | Message::Decided(_)
                    | Message::ValueRequest(_)
                    | Message::ValueReply(_) => None,
                }
                .map(half);
                to.retain(|receiver| half.is_none_or(|half| receiver % 2 == half));
            }
        }
        if self.traits.withhold > 0 {
            for (to, _) in &mut sendings {
                let before = to.len();
                to.retain(|_| !self.dice.chance(self.traits.withhold));
                if to.len() < before {
                    *self.faults.entry(fault::WITHHELD).or_default() += (before - to.len()) as u64;
                }
            }
        }
        sendings
    }

    fn propose(&mut self, first: PrePrepare, receivers: &[usize]) -> Vec<Sending> {
        if self.traits.hoard && first.proposal.round > Round(0) {
            return Vec::new();
        }
        let fresh = first.prepares.is_empty();
        let second = match (fresh, self.traits) {
            (true, Traits { equivocate: true, .. }) => self.second_proposal(&first),
            (false, Traits { usurp: true, .. }) => self.unprepared_proposal(&first),
            _ => None,
        };
        let Some(second) = second else { return vec![(receivers.to_vec(), Message::PrePrepare(first))] };
        self.count(if fresh { fault::EQUIVOCATION } else { fault::USURPATION });
        if self.traits.divide {
            return [first, second].map(|each| (receivers.to_vec(), Message::PrePrepare(each))).into();
        }
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for receiver in receivers {
            if self.dice.chance(500) { one.push(*receiver) } else { two.push(*receiver) }
        }
        if self.dice.chance(100) {
            one = receivers.to_vec();
        }
        vec![(one, Message::PrePrepare(first)), (two, Message::PrePrepare(second))]
    }

    /// The same block a millisecond later, or another choice for a duty: as valid as the first.
    fn second_proposal(&mut self, first: &PrePrepare) -> Option<PrePrepare> {
        let instance = first.proposal.instance;
        let (value, digest) = match instance {
            InstanceId::Block(_) => {
                let mut block = Block::from_ssz_bytes(&first.value.0).ok()?;
                block.header.timestamp_ms += 1;
                while self.traits.divide
                    && first.proposal.digest().map(half) == Some(half(block.header.digest()))
                {
                    block.header.timestamp_ms += 1;
                }
                (ValueBytes(block.as_ssz_bytes().into()), block.header.digest())
            }
            InstanceId::Duty(duty) => {
                let bytes = format!("{{\"slot\":{},\"choice\":{}}}", duty.slot, 2 + self.dice.below(2));
                let value = Value::duty(duty, ValueBytes(bytes.into_bytes().into()));
                (value.bytes().clone(), value.digest())
            }
        };
        self.conspiracy.learn(instance, digest);
        let proposal = self.say(instance, first.proposal.round, Claim::PrePrepare(digest));
        Some(PrePrepare { proposal, value, ..first.clone() })
    }

    /// Another value than the one prepared last, under the very ROUND-CHANGEs that name it.
    fn unprepared_proposal(&mut self, first: &PrePrepare) -> Option<PrePrepare> {
        let (instance, round) = (first.proposal.instance, first.proposal.round);
        let known = self.conspiracy.proposals.get(&instance)?;
        let other = known.iter().find(|known| known.proposal.digest() != first.proposal.digest())?.clone();
        let proposal = self.say(instance, round, Claim::PrePrepare(other.proposal.digest()?));
        Some(PrePrepare { proposal, value: other.value, prepares: Vec::new(), ..first.clone() })
    }

    /// A proposal for the round it changes to, whoever leads it, with as much of a justification as it has.
    fn usurpation(&mut self, change: &RoundChange) -> Option<PrePrepare> {
        let (instance, round) = (change.change.instance, change.change.round);
        let known = self.conspiracy.proposals.get(&instance)?;
        let known = known[self.dice.index(known.len())].clone();
        let proposal = self.say(instance, round, Claim::PrePrepare(known.proposal.digest()?));
        let round_changes = vec![change.change.clone()];
        Some(PrePrepare { proposal, value: known.value, round_changes, prepares: change.prepares.clone() })
    }

    /// A message with one thing changed, signed again where that is possible.
    fn mutant(&mut self, message: &Message) -> Option<Message> {
        let moved = |signed: &Signed, treason: &mut Self| {
            let mut statement = signed.statement.clone();
            match treason.dice.below(4) {
                0 => statement.round = Round(statement.round.0 + treason.dice.between(1, 3)),
                1 => statement.round = Round(statement.round.0.saturating_sub(1)),
                2 => statement.instance = statement.instance.next(),
                _ => {
                    let domain = treason.dice.pick(&Domain::ALL);
                    statement.instance = domain.instance(statement.instance.number());
                }
            }
            keys::sign(treason.operator, statement)
        };
        let shortened = |list: &[Signed], treason: &mut Self| {
            let mut list = list.to_vec();
            if !list.is_empty() {
                let at = treason.dice.index(list.len());
                let element = list.remove(at);
                if treason.dice.chance(500) {
                    // Twice the same instead of one less.
                    list.extend(list.first().cloned().or(Some(element)));
                }
            }
            list
        };
        Some(match message {
            Message::Prepare(vote) => Message::Prepare(moved(vote, self)),
            Message::Commit(vote) => Message::Commit(moved(vote, self)),
            Message::RoundChange(message) => {
                let change = moved(&message.change, self);
                Message::RoundChange(RoundChange { change, prepares: shortened(&message.prepares, self) })
            }
            Message::PrePrepare(message) => Message::PrePrepare(PrePrepare {
                round_changes: shortened(&message.round_changes, self),
                prepares: shortened(&message.prepares, self),
                ..message.clone()
            }),
            Message::Decided(_) | Message::ValueRequest(_) | Message::ValueReply(_) => return None,
        })
    }

    fn prepare(&mut self, vote: Signed, receivers: &[usize]) -> Vec<Sending> {
        let (instance, round) = (vote.instance, vote.round);
        let Some(digest) = vote.digest() else { return Vec::new() };
        let mut sendings = Vec::new();
        for other in self.second_votes(instance, digest) {
            let second = self.say(instance, round, Claim::Prepare(other));
            sendings.push((receivers.to_vec(), Message::Prepare(second)));
            if self.traits.premature {
                sendings.push((receivers.to_vec(), Message::Commit(self.commitment(instance, round, other))));
            }
        }
        if self.traits.premature {
            self.count(fault::PREMATURE);
            sendings.push((receivers.to_vec(), Message::Commit(self.commitment(instance, round, digest))));
        }
        if !self.traits.hoard {
            sendings.push((receivers.to_vec(), Message::Prepare(vote)));
        }
        sendings
    }

    fn commit(&mut self, vote: Signed, receivers: &[usize]) -> Vec<Sending> {
        if self.traits.hoard {
            return Vec::new();
        }
        let (instance, round) = (vote.instance, vote.round);
        let Some(digest) = vote.digest() else { return Vec::new() };
        let mut sendings = Vec::new();
        for other in self.second_votes(instance, digest) {
            sendings.push((receivers.to_vec(), Message::Commit(self.commitment(instance, round, other))));
        }
        let vote = if self.traits.bad_seal { self.spoilt(vote) } else { vote };
        sendings.push((receivers.to_vec(), Message::Commit(vote)));
        sendings
    }

    fn second_votes(&mut self, instance: InstanceId, than: Digest) -> Vec<Digest> {
        if !self.traits.double_vote {
            return Vec::new();
        }
        let others = self.conspiracy.others(instance, than);
        if !others.is_empty() {
            self.count(fault::DOUBLE_VOTE);
        }
        others
    }

    fn change(&mut self, message: RoundChange, receivers: &[usize]) -> Vec<Sending> {
        let usurpation = if self.traits.usurp { self.usurpation(&message) } else { None };
        let mut sendings = self.changed(message, receivers);
        if let Some(usurpation) = usurpation {
            self.count(fault::USURPATION);
            sendings.push((receivers.to_vec(), Message::PrePrepare(usurpation)));
        }
        sendings
    }

    fn changed(&mut self, message: RoundChange, receivers: &[usize]) -> Vec<Sending> {
        if self.traits.hoard {
            return self.changes_ahead(message, receivers);
        }
        if !self.traits.lie || self.dice.chance(300) {
            return vec![(receivers.to_vec(), Message::RoundChange(message))];
        }
        self.count(fault::LIE);
        let (instance, round) = (message.change.instance, message.change.round);
        let known = self.conspiracy.digests.get(&instance).into_iter().flatten().next().copied();
        let invented = known.zip(round.0.checked_sub(1)).filter(|_| self.dice.chance(500));
        let (prepared, prepares) = match invented {
            // A claim it cannot prove: its own PREPARE and whatever quorum it has of something else.
            Some((digest, before)) => {
                let own = self.say(instance, Round(before), Claim::Prepare(digest));
                let mut prepares = message.prepares.clone();
                prepares.retain(|vote| vote.author != self.operator);
                prepares.push(own);
                (Some(Prepared { round: Round(before), digest }), prepares)
            }
            None => (None, Vec::new()),
        };
        let change = self.say(instance, round, Claim::RoundChange(RoundChangeClaim { prepared }));
        vec![(receivers.to_vec(), Message::RoundChange(RoundChange { change, prepares }))]
    }

    /// A true claim of what was prepared, for the coming rounds too: ahead of all honest ones.
    fn changes_ahead(&mut self, message: RoundChange, receivers: &[usize]) -> Vec<Sending> {
        let (instance, round) = (message.change.instance, message.change.round);
        let ahead = (round.0 + 1..=round.0 + ROUNDS_AHEAD).map(|round| {
            let change = self.say(instance, Round(round), message.change.claim.clone());
            let change = RoundChange { change, prepares: message.prepares.clone() };
            (receivers.to_vec(), Message::RoundChange(change))
        });
        let ahead: Vec<Sending> = ahead.collect();
        [vec![(receivers.to_vec(), Message::RoundChange(message))], ahead].concat()
    }

    fn commitment(&mut self, instance: InstanceId, round: Round, digest: Digest) -> Signed {
        let seal = Some(keys::share(self.operator, Decision { instance, round, digest }));
        let vote = self.say(instance, round, Claim::Commit(CommitClaim { digest, seal }));
        if self.traits.bad_seal { self.spoilt(vote) } else { vote }
    }

    fn spoilt(&mut self, vote: Signed) -> Signed {
        let mut statement = vote.statement;
        if let Claim::Commit(commit) = &mut statement.claim
            && commit.seal.is_some()
        {
            commit.seal = Some(Seal::repeat_byte(0xBA));
            *self.faults.entry(fault::BAD_SEAL).or_default() += 1;
        }
        keys::sign(self.operator, statement)
    }

    fn say(&self, instance: InstanceId, round: Round, claim: Claim) -> Signed {
        keys::sign(self.operator, Statement { instance, round, author: self.operator, claim })
    }

    fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }
}
