//! The weights file: the split of every app, in a place that a full disk cannot take away.
//!
//! Two slots of a fixed size, written in turn, in place, each with a checksum and a sequence
//! number; the file has its full size from the start, so that writing allocates nothing. Holds only
//! what a start needs to serve on the right color. The journal is the record; the higher number of
//! a move wins. Invariant: the newest whole slot is never the one being written, so a kill or a
//! power cut at any byte leaves the old content or the new one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_model::{AppName, Millis, OperationId, Salt, Split};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::record::{Hash, digest};
use super::worker::{Worker, WorkerError};
use super::{JournalError, disk};

/// The name of the file in the state folder.
pub const FILE: &str = "weights";

/// Bytes of one slot: about 300 apps.
pub const SLOT: usize = 64 * 1024;

/// Bytes of a slot's head: mark, form, length of the content, sequence number, checksum.
const HEAD: usize = 8 + 4 + 4 + 8 + 32;

const MARK: &[u8; 8] = b"CtOvWgt\n";
const FORM: u32 = 1;

/// Bytes of a reason that are kept.
const REASON: usize = 80;

/// Calls that may wait; each one is a shift or a cut-back that waits for its answer.
const QUEUE: usize = 64;

/// The split of one app, and the move that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The split in force.
    pub split: Split,
    /// The salt of the rollout.
    pub salt: Salt,
    /// The number of the move that made it; counts up by app, in the journal too.
    pub number: u64,
    /// When, by the wall clock.
    pub at: Millis,
    /// The operation that moved it.
    pub operation: Option<OperationId>,
    /// Why, cut to 80 bytes.
    pub reason: String,
}

/// Which record of an app's split is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newer {
    /// The weights file: a move was made that the journal does not know yet.
    File,
    /// The journal, or both agree.
    Journal,
}

impl Entry {
    /// Compares with the number of the last move that the journal knows; the higher one wins.
    #[must_use]
    pub fn against(&self, journal: u64) -> Newer {
        if self.number > journal { Newer::File } else { Newer::Journal }
    }
}

/// All entries, by app.
pub type Entries = BTreeMap<AppName, Entry>;

/// The open file.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    file: Option<File>,
    entries: Entries,
    sequence: u64,
    /// The slot that holds the newest content; the other one is written next.
    newest: usize,
}

/// What one slot holds.
#[derive(Debug)]
enum SlotContent {
    Whole(u64, Entries),
    /// Never written.
    Empty,
    /// Torn or damaged.
    Broken,
    Newer(u32),
}

impl WeightsFile {
    /// Opens the file, or makes it with its full size.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] when neither slot is whole though the file was in use,
    /// [`JournalError::Newer`], [`JournalError::Unsafe`], [`JournalError::Full`],
    /// [`JournalError::Disk`].
    pub fn open(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join(FILE);
        if disk::read_file(&path, 2 * SLOT as u64)?.is_none() {
            // Written, not only sized: the blocks must be there when the disk is full.
            disk::replace_file(&path, &vec![0; 2 * SLOT])?;
        }
        let mut weights =
            Self { path, file: None, entries: Entries::new(), sequence: 0, newest: 1 };
        weights.reopen()?;
        Ok(weights)
    }

    /// Reads the file without opening it for writing; `None` when there is none.
    ///
    /// # Errors
    /// As [`WeightsFile::open`].
    pub fn read(folder: &Path) -> Result<Option<Entries>, JournalError> {
        let path = folder.join(FILE);
        let Some(bytes) = disk::read_file(&path, 2 * SLOT as u64)? else { return Ok(None) };
        Ok(Some(newest(&path, &bytes)?.2))
    }

    /// The entries in force.
    #[must_use]
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Sets an app's entry, on disk when this returns. A move that is older than the entry's is
    /// left out: of two moves the later one counts, whichever reaches the disk first.
    ///
    /// # Errors
    /// [`JournalError::Refused`] when there are too many apps; [`JournalError::Full`] (only on file
    /// systems that write elsewhere than in place), [`JournalError::Disk`]: the file then says the
    /// old or the new, and the next call opens it again.
    pub fn set(&mut self, app: &AppName, entry: Entry) -> Result<(), JournalError> {
        self.ready()?;
        if self.entries.get(app).is_some_and(|now| now.number > entry.number) {
            return Ok(());
        }
        let mut entries = self.entries.clone();
        let reason = cut(&entry.reason);
        entries.insert(app.clone(), Entry { reason, ..entry });
        self.write(entries)
    }

    /// Forgets an app.
    ///
    /// # Errors
    /// As [`WeightsFile::set`].
    pub fn remove(&mut self, app: &AppName) -> Result<(), JournalError> {
        self.ready()?;
        let mut entries = self.entries.clone();
        if entries.remove(app).is_none() {
            return Ok(());
        }
        self.write(entries)
    }

    fn ready(&mut self) -> Result<(), JournalError> {
        if self.file.is_none() { self.reopen() } else { Ok(()) }
    }

    fn reopen(&mut self) -> Result<(), JournalError> {
        let failed = |step, error: &std::io::Error| JournalError::io(&self.path, step, error);
        let mut file = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&self.path)
            .map_err(|error| failed("opening", &error))?;
        let mut bytes = Vec::with_capacity(2 * SLOT);
        file.read_to_end(&mut bytes).map_err(|error| failed("reading", &error))?;
        (self.newest, self.sequence, self.entries) = newest(&self.path, &bytes)?;
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, entries: Entries) -> Result<(), JournalError> {
        let sequence = self.sequence + 1;
        let bytes = encode(sequence, &entries)?;
        let slot = 1 - self.newest;
        let failed = |step, error: &std::io::Error| JournalError::io(&self.path, step, error);
        // Taken out: after an error the file is opened and read again, never synced a second time.
        let mut file = self.file.take().ok_or(JournalError::Gone)?;
        // CRASH: a reader finds this slot old, new or broken, and the other one whole.
        file.seek(SeekFrom::Start((slot * SLOT) as u64))
            .and_then(|_| file.write_all(&bytes))
            .map_err(|error| failed("writing", &error))?;
        file.sync_data().map_err(|error| failed("syncing", &error))?;
        (self.file, self.sequence, self.newest) = (Some(file), sequence, slot);
        self.entries = entries;
        Ok(())
    }
}

fn cut(reason: &str) -> String {
    reason
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= REASON).then_some(c)
        })
        .collect()
}

fn sum(sequence: u64, content: &[u8]) -> Hash {
    digest(&[b"cutover.weights", &FORM.to_be_bytes(), &sequence.to_be_bytes(), content])
}

fn encode(sequence: u64, entries: &Entries) -> Result<Vec<u8>, JournalError> {
    let refused = |text: String| JournalError::Refused(text);
    let content = serde_json::to_vec(entries).map_err(|error| refused(error.to_string()))?;
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    if HEAD + content.len() > SLOT {
        return Err(refused(format!(
            "the weights of {} apps need more than {SLOT} bytes; serve fewer apps",
            entries.len()
        )));
    }
    let mut bytes = Vec::with_capacity(HEAD + content.len());
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(&FORM.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&sum(sequence, &content));
    bytes.extend_from_slice(&content);
    Ok(bytes)
}

fn decode(slot: &[u8]) -> SlotContent {
    decode_whole(slot).unwrap_or_else(|| {
        if slot.iter().all(|byte| *byte == 0) { SlotContent::Empty } else { SlotContent::Broken }
    })
}

fn decode_whole(slot: &[u8]) -> Option<SlotContent> {
    if slot.get(..8)? != MARK {
        return None;
    }
    let form = u32::from_be_bytes(slot.get(8..12)?.try_into().ok()?);
    if form > FORM {
        return Some(SlotContent::Newer(form));
    }
    let length = u32::from_be_bytes(slot.get(12..16)?.try_into().ok()?);
    let sequence = u64::from_be_bytes(slot.get(16..24)?.try_into().ok()?);
    let content = slot.get(HEAD..HEAD.checked_add(usize::try_from(length).ok()?)?)?;
    if slot.get(24..HEAD)? != sum(sequence, content) {
        return None;
    }
    Some(SlotContent::Whole(sequence, serde_json::from_slice(content).ok()?))
}

/// The newest whole slot: its index, its sequence number, its entries.
fn newest(path: &Path, bytes: &[u8]) -> Result<(usize, u64, Entries), JournalError> {
    let corrupt =
        |what: &str| JournalError::Corrupt { path: path.to_owned(), what: what.to_owned() };
    if bytes.len() != 2 * SLOT {
        return Err(corrupt("it does not have its size"));
    }
    let (first, second) = bytes.split_at(SLOT);
    match (decode(first), decode(second)) {
        (SlotContent::Whole(a, first), SlotContent::Whole(b, second)) => {
            Ok(if a > b { (0, a, first) } else { (1, b, second) })
        }
        (SlotContent::Whole(a, entries), SlotContent::Empty | SlotContent::Broken) => {
            Ok((0, a, entries))
        }
        (SlotContent::Empty | SlotContent::Broken, SlotContent::Whole(b, entries)) => {
            Ok((1, b, entries))
        }
        // A broken first slot beside an empty second one is a kill within the very first write.
        (SlotContent::Empty | SlotContent::Broken, SlotContent::Empty) => {
            Ok((1, 0, Entries::new()))
        }
        (SlotContent::Newer(form), _) | (_, SlotContent::Newer(form)) => {
            let what = format!("form {form}");
            Err(JournalError::Newer { path: path.to_owned(), what, known: FORM })
        }
        (_, SlotContent::Broken) => Err(corrupt("neither of its two parts is whole")),
    }
}

/// The weights file on a thread of its own, for callers that must not wait for a slow disk.
#[derive(Debug)]
pub struct Weights {
    /// Or why the file is not used: it is then left as it is.
    worker: Result<Worker<WeightsFile>, JournalError>,
    limit: Duration,
}

impl Weights {
    /// Moves the file to its thread; calls wait at most `limit`.
    ///
    /// # Errors
    /// [`JournalError::Disk`] when no thread can be started.
    pub fn start(file: WeightsFile, limit: Duration) -> Result<Self, JournalError> {
        let path = file.path.clone();
        let worker = Worker::start("weights", QUEUE, Duration::from_secs(3600), file, |_| ())
            .map_err(|error| JournalError::io(&path, "starting its thread", &error))?;
        Ok(Self { worker: Ok(worker), limit })
    }

    /// For a file that cannot be used: every call says why, and nothing touches it.
    #[must_use]
    pub fn closed(why: JournalError) -> Self {
        Self { worker: Err(why), limit: Duration::ZERO }
    }

    /// See [`WeightsFile::set`].
    ///
    /// # Errors
    /// As there, and [`JournalError::Slow`] (the write is in doubt) and [`JournalError::Busy`].
    pub async fn set(&self, app: &AppName, entry: Entry) -> Result<(), JournalError> {
        let app = app.clone();
        self.call(move |file| file.set(&app, entry)).await
    }

    /// See [`WeightsFile::remove`].
    ///
    /// # Errors
    /// As [`Weights::set`].
    pub async fn remove(&self, app: &AppName) -> Result<(), JournalError> {
        let app = app.clone();
        self.call(move |file| file.remove(&app)).await
    }

    /// The entries in force.
    ///
    /// # Errors
    /// As [`Weights::set`].
    pub async fn entries(&self) -> Result<Entries, JournalError> {
        self.call(|file| Ok(file.entries().clone())).await
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut WeightsFile) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let worker = self.worker.as_ref().map_err(JournalError::clone)?;
        worker.call(self.limit, work).await.map_err(|error| match error {
            WorkerError::Busy => JournalError::Busy,
            WorkerError::Slow => JournalError::Slow { limit: self.limit },
            WorkerError::Gone => JournalError::Gone,
        })?
    }
}

#[cfg(test)]
mod tests;
