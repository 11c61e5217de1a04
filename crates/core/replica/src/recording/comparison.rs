//! The statements of a replay against those of the vote log.

use crate::recording::Replay;
use aequa_types::{Certificate, InstanceId, Kind, Record, Round, Signed};
use std::collections::BTreeSet;

/// How what was signed again agrees with what the vote log holds of the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Statements that are the same.
    pub equal: usize,
    /// Statements the log no longer holds: it is pruned once blocks are durable, and begins later. A duty that
    /// is not in the log at all counts as pruned: duties are logged in no order of their slots.
    pub pruned: usize,
    /// Places of the log that the recording contradicts.
    pub different: Vec<String>,
    /// Statements that were recorded, and so durable, and that the log does not hold, although it begins
    /// before them.
    pub missing: Vec<String>,
    /// The same where the recording ends with this height: it may be that of a process that did not get as
    /// far as the log.
    pub ahead: Vec<String>,
    /// Places of the log that the recording knows nothing of: it ended before.
    pub unrecorded: Vec<String>,
}

impl Comparison {
    /// Compares; of records of other instances only counts which are there. A log that was read after the
    /// recording knows at least as much.
    pub fn of(replay: &Replay, log: &[Record]) -> Self {
        let mut found = Self::default();
        let own: Vec<&Signed> =
            replay.statements.iter().filter(|own| !own.lost).map(|own| &own.signed).collect();
        let mut logged: BTreeSet<(Round, Kind)> = BTreeSet::new();
        for record in log.iter().filter(|record| record.instance() == replay.instance) {
            if let Record::Decided(certificate) = record {
                found.decision(replay, certificate);
            }
            if let Some(signed) = record.statement().filter(|signed| logged.insert(place(signed))) {
                found.statement(&own, signed);
            }
        }
        let begins = Begin::of(log, replay.instance);
        let first_logged = own.iter().position(|signed| logged.contains(&place(signed)));
        for (number, signed) in own.iter().enumerate().filter(|(_, signed)| !logged.contains(&place(signed)))
        {
            match begins {
                Begin::Above => found.pruned += 1,
                Begin::Here { decided } if first_logged.map_or(decided, |first| number < first) => {
                    found.pruned += 1;
                }
                _ if replay.newest => found.ahead.push(where_is(signed)),
                Begin::Here { .. } | Begin::Below => found.missing.push(where_is(signed)),
            }
        }
        found
    }

    /// Whether recording and log cannot both be true.
    pub fn contradicts(&self) -> bool {
        !(self.different.is_empty() && self.missing.is_empty())
    }

    /// Whether they tell the same, as far as the log reaches back.
    pub fn agrees(&self) -> bool {
        !self.contradicts() && self.ahead.is_empty() && self.unrecorded.is_empty()
    }

    fn statement(&mut self, own: &[&Signed], signed: &Signed) {
        match own.iter().find(|known| place(known) == place(signed)) {
            Some(known) if *known == signed => self.equal += 1,
            Some(_) => self.different.push(where_is(signed)),
            None => self.unrecorded.push(where_is(signed)),
        }
    }

    fn decision(&mut self, replay: &Replay, certificate: &Certificate) {
        let place = format!("the decision in round {}", certificate.round);
        match &replay.certificate {
            Some(known) if known.digest != certificate.digest => self.different.push(place),
            Some(_) => {}
            None => self.unrecorded.push(place),
        }
    }
}

/// Where what the log still holds begins, seen from one instance. Pruning takes from its front only.
enum Begin {
    /// Above it.
    Above,
    /// With it, perhaps in its middle.
    Here {
        /// Whether the log has its decision.
        decided: bool,
    },
    /// Below it, or the log holds nothing at all.
    Below,
}

impl Begin {
    fn of(log: &[Record], instance: InstanceId) -> Self {
        // What others were heard to say stays when what was said here is pruned.
        let own =
            || log.iter().map(|record| (record, record.subject())).filter(|(_, subject)| !subject.heard);
        let of_it = || own().map(|(record, _)| record).filter(|record| record.instance() == instance);
        let decided = || of_it().any(|record| matches!(record, Record::Decided(_)));
        let same = own().map(|(_, subject)| subject.instance).filter(|of| of.domain() == instance.domain());
        match (instance, same.min()) {
            _ if log.is_empty() => Begin::Below,
            (InstanceId::Block(_), Some(lowest)) if lowest < instance => Begin::Below,
            (InstanceId::Block(_), Some(lowest)) if lowest == instance => Begin::Here { decided: decided() },
            (InstanceId::Block(_), _) => Begin::Above,
            // Duties run side by side: that one of a lower slot is there says nothing of where the log begins.
            _ if of_it().next().is_some() => Begin::Here { decided: decided() },
            _ => Begin::Above,
        }
    }
}

fn place(signed: &Signed) -> (Round, Kind) {
    (signed.round, signed.kind())
}

/// A place in words.
pub(super) fn where_is(signed: &Signed) -> String {
    format!("the {:?} of round {}", signed.kind(), signed.round)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{End, OwnStatement};
    use aequa_types::{Digest, DutyKind, Height, OperatorIndex, Proof, Seal, Slot};

    const ME: OperatorIndex = OperatorIndex(1);
    const DIGEST: Digest = Digest::repeat_byte(5);

    fn block(height: u64) -> InstanceId {
        InstanceId::Block(Height(height))
    }

    fn prepare(instance: InstanceId) -> Signed {
        aequa_testkit::prepare(instance, 0, DIGEST).by(ME.0)
    }

    fn commit(instance: InstanceId) -> Signed {
        aequa_testkit::commit(instance, 0, DIGEST).by(ME.0)
    }

    fn decided(instance: InstanceId) -> Record {
        let proof = Proof::Group(Seal::ZERO);
        Record::Decided(Certificate { instance, round: Round(0), digest: DIGEST, proof })
    }

    /// What is logged of a height.
    fn records(instance: InstanceId) -> [Record; 3] {
        [Record::Prepare(prepare(instance)), Record::Commit(commit(instance)), decided(instance)]
    }

    /// A recording of block 7, in which both statements were made, and of later blocks.
    fn replay(newest: bool) -> Replay {
        replay_of(block(7), newest)
    }

    fn replay_of(instance: InstanceId, newest: bool) -> Replay {
        let own = |signed| OwnStatement { signed, lost: false };
        let certificate = match decided(instance) {
            Record::Decided(certificate) => Some(certificate),
            _ => None,
        };
        Replay {
            instance,
            me: ME,
            newest,
            played: Vec::new(),
            statements: vec![own(prepare(instance)), own(commit(instance))],
            certificate,
            events: 0,
            end: End::Reproduced,
        }
    }

    fn compared(log: &[Record]) -> Comparison {
        Comparison::of(&replay(false), log)
    }

    #[test]
    fn what_is_below_all_the_log_holds_is_pruned() {
        let sync = InstanceId::duty(DutyKind::Sync, Slot(1));
        let mixed = [records(sync).to_vec(), records(block(8)).to_vec()].concat();
        for log in [records(block(8)).to_vec(), mixed, records(sync).to_vec()] {
            let found = compared(&log);
            assert_eq!((found.pruned, found.agrees()), (2, true), "{found:?}");
        }
    }

    #[test]
    fn a_log_pruned_in_the_middle_of_a_height_has_lost_nothing() {
        let [_, commit, decided] = records(block(7));
        for (log, equal) in [(vec![commit, decided.clone()], 1), (vec![decided], 0)] {
            let found = compared(&[log, records(block(8)).to_vec()].concat());
            assert_eq!((found.equal, found.pruned, found.agrees()), (equal, 2 - equal, true), "{found:?}");
        }
    }

    #[test]
    fn what_the_log_does_not_hold_though_it_reaches_back_is_missing() {
        let around = [records(block(6)).to_vec(), records(block(8)).to_vec()].concat();
        let [prepare, ..] = records(block(7));
        let tail_lost = [records(block(6)).to_vec(), vec![prepare.clone()]].concat();
        for (log, missing) in [(vec![], 2), (around, 2), (tail_lost, 1), (vec![prepare], 1)] {
            let found = compared(&log);
            assert_eq!((found.missing.len(), found.pruned), (missing, 0), "{found:?}");
            assert!(found.contradicts() && !found.agrees());
            // Where the recording ends, it may have been ahead of the log.
            let found = Comparison::of(&replay(true), &log);
            assert_eq!((found.missing.len(), found.ahead.len()), (0, missing), "{found:?}");
            assert!(!found.contradicts() && !found.agrees());
        }
    }

    #[test]
    fn a_duty_that_was_pruned_before_one_of_a_lower_slot_is_not_missing() {
        let duty = |slot| InstanceId::duty(DutyKind::Proposer, Slot(slot));
        let [prepare, commit, decided] = records(duty(7));
        let lower = records(duty(5)).to_vec();
        for (left, equal) in [(vec![], 0), (vec![commit.clone(), decided.clone()], 1), (vec![decided], 0)] {
            for newest in [false, true] {
                let found =
                    Comparison::of(&replay_of(duty(7), newest), &[left.clone(), lower.clone()].concat());
                assert_eq!(
                    (found.equal, found.pruned, found.agrees()),
                    (equal, 2 - equal, true),
                    "{found:?}"
                );
            }
        }
        // What was logged after what is there cannot be pruned.
        let found = Comparison::of(&replay_of(duty(7), false), &[lower, vec![prepare]].concat());
        assert_eq!((found.equal, found.missing.len()), (1, 1), "{found:?}");
    }

    #[test]
    fn a_duty_of_which_only_what_others_said_is_left_is_pruned() {
        let duty = InstanceId::duty(DutyKind::Proposer, Slot(7));
        let [prepare, ..] = records(duty);
        let mut heard = prepare.statement().unwrap().clone();
        heard.statement.author = OperatorIndex(2);
        let found = Comparison::of(&replay_of(duty, false), &[Record::Heard(heard)]);
        assert_eq!((found.pruned, found.agrees()), (2, true), "{found:?}");
    }

    #[test]
    fn a_statement_logged_twice_is_one() {
        let log = [records(block(7)), records(block(7))].concat();
        let found = compared(&log);
        assert_eq!((found.equal, found.agrees()), (2, true), "{found:?}");
    }
}
