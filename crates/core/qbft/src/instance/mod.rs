//! The instance: what it knows, how it is restored, what it can tell. The rules are in `turn`.

mod turn;

use crate::votes::Votes;
use crate::{Effect, Event, Host};
use aequa_types::limits::ROUND_WINDOW;
use aequa_types::record::{PreparedRecord, ProposalRecord};
use aequa_types::{
    Certificate, Digest, InstanceId, Message, OperatorIndex, PrePrepare, Quorum, Record, Round, RoundChange,
    Signed, Statement, Value,
};
use std::collections::{BTreeMap, BTreeSet};

/// How many ROUND-CHANGEs of one operator are kept: the newest of them shows how far it is (R5), an
/// earlier one may still be needed by a leader that is behind (R6).
pub const ROUND_CHANGES_KEPT_PER_OPERATOR: usize = 4;
/// How many DECIDED and value replies one peer gets per instance, so that asking is no amplifier.
const ANSWERS_PER_PEER_MAX: u8 = 16;

/// How far an instance has come in its current round; labels of the timeout metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No proposal accepted.
    Idle,
    /// A proposal accepted, PREPARE sent.
    Preprepared,
    /// A PREPARE quorum seen, COMMIT sent.
    Prepared,
    /// A COMMIT quorum seen, but the value is still missing.
    Commit,
}

/// What the vote log remembers of one instance.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Its records, oldest first.
    pub records: Vec<Record>,
    /// The values of its VALUE records, decoded and hashed again.
    pub values: Vec<Value>,
}

/// One operator's own statements of one round. Monotone: what is set is never replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Own {
    proposal: Option<ProposalRecord>,
    prepare: Option<Signed>,
    commit: Option<Signed>,
    /// The signer would not sign a COMMIT of this round; asking again is pointless.
    commit_refused: bool,
    change: Option<RoundChange>,
}

/// How often a peer was answered, and for which round last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Answers {
    count: u8,
    round: Option<Round>,
}

/// One consensus instance of one operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Instance {
    id: InstanceId,
    me: OperatorIndex,
    quorum: Quorum,
    round: Round,
    accepted: Option<Digest>,
    prepared: Option<PreparedRecord>,
    own: BTreeMap<Round, Own>,
    proposals: Votes,
    prepares: Votes,
    commits: Votes,
    changes: BTreeMap<OperatorIndex, BTreeMap<Round, RoundChange>>,
    values: BTreeMap<Digest, Value>,
    values_persisted: BTreeSet<Digest>,
    values_wanted: BTreeSet<Digest>,
    input_asked: Option<Round>,
    pending: Option<Certificate>,
    decided: Option<Certificate>,
    answers: BTreeMap<OperatorIndex, Answers>,
    noted_commit_quorum: Option<Round>,
    /// The round whose timer was started last.
    timer: Option<Round>,
    /// The highest round each operator has shown to be in, by any statement.
    shown: BTreeMap<OperatorIndex, Round>,
}

impl Instance {
    /// A fresh instance of operator `me`.
    pub fn new(id: InstanceId, me: OperatorIndex, quorum: Quorum) -> Self {
        Self {
            id,
            me,
            quorum,
            round: Round(0),
            accepted: None,
            prepared: None,
            own: BTreeMap::new(),
            proposals: Votes::default(),
            prepares: Votes::default(),
            commits: Votes::default(),
            changes: BTreeMap::new(),
            values: BTreeMap::new(),
            values_persisted: BTreeSet::new(),
            values_wanted: BTreeSet::new(),
            input_asked: None,
            pending: None,
            decided: None,
            answers: BTreeMap::new(),
            noted_commit_quorum: None,
            timer: None,
            shown: BTreeMap::new(),
        }
    }

    /// The instance as it was when its last record became durable. What was signed then is bound
    /// for ever; [`Event::Start`] sends it again as stored.
    pub fn restore(id: InstanceId, me: OperatorIndex, quorum: Quorum, restored: Restored) -> Self {
        let mut instance = Self::new(id, me, quorum);
        for value in restored.values {
            instance.values_persisted.insert(value.digest());
            instance.values.insert(value.digest(), value);
        }
        for record in restored.records.into_iter().filter(|record| record.instance() == id) {
            instance.replay(record);
        }
        instance.accepted = instance
            .own
            .get(&instance.round)
            .and_then(|own| own.prepare.as_ref())
            .and_then(|prepare| prepare.digest());
        instance
    }

    fn replay(&mut self, record: Record) {
        if let Some(signed) = record.statement() {
            self.show(signed);
        }
        match record {
            Record::PrePrepare(record) => {
                let round = record.proposal.round;
                self.proposals.insert(record.proposal.clone());
                self.own.entry(round).or_default().proposal = Some(record);
            }
            Record::Prepare(vote) => {
                let round = vote.round;
                self.prepares.insert(vote.clone());
                self.round = self.round.max(round);
                self.own.entry(round).or_default().prepare = Some(vote);
            }
            Record::Prepared(record) => {
                for vote in &record.prepares {
                    self.prepares.insert(vote.clone());
                }
                self.prepared = Some(record);
            }
            Record::Commit(vote) => {
                let round = vote.round;
                self.commits.insert(vote.clone());
                self.own.entry(round).or_default().commit = Some(vote);
            }
            Record::Round(record) => {
                self.round = self.round.max(record.round);
                if let Some(change) = record.change {
                    let prepares = self.prepared.as_ref().map(|p| p.prepares.clone()).unwrap_or_default();
                    let message = RoundChange { change, prepares };
                    self.keep_change(message.clone());
                    self.own.entry(record.round).or_default().change = Some(message);
                }
            }
            Record::Decided(certificate) => self.decided = Some(certificate),
            Record::Value(_) | Record::Heard(_) => {}
        }
    }

    /// The instance's name.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// The current round.
    pub fn round(&self) -> Round {
        self.round
    }

    /// The certificate, once decided.
    pub fn decided(&self) -> Option<&Certificate> {
        self.decided.as_ref()
    }

    /// Takes over a stronger certificate for the same decision: answers become shorter.
    pub fn upgrade(&mut self, certificate: Certificate) {
        let same = self.decided.as_ref().is_some_and(|known| known.digest == certificate.digest);
        if same {
            self.decided = Some(certificate);
        }
    }

    /// The value of this digest, if it is known here.
    pub fn value(&self, digest: &Digest) -> Option<&Value> {
        self.values.get(digest)
    }

    /// COMMITs of one (round, digest) seen so far, ordered by operator; their seals add up.
    pub fn commits(&self, round: Round, digest: Digest) -> impl Iterator<Item = &Signed> {
        self.commits.of(round, digest)
    }

    /// How far the current round has come.
    pub fn phase(&self) -> Phase {
        let committed = self.own.get(&self.round).is_some_and(|own| own.commit.is_some());
        match (self.noted_commit_quorum, committed, self.accepted) {
            (Some(_), _, _) => Phase::Commit,
            (_, true, _) => Phase::Prepared,
            (_, _, Some(_)) => Phase::Preprepared,
            _ => Phase::Idle,
        }
    }

    /// A connection to this operator is new: answers given on the old one may be lost.
    pub fn forget_answers(&mut self, operator: OperatorIndex) {
        self.answers.remove(&operator);
    }

    /// The newest own messages: to be sent again while undecided, as stored. After the decision the own
    /// COMMIT, while the group seal may still need its share.
    pub fn newest(&self) -> Vec<Message> {
        if let Some(decided) = &self.decided {
            let unsealed = decided.group_seal().is_none();
            let commit = self.own.get(&decided.round).and_then(|own| own.commit.clone());
            return commit.filter(|_| unsealed).map(Message::Commit).into_iter().collect();
        }
        let mut messages = Vec::new();
        if let Some(own) = self.own.get(&self.round) {
            messages.extend(own.change.clone().map(Message::RoundChange));
            messages.extend(own.proposal.as_ref().and_then(|record| self.proposal_message(record)));
            messages.extend(own.prepare.clone().map(Message::Prepare));
        }
        let commit = self.own.values().rev().find_map(|own| own.commit.clone());
        messages.extend(commit.map(Message::Commit));
        messages.extend(self.values_wanted.iter().map(|digest| {
            Message::ValueRequest(aequa_types::message::ValueRequest { instance: self.id, digest: *digest })
        }));
        messages
    }

    /// Takes one event; returns what is to be done, in order.
    pub fn step(&mut self, host: &mut impl Host, event: Event) -> Vec<Effect> {
        turn::take(self, host, event)
    }

    fn proposal_message(&self, record: &ProposalRecord) -> Option<Message> {
        let value = self.values.get(&record.proposal.digest()?)?;
        Some(Message::PrePrepare(PrePrepare {
            proposal: record.proposal.clone(),
            value: value.bytes().clone(),
            round_changes: record.round_changes.clone(),
            prepares: record.prepares.clone(),
        }))
    }

    /// Keeps a ROUND-CHANGE, or returns the one of the same author and round that it contradicts.
    fn keep_change(&mut self, message: RoundChange) -> Option<Signed> {
        let kept = self.changes.entry(message.change.author).or_default();
        if let Some(first) = kept.get(&message.change.round) {
            return (first.change.claim != message.change.claim).then(|| first.change.clone());
        }
        kept.insert(message.change.round, message);
        while kept.len() > ROUND_CHANGES_KEPT_PER_OPERATOR {
            kept.pop_first();
        }
        None
    }

    /// The smallest round above ours that f+1 operators' newest ROUND-CHANGEs are beyond or at.
    fn catch_up_round(&self) -> Option<Round> {
        let ahead: Vec<Round> = self
            .changes
            .values()
            .filter_map(|kept| kept.last_key_value().map(|(round, _)| *round))
            .filter(|round| *round > self.round)
            .collect();
        if ahead.len() < self.quorum.weak_quorum() { None } else { ahead.into_iter().min() }
    }

    /// Whether a ROUND-CHANGE of an operator says that it has left `round`.
    fn has_left(&self, operator: OperatorIndex, round: Round) -> bool {
        let newest = self.changes.get(&operator).and_then(|kept| kept.last_key_value());
        newest.is_some_and(|(changed, _)| *changed > round)
    }

    /// How many operators have shown `round` or a higher one.
    fn operators_at_or_above(&self, round: Round) -> usize {
        self.shown.values().filter(|shown| **shown >= round).count()
    }

    fn show(&mut self, statement: &Statement) {
        let shown = self.shown.entry(statement.author).or_default();
        *shown = (*shown).max(statement.round);
    }

    /// The ROUND-CHANGEs of the current round once there are q, the highest prepared ones first.
    fn changes_of_round(&self) -> Option<Vec<&RoundChange>> {
        let mut of_round: Vec<&RoundChange> =
            self.changes.values().filter_map(|kept| kept.get(&self.round)).collect();
        if of_round.len() < self.quorum.quorum() {
            return None;
        }
        of_round.sort_by_key(|message| {
            let prepared = crate::highest_prepared([&message.change]).map(|prepared| prepared.round);
            (std::cmp::Reverse(prepared), message.change.author)
        });
        Some(of_round)
    }

    /// A quorum of them whose prepared values are all here, the highest prepared ones first.
    ///
    /// Any q will do. A value that can have been decided is held by an honest one of every q, which
    /// hands it out; a claim whose value nobody hands out is left aside, or one faulty operator that
    /// saw a value prepared and keeps it to itself would stop every leader.
    fn quorum_of_changes(&self) -> Option<Vec<&RoundChange>> {
        let mut usable = self.changes_of_round()?;
        usable.retain(|message| {
            crate::highest_prepared([&message.change])
                .is_none_or(|prepared| self.values.contains_key(&prepared.digest))
        });
        usable.truncate(self.quorum.quorum());
        (usable.len() == self.quorum.quorum()).then_some(usable)
    }

    /// Digests of prepared values that are claimed for the current round and not here.
    fn missing_values(&self) -> Vec<Digest> {
        let changes = self.changes_of_round().unwrap_or_default();
        let claimed = changes.into_iter().filter_map(|message| crate::highest_prepared([&message.change]));
        claimed.map(|prepared| prepared.digest).filter(|digest| !self.values.contains_key(digest)).collect()
    }

    /// Drops what only the rounds before this one needed: of votes, all but late COMMITs, which may still decide;
    /// of own statements, all but the COMMITs, whose shares a seal may want.
    fn forget_earlier_rounds(&mut self) {
        let round = self.round;
        self.prepares.forget_below(round);
        self.commits.forget_below(Round(round.0.saturating_sub(ROUND_WINDOW)));
        self.proposals.forget_below(Round(round.0.saturating_sub(1)));
        self.own.retain(|of, own| *of >= round || own.commit.is_some());
        for own in self.own.range_mut(..round).map(|(_, own)| own) {
            *own = Own { commit: own.commit.take(), ..Own::default() };
        }
        // What is still missing is asked for again.
        self.values_wanted.clear();
        self.forget_values();
    }

    /// Drops values nobody can need any more: a leader may propose one in each of its rounds.
    fn forget_values(&mut self) {
        let weak = self.quorum.weak_quorum();
        let prepared = self.prepared.as_ref().map(|prepared| prepared.digest);
        let own: BTreeSet<Digest> =
            self.own.values().filter_map(|own| own.proposal.as_ref()?.proposal.digest()).collect();
        let committed: BTreeSet<Digest> = self
            .commits
            .candidates()
            .into_iter()
            .filter(|(round, digest)| self.commits.count(*round, *digest) >= weak)
            .map(|(_, digest)| digest)
            .collect();
        self.values.retain(|digest, _| {
            Some(*digest) == prepared || own.contains(digest) || committed.contains(digest)
        });
        self.values_persisted.retain(|digest| self.values.contains_key(digest));
    }
}
