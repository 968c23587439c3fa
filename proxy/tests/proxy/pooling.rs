//! Upstream connections: when they are used again, and when never.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cutover_model::Color;
use cutover_proxy::message::{Change, Class, Publish};

use super::harness::{
    Site, Then, Upstream, app, charged, count, endpoint, nobody, service, settings, spec, until,
};

#[test]
fn connections_are_used_again() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    for _ in 0..20 {
        client.ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_connection_is_not_used_again_after_an_early_answer() {
    // Answers at once and leaves the request's body unread.
    let upstream = Upstream::raw(|served| served.ok("early"));
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(client.answer().text(), "early");
    until("the connection is closed", || upstream.closed() == 1);
    assert_eq!(site.get("/").text(), "early");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_connection_with_stray_bytes_is_not_used_again() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nevil")
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    for number in 1..=5 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").text(), "ok");
        assert_eq!(upstream.connections(), number);
    }
}

#[test]
fn a_connection_is_closed_when_the_client_left_in_the_middle() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        let piece = vec![b'x'; 64 * 1024];
        while served.write(&piece) == Then::Keep {}
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    client.bytes(1_000_000);
    drop(client);
    until("the upstream sees it", || upstream.closed() == 1);
    until("the lease is given back", || {
        site.proxy.switch().in_flight(&app("shop"), Color::Blue) == Default::default()
    });
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn idle_connections_close_before_their_server_would() {
    let upstream = Upstream::says("ok");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.timeouts.upstream_idle = Duration::from_millis(100);
    let site = Site::start(settings);
    site.get("/");
    until("the idle connection is closed", || upstream.closed() == 1);
}

#[test]
fn a_removed_endpoint_loses_its_idle_connections_at_the_publish() {
    let (old, new) = (Upstream::says("old"), Upstream::says("new"));
    let site = Site::of(spec("shop", &[old.address], &[]));
    assert_eq!(site.get("/").text(), "old");
    let change = Change::Endpoints {
        color: Color::Blue,
        service: service(),
        endpoints: vec![endpoint(new.address)],
    };
    let publish = Publish { app: app("shop"), changes: vec![change], based_on: None };
    site.proxy.switch().apply(publish).unwrap();
    until("the idle connection is closed", || old.closed() == old.connections());
    assert_eq!(site.get("/").text(), "new");
}

#[test]
fn an_endpoint_that_stays_keeps_its_connections_over_a_publish() {
    let upstream = Upstream::says("ok");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.workers = std::num::NonZeroUsize::MIN;
    let site = Site::start(settings);
    for _ in 0..5 {
        site.get("/");
        let release = Some(cutover_model::ReleaseId(9));
        let change = Change::Release { color: Color::Blue, release };
        let publish = Publish { app: app("shop"), changes: vec![change], based_on: None };
        site.proxy.switch().apply(publish).unwrap();
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[nobody(), upstream.address, nobody()], &[]));
    for _ in 0..50 {
        let answer =
            site.client().ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    }
    assert!(upstream.requests().iter().all(|request| request.text() == "abc"));
    // Passed over after a failure, not asked each time.
    assert!(count(&site.proxy, Class::Connect) <= 12);
}

#[test]
fn when_no_endpoint_can_be_reached_the_answer_is_502() {
    let site = Site::of(spec("shop", &[nobody(), nobody()], &[]));
    for _ in 0..3 {
        assert_eq!(site.get("/").status(), 502);
    }
    assert!(count(&site.proxy, Class::Connect) >= 3);
}

/// Serves one request on each connection, then closes it when the next one has come.
fn dies_on_the_second(answers_a_little: &'static str) -> Upstream {
    Upstream::start(move |served| {
        if served.number == 0 {
            return served.ok("ok");
        }
        served.write(answers_a_little);
        Then::Close
    })
}

#[test]
fn a_reused_connection_that_dies_is_tried_once_more() {
    let upstream = dies_on_the_second("");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(client.ask(&request).status(), 200, "{method}");
        assert_eq!(client.ask(&request).status(), 200, "{method}");
    }
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn a_post_is_never_sent_twice() {
    let upstream = dies_on_the_second("");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(client.ask(post).status(), 200);
    assert_eq!(client.ask(post).status(), 502);
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(count(&site.proxy, Class::Reset), 1);
}

#[test]
fn nothing_is_tried_again_once_the_answer_has_begun() {
    let upstream = dies_on_the_second("HTTP/1.1 200 OK\r\nConte");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(client.ask(get).status(), 200);
    assert_eq!(client.ask(get).status(), 502);
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_new_connection_that_dies_is_not_tried_again() {
    let upstream = Upstream::start(|_| Then::Close);
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    assert_eq!(site.get("/").status(), 502);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn an_answer_that_breaks_off_breaks_off_at_the_client_too() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    ] {
        let upstream = Upstream::start(move |served| {
            served.write(answer);
            Then::Close
        });
        let site = Site::of(spec("shop", &[upstream.address], &[]));
        let mut client = site.client();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert!(client.try_answer(false).is_err(), "{answer:?}");
        until("it is charged", || count(&site.proxy, Class::Reset) == 1);
        assert_eq!(upstream.requests().len(), 1);
    }
}

#[test]
fn two_endpoints_share_the_load() {
    let count = |_: &()| AtomicUsize::new(0);
    let seen = std::sync::Arc::new([count(&()), count(&())]);
    let make = |index: usize| {
        let seen = seen.clone();
        Upstream::start(move |served| {
            seen[index].fetch_add(1, Ordering::SeqCst);
            served.ok("ok")
        })
    };
    let (one, two) = (make(0), make(1));
    let site = Site::of(spec("shop", &[one.address, two.address], &[]));
    let mut client = site.client();
    for _ in 0..400 {
        client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    let (one, two) = (seen[0].load(Ordering::SeqCst), seen[1].load(Ordering::SeqCst));
    assert!(one + two == 400 && one.abs_diff(two) < 100, "{one} {two}");
}

#[test]
fn an_upstream_that_says_close_is_believed() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        // Waits for the proxy to close, as the field says it will.
        let mut rest = Vec::new();
        served.reader.read_to_end(&mut rest).ok();
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    for _ in 0..3 {
        let answer = client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!((answer.text().as_str(), answer.field("connection")), ("ok", None));
    }
    until("all are closed", || upstream.closed() == 3);
}

#[test]
fn trailers_are_an_end_like_any_other() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
    ];
    let chunks = "Transfer-Encoding: chunked\r\nTrailer: X-Up\r\n\r\n3\r\nabc\r\n0\r\nX-Up: 1\r\n";
    for (answer, request) in [(answers[0], chunks), (answers[1], "")] {
        let upstream = Upstream::start(move |served| served.write(answer));
        let site = Site::of(spec("shop", &[upstream.address], &[]));
        let mut client = site.client();
        for _ in 0..5 {
            let asked = format!("POST / HTTP/1.1\r\nHost: a.test\r\n{request}\r\n");
            assert_eq!(client.ask(&asked).text(), "ok");
        }
        assert_eq!(upstream.connections(), 1, "{request:?}");
    }
}

#[test]
fn a_request_that_cannot_be_repeated_takes_a_fresh_connection_only() {
    let put = "PUT / HTTP/1.1\r\nHost: a.test\r\n";
    for (request, connections) in [
        (format!("{put}Content-Length: 3\r\n\r\nabc"), 2),
        (format!("{put}Content-Length: 0\r\n\r\n"), 1),
        ("POST / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(), 2),
    ] {
        let upstream = Upstream::says("ok");
        let site = Site::of(spec("shop", &[upstream.address], &[]));
        let mut client = site.client();
        client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        // Longer than what counts as fresh, shorter than what is kept.
        std::thread::park_timeout(Duration::from_millis(1_300));
        client.ask(&request);
        assert_eq!(upstream.connections(), connections, "{request:?}");
    }
}

#[test]
fn idle_connections_are_bounded_in_all() {
    let upstreams: Vec<_> = (0..5).map(|_| Upstream::says("ok")).collect();
    let apps = upstreams.iter().enumerate().map(|(number, upstream)| {
        let mut spec = spec(&format!("app{number}"), &[upstream.address], &[]);
        spec.routes = vec![super::harness::route(Some(&format!("{number}.test")), "/")];
        spec
    });
    let mut settings = settings(apps.collect());
    settings.workers = std::num::NonZeroUsize::MIN;
    settings.limits.idle = 2;
    let site = Site::start(settings);
    let mut client = site.client();
    for _ in 0..3 {
        for number in 0..5 {
            let request = format!("GET / HTTP/1.1\r\nHost: {number}.test\r\n\r\n");
            assert_eq!(client.ask(&request).text(), "ok");
        }
    }
    let open = || upstreams.iter().map(|u| u.connections() - u.closed()).sum::<usize>();
    until("those over the bound are closed", || open() == 2);
    // The first two are used again and again.
    assert_eq!(upstreams[0].connections() + upstreams[1].connections(), 2);
}
