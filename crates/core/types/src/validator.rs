//! Ethereum validators of a cluster: their keys, and what their owner has fixed about them.
//!
//! What is agreed before there are keys is a [`ValidatorPolicy`] and part of the definition of the cluster; a
//! [`Validator`] of the lock adds the keys and what they have signed: deposits (phase 0, `DepositMessage`) and the
//! first registration with builders (builder specification, `ValidatorRegistrationV1`). Both are signed for the genesis
//! fork of the network alone, so that they hold in every later fork.

use crate::Address;
use crate::limits::OPERATORS_MAX;
use alloy_primitives::{B256, FixedBytes};
use serde::{Deserialize, Serialize};
use ssz_types::VariableList;
use ssz_types::typenum::{U16, U128};
use tree_hash::TreeHash as _;
use tree_hash_derive::TreeHash;

/// Most validators of a cluster: a lock that lists more could not be read and checked in the time of a start.
pub const VALIDATORS_MAX: usize = 1_000;
/// Most deposits of a validator.
pub const DEPOSITS_MAX: usize = 16;
/// Gas limit that validators vote for where nobody says otherwise: that of clients since Fusaka.
pub const GAS_LIMIT_DEFAULT: u64 = 60_000_000;

/// Gwei of one ether.
pub const ETHER: u64 = 1_000_000_000;
/// Least deposit (phase 0, `MIN_DEPOSIT_AMOUNT`).
const DEPOSIT_GWEI_MIN: u64 = ETHER;
/// Most that earns rewards with credentials of kind 0x01 (`MAX_EFFECTIVE_BALANCE`).
const BALANCE_GWEI_MAX: u64 = 32 * ETHER;
/// Most that earns rewards with credentials of kind 0x02 (EIP-7251).
const COMPOUNDING_BALANCE_GWEI_MAX: u64 = 2_048 * ETHER;
/// First bytes of the domain of deposits (phase 0, `DOMAIN_DEPOSIT`).
const DOMAIN_DEPOSIT: [u8; 4] = [3, 0, 0, 0];
/// First bytes of the domain of registrations with builders (builder specification).
const DOMAIN_APPLICATION_BUILDER: [u8; 4] = [0, 0, 0, 1];

/// Public key of a validator, or of one share of it: a compressed point of G1.
pub type ValidatorKey = FixedBytes<48>;
/// Signature under such a key: a compressed point of G2.
pub type ValidatorSignature = FixedBytes<96>;

/// What is fixed about a validator before it has keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatorPolicy {
    /// Who gets the fees of its blocks.
    pub fee_recipient: Address,
    /// Where its balance goes.
    pub withdrawal_credentials: WithdrawalCredentials,
    /// Gas limit it votes for.
    pub target_gas_limit: u64,
    /// Amounts of its deposits in gwei, in the order they are to be made.
    pub deposits_gwei: Vec<u64>,
}

/// Where a validator's balance goes: the kind, eleven zero bytes and an address of the execution layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WithdrawalCredentials(B256);

impl WithdrawalCredentials {
    /// Credentials of kind 0x01: what is above 32 ETH is paid out (Capella).
    pub fn execution(address: Address) -> Self {
        Self::of_kind(1, address)
    }

    /// Credentials of kind 0x02: the balance grows to 2,048 ETH (EIP-7251).
    pub fn compounding(address: Address) -> Self {
        Self::of_kind(2, address)
    }

    fn of_kind(kind: u8, address: Address) -> Self {
        let mut bytes = B256::ZERO;
        bytes[0] = kind;
        bytes[12..].copy_from_slice(address.as_slice());
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn bytes(self) -> B256 {
        self.0
    }

    /// The address.
    pub fn address(self) -> Address {
        Address::from_slice(&self.0[12..])
    }

    /// Most a validator with them can earn with in gwei; none when they are of no kind that is supported.
    fn balance_gwei_max(self) -> Option<u64> {
        let kind = self.0[0];
        match kind {
            _ if self.0[1..12] != [0; 11] => None,
            1 => Some(BALANCE_GWEI_MAX),
            2 => Some(COMPOUNDING_BALANCE_GWEI_MAX),
            _ => None,
        }
    }
}

/// A validator of the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validator {
    /// Its key on Ethereum.
    pub pubkey: ValidatorKey,
    /// The operators' public shares of the key, in order.
    pub public_shares: Vec<ValidatorKey>,
    /// Who gets the fees of its blocks.
    pub fee_recipient: Address,
    /// Where its balance goes.
    pub withdrawal_credentials: WithdrawalCredentials,
    /// Gas limit it votes for.
    pub target_gas_limit: u64,
    /// Deposits that are signed, in the order they are to be made.
    pub deposits: Vec<Deposit>,
    /// What it tells builders before they have heard of it.
    pub builder_registration: BuilderRegistration,
}

/// A signed deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deposit {
    /// Amount in gwei.
    pub amount_gwei: u64,
    /// Signature over [`Validator::deposit_signing_root`].
    pub signature: ValidatorSignature,
}

/// A signed registration with builders; fee recipient and gas limit are the validator's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuilderRegistration {
    /// When it was made, in seconds since the Unix epoch: builders go by the newest.
    pub timestamp: u64,
    /// Signature over [`Validator::registration_signing_root`].
    pub signature: ValidatorSignature,
}

impl ValidatorPolicy {
    /// Bounds of what Ethereum takes, and of what the lock can hold.
    pub fn check(&self) -> Result<(), String> {
        let Some(balance_max) = self.withdrawal_credentials.balance_gwei_max() else {
            return Err("withdrawal_credentials are not of kind 0x01 or 0x02 with an address".into());
        };
        if self.withdrawal_credentials.address().is_zero() {
            return Err("withdrawal_credentials are of address zero: nobody could withdraw".into());
        }
        if self.target_gas_limit == 0 {
            return Err("target_gas_limit is 0".into());
        }
        if self.deposits_gwei.len() > DEPOSITS_MAX {
            return Err(format!(
                "deposits has {} entries, the limit is {DEPOSITS_MAX}",
                self.deposits_gwei.len()
            ));
        }
        if let Some(amount) = self.deposits_gwei.iter().find(|amount| **amount < DEPOSIT_GWEI_MIN) {
            return Err(format!("deposits has one of {amount} gwei, the least is {DEPOSIT_GWEI_MIN}"));
        }
        let total = self.deposits_gwei.iter().try_fold(0u64, |total, amount| total.checked_add(*amount));
        match total {
            Some(total) if total <= balance_max => Ok(()),
            Some(_) | None => Err(format!(
                "deposits are more than {} ETH together, the most that earns with these credentials",
                balance_max / ETHER
            )),
        }
    }

    /// hash_tree_root: its part of the definition.
    pub fn root(&self) -> B256 {
        PolicySsz {
            fee_recipient: self.fee_recipient,
            withdrawal_credentials: self.withdrawal_credentials.0,
            target_gas_limit: self.target_gas_limit,
            deposits_gwei: self
                .deposits_gwei
                .iter()
                .copied()
                .take(DEPOSITS_MAX)
                .collect::<Vec<_>>()
                .try_into()
                .unwrap_or_default(),
        }
        .tree_hash_root()
    }
}

impl Validator {
    /// What was fixed about it before it had keys.
    pub fn policy(&self) -> ValidatorPolicy {
        ValidatorPolicy {
            fee_recipient: self.fee_recipient,
            withdrawal_credentials: self.withdrawal_credentials,
            target_gas_limit: self.target_gas_limit,
            deposits_gwei: self.deposits.iter().map(|deposit| deposit.amount_gwei).collect(),
        }
    }

    /// Bounds that keep the hash faithful: a list cut to its limit would hash like another.
    pub fn has_form(&self) -> bool {
        self.public_shares.len() <= OPERATORS_MAX && self.deposits.len() <= DEPOSITS_MAX
    }

    /// hash_tree_root: its part of the lock.
    pub fn root(&self) -> B256 {
        let deposits: Vec<_> =
            self.deposits.iter().map(|deposit| deposit.signature).take(DEPOSITS_MAX).collect();
        let shares: Vec<_> = self.public_shares.iter().copied().take(OPERATORS_MAX).collect();
        ValidatorSsz {
            pubkey: self.pubkey,
            public_shares: shares.try_into().unwrap_or_default(),
            policy: self.policy().root(),
            deposits: deposits.try_into().unwrap_or_default(),
            registered_at: self.builder_registration.timestamp,
            registration: self.builder_registration.signature,
        }
        .tree_hash_root()
    }

    /// hash_tree_root of a deposit without its signature.
    pub fn deposit_message_root(&self, amount_gwei: u64) -> B256 {
        DepositMessage {
            pubkey: self.pubkey,
            withdrawal_credentials: self.withdrawal_credentials.0,
            amount: amount_gwei,
        }
        .tree_hash_root()
    }

    /// What a deposit's signature is over, on the network of this genesis fork.
    pub fn deposit_signing_root(&self, fork_version: FixedBytes<4>, amount_gwei: u64) -> B256 {
        signing_root(DOMAIN_DEPOSIT, fork_version, self.deposit_message_root(amount_gwei))
    }

    /// hash_tree_root of a deposit with its signature: what the deposit contract recomputes.
    pub fn deposit_data_root(&self, deposit: &Deposit) -> B256 {
        DepositData {
            pubkey: self.pubkey,
            withdrawal_credentials: self.withdrawal_credentials.0,
            amount: deposit.amount_gwei,
            signature: deposit.signature,
        }
        .tree_hash_root()
    }

    /// What a registration's signature is over, on the network of this genesis fork.
    pub fn registration_signing_root(&self, fork_version: FixedBytes<4>) -> B256 {
        let registration = ValidatorRegistration {
            fee_recipient: self.fee_recipient,
            gas_limit: self.target_gas_limit,
            timestamp: self.builder_registration.timestamp,
            pubkey: self.pubkey,
        };
        signing_root(DOMAIN_APPLICATION_BUILDER, fork_version, registration.tree_hash_root())
    }
}

/// Phase 0, `compute_signing_root` of `compute_domain` with the zero genesis validators root.
fn signing_root(domain_type: [u8; 4], fork_version: FixedBytes<4>, object_root: B256) -> B256 {
    let fork = ForkData { current_version: fork_version, genesis_validators_root: B256::ZERO };
    let mut domain = B256::ZERO;
    domain[..4].copy_from_slice(&domain_type);
    domain[4..].copy_from_slice(&fork.tree_hash_root()[..28]);
    SigningData { object_root, domain }.tree_hash_root()
}

#[derive(TreeHash)]
struct PolicySsz {
    fee_recipient: Address,
    withdrawal_credentials: B256,
    target_gas_limit: u64,
    deposits_gwei: VariableList<u64, U16>,
}

#[derive(TreeHash)]
struct ValidatorSsz {
    pubkey: ValidatorKey,
    public_shares: VariableList<ValidatorKey, U128>,
    policy: B256,
    deposits: VariableList<ValidatorSignature, U16>,
    registered_at: u64,
    registration: ValidatorSignature,
}

#[derive(TreeHash)]
struct DepositMessage {
    pubkey: ValidatorKey,
    withdrawal_credentials: B256,
    amount: u64,
}

#[derive(TreeHash)]
struct DepositData {
    pubkey: ValidatorKey,
    withdrawal_credentials: B256,
    amount: u64,
    signature: ValidatorSignature,
}

#[derive(TreeHash)]
struct ValidatorRegistration {
    fee_recipient: Address,
    gas_limit: u64,
    timestamp: u64,
    pubkey: ValidatorKey,
}

#[derive(TreeHash)]
struct ForkData {
    current_version: FixedBytes<4>,
    genesis_validators_root: B256,
}

#[derive(TreeHash)]
struct SigningData {
    object_root: B256,
    domain: B256,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, b256, fixed_bytes};

    const FORK: FixedBytes<4> = FixedBytes([0; 4]);

    fn policy() -> ValidatorPolicy {
        ValidatorPolicy {
            fee_recipient: Address::repeat_byte(1),
            withdrawal_credentials: WithdrawalCredentials::execution(Address::repeat_byte(2)),
            target_gas_limit: GAS_LIMIT_DEFAULT,
            deposits_gwei: vec![32 * ETHER],
        }
    }

    fn validator() -> Validator {
        Validator {
            pubkey: fixed_bytes!(
                "a99a76ed7796f7be22d5b7e85deeb7c5677e88e511e0b337618f8c4eb61349b4bf2d153f649f7b53359fe8b94a38e44c"
            ),
            public_shares: vec![ValidatorKey::repeat_byte(7); 4],
            fee_recipient: address!("bb8d820fbdcadd54e40c0feb7c0362ca5b405267"),
            withdrawal_credentials: WithdrawalCredentials(b256!(
                "c12a3c9fbf2bb80c4c246737ac3c29173ac74ab15b8fc3e42a5751228610a321"
            )),
            target_gas_limit: 3149,
            deposits: vec![Deposit {
                amount_gwei: 32 * ETHER,
                signature: ValidatorSignature::repeat_byte(5),
            }],
            builder_registration: BuilderRegistration {
                timestamp: 3150,
                signature: ValidatorSignature::repeat_byte(6),
            },
        }
    }

    /// Two implementations of others agree on these roots.
    #[test]
    fn roots_of_deposits_and_registrations_are_those_of_the_specification() {
        let validator = validator();
        assert_eq!(
            validator.deposit_message_root(32 * ETHER),
            b256!("c91c4449e69eae6647331ea32b13c0ecb49077efe6e210bbcd556dc94c3b9242")
        );
        assert_eq!(
            validator.deposit_signing_root(FORK, 32 * ETHER),
            b256!("ec4a26bdf08fff17592a17ae562da0e9551c22d26dc6776cfd3a4db785f8475b")
        );
        assert_eq!(
            validator.registration_signing_root(FORK),
            b256!("c13ecb47e4e61dc9bd6da35f4e9bf962422ba2109adc802ef9a74aa2d5a4c7bc")
        );
        let elsewhere = FixedBytes([0, 0, 0, 1]);
        assert_ne!(
            validator.deposit_signing_root(FORK, 1),
            validator.deposit_signing_root(elsewhere, 1),
            "a deposit of another network"
        );
    }

    #[test]
    fn a_policy_ethereum_would_not_take_is_refused_with_its_field() {
        let with = |change: fn(&mut ValidatorPolicy)| {
            let mut changed = policy();
            change(&mut changed);
            changed.check()
        };
        assert_eq!(policy().check(), Ok(()));
        assert_eq!(with(|policy| policy.deposits_gwei = vec![ETHER, 31 * ETHER]), Ok(()));
        assert_eq!(with(|policy| policy.deposits_gwei.clear()), Ok(()), "somebody else deposits");
        assert_eq!(
            with(|policy| {
                policy.withdrawal_credentials = WithdrawalCredentials::compounding(policy.fee_recipient);
                policy.deposits_gwei = vec![2_048 * ETHER];
            }),
            Ok(())
        );
        type Change = fn(&mut ValidatorPolicy);
        let refused: [(&str, Change); 7] = [
            ("withdrawal_credentials", |policy| policy.withdrawal_credentials.0[0] = 0),
            ("withdrawal_credentials", |policy| policy.withdrawal_credentials.0[11] = 1),
            ("withdrawal_credentials", |policy| {
                policy.withdrawal_credentials = WithdrawalCredentials::execution(Address::ZERO);
            }),
            ("target_gas_limit", |policy| policy.target_gas_limit = 0),
            ("deposits", |policy| policy.deposits_gwei = vec![ETHER - 1]),
            ("deposits", |policy| policy.deposits_gwei = vec![32 * ETHER, ETHER]),
            ("deposits", |policy| policy.deposits_gwei = vec![ETHER; DEPOSITS_MAX + 1]),
        ];
        for (field, change) in refused {
            let error = with(change).unwrap_err();
            assert!(error.starts_with(field), "{field}: {error}");
        }
    }

    #[test]
    fn whatever_is_changed_in_a_validator_changes_its_root() {
        let changes: [fn(&mut Validator); 8] = [
            |validator| validator.pubkey[3] ^= 1,
            |validator| validator.public_shares[3][3] ^= 1,
            |validator| validator.fee_recipient[3] ^= 1,
            |validator| validator.withdrawal_credentials.0[30] ^= 1,
            |validator| validator.target_gas_limit += 1,
            |validator| validator.deposits[0].amount_gwei += 1,
            |validator| validator.deposits[0].signature[3] ^= 1,
            |validator| validator.builder_registration.timestamp += 1,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = validator();
            change(&mut changed);
            assert_ne!(changed.root(), validator().root(), "change {number}");
        }
    }
}
