//! WebSockets: the handshake, the bytes, and how a tunnel ends.

use std::io::{Read, Write};
use std::time::Duration;

use cutover_model::{Color, Split};
use cutover_proxy::message::{Class, Drain, Rest};

use super::harness::{Client, Site, Then, Upstream, app, count, runtime, settings, spec, until};

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const CLOSE_1001: [u8; 4] = [0x88, 0x02, 0x03, 0xE9];

/// A text frame from a client, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Echoes every byte after the handshake; an ordinary request is answered with the name.
fn echo(name: &'static str) -> Upstream {
    Upstream::start(move |served| {
        if served.request.field("upgrade").is_none() {
            return served.ok(name);
        }
        served.write(SWITCHING);
        let mut bytes = [0; 4096];
        while let Ok(read) = served.reader.read(&mut bytes) {
            if read == 0 || served.stream.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        Then::Close
    })
}

fn open(site: &Site) -> Client {
    let mut client = site.client();
    let answer = client.ask(HANDSHAKE);
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert_eq!(answer.field("connection"), Some("upgrade"));
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client
}

fn echoes(client: &mut Client, text: &str) {
    let frame = frame(text);
    client.send(&frame);
    assert_eq!(client.bytes(frame.len()), frame);
}

fn drain(site: &Site, deadline: Duration, rest: Rest) -> cutover_proxy::message::Drained {
    let drain = Drain { app: app("shop"), color: Color::Blue, deadline, rest };
    runtime().block_on(site.proxy.drain(drain))
}

#[test]
fn bytes_pass_both_ways() {
    let upstream = echo("blue");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = open(&site);
    let seen = &upstream.requests()[0];
    assert_eq!(seen.field("upgrade"), Some("websocket"));
    assert_eq!(seen.field("connection"), Some("upgrade"));
    for text in ["one", "two", "three"] {
        echoes(&mut client, text);
    }
    let flights = site.proxy.switch().in_flight(&app("shop"), Color::Blue);
    assert_eq!((flights.requests, flights.tunnels), (0, 1));
    drop(client);
    until("the upstream sees the end", || upstream.closed() == 1);
    until("the lease is given back", || {
        site.proxy.switch().in_flight(&app("shop"), Color::Blue) == Default::default()
    });
}

#[test]
fn what_was_sent_before_the_tunnel_stood_is_not_lost() {
    let upstream = echo("blue");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    let early = frame("early");
    client.send([HANDSHAKE.as_bytes(), &early].concat());
    assert_eq!(client.answer().status(), 101);
    assert_eq!(client.bytes(early.len()), early);
}

#[test]
fn much_passes_in_spite_of_full_buffers() {
    let upstream = echo("blue");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = open(&site);
    let piece: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut stream = client.stream.try_clone().unwrap();
    let copy = piece.clone();
    let writer = std::thread::spawn(move || stream.write_all(&copy).unwrap());
    assert!(client.bytes(piece.len()) == piece);
    writer.join().unwrap();
}

#[test]
fn an_upgrade_that_connection_does_not_list_is_dropped() {
    let upstream = Upstream::says("plain");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    for lines in [
        "Upgrade: websocket",
        "Connection: keep-alive\r\nUpgrade: websocket",
        "Connection: upgrade\r\nUpgrade: h2c",
        "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c",
        "Connection: upgrade\r\nUpgrade: websocket, h2c",
        "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n\r\n");
        assert_eq!(site.client().ask(&request).text(), "plain", "{lines}");
    }
    for seen in upstream.requests() {
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(seen.field(name), None);
        }
    }
}

#[test]
fn an_upstream_may_decline() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    for _ in 0..2 {
        let answer = client.ask(HANDSHAKE);
        assert_eq!((answer.status(), answer.text().as_str()), (403, "no"));
    }
}

#[test]
fn a_tunnel_outlives_a_cutover_until_the_drains_deadline() {
    let (blue, green) = (echo("blue"), echo("green"));
    let site = Site::of(spec("shop", &[blue.address], &[green.address]));
    let mut client = open(&site);
    echoes(&mut client, "before");
    site.shift("shop", Split::all(Color::Green));
    assert_eq!(site.get("/").text(), "green");
    echoes(&mut client, "after");
    let left = drain(&site, Duration::from_millis(50), Rest::Leave);
    assert_eq!((left.requests, left.tunnels, left.left), (0, 1, 1));
    echoes(&mut client, "still");
    let ended = drain(&site, Duration::from_millis(50), Rest::End);
    assert_eq!((ended.tunnels, ended.left), (1, 1));
    assert_eq!(client.rest(), CLOSE_1001);
    until("the upstream sees the end", || blue.closed() >= 1);
    assert_eq!(site.proxy.switch().in_flight(&app("shop"), Color::Blue), Default::default());
}

#[test]
fn the_close_comes_after_the_frame_that_is_under_way() {
    let upstream = echo("blue");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = open(&site);
    let whole = frame("0123456789");
    let (first, second) = whole.split_at(9);
    client.send(first);
    assert_eq!(client.bytes(9), first);
    std::thread::scope(|scope| {
        scope.spawn(|| drain(&site, Duration::ZERO, Rest::End));
        // The deadline has passed; the rest of the frame still comes.
        std::thread::park_timeout(Duration::from_millis(200));
        client.send(second);
        assert_eq!(client.bytes(second.len()), second);
        assert_eq!(client.rest(), CLOSE_1001);
    });
}

#[test]
fn both_ends_are_told_that_the_tunnel_goes_away() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let upstream = Upstream::start(move |served| {
        served.write(SWITCHING);
        let mut all = Vec::new();
        served.reader.read_to_end(&mut all).ok();
        tell.lock().unwrap().send(all).ok();
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = open(&site);
    drain(&site, Duration::ZERO, Rest::End);
    assert_eq!(client.rest(), CLOSE_1001);
    let said = told.recv_timeout(super::harness::PATIENCE).unwrap();
    assert_eq!(said, [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE9]);
}

#[test]
fn a_silent_tunnel_has_a_deadline() {
    let upstream = echo("blue");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.timeouts.tunnel_idle = Duration::from_millis(150);
    // Nothing else may end it.
    settings.timeouts.idle = Duration::from_secs(3600);
    let site = Site::start(settings);
    let mut client = open(&site);
    echoes(&mut client, "hello");
    assert!(client.rest().is_empty());
    until("the upstream sees the end", || upstream.closed() == 1);
}

#[test]
fn a_tunnel_is_not_bound_by_the_deadlines_of_requests() {
    let upstream = echo("blue");
    let mut spec = spec("shop", &[upstream.address], &[]);
    spec.deadlines.answer = Duration::from_millis(100);
    spec.deadlines.progress = Duration::from_millis(100);
    let mut settings = settings(vec![spec]);
    settings.timeouts.idle = Duration::from_millis(100);
    settings.timeouts.header = Duration::from_millis(100);
    let site = Site::start(settings);
    let mut client = open(&site);
    std::thread::park_timeout(Duration::from_millis(500));
    echoes(&mut client, "still here");
}

#[test]
fn half_a_tunnel_may_close_first() {
    let upstream = Upstream::start(|served| {
        served.write(SWITCHING);
        let mut all = Vec::new();
        served.reader.read_to_end(&mut all).unwrap();
        served.stream.write_all(&all).unwrap();
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = open(&site);
    let last = frame("last words");
    client.send(&last);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), last);
}

#[test]
fn a_switch_to_another_protocol_is_a_bad_answer() {
    for lines in ["Connection: upgrade\r\nUpgrade: h2c\r\n", "Connection: upgrade\r\n"] {
        let upstream = Upstream::start(move |served| {
            served.write(format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n"))
        });
        let site = Site::of(spec("shop", &[upstream.address], &[]));
        let answer = site.client().ask(HANDSHAKE);
        assert_eq!(answer.status(), 502, "{lines:?}");
        until("it is charged", || count(&site.proxy, Class::Reset) == 1);
        until("the upstream's connection is closed", || upstream.closed() == 1);
    }
}
