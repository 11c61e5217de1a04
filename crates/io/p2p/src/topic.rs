//! The channels operators talk on.

use aequa_types::limits::{
    CONSENSUS_FRAME_BYTES_MAX, EVIDENCE_BYTES_MAX, SYNC_FRAME_BYTES_MAX, TX_FRAME_BYTES_MAX,
};

use crate::addresses::ANNOUNCEMENT_BYTES_MAX;
use crate::envelope::OVERHEAD_BYTES_MAX;

/// Largest frame of decryption or signature shares: one message per slot with up to 512 validators.
pub const SHARE_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Largest frame of a state announcement: a fixed tuple.
pub const STATE_FRAME_BYTES_MAX: usize = 512;
/// Largest frame of evidence: one piece.
pub const EVIDENCE_FRAME_BYTES_MAX: usize = EVIDENCE_BYTES_MAX + OVERHEAD_BYTES_MAX;
/// Largest frame of the key ceremony: commitments of n members for up to 256 validators.
pub const DKG_FRAME_BYTES_MAX: usize = 1 << 20;
/// Largest question on the request topic: a few numbers and the asker's status.
pub const REQUEST_FRAME_BYTES_MAX: usize = 16 * 1024;

/// How a topic travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carriage {
    /// One long-lived substream to every member.
    Direct,
    /// Flooded over a mesh, validated at every hop.
    Gossip,
    /// One substream per question.
    Request,
}

/// A logical channel. Its name is the `topic` label of metrics and, with a leading slash, the protocol id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Consensus messages.
    Qbft,
    /// Plaintext transactions and auction bids.
    Tx,
    /// Encrypted transactions.
    PrivateTx,
    /// Decryption shares of encrypted transactions.
    BeastShare,
    /// The key ceremony.
    Dkg,
    /// Partial signatures of duties.
    TssShare,
    /// Checkpoint and state-root announcements, fence notices.
    State,
    /// Proofs of misbehaviour.
    Evidence,
    /// Questions of nodes that were away.
    Sync,
    /// Where members are; of the transport itself and always on.
    Peers,
}

impl Topic {
    /// All topics.
    pub const ALL: [Topic; 10] = [
        Topic::Qbft,
        Topic::Tx,
        Topic::PrivateTx,
        Topic::BeastShare,
        Topic::Dkg,
        Topic::TssShare,
        Topic::State,
        Topic::Evidence,
        Topic::Sync,
        Topic::Peers,
    ];

    /// The libp2p protocol id, such as `/aequa/qbft/v1`.
    pub fn protocol(self) -> &'static str {
        match self {
            Topic::Qbft => "/aequa/qbft/v1",
            Topic::Tx => "/aequa/tx/v1",
            Topic::PrivateTx => "/aequa/tx/private/v1",
            Topic::BeastShare => "/aequa/beast/share/v1",
            Topic::Dkg => "/aequa/tss/dkg/v1",
            Topic::TssShare => "/aequa/tss/share/v1",
            Topic::State => "/aequa/state/v1",
            Topic::Evidence => "/aequa/evidence/v1",
            Topic::Sync => "/aequa/sync/v1",
            Topic::Peers => "/aequa/peers/v1",
        }
    }

    /// The name used in metrics and logs, such as `aequa/qbft/v1`.
    pub fn name(self) -> &'static str {
        self.protocol().trim_start_matches('/')
    }

    /// How the topic travels.
    pub fn carriage(self) -> Carriage {
        match self {
            Topic::PrivateTx | Topic::Evidence => Carriage::Gossip,
            Topic::Sync => Carriage::Request,
            Topic::Qbft
            | Topic::Tx
            | Topic::BeastShare
            | Topic::Dkg
            | Topic::TssShare
            | Topic::State
            | Topic::Peers => Carriage::Direct,
        }
    }

    /// Whether a member that does not read may miss frames: what is in them is offered again, and reaches it in blocks.
    /// Of every other direct topic it would miss what nobody says twice, and is disconnected instead.
    pub fn may_be_missed(self) -> bool {
        self == Topic::Tx
    }

    /// Largest frame in bytes, envelope included and length prefix not. For [`Topic::Sync`] this is the reply.
    pub fn frame_bytes_max(self) -> usize {
        match self {
            Topic::Qbft => CONSENSUS_FRAME_BYTES_MAX,
            Topic::Tx | Topic::PrivateTx => TX_FRAME_BYTES_MAX,
            Topic::Evidence => EVIDENCE_FRAME_BYTES_MAX,
            Topic::BeastShare | Topic::TssShare => SHARE_FRAME_BYTES_MAX,
            Topic::Dkg => DKG_FRAME_BYTES_MAX,
            Topic::State => STATE_FRAME_BYTES_MAX,
            // The contract bounds the reply itself; the envelope around it comes on top.
            Topic::Sync => SYNC_FRAME_BYTES_MAX + OVERHEAD_BYTES_MAX,
            Topic::Peers => ANNOUNCEMENT_BYTES_MAX + OVERHEAD_BYTES_MAX,
        }
    }

    pub(crate) const COUNT: usize = Self::ALL.len();

    pub(crate) fn position(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_protocols_without_the_slash_and_positions_are_dense() {
        for (position, topic) in Topic::ALL.into_iter().enumerate() {
            assert_eq!(format!("/{topic}"), topic.protocol());
            assert_eq!(topic.position(), position);
        }
    }
}
