//! The metadata on the disk: what is held of which blob, the chains, the manifests.
//!
//! A record says only what was synced to the blob's file before. A blob has a record if some of its pieces are durable,
//! or if it is closed: then its chain is worth keeping without the bytes. A chain without a record is void.

use crate::possession::Possessions;
use redb::{
    Database, Durability, Error, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};
use std::io;
use std::path::Path;
use types::{Chain, Digest, PieceLayout, PieceSet, State};

/// Size, piece length, last use, whether closed, runs of the durable pieces, possession.
type BlobRow = (u64, u32, u64, bool, &'static [u8], &'static [u8]);
/// Runs of the known boundaries, their states one after the other.
type ChainRow = (&'static [u8], &'static [u8]);
/// Last use, media type, content.
type ManifestRow = (u64, &'static str, &'static [u8]);

const BLOBS: TableDefinition<'_, &str, BlobRow> = TableDefinition::new("blobs");
const CHAINS: TableDefinition<'_, &str, ChainRow> = TableDefinition::new("chains");
const MANIFESTS: TableDefinition<'_, &str, ManifestRow> = TableDefinition::new("manifests");
const MARKS: TableDefinition<'_, &str, u64> = TableDefinition::new("marks");

/// The mark of the tables' form. A database with another one is a cache that cannot be read, and is made anew.
const VERSION: (&str, u64) = ("version", 1);
/// The most pieces that a record's blob may have, what the largest blob of the usual layouts has: a chain takes memory for
/// each.
const PIECES_MAX: u32 = 65_536;
/// The mark of a clean stop: 1 while the store is closed.
const CLEAN: &str = "clean";

/// What is stored of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) layout: PieceLayout,
    /// The stamp of the last use.
    pub(crate) used: u64,
    pub(crate) closed: bool,
    pub(crate) pieces: PieceSet,
    pub(crate) possessions: Possessions,
}

/// A record with its key; a row that cannot be understood has none.
pub(crate) type KeyedRecord = (Digest, Record);

/// The database.
#[derive(Debug)]
pub(crate) struct Metadata {
    database: Database,
}

/// One write transaction.
pub(crate) struct Batch<'t> {
    blobs: Table<'t, &'static str, BlobRow>,
    chains: Table<'t, &'static str, ChainRow>,
    manifests: Table<'t, &'static str, ManifestRow>,
    marks: Table<'t, &'static str, u64>,
}

impl Metadata {
    /// Opens the database or makes it. One that cannot be read is replaced: the cache starts empty.
    pub(crate) fn open(path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        match Self::try_open(path, cache_bytes) {
            Err(error) if is_unreadable(&error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "unreadable cache metadata, starting empty"
                );
                std::fs::remove_file(path).map_err(Error::Io)?;
                Self::try_open(path, cache_bytes)
            }
            other => other,
        }
    }

    /// Opens the database again after an error of the disk.
    pub(crate) fn reopen(path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        Self::try_open(path, cache_bytes)
    }

    fn try_open(path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            // Without it a file that was altered from outside may panic later. The file is small.
            .set_check_integrity_on_open(true)
            .create(path)?;
        let metadata = Self { database };
        let version = metadata.write(Durability::Immediate, |batch| {
            let version = batch.marks.get(VERSION.0)?.map(|mark| mark.value());
            if version.is_none() {
                batch.marks.insert(VERSION.0, VERSION.1)?;
            }
            Ok(version.unwrap_or(VERSION.1))
        })?;
        if version == VERSION.1 { Ok(metadata) } else { Err(Error::Corrupted(format!("version {version}"))) }
    }

    /// Runs `change` in one transaction, and commits it if it succeeds.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Batch<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        let result = change(&mut Batch::new(&transaction)?)?;
        transaction.commit()?;
        Ok(result)
    }

    fn read<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, Error> {
        Ok(self.database.begin_read()?.open_table(table)?)
    }

    /// Every record with its key.
    pub(crate) fn records(&self) -> Result<Vec<(String, Option<KeyedRecord>)>, Error> {
        let mut records = Vec::new();
        for row in self.read(BLOBS)?.iter()? {
            let (key, value) = row?;
            let record = key.value().parse().ok().zip(decode_record(value.value()));
            records.push((key.value().to_owned(), record));
        }
        Ok(records)
    }

    /// The record of one blob.
    pub(crate) fn record(&self, digest: &Digest) -> Result<Option<Record>, Error> {
        // Owned: a plain guard does not keep its transaction, and a writer could free its page meanwhile.
        let row = self.read(BLOBS)?.get_owned(digest.to_string().as_str())?;
        Ok(row.and_then(|row| decode_record(row.value())))
    }

    /// What is stored of a blob's chain: only its ends if that is nothing. None if the digest cannot have this layout.
    pub(crate) fn chain(&self, digest: &Digest, layout: PieceLayout) -> Result<Option<Chain>, Error> {
        let row = self.read(CHAINS)?.get_owned(digest.to_string().as_str())?;
        let stored = row.and_then(|row| decode_chain(*digest, layout, row.value()));
        Ok(stored.or_else(|| Chain::new(*digest, layout).ok()))
    }

    /// The keys of all chains.
    pub(crate) fn chain_keys(&self) -> Result<Vec<String>, Error> {
        self.read(CHAINS)?.iter()?.map(|row| Ok(row?.0.value().to_owned())).collect()
    }

    /// Last use and length of every manifest.
    pub(crate) fn manifests(&self) -> Result<Vec<(Digest, u64, u64)>, Error> {
        let mut manifests = Vec::new();
        for row in self.read(MANIFESTS)?.iter()? {
            let (key, value) = row?;
            let (used, media_type, content) = value.value();
            let Ok(digest) = key.value().parse() else { continue };
            manifests.push((digest, used, (media_type.len() + content.len()) as u64));
        }
        Ok(manifests)
    }

    /// Media type and content of a manifest.
    pub(crate) fn manifest(&self, digest: &Digest) -> Result<Option<(String, Vec<u8>)>, Error> {
        let row = self.read(MANIFESTS)?.get_owned(digest.to_string().as_str())?;
        Ok(row.map(|row| (row.value().1.to_owned(), row.value().2.to_owned())))
    }

    /// Notes that the store is in use; whether it was closed before.
    pub(crate) fn mark_open(&self) -> Result<bool, Error> {
        self.write(Durability::Immediate, |batch| {
            Ok(batch.marks.insert(CLEAN, 0)?.is_none_or(|before| before.value() == 1))
        })
    }

    /// Notes that the store was closed.
    pub(crate) fn mark_closed(&self) -> Result<(), Error> {
        self.write(Durability::Immediate, |batch| batch.marks.insert(CLEAN, 1).map(drop).map_err(Error::from))
    }
}

impl<'t> Batch<'t> {
    fn new(transaction: &'t WriteTransaction) -> Result<Self, Error> {
        Ok(Self {
            blobs: transaction.open_table(BLOBS)?,
            chains: transaction.open_table(CHAINS)?,
            manifests: transaction.open_table(MANIFESTS)?,
            marks: transaction.open_table(MARKS)?,
        })
    }

    /// Replaces the record of a blob.
    pub(crate) fn put_record(&mut self, digest: &Digest, record: &Record) -> Result<(), Error> {
        let pieces = encode_runs(&record.pieces);
        let possessions = serde_json::to_vec(&record.possessions).map_err(|e| Error::Io(e.into()))?;
        let Record { layout, used, closed, .. } = record;
        let row =
            (layout.size(), layout.piece_len(), *used, *closed, pieces.as_slice(), possessions.as_slice());
        self.blobs.insert(digest.to_string().as_str(), row)?;
        Ok(())
    }

    /// Replaces the chain of a blob.
    pub(crate) fn put_chain(&mut self, chain: &Chain) -> Result<(), Error> {
        let boundaries = 0..=chain.layout().count();
        let mut known = PieceSet::empty(chain.layout().count() + 1);
        let mut states = Vec::new();
        for (boundary, state) in boundaries.filter_map(|b| Some((b, chain.state(b)?))) {
            known.insert(types::PieceIndex(boundary));
            states.extend(state.to_bytes());
        }
        let row = (&*encode_runs(&known), states.as_slice());
        self.chains.insert(chain.digest().to_string().as_str(), row)?;
        Ok(())
    }

    /// Forgets a blob, its chain too.
    pub(crate) fn delete(&mut self, digest: &str) -> Result<(), Error> {
        self.blobs.remove(digest)?;
        self.chains.remove(digest)?;
        Ok(())
    }

    /// Forgets what is held of a blob, but not its chain.
    pub(crate) fn delete_record(&mut self, digest: &Digest) -> Result<(), Error> {
        self.blobs.remove(digest.to_string().as_str())?;
        Ok(())
    }

    /// Stores a manifest.
    pub(crate) fn put_manifest(
        &mut self,
        digest: &Digest,
        used: u64,
        media_type: &str,
        content: &[u8],
    ) -> Result<(), Error> {
        self.manifests.insert(digest.to_string().as_str(), (used, media_type, content))?;
        Ok(())
    }

    /// Forgets a manifest.
    pub(crate) fn delete_manifest(&mut self, digest: &Digest) -> Result<(), Error> {
        self.manifests.remove(digest.to_string().as_str())?;
        Ok(())
    }
}

/// Whether the error says that the file is no database of ours, or damaged.
fn is_unreadable(error: &Error) -> bool {
    match error {
        Error::Corrupted(_)
        | Error::UpgradeRequired(_)
        | Error::RepairAborted
        | Error::TableTypeMismatch { .. } => true,
        Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

fn encode_runs(set: &PieceSet) -> Vec<u8> {
    set.runs().flat_map(|run| [run.start.to_le_bytes(), run.end.to_le_bytes()]).flatten().collect()
}

fn decode_runs(count: u32, bytes: &[u8]) -> Option<PieceSet> {
    let (runs, rest) = bytes.as_chunks::<8>();
    let number =
        |bytes: &[u8; 8], at: usize| bytes.as_chunks::<4>().0.get(at).map_or(0, |n| u32::from_le_bytes(*n));
    rest.is_empty()
        .then(|| PieceSet::from_runs(count, runs.iter().map(|run| number(run, 0)..number(run, 1))))?
}

fn decode_record(
    (size, piece_len, used, closed, pieces, possessions): (u64, u32, u64, bool, &[u8], &[u8]),
) -> Option<Record> {
    let layout = PieceLayout::new(size, piece_len).filter(|layout| layout.count() <= PIECES_MAX)?;
    let pieces = decode_runs(layout.count(), pieces)?;
    let possessions = serde_json::from_slice(possessions).ok()?;
    Some(Record { layout, used, closed, pieces, possessions })
}

fn decode_chain(digest: Digest, layout: PieceLayout, (known, states): (&[u8], &[u8])) -> Option<Chain> {
    let known = decode_runs(layout.count() + 1, known)?;
    let algorithm = digest.algorithm();
    if states.len() != known.len() as usize * algorithm.digest_len() {
        return None;
    }
    let mut states =
        states.chunks(algorithm.digest_len()).filter_map(|bytes| State::from_bytes(algorithm, bytes));
    let mut chain = Chain::new(digest, layout).ok()?;
    for run in known.runs() {
        let segment: Vec<State> = states.by_ref().take(run.len()).collect();
        chain.learn(run.start, &segment).ok()?;
    }
    Some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_more_pieces_than_a_blob_has_is_none() {
        let row = |size, piece_len| (size, piece_len, 0, true, &[][..], &b"[]"[..]);
        assert!(
            decode_record(row(PieceLayout::SIZE_MAX, types::piece_len_for(PieceLayout::SIZE_MAX))).is_some()
        );
        assert!(decode_record(row(1 << 31, 128)).is_none(), "its chain would take a gigabyte");
    }
}
