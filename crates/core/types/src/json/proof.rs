//! Rows of the state and why to believe them, for clients and `verify-proof`.

use super::{CertificateJson, HeaderJson, JsonError, spelling};
use crate::{CertifiedHeader, Height};
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

/// Largest JSON form of an account with its proof in bytes: three rows, each at most 256 hashes below the top of the
/// tree, are 53 kB, a hundred commits 35 kB.
pub const ACCOUNT_PROOF_JSON_BYTES_MAX: usize = 256 << 10;

/// The rows of an address in the state after a block, and the header of the next one, which has the root of that state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountProofJson {
    /// The block after which the rows were so.
    pub height: Height,
    /// The rows, and what else the state root is made of.
    pub state: StateProofJson,
    /// Header of the block after that one.
    pub header: HeaderJson,
    /// Its certificate.
    pub certificate: CertificateJson,
}

/// Rows of a state, or that there are none, and the rest of what its root is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateProofJson {
    /// Version of the tables and their encodings.
    pub schema: u32,
    /// How many rows the tables have, in the order of their numbers.
    pub tables: Vec<TableJson>,
    /// The rows asked for.
    pub rows: Vec<RowProofJson>,
}

/// How many rows a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableJson {
    /// Its number.
    pub number: u8,
    /// Its rows.
    pub rows: u64,
}

/// That a row is in the state, or that it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowProofJson {
    /// The row asked for: number of its table, and its key there.
    #[serde(with = "spelling::bytes")]
    pub key: Vec<u8>,
    /// The hashes beside the way to it, from the top of the tree down.
    #[serde(with = "spelling::fixed_list")]
    pub beside: Vec<B256>,
    /// What is at the end of the way: that row; or another, or null, when it does not exist.
    pub end: Option<RowJson>,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowJson {
    /// Number of its table, and its key there.
    #[serde(with = "spelling::bytes")]
    pub key: Vec<u8>,
    /// Its value.
    #[serde(with = "spelling::bytes")]
    pub value: Vec<u8>,
}

impl AccountProofJson {
    /// Rows of the state before the block of this header.
    pub fn new(state: StateProofJson, certified: &CertifiedHeader) -> Self {
        let CertifiedHeader { header, certificate } = certified;
        let height = header.height.previous().unwrap_or(header.height);
        Self { height, state, header: header.into(), certificate: certificate.into() }
    }

    /// The rows and the header; derived fields must agree with what they are derived from.
    pub fn into_parts(self) -> Result<(StateProofJson, CertifiedHeader), JsonError> {
        let Self { height, state, header, certificate } = self;
        if header.height.previous() != Some(height) {
            return Err(JsonError::at("height", "is not the one before the header's"));
        }
        let certified = CertifiedHeader { header: header.try_into()?, certificate: certificate.try_into()? };
        Ok((state, certified))
    }
}
