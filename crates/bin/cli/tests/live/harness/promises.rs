//! Every statement any operator of a cluster ever made, as far as the disks tell: read with the
//! production readers, compared over all lives and all nodes.

use super::{Cluster, copy_dir};
use aequa_storage::{SigningDb, SigningDbOptions, Wal, WalOptions};
use aequa_types::{Certificate, ClusterId, OperatorIndex, Record, Signed, VoteKey, VoteRoot};
use alloy_primitives::B256;
use std::collections::BTreeMap;
use std::path::Path;

/// What was said where, by whom.
#[derive(Default)]
pub struct Promises {
    said: BTreeMap<(OperatorIndex, VoteKey), B256>,
}

impl Promises {
    /// Takes over what the vote log and the signing database of one node hold: its own statements, and those of
    /// others in its certificates. Nothing is changed; the node may run.
    #[track_caller]
    pub fn read(&mut self, cluster: &Cluster, node: usize) {
        let (id, operator) = (cluster_id(cluster), OperatorIndex(u8::try_from(node).unwrap()));
        let copy = tempfile::tempdir().unwrap();
        let dir = &cluster.nodes[node].dir;
        for part in ["wal", "signing"].into_iter().filter(|part| dir.join(part).exists()) {
            copy_dir(&dir.join(part), &copy.path().join(part));
        }
        for record in records(&copy.path().join("wal"), id, operator) {
            statements(&record).iter().for_each(|signed| self.add(signed.author, signed.vote_root()));
        }
        if copy.path().join("signing/votes.dat").exists() {
            let db = copy.path().join("signing");
            let db = SigningDb::open(&db, id, operator, SigningDbOptions::default()).unwrap();
            db.votes().for_each(|vote| self.add(operator, vote));
        }
    }

    /// Takes over what all nodes hold.
    #[track_caller]
    pub fn read_all(&mut self, cluster: &Cluster) {
        (0..cluster.nodes.len()).for_each(|node| self.read(cluster, node));
    }

    /// How many statements are known.
    pub fn len(&self) -> usize {
        self.said.len()
    }

    #[track_caller]
    fn add(&mut self, operator: OperatorIndex, vote: VoteRoot) {
        let before = *self.said.entry((operator, vote.key)).or_insert(vote.root);
        assert_eq!(before, vote.root, "operator {operator} made two statements at {:?}", vote.key);
    }
}

fn records(dir: &Path, id: ClusterId, operator: OperatorIndex) -> Vec<Record> {
    match dir.exists() {
        true => Wal::open(dir, id, operator, WalOptions::default()).unwrap().1.records,
        false => Vec::new(),
    }
}

/// Every signed statement in a record.
fn statements(record: &Record) -> Vec<Signed> {
    let of = |certificate: &Certificate| certificate.commits();
    match record {
        Record::PrePrepare(record) => {
            let parts = [std::slice::from_ref(&record.proposal), &record.round_changes, &record.prepares];
            parts.concat()
        }
        Record::Prepare(signed) | Record::Commit(signed) | Record::Heard(signed) => vec![signed.clone()],
        Record::Prepared(record) => record.prepares.clone(),
        Record::Round(record) => record.change.iter().cloned().collect(),
        Record::Decided(certificate) => of(certificate),
        Record::Value(_) => Vec::new(),
    }
}

fn cluster_id(cluster: &Cluster) -> ClusterId {
    let lock: serde_json::Value = serde_json::from_slice(&std::fs::read(cluster.lock()).unwrap()).unwrap();
    lock["cluster_id"].as_str().unwrap().parse().unwrap()
}
