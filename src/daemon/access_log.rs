//! The access log: one JSON line per request on a file, written aside.
//!
//! Requests never wait for it: the queue is bounded, what does not fit is lost and counted.
//! It is off unless the operator names a file.

use std::io::Write as _;
use std::path::PathBuf;

use cutover_proxy::AccessRecord;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Records that may wait for the disk: some hundred milliseconds of a busy host.
const QUEUE: usize = 8_192;

/// Opens the file and starts the writer; returns where the records go.
///
/// # Errors
/// When the file cannot be opened for appending.
pub fn start(
    path: Option<PathBuf>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<Option<mpsc::Sender<AccessRecord>>> {
    let Some(path) = path else { return Ok(None) };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
    let (sender, mut records) = mpsc::channel::<AccessRecord>(QUEUE);
    let stop = stop.clone();
    tasks.spawn_blocking(move || {
        let mut out = std::io::BufWriter::new(file);
        let runtime = tokio::runtime::Handle::current();
        let mut is_failing = false;
        loop {
            let next = runtime.block_on(async {
                tokio::select! {
                    record = records.recv() => record,
                    () = stop.cancelled() => None,
                }
            });
            let Some(record) = next else { break };
            let mut written = write(&mut out, &record);
            while let Ok(more) = records.try_recv() {
                written = written.and_then(|()| write(&mut out, &more));
            }
            let result = written.and_then(|()| out.flush());
            if let Err(error) = &result
                && !is_failing
            {
                tracing::warn!(%error, path = %path.display(), "the access log loses lines");
            }
            is_failing = result.is_err();
        }
    });
    Ok(Some(sender))
}

fn write(out: &mut impl std::io::Write, record: &AccessRecord) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}
