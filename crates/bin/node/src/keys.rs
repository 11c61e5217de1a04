//! Who this node is: lock, identity and share, loaded and checked before anything starts.

use crate::cluster::{self, IDENTITY_KEYSTORE, MAINNET_CHAIN_ID, MAINNET_FORK, SHARE_KEYSTORE};
use crate::config::{LOCK_FILE, RunConfig, check_against_lock, check_threshold};
use crate::custody::{self, Found};
use crate::exit::ExitError;
use crate::files;
use crate::obol;
use crate::validators::check_own_keystores;
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::keystore::{KEYSTORE_BYTES_MAX, Keystore, KeystoreError};
use aequa_crypto::lock::{self, VerifiedLock};
use aequa_crypto::seal::SecretShare;
use aequa_telemetry::Metrics;
use aequa_types::OperatorIndex;
use aequa_types::lock::{ClusterLock, LOCK_BYTES_MAX};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Longest password file in bytes.
const PASSWORD_BYTES_MAX: usize = 4096;
/// Mode bits no secret may have: the group writes, others do anything.
const OPEN_TO_OTHERS: u32 = 0o027;
/// Stores of secrets hand files to a process by its group: worth a warning, and no refusal.
const GROUP_READS: u32 = 0o040;

/// This operator: its cluster, its place there and its keys.
#[derive(Debug)]
pub struct Operator {
    /// The cluster, verified.
    pub lock: VerifiedLock,
    /// Its place in the lock.
    pub index: OperatorIndex,
    /// Its identity.
    pub identity: IdentityKey,
    /// Its share of the sequencer key.
    pub share: SecretShare,
    /// A cluster of one operator was made just now.
    pub newly_made: bool,
    /// What to warn about once logging works.
    pub warnings: Vec<String>,
}

/// Loads the operator of `config`. When there is no lock in the data directory, a cluster of one
/// operator is made there first. Everything that contradicts something else is refused with the item
/// named and what to do.
pub fn load_operator(config: &RunConfig, metrics: &Metrics) -> Result<Operator, ExitError> {
    let newly_made = !files::is_there(&config.cluster_lock);
    let mut warnings = Vec::new();
    if newly_made {
        if config.dkg_required {
            return Err(ExitError::usage(format!("there is no lock at {}", config.cluster_lock.display()))
                .hint("--dkg-required asks for one: put the cluster's lock there"));
        }
        if config.cluster_lock != config.data_dir.join(LOCK_FILE) {
            return Err(ExitError::usage(format!(
                "--cluster-lock: there is no {}",
                config.cluster_lock.display()
            )));
        }
        let make = || cluster::ensure_single_operator(config);
        warnings.extend(if config.seals() { custody::persist(metrics, make)? } else { make()? });
    }
    let lock = load_lock_in(&config.cluster_lock, Some(&config.data_dir))?;
    if lock.quorum().operators() == 1 {
        warnings.extend(cluster::remove_prepared_lock(config)?);
    }
    check_config(config, &lock)?;
    warnings.extend_from_slice(lock.warnings());
    let identity = load_identity(config, &lock, &mut warnings)?;
    let index = place_of(config, &lock, &identity)?;
    let share = load_share(config, &lock, index, &mut warnings);
    if config.seals() && !newly_made {
        custody::recovered(metrics, share.as_ref().map(|_| Found::InPlace));
    }
    let share = share?;
    check_validators(config, &lock, index, &mut warnings)?;
    warnings.extend(obol::check_held(&config.data_dir, &lock)?);
    Ok(Operator { lock, index, identity, share, newly_made, warnings })
}

/// Reads and verifies a lock; what does not hold is refused for safety.
pub fn load_lock(path: &Path) -> Result<VerifiedLock, ExitError> {
    load_lock_in(path, None)
}

pub(crate) fn load_lock_in(path: &Path, home: Option<&Path>) -> Result<VerifiedLock, ExitError> {
    let text = files::read_input(path, home, LOCK_BYTES_MAX)
        .map_err(|error| ExitError::refused(format!("cannot read the lock {}: {error}", path.display())))?;
    lock::load(&text).map_err(|error| {
        ExitError::refused(format!("the lock {} does not verify: {error}", path.display()))
            .hint("copy cluster-lock.json from another operator; never edit it")
    })
}

fn check_config(config: &RunConfig, lock: &VerifiedLock) -> Result<(), ExitError> {
    check_against_lock(config, &lock.lock().consensus.params)?;
    check_threshold(config, lock.quorum())?;
    let others = lock.quorum().operators() - 1;
    if others > 0 && config.p2p.enable == Some(false) {
        return Err(ExitError::usage(format!(
            "--p2p.enable=false, but the lock has {} operators",
            others + 1
        )));
    }
    if usize::try_from(config.p2p.max_conns).is_ok_and(|max| max < others) {
        return Err(ExitError::usage(format!(
            "--p2p.max-conns is {}, but the lock has {others} other operators",
            config.p2p.max_conns
        )));
    }
    Ok(())
}

fn load_identity(
    config: &RunConfig,
    lock: &VerifiedLock,
    warnings: &mut Vec<String>,
) -> Result<IdentityKey, ExitError> {
    let secret = open(config, IDENTITY_KEYSTORE, "the identity of this operator", lock, warnings)?;
    let seed: &[u8; 32] = secret.as_slice().try_into().map_err(|_| {
        ExitError::refused(format!("{IDENTITY_KEYSTORE} holds {} bytes, an identity has 32", secret.len()))
            .hint("restore the file from a backup of this operator")
    })?;
    Ok(IdentityKey::from_seed(seed))
}

fn place_of(
    config: &RunConfig,
    lock: &VerifiedLock,
    identity: &IdentityKey,
) -> Result<OperatorIndex, ExitError> {
    let index = lock.operator_of(&identity.public()).ok_or_else(|| {
        ExitError::refused(format!(
            "the identity in {} belongs to no operator of the lock",
            config.keys_dir.join(IDENTITY_KEYSTORE).display()
        ))
        .hint("these are keys of another cluster, or the lock is: both come from the same ceremony")
    })?;
    match config.operator {
        Some(claimed) if claimed != index => Err(ExitError::usage(format!(
            "--operator is {claimed}, but the identity key is that of operator {index}"
        ))
        .hint("remove --operator, or use the data directory of that operator")),
        _ => Ok(index),
    }
}

fn load_share(
    config: &RunConfig,
    lock: &VerifiedLock,
    index: OperatorIndex,
    warnings: &mut Vec<String>,
) -> Result<SecretShare, ExitError> {
    let secret = open(config, SHARE_KEYSTORE, "this operator's share of the sequencer key", lock, warnings)?;
    let path = config.keys_dir.join(SHARE_KEYSTORE);
    let share = SecretShare::from_bytes(index, &secret).map_err(|error| {
        ExitError::refused(format!("{}: {error}", path.display()))
            .hint("restore it from a backup of this operator")
    })?;
    lock.check_own_share(index, &share).map_err(|_| {
        ExitError::refused(format!("{} is not the share of operator {index}", path.display()))
            .hint("it belongs to another operator or cluster: every operator has its own share")
    })?;
    Ok(share)
}

/// The shares of validators stay closed until something is to be signed with them.
fn check_validators(
    config: &RunConfig,
    lock: &VerifiedLock,
    index: OperatorIndex,
    warnings: &mut Vec<String>,
) -> Result<(), ExitError> {
    if !check_own_keystores(&config.keys_dir, &config.data_dir, lock, index)? {
        return Ok(());
    }
    if is_mainnet(lock.lock()) {
        return Err(ExitError::refused("shares of validators are in insecure keystores, on mainnet"));
    }
    warnings
        .push("shares of validators are encrypted with a cheap key derivation: for development only".into());
    Ok(())
}

/// Whether keys of this cluster are worth real money: those of its clients, or of its validators.
fn is_mainnet(lock: &ClusterLock) -> bool {
    lock.chain_id == MAINNET_CHAIN_ID || (!lock.validators.is_empty() && lock.fork_version == MAINNET_FORK)
}

/// Decrypts one keystore of the keys folder.
fn open(
    config: &RunConfig,
    name: &str,
    what: &str,
    lock: &VerifiedLock,
    warnings: &mut Vec<String>,
) -> Result<Zeroizing<Vec<u8>>, ExitError> {
    let path = config.keys_dir.join(name);
    let at = path.display();
    let home = Some(config.data_dir.as_path());
    let text = read_secret(&path, home, KEYSTORE_BYTES_MAX, warnings, |error| missing(&path, what, error))?;
    let keystore = Keystore::from_json(&text).map_err(|error| {
        ExitError::refused(format!("{at}: {error}")).hint("restore the file from a backup of this operator")
    })?;
    if keystore.is_insecure() {
        if is_mainnet(lock.lock()) {
            return Err(ExitError::refused(format!(
                "{at} is an insecure keystore, and the cluster is on mainnet"
            )));
        }
        warnings.push(format!("{at} is encrypted with a cheap key derivation: for development only"));
    }
    let password_path = config.password_file.clone().unwrap_or_else(|| path.with_extension("txt"));
    open_keystore(&keystore, &path, &password_path, home, warnings)
}

/// Decrypts the keystore of `path` with the password in another file; `home` as of [`files::open_input`].
pub fn open_keystore(
    keystore: &Keystore,
    path: &Path,
    password_path: &Path,
    home: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<Zeroizing<Vec<u8>>, ExitError> {
    let at = path.display();
    let password = read_secret(password_path, home, PASSWORD_BYTES_MAX, warnings, |error| {
        ExitError::refused(format!("cannot read the password {}: {error}", password_path.display()))
            .hint("put it there, or name a file with --keys.password-file")
    })?;
    // Editors end files with a newline; no generated password contains one.
    keystore.decrypt(password.trim_end_matches(['\r', '\n'])).map_err(|error| match error {
        KeystoreError::WrongPassword => {
            ExitError::refused(format!("the password in {} does not open {at}", password_path.display()))
                .hint("the password of another keystore, or a damaged file: restore both from a backup")
        }
        other @ (KeystoreError::Malformed(_)
        | KeystoreError::Unsupported { .. }
        | KeystoreError::TooCostly { .. }
        | KeystoreError::Randomness(_)) => ExitError::refused(format!("{at}: {other}")),
    })
}

/// Reads a file that nobody but its owner should be able to read; `home` as of [`files::open_input`].
pub fn read_secret(
    path: &Path,
    home: Option<&Path>,
    bytes_max: usize,
    warnings: &mut Vec<String>,
    unreadable: impl Fn(&io::Error) -> ExitError,
) -> Result<Zeroizing<String>, ExitError> {
    let file = files::open_input(path, home).map_err(|error| unreadable(&error))?;
    let mode = file.metadata().map_err(|error| unreadable(&error))?.mode();
    let (at, mend) = (path.display(), format!("chmod go-rwx {}", path.display()));
    if mode & OPEN_TO_OTHERS != 0 {
        return Err(ExitError::refused(format!(
            "{at} is a secret, and its mode {:03o} opens it to others",
            mode & 0o777
        ))
        .hint(format!("{mend}; if others could read it for long, its key is no secret any more")));
    }
    if mode & GROUP_READS != 0 {
        warnings.push(format!("{at} is a secret that its whole group can read: {mend}"));
    }
    files::bounded(file, bytes_max).map(Zeroizing::new).map_err(|error| unreadable(&error))
}

fn missing(path: &Path, what: &str, error: &io::Error) -> ExitError {
    let refusal = ExitError::refused(format!("cannot read {what} at {}: {error}", path.display()));
    refusal.hint(if error.kind() == io::ErrorKind::NotFound {
        "restore it from a backup of this operator, or point --keys-dir to its keystores"
    } else {
        "check the owner and the mode of the file"
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cluster::NewCluster;
    use crate::config::{Settings, Source, keys};
    use aequa_types::ConsensusParams;
    use std::path::PathBuf;

    /// A new cluster in a folder of `dir`, with cheap keys.
    pub(crate) fn cluster(dir: &Path, nodes: u8) -> PathBuf {
        let out = dir.join(format!("c{nodes}"));
        let new = NewCluster {
            out: out.clone(),
            nodes,
            name: "t".into(),
            chain_id: None,
            params: ConsensusParams::default(),
            insecure_keys: true,
            base_port: cluster::BASE_PORT,
            base_p2p_port: cluster::BASE_P2P_PORT,
            reached_at: Vec::new(),
            staking: cluster::Staking::default(),
        };
        cluster::make(&new).unwrap();
        out
    }

    fn config(pairs: &[(&str, &str)]) -> RunConfig {
        let mut settings = Settings::default();
        for (name, value) in pairs {
            settings.set(keys::find(name).unwrap(), vec![(*value).to_owned()], Source::Flag).unwrap();
        }
        RunConfig::resolve(settings, []).unwrap()
    }

    pub(crate) fn load(dir: &Path, more: &[(&str, &str)]) -> Result<Operator, ExitError> {
        let mut pairs = vec![("data-dir", dir.to_str().unwrap())];
        pairs.extend_from_slice(more);
        load_operator(&config(&pairs), &Metrics::new())
    }

    fn replace(path: &Path, content: &[u8]) {
        let _ = std::fs::remove_file(path);
        files::write_new(path, content, files::SECRET).unwrap();
    }

    #[test]
    fn every_operator_of_a_new_cluster_loads() {
        let dir = tempfile::tempdir().unwrap();
        let out = cluster(dir.path(), 4);
        for node in 0..4u8 {
            let operator = load(&out.join(format!("node{node}")), &[]).unwrap();
            assert_eq!(operator.index, OperatorIndex(node));
            assert!(!operator.newly_made);
            assert_eq!(operator.warnings.len(), 2, "both keystores are insecure");
        }
        assert!(load(&out.join("node2"), &[("operator", "2"), ("block-interval-ms", "1000")]).is_ok());
    }

    #[test]
    fn settings_that_contradict_the_lock_are_usage() {
        let dir = tempfile::tempdir().unwrap();
        let node = cluster(dir.path(), 4).join("node2");
        for pair in [
            ("operator", "1"),
            ("block-interval-ms", "5"),
            ("p2p.enable", "false"),
            ("p2p.max-conns", "2"),
            ("cluster-lock", "/no/such/lock.json"),
        ] {
            assert_eq!(load(&node, &[pair]).unwrap_err().code, 2, "{pair:?}");
        }
    }

    #[test]
    fn missing_foreign_or_locked_keys_are_refused_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let out = cluster(dir.path(), 4);
        let keys = |node: u8| out.join(format!("node{node}/keys"));
        let read = |node: u8, name: &str| std::fs::read(keys(node).join(name)).unwrap();
        let foreign_share = read(3, SHARE_KEYSTORE);
        let foreign_share_password = read(3, "keystore-sequencer.txt");

        std::fs::remove_file(keys(0).join(SHARE_KEYSTORE)).unwrap();
        replace(&keys(1).join("identity.txt"), b"00000000000000000000000000000000");
        replace(&keys(2).join(SHARE_KEYSTORE), &foreign_share);
        replace(&keys(2).join("keystore-sequencer.txt"), &foreign_share_password);
        std::fs::remove_file(keys(3).join("identity.txt")).unwrap();
        for (node, says) in [
            (0, "cannot read this operator's share"),
            (1, "does not open"),
            (2, "not the share"),
            (3, "password"),
        ] {
            let error = load(&out.join(format!("node{node}")), &[]).unwrap_err();
            assert_eq!(error.code, 4, "{error}");
            assert!(error.message.contains(says) && !error.hint.is_empty(), "{error:?}");
        }
    }

    #[test]
    fn a_lock_with_one_flipped_byte_or_of_another_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = cluster(dir.path(), 4);
        let lock = out.join("node0").join(LOCK_FILE);
        let good = std::fs::read(&lock).unwrap();
        for position in (0..good.len()).step_by(good.len() / 20) {
            let mut bad = good.clone();
            bad[position] ^= 1;
            replace(&lock, &bad);
            assert_eq!(load(&out.join("node0"), &[]).unwrap_err().code, 4, "byte {position}");
        }
        let other = cluster(dir.path(), 1);
        replace(&lock, &std::fs::read(other.join(LOCK_FILE)).unwrap());
        let error = load(&out.join("node0"), &[]).unwrap_err();
        assert_eq!(error.code, 4);
        assert!(error.message.contains("belongs to no operator"), "{error}");
    }

    #[test]
    fn without_a_lock_a_cluster_of_one_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = load(&data, &[("block-interval-ms", "5")]).unwrap();
        assert!(first.newly_made);
        assert_eq!(first.lock.lock().consensus.params.block_interval_ms, 5);
        let second = load(&data, &[]).unwrap();
        assert!(!second.newly_made);
        assert_eq!(first.lock.cluster_id(), second.lock.cluster_id());
    }

    #[test]
    fn secrets_open_to_others_are_refused_with_the_command_that_mends_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let node = cluster(dir.path(), 4).join("node0");
        for name in [IDENTITY_KEYSTORE, "identity.txt", SHARE_KEYSTORE, "keystore-sequencer.txt"] {
            let path = node.join("keys").join(name);
            let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            for mode in [0o404, 0o604, 0o666, 0o777, 0o420, 0o401] {
                set(mode);
                let error = load(&node, &[]).unwrap_err();
                assert_eq!(error.code, 4, "{mode:o}");
                assert!(error.hint.starts_with(&format!("chmod go-rwx {}", path.display())), "{error:?}");
            }
            set(0o440);
            let operator = load(&node, &[]).unwrap();
            assert!(operator.warnings.iter().any(|warning| warning.contains("chmod go-rwx")), "{name}");
            set(0o400);
        }
        assert_eq!(
            load(&node, &[]).unwrap().warnings.len(),
            2,
            "both keystores are insecure, and nothing else"
        );
    }

    /// A pipe would make the start wait for whoever never comes.
    #[test]
    fn pipes_and_links_in_place_of_lock_keys_passwords_and_settings_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let node = cluster(dir.path(), 1).join("node0");
        for name in [LOCK_FILE, "keys/identity.json", "keys/identity.txt", "node.toml"] {
            let path = node.join(name);
            let kept = dir.path().join("kept");
            std::fs::rename(&path, &kept).unwrap();
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            let resolved = || {
                let mut settings = Settings::default();
                let at = node.to_str().unwrap().to_owned();
                settings.set(keys::find("data-dir").unwrap(), vec![at], Source::Flag).unwrap();
                load_operator(&RunConfig::resolve(settings, [])?, &Metrics::new())
            };
            assert!(resolved().unwrap_err().message.contains("no regular file"), "{name}");
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(&kept, &path).unwrap();
            assert!(resolved().unwrap_err().message.contains("symbolic link"), "{name}");
            std::fs::remove_file(&path).unwrap();
            std::fs::rename(&kept, &path).unwrap();
            resolved().unwrap();
        }
    }

    #[test]
    fn a_first_start_that_was_interrupted_is_finished_or_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        // Before the keys were in place: nothing of it counts.
        let early = dir.path().join("early");
        std::fs::create_dir_all(early.join(".keys.tmp-1")).unwrap();
        std::fs::write(early.join(".keys.tmp-1/identity.txt"), b"secret").unwrap();
        let operator = load(&early, &[]).unwrap();
        assert!(operator.newly_made && operator.warnings.iter().any(|text| text.contains(".keys.tmp-1")));
        assert!(!early.join(".keys.tmp-1").exists());
        // After that, and before the lock was: these are the keys.
        let late = dir.path().join("late");
        let first = load(&late, &[]).unwrap();
        std::fs::rename(late.join(LOCK_FILE), late.join("keys").join(LOCK_FILE)).unwrap();
        std::fs::write(late.join(format!("{LOCK_FILE}.tmp-{}", std::process::id())), b"half").unwrap();
        let second = load(&late, &[]).unwrap();
        assert_eq!(first.lock.cluster_id(), second.lock.cluster_id());
        assert!(!late.join("keys").join(LOCK_FILE).exists());
        assert!(!load(&late, &[]).unwrap().newly_made);
        // After the lock was, and before its copy was removed.
        let prepared = late.join("keys").join(LOCK_FILE);
        std::fs::copy(late.join(LOCK_FILE), &prepared).unwrap();
        let third = load(&late, &[]).unwrap();
        assert!(third.warnings.iter().any(|text| text.contains("keys/cluster-lock.json")));
        assert!(!prepared.exists());
        // Another lock is nobody's leftover, and the lock itself is no copy.
        std::fs::write(&prepared, b"{}").unwrap();
        load(&late, &[]).unwrap();
        assert!(prepared.exists());
        std::fs::rename(late.join(LOCK_FILE), &prepared).unwrap();
        load(&late, &[("cluster-lock", prepared.to_str().unwrap())]).unwrap();
        assert!(prepared.exists());
    }

    #[test]
    fn keys_without_their_lock_are_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        load(&data, &[]).unwrap();
        std::fs::remove_file(data.join(LOCK_FILE)).unwrap();
        assert_eq!(load(&data, &[]).unwrap_err().code, 4);
        assert_eq!(load(&dir.path().join("new"), &[("dkg-required", "true")]).unwrap_err().code, 2);
    }
}
