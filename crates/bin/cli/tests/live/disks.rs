//! A disk that is full, or too few file descriptors: the node signs nothing, says so, loses nothing, and goes on when there is room again.

use crate::harness::{Cluster, Node, Ports, Promises, Shape, copy_dir, until};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const VICTIM: usize = 3;
/// Of the small disk.
const MIB: usize = 400;

/// A file system of its own, unmounted when the test ends.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where this user may not mount one.
    fn mount(at: &Path) -> Option<Self> {
        let size = format!("size={MIB}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(at.into()))
    }

    /// Takes all the room there is.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for block in [vec![0; 1 << 20], vec![0; 4096]] {
            while file.write_all(&block).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Sets how many file descriptors a process may have; whether that could be set.
fn limit_descriptors(pid: u32, limit: u32) -> bool {
    let set = Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={limit}:")]).status();
    set.is_ok_and(|status| status.success())
}

#[test]
fn without_file_descriptors_a_node_signs_nothing_and_goes_on_when_it_has_some() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::take();
    // So many blocks that files are made all the time.
    let flags = ["--block-interval-ms", "0", "--log.level", "warn"].map(String::from).to_vec();
    let mut node = Node::new(dir.path().join("data"), ports.api(), ports.monitoring(), flags);
    node.start();
    until("ten blocks", || node.height().filter(|height| *height >= 10));
    let before = node.digests(10);
    if !limit_descriptors(node.pid(), 8) {
        eprintln!("skipped: there is no prlimit");
        return;
    }
    let stands = |line: &serde_json::Value| {
        line["text"].as_str().is_some_and(|text| text.contains("signs nothing until the disk can be used"))
    };
    until("it says that it signs nothing", || node.log().iter().any(stands).then_some(()));
    assert!(node.is_running());
    assert!(limit_descriptors(node.pid(), 1024));
    let stood = until("it answers", || node.height());
    until("it goes on", || node.height().filter(|height| *height >= stood + 10));
    assert_eq!(node.digests(10), before);
    assert!(node.stop().status.success());
}

#[test]
fn a_full_disk_stops_the_votes_and_nothing_is_lost_when_there_is_room_again() {
    let mut cluster = Cluster::make(Shape { block_interval_ms: 50, ..Shape::default() });
    let (dir, before) = (cluster.nodes[VICTIM].dir.clone(), cluster.scratch().join("before"));
    copy_dir(&dir, &before);
    let Some(disk) = SmallDisk::mount(&dir) else {
        eprintln!("skipped: mounting a small disk needs root");
        return;
    };
    copy_dir(&before, &dir);
    cluster.start_all();
    cluster.until_all_at(20);

    let filler = disk.fill();
    let says =
        |node: &Node| node.try_get("/readyz").is_some_and(|ready| ready.text().contains("storage_error"));
    until("it says that the disk is full", || says(&cluster.nodes[VICTIM]).then_some(()));
    assert!(cluster.nodes[VICTIM].is_running());
    assert_eq!(cluster.nodes[VICTIM].get("/health").status, 200);
    let stood = cluster.nodes[VICTIM].height().unwrap();
    let tip = cluster.tip();
    until("the others go on", || (cluster.tip() > tip + 20).then_some(()));
    assert_eq!(cluster.nodes[VICTIM].height(), Some(stood), "it decides nothing meanwhile");

    std::fs::remove_file(filler).unwrap();
    let node = &cluster.nodes[VICTIM];
    until("it is ready", || (node.try_get("/readyz")?.status == 200).then_some(()));
    let tip = cluster.tip() + 20;
    cluster.until_all_at(tip);
    let root = |node: &Node| node.get(&format!("/v1/state-root?height={tip}")).json()["root"].clone();
    assert_eq!(root(&cluster.nodes[VICTIM]), root(&cluster.nodes[0]));
    for node in &mut cluster.nodes {
        node.stop();
    }
    // Everything any of them has signed: none contradicts another.
    let mut promises = Promises::default();
    promises.read_all(&cluster);
    assert!(promises.len() > 50);
    drop(disk);
}
