//! Identifiers and quorum arithmetic.

use alloy_primitives::{Address as EthAddress, B256, FixedBytes, U128};
use serde::{Deserialize, Serialize};
use ssz_derive::{Decode, Encode};
use tree_hash::{Hash256, PackedEncoding, TreeHash, TreeHashType};

/// 20-byte Ethereum address of a transaction sender or fee recipient.
pub type Address = EthAddress;
/// Definition hash of epoch 0 of a cluster; survives resharing.
pub type ClusterId = B256;
/// What consensus votes on: the hash root of a block header, or the root of a duty value.
pub type Digest = B256;
/// Identifies a transaction's content; the signature is not part of it.
pub type TxHash = B256;
/// ed25519 signature of an operator (RFC 8032).
pub type Signature = FixedBytes<64>;
/// BLS12-381 signature in G1 (min-sig): an operator's share of a seal, or the whole group's seal.
pub type Seal = FixedBytes<48>;
/// A sum of fees or bids: 2^64 of the largest fit, so no sum over the items of a block overflows.
pub type Amount = U128;
/// Milliseconds since the Unix epoch.
pub type TimestampMs = u64;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[derive(Encode, Decode, Serialize, Deserialize)]
        #[serde(transparent)]
        #[ssz(struct_behaviour = "transparent")]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl TreeHash for $name {
            fn tree_hash_type() -> TreeHashType {
                <$inner as TreeHash>::tree_hash_type()
            }
            fn tree_hash_packed_encoding(&self) -> PackedEncoding {
                self.0.tree_hash_packed_encoding()
            }
            fn tree_hash_packing_factor() -> usize {
                <$inner as TreeHash>::tree_hash_packing_factor()
            }
            fn tree_hash_root(&self) -> Hash256 {
                self.0.tree_hash_root()
            }
        }
    };
}

number! {
    /// Number of a block. The first has height 1; height 0 is the state before any block.
    Height(u64)
}
number! {
    /// Slot of the beacon chain that a duty belongs to, from 0.
    Slot(u64)
}
number! {
    /// Epoch of the beacon chain, from 0.
    Epoch(u64)
}
number! {
    /// Attempt within one instance, from 0.
    Round(u64)
}
number! {
    /// An operator's place in the cluster lock, from 0. The polynomial coordinate of its shares is this plus one.
    OperatorIndex(u8)
}

impl Height {
    /// The following height. Heights are bounded far below overflow (2^62 at every entrance).
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The height before, or `None` at 0.
    pub fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

impl Slot {
    /// The following slot. Slots are bounded far below overflow (2^62 at every entrance).
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The slot before, or `None` at 0.
    pub fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    /// The epoch it lies in, of so many slots each: 32 on mainnet. None for epochs of no slots.
    pub fn epoch(self, slots_per_epoch: u64) -> Option<Epoch> {
        self.0.checked_div(slots_per_epoch).map(Epoch)
    }
}

impl Round {
    /// The following round.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl OperatorIndex {
    /// Index as an array position.
    pub fn as_usize(self) -> usize {
        usize::from(self.0)
    }
}

/// Quorum arithmetic of `n` operators: `f = floor((n-1)/3)`, `q = ceil(2n/3)`.
///
/// Two quorums share at least one honest operator, for every n and not only for n = 3f+1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quorum {
    operators: u8,
}

impl Quorum {
    /// Arithmetic for `operators` members, or `None` for none at all.
    pub fn of(operators: usize) -> Option<Self> {
        u8::try_from(operators).ok().filter(|n| *n > 0).map(|operators| Self { operators })
    }

    /// n: members of the cluster.
    pub fn operators(self) -> usize {
        usize::from(self.operators)
    }

    /// f: how many may be down, late or malicious.
    pub fn faulty_max(self) -> usize {
        (self.operators() - 1) / 3
    }

    /// q: votes that decide.
    pub fn quorum(self) -> usize {
        (2 * self.operators()).div_ceil(3)
    }

    /// f+1: at least one of them is honest.
    pub fn weak_quorum(self) -> usize {
        self.faulty_max() + 1
    }

    /// Whether `operator` is a member.
    pub fn contains(self, operator: OperatorIndex) -> bool {
        operator.as_usize() < self.operators()
    }

    /// All members in order.
    pub fn members(self) -> impl Iterator<Item = OperatorIndex> {
        (0..self.operators).map(OperatorIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_of_any_two_sets_share_an_honest_operator() {
        for n in 1..=100 {
            let quorum = Quorum::of(n).unwrap();
            let overlap = 2 * quorum.quorum() as i64 - n as i64;
            assert!(overlap > quorum.faulty_max() as i64, "n = {n}");
            assert!(quorum.quorum() <= n - quorum.faulty_max(), "n = {n}: f absent must not stop it");
        }
    }

    #[test]
    fn quorum_sizes_are_those_of_the_design() {
        let sizes = |n: usize| {
            let quorum = Quorum::of(n).unwrap();
            (quorum.faulty_max(), quorum.quorum())
        };
        assert_eq!([1, 4, 7, 10, 13].map(sizes), [(0, 1), (1, 3), (2, 5), (3, 7), (4, 9)]);
        assert_eq!(Quorum::of(0), None);
    }
}
