//! Apps with fixed endpoints: everything but deploy, without an engine. Two of them at once.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::daemon::Cutover;
use crate::harness::{eventually, ports, wire};

/// A web server that answers everything with its name, as long as the test lives.
fn named_server(name: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer_all(stream, name));
        }
    });
    port
}

fn answer_all(mut stream: std::net::TcpStream, name: &str) {
    let mut bytes = [0u8; 8192];
    let mut seen = Vec::new();
    while let Ok(count) = stream.read(&mut bytes) {
        if count == 0 {
            return;
        }
        seen.extend_from_slice(&bytes[..count]);
        while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            seen.drain(..end + 4);
            let answer =
                format!("HTTP/1.1 200 OK\r\nx-release: {name}\r\ncontent-length: 2\r\n\r\nok");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

struct TwoApps {
    cutover: Cutover,
    port: u16,
    _folder: TempDir,
}

fn two_apps() -> TwoApps {
    let folder = tempfile::Builder::new().prefix("cutover-static-").tempdir().expect("a folder");
    let port = ports::free_port();
    std::fs::write(folder.path().join("cutover.toml"), config(folder.path(), port))
        .expect("a file");
    let mut cutover = Cutover::new(folder.path(), &folder.path().join("daemon.log"));
    cutover.serve();
    TwoApps { cutover, port, _folder: folder }
}

fn config(folder: &Path, port: u16) -> String {
    let mut text = format!(
        "version = 1\nlisten = [{{ address = \"127.0.0.1:{port}\" }}]\n\
         [admin]\nsocket = \"{f}/cutover.sock\"\n[state]\npath = \"{f}/state\"\n",
        f = folder.display()
    );
    for (app, blue, green) in [("one", "one-blue", "one-green"), ("two", "two-blue", "two-green")] {
        text.push_str(&format!(
            "[apps.{app}.endpoints]\nblue = {{ web = [\"127.0.0.1:{}\"] }}\n\
             green = {{ web = [\"127.0.0.1:{}\"] }}\n\
             [[apps.{app}.routes]]\nhost = \"{app}.test\"\nservice = \"web\"\n",
            named_server(blue),
            named_server(green)
        ));
    }
    text
}

impl TwoApps {
    fn color_of(&self, app: &str) -> String {
        let host = format!("{app}.test");
        let answer = wire::request(self.port, "GET", "/", &[("host", &host)], b"");
        answer.expect("an answer").release().to_owned()
    }
}

#[test]
fn an_app_with_fixed_endpoints_shifts_and_comes_back() {
    let apps = two_apps();
    assert_eq!(
        (apps.color_of("one").as_str(), apps.color_of("two").as_str()),
        ("one-blue", "two-blue")
    );
    apps.cutover.run(&["shift", "100%", "--app", "one"]).succeeded();
    assert_eq!(
        (apps.color_of("one").as_str(), apps.color_of("two").as_str()),
        ("one-green", "two-blue")
    );
    apps.cutover.run(&["rollback", "--app", "one"]).succeeded();
    assert_eq!(apps.color_of("one"), "one-blue");
    apps.cutover.run(&["rollback", "--app", "one"]).succeeded().says(&["Nothing to do"]);
    let unnamed = apps.cutover.run(&["shift", "10%"]);
    assert_eq!(unnamed.printed.code, 2, "which app? {}", unnamed.printed.both());
    unnamed.says(&["--app", "one", "two"]);
}

#[test]
fn two_hundred_concurrent_shifts_on_each_of_two_apps_lose_none() {
    const EACH: u32 = 200;
    const WORKERS: u32 = 4;
    let apps = two_apps();
    std::thread::scope(|scope| {
        for app in ["one", "two"] {
            for worker in 0..WORKERS {
                let cutover = &apps.cutover;
                scope.spawn(move || {
                    for number in (worker..EACH).step_by(WORKERS as usize) {
                        let weight = format!("{}.{:02}%", (number + 1) / 100, (number + 1) % 100);
                        cutover.run(&["shift", &weight, "--app", app]).succeeded();
                    }
                });
            }
        }
    });
    for app in ["one", "two"] {
        let listed = listed_text(&apps, app);
        let (weights, numbers) = splits(&listed);
        assert_eq!(weights.len(), EACH as usize, "of {app} some shifts are not in the record");
        assert_eq!(numbers, (1..=u64::from(EACH)).collect(), "moves of {app}");
        let last = apps.cutover.run(&["status", "--json"]).succeeded().printed.stdout;
        let status: serde_json::Value = serde_json::from_str(&last).expect("JSON");
        let shown = status["apps"].as_array().expect("apps").iter().find(|a| a["app"] == app);
        let weight = shown.expect("the app")["standby"]["weight"].as_u64();
        assert_eq!(weight, last_weight(&listed), "status of {app}");
        apps.cutover.run(&["rollback", "--app", app]).succeeded();
        eventually("everything is on blue", Duration::from_secs(5), || {
            (apps.color_of(app) == format!("{app}-blue")).then_some(())
        });
    }
}

fn listed_text(apps: &TwoApps, app: &str) -> String {
    let arguments = ["events", "--json", "-n", "100000", "--app", app];
    apps.cutover.run(&arguments).succeeded().printed.stdout
}

fn moves(events: &str) -> Vec<serde_json::Value> {
    let facts = events.lines().map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        event["happened"]["fact"].clone()
    });
    facts.filter(|fact| fact["fact"] == "split_changed").collect()
}

/// The weights and the numbers of all moves on record.
fn splits(events: &str) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let moves = moves(events);
    let number_at = |value: &serde_json::Value| value.as_u64().expect("a number");
    (
        moves.iter().map(|fact| number_at(&fact["after"]["weight"])).collect(),
        moves.iter().map(|fact| number_at(&fact["number"])).collect(),
    )
}

fn last_weight(events: &str) -> Option<u64> {
    moves(events).iter().max_by_key(|fact| fact["number"].as_u64())?["after"]["weight"].as_u64()
}

#[test]
fn a_kill_right_after_a_rollback_that_was_set_for_later_does_not_repeat_it() {
    let mut apps = two_apps();
    apps.cutover.stop();
    apps.cutover.variable("CUTOVER_CRASH", Some("schedule.done"));
    apps.cutover.serve();
    apps.cutover.run(&["shift", "100%", "--app", "one"]).succeeded();
    apps.cutover.run(&["rollback", "--at", "+3s", "--app", "one"]).succeeded();
    eventually("it dies when it has rolled back", Duration::from_secs(30), || {
        (apps.cutover.run(&["status"]).printed.code == 69).then_some(())
    });
    apps.cutover.kill();
    apps.cutover.variable("CUTOVER_CRASH", None);
    apps.cutover.serve();
    assert_eq!(apps.color_of("one"), "one-blue");
    let said = || apps.cutover.run(&["events", "-n", "100", "--app", "one"]).printed.stdout;
    // On a slow disk it died between the weights file and the journal; then the request of the
    // operation is lost, and what is known is that there is nothing left to do.
    eventually("it is known to be done", Duration::from_secs(30), || {
        let said = said();
        let known = said.contains("carries it out") || said.contains("has no traffic any more");
        known.then_some(())
    });
    let said = said();
    assert_eq!(said.matches("rollback from r2 to r1").count(), 2, "set, and once done:\n{said}");
    assert!(!said.contains("is not carried out"), "{said}");
}
