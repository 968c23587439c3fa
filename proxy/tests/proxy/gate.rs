//! The gate of an app: who waits, in which order they go, and that nobody is held for ever.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use cutover_model::{Color, Split};
use cutover_proxy::message::{
    Closed, DrainApp, Gate, GateChange, Gated, Hold, HoldEnd, HoldId, HoldTally, Refused, Streams,
};
use tokio_util::sync::CancellationToken;

use super::harness::{
    Answer, Client, Site, Then, Upstream, app, charged, read_head, runtime, settings, spec, until,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

pub(crate) fn hold(id: u64) -> Hold {
    Hold {
        id: HoldId(id),
        lease: Duration::from_secs(20),
        most: 2_000,
        most_bytes: 16 * 1024 * 1024,
        wait: Duration::from_secs(15),
        rate: 5_000,
        streams: Streams::Stay,
    }
}

pub(crate) fn change(site: &Site, change: GateChange) -> Result<Gated, Refused> {
    site.proxy.gate(&Gate { app: app("shop"), change })
}

pub(crate) fn open(site: &Site, id: u64) {
    change(site, GateChange::Open { hold: HoldId(id) }).unwrap();
}

pub(crate) fn tally(site: &Site) -> HoldTally {
    site.proxy.gated(&app("shop")).tally.unwrap()
}

pub(crate) fn waiting(site: &Site, count: u64) {
    until("so many wait", || tally(site).waiting == count);
}

fn drain(site: &Site, deadline: u64, streams: Streams) -> cutover_proxy::message::AppDrained {
    let deadline = Duration::from_millis(deadline);
    let drain = DrainApp { app: app("shop"), deadline, streams };
    runtime().block_on(site.proxy.drain_app(drain))
}

fn site() -> (Upstream, Site) {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    (upstream, site)
}

fn is_held(answer: &Answer) {
    assert_eq!(answer.status(), 503, "{answer:?}");
    let after: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=21).contains(&after), "{after}");
}

#[test]
fn requests_wait_and_go_in_the_order_in_which_they_came() {
    // Those that are let go in one breath may meet on their way; so each is asked, when it arrives,
    // whether as many had been let go as came before it.
    let place: Arc<OnceLock<Weak<Site>>> = Arc::default();
    let (seen, found) = (Arc::new(Mutex::new(Vec::new())), place.clone());
    let arrived = seen.clone();
    let upstream = Upstream::start(move |served| {
        let number: u64 = served.request.start.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        let site = found.get().and_then(Weak::upgrade).unwrap();
        arrived.lock().unwrap().push((number, tally(&site).waited));
        served.ok("ok")
    });
    let site = Arc::new(Site::of(spec("shop", &[upstream.address], &[])));
    place.set(Arc::downgrade(&site)).unwrap();
    change(&site, GateChange::Hold(Hold { rate: 25, ..hold(1) })).unwrap();
    let mut clients: Vec<Client> = (0..10).map(|_| site.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        waiting(&site, number as u64 + 1);
    }
    assert!(upstream.requests().is_empty());
    open(&site, 1);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "ok");
    }
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 10);
    assert!(seen.iter().all(|(number, gone)| gone > number), "(its number, gone): {seen:?}");
    let tally = tally(&site);
    assert_eq!((tally.waited, tally.refused, tally.left), (10, 0, 0));
    assert_eq!(tally.ended, Some(HoldEnd::Opened));
    assert!(tally.longest > Duration::ZERO);
    assert!(site.proxy.gated(&app("shop")).hold.is_none());
}

#[test]
fn those_who_waited_go_no_faster_than_the_rate() {
    let (_upstream, site) = site();
    change(&site, GateChange::Hold(Hold { rate: 20, ..hold(1) })).unwrap();
    let mut clients: Vec<Client> = (0..30).map(|_| site.client()).collect();
    clients.iter_mut().for_each(|client| client.send(GET));
    waiting(&site, 30);
    let started = Instant::now();
    open(&site, 1);
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), 200));
    let took = started.elapsed();
    // One at once, 20 in the first second, 40 in the next.
    assert!((Duration::from_millis(1_150)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

#[test]
fn a_request_over_a_bound_is_answered_at_once() {
    let (upstream, site) = site();
    change(&site, GateChange::Hold(Hold { most: 2, ..hold(1) })).unwrap();
    let mut first = site.client();
    first.send(GET);
    let mut second = site.client();
    second.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
    waiting(&site, 2);
    is_held(&site.get("/"));
    // Fewer bytes than the two have already: the same hold, with other limits.
    change(&site, GateChange::Hold(Hold { most: 9, most_bytes: 30, ..hold(1) })).unwrap();
    is_held(&site.get("/"));
    assert_eq!(tally(&site).refused, 2);
    open(&site, 1);
    assert_eq!((first.answer().status(), second.answer().status()), (200, 200));
    let mut bodies: Vec<String> = upstream.requests().iter().map(|r| r.text()).collect();
    // Both were let go at once, on workers of their own.
    bodies.sort();
    assert_eq!(bodies, ["", "abc"], "the body came whole after the wait");
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn a_request_that_waited_for_too_long_is_answered_and_its_connection_is_kept() {
    let (upstream, site) = site();
    change(&site, GateChange::Hold(Hold { wait: Duration::from_millis(80), ..hold(1) })).unwrap();
    let mut client = site.client();
    is_held(&client.ask(GET));
    assert_eq!((tally(&site).refused, tally(&site).waiting), (1, 0));
    open(&site, 1);
    assert_eq!(client.ask(GET).text(), "ok");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_hold_that_nobody_renews_ends_by_itself() {
    let (_upstream, site) = site();
    let lease = Duration::from_millis(300);
    change(&site, GateChange::Hold(Hold { lease, ..hold(1) })).unwrap();
    let started = Instant::now();
    let mut client = site.client();
    client.send(GET);
    waiting(&site, 1);
    change(&site, GateChange::Renew { hold: HoldId(1), lease: lease * 2 }).unwrap();
    assert_eq!(client.answer().text(), "ok");
    let took = started.elapsed();
    assert!((lease * 2..lease * 10).contains(&took), "{took:?}");
    assert_eq!(tally(&site).ended, Some(HoldEnd::Lapsed));
    let late = change(&site, GateChange::Renew { hold: HoldId(1), lease });
    assert_eq!(late, Err(Refused::NoHold(app("shop"))));
    assert_eq!(site.get("/").text(), "ok");
}

#[test]
fn two_operations_cannot_hold_at_once() {
    let (_upstream, site) = site();
    change(&site, GateChange::Hold(hold(1))).unwrap();
    let refused = change(&site, GateChange::Hold(hold(2)));
    assert_eq!(refused, Err(Refused::Held { app: app("shop"), hold: HoldId(1) }));
    assert!(change(&site, GateChange::Open { hold: HoldId(2) }).is_err());
    open(&site, 1);
    assert_eq!(site.get("/").text(), "ok");
}

#[test]
fn a_client_that_leaves_is_forgotten() {
    let (upstream, site) = site();
    change(&site, GateChange::Hold(hold(1))).unwrap();
    for (left, request) in [
        GET.to_owned(),
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nabc".to_owned(),
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".into(),
        format!("{GET}{GET}"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = site.client();
        client.send(request);
        waiting(&site, 1);
        drop(client);
        waiting(&site, 0);
        assert_eq!(tally(&site).left, left as u64 + 1);
    }
    open(&site, 1);
    assert_eq!(site.get("/").text(), "ok");
    assert_eq!(upstream.requests().len(), 1, "nobody asked for those who left");
    until("their places are free", || site.proxy.counts().connections == 0);
}

#[test]
fn a_thousand_wait_without_a_descriptor_more() {
    let (upstream, site) = site();
    change(&site, GateChange::Hold(hold(1))).unwrap();
    let mut clients: Vec<Client> = (0..1_000).map(|_| site.client()).collect();
    until("all are accepted", || site.proxy.counts().connections == 1_000);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    clients.iter_mut().for_each(|client| client.send(GET));
    waiting(&site, 1_000);
    let now = descriptors();
    assert!(now <= before + 2, "{before} {now}");
    assert_eq!(upstream.connections(), 0);
    open(&site, 1);
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "ok"));
    assert_eq!((tally(&site).waited, tally(&site).refused), (1_000, 0));
}

#[test]
fn pipelined_requests_wait_in_their_turn() {
    let upstream = Upstream::start(|served| {
        let path = served.request.start.split(' ').nth(1).unwrap().to_owned();
        served.ok(&path)
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    assert_eq!(client.ask(GET).text(), "/");
    change(&site, GateChange::Hold(hold(1))).unwrap();
    let all = ["/a", "/b", "/c"].map(|p| format!("GET {p} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    client.send(all.concat());
    waiting(&site, 1);
    open(&site, 1);
    for path in ["/a", "/b", "/c"] {
        assert_eq!(client.answer().text(), path);
    }
}

#[test]
fn who_waited_is_routed_by_the_table_after_the_wait() {
    let (blue, green) = (Upstream::says("blue"), Upstream::says("green"));
    let site = Site::of(spec("shop", &[blue.address], &[green.address]));
    for (number, color) in [(1, Color::Green), (2, Color::Blue)] {
        change(&site, GateChange::Hold(hold(number))).unwrap();
        let mut clients: Vec<Client> = (0..20).map(|_| site.client()).collect();
        clients.iter_mut().for_each(|client| client.send(GET));
        waiting(&site, 20);
        site.shift("shop", Split::all(color));
        open(&site, number);
        clients.iter_mut().for_each(|c| assert_eq!(c.answer().text(), color.as_str()));
    }
    assert_eq!((blue.requests().len(), green.requests().len()), (20, 20));
}

#[test]
fn a_drain_waits_for_both_colors_and_not_for_those_at_the_gate() {
    let let_go = Arc::new(AtomicBool::new(false));
    let slow = || {
        let let_go = let_go.clone();
        Upstream::start(move |served| {
            until("it is let go", || let_go.load(Ordering::SeqCst));
            served.ok("slow")
        })
    };
    let (blue, green) = (slow(), slow());
    let site = Site::of(spec("shop", &[blue.address], &[green.address]));
    let mut first = site.client();
    first.send(GET);
    until("blue has it", || blue.requests().len() == 1);
    site.shift("shop", Split::all(Color::Green));
    let mut second = site.client();
    second.send(GET);
    until("green has it", || green.requests().len() == 1);
    change(&site, GateChange::Hold(hold(1))).unwrap();
    let mut held = site.client();
    held.send(GET);
    waiting(&site, 1);
    let drained = drain(&site, 50, Streams::Stay);
    assert_eq!((drained.requests, drained.requests_left), (2, 2));
    let_go.store(true, Ordering::SeqCst);
    let drained = drain(&site, 5_000, Streams::Stay);
    assert_eq!((drained.requests_left, drained.tunnels_left), (0, 0));
    assert_eq!((first.answer().text(), second.answer().text()), ("slow".into(), "slow".into()));
    waiting(&site, 1);
    open(&site, 1);
    assert_eq!(held.answer().text(), "slow");
}

#[test]
fn holds_under_load_lose_nothing_and_after_a_drain_nothing_reaches_the_app() {
    let reached = Arc::new(AtomicU64::new(0));
    let count = reached.clone();
    let upstream = Upstream::start(move |served| {
        count.fetch_add(1, Ordering::SeqCst);
        served.ok("ok")
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (site, stop, asked) = (&site, &stop, &asked);
            scope.spawn(move || {
                let mut client = site.client();
                let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.ask(if number % 2 == 0 { post } else { GET });
                    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for number in 1..=20 {
            change(&site, GateChange::Hold(hold(number))).unwrap();
            let drained = drain(&site, 5_000, Streams::Stay);
            assert_eq!(drained.requests_left, 0);
            let before = reached.load(Ordering::SeqCst);
            waiting(&site, 6);
            assert_eq!(reached.load(Ordering::SeqCst), before, "the drain missed a request");
            open(&site, number);
            let seen = asked.load(Ordering::SeqCst);
            until("clients go on", || asked.load(Ordering::SeqCst) > seen + 20);
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn a_proxy_can_start_held() {
    let upstream = Upstream::says("ok");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.gates.push(Gate { app: app("shop"), change: GateChange::Hold(hold(7)) });
    let site = Site::start(settings);
    let mut client = site.client();
    client.send(GET);
    waiting(&site, 1);
    assert!(upstream.requests().is_empty());
    open(&site, 7);
    assert_eq!(client.answer().text(), "ok");
}

#[test]
fn a_colors_own_address_has_no_gate() {
    let (_upstream, site) = site();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let stop = CancellationToken::new();
    let address = site.proxy.add_color_listener(app("shop"), Color::Blue, any, stop).unwrap();
    change(&site, GateChange::Hold(hold(1))).unwrap();
    change(&site, GateChange::Close(Closed::default())).unwrap();
    assert_eq!(Client::connect(address).ask(GET).text(), "ok");
}

#[test]
fn an_event_stream_ends_whole_so_that_its_client_comes_back() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let upstream = Upstream::start(move |served| {
        served.write(
            "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\
             Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
        );
        until("the proxy lets it go", || stopped.load(Ordering::SeqCst));
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send(GET);
    let head = client.head();
    assert_eq!(head.field("transfer-encoding"), Some("chunked"));
    assert_eq!(client.bytes(14), b"9\r\ndata: 1\n\n\r\n");
    let streams = Streams::Reconnect;
    change(&site, GateChange::Hold(Hold { streams, ..hold(1) })).unwrap();
    assert_eq!(client.bytes(5), b"0\r\n\r\n");
    let drained = drain(&site, 5_000, streams);
    assert_eq!(drained.requests_left, 0);
    stop.store(true, Ordering::SeqCst);
    // The connection is good for another request, which waits as any other.
    client.send(GET);
    waiting(&site, 1);
    open(&site, 1);
    assert_eq!(client.head().status(), 200);
}

#[test]
fn at_the_end_of_the_proxy_nobody_waits_on() {
    let (_upstream, site) = site();
    change(&site, GateChange::Hold(hold(1))).unwrap();
    let mut client = site.client();
    client.send(GET);
    waiting(&site, 1);
    let left = runtime().block_on(site.proxy.shutdown(Duration::from_millis(50)));
    assert_eq!(left, 1);
    assert_eq!(client.answer().status(), 503);
}

fn closed(page: Option<&str>, allow: &[&str]) -> Closed {
    Closed {
        retry_after_s: 300,
        page: page.map(Into::into),
        allow: allow.iter().map(|network| network.parse().unwrap()).collect(),
        streams: Streams::Reconnect,
    }
}

/// A client whose address is this one of the loopback network.
fn client_at(site: &Site, ip: [u8; 4]) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket.connect(&site.address.into()).unwrap();
    Client::over(socket.into())
}

#[test]
fn a_closed_gate_shows_its_page_and_lets_named_networks_pass() {
    let (upstream, site) = site();
    change(&site, GateChange::Close(closed(None, &["127.0.0.2/32"]))).unwrap();
    let html = "GET / HTTP/1.1\r\nHost: a.test\r\nAccept: text/html\r\n\r\n";
    let ours = site.client().ask(html);
    assert_eq!((ours.status(), ours.field("retry-after")), (503, Some("300")));
    assert!(ours.text().contains("down for maintenance"), "{}", ours.text());
    assert_eq!(client_at(&site, [127, 0, 0, 2]).ask(GET).text(), "ok");
    assert_eq!(client_at(&site, [127, 0, 0, 3]).ask(GET).status(), 503);

    change(&site, GateChange::Close(closed(Some("<h1>later</h1>"), &[]))).unwrap();
    assert_eq!(client_at(&site, [127, 0, 0, 2]).ask(GET).text(), "<h1>later</h1>");
    let json = "GET / HTTP/1.1\r\nHost: a.test\r\nAccept: application/json\r\n\r\n";
    let answer = site.client().ask(json);
    let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((value["status"].as_u64(), answer.field("retry-after")), (Some(503), Some("300")));
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(charged(&site.proxy), 0);

    assert!(site.proxy.gated(&app("shop")).is_closed);
    change(&site, GateChange::Reopen).unwrap();
    assert_eq!(site.get("/").text(), "ok");
}

#[test]
fn a_hold_holds_those_who_may_pass_a_closed_gate_too() {
    let (_upstream, site) = site();
    change(&site, GateChange::Close(closed(None, &["127.0.0.2"]))).unwrap();
    change(&site, GateChange::Hold(hold(1))).unwrap();
    let mut allowed = client_at(&site, [127, 0, 0, 2]);
    allowed.send(GET);
    waiting(&site, 1);
    assert_eq!(site.get("/").status(), 503);
    open(&site, 1);
    assert_eq!(allowed.answer().text(), "ok");
    assert_eq!(site.get("/").status(), 503, "the gate is closed as before");
}

#[test]
fn those_who_wait_when_the_gate_closes_get_the_page_when_they_are_let_go() {
    let (upstream, site) = site();
    change(&site, GateChange::Hold(hold(1))).unwrap();
    let mut client = site.client();
    client.send(GET);
    waiting(&site, 1);
    change(&site, GateChange::Close(closed(Some("closed"), &[]))).unwrap();
    open(&site, 1);
    assert_eq!(client.answer().text(), "closed");
    assert!(upstream.requests().is_empty());
}

#[test]
fn an_outer_balancer_is_answered_while_the_gate_is_not_open() {
    let upstream = Upstream::says("app");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.balancer_path = Some("/lb".into());
    let site = Site::start(settings);
    assert_eq!(site.get("/lb").text(), "app", "open: the app says how it is");
    change(&site, GateChange::Hold(hold(1))).unwrap();
    assert_eq!((site.get("/lb").status(), site.get("/lb?x=1").text()), (200, "here\n".into()));
    open(&site, 1);
    change(&site, GateChange::Close(Closed::default())).unwrap();
    assert_eq!(site.get("/lb").status(), 200);
    assert_eq!(site.get("/lbs").status(), 503);
    let post = "POST /lb HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(site.client().ask(post).status(), 503);
}

#[test]
fn a_handshake_waits_like_any_request_and_open_tunnels_may_be_asked_to_come_back() {
    const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";
    let ends = Arc::new(Mutex::new(Vec::new()));
    let seen = ends.clone();
    let upstream = Upstream::start(move |served| {
        served.write(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        let mut all = Vec::new();
        std::io::Read::read_to_end(served.reader, &mut all).ok();
        seen.lock().unwrap().push(all);
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut tunnel = site.client();
    assert_eq!(tunnel.ask(HANDSHAKE).status(), 101);
    change(&site, GateChange::Hold(hold(1))).unwrap();
    let drained = drain(&site, 5_000, Streams::Stay);
    assert_eq!((drained.tunnels, drained.tunnels_left), (1, 1), "it goes on");
    open(&site, 1);

    change(&site, GateChange::Hold(Hold { streams: Streams::Reconnect, ..hold(2) })).unwrap();
    // Close 1012: the client comes back, and waits.
    assert_eq!(tunnel.bytes(4), [0x88, 0x02, 0x03, 0xF4]);
    drop(tunnel);
    let drained = drain(&site, 5_000, Streams::Reconnect);
    assert_eq!(drained.tunnels_left, 0);
    until("the upstream was told", || ends.lock().unwrap().len() == 1);
    assert_eq!(ends.lock().unwrap()[0], [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE9]);
    let mut again = site.client();
    again.send(HANDSHAKE);
    waiting(&site, 1);
    open(&site, 2);
    assert_eq!(
        read_head(&mut std::io::BufReader::new(&again.stream)).unwrap().unwrap().status(),
        101
    );
}
