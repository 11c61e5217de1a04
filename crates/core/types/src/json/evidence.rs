//! Evidence, for people and for the `evidence` field of a block.

use super::{JsonError, spelling};
use crate::statement::{Claim, CommitClaim, RoundChangeClaim};
use crate::{
    Digest, Domain, Evidence, Kind, Offence, OperatorIndex, Prepared, Round, Seal, Signature, Signed,
    Statement,
};
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

/// Two statements of one operator that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceJson {
    /// Identifies the evidence.
    #[serde(with = "spelling::fixed")]
    pub hash: B256,
    /// Kind of both statements: preprepare, prepare, commit or round_change.
    pub kind: String,
    /// Who made them.
    pub operator: OperatorIndex,
    /// Domain of the instance.
    pub domain: Domain,
    /// Height or slot of the instance.
    pub height: u64,
    /// Round of both statements.
    pub round: Round,
    /// The statement that comes first in order.
    pub first: StatementJson,
    /// The other one.
    pub second: StatementJson,
}

/// What one of the two statements says, and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementJson {
    /// The digest claimed; null in a round_change that claims nothing prepared.
    #[serde(with = "spelling::fixed_option")]
    pub digest: Option<Digest>,
    /// Round of the prepared digest of a round_change, else null.
    pub prepared_round: Option<Round>,
    /// Share of the seal of a commit, else null.
    #[serde(with = "spelling::fixed_option")]
    pub seal: Option<Seal>,
    /// The operator's ed25519 signature.
    #[serde(with = "spelling::fixed")]
    pub signature: Signature,
}

impl From<&Evidence> for EvidenceJson {
    fn from(evidence: &Evidence) -> Self {
        let Offence { operator, key } = evidence.offence();
        Self {
            hash: evidence.hash(),
            kind: key.kind.name().into(),
            operator,
            domain: key.instance.domain(),
            height: key.instance.number(),
            round: key.round,
            first: evidence.first().into(),
            second: evidence.second().into(),
        }
    }
}

impl TryFrom<EvidenceJson> for Evidence {
    type Error = JsonError;

    fn try_from(json: EvidenceJson) -> Result<Self, JsonError> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == json.kind);
        let kind = kind.ok_or_else(|| JsonError::at("kind", "is no kind of statement"))?;
        let signed = |half: StatementJson| -> Result<Signed, JsonError> {
            let statement = Statement {
                instance: json.domain.instance(json.height),
                round: json.round,
                author: json.operator,
                claim: half.claim(kind)?,
            };
            Ok(Signed { statement, signature: half.signature })
        };
        let (first, second) = (signed(json.first)?, signed(json.second)?);
        let evidence = Self::new(first.clone(), second)
            .map_err(|error| JsonError::at("second", format!("is no contradiction: {error}")))?;
        if *evidence.first() != first {
            return Err(JsonError::at("first", "comes second in order"));
        }
        if evidence.hash() != json.hash {
            return Err(JsonError::at("hash", "is not that of the statements"));
        }
        Ok(evidence)
    }
}

impl From<&Signed> for StatementJson {
    fn from(signed: &Signed) -> Self {
        let (prepared_round, seal) = match &signed.claim {
            Claim::PrePrepare(_) | Claim::Prepare(_) => (None, None),
            Claim::Commit(claim) => (None, claim.seal),
            Claim::RoundChange(claim) => (claim.prepared.map(|prepared| prepared.round), None),
        };
        Self { digest: signed.digest(), prepared_round, seal, signature: signed.signature }
    }
}

impl StatementJson {
    fn claim(&self, kind: Kind) -> Result<Claim, JsonError> {
        match (kind, self.digest, self.prepared_round, self.seal) {
            (Kind::PrePrepare, Some(digest), None, None) => Ok(Claim::PrePrepare(digest)),
            (Kind::Prepare, Some(digest), None, None) => Ok(Claim::Prepare(digest)),
            (Kind::Commit, Some(digest), None, seal) => Ok(Claim::Commit(CommitClaim { digest, seal })),
            (Kind::RoundChange, Some(digest), Some(round), None) => {
                Ok(Claim::RoundChange(RoundChangeClaim { prepared: Some(Prepared { round, digest }) }))
            }
            (Kind::RoundChange, None, None, None) => {
                Ok(Claim::RoundChange(RoundChangeClaim { prepared: None }))
            }
            _ => Err(JsonError::at("kind", "does not go with digest, prepared_round and seal")),
        }
    }
}
