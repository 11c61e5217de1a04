//! The chain store on an LSM engine (fjall), one keyspace per kind.
//!
//! The engine syncs its journal before it writes a memtable to a table, so no keyspace gets ahead
//! of the others on disk; opening checks that all the same.

#![allow(clippy::wildcard_enum_match_arm, reason = "errors of fjall, which grow")]

use super::cipher::{Cipher, StoreKey};
use super::keys::{
    Body, HeightRow, corrupt, duty_key, duty_of_key, height_key, height_of_key, place_of_value, place_value,
    slot_key, slot_of_key,
};
use super::options::ChainOptions;
use super::state::{StateAt, StateTables};
use super::table::Table;
use super::{BlockCommit, ChainStore, Committed, DUTIES_SEARCHED_MAX, DutyRow, Roots};
use crate::StorageError;
use crate::files::{at, create_dir_durable, parent, sync_dir};
use aequa_chain::{StateRead, StoredRow, Tip};
use aequa_types::limits::{
    CONSENSUS_FRAME_BYTES_MAX, EVIDENCE_BYTES_MAX, EVIDENCE_PER_OPERATOR_MAX, OPERATORS_MAX, VALUE_BYTES_MAX,
};
use aequa_types::{
    Block, Certificate, CertifiedBlock, CertifiedHeader, ClusterId, DutyId, DutyKind, Evidence, Header,
    Height, InstanceId, Proof, Slot, TxHash,
};
use fjall::{
    Database, Guard, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch, PersistMode,
    Readable as _, Snapshot,
};
use ssz::Encode as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::{fs, io};

/// Layout of keyspaces, keys and blocks; raised when they change. 3: a header's totals have 128 bits. 4: headers
/// are apart from bodies, reports of duties are SSZ. 5: the state has versions and the pages of its tree.
const SCHEMA: u16 = 5;
const SCHEMA_KEY: &[u8] = b"schema";
const CLUSTER_KEY: &[u8] = b"cluster";
/// Only in a store that is encrypted: nothing, encrypted.
const SEALED_KEY: &[u8] = b"sealed";
const META: &str = "meta";
/// Followed by the number of the kind; the slot big-endian.
const DUTY_WATERMARK_KEY: &[u8] = b"duty-watermark/";
const PENDING_EVIDENCE_KEY: &[u8] = b"pending-evidence";
/// The longest list of evidence that may wait in bytes: an offset and a piece for all there can be.
const PENDING_EVIDENCE_BYTES_MAX: usize =
    OPERATORS_MAX * EVIDENCE_PER_OPERATOR_MAX * (EVIDENCE_BYTES_MAX + 4);
/// Memtable of the blocks in bytes: five of the largest.
const BLOCKS_MEMTABLE_BYTES: u64 = 16 << 20;
/// Memtable in bytes of what every transaction adds to, all over its keyspace: the larger, the less is merged again and
/// again.
const BUSY_MEMTABLE_BYTES: u64 = 8 << 20;
/// Memtable of every other keyspace in bytes: so small that memory is flat after minutes, not after a day.
const MEMTABLE_BYTES: u64 = 2 << 20;
/// Journals on disk in bytes before the engine flushes what holds the oldest.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// Open files; a table or blob file each.
const OPEN_FILES_MAX: usize = 64;
/// One that flushes and compacts: of two the first hands every compaction back to the queue, without a pause, while the
/// other compacts.
const WORKER_THREADS: usize = 1;
/// Results removed in one batch when pruning; bounds the batch.
const PRUNE_BATCH: usize = 4096;

/// Blocks removed in one batch: each may be a megabyte that is read for its transactions.
const PRUNE_BLOCKS: usize = 16;

/// Extension of a store under construction.
const DRAFT: &str = "tmp-0";

/// [`ChainStore`] on disk.
pub struct FjallChainStore {
    pub(super) database: Database,
    pub(super) cluster_id: ClusterId,
    pub(super) bodies: Table,
    pub(super) certificates: Table,
    pub(super) heights: Table,
    pub(super) transactions: Table,
    pub(super) state: StateTables,
    pub(super) duties: Table,
    /// Never encrypted: whose store it is, and how it is to be read.
    pub(super) meta: Keyspace,
    /// Held during every write that depends on what is stored.
    pub(super) writer: Mutex<()>,
    /// Set only after the batch is in.
    pub(super) tip: RwLock<Option<Tip>>,
    /// The first read of the state that failed and was not asked about yet.
    pub(super) failed: Mutex<Option<StorageError>>,
}

impl FjallChainStore {
    /// Opens the store of a cluster in `dir`, creating it when there is none.
    pub fn open(dir: &Path, cluster_id: ClusterId, options: ChainOptions) -> Result<Self, StorageError> {
        if !dir.exists() {
            Self::create(dir, cluster_id, options.clone())?;
        }
        Self::open_in(dir, cluster_id, options)
    }

    /// Makes an empty store beside its place and moves it there: one whose making was interrupted is nothing the
    /// engine can open.
    fn create(dir: &Path, cluster_id: ClusterId, options: ChainOptions) -> Result<(), StorageError> {
        let draft = dir.with_extension(DRAFT);
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &draft)(error)),
            _ => {}
        }
        drop(Self::open_in(&draft, cluster_id, options)?);
        fs::rename(&draft, dir).map_err(at("rename to", dir))?;
        sync_dir(parent(dir)).map_err(at("sync directory", parent(dir)))
    }

    fn open_in(dir: &Path, cluster_id: ClusterId, options: ChainOptions) -> Result<Self, StorageError> {
        create_dir_durable(dir)?;
        let database = open_database(dir, &options)?;
        let small = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let busy = || KeyspaceCreateOptions::default().max_memtable_size(BUSY_MEMTABLE_BYTES);
        let large = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(BLOCKS_MEMTABLE_BYTES)
                .with_kv_separation(Some(KvSeparationOptions::default()))
        };
        let key = options.key.as_ref();
        let table = |name: &'static str, options: &dyn Fn() -> KeyspaceCreateOptions| {
            let keyspace = database.keyspace(name, options)?;
            Ok::<_, StorageError>(Table::new(keyspace, name, key))
        };
        let store = Self {
            cluster_id,
            bodies: table("bodies", &large)?,
            certificates: table("certificates", &small)?,
            heights: table("heights", &small)?,
            transactions: table("transactions", &busy)?,
            state: StateTables {
                entries: table("state", &busy)?,
                versions: table("versions", &busy)?,
                touched: table("touched", &small)?,
                kept: options.states_kept,
            },
            duties: table("duties", &small)?,
            meta: database.keyspace("meta", small)?,
            database,
            writer: Mutex::new(()),
            tip: RwLock::new(None),
            failed: Mutex::new(None),
        };
        store.check_owner(dir, key)?;
        let tip = store.read_tip()?;
        store.set_tip(tip);
        Ok(store)
    }

    /// Bytes kept in memory: the cache, and what is in no table yet. Both are bounded, and fill over time.
    pub fn bytes_in_memory(&self) -> u64 {
        self.database.cache_size().saturating_add(self.database.write_buffer_size())
    }

    /// Whether everything that was read of the state since the last call could be read: asked before anything that
    /// depends on it leaves the process.
    pub fn check_reads(&self) -> Result<(), StorageError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// The state after the block at a height, as it stays whatever is stored after it. Only the last heights have one.
    pub fn state_at(&self, height: Height) -> Result<StateAt, StorageError> {
        let (snapshot, tip) = {
            let _writing = self.write_lock()?;
            (self.database.snapshot(), self.tip())
        };
        let last = tip.map_or(Height(0), |tip| tip.height);
        let state = self.state.at(snapshot, height, last)?;
        state.ok_or(StorageError::UnknownHeight { height })
    }

    /// The lowest height whose state is kept.
    pub fn lowest_state(&self) -> Result<Height, StorageError> {
        self.state.lowest(self.tip().map_or(Height(0), |tip| tip.height))
    }

    fn noted<T>(&self, read: Result<Option<T>, StorageError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            None
        })
    }

    fn check_owner(&self, dir: &Path, key: Option<&StoreKey>) -> Result<(), StorageError> {
        let Some(schema) = self.meta.get(SCHEMA_KEY)? else {
            let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
            batch.insert(&self.meta, SCHEMA_KEY, SCHEMA.to_be_bytes());
            batch.insert(&self.meta, CLUSTER_KEY, self.cluster_id.as_slice());
            if let Some(key) = key {
                batch.insert(&self.meta, SEALED_KEY, Cipher::new(key, META).seal(SEALED_KEY, &[])?);
            }
            return Ok(batch.commit()?);
        };
        let schema =
            schema[..].try_into().map(u16::from_be_bytes).map_err(|_| corrupt("schema unreadable"))?;
        if schema > SCHEMA {
            return Err(StorageError::NewerVersion { path: dir.into(), found: schema, known: SCHEMA });
        }
        if schema < SCHEMA {
            return Err(StorageError::OlderVersion { path: dir.into(), found: schema, known: SCHEMA });
        }
        let stored = self.meta.get(CLUSTER_KEY)?.ok_or_else(|| corrupt("no cluster id"))?;
        if stored[..] != *self.cluster_id.as_slice() {
            let found = ClusterId::try_from(&stored[..]).map_err(|_| corrupt("cluster id unreadable"))?;
            return Err(StorageError::ForeignDirectory {
                path: dir.into(),
                found: format!("cluster {found}"),
                expected: format!("of cluster {}", self.cluster_id),
            });
        }
        let refused = |reason| Err(StorageError::WrongKey { path: dir.into(), reason });
        match (self.meta.get(SEALED_KEY)?, key) {
            (None, None) => Ok(()),
            (None, Some(_)) => refused("it is not encrypted, and a key is given"),
            (Some(_), None) => refused("it is encrypted, and no key is given"),
            (Some(sealed), Some(key)) => match Cipher::new(key, META).open(SEALED_KEY, &sealed) {
                Ok(_) => Ok(()),
                Err(_) => refused("it is encrypted with another key"),
            },
        }
    }

    /// The last height, which must be the last in all keyspaces that have one row per height.
    fn read_tip(&self) -> Result<Option<Tip>, StorageError> {
        let snapshot = self.database.snapshot();
        let last = |keyspace: &Keyspace| last_height(&snapshot, keyspace);
        let height = last(&self.heights)?;
        if last(&self.bodies)? != height || last(&self.certificates)? != height {
            return Err(corrupt("bodies, certificates and heights end at different heights"));
        }
        let Some(height) = height else { return Ok(None) };
        Ok(self.height_row(&snapshot, height)?.map(|row| row.tip()))
    }

    fn height_row(&self, snapshot: &Snapshot, height: Height) -> Result<Option<HeightRow>, StorageError> {
        let row = self.heights.get_in(snapshot, height_key(height))?;
        row.map(|bytes| HeightRow::decode(&bytes)).transpose()
    }

    fn certified(
        &self,
        snapshot: &Snapshot,
        height: Height,
    ) -> Result<Option<CertifiedHeader>, StorageError> {
        let Some(HeightRow { header, .. }) = self.height_row(snapshot, height)? else { return Ok(None) };
        let certificate = self.certificate(snapshot, height)?;
        if header.height != height || header.digest() != certificate.digest {
            return Err(corrupt(format!("block {height} is not the certified one")));
        }
        Ok(Some(CertifiedHeader { header, certificate }))
    }

    fn certificate(&self, snapshot: &Snapshot, height: Height) -> Result<Certificate, StorageError> {
        let bytes = self
            .certificates
            .get_in(snapshot, height_key(height))?
            .ok_or_else(|| corrupt(format!("block {height} has no certificate")))?;
        aequa_types::decode("certificate", &bytes, CONSENSUS_FRAME_BYTES_MAX).map_err(corrupt)
    }

    #[cfg(test)]
    pub(super) fn damage_body(&self, height: Height) {
        self.bodies.insert(height_key(height), b"damaged").unwrap();
    }

    #[cfg(test)]
    pub(super) fn versions(&self) -> usize {
        self.state.versions.iter().count()
    }

    /// A writer that panicked may have left the tip behind the batch.
    pub(super) fn write_lock(&self) -> Result<MutexGuard<'_, ()>, StorageError> {
        self.writer.lock().map_err(|_| StorageError::Poisoned)
    }

    pub(super) fn tip(&self) -> Option<Tip> {
        // Nothing can panic while the lock is held.
        *self.tip.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_tip(&self, tip: Option<Tip>) {
        *self.tip.write().unwrap_or_else(PoisonError::into_inner) = tip;
    }

    /// What may follow `tip`, and whether `block` does. `Same` when it is stored already.
    fn check_place(&self, tip: Option<Tip>, block: &Block) -> Result<Committed, StorageError> {
        let header = &block.header;
        let digest = header.digest();
        let expected = tip.map_or(Height(1), |tip| tip.height.next());
        if header.height == Height(0) || header.height > expected {
            return Err(StorageError::Gap { expected, offered: header.height });
        }
        if header.height < expected {
            let snapshot = self.database.snapshot();
            let stored = self
                .height_row(&snapshot, header.height)?
                .ok_or_else(|| corrupt(format!("height {} is missing", header.height)))?;
            if stored.digest == digest {
                return Ok(Committed::Same);
            }
            return Err(StorageError::Conflict {
                height: header.height,
                stored: stored.digest,
                offered: digest,
            });
        }
        let parent = tip.map_or(self.cluster_id, |tip| tip.digest);
        if header.parent_root != parent {
            return Err(StorageError::WrongParent {
                height: header.height,
                offered: header.parent_root,
                stored: parent,
            });
        }
        Ok(Committed::New)
    }

    pub(super) fn duty_watermark(&self, kind: DutyKind) -> Result<Option<Slot>, StorageError> {
        self.meta.get(watermark_key(kind))?.map(|watermark| slot_of_key(&watermark)).transpose()
    }

    fn raise_duty_watermarks(&self, watermark: Slot) -> Result<(), StorageError> {
        let _writing = self.write_lock()?;
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for kind in DutyKind::ALL {
            if self.duty_watermark(kind)? < Some(watermark) {
                batch.insert(&self.meta, watermark_key(kind), slot_key(watermark));
            }
        }
        Ok(batch.commit()?)
    }

    /// Forgets the blocks below a height, with the roots after them and where their transactions were, but never the
    /// last block. Gives how many. Readers see whole blocks or none.
    pub fn prune_blocks_below(&self, height: Height) -> Result<usize, StorageError> {
        let limit = height.min(self.tip().map_or(Height(0), |tip| tip.height));
        let mut removed = 0;
        loop {
            let heights: Vec<Height> = self
                .heights
                .range(..height_key(limit))
                .take(PRUNE_BLOCKS)
                .map(|guard| height_of_key(&guard.key()?))
                .collect::<Result<_, _>>()?;
            if heights.is_empty() {
                return Ok(removed);
            }
            removed += heights.len();
            let mut batch = self.database.batch();
            for key in heights.into_iter().map(height_key) {
                // One that cannot be read goes as well; where its transactions were stays known.
                if let Ok(Some(Ok(body))) =
                    self.bodies.get(key).map(|body| body.map(|body| Body::decode(&body)))
                {
                    for item in &body.items {
                        batch.remove(&self.transactions, item.body.hash().as_slice());
                    }
                }
                batch.remove(&self.bodies, key);
                batch.remove(&self.certificates, key);
                batch.remove(&self.heights, key);
            }
            batch.commit()?;
        }
    }

    /// The lowest height there is a block of; a store that began with a state has none before it.
    pub fn first_height(&self) -> Result<Option<Height>, StorageError> {
        self.heights.first_key_value().map(|first| height_of_key(&first.key()?)).transpose()
    }

    /// The batch that adds a block, but for what it does to the state.
    pub(super) fn block_batch(
        &self,
        commit: &BlockCommit<'_>,
        row: &HeightRow,
    ) -> Result<OwnedWriteBatch, StorageError> {
        let height = commit.block.header.height;
        let key = height_key(height);
        let mut batch = self.database.batch();
        self.bodies.put(&mut batch, key, Body::encode(commit.block))?;
        self.certificates.put(&mut batch, key, commit.certificate.as_ssz_bytes())?;
        self.heights.put(&mut batch, key, row.as_ssz_bytes())?;
        for (index, hash) in (0u32..).zip(commit.tx_hashes) {
            self.transactions.put(&mut batch, hash, place_value(height, index))?;
        }
        Ok(batch)
    }
}

/// The state after the last block.
impl StateRead for FjallChainStore {
    fn height(&self) -> Height {
        self.tip().map_or(Height(0), |tip| tip.height)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.noted(self.state.get(key))
    }

    fn above(&self, key: &[u8]) -> Option<StoredRow> {
        self.noted(self.state.above(key))
    }
}

impl fmt::Debug for FjallChainStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the chain of cluster {} up to block {}", self.cluster_id, StateRead::height(self))
    }
}

impl ChainStore for FjallChainStore {
    fn commit(&self, commit: &BlockCommit<'_>) -> Result<Committed, StorageError> {
        let header = &commit.block.header;
        let _writing = self.write_lock()?;
        if self.check_place(self.tip(), commit.block)? == Committed::Same {
            return Ok(Committed::Same);
        }
        let row = HeightRow {
            header: header.clone(),
            digest: header.digest(),
            state_root: commit.state_root,
            history_root: commit.history_root,
        };
        check_parts(commit, &row, &self.cluster_id)?;
        let mut batch = self.block_batch(commit, &row)?;
        self.state.write(&mut batch, header.height, commit.changes)?;
        batch.commit()?;
        self.set_tip(Some(row.tip()));
        Ok(Committed::New)
    }

    fn put_certificate(&self, height: Height, certificate: &Certificate) -> Result<bool, StorageError> {
        if certificate.instance != InstanceId::Block(height) {
            return Err(StorageError::Mismatch { reason: "the certificate is for another instance" });
        }
        let _writing = self.write_lock()?;
        let snapshot = self.database.snapshot();
        let Some(row) = self.height_row(&snapshot, height)? else {
            // A seal may come later than the block is kept.
            return match self.first_height()?.is_some_and(|first| height < first) {
                true => Ok(false),
                false => Err(StorageError::UnknownHeight { height }),
            };
        };
        if certificate.digest != row.digest {
            return Err(StorageError::Conflict { height, stored: row.digest, offered: certificate.digest });
        }
        let stored = self.certificate(&snapshot, height)?;
        let is_better = matches!((&stored.proof, &certificate.proof), (Proof::Commits(_), Proof::Group(_)));
        if is_better {
            self.certificates.insert(height_key(height), certificate.as_ssz_bytes())?;
        }
        Ok(is_better)
    }

    fn block(&self, height: Height) -> Result<Option<CertifiedBlock>, StorageError> {
        let snapshot = self.database.snapshot();
        let Some(CertifiedHeader { header, certificate }) = self.certified(&snapshot, height)? else {
            return Ok(None);
        };
        let body = self.bodies.get_in(&snapshot, height_key(height))?;
        let body = body.ok_or_else(|| corrupt(format!("block {height} has no body")))?;
        let Body { items, evidence } = Body::decode(&body)?;
        Ok(Some(CertifiedBlock { block: Block { header, items, evidence }, certificate }))
    }

    fn certified_header(&self, height: Height) -> Result<Option<CertifiedHeader>, StorageError> {
        self.certified(&self.database.snapshot(), height)
    }

    fn headers(&self, from: Height, limit: usize) -> Result<Vec<Header>, StorageError> {
        let rows = self.heights.range(height_key(from)..).take(limit);
        rows.map(|guard| Ok(HeightRow::decode(&self.heights.entry(guard)?.1)?.header)).collect()
    }

    fn latest(&self) -> Result<Option<Tip>, StorageError> {
        Ok(self.tip())
    }

    fn roots(&self, height: Height) -> Result<Option<Roots>, StorageError> {
        Ok(self.height_row(&self.database.snapshot(), height)?.map(|row| row.roots()))
    }

    fn transaction(&self, hash: &TxHash) -> Result<Option<(Height, u32)>, StorageError> {
        self.transactions.get(hash.as_slice())?.map(|value| place_of_value(&value)).transpose()
    }

    fn put_pending_evidence(&self, evidence: &[Evidence]) -> Result<(), StorageError> {
        Ok(self.meta.insert(PENDING_EVIDENCE_KEY, evidence.to_vec().as_ssz_bytes())?)
    }

    fn pending_evidence(&self) -> Result<Vec<Evidence>, StorageError> {
        let Some(bytes) = self.meta.get(PENDING_EVIDENCE_KEY)? else { return Ok(Vec::new()) };
        aequa_types::decode("pending evidence", &bytes, PENDING_EVIDENCE_BYTES_MAX).map_err(corrupt)
    }

    fn put_duty(&self, duty: DutyId, result: &[u8]) -> Result<(), StorageError> {
        check_result(result)?;
        self.duties.insert(duty_key(duty), result)
    }

    fn close_duty(&self, duty: DutyId, result: &[u8], watermark: Option<Slot>) -> Result<(), StorageError> {
        check_result(result)?;
        let _writing = self.write_lock()?;
        let mut batch = self.database.batch();
        self.duties.put(&mut batch, duty_key(duty), result)?;
        let stored = self.duty_watermark(duty.kind)?;
        if let Some(watermark) = watermark.filter(|watermark| stored < Some(*watermark)) {
            batch.insert(&self.meta, watermark_key(duty.kind), slot_key(watermark));
        }
        Ok(batch.commit()?)
    }

    fn duty_watermarks(&self) -> Result<Vec<DutyId>, StorageError> {
        let mut watermarks = Vec::new();
        for kind in DutyKind::ALL {
            watermarks.extend(self.duty_watermark(kind)?.map(|slot| DutyId { kind, slot }));
        }
        Ok(watermarks)
    }

    fn closed_duties(&self) -> Result<Vec<DutyId>, StorageError> {
        let watermarks = self.duty_watermarks()?;
        let mut closed = Vec::new();
        for guard in self.duties.iter() {
            let duty = duty_of_key(&guard.key()?)?;
            if !watermarks.iter().any(|watermark| watermark.kind == duty.kind && duty.slot <= watermark.slot)
            {
                closed.push(duty);
            }
        }
        Ok(closed)
    }

    fn duty(&self, duty: DutyId) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.duties.get(duty_key(duty))?.map(|value| value.to_vec()))
    }

    fn duties(
        &self,
        kind: Option<DutyKind>,
        before: Option<Slot>,
        limit: usize,
    ) -> Result<Vec<DutyRow>, StorageError> {
        let mut found = Vec::new();
        for guard in self.duties.range(..end_of_duties(before)).rev() {
            if found.len() >= limit {
                break;
            }
            let (key, value) = self.duties.entry_if(guard, |key| {
                kind.is_none_or(|kind| key.last().is_some_and(|number| *number == kind.number()))
            })?;
            if let Some(value) = value {
                found.push((duty_of_key(&key)?, value.to_vec()));
            }
        }
        Ok(found)
    }

    fn duty_instances(
        &self,
        kind: Option<DutyKind>,
        before: Option<Slot>,
        limit: usize,
    ) -> Result<(Vec<DutyId>, Option<Slot>), StorageError> {
        let (mut found, mut last) = (Vec::new(), None);
        for (searched, guard) in self.duties.range(..end_of_duties(before)).rev().enumerate() {
            let duty = duty_of_key(&guard.key()?)?;
            if found.len() >= limit {
                break;
            }
            // Not amid a slot: the next search begins below it.
            if searched >= DUTIES_SEARCHED_MAX && last != Some(duty.slot) {
                return Ok((found, last));
            }
            last = Some(duty.slot);
            found.extend(kind.is_none_or(|kind| kind == duty.kind).then_some(duty));
        }
        Ok((found, None))
    }

    fn prune_duties_below(&self, slot: Slot) -> Result<usize, StorageError> {
        if let Some(watermark) = slot.previous() {
            self.raise_duty_watermarks(watermark)?;
        }
        let mut removed = 0;
        loop {
            let keys: Vec<_> = self
                .duties
                .range(..slot_key(slot).to_vec())
                .take(PRUNE_BATCH)
                .map(Guard::key)
                .collect::<Result<_, _>>()?;
            if keys.is_empty() {
                return Ok(removed);
            }
            removed += keys.len();
            let mut batch = self.database.batch();
            for key in keys {
                batch.remove(&self.duties, key);
            }
            batch.commit()?;
        }
    }

    fn flush(&self) -> Result<(), StorageError> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

/// The key all duties below a slot come before; without one, all duties.
fn end_of_duties(before: Option<Slot>) -> Vec<u8> {
    before.map_or_else(|| vec![u8::MAX; 9], |slot| slot_key(slot).to_vec())
}

pub(super) fn watermark_key(kind: DutyKind) -> Vec<u8> {
    [DUTY_WATERMARK_KEY, &[kind.number()]].concat()
}

fn check_result(result: &[u8]) -> Result<(), StorageError> {
    if result.len() > CONSENSUS_FRAME_BYTES_MAX {
        return Err(StorageError::TooLarge {
            what: "duty result",
            bytes: result.len(),
            bytes_max: CONSENSUS_FRAME_BYTES_MAX,
        });
    }
    Ok(())
}

fn open_database(dir: &Path, options: &ChainOptions) -> Result<Database, StorageError> {
    Database::builder(dir)
        .cache_size(options.cache_bytes)
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .max_cached_files(Some(OPEN_FILES_MAX))
        .worker_threads(WORKER_THREADS)
        .open()
        .map_err(|error| match error {
            fjall::Error::Locked => StorageError::InUse { path: PathBuf::from(dir) },
            fjall::Error::JournalRecovery(_) | fjall::Error::Unrecoverable => corrupt(error),
            other => other.into(),
        })
}

fn last_height(snapshot: &Snapshot, keyspace: &Keyspace) -> Result<Option<Height>, StorageError> {
    match snapshot.last_key_value(keyspace) {
        Some(guard) => height_of_key(&guard.key()?).map(Some),
        None => Ok(None),
    }
}

/// The invariants every stored block has, checked before it is written.
fn check_parts(
    commit: &BlockCommit<'_>,
    row: &HeightRow,
    cluster_id: &ClusterId,
) -> Result<(), StorageError> {
    let BlockCommit { block, certificate, tx_hashes, .. } = commit;
    let mismatch = |reason| Err(StorageError::Mismatch { reason });
    if block.header.cluster_id != *cluster_id {
        return mismatch("the block belongs to another cluster");
    }
    if certificate.instance != InstanceId::Block(block.header.height) || certificate.digest != row.digest {
        return mismatch("the certificate is for another block");
    }
    if tx_hashes.len() != block.items.len() {
        return mismatch("not one transaction hash per item");
    }
    if commit.changes.iter().any(|change| change.key.is_empty() || change.key.len() > usize::from(u8::MAX)) {
        return mismatch("a key of the state is empty or longer than 255 bytes");
    }
    let bytes = block.ssz_bytes_len();
    if bytes > VALUE_BYTES_MAX {
        return Err(StorageError::TooLarge { what: "block", bytes, bytes_max: VALUE_BYTES_MAX });
    }
    Ok(())
}
