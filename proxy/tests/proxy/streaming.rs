//! Large and slow bodies: streamed, with back-pressure, never held whole.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::harness::{Site, Then, Upstream, spec, until};

const PIECE: usize = 64 * 1024;
/// More than all kernel and proxy buffers on the way together.
const HELD: usize = 32 * 1024 * 1024;

#[test]
fn a_client_that_does_not_read_stops_the_upstream() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let upstream = Upstream::start(move |served| {
        served.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; PIECE];
        while served.write(&piece) == Then::Keep {
            counter.fetch_add(PIECE, Ordering::SeqCst);
        }
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    settled(&sent);
    let held = sent.load(Ordering::SeqCst);
    assert!(held < HELD, "{held} bytes were taken for a client that reads nothing");
    // It goes on when the client reads.
    client.bytes(held + PIECE);
    until("more is sent", || sent.load(Ordering::SeqCst) > held);
}

#[test]
fn an_upstream_that_does_not_read_stops_the_client() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::raw(move |_| {
        wait.lock().unwrap().recv().ok();
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let mut client = site.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000000\r\n\r\n");
    let mut stream = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let piece = vec![b'x'; PIECE];
        while stream.write_all(&piece).is_ok() {
            counter.fetch_add(PIECE, Ordering::SeqCst);
        }
    });
    settled(&sent);
    let held = sent.load(Ordering::SeqCst);
    assert!(held < HELD, "{held} bytes were taken for an upstream that reads nothing");
    drop(go);
    drop(site);
    writer.join().unwrap();
}

/// Waits until a number has grown and then stays for a while.
fn settled(number: &AtomicUsize) {
    until("something is sent", || number.load(Ordering::SeqCst) > 0);
    let mut last = 0;
    until("it stops", || {
        let before = std::mem::replace(&mut last, number.load(Ordering::SeqCst));
        std::thread::park_timeout(Duration::from_millis(150));
        before == last && last == number.load(Ordering::SeqCst)
    });
}

#[test]
fn pieces_pass_as_they_come() {
    let upstream = Upstream::raw(|served| {
        served.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // Echoes each chunk as soon as it is there.
        for _ in 0..3 {
            let mut chunk = [0; 6];
            served.reader.read_exact(&mut chunk).unwrap();
            served.write(chunk);
        }
        served.write("0\r\n\r\n");
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    for chunk in ["1\r\na\r\n", "1\r\nb\r\n", "1\r\nc\r\n"] {
        client.send(chunk);
        assert_eq!(client.bytes(6), chunk.as_bytes());
    }
}

#[test]
fn a_large_body_arrives_whole_both_ways() {
    let upstream = Upstream::start(|served| {
        let body = std::mem::take(&mut served.request.body);
        served.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
        served.write(body)
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let body: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut client = site.client();
    let mut stream = client.stream.try_clone().unwrap();
    let copy = body.clone();
    let writer = std::thread::spawn(move || {
        let head =
            format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", copy.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&copy).unwrap();
    });
    let answer = client.answer();
    writer.join().unwrap();
    assert!(answer.body == body);
}

#[test]
fn a_large_upload_that_is_answered_early_gets_its_answer() {
    // Says no after the head and does not read on.
    let upstream = Upstream::raw(|served| {
        served
            .write("HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope");
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    for _ in 0..10 {
        let mut client = site.client();
        let length = 8 * 1024 * 1024;
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n"));
        // A client that sends everything before it reads.
        client.send(vec![b'x'; length]);
        assert_eq!(client.answer().status(), 413);
    }
}

#[test]
fn a_request_that_nobody_serves_gets_its_answer_in_spite_of_its_body() {
    let mut nowhere = spec("shop", &[], &[]);
    nowhere.routes[0].host = Some("else.test".into());
    let site = Site::of(nowhere);
    let length = 4 * 1024 * 1024;
    let mut client = site.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n"));
    client.send(vec![b'x'; length]);
    assert_eq!(client.answer().status(), 404);
}
