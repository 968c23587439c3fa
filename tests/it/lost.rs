//! A daemon that dies right after it has accepted something: a command must not say that nothing
//! was changed. A relay stands for it: it lets one request through and is gone for the next one.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use crate::daemon::Cutover;

/// A socket that leads one connection to the daemon; nobody listens on it any more by the time that
/// connection is answered.
fn relay(cutover: &Cutover, name: &str) -> PathBuf {
    let socket = cutover.path(name);
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = cutover.path("cutover.sock");
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        drop(listener);
        let mut server = UnixStream::connect(daemon).unwrap();
        let mut back = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut back.0, &mut back.1).unwrap_or(0));
        std::io::copy(&mut client, &mut server).unwrap_or(0);
    });
    socket
}

#[test]
fn a_command_that_was_accepted_does_not_say_that_nothing_was_changed() {
    let cutover = Cutover::start(None);
    cutover.good(&["shift", "50%"]);
    let lost = |words: &[&str]| {
        let socket = relay(&cutover, &format!("{}.sock", words.join("")));
        let socket = socket.display().to_string();
        let words = [words, &["--socket", &socket]].concat();
        let ran = cutover.run(&words);
        assert_eq!(ran.exit, 69, "{words:?}: {ran:?}");
        let said = format!("{}{}", ran.out, ran.err);
        assert!(!said.contains("NOTHING WAS CHANGED"), "{words:?}: {said}");
        said
    };
    let said = lost(&["rollback"]);
    assert!(said.contains("all traffic is on r1"), "{said}");
    assert!(said.contains("what became of o2 is not known"), "{said}");
    assert!(said.contains("cutover wait o2"), "{said}");
    assert!(lost(&["undo", "o2"]).contains("what became of o3 is not known"));
    assert!(lost(&["shift", "10%"]).contains("cutover wait o4"));
    // Its traffic went back, and nobody knows what became of the rest: the data was not asked for.
    let said = lost(&["rollback", "--database", "--max-loss", "0"]);
    assert!(said.contains("traffic went back before, and stays there"), "{said}");
    // Nothing was accepted here, and that is said as before.
    let gone = cutover.path("undoo2.sock").display().to_string();
    let ran = cutover.run(&["undo", "o4", "--socket", &gone]);
    assert!(ran.exit == 69 && ran.err.contains("NOTHING WAS CHANGED"), "{ran:?}");
    for operation in ["o2", "o3", "o4"] {
        cutover.good(&["wait", operation]);
    }
}
