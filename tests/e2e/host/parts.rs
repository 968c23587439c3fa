//! Volumes, files, networks, ports and replicas of a color.

use std::net::TcpStream;
use std::time::Duration;

use cutover::host::compose::PublishedClass;
use cutover::host::settings::NetworkClass;
use cutover::host::stack::Phase;
use cutover::host::{PortClass, Proof, VolumeClass, files, prove, stack};
use cutover_model::Color;

use super::site::Site;
use crate::harness::stack::Stack;
use crate::harness::{engine, eventually};

#[tokio::test]
async fn both_colors_see_a_shared_volume_and_neither_loses_it() {
    let stack = Stack::copy("per-color-volume");
    let mut site = Site::of_stack(&stack, 80).await;
    for (name, class) in [
        ("papers", VolumeClass::Shared),
        ("scratch", VolumeClass::PerColor),
        ("prices", VolumeClass::ReadOnly),
    ] {
        site.settings.volumes.insert(name.to_owned(), class);
    }
    site.deploy(Color::Blue, 1).await.expect("deployed");
    site.deploy(Color::Green, 2).await.expect("deployed");
    let mounts = |color: Color| {
        let id = engine::containers_of(&site.project(color), "web").remove(0);
        let template = "{{range .Mounts}}{{.Destination}}={{.Name}}:{{.RW}} {{end}}";
        let text = engine::inspect(&id, template);
        let mut mounts: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        mounts.sort();
        mounts
    };
    let project = &stack.project;
    for color in [Color::Blue, Color::Green] {
        let wanted = [
            format!("/prices={project}_prices:false"),
            format!("/tmp={project}-{color}_scratch:true"),
            format!("/uploads={project}_papers:true"),
        ];
        assert_eq!(mounts(color), wanted);
        stack::remove(&site.docker, &site.settings, color).await.expect("removed");
    }
    let left = engine::docker(&["volume", "ls", "--format", "{{.Name}}"]).stdout;
    for volume in ["papers", "prices"] {
        assert!(left.contains(&format!("{project}_{volume}")), "{left}");
    }
    // The operator's own compose takes the volume that was made for both colors as its own.
    let said = stack.compose(&["up", "-d"]).succeeded().both();
    assert!(!said.contains("already exists but was not created"), "{said}");
}

#[tokio::test]
async fn names_and_networks_of_one_color_are_its_own() {
    let stack = Stack::copy("container-name");
    stack.up();
    let mut site = Site::of_stack(&stack, 80).await;
    site.settings.volumes.clear();
    let green = site.deploy(Color::Green, 1).await.expect("deployed beside the operator's");
    let web = green.running.iter().find(|c| c.service() == Some("web")).expect("web");
    let name = format!("{}-the-web", stack.project);
    assert_ne!(web.name, name);
    let network = format!("{}-green_default", stack.project);
    assert!(web.networks[&network].aliases.contains(&name), "{:?}", web.networks);

    let stack = Stack::copy("external-network");
    let outside = format!("{}-outside", stack.project);
    engine::docker(&["network", "create", &outside]).succeeded();
    stack.set_variables(&[("STACK_NETWORK", &outside)]);
    let mut site = Site::of_stack(&stack, 80).await;
    site.settings.networks.insert("outside".to_owned(), NetworkClass::Join);
    let green = site.deploy(Color::Green, 1).await.expect("deployed");
    let aliases = &green.running[0].networks[&outside].aliases;
    assert!(aliases.contains(&"web-green".to_owned()), "{aliases:?}");
    assert!(!aliases.contains(&"web".to_owned()), "{aliases:?}");
    stack::remove(&site.docker, &site.settings, Color::Green).await.expect("removed");
    let left = engine::docker(&["network", "inspect", &outside]);
    assert_eq!(left.code, 0, "a network of somebody else was removed");
}

#[tokio::test]
async fn every_replica_is_an_endpoint() {
    let stack = Stack::copy("two-replicas");
    let site = Site::of_stack(&stack, 80).await;
    let green = site.deploy(Color::Green, 1).await.expect("deployed");
    let endpoints = stack::endpoints(&green.running).expect("remembered");
    assert_eq!(endpoints.len(), 2);
    assert_ne!(endpoints[0].ip, endpoints[1].ip);
    assert!(endpoints.iter().all(|endpoint| prove(endpoint) == Proof::Alive));
    engine::docker(&["restart", "-t", "0", &endpoints[0].container]).succeeded();
    assert_eq!(prove(&endpoints[0]), Proof::Gone, "the same container, another process");
    assert_eq!(prove(&endpoints[1]), Proof::Alive);
}

#[tokio::test]
async fn an_env_file_that_is_edited_changes_no_release_that_exists() {
    let stack = Stack::copy("secret-env-file");
    let site = Site::of_stack(&stack, 80).await;
    let green = site.deploy(Color::Green, 1).await.expect("deployed");
    stack.write("secret.env", "API_TOKEN=another-one-12\n");
    engine::docker(&["rm", "-f", &green.running[0].id]).succeeded();
    site.start(&green.folder, &green.generated, &green.stack, Phase::Services)
        .await
        .expect("made again from the release");
    let id = engine::containers_of(&site.project(Color::Green), "web").remove(0);
    let env = engine::inspect(&id, "{{.Config.Env}}");
    assert!(env.contains("API_TOKEN=teapot-4711-teapot"), "{env}");
    let secrets = files::secrets_of(&green.folder).await.expect("read");
    assert_eq!(secrets.mask("token teapot-4711-teapot refused"), "token *** refused");
    let file = std::fs::read_to_string(&green.generated.file).expect("the generated file");
    assert!(!file.contains("teapot"), "the secret stands in the generated file");
    files::verify_release(&green.folder).await.expect("unchanged");
    assert!(site.state().exists());
}

#[tokio::test]
async fn published_ports_are_taken_off_and_classified() {
    let stack = Stack::copy("fixed-ports");
    stack.up();
    let mut site = Site::of_stack(&stack, 80).await;
    let error = site.color(Color::Green, 1).await.expect_err("unclassified").to_string();
    assert!(error.contains(&format!("publishes port {}", stack.tcp_port)), "{error}");
    site.settings.ports.insert("line:7000".to_owned(), PortClass::Tcp);
    site.settings.ports.insert("7009/udp".to_owned(), PortClass::Drop);
    let green = site.deploy(Color::Green, 1).await.expect("deployed beside the running one");
    let classes: Vec<_> = green.stack.published.iter().map(|port| port.class).collect();
    let wanted = [PublishedClass::Tcp, PublishedClass::Dropped, PublishedClass::Listener];
    assert_eq!(classes, wanted);
}

#[tokio::test]
async fn what_is_only_read_is_the_commits_and_what_is_written_is_the_operators() {
    let stack = Stack::copy("read-only-bind");
    let site = Site::of_stack(&stack, 80).await;
    let green = site.deploy(Color::Green, 1).await.expect("deployed");
    stack.write("settings/release.env", "SHOP_RELEASE=edited\n");
    engine::docker(&["restart", "-t", "0", &green.running[0].id]).succeeded();
    let running = stack::observe(&site.docker, &green.stack.project).await.expect("seen");
    eventually("it is back", Duration::from_secs(10), || {
        let address = running[0].dial().map(|ip| std::net::SocketAddr::new(ip, 80));
        TcpStream::connect(address.expect("an address")).ok()
    });
    assert_eq!(site.ask(&running, "web", 80, "/").release(), "one");

    let stack = Stack::copy("writable-bind");
    let mut site = Site::of_stack(&stack, 80).await;
    let papers = stack.path().join("papers");
    for (class, shared) in [(VolumeClass::Shared, true), (VolumeClass::PerColor, false)] {
        site.settings.volumes.insert("./papers".to_owned(), class);
        let color = if shared { Color::Blue } else { Color::Green };
        let one = site.deploy(color, if shared { 1 } else { 2 }).await.expect("deployed");
        let source = engine::inspect(&one.running[0].id, "{{(index .Mounts 0).Source}}");
        assert_eq!(source == papers.display().to_string(), shared, "{source}");
        let own = site.settings.state.join("folders").join(color.to_string());
        assert_eq!(source.starts_with(&own.display().to_string()), !shared, "{source}");
    }
}
