//! Adoption and leaving, for real: firewalls that swallow, owners that are found, compose that
//! takes the ports back.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cutover::adopt::leave::Putting;
use cutover::adopt::watch::{self, Family, Limits, Traffic};
use cutover::adopt::{AdoptError, Owner, leave, owner};
use cutover::host::Docker;
use cutover::host::redirect::landing::{self, Sharing};
use cutover::host::redirect::{self, Landing, Lead, Redirect, TABLE, WhenDead, nft, plan};
use cutover_model::Weight;

use crate::netns::{Client, HOST, Load, Net, Server, Space, at, run};

const PUBLIC: u16 = 80;
const LANDING: u16 = 18_080;

fn limits(seconds: u64) -> Limits {
    Limits {
        length: Duration::from_secs(seconds),
        max_error_rate: Weight::from_basis_points(200).unwrap(),
        judge_v4: Family::Judged,
        judge_v6: Family::Ignored,
    }
}

fn container_behind_a_firewall(net: &Net) -> (Server, Server, Redirect) {
    net.publish_like_docker(PUBLIC);
    let old = Server::start(&net.container, "OLD", || {
        vec![TcpListener::bind((Ipv4Addr::UNSPECIFIED, PUBLIC)).unwrap()]
    });
    let landing = Landing { v6: None, ..Landing::on_loopback(LANDING) };
    let new = Server::start(&net.host, "NEW", move || {
        vec![landing::listen(SocketAddr::from(landing.v4), Sharing::Alone).unwrap()]
    });
    net.host.run("iptables", "-P INPUT DROP");
    net.host.run("iptables", "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
    net.host.run("iptables", "-A INPUT -i lo -j ACCEPT");
    let rule = plan(TABLE, &Lead::everywhere(PUBLIC)[..1], landing, WhenDead::Wait).unwrap();
    (old, new, rule)
}

#[test]
fn an_adoption_whose_traffic_dries_up_undoes_itself() {
    let net = Net::new();
    let (_old, _new, rule) = container_behind_a_firewall(&net);
    let load = Load::start(&net.client, &[at(HOST, PUBLIC); 4]);
    load.pass(20);
    // The check from outside is left out on purpose: the firewall swallows what is led.
    let error = net.host.block_on({
        let rule = rule.clone();
        move || async move {
            redirect::assert(&rule).await.unwrap();
            watch::over(&rule, limits(30), &[], Traffic::default).await.unwrap_err()
        }
    });
    assert!(matches!(&error, AdoptError::Undone(why) if why.contains("firewall")), "{error}");
    load.pass(20);
    let counts = load.stop();
    assert!(!counts.contains_key("NEW"), "{counts:?}");
    let tables = net.host.run("nft", "list tables");
    assert!(!tables.contains("cutover"), "{tables}");
}

#[test]
fn an_adoption_that_finds_no_new_error_stays() {
    let net = Net::new();
    let (_old, _new, mut rule) = container_behind_a_firewall(&net);
    let load = Load::start(&net.client, &[at(HOST, PUBLIC)]);
    load.pass(20);
    let requests = Arc::new(AtomicU64::new(0));
    let summary = net.host.block_on({
        let requests = Arc::clone(&requests);
        move || async move {
            redirect::settle_firewall(&mut rule).await.unwrap();
            redirect::assert(&rule).await.unwrap();
            let traffic = || Traffic {
                requests: requests.fetch_add(40, Ordering::Relaxed),
                ..Traffic::default()
            };
            let summary = watch::over(&rule, limits(6), &[], traffic).await.unwrap();
            assert_eq!(nft::observe(&redirect::ruleset(&rule)).await.unwrap(), nft::Observed::Ours);
            summary
        }
    });
    assert!(summary.requests > 0 && summary.server_errors == 0, "{summary}");
    load.pass(20);
    let counts = load.stop();
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["NEW", "OLD"], "{counts:?}");
    let tables = net.host.run("nft", "list tables");
    assert!(!tables.contains("_count"), "the counters are left: {tables}");
}

#[test]
fn errors_that_reach_no_container_take_the_rule_away_at_once() {
    let net = Net::new();
    let (_old, _new, mut rule) = container_behind_a_firewall(&net);
    let error = net.host.block_on(move || async move {
        redirect::settle_firewall(&mut rule).await.unwrap();
        redirect::assert(&rule).await.unwrap();
        let looks = AtomicU64::new(0);
        let traffic = || Traffic {
            requests: 100,
            unreached: u64::from(looks.fetch_add(1, Ordering::Relaxed) > 2),
            ..Traffic::default()
        };
        let start = Instant::now();
        let error = watch::over(&rule, limits(30), &[], traffic).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(5));
        error
    });
    assert!(error.to_string().contains("undone"), "{error}");
    let mut client = Client::connect(&net.client, at(HOST, PUBLIC)).unwrap();
    assert_eq!(client.ask().unwrap(), "OLD");
    assert!(!net.host.run("iptables", "-S INPUT").contains("cutover"), "the accept is left");
}

/// A compose project of one service, with a public port, gone when it is dropped.
struct Project {
    folder: tempfile::TempDir,
    name: String,
    port: u16,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = landing::free_port().unwrap();
        let text = format!(
            "services:\n  frontend:\n    image: shop-program\n    build: .\n    \
             command: [/shop, frontend]\n    ports: [\"{port}:80\"]\n"
        );
        std::fs::write(folder.path().join("compose.yml"), text).unwrap();
        Self { folder, name: format!("cutover-adopt-{}-{port}", std::process::id()), port }
    }

    fn compose(&self, arguments: &[&str]) -> String {
        let file = self.folder.path().join("compose.yml");
        let first = ["compose", "-p", &self.name, "-f", file.to_str().unwrap()];
        run("docker", &[&first[..], arguments].concat())
    }

    fn image(&self) -> String {
        run("docker", &["image", "inspect", "-f", "{{.Id}}", "shop-program"]).trim().to_owned()
    }

    fn putting(&self) -> Putting {
        Putting {
            folder: self.folder.path().into(),
            files: vec!["compose.yml".into()],
            project: self.name.clone(),
            images: [("frontend".to_owned(), self.image())].into(),
            singletons: [].into(),
            limit: Duration::from_secs(60),
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.compose(&["down", "-t", "1"]);
    }
}

#[test]
fn leaving_puts_the_release_on_the_ports_and_refuses_nobody() {
    let project = Project::new();
    let port = landing::free_port().unwrap();
    let landing = Landing { v6: None, ..Landing::on_loopback(port) };
    let machine = Space::machine();
    let _new = Server::start(&machine, "NEW", move || {
        vec![landing::listen(SocketAddr::from(landing.v4), Sharing::Alone).unwrap()]
    });
    let table = format!("cutover_test_{port}");
    let leads = &Lead::everywhere(project.port)[..1];
    let rule = plan(&table, leads, landing, WhenDead::Wait).unwrap();
    let putting = project.putting();
    let load = machine.block_on({
        let (rule, machine, port) = (rule.clone(), machine.clone(), project.port);
        move || async move {
            redirect::assert(&rule).await.unwrap();
            Load::start(&machine, &[at("127.0.0.1", port)])
        }
    });
    load.pass(50);
    machine.block_on(move || async move { putting.put().await.unwrap() });
    let pinned = run("docker", &["ps", "-q", "--filter", &format!("name={}", project.name)]);
    let image = run("docker", &["inspect", "-f", "{{.Image}}", pinned.trim()]);
    assert_eq!(image.trim(), project.image());
    load.pass(50);
    machine.block_on(move || async move { leave::give_back(Some(&rule)).await.unwrap() });
    load.pass(50);
    let counts = load.stop();
    // "no such page" is what the container answers here.
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["NEW", "no"], "{counts:?}");
}

#[test]
fn an_nginx_is_found_by_its_master() {
    let net = Net::new();
    let nginx = crate::redirect::Nginx::start(&net.host);
    let held = net.host.inside(|| owner::find(&[PUBLIC], &[]).unwrap());
    let leads: Vec<Lead> = held.iter().map(|h| h.lead).collect();
    assert_eq!(leads, Lead::everywhere(PUBLIC));
    let pid = nginx.pid();
    let expected = Owner::Process { pid, name: "nginx".into() };
    assert!(held.iter().all(|h| h.owner == expected), "{held:?}, expected {pid}");
}

#[test]
fn the_container_behind_a_published_port_is_found() {
    let project = Project::new();
    project.compose(&["up", "-d", "--no-build"]);
    let (port, name) = (project.port, project.name.clone());
    let held = Space::machine().block_on(move || async move {
        let docker = Docker::connect(None).await.unwrap();
        let published = docker.published(&[port]).await.unwrap();
        owner::find(&[port], &published).unwrap()
    });
    assert!(!held.is_empty());
    for h in &held {
        let Owner::Docker(published) = &h.owner else { panic!("{h:?}") };
        assert_eq!(published.project.as_deref(), Some(name.as_str()));
        assert_eq!(published.service.as_deref(), Some("frontend"));
        assert_eq!(published.inside, 80);
        assert!(published.pid.is_some());
    }
}
