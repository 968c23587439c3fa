//! Publishing and draining: what is in force when, what is lost (nothing), who waits for whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cutover_model::{Color, Generation, Salt, ServiceName, Split};
use cutover_proxy::message::{Change, Drain, Publish, Refused, Rest};

use super::harness::{
    Site, Then, Upstream, app, charged, count, endpoint, route, runtime, settings, spec, split,
    until,
};

fn all(color: Color) -> Split {
    Split::all(color)
}

fn color_of(number: u64) -> Color {
    if number.is_multiple_of(2) { Color::Blue } else { Color::Green }
}

fn two_colors() -> (Upstream, Upstream, Site) {
    let (blue, green) = (Upstream::says("blue"), Upstream::says("green"));
    let site = Site::of(spec("shop", &[blue.address], &[green.address]));
    (blue, green, site)
}

#[test]
fn a_publish_is_in_force_when_it_returns() {
    let (_blue, _green, site) = two_colors();
    let mut kept = site.client();
    for number in 1..200 {
        let color = color_of(number);
        site.shift("shop", all(color));
        let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        assert_eq!(kept.ask(get).text(), color.as_str());
        assert_eq!(site.get("/").text(), color.as_str());
    }
}

#[test]
fn publishes_under_load_lose_no_request_and_none_reaches_the_old_color_afterwards() {
    let (_blue, _green, site) = two_colors();
    // `meant` is raised before a publish, `done` after it has returned.
    let (meant, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sure = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..6)
        .map(|number| {
            let (meant, done, stop) = (meant.clone(), done.clone(), stop.clone());
            let (asked, sure, address) = (asked.clone(), sure.clone(), site.address);
            std::thread::spawn(move || {
                let mut client = super::harness::Client::connect(address);
                let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
                let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
                while !stop.load(Ordering::SeqCst) {
                    let before = done.load(Ordering::SeqCst);
                    let answer = client.ask(if number % 2 == 0 { post } else { get });
                    let after = meant.load(Ordering::SeqCst);
                    assert_eq!(answer.status(), 200);
                    let allowed = (before..=after).map(|n| color_of(n).as_str());
                    assert!(allowed.into_iter().any(|color| color == answer.text()));
                    sure.fetch_add(u64::from(before == after), Ordering::SeqCst);
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for number in 1..=100 {
        meant.store(number, Ordering::SeqCst);
        site.shift("shop", all(color_of(number)));
        done.store(number, Ordering::SeqCst);
        let seen = asked.load(Ordering::SeqCst);
        until("clients go on", || asked.load(Ordering::SeqCst) > seen + 20);
    }
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(sure.load(Ordering::SeqCst) > 1_000, "{sure:?} of {asked:?} were told apart");
    assert_eq!(charged(&site.proxy), 0);
    assert_eq!(count(&site.proxy, cutover_proxy::message::Class::ClientFault), 0);
}

/// The whole life of releases: a new one comes up, takes the traffic, the old one is drained and
/// taken away, again and again, while clients that keep their connections ask all the time.
#[test]
fn releases_come_and_go_under_load_and_no_request_is_lost() {
    let site = Site::of(spec("shop", &[], &[]));
    let publish = |changes| {
        let publish = Publish { app: app("shop"), changes, based_on: None };
        site.proxy.switch().apply(publish).unwrap()
    };
    let endpoints = |color, upstream: Option<&Upstream>| Change::Endpoints {
        color,
        service: super::harness::service(),
        endpoints: upstream.map(|upstream| endpoint(upstream.address)).into_iter().collect(),
    };
    let mut serving = Upstream::says("release");
    publish(vec![endpoints(Color::Blue, Some(&serving))]);
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (site, stop, asked) = (&site, &stop, &asked);
            scope.spawn(move || {
                let mut client = site.client();
                let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
                let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.ask(if number % 2 == 0 { post } else { get });
                    assert_eq!((answer.status(), answer.text().as_str()), (200, "release"));
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let runtime = runtime();
        for round in 1..=20 {
            let (old, new) = (color_of(round + 1), color_of(round));
            let next = Upstream::says("release");
            publish(vec![endpoints(new, Some(&next))]);
            for points in [100, 5_000, 10_000] {
                site.shift("shop", split(old, points));
                let seen = asked.load(Ordering::SeqCst);
                until("clients go on", || asked.load(Ordering::SeqCst) > seen + 20);
            }
            site.shift("shop", all(new));
            let deadline = Duration::from_secs(10);
            let drain = Drain { app: app("shop"), color: old, deadline, rest: Rest::Leave };
            assert_eq!(runtime.block_on(site.proxy.drain(drain)).left, 0);
            publish(vec![endpoints(old, None)]);
            let gone = std::mem::replace(&mut serving, next);
            until("nothing holds the old release", || gone.closed() == gone.connections());
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(charged(&site.proxy), 0, "{:?}", site.proxy.counts());
    assert_eq!(count(&site.proxy, cutover_proxy::message::Class::ClientFault), 0);
}

#[test]
fn a_publish_cuts_no_request_in_flight() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let blue = Upstream::start(move |served| {
        wait.lock().unwrap().recv().ok();
        served.ok("blue")
    });
    let green = Upstream::says("green");
    let site = Site::of(spec("shop", &[blue.address], &[green.address]));
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    until("blue has it", || blue.requests().len() == 1);
    let change = Change::Endpoints {
        color: Color::Blue,
        service: super::harness::service(),
        endpoints: Vec::new(),
    };
    let shift = Change::Split { split: all(Color::Green), salt: Salt(1) };
    let publish = Publish { app: app("shop"), changes: vec![shift, change], based_on: None };
    site.proxy.switch().apply(publish).unwrap();
    assert_eq!(site.get("/").text(), "green");
    assert_eq!(site.proxy.switch().in_flight(&app("shop"), Color::Blue).requests, 1);
    go.send(()).unwrap();
    assert_eq!(client.answer().text(), "blue");
    until("the lease is given back", || {
        site.proxy.switch().in_flight(&app("shop"), Color::Blue).requests == 0
    });
}

#[test]
fn two_apps_publish_at_once_and_nothing_is_lost() {
    let (one, two) = (Upstream::says("one"), Upstream::says("two"));
    let mut first = spec("one", &[one.address], &[]);
    first.routes = vec![route(Some("one.test"), "/")];
    let second = spec("two", &[two.address], &[]);
    let site = Site::start(settings(vec![first, second]));
    let began = site.proxy.switch().generation();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let switch = site.proxy.switch();
            std::thread::spawn(move || {
                let name = if thread % 2 == 0 { "one" } else { "two" };
                for number in 0..50 {
                    let service = ServiceName::new(format!("s{thread}-{number}")).unwrap();
                    let change =
                        Change::Endpoints { color: Color::Green, service, endpoints: vec![] };
                    let publish = Publish { app: app(name), changes: vec![change], based_on: None };
                    switch.apply(publish).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    for spec in site.proxy.switch().specs() {
        // 200 of ours and the one that was there.
        assert_eq!(spec.colors.green.upstreams.len(), 201);
    }
    assert_eq!(site.proxy.switch().generation(), Generation(began.0 + 400));
}

#[test]
fn a_shift_that_was_overtaken_changes_nothing() {
    let (_blue, _green, site) = two_colors();
    let switch = site.proxy.switch();
    let first = site.shift("shop", split(Color::Blue, 1_000));
    let shift = |to, based_on| {
        let change = Change::Split { split: to, salt: Salt(1) };
        switch.apply(Publish { app: app("shop"), changes: vec![change], based_on })
    };
    // Endpoints change meanwhile: that overtakes no shift.
    let release = Change::Release { color: Color::Blue, release: None };
    let endpoints = Publish { app: app("shop"), changes: vec![release], based_on: None };
    let after = switch.apply(endpoints).unwrap();
    assert_eq!(after.split_generation, first.split_generation);
    assert!(after.generation > first.generation);
    let second = shift(split(Color::Blue, 2_000), Some(first.split_generation)).unwrap();
    assert_eq!(second.before, Some(split(Color::Blue, 1_000)));
    // A cut-back, then a shift that was decided before it.
    let back = shift(all(Color::Blue), None).unwrap();
    let late = shift(split(Color::Blue, 5_000), Some(second.split_generation));
    let wanted = Refused::Overtaken {
        app: app("shop"),
        generation: back.split_generation,
        now: all(Color::Blue),
    };
    assert_eq!(late, Err(wanted));
    assert_eq!(switch.split(&app("shop")).unwrap().1, all(Color::Blue));
}

#[test]
fn an_app_is_defined_and_taken_out() {
    let upstream = Upstream::says("ok");
    let site = Site::start(settings(vec![]));
    let switch = site.proxy.switch();
    assert_eq!(site.get("/").status(), 404);
    let spec = spec("shop", &[upstream.address], &[]);
    let apply =
        |change| switch.apply(Publish { app: app("shop"), changes: vec![change], based_on: None });
    assert_eq!(apply(Change::Remove), Err(Refused::UnknownApp(app("shop"))));
    let made = apply(Change::Define(Box::new(spec.clone()))).unwrap();
    assert_eq!((made.before, made.split), (None, all(Color::Blue)));
    assert_eq!(site.get("/").text(), "ok");
    assert_eq!(switch.specs(), [spec]);
    apply(Change::Remove).unwrap();
    assert_eq!(site.get("/").status(), 404);
    assert!(switch.specs().is_empty());
}

#[test]
fn a_route_belongs_to_one_app() {
    let mut first = spec("one", &[], &[]);
    first.routes = vec![route(Some("a.test"), "/api")];
    let mut second = spec("two", &[], &[]);
    second.routes = vec![route(Some("a.test"), "/")];
    let site = Site::start(settings(vec![first, second]));
    let routes = Change::Routes(vec![route(Some("A.test"), "/api/")]);
    let taken = site.proxy.switch().apply(Publish {
        app: app("two"),
        changes: vec![routes],
        based_on: None,
    });
    let Err(Refused::RouteTaken { first, second, route }) = taken else { panic!("{taken:?}") };
    assert_eq!((first, second, route.as_str()), (app("one"), app("two"), "A.test/api/"));
}

#[test]
fn a_drain_waits_for_what_was_there_and_for_nothing_else() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let blue = Upstream::start(move |served| {
        if served.request.start.contains("/slow") {
            wait.lock().unwrap().recv().ok();
        }
        served.ok("blue")
    });
    let site = Site::of(spec("shop", &[blue.address], &[]));
    let mut slow = site.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n");
    until("blue has it", || blue.requests().len() == 1);
    let generation = site.proxy.switch().generation();
    let drain = |deadline, rest| {
        let drain = Drain { app: app("shop"), color: Color::Blue, deadline, rest };
        runtime().block_on(site.proxy.drain(drain))
    };
    let short = drain(Duration::from_millis(50), Rest::Leave);
    assert_eq!((short.requests, short.tunnels, short.left), (1, 0, 1));
    // Draining is no publish.
    assert_eq!(site.proxy.switch().generation(), generation);

    // A color that still gets requests can be drained of the earlier ones.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(site.get("/fast").text(), "blue");
            }
        });
        scope.spawn(|| {
            let began = Instant::now();
            let long = drain(Duration::from_secs(30), Rest::Leave);
            assert_eq!(long.left, 0);
            assert!(began.elapsed() < Duration::from_secs(10));
            stop.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            std::thread::park_timeout(Duration::from_millis(100));
            go.send(()).unwrap();
            assert_eq!(slow.answer().text(), "blue");
        });
    });
}

#[test]
fn a_drain_that_ends_the_rest_cuts_it_at_the_deadline() {
    let blue = Upstream::start(|served| {
        served.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
        std::thread::park_timeout(Duration::from_secs(20));
        Then::Close
    });
    let site = Site::of(spec("shop", &[blue.address], &[]));
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    let drain = Drain {
        app: app("shop"),
        color: Color::Blue,
        deadline: Duration::from_millis(50),
        rest: Rest::End,
    };
    let drained = runtime().block_on(site.proxy.drain(drain));
    assert_eq!((drained.requests, drained.left), (1, 1));
    assert_eq!(client.rest(), b"abc");
    assert_eq!(site.proxy.switch().in_flight(&app("shop"), Color::Blue), Default::default());
    assert_eq!(charged(&site.proxy), 0);
}

#[test]
fn draining_under_load_is_never_followed_by_a_request_on_the_old_color() {
    let (blue, _green, site) = two_colors();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = site.client();
                while !stop.load(Ordering::SeqCst) {
                    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
                    assert_eq!(client.ask(get).status(), 200);
                }
            });
        }
        let runtime = runtime();
        for _ in 0..100 {
            site.shift("shop", all(Color::Green));
            let drain = Drain {
                app: app("shop"),
                color: Color::Blue,
                deadline: Duration::from_secs(10),
                rest: Rest::Leave,
            };
            assert_eq!(runtime.block_on(site.proxy.drain(drain)).left, 0);
            let drained = blue.requests().len();
            site.get("/");
            site.get("/");
            assert_eq!(blue.requests().len(), drained);
            site.shift("shop", all(Color::Blue));
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn an_upstream_without_endpoints_answers_503_and_recovers() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[], &[]));
    assert_eq!(site.get("/").status(), 503);
    let change = Change::Endpoints {
        color: Color::Blue,
        service: super::harness::service(),
        endpoints: vec![endpoint(upstream.address)],
    };
    let publish = Publish { app: app("shop"), changes: vec![change], based_on: None };
    site.proxy.switch().apply(publish).unwrap();
    assert_eq!(site.get("/").text(), "ok");
}

#[test]
fn a_client_that_is_parted_with_gets_its_answer_and_comes_back_on_a_new_connection() {
    let (_blue, _green, site) = two_colors();
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (mut busy, mut idle) = (site.client(), site.client());
    assert_eq!(busy.ask(get).field("connection"), None);
    assert_eq!(idle.ask(get).text(), "blue");
    let port = site.address.port();
    assert_eq!(site.proxy.part_with(&[port.wrapping_add(1)]), 0);
    assert_eq!(site.proxy.part_with(&[port]), 2);
    let answer = busy.ask(get);
    assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")));
    assert!(busy.rest().is_empty(), "closed after its answer");
    until("the parted connection is gone", || site.proxy.part_with(&[port]) == 1);
    site.proxy.stop_on(&[port]);
    assert!(idle.rest().is_empty(), "an idle one is closed");
    assert_eq!(site.get("/").text(), "blue", "new ones are served");
}
