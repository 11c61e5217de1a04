//! A host that gives the recorded answers.

use crate::recording::Difference;
use aequa_qbft::{Host, Justified, Validity};
use aequa_signing::{Elector, RoundRobin};
use aequa_types::recording::Answers;
use aequa_types::statement::Claim;
use aequa_types::{InstanceId, Kind, OperatorIndex, Quorum, Round, Signed, Statement, Value};

/// Answers as recorded, and notices when it is asked something else.
pub(super) struct Script<'a> {
    instance: InstanceId,
    quorum: Quorum,
    verdicts: std::slice::Iter<'a, bool>,
    signatures: std::slice::Iter<'a, Option<Signed>>,
    unexpected: Option<Unexpected>,
}

enum Unexpected {
    Statement(String, String),
    Question,
}

impl<'a> Script<'a> {
    pub(super) fn new(instance: InstanceId, quorum: Quorum, answers: &'a Answers) -> Self {
        let (verdicts, signatures) = (answers.verdicts.iter(), answers.signatures.iter());
        Self { instance, quorum, verdicts, signatures, unexpected: None }
    }

    /// Whether everything was asked as it was then.
    pub(super) fn end(mut self, number: u64) -> Result<(), Difference> {
        let nothing = || "nothing".to_owned();
        match self.unexpected.take() {
            Some(Unexpected::Statement(made, recorded)) => {
                return Err(Difference::Statement { number, made, recorded });
            }
            Some(Unexpected::Question) => {
                let what = "asks whether a value is acceptable, which was not asked then";
                return Err(Difference::Question { number, what });
            }
            None => {}
        }
        if let Some(recorded) = self.signatures.next() {
            let recorded = recorded.as_ref().map_or_else(|| "a refusal to sign".to_owned(), |s| name(s));
            return Err(Difference::Statement { number, made: nothing(), recorded });
        }
        match self.verdicts.next() {
            Some(_) => {
                let what = "no longer asks whether a value is acceptable";
                Err(Difference::Question { number, what })
            }
            None => Ok(()),
        }
    }
}

impl Host for Script<'_> {
    fn leader(&self, round: Round) -> OperatorIndex {
        RoundRobin(self.quorum).leader(self.instance, round)
    }

    fn validate(&mut self, _: Round, _: &Value, _: Justified) -> Validity {
        let verdict = self.verdicts.next().copied();
        if verdict.is_none() {
            self.unexpected.get_or_insert(Unexpected::Question);
        }
        match verdict {
            Some(true) => Validity::Valid,
            Some(false) | None => Validity::Invalid("the recording does not say why".into()),
        }
    }

    fn sign(&mut self, statement: Statement) -> Option<Signed> {
        match self.signatures.next() {
            Some(Some(signed)) if same_but_seal(signed, &statement) => Some(signed.clone()),
            Some(None) => None,
            other => {
                let recorded = other.cloned().flatten().map_or_else(|| "nothing".to_owned(), |s| name(&s));
                self.unexpected.get_or_insert(Unexpected::Statement(name(&statement), recorded));
                None
            }
        }
    }
}

/// Equal but for the seal share, which only the keys can make.
fn same_but_seal(signed: &Signed, statement: &Statement) -> bool {
    let mut asked = statement.clone();
    if let (Claim::Commit(asked), Claim::Commit(known)) = (&mut asked.claim, &signed.claim) {
        asked.seal = known.seal;
    }
    asked == signed.statement
}

/// A statement in a few words.
pub(super) fn name(statement: &Statement) -> String {
    let kind = match statement.kind() {
        Kind::PrePrepare => "PREPREPARE",
        Kind::Prepare => "PREPARE",
        Kind::Commit => "COMMIT",
        Kind::RoundChange => "ROUND-CHANGE",
    };
    match statement.digest() {
        Some(digest) => format!("{kind} of {digest} in round {}", statement.round),
        None => format!("{kind} in round {}", statement.round),
    }
}
