//! Taking over what runs, and giving it back.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::harness::engine;
use crate::harness::fronted::{ADOPT, Fronted};
use crate::harness::load::{Load, Plan, VISITORS};
use crate::harness::own_engine::{LiveRestore, OwnEngine};
use crate::harness::stack::Stack;
use crate::harness::traces::Traces;
use crate::harness::witness::Witness;

#[test]
fn adopt_shows_a_plan_and_changes_nothing_without_a_yes() {
    let fronted = Fronted::beside();
    // What pins an image is made in the background; it runs nothing.
    let belongings = || -> Vec<String> {
        let all = engine::belongings(&fronted.shop.project);
        all.into_iter().filter(|line| !line.contains("cutover-pin")).collect()
    };
    let before = belongings();
    let said = fronted.run(&["adopt", "--dry-run"]).succeeded().printed.both();
    assert!(said.contains("Nothing has happened yet"), "{said}");
    assert!(said.contains("Containers restarted: 0"), "{said}");
    fronted.run(&["adopt"]).exits(4);
    assert_eq!(belongings(), before);
    assert!(!fronted.shop.answers(fronted.shop.port, "/").head.contains("via:"));
}

#[test]
fn deploy_after_adopt_then_leave_brings_plain_compose_back() {
    let fronted = Fronted::beside();
    let shop = &fronted.shop;
    let before = Traces::look(&fronted);
    let observer = shop.observer();
    let server = observer.server_start();
    fronted.run(ADOPT).succeeded();
    fronted.deploy("good", &["--at-once"]).succeeded();
    fronted.serves("v2");
    let load = fronted.load_on_both(Ipv4Addr::LOCALHOST, 100, 100);
    load.wait_for(100);
    fronted.run(&["leave", "--yes"]).succeeded();
    load.wait_for(100);
    load.stop_without_a_failure();
    assert_eq!(observer.server_start(), server, "the database was restarted");
    let page = shop.answers(shop.port, "/");
    assert!(page.header("via").is_none(), "{}", page.head);
    assert_eq!(shop.answers(shop.api_port, "/api/whoami").release(), "v2");
    Traces::look(&fronted).assert_given_back(&before, shop, Some("r2"));
}

#[test]
fn a_panic_while_the_ports_are_taken_or_given_back_costs_no_request_and_both_go_again() {
    let mut fronted = Fronted::beside();
    let falls_at = |fronted: &mut Fronted, place: &str, typed: &[&str], says: &str| {
        fronted.cutover.stop();
        fronted.cutover.variable("CUTOVER_CRASH", Some(&format!("panic:{place}")));
        fronted.cutover.serve();
        let load = fronted.load_on_both(Ipv4Addr::LOCALHOST, 100, 100);
        load.wait_for(100);
        fronted.run(typed).exits(1).says(&["a defect in Cutover ended it", says]);
        load.wait_for(100);
        load.stop_without_a_failure();
        fronted.cutover.variable("CUTOVER_CRASH", None);
    };
    falls_at(&mut fronted, "adopt.leading", ADOPT, "falls at adopt.leading");
    let page = fronted.shop.answers(fronted.shop.port, "/");
    assert!(page.header("via").is_none(), "the rule still stands: {}", page.head);
    // The same daemon goes on.
    fronted.run(ADOPT).succeeded();
    falls_at(&mut fronted, "leave.begun", &["leave", "--yes"], "cutover leave begins again");
    let page = fronted.shop.answers(fronted.shop.port, "/");
    assert!(page.header("via").is_some(), "{}", page.head);
    fronted.cutover.stop();
    fronted.cutover.serve();
    fronted.run(&["leave", "--yes"]).succeeded();
    let page = fronted.shop.answers(fronted.shop.port, "/");
    assert!(page.header("via").is_none(), "{}", page.head);
}

#[test]
fn adopt_takes_over_from_nginx_on_the_host() {
    let mut fronted = Fronted::beside();
    let mut nginx = Nginx::start(&mut fronted);
    let before = Traces::look(&fronted);
    let witness = Witness::look(&fronted.shop);
    let load = Load::start(Plan {
        address: ([127, 0, 0, 1], nginx.port).into(),
        rate: 100,
        clients: 100,
        mix: VISITORS,
    });
    load.wait_for(100);
    fronted.run(ADOPT).succeeded();
    load.wait_for(300);
    let answer = crate::harness::wire::get(nginx.port, "/api/whoami").expect("an answer");
    assert!(answer.header("via").is_some(), "not through Cutover: {}", answer.head);
    witness.nothing_was_touched(&fronted.shop);
    fronted.run(&["leave", "--yes"]).succeeded();
    load.wait_for(300);
    load.stop().assert_none_failed();
    let answer = crate::harness::wire::get(nginx.port, "/api/whoami").expect("an answer");
    assert!(answer.header("x-through").is_some(), "not through nginx: {}", answer.head);
    witness.nothing_was_touched(&fronted.shop);
    assert!(nginx.child.try_wait().expect("its state").is_none(), "nginx was ended");
    Traces::look(&fronted).assert_given_back(&before, &fronted.shop, None);
}

/// What `adopt --dry-run` says on an engine of its own.
fn plan_on(restore: LiveRestore) -> String {
    let own = OwnEngine::start_with(restore);
    own.load("shop-program:latest");
    let stack = Stack::copy("plain");
    let host = own.host();
    stack.compose_on(&["-H", &host], &["up", "-d"]).succeeded();
    let [program, net] = own.prefix();
    let mut cutover =
        stack.cutover("").inside(&[&program, &net], &[("DOCKER_HOST", host.as_str())]);
    cutover.serve();
    cutover.run(&["adopt", "--dry-run"]).succeeded().printed.both()
}

#[test]
fn adopt_warns_where_a_restart_of_docker_would_stop_both_stacks() {
    let off = plan_on(LiveRestore::Off);
    for words in ["live-restore is off", "/etc/docker/daemon.json", "systemctl reload docker"] {
        assert!(off.contains(words), "{off}");
    }
    let on = plan_on(LiveRestore::On);
    assert!(!on.contains("live-restore"), "{on}");
}

/// A host nginx that owns the public port, in front of the published ports.
struct Nginx {
    child: std::process::Child,
    port: u16,
}

impl Nginx {
    fn start(fronted: &mut Fronted) -> Self {
        let shop = &fronted.shop;
        let port = crate::harness::ports::free_port();
        let folder = shop.beside("nginx");
        std::fs::create_dir_all(&folder).expect("a folder");
        let conf = format!(
            "daemon off; worker_processes 1; pid {f}/pid; error_log {f}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path {f}/b; proxy_temp_path {f}/p;\n\
             fastcgi_temp_path {f}/f; uwsgi_temp_path {f}/u; scgi_temp_path {f}/s;\n\
             server {{ listen {port}; add_header X-Through nginx always;\n\
             location /api {{ proxy_pass http://127.0.0.1:{api}; }}\n\
             location / {{ proxy_pass http://127.0.0.1:{web}; }} }} }}\n",
            f = folder.display(),
            api = shop.api_port,
            web = shop.port,
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, conf).expect("a file");
        let child = std::process::Command::new("nginx")
            .args(["-c", &file.display().to_string(), "-p", &folder.display().to_string()])
            .spawn()
            .expect("nginx starts");
        crate::harness::eventually("nginx answers", Duration::from_secs(10), || {
            crate::harness::wire::get(port, "/api/health").ok().filter(|a| a.status == 200)
        });
        // The daemon starts again with nginx's port as one more listener.
        let config = std::fs::read_to_string(shop.path().join("cutover.toml")).expect("a file");
        let listen = format!("version = 1\n\n[[listen]]\naddress = \"0.0.0.0:{port}\"\n");
        shop.write("cutover.toml", &config.replacen("version = 1\n", &listen, 1));
        fronted.cutover.stop();
        fronted.cutover.serve();
        Self { child, port }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        crate::harness::daemon::signal(self.child.id(), "TERM");
        self.child.wait().expect("the end of nginx");
    }
}
