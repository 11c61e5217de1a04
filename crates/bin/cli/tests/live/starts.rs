//! The first moments of a process: what it is given, what it is told, what an earlier one left.

use crate::harness::{Cluster, Node, Ports, Shape, command, until};
use rustix::process::Signal;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

fn not_utf_8() -> OsString {
    OsString::from_vec(b"x\xa3".to_vec())
}

#[test]
fn what_is_not_utf_8_is_usage_for_every_command_and_a_strangers_variable_is_nobodys_business() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("data").to_string_lossy().into_owned();
    let run = ["run", "--data-dir", &missing, "--dkg-required"];
    let stranger = command(&run).env("STRANGER", not_utf_8()).output().unwrap();
    assert_eq!(stranger.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("there is no lock"), "{stranger:?}");
    let ours = command(&run).env("AEQUA_LOG_LEVEL", not_utf_8()).output().unwrap();
    assert_eq!(ours.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ours.stderr).contains("AEQUA_LOG_LEVEL"), "{ours:?}");
    for threads in [not_utf_8(), "0".into(), "many".into()] {
        let ended = command(&run).env("TOKIO_WORKER_THREADS", &threads).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{threads:?}: {ended:?}");
    }
    for name in ["run", "devnet", "create-cluster", "verify-block", "replay", "tx", "version"] {
        let ended = command(&[name]).arg(not_utf_8()).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{name}: {ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("argument 2 is not UTF-8"), "{ended:?}");
    }
}

#[test]
fn told_to_stop_while_a_costly_keystore_is_opened_it_ends_well() {
    let mut cluster = Cluster::make(Shape::default());
    let node = &mut cluster.nodes[0];
    // The key derivation takes longer than a stop may, and ends in a wrong password.
    let path = node.dir.join("keys/identity.json");
    let costly = std::fs::read_to_string(&path).unwrap().replace("\"c\": 16,", "\"c\": 16777216,");
    assert!(costly.contains("16777216"));
    std::fs::write(&path, costly).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        node.spawn();
        until("it has begun", || node.log().iter().any(|line| line["msg"] == "config").then_some(()));
        node.signal(signal);
        assert_eq!(node.until_ended().code(), Some(0));
        std::fs::remove_file(node.log_path()).unwrap();
    }
}

#[test]
fn signals_of_other_tools_do_not_end_a_node() {
    let mut cluster = Cluster::start(Shape { nodes: 1, ..Shape::default() });
    let node = &mut cluster.nodes[0];
    for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2"), (Signal::HUP, "SIGHUP")] {
        node.signal(signal);
        let told = |node: &Node| {
            node.log().iter().any(|line| line["text"].as_str().is_some_and(|text| text.starts_with(name)))
        };
        until("it says so", || told(node).then_some(()));
    }
    assert_eq!(node.get("/livez").status, 200);
    assert!(node.stop().status.success());
}

/// Address for documentation: no machine has it.
#[test]
fn an_address_that_cannot_be_bound_is_named_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::take();
    let monitoring = format!("127.0.0.1:{}", ports.monitoring());
    let api = format!("192.0.2.1:{}", ports.api());
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let args = ["--data-dir", &data, "--validator-api", &api, "--monitoring", &monitoring];
    let ended = command(&args).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains(&api) && said.contains("assign") && said.contains("no interface"), "{said}");
}

/// The memory of a process with keys is nobody else's, and is written nowhere when it crashes.
#[test]
fn a_running_node_leaves_no_core_dump() {
    let cluster = Cluster::start(Shape { nodes: 1, ..Shape::default() });
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", cluster.nodes[0].pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let values: Vec<&str> = core.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert_eq!(values, ["0", "0"], "{core}");
}

#[test]
fn what_a_node_makes_is_its_owners_alone_whatever_the_mask_it_was_started_with() {
    use std::os::unix::fs::PermissionsExt as _;
    let cluster = Cluster::start(Shape { nodes: 1, ..Shape::default() });
    cluster.until_all_at(2);
    let mut folders = vec![cluster.nodes[0].dir.join("chain")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            // Files of the store come and go.
            let Ok(found) = entry.metadata() else { continue };
            assert_eq!(found.permissions().mode() & 0o077, 0, "{}", entry.path().display());
            files += 1;
            folders.extend(found.is_dir().then(|| entry.path()));
        }
    }
    assert!(files > 3, "the store has files");
}

#[test]
fn a_foreign_last_state_does_not_silence_an_operator() {
    let mut cluster = Cluster::start(Shape { nodes: 1, ..Shape::default() });
    let tip = {
        cluster.until_all_at(3);
        let node = &mut cluster.nodes[0];
        assert!(node.stop().status.success());
        foreign(&node.dir);
        node.start();
        node.height().unwrap()
    };
    cluster.until_all_at(tip + 3);
}

fn foreign(dir: &Path) {
    use aequa_storage::LastState;
    use aequa_types::{Height, Round};
    LastState { height: Height(1_000_000), round: Round(0) }.save(dir).unwrap();
}
