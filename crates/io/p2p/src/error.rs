//! What can go wrong between operators.

use aequa_types::OperatorIndex;

/// An error of the transport.
#[derive(Debug, thiserror::Error)]
pub enum P2pError {
    /// The configuration contradicts itself; nothing was started.
    #[error("p2p configuration: {what}")]
    Config {
        /// What is wrong with it.
        what: String,
    },
    /// An address could not be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The multiaddr asked for.
        addr: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The transport itself could not be built (TLS certificate, resolver, noise keys).
    #[error("cannot set up the transport: {what}")]
    Transport {
        /// What failed.
        what: String,
    },
    /// There is no such member, or it is this node.
    #[error("operator {operator} is not another member")]
    NotMember {
        /// Who was asked for.
        operator: OperatorIndex,
    },
    /// There is no connection to the member now.
    #[error("operator {operator} is not connected")]
    NotConnected {
        /// Who was asked for.
        operator: OperatorIndex,
    },
    /// The member does not speak the topic, or answered nothing.
    #[error("operator {operator} refused the request")]
    Refused {
        /// Who was asked.
        operator: OperatorIndex,
    },
    /// The member did not answer in time.
    #[error("operator {operator} did not answer within {limit_ms} ms")]
    Timeout {
        /// Who was asked.
        operator: OperatorIndex,
        /// How long it had.
        limit_ms: u64,
    },
    /// The member answered with something that is not an answer.
    #[error("operator {operator} answered with a malformed frame: {what}")]
    MalformedReply {
        /// Who answered.
        operator: OperatorIndex,
        /// What is wrong with the answer.
        what: String,
    },
    /// The message is larger than its topic allows; it was not sent.
    #[error("frame of {bytes} bytes on {topic}, the limit is {bytes_max}")]
    TooLarge {
        /// Name of the topic.
        topic: &'static str,
        /// Size of the frame.
        bytes: usize,
        /// Largest size allowed.
        bytes_max: usize,
    },
    /// The network was shut down.
    #[error("the network is shut down")]
    Closed,
}
