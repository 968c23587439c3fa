//! The operator's own pages for the answers that the proxy makes itself.

use std::collections::BTreeMap;

use cutover_proxy::message::OwnPages;

use super::harness::{Answer, Site, Upstream, nobody, settings, spec};

fn own(pages: &[(u16, &str)]) -> OwnPages {
    let html: BTreeMap<u16, String> =
        pages.iter().map(|(status, text)| (*status, (*text).to_owned())).collect();
    OwnPages { html }
}

fn ask(site: &Site, path: &str, accept: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nAccept: {accept}\r\n\r\n");
    site.client().ask(&request)
}

#[test]
fn the_operators_page_is_shown_and_json_stays_json() {
    let mut spec = spec("shop", &[nobody()], &[]);
    spec.routes[0].path = "/shop".into();
    let mut settings = settings(vec![spec]);
    settings.pages = own(&[(404, "<h1>not here</h1>"), (502, "<h1>broken</h1>")]);
    let site = Site::start(settings);
    for accept in ["text/html", "*/*"] {
        let answer = ask(&site, "/shop", accept);
        assert_eq!((answer.status(), answer.text().as_str()), (502, "<h1>broken</h1>"));
        assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert!(answer.field("x-request-id").is_some());
        assert_eq!(ask(&site, "/", accept).text(), "<h1>not here</h1>");
    }
    let answer = ask(&site, "/shop", "application/json");
    assert_eq!(answer.status(), 502);
    let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(value["status"], 502);
}

#[test]
fn new_pages_are_shown_at_once_and_an_applications_answer_is_never_replaced() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nown")
    });
    let mut shop = spec("shop", &[upstream.address], &[]);
    shop.routes[0].host = Some("a.test".into());
    let site = Site::of(shop);
    let mut kept = site.client();
    let lost = "GET / HTTP/1.1\r\nHost: b.test\r\nAccept: text/html\r\n\r\n";
    assert!(kept.ask(lost).text().contains("No application is configured"));
    site.proxy.set_pages(&own(&[(404, "first"), (503, "down")]));
    assert_eq!(kept.ask(lost).text(), "first");
    site.proxy.set_pages(&own(&[(404, "second")]));
    assert_eq!(kept.ask(lost).text(), "second");
    assert_eq!(ask(&site, "/", "text/html").text(), "own");
}
