//! Names and networks: what is global to the engine, or resolves to both colors.

use super::{Case, FIRST, SECOND};
use crate::harness::engine;

#[test]
fn a_container_name_becomes_an_alias_inside_of_its_color() {
    let case = Case::new("container-name", "");
    case.goes_round();
    let url = format!("http://{}-the-web/", case.stack.project);
    for color in [FIRST, SECOND] {
        assert!(case.reaches(&case.container(color, "reader"), &url), "{color}");
    }
}

#[test]
fn networks_of_the_file_stay_apart_in_each_color() {
    let case = Case::new("two-networks", "");
    case.goes_round();
    for color in [FIRST, SECOND] {
        let web = case.container(color, "web");
        let api = case.container(color, "api");
        assert!(case.reaches(&web, "http://api/"), "{color}: web is beside api");
        assert!(case.reaches(&api, "http://store/"), "{color}: api is beside store");
        assert!(!case.reaches(&web, "http://store/"), "{color}: front and back were merged");
    }
}

#[test]
fn a_network_with_a_name_of_its_own_is_copied_under_another_one() {
    let case = Case::new("named-network", "");
    case.stack.set_variables(&[("STACK_NETWORK", &format!("{}-front", case.stack.project))]);
    case.deploy().succeeded();
    case.serves("one");
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    let blue = engine::inspect(&case.container(FIRST, "web"), networks);
    let own = format!("{}-front", case.stack.project);
    assert!(!blue.split_whitespace().any(|name| name == own), "{blue}");
}

#[test]
fn a_joined_network_carries_each_color_under_a_name_of_its_own() {
    let case = Case::new("external-network", "networks = { outside = \"join\" }");
    let outside = format!("{}-outside", case.stack.project);
    engine::docker(&["network", "create", &outside]).succeeded();
    case.stack.set_variables(&[("STACK_NETWORK", &outside)]);
    case.deploy().succeeded();
    case.serves("one");
}

#[test]
fn labels_of_another_proxy_are_removed_and_the_rest_is_kept() {
    let case = Case::new("traefik-labels", "");
    let said = case.deploy().succeeded().printed.both();
    assert!(said.contains("traefik"), "{said}");
    let labels = engine::inspect(&case.container(FIRST, "web"), "{{json .Config.Labels}}");
    assert!(!labels.contains("\"traefik."), "{labels}");
    assert!(labels.contains("com.example.team"), "{labels}");
}

#[test]
fn both_replicas_of_a_service_get_traffic() {
    let case = Case::new("two-replicas", "");
    case.deploy().succeeded();
    let hosts: std::collections::HashSet<String> =
        (0..40).map(|_| case.stack.answers(case.stack.port, "/").text()).collect();
    assert_eq!(hosts.len(), 2, "the page names its container");
}
