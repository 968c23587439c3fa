//! What the proxy tells about itself: access records without tokens, and the time that it adds.

use std::time::{Duration, SystemTime};

use cutover_model::Color;
use cutover_proxy::message::Added;
use cutover_proxy::{PREVIEW_PARAMETER, preview_token};
use tokio::sync::mpsc;

use super::harness::{Site, Upstream, app, settings, spec, until};

#[test]
fn no_record_of_a_request_shows_a_preview_token() {
    let upstream = Upstream::says("ok");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[upstream.address])]);
    let (sender, mut records) = mpsc::channel(16);
    settings.access_log = Some(sender);
    let site = Site::start(settings);
    let soon = SystemTime::now() + Duration::from_secs(60);
    let token = preview_token(&[7; 32], &app("shop"), Color::Green, soon);
    let good = format!("/page?a=1&{PREVIEW_PARAMETER}={token}&b=2");
    let forged = good.replace("green", "blue");
    let shown = format!("/page?a=1&{PREVIEW_PARAMETER}=***&b=2");
    for (link, status) in [(good, 302), (forged, 403)] {
        assert_eq!(site.get(&link).status(), status);
        let mut record = None;
        until("the record is there", || {
            record = record.take().or_else(|| records.try_recv().ok());
            record.is_some()
        });
        let record = record.unwrap();
        assert_eq!((record.status, record.target.as_str()), (status, shown.as_str()));
        let all = serde_json::to_string(&record).unwrap();
        assert!(token.rsplit('.').all(|part| part.len() < 8 || !all.contains(part)), "{all}");
    }
}

#[test]
fn the_time_that_the_proxy_adds_is_not_the_upstreams() {
    const TAKES: Duration = Duration::from_millis(60);
    let upstream = Upstream::start(|served| {
        std::thread::sleep(TAKES);
        served.ok("slow")
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    let added = || -> Option<Added> { site.proxy.counts().added.into_iter().next() };
    let body = "x".repeat(100);
    let post = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\n{body}");
    for request in ["GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", &post].repeat(5) {
        assert_eq!(client.ask(request).text(), "slow");
    }
    until("all are measured", || added().is_some_and(|added| added.requests == 10));
    let added = added().unwrap();
    assert_eq!((added.app, added.color), (app("shop"), Color::Blue));
    assert!(added.sum_ns > 10 * 1_000, "less than a microsecond each: {} ns", added.sum_ns);
    let mean = Duration::from_nanos(added.sum_ns / added.requests);
    assert!(mean < TAKES / 2, "the upstream's time is in it: {mean:?}");
    let counts = site.proxy.counts().outcomes;
    let all_us: u64 = counts.iter().map(|count| count.latency_sum_us).sum();
    assert!(all_us >= 10 * 60_000, "{all_us}");

    // What is answered by the proxy itself adds nothing to anything.
    drop(upstream);
    let nobody = Site::of(spec("shop", &[super::harness::nobody()], &[]));
    assert_eq!(nobody.get("/").status(), 502);
    assert_eq!(nobody.proxy.counts().added, []);
}
