//! Which services of a file run, in which order, and when.

use super::Case;
use crate::harness::stack::Stack;
use crate::harness::{engine, eventually};
use std::time::Duration;

#[test]
fn a_service_behind_a_profile_runs_only_when_it_is_on() {
    let case = Case::new("profiles", "");
    case.goes_round();
    assert!(case.stack.color("blue", "debug").is_empty());
    let case = Case::new("profiles", "profiles = [\"debug\"]");
    case.deploy().succeeded();
    assert_eq!(case.stack.color("blue", "debug").len(), 1);
}

#[test]
fn a_file_of_several_parts_is_read_as_compose_reads_it() {
    let case = Case::new("include-extends", "");
    case.goes_round();
    assert_eq!(case.stack.color("green", "more").len(), 1);
}

#[test]
fn a_published_tcp_port_reaches_the_stable_color() {
    let stack = Stack::copy("fixed-ports");
    let ports = format!("ports = {{ {} = \"tcp\", \"7009/udp\" = \"drop\" }}", stack.tcp_port);
    let mut cutover = stack.cutover(&ports);
    cutover.serve();
    cutover.run(&["deploy", "--at-once"]).succeeded();
    assert_eq!(stack.answers(stack.port, "/").release(), "one");
    assert_eq!(stack.answers(stack.tcp_port, "/").release(), "one");
}

#[test]
fn a_one_shot_job_runs_once_per_deploy_and_not_again_on_a_rollback() {
    let case = Case::new("one-shot-job", "shared = [\"postgres\"]\nkeep_warm = \"1s\"");
    case.deploy().succeeded();
    case.serves("one");
    let job = case.container("blue", "prepare");
    let ran_at = engine::inspect(&job, "{{.State.StartedAt}}");
    assert_eq!(engine::inspect(&job, "{{.State.ExitCode}}"), "0");
    case.deploy_as("two").succeeded();
    let web = case.container("blue", "web");
    eventually("the old color is stopped", Duration::from_secs(30), || {
        (engine::inspect(&web, "{{.State.Running}}") == "false").then_some(())
    });
    case.cutover.run(&["rollback"]).succeeded();
    case.serves("one");
    assert_eq!(case.container("blue", "prepare"), job);
    assert_eq!(engine::inspect(&job, "{{.State.StartedAt}}"), ran_at, "the job ran again");
}

#[test]
fn a_slow_start_without_a_healthcheck_is_waited_for() {
    let stack = Stack::copy("no-healthcheck");
    let mut cutover = stack.cutover_for("port = 3001", "/api/health", "shared = [\"postgres\"]");
    cutover.serve();
    cutover.run(&["deploy", "--at-once"]).succeeded();
    assert_eq!(stack.answers(stack.port, "/api/health").release(), "one");
    let load = crate::harness::load::Load::start(crate::harness::load::Plan {
        address: ([127, 0, 0, 1], stack.port).into(),
        rate: 100,
        clients: 20,
        mix: &[crate::harness::load::Call {
            method: "GET",
            path: "/api/health",
            navigation: false,
        }],
    });
    load.wait_for(20);
    stack.set_variables(&[("STACK_RELEASE", "two")]);
    stack.commit("two");
    cutover.run(&["deploy", "--at-once"]).succeeded();
    load.wait_for(50);
    let records = load.stop();
    records.assert_none_failed();
    assert!(records.by_release().contains_key("two"));
}

#[test]
fn open_requests_end_before_their_container_is_stopped() {
    let stack = Stack::copy("slow-stop");
    let mut cutover = stack.cutover_for("port = 3001", "/api/whoami", "keep_warm = \"1s\"");
    cutover.serve();
    cutover.run(&["deploy", "--at-once"]).succeeded();
    let port = stack.port;
    let slow = std::thread::spawn(move || crate::harness::wire::get(port, "/api/slow?ms=6000"));
    stack.set_variables(&[("STACK_RELEASE", "two")]);
    stack.commit("two");
    cutover.run(&["deploy", "--at-once"]).succeeded();
    let answer = slow.join().expect("the request's thread").expect("an answer");
    assert_eq!((answer.status, answer.release()), (200, "one"));
    assert_eq!(stack.answers(port, "/api/whoami").release(), "two");
}
