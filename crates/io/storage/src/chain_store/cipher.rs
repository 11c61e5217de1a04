//! Values of a store that is encrypted.
//!
//! ```text
//! nonce 24 ‖ XChaCha20-Poly1305(key of the store, nonce, value)   authenticated with: name of the keyspace ‖ 0 ‖ key
//! ```
//!
//! Nonces are random; of 24 bytes none comes twice. A value is good for its place only. Keys stay as they are, for the
//! engine sorts by them: whoever has the disk sees heights, slots, hashes of transactions, and which accounts there are.

use super::keys::corrupt;
use crate::StorageError;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::fmt;
use std::io;
use std::sync::Arc;
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 24;

/// The key of an encrypted store, 32 bytes. It is wiped with the last copy.
#[derive(Clone)]
pub struct StoreKey(Arc<Zeroizing<[u8; 32]>>);

impl StoreKey {
    /// These bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key of a store")
    }
}

/// Encrypts the values of one keyspace.
#[derive(Clone)]
pub(super) struct Cipher {
    cipher: XChaCha20Poly1305,
    keyspace: &'static str,
}

impl Cipher {
    pub fn new(key: &StoreKey, keyspace: &'static str) -> Self {
        Self { cipher: XChaCha20Poly1305::new(key.0.as_slice().into()), keyspace }
    }

    pub fn seal(&self, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StorageError> {
        let mut sealed = vec![0; NONCE_BYTES];
        let failed = |error: io::Error| StorageError::Io {
            op: "encrypt for",
            path: self.keyspace.into(),
            source: error,
        };
        getrandom::fill(&mut sealed).map_err(|error| failed(io::Error::other(error.to_string())))?;
        let payload = Payload { msg: value, aad: &self.place(key) };
        let encrypted = self.cipher.encrypt(XNonce::from_slice(&sealed), payload);
        sealed.extend(encrypted.map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?);
        Ok(sealed)
    }

    pub fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, StorageError> {
        let unreadable = || corrupt(format!("a value of keyspace {} does not decrypt", self.keyspace));
        let (nonce, encrypted) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(unreadable)?;
        let payload = Payload { msg: encrypted, aad: &self.place(key) };
        self.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| unreadable())
    }

    fn place(&self, key: &[u8]) -> Vec<u8> {
        [self.keyspace.as_bytes(), &[0], key].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_with_its_key_at_its_place_and_nowhere_else() {
        let key = StoreKey::new([7; 32]);
        let cipher = Cipher::new(&key, "state");
        let sealed = cipher.seal(b"alice", b"5").unwrap();
        assert_eq!(cipher.open(b"alice", &sealed).unwrap(), b"5");
        assert_ne!(
            cipher.seal(b"alice", b"5").unwrap(),
            sealed,
            "who has the disk twice sees no equal values"
        );
        assert!(cipher.open(b"bob", &sealed).is_err());
        assert!(Cipher::new(&key, "versions").open(b"alice", &sealed).is_err());
        assert!(Cipher::new(&StoreKey::new([8; 32]), "state").open(b"alice", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(cipher.open(b"alice", &flipped).unwrap_err().is_damage(), "byte {at}");
            assert!(cipher.open(b"alice", &sealed[..at]).is_err());
        }
        assert!(!format!("{key:?}").contains('7'));
    }
}
