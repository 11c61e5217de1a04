//! Why the API could not start.

/// A listener or its configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address cannot be listened on.
    #[error("{service} cannot listen on {addr}: {source}")]
    Bind {
        /// Which listener.
        service: &'static str,
        /// The address asked for.
        addr: String,
        /// Why not.
        source: std::io::Error,
    },
    /// `--upstream` is not a URL the proxy can use.
    #[error("upstream {url:?} is unusable: {reason}")]
    Upstream {
        /// The URL, without its secrets.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}
