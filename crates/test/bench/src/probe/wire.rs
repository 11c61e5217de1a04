//! What nodes of the probe say to each other: one form of fixed length, and a value behind it.

use std::io::{self, Read};

/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 64;
/// Bytes of a share.
pub(super) const SHARE_BYTES: usize = 96;
/// Bytes of everything but the value.
pub(super) const HEAD_BYTES: usize = 1 + 8 + 32 + SIGNATURE_BYTES + SHARE_BYTES + 4;
/// Largest value: far above what is measured, and nothing a wrong length could make a node allocate.
const VALUE_BYTES_MAX: usize = 16 << 20;

/// The hop a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hop {
    /// The leader's value.
    Preprepare = 0,
    /// Its digest came back.
    Prepare = 1,
    /// A quorum has it.
    Commit = 2,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub hop: Hop,
    pub height: u64,
    pub digest: [u8; 32],
    pub signature: [u8; SIGNATURE_BYTES],
    pub share: [u8; SHARE_BYTES],
    pub value: Vec<u8>,
}

impl Message {
    /// What is signed.
    pub fn signed_bytes(hop: Hop, height: u64, digest: &[u8; 32]) -> Vec<u8> {
        [&[hop as u8][..], &height.to_le_bytes(), digest].concat()
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.value.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.value.len());
        bytes.extend(Self::signed_bytes(self.hop, self.height, &self.digest));
        bytes.extend(self.signature);
        bytes.extend(self.share);
        bytes.extend(length.to_le_bytes());
        bytes.extend(&self.value);
        bytes
    }

    pub fn read(input: &mut impl Read) -> io::Result<Self> {
        let hop = match array::<1>(input)? {
            [0] => Hop::Preprepare,
            [1] => Hop::Prepare,
            [2] => Hop::Commit,
            [other] => return Err(io::Error::other(format!("no hop has the number {other}"))),
        };
        let height = u64::from_le_bytes(array(input)?);
        let (digest, signature, share) = (array(input)?, array(input)?, array(input)?);
        let length = u32::from_le_bytes(array(input)?);
        let length = usize::try_from(length).ok().filter(|length| *length <= VALUE_BYTES_MAX);
        let mut value = vec![0; length.ok_or_else(|| io::Error::other("the value is too long"))?];
        input.read_exact(&mut value)?;
        Ok(Self { hop, height, digest, signature, share, value })
    }
}

fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(value: Vec<u8>) -> Message {
        let (signature, share) = ([3; SIGNATURE_BYTES], [4; SHARE_BYTES]);
        Message { hop: Hop::Commit, height: 7, digest: [2; 32], signature, share, value }
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let (one, two) = (message(Vec::new()), message(vec![5; 1000]));
        let bytes = [one.to_bytes(), two.to_bytes()].concat();
        let mut rest = &bytes[..];
        assert_eq!(one.to_bytes().len(), HEAD_BYTES);
        assert_eq!([Message::read(&mut rest).unwrap(), Message::read(&mut rest).unwrap()], [one, two]);
        assert!(Message::read(&mut rest).is_err(), "nothing is left");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut unknown_hop = message(Vec::new()).to_bytes();
        unknown_hop[0] = 3;
        assert!(Message::read(&mut &unknown_hop[..]).is_err());
        let mut endless = message(Vec::new()).to_bytes();
        endless[HEAD_BYTES - 4..].fill(0xff);
        assert!(Message::read(&mut &endless[..]).unwrap_err().to_string().contains("too long"));
    }
}
