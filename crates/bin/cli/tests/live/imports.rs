//! The validators of an Obol cluster: bound, imported and taken into the lock of a ceremony, by real processes.

use crate::harness::{Node, Ports, command, output, until};
use aequa_crypto::keystore::{Cost, Keystore, Label};
use aequa_testkit::obol::{OPERATORS, ObolCluster, VALIDATORS};
use aequa_types::interchange::{Interchange, ValidatorWatermark};
use aequa_types::network::NETWORKS;
use aequa_types::obol::ObolVersion;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;

/// Operators that come from an Obol cluster, each with its old files and its new folder.
struct Operators {
    dir: tempfile::TempDir,
    cluster: ObolCluster,
    ports: Vec<Ports>,
}

fn done(line: &[&str]) -> String {
    let output = output(line);
    assert!(output.status.success(), "{line:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn secret(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

impl Operators {
    fn new() -> Self {
        let cluster = ObolCluster::of(ObolVersion::V10);
        let ports = (0..OPERATORS).map(|_| Ports::take()).collect();
        let operators = Self { dir: tempfile::tempdir().unwrap(), cluster, ports };
        std::fs::write(operators.path("lock.json"), operators.cluster.lock()).unwrap();
        for node in 0..OPERATORS.into() {
            operators.old_files(node);
            let (folder, name) = (operators.path(&format!("node{node}")), format!("n{node}"));
            let address = format!("/ip4/127.0.0.1/tcp/{}", operators.ports[node].transport());
            done(&["dkg", "id", "--data-dir", &folder, "--name", &name, "--address", &address]);
        }
        operators
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// What the tools of its old cluster have left.
    fn old_files(&self, node: usize) {
        let keys = PathBuf::from(self.path(&format!("keys{node}")));
        std::fs::create_dir(&keys).unwrap();
        let mut history = Interchange { genesis_validators_root: root("hoodi"), keys: Default::default() };
        for (number, dealing) in self.cluster.validators.iter().enumerate() {
            let share = &dealing.secret_shares[node];
            let keystore =
                Keystore::encrypt(share.to_bytes().as_slice(), "pw", Label::default(), Cost::Insecure)
                    .unwrap();
            secret(&keys.join(format!("keystore-{number}.json")), keystore.to_json().as_bytes());
            secret(&keys.join(format!("keystore-{number}.txt")), b"pw");
            let signed = ValidatorWatermark { block_slot: None, attestation: Some((4, 5)) };
            history.keys.insert(share.public().to_bytes().into(), signed);
        }
        std::fs::write(self.path(&format!("history{node}.json")), history.to_json()).unwrap();
        let node_key = hex::encode(self.cluster.nodes[node].secret_bytes());
        secret(Path::new(&self.path(&format!("enr{node}"))), node_key.as_bytes());
    }

    fn bind(&self, node: usize) {
        let (lock, key, folder) =
            (self.path("lock.json"), self.path(&format!("enr{node}")), self.path(&format!("node{node}")));
        done(&["import-obol", "bind", "--lock", &lock, "--enr-key", &key, "--data-dir", &folder]);
    }

    /// The arguments of an operator's import.
    fn import(&self, node: usize) -> Vec<String> {
        let bindings: Vec<String> =
            (0..OPERATORS).map(|of| self.path(&format!("node{of}/binding.json"))).collect();
        let pairs = [
            ("--lock", self.path("lock.json")),
            ("--keystores", self.path(&format!("keys{node}"))),
            ("--slashing-protection", self.path(&format!("history{node}.json"))),
            ("--binding", bindings.join(",")),
            ("--data-dir", self.path(&format!("node{node}"))),
        ];
        let flags = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        ["import-obol".to_owned()].into_iter().chain(flags).collect()
    }

    fn take_part(&self, node: usize) -> Child {
        let (definition, folder) = (self.path("definition.json"), self.path(&format!("node{node}")));
        let (api, monitoring) = (self.ports[node].api(), self.ports[node].monitoring());
        let log = File::create(Path::new(&folder).join("dkg.log")).unwrap();
        let mut member = command(&["dkg", "--definition", &definition, "--data-dir", &folder]);
        member.args(["--validator-api", &format!("127.0.0.1:{api}")]);
        member.args(["--monitoring", &format!("127.0.0.1:{monitoring}"), "--timeout", "120"]);
        member.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }
}

fn root(network: &str) -> alloy_primitives::B256 {
    NETWORKS.iter().find(|one| one.name == network).unwrap().genesis_validators_root
}

fn refused(line: &[String], says: &str) {
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let output = output(&line);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains(says), "{says}: {text}");
}

#[test]
fn validators_of_an_obol_cluster_come_into_a_lock_that_decides_and_may_not_sign_yet() {
    let operators = Operators::new();
    (0..OPERATORS.into()).for_each(|node| operators.bind(node));
    let mut bare = operators.import(0);
    bare.drain(5..7);
    refused(&bare, "--slashing-protection is missing");
    assert!(!Path::new(&operators.path("node0/imported-validators.json")).exists());
    for node in 0..OPERATORS.into() {
        let line = operators.import(node);
        let said = done(&line.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.contains("may not sign yet"), "{said}");
    }

    let cards: Vec<String> =
        (0..OPERATORS).map(|node| operators.path(&format!("node{node}/operator.json"))).collect();
    let (out, imported) =
        (operators.path("definition.json"), operators.path("node2/imported-validators.json"));
    let new = ["dkg", "new", "--operator", &cards.join(","), "--out", &out, "--block-interval-ms", "100"];
    let stray = operators.path("stray.json");
    let builders = ["--builder-url", "https://relay.example", "--builder-min-bid", "7"];
    let nobody = output(&[&new[..4], &["--out", &stray], &builders].concat());
    assert_eq!(nobody.status.code(), Some(2), "builders for no validators: {nobody:?}");
    done(&[&new[..4], &["--out", &stray]].concat());
    let part = ["dkg", "--definition", &stray, "--data-dir", &operators.path("node0")];
    refused(&part.map(str::to_owned), "leaves out the validators");
    done(&[&new[..], &["--imported", &imported], &builders].concat());

    let members: Vec<Child> = (0..OPERATORS.into()).map(|node| operators.take_part(node)).collect();
    for (node, mut member) in members.into_iter().enumerate() {
        let log = || std::fs::read_to_string(operators.path(&format!("node{node}/dkg.log"))).unwrap();
        assert!(member.wait().unwrap().success(), "node {node}: {}", log());
    }
    let lock = std::fs::read_to_string(operators.path("node0/cluster-lock.json")).unwrap();
    let verified = aequa_crypto::lock::load(&lock).unwrap();
    assert!(verified.lock().imported_from.is_some());
    let terms = verified.lock().builders.as_ref().unwrap();
    assert_eq!((terms.urls.as_slice(), terms.min_bid_gwei), (&["https://relay.example".to_owned()][..], 7));
    assert_eq!(verified.validators().len(), VALIDATORS);
    for (keys, dealing) in verified.validators().iter().zip(&operators.cluster.validators) {
        assert_eq!(keys.group_key, dealing.group_key, "the keys are the same");
        assert_eq!(keys.public_shares, dealing.public_shares);
    }
    refused(&operators.import(0), "before the cluster is made");

    let mut nodes: Vec<Node> = operators
        .ports
        .iter()
        .enumerate()
        .map(|(node, ports)| {
            Node::new(operators.path(&format!("node{node}")).into(), ports.api(), ports.monitoring(), vec![])
        })
        .collect();
    nodes.iter_mut().for_each(Node::spawn);
    nodes.iter_mut().for_each(Node::await_up);
    until("a height", || nodes.iter().all(|node| node.height() >= Some(2)).then_some(()));
    let warned = |node: &Node| node.log().iter().any(|line| line.to_string().contains("may not sign yet"));
    assert!(nodes.iter().all(warned));
    nodes[0].stop();

    // Without the mark it does not even start.
    std::fs::remove_file(operators.path("node0/imported-validators.json")).unwrap();
    let run = ["run", "--data-dir", &operators.path("node0")];
    refused(&run.map(str::to_owned), "imported-validators.json is missing");
}
