//! Layout of one segment, and reading it with suspicion. Pure: bytes in, verdict out.

use crate::StorageError;
use crate::frame::{Frame, FrameFault, FrameKind, HEADER_BYTES};
use aequa_types::{ClusterId, OperatorIndex, Subject};
use std::ops::Range;

/// What stands in front of every segment.
pub(super) const SEGMENT_FRAME: FrameKind = FrameKind {
    name: "vote log segment",
    magic: *b"QWAL",
    version: 3,
    flags_known: FLAG_COMPACTED,
    payload_bytes_max: HEAD_PAYLOAD_BYTES,
};

/// Flag bit 1: the segment holds what was kept of all before it, which is gone, or is to go.
const FLAG_COMPACTED: u16 = 2;
/// Cluster id, operator, number of the first batch, CRC of the last batch before, salt.
const HEAD_PAYLOAD_BYTES: usize = 32 + 1 + 8 + 4 + 8;
/// Where the first batch begins.
pub(super) const HEAD_BYTES: usize = HEADER_BYTES + HEAD_PAYLOAD_BYTES;
/// CRC and length in front of a batch.
const BATCH_HEAD_BYTES: usize = 4 + 4;
/// Number, unsynced and a CRC of their own at its end.
const STAMP_BYTES: usize = 8 + 4 + 4;
/// What a batch adds to its records.
pub(super) const BATCH_EXTRA_BYTES: usize = BATCH_HEAD_BYTES + STAMP_BYTES;
/// Length in front of each record.
pub(super) const RECORD_HEAD_BYTES: usize = 4;
/// Largest record: a value of 3 MiB and room to spare (contract: 4 MiB).
pub const RECORD_BYTES_MAX: usize = 4 << 20;
/// Largest batch: the largest record fits.
pub(super) const BATCH_BYTES_MAX: usize = BATCH_EXTRA_BYTES + RECORD_HEAD_BYTES + RECORD_BYTES_MAX;

/// Owner and place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub cluster_id: ClusterId,
    pub operator: OperatorIndex,
    /// Number of the segment's first batch.
    pub first_number: u64,
    /// CRC of the last batch of the segment before; 0 in the first one ever.
    pub previous_crc: u32,
    /// What goes into every batch of the log, so that nothing inside a record passes for a batch.
    pub salt: Salt,
    /// Whether it holds what was kept of all segments before it.
    pub is_compacted: bool,
}

/// Chosen at random when a log is made. Values are chosen by others: without it they could hold whole
/// batches with the right numbers, and a torn value would look like the middle of a damaged log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salt(pub u64);

impl Salt {
    fn crc(self, batch: &[u8]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.0.to_be_bytes());
        crc.update(batch);
        crc.finalize()
    }
}

impl Head {
    pub fn encode(&self) -> Result<Vec<u8>, StorageError> {
        let mut payload = Vec::with_capacity(HEAD_PAYLOAD_BYTES);
        payload.extend_from_slice(self.cluster_id.as_slice());
        payload.push(self.operator.0);
        payload.extend_from_slice(&self.first_number.to_be_bytes());
        payload.extend_from_slice(&self.previous_crc.to_be_bytes());
        payload.extend_from_slice(&self.salt.0.to_be_bytes());
        SEGMENT_FRAME.encode(if self.is_compacted { FLAG_COMPACTED } else { 0 }, &payload)
    }

    /// The head of a segment and the version it has; only [`SEGMENT_FRAME`]'s has batches that can be read.
    pub fn decode(segment: &[u8]) -> Result<(Self, u16), FrameFault> {
        let head = segment.get(..HEAD_BYTES).ok_or(FrameFault::Unreadable("shorter than its head"))?;
        let Frame { payload, flags, version } = SEGMENT_FRAME.parse(head)?;
        let (cluster_id, rest) = payload.split_at(32);
        let (operator, rest) = rest.split_at(1);
        let (first_number, rest) = rest.split_at(8);
        let (previous_crc, salt) = rest.split_at(4);
        let head = Self {
            salt: Salt(be_u64(salt)),
            cluster_id: ClusterId::from_slice(cluster_id),
            operator: OperatorIndex(operator[0]),
            first_number: be_u64(first_number),
            previous_crc: be_u32(previous_crc),
            is_compacted: flags & FLAG_COMPACTED != 0,
        };
        Ok((head, version))
    }
}

/// Which batch it is. It stands behind the records with a CRC of its own: what is left of a damaged batch may
/// still say that it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub number: u64,
    /// How many batches right before it had not been synced when it was written.
    pub unsynced: u32,
}

impl Stamp {
    /// Whether the batch with this number had been synced when this one was written.
    fn follows_synced(self, number: u64) -> bool {
        number < self.number.saturating_sub(u64::from(self.unsynced))
    }

    fn encode(self, salt: Salt) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&(self.number ^ salt.0).to_be_bytes());
        bytes[8..12].copy_from_slice(&self.unsynced.to_be_bytes());
        let crc = salt.crc(&bytes[..12]);
        bytes[12..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// The stamp that ends `bytes`, if its CRC holds.
    fn at_end(bytes: &[u8], salt: Salt) -> Option<Self> {
        let bytes = bytes.last_chunk::<STAMP_BYTES>()?;
        let stamp = Self { number: be_u64(&bytes[..8]) ^ salt.0, unsynced: be_u32(&bytes[8..12]) };
        (stamp.encode(salt) == *bytes).then_some(stamp)
    }
}

/// Records on their way into one batch.
#[derive(Default)]
pub(super) struct Draft {
    bytes: Vec<u8>,
    /// What each record is about, and its size on disk.
    pub records: Vec<(Subject, usize)>,
}

impl Draft {
    /// Adds what `write` appends as a record about `subject`.
    fn push(&mut self, subject: Subject, write: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH_HEAD_BYTES, 0);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
        write(&mut self.bytes);
        let bytes = self.bytes.len() - start;
        let length = (bytes - RECORD_HEAD_BYTES) as u32;
        self.bytes[start..start + RECORD_HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
        self.records.push((subject, bytes));
    }

    /// Its size on disk.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + STAMP_BYTES
    }

    /// As new, with the memory it has up to `bytes_kept`.
    pub fn clear(&mut self, bytes_kept: usize) {
        self.records.clear();
        self.bytes.clear();
        self.bytes.shrink_to(bytes_kept);
    }

    /// The batch as it lies on disk, and its CRC. There must be a record in it, and none is added later.
    pub fn finish(&mut self, salt: Salt, stamp: Stamp) -> (&[u8], u32) {
        let length = self.bytes.len() - BATCH_HEAD_BYTES;
        assert!((1..=BATCH_BYTES_MAX - BATCH_EXTRA_BYTES).contains(&length), "what is written can be read");
        self.bytes.extend_from_slice(&stamp.encode(salt));
        self.bytes[4..8].copy_from_slice(&(length as u32).to_be_bytes());
        let crc = salt.crc(&self.bytes[4..]);
        self.bytes[..4].copy_from_slice(&crc.to_be_bytes());
        (&self.bytes, crc)
    }
}

/// Records on their way into batches, each as full as may be.
#[derive(Default)]
pub(super) struct Drafts(pub Vec<Draft>);

impl Drafts {
    /// Adds a record of `bytes`, which `write` appends. It goes to a new draft where one of `batch_bytes_max`
    /// would be too small; a larger record has one for itself.
    pub fn push(
        &mut self,
        subject: Subject,
        bytes: usize,
        batch_bytes_max: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let fits = |draft: &Draft| {
            draft.records.is_empty() || draft.bytes() + RECORD_HEAD_BYTES + bytes <= batch_bytes_max
        };
        match self.0.last_mut().filter(|draft| fits(draft)) {
            Some(draft) => draft.push(subject, write),
            None => {
                let mut draft = Draft::default();
                draft.push(subject, write);
                self.0.push(draft);
            }
        }
    }
}

/// What was found after the last batch that verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Zeros.
    Clean,
    /// A write that never completed: nothing verifies that was written after it had been synced. It ends before
    /// `until`.
    Torn { until: usize },
    /// Something verifies that was written after what does not had been synced.
    Corrupt,
}

/// The batches of a segment in order.
#[derive(Debug)]
pub(super) struct Walk {
    pub batches: Vec<RawBatch>,
    /// Where the last of them ends.
    pub end: usize,
    /// Where what may not have been synced begins.
    pub newest: usize,
    pub tail: Tail,
}

/// A batch whose CRC holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawBatch {
    pub crc: u32,
    pub stamp: Stamp,
    /// Where all of it lies.
    pub range: Range<usize>,
}

impl RawBatch {
    /// Where its records lie; nothing if they do not fill it.
    pub fn records(&self, segment: &[u8]) -> Option<Vec<Range<usize>>> {
        let mut records = Vec::new();
        let (mut start, end) = (self.range.start + BATCH_HEAD_BYTES, self.range.end - STAMP_BYTES);
        while start < end {
            let (length, _) = segment.get(start..end)?.split_first_chunk::<RECORD_HEAD_BYTES>()?;
            start += RECORD_HEAD_BYTES;
            let record = start..start.checked_add(be_u32(length) as usize).filter(|after| *after <= end)?;
            start = record.end;
            records.push(record);
        }
        Some(records)
    }
}

/// Reads batches from behind the head until one does not verify, and judges what follows.
pub(super) fn walk(segment: &[u8], salt: Salt, first_number: u64) -> Walk {
    let mut batches: Vec<RawBatch> = Vec::new();
    let (mut end, mut newest, mut number) = (HEAD_BYTES, HEAD_BYTES, first_number);
    while let Some(batch) = batch_at(segment, salt, end)
        && batch.stamp.number == number
    {
        if batch.stamp.unsynced == 0 {
            newest = end;
        }
        end = batch.range.end;
        number = number.saturating_add(1);
        batches.push(batch);
    }
    let tail = judge_tail(segment.get(end..).unwrap_or_default(), end, salt, number);
    Walk { batches, end, newest, tail }
}

/// Judges the rest of a segment, where the batch `missing` does not verify.
fn judge_tail(rest: &[u8], end: usize, salt: Salt, missing: u64) -> Tail {
    let Some(last) = rest.iter().rposition(|byte| *byte != 0) else { return Tail::Clean };
    // No more batches than this fit behind the one that is missing.
    let latest = missing.saturating_add((rest.len() / BATCH_EXTRA_BYTES) as u64);
    let is_later = |bytes: &&[u8]| (missing..=latest).contains(&(be_u64(&bytes[..8]) ^ salt.0));
    // A stamp may end with zeros.
    let searched = &rest[..(last + STAMP_BYTES).min(rest.len())];
    let mut stamps =
        searched.windows(STAMP_BYTES).filter(is_later).filter_map(|bytes| Stamp::at_end(bytes, salt));
    match stamps.any(|stamp| stamp.follows_synced(missing)) {
        true => Tail::Corrupt,
        false => Tail::Torn { until: end + last + 1 },
    }
}

/// The batch at `offset`, if it verifies.
fn batch_at(segment: &[u8], salt: Salt, offset: usize) -> Option<RawBatch> {
    let (head, rest) = segment.get(offset..)?.split_first_chunk::<BATCH_HEAD_BYTES>()?;
    let (crc, length) = (be_u32(&head[..4]), be_u32(&head[4..]) as usize);
    if length == 0 || length > BATCH_BYTES_MAX - BATCH_EXTRA_BYTES || length > rest.len() {
        return None;
    }
    let range = offset..offset + BATCH_EXTRA_BYTES + length;
    let bytes = segment.get(range.clone()).filter(|bytes| salt.crc(&bytes[4..]) == crc)?;
    Some(RawBatch { crc, stamp: Stamp::at_end(bytes, salt)?, range })
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

fn be_u64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{Height, InstanceId};

    const SALT: Salt = Salt(0x5a17_5a17_5a17_5a17);
    const SUBJECT: Subject = Subject { instance: InstanceId::Block(Height(1)), heard: false };

    fn batch(salt: Salt, number: u64, unsynced: u32, records: &[&[u8]]) -> Vec<u8> {
        let mut draft = Draft::default();
        records.iter().for_each(|record| draft.push(SUBJECT, |bytes| bytes.extend_from_slice(record)));
        draft.finish(salt, Stamp { number, unsynced }).0.to_vec()
    }

    /// A batch that was written when all before it was synced.
    fn alone(number: u64, record: &[u8]) -> Vec<u8> {
        batch(SALT, number, 0, &[record])
    }

    fn segment(batches: &[Vec<u8>], bytes: usize) -> Vec<u8> {
        let head = Head {
            cluster_id: ClusterId::ZERO,
            operator: OperatorIndex(0),
            first_number: 5,
            previous_crc: 0,
            salt: SALT,
            is_compacted: false,
        };
        let mut segment = head.encode().unwrap();
        segment.extend(batches.concat());
        segment.resize(bytes.max(segment.len()), 0);
        segment
    }

    #[test]
    fn a_head_is_read_back() {
        let head = Head {
            cluster_id: ClusterId::repeat_byte(7),
            operator: OperatorIndex(3),
            first_number: u64::MAX,
            previous_crc: 0xdead_beef,
            salt: SALT,
            is_compacted: true,
        };
        let bytes = head.encode().unwrap();
        assert_eq!(bytes.len(), HEAD_BYTES);
        assert_eq!(Head::decode(&bytes), Ok((head, 3)));
    }

    #[test]
    fn the_layout_of_a_batch_is_the_one_described() {
        let stamp = [&(SALT.0 ^ 2).to_be_bytes()[..], &[0, 0, 0, 3]].concat();
        let crc = |bytes: &[u8]| crc32fast::hash(&[&SALT.0.to_be_bytes()[..], bytes].concat()).to_be_bytes();
        let stamp = [&stamp[..], &crc(&stamp)].concat();
        let records = [&[0, 0, 0, 1, 0xaa][..], &[0, 0, 0, 2, 0xbb, 0xcc]].concat();
        let rest = [&[0, 0, 0, 11][..], &records, &stamp].concat();
        assert_eq!(batch(SALT, 2, 3, &[&[0xaa], &[0xbb, 0xcc]]), [&crc(&rest)[..], &rest].concat());
    }

    #[test]
    fn a_hole_in_what_one_sync_covers_is_torn_and_one_before_that_is_corruption() {
        // Two syncs that cover three batches each.
        let batches = [(5, 0), (6, 1), (7, 2), (8, 0), (9, 1), (10, 2)];
        let tail = |lost: &[u64]| {
            let mut written: Vec<Vec<u8>> = batches
                .iter()
                .map(|(number, unsynced)| batch(SALT, *number, *unsynced, &[b"vote"]))
                .collect();
            lost.iter().for_each(|number| written[*number as usize - 5].fill(0));
            let walk = walk(&segment(&written, 512), SALT, 5);
            (walk.batches.len(), walk.tail)
        };
        let is_torn = |(batches, tail): (usize, Tail)| matches!(tail, Tail::Torn { .. }).then_some(batches);
        assert_eq!(is_torn(tail(&[9])), Some(4));
        assert_eq!(is_torn(tail(&[8])), Some(3));
        assert_eq!(is_torn(tail(&[8, 9])), Some(3));
        for lost in [&[6][..], &[7], &[5, 6, 7], &[7, 8], &[6, 8, 10]] {
            assert_eq!(tail(lost).1, Tail::Corrupt, "{lost:?}");
        }
        // Of these the last one alone is left, and it says that what is missing was synced.
        assert_eq!(tail(&[7, 8, 9]).1, Tail::Corrupt);
    }

    #[test]
    fn any_number_of_batches_that_one_sync_covers_may_be_torn() {
        let written: Vec<Vec<u8>> = (0..2000u32)
            .map(|n| if n == 0 { vec![0; 29] } else { batch(SALT, 5 + u64::from(n), n, &[b"v"]) })
            .collect();
        let walk = walk(&segment(&written, 64 << 10), SALT, 5);
        assert!(walk.batches.is_empty() && matches!(walk.tail, Tail::Torn { .. }));
    }

    #[test]
    fn batches_end_at_zeros() {
        let bytes = segment(&[batch(SALT, 5, 0, &[b"one", b"two"]), alone(6, b"three")], 256);
        let walk = walk(&bytes, SALT, 5);
        assert_eq!((walk.tail, walk.batches.len()), (Tail::Clean, 2));
        let records = walk.batches.iter().flat_map(|batch| batch.records(&bytes).unwrap());
        let records: Vec<&[u8]> = records.map(|range| &bytes[range]).collect();
        assert_eq!(records, [b"one".as_slice(), b"two", b"three"]);
    }

    #[test]
    fn records_that_do_not_fill_their_batch_are_none() {
        let bytes = segment(&[alone(5, b"one")], 256);
        let batch = batch_at(&bytes, SALT, HEAD_BYTES).unwrap();
        for length in [0u32, 2, 4, u32::MAX] {
            let mut bytes = bytes.clone();
            let at = HEAD_BYTES + BATCH_HEAD_BYTES;
            bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
            assert_eq!(batch.records(&bytes), None, "{length}");
        }
    }

    #[test]
    fn a_length_beyond_the_segment_is_a_torn_tail_and_not_an_overrun() {
        let mut bytes = segment(&[alone(5, b"one"), alone(6, b"two")], 256);
        let second = HEAD_BYTES + alone(5, b"one").len();
        bytes[second + 4..second + 8].copy_from_slice(&u32::MAX.to_be_bytes());
        let walk = walk(&bytes, SALT, 5);
        assert_eq!(walk.batches.len(), 1);
        assert!(matches!(walk.tail, Tail::Torn { .. }));
    }

    #[test]
    fn a_gap_in_the_numbers_is_corruption() {
        let bytes = segment(&[alone(5, b"one"), alone(7, b"three")], 256);
        assert_eq!(walk(&bytes, SALT, 5).tail, Tail::Corrupt);
    }

    #[test]
    fn a_repeated_earlier_batch_is_not_taken_for_a_later_one() {
        let bytes = segment(&[alone(5, b"one"), alone(5, b"one")], 256);
        let walk = walk(&bytes, SALT, 5);
        assert_eq!(walk.batches.len(), 1);
        assert!(matches!(walk.tail, Tail::Torn { .. }));
    }

    #[test]
    fn a_sector_that_took_the_end_of_one_batch_and_the_beginning_of_the_next_leaves_what_tells_them_apart() {
        for (unsynced, is_torn) in [(1, true), (0, false)] {
            let batches = [alone(5, b"one"), alone(6, b"two"), batch(SALT, 7, unsynced, &[b"three"])];
            let lost = HEAD_BYTES + batches[0].len();
            let third = lost + batches[1].len();
            for cut in lost..third + batches[2].len() - STAMP_BYTES {
                let mut bytes = segment(&batches, 512);
                bytes[lost..=cut].fill(0);
                let walk = walk(&bytes, SALT, 5);
                assert_eq!(walk.batches.len(), 1);
                assert_eq!(matches!(walk.tail, Tail::Torn { .. }), is_torn, "{cut}: {:?}", walk.tail);
            }
        }
    }

    #[test]
    fn damage_before_the_last_batch_is_found_whatever_the_salt() {
        let mut ends_in_zero = 0;
        for salt in (0..2000).map(|n| Salt(SALT.0 ^ n)) {
            let batches = [batch(salt, 5, 0, &[b"one"]), batch(salt, 6, 0, &[b"two"])];
            ends_in_zero += u32::from(batches[1].ends_with(&[0]));
            let mut bytes = segment(&batches, 512);
            bytes[HEAD_BYTES + BATCH_HEAD_BYTES] ^= 1;
            assert_eq!(walk(&bytes, salt, 5).tail, Tail::Corrupt, "{salt:?}");
        }
        assert!(ends_in_zero > 0);
    }

    #[test]
    fn a_flipped_bit_in_a_stamp_says_nothing() {
        let stamp = Stamp { number: 6, unsynced: 2 };
        let bytes = stamp.encode(SALT);
        assert_eq!(Stamp::at_end(&bytes, SALT), Some(stamp));
        for bit in 0..STAMP_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::at_end(&flipped, SALT), None);
        }
    }

    #[test]
    fn batches_that_somebody_put_into_a_value_do_not_pass_for_later_ones() {
        let forged: Vec<u8> = (0..200).flat_map(|number| batch(Salt(0), number, 0, &[b"v"])).collect();
        let mut bytes = segment(&[alone(5, b"one"), alone(6, &forged)], 16 << 10);
        let torn = HEAD_BYTES + alone(5, b"one").len();
        bytes[torn..torn + 4].fill(0);
        assert!(matches!(walk(&bytes, SALT, 5).tail, Tail::Torn { .. }));
    }
}
