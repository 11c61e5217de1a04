//! What this build is.

/// Version of the software.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit it was built from.
pub const GIT_HASH: &str = env!("AEQUA_GIT_HASH");
/// Protocols this build speaks.
pub const PROTOCOLS: [&str; 4] = ["aequa/qbft/v1", "aequa/sync/v1", "aequa/tx/v1", "aequa-lock/1"];

/// Optional parts that were compiled in; a release has none.
pub const FEATURES: &[&str] = if cfg!(feature = "e2e") { &["e2e"] } else { &[] };
