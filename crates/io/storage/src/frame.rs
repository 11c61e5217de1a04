//! The 16-byte frame around every small state file.
//!
//! ```text
//! 0  magic   4 bytes
//! 4  version u16      1
//! 6  flags   u16      bit 0: payload encrypted
//! 8  length  u32      of the payload
//! 12 crc     u32      CRC-32 (IEEE) of the payload
//! 16 payload          the file ends with it
//! ```
//!
//! Integers are big-endian. The frame of height 42 and round 7 in `laststate.dat`:
//!
//! ```
//! use aequa_storage::last_state::{LAST_STATE_FRAME, LastState};
//! use aequa_types::{Height, Round};
//!
//! let state = LastState { height: Height(42), round: Round(7) };
//! let bytes = LAST_STATE_FRAME.encode(0, &state.to_payload()).unwrap();
//! let expected = "5354444200010000000000106500d6cb000000000000002a0000000000000007";
//! assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
//! ```

use crate::StorageError;
use std::io::{self, Read};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 16;
/// Flag bit 0: the payload is encrypted.
pub const FLAG_ENCRYPTED: u16 = 1;

/// What one type of file looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameKind {
    /// Name in errors.
    pub name: &'static str,
    /// First four bytes.
    pub magic: [u8; 4],
    /// Newest version this program reads, and the one it writes.
    pub version: u16,
    /// Flag bits that have a meaning for this type.
    pub flags_known: u16,
    /// Largest payload; checked before memory is taken.
    pub payload_bytes_max: usize,
}

/// A frame whose checks all held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Version it was written with.
    pub version: u16,
    /// Flag bits, all of them known.
    pub flags: u16,
    /// Content.
    pub payload: Vec<u8>,
}

/// Why bytes are not a frame of the type expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// Damaged, cut, or another type of file.
    #[error("unreadable: {0}")]
    Unreadable(&'static str),
    /// Whole, but from a newer program.
    #[error("version {found}, known up to {known}")]
    NewerVersion {
        /// Version found.
        found: u16,
        /// Newest version known.
        known: u16,
    },
}

impl FrameKind {
    /// Frames a payload.
    pub fn encode(&self, flags: u16, payload: &[u8]) -> Result<Vec<u8>, StorageError> {
        let too_large = || StorageError::TooLarge {
            what: self.name,
            bytes: payload.len(),
            bytes_max: self.payload_bytes_max,
        };
        if payload.len() > self.payload_bytes_max {
            return Err(too_large());
        }
        if flags & !self.flags_known != 0 {
            return Err(StorageError::Mismatch { reason: "flag bits the file type does not have" });
        }
        let length = u32::try_from(payload.len()).map_err(|_| too_large())?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
        bytes.extend_from_slice(payload);
        Ok(bytes)
    }

    /// Reads a frame that must fill `bytes` exactly.
    pub fn parse(&self, bytes: &[u8]) -> Result<Frame, FrameFault> {
        let header = self.header(bytes)?;
        let payload = &bytes[HEADER_BYTES..];
        if payload.len() != header.payload_bytes {
            return Err(FrameFault::Unreadable("length differs from the file's"));
        }
        header.frame(payload.to_vec())
    }

    /// Reads a frame that must be exactly the next `source_bytes` bytes of `source`, taking no memory
    /// before the header has been believed.
    pub fn read(&self, mut source: impl Read, source_bytes: u64) -> io::Result<Result<Frame, FrameFault>> {
        let mut head = Vec::with_capacity(HEADER_BYTES);
        source.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut head)?;
        let header = match self.header(&head) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        if source_bytes != (HEADER_BYTES + header.payload_bytes) as u64 {
            return Ok(Err(FrameFault::Unreadable("length differs from the file's")));
        }
        let mut payload = Vec::with_capacity(header.payload_bytes);
        source.take(header.payload_bytes as u64).read_to_end(&mut payload)?;
        Ok(header.frame(payload))
    }

    /// Takes the frame at the front of `bytes`; gives it and what follows it.
    pub fn split<'a>(&self, bytes: &'a [u8]) -> Result<(Frame, &'a [u8]), FrameFault> {
        let header = self.header(bytes)?;
        let rest = &bytes[HEADER_BYTES..];
        let Some((payload, rest)) = rest.split_at_checked(header.payload_bytes) else {
            return Err(FrameFault::Unreadable("file ends early"));
        };
        Ok((header.frame(payload.to_vec())?, rest))
    }

    /// Reads the next of frames in a row; none at their end.
    pub fn next(&self, mut source: impl Read) -> io::Result<Option<Result<Frame, FrameFault>>> {
        let mut head = Vec::with_capacity(HEADER_BYTES);
        source.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut head)?;
        if head.is_empty() {
            return Ok(None);
        }
        let header = match self.header(&head) {
            Ok(header) => header,
            Err(fault) => return Ok(Some(Err(fault))),
        };
        let mut payload = Vec::new();
        source.take(header.payload_bytes as u64).read_to_end(&mut payload)?;
        Ok(Some(header.frame(payload)))
    }

    fn header(&self, bytes: &[u8]) -> Result<Header, FrameFault> {
        let Some((head, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(FrameFault::Unreadable("shorter than a header"));
        };
        let [m0, m1, m2, m3, v0, v1, f0, f1, l0, l1, l2, l3, c0, c1, c2, c3] = *head;
        let (version, flags) = (u16::from_be_bytes([v0, v1]), u16::from_be_bytes([f0, f1]));
        let payload_bytes = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if [m0, m1, m2, m3] != self.magic {
            return Err(FrameFault::Unreadable("another magic"));
        }
        if version > self.version {
            return Err(FrameFault::NewerVersion { found: version, known: self.version });
        }
        if version == 0 {
            return Err(FrameFault::Unreadable("version 0"));
        }
        if flags & !self.flags_known != 0 {
            return Err(FrameFault::Unreadable("unknown flag bits"));
        }
        if payload_bytes > self.payload_bytes_max {
            return Err(FrameFault::Unreadable("length above the type's cap"));
        }
        Ok(Header { version, flags, payload_bytes, crc: u32::from_be_bytes([c0, c1, c2, c3]) })
    }
}

/// A header whose fields are within bounds; nothing is known of the payload yet.
struct Header {
    version: u16,
    flags: u16,
    payload_bytes: usize,
    crc: u32,
}

impl Header {
    fn frame(&self, payload: Vec<u8>) -> Result<Frame, FrameFault> {
        if payload.len() != self.payload_bytes {
            return Err(FrameFault::Unreadable("file ends early"));
        }
        if crc32fast::hash(&payload) != self.crc {
            return Err(FrameFault::Unreadable("checksum differs"));
        }
        Ok(Frame { version: self.version, flags: self.flags, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: FrameKind = FrameKind {
        name: "test file",
        magic: *b"TEST",
        version: 1,
        flags_known: FLAG_ENCRYPTED,
        payload_bytes_max: 64,
    };

    #[test]
    fn a_frame_of_the_largest_payload_is_read_back_and_one_byte_more_is_refused() {
        let frame = KIND.parse(&KIND.encode(FLAG_ENCRYPTED, &[7; 64]).unwrap()).unwrap();
        assert_eq!(frame, Frame { version: 1, flags: 1, payload: vec![7; 64] });
        assert!(matches!(KIND.encode(0, &[7; 65]), Err(StorageError::TooLarge { bytes: 65, .. })));
    }

    /// Notes the largest buffer that was to be filled.
    struct Asked<'a> {
        bytes: &'a [u8],
        largest: usize,
    }

    impl Read for Asked<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.largest = self.largest.max(buffer.len());
            self.bytes.read(buffer)
        }
    }

    #[test]
    fn a_length_of_four_gigabytes_takes_no_memory() {
        let mut bytes = KIND.encode(0, b"x").unwrap();
        bytes[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        // Also when the file is as long as it says: then only the cap is in the way.
        for source_bytes in [bytes.len() as u64, HEADER_BYTES as u64 + u64::from(u32::MAX)] {
            let mut source = Asked { bytes: &bytes, largest: 0 };
            let fault = KIND.read(&mut source, source_bytes).unwrap().unwrap_err();
            assert_eq!(fault, FrameFault::Unreadable("length above the type's cap"));
            assert_eq!(source.largest, HEADER_BYTES, "nothing but the header was asked for");
        }
    }

    #[test]
    fn a_newer_version_is_not_called_corrupt() {
        let mut bytes = KIND.encode(0, b"x").unwrap();
        bytes[5] = 2;
        assert_eq!(KIND.parse(&bytes), Err(FrameFault::NewerVersion { found: 2, known: 1 }));
    }

    #[test]
    fn unknown_flags_and_trailing_bytes_are_unreadable() {
        let mut bytes = KIND.encode(0, b"x").unwrap();
        bytes.push(0);
        assert!(matches!(KIND.parse(&bytes), Err(FrameFault::Unreadable(_))));
        assert!(KIND.read(&bytes[..], bytes.len() as u64).unwrap().is_err());
        bytes.pop();
        bytes[7] = 2;
        assert!(matches!(KIND.parse(&bytes), Err(FrameFault::Unreadable(_))));
        assert!(KIND.encode(2, b"x").is_err());
    }

    #[test]
    fn frames_in_a_row_are_taken_one_by_one_until_one_is_cut() {
        let mut bytes = KIND.encode(0, b"one").unwrap();
        bytes.extend(KIND.encode(0, b"two").unwrap());
        bytes.pop();
        let mut rest = &bytes[..];
        assert_eq!(KIND.next(&mut rest).unwrap().unwrap().unwrap().payload, b"one");
        assert_eq!(KIND.next(&mut rest).unwrap(), Some(Err(FrameFault::Unreadable("file ends early"))));
        assert_eq!(KIND.next(&mut rest).unwrap(), None);
    }

    proptest! {
        #[test]
        fn every_cut_and_every_flipped_bit_is_noticed(payload in proptest::collection::vec(any::<u8>(), 0..32)) {
            let bytes = KIND.encode(0, &payload).unwrap();
            for cut in 0..bytes.len() {
                prop_assert!(KIND.parse(&bytes[..cut]).is_err());
                prop_assert!(KIND.read(&bytes[..cut], cut as u64).unwrap().is_err());
            }
            for bit in 0..bytes.len() * 8 {
                // Flag bit 0 has a meaning of its own; only encryption protects it.
                if bit == 7 * 8 {
                    continue;
                }
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(KIND.parse(&flipped).is_err(), "bit {bit}");
            }
        }
    }
}
