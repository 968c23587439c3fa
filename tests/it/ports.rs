//! Ports that are carried by connection, with the real program and a static app.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::daemon::{Cutover, until};

/// A daemon whose app has a carried port, and that port's address.
fn carried(is_taken: impl Fn(SocketAddr) -> Option<TcpListener>) -> (Cutover, SocketAddr) {
    let mut cutover = Cutover::start(None);
    cutover.kill();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = cutover.path("cutover.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let section = format!("[[apps.shop.tcp]]\nlisten = \"{address}\"\nservice = \"web\"\n");
    std::fs::write(&path, text + &section).unwrap();
    let holder = is_taken(address);
    cutover.serve();
    if holder.is_some() {
        let line = format!("port {} is taken by", address.port());
        until("it is said", || cutover.good(&["events"]).contains(&line));
        assert_eq!(cutover.get("/"), "blue", "the rest serves");
    }
    drop(holder);
    until("the port is open", || TcpStream::connect(address).is_ok());
    (cutover, address)
}

/// What a connection leads to: the small web servers say their names.
fn asked(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()
}

#[test]
fn connections_go_to_stable_and_move_with_a_promotion() {
    let (cutover, address) = carried(|_| None);
    assert_eq!(asked(address), "blue");
    cutover.good(&["shift", "50%"]);
    assert!((0..10).all(|_| asked(address) == "blue"), "a weight is a matter of requests");
    cutover.good(&["promote"]);
    assert_eq!(asked(address), "green");
    cutover.good(&["rollback"]);
    assert_eq!(asked(address), "blue");
}

#[test]
fn a_port_that_somebody_holds_keeps_no_daemon_from_starting() {
    let (cutover, address) = carried(|address| TcpListener::bind(address).ok());
    until("it is ours", || asked(address) == "blue");
    let events = cutover.good(&["events"]);
    assert!(events.contains(&format!("{address} is free: connections go to web")), "{events}");
}
