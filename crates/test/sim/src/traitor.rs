//! Operators that lie. A traitor runs the real replica and alters what leaves it, signing with its
//! own key whatever it likes; it cannot sign for others. What each trait does is in `aequa_byzantine`.

use crate::keys::SimKeys;
use crate::sights::{Counts, fault};
use aequa_byzantine::replay::Archive;
use aequa_byzantine::{
    Dice, Heard, Said, Sending, bad_signature, bare_commit, equivocate, forge, mutate, usurp, withhold,
    wrong_round,
};
use aequa_types::{Digest, InstanceId, Message, PrePrepare, RoundChange, Signed};

/// Old messages kept for replay, and how many in a thousand take the place of another.
const ARCHIVE: (usize, u64) = (64, 100);
/// Instances whose proposals are remembered.
const INSTANCES_REMEMBERED: usize = 16;

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

/// What traitors know of each other and of the past; they work together.
pub(crate) struct Conspiracy {
    heard: Heard,
    archive: Archive,
}

impl Default for Conspiracy {
    fn default() -> Self {
        Self { heard: Heard::new(INSTANCES_REMEMBERED), archive: Archive::new(ARCHIVE.0, ARCHIVE.1) }
    }
}

impl Conspiracy {
    /// Any message of anybody. Votes are not remembered: a traitor has what its own replica took.
    pub(crate) fn overhear(&mut self, dice: &mut Dice, message: &Message) {
        if matches!(message, Message::PrePrepare(_)) {
            self.heard.hear(message);
        }
        self.archive.keep(dice, message);
    }

    fn said(&self, instance: InstanceId) -> Option<&Said> {
        self.heard.said(instance)
    }
}

/// One treacherous sending in progress; nodes are named by their numbers.
pub(crate) struct Treason<'a> {
    pub(crate) keys: SimKeys,
    pub(crate) traits: Traits,
    pub(crate) conspiracy: &'a Conspiracy,
    pub(crate) dice: &'a mut Dice,
    pub(crate) faults: &'a mut Counts,
}

impl Treason<'_> {
    /// What a traitor sends instead of `message` to these nodes.
    pub(crate) fn alter(&mut self, message: Message, receivers: &[usize]) -> Vec<Sending<usize>> {
        let to_all = |message| (receivers.to_vec(), message);
        let mutates = self.dice.chance(self.traits.mutate);
        let mutant = if mutates { mutate::mutant(&self.keys, self.dice, &message) } else { None };
        let hoarded = self.traits.hoard && withhold::hoards(&message);
        let mut sendings: Vec<Sending<usize>> = match message {
            Message::Prepare(vote) => self.prepare(vote, hoarded).into_iter().map(to_all).collect(),
            Message::PrePrepare(_)
            | Message::Commit(_)
            | Message::Decided(_)
            | Message::ValueRequest(_)
            | Message::ValueReply(_)
                if hoarded =>
            {
                Vec::new()
            }
            Message::PrePrepare(proposal) => self.propose(proposal, receivers),
            Message::Commit(vote) => self.commit(vote).into_iter().map(to_all).collect(),
            Message::RoundChange(change) => self.change(change).into_iter().map(to_all).collect(),
            other @ (Message::Decided(_) | Message::ValueRequest(_) | Message::ValueReply(_)) => {
                vec![to_all(other)]
            }
        };
        if self.traits.bad_seal {
            let spoil = |message: &mut Message| u64::from(bad_signature::spoil(&self.keys, message));
            let spoilt = sendings.iter_mut().map(|(_, message)| spoil(message)).sum();
            self.count(fault::BAD_SEAL, spoilt);
        }
        if let Some(mutant) = mutant {
            self.count(fault::MUTANT, 1);
            sendings.push(to_all(mutant));
        }
        if self.traits.replay
            && self.dice.chance(200)
            && let Some(old) = self.conspiracy.archive.draw(self.dice)
        {
            sendings.push(to_all(old.clone()));
            self.count(fault::REPLAY, 1);
        }
        if self.traits.divide {
            equivocate::divide(&mut sendings, |node| *node);
        }
        if self.traits.withhold > 0 {
            let withheld = withhold::some(self.dice, self.traits.withhold, &mut sendings);
            self.count(fault::WITHHELD, withheld);
        }
        sendings
    }

    fn propose(&mut self, first: PrePrepare, receivers: &[usize]) -> Vec<Sending<usize>> {
        let (fresh, divide) = (first.prepares.is_empty(), self.traits.divide);
        let half = first.proposal.digest().map(equivocate::half);
        let fits = |digest: Digest| !divide || half != Some(equivocate::half(digest));
        let second = match (fresh, self.traits) {
            (true, Traits { equivocate: true, .. }) => {
                equivocate::second_proposal(&self.keys, self.dice, &first, fits)
            }
            (false, Traits { usurp: true, .. }) => {
                let said = self.conspiracy.said(first.proposal.instance);
                said.and_then(|said| usurp::unprepared(&self.keys, said, &first))
            }
            _ => None,
        };
        let Some(second) = second else { return vec![(receivers.to_vec(), Message::PrePrepare(first))] };
        self.count(if fresh { fault::EQUIVOCATION } else { fault::USURPATION }, 1);
        if divide {
            return [first, second].map(|each| (receivers.to_vec(), Message::PrePrepare(each))).into();
        }
        equivocate::split(self.dice, receivers, first, second).into()
    }

    fn prepare(&mut self, vote: Signed, hoarded: bool) -> Vec<Message> {
        let mut messages = Vec::new();
        for second in self.second_votes(&vote) {
            let commit = bare_commit::of(&self.keys, &second).filter(|_| self.traits.premature);
            messages.push(Message::Prepare(second));
            messages.extend(commit);
        }
        if self.traits.premature {
            self.count(fault::PREMATURE, 1);
            messages.extend(bare_commit::of(&self.keys, &vote));
        }
        if !hoarded {
            messages.push(Message::Prepare(vote));
        }
        messages
    }

    fn commit(&mut self, vote: Signed) -> Vec<Message> {
        let second = self.second_votes(&vote);
        second.into_iter().chain([vote]).map(Message::Commit).collect()
    }

    /// The same vote for every other digest it knows.
    fn second_votes(&mut self, vote: &Signed) -> Vec<Signed> {
        let said = self.conspiracy.said(vote.instance).filter(|_| self.traits.double_vote);
        let mut others = said.map(Said::digests).unwrap_or_default();
        others.retain(|digest| vote.digest() != Some(*digest));
        let second = others.into_iter().map(|digest| equivocate::second_vote(&self.keys, vote, digest));
        let second: Vec<Signed> = second.collect();
        self.count(fault::DOUBLE_VOTE, u64::from(!second.is_empty()));
        second
    }

    fn change(&mut self, honest: RoundChange) -> Vec<Message> {
        let said = self.conspiracy.said(honest.change.instance).filter(|_| self.traits.usurp);
        let usurpation = said.and_then(|said| usurp::unled(&self.keys, self.dice, said, &honest));
        let changes = if self.traits.hoard {
            let ahead: Vec<RoundChange> = wrong_round::ahead(&self.keys, &honest).collect();
            [vec![honest], ahead].concat()
        } else if !self.traits.lie || self.dice.chance(300) {
            vec![honest]
        } else {
            vec![self.lie(&honest)]
        };
        self.count(fault::USURPATION, u64::from(usurpation.is_some()));
        let changes = changes.into_iter().map(Message::RoundChange);
        changes.chain(usurpation.map(Message::PrePrepare)).collect()
    }

    fn lie(&mut self, honest: &RoundChange) -> RoundChange {
        self.count(fault::LIE, 1);
        let known = self.conspiracy.said(honest.change.instance).and_then(|said| said.digests().pop_first());
        let invented = known.and_then(|digest| forge::invented(&self.keys, honest, digest));
        invented.filter(|_| self.dice.chance(500)).unwrap_or_else(|| forge::hidden(&self.keys, honest))
    }

    fn count(&mut self, fault: &'static str, times: u64) {
        if times > 0 {
            *self.faults.entry(fault).or_default() += times;
        }
    }
}
