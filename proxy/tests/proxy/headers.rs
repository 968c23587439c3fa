//! Header fields: which pass, which are dropped, which are ours.

use super::harness::{Message, Site, Upstream, settings, spec};

/// What the upstream sees of a request with these lines.
fn seen(change: impl FnOnce(&mut cutover_proxy::ProxySettings), lines: &str) -> Message {
    let upstream = Upstream::says("ok");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.via = Some("here".into());
    change(&mut settings);
    let site = Site::start(settings);
    let answer = site.client().ask(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"));
    assert_eq!(answer.status(), 200, "{lines}");
    upstream.requests()[0].clone()
}

#[test]
fn what_speaks_of_one_connection_only_is_dropped() {
    let request = seen(
        |_| {},
        "Connection: X-One, close\r\nConnection: x-two ,Host\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    );
    for name in [
        "x-one",
        "x-two",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(request.field(name), None, "{name}");
    }
    assert_eq!(request.field("x-three"), Some("3"));
    assert_eq!(request.field("host"), Some("a.test"));
}

#[test]
fn a_client_cannot_make_us_drop_what_we_vouch_for() {
    let request = seen(
        |_| {},
        "Connection: X-Forwarded-For, X-Real-IP, Via, X-Request-Id\r\nX-Forwarded-For: 6.6.6.6\r\n",
    );
    assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.all("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(request.all("via"), ["1.1 here"]);
    assert_eq!(request.all("x-request-id").len(), 1);
}

#[test]
fn an_answers_connection_fields_stay_with_the_upstream() {
    let upstream = Upstream::start(|served| {
        served.write(
            "HTTP/1.1 200 Fine\r\nConnection: X-Internal\r\nX-Internal: 1\r\nKeep-Alive: timeout=9\r\n\
             X-Kept: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
        )
    });
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.via = Some("here".into());
    let answer = Site::start(settings).get("/");
    assert_eq!(answer.start, "HTTP/1.1 200 Fine");
    for name in ["x-internal", "keep-alive", "connection"] {
        assert_eq!(answer.field(name), None, "{name}");
    }
    assert_eq!(answer.field("x-kept"), Some("1"));
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.all("via"), ["1.1 here"]);
    assert_eq!(answer.all("date").len(), 1);
}

#[test]
fn forwarding_fields_of_strangers_are_replaced() {
    let request = seen(
        |_| {},
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
         X-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n",
    );
    assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.all("x-forwarded-host"), ["a.test"]);
    assert_eq!(request.field("x-forwarded-port"), None);
    assert_eq!(request.all("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(request.all("forwarded"), ["for=127.0.0.1;host=\"a.test\";proto=http"]);
}

#[test]
fn forwarding_fields_of_trusted_proxies_are_continued() {
    let request = seen(
        |settings| settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()],
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9, 127.0.0.9\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test\r\nForwarded: for=6.6.6.6\r\n",
    );
    assert_eq!(request.all("x-forwarded-for"), ["6.6.6.6, 203.0.113.9, 127.0.0.9, 127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-proto"), ["https"]);
    assert_eq!(request.all("x-forwarded-host"), ["shop.test"]);
    // The last one that no trusted proxy has.
    assert_eq!(request.all("x-real-ip"), ["203.0.113.9"]);
    assert!(request.all("forwarded")[0].starts_with("for=6.6.6.6, for=127.0.0.1;"));
}

#[test]
fn twins_with_underscores_are_dropped() {
    let request = seen(
        |_| {},
        "X_Forwarded_For: 6.6.6.6\r\nx_real-ip: 6.6.6.6\r\nX-Cutover_Color: green\r\n\
         X_Request_Id: 1\r\nContent_Length: 9\r\nmy_field: kept\r\n",
    );
    let names: Vec<_> = request.fields.iter().map(|(name, _)| name.to_lowercase()).collect();
    let with_underscore: Vec<_> = names.iter().filter(|name| name.contains('_')).collect();
    assert_eq!(with_underscore, ["my_field"]);
}

#[test]
fn a_request_id_is_made_or_taken_over() {
    let made = seen(|_| {}, "");
    assert_eq!(made.field("x-request-id").unwrap().len(), 32);
    let taken = seen(|_| {}, "X-Request-Id: abc-123\r\n");
    assert_eq!(taken.field("x-request-id"), Some("abc-123"));
    let odd = seen(|_| {}, "X-Request-Id: <script>\r\n");
    assert_eq!(odd.field("x-request-id").unwrap().len(), 32);
}

#[test]
fn a_request_that_came_back_is_stopped() {
    let upstream = Upstream::says("ok");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.via = Some("here".into());
    let site = Site::start(settings);
    let ask = |via: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\nVia: {via}\r\n\r\n");
        site.client().ask(&request).status()
    };
    assert_eq!(ask("1.0 there, 1.1 here"), 508);
    assert_eq!(ask("1.1 elsewhere"), 200);
    assert_eq!(upstream.requests()[0].all("via"), ["1.1 elsewhere, 1.1 here"]);
}

#[test]
fn via_can_be_turned_off() {
    let request = seen(|settings| settings.via = None, "");
    assert_eq!(request.field("via"), None);
}

#[test]
fn pages_of_ours_are_what_the_client_reads() {
    let site = Site::of(spec("shop", &[], &[]));
    let ask = |accept: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\nAccept: {accept}\r\n\r\n");
        site.client().ask(&request)
    };
    let html = ask("text/html");
    assert_eq!(html.status(), 503);
    assert!(html.field("retry-after").is_some());
    assert_eq!(html.field("cache-control"), Some("no-store"));
    let id = html.field("x-request-id").unwrap();
    assert!(html.text().contains("<h1>503 Service Unavailable</h1>"));
    assert!(html.text().contains(id));
    let json: serde_json::Value = serde_json::from_slice(&ask("application/json").body).unwrap();
    assert_eq!(json["status"], 503);
}

#[test]
fn odd_bytes_beside_them_hide_no_members_of_a_list() {
    let request = seen(|_| {}, "Connection: X-One, \u{f6}, X-Two\r\nX-One: 1\r\nX-Two: 2\r\n");
    assert_eq!((request.field("x-one"), request.field("x-two")), (None, None));

    let trusting = |settings: &mut cutover_proxy::ProxySettings| {
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let request = seen(trusting, "X-Forwarded-For: \u{f6}, 203.0.113.9\r\n");
    assert_eq!(request.field("x-real-ip"), Some("203.0.113.9"));

    let upstream = Upstream::says("ok");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.via = Some("here".into());
    let site = Site::start(settings);
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 \u{f6}, 1.1 here\r\n\r\n";
    assert_eq!(site.client().ask(request).status(), 508);
}
