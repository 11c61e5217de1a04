//! Makes clusters with the trusted dealer: `create-cluster`, `devnet`, and the cluster of one operator
//! a node makes for itself when it finds none.
//!
//! ```text
//! OUT/cluster-lock.json  deposit-data.json
//! OUT/node<i>/cluster-lock.json  deposit-data.json  node.toml
//! OUT/node<i>/keys/identity.json  identity.txt  keystore-sequencer.json  keystore-sequencer.txt
//! OUT/node<i>/keys/keystore-<validator>.json  keystore-<validator>.txt
//! ```
//!
//! Every folder is made all at once (`creation`): an interrupted command leaves no half
//! of a cluster. A node that makes one for itself puts the lock into its keys folder first, from where it is
//! copied into the data directory, by the next start if need be.

use crate::config::{LOCK_FILE, NODE_FILE, RunConfig};
use crate::creation::Draft;
use crate::deposits::{DEPOSITS_FILE, deposit_data};
use crate::exit::ExitError;
use crate::files;
use crate::validators::{existing_keys, keystore_name};
use aequa_crypto::bls::MinPk;
use aequa_crypto::dealer::{DealRequest, DealtCluster, NewValidator, OperatorSecrets, deal_cluster};
use aequa_crypto::keystore::{Cost, Keystore, Label};
use aequa_crypto::threshold::SecretShare;
use aequa_types::builders::BuilderTerms;
use aequa_types::lock::LOCK_BYTES_MAX;
use aequa_types::validator::ValidatorPolicy;
use aequa_types::{ConsensusParams, OperatorIndex};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use zeroize::Zeroizing;

/// Keystore of the operator's identity, in the keys folder.
pub const IDENTITY_KEYSTORE: &str = "identity.json";
/// Keystore of the operator's share of the sequencer key.
pub const SHARE_KEYSTORE: &str = "keystore-sequencer.json";
/// Ethereum's own chain id: real money, no cheap keys.
pub const MAINNET_CHAIN_ID: u64 = 1;
/// Version of the genesis fork of Ethereum itself: likewise.
pub const MAINNET_FORK: [u8; 4] = [0; 4];
/// API of node 0 of a new cluster listens here unless told otherwise.
pub const BASE_PORT: u16 = 4600;
/// Transport of node 0 of a new cluster listens here unless told otherwise.
pub const BASE_P2P_PORT: u16 = 31_000;
/// Monitoring of node i listens so many ports above its API.
pub const MONITORING_OFFSET: u16 = 20;

/// Monitoring port of a node minus its API port; wider for clusters in which ports would meet.
pub fn monitoring_offset(nodes: u8) -> u16 {
    MONITORING_OFFSET.max(u16::from(nodes))
}

/// What cluster to make, and where.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// Folder; missing or empty.
    pub out: PathBuf,
    /// Operators.
    pub nodes: u8,
    /// Name.
    pub name: String,
    /// EIP-712 chain id; the cluster's own without one.
    pub chain_id: Option<u64>,
    /// Consensus parameters.
    pub params: ConsensusParams,
    /// Cheap key derivation.
    pub insecure_keys: bool,
    /// API of node i listens here + i.
    pub base_port: u16,
    /// Transport of node i listens here + i.
    pub base_p2p_port: u16,
    /// Multiaddr at which others reach node i, if that is not where it listens.
    pub reached_at: Vec<String>,
    /// What the cluster does on Ethereum.
    pub staking: Staking,
}

/// The validators of a new cluster.
#[derive(Debug, Clone, Default)]
pub struct Staking {
    /// Version of the genesis fork of their network.
    pub fork_version: [u8; 4],
    /// What is fixed about each.
    pub validators: Vec<ValidatorPolicy>,
    /// Whom their blocks are bought from.
    pub builders: Option<BuilderTerms>,
    /// Where the keystores of keys are that exist already, one for each validator.
    pub split: Option<PathBuf>,
}

impl Staking {
    fn keys(&self) -> Result<Vec<NewValidator>, ExitError> {
        let Some(dir) = &self.split else {
            let new = |policy: &ValidatorPolicy| NewValidator { policy: policy.clone(), key: None };
            return Ok(self.validators.iter().map(new).collect());
        };
        let keys = existing_keys(dir)?;
        if keys.len() != self.validators.len() {
            let (found, asked) = (keys.len(), self.validators.len());
            return Err(ExitError::usage(format!(
                "{} has {found} keystores, for {asked} validators",
                dir.display()
            )));
        }
        let policies = self.validators.iter().cloned();
        Ok(policies.zip(keys).map(|(policy, key)| NewValidator { policy, key: Some(key) }).collect())
    }
}

/// Makes a cluster; returns what its size allows but does not recommend.
pub fn make(new: &NewCluster) -> Result<Vec<String>, ExitError> {
    let out = &new.out;
    let fail = |error: io::Error| ExitError::failure(format!("cannot make {}: {error}", out.display()));
    if !files::is_absent_or_empty(out).map_err(fail)? {
        return Err(ExitError::failure(format!("{} exists and is not empty", out.display()))
            .hint("choose another folder; keys are never overwritten"));
    }
    let dealt = deal(new, |node| match new.reached_at.get(usize::from(node)) {
        Some(addr) => vec![addr.clone()],
        None => multiaddrs("127.0.0.1", new.base_p2p_port + u16::from(node)),
    })?;
    let removed = write_cluster(new, &dealt).map_err(fail)?;
    Ok(dealt.warnings.into_iter().chain(removed).collect())
}

/// Makes a cluster of one operator in the data directory of `config`, which has no lock.
///
/// Refuses when there are traces of an earlier one: making new keys then would hide the loss of the
/// old ones.
pub fn ensure_single_operator(config: &RunConfig) -> Result<Vec<String>, ExitError> {
    let dir = &config.data_dir;
    let fail =
        |error: io::Error| ExitError::failure(format!("cannot make a cluster in {}: {error}", dir.display()));
    let prepared = config.keys_dir.join(LOCK_FILE);
    if files::is_there(&prepared) {
        publish_lock(&prepared, config).map_err(fail)?;
        return Ok(vec!["an earlier first start was interrupted, and has been finished".into()]);
    }
    for trace in [dir.join("identity.dat"), config.keys_dir.join(IDENTITY_KEYSTORE)] {
        if files::is_there(&trace) {
            return Err(ExitError::refused(format!(
                "{} is missing, but {} shows that this operator has a cluster",
                config.cluster_lock.display(),
                trace.display()
            ))
            .hint("restore the lock from another operator; or, for a new cluster, use another --data-dir"));
        }
    }
    std::fs::create_dir_all(dir).map_err(fail)?;
    let new = NewCluster {
        out: dir.clone(),
        nodes: 1,
        name: "aequa-single".into(),
        chain_id: None,
        params: config.shared.over_defaults()?,
        insecure_keys: false,
        base_port: 0,
        base_p2p_port: 0,
        reached_at: Vec::new(),
        staking: Staking::default(),
    };
    let dealt = deal(&new, |_| Vec::new())?;
    let write = || {
        let keystores = keystores(&dealt, Cost::Standard)?;
        let (draft, removed) = Draft::begin(&config.keys_dir)?;
        files::write_new(&draft.path().join(LOCK_FILE), dealt.lock.to_json().as_bytes(), files::PUBLIC)?;
        keystores.iter().flatten().try_for_each(|keystore| keystore.write(draft.path()))?;
        draft.publish()?;
        publish_lock(&prepared, config)?;
        Ok(told(&removed))
    };
    write().map_err(fail)
}

/// Copies the lock from the keys folder to where starts look for it, and removes it there.
fn publish_lock(prepared: &Path, config: &RunConfig) -> io::Result<()> {
    let lock = files::read_input(prepared, Some(&config.data_dir), LOCK_BYTES_MAX)?;
    let draft = config.data_dir.join(format!("{LOCK_FILE}.tmp-{}", std::process::id()));
    // In a container every process may have the same id.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => files::write_new(&draft, lock.as_bytes(), files::PUBLIC)?,
    }
    std::fs::rename(&draft, &config.cluster_lock)?;
    files::sync_dir(&config.data_dir)?;
    std::fs::remove_file(prepared)?;
    files::sync_dir(&config.keys_dir)
}

/// Removes what a first start that was interrupted after it had copied the lock left in the keys folder.
pub fn remove_prepared_lock(config: &RunConfig) -> Result<Vec<String>, ExitError> {
    let (prepared, lock) = (config.keys_dir.join(LOCK_FILE), &config.cluster_lock);
    let is_copy = || -> io::Result<bool> {
        let place = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino()));
        let text = |path: &Path| files::read_input(path, Some(&config.data_dir), LOCK_BYTES_MAX);
        Ok(place(&prepared)? != place(lock)? && text(&prepared)? == text(lock)?)
    };
    // What is missing or cannot be read was not left by such a start.
    if !is_copy().unwrap_or(false) {
        return Ok(Vec::new());
    }
    let removed = std::fs::remove_file(&prepared).and_then(|()| files::sync_dir(&config.keys_dir));
    removed.map_err(|error| ExitError::failure(format!("cannot remove {}: {error}", prepared.display())))?;
    Ok(told(&[prepared]))
}

/// What to say of what interrupted runs have left.
fn told(removed: &[PathBuf]) -> Vec<String> {
    let say = |path: &PathBuf| format!("removed {}, left by a run that was interrupted", path.display());
    removed.iter().map(say).collect()
}

fn deal(new: &NewCluster, addrs: impl Fn(u8) -> Vec<String>) -> Result<DealtCluster, ExitError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    deal_cluster(DealRequest {
        name: new.name.clone(),
        nodes: new.nodes.into(),
        chain_id: new.chain_id,
        fork_version: new.staking.fork_version,
        validators: new.staking.keys()?,
        params: new.params.clone(),
        builders: new.staking.builders.clone(),
        multiaddrs: (0..new.nodes).map(addrs).collect(),
        created_at: now.as_secs(),
    })
    .map_err(|error| ExitError::usage(format!("no such cluster can be made: {error}")))
}

/// Where one node listens.
fn multiaddrs(host: &str, port: u16) -> Vec<String> {
    vec![format!("/ip4/{host}/tcp/{port}")]
}

/// Writes a cluster; says what interrupted runs had left.
fn write_cluster(new: &NewCluster, dealt: &DealtCluster) -> io::Result<Vec<String>> {
    let lock = dealt.lock.to_json();
    let cost = if new.insecure_keys { Cost::Insecure } else { Cost::Standard };
    // Deriving keys takes seconds, writing them none: a draft with secrets is there for a moment only.
    let keystores = keystores(dealt, cost)?;
    let (draft, removed) = Draft::begin(&new.out)?;
    let deposits = deposit_data(&dealt.lock);
    write_public(draft.path(), &lock, &deposits)?;
    for (secrets, keystores) in dealt.operators.iter().zip(keystores) {
        let node = draft.path().join(format!("node{}", secrets.index));
        let keys = node.join("keys");
        files::make_private_dir(&node)?;
        files::make_private_dir(&keys)?;
        write_public(&node, &lock, &deposits)?;
        let addresses = Addresses::on_loopback(secrets.index.0, new.nodes, new.base_port, new.base_p2p_port);
        let settings = node_file(&new.name, secrets.index.0, &addresses);
        files::write_new(&node.join(NODE_FILE), settings.as_bytes(), files::PUBLIC)?;
        keystores.iter().try_for_each(|keystore| keystore.write(&keys))?;
        files::sync_dir(&keys)?;
        files::sync_dir(&node)?;
    }
    draft.publish()?;
    Ok(told(&removed))
}

/// What everybody may read; deposits only where there are some.
fn write_public(dir: &Path, lock: &str, deposits: &str) -> io::Result<()> {
    files::write_new(&dir.join(LOCK_FILE), lock.as_bytes(), files::PUBLIC)?;
    if deposits.trim() == "[]" {
        return Ok(());
    }
    files::write_new(&dir.join(DEPOSITS_FILE), deposits.as_bytes(), files::PUBLIC)
}

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Its API.
    pub validator_api: SocketAddr,
    /// Metrics, readiness, status.
    pub monitoring: SocketAddr,
    /// The other operators; the lock says it where this is empty.
    pub p2p: Vec<String>,
}

impl Addresses {
    /// On loopback, ports counted from these.
    pub fn on_loopback(node: u8, nodes: u8, base_port: u16, base_p2p_port: u16) -> Self {
        let port = base_port + u16::from(node);
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            validator_api: at(port),
            monitoring: at(port + monitoring_offset(nodes)),
            p2p: multiaddrs("127.0.0.1", base_p2p_port + u16::from(node)),
        }
    }
}

/// Settings of one node, everything of this version switched on.
pub fn node_file(cluster: &str, node: u8, addresses: &Addresses) -> String {
    let listen: Vec<_> = addresses.p2p.iter().map(|addr| format!("\"{}\"", addr.escape_default())).collect();
    let listen = match listen.is_empty() {
        true => String::new(),
        false => format!("\n[p2p]\nlisten = [{}]\n", listen.join(", ")),
    };
    format!(
        "# Operator {node} of the cluster \"{}\". Flags and AEQUA_* variables come first.\n\
         validator-api = \"{}\"\n\
         monitoring = \"{}\"\n\
         enable-tx-api = true\n\
         enable-builder = true\n\
         enable-tss = true\n\
         enable-tss-sign = true\n{listen}",
        cluster.escape_default(),
        addresses.validator_api,
        addresses.monitoring,
    )
}

/// An encrypted secret with its password, before both are files.
pub(crate) struct NewKeystore {
    name: String,
    keystore: Keystore,
    password: Zeroizing<String>,
}

impl NewKeystore {
    pub(crate) fn of(name: impl Into<String>, secret: &[u8], label: Label, cost: Cost) -> io::Result<Self> {
        let mut random = Zeroizing::new([0u8; 16]);
        getrandom::fill(random.as_mut_slice()).map_err(|error| io::Error::other(error.to_string()))?;
        let password = Zeroizing::new(hex::encode(random.as_slice()));
        let keystore = Keystore::encrypt(secret, &password, label, cost).map_err(io::Error::other)?;
        Ok(Self { name: name.into(), keystore, password })
    }

    /// Writes both files, in place of what an interrupted run has left of them. The password comes first: a keystore
    /// that is there can be opened.
    pub(crate) fn replace(&self, dir: &Path) -> io::Result<()> {
        let path = dir.join(&self.name);
        files::replace(&path.with_extension("txt"), self.password.as_bytes(), files::SECRET)?;
        files::replace(&path, self.keystore.to_json().as_bytes(), files::SECRET)
    }

    fn write(&self, dir: &Path) -> io::Result<()> {
        let path = dir.join(&self.name);
        files::write_new(&path, self.keystore.to_json().as_bytes(), files::SECRET)?;
        files::write_new(&path.with_extension("txt"), self.password.as_bytes(), files::SECRET)
    }
}

/// The keystores of every operator, each operator's on a thread of its own: a key takes a tenth of a second.
fn keystores(dealt: &DealtCluster, cost: Cost) -> io::Result<Vec<Vec<NewKeystore>>> {
    std::thread::scope(|scope| {
        let start = |secrets| scope.spawn(move || keystores_of(secrets, cost));
        let working: Vec<_> = dealt.operators.iter().map(start).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that encrypts keys died")))
        };
        working.into_iter().map(join).collect()
    })
}

fn keystores_of(secrets: &OperatorSecrets, cost: Cost) -> io::Result<Vec<NewKeystore>> {
    let identity = Label {
        pubkey: hex::encode(secrets.identity.public().to_bytes()),
        path: String::new(),
        description: format!("identity of operator {}", secrets.index),
    };
    let share = Label {
        pubkey: hex::encode(secrets.share.public().to_bytes()),
        path: String::new(),
        description: format!("share of the sequencer key of operator {}", secrets.index),
    };
    let mut keystores = vec![
        NewKeystore::of(IDENTITY_KEYSTORE, secrets.identity.seed().as_slice(), identity, cost)?,
        NewKeystore::of(SHARE_KEYSTORE, secrets.share.to_bytes().as_slice(), share, cost)?,
    ];
    for (number, share) in secrets.validator_shares.iter().enumerate() {
        keystores.push(share_keystore(secrets.index, number, share, cost)?);
    }
    Ok(keystores)
}

/// The keystore of an operator's share of a validator's key.
pub(crate) fn share_keystore(
    operator: OperatorIndex,
    number: usize,
    share: &SecretShare<MinPk>,
    cost: Cost,
) -> io::Result<NewKeystore> {
    let label = Label {
        pubkey: hex::encode(share.public().to_bytes()),
        path: String::new(),
        description: format!("share of the key of validator {number} of operator {operator}"),
    };
    NewKeystore::of(keystore_name(number), share.to_bytes().as_slice(), label, cost)
}
