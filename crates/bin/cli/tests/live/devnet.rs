//! One command, a whole cluster, and a clean end.

use crate::harness::{Ports, command, output, tail, until};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Output, Stdio};

fn args(dir: &Path, ports: &Ports) -> Vec<String> {
    let dir = dir.to_string_lossy();
    let (base, transport) = (ports.api().to_string(), ports.transport().to_string());
    [
        "devnet",
        "--dir",
        &dir,
        "--base-port",
        &base,
        "--base-p2p-port",
        &transport,
        "--block-interval-ms",
        "200",
    ]
    .map(String::from)
    .to_vec()
}

/// What a devnet said, and what its nodes said last.
fn story(done: &Output, dir: &Path) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let logs = (0..4).map(|node| tail(&dir.join(format!("node{node}/node.log"))));
    let logs: Vec<String> = logs.collect();
    format!("{}--- stderr\n{}{}", text(&done.stdout), text(&done.stderr), logs.join(""))
}

#[test]
fn a_devnet_decides_certified_blocks_with_real_transactions_and_ends_clean() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let ports = Ports::take();
    let base = args(&dir, &ports);
    let mut words: Vec<&str> = base.iter().map(String::as_str).collect();
    words.extend(["--load", "20", "--blocks", "20"]);
    // The second time it goes on with the folder it has made.
    for _ in 0..2 {
        let done = output(&words);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let last_address = format!("127.0.0.1:{}", ports.api() + 3);
        assert!(done.status.success(), "{}", story(&done, &dir));
        for expected in [": equal", " 0 missing, 0 rejected", &last_address] {
            assert!(said.contains(expected), "nothing of {expected:?} in\n{}", story(&done, &dir));
        }
        until("all ports free", || ports.are_free().then_some(()));
    }
}

#[test]
fn an_interrupted_devnet_stops_all_its_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::take();
    let child = command(&[])
        .args(args(&dir.path().join("d"), &ports))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap();
    let answers = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    until("all four listen", || (0..4).all(|i| answers(ports.api() + i)).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = until("the devnet ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    until("all ports free", || ports.are_free().then_some(()));
}
