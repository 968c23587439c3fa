//! The redirect rule, for real: namespaces, nftables, firewalls, clients in a loop.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cutover::host::redirect::landing::{self, Sharing};
use cutover::host::redirect::outside::Answer;
use cutover::host::redirect::{
    self, Asserted, Landing, Lead, Redirect, TABLE, WhenDead, left, nft, plan,
};

use crate::netns::{
    CONTAINER, Client, HOST, HOST_TOO, HOST_V6, Load, Net, Outside, Server, Space, at, run,
};

/// The namespace is the test's own, so its ports cannot clash with anything.
const PUBLIC: u16 = 80;
const LANDING: u16 = 18_080;

fn landing() -> Landing {
    Landing::on_loopback(LANDING)
}

fn redirect(when_dead: WhenDead) -> Redirect {
    plan(TABLE, &Lead::everywhere(PUBLIC), landing(), when_dead).unwrap()
}

/// The proxy's part: transparent listeners on loopback.
fn proxy(host: &Space) -> Server {
    Server::start(host, "NEW", || {
        let v4 = SocketAddr::from(landing().v4);
        let v6 = SocketAddr::from(landing().v6.unwrap());
        [v4, v6].map(|address| landing::listen(address, Sharing::Alone).unwrap()).into()
    })
}

/// An old owner that is a process of the host.
fn old_owner(host: &Space) -> Server {
    Server::start(host, "OLD", || {
        let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PUBLIC)).unwrap();
        let v6 = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
        v6.set_only_v6(true).unwrap();
        v6.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PUBLIC)).into()).unwrap();
        v6.listen(1024).unwrap();
        vec![v4, v6.into()]
    })
}

fn container(net: &Net) -> Server {
    net.publish_like_docker(PUBLIC);
    Server::start(&net.container, "OLD", || {
        vec![TcpListener::bind((Ipv4Addr::UNSPECIFIED, PUBLIC)).unwrap()]
    })
}

fn from_host() -> Vec<SocketAddr> {
    ["127.0.0.1", "127.0.0.5", "::1", HOST, HOST_TOO, HOST_V6].map(|a| at(a, PUBLIC)).into()
}

fn from_outside() -> Vec<SocketAddr> {
    [HOST, HOST_TOO, HOST_V6].map(|a| at(a, PUBLIC)).into()
}

fn assert_rule(host: &Space, redirect: &Redirect) -> Asserted {
    let redirect = redirect.clone();
    host.block_on(move || async move { redirect::assert(&redirect).await.unwrap() })
}

fn remove_rule(host: &Space, redirect: &Redirect) {
    let redirect = redirect.clone();
    host.block_on(move || async move { redirect::remove(&redirect).await.unwrap() });
}

fn settled(host: &Space, mut redirect: Redirect) -> (Redirect, Vec<Answer>) {
    host.block_on(move || async move {
        let reach = redirect::settle_firewall(&mut redirect).await.unwrap();
        let answers = reach.iter().flat_map(|r| [r.before, r.after]).collect();
        (redirect, answers)
    })
}

fn ask(space: &Space, address: SocketAddr) -> String {
    let answer = Client::connect(space, address).and_then(|mut client| client.ask());
    answer.unwrap_or_else(|error| format!("FAILED {error}"))
}

/// Leads and takes back three times under load; only these labels may have answered, each of them.
fn check_hand_over(net: &Net, redirect: &Redirect, inside: &[SocketAddr], outside: &[SocketAddr]) {
    let loads = [Load::start(&net.host, inside), Load::start(&net.client, outside)];
    for _ in 0..3 {
        loads.iter().for_each(|load| load.pass(200));
        assert!(matches!(assert_rule(&net.host, redirect), Asserted::Set { .. }));
        loads.iter().for_each(|load| load.pass(200));
        let now = outside.iter().chain(inside).map(|a| {
            let from = if outside.contains(a) { &net.client } else { &net.host };
            ask(from, *a)
        });
        assert!(now.collect::<Vec<_>>().iter().all(|label| label == "NEW"), "somebody is not led");
        remove_rule(&net.host, redirect);
    }
    loads.iter().for_each(|load| load.pass(200));
    for load in loads {
        let counts = load.stop();
        assert_eq!(counts.keys().collect::<Vec<_>>(), ["NEW", "OLD"], "{counts:?}");
    }
    for address in outside {
        assert_eq!(ask(&net.client, *address), "OLD", "the way back");
    }
}

#[test]
fn leading_and_taking_back_refuses_nobody() {
    let net = Net::new();
    let (_old, _new) = (old_owner(&net.host), proxy(&net.host));
    check_hand_over(&net, &redirect(WhenDead::Wait), &from_host(), &from_outside());
}

#[test]
fn a_published_port_is_led_although_docker_forwards_it() {
    let net = Net::new();
    let (_old, _new) = (container(&net), proxy(&net.host));
    let v4: Vec<SocketAddr> = [HOST, HOST_TOO].map(|a| at(a, PUBLIC)).into();
    check_hand_over(&net, &redirect(WhenDead::Wait), &v4, &v4);
}

/// Ways to say "drop what is not allowed", each with the rule that allows the public port.
const FIREWALLS: [(&str, &str, &str); 3] = [
    ("iptables-nft", "-P INPUT DROP", "-A INPUT -p tcp --dport 80 -j ACCEPT"),
    ("iptables-legacy", "-P INPUT DROP", "-A INPUT -p tcp --dport 80 -j ACCEPT"),
    (
        "nft",
        "add chain inet fw in { type filter hook input priority 0; policy drop; }",
        "add rule inet fw in tcp dport 80 accept",
    ),
];

fn raise_firewall(host: &Space, (tool, drop, _): (&str, &str, &str)) {
    if tool == "nft" {
        host.run(tool, "add table inet fw");
        host.run(tool, drop);
        host.run(tool, "add rule inet fw in ct state established,related accept");
        host.run(tool, "add rule inet fw in iif lo accept");
        host.run(tool, "add rule inet fw in meta l4proto ipv6-icmp accept");
    } else {
        host.run(tool, drop);
        host.run(tool, "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
        host.run(tool, "-A INPUT -i lo -j ACCEPT");
    }
}

fn firewall_text(host: &Space, tool: &str) -> String {
    match tool {
        "nft" => host.run("nft", "list table inet fw"),
        _ => host.run(tool, "-S INPUT"),
    }
}

#[test]
fn a_firewall_that_allows_only_the_public_port_needs_no_change() {
    for firewall in FIREWALLS {
        let net = Net::new();
        let (_old, _new) = (old_owner(&net.host), proxy(&net.host));
        raise_firewall(&net.host, firewall);
        net.host.run(firewall.0, firewall.2);
        let before = firewall_text(&net.host, firewall.0);
        let (redirect, answers) = settled(&net.host, redirect(WhenDead::Wait));
        assert!(answers.iter().all(|answer| *answer == Answer::Yes), "{firewall:?} {answers:?}");
        assert_eq!(redirect.accept, [], "{firewall:?}");
        let v4 = [at(HOST, PUBLIC)];
        check_hand_over(&net, &redirect, &v4, &v4);
        assert_eq!(firewall_text(&net.host, firewall.0), before);
    }
}

#[test]
fn a_firewall_that_dockers_ports_went_around_is_opened_and_closed_again() {
    for firewall in FIREWALLS {
        let net = Net::new();
        let (_old, _new) = (container(&net), proxy(&net.host));
        raise_firewall(&net.host, firewall);
        let before = firewall_text(&net.host, firewall.0);
        let leads = &Lead::everywhere(PUBLIC)[..1];
        let only_v4 = plan(TABLE, leads, landing(), WhenDead::Wait).unwrap();
        let (redirect, answers) = settled(&net.host, only_v4);
        assert_eq!(answers, [Answer::Yes, Answer::No], "{firewall:?}");
        assert_eq!(redirect.accept, leads, "{firewall:?}");
        let v4 = [at(HOST, PUBLIC), at(HOST_TOO, PUBLIC)];
        check_hand_over(&net, &redirect, &v4, &v4);
        assert_eq!(firewall_text(&net.host, firewall.0), before, "{firewall:?}: rules are left");
    }
}

#[test]
fn a_rule_that_somebody_damaged_is_set_again() {
    let net = Net::new();
    let redirect = redirect(WhenDead::Wait);
    assert!(matches!(assert_rule(&net.host, &redirect), Asserted::Set { .. }));
    assert_eq!(assert_rule(&net.host, &redirect), Asserted::Stood);
    for damage in [
        "flush chain inet cutover steer",
        "add rule inet cutover steer accept",
        "delete table inet cutover",
        "flush ruleset",
    ] {
        net.host.run("nft", damage);
        assert!(matches!(assert_rule(&net.host, &redirect), Asserted::Set { .. }), "{damage}");
        assert_eq!(assert_rule(&net.host, &redirect), Asserted::Stood, "{damage}");
    }
    remove_rule(&net.host, &redirect);
    remove_rule(&net.host, &redirect);
    let ruleset = redirect::ruleset(&redirect);
    let seen = net.host.block_on(move || async move { nft::observe(&ruleset).await.unwrap() });
    assert_eq!(seen, nft::Observed::Absent);
}

#[test]
fn a_proxy_that_dies_refuses_nobody() {
    let net = Net::new();
    let (_old, new) = (old_owner(&net.host), proxy(&net.host));
    assert_rule(&net.host, &redirect(WhenDead::Wait));
    let load = Load::start(&net.client, &from_outside());
    load.pass(100);
    drop(new);
    // They wait now; the next answer can come from a new proxy only.
    let _new = proxy(&net.host);
    load.pass(100);
    let counts = load.stop();
    // Each of the three clients may have been in the middle of a request when the proxy died, and
    // then in the queue of its listener, which is closed a moment after the connections.
    let failed: u32 = counts.iter().filter(|(k, _)| k.starts_with("FAILED")).map(|(_, n)| n).sum();
    assert!(failed <= 6 && !counts.keys().any(|key| key.contains("refused")), "{counts:?}");
    assert!(!counts.contains_key("OLD"), "{counts:?}");
}

#[test]
fn without_a_proxy_the_old_owner_answers_if_that_is_wanted() {
    let net = Net::new();
    let (_old, new) = (old_owner(&net.host), proxy(&net.host));
    assert_rule(&net.host, &redirect(WhenDead::OldOwner));
    assert_eq!(ask(&net.client, at(HOST, PUBLIC)), "NEW");
    drop(new);
    // A child that another test of this process has just forked holds the closed listener until its exec.
    let reset = |label: &String| label.contains("reset");
    let answer = (0..20).map(|_| ask(&net.client, at(HOST, PUBLIC))).find(|label| !reset(label));
    assert_eq!(answer.as_deref(), Some("OLD"));
}

#[test]
fn a_port_on_loopback_stays_on_loopback() {
    let net = Net::new();
    let _new = proxy(&net.host);
    let lead = Lead { address: "127.0.0.1".parse().unwrap(), port: PUBLIC };
    let redirect = plan(TABLE, &[lead], landing(), WhenDead::Wait).unwrap();
    assert_rule(&net.host, &redirect);
    assert_eq!(ask(&net.host, at("127.0.0.1", PUBLIC)), "NEW");
    assert!(ask(&net.client, at(HOST, PUBLIC)).contains("refused"));
    assert!(ask(&net.client, at(HOST, LANDING)).contains("refused"), "the landing is private");
}

/// An nginx of the host that owns the public port.
pub(crate) struct Nginx {
    master: Child,
    _folder: tempfile::TempDir,
}

impl Nginx {
    pub(crate) fn pid(&self) -> u32 {
        self.master.id()
    }

    pub(crate) fn start(host: &Space) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let text = format!(
            "daemon off; pid {path}/pid; error_log {path}/error.log; worker_processes 1;\n\
             events {{}}\nhttp {{ access_log off; server {{ listen 80; listen [::]:80;\n\
             location / {{ return 200 \"OLD nginx\"; }} }} }}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let master = Command::new("ip")
            .args(["netns", "exec", host.name(), "nginx", "-p"])
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while Client::connect(host, at("127.0.0.1", PUBLIC)).is_err() {
            assert!(Instant::now() < end, "nginx did not start");
        }
        Self { master, _folder: folder }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // `ip netns exec` became nginx: this is the master, which ends its workers.
        let pid = rustix::process::Pid::from_child(&self.master);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.master.wait().unwrap();
    }
}

fn count_left(host: &Space) -> usize {
    host.inside(|| left::count(&[PUBLIC], &[]).unwrap())
}

#[test]
fn open_connections_stay_with_the_old_owner_and_are_counted() {
    let net = Net::new();
    let (_old, _new) = (Nginx::start(&net.host), proxy(&net.host));
    let mut kept: Vec<Client> =
        [HOST, HOST_V6].map(|a| Client::connect(&net.client, at(a, PUBLIC)).unwrap()).into();
    assert!(kept.iter_mut().all(|client| client.ask().unwrap() == "OLD"));
    let redirect = redirect(WhenDead::Wait);
    assert_rule(&net.host, &redirect);
    let mut led = Client::connect(&net.client, at(HOST, PUBLIC)).unwrap();
    assert_eq!(led.ask().unwrap(), "NEW");
    assert!(kept.iter_mut().all(|client| client.ask().unwrap() == "OLD"), "they were moved");
    assert_eq!(count_left(&net.host), 2, "ours does not count");
    kept.clear();
    let end = Instant::now() + Duration::from_secs(10);
    while count_left(&net.host) > 0 {
        assert!(Instant::now() < end, "they are still counted");
    }
    remove_rule(&net.host, &redirect);
    assert_eq!(led.ask().unwrap(), "NEW", "an open connection was cut by the removal");
}

#[test]
fn connections_that_docker_forwards_are_counted_inside_of_the_container() {
    let net = Net::new();
    let _old = container(&net);
    let sleeper = Command::new("ip")
        .args(["netns", "exec", net.container.name(), "sleep", "60"])
        .spawn()
        .unwrap();
    let inside = left::Inside { pid: sleeper.id(), port: PUBLIC };
    let mut through = Client::connect(&net.client, at(HOST, PUBLIC)).unwrap();
    let mut by_the_proxy = Client::connect(&net.host, at(CONTAINER, PUBLIC)).unwrap();
    assert_eq!(through.ask().unwrap(), "OLD");
    assert_eq!(by_the_proxy.ask().unwrap(), "OLD");
    let end = Instant::now() + Duration::from_secs(10);
    // The child enters the namespace only after it was started.
    loop {
        let left = net.host.inside(move || left::count(&[PUBLIC], &[inside]).unwrap());
        if left == 1 {
            break;
        }
        assert!(Instant::now() < end, "{left} instead of the one that came through the port");
    }
    let mut sleeper = sleeper;
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

/// A container with a port that Docker itself publishes, on all addresses.
struct Published {
    id: String,
    port: u16,
}

impl Published {
    fn start() -> Self {
        // Named, not left to Docker: it may choose another port for IPv6 than for IPv4.
        let port = landing::free_port().unwrap();
        let publish = format!("{port}:80");
        let image = ["-p", &publish, "shop-program", "/shop", "frontend"];
        let id = run("docker", &[&["run", "-d", "--rm"][..], &image].concat()).trim().to_owned();
        let published = Self { id, port };
        let end = Instant::now() + Duration::from_secs(20);
        while Client::connect(&Space::machine(), at("127.0.0.1", published.port))
            .and_then(|mut client| client.ask())
            .is_err()
        {
            assert!(Instant::now() < end, "the container does not answer");
        }
        published
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        run("docker", &["rm", "-f", &self.id]);
    }
}

#[test]
fn dockers_own_published_port_is_led_and_taken_back() {
    let (published, outside) = (Published::start(), Outside::new());
    let machine = Space::machine();
    let port = landing::free_port().unwrap();
    let landing = Landing::on_loopback(port);
    let _new = Server::start(&machine, "NEW", move || {
        let (v4, v6) = (SocketAddr::from(landing.v4), SocketAddr::from(landing.v6.unwrap()));
        [v4, v6].map(|address| landing::listen(address, Sharing::Alone).unwrap()).into()
    });
    let table = format!("cutover_test_{port}");
    let leads = Lead::everywhere(published.port);
    let redirect = plan(&table, &leads, landing, WhenDead::Wait).unwrap();
    let (redirect, answers) = settled(&machine, redirect);
    assert_eq!(answers, [Answer::Yes; 4], "IPv4 and IPv6, before and after");
    let inside = ["127.0.0.1", "::1", &outside.host.to_string()].map(|a| at(a, published.port));
    let from_outside = [SocketAddr::new(outside.host, published.port)];
    let loads = [Load::start(&machine, &inside), Load::start(&outside.client, &from_outside)];
    for _ in 0..3 {
        loads.iter().for_each(|load| load.pass(200));
        assert!(matches!(assert_rule(&machine, &redirect), Asserted::Set { .. }));
        loads.iter().for_each(|load| load.pass(200));
        assert!(inside.iter().all(|address| ask(&machine, *address) == "NEW"));
        assert_eq!(ask(&outside.client, from_outside[0]), "NEW");
        remove_rule(&machine, &redirect);
    }
    for load in loads {
        let counts = load.stop();
        // "no such page" is what the container answers here.
        assert_eq!(counts.keys().collect::<Vec<_>>(), ["NEW", "no"], "{counts:?}");
    }
}

#[test]
fn a_led_port_outlives_the_container_that_published_it() {
    let published = Published::start();
    let machine = Space::machine();
    let port = landing::free_port().unwrap();
    let landing = Landing { v6: None, ..Landing::on_loopback(port) };
    let _new = Server::start(&machine, "NEW", move || {
        vec![landing::listen(SocketAddr::from(landing.v4), Sharing::Alone).unwrap()]
    });
    let table = format!("cutover_test_{port}");
    let public = published.port;
    let leads = &Lead::everywhere(public)[..1];
    let redirect = plan(&table, leads, landing, WhenDead::Wait).unwrap();
    assert_rule(&machine, &redirect);
    let load = Load::start(&machine, &[at("127.0.0.1", public)]);
    load.pass(100);
    drop(published);
    load.pass(100);
    // The reverse: somebody takes the port again, then the rule goes.
    let _back = Server::start(&machine, "OLD", move || {
        vec![TcpListener::bind((Ipv4Addr::UNSPECIFIED, public)).unwrap()]
    });
    load.pass(100);
    remove_rule(&machine, &redirect);
    load.pass(100);
    let counts = load.stop();
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["NEW", "OLD"], "{counts:?}");
}
