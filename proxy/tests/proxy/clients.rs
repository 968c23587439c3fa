//! Which client gets which color: slots, cookies, overrides, previews.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use cutover_model::{Color, ServiceName, Split};
use cutover_proxy::message::{CookieSpec, RouteSpec, Routed, Secure, Sticky};
use cutover_proxy::{PREVIEW_PARAMETER, preview_token};
use tokio_util::sync::CancellationToken;

use super::harness::{Answer, Client, Site, Upstream, app, endpoint, route, settings, spec, split};

const NAVIGATE: &str = "Sec-Fetch-Mode: navigate\r\n";

struct Colors {
    blue: Upstream,
    green: Upstream,
    site: Site,
}

fn colors(points: u16, sticky: Option<Sticky>) -> Colors {
    let (blue, green) = (Upstream::says("blue"), Upstream::says("green"));
    let mut spec = spec("shop", &[blue.address], &[green.address]);
    spec.split = split(Color::Blue, points);
    if let Some(sticky) = sticky {
        spec.sticky = sticky;
    }
    let site = Site::of(spec);
    Colors { blue, green, site }
}

fn ask(client: &mut Client, lines: &str) -> Answer {
    client.ask(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"))
}

/// The `Cookie` line for what an answer set.
fn cookie(answer: &Answer) -> Option<String> {
    let set = answer.field("set-cookie")?;
    Some(format!("Cookie: {}\r\n", set.split(';').next().unwrap()))
}

#[test]
fn the_share_of_clients_is_the_weight_within_four_deviations() {
    for points in [100, 1_000, 5_000] {
        let colors = colors(points, None);
        let mut client = colors.site.client();
        let clients = 4_000;
        let greens =
            (0..clients).filter(|_| ask(&mut client, NAVIGATE).text() == "green").count() as f64;
        let share = f64::from(points) / 10_000.0;
        let deviation = (f64::from(clients) * share * (1.0 - share)).sqrt();
        let off = (greens - f64::from(clients) * share).abs();
        assert!(off <= 4.0 * deviation, "{points}: {greens} of {clients}");
    }
}

#[test]
fn nothing_and_everything_are_exact_and_set_no_cookie() {
    for (points, color) in [(0, "blue"), (10_000, "green")] {
        let colors = colors(points, None);
        let mut client = colors.site.client();
        for _ in 0..500 {
            let answer = ask(&mut client, NAVIGATE);
            assert_eq!(answer.text(), color);
            assert_eq!(answer.field("set-cookie"), None);
        }
    }
}

#[test]
fn a_client_stays_and_raising_the_weight_moves_it_one_way_only() {
    let colors = colors(2_000, None);
    let mut client = colors.site.client();
    let mut clients = HashMap::new();
    while clients.len() < 300 {
        let answer = ask(&mut client, NAVIGATE);
        clients.insert(cookie(&answer).unwrap(), answer.text());
    }
    for points in [2_000, 4_000, 7_000, 10_000] {
        colors.site.shift("shop", split(Color::Blue, points));
        for (cookie, before) in &mut clients {
            let answer = ask(&mut client, cookie);
            assert_eq!(answer.field("set-cookie"), None);
            assert!(before == "blue" || answer.text() == "green", "{points}");
            *before = answer.text();
        }
    }
    assert!(clients.values().all(|color| color == "green"));
    colors.site.shift("shop", split(Color::Blue, 0));
    assert!(clients.keys().all(|cookie| ask(&mut client, cookie).text() == "blue"));
}

#[test]
fn a_navigation_is_known_by_its_mode_or_by_what_it_accepts() {
    let colors = colors(5_000, None);
    let mut client = colors.site.client();
    for (lines, cookie) in [
        ("Sec-Fetch-Mode: navigate\r\n", true),
        ("Accept: text/html,*/*;q=0.8\r\n", true),
        ("Sec-Fetch-Mode: cors\r\nAccept: text/html\r\n", false),
        ("Accept: */*\r\n", false),
        ("", false),
    ] {
        let answer = ask(&mut client, lines);
        assert_eq!(answer.field("set-cookie").is_some(), cookie, "{lines}");
    }
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nSec-Fetch-Mode: navigate\r\n\r\n";
    assert_eq!(client.ask(post).field("set-cookie"), None);
}

#[test]
fn others_are_known_by_their_authorization() {
    let colors = colors(5_000, None);
    let mut seen = std::collections::HashSet::new();
    for number in 0..40 {
        let lines = format!("Authorization: Bearer {number}\r\n");
        let first = ask(&mut colors.site.client(), &lines).text();
        for _ in 0..3 {
            assert_eq!(ask(&mut colors.site.client(), &lines).text(), first);
        }
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2);
    // Without anything it is the address: one color for all of one host.
    let alone: std::collections::HashSet<_> =
        (0..20).map(|_| ask(&mut colors.site.client(), "").text()).collect();
    assert_eq!(alone.len(), 1);
}

#[test]
fn a_forged_cookie_is_no_cookie() {
    let colors = colors(5_000, None);
    let mut client = colors.site.client();
    for number in 0..20 {
        let lines = format!("{NAVIGATE}Cookie: cutover=v1.{number:022}.{number:022}\r\n");
        assert!(ask(&mut client, &lines).field("set-cookie").is_some());
    }
}

#[test]
fn no_cookie_on_an_answer_that_others_may_get() {
    for (line, wanted) in [("public, max-age=60", false), ("private, max-age=60", true)] {
        let serve = move |served: &mut super::harness::Served<'_>| {
            served.write(format!(
                "HTTP/1.1 200 OK\r\nCache-Control: {line}\r\nContent-Length: 0\r\n\r\n"
            ))
        };
        let (blue, green) = (Upstream::start(serve), Upstream::start(serve));
        let mut spec = spec("shop", &[blue.address], &[green.address]);
        spec.split = split(Color::Blue, 5_000);
        let site = Site::of(spec);
        let answer = ask(&mut site.client(), NAVIGATE);
        assert_eq!(answer.field("set-cookie").is_some(), wanted, "{line}");
    }
}

#[test]
fn the_cookie_does_not_take_the_place_of_the_applications() {
    let serve = |served: &mut super::harness::Served<'_>| {
        served.write("HTTP/1.1 200 OK\r\nSet-Cookie: sid=1\r\nContent-Length: 0\r\n\r\n")
    };
    let (blue, green) = (Upstream::start(serve), Upstream::start(serve));
    let mut spec = spec("shop", &[blue.address], &[green.address]);
    spec.split = split(Color::Blue, 5_000);
    spec.sticky = Sticky::Cookie(CookieSpec {
        domain: Some("a.test".into()),
        secure: Secure::Always,
        ..CookieSpec::default()
    });
    let site = Site::of(spec);
    let answer = ask(&mut site.client(), NAVIGATE);
    let set = answer.all("set-cookie");
    assert_eq!((set.len(), set[0]), (2, "sid=1"));
    assert!(set[1].starts_with("cutover=v1.") && set[1].contains("; Domain=a.test; Secure"));
}

#[test]
fn the_cookie_is_secure_when_a_trusted_proxy_says_so() {
    let upstream = Upstream::says("ok");
    let mut spec = spec("shop", &[upstream.address], &[upstream.address]);
    spec.split = split(Color::Blue, 5_000);
    let lines = format!("{NAVIGATE}X-Forwarded-Proto: https\r\n");
    for trusted in [false, true] {
        let mut settings = settings(vec![spec.clone()]);
        if trusted {
            settings.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        }
        let answer = ask(&mut Site::start(settings).client(), &lines);
        assert_eq!(answer.field("set-cookie").unwrap().ends_with("; Secure"), trusted);
    }
}

#[test]
fn behind_a_trusted_proxy_clients_are_known_by_the_address_that_it_names() {
    let (blue, green) = (Upstream::says("blue"), Upstream::says("green"));
    let mut spec = spec("shop", &[blue.address], &[green.address]);
    spec.split = split(Color::Blue, 5_000);
    spec.sticky = Sticky::Ip;
    let mut settings = settings(vec![spec]);
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let site = Site::start(settings);
    let mut client = site.client();
    let mut seen = std::collections::HashSet::new();
    for number in 0..40 {
        let lines = format!("X-Forwarded-For: 203.0.113.{number}, 127.0.0.9\r\n");
        let first = ask(&mut client, &lines).text();
        assert_eq!(ask(&mut client, &lines).text(), first);
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn other_ways_to_know_a_client() {
    let by_header = colors(5_000, Some(Sticky::Header("x-tenant".into())));
    let mut client = by_header.site.client();
    let mut seen = std::collections::HashSet::new();
    for tenant in 0..30 {
        let lines = format!("{NAVIGATE}X-Tenant: {tenant}\r\n");
        let first = ask(&mut client, &lines);
        assert_eq!(first.field("set-cookie"), None);
        assert_eq!(ask(&mut client, &lines).text(), first.text());
        seen.insert(first.text());
    }
    assert_eq!(seen.len(), 2);

    let drawn = colors(5_000, Some(Sticky::Off));
    let mut client = drawn.site.client();
    let greens = (0..400).filter(|_| ask(&mut client, "").text() == "green").count();
    assert!((120..280).contains(&greens), "{greens}");

    let by_address = colors(5_000, Some(Sticky::Ip));
    let mut client = by_address.site.client();
    let all: std::collections::HashSet<_> =
        (0..20).map(|_| ask(&mut client, NAVIGATE).text()).collect();
    assert_eq!(all.len(), 1);
}

#[test]
fn one_split_for_every_route_of_an_app() {
    let (blue, green) = (Upstream::says("blue"), Upstream::says("green"));
    let mut spec = spec("shop", &[blue.address], &[green.address]);
    spec.routes = vec![route(Some("a.test"), "/"), route(Some("a.test"), "/api")];
    spec.split = split(Color::Blue, 5_000);
    let site = Site::of(spec);
    let mut client = site.client();
    for _ in 0..50 {
        let page = ask(&mut client, NAVIGATE);
        let cookie = cookie(&page).unwrap();
        let api = client.ask(&format!("GET /api/x HTTP/1.1\r\nHost: a.test\r\n{cookie}\r\n"));
        assert_eq!(api.text(), page.text());
    }
}

#[test]
fn an_override_leads_to_its_color_and_is_no_evidence() {
    let colors = colors(0, None);
    let mut client = colors.site.client();
    assert_eq!(ask(&mut client, "X-Cutover-Color: green\r\n").text(), "green");
    assert_eq!(ask(&mut client, "X-Cutover-Color: blue\r\n").text(), "blue");
    assert_eq!(ask(&mut client, "X-Cutover-Color: red\r\n").text(), "blue");
    // Behind another proxy the peer says nothing.
    for line in ["X-Forwarded-For: 127.0.0.1", "Via: 1.1 x", "Forwarded: for=1.1.1.1"] {
        let lines = format!("X-Cutover-Color: green\r\n{line}\r\n");
        assert_eq!(ask(&mut client, &lines).text(), "blue", "{line}");
    }
    assert!(colors.green.requests().iter().all(|r| r.field("x-cutover-color").is_none()));
    assert!(colors.blue.requests().iter().all(|r| r.field("x-cutover-color").is_none()));
    let counts = colors.site.proxy.counts().outcomes;
    let forced = |color| {
        let rows = counts.iter().filter(|row| row.color == color && row.routed == Routed::Forced);
        rows.map(|row| row.requests).sum::<u64>()
    };
    assert_eq!((forced(Color::Green), forced(Color::Blue)), (1, 1));
}

#[test]
fn an_override_from_elsewhere_is_ignored() {
    let (blue, green) = (Upstream::says("blue"), Upstream::says("green"));
    let mut settings = settings(vec![spec("shop", &[blue.address], &[green.address])]);
    settings.override_from = vec!["192.0.2.0/24".parse().unwrap()];
    let site = Site::start(settings);
    assert_eq!(ask(&mut site.client(), "X-Cutover-Color: green\r\n").text(), "blue");
    // A token works from everywhere, also behind another proxy.
    let soon = SystemTime::now() + Duration::from_secs(60);
    let token = preview_token(&[7; 32], &app("shop"), Color::Green, soon);
    let lines = format!("X-Cutover-Color: {token}\r\nX-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(ask(&mut site.client(), &lines).text(), "green");
}

#[test]
fn a_preview_link_shows_one_color_to_its_holder() {
    let colors = colors(0, None);
    let mut client = colors.site.client();
    let soon = SystemTime::now() + Duration::from_secs(60);
    let token = preview_token(&[7; 32], &app("shop"), Color::Green, soon);
    let link = format!("/page?a=1&{PREVIEW_PARAMETER}={token}");
    let answer = client.ask(&format!("GET {link} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.field("location"), Some("/page?a=1"));
    let cookie = cookie(&answer).unwrap();
    assert_eq!(ask(&mut client, &cookie).text(), "green");
    assert_eq!(colors.green.requests()[0].field("cookie"), None);
    assert_eq!(ask(&mut client, "").text(), "blue");

    let forged = link.replace("green", "blue");
    let answer = client.ask(&format!("GET {forged} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    assert_eq!(answer.status(), 403);
    assert_eq!(colors.blue.requests().len(), 1);
}

#[test]
fn other_cookies_hide_neither_ours_nor_the_preview_whatever_bytes_they_have() {
    let colors = colors(0, None);
    let soon = SystemTime::now() + Duration::from_secs(60);
    let token = preview_token(&[7; 32], &app("shop"), Color::Green, soon);
    let lines = format!("Cookie: name=J\u{f6}rg;x=1 ; cutover_preview={token};  y=\u{e4}\r\n");
    assert_eq!(ask(&mut colors.site.client(), &lines).text(), "green");
    let seen = colors.green.requests().pop().unwrap();
    assert_eq!(seen.all("cookie"), ["name=J\u{f6}rg;x=1 ;  y=\u{e4}"]);

    let colors = self::colors(5_000, None);
    let (mut client, mut second) = (colors.site.client(), colors.site.client());
    let mut drawn = || ask(&mut client, NAVIGATE);
    // A client of the color that its address does not lead to.
    let usual = ask(&mut second, "").text();
    let id = (0..100)
        .map(|_| drawn())
        .find(|answer| answer.text() != usual)
        .and_then(|answer| cookie(&answer))
        .expect("a client of each color");
    let id = id.trim_start_matches("Cookie: ").trim_end();
    let lines = format!("Cookie: name=J\u{f6}rg; {id}\r\n");
    assert_ne!(ask(&mut second, &lines).text(), usual);
}

#[test]
fn on_a_colors_own_address_the_port_in_host_stands_for_the_listeners() {
    let (web, api) = (Upstream::says("web"), Upstream::says("api"));
    let mut spec = spec("shop", &[web.address], &[web.address]);
    let name = ServiceName::new("api").unwrap();
    for color in Color::BOTH {
        let upstreams = &mut spec.colors.get_mut(color).upstreams;
        upstreams.insert(name.clone(), vec![endpoint(api.address)]);
    }
    let front = RouteSpec { on: Some(80), ..route(None, "/") };
    let back = RouteSpec { on: Some(3001), service: name, ..route(None, "/") };
    spec.routes = vec![front, back];
    let site = Site::of(spec);
    let stop = CancellationToken::new();
    let local = "127.0.0.1:0".parse().unwrap();
    let address =
        site.proxy.add_color_listener(app("shop"), Color::Green, local, stop.clone()).unwrap();
    for (host, says) in [
        ("a.test:3001", "api"),
        ("a.test:80", "web"),
        ("a.test", "web"),
        (&address.to_string(), "web"),
    ] {
        let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(Client::connect(address).ask(&request).text(), says, "{host}");
    }
    stop.cancel();
}

#[test]
fn each_color_has_an_address_of_its_own() {
    let (blue, green) = (Upstream::says("blue"), Upstream::says("green"));
    let mut spec = spec("shop", &[blue.address], &[green.address]);
    spec.routes = vec![route(Some("a.test"), "/")];
    let site = Site::of(spec);
    let stop = CancellationToken::new();
    let local = "127.0.0.1:0".parse().unwrap();
    let address =
        site.proxy.add_color_listener(app("shop"), Color::Green, local, stop.clone()).unwrap();
    for host in ["a.test", "127.0.0.1", "whatever.test"] {
        let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(Client::connect(address).ask(&request).text(), "green", "{host}");
    }
    assert_eq!(site.get("/").text(), "blue");
    // It follows the app, whatever the split says.
    site.shift("shop", Split::all(Color::Green));
    site.shift("shop", Split::all(Color::Blue));
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(Client::connect(address).ask(request).text(), "green");
    stop.cancel();
    super::harness::until("the address is closed", || {
        std::net::TcpStream::connect(address).is_err()
    });
}
