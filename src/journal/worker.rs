//! A thread that owns one thing, and asynchronous calls to it that have a time limit.
//!
//! The journal's writer, its reader and the weights file each live on such a thread, so that a disk
//! that hangs stops nobody but the thread itself.
//! Invariant: a call that gave up before its turn is not carried out.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkerError {
    /// The queue is full; the call was not carried out.
    Busy,
    /// No answer in time; unknown whether it was carried out.
    Slow,
    /// The thread has ended.
    Gone,
}

/// The handle of the thread; when it is dropped the thread finishes its queue and ends.
#[derive(Debug)]
pub(super) struct Worker<S> {
    queue: SyncSender<Job<S>>,
    thread: JoinHandle<()>,
}

impl<S: Send + 'static> Worker<S> {
    /// Starts a thread that owns `thing`, with room for `bound` waiting calls, and that runs `rest`
    /// once whenever nothing was asked for `idle`.
    pub(super) fn start(
        name: &str,
        bound: usize,
        idle: Duration,
        thing: S,
        rest: fn(&mut S),
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(bound);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(thing, &jobs, idle, rest))?;
        Ok(Self { queue, thread })
    }

    /// Asks the thread to do something and waits for the answer, at most `limit`.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, WorkerError> {
        let (reply, answer) = oneshot::channel();
        let job: Job<S> = Box::new(move |thing| {
            if reply.is_closed() {
                return;
            }
            let result = work(thing);
            if reply.send(result).is_err() {
                tracing::warn!("the disk answered after its caller had given up");
            }
        });
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => WorkerError::Busy,
            TrySendError::Disconnected(_) => WorkerError::Gone,
        })?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(WorkerError::Gone),
            Err(_) => Err(WorkerError::Slow),
        }
    }

    /// Ends the thread once its queue is empty; waits at most `limit`.
    pub(super) async fn end(self, limit: Duration) -> Result<(), WorkerError> {
        drop(self.queue);
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        match tokio::time::timeout(limit, joined).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(_) => Err(WorkerError::Gone),
            Err(_) => Err(WorkerError::Slow),
        }
    }
}

fn run<S>(mut thing: S, jobs: &Receiver<Job<S>>, idle: Duration, rest: fn(&mut S)) {
    loop {
        match jobs.recv_timeout(idle) {
            Ok(job) => job(&mut thing),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                rest(&mut thing);
                match jobs.recv() {
                    Ok(job) => job(&mut thing),
                    Err(_) => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    fn start(bound: usize) -> Worker<u32> {
        Worker::start("test", bound, Duration::from_secs(60), 0, |_| ()).unwrap()
    }

    /// A worker whose thread stands at a gate until the sender is dropped.
    async fn held(bound: usize) -> (Arc<Worker<u32>>, std::sync::mpsc::Sender<()>) {
        let worker = Arc::new(start(bound));
        let (open, gate) = channel::<()>();
        let (begun, entered) = oneshot::channel();
        let first = Arc::clone(&worker);
        tokio::spawn(async move {
            let stand = move |_: &mut u32| {
                begun.send(()).ok();
                gate.recv().ok();
            };
            first.call(Duration::from_secs(60), stand).await
        });
        entered.await.unwrap();
        (worker, open)
    }

    #[tokio::test]
    async fn a_call_that_gave_up_before_its_turn_is_not_carried_out() {
        let (worker, open) = held(8).await;
        let late = worker.call(Duration::ZERO, |n| *n += 1).await;
        assert_eq!(late, Err(WorkerError::Slow));
        drop(open);
        let seen = worker.call(Duration::from_secs(10), |n| *n).await;
        assert_eq!(seen, Ok(0), "the late call must not have been carried out");
    }

    #[tokio::test]
    async fn a_full_queue_answers_at_once() {
        let (worker, open) = held(1).await;
        assert_eq!(worker.call(Duration::ZERO, |n| *n).await, Err(WorkerError::Slow));
        let answer = worker.call(Duration::from_secs(60), |n| *n).await;
        assert_eq!(answer, Err(WorkerError::Busy));
        drop(open);
    }

    #[tokio::test]
    async fn a_panic_on_the_thread_is_an_error_and_no_hang() {
        let worker = start(1);
        let first: Result<(), _> = worker.call(Duration::from_secs(10), |_| panic!("test")).await;
        assert_eq!(first, Err(WorkerError::Gone));
        let next = worker.call(Duration::from_secs(10), |n| *n).await;
        assert_eq!(next, Err(WorkerError::Gone));
    }
}
