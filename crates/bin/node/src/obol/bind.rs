//! An operator's new identity, signed with the key its node has in the Obol cluster.

use super::{BINDING_FILE, load_lock};
use crate::ceremony::own::OwnKeys;
use crate::exit::ExitError;
use crate::files;
use crate::keys::read_secret;
use aequa_crypto::obol::binding::bind;
use aequa_crypto::obol::enr::NodeSecret;
use aequa_types::Address;
use aequa_types::lock::Key32;
use aequa_types::obol::binding::Binding;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest file with a node's key in bytes: it has 64 digits.
const NODE_KEY_BYTES_MAX: usize = 256;

/// What to bind to what.
#[derive(Debug)]
pub struct Bind {
    /// The Obol lock.
    pub lock: PathBuf,
    /// The file with the node's key: charon-enr-private-key.
    pub enr_key: PathBuf,
    /// The operator's new folder, with its identity.
    pub data_dir: PathBuf,
    /// File to make; in the folder without one.
    pub out: Option<PathBuf>,
    /// Wallets that are contracts.
    pub contracts: BTreeSet<Address>,
}

/// Makes this operator's binding; gives it and where it is.
pub fn make(request: &Bind) -> Result<(Binding, PathBuf), ExitError> {
    let lock = load_lock(&request.lock, &request.contracts)?;
    let own = OwnKeys::load(&request.data_dir)?;
    let node = node_key(&request.enr_key)?;
    let enc_key = Key32::from(own.decryption.public().to_bytes());
    let binding = bind(&lock, &node, &own.identity, enc_key).map_err(|error| {
        ExitError::refused(format!("{}: {error}", request.enr_key.display()))
            .hint("it is the charon-enr-private-key of an operator of this very lock")
    })?;
    let out = request.out.clone().unwrap_or_else(|| request.data_dir.join(BINDING_FILE));
    write(&out, &binding)
        .map_err(|error| ExitError::failure(format!("cannot write {}: {error}", out.display())))?;
    Ok((binding, out))
}

/// The same keys make the same binding: what differs is somebody else's.
fn write(out: &Path, binding: &Binding) -> io::Result<()> {
    let text = binding.to_json();
    if !files::is_there(out) {
        return files::replace(out, text.as_bytes(), files::PUBLIC);
    }
    match files::read_input(out, None, aequa_types::obol::binding::BINDING_BYTES_MAX)? == text {
        true => Ok(()),
        false => Err(io::Error::other("it is there, and is another binding")),
    }
}

/// 64 hexadecimal digits, as Obol's tools write them.
fn node_key(path: &Path) -> Result<NodeSecret, ExitError> {
    let at = path.display();
    let unreadable =
        |error: &io::Error| ExitError::usage(format!("cannot read the node's key {at}: {error}"));
    let text = read_secret(path, None, NODE_KEY_BYTES_MAX, &mut Vec::new(), unreadable)?;
    let digits = text.trim();
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), bytes.as_mut_slice())
        .map_err(|_| ExitError::refused(format!("{at} is not 64 hexadecimal digits")))?;
    NodeSecret::from_bytes(&bytes).map_err(|error| ExitError::refused(format!("{at}: {error}")))
}
