//! The operator's file, whole: what is said about good and bad ones, to the letter.
//!
//! Snapshots hold entire outputs, because place, excerpt and hint are the product here.

#[path = "file/hints.rs"]
mod hints;

use std::path::Path;

use cutover_config::{AppKind, Config, DatabaseTls, Paint, Problems, SecretSource, Sticky};

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<(Config, Problems), Problems> {
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    cutover_config::parse(text, "cutover.toml", Path::new("/srv/shop"), environment)
}

/// What is said about a text that is refused.
#[track_caller]
fn refused(text: &str) -> String {
    match parse(text, &[]) {
        Ok(_) => panic!("this was accepted:\n{text}"),
        Err(problems) => problems.render(Paint::Plain),
    }
}

/// A file with one static app, to which a test adds what it is about.
fn with(addition: &str) -> String {
    format!(
        "version = 1\n[[listen]]\naddress = \"127.0.0.1:8080\"\n{addition}\n\
         [apps.demo]\nendpoints.blue = {{ web = [\"127.0.0.1:9001\"] }}\n\
         routes = [{{ service = \"web\" }}]\n"
    )
}

/// A file with one compose app, whose keys a test gives.
fn compose(keys: &str) -> String {
    format!(
        "version = 1\n[[listen]]\naddress = [\"0.0.0.0:80\", \"[::]:80\"]\n\
         [apps.shop]\ncompose = \"compose.yml\"\n{keys}\n"
    )
}

const ROUTE: &str = "routes = [{ service = \"backend\", port = 3001 }]";

/// `(line, column, what)` of each problem.
#[track_caller]
fn places(text: &str) -> Vec<(usize, usize, String)> {
    let problems = match parse(text, &[]) {
        Ok(_) => panic!("this was accepted:\n{text}"),
        Err(problems) => problems,
    };
    let place = |p: cutover_config::Problem| (p.line.unwrap_or(0), p.column.unwrap_or(0), p.what);
    problems.problems.into_iter().map(place).collect()
}

#[test]
fn the_file_of_the_manual_is_good_and_says_what_has_no_effect() {
    let (config, warnings) = parse(include_str!("files/design.toml"), &[]).unwrap();
    insta::assert_snapshot!("design_warnings", warnings.render(Paint::Plain));
    insta::assert_json_snapshot!("design_config", config);
}

#[test]
fn ports_by_connection_lead_somewhere_and_overlap_nothing() {
    let tcp = |keys: &str| format!("{ROUTE}\nshared = [\"db\"]\n[[apps.shop.tcp]]\n{keys}");
    let good = compose(&tcp("listen = \"0.0.0.0:1883\"\nservice = \"broker\"\nport = 1883"));
    let (config, _) = parse(&good, &[]).unwrap();
    let port = &config.apps.values().next().unwrap().tcp[0];
    assert_eq!((port.listen.len(), port.service.as_str(), port.port), (1, "broker", Some(1883)));
    for (keys, wrong) in [
        ("listen = \"0.0.0.0:80\"\nservice = \"broker\"\nport = 1", "0.0.0.0:80 is taken twice"),
        ("listen = \"127.0.0.1:80\"\nservice = \"broker\"\nport = 1", "overlaps with"),
        ("listen = \"0.0.0.0:1883\"\nservice = \"broker\"", "the port inside the container"),
        ("listen = \"0.0.0.0:1883\"\nservice = \"db\"\nport = 1", "runs once"),
        ("listen = \"0.0.0.0:1883\"\nport = 1", "does not say where it leads"),
        ("service = \"broker\"\nport = 1", "does not say where clients connect"),
    ] {
        let text = refused(&compose(&tcp(keys)));
        assert!(text.contains(wrong), "{keys}: {text}");
    }
    let text = refused(&compose(&format!("{ROUTE}\nports = {{ 1883 = \"tcp\" }}")));
    assert!(text.contains("[[apps.NAME.tcp]]"), "{text}");
    let fixed = with("[[apps.demo.tcp]]\nlisten = \"127.0.0.1:1883\"\nservice = \"web\"");
    assert_eq!(parse(&fixed, &[]).unwrap().0.apps.values().next().unwrap().tcp[0].port, None);
}

#[test]
fn a_folder_of_backups_belongs_to_one_app() {
    let apps = |one: &str, two: &str| {
        let app = |name: &str, more: &str| {
            format!(
                "[apps.{name}]\nendpoints.blue = {{ web = [\"127.0.0.1:9001\"] }}\n\
                 routes = [{{ service = \"web\", path = \"/{name}\" }}]\nprobe.path = \"/{name}\"\n\
                 [apps.{name}.database]\nhost = \"db\"\nname = \"{name}\"\nuser = \"u\"\n{more}\n"
            )
        };
        let listen = "version = 1\n[[listen]]\naddress = \"127.0.0.1:8080\"";
        format!("{listen}\n{}{}", app("one", one), app("two", two))
    };
    let backup = |path: &str| format!("backup = {{ schedule = \"0 3 * * *\", path = \"{path}\" }}");
    for (one, two, line) in [
        (backup("kept"), backup("/srv/shop/kept/"), 21),
        (backup("kept"), backup("/srv/shop/../shop/./kept"), 21),
        // The folder that an app has where it says nothing.
        (String::new(), backup("/var/lib/cutover/backups/one"), 21),
    ] {
        let text = refused(&apps(&one, &two));
        assert!(text.contains("is the folder of another app's backups"), "{text}");
        assert!(text.contains(&format!("cutover.toml:{line}:")), "{text}");
        assert!(text.contains("that app"), "both places are said: {text}");
    }
    assert!(parse(&apps(&backup("kept/one"), &backup("kept/two")), &[]).is_ok());
    assert!(parse(&apps("", ""), &[]).is_ok());
}

#[test]
fn the_path_of_a_balancer_is_a_path() {
    let (config, _) = parse(&with("[proxy]\nbalancer_path = \"/balancer\""), &[]).unwrap();
    assert_eq!(config.proxy.balancer_path.as_deref(), Some("/balancer"));
    for path in ["balancer", "/a?b", "http://a/b", "/a b"] {
        let text = refused(&with(&format!("[proxy]\nbalancer_path = \"{path}\"")));
        assert!(text.contains("is not a path"), "{text}");
    }
}

#[test]
fn error_pages_are_for_answers_of_the_proxys_own() {
    let (config, _) =
        parse(&with("[proxy.error_pages]\n404 = \"pages/404.html\"\n503 = \"/srv/503.html\""), &[])
            .unwrap();
    let pages: Vec<_> = config.proxy.error_pages.iter().collect();
    assert_eq!(pages[0], (&404, &Path::new("/srv/shop/pages/404.html").to_owned()));
    assert_eq!(pages[1], (&503, &Path::new("/srv/503.html").to_owned()));
    for key in ["500", "oops", "0404x"] {
        let text = refused(&with(&format!("[proxy.error_pages]\n{key} = \"x.html\"")));
        assert!(text.contains("is no answer of the proxy's own"), "{text}");
    }
}

#[test]
fn what_is_not_built_is_refused_and_never_ignored() {
    insta::assert_snapshot!("not_yet", refused(include_str!("files/not_yet.toml")));
}

#[test]
fn six_mistakes_are_six_problems_each_with_its_place() {
    let text = include_str!("files/six_mistakes.toml");
    assert_eq!(places(text).len(), 6);
    insta::assert_snapshot!("six_mistakes", refused(text));
    insta::assert_json_snapshot!("six_mistakes_for_programs", parse(text, &[]).unwrap_err());
}

#[test]
fn a_static_app_is_good_with_nothing_but_endpoints_and_a_route() {
    let (config, warnings) = parse(include_str!("files/static.toml"), &[]).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    insta::assert_json_snapshot!("static_config", config);
}

#[test]
fn an_empty_file_is_told_what_it_needs() {
    insta::assert_snapshot!("empty", refused(""));
}

#[test]
fn broken_toml_is_placed_and_does_not_hide_other_mistakes() {
    let text =
        "version = 1\n[[listen]\naddress = \"127.0.0.1:80\"\n\n[proxy]\nworkers = \nvia = 3\n";
    insta::assert_snapshot!("broken_toml", refused(text));
}

#[test]
fn a_key_that_stands_twice_is_one_problem() {
    insta::assert_snapshot!("twice", refused(&with("[state]\npath = \"a\"\npath = \"b\"")));
}

#[test]
fn listeners_must_not_overlap() {
    let text = with(
        "[[listen]]\naddress = [\"0.0.0.0:80\", \"[::]:80\", \"127.0.0.1:80\"]\n\
         [[listen]]\naddress = \"127.0.0.1:8080\"\n\
         [admin]\nmetrics = \"127.0.0.1:80\"\nhttp = \"0.0.0.0:9900\"",
    );
    insta::assert_snapshot!("listeners", refused(&text));
}

#[test]
fn routes_lead_somewhere_and_claim_nothing_twice() {
    let text = "version = 1\n[[listen]]\naddress = \"0.0.0.0:80\"\n\
         [apps.one]\nendpoints.blue = { web = [\"127.0.0.1:9001\"] }\n\
         endpoints.green = { wep = [\"127.0.0.1:9002\"] }\n\
         [[apps.one.routes]]\nservice = \"web\"\n\
         [[apps.one.routes]]\npath = \"/api/\"\nservice = \"api\"\n\
         [[apps.one.routes]]\npath = \"/x\"\nservice = \"web\"\nport = 80\non = 3001\n\
         [apps.two]\ncompose = \"compose.yml\"\nshared = [\"db\"]\nsingletons = [\"agent\", \"db\"]\n\
         [[apps.two.routes]]\nservice = \"web\"\n\
         [[apps.two.routes]]\npath = \"/agent\"\nservice = \"agent\"\nport = 1\n\
         [[apps.two.routes]]\npath = \"/db\"\nservice = \"db\"\nport = 1\n\
         [[apps.two.routes]]\npath = \"/api\"\nservice = \"web\"\nport = 2\n\
         [apps.three]\ncompose = \"compose.yml\"\n";
    insta::assert_snapshot!("routes", refused(text));
}

#[test]
fn endpoints_never_lead_back_into_cutover_or_to_link_local_addresses() {
    let text = "version = 1\n[[listen]]\naddress = [\"0.0.0.0:80\", \"[::1]:81\"]\n\
         [admin]\nmetrics = \"127.0.0.1:9901\"\n\
         [apps.demo.endpoints]\nblue = { web = [\n  \"127.0.0.1:80\",\n  \"[::1]:81\",\n  \
         \"127.0.0.1:9901\",\n  \"169.254.169.254:80\",\n  \"[fe80::1]:80\",\n  \"0.0.0.0:9000\",\n  \
         \"127.0.0.1:0\",\n  \"[::ffff:127.0.0.1]:80\",\n  \"224.0.0.1:80\",\n  \"localhost:9000\",\n  \
         \"127.0.0.1:9009\",\n  \"127.0.0.1:9009\" ] }\n\
         [[apps.demo.routes]]\nservice = \"web\"\n";
    insta::assert_snapshot!("endpoints", refused(text));
}

#[test]
fn an_app_is_compose_or_static_and_says_so_by_its_keys() {
    let text = "version = 1\n[[listen]]\naddress = \"0.0.0.0:80\"\n\
         [apps.both]\ncompose = \"c.yml\"\nendpoints.blue = { web = \"127.0.0.1:9001\" }\n\
         routes = [{ service = \"web\", port = 1 }]\n\
         [apps.neither]\nroutes = [{ path = \"/n\", service = \"web\", port = 1 }]\n\
         [apps.fixed]\nendpoints.green = { web = \"127.0.0.1:9001\" }\nshared = [\"db\"]\n\
         volumes = { a = \"shared\" }\nroutes = [{ path = \"/f\", service = \"web\" }]\n\
         [apps.Shop]\ncompose = []\nroutes = []\n\
         [apps.both-blue]\ncompose = \"d.yml\"\n\n\
         routes = [{ path = \"/b\", service = \"web\", port = 1 }]\n";
    insta::assert_snapshot!("kinds", refused(text));
}

#[test]
fn steps_rise_and_stay_below_everything() {
    let steps = "[apps.shop.rollout]\nsteps = [ { weight = \"0%\" }, { weight = \"5%\" },\n  \
         { weight = \"5%\" }, { soak = \"1m\" }, { weight = \"12.345%\" }, { weight = 50 },\n  \
         { weight = \"100%\" }, { weight = \"101%\" }, { weight = \"20\" } ]";
    insta::assert_snapshot!("steps", refused(&compose(&format!("{ROUTE}\n{steps}"))));
}

#[test]
fn values_out_of_range_say_the_range() {
    let text = compose(&format!(
        "{ROUTE}\nkeep_warm = \"1 moment\"\nsticky = \"header:a b\"\nblank_ok = [\"A B\"]\n\
         ports = {{ \"backend\" = \"drop\", \"agent:1\" = \"udp\", \"9/tpc\" = \"drop\" }}\n\
         networks = {{ proxy = \"leave\" }}\n\
         [apps.shop.probe]\npath = \"api\"\nattempts = 2\npasses = 3\ntimeout = \"0s\"\nexpect = \"2x\"\n\
         [apps.shop.migrations]\nservice = \"back end\"\ncommand = \"\"\n\
         [proxy]\nworkers = 0\nmax_connections = \"many\"\ndrain_deadline = \"30\"\nvia = \"yes\"\n\
         trusted_proxies = [\"10.1.0.0/8\", \"proxy\"]\n\n\
         cookie = {{ same_site = \"none\", secure = \"sometimes\" }}\n\
         [proxy.timeouts]\nheader = \"-1s\"\nidle = \"2 years\"\nbody = \"1s\"\n"
    ));
    insta::assert_snapshot!("ranges", refused(&text));
}

#[test]
fn project_and_profiles_follow_composes_rules() {
    let keys = |keys: &str| compose(&format!("{ROUTE}\n{keys}"));
    let checked = |text: &str| {
        let (config, _) =
            cutover_config::parse(text, "cutover.toml", Path::new("/srv/shop"), []).unwrap();
        match config.apps.into_values().next().unwrap().kind {
            cutover_config::AppKind::Compose(compose) => (compose.project, compose.profiles),
            cutover_config::AppKind::Static(_) => panic!("it is a compose app"),
        }
    };
    assert_eq!(checked(&keys("")), (None, None), "as compose finds them");
    let (project, profiles) = checked(&keys("project = \"my_shop-1\"\nprofiles = [\"debug\"]"));
    assert_eq!(project.as_deref(), Some("my_shop-1"));
    assert_eq!(profiles.unwrap().into_iter().collect::<Vec<_>>(), ["debug"]);
    assert_eq!(checked(&keys("profiles = []")).1, Some([].into()), "none, whatever .env says");
    for (bad, said) in [
        ("project = \"My Shop\"", "is not the name of a compose project"),
        ("project = \"\"", "is not the name of a compose project"),
        ("project = \"shop-green\"", "is the project of one of the colors"),
        ("profiles = [\"a,b\"]", "is not the name of a profile"),
        ("profiles = \"debug\"", "it has to be a list"),
    ] {
        let shown = refused(&keys(bad));
        assert!(shown.contains(said), "{bad}\n{shown}");
    }
}

#[test]
fn a_database_holds_together() {
    let text = compose(&format!(
        "{ROUTE}\n[apps.shop.database]\nservice = \"postgres\"\nname = \"\"\npassword = \"hunter2\"\n\
         password_file = \"secrets/db\"\nbackup = {{ schedule = \"daily\", keep = {{ daily = 0 }} }}\n\
         [[apps.shop.contacts]]\nwebhook = \"http://hooks.example.com/T0KEN\"\non = [\"fire\"]\n\
         [[apps.shop.contacts]]\nname = \"ops\"\n"
    ));
    let shown = refused(&text);
    assert!(!shown.contains("hunter2") && !shown.contains("T0KEN"), "{shown}");
    insta::assert_snapshot!("database", shown);
}

#[test]
fn a_database_is_reached_in_one_way_and_never_renamed_from_inside() {
    let text = compose(&format!(
        "{ROUTE}\nshared = [\"db\"]\n[apps.shop.database]\nservice = \"db\"\nhost = \"x/y\"\n\
         name = \"postgres\"\nuser = \"shop\"\npassword = \"hunter2\"\n\
         password_env = {{ file = \".env\" }}\nrestore_point = \"snapshot\"\nmax_hold = \"2m\"\n\
         watch = \"2d\"\n\
         backup = {{ schedule = \"0 3 * * *\", encrypt = \"AGE-SECRET-KEY-1\", copy = [] }}\n\
         [apps.outside]\nendpoints.blue = {{ web = [\"127.0.0.1:9001\"] }}\n\
         routes = [{{ service = \"web\", path = \"/x\" }}]\n\
         [apps.outside.database]\nhost = \"db:5432\"\nname = \"shop\"\nuser = \"shop\"\n\
         [apps.third]\nendpoints.blue = {{ web = [\"127.0.0.1:9001\"] }}\n\
         routes = [{{ service = \"web\", path = \"/y\" }}]\n\
         database = {{ service = \"db\", name = \"n\", user = \"u\" }}\n"
    ));
    let shown = refused(&text);
    assert!(!shown.contains("hunter2"), "{shown}");
    insta::assert_snapshot!("database_place", shown);
}

#[test]
fn the_way_to_a_database_is_encrypted_as_libpq_names_it() {
    let tls = |words: &str| {
        compose(&format!(
            "{ROUTE}\n[apps.shop.database]\nhost = \"db.example.com\"\nname = \"n\"\n\
             user = \"u\"\n{words}"
        ))
    };
    let read = |words: &str| {
        let (config, _) = parse(&tls(words), &[]).unwrap();
        config.apps.values().next().unwrap().database.clone().unwrap().tls
    };
    assert_eq!(read(""), DatabaseTls::Disable);
    assert_eq!(read("tls = \"disable\""), DatabaseTls::Disable);
    assert_eq!(read("tls = \"require\""), DatabaseTls::Require);
    let ca = Path::new("/etc/cutover/certs/ca.pem").to_owned();
    let words = |mode: &str| format!("tls = \"{mode}\"\nca = \"{}\"", ca.display());
    assert_eq!(read(&words("verify-ca")), DatabaseTls::VerifyCa { ca: ca.clone() });
    assert_eq!(read(&words("verify-full")), DatabaseTls::VerifyFull { ca: ca.clone() });
    // A mode that tries, one that could prove nothing, and a proof that nobody looks at.
    let wrong = ["tls = \"prefer\"", "tls = true", "tls = \"verify-full\"", "ca = \"ca.pem\""];
    let shown: Vec<String> = wrong.iter().map(|words| refused(&tls(words))).collect();
    insta::assert_snapshot!("database_tls", shown.join("\n"));
}

#[test]
fn checks_have_names_and_do_one_thing() {
    let text = compose(&format!(
        "{ROUTE}\n[[apps.shop.integrity]]\nname = \"totals\"\nsql = \" \"\n\
         [[apps.shop.integrity]]\nname = \"totals\"\nexpect = [1]\ntimeout = \"1h\"\n\
         [[apps.shop.smoke]]\nname = \"front page\"\npath = \"/\"\n\
         [[apps.shop.smoke]]\nname = \"both\"\npath = \"/\"\ncommand = \"true\"\n\
         [[apps.shop.smoke]]\nname = \"run\"\ncommand = []\nbody = \"x\"\n\
         [[apps.shop.smoke]]\ntimeout = \"0s\"\n"
    ));
    insta::assert_snapshot!("checks", refused(&text));
}

#[test]
fn a_database_and_its_checks_are_read_with_their_defaults() {
    let text = compose(&format!(
        "{ROUTE}\nshared = [\"db\"]\n[apps.shop.database]\nservice = \"db\"\nname = \"shop\"\n\
         user = \"shop\"\npassword_env = {{ file = \".env\", key = \"DB_PASSWORD\" }}\n\
         backup = {{ schedule = \"0 3 * * *\", path = \"backups\", copy = \"scripts/copy --to x\" }}\n\
         [[apps.shop.integrity]]\nname = \"totals\"\nsql = \"SELECT 1 WHERE false;\"\n\
         [[apps.shop.integrity]]\nname = \"users\"\nsql = \"SELECT true\"\nexpect = true\n\
         [[apps.shop.smoke]]\nname = \"front\"\npath = \"/\"\nbody = \"Shop\"\n\
         [[apps.shop.smoke]]\nname = \"buy\"\ncommand = [\"scripts/smoke\", \"buy it\"]\n"
    ));
    let (config, warnings) = parse(&text, &[]).unwrap();
    assert_eq!(warnings.problems.len(), 0, "{warnings}");
    let app = config.apps.values().next().unwrap();
    insta::assert_json_snapshot!("checks_config", (&app.database, &app.integrity, &app.smoke));
}

#[test]
fn a_secret_is_shown_nowhere() {
    let broken = "version = 1\nx = { password = \"hunter2\"\nwebhook_token = \"hunter2\n";
    let unknown = with("[state]\ndb_password = \"hunter2\"\npath = 3\n");
    let inline = compose(&format!(
        "{ROUTE}\nshared = [\"postgres\"]\n[apps.shop.database]\nservice = \"postgres\"\n\
         name = \"shop\"\nuser = \"shop\"\npassword = \"hunter2\"\n"
    ));
    for text in [broken, &unknown] {
        let problems = parse(text, &[]).unwrap_err();
        let list = serde_json::to_string(&problems).unwrap();
        for shown in [problems.render(Paint::Plain), problems.render(Paint::Colored), list] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    let (config, warnings) = parse(&inline, &[]).unwrap();
    for shown in
        [format!("{config:?}"), serde_json::to_string(&config).unwrap(), warnings.to_string()]
    {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let password = config.apps.values().next().unwrap().database.clone().unwrap().password.unwrap();
    assert_eq!(password.read().unwrap().expose(), "hunter2");
}

#[test]
fn a_variable_stands_in_for_a_key() {
    let text = include_str!("files/design.toml");
    let (config, _) = parse(
        text,
        &[
            ("CUTOVER_STATE__PATH", "/data"),
            ("CUTOVER_PROXY__WORKERS", "7"),
            ("CUTOVER_PROXY__VIA", "false"),
            ("CUTOVER_PROXY__TIMEOUTS__HEADER", "5s"),
            ("CUTOVER_PROXY__TRUSTED_PROXIES", "[\"10.0.0.0/8\"]"),
            ("CUTOVER_LISTEN__0__ADDRESS", "127.0.0.1:8080"),
            ("CUTOVER_APPS__SHOP__STICKY", "ip"),
            ("CUTOVER_APPS__SHOP__ROUTES__1__HOST", "other.example.com"),
            ("CUTOVER_SOCKET", "not a key of the file"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    let app = config.apps.values().next().unwrap();
    assert_eq!(config.state.path, Path::new("/data"));
    assert_eq!(config.proxy.workers, Some(7));
    assert!(!config.proxy.via);
    assert_eq!(config.proxy.timeouts.header.as_secs(), 5);
    assert_eq!(config.proxy.trusted_proxies.len(), 1);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(app.sticky, Sticky::Ip);
    assert_eq!(app.routes[1].host.as_ref().unwrap().as_str(), "other.example.com");
    assert!(matches!(&app.kind, AppKind::Compose(compose) if compose.files.len() == 1));
}

#[test]
fn a_wrong_variable_is_a_problem_that_names_it() {
    let environment = [
        ("CUTOVER_STATE_PATH", "/data"),
        ("CUTOVER_STATE__PTAH", "/data"),
        ("CUTOVER_PROXY__WORKERS", "many"),
        ("CUTOVER_VERSION__X", "1"),
        ("CUTOVER_LISTEN__7__ADDRESS", "127.0.0.1:1"),
        ("CUTOVER_PROXY__", "x"),
        ("CUTOVER_APPS__SHOP__VOLUMES", "shared"),
        ("CUTOVER_APPS__SHOP__COMPOSE", "[\"a.yml\""),
    ];
    let problems = parse(include_str!("files/design.toml"), &environment).unwrap_err();
    insta::assert_snapshot!("variables", problems.render(Paint::Plain));
}

#[test]
fn a_variable_can_hold_a_whole_list_of_compose_files() {
    let environment = [("CUTOVER_APPS__SHOP__COMPOSE", "[\"a.yml\", \"b.yml\"]")];
    let (config, _) = parse(include_str!("files/design.toml"), &environment).unwrap();
    let AppKind::Compose(compose) = &config.apps.values().next().unwrap().kind else {
        panic!("the app is a compose app");
    };
    assert_eq!(compose.files, [Path::new("/srv/shop/a.yml"), Path::new("/srv/shop/b.yml")]);
}

#[test]
fn a_plain_command_needs_no_shell() {
    let command = |text: &str| {
        let keys = format!("{ROUTE}\nmigrations = {{ service = \"backend\", command = {text} }}");
        let (config, _) = parse(&compose(&keys), &[]).unwrap();
        let AppKind::Compose(compose) = config.apps.values().next().unwrap().kind.clone() else {
            panic!("the app is a compose app");
        };
        compose.migrations.unwrap().command
    };
    assert_eq!(command("\"npx prisma migrate deploy\""), ["npx", "prisma", "migrate", "deploy"]);
    assert_eq!(command("\"a && b\""), ["sh", "-c", "a && b"]);
    assert_eq!(command("[\"/migrate\", \"--now && then\"]"), ["/migrate", "--now && then"]);
}

#[test]
fn ports_are_named_from_inside_or_from_outside() {
    let keys = format!(
        "{ROUTE}\nports = {{ 9229 = \"drop\", \"5353/udp\" = \"drop\", \"db:5432\" = \"drop\" }}\n\
         networks = {{ outside = \"join\" }}\njobs = [\"prepare\"]"
    );
    let (config, _) = parse(&compose(&keys), &[]).unwrap();
    let AppKind::Compose(compose) = &config.apps.values().next().unwrap().kind else {
        panic!("the app is a compose app");
    };
    let ports: Vec<String> = compose.ports.keys().map(ToString::to_string).collect();
    assert_eq!(ports, ["5353/udp", "9229", "db:5432"]);
    assert_eq!(compose.networks.len(), 1);
    assert_eq!(compose.jobs.len(), 1);
}

#[test]
fn the_probe_takes_the_route_that_a_client_would_take() {
    let probe_of = |probe: &str| {
        let routes = "[[apps.shop.routes]]\nhost = \"a.example\"\nservice = \"site\"\nport = 1\n\
             [[apps.shop.routes]]\nservice = \"frontend\"\nport = 2\non = 80\n\
             [[apps.shop.routes]]\nservice = \"backend\"\nport = 3\non = 3001\n\
             [[apps.shop.routes]]\npath = \"/api\"\nservice = \"api\"\nport = 4\n";
        let text = compose(&format!("{routes}[[listen]]\naddress = \"0.0.0.0:3001\"\n{probe}"));
        let (config, _) = parse(&text, &[]).unwrap_or_else(|problems| panic!("{problems}"));
        let app = config.apps.values().next().unwrap();
        app.probe_route().unwrap().service.to_string()
    };
    assert_eq!(probe_of("[apps.shop.probe]\npath = \"/api/health?deep=1\""), "api");
    assert_eq!(
        probe_of("[apps.shop.probe]\npath = \"/apix\"\non = 3001\nhost = \"b.x\""),
        "backend"
    );
    assert_eq!(probe_of("[apps.shop.probe]\npath = \"/x\"\nhost = \"a.example\""), "site");
    let lost = compose(
        "routes = [{ path = \"/api\", service = \"api\", port = 4 }]\nprobe.path = \"/health\"",
    );
    assert_eq!(
        places(&lost),
        [(7, 14, "no route of this app takes /health, to ask if it is ready".to_owned())]
    );
}

#[test]
fn an_outer_network_that_is_everybody_is_pointed_out() {
    let (_, warnings) = parse(&with("[proxy]\noverride_from = [\"0.0.0.0/0\"]"), &[]).unwrap();
    insta::assert_snapshot!("everybody", warnings.render(Paint::Plain));
}

#[test]
fn hostile_text_stays_on_its_line() {
    let shown = refused("version = 1\n\"a\\nb\\u001b[31m\" = 1\n");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(shown.starts_with("error: unknown key `a\u{fffd}b\u{fffd}[31m`"), "{shown}");
}

#[test]
fn deep_and_long_texts_are_refused_and_crash_nothing() {
    let deep = format!("version = 1\nx = {}{}\n", "[".repeat(5_000), "]".repeat(5_000));
    assert!(parse(&deep, &[]).is_err());
    let many = "[apps.a]\n".repeat(3_000);
    assert!(parse(&many, &[]).is_err());
    let odd = "\u{feff}version = 1\r\n[[listen]]\r\naddress = \"\u{1f600}\"\r\n";
    assert!(parse(odd, &[]).is_err());
}

#[test]
fn every_cut_of_a_good_file_gives_problems_and_no_panic() {
    let text = include_str!("files/design.toml");
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        if let Err(problems) = parse(&text[..end], &[]) {
            assert!(!problems.is_empty());
            assert!(!problems.render(Paint::Plain).is_empty());
        }
    }
}

#[test]
fn the_schema_describes_every_section_and_accepts_no_unknown_key() {
    let schema = cutover_config::schema();
    assert_eq!(schema["additionalProperties"], false);
    for section in ["version", "listen", "proxy", "tls", "admin", "state", "apps"] {
        assert!(schema["properties"][section].is_object(), "{section} is described");
    }
    assert_eq!(schema["required"], serde_json::json!(["version", "listen", "apps"]));
    assert!(!schema.to_string().contains("null"), "TOML has no null");
    insta::assert_json_snapshot!("schema", schema);
}

mod on_disk {
    use super::*;

    const GOOD: &str = include_str!("files/static.toml");

    fn load(path: &Path) -> Result<cutover_config::Loaded, Problems> {
        cutover_config::load(path, [])
    }

    #[track_caller]
    fn refused(path: &Path, folder: &Path) -> String {
        let text = load(path).expect_err("this was accepted").render(Paint::Plain);
        let real = folder.canonicalize().expect("the folder is there");
        text.replace(&folder.display().to_string(), "DIR")
            .replace(&real.display().to_string(), "DIR")
    }

    #[test]
    fn a_file_is_loaded_and_missing_files_are_warnings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cutover.toml");
        std::fs::write(&path, compose(ROUTE)).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{}", loaded.warnings);
        assert!(loaded.warnings.problems[0].what.ends_with("compose.yml"));
        std::fs::write(folder.path().join("compose.yml"), "services: {}").unwrap();
        assert!(load(&path).unwrap().warnings.is_empty());
    }

    #[test]
    fn odd_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("long"), vec![b'#'; 1024 * 1024 + 1]).unwrap();
        std::fs::write(at("latin"), b"version = 1\n# caf\xe9\n").unwrap();
        std::fs::create_dir(at("sub")).unwrap();
        std::fs::write(at("sub/good"), GOOD).unwrap();
        std::fs::write(at("good"), GOOD).unwrap();
        std::os::unix::fs::symlink("../good", at("sub/out")).unwrap();
        std::os::unix::fs::symlink("good", at("sub/in")).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap();
        assert!(fifo.success());
        assert!(load(&at("sub/in")).is_ok(), "a link inside the folder is followed");
        let said: Vec<String> = ["long", "latin", "sub", "sub/out", "fifo", "absent"]
            .iter()
            .map(|name| refused(&at(name), folder.path()))
            .collect();
        insta::assert_snapshot!("odd_files", said.join("---\n"));
    }

    #[test]
    fn a_secret_comes_from_its_file_or_from_the_service_manager() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let keys = |password: &str| {
            compose(&format!(
                "{ROUTE}\nshared = [\"db\"]\ndatabase = {{ service = \"db\", name = \"n\", \
                 user = \"u\"{password} }}"
            ))
        };
        let source = |text: &str| {
            let credentials = ("CREDENTIALS_DIRECTORY".to_owned(), at("run").display().to_string());
            let (config, _) =
                cutover_config::parse(text, "cutover.toml", folder.path(), [credentials]).unwrap();
            config.apps.values().next().unwrap().database.clone().unwrap().password
        };
        assert_eq!(source(&keys("")), None);
        std::fs::create_dir(at("run")).unwrap();
        std::fs::write(at("run/apps.shop.database.password"), "from systemd\n").unwrap();
        std::fs::write(at("db"), "from a file\n").unwrap();
        let read = |text: &str| source(text).unwrap().read().unwrap().expose().to_owned();
        assert_eq!(read(&keys("")), "from systemd");
        assert_eq!(read(&keys(", password_file = \"db\"")), "from a file");
        let url = "export X=1\nDB_PASSWORD='old'\nDB_PASSWORD=\"from a # variable\" # today\n\
                   DATABASE_URL=postgres://u:p%40ss@db:5432/shop?x=1\n";
        std::fs::write(at(".env"), url).unwrap();
        let key =
            |key: &str| keys(&format!(", password_env = {{ file = \".env\", key = \"{key}\" }}"));
        assert_eq!(read(&key("DB_PASSWORD")), "from a # variable");
        assert_eq!(read(&key("DATABASE_URL")), "p@ss");
        assert!(source(&key("NONE")).unwrap().read().is_err());
        let empty = SecretSource::File(at("run"));
        assert!(empty.read().is_err(), "a folder is no secret");
    }
}
