//! What must hold of one instance as its recordings tell it, one or several of them together.
//!
//! The oracle of a simulated world sees everything. This one sees what operators recorded: their own
//! records and messages, and whatever they heard. It asks nothing of the code it judges.

use aequa_qbft::Effect;
use aequa_replica::recording::{Replay, What};
use aequa_types::{
    Certificate, Claim, Digest, Kind, Message, OperatorIndex, Proof, Quorum, Record, Round, Signed,
};
use std::collections::{BTreeMap, BTreeSet};

/// Checks what recordings of one instance say, each on its own and all of them together.
#[derive(Debug)]
pub(crate) struct Audit {
    quorum: Quorum,
    said: BTreeMap<(OperatorIndex, Round, Kind), Signed>,
    durable: BTreeSet<(OperatorIndex, Signed)>,
    /// (operator, round, digest) durably prepared or decided: ground for a COMMIT.
    grounds: BTreeSet<(OperatorIndex, Round, Digest)>,
    decided: Option<Digest>,
    /// Operators whose recordings were looked at: they must not contradict themselves.
    recorders: BTreeSet<OperatorIndex>,
    /// What must not be.
    pub(crate) violations: Vec<String>,
    /// Contradictions of operators that were only heard of.
    pub(crate) evidence: Vec<String>,
}

impl Audit {
    pub(crate) fn new(quorum: Quorum, recorders: BTreeSet<OperatorIndex>) -> Self {
        Self {
            quorum,
            said: BTreeMap::new(),
            durable: BTreeSet::new(),
            grounds: BTreeSet::new(),
            decided: None,
            recorders,
            violations: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// Goes through one recording.
    pub(crate) fn replay(&mut self, replay: &Replay) {
        let me = replay.me;
        let lost: BTreeSet<&Signed> =
            replay.statements.iter().filter(|own| own.lost).map(|own| &own.signed).collect();
        // The simulated process ended before these were durable, and before they were sent. A real one
        // records later: there this is reported as what the log lost.
        let left = |signed: Option<&Signed>| signed.is_none_or(|signed| !lost.contains(signed));
        for played in &replay.played {
            match &played.what {
                What::Opened { records, .. } => records.iter().for_each(|record| self.persists(me, record)),
                What::Heard { message, .. } => self.hears(message),
                What::Resent(messages) | What::Connected(_, messages) => {
                    messages
                        .iter()
                        .filter(|sent| left(sent.statement()))
                        .for_each(|sent| self.sends(me, sent));
                }
                What::Fetched { commit, .. } => {
                    self.fetched(me, replay.certificate.as_ref(), commit.as_ref());
                }
                What::Started | What::Input(..) | What::Timeout(_) | What::Upgraded => {}
            }
            for effect in &played.effects {
                match effect {
                    Effect::Persist(record) if left(record.statement()) => self.persists(me, record),
                    Effect::Broadcast(message) | Effect::Send(_, message) if left(message.statement()) => {
                        self.sends(me, message);
                    }
                    Effect::Decided { certificate, .. } => self.decides(certificate),
                    Effect::Persist(_)
                    | Effect::Broadcast(_)
                    | Effect::Send(..)
                    | Effect::SetTimer(_)
                    | Effect::KeepSending(_)
                    | Effect::NeedInput(_)
                    | Effect::NeedValue(_)
                    | Effect::Note(_) => {}
                }
            }
        }
        replay.certificate.iter().for_each(|certificate| self.decides(certificate));
    }

    fn persists(&mut self, me: OperatorIndex, record: &Record) {
        if let Some(signed) = record.statement() {
            self.says(signed);
            self.durable.insert((me, signed.clone()));
        }
        match record {
            Record::Prepared(prepared) => {
                let for_it = |vote: &&Signed| {
                    vote.claim == Claim::Prepare(prepared.digest)
                        && (vote.instance, vote.round) == (prepared.instance, prepared.round)
                        && self.quorum.contains(vote.author)
                };
                let distinct: BTreeSet<OperatorIndex> =
                    prepared.prepares.iter().filter(for_it).map(|vote| vote.author).collect();
                if distinct.len() >= self.quorum.quorum() {
                    self.grounds.insert((me, prepared.round, prepared.digest));
                }
                prepared.prepares.iter().for_each(|vote| self.says(vote));
            }
            Record::Decided(certificate) => {
                self.grounds.insert((me, certificate.round, certificate.digest));
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

    fn sends(&mut self, me: OperatorIndex, message: &Message) {
        self.hears(message);
        let Some(signed) = message.statement() else { return };
        if !self.durable.contains(&(me, signed.clone())) {
            self.violation(signed, "was sent without being durable");
        }
        let commits = signed.digest().filter(|_| signed.kind() == Kind::Commit);
        if commits.is_some_and(|digest| !self.grounds.contains(&(me, signed.round, digest))) {
            self.violation(signed, "was sent without having been prepared or decided");
        }
    }

    fn fetched(&mut self, me: OperatorIndex, certificate: Option<&Certificate>, commit: Option<&Signed>) {
        let (Some(certificate), Some(commit)) = (certificate, commit) else { return };
        self.says(commit);
        if (commit.round, commit.digest()) != (certificate.round, Some(certificate.digest))
            || commit.author != me
        {
            self.violation(commit, "was made for a block that was not the one fetched");
        }
    }

    fn hears(&mut self, message: &Message) {
        match message {
            Message::PrePrepare(message) => {
                self.says(&message.proposal);
                message.round_changes.iter().chain(&message.prepares).for_each(|signed| self.says(signed));
            }
            Message::Prepare(vote) | Message::Commit(vote) => self.says(vote),
            Message::RoundChange(message) => {
                self.says(&message.change);
                message.prepares.iter().for_each(|signed| self.says(signed));
            }
            Message::Decided(message) => self.decides(&message.certificate),
            Message::ValueRequest(_) | Message::ValueReply(_) => {}
        }
    }

    /// Somebody signed this: at most one statement per place.
    fn says(&mut self, signed: &Signed) {
        let place = (signed.author, signed.round, signed.kind());
        let first = self.said.entry(place).or_insert_with(|| signed.clone());
        // Shares are deterministic, so two COMMITs of one digest differ only in a liar's share.
        if first.digest() == signed.digest() && first.kind() != Kind::RoundChange || first == signed {
            return;
        }
        let text = format!("operator {}, round {}: two {:?}s", signed.author, signed.round, signed.kind());
        let known =
            if self.recorders.contains(&signed.author) { &mut self.violations } else { &mut self.evidence };
        if !known.contains(&text) {
            known.push(text);
        }
    }

    /// A certificate whose signatures hold: q distinct operators or the group, and always one digest.
    fn decides(&mut self, certificate: &Certificate) {
        if let Proof::Commits(commits) = &certificate.proof {
            let signers: BTreeSet<OperatorIndex> = commits.iter().map(|commit| commit.operator).collect();
            if signers.len() < self.quorum.quorum() {
                self.violations.push(format!(
                    "round {} was decided by {} COMMITs",
                    certificate.round,
                    signers.len()
                ));
            }
        }
        certificate.commits().iter().for_each(|commit| self.says(commit));
        let first = *self.decided.get_or_insert(certificate.digest);
        if first != certificate.digest {
            self.violations.push(format!("decided are both {first} and {}", certificate.digest));
        }
    }

    fn violation(&mut self, signed: &Signed, what: &str) {
        let (author, round, kind) = (signed.author, signed.round, signed.kind());
        self.violations.push(format!("the {kind:?} of operator {author} in round {round} {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;
    use aequa_testkit::{at, digest};
    use aequa_types::record::PreparedRecord;

    const ME: OperatorIndex = OperatorIndex(1);

    fn audit() -> Audit {
        Audit::new(Quorum::of(4).unwrap(), BTreeSet::from([ME]))
    }

    fn prepare(author: u8, byte: u8) -> Signed {
        keys::sign(OperatorIndex(author), aequa_testkit::prepare(at(1), 0, digest(byte)).statement(author))
    }

    fn commit(author: u8, byte: u8) -> Signed {
        keys::sign(OperatorIndex(author), aequa_testkit::commit(at(1), 0, digest(byte)).statement(author))
    }

    fn certificate(digest: u8, authors: &[u8]) -> Certificate {
        let commits: Vec<Signed> = authors.iter().map(|author| commit(*author, digest)).collect();
        Certificate::from_commits(at(1), Round(0), Digest::repeat_byte(digest), &commits)
    }

    #[test]
    fn a_vote_must_be_durable_and_a_commit_prepared_before_they_are_sent() {
        let mut audit = audit();
        audit.persists(ME, &Record::Prepare(prepare(1, 5)));
        audit.sends(ME, &Message::Prepare(prepare(1, 5)));
        let prepares = [0, 1, 2].map(|author| prepare(author, 5)).to_vec();
        let prepared = PreparedRecord { instance: at(1), round: Round(0), digest: digest(5), prepares };
        let mut unprepared = self::audit();
        for (audit, prepares) in [(&mut audit, 3), (&mut unprepared, 2)] {
            let mut prepared = prepared.clone();
            prepared.prepares.truncate(prepares);
            audit.persists(ME, &Record::Prepared(prepared));
            audit.persists(ME, &Record::Commit(commit(1, 5)));
            audit.sends(ME, &Message::Commit(commit(1, 5)));
        }
        assert_eq!(audit.violations, Vec::<String>::new());
        assert_eq!(unprepared.violations.len(), 1, "{:?}", unprepared.violations);
        let mut hasty = self::audit();
        hasty.sends(ME, &Message::Prepare(prepare(1, 5)));
        assert_eq!(hasty.violations.len(), 1, "{:?}", hasty.violations);
    }

    #[test]
    fn votes_for_another_digest_round_or_kind_and_of_strangers_are_no_ground_for_a_commit() {
        let good = || [0, 1, 2].map(|author| prepare(author, 5));
        let later = |mut vote: Signed| {
            vote.statement.round = Round(1);
            vote
        };
        let [zero, one, two] = good();
        let cases = [
            (good().to_vec(), true),
            (vec![zero.clone(), one.clone(), prepare(2, 6)], false),
            (vec![zero.clone(), one.clone(), later(two)], false),
            (vec![zero.clone(), one.clone(), commit(2, 5)], false),
            (vec![zero.clone(), one.clone(), one.clone()], false),
            (vec![zero, one, prepare(4, 5)], false),
        ];
        for (prepares, grounded) in cases {
            let mut audit = audit();
            let (instance, digest) = (at(1), digest(5));
            let told = format!("{prepares:?}");
            audit.persists(
                ME,
                &Record::Prepared(PreparedRecord { instance, round: Round(0), digest, prepares }),
            );
            audit.persists(ME, &Record::Commit(commit(1, 5)));
            audit.sends(ME, &Message::Commit(commit(1, 5)));
            assert_eq!(audit.violations.is_empty(), grounded, "{told}");
        }
    }

    #[test]
    fn two_statements_in_one_place_are_a_violation_of_who_recorded_and_evidence_against_others() {
        let mut audit = audit();
        for digest in [5, 6, 6] {
            audit.hears(&Message::Prepare(prepare(2, digest)));
        }
        assert_eq!((audit.violations.len(), audit.evidence.len()), (0, 1));
        for digest in [5, 6] {
            audit.persists(ME, &Record::Prepare(prepare(1, digest)));
        }
        assert_eq!((audit.violations.len(), audit.evidence.len()), (1, 1));
    }

    #[test]
    fn one_digest_is_decided_and_by_a_quorum() {
        let mut audit = audit();
        audit.decides(&certificate(5, &[0, 2, 3]));
        audit.decides(&certificate(5, &[1, 2, 3]));
        assert_eq!(audit.violations, Vec::<String>::new());
        audit.decides(&certificate(5, &[2, 3]));
        assert_eq!(audit.violations.len(), 1, "{:?}", audit.violations);
        audit.decides(&certificate(6, &[0, 2, 3]));
        assert_eq!((audit.violations.len(), audit.evidence.len()), (2, 3), "{audit:?}");
    }
}
