//! Client transactions: EIP-712 digests, secp256k1 signatures, the stateless checks.
//!
//! `digest = keccak256(0x19 0x01 ‖ domain separator ‖ hashStruct)` with the domain
//! `{name "Aequa", version "1", chainId}` and one primary type per transaction type, listing exactly
//! the signed fields. Signatures are r ‖ s ‖ v with v 27 or 28 and low s: there is one encoding per
//! signature, so nobody can change a transaction's bytes without its key.

use crate::Error;
use aequa_types::limits::{TX_BYTES_MAX, TX_PAYLOAD_BYTES_MAX};
use aequa_types::transaction::TxSignature;
use aequa_types::{Address, CheckedTransaction, Transaction, TxBody};
use alloy_primitives::B256;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey};
use sha3::{Digest as _, Keccak256};
use ssz::Encode as _;
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// Why a transaction is `invalid`, whatever the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    /// A field or the whole is too long.
    #[error("{field} has {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Which field.
        field: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest size allowed.
        bytes_max: usize,
    },
    /// A field must not be zero.
    #[error("{0} must be greater than 0")]
    Zero(&'static str),
    /// The recovery byte.
    #[error("sig: v is {0}, must be 27 or 28")]
    RecoveryByte(u8),
    /// r or s outside 1 … n − 1.
    #[error("sig: {0} is outside 1 to n - 1")]
    OutOfRange(&'static str),
    /// The second, mirrored form of a signature.
    #[error("sig: s is above n/2")]
    HighS,
    /// No key could have made the signature.
    #[error("sig: no key recovers from it")]
    Unrecoverable,
    /// Somebody else signed, or something else was signed.
    #[error("sig: recovered address {recovered:#x} is not from {from:#x}")]
    WrongSender {
        /// Who signed these fields.
        recovered: Address,
        /// Who is said to have.
        from: Address,
    },
    /// The zero address belongs to nobody.
    #[error("from must not be the zero address")]
    ZeroSender,
}

/// Checks everything about a transaction that needs no state, in the order of the contract:
/// sizes, required fields, gas and bid above zero, form of the signature, sender.
pub fn check(chain_id: u64, transaction: Transaction) -> Result<CheckedTransaction, TxError> {
    check_ref(chain_id, &transaction)?;
    Ok(CheckedTransaction::attest(transaction))
}

/// As [`check`], for a transaction whose wrapping the caller sees to.
pub(crate) fn check_ref(chain_id: u64, transaction: &Transaction) -> Result<(), TxError> {
    let body = &transaction.body;
    check_sizes(transaction)?;
    if body.gas() == 0 {
        return Err(TxError::Zero("gas"));
    }
    if let TxBody::AuctionBid(bid) = body
        && bid.bid == 0
    {
        return Err(TxError::Zero("bid"));
    }
    let signature = parse_signature(&transaction.sig)?;
    let recovered = CURVE
        .recover_ecdsa(Message::from_digest(digest(chain_id, body).0), &signature)
        .map_err(|_| TxError::Unrecoverable)?;
    let recovered = address_of(&recovered);
    if recovered != body.from() {
        return Err(TxError::WrongSender { recovered, from: body.from() });
    }
    if recovered.is_zero() {
        return Err(TxError::ZeroSender);
    }
    Ok(())
}

/// Signs the body for `chain_id` with the deterministic nonce of RFC 6979.
pub fn sign(chain_id: u64, body: TxBody, key: &AccountKey) -> Transaction {
    let sig = TxSignature::from(sign_digest(digest(chain_id, &body), key));
    Transaction { body, sig }
}

/// Signs a digest: r ‖ s ‖ v.
pub(crate) fn sign_digest(digest: B256, key: &AccountKey) -> [u8; 65] {
    let message = Message::from_digest(digest.0);
    let (recovery, compact) = CURVE.sign_ecdsa_recoverable(message, &key.secret()).serialize_compact();
    let mut signature = [0; 65];
    signature[..64].copy_from_slice(&compact);
    // Ids 2 and 3 stand for a point with x above the group order: once in 2^127 signatures.
    signature[64] = 27 + (i32::from(recovery) & 1) as u8;
    signature
}

/// Who has signed a digest, where v is 0 or 1, or 27 or 28, and s may be of either form.
pub(crate) fn recover(digest: B256, signature: &[u8; 65]) -> Option<Address> {
    let id = match signature[64] {
        0 | 27 => RecoveryId::Zero,
        1 | 28 => RecoveryId::One,
        _ => return None,
    };
    let signature = RecoverableSignature::from_compact(&signature[..64], id).ok()?;
    CURVE.recover_ecdsa(Message::from_digest(digest.0), &signature).ok().map(|key| address_of(&key))
}

/// What a sender signs: the EIP-712 digest of the body.
pub fn digest(chain_id: u64, body: &TxBody) -> B256 {
    let mut hasher = Keccak256::new_with_prefix([0x19, 0x01]);
    hasher.update(domain_separator(chain_id));
    hasher.update(hash_struct(body));
    B256::new(hasher.finalize().into())
}

/// The EIP-712 domain separator of a chain id.
pub fn domain_separator(chain_id: u64) -> B256 {
    domain_of("Aequa", chain_id)
}

/// The EIP-712 domain separator of version 1 of an application.
pub(crate) fn domain_of(name: &str, chain_id: u64) -> B256 {
    let mut encoder = StructEncoder::of(&DOMAIN_TYPE);
    encoder.bytes(name.as_bytes());
    encoder.bytes(b"1");
    encoder.number(chain_id);
    encoder.finish()
}

/// EIP-712 `hashStruct` of the body under its primary type.
pub fn hash_struct(body: &TxBody) -> B256 {
    match body {
        TxBody::Plaintext(body) => {
            let mut encoder = StructEncoder::of(&PLAINTEXT_TYPE);
            encoder.address(&body.from);
            encoder.number(body.nonce);
            encoder.number(body.gas);
            encoder.number(body.fee);
            encoder.bytes(&body.payload);
            encoder.finish()
        }
        TxBody::AuctionBid(body) => {
            let mut encoder = StructEncoder::of(&AUCTION_BID_TYPE);
            encoder.address(&body.from);
            encoder.number(body.nonce);
            encoder.number(body.gas);
            encoder.number(body.bid);
            encoder.address(&body.fee_recipient);
            encoder.bytes(&body.payload);
            encoder.finish()
        }
    }
}

/// A sender's secret key. Zeroised when dropped; `Debug` shows the address only.
pub struct AccountKey {
    bytes: Zeroizing<[u8; 32]>,
    address: Address,
}

impl AccountKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, Error> {
        loop {
            let mut bytes = Zeroizing::new([0u8; 32]);
            getrandom::fill(bytes.as_mut_slice())?;
            if let Ok(key) = Self::from_bytes(&bytes) {
                return Ok(key);
            }
        }
    }

    /// The key of a big-endian scalar between 1 and the group order − 1.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let mut secret = SecretKey::from_byte_array(*bytes).map_err(|_| Error::InvalidKey {
            what: "account key",
            reason: "not a scalar between 1 and the group order",
        })?;
        let address = address_of(&secret.public_key(&CURVE));
        secret.non_secure_erase();
        Ok(Self { bytes: Zeroizing::new(*bytes), address })
    }

    /// The scalar, for the key file.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.bytes.clone()
    }

    /// The sender this key speaks for.
    pub fn address(&self) -> Address {
        self.address
    }

    pub(crate) fn secret(&self) -> ErasedOnDrop {
        // The bytes were accepted when the key was made, so this cannot fail.
        ErasedOnDrop(SecretKey::from_byte_array(*self.bytes).expect("checked by from_bytes"))
    }
}

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccountKey(of {:#x})", self.address)
    }
}

pub(crate) struct ErasedOnDrop(SecretKey);

impl std::ops::Deref for ErasedOnDrop {
    type Target = SecretKey;

    fn deref(&self) -> &SecretKey {
        &self.0
    }
}

impl Drop for ErasedOnDrop {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// Half the order of secp256k1, rounded down: the largest s allowed.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d,
    0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

pub(crate) static CURVE: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

static DOMAIN_TYPE: LazyLock<B256> =
    LazyLock::new(|| keccak256(b"EIP712Domain(string name,string version,uint256 chainId)"));
static PLAINTEXT_TYPE: LazyLock<B256> = LazyLock::new(|| {
    keccak256(b"PlaintextV1(address from,uint64 nonce,uint64 gas,uint64 fee,bytes payload)")
});
static AUCTION_BID_TYPE: LazyLock<B256> = LazyLock::new(|| {
    keccak256(
        b"AuctionBidV1(address from,uint64 nonce,uint64 gas,uint64 bid,address fee_recipient,bytes payload)",
    )
});

pub(crate) fn keccak256(bytes: &[u8]) -> B256 {
    B256::new(Keccak256::digest(bytes).into())
}

fn address_of(key: &PublicKey) -> Address {
    let hash = keccak256(&key.serialize_uncompressed()[1..]);
    Address::from_slice(&hash[12..])
}

fn check_sizes(transaction: &Transaction) -> Result<(), TxError> {
    let payload = transaction.body.payload().len();
    if payload > TX_PAYLOAD_BYTES_MAX {
        return Err(TxError::TooLarge { field: "payload", bytes: payload, bytes_max: TX_PAYLOAD_BYTES_MAX });
    }
    let bytes = transaction.ssz_bytes_len();
    if bytes > TX_BYTES_MAX {
        return Err(TxError::TooLarge { field: "transaction", bytes, bytes_max: TX_BYTES_MAX });
    }
    Ok(())
}

fn parse_signature(sig: &TxSignature) -> Result<RecoverableSignature, TxError> {
    let id = match sig[64] {
        27 => RecoveryId::Zero,
        28 => RecoveryId::One,
        v => return Err(TxError::RecoveryByte(v)),
    };
    let (r, s) = (&sig[..32], &sig[32..64]);
    for (name, number) in [("r", r), ("s", s)] {
        if number.iter().all(|byte| *byte == 0) {
            return Err(TxError::OutOfRange(name));
        }
    }
    if *s > HALF_ORDER[..] {
        return Err(TxError::HighS);
    }
    // s is in range by now: the library can only object to r.
    RecoverableSignature::from_compact(&sig[..64], id).map_err(|_| TxError::OutOfRange("r"))
}

/// Hashes a struct member by member, as EIP-712 encodes it.
pub(crate) struct StructEncoder(Keccak256);

impl StructEncoder {
    pub(crate) fn of(type_hash: &B256) -> Self {
        Self(Keccak256::new_with_prefix(type_hash))
    }

    fn number(&mut self, number: u64) {
        self.0.update([0u8; 24]);
        self.0.update(number.to_be_bytes());
    }

    fn address(&mut self, address: &Address) {
        self.0.update([0u8; 12]);
        self.0.update(address);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(keccak256(bytes));
    }

    pub(crate) fn finish(self) -> B256 {
        B256::new(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests;
