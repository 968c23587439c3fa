//! Deadlines at every stage; each of these would hang for ever without one.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use cutover_model::Color;
use cutover_proxy::message::{AppSpec, Class};
use cutover_proxy::{ProxySettings, Timeouts};
use socket2::{Domain, Socket, Type};

use super::harness::{Client, Site, Then, Upstream, app, charged, count, settings, spec, until};

const SHORT: Duration = Duration::from_millis(150);

/// A site with one short deadline.
fn site(spec: AppSpec, change: impl FnOnce(&mut Timeouts)) -> Site {
    let mut settings: ProxySettings = settings(vec![spec]);
    change(&mut settings.timeouts);
    Site::start(settings)
}

/// The connection is closed after the deadline and not before; returns what was said.
fn closes_in_time(client: &mut Client) -> String {
    let began = Instant::now();
    let said = client.rest();
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    String::from_utf8(said).unwrap()
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let site = site(spec("shop", &[], &[]), |t| t.first_byte = SHORT);
    assert_eq!(closes_in_time(&mut site.client()), "");
}

#[test]
fn a_head_that_never_ends_is_answered_408() {
    let site = site(spec("shop", &[], &[]), |t| t.header = SHORT);
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.t");
    assert!(closes_in_time(&mut client).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_head_byte_by_byte_has_one_deadline_in_all() {
    let site = site(spec("shop", &[], &[]), |t| t.header = SHORT);
    let mut client = site.client();
    let began = Instant::now();
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    for byte in "GET / HTTP/1.1\r\nX: ".bytes().chain(std::iter::repeat_n(b'x', 1_000)) {
        use std::io::{Read, Write};
        if client.stream.write_all(&[byte]).is_err() {
            break;
        }
        let mut answer = [0; 16];
        if let Ok(read) = client.stream.read(&mut answer) {
            assert!(read == 0 || answer.starts_with(b"HTTP/1.1 408"));
            break;
        }
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn an_idle_connection_is_closed_and_the_time_between_counts_anew() {
    let upstream = Upstream::says("ok");
    let site = site(spec("shop", &[upstream.address], &[]), |t| t.idle = SHORT);
    let mut client = site.client();
    for _ in 0..3 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").status(), 200);
    }
    assert_eq!(closes_in_time(&mut client), "");
}

#[test]
fn a_body_that_stops_is_answered_408_and_charged_to_nobody() {
    let upstream = Upstream::says("ok");
    let site = site(spec("shop", &[upstream.address], &[]), |t| t.body = SHORT);
    let mut client = site.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc");
    let answer = client.answer();
    assert_eq!(answer.status(), 408);
    assert_eq!(charged(&site.proxy), 0);
    assert_eq!(count(&site.proxy, Class::ClientFault), 1);
    until("the upstream's connection is closed", || upstream.closed() == 1);
}

#[test]
fn a_client_that_takes_nothing_is_closed() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 64 * 1024];
        while served.write(&piece) == Then::Keep {}
        Then::Close
    });
    let site = site(spec("shop", &[upstream.address], &[]), |t| t.write = SHORT);
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    until("the upstream is cut off", || upstream.closed() == 1);
    until("the lease is given back", || {
        site.proxy.switch().in_flight(&app("shop"), Color::Blue) == Default::default()
    });
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn an_upstream_that_does_not_answer_is_504() {
    let upstream = Upstream::start(|served| {
        served.body();
        std::thread::park_timeout(Duration::from_secs(5));
        Then::Close
    });
    let mut spec = spec("shop", &[upstream.address], &[]);
    spec.deadlines.answer = SHORT;
    let site = Site::of(spec);
    let began = Instant::now();
    assert_eq!(site.get("/").status(), 504);
    assert!(began.elapsed() >= SHORT);
    assert_eq!(count(&site.proxy, Class::Timeout), 1);
}

#[test]
fn an_answer_that_stops_is_cut() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        std::thread::park_timeout(Duration::from_secs(5));
        Then::Close
    });
    let mut spec = spec("shop", &[upstream.address], &[]);
    spec.deadlines.progress = SHORT;
    let site = Site::of(spec);
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(client.try_answer(false).is_err());
    until("it is charged", || count(&site.proxy, Class::Reset) == 1);
}

#[test]
fn a_slow_answer_that_goes_on_is_not_cut() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        for _ in 0..10 {
            std::thread::park_timeout(SHORT / 3);
            served.write("x");
        }
        Then::Keep
    });
    let mut spec = spec("shop", &[upstream.address], &[]);
    spec.deadlines.progress = SHORT;
    let site = Site::of(spec);
    assert_eq!(site.get("/").text(), "xxxxxxxxxx");
}

#[test]
fn a_connection_that_cannot_be_made_has_a_deadline() {
    // A listener whose queue is full answers no SYN.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let full: TcpListener = socket.into();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, SHORT) {
        queued.push(stream);
    }
    let mut spec = spec("shop", &[address], &[]);
    spec.deadlines.connect = SHORT;
    let site = Site::of(spec);
    let began = Instant::now();
    assert_eq!(site.get("/").status(), 502);
    assert!(began.elapsed() >= SHORT && began.elapsed() < Duration::from_secs(3));
    assert_eq!(count(&site.proxy, Class::Connect), 1);
}

#[test]
fn a_head_with_bad_framing_that_never_ends_has_the_same_deadline() {
    for bad in ["Content-Length: x\r\n", "Transfer-Encoding: gzip\r\nX: y"] {
        let site = site(spec("shop", &[], &[]), |t| t.header = SHORT);
        let mut client = site.client();
        client.send(format!("GET / HTTP/1.1\r\n{bad}"));
        assert!(closes_in_time(&mut client).starts_with("HTTP/1.1 408 "), "{bad:?}");
        assert_eq!(charged(&site.proxy), 0);
    }
}

#[test]
fn the_time_of_the_answer_does_not_run_while_the_client_owes_its_body() {
    let upstream = Upstream::says("ok");
    let mut spec = spec("shop", &[upstream.address], &[]);
    spec.deadlines.answer = SHORT;
    let site = Site::of(spec);
    let mut client = site.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc");
    std::thread::park_timeout(SHORT * 4);
    client.send("defghij");
    assert_eq!(client.answer().status(), 200);
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn the_time_of_the_answer_runs_once_the_body_is_there() {
    for body in ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let upstream = Upstream::start(|_| {
            std::thread::park_timeout(Duration::from_secs(5));
            Then::Close
        });
        let mut spec = spec("shop", &[upstream.address], &[]);
        spec.deadlines.answer = SHORT;
        let site = Site::of(spec);
        let answer = site.client().ask(&format!("POST / HTTP/1.1\r\nHost: a.test\r\n{body}"));
        assert_eq!(answer.status(), 504, "{body:?}");
        assert_eq!(count(&site.proxy, Class::Timeout), 1);
    }
}

#[test]
fn a_client_that_takes_the_end_of_its_answer_slowly_is_not_idle() {
    // One of these sizes leaves a rest that is neither with the kernel nor with the upstream.
    const STEP: usize = 50_000;
    let upstream = Upstream::start(|served| {
        let size = served.request.start.split(['/', ' ']).nth(2).unwrap_or_default();
        served.ok(&"x".repeat(size.parse().unwrap_or(0)))
    });
    let site = site(spec("shop", &[upstream.address], &[]), |t| t.idle = SHORT);
    let mut clients: Vec<(usize, Client)> = Vec::new();
    for size in (1..=70).map(|steps| steps * STEP) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(&site.address.into()).unwrap();
        let mut client = Client::over(socket.into());
        client.send(format!("GET /{size} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        clients.push((size, client));
    }
    std::thread::park_timeout(SHORT * 5);
    for (size, mut client) in clients {
        assert_eq!(client.answer().body.len(), size);
    }
}
