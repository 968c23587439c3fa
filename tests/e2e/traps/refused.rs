//! Stacks that cannot run twice as they are: the message names the place and the ways on.

use super::{Case, check_failed, check_refused};

#[test]
fn a_volume_without_a_class_is_refused_with_the_three_choices() {
    check_refused(
        "unclassified-volume",
        "",
        &["papers", "web", "shared", "per-color", "read-only"],
    );
}

#[test]
fn a_writable_folder_without_a_class_is_refused() {
    check_refused("writable-bind", "", &["papers", "web", "shared"]);
}

#[test]
fn a_missing_variable_is_refused_unless_it_may_be_blank() {
    check_refused("missing-variable", "", &["PRICE_MODE_OF_NOBODY", "blank_ok"]);
    let case = Case::new("missing-variable", "blank_ok = [\"PRICE_MODE_OF_NOBODY\"]");
    case.deploy().succeeded();
    case.serves("one");
}

#[test]
fn a_dollar_in_a_secret_is_refused_by_the_name_it_would_take() {
    check_refused("dollar-in-secret", "", &["plates"]);
}

#[test]
fn the_network_of_the_host_is_refused() {
    check_refused("host-network", "", &["web", "host"]);
}

#[test]
fn processes_and_devices_of_the_host_are_refused() {
    check_refused("host-pid", "", &["web", "pid"]);
}

#[test]
fn a_network_of_somebody_else_is_asked_about() {
    check_refused("external-network", "", &["outside", "join"]);
}

#[test]
fn a_published_port_of_nobody_is_refused_until_it_has_a_class() {
    check_refused("fixed-ports", "", &["line", "no route leads to", "drop"]);
}

#[test]
fn a_shared_service_that_calls_a_colored_one_is_refused() {
    check_refused("shared-calls-colored", "shared = [\"clock\"]", &["clock", "web"]);
}

#[test]
fn an_image_that_does_not_build_fails_the_deploy_with_the_builders_words() {
    check_failed("build-fails", &[], &["nothing-of-this-name"]);
}

#[test]
fn an_image_of_nobody_fails_the_deploy_by_name() {
    check_failed("missing-image", &[], &["cutover-fixture/nobody-made-this:1"]);
}

#[test]
fn a_container_that_restarts_for_ever_fails_the_deploy_with_its_last_lines() {
    check_failed("crash-loop", &[("STACK_CRASH", "no cups left")], &["web", "no cups left"]);
}

#[test]
fn a_job_that_fails_fails_the_deploy_with_its_last_lines() {
    check_failed("failing-job", &[], &["prepare", "usage: shop ROLE"]);
}

#[test]
fn what_compose_says_of_a_mistake_shows_no_secret() {
    let case = Case::new("plain", "");
    case.stack.set_variables(&[("API_TOKEN", "sesame-4711")]);
    let path = case.stack.path().join("compose.yml");
    let text = std::fs::read_to_string(&path).expect("the compose file");
    let odd =
        "services:\n  odd:\n    image: shop-program:latest\n    ports: [\"${API_TOKEN}:80:x\"]\n";
    case.stack.write("compose.yml", &text.replace("services:\n", odd));
    case.stack.commit("odd");
    let ran = case.deploy().exits(4).says(&["***"]);
    assert!(!ran.printed.both().contains("sesame"), "{}", ran.printed.both());
    let events = case.cutover.run(&["events"]).succeeded().printed.both();
    assert!(events.contains("***") && !events.contains("sesame"), "{events}");
}
