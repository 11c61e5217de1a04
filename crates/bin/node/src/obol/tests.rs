use super::bind::{Bind, make};
use super::import::{Import, import};
use super::*;
use crate::ceremony::own::OwnKeys;
use crate::exit::code;
use aequa_crypto::keystore::{Cost, Keystore, Label};
use aequa_testkit::obol::{OPERATORS, ObolCluster, VALIDATORS};
use aequa_types::interchange::{Interchange, ValidatorWatermark};
use aequa_types::network::NETWORKS;
use aequa_types::obol::ObolVersion;
use aequa_types::validator::ValidatorKey;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use tempfile::TempDir;

/// The operator whose import is tried; the others only bind.
const ME: usize = 1;

/// What an operator of an Obol cluster has on its machine, and what the others have sent.
struct Scene {
    dir: TempDir,
    cluster: ObolCluster,
    request: Import,
}

impl Scene {
    fn of(version: ObolVersion) -> Self {
        let (dir, cluster) = (tempfile::tempdir().unwrap(), ObolCluster::of(version));
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("lock.json"), cluster.lock()).unwrap();
        let mut bindings = Vec::new();
        for operator in 0..usize::from(OPERATORS) {
            let enr_key = at(&format!("enr{operator}"));
            files::write_new(&enr_key, hex::encode(cluster.nodes[operator].secret_bytes()).as_bytes(), 0o600)
                .unwrap();
            let data_dir = at(&format!("node{operator}"));
            OwnKeys::ensure(&data_dir).unwrap();
            let bind =
                Bind { lock: at("lock.json"), enr_key, data_dir, out: None, contracts: BTreeSet::new() };
            bindings.push(make(&bind).unwrap().1);
        }
        let request = Import {
            lock: at("lock.json"),
            keystores: at("validator_keys"),
            slashing_protection: at("history.json"),
            bindings,
            data_dir: at(&format!("node{ME}")),
            contracts: BTreeSet::new(),
            never_signed: BTreeSet::new(),
            genesis_validators_root: None,
        };
        let scene = Self { dir, cluster, request };
        std::fs::create_dir(scene.dir.path().join("validator_keys")).unwrap();
        // Their numbers are not those of the lock, and anybody may read them.
        for number in 0..VALIDATORS {
            scene.keystore(VALIDATORS - 1 - number, &scene.secret(number, ME));
        }
        let history = (0..VALIDATORS).map(|number| (scene.share(number, ME), signed(number as u64 + 5)));
        scene.history(history.collect());
        scene
    }

    fn secret(&self, number: usize, operator: usize) -> Vec<u8> {
        self.cluster.validators[number].secret_shares[operator].to_bytes().to_vec()
    }

    fn pubkey(&self, number: usize) -> ValidatorKey {
        self.cluster.validators[number].group_key.to_bytes().into()
    }

    fn share(&self, number: usize, operator: usize) -> ValidatorKey {
        self.cluster.validators[number].public_shares[operator].to_bytes().into()
    }

    fn keystore(&self, file: usize, secret: &[u8]) {
        let path = self.request.keystores.join(format!("keystore-{file}.json"));
        let keystore = Keystore::encrypt(secret, "password", Label::default(), Cost::Insecure).unwrap();
        for old in [path.clone(), path.with_extension("txt")] {
            let _ = std::fs::remove_file(old);
        }
        files::write_new(&path, keystore.to_json().as_bytes(), 0o444).unwrap();
        files::write_new(&path.with_extension("txt"), b"password", 0o400).unwrap();
    }

    fn history(&self, keys: BTreeMap<ValidatorKey, ValidatorWatermark>) {
        let genesis_validators_root = root("hoodi");
        let history = Interchange { genesis_validators_root, keys };
        std::fs::write(&self.request.slashing_protection, history.to_json()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.request.data_dir.join(name)
    }

    /// Everything in the operator's folder.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let folders = [self.request.data_dir.clone(), self.file("keys")];
        let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
        let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        // The file that keeps other processes out says nothing.
        let kept = paths.filter(|path| !path.ends_with("LOCK"));
        kept.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// A refused import says why, with this code, and leaves everything as it was.
    fn refused(&self, says: &str) {
        let before = self.contents();
        let error = import(&self.request).unwrap_err();
        assert!(error.message.contains(says), "{says}: {error}");
        assert_eq!(error.code, code::REFUSED, "{error}");
        assert_eq!(self.contents(), before, "{says}");
    }
}

fn root(network: &str) -> B256 {
    NETWORKS.iter().find(|one| one.name == network).unwrap().genesis_validators_root
}

fn signed(epoch: u64) -> ValidatorWatermark {
    ValidatorWatermark { block_slot: Some(32 * epoch), attestation: Some((epoch - 1, epoch)) }
}

#[test]
fn an_import_keeps_shares_history_and_the_mark_that_keys_may_not_sign() {
    for version in [ObolVersion::V6, ObolVersion::V11] {
        let scene = Scene::of(version);
        let report = import(&scene.request).unwrap();
        let read = imported(&scene.request.data_dir).unwrap().unwrap();
        assert_eq!(read, report.imported);
        assert_eq!((read.validators.len(), read.operator.as_usize()), (VALIDATORS, ME));
        assert!(read.validators.iter().all(|validator| !validator.may_sign));
        for number in 0..VALIDATORS {
            assert_eq!(read.validators[number].pubkey, scene.pubkey(number));
            let path = scene.file(&format!("keys/keystore-{number}.json"));
            let keystore = Keystore::from_json(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let password = std::fs::read_to_string(path.with_extension("txt")).unwrap();
            assert_eq!(*keystore.decrypt(&password).unwrap(), scene.secret(number, ME));
            assert!(!keystore.is_insecure());
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        }
        let text = std::fs::read_to_string(scene.file(PROTECTION_FILE)).unwrap();
        let history = Interchange::from_json(&text).unwrap();
        let expected = (0..VALIDATORS).map(|number| (scene.pubkey(number), signed(number as u64 + 5)));
        assert_eq!(history.keys, expected.collect(), "by the validators' own keys");
    }
}

#[test]
fn the_same_import_again_goes_on_and_raises_watermarks_and_never_lowers_them() {
    let scene = Scene::of(ObolVersion::V10);
    import(&scene.request).unwrap();
    let first = scene.contents();
    import(&scene.request).unwrap();
    assert_eq!(scene.contents(), first, "nothing is made anew");
    // Interrupted before the last key was written.
    let last = scene.file("keys/keystore-1.json");
    std::fs::remove_file(&last).unwrap();
    import(&scene.request).unwrap();
    assert!(last.exists());
    scene.history(BTreeMap::from([(scene.pubkey(0), signed(3)), (scene.pubkey(1), signed(9))]));
    import(&scene.request).unwrap();
    let text = std::fs::read_to_string(scene.file(PROTECTION_FILE)).unwrap();
    let history = Interchange::from_json(&text).unwrap();
    assert_eq!(history.keys, BTreeMap::from([(scene.pubkey(0), signed(5)), (scene.pubkey(1), signed(9))]));
}

#[test]
fn a_history_that_is_foreign_or_incomplete_is_refused_and_nothing_is_written() {
    let mut scene = Scene::of(ObolVersion::V10);
    let whole = |scene: &Scene| BTreeMap::from([0, 1].map(|number| (scene.share(number, ME), signed(7))));
    let mut other = whole(&scene);
    other.insert(scene.share(0, ME + 1), signed(7));
    scene.history(other);
    scene.refused("is the share of operator 2");
    let mut stranger = whole(&scene);
    stranger.insert(ValidatorKey::repeat_byte(9), signed(7));
    scene.history(stranger);
    scene.refused("is of no validator of the lock");
    let mut silent = whole(&scene);
    silent.insert(scene.share(1, ME), ValidatorWatermark::default());
    scene.history(silent);
    scene.refused(&format!("no signature of validator {}", scene.pubkey(1)));
    scene.request.never_signed = BTreeSet::from([scene.pubkey(0), scene.pubkey(1)]);
    scene.refused("which has signed");
    scene.request.never_signed = BTreeSet::from([scene.pubkey(1), scene.share(1, ME)]);
    scene.refused("no validator of the lock");
    scene.request.never_signed = BTreeSet::from([scene.pubkey(1)]);
    let of_mainnet = Interchange { genesis_validators_root: root("mainnet"), keys: whole(&scene) };
    std::fs::write(&scene.request.slashing_protection, of_mainnet.to_json()).unwrap();
    scene.refused("genesis_validators_root");
    scene.history(BTreeMap::from([(scene.share(0, ME), signed(7))]));
    let report = import(&scene.request).unwrap();
    assert_eq!(report.imported.validators.len(), VALIDATORS);
}

#[test]
fn keystores_that_are_missing_doubled_or_of_another_are_refused_and_nothing_is_written() {
    let scene = Scene::of(ObolVersion::V10);
    scene.keystore(0, &scene.secret(0, ME + 1));
    scene.refused("of validator 0 of operator 2");
    scene.keystore(0, &[5; 32]);
    scene.refused("no share of this lock");
    scene.keystore(0, &scene.secret(0, ME));
    scene.refused("two keystores");
    std::fs::remove_file(scene.request.keystores.join("keystore-0.json")).unwrap();
    scene.refused("no keystore holds");
    scene.keystore(0, &scene.secret(1, ME));
    import(&scene.request).unwrap();
}

#[test]
fn bindings_of_all_operators_and_an_own_one_are_needed() {
    let mut scene = Scene::of(ObolVersion::V10);
    let all = scene.request.bindings.clone();
    scene.request.bindings.truncate(3);
    scene.refused("binding of operator 3: is missing");
    scene.request.bindings.clone_from(&all);
    let stranger = scene.dir.path().join("stranger");
    OwnKeys::ensure(&stranger).unwrap();
    scene.request.data_dir = stranger;
    scene.refused("no binding names the identity");
    // With the key of another operator's node nobody becomes it: there are two bindings then.
    let enr_key = scene.dir.path().join("enr0");
    let (lock, data_dir) = (scene.request.lock.clone(), scene.request.data_dir.clone());
    let bind = Bind { lock, enr_key, data_dir, out: None, contracts: BTreeSet::new() };
    scene.request.bindings.push(make(&bind).unwrap().1);
    scene.refused("binding of operator 0: there are two");
}

#[test]
fn what_belongs_to_another_cluster_is_never_overwritten() {
    let scene = Scene::of(ObolVersion::V10);
    let own = scene.file("keys/keystore-1.json");
    let other =
        Keystore::encrypt(&[3; 32], "pw", Label { pubkey: "ab".into(), ..Label::default() }, Cost::Insecure);
    std::fs::write(&own, other.unwrap().to_json()).unwrap();
    scene.refused("holds another key");
    std::fs::remove_file(&own).unwrap();
    std::fs::write(scene.file("cluster-lock.json"), "{}").unwrap();
    scene.refused("before the cluster is made");
    std::fs::remove_file(scene.file("cluster-lock.json")).unwrap();
    import(&scene.request).unwrap();

    let renamed = scene.cluster.lock_with(|lock| lock["cluster_definition"]["name"] = "another".into());
    std::fs::write(&scene.request.lock, renamed.to_string()).unwrap();
    scene.refused("lock_hash");
    let damaged = std::fs::read_to_string(scene.file(IMPORTED_FILE)).unwrap().replace("false", "true");
    std::fs::write(scene.file(IMPORTED_FILE), damaged).unwrap();
    assert_eq!(imported(&scene.request.data_dir).unwrap_err().code, code::REFUSED);
}

#[test]
fn a_history_that_was_changed_after_the_import_is_found() {
    let scene = Scene::of(ObolVersion::V10);
    let held = import(&scene.request).unwrap().imported;
    let dir = &scene.request.data_dir;
    check_history(dir, &held).unwrap();
    let path = scene.file(PROTECTION_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"5\"", "\"4\"")).unwrap();
    assert_eq!(check_history(dir, &held).unwrap_err().code, code::REFUSED);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(check_history(dir, &held).unwrap_err().code, code::REFUSED);
}

#[test]
fn a_lock_that_does_not_verify_is_refused_and_nothing_is_written() {
    let scene = Scene::of(ObolVersion::V10);
    let lock = scene.cluster.lock().replacen("\"threshold\":3", "\"threshold\":2", 1);
    std::fs::write(&scene.request.lock, lock).unwrap();
    scene.refused("config_hash");
}

#[test]
fn a_definition_takes_over_just_what_was_imported_into_the_folder() {
    let scene = Scene::of(ObolVersion::V10);
    let read = import(&scene.request).unwrap().imported;
    let operators: Vec<Operator> = (0..OPERATORS)
        .map(|node| {
            let own = OwnKeys::load(&scene.dir.path().join(format!("node{node}"))).unwrap();
            own.card(format!("n{node}"), Vec::new()).operator(OperatorIndex(node)).unwrap()
        })
        .collect();
    let taken = validators_of(&read, &operators).unwrap();
    assert_eq!((taken.obol_lock_hash, taken.validators.len()), (read.obol_lock_hash, VALIDATORS));
    assert!(taken.validators.iter().all(|validator| validator.deposits.is_empty()));
    let mut swapped = operators.clone();
    swapped.swap(0, 1);
    assert!(validators_of(&read, &swapped).unwrap_err().starts_with("operators"));

    let definition = Definition {
        version: String::new(),
        name: String::new(),
        created_at: 0,
        chain_id: 0,
        fork_version: read.fork_version,
        threshold: 3,
        operators,
        consensus: aequa_types::ConsensusParams::default().into(),
        builders: None,
        validators: Vec::new(),
        imported: Some(taken),
        resharing: None,
        definition_hash: B256::ZERO,
    };
    let (lock, operators) = (definition.lock(), definition.operators.clone());
    let following = Definition::following(&lock, operators, aequa_types::Height(9)).unwrap();
    assert_eq!(following.validators.iter().map(|group| group.count).sum::<u64>(), VALIDATORS as u64);
    check_definition(&scene.request.data_dir, &following, OperatorIndex(ME as u8)).unwrap();
    let check = |definition: &Definition, me| check_definition(&scene.request.data_dir, definition, me);
    let me = OperatorIndex(ME as u8);
    check(&definition, me).unwrap();
    let refused = |change: &dyn Fn(&mut Definition)| {
        let mut changed = definition.clone();
        change(&mut changed);
        assert_eq!(check(&changed, me).unwrap_err().code, code::REFUSED);
    };
    refused(&|definition| definition.imported = None);
    refused(&|definition| definition.fork_version.0[0] ^= 1);
    refused(&|definition| definition.operators.swap(0, 1));
    refused(&|definition| definition.imported.as_mut().unwrap().validators.truncate(1));
    assert!(check(&definition, OperatorIndex(0)).is_err(), "as another operator");
    let nothing = scene.dir.path().join("node0");
    assert!(check_definition(&nothing, &definition, OperatorIndex(0)).is_err(), "nothing was imported there");

    let early = Scene::of(ObolVersion::V6);
    let read = import(&early.request).unwrap().imported;
    let bound = |(index, one): (u8, &aequa_types::obol::imported::ImportedOperator)| {
        let mut operator = definition.operators[usize::from(index)].clone();
        (operator.identity_key, operator.enc_key) = (one.identity_key, Some(one.enc_key));
        operator
    };
    let operators: Vec<Operator> = (0..).zip(&read.operators).map(bound).collect();
    assert!(validators_of(&read, &operators).unwrap_err().contains("version 1.6"));
}
