//! The store that opens a directory which something else has written to: the disk, a former version, an intruder.
//!
//! It opens, and whatever it gives out has the digest that it was asked by; what it lost can be stored again.

use crate::input::Input;
use ::store::{Blob, Options, Store};
use redb::{Database, TableDefinition};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use types::{Digest, PieceIndex, PieceLayout, State, hash_piece};

/// The tables of the store's database.
type BlobRow = (u64, u32, u64, bool, &'static [u8], &'static [u8]);
const BLOBS: TableDefinition<'_, &str, BlobRow> = TableDefinition::new("blobs");
const CHAINS: TableDefinition<'_, &str, (&'static [u8], &'static [u8])> = TableDefinition::new("chains");
const MANIFESTS: TableDefinition<'_, &str, (u64, &'static str, &'static [u8])> =
    TableDefinition::new("manifests");
const MARKS: TableDefinition<'_, &str, u64> = TableDefinition::new("marks");

const PIECE_LEN: u32 = 128;
const CONTENT: [u8; 1000] = [7; 1000];
const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// A store's directory after a clean stop, by its files: one whole blob, one manifest.
static CLOSED: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let dir = temporary_dir();
    RUNTIME.block_on(async {
        let store = open(dir.path());
        fill(&store).await;
        store
            .put_manifest(&Digest::sha256(MANIFEST), "text/plain", MANIFEST.into())
            .await
            .expect("a manifest");
        store.close().await.expect("a clean stop");
    });
    ["metadata.redb".into(), blob_path()]
        .map(|path: PathBuf| {
            let content = fs::read(dir.path().join(&path)).expect("a file of the store");
            (path, content)
        })
        .into()
});

/// The first byte says whether the others damage the files of a closed store or are the rows of its database.
pub fn store(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let dir = temporary_dir();
    if input.u8().is_multiple_of(2) {
        damage(dir.path(), input);
    } else {
        write_rows(dir.path(), input).expect("a database with these rows");
    }
    RUNTIME.block_on(async {
        let store = open(dir.path());
        check(&store).await;
        let filled = fill(&store).await;
        check(&store).await;
        store.close().await.expect("a clean stop");
        let store = open(dir.path());
        if filled {
            let blob = store.get(&digest()).expect("what was stored is there");
            assert!(blob.is_complete() && read(&blob).await == blob.layout().count(), "and can be read");
        }
        store.close().await.expect("a clean stop");
    });
}

/// Changes files here and there: which file, where, how long, and with what.
fn damage(dir: &Path, mut input: Input<'_>) {
    for (path, content) in CLOSED.iter() {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, content).expect("room for a file");
    }
    for _ in 0..16 {
        if input.is_empty() {
            break;
        }
        let (what, at, len) = (input.u8(), input.u32(), input.u8());
        let (path, content) = &CLOSED[usize::from(what % 2)];
        let at = u64::from(at) % (content.len() as u64 + 1);
        let file = fs::File::options().write(true).open(dir.join(path)).expect("a file of the store");
        if what & 0x80 != 0 {
            file.set_len(at).expect("a shorter file");
        } else {
            file.write_all_at(input.bytes(len.into()), at).expect("room for a file");
        }
    }
}

/// Rows that another program might have written, with every field as the input has it.
fn write_rows(dir: &Path, mut input: Input<'_>) -> Result<(), redb::Error> {
    fs::create_dir_all(dir.join("blobs"))?;
    let database = Database::create(dir.join("metadata.redb"))?;
    let transaction = database.begin_write()?;
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let kind = input.u8() % 4;
        let key = match input.u8() % 3 {
            0 => digest().to_string(),
            1 => Digest::sha256(&[]).to_string(),
            _ => String::from_utf8_lossy(input.line()).into_owned(),
        };
        match kind {
            0 => {
                let layout = match input.u8() % 2 {
                    0 => (CONTENT.len() as u64, PIECE_LEN),
                    _ => (input.u64(), input.u32()),
                };
                let (used, closed, pieces) = (input.u64(), input.u8().is_multiple_of(2), field(&mut input));
                let row = (layout.0, layout.1, used, closed, pieces, field(&mut input));
                transaction.open_table(BLOBS)?.insert(key.as_str(), row)?;
            }
            1 => {
                let row = (field(&mut input), field(&mut input));
                transaction.open_table(CHAINS)?.insert(key.as_str(), row)?;
            }
            2 => {
                let (used, media_type) = (input.u64(), String::from_utf8_lossy(field(&mut input)));
                let row = (used, &*media_type, field(&mut input));
                transaction.open_table(MANIFESTS)?.insert(key.as_str(), row)?;
            }
            _ => {
                let mark = ["version", "clean", key.as_str()][usize::from(input.u8() % 3)];
                transaction.open_table(MARKS)?.insert(mark, input.u64())?;
            }
        }
    }
    transaction.commit()?;
    let file = dir.join(blob_path());
    fs::create_dir_all(file.parent().expect("a directory"))?;
    fs::write(file, CONTENT)?;
    Ok(())
}

fn field<'a>(input: &mut Input<'a>) -> &'a [u8] {
    let len = input.u16();
    input.bytes(len.into())
}

/// In memory where that goes: each input syncs a dozen times.
fn temporary_dir() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a temporary directory")
}

fn digest() -> Digest {
    Digest::sha256(&CONTENT)
}

fn blob_path() -> PathBuf {
    let encoded = digest().encoded();
    Path::new("blobs/sha256").join(&encoded[..2]).join(encoded)
}

fn open(dir: &Path) -> Store {
    let options = Options {
        quota_bytes: 1 << 30,
        free_floor: 0.0,
        sync_interval: Duration::from_secs(3600),
        ..Options::new(dir)
    };
    Store::open(options).expect("a damaged cache is no reason not to start")
}

/// Stores the whole blob, as far as it is not there. It cannot be where a row says that another chain was proven, which
/// only the store writes.
async fn fill(store: &Store) -> bool {
    let layout = PieceLayout::new(CONTENT.len() as u64, PIECE_LEN).expect("a layout");
    if store.get(&digest()).is_some_and(|blob| blob.layout() != layout) {
        assert!(store.evict(&digest()).await.expect("a store that works"), "nobody holds it");
    }
    let blob = store.create(&digest(), layout).await.expect("room for a blob");
    let mut states = vec![State::initial(digest().algorithm())];
    let piece = |piece| {
        let range = layout.range(piece);
        let [start, end] = [range.start(), range.end()].map(|at| usize::try_from(at).expect("a small blob"));
        &CONTENT[start..end]
    };
    for index in layout.pieces() {
        let before = states[index.as_usize()];
        states.push(hash_piece(layout, index, &before, piece(index)).expect("a piece of its length"));
    }
    if blob.learn_states(0, &states).is_err() {
        if blob.is_closed() {
            return false;
        }
        // What was stored of the chain is false: the engine does the same then.
        blob.forget_states().await.expect("a store that works");
        blob.learn_states(0, &states).expect("the true chain");
    }
    for index in layout.pieces() {
        if !blob.has(index) || blob.read_piece(index).await.is_err() {
            blob.write_piece(index, piece(index).into()).await.expect("the true bytes");
        }
    }
    blob.close().await.expect("a true chain");
    true
}

/// Whatever the store gives out is true.
async fn check(store: &Store) {
    for summary in store.list() {
        assert_eq!(summary.pieces.count(), summary.layout.count());
        let Some(blob) = store.get(&summary.digest) else { continue };
        read(&blob).await;
    }
    for digest in [Digest::sha256(MANIFEST), Digest::sha256(&[]), digest()] {
        if let Some(manifest) = store.get_manifest(&digest).await.expect("a store that works") {
            assert!(digest.matches(&manifest.bytes), "a manifest with another digest");
        }
    }
    let stats = store.stats();
    assert!(stats.bytes <= stats.quota_bytes, "{} bytes", stats.bytes);
}

/// Reads each piece that is there; how many were given out.
async fn read(blob: &Blob) -> u32 {
    let layout = blob.layout();
    let mut read = 0;
    for index in layout.pieces().take(64) {
        let Ok(bytes) = blob.read_piece(index).await else { continue };
        read += 1;
        assert_eq!(bytes.len(), layout.len_of(index) as usize);
        let chain = blob.chain();
        if *blob.digest() == digest() && chain.is_whole() && layout.piece_len() == PIECE_LEN {
            let start = index.as_usize() * PIECE_LEN as usize;
            assert_eq!(bytes[..], CONTENT[start..start + bytes.len()], "bytes that do not match");
        }
        if blob.is_complete() {
            assert!(chain.verify(PieceIndex(index.0), &bytes).is_some_and(|found| found.is_ok()));
        }
    }
    read
}
