//! The statements of a replay against those of the vote log.

use crate::recording::Replay;
use aequa_types::{Kind, Record, Round, Signed};
use std::collections::BTreeMap;

/// How what was signed again agrees with what the vote log holds of the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Statements that are the same.
    pub equal: usize,
    /// Statements the log no longer holds: it is pruned once blocks are durable.
    pub pruned: usize,
    /// Statements that never became durable, and thus were never sent.
    pub lost: usize,
    /// Places where the two contradict each other.
    pub different: Vec<String>,
    /// Places of the log that the recording knows nothing of: it ended before.
    pub unrecorded: Vec<String>,
}

impl Comparison {
    /// Compares; records of other instances are not looked at.
    pub fn of(replay: &Replay, log: &[Record]) -> Self {
        let mut found = Self::default();
        let mut own: BTreeMap<(Round, Kind), &Signed> = BTreeMap::new();
        for statement in &replay.statements {
            match statement.lost {
                true => found.lost += 1,
                false => drop(own.insert(place(&statement.signed), &statement.signed)),
            }
        }
        for record in log.iter().filter(|record| record.instance() == replay.instance) {
            match record {
                Record::Decided(certificate) => found.decision(replay, certificate),
                _ => record.statement().into_iter().for_each(|signed| found.statement(&mut own, signed)),
            }
        }
        found.pruned = own.len();
        found
    }

    /// Whether nothing speaks against the replay.
    pub fn agrees(&self) -> bool {
        self.different.is_empty() && self.unrecorded.is_empty()
    }

    fn statement(&mut self, own: &mut BTreeMap<(Round, Kind), &Signed>, signed: &Signed) {
        match own.remove(&place(signed)) {
            Some(known) if known == signed => self.equal += 1,
            Some(_) => self.different.push(where_is(signed)),
            None => self.unrecorded.push(where_is(signed)),
        }
    }

    fn decision(&mut self, replay: &Replay, certificate: &aequa_types::Certificate) {
        match &replay.certificate {
            Some(known) if known.digest != certificate.digest => {
                self.different.push(format!("the decision in round {}", certificate.round));
            }
            Some(_) => {}
            None => self.unrecorded.push(format!("the decision in round {}", certificate.round)),
        }
    }
}

fn place(signed: &Signed) -> (Round, Kind) {
    (signed.round, signed.kind())
}

fn where_is(signed: &Signed) -> String {
    format!("the {:?} of round {}", signed.kind(), signed.round)
}
