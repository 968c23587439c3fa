//! The gate of an app: `maintenance` as a person uses it, and holds as an operation does.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cutover::controller::{App, HoldLimits, HoldLost};
use cutover::daemon::{Daemon, ServeOptions};
use serde_json::Value;

use crate::daemon::{Cutover, Web, until};

/// A whole answer, head and body.
fn whole(cutover: &Cutover) -> String {
    let mut answer = String::new();
    cutover.ask("/").read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn maintenance_sends_clients_away_survives_a_kill_and_ends() {
    let mut cutover = Cutover::start(None);
    let open = cutover.ask("/slow");
    until("blue has the request", || cutover.blue.waiting.load(Ordering::SeqCst) > 0);
    std::fs::write(cutover.path("down.html"), "<h1>back at nine</h1>").unwrap();

    let on = cutover.good(&["maintenance", "on", "--page", "down.html", "--retry-after", "30m"]);
    assert!(on.contains("DONE: clients get your page (503, come back in 30 min)"), "{on}");
    assert!(on.contains("1 open requests finish"), "{on}");
    assert!(on.contains("NOT stopped: r1"), "{on}");
    let answer = whole(&cutover);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1800\r\n"), "{answer}");
    assert!(answer.ends_with("<h1>back at nine</h1>"), "{answer}");
    cutover.blue.is_slow.store(false, Ordering::SeqCst);
    let mut answer = String::new();
    { open }.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("blue"), "who was let in is answered: {answer}");

    cutover.kill();
    cutover.serve();
    assert!(whole(&cutover).ends_with("<h1>back at nine</h1>"));
    let status = cutover.good(&["status"]);
    let first = status.lines().next().unwrap();
    assert!(first.starts_with("shop   MAINTENANCE since "), "{status}");
    assert_eq!(cutover.run(&["status", "--check"]).exit, 1);

    let off = cutover.good(&["maintenance", "off"]);
    assert!(off.contains("DONE: clients are served again, by r1"), "{off}");
    assert!(off.contains("Maintenance lasted"), "{off}");
    assert_eq!(cutover.get("/"), "blue");
    let again = cutover.good(&["maintenance", "off"]);
    assert!(again.starts_with("Nothing to do: clients are served"), "{again}");
    cutover.kill();
    cutover.serve();
    assert_eq!(cutover.get("/"), "blue");
    let events = cutover.good(&["events"]);
    assert!(events.contains("maintenance: clients are sent away with 503"), "{events}");
    assert!(events.contains("maintenance is over"), "{events}");
}

#[test]
fn named_networks_pass_and_a_rollback_works_meanwhile() {
    let cutover = Cutover::start(None);
    cutover.good(&["shift", "100%"]);
    cutover.good(&["maintenance", "on"]);
    assert!(whole(&cutover).contains("down for maintenance"));
    let on = cutover.good(&["maintenance", "on", "--allow", "127.0.0.0/8", "--allow", "::1"]);
    assert!(on.contains("Served all the same: 127.0.0.0/8, ::1/128"), "{on}");
    assert_eq!(cutover.get("/"), "green");
    cutover.good(&["rollback"]);
    assert_eq!(cutover.get("/"), "blue");
    let status: Value = serde_json::from_str(&cutover.good(&["status", "--json"])).unwrap();
    assert_eq!(status["apps"][0]["mood"], "maintenance");
    assert_eq!(status["apps"][0]["maintenance"]["allow"][1], "::1/128");
    let off = cutover.good(&["maintenance", "off", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&off).unwrap()["schema"], "cutover.maintenance/1");
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let cutover = Cutover::start(None);
    std::fs::write(cutover.path("long.html"), "x".repeat(300 * 1024)).unwrap();
    for (words, exit, text) in [
        (&["--allow", "ten/8"][..], 2, "\"ten/8\" is not a network"),
        (&["--page", "missing.html"], 2, "NOTHING WAS CHANGED"),
        (&["--page", "long.html"], 2, "at most 256 KiB"),
        (&["--retry-after", "soon"], 2, "write a time like 30s"),
        (&["--retry-after", "240h"], 2, "1 s to 7 days"),
        (&["--app", "blog"], 2, "there is no app \"blog\""),
    ] {
        let words = [&["maintenance", "on"], words].concat();
        let ran = cutover.run(&words);
        assert_eq!(ran.exit, exit, "{words:?}: {ran:?}");
        assert!(ran.err.contains(text), "{words:?}: {ran:?}");
    }
    assert_eq!(cutover.get("/"), "blue");
}

/// A daemon inside this process, with a static app.
struct Inside {
    runtime: tokio::runtime::Runtime,
    daemon: Daemon,
    app: Arc<App>,
    web: Web,
    _folder: tempfile::TempDir,
}

impl Inside {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let web = Web::start("blue");
        let text = format!(
            "version = 1\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
             [admin]\nsocket = \"{f}/cutover.sock\"\n[state]\npath = \"{f}/state\"\n\
             [apps.shop.endpoints]\nblue = {{ web = [\"{blue}\"] }}\n\
             [[apps.shop.routes]]\nservice = \"web\"\n",
            f = folder.path().display(),
            blue = web.address,
        );
        let (config, _) = cutover_config::parse(&text, "cutover.toml", Path::new("/"), []).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let options =
            ServeOptions { file: folder.path().join("cutover.toml"), ..Default::default() };
        let daemon = runtime.block_on(Daemon::start(config, options)).unwrap();
        let app = Arc::clone(daemon.controller.app(None).unwrap());
        Self { runtime, daemon, app, web, _folder: folder }
    }

    fn address(&self) -> SocketAddr {
        self.daemon.addresses[0]
    }

    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }
}

fn rest(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_operation_holds_drains_and_lets_go_and_learns_who_waited() {
    let inside = Inside::start();
    let slow = inside.ask("/slow");
    until("the app has it", || inside.web.waiting.load(Ordering::SeqCst) == 1);
    let limits = HoldLimits::within(Duration::from_secs(10));
    let hold = inside.app.hold(limits, Duration::from_secs(15)).unwrap();
    let waiting: Vec<TcpStream> = (0..5).map(|_| inside.ask("/")).collect();
    until("five wait", || hold.figures().unwrap().waiting == 5);
    assert!(inside.app.hold(limits, Duration::from_secs(1)).is_err(), "one at a time");
    let deadline = Duration::from_millis(50);
    let drained = inside.runtime.block_on(hold.drained(deadline));
    assert_eq!((drained.requests, drained.requests_left), (1, 1));
    inside.web.is_slow.store(false, Ordering::SeqCst);
    let drained = inside.runtime.block_on(hold.drained(Duration::from_secs(10)));
    assert_eq!(drained.requests_left, 0);
    assert!(rest(slow).ends_with("blue"));
    hold.renew(Duration::from_secs(5)).unwrap();

    let figures = inside.runtime.block_on(hold.release()).unwrap();
    assert_eq!((figures.waiting, figures.waited, figures.refused), (0, 5, 0));
    assert!(figures.longest > Duration::from_millis(50), "{figures:?}");
    waiting.into_iter().for_each(|stream| assert!(rest(stream).ends_with("blue")));
}

#[test]
fn a_hold_ends_with_its_operation_or_without_it() {
    let inside = Inside::start();
    let limits = HoldLimits::within(Duration::from_secs(10));
    let hold = inside.app.hold(limits, Duration::from_secs(15)).unwrap();
    let stream = inside.ask("/");
    until("it waits", || hold.figures().unwrap().waiting == 1);
    drop(hold);
    assert!(rest(stream).ends_with("blue"), "an operation that breaks off holds nobody");

    let hold = inside.app.hold(limits, Duration::from_millis(200)).unwrap();
    assert!(rest(inside.ask("/")).ends_with("blue"), "a lease that nobody renews runs out");
    assert!(!hold.is_held());
    assert_eq!(hold.renew(Duration::from_secs(1)), Err(HoldLost));
    assert_eq!(inside.address().ip(), Ipv4Addr::LOCALHOST);
}
