//! `cutover init` without Docker: what is proposed for a stack, as a file and as a text.
//!
//! The file that is proposed has to pass the check that the operator runs next.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cutover::init::folder::{Findings, look};
use cutover::init::proposal::{Proposal, propose};
use cutover::init::seen::{Seen, SeenService, Spoken};
use cutover::init::stack::Stack;
use cutover::init::tell::{Written, tell};
use cutover::init::{duty::Duty, file};

fn http(path: &str, status: u16) -> Spoken {
    Spoken::Http { path: path.to_owned(), status }
}

fn running(ports: &[(u16, Spoken)], megabytes: u64) -> SeenService {
    SeenService { memory: Some(megabytes * 1_000_000), ports: ports.iter().cloned().collect() }
}

fn stack(text: &str) -> Stack {
    serde_json::from_str(text).expect("a stack")
}

/// The file, which must be one that `cutover check` finds good.
#[track_caller]
fn checked(proposal: &Proposal) -> String {
    let text = file::write(proposal, &["compose.yml".to_owned()]);
    match cutover_config::parse(&text, "cutover.toml", Path::new("/srv/shop"), []) {
        Ok((_, warnings)) => assert!(warnings.is_empty(), "{warnings}\n{text}"),
        Err(problems) => panic!("{problems}\n{text}"),
    }
    text
}

/// A proposal for services that are given as JSON.
fn proposal_for(services: &str) -> Proposal {
    let stack = stack(&format!("{{\"name\":\"app\",\"services\":{{{services}}}}}"));
    propose(Path::new("/srv/app"), &stack, &[], &Findings::default(), &Seen::default())
}

fn duty_of(services: &str, name: &str) -> Duty {
    let proposal = proposal_for(services);
    checked(&proposal);
    proposal.services.iter().find(|service| service.name == name).expect("the service").duty
}

#[test]
fn the_shop_is_read_as_its_operator_would_explain_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put(".env", "A=1\nDB_PASSWORD=hunter2\n");
    put("backend/prisma/migrations/20261101_init/migration.sql", "select 1");
    put("backend/package.json", r#"{ "dependencies": { "node-cron": "^3.0.0" } }"#);
    put("backend/Dockerfile", "FROM node\nCMD [\"node\", \"server.js\"]\n");
    let text = include_str!("init/shop.json").replace("FOLDER", &root.display().to_string());
    let stack = stack(&text);
    let findings = Findings { ipv6: true, ..look(root, &stack) };
    let seen = Seen {
        up: Some(Duration::from_secs(31 * 86_400 + 5)),
        services: BTreeMap::from([
            ("frontend".to_owned(), running(&[(80, http("/", 200))], 20)),
            (
                "backend".to_owned(),
                running(&[(3001, http("/api/health", 200)), (9229, Spoken::Other)], 600),
            ),
            ("agent".to_owned(), running(&[], 100)),
            ("postgres".to_owned(), running(&[], 300)),
        ]),
        memory_free: Some(1_900_000_000),
    };
    let proposal = propose(root, &stack, &["SENTRY_DSN".to_owned()], &findings, &seen);
    let text = checked(&proposal);
    assert!(!text.contains("hunter2"));
    let written = Written { path: "cutover.toml".to_owned(), lines: text.lines().count() };
    insta::assert_snapshot!("shop_file", text);
    insta::assert_snapshot!(
        "shop_text",
        tell(&proposal, &["compose.yml".to_owned()], &seen, &written)
    );
}

#[test]
fn data_has_one_keeper() {
    let web = r#""web":{"image":"web","ports":[{"target":80,"published":"80"}]}"#;
    for (service, name) in [
        (r#""db":{"image":"registry.example/team/postgis:16"}"#, "db"),
        (
            r#""store":{"image":"own","volumes":[{"type":"volume","source":"d","target":"/var/lib/mysql"}]}"#,
            "store",
        ),
        (r#""cache":{"image":"valkey/valkey:8"}"#, "cache"),
        (r#""probe":{"image":"own","network_mode":"host"}"#, "probe"),
        (r#""line":{"image":"own","ports":[{"target":22,"published":"2222"}]}"#, "line"),
        (
            r#""dns":{"image":"own","ports":[{"target":53,"published":"53","protocol":"udp"}]}"#,
            "dns",
        ),
    ] {
        assert_eq!(duty_of(&format!("{web},{service}"), name), Duty::Shared, "{service}");
    }
}

#[test]
fn what_nobody_calls_runs_once_and_what_is_called_runs_twice() {
    let web = r#""web":{"image":"web","ports":[{"target":80,"published":"80"}],
        "environment":{"API":"http://api:3000/v1","OTHER":"capital"},
        "depends_on":{"setup":{"condition":"service_completed_successfully"}}}"#;
    let stack = format!(
        r#"{web},"api":{{"image":"own"}},"worker":{{"image":"own"}},"setup":{{"image":"own"}},
           "mail":{{"image":"own","expose":["25"]}}"#
    );
    assert_eq!(duty_of(&stack, "web"), Duty::TwoCopies);
    assert_eq!(duty_of(&stack, "api"), Duty::TwoCopies, "web has its address");
    assert_eq!(duty_of(&stack, "mail"), Duty::TwoCopies, "it exposes a port");
    assert_eq!(duty_of(&stack, "worker"), Duty::Singleton);
    assert_eq!(duty_of(&stack, "setup"), Duty::Job);
}

#[test]
fn every_published_port_has_a_fate() {
    let proposal = proposal_for(
        r#""web":{"image":"web","ports":[
            {"target":80,"published":"8080","host_ip":"127.0.0.1"},
            {"target":443,"published":"443"},
            {"target":9229,"published":"9229"},
            {"target":7,"published":"7","protocol":"udp"},
            {"target":90}]}"#,
    );
    let text = checked(&proposal);
    assert_eq!(proposal.ports.listen, ["127.0.0.1:8080"]);
    let fates: Vec<(&str, &str)> =
        proposal.ports.classes.iter().map(|port| (port.key.as_str(), port.class)).collect();
    let expected = [("443", "drop"), ("9229", "drop"), ("7/udp", "drop"), ("web:90", "drop")];
    assert_eq!(fates, expected);
    assert!(text.contains("\"7/udp\" = \"drop\""), "{text}");
}

#[test]
fn a_stack_without_a_public_port_still_gives_a_file_that_passes() {
    let proposal = proposal_for(r#""one":{"image":"own","expose":["8000/tcp"]}"#);
    let text = checked(&proposal);
    assert!(text.contains("port = 8000"), "{text}");
    assert!(text.contains("(ASK 1)"), "{text}");
    assert_eq!(proposal.asks.len(), 1);
}

#[test]
fn migrations_that_a_start_command_runs_are_not_run_twice() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("alembic.ini"), "").unwrap();
    std::fs::write(
        folder.path().join("Dockerfile"),
        "FROM python\nCMD [\"sh\", \"-c\", \"alembic upgrade head && serve\"]\n",
    )
    .unwrap();
    let stack = stack(&format!(
        r#"{{"name":"app","services":{{"web":{{"build":{{"context":{:?}}},
            "ports":[{{"target":80,"published":"80"}}]}}}}}}"#,
        folder.path()
    ));
    let findings = look(folder.path(), &stack);
    let proposal = propose(folder.path(), &stack, &[], &findings, &Seen::default());
    checked(&proposal);
    assert!(proposal.migrations.is_none());
    assert!(proposal.asks[0].text.contains("web runs it when it starts"), "{:?}", proposal.asks);
}

#[test]
fn odd_names_are_written_so_that_they_read_back() {
    let proposal = proposal_for(
        r#""a.b_c-D":{"image":"own","ports":[{"target":80,"published":"80"}],"volumes":[
            {"type":"bind","source":"/srv/app/my data \"x\"","target":"/d"},
            {"type":"volume","source":"v.1","target":"/e"}]}"#,
    );
    let text = checked(&proposal);
    assert!(text.contains(r#""./my data \"x\"" = "shared""#), "{text}");
}
