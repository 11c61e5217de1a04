//! What strangers can make a node hold: small requests that were large trees, readers that do not read.

use crate::harness::{Cluster, Shape, until};
use std::io::Write as _;
use std::net::TcpStream;

/// What a node may take at most, with all of this at once.
const RESIDENT_MIB_MAX: u64 = 256;
/// Duties with the most values a payload may have.
const DUTIES: u64 = 40;
/// Readers of each kind that never read.
const READERS: usize = 20;

#[test]
fn payloads_of_many_values_and_readers_that_do_not_read_stay_below_256_mib() {
    let cluster = Cluster::start(Shape::default());
    cluster.until_all_at(2);
    let node = &cluster.nodes[0];
    let paths = ["/v1/events?topics=duty,block", "/v1/events?from_height=1", "/v1/duty?limit=100"];
    let open = |path: &str| -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", node.api)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    };
    let mut readers: Vec<TcpStream> = (0..READERS).map(|_| open(paths[0])).collect();
    // As many values as there may be, and with them almost as many bytes.
    let values = vec![r#"{"":0}"#; 4_990].join(",");
    for slot in 1..=DUTIES {
        let body = format!(r#"{{"type":"sync","height":{slot},"payload":[{values}]}}"#);
        for node in &cluster.nodes {
            assert_eq!(node.post("/v1/duty", body.as_bytes()).status, 202);
        }
    }
    let last = format!("/v1/duty?type=sync&height={DUTIES}");
    until("the last duty is signed", || (node.get(&last).json()["status"] == "signed").then_some(()));
    readers.extend(paths.iter().flat_map(|path| (0..READERS).map(|_| open(path))));
    let list = node.get("/v1/duty?limit=100").json();
    assert_eq!(list["duties"].as_array().unwrap().len() as u64, DUTIES);
    assert_eq!(list["duties"][0]["value"].as_array().unwrap().len(), 4_990);
    let bomb = vec![r#"{"":0}"#; 140_000].join(",");
    let bomb = format!(r#"{{"type":"sync","height":99,"payload":[{bomb}]}}"#);
    assert_eq!(node.post("/v1/duty", bomb.as_bytes()).status, 400);
    for node in &cluster.nodes {
        let peak_mib = node.memory().peak_kib / 1024;
        assert!(peak_mib < RESIDENT_MIB_MAX, "{peak_mib} MiB");
    }
    drop(readers);
}
