//! What a node has recorded of itself: complete, checkable beside it, and worth something as evidence.

use crate::harness::{Cluster, Node, Shape, output, until};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

const INTERVAL: u32 = 5;

fn audit(node: &Node, line: &[&str]) -> Output {
    let dir = node.dir.to_string_lossy().into_owned();
    output(&[&["audit"], line, &["--data-dir", &dir]].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The records of a log that holds.
#[track_caller]
fn shown(node: &Node, more: &[&str]) -> Vec<Value> {
    let shown = audit(node, &[&["show", "--json"], more].concat());
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    text(&shown.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(records: &[Value]) -> Vec<String> {
    records.iter().map(|record| record["event"].as_str().unwrap().to_owned()).collect()
}

/// Exit code of a verification, and all it said.
fn verified(node: &Node, more: &[&str]) -> (Option<i32>, String) {
    let verified = audit(node, &[&["verify"], more].concat());
    (verified.status.code(), text(&verified.stdout) + &text(&verified.stderr))
}

fn head(node: &Node) -> String {
    let (code, said) = verified(node, &[]);
    assert_eq!(code, Some(0), "{said}");
    said.lines().find_map(|line| line.strip_prefix("head ")).unwrap().to_owned()
}

/// Flips a bit in the middle of a text that is in the log once or more, where it is first.
fn flip(log: &Path, text: &str) {
    let mut bytes = std::fs::read(log).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at] ^= 1;
    std::fs::write(log, bytes).unwrap();
}

#[test]
fn what_a_node_did_is_in_its_audit_log_and_whoever_changes_it_is_found_out() {
    let shape = Shape { nodes: 1, block_interval_ms: 50, checkpoint_interval: INTERVAL, ..Shape::default() };
    let mut cluster = Cluster::make(shape);
    let scratch = cluster.scratch();
    let node = &mut cluster.nodes[0];
    assert_eq!(verified(node, &[]).0, Some(3), "there is none yet");
    node.start();
    until("two checkpoints", || node.height().filter(|height| *height > 11));
    let digest = node.block(5).unwrap().block.header.digest().to_string();
    let of_the_first =
        |records: &[Value]| records.iter().find(|record| record["event"] == "checkpoint").cloned();
    let recorded = until("the first checkpoint is recorded", || of_the_first(&shown(node, &[])));
    assert_eq!((&recorded["kind"], &recorded["fields"]["height"]), (&"decision".into(), &"5".into()));
    assert_eq!(recorded["fields"]["digest"], digest);
    let root = node.get("/v1/state-root?height=5").json()["root"].as_str().unwrap().to_owned();
    let state_root = recorded["fields"]["state_root"].as_str().unwrap();
    assert_eq!(state_root.trim_start_matches("0x"), root.trim_start_matches("0x"));
    let early = head(node);

    // Another process that starts there, and one that copies the keys, beside the node.
    let dir = node.dir.to_string_lossy().into_owned();
    assert_eq!(output(&["--data-dir", &dir]).status.code(), Some(4));
    let [password, backup] =
        ["password", "backup"].map(|name| scratch.join(name).to_string_lossy().into_owned());
    std::fs::write(&password, "correct horse battery").unwrap();
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let backed_up = output(&["backup", "--data-dir", &dir, "--password-file", &password, "--out", &backup]);
    assert!(backed_up.status.success() && backed_up.stderr.is_empty(), "{}", text(&backed_up.stderr));
    let keys = shown(node, &["--kind", "key"]);
    assert_eq!((events(&keys), &keys[0]["fields"]["out"]), (vec!["backup".to_owned()], &backup.into()));
    assert!(node.stop().status.success());

    let runs = shown(node, &["--kind", "run"]);
    assert_eq!(events(&runs), ["started", "ended", "ended"]);
    assert_eq!(runs[0]["fields"]["operator"], "0");
    let how = |run: &Value| {
        (run["fields"]["code"].as_str().unwrap().to_owned(), run["fields"]["reason"].to_string())
    };
    assert!(how(&runs[1]).0 == "4" && how(&runs[1]).1.contains("in use"), "{:?}", runs[1]);
    assert_eq!(how(&runs[2]), ("0".into(), "\"told to stop\"".into()));
    assert_eq!(shown(node, &["--last", "1"]), runs[2..], "nothing comes after the end");
    let (code, said) = verified(node, &["--head", &early]);
    assert!(code == Some(0) && said.contains("the head that was given is record"), "{said}");
    let (code, said) = verified(node, &["--head", &"5a".repeat(32)]);
    assert!(code == Some(1) && said.contains("no record has the hash"), "{said}");

    // Somebody changes what was decided.
    let log = node.dir.join("audit.log");
    flip(&log, &digest);
    let (code, said) = verified(node, &[]);
    let number = &recorded["number"];
    assert!(code == Some(1) && said.contains(&format!("record {number}, at byte")), "{said}");
    assert_eq!(audit(node, &["show"]).status.code(), Some(1));
    let late = runs[2]["hash"].as_str().unwrap();
    node.start();
    until("it runs", || (node.get("/livez").status == 200).then_some(()));
    let (code, said) = verified(node, &[]);
    assert!(code == Some(1) && said.contains("audit.log.damaged-1"), "{said}");
    let notes = shown(node, &["--kind", "log"]);
    assert_eq!((events(&notes), &notes[0]["number"]), (vec!["damaged".to_owned()], number));
    // Once somebody has looked, and moved it away, the log holds; what was kept elsewhere still tells.
    std::fs::rename(node.dir.join("audit.log.damaged-1"), scratch.join("evidence")).unwrap();
    head(node);
    assert_eq!(verified(node, &["--head", late]).0, Some(1));
    assert!(node.stop().status.success());
}

#[test]
fn a_killed_node_leaves_a_log_that_holds_and_no_end_in_it() {
    let mut cluster = Cluster::make(Shape { nodes: 1, block_interval_ms: 50, ..Shape::default() });
    let node = &mut cluster.nodes[0];
    for _ in 0..2 {
        let height = node.height().unwrap_or_default();
        node.start();
        until("it decides", || node.height().filter(|now| *now > height + 2));
        node.kill();
        head(node);
    }
    assert_eq!(events(&shown(node, &["--kind", "run"])), ["started", "started"]);
}
