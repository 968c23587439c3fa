//! An engine that falls silent, and what is known when it answers again.

use std::time::Duration;

use cutover::host::docker::{Events, Notice, Watch};

#[tokio::test]
async fn a_silent_engine_is_noticed_and_everything_is_listed_again_when_it_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("docker.sock");
    let (gate, open) = tokio::sync::watch::channel(true);
    let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
    let proxy = tokio::spawn(forward(listener, open));
    let watch = Watch { socket: Some(socket.clone()), projects: vec!["nobody".to_owned()] };
    let mut events = Events::start(watch);
    assert_eq!(next(&mut events).await, Notice::Relist);
    gate.send_replace(false);
    let away = next(&mut events).await;
    assert!(matches!(away, Notice::Away { .. }), "{away:?}");
    gate.send_replace(true);
    loop {
        match next(&mut events).await {
            Notice::Relist => break,
            Notice::Away { .. } => {}
            other => panic!("{other:?} before the listing"),
        }
    }
    proxy.abort();
}

/// Passes bytes on to the engine while the gate is open, and keeps silent while it is closed.
async fn forward(listener: tokio::net::UnixListener, open: tokio::sync::watch::Receiver<bool>) {
    loop {
        let (client, _) = listener.accept().await.expect("accepted");
        let open = open.clone();
        tokio::spawn(async move {
            let engine = tokio::net::UnixStream::connect("/var/run/docker.sock").await;
            let (from, to) = client.into_split();
            let (back, forth) = engine.expect("the engine").into_split();
            tokio::join!(pass(from, forth, open.clone()), pass(back, to, open));
        });
    }
}

async fn pass(
    mut from: tokio::net::unix::OwnedReadHalf,
    mut to: tokio::net::unix::OwnedWriteHalf,
    mut open: tokio::sync::watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    to.shutdown().await.ok();
}

/// The next notice of the engine.
pub(super) async fn next(events: &mut Events) -> Notice {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, events.next()).await.expect("in time").expect("still watching")
}
