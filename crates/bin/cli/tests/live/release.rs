//! What a node that was built as it is released does not contain.

use crate::harness::output;
use serde_json::{Value, json};

#[test]
fn a_node_built_without_test_endpoints_contains_none() {
    let version: Value = serde_json::from_slice(&output(&["version", "--json"]).stdout).unwrap();
    assert_eq!(version["features"], json!([]));
    let binary = std::fs::read(env!("CARGO_BIN_EXE_dvt-node")).unwrap();
    assert!(!binary.windows(5).any(|bytes| bytes == b"/e2e/"), "the binary knows a test endpoint");
    let dir = tempfile::tempdir().unwrap();
    let refused = output(&["--data-dir", &dir.path().to_string_lossy(), "--e2e.listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
