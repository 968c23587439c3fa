//! The one way a role is asked to stop: SIGTERM or SIGINT. As process 1 of a container it must
//! ask for these signals itself, the kernel delivers no default action to process 1.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Becomes true once, when the process was asked to stop.
pub(crate) type Stop = watch::Receiver<bool>;

pub(crate) fn on_signal() -> std::io::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
        // Keeps the sender alive, so that a receiver sees a value and never a closed channel.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}

/// Returns when the stop was asked for.
pub(crate) async fn asked(mut stop: Stop) {
    if stop.wait_for(|asked| *asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}
