//! An operator's own keys, made before there is a cluster, and how others know it.

use crate::cluster::{IDENTITY_KEYSTORE, NewKeystore};
use crate::exit::ExitError;
use crate::files;
use crate::keys::{open_keystore, read_secret};
use aequa_crypto::encryption::DecryptionKey;
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::keystore::{Cost, KEYSTORE_BYTES_MAX, Keystore, Label};
use aequa_storage::data_dir::hold_dir;
use aequa_types::OperatorIndex;
use aequa_types::lock::{Key32, Operator, Stake};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Keystore of what others encrypt to.
const ENCRYPTION_KEYSTORE: &str = "encryption.json";
/// What an operator gives to whoever writes the definition.
pub const OPERATOR_FILE: &str = "operator.json";
/// Largest such file in bytes.
const OPERATOR_BYTES_MAX: usize = 16 * 1024;

/// Keeps other processes out of an operator's folder.
pub fn hold(data_dir: &Path) -> Result<File, ExitError> {
    hold_dir(data_dir).map_err(|error| {
        ExitError::refused(error.to_string()).hint("a node or another ceremony works in it: stop that first")
    })
}

/// The secrets of an operator without a cluster.
#[derive(Debug)]
pub struct OwnKeys {
    /// Signs, and names the operator on the network.
    pub identity: IdentityKey,
    /// Opens what is encrypted to the operator.
    pub decryption: DecryptionKey,
}

/// What others have to know of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorCard {
    /// What people call it.
    pub name: String,
    /// ed25519 key.
    pub identity_key: Key32,
    /// X25519 key.
    pub enc_key: Key32,
    /// Where it can be reached.
    pub multiaddrs: Vec<String>,
}

impl OwnKeys {
    /// The operator's keys in its folder, made there if there are none.
    pub fn ensure(data_dir: &Path) -> Result<Self, ExitError> {
        let keys = data_dir.join("keys");
        let fail = |error: io::Error| ExitError::failure(format!("cannot make {}: {error}", keys.display()));
        for dir in [data_dir, &keys] {
            if !dir.is_dir() {
                files::make_private_dir(dir).map_err(fail)?;
            }
        }
        let _held = hold(data_dir)?;
        for name in [IDENTITY_KEYSTORE, ENCRYPTION_KEYSTORE] {
            make_secret(&keys.join(name), |secret| label_of(name, secret)).map_err(fail)?;
        }
        Self::load(data_dir)
    }

    /// The operator's keys in its folder.
    pub fn load(data_dir: &Path) -> Result<Self, ExitError> {
        let keys = data_dir.join("keys");
        let secret = |name: &str| read_seed(&keys.join(name), data_dir);
        Ok(Self {
            identity: IdentityKey::from_seed(&*secret(IDENTITY_KEYSTORE)?),
            decryption: DecryptionKey::from_bytes(&*secret(ENCRYPTION_KEYSTORE)?),
        })
    }

    /// What others have to know.
    pub fn card(&self, name: String, multiaddrs: Vec<String>) -> OperatorCard {
        OperatorCard {
            name,
            identity_key: Key32::from(self.identity.public().to_bytes()),
            enc_key: Key32::from(self.decryption.public().to_bytes()),
            multiaddrs,
        }
    }
}

impl OperatorCard {
    /// Reads what an operator has sent.
    pub fn read(path: &Path) -> Result<Self, ExitError> {
        let at = path.display();
        let text = files::read_input(path, None, OPERATOR_BYTES_MAX)
            .map_err(|error| ExitError::usage(format!("cannot read {at}: {error}")))?;
        serde_json::from_str(&text).map_err(|error| {
            ExitError::usage(format!("{at}: {error}")).hint("it is the operator.json that dkg id writes")
        })
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        // Strings only: there is no failing case.
        let mut text = serde_json::to_string_pretty(self).expect("a card is plain data");
        text.push('\n');
        text
    }

    /// The operator at this place of a definition.
    pub fn operator(self, index: OperatorIndex) -> Result<Operator, String> {
        let identity = aequa_crypto::identity::PublicIdentity::from_bytes(&self.identity_key.0)
            .map_err(|error| format!("identity_key of {}: {error}", self.name))?;
        Ok(Operator {
            index,
            name: self.name,
            address: None,
            peer_id: identity.peer_id(),
            identity_key: self.identity_key,
            vrf_key: None,
            enc_key: Some(self.enc_key),
            stake: Stake::default(),
            multiaddrs: self.multiaddrs,
        })
    }
}

/// The seed of a ceremony in its folder: from it all that is dealt is derived. Made when nothing was dealt yet.
pub fn ceremony_seed(
    path: &Path,
    data_dir: &Path,
    nothing_said: bool,
) -> Result<Zeroizing<[u8; 32]>, ExitError> {
    if !files::is_there(path) && !nothing_said {
        return Err(ExitError::refused(format!(
            "{} is missing, and the transcript goes on from it",
            path.display()
        ))
        .hint("with another seed this operator would contradict itself: put it back, or take no part"));
    }
    let label = |_: &[u8; 32]| Label { description: "seed of a key ceremony".into(), ..Label::default() };
    make_secret(path, label)
        .map_err(|error| ExitError::failure(format!("cannot make {}: {error}", path.display())))?;
    read_seed(path, data_dir)
}

fn label_of(name: &str, secret: &[u8; 32]) -> Label {
    let (pubkey, description) = match name {
        IDENTITY_KEYSTORE => (IdentityKey::from_seed(secret).public().to_bytes(), "identity of an operator"),
        _ => (DecryptionKey::from_bytes(secret).public().to_bytes(), "encryption key of an operator"),
    };
    Label { pubkey: hex::encode(pubkey), path: String::new(), description: description.into() }
}

/// Makes a keystore of 32 random bytes unless there is one; durable before this returns.
fn make_secret(path: &Path, label: impl Fn(&[u8; 32]) -> Label) -> io::Result<()> {
    if files::is_there(path) {
        return Ok(());
    }
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut_slice()).map_err(|error| io::Error::other(error.to_string()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = path.parent().unwrap_or(Path::new("."));
    NewKeystore::of(name, secret.as_slice(), label(&secret), Cost::Standard)?.replace(dir)
}

fn read_seed(path: &Path, data_dir: &Path) -> Result<Zeroizing<[u8; 32]>, ExitError> {
    let at = path.display();
    let unreadable = |error: &io::Error| {
        ExitError::refused(format!("cannot read {at}: {error}")).hint("make this operator's keys with dkg id")
    };
    let mut warnings = Vec::new();
    let text = read_secret(path, Some(data_dir), KEYSTORE_BYTES_MAX, &mut warnings, unreadable)?;
    let keystore =
        Keystore::from_json(&text).map_err(|error| ExitError::refused(format!("{at}: {error}")))?;
    let password: PathBuf = path.with_extension("txt");
    let secret = open_keystore(&keystore, path, &password, Some(data_dir), &mut warnings)?;
    let secret: &[u8; 32] = secret
        .as_slice()
        .try_into()
        .map_err(|_| ExitError::refused(format!("{at} holds {} bytes, must be 32", secret.len())))?;
    Ok(Zeroizing::new(*secret))
}
