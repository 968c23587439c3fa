//! The admin socket against requests that no client of ours sends.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::daemon::Cutover;

/// Sends bytes and reads the answer: its status and its body.
fn send(cutover: &Cutover, request: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(cutover.path("cutover.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

fn request(line: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

const JSON: &str = "content-type: application/json\r\n";

#[test]
fn what_no_client_of_ours_sends_is_refused_and_changes_nothing() {
    let cutover = Cutover::start(None);
    let origin = format!("{JSON}origin: http://evil.example\r\n");
    let large = format!("{{\"weight\": 1{}}}", " ".repeat(70_000));
    let shift = "POST /v1/apps/shop/shift";
    let full = "{\"weight\": 10000}";
    for (line, headers, body, wanted) in [
        (shift, origin.as_str(), full, 403),
        ("GET /v1/status", "origin: null\r\n", "", 403),
        (shift, "", full, 415),
        (shift, "content-type: text/plain\r\n", full, 415),
        (shift, JSON, large.as_str(), 413),
        (shift, JSON, "{\"weight\": 10001}", 422),
        (shift, JSON, "{\"weight\": 1, \"more\": 1}", 422),
        (shift, JSON, "{\"weight\"", 400),
        ("GET /v1/apps/shop/shift", "", "", 405),
        ("DELETE /v1/status", "", "", 405),
        ("GET /v1/nothing", "", "", 404),
        ("GET /v1/apps/blog/releases", "", "", 404),
        ("GET /v1/apps/..%2f..%2fetc/releases", "", "", 404),
    ] {
        let (status, body) = send(&cutover, &request(line, headers, body));
        assert_eq!(status, wanted, "{line} {headers}: {body}");
        let problem: Value = serde_json::from_str(&body).unwrap_or_default();
        assert_eq!(problem["schema"], "cutover.problem/1", "{line}: {body}");
        assert!(problem["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    }
    assert_eq!(cutover.greens(20), 0);
    assert!(!cutover.good(&["events"]).contains("shift"));
}

#[test]
fn the_socket_belongs_to_its_owner_alone() {
    let cutover = Cutover::start(None);
    let about = std::fs::metadata(cutover.path("cutover.sock")).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_flood_is_told_to_wait_and_a_rollback_is_not() {
    let cutover = Cutover::start(None);
    cutover.good(&["shift", "50%"]);
    let one = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut stream = UnixStream::connect(cutover.path("cutover.sock")).unwrap();
    let mut answers = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        answers.read_to_string(&mut text).unwrap();
        text
    });
    stream.write_all(format!("{}{last}", one.repeat(3_000)).as_bytes()).unwrap();
    let text = reading.join().unwrap();
    assert!(text.matches("HTTP/1.1 429").count() > 500, "{}", text.len());
    let back = cutover.good(&["rollback", "--detach"]);
    assert!(back.contains("DONE: all traffic is on r1"), "{back}");
}

#[test]
fn a_repeated_request_is_one_operation() {
    let cutover = Cutover::start(None);
    let headers = format!("{JSON}x-request-id: the-same\r\n");
    let shift = request("POST /v1/apps/-/shift", &headers, "{\"weight\": 1000}");
    let (first, _) = send(&cutover, &shift);
    let (second, body) = send(&cutover, &shift);
    assert_eq!((first, second), (200, 409), "{body}");
    let events = cutover.good(&["events"]);
    assert_eq!(events.matches("shift to 10 %").count(), 1, "{events}");
}

#[test]
fn health_and_figures_are_there() {
    let cutover = Cutover::start(None);
    cutover.greens(5);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(send(&cutover, &request(&format!("GET {path}"), "", "")).0, 200, "{path}");
    }
    let (status, text) = send(&cutover, &request("GET /metrics", "", ""));
    assert_eq!(status, 200);
    assert!(text.contains("app=\"shop\""), "{text}");
}
