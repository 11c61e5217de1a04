//! `dvt-node version`.

use crate::console;
use aequa_node::version::{FEATURES, GIT_HASH, PROTOCOLS, VERSION};
use serde_json::json;

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
