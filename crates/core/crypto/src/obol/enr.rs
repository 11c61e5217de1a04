//! Keys of nodes: secp256k1, in node records (EIP-778).

use crate::Error;
use crate::transaction::{AccountKey, CURVE, keccak256};
use alloy_primitives::{B256, FixedBytes};
use alloy_rlp::Header;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey};

/// Largest record in bytes (EIP-778).
const RECORD_BYTES_MAX: usize = 300;

/// The public key of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeKey(PublicKey);

impl NodeKey {
    /// The key of a node record whose signature holds.
    pub fn of_record(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::InvalidKey { what: "node record", reason };
        let encoded = text.strip_prefix("enr:").ok_or_else(|| invalid("it does not begin with enr:"))?;
        let record = URL_SAFE_NO_PAD
            .decode(encoded.trim_end_matches('='))
            .map_err(|_| invalid("not in base64 for addresses"))?;
        if record.len() > RECORD_BYTES_MAX {
            return Err(invalid("longer than 300 bytes"));
        }
        let (signed, members) = members_of(&record).map_err(|_| invalid("not a list in RLP"))?;
        let [signature, _sequence, pairs @ ..] = members.as_slice() else {
            return Err(invalid("it has no signature"));
        };
        let value = |name: &[u8]| pairs.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
        if value(b"id") != Some(b"v4") {
            return Err(invalid("its identity scheme is not v4"));
        }
        let key = value(b"secp256k1").and_then(|key| PublicKey::from_slice(key).ok());
        let key = Self(key.ok_or_else(|| invalid("it has no secp256k1 key"))?);
        let signature =
            <&[u8; 64]>::try_from(*signature).map_err(|_| invalid("its signature has not 64 bytes"))?;
        key.verify(keccak256(&signed), signature).map_err(|_| invalid("its signature is not its key's"))?;
        Ok(key)
    }

    /// Whether `signature` (r ‖ s) is this key's of `digest`; of its two forms either.
    pub fn verify(&self, digest: B256, signature: &[u8; 64]) -> Result<(), Error> {
        let mut signature = Signature::from_compact(signature).map_err(|_| Error::BadSignature)?;
        signature.normalize_s();
        CURVE
            .verify_ecdsa(Message::from_digest(digest.0), &signature, &self.0)
            .map_err(|_| Error::BadSignature)
    }
}

/// The members of a record, and what its signature is over: the list without it.
fn members_of(record: &[u8]) -> Result<(Vec<u8>, Vec<&[u8]>), alloy_rlp::Error> {
    let mut rest = record;
    let mut payload = Header::decode_bytes(&mut rest, true)?;
    if !rest.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength);
    }
    let mut members = vec![Header::decode_bytes(&mut payload, false)?];
    let mut signed = Vec::with_capacity(record.len());
    Header { list: true, payload_length: payload.len() }.encode(&mut signed);
    signed.extend_from_slice(payload);
    while !payload.is_empty() {
        members.push(Header::decode_bytes(&mut payload, false)?);
    }
    Ok((signed, members))
}

/// The secret key of a node.
#[derive(Debug)]
pub struct NodeSecret(AccountKey);

impl NodeSecret {
    /// The key of a big-endian scalar between 1 and the group order − 1.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        AccountKey::from_bytes(bytes).map(Self)
    }

    /// Its public half.
    pub fn public(&self) -> NodeKey {
        NodeKey(self.0.secret().public_key(&CURVE))
    }

    /// Signs a digest: r ‖ s.
    pub fn sign(&self, digest: B256) -> FixedBytes<64> {
        CURVE.sign_ecdsa(Message::from_digest(digest.0), &self.0.secret()).serialize_compact().into()
    }
}
