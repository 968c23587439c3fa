//! Shared containers: linked to both colors, started where they are stopped, never made anew.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cutover::host::docker::{Events, Notice, Watch};
use cutover::host::{Docker, shared};
use cutover_model::Color;

use super::engine::next;
use super::site::{Site, service};
use crate::harness::shop::Shop;
use crate::harness::stack::Stack;
use crate::harness::{engine, eventually};

#[tokio::test]
async fn a_link_moves_no_connection_of_a_shared_container() {
    let stack = Stack::copy("plain");
    stack.up();
    stack.answers(stack.port, "/");
    let docker = Docker::connect(None).await.expect("Docker");
    let id = engine::containers_of(&stack.project, "web").remove(0);
    let web = docker.container(&id).await.expect("seen");
    let mut connection = TcpStream::connect(("127.0.0.1", stack.port)).expect("connected");
    connection.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    ask_on(&mut connection);
    let link = format!("{}-green-link", stack.project);
    docker.ensure_link(&link, &stack.project, "green").await.expect("made");
    for _ in 0..2 {
        let aliases = ["web".to_owned(), "the-web".to_owned()];
        docker.join(&link, &web, &aliases).await.expect("joined");
        ask_on(&mut connection);
    }
    let joined = docker.container(&id).await.expect("seen").networks;
    assert!(joined[&link].aliases.contains(&"the-web".to_owned()));
    docker.remove_network(&link, &stack.project).await.expect("removed");
    docker.remove_network(&link, &stack.project).await.expect("removed twice");
    ask_on(&mut connection);
    let others = format!("{}_default", stack.project);
    let refused = docker.remove_network(&others, &stack.project).await.expect_err("not ours");
    assert!(refused.to_string().contains("not ours to remove"), "{refused}");
}

/// One request on a connection that stays.
fn ask_on(connection: &mut TcpStream) {
    connection.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").expect("sent");
    let mut buffer = [0; 65_536];
    let count = connection.read(&mut buffer).expect("an answer on the same connection");
    assert!(buffer[..count].starts_with(b"HTTP/1.1 200"), "{count} bytes");
}

#[tokio::test]
async fn a_stopped_shared_service_is_started_and_a_changed_one_left_alone() {
    let stack = Stack::copy("one-shot-job");
    let mut site = Site::of_stack(&stack, 80).await;
    site.settings.shared.insert(service("postgres"));
    stack.compose(&["up", "-d", "--wait", "postgres"]).succeeded();
    let postgres = engine::containers_of(&stack.project, "postgres").remove(0);
    let changed = std::fs::read_to_string(stack.path().join("compose.yml")).expect("the file");
    stack.write("compose.yml", &changed.replace("retries: 30", "retries: 31"));
    stack.commit("another definition");
    let (green, _) = site.color(Color::Green, 1).await.expect("colored");
    let compose = site.compose();
    let drift = shared::drift(&site.docker, &compose, &green).await.expect("compared");
    assert_eq!(drift.len(), 1, "{drift:?}");
    assert!(drift[0].what.contains("it is left as it is"), "{drift:?}");
    stack.compose(&["stop", "postgres"]).succeeded();
    let seen = shared::ensure(&site.docker, &compose, &green, None).await.expect("started");
    assert_eq!(seen[0].done, shared::Done::Started);
    assert_eq!(seen[0].containers, [postgres], "the same container");
    let seen = shared::ensure(&site.docker, &compose, &green, None).await.expect("nothing");
    assert_eq!(seen[0].done, shared::Done::Nothing);
}

#[tokio::test]
async fn a_shared_container_that_was_made_anew_is_linked_again() {
    let shop = Shop::up();
    let site = Site::of_shop(&shop).await;
    let project = site.project(Color::Green);
    let green = site.deploy(Color::Green, 2).await.expect("deployed");
    let projects = vec![shop.project.clone(), project.clone()];
    let mut events = Events::start(Watch { socket: None, projects });
    assert_eq!(next(&mut events).await, Notice::Relist);

    shop.compose(&["up", "-d", "--force-recreate", "--no-deps", "--wait", "postgres"]).succeeded();
    loop {
        if let Notice::Container { service, action, project, .. } = next(&mut events).await
            && service == "postgres"
            && action == "start"
        {
            assert_eq!(project, shop.project);
            break;
        }
    }
    shared::link(&site.docker, &site.settings, &green.stack).await.expect("linked again");
    eventually("green reaches the database", Duration::from_secs(30), || {
        let health = site.ask(&green.running, "backend", 3001, "/api/health");
        (health.status == 200).then_some(())
    });
    engine::docker(&["kill", &green.running[0].id]).succeeded();
    loop {
        if let Notice::Container { id, action, exit_code, .. } = next(&mut events).await
            && action == "die"
            && id == green.running[0].id
        {
            assert_eq!(exit_code, Some(137));
            break;
        }
    }
}
