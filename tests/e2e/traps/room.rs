//! What the host has no room for: memory for a second copy, a port that somebody else has. The
//! deploy says so, and nothing of ours is left.

use std::net::{Ipv4Addr, TcpListener};

use super::Case;
use crate::harness::engine;

#[test]
fn a_release_that_wants_more_memory_than_there_is_is_refused_and_the_serving_one_stays() {
    let case = Case::new("memory-limits", "");
    case.deploy().succeeded();
    case.serves("one");
    // The limit alone is enough: no container with it is ever made.
    let twice = format!("{}m", 2 * memory_of_this_machine());
    case.stack.set_variables(&[("STACK_RELEASE", "two"), ("STACK_MEMORY", &twice)]);
    case.stack.commit("two");
    let before = engine::belongings(&case.stack.project);
    let ran = case.deploy().exits(4);
    ran.says(&["not enough memory for a second copy", "Lower the limits", "Nothing was built"]);
    case.serves("one");
    assert_eq!(engine::belongings(&case.stack.project), before);
    case.deploy_as("three").succeeded();
    case.serves("three");
}

/// Memory and swap, in MiB.
fn memory_of_this_machine() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("the kernel's figures");
    let kib = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).expect("a figure");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    };
    (kib("MemTotal:") + kib("SwapTotal:")) / 1_024
}

#[test]
fn a_port_that_somebody_else_has_fails_the_deploy_by_its_number_and_leaves_nothing() {
    let case = Case::new("shared-port", "shared = [\"clock\"]");
    let port = case.stack.tcp_port;
    let somebody = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free");
    let before = engine::belongings(&case.stack.project);
    let ran = case.deploy().exits(1);
    ran.says(&["clock", &port.to_string(), "in use"]);
    let mut after = engine::belongings(&case.stack.project);
    // The network of the operator's own project may be there by now: compose keeps it, too.
    after.retain(|line| !line.ends_with(&format!(" network {}_default", case.stack.project)));
    assert_eq!(after, before);
    drop(somebody);
    case.deploy().succeeded();
    case.serves("one");
}
