//! The JSON form of a block, piece by piece.
//!
//! The whole of it is several times as large as the block. What a client has not taken yet is not
//! written yet.

use aequa_types::CertifiedBlock;
use aequa_types::json::{CertificateJson, EvidenceJson, HeaderJson, TransactionJson};
use bytes::Bytes;
use serde_json::Result;
use std::sync::Arc;

/// A piece is sent once it has this many bytes; the largest item adds 130 KiB.
const PIECE_BYTES: usize = 16 * 1024;

/// Pieces of the text that [`aequa_types::json::BlockJson`] would be.
pub(crate) struct BlockPieces {
    block: Arc<CertifiedBlock>,
    /// Items written so far.
    items: usize,
    piece: Vec<u8>,
    ended: bool,
}

impl BlockPieces {
    pub fn new(block: Arc<CertifiedBlock>) -> Result<Self> {
        let header = HeaderJson::from(&block.block.header);
        let (height, digest) = (header.height, block.block.header.digest());
        let mut piece = format!("{{\"height\":{height},\"digest\":\"{digest}\",\"header\":").into_bytes();
        serde_json::to_writer(&mut piece, &header)?;
        piece.extend_from_slice(b",\"items\":[");
        Ok(Self { block, items: 0, piece, ended: false })
    }

    /// Writes until there is enough to send.
    fn write(&mut self) -> Result<()> {
        let CertifiedBlock { block, certificate } = &*self.block;
        while self.piece.len() < PIECE_BYTES && !self.ended {
            match block.items.get(self.items) {
                Some(item) => {
                    if self.items > 0 {
                        self.piece.push(b',');
                    }
                    serde_json::to_writer(&mut self.piece, &TransactionJson::from(item))?;
                    self.items += 1;
                }
                None => {
                    let evidence: Vec<_> = block.evidence.iter().map(EvidenceJson::from).collect();
                    self.piece.extend_from_slice(b"],\"evidence\":");
                    serde_json::to_writer(&mut self.piece, &evidence)?;
                    self.piece.extend_from_slice(b",\"certificate\":");
                    serde_json::to_writer(&mut self.piece, &CertificateJson::from(certificate))?;
                    self.piece.push(b'}');
                    self.ended = true;
                }
            }
        }
        Ok(())
    }
}

impl Iterator for BlockPieces {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        if let Err(error) = self.write() {
            self.ended = true;
            return Some(Err(error));
        }
        let piece = std::mem::take(&mut self.piece);
        (!piece.is_empty()).then(|| Ok(piece.into()))
    }
}
