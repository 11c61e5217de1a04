//! Operators of unit tests: their keys are their numbers.

use crate::{Definition, Participant, Secrets};
use aequa_crypto::encryption::DecryptionKey;
use aequa_crypto::identity::IdentityKey;
use aequa_types::ClusterId;
use zeroize::Zeroizing;

pub fn identity(operator: u8) -> IdentityKey {
    IdentityKey::from_seed(&[operator; 32])
}

pub fn secrets(operator: u8) -> Secrets {
    let decryption = DecryptionKey::from_bytes(&[operator; 32]);
    Secrets::new(identity(operator), decryption, Zeroizing::new([operator; 32]))
}

pub fn participants(operators: usize) -> Vec<Participant> {
    (0..operators as u8).map(participant).collect()
}

pub fn participant(number: u8) -> Participant {
    Participant {
        identity: identity(number).public(),
        encryption: DecryptionKey::from_bytes(&[number; 32]).public(),
    }
}

/// A ceremony of its own for each size.
pub fn definition(operators: usize, validators: usize) -> Definition {
    let mut ceremony = ClusterId::repeat_byte(operators as u8);
    ceremony.0[..8].copy_from_slice(&(validators as u64).to_be_bytes());
    Definition::new(ceremony, participants(operators), (2 * operators).div_ceil(3), validators).unwrap()
}
