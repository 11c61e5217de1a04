//! One segment in the place of many of which little is still needed.
//!
//! An instance that stays open, one slot of a sparse duty say, would keep its segment and, since a log has no
//! holes, all after it. Compaction writes what is needed of all closed segments into a new one, in its
//! order, and drops them.
//!
//! The new segment is one like any other and ends where they ended. Its batches get the numbers just before
//! the next segment's first; the last batch of all is kept as it is, whether it is needed or not, so that the chain
//! of checksums goes on. A flag in its head says that everything before it, and everything its numbers
//! reach into, is replaced: what a crash kept from being removed goes at the next start.

use super::recovery::{corrupt, decode, read_segment, segment_path};
use super::segment::{BATCH_BYTES_MAX, Drafts, Head, RECORD_HEAD_BYTES, Stamp, Tail, walk};
use super::{Contents, SEGMENT_BYTES_MAX, Segment, Wal};
use crate::StorageError;
use crate::files::at;
use crate::medium::{Medium, write_all};
use aequa_types::Subject;
use std::path::{Path, PathBuf};

/// A compacted segment under construction; never read.
pub(super) const FILE: &str = "compact.tmp";
/// Closed segments that are left in peace, 64 MiB: compaction reads them all while a turn waits.
const SEGMENTS_LEFT: usize = 4;

impl Wal {
    /// Makes one of all closed segments, when there are many and at most half of them is needed.
    pub(super) fn compact(&mut self, is_needed: &dyn Fn(Subject) -> bool) -> Result<(), StorageError> {
        if self.closed.len() < SEGMENTS_LEFT {
            return Ok(());
        }
        let bytes = |is_counted| self.closed.iter().map(|closed| closed.contents.bytes(is_counted)).sum();
        let (all, needed): (usize, usize) = (bytes(&|_| true), bytes(is_needed));
        if needed > all / 2 || needed > SEGMENT_BYTES_MAX / 2 {
            return Ok(());
        }
        let compacted = self.write_compacted(is_needed)?;
        let replaced = std::mem::take(&mut self.closed);
        // Of the same name is the new one itself.
        let gone = replaced.iter().map(|closed| &closed.path).filter(|path| **path != compacted.path);
        remove(gone, &self.dir, &*self.options.medium)?;
        self.closed.push_back(compacted);
        Ok(())
    }

    fn write_compacted(&self, is_needed: &dyn Fn(Subject) -> bool) -> Result<Segment, StorageError> {
        let medium = &*self.options.medium;
        let (mut kept, mut last) = (Drafts::default(), None);
        for (n, closed) in self.closed.iter().enumerate() {
            let bytes = read_segment(&closed.path, medium)?;
            let (head, _) = Head::decode(&bytes).map_err(|_| corrupt(&closed.path, 0, "its head is gone"))?;
            let walked = walk(&bytes, head.salt, head.first_number);
            if walked.tail != Tail::Clean {
                return Err(corrupt(&closed.path, walked.end, "damaged, and a later segment exists"));
            }
            let mut batches = walked.batches;
            let newest = if n + 1 == self.closed.len() { batches.pop() } else { None };
            for batch in &batches {
                for (record, payload) in decode(&closed.path, &bytes, batch)? {
                    let subject = record.subject();
                    if is_needed(subject) {
                        kept.push(subject, payload.len(), BATCH_BYTES_MAX, |buffer| buffer.extend(payload));
                    }
                }
            }
            if let Some(batch) = newest {
                let records = decode(&closed.path, &bytes, &batch)?.into_iter();
                let sizes =
                    records.map(|(record, payload)| (record.subject(), RECORD_HEAD_BYTES + payload.len()));
                last = Some((batch.stamp.number, sizes.collect::<Vec<_>>(), bytes[batch.range].to_vec()));
            }
        }
        let Some((last_number, last_records, last_batch)) = last else {
            return Err(corrupt(&self.dir, 0, "closed segments without a batch"));
        };
        // As many batches as before at most, since each holds as much as may be.
        let first_number = last_number.saturating_sub(kept.0.len() as u64);
        let head = Head {
            cluster_id: self.cluster_id,
            operator: self.operator,
            first_number,
            previous_crc: 0,
            salt: self.active.salt,
            is_compacted: true,
        };
        let (mut bytes, mut contents) = (head.encode()?, Contents::default());
        for (draft, number) in kept.0.iter_mut().zip(first_number..) {
            bytes.extend(draft.finish(self.active.salt, Stamp { number, unsynced: 0 }).0);
            contents.add_all(&draft.records);
        }
        bytes.extend(&last_batch);
        contents.add_all(&last_records);
        let path = segment_path(&self.dir, first_number);
        assert!(bytes.len() <= SEGMENT_BYTES_MAX, "what is written can be read");

        let draft = self.dir.join(FILE);
        medium.remove(&draft).map_err(at("remove", &draft))?;
        let file = medium.create(&draft).map_err(at("create", &draft))?;
        write_all(&*file, &bytes, 0).map_err(at("write", &draft))?;
        file.sync().map_err(at("sync", &draft))?;
        medium.rename(&draft, &path).map_err(at("rename to", &path))?;
        medium.sync_dir(&self.dir).map_err(at("sync directory", &self.dir))?;
        Ok(Segment { path, contents })
    }
}

/// Removes segments that nothing needs, oldest first.
pub(super) fn remove<'a>(
    paths: impl IntoIterator<Item = &'a PathBuf>,
    dir: &Path,
    medium: &dyn Medium,
) -> Result<(), StorageError> {
    for path in paths {
        medium.remove(path).map_err(at("remove", path))?;
        // One by one: were a later removal durable before an earlier one, the log had a hole.
        medium.sync_dir(dir).map_err(at("sync directory", dir))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CLUSTER, ME, is_part_of, open, segment_files, value, vote, vote_in, write};
    use super::super::*;
    use super::SEGMENTS_LEFT;
    use crate::medium::testing::BadDisk;
    use aequa_types::{Domain, DutyKind, InstanceId};
    use std::sync::atomic::Ordering::SeqCst;

    const SEGMENT_BYTES: usize = 4096;
    /// The duty that stays open.
    const LOW: u64 = 7;

    fn is_needed(above: u64) -> impl Fn(Subject) -> bool {
        move |Subject { instance, .. }| match instance {
            InstanceId::Block(height) => height.0 > above,
            InstanceId::Duty(duty) => duty.slot.0 == LOW,
        }
    }

    /// Heights with a value each, a duty now and then, and of the low duty something every hundred heights.
    fn life(heights: std::ops::RangeInclusive<u64>) -> Vec<Record> {
        let of = |height: u64| {
            let mut records = vec![value(height, 500), vote(height)];
            records.extend(
                height
                    .is_multiple_of(20)
                    .then(|| vote_in(Domain::Duty(DutyKind::Proposer), 1_000_000 - height)),
            );
            records.extend((height % 100 == 1).then(|| vote_in(Domain::Duty(DutyKind::Proposer), LOW)));
            records
        };
        heights.flat_map(of).collect()
    }

    fn on(disk: &Arc<BadDisk>, dir: &Path) -> Wal {
        let options = WalOptions {
            segment_bytes: SEGMENT_BYTES,
            ahead: false,
            medium: Arc::new(disk.clone()),
            ..WalOptions::default()
        };
        Wal::open(dir, CLUSTER, ME, options).unwrap().0
    }

    #[test]
    fn one_low_duty_that_stays_open_keeps_no_segments_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(BadDisk::default());
        disk.skips_syncs.store(true, SeqCst);
        let mut wal = on(&disk, dir.path());
        for height in 1..=2000 {
            write(&mut wal, &life(height..=height));
            if height.is_multiple_of(50) {
                wal.prune(&is_needed(height)).unwrap();
                assert!(wal.segments() <= SEGMENTS_LEFT, "{} segments at {height}", wal.segments());
            }
        }
        assert_eq!(segment_files(dir.path()).len(), wal.segments());
        let next_number = wal.next_number();
        drop(wal);
        let (mut wal, recovered) = open(dir.path(), SEGMENT_BYTES).unwrap();
        let all = life(1..=2000);
        let low = all.iter().filter(|record| is_needed(2000)(record.subject())).count();
        let kept = recovered.records.iter().filter(|record| is_needed(2000)(record.subject())).count();
        assert_eq!((kept, wal.next_number()), (low, next_number));
        assert!(is_part_of(&recovered.records, &all));
        // Once it has ended nothing of it is left.
        write(&mut wal, &life(2001..=2050));
        wal.prune(&|_| false).unwrap();
        assert_eq!(wal.segments(), 1);
    }

    #[test]
    fn killed_at_any_call_of_a_compaction_nothing_needed_is_lost_and_nothing_is_there_twice() {
        let all = life(1..=300);
        let needed: Vec<Record> =
            all.iter().filter(|record| is_needed(290)(record.subject())).cloned().collect();
        let mut ended = 0;
        for (calls, kind) in (1..).flat_map(|calls| [(calls, 0), (calls, 1), (calls, 2)]) {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(BadDisk::default());
            disk.skips_syncs.store(true, SeqCst);
            let mut wal = on(&disk, dir.path());
            write(&mut wal, &life(1..=150));
            wal.prune(&is_needed(140)).unwrap();
            write(&mut wal, &life(151..=300));
            [&disk.names_left, &disk.writes_left, &disk.syncs_left][kind].store(calls, SeqCst);
            let failed = wal.prune(&is_needed(290)).is_err();
            assert_eq!(wal.is_poisoned(), failed);
            drop(wal);

            for _ in 0..2 {
                let (wal, recovered) = open(dir.path(), SEGMENT_BYTES).unwrap();
                assert!(is_part_of(&recovered.records, &all), "call {calls} of kind {kind}");
                assert!(is_part_of(&needed, &recovered.records), "call {calls} of kind {kind}");
                assert_eq!(segment_files(dir.path()).len(), wal.segments());
                assert!(!dir.path().join(super::FILE).exists());
            }
            ended = if failed { 0 } else { ended + 1 };
            if ended == 3 {
                assert!(calls > 4 + SEGMENTS_LEFT, "it was killed at every call, {calls}");
                return;
            }
        }
    }

    #[test]
    fn what_was_heard_of_a_duty_is_kept_without_the_rest_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = open(dir.path(), SEGMENT_BYTES).unwrap();
        let heard =
            Record::Heard(vote_in(Domain::Duty(DutyKind::Proposer), LOW).statement().unwrap().clone());
        write(
            &mut wal,
            &[
                vote_in(Domain::Duty(DutyKind::Proposer), LOW),
                heard.clone(),
                vote_in(Domain::Duty(DutyKind::Proposer), LOW),
            ],
        );
        write(&mut wal, &life(1..=60));
        wal.prune(&|subject| subject.heard).unwrap();
        assert!(wal.segments() <= 2, "{}", wal.segments());
        drop(wal);
        let (_, recovered) = open(dir.path(), SEGMENT_BYTES).unwrap();
        assert!(recovered.records.contains(&heard));
        assert!(!recovered.records.contains(&vote_in(Domain::Duty(DutyKind::Proposer), LOW)));
    }

    #[test]
    fn what_is_mostly_needed_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = open(dir.path(), SEGMENT_BYTES).unwrap();
        write(&mut wal, &life(1..=60));
        let before = segment_files(dir.path());
        assert_eq!(wal.prune(&|subject| !subject.instance.number().is_multiple_of(3)).unwrap(), 0);
        assert_eq!(segment_files(dir.path()), before);
    }
}
