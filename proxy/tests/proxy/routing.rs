//! Where requests go: routes, colors, overrides, clients that stay.

use super::harness::{Site, Upstream, route, settings, spec};

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
