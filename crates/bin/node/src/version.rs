//! `dvt-node version`.

use crate::console;
use serde_json::json;

/// Version of the software.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit it was built from.
pub const GIT_HASH: &str = env!("AEQUA_GIT_HASH");
/// Protocols this build speaks.
const PROTOCOLS: [&str; 4] = ["aequa/qbft/v1", "aequa/sync/v1", "aequa/tx/v1", "aequa-lock/1"];

/// Optional parts that were compiled in; a release has none.
const FEATURES: &[&str] = if cfg!(feature = "e2e") { &["e2e"] } else { &[] };

/// Prints what this binary is.
pub fn print(as_json: bool) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    if as_json {
        let value = json!({
            "version": VERSION, "git": GIT_HASH, "profile": profile,
            "features": FEATURES, "protocols": PROTOCOLS,
        });
        return console::line(value);
    }
    console::line(format!("dvt-node {VERSION} ({GIT_HASH}, {profile})"));
    if !FEATURES.is_empty() {
        console::line(format!("features: {}, not for operation", FEATURES.join(", ")));
    }
    console::line(format!("protocols: {}", PROTOCOLS.join(", ")));
}
