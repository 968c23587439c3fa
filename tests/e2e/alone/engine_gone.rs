//! The container engine hangs or is dead: a rollback waits for neither, and a deploy says so.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::daemon::Cutover;
use crate::harness::load::{Load, Plan, READERS};
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
    /// `one` is deployed and serves; all of it inside of the namespace.
    fn one_release() -> Self {
        let own = OwnEngine::start();
        own.load("shop-program:latest");
        let stack = Stack::copy("plain");
        let [program, net] = own.prefix();
        let host = own.host();
        let mut cutover =
            stack.cutover("").inside(&[&program, &net], &[("DOCKER_HOST", host.as_str())]);
        cutover.serve();
        cutover.run(&["deploy"]).succeeded();
        let setting = Self { cutover, own, stack };
        setting.serves("one");
        setting
    }

    /// `two` serves after `one`.
    fn two_releases() -> Self {
        let setting = Self::one_release();
        setting.stack.set_variables(&[("STACK_RELEASE", "two")]);
        setting.stack.commit("two");
        setting.cutover.run(&["deploy", "--at-once"]).succeeded();
        setting.serves("two");
        setting
    }

    /// Kills the engine once the next deploy is seen at some place, and starts it again while that
    /// is still followed; what the deploy said in the end, and how it ended.
    fn killed_in_a_deploy(&mut self, place: &str, is_there: impl Fn(&OwnEngine) -> bool) -> Ended {
        let mut child = self.cutover.spawn(&["deploy", "--at-once"]);
        eventually(place, Duration::from_secs(60), || is_there(&self.own).then_some(()));
        self.own.kill();
        assert_eq!(self.release_now().as_deref(), Some("one"), "{place}");
        self.own.launch();
        let limit = Duration::from_secs(150);
        eventually(&format!("the end of what was {place}"), limit, || {
            child.try_wait().expect("the state of a child")
        });
        let ended = child.wait_with_output().expect("what it printed");
        let said = [ended.stdout, ended.stderr].concat();
        Ended { code: ended.status.code(), said: String::from_utf8_lossy(&said).into_owned() }
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

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    said: String,
}

/// A release that has to be built, which `run` is a part of, and whose health check takes a while.
fn built(stack: &Stack, run: &str) {
    let text = r#"name: ${STACK_PROJECT}
services:
  web:
    build: .
    command: ["/shop", "frontend"]
    environment:
      SHOP_RELEASE: ${STACK_RELEASE}
    ports: ["${STACK_PORT}:80"]
    healthcheck:
      test: ["CMD", "/shop", "health", "http://127.0.0.1:80/"]
      interval: 5s
"#;
    stack.write("compose.yml", text);
    stack.write("Dockerfile", &format!("FROM shop-program:latest\n{run}\n"));
    stack.set_variables(&[("STACK_RELEASE", "two")]);
    stack.commit(run);
}

#[test]
fn an_engine_killed_in_a_deploy_costs_no_request_and_the_deploy_goes_through_again() {
    let mut setting = Setting::one_release();
    let address = SocketAddr::from((setting.own.address, setting.stack.port));
    let load = Load::start(Plan { address, rate: 50, clients: 50, mix: READERS });
    load.wait_for(50);

    let marker = format!("hangs-{}", setting.stack.project);
    built(&setting.stack, &format!("RUN [\"/shop\", \"frontend\", \"{marker}\"]"));
    let ended = setting.killed_in_a_deploy("building", |own| {
        own.docker(&["ps", "--no-trunc", "--format", "{{.Command}}"]).stdout.contains(&marker)
    });
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.said.contains("docker compose build failed"), "{ended:?}");
    assert!(ended.said.contains("r1 serves as before"), "{ended:?}");
    setting.serves("one");

    built(&setting.stack, "ENV BUILT=yes");
    let color = format!("label=com.docker.compose.project={}", setting.stack.project);
    let starting = ["ps", "--filter", "health=starting", "--format", "{{.Labels}}"];
    let ended = setting.killed_in_a_deploy("coming up", |own| {
        own.docker(&starting).stdout.contains(&color["label=".len()..])
    });
    match ended.code {
        Some(0) => {}
        Some(1) => {
            let reasons = ["Docker", "its health check has not passed yet"];
            assert!(reasons.iter().any(|why| ended.said.contains(why)), "{ended:?}");
            assert!(ended.said.contains("r1 serves as before"), "{ended:?}");
            setting.serves("one");
            setting.cutover.run(&["deploy", "--at-once"]).succeeded();
        }
        _ => panic!("{ended:?}"),
    }
    setting.serves("two");
    load.wait_for(50);
    load.stop().assert_none_failed();
    let there = setting.own.docker(&["ps", "--format", "{{.Names}}"]).stdout;
    let of_ours = there.lines().filter(|name| name.contains(&setting.stack.project));
    assert_eq!(of_ours.count(), 2, "one container of each release:\n{there}");
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
