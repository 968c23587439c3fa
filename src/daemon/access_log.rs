//! The access log: one JSON line per request on a file, written aside.
//!
//! Requests never wait for it: the queue is bounded, what does not fit is lost and counted.
//! It is off unless the operator names a file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cutover_proxy::AccessRecord;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::status::Troubles;

/// Records that may wait for the disk: some hundred milliseconds of a busy host.
const QUEUE: usize = 8_192;

/// How long a file that cannot be opened is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Starts the writer, which opens the file; returns where the records go. A file that cannot be
/// opened is tried again: until then its lines are lost, and the status says so.
#[must_use]
pub fn start(
    path: Option<PathBuf>,
    troubles: &Arc<Troubles>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Option<mpsc::Sender<AccessRecord>> {
    let path = path?;
    let (sender, records) = mpsc::channel::<AccessRecord>(QUEUE);
    let (stop, troubles) = (stop.clone(), Arc::clone(troubles));
    tasks.spawn_blocking(move || {
        let runtime = tokio::runtime::Handle::current();
        runtime.block_on(follow(&path, records, &troubles, stop));
    });
    Some(sender)
}

async fn follow(
    path: &Path,
    mut records: mpsc::Receiver<AccessRecord>,
    troubles: &Troubles,
    stop: CancellationToken,
) {
    let (mut out, mut is_failing) = (open(path, troubles), false);
    loop {
        let next = tokio::select! {
            record = records.recv() => record,
            () = tokio::time::sleep(RETRY), if out.is_none() => {
                out = open(path, troubles);
                continue;
            }
            () = stop.cancelled() => None,
        };
        let Some(record) = next else { break };
        let Some(out) = &mut out else { continue };
        let mut written = write(out, &record);
        while let Ok(more) = records.try_recv() {
            written = written.and_then(|()| write(out, &more));
        }
        let result = written.and_then(|()| out.flush());
        if let Err(error) = &result
            && !is_failing
        {
            tracing::warn!(%error, path = %path.display(), "the access log loses lines");
        }
        is_failing = result.is_err();
    }
}

fn open(path: &Path, troubles: &Troubles) -> Option<BufWriter<File>> {
    const WHAT: &str = "[proxy] access_log";
    // A pipe that nobody reads must not hold the writer up.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = File::options().create(true).append(true).custom_flags(nonblocking).open(path);
    match opened {
        Ok(file) => {
            troubles.ended(WHAT);
            Some(BufWriter::new(file))
        }
        Err(error) => {
            let path = path.display();
            troubles.note(WHAT, format!("{path} cannot be written: its lines are lost: {error}"));
            None
        }
    }
}

fn write(out: &mut impl std::io::Write, record: &AccessRecord) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}
