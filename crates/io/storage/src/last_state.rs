//! `laststate.dat`: where the node was, for tools that look from outside.
//!
//! It is a convenience and binds nothing: what the operator promised is in the vote log and the signing database, and a
//! file of elsewhere must not silence it.

use crate::StorageError;
use crate::atomic::{self, Loaded};
use crate::frame::{Frame, FrameKind};
use aequa_types::{Height, Round};
use std::path::{Path, PathBuf};

/// File name in the data directory.
pub const FILE_NAME: &str = "laststate.dat";
/// Frame of the file: height and round, 16 bytes.
pub const LAST_STATE_FRAME: FrameKind =
    FrameKind { name: "last state", magic: *b"STDB", version: 1, flags_known: 0, payload_bytes_max: 16 };

/// Height and round of the last decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LastState {
    /// Height decided.
    pub height: Height,
    /// Round it was decided in.
    pub round: Round,
}

impl LastState {
    /// Height and round, big-endian.
    pub fn to_payload(self) -> [u8; 16] {
        ((u128::from(self.height.0) << 64) | u128::from(self.round.0)).to_be_bytes()
    }

    /// Reads what [`LastState::to_payload`] wrote; other lengths are not a last state.
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        let (height, round) = payload.split_first_chunk::<8>()?;
        let round = <[u8; 8]>::try_from(round).ok()?;
        Some(Self { height: Height(u64::from_be_bytes(*height)), round: Round(u64::from_be_bytes(round)) })
    }

    /// Replaces the file in data directory `dir`; durable on return.
    pub fn save(self, dir: &Path) -> Result<(), StorageError> {
        atomic::replace(&path(dir), &LAST_STATE_FRAME.encode(0, &self.to_payload())?)
    }

    /// Reads the file, or its backup. A node that has only a backup lost one write.
    pub fn load(dir: &Path) -> Result<Loaded<Self>, StorageError> {
        atomic::read(&path(dir), &LAST_STATE_FRAME, |frame: &Frame| Self::from_payload(&frame.payload))
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(height: u64, round: u64) -> LastState {
        LastState { height: Height(height), round: Round(round) }
    }

    #[test]
    fn the_file_of_height_42_round_7_is_the_contracts_vector() {
        let dir = tempfile::tempdir().unwrap();
        state(42, 7).save(dir.path()).unwrap();
        let bytes = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5354444200010000000000106500d6cb000000000000002a0000000000000007");
    }

    #[test]
    fn the_newest_state_is_loaded_and_the_one_before_when_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(LastState::load(dir.path()).unwrap(), Loaded::Missing);
        state(1, 0).save(dir.path()).unwrap();
        state(2, u64::MAX).save(dir.path()).unwrap();
        assert_eq!(LastState::load(dir.path()).unwrap(), Loaded::Ok(state(2, u64::MAX)));

        std::fs::write(dir.path().join(FILE_NAME), b"STDB").unwrap();
        assert_eq!(LastState::load(dir.path()).unwrap(), Loaded::Fallback(state(1, 0)));
    }

    #[test]
    fn a_whole_frame_with_a_short_payload_is_no_state() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), LAST_STATE_FRAME.encode(0, &[1; 15]).unwrap()).unwrap();
        assert_eq!(LastState::load(dir.path()).unwrap(), Loaded::Fail);
    }
}
