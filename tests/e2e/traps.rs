//! What breaks when a compose file runs twice, one stack of `tests/stacks` for each case.

use std::time::Duration;

use crate::harness::daemon::{Cutover, Ran};
use crate::harness::stack::Stack;
use crate::harness::{engine, eventually};

mod files;
mod limits;
mod names;
mod parts;
mod refused;
mod room;

/// Where the first deploy of an app goes, and the second one.
const FIRST: &str = "green";
const SECOND: &str = "blue";

/// A stack behind a running daemon, nothing deployed.
struct Case {
    cutover: Cutover,
    stack: Stack,
}

impl Case {
    fn new(name: &str, more: &str) -> Self {
        let stack = Stack::copy(name);
        let mut cutover = stack.cutover(more);
        cutover.serve();
        Self { cutover, stack }
    }

    fn deploy(&self) -> Ran {
        self.cutover.run(&["deploy", "--at-once"])
    }

    /// The next release, named `name` by the variable that most stacks read.
    fn deploy_as(&self, name: &str) -> Ran {
        self.stack.set_variables(&[("STACK_RELEASE", name)]);
        self.stack.commit(name);
        self.deploy()
    }

    fn serves(&self, release: &str) {
        eventually(&format!("{release} serves"), Duration::from_secs(20), || {
            let answer = crate::harness::wire::get(self.stack.port, "/").ok()?;
            (answer.status == 200 && answer.release() == release).then_some(())
        });
    }

    /// The first container of a service in a color.
    fn container(&self, color: &str, service: &str) -> String {
        let found = self.stack.color(color, service);
        found.into_iter().next().unwrap_or_else(|| panic!("no {service} in {color}"))
    }

    /// Whether one container reaches a URL: the shop's own health check asks.
    fn reaches(&self, container: &str, url: &str) -> bool {
        engine::docker(&["exec", container, "/shop", "health", url]).code == 0
    }

    /// One color, the other one, and back; then everything of the case still answers.
    fn goes_round(&self) {
        self.deploy().succeeded();
        self.serves("one");
        self.deploy_as("two").succeeded();
        self.serves("two");
        self.cutover.run(&["rollback"]).succeeded();
        self.serves("one");
    }
}

/// A deploy that is refused before it starts anything: exit 4, all of these words, no change.
fn check_refused(name: &str, more: &str, words: &[&str]) {
    let case = Case::new(name, more);
    let before = engine::belongings(&case.stack.project);
    let ran = case.deploy();
    assert_eq!(ran.printed.code, 4, "{name}: {}", ran.printed.both());
    ran.says(words);
    assert_eq!(engine::belongings(&case.stack.project), before, "{name} left something behind");
}

/// A deploy that fails: exit 1, all of these words, and nothing left behind.
fn check_failed(name: &str, variables: &[(&str, &str)], words: &[&str]) {
    let case = Case::new(name, "");
    case.stack.set_variables(variables);
    let before = engine::belongings(&case.stack.project);
    let ran = case.deploy();
    assert_eq!(ran.printed.code, 1, "{name}: {}", ran.printed.both());
    ran.says(words);
    assert_eq!(engine::belongings(&case.stack.project), before, "{name} left something behind");
}

#[test]
fn the_smallest_stack_goes_round() {
    Case::new("plain", "").goes_round();
}
