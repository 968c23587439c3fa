//! The container engine hangs or is dead: a rollback waits for neither.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::daemon::Cutover;
use crate::harness::own_engine::OwnEngine;
use crate::harness::stack::Stack;
use crate::harness::{eventually, wire};

/// Longer than a rollback may take, shorter than any time limit on Docker.
const QUICK: Duration = Duration::from_millis(500);

struct Setting {
    cutover: Cutover,
    own: OwnEngine,
    stack: Stack,
}

impl Setting {
    /// `one` and `two` are deployed, `two` serves; all of it inside of the namespace.
    fn two_releases() -> Self {
        let own = OwnEngine::start();
        own.load("shop-program:latest");
        let stack = Stack::copy("plain");
        let [program, net] = own.prefix();
        let host = own.host();
        let mut cutover =
            stack.cutover("").inside(&[&program, &net], &[("DOCKER_HOST", host.as_str())]);
        cutover.serve();
        cutover.run(&["deploy"]).succeeded();
        stack.set_variables(&[("STACK_RELEASE", "two")]);
        stack.commit("two");
        cutover.run(&["deploy", "--at-once"]).succeeded();
        let setting = Self { cutover, own, stack };
        setting.serves("two");
        setting
    }

    fn release_now(&self) -> Option<String> {
        let address = SocketAddr::from((self.own.address, self.stack.port));
        let answer = wire::ask(address, "GET", "/", &[], b"").ok()?;
        (answer.status == 200).then(|| answer.release().to_owned())
    }

    fn serves(&self, release: &str) {
        eventually(&format!("{release} serves"), Duration::from_secs(20), || {
            (self.release_now()? == release).then_some(())
        });
    }
}

#[test]
fn a_rollback_does_not_wait_for_an_engine_that_hangs() {
    let setting = Setting::two_releases();
    setting.own.signal("STOP");
    let ran = setting.cutover.run(&["rollback", "--detach"]).succeeded();
    assert!(ran.took < QUICK, "{:?}", ran.took);
    assert_eq!(setting.release_now().as_deref(), Some("one"));
    setting.own.signal("CONT");
}

#[test]
fn a_rollback_works_without_an_engine_and_so_does_a_restart_of_the_daemon() {
    let mut setting = Setting::two_releases();
    setting.own.kill();
    let ran = setting.cutover.run(&["rollback", "--detach"]).succeeded();
    assert!(ran.took < QUICK, "{:?}", ran.took);
    assert_eq!(setting.release_now().as_deref(), Some("one"));
    setting.cutover.kill();
    setting.cutover.start_daemon(&[]);
    setting.serves("one");
    setting.own.launch();
    setting.serves("one");
}
