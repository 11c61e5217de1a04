//! What clients may take of a node, and what they may not.

use crate::harness::{Node, Ports, until};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};

/// File descriptors of the node: 256 are kept for storage, 128 for members, and little is left for clients.
const DESCRIPTORS: usize = 600;
/// Those that clients must never reach.
const KEPT: usize = 256;

#[test]
fn clients_never_take_the_descriptors_of_the_vote_log() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::take();
    let flags = ["--block-interval-ms", "50"].map(String::from).to_vec();
    let mut node = Node::new(dir.path().join("data"), ports.api(), ports.monitoring(), flags);
    node.descriptors_max = Some(DESCRIPTORS);
    node.start();
    // Idle ones, since each takes one here too.
    let clients: Vec<_> = (0..300)
        .flat_map(|_| [node.api, node.monitoring])
        .filter_map(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        .collect();
    assert!(clients.len() > DESCRIPTORS - KEPT, "{}", clients.len());
    let turned_away = "api_turned_away_total{reason=\"evicted\",service=\"api\"}";
    until("clients made way", || node.metric(turned_away).filter(|count| *count > 100.0));
    // Processes that keep their memory private show their descriptors to root only.
    match std::fs::read_dir(format!("/proc/{}/fd", node.pid())).map(Iterator::count) {
        Ok(open) => assert!(open <= DESCRIPTORS - KEPT, "{open} descriptors of {DESCRIPTORS} are open"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
    let height = node.height().unwrap();
    until("blocks go on", || node.height().filter(|now| *now >= height + 5));
    assert!(node.log().iter().any(|line| {
        line["msg"] == "warning"
            && line["text"].as_str().is_some_and(|text| text.contains("file descriptors"))
    }));
    assert!(node.stop().status.success());
}
