//! Starts that must not happen: the exit code, what is wrong, and what to do about it.

use crate::harness::{Cluster, Node, PATIENCE, Ports, Shape, command, copy_dir, throughout, until};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Bytes of the lock that are changed, one at a time.
const FLIPS: usize = 32;

/// A cluster of four of which nobody runs, and a place for damaged copies of node 0.
struct Bench {
    cluster: Cluster,
    copies: usize,
}

impl Bench {
    fn new() -> Self {
        Self { cluster: Cluster::make(Shape::default()), copies: 0 }
    }

    /// A fresh copy of a node's folder.
    fn copy(&mut self, node: usize) -> PathBuf {
        self.copies += 1;
        let copy = self.cluster.scratch().join(format!("copy{}", self.copies));
        copy_dir(&self.cluster.nodes[node].dir, &copy);
        copy
    }

    /// Lets node 0 run for a moment, so that its folder has lived.
    fn live(&mut self) {
        let node = &mut self.cluster.nodes[0];
        node.start();
        until("node 0 is live", || (node.get("/livez").status == 200).then_some(()));
        assert!(node.stop().status.success());
    }
}

/// Runs `dvt-node` on `dir`, and asserts that it ends with `code` and says all `words`.
#[track_caller]
fn refuses(dir: &Path, flags: &[&str], code: i32, words: &[&str]) {
    let mut child = command(&["--data-dir", &dir.to_string_lossy()])
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{flags:?}: it runs, but should have refused: {words:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(code), "{flags:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{flags:?}: \"{word}\" is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_lock_with_one_changed_byte_is_refused_wherever_it_is() {
    let mut bench = Bench::new();
    let dir = bench.copy(0);
    let path = dir.join("cluster-lock.json");
    let lock = std::fs::read(&path).unwrap();
    for i in 0..FLIPS {
        let position = i * lock.len() / FLIPS + i % 5;
        let mut changed = lock.clone();
        changed[position] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        refuses(&dir, &[], 4, &["error: the lock", "does not verify", "hint: copy cluster-lock.json"]);
    }
}

#[test]
fn keys_that_are_missing_wrong_or_locked_are_refused() {
    let mut bench = Bench::new();
    let dir = bench.copy(0);
    std::fs::remove_file(dir.join("keys/keystore-sequencer.json")).unwrap();
    refuses(&dir, &[], 4, &["share of the sequencer key", "keystore-sequencer.json", "hint: restore it"]);

    let dir = bench.copy(0);
    std::fs::remove_file(dir.join("keys/identity.json")).unwrap();
    refuses(&dir, &[], 4, &["identity", "hint: restore it"]);

    let dir = bench.copy(0);
    std::fs::write(dir.join("keys/keystore-sequencer.txt"), "0123456789abcdef0123456789abcdef").unwrap();
    refuses(&dir, &[], 4, &["the password in", "does not open", "hint: "]);

    let dir = bench.copy(0);
    std::fs::remove_file(dir.join("keys/identity.txt")).unwrap();
    refuses(&dir, &[], 4, &["cannot read the password", "--keys.password-file"]);

    let dir = bench.copy(0);
    copy_dir(&bench.cluster.nodes[1].dir.join("keys"), &dir.join("other"));
    for file in ["keystore-sequencer.json", "keystore-sequencer.txt"] {
        std::fs::copy(dir.join("other").join(file), dir.join("keys").join(file)).unwrap();
    }
    refuses(&dir, &[], 4, &["is not the share of operator 0", "hint: "]);

    let dir = bench.copy(1);
    refuses(&dir, &["--operator", "0"], 2, &["--operator is 0", "operator 1"]);
}

#[test]
fn a_busy_port_is_refused_at_start() {
    let bench = Bench::new();
    let node = &bench.cluster.nodes[0];
    let (api, monitoring) = (node.api, node.monitoring);
    let transport = bench.cluster.ports.transport();
    for port in [api, monitoring] {
        let _held = TcpListener::bind(("127.0.0.1", port)).unwrap();
        refuses(
            &node.dir,
            &[],
            1,
            &["cannot listen on", &port.to_string(), "hint: another process may hold the port"],
        );
    }
    {
        let _held = TcpListener::bind(("0.0.0.0", transport)).unwrap();
        refuses(&node.dir, &[], 1, &[&transport.to_string(), "hint: another process may hold the port"]);
    }
    let _held = UdpSocket::bind(("0.0.0.0", transport)).unwrap();
    let quic = format!("/ip4/0.0.0.0/udp/{transport}/quic-v1");
    refuses(
        &node.dir,
        &["--p2p.listen", &quic],
        1,
        &[&transport.to_string(), "hint: another process may hold the port"],
    );
}

#[test]
fn a_data_directory_in_use_by_another_process_is_refused() {
    let mut bench = Bench::new();
    bench.cluster.nodes[0].start();
    let other = Ports::take();
    let (api, monitoring) =
        (format!("127.0.0.1:{}", other.api()), format!("127.0.0.1:{}", other.monitoring()));
    let listen = format!("/ip4/127.0.0.1/tcp/{}", other.transport());
    let elsewhere = ["--validator-api", &api, "--monitoring", &monitoring, "--p2p.listen", &listen];
    let dir = bench.cluster.nodes[0].dir.clone();
    refuses(&dir, &elsewhere, 4, &["in use", "hint: stop the other process"]);
    assert!(bench.cluster.nodes[0].is_running());
    assert_eq!(bench.cluster.nodes[0].get("/livez").status, 200);
}

#[test]
fn a_data_directory_of_another_cluster_or_operator_is_refused() {
    let mut bench = Bench::new();
    bench.live();
    let other = Cluster::make(Shape::default());
    let dir = bench.copy(0);
    // The keys and the lock are those of the other cluster, the state is ours.
    copy_dir(&other.nodes[0].dir, &dir);
    refuses(&dir, &[], 4, &["hint: use the directory of this operator and cluster"]);

    let dir = bench.copy(0);
    copy_dir(&bench.cluster.nodes[1].dir, &dir);
    refuses(&dir, &[], 4, &["hint: use the directory of this operator and cluster"]);

    // The lock of one cluster with the keys of another.
    let dir = bench.copy(0);
    std::fs::copy(other.lock(), dir.join("cluster-lock.json")).unwrap();
    refuses(&dir, &[], 4, &["belongs to no operator of the lock", "hint: these are keys of another cluster"]);
}

#[test]
fn a_directory_that_lost_its_name_does_not_sign() {
    let mut bench = Bench::new();
    bench.live();
    let dir = bench.copy(0);
    std::fs::remove_file(dir.join("identity.dat")).unwrap();
    let _ = std::fs::remove_file(dir.join("identity.dat.bak"));
    refuses(&dir, &[], 4, &["hint: do not delete anything"]);
}

#[test]
fn a_lone_operator_that_lost_what_it_signed_has_nobody_to_ask_and_does_not_sign() {
    let mut bench = Bench { cluster: Cluster::make(Shape { nodes: 1, ..Shape::default() }), copies: 0 };
    bench.live();
    for lost in ["wal", "signing"] {
        let dir = bench.copy(0);
        std::fs::remove_dir_all(dir.join(lost)).unwrap();
        for _ in 0..2 {
            refuses(&dir, &[], 4, &["are gone", "hint: restore the directory whole"]);
        }
    }
}

#[test]
fn a_log_and_a_signing_database_that_contradict_each_other_do_not_sign() {
    let mut bench = Bench { cluster: Cluster::make(Shape { nodes: 1, ..Shape::default() }), copies: 0 };
    bench.cluster.nodes[0].start();
    bench.cluster.until_all_at(3);
    bench.cluster.nodes[0].kill();
    // Two lives of one directory, put together.
    let (one, other) = (bench.copy(0), bench.copy(0));
    for dir in [&one, &other] {
        let mut node =
            Node::new(dir.clone(), bench.cluster.nodes[0].api, bench.cluster.nodes[0].monitoring, vec![]);
        node.start();
        let tip = node.height().unwrap();
        until("it votes on its own", || node.height().filter(|height| *height >= tip + 3));
        node.kill();
    }
    std::fs::copy(other.join("signing/votes.dat"), one.join("signing/votes.dat")).unwrap();
    refuses(&one, &[], 4, &["contradict each other", "hint: the directory was put together from two"]);
}

#[test]
fn a_vote_log_changed_in_its_middle_does_not_sign() {
    let mut bench = Bench::new();
    bench.cluster.start_all();
    bench.cluster.until_all_at(5);
    bench.cluster.nodes[0].kill();
    let dir = bench.copy(0);
    let segment = std::fs::read_dir(dir.join("wal")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used / 2] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    refuses(&dir, &[], 4, &["hint: do not delete anything"]);
}

#[test]
fn what_the_command_line_gets_wrong_is_usage() {
    let mut bench = Bench::new();
    let dir = bench.copy(0);
    refuses(&dir, &["--no-such-flag"], 2, &["--no-such-flag", "Usage:"]);
    refuses(&dir, &["--log.level="], 2, &["--log.level", "Usage:"]);
    refuses(&dir, &["--validator-api", ""], 2, &["--validator-api", "Usage:"]);
    refuses(&dir, &["--p2p.max-conns", "many"], 2, &["--p2p.max-conns", "Usage:"]);
    refuses(&dir, &["leftover"], 2, &["leftover", "Usage:"]);
    refuses(&dir, &["--eth.enable"], 2, &["eth.enable", "not part of this version"]);
    refuses(&dir, &["--p2p.enable=false"], 2, &["--p2p.enable=false", "4 operators"]);
    refuses(&dir, &["--p2p.max-conns", "2"], 2, &["--p2p.max-conns is 2", "3 other operators"]);
    let beyond = "must be between 2 (f+1) and 3 (n-1)";
    refuses(&dir, &["--state.divergence-threshold", "1"], 2, &["--state.divergence-threshold is 1", beyond]);
    refuses(&dir, &["--state.divergence-threshold=4"], 2, &["--state.divergence-threshold is 4", beyond]);
    refuses(
        &dir,
        &["--block-interval-ms", "77"],
        2,
        &["--block-interval-ms is 77", "lock says 200", "hint: "],
    );
    refuses(&dir, &["--round-timeout-ms", "77"], 2, &["--round-timeout-ms is 77", "lock says 1000"]);
    refuses(&dir, &["--builder.max-n", "77"], 2, &["--builder.max-n is 77", "lock says 1024"]);
    refuses(&dir, &["--cluster-lock", "elsewhere.json"], 2, &["there is no elsewhere.json"]);
    let empty = bench.cluster.scratch().join("empty");
    refuses(&empty, &["--dkg-required"], 2, &["there is no lock", "hint: "]);
    std::fs::write(dir.join("node.toml"), "no-such-key = 1\n").unwrap();
    refuses(&dir, &[], 2, &["no-such-key"]);
}

#[test]
fn a_refused_start_changes_nothing_and_the_next_one_works() {
    let mut bench = Bench::new();
    bench.live();
    let node = &mut bench.cluster.nodes[0];
    {
        let _held = TcpListener::bind(("127.0.0.1", node.api)).unwrap();
        refuses(&node.dir, &[], 1, &["cannot listen on"]);
    }
    node.start();
    still_runs(node);
}

fn still_runs(node: &mut Node) {
    throughout(Duration::from_secs(1), "the node ended", || node.is_running());
}
