//! Faults of clients: answered with 4xx or by closing, charged to no color (I16).

use std::net::Shutdown;
use std::time::Duration;

use cutover_model::Color;
use cutover_proxy::message::Class;
use socket2::SockRef;

use super::harness::{Site, Then, Upstream, app, charged, count, settings, spec, until};

fn site() -> (Upstream, Site) {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    (upstream, site)
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_bad_chunk_is_the_clients_fault() {
    for rest in ["zz\r\n", "3\r\nabcd\r\n0\r\n\r\n", "-3\r\n"] {
        let (upstream, site) = site();
        let mut client = site.client();
        client.send(format!("{CHUNKED}3\r\nabc\r\n"));
        until("the upstream has the head", || upstream.requests().len() == 1);
        client.send(rest);
        let answer = client.try_answer(false);
        if let Ok(Some(answer)) = &answer {
            assert_eq!(answer.status(), 400, "{rest:?}");
        }
        until("it is counted", || count(&site.proxy, Class::ClientFault) == 1);
        assert_eq!(charged(&site.proxy), 0, "{rest:?} {answer:?}");
    }
}

#[test]
fn a_body_that_is_cut_is_the_clients_fault() {
    for request in [
        format!("{CHUNKED}5\r\nab"),
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc".to_owned(),
    ] {
        let (upstream, site) = site();
        let mut client = site.client();
        client.send(&request);
        until("the upstream has the head", || upstream.requests().len() == 1);
        client.stream.shutdown(Shutdown::Write).unwrap();
        client.rest();
        until("it is counted", || count(&site.proxy, Class::ClientFault) == 1);
        assert_eq!(charged(&site.proxy), 0, "{request:?}");
        // The upstream saw the cut, not a whole message.
        until("the upstream's connection is closed", || upstream.closed() == 1);
    }
}

#[test]
fn a_reset_is_the_clients_fault() {
    let (upstream, site) = site();
    let mut client = site.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc");
    until("the upstream has the head", || upstream.requests().len() == 1);
    SockRef::from(&client.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    until("it is counted", || count(&site.proxy, Class::ClientFault) == 1);
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn a_client_that_leaves_before_the_answer_charges_nobody() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |served| {
        wait.lock().unwrap().recv().ok();
        served.ok("late")
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    until("the upstream has it", || upstream.requests().len() == 1);
    drop(client);
    until("it is counted", || count(&site.proxy, Class::ClientFault) == 1);
    assert_eq!(charged(&site.proxy), 0);
    drop(go);
}

#[test]
fn failures_of_the_upstream_are_charged_and_recorded() {
    let upstream =
        Upstream::start(|served| served.write("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"));
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let answer = site.get("/some/path?secret=1");
    assert_eq!(answer.status(), 503);
    let mut cursor = cutover_proxy::Cursor::default();
    let outcomes = site.proxy.outcomes(&mut cursor);
    assert_eq!(outcomes.failures.len(), 1);
    let failure = &outcomes.failures[0];
    assert_eq!(failure.path, "/some/path");
    assert_eq!((failure.class, failure.status), (Class::ServerError, Some(503)));
    assert_eq!(failure.release, Some(cutover_model::ReleaseId(1)));
    assert!(site.proxy.outcomes(&mut cursor).failures.is_empty());
    assert_eq!(charged(&site.proxy), 1);
}

/// Clients that break off at every point, in every way: nothing is leaked, nobody is charged.
#[test]
fn whatever_clients_do_nothing_is_leaked_and_nobody_is_charged() {
    let upstream = Upstream::start(|served| {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n".to_vec();
        answer.resize(answer.len() + 200_000, b'x');
        served.write(answer)
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let whole =
        format!("{CHUNKED}3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n");
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (whole, site) = (&whole, &site);
            scope.spawn(move || {
                for cut in (thread..whole.len()).step_by(4) {
                    let mut client = site.client();
                    client.send(&whole[..cut]);
                    match cut % 3 {
                        0 => drop(client),
                        1 => {
                            SockRef::from(&client.stream)
                                .set_linger(Some(std::time::Duration::ZERO))
                                .unwrap();
                        }
                        _ => {
                            client.stream.shutdown(Shutdown::Write).unwrap();
                            client.rest();
                        }
                    }
                }
            });
        }
    });
    let shop = super::harness::app("shop");
    until("all leases are given back", || {
        site.proxy.switch().in_flight(&shop, cutover_model::Color::Blue) == Default::default()
    });
    until("all connections are gone", || site.proxy.counts().connections == 0);
    assert_eq!(charged(&site.proxy), 0, "{:?}", site.proxy.counts());
    assert_eq!(site.get("/").body.len(), 200_000);
}

/// Answers at once, before it reads, and says back what comes.
fn answers_early() -> Upstream {
    Upstream::raw(|served| {
        use std::io::Read;
        served.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        let mut bytes = [0; 512];
        while matches!(served.reader.read(&mut bytes), Ok(read) if read > 0) {
            served.write("1\r\nx\r\n");
        }
        Then::Close
    })
}

#[test]
fn a_bad_chunk_behind_the_answers_head_is_the_clients_fault() {
    for leaves in [false, true] {
        let upstream = answers_early();
        let site = Site::of(spec("shop", &[upstream.address], &[]));
        let mut client = site.client();
        client.send(format!("{CHUNKED}3\r\nabc\r\n"));
        assert_eq!(client.head().status(), 200);
        client.send("zz\r\n");
        if leaves {
            client.stream.shutdown(Shutdown::Write).unwrap();
        }
        client.rest();
        until("it is counted", || count(&site.proxy, Class::ClientFault) == 1);
        assert_eq!(charged(&site.proxy), 0, "leaves: {leaves}");
    }
}

#[test]
fn a_client_that_leaves_in_its_body_behind_the_answers_head_charges_nobody() {
    for linger in [None, Some(Duration::ZERO)] {
        let upstream = answers_early();
        let site = Site::of(spec("shop", &[upstream.address], &[]));
        let mut client = site.client();
        client.send(format!("{CHUNKED}3\r\nabc\r\n"));
        assert_eq!(client.head().status(), 200);
        SockRef::from(&client.stream).set_linger(linger).unwrap();
        drop(client);
        until("the lease is given back", || {
            site.proxy.switch().in_flight(&app("shop"), Color::Blue) == Default::default()
        });
        assert_eq!(charged(&site.proxy), 0, "linger: {linger:?}");
    }
}

#[test]
fn a_client_that_stops_behind_the_answers_head_is_not_charged_to_the_color() {
    let (short, long) = (Duration::from_millis(150), Duration::from_millis(600));
    for (body, progress) in [(short, long), (long, short)] {
        let upstream = answers_early();
        let mut spec = spec("shop", &[upstream.address], &[]);
        spec.deadlines.progress = progress;
        let mut settings = settings(vec![spec]);
        settings.timeouts.body = body;
        let site = Site::start(settings);
        let mut client = site.client();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc");
        assert_eq!(client.head().status(), 200);
        let began = std::time::Instant::now();
        client.rest();
        assert!(began.elapsed() >= long, "{:?}", began.elapsed());
        assert_eq!(count(&site.proxy, Class::ClientFault), 1);
        assert_eq!(charged(&site.proxy), 0);
    }
}

#[test]
fn an_upstream_that_stops_while_it_owes_the_answer_is_charged() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        std::thread::park_timeout(Duration::from_secs(5));
        Then::Close
    });
    let mut spec = spec("shop", &[upstream.address], &[]);
    spec.deadlines.progress = Duration::from_millis(150);
    let mut settings = settings(vec![spec]);
    settings.timeouts.body = Duration::from_millis(100);
    let site = Site::start(settings);
    let mut client = site.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
    assert!(client.try_answer(false).is_err());
    until("it is charged", || count(&site.proxy, Class::Reset) == 1);
}

#[test]
fn a_long_method_is_cut_where_it_is_kept() {
    let upstream =
        Upstream::start(|served| served.write("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"));
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    let (sender, mut records) = tokio::sync::mpsc::channel(10);
    settings.access_log = Some(sender);
    let site = Site::start(settings);
    let method = "M".repeat(20_000);
    let answer = site.client().ask(&format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    assert_eq!(answer.status(), 503);
    assert!(upstream.requests()[0].start.starts_with(&method));
    let failures = site.proxy.outcomes(&mut cutover_proxy::Cursor::default()).failures;
    assert_eq!(failures[0].method, "M".repeat(32));
    assert_eq!(records.blocking_recv().unwrap().method, "M".repeat(32));
}

#[test]
fn a_client_that_closes_its_half_gets_its_answer() {
    let pause = Duration::from_millis(100);
    let upstream = Upstream::start(move |served| {
        std::thread::park_timeout(pause);
        served.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        for _ in 0..10 {
            std::thread::park_timeout(pause);
            served.write("x");
        }
        Then::Keep
    });
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.timeouts.linger = pause * 4;
    let site = Site::start(settings);
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let mut client = site.client();
        client.send(request);
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.answer().text(), "xxxxxxxxxx", "{request:?}");
        // And the connection ends with it, long before it would be idle.
        assert!(client.rest().is_empty());
    }
    let mut client = site.client();
    client.send("GET /nowhere HTTP/1.1\r\nHost: a.test\r\nExpect: a-pony\r\n\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer().status(), 417);
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn a_half_that_closes_with_the_request_is_no_race() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    for _ in 0..300 {
        // Nobody has looked at the connection yet: request and end are there at once.
        let mut client = site.client();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.0\r\n\r\n");
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.answer().text(), "ok");
        assert_eq!(client.answer().text(), "ok");
        assert!(client.rest().is_empty());
    }
    assert_eq!(count(&site.proxy, Class::ClientFault), 0);
}

#[test]
fn a_client_that_closed_its_half_is_not_waited_for_without_an_end() {
    let upstream = Upstream::start(|served| {
        let mut byte = [0];
        std::io::Read::read(&mut served.reader, &mut byte).ok();
        Then::Close
    });
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.timeouts.linger = Duration::from_millis(300);
    let site = Site::start(settings);
    let began = std::time::Instant::now();
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert!(client.rest().is_empty());
    assert!(began.elapsed() >= Duration::from_millis(300));
    until("the upstream's connection is closed", || upstream.closed() == 1);
    until("it is counted", || count(&site.proxy, Class::ClientFault) == 1);
    assert_eq!(charged(&site.proxy), 0);
}
