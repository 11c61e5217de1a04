//! A cluster of Obol's: four operators, two validators, and every key at hand.
//!
//! Node records and EIP-712 are encoded here again, by other code than what checks them. Hashes are those of
//! `aequa-types`, which are compared with published ones there.

use aequa_crypto::bls::{MinPk, aggregate};
use aequa_crypto::threshold::{Dealing, deal};
use aequa_types::Address;
use aequa_types::obol::{ObolLock, ObolVersion};
use aequa_types::validator::{
    BuilderRegistration, Deposit, ETHER, Validator, ValidatorSignature, WithdrawalCredentials,
};
use alloy_primitives::{B256, Bytes};
use alloy_rlp::Header;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey};
use serde_json::{Value, json};
use sha3::{Digest as _, Keccak256};
use std::sync::LazyLock;

/// Operators of the cluster.
pub const OPERATORS: u8 = 4;
/// Validators of the cluster.
pub const VALIDATORS: usize = 2;
/// Chain id of the network.
const CHAIN_ID: u64 = 560_048;
/// Genesis fork of the network: hoodi.
const FORK: [u8; 4] = [0x10, 0x00, 0x09, 0x10];

static CURVE: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// The keys of a cluster, from which its lock is made in any version.
pub struct ObolCluster {
    /// Version of the lock.
    pub version: ObolVersion,
    /// The keys of the operators' nodes.
    pub nodes: Vec<SecretKey>,
    /// The keys of the operators' wallets; the first is the creator's too.
    pub wallets: Vec<SecretKey>,
    /// The keys of the validators.
    pub validators: Vec<Dealing<MinPk>>,
    /// Whether wallets have signed: of a cluster that was made on one machine, none has.
    pub is_signed: bool,
    /// Operators whose wallets did not sign where others did.
    pub silent: Vec<usize>,
}

impl ObolCluster {
    /// A cluster whose lock is of this version.
    pub fn of(version: ObolVersion) -> Self {
        let secret = |number: u8| SecretKey::from_byte_array([number; 32]).unwrap();
        Self {
            version,
            nodes: (1..=OPERATORS).map(secret).collect(),
            wallets: (101..=100 + OPERATORS).map(secret).collect(),
            validators: (0..VALIDATORS).map(|_| deal(3, OPERATORS.into()).unwrap()).collect(),
            is_signed: true,
            silent: Vec::new(),
        }
    }

    /// The text of its lock.
    pub fn lock(&self) -> String {
        self.lock_with(|_| {}).to_string()
    }

    /// Its lock, with a change to what it says before that is hashed and signed by all.
    pub fn lock_with(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut lock = self.unsigned();
        change(&mut lock);
        self.sign(lock)
    }

    /// Address of an operator's wallet.
    pub fn wallet(&self, operator: usize) -> Address {
        let key = PublicKey::from_secret_key(&CURVE, &self.wallets[operator]);
        Address::from_slice(&keccak(&key.serialize_uncompressed()[1..])[12..])
    }

    /// Everything but the hashes, and the signatures of operators.
    fn unsigned(&self) -> Value {
        let version = self.version;
        let fee = |number: usize| Address::repeat_byte(0x10 + number as u8);
        let withdrawal = |number: usize| Address::repeat_byte(0x20 + number as u8);
        let mut definition = json!({
            "name": "four",
            "creator": { "address": if self.is_signed { self.wallet(0).to_string() } else { String::new() } },
            "operators": (0..self.nodes.len()).map(|operator| json!({
                "address": if self.is_signed { self.wallet(operator).to_string() } else { String::new() },
                "enr": self.record(operator),
                "config_signature": "",
                "enr_signature": "",
            })).collect::<Vec<_>>(),
            "uuid": "0194FDC2-FA2F-4CC0-81D3-FF12045B73C8",
            "version": version.name(),
            "timestamp": "2025-09-01T10:00:00+02:00",
            "num_validators": VALIDATORS,
            "threshold": 3,
            "validators": (0..VALIDATORS).map(|number| json!({
                "fee_recipient_address": fee(number),
                "withdrawal_address": withdrawal(number),
            })).collect::<Vec<_>>(),
            "dkg_algorithm": "default",
            "fork_version": Bytes::from(FORK),
            "config_hash": B256::ZERO,
            "definition_hash": B256::ZERO,
        });
        if version >= ObolVersion::V8 {
            definition["deposit_amounts"] = json!(["1000000000", "31000000000"]);
        }
        if version >= ObolVersion::V9 {
            definition["consensus_protocol"] = "qbft".into();
        }
        if version >= ObolVersion::V10 {
            definition["target_gas_limit"] = 45_000_000.into();
            definition["compounding"] = true.into();
        }
        let validators =
            (0..VALIDATORS).map(|number| self.validator(number, fee(number), withdrawal(number)));
        json!({
            "cluster_definition": definition,
            "distributed_validators": validators.collect::<Vec<_>>(),
            "signature_aggregate": "0x",
            "lock_hash": B256::ZERO,
        })
    }

    fn validator(&self, number: usize, fee_recipient: Address, withdrawal: Address) -> Value {
        let Dealing { group_key, public_shares, .. } = &self.validators[number];
        let compounding = self.version >= ObolVersion::V10;
        let amounts: &[u64] =
            if self.version >= ObolVersion::V8 { &[ETHER, 31 * ETHER] } else { &[32 * ETHER] };
        let unsigned = |gwei: &u64| Deposit { amount_gwei: *gwei, signature: ValidatorSignature::ZERO };
        let validator = Validator {
            pubkey: group_key.to_bytes().into(),
            public_shares: public_shares.iter().map(|share| share.to_bytes().into()).collect(),
            fee_recipient,
            withdrawal_credentials: match compounding {
                true => WithdrawalCredentials::compounding(withdrawal),
                false => WithdrawalCredentials::execution(withdrawal),
            },
            target_gas_limit: 45_000_000,
            deposits: amounts.iter().map(unsigned).collect(),
            builder_registration: BuilderRegistration {
                timestamp: 1_742_213_400,
                signature: ValidatorSignature::ZERO,
            },
        };
        let deposit = |gwei: &u64| {
            json!({
                "pubkey": validator.pubkey,
                "withdrawal_credentials": validator.withdrawal_credentials,
                "amount": gwei.to_string(),
                "signature": self.group_sign(number, validator.deposit_signing_root(FORK.into(), *gwei)),
            })
        };
        let mut value = json!({
            "distributed_public_key": validator.pubkey,
            "public_shares": validator.public_shares,
        });
        let deposits: Vec<Value> = amounts.iter().map(deposit).collect();
        match self.version >= ObolVersion::V8 {
            true => value["partial_deposit_data"] = deposits.into(),
            false => value["deposit_data"] = deposits[0].clone(),
        }
        if self.version >= ObolVersion::V7 {
            value["builder_registration"] = json!({
                "message": {
                    "fee_recipient": fee_recipient,
                    "gas_limit": validator.target_gas_limit,
                    "timestamp": validator.builder_registration.timestamp,
                    "pubkey": validator.pubkey,
                },
                "signature": self.group_sign(number, validator.registration_signing_root(FORK.into())),
            });
        }
        value
    }

    /// The signature of a validator, of the shares of the first three operators.
    fn group_sign(&self, number: usize, root: B256) -> ValidatorSignature {
        let shares = self.validators[number].secret_shares.iter().take(3);
        let shares: Vec<_> = shares.map(|share| (share.operator(), share.sign(root.as_slice()))).collect();
        aequa_crypto::threshold::combine::<MinPk>(3, &shares).unwrap()
    }

    /// Hashes a lock and signs it with all keys there are.
    fn sign(&self, mut lock: Value) -> Value {
        let definition = |lock: &mut Value| lock["cluster_definition"].take();
        let mut at = definition(&mut lock);
        lock["cluster_definition"] = at.clone();
        let config = parse(&lock).compute_config_hash(self.version);
        at["config_hash"] = json!(config);
        if self.is_signed {
            let value = config.to_string();
            at["creator"]["config_signature"] =
                self.wallet_sign(0, "CreatorConfigHash(string creator_config_hash)", &value);
            for operator in (0..self.nodes.len()).filter(|operator| !self.silent.contains(operator)) {
                let enr = at["operators"][operator]["enr"].as_str().unwrap_or_default().to_owned();
                let member = &mut at["operators"][operator];
                member["config_signature"] =
                    self.wallet_sign(operator, "OperatorConfigHash(string operator_config_hash)", &value);
                member["enr_signature"] = self.wallet_sign(operator, "ENR(string enr)", &enr);
            }
        }
        lock["cluster_definition"] = at;
        let definition_hash = parse(&lock).compute_definition_hash(self.version);
        lock["cluster_definition"]["definition_hash"] = json!(definition_hash);
        let hash = parse(&lock).compute_lock_hash(self.version);
        lock["lock_hash"] = json!(hash);
        let shares = self.validators.iter().flat_map(|dealing| &dealing.secret_shares);
        let signatures: Vec<_> = shares.map(|share| share.sign(hash.as_slice())).collect();
        lock["signature_aggregate"] = json!(aggregate::<MinPk>(&signatures).unwrap());
        if self.version >= ObolVersion::V7 {
            let sign = |node: &SecretKey| json!(Bytes::from(self.ecdsa(node, hash, 0)));
            lock["node_signatures"] = self.nodes.iter().map(sign).collect::<Vec<_>>().into();
        }
        lock
    }

    /// r ‖ s ‖ v.
    fn ecdsa(&self, key: &SecretKey, digest: B256, v: u8) -> Vec<u8> {
        let (id, compact) =
            CURVE.sign_ecdsa_recoverable(Message::from_digest(digest.0), key).serialize_compact();
        [&compact[..], &[v + i32::from(id) as u8]].concat()
    }

    fn wallet_sign(&self, operator: usize, kind: &str, value: &str) -> Value {
        let word = |number: u64| B256::left_padding_from(&number.to_be_bytes());
        let domain = [
            keccak(b"EIP712Domain(string name,string version,uint256 chainId)"),
            keccak(b"Obol"),
            keccak(b"1"),
            word(CHAIN_ID),
        ];
        let message = [keccak(kind.as_bytes()), keccak(value.as_bytes())];
        let digest = [&[0x19, 0x01][..], &keccak(&domain.concat()).0, &keccak(&message.concat()).0].concat();
        // Wallets write 27 and 28, other signers 0 and 1.
        let v = if operator.is_multiple_of(2) { 27 } else { 0 };
        json!(Bytes::from(self.ecdsa(&self.wallets[operator], keccak(&digest), v)))
    }

    /// The node record of an operator.
    fn record(&self, operator: usize) -> String {
        let key = PublicKey::from_secret_key(&CURVE, &self.nodes[operator]).serialize();
        let members: [&[u8]; 5] = [&[], b"id", b"v4", b"secp256k1", &key];
        let signature = &self.ecdsa(&self.nodes[operator], keccak(&list(&members)), 0)[..64];
        let record = list(&[&[signature][..], &members].concat());
        format!("enr:{}", URL_SAFE_NO_PAD.encode(record))
    }
}

fn list(members: &[&[u8]]) -> Vec<u8> {
    let mut payload = Vec::new();
    for member in members {
        alloy_rlp::Encodable::encode(*member, &mut payload);
    }
    let mut bytes = Vec::new();
    Header { list: true, payload_length: payload.len() }.encode(&mut bytes);
    bytes.extend(payload);
    bytes
}

fn parse(lock: &Value) -> ObolLock {
    ObolLock::from_json(&lock.to_string()).unwrap()
}

fn keccak(bytes: &[u8]) -> B256 {
    B256::new(Keccak256::digest(bytes).into())
}
