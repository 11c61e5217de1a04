//! Answers to a submitted transaction.

/// What became of a transaction offered to the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Held and ready to be proposed, or took the place of another one.
    Ok,
    /// Held until the nonces before it arrive; not proposed.
    Future,
    /// Its nonce has already been used in the state.
    Old,
    /// Known already, or its nonce is taken and the key is not high enough to replace.
    Dup,
    /// Can never be held as it is.
    Invalid(InvalidReason),
    /// There is no room for it now.
    Overflow(OverflowReason),
}

/// Why a transaction can never be held as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidReason {
    /// The builder policy has no slot for this type, so no block could ever hold it.
    TypeNotOrdered,
    /// Larger than a transaction or a block may be.
    TooLarge,
    /// Too far above the sender's expected nonce.
    NonceGap,
    /// Fee below the policy's minimum.
    BelowMinFee,
    /// Bid below the policy's minimum.
    BelowMinBid,
}

/// Which cap left no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverflowReason {
    /// The sender holds as many transactions of the type as it may.
    SenderCap,
    /// The pools are full and nothing cheaper can make room.
    PoolFull,
}

impl Admission {
    /// Whether the transaction is held now.
    pub fn is_held(self) -> bool {
        matches!(self, Admission::Ok | Admission::Future)
    }

    /// The result's name in answers, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Admission::Ok => "ok",
            Admission::Future => "future",
            Admission::Old => "old",
            Admission::Dup => "dup",
            Admission::Invalid(_) => "invalid",
            Admission::Overflow(_) => "overflow",
        }
    }
}

impl InvalidReason {
    /// A short explanation for the client.
    pub fn name(self) -> &'static str {
        match self {
            InvalidReason::TypeNotOrdered => "type not taken by the builder policy",
            InvalidReason::TooLarge => "too large",
            InvalidReason::NonceGap => "nonce gap too large",
            InvalidReason::BelowMinFee => "fee below the minimum",
            InvalidReason::BelowMinBid => "bid below the minimum",
        }
    }
}

impl OverflowReason {
    /// A short explanation for the client.
    pub fn name(self) -> &'static str {
        match self {
            OverflowReason::SenderCap => "sender limit reached",
            OverflowReason::PoolFull => "pool full",
        }
    }
}
