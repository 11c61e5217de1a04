//! `dvt-node version`.

use aequa_node::console;
use aequa_node::version::{FEATURES, GIT_HASH, PROTOCOLS, VERSION};
use clap::Args;
use serde_json::json;

/// Print version, commit and protocols
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints what this binary is.
pub fn print(args: &VersionArgs) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    if args.json {
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
