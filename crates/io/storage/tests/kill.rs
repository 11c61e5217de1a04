//! A process writes and is killed; another one looks at what is left.
//!
//! The writers are tests of this binary too, which is started again for one of them. Nobody else runs them.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use aequa_chain::{Change, StateRead as _};
use aequa_storage::{BlockCommit, ChainOptions, ChainStore, Committed, FjallChainStore, Wal, WalOptions};
use aequa_testkit::{at, block, commit};
use aequa_types::record::ValueRecord;
use aequa_types::{ClusterId, Height, OperatorIndex, Record, ValueBytes};
use alloy_primitives::B256;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const DIR: &str = "AEQUA_TEST_KILL_DIR";
const CLUSTER: ClusterId = ClusterId::repeat_byte(1);
/// Kills per test; each lets the writer get a little further, or starts from what is left.
const KILLS: usize = 40;

/// Starts this binary again to run `test` on `dir`.
fn start_writer(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Where a writer is to write.
fn dir_to_write() -> PathBuf {
    std::env::var_os(DIR).expect("the test that kills it says where").into()
}

/// Kills the writer once it has acknowledged `lines` numbers; gives the last number it wrote.
fn kill_after(mut writer: Child, lines: usize) -> u64 {
    let mut output = BufReader::new(writer.stdout.take().unwrap());
    let mut acknowledged = 0;
    let mut seen = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if output.read_line(&mut line).unwrap() == 0 {
            writer.wait().unwrap();
            return acknowledged;
        }
        let Some(number) = line.strip_prefix("ack ").and_then(|rest| rest.trim().parse().ok()) else {
            continue;
        };
        // A line the kill cut short has no newline and is no acknowledgement.
        if line.ends_with('\n') {
            acknowledged = number;
            seen += 1;
        }
        if seen == lines {
            writer.kill().unwrap();
        }
    }
}

fn acknowledge(number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nack {number}").unwrap();
    out.flush().unwrap();
}

fn record(height: u64) -> Record {
    let bytes = (height as usize * 37) % 900;
    Record::Value(ValueRecord { instance: at(height), value: ValueBytes(vec![height as u8; bytes].into()) })
}

fn open_wal(dir: &Path) -> (Wal, Vec<Record>) {
    let options = WalOptions { segment_bytes: 8192, ..WalOptions::default() };
    let (wal, recovered) = Wal::open(dir, CLUSTER, OperatorIndex(0), options).unwrap();
    (wal, recovered.records)
}

#[test]
#[ignore = "writes until it is killed: started by the test that does so"]
fn writes_votes_until_killed() {
    let (mut wal, records) = open_wal(&dir_to_write());
    for height in records.len() as u64 + 1.. {
        wal.append(&record(height)).unwrap();
        wal.sync().unwrap();
        acknowledge(height);
    }
}

#[test]
fn every_acknowledged_vote_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    for kill in 0..KILLS {
        let acknowledged = kill_after(start_writer("writes_votes_until_killed", dir.path()), 1 + kill % 7);
        let (_, records) = open_wal(dir.path());
        assert!(records.len() as u64 >= acknowledged, "{acknowledged} acknowledged");
        for (height, found) in (1..).zip(&records) {
            assert_eq!(*found, record(height));
        }
    }
    assert!(open_wal(dir.path()).1.len() >= KILLS, "every writer got somewhere");
}

fn open_chain(dir: &Path) -> FjallChainStore {
    FjallChainStore::open(dir, CLUSTER, ChainOptions::default()).unwrap()
}

#[test]
#[ignore = "writes until it is killed: started by the test that does so"]
fn writes_blocks_until_killed() {
    let store = open_chain(&dir_to_write());
    loop {
        let tip = store.latest().unwrap();
        let height = tip.map_or(Height(1), |tip| tip.height.next());
        let block = block(CLUSTER, height.0, tip.map_or(CLUSTER, |tip| tip.digest), Vec::new());
        let certificate = commit(at(height.0), 0, block.header.digest()).certificate(0..3);
        // Rows of every size, so that a batch spans writes of the engine.
        let value = |height: u64, n: u64| height.to_be_bytes().repeat(1 + n as usize * 40);
        let changes: Vec<_> = (0..20u64)
            .map(|n| Change {
                key: n.to_be_bytes().to_vec(),
                before: tip.map(|tip| value(tip.height.0, n)),
                after: Some(value(height.0, n)),
            })
            .collect();
        let committed = store.commit(&BlockCommit {
            block: &block,
            certificate: &certificate,
            tx_hashes: &[],
            changes: &changes,
            state_root: B256::from(alloy_primitives::U256::from(height.0)),
            history_root: B256::ZERO,
        });
        assert_eq!(committed.unwrap(), Committed::New);
        acknowledge(height.0);
    }
}

#[test]
fn f4_a_killed_store_holds_every_acknowledged_block_and_each_wholly_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    for kill in 0..KILLS {
        let acknowledged = kill_after(start_writer("writes_blocks_until_killed", dir.path()), 1 + kill % 7);
        let store = open_chain(dir.path());
        let tip = store.latest().unwrap().unwrap();
        assert!(tip.height.0 >= acknowledged, "{acknowledged} acknowledged, tip {}", tip.height);
        for height in 1..=tip.height.0 {
            assert!(store.block(Height(height)).unwrap().is_some());
            assert!(store.roots(Height(height)).unwrap().is_some());
        }
        let lowest = store.lowest_state().unwrap();
        for height in [lowest, Height(lowest.0.midpoint(tip.height.0)), tip.height] {
            let state = store.state_at(height).unwrap();
            let entries = std::iter::successors(state.above(&[]), |(key, _)| state.above(key));
            let values: Vec<_> = entries.map(|(_, value)| value).collect();
            assert_eq!(values.len(), if height == Height(0) { 0 } else { 20 });
            let is_whole = values.iter().all(|value| value[..8] == height.0.to_be_bytes());
            assert!(is_whole, "entries of one block only");
        }
    }
    let tip = open_chain(dir.path()).latest().unwrap().unwrap();
    assert!(tip.height.0 >= KILLS as u64, "every writer got somewhere");
}
