//! Signatures of the probe's nodes. Everybody's keys follow from its number: there is nothing to protect.

use super::Scheme;
use super::wire::{Hop, Message, SHARE_BYTES, SIGNATURE_BYTES};
use blst::{BLST_ERROR, min_pk};
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use std::io;
use std::sync::mpsc;

/// Tag of hashing to the curve.
const TAG: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// What a node signs with, and checks others with.
pub(super) struct Keys {
    scheme: Scheme,
    own: SigningKey,
    everybody: Vec<VerifyingKey>,
    share: min_pk::SecretKey,
}

impl Keys {
    pub fn new(scheme: Scheme, me: usize, nodes: usize) -> io::Result<Self> {
        let everybody = (0..nodes).map(|node| identity(node).verifying_key()).collect();
        Ok(Self { scheme, own: identity(me), everybody, share: share_of(me)? })
    }

    pub fn sign(&self, hop: Hop, height: u64, digest: &[u8; 32]) -> [u8; SIGNATURE_BYTES] {
        match self.scheme {
            Scheme::None => [0; SIGNATURE_BYTES],
            Scheme::Ed25519 | Scheme::Sealed => {
                self.own.sign(&Message::signed_bytes(hop, height, digest)).to_bytes()
            }
        }
    }

    pub fn holds(&self, from: usize, message: &Message) -> bool {
        let Message { hop, height, digest, signature, .. } = message;
        match self.scheme {
            Scheme::None => true,
            Scheme::Ed25519 | Scheme::Sealed => self.everybody.get(from).is_some_and(|key| {
                let signed = Message::signed_bytes(*hop, *height, digest);
                key.verify(&signed, &Signature::from_bytes(signature)).is_ok()
            }),
        }
    }

    /// The share that goes with a COMMIT; nothing where there are no seals.
    pub fn share(&self, digest: &[u8; 32]) -> [u8; SHARE_BYTES] {
        match self.scheme {
            Scheme::Sealed => self.share.sign(digest, TAG, &[]).compress(),
            Scheme::None | Scheme::Ed25519 => [0; SHARE_BYTES],
        }
    }
}

/// A quorum of shares, with the number of who made each, and what they are of.
pub(super) struct Shares {
    pub of: Vec<(usize, [u8; SHARE_BYTES])>,
    pub digest: [u8; 32],
}

/// Starts the thread that makes a seal of shares and checks it, beside the agreement.
pub(super) fn seal_aside(nodes: usize) -> io::Result<mpsc::Sender<Shares>> {
    let everybody: Vec<_> =
        (0..nodes).map(|node| share_of(node).map(|key| key.sk_to_pk())).collect::<Result<_, _>>()?;
    let (sender, receiver) = mpsc::channel::<Shares>();
    std::thread::Builder::new().name("seals".into()).spawn(move || {
        for shares in receiver {
            // Nothing else would show that figures are of seals that are none.
            assert!(seal(&everybody, &shares), "shares of honest nodes make a seal");
        }
    })?;
    Ok(sender)
}

fn seal(everybody: &[min_pk::PublicKey], shares: &Shares) -> bool {
    let parse = |(_, share): &(usize, [u8; SHARE_BYTES])| min_pk::Signature::uncompress(share);
    let Ok(signatures) = shares.of.iter().map(parse).collect::<Result<Vec<_>, _>>() else { return false };
    let signatures: Vec<_> = signatures.iter().collect();
    let signers: Vec<_> = shares.of.iter().filter_map(|(from, _)| everybody.get(*from)).collect();
    let Ok(sum) = min_pk::AggregateSignature::aggregate(&signatures, true) else { return false };
    let verdict = sum.to_signature().fast_aggregate_verify(false, &shares.digest, TAG, &signers);
    verdict == BLST_ERROR::BLST_SUCCESS
}

fn identity(node: usize) -> SigningKey {
    SigningKey::from_bytes(&seed(node, 1))
}

fn share_of(node: usize) -> io::Result<min_pk::SecretKey> {
    min_pk::SecretKey::key_gen(&seed(node, 9), &[]).map_err(|error| io::Error::other(format!("{error:?}")))
}

fn seed(node: usize, purpose: u8) -> [u8; 32] {
    let mut seed = [purpose; 32];
    seed[..8].copy_from_slice(&(node as u64).to_le_bytes());
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_quorum_make_a_seal_and_others_do_not() {
        let everybody: Vec<_> = (0..4).map(|node| share_of(node).unwrap().sk_to_pk()).collect();
        let keys: Vec<_> = (0..3).map(|node| Keys::new(Scheme::Sealed, node, 4).unwrap()).collect();
        let of: Vec<_> = keys.iter().enumerate().map(|(node, keys)| (node, keys.share(&[1; 32]))).collect();
        assert!(seal(&everybody, &Shares { of: of.clone(), digest: [1; 32] }));
        assert!(!seal(&everybody, &Shares { of, digest: [2; 32] }), "they are of another digest");
    }

    #[test]
    fn a_signature_is_of_one_message_of_one_node() {
        let (signer, checker) = (Keys::new(Scheme::Ed25519, 1, 4).unwrap(), Keys::new(Scheme::Ed25519, 0, 4));
        let signature = signer.sign(Hop::Prepare, 7, &[1; 32]);
        let (share, value) = (signer.share(&[1; 32]), Vec::new());
        let message = Message { hop: Hop::Prepare, height: 7, digest: [1; 32], signature, share, value };
        let checker = checker.unwrap();
        assert!(checker.holds(1, &message));
        assert!(!checker.holds(2, &message) && !checker.holds(1, &Message { height: 8, ..message }));
    }
}
