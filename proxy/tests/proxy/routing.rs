//! Where requests go: routes, colors, overrides, clients that stay.

use cutover_proxy::message::{RouteSpec, StripPrefix};

use super::harness::{Site, Upstream, charged, route, settings, spec};

#[test]
fn a_request_is_answered_by_its_app() {
    let (one, two) = (Upstream::says("one"), Upstream::says("two"));
    let mut first = spec("one", &[one.address], &[]);
    first.routes = vec![route(Some("one.test"), "/")];
    let second = spec("two", &[two.address], &[]);
    let site = Site::start(settings(vec![first, second]));
    let ask = |host: &str| {
        site.client().ask(&format!("GET /x?y=1 HTTP/1.1\r\nHost: {host}\r\n\r\n")).text()
    };
    assert_eq!(ask("one.test"), "one");
    assert_eq!(ask("ONE.test:80"), "one");
    assert_eq!(ask("else.test"), "two");
    assert_eq!(one.requests()[0].start, "GET /x?y=1 HTTP/1.1");
}

/// What an app with these routes says to a path, and what it sees of it.
fn led(routes: &[(&str, StripPrefix)], path: &str) -> (u16, Option<String>) {
    let upstream = Upstream::says("ok");
    let mut spec = spec("shop", &[upstream.address], &[]);
    let make = |(path, strip): &(&str, StripPrefix)| RouteSpec {
        strip_prefix: *strip,
        ..route(Some("a.test"), path)
    };
    spec.routes = routes.iter().map(make).collect();
    let site = Site::of(spec);
    let answer = site.get(path);
    let seen = upstream
        .requests()
        .pop()
        .map(|request| request.start.split(' ').nth(1).unwrap_or_default().to_owned());
    assert_eq!(charged(&site.proxy), 0, "{path}");
    (answer.status(), seen)
}

#[test]
fn dot_segments_are_refused_where_a_path_decides() {
    let keep = StripPrefix::Keep;
    for path in [
        "/public/../admin",
        "/public/..",
        "/public/./x",
        "/../admin",
        "/public/%2e%2E/admin",
        "/public/.%2e/admin?x=1",
        "/public/..%2fadmin",
        "/public/..%5Cadmin",
        "/public/..;x=1/admin",
    ] {
        assert_eq!(led(&[("/public", keep), ("/admin", keep)], path), (400, None), "{path}");
        assert_eq!(led(&[("/public", keep)], path), (400, None), "{path}");
        // Nothing is decided by the path: it is the application's.
        assert_eq!(led(&[("/", keep)], path), (200, Some(path.to_owned())), "{path}");
    }
    for path in ["/public/..x", "/public/.well-known/x", "/public/a..b", "/public/x?y=/../z"] {
        let seen = Some(path.to_owned());
        assert_eq!(led(&[("/public", keep), ("/admin", keep)], path), (200, seen), "{path}");
    }
}

#[test]
fn a_letter_that_is_escaped_is_the_same_letter() {
    let (keep, strip) = (StripPrefix::Keep, StripPrefix::Strip);
    let says = |seen: &str| (200, Some(seen.to_owned()));
    assert_eq!(led(&[("/api", keep)], "/%61p%69/x%20y"), says("/%61p%69/x%20y"));
    assert_eq!(led(&[("/api", strip)], "/%61p%69/x%20y%7e?a=%61"), says("/x%20y~?a=%61"));
    assert_eq!(led(&[("/api", keep)], "/%61px"), (404, None));
    assert_eq!(led(&[("/api", keep)], "/api%2fx"), (404, None));
    // Not an escape at all.
    assert_eq!(led(&[("/api", keep)], "/api/%6"), says("/api/%6"));
    assert_eq!(led(&[("/api", keep)], "/api/%zz"), says("/api/%zz"));
}

#[test]
fn what_is_left_of_a_path_has_one_slash_before_it() {
    let strip = StripPrefix::Strip;
    for (path, seen) in [
        ("/api", "/"),
        ("/api/", "/"),
        ("/api/x//y", "/x//y"),
        ("/api//x", "/x"),
        ("/api///evil.test/x?y=//z", "/evil.test/x?y=//z"),
        ("/api?x=1", "/?x=1"),
        ("/api//?x=1", "/?x=1"),
    ] {
        assert_eq!(led(&[("/api", strip)], path), (200, Some(seen.to_owned())), "{path}");
    }
}
