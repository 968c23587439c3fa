//! The shop with Cutover in front: its `cutover.toml`, its daemon, and the steps that most tests
//! begin with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::daemon::{Cutover, Ran};
use super::engine;
use super::load::{CALLERS, Load, Plan, READERS, VISITORS};
use super::own_engine::OwnEngine;
use super::shop::Shop;
use super::{eventually, wire};

/// Adoption without a question, with a short comparison.
pub(crate) const ADOPT: &[&str] = &["adopt", "--yes", "--compare", "5"];

pub(crate) struct Fronted {
    // The daemon goes first: it would report the loss of its containers.
    pub(crate) cutover: Cutover,
    pub(crate) shop: Shop,
}

impl Fronted {
    /// The shop runs from plain compose; the daemon runs beside it and has taken nothing yet.
    pub(crate) fn beside() -> Self {
        let mut fronted = Self::unserved(Shop::up(), |shop| shop.beside("state"));
        fronted.cutover.serve();
        fronted
    }

    /// Configured, but no daemon runs.
    pub(crate) fn unserved(shop: Shop, place: impl Fn(&Shop) -> PathBuf) -> Self {
        let state = place(&shop);
        shop.write("cutover.toml", &config(&shop, &state.display().to_string()));
        let cutover = Cutover::new(&shop.path(), &shop.beside("daemon.log"));
        cutover.run(&["check"]).succeeded();
        Self { cutover, shop }
    }

    /// Adopted: v1 serves through Cutover as release r1.
    pub(crate) fn adopted() -> Self {
        let fronted = Self::beside();
        fronted.cutover.run(ADOPT).succeeded();
        fronted
    }

    /// The database runs from plain compose, and v1 is deployed as r1, in green.
    pub(crate) fn deployed() -> Self {
        Self::deployed_with_state(|shop| shop.beside("state"))
    }

    /// The same with another place for the state.
    pub(crate) fn deployed_with_state(place: impl Fn(&Shop) -> PathBuf) -> Self {
        let mut fronted = Self::unserved(Shop::with_database(), place);
        fronted.cutover.serve();
        fronted.run(&["deploy"]).succeeded();
        fronted.serves("v1");
        fronted
    }

    /// Deployed, with more in the file: what is to be said of the app of this name.
    pub(crate) fn deployed_with(more: impl Fn(&str) -> String) -> Self {
        Self::deployed_from(Shop::with_database(), more)
    }

    /// The same of a copy whose database runs.
    pub(crate) fn deployed_from(shop: Shop, more: impl Fn(&str) -> String) -> Self {
        let mut fronted = Self::unserved(shop, |shop| shop.beside("state"));
        let state = fronted.shop.beside("state").display().to_string();
        let mut text = config(&fronted.shop, &state);
        text.push_str(&more(&fronted.shop.project));
        fronted.shop.write("cutover.toml", &text);
        fronted.cutover.run(&["check"]).succeeded();
        fronted.cutover.serve();
        fronted.run(&["deploy"]).succeeded();
        fronted.serves("v1");
        fronted
    }

    /// Deployed, and v2 stands beside v1 without a user.
    pub(crate) fn with_standby(kind: &str) -> Self {
        let fronted = Self::deployed();
        fronted.deploy(kind, &["--no-traffic"]).succeeded();
        fronted
    }

    /// Commits the next release and deploys it.
    pub(crate) fn deploy(&self, kind: &str, more: &[&str]) -> Ran {
        self.shop.release(kind);
        let mut arguments = vec!["deploy"];
        arguments.extend(more);
        self.cutover.run(&arguments)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.cutover.run(arguments)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.shop.port))
    }

    /// The shop runs from plain compose on an engine of its own, the daemon beside it.
    pub(crate) fn beside_on(own: &OwnEngine) -> Self {
        let mut fronted = Self::unserved(Shop::copy_on(own).running(), |shop| shop.beside("state"));
        let [program, network] = own.prefix();
        let variables = [("DOCKER_HOST", own.host())];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        fronted.cutover = fronted.cutover.inside(&[&program, &network], &variables);
        fronted.cutover.serve();
        fronted
    }

    /// A load on both public ports at this address, each with what is there without Cutover, too.
    pub(crate) fn load_on_both(&self, host: Ipv4Addr, rate: u32, clients: usize) -> BothPorts {
        let start = |port, mix| {
            let address = SocketAddr::from((host, port));
            Load::start(Plan { address, rate: rate / 2, clients: clients / 2, mix })
        };
        let page = start(self.shop.port, READERS);
        BothPorts { page, api: start(self.shop.api_port, CALLERS) }
    }

    /// A load on the public port.
    pub(crate) fn load(&self, rate: u32, clients: usize) -> Load {
        Load::start(Plan { address: self.address(), rate, clients, mix: VISITORS })
    }

    /// The release that a new client without a cookie meets at the API.
    pub(crate) fn release_now(&self) -> String {
        wire::get(self.shop.port, "/api/whoami").expect("an answer").release().to_owned()
    }

    /// The containers of both colors and of what they share, each with its start.
    pub(crate) fn starts(&self) -> Vec<(String, String)> {
        let app = &self.shop.project;
        let projects = [app.clone(), format!("{app}-blue"), format!("{app}-green")];
        projects.iter().flat_map(|project| engine::starts(project)).collect()
    }

    /// Waits until the public port answers from this release.
    pub(crate) fn serves(&self, release: &str) {
        eventually(&format!("{release} serves"), Duration::from_secs(30), || {
            let answer = wire::get(self.shop.port, "/api/whoami").ok()?;
            (answer.status == 200 && answer.release() == release).then_some(())
        });
    }
}

/// A load on the port of the page and one on the port of the API.
pub(crate) struct BothPorts {
    page: Load,
    api: Load,
}

impl BothPorts {
    /// Waits until that many more requests have ended on each port.
    pub(crate) fn wait_for(&self, more: usize) {
        self.page.wait_for(more);
        self.api.wait_for(more);
    }

    /// Ends the loads; none of their requests may have failed.
    #[track_caller]
    pub(crate) fn stop_without_a_failure(self) {
        self.page.stop().assert_none_failed();
        self.api.stop().assert_none_failed();
    }
}

/// Where the proxy writes one line for each request.
pub(crate) fn access_log(shop: &Shop) -> PathBuf {
    shop.beside("access.log")
}

/// The file that `init` would write, with short soaks and probes.
pub(crate) fn config(shop: &Shop, state: &str) -> String {
    let (app, web, api) = (&shop.project, shop.port, shop.api_port);
    let socket = shop.beside("cutover.sock").display().to_string();
    let log = access_log(shop).display().to_string();
    format!(
        r#"version = 1

[[listen]]
address = ["0.0.0.0:{web}", "[::]:{web}"]

[[listen]]
address = ["0.0.0.0:{api}", "[::]:{api}"]

[proxy]
workers = 2
access_log = "{log}"

[admin]
socket = "{socket}"

[state]
path = "{state}"

[apps.{app}]
compose    = ["compose.yml"]
shared     = ["postgres"]
singletons = ["agent"]
env_files  = [".env", "backend/.env"]
volumes    = {{ uploads = "shared" }}

[[apps.{app}.routes]]
path = "/api"
service = "backend"
port = 3001

[[apps.{app}.routes]]
service = "frontend"
port = 80

[apps.{app}.probe]
path = "/api/health"
attempts = 20
interval = "500ms"

[apps.{app}.rollout]
steps = [{{ weight = "1%" }}, {{ weight = "10%" }}, {{ weight = "50%" }}]

[apps.{app}.migrations]
service = "backend"
command = "/shop migrate"
"#
    )
}

/// The operation's name, `o12`, out of "cutover undo o12".
pub(crate) fn operation_of(text: &str) -> String {
    let after = text.split("cutover undo ").nth(1).expect("a rollback names its undo");
    after.chars().take_while(char::is_ascii_alphanumeric).collect()
}
