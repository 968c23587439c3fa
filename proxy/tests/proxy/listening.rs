//! Listening: who may have a port, how sockets are handed on, how the proxy stops.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cutover_proxy::{Proxy, StartError};

use super::harness::{Client, Site, Then, Upstream, runtime, settings, spec, until};

#[test]
fn a_second_proxy_on_the_same_port_is_refused_and_the_owner_is_named() {
    let site = Site::start(settings(vec![]));
    for address in [site.address, SocketAddr::from(([0, 0, 0, 0], site.address.port()))] {
        let mut again = settings(vec![]);
        again.listen = vec![address];
        let error = Proxy::start(again, Vec::new()).unwrap_err();
        assert!(matches!(error, StartError::Listen { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("port {} is taken by ", address.port())), "{text}");
        assert!(text.contains(&format!("(pid {}", std::process::id())), "{text}");
    }
    assert_eq!(site.get("/").status(), 404);
}

#[test]
fn a_port_that_another_program_has_is_refused() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(vec![]);
    settings.listen = vec![other.local_addr().unwrap()];
    assert!(Proxy::start(settings, Vec::new()).is_err());
}

#[test]
fn two_that_start_at_once_never_both_get_the_port() {
    for _ in 0..20 {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let start = || {
            let mut settings = settings(vec![]);
            settings.listen = vec![free];
            Proxy::start(settings, Vec::new())
        };
        let won = std::thread::scope(|scope| {
            let all: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
            // All results are kept until the last one has tried.
            let results: Vec<_> = all.into_iter().map(|t| t.join().unwrap()).collect();
            results.iter().filter(|result| result.is_ok()).count()
        });
        assert_eq!(won, 1);
    }
}

#[test]
fn every_worker_accepts() {
    let upstream = Upstream::says("ok");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.workers = NonZeroUsize::new(4).unwrap();
    let site = Site::start(settings);
    // Each worker has a pool of its own, so each makes a connection of its own.
    until("all four have served", || {
        site.get("/");
        upstream.connections() == 4
    });
}

#[test]
fn listeners_are_handed_to_a_successor_and_nobody_is_refused() {
    let upstream = Upstream::says("ok");
    let first = Site::of(spec("shop", &[upstream.address], &[]));
    let address = first.address;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = || {
            while !stop.load(Ordering::SeqCst) {
                let get = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
                assert_eq!(Client::connect(address).ask(get).status(), 200);
            }
        };
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(client)).collect();
        let mut current = first.proxy;
        for _ in 0..5 {
            let fds: Vec<OwnedFd> =
                current.listeners().unwrap().into_iter().map(|(_, fd)| fd).collect();
            let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
            settings.listen = vec![address];
            let next = Proxy::start(settings, fds).unwrap();
            let old = std::mem::replace(&mut current, next);
            assert_eq!(runtime().block_on(old.shutdown(Duration::from_secs(10))), 0);
        }
        stop.store(true, Ordering::SeqCst);
        // Serves until the clients' last request is through.
        clients.into_iter().for_each(|client| client.join().unwrap());
        drop(current);
    });
}

#[test]
fn one_inherited_socket_serves_every_worker() {
    let upstream = Upstream::says("ok");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.listen = vec![listener.local_addr().unwrap()];
    let proxy = Proxy::start(settings, vec![listener.into()]).unwrap();
    let site = Site { address: proxy.addresses()[0], proxy };
    for _ in 0..50 {
        assert_eq!(site.get("/").text(), "ok");
    }
}

#[test]
fn connections_over_the_limit_are_refused_quickly_and_the_rest_is_served() {
    let upstream = Upstream::says("ok");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.limits.connections = cutover_proxy::Connections::Asked(5);
    let site = Site::start(settings);
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut inside: Vec<_> = (0..5).map(|_| site.client()).collect();
    for client in &mut inside {
        assert_eq!(client.ask(get).status(), 200);
    }
    for _ in 0..10 {
        let mut outside = site.client();
        // It has spoken already: the refusal must not be lost in a reset.
        outside.send(get);
        let said = String::from_utf8(outside.rest()).unwrap();
        assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    }
    assert_eq!(site.proxy.counts().refused, 10);
    for client in &mut inside {
        assert_eq!(client.ask(get).status(), 200);
    }
    inside.pop();
    until("there is room again", || {
        let mut client = site.client();
        client.send(get);
        client.try_answer(false).is_ok_and(|a| a.is_some_and(|a| a.status() == 200))
    });
}

#[test]
fn a_shutdown_lets_requests_finish_and_closes_idle_connections() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |served| {
        if served.request.start.contains("slow") {
            wait.lock().unwrap().recv().ok();
        }
        served.ok("ok")
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut idle = site.client();
    idle.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let mut busy = site.client();
    busy.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n");
    until("the upstream has it", || upstream.requests().len() == 2);
    let address = site.address;
    let stopping = std::thread::spawn(move || {
        runtime().block_on(site.proxy.shutdown(Duration::from_secs(20)))
    });
    assert!(idle.rest().is_empty());
    until("nobody is accepted", || std::net::TcpStream::connect(address).is_err());
    go.send(()).unwrap();
    let answer = busy.answer();
    assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")));
    assert_eq!(stopping.join().unwrap(), 0);
}

#[test]
fn a_shutdown_waits_a_moment_for_the_first_word_of_a_connection() {
    let upstream = Upstream::says("ok");
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let (mut speaks, mut silent) = (site.client(), site.client());
    until("both are accepted", || site.proxy.counts().connections == 2);
    let address = site.address;
    let began = Instant::now();
    let stopping = std::thread::spawn(move || {
        runtime().block_on(site.proxy.shutdown(Duration::from_secs(20)))
    });
    until("nobody is accepted", || std::net::TcpStream::connect(address).is_err());
    let answer = speaks.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")));
    assert!(silent.rest().is_empty());
    assert_eq!(stopping.join().unwrap(), 0);
    assert!(began.elapsed() < Duration::from_secs(8), "the silent one held the shutdown");
}

#[test]
fn a_shutdown_ends_what_is_left_at_its_deadline() {
    let upstream = Upstream::start(|served| {
        served.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
        std::thread::park_timeout(Duration::from_secs(20));
        Then::Close
    });
    let site = Site::of(spec("shop", &[upstream.address], &[]));
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    let began = Instant::now();
    assert_eq!(runtime().block_on(site.proxy.shutdown(Duration::from_millis(100))), 1);
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(client.rest(), b"abc");
}

#[test]
fn access_records_tell_which_table_routed_and_a_full_channel_blocks_nobody() {
    let upstream = Upstream::says("ok");
    let (sender, mut records) = tokio::sync::mpsc::channel(4);
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    settings.access_log = Some(sender);
    let site = Site::start(settings);
    let answer =
        site.client().ask("GET /p?q=1 HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: id-1\r\n\r\n");
    assert_eq!(answer.status(), 200);
    let record = records.blocking_recv().unwrap();
    assert_eq!((record.status, record.target.as_str()), (200, "/p?q=1"));
    assert_eq!(record.generation, site.proxy.switch().generation());
    assert_eq!(record.request_id, "id-1");
    assert_eq!(record.release, Some(cutover_model::ReleaseId(1)));
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<cutover_proxy::AccessRecord>(&text).unwrap(), record);
    for _ in 0..20 {
        assert_eq!(site.get("/").status(), 200);
    }
    until("the loss is counted", || site.proxy.counts().access_lost == 16);
}

#[test]
fn both_families_are_listened_on_side_by_side() {
    if TcpListener::bind("[::1]:0").is_err() {
        // This machine has no IPv6.
        return;
    }
    let upstream = Upstream::says("ok");
    let mut settings = settings(vec![spec("shop", &[upstream.address], &[])]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    settings.listen = vec![([0, 0, 0, 0], port).into(), ([0u16; 8], port).into()];
    let site = Site::start(settings);
    for address in
        [SocketAddr::from(([127, 0, 0, 1], port)), format!("[::1]:{port}").parse().unwrap()]
    {
        let answer = Client::connect(address).ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(answer.text(), "ok");
        let seen = upstream.requests();
        let ip = seen.last().unwrap().field("x-forwarded-for").unwrap().to_owned();
        assert_eq!(ip, address.ip().to_string());
    }
    drop(site);
}
