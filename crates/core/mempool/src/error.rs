//! What can be wrong with a policy and with the items of a block.

use aequa_types::TxKind;

/// A builder policy this builder cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No type has a slot: no block could hold anything.
    #[error("builder policy orders no transaction type")]
    EmptyOrder,
    /// A type has two slots.
    #[error("builder policy orders {} twice", .0.name())]
    RepeatedType(TxKind),
    /// A number is outside what blocks can hold.
    #[error("builder policy {name} is {value}, must be from {min} to {max}")]
    OutOfRange {
        /// Field of the policy.
        name: &'static str,
        /// Value found.
        value: u64,
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
    },
    /// The policy asks for something this version does not implement.
    #[error("builder policy sets {0}, which is not implemented")]
    Unsupported(&'static str),
}

/// The items of a proposed block break a rule; the proposal must not be prepared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemsError {
    /// More items than the policy's `max_n`.
    #[error("{items} items, the policy allows {max}")]
    TooManyItems {
        /// Items found.
        items: usize,
        /// The policy's `max_n`.
        max: u64,
    },
    /// More items of one type than the policy's window.
    #[error("{items} items of type {}, the window is {max}", .kind.name())]
    WindowExceeded {
        /// The type.
        kind: TxKind,
        /// Items found.
        items: usize,
        /// The policy's window.
        max: u64,
    },
    /// The items' sizes add up to more than the policy's `max_bytes`.
    #[error("items have {bytes} bytes, the policy allows {max}")]
    TooManyBytes {
        /// Sum of the sizes.
        bytes: u64,
        /// The policy's `max_bytes`.
        max: u64,
    },
    /// The policy has no slot for a type.
    #[error("unexpected payload type: {}", .0.name())]
    UnexpectedType(TxKind),
    /// A type comes after one that the policy orders behind it.
    #[error("type priority violated")]
    TypePriority,
    /// One transaction twice.
    #[error("item {index} repeats an earlier one")]
    Duplicate {
        /// Position of the second one.
        index: usize,
    },
    /// A nonce is not the next one of its (sender, type).
    #[error("item {index} has nonce {nonce}, expected {expected}")]
    Nonce {
        /// Position of the item.
        index: usize,
        /// Nonce found.
        nonce: u64,
        /// Nonce that must come next.
        expected: u64,
    },
    /// A nonce that has no successor: executing it would overflow.
    #[error("item {index} uses the last nonce there is")]
    NonceExhausted {
        /// Position of the item.
        index: usize,
    },
    /// Fee or bid below the policy's minimum.
    #[error("item {index} has key {key}, the minimum is {min}")]
    BelowMinimum {
        /// Position of the item.
        index: usize,
        /// Fee or bid found.
        key: u64,
        /// The policy's minimum for the type.
        min: u64,
    },
    /// The builder would have put these items in another order.
    #[error("sortkey not non-increasing for type: {}", .0.name())]
    Order(TxKind),
}
