//! The records in the bytes of one file. Pure: bytes in, records or what is wrong out.

use super::record::{AuditRecord, RECORD_BYTES_MAX, RECORD_FRAME};
use crate::frame::FrameFault;
use alloy_primitives::B256;

/// What the next record has to follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Number of the next record.
    pub next: u64,
    /// Hash of the last one.
    pub head: B256,
}

impl Link {
    /// Before the first record.
    pub(super) const BEGIN: Self = Self { next: 1, head: B256::ZERO };
}

/// Where a file does not hold any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Number of the record that is not there as it was written.
    pub number: u64,
    /// Where in the file.
    pub offset: usize,
    pub reason: &'static str,
    /// Nothing that can be read comes after: the end of a write that was cut short may look like this.
    pub is_end: bool,
    /// The version of the record, where it is newer than this program.
    pub newer: Option<u16>,
}

/// Walks through a file, and ends with the first fault.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    end: usize,
    link: Option<Link>,
    /// Number of the first record, where the name of the file says it.
    first: Option<u64>,
    has_failed: bool,
}

impl<'a> Walk<'a> {
    /// A file whose first record follows from `link`, if it is known what was before.
    pub(super) fn new(bytes: &'a [u8], link: Option<Link>, first: Option<u64>) -> Self {
        Self { bytes, end: 0, link, first, has_failed: false }
    }

    /// What follows from the last record that holds, or from what was before it.
    pub(super) fn link(&self) -> Option<Link> {
        self.link
    }

    /// Where the last record that holds ends.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    fn record(&self, rest: &[u8]) -> Result<(AuditRecord, usize), Fault> {
        let (frame, after) = RECORD_FRAME.split(rest).map_err(|fault| match fault {
            FrameFault::Unreadable(reason) => self.unreadable(rest, reason),
            FrameFault::NewerVersion { found, .. } => {
                Fault { newer: Some(found), ..self.fault("written by a newer program") }
            }
        })?;
        // The head of a frame with zeros behind it is a frame of nothing.
        let record: AuditRecord = aequa_types::decode("audit record", &frame.payload, RECORD_BYTES_MAX)
            .map_err(|_| self.unreadable(rest, "intact bytes that are no record"))?;
        self.follows(&record).map_err(|reason| self.fault(reason))?;
        Ok((record, rest.len() - after.len()))
    }

    fn follows(&self, record: &AuditRecord) -> Result<(), &'static str> {
        let expected = match (self.link, self.first) {
            (Some(link), _) => link.next,
            (None, Some(first)) => first,
            (None, None) => record.number,
        };
        let link = self.link.or((expected <= 1).then_some(Link::BEGIN));
        match record.number {
            number if number > expected => Err("the records before it are missing"),
            number if number < expected => Err("a record of another place"),
            _ if link.is_some_and(|link| link.head != record.previous) => {
                Err("it does not follow from the record before it")
            }
            _ => Ok(()),
        }
    }

    fn unreadable(&self, rest: &[u8], reason: &'static str) -> Fault {
        Fault { is_end: !has_frame(rest), ..self.fault(reason) }
    }

    fn fault(&self, reason: &'static str) -> Fault {
        let number = self.link.map(|link| link.next).or(self.first).unwrap_or(1);
        Fault { number, offset: self.end, reason, is_end: false, newer: None }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<AuditRecord, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.end..).filter(|rest| !rest.is_empty() && !self.has_failed)?;
        let taken = self.record(rest);
        match &taken {
            Ok((record, bytes)) => {
                self.link = Some(record.link());
                self.end += bytes;
            }
            Err(_) => self.has_failed = true,
        }
        Some(taken.map(|(record, _)| record))
    }
}

/// Whether a whole frame begins anywhere behind the first byte.
fn has_frame(bytes: &[u8]) -> bool {
    let magic = RECORD_FRAME.magic;
    let places = bytes.windows(magic.len()).enumerate().skip(1).filter(|(_, window)| *window == magic);
    places.into_iter().any(|(at, _)| RECORD_FRAME.split(&bytes[at..]).is_ok())
}
