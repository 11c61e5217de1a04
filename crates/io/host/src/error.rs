use aequa_replica::Halt;

/// Why a node ends; `E` is the error of its ports.
#[derive(Debug, thiserror::Error)]
pub enum HostError<E> {
    /// The replica must not go on.
    #[error(transparent)]
    Stop(#[from] Halt),
    /// The votes of a turn are not durable, or the vote log cannot forget.
    #[error("vote log or signing database: {0}")]
    Votes(E),
    /// The members cannot be reached any more.
    #[error("members: {0}")]
    Members(E),
    /// The block store does not take what was decided.
    #[error("block store: {0}")]
    Store(E),
    /// The data directory does not take a note.
    #[error("data directory: {0}")]
    Directory(E),
}
