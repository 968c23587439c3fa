//! Which services of a file run, in which order, and when.

use cutover::host::{Compose, StackSettings};

use super::{Case, FIRST, SECOND};
use crate::harness::engine;
use crate::harness::stack::Stack;

#[test]
fn a_service_behind_a_profile_runs_only_when_it_is_on() {
    let case = Case::new("profiles", "");
    case.goes_round();
    assert!(case.stack.color(FIRST, "debug").is_empty());
    let case = Case::new("profiles", "");
    case.stack.set_variables(&[("COMPOSE_PROFILES", "debug")]);
    case.deploy().succeeded();
    assert_eq!(case.stack.color(FIRST, "debug").len(), 1);
}

#[tokio::test]
async fn a_project_and_profiles_that_are_named_win_over_what_compose_would_find() {
    let stack = Stack::copy("profiles");
    stack.set_variables(&[("COMPOSE_PROFILES", "debug"), ("COMPOSE_PROJECT_NAME", "elsewhere")]);
    let app = "traps".parse().expect("a name");
    let mut settings = StackSettings::new(app, stack.path(), stack.path());
    let read = async |settings: &StackSettings| {
        let rendered = Compose::new(settings).render("traps-green").await.expect("it is good");
        let colored = rendered.colored["name"].as_str().map(str::to_owned);
        let has_debug = rendered.operator["services"].get("debug").is_some();
        (rendered.project, colored.expect("a name"), has_debug)
    };
    let found = read(&settings).await;
    assert_eq!(found, ("elsewhere".to_owned(), "traps-green".to_owned(), true));
    settings.operators_project = Some("named".to_owned());
    settings.profiles = Some([].into());
    let named = read(&settings).await;
    assert_eq!(named, ("named".to_owned(), "traps-green".to_owned(), false));
}

#[test]
fn a_file_of_several_parts_is_read_as_compose_reads_it() {
    let case = Case::new("include-extends", "");
    case.goes_round();
    assert_eq!(case.stack.color(SECOND, "more").len(), 1);
}

#[test]
fn published_ports_that_nobody_needs_are_dropped() {
    let stack = Stack::copy("fixed-ports");
    let ports = format!("ports = {{ {} = \"drop\", \"7009/udp\" = \"drop\" }}", stack.tcp_port);
    let mut cutover = stack.cutover(&ports);
    cutover.serve();
    cutover.run(&["deploy", "--at-once"]).succeeded();
    assert_eq!(stack.answers(stack.port, "/").release(), "one");
    let line = stack.color(FIRST, "line").into_iter().next().expect("a container");
    assert_eq!(engine::inspect(&line, "{{.HostConfig.PortBindings}}"), "map[]");
}

#[test]
fn a_one_shot_job_runs_once_per_deploy_and_not_again_on_a_rollback() {
    let case = Case::new("one-shot-job", "shared = [\"postgres\"]");
    case.deploy().succeeded();
    case.serves("one");
    let job = case.container(FIRST, "prepare");
    let ran_at = engine::inspect(&job, "{{.State.StartedAt}}");
    assert_eq!(engine::inspect(&job, "{{.State.ExitCode}}"), "0");
    case.deploy_as("two").succeeded();
    let web = case.container(FIRST, "web");
    engine::docker(&["stop", "-t", "1", &web]).succeeded();
    case.cutover.run(&["rollback", "--to", "r1"]).succeeded();
    case.serves("one");
    assert_eq!(case.container(FIRST, "prepare"), job);
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
    let mut cutover = stack.cutover_for("port = 3001", "/api/whoami", "");
    cutover.serve();
    cutover.run(&["deploy", "--at-once"]).succeeded();
    let port = stack.port;
    let slow = std::thread::spawn(move || crate::harness::wire::get(port, "/api/slow?ms=9000"));
    for release in ["two", "three"] {
        stack.set_variables(&[("STACK_RELEASE", release)]);
        stack.commit(release);
        // The third release takes the place of the first one.
        cutover.run(&["deploy", "--at-once"]).succeeded();
    }
    let answer = slow.join().expect("the request's thread").expect("an answer");
    assert_eq!((answer.status, answer.release()), (200, "one"));
    assert_eq!(stack.answers(port, "/api/whoami").release(), "three");
}

#[test]
fn a_volume_without_a_name_is_new_in_each_color() {
    let case = Case::new("anonymous-volume", "");
    case.goes_round();
    let name = "{{range .Mounts}}{{.Name}}{{end}}";
    let (first, second) = (case.container(FIRST, "web"), case.container(SECOND, "web"));
    assert_ne!(engine::inspect(&first, name), engine::inspect(&second, name));
}

#[test]
fn a_limit_of_memory_holds_in_each_color() {
    let case = Case::new("memory-limits", "");
    case.goes_round();
    let limit = engine::inspect(&case.container(SECOND, "web"), "{{.HostConfig.Memory}}");
    assert_eq!(limit, (64u64 << 20).to_string());
}
