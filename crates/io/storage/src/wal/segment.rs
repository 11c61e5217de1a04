//! Layout of one segment, and reading it with suspicion. Pure: bytes in, verdict out.

use crate::StorageError;
use crate::frame::{Frame, FrameFault, FrameKind, HEADER_BYTES};
use aequa_types::{ClusterId, OperatorIndex};
use std::ops::Range;

/// Frame in front of every segment.
pub(super) const SEGMENT_FRAME: FrameKind = FrameKind {
    name: "vote log segment",
    magic: *b"QWAL",
    version: 2,
    flags_known: FLAG_COMPACTED,
    payload_bytes_max: HEAD_PAYLOAD_BYTES,
};

/// Flag bit 1: the segment holds what was kept of all before it, which is gone, or is to go.
const FLAG_COMPACTED: u16 = 2;
/// Cluster id, operator, first seq, CRC of the last record before, salt.
const HEAD_PAYLOAD_BYTES: usize = 32 + 1 + 8 + 4 + 8;
/// Where the first record begins.
pub(super) const HEAD_BYTES: usize = HEADER_BYTES + HEAD_PAYLOAD_BYTES;
/// length, crc, seq.
pub(super) const RECORD_HEAD_BYTES: usize = 16;
/// Largest payload of a record: a value of 3 MiB and room to spare (contract: 4 MiB).
pub const RECORD_BYTES_MAX: usize = 4 << 20;
/// Most records that one sync covers: their places are below [`BATCH_PLACE_MAX`].
pub(super) const BATCH_RECORDS_MAX: usize = BATCH_PLACE_MAX as usize;
/// Earlier versions wrote this for a record that far behind the first of its batch, or further.
const BATCH_PLACE_MAX: u8 = u8::MAX;
/// Bits of the length field that hold the length.
const LENGTH_BITS: u32 = 23;
/// Bytes a search for later records may checksum. Nobody who does not know the salt can make it need
/// more; a tail that does is refused.
const SCAN_BYTES_MAX: usize = 1 << 30;

/// Owner and place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub cluster_id: ClusterId,
    pub operator: OperatorIndex,
    /// Seq of the segment's first record.
    pub first_seq: u64,
    /// CRC of the last record of the segment before; 0 in the first one ever.
    pub previous_crc: u32,
    /// What goes into every record of the log, so that nothing inside a payload passes for a record.
    pub salt: Salt,
    /// Whether it holds what was kept of all segments before it.
    pub is_compacted: bool,
}

/// Chosen at random when a log is made. Payloads are chosen by others: without it they could hold whole
/// records with the right numbers, and a torn payload would look like the middle of a damaged log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salt(pub u64);

impl Salt {
    fn crc(self, length_field: [u8; 4], rest: &[u8]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.0.to_be_bytes());
        crc.update(&length_field);
        crc.update(rest);
        crc.finalize()
    }
}

impl Head {
    pub fn encode(&self) -> Result<Vec<u8>, StorageError> {
        let mut payload = Vec::with_capacity(HEAD_PAYLOAD_BYTES);
        payload.extend_from_slice(self.cluster_id.as_slice());
        payload.push(self.operator.0);
        payload.extend_from_slice(&self.first_seq.to_be_bytes());
        payload.extend_from_slice(&self.previous_crc.to_be_bytes());
        payload.extend_from_slice(&self.salt.0.to_be_bytes());
        SEGMENT_FRAME.encode(if self.is_compacted { FLAG_COMPACTED } else { 0 }, &payload)
    }

    pub fn decode(segment: &[u8]) -> Result<Self, FrameFault> {
        let head = segment.get(..HEAD_BYTES).ok_or(FrameFault::Unreadable("shorter than its head"))?;
        let Frame { payload, flags, .. } = SEGMENT_FRAME.parse(head)?;
        let (cluster_id, rest) = payload.split_at(32);
        let (operator, rest) = rest.split_at(1);
        let (first_seq, rest) = rest.split_at(8);
        let (previous_crc, salt) = rest.split_at(4);
        Ok(Self {
            salt: Salt(be_u64(salt)),
            cluster_id: ClusterId::from_slice(cluster_id),
            operator: OperatorIndex(operator[0]),
            first_seq: be_u64(first_seq),
            previous_crc: be_u32(previous_crc),
            is_compacted: flags & FLAG_COMPACTED != 0,
        })
    }
}

/// Which record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHead {
    pub seq: u64,
    /// Records before it in its batch, at most [`BATCH_PLACE_MAX`].
    pub place: u8,
}

impl RecordHead {
    /// Whether a record with this place in its batch may come right before.
    fn may_follow(self, place: Option<u8>) -> bool {
        self.place == 0 || place.is_none_or(|before| self.place == before.saturating_add(1))
    }

    /// Whether what one sync covers reaches from this record back to the record `seq`, as far as it
    /// says.
    fn shares_batch_with(self, seq: u64) -> bool {
        self.place < BATCH_PLACE_MAX && self.seq.saturating_sub(u64::from(self.place)) <= seq
    }
}

/// The length field: length, place in the batch, and a bit that makes the number of ones of the upper
/// nine even.
fn length_field(length: u32, place: u8) -> u32 {
    let parity = place.count_ones() & 1;
    parity << 31 | u32::from(place) << LENGTH_BITS | length
}

/// Length and place, or nothing when the parity does not hold.
fn read_length_field(field: u32) -> Option<(usize, u8)> {
    let upper = field >> LENGTH_BITS;
    let length = field & ((1 << LENGTH_BITS) - 1);
    upper.count_ones().is_multiple_of(2).then_some((length as usize, (upper & 0xff) as u8))
}

/// Appends a record to `buffer`: its head, and the payload `write` adds. Gives the record's CRC.
/// On an error the buffer is as before.
pub(super) fn push_record(
    buffer: &mut Vec<u8>,
    salt: Salt,
    head: RecordHead,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<u32, StorageError> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&(head.seq ^ salt.0).to_be_bytes());
    write(buffer);
    let bytes = buffer.len() - start - RECORD_HEAD_BYTES;
    let length = u32::try_from(bytes).ok().filter(|_| (1..=RECORD_BYTES_MAX).contains(&bytes));
    let Some(length) = length else {
        buffer.truncate(start);
        return Err(StorageError::TooLarge { what: "vote log record", bytes, bytes_max: RECORD_BYTES_MAX });
    };
    let length_field = length_field(length, head.place).to_be_bytes();
    let crc = salt.crc(length_field, &buffer[start + 8..]);
    buffer[start..start + 4].copy_from_slice(&length_field);
    buffer[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
    Ok(crc)
}

/// What was found after the last record that verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Zeros.
    Clean,
    /// A write that never completed: nothing of a later batch verifies. It ends before `until`.
    Torn { until: usize },
    /// Something verifies that was written after what does not had been synced.
    Corrupt,
}

/// The records of a segment in order.
#[derive(Debug)]
pub(super) struct Walk {
    pub records: Vec<RawRecord>,
    /// Where the last of them ends.
    pub end: usize,
    /// Where the newest batch begins, as far as it is in this segment.
    pub newest_batch: usize,
    pub tail: Tail,
}

/// A record whose CRC holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawRecord {
    pub crc: u32,
    /// Its place in its batch.
    pub place: u8,
    pub payload: Range<usize>,
}

/// Reads records from behind the head until one does not verify, and judges what follows.
pub(super) fn walk(segment: &[u8], salt: Salt, first_seq: u64) -> Walk {
    let mut records = Vec::new();
    let mut end = HEAD_BYTES;
    let mut newest_batch = HEAD_BYTES;
    let mut seq = first_seq;
    // A batch may begin in the segment before.
    let mut place = None;
    while let Some(claim) = Claim::at(segment, salt, end)
        && claim.head.seq == seq
        && claim.head.may_follow(place)
        && claim.holds(segment, salt)
    {
        if claim.head.place == 0 {
            newest_batch = end;
        }
        end = claim.payload.end;
        seq = seq.saturating_add(1);
        place = Some(claim.head.place);
        records.push(RawRecord { crc: claim.crc, place: claim.head.place, payload: claim.payload });
    }
    let tail = judge_tail(segment, salt, end, seq);
    Walk { records, end, newest_batch, tail }
}

fn judge_tail(segment: &[u8], salt: Salt, end: usize, expected: u64) -> Tail {
    let rest = segment.get(end..).unwrap_or_default();
    let Some(last) = rest.iter().rposition(|byte| *byte != 0) else { return Tail::Clean };
    let until = end + last + 1;
    // No more records than this fit behind the one that is missing.
    let latest = expected.saturating_add((rest.len() / RECORD_HEAD_BYTES) as u64);
    let mut budget = SCAN_BYTES_MAX;
    for offset in end..until {
        let Some(claim) = Claim::at(segment, salt, offset) else { continue };
        if claim.head.seq <= expected || claim.head.seq > latest || claim.head.shares_batch_with(expected) {
            continue;
        }
        let Some(left) = budget.checked_sub(claim.payload.len()) else { return Tail::Corrupt };
        budget = left;
        if claim.holds(segment, salt) {
            return Tail::Corrupt;
        }
    }
    Tail::Torn { until }
}

/// What sixteen bytes say when they are taken for the head of a record.
struct Claim {
    length_field: [u8; 4],
    crc: u32,
    head: RecordHead,
    payload: Range<usize>,
}

impl Claim {
    fn at(segment: &[u8], salt: Salt, offset: usize) -> Option<Self> {
        let (head, rest) = segment.get(offset..)?.split_first_chunk::<RECORD_HEAD_BYTES>()?;
        let length_field = [head[0], head[1], head[2], head[3]];
        let (length, place) = read_length_field(u32::from_be_bytes(length_field))?;
        if length == 0 || length > RECORD_BYTES_MAX || length > rest.len() {
            return None;
        }
        let start = offset + RECORD_HEAD_BYTES;
        let crc = be_u32(&head[4..8]);
        let head = RecordHead { seq: be_u64(&head[8..]) ^ salt.0, place };
        Some(Self { length_field, crc, head, payload: start..start + length })
    }

    fn holds(&self, segment: &[u8], salt: Salt) -> bool {
        salt.crc(self.length_field, &segment[self.payload.start - 8..self.payload.end]) == self.crc
    }
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

    const SALT: Salt = Salt(0x5a17_5a17_5a17_5a17);

    /// A record that is a batch of its own.
    fn alone(seq: u64) -> RecordHead {
        RecordHead { seq, place: 0 }
    }

    fn segment(records: &[&[u8]], bytes: usize) -> Vec<u8> {
        let head = Head {
            cluster_id: ClusterId::ZERO,
            operator: OperatorIndex(0),
            first_seq: 5,
            previous_crc: 0,
            salt: SALT,
            is_compacted: false,
        };
        let mut segment = head.encode().unwrap();
        for (n, record) in records.iter().enumerate() {
            push_record(&mut segment, SALT, alone(5 + n as u64), |buffer| buffer.extend_from_slice(record))
                .unwrap();
        }
        segment.resize(bytes.max(segment.len()), 0);
        segment
    }

    #[test]
    fn a_head_is_read_back() {
        let head = Head {
            cluster_id: ClusterId::repeat_byte(7),
            operator: OperatorIndex(3),
            first_seq: u64::MAX,
            previous_crc: 0xdead_beef,
            salt: SALT,
            is_compacted: true,
        };
        let bytes = head.encode().unwrap();
        assert_eq!(bytes.len(), HEAD_BYTES);
        assert_eq!(Head::decode(&bytes), Ok(head));
    }

    #[test]
    fn the_layout_of_a_record_is_the_one_described() {
        let mut bytes = Vec::new();
        let crc = push_record(&mut bytes, SALT, alone(2), |buffer| buffer.push(0xaa)).unwrap();
        let (length, seq) = ([0, 0, 0, 1], (SALT.0 ^ 2).to_be_bytes());
        assert_eq!(crc, crc32fast::hash(&[&SALT.0.to_be_bytes()[..], &length, &seq, &[0xaa]].concat()));
        let expected = [&length[..], &crc.to_be_bytes(), &seq, &[0xaa]].concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_place_in_the_batch_is_in_the_free_bits_and_no_flipped_bit_of_it_is_believed() {
        for place in 0..=u8::MAX {
            for length in [1, RECORD_BYTES_MAX as u32] {
                let field = length_field(length, place);
                assert_eq!(read_length_field(field), Some((length as usize, place)));
                for bit in LENGTH_BITS..32 {
                    assert_eq!(read_length_field(field ^ (1 << bit)), None);
                }
            }
        }
        assert_eq!(length_field(77, 0), 77, "the first record of a batch has a plain length");
    }

    #[test]
    fn a_hole_in_a_batch_is_torn_and_one_before_a_later_batch_is_corruption() {
        // Two batches of three; the places are those of the second record lost.
        let heads = [(5, 0), (6, 1), (7, 2), (8, 0), (9, 1), (10, 2)];
        let build = |lost: &[u64]| {
            let mut bytes = segment(&[], 0);
            for (seq, place) in heads {
                let start = bytes.len();
                push_record(&mut bytes, SALT, RecordHead { seq, place }, |b| b.extend_from_slice(b"vote"))
                    .unwrap();
                if lost.contains(&seq) {
                    bytes[start..].fill(0);
                }
            }
            bytes.resize(512, 0);
            bytes
        };
        let tail = |lost: &[u64]| {
            let walk = walk(&build(lost), SALT, 5);
            (walk.records.len(), matches!(walk.tail, Tail::Torn { .. }))
        };
        assert_eq!(tail(&[9]), (4, true));
        assert_eq!(tail(&[8]), (3, true));
        assert_eq!(tail(&[8, 9]), (3, true));
        for lost in [&[6][..], &[7], &[5, 6, 7], &[7, 8], &[7, 8, 9], &[6, 8, 10]] {
            assert_eq!(walk(&build(lost), SALT, 5).tail, Tail::Corrupt, "{lost:?}");
        }
    }

    #[test]
    fn a_record_too_far_into_its_batch_to_say_how_far_counts_as_later() {
        let mut bytes = segment(&[], 0);
        let head = RecordHead { seq: 300, place: BATCH_PLACE_MAX };
        bytes.extend_from_slice(&[0; RECORD_HEAD_BYTES + 4]);
        push_record(&mut bytes, SALT, head, |buffer| buffer.extend_from_slice(b"vote")).unwrap();
        bytes.resize(16 << 10, 0);
        assert_eq!(walk(&bytes, SALT, 5).tail, Tail::Corrupt);
    }

    #[test]
    fn a_record_of_four_mebibytes_fits_and_one_byte_more_leaves_the_buffer_alone() {
        let mut buffer = Vec::new();
        push_record(&mut buffer, SALT, alone(1), |buffer| buffer.resize(buffer.len() + RECORD_BYTES_MAX, 1))
            .unwrap();
        let before = buffer.len();
        let too_large = push_record(&mut buffer, SALT, alone(2), |buffer| {
            buffer.resize(buffer.len() + RECORD_BYTES_MAX + 1, 1)
        });
        assert!(matches!(too_large, Err(StorageError::TooLarge { .. })));
        assert!(push_record(&mut buffer, SALT, alone(2), |_| {}).is_err(), "an empty record is no record");
        assert_eq!(buffer.len(), before);
    }

    #[test]
    fn records_end_at_zeros() {
        let bytes = segment(&[b"one", b"two"], 256);
        let walk = walk(&bytes, SALT, 5);
        assert_eq!(walk.tail, Tail::Clean);
        let payloads: Vec<&[u8]> = walk.records.iter().map(|r| &bytes[r.payload.clone()]).collect();
        assert_eq!(payloads, [b"one", b"two"]);
    }

    #[test]
    fn a_length_beyond_the_segment_is_a_torn_tail_and_not_an_overrun() {
        let mut bytes = segment(&[b"one", b"two"], 256);
        let second = HEAD_BYTES + RECORD_HEAD_BYTES + 3;
        bytes[second..second + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        let walk = walk(&bytes, SALT, 5);
        assert_eq!(walk.records.len(), 1);
        assert!(matches!(walk.tail, Tail::Torn { .. }));
    }

    #[test]
    fn a_gap_in_the_sequence_is_corruption() {
        let mut bytes = segment(&[b"one"], 0);
        push_record(&mut bytes, SALT, alone(7), |buffer| buffer.extend_from_slice(b"three")).unwrap();
        bytes.resize(256, 0);
        assert_eq!(walk(&bytes, SALT, 5).tail, Tail::Corrupt);
    }

    #[test]
    fn a_repeated_earlier_record_is_not_taken_for_a_later_one() {
        let mut bytes = segment(&[b"one"], 0);
        push_record(&mut bytes, SALT, alone(5), |buffer| buffer.extend_from_slice(b"one")).unwrap();
        bytes.resize(256, 0);
        let walk = walk(&bytes, SALT, 5);
        assert_eq!(walk.records.len(), 1);
        assert!(matches!(walk.tail, Tail::Torn { .. }));
    }

    #[test]
    fn a_payload_made_of_record_heads_cannot_buy_unbounded_checksums() {
        // Every sixteen bytes claim a record of 2 MiB with a seq in range and a wrong CRC.
        let mut claim = (2u32 << 20).to_be_bytes().to_vec();
        claim.extend_from_slice(&[1, 2, 3, 4]);
        claim.extend_from_slice(&(SALT.0 ^ 7).to_be_bytes());
        let mut bytes = segment(&[], 0);
        bytes.extend_from_slice(&[9; 16]);
        bytes.extend(claim.iter().copied().cycle().take(4 << 20));
        bytes.resize(16 << 20, 0);
        assert_eq!(walk(&bytes, SALT, 5).tail, Tail::Corrupt);
    }

    #[test]
    fn a_record_whose_place_in_the_batch_was_torn_off_is_no_record() {
        // A sector may end inside a length field: its first bytes, with the place, are lost, its length stays.
        let mut bytes = segment(&[b"one"], 0);
        let lost = bytes.len();
        push_record(&mut bytes, SALT, RecordHead { seq: 6, place: 0 }, |b| b.extend_from_slice(b"two"))
            .unwrap();
        let third = bytes.len();
        push_record(&mut bytes, SALT, RecordHead { seq: 7, place: 1 }, |b| b.extend_from_slice(b"three"))
            .unwrap();
        bytes[lost..third + 3].fill(0);
        bytes.resize(512, 0);
        let walk = walk(&bytes, SALT, 5);
        assert_eq!(walk.records.len(), 1);
        assert!(matches!(walk.tail, Tail::Torn { .. }), "{:?}", walk.tail);
    }

    #[test]
    fn records_that_somebody_put_into_a_payload_do_not_pass_for_later_records() {
        let mut payload = Vec::new();
        for seq in 0..200 {
            push_record(&mut payload, Salt(0), alone(seq), |b| b.push(1)).unwrap();
        }
        let mut bytes = segment(&[b"one"], 0);
        let torn = bytes.len();
        push_record(&mut bytes, SALT, alone(6), |b| b.extend_from_slice(&payload)).unwrap();
        bytes[torn..torn + 4].fill(0);
        bytes.resize(16 << 10, 0);
        assert!(matches!(walk(&bytes, SALT, 5).tail, Tail::Torn { .. }));
    }
}
