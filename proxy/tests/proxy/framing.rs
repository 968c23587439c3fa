//! Where messages begin and end: RFC 9112 section 6 on both sides.

use super::harness::{Client, Site, Then, Upstream, charged, count, spec};
use cutover_proxy::message::Class;

/// A request that must be refused with this status and reach nobody; the connection is closed.
fn refused(status: u16, request: &str) {
    let upstream = Upstream::says("never");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send(request);
    let answer = client.answer();
    assert_eq!(answer.status(), status, "{request:?} {answer:?}");
    assert!(client.rest().is_empty(), "{request:?}");
    assert!(upstream.requests().is_empty(), "{request:?}");
    assert_eq!(charged(&site.proxy), 0, "{request:?}");
}

#[test]
fn contradictory_framing_is_refused() {
    for lines in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 4",
        "Content-Length: +3",
        "Content-Length: -1",
        "Content-Length: 0x3",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: \x0bchunked",
    ] {
        refused(400, &format!("POST / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n\r\nabc"));
    }
    refused(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}

#[test]
fn the_same_length_twice_goes_on_once() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let answer = site.client().ask(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert_eq!(answer.status(), 200);
    let seen = &upstream.requests()[0];
    assert_eq!(seen.all("content-length"), ["3"]);
    assert_eq!(seen.text(), "abc");
}

#[test]
fn a_bad_request_behind_a_good_one_does_not_harm_it() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send(
        "GET /one HTTP/1.1\r\nHost: a.test\r\n\r\nPOST /two HTTP/1.1\r\nHost: a.test\r\n\
         Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /three HTTP/1.1\r\nHost: a.test\r\n\r\n",
    );
    assert_eq!(client.answer().status(), 200);
    assert_eq!(client.answer().status(), 400);
    assert!(client.rest().is_empty());
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|served| {
        let text = served.request.start.clone();
        served.ok(&text)
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    let mut all = String::new();
    for number in 0..20 {
        all += &format!("POST /{number} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nab");
    }
    client.send(all);
    for number in 0..20 {
        assert_eq!(client.answer().text(), format!("POST /{number} HTTP/1.1"));
    }
}

#[test]
fn a_body_of_unknown_length_stays_one_whatever_the_method() {
    for method in ["GET", "DELETE", "POST", "PUT", "PATCH", "REPORT"] {
        let upstream = Upstream::says("ok");
        let site = Site::of(spec("shop", &[upstream.address], &[]));
        let answer = site.client().ask(&format!(
            "{method} / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        ));
        assert_eq!(answer.status(), 200);
        let seen = &upstream.requests()[0];
        assert_eq!((seen.text().as_str(), seen.chunked), ("abcde", true), "{method}");
        assert_eq!(seen.all("transfer-encoding"), ["chunked"]);
        assert!(seen.field("content-length").is_none());
    }
}

#[test]
fn an_empty_body_that_was_stated_is_stated_again() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
    client.ask("POST / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let seen = upstream.requests();
    assert_eq!(seen[0].field("content-length"), Some("0"));
    assert!(seen[1].field("transfer-encoding").is_none());
}

#[test]
fn trailers_pass_in_both_directions() {
    let upstream = Upstream::start(|served| {
        served.write(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nhi\r\n0\r\nX-Sum: down\r\n\r\n",
        )
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let answer = site.client().ask(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
         Trailer: X-Up\r\n\r\n3\r\nabc\r\n0\r\nX-Up: up\r\n\r\n",
    );
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "down".to_owned())]);
    let seen = &upstream.requests()[0];
    assert_eq!(seen.trailers, [("x-up".to_owned(), "up".to_owned())]);
    assert_eq!(seen.field("te"), Some("trailers"));
    assert_eq!(seen.field("connection"), Some("te"));
}

#[test]
fn forbidden_trailers_do_not_pass() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let answer = site.client().ask(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\
         Trailer: Content-Length, Host, X-Cutover-Color\r\n\r\n\
         1\r\na\r\n0\r\nContent-Length: 9\r\nHost: evil\r\nX-Cutover-Color: green\r\n\r\n",
    );
    assert_eq!(answer.status(), 200);
    assert!(upstream.requests()[0].trailers.is_empty(), "{:?}", upstream.requests()[0]);
}

#[test]
fn answers_without_a_body_have_none() {
    let upstream = Upstream::start(|served| {
        let status = served.request.start.split(['/', ' ']).nth(2).unwrap_or("200").to_owned();
        if served.request.start.starts_with("HEAD") {
            return served.write("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
        }
        served.write(format!("HTTP/1.1 {status} X\r\nETag: \"1\"\r\n\r\n"))
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    let head = client.ask("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(head.field("content-length"), Some("1234"));
    for status in [204, 304] {
        let answer = client.ask(&format!("GET /{status} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        assert_eq!(answer.status(), status);
        assert_eq!(answer.field("transfer-encoding"), None);
        assert_eq!(answer.field("etag"), Some("\"1\""));
    }
    // All on one connection each: nothing was left over.
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_answer_until_the_end_of_the_connection_is_framed_anew() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 200 OK\r\n\r\nuntil the end");
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    for _ in 0..2 {
        let answer = client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!((answer.text().as_str(), answer.chunked), ("until the end", true));
    }
    let old = site.client().ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((old.text().as_str(), old.chunked), ("until the end", false));
}

#[test]
fn answers_that_break_the_rules_are_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "\x16\x03\x01\x02",
        "HTTP/1.1 99999 OK\r\n\r\n",
        "",
    ] {
        let upstream = Upstream::start(move |served| {
            served.write(answer);
            Then::Close
        });
        let site = Site::of(spec("shop", &[upstream.address], &[]));
        let got = site.get("/");
        assert_eq!(got.status(), 502, "{answer:?} {got:?}");
        assert_eq!(count(&site.proxy, Class::Reset), 1, "{answer:?}");
        assert_eq!(upstream.requests().len(), 1, "{answer:?}");
    }
}

#[test]
fn informational_answers_are_swallowed() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        served.ok("final")
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let head = client.head();
    assert_eq!(head.status(), 200);
    assert_eq!(head.field("link"), None);
}

#[test]
fn expectations() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n",
    );
    assert_eq!(client.head().status(), 100);
    client.send("abc");
    assert_eq!(client.answer().status(), 200);
    let seen = &upstream.requests()[0];
    assert_eq!((seen.field("expect"), seen.text().as_str()), (None, "abc"));

    let odd = site.client().ask("GET / HTTP/1.1\r\nHost: a.test\r\nExpect: a-pony\r\n\r\n");
    assert_eq!(odd.status(), 417);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn hosts_are_one_and_sound() {
    refused(400, "GET / HTTP/1.1\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a.test:80:90\r\n\r\n");
    refused(400, "GET http://u@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n");
    refused(400, "GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n");
    refused(501, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
    refused(501, "TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    assert_eq!(site.client().ask("GET / HTTP/1.0\r\n\r\n").status(), 200);
}

#[test]
fn the_absolute_form_wins_over_host() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    site.client().ask("GET http://a.test:8080/x?y=1 HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    site.client().ask("GET http://a.test HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    site.client().ask("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let seen = upstream.requests();
    assert_eq!(seen[0].start, "GET /x?y=1 HTTP/1.1");
    assert_eq!(seen[0].all("host"), ["a.test:8080"]);
    assert_eq!(seen[1].start, "GET / HTTP/1.1");
    assert_eq!(seen[2].start, "OPTIONS * HTTP/1.1");
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let ask = |fields: String| {
        let mut client = Client::connect(site.address);
        client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
        client.answer().status()
    };
    assert_eq!(ask(format!("X: {}\r\n", "y".repeat(60 * 1024))), 200);
    assert_eq!(ask(format!("X: {}\r\n", "y".repeat(64 * 1024))), 431);
    assert_eq!(ask((0..99).map(|n| format!("X-{n}: 1\r\n")).collect()), 200);
    assert_eq!(ask((0..100).map(|n| format!("X-{n}: 1\r\n")).collect()), 431);
}

#[test]
fn garbage_is_answered_400_and_charged_to_nobody() {
    for request in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nNo colon here\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nSpace : x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\n folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n",
    ] {
        refused(400, request);
    }
}

#[test]
fn a_bare_line_feed_in_trailers_cannot_hide_a_head() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    // Where the lone line feed ended a line, the rest would be a head whose body hides another.
    client.send(
        "POST /one HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\nT: 1\n\r\nA: b\r\nContent-Length: 1000\r\n\r\n\
         POST /evil HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    client.rest();
    let seen: Vec<_> = upstream.requests().into_iter().map(|request| request.start).collect();
    assert!(!seen.iter().any(|start| start.contains("evil")), "{seen:?}");
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn a_client_of_http_1_0_is_served_by_an_upstream_of_1_1() {
    let upstream = Upstream::start(|served| {
        served.write(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
        )
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let here = site.address.to_string();
    for (lines, host) in [
        ("Host: a.test\r\n", "a.test"),
        ("", here.as_str()),
        ("Host: a.test\r\nConnection: keep-alive\r\n", "a.test"),
    ] {
        let mut client = site.client();
        client.send(format!("GET /x HTTP/1.0\r\n{lines}\r\n"));
        let answer = client.answer();
        assert!(answer.start.starts_with("HTTP/1.0 200"), "{answer:?}");
        assert_eq!((answer.text().as_str(), answer.chunked), ("hi", false));
        assert_eq!(answer.field("content-length"), None);
        // Its end was the end of the connection.
        assert!(client.rest().is_empty());
        let seen = upstream.requests().pop().unwrap();
        assert_eq!(seen.start, "GET /x HTTP/1.1");
        assert_eq!(seen.all("host"), [host]);
        assert_eq!(seen.field("connection"), None);
    }
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn an_answer_of_known_length_keeps_the_connection_of_http_1_0() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    for _ in 0..2 {
        let answer = client.ask("GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!((answer.text().as_str(), answer.field("content-length")), ("ok", Some("2")));
        assert_eq!(answer.field("connection"), Some("keep-alive"));
    }
    let last = client.ask("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert_eq!(last.text(), "ok");
    assert!(client.rest().is_empty());
}
